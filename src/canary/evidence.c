/* Evidence: sums over subjects, kept up to date one call at a time. Every arithmetic step is one of IEEE 754
 * or of base/num.h, so that the same observations in the same order give the same bits on every machine.
 * Refuses values that no call can have; drops, and counts, what is late, capped or past the cap of subjects.
 *
 * A call's score, less what the subject's history predicts and less the running mean of all arms, goes to its
 * subject's mean; a subject's weight grows with its calls but never past 1/rho (docs/canary.md, "Method").
 */
#include "canary/canary_internal.h"

#include <math.h>
#include <stdlib.h>

#include "base/num.h"

#define LN2         0.69314718055994530942
#define SPLIT_PRIOR 20.0 /* subjects' worth of belief in the declared split */
#define SLOW        0.05 /* part of the control's calls that count as slow */
#define NORMAL_95   1.6448536
enum { RUNNING = 128, WARM = 32, TAIL = 256, PAUSE_US = 600 * 1000000 };

typedef struct cell { /* a subject in the newest step */
    uint64_t subject, block;
    int32_t history;              /* index, or -1 */
    uint8_t side, seen, in_block; /* seen: bit of each side, 4 when both were */
    uint16_t hit;                 /* bits of metrics that were above 0 */
    bool split, counted;          /* in the split of subjects, among the step's subjects */
    bool silent;                  /* has had calls, and given no feedback */
    uint32_t n_bad;               /* its calls whose mark is not wholly good */
    uint32_t n[SRN_METRIC_END];
    double sum[SRN_METRIC_END];
} cell;

typedef struct past { /* what history says of a subject, by metric */
    uint64_t subject;
    float shift[SRN_METRIC_END], rho[SRN_METRIC_END];
} past;

typedef struct mark { /* what was said last of a call */
    uint64_t call;
    double bad;
} mark;

typedef struct map { /* open addressing; values are index + 1, 0 is free */
    uint32_t *slots;
    uint32_t mask;
} map;

typedef struct running { /* mean and spread of scores of all arms, of late */
    double mean, var;
    uint32_t n;
    double slow; /* of latencies: beyond it are 5 % of the control's residuals, in spreads */
    uint32_t n_slow;
} running;

struct srn_evidence {
    uint32_t n_steps, step;
    double split[SRN_ROLLOUT_STEPS]; /* share of subjects that go to the canary, of those in either arm */
    bool copies[SRN_ROLLOUT_STEPS];  /* it has nothing else */
    double bets[SRN__BETS], bet_mean, fault_margin;
    srn__stratum strata[SRN_ROLLOUT_STEPS];
    running now[SRN_METRIC_END];
    cell *cells;
    uint32_t n_cells, cap_cells;
    map cell_map;
    past *pasts;
    uint32_t n_pasts;
    map past_map;
    mark *marks; /* of the newest step */
    uint32_t n_marks, cap_marks;
    map mark_map;
    bool begun;
};

/* ---- a table from subjects to indices ---- */

static uint32_t hash_of(uint64_t x) {
    x ^= x >> 30, x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27, x *= 0x94d049bb133111ebu;
    return (uint32_t)(x >> 32) ^ (uint32_t)x;
}

/* Of things that begin with their subject, stride bytes apart. */
static uint32_t *slot_of(const map *m, const void *items, size_t stride, uint64_t subject) {
    for (uint32_t i = hash_of(subject) & m->mask;; i = (i + 1) & m->mask) {
        uint64_t have;
        if (!m->slots[i]) return &m->slots[i];
        memcpy(&have, (const char *)items + (m->slots[i] - 1) * stride, sizeof have);
        if (have == subject) return &m->slots[i];
    }
}

/* A table for `room` items that holds the n there are. */
static bool map_grow(map *m, const void *items, size_t stride, uint32_t n, uint32_t room) {
    uint32_t size = 256;
    while (size < 2 * (room + 1)) size *= 2;
    map next = {.slots = srn_calloc(size, sizeof *next.slots), .mask = size - 1};
    if (!next.slots) return false;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t subject;
        memcpy(&subject, (const char *)items + i * stride, sizeof subject);
        *slot_of(&next, items, stride, subject) = i + 1;
    }
    free(m->slots);
    *m = next;
    return true;
}

