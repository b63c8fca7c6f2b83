/* Double-precision elementary functions and tanh. Pure functions of IEEE arithmetic; see num.h. */
#include "base/num.h"

float srn_tanhf(float x) {
    float a = x < 0 ? -x : x;
    float t;
    if (a < SRN_TANH_NEAR) {
        float z = a * a;
        float p = fmaf(SRN_TANH_C9, z, SRN_TANH_C7);
        p = fmaf(p, z, SRN_TANH_C5);
        p = fmaf(p, z, SRN_TANH_C3);
        t = fmaf(p * z, a, a);
    } else {
        float e = srn_expf(-2.0f * a);
        t = (1.0f - e) / (1.0f + e);
    }
    return x < 0 ? -t : t;
}

static double scale_by_power_of_two(double x, int n) { /* |n| <= 1022 */
    uint64_t u = (uint64_t)(n + 1023) << 52;
    double f;
    memcpy(&f, &u, 8);
    return x * f;
}

static double round_to_even(double x) {
    return (x + 0x1.8p+52) - 0x1.8p+52;
}

#define LN2_HI 0x1.62e42fefa38p-1
#define LN2_LO 0x1.ef35793c7673p-45

double srn_exp(double x) {
    x = x < 700.0 ? x : 700.0;
    x = x > -700.0 ? x : -700.0;
    double n = round_to_even(x * 0x1.71547652b82fep+0);
    double r = fma(n, -LN2_HI, x);
    r = fma(n, -LN2_LO, r);
    double p = 1.0; /* Taylor, nested: 1 + r(1 + r/2(1 + r/3(...))) */
    for (int k = 14; k >= 1; k--) p = fma(p, r / (double)k, 1.0);
    return scale_by_power_of_two(p, (int)n);
}

/* x = 2^n * m with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh(z), z = (m-1)/(m+1). */
double srn_log(double x) {
    uint64_t u;
    memcpy(&u, &x, 8);
    int n = (int)(u >> 52) - 1023;
    u = (u & 0x000fffffffffffffu) | 0x3ff0000000000000u;
    double m;
    memcpy(&m, &u, 8);
    if (m > 0x1.6a09e667f3bcdp+0) {
        m *= 0.5;
        n++;
    }
    double z = (m - 1.0) / (m + 1.0), z2 = z * z, s = 0.0;
    for (int k = 23; k >= 3; k -= 2) s = fma(s, z2, 1.0 / (double)k);
    double log_m = fma(2.0 * z * z2, s, 2.0 * z);
    return fma((double)n, LN2_HI, fma((double)n, LN2_LO, log_m));
}

double srn_pow(double base, double exponent) {
    return srn_exp(exponent * srn_log(base));
}

void srn_sincos(double x, double *ret_sin, double *ret_cos) {
    double n = round_to_even(x * 0x1.45f306dc9c883p-1); /* 2/pi */
    double r = fma(n, -0x1.921fb544p+0, x);             /* pi/2 in three parts */
    r = fma(n, -0x1.0b4611a6p-34, r);
    r = fma(n, -0x1.3198a2e037073p-69, r);
    double z = r * r, s = 1.0, c = 1.0;
    for (int k = 18; k >= 2; k -= 2) s = fma(s, -z / (double)(k * (k + 1)), 1.0);
    for (int k = 17; k >= 1; k -= 2) c = fma(c, -z / (double)(k * (k + 1)), 1.0);
    s *= r;
    switch ((int64_t)n & 3) {
    case 0:
        *ret_sin = s, *ret_cos = c;
        break;
    case 1:
        *ret_sin = c, *ret_cos = -s;
        break;
    case 2:
        *ret_sin = -s, *ret_cos = -c;
        break;
    default:
        *ret_sin = -c, *ret_cos = s;
    }
}
