/* quant, inside the room: what the encoders share. An encoder takes the weights of one block and writes its
 * block_bytes bytes; layouts are those that the unpackers of the same name read.
 */
#ifndef SRN_QUANT_ENCODE_INTERNAL_H
#define SRN_QUANT_ENCODE_INTERNAL_H

#include "quant/quant_internal.h"

typedef void srn__encode_fn(const float *x, uint8_t *block);

/* encode_blocks.c: blocks of 32 to 128 weights */
srn__encode_fn srn__encode_q1_0, srn__encode_q2_0, srn__encode_q4_0, srn__encode_q4_1, srn__encode_q5_0,
    srn__encode_q5_1, srn__encode_q8_0, srn__encode_iq4_nl, srn__encode_mxfp4, srn__encode_nvfp4;
/* encode_super.c: 256 weights with integer scales */
srn__encode_fn srn__encode_q2_k, srn__encode_q3_k, srn__encode_q4_k, srn__encode_q5_k, srn__encode_q6_k,
    srn__encode_iq4_xs, srn__encode_tq1_0, srn__encode_tq2_0;
/* encode_codebook.c: 256 weights as indices into grids */
srn__encode_fn srn__encode_iq1_s, srn__encode_iq1_m, srn__encode_iq2_xxs, srn__encode_iq2_xs,
    srn__encode_iq2_s, srn__encode_iq3_xxs, srn__encode_iq3_s;

/* The scale d that makes sum (x - d*q)^2 least, codes q rounded and kept within lo..hi; searched around the
 * scale that maps the largest magnitude to the longer end. 0 when all x are 0. May be negative. */
float srn__fit_scale(const float *x, int n, int lo, int hi);
/* The same for x = d*q + m with q in 0..hi, d >= 0 and m <= 0. */
void srn__fit_scale_min(const float *x, int n, int hi, float *ret_d, float *ret_m);

/* The index of the nearest of 16 levels. */
int srn__nearest_level(const int8_t level[16], float v);
/* As srn__fit_scale, where a code stands for a level and the level of largest magnitude is `most`. */
float srn__fit_levels(const float *x, int n, const int8_t level[16], int most);

/* To the nearest integer, ties to even; |v| < 2^22. */
static inline int srn__nearest(float v) {
    return (int)(v + 0x1.8p+23f - 0x1.8p+23f);
}
/* Nearest of lo..hi; what is out of range or not a number becomes a bound. */
static inline int srn__nearest_in(float v, int lo, int hi) {
    if (!(v > (float)lo)) return lo;
    return v < (float)hi ? srn__nearest(v) : hi;
}
static inline void srn__store_half(uint8_t *p, float f) {
    uint16_t h = srn_f32_to_f16(f);
    p[0] = (uint8_t)h, p[1] = (uint8_t)(h >> 8);
}
/* Stores a scale; returns what the decoder will read. */
static inline float srn__put_scale(uint8_t *p, float d) {
    srn__store_half(p, d);
    return srn__load_half(p);
}
static inline float srn__abs(float x) {
    return x < 0 ? -x : x;
}
/* 1/d, or 0 for 0, which makes all codes 0. */
static inline float srn__inverse(float d) {
    return d != 0 ? 1.0f / d : 0.0f;
}

#endif
