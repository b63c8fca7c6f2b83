/* The lanes of cpu/simd/lanes.h with AVX2: two registers. See lanes_x86.h. */
#ifndef SRN_CPU_X86_LANES_AVX2_H
#define SRN_CPU_X86_LANES_AVX2_H

typedef struct i32x16 {
    __m256i lo, hi;
} i32x16;

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

#endif
