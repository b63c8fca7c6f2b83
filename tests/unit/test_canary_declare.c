/* Roll-outs, all but the evidence: declarations and what is refused in them, who gets which arm, and what
 * events add up to. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sodium.h>

#include "canary_help.h"

static const char full[] =
    "{'name':'q8-trial','kind':'equivalent','baseline':'small','canary':'small-q8',"
    "'prompt':{'id':'support','baseline':3,'canary':4},'routes':['chat'],'opt_out':['tenant-a'],"
    "'steps':['1%',0.05,'50%',1],'max_share':'60%','shadow':'2%',"
    "'evidence':{'subjects':40,'calls':300,'time':'20min','clear':'every'},"
    "'guardrails':{'error':'1%','itl':'5%','checks':'0.1%','ttft':'off','uncertainty':0.2,'length':'150%'},"
    "'alpha':'0.5%','judge':'4%','max_time':'36h','at_end':'hold','on_timeout':'roll_back',"
    "'webhook':'https://alerts.example/hook'}";

static void every_key_is_read(void **state) {
    (void)state;
    srn_rollout *r = declared(full);
    assert_string_equal(r->name, "q8-trial");
    assert_string_equal(r->canary, "small-q8");
    assert_int_equal(r->canary_version, 4);
    assert_string_equal(r->routes[0], "chat");
    assert_string_equal(r->opt_out[0], "tenant-a");
    assert_int_equal(r->n_steps, 4);
    assert_true(r->steps[0] == 0.01 && r->steps[2] == 0.5 && r->steps[3] == 1);
    assert_true(r->max_share == 0.6 && srn_rollout_cap(r, 0) == 0.6);
    assert_int_equal(r->min_subjects, 40);
    assert_true(r->min_time_us == 1200000000 && r->max_time_us == 36 * 3600000000);
    assert_true(r->clear_every_step);
    assert_true(r->guards[SRN_METRIC_ITL].set && r->guards[SRN_METRIC_ITL].margin == 1.05);
    assert_true(r->guards[SRN_METRIC_CHECKS].margin == 0.001);
    assert_true(r->guards[SRN_METRIC_LENGTH].margin == 2.5);
    assert_false(r->guards[SRN_METRIC_TTFT].set);
    assert_true(r->guards[SRN_METRIC_DIVERGENCE].set && r->guards[SRN_METRIC_DIVERGENCE].margin == 0.02);
    assert_true(r->alpha == 0.005 && r->judge_share == 0.04);
    assert_int_equal(r->at_end, SRN_AT_END_HOLD);
    assert_int_equal(r->on_timeout, SRN_AT_END_ROLL_BACK);
    srn_rollout_free(r);
}

static void a_step_above_the_cap_can_not_begin(void **state) {
    (void)state;
    srn_err err = {0};
    srn_rollout *r = declared(full); /* 60 % of calls, and a last step of 100 % */
    assert_int_equal(srn_rollout_may_begin(r, &err), SRN_EINVAL);
    assert_non_null(strstr(err.text, "q8-trial: max_share: 60% is below the step of 100%"));
    r->max_share = 1;
    assert_int_equal(srn_rollout_may_begin(r, &err), SRN_OK);
    r->max_share = 0; /* left out */
    assert_int_equal(srn_rollout_may_begin(r, &err), SRN_OK);
    srn_rollout_free(r);
}

static void the_canonical_form_is_the_same_declaration(void **state) {
    (void)state;
    static const char *const texts[] = {full, MINIMAL};
    for (size_t i = 0; i < SRN_LEN(texts); i++) {
        srn_rollout *a = declared(texts[i]), *b = NULL;
        srn_err err = {0};
        json_t *o = srn_rollout_json(a);
        assert_non_null(o);
        assert_int_equal(srn_rollout_parse(o, "again", &b, &err), SRN_OK);
        assert_string_equal(a->hash, b->hash);
        json_decref(o);
        srn_rollout_free(a);
        srn_rollout_free(b);
    }
}

