/* What `step.h` declares, with vectors of LANES numbers. */

/* to[0 … n vectors) = Σ kept · row over some shares of rows; n is a constant where this is inlined, so sums stay in
 * registers. */
INLINE void NAME(sum_some)(size_t n, const float *rows, size_t width, const Share *shares, size_t count, float *to) {
    NAME(Vector) sums[8] = {0};
    for (size_t j = 0; j < count; j++) {
        const float *row = rows + (size_t)shares[j].row * width;
        NAME(Vector) kept = NAME(all)(shares[j].kept);
#pragma GCC unroll 8
        for (size_t v = 0; v < n; v++) sums[v] += kept * NAME(load)(row + v * LANES);
    }
#pragma GCC unroll 8
    for (size_t v = 0; v < n; v++) NAME(store)(to + v * LANES, sums[v]);
}

/* to[length] = Σ kept · row[0 … length) over some shares of rows. */
INLINE void NAME(sum)(const float *rows, size_t width, size_t length, const Share *shares, size_t count, float *to) {
    size_t at = 0;
    for (; at + 8 * LANES <= length; at += 8 * LANES) NAME(sum_some)(8, rows + at, width, shares, count, to + at);
    for (; at + 2 * LANES <= length; at += 2 * LANES) NAME(sum_some)(2, rows + at, width, shares, count, to + at);
    for (; at < length; at += LANES) NAME(sum_some)(1, rows + at, width, shares, count, to + at);
}

INLINE void NAME(ask_for)(const float *row, size_t length) {
    for (size_t at = 0; at < length; at += LANES) __builtin_prefetch(row + at);
}

/* Each distinct row's part of the first layer, beside its embedding, weight and square. */
INLINE void NAME(project)(const Batch *x, float *restrict rows, float *restrict by_unit) {
    size_t H = padded(x->H), E = x->E, width = stride(x), after = H + padded(E);
    for (size_t f = 0; f < x->F; f++) {
        size_t start = (size_t)x->bounds[f], end = (size_t)x->bounds[f + 1];
        if (start == end) continue;
        memset(by_unit, 0, E * H * sizeof(float)); /* [E, H] of this field */
        for (size_t h = 0; h < x->H; h++)
            for (size_t e = 0; e < E; e++) by_unit[e * H + h] = x->weight[h * x->F * E + f * E + e];
        for (size_t r = start; r < end; r++) {
            float *row = rows + r * width;
            const float *value = x->values + r * (E + 1);
            float square = 0;
            for (size_t e = 0; e < E; e++) row[H + e] = value[e], square += value[e] * value[e];
            for (size_t e = E; e < padded(E); e++) row[H + e] = 0;
            row[after] = value[E], row[after + 1] = square;
        }
        for (size_t r = start; r < end; r += TOGETHER) /* rows after a field's last are computed and left */
            for (size_t h = 0; h < H; h += 2 * LANES) {
                int both = h + LANES < H;
                NAME(Vector) left[TOGETHER], right[TOGETHER];
                for (int k = 0; k < TOGETHER; k++) left[k] = right[k] = (NAME(Vector)){0};
                for (size_t e = 0; e < E; e++) {
                    NAME(Vector) one = NAME(load)(by_unit + e * H + h);
                    NAME(Vector) two = both ? NAME(load)(by_unit + e * H + h + LANES) : one;
                    for (int k = 0; k < TOGETHER; k++) {
                        NAME(Vector) value = NAME(all)(rows[(r + (size_t)k) * width + H + e]);
                        left[k] += value * one, right[k] += value * two;
                    }
                }
                for (size_t k = 0; k < TOGETHER && r + k < end; k++) {
                    NAME(store)(rows + (r + k) * width + h, left[k]);
                    if (both) NAME(store)(rows + (r + k) * width + h + LANES, right[k]);
                }
            }
    }
}

