/* What a load asks: requests of a file's lines, or of recorded calls whose content was kept. One thread; the
 * lines are read purely. Refuses what is no request, naming file and line; calls that cannot be asked again
 * by themselves (of other endpoints, of registered prompts, without content) are counted and left out.
 */
#include <stdlib.h>

#include "config/lines.h"
#include "serve/load.h"

enum { MAX_ASKS = 1000000, MAX_ID = 200 };
#define MAX_BYTES ((size_t)1 << 30)

void srn_load_asks_done(srn_load_asks *a) {
    for (size_t i = 0; i < a->n; i++) {
        free(a->items[i].id);
        json_decref(a->items[i].body);
        srn_checks_free(a->items[i].checks);
    }
    free(a->items);
    *a = (srn_load_asks){0};
}

static const char *text_of(const json_t *o, const char *key) {
    const char *z = json_string_value(json_object_get(o, key));
    return z ? z : "";
}

static int wrong(const char *place, srn_err *err, const char *what) {
    return srn_fail(err, SRN_EFORMAT, "%s: %s", place, what);
}

/* ---- one request ---- */

static uint32_t count(const json_t *o, const char *key) {
    json_int_t v = json_integer_value(json_object_get(o, key));
    return v < 0 ? 0 : (uint32_t)SRN_MIN(v, (json_int_t)100000000);
}

/* Of a record, or of an answer of the OpenAI API. */
static void note_counts(srn_load_ask *a, const json_t *line) {
    const json_t *t = json_object_get(line, "tokens"), *u = json_object_get(line, "usage");
    a->counted = json_is_object(t) || json_is_object(u);
    a->n_input = t ? count(t, "input") : count(u, "prompt_tokens");
    a->n_output = t ? count(t, "output") : count(u, "completion_tokens");
    a->n_cached =
        t ? count(t, "cached") : count(json_object_get(u, "prompt_tokens_details"), "cached_tokens");
    a->counted = a->counted && a->n_input && a->n_output;
}

static int check_messages(const json_t *messages, const char *place, srn_err *err) {
    const json_t *m;
    size_t i;
    if (!json_is_array(messages) || !json_array_size(messages))
        return wrong(place, err, "'messages' must be a list with at least one message");
    json_array_foreach(messages, i, m) if (!json_is_string(json_object_get(m, "role"))) return srn_fail(
        err, SRN_EFORMAT, "%s: messages[%zu]: each is an object with role and content", place, i);
    return SRN_OK;
}

/* An object of a request: checked, and without what is no part of it. */
static int set_body(srn_load_ask *a, const json_t *request, bool raw, const char *place, srn_err *err) {
    static const char *const others[] = {"id",     "checks", "model",   "stream", "stream_options",
                                         "output", "usage",  "version", "tokens"};
    json_t *prompt = json_object_get(request, "prompt"), *messages = json_object_get(request, "messages");
    if (messages && json_object_get(request, "output")) prompt = NULL; /* an evaluation's: a prompt's name */
    if (!messages == !prompt) return wrong(place, err, "give either 'messages' or 'prompt'");
    int code = messages ? check_messages(messages, place, err) : SRN_OK;
    if (prompt && (!json_is_string(prompt) || !json_string_length(prompt)))
        code = wrong(place, err, "'prompt' must be a text that is not empty");
    if (code) return code;
    if (!(a->body = json_copy((json_t *)(uintptr_t)request))) return srn_fail_nomem(err, 256);
    for (size_t i = 0; i < SRN_LEN(others); i++) json_object_del(a->body, others[i]);
    a->completion = prompt && raw;
    if (!messages && !raw) {
        messages = json_pack("[{s:s, s:O}]", "role", "user", "content", prompt);
        if (!messages || json_object_set_new(a->body, "messages", messages)) return srn_fail_nomem(err, 256);
    }
    if (!a->completion) json_object_del(a->body, "prompt");
    return SRN_OK;
}

