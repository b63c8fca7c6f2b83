/* v16 (cpu/simd/v16.h) with NEON: sixteen binary32 lanes in four registers. Every operation is IEEE's, lane
 * by lane, with the results of the x86 form, also for NaN in minimum and maximum. For arm64 only.
 */
#ifndef SRN_CPU_ARM_V16_NEON_H
#define SRN_CPU_ARM_V16_NEON_H

#include <arm_neon.h>

#include "cpu/cpu_internal.h"

typedef struct v16 {
    float32x4_t v[4];
} v16;

#define V16_EACH_1(f, a)                                                                                     \
    (v16) {                                                                                                  \
        { f((a).v[0]), f((a).v[1]), f((a).v[2]), f((a).v[3]) }                                               \
    }
#define V16_EACH_2(f, a, b)                                                                                  \
    (v16) {                                                                                                  \
        { f((a).v[0], (b).v[0]), f((a).v[1], (b).v[1]), f((a).v[2], (b).v[2]), f((a).v[3], (b).v[3]) }       \
    }

V16_FN v16 v16_set1(float x) {
    float32x4_t v = vdupq_n_f32(x);
    return (v16){{v, v, v, v}};
}
V16_FN v16 v16_load(const float *p) {
    return (v16){{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
}
V16_FN void v16_store(float *p, v16 a) {
    vst1q_f32(p, a.v[0]), vst1q_f32(p + 4, a.v[1]);
    vst1q_f32(p + 8, a.v[2]), vst1q_f32(p + 12, a.v[3]);
}
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
V16_FN float32x4_t v16_f16_part(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
V16_FN v16 v16_load_f16(const uint16_t *p) {
    return (v16){{v16_f16_part(p), v16_f16_part(p + 4), v16_f16_part(p + 8), v16_f16_part(p + 12)}};
}
V16_FN void v16_store_f16(uint16_t *p, v16 a) {
    for (int i = 0; i < 4; i++) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(a.v[i])));
}
V16_FN float32x4_t v16_upper_part(const uint16_t *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
V16_FN v16 v16_load_upper(const uint16_t *p) {
    return (v16){{v16_upper_part(p), v16_upper_part(p + 4), v16_upper_part(p + 8), v16_upper_part(p + 12)}};
}
V16_FN v16 v16_load_i8(const int8_t *p) {
    int8x16_t c = vld1q_s8(p);
    int16x8_t low = vmovl_s8(vget_low_s8(c)), high = vmovl_high_s8(c);
    return (v16){{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)),
                  vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_high_s16(high))}};
}
V16_FN void v16_store_i8(int8_t *p, v16 a) {
    int16x4_t h[4];
    for (int i = 0; i < 4; i++) h[i] = vmovn_s32(vcvtnq_s32_f32(a.v[i]));
    vst1_s8(p, vmovn_s16(vcombine_s16(h[0], h[1])));
    vst1_s8(p + 8, vmovn_s16(vcombine_s16(h[2], h[3])));
}
V16_FN v16 v16_add(v16 a, v16 b) {
    return V16_EACH_2(vaddq_f32, a, b);
}
V16_FN v16 v16_sub(v16 a, v16 b) {
    return V16_EACH_2(vsubq_f32, a, b);
}
V16_FN v16 v16_mul(v16 a, v16 b) {
    return V16_EACH_2(vmulq_f32, a, b);
}
V16_FN v16 v16_div(v16 a, v16 b) {
    return V16_EACH_2(vdivq_f32, a, b);
}
V16_FN v16 v16_neg(v16 a) {
    return V16_EACH_1(vnegq_f32, a);
}
V16_FN v16 v16_abs(v16 a) {
    return V16_EACH_1(vabsq_f32, a);
}
V16_FN v16 v16_fma(v16 a, v16 b, v16 c) {
    return (v16){{vfmaq_f32(c.v[0], a.v[0], b.v[0]), vfmaq_f32(c.v[1], a.v[1], b.v[1]),
                  vfmaq_f32(c.v[2], a.v[2], b.v[2]), vfmaq_f32(c.v[3], a.v[3], b.v[3])}};
}
V16_FN v16 v16_fms(v16 a, v16 b, v16 c) {
    return v16_fma(a, b, v16_neg(c));
}
/* FMIN and FMAX give a NaN where one operand is one, and order zeros by sign: here the second is taken. */
V16_FN float32x4_t v16_min_part(float32x4_t a, float32x4_t b) {
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
V16_FN float32x4_t v16_max_part(float32x4_t a, float32x4_t b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
V16_FN v16 v16_min(v16 a, v16 b) {
    return V16_EACH_2(v16_min_part, a, b);
}
V16_FN v16 v16_max(v16 a, v16 b) {
    return V16_EACH_2(v16_max_part, a, b);
}
V16_FN uint32x4_t v16_bits_of_part(int i) {
    return (uint32x4_t){1u << 4 * i, 2u << 4 * i, 4u << 4 * i, 8u << 4 * i};
}
V16_FN v16_lanes v16_less(v16 a, v16 b) {
    uint32_t m = 0;
    for (int i = 0; i < 4; i++) m |= vaddvq_u32(vandq_u32(vcltq_f32(a.v[i], b.v[i]), v16_bits_of_part(i)));
    return (v16_lanes)m;
}
V16_FN v16_lanes v16_not_finite(v16 a) {
    return (v16_lanes)~v16_less(v16_abs(a), v16_set1(srn_f32_bits(0x7f800000u)));
}
V16_FN float32x4_t v16_magnitude_part(float32x4_t a, float32x4_t b) {
    uint32x4_t x = vreinterpretq_u32_f32(vabsq_f32(a)), y = vreinterpretq_u32_f32(vabsq_f32(b));
    return vreinterpretq_f32_u32(vmaxq_u32(x, y));
}
V16_FN v16 v16_greater_magnitude(v16 a, v16 b) {
    return V16_EACH_2(v16_magnitude_part, a, b);
}
V16_FN v16 v16_select(v16_lanes m, v16 a, v16 b) {
    uint32x4_t all = vdupq_n_u32(m);
    v16 r;
    for (int i = 0; i < 4; i++) r.v[i] = vbslq_f32(vtstq_u32(all, v16_bits_of_part(i)), a.v[i], b.v[i]);
    return r;
}
#define SRN_EXP_MOST 4
V16_FN v16 v16_exp_one(v16 x) {
    const v16 magic = v16_set1(SRN_EXP_MAGIC), one = v16_set1(1.0f);
    x = v16_max(v16_min(x, v16_set1(SRN_EXP_HI)), v16_set1(SRN_EXP_LO));
    v16 n = v16_sub(v16_fma(x, v16_set1(SRN_EXP_LOG2E), magic), magic);
    v16 r = v16_fma(n, v16_set1(-SRN_EXP_LN2_HI), x);
    r = v16_fma(n, v16_set1(-SRN_EXP_LN2_LO), r);
    v16 p = v16_fma(v16_set1(SRN_EXP_C7), r, v16_set1(SRN_EXP_C6));
    p = v16_fma(p, r, v16_set1(SRN_EXP_C5));
    p = v16_fma(p, r, v16_set1(SRN_EXP_C4));
    p = v16_fma(p, r, v16_set1(SRN_EXP_C3));
    p = v16_fma(p, r, v16_set1(SRN_EXP_C2));
    p = v16_fma(p, r, one);
    p = v16_fma(p, r, one);
    for (int i = 0; i < 4; i++) {
        int32x4_t e = vshlq_n_s32(vcvtq_s32_f32(n.v[i]), 23);
        p.v[i] = vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p.v[i]), e));
    }
    return p;
}
V16_FN void v16_exps(v16 *x, uint32_t count) {
    V16_UNROLL for (uint32_t i = 0; i < count; i++) x[i] = v16_exp_one(x[i]);
}
V16_FN float v16_tree(v16 a) {
    float32x4_t q = vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
    float32x2_t d = vadd_f32(vget_low_f32(q), vget_high_f32(q));
    return vget_lane_f32(d, 0) + vget_lane_f32(d, 1);
}
V16_FN float v16_greatest(v16 a) {
    float32x4_t q = v16_max_part(v16_max_part(a.v[0], a.v[2]), v16_max_part(a.v[1], a.v[3]));
    float32x2_t low = vget_low_f32(q), high = vget_high_f32(q);
    float32x2_t d = vbsl_f32(vcgt_f32(low, high), low, high);
    float x = vget_lane_f32(d, 0), y = vget_lane_f32(d, 1);
    return x > y ? x : y;
}

#endif
