/* What an upstream answers, read as it comes: lines become events, events JSON, and of each what the record
 * and the roll-out need is noted before it goes on with the ids and names that the client knows. Pure.
 * Refuses lines and events beyond a cap, and what is no JSON object.
 */
#include <math.h>
#include <stdlib.h>

#include "serve/http_internal.h"
#include "serve/upstream_internal.h"

enum { MAX_EVENT = 16 << 20, MAX_DEPTH = 64 };

/* ---- life ---- */

int srn__relay_text_init(srn__relay_text *t, srn_err *err) {
    srn_buf_init(&t->bytes, MAX_EVENT);
    srn_buf_init(&t->data, MAX_EVENT);
    srn_buf_init(&t->event, 256);
    t->choices = srn_calloc(t->n_choices, sizeof *t->choices);
    if (!t->choices) return srn_fail_nomem(err, t->n_choices * sizeof *t->choices);
    for (uint32_t i = 0; i < t->n_choices; i++)
        srn_buf_init(&t->choices[i].text, SRN__RELAY_BYTES + MAX_EVENT);
    return SRN_OK;
}

void srn__relay_text_done(srn__relay_text *t) {
    for (uint32_t i = 0; t->choices && i < t->n_choices; i++) srn_buf_done(&t->choices[i].text);
    free(t->choices);
    srn_buf_done(&t->bytes);
    srn_buf_done(&t->data);
    srn_buf_done(&t->event);
    json_decref(t->response);
}

/* ---- what is noted ---- */

static bool is(const json_t *v, const char *text) {
    const char *z = json_string_value(v);
    return z && strcmp(z, text) == 0;
}

static uint32_t count(const json_t *v) {
    json_int_t n = json_integer_value(v);
    return n < 0 ? 0 : n > INT32_MAX ? INT32_MAX : (uint32_t)n;
}

/* The counts that are there; both families of names. */
static void note_usage(srn__relay_text *t, const json_t *usage) {
    static const struct {
        const char *name;
        size_t at;
    } all[] = {{"prompt_tokens", offsetof(srn__relay_text, n_input)},
               {"input_tokens", offsetof(srn__relay_text, n_input)},
               {"completion_tokens", offsetof(srn__relay_text, n_output)},
               {"output_tokens", offsetof(srn__relay_text, n_output)},
               {"cache_read_input_tokens", offsetof(srn__relay_text, n_cached)}};
    if (!json_is_object(usage)) return;
    t->has_usage = true;
    for (size_t i = 0; i < SRN_LEN(all); i++) {
        const json_t *v = json_object_get(usage, all[i].name);
        if (json_is_integer(v)) *(uint32_t *)(void *)((char *)t + all[i].at) = count(v);
    }
    if (t->api == SRN__RELAY_MESSAGES && json_is_integer(json_object_get(usage, "input_tokens")))
        t->n_input += t->n_cached + count(json_object_get(usage, "cache_creation_input_tokens"));
    for (int side = 0; side < 2; side++) {
        const json_t *in = json_object_get(usage, side ? "prompt_tokens_details" : "input_tokens_details");
        const json_t *out =
            json_object_get(usage, side ? "completion_tokens_details" : "output_tokens_details");
        if (in) t->n_cached = count(json_object_get(in, "cached_tokens"));
        if (out) t->n_reasoning = count(json_object_get(out, "reasoning_tokens"));
    }
}

static void note_piece(srn__relay_text *t, uint64_t at_us) {
    t->begun = true;
    if (!t->first_us)
        t->first_us = at_us;
    else
        t->gap_max_us = SRN_MAX(t->gap_max_us, at_us - t->last_us);
    t->last_us = at_us;
    t->n_pieces++;
    if (t->piece_us) srn_buf_add(t->piece_us, &at_us, sizeof at_us);
}

static srn__relay_choice *choice_at(srn__relay_text *t, const json_t *index) {
    json_int_t i = json_integer_value(index);
    return i >= 0 && i < (json_int_t)t->n_choices ? &t->choices[i] : &t->choices[0];
}

/* Content that is text; true: there was some. */
static bool add_text(srn__relay_choice *c, const json_t *v) {
    size_t n = json_string_length(v);
    if (n) srn_buf_add(&c->text, json_string_value(v), n);
    return n > 0;
}

