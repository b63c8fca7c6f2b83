/* The probe's integer peak with an instruction that adds products of bytes to sums of 32 bits:
 * DOT(acc, w, c), and DOT_PRODUCTS, how many it forms. */
#ifndef SRN_CPU_ARM_PROBE_DOT_H
#define SRN_CPU_ARM_PROBE_DOT_H

#include "cpu/probe_internal.h"

#include <arm_neon.h>

static uint64_t int8_dot(uint32_t rounds) {
    enum { CHAINS = 16 };
    int8x16_t w = vdupq_n_s8(3), c = vdupq_n_s8(5);
    int32x4_t acc[CHAINS];
    for (int i = 0; i < CHAINS; i++) acc[i] = vdupq_n_s32(0);
    for (uint32_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : "+w"(w));
        _Pragma("GCC unroll 16") for (int i = 0; i < CHAINS; i++) acc[i] = DOT(acc[i], w, c);
    }
    for (int i = 1; i < CHAINS; i++) acc[0] = veorq_s32(acc[0], acc[i]);
    __asm__ volatile("" : : "w"(acc[0]));
    return (uint64_t)DOT_PRODUCTS * CHAINS * rounds;
}

#endif
