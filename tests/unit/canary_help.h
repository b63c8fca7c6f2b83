/* What the tests of roll-outs share: declarations written with single quotes. */
#ifndef SRN_TESTS_CANARY_HELP_H
#define SRN_TESTS_CANARY_HELP_H

#include <stdlib.h>

#include "canary/canary.h"

/* So many fewer roll-outs are simulated where everything takes longer. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SLOWER = 40 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { SLOWER = 40 };
#else
enum { SLOWER = 1 };
#endif
#else
enum { SLOWER = 1 };
#endif

#define MINIMAL "{'name':'trial','kind':'equivalent','baseline':'small','canary':'small-q8'}"

/* JSON with ' for ". */
static inline json_t *quoted(const char *text) {
    char *copy = srn_strndup(text, strlen(text));
    for (char *p = copy; *p; p++)
        if (*p == '\'') *p = '"';
    json_t *o = json_loads(copy, JSON_DECODE_ANY, NULL);
    if (!o) fail_msg("no JSON: %s", copy);
    free(copy);
    return o;
}

static inline srn_rollout *declared(const char *text) {
    srn_rollout *r = NULL;
    srn_err err = {0};
    json_t *o = quoted(text);
    if (srn_rollout_parse(o, "declaration", &r, &err)) fail_msg("%s", err.text);
    json_decref(o);
    return r;
}

#endif
