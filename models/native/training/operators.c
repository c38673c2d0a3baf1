/* Step, HiddenLayers and `adagrad`: `step.h` and `hidden.h` for Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "training/hidden.h"
#include "training/step.h"

/* Scratch memory, kept from one step to the next, since new memory costs page faults. */
typedef struct {
    float *numbers;
    size_t room;
} Scratch;

typedef struct {
    PyObject_HEAD
    const StepKernels *kernels;
    size_t num_fields, embedding_dim, num_units;
    Scratch scratch;
} Step;

#define MOST_LAYERS 32

typedef struct {
    PyObject_HEAD
    const HiddenKernels *kernels;
    Scratch scratch;
    size_t b, num_layers, depths[MOST_LAYERS]; /* of what `forward` left in the scratch memory; b is 0 where it left nothing */
} HiddenLayers;

enum { VALUES, WEIGHT, BOUNDS, INDEX, KEPT, NUM_OF_BATCH, MOST = NUM_OF_BATCH + 5 };

static void release(Py_buffer *buffers, size_t n) {
    for (size_t i = 0; i < n; i++) PyBuffer_Release(&buffers[i]);
}

static int refuse(const char *why) {
    PyErr_SetString(PyExc_ValueError, why);
    return -1;
}

/* Room for n floats; much of it in large pages where the system has them, since rows are looked up all over it. */
static float *allocate(size_t n) {
    size_t size = n * sizeof(float);
#if defined(MADV_HUGEPAGE) && !defined(__SANITIZE_ADDRESS__) /* which is to see what goes beyond n */
    size_t page = (size_t)2 << 20;
    float *found = size < page ? NULL : aligned_alloc(page, (size + page - 1) / page * page);
    if (found != NULL) madvise(found, size, MADV_HUGEPAGE);
    if (found != NULL) return found;
#endif
    return malloc(size);
}

/* Make room for so many numbers; 0, or -1 with an exception. */
static int make_room(Scratch *scratch, size_t needed) {
    if (needed <= scratch->room) return 0;
    free(scratch->numbers);
    scratch->numbers = allocate(needed);
    scratch->room = scratch->numbers == NULL ? 0 : needed;
    return scratch->numbers == NULL ? PyErr_NoMemory(), -1 : 0;
}

static int holds(const Py_buffer *buffer, size_t count, size_t size) { return (size_t)buffer->len == count * size; }

/* The batch that the first buffers are, with scratch memory for it; 0, or -1 with an exception. */
static int batch_of(Step *self, const Py_buffer *buffers, Batch *x) {
    size_t F = self->num_fields, E = self->embedding_dim, H = self->num_units;
    x->F = F, x->E = E, x->H = H;
    x->b = (size_t)buffers[KEPT].len / sizeof(float) / F;
    x->U = (size_t)buffers[VALUES].len / sizeof(float) / (E + 1);
    if (!holds(&buffers[KEPT], x->b * F, sizeof(float)) || !holds(&buffers[VALUES], x->U * (E + 1), sizeof(float)) ||
        !holds(&buffers[WEIGHT], H * F * E, sizeof(float)) || !holds(&buffers[BOUNDS], F + 1, sizeof(int64_t)) ||
        !holds(&buffers[INDEX], x->b * F, sizeof(int64_t)) || x->b >= UINT32_MAX / F || x->U >= UINT32_MAX)
        return refuse("arrays of a batch that do not fit together");
    x->values = buffers[VALUES].buf, x->weight = buffers[WEIGHT].buf, x->kept = buffers[KEPT].buf;
    x->bounds = buffers[BOUNDS].buf, x->index = buffers[INDEX].buf;
    if (step_check(x) < 0) return refuse("values whose rows are not their field's");
    return make_room(&self->scratch, step_scratch(x));
}

static PyObject *Step_forward(Step *self, PyObject *args) {
    Py_buffer a[MOST];
    Batch x;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*y*w*w*w*:forward", &a[0], &a[1], &a[2], &a[3], &a[4], &a[5], &a[6], &a[7], &a[8]))
        return NULL;
    const Py_buffer *more = a + NUM_OF_BATCH; /* bias, hidden, totals, logits */
    int failed = batch_of(self, a, &x);
    if (!failed && (!holds(&more[0], x.H, sizeof(float)) || !holds(&more[1], x.b * x.H, sizeof(float)) ||
                    !holds(&more[2], x.b * x.E, sizeof(float)) || !holds(&more[3], x.b, sizeof(float))))
        failed = refuse("arrays to be filled that do not fit the batch");
    if (!failed) self->kernels->forward(&x, more[0].buf, self->scratch.numbers, more[1].buf, more[2].buf, more[3].buf);
    release(a, NUM_OF_BATCH + 4);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *Step_backward(Step *self, PyObject *args) {
    Py_buffer a[MOST];
    Batch x;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*y*y*y*w*w*:backward", &a[0], &a[1], &a[2], &a[3], &a[4], &a[5], &a[6], &a[7],
                          &a[8], &a[9]))
        return NULL;
    const Py_buffer *more = a + NUM_OF_BATCH; /* by_hidden, by_logit, totals, gradient, by_weight */
    int failed = batch_of(self, a, &x);
    if (!failed && (!holds(&more[0], x.b * x.H, sizeof(float)) || !holds(&more[1], x.b, sizeof(float)) ||
                    !holds(&more[2], x.b * x.E, sizeof(float)) || !holds(&more[3], x.U * (x.E + 1), sizeof(float)) ||
                    !holds(&more[4], x.H * x.F * x.E, sizeof(float))))
        failed = refuse("arrays to be filled that do not fit the batch");
    if (!failed) self->kernels->backward(&x, more[0].buf, more[1].buf, more[2].buf, self->scratch.numbers, more[3].buf, more[4].buf);
    release(a, NUM_OF_BATCH + 5);
    return failed ? NULL : Py_NewRef(Py_None);
}

