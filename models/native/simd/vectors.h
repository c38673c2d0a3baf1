/* Vectors of LANES floats for processors with the instructions TARGET, or for all without TARGET. Included once for each
 * length, by a file that undefines LANES and TARGET afterwards. */

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#undef JOIN_
#undef JOIN
#undef NAME
#undef KERNEL
#undef INLINE
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(name) JOIN(name, LANES)
#ifdef TARGET
#define KERNEL __attribute__((target(TARGET))) static
#define INLINE static inline __attribute__((always_inline, target(TARGET)))
#else
#define KERNEL static
#define INLINE static inline __attribute__((always_inline))
#endif

typedef float NAME(Vector) __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

INLINE NAME(Vector) NAME(load)(const float *p) { return *(const NAME(Vector) *)p; }
INLINE void NAME(store)(float *p, NAME(Vector) v) { *(NAME(Vector) *)p = v; }
INLINE NAME(Vector) NAME(all)(float x) { return x - (NAME(Vector)){0}; }

/* Bit j says whether p[j] is not zero; NaN counts as not zero. */
INLINE unsigned NAME(not_zero)(const float *p) {
#if LANES == 16
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(p), _mm512_setzero_ps(), _CMP_NEQ_UQ);
#elif LANES == 8
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(p), _mm256_setzero_ps(), _CMP_NEQ_UQ));
#else
    unsigned bits = 0;
    for (unsigned j = 0; j < LANES; j++) bits |= (unsigned)(p[j] != 0) << j;
    return bits;
#endif
}

/* The first n < LANES numbers at p, zeros after them; nothing else is read. */
INLINE NAME(Vector) NAME(load_some)(const float *p, size_t n) {
#if LANES == 16
    return (NAME(Vector))_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#else
    NAME(Vector) found = {0};
    for (size_t j = 0; j < n; j++) found[j] = p[j];
    return found;
#endif
}
