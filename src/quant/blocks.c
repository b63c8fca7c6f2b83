/* Unpackers of the types whose block has one scale per 16, 32, 64 or 128 weights (docs/quant-types.md has the
 * layouts). Called by decode.c; pure functions, any bytes are valid.
 */
#include "quant/quant_internal.h"

const int8_t srn__iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

const int8_t srn__e2m1_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* 16 bytes: the low nibbles are weights 0..15, the high ones 16..31. */
static void nibbles(const uint8_t *p, int offset, int8_t q[32]) {
    for (int i = 0; i < 16; i++) {
        q[i] = (int8_t)((p[i] & 15) + offset);
        q[i + 16] = (int8_t)((p[i] >> 4) + offset);
    }
}

/* As nibbles, with bit i of high as the fifth bit of weight i. */
static void nibbles_and_bit(const uint8_t *p, uint32_t high, int offset, int8_t q[32]) {
    for (int i = 0; i < 16; i++) {
        q[i] = (int8_t)((p[i] & 15) + (int)((high >> i & 1) << 4) + offset);
        q[i + 16] = (int8_t)((p[i] >> 4) + (int)((high >> (i + 16) & 1) << 4) + offset);
    }
}

/* half bytes: the low nibbles are levels of weights 0..half-1, the high ones of the next half. */
static void levels(const uint8_t *p, const int8_t level[16], int half, int8_t *q) {
    for (int i = 0; i < half; i++) {
        q[i] = level[p[i] & 15];
        q[i + half] = level[p[i] >> 4];
    }
}

/* half d; 128 bits, set for +d and clear for -d */
void srn__unpack_q1_0(const uint8_t *b, srn_group *g) {
    for (int k = 0; k < 4; k++) {
        uint32_t bits = srn__load32(b + 2 + 4 * k);
        g[k].d = srn__load_half(b);
        for (int i = 0; i < 32; i++) g[k].q[i] = (int8_t)(2 * (int)(bits >> i & 1) - 1);
    }
}

/* half d; 64 codes of 2 bits, lowest first; w = d*(code - 1) */
void srn__unpack_q2_0(const uint8_t *b, srn_group *g) {
    for (int k = 0; k < 2; k++) {
        g[k].d = srn__load_half(b);
        for (int i = 0; i < 32; i++) g[k].q[i] = (int8_t)((b[2 + 8 * k + i / 4] >> 2 * (i % 4) & 3) - 1);
    }
}

/* half d; 16 bytes of nibbles; w = d*(code - 8) */
void srn__unpack_q4_0(const uint8_t *b, srn_group *g) {
    g->d = srn__load_half(b);
    nibbles(b + 2, -8, g->q);
}

/* half d, m; 16 bytes of nibbles; w = d*code + m */
void srn__unpack_q4_1(const uint8_t *b, srn_group *g) {
    g->d = srn__load_half(b);
    g->m = srn__load_half(b + 2);
    nibbles(b + 4, 0, g->q);
}

/* half d; 32 high bits; 16 bytes of nibbles; w = d*(code - 16) */
void srn__unpack_q5_0(const uint8_t *b, srn_group *g) {
    g->d = srn__load_half(b);
    nibbles_and_bit(b + 6, srn__load32(b + 2), -16, g->q);
}

/* half d, m; 32 high bits; 16 bytes of nibbles; w = d*code + m */
void srn__unpack_q5_1(const uint8_t *b, srn_group *g) {
    g->d = srn__load_half(b);
    g->m = srn__load_half(b + 2);
    nibbles_and_bit(b + 8, srn__load32(b + 4), 0, g->q);
}

/* half d; 32 signed bytes */
void srn__unpack_q8_0(const uint8_t *b, srn_group *g) {
    g->d = srn__load_half(b);
    memcpy(g->q, b + 2, 32);
}

/* half d; 16 bytes of nibbles, indices of levels */
void srn__unpack_iq4_nl(const uint8_t *b, srn_group *g) {
    g->d = srn__load_half(b);
    levels(b + 2, srn__iq4_levels, 16, g->q);
}

/* One byte e8m0 (OCP Microscaling 1.0), here 2^(e-128), half its value because the codes are doubled; 16
 * bytes of e2m1 nibbles. 2^-128 and 2^-127 are subnormal; e = 255 is no NaN but 2^127, as in other readers.
 */
void srn__unpack_mxfp4(const uint8_t *b, srn_group *g) {
    uint32_t e = b[0], bits = e < 2 ? 0x200000u << e : (e - 1) << 23;
    memcpy(&g->d, &bits, 4);
    levels(b + 1, srn__e2m1_doubled, 16, g->q);
}

/* Half the value of an unsigned e4m3 (bias 7); the top bit is ignored and 0x7F, its NaN, counts as zero. */
static float half_ue4m3(uint8_t x) {
    int exp = x >> 3 & 15, man = x & 7;
    if (x == 0x7F) return 0;
    return exp == 0 ? (float)man * 0x1p-10f : (float)((8 + man) << exp) * 0x1p-11f;
}

/* Four ue4m3 scales of 16 weights each; then for each its 8 bytes of e2m1 nibbles. */
void srn__unpack_nvfp4(const uint8_t *b, srn_group *g) {
    for (int s = 0; s < 4; s++) {
        g[s / 2].d2[s % 2] = half_ue4m3(b[s]);
        levels(b + 4 + 8 * s, srn__e2m1_doubled, 8, g[s / 2].q + 16 * (s % 2));
    }
}
