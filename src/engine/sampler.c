/* The sampler: a pure function of logits, parameters, history and position. Its exp, its sums, its order of
 * ties and its random numbers are part of the numerics (docs/numerics.md), so that a call replays to the bit.
 */
#include <float.h>
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

/* ---- candidates: a rank's beginning, with the weights of what is sorted ---- */

typedef struct candidates {
    srn__rank rank;
    uint32_t *at; /* typical sampling keeps some only: where in the rank they are; NULL: all */
    float *x, *w; /* fl(fl(l[i] - l[0]) / T), e^x; x is gone once more is sorted */
    uint32_t n;
    float temperature;
} candidates;

/* Weighs what was sorted since. */
static void weigh(candidates *c) {
    uint32_t count = c->rank.n_sorted - c->n;
    for (uint32_t i = 0; i < count; i++) c->x[i] = srn__rank_logit(&c->rank, c->n + i);
    srn__row()->weights(c->x, count, c->rank.max, c->temperature, c->w + c->n);
    c->n = c->rank.n_sorted;
}

static int32_t id_of(const candidates *c, uint32_t i) {
    return srn__rank_id(&c->rank, c->at ? c->at[i] : i);
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
        if (target < cumulative) return id_of(c, i);
    }
    return id_of(c, n - 1);
}

/* ---- locally typical sampling ---- */

/* How far a candidate's surprise, -log p, is from its mean, the entropy: with log p = x - log Z that is how
 * far x is from its mean. */
static double distance(float x, double mean) {
    double d = (double)x - mean;
    return d < 0 ? -d : d;
}

static void keep_run(candidates *c, uint32_t to, uint32_t from, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) c->at[to + i] = from + i;
    memmove(c->w + to, c->w + from, n * sizeof *c->w);
}

/* Keeps the candidates nearest to the mean, ties to the one of lower rank, until their weights are typical_p
 * of all. From the mean outwards both ways, for distances only grow there; of equal ones above the mean the
 * likelier have the lower rank, so that these are taken a group at a time. */
static void typical(candidates *c, float typical_p, uint32_t *at) {
    c->at = at;
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

/* ---- the same without sorting everything ---- */

/* A number that is known to lie between two others. Where a comparison falls between these, only the number
 * itself can tell. */
typedef struct bounds {
    double low, high;
} bounds;

/* factor * b, whatever the rounding. */
static bounds scaled(bounds b, double factor) {
    return (bounds){b.low * factor * (1 - 0x1p-50), b.high * factor * (1 + 0x1p-50)};
}

/* The sum of all weights in their order. *ret_bound: the logits from there on have about `share` of it. */
static bounds all_weights(const candidates *c, double share, float *ret_bound) {
    static const float below[SRN__BANDS] = {2, 4, 6, 7.5f, 9, 10.5f, 12, 14};
    const srn__rank *r = &c->rank;
    float at[SRN__BANDS], bands[SRN__BANDS];
    for (int j = 0; j < SRN__BANDS; j++) at[j] = r->max - below[j] * c->temperature;
    double sum = srn__row()->weight_sum(r->logits, r->n, r->max, c->temperature, at, bands);
    double error = sum * (2.0 * (double)r->n + 64.0) * 0x1p-53; /* two sums of n, each within n * 2^-53 */
    *ret_bound = -FLT_MAX;
    for (int j = SRN__BANDS - 1; j >= 0 && (double)bands[j] > 1.001 * share * sum; j--) *ret_bound = at[j];
    return (bounds){sum - error, sum + error};
}

/* A logit such that all below it weigh less than min_p. */
static float below_min_p(const candidates *c, float min_p) {
    if (!(min_p > 1e-36f)) return -FLT_MAX; /* no weight is less than e^-86.5 */
    double max = (double)c->rank.max, bound = max + (double)c->temperature * (srn_log((double)min_p) - 0.001);
    bound -= 0x1p-22 * ((max < 0 ? -max : max) + (bound < 0 ? -bound : bound));
    return bound > -(double)FLT_MAX ? (float)bound : -FLT_MAX;
}

#define UNDECIDED (-2)

/* survivors of all tokens, sorting few more than these; 0 when it cannot be decided. */
static uint32_t survivors_of_all(candidates *c, const srn_sampling *p) {
    float enough = -FLT_MAX, floor = below_min_p(c, p->min_p);
    bounds goal = {0, 0};
    if (p->top_p < 1) goal = scaled(all_weights(c, (double)p->top_p, &enough), (double)p->top_p);
    srn__rank_to(&c->rank, SRN_MAX(enough, floor));
    double cumulative = 0;
    for (uint32_t i = 0;; i++) {
        if (i == c->rank.n_sorted && c->rank.least > floor) srn__rank_to(&c->rank, floor);
        if (i == c->rank.n_sorted) return i; /* none is left, or none that weighs min_p */
        if (i == c->n) weigh(c);
        if (i > 0 && c->w[i] < p->min_p * c->w[0]) return i;
        if (i > 0 && p->top_p < 1) {
            if (cumulative >= goal.high) return i;
            if (cumulative >= goal.low) return 0;
        }
        cumulative += (double)c->w[i];
    }
}

/* pick from all tokens. */
static int32_t pick_of_all(candidates *c, double u) {
    float enough;
    bounds target = scaled(all_weights(c, u, &enough), u);
    srn__rank_to(&c->rank, enough);
    weigh(c);
    double cumulative = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        cumulative += (double)c->w[i];
        if (target.high < cumulative) return id_of(c, i);
        if (target.low < cumulative) return UNDECIDED;
    }
    return UNDECIDED;
}