/* Arguments are arrays: some of the call's own, then for each layer `each` of weight, bias and their gradients. */
typedef struct {
    Py_buffer arrays[3 + 4 * MOST_LAYERS];
    size_t num_arrays, num_layers;
    Layer layers[MOST_LAYERS];
} LayerArguments;

/* Read them, of which `filled` of the call's own are written; 0, or -1 with an exception. To be released in any case. */
static int read_layers(LayerArguments *a, PyObject *const *args, size_t num_args, size_t own, size_t filled, size_t each) {
    a->num_arrays = 0, a->num_layers = (num_args - own) / each;
    if (num_args < own + each || (num_args - own) % each != 0 || a->num_layers > MOST_LAYERS)
        return refuse("a number of arrays that is none of whole layers");
    for (; a->num_arrays < num_args; a->num_arrays++) {
        size_t n = a->num_arrays;
        int written = n < own ? n >= own - filled : (n - own) % each >= 2;
        if (PyObject_GetBuffer(args[n], &a->arrays[n], written ? PyBUF_WRITABLE : PyBUF_SIMPLE) < 0) return -1;
    }
    for (size_t l = 0; l < a->num_layers; l++) {
        const Py_buffer *of = a->arrays + own + l * each;
        size_t width = (size_t)of[1].len / sizeof(float), before = l > 0 ? a->layers[l - 1].width : 0;
        size_t depth = width > 0 ? (size_t)of[0].len / sizeof(float) / width : 0;
        if (depth < 1 || !holds(&of[0], width * depth, sizeof(float)) || (l > 0 && depth != before) ||
            (each > 2 && (of[2].len != of[0].len || of[3].len != of[1].len)) || (l + 1 == a->num_layers && width != 1))
            return refuse("layers that do not fit one another");
        a->layers[l] = (Layer){depth, width, of[0].buf, of[1].buf, each > 2 ? of[2].buf : NULL, each > 2 ? of[3].buf : NULL};
    }
    return 0;
}

static PyObject *HiddenLayers_forward(HiddenLayers *self, PyObject *const *args, Py_ssize_t num_args) {
    LayerArguments a; /* sums, logits */
    int failed = read_layers(&a, args, (size_t)num_args, 2, 1, 2);
    size_t b = failed ? 0 : (size_t)a.arrays[1].len / sizeof(float);
    if (!failed && !holds(&a.arrays[0], b * a.layers->depth, sizeof(float)))
        failed = refuse("sums that do not fit the first layer");
    if (!failed) failed = make_room(&self->scratch, hidden_scratch(b, a.num_layers, a.layers));
    self->b = failed ? 0 : b, self->num_layers = a.num_layers;
    for (size_t l = 0; !failed && l < a.num_layers; l++) self->depths[l] = a.layers[l].depth;
    if (!failed)
        self->kernels->forward(b, a.num_layers, a.layers, a.arrays[0].buf, self->scratch.numbers, a.arrays[1].buf);
    release(a.arrays, a.num_arrays);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *HiddenLayers_backward(HiddenLayers *self, PyObject *const *args, Py_ssize_t num_args) {
    LayerArguments a; /* by_logit, by_sums, by_first_bias */
    int failed = read_layers(&a, args, (size_t)num_args, 3, 2, 4);
    int fits = !failed && self->b > 0 && a.num_layers == self->num_layers;
    for (size_t l = 0; fits && l < a.num_layers; l++) fits = a.layers[l].depth == self->depths[l];
    fits = fits && holds(&a.arrays[0], self->b, sizeof(float)) && holds(&a.arrays[2], a.layers->depth, sizeof(float)) &&
           holds(&a.arrays[1], self->b * a.layers->depth, sizeof(float));
    if (!failed && !fits) failed = refuse("arrays that do not fit those of the last way forward");
    if (!failed)
        self->kernels->backward(self->b, a.num_layers, a.layers, a.arrays[0].buf, self->scratch.numbers, a.arrays[1].buf,
                                a.arrays[2].buf);
    self->b = 0; /* what was left has been written over */
    release(a.arrays, a.num_arrays);
    return failed ? NULL : Py_NewRef(Py_None);
}

static int HiddenLayers_init(HiddenLayers *self, PyObject *args, PyObject *keywords) {
    static char *names[] = {"longest", NULL};
    Py_ssize_t longest;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "n", names, &longest)) return -1;
    self->kernels = find_hidden_kernels((size_t)longest);
    return 0;
}

