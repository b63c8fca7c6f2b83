/* A look: from the sums of evidence to findings, one a metric, and from findings to a verdict. Both are pure;
 * the second uses nothing but numbers that stand in the look, so that a verdict can be recomputed from its
 * record. docs/canary.md, "Method" and "Verdicts", says the same in prose.
 */
#include "canary/canary_internal.h"

#include <math.h>

#include "base/num.h"

#define HORIZON  15.0 /* effective calls (harmonic) that the mixture is as wide as */
#define MIN_FREE 3.0  /* effective subjects of each arm before a word is said */
#define MIN_HIT  5    /* subjects of the canary that must show a fault before it is the canary's */
#define SD_LEAST 1e-3 /* spread of a score below which nothing is taken to be known */
#define SRM_P    1e-3
#define EXPOSED  0.05 /* share of subjects that may see both arms */
#define SILENT   0.25 /* part by which fewer may give feedback in one arm than in the other */
enum {
    DEAD_US = 600 * 1000000,
    DEAD_CALLS = 20,
    STOPPED_CALLS = 50,
    CLOCK_US = 120 * 1000000,
    FLIGHTS = 10, /* calls that have ended for one in flight */
};

const char *srn_verdict_name(srn_verdict v) {
    static const char *const names[] = {"hold", "step", "roll_back"};
    return (unsigned)v < SRN_LEN(names) ? names[v] : NULL;
}

/* ---- findings ---- */

/* The boundary of |S| / sqrt(V) for Brownian motion that is crossed at all, at any time, above, with
 * probability alpha: Robbins' normal mixture, of variance such that it is as wide as the noise at ratio 1
 * (Howard et al. 2021, proposition 5; Waudby-Smith et al. 2024). */
static double boundary(double alpha, double ratio) {
    return sqrt((1 + 1 / ratio) * srn_log((1 + ratio) / (4 * alpha * alpha)));
}

/* A normal deviate as one of Student's t with nu degrees of freedom: Wallace 1959. */
static double student(double z, double nu) {
    double k = z * (8 * nu + 3) / (8 * nu + 1);
    return sqrt(nu * (srn_exp(k * k / nu) - 1));
}

typedef struct arm {
    double mean, w, v, nu; /* v: variance of the mean */
} arm;

/* The variance of a weighted mean over subjects: the working model's (one spread, by weights) and the
 * sandwich (Liang and Zeger 1986), which is right whatever the correlation but knows little from few
 * subjects, each with the weight of its degrees of freedom. */
static arm arm_of(const srn__sums *t, srn__kind kind) {
    arm a = {.mean = t->wy / t->w, .w = t->w, .nu = (double)t->n_subjects - 1};
    double w_sq = t->w * t->w, left = SRN_MAX(1 - t->w2 / w_sq, 1e-9);
    double sandwich = SRN_MAX(t->w2yy - 2 * a.mean * t->w2y + a.mean * a.mean * t->w2, 0) / w_sq / left;
    double model = SRN_MAX(t->wyy - a.mean * a.mean * t->w, 0) / a.nu / t->w;
    double nu = SRN_MAX(t->w2 * t->w2 / t->w4 - 1, 0);
    double p = (SRN_MAX(a.mean, 0) * t->w + 0.5) / (t->w + 1);
    double least = kind == SRN__KIND_SHARE ? SRN_MAX(p * (1 - p), 0) : SD_LEAST * SD_LEAST;
    a.v = (sandwich * nu + model * a.nu) / (nu + a.nu);
    a.v = SRN_MAX(a.v, least * t->w2_n / w_sq);
    return a;
}

static bool enough_of(const srn__sums *t) {
    return t->w > 0 && t->n_subjects >= 5 && t->w * t->w / t->w2 >= MIN_FREE;
}

static void count(const srn__sums *t, srn_finding *f, unsigned side) {
    f->n_subjects[side] = t->n_subjects;
    f->n_calls[side] = t->n_calls;
    f->n_missing[side] = t->n_missing;
    f->missing_run[side] = t->missing_run;
    f->weight[side] = t->w;
    f->mean[side] = t->w > 0 ? t->wy / t->w : NAN;
}

