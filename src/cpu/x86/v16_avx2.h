/* v16 (cpu/simd/v16.h) with AVX2: two registers. See v16_x86.h. */
#ifndef SRN_CPU_X86_V16_AVX2_H
#define SRN_CPU_X86_V16_AVX2_H

typedef struct v16 {
    __m256 lo, hi;
} v16;

V16_FN v16 v16_set1(float x) {
    __m256 v = _mm256_set1_ps(x);
    return (v16){v, v};
}
V16_FN v16 v16_load(const float *p) {
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
V16_FN void v16_store(float *p, v16 a) {
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}
V16_FN v16 v16_load_part(const float *p, uint32_t n) {
    float t[16] = {0};
    memcpy(t, p, n * sizeof *t);
    return v16_load(t);
}
V16_FN void v16_store_part(float *p, v16 a, uint32_t n) {
    float t[16];
    v16_store(t, a);
    memcpy(p, t, n * sizeof *t);
}
V16_FN v16 v16_load_f16(const uint16_t *p) {
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + 8)))};
}
V16_FN void v16_store_f16(uint16_t *p, v16 a) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(void *)(p + 8), _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}
V16_FN __m256 v16_upper_half(const uint16_t *p) {
    __m256i u = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(u, 16));
}
V16_FN v16 v16_load_upper(const uint16_t *p) {
    return (v16){v16_upper_half(p), v16_upper_half(p + 8)};
}
V16_FN __m256 v16_i8_half(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si64(p)));
}
V16_FN v16 v16_load_i8(const int8_t *p) {
    return (v16){v16_i8_half(p), v16_i8_half(p + 8)};
}
V16_FN void v16_store_i8(int8_t *p, v16 a) {
    __m256i lo = _mm256_cvtps_epi32(a.lo), hi = _mm256_cvtps_epi32(a.hi);
    __m128i l = _mm_packs_epi32(_mm256_castsi256_si128(lo), _mm256_extracti128_si256(lo, 1));
    __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(hi), _mm256_extracti128_si256(hi, 1));
    _mm_storeu_si128((__m128i *)(void *)p, _mm_packs_epi16(l, h));
}
V16_FN v16 v16_add(v16 a, v16 b) {
    return (v16){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
V16_FN v16 v16_sub(v16 a, v16 b) {
    return (v16){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
V16_FN v16 v16_mul(v16 a, v16 b) {
    return (v16){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
V16_FN v16 v16_div(v16 a, v16 b) {
    return (v16){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
V16_FN v16 v16_fma(v16 a, v16 b, v16 c) {
    return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
V16_FN v16 v16_fms(v16 a, v16 b, v16 c) {
    return (v16){_mm256_fmsub_ps(a.lo, b.lo, c.lo), _mm256_fmsub_ps(a.hi, b.hi, c.hi)};
}
V16_FN v16 v16_min(v16 a, v16 b) {
    return (v16){_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
V16_FN v16 v16_max(v16 a, v16 b) {
    return (v16){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
V16_FN v16 v16_neg(v16 a) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_xor_ps(a.lo, sign), _mm256_xor_ps(a.hi, sign)};
}
V16_FN v16 v16_abs(v16 a) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}
V16_FN v16_lanes v16_less(v16 a, v16 b) {
    int lo = _mm256_movemask_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ));
    int hi = _mm256_movemask_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ));
    return (v16_lanes)(lo | hi << 8);
}
V16_FN v16_lanes v16_not_finite(v16 a) {
    return (v16_lanes)~v16_less(v16_abs(a), v16_set1(srn_f32_bits(0x7f800000u)));
}
V16_FN __m256 v16_max_bits(__m256 a, __m256 b) {
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
V16_FN v16 v16_greater_magnitude(v16 a, v16 b) {
    a = v16_abs(a), b = v16_abs(b);
    return (v16){v16_max_bits(a.lo, b.lo), v16_max_bits(a.hi, b.hi)};
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
