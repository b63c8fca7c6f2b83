/* AVX2: from packed panels (layout.h) to stored codes and scales in registers, 8 rows at a time. Included by
 * the AVX2 translation unit only, whose flags it needs.
 */
#ifndef SRN_CPU_X86_UNPACK_AVX2_H
#define SRN_CPU_X86_UNPACK_AVX2_H

#include <immintrin.h>

#include "cpu/x86/layout.h"

/* ---- unpacking: 8 rows of one quad ---- */

/* The fifth bit, or the fifth and sixth, of quad j in place: bits 4 and up of each byte. */
SRN__INLINE __m256i upper_bits(const uint8_t *codes, int stored, int j, int half) {
    if (stored == 5) {
        __m256i h = _mm256_loadu_si256((const void *)(codes + 32 * half));
        h = j < 4 ? _mm256_slli_epi16(h, 4 - (j & 3)) : _mm256_srli_epi16(h, j & 3);
        return _mm256_and_si256(h, _mm256_set1_epi8(16));
    }
    __m256i h = _mm256_loadu_si256((const void *)(codes + 64 * (j / 4) + 32 * half));
    switch (j % 4) {
    case 0:
        h = _mm256_slli_epi16(h, 4);
        break;
    case 1:
        h = _mm256_slli_epi16(h, 2);
        break;
    case 2:
        break;
    default:
        h = _mm256_srli_epi16(h, 2);
        break;
    }
    return _mm256_and_si256(h, _mm256_set1_epi8(48));
}

/* Stored codes of quad j, rows 8*half on, of a group stored with that many bits a code. */
SRN__INLINE __m256i load_quad(const uint8_t *codes, int stored, int j, int half) {
    if (stored == 8) return _mm256_loadu_si256((const void *)(codes + 64 * j + 32 * half));
    __m256i v = _mm256_loadu_si256(
        (const void *)(codes + srn__nibbles_at((uint32_t)stored) + 64 * (j % 4) + 32 * half));
    if (j >= 4) v = _mm256_srli_epi16(v, 4);
    v = _mm256_and_si256(v, _mm256_set1_epi8(15));
    return stored == 4 ? v : _mm256_or_si256(v, upper_bits(codes, stored, j, half));
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

/* The scales of group g of a panel, `record` its record. `type` is a constant. */
SRN__INLINE void load_scales(srn_type type, const uint8_t *record, uint32_t g, int half, scales8 *s) {
    switch (type) {
    case SRN_Q4_0:
    case SRN_Q5_0:
    case SRN_Q8_0:
        s->d = load_halves(record + g % 2 * 32 + 16 * half);
        break;
    case SRN_Q4_1:
    case SRN_Q5_1:
        s->d = load_halves(record + 16 * half);
        s->m = load_halves(record + 32 + 16 * half);
        break;
    case SRN_Q4_K:
    case SRN_Q5_K:
        load_scales_k(record, half, g % 8, s);
        break;
    case SRN_Q6_K: {
        const uint8_t *sc = record + g % 8 * 32 + 8 * half;
        s->sc0 = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)sc));
        s->sc1 = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(sc + 16)));
        s->d = load_halves(record + 256 + 16 * half);
        break;
    }
    default:
        break;
    }
}

#endif
