#include "training/kernels.h"

#include <math.h>

#include "simd/second_order.h"

#define PANEL 8    /* vectors of hidden units that are worked on together: all rows' parts of them stay in the caches */
#define TOGETHER 4 /* rows that share what is read of the first layer */
#define AHEAD 8    /* table rows that are asked for before their turn */
#define SMALL 1e-8f

static inline float *aligned(const float *p) { return (float *)(((uintptr_t)p + 63) / 64 * 64); }

/* A row of scratch memory and what it is multiplied by. */
typedef struct {
    uint32_t row;
    float mask;
} Share;

/* The impressions that hold each row, [b * F], in their order: those of row r end at ends[r], where the next row's begin. */
static void transpose(const Batch *x, uint32_t *ends, Share *holders) {
    memset(ends, 0, (x->U + 1) * sizeof(uint32_t));
    for (size_t n = 0; n < x->b * x->F; n++) ends[x->index[n] + 1]++;
    for (size_t r = 0; r < x->U; r++) ends[r + 1] += ends[r];
    for (size_t i = 0, n = 0; i < x->b; i++)
        for (size_t f = 0; f < x->F; f++, n++) holders[ends[x->index[n]]++] = (Share){(uint32_t)i, x->mask[n]};
}

size_t first_layer_scratch(const Batch *x) {
    size_t U = x->U + TOGETHER, E = padded(x->E), panel = PANEL * PADDING, wide = panel > E ? panel : E;
    size_t shares = 2 * x->b * x->F, forward = U * (E + PADDING + panel) + E + panel + E * panel;
    size_t backward = x->b * wide + U * E + panel * (TOGETHER + 2 * E) + TOGETHER * E + x->U + 1;
    return (forward > backward ? forward : backward) + shares + PADDING;
}

/* The inputs of layer l, [b, stride(depth)], after those of the layers before it. */
static float *inputs(const float *activations, size_t b, const Layer *layers, size_t l) {
    float *at = aligned(activations);
    for (size_t k = 0; k < l; k++) at += b * stride(layers[k].depth);
    return at;
}

size_t activations_size(size_t b, size_t num_layers, const Layer *layers) {
    size_t size = PADDING;
    for (size_t l = 0; l < num_layers; l++) size += b * stride(layers[l].depth);
    return size;
}

static size_t widest(size_t num_layers, const Layer *layers) {
    size_t most = 0;
    for (size_t l = 0; l < num_layers; l++) most = stride(layers[l].depth) > most ? stride(layers[l].depth) : most;
    return most;
}

size_t hidden_scratch(size_t num_layers, const Layer *layers) {
    size_t size = PADDING + 3 * BLOCK * widest(num_layers, layers);
    for (size_t l = 0; l < num_layers; l++) size += 2 * stride(layers[l].width) * stride(layers[l].depth);
    return size;
}

#if defined(__x86_64__)
#define LANES 16
#define TARGET "avx512f"
#include "training/bodies.h"
#undef LANES
#undef TARGET

#define LANES 8
#define TARGET "avx2,fma"
#include "training/bodies.h"
#undef LANES
#undef TARGET
#endif

#define LANES 4
#include "training/bodies.h"

const TrainingKernels *find_training_kernels(size_t longest) {
#if defined(__x86_64__)
    if (longest >= 16 && __builtin_cpu_supports("avx512f")) return &kernels_16;
    if (longest >= 8 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &kernels_8;
#endif
    (void)longest;
    return &kernels_4;
}
