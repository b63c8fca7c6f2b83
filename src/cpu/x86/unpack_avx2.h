/* AVX2: from packed panels (cpu/simd/layout.h) to stored codes and scales in registers, 8 rows at a time.
 * Included by the AVX2 translation unit only, whose flags it needs.
 */
#ifndef SRN_CPU_X86_UNPACK_AVX2_H
#define SRN_CPU_X86_UNPACK_AVX2_H

#include <immintrin.h>

#include "cpu/simd/layout.h"

/* Where one group of a panel lies. */
typedef struct stored_at {
    const uint8_t *codes, *record;
    uint32_t i; /* the group in its record */
} stored_at;

SRN__INLINE stored_at stored_group(srn__simd_type t, const uint8_t *panel, uint32_t g) {
    return (stored_at){panel + srn__codes_at(t, g), panel + srn__record_at(t, g), g % t.record_groups};
}

/* ---- codes: 8 rows of one quad ---- */

SRN__INLINE __m256i load_half(const uint8_t *vector, int half) {
    return _mm256_loadu_si256((const void *)(vector + 32 * half));
}

/* Every 16 bits shifted right by n, a constant; left where n < 0. */
SRN__INLINE __m256i shift_right(__m256i v, int n) {
    return n < 0 ? _mm256_slli_epi16(v, -n) : n > 0 ? _mm256_srli_epi16(v, n) : v;
}
SRN__INLINE __m256i and8(__m256i v, int mask) {
    return _mm256_and_si256(v, _mm256_set1_epi8((char)mask));
}

SRN__INLINE __m256i load_3_bits(const uint8_t *codes, int j, int half) {
    if (j < 6) return and8(shift_right(load_half(codes + 64 * (j / 2), half), 3 * (j % 2)), 7);
    __m256i low = shift_right(load_half(codes + 64 * (j - 6), half), 6);
    __m256i high = shift_right(load_half(codes + 128, half), j - 2);
    return _mm256_or_si256(and8(low, 3), and8(high, 4));
}

/* 4 to 6 bits */
SRN__INLINE __m256i load_nibbles(const uint8_t *codes, int bits, int j, int half) {
    __m256i v = load_half(codes + srn__nibbles_at((uint32_t)bits) + 64 * (j % 4), half);
    v = and8(j < 4 ? v : shift_right(v, 4), 15);
    if (bits == 5) v = _mm256_or_si256(v, and8(shift_right(load_half(codes, half), j - 4), 16));
    if (bits == 6) {
        __m256i h = load_half(codes + 64 * (j / 4), half);
        v = _mm256_or_si256(v, and8(shift_right(h, 2 * (j % 4) - 4), 48));
    }
    return v;
}

/* IQ1: the sign of the delta of quad j as bit 2 of every byte. */
SRN__INLINE __m256i load_delta(srn_type type, stored_at at, int j, int half) {
    __m256i v;
    uint32_t left; /* shift that makes the sign the top bit of the row's dword */
    if (type == SRN_IQ1_S) {
        v = load_half(at.record, half);
        left = 28 - 4 * at.i;
    } else if (j % 4 < 2) {
        v = load_half(at.record + at.i / 4 * 64, half);
        left = 28 - 8 * (at.i % 4) - 4 * (uint32_t)(j / 4);
    } else {
        v = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(at.record + 160 + 16 * half)));
        left = 31 - 2 * at.i - (uint32_t)(j / 4);
    }
    v = _mm256_srai_epi32(_mm256_sll_epi32(v, _mm_cvtsi32_si128((int)left)), 31);
    return and8(v, 4);
}

