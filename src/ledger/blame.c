/* Which change a metric moved with. Calls are compared within strata (model, prompt, kind, class of size), by
 * ranks turned into normal scores, from which what is left of the size and the hour is taken out; so neither
 * a shift of the traffic nor a few wild calls move anything. A step of the scores at one call, among the
 * calls that a change can have touched, is the only model. Whether there is one at all: the greatest
 * standardised step against the same of histories whose blocks of calls were put in another order, which
 * keeps what is alike between neighbours. Which change it was: those whose own step explains the scores about
 * as well as the best one. Found steps are taken out and the search goes on. Pure; called by one thread.
 */
#include "ledger/blame.h"

#include <math.h>
#include <stdlib.h>

enum {
    MIN_STRATUM = 8,
    OWN_SLOPE = 50, /* calls of a stratum that has a slope of its own */
    MAX_SCOPES = 64,
    MAX_BLOCKS = 40,
    PERMUTATIONS = 1999,
    MAX_STEPS = 4,
    MIN_SIDE = 20 /* calls on each side of a step */
};
/* How much worse than the best place in its scope a change may explain the step: twice a log-likelihood, 99 %
 * of what the best place gains by chance and a little for what is estimated; and a part of the step's own,
 * for a load that wandered just then. */
#define SLACK      12.0
#define SLACK_PART 0.04
/* Part of the best explanation, in its scope and of all calls, that a candidate's must have. */
#define FIT_PART 0.5
/* Likelihood that a candidate must have among its step's to be named. */
#define LEAST_SHARE 0.02
/* Part of the step that must be there among the calls next to the change: a slow drift has little of it. */
#define LOCAL_PART  0.4
#define LOCAL_SHARE 0.1
#define HOUR_US     UINT64_C(3600000000)
#define LEAST_DAYS  4

/* The calls that a change can have touched. */
typedef struct scope {
    uint32_t model, prompt;
    uint32_t n;      /* compared calls in it */
    double variance; /* of a score, with what neighbours have in common */
} scope;

/* A step of one scope: at call `at` and after it. */
typedef struct split {
    double gain; /* square of the step, standardised by its scope */
    double fit;  /* squares of scores that it explains: comparable between scopes */
    double step; /* mean after less mean before */
    uint32_t at, scope, n_before, n_after;
} split;

typedef struct work {
    const srn_blame_opts *o;
    const srn_blame_call *calls;
    uint32_t n;
    uint32_t *stratum; /* of each call; UINT32_MAX: too few to compare */
    uint32_t n_strata;
    double *score;
    scope scopes[MAX_SCOPES];
    uint32_t n_scopes;
    uint32_t n_blocks;
    uint64_t random;
} work;

/* ---- strata ---- */

typedef struct keyed {
    uint64_t key[2]; /* model and prompt, kind and class of size */
    double value;
    uint32_t call;
} keyed;

static int by_key(const void *a, const void *b) {
    const keyed *x = a, *y = b;
    for (int i = 0; i < 2; i++)
        if (x->key[i] != y->key[i]) return x->key[i] < y->key[i] ? -1 : 1;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return (x->call > y->call) - (x->call < y->call);
}

static double log_size(const srn_blame_call *c) {
    return log2(1 + c->size);
}

/* The p-quantile of the normal distribution: Acklam's rational approximation, off by at most 1.2e-9. */
static double normal_quantile(double p) {
    static const double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                               1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
    static const double b[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
                               6.680131188771972e+01, -1.328068155288572e+01};
    static const double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                               -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
    static const double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                               3.754408661907416e+00};
    double q = p < 0.5 ? p : 1 - p, sign = p < 0.5 ? 1 : -1;
    if (q < 0.02425) {
        double u = sqrt(-2 * log(q));
        return sign * (((((c[0] * u + c[1]) * u + c[2]) * u + c[3]) * u + c[4]) * u + c[5]) /
               ((((d[0] * u + d[1]) * u + d[2]) * u + d[3]) * u + 1);
    }
    double u = p - 0.5, r = u * u;
    return (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * u /
           (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
}

/* The scores of one stratum, which is sorted by value: normal scores of ranks, equal values their middle one;
 * of rates the values. Their mean is 0. */
static void score_stratum(work *w, const keyed *k, uint32_t n, uint32_t stratum) {
    double sum = 0;
    for (uint32_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && k[end].value == k[i].value;) end++;
        double rank = (i + end) / 2.0, s = w->o->rate ? k[i].value : normal_quantile(rank / n);
        for (uint32_t j = i; j < end; j++) w->score[k[j].call] = s;
        sum += s * (end - i);
    }
    for (uint32_t i = 0; i < n; i++) {
        w->score[k[i].call] -= sum / n;
        w->stratum[k[i].call] = stratum;
    }
}

