/* Step and `adagrad`: `step.h` for Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "step.h"

typedef struct {
    PyObject_HEAD
    const StepKernels *kernels;
    size_t num_fields, embedding_dim, num_units;
    float *scratch; /* kept from one step to the next, since new memory costs page faults */
    size_t room;
} Step;

enum { VALUES, WEIGHT, BOUNDS, INDEX, KEPT, NUM_OF_BATCH, MOST = NUM_OF_BATCH + 5 };

static void release(Py_buffer *buffers, size_t n) {
    for (size_t i = 0; i < n; i++) PyBuffer_Release(&buffers[i]);
}

static int refuse(const char *why) {
    PyErr_SetString(PyExc_ValueError, why);
    return -1;
}

/* Room for n floats, in large pages where the system has them: rows are looked up all over it. */
static float *allocate_pages(size_t n) {
    size_t page = (size_t)2 << 20, size = (n * sizeof(float) + page - 1) / page * page;
    float *found = aligned_alloc(page, size);
#ifdef MADV_HUGEPAGE
    if (found != NULL) madvise(found, size, MADV_HUGEPAGE);
#endif
    return found;
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
    size_t needed = step_scratch(x);
    if (needed > self->room) {
        free(self->scratch);
        self->room = 0;
        self->scratch = allocate_pages(needed);
        if (self->scratch == NULL) return PyErr_NoMemory(), -1;
        self->room = needed;
    }
    return 0;
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
    if (!failed) self->kernels->forward(&x, more[0].buf, self->scratch, more[1].buf, more[2].buf, more[3].buf);
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
    if (!failed) self->kernels->backward(&x, more[0].buf, more[1].buf, more[2].buf, self->scratch, more[3].buf, more[4].buf);
    release(a, NUM_OF_BATCH + 5);
    return failed ? NULL : Py_NewRef(Py_None);
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
    free(self->scratch);
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

static PyMethodDef functions[] = {{"adagrad", adagrad, METH_VARARGS, NULL}, {0}};

/* Add what is defined here to the module; 0, or -1 with an exception. */
int add_learning(PyObject *module) {
    PyObject *type = PyType_FromSpec(&step_spec);
    int failed = type == NULL || PyModule_AddObjectRef(module, "Step", type) < 0 ||
                 PyModule_AddFunctions(module, functions) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}
