/* Without VNNI: activations to whole integer codes (act_codes), the bits of the reference. AVX2. */
#ifndef SRN_CPU_X86_QUANTIZE_AVX2_H
#define SRN_CPU_X86_QUANTIZE_AVX2_H

#include <immintrin.h>

#include "cpu/simd/layout.h"

SRN__INLINE int32_t greatest_of_8(__m256i v) {
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4E));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xB1));
    return _mm_cvtsi128_si32(m);
}
/* The sums of elements 0, 1, 4, 5, ... and of 2, 3, 6, 7, ... of 16. */
SRN__INLINE void sum_pairs(__m256i v, int32_t ret[2]) {
    __m256i w = _mm256_madd_epi16(v, _mm256_set1_epi16(1));
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    ret[0] = _mm_cvtsi128_si32(s);
    ret[1] = _mm_extract_epi32(s, 1);
}

static bool quantize_group(const float *x, uint32_t planes, act_codes *a) {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256 v[4];
    __m256i t[4], max = _mm256_setzero_si256();
    SRN__UNROLL for (int i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        max = _mm256_max_epi32(max, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
    }
    /* magnitudes order as integers, infinities and NaN above all others */
    int32_t max_bits = greatest_of_8(max);
    float amax = srn_f32_bits((uint32_t)max_bits), limit = planes == 2 ? 32512.0f : 127.0f;
    memset(a, 0, sizeof *a);
    if (max_bits >= 0x7f800000) return false;
    if (amax < 0x1p-100f) return true;
    __m256 inverse = _mm256_set1_ps(limit / amax), magic = _mm256_set1_ps(0x1.8p23f);
    SRN__UNROLL for (int i = 0; i < 4; i++) {
        /* adding and subtracting 1.5 * 2^23 rounds to the nearest integer, ties to even */
        __m256 r = _mm256_sub_ps(_mm256_add_ps(_mm256_mul_ps(v[i], inverse), magic), magic);
        t[i] = _mm256_cvttps_epi32(r);
    }
    __m256i p[2];
    int32_t pairs[2][2]; /* of each half: elements 0 and 1, 2 and 3 of all quads */
    SRN__UNROLL for (int i = 0; i < 2; i++) {
        p[i] = _mm256_permute4x64_epi64(_mm256_packs_epi32(t[2 * i], t[2 * i + 1]), 0xD8);
        /* in each quad: elements 0, 2, 1, 3 */
        __m256i q = _mm256_shufflelo_epi16(_mm256_shufflehi_epi16(p[i], 0xD8), 0xD8);
        _mm256_storeu_si256((void *)a->t[4 * i], q);
        sum_pairs(p[i], pairs[i]);
    }
    if (planes == 1) {
        __m256i c = _mm256_permute4x64_epi64(_mm256_packs_epi16(p[0], p[1]), 0xD8);
        _mm256_storeu_si256((void *)a->c, c);
        SRN__UNROLL for (int i = 0; i < 4; i++) a->neg_pairs[i / 2][i % 2] = (int16_t)-pairs[i / 2][i % 2];
    }
    a->neg_half[0] = -(pairs[0][0] + pairs[0][1]);
    a->neg_half[1] = -(pairs[1][0] + pairs[1][1]);
    a->neg_sum = a->neg_half[0] + a->neg_half[1];
    a->d = amax / limit;
    a->s = a->d * (float)-a->neg_sum;
    return true;
}

#endif
