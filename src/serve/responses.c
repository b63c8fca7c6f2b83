/* The Responses API, the way out: /v1/responses, streamed or whole. The answer is a list of items (reasoning,
 * message, function calls); a stream tells of each item and part when it begins, grows and ends, numbered in
 * sequence, and ends with the whole response. Handler on a worker; the source is pulled by the listener.
 */
#include "serve/responses.h"
#include "serve/rollout.h"
#include "serve/routes.h"

#include <stdlib.h>
#include <time.h>

typedef enum item_kind { NO_ITEM, MESSAGE_ITEM, REASONING_ITEM, CALL_ITEM } item_kind;

typedef struct answer {
    srn__call *call;
    srn__job *job;
    srn__served *model;
    bool stream, started, ended, logprobs;
    uint32_t n_top;
    char id[64];
    int64_t created;
    json_t *asked; /* the request's body: much of it stands in the response again */
    json_t *items; /* complete ones */
    int sequence;
    /* the item being written */
    item_kind kind;
    char item_id[80], call_id[64];
    char *call_name;
    srn_buf text;
    json_t *tokens; /* logprobs of the message so far */
} answer;

/* ---- objects ---- */

static json_t *asked_or(const answer *a, const char *key, json_t *otherwise) {
    json_t *v = json_object_get(a->asked, key);
    if (!v || json_is_null(v)) return otherwise;
    json_decref(otherwise);
    return json_incref(v);
}

static json_t *usage_json(const answer *a) {
    srn__job_usage u = srn__job_get_usage(a->job);
    return json_pack("{s:i, s:{s:i}, s:i, s:{s:i}, s:i}", "input_tokens", (int)u.prompt_tokens,
                     "input_tokens_details", "cached_tokens", (int)u.cached_tokens, "output_tokens",
                     (int)u.output_tokens, "output_tokens_details", "reasoning_tokens",
                     (int)u.reasoning_tokens, "total_tokens", (int)(u.prompt_tokens + u.output_tokens));
}

/* error and incomplete are taken; NULL stands for null. */
static json_t *response_json(const answer *a, const char *status, json_t *error, json_t *incomplete) {
    bool over = strcmp(status, "in_progress") != 0;
    json_t *o = json_pack(
        "{s:s, s:s, s:I, s:s, s:o, s:o, s:s, s:O, s:o}", "id", a->id, "object", "response", "created_at",
        (json_int_t)a->created, "status", status, "error", error ? error : json_null(), "incomplete_details",
        incomplete ? incomplete : json_null(), "model", srn__assigned_shown(a->call, a->model->name),
        "output", a->items, "usage", over ? usage_json(a) : json_null());
    if (!o) return NULL;
    static const char *const echoed[] = {"instructions", "max_output_tokens", "user", "top_logprobs",
                                         "prompt"};
    for (size_t i = 0; i < SRN_LEN(echoed); i++)
        json_object_set_new(o, echoed[i], asked_or(a, echoed[i], json_null()));
    json_object_set_new(o, "completed_at", over ? json_integer((json_int_t)time(NULL)) : json_null());
    json_object_set_new(o, "previous_response_id", json_null());
    json_object_set_new(o, "parallel_tool_calls", asked_or(a, "parallel_tool_calls", json_true()));
    json_object_set_new(o, "reasoning",
                        asked_or(a, "reasoning", json_pack("{s:n, s:n}", "effort", "summary")));
    json_object_set_new(o, "store", json_false());
    json_object_set_new(o, "background", json_false());
    json_object_set_new(o, "temperature", asked_or(a, "temperature", json_real(1)));
    json_object_set_new(o, "top_p", asked_or(a, "top_p", json_real(1)));
    json_object_set_new(o, "presence_penalty", asked_or(a, "presence_penalty", json_real(0)));
    json_object_set_new(o, "frequency_penalty", asked_or(a, "frequency_penalty", json_real(0)));
    json_object_set_new(o, "text", asked_or(a, "text", json_pack("{s:{s:s}}", "format", "type", "text")));
    json_object_set_new(o, "tool_choice", asked_or(a, "tool_choice", json_string("auto")));
    json_object_set_new(o, "tools", asked_or(a, "tools", json_array()));
    json_object_set_new(o, "truncation", json_string("disabled"));
    json_object_set_new(o, "metadata", asked_or(a, "metadata", json_object()));
    json_object_set_new(o, "service_tier", json_string("default"));
    return o;
}

