/* 16 lanes of 32 bits as one AVX-512 register, two of AVX2 or four of NEON, for the matrix kernels, which are
 * written once in these operations; and a group's codes and scales, one per row, from a packed panel or an
 * expanded group. Only for files of x86/ and arm/.
 */
#ifndef SRN_CPU_SIMD_LANES_H
#define SRN_CPU_SIMD_LANES_H

#include "cpu/simd/layout.h"
#include "cpu/simd/v16.h"

#if defined(__aarch64__)
#include "cpu/arm/lanes_neon.h"
#else
#include "cpu/x86/lanes_x86.h"
#endif

SRN__INLINE i32x16 lanes_broadcast(const void *p) {
    int32_t x;
    memcpy(&x, p, sizeof x);
    return lanes_set1(x);
}
/* -zero * (sum of codes): the start value that takes the weights' offset out again. */
SRN__INLINE i32x16 start_value(const int32_t *neg_sum, int zero) {
    return lanes_times_zero(lanes_broadcast(neg_sum), zero);
}

#endif
