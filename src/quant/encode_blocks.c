/* Encoders of the types whose block is 32 weights with one scale (docs/quant-types.md has the layouts).
 * Called by encode.c; pure functions.
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

/* What the decoder will read. */
static float put_scale(uint8_t *p, float d) {
    srn__store_half(p, d);
    return srn__load_half(p);
}

void srn__encode_q4_0(const float *x, uint8_t *b) {
    uint8_t code[32];
    code_signed(x, put_scale(b, srn__fit_scale(x, 32, -8, 7)), 8, code);
    put_nibbles(b + 2, code);
}

void srn__encode_q5_0(const float *x, uint8_t *b) {
    uint8_t code[32];
    code_signed(x, put_scale(b, srn__fit_scale(x, 32, -16, 15)), 16, code);
    put_fifths(b + 2, code);
    put_nibbles(b + 6, code);
}

void srn__encode_q4_1(const float *x, uint8_t *b) {
    uint8_t code[32];
    float d, m;
    srn__fit_scale_min(x, 32, 15, &d, &m);
    d = put_scale(b, d), m = put_scale(b + 2, m);
    code_unsigned(x, d, m, 15, code);
    put_nibbles(b + 4, code);
}

void srn__encode_q5_1(const float *x, uint8_t *b) {
    uint8_t code[32];
    float d, m;
    srn__fit_scale_min(x, 32, 31, &d, &m);
    d = put_scale(b, d), m = put_scale(b + 2, m);
    code_unsigned(x, d, m, 31, code);
    put_fifths(b + 4, code);
    put_nibbles(b + 8, code);
}

/* With 8 bits there is nothing to search: the largest magnitude is code 127. */
void srn__encode_q8_0(const float *x, uint8_t *b) {
    float most = 0;
    for (int i = 0; i < 32; i++) {
        float a = x[i] < 0 ? -x[i] : x[i];
        most = a > most ? a : most;
    }
    float inverse = srn__inverse(put_scale(b, most / 127.0f));
    for (int i = 0; i < 32; i++) b[2 + i] = (uint8_t)(int8_t)srn__nearest_in(x[i] * inverse, -127, 127);
}
