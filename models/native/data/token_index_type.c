/* Python type TokenIndex: numbers the tokens of a string column that another library hands over without copying it. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>

#include "buffers.h"
#include "data/token_index.h"

/* Arrow C stream interface, https://arrow.apache.org/docs/format/CStreamInterface.html */
typedef struct ArrowSchema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct ArrowSchema **children, *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
} ArrowSchema;

typedef struct ArrowArray {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct ArrowArray **children, *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
} ArrowArray;

typedef struct ArrowArrayStream {
    int (*get_schema)(struct ArrowArrayStream *, ArrowSchema *);
    int (*get_next)(struct ArrowArrayStream *, ArrowArray *);
    const char *(*get_last_error)(struct ArrowArrayStream *);
    void (*release)(struct ArrowArrayStream *);
    void *private_data;
} ArrowArrayStream;

typedef struct {
    PyObject_HEAD
    TokenIndex index;
} TokenIndexObject;

/* Whether the column's type is "vu": UTF-8 string views. */
static int has_string_views(ArrowArrayStream *stream) {
    ArrowSchema schema = {0};
    if (stream->get_schema(stream, &schema) != 0) return 0;
    int fits = strcmp(schema.format, "vu") == 0;
    schema.release(&schema);
    return fits;
}

/* Number the n tokens of a stream. With firsts [n], new tokens get codes, and their positions are written there.
 * Return how many are new, or -1 with an exception. */
static ptrdiff_t number_stream(TokenIndex *index, ArrowArrayStream *stream, size_t n, uint32_t *codes, int64_t *firsts) {
    size_t done = 0;
    ptrdiff_t num_new = 0;
    if (!has_string_views(stream)) return PyErr_SetString(PyExc_ValueError, "expected a column of strings"), -1;
    for (;;) {
        ArrowArray array = {0};
        if (stream->get_next(stream, &array) != 0) return PyErr_SetString(PyExc_ValueError, "the column cannot be read"), -1;
        if (array.release == NULL) break;
        size_t length = (size_t)array.length, offset = (size_t)array.offset;
        ptrdiff_t found = 0;
        if (length > n - done) {
            PyErr_SetString(PyExc_ValueError, "the column is longer than its codes");
            found = -1;
        } else {
            found = token_index_number(index, (const TokenView *)array.buffers[1] + offset,
                                       (const uint8_t *const *)(array.buffers + 2), array.buffers[0], offset, length,
                                       codes + done, firsts == NULL ? NULL : firsts + num_new);
            if (found < 0) PyErr_NoMemory();
        }
        array.release(&array);
        if (found < 0) return -1;
        for (ptrdiff_t i = num_new; firsts != NULL && i < num_new + found; i++) firsts[i] += (int64_t)done;
        num_new += found, done += length;
    }
    if (done < n) return PyErr_SetString(PyExc_ValueError, "the column is shorter than its codes"), -1;
    return num_new;
}

static PyObject *number(TokenIndexObject *self, PyObject *args, int adds) {
    PyObject *column, *array, *capsule = NULL, *result = NULL;
    Py_buffer codes;
    if (!PyArg_ParseTuple(args, "OO", &column, &array) || get_array(array, UINT32, ANY_COUNT, 1, &codes) < 0) return NULL;
    size_t n = (size_t)codes.len / sizeof(uint32_t);
    int64_t *firsts = adds ? malloc((n + 1) * sizeof *firsts) : NULL;
    if (adds && firsts == NULL) PyErr_NoMemory();
    else capsule = PyObject_CallMethod(column, "__arrow_c_stream__", NULL);
    ArrowArrayStream *stream = capsule == NULL ? NULL : PyCapsule_GetPointer(capsule, "arrow_array_stream");
    if (stream != NULL) {
        ptrdiff_t num_new = number_stream(&self->index, stream, n, codes.buf, firsts);
        if (num_new >= 0)
            result = adds ? PyBytes_FromStringAndSize((char *)firsts, num_new * (Py_ssize_t)sizeof *firsts) : Py_NewRef(Py_None);
    }
    Py_XDECREF(capsule);
    free(firsts);
    PyBuffer_Release(&codes);
    return result;
}

static PyObject *TokenIndex_number(TokenIndexObject *self, PyObject *args) { return number(self, args, 1); }

static PyObject *TokenIndex_find(TokenIndexObject *self, PyObject *args) { return number(self, args, 0); }

static PyObject *TokenIndex_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    (void)args, (void)keywords;
    TokenIndexObject *self = (TokenIndexObject *)type->tp_alloc(type, 0);
    if (self != NULL && token_index_open(&self->index) < 0) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void TokenIndex_dealloc(TokenIndexObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    token_index_close(&self->index);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"number", (PyCFunction)TokenIndex_number, METH_VARARGS, NULL},
    {"find", (PyCFunction)TokenIndex_find, METH_VARARGS, NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_new, TokenIndex_new}, {Py_tp_dealloc, TokenIndex_dealloc}, {Py_tp_methods, methods}, {0, NULL},
};

PyType_Spec token_index_spec = {"models._native.TokenIndex", sizeof(TokenIndexObject), 0, Py_TPFLAGS_DEFAULT, slots};
