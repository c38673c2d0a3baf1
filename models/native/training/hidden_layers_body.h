/* Rectified layers and a last one of width 1, see `kernels.h`, with vectors of LANES numbers.
 *
 * About half of a rectifier's outputs are zero, and so are the gradients that come back through it; the products leave
 * these out (`sparse_body.h`). */

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

/* x [n] = max(x, 0); NaN stays NaN. */
INLINE void NAME(rectify)(float *x, size_t n) {
    for (size_t j = 0; j < n; j++) x[j] = x[j] < 0 ? 0 : x[j];
}

/* to [stride(n)] = the gradient `by_output` [n] where the rectifier's output [n] is not zero; add it to sums [n]. */
INLINE void NAME(rectify_backward)(const float *output, const float *by_output, size_t n, float *to, float *sums) {
    for (size_t j = 0; j < n; j++) to[j] = output[j] == 0 ? 0 : by_output[j], sums[j] += to[j];
    memset(to + n, 0, (stride(n) - n) * sizeof(float));
}

KERNEL void NAME(hidden)(size_t b, size_t num_layers, const Layer *layers, const float *x, const float *bias, float *scratch,
                         float *activations, float *logits) {
    size_t last = num_layers - 1;
    float *weights[MOST_LAYERS], *weight = aligned(scratch);
    for (size_t l = 0; l < last; l++, weight += layers[l - 1].depth * stride(layers[l - 1].width))
        NAME(pad_transposed)(layers[l].weight, layers[l].width, layers[l].depth, weights[l] = weight);
    NAME(pad)(layers[last].weight, 1, layers[last].depth, weight);
    for (size_t i = 0, some; i < b; i += some) {
        some = b - i < BLOCK ? b - i : BLOCK;
        size_t depth = layers->depth, before = stride(depth);
        float *in = inputs(activations, b, layers, 0) + i * before;
        for (size_t j = 0; j < some; j++) {
            for (size_t h = 0; h < depth; h++) in[j * before + h] = x[(i + j) * depth + h] + bias[h];
            memset(in + j * before + depth, 0, (before - depth) * sizeof(float));
        }
        NAME(rectify)(in, some * before);
        for (size_t l = 0; l < last; l++, before = stride(layers[l].depth)) {
            size_t width = layers[l].width, after = stride(width);
            float *out = inputs(activations, b, layers, l + 1) + i * after;
            for (size_t j = 0; j < some; j++) NAME(pad)(layers[l].bias, 1, width, out + j * after);
            NAME(add_sparse)((Sparse){in, before, 1}, some, layers[l].depth, weights[l], after, width, out, after);
            NAME(rectify)(out, some * after);
            in = out;
        }
        for (size_t j = 0; j < some; j++, in += before) {
            float parts[PADDING] = {0};
            for (size_t h = 0; h < layers[last].depth; h += PADDING)
                for (size_t k = 0; k < PADDING; k++) parts[k] += in[h + k] * weight[h + k];
            logits[i + j] = layers[last].bias[0];
            for (size_t k = 0; k < PADDING; k++) logits[i + j] += parts[k];
        }
    }
}

/* Gradients of the last layer; `to` [b, stride(depth)] is that of the sums before its rectified inputs `in`. */
INLINE void NAME(last_layer_backward)(size_t b, const Layer *last, const float *by_logits, const float *in, float *by_input,
                                      float *to, float *by_bias) {
    size_t n = last->depth;
    for (size_t i = 0; i < b; i++, in += stride(n), to += stride(n)) {
        last->by_bias[0] += by_logits[i];
        for (size_t h = 0; h < n; h++)
            last->by_weight[h] += by_logits[i] * in[h], by_input[h] = by_logits[i] * last->weight[h];
        NAME(rectify_backward)(in, by_input, n, to, by_bias);
    }
}

KERNEL void NAME(hidden_backward)(size_t b, size_t num_layers, const Layer *layers, const float *activations,
                                  const float *by_logits, float *scratch, float *by_x, float *by_first_bias) {
    size_t most = widest(num_layers, layers), depth = layers->depth, last = num_layers - 1;
    float *by_input = aligned(scratch), *to = by_input + BLOCK * most, *from = to + BLOCK * most, *matrices = from + BLOCK * most;
    float *weights[MOST_LAYERS], *by_weights[MOST_LAYERS]; /* padded */
    for (size_t l = 0; l < last; l++) {
        size_t size = layers[l].width * stride(layers[l].depth);
        weights[l] = matrices, by_weights[l] = matrices + size, matrices += 2 * size;
        NAME(pad)(layers[l].weight, layers[l].width, layers[l].depth, weights[l]);
        memset(by_weights[l], 0, size * sizeof(float));
        memset(layers[l].by_bias, 0, layers[l].width * sizeof(float));
    }
    memset(by_first_bias, 0, depth * sizeof(float));
    memset(layers[last].by_weight, 0, layers[last].depth * sizeof(float));
    layers[last].by_bias[0] = 0;
    for (size_t i = 0, some; i < b; i += some) {
        some = b - i < BLOCK ? b - i : BLOCK;
        for (size_t l = num_layers; l-- > 0;) {
            const Layer *layer = &layers[l];
            size_t before = stride(layer->depth), after = stride(layer->width);
            const float *in = inputs(activations, b, layers, l) + i * before;
            float *by_bias = l > 0 ? layer[-1].by_bias : by_first_bias, *swapped = from;
            if (l == last) {
                NAME(last_layer_backward)(some, layer, by_logits + i, in, by_input, to, by_bias);
            } else {
                NAME(add_sparse)((Sparse){from, 1, after}, layer->width, some, in, before, layer->depth, by_weights[l], before);
                memset(by_input, 0, some * before * sizeof(float));
                NAME(add_sparse)((Sparse){from, after, 1}, some, layer->width, weights[l], before, layer->depth, by_input, before);
                for (size_t j = 0; j < some; j++)
                    NAME(rectify_backward)(in + j * before, by_input + j * before, layer->depth, to + j * before, by_bias);
            }
            from = to, to = swapped;
        }
        for (size_t j = 0; j < some; j++) memcpy(by_x + (i + j) * depth, from + j * stride(depth), depth * sizeof(float));
    }
    for (size_t l = 0; l < last; l++)
        for (size_t h = 0; h < layers[l].width; h++)
            memcpy(layers[l].by_weight + h * layers[l].depth, by_weights[l] + h * stride(layers[l].depth), layers[l].depth * sizeof(float));
}
