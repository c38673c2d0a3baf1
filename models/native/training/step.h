/* A step's sums over a batch's distinct rows: what `models.network.distinct_step` does with torch, in two passes. */
#ifndef CTRSERVE_STEP_H
#define CTRSERVE_STEP_H

#include <stddef.h>
#include <stdint.h>

/* A batch: b impressions of F fields; U distinct rows of E numbers and a weight, of which field f has those from bounds[f]
 * up to bounds[f + 1]; a first layer of H units. */
typedef struct {
    size_t b, F, U, E, H;
    const int64_t *bounds; /* [F + 1] */
    const int64_t *index;  /* [b, F], the row of each value */
    const float *kept;     /* [b, F], what an embedding is multiplied with */
    const float *values;   /* [U, E + 1] */
    const float *weight;   /* [H, F * E] of the first layer */
} Batch;

/* How many floats of scratch memory a batch needs, beginning anywhere. */
size_t step_scratch(const Batch *batch);

/* 0, or -1 where bounds do not ascend from 0 to U or an index lies outside its field's rows. */
int step_check(const Batch *batch);

/* Arrays are contiguous. Each number is a sum in one order, so the same arrays give the same bits. */
typedef struct {
    /* hidden [b, H]: bias plus the first layer of the embeddings; totals [b, E]: their sum; logits [b]: of the first two
     * orders. */
    void (*forward)(const Batch *batch, const float *bias, float *scratch, float *hidden, float *totals, float *logits);

    /* gradient [U, E + 1] of the values and by_weight [H, F * E] of the first layer, given those of the hidden units
     * [b, H] and of the logits [b], and the totals of `forward`. */
    void (*backward)(const Batch *batch, const float *by_hidden, const float *by_logit, const float *totals,
                     float *scratch, float *gradient, float *by_weight);

    /* Row-wise Adagrad with a lazy Gaussian prior, as `models.training.optimizers` has it: rows `touched` [U] of table [R, E + 1]
     * and of its sums of squares [R, 2] take a step down gradient [U, E + 1] + decay[row] * precision [E + 1] * values
     * [U, E + 1]. */
    void (*adagrad)(size_t U, size_t E, const int64_t *touched, const float *values, const float *gradient,
                    const float *decay, const float *precision, float learning_rate, float *table, float *squares);
} StepKernels;

/* Those for this processor, with vectors of at most so many numbers: 16, 8 or 4. */
const StepKernels *find_step_kernels(size_t longest);

#endif
