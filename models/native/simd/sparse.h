/* A product with a matrix many of whose numbers are zero, as a rectifier leaves them; its code is `sparse_body.h`. */
#ifndef CTRSERVE_SPARSE_H
#define CTRSERVE_SPARSE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PADDING 16 /* a row is padded to a multiple of so many numbers, the longest vector */
#define BLOCK 256  /* rows of a product that are gone through before the next numbers of theirs */
#define BITS 64    /* numbers of a row whose zeros are marked in one word; a multiple of the longest vector */
#define MOST 9     /* vectors of a row that are summed together: BITS rows of so many stay in the first cache */

static inline size_t padded(size_t n) { return (n + PADDING - 1) / PADDING * PADDING; }

/* From one row to the next: an odd number of vectors, so that numbers of a column do not share one set of the cache. */
static inline size_t stride(size_t n) { return (padded(n) / PADDING | 1) * PADDING; }

/* Numbers (i, k) of a matrix, or of its transpose, at[i * row + k * column]. Rows that lie together are padded with zeros. */
typedef struct {
    const float *at;
    size_t row, column;
} Sparse;

#endif
