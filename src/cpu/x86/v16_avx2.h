/* v16 (cpu/simd/v16.h) with AVX2: two registers. See v16_x86.h. */
#ifndef SRN_CPU_X86_V16_AVX2_H
#define SRN_CPU_X86_V16_AVX2_H

typedef struct v16 {
    __m256 lo, hi;
} v16;
typedef __m256 v16_part;
#define V16_BITS    _mm256_castps_si256
#define V16_OF_BITS _mm256_castsi256_ps

V16_FN __m256 v16_f16_part(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}
V16_FN void v16_store_f16_part(uint16_t *p, __m256 a) {
    _mm_storeu_si128((void *)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
V16_FN __m256 v16_upper_part(const uint16_t *p) {
    __m256i u = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(u, 16));
}
V16_FN __m256 v16_i8_part(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si64(p)));
}
V16_FN void v16_store_i8(int8_t *p, v16 a) {
    __m256i lo = _mm256_cvtps_epi32(a.lo), hi = _mm256_cvtps_epi32(a.hi);
    __m128i l = _mm_packs_epi32(_mm256_castsi256_si128(lo), _mm256_extracti128_si256(lo, 1));
    __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(hi), _mm256_extracti128_si256(hi, 1));
    _mm_storeu_si128((__m128i *)(void *)p, _mm_packs_epi16(l, h));
}
V16_FN __m256 v16_abs_part(__m256 a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
V16_FN v16_lanes v16_less(v16 a, v16 b) {
    int lo = _mm256_movemask_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ));
    int hi = _mm256_movemask_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ));
    return (v16_lanes)(lo | hi << 8);
}
V16_FN __m256 v16_half_mask(unsigned m) {
    __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)m), bit), bit));
}
V16_FN v16 v16_select(v16_lanes m, v16 a, v16 b) {
    return (v16){_mm256_blendv_ps(b.lo, a.lo, v16_half_mask(m)),
                 _mm256_blendv_ps(b.hi, a.hi, v16_half_mask((unsigned)m >> 8))};
}
V16_FN void v16_exps(v16 *x, uint32_t count) {
    __m256 h[SRN_EXP_MOST];
    V16_UNROLL for (uint32_t i = 0; i < count; i++) h[2 * i] = x[i].lo, h[2 * i + 1] = x[i].hi;
    srn_exp8s(h, 2 * count);
    V16_UNROLL for (uint32_t i = 0; i < count; i++) x[i] = (v16){h[2 * i], h[2 * i + 1]};
}
V16_FN __m256 v16_half(v16 a, int i) {
    return i ? a.hi : a.lo;
}

#endif
