/* From packed panels (layout.h) to a group's codes and scales in registers, for every level. A register has a
 * part of the 16 rows, part 0 to PARTS-1 of a panel. Written in what unpack_*.h has of each instruction set:
 *
 * - part_ints, part_floats: a register of 16/PARTS lanes of 32 bits.
 * - load_rows(vector, part): the dwords of a part of 16.
 * - load_bytes(p), load_signed(p), load_halves(p): so many bytes, int8 or f16, to lanes.
 * - load_e8m0(p): bytes e that are MXFP4's scales, to 2^(e-128), which is subnormal for e of 0 and 1.
 * - load_ue4m3(p): NVFP4's, half of what 4 bits of exponent and 3 of mantissa say, by way of a half, whose
 *   exponent is wider.
 * - shift_dwords(v, n), shift_dwords_4(v), and_dwords(v, mask), and_or_dwords(v, mask, w): v >> n, v >> 4,
 *   v & mask, (v & mask) | w, of unsigned dwords.
 * - odd_scale(v, mask): 2*(v & mask) + 1.
 * - times(v, float), times_count(v, ints), negated(v).
 * - group_codes, load_codes, expanded_codes, quad: a group's codes, of which a quad is asked for by number.
 */
#ifndef SRN_CPU_SIMD_UNPACK_H
#define SRN_CPU_SIMD_UNPACK_H

#include "cpu/simd/lanes.h"

/* Where one group of a panel lies. */
typedef struct stored_at {
    const uint8_t *codes, *record;
    uint32_t i; /* the group in its record */
} stored_at;

SRN__INLINE stored_at stored_group(srn_type type, const uint8_t *panel, uint32_t g) {
    const srn__simd_type t = srn__simd_type_of(type);
    return (stored_at){panel + srn__codes_at(t, g), panel + srn__record_at(t, g), g % t.record_groups};
}

#if defined(__aarch64__)
#include "cpu/arm/unpack_neon.h"
#else
#include "cpu/x86/unpack_x86.h"
#endif

/* What the form does not use is undefined. */
typedef struct scales {
    v16 d, m;
    i32x16 sc0, sc1, mn0, mn1;
} scales;

typedef struct part_scales {
    part_floats d, m;
    part_ints sc0, sc1, mn0, mn1;
} part_scales;

/* A part of 16 at p. */
SRN__INLINE part_floats halves(const uint8_t *p, int part) {
    return load_halves(p + 32 / PARTS * part);
}
SRN__INLINE part_ints bytes(const uint8_t *p, int part) {
    return load_bytes(p + 16 / PARTS * part);
}
SRN__INLINE part_ints signed_bytes(const uint8_t *p, int part) {
    return load_signed(p + 16 / PARTS * part);
}

/* Q4_K, Q5_K: scale and minimum of group i (0..7) of a record, by the format's packing of 6-bit fields. */
SRN__INLINE void load_scales_k(const uint8_t *record, uint32_t i, int part, part_scales *s) {
    part_ints v0 = load_rows(record, part), v1 = load_rows(record + 64, part), sc, mn;
    if (i < 4) {
        sc = and_dwords(shift_dwords(v0, 8 * i), 0x3f);
        mn = and_dwords(shift_dwords(v1, 8 * i), 0x3f);
    } else {
        uint32_t shift = 8 * (i - 4);
        part_ints v2 = shift_dwords(load_rows(record + 128, part), shift);
        sc = and_dwords(v2, 0x0f);
        mn = and_dwords(shift_dwords_4(v2), 0x0f);
        sc = and_or_dwords(shift_dwords(v0, shift + 2), 0x30, sc);
        mn = and_or_dwords(shift_dwords(v1, shift + 2), 0x30, mn);
    }
    s->d = times_count(halves(record + 192, part), sc);
    s->m = times_count(negated(halves(record + 224, part)), mn);
}

SRN__INLINE void load_scales_q2_k(const uint8_t *record, uint32_t i, int part, part_scales *s) {
    part_ints half0 = bytes(record + 32 * i, part), half1 = bytes(record + 32 * i + 16, part);
    s->sc0 = and_dwords(half0, 15), s->mn0 = shift_dwords_4(half0);
    s->sc1 = and_dwords(half1, 15), s->mn1 = shift_dwords_4(half1);
    s->d = halves(record + 256, part);
    s->m = negated(halves(record + 288, part));
}

