/* Evidence and verdicts: what a look says of plain cases, what makes it hold, and that its record says the
 * same again. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "canary_help.h"

/* One step, then all; little is asked for. */
static const char two_steps[] =
    "{'name':'t','kind':'different','baseline':'a','canary':'b','steps':['50%','100%'],"
    "'evidence':{'subjects':20,'calls':100,'time':'1m'},"
    "'guardrails':{'error':'5%','itl':'20%','ttft':'off'}}";

typedef struct trial {
    srn_rollout *r;
    srn_evidence *e;
    srn_step_is is;
    uint64_t at_us;
    uint32_t n; /* calls so far */
} trial;

static trial begun(const char *declaration) {
    trial t = {.r = declared(declaration), .at_us = 1000000000};
    srn_err err = {0};
    t.is.started_us = t.is.step_started_us = t.at_us;
    assert_int_equal(srn_evidence_new(t.r, &t.e, &err), SRN_OK);
    return t;
}

static void end(trial *t) {
    srn_evidence_free(t->e);
    srn_rollout_free(t->r);
}

static srn_observation plain(trial *t, uint64_t subject, srn_arm arm) {
    srn_observation o = {.subject = subject, .at_us = t->at_us, .arm = arm, .step = t->is.step};
    for (unsigned m = 0; m < SRN_METRIC_END; m++) o.values[m] = NAN;
    o.values[SRN_METRIC_ERROR] = 0;
    o.values[SRN_METRIC_ITL] = 20000 + 100.0 * (double)((subject * 7 + t->n * 13) % 31);
    return o;
}

static void add(trial *t, const srn_observation *o) {
    srn_err err = {0};
    if (srn_evidence_add(t->e, o, &err)) fail_msg("%s", err.text);
    if (o->arm == SRN_ARM_CANARY) t->is.last_canary_us = o->at_us;
    t->n++;
}

/* n calls of each arm by 40 subjects each, a second apart; of the canary's every k-th fails (0: none), and
 * its tokens take `slower` times as long. */
static void fill(trial *t, uint32_t n, uint32_t k, double slower) {
    for (uint32_t i = 0; i < 2 * n; i++) {
        bool canary = i & 1;
        srn_observation o = plain(t, (i / 2) % 40 * 2 + canary, canary ? SRN_ARM_CANARY : SRN_ARM_CONTROL);
        if (canary) o.values[SRN_METRIC_ITL] *= slower;
        if (canary && k) o.values[SRN_METRIC_ERROR] = (i / 2) % k == 0;
        add(t, &o);
        t->at_us += 1000000;
    }
}

static srn_look looked(trial *t) {
    srn_look l;
    srn_look_at(t->r, t->e, &t->is, t->at_us, &l);
    return l;
}

static void expect(trial *t, srn_verdict v, const char *why) {
    srn_look l = looked(t);
    if (l.verdict != v || !strstr(l.why, why))
        fail_msg("%s, '%s'; expected %s, '%s'", srn_verdict_name(l.verdict), l.why, srn_verdict_name(v), why);
}

static void no_data_never_promotes(void **state) {
    (void)state;
    trial t = begun(two_steps);
    expect(&t, SRN_VERDICT_HOLD, "0 of 20 subjects");
    t.at_us += 30ull * 86400000000; /* nor with time */
    expect(&t, SRN_VERDICT_HOLD, "0 of 20 subjects");
    t.is.step = 1;
    expect(&t, SRN_VERDICT_HOLD, "0 of 20 subjects");
    end(&t);
}

/* Calls without a guarded value are calls, but no evidence. */
static void calls_without_values_never_promote(void **state) {
    (void)state;
    trial t = begun(two_steps);
    for (uint32_t i = 0; i < 2000; i++, t.at_us += 1000000) {
        srn_observation o = plain(&t, i % 80, i & 1 ? SRN_ARM_CANARY : SRN_ARM_CONTROL);
        o.values[SRN_METRIC_ITL] = NAN;
        add(&t, &o);
    }
    expect(&t, SRN_VERDICT_HOLD, "itl has too few subjects");
    end(&t);
}