/* Quad j of rows 8*half on as bytes, each q + zero. `type` is a constant. */
SRN__INLINE __m256i load_quad(srn_type type, stored_at at, int j, int half) {
    const srn__simd_type t = srn__simd_type_of(type);
    __m256i v;
    switch (t.bits) {
    case 1:
        v = and8(shift_right(load_half(at.codes, half), j - 1), 2);
        break;
    case 2:
        v = and8(shift_right(load_half(at.codes + 64 * (j / 4), half), 2 * (j % 4)), 3);
        if (srn__code_table(type)) v = _mm256_or_si256(v, load_delta(type, at, j, half));
        break;
    case 3:
        v = load_3_bits(at.codes, j, half);
        break;
    case 8:
        return load_half(at.codes + 64 * j, half);
    default:
        v = load_nibbles(at.codes, t.bits, j, half);
        break;
    }
    if (!srn__code_table(type)) return v;
    __m128i table = _mm_loadu_si128((const void *)srn__code_table(type));
    table = _mm_add_epi8(table, _mm_set1_epi8((char)t.zero));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), v);
}

/* ---- scales of 8 rows ---- */

typedef struct scales8 {
    __m256 d, m;
    __m256i sc0, sc1, mn0, mn1;
} scales8;

SRN__INLINE __m256 load_halves(const uint8_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}

/* As load_scales_k of unpack_avx512.h; `record` is at the first of the 8 rows' dwords. */
SRN__INLINE void load_scales_k(const uint8_t *record, int half, uint32_t i, scales8 *s) {
    const __m256i low6 = _mm256_set1_epi32(0x3f), low4 = _mm256_set1_epi32(0x0f),
                  bits45 = _mm256_set1_epi32(0x30);
    const uint8_t *v = record + 32 * half;
    __m256i v0 = _mm256_loadu_si256((const void *)v), v1 = _mm256_loadu_si256((const void *)(v + 64)), sc, mn;
    if (i < 4) {
        __m128i shift = _mm_cvtsi32_si128((int)(8 * i));
        sc = _mm256_and_si256(_mm256_srl_epi32(v0, shift), low6);
        mn = _mm256_and_si256(_mm256_srl_epi32(v1, shift), low6);
    } else {
        __m128i shift = _mm_cvtsi32_si128((int)(8 * (i - 4))),
                high = _mm_cvtsi32_si128((int)(8 * (i - 4) + 2));
        __m256i v2 = _mm256_srl_epi32(_mm256_loadu_si256((const void *)(v + 128)), shift);
        sc = _mm256_and_si256(v2, low4);
        mn = _mm256_and_si256(_mm256_srli_epi32(v2, 4), low4);
        sc = _mm256_or_si256(sc, _mm256_and_si256(_mm256_srl_epi32(v0, high), bits45));
        mn = _mm256_or_si256(mn, _mm256_and_si256(_mm256_srl_epi32(v1, high), bits45));
    }
    __m256 dmin = _mm256_xor_ps(load_halves(record + 224 + 16 * half), _mm256_set1_ps(-0.0f));
    s->d = _mm256_mul_ps(load_halves(record + 192 + 16 * half), _mm256_cvtepi32_ps(sc));
    s->m = _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(mn));
}

SRN__INLINE __m256i load_bytes(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
}
SRN__INLINE __m256i load_signed(const uint8_t *p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p));
}
SRN__INLINE __m256i shift_dwords(__m256i v, uint32_t n) {
    return _mm256_srl_epi32(v, _mm_cvtsi32_si128((int)n));
}
/* 2*(v & mask) + 1 */
SRN__INLINE __m256i odd_scale(__m256i v, int mask) {
    v = _mm256_and_si256(_mm256_slli_epi32(v, 1), _mm256_set1_epi32(2 * mask));
    return _mm256_or_si256(v, _mm256_set1_epi32(1));
}

