/* NEON: activations to integer codes in planes of bytes (srn__act_plane), the bits of the reference. */
#ifndef SRN_CPU_ARM_QUANTIZE_NEON_H
#define SRN_CPU_ARM_QUANTIZE_NEON_H

#include "cpu/arm/dot_neon.h"

SRN__INLINE int32_t sum_of_half(const int32x4_t t[4]) {
    return vaddvq_s32(vaddq_s32(vaddq_s32(t[0], t[1]), vaddq_s32(t[2], t[3])));
}

/* Codes of one plane, which fit a byte. */
SRN__INLINE void store_plane(srn__act_plane *a, const int32x4_t t[8]) {
    SRN__UNROLL for (int i = 0; i < 8; i += 2) {
        int16x8_t h = vcombine_s16(vmovn_s32(t[i]), vmovn_s32(t[i + 1]));
        vst1_s8(a->c + 4 * i, vmovn_s16(h));
    }
    a->neg_half[0] = -sum_of_half(t);
    a->neg_half[1] = -sum_of_half(t + 4);
    a->neg_sum = a->neg_half[0] + a->neg_half[1];
}

/* One group of 32 at x into `planes` planes. False when a value is not finite. */
static bool quantize_group(const float *x, uint32_t planes, act_group *a) {
    float32x4_t v[8];
    uint32x4_t max = vdupq_n_u32(0);
    SRN__UNROLL for (int i = 0; i < 8; i++) {
        v[i] = vld1q_f32(x + 4 * i);
        max = vmaxq_u32(max, vreinterpretq_u32_f32(vabsq_f32(v[i])));
    }
    /* magnitudes order as integers, infinities and NaN above all others */
    uint32_t max_bits = vmaxvq_u32(max);
    float amax = srn_f32_bits(max_bits), limit = planes == 2 ? 32512.0f : 127.0f;
    memset(a, 0, planes * sizeof *a);
    if (max_bits >= 0x7f800000u) return false;
    if (amax < 0x1p-100f) return true;
    float32x4_t inverse = vdupq_n_f32(limit / amax);
    int32x4_t t[8], upper[8], lower[8];
    SRN__UNROLL for (int i = 0; i < 8; i++) t[i] = vcvtnq_s32_f32(vmulq_f32(v[i], inverse));
    if (planes == 1) {
        store_plane(a, t);
    } else {
        /* t = 256*c1 + c2, c2 in -128..127: the low byte of t, signed */
        SRN__UNROLL for (int i = 0; i < 8; i++) {
            upper[i] = vrshrq_n_s32(t[i], 8);
            lower[i] = vsubq_s32(t[i], vshlq_n_s32(upper[i], 8));
        }
        store_plane(a, upper);
        store_plane(a + 1, lower);
    }
    a->half[0] = sum_of_half(t);
    a->half[1] = sum_of_half(t + 4);
    a->d = amax / limit;
    a->s = a->d * (float)(a->half[0] + a->half[1]);
    return true;
}

#endif
