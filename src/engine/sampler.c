/* The sampler: a pure function of logits, parameters, history and position. Its exp, its sums, its order of
 * ties and its random numbers are part of the numerics (docs/numerics.md), so that a call replays to the bit.
 */
#include <stdlib.h>

#include "base/num.h"
#include "engine/sampler_internal.h"

srn_sampling srn_sampling_default(void) {
    return (srn_sampling){.temperature = 0.8f,
                          .top_k = 40,
                          .top_p = 0.95f,
                          .min_p = 0.05f,
                          .typical_p = 1.0f,
                          .repeat_penalty = 1.0f,
                          .repeat_last_n = 64,
                          .dry_base = 1.75f,
                          .dry_allowed_length = 2,
                          .dry_last_n = -1};
}

/* ---- what is refused; the comparisons are written so that a NaN is refused too ---- */

static int check_candidates(const srn_sampling *p, srn_err *err) {
    if (!(p->temperature >= 0 && p->temperature <= 100))
        return srn_fail(err, SRN_EINVAL, "temperature %g is outside 0..100", (double)p->temperature);
    if (p->top_k < 0) return srn_fail(err, SRN_EINVAL, "top_k %d is negative; 0 means all", p->top_k);
    if (!(p->top_p > 0 && p->top_p <= 1))
        return srn_fail(err, SRN_EINVAL, "top_p %g is outside (0, 1]", (double)p->top_p);
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return srn_fail(err, SRN_EINVAL, "min_p %g is outside 0..1", (double)p->min_p);
    if (!(p->typical_p > 0 && p->typical_p <= 1))
        return srn_fail(err, SRN_EINVAL, "typical_p %g is outside (0, 1]; 1 means all", (double)p->typical_p);
    return SRN_OK;
}

static int check_penalties(const srn_sampling *p, srn_err *err) {
    if (!(p->repeat_penalty > 0 && p->repeat_penalty <= 100))
        return srn_fail(err, SRN_EINVAL, "repeat_penalty %g is outside (0, 100]; 1 means none",
                        (double)p->repeat_penalty);
    if (p->repeat_last_n < -1)
        return srn_fail(err, SRN_EINVAL, "repeat_last_n %d is negative; only -1, all, may be",
                        p->repeat_last_n);
    if (!(p->presence_penalty >= -2 && p->presence_penalty <= 2))
        return srn_fail(err, SRN_EINVAL, "presence_penalty %g is outside -2..2", (double)p->presence_penalty);
    if (!(p->frequency_penalty >= -2 && p->frequency_penalty <= 2))
        return srn_fail(err, SRN_EINVAL, "frequency_penalty %g is outside -2..2",
                        (double)p->frequency_penalty);
    if (!(p->dry_multiplier >= 0 && p->dry_multiplier <= 100))
        return srn_fail(err, SRN_EINVAL, "dry_multiplier %g is outside 0..100; 0 means none",
                        (double)p->dry_multiplier);
    if (p->dry_multiplier == 0) return SRN_OK; /* then the rest of DRY may be zeros */
    if (!(p->dry_base >= 1 && p->dry_base <= 100))
        return srn_fail(err, SRN_EINVAL, "dry_base %g is outside 1..100", (double)p->dry_base);
    if (p->dry_allowed_length < 0)
        return srn_fail(err, SRN_EINVAL, "dry_allowed_length %d is negative", p->dry_allowed_length);
    if (p->dry_last_n < -1)
        return srn_fail(err, SRN_EINVAL, "dry_last_n %d is negative; only -1, all, may be", p->dry_last_n);
    return SRN_OK;
}

