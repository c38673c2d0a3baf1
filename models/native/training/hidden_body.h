/* What `hidden.h` declares, with vectors of LANES numbers.
 *
 * Half of what a rectifier lets through is zero, forwards, and half of the gradients that come back through it. A product
 * of such numbers leaves them out (`sparse_body.h`). */

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
            NAME(add_sparse)((Sparse){x + i * before, before, 1}, some, layers->depth, weight, after, layers->width, y + i * after, after);
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
        NAME(add_sparse)((Sparse){by_output, 1, after}, layer->width, b, x, before, layer->depth, change, before);
        for (size_t h = 0; h < layer->width; h++)
            memcpy(layer->by_weight + h * layer->depth, change + h * before, layer->depth * sizeof(float));
        NAME(pad)(layer->weight, layer->width, layer->depth, weight);
        for (size_t i = 0, some; i < b; i += some) {
            some = b - i < BLOCK ? b - i : BLOCK;
            memset(back, 0, some * before * sizeof(float));
            NAME(add_sparse)((Sparse){by_output + i * after, after, 1}, some, layer->width, weight, before, layer->depth, back, before);
            for (size_t j = 0; j < some; j++)
                NAME(return_through)(x + (i + j) * before, back + j * before, layer->depth, by_bias);
        }
    }
    const float *x = inputs(scratch, b, layers, 0);
    for (size_t i = 0; i < b; i++) memcpy(by_sums + i * depth, x + i * stride(depth), depth * sizeof(float));
}

static const HiddenKernels NAME(hidden) = {NAME(deepen), NAME(return_all)};
