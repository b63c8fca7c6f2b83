/* /v1/rollouts: what administrators see of roll-outs and do to them. Handlers run on workers; a change
 * answers when it is committed and in force. Refuses everything where there is no ledger.
 */
#include <stdlib.h>

#include "serve/fields.h"
#include "serve/rollout.h"
#include "serve/routes.h"
#include "serve/server_internal.h"
#include "serve/upstream.h"

static srn__rollouts *rollouts_of(srn__call *c) {
    srn__rollouts *x = srn__call_rollouts(c);
    if (!x)
        srn__call_fail(c, 501, "not_implemented", NULL, "no_ledger",
                       "roll-outs are kept in the ledger, and this server runs without one; start it without "
                       "'--ledger off'");
    return x;
}

/* Busy, running already, or frozen: a conflict with how things are. */
static void reply(srn__call *c, int code, const char *param, const srn_err *err, json_t *o) {
    if (code == SRN_EBUSY || code == SRN_EEXIST)
        srn__call_fail(c, 409, NULL, param, "conflict", "%s", err->text);
    else if (code)
        srn__call_fail_err(c, param, err);
    else
        srn__call_reply_json(c, 200, o);
}

/* ---- what there is ---- */

static json_t *real(double v) {
    return json_real(v);
}

/* How it stands, in a few words. */
static json_t *summary(const srn__rollout *r, const srn_rollout_state *s) {
    const srn_rollout *d = r->declared;
    json_t *steps = json_array();
    for (uint32_t i = 0; i < d->n_steps; i++) json_array_append_new(steps, real(d->steps[i]));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?, s:o, s:i, s:f, s:f, s:I, s:I, s:i, s:b, s:s, s:s}",
                     "name", d->name, "hash", d->hash, "phase", srn_phase_name(s->phase), "baseline",
                     d->baseline, "canary", d->canary, "prompt", d->prompt, "steps", steps, "step",
                     (int)s->is.step, "share", s->share, "shadow", s->shadow, "started_us",
                     (json_int_t)s->is.started_us, "step_started_us", (json_int_t)s->is.step_started_us,
                     "open", (int)r->n_open, "latched", s->latched, "by", s->by, "why", s->why);
}

static void add_summary(void *ctx, srn__rollout *r, const srn_rollout_state *s) {
    pthread_mutex_lock(&r->lock);
    json_array_append_new(ctx, summary(r, s));
    pthread_mutex_unlock(&r->lock);
}

/* The one that has its calls. No lock is held. */
static void add_before(srn__call *c, json_t *o) {
    char name[SRN_ROLLOUT_NAME_MAX + 1];
    const char *hash = json_string_value(json_object_get(o, "hash"));
    bool waits = hash && srn__rollouts_waits_for(srn__call_rollouts(c), srn__call_config(c), hash, name);
    json_object_set_new(o, "waits_for", waits ? json_string(name) : json_null());
}

void srn__handle_rollouts_list(srn__call *c) {
    srn__rollouts *x = rollouts_of(c);
    srn_err err = {0};
    if (!x) return;
    json_t *data = json_array();
    int code = srn__rollouts_catch_up(x, &err);
    if (!code) srn__rollouts_each(x, add_summary, data);
    json_t *one;
    size_t i;
    json_array_foreach(data, i, one) add_before(c, one);
    json_t *o =
        json_pack("{s:s, s:b, s:o}", "object", "list", "frozen", srn__rollouts_frozen(x), "data", data);
    reply(c, code, NULL, &err, code ? NULL : o);
    if (code) json_decref(o);
}

static json_t *whole(srn__call *c, srn__rollout *r, const srn_rollout_state *s) {
    srn_look l;
    srn_err err = {0};
    pthread_mutex_lock(&r->lock);
    json_t *o = summary(r, s);
    pthread_mutex_unlock(&r->lock);
    add_before(c, o);
    bool looked = srn__watcher_look(srn__call_watcher(c), r->declared->hash, &l, &err) == SRN_OK;
    json_object_set_new(o, "declaration", srn_rollout_json(r->declared));
    json_object_set_new(o, "look", looked ? srn_look_json(&l) : json_null());
    srn__history_size known;
    if (srn__watcher_history(srn__call_watcher(c), r->declared->hash, &known))
        json_object_set_new(
            o, "history",
            json_pack("{s:i, s:i}", "calls", (int)known.n_calls, "subjects", (int)known.n_subjects));
    char why[256];
    if (srn__judges_why_not(srn__watcher_judges(srn__call_watcher(c)), r->declared->hash, why))
        json_object_set_new(o, "not_comparable", json_string(why));
    return o;
}

/* ---- history ---- */

typedef struct history {
    const char *name;
    json_t *list;
    bool explain; /* only what was decided by a look, and what comes of it when it is decided again */
    srn__rollouts *x;
    const srn_rollout *declared;
    srn_rollout_state state; /* before the event */
} history;

