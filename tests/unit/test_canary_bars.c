/* The bars of the method, on made traffic: what is as good is not rolled back, what is worse is caught soon.
 * A look after every call, every metric guarded, 100 to 1,000 subjects with Zipf activity, correlation of
 * their calls up to 0.2, a daily drift. SERIN_CANARY_RUNS=2000 runs that many of each shape and prints the
 * table of docs/canary.md. Seeds are fixed and printed; the method was tuned on others.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "canary_help.h"

enum { SEED = 4711, SHAPES = 10 };

static const char all_guarded[] =
    "{'name':'trial','kind':'equivalent','baseline':'small','canary':'small-q8','guardrails':{"
    "'error':'0.5%','constraint':'1%','checks':'2%','cut':'5%','ttft':'10%','itl':'5%','ttft_slow':'5%','itl_"
    "slow':'5%','length':'20%',"
    "'repetition':'2%','uncertainty':0.2,'feedback':'5%','divergence':0.02}}";

typedef struct shape {
    const char *name;
    double share;
    uint64_t calls;
    uint32_t least, most; /* subjects */
    double zipf, icc_least, icc_most, history;
    const char *effect; /* NULL: none */
    bool by_subject;
    double calls_per_day; /* 0: as is usual */
} shape;

/* 100 to 1,000 subjects, whose calls correlate by up to 0.2; or more than the weights are made for. */
#define USUAL 100, 1000, 1, .icc_most = 0.2, .history = 14000
#define ALIKE 100, 1000, 1.3, .icc_least = 0.4, .icc_most = 0.4

typedef struct figures {
    uint32_t runs, back, promoted;
    double median, p95; /* calls until the roll-back: mean of the groups' medians, largest of their p95 */
} figures;

static uint32_t runs_of(uint32_t usual) {
    const char *asked = getenv("SERIN_CANARY_RUNS");
    long n = asked ? strtol(asked, NULL, 10) : (long)usual;
    uint32_t runs = (uint32_t)SRN_MAX(n, (long)SHAPES) / SLOWER / SHAPES;
    return SRN_MAX(runs, 1);
}

/* In ten groups, from few subjects to many, each with a correlation of its own. */
static figures simulate(const shape *s, const char *declaration, uint32_t runs, uint64_t seed) {
    srn_rollout *r = declared(declaration);
    figures all = {.runs = 0};
    uint32_t groups = 0;
    for (uint32_t g = 0; g < SHAPES; g++) {
        srn_traffic t;
        srn_effect e;
        srn_simulation x;
        srn_err err = {0};
        srn_traffic_default(&t);
        t.n_subjects = s->least + (s->most - s->least) * g / (SHAPES - 1);
        t.zipf = s->zipf;
        t.icc = s->icc_least + (s->icc_most - s->icc_least) * (7 * g % SHAPES) / (SHAPES - 1);
        t.history_calls = s->history;
        if (s->calls_per_day > 0) t.calls_per_day = s->calls_per_day;
        if (s->effect) assert_int_equal(srn_effect_parse(s->effect, &e, &err), SRN_OK);
        e.by_subject = s->by_subject;
        srn_simulate_opts o = {.traffic = &t,
                               .effects = &e,
                               .n_effects = s->effect != NULL,
                               .n_runs = runs,
                               .max_calls = s->calls,
                               .seed = seed + g,
                               .share = s->share};
        if (srn_simulate(r, &o, &x, &err)) fail_msg("%s", err.text);
        all.runs += x.n_runs, all.back += x.n_rolled_back, all.promoted += x.n_promoted;
        if (isnan(x.calls_median)) continue;
        groups++;
        all.median += x.calls_median;
        all.p95 = SRN_MAX(all.p95, x.calls_p95);
    }
    all.median /= SRN_MAX(groups, 1);
    printf("| %s | %u | %.2f %% | %.2f %% | %.0f | %.0f |\n", s->name, all.runs, 100.0 * all.back / all.runs,
           100.0 * all.promoted / all.runs, all.median, all.p95);
    srn_rollout_free(r);
    return all;
}

