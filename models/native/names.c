/* Names: strings -> their places in a list, many at a time: a dictionary waits for memory once for each. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "tokens.h"
#include "xxh3.h"

#define TOGETHER 64

typedef struct {
    uint64_t hash;
    uint32_t start, num_bytes; /* in `text` */
} Name;

typedef struct {
    PyObject_HEAD
    Name *names;
    uint8_t *text;
    uint32_t *slots; /* one more than a place; 0 is empty */
    uint64_t mask;
} Names;

typedef struct {
    const uint8_t *text;
    size_t num_bytes;
    uint64_t hash;
} Wanted;

/* 0, or -1 with an exception for what is no string, or none of characters. */
static int want(PyObject *string, Wanted *wanted) {
    Py_ssize_t num_bytes;
    const char *text = PyUnicode_AsUTF8AndSize(string, &num_bytes);
    if (text == NULL) return -1;
    size_t hashed = (size_t)num_bytes < XXH3_MAX_BYTES ? (size_t)num_bytes : XXH3_MAX_BYTES;
    *wanted = (Wanted){(const uint8_t *)text, (size_t)num_bytes, xxh3((const uint8_t *)text, hashed)};
    return 0;
}

/* The slot of a name, or the empty one where it would be. */
static uint64_t slot_of(const Names *self, const Wanted *wanted) {
    for (uint64_t slot = wanted->hash & self->mask;; slot = (slot + 1) & self->mask) {
        if (self->slots[slot] == 0) return slot;
        const Name *name = &self->names[self->slots[slot] - 1];
        if (name->hash == wanted->hash && name->num_bytes == wanted->num_bytes &&
            is_equal(self->text + name->start, wanted->text, wanted->num_bytes))
            return slot;
    }
}

static PyObject *Names_find(Names *self, PyObject *strings) {
    if (!PyList_CheckExact(strings)) return PyErr_Format(PyExc_TypeError, "a list of strings");
    Py_ssize_t n = PyList_GET_SIZE(strings);
    PyObject *found = PyBytes_FromStringAndSize(NULL, n * (Py_ssize_t)sizeof(int64_t));
    if (found == NULL) return NULL;
    int64_t *places = (int64_t *)PyBytes_AS_STRING(found);
    Wanted wanted[TOGETHER];
    for (Py_ssize_t first = 0; first < n; first += TOGETHER) {
        Py_ssize_t count = n - first < TOGETHER ? n - first : TOGETHER;
        for (Py_ssize_t i = 0; i < count; i++) { /* each step asks for the memory of the next */
            if (want(PyList_GET_ITEM(strings, first + i), &wanted[i]) < 0) {
                if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) return Py_DECREF(found), NULL;
                PyErr_Clear(); /* half a character: no name has it */
                wanted[i] = (Wanted){NULL, 0, 0};
            }
            __builtin_prefetch(&self->slots[wanted[i].hash & self->mask]);
        }
        for (Py_ssize_t i = 0; i < count; i++) {
            uint32_t at = self->slots[wanted[i].hash & self->mask];
            if (at > 0) __builtin_prefetch(&self->names[at - 1]);
        }
        for (Py_ssize_t i = 0; i < count; i++) {
            uint32_t at = self->slots[wanted[i].hash & self->mask];
            if (at > 0) __builtin_prefetch(self->text + self->names[at - 1].start);
        }
        for (Py_ssize_t i = 0; i < count; i++)
            places[first + i] = wanted[i].text == NULL ? -1 : (int64_t)self->slots[slot_of(self, &wanted[i])] - 1;
    }
    return found;
}

/* Put the strings in; 0, or -1 with an exception. */
static int fill(Names *self, PyObject *strings) {
    size_t n = (size_t)PyList_GET_SIZE(strings), num_bytes = 0, used = 0;
    Wanted wanted;
    for (size_t i = 0; i < n; i++) {
        if (want(PyList_GET_ITEM(strings, (Py_ssize_t)i), &wanted) < 0) return -1;
        num_bytes += wanted.num_bytes;
    }
    if (n > UINT32_MAX / 4 || num_bytes > UINT32_MAX) return PyErr_Format(PyExc_ValueError, "too many names"), -1;
    uint64_t num_slots = 2;
    while (num_slots < 2 * n) num_slots *= 2;
    self->mask = num_slots - 1;
    self->names = malloc((n + 1) * sizeof *self->names);
    self->text = malloc(num_bytes + 1);
    self->slots = calloc(num_slots, sizeof *self->slots);
    if (self->names == NULL || self->text == NULL || self->slots == NULL) return PyErr_NoMemory(), -1;
    for (size_t i = 0; i < n; i++) {
        if (want(PyList_GET_ITEM(strings, (Py_ssize_t)i), &wanted) < 0) return -1;
        memcpy(self->text + used, wanted.text, wanted.num_bytes);
        self->names[i] = (Name){wanted.hash, (uint32_t)used, (uint32_t)wanted.num_bytes};
        self->slots[slot_of(self, &wanted)] = (uint32_t)i + 1; /* of equal ones the last counts, as in a dictionary */
        used += wanted.num_bytes;
    }
    return 0;
}

static void Names_dealloc(Names *self) {
    free(self->names), free(self->text), free(self->slots);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *Names_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"strings", NULL};
    PyObject *strings;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!", keywords, &PyList_Type, &strings)) return NULL;
    Names *self = (Names *)type->tp_alloc(type, 0);
    if (self != NULL && fill(self, strings) < 0) Py_CLEAR(self);
    return (PyObject *)self;
}

static PyMethodDef methods[] = {{"find", (PyCFunction)Names_find, METH_O, NULL}, {NULL, NULL, 0, NULL}};

static PyType_Slot slots[] = {
    {Py_tp_new, Names_new}, {Py_tp_dealloc, Names_dealloc}, {Py_tp_methods, methods}, {0, NULL},
};

PyType_Spec names_spec = {"models._native.Names", sizeof(Names), 0, Py_TPFLAGS_DEFAULT, slots};
