/* NEON: what cpu/simd/unpack.h and quads.h are written in, four rows at a time. Codes of types whose zero is
 * 128 come without it, as signed bytes; the others' q + zero are at most 126, so that signed products take
 * them too. Included by the arm64 translation units.
 */
#ifndef SRN_CPU_ARM_UNPACK_NEON_H
#define SRN_CPU_ARM_UNPACK_NEON_H

typedef int32x4_t part_ints;
typedef float32x4_t part_floats;
typedef uint8x16_t part_bytes;
typedef int8x16_t part_codes;

SRN__INLINE uint8x16_t load_part(const uint8_t *vector, int part) {
    return vld1q_u8(vector + 16 * part);
}
SRN__INLINE int32x4_t load_rows(const uint8_t *vector, int part) {
    return vreinterpretq_s32_u8(load_part(vector, part));
}
SRN__INLINE uint32x4_t unsigned_of(int32x4_t v) {
    return vreinterpretq_u32_s32(v);
}
SRN__INLINE int32x4_t signed_of(uint32x4_t v) {
    return vreinterpretq_s32_u32(v);
}

/* ---- codes ---- */

SRN__INLINE uint8x16_t shift_right(uint8x16_t v, int n) {
    return n < 0 ? v << (uint8_t)-n : v >> (uint8_t)n;
}
SRN__INLINE uint8x16_t upper_bits(uint8x16_t v, int n) {
    return shift_right(v, n);
}
SRN__INLINE uint8x16_t and8(uint8x16_t v, int mask) {
    return vandq_u8(v, vdupq_n_u8((uint8_t)mask));
}
SRN__INLINE uint8x16_t or8(uint8x16_t v, uint8x16_t w) {
    return vorrq_u8(v, w);
}
SRN__INLINE int32x4_t load_words(const uint8_t *p) {
    return signed_of(vmovl_u16(vld1_u16((const void *)p)));
}
SRN__INLINE uint8x16_t all_bits(int32x4_t v, uint32_t left) {
    return vreinterpretq_u8_s32(vshrq_n_s32(signed_of(unsigned_of(v) << left), 31));
}
SRN__INLINE int8x16_t unpacked(uint8x16_t v) {
    return vreinterpretq_s8_u8(v);
}
SRN__INLINE int8x16_t whole_bytes(uint8x16_t v) {
    return vreinterpretq_s8_u8(veorq_u8(v, vdupq_n_u8(128)));
}
SRN__INLINE int32x4_t dwords_of(int8x16_t codes) {
    return vreinterpretq_s32_s8(codes);
}
SRN__INLINE int8x16_t look_up(srn_type type, uint8x16_t v) {
    const int zero = srn__simd_type_of(type).zero;
    int8x16_t table = vld1q_s8(srn__code_table(type));
    if (zero < 128) table = vaddq_s8(table, vdupq_n_s8((int8_t)zero));
    return vqtbl1q_s8(table, v);
}

#include "cpu/simd/quads.h"

/* ---- scales ---- */

SRN__INLINE float32x4_t load_halves(const uint8_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const void *)p)));
}
SRN__INLINE uint16x4_t load_bytes16(const uint8_t *p) {
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return vget_low_u16(vmovl_u8(vcreate_u8(x)));
}
SRN__INLINE int32x4_t load_bytes(const uint8_t *p) {
    return signed_of(vmovl_u16(load_bytes16(p)));
}
SRN__INLINE int32x4_t load_signed(const uint8_t *p) {
    return vshrq_n_s32(vshlq_n_s32(load_bytes(p), 24), 24);
}
SRN__INLINE int32x4_t shift_dwords(int32x4_t v, uint32_t n) {
    return signed_of(unsigned_of(v) >> n);
}
SRN__INLINE int32x4_t shift_dwords_4(int32x4_t v) {
    return shift_dwords(v, 4);
}
SRN__INLINE int32x4_t and_dwords(int32x4_t v, int mask) {
    return v & mask;
}
SRN__INLINE int32x4_t and_or_dwords(int32x4_t v, int mask, int32x4_t w) {
    return (v & mask) | w;
}
SRN__INLINE int32x4_t odd_scale(int32x4_t v, int mask) {
    return (v & mask) << 1 | 1;
}
SRN__INLINE float32x4_t times(float32x4_t v, float x) {
    return vmulq_n_f32(v, x);
}
SRN__INLINE float32x4_t times_count(float32x4_t v, int32x4_t n) {
    return vmulq_f32(v, vcvtq_f32_s32(n));
}
SRN__INLINE float32x4_t negated(float32x4_t v) {
    return vnegq_f32(v);
}
SRN__INLINE float32x4_t load_e8m0(const uint8_t *p) {
    const int32x4_t e = load_bytes(p), subnormal = vshlq_s32(vdupq_n_s32(0x200000), e);
    return vreinterpretq_f32_s32(vbslq_s32(vcltq_s32(e, vdupq_n_s32(2)), subnormal, (e - 1) << 23));
}
SRN__INLINE float32x4_t load_ue4m3(const uint8_t *p) {
    float16x4_t half = vreinterpret_f16_u16(vshl_n_u16(load_bytes16(p), 7));
    return vmulq_n_f32(vcvt_f32_f16(half), 128.0f);
}

#endif
