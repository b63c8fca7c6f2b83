/* The fit of step times, and the budgets that follow from it; see policy.h. */
#include "engine/policy.h"

#include <math.h>

/* What a newer step leaves of the weight of those before: about the last 20 count. */
#define KEEP 0.95
/* The same where the machine has become slower or faster: the recent steps took, on average, more than
 * SURPRISE times what was expected, or that much less; a single step counts as at most MOST_SURPRISE. */
#define KEEP_SURPRISED 0.7
#define SURPRISE       1.6
#define MOST_SURPRISE  3.0
/* Keeps the fit determined where steps have been too much alike; relative to unit diagonals. */
#define RIDGE 1e-4
/* What answers may notice is kept a little below the promise, for predictions err. */
#define MARGIN 0.9

enum { BASE, ROW, PROMPT, ATTEND, SWEEPS = 60 };

static void terms_of(const srn__load *l, double x[SRN__TERMS]) {
    x[BASE] = 1;
    x[ROW] = l->n_rows;
    x[PROMPT] = l->n_prompt;
    x[ATTEND] = (double)l->attended / 1024.0;
}

void srn__policy_init(srn__policy *p, double share, uint32_t max_batch) {
    *p = (srn__policy){.share = share, .max_batch = max_batch, .surprise = 1};
}

static double cost_of(const double cost[SRN__TERMS], const srn__load *load) {
    double x[SRN__TERMS], us = 0;
    terms_of(load, x);
    for (int i = 0; i < SRN__TERMS; i++) us += cost[i] * x[i];
    return us;
}

double srn__policy_predict(const srn__policy *p, const srn__load *load) {
    return cost_of(p->cost, load);
}

double srn__policy_answers_us(const srn__policy *p, const srn__load *answers) {
    return cost_of(p->n_quiet >= 2 ? p->quiet_cost : p->cost, answers);
}

bool srn__policy_wants_quiet(const srn__policy *p) {
    return p->since_quiet >= SRN__QUIET_EVERY;
}

/* Non-negative least squares over the sums of a and, unless it is NULL, b, by coordinate descent on the
 * matrix scaled to unit diagonals; warm from the coefficients before. */
static void solve(const srn__sums *a, const srn__sums *b, double cost[SRN__TERMS]) {
    double scale[SRN__TERMS], z[SRN__TERMS];
    double m[SRN__TERMS][SRN__TERMS], r[SRN__TERMS];
    for (int i = 0; i < SRN__TERMS; i++) {
        double d = a->xx[i][i] + (b ? b->xx[i][i] : 0);
        scale[i] = d > 0 ? sqrt(d) : 0;
        z[i] = cost[i] * scale[i];
    }
    for (int i = 0; i < SRN__TERMS; i++) {
        r[i] = scale[i] > 0 ? (a->xy[i] + (b ? b->xy[i] : 0)) / scale[i] : 0;
        for (int k = 0; k < SRN__TERMS; k++)
            m[i][k] = scale[i] > 0 && scale[k] > 0
                          ? (a->xx[i][k] + (b ? b->xx[i][k] : 0)) / (scale[i] * scale[k])
                          : 0;
    }
    for (int sweep = 0; sweep < SWEEPS; sweep++)
        for (int i = 0; i < SRN__TERMS; i++) {
            double v = r[i];
            for (int k = 0; k < SRN__TERMS; k++)
                if (k != i) v -= m[i][k] * z[k];
            z[i] = v > 0 ? v / (1 + RIDGE) : 0;
        }
    for (int i = 0; i < SRN__TERMS; i++) cost[i] = scale[i] > 0 ? z[i] / scale[i] : 0;
}

static void forget(srn__sums *s, double keep) {
    for (int i = 0; i < SRN__TERMS; i++) {
        for (int k = 0; k < SRN__TERMS; k++) s->xx[i][k] *= keep;
        s->xy[i] *= keep;
    }
}