static int check_lists(const srn_sampling *p, srn_err *err) {
    if (p->n_logit_bias && !p->logit_bias)
        return srn_fail(err, SRN_EINVAL, "logit_bias is NULL and n_logit_bias %u", p->n_logit_bias);
    for (uint32_t i = 0; i < p->n_logit_bias; i++) {
        const srn_logit_bias *b = p->logit_bias + i;
        if (b->id < 0) return srn_fail(err, SRN_EINVAL, "logit_bias names the token %d", b->id);
        if (i && b->id <= b[-1].id)
            return srn_fail(err, SRN_EINVAL, "logit_bias names token %d %s", b->id,
                            b->id == b[-1].id ? "twice" : "after a higher one; sort it by id");
        if (b->bias != b->bias)
            return srn_fail(err, SRN_EINVAL, "logit_bias of token %d is not a number", b->id);
    }
    if (p->n_dry_breakers && !p->dry_breakers)
        return srn_fail(err, SRN_EINVAL, "dry_breakers is NULL and n_dry_breakers %u", p->n_dry_breakers);
    for (uint32_t i = 1; i < p->n_dry_breakers; i++)
        if (p->dry_breakers[i] <= p->dry_breakers[i - 1])
            return srn_fail(err, SRN_EINVAL, "dry_breakers are not ascending at token %d",
                            p->dry_breakers[i]);
    return SRN_OK;
}

int srn_sampling_check(const srn_sampling *p, srn_err *err) {
    int code = check_candidates(p, err);
    if (!code) code = check_penalties(p, err);
    if (!code) code = check_lists(p, err);
    return code;
}

int srn_sampling_check_ids(const srn_sampling *p, uint32_t n_vocab, srn_err *err) {
    const srn_logit_bias *b = p->n_logit_bias ? p->logit_bias + p->n_logit_bias - 1 : NULL;
    if (!b || (uint32_t)b->id < n_vocab) return SRN_OK;
    return srn_fail(err, SRN_EINVAL, "logit_bias names the token %d, and the vocabulary has 0 to %u", b->id,
                    n_vocab - 1);
}

/* Finaliser of splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A number in [0, 1) keyed by seed and position: the draw does not depend on what was drawn before. */
static double uniform(uint64_t seed, uint64_t position) {
    uint64_t z =
        mix(mix(seed + 0x9e3779b97f4a7c15u) ^ (position * 0xd1342543de82ef95u + 0x2545f4914f6cdd1du));
    return (double)(z >> 11) * 0x1p-53;
}

/* ---- candidates: ids in descending order of their logits, with their weights ---- */

typedef struct candidates {
    int32_t *ids;
    float *x, *w; /* fl(fl(l[i] - l[0]) / T), e^x */
    uint32_t n;
} candidates;

static void weigh(candidates *c, const float *logits, float temperature) {
    for (uint32_t i = 0; i < c->n; i++) {
        c->x[i] = (logits[c->ids[i]] - logits[c->ids[0]]) / temperature;
        c->w[i] = srn_expf(c->x[i]);
    }
}

static double sum_of(const float *w, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)w[i];
    return sum;
}

/* How many of the ordered candidates survive top-p and min-p; at least one. */
static uint32_t survivors(const candidates *c, const srn_sampling *p) {
    double cumulative = 0, sum = sum_of(c->w, c->n);
    for (uint32_t i = 0; i < c->n; i++) {
        if (i > 0 && (c->w[i] < p->min_p * c->w[0] || cumulative >= (double)p->top_p * sum)) return i;
        cumulative += (double)c->w[i];
    }
    return c->n;
}

static int32_t pick(const candidates *c, uint32_t n, double u) {
    double target = u * sum_of(c->w, n), cumulative = 0;
    for (uint32_t i = 0; i + 1 < n; i++) {
        cumulative += (double)c->w[i];
        if (target < cumulative) return c->ids[i];
    }
    return c->ids[n - 1];
}

/* ---- locally typical sampling ---- */

/* How far a candidate's surprise, -log p, is from its mean, the entropy: with log p = x - log Z that is how
 * far x is from its mean. */
static double distance(float x, double mean) {
    double d = (double)x - mean;
    return d < 0 ? -d : d;
}

