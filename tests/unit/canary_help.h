/* What the tests of roll-outs share: declarations written with single quotes. */
#ifndef SRN_TESTS_CANARY_HELP_H
#define SRN_TESTS_CANARY_HELP_H

#include <stdlib.h>

#include "canary/canary.h"

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