/* The verdict once more, from the numbers that the event holds and the declaration that they are of. */
static void explain(history *h, json_t *event) {
    const json_t *numbers = json_object_get(event, "look");
    srn_look l = {0};
    srn_err err = {0};
    if (!json_is_object(numbers)) return;
    int code = srn_look_parse(numbers, &l, &err);
    srn_verdict before = l.verdict;
    srn_step_is is = h->state.is;
    srn__step_is_read(json_object_get(event, "is"), &is);
    if (!code) srn_look_again(h->declared, &is, &l);
    json_object_set_new(event, "again",
                        code ? json_pack("{s:s}", "error", err.text)
                             : json_pack("{s:s, s:s, s:b}", "verdict", srn_verdict_name(l.verdict), "why",
                                         l.why, "same", l.verdict == before));
}

static bool on_event(void *ctx, const srn_stored *s) {
    static const char mark[] = "\"event\":\"rollout";
    history *h = ctx;
    srn_err err = {0};
    if (!memmem(s->body.ptr, s->body.len, mark, sizeof mark - 1)) return true;
    json_t *body = json_loadb(s->body.ptr, s->body.len, 0, NULL);
    const char *event = json_string_value(json_object_get(body, "event"));
    const char *name = json_string_value(json_object_get(body, "rollout"));
    const char *hash = json_string_value(json_object_get(body, "hash"));
    bool mine = event && name && strcmp(name, h->name) == 0 && strcmp(event, "rollout_judged") != 0;
    bool same = mine && hash && strcmp(hash, h->declared->hash) == 0;
    if (same && h->explain) explain(h, body);
    if (same)
        srn_rollout_apply(h->declared, &h->state, event, body,
                          (uint64_t)json_integer_value(json_object_get(body, "at_us")), &err);
    bool wanted = mine && (!h->explain || json_object_get(body, "again"));
    if (wanted) json_object_set_new(body, "seq", json_integer((json_int_t)s->seq));
    if (wanted) json_array_append(h->list, body);
    json_decref(body);
    return true;
}

static int read_history(srn__call *c, srn__rollout *r, bool explained, json_t **ret, srn_err *err) {
    srn_reader *reader = NULL;
    history h = {
        .name = r->declared->name, .list = json_array(), .explain = explained, .declared = r->declared};
    int code = srn__recorder_reader(srn__call_recorder(c), &reader, err);
    if (!code) code = srn_reader_records(reader, SRN_RECORD_EVENT, 0, on_event, &h, err);
    srn_reader_close(reader);
    *ret = json_pack("{s:s, s:s, s:o}", "object", "list", "name", h.name, "data", h.list);
    return code;
}

/* NAME, NAME/history, NAME/explain. */
void srn__handle_rollout_get(srn__call *c) {
    srn__rollouts *x = rollouts_of(c);
    char name[SRN_ROLLOUT_NAME_MAX + 1];
    srn_rollout_state s;
    srn__rollout *r = NULL;
    srn_err err = {0};
    json_t *o = NULL;
    if (!x) return;
    const char *path = srn__call_path_id(c), *slash = strchr(path, '/');
    const char *more = slash ? slash + 1 : "";
    snprintf(name, sizeof name, "%.*s", (int)(slash ? slash - path : (long)strlen(path)), path);
    bool events = strcmp(more, "history") == 0, explained = strcmp(more, "explain") == 0;
    int code = slash && !events && !explained
                   ? srn_fail(&err, SRN_ENOENT, "there is /v1/rollouts/NAME, /history and /explain below it")
                   : srn__rollouts_catch_up(x, &err);
    if (!code) code = srn__rollouts_get(x, name, &r, &s, &err);
    if (!code && slash) code = read_history(c, r, explained, &o, &err);
    if (!code && !slash) o = whole(c, r, &s);
    reply(c, code, "name", &err, code ? NULL : o);
    if (code) json_decref(o);
    srn__rollout_put(r);
}

/* ---- changes ---- */

static void reply_state(srn__call *c, srn__rollouts *x, const char *name, int code, const char *param,
                        srn_err *err) {
    srn_rollout_state s;
    srn__rollout *r = NULL;
    if (!code) code = srn__rollouts_get(x, name, &r, &s, err);
    srn__watcher_poke(srn__call_watcher(c));
    reply(c, code, param, err, code ? NULL : whole(c, r, &s));
    srn__rollout_put(r);
}

/* Both arms have to be in memory: a canary that does not fit is refused here, before any call gets it. What
 * is wrong with the declaration is said when it begins. */
static int load_canary(srn__call *c, const json_t *declaration, srn_err *err) {
    srn__models *m = srn__call_models(c);
    const srn_config *config = srn__call_config(c);
    srn_rollout *d = NULL;
    srn_err wrong = {0};
    int code = SRN_OK;
    if (srn_rollout_parse(declaration, "roll-out", &d, &wrong)) return SRN_OK;
    for (uint32_t i = 0; i < config->n_models && !code; i++) {
        if (strcmp(config->models[i].name, d->canary) != 0) continue;
        srn__served *v = srn__models_peek(m, d->canary);
        if (!v && !srn__upstream_of(c, d->canary)) code = srn__models_load(m, d->canary, NULL, err);
        srn__served_put(v);
    }
    if (code) srn_fail_prefix(err, code, "the canary '%s' has to be in memory", d->canary);
    if (!code) code = srn__rollout_comparable(m, d, err);
    srn_rollout_free(d);
    return code;
}

