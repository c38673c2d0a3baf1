/* Vectors of LANES numbers for a processor with TARGET; without TARGET for any. Included once for each kind, by a file that
 * undefines LANES and TARGET afterwards. */

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