/* How much of what was learnt before stays, after a step that took `ratio` times what was expected. */
static double keep_after(srn__policy *p, double ratio) {
    ratio = SRN_MIN(SRN_MAX(ratio, 1 / MOST_SURPRISE), MOST_SURPRISE);
    p->surprise = 0.8 * p->surprise + 0.2 * ratio;
    return p->surprise > SURPRISE || p->surprise < 1 / SURPRISE ? KEEP_SURPRISED : KEEP;
}

void srn__policy_learn(srn__policy *p, const srn__load *load, double us) {
    bool busy = load->n_prompt > 0;
    double x[SRN__TERMS], expected = srn__policy_predict(p, load);
    if (!(us >= 1)) us = 1;
    double keep = keep_after(p, expected > 0 ? us / expected : 1);
    forget(busy ? &p->busy : &p->quiet, keep);
    if (keep < KEEP) forget(busy ? &p->quiet : &p->busy, keep);
    srn__sums *s = busy ? &p->busy : &p->quiet;
    terms_of(load, x);
    double w = 1 / (us * us); /* of the relative error: a step that was disturbed weighs little */
    for (int i = 0; i < SRN__TERMS; i++) {
        for (int k = 0; k < SRN__TERMS; k++) s->xx[i][k] += w * x[i] * x[k];
        s->xy[i] += w * x[i] * us;
    }
    p->widest = SRN_MAX(p->widest, load->n_prompt);
    solve(&p->quiet, &p->busy, p->cost);
    if (!busy) solve(&p->quiet, NULL, p->quiet_cost);
    if (!busy && p->n_quiet < 2) p->n_quiet++;
    p->since_quiet = busy ? p->since_quiet + (load->n_rows > 0) : 0;
}

double srn__policy_allowance(const srn__policy *p, const srn__load *answers, uint32_t n_reading,
                             double others_us) {
    double own = srn__policy_answers_us(p, answers), share = p->share;
    if (n_reading > 0 && answers->n_rows)
        share = SRN_MAX(share, SRN_MIN((double)n_reading / (n_reading + answers->n_rows), SRN__MOST_SHARE));
    double more = share / (1 - share) * MARGIN;
    /* What the fit of all steps says of the answers is taken off again with what it says of the prompts. */
    if (answers->n_rows) return own + (own + others_us) * more - srn__policy_predict(p, answers);
    double base = p->cost[BASE], free_us = SRN__HEAR_US - base;
    /* A step of its own costs others its base, whatever it reads: as much is for the prompts. */
    return others_us > 0 ? SRN_MIN(free_us, SRN_MAX(others_us * more - base, base)) : free_us;
}

double srn__policy_chunk_us(const srn__policy *p, uint32_t past, uint32_t n) {
    double attended = (double)n * past + (double)n * (n + 1.0) / 2;
    return p->cost[PROMPT] * n + p->cost[ATTEND] * attended / 1024.0;
}

uint32_t srn__policy_chunk(const srn__policy *p, double us, uint32_t taken, uint32_t past, uint32_t most) {
    uint32_t trust = SRN_MAX(SRN__FIRST_CHUNK, 2 * p->widest), least = taken ? 0 : SRN__MIN_CHUNK;
    most = SRN_MIN(most, trust > taken ? trust - taken : 0);
    least = SRN_MIN(least, most);
    uint32_t lo = least, hi = most;
    while (lo < hi) { /* the greatest n that fits */
        uint32_t mid = hi - (hi - lo) / 2;
        if (srn__policy_chunk_us(p, past, mid) <= us)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

double srn__policy_draft_us(const srn__policy *p, uint32_t past) {
    return p->cost[ROW] + p->cost[ATTEND] * (past + 1.0) / 1024.0;
}

bool srn__policy_draft_pays(const srn__policy *p, const srn__load *answers, uint32_t past, double rate) {
    if (!answers->n_rows) return false;
    return rate * srn__policy_answers_us(p, answers) / answers->n_rows >= srn__policy_draft_us(p, past);
}
