/* Building a head: its weights are copied from arrays into the layouts that the kernels read. */
#include "buffers.h"
#include "scoring/head.h"

#define CACHE_LINE 64

struct Block {
    struct Block *next;
};

/* n numbers of 4 bytes, zeros, from the beginning of a cache line on; NULL with an exception. */
static void *allocate(Head *self, size_t n) {
    size_t size = (n * sizeof(float) / CACHE_LINE + 2) * CACHE_LINE; /* the first line is the block's own */
    struct Block *block = aligned_alloc(CACHE_LINE, size);
    if (block == NULL) return PyErr_NoMemory();
    memset(block, 0, size);
    block->next = self->blocks, self->blocks = block;
    return (char *)block + CACHE_LINE;
}

void head_free_weights(Head *self) {
    for (struct Block *block = self->blocks, *next; block != NULL; block = next) next = block->next, free(block);
}

/* A copy of [count, width], its rows padded; NULL with an exception. */
static float *copy_padded(Head *self, const float *numbers, size_t count, size_t width) {
    float *copy = allocate(self, count * padded(width));
    for (size_t i = 0; copy != NULL && i < count; i++)
        memcpy(copy + i * padded(width), numbers + i * width, width * sizeof *copy);
    return copy;
}

static int copy_panels(Head *self, const float *weight, size_t depth, size_t width, Matrix *to) {
    *to = (Matrix){allocate(self, depth * padded(width)), depth, padded(width)};
    if (to->panels == NULL) return -1;
    float *number = to->panels;
    for (size_t column = 0; column < to->width; column += self->kernels->panel_width)
        for (size_t k = 0; k < depth; k++)
            for (size_t j = column; j < column + self->kernels->panel_width && j < to->width; j++, number++)
                if (j < width) *number = weight[k * width + j];
    return 0;
}

static int copy_rows(Head *self, const float *weight, size_t depth, size_t width, Rows *to) {
    *to = (Rows){allocate(self, padded(depth) * stride(width)), padded(depth), padded(width)};
    if (to->rows == NULL) return -1;
    for (size_t k = 0; k < depth; k++) memcpy(to->rows + k * stride(width), weight + k * width, width * sizeof *weight);
    return 0;
}

static Activation find_activation(const Kernels *kernels, const char *name, size_t *num_parameters) {
    if (strcmp(name, "relu") == 0) return *num_parameters = 0, kernels->relu;
    if (strcmp(name, "prelu") == 0) return *num_parameters = 1, kernels->prelu;
    if (strcmp(name, "dice") == 0) return *num_parameters = 3, kernels->dice;
    return PyErr_Format(PyExc_ValueError, "unknown activation '%s'", name), NULL;
}

/* Read layer l of *width inputs, and set *width to its own. */
static int read_layer(Head *self, size_t l, PyObject *tuple, size_t *width) {
    Layer *layer = &self->layers[l];
    PyObject *arrays[3];
    Py_buffer views[3] = {0}; /* bias, weight, parameters */
    const char *name;
    size_t num_parameters, depth = *width;
    int failed = -1;
    if (!PyArg_ParseTuple(tuple, "OOsO", &arrays[1], &arrays[0], &name, &arrays[2])) return -1;
    layer->activate = find_activation(self->kernels, name, &num_parameters);
    if (layer->activate == NULL || get_array(arrays[0], FLOAT32, ANY_COUNT, 0, &views[0]) < 0) return -1;
    *width = (size_t)views[0].len / sizeof(float);
    const size_t counts[] = {*width, depth * *width, num_parameters * *width};
    for (int i = 1; i < 3; i++)
        if (get_array(arrays[i], FLOAT32, counts[i], 0, &views[i]) < 0) goto release;
    layer->width = padded(*width);
    layer->bias = copy_padded(self, views[0].buf, 1, *width);
    layer->parameters = copy_padded(self, views[2].buf, num_parameters, *width);
    if (layer->bias == NULL || layer->parameters == NULL) goto release;
    failed = l == 0 ? copy_panels(self, views[1].buf, depth, *width, &self->first)
                    : copy_rows(self, views[1].buf, depth, *width, &layer->weight);
release:
    for (int i = 0; i < 3; i++) PyBuffer_Release(&views[i]);
    return failed;
}

