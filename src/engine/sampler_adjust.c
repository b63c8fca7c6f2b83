/* What happens to logits before tokens are ranked: logit bias, mask, repetition penalty, presence and
 * frequency penalties, DRY, in this order, each rule as docs/numerics.md states it. Called by srn__draw.
 * Every penalty takes time linear in the history: a mark per vocabulary id says what was seen, and the
 * history itself says which marks to clear. Ids outside the vocabulary count for nothing.
 */
#include <float.h>

#include "engine/sampler_internal.h"

/* A repetition counts as at most so many tokens: no power of a base worth its name is told from a ban there.
 */
#define DRY_LONGEST 64

static bool in_vocab(const srn__draw_in *d, int32_t id) {
    return id >= 0 && (uint32_t)id < d->n_vocab;
}

/* Penalties never make a logit infinite, nor a banned one finite. */
static float bounded(float was, float now) {
    if (was == SRN__BANNED) return was;
    return now > FLT_MAX ? FLT_MAX : now < -FLT_MAX ? -FLT_MAX : now;
}

/* First index of the last n tokens; n -1: all. */
static size_t window(const srn__draw_in *d, int32_t n) {
    return n < 0 || (size_t)n >= d->n_history ? 0 : d->n_history - (size_t)n;
}

/* ---- bias and mask ---- */

static bool allows(const uint64_t *allowed, uint32_t id) {
    return !allowed || (allowed[id / 64] >> (id % 64) & 1);
}

/* The tokens with a bias of 100 and more, where one of them is allowed, are the only ones. */
static bool bias_chooses(const srn__draw_in *d, float *own) {
    const srn_sampling *p = d->params;
    bool any = false;
    for (uint32_t i = 0; i < p->n_logit_bias && !any; i++)
        any = p->logit_bias[i].bias >= 100 && in_vocab(d, p->logit_bias[i].id) &&
              allows(d->allowed, (uint32_t)p->logit_bias[i].id);
    if (!any) return false;
    for (uint32_t i = 0; i < d->n_vocab; i++) own[i] = SRN__BANNED;
    for (uint32_t i = 0; i < p->n_logit_bias; i++) {
        int32_t id = p->logit_bias[i].id;
        if (p->logit_bias[i].bias >= 100 && in_vocab(d, id) && allows(d->allowed, (uint32_t)id))
            own[id] = d->logits[id];
    }
    return true;
}

static void bias_and_mask(const srn__draw_in *d, float *own) {
    const srn_sampling *p = d->params;
    if (bias_chooses(d, own)) return;
    if (d->allowed)
        srn__row()->mask(d->logits, d->n_vocab, d->allowed, own);
    else
        memcpy(own, d->logits, d->n_vocab * sizeof *own);
    for (uint32_t i = 0; i < p->n_logit_bias; i++) {
        int32_t id = p->logit_bias[i].id;
        float bias = p->logit_bias[i].bias;
        if (!in_vocab(d, id) || bias >= 100) continue;
        own[id] = bias <= -100 ? SRN__BANNED : bounded(own[id], own[id] + bias);
    }
}

/* ---- penalties ---- */

static void repetition(const srn__draw_in *d, float *own, uint32_t *marks) {
    float p = d->params->repeat_penalty;
    size_t from = window(d, d->params->repeat_last_n);
    if (p == 1.0f) return;
    for (size_t i = from; i < d->n_history; i++) {
        int32_t id = d->history[i];
        if (!in_vocab(d, id) || marks[id]) continue;
        marks[id] = 1;
        own[id] = bounded(own[id], own[id] > 0 ? own[id] / p : own[id] * p);
    }
    for (size_t i = from; i < d->n_history; i++)
        if (in_vocab(d, d->history[i])) marks[d->history[i]] = 0;
}

static void presence_and_frequency(const srn__draw_in *d, float *own, uint32_t *marks) {
    float presence = d->params->presence_penalty, frequency = d->params->frequency_penalty;
    if (presence == 0 && frequency == 0) return;
    for (size_t i = d->n_prompt; i < d->n_history; i++)
        if (in_vocab(d, d->history[i])) marks[d->history[i]]++;
    for (size_t i = d->n_prompt; i < d->n_history; i++) {
        int32_t id = d->history[i];
        if (!in_vocab(d, id) || !marks[id]) continue;
        own[id] = bounded(own[id], own[id] - ((float)marks[id] * frequency + presence));
        marks[id] = 0;
    }
}

static bool breaks(const srn_sampling *p, int32_t id) {
    uint32_t lo = 0, hi = p->n_dry_breakers;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (p->dry_breakers[mid] == id) return true;
        if (p->dry_breakers[mid] < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

/* How many of the last tokens h[n-1], h[n-2], ... a repetition may consist of. */
static size_t dry_reach(const srn__draw_in *d, size_t from) {
    size_t n = 0;
    while (n < DRY_LONGEST && from + n < d->n_history && !breaks(d->params, d->history[d->n_history - 1 - n]))
        n++;
    return n;
}

/* DRY ("don't repeat yourself"): a token that would go on with a sequence that stands at the end of the
 * history and was followed by this token before loses multiplier * base^(length - allowed), length being the
 * longest such sequence's. The mark of an id is that length. */
static void dry(const srn__draw_in *d, float *own, uint32_t *marks) {
    const srn_sampling *p = d->params;
    const int32_t *h = d->history;
    size_t n = d->n_history, from = window(d, p->dry_last_n), reach = 0;
    if (p->dry_multiplier == 0 || (reach = dry_reach(d, from)) == 0) return;
    for (size_t i = from + 1; i < n; i++) {
        if (h[i - 1] != h[n - 1] || !in_vocab(d, h[i])) continue;
        size_t most = SRN_MIN(reach, i - from), length = 1;
        while (length < most && h[i - 1 - length] == h[n - 1 - length]) length++;
        marks[h[i]] = SRN_MAX(marks[h[i]], (uint32_t)length);
    }
    for (size_t i = from + 1; i < n; i++) {
        if (!in_vocab(d, h[i]) || !marks[h[i]]) continue;
        int32_t excess = (int32_t)marks[h[i]] - p->dry_allowed_length;
        double penalty = (double)p->dry_multiplier;
        for (int32_t k = 0; k < excess; k++) penalty *= (double)p->dry_base;
        penalty = SRN_MIN(penalty, (double)FLT_MAX);
        if (excess >= 0) own[h[i]] = bounded(own[h[i]], own[h[i]] - (float)penalty);
        marks[h[i]] = 0;
    }
}

static bool penalises(const srn__draw_in *d) {
    const srn_sampling *p = d->params;
    return (p->repeat_penalty != 1.0f && p->repeat_last_n != 0) || p->dry_multiplier != 0 ||
           p->presence_penalty != 0 || p->frequency_penalty != 0;
}

const float *srn__adjust(const srn__draw_in *d, float *own, uint32_t *marks) {
    bool history = d->n_history > 0 && penalises(d);
    if (!history && !d->allowed && d->params->n_logit_bias == 0) return d->logits;
    bias_and_mask(d, own);
    if (history) {
        repetition(d, own, marks);
        presence_and_frequency(d, own, marks);
        dry(d, own, marks);
    }
    return own;
}
