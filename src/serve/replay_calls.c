/* Recorded calls to be replayed: read from the ledger, run on a replayer or asked of another model, and what
 * is said of each (replay.h). What cannot be proven is told apart from what is different. Called by the
 * command and by the server, which find the weights; each call by one thread at a time.
 */
#include <stdlib.h>

#include "serve/replay_internal.h"

static const char *text_of(const json_t *o, const char *key) {
    const char *z = json_string_value(json_object_get(o, key));
    return z ? z : "";
}

const char *srn_replay_weights(const srn_replay_call *c) {
    return text_of(c->record, "weights");
}

const char *srn_replay_kv(const srn_replay_call *c) {
    return text_of(c->record, "kv");
}

uint64_t srn_replay_tokens(const srn_replay_call *c) {
    const json_t *t = json_object_get(c->record, "tokens");
    json_int_t n =
        json_integer_value(json_object_get(t, "input")) + json_integer_value(json_object_get(t, "output"));
    return n > 0 ? (uint64_t)n : 0;
}

void srn_replay_fail(srn_replay_call *c, const srn_err *why) {
    c->why = *why;
    c->done = true;
}

void srn_replay_call_done(srn_replay_call *c) {
    json_decref(c->record);
    json_decref(c->content);
    json_decref(c->result);
    *c = (srn_replay_call){0};
}

/* ---- reading ---- */

/* Whether the call gave out something: tokens, or vectors. */
static bool gave_out(const json_t *record) {
    if (json_integer_value(json_object_get(json_object_get(record, "tokens"), "output")) > 0) return true;
    return strcmp(text_of(record, "endpoint"), "/v1/embeddings") == 0 &&
           json_integer_value(json_object_get(record, "status")) == 200;
}

static int check_record(const srn_stored *s, srn_replay_call *c, srn_err *err) {
    const char *policy = text_of(c->record, "policy"), *error = text_of(c->record, "error");
    if (s->kind == SRN_RECORD_INTENT) return srn_fail(err, SRN_EBUSY, "the call is still running");
    const json_t *upstream = json_object_get(c->record, "upstream");
    if (json_is_object(upstream)) {
        const char *there = text_of(upstream, "call");
        return srn_fail(err, SRN_EUNSUP,
                        "another server answered it, at %.200s, and it cannot be run again here%s%.80s%s",
                        text_of(upstream, "address"), *there ? "; there it is call " : "", there,
                        *there ? ", which that server can replay" : "");
    }
    if (!gave_out(c->record)) {
        c->verdict = SRN_REPLAY_EMPTY;
        return srn_fail(err, SRN_ENOENT, "it gave out no token (status %d%s%s)",
                        (int)json_integer_value(json_object_get(c->record, "status")), *error ? ", " : "",
                        error);
    }
    if (!s->has_content && (!strcmp(policy, "none") || !strcmp(policy, "hash")))
        return srn_fail(err, SRN_ENOENT,
                        "of its content %s kept (policy '%s'), so nothing can be proven; record with "
                        "--ledger-content full or encrypted",
                        policy[0] == 'n' ? "nothing was" : "only hashes were", policy);
    return SRN_OK;
}

void srn_replay_read(srn_reader *ledger, srn_replay_call *c) {
    srn_buf body, content;
    srn_stored s;
    srn_buf_init(&body, 4u << 20);
    srn_buf_init(&content, (size_t)1 << 30);
    c->verdict = SRN_REPLAY_UNPROVEN;
    int code = srn_reader_call(ledger, c->id, &s, &body, &c->why);
    if (!code) c->record = json_loadb(body.data, body.len, 0, NULL);
    const char *id = text_of(c->record, "id");
    if (*id) snprintf(c->name, sizeof c->name, "%s", id);
    if (!code) code = check_record(&s, c, &c->why);
    if (!code) code = srn_reader_content(ledger, c->id, &content, &c->why);
    if (!code && !(c->content = json_loadb(content.data, content.len, JSON_ALLOW_NUL, NULL)))
        code = srn_fail(&c->why, SRN_EFORMAT, "its content is no JSON");
    c->done = code != SRN_OK;
    srn_buf_done(&body);
    srn_buf_done(&content);
}

/* ---- running ---- */

/* It is done, and its content may go. */
static void end(srn_replay_call *c) {
    c->done = true;
    json_decref(c->content);
    c->content = NULL;
}

void srn_replay_run(srn_replayer *r, srn_replay_call *c) {
    if (srn_replayer_run(r, c->record, c->content, &c->result, &c->why) == SRN_OK) {
        bool tokens = json_is_true(json_object_get(c->result, "tokens_same"));
        c->verdict = json_is_true(json_object_get(c->result, "same")) ? SRN_REPLAY_SAME
                     : tokens                                         ? SRN_REPLAY_UNPROVEN
                                                                      : SRN_REPLAY_DIFFERENT;
    }
    end(c);
}

/* The first token at which two answers part, or the shorter one's length where it is the other's beginning;
 * UINT32_MAX: they are the same, as far as a recorded one goes that was cut off. */
static uint32_t parts_at(const srn_replay_answer *a, const srn_replay_answer *b) {
    uint32_t n = SRN_MIN(a->n_tokens, b->n_tokens), i = 0;
    while (i < n && a->tokens[i] == b->tokens[i]) i++;
    bool whole = *a->finish && strcmp(a->finish, "abort") != 0;
    return i == a->n_tokens && (!whole || i == b->n_tokens) ? UINT32_MAX : i;
}