static double share_of(uint32_t n, const figures *f) {
    return (double)n / f->runs;
}

static void what_is_as_good_is_not_rolled_back(void **state) {
    (void)state;
    static const shape s = {"the same, 50 %, 2,000 calls", 0.5, 2000, USUAL};
    printf("seed %d\n", SEED);
    figures f = simulate(&s, all_guarded, runs_of(2000), SEED);
    assert_true(share_of(f.back, &f) <= 0.01);
}

/* In a house of this size 1 % are one to ten subjects: with little asked for, so that steps are taken. */
static void five_steps_do_not_roll_back_what_is_as_good(void **state) {
    (void)state;
    static const char few_asked[] =
        "{'name':'trial','kind':'equivalent','baseline':'small','canary':'small-q8',"
        "'evidence':{'subjects':3,'calls':50},'guardrails':{"
        "'error':'0.5%','constraint':'1%','checks':'2%','cut':'5%','ttft':'10%','itl':'5%','ttft_slow':'5%','"
        "itl_slow':'5%','length':'20%',"
        "'repetition':'2%','uncertainty':0.2,'feedback':'5%','divergence':0.02}}";
    static const shape s = {"the same, five steps, 40,000 calls", 0, 40000, USUAL},
                       t = {"the same, five steps of 3 subjects and 50 calls, 40,000 calls", 0, 40000, USUAL,
                            .calls_per_day = 20000};
    uint32_t runs = SRN_MIN(runs_of(20), 20);
    figures f = simulate(&s, all_guarded, runs, SEED + 50);
    assert_true(share_of(f.back, &f) <= 0.01);
    f = simulate(&t, few_asked, runs, SEED + 70);
    assert_true(share_of(f.back, &f) <= 0.01);
}

/* Faults come at once and answers take their time: what ends first is no sample of what was begun. With 100
 * and more calls in flight, nothing but errors and what a whole answer is like is guarded. */
static void calls_in_flight_roll_nothing_back(void **state) {
    (void)state;
    static const char outcomes[] =
        "{'name':'t','kind':'different','baseline':'a','canary':'b','guardrails':{'error':'0.5%',"
        "'ttft':'off','itl':'off','length':'20%','cut':'5%','repetition':'2%'}}";
    static const shape busy = {"the same, 100 calls in flight", 0.5, 4000, USUAL, .calls_per_day = 2e6},
                       slow = {"ITL five times as long, not guarded, 250 calls in flight",
                               0.5,
                               4000,
                               USUAL,
                               .effect = "itl=+400%",
                               .calls_per_day = 2e6};
    figures f = simulate(&busy, all_guarded, runs_of(100), SEED + 80);
    assert_true(share_of(f.back, &f) <= 0.01);
    f = simulate(&slow, outcomes, runs_of(100), SEED + 90);
    assert_true(share_of(f.back, &f) <= 0.03);
}

static void slower_tokens_are_caught(void **state) {
    (void)state;
    static const shape s = {"ITL +15 %, 50 %, 2,000 calls", 0.5, 2000, USUAL, .effect = "itl=+15%"};
    figures f = simulate(&s, all_guarded, runs_of(200), SEED + 100);
    assert_true(share_of(f.back, &f) >= (SLOWER > 1 ? 0.5 : 0.95));
    assert_int_equal(f.promoted, 0);
}

/* One call in six takes four times as long. */
static void slow_calls_are_caught_by_their_share(void **state) {
    (void)state;
    static const char tails[] = "{'name':'t','kind':'different','baseline':'a','canary':'b','guardrails':{"
                                "'error':'off','ttft':'off','itl':'off','itl_slow':'5%'}}";
    static const shape s = {"one call in six slow, 50 %, 2,000 calls", 0.5, 2000, USUAL,
                            .effect = "itl_slow=+16%"},
                       none = {"none slower, the share of slow calls alone", 0.5, 2000, USUAL};
    figures f = simulate(&s, tails, runs_of(200), SEED + 700);
    assert_true(share_of(f.back, &f) >= (SLOWER > 1 ? 0.5 : 0.9));
    assert_true(share_of(f.promoted, &f) <= 0.05);
    f = simulate(&none, tails, runs_of(200), SEED + 800);
    assert_true(share_of(f.back, &f) <= 0.01);
}

