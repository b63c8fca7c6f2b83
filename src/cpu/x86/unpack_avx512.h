/* AVX-512: from packed panels (layout.h) to stored codes and scales in registers. Included by the two AVX-512
 * translation units only, whose flags it needs.
 */
#ifndef SRN_CPU_X86_UNPACK_AVX512_H
#define SRN_CPU_X86_UNPACK_AVX512_H

#include <immintrin.h>

#include "cpu/x86/layout.h"

/* One group of 16 rows; what the form does not use is undefined. */
typedef struct scales16 {
    __m512 d, m;
    __m512i sc0, sc1, mn0, mn1;
} scales16;

/* The 8 quads of a group as bytes. `bits` is a constant. */
SRN__INLINE void unpack_codes(const uint8_t *src, int bits, __m512i w[SRN__QUADS]) {
    if (bits == 8) {
        SRN__UNROLL for (int j = 0; j < SRN__QUADS; j++) w[j] = _mm512_loadu_si512(src + 64 * j);
        return;
    }
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i h0 = nibble, h1 = nibble;
    if (bits >= 5) h0 = _mm512_loadu_si512(src);
    if (bits == 6) h1 = _mm512_loadu_si512(src + 64);
    SRN__LOAD_ORDER();
    src += srn__nibbles_at((uint32_t)bits);
    SRN__UNROLL for (int j = 0; j < 4; j++) {
        __m512i v = _mm512_loadu_si512(src + 64 * j);
        w[j] = _mm512_and_si512(v, nibble);
        w[j + 4] = _mm512_and_si512(_mm512_srli_epi16(v, 4), nibble);
    }
    /* ternary logic 0xF8: a | (b & c) */
    if (bits == 5) {
        const __m512i bit4 = _mm512_set1_epi8(16);
        const __m512i h = h0;
        w[0] = _mm512_ternarylogic_epi32(w[0], _mm512_slli_epi16(h, 4), bit4, 0xF8);
        w[1] = _mm512_ternarylogic_epi32(w[1], _mm512_slli_epi16(h, 3), bit4, 0xF8);
        w[2] = _mm512_ternarylogic_epi32(w[2], _mm512_slli_epi16(h, 2), bit4, 0xF8);
        w[3] = _mm512_ternarylogic_epi32(w[3], _mm512_slli_epi16(h, 1), bit4, 0xF8);
        w[4] = _mm512_ternarylogic_epi32(w[4], h, bit4, 0xF8);
        w[5] = _mm512_ternarylogic_epi32(w[5], _mm512_srli_epi16(h, 1), bit4, 0xF8);
        w[6] = _mm512_ternarylogic_epi32(w[6], _mm512_srli_epi16(h, 2), bit4, 0xF8);
        w[7] = _mm512_ternarylogic_epi32(w[7], _mm512_srli_epi16(h, 3), bit4, 0xF8);
    }
    if (bits == 6) {
        const __m512i bits45 = _mm512_set1_epi8(48);
        SRN__UNROLL for (int i = 0; i < 2; i++) {
            __m512i h = i ? h1 : h0, *u = w + 4 * i;
            u[0] = _mm512_ternarylogic_epi32(u[0], _mm512_slli_epi16(h, 4), bits45, 0xF8);
            u[1] = _mm512_ternarylogic_epi32(u[1], _mm512_slli_epi16(h, 2), bits45, 0xF8);
            u[2] = _mm512_ternarylogic_epi32(u[2], h, bits45, 0xF8);
            u[3] = _mm512_ternarylogic_epi32(u[3], _mm512_srli_epi16(h, 2), bits45, 0xF8);
        }
    }
}

SRN__INLINE __m512 load_halves(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

/* Q4_K, Q5_K: scale and minimum of group i (0..7) of a record, by the format's packing of 6-bit fields. */
SRN__INLINE void load_scales_k(const uint8_t *record, uint32_t i, scales16 *s) {
    const __m512i low6 = _mm512_set1_epi32(0x3f), low4 = _mm512_set1_epi32(0x0f);
    const __m512i bits45 = _mm512_set1_epi32(0x30), sign = _mm512_set1_epi32((int)0x80000000u);
    __m512i v0 = _mm512_loadu_si512(record), v1 = _mm512_loadu_si512(record + 64), sc, mn;
    if (i < 4) {
        __m128i shift = _mm_cvtsi32_si128((int)(8 * i));
        sc = _mm512_and_si512(_mm512_srl_epi32(v0, shift), low6);
        mn = _mm512_and_si512(_mm512_srl_epi32(v1, shift), low6);
    } else {
        __m128i shift = _mm_cvtsi32_si128((int)(8 * (i - 4))),
                high = _mm_cvtsi32_si128((int)(8 * (i - 4) + 2));
        __m512i v2 = _mm512_srl_epi32(_mm512_loadu_si512(record + 128), shift);
        sc = _mm512_and_si512(v2, low4);
        mn = _mm512_and_si512(_mm512_srli_epi32(v2, 4), low4);
        sc = _mm512_ternarylogic_epi32(sc, _mm512_srl_epi32(v0, high), bits45, 0xF8);
        mn = _mm512_ternarylogic_epi32(mn, _mm512_srl_epi32(v1, high), bits45, 0xF8);
    }
    __m512 dmin = load_halves(record + 224);
    dmin = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(dmin), sign));
    s->d = _mm512_mul_ps(load_halves(record + 192), _mm512_cvtepi32_ps(sc));
    s->m = _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(mn));
}

/* The scales of group g of a panel, `record` its record. `type` is a constant. */
SRN__INLINE void load_scales(srn_type type, const uint8_t *record, uint32_t g, scales16 *s) {
    switch (type) {
    case SRN_Q4_0:
    case SRN_Q5_0:
    case SRN_Q8_0:
        s->d = load_halves(record + g % 2 * 32);
        break;
    case SRN_Q4_1:
    case SRN_Q5_1:
        s->d = load_halves(record);
        s->m = load_halves(record + 32);
        break;
    case SRN_Q4_K:
    case SRN_Q5_K:
        load_scales_k(record, g % 8, s);
        break;
    case SRN_Q6_K: {
        const uint8_t *sc = record + g % 8 * 32;
        s->sc0 = _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)sc));
        s->sc1 = _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(sc + 16)));
        s->d = load_halves(record + 256);
        break;
    }
    default:
        break;
    }
}

#endif