static void one_meaning_has_one_hash_and_another_has_another(void **state) {
    (void)state;
    srn_rollout *a = declared("{'name':'x','kind':'different','baseline':'a','canary':'b','alpha':'0.1%',"
                              "'max_time':'2h'}"),
                *b = declared("{'max_time':'120min','alpha':0.001,'canary':'b','baseline':'a',"
                              "'kind':'different','name':'x'}"),
                *c = declared("{'name':'x','kind':'different','baseline':'a','canary':'b','alpha':'0.2%',"
                              "'max_time':'2h'}");
    assert_string_equal(a->hash, b->hash);
    assert_string_not_equal(a->hash, c->hash);
    assert_false(a->guards[SRN_METRIC_DIVERGENCE].set);
    srn_rollout_free(a);
    srn_rollout_free(b);
    srn_rollout_free(c);
}

static void what_is_wrong_is_refused_by_its_key(void **state) {
    (void)state;
    static const struct {
        const char *key, *value; /* laid over the minimal declaration */
        const char *says;
    } all[] = {
        {"name", "'a b'", "letters"},
        {"name", "null", "missing"},
        {"kind", "'same'", "one of equivalent, different"},
        {"canary", "'small'", "nothing would be compared"},
        {"canary", "null", "missing"},
        {"colour", "1", "no such key"},
        {"steps", "[]", "1 to 16"},
        {"steps", "[0.5,0.5]", "above the last"},
        {"steps", "[0]", "shadow: 20%"},
        {"steps", "[0.1,0]", "share"},
        {"steps", "['200%']", "share"},
        {"steps", "['-1%']", "share"},
        {"steps", "['nan%']", "share"},
        {"evidence", "{'calls':1}", "evidence.calls"},
        {"evidence", "{'cals':1}", "evidence.cals"},
        {"evidence", "{'time':'10 parsecs'}", "a time such as"},
        {"evidence", "{'time':'99999999999999999999d'}", "time"},
        {"guardrails", "{'itm':1}", "guardrails.itm"},
        {"guardrails", "{'error':'101%'}", "guardrails.error"},
        {"guardrails", "{'error':'off','itl':'off','ttft':false,'divergence':null}", "none is left"},
        {"alpha", "0", "alpha"},
        {"alpha", "0.5", "alpha"},
        {"judge", "0", "judge"},
        {"max_time", "'5m'", "max_time"},
        {"on_timeout", "'promote'", "not promoted"},
        {"webhook", "'ftp://x'", "https://"},
        {"prompt", "{'id':'p','baseline':1}", "prompt.canary: is missing"},
        {"routes", "'chat'", "list"},
    };
    for (size_t i = 0; i < SRN_LEN(all); i++) {
        srn_err err = {0};
        srn_rollout *r = NULL;
        json_t *o = quoted(MINIMAL), *v = quoted(all[i].value);
        json_object_set_new(o, all[i].key, v);
        assert_int_equal(srn_rollout_parse(o, "serin.yaml: canary[0]", &r, &err), SRN_EINVAL);
        if (!strstr(err.text, all[i].says) || !strstr(err.text, "serin.yaml: canary[0]"))
            fail_msg("%s: %s: '%s'", all[i].key, all[i].value, err.text);
        json_decref(o);
    }
}

static void places_are_known_numbers(void **state) {
    (void)state;
    uint8_t key[32], h[32];
    for (int i = 0; i < 32; i++) key[i] = (uint8_t)i;
    static const char message[] = "serin canary 1\0trial\0alice";
    crypto_generichash(h, 32, (const uint8_t *)message, sizeof message - 1, key, 32);
    uint64_t top = 0;
    for (int i = 0; i < 8; i++) top = top << 8 | h[i];
    assert_true(srn_assign_place(key, "trial", SRN_STR("alice")) == (double)(top >> 11) / 9007199254740992.0);
    assert_true(srn_assign_place(key, "trial", SRN_STR("alice")) == 0x1.c595bae952eeep-1);
}

