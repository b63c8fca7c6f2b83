/* Encoders of the types with 256 weights a block and integer scales (docs/quant-types.md has the layouts): a
 * scale is fitted to each run of 16 or 32 weights, the scales are quantised among themselves, and the codes
 * are rounded with what the decoder will read. Called by encode.c; pure functions.
 */
#include "quant/encode_internal.h"

/* The common factor that makes the largest of n scales `most`. */
static float common(const float *scale, int n, float most) {
    float top = 0;
    for (int i = 0; i < n; i++) top = scale[i] > top ? scale[i] : top;
    return top / most;
}

/* Scales of either sign: the one of largest magnitude becomes lo, the longer end. */
static float common_signed(const float *scale, int n, int lo) {
    float extreme = 0;
    for (int i = 0; i < n; i++) {
        if (srn__abs(scale[i]) > srn__abs(extreme)) extreme = scale[i];
    }
    return extreme / (float)lo;
}

/* Q4_K and Q5_K: 8 scales and minimums of 6 bits in 12 bytes, then the codes. */
static void scales_of_6_bits(const float *x, int hi, uint8_t *b, uint8_t code[256]) {
    float d[8], m[8];
    for (int k = 0; k < 8; k++) {
        srn__fit_scale_min(x + 32 * k, 32, hi, &d[k], &m[k]);
        m[k] = -m[k];
    }
    float dall = srn__put_scale(b, common(d, 8, 63)), mall = srn__put_scale(b + 2, common(m, 8, 63));
    float di = srn__inverse(dall), mi = srn__inverse(mall);
    uint8_t *p = b + 4;
    memset(p, 0, 12);
    for (int k = 0; k < 8; k++) {
        int sc = srn__nearest_in(d[k] * di, 0, 63), mn = srn__nearest_in(m[k] * mi, 0, 63);
        if (k < 4) {
            p[k] = (uint8_t)(p[k] | sc), p[4 + k] = (uint8_t)(p[4 + k] | mn);
        } else {
            p[4 + k] = (uint8_t)((sc & 15) | (mn & 15) << 4);
            p[k - 4] = (uint8_t)(p[k - 4] | sc >> 4 << 6), p[k] = (uint8_t)(p[k] | mn >> 4 << 6);
        }
        float inverse = srn__inverse(dall * (float)sc), low = mall * (float)mn;
        for (int i = 0; i < 32; i++)
            code[32 * k + i] = (uint8_t)srn__nearest_in((x[32 * k + i] + low) * inverse, 0, hi);
    }
}

/* Low nibbles of groups 2p and 2p+1 share bytes 32p..32p+31. */
static void put_nibble_pairs(uint8_t *p, const uint8_t code[256]) {
    for (int k = 0; k < 8; k += 2)
        for (int i = 0; i < 32; i++)
            p[16 * k + i] = (uint8_t)((code[32 * k + i] & 15) | (code[32 * k + 32 + i] & 15) << 4);
}

void srn__encode_q4_k(const float *x, uint8_t *b) {
    uint8_t code[256];
    scales_of_6_bits(x, 15, b, code);
    put_nibble_pairs(b + 16, code);
}

void srn__encode_q5_k(const float *x, uint8_t *b) {
    uint8_t code[256];
    scales_of_6_bits(x, 31, b, code);
    memset(b + 16, 0, 32);
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++) b[16 + i] = (uint8_t)(b[16 + i] | (code[32 * k + i] >> 4) << k);
    put_nibble_pairs(b + 48, code);
}

/* 16 scales lo..-lo-1 and codes -end..end-1, both quantised; d goes to where. */
static void signed_scales(const float *x, int lo, int end, uint8_t *where, int8_t scale[16],
                          int8_t code[256]) {
    float d[16];
    for (int j = 0; j < 16; j++) d[j] = srn__fit_scale(x + 16 * j, 16, -end, end - 1);
    float dall = srn__put_scale(where, common_signed(d, 16, lo)), di = srn__inverse(dall);
    for (int j = 0; j < 16; j++) {
        scale[j] = (int8_t)srn__nearest_in(d[j] * di, lo, -lo - 1);
        float inverse = srn__inverse(dall * (float)scale[j]);
        for (int i = 0; i < 16; i++)
            code[16 * j + i] = (int8_t)srn__nearest_in(x[16 * j + i] * inverse, -end, end - 1);
    }
}

void srn__encode_q6_k(const float *x, uint8_t *b) {
    int8_t scale[16], code[256];
    signed_scales(x, -128, 32, b + 208, scale, code);
    memset(b, 0, 192);
    for (int j = 0; j < 16; j++) b[192 + j] = (uint8_t)scale[j];
    for (int k = 0; k < 8; k++) {
        uint8_t *low = b + 64 * (k / 4) + 32 * (k % 2), *high = b + 128 + 32 * (k / 4);
        for (int i = 0; i < 32; i++) {
            int c = code[32 * k + i] + 32;
            low[i] = (uint8_t)(low[i] | (c & 15) << 4 * (k / 2 % 2));
            high[i] = (uint8_t)(high[i] | c >> 4 << 2 * (k % 4));
        }
    }
}

/* 2-bit codes in runs of 32 bytes: byte i, bits 2k.., is weight i of the run's group k. */
static void put_pairs_of_bits(uint8_t *p, const uint8_t code[256]) {
    memset(p, 0, 64);
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++) {
            uint8_t *at = p + 32 * (k / 4) + i;
            *at = (uint8_t)(*at | (code[32 * k + i] & 3) << 2 * (k % 4));
        }
}

