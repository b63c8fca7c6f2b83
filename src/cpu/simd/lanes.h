/* 16 lanes of 32 bits as one AVX-512 register, two of AVX2 or four of NEON, for the matrix kernels, which are
 * written once in these operations. Only for files of x86/ and arm/.
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

SRN__INLINE i32x16 lanes_set1(int32_t x) {
    return EACH_SAME(i32x16, LANES_SET1(x));
}
SRN__INLINE i32x16 lanes_load(const void *p) {
    return EACH_LOAD(i32x16, LANES_LOAD, (const int32_t *)p);
}
SRN__INLINE void lanes_store(void *p, i32x16 a) {
    EACH_STORE(LANES_STORE, (int32_t *)p, a);
}
SRN__INLINE v16 lanes_float(i32x16 a) {
    return EACH_1(v16, LANES_FLOAT, a);
}
SRN__INLINE i32x16 lanes_add(i32x16 a, i32x16 b) {
    return EACH_2(i32x16, LANES_ADD, a, b);
}
SRN__INLINE i32x16 lanes_mul(i32x16 a, i32x16 b) {
    return EACH_2(i32x16, LANES_MUL, a, b);
}
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
