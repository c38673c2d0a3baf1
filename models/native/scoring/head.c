/* Head: from pooled table rows to logits, a chunk of impressions at a time so that all of it stays in the caches. */
#include "scoring/head.h"

#include "buffers.h"
#include "simd/second_order.h"

/* Add the deep part and the bias to logits [rows]; `here` holds the first layer's products. */
static void add_deep(Head *self, size_t rows, float *logits) {
    const Layer *end = self->layers + self->num_layers;
    for (const Layer *layer = self->layers; layer < end; layer++) {
        if (layer != self->layers) {
            float *from = self->here;
            self->kernels->multiply_sparse(from, rows, &layer->weight, self->there);
            self->here = self->there, self->there = from;
        }
        layer->activate(self->here, rows, layer->width, layer->bias, layer->parameters);
    }
    for (size_t i = 0; i < rows; i++) logits[i] += self->bias;
    self->kernels->add_dot(self->here, rows, (end - 1)->width, self->last, logits);
}

/* Sum one impression's fields x [num_fields, D] into `sums`; return the sum of the squares of their embeddings. */
static float sum_fields(Head *self, const float *x, size_t num_fields) {
    self->kernels->sum_fields(x, num_fields, self->D, self->sums, self->squares);
    float squares = 0;
    for (size_t e = 0; e + 1 < self->D; e++) squares += self->squares[e];
    return squares;
}

/* First and second order of the fields whose sums are in `sums`. */
static float lower_orders(const Head *self, float squares) {
    return self->sums[self->D - 1] + second_order(self->sums, self->D - 1, squares);
}

/* Find the precomputed products of some impressions from their table rows ids [rows, F]; 0, or -1 with an exception. */
static int find_places(Head *self, const int64_t *ids, size_t rows) {
    uint32_t *place = self->places;
    for (size_t i = 0; i < rows; i++, ids += self->num_fields)
        for (size_t p = 0; p < self->num_precomputed; p++) {
            const Precomputed *one = &self->precomputed[p];
            uint64_t at = (uint64_t)ids[one->field] - (uint64_t)one->start;
            if (at >= one->num_rows) {
                PyErr_Format(PyExc_ValueError, "field %zu has no table row %lld", one->field, (long long)ids[one->field]);
                return -1;
            }
            *place++ = (uint32_t)(one->first + at);
        }
    return 0;
}

static PyObject *Head_logits(Head *self, PyObject *args) {
    PyObject *arrays[2], *found = NULL;
    Py_buffer fields, ids;
    size_t F = self->num_fields, stride = F * self->D;
    if (!PyArg_ParseTuple(args, "OO", &arrays[0], &arrays[1])) return NULL;
    if (get_array(arrays[1], INT64, ANY_COUNT, 0, &ids) < 0) return NULL;
    size_t num_rows = (size_t)ids.len / sizeof(int64_t) / F;
    if (get_array(arrays[0], FLOAT32, num_rows * stride, 0, &fields) < 0) return PyBuffer_Release(&ids), NULL;
    if ((size_t)ids.len != num_rows * F * sizeof(int64_t)) PyErr_Format(PyExc_ValueError, "expected %zu ids an impression", F);
    else found = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(num_rows * sizeof(float)));
    for (size_t row = 0, n; found != NULL && row < num_rows; row += n) {
        const float *x = (const float *)fields.buf + row * stride;
        float *logits = (float *)PyBytes_AS_STRING(found) + row;
        n = num_rows - row < CHUNK ? num_rows - row : CHUNK;
        if (find_places(self, (const int64_t *)ids.buf + row * F, n) < 0) {
            Py_CLEAR(found);
            break;
        }
        self->kernels->multiply(x, &self->others, n, &self->first, self->here);
        if (self->num_precomputed > 0)
            self->kernels->add_products(self->products, self->places, self->num_precomputed, n, self->first.width, self->here);
        for (size_t i = 0; i < n; i++) logits[i] = lower_orders(self, sum_fields(self, x + i * stride, F));
        add_deep(self, n, logits);
    }
    PyBuffer_Release(&fields), PyBuffer_Release(&ids);
    return found;
}

/* product [n, H + D] and squares [n] of fields x [n, num_fields, D], of which `pieces` says how they are multiplied. */
static void add_up(Head *self, const float *x, size_t n, size_t num_fields, const Pieces *pieces, float *product, float *squares) {
    for (size_t rows; n > 0; n -= rows, x += rows * pieces->stride) {
        rows = n < CHUNK ? n : CHUNK;
        self->kernels->multiply(x, pieces, rows, &self->first, self->here);
        for (size_t i = 0; i < rows; i++, product += self->H + self->D) {
            *squares++ = sum_fields(self, x + i * pieces->stride, num_fields);
            memcpy(product, self->here + i * self->first.width, self->H * sizeof *product);
            memcpy(product + self->H, self->sums, self->D * sizeof *product);
        }
    }
}

