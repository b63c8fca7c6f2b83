/* Copies of calls: whose are made, what a roll-out that begins with them may declare, and what their answers
 * are evidence of, which no client has seen. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "canary_help.h"

#define COPIED(steps, more)                                                                                  \
    "{'name':'t','kind':'equivalent','baseline':'a','canary':'b','steps':" steps                             \
    ",'shadow':'20%','evidence':{'subjects':10,'calls':10,'time':'1s'}" more "}"
#define DAY UINT64_C(86400000000)

static srn_evidence *new_evidence(const srn_rollout *r) {
    srn_evidence *e = NULL;
    srn_err err = {0};
    if (srn_evidence_new(r, &e, &err)) fail_msg("%s", err.text);
    return e;
}

static void who_is_copied_first_gets_the_canary_next(void **state) {
    (void)state;
    for (int i = 0; i < 1000; i++) {
        double place = i / 1000.0;
        assert_true(srn_assign_copied(place, 0, 0.2) == (place < 0.2));
        assert_false(srn_assign_copied(place, 0.1, 0));
        bool copied = srn_assign_copied(place, 0.1, 0.5);
        assert_true(copied == (place >= 0.1 && place < 0.55));
        if (copied) assert_int_not_equal(srn_assign_arm(place, 0.1), SRN_ARM_CANARY);
        assert_false(srn_assign_copied(place, 1, 1)); /* nobody else is left */
    }
}

static void refused(const char *text, const char *says) {
    srn_rollout *r = NULL;
    srn_err err = {0};
    json_t *o = quoted(text);
    assert_int_equal(srn_rollout_parse(o, "declaration", &r, &err), SRN_EINVAL);
    if (!strstr(err.text, says)) fail_msg("%s: %s", text, err.text);
    json_decref(o);
}

static void a_first_step_of_nothing_is_one_of_copies(void **state) {
    (void)state;
    srn_rollout *r = declared(COPIED("['0%','50%','100%']", "")), *again = NULL;
    srn_err err = {0};
    assert_true(r->steps[0] <= 0 && r->n_steps == 3 && r->at_end == SRN_AT_END_PROMOTE);
    json_t *o = srn_rollout_json(r);
    assert_int_equal(srn_rollout_parse(o, "again", &again, &err), SRN_OK);
    assert_string_equal(r->hash, again->hash);
    json_decref(o);
    srn_rollout_free(again);
    srn_rollout_free(r);
    r = declared(COPIED("['0%']", "")); /* copies alone */
    assert_int_equal(r->at_end, SRN_AT_END_HOLD);
    srn_rollout_free(r);
    refused(COPIED("['0%']", ",'at_end':'promote'"), "at_end: a canary that nobody has used");
    refused(COPIED("['0%','100%']", ""), "leaves no control");
    refused(COPIED("['5%','0%']", ""), "steps");
    refused(COPIED("['0%','5%']", ",'guardrails':{'error':'off','divergence':'off','feedback':'5%'}"),
            "neither times nor feedback");
    refused("{'name':'t','kind':'different','baseline':'a','canary':'b','steps':['0%','5%']}", "shadow: 20%");
}

static void apply(const srn_rollout *r, srn_rollout_state *s, const char *event, int step) {
    srn_err err = {0};
    json_t *fields = json_pack("{s:s, s:i}", "hash", r->hash, "step", step);
    if (srn_rollout_apply(r, s, event, fields, 1000, &err)) fail_msg("%s", err.text);
    json_decref(fields);
}

static void what_takes_the_share_takes_the_copies(void **state) {
    (void)state;
    srn_rollout *r = declared(COPIED("['0%','50%']", ""));
    srn_rollout_state s = {0};
    apply(r, &s, "rollout_started", 0);
    assert_true(s.share <= 0 && s.shadow > 0.19);
    apply(r, &s, "rollout_crashed", 0);
    assert_true(s.shadow <= 0);
    apply(r, &s, "rollout_resumed", 0);
    assert_true(s.share <= 0 && s.shadow > 0.19);
    apply(r, &s, "rollout_step", 1);
    assert_true(s.share > 0.49 && s.shadow > 0.19);
    apply(r, &s, "rollout_rolled_back", 0);
    assert_true(s.share <= 0 && s.shadow <= 0);
    srn_rollout_free(r);
}

