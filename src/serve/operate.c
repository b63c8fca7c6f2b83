/* serve: what operators do with a running server: see what it does, end a call, take it out of service and
 * back. Handlers run on workers; what runs is listed by the HTTP core, and each call's work tells how far it
 * is.
 */
#include <stdlib.h>

#include "serve/background.h"
#include "serve/fields.h"
#include "serve/http_internal.h"
#include "serve/record.h"
#include "serve/rollout.h"
#include "serve/routes.h"

static void add_call(void *ctx, srn__call *c) {
    srn__live_status s = {0};
    pthread_mutex_lock(&c->lock);
    bool replied = c->replied, streamed = c->streamed, cancelled = c->cancelled;
    for (srn__live *l = c->live; l; l = l->next) l->status(l->ctx, &s);
    pthread_mutex_unlock(&c->lock);
    const char *state = cancelled     ? "cancelled"
                        : s.n_running ? "running"
                        : s.n_queued  ? "queued"
                        : replied     ? "ending"
                                      : "preparing";
    json_t *one = json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:b, s:I, s:{s:I, s:I}}", "id", c->id, "state",
                            state, "endpoint", c->path, "model", s.model[0] ? s.model : NULL, "key",
                            c->key ? c->key->name : NULL, "streamed", (int)streamed, "age_us",
                            (json_int_t)(srn_now_us() - c->begun_us), "tokens", "input",
                            (json_int_t)s.n_input, "output", (json_int_t)s.n_output);
    json_array_append_new(ctx, one);
}

void srn__handle_ps(srn__call *c) {
    json_t *data = json_array();
    srn__http_each_live(c->http, add_call, data);
    const char *why = srn__http_unready(c->http);
    srn__call_reply_json(c, 200,
                         json_pack("{s:s, s:b, s:o}", "object", "list", "draining",
                                   why && strcmp(why, "draining") == 0, "data", data));
}

void srn__handle_cancel(srn__call *c) {
    uint8_t bytes[SRN_ULID_BYTES];
    char id[SRN_ULID_CHARS + 1] = "";
    const char *text = srn__call_path_id(c);
    if (srn_ulid_parse(srn_str_of(text), bytes)) srn_ulid_format(bytes, id);
    if (id[0] && srn__http_cancel(c->http, id))
        srn__call_reply_json(c, 200, json_pack("{s:s, s:s}", "id", id, "state", "cancelled"));
    else
        srn__call_fail(c, 404, NULL, NULL, "not_running",
                       "no call '%.64s' runs here; GET /v1/ps lists those that do", text);
}

void srn__handle_drain(srn__call *c) {
    const json_t *body = srn__call_json(c);
    if (!body) return;
    const json_t *on = json_object_get(body, "on");
    if (on && !json_is_boolean(on)) {
        srn__call_fail(c, 400, NULL, "on", "invalid_value", "on: needs true or false");
        return;
    }
    bool drain = !on || json_is_true(on);
    const srn_key *key = srn__call_key(c);
    if (srn__http_drain(c->http, drain))
        srn__recorder_event_by(srn__call_recorder(c), drain ? "drain" : "in_service",
                               key ? key->name : "anybody", NULL);
    if (drain) srn__background_cancel(srn__call_background(c));
    if (drain && srn__call_copies(c)) srn__copies_cancel(srn__call_copies(c), NULL);
    srn__call_reply_json(c, 200, json_pack("{s:s}", "state", drain ? "draining" : "ready"));
}
