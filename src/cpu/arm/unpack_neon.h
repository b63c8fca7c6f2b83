/* NEON: from packed panels (cpu/simd/layout.h) to codes and scales in registers, four rows ("part" 0 to 3 of
 * a panel) at a time. Codes of types whose zero is 128 come without it, as signed bytes; the others' q + zero
 * are at most 126, so that signed products take them too. Included by the arm64 translation units.
 */
#ifndef SRN_CPU_ARM_UNPACK_NEON_H
#define SRN_CPU_ARM_UNPACK_NEON_H

#include <arm_neon.h>

#include "cpu/simd/layout.h"

/* Where one group of a panel lies. */
typedef struct stored_at {
    const uint8_t *codes, *record;
    uint32_t i; /* the group in its record */
} stored_at;

SRN__INLINE stored_at stored_group(srn__simd_type t, const uint8_t *panel, uint32_t g) {
    return (stored_at){panel + srn__codes_at(t, g), panel + srn__record_at(t, g), g % t.record_groups};
}

/* ---- codes: 4 rows of one quad ---- */

SRN__INLINE uint8x16_t load_part(const uint8_t *vector, int part) {
    return vld1q_u8(vector + 16 * part);
}
SRN__INLINE uint32x4_t load_rows(const uint8_t *vector, int part) {
    return vreinterpretq_u32_u8(load_part(vector, part));
}

/* Every byte shifted right by n, a constant; left where n < 0. */
SRN__INLINE uint8x16_t shift_right(uint8x16_t v, int n) {
    return n < 0 ? v << (uint8_t)-n : v >> (uint8_t)n;
}
SRN__INLINE uint8x16_t and8(uint8x16_t v, int mask) {
    return vandq_u8(v, vdupq_n_u8((uint8_t)mask));
}

SRN__INLINE uint8x16_t load_3_bits(const uint8_t *codes, int j, int part) {
    if (j < 6) return and8(shift_right(load_part(codes + 64 * (j / 2), part), 3 * (j % 2)), 7);
    uint8x16_t low = shift_right(load_part(codes + 64 * (j - 6), part), 6);
    uint8x16_t high = shift_right(load_part(codes + 128, part), j - 2);
    return vorrq_u8(low, and8(high, 4));
}

/* 4 to 6 bits */
SRN__INLINE uint8x16_t load_nibbles(const uint8_t *codes, int bits, int j, int part) {
    uint8x16_t v = load_part(codes + srn__nibbles_at((uint32_t)bits) + 64 * (j % 4), part);
    v = j < 4 ? and8(v, 15) : shift_right(v, 4);
    if (bits == 5) v = vorrq_u8(v, and8(shift_right(load_part(codes, part), j - 4), 16));
    if (bits == 6) {
        uint8x16_t h = load_part(codes + 64 * (j / 4), part);
        v = vorrq_u8(v, and8(shift_right(h, 2 * (j % 4) - 4), 48));
    }
    return v;
}

/* IQ1: the sign of the delta of quad j as bit 2 of every byte. */
SRN__INLINE uint8x16_t load_delta(srn_type type, stored_at at, int j, int part) {
    uint32x4_t v;
    uint32_t left; /* shift that makes the sign the top bit of the row's dword */
    if (type == SRN_IQ1_S) {
        v = load_rows(at.record, part);
        left = 28 - 4 * at.i;
    } else if (j % 4 < 2) {
        v = load_rows(at.record + at.i / 4 * 64, part);
        left = 28 - 8 * (at.i % 4) - 4 * (uint32_t)(j / 4);
    } else {
        v = vmovl_u16(vld1_u16((const void *)(at.record + 160 + 8 * part)));
        left = 31 - 2 * at.i - (uint32_t)(j / 4);
    }
    int32x4_t sign = vshrq_n_s32(vreinterpretq_s32_u32(v << left), 31);
    return and8(vreinterpretq_u8_s32(sign), 4);
}

