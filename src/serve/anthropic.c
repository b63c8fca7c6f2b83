/* The Anthropic Messages API, the way out: /v1/messages, streamed or whole, and /v1/messages/count_tokens.
 * Handlers run on workers; an answer's source is pulled by the listener. A stream is what the official client
 * reads: message_start, content blocks by index with their deltas, message_delta with the reason and the
 * counts, message_stop.
 */
#include "serve/anthropic.h"
#include "serve/rollout.h"
#include "serve/routes.h"

#include <stdlib.h>

typedef enum block_kind { NO_BLOCK, TEXT_BLOCK, THINKING_BLOCK, TOOL_BLOCK } block_kind;

typedef struct answer {
    srn__call *call;
    srn__job *job;
    srn__served *model;
    bool stream, started, ended;
    char id[64];
    json_t *stops; /* texts, to name the one that ended the answer */
    /* the block being written */
    block_kind kind;
    int index;
    json_t *content; /* not streamed: the blocks so far */
    srn_buf text;    /* not streamed: the current block's text, or its arguments */
    char call_id[64];
    char *call_name;
} answer;

/* ---- writing ---- */

/* One event; takes the reference. */
static void put_event(srn_buf *out, const char *name, json_t *data) {
    char *text = data ? json_dumps(data, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    srn_buf_addf(out, "event: %s\ndata: %s\n\n", name, text ? text : "{}");
    free(text);
    json_decref(data);
}

static json_t *usage_json(const answer *a) {
    srn__job_usage u = srn__job_get_usage(a->job);
    return json_pack("{s:i, s:i, s:i, s:i}", "input_tokens", (int)(u.prompt_tokens - u.cached_tokens),
                     "cache_creation_input_tokens", 0, "cache_read_input_tokens", (int)u.cached_tokens,
                     "output_tokens", (int)u.output_tokens);
}

static json_t *message_json(const answer *a, json_t *content, json_t *reason, json_t *stop) {
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "id", a->id, "type", "message", "role",
                     "assistant", "model", srn__assigned_shown(a->call, a->model->name), "content", content,
                     "stop_reason", reason, "stop_sequence", stop, "usage", usage_json(a));
}

/* With the first event, for only then it is known how much of the prompt the cache held. */
static void begin_stream(answer *a, srn_buf *out) {
    if (a->started) return;
    a->started = true;
    put_event(out, "message_start",
              json_pack("{s:s, s:o}", "type", "message_start", "message",
                        message_json(a, json_array(), json_null(), json_null())));
    put_event(out, "ping", json_pack("{s:s}", "type", "ping"));
}

/* ---- blocks ---- */

static json_t *empty_block(const answer *a) {
    if (a->kind == TEXT_BLOCK) return json_pack("{s:s, s:s}", "type", "text", "text", "");
    if (a->kind == THINKING_BLOCK)
        return json_pack("{s:s, s:s, s:s}", "type", "thinking", "thinking", "", "signature", "");
    return json_pack("{s:s, s:s, s:s, s:{}}", "type", "tool_use", "id", a->call_id, "name", a->call_name,
                     "input");
}

static json_t *whole_block(const answer *a) {
    const char *text = a->text.len ? a->text.data : "";
    if (a->kind == TEXT_BLOCK) return json_pack("{s:s, s:s%}", "type", "text", "text", text, a->text.len);
    if (a->kind == THINKING_BLOCK)
        return json_pack("{s:s, s:s%, s:s}", "type", "thinking", "thinking", text, a->text.len, "signature",
                         "");
    json_t *input = json_loadb(text, a->text.len, JSON_ALLOW_NUL, NULL);
    return json_pack("{s:s, s:s, s:s, s:o}", "type", "tool_use", "id", a->call_id, "name", a->call_name,
                     "input", input ? input : json_object());
}

