#include "scoring/kernels.h"

#include <math.h>

#define ROWS 6 /* of a panel: 24 sums in the 32 registers of AVX-512, 12 in the 16 of AVX2; its numbers are read once for all */

#if defined(__x86_64__)
#define LANES 16
#define VECTORS 4 /* of a panel */
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
#undef LANES
#undef VECTORS
#undef TARGET
#endif

#define LANES 4
#define VECTORS 2
#include "simd/vectors.h"
#include "simd/sparse_body.h"
#include "scoring/kernels_body.h"

const Kernels *find_kernels(size_t longest) {
#if defined(__x86_64__)
    if (longest >= 16 && __builtin_cpu_supports("avx512f")) return &kernels_16;
    if (longest >= 8 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &kernels_8;
#endif
    (void)longest;
    return &kernels_4;
}
