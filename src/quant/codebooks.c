/* Unpackers of the types that store points of a grid by index (docs/quant-types.md has the layouts). Called
 * by decode.c; pure functions, any bytes are valid: an index cannot leave its grid.
 *
 * Their scales are written d*(sc + 1/2)/4 and the like; with sc odd-ised (2*sc + 1) the rest is a power of
 * two, so every scale here is exact.
 */
#include "quant/quant_internal.h"

const int8_t srn__iq2_levels[4] = {8, 25, 43, 0};
const int8_t srn__iq3_xxs_levels[8] = {4, 12, 20, 28, 36, 44, 52, 62};

static int8_t negate_if(int8_t v, unsigned bit) {
    return (int8_t)(bit ? -v : v);
}

/* 8 weights: point of 2-bit codes, bit j of signs negates weight j. */
static void point_of_8(uint16_t point, unsigned signs, int8_t q[8]) {
    for (int j = 0; j < 8; j++) q[j] = negate_if(srn__iq2_levels[point >> 2 * j & 3], signs >> j & 1);
}

/* 7 stored sign bits; the eighth makes the number of negative weights even. */
static unsigned signs_of_7(uint32_t bits) {
    bits &= 127;
    return bits | (unsigned)__builtin_parity(bits) << 7;
}

/* half d; per group 8 bytes: 4 indices, then a word of 4 times 7 sign bits and a 4-bit scale at the top.
 * w = d*(sc + 1/2)/4 * level */
void srn__unpack_iq2_xxs(const uint8_t *b, srn_group *g) {
    float d = srn__load_half(b) * 0.125f;
    for (int k = 0; k < 8; k++) {
        const uint8_t *p = b + 2 + 8 * k;
        uint32_t word = srn__load32(p + 4);
        g[k].d = d * (float)(2 * (word >> 28) + 1);
        for (int c = 0; c < 4; c++)
            point_of_8(srn__iq2_xxs_grid[p[c]], signs_of_7(word >> 7 * c), g[k].q + 8 * c);
    }
}

/* half d; 32 words of a 9-bit index and 7 sign bits; 8 bytes of two 4-bit scales of 16 weights each */
void srn__unpack_iq2_xs(const uint8_t *b, srn_group *g) {
    float d = srn__load_half(b) * 0.125f;
    for (int k = 0; k < 8; k++) {
        int scales = b[66 + k];
        g[k].d = d;
        g[k].sc[0] = (int16_t)(2 * (scales & 15) + 1);
        g[k].sc[1] = (int16_t)(2 * (scales >> 4) + 1);
        for (int c = 0; c < 4; c++) {
            uint32_t word = srn__load16(b + 2 + 8 * k + 2 * c);
            point_of_8(srn__iq2_xs_grid[word & 511], signs_of_7(word >> 9), g[k].q + 8 * c);
        }
    }
}

/* half d; 32 low index bytes; 32 sign bytes; 8 bytes of four 2-bit index tops; 8 bytes of scales as in IQ2_XS
 */
void srn__unpack_iq2_s(const uint8_t *b, srn_group *g) {
    float d = srn__load_half(b) * 0.125f;
    for (int k = 0; k < 8; k++) {
        int tops = b[66 + k], scales = b[74 + k];
        g[k].d = d;
        g[k].sc[0] = (int16_t)(2 * (scales & 15) + 1);
        g[k].sc[1] = (int16_t)(2 * (scales >> 4) + 1);
        for (int c = 0; c < 4; c++) {
            int index = b[2 + 4 * k + c] | (tops >> 2 * c & 3) << 8;
            point_of_8(srn__iq2_s_grid[index], b[34 + 4 * k + c], g[k].q + 8 * c);
        }
    }
}

/* half d; 64 index bytes of 4 weights each; per group a word of signs and scale as in IQ2_XXS.
 * w = d*(sc + 1/2)/2 * level */
