/* Rotary position embedding: frequencies under the scalings of the field, and rows of cosines and sines.
 * Pure. YaRN: Peng et al., arXiv:2309.00071. Factors per dimension: llama 3's frequency-band scaling, and
 * LongRoPE (arXiv:2402.13753), both stored in the file as divisors. */
#include "base/num.h"
#include "model/model.h"

/* Index of the dimension pair that turns `rotations` times within the original context (YaRN, eq. 17). */
static double yarn_dim(double n_rot, double ctx_orig, double rotations, double base) {
    return n_rot * srn_log(ctx_orig / (rotations * 2.0 * 3.14159265358979323846)) / (2.0 * srn_log(base));
}

/* x within [lo, hi]; lo for a NaN. */
static double clamp(double x, double lo, double hi) {
    return x > lo ? x < hi ? x : hi : lo;
}

static double floor_of(double x) { /* 0 <= x < 2^63 */
    return (double)(uint64_t)x;
}

static double ceil_of(double x) {
    double t = floor_of(x);
    return t < x ? t + 1 : t;
}

static void yarn(const srn_hparams *hp, double base, double *freqs, double *factor) {
    double n_rot = hp->n_rot;
    double low = yarn_dim(n_rot, hp->rope_ctx_orig, hp->yarn_beta_fast, base);
    double high = yarn_dim(n_rot, hp->rope_ctx_orig, hp->yarn_beta_slow, base);
    low = floor_of(clamp(low, 0, n_rot - 1));
    high = ceil_of(clamp(high, 0, n_rot - 1));
    double span = high - low > 0.001 ? high - low : 0.001;
    for (uint32_t i = 0; i < hp->n_rot / 2; i++) {
        double keep = (1.0 - clamp(((double)i - low) / span, 0, 1)) *
                      hp->yarn_ext_factor; /* 1: as trained, 0: interpolated */
        freqs[i] = freqs[i] / hp->rope_factor * (1.0 - keep) + freqs[i] * keep;
    }
    if (hp->yarn_ext_factor > 0) *factor *= 1.0 + 0.1 * srn_log(hp->rope_factor);
}

void srn_rope_freqs(const srn_model *m, bool local, uint32_t n_ctx, double *freqs, double *ret_factor) {
    const srn_hparams *hp = &m->hp;
    double base = local ? hp->rope_base_local : hp->rope_base;
    *ret_factor = 1.0;
    for (uint32_t i = 0; i < hp->n_rot / 2; i++) freqs[i] = srn_pow(base, -2.0 * i / hp->n_rot);
    if (local) return; /* windowed layers are never scaled */
    *ret_factor = hp->rope_attn_factor;
    const float *divisors = m->rope_factors;
    switch (hp->rope_scaling) {
    case SRN_ROPE_NONE:
        break;
    case SRN_ROPE_LINEAR:
        for (uint32_t i = 0; i < hp->n_rot / 2; i++) freqs[i] /= hp->rope_factor;
        break;
    case SRN_ROPE_YARN:
        yarn(hp, base, freqs, ret_factor);
        break;
    case SRN_ROPE_LONG:
        if (n_ctx > hp->rope_ctx_orig) divisors = m->rope_factors_long;
        break;
    }
    if (divisors)
        for (uint32_t i = 0; i < hp->n_rot / 2; i++) freqs[i] /= (double)divisors[i];
}

void srn_rope_row(const double *freqs, double factor, uint32_t n_half, uint32_t position, float *cos,
                  float *sin) {
    for (uint32_t i = 0; i < n_half; i++) {
        double s, c;
        srn_sincos((double)position * freqs[i], &s, &c);
        cos[i] = (float)(c * factor);
        sin[i] = (float)(s * factor);
    }
}
