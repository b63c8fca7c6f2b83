/* 16 lanes of 32 bits as one AVX-512 or two AVX2 registers, for the matrix kernels, which are written once in
 * these operations; and a group's codes and scales, one per row, from a packed panel or an expanded group.
 * Compiled for AVX2 and AVX-512.
 */
#ifndef SRN_CPU_X86_LANES_X86_H
#define SRN_CPU_X86_LANES_X86_H

#include "cpu/x86/layout.h"
#include "cpu/x86/v16.h"

#if defined(__aarch64__)

#include "cpu/arm/lanes_neon.h"

#elif defined(__AVX512F__)

#include "cpu/x86/unpack_avx512.h"

#define LANES_1(op, a)    op(a)
#define LANES_2(op, a, b) op(a, b)
#define LANES(name)       _mm512_##name
typedef __m512i i32x16;

SRN__INLINE i32x16 lanes_set1(int32_t x) {
    return _mm512_set1_epi32(x);
}
SRN__INLINE i32x16 lanes_load(const void *p) {
    return _mm512_loadu_si512(p);
}
SRN__INLINE void lanes_store(void *p, i32x16 a) {
    _mm512_storeu_si512(p, a);
}
SRN__INLINE v16 lanes_float(i32x16 a) {
    return _mm512_cvtepi32_ps(a);
}
SRN__INLINE i32x16 lanes_and(i32x16 a, i32x16 b) {
    return _mm512_and_si512(a, b);
}
/* f(a + b), rounded once: the sum needs 33 bits. */
SRN__INLINE v16 lanes_long_sum(i32x16 a, i32x16 b) {
    __m512d low = _mm512_add_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(a)),
                                _mm512_cvtepi32_pd(_mm512_castsi512_si256(b)));
    __m512d high = _mm512_add_pd(_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(a, 1)),
                                 _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(b, 1)));
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}
/* Keeps the compiler from forming all products of a tile first and spilling them. */
SRN__INLINE i32x16 here(i32x16 a) {
    __asm__("" : "+v"(a));
    return a;
}

/* A group's codes, each q + zero: all of them in registers. */
typedef struct group_codes {
    __m512i w[SRN__QUADS];
} group_codes;
SRN__INLINE void load_codes(srn_type type, const uint8_t *panel, uint32_t g, group_codes *ret) {
    const srn__x86_type t = srn__x86_type_of(type);
    unpack_codes(type, panel + srn__record_at(t, g), panel + srn__codes_at(t, g), g, ret->w);
}
SRN__INLINE void expanded_codes(const srn__expanded *e, group_codes *ret) {
    SRN__UNROLL for (int j = 0; j < SRN__QUADS; j++) ret->w[j] = _mm512_loadu_si512(e->q[j]);
}
SRN__INLINE i32x16 quad(const group_codes *w, int j) {
    return w->w[j];
}

typedef scales16 scales;
SRN__INLINE void load_group_scales(srn_type type, const uint8_t *panel, uint32_t g, scales *s) {
    load_scales(type, panel + srn__record_at(srn__x86_type_of(type), g), g, s);
}

#else

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
    *ret = (group_codes){type, stored_group(srn__x86_type_of(type), panel, g)};
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
    const stored_at at = stored_group(srn__x86_type_of(type), panel, g);
    scales8 h[2] = {0};
    SRN__UNROLL for (int i = 0; i < 2; i++) load_scales(type, at, i, &h[i]);
    s->d = (v16){h[0].d, h[1].d}, s->m = (v16){h[0].m, h[1].m};
    s->sc0 = (i32x16){h[0].sc0, h[1].sc0}, s->sc1 = (i32x16){h[0].sc1, h[1].sc1};
    s->mn0 = (i32x16){h[0].mn0, h[1].mn0}, s->mn1 = (i32x16){h[0].mn1, h[1].mn1};
}

#endif

/* ---- the same for both x86 forms ---- */

#if defined(__x86_64__)

