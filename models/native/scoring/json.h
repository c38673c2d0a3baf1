/* The parts of JSON (RFC 8259) that a request consists of, read from bytes that a NUL follows.
 *
 * Each function takes a cursor and returns the cursor behind what it has read, or NULL if the text is not what it reads.
 * A NUL is not part of any JSON text, so no function reads beyond it. */
#ifndef CTRSERVE_JSON_H
#define CTRSERVE_JSON_H

#include <stddef.h>
#include <stdint.h>

#define MAX_DEPTH 32 /* lists and objects inside each other, in a value that is skipped */

typedef const uint8_t *Cursor;

/* UTF-8 bytes of a string, or the digits of an integer: in the body itself, or in the caller's buffer if it has escapes. */
typedef struct {
    const uint8_t *text;
    uint32_t num_bytes;
} Text;

static inline Cursor skip_space(Cursor p) {
    while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') p++;
    return p;
}

static inline Cursor skip_mark(Cursor p, uint8_t mark) {
    p = skip_space(p);
    return *p == mark ? p + 1 : NULL;
}

/* Go from the bracket of a list or object to its first item, or behind its `close`: 1, or 0 if it is empty. */
static inline int first_item(Cursor *p, uint8_t close) {
    *p = skip_space(*p + 1);
    if (**p != close) return 1;
    return ++*p, 0;
}

/* Go from an item's end to the next item, or behind `close`: 1 or 0; -1 if neither follows. */
static inline int next_item(Cursor *p, uint8_t close) {
    *p = skip_space(*p);
    if (**p != ',') return **p == close ? ++*p, 0 : -1;
    return *p = skip_space(*p + 1), 1;
}

static inline int is_null(Cursor p) { return p[0] == 'n' && p[1] == 'u' && p[2] == 'l' && p[3] == 'l'; }

/* Read a string of at most `max_chars` characters, beginning at its quote; `decoded` has room for 4 * max_chars bytes. */
Cursor read_string(Cursor p, Cursor end, uint32_t max_chars, uint8_t *decoded, Text *found);

/* Read a string of any length, of which the first `max_chars` characters count. */
Cursor read_string_head(Cursor p, Cursor end, uint32_t max_chars, uint8_t *decoded, Text *found);

/* Read an integer that fits int64; its digits are those that Python writes. */
Cursor read_integer(Cursor p, Text *found);

/* Read a number, rounded as Python rounds it; infinite if it is too large. */
Cursor read_number(Cursor p, double *found);

/* Skip a string of any length. */
Cursor skip_string(Cursor p, Cursor end);

/* Skip a value of any type, at most MAX_DEPTH levels deep. */
Cursor skip_value(Cursor p, Cursor end);

#endif
