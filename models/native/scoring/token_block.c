/* TokenBlock: a `Block` as a Python object, which the readers of one model share. */
#include "scoring/token_block.h"

#include <stdlib.h>

#include "buffers.h"
#include "data/string_column.h"
#include "scoring/token_text.h"
#include "simd/xxh3.h"

typedef struct {
    PyObject_HEAD
    Block block;
    Py_buffer buffers[4];
} TokenBlock;

static int set_vocabulary(TokenBlock *self, PyObject *arrays) {
    DType dtypes[] = {UINT64, INT64, INT64, UINT8};
    PyObject *objects[4];
    if (!PyArg_ParseTuple(arrays, "OOOO", &objects[0], &objects[1], &objects[2], &objects[3])) return -1;
    for (int i = 0; i < 4; i++) {
        dtypes[i].may_be_unaligned = 1;
        if (get_array(objects[i], dtypes[i], ANY_COUNT, 0, &self->buffers[i]) < 0) return -1;
    }
    const Py_buffer *b = self->buffers;
    Py_ssize_t n = b[0].len / 8;
    if (b[1].len != 8 * n || b[2].len != 8 * n || (uint64_t)n >= UINT32_MAX)
        return PyErr_SetString(PyExc_ValueError, "the arrays of a vocabulary differ in length, or are too long"), -1;
    Block *block = &self->block;
    *block = (Block){.hashes = b[0].buf, .positions = b[1].buf, .ends = b[2].buf, .text = b[3].buf,
                     .n = (uint64_t)n, .text_bytes = (uint64_t)b[3].len};
    int failed;
    Py_BEGIN_ALLOW_THREADS;
    failed = block_build_index(block);
    Py_END_ALLOW_THREADS;
    return failed ? PyErr_NoMemory(), -1 : 0;
}

static void TokenBlock_dealloc(TokenBlock *self) {
    PyTypeObject *type = Py_TYPE(self);
    for (int i = 0; i < 4; i++) PyBuffer_Release(&self->buffers[i]);
    free(self->block.index);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

const Block *token_block(PyObject *object) {
    return Py_TYPE(object)->tp_dealloc == (destructor)TokenBlock_dealloc ? &((TokenBlock *)object)->block : NULL;
}

/* TokenBlock(buckets) or TokenBlock(hashes, positions, ends, text). */
static PyObject *TokenBlock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) return PyErr_Format(PyExc_TypeError, "takes no keywords");
    TokenBlock *self = (TokenBlock *)type->tp_alloc(type, 0);
    if (self == NULL) return NULL;
    int failed;
    if (PyTuple_GET_SIZE(args) == 1) {
        unsigned long long buckets = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(args, 0));
        self->block.buckets = buckets;
        if (buckets == 0 && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "there must be a bucket");
        failed = PyErr_Occurred() != NULL;
    } else {
        failed = set_vocabulary(self, args) < 0;
    }
    if (failed) Py_CLEAR(self);
    return (PyObject *)self;
}

#define AT_ONCE 64 /* tokens that are looked up together */

#define MEMORY_BITS 12
#define MEMORY ((size_t)1 << MEMORY_BITS) /* short tokens whose rows are remembered: most values of a log are frequent tokens */

typedef struct {
    uint64_t words[2]; /* of the view, which holds the whole token */
    int32_t row;       /* -1: none yet */
} Remembered;

typedef struct {
    const Block *block;
    int64_t start;
    int32_t *rows; /* of all tokens */
    Remembered *memory;
} Search;

static inline Remembered *place_of(const Search *search, const TokenView *view) {
    uint64_t hash = view->words[0] * XXH_PRIME64_1 ^ view->words[1] * XXH_PRIME64_2;
    return &search->memory[hash >> (64 - MEMORY_BITS)];
}

static inline int is_remembered(const Remembered *known, const TokenView *view) {
    return known->row >= 0 && known->words[0] == view->words[0] && known->words[1] == view->words[1];
}

static int find_strings(void *context, const StringSlice *strings) {
    const Search *search = context;
    int32_t *rows = search->rows + strings->done;
    for (size_t i = 0; i < strings->length;) {
        Token tokens[AT_ONCE];
        int64_t found[AT_ONCE];
        size_t places[AT_ONCE], count = 0;
        for (; i < strings->length && count < AT_ONCE; i++) {
            if (is_null_value(strings, i) || strings->views[i].num_bytes == 0) {
                rows[i] = (int32_t)(search->start + MISSING);
                continue;
            }
            const TokenView *view = &strings->views[i];
            if (view->num_bytes <= INLINE_BYTES && is_remembered(place_of(search, view), view)) {
                rows[i] = place_of(search, view)->row;
                continue;
            }
            Text text = {text_of(view, strings->buffers), view->num_bytes};
            spell_token(TEXT, MAX_TOKEN_CHARS, &text); /* any text is a token of this kind */
            places[count] = i;
            tokens[count] = (Token){search->block, text.text, text.num_bytes, xxh3(text.text, text.num_bytes), 0, search->start,
                                    &found[count]};
            count++;
        }
        find_tokens(tokens, count);
        for (size_t j = 0; j < count; j++) {
            const TokenView *view = &strings->views[places[j]];
            rows[places[j]] = (int32_t)found[j];
            if (view->num_bytes <= INLINE_BYTES)
                *place_of(search, view) = (Remembered){{view->words[0], view->words[1]}, (int32_t)found[j]};
        }
    }
    return 0;
}

/* find(column, start, rows): write the table row of each token to rows int32 [n]. */
static PyObject *TokenBlock_find(TokenBlock *self, PyObject *args) {
    PyObject *column, *array;
    long long start;
    Py_buffer rows;
    if (!PyArg_ParseTuple(args, "OLO", &column, &start, &array) || get_array(array, INT32, ANY_COUNT, 1, &rows) < 0)
        return NULL;
    uint64_t size = NUM_SPECIAL + (self->block.buckets ? self->block.buckets : self->block.n);
    Search search = {&self->block, start, rows.buf, malloc(MEMORY * sizeof(Remembered))};
    int failed = 1;
    if (search.memory != NULL) memset(search.memory, 0xff, MEMORY * sizeof(Remembered));
    if (search.memory == NULL) PyErr_NoMemory();
    else if (start < 0 || (uint64_t)start + size > INT32_MAX) PyErr_SetString(PyExc_ValueError, "a table of too many rows");
    else failed = visit_strings(column, (size_t)rows.len / sizeof(int32_t), find_strings, &search) < 0;
    free(search.memory);
    PyBuffer_Release(&rows);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {{"find", (PyCFunction)TokenBlock_find, METH_VARARGS, NULL}, {0}};

static PyType_Slot slots[] = {
    {Py_tp_new, TokenBlock_new}, {Py_tp_dealloc, TokenBlock_dealloc}, {Py_tp_methods, methods}, {0, NULL},
};

PyType_Spec token_block_spec = {"models._native.TokenBlock", sizeof(TokenBlock), 0, Py_TPFLAGS_DEFAULT, slots};
