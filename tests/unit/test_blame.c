/* blame: simulated histories, of which it is known what moved the metric. Each has three models, four
 * prompts, a load that wanders over hours and swings with the day, wild outliers, six changes that did
 * nothing, and a shift of the traffic (which prompts, and how long they are) that begins with one of these.
 * SERIN_BLAME_SEEDS says how many histories there are of each sort (200 for the figures of docs/blame.md),
 * SERIN_BLAME_SHOW=1 prints those that went wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "ledger/blame.h"

enum { MODELS = 3, PROMPTS = 4, DECOYS = 6, MAX_CALLS = 12000, DAYS = 14 };
#define DAY_US (86400.0 * 1e6)

typedef struct history {
    srn_blame_call calls[MAX_CALLS];
    uint32_t n;
    srn_blame_event events[DECOYS + 1];
    uint32_t n_events;
    uint32_t culprit; /* index of the change that did it */
    bool rate;
    uint64_t seed, random;
} history;

/* ---- random numbers ---- */

static uint64_t next(history *h) {
    uint64_t z = (h->random += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}
static double uniform(history *h, double a, double b) {
    return a + (b - a) * (double)(next(h) >> 11) * 0x1p-53;
}
static uint32_t below(history *h, uint32_t n) {
    return (uint32_t)(next(h) % n);
}
static double normal(history *h) {
    double u = uniform(h, 1e-12, 1);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * uniform(h, 0, 1));
}
static uint32_t weighted(history *h, const double *weights, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += weights[i];
    double at = uniform(h, 0, sum);
    for (uint32_t i = 0; i + 1 < n; i++)
        if ((at -= weights[i]) < 0) return i;
    return n - 1;
}

/* ---- a history ---- */

typedef struct world {
    double level[MODELS][PROMPTS], length[PROMPTS], models[MODELS];
    double mix[2][PROMPTS], longer; /* before and after the shift of the traffic */
    double shift_us, over_us;       /* when it begins, how long it takes */
    double effect;                  /* in logarithms, or of the rate */
} world;

static void make_world(history *h, world *w, bool shifts) {
    for (int m = 0; m < MODELS; m++)
        for (int p = 0; p < PROMPTS; p++)
            w->level[m][p] = h->rate ? uniform(h, 0.02, 0.2) : exp(uniform(h, -1, 1)) * 20000;
    for (int p = 0; p < PROMPTS; p++) {
        w->length[p] = exp(uniform(h, 4, 7));
        w->mix[0][p] = uniform(h, 0.15, 1);
        w->mix[1][p] = shifts ? uniform(h, 0.15, 1) : w->mix[0][p];
    }
    for (int m = 0; m < MODELS; m++) w->models[m] = uniform(h, 0.3, 1);
    w->longer = shifts ? uniform(h, -0.7, 0.7) : 0;
    w->shift_us = (double)h->events[below(h, DECOYS)].t_us;
    w->over_us = below(h, 2) ? uniform(h, 0.2, 3) * DAY_US : 1;
}

static srn_blame_event make_event(history *h, double from, double to) {
    srn_blame_event e = {.t_us = (uint64_t)(uniform(h, from, to) * DAYS * DAY_US)};
    uint32_t about = below(h, 4);
    if (about == 0) e.model = 1 + below(h, MODELS);
    if (about == 1) e.prompt = 1 + below(h, PROMPTS);
    return e;
}

static void make_call(history *h, const world *w, srn_blame_call *c, double load, bool moved) {
    double t = (double)c->t_us, after = t < w->shift_us ? 0 : SRN_MIN((t - w->shift_us) / w->over_us, 1);
    double mix[PROMPTS];
    for (int p = 0; p < PROMPTS; p++) mix[p] = (1 - after) * w->mix[0][p] + after * w->mix[1][p];
    uint32_t m = weighted(h, w->models, MODELS), p = weighted(h, mix, PROMPTS);
    c->model = m + 1;
    c->prompt = p + 1;
    c->kind = below(h, 2);
    c->size = floor(w->length[p] * exp(0.6 * normal(h) + after * w->longer));
    const srn_blame_event *e = &h->events[h->culprit];
    bool hit = moved && c->t_us >= e->t_us && (!e->model || e->model == c->model) &&
               (!e->prompt || e->prompt == c->prompt);
    double effect = hit ? w->effect : 0;
    if (h->rate) {
        c->value = uniform(h, 0, 1) < w->level[m][p] * exp(load) + effect;
        return;
    }
    double noise = 0.35 * normal(h) + load + effect + 0.6 * log(c->size / 256 + 0.1);
    if (below(h, 50) == 0) noise += uniform(h, 0.5, 2.5);
    c->value = w->level[m][p] * exp(noise);
}

