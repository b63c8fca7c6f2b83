/* A recorded call run again (replay.h): the request is parsed by the API that took it, what the record says
 * is laid over it, the prompt's recorded ids are submitted, and what comes is compared. Called by commands
 * and by workers; each call waits on its own condition while the scheduler's thread computes.
 */
#include "serve/replay_internal.h"

#include <math.h>
#include <stdlib.h>

#include "base/num.h"
#include "serve/responses.h"

enum { MAX_CHOICES = 4096, MAX_IDS = 64 << 20 };

/* ---- the request ---- */

void srn__replay_request_done(srn__replay_request *q) {
    if (q->is_anthropic)
        srn__anthropic_done(&q->anthropic);
    else
        srn__openai_request_done(&q->openai);
    json_decref(q->chat);
    json_decref(q->body);
}

static const char *text_of(const json_t *o, const char *key) {
    const char *z = json_string_value(json_object_get(o, key));
    return z ? z : "";
}

/* The version that the record names, filled with the request's values. */
static int use_of(const srn_replayer *r, const json_t *record, const json_t *body,
                  const srn_prompt_ref *other, srn__prompt_use *ret, srn_err *err) {
    const json_t *named = json_object_get(record, "prompt");
    const char *name = text_of(named, "name");
    char param[96];
    *ret = (srn__prompt_use){0};
    if (!*name) return SRN_OK;
    srn_prompt_ref ref = {.version = (uint32_t)json_integer_value(json_object_get(named, "version"))};
    snprintf(ref.name, sizeof ref.name, "%s", name);
    if (other) ref = *other;
    if (!r->prompts)
        return srn_fail(err, SRN_ENOENT, "the call used the registered prompt '%s', and there is no registry",
                        name);
    int code = srn_prompts_get(r->prompts, &ref, &ret->prompt, NULL, err);
    if (code) return code;
    code = srn_prompt_fill(ret->prompt, json_object_get(json_object_get(body, "prompt"), "variables"),
                           &ret->messages, param, err);
    if (code) srn__prompt_use_done(ret);
    return code;
}

int srn__replay_parse(srn_replayer *r, const json_t *record, const srn_prompt_ref *ref,
                      srn__replay_request *q, srn_err *err) {
    const srn_config_limits *limits = &r->config.limits;
    const char *endpoint = text_of(record, "endpoint"), *param = NULL;
    srn__fields f = {.err = err};
    srn__prompt_use use;
    bool completion = strcmp(endpoint, "/v1/completions") == 0;
    if (completion) {
        int code = srn__openai_parse(q->body, false, limits, &q->openai, &param, err);
        q->spec = &q->openai.spec;
        return code ? code : srn__openai_bind(&q->openai, r->served, &param, err);
    }
    int code = use_of(r, record, q->body, ref, &use, err);
    if (code) return code;
    if (strcmp(endpoint, "/v1/messages") == 0) {
        q->is_anthropic = true;
        q->spec = &q->anthropic.spec;
        code = srn__anthropic_parse_prompt(q->body, &use, limits, false, &q->anthropic, err);
        q->spec->model = r->served;
        return code;
    }
    bool response = strcmp(endpoint, "/v1/responses") == 0;
    if (!response && strcmp(endpoint, "/v1/chat/completions") != 0) {
        srn__prompt_use_done(&use);
        return srn_fail(err, SRN_EUNSUP, "calls of %s have no tokens to compare",
                        *endpoint ? endpoint : "no endpoint");
    }
    if (response) {
        code = srn__responses_to_chat(q->body, use.prompt, limits, &f, &q->chat);
        if (code) {
            srn__prompt_use_done(&use);
            return code;
        }
    }
    code = srn__openai_parse_prompt(response ? q->chat : q->body, &use, limits, &q->openai, &param, err);
    q->spec = &q->openai.spec;
    return code ? code : srn__openai_bind(&q->openai, r->served, &param, err);
}