/* The arms next to each other. n: effective calls of shares (Rao and Scott 1992), n_high: of the canary where
 * it may be worse than it seems. */
typedef struct pair {
    bool share;
    double d, se, se_high, ratio, nu;
    double p[2], n[2], n_high;
    uint64_t n_hit; /* subjects of the canary with any */
    double ended;   /* of the canary's calls, where one in flight may be what has not failed yet; else 1 */
} pair;

/* Shares as if of n independent calls: n is what gives the variance. How calls clump within subjects is
 * taken to be one fact about both arms, told by all subjects of both, each arm by its degrees of freedom: of
 * a canary's ten subjects alone it could hardly be told. Where the canary may be worse than it seems its own
 * clumping counts as well. */
static void as_shares(pair *x, const arm *a0, const arm *a1) {
    const arm *arms[] = {a0, a1};
    double clump[2];
    for (unsigned i = 0; i < 2; i++) {
        double p = (SRN_MAX(arms[i]->mean, 0) * arms[i]->w + 0.5) / (arms[i]->w + 1);
        x->p[i] = SRN_MAX(0, SRN_MIN(1, arms[i]->mean));
        clump[i] = arms[i]->w * arms[i]->v / (p * (1 - p));
    }
    x->nu = a0->nu + a1->nu;
    double both = (a0->nu * clump[0] + a1->nu * clump[1]) / x->nu;
    for (unsigned i = 0; i < 2; i++) x->n[i] = arms[i]->w / both;
    x->n_high = a1->w / SRN_MAX(both, SRN_MAX(clump[0], clump[1]));
}

/* Faults come at once and answers take their time, so that at first what has ended is what failed. */
static double ended_of(unsigned m, uint64_t n_calls, uint32_t n_open) {
    if (m != SRN_METRIC_ERROR || !n_calls) return 1;
    return (double)n_calls / ((double)n_calls + n_open);
}

/* False: too little for a word. n_open: calls of the canary in flight. */
static bool compare(const srn__sums *t0, const srn__sums *t1, unsigned m, double margin, uint32_t n_open,
                    pair *ret) {
    srn__kind kind = srn__metric_kind((srn_metric)m);
    bool one = m == SRN_METRIC_DIVERGENCE; /* the baseline's from itself is 0 */
    if (!enough_of(t1) || (!one && !enough_of(t0))) return false;
    arm a0 = {.mean = 0, .v = 0, .nu = 1};
    if (!one) a0 = arm_of(t0, kind);
    arm a1 = arm_of(t1, kind);
    double v = a0.v + a1.v, harmonic = one ? t1->w : t0->w * t1->w / (t0->w + t1->w);
    *ret = (pair){.share = kind == SRN__KIND_SHARE,
                  .d = a1.mean - a0.mean,
                  .se = sqrt(v),
                  .ratio = harmonic / HORIZON,
                  .nu = v * v / (a0.v * a0.v / a0.nu + a1.v * a1.v / a1.nu)};
    /* What is at its margin spreads at least as wide. */
    ret->se_high = sqrt(SRN_MAX(v, margin * margin * t1->w2_n / (t1->w * t1->w)));
    ret->n_hit = t1->n_hit;
    ret->ended = ended_of(m, t1->n_calls, n_open);
    if (ret->share) as_shares(ret, &a0, &a1);
    return true;
}

/* n * KL(p || q) of Bernoulli's, in nats. */
static double apart(double n, double p, double q) {
    double nats = 0;
    if (p > 0) nats += p * srn_log(p / q);
    if (p < 1) nats += (1 - p) * srn_log((1 - p) / (1 - q));
    return n * SRN_MAX(nats, 0);
}

/* The root of twice the log-likelihood ratio against a difference of the shares of by: the control's share is
 * where the likelihood is greatest, by Newton's method kept between bounds. */
