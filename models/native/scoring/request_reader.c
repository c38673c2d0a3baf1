/* RequestReader: `request.h` as a Python object. */
#include <math.h>
#include <stdlib.h>

#include "buffers.h"
#include "scoring/request.h"
#include "scoring/token_block.h"

typedef struct {
    PyObject_HEAD
    Rows rows;
    PyObject *fields;      /* the tuple that the fields were made from; it keeps names and blocks alive */
    PyObject *others;      /* names of the fields of the other side */
    Py_buffer *boundaries; /* [num_fields] */
    PyObject *derive;      /* the texts of the sources, or None -> a tuple of table rows, or None */
    PyObject *separator, *nulls;
} RequestReader;

static int derive_rows(void *context, const Time *times, int64_t *rows) {
    RequestReader *self = context;
    const Rows *r = &self->rows;
    PyObject *texts = PyTuple_New((Py_ssize_t)r->num_sources), *found = NULL;
    int failed = texts == NULL ? -2 : 0;
    for (size_t s = 0; !failed && s < r->num_sources; s++) {
        PyObject *text = Py_NewRef(Py_None);
        if (times[s].num_bytes > 0) {
            Py_DECREF(text);
            text = PyUnicode_DecodeUTF8((const char *)times[s].text, times[s].num_bytes, "strict");
        }
        if (text == NULL) failed = -2;
        else PyTuple_SET_ITEM(texts, (Py_ssize_t)s, text);
    }
    if (!failed) found = PyObject_Call(self->derive, texts, NULL);
    Py_XDECREF(texts);
    if (found == NULL) return -2;
    if (found == Py_None) failed = -1;
    else if (!PyTuple_Check(found) || (size_t)PyTuple_GET_SIZE(found) != r->num_derived) {
        PyErr_SetString(PyExc_TypeError, "expected a row for each derived field");
        failed = -2;
    }
    for (size_t d = 0; !failed && d < r->num_derived; d++) {
        rows[d] = PyLong_AsLongLong(PyTuple_GET_ITEM(found, (Py_ssize_t)d));
        if (PyErr_Occurred()) failed = -2;
    }
    Py_DECREF(found);
    return failed;
}

/* Return ids int64, offsets int64 and weights float32 as bytes, as `EncodedBatch` has them; offsets and weights are None if
 * each field has one id. */
static PyObject *make_batch(const Rows *r) {
    size_t num_cells = r->num_rows * r->num_fields, n = 0;
    if (r->counts == NULL)
        return Py_BuildValue("y#OO", r->cells, (Py_ssize_t)(num_cells * sizeof(int64_t)), Py_None, Py_None);
    for (size_t c = 0; c < num_cells; c++) n += r->counts[c] ? (size_t)r->counts[c] : 1;
    PyObject *ids = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(n * sizeof(int64_t)));
    PyObject *offsets = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)((num_cells + 1) * sizeof(int64_t)));
    PyObject *weights = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(n * sizeof(float)));
    PyObject *batch = NULL;
    if (ids != NULL && offsets != NULL && weights != NULL) {
        int64_t *id = (int64_t *)PyBytes_AS_STRING(ids), *offset = (int64_t *)PyBytes_AS_STRING(offsets), at = 0;
        float *weight = (float *)PyBytes_AS_STRING(weights);
        const Field *field = r->fields; /* of the cell */
        for (size_t c = 0; c < num_cells; c++) {
            int64_t count = r->counts[c] ? r->counts[c] : 1;
            const int64_t *rows = r->counts[c] ? r->tail + r->cells[c] : r->cells + c;
            double divisor = field->pooling == SQRTN ? sqrt((double)count) : (double)count;
            if (++field == r->fields + r->num_fields) field = r->fields;
            offset[c] = at;
            for (int64_t i = 0; i < count; i++) id[at + i] = rows[i], weight[at + i] = (float)(1.0 / divisor);
            at += count;
        }
        offset[num_cells] = at;
        batch = Py_BuildValue("OOO", ids, offsets, weights);
    }
    Py_XDECREF(ids), Py_XDECREF(offsets), Py_XDECREF(weights);
    return batch;
}

