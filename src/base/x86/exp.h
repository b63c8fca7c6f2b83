/* srn_expf (base/num.h) on the lanes of an AVX2 or AVX-512 register, the same operations in the same order,
 * so that every lane has srn_expf's bits. min and max give their second operand where one is a NaN, as its
 * comparisons do. Pure; only for files compiled for AVX2 with FMA, or for AVX-512.
 */
#ifndef SRN_BASE_X86_EXP_H
#define SRN_BASE_X86_EXP_H

#include <immintrin.h>

#include "base/num.h"

/* Intrinsics differ between widths in their prefix and in the name of the type of all bits. */
#define SRN__EXP_LANES(name, lanes, bits, mm, all)                                                           \
    static inline __attribute__((always_inline, unused)) lanes name(lanes x) {                               \
        const lanes magic = mm##_set1_ps(SRN_EXP_MAGIC), one = mm##_set1_ps(1.0f);                           \
        x = mm##_min_ps(x, mm##_set1_ps(SRN_EXP_HI));                                                        \
        x = mm##_max_ps(x, mm##_set1_ps(SRN_EXP_LO));                                                        \
        lanes n = mm##_fmadd_ps(x, mm##_set1_ps(SRN_EXP_LOG2E), magic);                                      \
        n = mm##_sub_ps(n, magic);                                                                           \
        lanes r = mm##_fmadd_ps(n, mm##_set1_ps(-SRN_EXP_LN2_HI), x);                                        \
        r = mm##_fmadd_ps(n, mm##_set1_ps(-SRN_EXP_LN2_LO), r);                                              \
        lanes p = mm##_fmadd_ps(mm##_set1_ps(SRN_EXP_C7), r, mm##_set1_ps(SRN_EXP_C6));                      \
        p = mm##_fmadd_ps(p, r, mm##_set1_ps(SRN_EXP_C5));                                                   \
        p = mm##_fmadd_ps(p, r, mm##_set1_ps(SRN_EXP_C4));                                                   \
        p = mm##_fmadd_ps(p, r, mm##_set1_ps(SRN_EXP_C3));                                                   \
        p = mm##_fmadd_ps(p, r, mm##_set1_ps(SRN_EXP_C2));                                                   \
        p = mm##_fmadd_ps(p, r, one);                                                                        \
        p = mm##_fmadd_ps(p, r, one);                                                                        \
        bits e = mm##_slli_epi32(mm##_cvttps_epi32(n), 23);                                                  \
        return mm##_castsi##all##_ps(mm##_add_epi32(mm##_castps_si##all(p), e));                             \
    }

SRN__EXP_LANES(srn_exp8, __m256, __m256i, _mm256, 256)
#if defined(__AVX512F__)
SRN__EXP_LANES(srn_exp16, __m512, __m512i, _mm512, 512)
#endif
#undef SRN__EXP_LANES

#endif