void srn__encode_q2_k(const float *x, uint8_t *b) {
    float d[16], m[16];
    uint8_t code[256];
    for (int j = 0; j < 16; j++) {
        srn__fit_scale_min(x + 16 * j, 16, 3, &d[j], &m[j]);
        m[j] = -m[j];
    }
    float dall = srn__put_scale(b + 80, common(d, 16, 15)), mall = srn__put_scale(b + 82, common(m, 16, 15));
    float di = srn__inverse(dall), mi = srn__inverse(mall);
    for (int j = 0; j < 16; j++) {
        int sc = srn__nearest_in(d[j] * di, 0, 15), mn = srn__nearest_in(m[j] * mi, 0, 15);
        float inverse = srn__inverse(dall * (float)sc), low = mall * (float)mn;
        b[j] = (uint8_t)(sc | mn << 4);
        for (int i = 0; i < 16; i++)
            code[16 * j + i] = (uint8_t)srn__nearest_in((x[16 * j + i] + low) * inverse, 0, 3);
    }
    put_pairs_of_bits(b + 16, code);
}

void srn__encode_q3_k(const float *x, uint8_t *b) {
    int8_t scale[16], code[256];
    uint8_t low[256];
    signed_scales(x, -32, 4, b + 108, scale, code);
    memset(b, 0, 32);
    memset(b + 96, 0, 12);
    for (int j = 0; j < 16; j++) {
        int sc = scale[j] + 32;
        b[96 + j % 8] = (uint8_t)(b[96 + j % 8] | (sc & 15) << 4 * (j / 8));
        b[104 + j % 4] = (uint8_t)(b[104 + j % 4] | sc >> 4 << 2 * (j / 4));
    }
    for (int i = 0; i < 256; i++) {
        int c = code[i] + 4; /* its third bit is stored apart, set where nothing is subtracted */
        low[i] = (uint8_t)(c & 3);
        b[i % 32] = (uint8_t)(b[i % 32] | c >> 2 << i / 32);
    }
    put_pairs_of_bits(b + 32, low);
}

void srn__encode_iq4_xs(const float *x, uint8_t *b) {
    float d[8];
    for (int k = 0; k < 8; k++) d[k] = srn__fit_levels(x + 32 * k, 32, srn__iq4_levels, -127);
    float dall = srn__put_scale(b, common_signed(d, 8, -32)), di = srn__inverse(dall);
    memset(b + 2, 0, 6);
    for (int k = 0; k < 8; k++) {
        int sc = srn__nearest_in(d[k] * di, -32, 31), stored = sc + 32;
        b[2 + k / 4] = (uint8_t)(b[2 + k / 4] | stored >> 4 << 2 * (k % 4));
        b[4 + k / 2] = (uint8_t)(b[4 + k / 2] | (stored & 15) << 4 * (k % 2));
        float inverse = srn__inverse(dall * (float)sc);
        for (int i = 0; i < 16; i++) {
            int low = srn__nearest_level(srn__iq4_levels, x[32 * k + i] * inverse);
            int high = srn__nearest_level(srn__iq4_levels, x[32 * k + 16 + i] * inverse);
            b[8 + 16 * k + i] = (uint8_t)(low | high << 4);
        }
    }
}

/* The scale of -1, 0 and 1: codes for the scale and the best scale for the codes by turns, from the mean
 * magnitude on. */
static float fit_ternary(const float *x) {
    float sum = 0;
    for (int i = 0; i < 256; i++) sum += srn__abs(x[i]);
    float d = sum / 128.0f;
    for (int round = 0; round < 5; round++) {
        float over = 0, n = 0;
        for (int i = 0; i < 256; i++)
            if (srn__abs(x[i]) > 0.5f * d) over += srn__abs(x[i]), n += 1;
        d = n > 0 ? over / n : 0;
    }
    return d;
}

/* Codes 0, 1, 2 for -1, 0, 1. */
static void ternary(const float *x, uint8_t *where, uint8_t code[256]) {
    float inverse = srn__inverse(srn__put_scale(where, fit_ternary(x)));
    for (int i = 0; i < 256; i++) code[i] = (uint8_t)(srn__nearest_in(x[i] * inverse, -1, 1) + 1);
}

/* n digits of base 3, `step` apart, as the fraction of 256 that the decoder multiplies out again. */
static uint8_t digits(const uint8_t *code, int n, int step) {
    int v = 0;
    for (int i = 0; i < 5; i++) v = 3 * v + (i < n ? code[i * step] : 0);
    return (uint8_t)((v * 256 + 242) / 243);
}

void srn__encode_tq1_0(const float *x, uint8_t *b) {
    uint8_t code[256];
    ternary(x, b + 52, code);
    for (int i = 0; i < 32; i++) b[i] = digits(code + i, 5, 32);
    for (int i = 0; i < 16; i++) b[32 + i] = digits(code + 160 + i, 5, 16);
    for (int i = 0; i < 4; i++) b[48 + i] = digits(code + 240 + i, 4, 4);
}

void srn__encode_tq2_0(const float *x, uint8_t *b) {
    uint8_t code[256];
    ternary(x, b + 64, code);
    put_pairs_of_bits(b, code);
}
