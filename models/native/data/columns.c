/* TokenTable: `dictionary.h` for Python; and what else is done to whole columns of a log. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <string.h>

#include "data/token_index.h"
#include "simd/xxh3.h"

/* Of the Arrow C stream interface, by which a data frame library hands a column over without copying it. */
typedef struct ArrowSchema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct ArrowSchema **children, *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
} ArrowSchema;

typedef struct ArrowArray {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct ArrowArray **children, *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
} ArrowArray;

typedef struct ArrowArrayStream {
    int (*get_schema)(struct ArrowArrayStream *, ArrowSchema *);
    int (*get_next)(struct ArrowArrayStream *, ArrowArray *);
    const char *(*get_last_error)(struct ArrowArrayStream *);
    void (*release)(struct ArrowArrayStream *);
    void *private_data;
} ArrowArrayStream;

#define VIEWS 1024 /* that are looked up together */

typedef struct {
    PyObject_HEAD
    Dictionary dictionary;
} TokenTable;

static PyObject *refuse(const char *why) {
    PyErr_SetString(PyExc_ValueError, why);
    return NULL;
}

static int is_of_views(ArrowArrayStream *stream) {
    ArrowSchema schema = {0};
    if (stream->get_schema(stream, &schema) != 0) return 0;
    int fits = strcmp(schema.format, "vu") == 0;
    schema.release(&schema);
    return fits;
}

/* Number one array, before which others had `before` tokens: its codes, the places of new tokens, and how many, or -1. */
static ptrdiff_t number_array(Dictionary *d, const ArrowArray *array, size_t before, uint32_t *codes, int64_t *firsts) {
    size_t skipped = (size_t)array->offset;
    const TokenView *views = (const TokenView *)array->buffers[1] + skipped;
    const uint8_t *const *buffers = (const uint8_t *const *)(array->buffers + 2), *is_valid = array->buffers[0];
    ptrdiff_t num_new = dictionary_number(d, views, buffers, is_valid, skipped, (size_t)array->length, codes, firsts);
    for (ptrdiff_t i = 0; firsts != NULL && i < num_new; i++) firsts[i] += (int64_t)before;
    return num_new;
}

static PyObject *number(TokenTable *self, PyObject *args, int adds) {
    PyObject *capsule, *places = NULL;
    Py_buffer codes;
    if (!PyArg_ParseTuple(args, "Ow*", &capsule, &codes)) return NULL;
    size_t n = (size_t)codes.len / sizeof(uint32_t), done = 0, num_new = 0;
    ArrowArrayStream *stream = PyCapsule_GetPointer(capsule, "arrow_array_stream");
    int64_t *firsts = adds ? malloc((n + 1) * sizeof *firsts) : NULL;
    if (stream == NULL || (adds && firsts == NULL)) {
        if (stream != NULL) PyErr_NoMemory();
        goto end;
    }
    if (stream->release == NULL || !is_of_views(stream)) {
        refuse("expected a column of strings");
        goto end;
    }
    for (;;) {
        ArrowArray array = {0};
        if (stream->get_next(stream, &array) != 0) {
            refuse("a column that cannot be read");
            goto end;
        }
        if (array.release == NULL) break;
        ptrdiff_t found = -2;
        if ((size_t)array.length <= n - done)
            found = number_array(&self->dictionary, &array, done, (uint32_t *)codes.buf + done,
                                 adds ? firsts + num_new : NULL);
        done += (size_t)array.length;
        array.release(&array);
        if (found == -1) PyErr_NoMemory();
        if (found == -2) refuse("a column that is longer than its codes");
        if (found < 0) goto end;
        num_new += adds ? (size_t)found : 0;
    }
    if (done != n) refuse("a column that is shorter than its codes");
    else if (adds) places = PyBytes_FromStringAndSize((char *)firsts, (Py_ssize_t)(num_new * sizeof *firsts));
    else places = Py_NewRef(Py_None);
end:
    free(firsts);
    PyBuffer_Release(&codes);
    return places;
}

static PyObject *TokenTable_number(TokenTable *self, PyObject *args) { return number(self, args, 1); }

static PyObject *TokenTable_find(TokenTable *self, PyObject *args) { return number(self, args, 0); }

