/* The arithmetic of a head over float32 rows, for the processor that it finds. */
#ifndef CTRSERVE_KERNELS_H
#define CTRSERVE_KERNELS_H

#include "simd/sparse.h"

typedef struct {
    float *panels; /* W [depth, width]: some of its columns at a time, of each such panel all rows one after the other */
    size_t depth;
    size_t width; /* padded */
} Matrix;

typedef struct {
    float *rows;         /* W [depth, stride(width)] */
    size_t depth, width; /* padded, with zeros */
} Rows;

/* Which numbers of a row are multiplied: `length` of them from each of `at` [count]; rows are `stride` apart. */
typedef struct {
    size_t count, length, stride;
    const uint32_t *at;
} Pieces;

/* All of them work on each row by itself and in the same order, however many rows there are: a row has the same bits
 * alone and among others. */
typedef struct {
    size_t panel_width;
    /* y[rows, w->width] = x's pieces W; each number of y is a sum over W's rows in order. */
    void (*multiply)(const float *x, const Pieces *pieces, size_t rows, const Matrix *w, float *y);
    /* y[rows, w->width] = x[rows, w->depth] W, in the same order, but for what is zero in x. */
    void (*multiply_sparse)(const float *x, size_t rows, const Rows *w, float *y);
    /* y[rows, width] += the sum of products [*, width] at places [rows, count]. */
    void (*add_products)(const float *products, const uint32_t *places, size_t count, size_t rows, size_t width, float *y);
    /* x[rows, width] = max(x + bias, 0). */
    void (*rectify)(float *x, size_t rows, size_t width, const float *bias);
    /* y[rows] += x[rows, width] w. */
    void (*add_dot)(const float *x, size_t rows, size_t width, const float *w, float *y);
    /* sums[D] and the sum of squares of the first D - 1 columns of x[num_fields, D]; scratch [D]. Both have room
     * for padding. */
    float (*sum_fields)(const float *x, size_t num_fields, size_t D, float *sums, float *scratch);
    /* y[n] = a[n] + b[n]. */
    void (*add)(const float *a, const float *b, size_t n, float *y);
} Kernels;

/* NULL where there are none. */
const Kernels *find_kernels(void);

#endif