static void end_choice(srn__relay_text *t, srn__relay_choice *c, const char *finish) {
    static const char *const names[][2] = {{"end_turn", "stop"},     {"stop_sequence", "stop"},
                                           {"max_tokens", "length"}, {"tool_use", "tool_calls"},
                                           {"completed", "stop"},    {"incomplete", "length"},
                                           {"eos", "stop"},          {"function_call", "tool_calls"}};
    for (size_t i = 0; i < SRN_LEN(names); i++)
        if (strcmp(finish, names[i][0]) == 0) finish = names[i][1];
    snprintf(c->finish, sizeof c->finish, "%s", finish);
    t->begun = true;
}

/* A call of a tool: its name on a line, then its arguments. */
static bool add_calls(srn__relay_choice *c, const json_t *calls) {
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *f = json_object_get(json_array_get(calls, i), "function");
        const char *name = json_string_value(json_object_get(f, "name"));
        if (name) srn_buf_addf(&c->text, "%s%s\n", c->text.len ? "\n" : "", name);
        add_text(c, json_object_get(f, "arguments"));
    }
    return json_array_size(calls) > 0;
}

/* Chats and completions: pieces or whole. */
static void note_choices(srn__relay_text *t, const json_t *o, uint64_t at_us) {
    const json_t *list = json_object_get(o, "choices");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i), *delta = json_object_get(one, "delta");
        const json_t *m = delta ? delta : json_object_get(one, "message");
        srn__relay_choice *c = choice_at(t, json_object_get(one, "index"));
        bool some = add_text(c, json_object_get(m ? m : one, m ? "content" : "text"));
        some = add_calls(c, json_object_get(m, "tool_calls")) || some;
        some = some || json_string_length(json_object_get(m, "reasoning_content")) ||
               json_string_length(json_object_get(m, "reasoning")) ||
               json_string_length(json_object_get(m, "refusal"));
        if (some) note_piece(t, at_us);
        const char *finish = json_string_value(json_object_get(one, "finish_reason"));
        if (finish) end_choice(t, c, finish);
    }
    note_usage(t, json_object_get(o, "usage"));
}

/* The items of a response, or the blocks of a message. */
static void note_items(srn__relay_choice *c, const json_t *items) {
    for (size_t i = 0; i < json_array_size(items); i++) {
        const json_t *item = json_array_get(items, i), *parts = json_object_get(item, "content");
        const char *name = json_string_value(json_object_get(item, "name"));
        for (size_t k = 0; k < json_array_size(parts) && !is(json_object_get(item, "type"), "reasoning"); k++)
            add_text(c, json_object_get(json_array_get(parts, k), "text"));
        add_text(c, json_object_get(item, "text"));
        if (name) srn_buf_addf(&c->text, "%s%s\n", c->text.len ? "\n" : "", name);
        add_text(c, json_object_get(item, "arguments"));
        char *input =
            json_object_get(item, "input") ? json_dumps(json_object_get(item, "input"), JSON_COMPACT) : NULL;
        if (input) srn_buf_addz(&c->text, input);
        free(input);
    }
}

static bool has_call(const json_t *items) {
    for (size_t i = 0; i < json_array_size(items); i++)
        if (is(json_object_get(json_array_get(items, i), "type"), "function_call")) return true;
    return false;
}

/* A response, at its end. */
static void note_response(srn__relay_text *t, const json_t *o) {
    const char *status = json_string_value(json_object_get(o, "status"));
    const json_t *items = json_object_get(o, "output");
    note_usage(t, json_object_get(o, "usage"));
    if (!status) return;
    if (strcmp(status, "failed") == 0) t->failed = true;
    end_choice(t, &t->choices[0],
               has_call(items) && strcmp(status, "completed") == 0 ? "tool_calls" : status);
    t->ended = true;
}

static void note_response_event(srn__relay_text *t, const json_t *o, const char *type, uint64_t at_us) {
    const json_t *delta = json_object_get(o, "delta");
    json_t *response = json_object_get(o, "response");
    size_t n = strlen(type);
    t->sequence = count(json_object_get(o, "sequence_number"));
    if (response && !t->response) t->response = json_deep_copy(response);
    if (n > 6 && strcmp(type + n - 6, ".delta") == 0 && json_string_length(delta)) {
        if (strcmp(type, "response.output_text.delta") == 0 ||
            strcmp(type, "response.function_call_arguments.delta") == 0)
            add_text(&t->choices[0], delta);
        note_piece(t, at_us);
    }
    if (strcmp(type, "response.completed") == 0 || strcmp(type, "response.incomplete") == 0 ||
        strcmp(type, "response.failed") == 0)
        note_response(t, response);
}