static double root_of(const pair *x, double n1, double by) {
    double lo = SRN_MAX(0, -by) + 1e-12, hi = SRN_MIN(1, 1 - by) - 1e-12;
    double a = x->n[0] * x->p[0], b = x->n[0] - a, c = n1 * x->p[1], d = n1 - c;
    double q = (a + c - n1 * by) / (x->n[0] + n1);
    for (int i = 0; i < 60; i++) {
        if (!(q > lo && q < hi)) q = (lo + hi) / 2;
        double r = q + by, g = a / q - b / (1 - q) + c / r - d / (1 - r);
        double slope = a / (q * q) + b / ((1 - q) * (1 - q)) + c / (r * r) + d / ((1 - r) * (1 - r));
        *(g > 0 ? &lo : &hi) = q;
        double next = q + g / slope;
        if (fabs(next - q) <= 1e-9 * q || hi - lo <= 1e-12) break;
        q = next;
    }
    return sqrt(2 * (apart(x->n[0], x->p[0], q) + apart(n1, x->p[1], q + by)));
}

/* The difference between the estimate and bound at which the root is crit. */
static double invert(const pair *x, double n1, double bound, double crit) {
    double in = x->p[1] - x->p[0], out = bound;
    for (int i = 0; i < 40 && fabs(out - in) > 1e-7; i++) {
        double mid = (in + out) / 2;
        *(root_of(x, n1, mid) < crit ? &in : &out) = mid;
    }
    return out;
}

static double low_of(const pair *x, double alpha) {
    double crit = student(boundary(alpha, x->ratio), x->nu);
    if (x->share && x->n_hit < MIN_HIT) return -1;
    if (!x->share) return x->d - x->se * crit;
    pair least = *x;
    least.p[1] *= x->ended;
    return invert(&least, x->n[1], -1 + 1e-9, crit);
}
static double high_of(const pair *x, double alpha) {
    double crit = student(boundary(alpha, x->ratio), x->nu);
    return x->share ? invert(x, x->n_high, 1 - 1e-9, crit) : x->d + x->se_high * crit;
}

static double margin_of(const srn_rollout *r, unsigned m) {
    const srn_guardrail *g = &r->guards[m];
    return g->set && srn_metric_is_ratio((srn_metric)m) ? srn_log(g->margin) : g->margin;
}

/* Alpha over the guardrails by their parts, and over the steps evenly. */
static double alpha_of(const srn_rollout *r, unsigned m) {
    double all = 0;
    for (unsigned i = 0; i < SRN_METRIC_END; i++)
        if (r->guards[i].set || i == m) all += srn__metric_part((srn_metric)i);
    return r->alpha * srn__metric_part((srn_metric)m) / all / r->n_steps;
}

/* The part of a metric's alpha that is for bets on subjects. */
static double bets_of(unsigned m) {
    return m == SRN_METRIC_DIVERGENCE ? 0.5 : m == SRN_METRIC_ERROR ? 0.2 : 0;
}

/* Of the interval's two ends: what the bets leave; of length half for each side. */
static void alphas_of(double alpha, unsigned m, double *ret_low, double *ret_high) {
    *ret_low = m == SRN_METRIC_LENGTH ? alpha / 2 : alpha * (1 - bets_of(m));
    *ret_high = m == SRN_METRIC_LENGTH ? alpha / 2 : SRN_CLEAR_ALPHA;
}

static double evalue_of(const srn__stratum *s, unsigned m) {
    return m == SRN_METRIC_DIVERGENCE ? s->evalue : m == SRN_METRIC_ERROR ? s->fault_evalue : 1;
}

/* Bets on errors, which see a subject's calls as they end, stand only while the calls in flight, all of them
 * good, would still leave the canary beyond its margin. */
