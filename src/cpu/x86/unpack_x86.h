/* What cpu/simd/unpack.h is written in, with AVX-512 or AVX2, and what is the same with both. */
#ifndef SRN_CPU_X86_UNPACK_X86_H
#define SRN_CPU_X86_UNPACK_X86_H

#if defined(__AVX512F__)
#include "cpu/x86/unpack_avx512.h"
#else
#include "cpu/x86/unpack_avx2.h"
#endif

SRN__INLINE part_ints shift_dwords(part_ints v, uint32_t n) {
    return MM(srl_epi32)(v, _mm_cvtsi32_si128((int)n));
}
SRN__INLINE part_ints shift_dwords_4(part_ints v) {
    return MM(srli_epi32)(v, 4);
}
SRN__INLINE part_ints and_dwords(part_ints v, int mask) {
    return MM_INT(and)(v, MM(set1_epi32)(mask));
}
SRN__INLINE part_ints odd_scale(part_ints v, int mask) {
    return and_or_dwords(MM(slli_epi32)(v, 1), 2 * mask, MM(set1_epi32)(1));
}
SRN__INLINE part_floats times(part_floats v, float x) {
    return MM(mul_ps)(v, MM(set1_ps)(x));
}
SRN__INLINE part_floats times_count(part_floats v, part_ints n) {
    return MM(mul_ps)(v, MM(cvtepi32_ps)(n));
}

#endif