/* counts[name] = n, unless n is 0; 0, or -1 with an exception. Takes over the reference to `name`. */
static int set_count(PyObject *counts, PyObject *name, size_t n) {
    PyObject *number = n > 0 && name != NULL ? PyLong_FromSize_t(n) : NULL;
    int failed = name == NULL || (n > 0 && (number == NULL || PyDict_SetItem(counts, name, number) < 0));
    Py_XDECREF(number), Py_XDECREF(name);
    return failed ? -1 : 0;
}

static PyObject *make_special(const RequestReader *self, int is_unseen) {
    PyObject *counts = PyDict_New();
    for (size_t f = 0; counts != NULL && f < self->rows.num_fields; f++) {
        const Field *field = &self->rows.fields[f];
        size_t n = is_unseen ? field->num_unseen : field->num_missing;
        if (n == 0) continue;
        PyObject *name = PyTuple_GET_ITEM(PyTuple_GET_ITEM(self->fields, (Py_ssize_t)f), 0);
        if (set_count(counts, Py_NewRef(name), n) < 0) Py_CLEAR(counts);
    }
    return counts;
}

static PyObject *make_unknown(const FieldNames *names) {
    PyObject *counts = PyDict_New();
    for (size_t i = 0; counts != NULL && i < names->num_unknown; i++) {
        const Name *name = &names->names[names->num_fields + i];
        PyObject *text = PyUnicode_DecodeASCII((const char *)name->text, (Py_ssize_t)name->num_bytes, NULL);
        if (set_count(counts, text, name->count) < 0) Py_CLEAR(counts);
    }
    if (counts == NULL || names->num_strange + names->num_others == 0) return counts;
    if (set_count(counts, PyUnicode_FromString("(not a plain name)"), names->num_strange) < 0 ||
        set_count(counts, PyUnicode_FromString("(others)"), names->num_others) < 0)
        Py_CLEAR(counts);
    return counts;
}

/* The batch, missing, unseen and unknown counts. The batch is None without rows or fields. */
static PyObject *make_reading(const RequestReader *self) {
    const Rows *r = &self->rows;
    return Py_BuildValue("NNNN", r->num_rows * r->num_fields > 0 ? make_batch(r) : Py_NewRef(Py_None),
                         make_special(self, 0), make_special(self, 1), make_unknown(&r->names));
}

/* Message, row and name of the field of a fault. */
static PyObject *make_fault(const Fault *fault) {
    PyObject *row = fault->row < 0 ? Py_NewRef(Py_None) : PyLong_FromSsize_t(fault->row);
    const char *message = fault->message[0] ? fault->message : "the body cannot be read";
    return Py_BuildValue("sNz#", message, row, fault->field.text, (Py_ssize_t)fault->field.num_bytes);
}

/* (reading, None), or (None, fault). Only bytes objects are known to end with a NUL that nobody changes. */
static PyObject *RequestReader_read_predict(RequestReader *self, PyObject *body) {
    if (!PyBytes_CheckExact(body)) return PyErr_Format(PyExc_TypeError, "expected bytes");
    Fault fault = {.row = -1};
    const uint8_t *text = (const uint8_t *)PyBytes_AS_STRING(body);
    int failed = read_predict(&self->rows, text, (size_t)PyBytes_GET_SIZE(body), &fault);
    if (failed == -2) return NULL;
    if (failed) return Py_BuildValue("ON", Py_None, make_fault(&fault));
    return Py_BuildValue("NO", make_reading(self), Py_None);
}

/* ((context, candidates, candidate_ids or None, top_k or 0), None), or (None, fault); `self` reads the context. */
static PyObject *RequestReader_read_rank(RequestReader *self, PyObject *args) {
    RequestReader *candidates;
    PyObject *body, *found = NULL;
    if (!PyArg_ParseTuple(args, "O!S", Py_TYPE(self), &candidates, &body)) return NULL;
    if (candidates == self || !PyBytes_CheckExact(body)) return PyErr_Format(PyExc_TypeError, "expected another reader, and bytes");
    if (self->rows.num_others != candidates->rows.num_fields)
        return PyErr_Format(PyExc_ValueError, "the other reader has other fields");
    Fault fault = {.row = -1};
    RankRequest request = {.context = &self->rows, .candidates = &candidates->rows,
                           .decoded = PyMem_Malloc(4 * candidates->rows.max_chars)};
    if (request.decoded == NULL) return PyErr_NoMemory();
    int failed = read_rank(&request, (const uint8_t *)PyBytes_AS_STRING(body), (size_t)PyBytes_GET_SIZE(body), &fault);
    if (failed == -1) found = Py_BuildValue("ON", Py_None, make_fault(&fault));
    if (failed == 0) {
        PyObject *ids = request.candidate_ids != NULL ? request.candidate_ids : Py_None;
        found = Py_BuildValue("(NNOL)O", make_reading(self), make_reading(candidates), ids, (long long)request.top_k, Py_None);
    }
    Py_XDECREF(request.candidate_ids);
    PyMem_Free(request.decoded);
    return found;
}

