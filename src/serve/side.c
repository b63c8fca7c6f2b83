/* Lines of JSON between two programs of serin (side.h): written from structs, and read back from bytes that
 * nobody vouches for. Pure.
 */
#include "serve/side.h"

#include <stdlib.h>

#include "base/num.h"
#include "serve/openai_internal.h"
#include "serve/replay_internal.h"

static int no_line(srn_err *err, const char *why) {
    return srn_fail(err, SRN_EFORMAT, "it is no line of the protocol: %s", why);
}

/* ---- pieces ---- */

static void put_end(srn_buf *b, json_t *o) {
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (text)
        srn_buf_addz(b, text);
    else
        b->failed = true;
    srn_buf_addc(b, '\n');
    free(text);
    json_decref(o);
}

/* 32-bit values as base64 of little-endian bytes; p: int32_t or float [n]. */
static void put_words(srn_buf *b, const void *p, uint32_t n) {
    const uint8_t *from = p;
    srn_buf_addc(b, '"');
    for (uint32_t i = 0; i < n;) { /* three words are four times three bytes: no padding inside */
        uint8_t bytes[12];
        size_t at = 0;
        for (; at < sizeof bytes && i < n; i++) {
            uint32_t v;
            memcpy(&v, from + (size_t)i * sizeof v, sizeof v);
            for (int k = 0; k < 4; k++) bytes[at++] = (uint8_t)(v >> 8 * k);
        }
        srn_base64_add(b, bytes, at);
    }
    srn_buf_addc(b, '"');
}

static const char *text_of(const json_t *o, const char *key) {
    return json_string_value(json_object_get(o, key));
}

/* A whole number from 0 to UINT32_MAX; anything else is 0. */
static uint32_t number_of(const json_t *o, const char *key) {
    json_int_t v = json_integer_value(json_object_get(o, key));
    return v > 0 && v <= (json_int_t)UINT32_MAX ? (uint32_t)v : 0;
}

static int parse(srn_str line, json_t **ret, srn_err *err) {
    json_error_t je;
    if (line.len > SRN_SIDE_LINE) return no_line(err, "it is longer than 64 MiB");
    json_t *o = json_loadb(line.ptr, line.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &je);
    if (!o) return no_line(err, je.text);
    if (!json_is_object(o)) {
        json_decref(o);
        return no_line(err, "an object is expected");
    }
    *ret = o;
    return SRN_OK;
}

/* ---- requests ---- */

void srn_side_put_open(srn_buf *b, const srn_side_request *q) {
    put_end(b, json_pack("{s:{s:s, s:s?, s:s?, s:s?, s:I, s:I, s:I}}", "open", "model", q->model, "kv", q->kv,
                         "ledger", q->ledger, "keys", q->keys, "threads", (json_int_t)q->threads, "ctx",
                         (json_int_t)q->ctx, "parallel", (json_int_t)q->parallel));
}

void srn_side_put_ask(srn_buf *b, uint32_t id, const srn_replay_ask *ask) {
    char prompt[SRN_PROMPT_NAME_MAX + 16] = "";
    if (ask->prompt) snprintf(prompt, sizeof prompt, "%s@%u", ask->prompt->name, ask->prompt->version);
    put_end(b, json_pack("{s:I, s:{s:O?, s:s, s:s?, s:b, s:I}}", "id", (json_int_t)id, "ask", "record",
                         ask->record, "request", ask->request, "prompt", *prompt ? prompt : NULL, "greedy",
                         (int)ask->greedy, "max_tokens", (json_int_t)ask->max_tokens));
}

void srn_side_put_rows(srn_buf *b, uint32_t id, const int32_t *tokens, uint32_t n, uint32_t n_rows) {
    srn_buf_addf(b, "{\"id\":%u,\"rows\":{\"n_rows\":%u,\"tokens\":", id, n_rows);
    put_words(b, tokens, n);
    srn_buf_addz(b, "}}\n");
}

static int read_open(const json_t *o, srn_side_request *q, srn_err *err) {
    q->word = SRN_SIDE_OPEN;
    q->model = text_of(o, "model");
    q->kv = text_of(o, "kv");
    q->ledger = text_of(o, "ledger");
    q->keys = text_of(o, "keys");
    q->threads = number_of(o, "threads");
    q->ctx = number_of(o, "ctx");
    q->parallel = number_of(o, "parallel");
    return q->model ? SRN_OK : no_line(err, "'open' names no model");
}

static int read_ask(const json_t *o, srn_side_request *q, srn_err *err) {
    const json_t *record = json_object_get(o, "record");
    const char *prompt = text_of(o, "prompt");
    q->word = SRN_SIDE_ASK;
    q->ask = (srn_replay_ask){.record = json_is_object(record) ? record : NULL,
                              .request = text_of(o, "request"),
                              .greedy = json_is_true(json_object_get(o, "greedy")),
                              .max_tokens = number_of(o, "max_tokens")};
    if (!q->ask.request) return no_line(err, "'ask' has no request");
    if (!prompt) return SRN_OK;
    q->ask.prompt = &q->prompt;
    return srn_prompt_ref_parse(srn_str_of(prompt), &q->prompt, err);
}