/* ---- life ---- */

static void map_clear(map *m) {
    if (m->slots) memset(m->slots, 0, ((size_t)m->mask + 1) * sizeof *m->slots);
}

static void begin_step(srn_evidence *e, uint32_t step) {
    srn__stratum *s = &e->strata[step];
    e->step = step;
    e->n_cells = e->n_marks = 0;
    map_clear(&e->cell_map);
    map_clear(&e->mark_map);
    s->split_p = 1;
    s->evalue = s->fault_evalue = 1;
    for (int i = 0; i < SRN__BETS; i++) s->wealth[i] = 1;
}

int srn_evidence_new(const srn_rollout *r, srn_evidence **ret, srn_err *err) {
    static const double parts[SRN__BETS] = {0.8, 0.3, 0.1, 0.03};
    srn_evidence *e = srn_calloc(1, sizeof *e);
    if (!e) return srn_fail_nomem(err, sizeof *e);
    e->n_steps = r->n_steps;
    for (uint32_t i = 0; i < r->n_steps; i++) e->split[i] = r->steps[i] > 0.5 ? r->steps[i] : 0.5;
    for (uint32_t i = 0; i < r->n_steps; i++) e->copies[i] = !(r->steps[i] > 0);
    e->bet_mean = SRN_MAX(r->guards[SRN_METRIC_DIVERGENCE].margin, 1e-6);
    for (int i = 0; i < SRN__BETS; i++) e->bets[i] = parts[i] / e->bet_mean;
    e->fault_margin = r->guards[SRN_METRIC_ERROR].margin;
    begin_step(e, 0);
    if (!map_grow(&e->cell_map, NULL, sizeof *e->cells, 0, 0)) {
        srn_evidence_free(e);
        return srn_fail_nomem(err, 0);
    }
    *ret = e;
    return SRN_OK;
}

void srn_evidence_free(srn_evidence *e) {
    if (!e) return;
    free(e->cells);
    free(e->cell_map.slots);
    free(e->pasts);
    free(e->past_map.slots);
    free(e->marks);
    free(e->mark_map.slots);
    free(e);
}

const srn__stratum *srn__evidence_stratum(const srn_evidence *e, uint32_t step) {
    return &e->strata[SRN_MIN(step, e->n_steps - 1)];
}

uint32_t srn__evidence_step(const srn_evidence *e) {
    return e->step;
}

/* ---- history ---- */

/* The working model's best linear prediction of a subject's level from n calls with that mean, and what it
 * leaves open; only SRN__HELD of it is believed. */
static void predict(past *p, unsigned m, uint32_t n, double mean, double all) {
    double icc = srn__metric_icc((srn_metric)m), known = icc * n / (1 - icc + icc * n);
    bool usable = n > 0 && isfinite(mean) && m != SRN_METRIC_DIVERGENCE;
    p->shift[m] = usable ? (float)(sqrt(SRN__HELD) * known * (mean - all)) : 0.0F;
    p->rho[m] = usable ? (float)(icc * (1 - SRN__HELD * known)) : (float)icc;
}

int srn_evidence_history(srn_evidence *e, const srn_history *h, size_t n, srn_err *err) {
    if (e->begun || e->pasts)
        return srn_fail(err, SRN_EINVAL, "history comes once, and before the first observation");
    n = SRN_MIN(n, (size_t)SRN__SUBJECTS_MAX);
    e->pasts = srn_calloc(n ? n : 1, sizeof *e->pasts);
    if (!e->pasts || !map_grow(&e->past_map, NULL, sizeof *e->pasts, 0, (uint32_t)n))
        return srn_fail_nomem(err, n * sizeof *e->pasts);
    for (unsigned m = 0; m < SRN_METRIC_END; m++) {
        double icc = srn__metric_icc((srn_metric)m), w = 0, wy = 0;
        for (size_t i = 0; i < n; i++) {
            if (!h[i].n[m] || !isfinite(h[i].mean[m])) continue;
            double k = h[i].n[m] / (1 - icc + icc * h[i].n[m]);
            w += k, wy += k * h[i].mean[m];
        }
        double all = w > 0 ? wy / w : 0;
        for (size_t i = 0; i < n; i++) predict(&e->pasts[i], m, h[i].n[m], h[i].mean[m], all);
        if (w > 0) e->now[m] = (running){.mean = all, .n = RUNNING / 2};
    }
    for (size_t i = 0; i < n; i++) {
        e->pasts[i].subject = h[i].subject;
        uint32_t *slot = slot_of(&e->past_map, e->pasts, sizeof *e->pasts, h[i].subject);
        if (!*slot) *slot = (uint32_t)i + 1;
    }
    e->n_pasts = (uint32_t)n;
    return SRN_OK;
}