static bool has_won(const srn_finding *f, unsigned m, uint32_t n_open) {
    if (!(bets_of(m) > 0) || f->evalue < 1 / (bets_of(m) * f->alpha)) return false;
    double base = isfinite(f->mean[0]) ? f->mean[0] : 0;
    return m != SRN_METRIC_ERROR || f->mean[1] * ended_of(m, f->n_calls[1], n_open) - base > f->margin;
}

/* Much shorter is as suspect as much longer; but of a slow canary the short ones end first, so that few may
 * be in flight then. */
static bool has_shrunk(const srn_finding *f, unsigned m, uint32_t n_open) {
    return m == SRN_METRIC_LENGTH && f->high < 1 / f->margin && FLIGHTS * (uint64_t)n_open <= f->n_calls[1];
}

static void judge(srn_finding *f, unsigned m, uint32_t n_open) {
    bool both = m == SRN_METRIC_LENGTH;
    f->broken = f->guarded && (f->low > f->margin || has_shrunk(f, m, n_open) || has_won(f, m, n_open));
    f->cleared =
        f->guarded && f->enough && !f->broken && f->high < f->margin && (!both || f->low > 1 / f->margin);
}

static void find(const srn_rollout *r, const srn__stratum *s, unsigned m, uint32_t n_open, srn_finding *f) {
    pair x;
    bool ratio = srn_metric_is_ratio((srn_metric)m);
    *f = (srn_finding){.guarded = r->guards[m].set, .margin = r->guards[m].margin, .evalue = 1};
    f->alpha = alpha_of(r, m);
    f->variance = f->freedom = f->estimate = f->low = f->high = NAN;
    for (unsigned side = 0; side < 2; side++) count(&s->sums[side][m], f, side);
    f->evalue = evalue_of(s, m);
    f->enough = compare(&s->sums[0][m], &s->sums[1][m], m, margin_of(r, m), n_open, &x);
    if (f->enough) {
        double alpha, clear;
        alphas_of(f->alpha, m, &alpha, &clear);
        f->variance = x.se * x.se;
        f->freedom = x.nu;
        f->estimate = x.d;
        f->low = low_of(&x, alpha);
        f->high = high_of(&x, clear);
        if (ratio) f->estimate = srn_exp(x.d), f->low = srn_exp(f->low), f->high = srn_exp(f->high);
    }
    judge(f, m, n_open);
}

/* The step whose arms are compared: where all is canary, the newest before it. */
static uint32_t compared_step(const srn_rollout *r, uint32_t step) {
    step = SRN_MIN(step, r->n_steps - 1);
    return step && r->steps[step] >= 1 ? step - 1 : step;
}

/* Whether the interval's low end is beyond the margin, or (high) its high end within it, but for the last
 * digits: dearer tests come only where a cheap one has not answered. */
static bool may_break(const pair *x, double alpha, double margin, double sign) {
    pair least = *x;
    least.p[1] *= x->ended;
    double d = (x->share ? least.p[1] - least.p[0] : sign * x->d) - margin;
    double se = sign > 0 ? x->se : x->se_high;
    if (!(d > 0) || (x->share && x->n_hit < MIN_HIT)) return false;
    double z = x->share ? root_of(&least, x->n[1], margin) : d / se;
    return z > 1.9 && z > 0.999 * student(boundary(alpha, x->ratio), x->nu);
}
static bool may_clear(const pair *x, double alpha, double margin) {
    if (!(x->d < margin)) return false;
    double z = x->share ? root_of(x, x->n_high, margin) : (margin - x->d) / x->se_high;
    return z > 1.9 && z > 0.999 * student(boundary(alpha, x->ratio), x->nu);
}

/* A guardrail that the step can tell of: one of copies alone has neither times nor feedback. */
static bool is_guarded(const srn_rollout *r, uint32_t step, unsigned m) {
    return r->guards[m].set && (r->steps[step] > 0 || !srn__metric_is_lived((srn_metric)m));
}

