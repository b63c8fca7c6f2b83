/* How far two rows of logits are apart. With p and q the probabilities that they give a token, s = p + q and
 * u = (p - q) / s, the Jensen-Shannon divergence is the sum of s/2 * g(u) over the vocabulary, where
 *
 *     g(u) = ((1 + u) log(1 + u) + (1 - u) log(1 - u)) / 2,
 *
 * which is the usual sum of p log(2p/s)/2 + q log(2q/s)/2 in one even function: no part is negative, none
 * cancels another, and equal rows give exactly 0 (Lin, "Divergence measures based on the Shannon entropy",
 * 1991). It is at most log 2. The Kullback-Leibler divergence is the sum of p (log p - log q).
 *
 * All of it is in a fixed order, like the numerics, so that two machines agree to the bit: 16 partial sums,
 * those of g in f32 over chunks of SRN__ROW_CHUNK values and in f64 over the chunks, those of
 * Kullback-Leibler in f64. Pure; any thread. Called by srn_divergence_add and by the scheduler's judging.
 */
#include "base/num.h"
#include "engine/sampler_internal.h"

#define LN2 0x1.62e42fefa39efp-1

static float js_part(float p, float q) {
    float s = p + q;
    s = s > SRN__LEAST_MASS ? s : SRN__LEAST_MASS;
    float u = (p - q) / s, v = u * u, g;
    if (v >= SRN__JS_FAR) {
        float x = 1.0f + u, y = 1.0f - u;
        g = 0.5f * fmaf(x, srn_logf(x), y * srn_logf(y));
    } else {
        g = fmaf(SRN__JS_C5, v, SRN__JS_C4);
        g = fmaf(g, v, SRN__JS_C3);
        g = fmaf(g, v, SRN__JS_C2);
        g = fmaf(g, v, 0.5f) * v;
    }
    return 0.5f * s * g;
}

void srn__compare_values(const srn__row_pair *pair, const float *a, const float *b, uint32_t n, float js[16],
                         double kl[16]) {
    for (uint32_t i = 0; i < n; i++) {
        float p = srn_expf(a[i] - pair->max[0]) * pair->scale[0];
        float q = srn_expf(b[i] - pair->max[1]) * pair->scale[1];
        js[i % 16] = js[i % 16] + js_part(p, q);
        kl[i % 16] = fma((double)p, (double)a[i] - (double)b[i] - pair->shift, kl[i % 16]);
    }
}

/* As srn_tree16. */
static double tree16(double s[16]) {
    for (int w = 8; w >= 1; w /= 2)
        for (int i = 0; i < w; i++) s[i] = s[i] + s[i + w];
    return s[0];
}

void srn__compare_rows(const float *a, const float *b, uint32_t n, int32_t next, srn__row_distance *ret) {
    const srn__row_ops *row = srn__row();
    const float *rows[2] = {a, b};
    double constant[2], js = 0, kl[16] = {0};
    int32_t top[2];
    srn__row_pair pair;
    for (int k = 0; k < 2; k++) {
        double sum = srn__row_sum_exp(rows[k], n, &pair.max[k]);
        constant[k] = (double)pair.max[k] + srn_log(sum);
        pair.scale[k] = (float)(1.0 / sum);
        srn_top_k(rows[k], n, 1, &top[k]);
        ret->logprob[k] = (double)rows[k][next] - constant[k];
    }
    pair.shift = constant[0] - constant[1];
    for (uint32_t c = 0; c < n; c += SRN__ROW_CHUNK) {
        float part[16] = {0};
        row->compare(&pair, a + c, b + c, SRN_MIN(SRN__ROW_CHUNK, n - c), part, kl);
        js += (double)srn_tree16(part);
    }
    double apart = tree16(kl);
    ret->jsd = js < LN2 ? js : LN2; /* rounding */
    ret->kl = apart > 0 ? apart : 0;
    ret->same_top = top[0] == top[1];
}

void srn__divergence_add(srn_divergence *d, const srn__row_distance *r) {
    if (r->kl > d->max || !d->n) d->max = r->kl, d->max_at = d->n;
    if (r->jsd > d->max_jsd || !d->n) d->max_jsd = r->jsd, d->max_jsd_at = d->n;
    d->sum += r->kl;
    d->sum_jsd += r->jsd;
    d->n_same_top += r->same_top;
    d->logprob_a += r->logprob[0];
    d->logprob_b += r->logprob[1];
    d->n++;
}

void srn_divergence_add(srn_divergence *d, const float *a, const float *b, uint32_t n_vocab, int32_t next) {
    srn__row_distance r;
    srn__compare_rows(a, b, n_vocab, next, &r);
    srn__divergence_add(d, &r);
}