/* {"declaration": {...}, "by"} */
void srn__handle_rollout_begin(srn__call *c) {
    srn__rollouts *x = rollouts_of(c);
    const json_t *body = x ? srn__call_json(c) : NULL;
    char by[128];
    srn_err err = {0};
    srn__fields f = {.err = &err};
    if (!body) return;
    const json_t *declaration = json_object_get(body, "declaration");
    const char *name = json_string_value(json_object_get(declaration, "name"));
    int code = srn__call_by(c, body, by, &f);
    if (!code && !json_is_object(declaration))
        code = srn__field_wrong(&f, SRN_EINVAL, "declaration", "needs an object, it is %s",
                                srn__json_type_name(declaration));
    if (!code) {
        snprintf(f.param, sizeof f.param, "declaration");
        code = load_canary(c, declaration, &err);
    }
    if (!code) code = srn__rollouts_begin(x, srn__call_config(c), by, declaration, &err);
    reply_state(c, x, name ? name : "", code, f.param, &err);
}

static const struct {
    const char *action, *event;
} actions[] = {{"pause", "rollout_paused"},  {"resume", "rollout_resumed"},
               {"step", "rollout_step"},     {"promote", "rollout_promoted"},
               {"abort", "rollout_aborted"}, {"roll_back", "rollout_rolled_back"},
               {"retire", "rollout_retired"}};

static int read_action(const json_t *body, const char **ret_event, json_t *fields, srn__fields *f) {
    const char *action = json_string_value(json_object_get(body, "action"));
    const json_t *why = json_object_get(body, "why"), *step = json_object_get(body, "step");
    *ret_event = NULL;
    for (size_t i = 0; i < SRN_LEN(actions) && action; i++)
        if (strcmp(action, actions[i].action) == 0) *ret_event = actions[i].event;
    if (!*ret_event)
        return srn__field_wrong(f, SRN_EINVAL, "action",
                                "needs one of pause, resume, step, promote, abort, roll_back and retire");
    if (srn__field_given(body, "why") && (!json_is_string(why) || json_string_length(why) > 200))
        return srn__field_wrong(f, SRN_EINVAL, "why", "needs a text of at most 200 bytes");
    if (srn__field_given(body, "step") != (strcmp(action, "step") == 0) ||
        (srn__field_given(body, "step") && !json_is_integer(step)))
        return srn__field_wrong(f, SRN_EINVAL, "step",
                                "needs a number from 0 on with the action 'step', and belongs to no other");
    if (json_is_string(why)) json_object_set(fields, "why", (json_t *)(uintptr_t)why);
    if (json_is_integer(step)) json_object_set(fields, "step", (json_t *)(uintptr_t)step);
    return SRN_OK;
}

/* {"action", "why", "step", "by"} */
void srn__handle_rollout_act(srn__call *c) {
    srn__rollouts *x = rollouts_of(c);
    const json_t *body = x ? srn__call_json(c) : NULL;
    const char *event = NULL, *name = srn__call_path_id(c);
    char by[128];
    srn_err err = {0};
    srn__fields f = {.err = &err};
    if (!body) return;
    json_t *fields = json_object();
    int code = srn__call_by(c, body, by, &f);
    if (!code) code = read_action(body, &event, fields, &f);
    if (!code)
        code = srn__rollouts_act(x, by, name, event, fields, &err);
    else
        json_decref(fields);
    reply_state(c, x, name, code, f.param, &err);
}

/* {"on", "why", "by"} */
void srn__handle_freeze(srn__call *c) {
    srn__rollouts *x = rollouts_of(c);
    const json_t *body = x ? srn__call_json(c) : NULL;
    char by[128];
    srn_err err = {0};
    srn__fields f = {.err = &err};
    if (!body) return;
    const json_t *on = json_object_get(body, "on"), *why = json_object_get(body, "why");
    int code = srn__call_by(c, body, by, &f);
    if (!code && !json_is_boolean(on)) code = srn__field_wrong(&f, SRN_EINVAL, "on", "needs true or false");
    if (!code && srn__field_given(body, "why") && (!json_is_string(why) || json_string_length(why) > 200))
        code = srn__field_wrong(&f, SRN_EINVAL, "why", "needs a text of at most 200 bytes");
    if (!code) code = srn__rollouts_freeze(x, by, json_is_true(on), json_string_value(why), &err);
    if (!code && !json_is_true(on)) srn__server_thawed(srn__call_server(c));
    reply(c, code, f.param, &err, code ? NULL : json_pack("{s:b}", "frozen", srn__rollouts_frozen(x)));
}