/* Codes of tokens that stand in a text one after the other; NULL_CODE for those that have none. */
static PyObject *TokenTable_find_text(TokenTable *self, PyObject *args) {
    Py_buffer a[3]; /* text, ends, codes */
    if (!PyArg_ParseTuple(args, "y*y*w*:find_text", &a[0], &a[1], &a[2])) return NULL;
    size_t n = (size_t)a[1].len / sizeof(int64_t), num_views = 0;
    int64_t start = 0, end;
    int wrong = (size_t)a[2].len != n * sizeof(uint32_t);
    TokenView views[VIEWS];
    const uint8_t *texts[VIEWS];
    for (size_t i = 0; !wrong && i < n; start = end, i++) {
        memcpy(&end, (const uint8_t *)a[1].buf + 8 * i, 8); /* may be unaligned */
        wrong = end < start || end > a[0].len || end - start > UINT32_MAX;
        if (wrong) break;
        TokenView *view = &views[num_views];
        *view = (TokenView){.num_bytes = (uint32_t)(end - start)};
        texts[num_views] = (const uint8_t *)a[0].buf + start;
        memcpy(view->text, texts[num_views], view->num_bytes <= INLINE_BYTES ? view->num_bytes : 4);
        if (view->num_bytes > INLINE_BYTES) view->buffer = (uint32_t)num_views;
        if (++num_views < VIEWS && i + 1 < n) continue;
        uint32_t *codes = (uint32_t *)a[2].buf + i + 1 - num_views;
        dictionary_number(&self->dictionary, views, texts, NULL, 0, num_views, codes, NULL);
        num_views = 0;
    }
    for (size_t i = 0; i < 3; i++) PyBuffer_Release(&a[i]);
    return wrong ? refuse("tokens that do not end in their text") : Py_NewRef(Py_None);
}

