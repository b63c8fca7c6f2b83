/* Feedback comes when people give it, long after the call or never, and may be taken back: what it adds to
 * the evidence, and when it is too one-sided to go by. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "canary_help.h"
#include "serve/rollout.h"

#define GUARDED                                                                                              \
    "{'name':'t','kind':'different','baseline':'a','canary':'b','evidence':{'subjects':5,'calls':5,'time':'" \
    "1s'},"                                                                                                  \
    "'guardrails':{'error':'off','ttft':'off','itl':'off','feedback':'5%'}}"

static const srn_step_is is = {.started_us = 1, .step_started_us = 1};

static srn_evidence *new_evidence(const srn_rollout *r) {
    srn_evidence *e = NULL;
    srn_err err = {0};
    if (srn_evidence_new(r, &e, &err)) fail_msg("%s", err.text);
    return e;
}

static srn_observation seen(uint64_t subject, srn_arm arm) {
    srn_observation o = {.subject = subject, .arm = arm, .at_us = 1000000 * subject, .call = 1000 + subject};
    for (unsigned m = 0; m < SRN_METRIC_END; m++) o.values[m] = NAN;
    return o;
}

static void answer(srn_evidence *e, uint64_t subject, srn_arm arm) {
    srn_err err = {0};
    srn_observation o = seen(subject, arm);
    o.values[SRN_METRIC_ERROR] = 0;
    assert_int_equal(srn_evidence_add(e, &o, &err), SRN_OK);
}

static void give(srn_evidence *e, uint64_t subject, srn_arm arm, double bad) {
    srn_err err = {0};
    srn_observation o = seen(subject, arm);
    o.values[SRN_METRIC_FEEDBACK] = bad;
    assert_int_equal(srn_evidence_later(e, SRN_METRIC_FEEDBACK, &o, &err), SRN_OK);
}

static srn_look look_at(const srn_rollout *r, const srn_evidence *e) {
    srn_look l;
    memset(&l, 0, sizeof l);
    srn_look_at(r, e, &is, 9000000000, &l);
    return l;
}

static srn_arm arm_of(uint64_t subject) {
    return subject % 2 ? SRN_ARM_CANARY : SRN_ARM_CONTROL;
}

/* Each subject's call, every third of which is marked: with its call, or (late) after all of them. */
static srn_look marked(const srn_rollout *r, bool late) {
    srn_evidence *e = new_evidence(r);
    srn_err err = {0};
    for (uint64_t k = 1; k <= 60; k++) {
        srn_observation o = seen(k, arm_of(k));
        o.values[SRN_METRIC_ERROR] = 0;
        if (!late && k % 3 == 0) o.values[SRN_METRIC_FEEDBACK] = k % 4 == 0;
        assert_int_equal(srn_evidence_add(e, &o, &err), SRN_OK);
    }
    for (uint64_t k = 3; late && k <= 60; k += 3) give(e, k, arm_of(k), k % 4 == 0);
    srn_look l = look_at(r, e);
    srn_evidence_free(e);
    return l;
}

static void a_late_mark_is_worth_what_one_with_its_call_is(void **state) {
    (void)state;
    srn_rollout *r = declared(GUARDED);
    srn_look with = marked(r, false), after = marked(r, true);
    const srn_finding *f = &after.findings[SRN_METRIC_FEEDBACK];
    assert_memory_equal(&with, &after, sizeof with);
    assert_int_equal(f->n_calls[0], 10);
    assert_int_equal(f->n_calls[1], 10);
    assert_int_equal(f->n_missing[0], 20); /* subjects that said nothing */
    assert_true(f->enough && f->mean[0] == 0.5 && f->mean[1] == 0);
    srn_rollout_free(r);
}

static void the_last_mark_of_a_call_counts_and_counts_once(void **state) {
    (void)state;
    srn_rollout *r = declared(GUARDED);
    srn_evidence *once = new_evidence(r), *often = new_evidence(r);
    for (uint64_t k = 1; k <= 40; k++) answer(once, k, arm_of(k)), answer(often, k, arm_of(k));
    for (uint64_t k = 1; k <= 40; k++) {
        give(once, k, arm_of(k), k % 8 == 1);
        give(often, k, arm_of(k), k % 8 != 1);
    }
    for (uint64_t k = 1; k <= 40; k++) give(often, k, arm_of(k), k % 8 == 1);
    for (uint64_t k = 1; k <= 40; k++) give(often, k, arm_of(k), k % 8 == 1); /* said again: nothing new */
    srn_look a = look_at(r, once), b = look_at(r, often);
    assert_memory_equal(&a, &b, sizeof a);
    assert_int_equal(b.findings[SRN_METRIC_FEEDBACK].n_calls[1], 20);
    assert_true(b.findings[SRN_METRIC_FEEDBACK].mean[1] == 0.25);
    srn_evidence_free(once);
    srn_evidence_free(often);
    srn_rollout_free(r);
}

