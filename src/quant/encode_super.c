/* Encoders of the types with 256 weights a block and integer scales (docs/quant-types.md has the layouts): a
 * scale is fitted to each run of 16 or 32 weights, the scales are quantised among themselves, and the codes
 * are rounded with what the decoder will read. Called by encode.c; pure functions.
 */
#include "quant/encode_internal.h"

static float put_scale(uint8_t *p, float d) {
    srn__store_half(p, d);
    return srn__load_half(p);
}

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
        bool larger = (scale[i] < 0 ? -scale[i] : scale[i]) > (extreme < 0 ? -extreme : extreme);
        if (larger) extreme = scale[i];
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
    float dall = put_scale(b, common(d, 8, 63)), mall = put_scale(b + 2, common(m, 8, 63));
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
    float dall = put_scale(where, common_signed(d, 16, lo)), di = srn__inverse(dall);
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
