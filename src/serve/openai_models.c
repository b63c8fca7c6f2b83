/* The OpenAI API: which models there are, and the small services around them that llama-server and vLLM offer
 * too: /tokenize, /detokenize, /apply-template. Worker threads; everything is answered at once.
 */
#include <stdlib.h>

#include "serve/openai.h"
#include "serve/openai_internal.h"
#include "serve/upstream.h"

enum { MAX_TEXT = 64 << 20, MAX_REPLY = 512 << 20 };

static json_t *id_json(const char *id) {
    return id[0] ? json_string(id) : json_null();
}

/* null: not known yet. */
static json_t *verified_json(const srn__served *v) {
    int state = atomic_load(&v->verified);
    return state == SRN__UNVERIFIED ? json_null() : json_boolean(state == SRN__VERIFIED);
}

static json_t *model_json(srn__upstreams *u, const srn_config_model *c, const srn__served *v) {
    json_t *m = json_pack("{s:s, s:s, s:I, s:s, s:b}", "id", c->name, "object", "model", "created",
                          (json_int_t)(v ? v->loaded_unix : 0), "owned_by", "serin", "loaded", v != NULL);
    json_t *aliases = json_array();
    for (uint32_t i = 0; i < c->n_aliases; i++) json_array_append_new(aliases, json_string(c->aliases[i]));
    json_object_set_new(m, "aliases", aliases);
    if (c->upstream) json_object_set_new(m, "upstream", srn__upstream_json(u, c));
    if (v) {
        srn_engine_info info = srn_engine_get_info(v->engine);
        json_object_set_new(m, "max_model_len", json_integer(srn_engine_longest(v->engine)));
        json_object_set_new(m, "weights", json_string(v->ids.weights));
        json_object_set_new(m, "weights_verified", verified_json(v));
        json_object_set_new(m, "tokenizer", id_json(v->ids.tokenizer));
        json_object_set_new(m, "template", id_json(v->ids.chat_template));
        json_object_set_new(m, "quantisation", json_string(v->ids.quantisation));
        json_object_set_new(m, "engine", json_string(info.engine_id));
        json_object_set_new(m, "architecture", json_string(info.architecture));
    }
    return m;
}

typedef struct listing {
    srn__upstreams *upstreams;
    json_t *models;
} listing;

static void add_model(void *ctx, const srn_config_model *c, srn__served *v) {
    listing *l = ctx;
    json_array_append_new(l->models, model_json(l->upstreams, c, v));
}

void srn__openai_models(srn__call *c) {
    listing l = {srn__call_upstreams(c), json_array()};
    srn__models_each(srn__call_models(c), add_model, &l);
    srn__call_reply_json(c, 200, json_pack("{s:s, s:o}", "object", "list", "data", l.models));
}

typedef struct search {
    srn__upstreams *upstreams;
    const char *name;
    json_t *found;
} search;

static void match_model(void *ctx, const srn_config_model *c, srn__served *v) {
    search *s = ctx;
    bool same = strcmp(c->name, s->name) == 0;
    for (uint32_t i = 0; i < c->n_aliases; i++) same = same || strcmp(c->aliases[i], s->name) == 0;
    if (same && !s->found) s->found = model_json(s->upstreams, c, v);
}

void srn__openai_model_info(srn__call *c) {
    search s = {srn__call_upstreams(c), srn__call_path_id(c), NULL};
    if (s.name) srn__models_each(srn__call_models(c), match_model, &s);
    if (s.found)
        srn__call_reply_json(c, 200, s.found);
    else
        srn__call_fail(c, 404, "invalid_request_error", "model", "model_not_found",
                       "there is no model '%s'; GET /v1/models lists those that there are",
                       s.name ? s.name : "");
}

/* ---- text and tokens ---- */

