/* What cpu/simd/v16.h is written in, with AVX-512 or AVX2, and what is the same with both. */
#ifndef SRN_CPU_X86_V16_X86_H
#define SRN_CPU_X86_V16_X86_H

#include "base/x86/exp.h"

#define V16_OP(name) MM(name##_ps)
#define V16_LOAD     MM(loadu_ps)
#define V16_STORE    MM(storeu_ps)
#define V16_SET1     MM(set1_ps)
#define v16_min_part MM(min_ps)
#define v16_max_part MM(max_ps)
#define v16_fma_part MM(fmadd_ps)
#define v16_fms_part MM(fmsub_ps)

#if defined(__AVX512F__)
#include "cpu/x86/v16_avx512.h"
#else
#include "cpu/x86/v16_avx2.h"
#endif

V16_FN v16_part v16_neg_part(v16_part a) {
    return MM(xor_ps)(a, MM(set1_ps)(-0.0f));
}
V16_FN v16_part v16_max_bits_part(v16_part a, v16_part b) {
    return V16_OF_BITS(MM(max_epi32)(V16_BITS(a), V16_BITS(b)));
}

V16_FN v16 v16_load_i8(const int8_t *p) {
    return EACH_LOAD(v16, v16_i8_part, p);
}
/* The fixed tree over 16 partial sums: 8, 4, 2, 1. */
V16_FN float v16_tree(v16 a) {
    __m256 e = _mm256_add_ps(v16_half(a, 0), v16_half(a, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
/* The greatest lane; no lane is a NaN. */
V16_FN float v16_greatest(v16 a) {
    __m256 e = _mm256_max_ps(v16_half(a, 0), v16_half(a, 1));
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

#endif
