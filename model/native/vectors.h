/* Vectors as wide as the target's registers, and what the other files compute with them. */
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * LANES)));
typedef uint16_t vh __attribute__((vector_size(2 * LANES)));
/* The same in memory that is aligned to its elements only. */
typedef float vf_any __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint16_t vh_any __attribute__((vector_size(2 * LANES), aligned(2)));
typedef uint16_t bf16;

#define INLINE static inline __attribute__((always_inline))

INLINE vf splat(float a) { return a - (vf){0}; }
INLINE vf load(const float *p) { return *(const vf_any *)p; }
INLINE void store(float *p, vf v) { *(vf_any *)p = v; }
INLINE vf larger(vf a, vf b) { return (vf)(((vi)a & (a > b)) | ((vi)b & ~(a > b))); }
INLINE vf magnitude(vf a) { return (vf)((vi)a & 0x7fffffff); }

INLINE vf load_bf16(const bf16 *p) { return (vf)(__builtin_convertvector(*(const vh_any *)p, vu) << 16); }
INLINE float from_bf16(bf16 h) {
    uint32_t bits = (uint32_t)h << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
/* To the nearest, ties to even; NaN stays NaN. */
INLINE bf16 to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return (bf16)(bits >> 16 | 64);
    return (bf16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* The first `count` <= LANES elements, zeros after them. */
INLINE vf load_part(const float *p, int count) {
    vf v = {0};
    memcpy(&v, p, 4 * (size_t)count);
    return v;
}
INLINE void store_part(float *p, vf v, int count) { memcpy(p, &v, 4 * (size_t)count); }

INLINE float sum_of(vf v) {
#if LANES == 16
    return _mm512_reduce_add_ps((__m512)v);
#else
    float total = v[0];
    for (int i = 1; i < LANES; i++) total += v[i];
    return total;
#endif
}
INLINE float largest_of(vf v) {
    float best = v[0];
    for (int i = 1; i < LANES; i++) best = v[i] > best ? v[i] : best;
    return best;
}

/* e^x to about two units in the last place, for x clamped to -87 .. 88. Cephes' reduction and polynomial. */
INLINE vf exp_of(vf x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
    x = larger(x, splat(-87.0f));
    x = (vf)(((vi)x & (x < 88.0f)) | ((vi)splat(88.0f) & ~(x < 88.0f)));
    vf shifted = x * 1.44269504f + magic;
    vf n = shifted - magic;
    vf r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vf p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (vf)((vi)p + (((vi)shifted - (vi)splat(magic)) << 23));
}