/* ---- events ---- */

/* One event; takes data and adds type and sequence_number. */
static void put_event(answer *a, srn_buf *out, const char *type, json_t *data) {
    if (!a->stream) return json_decref(data);
    if (data) {
        json_object_set_new(data, "type", json_string(type));
        json_object_set_new(data, "sequence_number", json_integer(a->sequence++));
    }
    char *text = data ? json_dumps(data, JSON_COMPACT) : NULL;
    srn_buf_addf(out, "event: %s\ndata: %s\n\n", type, text ? text : "{}");
    free(text);
    json_decref(data);
}

static void put_response(answer *a, srn_buf *out, const char *type, json_t *response) {
    put_event(a, out, type, json_pack("{s:o}", "response", response));
}

static int index_of(const answer *a) {
    return (int)json_array_size(a->items);
}

/* The text part of a message or of reasoning. */
static json_t *part_json(const answer *a, bool whole) {
    const char *text = whole && a->text.len ? a->text.data : "";
    size_t n = whole ? a->text.len : 0;
    if (a->kind == REASONING_ITEM) return json_pack("{s:s, s:s%}", "type", "reasoning_text", "text", text, n);
    return json_pack("{s:s, s:s%, s:[], s:O}", "type", "output_text", "text", text, n, "annotations",
                     "logprobs", a->tokens);
}

static json_t *item_json(const answer *a, bool whole) {
    const char *status = whole ? "completed" : "in_progress";
    if (a->kind == CALL_ITEM)
        return json_pack("{s:s, s:s, s:s, s:s, s:s%, s:s}", "type", "function_call", "id", a->item_id,
                         "call_id", a->call_id, "name", a->call_name ? a->call_name : "", "arguments",
                         whole && a->text.len ? a->text.data : "", whole ? a->text.len : (size_t)0, "status",
                         status);
    json_t *content = json_array();
    if (whole) json_array_append_new(content, part_json(a, true));
    if (a->kind == REASONING_ITEM)
        return json_pack("{s:s, s:s, s:[], s:o, s:s}", "type", "reasoning", "id", a->item_id, "summary",
                         "content", content, "status", status);
    return json_pack("{s:s, s:s, s:s, s:s, s:o}", "type", "message", "id", a->item_id, "status", status,
                     "role", "assistant", "content", content);
}

/* An event about the current item's part. */
static json_t *about_part(const answer *a) {
    return json_pack("{s:s, s:i, s:i}", "item_id", a->item_id, "output_index", index_of(a), "content_index",
                     0);
}

static void end_item(answer *a, srn_buf *out) {
    if (a->kind == NO_ITEM) return;
    const char *text = a->text.len ? a->text.data : "";
    if (a->kind == CALL_ITEM) {
        put_event(a, out, "response.function_call_arguments.done",
                  json_pack("{s:s, s:i, s:s, s:s%}", "item_id", a->item_id, "output_index", index_of(a),
                            "name", a->call_name ? a->call_name : "", "arguments", text, a->text.len));
    } else {
        bool message = a->kind == MESSAGE_ITEM;
        json_t *done = about_part(a), *part = about_part(a);
        json_object_set_new(done, "text", json_stringn(text, a->text.len));
        if (message) json_object_set(done, "logprobs", a->tokens);
        put_event(a, out, message ? "response.output_text.done" : "response.reasoning_text.done", done);
        json_object_set_new(part, "part", part_json(a, true));
        put_event(a, out, "response.content_part.done", part);
    }
    json_t *item = item_json(a, true);
    put_event(a, out, "response.output_item.done",
              json_pack("{s:i, s:O}", "output_index", index_of(a), "item", item));
    json_array_append_new(a->items, item);
    srn_buf_clear(&a->text);
    json_decref(a->tokens); /* the item keeps it */
    a->tokens = json_array();
    free(a->call_name);
    a->call_name = NULL;
    a->kind = NO_ITEM;
}

