/* AVX-512: what cpu/simd/unpack.h is written in, a panel's 16 rows at a time, and the codes of a group, all
 * of them in registers. Included by the two AVX-512 translation units only, whose flags it needs.
 */
#ifndef SRN_CPU_X86_UNPACK_AVX512_H
#define SRN_CPU_X86_UNPACK_AVX512_H

typedef __m512i part_ints;
typedef __m512 part_floats;

/* ---- codes ---- */

/* Every 16 bits shifted right by n, a constant; left where n < 0. */
SRN__INLINE __m512i shift_right(__m512i v, int n) {
    switch (n) {
    case -4:
        return _mm512_slli_epi16(v, 4);
    case -3:
        return _mm512_slli_epi16(v, 3);
    case -2:
        return _mm512_slli_epi16(v, 2);
    case -1:
        return _mm512_slli_epi16(v, 1);
    case 0:
        return v;
    case 1:
        return _mm512_srli_epi16(v, 1);
    case 2:
        return _mm512_srli_epi16(v, 2);
    case 3:
        return _mm512_srli_epi16(v, 3);
    case 4:
        return _mm512_srli_epi16(v, 4);
    case 5:
        return _mm512_srli_epi16(v, 5);
    default:
        return _mm512_srli_epi16(v, 6);
    }
}

/* a & b | c, and what a has where mask is set, b elsewhere */
SRN__INLINE __m512i and_or(__m512i a, __m512i b, __m512i c) {
    return _mm512_ternarylogic_epi32(a, b, c, 0xEA);
}
SRN__INLINE __m512i choose(__m512i mask, __m512i a, __m512i b) {
    return _mm512_ternarylogic_epi32(mask, a, b, 0xCA);
}

SRN__INLINE void unpack_1_bit(const uint8_t *src, __m512i w[SRN__QUADS]) {
    const __m512i bit1 = _mm512_set1_epi8(2);
    __m512i v = _mm512_loadu_si512(src);
    SRN__UNROLL for (int j = 0; j < SRN__QUADS; j++) w[j] = _mm512_and_si512(shift_right(v, j - 1), bit1);
}

/* third[j/2] is what quad j's codes have above their two bits: the signs of IQ1's deltas. */
SRN__INLINE void unpack_2_bits(const uint8_t *src, const __m512i third[4], __m512i w[SRN__QUADS]) {
    const __m512i bits01 = _mm512_set1_epi8(3);
    SRN__UNROLL for (int h = 0; h < 2; h++) {
        __m512i v = _mm512_loadu_si512(src + 64 * h);
        SRN__UNROLL for (int f = 0; f < 4; f++) w[4 * h + f] =
            third ? and_or(shift_right(v, 2 * f), bits01, third[2 * h + f / 2])
                  : _mm512_and_si512(shift_right(v, 2 * f), bits01);
    }
}

SRN__INLINE void unpack_3_bits(const uint8_t *src, __m512i w[SRN__QUADS]) {
    const __m512i bits01 = _mm512_set1_epi8(3), bits012 = _mm512_set1_epi8(7);
    __m512i v[3];
    SRN__UNROLL for (int j = 0; j < 3; j++) {
        v[j] = _mm512_loadu_si512(src + 64 * j);
        w[2 * j] = _mm512_and_si512(v[j], bits012);
        w[2 * j + 1] = _mm512_and_si512(shift_right(v[j], 3), bits012);
    }
    w[6] = _mm512_and_si512(choose(bits01, shift_right(v[0], 6), shift_right(v[2], 4)), bits012);
    w[7] = _mm512_and_si512(choose(bits01, shift_right(v[1], 6), shift_right(v[2], 5)), bits012);
}

/* 4 to 6 bits */
SRN__INLINE void unpack_nibbles(const uint8_t *src, int bits, __m512i w[SRN__QUADS]) {
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i high[2] = {nibble, nibble};
    SRN__UNROLL for (int i = 0; i < bits - 4; i++) high[i] = _mm512_loadu_si512(src + 64 * i);
    SRN__LOAD_ORDER();
    src += srn__nibbles_at((uint32_t)bits);
    SRN__UNROLL for (int j = 0; j < 4; j++) {
        __m512i v = _mm512_loadu_si512(src + 64 * j);
        w[j] = _mm512_and_si512(v, nibble);
        w[j + 4] = _mm512_and_si512(shift_right(v, 4), nibble);
    }
    const __m512i bit4 = _mm512_set1_epi8(16), bits45 = _mm512_set1_epi8(48);
    if (bits == 4) return;
    SRN__UNROLL for (int j = 0; j < SRN__QUADS; j++) w[j] =
        bits == 5 ? and_or(shift_right(high[0], j - 4), bit4, w[j])
                  : and_or(shift_right(high[j / 4], 2 * (j % 4) - 4), bits45, w[j]);
}

