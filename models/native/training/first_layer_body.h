/* The first layer and the factorisation machine over a batch's distinct rows, see `kernels.h`, with vectors of LANES numbers.
 *
 * The first layer is linear, so it is applied to each distinct row once and the results are summed over an impression's
 * fields; backwards, the hidden units' gradients are summed over the impressions of each row first. */

/* to [n vectors] = Σ mask · row over the shares of rows [*, n vectors]; n is a constant where this is inlined, so sums stay in
 * registers. */
INLINE void NAME(sum_some)(size_t n, const float *rows, const Share *shares, size_t count, float *to) {
    NAME(Vector) sums[PANEL] = {0};
    for (size_t j = 0; j < count; j++) {
        const float *row = rows + shares[j].row * n * LANES;
        NAME(Vector) mask = NAME(all)(shares[j].mask);
#pragma GCC unroll 8
        for (size_t v = 0; v < n; v++) sums[v] += mask * NAME(load)(row + v * LANES);
    }
#pragma GCC unroll 8
    for (size_t v = 0; v < n; v++) NAME(store)(to + v * LANES, sums[v]);
}

INLINE void NAME(sum)(size_t n, const float *rows, const Share *shares, size_t count, float *to) {
#define CASE(n) case n: NAME(sum_some)(n, rows, shares, count, to); break
    switch (n) {
        CASE(1); CASE(2); CASE(3); CASE(4); CASE(5); CASE(6); CASE(7); CASE(PANEL);
    }
#undef CASE
}

/* to [length], a multiple of LANES, = Σ mask · row [length] over the shares of rows [*, width]. */
INLINE void NAME(sum_embeddings)(const float *rows, size_t width, size_t length, const Share *shares, size_t count, float *to) {
    for (size_t at = 0; at < length; at += LANES) {
        NAME(Vector) sum = {0};
        for (size_t j = 0; j < count; j++) sum += NAME(all)(shares[j].mask) * NAME(load)(rows + shares[j].row * width + at);
        NAME(store)(to + at, sum);
    }
}

/* Vectors in the next panel of hidden units, which begins at unit h; panels are about equal. */
INLINE size_t NAME(panel)(const Batch *x, size_t h) {
    size_t left = (x->H - h + LANES - 1) / LANES, panels = (left + PANEL - 1) / PANEL;
    return (left + panels - 1) / panels;
}

/* rows [U, padded E + PADDING]: each distinct row's embedding, padded with zeros, then its weight and its squared norm. */
INLINE void NAME(copy_rows)(const Batch *x, float *rows) {
    size_t E = padded(x->E), width = E + PADDING;
    for (size_t r = 0; r < x->U; r++, rows += width) {
        const float *value = x->values + r * (x->E + 1);
        float square = 0;
        for (size_t e = 0; e < x->E; e++) rows[e] = value[e], square += value[e] * value[e];
        for (size_t e = x->E; e < E; e++) rows[e] = 0;
        rows[E] = value[x->E], rows[E + 1] = square;
    }
}

/* to [U, n vectors] = the first layer of each distinct row, for the panel of hidden units from h on. */
INLINE void NAME(project)(const Batch *x, const float *rows, size_t h, size_t n, float *by_unit, float *to) {
    size_t width = padded(x->E) + PADDING, H = n * LANES, num = x->H - h < H ? x->H - h : H, E = x->E;
    for (size_t f = 0; f < x->F; f++) {
        size_t start = x->bounds[f], end = x->bounds[f + 1];
        if (start == end) continue;
        memset(by_unit, 0, E * H * sizeof(float)); /* [E, H] of this field */
        for (size_t j = 0; j < num; j++)
            for (size_t e = 0; e < E; e++) by_unit[e * H + j] = x->weight[(h + j) * x->F * E + f * E + e];
        for (size_t r = start; r < end; r += TOGETHER) /* rows after a field's last are computed and written over */
            for (size_t j = 0; j < H; j += 2 * LANES) {
                int both = j + LANES < H;
                NAME(Vector) left[TOGETHER], right[TOGETHER];
                for (int k = 0; k < TOGETHER; k++) left[k] = right[k] = (NAME(Vector)){0};
                for (size_t e = 0; e < E; e++) {
                    NAME(Vector) one = NAME(load)(by_unit + e * H + j);
                    NAME(Vector) two = both ? NAME(load)(by_unit + e * H + j + LANES) : one;
                    for (int k = 0; k < TOGETHER; k++) {
                        NAME(Vector) value = NAME(all)(rows[(r + (size_t)k) * width + e]);
                        left[k] += value * one, right[k] += value * two;
                    }
                }
                for (size_t k = 0; k < TOGETHER; k++) {
                    NAME(store)(to + (r + k) * H + j, left[k]);
                    if (both) NAME(store)(to + (r + k) * H + j + LANES, right[k]);
                }
            }
    }
}