static void begin_item(answer *a, item_kind kind, srn_buf *out) {
    static const char *const prefixes[] = {"", "msg", "rs", "fc"};
    end_item(a, out);
    a->kind = kind;
    snprintf(a->item_id, sizeof a->item_id, "%s_%s_%d", prefixes[kind], srn__call_id(a->call), index_of(a));
    put_event(a, out, "response.output_item.added",
              json_pack("{s:i, s:o}", "output_index", index_of(a), "item", item_json(a, false)));
    if (kind == CALL_ITEM) return;
    json_t *part = about_part(a);
    json_object_set_new(part, "part", part_json(a, false));
    put_event(a, out, "response.content_part.added", part);
}

/* The log-probabilities of an event's tokens (a new array), also kept for the whole. */
static json_t *logprobs_of(answer *a, const srn__job_event *e) {
    json_t *list = NULL;
    if (a->logprobs && e->n_tokens) {
        uint32_t n;
        const srn_top_token *tops;
        const srn_out_token *tokens = srn__job_tokens(a->job, e->choice, &n, &tops);
        srn_buf text;
        srn_buf_init(&text, 16u << 20);
        srn_buf_addc(&text, '[');
        srn__put_chat_logprobs(&text, a->model->vocab, tokens + e->first_token,
                               tops ? tops + (size_t)e->first_token * a->n_top : NULL, e->n_tokens, a->n_top,
                               a->n_top);
        srn_buf_addc(&text, ']');
        list = json_loadb(text.data ? text.data : "", text.len, 0, NULL);
        srn_buf_done(&text);
        json_array_extend(a->tokens, list);
    }
    return list ? list : json_array();
}

static void add_text(answer *a, item_kind kind, const srn__job_event *e, srn_buf *out) {
    if (!e->text.len && !e->n_tokens) return;
    if (a->kind != kind) begin_item(a, kind, out);
    srn_buf_add(&a->text, e->text.ptr, e->text.len);
    json_t *delta = about_part(a);
    json_object_set_new(delta, "delta", json_stringn(e->text.ptr, e->text.len));
    if (kind == MESSAGE_ITEM) json_object_set_new(delta, "logprobs", logprobs_of(a, e));
    put_event(a, out, kind == MESSAGE_ITEM ? "response.output_text.delta" : "response.reasoning_text.delta",
              delta);
}

static void begin_call(answer *a, const srn__job_event *e, srn_buf *out) {
    end_item(a, out);
    snprintf(a->call_id, sizeof a->call_id, "%s", e->call_id);
    a->call_name = srn_strndup(e->text.ptr, e->text.len);
    begin_item(a, CALL_ITEM, out);
}

static void add_arguments(answer *a, const srn__job_event *e, srn_buf *out) {
    srn_buf_add(&a->text, e->text.ptr, e->text.len);
    put_event(a, out, "response.function_call_arguments.delta",
              json_pack("{s:s, s:i, s:s%}", "item_id", a->item_id, "output_index", index_of(a), "delta",
                        e->text.ptr, e->text.len));
}

/* ---- beginning and end ---- */

static void begin(answer *a, srn_buf *out) {
    if (a->started) return;
    a->started = true;
    if (!a->stream) return;
    put_response(a, out, "response.created", response_json(a, "in_progress", NULL, NULL));
    put_response(a, out, "response.in_progress", response_json(a, "in_progress", NULL, NULL));
}

