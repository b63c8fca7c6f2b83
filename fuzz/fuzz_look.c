/* Fuzz target: looks as the log keeps them. What was read is written again and is the same; its verdict can
 * be recomputed, whatever its numbers. */
#include <stdlib.h>

#include "canary/canary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) abort();
}

static void again(const srn_look *l) {
    srn_err err = {0};
    srn_look q;
    json_t *a = srn_look_json(l), *b = NULL;
    check(a && srn_look_parse(a, &q, &err) == SRN_OK);
    b = srn_look_json(&q);
    check(json_equal(a, b));
    json_decref(a);
    json_decref(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char declaration[] =
        "{\"name\":\"t\",\"kind\":\"equivalent\",\"baseline\":\"a\",\"canary\":\"b\"}";
    srn_err err = {0};
    srn_look l;
    srn_rollout *r = NULL;
    srn_step_is is = {.step = 1, .started_us = 1, .step_started_us = 2};
    json_t *o = json_loadb((const char *)data, size, 0, NULL), *d = json_loads(declaration, 0, NULL);
    check(srn_rollout_parse(d, "fuzz", &r, &err) == SRN_OK);
    if (srn_look_parse(o, &l, &err) == SRN_OK) {
        again(&l);
        srn_look_again(r, &is, &l);
        check(l.why[0] && l.verdict <= SRN_VERDICT_ROLL_BACK);
        again(&l);
    }
    srn_rollout_free(r);
    json_decref(d);
    json_decref(o);
    return 0;
}
