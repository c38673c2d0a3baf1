/* Python type TokenIndex: numbers the tokens of a string column that another library hands over without copying it. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>

#include "buffers.h"
#include "data/token_index.h"

typedef struct {
    PyObject_HEAD
    TokenIndex index;
} TokenIndexObject;

typedef struct {
    TokenIndex *index;
    uint32_t *codes;  /* of all tokens */
    int64_t *firsts;  /* room for as many; NULL: new tokens get no code */
    ptrdiff_t num_new;
} Numbering;

static int number_strings(void *context, const StringSlice *tokens) {
    Numbering *numbering = context;
    int64_t *firsts = numbering->firsts == NULL ? NULL : numbering->firsts + numbering->num_new;
    ptrdiff_t found = token_index_number(numbering->index, tokens, numbering->codes + tokens->done, firsts);
    if (found < 0) return PyErr_NoMemory(), -1;
    for (ptrdiff_t i = 0; firsts != NULL && i < found; i++) firsts[i] += (int64_t)tokens->done;
    numbering->num_new += found;
    return 0;
}

static PyObject *number(TokenIndexObject *self, PyObject *args, int adds) {
    PyObject *column, *array, *result = NULL;
    Py_buffer codes;
    if (!PyArg_ParseTuple(args, "OO", &column, &array) || get_array(array, UINT32, ANY_COUNT, 1, &codes) < 0) return NULL;
    size_t n = (size_t)codes.len / sizeof(uint32_t);
    Numbering numbering = {&self->index, codes.buf, adds ? malloc((n + 1) * sizeof(int64_t)) : NULL, 0};
    if (adds && numbering.firsts == NULL) PyErr_NoMemory();
    else if (visit_strings(column, n, number_strings, &numbering) == 0)
        result = adds ? PyBytes_FromStringAndSize((char *)numbering.firsts, numbering.num_new * (Py_ssize_t)sizeof(int64_t))
                      : Py_NewRef(Py_None);
    free(numbering.firsts);
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