SRN__INLINE i32x16 lanes_broadcast(const void *p) {
    int32_t x;
    memcpy(&x, p, sizeof x);
    return lanes_set1(x);
}
SRN__INLINE i32x16 lanes_add(i32x16 a, i32x16 b) {
    return LANES_2(LANES(add_epi32), a, b);
}
SRN__INLINE i32x16 lanes_mul(i32x16 a, i32x16 b) {
    return LANES_2(LANES(mullo_epi32), a, b);
}
/* Of 16-bit elements. */
SRN__INLINE i32x16 lanes_add16(i32x16 a, i32x16 b) {
    return LANES_2(LANES(add_epi16), a, b);
}
/* u8 times s8, neighbours added, saturated to 16 bits; s16 times s16, neighbours added. */
SRN__INLINE i32x16 lanes_madd8(i32x16 a, i32x16 b) {
    return LANES_2(LANES(maddubs_epi16), a, b);
}
SRN__INLINE i32x16 lanes_madd16(i32x16 a, i32x16 b) {
    return LANES_2(LANES(madd_epi16), a, b);
}
/* The upper byte of each 16-bit element. */
SRN__INLINE i32x16 lanes_upper_bytes(i32x16 a) {
#define UPPER_BYTES(v) LANES(srli_epi16)(v, 8)
    return LANES_1(UPPER_BYTES, a);
#undef UPPER_BYTES
}
/* a * zero, for the zeros that types have. */
SRN__INLINE i32x16 lanes_times_zero(i32x16 a, int zero) {
#define TIMES_4(v)   LANES(slli_epi32)(v, 2)
#define TIMES_8(v)   LANES(slli_epi32)(v, 3)
#define TIMES_16(v)  LANES(slli_epi32)(v, 4)
#define TIMES_32(v)  LANES(slli_epi32)(v, 5)
#define TIMES_64(v)  LANES(slli_epi32)(v, 6)
#define TIMES_128(v) LANES(slli_epi32)(v, 7)
    switch (zero) {
    case 0:
        return lanes_set1(0);
    case 1:
        return a;
    case 4:
        return LANES_1(TIMES_4, a);
    case 8:
        return LANES_1(TIMES_8, a);
    case 16:
        return LANES_1(TIMES_16, a);
    case 32:
        return LANES_1(TIMES_32, a);
    case 64:
        return LANES_1(TIMES_64, a);
    default:
        return LANES_1(TIMES_128, a);
    }
}

/* The same of 16-bit elements, for the zeros of forms with two sub-scales. */
SRN__INLINE i32x16 lanes_times_zero16(i32x16 a, int zero) {
#define TIMES_4_16(v)  LANES(slli_epi16)(v, 2)
#define TIMES_16_16(v) LANES(slli_epi16)(v, 4)
#define TIMES_32_16(v) LANES(slli_epi16)(v, 5)
    switch (zero) {
    case 0:
        return lanes_set1(0);
    case 4:
        return LANES_1(TIMES_4_16, a);
    case 16:
        return LANES_1(TIMES_16_16, a);
    default:
        return LANES_1(TIMES_32_16, a);
    }
}
/* The lower 16 bits of each lane twice. */
SRN__INLINE i32x16 lanes_twice16(i32x16 a) {
    static const uint8_t order[64] __attribute__((aligned(64))) = {
        0,  1,  0,  1,  4, 5, 4,  5,  8,  9,  8, 9, 12, 13, 12, 13, 0,  1,  0,  1, 4, 5,
        4,  5,  8,  9,  8, 9, 12, 13, 12, 13, 0, 1, 0,  1,  4,  5,  4,  5,  8,  9, 8, 9,
        12, 13, 12, 13, 0, 1, 0,  1,  4,  5,  4, 5, 8,  9,  8,  9,  12, 13, 12, 13};
    const i32x16 by = lanes_load(order);
    return LANES_2(LANES(shuffle_epi8), a, by);
}
/* -zero * (sum of codes): the start value that takes the weights' offset out again. */
SRN__INLINE i32x16 start_value(const int32_t *neg_sum, int zero) {
    return lanes_times_zero(lanes_broadcast(neg_sum), zero);
}

#endif

#endif
