/* Sixteen binary32 lanes: one AVX-512 register, two AVX2 registers or four of NEON. The vector kernels are
 * written once in these operations and compiled for each, which also keeps the sixteen partial sums of
 * docs/numerics.md the same. Every operation is IEEE's, lane by lane; v16_exps and v16_tanh are num.h's
 * functions, operation by operation. Only for files of x86/ and arm/.
 */
#ifndef SRN_CPU_SIMD_V16_H
#define SRN_CPU_SIMD_V16_H

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
static inline size_t srn__attn_scratch_bytes_simd(uint32_t d_k, uint32_t d_v) {
    return (SRN__ATTN_BATCH + SRN_SEGMENT) * (d_k + (size_t)srn_align_up(d_v, 16)) * sizeof(float);
}

/* A set of lanes, bit l for lane l. */
typedef uint16_t v16_lanes;

#if defined(__aarch64__)
#include "cpu/arm/v16_neon.h"
#else
#include "cpu/x86/v16_x86.h"
#endif

/* ---- what follows is the same for all ---- */

/* Lanes a to b-1 of 16. */
V16_FN v16_lanes v16_range(uint32_t a, uint32_t b) {
    return (v16_lanes)(((1u << b) - 1) & ~((1u << a) - 1));
}
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