bool srn__look_may_speak(const srn_rollout *r, const srn_evidence *e, const srn_step_is *is) {
    const srn__stratum *s = srn__evidence_stratum(e, compared_step(r, is->step));
    bool clear = s->n_calls[0] >= r->min_calls && s->n_calls[1] >= r->min_calls &&
                 s->n_subjects[0] >= r->min_subjects && s->n_subjects[1] >= r->min_subjects;
    bool last = is->step + 1 >= r->n_steps || r->clear_every_step;
    for (unsigned m = 0; m < SRN_METRIC_END; m++) {
        pair x;
        double margin = margin_of(r, m), low, high;
        if (!is_guarded(r, SRN_MIN(is->step, r->n_steps - 1), m)) continue;
        alphas_of(alpha_of(r, m), m, &low, &high);
        if (bets_of(m) > 0 && evalue_of(s, m) >= 1 / (bets_of(m) * alpha_of(r, m))) return true;
        if (!compare(&s->sums[0][m], &s->sums[1][m], m, margin, is->n_open, &x)) {
            clear = false;
            continue;
        }
        if (may_break(&x, low, margin, 1)) return true;
        if (m == SRN_METRIC_LENGTH && may_break(&x, high, margin, -1)) return true;
        clear = clear && x.d <= margin && (!last || may_clear(&x, high, margin));
    }
    return clear;
}

void srn_look_at(const srn_rollout *r, const srn_evidence *e, const srn_step_is *is, uint64_t now_us,
                 srn_look *ret) {
    uint32_t step = SRN_MIN(is->step, r->n_steps - 1), compared = compared_step(r, step);
    const srn__stratum *s = srn__evidence_stratum(e, step);
    *ret = (srn_look){.step = step, .compared = compared, .at_us = now_us};
    ret->srm_p = s->split_p > 0 ? s->split_p : 1;
    ret->n_exposed = s->n_exposed;
    for (unsigned i = 0; i < 2; i++) ret->n_subjects[i] = s->n_subjects[i], ret->n_calls[i] = s->n_calls[i];
    ret->newest_us = s->newest_us;
    ret->observed_us = s->observed_us;
    ret->since_canary = s->since_canary;
    for (unsigned m = 0; m < SRN_METRIC_END; m++)
        find(r, srn__evidence_stratum(e, compared), m, is->n_open, &ret->findings[m]);
    srn_look_again(r, is, ret);
}

/* ---- the verdict ---- */

static void say(srn_look *l, srn_verdict v, unsigned m, const char *fmt, ...) SRN_PRINTF(4, 5);
static void say(srn_look *l, srn_verdict v, unsigned m, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(l->why, sizeof l->why, fmt, ap);
    va_end(ap);
    l->verdict = v;
    l->metric = (srn_metric)m;
}

static bool roll_back_of(const srn_rollout *r, const srn_step_is *is, srn_look *l) {
    (void)r;
    for (unsigned m = 0; m < SRN_METRIC_END; m++) {
        const srn_finding *f = &l->findings[m];
        const char *name = srn_metric_name((srn_metric)m);
        if (!f->broken) continue;
        if (f->low > f->margin)
            say(l, SRN_VERDICT_ROLL_BACK, m, "%s is worse by %.4g, at least by %.4g; the margin is %.4g",
                name, f->estimate, f->low, f->margin);
        else if (m == SRN_METRIC_DIVERGENCE)
            say(l, SRN_VERDICT_ROLL_BACK, m,
                "divergence of the subjects' first calls is not within %.4g: odds of %.3g to 1", f->margin,
                f->evalue);
        else if (m == SRN_METRIC_ERROR)
            say(l, SRN_VERDICT_ROLL_BACK, m,
                "more of the canary's subjects meet errors than a margin of %.4g explains: odds of %.3g to 1",
                f->margin, f->evalue);
        else
            say(l, SRN_VERDICT_ROLL_BACK, m, "%s has shrunk to %.4g, at most %.4g; the margin is %.4g", name,
                f->estimate, f->high, 1 / f->margin);
        return true;
    }
    if (is->n_open && is->oldest_open_us && l->newest_us > is->oldest_open_us &&
        l->newest_us - is->oldest_open_us >= DEAD_US && is->last_canary_us <= is->oldest_open_us &&
        l->since_canary >= DEAD_CALLS) {
        say(l, SRN_VERDICT_ROLL_BACK, SRN_METRIC_END,
            "the canary is dead: %u calls have not ended, the oldest for %llu s, while the control answered "
            "%llu",
            is->n_open, (unsigned long long)((l->newest_us - is->oldest_open_us) / 1000000),
            (unsigned long long)l->since_canary);
        return true;
    }
    return false;
}

