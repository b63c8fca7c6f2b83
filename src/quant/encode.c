/* srn_quantize: floats to blocks of any type that has an encoder, and the two searches for scales that the
 * encoders share. Pure functions; any thread. Deterministic: no operation that differs between CPUs.
 */
#include "quant/encode_internal.h"

static srn__encode_fn *const encoders[SRN_TYPE_END] = {
    [SRN_Q1_0] = srn__encode_q1_0,     [SRN_Q2_0] = srn__encode_q2_0,     [SRN_Q4_0] = srn__encode_q4_0,
    [SRN_Q4_1] = srn__encode_q4_1,     [SRN_Q5_0] = srn__encode_q5_0,     [SRN_Q5_1] = srn__encode_q5_1,
    [SRN_Q8_0] = srn__encode_q8_0,     [SRN_Q2_K] = srn__encode_q2_k,     [SRN_Q3_K] = srn__encode_q3_k,
    [SRN_Q4_K] = srn__encode_q4_k,     [SRN_Q5_K] = srn__encode_q5_k,     [SRN_Q6_K] = srn__encode_q6_k,
    [SRN_IQ1_S] = srn__encode_iq1_s,   [SRN_IQ1_M] = srn__encode_iq1_m,   [SRN_IQ2_XXS] = srn__encode_iq2_xxs,
    [SRN_IQ2_XS] = srn__encode_iq2_xs, [SRN_IQ2_S] = srn__encode_iq2_s,   [SRN_IQ3_XXS] = srn__encode_iq3_xxs,
    [SRN_IQ3_S] = srn__encode_iq3_s,   [SRN_IQ4_NL] = srn__encode_iq4_nl, [SRN_IQ4_XS] = srn__encode_iq4_xs,
    [SRN_TQ1_0] = srn__encode_tq1_0,   [SRN_TQ2_0] = srn__encode_tq2_0,   [SRN_MXFP4] = srn__encode_mxfp4,
    [SRN_NVFP4] = srn__encode_nvfp4,
};

bool srn_can_quantize(srn_type type) {
    const srn_type_info *t = srn_type_get((uint32_t)type);
    if (!t || t->refused) return false;
    return type == SRN_F32 || type == SRN_F16 || type == SRN_BF16 || encoders[type];
}

bool srn_quantize(srn_type type, const float *src, void *dst, size_t n) {
    const srn_type_info *t = srn_type_get((uint32_t)type);
    if (!srn_can_quantize(type) || n % t->block_elems) return false;
    uint8_t *out = dst;
    if (type == SRN_F32) {
        memcpy(dst, src, n * 4);
    } else if (type == SRN_F16 || type == SRN_BF16) {
        for (size_t i = 0; i < n; i++) {
            uint16_t h = type == SRN_F16 ? srn_f32_to_f16(src[i]) : srn_f32_to_bf16(src[i]);
            out[2 * i] = (uint8_t)h, out[2 * i + 1] = (uint8_t)(h >> 8);
        }
    } else {
        for (size_t i = 0; i < n / t->block_elems; i++)
            encoders[type](src + i * t->block_elems, out + i * t->block_bytes);
    }
    return true;
}

/* Least squares for codes rounded with 1/d: the best scale for them, and by how much it lowers sum x^2. */
static float refit(const float *x, int n, int lo, int hi, float inverse, float *ret_gain) {
    float xq = 0, qq = 0;
    for (int i = 0; i < n; i++) {
        float q = (float)srn__nearest_in(x[i] * inverse, lo, hi);
        xq += x[i] * q, qq += q * q;
    }
    *ret_gain = qq > 0 ? xq * xq / qq : 0;
    return qq > 0 ? xq / qq : 0;
}

float srn__fit_scale(const float *x, int n, int lo, int hi) {
    float extreme = 0, best = 0, best_gain = 0;
    for (int i = 0; i < n; i++) {
        if (srn__abs(x[i]) > srn__abs(extreme)) extreme = x[i];
    }
    if (extreme == 0) return 0;
    float end = (float)(-lo > hi ? lo : hi); /* the code of the extreme, for a scale of either sign */
    for (int k = -5; k <= 5; k++) {          /* somewhat clipped to somewhat unused ranges */
        float gain, d = refit(x, n, lo, hi, end * (1.0f + 0.03f * (float)k) / extreme, &gain);
        if (gain > best_gain) best_gain = gain, best = d;
    }
    return best;
}

/* Least squares of x = d*q + m for codes of the range that starts at m and has steps 1/inverse; m is held at
 * 0 when it would be positive. Returns the squared error. */
static float refit_min(const float *x, int n, int hi, float inverse, float low, float *ret_d, float *ret_m) {
    float sx = 0, sq = 0, sqq = 0, sxq = 0, error = 0;
    for (int i = 0; i < n; i++) {
        float q = (float)srn__nearest_in((x[i] - low) * inverse, 0, hi);
        sx += x[i], sq += q, sqq += q * q, sxq += x[i] * q;
    }
    float det = (float)n * sqq - sq * sq, d = 0, m = sx / (float)n;
    if (det > 0) d = ((float)n * sxq - sx * sq) / det, m = (sqq * sx - sq * sxq) / det;
    if (m > 0) m = 0, d = sqq > 0 ? sxq / sqq : 0;
    if (!(d > 0)) d = 0;
    for (int i = 0; i < n; i++) {
        float q = (float)srn__nearest_in((x[i] - low) * inverse, 0, hi), e = x[i] - (d * q + m);
        error += e * e;
    }
    *ret_d = d, *ret_m = m;
    return error;
}

void srn__fit_scale_min(const float *x, int n, int hi, float *ret_d, float *ret_m) {
    float low = 0, high = x[0], best = -1;
    for (int i = 0; i < n; i++) low = x[i] < low ? x[i] : low, high = x[i] > high ? x[i] : high;
    *ret_d = 0, *ret_m = low;
    if (!(high > low)) return;
    for (int k = -4; k <= 4; k++) {
        float d, m, steps = (float)hi * (1.0f + 0.03f * (float)k);
        float error = refit_min(x, n, hi, steps / (high - low), low, &d, &m);
        if (best < 0 || error < best) best = error, *ret_d = d, *ret_m = m;
    }
}

/* ---- levels ---- */

int srn__nearest_level(const int8_t level[16], float v) {
    int best = 0;
    float least = srn__abs(v - (float)level[0]);
    for (int i = 1; i < 16; i++) {
        float e = srn__abs(v - (float)level[i]);
        if (e < least) least = e, best = i;
    }
    return best;
}

float srn__fit_levels(const float *x, int n, const int8_t level[16], int most) {
    float extreme = 0, best = 0, best_gain = 0;
    for (int i = 0; i < n; i++)
        if (srn__abs(x[i]) > srn__abs(extreme)) extreme = x[i];
    if (extreme == 0) return 0;
    for (int k = -4; k <= 4; k++) {
        float xq = 0, qq = 0, inverse = (float)most * (1.0f + 0.04f * (float)k) / extreme;
        for (int i = 0; i < n; i++) {
            float q = (float)level[srn__nearest_level(level, x[i] * inverse)];
            xq += x[i] * q, qq += q * q;
        }
        if (qq > 0 && xq * xq / qq > best_gain) best_gain = xq * xq / qq, best = xq / qq;
    }
    return best;
}