static void HiddenLayers_dealloc(HiddenLayers *self) {
    PyTypeObject *type = Py_TYPE(self);
    free(self->scratch.numbers);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *adagrad(PyObject *module, PyObject *args) {
    (void)module;
    Py_buffer a[7]; /* touched, values, gradient, decay, precision, table, squares */
    float learning_rate;
    Py_ssize_t longest;
    if (!PyArg_ParseTuple(args, "fny*y*y*y*y*w*w*:adagrad", &learning_rate, &longest, &a[0], &a[1], &a[2], &a[3], &a[4],
                          &a[5], &a[6]))
        return NULL;
    size_t U = (size_t)a[0].len / sizeof(int64_t), R = (size_t)a[3].len / sizeof(float), D = (size_t)a[4].len / sizeof(float);
    const int64_t *touched = a[0].buf;
    int wrong = D < 1 || !holds(&a[1], U * D, sizeof(float)) || !holds(&a[2], U * D, sizeof(float)) ||
                !holds(&a[5], R * D, sizeof(float)) || !holds(&a[6], R * 2, sizeof(float));
    for (size_t u = 0; !wrong && u < U; u++) wrong = touched[u] < 0 || (size_t)touched[u] >= R;
    if (!wrong)
        find_step_kernels((size_t)longest)
            ->adagrad(U, D - 1, touched, a[1].buf, a[2].buf, a[3].buf, a[4].buf, learning_rate, a[5].buf, a[6].buf);
    release(a, 7);
    return wrong ? refuse("arrays that do not fit the table"), NULL : Py_NewRef(Py_None);
}

static int Step_init(Step *self, PyObject *args, PyObject *keywords) {
    static char *names[] = {"num_fields", "embedding_dim", "num_units", "longest", NULL};
    Py_ssize_t F, E, H, longest;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "nnnn", names, &F, &E, &H, &longest)) return -1;
    self->kernels = find_step_kernels((size_t)longest);
    if (F < 1 || E < 1 || H < 1 || F > 1 << 20 || E > 1 << 20 || H > 1 << 20)
        return refuse("a size below one, or too large");
    self->num_fields = (size_t)F, self->embedding_dim = (size_t)E, self->num_units = (size_t)H;
    return 0;
}

static void Step_dealloc(Step *self) {
    PyTypeObject *type = Py_TYPE(self);
    free(self->scratch.numbers);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"forward", (PyCFunction)Step_forward, METH_VARARGS, NULL},
    {"backward", (PyCFunction)Step_backward, METH_VARARGS, NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_new, PyType_GenericNew}, {Py_tp_init, Step_init}, {Py_tp_dealloc, Step_dealloc}, {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec step_spec = {"models._native.Step", sizeof(Step), 0, Py_TPFLAGS_DEFAULT, slots};

static PyMethodDef hidden_methods[] = {
    {"forward", (PyCFunction)(void (*)(void))HiddenLayers_forward, METH_FASTCALL, NULL},
    {"backward", (PyCFunction)(void (*)(void))HiddenLayers_backward, METH_FASTCALL, NULL},
    {0},
};

static PyType_Slot hidden_slots[] = {
    {Py_tp_new, PyType_GenericNew}, {Py_tp_init, HiddenLayers_init}, {Py_tp_dealloc, HiddenLayers_dealloc},
    {Py_tp_methods, hidden_methods}, {0, NULL},
};

PyType_Spec hidden_spec = {"models._native.HiddenLayers", sizeof(HiddenLayers), 0, Py_TPFLAGS_DEFAULT, hidden_slots};

static PyMethodDef functions[] = {{"adagrad", adagrad, METH_VARARGS, NULL}, {0}};

/* Add what is defined here to the module; 0, or -1 with an exception. */
int add_learning(PyObject *module) {
    PyObject *step = PyType_FromSpec(&step_spec), *hidden = PyType_FromSpec(&hidden_spec);
    int failed = step == NULL || hidden == NULL || PyModule_AddObjectRef(module, "Step", step) < 0 ||
                 PyModule_AddObjectRef(module, "HiddenLayers", hidden) < 0 || PyModule_AddFunctions(module, functions) < 0;
    Py_XDECREF(step), Py_XDECREF(hidden);
    return failed ? -1 : 0;
}
