/* What a record says of a roll-out: a call's record, or the event of a judged call, becomes an observation.
 * Pure: the same record is the same observation on every server and at every restart.
 */
#include <math.h>
#include <stdlib.h>

#include "serve/rollout.h"

static double number(const json_t *v) {
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static double positive(const json_t *v) { /* times and counts: 0 stands for none */
    return json_is_number(v) && json_number_value(v) > 0 ? json_number_value(v) : NAN;
}

static bool is(const json_t *v, const char *text) {
    const char *z = json_string_value(v);
    return z && strcmp(z, text) == 0;
}

static srn_arm arm_of(const json_t *v) {
    for (srn_arm a = SRN_ARM_BASELINE; a <= SRN_ARM_CANARY; a++)
        if (is(v, srn_arm_name(a))) return a;
    return SRN_ARM_NONE;
}

/* The time by the engine's clock where it was measured, else by the wall's; where an arm is another server,
 * as both arms are measured from outside. */
static double time_of(const json_t *rollout, const json_t *body, const char *name) {
    const json_t *wall = json_object_get(rollout, "wall_us");
    if (wall) return positive(json_object_get(wall, name));
    double engine = positive(json_object_get(json_object_get(rollout, "engine_us"), name));
    return isnan(engine) ? positive(json_object_get(json_object_get(body, "us"), name)) : engine;
}

/* Whether an answer came to an end of its own. */
static bool is_whole(const json_t *body) {
    const json_t *finish = json_object_get(body, "finish");
    return is(finish, "length") || is(finish, "stop") || is(finish, "tool_calls");
}

static void measure(const json_t *body, const json_t *rollout, double values[SRN_METRIC_END]) {
    const json_t *finish = json_object_get(body, "finish"), *checks = json_object_get(rollout, "checks");
    bool cut = is(finish, "length"), whole = is_whole(body);
    bool failed = json_integer_value(json_object_get(body, "status")) >= 500 || is(finish, "interrupted") ||
                  is(finish, "error") || json_is_true(json_object_get(rollout, "fallback"));
    values[SRN_METRIC_ERROR] = failed;
    if (failed || !whole) return;
    values[SRN_METRIC_TTFT] = time_of(rollout, body, "ttft");
    values[SRN_METRIC_ITL] = time_of(rollout, body, "itl");
    values[SRN_METRIC_CUT] = cut;
    values[SRN_METRIC_LENGTH] = positive(json_object_get(json_object_get(body, "tokens"), "output"));
    if (json_is_string(json_object_get(body, "constraint"))) values[SRN_METRIC_CONSTRAINT] = cut;
    values[SRN_METRIC_REPETITION] = number(json_object_get(rollout, "repetition"));
    values[SRN_METRIC_UNCERTAINTY] = number(json_object_get(rollout, "uncertainty"));
    double passed = number(json_object_get(checks, "passed")),
           lost = number(json_object_get(checks, "failed"));
    if (passed + lost > 0) values[SRN_METRIC_CHECKS] = lost / (passed + lost);
}

/* A copy that was cancelled, or found no room, or no time, behind everything else, says nothing of the
 * canary. */
static bool is_nothing(const json_t *body, const json_t *rollout) {
    const json_t *finish = json_object_get(body, "finish");
    bool failed = is(finish, "error") && !is(json_object_get(body, "error"), srn_err_name(SRN_ETIMEOUT));
    return !is_whole(body) && !failed && !json_is_true(json_object_get(rollout, "fallback"));
}

static bool begin(const json_t *body, const json_t *rollout, srn_observation *ret) {
    const char *subject = json_string_value(json_object_get(rollout, "subject"));
    *ret = (srn_observation){.arm = arm_of(json_object_get(body, "arm")),
                             .step = (uint32_t)json_integer_value(json_object_get(rollout, "step"))};
    for (size_t m = 0; m < SRN_METRIC_END; m++) ret->values[m] = NAN;
    if (!subject || ret->arm == SRN_ARM_NONE) return false;
    ret->subject = strtoull(subject, NULL, 16);
    return true;
}

srn__seen srn__rollout_observe(const json_t *body, srn_observation *ret) {
    const json_t *rollout = json_object_get(body, "rollout");
    int64_t status = json_integer_value(json_object_get(body, "status"));
    if (!begin(body, rollout, ret)) return SRN__SEEN_NOTHING;
    ret->at_us = (uint64_t)json_integer_value(json_object_get(body, "begun_us"));
    ret->shadow = is(json_object_get(body, "why"), "shadow");
    if (ret->shadow && is_nothing(body, rollout)) return SRN__SEEN_NOTHING;
    if (!json_is_true(json_object_get(rollout, "counted"))) return SRN__SEEN_EXPOSED;
    if (status >= 400 && status < 500) return SRN__SEEN_NOTHING; /* the client's own mistake */
    measure(body, rollout, ret->values);
    return SRN__SEEN_CALL;
}

bool srn__rollout_observe_past(const json_t *body, char who[SRN__WHO_CHARS + 1],
                               double values[SRN_METRIC_END]) {
    const json_t *rollout = json_object_get(body, "rollout"), *engine = json_object_get(rollout, "engine_us");
    const char *text = json_string_value(json_object_get(body, "who"));
    int64_t status = json_integer_value(json_object_get(body, "status"));
    for (size_t m = 0; m < SRN_METRIC_END; m++) values[m] = NAN;
    if (!text || strlen(text) != SRN__WHO_CHARS || (status >= 400 && status < 500)) return false;
    if (json_is_true(json_object_get(rollout, "fallback"))) return false; /* in another's place */
    memcpy(who, text, SRN__WHO_CHARS + 1);
    measure(body, rollout, values);
    values[SRN_METRIC_TTFT] = positive(json_object_get(engine, "ttft"));
    values[SRN_METRIC_ITL] = positive(json_object_get(engine, "itl"));
    return true;
}

bool srn__rollout_observe_judged(const json_t *event, srn_observation *ret) {
    int64_t n = json_integer_value(json_object_get(event, "tokens"));
    if (n <= 0 || !begin(event, event, ret)) return false;
    ret->at_us = (uint64_t)json_integer_value(json_object_get(event, "begun_us"));
    ret->shadow = json_is_true(json_object_get(event, "shadow"));
    ret->values[SRN_METRIC_DIVERGENCE] = number(json_object_get(event, "jsd")) / (double)n;
    return !isnan(ret->values[SRN_METRIC_DIVERGENCE]);
}

json_t *srn__rollout_of_marked(const json_t *call) {
    const json_t *rollout = json_object_get(call, "rollout");
    bool evidence = json_is_true(json_object_get(rollout, "counted")) && is_whole(call) &&
                    !json_is_true(json_object_get(rollout, "fallback")) &&
                    !is(json_object_get(call, "why"), "shadow");
    if (!evidence) return NULL;
    return json_pack("{s:O, s:O, s:O, s:O, s:O, s:O}", "experiment", json_object_get(call, "experiment"),
                     "hash", json_object_get(rollout, "hash"), "arm", json_object_get(call, "arm"), "step",
                     json_object_get(rollout, "step"), "subject", json_object_get(rollout, "subject"),
                     "begun_us", json_object_get(call, "begun_us"));
}

/* 1: bad, 0: good, or what a score between says; NAN: it is no mark. */
static double badness(const json_t *body) {
    static const struct {
        const char *label;
        double bad;
    } words[] = {{"good", 0}, {"up", 0},   {"thumbs_up", 0},   {"like", 0},    {"positive", 0},
                 {"bad", 1},  {"down", 1}, {"thumbs_down", 1}, {"dislike", 1}, {"negative", 1}};
    double score = number(json_object_get(body, "score"));
    if (!isnan(score)) return 1 - SRN_MAX(0.0, SRN_MIN(1.0, score));
    for (size_t i = 0; i < SRN_LEN(words); i++)
        if (is(json_object_get(body, "label"), words[i].label)) return words[i].bad;
    return NAN;
}

bool srn__rollout_observe_feedback(const json_t *body, srn_observation *ret) {
    const json_t *rollout = json_object_get(body, "rollout");
    const char *id = json_string_value(json_object_get(body, "id"));
    uint8_t bytes[16];
    if (!id || !srn_ulid_parse(srn_str_of(id), bytes) || !begin(rollout, rollout, ret)) return false;
    for (size_t i = 8; i < sizeof bytes; i++) ret->call = ret->call << 8 | bytes[i]; /* its random part */
    ret->at_us = (uint64_t)json_integer_value(json_object_get(rollout, "begun_us"));
    ret->values[SRN_METRIC_FEEDBACK] = badness(body);
    return !isnan(ret->values[SRN_METRIC_FEEDBACK]);
}

json_t *srn__step_is_json(const srn_step_is *is) {
    return json_pack("{s:I, s:I, s:I}", "last_canary_us", (json_int_t)is->last_canary_us, "open",
                     (json_int_t)is->n_open, "oldest_open_us", (json_int_t)is->oldest_open_us);
}

void srn__step_is_read(const json_t *o, srn_step_is *add) {
    add->last_canary_us = (uint64_t)json_integer_value(json_object_get(o, "last_canary_us"));
    add->n_open = (uint32_t)json_integer_value(json_object_get(o, "open"));
    add->oldest_open_us = (uint64_t)json_integer_value(json_object_get(o, "oldest_open_us"));
}
