/* The arithmetic of a head on float32 rows, with vectors of 16, 8 or 4 numbers. */
#ifndef CTRSERVE_KERNELS_H
#define CTRSERVE_KERNELS_H

#include "simd/sparse.h"

/* W [depth, width], width padded, in panels of a few columns: a panel's rows lie one after the other. */
typedef struct {
    float *panels;
    size_t depth, width;
} Matrix;

/* W [depth, stride(width)], both padded with zeros. */
typedef struct {
    float *rows;
    size_t depth, width;
} Rows;

/* The parts of a row x that are multiplied: `length` numbers from x[at[i]] on by as many rows of W from row[i] on. */
typedef struct {
    size_t count, length, stride; /* stride: from one x to the next */
    uint32_t *at, *row;           /* [count] */
} Pieces;

/* x[rows, width] = f(x + bias). Each activation has its own parameters [*, width]. */
typedef void (*Activation)(float *x, size_t rows, size_t width, const float *bias, const float *parameters);

/* Each row is computed by itself and in the same order, so it has the same bits alone and among others. */
typedef struct {
    size_t panel_width;
    /* y[rows, w->width] = the pieces of each x times W. */
    void (*multiply)(const float *x, const Pieces *pieces, size_t rows, const Matrix *w, float *y);
    /* y[rows, w->width] = x[rows, w->depth] W; zeros of x are skipped. */
    void (*multiply_sparse)(const float *x, size_t rows, const Rows *w, float *y);
    /* y[i] += the sum of products[places[i, j]] over j; y [rows, width], places [rows, count]. */
    void (*add_products)(const float *products, const uint32_t *places, size_t count, size_t rows, size_t width, float *y);
    Activation relu; /* max(s, 0) */
    Activation prelu; /* s where s > 0, else slope s; parameters: slope */
    Activation dice;  /* p s + (1 - p) alpha s, p the sigmoid of (s - mean) scale; parameters: alpha, mean, scale */
    /* y[rows] += x[rows, width] w. */
    void (*add_dot)(const float *x, size_t rows, size_t width, const float *w, float *y);
    /* sums[D] = the sum of x[num_fields, D] over fields, squares[D] = that of its squares; both have room for padding. */
    void (*sum_fields)(const float *x, size_t num_fields, size_t D, float *sums, float *squares);
} Kernels;

/* The kernels with the longest vectors that this processor has, of at most `longest` numbers. */
const Kernels *find_kernels(size_t longest);

#endif