static void faults_are_caught(void **state) {
    (void)state;
    static const shape s = {"errors 1 to 6 %, 50 %, 2,000 calls", 0.5, 2000, USUAL, .effect = "error=+5%"};
    figures f = simulate(&s, all_guarded, runs_of(200), SEED + 200);
    assert_true(share_of(f.back, &f) >= (SLOWER > 1 ? 0.5 : 0.95));
    assert_int_equal(f.promoted, 0);
}

/* Of 100 subjects ten have the canary: less can be said of them than of a hundred. */
static void faults_of_a_tenth_are_caught(void **state) {
    (void)state;
    static const shape many = {"errors 1 to 6 %, 10 %, 8,000 calls, 400 to 1,000 subjects",
                               0.1,
                               8000,
                               400,
                               1000,
                               1,
                               0,
                               0.2,
                               14000,
                               "error=+5%",
                               false,
                               0},
                       all = {"errors 1 to 6 %, 10 %, 8,000 calls", 0.1, 8000, USUAL, .effect = "error=+5%"};
    figures f = simulate(&many, all_guarded, runs_of(200), SEED + 300);
    assert_true(share_of(f.back, &f) >= (SLOWER > 1 ? 0.5 : 0.95));
    f = simulate(&all, all_guarded, runs_of(200), SEED + 400);
    assert_true(share_of(f.back, &f) >= (SLOWER > 1 ? 0.5 : 0.85));
}

/* What alpha promises: at its margin a guardrail breaks no more often, also where subjects are more alike
 * than the weights are made for, and clears no more often than its own alpha. */
static void at_its_margin_alpha_holds(void **state) {
    (void)state;
    static const char slow[] = "{'name':'t','kind':'different','baseline':'a','canary':'b','alpha':'10%',"
                               "'guardrails':{'error':'off','ttft':'off','itl':'5%'}}",
                      faulty[] = "{'name':'t','kind':'different','baseline':'a','canary':'b','alpha':'10%',"
                                 "'guardrails':{'error':'0.5%','ttft':'off','itl':'off'}}",
                      tails[] = "{'name':'t','kind':'different','baseline':'a','canary':'b','alpha':'10%',"
                                "'guardrails':{'error':'off','ttft':'off','itl':'off','itl_slow':'5%'}}";
    static const shape a = {"ITL at its margin, alpha 10 %, correlation 0.4", 0.5, 2000, ALIKE,
                            .effect = "itl=+5%"},
                       b = {"errors at their margin, alpha 10 %, correlation 0.4", 0.5, 2000, ALIKE,
                            .effect = "error=+0.5%"},
                       c = {"slow calls at their margin, alpha 10 %, correlation 0.4", 0.5, 2000, ALIKE,
                            .effect = "itl_slow=+5.26%"};
    figures f = simulate(&a, slow, runs_of(200), SEED + 500);
    assert_true(share_of(f.back, &f) <= 0.1);
    assert_true(share_of(f.promoted, &f) <= 0.05 + (SLOWER > 1));
    f = simulate(&b, faulty, runs_of(200), SEED + 600);
    assert_true(share_of(f.back, &f) <= 0.1);
    assert_true(share_of(f.promoted, &f) <= 0.05 + (SLOWER > 1));
    f = simulate(&c, tails, runs_of(200), SEED + 900);
    assert_true(share_of(f.back, &f) <= 0.1);
    assert_true(share_of(f.promoted, &f) <= 0.05 + (SLOWER > 1));
}