KERNEL void NAME(forward)(const Batch *x, const float *bias, float *scratch, float *hidden, float *totals, float *logits) {
    size_t H = padded(x->H), width = stride(x), length = H + padded(x->E);
    float *rows = aligned(scratch), *to = rows + (x->U + TOGETHER) * width, *by_unit = to + width;
    Share *shares = (Share *)(by_unit + x->E * H);
    memset(rows + x->U * width, 0, TOGETHER * width * sizeof(float));
    NAME(project)(x, rows, by_unit);
    for (size_t i = 0; i < x->b; i++) {
        const int64_t *index = x->index + i * x->F;
        const float *kept = x->kept + i * x->F;
        float first = 0, squares = 0, square = 0;
        for (size_t f = 0; f < x->F; f++) {
            const float *row = rows + (size_t)index[f] * width + length;
            shares[f] = (Share){(uint32_t)index[f], kept[f]};
            first += row[0], squares += kept[f] * kept[f] * row[1];
            if (i + 1 < x->b) NAME(ask_for)(rows + (size_t)index[x->F + f] * width, width);
        }
        NAME(sum)(rows, width, length, shares, x->F, to);
        for (size_t h = 0; h < x->H; h++) hidden[i * x->H + h] = to[h] + bias[h];
        for (size_t e = 0; e < x->E; e++) totals[i * x->E + e] = to[H + e], square += to[H + e] * to[H + e];
        logits[i] = first + 0.5f * (square - squares);
    }
}

/* TOGETHER rows of one field: their sums of hidden units' gradients, by the layer's weight [H, E], are added to those of
 * their embeddings, which follow, and by their values [TOGETHER, E] to the change of the layer [H, E]. */
INLINE void NAME(back_through)(const Batch *x, const float *weight, float *change, const float *values, float *sums) {
    size_t H = padded(x->H), E = padded(x->E), width = H + E;
    for (size_t e = 0; e < E; e += LANES) {
        NAME(Vector) total[TOGETHER], value[TOGETHER];
        for (size_t k = 0; k < TOGETHER; k++) {
            total[k] = NAME(load)(sums + k * width + H + e);
            value[k] = NAME(load)(values + k * E + e);
        }
        for (size_t h = 0; h < x->H; h++) {
            NAME(Vector) w = NAME(load)(weight + h * E + e), d = NAME(load)(change + h * E + e);
            for (size_t k = 0; k < TOGETHER; k++) {
                NAME(Vector) unit = NAME(all)(sums[k * width + h]);
                total[k] += unit * w, d += unit * value[k];
            }
            NAME(store)(change + h * E + e, d);
        }
        for (size_t k = 0; k < TOGETHER; k++) NAME(store)(sums + k * width + H + e, total[k]);
    }
}

