/* Head: `models.network.head.Head` of a model with rectified layers, some rows at a time so that all of it stays in the caches. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

#include "scoring/kernels.h"
#include "simd/second_order.h"

#define CHUNK 256 /* rows at once */

/* A hidden layer after the first. */
typedef struct {
    Rows weight;
    float *bias; /* [width] */
} Layer;

/* A field of few rows: what each of them brings to the first layer is known. */
typedef struct {
    size_t field, first, num_rows; /* first: place of its products */
    int64_t start;                 /* its first row's number in the table */
} Known;

typedef struct {
    PyObject_HEAD
    const Kernels *kernels;
    size_t num_fields, D; /* D: the embedding and the first-order weight of a field */
    Known *known;         /* [F] */
    size_t num_known;
    float *products;      /* of known fields' rows and the first layer, [*, width] */
    uint32_t *others;     /* where the numbers of the other fields stand in a row, [F] */
    size_t num_others;
    uint32_t *places;     /* scratch [CHUNK, num_known] */
    Matrix first;        /* what the first layer makes of the others */
    float *first_bias;
    size_t num_hidden;   /* numbers of the first layer, not padded */
    Layer *layers;       /* those after it */
    size_t num_layers;
    float *last;                   /* [width of the last layer] */
    float bias;                    /* of the logit */
    float *here, *there;           /* scratch [CHUNK, widest] */
    float *sums;                   /* scratch [2, D padded] */
} Head;

/* The deep part, from the first layer's sums in `here`; it is added to the logits, with the bias. */
static void add_deep(Head *self, size_t rows, float *logits) {
    size_t width = self->first.width;
    self->kernels->rectify(self->here, rows, width, self->first_bias);
    for (const Layer *layer = self->layers; layer < self->layers + self->num_layers; layer++) {
        self->kernels->multiply_sparse(self->here, rows, &layer->weight, self->there);
        float *swapped = self->here;
        self->here = self->there, self->there = swapped;
        width = layer->weight.width;
        self->kernels->rectify(self->here, rows, width, layer->bias);
    }
    for (size_t i = 0; i < rows; i++) logits[i] += self->bias;
    self->kernels->add_dot(self->here, rows, width, self->last, logits);
}

/* First and second order, from the sums of the fields' numbers [D] and of their embeddings' squares. */
static float factorised(const float *sums, size_t D, float squares) {
    return sums[D - 1] + second_order(sums, D - 1, squares);
}

static void prefetch(const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 64 / sizeof *x) __builtin_prefetch(x + i);
}

static int get_floats(PyObject *array, Py_buffer *view, size_t multiple_of) {
    if (PyObject_GetBuffer(array, view, PyBUF_SIMPLE) < 0) return -1;
    if (view->len % (Py_ssize_t)(multiple_of * sizeof(float)) == 0) return 0;
    PyBuffer_Release(view);
    PyErr_Format(PyExc_ValueError, "expected float32 rows of %zu", multiple_of);
    return -1;
}

/* The places of some rows' known products, from their table rows ids [rows, F]; 0, or -1 with an exception. */
static int find_places(Head *self, const int64_t *ids, size_t rows) {
    uint32_t *place = self->places;
    for (size_t i = 0; i < rows; i++, ids += self->num_fields)
        for (size_t k = 0; k < self->num_known; k++) {
            const Known *known = &self->known[k];
            uint64_t at = (uint64_t)ids[known->field] - (uint64_t)known->start;
            if (at >= known->num_rows) return PyErr_Format(PyExc_ValueError, "a row that field %zu does not have", known->field), -1;
            *place++ = (uint32_t)(known->first + at);
        }
    return 0;
}

/* The first layer's sums of some rows: the other fields' in order, then what is known. */
static void multiply_fields(Head *self, const float *x, size_t rows) {
    const Pieces pieces = {self->num_others, self->D - 1, self->num_fields * self->D, self->others};
    self->kernels->multiply(x, &pieces, rows, &self->first, self->here);
    if (self->num_known > 0)
        self->kernels->add_products(self->products, self->places, self->num_known, rows, self->first.width, self->here);
}