/* IQ2_XS, IQ2_S, IQ1_M */
SRN__INLINE void load_scales_sub4(const uint8_t *record, uint32_t i, int part, int mask, part_scales *s) {
    part_ints v = shift_dwords(load_rows(record + i / 4 * 64, part), i % 4 * 8);
    s->sc0 = odd_scale(v, mask);
    s->sc1 = odd_scale(shift_dwords_4(v), mask);
    s->d = times(halves(record + 128, part), 0.125f);
}

/* IQ2_XXS, IQ3_XXS, IQ3_S, IQ1_S */
SRN__INLINE void load_scales_nibble(const uint8_t *record, uint32_t i, int part, int mask, float unit,
                                    part_scales *s) {
    part_ints v = odd_scale(shift_dwords(load_rows(record, part), 4 * i), mask);
    s->d = times_count(times(halves(record + 64, part), unit), v);
}

/* The scales of one part of group i of a record. `type` is a constant. */
SRN__INLINE void load_scales(srn_type type, const uint8_t *record, uint32_t i, int part, part_scales *s) {
    const uint32_t groups = srn__simd_type_of(type).record_groups;
    switch (type) {
    case SRN_Q4_1:
    case SRN_Q5_1:
        s->d = halves(record, part);
        s->m = halves(record + 32, part);
        break;
    case SRN_Q4_K:
    case SRN_Q5_K:
        load_scales_k(record, i, part, s);
        break;
    case SRN_Q2_K:
        load_scales_q2_k(record, i, part, s);
        break;
    case SRN_Q3_K:
    case SRN_Q6_K:
        s->sc0 = signed_bytes(record + 32 * i, part);
        s->sc1 = signed_bytes(record + 32 * i + 16, part);
        s->d = halves(record + 256, part);
        break;
    case SRN_IQ4_XS:
        s->d = times_count(halves(record + 128, part), signed_bytes(record + 16 * i, part));
        break;
    case SRN_IQ2_XS:
    case SRN_IQ2_S:
        load_scales_sub4(record, i, part, 15, s);
        break;
    case SRN_IQ1_M:
        load_scales_sub4(record, i, part, 7, s);
        break;
    case SRN_IQ1_S:
        load_scales_nibble(record, i, part, 7, 0.125f, s);
        break;
    case SRN_IQ2_XXS:
        load_scales_nibble(record, i, part, 15, 0.125f, s);
        break;
    case SRN_IQ3_XXS:
        load_scales_nibble(record, i, part, 15, 0.25f, s);
        break;
    case SRN_IQ3_S:
        load_scales_nibble(record, i, part, 15, 1.0f, s);
        break;
    case SRN_MXFP4:
        s->d = load_e8m0(record + 16 * i + 16 / PARTS * part);
        break;
    case SRN_NVFP4:
        s->d = load_ue4m3(record + 32 * i + 16 / PARTS * part);
        s->m = load_ue4m3(record + 32 * i + 16 + 16 / PARTS * part);
        break;
    default:
        s->d = halves(record + i / (groups / 2) * 32, part);
        break;
    }
}

SRN__INLINE void load_group_scales(srn_type type, const uint8_t *panel, uint32_t g, scales *s) {
    const stored_at at = stored_group(type, panel, g);
    part_scales p[PARTS] = {0};
    SRN__UNROLL for (int i = 0; i < PARTS; i++) load_scales(type, at.record, at.i, i, &p[i]);
#define FIELD(part, name) p[part].name
    s->d = EACH_PART(v16, FIELD, d), s->m = EACH_PART(v16, FIELD, m);
    s->sc0 = EACH_PART(i32x16, FIELD, sc0), s->sc1 = EACH_PART(i32x16, FIELD, sc1);
    s->mn0 = EACH_PART(i32x16, FIELD, mn0), s->mn1 = EACH_PART(i32x16, FIELD, mn1);
#undef FIELD
}

#endif
