/* RowReader: `request.h` for Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "scoring/request.h"

typedef struct {
    PyObject_HEAD
    Request request;
    PyObject **names; /* of the fields that are set, [F] */
    size_t num_set;
    Block *blocks;
    size_t num_blocks;
    Py_buffer *buffers; /* arrays that blocks and fields point into */
    size_t num_buffers;
} Reader;

/* Ids, offsets and weights as `EncodedBatch` has them; 0, or -1 with an exception. */
static int make_bags(const Request *r, size_t num_cells, PyObject **ids, PyObject **offsets, PyObject **weights) {
    size_t n = 0;
    for (size_t c = 0; c < num_cells; c++) n += r->counts[c] ? (size_t)r->counts[c] : 1;
    *ids = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(n * sizeof(int64_t)));
    *offsets = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)((num_cells + 1) * sizeof(int64_t)));
    *weights = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(n * sizeof(float)));
    if (*ids == NULL || *offsets == NULL || *weights == NULL) return -1;
    int64_t *id = (int64_t *)PyBytes_AS_STRING(*ids), *offset = (int64_t *)PyBytes_AS_STRING(*offsets), at = 0;
    float *weight = (float *)PyBytes_AS_STRING(*weights);
    for (size_t c = 0; c < num_cells; c++) {
        int64_t count = r->counts[c] ? r->counts[c] : 1;
        const int64_t *rows = r->counts[c] ? r->tail + r->cells[c] : r->cells + c;
        offset[c] = at;
        for (int64_t i = 0; i < count; i++) id[at + i] = rows[i], weight[at + i] = (float)(1.0 / (double)count);
        at += count;
    }
    offset[num_cells] = at;
    return 0;
}

/* How many values of each field were missing, or unseen, by its name; of fields that had some. */
static PyObject *make_counts(const Reader *self, int is_unseen) {
    PyObject *found = PyDict_New();
    for (size_t f = 0; found != NULL && f < self->request.num_fields; f++) {
        const Field *field = &self->request.fields[f];
        size_t n = is_unseen ? field->num_unseen : field->num_missing;
        if (n == 0) continue;
        PyObject *number = PyLong_FromSize_t(n);
        if (number == NULL || PyDict_SetItem(found, self->names[f], number) < 0) Py_CLEAR(found);
        Py_XDECREF(number);
    }
    return found;
}

static PyObject *Reader_read(Reader *self, PyObject *body) {
    const Request *r = &self->request;
    /* Bytes alone end with a NUL that nobody changes. */
    if (!PyBytes_CheckExact(body) || self->num_set < r->num_fields) Py_RETURN_NONE;
    size_t num_bytes = (size_t)PyBytes_GET_SIZE(body);
    size_t num_rows = request_read(&self->request, (const uint8_t *)PyBytes_AS_STRING(body), num_bytes);
    if (num_rows == 0) Py_RETURN_NONE;
    size_t num_cells = num_rows * r->num_fields;
    PyObject *ids = NULL, *offsets = NULL, *weights = NULL, *found = NULL;
    PyObject *missing = make_counts(self, 0), *unseen = make_counts(self, 1);
    if (missing != NULL && unseen != NULL) {
        if (r->counts == NULL) {
            ids = PyBytes_FromStringAndSize((const char *)r->cells, (Py_ssize_t)(num_cells * sizeof(int64_t)));
            if (ids != NULL) found = Py_BuildValue("OOOOO", ids, Py_None, Py_None, missing, unseen);
        } else if (make_bags(r, num_cells, &ids, &offsets, &weights) == 0) {
            found = Py_BuildValue("OOOOO", ids, offsets, weights, missing, unseen);
        }
    }
    Py_XDECREF(ids), Py_XDECREF(offsets), Py_XDECREF(weights), Py_XDECREF(missing), Py_XDECREF(unseen);
    return found;
}

static Py_buffer *keep(Reader *self, PyObject *array) {
    if (self->num_buffers == self->request.num_fields * 5) return PyErr_Format(PyExc_ValueError, "too many arrays"), NULL;
    if (PyObject_GetBuffer(array, &self->buffers[self->num_buffers], PyBUF_SIMPLE) < 0) return NULL;
    return &self->buffers[self->num_buffers++];
}

static PyObject *Reader_add_vocabulary(Reader *self, PyObject *args) {
    PyObject *arrays[4];
    Py_buffer *kept[4];
    if (!PyArg_ParseTuple(args, "OOOO", &arrays[0], &arrays[1], &arrays[2], &arrays[3])) return NULL;
    if (self->num_blocks == self->request.num_fields) return PyErr_Format(PyExc_ValueError, "more blocks than fields");
    for (int i = 0; i < 4; i++)
        if ((kept[i] = keep(self, arrays[i])) == NULL) return NULL;
    Py_ssize_t n = kept[0]->len / 8;
    if (kept[1]->len != 8 * n || kept[2]->len != 8 * n || (uint64_t)n >= UINT32_MAX)
        return PyErr_Format(PyExc_ValueError, "the arrays of a vocabulary differ in length, or are too long");
    Block *block = &self->blocks[self->num_blocks];
    *block = (Block){.hashes = kept[0]->buf, .positions = kept[1]->buf, .ends = kept[2]->buf, .text = kept[3]->buf,
                     .n = (uint64_t)n, .text_bytes = (uint64_t)kept[3]->len};
    int failed;
    Py_BEGIN_ALLOW_THREADS;
    failed = block_build_index(block);
    Py_END_ALLOW_THREADS;
    if (failed) return PyErr_NoMemory();
    return PyLong_FromSize_t(self->num_blocks++);
}

