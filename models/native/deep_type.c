/* Deep: `deep.h` for Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "deep.h"

typedef struct {
    PyObject_HEAD
    Deep deep;
} DeepObject;

/* Arrays in pairs, a weight and a bias for each layer. */
typedef struct {
    Py_buffer *buffers;
    Py_ssize_t count;
} Arrays;

static void release(Arrays *arrays) {
    while (arrays->count > 0) PyBuffer_Release(&arrays->buffers[--arrays->count]);
    PyMem_Free(arrays->buffers);
    arrays->buffers = NULL;
}

static int refuse(void) {
    PyErr_SetString(PyExc_ValueError, "arrays that do not fit the layers");
    return -1;
}

/* The buffers of a tuple, of the layers' sizes; 0, or -1 with an exception. To be released in both cases. */
static int arrays_of(const Deep *deep, PyObject *tuple, int flags, Arrays *arrays) {
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    if ((size_t)n != 2 * deep->num_hidden) return refuse();
    arrays->buffers = PyMem_Calloc((size_t)n, sizeof(Py_buffer));
    if (arrays->buffers == NULL) return PyErr_NoMemory(), -1;
    for (Py_ssize_t i = 0; i < n; i++) {
        size_t l = (size_t)i / 2, outputs = l + 1 < deep->num_hidden ? deep->hidden[l + 1].width : 1;
        size_t size = (i % 2 ? 1 : deep->hidden[l].width) * outputs * sizeof(float);
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(tuple, i), &arrays->buffers[i], flags) < 0) return -1;
        arrays->count++;
        if ((size_t)arrays->buffers[i].len != size) return refuse();
    }
    return 0;
}

/* Layers of weights and biases and, if there are some, their gradients; NULL with an exception. */
static Layer *layers_of(const Deep *deep, const Arrays *parameters, const Arrays *gradients) {
    Layer *layers = PyMem_Calloc(deep->num_hidden, sizeof(Layer));
    if (layers == NULL) return (Layer *)PyErr_NoMemory();
    for (size_t l = 0; l < deep->num_hidden; l++) {
        layers[l].weight = parameters->buffers[2 * l].buf, layers[l].bias = parameters->buffers[2 * l + 1].buf;
        if (gradients->count == 0) continue;
        layers[l].by_weight = gradients->buffers[2 * l].buf, layers[l].by_bias = gradients->buffers[2 * l + 1].buf;
    }
    return layers;
}

static int fits(const Py_buffer *x, const Py_buffer *logits, const Deep *deep) {
    return logits->len % (Py_ssize_t)sizeof(float) == 0 && (size_t)x->len == (size_t)logits->len * deep->hidden->width;
}

static PyObject *Deep_forward(DeepObject *self, PyObject *args) {
    Py_buffer x, logits;
    PyObject *tuple;
    Arrays parameters = {0}, none = {0};
    Deep *deep = &self->deep;
    Layer *layers = NULL;
    if (!PyArg_ParseTuple(args, "y*O!w*:forward", &x, &PyTuple_Type, &tuple, &logits)) return NULL;
    int failed = fits(&x, &logits, deep) ? arrays_of(deep, tuple, PyBUF_SIMPLE, &parameters) : refuse();
    failed = failed || (layers = layers_of(deep, &parameters, &none)) == NULL;
    if (!failed && deep_forward(deep, (size_t)logits.len / sizeof(float), x.buf, layers, logits.buf) < 0)
        failed = 1, PyErr_NoMemory();
    PyMem_Free(layers), release(&parameters), PyBuffer_Release(&x), PyBuffer_Release(&logits);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *Deep_backward(DeepObject *self, PyObject *args) {
    Py_buffer by_logit, by_x;
    PyObject *tuple, *filled;
    Arrays parameters = {0}, gradients = {0};
    Deep *deep = &self->deep;
    Layer *layers = NULL;
    if (!PyArg_ParseTuple(args, "y*O!w*O!:backward", &by_logit, &PyTuple_Type, &tuple, &by_x, &PyTuple_Type, &filled))
        return NULL;
    int fit = fits(&by_x, &by_logit, deep) && (size_t)by_logit.len == deep->b * sizeof(float);
    int failed = fit ? arrays_of(deep, tuple, PyBUF_SIMPLE, &parameters) : refuse();
    failed = failed || arrays_of(deep, filled, PyBUF_WRITABLE, &gradients) < 0;
    failed = failed || (layers = layers_of(deep, &parameters, &gradients)) == NULL;
    if (!failed) deep_backward(deep, by_logit.buf, layers, by_x.buf);
    PyMem_Free(layers), release(&parameters), release(&gradients);
    PyBuffer_Release(&by_logit), PyBuffer_Release(&by_x);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *Deep_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"widths", "longest", NULL};
    PyObject *tuple;
    Py_ssize_t longest;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!n", names, &PyTuple_Type, &tuple, &longest)) return NULL;
    const Kernels *kernels = longest < 0 ? NULL : find_kernels_up_to((size_t)longest);
    if (kernels == NULL) return PyErr_SetString(PyExc_NotImplementedError, "no kernels for this processor"), NULL;
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    size_t *widths = PyMem_Calloc((size_t)n, sizeof(size_t));
    if (widths == NULL) return PyErr_NoMemory();
    int wrong = n < 1;
    for (Py_ssize_t l = 0; l < n && !PyErr_Occurred(); l++) {
        Py_ssize_t width = PyLong_AsSsize_t(PyTuple_GET_ITEM(tuple, l));
        wrong |= width < 1 || width > 1 << 20;
        widths[l] = (size_t)width;
    }
    if (wrong && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "no layers, or a size below one or too large");
    DeepObject *self = PyErr_Occurred() ? NULL : (DeepObject *)type->tp_alloc(type, 0);
    if (self != NULL && deep_init(&self->deep, kernels, widths, (size_t)n) < 0) {
        PyErr_NoMemory();
        Py_CLEAR(self);
    }
    PyMem_Free(widths);
    return (PyObject *)self;
}

static void Deep_dealloc(DeepObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    deep_destroy(&self->deep);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"forward", (PyCFunction)Deep_forward, METH_VARARGS, NULL},
    {"backward", (PyCFunction)Deep_backward, METH_VARARGS, NULL},
    {0},
};

static PyType_Slot slots[] = {{Py_tp_new, Deep_new}, {Py_tp_dealloc, Deep_dealloc}, {Py_tp_methods, methods}, {0, NULL}};

PyType_Spec deep_spec = {"models._native.Deep", sizeof(DeepObject), 0, Py_TPFLAGS_DEFAULT, slots};