static PyObject *Head_logits(Head *self, PyObject *args) {
    PyObject *arrays[2], *found = NULL;
    Py_buffer fields, ids;
    size_t stride = self->num_fields * self->D;
    if (!PyArg_ParseTuple(args, "OO", &arrays[0], &arrays[1]) || get_floats(arrays[0], &fields, stride) < 0) return NULL;
    if (get_floats(arrays[1], &ids, self->num_fields * sizeof(int64_t) / sizeof(float)) < 0) return PyBuffer_Release(&fields), NULL;
    size_t num_rows = (size_t)fields.len / (stride * sizeof(float));
    if ((size_t)ids.len != num_rows * self->num_fields * sizeof(int64_t)) {
        PyErr_Format(PyExc_ValueError, "not one row of the table for each field");
        goto release;
    }
    found = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(num_rows * sizeof(float)));
    if (found == NULL) goto release;
    const float *x = fields.buf;
    const int64_t *id = ids.buf;
    float *logits = (float *)PyBytes_AS_STRING(found);
    for (size_t row = 0, n; row < num_rows; row += n, x += n * stride, id += n * self->num_fields, logits += n) {
        n = num_rows - row < CHUNK ? num_rows - row : CHUNK;
        if (find_places(self, id, n) < 0) {
            Py_CLEAR(found);
            break;
        }
        multiply_fields(self, x, n);
        for (size_t i = 0; i < n; i++) {
            float squares = self->kernels->sum_fields(x + i * stride, self->num_fields, self->D, self->sums, self->sums + padded(self->D));
            logits[i] = factorised(self->sums, self->D, squares);
        }
        add_deep(self, n, logits);
    }
release:
    PyBuffer_Release(&fields), PyBuffer_Release(&ids);
    return found;
}

static PyObject *Head_rank(Head *self, PyObject *args) {
    PyObject *arrays[5], *found = NULL;
    Py_buffer views[5]; /* the context's product [H + D] and squares [1], candidates' [m, H + D] and [m], places int64 [n] */
    size_t H = self->num_hidden, width = H + self->D, multiples[] = {width, 1, width, 1, sizeof(int64_t) / sizeof(float)};
    if (!PyArg_ParseTuple(args, "OOOOO", &arrays[0], &arrays[1], &arrays[2], &arrays[3], &arrays[4])) return NULL;
    int num_views = 0;
    while (num_views < 5 && get_floats(arrays[num_views], &views[num_views], multiples[num_views]) == 0) num_views++;
    if (num_views < 5) goto release;
    size_t num_candidates = (size_t)views[3].len / sizeof(float), num_rows = (size_t)views[4].len / sizeof(int64_t);
    const float *context = views[0].buf, *candidates = views[2].buf, *squares = views[3].buf;
    const int64_t *places = views[4].buf;
    int fits = (size_t)views[0].len == width * sizeof(float) && (size_t)views[1].len == sizeof(float) &&
               (size_t)views[2].len == num_candidates * width * sizeof(float);
    for (size_t i = 0; i < num_rows; i++) fits &= (uint64_t)places[i] < num_candidates;
    if (!fits) {
        PyErr_Format(PyExc_ValueError, "halves of one context, as many candidates as squares, and places among them");
        goto release;
    }
    found = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(num_rows * sizeof(float)));
    if (found == NULL) goto release;
    const float context_squares = *(const float *)views[1].buf;
    float *logits = (float *)PyBytes_AS_STRING(found);
    size_t padded = self->first.width;
    for (size_t row = 0; row < num_rows; row += CHUNK, logits += CHUNK) {
        size_t n = num_rows - row < CHUNK ? num_rows - row : CHUNK;
        for (size_t i = 0; i < n; i++) {
            size_t place = (size_t)places[row + i];
            const float *candidate = candidates + place * width;
            if (row + i + 1 < num_rows) prefetch(candidates + (size_t)places[row + i + 1] * width, width);
            self->kernels->add(context, candidate, H, self->here + i * padded);
            memset(self->here + i * padded + H, 0, (padded - H) * sizeof(float));
            self->kernels->add(context + H, candidate + H, self->D, self->sums);
            logits[i] = factorised(self->sums, self->D, context_squares + squares[place]);
        }
        add_deep(self, n, logits);
    }
release:
    while (num_views > 0) PyBuffer_Release(&views[--num_views]);
    return found;
}

/* n numbers, 0, in whole cache lines: a vector that lies in two of them is read twice. NULL without memory. */
static float *allocate(size_t n) {
    size_t num_bytes = (n * sizeof(float) / 64 + 1) * 64;
    float *numbers = aligned_alloc(64, num_bytes);
    return numbers == NULL ? NULL : memset(numbers, 0, num_bytes);
}