static void note_message_event(srn__relay_text *t, const json_t *o, const char *type, uint64_t at_us) {
    const json_t *delta = json_object_get(o, "delta"), *block = json_object_get(o, "content_block");
    srn__relay_choice *c = &t->choices[0];
    if (strcmp(type, "message_start") == 0)
        note_usage(t, json_object_get(json_object_get(o, "message"), "usage"));
    if (strcmp(type, "content_block_start") == 0 && is(json_object_get(block, "type"), "tool_use")) {
        const char *name = json_string_value(json_object_get(block, "name"));
        if (name) srn_buf_addf(&c->text, "%s%s\n", c->text.len ? "\n" : "", name);
        note_piece(t, at_us);
    }
    if (strcmp(type, "content_block_delta") == 0) {
        bool some = add_text(c, json_object_get(delta, "text"));
        some = add_text(c, json_object_get(delta, "partial_json")) || some;
        if (some || json_string_length(json_object_get(delta, "thinking"))) note_piece(t, at_us);
    }
    if (strcmp(type, "message_delta") == 0) {
        const char *why = json_string_value(json_object_get(delta, "stop_reason"));
        note_usage(t, json_object_get(o, "usage"));
        if (why) end_choice(t, c, why);
    }
    if (strcmp(type, "message_stop") == 0) t->ended = true;
}

static void note_model(srn__relay_text *t, const json_t *o) {
    const char *model = json_string_value(json_object_get(o, "model"));
    if (model && !t->said_model[0]) snprintf(t->said_model, sizeof t->said_model, "%s", model);
}

static void note_event(srn__relay_text *t, const json_t *o, uint64_t at_us) {
    const char *type = json_string_value(json_object_get(o, "type"));
    note_model(t, o);
    note_model(t, json_object_get(o, "response"));
    note_model(t, json_object_get(o, "message"));
    bool fails = json_is_object(json_object_get(o, "error")) || (type && strcmp(type, "error") == 0);
    if (fails) t->failed = t->begun = true;
    if (t->api == SRN__RELAY_CHAT || t->api == SRN__RELAY_COMPLETIONS) return note_choices(t, o, at_us);
    if (!type) return;
    if (t->api == SRN__RELAY_RESPONSES) return note_response_event(t, o, type, at_us);
    note_message_event(t, o, type, at_us);
}

/* ---- what goes on ---- */

/* An object that has an id and names its model, as the client knows both. */
static void rename_one(const srn__relay_text *t, json_t *o) {
    static const char *const prefix[] = {
        [SRN__RELAY_CHAT] = "chatcmpl-", [SRN__RELAY_COMPLETIONS] = "cmpl-", [SRN__RELAY_RESPONSES] = "resp_",
        [SRN__RELAY_MESSAGES] = "msg_",  [SRN__RELAY_EMBEDDINGS] = "",       [SRN__RELAY_NONE] = ""};
    char id[96];
    if (!json_is_string(json_object_get(o, "model"))) return;
    json_object_set_new(o, "model", json_string(t->model));
    snprintf(id, sizeof id, "%s%s", prefix[t->api], t->id);
    if (json_is_string(json_object_get(o, "id"))) json_object_set_new(o, "id", json_string(id));
}

static void rename_all(const srn__relay_text *t, json_t *o) {
    rename_one(t, o);
    rename_one(t, json_object_get(o, "response"));
    rename_one(t, json_object_get(o, "message"));
}

/* Whether the client is to see it; usage that it did not ask for is taken out. */
static bool is_shown(const srn__relay_text *t, json_t *o) {
    if (!t->hides_usage || !json_object_get(o, "usage")) return true;
    const json_t *list = json_object_get(o, "choices");
    bool alone = json_is_array(list) && json_array_size(list) == 0;
    json_object_del(o, "usage");
    return !alone;
}

/* What is kept of the answers. */
static size_t text_bytes(const srn__relay_text *t) {
    size_t n = 0;
    for (uint32_t i = 0; i < t->n_choices; i++) n += t->choices[i].text.len;
    return n;
}

static uint32_t n_ended(const srn__relay_text *t) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n_choices; i++) n += t->choices[i].finish[0] != 0;
    return n;
}

/* As a client's body, but for what servers write and clients may not: NUL in texts, and a name twice, of
 * which the last counts. */
static int parse(srn_str text, json_t **ret, srn_err *err) {
    srn_err why = {0};
    json_error_t e = {0};
    int code = srn__json_check(text, MAX_DEPTH, &why);
    json_t *o = code ? NULL : json_loadb(text.ptr, text.len, JSON_ALLOW_NUL, &e);
    if (json_is_object(o)) return *ret = o, SRN_OK;
    json_decref(o);
    if (json_error_code(&e) == json_error_out_of_memory) return srn_fail_nomem(err, text.len);
    return srn_fail(err, SRN_EFORMAT, "it sent what is no JSON object: %.200s",
                    code      ? why.text
                    : *e.text ? e.text
                              : "an array");
}

