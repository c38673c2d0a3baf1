/* What `hidden.h` declares, with vectors of LANES numbers.
 *
 * Half of what a rectifier lets through is zero, forwards, and half of the gradients that come back through it. A product
 * of such numbers leaves them out: 64 numbers of a row are a word of bits, and for each that is set a row of the other
 * matrix, which the first cache has, is added to sums in registers. */

/* Some rows' words: which of `count` numbers are not zero. */
INLINE void NAME(mark)(Matrix a, size_t rows, size_t count, uint64_t *marks) {
    memset(marks, 0, rows * sizeof *marks);
    if (a.row == 1) {
        for (size_t k = 0; k < count; k++)
            for (size_t i = 0; i < rows; i++) marks[i] |= (uint64_t)(a.at[k * a.column + i] != 0) << k;
        return;
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < count; k++) marks[i] |= (uint64_t)(a.at[i * a.row + k] != 0) << k;
}

/* c[rows, n vectors] += a b; n is a constant where this is inlined, so sums stay in registers. */
INLINE void NAME(add_vectors)(size_t n, Matrix a, size_t rows, const uint64_t *marks, const float *b, size_t b_stride,
                              float *c, size_t c_stride) {
    for (size_t i = 0; i < rows; i++, c += c_stride) {
        NAME(Vector) sums[MOST];
#pragma GCC unroll 9
        for (size_t v = 0; v < n; v++) sums[v] = NAME(load)(c + v * LANES);
        for (uint64_t left = marks[i]; left != 0; left &= left - 1) {
            size_t k = (size_t)__builtin_ctzll(left);
            NAME(Vector) number = NAME(all)(a.at[i * a.row + k * a.column]);
#pragma GCC unroll 9
            for (size_t v = 0; v < n; v++) sums[v] += number * NAME(load)(b + k * b_stride + v * LANES);
        }
#pragma GCC unroll 9
        for (size_t v = 0; v < n; v++) NAME(store)(c + v * LANES, sums[v]);
    }
}

/* c[rows, width] += a[rows, depth] b[depth, width], leaving out zeros of a; b and c have padded rows. */
KERNEL void NAME(add_product)(Matrix a, size_t rows, size_t depth, const float *b, size_t width, float *c) {
    size_t vectors = (width + LANES - 1) / LANES, panels = (vectors + MOST - 1) / MOST, step = stride(width);
    uint64_t marks[BLOCK];
    for (size_t i = 0; i < rows; i += BLOCK)
        for (size_t k = 0; k < depth; k += BITS) {
            Matrix part = {a.at + i * a.row + k * a.column, a.row, a.column};
            size_t some = rows - i < BLOCK ? rows - i : BLOCK;
            NAME(mark)(part, some, depth - k < BITS ? depth - k : BITS, marks);
            for (size_t p = 0, v = 0, n; p < panels; p++, v += n) {
                const float *from = b + k * step + v * LANES;
                float *to = c + i * step + v * LANES;
                n = (vectors - v) / (panels - p);
#define CASE(n) case n: NAME(add_vectors)(n, part, some, marks, from, step, to, step); break
                switch (n) {
                    CASE(1); CASE(2); CASE(3); CASE(4); CASE(5); CASE(6); CASE(7); CASE(8); CASE(MOST);
                }
#undef CASE
            }
        }
}

/* to [rows, stride(columns)] = from [rows, columns], padded with zeros. */
INLINE void NAME(pad)(const float *from, size_t rows, size_t columns, float *to) {
    for (size_t i = 0; i < rows; i++, from += columns, to += stride(columns)) {
        memcpy(to, from, columns * sizeof(float));
        memset(to + columns, 0, (stride(columns) - columns) * sizeof(float));
    }
}

/* to [columns, stride(rows)] = the transpose of from [rows, columns], padded with zeros. */
INLINE void NAME(pad_transposed)(const float *from, size_t rows, size_t columns, float *to) {
    for (size_t k = 0; k < columns; k++, to += stride(rows)) {
        for (size_t i = 0; i < rows; i++) to[i] = from[i * columns + k];
        memset(to + rows, 0, (stride(rows) - rows) * sizeof(float));
    }
}

/* x [n] = max(x, 0); what is no number stays none. */
INLINE void NAME(rectify)(float *x, size_t n) {
    for (size_t j = 0; j < n; j++) x[j] = x[j] < 0 ? 0 : x[j];
}

