/* quant, inside the room: what the encoders share. An encoder takes the weights of one block and writes its
 * block_bytes bytes; layouts are those that the unpackers of the same name read.
 */
#ifndef SRN_QUANT_ENCODE_INTERNAL_H
#define SRN_QUANT_ENCODE_INTERNAL_H

#include "quant/quant_internal.h"

typedef void srn__encode_fn(const float *x, uint8_t *block);

/* encode_blocks.c */
srn__encode_fn srn__encode_q4_0, srn__encode_q4_1, srn__encode_q5_0, srn__encode_q5_1, srn__encode_q8_0;
/* encode_super.c */
srn__encode_fn srn__encode_q4_k, srn__encode_q5_k, srn__encode_q6_k;

/* The scale d that makes sum (x - d*q)^2 least, codes q rounded and kept within lo..hi; searched around the
 * scale that maps the largest magnitude to the longer end. 0 when all x are 0. May be negative. */
float srn__fit_scale(const float *x, int n, int lo, int hi);
/* The same for x = d*q + m with q in 0..hi, d >= 0 and m <= 0. */
void srn__fit_scale_min(const float *x, int n, int hi, float *ret_d, float *ret_m);

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
/* 1/d, or 0 for 0, which makes all codes 0. */
static inline float srn__inverse(float d) {
    return d != 0 ? 1.0f / d : 0.0f;
}

#endif
