/* The arithmetic of a training step on float32 arrays, for the processor that it finds.
 *
 * Arrays are contiguous. Each number is a sum in one order, so the same arrays give the same bits. */
#ifndef CTRSERVE_TRAINING_KERNELS_H
#define CTRSERVE_TRAINING_KERNELS_H

#include "simd/sparse.h"

#define MOST_LAYERS 32

/* b impressions of F single-valued fields. Their U distinct table rows stand field by field: each row belongs to one field. */
typedef struct {
    size_t b, F, U, E, H;  /* E: embedding_dim, H: units of the first layer */
    const float *values;   /* [U, E + 1]: embeddings and first-order weights */
    const float *weight;   /* [H, F * E] of the first layer */
    const int32_t *index;  /* [b, F]: the row of each field */
    const float *mask;     /* [b, F]: what each field's embedding is multiplied by */
    const uint32_t *bounds; /* [F + 1]: field f has the rows from bounds[f] up to bounds[f + 1] */
} Batch;

/* y [b, width] = weight [width, depth] · max(x, 0) + bias [width] of the layer before's x [b, depth]. */
typedef struct {
    size_t depth, width;
    const float *weight, *bias;
    float *by_weight, *by_bias; /* their gradients, written by `hidden_backward` */
} Layer;

typedef struct {
    /* sums [b, H] = the first layer of the embeddings, without its bias; totals [b, E] = Σ of an impression's embeddings;
     * fm [b] = first and second order. */
    void (*first_layer)(const Batch *batch, float *scratch, float *sums, float *totals, float *fm);

    /* Gradients by_values [U, E + 1] and by_weight [H, F * E], from those of sums and fm. */
    void (*first_layer_backward)(const Batch *batch, const float *by_sums, const float *by_fm, const float *totals,
                                 float *scratch, float *by_values, float *by_weight);

    /* logits [b] of x [b, layers[0].depth] + bias through all layers, the last of width 1; leaves in `activations` what
     * `hidden_backward` needs. */
    void (*hidden)(size_t b, size_t num_layers, const Layer *layers, const float *x, const float *bias, float *scratch,
                   float *activations, float *logits);

    /* Gradients of all layers, of x and of the bias, from those of the logits. */
    void (*hidden_backward)(size_t b, size_t num_layers, const Layer *layers, const float *activations, const float *by_logits,
                            float *scratch, float *by_x, float *by_bias);

    /* Row-wise Adagrad, as `models.training.rowwise_adagrad` has it: the rows [U] of table [R, E + 1] and of its sums of
     * squares [R, 2] take a step against gradient [U, E + 1]. */
    void (*adagrad)(size_t U, size_t E, const int64_t *rows, const float *gradient, float learning_rate, float *table,
                    float *squares);
} TrainingKernels;

/* With vectors of at most `longest` numbers: 16, 8 or 4. */
const TrainingKernels *find_training_kernels(size_t longest);

/* Sizes of memory in floats; `scratch` and `activations` may begin anywhere. */
size_t first_layer_scratch(const Batch *batch);
size_t hidden_scratch(size_t num_layers, const Layer *layers);
size_t activations_size(size_t b, size_t num_layers, const Layer *layers);

#endif