void srn__replay_lay_record(const json_t *record, srn__job_spec *spec) {
    const json_t *o = json_object_get(record, "sampling"), *v;
    srn_sampling *s = &spec->sampling;
    const struct {
        const char *key;
        float *at;
    } reals[] = {{"temperature", &s->temperature},
                 {"top_p", &s->top_p},
                 {"min_p", &s->min_p},
                 {"typical_p", &s->typical_p},
                 {"repeat_penalty", &s->repeat_penalty},
                 {"presence_penalty", &s->presence_penalty},
                 {"frequency_penalty", &s->frequency_penalty},
                 {"dry_multiplier", &s->dry_multiplier},
                 {"dry_base", &s->dry_base}};
    const struct {
        const char *key;
        int32_t *at;
    } whole[] = {{"top_k", &s->top_k},
                 {"repeat_last_n", &s->repeat_last_n},
                 {"dry_allowed_length", &s->dry_allowed_length},
                 {"dry_last_n", &s->dry_last_n}};
    for (size_t i = 0; i < SRN_LEN(reals); i++)
        if ((v = json_object_get(o, reals[i].key))) *reals[i].at = (float)json_number_value(v);
    for (size_t i = 0; i < SRN_LEN(whole); i++)
        if ((v = json_object_get(o, whole[i].key))) *whole[i].at = (int32_t)json_integer_value(v);
    if ((v = json_object_get(o, "min_tokens"))) spec->min_tokens = (uint32_t)json_integer_value(v);
    if ((v = json_object_get(o, "ignore_eog"))) spec->ignore_eog = json_is_true(v);
    s->seed = strtoull(text_of(o, "seed"), NULL, 10);
    spec->prompt_logprobs = false;
    spec->n_top = 0;
    spec->logprobs = false;
    spec->no_cache = false;
    spec->cache_salt = 0;
}

/* ---- what was recorded ---- */

int srn__bytes_of(const json_t *text, const char *what, uint8_t **ret, size_t *ret_n, srn_err *err) {
    const char *z = json_string_value(text);
    srn_str digits = {z ? z : "", json_string_length(text)};
    size_t bytes = srn_base64_bytes(digits);
    if (!z || bytes > MAX_IDS) return srn_fail(err, SRN_EFORMAT, "%s is no base64", what);
    uint8_t *raw = srn_calloc(bytes + 4, 1);
    int code = raw ? SRN_OK : srn_fail_nomem(err, bytes);
    if (!code && !srn_base64_get(digits, raw)) code = srn_fail(err, SRN_EFORMAT, "%s is no base64", what);
    if (code) {
        free(raw);
        return code;
    }
    *ret = raw;
    *ret_n = bytes;
    return SRN_OK;
}

int srn__values_of(const json_t *text, const char *what, uint32_t **ret, uint32_t *ret_n, srn_err *err) {
    uint8_t *raw;
    size_t n;
    int code = srn__bytes_of(text, what, &raw, &n, err);
    if (code) return code;
    uint32_t *v = srn_calloc(n / 4 + 1, sizeof *v);
    if (n % 4)
        code = srn_fail(err, SRN_EFORMAT, "%s is no list of 32-bit values", what);
    else if (!v)
        code = srn_fail_nomem(err, n);
    for (size_t i = 0; !code && i < n / 4; i++)
        v[i] = (uint32_t)raw[4 * i] | (uint32_t)raw[4 * i + 1] << 8 | (uint32_t)raw[4 * i + 2] << 16 |
               (uint32_t)raw[4 * i + 3] << 24;
    free(raw);
    if (code) {
        free(v);
        return code;
    }
    *ret = v;
    *ret_n = (uint32_t)(n / 4);
    return SRN_OK;
}

int srn__replay_prompt(const json_t *content, size_t i, srn_tokens *ret, srn_err *err) {
    uint32_t *ids = NULL, n = 0;
    int code = srn__values_of(json_array_get(json_object_get(content, "prompt"), i),
                              "the call's content: prompt", &ids, &n, err);
    for (uint32_t k = 0; !code && k < n; k++)
        if (!srn_tokens_push(ret, (int32_t)ids[k])) code = srn_fail_nomem(err, n * sizeof *ids);
    free(ids);
    return code;
}