/* What comes back to units x [n] goes through those that let something through, in their place, and is added up. */
INLINE void NAME(return_through)(float *x, const float *back, size_t n, float *sums) {
    for (size_t j = 0; j < n; j++) x[j] = x[j] == 0 ? 0 : back[j], sums[j] += x[j];
}

KERNEL void NAME(deepen)(size_t b, size_t num_layers, const Layer *layers, const float *sums, float *scratch, float *logits) {
    float *x = inputs(scratch, b, layers, 0), *weight = inputs(scratch, b, layers, num_layers);
    NAME(pad)(sums, b, layers->depth, x);
    NAME(rectify)(x, b * stride(layers->depth));
    for (; num_layers > 1; num_layers--, layers++) {
        size_t before = stride(layers->depth), after = stride(layers->width);
        float *y = x + b * before;
        NAME(pad_transposed)(layers->weight, layers->width, layers->depth, weight);
        for (size_t i = 0, some; i < b; i += some) {
            some = b - i < BLOCK ? b - i : BLOCK;
            for (size_t j = i; j < i + some; j++) NAME(pad)(layers->bias, 1, layers->width, y + j * after);
            NAME(add_product)((Matrix){x + i * before, before, 1}, some, layers->depth, weight, layers->width, y + i * after);
            NAME(rectify)(y + i * after, some * after);
        }
        x = y;
    }
    NAME(pad)(layers->weight, 1, layers->depth, weight);
    for (size_t i = 0; i < b; i++, x += stride(layers->depth)) {
        float parts[PADDING] = {0};
        for (size_t h = 0; h < layers->depth; h += PADDING)
            for (size_t j = 0; j < PADDING; j++) parts[j] += x[h + j] * weight[h + j];
        logits[i] = layers->bias[0];
        for (size_t j = 0; j < PADDING; j++) logits[i] += parts[j];
    }
}

/* The last layer's gradients; x [b, stride(depth)], its inputs, become theirs. */
INLINE void NAME(back_from_logits)(size_t b, const Layer *last, const float *by_logit, float *x, float *back, float *sums) {
    size_t n = last->depth;
    memset(last->by_weight, 0, n * sizeof(float));
    last->by_bias[0] = 0;
    for (size_t i = 0; i < b; i++, x += stride(n)) {
        last->by_bias[0] += by_logit[i];
        for (size_t h = 0; h < n; h++) last->by_weight[h] += by_logit[i] * x[h], back[h] = by_logit[i] * last->weight[h];
        NAME(return_through)(x, back, n, sums);
    }
}

KERNEL void NAME(return_all)(size_t b, size_t num_layers, const Layer *layers, const float *by_logit, float *scratch,
                             float *by_sums, float *by_first_bias) {
    size_t most = widest(num_layers, layers), depth = layers->depth;
    float *weight = inputs(scratch, b, layers, num_layers), *change = weight + most * most, *back = change + most * most;
    for (size_t l = num_layers; l-- > 0;) {
        const Layer *layer = &layers[l];
        size_t before = stride(layer->depth), after = stride(layer->width);
        float *x = inputs(scratch, b, layers, l), *by_output = x + b * before;
        float *by_bias = l > 0 ? layer[-1].by_bias : by_first_bias;
        memset(by_bias, 0, layer->depth * sizeof(float));
        if (l + 1 == num_layers) {
            NAME(back_from_logits)(b, layer, by_logit, x, back, by_bias);
            continue;
        }
        memset(change, 0, layer->width * before * sizeof(float));
        NAME(add_product)((Matrix){by_output, 1, after}, layer->width, b, x, layer->depth, change);
        for (size_t h = 0; h < layer->width; h++)
            memcpy(layer->by_weight + h * layer->depth, change + h * before, layer->depth * sizeof(float));
        NAME(pad)(layer->weight, layer->width, layer->depth, weight);
        for (size_t i = 0, some; i < b; i += some) {
            some = b - i < BLOCK ? b - i : BLOCK;
            memset(back, 0, some * before * sizeof(float));
            NAME(add_product)((Matrix){by_output + i * after, after, 1}, some, layer->width, weight, layer->depth, back);
            for (size_t j = 0; j < some; j++)
                NAME(return_through)(x + (i + j) * before, back + j * before, layer->depth, by_bias);
        }
    }
    const float *x = inputs(scratch, b, layers, 0);
    for (size_t i = 0; i < b; i++) memcpy(by_sums + i * depth, x + i * stride(depth), depth * sizeof(float));
}

static const HiddenKernels NAME(hidden) = {NAME(deepen), NAME(return_all)};
