/* Without VNNI: activations to whole integer codes (srn__act_whole), the bits of the reference. AVX2. */
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
SRN__INLINE int32_t sum_of_8(__m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1));
    return _mm_cvtsi128_si32(s);
}

static bool quantize_group(const float *x, uint32_t planes, srn__act_whole *a) {
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
    int16_t codes[SRN_GROUP];
    SRN__UNROLL for (int i = 0; i < 2; i++) {
        __m256i p = _mm256_permute4x64_epi64(_mm256_packs_epi32(t[2 * i], t[2 * i + 1]), 0xD8);
        _mm256_storeu_si256((void *)(codes + 16 * i), p);
        /* in each quad: elements 0, 2, 1, 3 */
        __m256i q = _mm256_shufflelo_epi16(_mm256_shufflehi_epi16(p, 0xD8), 0xD8);
        _mm256_storeu_si256((void *)a->t[4 * i], q);
    }
    if (planes == 1) {
        for (int i = 0; i < SRN_GROUP; i++) a->c[i] = (int8_t)codes[i];
        for (int i = 0; i < SRN_GROUP; i++) a->neg_pairs[i / 16][i / 2 % 2] -= codes[i];
    }
    int32_t half0 = sum_of_8(_mm256_add_epi32(t[0], t[1])), half1 = sum_of_8(_mm256_add_epi32(t[2], t[3]));
    a->neg_half[0] = -half0;
    a->neg_half[1] = -half1;
    a->neg_sum = -half0 - half1;
    a->d = amax / limit;
    a->s = a->d * (float)(half0 + half1);
    return true;
}

#endif