static int by_time(const void *a, const void *b) {
    const srn_blame_call *x = a, *y = b;
    return (x->t_us > y->t_us) - (x->t_us < y->t_us);
}

/* Of a change that did something, the last part of the history and the first have calls of their own. */
static history *make_history(uint64_t seed, bool moved, bool shifts) {
    history *h = calloc(1, sizeof *h);
    assert_non_null(h);
    h->seed = seed;
    h->random = seed * 2 + moved;
    h->rate = below(h, 10) < 3;
    h->n = 4000 + below(h, MAX_CALLS - 4000);
    h->n_events = DECOYS + moved;
    for (uint32_t e = 0; e < DECOYS; e++) h->events[e] = make_event(h, 0.02, 0.98);
    world w = {0};
    make_world(h, &w, shifts);
    if (moved) {
        h->culprit = below(h, DECOYS + 1);
        h->events[DECOYS] = h->events[h->culprit];
        h->events[h->culprit] = make_event(h, 0.15, 0.85);
        w.effect = h->rate ? uniform(h, 0.1, 0.3) : log1p(uniform(h, 0.25, 0.8)) * (below(h, 2) ? 1 : -1);
    }
    for (uint32_t i = 0; i < h->n; i++) {
        double t;
        do t = uniform(h, 0, DAYS);
        while (uniform(h, 0, 1.5) > 1 + 0.5 * sin(6.283185307179586 * t));
        h->calls[i].t_us = (uint64_t)(t * DAY_US);
    }
    qsort(h->calls, h->n, sizeof *h->calls, by_time);
    double load = 0, last = 0;
    for (uint32_t i = 0; i < h->n; i++) { /* wanders with a memory of two hours */
        double t = (double)h->calls[i].t_us, keep = exp(-(t - last) / (DAY_US / 12));
        load = keep * load + sqrt(1 - keep * keep) * 0.1 * normal(h);
        make_call(h, &w, &h->calls[i], load + 0.1 * sin(6.283185307179586 * t / DAY_US), moved);
        last = t;
    }
    return h;
}

static srn_blame_result blame(const history *h) {
    srn_blame_opts o = {.rate = h->rate};
    srn_blame_result r;
    srn_err err = {0};
    if (srn_blame(&o, h->calls, h->n, h->events, h->n_events, &r, &err)) fail_msg("%s", err.text);
    return r;
}

static uint32_t histories(void) {
    const char *text = getenv("SERIN_BLAME_SEEDS");
    return text ? (uint32_t)strtoul(text, NULL, 10) : 24;
}

static void show(const history *h, const srn_blame_result *r) {
    if (!getenv("SERIN_BLAME_SHOW")) return;
    printf("seed %llu: %u calls, rate %d, moved %d since %u, p %.4f\n", (unsigned long long)h->seed, h->n,
           h->rate, r->moved, r->first, r->p);
    for (uint32_t e = 0; e < h->n_events; e++)
        printf("  %c change %u at %.4f about %u/%u\n", e == h->culprit && h->n_events > DECOYS ? '*' : ' ', e,
               (double)h->events[e].t_us / DAYS / DAY_US, h->events[e].model, h->events[e].prompt);
    for (uint32_t i = 0; i < r->n_findings; i++)
        printf("  found %u: step %u, %.3f from %.4g to %.4g, p %.4f, share %.2f, %u and %u calls\n",
               r->findings[i].event, r->findings[i].step, r->findings[i].change, r->findings[i].before,
               r->findings[i].after, r->findings[i].p, r->findings[i].share, r->findings[i].n_before,
               r->findings[i].n_after);
}

/* ---- what is promised ---- */

static void the_change_that_did_it_is_named_first(void **state) {
    (void)state;
    uint32_t n = histories(), right = 0, more = 0;
    for (uint32_t seed = 1; seed <= n; seed++) {
        history *h = make_history(seed, true, true);
        srn_blame_result r = blame(h);
        bool named = r.n_findings && r.findings[0].event == h->culprit;
        if (!named) show(h, &r);
        right += named;
        more += named && r.n_findings > 1;
        free(h);
    }
    print_message("named first in %u of %u histories (%u with others beside it)\n", right, n, more);
    assert_true(right >= 0.95 * n - (n < 100 ? 1 : 0)); /* one of a few is chance */
}

