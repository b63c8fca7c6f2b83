/* The divergence of a call comes after the call: it is added to what is known of the call's subject, and to
 * nothing else. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "canary_help.h"

static srn_observation seen(uint64_t subject, srn_arm arm) {
    srn_observation o = {.subject = subject, .arm = arm, .at_us = 1000000 * subject};
    for (unsigned m = 0; m < SRN_METRIC_END; m++) o.values[m] = NAN;
    return o;
}

static void a_judged_call_adds_to_the_divergence_alone(void **state) {
    (void)state;
    srn_rollout *r = declared(MINIMAL);
    srn_evidence *e = NULL;
    srn_err err = {0};
    srn_look before, after;
    const srn_step_is is = {.started_us = 1, .step_started_us = 1};
    if (srn_evidence_new(r, &e, &err)) fail_msg("%s", err.text);
    for (uint64_t k = 1; k <= 40; k++) {
        srn_observation o = seen(k, k % 2 ? SRN_ARM_CANARY : SRN_ARM_CONTROL);
        o.values[SRN_METRIC_ERROR] = 0;
        o.values[SRN_METRIC_LENGTH] = 20 + (double)(k % 5);
        assert_int_equal(srn_evidence_add(e, &o, &err), SRN_OK);
    }
    srn_look_at(r, e, &is, 50000000, &before);
    for (uint64_t k = 1; k <= 40; k++) { /* those of the control are not the canary's to be judged */
        srn_observation o = seen(k, k % 2 ? SRN_ARM_CANARY : SRN_ARM_CONTROL);
        o.values[SRN_METRIC_DIVERGENCE] = 0.01;
        assert_int_equal(srn_evidence_later(e, SRN_METRIC_DIVERGENCE, &o, &err), SRN_OK);
    }
    srn_look_at(r, e, &is, 50000000, &after);
    for (unsigned m = 0; m < SRN_METRIC_END; m++)
        if (m != SRN_METRIC_DIVERGENCE)
            assert_memory_equal(&before.findings[m], &after.findings[m], sizeof before.findings[m]);
    assert_int_equal(after.findings[SRN_METRIC_DIVERGENCE].n_calls[1], 20);
    assert_int_equal(after.findings[SRN_METRIC_DIVERGENCE].n_calls[0], 0);
    assert_true(fabs(after.findings[SRN_METRIC_DIVERGENCE].estimate - 0.01) < 1e-12);
    srn_observation late = seen(1, SRN_ARM_CANARY);
    late.values[SRN_METRIC_DIVERGENCE] = 0.69; /* log 2 is the most */
    late.step = r->n_steps;
    assert_int_equal(srn_evidence_later(e, SRN_METRIC_DIVERGENCE, &late, &err), SRN_EINVAL);
    srn_evidence_free(e);
    srn_rollout_free(r);
}

int main(void) {
    const struct CMUnitTest all[] = {cmocka_unit_test(a_judged_call_adds_to_the_divergence_alone)};
    return cmocka_run_group_tests(all, NULL, NULL);
}
