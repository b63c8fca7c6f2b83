/* The lanes of cpu/simd/lanes.h with AVX-512: one register. See lanes_x86.h. */
#ifndef SRN_CPU_X86_LANES_AVX512_H
#define SRN_CPU_X86_LANES_AVX512_H

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
    const srn__simd_type t = srn__simd_type_of(type);
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
    load_scales(type, panel + srn__record_at(srn__simd_type_of(type), g), g, s);
}

#endif