/* Few say what they think, which is as it should be; that others do in the canary than elsewhere would let
 * marks differ by who gives them. Counted by subjects, next to how many there would be. */
static bool is_silent(srn_look *l) {
    const srn_finding *f = &l->findings[SRN_METRIC_FEEDBACK];
    double q[2], n[2];
    for (unsigned i = 0; i < 2; i++) {
        n[i] = SRN_MAX(1.0, (double)(f->n_subjects[i] + f->n_missing[i]));
        q[i] = (double)f->n_subjects[i] / n[i];
    }
    double p = (q[0] * n[0] + q[1] * n[1]) / (n[0] + n[1]),
           chance = 4 * sqrt(p * (1 - p) * (1 / n[0] + 1 / n[1]));
    if (fabs(q[1] - q[0]) <= SRN_MAX(q[0], q[1]) * SILENT + chance) return false;
    say(l, SRN_VERDICT_HOLD, SRN_METRIC_FEEDBACK,
        "%.1f %% of the canary's subjects gave feedback, and %.1f %% of the others", 100 * q[1], 100 * q[0]);
    return true;
}

/* Whether a guarded metric is missing more often in the canary than chance explains, or has stopped. */
static bool is_missing(srn_look *l, unsigned m) {
    const srn_finding *f = &l->findings[m];
    double q[2], n[2];
    if (m == SRN_METRIC_DIVERGENCE) return false; /* a budget decides which calls are judged */
    if (m == SRN_METRIC_FEEDBACK) return is_silent(l);
    if (srn__metric_of_tail((srn_metric)m) < SRN_METRIC_END) return false; /* follows from another one */
    for (unsigned i = 0; i < 2; i++) {
        double all = (double)(f->n_calls[i] + f->n_missing[i]);
        n[i] = SRN_MAX(1.0, (double)f->n_subjects[i]);
        q[i] = all > 0 ? (double)f->n_missing[i] / all : 0;
    }
    double p = (q[0] + q[1]) / 2, chance = 4 * sqrt(p * (1 - p) * (1 / n[0] + 1 / n[1]));
    if (fabs(q[1] - q[0]) > 0.1 + chance) {
        say(l, SRN_VERDICT_HOLD, m,
            "%s is missing in %.1f %% of the canary's calls and %.1f %% of the control's",
            srn_metric_name((srn_metric)m), 100 * q[1], 100 * q[0]);
        return true;
    }
    if (f->missing_run[1] >= STOPPED_CALLS && q[0] < 0.5) {
        say(l, SRN_VERDICT_HOLD, m, "%s has not come with the canary's last %llu calls",
            srn_metric_name((srn_metric)m), (unsigned long long)f->missing_run[1]);
        return true;
    }
    return false;
}

/* What makes the evidence doubtful. */
static bool doubt_of(const srn_rollout *r, const srn_step_is *is, srn_look *l) {
    double seen = (double)(l->n_subjects[0] + l->n_subjects[1]);
    if (l->at_us < is->step_started_us || l->at_us < is->started_us || l->newest_us > l->at_us + CLOCK_US) {
        say(l, SRN_VERDICT_HOLD, SRN_METRIC_END, "the clock has gone back; waiting until it has caught up");
        return true;
    }
    if (l->srm_p < SRM_P) {
        say(l, SRN_VERDICT_HOLD, SRN_METRIC_END,
            "the subjects are not split as declared: %llu of the control, %llu of the canary, p %.2g",
            (unsigned long long)l->n_subjects[0], (unsigned long long)l->n_subjects[1], l->srm_p);
        return true;
    }
    if ((double)l->n_exposed > 3 + EXPOSED * seen) {
        say(l, SRN_VERDICT_HOLD, SRN_METRIC_END, "%llu of %.0f subjects saw both arms",
            (unsigned long long)l->n_exposed, seen);
        return true;
    }
    for (unsigned m = 0; m < SRN_METRIC_END; m++)
        if (is_guarded(r, l->step, m) && is_missing(l, m)) return true;
    return false;
}