KERNEL void NAME(first_layer)(const Batch *x, float *scratch, float *sums, float *totals, float *fm) {
    size_t E = padded(x->E), width = E + PADDING, U = x->U + TOGETHER;
    float *rows = aligned(scratch), *panel = rows + U * width, *to = panel + U * PANEL * LANES, *by_unit = to + E + PANEL * LANES;
    Share *shares = (Share *)(by_unit + E * PANEL * LANES);
    NAME(copy_rows)(x, rows);
    memset(rows + x->U * width, 0, TOGETHER * width * sizeof(float));
    for (size_t i = 0; i < x->b; i++) {
        Share *own = shares + i * x->F;
        float first = 0, squares = 0;
        for (size_t f = 0; f < x->F; f++) {
            size_t index = (size_t)x->index[i * x->F + f];
            float mask = x->mask[i * x->F + f];
            own[f] = (Share){(uint32_t)index, mask};
            first += rows[index * width + E], squares += mask * mask * rows[index * width + E + 1];
        }
        NAME(sum_embeddings)(rows, width, E, own, x->F, to);
        memcpy(totals + i * x->E, to, x->E * sizeof(float));
        fm[i] = first + second_order(to, x->E, squares);
    }
    for (size_t h = 0, n; h < x->H; h += n * LANES) {
        n = NAME(panel)(x, h);
        size_t num = x->H - h < n * LANES ? x->H - h : n * LANES;
        NAME(project)(x, rows, h, n, by_unit, panel);
        for (size_t i = 0; i < x->b; i++) {
            NAME(sum)(n, panel, shares + i * x->F, x->F, to);
            memcpy(sums + i * x->H + h, to, num * sizeof(float));
        }
    }
}

/* For TOGETHER rows of one field, from the gradients `sums` of their H hidden units: by_embedding [TOGETHER, E] += sums weight
 * [H, E], and change [H, E], the weight's gradient, += sumsᵀ values [TOGETHER, E]. */
INLINE void NAME(back_through)(size_t H, size_t E, const float *weight, float *change, const float *values, const float *sums,
                               size_t width, float *by_embedding) {
    for (size_t e = 0; e < E; e += LANES) {
        NAME(Vector) total[TOGETHER], value[TOGETHER];
        for (size_t k = 0; k < TOGETHER; k++) {
            total[k] = NAME(load)(by_embedding + k * E + e);
            value[k] = NAME(load)(values + k * E + e);
        }
        for (size_t h = 0; h < H; h++) {
            NAME(Vector) w = NAME(load)(weight + h * E + e), d = NAME(load)(change + h * E + e);
            for (size_t k = 0; k < TOGETHER; k++) {
                NAME(Vector) unit = NAME(all)(sums[k * width + h]);
                total[k] += unit * w, d += unit * value[k];
            }
            NAME(store)(change + h * E + e, d);
        }
        for (size_t k = 0; k < TOGETHER; k++) NAME(store)(by_embedding + k * E + e, total[k]);
    }
}