/* Where top_p is 1 it removes only weights that are lost in the sum, which no draw could reach. */
static int32_t draw_of_all(candidates *c, const srn_sampling *p, double u) {
    if (p->top_p >= 1 && p->min_p <= 0) return pick_of_all(c, u);
    uint32_t n = survivors_of_all(c, p);
    return n ? pick(c, n, u) : UNDECIDED;
}

/* ---- one token ---- */

/* A scratch: [n_vocab + 1] each of entries and spare ones, then [n_vocab] of adjusted logits, marks and
 * weights, and the maxima of its blocks. */
size_t srn__draw_scratch_bytes(uint32_t n_vocab) {
    return 2 * sizeof(uint64_t) * ((size_t)n_vocab + 1) + 3 * sizeof(float) * (size_t)n_vocab +
           sizeof(float) * (n_vocab / SRN__ROW_BLOCK + 1);
}

static int32_t draw(candidates *c, const srn_sampling *p, uint64_t position, uint32_t *at) {
    double u = uniform(p->seed, position);
    uint32_t k = p->top_k > 0 ? SRN_MIN((uint32_t)p->top_k, c->rank.n) : c->rank.n;
    if (k == c->rank.n && p->typical_p >= 1) {
        int32_t token = draw_of_all(c, p, u);
        if (token != UNDECIDED) return token;
    }
    srn__rank_grow(&c->rank, k);
    weigh(c);
    c->n = SRN_MIN(c->n, k);
    if (p->typical_p < 1) typical(c, p->typical_p, at);
    return pick(c, survivors(c, p), u);
}

int32_t srn__draw(const srn__draw_in *d) {
    const srn_sampling *p = d->params;
    size_t n = d->n_vocab;
    uint64_t *entries = d->scratch, *spare = entries + n + 1;
    float *own = (float *)(spare + n + 1), *w = own + n;
    uint32_t *marks = (uint32_t *)(w + n);
    candidates c = {.rank = {.maxima = (float *)(marks + n), .entries = entries, .spare = spare},
                    .x = (float *)spare,
                    .w = w,
                    .temperature = p->temperature};
    if (!srn__rank_begin(&c.rank, srn__adjust(d, own, marks), d->n_vocab)) return -1;
    if (p->temperature <= 0) return srn__rank_first(&c.rank);
    return draw(&c, p, d->position, (uint32_t *)own); /* once sorted, the logits are no more needed */
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