static int read_rows(const json_t *o, srn_side_request *q, srn_err *err) {
    uint32_t *ids = NULL;
    int code = srn__values_of(json_object_get(o, "tokens"), "rows: tokens", &ids, &q->n_tokens, err);
    q->word = SRN_SIDE_ROWS;
    q->tokens = (int32_t *)ids;
    q->n_rows = number_of(o, "n_rows");
    if (!code && (!q->n_rows || q->n_rows > q->n_tokens))
        return no_line(err, "'rows' asks for none there are");
    return code;
}

int srn_side_read_request(srn_str line, srn_side_request *ret, srn_err *err) {
    srn_side_request q = {0};
    int code = parse(line, &q.json, err);
    if (code) return code;
    const json_t *open = json_object_get(q.json, "open"), *ask = json_object_get(q.json, "ask");
    const json_t *rows = json_object_get(q.json, "rows");
    q.id = number_of(q.json, "id");
    if (open)
        code = read_open(open, &q, err);
    else if (!q.id)
        code = no_line(err, "it has no id");
    else if (ask)
        code = read_ask(ask, &q, err);
    else if (rows)
        code = read_rows(rows, &q, err);
    else
        code = no_line(err, "it asks for nothing that is known");
    if (code) {
        srn_side_request_done(&q);
        return code;
    }
    *ret = q;
    if (ret->ask.prompt) ret->ask.prompt = &ret->prompt;
    return SRN_OK;
}

void srn_side_request_done(srn_side_request *q) {
    json_decref(q->json);
    free(q->tokens);
    *q = (srn_side_request){0};
}

/* ---- replies ---- */

void srn_side_put_hello(srn_buf *b) {
    put_end(b, json_pack("{s:i, s:s}", "serin_side", SRN_SIDE_PROTOCOL, "version", srn_version()));
}

void srn_side_put_progress(srn_buf *b, const char *what, uint64_t done, uint64_t total) {
    put_end(b, json_pack("{s:{s:s, s:I, s:I}}", "progress", "what", what, "done", (json_int_t)done, "total",
                         (json_int_t)total));
}

void srn_side_put_opened(srn_buf *b, const srn_ids *ids, uint32_t n_vocab) {
    put_end(b, json_pack("{s:{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:I}}", "opened", "weights", ids->weights,
                         "tokenizer", ids->tokenizer, "template", ids->chat_template, "quantisation",
                         ids->quantisation, "engine", ids->engine, "numerics", (json_int_t)ids->numerics,
                         "kv", ids->kv, "n_vocab", (json_int_t)n_vocab));
}

void srn_side_put_answer(srn_buf *b, uint32_t id, const srn_replay_answer *a) {
    srn_buf_addf(b, "{\"id\":%u,\"answer\":{\"finish\":\"%s\",\"ttft_us\":%llu,\"total_us\":%llu,\"prompt\":",
                 id, a->finish, (unsigned long long)a->ttft_us, (unsigned long long)a->total_us);
    put_words(b, a->prompt, a->n_prompt);
    srn_buf_addz(b, ",\"tokens\":");
    put_words(b, a->tokens, a->n_tokens);
    srn_buf_addz(b, ",\"logits\":");
    put_words(b, a->logits, a->n_tokens);
    srn_buf_addz(b, ",\"text\":\"");
    srn_base64_add(b, (const uint8_t *)a->text, a->n_text);
    srn_buf_addz(b, "\"}}\n");
}

void srn_side_put_values(srn_buf *b, uint32_t id, const float *rows, uint32_t n_values) {
    srn_buf_addf(b, "{\"id\":%u,\"values\":", id);
    put_words(b, rows, n_values);
    srn_buf_addz(b, "}\n");
}

void srn_side_put_failed(srn_buf *b, uint32_t id, const srn_err *err) {
    put_end(b, json_pack("{s:I, s:{s:s, s:o}}", "id", (json_int_t)id, "error", "code",
                         srn_err_name(err->code), "text", srn__text_json(srn_str_of(err->text))));
}

static void copy_text(const json_t *o, const char *key, char *ret, size_t cap) {
    const char *z = text_of(o, key);
    snprintf(ret, cap, "%s", z ? z : "");
}

static int read_opened(const json_t *o, srn_side_reply *r, srn_err *err) {
    r->kind = SRN_SIDE_OPENED;
    copy_text(o, "weights", r->ids.weights, sizeof r->ids.weights);
    copy_text(o, "tokenizer", r->ids.tokenizer, sizeof r->ids.tokenizer);
    copy_text(o, "template", r->ids.chat_template, sizeof r->ids.chat_template);
    copy_text(o, "quantisation", r->ids.quantisation, sizeof r->ids.quantisation);
    copy_text(o, "engine", r->ids.engine, sizeof r->ids.engine);
    copy_text(o, "kv", r->kv, sizeof r->kv);
    r->ids.numerics = number_of(o, "numerics");
    r->n_vocab = number_of(o, "n_vocab");
    if (strlen(r->ids.weights) != 64 || !r->ids.engine[0] || !r->n_vocab)
        return no_line(err, "'opened' does not say which model answers");
    if (r->n_vocab > SRN_SIDE_LINE / 6) return no_line(err, "one row of its logits has no room in a line");
    return SRN_OK;
}