/* Gradients from those of the first two orders: by_embedding [U, padded E], and the weights' part of by_values [U, E + 1]. */
INLINE void NAME(back_from_fm)(const Batch *x, const float *by_fm, const float *totals, const uint32_t *ends,
                               const Share *holders, float *rows, float *by_embedding, float *by_values) {
    size_t E = padded(x->E);
    for (size_t i = 0; i < x->b; i++)
        for (size_t e = 0; e < E; e++) rows[i * E + e] = e < x->E ? by_fm[i] * totals[i * x->E + e] : 0;
    for (size_t r = 0; r < x->U; r++) {
        const Share *own = holders + (r ? ends[r - 1] : 0);
        size_t count = (size_t)(holders + ends[r] - own);
        float by_own = 0, by_first = 0, *to = by_embedding + r * E;
        for (size_t j = 0; j < count; j++) {
            float g = by_fm[own[j].row];
            by_own -= own[j].mask * own[j].mask * g, by_first += g;
        }
        NAME(sum_embeddings)(rows, E, E, own, count, to);
        for (size_t e = 0; e < x->E; e++) to[e] += by_own * x->values[r * (x->E + 1) + e]; /* of g·(Σ_j v_j − v_i) */
        by_values[r * (x->E + 1) + x->E] = by_first;
    }
}

/* Add the gradients from those of the hidden units from h on, by_unit [b, n vectors], to by_embedding; write their part of
 * by_weight. */
INLINE void NAME(back_from_units)(const Batch *x, size_t h, size_t n, const float *by_unit, const uint32_t *ends,
                                  const Share *holders, float *scratch, float *by_embedding, float *by_weight) {
    size_t E = padded(x->E), width = n * LANES, H = x->H - h < width ? x->H - h : width;
    float *sums = scratch, *weight = sums + TOGETHER * width, *change = weight + width * E, *values = change + width * E;
    memset(values, 0, TOGETHER * E * sizeof(float));
    for (size_t f = 0; f < x->F; f++) {
        memset(weight, 0, 2 * width * E * sizeof(float)); /* and `change` */
        for (size_t j = 0; j < H; j++)
            memcpy(weight + j * E, x->weight + (h + j) * x->F * x->E + f * x->E, x->E * sizeof(float));
        size_t end = x->bounds[f + 1];
        for (size_t r = x->bounds[f]; r < end; r += TOGETHER) {
            size_t num = end - r < TOGETHER ? end - r : TOGETHER;
            if (num < TOGETHER) memset(sums, 0, TOGETHER * width * sizeof(float));
            for (size_t k = 0; k < num; k++) {
                size_t start = r + k ? ends[r + k - 1] : 0;
                NAME(sum)(n, by_unit, holders + start, ends[r + k] - start, sums + k * width);
                memcpy(values + k * E, x->values + (r + k) * (x->E + 1), x->E * sizeof(float));
            }
            /* the rows after a field's last have sums of zeros, which add nothing */
            NAME(back_through)(H, E, weight, change, values, sums, width, by_embedding + r * E);
        }
        for (size_t j = 0; j < H; j++)
            memcpy(by_weight + (h + j) * x->F * x->E + f * x->E, change + j * E, x->E * sizeof(float));
    }
}

KERNEL void NAME(first_layer_backward)(const Batch *x, const float *by_sums, const float *by_fm, const float *totals,
                                       float *scratch, float *by_values, float *by_weight) {
    size_t E = padded(x->E), wide = PANEL * LANES > E ? PANEL * LANES : E;
    float *by_unit = aligned(scratch), *by_embedding = by_unit + x->b * wide, *more = by_embedding + (x->U + TOGETHER) * E;
    Share *holders = (Share *)(more + PANEL * LANES * (TOGETHER + 2 * E) + TOGETHER * E);
    uint32_t *ends = (uint32_t *)(holders + x->b * x->F);
    transpose(x, ends, holders);
    memset(by_embedding + x->U * E, 0, TOGETHER * E * sizeof(float));
    NAME(back_from_fm)(x, by_fm, totals, ends, holders, by_unit, by_embedding, by_values);
    for (size_t h = 0, n; h < x->H; h += n * LANES) {
        n = NAME(panel)(x, h);
        size_t width = n * LANES, num = x->H - h < width ? x->H - h : width;
        for (size_t i = 0; i < x->b; i++) {
            memcpy(by_unit + i * width, by_sums + i * x->H + h, num * sizeof(float));
            memset(by_unit + i * width + num, 0, (width - num) * sizeof(float));
        }
        NAME(back_from_units)(x, h, n, by_unit, ends, holders, more, by_embedding, by_weight);
    }
    for (size_t r = 0; r < x->U; r++) memcpy(by_values + r * (x->E + 1), by_embedding + r * E, x->E * sizeof(float));
}
