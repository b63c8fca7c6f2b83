/* v16 (cpu/simd/v16.h) with AVX-512: one register. See v16_x86.h. */
#ifndef SRN_CPU_X86_V16_AVX512_H
#define SRN_CPU_X86_V16_AVX512_H

typedef __m512 v16, v16_part;
#define V16_BITS    _mm512_castps_si512
#define V16_OF_BITS _mm512_castsi512_ps

V16_FN v16 v16_f16_part(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}
V16_FN void v16_store_f16_part(uint16_t *p, v16 a) {
    _mm256_storeu_si256((void *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
V16_FN v16 v16_upper_part(const uint16_t *p) {
    __m512i u = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(u, 16));
}
V16_FN v16 v16_i8_part(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)));
}
V16_FN v16 v16_load_part(const float *p, uint32_t n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
V16_FN void v16_store_part(float *p, v16 a, uint32_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}
V16_FN void v16_store_i8(int8_t *p, v16 a) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}
V16_FN v16 v16_abs_part(v16 a) {
    return _mm512_abs_ps(a);
}
V16_FN v16_lanes v16_less(v16 a, v16 b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
V16_FN v16_lanes v16_not_finite(v16 a) {
    return _mm512_fpclass_ps_mask(a, 0x99); /* quiet NaN, both infinities, signalling NaN */
}
V16_FN v16 v16_select(v16_lanes m, v16 a, v16 b) {
    return _mm512_mask_blend_ps(m, b, a);
}
V16_FN void v16_exps(v16 *x, uint32_t count) {
    srn_exp16s(x, count);
}
V16_FN __m256 v16_half(v16 a, int i) {
    return i ? _mm512_extractf32x8_ps(a, 1) : _mm512_castps512_ps256(a);
}

#endif