static void keep_run(candidates *c, uint32_t to, uint32_t from, uint32_t n) {
    memmove(c->ids + to, c->ids + from, n * sizeof *c->ids);
    memmove(c->x + to, c->x + from, n * sizeof *c->x);
    memmove(c->w + to, c->w + from, n * sizeof *c->w);
}

/* Keeps the candidates nearest to the mean, ties to the one of lower rank, until their weights are typical_p
 * of all. From the mean outwards both ways, for distances only grow there; of equal ones above the mean the
 * likelier have the lower rank, so that these are taken a group at a time. */
static void typical(candidates *c, float typical_p) {
    double sum = sum_of(c->w, c->n), mean = 0, kept = 0;
    for (uint32_t i = 0; i < c->n; i++) mean += (double)c->w[i] * (double)c->x[i];
    mean /= sum;
    double goal = (double)typical_p * sum;
    uint32_t right = 0;
    while (right < c->n && (double)c->x[right] > mean) right++;
    uint32_t left = right, group = 0, taken = 0; /* [left, right) are kept, and `taken` from group on */
    do {
        if (left > 0 && (right == c->n || distance(c->x[left - 1], mean) <= distance(c->x[right], mean))) {
            group = left - 1;
            while (group > 0 && distance(c->x[group - 1], mean) == distance(c->x[left - 1], mean)) group--;
            for (taken = 0; group + taken < left && (taken == 0 || kept < goal); taken++)
                kept += (double)c->w[group + taken];
            if (group + taken < left) break;
            left = group, taken = 0;
        } else {
            kept += (double)c->w[right++];
        }
    } while (kept < goal && (left > 0 || right < c->n));
    keep_run(c, 0, group, taken);
    keep_run(c, taken, left, right - left);
    c->n = taken + right - left;
}

/* ---- one token ---- */

/* A scratch: [n_vocab] each of adjusted logits, marks, ids, x and w. */
size_t srn__draw_scratch_bytes(uint32_t n_vocab) {
    return 5 * sizeof(float) * (size_t)n_vocab;
}

int32_t srn__draw(const srn__draw_in *d) {
    const srn_sampling *p = d->params;
    uint32_t n = d->n_vocab;
    float *own = d->scratch;
    uint32_t *marks = (uint32_t *)(own + n);
    candidates c = {.ids = (int32_t *)(marks + n), .x = own + 3 * (size_t)n, .w = own + 4 * (size_t)n};
    const float *logits = srn__adjust(d, own, marks);
    bool greedy = p->temperature <= 0;
    c.n = greedy ? 1 : p->top_k > 0 ? SRN_MIN((uint32_t)p->top_k, n) : n;
    srn_top_k(logits, n, c.n, c.ids);
    while (c.n > 0 && logits[c.ids[c.n - 1]] == SRN__BANNED) c.n--;
    if (c.n <= 1) return c.n ? c.ids[0] : -1;
    weigh(&c, logits, p->temperature);
    if (p->typical_p < 1) typical(&c, p->typical_p);
    return pick(&c, survivors(&c, p), uniform(p->seed, d->position));
}

int srn__draw_fail(srn_err *err) {
    return srn_fail(err, SRN_EINVAL,
                    "logit_bias leaves no token that may come next: every allowed one has a bias of -100");
}

int srn_sample(const float *logits, uint32_t n_vocab, const srn_sampling *p, const int32_t *history,
               size_t n_history, uint64_t position, int32_t *ret, srn_err *err) {
    srn__draw_in d = {.logits = logits,
                      .n_vocab = n_vocab,
                      .params = p,
                      .history = history,
                      .n_history = n_history,
                      .position = position,
                      .scratch = srn_calloc(1, srn__draw_scratch_bytes(n_vocab))};
    if (!d.scratch) return srn_fail_nomem(err, srn__draw_scratch_bytes(n_vocab));
    int32_t token = srn__draw(&d);
    free(d.scratch);
    if (token < 0) return srn__draw_fail(err);
    *ret = token;
    return SRN_OK;
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