/* Quad j of rows 4*part on. `type` is a constant. */
SRN__INLINE int8x16_t load_quad(srn_type type, stored_at at, int j, int part) {
    const srn__simd_type t = srn__simd_type_of(type);
    uint8x16_t v;
    switch (t.bits) {
    case 1:
        v = and8(shift_right(load_part(at.codes, part), j - 1), 2);
        break;
    case 2:
        v = and8(shift_right(load_part(at.codes + 64 * (j / 4), part), 2 * (j % 4)), 3);
        if (srn__code_table(type)) v = vorrq_u8(v, load_delta(type, at, j, part));
        break;
    case 3:
        v = load_3_bits(at.codes, j, part);
        break;
    case 8:
        return vreinterpretq_s8_u8(veorq_u8(load_part(at.codes + 64 * j, part), vdupq_n_u8(t.zero)));
    default:
        v = load_nibbles(at.codes, t.bits, j, part);
        break;
    }
    if (!srn__code_table(type)) return vreinterpretq_s8_u8(v);
    int8x16_t table = vld1q_s8(srn__code_table(type));
    if (t.zero < 128) table = vaddq_s8(table, vdupq_n_s8((int8_t)t.zero));
    return vqtbl1q_s8(table, v);
}

/* ---- scales of 4 rows ---- */

typedef struct scales4 {
    float32x4_t d, m;
    int32x4_t sc0, sc1, mn0, mn1;
} scales4;

SRN__INLINE float32x4_t load_halves(const uint8_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const void *)p)));
}
SRN__INLINE uint16x4_t load_bytes16(const uint8_t *p) {
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return vget_low_u16(vmovl_u8(vcreate_u8(x)));
}
SRN__INLINE uint32x4_t load_bytes(const uint8_t *p) {
    return vmovl_u16(load_bytes16(p));
}
SRN__INLINE int32x4_t load_signed(const uint8_t *p) {
    return vshrq_n_s32(vreinterpretq_s32_u32(load_bytes(p) << 24), 24);
}
SRN__INLINE float32x4_t times_count(float32x4_t d, uint32x4_t n) {
    return vmulq_f32(d, vcvtq_f32_u32(n));
}

/* Q4_K, Q5_K: scale and minimum of group i (0..7) of a record, by the format's packing of 6-bit fields. */
SRN__INLINE void load_scales_k(stored_at at, int part, scales4 *s) {
    const uint8_t *v = at.record;
    uint32x4_t v0 = load_rows(v, part), v1 = load_rows(v + 64, part), sc, mn;
    if (at.i < 4) {
        sc = v0 >> 8 * at.i & 0x3f;
        mn = v1 >> 8 * at.i & 0x3f;
    } else {
        uint32_t shift = 8 * (at.i - 4);
        uint32x4_t v2 = load_rows(v + 128, part) >> shift;
        sc = (v2 & 0x0f) | (v0 >> (shift + 2) & 0x30);
        mn = (v2 >> 4 & 0x0f) | (v1 >> (shift + 2) & 0x30);
    }
    s->d = times_count(load_halves(v + 192 + 8 * part), sc);
    s->m = times_count(vnegq_f32(load_halves(v + 224 + 8 * part)), mn);
}

