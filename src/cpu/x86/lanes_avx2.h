/* The lanes of cpu/simd/lanes.h with AVX2: two registers. See lanes_x86.h. */
#ifndef SRN_CPU_X86_LANES_AVX2_H
#define SRN_CPU_X86_LANES_AVX2_H

#include "cpu/x86/unpack_avx2.h"

#define LANES_1(op, a)                                                                                       \
    (i32x16) {                                                                                               \
        op((a).lo), op((a).hi)                                                                               \
    }
#define LANES_2(op, a, b)                                                                                    \
    (i32x16) {                                                                                               \
        op((a).lo, (b).lo), op((a).hi, (b).hi)                                                               \
    }
#define LANES(name) _mm256_##name
typedef struct i32x16 {
    __m256i lo, hi;
} i32x16;

SRN__INLINE i32x16 lanes_set1(int32_t x) {
    __m256i v = _mm256_set1_epi32(x);
    return (i32x16){v, v};
}
SRN__INLINE i32x16 lanes_load(const void *p) {
    return (i32x16){_mm256_loadu_si256(p), _mm256_loadu_si256((const __m256i *)p + 1)};
}
SRN__INLINE void lanes_store(void *p, i32x16 a) {
    _mm256_storeu_si256(p, a.lo);
    _mm256_storeu_si256((__m256i *)p + 1, a.hi);
}
SRN__INLINE v16 lanes_float(i32x16 a) {
    return (v16){_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}
SRN__INLINE i32x16 lanes_and(i32x16 a, i32x16 b) {
    return LANES_2(_mm256_and_si256, a, b);
}
SRN__INLINE __m256 long_sum_of_8(__m256i a, __m256i b) {
    __m256d low = _mm256_add_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(a)),
                                _mm256_cvtepi32_pd(_mm256_castsi256_si128(b)));
    __m256d high = _mm256_add_pd(_mm256_cvtepi32_pd(_mm256_extracti128_si256(a, 1)),
                                 _mm256_cvtepi32_pd(_mm256_extracti128_si256(b, 1)));
    return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low));
}
SRN__INLINE v16 lanes_long_sum(i32x16 a, i32x16 b) {
    return (v16){long_sum_of_8(a.lo, b.lo), long_sum_of_8(a.hi, b.hi)};
}
SRN__INLINE i32x16 here(i32x16 a) {
    __asm__("" : "+x"(a.lo), "+x"(a.hi));
    return a;
}

/* A group's codes, each q + zero. A quad is unpacked when its product is formed, because 16 registers do not
 * hold a group. */
typedef struct group_codes {
    srn_type type; /* whose codes are stored so */
    stored_at at;
} group_codes;
SRN__INLINE void load_codes(srn_type type, const uint8_t *panel, uint32_t g, group_codes *ret) {
    *ret = (group_codes){type, stored_group(srn__simd_type_of(type), panel, g)};
}
SRN__INLINE void expanded_codes(const srn__expanded *e, group_codes *ret) {
    *ret = (group_codes){SRN_Q8_0, {.codes = e->q[0][0]}};
}
SRN__INLINE i32x16 quad(const group_codes *w, int j) {
    return (i32x16){load_quad(w->type, w->at, j, 0), load_quad(w->type, w->at, j, 1)};
}

typedef struct scales {
    v16 d, m;
    i32x16 sc0, sc1, mn0, mn1;
} scales;
SRN__INLINE void load_group_scales(srn_type type, const uint8_t *panel, uint32_t g, scales *s) {
    const stored_at at = stored_group(srn__simd_type_of(type), panel, g);
    scales8 h[2] = {0};
    SRN__UNROLL for (int i = 0; i < 2; i++) load_scales(type, at, i, &h[i]);
    s->d = (v16){h[0].d, h[1].d}, s->m = (v16){h[0].m, h[1].m};
    s->sc0 = (i32x16){h[0].sc0, h[1].sc0}, s->sc1 = (i32x16){h[0].sc1, h[1].sc1};
    s->mn0 = (i32x16){h[0].mn0, h[1].mn0}, s->mn1 = (i32x16){h[0].mn1, h[1].mn1};
}

#endif