/* ---- subjects ---- */

/* NULL: no memory, or (*ret_full) as many subjects as are counted. */
static cell *cell_of(srn_evidence *e, uint64_t subject, unsigned side, bool *ret_full) {
    *ret_full = false;
    uint32_t *slot = slot_of(&e->cell_map, e->cells, sizeof *e->cells, subject);
    if (*slot) return &e->cells[*slot - 1];
    *ret_full = e->n_cells == SRN__SUBJECTS_MAX;
    if (*ret_full) return NULL;
    if (e->n_cells == e->cap_cells) {
        uint32_t cap = e->cap_cells ? e->cap_cells * 2 : 128;
        cell *cells = srn_realloc_array(e->cells, cap, sizeof *cells);
        if (!cells) return NULL;
        e->cells = cells;
        e->cap_cells = cap;
    }
    if ((e->n_cells + 1) * 2 > e->cell_map.mask) {
        if (!map_grow(&e->cell_map, e->cells, sizeof *e->cells, e->n_cells, 2 * e->n_cells)) return NULL;
        slot = slot_of(&e->cell_map, e->cells, sizeof *e->cells, subject);
    }
    cell *c = &e->cells[e->n_cells];
    *c = (cell){.subject = subject, .history = -1, .side = (uint8_t)side};
    if (e->n_pasts)
        c->history = (int32_t)*slot_of(&e->past_map, e->pasts, sizeof *e->pasts, subject & ~SRN__COPY) - 1;
    *slot = ++e->n_cells;
    return c;
}

/* A new subject in one of the two arms: the e-value of the split against what was declared, a mixture over
 * splits with a beta prior around the declared one. */
static void count_split(srn_evidence *e, cell *c, unsigned side) {
    srn__stratum *s = &e->strata[e->step];
    double p = side ? e->split[e->step] : 1 - e->split[e->step], n = s->split[0] + s->split[1];
    c->split = true;
    if (p > 0) s->split_log += srn_log((SPLIT_PRIOR * p + s->split[side]) / (SPLIT_PRIOR + n) / p);
    s->split[side]++;
    if (s->split_log > 0) s->split_p = SRN_MIN(s->split_p, srn_exp(-s->split_log));
}

static void see(srn_evidence *e, cell *c, unsigned side) {
    c->seen |= (uint8_t)(1u << side);
    /* Above a half the growing share moves subjects, whose conversations may still be pinned: that is as
     * declared. */
    if (c->seen == 3 && e->split[e->step] <= 0.5) e->strata[e->step].n_exposed++, c->seen |= 4;
}

void srn_evidence_expose(srn_evidence *e, uint64_t subject, srn_arm arm) {
    bool full;
    unsigned side = arm == SRN_ARM_CANARY;
    if (e->copies[e->step]) return;
    /* The baseline serves the canary's subjects where the cap, or an older conversation, keeps them there. */
    cell *c = cell_of(e, subject, arm != SRN_ARM_CONTROL, &full);
    if (!c) return;
    e->begun = true;
    if (!c->split && arm != SRN_ARM_CONTROL) count_split(e, c, 1);
    if (!(c->seen & 4)) see(e, c, side);
}

/* ---- one value ---- */

