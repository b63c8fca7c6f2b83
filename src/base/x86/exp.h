/* srn_expf (base/num.h) on the lanes of an AVX2 or AVX-512 register, the same operations in the same order,
 * so that every lane has srn_expf's bits. min and max give their second operand where one is a NaN, as its
 * comparisons do. Pure; only for files compiled for AVX2 with FMA, or for AVX-512.
 */
#ifndef SRN_BASE_X86_EXP_H
#define SRN_BASE_X86_EXP_H

#include <immintrin.h>

#include "base/num.h"

#define SRN_EXP_MOST 8 /* registers at once */
#if defined(__clang__)
#define SRN__EXP_EACH _Pragma("clang loop unroll(full)") for (unsigned i = 0; i < count; i++)
#else
#define SRN__EXP_EACH _Pragma("GCC unroll 8") for (unsigned i = 0; i < count; i++)
#endif

/* Intrinsics differ between widths in their prefix and in the name of the type of all bits. NAMEs takes a
 * constant count of registers through each step together: the steps of one wait for each other, and so few of
 * them fit in the window in which a core looks for something to do meanwhile. */
#define SRN__EXP_STEP(y, x) SRN__EXP_EACH y[i] = x
#define SRN__EXP_LANES(name, lanes, bits, mm, all)                                                           \
    static inline __attribute__((always_inline, unused)) void name##s(lanes *x, unsigned count) {            \
        const lanes magic = mm##_set1_ps(SRN_EXP_MAGIC);                                                     \
        lanes n[SRN_EXP_MOST], p[SRN_EXP_MOST];                                                              \
        SRN__EXP_STEP(x, mm##_min_ps(x[i], mm##_set1_ps(SRN_EXP_HI)));                                       \
        SRN__EXP_STEP(x, mm##_max_ps(x[i], mm##_set1_ps(SRN_EXP_LO)));                                       \
        SRN__EXP_STEP(n, mm##_fmadd_ps(x[i], mm##_set1_ps(SRN_EXP_LOG2E), magic));                           \
        SRN__EXP_STEP(n, mm##_sub_ps(n[i], magic));                                                          \
        SRN__EXP_STEP(x, mm##_fmadd_ps(n[i], mm##_set1_ps(-SRN_EXP_LN2_HI), x[i]));                          \
        SRN__EXP_STEP(x, mm##_fmadd_ps(n[i], mm##_set1_ps(-SRN_EXP_LN2_LO), x[i]));                          \
        SRN__EXP_STEP(p, mm##_set1_ps(SRN_EXP_C7));                                                          \
        SRN__EXP_STEP(p, mm##_fmadd_ps(p[i], x[i], mm##_set1_ps(SRN_EXP_C6)));                               \
        SRN__EXP_STEP(p, mm##_fmadd_ps(p[i], x[i], mm##_set1_ps(SRN_EXP_C5)));                               \
        SRN__EXP_STEP(p, mm##_fmadd_ps(p[i], x[i], mm##_set1_ps(SRN_EXP_C4)));                               \
        SRN__EXP_STEP(p, mm##_fmadd_ps(p[i], x[i], mm##_set1_ps(SRN_EXP_C3)));                               \
        SRN__EXP_STEP(p, mm##_fmadd_ps(p[i], x[i], mm##_set1_ps(SRN_EXP_C2)));                               \
        SRN__EXP_STEP(p, mm##_fmadd_ps(p[i], x[i], mm##_set1_ps(1.0f)));                                     \
        SRN__EXP_STEP(p, mm##_fmadd_ps(p[i], x[i], mm##_set1_ps(1.0f)));                                     \
        SRN__EXP_EACH {                                                                                      \
            bits e = mm##_slli_epi32(mm##_cvttps_epi32(n[i]), 23);                                           \
            x[i] = mm##_castsi##all##_ps(mm##_add_epi32(mm##_castps_si##all(p[i]), e));                      \
        }                                                                                                    \
    }                                                                                                        \
    static inline __attribute__((always_inline, unused)) lanes name(lanes x) {                               \
        name##s(&x, 1);                                                                                      \
        return x;                                                                                            \
    }

SRN__EXP_LANES(srn_exp8, __m256, __m256i, _mm256, 256)
#if defined(__AVX512F__)
SRN__EXP_LANES(srn_exp16, __m512, __m512i, _mm512, 512)
#endif
#undef SRN__EXP_LANES
#undef SRN__EXP_STEP
#undef SRN__EXP_EACH

#endif
