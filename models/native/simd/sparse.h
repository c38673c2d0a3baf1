/* Products with a matrix of which many elements are zero, as after a rectifier; the code is in `sparse_body.h`. */
#ifndef CTRSERVE_SPARSE_H
#define CTRSERVE_SPARSE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PADDING 16 /* rows are padded to a multiple of this, the longest vector */
#define BLOCK 256  /* rows of the sparse matrix that are worked on at a time */
#define BITS 64    /* columns of the sparse matrix that are worked on at a time; their zeros are the bits of one word */
#define MOST 9     /* vectors of a result row that are in registers at a time: BITS such pieces fit the first-level cache */

static inline size_t padded(size_t n) { return (n + PADDING - 1) / PADDING * PADDING; }

/* Distance between rows: an odd number of vectors, so that the elements of a column are spread over all sets of the cache. */
static inline size_t stride(size_t n) { return (padded(n) / PADDING | 1) * PADDING; }

/* Element (i, k) of a matrix is at[i * row + k * column], so it may be transposed. Contiguous rows are padded with zeros. */
typedef struct {
    const float *at;
    size_t row, column;
} Sparse;

#endif