/* Adds (sign 1) or takes away (-1) the subject's part of the sums. */
static void part(const srn_evidence *e, srn__sums *t, const cell *c, unsigned m, double sign) {
    const past *p = c->history < 0 ? NULL : &e->pasts[c->history];
    double icc = srn__metric_icc((srn_metric)m), n = c->n[m], rho = p ? (double)p->rho[m] : icc;
    if (!c->n[m]) return;
    double y = c->sum[m] / n, w = n / (1 - icc + n * rho), w2 = w * w;
    t->w += sign * w, t->wy += sign * w * y, t->wyy += sign * w * y * y;
    t->w2 += sign * w2, t->w2y += sign * w2 * y, t->w2yy += sign * w2 * y * y;
    t->w4 += sign * w2 * w2, t->w2_n += sign * w2 / n;
}

/* The residual of a score from the running mean of all arms, which then moves on. Logarithms are clipped at
 * four spreads. */
static double centred(running *v, double score, bool clip) {
    if (!v->n) v->mean = score;
    double d = score - v->mean, most = v->n < WARM || v->var <= 0 ? 3 : 4 * sqrt(v->var);
    if (clip) d = SRN_MAX(-most, SRN_MIN(most, d));
    double step = 1.0 / SRN_MIN(v->n + 1, (uint32_t)RUNNING);
    v->var += step * (d * d - v->var);
    v->mean += step * d;
    v->n++;
    return d;
}

static void hit(srn__sums *t, cell *c, unsigned m) {
    if (!(c->hit >> m & 1)) c->hit |= (uint16_t)(1u << m), t->n_hit++;
}

static void add_known(srn_evidence *e, cell *c, unsigned m, unsigned side, double value, double score) {
    srn__sums *t = &e->strata[e->step].sums[side][m];
    part(e, t, c, m, -1);
    if (!c->n[m]) t->n_subjects++;
    if (value > 0) hit(t, c, m);
    c->n[m]++;
    c->sum[m] += score;
    part(e, t, c, m, 1);
    t->n_calls++;
    t->missing_run = 0;
}

/* Whether a latency is among the slow ones, residual d, is decided before it moves the threshold: so of two
 * arms that are the same both have as many, whatever the threshold is. It follows the control's quantile by
 * steps (Robbins and Monro 1951) that shrink to those of a memory of about 256 calls. */
static void add_tail(srn_evidence *e, cell *c, unsigned m, unsigned side, double d, double spread) {
    running *v = &e->now[m];
    double at = spread > 0 ? d / spread : 0;
    if (v->n <= WARM || !(spread > 0)) return;
    if (!v->n_slow) v->slow = NORMAL_95;
    for (unsigned k = 0; k < SRN_METRIC_END; k++) {
        double slow = at > v->slow;
        if (srn__metric_of_tail((srn_metric)k) == (srn_metric)m) add_known(e, c, k, side, slow, slow);
    }
    if (side) return;
    v->n_slow++;
    v->slow += 10.0 / SRN_MIN(v->n_slow + 20, (uint32_t)TAIL) * ((at > v->slow) - SLOW);
}

static void bet(srn_evidence *e, double x) {
    srn__stratum *s = &e->strata[e->step];
    double all = 0;
    for (int i = 0; i < SRN__BETS; i++) {
        s->wealth[i] = SRN_MIN(1e100, s->wealth[i] * (1 + e->bets[i] * (x - e->bet_mean)));
        all += s->wealth[i] / SRN__BETS;
    }
    s->evalue = SRN_MAX(s->evalue, all);
}

/* Of feedback, which few give, it is subjects that are counted, and nobody waits for a run of it. */
static void add_missing(srn__sums *t, cell *c, unsigned m) {
    if (m != SRN_METRIC_FEEDBACK)
        t->n_missing++, t->missing_run++;
    else if (!c->n[m] && !c->silent)
        t->n_missing++, c->silent = true;
}

static void bet_on_faults(srn_evidence *e, const cell *c, unsigned side) {
    srn__stratum *s = &e->strata[e->step];
    bool failed = c->hit >> SRN_METRIC_ERROR & 1;
    if (srn__faults_add(s->faults, e->fault_margin, side, c->n[SRN_METRIC_ERROR], failed))
        s->fault_evalue = SRN_MAX(s->fault_evalue, srn__faults_evalue(s->faults));
}