/* The body and the model that it names; false: an error was replied. */
static bool begin(srn__call *c, const char *endpoint, json_t **ret_body, srn__served **ret) {
    const char *name = NULL, *param = NULL;
    srn_err err = {0};
    *ret_body = srn__call_json(c);
    if (!*ret_body) return false;
    if (srn__field_string(*ret_body, "model", &name, &param, &err)) {
        srn__call_fail_err(c, param, &err);
        return false;
    }
    return srn__job_model(c, endpoint, name, ret, NULL);
}

/* {"id": 1, "piece": "text"}, or the piece's bytes where it is not whole characters. */
static void put_piece(srn_buf *out, const srn_vocab *v, int32_t id, srn_buf *text) {
    srn_buf_clear(text);
    srn_token_bytes(v, id, true, text);
    size_t at = 0, n = 1;
    while (at < text->len && (n = srn_utf8_len(text->data + at, text->len - at)) > 0) at += n;
    srn_buf_addf(out, "{\"id\":%d,\"piece\":", id);
    if (n) {
        srn__put_string(out, (srn_str){text->data ? text->data : "", text->len});
    } else {
        for (size_t i = 0; i < text->len; i++)
            srn_buf_addf(out, i ? ",%u" : "[%u", (unsigned char)text->data[i]);
        srn_buf_addc(out, ']');
    }
    srn_buf_addc(out, '}');
}

/* Written at once: millions of JSON values would be gigabytes. */
static void put_tokens(srn_buf *out, const srn__served *v, const srn_tokens *ids, bool with_pieces) {
    srn_buf text;
    srn_buf_init(&text, 1 << 16);
    srn_buf_addz(out, "{\"tokens\":[");
    for (size_t i = 0; i < ids->n; i++) {
        if (i) srn_buf_addc(out, ',');
        if (with_pieces)
            put_piece(out, v->vocab, ids->ids[i], &text);
        else
            srn_buf_addf(out, "%d", ids->ids[i]);
    }
    srn_buf_addf(out, "],\"count\":%zu,\"max_model_len\":%u}", ids->n, srn_engine_longest(v->engine));
    srn_buf_done(&text);
}

typedef struct tokenize_opts {
    bool add_special, parse_special, with_pieces;
} tokenize_opts;

/* Tokens of `content` (llama-server: nothing is added), `prompt` (vLLM: what the model wants is added) or of
 * a chat's messages. */
static int tokens_of(const json_t *body, const srn_config_limits *limits, srn__served *v,
                     const tokenize_opts *o, srn_tokens *ids, const char **ret_param, srn_err *err) {
    const char *content = NULL, *prompt = NULL;
    int code = srn__field_string(body, "content", &content, ret_param, err);
    if (!code) code = srn__field_string(body, "prompt", &prompt, ret_param, err);
    if (code) return code;
    if (json_object_get(body, "messages")) {
        srn__openai_request r;
        code = srn__openai_parse((json_t *)(uintptr_t)body, true, limits, &r, ret_param, err);
        r.spec.model = v;
        if (!code) code = srn__job_prompt(&r.spec, NULL, ids, err);
        srn__openai_request_done(&r);
        return code;
    }
    const char *text = content ? content : prompt;
    if (!text) {
        *ret_param = "content";
        return srn_fail(err, SRN_EINVAL, "give one of 'content', 'prompt' and 'messages'");
    }
    srn_span span = {srn_str_of(text), o->parse_special};
    return srn_tokenize(v->vocab, &span, *text != 0, o->add_special ? 0 : SRN_TOK_NO_BOS, ids, err);
}