static PyObject *TokenTable_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    (void)args, (void)keywords;
    TokenTable *self = (TokenTable *)type->tp_alloc(type, 0);
    if (self != NULL && dictionary_open(&self->dictionary) < 0) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void TokenTable_dealloc(TokenTable *self) {
    PyTypeObject *type = Py_TYPE(self);
    dictionary_close(&self->dictionary);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* counts[code] += 1 for each of codes [n] that is counted [n], and seen[code] = 1 for all. */
static PyObject *count(PyObject *module, PyObject *args) {
    (void)module;
    Py_buffer a[4]; /* codes, counted, counts, seen */
    if (!PyArg_ParseTuple(args, "y*y*w*w*:count", &a[0], &a[1], &a[2], &a[3])) return NULL;
    size_t n = (size_t)a[0].len / sizeof(uint32_t), num_codes = (size_t)a[2].len / sizeof(int64_t);
    const uint32_t *codes = a[0].buf;
    const uint8_t *counted = a[1].buf;
    int64_t *counts = a[2].buf;
    uint8_t *seen = a[3].buf;
    int wrong = (size_t)a[1].len != n || (size_t)a[3].len != num_codes;
    for (size_t i = 0; !wrong && i < n; i++) {
        if (codes[i] >= num_codes) wrong = 1;
        else counts[codes[i]] += counted[i], seen[codes[i]] = 1;
    }
    for (size_t i = 0; i < 4; i++) PyBuffer_Release(&a[i]);
    return wrong ? refuse("codes that are none of those counted") : Py_NewRef(Py_None);
}

/* to[first + i * step] = rows[codes[i]]. */
static PyObject *look_up(PyObject *module, PyObject *args) {
    (void)module;
    Py_buffer a[3]; /* rows, codes, to */
    Py_ssize_t first, step;
    if (!PyArg_ParseTuple(args, "y*y*w*nn:look_up", &a[0], &a[1], &a[2], &first, &step)) return NULL;
    size_t num_rows = (size_t)a[0].len / sizeof(int32_t), n = (size_t)a[1].len / sizeof(uint32_t);
    size_t room = (size_t)a[2].len / sizeof(int32_t);
    const int32_t *rows = a[0].buf;
    const uint32_t *codes = a[1].buf;
    int32_t *to = a[2].buf;
    int wrong = first < 0 || step < 1 || (n > 0 && (size_t)first + (n - 1) * (size_t)step >= room);
    for (size_t i = 0; !wrong && i < n; i++) {
        if (codes[i] >= num_rows) wrong = 1;
        else to[(size_t)first + i * (size_t)step] = rows[codes[i]];
    }
    for (size_t i = 0; i < 3; i++) PyBuffer_Release(&a[i]);
    return wrong ? refuse("codes without a row, or too little room") : Py_NewRef(Py_None);
}

#define AT_ONCE 64 /* numbers */
#define MOST_COMPARED 64 /* boundaries: up to so many a number is compared with each, since a search guesses wrong */

/* bins[i] = how many of k boundaries are at or below x[i]; compiled for longer vectors too where the linker can choose. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
static void compare(const double *x, const double *boundaries, size_t k, int64_t *bins) {
    memset(bins, 0, AT_ONCE * sizeof *bins);
    for (size_t j = 0; j < k; j++)
        for (size_t i = 0; i < AT_ONCE; i++) bins[i] += x[i] >= boundaries[j];
}

static inline void search(const double *x, const double *boundaries, size_t k, int64_t *bins) {
    for (size_t i = 0; i < AT_ONCE; i++) {
        size_t low = 0, high = k;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if (x[i] >= boundaries[middle]) low = middle + 1;
            else high = middle;
        }
        bins[i] = (int64_t)low;
    }
}

/* to[first + i * step] = first_bin + how many boundaries are at or below numbers[i]; `missing` for NaN. */
static PyObject *place(PyObject *module, PyObject *args) {
    (void)module;
    Py_buffer a[3]; /* numbers, boundaries, to */
    Py_ssize_t first, step;
    int first_bin, missing;
    if (!PyArg_ParseTuple(args, "y*y*iiw*nn:place", &a[0], &a[1], &first_bin, &missing, &a[2], &first, &step)) return NULL;
    size_t n = (size_t)a[0].len / sizeof(double), k = (size_t)a[1].len / sizeof(double);
    size_t room = (size_t)a[2].len / sizeof(int32_t);
    const double *numbers = a[0].buf, *boundaries = a[1].buf;
    int32_t *to = a[2].buf;
    int wrong = first < 0 || step < 1 || (n > 0 && (size_t)first + (n - 1) * (size_t)step >= room);
    for (size_t start = 0; !wrong && start < n; start += AT_ONCE) {
        size_t num = n - start < AT_ONCE ? n - start : AT_ONCE;
        double x[AT_ONCE] = {0};
        int64_t bins[AT_ONCE];
        memcpy(x, numbers + start, num * sizeof(double));
        if (k <= MOST_COMPARED) compare(x, boundaries, k, bins);
        else search(x, boundaries, k, bins);
        for (size_t i = 0; i < num; i++)
            to[(size_t)first + (start + i) * (size_t)step] = x[i] != x[i] ? missing : first_bin + (int32_t)bins[i];
    }
    for (size_t i = 0; i < 3; i++) PyBuffer_Release(&a[i]);
    return wrong ? refuse("too little room") : Py_NewRef(Py_None);
}

/* hashes[i] = xxh3 of the i-th token of text; 0 of those with more than XXH3_MAX_BYTES, which are for the caller. */
static PyObject *hash_tokens(PyObject *module, PyObject *args) {
    (void)module;
    Py_buffer a[3]; /* text, ends, hashes */
    if (!PyArg_ParseTuple(args, "y*y*w*:hash_tokens", &a[0], &a[1], &a[2])) return NULL;
    size_t n = (size_t)a[1].len / sizeof(int64_t);
    const uint8_t *text = a[0].buf;
    const int64_t *ends = a[1].buf;
    uint64_t *hashes = a[2].buf;
    int wrong = (size_t)a[2].len != n * sizeof(uint64_t);
    int64_t start = 0;
    for (size_t i = 0; !wrong && i < n; start = ends[i++]) {
        if (ends[i] < start || ends[i] > a[0].len) wrong = 1;
        else hashes[i] = ends[i] - start > XXH3_MAX_BYTES ? 0 : xxh3(text + start, (size_t)(ends[i] - start));
    }
    for (size_t i = 0; i < 3; i++) PyBuffer_Release(&a[i]);
    return wrong ? refuse("tokens that do not end in their text") : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"number", (PyCFunction)TokenTable_number, METH_VARARGS, NULL},
    {"find", (PyCFunction)TokenTable_find, METH_VARARGS, NULL},
    {"find_text", (PyCFunction)TokenTable_find_text, METH_VARARGS, NULL},
    {0},
};

static PyType_Slot slots[] = {
    {Py_tp_new, TokenTable_new}, {Py_tp_dealloc, TokenTable_dealloc}, {Py_tp_methods, methods}, {0, NULL},
};

PyType_Spec token_table_spec = {"models._native.TokenTable", sizeof(TokenTable), 0, Py_TPFLAGS_DEFAULT, slots};

static PyMethodDef functions[] = {
    {"count", count, METH_VARARGS, NULL},
    {"look_up", look_up, METH_VARARGS, NULL},
    {"place", place, METH_VARARGS, NULL},
    {"hash_tokens", hash_tokens, METH_VARARGS, NULL},
    {0},
};

/* Add what is defined here to the module; 0, or -1 with an exception. */
int add_columns(PyObject *module) {
    PyObject *type = PyType_FromSpec(&token_table_spec);
    int failed = type == NULL || PyModule_AddObjectRef(module, "TokenTable", type) < 0 ||
                 PyModule_AddFunctions(module, functions) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}
