/* The kernels of `kernels.h` as Python functions on arrays; `models._native` says what each takes. */
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "buffers.h"
#include "training/kernels.h"

#define MOST_ARRAYS (4 + 4 * MOST_LAYERS)

/* The arguments of a call: arrays whose buffers are released together. */
typedef struct {
    Py_buffer views[MOST_ARRAYS];
    size_t num_views;
} Arrays;

static void release(Arrays *arrays) {
    while (arrays->num_views > 0) PyBuffer_Release(&arrays->views[--arrays->num_views]);
}

/* The elements of the next argument, NULL with an exception. */
static void *next_array(Arrays *arrays, PyObject *array, DType dtype, size_t count, int writable) {
    Py_buffer *view = &arrays->views[arrays->num_views];
    if (get_array(array, dtype, count, writable, view) < 0) return NULL;
    arrays->num_views++;
    return view->buf;
}

/* As `next_array` of a matrix, with its shape. */
static void *next_matrix(Arrays *arrays, PyObject *array, DType dtype, int writable, size_t *rows, size_t *columns) {
    void *elements = next_array(arrays, array, dtype, ANY_COUNT, writable);
    if (elements == NULL) return NULL;
    const Py_buffer *view = &arrays->views[arrays->num_views - 1];
    if (view->ndim != 2 || view->shape[0] < 1 || view->shape[1] < 1) return PyErr_SetString(PyExc_ValueError, "expected a matrix"), NULL;
    *rows = (size_t)view->shape[0], *columns = (size_t)view->shape[1];
    return elements;
}

/* Memory for n floats, kept for the next call, since new memory costs page faults; in large pages where the system has them,
 * since rows are looked up all over it. One for the process: whoever calls holds the interpreter's lock. */
static float *scratch_memory(size_t n) {
    static float *memory;
    static size_t room;
    if (n <= room) return memory;
    free(memory);
#if defined(MADV_HUGEPAGE) && !defined(__SANITIZE_ADDRESS__) /* which is to see what goes beyond n */
    size_t page = (size_t)2 << 20, size = (n * sizeof(float) + page - 1) / page * page;
    memory = aligned_alloc(page, size);
    if (memory != NULL) madvise(memory, size, MADV_HUGEPAGE);
#else
    memory = malloc(n * sizeof(float));
#endif
    room = memory == NULL ? 0 : n;
    return memory != NULL ? memory : (float *)PyErr_NoMemory();
}

static const TrainingKernels *kernels_for(PyObject *longest) {
    size_t lanes = PyLong_AsSize_t(longest);
    return PyErr_Occurred() ? NULL : find_training_kernels(lanes);
}

static int check_count(Py_ssize_t given, Py_ssize_t expected) {
    if (given == expected) return 0;
    return PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", expected, given), -1;
}

/* Find where each field's rows begin: at the first that an impression holds. Bounds have room for 2 F + 1. 0, or -1 where a
 * row is of two fields or there is no such row. */
static int find_bounds(const Batch *x, uint32_t *bounds) {
    uint32_t *last = bounds + x->F + 1;
    for (size_t f = 0; f < x->F; f++) bounds[f] = UINT32_MAX, last[f] = 0;
    for (size_t i = 0; i < x->b; i++)
        for (size_t f = 0; f < x->F; f++) {
            uint32_t row = (uint32_t)x->index[i * x->F + f]; /* a negative one is too large */
            bounds[f] = row < bounds[f] ? row : bounds[f];
            last[f] = row > last[f] ? row : last[f];
        }
    bounds[0] = 0, bounds[x->F] = (uint32_t)x->U;
    int fits = 1;
    for (size_t f = 0; f < x->F; f++) fits &= bounds[f] <= last[f] && last[f] < bounds[f + 1];
    return fits ? 0 : -1;
}

/* Read values, weight, index and mask; `bounds` is allocated, to be freed in any case. 0, or -1 with an exception. */
static int read_batch(Arrays *arrays, PyObject *const *args, Batch *x, uint32_t **bounds) {
    size_t D, inputs;
    if ((x->values = next_matrix(arrays, args[0], FLOAT32, 0, &x->U, &D)) == NULL ||
        (x->weight = next_matrix(arrays, args[1], FLOAT32, 0, &x->H, &inputs)) == NULL ||
        (x->index = next_matrix(arrays, args[2], INT32, 0, &x->b, &x->F)) == NULL ||
        (x->mask = next_array(arrays, args[3], FLOAT32, x->b * x->F, 0)) == NULL)
        return -1;
    x->E = D - 1;
    if (x->E < 1 || inputs != x->F * x->E || x->b > UINT32_MAX / x->F || x->U > INT32_MAX)
        return PyErr_SetString(PyExc_ValueError, "the values do not fit the first layer"), -1;
    x->bounds = *bounds = malloc((2 * x->F + 1) * sizeof **bounds);
    if (*bounds == NULL) return PyErr_NoMemory(), -1;
    if (find_bounds(x, *bounds) < 0)
        return PyErr_SetString(PyExc_ValueError, "expected rows in the order of the fields, each of one field"), -1;
    return 0;
}

