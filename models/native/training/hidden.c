#include "training/hidden.h"

#include "simd/sparse.h"

static inline float *aligned(float *p) { return (float *)(((uintptr_t)p + 63) / 64 * 64); }

/* Where scratch memory has a layer's inputs [b, stride(depth)]; behind the last layer's is what one layer at a time needs. */
static float *inputs(float *scratch, size_t b, const Layer *layers, size_t l) {
    float *at = aligned(scratch);
    for (size_t k = 0; k < l; k++) at += b * stride(layers[k].depth);
    return at;
}

static size_t widest(size_t num_layers, const Layer *layers) {
    size_t most = 0;
    for (size_t l = 0; l < num_layers; l++) most = stride(layers[l].depth) > most ? stride(layers[l].depth) : most;
    return most;
}

size_t hidden_scratch(size_t b, size_t num_layers, const Layer *layers) {
    size_t most = widest(num_layers, layers), needed = PADDING;
    for (size_t l = 0; l < num_layers; l++) needed += b * stride(layers[l].depth);
    return needed + 2 * most * most + BLOCK * most;
}

#if defined(__x86_64__)
#define LANES 16
#define TARGET "avx512f"
#include "simd/vectors.h"
#include "simd/sparse_body.h"
#include "training/hidden_body.h"
#undef LANES
#undef TARGET

#define LANES 8
#define TARGET "avx2,fma"
#include "simd/vectors.h"
#include "simd/sparse_body.h"
#include "training/hidden_body.h"
#undef LANES
#undef TARGET
#endif

#define LANES 4
#include "simd/vectors.h"
#include "simd/sparse_body.h"
#include "training/hidden_body.h"

const HiddenKernels *find_hidden_kernels(size_t longest) {
#if defined(__x86_64__)
    if (longest >= 16 && __builtin_cpu_supports("avx512f")) return &hidden_16;
    if (longest >= 8 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &hidden_8;
#endif
    (void)longest;
    return &hidden_4;
}