/* The shapes that docs/canary.md states figures of, where they are asked for. */
static void every_shape_is_told(void **state) {
    (void)state;
    static const shape all[] = {
        {"the same, without history", 0.5, 2000, 100, 1000, 1, 0, 0.2, 0, NULL, false, 0},
        {"the same, correlation 0", 0.5, 2000, 100, 1000, 1, 0, 0, 14000, NULL, false, 0},
        {"the same, correlation 0.2", 0.5, 2000, 100, 1000, 1, 0.2, 0.2, 14000, NULL, false, 0},
        {"the same, Zipf 1.4, correlation 0.2, without history", 0.5, 2000, 100, 1000, 1.4, 0.2, 0.2, 0, NULL,
         false, 0},
        {"the same, 20 to 60 subjects", 0.5, 2000, 20, 60, 1, 0.2, 0.2, 14000, NULL, false, 0},
        {"the same, 10 %, 8,000 calls", 0.1, 8000, 100, 1000, 1, 0, 0.2, 14000, NULL, false, 0},
        {"ITL +15 %, without history", 0.5, 2000, 100, 1000, 1, 0, 0.2, 0, "itl=+15%", false, 0},
        {"ITL +15 %, 100 subjects, correlation 0.2", 0.5, 2000, 100, 100, 1, 0.2, 0.2, 14000, "itl=+15%",
         false, 0},
        {"ITL +15 %, 100 subjects, correlation 0.2, without history", 0.5, 2000, 100, 100, 1, 0.2, 0.2, 0,
         "itl=+15%", false, 0},
        {"ITL +30 %", 0.5, 2000, 100, 1000, 1, 0, 0.2, 14000, "itl=+30%", false, 0},
        {"errors 1 to 6 %, without history", 0.5, 2000, 100, 1000, 1, 0, 0.2, 0, "error=+5%", false, 0},
        {"errors 1 to 6 %, of some subjects only", 0.5, 2000, 100, 1000, 1, 0, 0.2, 14000, "error=+5%", true,
         0},
        {"errors 1 to 6 %, 10 %, 8,000 calls, 100 subjects", 0.1, 8000, 100, 100, 1, 0, 0.2, 14000,
         "error=+5%", false, 0},
        {"errors 1 to 100 %, 10 %", 0.1, 8000, 100, 1000, 1, 0, 0.2, 14000, "error=+99%", false, 0},
        {"ITL +15 %, 4,000 calls, 100 in flight", 0.5, 4000, 100, 1000, 1, 0, 0.2, 14000, "itl=+15%", false,
         2e6},
        {"errors 1 to 6 %, 4,000 calls, 100 in flight", 0.5, 4000, 100, 1000, 1, 0, 0.2, 14000, "error=+5%",
         false, 2e6},
        {"divergence +0.3 nats, 10 %", 0.1, 8000, 100, 1000, 1, 0, 0.2, 14000, "divergence=+0.3", false, 0},
    };
    if (!getenv("SERIN_CANARY_RUNS")) skip();
    for (size_t i = 0; i < SRN_LEN(all); i++) {
        figures f = simulate(&all[i], all_guarded, runs_of(0), SEED + 1000 * (i + 1));
        if (!all[i].effect) assert_true(share_of(f.back, &f) <= 0.01);
    }
}

int main(void) {
    const struct CMUnitTest all[] = {
        cmocka_unit_test(what_is_as_good_is_not_rolled_back),
        cmocka_unit_test(five_steps_do_not_roll_back_what_is_as_good),
        cmocka_unit_test(calls_in_flight_roll_nothing_back),
        cmocka_unit_test(slower_tokens_are_caught),
        cmocka_unit_test(slow_calls_are_caught_by_their_share),
        cmocka_unit_test(faults_are_caught),
        cmocka_unit_test(faults_of_a_tenth_are_caught),
        cmocka_unit_test(at_its_margin_alpha_holds),
        cmocka_unit_test(every_shape_is_told),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
