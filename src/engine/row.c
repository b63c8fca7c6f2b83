/* Passes over a row of logits: the reference, one value after the other, and the choice of the best form that
 * the CPU can run. The forms differ in speed, never in a bit of what is drawn or reported.
 */
#include "base/num.h"
#include "engine/sampler_internal.h"

static float maxima(const float *x, uint32_t n, float *ret) {
    float all = SRN__BANNED;
    for (uint32_t b = 0; b < n; b += SRN__ROW_BLOCK) {
        uint32_t end = SRN_MIN(n, b + SRN__ROW_BLOCK);
        float max = SRN__BANNED;
        for (uint32_t i = b; i < end; i++) max = x[i] > max ? x[i] : max;
        ret[b / SRN__ROW_BLOCK] = max;
        all = max > all ? max : all;
    }
    return all;
}

static void mask(const float *x, uint32_t n, const uint64_t *allowed, float *ret) {
    for (uint32_t i = 0; i < n; i++) ret[i] = allowed[i / 64] >> (i % 64) & 1 ? x[i] : SRN__BANNED;
}

static void add_exp(const float *x, uint32_t n, float max, float p[16]) {
    for (uint32_t i = 0; i < n; i++) p[i % 16] = p[i % 16] + srn_expf(x[i] - max);
}

static void weights(float *x, uint32_t n, float max, float temperature, float *w) {
    for (uint32_t i = 0; i < n; i++) {
        x[i] = (x[i] - max) / temperature;
        w[i] = srn_expf(x[i]);
    }
}

static double weight_sum(const float *x, uint32_t n, float max, float temperature,
                         const float bounds[SRN__BANDS], float ret_bands[SRN__BANDS]) {
    double sum = 0;
    for (int j = 0; j < SRN__BANDS; j++) ret_bands[j] = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!(x[i] > SRN__BANNED)) continue;
        float w = srn_expf((x[i] - max) / temperature);
        sum += (double)w;
        for (int j = 0; j < SRN__BANDS; j++) ret_bands[j] += x[i] >= bounds[j] ? w : 0;
    }
    return sum;
}

const srn__row_ops srn__row_ref = {maxima, mask, add_exp, weights, weight_sum, srn__compare_values};

const srn__row_ops *srn__row(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &srn__row_avx2;
#endif
    return &srn__row_ref;
}

/* ---- log-probabilities ---- */

double srn__row_sum_exp(const float *x, uint32_t n, float *ret_max) {
    const srn__row_ops *row = srn__row();
    float max = SRN__BANNED, maxima_of[SRN__ROW_CHUNK / SRN__ROW_BLOCK];
    for (uint32_t c = 0; c < n; c += SRN__ROW_CHUNK) {
        float m = row->maxima(x + c, SRN_MIN(SRN__ROW_CHUNK, n - c), maxima_of);
        max = m > max ? m : max;
    }
    double sum = 0;
    for (uint32_t c = 0; c < n; c += SRN__ROW_CHUNK) {
        float p[16] = {0};
        row->add_exp(x + c, SRN_MIN(SRN__ROW_CHUNK, n - c), max, p);
        sum += (double)srn_tree16(p);
    }
    *ret_max = max;
    return sum;
}

double srn_log_sum_exp(const float *logits, uint32_t n) {
    float max;
    double sum = srn__row_sum_exp(logits, n, &max);
    return (double)max + srn_log(sum);
}

void srn__logprobs(const float *logits, uint32_t n_vocab, int32_t token, uint32_t n_top, float *ret_logprob,
                   srn_top_token *ret_tops) {
    int32_t ids[SRN__MAX_TOP];
    double sum = srn_log_sum_exp(logits, n_vocab);
    *ret_logprob = (float)((double)logits[token] - sum);
    n_top = SRN_MIN(SRN_MIN(n_top, n_vocab), SRN__MAX_TOP);
    srn_top_k(logits, n_vocab, n_top, ids);
    for (uint32_t i = 0; i < n_top; i++)
        ret_tops[i] = (srn_top_token){ids[i], (float)((double)logits[ids[i]] - sum)};
}