static void add_value(srn_evidence *e, cell *c, unsigned m, unsigned side, double value) {
    srn__sums *t = &e->strata[e->step].sums[side][m];
    if (isnan(value)) {
        add_missing(t, c, m);
        return;
    }
    if (m == SRN_METRIC_FEEDBACK) {
        if (c->silent) t->n_missing--, c->silent = false;
        c->n_bad += value > 0;
    }
    double score = srn_metric_score((srn_metric)m, value);
    srn__kind kind = srn__metric_kind((srn_metric)m);
    if (m == SRN_METRIC_DIVERGENCE) {
        if (!c->n[m]) bet(e, value);
    } else {
        double spread = sqrt(e->now[m].var);
        if (c->history >= 0) score -= (double)e->pasts[c->history].shift[m];
        if (kind != SRN__KIND_SHARE) score = centred(&e->now[m], score, kind == SRN__KIND_LOG);
        if (srn__metric_is_latency((srn_metric)m)) add_tail(e, c, m, side, score, spread);
    }
    add_known(e, c, m, side, value, score);
    if (m == SRN_METRIC_ERROR) bet_on_faults(e, c, side);
}

/* ---- one call ---- */

static int check(const srn_evidence *e, const srn_observation *o, srn_err *err) {
    if (o->step >= e->n_steps)
        return srn_fail(err, SRN_EINVAL, "an observation of step %u; there are %u", o->step, e->n_steps);
    if (o->arm != SRN_ARM_BASELINE && o->arm != SRN_ARM_CONTROL && o->arm != SRN_ARM_CANARY)
        return srn_fail(err, SRN_EINVAL, "an observation of no arm");
    for (unsigned m = 0; m < SRN_METRIC_END; m++)
        if (!isnan(o->values[m]) && isnan(srn_metric_score((srn_metric)m, o->values[m])))
            return srn_fail(err, SRN_EINVAL, "%s: %g is out of range", srn_metric_name((srn_metric)m),
                            o->values[m]);
    return SRN_OK;
}

/* Beside calls of the canary itself, copies bring no step nearer to its end. */
static void count_call(srn__stratum *s, const srn_observation *o, unsigned side, bool ends) {
    if (o->at_us > s->newest_us) {
        if (s->newest_us) s->observed_us += SRN_MIN(o->at_us - s->newest_us, (uint64_t)PAUSE_US);
        s->newest_us = o->at_us;
    }
    if (!ends) return;
    s->n_calls[side]++;
    s->since_canary = side ? 0 : s->since_canary + 1;
}

/* Copies of a subject's calls stand beside it. */
static uint64_t key_of(const srn_observation *o) {
    return o->shadow ? o->subject | SRN__COPY : o->subject & ~SRN__COPY;
}

/* Whether such a call is compared by it, of itself. real: neither it nor what it is compared with is a copy.
 */
static bool has_metric(const srn_observation *o, bool real, srn_metric m) {
    if (srn__metric_of_tail(m) < SRN_METRIC_END || (!real && srn__metric_is_lived(m))) return false;
    return o->arm != SRN_ARM_BASELINE || !srn__metric_is_latency(m);
}

int srn_evidence_add(srn_evidence *e, const srn_observation *o, srn_err *err) {
    unsigned side = o->arm == SRN_ARM_CANARY;
    bool full;
    int code = check(e, o, err);
    if (code) return code;
    if (o->step < e->step) return SRN_OK; /* that step has been judged */
    if (o->step > e->step) begin_step(e, o->step);
    bool copies = e->copies[e->step], real = !copies && !o->shadow;
    if (copies && o->arm == SRN_ARM_BASELINE) return SRN_OK; /* nothing to be compared with */
    cell *c = cell_of(e, key_of(o), side, &full);
    if (!c) return full ? SRN_OK : srn_fail_nomem(err, sizeof *c);
    srn__stratum *s = &e->strata[e->step];
    bool ends = o->arm != SRN_ARM_BASELINE && (copies || real);
    e->begun = true;
    if (ends) {
        if (!c->split && real) count_split(e, c, side);
        s->n_subjects[side] += !c->counted;
        c->counted = true;
    }
    if (real && !(c->seen & 4)) see(e, c, side);
    count_call(s, o, side, ends);
    if (c->side != side) return SRN_OK; /* what it saw first is what it counts for */
    if (c->block != o->at_us / SRN__BLOCK_US) c->block = o->at_us / SRN__BLOCK_US, c->in_block = 0;
    if (c->in_block == SRN__BLOCK_CALLS) return SRN_OK;
    c->in_block++;
    for (unsigned m = 0; m < SRN_METRIC_END; m++)
        if (has_metric(o, real, (srn_metric)m)) add_value(e, c, m, side, o->values[m]);
    return SRN_OK;
}

