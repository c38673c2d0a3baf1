/* Row-wise Adagrad, see `kernels.h`, with vectors of LANES numbers. */

KERNEL void NAME(adagrad)(size_t U, size_t E, const int64_t *rows, const float *gradient, float learning_rate, float *table,
                          float *squares) {
    size_t D = E + 1, whole = E / LANES * LANES;
    for (size_t u = 0; u < U; u++, gradient += D) {
        if (u + AHEAD < U) {
            size_t next = (size_t)rows[u + AHEAD];
            __builtin_prefetch(table + next * D, 1), __builtin_prefetch(table + next * D + E, 1);
            __builtin_prefetch(squares + next * 2, 1);
        }
        float *to = table + (size_t)rows[u] * D, *sums = squares + (size_t)rows[u] * 2, square = 0;
        NAME(Vector) parts = {0};
        for (size_t e = 0; e < whole; e += LANES) parts += NAME(load)(gradient + e) * NAME(load)(gradient + e);
        for (size_t e = whole; e < E; e++) square += gradient[e] * gradient[e];
        for (int v = 0; v < LANES; v++) square += parts[v];
        sums[0] += square / (float)E, sums[1] += gradient[E] * gradient[E];
        float step = learning_rate / (sqrtf(sums[0]) + SMALL);
        for (size_t e = 0; e < whole; e += LANES)
            NAME(store)(to + e, NAME(load)(to + e) - NAME(load)(gradient + e) * NAME(all)(step));
        for (size_t e = whole; e < E; e++) to[e] -= gradient[e] * step;
        to[E] -= gradient[E] * (learning_rate / (sqrtf(sums[1]) + SMALL));
    }
}