static void as_good_steps_and_then_ends(void **state) {
    (void)state;
    trial t = begun(two_steps);
    fill(&t, 1500, 0, 1);
    expect(&t, SRN_VERDICT_STEP, "every guardrail holds");
    t.is.step = 1;
    expect(&t, SRN_VERDICT_HOLD, "the canary has 0 of 20 subjects");
    for (uint32_t i = 0; i < 200; i++, t.at_us += 1000000) {
        srn_observation o = plain(&t, i % 80, SRN_ARM_CANARY);
        add(&t, &o);
    }
    srn_look l = looked(&t);
    assert_int_equal(l.compared, 0); /* all is canary now: the step before is what was compared */
    assert_true(l.findings[SRN_METRIC_ITL].cleared && l.findings[SRN_METRIC_ERROR].cleared);
    expect(&t, SRN_VERDICT_STEP, "is cleared");
    end(&t);
}

static void worse_is_rolled_back_by_its_metric(void **state) {
    (void)state;
    trial t = begun(two_steps), u = begun(two_steps);
    fill(&t, 400, 0, 1.5);
    expect(&t, SRN_VERDICT_ROLL_BACK, "itl is worse by 1.");
    assert_int_equal(looked(&t).metric, SRN_METRIC_ITL);
    srn_finding f = looked(&t).findings[SRN_METRIC_ITL];
    assert_true(f.low < f.estimate && f.estimate < f.high && fabs(f.estimate - 1.5) < 0.02);
    fill(&u, 400, 3, 1);
    expect(&u, SRN_VERDICT_ROLL_BACK, "error is worse by 0.3");
    end(&t);
    end(&u);
}

/* One caller whose every call fails is no proof against the canary, however often it calls. */
static void one_subject_never_breaks_a_guardrail(void **state) {
    (void)state;
    trial t = begun(two_steps);
    fill(&t, 400, 0, 1);
    for (uint32_t i = 0; i < 5000; i++, t.at_us += 1000000) {
        srn_observation o = plain(&t, 1, SRN_ARM_CANARY);
        o.values[SRN_METRIC_ERROR] = 1;
        o.values[SRN_METRIC_ITL] *= 3;
        add(&t, &o);
        assert_int_not_equal(looked(&t).verdict, SRN_VERDICT_ROLL_BACK);
    }
    end(&t);
}

static void a_burst_counts_ten_times_in_its_block(void **state) {
    (void)state;
    trial t = begun(two_steps);
    for (int i = 0; i < 50; i++) {
        srn_observation o = plain(&t, 7, SRN_ARM_CANARY);
        add(&t, &o);
    }
    srn_look l = looked(&t);
    assert_int_equal(l.n_calls[1], 50);
    assert_int_equal(l.findings[SRN_METRIC_ERROR].n_calls[1], 10);
    t.at_us += 3600000000;
    srn_observation o = plain(&t, 7, SRN_ARM_CANARY);
    add(&t, &o);
    assert_int_equal(looked(&t).findings[SRN_METRIC_ERROR].n_calls[1], 11);
    end(&t);
}

static void a_split_that_was_not_declared_holds(void **state) {
    (void)state;
    trial t = begun(two_steps);
    fill(&t, 1500, 0, 1);
    for (uint32_t i = 0; i < 60; i++) {
        srn_observation o = plain(&t, 1000 + i, SRN_ARM_CONTROL);
        add(&t, &o);
    }
    expect(&t, SRN_VERDICT_HOLD, "not split as declared");
    end(&t);
}

static void subjects_that_saw_both_arms_hold(void **state) {
    (void)state;
    trial t = begun(two_steps);
    fill(&t, 1500, 0, 1);
    for (uint32_t i = 0; i < 4; i++) srn_evidence_expose(t.e, 2 * i, SRN_ARM_CANARY);
    expect(&t, SRN_VERDICT_STEP, "");
    for (uint32_t i = 4; i < 12; i++) srn_evidence_expose(t.e, 2 * i, SRN_ARM_CANARY);
    expect(&t, SRN_VERDICT_HOLD, "12 of 80 subjects saw both arms");
    end(&t);
}