/* ---- evidence ---- */

static srn_observation seen(uint64_t subject, srn_arm arm, bool shadow, uint32_t step) {
    srn_observation o = {
        .subject = subject, .arm = arm, .at_us = DAY + 1000000 * subject, .shadow = shadow, .step = step};
    for (unsigned m = 0; m < SRN_METRIC_END; m++) o.values[m] = NAN;
    o.values[SRN_METRIC_ERROR] = 0;
    o.values[SRN_METRIC_ITL] = shadow ? 900000 : 20000 + 100 * (double)(subject % 7);
    o.values[SRN_METRIC_TTFT] = 100000;
    o.values[SRN_METRIC_LENGTH] = 20 + (double)(subject % 5);
    return o;
}

static void add(srn_evidence *e, srn_observation o) {
    srn_err err = {0};
    assert_int_equal(srn_evidence_add(e, &o, &err), SRN_OK);
}

static void judged(srn_evidence *e, srn_observation o, double nats) {
    srn_err err = {0};
    o.values[SRN_METRIC_DIVERGENCE] = nats;
    assert_int_equal(srn_evidence_later(e, SRN_METRIC_DIVERGENCE, &o, &err), SRN_OK);
}

static srn_look look_at(const srn_rollout *r, const srn_evidence *e, uint32_t step) {
    const srn_step_is is = {.step = step, .started_us = 1, .step_started_us = 1};
    srn_look l;
    memset(&l, 0, sizeof l);
    srn_look_at(r, e, &is, 2 * DAY, &l);
    return l;
}

static void a_step_of_copies_compares_them_with_what_they_are_copies_of(void **state) {
    (void)state;
    srn_rollout *r = declared(COPIED("['0%','50%']", ",'guardrails':{'length':'50%','feedback':'5%'}"));
    srn_evidence *e = new_evidence(r), *bare = new_evidence(r);
    assert_int_equal(look_at(r, e, 0).verdict, SRN_VERDICT_HOLD); /* nothing is known */
    for (uint64_t k = 1; k <= 60; k++) {
        srn_arm arm = k % 3 ? SRN_ARM_CONTROL : SRN_ARM_BASELINE;
        add(e, seen(k, arm, false, 0));
        if (arm == SRN_ARM_BASELINE) continue;
        add(bare, seen(k, arm, false, 0));
        for (int i = 0; i < 2; i++) {
            add(i ? bare : e, seen(k, SRN_ARM_CANARY, true, 0));
            judged(i ? bare : e, seen(k, SRN_ARM_CANARY, true, 0), 0.001);
        }
    }
    srn_look l = look_at(r, e, 0), without = look_at(r, bare, 0);
    assert_memory_equal(&l, &without, sizeof l); /* of the others nothing is taken */
    assert_int_equal(l.n_calls[0], 40);
    assert_int_equal(l.n_calls[1], 40);
    assert_int_equal(l.n_subjects[1], 40);
    assert_int_equal(l.n_exposed, 0);
    assert_true(l.srm_p >= 1);
    assert_int_equal(l.findings[SRN_METRIC_ITL].n_calls[0] + l.findings[SRN_METRIC_ITL].n_calls[1], 0);
    assert_int_equal(l.findings[SRN_METRIC_FEEDBACK].n_missing[1], 0);
    assert_true(fabs(l.findings[SRN_METRIC_LENGTH].estimate - 1) < 0.1);
    assert_int_equal(l.findings[SRN_METRIC_DIVERGENCE].n_calls[1], 40);
    assert_int_equal(l.verdict, SRN_VERDICT_STEP); /* though times and feedback are guarded */
    assert_non_null(strstr(l.why, "that copies can tell of"));
    srn_evidence_free(e);
    srn_evidence_free(bare);
    srn_rollout_free(r);
}

