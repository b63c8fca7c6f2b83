/* The labels of a prompt whose new version was promoted. Called by every server that sees the promotion, by
 * the one that made it at once, and again after a start, for a server may die in between; so it does no more
 * than is missing. What somebody has moved since the promotion stays where they put it. Any thread; waits for
 * commits.
 */
#include "serve/rollout.h"

int srn__rollout_labels(srn_prompts *p, const srn_rollout *d, uint64_t promoted_us, srn_err *err) {
    char by[SRN_ROLLOUT_NAME_MAX + 16];
    const char *label;
    json_t *known = NULL, *version;
    bool moved;
    snprintf(by, sizeof by, "roll-out %s", d->name);
    int code = srn_prompts_json(p, d->prompt, &known, err);
    json_object_foreach(json_object_get(known, "labels"), label, version) {
        bool old = json_integer_value(version) == (json_int_t)d->baseline_version;
        if (!code && old)
            code = srn_prompts_relabel(p, d->prompt, label, d->baseline_version, promoted_us,
                                       d->canary_version, by, &moved, err);
    }
    json_decref(known);
    return code;
}