static int diverge(srn_answerer *was, srn_answerer *other, const srn_replay_answer *a, srn_divergence *ret,
                   srn_err *err) {
    size_t n = (size_t)a->n_prompt + a->n_tokens;
    int32_t *ids = srn_calloc(n + 1, sizeof *ids);
    if (!ids) return srn_fail_nomem(err, n * sizeof *ids);
    memcpy(ids, a->prompt, a->n_prompt * sizeof *ids);
    memcpy(ids + a->n_prompt, a->tokens, a->n_tokens * sizeof *ids);
    int code = srn_answerers_diverge(was, other, ids, (uint32_t)n, a->n_prompt, ret, err);
    free(ids);
    return code;
}

static json_t *answer_json(const srn_replay_answer *a) {
    return json_pack("{s:o, s:s, s:i}", "text", srn__text_json((srn_str){a->text, a->n_text}), "finish",
                     a->finish, "tokens", (int)a->n_tokens);
}

static json_t *other_json(const srn_replay_call *c, const srn_ids *ids, const char *name,
                          const srn_replay_answer *a, const srn_replay_answer *b, bool one_tokenizer) {
    uint32_t at = parts_at(a, b);
    bool same =
        one_tokenizer ? at == UINT32_MAX : a->n_text == b->n_text && memcmp(a->text, b->text, a->n_text) == 0;
    json_t *o =
        json_pack("{s:s, s:b, s:s, s:s, s:s, s:s, s:s, s:i, s:s, s:o, s:o}", "call", c->name, "same", same,
                  "model", name, "weights_recorded", srn_replay_weights(c), "weights", ids->weights,
                  "quantisation", ids->quantisation, "engine", ids->engine, "numerics", (int)ids->numerics,
                  "kv", ids->kv, "recorded", answer_json(a), "answer", answer_json(b));
    json_object_set_new(o, "parts_at", one_tokenizer && at != UINT32_MAX ? json_integer(at) : json_null());
    return o;
}

/* Why the models cannot be compared token by token, or NULL. */
static const char *no_divergence(const srn_replay_call *c, const srn_answerer *was, const char *no_was,
                                 bool one_tokenizer, const srn_replay_answer *a) {
    if (!one_tokenizer) return "the models have different tokenizers";
    if (!was) return no_was;
    if (strcmp(was->ids->weights, srn_replay_weights(c)) != 0)
        return "the file that the ledger names has other weights than the recorded ones";
    return a->n_tokens ? NULL : "the recorded answer has no token";
}

static int run_other(srn_answerer *other, const char *name, srn_answerer *was, const char *no_was,
                     srn_replay_call *c, srn_err *err) {
    srn_replay_answer a = {0}, b = {0};
    srn_divergence d = {0};
    srn_err none;
    const srn_replay_ask ask = {.record = c->record, .request = text_of(c->content, "request")};
    bool embeds = strcmp(text_of(c->record, "endpoint"), "/v1/embeddings") == 0;
    int code = embeds ? srn_fail(err, SRN_EUNSUP, "vectors of two models cannot be compared") : SRN_OK;
    if (!code) code = srn__replay_recorded(c->content, &a, err);
    if (!code) code = other->answer(other, &ask, &b, err);
    if (!code) {
        bool one = strcmp(text_of(c->record, "tokenizer"), other->ids->tokenizer) == 0;
        const char *why = no_divergence(c, was, no_was, one, &a);
        if (!why && diverge(was, other, &a, &d, &none)) why = none.text;
        c->result = other_json(c, other->ids, name, &a, &b, one);
        json_object_set_new(c->result, "divergence", why ? json_null() : srn_divergence_json(&d));
        json_object_set_new(c->result, "no_divergence", why ? json_string(why) : json_null());
        c->verdict =
            json_is_true(json_object_get(c->result, "same")) ? SRN_REPLAY_SAME : SRN_REPLAY_DIFFERENT;
        if (!c->result) code = srn_fail_nomem(err, a.n_text + b.n_text);
    }
    srn_replay_answer_done(&a);
    srn_replay_answer_done(&b);
    return code;
}

void srn_replay_run_other(srn_answerer *other, const char *name, srn_answerer *was, const char *no_was,
                          srn_replay_call *c) {
    run_other(other, name, was, no_was, c, &c->why);
    end(c);
}

/* ---- what is said ---- */

const char *srn_replay_verdict_name(srn_replay_verdict v) {
    static const char *const names[] = {"same", "different", "not proven", "nothing to replay"};
    return names[v];
}

static json_t *json_of(const srn_replay_call *c) {
    json_t *o = c->result ? json_copy(c->result) : json_pack("{s:s, s:b}", "call", c->name, "same", false);
    json_object_set_new(o, "verdict", json_string(srn_replay_verdict_name(c->verdict)));
    json_object_set_new(o, "error", c->result ? json_null() : json_string(c->why.text));
    return o;
}

json_t *srn_replay_json(const srn_replay_call *calls, size_t n) {
    size_t counts[4] = {0};
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        counts[calls[i].verdict]++;
        json_array_append_new(list, json_of(&calls[i]));
    }
    return json_pack("{s:o, s:I, s:I, s:I, s:I}", "calls", list, "same", (json_int_t)counts[SRN_REPLAY_SAME],
                     "different", (json_int_t)counts[SRN_REPLAY_DIFFERENT], "not_proven",
                     (json_int_t)counts[SRN_REPLAY_UNPROVEN], "nothing_to_replay",
                     (json_int_t)counts[SRN_REPLAY_EMPTY]);
}
