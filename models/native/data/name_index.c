/* NameIndex: strings to their places in a list. A catalog of 100,000 ids does not fit the caches: a Python dictionary waits for
 * memory once for each look-up, here the waits of 64 overlap. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

#include "data/token_index.h"

#define TOGETHER 64 /* strings */

typedef struct {
    PyObject_HEAD
    TokenIndex index; /* place + 1 by name */
} NameIndex;

typedef struct {
    TokenView views[TOGETHER];
    const uint8_t *texts[TOGETHER]; /* of strings longer than INLINE_BYTES */
    uint64_t is_valid;              /* a bit for each string without a lone surrogate */
    Py_ssize_t count;
} Strings;

/* Read up to TOGETHER strings from `first` on; 0, or -1 with an exception if one is not a string. */
static int read_strings(PyObject *list, Py_ssize_t first, Strings *s) {
    *s = (Strings){.count = PyList_GET_SIZE(list) - first < TOGETHER ? PyList_GET_SIZE(list) - first : TOGETHER};
    for (Py_ssize_t i = 0; i < s->count; i++) {
        Py_ssize_t num_bytes;
        const char *text = PyUnicode_AsUTF8AndSize(PyList_GET_ITEM(list, first + i), &num_bytes);
        if (text == NULL && !PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) return -1;
        if (text == NULL || num_bytes > INT32_MAX) { /* a lone surrogate: no name has one */
            PyErr_Clear();
            continue;
        }
        TokenView *view = &s->views[i];
        view->num_bytes = (uint32_t)num_bytes;
        memcpy(view->text, text, num_bytes > INLINE_BYTES ? 4 : (size_t)num_bytes);
        if (num_bytes > INLINE_BYTES) view->buffer = (uint32_t)i, s->texts[i] = (const uint8_t *)text;
        s->is_valid |= (uint64_t)1 << i;
    }
    return 0;
}

/* Write the strings' codes, place + 1 or 0; with firsts [TOGETHER], add them. Return how many are new, or -1 with an exception. */
static ptrdiff_t number(NameIndex *self, const Strings *s, uint32_t *codes, int64_t *firsts) {
    StringSlice slice = {s->views, s->texts, (const uint8_t *)&s->is_valid, 0, (size_t)s->count, 0};
    ptrdiff_t num_new = token_index_number(&self->index, &slice, codes, firsts);
    if (num_new < 0) PyErr_NoMemory();
    return num_new;
}

static PyObject *Names_find(NameIndex *self, PyObject *list) {
    if (!PyList_CheckExact(list)) return PyErr_Format(PyExc_TypeError, "expected a list of strings");
    Py_ssize_t n = PyList_GET_SIZE(list);
    PyObject *found = PyBytes_FromStringAndSize(NULL, n * (Py_ssize_t)sizeof(int64_t));
    if (found == NULL) return NULL;
    int64_t *places = (int64_t *)PyBytes_AS_STRING(found);
    Strings strings;
    uint32_t codes[TOGETHER];
    for (Py_ssize_t first = 0; first < n; first += strings.count) {
        if (read_strings(list, first, &strings) < 0 || number(self, &strings, codes, NULL) < 0) return Py_DECREF(found), NULL;
        for (Py_ssize_t i = 0; i < strings.count; i++) places[first + i] = (int64_t)codes[i] - 1;
    }
    return found;
}

/* Add the strings; 0, or -1 with an exception. */
static int fill(NameIndex *self, PyObject *list) {
    Strings strings;
    uint32_t codes[TOGETHER];
    int64_t firsts[TOGETHER];
    if (token_index_open(&self->index) < 0) return PyErr_NoMemory(), -1;
    for (Py_ssize_t first = 0; first < PyList_GET_SIZE(list); first += strings.count) {
        if (read_strings(list, first, &strings) < 0) return -1;
        ptrdiff_t num_new = number(self, &strings, codes, firsts);
        if (num_new < 0) return -1;
        if (num_new < strings.count) return PyErr_Format(PyExc_ValueError, "a name that is given twice, or has a lone surrogate"), -1;
    }
    return 0;
}

static void Names_dealloc(NameIndex *self) {
    token_index_close(&self->index);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *Names_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"strings", NULL};
    PyObject *list;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!", keywords, &PyList_Type, &list)) return NULL;
    NameIndex *self = (NameIndex *)type->tp_alloc(type, 0);
    if (self != NULL && fill(self, list) < 0) Py_CLEAR(self);
    return (PyObject *)self;
}

static PyMethodDef methods[] = {{"find", (PyCFunction)Names_find, METH_O, NULL}, {NULL, NULL, 0, NULL}};

static PyType_Slot slots[] = {
    {Py_tp_new, Names_new}, {Py_tp_dealloc, Names_dealloc}, {Py_tp_methods, methods}, {0, NULL},
};

PyType_Spec name_index_spec = {"models._native.NameIndex", sizeof(NameIndex), 0, Py_TPFLAGS_DEFAULT, slots};