typedef struct kept {
    uint32_t part, index;
    uint32_t *tokens, *logits, *logprobs; /* [n]; logprobs may be NULL */
    uint32_t n;
    const char *finish;
} kept;

static int kept_of(const json_t *choice, kept *k, srn_err *err) {
    uint32_t n = 0;
    *k = (kept){.part = (uint32_t)json_integer_value(json_object_get(choice, "part")),
                .index = (uint32_t)json_integer_value(json_object_get(choice, "index")),
                .finish = text_of(choice, "finish")};
    int code = srn__values_of(json_object_get(choice, "tokens"), "the call's content: choices.tokens",
                              &k->tokens, &k->n, err);
    if (!code)
        code = srn__values_of(json_object_get(choice, "logits"), "the call's content: choices.logits",
                              &k->logits, &n, err);
    if (!code && n != k->n)
        code = srn_fail(err, SRN_EFORMAT, "the content of the call: %u tokens have %u logits", k->n, n);
    const json_t *p = json_object_get(choice, "logprobs");
    if (!code && p && !json_is_null(p)) {
        code = srn__values_of(p, "the call's content: choices.logprobs", &k->logprobs, &n, err);
        if (!code && n != k->n)
            code = srn_fail(err, SRN_EFORMAT, "the content of the call: %u tokens have %u logprobs", k->n, n);
    }
    return code;
}

static void kept_done(kept *k) {
    free(k->tokens);
    free(k->logits);
    free(k->logprobs);
}

int srn__replay_recorded(const json_t *content, srn_replay_answer *ret, srn_err *err) {
    const json_t *choice = NULL, *c;
    srn_tokens prompt = {0};
    kept k = {0};
    size_t i;
    json_array_foreach(json_object_get(content, "choices"), i, c) /* they stand in the order of their ends */
        if (!json_integer_value(json_object_get(c, "part")) &&
            !json_integer_value(json_object_get(c, "index"))) choice = c;
    int code = choice ? kept_of(choice, &k, err) : srn_fail(err, SRN_ENOENT, "the call gave out no answer");
    if (!code) code = srn__replay_prompt(content, k.part, &prompt, err);
    const json_t *text = json_object_get(choice, "text");
    if (!code && !(ret->text = srn_strndup(text_of(choice, "text"), json_string_length(text))))
        code = srn_fail_nomem(err, json_string_length(text));
    if (code) {
        srn_tokens_done(&prompt);
        kept_done(&k);
        return code;
    }
    ret->n_text = json_string_length(text);
    ret->prompt = prompt.ids;
    ret->n_prompt = (uint32_t)prompt.n;
    ret->tokens = (int32_t *)k.tokens;
    ret->n_tokens = k.n;
    ret->finish = text_of(choice, "finish");
    k.tokens = NULL;
    kept_done(&k);
    return SRN_OK;
}

/* ---- one choice ---- */

/* Null for what JSON has no number for: a record is not trusted. */
static json_t *logit_json(float v) {
    return isfinite(v) ? json_real((double)v) : json_null();
}

/* Whether the lists part; *ret: where, as JSON, or null. */
static bool differ(const kept *k, const srn_out_token *t, uint32_t n, bool whole, bool ended, json_t **ret) {
    for (uint32_t i = 0; i < k->n && i < n; i++) {
        const char *kind = (uint32_t)t[i].id != k->tokens[i]                             ? "token"
                           : srn_bits_f32(t[i].logit) != k->logits[i]                    ? "logit"
                           : k->logprobs && srn_bits_f32(t[i].logprob) != k->logprobs[i] ? "logprob"
                                                                                         : NULL;
        if (kind)
            return *ret = json_pack("{s:I, s:s, s:{s:I, s:o}, s:{s:I, s:o}}", "at", (json_int_t)i, "kind",
                                    kind, "recorded", "token", (json_int_t)k->tokens[i], "logit",
                                    logit_json(srn_f32_bits(k->logits[i])), "replayed", "token",
                                    (json_int_t)t[i].id, "logit", logit_json(t[i].logit)),
                   true;
    }
    bool same = n >= k->n && (!whole || (n == k->n && ended));
    *ret = same ? json_null()
                : json_pack("{s:I, s:s}", "at", (json_int_t)SRN_MIN(n, k->n), "kind",
                            n < k->n ? "ended earlier" : "went on");
    return !same;
}