static int add_name(FieldNames *names, PyObject *text) {
    Py_ssize_t num_bytes;
    const char *name = PyUnicode_AsUTF8AndSize(text, &num_bytes);
    if (name == NULL) return -1;
    for (Py_ssize_t i = 0; i < num_bytes; i++)
        if ((uint8_t)name[i] < 0x20 || name[i] == '"' || name[i] == '\\')
            return PyErr_SetString(PyExc_ValueError, "JSON writes a field's name in more than one way"), -1;
    if (field_names_add(names, (const uint8_t *)name, (size_t)num_bytes) < 0)
        return PyErr_SetString(PyExc_ValueError, "two fields have the same name"), -1;
    return 0;
}

/* Set the names of the sources and the places of the derived fields; 0, or -1 with an exception. */
static int add_sources(RequestReader *self, PyObject *sources, PyObject *derived) {
    Rows *r = &self->rows;
    for (size_t s = 0; s < r->num_sources; s++)
        if (add_name(&r->names, PyTuple_GET_ITEM(sources, (Py_ssize_t)s)) < 0) return -1;
    for (size_t d = 0; d < r->num_derived; d++) {
        r->derived[d] = PyLong_AsSize_t(PyTuple_GET_ITEM(derived, (Py_ssize_t)d));
        if (PyErr_Occurred()) return -1;
        if (r->derived[d] >= r->num_fields || r->fields[r->derived[d]].max_length > 0)
            return PyErr_SetString(PyExc_ValueError, "a derived field is one of the fields, and no sequence"), -1;
    }
    r->derive = derive_rows, r->derive_context = self;
    return 0;
}

/* Set the texts that are nulls; 0, or -1 with an exception. */
static int add_nulls(Rows *r, PyObject *nulls) {
    if (PyTuple_GET_SIZE(nulls) > MAX_NULLS) return PyErr_SetString(PyExc_ValueError, "too many texts that are nulls"), -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(nulls); i++) {
        Py_ssize_t num_bytes;
        const char *text = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(nulls, i), &num_bytes);
        if (text == NULL) return -1;
        r->nulls[r->num_nulls++] = (Text){(const uint8_t *)text, (uint32_t)num_bytes};
    }
    return 0;
}

/* Set a field from (name, kind, block or None, start, max_length, pooling, boundaries); 0, or -1 with an exception. */
static int add_field(RequestReader *self, PyObject *description) {
    Rows *r = &self->rows;
    size_t f = r->names.num_fields;
    Py_ssize_t max_length;
    int kind, pooling;
    long long start;
    PyObject *text, *block, *boundaries;
    if (!PyTuple_Check(description)) return PyErr_SetString(PyExc_TypeError, "expected a tuple for each field"), -1;
    if (!PyArg_ParseTuple(description, "UiOLniO", &text, &kind, &block, &start, &max_length, &pooling, &boundaries))
        return -1;
    if (kind < TEXT || kind > NUMBER || pooling < MEAN || pooling > SQRTN || max_length < 0 ||
        (kind == NUMBER && max_length > 0) || (kind != NUMBER && token_block(block) == NULL))
        return PyErr_SetString(PyExc_ValueError, "a field's kind does not fit its block, length or pooling"), -1;
    if (add_name(&r->names, text) < 0) return -1;
    Py_buffer *view = &self->boundaries[f];
    if (get_array(boundaries, FLOAT64, ANY_COUNT, 0, view) < 0) return -1;
    if (max_length > 0 && r->counts == NULL) {
        r->counts = calloc((r->max_rows + 1) * r->num_fields, sizeof *r->counts);
        if (r->counts == NULL) return PyErr_NoMemory(), -1;
    }
    r->starts[f] = start;
    r->fields[f] = (Field){.kind = (enum kind)kind, .start = start, .max_length = (size_t)max_length,
                           .pooling = (enum pooling)pooling, .block = kind == NUMBER ? NULL : token_block(block),
                           .boundaries = view->buf, .num_boundaries = (size_t)view->len / sizeof(double)};
    return 0;
}

