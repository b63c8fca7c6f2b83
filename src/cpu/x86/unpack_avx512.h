/* AVX-512: from packed panels (cpu/simd/layout.h) to stored codes and scales in registers. Included by the
 * two AVX-512 translation units only, whose flags it needs.
 */
#ifndef SRN_CPU_X86_UNPACK_AVX512_H
#define SRN_CPU_X86_UNPACK_AVX512_H

#include <immintrin.h>

#include "cpu/simd/layout.h"

/* One group of 16 rows; what the form does not use is undefined. */
typedef struct scales16 {
    __m512 d, m;
    __m512i sc0, sc1, mn0, mn1;
} scales16;

/* ---- codes ---- */

/* Every 16 bits shifted right by n, a constant; left where n < 0. */
SRN__INLINE __m512i shift_right(__m512i v, int n) {
    switch (n) {
    case -4:
        return _mm512_slli_epi16(v, 4);
    case -3:
        return _mm512_slli_epi16(v, 3);
    case -2:
        return _mm512_slli_epi16(v, 2);
    case -1:
        return _mm512_slli_epi16(v, 1);
    case 0:
        return v;
    case 1:
        return _mm512_srli_epi16(v, 1);
    case 2:
        return _mm512_srli_epi16(v, 2);
    case 3:
        return _mm512_srli_epi16(v, 3);
    case 4:
        return _mm512_srli_epi16(v, 4);
    case 5:
        return _mm512_srli_epi16(v, 5);
    default:
        return _mm512_srli_epi16(v, 6);
    }
}

/* a & b | c, and what a has where mask is set, b elsewhere */
SRN__INLINE __m512i and_or(__m512i a, __m512i b, __m512i c) {
    return _mm512_ternarylogic_epi32(a, b, c, 0xEA);
}
SRN__INLINE __m512i choose(__m512i mask, __m512i a, __m512i b) {
    return _mm512_ternarylogic_epi32(mask, a, b, 0xCA);
}

SRN__INLINE void unpack_1_bit(const uint8_t *src, __m512i w[SRN__QUADS]) {
    const __m512i bit1 = _mm512_set1_epi8(2);
    __m512i v = _mm512_loadu_si512(src);
    SRN__UNROLL for (int j = 0; j < SRN__QUADS; j++) w[j] = _mm512_and_si512(shift_right(v, j - 1), bit1);
}

/* third[j/2] is what quad j's codes have above their two bits: the signs of IQ1's deltas. */
SRN__INLINE void unpack_2_bits(const uint8_t *src, const __m512i third[4], __m512i w[SRN__QUADS]) {
    const __m512i bits01 = _mm512_set1_epi8(3);
    SRN__UNROLL for (int h = 0; h < 2; h++) {
        __m512i v = _mm512_loadu_si512(src + 64 * h);
        SRN__UNROLL for (int f = 0; f < 4; f++) w[4 * h + f] =
            third ? and_or(shift_right(v, 2 * f), bits01, third[2 * h + f / 2])
                  : _mm512_and_si512(shift_right(v, 2 * f), bits01);
    }
}

SRN__INLINE void unpack_3_bits(const uint8_t *src, __m512i w[SRN__QUADS]) {
    const __m512i bits01 = _mm512_set1_epi8(3), bits012 = _mm512_set1_epi8(7);
    __m512i v[3];
    SRN__UNROLL for (int j = 0; j < 3; j++) {
        v[j] = _mm512_loadu_si512(src + 64 * j);
        w[2 * j] = _mm512_and_si512(v[j], bits012);
        w[2 * j + 1] = _mm512_and_si512(shift_right(v[j], 3), bits012);
    }
    w[6] = _mm512_and_si512(choose(bits01, shift_right(v[0], 6), shift_right(v[2], 4)), bits012);
    w[7] = _mm512_and_si512(choose(bits01, shift_right(v[1], 6), shift_right(v[2], 5)), bits012);
}

