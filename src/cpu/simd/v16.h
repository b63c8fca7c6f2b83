/* Sixteen binary32 lanes: one AVX-512 register, two AVX2 registers or four of NEON. The vector kernels are
 * written once in these operations and compiled for each, which also keeps the sixteen partial sums of
 * docs/numerics.md the same. Every operation is IEEE's, lane by lane; v16_exps and v16_tanh are num.h's
 * functions, operation by operation. Only for files of x86/ and arm/.
 */
#ifndef SRN_CPU_SIMD_V16_H
#define SRN_CPU_SIMD_V16_H

#include "cpu/cpu_internal.h"
#include "cpu/simd/parts.h"

#define V16_FN static inline __attribute__((always_inline, unused))
#if defined(__clang__)
#define V16_UNROLL _Pragma("clang loop unroll(full)")
#else
#define V16_UNROLL _Pragma("GCC unroll 32")
#endif

/* A set of lanes, bit l for lane l. */
typedef uint16_t v16_lanes;

/* Each instruction set has, beside what a part is done with:
 *
 * - v16_load_i8, v16_store_i8, rounded to nearest even; they fit.
 * - v16_load_part(p, n), v16_store_part(p, v, n): the first n lanes (n < 16); the others are +0, and their
 *   memory is not touched.
 * - v16_less, v16_not_finite: a set of lanes. v16_select(m, a, b): lane l of a where bit l is set, else of b.
 * - v16_exps, v16_tree, v16_greatest.
 */
#if defined(__aarch64__)
#include "cpu/arm/v16_neon.h"
#else
#include "cpu/x86/v16_x86.h"
#endif

/* ---- operations on every part ---- */

V16_FN v16 v16_set1(float x) {
    return EACH_SAME(v16, V16_SET1(x));
}
V16_FN v16 v16_load(const float *p) {
    return EACH_LOAD(v16, V16_LOAD, p);
}
V16_FN void v16_store(float *p, v16 a) {
    EACH_STORE(V16_STORE, p, a);
}
V16_FN v16 v16_load_f16(const uint16_t *p) {
    return EACH_LOAD(v16, v16_f16_part, p);
}
/* To f16, round to nearest even. */
V16_FN void v16_store_f16(uint16_t *p, v16 a) {
    EACH_STORE(v16_store_f16_part, p, a);
}
/* 16 numbers of which the upper halves are given. */
V16_FN v16 v16_load_upper(const uint16_t *p) {
    return EACH_LOAD(v16, v16_upper_part, p);
}
V16_FN v16 v16_add(v16 a, v16 b) {
    return EACH_2(v16, V16_OP(add), a, b);
}
V16_FN v16 v16_sub(v16 a, v16 b) {
    return EACH_2(v16, V16_OP(sub), a, b);
}
V16_FN v16 v16_mul(v16 a, v16 b) {
    return EACH_2(v16, V16_OP(mul), a, b);
}
V16_FN v16 v16_div(v16 a, v16 b) {
    return EACH_2(v16, V16_OP(div), a, b);
}
V16_FN v16 v16_neg(v16 a) {
    return EACH_1(v16, v16_neg_part, a);
}
V16_FN v16 v16_abs(v16 a) {
    return EACH_1(v16, v16_abs_part, a);
}
V16_FN v16 v16_fma(v16 a, v16 b, v16 c) { /* a*b + c */
    return EACH_3(v16, v16_fma_part, a, b, c);
}
V16_FN v16 v16_fms(v16 a, v16 b, v16 c) { /* a*b - c */
    return EACH_3(v16, v16_fms_part, a, b, c);
}
V16_FN v16 v16_min(v16 a, v16 b) { /* a < b ? a : b */
    return EACH_2(v16, v16_min_part, a, b);
}
V16_FN v16 v16_max(v16 a, v16 b) { /* a > b ? a : b */
    return EACH_2(v16, v16_max_part, a, b);
}
/* |a| or |b|, whichever is greater, with a NaN above infinity. */
V16_FN v16 v16_greater_magnitude(v16 a, v16 b) {
    a = v16_abs(a), b = v16_abs(b);
    return EACH_2(v16, v16_max_bits_part, a, b);
}

/* ---- operations on all lanes ---- */

/* Lanes a to b-1 of 16. */
V16_FN v16_lanes v16_range(uint32_t a, uint32_t b) {
    return (v16_lanes)(((1u << b) - 1) & ~((1u << a) - 1));
}
#if !defined(__AVX512F__) /* which has loads and stores of some lanes */
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
V16_FN v16_lanes v16_not_finite(v16 a) {
    return (v16_lanes)~v16_less(v16_abs(a), v16_set1(srn_f32_bits(0x7f800000u)));
}
#endif
#if defined(__aarch64__)
#include "cpu/arm/exp_neon.h"
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