/* As in unpack_avx512.h. */
SRN__INLINE void load_scales_q2_k(stored_at at, int half, scales8 *s) {
    const __m256i nibble = _mm256_set1_epi32(15);
    const uint8_t *p = at.record + 32 * at.i + 8 * half;
    __m256i half0 = load_bytes(p), half1 = load_bytes(p + 16);
    s->sc0 = _mm256_and_si256(half0, nibble), s->mn0 = _mm256_srli_epi32(half0, 4);
    s->sc1 = _mm256_and_si256(half1, nibble), s->mn1 = _mm256_srli_epi32(half1, 4);
    s->d = load_halves(at.record + 256 + 16 * half);
    s->m = _mm256_xor_ps(load_halves(at.record + 288 + 16 * half), _mm256_set1_ps(-0.0f));
}
SRN__INLINE void load_scales_sub4(stored_at at, int half, int mask, scales8 *s) {
    __m256i v = shift_dwords(load_half(at.record + at.i / 4 * 64, half), at.i % 4 * 8);
    s->sc0 = odd_scale(v, mask);
    s->sc1 = odd_scale(_mm256_srli_epi32(v, 4), mask);
    s->d = _mm256_mul_ps(load_halves(at.record + 128 + 16 * half), _mm256_set1_ps(0.125f));
}
SRN__INLINE void load_scales_nibble(stored_at at, int half, int mask, float unit, scales8 *s) {
    __m256i v = odd_scale(shift_dwords(load_half(at.record, half), 4 * at.i), mask);
    __m256 d = _mm256_mul_ps(load_halves(at.record + 64 + 16 * half), _mm256_set1_ps(unit));
    s->d = _mm256_mul_ps(d, _mm256_cvtepi32_ps(v));
}
SRN__INLINE __m256 load_e8m0(const uint8_t *p) {
    __m256i e = load_bytes(p);
    __m256i v = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __m256i small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
    __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x200000), e);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(v, subnormal, small));
}
SRN__INLINE __m256 load_ue4m3(const uint8_t *p) {
    __m128i half = _mm_slli_epi16(_mm_cvtepu8_epi16(_mm_loadl_epi64((const void *)p)), 7);
    return _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(128.0f));
}

/* The scales of a group, rows 8*half on. `type` is a constant. */
SRN__INLINE void load_scales(srn_type type, stored_at at, int half, scales8 *s) {
    const uint32_t groups = srn__simd_type_of(type).record_groups;
    const uint8_t *record = at.record;
    switch (type) {
    case SRN_Q4_1:
    case SRN_Q5_1:
        s->d = load_halves(record + 16 * half);
        s->m = load_halves(record + 32 + 16 * half);
        break;
    case SRN_Q4_K:
    case SRN_Q5_K:
        load_scales_k(record, half, at.i, s);
        break;
    case SRN_Q2_K:
        load_scales_q2_k(at, half, s);
        break;
    case SRN_Q3_K:
    case SRN_Q6_K:
        s->sc0 = load_signed(record + 32 * at.i + 8 * half);
        s->sc1 = load_signed(record + 32 * at.i + 16 + 8 * half);
        s->d = load_halves(record + 256 + 16 * half);
        break;
    case SRN_IQ4_XS:
        s->d = _mm256_mul_ps(load_halves(record + 128 + 16 * half),
                             _mm256_cvtepi32_ps(load_signed(record + 16 * at.i + 8 * half)));
        break;
    case SRN_IQ2_XS:
    case SRN_IQ2_S:
        load_scales_sub4(at, half, 15, s);
        break;
    case SRN_IQ1_M:
        load_scales_sub4(at, half, 7, s);
        break;
    case SRN_IQ1_S:
        load_scales_nibble(at, half, 7, 0.125f, s);
        break;
    case SRN_IQ2_XXS:
        load_scales_nibble(at, half, 15, 0.125f, s);
        break;
    case SRN_IQ3_XXS:
        load_scales_nibble(at, half, 15, 0.25f, s);
        break;
    case SRN_IQ3_S:
        load_scales_nibble(at, half, 15, 1.0f, s);
        break;
    case SRN_MXFP4:
        s->d = load_e8m0(record + 16 * at.i + 8 * half);
        break;
    case SRN_NVFP4:
        s->d = load_ue4m3(record + 32 * at.i + 8 * half);
        s->m = load_ue4m3(record + 32 * at.i + 16 + 8 * half);
        break;
    default:
        s->d = load_halves(record + at.i / (groups / 2) * 32 + 16 * half);
        break;
    }
}

#endif