/* 2*(v & mask) + 1 */
SRN__INLINE int32x4_t odd_scale(uint32x4_t v, uint32_t mask) {
    return vreinterpretq_s32_u32((v & mask) << 1 | 1);
}
SRN__INLINE void load_scales_q2_k(stored_at at, int part, scales4 *s) {
    const uint8_t *p = at.record + 32 * at.i + 4 * part;
    uint32x4_t half0 = load_bytes(p), half1 = load_bytes(p + 16);
    s->sc0 = vreinterpretq_s32_u32(half0 & 15), s->mn0 = vreinterpretq_s32_u32(half0 >> 4);
    s->sc1 = vreinterpretq_s32_u32(half1 & 15), s->mn1 = vreinterpretq_s32_u32(half1 >> 4);
    s->d = load_halves(at.record + 256 + 8 * part);
    s->m = vnegq_f32(load_halves(at.record + 288 + 8 * part));
}
/* IQ2_XS, IQ2_S, IQ1_M */
SRN__INLINE void load_scales_sub4(stored_at at, int part, uint32_t mask, scales4 *s) {
    uint32x4_t v = load_rows(at.record + at.i / 4 * 64, part) >> at.i % 4 * 8;
    s->sc0 = odd_scale(v, mask);
    s->sc1 = odd_scale(v >> 4, mask);
    s->d = vmulq_n_f32(load_halves(at.record + 128 + 8 * part), 0.125f);
}
/* IQ2_XXS, IQ3_XXS, IQ3_S, IQ1_S */
SRN__INLINE void load_scales_nibble(stored_at at, int part, uint32_t mask, float unit, scales4 *s) {
    int32x4_t v = odd_scale(load_rows(at.record, part) >> 4 * at.i, mask);
    float32x4_t d = vmulq_n_f32(load_halves(at.record + 64 + 8 * part), unit);
    s->d = vmulq_f32(d, vcvtq_f32_s32(v));
}
/* MXFP4: 2^(e-128), which is subnormal for e of 0 and 1. */
SRN__INLINE float32x4_t load_e8m0(const uint8_t *p) {
    uint32x4_t e = load_bytes(p), subnormal = vshlq_u32(vdupq_n_u32(0x200000), vreinterpretq_s32_u32(e));
    return vreinterpretq_f32_u32(vbslq_u32(vcltq_u32(e, vdupq_n_u32(2)), subnormal, (e - 1) << 23));
}
/* NVFP4: half of what 4 bits of exponent and 3 of mantissa say, by way of a half, whose exponent is wider. */
SRN__INLINE float32x4_t load_ue4m3(const uint8_t *p) {
    float16x4_t half = vreinterpret_f16_u16(vshl_n_u16(load_bytes16(p), 7));
    return vmulq_n_f32(vcvt_f32_f16(half), 128.0f);
}

/* The scales of a group, rows 4*part on. `type` is a constant. */
SRN__INLINE void load_scales(srn_type type, stored_at at, int part, scales4 *s) {
    const uint32_t groups = srn__simd_type_of(type).record_groups;
    const uint8_t *record = at.record;
    switch (type) {
    case SRN_Q4_1:
    case SRN_Q5_1:
        s->d = load_halves(record + 8 * part);
        s->m = load_halves(record + 32 + 8 * part);
        break;
    case SRN_Q4_K:
    case SRN_Q5_K:
        load_scales_k(at, part, s);
        break;
    case SRN_Q2_K:
        load_scales_q2_k(at, part, s);
        break;
    case SRN_Q3_K:
    case SRN_Q6_K:
        s->sc0 = load_signed(record + 32 * at.i + 4 * part);
        s->sc1 = load_signed(record + 32 * at.i + 16 + 4 * part);
        s->d = load_halves(record + 256 + 8 * part);
        break;
    case SRN_IQ4_XS:
        s->d = vmulq_f32(load_halves(record + 128 + 8 * part),
                         vcvtq_f32_s32(load_signed(record + 16 * at.i + 4 * part)));
        break;
    case SRN_IQ2_XS:
    case SRN_IQ2_S:
        load_scales_sub4(at, part, 15, s);
        break;
    case SRN_IQ1_M:
        load_scales_sub4(at, part, 7, s);
        break;
    case SRN_IQ1_S:
        load_scales_nibble(at, part, 7, 0.125f, s);
        break;
    case SRN_IQ2_XXS:
        load_scales_nibble(at, part, 15, 0.125f, s);
        break;
    case SRN_IQ3_XXS:
        load_scales_nibble(at, part, 15, 0.25f, s);
        break;
    case SRN_IQ3_S:
        load_scales_nibble(at, part, 15, 1.0f, s);
        break;
    case SRN_MXFP4:
        s->d = load_e8m0(record + 16 * at.i + 4 * part);
        break;
    case SRN_NVFP4:
        s->d = load_ue4m3(record + 32 * at.i + 4 * part);
        s->m = load_ue4m3(record + 32 * at.i + 16 + 4 * part);
        break;
    default:
        s->d = load_halves(record + at.i / (groups / 2) * 32 + 8 * part);
        break;
    }
}

#endif
