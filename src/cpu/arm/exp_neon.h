/* v16_exps (cpu/simd/v16.h) with NEON: num.h's srn_expf, operation by operation, in operations of v16. */
#ifndef SRN_CPU_ARM_EXP_NEON_H
#define SRN_CPU_ARM_EXP_NEON_H

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

#endif