/* 4 to 6 bits */
SRN__INLINE void unpack_nibbles(const uint8_t *src, int bits, __m512i w[SRN__QUADS]) {
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i high[2] = {nibble, nibble};
    SRN__UNROLL for (int i = 0; i < bits - 4; i++) high[i] = _mm512_loadu_si512(src + 64 * i);
    SRN__LOAD_ORDER();
    src += srn__nibbles_at((uint32_t)bits);
    SRN__UNROLL for (int j = 0; j < 4; j++) {
        __m512i v = _mm512_loadu_si512(src + 64 * j);
        w[j] = _mm512_and_si512(v, nibble);
        w[j + 4] = _mm512_and_si512(shift_right(v, 4), nibble);
    }
    const __m512i bit4 = _mm512_set1_epi8(16), bits45 = _mm512_set1_epi8(48);
    if (bits == 4) return;
    SRN__UNROLL for (int j = 0; j < SRN__QUADS; j++) w[j] =
        bits == 5 ? and_or(shift_right(high[0], j - 4), bit4, w[j])
                  : and_or(shift_right(high[j / 4], 2 * (j % 4) - 4), bits45, w[j]);
}

/* The entries of a type's table, plus its zero, four times. */
SRN__INLINE __m512i load_table(srn_type type) {
    __m128i t = _mm_loadu_si128((const void *)srn__code_table(type));
    t = _mm_add_epi8(t, _mm_set1_epi8((char)srn__simd_type_of(type).zero));
    return _mm512_broadcast_i32x4(t);
}

/* IQ1: the signs of the deltas, one for each two quads, as bit 2 of every byte. `i` is the group in its
 * record. */
SRN__INLINE void load_deltas(srn_type type, const uint8_t *record, uint32_t i, __m512i third[4]) {
    const __m512i bit2 = _mm512_set1_epi32(0x04040404);
    if (type == SRN_IQ1_S) {
        __mmask16 m =
            _mm512_test_epi32_mask(_mm512_loadu_si512(record), _mm512_set1_epi32((int)(8u << 4 * i)));
        third[0] = third[1] = third[2] = third[3] = _mm512_maskz_mov_epi32(m, bit2);
        return;
    }
    __m512i first = _mm512_loadu_si512(record + i / 4 * 64);
    __m512i second = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(record + 160)));
    SRN__UNROLL for (int h = 0; h < 2; h++) {
        uint32_t f = 8u << (8 * (i % 4) + 4 * (uint32_t)h), s = 1u << (2 * i + (uint32_t)h);
        __mmask16 m = _mm512_test_epi32_mask(first, _mm512_set1_epi32((int)f));
        third[2 * h] = _mm512_maskz_mov_epi32(m, bit2);
        m = _mm512_test_epi32_mask(second, _mm512_set1_epi32((int)s));
        third[2 * h + 1] = _mm512_maskz_mov_epi32(m, bit2);
    }
}

/* The 8 quads of group g of a panel as bytes, each q + zero, `codes` and `record` where the group has them.
 * `type` is a constant. */
SRN__INLINE void unpack_codes(srn_type type, const uint8_t *record, const uint8_t *codes, uint32_t g,
                              __m512i w[SRN__QUADS]) {
    const srn__simd_type t = srn__simd_type_of(type);
    if (type == SRN_IQ1_S || type == SRN_IQ1_M) {
        __m512i third[4];
        load_deltas(type, record, g % t.record_groups, third);
        unpack_2_bits(codes, third, w);
    } else if (t.bits == 1) {
        unpack_1_bit(codes, w);
    } else if (t.bits == 2) {
        unpack_2_bits(codes, NULL, w);
    } else if (t.bits == 3) {
        unpack_3_bits(codes, w);
    } else if (t.bits < 8) {
        unpack_nibbles(codes, t.bits, w);
    } else {
        SRN__UNROLL for (int j = 0; j < SRN__QUADS; j++) w[j] = _mm512_loadu_si512(codes + 64 * j);
    }
    if (srn__code_table(type)) {
        const __m512i table = load_table(type);
        SRN__UNROLL for (int j = 0; j < SRN__QUADS; j++) w[j] = _mm512_shuffle_epi8(table, w[j]);
    }
}

/* ---- scales ---- */

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

SRN__INLINE __m512i load_bytes(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
}
SRN__INLINE __m512i load_signed(const uint8_t *p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p));
}
SRN__INLINE __m512i shift_dwords(__m512i v, uint32_t n) {
    return _mm512_srl_epi32(v, _mm_cvtsi32_si128((int)n));
}
/* 2*(v & mask) + 1 */
SRN__INLINE __m512i odd_scale(__m512i v, int mask) {
    return and_or(_mm512_slli_epi32(v, 1), _mm512_set1_epi32(2 * mask), _mm512_set1_epi32(1));
}

