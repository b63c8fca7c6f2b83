/* Fuzz target: declarations of roll-outs as JSON, and (behind the first zero byte) fields of an event. What
 * was read is written again and must be the same declaration. */
#include <stdlib.h>

#include "canary/canary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) abort();
}

static void again(const srn_rollout *r) {
    srn_err err = {0};
    srn_rollout *q = NULL;
    json_t *o = srn_rollout_json(r);
    check(o && srn_rollout_parse(o, "again", &q, &err) == SRN_OK);
    check(strcmp(r->hash, q->hash) == 0);
    srn_rollout_free(q);
    json_decref(o);
}

static void apply(const srn_rollout *r, const char *text, size_t size) {
    static const char *const events[] = {"rollout_started", "rollout_step",    "rollout_crashed",
                                         "rollout_resumed", "rollout_aborted", "rollout_promoted"};
    srn_err err = {0};
    srn_rollout_state s = {.share = 0};
    json_t *o = json_loadb(text, size, 0, NULL);
    if (json_is_object(o)) json_object_set_new(o, "hash", json_string(r->hash));
    for (size_t i = 0; i < SRN_LEN(events); i++) srn_rollout_apply(r, &s, events[i], o, i, &err);
    check(s.share >= 0 && s.share <= 1 && s.is.step < r->n_steps);
    json_decref(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    srn_err err = {0};
    srn_rollout *r = NULL;
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t n = zero ? (size_t)(zero - data) : size;
    json_t *o = json_loadb((const char *)data, n, 0, NULL);
    int code = srn_rollout_parse(o, "fuzz", &r, &err);
    check(!code == !err.text[0]);
    if (!code) {
        again(r);
        if (zero) apply(r, (const char *)zero + 1, size - n - 1);
    }
    srn_rollout_free(r);
    json_decref(o);
    return 0;
}
