/* Unpackers of the types with 256 weights a block and integer scales (docs/quant-types.md has the layouts).
 * Called by decode.c; pure functions, any bytes are valid.
 *
 * All scales come out exact: a half has 11 significant bits, the integer scales at most 7, a float 24.
 */
#include "quant/quant_internal.h"

/* 16 scale bytes (low nibble scale, high nibble minimum) of 16 weights each; 64 bytes of codes; half d, dmin.
 * w = d*sc*code - dmin*mn. Codes: bytes 32h..32h+31 hold bits 2k..2k+1 of group 4h+k. */
void srn__unpack_q2_k(const uint8_t *b, srn_group *g) {
    float d = srn__load_half(b + 80), m = -srn__load_half(b + 82);
    for (int k = 0; k < 8; k++) {
        const uint8_t *codes = b + 16 + 32 * (k / 4);
        int shift = 2 * (k % 4);
        g[k].d = d;
        g[k].m = m;
        for (int h = 0; h < 2; h++) {
            g[k].sc[h] = b[2 * k + h] & 15;
            g[k].mn[h] = b[2 * k + h] >> 4;
        }
        for (int i = 0; i < 32; i++) g[k].q[i] = (int8_t)(codes[i] >> shift & 3);
    }
}

/* 32 bytes of third bits (clear means minus 4); 64 bytes of codes as in Q2_K; 12 bytes with 16 scales of 6
 * bits; half d. w = d*(sc - 32)*code. Scale j: its low 4 bits are a nibble of byte j%8 (low nibble for j <
 * 8), its high 2 bits are bits 2(j/4).. of byte 8 + j%4. */
void srn__unpack_q3_k(const uint8_t *b, srn_group *g) {
    const uint8_t *packed = b + 96;
    float d = srn__load_half(b + 108);
    for (int k = 0; k < 8; k++) {
        const uint8_t *codes = b + 32 + 32 * (k / 4);
        int shift = 2 * (k % 4);
        g[k].d = d;
        for (int h = 0; h < 2; h++) {
            int j = 2 * k + h;
            int low = packed[j % 8] >> 4 * (j / 8) & 15, high = packed[8 + j % 4] >> 2 * (j / 4) & 3;
            g[k].sc[h] = (int16_t)((low | high << 4) - 32);
        }
        for (int i = 0; i < 32; i++)
            g[k].q[i] = (int8_t)((codes[i] >> shift & 3) + ((b[i] >> k & 1) << 2) - 4);
    }
}

/* 12 bytes with 8 scales and 8 minimums of 6 bits. The first four of each: low 6 bits of bytes 0..3 and 4..7.
 * The last four: nibbles of bytes 8..11 (low nibble scale) below the top 2 bits of bytes 0..3 and 4..7. */
static void scales_of_6_bits(const uint8_t *p, float d, float dmin, srn_group *g) {
    for (int k = 0; k < 4; k++) {
        int sc_high = (p[8 + k] & 15) | (p[k] >> 6 << 4), mn_high = p[8 + k] >> 4 | (p[4 + k] >> 6 << 4);
        g[k].d = d * (float)(p[k] & 63);
        g[k].m = -(dmin * (float)(p[4 + k] & 63));
        g[k + 4].d = d * (float)sc_high;
        g[k + 4].m = -(dmin * (float)mn_high);
    }
}

/* half d, dmin; 12 bytes of scales; 128 bytes of codes: bytes 32p..32p+31 hold group 2p in their low nibbles
 * and group 2p+1 in their high ones. w = d*sc*code - dmin*mn */
void srn__unpack_q4_k(const uint8_t *b, srn_group *g) {
    scales_of_6_bits(b + 4, srn__load_half(b), srn__load_half(b + 2), g);
    for (int k = 0; k < 8; k++) {
        const uint8_t *codes = b + 16 + 32 * (k / 2);
        int shift = 4 * (k % 2);
        for (int i = 0; i < 32; i++) g[k].q[i] = (int8_t)(codes[i] >> shift & 15);
    }
}