/* Q2_K */
SRN__INLINE void load_scales_q2_k(const uint8_t *record, uint32_t i, scales16 *s) {
    const __m512i nibble = _mm512_set1_epi32(15), sign = _mm512_set1_epi32((int)0x80000000u);
    __m512i half0 = load_bytes(record + 32 * i), half1 = load_bytes(record + 32 * i + 16);
    s->sc0 = _mm512_and_si512(half0, nibble), s->mn0 = _mm512_srli_epi32(half0, 4);
    s->sc1 = _mm512_and_si512(half1, nibble), s->mn1 = _mm512_srli_epi32(half1, 4);
    s->d = load_halves(record + 256);
    s->m = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(load_halves(record + 288)), sign));
}

/* IQ2_XS, IQ2_S, IQ1_M */
SRN__INLINE void load_scales_sub4(const uint8_t *record, uint32_t i, int mask, scales16 *s) {
    __m512i v = shift_dwords(_mm512_loadu_si512(record + i / 4 * 64), i % 4 * 8);
    s->sc0 = odd_scale(v, mask);
    s->sc1 = odd_scale(_mm512_srli_epi32(v, 4), mask);
    s->d = _mm512_mul_ps(load_halves(record + 128), _mm512_set1_ps(0.125f));
}

/* IQ2_XXS, IQ3_XXS, IQ3_S, IQ1_S */
SRN__INLINE void load_scales_nibble(const uint8_t *record, uint32_t i, int mask, float unit, scales16 *s) {
    __m512i v = odd_scale(shift_dwords(_mm512_loadu_si512(record), 4 * i), mask);
    __m512 d = _mm512_mul_ps(load_halves(record + 64), _mm512_set1_ps(unit));
    s->d = _mm512_mul_ps(d, _mm512_cvtepi32_ps(v));
}

/* MXFP4: 2^(e-128), which is subnormal for e of 0 and 1. */
SRN__INLINE __m512 load_e8m0(const uint8_t *p) {
    __m512i e = load_bytes(p);
    __m512i v = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    __mmask16 small = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));
    return _mm512_castsi512_ps(_mm512_mask_sllv_epi32(v, small, _mm512_set1_epi32(0x200000), e));
}

/* NVFP4: half of what 4 bits of exponent and 3 of mantissa say, by way of a half, whose exponent is wider. */
SRN__INLINE __m512 load_ue4m3(const uint8_t *p) {
    __m256i half = _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)p)), 7);
    return _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(128.0f));
}

/* The scales of group g of a panel, `record` its record. `type` is a constant. */
SRN__INLINE void load_scales(srn_type type, const uint8_t *record, uint32_t g, scales16 *s) {
    const uint32_t groups = srn__simd_type_of(type).record_groups, i = g % groups;
    switch (type) {
    case SRN_Q4_1:
    case SRN_Q5_1:
        s->d = load_halves(record);
        s->m = load_halves(record + 32);
        break;
    case SRN_Q4_K:
    case SRN_Q5_K:
        load_scales_k(record, i, s);
        break;
    case SRN_Q2_K:
        load_scales_q2_k(record, i, s);
        break;
    case SRN_Q3_K:
    case SRN_Q6_K:
        s->sc0 = load_signed(record + 32 * i);
        s->sc1 = load_signed(record + 32 * i + 16);
        s->d = load_halves(record + 256);
        break;
    case SRN_IQ4_XS:
        s->d = _mm512_mul_ps(load_halves(record + 128), _mm512_cvtepi32_ps(load_signed(record + 16 * i)));
        break;
    case SRN_IQ2_XS:
    case SRN_IQ2_S:
        load_scales_sub4(record, i, 15, s);
        break;
    case SRN_IQ1_M:
        load_scales_sub4(record, i, 7, s);
        break;
    case SRN_IQ1_S:
        load_scales_nibble(record, i, 7, 0.125f, s);
        break;
    case SRN_IQ2_XXS:
        load_scales_nibble(record, i, 15, 0.125f, s);
        break;
    case SRN_IQ3_XXS:
        load_scales_nibble(record, i, 15, 0.25f, s);
        break;
    case SRN_IQ3_S:
        load_scales_nibble(record, i, 15, 1.0f, s);
        break;
    case SRN_MXFP4:
        s->d = load_e8m0(record + 16 * i);
        break;
    case SRN_NVFP4:
        s->d = load_ue4m3(record + 32 * i);
        s->m = load_ue4m3(record + 32 * i + 16);
        break;
    default:
        s->d = load_halves(record + i / (groups / 2) * 32);
        break;
    }
}

#endif