static int put(json_t *o, srn_buf *out, const char *before, const char *after, srn_err *err) {
    char *text = json_dumps(o, JSON_COMPACT);
    if (text) {
        srn_buf_addz(out, before);
        srn_buf_addz(out, text);
        srn_buf_addz(out, after);
    }
    bool whole = text && !out->failed;
    free(text);
    return whole ? SRN_OK : srn_fail_nomem(err, out->len);
}

/* One event, whose data are all there. */
static int take_event(srn__relay_text *t, uint64_t at_us, srn_buf *now, srn_buf *held, srn_err *err) {
    srn_str data = {t->data.data, t->data.len};
    json_t *o = NULL;
    char before[300];
    if (!data.len) return SRN_OK;
    if (srn_str_eqz(data, "[DONE]")) {
        t->ended = true;
        srn_buf_addz(held, "data: [DONE]\n\n");
        return SRN_OK;
    }
    int code = parse(data, &o, err);
    if (code) return code;
    uint32_t ended = n_ended(t);
    note_event(t, o, at_us);
    rename_all(t, o);
    snprintf(before, sizeof before, "%s%.255s%sdata: ", t->event.len ? "event: " : "",
             t->event.len ? t->event.data : "", t->event.len ? "\n" : "");
    bool waits = t->ended || t->failed || n_ended(t) > ended || n_ended(t) == t->n_choices;
    if (is_shown(t, o)) code = put(o, waits ? held : now, before, "\n\n", err);
    json_decref(o);
    if (!code && text_bytes(t) > SRN__RELAY_BYTES)
        code = srn_fail(err, SRN_ELIMIT, "its answer has more than %d bytes", SRN__RELAY_BYTES);
    return code;
}

/* ---- lines ---- */

static int take_line(srn__relay_text *t, srn_str line, uint64_t at_us, srn_buf *now, srn_buf *held,
                     srn_err *err) {
    if (!line.len) {
        int code = take_event(t, at_us, now, held, err);
        srn_buf_clear(&t->data);
        srn_buf_clear(&t->event);
        return code;
    }
    const char *colon = memchr(line.ptr, ':', line.len);
    size_t n = colon ? (size_t)(colon - line.ptr) : line.len;
    srn_str name = {line.ptr, n}, value = {line.ptr + n, line.len - n};
    if (value.len) value.ptr++, value.len--;
    if (value.len && *value.ptr == ' ') value.ptr++, value.len--;
    if (srn_str_eqz(name, "data")) {
        if (t->data.len) srn_buf_addc(&t->data, '\n');
        srn_buf_add(&t->data, value.ptr, value.len);
    } else if (srn_str_eqz(name, "event")) {
        srn_buf_clear(&t->event);
        for (size_t i = 0; i < value.len && i < 200; i++) /* names are plain words */
            srn_buf_addc(&t->event, value.ptr[i] > ' ' && value.ptr[i] < 127 ? value.ptr[i] : '?');
    }
    return t->data.failed ? srn_fail(err, SRN_ELIMIT, "it sent an event of more than %d bytes", MAX_EVENT)
                          : SRN_OK;
}

static uint64_t time_at(const srn_stream_mark *marks, size_t n, size_t *at, size_t offset) {
    while (*at + 1 < n && marks[*at].end < offset) (*at)++;
    return n ? marks[*at].at_us : 0;
}

int srn__relay_text_add(srn__relay_text *t, srn_str bytes, const srn_stream_mark *marks, size_t n_marks,
                        srn_buf *now, srn_buf *held, srn_err *err) {
    size_t mark = 0, from = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        char c = bytes.ptr[i];
        bool skipped = t->after_cr && c == '\n'; /* CR LF ends one line */
        t->after_cr = c == '\r';
        if (skipped) {
            from = i + 1;
            continue;
        }
        if (c != '\n' && c != '\r') continue;
        srn_buf_add(&t->bytes, bytes.ptr + from, i - from);
        from = i + 1;
        if (t->bytes.failed) break;
        srn_str line = {t->bytes.len ? t->bytes.data : "", t->bytes.len};
        int code = take_line(t, line, time_at(marks, n_marks, &mark, i + 1), now, held, err);
        srn_buf_clear(&t->bytes);
        if (code) return code;
    }
    if (from < bytes.len) srn_buf_add(&t->bytes, bytes.ptr + from, bytes.len - from);
    if (!t->bytes.failed) return SRN_OK;
    return srn_fail(err, SRN_ELIMIT, "it sent a line of more than %d bytes", MAX_EVENT);
}