static void put_last(answer *a, srn_buf *out, const char *type, json_t *response, bool unclean) {
    a->ended = true;
    if (a->stream) {
        put_response(a, out, type, response);
        if (!unclean) srn_buf_addz(out, "data: [DONE]\n\n");
        return;
    }
    char *text = response ? json_dumps(response, JSON_COMPACT) : NULL;
    srn_buf_addz(out, text ? text : "{}");
    free(text);
    json_decref(response);
}

static void finish(answer *a, const srn__job_event *e, srn_buf *out) {
    bool cut = e->finish == SRN__FINISH_LENGTH;
    end_item(a, out);
    put_last(a, out, cut ? "response.incomplete" : "response.completed",
             response_json(a, cut ? "incomplete" : "completed", NULL,
                           cut ? json_pack("{s:s}", "reason", "max_output_tokens") : NULL),
             false);
}

static void fail(answer *a, const srn__job_event *e, srn_buf *out, int *status) {
    const srn_err *err = e->err;
    const char *code = NULL;
    int http = srn__error_status(err, &code);
    if (!a->stream) {
        json_t *error = srn__error_json(SRN__OPENAI, http, NULL, NULL, code, err->text);
        *status = http;
        srn_buf_clear(out);
        return put_last(a, out, "", error, false);
    }
    const char *name = http == 429 ? "rate_limit_exceeded" : http < 500 ? "invalid_prompt" : "server_error";
    end_item(a, out);
    put_last(a, out, "response.failed",
             response_json(a, "failed", json_pack("{s:s, s:s}", "code", name, "message", err->text), NULL),
             e->unclean);
}

/* ---- the source ---- */

