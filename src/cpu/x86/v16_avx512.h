/* v16 (cpu/simd/v16.h) with AVX-512: one register. See v16_x86.h. */
#ifndef SRN_CPU_X86_V16_AVX512_H
#define SRN_CPU_X86_V16_AVX512_H

typedef __m512 v16;

V16_FN v16 v16_set1(float x) {
    return _mm512_set1_ps(x);
}
V16_FN v16 v16_load(const float *p) {
    return _mm512_loadu_ps(p);
}
V16_FN void v16_store(float *p, v16 a) {
    _mm512_storeu_ps(p, a);
}
/* The first n of 16 lanes (n < 16); the others are +0 and their memory is not touched. */
V16_FN v16 v16_load_part(const float *p, uint32_t n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
V16_FN void v16_store_part(float *p, v16 a, uint32_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}
V16_FN v16 v16_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
/* To f16, round to nearest even. */
V16_FN void v16_store_f16(uint16_t *p, v16 a) {
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
/* 16 numbers of which the upper halves are given. */
V16_FN v16 v16_load_upper(const uint16_t *p) {
    __m512i u = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(u, 16));
}
V16_FN v16 v16_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
/* Rounded to nearest even; they fit. */
V16_FN void v16_store_i8(int8_t *p, v16 a) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}
V16_FN v16 v16_add(v16 a, v16 b) {
    return _mm512_add_ps(a, b);
}
V16_FN v16 v16_sub(v16 a, v16 b) {
    return _mm512_sub_ps(a, b);
}
V16_FN v16 v16_mul(v16 a, v16 b) {
    return _mm512_mul_ps(a, b);
}
V16_FN v16 v16_div(v16 a, v16 b) {
    return _mm512_div_ps(a, b);
}
V16_FN v16 v16_fma(v16 a, v16 b, v16 c) { /* a*b + c */
    return _mm512_fmadd_ps(a, b, c);
}
V16_FN v16 v16_fms(v16 a, v16 b, v16 c) { /* a*b - c */
    return _mm512_fmsub_ps(a, b, c);
}
V16_FN v16 v16_min(v16 a, v16 b) { /* a < b ? a : b */
    return _mm512_min_ps(a, b);
}
V16_FN v16 v16_max(v16 a, v16 b) { /* a > b ? a : b */
    return _mm512_max_ps(a, b);
}
V16_FN v16 v16_neg(v16 a) {
    return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f));
}
V16_FN v16 v16_abs(v16 a) {
    return _mm512_abs_ps(a);
}
V16_FN v16_lanes v16_less(v16 a, v16 b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
V16_FN v16_lanes v16_not_finite(v16 a) {
    return _mm512_fpclass_ps_mask(a, 0x99); /* quiet NaN, both infinities, signalling NaN */
}
/* |a| or |b|, whichever is greater, with a NaN above infinity. */
V16_FN v16 v16_greater_magnitude(v16 a, v16 b) {
    __m512i x = _mm512_castps_si512(v16_abs(a)), y = _mm512_castps_si512(v16_abs(b));
    return _mm512_castsi512_ps(_mm512_max_epi32(x, y));
}
V16_FN v16 v16_select(v16_lanes m, v16 a, v16 b) { /* lane l of a where bit l is set, else of b */
    return _mm512_mask_blend_ps(m, b, a);
}
V16_FN void v16_exps(v16 *x, uint32_t count) {
    srn_exp16s(x, count);
}
V16_FN __m256 v16_half(v16 a, int i) {
    return i ? _mm512_extractf32x8_ps(a, 1) : _mm512_castps512_ps256(a);
}

#endif