static int make_strata(work *w, srn_err *err) {
    keyed *k = srn_calloc(w->n, sizeof *k);
    if (!k) return srn_fail_nomem(err, w->n * sizeof *k);
    for (uint32_t i = 0; i < w->n; i++) {
        const srn_blame_call *c = &w->calls[i];
        k[i] = (keyed){{(uint64_t)c->model << 32 | c->prompt, (uint64_t)c->kind << 32}, c->value, i};
        k[i].key[1] |= (uint32_t)(2 * log_size(c)); /* a class is half an octave */
        w->stratum[i] = UINT32_MAX;
    }
    qsort(k, w->n, sizeof *k, by_key);
    for (uint32_t i = 0, end; i < w->n; i = end) {
        for (end = i + 1; end < w->n && memcmp(k[end].key, k[i].key, sizeof k[i].key) == 0;) end++;
        if (end - i >= MIN_STRATUM) score_stratum(w, k + i, end - i, w->n_strata++);
    }
    free(k);
    return SRN_OK;
}

/* Of a stratum, or of all: size less its mean, in logarithms, against the score. */
typedef struct slope {
    double mean, xy, xx;
    uint32_t n;
} slope;

/* What is left of the size within its classes: by the slope of each stratum, or of all where it is small. */
static int remove_size(work *w, srn_err *err) {
    slope *of = srn_calloc(w->n_strata + 1, sizeof *of), *all = &of[w->n_strata];
    if (!of) return srn_fail_nomem(err, (w->n_strata + 1) * sizeof *of);
    for (uint32_t i = 0; i < w->n; i++) {
        if (w->stratum[i] == UINT32_MAX) continue;
        of[w->stratum[i]].mean += log_size(&w->calls[i]);
        of[w->stratum[i]].n++;
    }
    for (uint32_t i = 0; i < w->n_strata; i++) of[i].mean /= of[i].n;
    for (uint32_t i = 0; i < w->n; i++) {
        if (w->stratum[i] == UINT32_MAX) continue;
        slope *s = &of[w->stratum[i]];
        double x = log_size(&w->calls[i]) - s->mean;
        s->xy += x * w->score[i], s->xx += x * x;
        all->xy += x * w->score[i], all->xx += x * x;
    }
    for (uint32_t i = 0; i < w->n; i++) {
        if (w->stratum[i] == UINT32_MAX) continue;
        const slope *s = &of[w->stratum[i]], *by = s->n >= OWN_SLOPE && s->xx > 0 ? s : all;
        if (by->xx > 0) w->score[i] -= by->xy / by->xx * (log_size(&w->calls[i]) - s->mean);
    }
    free(of);
    return SRN_OK;
}

/* What the hour of the day explains, where there are days enough to tell it from a change. */
static void remove_hours(work *w) {
    double sum[24] = {0};
    uint32_t count[24] = {0};
    if (w->calls[w->n - 1].t_us - w->calls[0].t_us < LEAST_DAYS * 24 * HOUR_US) return;
    for (uint32_t i = 0; i < w->n; i++) {
        if (w->stratum[i] == UINT32_MAX) continue;
        sum[w->calls[i].t_us / HOUR_US % 24] += w->score[i];
        count[w->calls[i].t_us / HOUR_US % 24]++;
    }
    for (uint32_t i = 0; i < w->n; i++) {
        uint64_t hour = w->calls[i].t_us / HOUR_US % 24;
        if (w->stratum[i] != UINT32_MAX && count[hour] >= MIN_STRATUM) w->score[i] -= sum[hour] / count[hour];
    }
}