static void a_metric_that_stops_coming_holds(void **state) {
    (void)state;
    trial t = begun(two_steps);
    fill(&t, 1500, 0, 1);
    for (uint32_t i = 0; i < 60; i++) {
        srn_observation o = plain(&t, i % 40 * 2 + 1, SRN_ARM_CANARY);
        t.at_us += 20000000;
        o.at_us = t.at_us;
        o.values[SRN_METRIC_ITL] = NAN;
        add(&t, &o);
    }
    expect(&t, SRN_VERDICT_HOLD, "itl has not come with the canary's last 60 calls");
    end(&t);
}

static void a_clock_that_went_back_holds(void **state) {
    (void)state;
    trial t = begun(two_steps);
    fill(&t, 1500, 0, 1);
    expect(&t, SRN_VERDICT_STEP, "");
    t.at_us -= 600000000;
    expect(&t, SRN_VERDICT_HOLD, "clock");
    end(&t);
}

/* A jump ahead is no time in which calls were seen. */
static void a_clock_that_jumped_ahead_proves_nothing(void **state) {
    (void)state;
    trial t = begun("{'name':'t','kind':'different','baseline':'a','canary':'b','steps':['50%','100%'],"
                    "'evidence':{'subjects':20,'calls':100,'time':'2h'},"
                    "'guardrails':{'error':'5%','itl':'20%','ttft':'off'}}");
    fill(&t, 1000, 0, 1);
    t.at_us += 86400000000;
    fill(&t, 20, 0, 1);
    expect(&t, SRN_VERDICT_HOLD, "of 7200");
    end(&t);
}

static void a_dead_canary_is_rolled_back(void **state) {
    (void)state;
    trial t = begun(two_steps);
    fill(&t, 100, 0, 1);
    t.is.n_open = 3;
    t.is.oldest_open_us = t.at_us;
    for (uint32_t i = 0; i < 30; i++) {
        t.at_us += 30000000;
        srn_observation o = plain(&t, i % 40 * 2, SRN_ARM_CONTROL);
        add(&t, &o);
        if (i == 5) assert_int_not_equal(looked(&t).verdict, SRN_VERDICT_ROLL_BACK);
    }
    expect(&t, SRN_VERDICT_ROLL_BACK, "the canary is dead: 3 calls");
    end(&t);
}

static void time_that_ran_out_ends_as_declared(void **state) {
    (void)state;
    trial t = begun("{'name':'t','kind':'different','baseline':'a','canary':'b','on_timeout':'roll_back',"
                    "'max_time':'1d'}"),
          u = begun("{'name':'t','kind':'different','baseline':'a','canary':'b','max_time':'1d'}");
    t.at_us += 86400000000, u.at_us += 86400000000;
    expect(&t, SRN_VERDICT_ROLL_BACK, "its time is over without proof: the control has 0 of 30");
    expect(&u, SRN_VERDICT_HOLD, "the control has 0 of 30");
    end(&t);
    end(&u);
}

/* Of `n` canary's subjects among thirty of the baseline the first calls fail; one of the baseline's does, or
 * (alike) as many of them. */
static double odds_of_faults(uint32_t n, bool alike, srn_look *ret) {
    trial t = begun("{'name':'t','kind':'different','baseline':'a','canary':'b','steps':['10%'],"
                    "'guardrails':{'error':'0.5%','itl':'off','ttft':'off'}}");
    for (uint32_t i = 0; i < 10 * n; i++, t.at_us += 1000000) {
        bool canary = i % 10 == 9;
        srn_observation o = plain(&t, i, canary ? SRN_ARM_CANARY : SRN_ARM_BASELINE);
        o.values[SRN_METRIC_ERROR] = canary || alike || i == 3;
        add(&t, &o);
    }
    *ret = looked(&t);
    end(&t);
    return ret->findings[SRN_METRIC_ERROR].evalue;
}

