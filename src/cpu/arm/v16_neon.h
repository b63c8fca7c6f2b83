/* v16 (cpu/simd/v16.h) with NEON: sixteen binary32 lanes in four registers. Every operation is IEEE's, lane
 * by lane, with the results of the x86 form, also for NaN in minimum and maximum. For arm64 only.
 */
#ifndef SRN_CPU_ARM_V16_NEON_H
#define SRN_CPU_ARM_V16_NEON_H

typedef struct v16 {
    float32x4_t v[4];
} v16;

#define V16_OP(name) v##name##q_f32
#define V16_LOAD     vld1q_f32
#define V16_STORE    vst1q_f32
#define V16_SET1     vdupq_n_f32
#define v16_neg_part vnegq_f32
#define v16_abs_part vabsq_f32

V16_FN float32x4_t v16_f16_part(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
V16_FN void v16_store_f16_part(uint16_t *p, float32x4_t a) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a)));
}
V16_FN float32x4_t v16_upper_part(const uint16_t *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
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
V16_FN float32x4_t v16_fma_part(float32x4_t a, float32x4_t b, float32x4_t c) {
    return vfmaq_f32(c, a, b);
}
V16_FN float32x4_t v16_fms_part(float32x4_t a, float32x4_t b, float32x4_t c) {
    return vfmaq_f32(vnegq_f32(c), a, b);
}
/* FMIN and FMAX give a NaN where one operand is one, and order zeros by sign: here the second is taken. */
V16_FN float32x4_t v16_min_part(float32x4_t a, float32x4_t b) {
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
V16_FN float32x4_t v16_max_part(float32x4_t a, float32x4_t b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
V16_FN uint32x4_t v16_bits_of_part(int i) {
    return (uint32x4_t){1u << 4 * i, 2u << 4 * i, 4u << 4 * i, 8u << 4 * i};
}
V16_FN v16_lanes v16_less(v16 a, v16 b) {
    uint32_t m = 0;
    for (int i = 0; i < 4; i++) m |= vaddvq_u32(vandq_u32(vcltq_f32(a.v[i], b.v[i]), v16_bits_of_part(i)));
    return (v16_lanes)m;
}
V16_FN float32x4_t v16_max_bits_part(float32x4_t a, float32x4_t b) {
    return vreinterpretq_f32_u32(vmaxq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)));
}
V16_FN v16 v16_select(v16_lanes m, v16 a, v16 b) {
    uint32x4_t all = vdupq_n_u32(m);
    v16 r;
    for (int i = 0; i < 4; i++) r.v[i] = vbslq_f32(vtstq_u32(all, v16_bits_of_part(i)), a.v[i], b.v[i]);
    return r;
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
