/* The second order of a factorisation machine: the only place in C, shared by training and scoring. */
#ifndef CTRSERVE_SECOND_ORDER_H
#define CTRSERVE_SECOND_ORDER_H

#include <stddef.h>

/* Σ_{i<j} ⟨v_i, v_j⟩ = ½ (Σ_e S_e² − Σ_i ‖v_i‖²) of the fields' embeddings v_i, from S = Σ_i v_i [E] and Σ_i ‖v_i‖²
 * (Rendle 2010, Lemma 3.1). */
static inline float second_order(const float *sums, size_t E, float squares) {
    float square_of_sum = 0;
    for (size_t e = 0; e < E; e++) square_of_sum += sums[e] * sums[e];
    return 0.5f * (square_of_sum - squares);
}

#endif