/* An answer that came to its own end must come to it again; one that was cut off must begin like this. */
static int run_choice(srn_replayer *r, const srn_request_opts *opts, const kept *k, json_t *choices,
                      bool *same, srn_err *err) {
    srn__replay_run x;
    srn_request_opts o = *opts;
    bool whole = strcmp(k->finish, "stop") == 0 || strcmp(k->finish, "tool_calls") == 0;
    o.sampling.seed += k->index;
    o.max_tokens = k->n + (whole ? 1 : 0);
    o.logprobs = k->logprobs != NULL;
    if (!o.max_tokens) return SRN_OK;
    srn_out_token *tokens = srn_calloc((size_t)k->n + 1, sizeof *tokens);
    if (!tokens) return srn_fail_nomem(err, k->n * sizeof *tokens);
    int code = srn__replay_run_request(&x, r, &o, err);
    if (!code) {
        uint32_t n = srn_request_read(x.request, 0, NULL, 0, tokens, NULL, k->n + 1, NULL);
        json_t *d = NULL;
        bool parts = differ(k, tokens, n, whole, x.status.finish == SRN_FINISH_STOP, &d);
        if (parts) *same = false;
        json_array_append_new(choices,
                              json_pack("{s:i, s:i, s:i, s:i, s:b, s:o}", "part", (int)k->part, "index",
                                        (int)k->index, "recorded", (int)k->n, "replayed", (int)n, "same",
                                        !parts, "first_difference", d ? d : json_null()));
    }
    srn__replay_run_done(&x);
    free(tokens);
    return code;
}

/* ---- the call ---- */

typedef struct outcome {
    json_t *choices;
    bool same, prompt_same;
    uint32_t n_tokens, n_vectors;
} outcome;

void srn__replay_take_part(srn__replay_request *q, uint32_t part) {
    srn__job_spec *spec = q->spec;
    if (spec->messages || part >= q->openai.n_prompts) return;
    const srn__openai_prompt *p = &q->openai.prompts[part];
    spec->text = p->text;
    spec->tokens = p->tokens;
    spec->n_tokens = p->n_tokens;
}

/* The choices of one part: its prompt is rendered again to compare it, and the recorded one is run. */
static int run_part(srn_replayer *r, srn__replay_request *q, const json_t *content, uint32_t part,
                    outcome *out, srn_err *err) {
    srn__job_spec *spec = q->spec;
    srn_reply_opts reply = spec->reply;
    srn_constraint *constraint = NULL;
    srn_tokens now = {0}, then = {0};
    const char *param = NULL;
    size_t i;
    json_t *choice;
    srn__replay_take_part(q, part);
    int code = srn__job_build_prompt(spec, NULL, &now, &reply.in_reasoning, &param, err);
    if (!code) code = srn__job_constraint(spec, &reply, &constraint, &param, err);
    if (!code) code = srn__replay_prompt(content, part, &then, err);
    if (!code && (now.n != then.n || memcmp(now.ids, then.ids, now.n * sizeof *now.ids) != 0))
        out->prompt_same = false;
    const srn_request_opts o = srn__job_request_opts(spec, &then, &reply, constraint);
    json_array_foreach(json_object_get(content, "choices"), i, choice) {
        kept k = {0};
        if (code || (uint32_t)json_integer_value(json_object_get(choice, "part")) != part) continue;
        code = kept_of(choice, &k, err);
        if (!code) code = run_choice(r, &o, &k, out->choices, &out->same, err);
        out->n_tokens += k.n;
        kept_done(&k);
    }
    srn_tokens_done(&now);
    srn_tokens_done(&then);
    srn_constraint_free(constraint);
    return code;
}