/* Nothing can be said of means over so few. */
static void three_subjects_whose_calls_fail_are_enough(void **state) {
    (void)state;
    srn_look l;
    assert_true(odds_of_faults(1, false, &l) < 100);
    assert_int_equal(l.verdict, SRN_VERDICT_HOLD);
    odds_of_faults(4, false, &l);
    assert_int_equal(l.verdict, SRN_VERDICT_ROLL_BACK);
    assert_false(l.findings[SRN_METRIC_ERROR].enough);
    assert_non_null(strstr(l.why, "subjects meet errors"));
    assert_true(odds_of_faults(20, true, &l) == 1); /* the baseline's subjects meet them as well */
    assert_int_equal(l.verdict, SRN_VERDICT_HOLD);
}

/* The faults of a canary whose answers take long have ended, and the answers have not. */
static void what_is_in_flight_may_be_good(void **state) {
    (void)state;
    trial t = begun(two_steps);
    fill(&t, 400, 4, 1);
    expect(&t, SRN_VERDICT_ROLL_BACK, "error is worse");
    t.is.n_open = 3000; /* of which none may fail */
    expect(&t, SRN_VERDICT_HOLD, "");
    t.is.n_open = 10;
    expect(&t, SRN_VERDICT_ROLL_BACK, "error is worse");
    end(&t);
    t = begun("{'name':'t','kind':'different','baseline':'a','canary':'b','steps':['50%'],"
              "'guardrails':{'error':'off','ttft':'off','itl':'off','length':'20%'}}");
    for (uint32_t i = 0; i < 800; i++, t.at_us += 1000000) {
        srn_observation o = plain(&t, i % 80, i & 1 ? SRN_ARM_CANARY : SRN_ARM_CONTROL);
        o.values[SRN_METRIC_LENGTH] = i & 1 ? 50 : 100 + i % 7;
        add(&t, &o);
    }
    expect(&t, SRN_VERDICT_ROLL_BACK, "length has shrunk");
    t.is.n_open = 100; /* the long ones, it may be */
    expect(&t, SRN_VERDICT_HOLD, "");
    end(&t);
}

static void divergence_needs_few_first_calls(void **state) {
    (void)state;
    trial t = begun("{'name':'t','kind':'equivalent','baseline':'a','canary':'b'}"), u = begun(MINIMAL);
    uint32_t n = 0;
    while (looked(&t).verdict != SRN_VERDICT_ROLL_BACK && n < 100) {
        srn_observation o = plain(&t, n++, SRN_ARM_CANARY);
        o.values[SRN_METRIC_DIVERGENCE] = 0.3;
        add(&t, &o);
    }
    assert_in_range(n, 2, 6);
    assert_int_equal(looked(&t).metric, SRN_METRIC_DIVERGENCE);
    for (n = 0; n < 1000; n++) {
        srn_observation o = plain(&u, n, SRN_ARM_CANARY);
        o.values[SRN_METRIC_DIVERGENCE] = 0;
        add(&u, &o);
    }
    srn_finding f = looked(&u).findings[SRN_METRIC_DIVERGENCE];
    assert_true(f.estimate == 0 && f.cleared && f.evalue == 1);
    end(&t);
    end(&u);
}

/* The whole of the baseline is compared but in speed, which its caches and load make another thing. */
static void the_rest_of_the_baseline_counts_but_in_speed(void **state) {
    (void)state;
    trial t = begun(two_steps);
    for (uint32_t i = 0; i < 30; i++) {
        srn_observation o = plain(&t, i, SRN_ARM_BASELINE);
        add(&t, &o);
    }
    srn_look l = looked(&t);
    assert_int_equal(l.findings[SRN_METRIC_ERROR].n_calls[0], 30);
    assert_int_equal(l.findings[SRN_METRIC_ITL].n_calls[0], 0);
    assert_int_equal(l.n_subjects[0], 0);
    end(&t);
}

static void steps_begin_anew_and_late_calls_are_dropped(void **state) {
    (void)state;
    trial t = begun(two_steps);
    fill(&t, 100, 0, 1);
    t.is.step = 1;
    srn_observation o = plain(&t, 1, SRN_ARM_CANARY), late = o;
    late.step = 0;
    add(&t, &o);
    add(&t, &late);
    assert_int_equal(looked(&t).n_calls[1], 1);
    t.is.step = 0;
    assert_int_equal(looked(&t).n_calls[1], 100);
    end(&t);
}