void srn__unpack_iq3_xxs(const uint8_t *b, srn_group *g) {
    float d = srn__load_half(b) * 0.25f;
    for (int k = 0; k < 8; k++) {
        uint32_t word = srn__load32(b + 66 + 4 * k);
        g[k].d = d * (float)(2 * (word >> 28) + 1);
        for (int i = 0; i < 32; i++) {
            uint16_t point = srn__iq3_xxs_grid[b[2 + 8 * k + i / 4]];
            unsigned signs = signs_of_7(word >> 7 * (i / 8));
            g[k].q[i] = negate_if(srn__iq3_xxs_levels[point >> 4 * (i % 4) & 7], signs >> i % 8 & 1);
        }
    }
}

/* half d; 64 low index bytes; 8 bytes of eight 1-bit index tops; 32 sign bytes; 4 bytes of two 4-bit scales.
 * w = d*(2*sc + 1) * level, level = 2*code + 1 */
void srn__unpack_iq3_s(const uint8_t *b, srn_group *g) {
    float d = srn__load_half(b);
    for (int k = 0; k < 8; k++) {
        int tops = b[66 + k], sc = b[106 + k / 2] >> 4 * (k % 2) & 15;
        g[k].d = d * (float)(2 * sc + 1);
        for (int i = 0; i < 32; i++) {
            int index = b[2 + 8 * k + i / 4] | (tops >> i / 4 & 1) << 8;
            int level = 2 * (srn__iq3_s_grid[index] >> 4 * (i % 4) & 7) + 1;
            g[k].q[i] = negate_if((int8_t)level, b[74 + 4 * k + i / 8] >> i % 8 & 1u);
        }
    }
}

/* 8 weights of value code - 1 + delta with delta 1/8 or -1/8, times 8. */
static void ternary_point(uint16_t point, bool negative_delta, int8_t q[8]) {
    int base = negative_delta ? -9 : -7;
    for (int j = 0; j < 8; j++) q[j] = (int8_t)(8 * (point >> 2 * j & 3) + base);
}

/* half d; 32 low index bytes; per group a word of four 3-bit index tops, a 3-bit scale and the delta's sign.
 * w = d*(2*sc + 1) * (trit + delta) */
void srn__unpack_iq1_s(const uint8_t *b, srn_group *g) {
    float d = srn__load_half(b) * 0.125f;
    for (int k = 0; k < 8; k++) {
        int word = srn__load16(b + 34 + 2 * k);
        g[k].d = d * (float)(2 * (word >> 12 & 7) + 1);
        for (int c = 0; c < 4; c++) {
            int index = b[2 + 4 * k + c] | (word >> 3 * c & 7) << 8;
            ternary_point(srn__iq1_grid[index], word >> 15, g[k].q + 8 * c);
        }
    }
}

/* 32 low index bytes; 32 nibbles of a 3-bit index top and a delta's sign; 4 words of four 3-bit scales of 16
 * weights, whose top nibbles together are the half d, lowest first. */
void srn__unpack_iq1_m(const uint8_t *b, srn_group *g) {
    unsigned half = 0;
    for (int i = 0; i < 4; i++) half |= (unsigned)srn__load16(b + 48 + 2 * i) >> 12 << 4 * i;
    float d = srn_f16_to_f32((uint16_t)half) * 0.125f;
    for (int k = 0; k < 8; k++) {
        int scales = srn__load16(b + 48 + 2 * (k / 2)) >> 6 * (k % 2);
        g[k].d = d;
        g[k].sc[0] = (int16_t)(2 * (scales & 7) + 1);
        g[k].sc[1] = (int16_t)(2 * (scales >> 3 & 7) + 1);
        for (int c = 0; c < 4; c++) {
            int nibble = b[32 + 2 * k + c / 2] >> 4 * (c % 2) & 15;
            int index = b[4 * k + c] | (nibble & 7) << 8;
            ternary_point(srn__iq1_grid[index], nibble >> 3, g[k].q + 8 * c);
        }
    }
}
