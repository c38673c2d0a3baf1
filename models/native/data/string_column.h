/* A column of strings that another library hands over without copying it: Arrow's C stream interface, string views.
 * https://arrow.apache.org/docs/format/CStreamInterface.html */
#ifndef CTRSERVE_STRING_COLUMN_H
#define CTRSERVE_STRING_COLUMN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>

#define INLINE_BYTES 12

/* An Arrow string view: a token of up to 12 bytes is stored in the view itself, padded with zeros. Of a longer one, the view
 * has the length, the first four bytes, and the place of the text. */
typedef union {
    uint64_t words[2];
    struct {
        uint32_t num_bytes;
        uint8_t text[12];
    };
    struct {
        uint32_t first[2], buffer, offset; /* in an Arrow array */
    };
    struct {
        uint64_t also_first, at; /* in the index's own text */
    };
} TokenView;

/* Some strings of a column. */
typedef struct {
    const TokenView *views;         /* [length] */
    const uint8_t *const *buffers;  /* of longer strings */
    const uint8_t *is_valid;        /* Arrow's validity bitmap, read from bit `first`; NULL: no string is null */
    size_t first, length;
    size_t done; /* strings of the column before these */
} StringSlice;

static inline const uint8_t *text_of(const TokenView *view, const uint8_t *const *buffers) {
    return view->num_bytes <= INLINE_BYTES ? view->text : buffers[view->buffer] + view->offset;
}

static inline int is_null_value(const StringSlice *strings, size_t i) {
    size_t at = strings->first + i;
    return strings->is_valid != NULL && !(strings->is_valid[at / 8] >> at % 8 & 1);
}

/* Visit the n strings of a column, some at a time, until `visit` returns -1 with an exception. Return 0 or -1.
 *
 * ValueError: no column of string views, or of another length. */
int visit_strings(PyObject *column, size_t n, int (*visit)(void *context, const StringSlice *strings), void *context);

#endif