/* A copy of width numbers, padded; the padding of a layer stays 0 all the way: no weight, no bias. */
static float *copy_padded(const float *numbers, size_t width) {
    float *copy = allocate(padded(width));
    if (copy != NULL) memcpy(copy, numbers, width * sizeof *copy);
    return copy;
}

/* weight [depth, width] in panels; 0, or -1 without memory. */
static int pack(Matrix *matrix, const float *weight, size_t depth, size_t width, size_t panel_width) {
    *matrix = (Matrix){allocate(depth * padded(width)), depth, padded(width)};
    if (matrix->panels == NULL) return -1;
    float *to = matrix->panels;
    for (size_t column = 0; column < matrix->width; column += panel_width)
        for (size_t k = 0; k < depth; k++)
            for (size_t j = column; j < column + panel_width && j < matrix->width; j++, to++)
                if (j < width) *to = weight[k * width + j];
    return 0;
}

/* weight [depth, width] in padded rows; 0, or -1 without memory. */
static int copy_rows(Rows *rows, const float *weight, size_t depth, size_t width) {
    *rows = (Rows){allocate(padded(depth) * stride(width)), padded(depth), padded(width)};
    if (rows->rows == NULL) return -1;
    for (size_t k = 0; k < depth; k++) memcpy(rows->rows + k * stride(width), weight + k * width, width * sizeof *weight);
    return 0;
}

/* The products of one known field's rows [num_rows, D] and its part of the first layer's weight [E, H]; 0, or -1 without
 * memory. */
static int compute_products(Head *self, const Known *known, const float *rows, const float *weight, size_t H) {
    static const uint32_t begin = 0;
    const Pieces embedding = {1, self->D - 1, self->D, &begin};
    Matrix own;
    if (pack(&own, weight, self->D - 1, H, self->kernels->panel_width) < 0) return -1;
    self->kernels->multiply(rows, &embedding, known->num_rows, &own, self->products + known->first * own.width);
    free(own.panels);
    return 0;
}

/* Read the first layer, weight [F * E, H], and the rows of the fields in `known`, of each (start, rows [n, D]) or None;
 * 0, or -1 with an exception. */
static int read_first_layer(Head *self, const float *weight, size_t H, PyObject *known) {
    size_t E = self->D - 1, num_products = 0;
    Py_buffer *rows = calloc(self->num_fields, sizeof *rows);
    float *others = malloc(self->num_fields * E * H * sizeof *others);
    int found = -1;
    if (rows == NULL || others == NULL) goto release;
    for (size_t f = 0; f < self->num_fields; f++) {
        PyObject *one = PyTuple_GetItem(known, (Py_ssize_t)f), *array;
        if (one == NULL) goto release;
        if (one == Py_None) {
            memcpy(others + self->num_others * E * H, weight + f * E * H, E * H * sizeof *others);
            self->others[self->num_others++] = (uint32_t)(f * self->D);
            continue;
        }
        long long start;
        if (!PyArg_ParseTuple(one, "LO", &start, &array) || get_floats(array, &rows[self->num_known], self->D) < 0) goto release;
        size_t num_rows = (size_t)rows[self->num_known].len / (self->D * sizeof(float));
        self->known[self->num_known++] = (Known){f, num_products, num_rows, start};
        num_products += num_rows;
    }
    self->products = allocate(num_products * padded(H));
    self->places = calloc(CHUNK * self->num_known + 1, sizeof *self->places);
    if (self->products == NULL || self->places == NULL) goto release;
    for (size_t k = 0; k < self->num_known; k++)
        if (compute_products(self, &self->known[k], rows[k].buf, weight + self->known[k].field * E * H, H) < 0) goto release;
    found = pack(&self->first, others, self->num_others * E, H, self->kernels->panel_width);
release:
    for (size_t k = 0; rows != NULL && k < self->num_known; k++) PyBuffer_Release(&rows[k]);
    free(rows), free(others);
    if (found < 0 && !PyErr_Occurred()) PyErr_NoMemory();
    return found;
}