static void values_that_no_call_has_are_refused(void **state) {
    (void)state;
    static const struct {
        srn_metric m;
        double v;
    } all[] = {{SRN_METRIC_ERROR, 1.5},      {SRN_METRIC_ERROR, -0.1},      {SRN_METRIC_ITL, -1},
               {SRN_METRIC_ITL, INFINITY},   {SRN_METRIC_REPETITION, 1.01}, {SRN_METRIC_DIVERGENCE, 0.7},
               {SRN_METRIC_UNCERTAINTY, -1}, {SRN_METRIC_LENGTH, -INFINITY}};
    trial t = begun(two_steps);
    srn_err err = {0};
    for (size_t i = 0; i < SRN_LEN(all); i++) {
        srn_observation o = plain(&t, 1, SRN_ARM_CANARY);
        o.values[all[i].m] = all[i].v;
        assert_int_equal(srn_evidence_add(t.e, &o, &err), SRN_EINVAL);
        assert_non_null(strstr(err.text, srn_metric_name(all[i].m)));
    }
    srn_observation o = plain(&t, 1, SRN_ARM_NONE), p = plain(&t, 1, SRN_ARM_CANARY);
    p.step = 2;
    assert_int_equal(srn_evidence_add(t.e, &o, &err), SRN_EINVAL);
    assert_int_equal(srn_evidence_add(t.e, &p, &err), SRN_EINVAL);
    assert_int_equal(looked(&t).n_calls[1], 0);
    end(&t);
}

/* What history knows of a subject is no noise any more. */
static void history_narrows_the_band(void **state) {
    (void)state;
    double widths[2];
    for (int with = 0; with < 2; with++) {
        trial t = begun(two_steps);
        srn_history h[80];
        srn_err err = {0};
        for (uint32_t i = 0; i < 80; i++) {
            h[i] = (srn_history){.subject = i};
            h[i].n[SRN_METRIC_ITL] = 200;
            h[i].mean[SRN_METRIC_ITL] = 9.9 + 0.02 * (i * 37 % 80);
        }
        if (with) assert_int_equal(srn_evidence_history(t.e, h, 80, &err), SRN_OK);
        for (uint32_t i = 0; i < 1600; i++, t.at_us += 1000000) {
            srn_observation o = plain(&t, i % 80, i & 1 ? SRN_ARM_CANARY : SRN_ARM_CONTROL);
            o.values[SRN_METRIC_ITL] *= exp(0.02 * (i % 80 * 37 % 80));
            add(&t, &o);
        }
        srn_finding f = looked(&t).findings[SRN_METRIC_ITL];
        widths[with] = f.high / f.low;
        assert_int_equal(srn_evidence_history(t.e, h, 80, &err), SRN_EINVAL);
        end(&t);
    }
    assert_true(widths[1] < 1 + (widths[0] - 1) / 2);
}

static void a_record_gives_its_verdict_again(void **state) {
    (void)state;
    trial all[] = {begun(two_steps), begun(two_steps), begun(MINIMAL)};
    fill(&all[0], 400, 4, 1);
    fill(&all[1], 1500, 0, 1);
    for (size_t i = 0; i < SRN_LEN(all); i++) {
        srn_look l = looked(&all[i]), back;
        srn_err err = {0};
        json_t *o = srn_look_json(&l);
        char *text = json_dumps(o, JSON_COMPACT);
        json_t *again = json_loads(text, 0, NULL);
        assert_int_equal(srn_look_parse(again, &back, &err), SRN_OK);
        back.verdict = SRN_VERDICT_HOLD;
        back.why[0] = 0;
        srn_look_again(all[i].r, &all[i].is, &back);
        assert_int_equal(back.verdict, l.verdict);
        assert_string_equal(back.why, l.why);
        /* and other numbers give another one */
        back.findings[SRN_METRIC_ERROR].low = 0.5;
        back.findings[SRN_METRIC_ERROR].guarded = true;
        srn_look_again(all[i].r, &all[i].is, &back);
        assert_int_equal(back.verdict, SRN_VERDICT_ROLL_BACK);
        json_object_del(json_object_get(again, "findings"), "itl");
        assert_int_equal(srn_look_parse(again, &back, &err), SRN_EINVAL);
        json_decref(o);
        json_decref(again);
        free(text);
        end(&all[i]);
    }
}