static PyObject *first_layer(PyObject *module, PyObject *const *args, Py_ssize_t num_args) {
    (void)module;
    Arrays arrays = {.num_views = 0};
    Batch x;
    uint32_t *bounds = NULL;
    float *sums, *totals, *fm, *scratch;
    const TrainingKernels *kernels;
    int done = check_count(num_args, 8) == 0 && (kernels = kernels_for(args[0])) != NULL &&
               read_batch(&arrays, args + 1, &x, &bounds) == 0 &&
               (sums = next_array(&arrays, args[5], FLOAT32, x.b * x.H, 1)) != NULL &&
               (totals = next_array(&arrays, args[6], FLOAT32, x.b * x.E, 1)) != NULL &&
               (fm = next_array(&arrays, args[7], FLOAT32, x.b, 1)) != NULL &&
               (scratch = scratch_memory(first_layer_scratch(&x))) != NULL;
    if (done) kernels->first_layer(&x, scratch, sums, totals, fm);
    free(bounds), release(&arrays);
    return done ? Py_NewRef(Py_None) : NULL;
}

static PyObject *first_layer_backward(PyObject *module, PyObject *const *args, Py_ssize_t num_args) {
    (void)module;
    Arrays arrays = {.num_views = 0};
    Batch x;
    uint32_t *bounds = NULL;
    const float *by_sums, *by_fm, *totals;
    float *by_values, *by_weight, *scratch;
    const TrainingKernels *kernels;
    int done = check_count(num_args, 10) == 0 && (kernels = kernels_for(args[0])) != NULL &&
               read_batch(&arrays, args + 1, &x, &bounds) == 0 &&
               (by_sums = next_array(&arrays, args[5], FLOAT32, x.b * x.H, 0)) != NULL &&
               (by_fm = next_array(&arrays, args[6], FLOAT32, x.b, 0)) != NULL &&
               (totals = next_array(&arrays, args[7], FLOAT32, x.b * x.E, 0)) != NULL &&
               (by_values = next_array(&arrays, args[8], FLOAT32, x.U * (x.E + 1), 1)) != NULL &&
               (by_weight = next_array(&arrays, args[9], FLOAT32, x.H * x.F * x.E, 1)) != NULL &&
               (scratch = scratch_memory(first_layer_scratch(&x))) != NULL;
    if (done) kernels->first_layer_backward(&x, by_sums, by_fm, totals, scratch, by_values, by_weight);
    free(bounds), release(&arrays);
    return done ? Py_NewRef(Py_None) : NULL;
}

/* Read weight and bias of each layer, and with `gradients` the arrays for theirs; how many layers, 0 with an exception. */
static size_t read_layers(Arrays *arrays, PyObject *const *args, Py_ssize_t num_args, size_t depth, int gradients, Layer *layers) {
    Py_ssize_t each = gradients ? 4 : 2;
    size_t num_layers = num_args > 0 ? (size_t)(num_args / each) : 0;
    if (num_layers < 1 || num_args % each != 0 || num_layers > MOST_LAYERS)
        return PyErr_SetString(PyExc_TypeError, "expected whole layers, one to 32"), 0;
    for (size_t l = 0; l < num_layers; l++, args += each, depth = layers[l - 1].width) {
        Layer *layer = &layers[l];
        if ((layer->weight = next_matrix(arrays, args[0], FLOAT32, 0, &layer->width, &layer->depth)) == NULL ||
            (layer->bias = next_array(arrays, args[1], FLOAT32, layer->width, 0)) == NULL)
            return 0;
        if (layer->depth != depth || (l + 1 == num_layers && layer->width != 1))
            return PyErr_SetString(PyExc_ValueError, "the layers do not fit one another"), 0;
        if (gradients && ((layer->by_weight = next_array(arrays, args[2], FLOAT32, layer->width * depth, 1)) == NULL ||
                          (layer->by_bias = next_array(arrays, args[3], FLOAT32, layer->width, 1)) == NULL))
            return 0;
    }
    return num_layers;
}