KERNEL void NAME(backward)(const Batch *x, const float *by_hidden, const float *by_logit, const float *totals,
                           float *scratch, float *gradient, float *by_weight) {
    size_t H = padded(x->H), E = padded(x->E), width = H + E; /* no room is needed for what is left */
    float *rows = aligned(scratch), *sums = rows + x->b * width, *weight = sums + TOGETHER * width;
    float *change = weight + H * E, *values = change + H * E;
    Share *holders = (Share *)(values + TOGETHER * E), *last = holders + x->b * x->F;
    uint32_t *ends = (uint32_t *)last;
    for (size_t i = 0; i < x->b; i++) {
        float *row = rows + i * width;
        memset(row, 0, width * sizeof(float));
        memcpy(row, by_hidden + i * x->H, x->H * sizeof(float));
        for (size_t e = 0; e < x->E; e++) row[H + e] = by_logit[i] * totals[i * x->E + e];
    }
    transpose(x, ends, holders);
    memset(values, 0, TOGETHER * E * sizeof(float));
    for (size_t f = 0; f < x->F; f++) {
        memset(weight, 0, 2 * H * E * sizeof(float)); /* and `change` */
        for (size_t h = 0; h < x->H; h++)
            memcpy(weight + h * E, x->weight + h * x->F * x->E + f * x->E, x->E * sizeof(float));
        size_t end = (size_t)x->bounds[f + 1];
        for (size_t r = (size_t)x->bounds[f]; r < end; r += TOGETHER) {
            size_t num = end - r < TOGETHER ? end - r : TOGETHER;
            if (num < TOGETHER) memset(sums, 0, TOGETHER * width * sizeof(float));
            for (size_t k = 0; k < num; k++) {
                const Share *own = holders + (r + k ? ends[r + k - 1] : 0);
                size_t count = (size_t)(holders + ends[r + k] - own);
                float by_own = 0, by_first = 0, *to = sums + k * width;
                for (size_t j = 0; j < count; j++) {
                    float g = by_logit[own[j].row];
                    if (own + j + AHEAD < last) NAME(ask_for)(rows + (size_t)own[j + AHEAD].row * width, width);
                    by_own -= own[j].kept * own[j].kept * g, by_first += g;
                }
                NAME(sum)(rows, width, width, own, count, to);
                const float *value = x->values + (r + k) * (x->E + 1);
                for (size_t e = 0; e < x->E; e++) {
                    values[k * E + e] = value[e];
                    to[H + e] += by_own * value[e]; /* of g·(Σ_j v_j − v_i) */
                }
                gradient[(r + k) * (x->E + 1) + x->E] = by_first;
            }
            NAME(back_through)(x, weight, change, values, sums);
            for (size_t k = 0; k < num; k++)
                memcpy(gradient + (r + k) * (x->E + 1), sums + k * width + H, x->E * sizeof(float));
        }
        for (size_t h = 0; h < x->H; h++)
            memcpy(by_weight + h * x->F * x->E + f * x->E, change + h * E, x->E * sizeof(float));
    }
}

KERNEL void NAME(adagrad)(size_t U, size_t E, const int64_t *touched, const float *values, const float *gradient,
                       const float *decay, const float *precision, float learning_rate, float *table, float *squares) {
    size_t D = E + 1;
    for (size_t u = 0; u < U; u++) {
        if (u + AHEAD < U) {
            size_t next = (size_t)touched[u + AHEAD];
            __builtin_prefetch(table + next * D, 1), __builtin_prefetch(table + next * D + E, 1);
            __builtin_prefetch(squares + next * 2, 1), __builtin_prefetch(decay + next);
        }
        size_t row = (size_t)touched[u];
        const float *value = values + u * D, *given = gradient + u * D;
        float *to = table + row * D, *sums = squares + row * 2, shrink = decay[row], square = 0;
        size_t whole = E / LANES * LANES;
        NAME(Vector) together = {0};
#define BY(e) (given[e] + shrink * precision[e] * value[e])
#define BY_VEC(e) (NAME(load)(given + (e)) + NAME(all)(shrink) * NAME(load)(precision + (e)) * NAME(load)(value + (e)))
        for (size_t e = 0; e < whole; e += LANES) together += BY_VEC(e) * BY_VEC(e);
        for (size_t e = whole; e < E; e++) square += BY(e) * BY(e);
        for (int v = 0; v < LANES; v++) square += together[v];
        sums[0] += square / (float)E, sums[1] += BY(E) * BY(E);
        float step = -learning_rate / (sqrtf(sums[0]) + SMALL);
        for (size_t e = 0; e < whole; e += LANES) NAME(store)(to + e, NAME(load)(to + e) + BY_VEC(e) * NAME(all)(step));
        for (size_t e = whole; e < E; e++) to[e] += BY(e) * step;
        to[E] -= BY(E) * (learning_rate / (sqrtf(sums[1]) + SMALL));
    }
}

static const StepKernels NAME(kernels) = {NAME(forward), NAME(backward), NAME(adagrad)};
