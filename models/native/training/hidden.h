/* The deep part after its first layer: rectified layers and a last one of one unit, forwards and backwards. */
#ifndef CTRSERVE_HIDDEN_H
#define CTRSERVE_HIDDEN_H

#include <stddef.h>
#include <stdint.h>

/* A layer takes max(x, 0) of the sums x [b, depth] of the one before. */
typedef struct {
    size_t depth, width;
    const float *weight, *bias; /* [width, depth], [width] */
    float *by_weight, *by_bias; /* their gradients, when going backwards */
} Layer;

/* How many floats of scratch memory b impressions need, beginning anywhere. */
size_t hidden_scratch(size_t b, size_t num_layers, const Layer *layers);

/* Arrays are contiguous. Each number is a sum in one order, so the same arrays give the same bits. */
typedef struct {
    /* logits [b] of the first layer's sums [b, layers[0].depth]; the last layer is of width 1. Leaves in `scratch` what
     * `backward` needs. */
    void (*forward)(size_t b, size_t num_layers, const Layer *layers, const float *sums, float *scratch, float *logits);

    /* The gradients of all layers, and by_sums [b, layers[0].depth] and its columns' sums, by_first_bias, given by_logit [b]. */
    void (*backward)(size_t b, size_t num_layers, const Layer *layers, const float *by_logit, float *scratch, float *by_sums,
                     float *by_first_bias);
} HiddenKernels;

/* Those for this processor, with vectors of at most so many numbers: 16, 8 or 4. */
const HiddenKernels *find_hidden_kernels(size_t longest);

#endif