static PyObject *hidden_layers(PyObject *module, PyObject *const *args, Py_ssize_t num_args) {
    (void)module;
    Arrays arrays = {.num_views = 0};
    Layer layers[MOST_LAYERS];
    size_t b, depth, num_layers;
    const float *x, *bias;
    float *logits, *scratch;
    const TrainingKernels *kernels;
    PyObject *activations = NULL;
    if (num_args < 4) return PyErr_SetString(PyExc_TypeError, "expected at least 4 arguments"), NULL;
    int fits = (kernels = kernels_for(args[0])) != NULL && (x = next_matrix(&arrays, args[1], FLOAT32, 0, &b, &depth)) != NULL &&
               (bias = next_array(&arrays, args[2], FLOAT32, depth, 0)) != NULL &&
               (logits = next_array(&arrays, args[3], FLOAT32, b, 1)) != NULL &&
               (num_layers = read_layers(&arrays, args + 4, num_args - 4, depth, 0, layers)) > 0 &&
               (scratch = scratch_memory(hidden_scratch(num_layers, layers))) != NULL;
    if (fits)
        activations = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(activations_size(b, num_layers, layers) * sizeof(float)));
    if (activations != NULL)
        kernels->hidden(b, num_layers, layers, x, bias, scratch, (float *)(void *)PyByteArray_AS_STRING(activations), logits);
    release(&arrays);
    return activations;
}

static PyObject *hidden_layers_backward(PyObject *module, PyObject *const *args, Py_ssize_t num_args) {
    (void)module;
    Arrays arrays = {.num_views = 0};
    Layer layers[MOST_LAYERS];
    size_t b, depth, num_layers;
    const float *by_logits;
    float *by_x, *by_bias, *scratch;
    const TrainingKernels *kernels;
    if (num_args < 5) return PyErr_SetString(PyExc_TypeError, "expected at least 5 arguments"), NULL;
    if (!PyByteArray_Check(args[1])) return PyErr_SetString(PyExc_TypeError, "expected activations"), NULL;
    int done = (kernels = kernels_for(args[0])) != NULL && (by_x = next_matrix(&arrays, args[3], FLOAT32, 1, &b, &depth)) != NULL &&
               (by_logits = next_array(&arrays, args[2], FLOAT32, b, 0)) != NULL &&
               (by_bias = next_array(&arrays, args[4], FLOAT32, depth, 1)) != NULL &&
               (num_layers = read_layers(&arrays, args + 5, num_args - 5, depth, 1, layers)) > 0;
    if (done && (size_t)PyByteArray_GET_SIZE(args[1]) != activations_size(b, num_layers, layers) * sizeof(float))
        done = 0, PyErr_SetString(PyExc_ValueError, "the activations do not fit the layers");
    done = done && (scratch = scratch_memory(hidden_scratch(num_layers, layers))) != NULL;
    if (done)
        kernels->hidden_backward(b, num_layers, layers, (const float *)(const void *)PyByteArray_AS_STRING(args[1]), by_logits,
                                 scratch, by_x, by_bias);
    release(&arrays);
    return done ? Py_NewRef(Py_None) : NULL;
}

static PyObject *adagrad(PyObject *module, PyObject *const *args, Py_ssize_t num_args) {
    (void)module;
    Arrays arrays = {.num_views = 0};
    size_t U, D, R, columns;
    const float *gradient;
    const int64_t *rows;
    float *table, *squares;
    const TrainingKernels *kernels;
    if (check_count(num_args, 6) < 0) return NULL;
    double learning_rate = PyFloat_AsDouble(args[0]);
    int done = !PyErr_Occurred() && (kernels = kernels_for(args[1])) != NULL &&
               (gradient = next_matrix(&arrays, args[3], FLOAT32, 0, &U, &D)) != NULL &&
               (rows = next_array(&arrays, args[2], INT64, U, 0)) != NULL &&
               (squares = next_matrix(&arrays, args[5], FLOAT32, 1, &R, &columns)) != NULL &&
               (table = next_array(&arrays, args[4], FLOAT32, R * D, 1)) != NULL;
    int fits = done && columns == 2 && D > 1;
    for (size_t u = 0; fits && u < U; u++) fits = rows[u] >= 0 && (size_t)rows[u] < R;
    if (done && !fits) done = 0, PyErr_SetString(PyExc_ValueError, "the rows do not fit the table and its sums of squares");
    if (done) kernels->adagrad(U, D - 1, rows, gradient, (float)learning_rate, table, squares);
    release(&arrays);
    return done ? Py_NewRef(Py_None) : NULL;
}

#define FUNCTION(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}

static PyMethodDef functions[] = {
    FUNCTION(first_layer), FUNCTION(first_layer_backward), FUNCTION(hidden_layers), FUNCTION(hidden_layers_backward),
    FUNCTION(adagrad), {0},
};

/* Add what is defined here to the module; 0, or -1 with an exception. */
int add_training(PyObject *module) { return PyModule_AddFunctions(module, functions); }