static void shares_are_kept_and_nobody_moves_while_they_grow(void **state) {
    (void)state;
    enum { N = 20000 };
    uint8_t key[32] = {7};
    static const double shares[] = {0.01, 0.05, 0.25, 0.5};
    unsigned counts[4][4] = {{0}};
    for (int i = 0; i < N; i++) {
        char name[16];
        int n = snprintf(name, sizeof name, "user-%d", i);
        double place = srn_assign_place(key, "trial", (srn_str){name, (size_t)n});
        srn_arm before = SRN_ARM_BASELINE;
        for (int s = 0; s < 4; s++) {
            srn_arm a = srn_assign_arm(place, shares[s]);
            if (before != SRN_ARM_BASELINE) assert_int_equal(a, before);
            counts[s][a]++;
            before = a;
        }
        assert_int_equal(srn_assign_arm(place, 1), SRN_ARM_CANARY);
        assert_int_equal(srn_assign_arm(place, 0), SRN_ARM_BASELINE);
    }
    for (int s = 0; s < 4; s++) {
        double sd = sqrt(N * shares[s] * (1 - shares[s]));
        assert_true(fabs(counts[s][SRN_ARM_CANARY] - N * shares[s]) < 5 * sd);
        assert_true(fabs(counts[s][SRN_ARM_CONTROL] - N * shares[s]) < 5 * sd);
    }
    assert_int_equal(srn_assign_arm(0.7, 0.75), SRN_ARM_CANARY);
    assert_int_equal(srn_assign_arm(0.8, 0.75), SRN_ARM_CONTROL);
}

/* ---- state ---- */

static const srn_rollout *the_rollout;

static int event(srn_rollout_state *s, const char *name, const char *fields, uint64_t at_us) {
    srn_err err = {0};
    json_t *o = quoted(fields);
    json_object_set_new(o, "hash", json_string(the_rollout->hash));
    int code = srn_rollout_apply(the_rollout, s, name, o, at_us, &err);
    assert_true(!code == !err.text[0]);
    json_decref(o);
    return code;
}

static void events_add_up_to_the_state(void **state) {
    (void)state;
    srn_rollout *r = declared(MINIMAL);
    srn_rollout_state s = {0};
    the_rollout = r;
    assert_int_equal(event(&s, "rollout_step", "{'step':1}", 5), SRN_EINVAL);
    assert_int_equal(event(&s, "rollout_started", "{'by':'ann'}", 10), SRN_OK);
    assert_int_equal(event(&s, "rollout_started", "{}", 11), SRN_EINVAL);
    assert_true(s.phase == SRN_PHASE_RUNNING && s.share == 0.01 && s.is.started_us == 10);
    assert_string_equal(s.by, "ann");
    assert_int_equal(event(&s, "rollout_step", "{'step':5}", 20), SRN_EINVAL);
    assert_int_equal(event(&s, "rollout_step", "{'step':4}", 20),
                     SRN_EINVAL); /* over those it is compared by */
    assert_int_equal(event(&s, "rollout_step", "{'step':2,'why':'enough'}", 20), SRN_OK);
    assert_int_equal(event(&s, "rollout_step", "{'step':2}", 21),
                     SRN_EINVAL); /* another server said it too */
    assert_int_equal(event(&s, "rollout_step", "{'step':1}", 21), SRN_EINVAL);
    assert_true(s.is.step == 2 && s.share == 0.25 && s.is.step_started_us == 20 && s.is.started_us == 10);
    assert_string_equal(s.why, "enough");
    assert_int_equal(event(&s, "rollout_resumed", "{}", 25), SRN_EINVAL);
    assert_int_equal(event(&s, "rollout_paused", "{}", 30), SRN_OK);
    assert_true(s.phase == SRN_PHASE_PAUSED && s.share == 0.25);
    assert_int_equal(event(&s, "rollout_step", "{'step':3}", 31), SRN_EINVAL);
    assert_int_equal(event(&s, "rollout_resumed", "{}", 40), SRN_OK);
    assert_true(s.phase == SRN_PHASE_RUNNING && s.is.step_started_us == 40);
    assert_int_equal(event(&s, "rollout_elsewhere", "{}", 41), SRN_EINVAL);
    assert_int_equal(event(&s, "rollout_step", "{'step':3}", 42), SRN_OK);
    assert_int_equal(event(&s, "rollout_step", "{'step':4}", 43), SRN_OK);
    assert_true(s.share == 1);
    assert_int_equal(event(&s, "rollout_aborted", "{}", 50), SRN_OK);
    assert_true(srn_rollout_is_over(&s) && !s.latched && s.share == 0);
    assert_int_equal(event(&s, "rollout_paused", "{}", 51), SRN_EINVAL);
    assert_int_equal(event(&s, "rollout_started", "{}", 60), SRN_OK);
    assert_true(s.phase == SRN_PHASE_RUNNING && s.is.step == 0 && s.is.started_us == 60);
    srn_rollout_free(r);
}