/* Read the layers, (weight [depth, width], bias [width]) each; 0, or -1 with an exception. */
static int read_layers(Head *self, PyObject *layers, PyObject *last, PyObject *known) {
    size_t depth = self->num_fields * (self->D - 1), widest = 0, width = 0;
    for (size_t l = 0; l <= self->num_layers; l++, depth = width) {
        PyObject *weight, *bias;
        Py_buffer w, b;
        if (!PyArg_ParseTuple(PyTuple_GetItem(layers, (Py_ssize_t)l), "OO", &weight, &bias)) return -1;
        if (get_floats(bias, &b, 1) < 0) return -1;
        if (get_floats(weight, &w, 1) < 0) return PyBuffer_Release(&b), -1;
        width = (size_t)b.len / sizeof(float);
        float **copy = l == 0 ? &self->first_bias : &self->layers[l - 1].bias;
        int failed = 0;
        if (width == 0 || (size_t)w.len != depth * width * sizeof(float))
            failed = -1, PyErr_Format(PyExc_ValueError, "layer %zu does not fit the one before", l);
        else if (l == 0) failed = read_first_layer(self, w.buf, self->num_hidden = width, known);
        else failed = copy_rows(&self->layers[l - 1].weight, w.buf, depth, width);
        if (!failed && (*copy = copy_padded(b.buf, width)) == NULL) failed = -1;
        PyBuffer_Release(&w), PyBuffer_Release(&b);
        if (failed && !PyErr_Occurred()) PyErr_NoMemory();
        if (failed) return -1;
        widest = padded(width) > widest ? padded(width) : widest;
    }
    Py_buffer view;
    if (get_floats(last, &view, 1) < 0) return -1;
    int fits = (size_t)view.len == width * sizeof(float);
    if (fits) self->last = copy_padded(view.buf, width);
    PyBuffer_Release(&view);
    if (!fits) return PyErr_Format(PyExc_ValueError, "the last layer does not fit the one before"), -1;
    self->here = allocate(CHUNK * widest);
    self->there = allocate(CHUNK * widest);
    self->sums = allocate(2 * padded(self->D));
    if (self->last == NULL || self->here == NULL || self->there == NULL || self->sums == NULL) return PyErr_NoMemory(), -1;
    return 0;
}

static void Head_dealloc(Head *self) {
    for (size_t l = 0; self->layers != NULL && l < self->num_layers; l++)
        free(self->layers[l].weight.rows), free(self->layers[l].bias);
    free(self->first.panels), free(self->first_bias);
    free(self->known), free(self->products), free(self->others), free(self->places);
    free(self->layers), free(self->last), free(self->here), free(self->there), free(self->sums);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *Head_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"num_fields", "dim", "layers", "last", "bias", "known", NULL};
    Py_ssize_t num_fields, dim;
    PyObject *layers, *last, *known;
    float bias;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nnO!OfO!", names, &num_fields, &dim, &PyTuple_Type, &layers, &last, &bias,
                                     &PyTuple_Type, &known))
        return NULL;
    if (num_fields < 1 || dim < 2 || PyTuple_Size(known) != num_fields || num_fields > 1 << 20 || dim > 1 << 20 || PyTuple_Size(layers) < 1)
        return PyErr_Format(PyExc_ValueError, "sizes must be positive, and not too large");
    const Kernels *kernels = find_kernels();
    if (kernels == NULL) return PyErr_Format(PyExc_NotImplementedError, "no kernels for this processor");
    Head *self = (Head *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    self->kernels = kernels, self->num_fields = (size_t)num_fields, self->D = (size_t)dim, self->bias = bias;
    self->num_layers = (size_t)PyTuple_Size(layers) - 1;
    self->layers = calloc(self->num_layers + 1, sizeof *self->layers);
    self->known = calloc(self->num_fields, sizeof *self->known);
    self->others = calloc(self->num_fields, sizeof *self->others);
    int has_room = self->layers != NULL && self->known != NULL && self->others != NULL;
    if (!has_room) PyErr_NoMemory();
    if (!has_room || read_layers(self, layers, last, known) < 0) Py_CLEAR(self);
    return (PyObject *)self;
}

static PyMethodDef methods[] = {
    {"logits", (PyCFunction)Head_logits, METH_VARARGS, NULL},
    {"rank", (PyCFunction)Head_rank, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, Head_new}, {Py_tp_dealloc, Head_dealloc}, {Py_tp_methods, methods}, {0, NULL},
};

PyType_Spec head_spec = {"models._native.Head", sizeof(Head), 0, Py_TPFLAGS_DEFAULT, slots};