static void where_nothing_changed_nothing_is_accused(void **state) {
    (void)state;
    uint32_t n = histories(), accused = 0;
    for (uint32_t seed = 1; seed <= n; seed++) {
        history *h = make_history(1000000 + seed, false, true);
        srn_blame_result r = blame(h);
        if (r.n_findings) show(h, &r);
        accused += r.n_findings > 0;
        free(h);
    }
    print_message("something was accused in %u of %u histories without a change\n", accused, n);
    assert_true(accused <= 0.01 * n);
}

/* The raw metric moves with the traffic, or the histories would show nothing. */
static void the_shift_of_the_traffic_moves_the_raw_metric(void **state) {
    (void)state;
    double most = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        history *h = make_history(1000000 + seed, false, true);
        double sum[2] = {0};
        uint32_t half = h->n / 2;
        for (uint32_t i = 0; i < h->n; i++) sum[i >= half] += h->calls[i].value;
        most = SRN_MAX(most, fabs(log(sum[1] / (h->n - half) * half / sum[0])));
        free(h);
    }
    print_message("the raw metric moved by up to %.0f %%\n", 100 * expm1(most));
    assert_true(most > 0.1);
}

/* ---- small histories ---- */

enum { FEW = 600 };
/* One kind of call whose value is 100 with a little noise, and from `from` on 100 * by. */
static void make_few(srn_blame_call calls[FEW], uint32_t from, double by) {
    history h = {.random = 7};
    for (uint32_t i = 0; i < FEW; i++)
        calls[i] = (srn_blame_call){.t_us = i * 1000,
                                    .model = 1,
                                    .prompt = 1,
                                    .size = 100,
                                    .value = (100 + uniform(&h, -5, 5)) * (i >= from ? by : 1)};
}

static srn_blame_result blame_few(const srn_blame_call *calls, const srn_blame_event *events, uint32_t n) {
    srn_blame_opts o = {0};
    srn_blame_result r;
    assert_int_equal(srn_blame(&o, calls, FEW, events, n, &r, NULL), SRN_OK);
    return r;
}

static void a_finding_says_since_when_and_by_how_much(void **state) {
    (void)state;
    static srn_blame_call calls[FEW];
    make_few(calls, 400, 1.2);
    const srn_blame_event events[] = {{.t_us = 100000}, {.t_us = 399500}};
    srn_blame_result r = blame_few(calls, events, 2);
    assert_int_equal(r.n_findings, 1);
    const srn_blame_finding *f = &r.findings[0];
    assert_int_equal(f->event, 1);
    assert_int_equal(f->first, 400);
    assert_true(r.first >= 398 && r.first <= 402);
    assert_true(r.moved && f->p <= 0.005 && f->share > 0.99);
    assert_true(fabs(f->before - 100) < 1 && fabs(f->after - 120) < 1.2 && fabs(f->change - 0.2) < 0.02);
    assert_true(f->low < 0.2 && f->high > 0.2 && f->n_before == 400 && f->n_after == 200);
}

static void a_movement_far_from_every_change_is_told_and_nobody_accused(void **state) {
    (void)state;
    static srn_blame_call calls[FEW];
    make_few(calls, 400, 1.2);
    const srn_blame_event events[] = {{.t_us = 100000}, {.t_us = 300000}};
    srn_blame_result r = blame_few(calls, events, 2);
    assert_true(r.moved && r.first >= 398 && r.first <= 402 && r.n_findings == 0);
}

static void a_change_that_is_about_other_calls_is_not_accused(void **state) {
    (void)state;
    static srn_blame_call calls[FEW];
    make_few(calls, 400, 1.2);
    for (uint32_t i = 0; i < FEW; i += 2) { /* model 2 stays as it was */
        calls[i].model = 2;
        if (i >= 400) calls[i].value /= 1.2;
    }
    const srn_blame_event events[] = {
        {.t_us = 399500, .model = 2}, {.t_us = 399500}, {.t_us = 399500, .model = 1}};
    srn_blame_result r = blame_few(calls, events, 3);
    assert_true(r.n_findings >= 1);
    assert_int_equal(r.findings[0].event, 2);
    for (uint32_t i = 0; i < r.n_findings; i++) assert_int_not_equal(r.findings[i].event, 0);
}

static void changes_that_no_call_lies_between_come_in_the_callers_order(void **state) {
    (void)state;
    static srn_blame_call calls[FEW];
    make_few(calls, 400, 0.8);
    const srn_blame_event events[] = {{.t_us = 399300, .order = 2}, {.t_us = 399500, .order = 1}};
    srn_blame_result r = blame_few(calls, events, 2);
    assert_int_equal(r.n_findings, 2);
    assert_int_equal(r.findings[0].event, 1);
    assert_int_equal(r.findings[1].event, 0);
    assert_true(fabs(r.findings[0].share - 0.5) < 1e-9 && r.findings[0].change < 0);
}