/* ---- steps ---- */

static bool in_scope(const work *w, const scope *s, uint32_t i) {
    const srn_blame_call *c = &w->calls[i];
    return w->stratum[i] != UINT32_MAX && (!s->model || s->model == c->model) &&
           (!s->prompt || s->prompt == c->prompt);
}

/* Whether sums of n_b calls before and n_a after make a step, and how large it is. */
static bool step_of(double sum_b, uint32_t n_b, double sum_a, uint32_t n_a, double *ret_fit,
                    double *ret_step) {
    uint32_t least = SRN_MAX((n_b + n_a) / 50, (uint32_t)MIN_SIDE);
    if (n_b < least || n_a < least) return false;
    *ret_step = sum_a / n_a - sum_b / n_b;
    *ret_fit = *ret_step * *ret_step * n_b / (n_b + n_a) * n_a;
    return true;
}

/* The best place of a step in a scope; gain 0 where there is none. */
static split best_split(const work *w, uint32_t which) {
    const scope *s = &w->scopes[which];
    split best = {.scope = which};
    double total = 0, sum = 0, fit, step;
    uint32_t before = 0;
    for (uint32_t i = 0; i < w->n; i++)
        if (in_scope(w, s, i)) total += w->score[i];
    for (uint32_t i = 0; i < w->n; i++) {
        if (!in_scope(w, s, i)) continue;
        if (step_of(sum, before, total - sum, s->n - before, &fit, &step) && fit > best.fit)
            best = (split){fit / s->variance, fit, step, i, which, before, s->n - before};
        sum += w->score[i];
        before++;
    }
    return best;
}

/* The step of a scope at a time; gain 0 where there is none. */
static split split_at(const work *w, uint32_t which, uint64_t t_us) {
    const scope *s = &w->scopes[which];
    split at = {.scope = which, .at = w->n};
    double sum[2] = {0};
    uint32_t n[2] = {0};
    for (uint32_t i = 0; i < w->n; i++) {
        if (!in_scope(w, s, i)) continue;
        bool after = w->calls[i].t_us >= t_us;
        if (after && !n[1]) at.at = i;
        sum[after] += w->score[i];
        n[after]++;
    }
    at.n_before = n[0];
    at.n_after = n[1];
    if (step_of(sum[0], n[0], sum[1], n[1], &at.fit, &at.step)) at.gain = at.fit / s->variance;
    return at;
}

/* Blocks are equal counts of all calls. */
static uint32_t block_of(const work *w, uint32_t i) {
    return (uint32_t)((uint64_t)i * w->n_blocks / w->n);
}

typedef struct block {
    double sum;
    uint32_t n;
} block;

static void sum_blocks(const work *w, const scope *s, const split *without, block ret[MAX_BLOCKS]) {
    memset(ret, 0, MAX_BLOCKS * sizeof *ret);
    for (uint32_t i = 0; i < w->n; i++) {
        if (!in_scope(w, s, i)) continue;
        block *b = &ret[block_of(w, i)];
        b->sum += w->score[i] - (without && without->fit > 0 && i >= without->at ? without->step : 0);
        b->n++;
    }
}

/* The variance of a score such that sums of many neighbours have the spread that they have; at least that of
 * single calls. Of what is left when the best step is gone. */
static void measure_scope(work *w, uint32_t which) {
    scope *s = &w->scopes[which];
    block blocks[MAX_BLOCKS];
    double sum = 0, squares = 0, between = 0;
    s->n = 0;
    s->variance = 1;
    for (uint32_t i = 0; i < w->n; i++)
        if (in_scope(w, s, i)) s->n++;
    if (s->n < 2 * MIN_SIDE) return;
    split best = best_split(w, which);
    for (uint32_t i = 0; i < w->n; i++) {
        if (!in_scope(w, s, i)) continue;
        double r = w->score[i] - (best.fit > 0 && i >= best.at ? best.step : 0);
        sum += r;
        squares += r * r;
    }
    double mean = sum / s->n;
    sum_blocks(w, s, &best, blocks);
    for (uint32_t b = 0; b < w->n_blocks; b++) {
        double d = blocks[b].sum - blocks[b].n * mean;
        between += d * d;
    }
    s->variance = SRN_MAX(squares / s->n - mean * mean, between / s->n);
}