static void end_block(answer *a, srn_buf *out) {
    if (a->kind == NO_BLOCK) return;
    if (a->stream)
        put_event(out, "content_block_stop",
                  json_pack("{s:s, s:i}", "type", "content_block_stop", "index", a->index));
    else
        json_array_append_new(a->content, whole_block(a));
    srn_buf_clear(&a->text);
    free(a->call_name);
    a->call_name = NULL;
    a->kind = NO_BLOCK;
    a->index++;
}

static void begin_block(answer *a, block_kind kind, srn_buf *out) {
    end_block(a, out);
    a->kind = kind;
    if (a->stream)
        put_event(out, "content_block_start",
                  json_pack("{s:s, s:i, s:o}", "type", "content_block_start", "index", a->index,
                            "content_block", empty_block(a)));
}

static void add_text(answer *a, block_kind kind, srn_str text, srn_buf *out) {
    static const char *const types[] = {"", "text_delta", "thinking_delta", "input_json_delta"},
                             *const fields[] = {"", "text", "thinking", "partial_json"};
    if (text.len == 0) return;
    if (a->kind != kind) begin_block(a, kind, out);
    if (!a->stream) {
        srn_buf_add(&a->text, text.ptr, text.len);
        return;
    }
    put_event(out, "content_block_delta",
              json_pack("{s:s, s:i, s:{s:s, s:s%}}", "type", "content_block_delta", "index", a->index,
                        "delta", "type", types[kind], fields[kind], text.ptr, text.len));
}

static void begin_call(answer *a, const srn__job_event *e, srn_buf *out) {
    end_block(a, out);
    snprintf(a->call_id, sizeof a->call_id, "toolu_%s",
             e->call_id + (strncmp(e->call_id, "call_", 5) == 0 ? 5 : 0));
    a->call_name = srn_strndup(e->text.ptr, e->text.len);
    begin_block(a, TOOL_BLOCK, out);
}

/* ---- the end ---- */

static void finish(answer *a, const srn__job_event *e, srn_buf *out) {
    const char *reason = e->finish == SRN__FINISH_LENGTH       ? "max_tokens"
                         : e->finish == SRN__FINISH_TOOL_CALLS ? "tool_use"
                         : e->stop >= 0                        ? "stop_sequence"
                                                               : "end_turn";
    json_t *stop = e->stop >= 0 ? json_array_get(a->stops, (size_t)e->stop) : NULL;
    end_block(a, out);
    a->ended = true;
    stop = stop ? json_incref(stop) : json_null();
    if (a->stream) {
        put_event(out, "message_delta",
                  json_pack("{s:s, s:{s:s, s:o}, s:o}", "type", "message_delta", "delta", "stop_reason",
                            reason, "stop_sequence", stop, "usage", usage_json(a)));
        put_event(out, "message_stop", json_pack("{s:s}", "type", "message_stop"));
        return;
    }
    json_t *message = message_json(a, json_incref(a->content), json_string(reason), stop);
    char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;
    if (text) srn_buf_addz(out, text);
    free(text);
    json_decref(message);
}

static void fail(answer *a, const srn_err *err, srn_buf *out, int *status) {
    int code = srn__error_status(err, NULL);
    json_t *error = srn__error_json(SRN__ANTHROPIC, code, NULL, NULL, NULL, err->text);
    a->ended = true;
    if (a->stream) return put_event(out, "error", error);
    *status = code;
    char *text = error ? json_dumps(error, JSON_COMPACT) : NULL;
    srn_buf_clear(out);
    srn_buf_addz(out, text ? text : "{}");
    free(text);
    json_decref(error);
}

/* ---- the source ---- */

static int pull(void *source, srn_buf *out, int *status) {
    answer *a = source;
    srn__job_event e;
    while (!a->ended && srn__job_next(a->job, &e)) {
        if (a->stream) begin_stream(a, out);
        switch (e.kind) {
        case SRN__JOB_TEXT:
            add_text(a, TEXT_BLOCK, e.text, out);
            break;
        case SRN__JOB_REASONING:
            add_text(a, THINKING_BLOCK, e.text, out);
            break;
        case SRN__JOB_CALL:
            begin_call(a, &e, out);
            break;
        case SRN__JOB_ARGUMENTS:
            add_text(a, TOOL_BLOCK, e.text, out);
            break;
        case SRN__JOB_CALL_END:
            end_block(a, out);
            break;
        case SRN__JOB_FINISH:
            finish(a, &e, out);
            break;
        case SRN__JOB_FAIL:
            fail(a, e.err, out, status);
            if (e.unclean) return 2;
            break;
        }
    }
    return a->ended;
}