/* A subject whose only bad mark was taken back has shown no fault: four others are no five. */
static void a_mark_that_was_taken_back_is_no_fault(void **state) {
    (void)state;
    srn_rollout *r = declared(GUARDED);
    srn_evidence *e = new_evidence(r);
    for (uint64_t k = 1; k <= 400; k++) answer(e, k, arm_of(k));
    for (uint64_t k = 2; k <= 400; k += 2) give(e, k, SRN_ARM_CONTROL, 0);
    for (uint64_t k = 1; k <= 9; k += 2) give(e, k, SRN_ARM_CANARY, 1);
    assert_true(look_at(r, e).findings[SRN_METRIC_FEEDBACK].low > -1);
    give(e, 9, SRN_ARM_CANARY, 0);
    assert_true(look_at(r, e).findings[SRN_METRIC_FEEDBACK].low == -1);
    give(e, 9, SRN_ARM_CANARY, 1);
    assert_true(look_at(r, e).findings[SRN_METRIC_FEEDBACK].low > -1);
    srn_evidence_free(e);
    srn_rollout_free(r);
}

/* Some calls without a mark, and one in so many with a good one. */
static srn_look answered_by(const srn_rollout *r, uint64_t control, uint64_t canary) {
    srn_evidence *e = new_evidence(r);
    for (uint64_t k = 1; k <= 2000; k++) answer(e, k, arm_of(k));
    for (uint64_t k = 1; k <= 2000; k++) {
        uint64_t every = arm_of(k) == SRN_ARM_CANARY ? canary : control;
        if (every && k / 2 % every == 0) give(e, k, arm_of(k), 0);
    }
    srn_look l = look_at(r, e);
    srn_evidence_free(e);
    return l;
}

static void silence_is_no_doubt_unless_it_is_the_canarys_alone(void **state) {
    (void)state;
    srn_rollout *r = declared(GUARDED);
    srn_look l = answered_by(r, 20, 20);
    assert_int_equal(l.verdict, SRN_VERDICT_STEP); /* nineteen of twenty say nothing, of either */
    l = answered_by(r, 20, 22);
    assert_int_equal(l.verdict, SRN_VERDICT_STEP);
    l = answered_by(r, 5, 20);
    assert_int_equal(l.verdict, SRN_VERDICT_HOLD);
    assert_int_equal(l.metric, SRN_METRIC_FEEDBACK);
    assert_non_null(strstr(l.why, "5.0 % of the canary's subjects gave feedback, and 20.0 % of the others"));
    l = answered_by(r, 20, 5);
    assert_non_null(strstr(l.why, "gave feedback"));
    l = answered_by(r, 0, 0);
    assert_int_equal(l.verdict, SRN_VERDICT_HOLD); /* a guardrail without data */
    assert_non_null(strstr(l.why, "too few subjects"));
    srn_look again = l;
    srn_look_again(r, &is, &again);
    assert_memory_equal(&l, &again, sizeof l);
    srn_rollout_free(r);
}

static void marks_of_a_step_before_are_late(void **state) {
    (void)state;
    srn_rollout *r = declared(GUARDED);
    srn_evidence *e = new_evidence(r);
    srn_err err = {0};
    answer(e, 1, SRN_ARM_CANARY);
    give(e, 1, SRN_ARM_CANARY, 1);
    srn_observation o = seen(1, SRN_ARM_CANARY);
    o.step = 1;
    assert_int_equal(srn_evidence_add(e, &o, &err), SRN_OK);
    srn_step_is second = {.step = 1, .started_us = 1, .step_started_us = 1};
    srn_look before, after;
    srn_look_at(r, e, &second, 9000000000, &before);
    give(e, 1, SRN_ARM_CANARY, 0);
    srn_look_at(r, e, &second, 9000000000, &after);
    assert_memory_equal(&before.findings, &after.findings, sizeof before.findings);
    srn_evidence_free(e);
    srn_rollout_free(r);
}

