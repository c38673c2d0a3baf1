#include "scoring/kernels.h"

#if defined(__x86_64__)

/* Six rows of a panel are 24 sums in the 32 registers of AVX-512, or 12 in the 16 of AVX2: enough for both multipliers to
 * be busy, and a panel's numbers are used six times when they are read. */
#define ROWS 6

#define LANES 16
#define VECTORS 4
#define TARGET "avx512f"
#include "simd/vectors.h"
#include "simd/sparse_body.h"
#include "scoring/kernels_body.h"
#undef LANES
#undef VECTORS
#undef TARGET

#define LANES 8
#define VECTORS 2
#define TARGET "avx2,fma"
#include "simd/vectors.h"
#include "simd/sparse_body.h"
#include "scoring/kernels_body.h"

const Kernels *find_kernels(void) {
    if (__builtin_cpu_supports("avx512f")) return &kernels_16;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &kernels_8;
    return NULL;
}

#else

const Kernels *find_kernels(void) { return NULL; }

#endif
