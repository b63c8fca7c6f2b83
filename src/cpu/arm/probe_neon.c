/* The probe's loops with NEON. */
#include "cpu/probe_internal.h"

#include <arm_neon.h>

/* In order of address, as with AVX2. */
static uint64_t read_q(const void *p, size_t n) {
    const uint64_t *w = p;
    uint64x2_t x = vdupq_n_u64(0);
    for (size_t i = 0; i < n / sizeof *w; i += 16) {
        _Pragma("GCC unroll 8") for (size_t j = 0; j < 16; j += 2) {
            x = veorq_u64(x, vld1q_u64(w + i + j));
            __asm__ volatile("" : "+w"(x) : : "memory");
        }
    }
    return vgetq_lane_u64(x, 0) ^ vgetq_lane_u64(x, 1);
}

/* Products of bytes, added to sums of 16 bits eight deep, which are then widened. The empty asm statements
 * keep every product, and the additions in this order. */
static uint64_t int8_smull(uint32_t rounds) {
    enum { CHAINS = 4, DEPTH = 8 };
    int8x16_t w = vdupq_n_s8(3), c = vdupq_n_s8(5);
    int32x4_t acc[CHAINS];
    for (int i = 0; i < CHAINS; i++) acc[i] = vdupq_n_s32(0);
    for (uint32_t r = 0; r < rounds; r++) {
        _Pragma("GCC unroll 4") for (int i = 0; i < CHAINS; i++) {
            int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(c)), high = vmull_high_s8(w, c);
            _Pragma("GCC unroll 8") for (int d = 1; d < DEPTH; d++) {
                __asm__ volatile("" : "+w"(w), "+w"(low), "+w"(high));
                low = vmlal_s8(low, vget_low_s8(w), vget_low_s8(c));
                high = vmlal_high_s8(high, w, c);
            }
            acc[i] = vpadalq_s16(vpadalq_s16(acc[i], low), high);
        }
    }
    for (int i = 1; i < CHAINS; i++) acc[0] = veorq_s32(acc[0], acc[i]);
    __asm__ volatile("" : : "w"(acc[0]));
    return (uint64_t)16 * CHAINS * DEPTH * rounds;
}

static uint64_t f32_fmla(uint32_t rounds) {
    enum { CHAINS = 16 };
    float32x4_t acc[CHAINS], a = vdupq_n_f32(0.5f), b = vdupq_n_f32(1.0f);
    for (int i = 0; i < CHAINS; i++) acc[i] = vdupq_n_f32(0.0f);
    for (uint32_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : "+w"(a));
        _Pragma("GCC unroll 16") for (int i = 0; i < CHAINS; i++) acc[i] = vfmaq_f32(acc[i], a, b);
    }
    for (int i = 1; i < CHAINS; i++) acc[0] = vaddq_f32(acc[0], acc[i]);
    __asm__ volatile("" : : "w"(acc[0]));
    return (uint64_t)4 * CHAINS * rounds;
}

void srn__probe_neon(srn_probe_loops *l) {
    *l = (srn_probe_loops){read_q, int8_smull, f32_fmla};
}
