/* The lanes of cpu/simd/lanes.h with NEON: four registers. */
#ifndef SRN_CPU_ARM_LANES_NEON_H
#define SRN_CPU_ARM_LANES_NEON_H

typedef struct i32x16 {
    int32x4_t v[4];
} i32x16;

#define LANES_SET1  vdupq_n_s32
#define LANES_LOAD  vld1q_s32
#define LANES_STORE vst1q_s32
#define LANES_FLOAT vcvtq_f32_s32
#define LANES_ADD   vaddq_s32
#define LANES_MUL   vmulq_s32

/* a * zero, for the zeros that codes have here: with 128 they are signed (unpack_neon.h) and have none. */
SRN__INLINE i32x16 lanes_times_zero(i32x16 a, int zero) {
    const int32x4_t by = vdupq_n_s32(zero % 128);
#define TIMES_BY(v) vmulq_s32(v, by)
    return EACH_1(i32x16, TIMES_BY, a);
#undef TIMES_BY
}

#endif