static int pull(void *source, srn_buf *out, int *status) {
    answer *a = source;
    srn__job_event e;
    while (!a->ended && srn__job_next(a->job, &e)) {
        begin(a, out); /* not before: until there is something the call can go to another model */
        switch (e.kind) {
        case SRN__JOB_TEXT:
            add_text(a, MESSAGE_ITEM, &e, out);
            break;
        case SRN__JOB_REASONING:
            add_text(a, REASONING_ITEM, &e, out);
            break;
        case SRN__JOB_CALL:
            begin_call(a, &e, out);
            break;
        case SRN__JOB_ARGUMENTS:
            add_arguments(a, &e, out);
            break;
        case SRN__JOB_CALL_END:
            end_item(a, out);
            break;
        case SRN__JOB_FINISH:
            finish(a, &e, out);
            break;
        case SRN__JOB_FAIL:
            fail(a, &e, out, status);
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
    json_decref(a->asked);
    json_decref(a->items);
    json_decref(a->tokens);
    srn__served_put(a->model);
    srn_buf_done(&a->text);
    free(a->call_name);
    free(a);
}

static const srn__source_ops answer_ops = {.pull = pull, .cancel = cancel, .free = free_answer};

/* ---- the handler ---- */

/* What a chat field is called in this API. */
static const char *param_name(const char *chat) {
    static const char *const names[][2] = {
        {"messages", "input"}, {"max_tokens", "max_output_tokens"}, {"response_format", "text.format"}};
    for (size_t i = 0; chat && i < SRN_LEN(names); i++)
        if (strcmp(chat, names[i][0]) == 0) return names[i][1];
    return chat;
}

/* Tools of chat completions as this API has them. */
static json_t *flat_tools(const json_t *tools) {
    json_t *list = json_array(), *tool, *flat;
    size_t i;
    json_array_foreach(tools, i, tool) {
        flat = json_pack("{s:s}", "type", "function");
        if (flat) json_object_update(flat, json_object_get(tool, "function"));
        json_array_append_new(list, flat);
    }
    return list;
}

/* response_format as this API has it. */
static json_t *flat_format(const json_t *format) {
    json_t *flat = json_pack("{s:O}", "type", json_object_get(format, "type")),
           *nested = json_object_get(format, "json_schema");
    if (flat && nested) json_object_update(flat, nested);
    return json_pack("{s:o}", "format", flat);
}

json_t *srn__responses_effective(const srn_prompt *p, json_t *body) {
    static const char *const names[][2] = {{"temperature", "temperature"},
                                           {"top_p", "top_p"},
                                           {"presence_penalty", "presence_penalty"},
                                           {"frequency_penalty", "frequency_penalty"},
                                           {"max_tokens", "max_output_tokens"}};
    json_t *all = p ? json_copy(body) : json_incref(body);
    if (!p || !all) return all;
    for (size_t i = 0; i < SRN_LEN(names); i++) {
        json_t *v = json_object_get(p->sampling, names[i][0]);
        if (v && !srn__field_given(body, names[i][1])) json_object_set(all, names[i][1], v);
    }
    if (p->tools && !srn__field_given(body, "tools")) json_object_set_new(all, "tools", flat_tools(p->tools));
    if (p->response_format && !srn__field_given(body, "text"))
        json_object_set_new(all, "text", flat_format(p->response_format));
    return all;
}

static answer *new_answer(srn__call *c, const srn__openai_request *r, json_t *body) {
    answer *a = srn_calloc(1, sizeof *a);
    if (!a) return NULL;
    a->call = c;
    a->stream = r->stream;
    a->logprobs = r->logprobs;
    a->n_top = r->spec.n_top;
    a->created = (int64_t)time(NULL);
    a->asked = srn__responses_effective(r->spec.prompt, body);
    a->items = json_array();
    a->tokens = json_array();
    snprintf(a->id, sizeof a->id, "resp_%s", srn__call_id(c));
    srn_buf_init(&a->text, 64u << 20);
    return a;
}

/* From a parsed request to an answer that is being computed; *ret_param names the field to blame. Takes the
 * hold on v. */
static int start(srn__call *c, srn__openai_request *r, json_t *body, srn__served *v,
                 const srn_config_route *route, answer **ret, const char **ret_param, srn_err *err) {
    answer *a = new_answer(c, r, body);
    if (!a) {
        srn__served_put(v);
        return srn_fail_nomem(err, sizeof *a);
    }
    a->model = v;
    int code = srn__openai_bind(r, v, ret_param, err);
    if (!code) code = srn__job_apply_route(c, &r->spec, route, ret_param, err);
    if (!code) code = srn__job_headers(c, &r->spec, err);
    if (!code) code = srn__job_start(c, &r->spec, &a->job, ret_param, err);
    if (code) {
        free_answer(a);
        return code;
    }
    *ret = a;
    return SRN_OK;
}

void srn__handle_responses(srn__call *c) {
    srn_err err = {0};
    srn__fields f = {.err = &err};
    srn__openai_request r = {0};
    srn__prompt_use use = {0};
    json_t *body = srn__call_json(c), *chat = NULL;
    const char *param = NULL;
    const srn_config_route *route = NULL;
    srn__served *v = NULL;
    answer *a = NULL;
    if (!body) return;
    int code = srn__prompt_take(c, body, &use, &f);
    if (!code) code = srn__responses_to_chat(body, use.prompt, &srn__call_config(c)->limits, &f, &chat);
    if (code) {
        srn__prompt_use_done(&use);
        return srn__call_fail_err(c, f.param[0] ? f.param : NULL, &err);
    }
    code = srn__openai_parse_prompt(chat, &use, &srn__call_config(c)->limits, &r, &param, &err);
    bool found = !code && srn__job_model(c, "/v1/responses", r.model, &v, &route);
    if (found) code = start(c, &r, body, v, route, &a, &param, &err);
    if (code) {
        srn__responses_rename(&err);
        srn__call_fail_err(c, param_name(param), &err);
    } else if (found) {
        srn__call_reply_source(c, a->stream, a->stream ? "text/event-stream" : "application/json",
                               &answer_ops, a);
    }
    srn__openai_request_done(&r);
    json_decref(chat);
}
