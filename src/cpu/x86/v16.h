/* Sixteen binary32 lanes: one AVX-512 register, or two AVX2 registers. The vector kernels are written once in
 * these operations and compiled for both, which also keeps the sixteen partial sums of docs/numerics.md the
 * same. Every operation is IEEE's, lane by lane; v16_exps and v16_tanh are num.h's functions, operation by
 * operation. Only for files compiled for AVX2 or AVX-512 (src/cpu/x86).
 */
#ifndef SRN_CPU_X86_V16_H
#define SRN_CPU_X86_V16_H

#if defined(__x86_64__)
#include "base/x86/exp.h"

#include <immintrin.h>
#endif

#include "cpu/cpu_internal.h"

#define V16_FN static inline __attribute__((always_inline, unused))
#if defined(__clang__)
#define V16_UNROLL _Pragma("clang loop unroll(full)")
#else
#define V16_UNROLL _Pragma("GCC unroll 32")
#endif

/* Attention: the fill functions set these. PAIRS pairs of query and head are a tile, BATCH share a pass. */
#define SRN__ATTN_PAIRS 6
#define SRN__ATTN_BATCH 48
bool srn__attention_avx2(const srn_attn *a, void *scratch);
bool srn__attention_avx512(const srn_attn *a, void *scratch);
bool srn__attention_neon(const srn_attn *a, void *scratch);
void srn__attn_merge_avx2(uint32_t d_v, uint32_t n, float *part, size_t part_stride, float *out);
void srn__attn_merge_avx512(uint32_t d_v, uint32_t n, float *part, size_t part_stride, float *out);
void srn__attn_merge_neon(uint32_t d_v, uint32_t n, float *part, size_t part_stride, float *out);
static inline size_t srn__attn_scratch_bytes_x86(uint32_t d_k, uint32_t d_v) {
    return (SRN__ATTN_BATCH + SRN_SEGMENT) * (d_k + (size_t)srn_align_up(d_v, 16)) * sizeof(float);
}

/* A set of lanes, bit l for lane l. */
typedef uint16_t v16_lanes;

#if defined(__aarch64__)

#include "cpu/arm/v16_neon.h"

#elif defined(__AVX512F__)

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

#else

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

/* ---- what follows is the same for all ---- */

/* Lanes a to b-1 of 16. */
V16_FN v16_lanes v16_range(uint32_t a, uint32_t b) {
    return (v16_lanes)(((1u << b) - 1) & ~((1u << a) - 1));
}
#if defined(__x86_64__)
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
/* srn_expf; v16_exps of at most V16_EXPS vectors, which is quicker than one after the other. */
#define V16_EXPS (SRN_EXP_MOST / 2)
V16_FN v16 v16_exp(v16 x) {
    v16_exps(&x, 1);
    return x;
}
/* srn_tanhf */
V16_FN v16 v16_tanh(v16 x) {
    v16 a = v16_abs(x), one = v16_set1(1.0f);
    v16 z = v16_mul(a, a);
    v16 p = v16_fma(v16_set1(SRN_TANH_C9), z, v16_set1(SRN_TANH_C7));
    p = v16_fma(p, z, v16_set1(SRN_TANH_C5));
    p = v16_fma(p, z, v16_set1(SRN_TANH_C3));
    v16 near = v16_fma(v16_mul(p, z), a, a);
    v16 e = v16_exp(v16_mul(v16_set1(-2.0f), a));
    v16 far = v16_div(v16_sub(one, e), v16_add(one, e));
    v16 t = v16_select(v16_less(a, v16_set1(SRN_TANH_NEAR)), near, far);
    return v16_select(v16_less(x, v16_set1(0.0f)), v16_neg(t), t);
}

#endif
