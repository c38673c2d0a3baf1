/* The little of JSON (RFC 8259) that requests are made of, over bytes that end with a NUL.
 *
 * Every function returns where it stopped, or NULL for what it does not take. A NUL is part of no token, so nothing
 * reads beyond it. */
#ifndef CTRSERVE_JSON_H
#define CTRSERVE_JSON_H

#include <stddef.h>
#include <stdint.h>

typedef const uint8_t *Cursor;

/* A string's bytes: in the body itself, or in `decoded` where it has escapes. */
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

static inline int is_null(Cursor p) { return p[0] == 'n' && p[1] == 'u' && p[2] == 'l' && p[3] == 'l'; }

/* A string from its opening quote, UTF-8 of at most `max_chars` characters and `room` bytes; `decoded` has that room. */
Cursor read_string(Cursor p, Cursor end, uint32_t max_chars, uint8_t *decoded, uint32_t room, Text *found);

/* An integer's digits as Python writes it, if it fits int64. */
Cursor read_integer(Cursor p, Text *found);

/* A finite number, rounded as Python rounds it. */
Cursor read_number(Cursor p, double *found);

#endif
