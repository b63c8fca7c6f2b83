/* Roll-outs on made traffic: how often a policy rolls back what is as good, and what is worse, and after how
 * many calls. Calls are evidence as they end, as in the server, and a look is after every one. Pure and
 * deterministic: the same seed gives the same bits. Called by `serin canary simulate` and by the tests that
 * hold the method to its bars.
 */
#include "canary/canary_internal.h"

#include <math.h>
#include <stdlib.h>

#include "base/num.h"

#define TAU    6.283185307179586
#define SLOWER 4.0 /* what makes a call a slow one */

/* ---- draws ---- */

typedef struct draws {
    uint64_t state;
    double spare;
    bool has_spare;
} draws;

static uint64_t next(draws *d) { /* splitmix64 */
    uint64_t z = d->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
static double uniform(draws *d) { /* (0, 1) */
    return ((double)(next(d) >> 12) + 0.5) * 0x1p-52;
}
static double normal(draws *d) { /* Box and Muller */
    if (d->has_spare) {
        d->has_spare = false;
        return d->spare;
    }
    double s, c, r = sqrt(-2 * srn_log(uniform(d)));
    srn_sincos(TAU * uniform(d), &s, &c);
    d->spare = r * s;
    d->has_spare = true;
    return r * c;
}
static double gamma_of(draws *d, double shape) { /* Marsaglia and Tsang */
    double boost = 1;
    if (shape < 1) {
        boost = srn_exp(srn_log(uniform(d)) / shape);
        shape += 1;
    }
    for (double a = shape - 1.0 / 3, b = 1 / sqrt(9 * a);;) {
        double x = normal(d), v = 1 + b * x;
        if (v <= 0) continue;
        v = v * v * v;
        if (srn_log(uniform(d)) < 0.5 * x * x + a - a * v + a * srn_log(v)) return a * v * boost;
    }
}
/* A share of that mean whose draws of 0 and 1 correlate by icc within a subject. */
static double share_of(draws *d, double mean, double icc) {
    if (icc <= 0 || mean <= 0 || mean >= 1) return mean;
    double k = 1 / icc - 1, a = gamma_of(d, mean * k), b = gamma_of(d, (1 - mean) * k);
    return a + b > 0 ? a / (a + b) : mean;
}
static uint32_t count_of(draws *d, double mean) { /* Poisson; by the normal's where it is large */
    if (mean > 50) return (uint32_t)SRN_MAX(0, mean + sqrt(mean) * normal(d) + 0.5);
    double left = srn_exp(-mean), p = uniform(d);
    uint32_t n = 0;
    for (; p > left && n < 1000; n++) p *= uniform(d);
    return n;
}

/* ---- made traffic ---- */

typedef struct subject {
    double place, share;          /* of the calls, summed up to it */
    double level[SRN_METRIC_END]; /* of shares: its rate; else in standard deviations, between subjects */
    double fault[SRN_METRIC_END]; /* of shares: what the canary adds to those that are not 1 */
} subject;

typedef struct flight { /* a call that has not ended */
    uint64_t end_us, n; /* n: of those that end at once the one that came first goes first */
    srn_observation o;
} flight;

typedef struct world {
    const srn_rollout *r;
    const srn_simulate_opts *o;
    const srn_traffic *t;
    draws d;
    subject *subjects;
    srn_history *history;
    double phase[SRN_METRIC_END];
    double shift[SRN_METRIC_END]; /* the canary's, of scores */
    double day_us;
    flight *air;                     /* a heap: the one that ends next is first */
    uint32_t n_air, cap_air, n_open; /* n_open: of the canary */
} world;

void srn_traffic_default(srn_traffic *t) {
    static const struct {
        double rate, sd, known;
    } all[SRN_METRIC_END] = {
        [SRN_METRIC_ERROR] = {0.01, 0, 1},
        [SRN_METRIC_CONSTRAINT] = {0.01, 0, 0.3},
        [SRN_METRIC_CHECKS] = {0.05, 0, 0.3},
        [SRN_METRIC_CUT] = {0.1, 0, 1},
        [SRN_METRIC_TTFT] = {200000, 0.8, 1},
        [SRN_METRIC_ITL] = {20000, 0.3, 1},
        [SRN_METRIC_LENGTH] = {150, 0.8, 1},
        [SRN_METRIC_REPETITION] = {0.05, 0.04, 1},
        [SRN_METRIC_UNCERTAINTY] = {0.5, 0.2, 1},
        [SRN_METRIC_FEEDBACK] = {0.2, 0, 0.05},
        [SRN_METRIC_DIVERGENCE] = {0.002, 0.002, 0.1},
    };
    *t = (srn_traffic){.n_subjects = 300,
                       .zipf = 1,
                       .icc = 0.1,
                       .drift = 0.5,
                       .calls_per_day = 2000,
                       .history_calls = 14000,
                       .newcomers = 0.1,
                       .stale = 0.95};
    for (unsigned m = 0; m < SRN_METRIC_END; m++)
        t->rate[m] = all[m].rate, t->sd[m] = all[m].sd, t->known[m] = all[m].known;
}

static bool is_draw(const srn_traffic *t, unsigned m) { /* 0 or 1 a call */
    return srn__metric_kind((srn_metric)m) == SRN__KIND_SHARE && !(t->sd[m] > 0);
}

/* What follows from another metric is not drawn. */
static bool follows(unsigned m) {
    return srn__metric_of_tail((srn_metric)m) < SRN_METRIC_END;
}

static void make_subject(world *w, uint32_t i) {
    const srn_traffic *t = w->t;
    subject *s = &w->subjects[i];
    srn_history *h = &w->history[i];
    bool newcomer = uniform(&w->d) < t->newcomers;
    double share = s->share - (i ? w->subjects[i - 1].share : 0);
    s->place = uniform(&w->d);
    *h = (srn_history){.subject = i};
    for (unsigned m = 0; m < SRN_METRIC_END; m++) {
        double k = newcomer ? 0 : t->history_calls * share * t->known[m], before;
        s->fault[m] = 0;
        if (follows(m)) continue;
        if (is_draw(t, m)) {
            s->level[m] = before = share_of(&w->d, t->rate[m], t->icc);
            if (uniform(&w->d) > t->stale) s->level[m] = share_of(&w->d, t->rate[m], t->icc);
            h->n[m] = k > 0 ? count_of(&w->d, k) : 0;
            uint32_t ones = h->n[m] ? count_of(&w->d, h->n[m] * before) : 0;
            if (h->n[m]) h->mean[m] = (double)SRN_MIN(ones, h->n[m]) / h->n[m];
            continue;
        }
        double z = normal(&w->d), base = t->rate[m];
        if (srn_metric_is_ratio((srn_metric)m)) base = srn_log(base);
        s->level[m] = t->stale * z + sqrt(1 - t->stale * t->stale) * normal(&w->d);
        h->n[m] = k > 0 && m != SRN_METRIC_DIVERGENCE ? count_of(&w->d, k) : 0;
        if (h->n[m])
            h->mean[m] = base + t->sd[m] * (sqrt(t->icc) * z + sqrt((1 - t->icc) / h->n[m]) * normal(&w->d));
    }
}

static void apply_effects(world *w) {
    memset(w->shift, 0, sizeof w->shift);
    for (uint32_t k = 0; k < w->o->n_effects; k++) {
        const srn_effect *x = &w->o->effects[k];
        bool ratio = srn_metric_is_ratio(x->metric);
        if (!is_draw(w->t, x->metric)) {
            w->shift[x->metric] += ratio ? srn_log(1 + x->by) : x->by;
            continue;
        }
        double fault = SRN_MAX(0, SRN_MIN(1, x->by / (1 - w->t->rate[x->metric])));
        for (uint32_t i = 0; i < w->t->n_subjects; i++)
            w->subjects[i].fault[x->metric] = x->by_subject ? share_of(&w->d, fault, w->t->icc) : fault;
    }
}

static void make_world(world *w) {
    double all = 0, sum = 0;
    for (uint32_t i = 0; i < w->t->n_subjects; i++) all += srn_pow(i + 1.0, -w->t->zipf);
    for (uint32_t i = 0; i < w->t->n_subjects; i++) {
        sum += srn_pow(i + 1.0, -w->t->zipf) / all;
        w->subjects[i].share = sum;
        make_subject(w, i);
    }
    for (unsigned m = 0; m < SRN_METRIC_END; m++) w->phase[m] = TAU * uniform(&w->d);
    apply_effects(w);
}

static uint32_t caller(world *w) {
    double u = uniform(&w->d);
    uint32_t lo = 0, hi = w->t->n_subjects - 1;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (w->subjects[mid].share < u)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static double value_of(world *w, const subject *s, unsigned m, bool canary, double swing) {
    const srn_traffic *t = w->t;
    if (is_draw(t, m)) {
        double p = SRN_MIN(1, s->level[m] * (1 + t->drift * swing));
        if (canary) p += (1 - p) * s->fault[m];
        return uniform(&w->d) < p;
    }
    double z = sqrt(t->icc) * s->level[m] + sqrt(1 - t->icc) * normal(&w->d) + t->drift * swing;
    double shift = canary ? w->shift[m] : 0;
    if (srn_metric_is_ratio((srn_metric)m)) {
        double v = t->rate[m] * srn_exp(t->sd[m] * z + shift);
        return m == SRN_METRIC_LENGTH ? SRN_MAX(1, (double)(uint64_t)(v + 0.5)) : v;
    }
    double most = m == SRN_METRIC_DIVERGENCE                          ? 0.69
                  : srn__metric_kind((srn_metric)m) == SRN__KIND_NATS ? 20
                                                                      : 1;
    return SRN_MAX(0, SRN_MIN(most, t->rate[m] + t->sd[m] * z + shift));
}

static void make_call(world *w, uint32_t i, uint64_t at_us, srn_observation *o) {
    double day = (double)at_us / w->day_us;
    bool canary = o->arm == SRN_ARM_CANARY, failed = false;
    o->subject = i;
    o->at_us = at_us;
    for (unsigned m = 0; m < SRN_METRIC_END; m++) {
        double s = 0, c = 0;
        bool known = !failed && !follows(m) && (m != SRN_METRIC_DIVERGENCE || canary);
        o->values[m] = NAN;
        if (!known || (w->t->known[m] < 1 && uniform(&w->d) >= w->t->known[m])) continue;
        if (w->t->drift > 0) srn_sincos(TAU * day + w->phase[m], &s, &c);
        o->values[m] = value_of(w, &w->subjects[i], m, canary, s);
        if (m == SRN_METRIC_ERROR) failed = o->values[m] > 0;
    }
    for (unsigned m = 0; m < SRN_METRIC_END && canary; m++) {
        double fault = w->subjects[i].fault[m];
        if (follows(m) && fault > 0 && uniform(&w->d) < fault)
            o->values[srn__metric_of_tail((srn_metric)m)] *= SLOWER;
    }
}

/* ---- calls in flight ---- */

static bool sooner(const flight *a, const flight *b) {
    return a->end_us != b->end_us ? a->end_us < b->end_us : a->n < b->n;
}

/* What an answer takes: until its first token, and for each one; what failed does so at once. */
static int take_off(world *w, const srn_observation *o, uint64_t n, srn_err *err) {
    const double *v = o->values;
    double us = isnan(v[SRN_METRIC_TTFT]) ? 0 : v[SRN_METRIC_TTFT];
    if (!isnan(v[SRN_METRIC_ITL]) && !isnan(v[SRN_METRIC_LENGTH]))
        us += v[SRN_METRIC_ITL] * v[SRN_METRIC_LENGTH];
    if (w->n_air == w->cap_air) {
        uint32_t cap = w->cap_air ? 2 * w->cap_air : 64;
        flight *grown = srn_realloc_array(w->air, cap, sizeof *grown);
        if (!grown) return srn_fail_nomem(err, cap * sizeof *grown);
        w->air = grown;
        w->cap_air = cap;
    }
    flight f = {.end_us = o->at_us + (uint64_t)us, .n = n, .o = *o};
    uint32_t at = w->n_air++;
    for (; at && sooner(&f, &w->air[(at - 1) / 2]); at = (at - 1) / 2) w->air[at] = w->air[(at - 1) / 2];
    w->air[at] = f;
    w->n_open += o->arm == SRN_ARM_CANARY;
    return SRN_OK;
}

static flight land(world *w) {
    flight first = w->air[0], last = w->air[--w->n_air];
    uint32_t at = 0;
    for (;;) {
        uint32_t next = 2 * at + 1;
        if (next >= w->n_air) break;
        if (next + 1 < w->n_air && sooner(&w->air[next + 1], &w->air[next])) next++;
        if (!sooner(&w->air[next], &last)) break;
        w->air[at] = w->air[next];
        at = next;
    }
    w->air[at] = last;
    w->n_open -= first.o.arm == SRN_ARM_CANARY;
    return first;
}

/* ---- one roll-out ---- */

typedef struct outcome {
    srn_verdict verdict; /* STEP: the last step did its work */
    srn_metric metric;
    uint64_t calls;
    char why[256]; /* of the last look */
} outcome;

/* A call has ended: it is evidence, and is looked at. */
static int count(world *w, srn_evidence *e, srn_step_is *is, const flight *f, outcome *ret, srn_err *err) {
    srn_look l;
    int code = srn_evidence_add(e, &f->o, err);
    is->n_open = w->n_open;
    if (f->o.arm == SRN_ARM_CANARY && !f->o.shadow) is->last_canary_us = f->end_us;
    if (code || !srn__look_may_speak(w->r, e, is)) return code;
    srn_look_at(w->r, e, is, f->end_us, &l);
    ret->verdict = l.verdict;
    ret->metric = l.metric;
    if (l.verdict != SRN_VERDICT_STEP || is->step + 1 >= w->r->n_steps) return SRN_OK;
    is->step++;
    is->step_started_us = f->end_us;
    ret->verdict = SRN_VERDICT_HOLD;
    return SRN_OK;
}

/* A call of the subject begins, and a copy of it where one is due. */
static int ask(world *w, uint32_t i, uint64_t at_us, uint32_t step, uint64_t n, srn_err *err) {
    double place = w->subjects[i].place, share = w->r->steps[step];
    bool copied = srn_assign_copied(place, share, w->r->shadow);
    srn_observation o = {.step = step, .arm = srn_assign_arm(place, share)};
    srn_observation copy = {.step = step, .arm = SRN_ARM_CANARY, .shadow = true};
    if (copied && !(share > 0)) o.arm = SRN_ARM_CONTROL;
    make_call(w, i, at_us, &o);
    int code = take_off(w, &o, n, err);
    if (code || !copied) return code;
    make_call(w, i, at_us, &copy);
    return take_off(w, &copy, n, err);
}

static int roll_out(world *w, outcome *ret, srn_err *err) {
    const uint64_t begin = 1000000ull * 86400 * 20000;
    srn_evidence *e = NULL;
    srn_step_is is = {.started_us = begin, .step_started_us = begin};
    uint64_t at = begin;
    *ret = (outcome){.verdict = SRN_VERDICT_HOLD, .metric = SRN_METRIC_END};
    w->n_air = w->n_open = 0;
    make_world(w);
    int code = srn_evidence_new(w->r, &e, err);
    if (!code && w->t->history_calls > 0) code = srn_evidence_history(e, w->history, w->t->n_subjects, err);
    for (ret->calls = 1; !code && ret->calls <= w->o->max_calls; ret->calls++) {
        uint32_t i = caller(w);
        at += (uint64_t)(-srn_log(uniform(&w->d)) * w->day_us / w->t->calls_per_day) + 1;
        while (!code && w->n_air && w->air[0].end_us <= at && ret->verdict == SRN_VERDICT_HOLD) {
            flight f = land(w);
            code = count(w, e, &is, &f, ret, err);
        }
        if (ret->verdict != SRN_VERDICT_HOLD) break;
        code = code ? code : ask(w, i, at, is.step, ret->calls, err);
    }
    if (!code && ret->verdict == SRN_VERDICT_HOLD) {
        srn_look l;
        srn_look_at(w->r, e, &is, at, &l);
        srn__canary_text(ret->why, sizeof ret->why, l.why);
    }
    srn_evidence_free(e);
    return code;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Nearest rank. */
static double rank(double *v, uint32_t n, double q) {
    if (!n) return NAN;
    qsort(v, n, sizeof *v, by_size);
    uint32_t i = (uint32_t)(q * n);
    return v[SRN_MIN(i, n - 1)];
}

static int check(const srn_simulate_opts *o, srn_err *err) {
    const srn_traffic *t = o->traffic;
    if (t->n_subjects < 2 || t->n_subjects > 1000000 || o->n_runs < 1 || o->n_runs > 1000000 ||
        !(t->calls_per_day > 0) || !(t->icc >= 0 && t->icc <= 0.5) || !(t->zipf >= 0 && t->zipf <= 5))
        return srn_fail(err, SRN_EINVAL,
                        "a simulation needs 2 to 1,000,000 subjects and runs, calls, a "
                        "correlation from 0 to 0.5 and an exponent from 0 to 5");
    return SRN_OK;
}

static int run_all(world *w, double *calls, srn_simulation *ret, srn_err *err) {
    uint32_t n = w->o->n_runs, back = 0, done = 0;
    double *promoted = calls + n;
    *ret = (srn_simulation){.n_runs = n};
    for (uint32_t i = 0; i < n; i++) {
        outcome x;
        w->d = (draws){.state = w->o->seed * 0x2545f4914f6cdd1du + i};
        w->d.state = next(&w->d);
        int code = roll_out(w, &x, err);
        if (code) return code;
        if (x.verdict == SRN_VERDICT_ROLL_BACK) {
            calls[back++] = (double)x.calls;
            if (x.metric < SRN_METRIC_END) ret->by_metric[x.metric]++;
        } else if (x.verdict == SRN_VERDICT_STEP) {
            promoted[done++] = (double)x.calls;
        } else if (!ret->held_why[0]) {
            srn__canary_text(ret->held_why, sizeof ret->held_why, x.why);
        }
        if (w->o->progress) w->o->progress(w->o->progress_ctx, "simulating", i + 1, n);
    }
    ret->n_rolled_back = back;
    ret->n_promoted = done;
    ret->n_held = n - back - done;
    ret->calls_median = rank(calls, back, 0.5);
    ret->calls_p95 = rank(calls, back, 0.95);
    ret->promoted_median = rank(promoted, done, 0.5);
    ret->promoted_p95 = rank(promoted, done, 0.95);
    return SRN_OK;
}

int srn_simulate(const srn_rollout *r, const srn_simulate_opts *o, srn_simulation *ret, srn_err *err) {
    int code = check(o, err);
    if (code) return code;
    srn_rollout one = *r;
    if (o->share > 0) {
        one.n_steps = 1;
        one.steps[0] = o->share;
    }
    world w = {.r = &one, .o = o, .t = o->traffic, .day_us = 86400e6};
    w.subjects = srn_calloc(o->traffic->n_subjects, sizeof *w.subjects);
    w.history = srn_calloc(o->traffic->n_subjects, sizeof *w.history);
    double *calls = srn_calloc(2 * (size_t)o->n_runs, sizeof *calls);
    code = w.subjects && w.history && calls
               ? run_all(&w, calls, ret, err)
               : srn_fail_nomem(err, o->traffic->n_subjects * sizeof *w.subjects);
    free(calls);
    free(w.air);
    free(w.subjects);
    free(w.history);
    return code;
}
