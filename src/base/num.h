/* The functions of the numerics (docs/numerics.md): exp, tanh, log, sin, cos and pow of our own, because
 * every libm differs from the next. Built from IEEE operations, fma and sqrt alone, in a fixed order, so that
 * every CPU and every SIMD form gives the same bits. Pure; any thread.
 */
#ifndef SRN_BASE_NUM_H
#define SRN_BASE_NUM_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t srn_bits_f32(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float srn_f32_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline bool srn_is_finite(float f) {
    return (srn_bits_f32(f) & 0x7f800000u) != 0x7f800000u;
}

/* Constants of srn_expf, shared with its SIMD forms. Arguments are clamped, so that the result is always a
 * normal number: exp(-86.5) = 2.7e-38 is the least value and exp(88) the greatest. */
#define SRN_EXP_LO     (-86.5f)
#define SRN_EXP_HI     88.0f
#define SRN_EXP_LOG2E  0x1.715476p+0f
#define SRN_EXP_MAGIC  0x1.8p+23f /* adding and subtracting rounds to the nearest integer, ties to even */
#define SRN_EXP_LN2_HI 0x1.62e4p-1f
#define SRN_EXP_LN2_LO 0x1.7f7d1cp-20f
#define SRN_EXP_C2     0x1p-1f
#define SRN_EXP_C3     0x1.555556p-3f
#define SRN_EXP_C4     0x1.555556p-5f
#define SRN_EXP_C5     0x1.111112p-7f
#define SRN_EXP_C6     0x1.6c16c2p-10f
#define SRN_EXP_C7     0x1.a01a02p-13f

/* e^x in f32, error under 2 ulp. x = n*ln2 + r with |r| <= ln2/2, Taylor of degree 7 in r by Horner's rule
 * with fma, then n is added to the exponent field. The comparisons are those of x86 min/max: a NaN becomes
 * the clamp's bound, so callers check for NaN elsewhere. */
static inline float srn_expf(float x) {
    x = x < SRN_EXP_HI ? x : SRN_EXP_HI;
    x = x > SRN_EXP_LO ? x : SRN_EXP_LO;
    float n = fmaf(x, SRN_EXP_LOG2E, SRN_EXP_MAGIC) - SRN_EXP_MAGIC;
    float r = fmaf(n, -SRN_EXP_LN2_HI, x);
    r = fmaf(n, -SRN_EXP_LN2_LO, r);
    float p = fmaf(SRN_EXP_C7, r, SRN_EXP_C6);
    p = fmaf(p, r, SRN_EXP_C5);
    p = fmaf(p, r, SRN_EXP_C4);
    p = fmaf(p, r, SRN_EXP_C3);
    p = fmaf(p, r, SRN_EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    return srn_f32_bits(srn_bits_f32(p) + ((uint32_t)(int32_t)n << 23));
}

/* Constants of srn_logf, shared with its SIMD forms: of 2 atanh(z) = 2z (1 + z^2/3 + z^4/5 + ...). */
#define SRN_LOG_SQRT2 0x1.6a09e6p+0f
#define SRN_LOG_C3    0x1.555556p-2f
#define SRN_LOG_C5    0x1.99999ap-3f
#define SRN_LOG_C7    0x1.24924ap-3f
#define SRN_LOG_C9    0x1.c71c72p-4f

/* log x in f32 for a normal x > 0, error under 2 ulp, or under 2e-7 where that is more: x = 2^n * m with m in
 * (sqrt(1/2), sqrt(2)], z = (m-1)/(m+1). Of 0 it is -88.03, a finite number that 0 may be multiplied by. */
static inline float srn_logf(float x) {
    uint32_t u = srn_bits_f32(x);
    float n = (float)((int32_t)(u >> 23) - 127), m = srn_f32_bits((u & 0x007fffffu) | 0x3f800000u);
    float half = m > SRN_LOG_SQRT2 ? 0.5f : 1.0f;
    n = n + (m > SRN_LOG_SQRT2 ? 1.0f : 0.0f);
    m = m * half;
    float z = (m - 1.0f) / (m + 1.0f), z2 = z * z;
    float s = fmaf(SRN_LOG_C9, z2, SRN_LOG_C7);
    s = fmaf(s, z2, SRN_LOG_C5);
    s = fmaf(s, z2, SRN_LOG_C3);
    float two = z + z, log_m = fmaf(two * z2, s, two);
    return fmaf(n, SRN_EXP_LN2_HI, fmaf(n, SRN_EXP_LN2_LO, log_m));
}

/* x * sigmoid(x) = x / (1 + e^-x) */
static inline float srn_siluf(float x) {
    return x / (1.0f + srn_expf(-x));
}

/* GELU in its tanh form, written as x * sigmoid(2u) with u = sqrt(2/pi) * (x + 0.044715 x^3): the same
 * function. */
#define SRN_GELU_A -0x1.988454p+0f /* -2 * sqrt(2/pi) */
#define SRN_GELU_B 0x1.6e4e26p-5f  /* 0.044715 */
static inline float srn_geluf(float x) {
    float u = fmaf(SRN_GELU_B * x * x, x, x);
    return x / (1.0f + srn_expf(SRN_GELU_A * u));
}

/* tanh in f32: an odd polynomial below 0.3, (1-e)/(1+e) with e = e^(-2|x|) above. */
#define SRN_TANH_NEAR 0.3f
#define SRN_TANH_C3   -0x1.555556p-2f
#define SRN_TANH_C5   0x1.111112p-3f  /* 2/15 */
#define SRN_TANH_C7   -0x1.ba1ba2p-5f /* -17/315 */
#define SRN_TANH_C9   0x1.664f48p-6f  /* 62/2835 */
float srn_tanhf(float x);

/* Double precision, for tables and log-probabilities: error under 1e-15 relative in the ranges used.
 * srn_log: x > 0 and normal. srn_exp: |x| < 700 (clamped). srn_sincos: |x| < 1e9. srn_pow: base > 0. */
double srn_exp(double x);
double srn_log(double x);
double srn_pow(double base, double exponent);
void srn_sincos(double x, double *ret_sin, double *ret_cos);

/* The fixed tree over 16 partial sums: halves are added, 8, 4, 2, 1. Overwrites s. */
static inline float srn_tree16(float s[16]) {
    for (int w = 8; w >= 1; w /= 2)
        for (int i = 0; i < w; i++) s[i] = s[i] + s[i + w];
    return s[0];
}

#endif