static void RequestReader_dealloc(RequestReader *self) {
    PyTypeObject *type = Py_TYPE(self);
    for (size_t f = 0; self->boundaries != NULL && f < self->rows.num_fields; f++) PyBuffer_Release(&self->boundaries[f]);
    rows_free(&self->rows);
    free(self->boundaries);
    Py_XDECREF(self->fields), Py_XDECREF(self->others), Py_XDECREF(self->derive), Py_XDECREF(self->separator);
    Py_XDECREF(self->nulls);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *RequestReader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"fields", "max_rows", "max_chars", "separator", "nulls", "sources", "derived", "derive", "others", NULL};
    const Py_ssize_t most = 1 << 20;
    Py_ssize_t max_rows, max_chars, num_bytes;
    PyObject *fields, *separator, *nulls, *sources, *derived, *derive, *others = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!nnUO!O!O!O|O!", names, &PyTuple_Type, &fields, &max_rows, &max_chars,
                                     &separator, &PyTuple_Type, &nulls, &PyTuple_Type, &sources, &PyTuple_Type, &derived, &derive,
                                     &PyTuple_Type, &others))
        return NULL;
    if (max_rows < 1 || max_chars < 1 || max_rows > most || max_chars > most)
        return PyErr_Format(PyExc_ValueError, "sizes must be from 1 to %zd", most);
    const char *text = PyUnicode_AsUTF8AndSize(separator, &num_bytes);
    if (text == NULL) return NULL;
    if (num_bytes == 0 || PyTuple_GET_SIZE(sources) > MAX_SOURCES || PyTuple_GET_SIZE(derived) > MAX_SOURCES)
        return PyErr_Format(PyExc_ValueError, "expected a separator, and at most %d sources and derived fields", MAX_SOURCES);
    RequestReader *self = (RequestReader *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    Rows *r = &self->rows;
    r->num_fields = (size_t)PyTuple_GET_SIZE(fields), r->max_rows = (size_t)max_rows;
    r->max_chars = (size_t)max_chars;
    r->num_sources = (size_t)PyTuple_GET_SIZE(sources), r->num_derived = (size_t)PyTuple_GET_SIZE(derived);
    r->separator = (Text){(const uint8_t *)text, (uint32_t)num_bytes};
    self->separator = Py_NewRef(separator), self->nulls = Py_NewRef(nulls), self->derive = Py_NewRef(derive);
    r->fields = calloc(r->num_fields + 1, sizeof *r->fields);
    self->boundaries = calloc(r->num_fields + 1, sizeof *self->boundaries);
    self->fields = Py_NewRef(fields), self->others = Py_XNewRef(others);
    r->num_others = others == NULL ? 0 : (size_t)PyTuple_GET_SIZE(others);
    if (r->fields == NULL || self->boundaries == NULL || rows_init(r) < 0) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    for (size_t f = 0; f < r->num_fields; f++)
        if (add_field(self, PyTuple_GET_ITEM(fields, (Py_ssize_t)f)) < 0) return Py_DECREF(self), NULL;
    for (size_t f = 0; f < r->num_others; f++)
        if (add_name(&r->names, PyTuple_GET_ITEM(others, (Py_ssize_t)f)) < 0) return Py_DECREF(self), NULL;
    if (add_sources(self, sources, derived) < 0 || add_nulls(r, nulls) < 0) return Py_DECREF(self), NULL;
    return (PyObject *)self;
}

static PyMethodDef methods[] = {
    {"read_predict", (PyCFunction)RequestReader_read_predict, METH_O, NULL},
    {"read_rank", (PyCFunction)RequestReader_read_rank, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, RequestReader_new}, {Py_tp_dealloc, RequestReader_dealloc}, {Py_tp_methods, methods}, {0, NULL},
};

PyType_Spec request_reader_spec = {"models._native.RequestReader", sizeof(RequestReader), 0, Py_TPFLAGS_DEFAULT, slots};
