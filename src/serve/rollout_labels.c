/* The labels of a prompt whose new version was promoted. Called when it is, and again after a start that
 * finds the promotion in the ledger and labels that a crash left behind; so it does no more than is missing.
 * What somebody has moved since the promotion stays where they put it. Any thread; waits for commits.
 */
#include "serve/rollout.h"

/* When the label was last moved, by a prompt's history. */
static uint64_t moved_us(const json_t *history, const char *label) {
    uint64_t at_us = 0;
    size_t i;
    json_t *e;
    json_array_foreach(json_object_get(history, "history"), i, e) {
        const char *of = json_string_value(json_object_get(e, "label"));
        if (of && strcmp(of, label) == 0) at_us = (uint64_t)json_integer_value(json_object_get(e, "at_us"));
    }
    return at_us;
}

int srn__rollout_labels(srn_prompts *p, const srn_rollout *d, uint64_t promoted_us, srn_err *err) {
    char by[SRN_ROLLOUT_NAME_MAX + 16];
    const char *label;
    json_t *known = NULL, *history = NULL, *version;
    bool moved;
    snprintf(by, sizeof by, "roll-out %s", d->name);
    int code = srn_prompts_json(p, d->prompt, &known, err);
    if (!code) code = srn_prompts_history(p, d->prompt, &history, err);
    json_object_foreach(json_object_get(known, "labels"), label, version) {
        bool old = json_integer_value(version) == (json_int_t)d->baseline_version;
        if (!code && old && moved_us(history, label) < promoted_us)
            code = srn_prompts_label(p, d->prompt, label, d->canary_version, by, &moved, err);
    }
    json_decref(known);
    json_decref(history);
    return code;
}