static void a_verdict_latches_and_two_crashes_end_it(void **state) {
    (void)state;
    srn_rollout *r = declared(MINIMAL);
    srn_rollout_state s = {0}, p;
    const uint64_t minute = 60000000, at = 1000 * minute;
    the_rollout = r;
    assert_int_equal(event(&s, "rollout_started", "{}", at), SRN_OK);
    p = s;
    assert_int_equal(event(&p, "rollout_promoted", "{'look':{}}", at + 1), SRN_OK);
    assert_int_equal(event(&p, "rollout_started", "{}", at + 2), SRN_EINVAL);
    assert_false(srn_rollout_crash_ends(&s, at));
    assert_int_equal(event(&s, "rollout_crashed", "{}", at), SRN_OK);
    assert_true(s.phase == SRN_PHASE_PAUSED && s.share == 0);
    assert_true(srn_rollout_crash_ends(&s, at + 10 * minute));
    assert_false(srn_rollout_crash_ends(&s, at + 10 * minute + 1));
    assert_int_equal(event(&s, "rollout_resumed", "{}", at + minute), SRN_OK);
    assert_true(s.share == 0.01);
    assert_int_equal(event(&s, "rollout_rolled_back", "{'why':'crashed twice'}", at + 2 * minute), SRN_OK);
    assert_true(s.latched && s.phase == SRN_PHASE_ROLLED_BACK);
    assert_int_equal(event(&s, "rollout_started", "{}", at + 3 * minute), SRN_EINVAL);
    srn_rollout_free(r);
}

static void an_event_of_another_declaration_changes_nothing(void **state) {
    (void)state;
    srn_rollout *r = declared(MINIMAL), *other = declared(full);
    srn_rollout_state s = {0};
    the_rollout = r;
    assert_int_equal(event(&s, "rollout_started", "{}", 1), SRN_OK);
    srn_err err = {0};
    json_t *o = json_pack("{s:s}", "hash", other->hash);
    assert_int_equal(srn_rollout_apply(r, &s, "rollout_aborted", o, 2, &err), SRN_EINVAL);
    assert_int_equal(s.phase, SRN_PHASE_RUNNING);
    json_decref(o);
    srn_rollout_free(r);
    srn_rollout_free(other);
}

int main(void) {
    const struct CMUnitTest all[] = {
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(a_step_above_the_cap_can_not_begin),
        cmocka_unit_test(the_canonical_form_is_the_same_declaration),
        cmocka_unit_test(one_meaning_has_one_hash_and_another_has_another),
        cmocka_unit_test(what_is_wrong_is_refused_by_its_key),
        cmocka_unit_test(places_are_known_numbers),
        cmocka_unit_test(shares_are_kept_and_nobody_moves_while_they_grow),
        cmocka_unit_test(events_add_up_to_the_state),
        cmocka_unit_test(a_verdict_latches_and_two_crashes_end_it),
        cmocka_unit_test(an_event_of_another_declaration_changes_nothing),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
