/* Products with sparse matrices, with vectors of LANES numbers; see `sparse.h`.
 *
 * For 64 elements of a row at a time, a word says which are not zero. For each of these, in order, a row of the dense matrix,
 * which is in the first-level cache, is added to sums in registers. */

/* marks [rows]: bit k says whether element k, below `count`, is not zero. */
INLINE void NAME(mark)(Sparse a, size_t rows, size_t count, uint64_t *marks) {
    memset(marks, 0, rows * sizeof *marks);
    if (a.row == 1) {
        for (size_t k = 0; k < count; k++)
            for (size_t i = 0; i < rows; i++) marks[i] |= (uint64_t)(a.at[k * a.column + i] != 0) << k;
        return;
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < count; k += LANES) marks[i] |= (uint64_t)NAME(not_zero)(a.at + i * a.row + k) << k;
}

/* sums [n vectors] += number * b. */
INLINE void NAME(add_times)(size_t n, float number, const float *b, NAME(Vector) *sums) {
    NAME(Vector) numbers = NAME(all)(number);
#pragma GCC unroll 9
    for (size_t v = 0; v < n; v++) sums[v] += numbers * NAME(load)(b + v * LANES);
}

/* c [rows, n vectors] += a b for BITS columns of a; n is a constant where this is inlined, so sums stay in registers. */
INLINE void NAME(add_vectors)(size_t n, Sparse a, size_t rows, const uint64_t *marks, const float *b, size_t b_stride,
                              float *c, size_t c_stride) {
    for (size_t i = 0; i < rows; i++, c += c_stride) {
        const float *numbers = a.at + i * a.row;
        uint64_t left = marks[i];
        int count = __builtin_popcountll(left);
        NAME(Vector) sums[MOST];
#pragma GCC unroll 9
        for (size_t v = 0; v < n; v++) sums[v] = NAME(load)(c + v * LANES);
        if (count % 2) {
            size_t k = (size_t)__builtin_ctzll(left);
            NAME(add_times)(n, numbers[k * a.column], b + k * b_stride, sums);
            left &= left - 1;
        }
        for (count /= 2; count > 0; count--) { /* by twos: half as many mispredicted jumps */
            size_t k = (size_t)__builtin_ctzll(left);
            left &= left - 1;
            size_t next = (size_t)__builtin_ctzll(left);
            left &= left - 1;
            NAME(add_times)(n, numbers[k * a.column], b + k * b_stride, sums);
            NAME(add_times)(n, numbers[next * a.column], b + next * b_stride, sums);
        }
#pragma GCC unroll 9
        for (size_t v = 0; v < n; v++) NAME(store)(c + v * LANES, sums[v]);
    }
}

/* c [rows, width] += a [rows, depth] b [depth, width], skipping zeros of a; rows of b and c are padded. */
KERNEL void NAME(add_sparse)(Sparse a, size_t rows, size_t depth, const float *b, size_t b_stride, size_t width, float *c,
                             size_t c_stride) {
    size_t vectors = (width + LANES - 1) / LANES, panels = (vectors + MOST - 1) / MOST;
    uint64_t marks[BLOCK];
    for (size_t i = 0; i < rows; i += BLOCK)
        for (size_t k = 0; k < depth; k += BITS) {
            Sparse part = {a.at + i * a.row + k * a.column, a.row, a.column};
            size_t some = rows - i < BLOCK ? rows - i : BLOCK;
            NAME(mark)(part, some, depth - k < BITS ? depth - k : BITS, marks);
            for (size_t p = 0, v = 0, n; p < panels; p++, v += n) {
                const float *from = b + k * b_stride + v * LANES;
                float *to = c + i * c_stride + v * LANES;
                n = (vectors - v) / (panels - p);
#define CASE(n) case n: NAME(add_vectors)(n, part, some, marks, from, b_stride, to, c_stride); break
                switch (n) {
                    CASE(1); CASE(2); CASE(3); CASE(4); CASE(5); CASE(6); CASE(7); CASE(8); CASE(MOST);
                }
#undef CASE
            }
        }
}