static PyObject *Reader_add_hashing(Reader *self, PyObject *args) {
    unsigned long long buckets;
    if (!PyArg_ParseTuple(args, "K", &buckets)) return NULL;
    if (self->num_blocks == self->request.num_fields || buckets == 0)
        return PyErr_Format(PyExc_ValueError, "more blocks than fields, or no buckets");
    self->blocks[self->num_blocks] = (Block){.buckets = buckets};
    return PyLong_FromSize_t(self->num_blocks++);
}

static PyObject *Reader_add_field(Reader *self, PyObject *args) {
    Py_ssize_t block, max_length, key_bytes;
    int kind;
    long long start;
    PyObject *name, *boundaries;
    Request *r = &self->request;
    if (!PyArg_ParseTuple(args, "UinLnO", &name, &kind, &block, &start, &max_length, &boundaries)) return NULL;
    if (self->num_set == r->num_fields || kind < TEXT || kind > NUMBER || max_length < 0 ||
        (kind != NUMBER && (block < 0 || (size_t)block >= self->num_blocks)))
        return PyErr_Format(PyExc_ValueError, "no such field or block");
    const char *key = PyUnicode_AsUTF8AndSize(name, &key_bytes);
    if (key == NULL) return NULL;
    for (Py_ssize_t i = 0; i < key_bytes; i++)
        if ((uint8_t)key[i] < 0x20 || key[i] == '"' || key[i] == '\\')
            return PyErr_Format(PyExc_ValueError, "JSON has no plain form of this name");
    Py_buffer *kept = keep(self, boundaries);
    if (kept == NULL) return NULL;
    if (max_length > 0 && r->counts == NULL) {
        r->counts = calloc(r->max_rows * r->num_fields, sizeof *r->counts);
        if (r->counts == NULL) return PyErr_NoMemory();
    }
    self->names[self->num_set] = Py_NewRef(name);
    r->fields[self->num_set++] = (Field){
        .key = (const uint8_t *)key, .key_bytes = (size_t)key_bytes, .kind = (enum kind)kind, .start = start,
        .max_length = (size_t)max_length, .block = kind == NUMBER ? NULL : &self->blocks[block],
        .boundaries = kept->buf, .num_boundaries = (size_t)kept->len / sizeof(double)};
    Py_RETURN_NONE;
}

static void Reader_dealloc(Reader *self) {
    for (size_t f = 0; f < self->num_set; f++) Py_DECREF(self->names[f]);
    for (size_t i = 0; i < self->num_blocks; i++) free(self->blocks[i].index);
    for (size_t i = 0; i < self->num_buffers; i++) PyBuffer_Release(&self->buffers[i]);
    request_free(&self->request);
    free(self->request.fields), free(self->names), free(self->blocks), free(self->buffers);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *Reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"num_fields", "max_rows", "max_chars", "max_sequence", NULL};
    const Py_ssize_t most = 1 << 20;
    Py_ssize_t num_fields, max_rows, max_chars, max_sequence;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nnnn", names, &num_fields, &max_rows, &max_chars, &max_sequence))
        return NULL;
    if (num_fields < 1 || max_rows < 1 || max_chars < 1 || max_sequence < 1 || num_fields > most || max_rows > most ||
        max_chars > most || max_sequence > most)
        return PyErr_Format(PyExc_ValueError, "sizes must be from 1 to %zd", most);
    Reader *self = (Reader *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    Request *r = &self->request;
    r->num_fields = (size_t)num_fields, r->max_rows = (size_t)max_rows;
    r->max_chars = (size_t)max_chars, r->max_sequence = (size_t)max_sequence;
    r->fields = calloc(r->num_fields, sizeof *r->fields);
    self->names = calloc(r->num_fields, sizeof *self->names);
    self->blocks = calloc(r->num_fields, sizeof *self->blocks);
    self->buffers = calloc(r->num_fields * 5, sizeof *self->buffers); /* four of a vocabulary, the boundaries */
    if (r->fields == NULL || self->names == NULL || self->blocks == NULL || self->buffers == NULL || request_init(r) < 0) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static PyMethodDef methods[] = {
    {"add_vocabulary", (PyCFunction)Reader_add_vocabulary, METH_VARARGS, NULL},
    {"add_hashing", (PyCFunction)Reader_add_hashing, METH_VARARGS, NULL},
    {"add_field", (PyCFunction)Reader_add_field, METH_VARARGS, NULL},
    {"read", (PyCFunction)Reader_read, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, Reader_new}, {Py_tp_dealloc, Reader_dealloc}, {Py_tp_methods, methods}, {0, NULL},
};

PyType_Spec reader_spec = {"models._native.RowReader", sizeof(Reader), 0, Py_TPFLAGS_DEFAULT, slots};
