/* The deep part behind its first layer, in training: rectified hidden layers, then one unit; forwards and backwards. */
#ifndef CTRSERVE_DEEP_H
#define CTRSERVE_DEEP_H

#include "kernels.h"

/* A hidden layer: its values of a batch, and what leads from it to the next, which is as wide as `next`. */
typedef struct {
    size_t width, padded;
    float *values;   /* [room, padded], rectified */
    Matrix forwards; /* Wᵀ [width, next] */
    Matrix back;     /* W [next, width] */
    float *bias;     /* [next padded] */
} Hidden;

typedef struct {
    const Kernels *kernels;
    size_t num_hidden, room, b; /* the values have room for so many rows; the last batch had b */
    Hidden *hidden;             /* [num_hidden] */
    float *last;                /* the last layer's weight, padded */
    float *by_values[2], *panels, *change; /* scratch memory of a block of rows */
} Deep;

/* What follows a hidden layer, a linear one, and its gradients: weight [outputs, inputs] and bias [outputs]. */
typedef struct {
    const float *weight, *bias;
    float *by_weight, *by_bias;
} Layer;

/* 0, or -1 without memory; to be destroyed in both cases. */
int deep_init(Deep *self, const Kernels *kernels, const size_t *widths, size_t num_hidden);
void deep_destroy(Deep *self);

/* logits [b] of the first hidden layer before it is rectified, x [b, width], through layers [num_hidden]; 0, or -1 without
 * memory. Keeps what `deep_backward` needs. */
int deep_forward(Deep *self, size_t b, const float *x, const Layer *layers, float *logits);

/* by_x [b, width] and the gradients of the layers, given those of the logits [b] of the last `deep_forward`. Each number is a
 * sum in one order, so the same arrays give the same bits. */
void deep_backward(Deep *self, const float *by_logit, const Layer *layers, float *by_x);

#endif