static void the_same_calls_give_the_same_bits(void **state) {
    (void)state;
    trial a = begun(two_steps), b = begun(two_steps);
    fill(&a, 500, 50, 1.02);
    fill(&b, 500, 50, 1.02);
    srn_look x = looked(&a), y = looked(&b);
    json_t *p = srn_look_json(&x), *q = srn_look_json(&y);
    assert_true(json_equal(p, q));
    json_decref(p);
    json_decref(q);
    end(&a);
    end(&b);
}

static void effects_and_traffic_are_read(void **state) {
    (void)state;
    static const char *const wrong[] = {"itl",    "itm=+5%",   "itl=0.15", "itl=+15%%",
                                        "error=", "error=nan", "itl=-100%"};
    srn_err err = {0};
    srn_effect e;
    srn_traffic t;
    assert_int_equal(srn_effect_parse("itl=+15%", &e, &err), SRN_OK);
    assert_true(e.metric == SRN_METRIC_ITL && e.by == 0.15);
    assert_int_equal(srn_effect_parse("error=0.05", &e, &err), SRN_OK);
    assert_true(e.by == 0.05);
    for (size_t i = 0; i < SRN_LEN(wrong); i++)
        assert_int_equal(srn_effect_parse(wrong[i], &e, &err), SRN_EINVAL);
    json_t *o = quoted("{'subjects':50,'zipf':1.2,'icc':0.1,'itl':{'rate':30000,'sd':0.2}}");
    assert_int_equal(srn_traffic_parse(o, "traffic.json", &t, &err), SRN_OK);
    assert_true(t.n_subjects == 50 && t.zipf == 1.2 && t.rate[SRN_METRIC_ITL] == 30000 &&
                t.calls_per_day == 2000);
    json_object_set_new(o, "icc", json_real(0.9));
    assert_int_equal(srn_traffic_parse(o, "traffic.json", &t, &err), SRN_EINVAL);
    assert_non_null(strstr(err.text, "traffic.json: icc"));
    json_decref(o);
}

int main(void) {
    const struct CMUnitTest all[] = {
        cmocka_unit_test(no_data_never_promotes),
        cmocka_unit_test(calls_without_values_never_promote),
        cmocka_unit_test(as_good_steps_and_then_ends),
        cmocka_unit_test(worse_is_rolled_back_by_its_metric),
        cmocka_unit_test(one_subject_never_breaks_a_guardrail),
        cmocka_unit_test(a_burst_counts_ten_times_in_its_block),
        cmocka_unit_test(a_split_that_was_not_declared_holds),
        cmocka_unit_test(subjects_that_saw_both_arms_hold),
        cmocka_unit_test(a_metric_that_stops_coming_holds),
        cmocka_unit_test(a_clock_that_went_back_holds),
        cmocka_unit_test(a_clock_that_jumped_ahead_proves_nothing),
        cmocka_unit_test(a_dead_canary_is_rolled_back),
        cmocka_unit_test(time_that_ran_out_ends_as_declared),
        cmocka_unit_test(three_subjects_whose_calls_fail_are_enough),
        cmocka_unit_test(what_is_in_flight_may_be_good),
        cmocka_unit_test(divergence_needs_few_first_calls),
        cmocka_unit_test(the_rest_of_the_baseline_counts_but_in_speed),
        cmocka_unit_test(steps_begin_anew_and_late_calls_are_dropped),
        cmocka_unit_test(values_that_no_call_has_are_refused),
        cmocka_unit_test(history_narrows_the_band),
        cmocka_unit_test(a_record_gives_its_verdict_again),
        cmocka_unit_test(the_same_calls_give_the_same_bits),
        cmocka_unit_test(effects_and_traffic_are_read),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