static void cancel(void *source) {
    srn__job_cancel(((answer *)source)->job);
}

static void free_answer(void *source) {
    answer *a = source;
    srn__job_free(a->job);
    srn__served_put(a->model);
    json_decref(a->stops);
    json_decref(a->content);
    srn_buf_done(&a->text);
    free(a->call_name);
    free(a);
}

static const srn__source_ops answer_ops = {.pull = pull, .cancel = cancel, .free = free_answer};

/* ---- handlers ---- */

/* Parses the body and finds the model, with a hold; false: an error was replied. */
static bool read_request(srn__call *c, const char *endpoint, bool to_count, srn__anthropic *a) {
    srn_err err = {0};
    const srn_config_route *route = NULL;
    const char *param = NULL;
    json_t *body = srn__call_json(c);
    if (!body) return false;
    srn__prompt_use use = {0};
    srn__fields f = {.err = &err};
    if (srn__prompt_take(c, body, &use, &f)) {
        srn__call_fail_err(c, f.param[0] ? f.param : NULL, &err);
        return false;
    }
    int code = srn__anthropic_parse_prompt(body, &use, &srn__call_config(c)->limits, to_count, a, &err);
    bool found = !code && srn__job_model(c, endpoint, a->model, &a->spec.model, &route);
    if (found) code = srn__job_apply_route(c, &a->spec, route, &param, &err);
    if (found && !code) return true;
    if (code) srn__call_fail_err(c, a->fields.param[0] ? a->fields.param : param, &err);
    if (found) srn__served_put(a->spec.model);
    srn__anthropic_done(a);
    return false;
}

static answer *new_answer(srn__call *c, const srn__anthropic *r) {
    answer *a = srn_calloc(1, sizeof *a);
    if (!a) return NULL;
    a->call = c;
    a->model = r->spec.model;
    a->stream = r->stream;
    a->stops = json_incref((json_t *)(uintptr_t)r->stop_texts);
    a->content = json_array();
    snprintf(a->id, sizeof a->id, "msg_%s", srn__call_id(c));
    srn_buf_init(&a->text, 64u << 20);
    return a;
}

void srn__handle_messages(srn__call *c) {
    srn__anthropic r;
    srn_err err = {0};
    const char *param = NULL;
    if (!read_request(c, "/v1/messages", false, &r)) return;
    answer *a = new_answer(c, &r);
    int code = a ? srn__job_headers(c, &r.spec, &err) : srn_fail_nomem(&err, sizeof *a);
    if (!code) code = srn__job_start(c, &r.spec, &a->job, &param, &err);
    srn__anthropic_done(&r);
    if (code) {
        srn__call_fail_err(c, param, &err);
        if (a)
            free_answer(a);
        else
            srn__served_put(r.spec.model);
        return;
    }
    srn__call_reply_source(c, a->stream, a->stream ? "text/event-stream" : "application/json", &answer_ops,
                           a);
}

void srn__handle_count_tokens(srn__call *c) {
    srn__anthropic r;
    srn_err err = {0};
    srn_tokens ids = {0};
    if (!read_request(c, "/v1/messages/count_tokens", true, &r)) return;
    int code = srn__job_prompt(&r.spec, NULL, &ids, &err);
    srn__served_put(r.spec.model);
    srn__anthropic_done(&r);
    if (code)
        srn__call_fail_err(c, "messages", &err);
    else
        srn__call_reply_json(c, 200, json_pack("{s:I}", "input_tokens", (json_int_t)ids.n));
    srn_tokens_done(&ids);
}
