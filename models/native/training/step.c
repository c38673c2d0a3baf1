#include "training/step.h"

#include <math.h>
#include <string.h>

#include "simd/second_order.h"

#define PADDING 16 /* a row of scratch memory is padded to a multiple of so many numbers, the longest vector */
#define MOST 8 /* vectors of hidden units that are gone through together: all rows' parts of them stay in the caches */
#define TOGETHER 4 /* rows that share what is read of the first layer */
#define AHEAD 8 /* values whose rows are asked for before their turn */
#define SMALL 1e-8f

static inline size_t padded(size_t n) { return (n + PADDING - 1) / PADDING * PADDING; }

static inline float *aligned(float *p) { return (float *)(((uintptr_t)p + 63) / 64 * 64); }

/* A row of scratch memory, of a distinct row or of an impression, and what of it is taken. */
typedef struct {
    uint32_t row;
    float kept;
} Share;

/* The impressions that hold each row, [b * F], in their order: those of row r end at ends[r], where the next row's begin. */
static void transpose(const Batch *x, uint32_t *ends, Share *holders) {
    memset(ends, 0, (x->U + 1) * sizeof(uint32_t));
    for (size_t n = 0; n < x->b * x->F; n++) ends[x->index[n] + 1]++;
    for (size_t r = 0; r < x->U; r++) ends[r + 1] += ends[r];
    for (size_t i = 0, n = 0; i < x->b; i++)
        for (size_t f = 0; f < x->F; f++, n++) holders[ends[x->index[n]]++] = (Share){(uint32_t)i, x->kept[n]};
}

#if defined(__x86_64__)
#define LANES 16
#define TARGET "avx512f"
#include "simd/vectors.h"
#include "training/step_body.h"
#undef LANES
#undef TARGET

#define LANES 8
#define TARGET "avx2,fma"
#include "simd/vectors.h"
#include "training/step_body.h"
#undef LANES
#undef TARGET
#endif

#define LANES 4
#include "simd/vectors.h"
#include "training/step_body.h"

const StepKernels *find_step_kernels(size_t longest) {
#if defined(__x86_64__)
    if (longest >= 16 && __builtin_cpu_supports("avx512f")) return &kernels_16;
    if (longest >= 8 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &kernels_8;
#endif
    (void)longest;
    return &kernels_4;
}

size_t step_scratch(const Batch *x) {
    size_t U = x->U + TOGETHER, E = padded(x->E), panel = MOST * PADDING, wide = panel > E ? panel : E;
    size_t shares = 2 * x->b * x->F, forward = U * (E + PADDING + panel) + E + panel + E * panel;
    size_t backward = x->b * wide + U * E + panel * (TOGETHER + 2 * E) + TOGETHER * E + x->U + 1;
    return (forward > backward ? forward : backward) + shares + PADDING;
}

int step_check(const Batch *x) {
    int wrong = x->bounds[0] != 0 || x->bounds[x->F] != (int64_t)x->U;
    for (size_t f = 0; f < x->F; f++) wrong |= x->bounds[f] > x->bounds[f + 1];
    for (size_t i = 0; i < x->b; i++)
        for (size_t f = 0; f < x->F; f++) {
            int64_t row = x->index[i * x->F + f];
            wrong |= row < x->bounds[f] || row >= x->bounds[f + 1];
        }
    return wrong ? -1 : 0;
}
