/* All kernels with vectors of LANES numbers. */
#include "simd/vectors.h"
#include "simd/sparse_body.h"
#include "training/first_layer_body.h"
#include "training/hidden_layers_body.h"
#include "training/adagrad_body.h"

static const TrainingKernels NAME(kernels) = {
    NAME(first_layer), NAME(first_layer_backward), NAME(hidden), NAME(hidden_backward), NAME(adagrad),
};