static void beside_a_share_copies_are_evidence_and_no_reason_to_go_on(void **state) {
    (void)state;
    srn_rollout *r = declared(COPIED("['0%','30%','60%']", ""));
    srn_evidence *e = new_evidence(r), *bare = new_evidence(r);
    for (uint64_t k = 1; k <= 60; k++)
        for (int i = 0; i < 2; i++) {
            srn_arm arm = k % 6 ? SRN_ARM_CONTROL : SRN_ARM_CANARY;
            add(i ? bare : e, seen(k, arm, false, 1));
            if (!i && arm == SRN_ARM_CONTROL) add(e, seen(k, SRN_ARM_CANARY, true, 1));
        }
    srn_look l = look_at(r, e, 1), without = look_at(r, bare, 1);
    assert_int_equal(l.findings[SRN_METRIC_LENGTH].n_calls[1], 60);
    assert_int_equal(without.findings[SRN_METRIC_LENGTH].n_calls[1], 10);
    assert_memory_equal(&l.findings[SRN_METRIC_ITL], &without.findings[SRN_METRIC_ITL], sizeof(srn_finding));
    assert_memory_equal(&l.n_subjects, &without.n_subjects, sizeof l.n_subjects);
    assert_memory_equal(&l.n_calls, &without.n_calls, sizeof l.n_calls);
    assert_int_equal(l.n_exposed, 0);
    assert_true(l.srm_p == without.srm_p);
    srn_evidence_free(e);
    srn_evidence_free(bare);
    srn_rollout_free(r);
}

static void copies_that_differ_are_taken_back_before_anybody_saw_one(void **state) {
    (void)state;
    srn_rollout *r = declared(COPIED("['0%','50%']", ""));
    srn_evidence *e = new_evidence(r);
    uint64_t k = 1;
    for (; k <= 60 && look_at(r, e, 0).verdict != SRN_VERDICT_ROLL_BACK; k++) {
        add(e, seen(k, SRN_ARM_CONTROL, false, 0));
        add(e, seen(k, SRN_ARM_CANARY, true, 0));
        judged(e, seen(k, SRN_ARM_CANARY, true, 0), 0.5);
    }
    srn_look l = look_at(r, e, 0);
    assert_int_equal(l.verdict, SRN_VERDICT_ROLL_BACK);
    assert_int_equal(l.metric, SRN_METRIC_DIVERGENCE);
    assert_true(k < 12);
    srn_evidence_free(e);
    srn_rollout_free(r);
}

/* ---- made traffic ---- */

/* A fifth of the subjects are copied, and nobody gets the canary. */
static double taken_back(const char *name, const char *effect, uint64_t seed) {
    srn_rollout *r = declared("{'name':'t','kind':'equivalent','baseline':'a','canary':'b','steps':['0%'],"
                              "'shadow':'20%','guardrails':{'error':'0.5%','constraint':'1%','checks':'2%',"
                              "'cut':'5%','length':'20%','repetition':'2%','uncertainty':0.2}}");
    srn_traffic t;
    srn_traffic_default(&t);
    t.history_calls = 0;
    double share = rolled_back(r, name, &t, effect, 200, 8000, 0, seed);
    srn_rollout_free(r);
    return share;
}

static void copies_roll_back_what_is_worse_and_nothing_else(void **state) {
    (void)state;
    assert_true(taken_back("the same", NULL, 5011) <= (SLOWER > 1 ? 0.1 : 0.01));
    assert_true(taken_back("errors 1 to 6 %", "error=+5%", 5111) >= (SLOWER > 1 ? 0.2 : 0.8));
    assert_true(taken_back("divergence +0.3 nats", "divergence=+0.3", 5211) >= (SLOWER > 1 ? 0.5 : 0.95));
}

int main(void) {
    const struct CMUnitTest all[] = {
        cmocka_unit_test(who_is_copied_first_gets_the_canary_next),
        cmocka_unit_test(a_first_step_of_nothing_is_one_of_copies),
        cmocka_unit_test(what_takes_the_share_takes_the_copies),
        cmocka_unit_test(a_step_of_copies_compares_them_with_what_they_are_copies_of),
        cmocka_unit_test(beside_a_share_copies_are_evidence_and_no_reason_to_go_on),
        cmocka_unit_test(copies_that_differ_are_taken_back_before_anybody_saw_one),
        cmocka_unit_test(copies_roll_back_what_is_worse_and_nothing_else),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