/* Multiply the rows of some fields by the first layer; `views` are their rows [n, D]. */
static int compute_products(Head *self, size_t num_rows, const Py_buffer *views) {
    uint32_t at = 0, row;
    self->products = allocate(self, num_rows * self->first.width);
    if (self->products == NULL) return -1;
    for (size_t p = 0; p < self->num_precomputed; p++) {
        const Precomputed *one = &self->precomputed[p];
        const Pieces embedding = {1, self->D - 1, self->D, &at, &row};
        row = (uint32_t)(one->field * (self->D - 1));
        self->kernels->multiply(views[p].buf, &embedding, one->num_rows, &self->first, self->products + one->first * self->first.width);
    }
    return 0;
}

/* Sort the fields into those that are precomputed and others. */
static int read_fields(Head *self, PyObject *tuple) {
    size_t F = self->num_fields, num_rows = 0;
    int failed = -1;
    self->precomputed = allocate(self, F * sizeof *self->precomputed / sizeof(float));
    self->others = (Pieces){0, self->D - 1, F * self->D, allocate(self, F), allocate(self, F)};
    Py_buffer *views = PyMem_Calloc(F, sizeof *views);
    if (views == NULL) PyErr_NoMemory();
    if (self->precomputed == NULL || self->others.at == NULL || self->others.row == NULL || views == NULL) goto release;
    for (size_t f = 0; f < F; f++) {
        PyObject *field = PyTuple_GET_ITEM(tuple, (Py_ssize_t)f), *rows;
        if (field == Py_None) {
            self->others.at[self->others.count] = (uint32_t)(f * self->D);
            self->others.row[self->others.count++] = (uint32_t)(f * (self->D - 1));
            continue;
        }
        long long start;
        Py_buffer *view = &views[self->num_precomputed];
        if (!PyArg_ParseTuple(field, "LO", &start, &rows) || get_array(rows, FLOAT32, ANY_COUNT, 0, view) < 0) goto release;
        size_t n = (size_t)view->len / sizeof(float) / self->D;
        self->precomputed[self->num_precomputed++] = (Precomputed){f, num_rows, n, start};
        num_rows += n;
        if ((size_t)view->len != n * self->D * sizeof(float)) {
            PyErr_Format(PyExc_ValueError, "field %zu: expected rows of %zu numbers", f, self->D);
            goto release;
        }
    }
    failed = compute_products(self, num_rows, views);
release:
    for (size_t p = 0; p < self->num_precomputed; p++) PyBuffer_Release(&views[p]);
    PyMem_Free(views);
    return failed;
}

int head_read_weights(Head *self, PyObject *layers, PyObject *last, PyObject *precomputed) {
    size_t width = self->num_fields * (self->D - 1), widest = 0;
    self->num_layers = (size_t)PyTuple_GET_SIZE(layers);
    self->layers = allocate(self, self->num_layers * sizeof *self->layers / sizeof(float));
    if (self->layers == NULL) return -1;
    for (size_t l = 0; l < self->num_layers; l++) {
        if (read_layer(self, l, PyTuple_GET_ITEM(layers, (Py_ssize_t)l), &width) < 0) return -1;
        if (l == 0) self->H = width;
        widest = padded(width) > widest ? padded(width) : widest;
    }
    Py_buffer view;
    if (get_array(last, FLOAT32, width, 0, &view) < 0) return -1;
    self->last = copy_padded(self, view.buf, 1, width);
    PyBuffer_Release(&view);
    if (self->last == NULL || read_fields(self, precomputed) < 0) return -1;
    self->places = allocate(self, CHUNK * self->num_precomputed);
    self->here = allocate(self, CHUNK * widest), self->there = allocate(self, CHUNK * widest);
    self->sums = allocate(self, padded(self->D)), self->squares = allocate(self, padded(self->D));
    int has_room = self->places && self->here && self->there && self->sums && self->squares;
    return has_room ? 0 : -1;
}
