/* What `kernels.h` declares, with vectors of LANES numbers; a panel of a matrix is VECTORS of them wide. */

/* Some rows by one panel of n vectors. Both are constants where this is inlined, so the sums stay in registers. */
INLINE void NAME(block)(size_t rows, size_t n, const float *x, const Pieces *p, const float *w, float *y, size_t y_stride) {
    NAME(Vector) sums[ROWS][VECTORS] = {0};
    for (size_t piece = 0; piece < p->count; piece++) {
        const float *from = x + p->at[piece], *row = w + p->row[piece] * n * LANES;
        for (size_t k = 0; k < p->length; k++, row += n * LANES) {
            NAME(Vector) weights[VECTORS];
#pragma GCC unroll 4
            for (size_t j = 0; j < n; j++) weights[j] = NAME(load)(row + j * LANES);
#pragma GCC unroll 6
            for (size_t i = 0; i < rows; i++) {
                NAME(Vector) value = NAME(all)(from[i * p->stride + k]);
#pragma GCC unroll 4
                for (size_t j = 0; j < n; j++) sums[i][j] += value * weights[j];
            }
        }
    }
#pragma GCC unroll 6
    for (size_t i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (size_t j = 0; j < n; j++) NAME(store)(y + i * y_stride + j * LANES, sums[i][j]);
}

INLINE void NAME(panel)(size_t n, const float *x, const Pieces *p, size_t rows, const float *w, float *y, size_t y_stride) {
    for (; rows >= ROWS; rows -= ROWS, x += ROWS * p->stride, y += ROWS * y_stride)
        NAME(block)(ROWS, n, x, p, w, y, y_stride);
    switch (rows) {
    case 5: NAME(block)(5, n, x, p, w, y, y_stride); break;
    case 4: NAME(block)(4, n, x, p, w, y, y_stride); break;
    case 3: NAME(block)(3, n, x, p, w, y, y_stride); break;
    case 2: NAME(block)(2, n, x, p, w, y, y_stride); break;
    case 1: NAME(block)(1, n, x, p, w, y, y_stride); break;
    default: break;
    }
}

KERNEL void NAME(multiply)(const float *x, const Pieces *p, size_t rows, const Matrix *w, float *y) {
    const float *panel = w->panels;
    for (size_t column = 0, n; column < w->width; column += n * LANES, panel += n * LANES * w->depth) {
        n = (w->width - column) / LANES;
        n = n < VECTORS ? n : VECTORS;
        switch (n) {
        case 1: NAME(panel)(1, x, p, rows, panel, y + column, w->width); break;
#if VECTORS > 2
        case 2: NAME(panel)(2, x, p, rows, panel, y + column, w->width); break;
        case 3: NAME(panel)(3, x, p, rows, panel, y + column, w->width); break;
#endif
        default: NAME(panel)(VECTORS, x, p, rows, panel, y + column, w->width); break;
        }
    }
}

/* y[n vectors] += the sum of products' rows; n is a constant where this is inlined. */
INLINE void NAME(add_some)(size_t n, const float *products, const uint32_t *places, size_t count, size_t width, float *y) {
    NAME(Vector) sums[8];
#pragma GCC unroll 8
    for (size_t j = 0; j < n; j++) sums[j] = NAME(load)(y + j * LANES);
    for (size_t k = 0; k < count; k++) {
        const float *product = products + places[k] * width;
#pragma GCC unroll 8
        for (size_t j = 0; j < n; j++) sums[j] += NAME(load)(product + j * LANES);
    }
#pragma GCC unroll 8
    for (size_t j = 0; j < n; j++) NAME(store)(y + j * LANES, sums[j]);
}

KERNEL void NAME(add_products)(const float *products, const uint32_t *places, size_t count, size_t rows, size_t width, float *y) {
    for (size_t i = 0; i < rows; i++, places += count, y += width) {
        size_t at = 0;
        for (; at + 8 * LANES <= width; at += 8 * LANES) NAME(add_some)(8, products + at, places, count, width, y + at);
        for (; at < width; at += LANES) NAME(add_some)(1, products + at, places, count, width, y + at);
    }
}

KERNEL void NAME(multiply_sparse)(const float *x, size_t rows, const Rows *w, float *y) {
    memset(y, 0, rows * w->width * sizeof *y);
    NAME(add_sparse)((Sparse){x, w->depth, 1}, rows, w->depth, w->rows, stride(w->width), w->width, y, w->width);
}

KERNEL void NAME(relu)(float *x, size_t rows, size_t width, const float *bias, const float *parameters) {
    (void)parameters;
    for (size_t i = 0; i < rows; i++, x += width)
        for (size_t j = 0; j < width; j++) {
            float s = x[j] + bias[j];
            x[j] = s < 0 ? 0 : s; /* NaN propagates */
        }
}

KERNEL void NAME(prelu)(float *x, size_t rows, size_t width, const float *bias, const float *slope) {
    for (size_t i = 0; i < rows; i++, x += width)
        for (size_t j = 0; j < width; j++) {
            float s = x[j] + bias[j];
            x[j] = s < 0 ? s * slope[j] : s;
        }
}

KERNEL void NAME(dice)(float *x, size_t rows, size_t width, const float *bias, const float *parameters) {
    const float *alpha = parameters, *mean = alpha + width, *scale = mean + width;
    for (size_t i = 0; i < rows; i++, x += width)
        for (size_t j = 0; j < width; j++) {
            float s = x[j] + bias[j], p = 1 / (1 + expf(-(s - mean[j]) * scale[j]));
            x[j] = p * s + (1 - p) * alpha[j] * s;
        }
}

KERNEL void NAME(add_dot)(const float *x, size_t rows, size_t width, const float *w, float *y) {
    for (size_t i = 0; i < rows; i++, x += width) {
        float sums[PADDING] = {0};
        for (size_t k = 0; k < width; k += PADDING)
            for (size_t j = 0; j < PADDING; j++) sums[j] += x[k + j] * w[k + j];
        for (size_t j = 0; j < PADDING; j++) y[i] += sums[j];
    }
}

KERNEL void NAME(sum_fields)(const float *x, size_t num_fields, size_t D, float *sums, float *squares) {
    for (size_t e = 0; e < D; e += LANES) {
        NAME(Vector) sum = {0}, square = {0};
        for (size_t f = 0; f < num_fields; f++) {
            const float *from = x + f * D + e;
            NAME(Vector) numbers = e + LANES <= D ? NAME(load)(from) : NAME(load_some)(from, D - e);
            sum += numbers, square += numbers * numbers;
        }
        NAME(store)(sums + e, sum), NAME(store)(squares + e, square);
    }
}

static const Kernels NAME(kernels) = {
    LANES * VECTORS, NAME(multiply), NAME(multiply_sparse), NAME(add_products), NAME(relu), NAME(prelu), NAME(dice),
    NAME(add_dot), NAME(sum_fields),
};