static bool wait_of(const srn_rollout *r, srn_look *l) {
    static const char *const arms[] = {"control", "canary"};
    bool alone = r->steps[l->step] >= 1; /* there is no control */
    for (unsigned i = alone; i < 2; i++) {
        if (l->n_subjects[i] >= r->min_subjects && l->n_calls[i] >= r->min_calls) continue;
        say(l, SRN_VERDICT_HOLD, SRN_METRIC_END, "the %s has %llu of %u subjects and %llu of %u calls",
            arms[i], (unsigned long long)l->n_subjects[i], r->min_subjects, (unsigned long long)l->n_calls[i],
            r->min_calls);
        return true;
    }
    if (l->observed_us < r->min_time_us) {
        say(l, SRN_VERDICT_HOLD, SRN_METRIC_END, "the step has had calls for %llu s of %llu",
            (unsigned long long)(l->observed_us / 1000000), (unsigned long long)(r->min_time_us / 1000000));
        return true;
    }
    return false;
}

/* The first guardrail that does not let the step end. */
static bool unclear_of(const srn_rollout *r, srn_look *l) {
    bool clear = r->clear_every_step || l->step + 1 >= r->n_steps;
    for (unsigned m = 0; m < SRN_METRIC_END; m++) {
        const srn_finding *f = &l->findings[m];
        const char *name = srn_metric_name((srn_metric)m);
        if (!is_guarded(r, l->step, m)) continue;
        if (!f->enough)
            say(l, SRN_VERDICT_HOLD, m, "%s has too few subjects for a word on it%s", name,
                l->compared == l->step ? ""
                                       : " at the step before, and there is no control any more: promote it, "
                                         "or abort it");
        else if (clear && !f->cleared)
            say(l, SRN_VERDICT_HOLD, m, "%s may still be worse by %.4g; the margin is %.4g", name, f->high,
                f->margin);
        else if (!clear && !(f->estimate <= f->margin))
            say(l, SRN_VERDICT_HOLD, m, "%s seems worse by %.4g; the margin is %.4g", name, f->estimate,
                f->margin);
        else
            continue;
        return true;
    }
    return false;
}

void srn_look_again(const srn_rollout *r, const srn_step_is *is, srn_look *l) {
    l->step = SRN_MIN(l->step, r->n_steps - 1);
    for (unsigned m = 0; m < SRN_METRIC_END; m++) judge(&l->findings[m], m, is->n_open);
    if (roll_back_of(r, is, l)) return;
    bool doubt = doubt_of(r, is, l),
         over = l->at_us >= is->started_us && is->started_us && l->at_us - is->started_us >= r->max_time_us;
    if (!doubt && !wait_of(r, l) && !unclear_of(r, l)) {
        say(l, SRN_VERDICT_STEP, SRN_METRIC_END, "enough evidence, and every guardrail %s%s",
            r->clear_every_step || l->step + 1 >= r->n_steps ? "is cleared" : "holds",
            r->steps[l->step] > 0 ? "" : " that copies can tell of");
        return;
    }
    if (over && r->on_timeout == SRN_AT_END_ROLL_BACK) {
        char why[160];
        srn__canary_text(why, sizeof why, l->why);
        say(l, SRN_VERDICT_ROLL_BACK, SRN_METRIC_END, "its time is over without proof: %s", why);
    }
}