static PyObject *Head_side_activations(Head *self, PyObject *args) {
    PyObject *arrays[2], *product = NULL, *squares = NULL, *found = NULL;
    Py_buffer positions, fields;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "OOn", &arrays[0], &arrays[1], &n)) return NULL;
    if (n < 0) return PyErr_Format(PyExc_ValueError, "expected a number of impressions");
    if (get_array(arrays[0], INT64, ANY_COUNT, 0, &positions) < 0) return NULL;
    size_t count = (size_t)positions.len / sizeof(int64_t);
    if (get_array(arrays[1], FLOAT32, (size_t)n * count * self->D, 0, &fields) < 0) return PyBuffer_Release(&positions), NULL;
    uint32_t *at = PyMem_Calloc(2 * count + 1, sizeof *at);
    Pieces pieces = {count, self->D - 1, count * self->D, at, at + count};
    const int64_t *position = positions.buf;
    int fits = at != NULL;
    for (size_t i = 0; fits && i < count; i++) {
        fits = (uint64_t)position[i] < self->num_fields;
        at[i] = (uint32_t)(i * self->D), pieces.row[i] = (uint32_t)((size_t)position[i] * (self->D - 1));
    }
    if (at == NULL) PyErr_NoMemory();
    else if (!fits) PyErr_Format(PyExc_ValueError, "expected positions of fields, 0 to %zu", self->num_fields - 1);
    else {
        product = PyBytes_FromStringAndSize(NULL, n * (Py_ssize_t)((self->H + self->D) * sizeof(float)));
        squares = PyBytes_FromStringAndSize(NULL, n * (Py_ssize_t)sizeof(float));
    }
    if (product != NULL && squares != NULL) {
        add_up(self, fields.buf, (size_t)n, count, &pieces, (float *)PyBytes_AS_STRING(product), (float *)PyBytes_AS_STRING(squares));
        found = PyTuple_Pack(2, product, squares);
    }
    Py_XDECREF(product), Py_XDECREF(squares);
    PyMem_Free(at);
    PyBuffer_Release(&positions), PyBuffer_Release(&fields);
    return found;
}

static void prefetch(const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 64 / sizeof *x) __builtin_prefetch(x + i);
}

static void add(const float *a, const float *b, size_t n, float *to) {
    for (size_t i = 0; i < n; i++) to[i] = a[i] + b[i];
}

/* Score some of the candidates, with products [*, H + D] and squares [*], in the context's company. */
static void score_candidates(Head *self, const float *context, float context_squares, const float *products,
                             const float *squares, const int64_t *places, size_t num_rows, float *logits) {
    size_t H = self->H, width = H + self->D, padded_width = self->first.width;
    for (size_t n; num_rows > 0; num_rows -= n, places += n, logits += n) {
        n = num_rows < CHUNK ? num_rows : CHUNK;
        for (size_t i = 0; i < n; i++) {
            const float *candidate = products + (size_t)places[i] * width;
            float *here = self->here + i * padded_width;
            if (i + 1 < num_rows) prefetch(products + (size_t)places[i + 1] * width, width);
            add(context, candidate, H, here);
            memset(here + H, 0, (padded_width - H) * sizeof *here);
            add(context + H, candidate + H, self->D, self->sums);
            logits[i] = lower_orders(self, context_squares + squares[places[i]]);
        }
        add_deep(self, n, logits);
    }
}

static PyObject *Head_rank(Head *self, PyObject *args) {
    PyObject *arrays[5], *found = NULL; /* places, squares and products of candidates, squares and product of the context */
    Py_buffer views[5] = {0};
    size_t m = 0, width = self->H + self->D;
    if (!PyArg_ParseTuple(args, "OOOOO", &arrays[4], &arrays[3], &arrays[2], &arrays[1], &arrays[0])) return NULL;
    for (int i = 0; i < 5; i++) {
        const size_t counts[] = {ANY_COUNT, ANY_COUNT, m * width, 1, width};
        if (get_array(arrays[i], i == 0 ? INT64 : FLOAT32, counts[i], 0, &views[i]) < 0) goto release;
        if (i == 1) m = (size_t)views[1].len / sizeof(float);
    }
    const int64_t *places = views[0].buf;
    size_t num_rows = (size_t)views[0].len / sizeof(int64_t);
    int fits = 1;
    for (size_t i = 0; i < num_rows; i++) fits &= (uint64_t)places[i] < m;
    if (!fits) PyErr_Format(PyExc_ValueError, "expected places among %zu candidates", m);
    else found = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(num_rows * sizeof(float)));
    if (found != NULL)
        score_candidates(self, views[4].buf, *(const float *)views[3].buf, views[2].buf, views[1].buf, places, num_rows,
                         (float *)PyBytes_AS_STRING(found));
release:
    for (int i = 0; i < 5; i++) PyBuffer_Release(&views[i]);
    return found;
}

static void Head_dealloc(Head *self) {
    PyTypeObject *type = Py_TYPE(self);
    head_free_weights(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *Head_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"num_fields", "embedding_dim", "layers", "last", "bias", "precomputed", "longest", NULL};
    Py_ssize_t F, E, longest = 16;
    PyObject *layers, *last, *precomputed;
    float bias;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nnO!OfO!|n", names, &F, &E, &PyTuple_Type, &layers, &last, &bias,
                                     &PyTuple_Type, &precomputed, &longest))
        return NULL;
    if (F < 1 || E < 1 || F > 1 << 15 || E > 1 << 15 || PyTuple_GET_SIZE(precomputed) != F || PyTuple_GET_SIZE(layers) < 1)
        return PyErr_Format(PyExc_ValueError, "expected 1 to 32,768 fields and embedding numbers, and at least one layer");
    Head *self = (Head *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    self->kernels = find_kernels((size_t)longest);
    self->num_fields = (size_t)F, self->D = (size_t)E + 1, self->bias = bias;
    if (head_read_weights(self, layers, last, precomputed) < 0) Py_CLEAR(self);
    return (PyObject *)self;
}

static PyMethodDef methods[] = {
    {"logits", (PyCFunction)Head_logits, METH_VARARGS, NULL},
    {"side_activations", (PyCFunction)Head_side_activations, METH_VARARGS, NULL},
    {"rank", (PyCFunction)Head_rank, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, Head_new}, {Py_tp_dealloc, Head_dealloc}, {Py_tp_methods, methods}, {0, NULL},
};

PyType_Spec head_spec = {"models._native.Head", sizeof(Head), 0, Py_TPFLAGS_DEFAULT, slots};