/* What of the identities is not as it was; "": nothing. */
static void put_changed(const srn_replayer *r, const json_t *record, char *ret, size_t cap) {
    const srn_ids *ids = &r->served->ids;
    int n = 0;
    *ret = 0;
    if (strcmp(text_of(record, "weights"), ids->weights) != 0) n += snprintf(ret, cap, "weights, ");
    if (strcmp(text_of(record, "tokenizer"), ids->tokenizer) != 0)
        n += snprintf(ret + n, cap - (size_t)n, "tokenizer, ");
    if (json_integer_value(json_object_get(record, "numerics")) != ids->numerics)
        n += snprintf(ret + n, cap - (size_t)n, "numerics, ");
    if (strcmp(text_of(record, "kv"), ids->kv) != 0) n += snprintf(ret + n, cap - (size_t)n, "cache type, ");
    if (n) ret[n - 2] = 0;
}

static json_t *result_json(const srn_replayer *r, const json_t *record, const outcome *out) {
    const srn_ids *ids = &r->served->ids;
    char changed[80];
    put_changed(r, record, changed, sizeof changed);
    bool proven = out->same && !*changed && out->n_tokens + out->n_vectors > 0;
    return json_pack("{s:s, s:b, s:b, s:s, s:s, s:s, s:s, s:i, s:s, s:b, s:i, s:i, s:O}", "call",
                     text_of(record, "id"), "same", proven, "tokens_same", out->same, "changed", changed,
                     "weights_recorded", text_of(record, "weights"), "weights", ids->weights, "engine",
                     ids->engine, "numerics", (int)ids->numerics, "kv", ids->kv, "prompt_same",
                     out->prompt_same, "tokens", (int)out->n_tokens, "vectors", (int)out->n_vectors,
                     "choices", out->choices);
}

static int run_answers(srn_replayer *r, srn__replay_request *q, const json_t *record, const json_t *content,
                       size_t parts, outcome *out, srn_err *err) {
    int code = srn__replay_parse(r, record, NULL, q, err);
    if (!code) srn__replay_lay_record(record, q->spec);
    for (uint32_t part = 0; !code && part < parts; part++) code = run_part(r, q, content, part, out, err);
    return code;
}

int srn_replayer_run(srn_replayer *r, const json_t *record, const json_t *content, json_t **ret,
                     srn_err *err) {
    const char *body = json_string_value(json_object_get(content, "request"));
    const json_t *choices = json_object_get(content, "choices");
    size_t parts = json_array_size(json_object_get(content, "prompt"));
    bool embeds = strcmp(text_of(record, "endpoint"), "/v1/embeddings") == 0;
    srn__replay_request q = {0};
    outcome out = {.choices = json_array(), .same = true, .prompt_same = true};
    int code = SRN_OK;
    if (!json_array_size(choices) || !parts || json_array_size(choices) > MAX_CHOICES)
        code = srn_fail(err, SRN_ENOENT, "the call gave out nothing that could be compared");
    if (!code && (!body || !(q.body = json_loads(body, JSON_REJECT_DUPLICATES, NULL))))
        code = srn_fail(err, SRN_EFORMAT, "the content of the call: request is no JSON");
    if (!code && embeds)
        code = srn__replay_embeddings(r, q.body, content, out.choices, &out.same, &out.prompt_same,
                                      &out.n_vectors, err);
    else if (!code)
        code = run_answers(r, &q, record, content, parts, &out, err);
    if (!code && !(*ret = result_json(r, record, &out))) code = srn_fail_nomem(err, 1024);
    srn__replay_request_done(&q);
    json_decref(out.choices);
    return code;
}
