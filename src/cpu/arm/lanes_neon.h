/* The lanes of cpu/simd/lanes.h with NEON: 16 lanes of 32 bits in four registers, and a group's codes and
 * scales. A quad is unpacked when its product is formed, because a group of codes takes all 32 registers.
 */
#ifndef SRN_CPU_ARM_LANES_NEON_H
#define SRN_CPU_ARM_LANES_NEON_H

#include "cpu/arm/unpack_neon.h"

typedef struct i32x16 {
    int32x4_t v[4];
} i32x16;

#define LANES_OF(x)                                                                                          \
    (i32x16) {                                                                                               \
        { x(0), x(1), x(2), x(3) }                                                                           \
    }

SRN__INLINE i32x16 lanes_set1(int32_t x) {
    int32x4_t v = vdupq_n_s32(x);
    return (i32x16){{v, v, v, v}};
}
SRN__INLINE i32x16 lanes_load(const int32_t *p) {
    return (i32x16){{vld1q_s32(p), vld1q_s32(p + 4), vld1q_s32(p + 8), vld1q_s32(p + 12)}};
}
SRN__INLINE void lanes_store(void *p, i32x16 a) {
    for (int i = 0; i < 4; i++) vst1q_s32((int32_t *)p + 4 * i, a.v[i]);
}
SRN__INLINE v16 lanes_float(i32x16 a) {
    return (v16){
        {vcvtq_f32_s32(a.v[0]), vcvtq_f32_s32(a.v[1]), vcvtq_f32_s32(a.v[2]), vcvtq_f32_s32(a.v[3])}};
}
SRN__INLINE i32x16 lanes_add(i32x16 a, i32x16 b) {
#define SUM(i) vaddq_s32(a.v[i], b.v[i])
    return LANES_OF(SUM);
#undef SUM
}
SRN__INLINE i32x16 lanes_mul(i32x16 a, i32x16 b) {
#define PRODUCT(i) vmulq_s32(a.v[i], b.v[i])
    return LANES_OF(PRODUCT);
#undef PRODUCT
}
/* a * zero, for the zeros that codes have here: with 128 they are signed (unpack_neon.h) and have none. */
SRN__INLINE i32x16 lanes_times_zero(i32x16 a, int zero) {
#define TIMES(i) (a.v[i] * (zero % 128))
    return LANES_OF(TIMES);
#undef TIMES
}

typedef struct group_codes {
    srn_type type;
    bool expanded; /* a byte each, as quad() gives them */
    stored_at at;
} group_codes;
SRN__INLINE void load_codes(srn_type type, const uint8_t *panel, uint32_t g, group_codes *ret) {
    *ret = (group_codes){type, false, stored_group(srn__simd_type_of(type), panel, g)};
}
SRN__INLINE void expanded_codes(const srn__expanded *e, group_codes *ret) {
    *ret = (group_codes){SRN_Q8_0, true, {.codes = e->q[0][0]}};
}
SRN__INLINE int8x16_t quad_part(const group_codes *w, int j, int part) {
    if (w->expanded) return vreinterpretq_s8_u8(load_part(w->at.codes + 64 * j, part));
    return load_quad(w->type, w->at, j, part);
}
SRN__INLINE i32x16 quad(const group_codes *w, int j) {
#define PART(i) vreinterpretq_s32_s8(quad_part(w, j, i))
    return LANES_OF(PART);
#undef PART
}

typedef struct scales {
    v16 d, m;
    i32x16 sc0, sc1, mn0, mn1;
} scales;
SRN__INLINE void load_group_scales(srn_type type, const uint8_t *panel, uint32_t g, scales *s) {
    const stored_at at = stored_group(srn__simd_type_of(type), panel, g);
    SRN__UNROLL for (int i = 0; i < 4; i++) {
        scales4 p = {0};
        load_scales(type, at, i, &p);
        s->d.v[i] = p.d, s->m.v[i] = p.m;
        s->sc0.v[i] = p.sc0, s->sc1.v[i] = p.sc1;
        s->mn0.v[i] = p.mn0, s->mn1.v[i] = p.mn1;
    }
}

#endif