static int add(srn_load_asks *a, const char *id, const srn_load_ask *from, const char *place, srn_err *err) {
    if (a->n == a->cap) {
        size_t cap = a->cap ? 2 * a->cap : 64;
        srn_load_ask *grown = srn_realloc_array(a->items, cap, sizeof *grown);
        if (!grown) return srn_fail_nomem(err, cap * sizeof *grown);
        a->items = grown;
        a->cap = cap;
    }
    if (a->n == MAX_ASKS)
        return srn_fail(err, SRN_ELIMIT, "%s: there are more than %d requests", place, MAX_ASKS);
    srn_load_ask *to = &a->items[a->n];
    *to = *from;
    if (!(to->id = srn_strndup(id, strlen(id)))) return srn_fail_nomem(err, strlen(id));
    a->n++;
    return SRN_OK;
}

static int add_request(srn_load_asks *a, const json_t *line, const json_t *request, const char *place,
                       srn_err *err) {
    const json_t *id = json_object_get(line, "id"), *checks = json_object_get(line, "checks");
    char where[SRN_JSON_PLACE_MAX + 16];
    srn_load_ask ask = {0};
    if (id && (!json_is_string(id) || json_string_length(id) > MAX_ID))
        return wrong(place, err, "'id' must be a text of at most 200 bytes");
    snprintf(where, sizeof where, "%s: checks", place);
    note_counts(&ask, line);
    int code = set_body(&ask, request, a->raw, place, err);
    if (!code && checks) code = srn_checks_new(checks, where, &ask.checks, err);
    if (!code) code = add(a, id ? json_string_value(id) : srn_json_line_name(place), &ask, place, err);
    if (!code) return SRN_OK;
    json_decref(ask.body);
    srn_checks_free(ask.checks);
    return code;
}

/* ---- a file ---- */

/* A record with its content; one that cannot be asked again is counted. */
static int add_record(srn_load_asks *a, const json_t *line, const char *place, srn_err *err) {
    const json_t *content = json_object_get(line, "content");
    const char *endpoint = text_of(line, "endpoint");
    json_t *request = json_incref(json_object_get(content, "request"));
    int code = SRN_OK;
    if (json_is_string(request)) {
        json_t *parsed = json_loadb(json_string_value(request), json_string_length(request), 0, NULL);
        json_decref(request);
        request = parsed;
    }
    bool chat = strcmp(endpoint, "/v1/chat/completions") == 0 &&
                json_array_size(json_object_get(request, "messages")) > 0 &&
                !json_object_get(request, "prompt");
    bool completion = strcmp(endpoint, "/v1/completions") == 0 &&
                      json_string_length(json_object_get(request, "prompt")) > 0 &&
                      !json_object_get(request, "messages");
    bool raw = a->raw;
    a->raw = raw || completion;
    if ((chat || completion) && count(json_object_get(line, "tokens"), "output"))
        code = add_request(a, line, request, place, err);
    else
        a->without++;
    a->raw = raw;
    json_decref(request);
    return code;
}

static int add_line(void *ctx, json_t *line, const char *place, srn_err *err) {
    srn_load_asks *a = ctx;
    if (a->limit && a->n >= a->limit) return SRN_OK;
    if (json_is_string(line)) {
        json_t *o = json_pack("{s:O}", "prompt", line);
        int code = o ? add_request(a, o, o, place, err) : srn_fail_nomem(err, 64);
        json_decref(o);
        return code;
    }
    if (!json_is_object(line))
        return wrong(place, err, "a line is a text, {\"prompt\": ...} or {\"messages\": [...]}");
    bool record = json_is_object(json_object_get(line, "tokens")) && json_object_get(line, "endpoint");
    return record ? add_record(a, line, place, err) : add_request(a, line, line, place, err);
}

int srn_load_asks_lines(srn_load_asks *a, srn_str text, const char *file, srn_err *err) {
    size_t lines = 0;
    int code = srn_json_lines(text, file, add_line, a, &lines, err);
    if (code || a->n) return code;
    if (a->without)
        return srn_fail(err, SRN_EFORMAT,
                        "%.200s: none of its %zu calls has a request that can be asked again; write it with "
                        "`serin calls export --content`, of a ledger that keeps content (`ledger: {content: "
                        "full}`)",
                        file, a->without);
    return srn_fail(err, SRN_EFORMAT,
                    "%.200s: line %zu: there is no prompt in it; a line is {\"prompt\": \"...\", "
                    "\"max_tokens\": 100}",
                    file, lines + 1);
}

/* ---- the ledger ---- */

typedef struct found {
    json_t **records;
    size_t n, cap;
    bool failed;
} found;