void srn__tokenize(srn__call *c) {
    json_t *body;
    srn__served *v;
    const char *param = NULL;
    srn_err err = {0};
    if (!begin(c, "/tokenize", &body, &v)) return;
    tokenize_opts o = {.add_special = !json_object_get(body, "content"), .parse_special = true};
    const srn__field fields[] = {
        {.name = "add_special", .kind = SRN__FIELD_BOOL, .offset = offsetof(tokenize_opts, add_special)},
        {.name = "add_special_tokens",
         .kind = SRN__FIELD_BOOL,
         .offset = offsetof(tokenize_opts, add_special)},
        {.name = "parse_special", .kind = SRN__FIELD_BOOL, .offset = offsetof(tokenize_opts, parse_special)},
        {.name = "with_pieces", .kind = SRN__FIELD_BOOL, .offset = offsetof(tokenize_opts, with_pieces)},
    };
    srn_tokens ids = {0};
    int code = srn__fields_read(body, fields, SRN_LEN(fields), &o, &param, &err);
    if (!code) code = tokens_of(body, &srn__call_config(c)->limits, v, &o, &ids, &param, &err);
    if (code) {
        srn__call_fail_err(c, param, &err);
    } else {
        srn_buf out;
        srn_buf_init(&out, MAX_REPLY);
        put_tokens(&out, v, &ids, o.with_pieces);
        if (out.failed)
            srn__call_fail(c, 500, NULL, NULL, "answer_too_large", "the tokens are too many for one answer");
        else
            srn__call_reply_text(c, 200, "application/json", (srn_str){out.data, out.len});
        srn_buf_done(&out);
    }
    srn_tokens_done(&ids);
    srn__served_put(v);
}

static int detokenize(const json_t *body, const srn__served *v, srn_buf *out, const char **ret_param,
                      srn_err *err) {
    const json_t *list = json_object_get(body, "tokens");
    *ret_param = "tokens";
    if (!json_is_array(list))
        return srn_fail(err, SRN_EINVAL, "'tokens' must be an array of token ids, it is %s",
                        srn__json_type_name(list));
    srn_detok d;
    srn_detok_init(&d, v->vocab, true);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *j = json_array_get(list, i);
        json_int_t id = json_integer_value(j);
        if (!json_is_integer(j) || id < 0 || id >= srn_vocab_size(v->vocab))
            return srn_fail(err, SRN_EINVAL, "'tokens'[%zu] must be a token id from 0 to %d", i,
                            srn_vocab_size(v->vocab) - 1);
        srn_detok_add(&d, (int32_t)id, out);
    }
    srn_detok_end(&d, out);
    return out->failed ? srn_fail(err, SRN_ELIMIT, "the text has more than %d bytes", MAX_TEXT) : SRN_OK;
}

void srn__detokenize(srn__call *c) {
    json_t *body;
    srn__served *v;
    const char *param = NULL;
    srn_err err = {0};
    srn_buf text;
    if (!begin(c, "/detokenize", &body, &v)) return;
    srn_buf_init(&text, MAX_TEXT);
    if (detokenize(body, v, &text, &param, &err)) {
        srn__call_fail_err(c, param, &err);
    } else {
        json_t *s = json_stringn(text.data ? text.data : "", text.len);
        srn__call_reply_json(c, 200, json_pack("{s:O, s:o}", "content", s, "prompt", s));
    }
    srn_buf_done(&text);
    srn__served_put(v);
}

/* What a chat, or a registered prompt with its values, becomes. */
void srn__apply_template(srn__call *c) {
    json_t *body = srn__call_json(c);
    const char *param = NULL;
    srn_err err = {0};
    srn__fields f = {.err = &err};
    srn__prompt_use use = {0};
    srn__served *v;
    srn__openai_request r;
    srn_buf text;
    if (!body) return;
    if (srn__prompt_take(c, body, &use, &f)) return srn__call_fail_err(c, f.param, &err);
    if (!begin(c, "/apply-template", &body, &v)) return srn__prompt_use_done(&use);
    srn_buf_init(&text, MAX_TEXT);
    int code = srn__openai_parse_prompt(body, &use, &srn__call_config(c)->limits, &r, &param, &err);
    r.spec.model = v;
    if (!code) code = srn__job_prompt(&r.spec, &text, NULL, &err);
    if (code)
        srn__call_fail_err(c, param ? param : "messages", &err);
    else
        srn__call_reply_json(
            c, 200, json_pack("{s:o}", "prompt", json_stringn(text.data ? text.data : "", text.len)));
    srn_buf_done(&text);
    srn__openai_request_done(&r);
    srn__served_put(v);
}
