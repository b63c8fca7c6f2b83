/* v16 (cpu/simd/v16.h) with AVX-512 or AVX2, and what is the same with both. */
#ifndef SRN_CPU_X86_V16_X86_H
#define SRN_CPU_X86_V16_X86_H

#include "base/x86/exp.h"

#include <immintrin.h>

#if defined(__AVX512F__)
#include "cpu/x86/v16_avx512.h"
#else
#include "cpu/x86/v16_avx2.h"
#endif

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