static void two_movements_are_two_steps(void **state) {
    (void)state;
    static srn_blame_call calls[FEW];
    make_few(calls, 400, 1.5);
    for (uint32_t i = 150; i < FEW; i++) calls[i].value *= 1.3;
    const srn_blame_event events[] = {{.t_us = 149500}, {.t_us = 399500}, {.t_us = 280000}};
    srn_blame_result r = blame_few(calls, events, 3);
    assert_int_equal(r.n_findings, 2);
    assert_int_equal(r.findings[0].event + r.findings[1].event, 1);
    assert_true(r.findings[0].step == 0 && r.findings[1].step == 1);
}

static void a_slow_drift_is_no_changes_fault(void **state) {
    (void)state;
    static srn_blame_call calls[FEW];
    make_few(calls, FEW, 1);
    for (uint32_t i = 0; i < FEW; i++) calls[i].value *= 1 + 0.3 * i / FEW;
    const srn_blame_event events[] = {{.t_us = 290000}, {.t_us = 310000}};
    srn_blame_result r = blame_few(calls, events, 2);
    assert_true(r.moved && r.n_findings == 0);
}

/* Of one class, 128 to 181 tokens, calls become longer, and what grows with them too. */
static void what_grows_with_the_size_of_calls_is_not_a_movement(void **state) {
    (void)state;
    static srn_blame_call calls[FEW];
    history h = {.random = 11};
    make_few(calls, FEW, 1);
    for (uint32_t i = 0; i < FEW; i++) {
        calls[i].size = floor(uniform(&h, i < 300 ? 130 : 145, i < 300 ? 160 : 180));
        calls[i].value *= calls[i].size / 150;
    }
    const srn_blame_event event = {.t_us = 299500};
    srn_blame_result r = blame_few(calls, &event, 1);
    assert_true(!r.moved && r.n_findings == 0);
    for (uint32_t i = 0; i < FEW; i++) calls[i].size = 150; /* had it not been their size */
    r = blame_few(calls, &event, 1);
    assert_true(r.moved && r.n_findings == 1);
}

static void too_few_calls_and_too_many_changes_are_refused(void **state) {
    (void)state;
    static srn_blame_call calls[FEW];
    static srn_blame_event events[SRN_BLAME_MAX_EVENTS + 1];
    srn_blame_opts o = {0};
    srn_blame_result r;
    srn_err err;
    make_few(calls, FEW, 1);
    assert_int_equal(srn_blame(&o, calls, SRN_BLAME_MIN_CALLS - 1, events, 1, &r, &err), SRN_EINVAL);
    assert_non_null(strstr(err.text, "99 calls"));
    assert_int_equal(srn_blame(&o, calls, FEW, events, SRN_LEN(events), &r, &err), SRN_ELIMIT);
}

static void calls_that_are_all_alike_move_nothing(void **state) {
    (void)state;
    static srn_blame_call calls[FEW];
    make_few(calls, FEW, 1);
    const srn_blame_event event = {.t_us = 300000};
    for (uint32_t i = 0; i < FEW; i++) calls[i].value = 5;
    srn_blame_result r = blame_few(calls, &event, 1);
    assert_true(!r.moved && r.n_findings == 0 && r.p == 1);
    for (uint32_t i = 0; i < FEW; i++) calls[i].model = i; /* no two can be compared */
    r = blame_few(calls, &event, 1);
    assert_true(!r.moved && r.n_compared == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_change_that_did_it_is_named_first),
        cmocka_unit_test(where_nothing_changed_nothing_is_accused),
        cmocka_unit_test(the_shift_of_the_traffic_moves_the_raw_metric),
        cmocka_unit_test(a_finding_says_since_when_and_by_how_much),
        cmocka_unit_test(a_movement_far_from_every_change_is_told_and_nobody_accused),
        cmocka_unit_test(a_change_that_is_about_other_calls_is_not_accused),
        cmocka_unit_test(changes_that_no_call_lies_between_come_in_the_callers_order),
        cmocka_unit_test(two_movements_are_two_steps),
        cmocka_unit_test(a_slow_drift_is_no_changes_fault),
        cmocka_unit_test(what_grows_with_the_size_of_calls_is_not_a_movement),
        cmocka_unit_test(too_few_calls_and_too_many_changes_are_refused),
        cmocka_unit_test(calls_that_are_all_alike_move_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