/* ---- made traffic ---- */

/* One call in twenty is marked, and one mark in ten is bad. */
static double taken_back(const char *name, const char *effect, uint64_t seed) {
    srn_rollout *r = declared(GUARDED);
    srn_traffic t;
    srn_traffic_default(&t);
    t.rate[SRN_METRIC_FEEDBACK] = 0.1;
    double share = rolled_back(r, name, &t, effect, 100, 20000, 0.5, seed);
    srn_rollout_free(r);
    return share;
}

static void few_marks_are_enough_in_the_end_and_never_too_many(void **state) {
    (void)state;
    assert_true(taken_back("the same feedback", NULL, 4811) <= (SLOWER > 1 ? 0.1 : 0.01));
    assert_true(taken_back("10 to 25 % of it bad", "feedback=+15%", 4911) >= (SLOWER > 1 ? 0.2 : 0.7));
}

/* ---- what records say ---- */

static double badness_of(const char *mark) {
    char text[600];
    snprintf(text, sizeof text,
             "{'id':'01JDA6Z4N8M0Q5V3X7C2B9K1RT',%s,'rollout':{'hash':'h','arm':'canary','step':2,"
             "'subject':'00000000000000ff','begun_us':77}}",
             mark);
    json_t *body = quoted(text);
    srn_observation o;
    bool is_mark = srn__rollout_observe_feedback(body, &o);
    json_decref(body);
    if (!is_mark) return -1;
    assert_int_equal(o.arm, SRN_ARM_CANARY);
    assert_int_equal(o.step, 2);
    assert_int_equal(o.subject, 255);
    assert_int_equal(o.at_us, 77);
    assert_true(o.call != 0);
    return o.values[SRN_METRIC_FEEDBACK];
}

static void scores_and_labels_are_marks_and_comments_are_not(void **state) {
    (void)state;
    static const struct {
        const char *mark;
        double bad;
    } rows[] = {{"'score':1", 0},
                {"'score':0", 1},
                {"'score':-1", 1},
                {"'score':5", 0},
                {"'score':0.75", 0.25},
                {"'score':1,'label':'bad'", 0},
                {"'score':null,'label':'thumbs_down'", 1},
                {"'score':null,'label':'up'", 0},
                {"'score':null,'label':'dull'", -1},
                {"'score':null,'label':null,'comment':'AAAA'", -1}};
    for (size_t i = 0; i < SRN_LEN(rows); i++) assert_true(badness_of(rows[i].mark) == rows[i].bad);
}

static void marks_are_of_answers_that_count(void **state) {
    (void)state;
    static const char call[] = "{'experiment':'t','arm':'canary','begun_us':5,'finish':'%s','rollout':{"
                               "'hash':'h','step':1,'subject':'0a','counted':%s,'fallback':%s}}";
    static const struct {
        const char *finish, *counted, *fallback;
        bool counts;
    } rows[] = {{"stop", "true", "false", true},
                {"length", "true", "false", true},
                {"abort", "true", "false", false},
                {"stop", "false", "false", false},
                {"stop", "true", "true", false}};
    for (size_t i = 0; i < SRN_LEN(rows); i++) {
        char text[400];
        snprintf(text, sizeof text, call, rows[i].finish, rows[i].counted, rows[i].fallback);
        json_t *o = quoted(text), *says = srn__rollout_of_marked(o);
        assert_true((says != NULL) == rows[i].counts);
        json_decref(says);
        json_decref(o);
    }
    assert_null(srn__rollout_of_marked(NULL));
}

int main(void) {
    const struct CMUnitTest all[] = {
        cmocka_unit_test(a_late_mark_is_worth_what_one_with_its_call_is),
        cmocka_unit_test(the_last_mark_of_a_call_counts_and_counts_once),
        cmocka_unit_test(a_mark_that_was_taken_back_is_no_fault),
        cmocka_unit_test(silence_is_no_doubt_unless_it_is_the_canarys_alone),
        cmocka_unit_test(marks_of_a_step_before_are_late),
        cmocka_unit_test(few_marks_are_enough_in_the_end_and_never_too_many),
        cmocka_unit_test(scores_and_labels_are_marks_and_comments_are_not),
        cmocka_unit_test(marks_are_of_answers_that_count),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