/* As Q4_K, with 32 bytes before the codes whose bit k is the fifth bit of group k. */
void srn__unpack_q5_k(const uint8_t *b, srn_group *g) {
    scales_of_6_bits(b + 4, srn__load_half(b), srn__load_half(b + 2), g);
    for (int k = 0; k < 8; k++) {
        const uint8_t *fifth = b + 16, *codes = b + 48 + 32 * (k / 2);
        int shift = 4 * (k % 2);
        for (int i = 0; i < 32; i++)
            g[k].q[i] = (int8_t)((codes[i] >> shift & 15) | (fifth[i] >> k & 1) << 4);
    }
}

/* 128 bytes of low nibbles; 64 bytes of high 2 bits; 16 signed scales; half d. w = d*sc*(code - 32). Half h
 * of the block: nibble bytes 64h..64h+63 hold groups 4h, 4h+1 low and 4h+2, 4h+3 high; bytes 32h.. of the
 * high bits hold bits 2k.. of group 4h+k. */
void srn__unpack_q6_k(const uint8_t *b, srn_group *g) {
    float d = srn__load_half(b + 208);
    for (int k = 0; k < 8; k++) {
        const uint8_t *low = b + 64 * (k / 4) + 32 * (k % 2), *high = b + 128 + 32 * (k / 4);
        int low_shift = 4 * (k / 2 % 2), high_shift = 2 * (k % 4);
        g[k].d = d;
        g[k].sc[0] = (int8_t)b[192 + 2 * k];
        g[k].sc[1] = (int8_t)b[193 + 2 * k];
        for (int i = 0; i < 32; i++)
            g[k].q[i] = (int8_t)(((low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4) - 32);
    }
}

/* half d; 8 pairs of high scale bits; 4 bytes of low scale nibbles; per group 16 bytes of nibbles, low ones
 * first. w = d*(sc - 32)*level */
void srn__unpack_iq4_xs(const uint8_t *b, srn_group *g) {
    float d = srn__load_half(b);
    int high = srn__load16(b + 2);
    for (int k = 0; k < 8; k++) {
        const uint8_t *codes = b + 8 + 16 * k;
        int sc = (b[4 + k / 2] >> 4 * (k % 2) & 15) | (high >> 2 * k & 3) << 4;
        g[k].d = d * (float)(sc - 32);
        for (int i = 0; i < 16; i++) {
            g[k].q[i] = srn__iq4_levels[codes[i] & 15];
            g[k].q[i + 16] = srn__iq4_levels[codes[i] >> 4];
        }
    }
}

/* A byte is a fraction of 256 in base 3: multiplied by 3^n modulo 256, its next digit is the integer part of
 * three times it. */
static int8_t trit(uint8_t byte, int power_of_3) {
    unsigned fraction = (unsigned)(byte * power_of_3) & 255u;
    return (int8_t)((int)(fraction * 3 >> 8) - 1);
}

/* 32 bytes of 5 digits each (digit n of byte i is weight 32n+i), 16 bytes of 5 (weight 160 + 16n+i), 4 bytes
 * of 4 (weight 240 + 4n+i); half d. w = d*(digit - 1) */
void srn__unpack_tq1_0(const uint8_t *b, srn_group *g) {
    static const int power[5] = {1, 3, 9, 27, 81};
    int8_t q[256];
    for (int n = 0; n < 5; n++)
        for (int i = 0; i < 32; i++) q[32 * n + i] = trit(b[i], power[n]);
    for (int n = 0; n < 5; n++)
        for (int i = 0; i < 16; i++) q[160 + 16 * n + i] = trit(b[32 + i], power[n]);
    for (int n = 0; n < 4; n++)
        for (int i = 0; i < 4; i++) q[240 + 4 * n + i] = trit(b[48 + i], power[n]);
    for (int k = 0; k < 8; k++) {
        g[k].d = srn__load_half(b + 52);
        memcpy(g[k].q, q + 32 * k, 32);
    }
}

/* 64 bytes of codes as in Q2_K; half d. w = d*(code - 1) */
void srn__unpack_tq2_0(const uint8_t *b, srn_group *g) {
    for (int k = 0; k < 8; k++) {
        const uint8_t *codes = b + 32 * (k / 4);
        int shift = 2 * (k % 4);
        g[k].d = srn__load_half(b + 64);
        for (int i = 0; i < 32; i++) g[k].q[i] = (int8_t)((codes[i] >> shift & 3) - 1);
    }
}