/* ---- chance ---- */

/* splitmix64 */
static uint64_t next_random(work *w) {
    uint64_t z = (w->random += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* The greatest step at a border of blocks, when they stand in this order. */
static double greatest_of_order(const work *w, block (*blocks)[MAX_BLOCKS], const double *totals,
                                const uint32_t *order) {
    double greatest = 0, fit, step;
    for (uint32_t s = 0; s < w->n_scopes; s++) {
        double sum = 0;
        uint32_t before = 0, n = w->scopes[s].n;
        for (uint32_t b = 0; b + 1 < w->n_blocks; b++) {
            sum += blocks[s][order[b]].sum;
            before += blocks[s][order[b]].n;
            if (step_of(sum, before, totals[s] - sum, n - before, &fit, &step))
                greatest = SRN_MAX(greatest, fit / w->scopes[s].variance);
        }
    }
    return greatest;
}

/* The chance of steps as great as these where nothing changed. */
static double chance(work *w, block (*blocks)[MAX_BLOCKS]) {
    double totals[MAX_SCOPES] = {0};
    uint32_t order[MAX_BLOCKS], as_great = 1;
    for (uint32_t b = 0; b < w->n_blocks; b++) order[b] = b;
    for (uint32_t s = 0; s < w->n_scopes; s++) {
        sum_blocks(w, &w->scopes[s], NULL, blocks[s]);
        for (uint32_t b = 0; b < w->n_blocks; b++) totals[s] += blocks[s][b].sum;
    }
    double seen = greatest_of_order(w, blocks, totals, order);
    for (uint32_t k = 0; k < PERMUTATIONS; k++) {
        for (uint32_t b = w->n_blocks - 1; b > 0; b--) {
            uint32_t j = (uint32_t)(next_random(w) % (b + 1)), t = order[b];
            order[b] = order[j];
            order[j] = t;
        }
        as_great += greatest_of_order(w, blocks, totals, order) >= seen;
    }
    return (double)as_great / (PERMUTATIONS + 1);
}

/* ---- changes ---- */

static uint32_t scope_of(work *w, uint32_t model, uint32_t prompt) {
    for (uint32_t s = 0; s < w->n_scopes; s++)
        if (w->scopes[s].model == model && w->scopes[s].prompt == prompt) return s;
    if (w->n_scopes == MAX_SCOPES) return UINT32_MAX;
    w->scopes[w->n_scopes] = (scope){.model = model, .prompt = prompt};
    return w->n_scopes++;
}

/* The step between the calls right before and right after a split, LOCAL_SHARE of the scope on each side. */
static double local_step(const work *w, const split *p) {
    const scope *s = &w->scopes[p->scope];
    uint32_t want = SRN_MAX((uint32_t)(LOCAL_SHARE * s->n), (uint32_t)(2 * MIN_SIDE)), n[2] = {0};
    double sum[2] = {0};
    for (uint32_t i = p->at; i < w->n && n[1] < want; i++)
        if (in_scope(w, s, i)) sum[1] += w->score[i], n[1]++;
    for (uint32_t i = p->at; i-- > 0 && n[0] < want;)
        if (in_scope(w, s, i)) sum[0] += w->score[i], n[0]++;
    return n[0] && n[1] ? sum[1] / n[1] - sum[0] / n[0] : 0;
}

static int by_stratum(const void *a, const void *b) {
    const keyed *x = a, *y = b;
    for (int i = 0; i < 2; i++)
        if (x->key[i] != y->key[i]) return x->key[i] < y->key[i] ? -1 : 1;
    return (x->value > y->value) - (x->value < y->value);
}

/* Of values that are sorted: their mean, or their median. */
static double typical(const work *w, const keyed *k, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += k[i].value;
    return w->o->rate ? sum / n : (k[n / 2].value + k[(n - 1) / 2].value) / 2;
}

/* Typical values before and after, over the strata that have both, weighted by their calls after. */
static int describe(const work *w, const split *p, srn_blame_finding *f, srn_err *err) {
    const scope *s = &w->scopes[p->scope];
    keyed *k = srn_calloc(w->n, sizeof *k);
    uint32_t n = 0;
    double weight = 0;
    if (!k) return srn_fail_nomem(err, w->n * sizeof *k);
    for (uint32_t i = 0; i < w->n; i++)
        if (in_scope(w, s, i)) k[n++] = (keyed){{w->stratum[i], i >= p->at}, w->calls[i].value, i};
    qsort(k, n, sizeof *k, by_stratum);
    for (uint32_t i = 0, mid, end; i < n; i = end) {
        for (mid = i; mid < n && k[mid].key[0] == k[i].key[0] && !k[mid].key[1];) mid++;
        for (end = mid; end < n && k[end].key[0] == k[i].key[0];) end++;
        if (mid == i || end == mid) continue;
        double after = end - mid;
        f->before += after * typical(w, k + i, mid - i);
        f->after += after * typical(w, k + mid, end - mid);
        weight += after;
    }
    free(k);
    if (weight > 0) f->before /= weight, f->after /= weight;
    f->change = w->o->rate ? f->after - f->before : f->before != 0 ? f->after / f->before - 1 : 0;
    double spread = fabs(f->change) * 1.96 / sqrt(SRN_MAX(p->gain, 1.0));
    f->low = f->change - spread;
    f->high = f->change + spread;
    return SRN_OK;
}

typedef struct candidate {
    split at;
    uint32_t event, order;
} candidate;

static int likeliest_first(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->at.fit != y->at.fit) return x->at.fit > y->at.fit ? -1 : 1;
    if (x->order != y->order) return x->order < y->order ? -1 : 1;
    return (x->event > y->event) - (x->event < y->event);
}

/* The best steps of all scopes, and which of them explains most. */
static uint32_t best_of_all(const work *w, split best[MAX_SCOPES]) {
    uint32_t most = 0;
    for (uint32_t s = 0; s < w->n_scopes; s++) {
        best[s] = best_split(w, s);
        if (best[s].fit > best[most].fit) most = s;
    }
    return most;
}

/* The changes that explain the best step about as well as it does itself, likeliest first. */
static uint32_t find_candidates(work *w, const split best[MAX_SCOPES], const split *most,
                                const srn_blame_event *events, uint32_t n_events, candidate *ret) {
    uint32_t n = 0;
    for (uint32_t e = 0; e < n_events; e++) {
        uint32_t s = scope_of(w, events[e].model, events[e].prompt);
        if (s == UINT32_MAX) continue;
        candidate c = {split_at(w, s, events[e].t_us), e, events[e].order};
        if (c.at.gain < best[s].gain * (1 - SLACK_PART) - SLACK || c.at.fit < FIT_PART * best[s].fit ||
            c.at.fit < FIT_PART * most->fit)
            continue;
        if (local_step(w, &c.at) / c.at.step < LOCAL_PART) continue;
        ret[n++] = c;
    }
    qsort(ret, n, sizeof *ret, likeliest_first);
    return n;
}

static double likelihood(const work *w, const candidate *first, const candidate *c) {
    return exp((c->at.fit - first->at.fit) / 2 / w->scopes[first->at.scope].variance);
}

static bool is_found(const srn_blame_result *r, uint32_t event) {
    for (uint32_t i = 0; i < r->n_findings; i++)
        if (r->findings[i].event == event) return true;
    return false;
}

static int add_findings(work *w, const candidate *c, uint32_t n, uint32_t step, double p,
                        srn_blame_result *ret, srn_err *err) {
    double all = 0;
    for (uint32_t i = 0; i < n; i++) all += likelihood(w, c, &c[i]);
    for (uint32_t i = 0; i < n && ret->n_findings < SRN_BLAME_MAX_FINDINGS; i++) {
        double share = likelihood(w, c, &c[i]) / all;
        if (share < LEAST_SHARE || is_found(ret, c[i].event)) continue;
        srn_blame_finding *f = &ret->findings[ret->n_findings];
        *f = (srn_blame_finding){.event = c[i].event,
                                 .first = c[i].at.at,
                                 .step = step,
                                 .p = p,
                                 .share = share,
                                 .n_before = c[i].at.n_before,
                                 .n_after = c[i].at.n_after};
        int code = describe(w, &c[i].at, f, err);
        if (code) return code;
        ret->n_findings++;
    }
    return SRN_OK;
}

/* Looks for steps until there is none, or none that a change explains. */
static int search(work *w, const srn_blame_event *events, uint32_t n_events, candidate *candidates,
                  block (*blocks)[MAX_BLOCKS], srn_blame_result *ret, srn_err *err) {
    double alpha = w->o->alpha > 0 ? w->o->alpha : 0.005;
    split best[MAX_SCOPES];
    for (uint32_t step = 0; step < MAX_STEPS; step++) {
        for (uint32_t s = 0; s < w->n_scopes; s++) measure_scope(w, s);
        const split *most = &best[best_of_all(w, best)];
        double p = most->fit > 0 ? chance(w, blocks) : 1;
        if (step == 0) ret->p = p;
        if (p > alpha) break;
        if (step == 0) ret->moved = true, ret->first = most->at;
        uint32_t n = find_candidates(w, best, most, events, n_events, candidates);
        if (n == 0) break;
        int code = add_findings(w, candidates, n, step, p, ret, err);
        if (code) return code;
        for (uint32_t i = candidates[0].at.at; i < w->n; i++)
            if (in_scope(w, &w->scopes[candidates[0].at.scope], i)) w->score[i] -= candidates[0].at.step;
    }
    return SRN_OK;
}

int srn_blame(const srn_blame_opts *o, const srn_blame_call *calls, uint32_t n_calls,
              const srn_blame_event *events, uint32_t n_events, srn_blame_result *ret, srn_err *err) {
    if (n_calls < SRN_BLAME_MIN_CALLS)
        return srn_fail(err, SRN_EINVAL,
                        "%u calls have this metric, and at least %d are needed to tell a change from chance; "
                        "take a longer time or a wider filter",
                        n_calls, SRN_BLAME_MIN_CALLS);
    if (n_events > SRN_BLAME_MAX_EVENTS)
        return srn_fail(err, SRN_ELIMIT, "%u changes lie in this time, more than %d; take a shorter time",
                        n_events, SRN_BLAME_MAX_EVENTS);
    srn_blame_result r = {.p = 1};
    work w = {.o = o,
              .calls = calls,
              .n = n_calls,
              .n_blocks = SRN_MIN(n_calls / 10, (uint32_t)MAX_BLOCKS),
              .random = UINT64_C(0x736572696E)};
    w.stratum = srn_calloc(n_calls, sizeof *w.stratum);
    w.score = srn_calloc(n_calls, sizeof *w.score);
    candidate *candidates = srn_calloc(n_events + 1, sizeof *candidates);
    block(*blocks)[MAX_BLOCKS] = srn_calloc(MAX_SCOPES, sizeof *blocks);
    bool memory = w.stratum && w.score && candidates && blocks;
    int code = memory ? make_strata(&w, err) : srn_fail_nomem(err, n_calls * sizeof *w.score);
    if (!code && !o->rate) code = remove_size(&w, err);
    if (!code) remove_hours(&w);
    scope_of(&w, 0, 0);
    for (uint32_t e = 0; e < n_events; e++) scope_of(&w, events[e].model, events[e].prompt);
    for (uint32_t i = 0; i < n_calls && !code; i++) r.n_compared += w.stratum[i] != UINT32_MAX;
    if (!code) code = search(&w, events, n_events, candidates, blocks, &r, err);
    free(w.stratum);
    free(w.score);
    free(candidates);
    free(blocks);
    if (!code) *ret = r;
    return code;
}