/* The call's mark, or a new one, NULL; *ret_room: there is room for one more. */
static mark *mark_of(srn_evidence *e, uint64_t call, bool *ret_room, bool *ret_new) {
    *ret_new = false;
    *ret_room = true;
    if ((e->n_marks + 1) * 2 > e->mark_map.mask || !e->mark_map.slots)
        if (!map_grow(&e->mark_map, e->marks, sizeof *e->marks, e->n_marks, 2 * e->n_marks)) return NULL;
    uint32_t *slot = slot_of(&e->mark_map, e->marks, sizeof *e->marks, call);
    if (*slot) return &e->marks[*slot - 1];
    *ret_room = e->n_marks < SRN__SUBJECTS_MAX;
    if (!*ret_room) return NULL;
    if (e->n_marks == e->cap_marks) {
        uint32_t cap = e->cap_marks ? e->cap_marks * 2 : 128;
        mark *marks = srn_realloc_array(e->marks, cap, sizeof *marks);
        if (!marks) return NULL;
        e->marks = marks;
        e->cap_marks = cap;
    }
    e->marks[e->n_marks] = (mark){.call = call};
    *slot = ++e->n_marks;
    *ret_new = true;
    return &e->marks[e->n_marks - 1];
}

/* Somebody thinks otherwise now. */
static void change_mark(srn_evidence *e, cell *c, unsigned side, double was, double now) {
    const unsigned m = SRN_METRIC_FEEDBACK;
    srn__sums *t = &e->strata[e->step].sums[side][m];
    part(e, t, c, m, -1);
    c->sum[m] += now - was;
    part(e, t, c, m, 1);
    c->n_bad += now > 0;
    c->n_bad -= was > 0;
    if (c->n_bad)
        hit(t, c, m);
    else if (c->hit >> m & 1)
        c->hit &= (uint16_t) ~(1u << m), t->n_hit--;
}

static int add_mark(srn_evidence *e, cell *c, unsigned side, const srn_observation *o, srn_err *err) {
    double now = o->values[SRN_METRIC_FEEDBACK];
    bool room, new;
    mark *k = mark_of(e, o->call, &room, &new);
    if (!k) return room ? srn_fail_nomem(err, sizeof *k) : SRN_OK;
    if (new)
        add_value(e, c, SRN_METRIC_FEEDBACK, side, now);
    else
        change_mark(e, c, side, k->bad, now);
    k->bad = now;
    return SRN_OK;
}

int srn_evidence_later(srn_evidence *e, srn_metric m, const srn_observation *o, srn_err *err) {
    unsigned side = o->arm == SRN_ARM_CANARY;
    bool full;
    int code = check(e, o, err);
    if (code || isnan(o->values[m]) || o->step != e->step) return code;
    if (m == SRN_METRIC_DIVERGENCE && !side) return SRN_OK; /* the baseline's from itself is 0 */
    if (!has_metric(o, !e->copies[e->step] && !o->shadow, m)) return SRN_OK;
    cell *c = cell_of(e, key_of(o), side, &full);
    if (!c) return full ? SRN_OK : srn_fail_nomem(err, sizeof *c);
    if (c->side != side) return SRN_OK; /* what it saw first is what it counts for */
    if (m == SRN_METRIC_FEEDBACK) return add_mark(e, c, side, o, err);
    add_value(e, c, m, side, o->values[m]);
    return SRN_OK;
}