static bool take(void *ctx, const srn_call_row *row, const srn_stored *s) {
    found *f = ctx;
    if (row->status >= 400 || !row->n_output || s->kind != SRN_RECORD_CALL) return true;
    if (f->n == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 256;
        json_t **grown = srn_realloc_array(f->records, cap, sizeof *grown);
        if (!grown) return f->failed = true, false;
        f->records = grown;
        f->cap = cap;
    }
    json_t *record = json_loadb(s->body.ptr, s->body.len, 0, NULL);
    if (record) f->records[f->n++] = record;
    return true;
}

/* Its content beside it, as an export has it. */
static int add_stored(srn_load_asks *a, srn_reader *r, json_t *record, srn_err *err) {
    uint8_t id[SRN_ULID_BYTES];
    srn_buf content;
    srn_err none;
    int code = SRN_OK;
    const char *name = text_of(record, "id");
    srn_buf_init(&content, MAX_BYTES);
    if (srn_ulid_parse(srn_str_of(name), id) && !srn_reader_content(r, id, &content, &none))
        json_object_set_new(record, "content", json_loadb(content.data, content.len, JSON_ALLOW_NUL, NULL));
    code = add_record(a, record, name, err);
    srn_buf_done(&content);
    return code;
}

int srn_load_asks_calls(srn_load_asks *a, srn_reader *r, const char *filter, srn_err *err) {
    srn_filter *f = NULL;
    found all = {0};
    int code = srn_filter_parse(srn_str_of(filter), srn_unix_us(), &f, err);
    if (!code)
        code = srn_reader_calls(
            r, f, NULL, a->limit ? (uint32_t)SRN_MIN(a->limit, (size_t)MAX_ASKS) : MAX_ASKS, take, &all, err);
    srn_filter_free(f);
    if (!code && all.failed) code = srn_fail_nomem(err, all.cap * sizeof(json_t *));
    for (size_t i = 0; i < all.n; i++) {
        if (!code) code = add_stored(a, r, all.records[i], err);
        json_decref(all.records[i]);
    }
    free(all.records);
    if (code || a->n) return code;
    if (!all.n)
        return srn_fail(err, SRN_ENOENT,
                        "no answered call matches; `serin calls list` without a filter shows what there is");
    return srn_fail(err, SRN_ENOENT,
                    "%zu calls match, but none can be asked again: the ledger kept no content of them. A "
                    "server with `ledger: {content: full}` keeps it for calls from then on",
                    all.n);
}

/* ---- what goes out ---- */

static bool add_before(json_t *content, const char *nonce, json_t **ret) {
    if (json_is_string(content)) {
        *ret = json_sprintf("%s\n%s", nonce, json_string_value(content));
        return true;
    }
    if (!json_is_array(content)) return false;
    *ret = json_copy(content);
    json_array_insert_new(*ret, 0, json_pack("{s:s, s:s+}", "type", "text", "text", nonce, "\n"));
    return true;
}

static void set_apart(json_t *body, bool completion, const char *nonce) {
    json_t *messages = json_object_get(body, "messages"), *m, *with = NULL;
    size_t i;
    if (completion) {
        if (add_before(json_object_get(body, "prompt"), nonce, &with))
            json_object_set_new(body, "prompt", with);
        return;
    }
    json_array_foreach(messages, i, m) if (add_before(json_object_get(m, "content"), nonce, &with)) {
        json_object_set_new(m, "content", with);
        return;
    }
}

json_t *srn_load_body(const srn_load_ask *a, const char *model, uint32_t max_tokens, const char *nonce) {
    json_t *o = json_deep_copy(a->body);
    if (!o) return NULL;
    if (nonce) set_apart(o, a->completion, nonce);
    bool said = json_object_get(o, "max_tokens") || json_object_get(o, "max_completion_tokens");
    if (!said) json_object_set_new(o, "max_tokens", json_integer(a->counted ? a->n_output : max_tokens));
    if (!json_object_get(o, "temperature")) json_object_set_new(o, "temperature", json_integer(0));
    json_object_set_new(o, "model", json_string(model));
    json_object_set_new(o, "stream", json_true());
    json_object_set_new(o, "stream_options", json_pack("{s:b}", "include_usage", 1));
    return o;
}
