/* AVX-512 with VNNI: activations to integer codes in planes of bytes, the bits of the reference. */
#ifndef SRN_CPU_X86_QUANTIZE_AVX512_H
#define SRN_CPU_X86_QUANTIZE_AVX512_H

#include "cpu/simd/layout.h"

#define F32_INFINITY_BITS 0x7f800000
#define ROUND_TO_EVEN     (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

/* Codes of one plane, 16 dwords a half. */
SRN__INLINE void store_plane(int8_t c[SRN_GROUP], __m512i half0, __m512i half1) {
    _mm_storeu_si128((void *)c, _mm512_cvtepi32_epi8(half0));
    _mm_storeu_si128((void *)(c + 16), _mm512_cvtepi32_epi8(half1));
}

static bool quantize_group(const float *x, uint32_t planes, act_codes *a) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512 x0 = _mm512_loadu_ps(x), x1 = _mm512_loadu_ps(x + 16);
    __m512i m0 = _mm512_and_si512(_mm512_castps_si512(x0), magnitude);
    __m512i m1 = _mm512_and_si512(_mm512_castps_si512(x1), magnitude);
    /* magnitudes order as integers, infinities and NaN above all others */
    int32_t max_bits = _mm512_reduce_max_epi32(_mm512_max_epi32(m0, m1));
    float amax = srn_f32_bits((uint32_t)max_bits), limit = planes == 2 ? 32512.0f : 127.0f;
    memset(a, 0, sizeof *a);
    if (max_bits >= F32_INFINITY_BITS) return false;
    if (amax < 0x1p-100f) return true;
    __m512 inverse = _mm512_set1_ps(limit / amax);
    __m512i t0 = _mm512_cvt_roundps_epi32(_mm512_mul_ps(x0, inverse), ROUND_TO_EVEN);
    __m512i t1 = _mm512_cvt_roundps_epi32(_mm512_mul_ps(x1, inverse), ROUND_TO_EVEN);
    if (planes == 1) {
        store_plane(a->c[1], t0, t1);
    } else {
        /* t = 256*c1 + c2, c2 in -128..127: the low byte of t, signed */
        const __m512i half = _mm512_set1_epi32(128);
        __m512i c10 = _mm512_srai_epi32(_mm512_add_epi32(t0, half), 8);
        __m512i c11 = _mm512_srai_epi32(_mm512_add_epi32(t1, half), 8);
        store_plane(a->c[0], c10, c11);
        store_plane(a->c[1], _mm512_sub_epi32(t0, _mm512_slli_epi32(c10, 8)),
                    _mm512_sub_epi32(t1, _mm512_slli_epi32(c11, 8)));
        __m512i magnitudes = _mm512_add_epi32(_mm512_abs_epi32(t0), _mm512_abs_epi32(t1));
        a->large = _mm512_reduce_add_epi32(magnitudes) >= SRN__LARGE_CODES;
    }
    a->neg_half[0] = -_mm512_reduce_add_epi32(t0);
    a->neg_half[1] = -_mm512_reduce_add_epi32(t1);
    a->neg_sum = a->neg_half[0] + a->neg_half[1];
    a->d = amax / limit;
    a->s = a->d * (float)-a->neg_sum;
    return true;
}

#endif
