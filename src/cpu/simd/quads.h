/* Codes of a group where registers do not hold all of them: a quad is unpacked when its product is formed.
 * Included by the unpack_*.h of those instruction sets, after what it is written in:
 *
 * - part_bytes: a register of a part's bytes; part_codes: the same as products take it.
 * - load_part(vector, part): a part of 64 bytes.
 * - shift_right(v, n): bytes shifted by a constant, left where n < 0; bits of neighbours may come in.
 * - upper_bits(v, n): shifted right, and none come in.
 * - and8(v, mask), or8(v, w).
 * - load_words(p): as many 16-bit words as a part has rows, to dwords.
 * - all_bits(v, left): all bits of a dword, one of whose bits, shifted left by so many, is its top bit.
 * - unpacked(v): codes q + zero as products take them; whole_bytes(v): stored codes of 8 bits.
 * - look_up(type, v): the codes that a type's table has at these places.
 */
#ifndef SRN_CPU_SIMD_QUADS_H
#define SRN_CPU_SIMD_QUADS_H

SRN__INLINE part_bytes load_3_bits(const uint8_t *codes, int j, int part) {
    if (j < 6) return and8(shift_right(load_part(codes + 64 * (j / 2), part), 3 * (j % 2)), 7);
    part_bytes low = upper_bits(load_part(codes + 64 * (j - 6), part), 6);
    part_bytes high = shift_right(load_part(codes + 128, part), j - 2);
    return or8(low, and8(high, 4));
}

/* 4 to 6 bits */
SRN__INLINE part_bytes load_nibbles(const uint8_t *codes, int bits, int j, int part) {
    part_bytes v = load_part(codes + srn__nibbles_at((uint32_t)bits) + 64 * (j % 4), part);
    v = j < 4 ? and8(v, 15) : upper_bits(v, 4);
    if (bits == 5) v = or8(v, and8(shift_right(load_part(codes, part), j - 4), 16));
    if (bits == 6) {
        part_bytes h = load_part(codes + 64 * (j / 4), part);
        v = or8(v, and8(shift_right(h, 2 * (j % 4) - 4), 48));
    }
    return v;
}

/* IQ1: the sign of the delta of quad j as bit 2 of every byte. */
SRN__INLINE part_bytes load_delta(srn_type type, stored_at at, int j, int part) {
    part_ints v;
    uint32_t left; /* shift that makes the sign the top bit of the row's dword */
    if (type == SRN_IQ1_S) {
        v = load_rows(at.record, part);
        left = 28 - 4 * at.i;
    } else if (j % 4 < 2) {
        v = load_rows(at.record + at.i / 4 * 64, part);
        left = 28 - 8 * (at.i % 4) - 4 * (uint32_t)(j / 4);
    } else {
        v = load_words(at.record + 160 + 32 / PARTS * part);
        left = 31 - 2 * at.i - (uint32_t)(j / 4);
    }
    return and8(all_bits(v, left), 4);
}

/* Quad j of one part. `type` is a constant. */
SRN__INLINE part_codes load_quad(srn_type type, stored_at at, int j, int part) {
    const srn__simd_type t = srn__simd_type_of(type);
    part_bytes v;
    switch (t.bits) {
    case 1:
        v = and8(shift_right(load_part(at.codes, part), j - 1), 2);
        break;
    case 2:
        v = and8(shift_right(load_part(at.codes + 64 * (j / 4), part), 2 * (j % 4)), 3);
        if (srn__code_table(type)) v = or8(v, load_delta(type, at, j, part));
        break;
    case 3:
        v = load_3_bits(at.codes, j, part);
        break;
    case 8:
        return whole_bytes(load_part(at.codes + 64 * j, part));
    default:
        v = load_nibbles(at.codes, t.bits, j, part);
        break;
    }
    return srn__code_table(type) ? look_up(type, v) : unpacked(v);
}

typedef struct group_codes {
    srn_type type;
    bool expanded; /* a byte each, as quad() gives them */
    bool wide;     /* expanded to 16 bits each, for products that take these */
    stored_at at;
} group_codes;
SRN__INLINE void load_codes(srn_type type, const uint8_t *panel, uint32_t g, group_codes *ret) {
    *ret = (group_codes){.type = type, .at = stored_group(type, panel, g)};
}
SRN__INLINE void expanded_codes(const srn__expanded *e, group_codes *ret) {
    *ret = (group_codes){.type = SRN_Q8_0, .expanded = true, .at = {.codes = e->q[0][0]}};
}
SRN__INLINE void wide_codes(const srn__wide *codes, group_codes *ret) {
    *ret = (group_codes){.type = SRN_Q8_0, .wide = true, .at = {.codes = (const uint8_t *)codes}};
}
SRN__INLINE part_codes quad_part(const group_codes *w, int j, int part) {
    if (w->expanded) return unpacked(load_part(w->at.codes + 64 * j, part));
    return load_quad(w->type, w->at, j, part);
}
SRN__INLINE i32x16 quad(const group_codes *w, int j) {
#define QUAD_PART(part, w, j) dwords_of(quad_part(w, j, part))
    return EACH_PART(i32x16, QUAD_PART, w, j);
#undef QUAD_PART
}

#endif
