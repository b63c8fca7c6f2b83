/* The state of a roll-out is what its events add up to. Pure; any thread. Refuses events that do not fit:
 * of another declaration, of a roll-out that has not started or has ended.
 */
#include "canary/canary_internal.h"

enum { CRASHES_APART_US = 600 * 1000000 }; /* a second crash within this ends the roll-out */

const char *srn_phase_name(srn_rollout_phase p) {
    static const char *const names[] = {
        [SRN_PHASE_RUNNING] = "running",   [SRN_PHASE_PAUSED] = "paused",
        [SRN_PHASE_PROMOTED] = "promoted", [SRN_PHASE_ROLLED_BACK] = "rolled_back",
        [SRN_PHASE_ABORTED] = "aborted",   [SRN_PHASE_RETIRED] = "retired"};
    return (unsigned)p < SRN_LEN(names) ? names[p] : NULL;
}

bool srn_rollout_is_over(const srn_rollout_state *s) {
    return s->phase != SRN_PHASE_RUNNING && s->phase != SRN_PHASE_PAUSED;
}

bool srn_rollout_crash_ends(const srn_rollout_state *s, uint64_t at_us) {
    return s->crashed_us && at_us >= s->crashed_us && at_us - s->crashed_us <= CRASHES_APART_US;
}

double srn_rollout_cap(const srn_rollout *r, uint32_t step) {
    double cap = r->max_share > 0 ? r->max_share : 1.5 * r->steps[SRN_MIN(step, r->n_steps - 1)];
    return SRN_MIN(cap, 1.0);
}

static int start(const srn_rollout *r, srn_rollout_state *s, const json_t *fields, uint64_t at_us,
                 srn_err *err) {
    (void)fields;
    if (s->latched)
        return srn_fail(err, SRN_EINVAL,
                        "%s: this declaration was %s by %s (%s) and never runs again; change it", r->name,
                        s->phase == SRN_PHASE_ROLLED_BACK ? "rolled back" : srn_phase_name(s->phase),
                        s->by[0] ? s->by : "somebody", s->why[0] ? s->why : "no reason was given");
    if (s->is.started_us && !srn_rollout_is_over(s))
        return srn_fail(err, SRN_EINVAL, "%s: runs already", r->name);
    *s = (srn_rollout_state){.phase = SRN_PHASE_RUNNING,
                             .is = {.started_us = at_us, .step_started_us = at_us},
                             .share = r->steps[0],
                             .shadow = r->shadow};
    return SRN_OK;
}

static int step(const srn_rollout *r, srn_rollout_state *s, const json_t *fields, uint64_t at_us,
                srn_err *err) {
    const json_t *j = json_object_get(fields, "step");
    if (s->phase != SRN_PHASE_RUNNING)
        return srn_fail(err, SRN_EINVAL, "%s: a paused roll-out takes no step; resume it first", r->name);
    if (!json_is_integer(j) || json_integer_value(j) < 0 || json_integer_value(j) >= r->n_steps)
        return srn_fail(err, SRN_EINVAL, "%s: there is no such step; it has %u, the first one is 1", r->name,
                        r->n_steps);
    if (json_integer_value(j) <= s->is.step)
        return srn_fail(
            err, SRN_EINVAL,
            "%s: is at step %u, and evidence of a step is gathered once: pause it, or abort it and "
            "start it again",
            r->name, s->is.step + 1);
    if (r->steps[json_integer_value(j)] >= 1 && json_integer_value(j) > s->is.step + 1)
        return srn_fail(err, SRN_EINVAL,
                        "%s: step %u has no control, and would wait for what step %u has shown, which was "
                        "skipped: step to %u first, or promote it as it is",
                        r->name, r->n_steps, r->n_steps - 1, r->n_steps - 1);
    s->is.step = (uint32_t)json_integer_value(j);
    s->is.step_started_us = at_us;
    s->share = r->steps[s->is.step];
    return SRN_OK;
}

static int pause(const srn_rollout *r, srn_rollout_state *s, const json_t *fields, uint64_t at_us,
                 srn_err *err) {
    (void)fields, (void)at_us;
    if (s->phase == SRN_PHASE_PAUSED) return srn_fail(err, SRN_EINVAL, "%s: is paused already", r->name);
    s->phase = SRN_PHASE_PAUSED;
    return SRN_OK;
}