int srn__relay_text_whole(srn__relay_text *t, srn_str body, srn_buf *held, srn_err *err) {
    json_t *o = NULL;
    int code = parse(body, &o, err);
    if (code) return code;
    note_model(t, o);
    if (json_is_object(json_object_get(o, "error"))) t->failed = true;
    if (t->api == SRN__RELAY_CHAT || t->api == SRN__RELAY_COMPLETIONS) {
        note_choices(t, o, 1);
    } else if (t->api == SRN__RELAY_RESPONSES) {
        note_items(&t->choices[0], json_object_get(o, "output"));
        note_response(t, o);
    } else if (t->api == SRN__RELAY_EMBEDDINGS) {
        note_usage(t, json_object_get(o, "usage"));
    } else {
        const char *why = json_string_value(json_object_get(o, "stop_reason"));
        note_usage(t, json_object_get(o, "usage"));
        note_items(&t->choices[0], json_object_get(o, "content"));
        end_choice(t, &t->choices[0], why ? why : "stop");
    }
    t->first_us = t->last_us = t->gap_max_us = 0; /* all of it came at once: when it began is not known */
    t->begun = t->ended = true;
    rename_all(t, o);
    code = put(o, held, "", "", err);
    json_decref(o);
    return code;
}

bool srn__relay_text_end(srn__relay_text *t, srn_buf *held) {
    bool chunks = t->api == SRN__RELAY_CHAT || t->api == SRN__RELAY_COMPLETIONS;
    if (t->ended) return true;
    if (!chunks || !(n_ended(t) == t->n_choices || t->failed)) return false;
    srn_buf_addz(held, "data: [DONE]\n\n");
    return t->ended = true;
}

void srn__relay_text_broken(srn__relay_text *t, int status, const char *code, const char *why, srn_buf *out) {
    srn__dialect d = t->api == SRN__RELAY_MESSAGES ? SRN__ANTHROPIC : SRN__OPENAI;
    srn_err err = {0};
    json_t *o = srn__error_json(d, status, NULL, NULL, code, why);
    if (t->api == SRN__RELAY_RESPONSES) {
        json_t *response = t->response ? json_copy(t->response) : json_object();
        rename_one(t, response);
        json_object_set_new(response, "status", json_string("failed"));
        json_object_set_new(response, "error",
                            json_pack("{s:s, s:s}", "code", "server_error", "message", why));
        json_decref(o);
        o = json_pack("{s:s, s:I, s:o}", "type", "response.failed", "sequence_number",
                      (json_int_t)t->sequence + 1, "response", response);
    }
    const char *before = t->api == SRN__RELAY_RESPONSES  ? "event: response.failed\ndata: "
                         : t->api == SRN__RELAY_MESSAGES ? "event: error\ndata: "
                                                         : "data: ";
    if (o) put(o, out, before, t->api == SRN__RELAY_MESSAGES ? "\n\n" : "\n\ndata: [DONE]\n\n", &err);
    json_decref(o);
}

void srn__relay_error_text(srn_str body, char *ret, size_t cap) {
    json_t *o = NULL;
    srn_err err = {0};
    *ret = 0;
    if (parse(body, &o, &err)) return;
    const json_t *e = json_object_get(o, "error");
    const char *text = json_string_value(json_is_object(e) ? json_object_get(e, "message") : e);
    if (!text) text = json_string_value(json_object_get(o, "message"));
    if (!text) text = json_string_value(json_object_get(o, "detail"));
    if (text) snprintf(ret, cap, "%s", text);
    json_decref(o);
}

double srn__text_repetition(srn_str text) {
    enum { MOST_WORDS = 32768 };
    srn_buf words;
    srn_buf_init(&words, MOST_WORDS * sizeof(srn_out_token));
    for (size_t i = 0; i < text.len && !words.failed;) {
        size_t from = i;
        while (i < text.len && !strchr(" \n\r\t", text.ptr[i])) i++;
        if (i > from) {
            srn_out_token t = {.id =
                                   (int32_t)(srn_hash(1, (srn_str){text.ptr + from, i - from}) & INT32_MAX)};
            srn_buf_add(&words, &t, sizeof t);
        }
        while (i < text.len && strchr(" \n\r\t", text.ptr[i])) i++;
    }
    size_t n = words.len / sizeof(srn_out_token);
    double r = n ? srn_answer_repetition((const srn_out_token *)(const void *)words.data, (uint32_t)n) : NAN;
    srn_buf_done(&words);
    return r;
}