static int read_answer(const json_t *o, srn_side_reply *r, srn_err *err) {
    srn_replay_answer *a = &r->answer;
    uint32_t *prompt = NULL, *tokens = NULL, *logits = NULL, n_logits = 0;
    uint8_t *text = NULL;
    const char *finish = text_of(o, "finish");
    r->kind = SRN_SIDE_ANSWERED;
    int code = srn__values_of(json_object_get(o, "prompt"), "answer: prompt", &prompt, &a->n_prompt, err);
    if (!code)
        code = srn__values_of(json_object_get(o, "tokens"), "answer: tokens", &tokens, &a->n_tokens, err);
    if (!code) code = srn__values_of(json_object_get(o, "logits"), "answer: logits", &logits, &n_logits, err);
    if (!code) code = srn__bytes_of(json_object_get(o, "text"), "answer: text", &text, &a->n_text, err);
    a->prompt = (int32_t *)prompt;
    a->tokens = (int32_t *)tokens;
    a->logits = (float *)logits;
    a->text = (char *)text;
    if (!code && n_logits != a->n_tokens) code = no_line(err, "an answer has as many logits as tokens");
    if (!code && !a->n_prompt) code = no_line(err, "an answer has a prompt");
    for (uint32_t i = 0; !code && i < a->n_tokens; i++)
        if (a->tokens[i] < 0) code = no_line(err, "an answer has a token below 0");
    for (uint32_t i = 0; !code && i < a->n_prompt; i++)
        if (a->prompt[i] < 0) code = no_line(err, "a prompt has a token below 0");
    a->finish = finish && strcmp(finish, "stop") == 0 ? "stop" : "length";
    a->ttft_us = (uint64_t)SRN_MAX(json_integer_value(json_object_get(o, "ttft_us")), (json_int_t)0);
    a->total_us = (uint64_t)SRN_MAX(json_integer_value(json_object_get(o, "total_us")), (json_int_t)0);
    return code;
}

static int read_failed(const json_t *o, srn_side_reply *r, srn_err *err) {
    const char *name = text_of(o, "code"), *text = text_of(o, "text");
    r->kind = SRN_SIDE_FAILED;
    if (!name || !text) return no_line(err, "an error has a code and a text");
    bool room = strcmp(name, srn_err_name(SRN_ECONTEXT)) == 0;
    srn_fail(&r->err, room ? SRN_ECONTEXT : SRN_EINVAL, "%.900s", text);
    return SRN_OK;
}

static int read_progress(const json_t *o, srn_side_reply *r) {
    r->kind = SRN_SIDE_PROGRESS;
    copy_text(o, "what", r->what, sizeof r->what);
    r->done = (uint64_t)SRN_MAX(json_integer_value(json_object_get(o, "done")), (json_int_t)0);
    r->total = (uint64_t)SRN_MAX(json_integer_value(json_object_get(o, "total")), (json_int_t)0);
    return SRN_OK;
}

static int read_any(const json_t *o, srn_side_reply *r, srn_err *err) {
    const json_t *v;
    r->id = number_of(o, "id");
    if ((v = json_object_get(o, "answer"))) return read_answer(v, r, err);
    if ((v = json_object_get(o, "error"))) return read_failed(v, r, err);
    if ((v = json_object_get(o, "opened"))) return read_opened(v, r, err);
    if ((v = json_object_get(o, "progress"))) return read_progress(v, r);
    if ((v = json_object_get(o, "values"))) {
        uint32_t *values = NULL;
        r->kind = SRN_SIDE_ROWS_OF;
        int code = srn__values_of(v, "values", &values, &r->n_values, err);
        r->rows = (float *)values;
        return code;
    }
    r->kind = SRN_SIDE_HELLO;
    if (number_of(o, "serin_side") == SRN_SIDE_PROTOCOL) return SRN_OK;
    return no_line(err, json_object_get(o, "serin_side") ? "it is of another version of the protocol"
                                                         : "it says nothing that is known");
}

int srn_side_read_reply(srn_str line, srn_side_reply *ret, srn_err *err) {
    srn_side_reply r = {0};
    json_t *o = NULL;
    int code = parse(line, &o, err);
    if (!code) code = read_any(o, &r, err);
    json_decref(o);
    if (code) {
        srn_side_reply_done(&r);
        return code;
    }
    *ret = r;
    ret->ids.kv = ret->kv;
    return SRN_OK;
}

void srn_side_reply_done(srn_side_reply *r) {
    srn_replay_answer_done(&r->answer);
    free(r->rows);
    r->rows = NULL;
}