/* What was not served is no time of the step. */
static int resume(const srn_rollout *r, srn_rollout_state *s, const json_t *fields, uint64_t at_us,
                  srn_err *err) {
    (void)fields;
    if (s->phase != SRN_PHASE_PAUSED) return srn_fail(err, SRN_EINVAL, "%s: is not paused", r->name);
    s->phase = SRN_PHASE_RUNNING;
    s->is.step_started_us = at_us;
    s->share = r->steps[s->is.step];
    s->shadow = r->shadow;
    return SRN_OK;
}

static int crash(const srn_rollout *r, srn_rollout_state *s, const json_t *fields, uint64_t at_us,
                 srn_err *err) {
    (void)r, (void)fields, (void)err;
    s->phase = SRN_PHASE_PAUSED;
    s->share = s->shadow = 0;
    s->crashed_us = at_us;
    return SRN_OK;
}

static int finish(srn_rollout_state *s, srn_rollout_phase phase, const json_t *fields) {
    s->phase = phase;
    s->share = s->shadow = 0;
    s->latched = phase != SRN_PHASE_ABORTED && json_is_object(json_object_get(fields, "look"));
    return SRN_OK;
}

static int promote(const srn_rollout *r, srn_rollout_state *s, const json_t *fields, uint64_t at_us,
                   srn_err *err) {
    (void)r, (void)at_us, (void)err;
    return finish(s, SRN_PHASE_PROMOTED, fields);
}

static int roll_back(const srn_rollout *r, srn_rollout_state *s, const json_t *fields, uint64_t at_us,
                     srn_err *err) {
    (void)r, (void)at_us, (void)err;
    int code = finish(s, SRN_PHASE_ROLLED_BACK, fields);
    s->latched = true; /* a second crash has no look, and is as final */
    return code;
}

static int abort_it(const srn_rollout *r, srn_rollout_state *s, const json_t *fields, uint64_t at_us,
                    srn_err *err) {
    (void)r, (void)at_us, (void)err;
    return finish(s, SRN_PHASE_ABORTED, fields);
}

static int retire(const srn_rollout *r, srn_rollout_state *s, const json_t *fields, uint64_t at_us,
                  srn_err *err) {
    (void)fields, (void)at_us;
    if (s->phase != SRN_PHASE_PROMOTED)
        return srn_fail(err, SRN_EINVAL, "%s: only what was promoted can be retired; this one is %s", r->name,
                        srn_phase_name(s->phase));
    s->phase = SRN_PHASE_RETIRED;
    return SRN_OK;
}

typedef int apply_fn(const srn_rollout *r, srn_rollout_state *s, const json_t *fields, uint64_t at_us,
                     srn_err *err);
static const struct {
    const char *event;
    apply_fn *apply;
} events[] = {
    {"rollout_started", start},    {"rollout_step", step},
    {"rollout_paused", pause},     {"rollout_resumed", resume},
    {"rollout_crashed", crash},    {"rollout_promoted", promote},
    {"rollout_aborted", abort_it}, {"rollout_rolled_back", roll_back},
    {"rollout_retired", retire},
};

int srn_rollout_apply(const srn_rollout *r, srn_rollout_state *s, const char *event, const json_t *fields,
                      uint64_t at_us, srn_err *err) {
    const char *hash = json_string_value(json_object_get(fields, "hash"));
    apply_fn *apply = NULL;
    for (size_t i = 0; i < SRN_LEN(events) && !apply; i++)
        if (strcmp(event, events[i].event) == 0) apply = events[i].apply;
    if (!apply) return srn_fail(err, SRN_EINVAL, "%s: '%.40s' is no event of a roll-out", r->name, event);
    if (!hash || strcmp(hash, r->hash) != 0)
        return srn_fail(err, SRN_EINVAL, "%s: the event is of another declaration (%.12s, this is %.12s)",
                        r->name, hash ? hash : "without hash", r->hash);
    if (apply != start && !s->is.started_us) return srn_fail(err, SRN_EINVAL, "%s: has not started", r->name);
    if (apply != start && apply != retire && s->phase == SRN_PHASE_PROMOTED)
        return srn_fail(
            err, SRN_EINVAL,
            "%s: was promoted, and its canary answers for %s; serin canary retire %s gives that back "
            "at once",
            r->name, r->baseline, r->name);
    if (apply != start && apply != retire && srn_rollout_is_over(s))
        return srn_fail(err, SRN_EINVAL, "%s: has ended (%s)", r->name, srn_phase_name(s->phase));
    int code = apply(r, s, fields, at_us, err);
    if (code) return code;
    srn__canary_text(s->by, sizeof s->by, json_string_value(json_object_get(fields, "by")));
    srn__canary_text(s->why, sizeof s->why, json_string_value(json_object_get(fields, "why")));
    return SRN_OK;
}
