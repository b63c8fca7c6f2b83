/* Encoders of the types whose block has one scale per 16, 32, 64 or 128 weights (docs/quant-types.md has the
 * layouts). Called by encode.c; pure functions.
 */
#include "quant/encode_internal.h"

/* Codes 0..15 of 32 weights: weights 0..15 in the low nibbles, 16..31 in the high ones. */
static void put_nibbles(uint8_t *p, const uint8_t code[32]) {
    for (int i = 0; i < 16; i++) p[i] = (uint8_t)((code[i] & 15) | (code[i + 16] & 15) << 4);
}

/* The fifth bits of 32 codes. */
static void put_fifths(uint8_t *p, const uint8_t code[32]) {
    for (int i = 0; i < 4; i++) p[i] = 0;
    for (int i = 0; i < 32; i++) p[i / 8] = (uint8_t)(p[i / 8] | (code[i] >> 4 & 1) << i % 8);
}

static void code_signed(const float *x, float d, int offset, uint8_t code[32]) {
    float inverse = srn__inverse(d);
    for (int i = 0; i < 32; i++)
        code[i] = (uint8_t)(srn__nearest_in(x[i] * inverse, -offset, offset - 1) + offset);
}

static void code_unsigned(const float *x, float d, float m, int hi, uint8_t code[32]) {
    float inverse = srn__inverse(d);
    for (int i = 0; i < 32; i++) code[i] = (uint8_t)srn__nearest_in((x[i] - m) * inverse, 0, hi);
}

static float largest(const float *x, int n) {
    float most = 0;
    for (int i = 0; i < n; i++) most = srn__abs(x[i]) > most ? srn__abs(x[i]) : most;
    return most;
}

void srn__encode_q4_0(const float *x, uint8_t *b) {
    uint8_t code[32];
    code_signed(x, srn__put_scale(b, srn__fit_scale(x, 32, -8, 7)), 8, code);
    put_nibbles(b + 2, code);
}

void srn__encode_q5_0(const float *x, uint8_t *b) {
    uint8_t code[32];
    code_signed(x, srn__put_scale(b, srn__fit_scale(x, 32, -16, 15)), 16, code);
    put_fifths(b + 2, code);
    put_nibbles(b + 6, code);
}

void srn__encode_q4_1(const float *x, uint8_t *b) {
    uint8_t code[32];
    float d, m;
    srn__fit_scale_min(x, 32, 15, &d, &m);
    d = srn__put_scale(b, d), m = srn__put_scale(b + 2, m);
    code_unsigned(x, d, m, 15, code);
    put_nibbles(b + 4, code);
}

void srn__encode_q5_1(const float *x, uint8_t *b) {
    uint8_t code[32];
    float d, m;
    srn__fit_scale_min(x, 32, 31, &d, &m);
    d = srn__put_scale(b, d), m = srn__put_scale(b + 2, m);
    code_unsigned(x, d, m, 31, code);
    put_fifths(b + 4, code);
    put_nibbles(b + 8, code);
}

/* With 8 bits there is nothing to search: the largest magnitude is code 127. */
void srn__encode_q8_0(const float *x, uint8_t *b) {
    float inverse = srn__inverse(srn__put_scale(b, largest(x, 32) / 127.0f));
    for (int i = 0; i < 32; i++) b[2 + i] = (uint8_t)(int8_t)srn__nearest_in(x[i] * inverse, -127, 127);
}

/* One bit: the sign; the scale that fits best is the mean magnitude. */
void srn__encode_q1_0(const float *x, uint8_t *b) {
    float sum = 0;
    memset(b, 0, 18);
    for (int i = 0; i < 128; i++) {
        sum += srn__abs(x[i]);
        if (x[i] > 0) b[2 + i / 8] = (uint8_t)(b[2 + i / 8] | 1 << i % 8);
    }
    srn__store_half(b, sum / 128.0f);
}

void srn__encode_q2_0(const float *x, uint8_t *b) {
    memset(b, 0, 18);
    float inverse = srn__inverse(srn__put_scale(b, srn__fit_scale(x, 64, -1, 2)));
    for (int i = 0; i < 64; i++) {
        int code = srn__nearest_in(x[i] * inverse, -1, 2) + 1;
        b[2 + i / 4] = (uint8_t)(b[2 + i / 4] | code << 2 * (i % 4));
    }
}

static void put_levels(uint8_t *p, const float *x, float d, const int8_t level[16], int half) {
    float inverse = srn__inverse(d);
    for (int i = 0; i < half; i++) {
        int low = srn__nearest_level(level, x[i] * inverse),
            high = srn__nearest_level(level, x[i + half] * inverse);
        p[i] = (uint8_t)(low | high << 4);
    }
}

void srn__encode_iq4_nl(const float *x, uint8_t *b) {
    float d = srn__put_scale(b, srn__fit_levels(x, 32, srn__iq4_levels, -127));
    put_levels(b + 2, x, d, srn__iq4_levels, 16);
}

/* The scale is a power of two: 2^(e - 127), for which the largest value is 6. As OCP Microscaling 1.0 says,
 * the largest magnitude falls into 4..8, and what is over 6 is clipped. */
void srn__encode_mxfp4(const float *x, uint8_t *b) {
    float most = largest(x, 32);
    uint32_t bits;
    memcpy(&bits, &most, 4);
    int e = (int)(bits >> 23) - 2; /* floor(log2) - log2(4), both with the bias */
    memset(b, 0, 17);
    b[0] = (uint8_t)(e < 0 ? 0 : e);
    srn_group g = {0};
    srn__unpack_mxfp4(b, &g); /* for the scale */
    put_levels(b + 1, x, g.d, srn__e2m1_doubled, 16);
}

/* The nearest unsigned e4m3 (bias 7), at most 448. */
static uint8_t nearest_ue4m3(float v) {
    if (!(v < 448)) return 0x7E;
    if (v < 0x1p-6f) return (uint8_t)srn__nearest(v * 512.0f); /* 8 is the least normal number */
    uint32_t bits;
    memcpy(&bits, &v, 4);
    bits += 0x7FFFFu + (bits >> 20 & 1); /* 3 bits of mantissa, ties to even; may carry into the exponent */
    return (uint8_t)((bits >> 20) - ((127 - 7) << 3));
}

void srn__encode_nvfp4(const float *x, uint8_t *b) {
    memset(b, 0, 36);
    for (int s = 0; s < 4; s++) b[s] = nearest_ue4m3(largest(x + 16 * s, 16) / 6.0f);
    srn_group g[2] = {0};
    srn__unpack_nvfp4(b, g);
    for (int s = 0; s < 4; s++)
        put_levels(b + 4 + 8 * s, x + 16 * s, g[s / 2].d2[s % 2], srn__e2m1_doubled, 8);
}