/* The entries of a type's table, plus its zero, four times. */
SRN__INLINE __m512i load_table(srn_type type) {
    __m128i t = _mm_loadu_si128((const void *)srn__code_table(type));
    t = _mm_add_epi8(t, _mm_set1_epi8((char)srn__simd_type_of(type).zero));
    return _mm512_broadcast_i32x4(t);
}

/* IQ1: the signs of the deltas, one for each two quads, as bit 2 of every byte. `i` is the group in its
 * record. */
SRN__INLINE void load_deltas(srn_type type, const uint8_t *record, uint32_t i, __m512i third[4]) {
    const __m512i bit2 = _mm512_set1_epi32(0x04040404);
    if (type == SRN_IQ1_S) {
        __mmask16 m =
            _mm512_test_epi32_mask(_mm512_loadu_si512(record), _mm512_set1_epi32((int)(8u << 4 * i)));
        third[0] = third[1] = third[2] = third[3] = _mm512_maskz_mov_epi32(m, bit2);
        return;
    }
    __m512i first = _mm512_loadu_si512(record + i / 4 * 64);
    __m512i second = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(record + 160)));
    SRN__UNROLL for (int h = 0; h < 2; h++) {
        uint32_t f = 8u << (8 * (i % 4) + 4 * (uint32_t)h), s = 1u << (2 * i + (uint32_t)h);
        __mmask16 m = _mm512_test_epi32_mask(first, _mm512_set1_epi32((int)f));
        third[2 * h] = _mm512_maskz_mov_epi32(m, bit2);
        m = _mm512_test_epi32_mask(second, _mm512_set1_epi32((int)s));
        third[2 * h + 1] = _mm512_maskz_mov_epi32(m, bit2);
    }
}

/* A group's codes, each q + zero. */
typedef struct group_codes {
    __m512i w[SRN__QUADS];
} group_codes;

/* Group g of a panel. `type` is a constant. */
SRN__INLINE void load_codes(srn_type type, const uint8_t *panel, uint32_t g, group_codes *ret) {
    const stored_at at = stored_group(type, panel, g);
    const int bits = srn__simd_type_of(type).bits;
    __m512i *w = ret->w;
    if (type == SRN_IQ1_S || type == SRN_IQ1_M) {
        __m512i third[4];
        load_deltas(type, at.record, at.i, third);
        unpack_2_bits(at.codes, third, w);
    } else if (bits == 1) {
        unpack_1_bit(at.codes, w);
    } else if (bits == 2) {
        unpack_2_bits(at.codes, NULL, w);
    } else if (bits == 3) {
        unpack_3_bits(at.codes, w);
    } else if (bits < 8) {
        unpack_nibbles(at.codes, bits, w);
    } else {
        SRN__UNROLL for (int j = 0; j < SRN__QUADS; j++) w[j] = _mm512_loadu_si512(at.codes + 64 * j);
    }
    if (srn__code_table(type)) {
        const __m512i table = load_table(type);
        SRN__UNROLL for (int j = 0; j < SRN__QUADS; j++) w[j] = _mm512_shuffle_epi8(table, w[j]);
    }
}
SRN__INLINE void expanded_codes(const srn__expanded *e, group_codes *ret) {
    SRN__UNROLL for (int j = 0; j < SRN__QUADS; j++) ret->w[j] = _mm512_loadu_si512(e->q[j]);
}
SRN__INLINE i32x16 quad(const group_codes *w, int j) {
    return w->w[j];
}

/* ---- scales ---- */

SRN__INLINE __m512i load_rows(const uint8_t *vector, int part) {
    (void)part;
    return _mm512_loadu_si512(vector);
}
SRN__INLINE __m512 load_halves(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}
SRN__INLINE __m512i load_bytes(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
}
SRN__INLINE __m512i load_signed(const uint8_t *p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p));
}
SRN__INLINE __m512i and_or_dwords(__m512i v, int mask, __m512i w) {
    return and_or(v, _mm512_set1_epi32(mask), w);
}
/* As integers: gcc then finds a better order for a group of Q4_K. */
SRN__INLINE __m512 negated(__m512 v) {
    return V16_OF_BITS(_mm512_xor_si512(V16_BITS(v), _mm512_set1_epi32((int)0x80000000u)));
}
SRN__INLINE __m512 load_e8m0(const uint8_t *p) {
    __m512i e = load_bytes(p);
    __m512i v = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    __mmask16 small = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));
    return _mm512_castsi512_ps(_mm512_mask_sllv_epi32(v, small, _mm512_set1_epi32(0x200000), e));
}

SRN__INLINE __m512 load_ue4m3(const uint8_t *p) {
    __m256i half = _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)p)), 7);
    return _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(128.0f));
}

#endif
