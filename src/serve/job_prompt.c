/* Jobs: what goes in. Messages become text by the model's template and text becomes tokens; the constraint
 * is compiled; routes, headers and the hash of a prompt's fixed part. Pure but for the clock that templates
 * may ask; worker threads.
 */
#include <stdlib.h>
#include <time.h>

#include "serve/fallback.h"
#include "serve/job_internal.h"
#include "serve/otel.h"
#include "serve/prompt.h"
#include "serve/rollout.h"
#include "serve/upstream.h"

enum { MAX_PROMPT_TEXT = 64 << 20, MAX_GRAMMAR_NODES = 1 << 18 };

/* ---- routes and models ---- */

static const char *header(void *ctx, const char *name) {
    return srn__call_header(ctx, name);
}

static void again(void *ctx) {
    srn__call_again(ctx);
    srn__call_drop(ctx);
}

/* As srn__models_get; *ret_later: the handler has to return, and will run again. */
static int get_model(srn__call *c, const char *name, srn__served **ret, bool *ret_later, srn_err *err) {
    srn__call_hold(c); /* until again */
    srn__call_may_wait(c, true);
    int code = srn__models_get(srn__call_models(c), srn__call_config(c), name, again, c, ret, ret_later, err);
    if (*ret_later) return code;
    srn__call_may_wait(c, false);
    srn__call_drop(c);
    return code;
}

const srn_config_route *srn__call_route(srn__call *c, const char *endpoint, const char *asked) {
    const srn_key *key = srn__call_key(c);
    const srn__call_prompt *prompt = &srn__call_get_facts(c)->prompt;
    srn_route_query q = {.endpoint = endpoint,
                         .key = key ? key->name : NULL,
                         .alias = asked,
                         .prompt = prompt->name[0] ? prompt->name : NULL,
                         .header = header,
                         .header_ctx = c};
    return srn_config_route_of(srn__call_config(c), &q);
}

bool srn__job_model(srn__call *c, const char *endpoint, const char *asked, srn__served **ret,
                    const srn_config_route **ret_route) {
    const srn__call_prompt *prompt = &srn__call_get_facts(c)->prompt;
    srn_err err = {0};
    const srn_config_route *route = srn__call_route(c, endpoint, asked);
    bool later = false;
    srn__otel_route(c, route, asked);
    if (!srn__record_admit(c, route, asked)) return false;
    if (!prompt->name[0] && srn__call_header(c, "x-serin-prompt")) {
        srn__call_fail(
            c, 400, NULL, "x-serin-prompt", "unsupported_value",
            "%s takes no registered prompt; /v1/chat/completions, /v1/responses and /v1/messages do",
            endpoint);
        return false;
    }
    srn__assign(c, asked);
    const char *model = srn__answering_model(c, route, asked);
    if (srn__copy_of(c) && srn__assigned_of(c)->fell_back) {
        srn__call_fail(c, 503, NULL, "prompt", "prompt_not_found", "the canary has no such prompt now");
        return false;
    }
    if (!srn__copy_of(c) && srn__upstream_answers(c, route, endpoint, model)) return false;
    int code = get_model(c, model, ret, &later, &err);
    if (later) return false;
    bool ours = code && (code != SRN_ENOENT || srn__assigned_canary(c)); /* what there never was is not */
    if (ours && srn__fall_back(c, "not_loaded", &err)) return false;
    if (code == SRN_ENOENT)
        srn__call_fail(c, 404, "invalid_request_error", "model", "model_not_found", "%s", err.text);
    else if (code == SRN_EBUSY)
        srn__call_fail(c, 503, NULL, "model", "model_not_loaded", "%s", err.text);
    else if (code)
        srn__call_fail_err(c, "model", &err);
    if (code) return false;
    if (ret_route) *ret_route = route;
    srn__call_facts *facts = srn__call_get_facts(c);
    snprintf(facts->model, sizeof facts->model, "%s", (*ret)->name);
    return true;
}

int srn__job_check_route(const srn__call *c, int32_t priority, bool registered, const srn_config_route *route,
                         const char **ret_param, srn_err *err) {
    const srn_key *key = srn__call_key(c);
    if (priority < 0 && key && !key->admin) {
        *ret_param = "priority";
        return srn_fail(err, SRN_EINVAL, "'priority' below 0 needs an admin key");
    }
    if (!route || !route->require_prompt || registered) return SRN_OK;
    *ret_param = "prompt";
    return srn_fail(err, SRN_EINVAL,
                    "the route '%s' takes only calls with a registered prompt: name one in 'prompt', or in "
                    "the header x-serin-prompt",
                    route->name);
}

int srn__job_apply_route(const srn__call *c, srn__job_spec *spec, const srn_config_route *route,
                         const char **ret_param, srn_err *err) {
    srn__copy_seed(c, &spec->sampling.seed);
    if (spec->prompt) {
        *ret_param = "model";
        int wrong =
            srn__prompt_check_model(spec->prompt, srn__served_config(spec->model, srn__call_config(c)),
                                    spec->model->ids.weights, err);
        if (wrong) return wrong;
        *ret_param = NULL;
    }
    int code = srn__job_check_route(c, spec->priority, spec->prompt != NULL, route, ret_param, err);
    if (code || !route) return code;
    if (route->max_tokens && (!spec->max_tokens || spec->max_tokens > route->max_tokens))
        spec->max_tokens = route->max_tokens;
    if (route->timeout_ms && (!spec->timeout_ms || spec->timeout_ms > route->timeout_ms))
        spec->timeout_ms = route->timeout_ms;
    spec->priority += route->priority;
    return SRN_OK;
}

/* ---- the prompt ---- */

static const json_t *shown_tools(const srn__job_spec *spec) {
    return spec->tools ? spec->tools : spec->reply.tools;
}

/* Cuts the rendering behind the last message's text, which the answer goes on from. */
static int cut_at_last(const json_t *messages, srn_rendered *r, srn_err *err) {
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const char *role = json_string_value(json_object_get(last, "role"));
    const json_t *content = json_object_get(last, "content");
    const char *p = json_string_value(content);
    size_t n = json_string_length(content), at = SIZE_MAX;
    while (n && strchr(" \n\r\t", p[n - 1])) n--;
    while (n && strchr(" \n\r\t", *p)) p++, n--;
    if (!role || strcmp(role, "assistant") != 0 || n == 0)
        return srn_fail(err, SRN_EINVAL,
                        "continue_final_message needs a last message of role assistant with some content");
    for (size_t i = r->text.len >= n ? r->text.len - n + 1 : 0; at == SIZE_MAX && i-- > 0;)
        if (memcmp(r->text.data + i, p, n) == 0) at = i;
    if (at == SIZE_MAX)
        return srn_fail(err, SRN_EINVAL,
                        "the chat template does not show the last message as it is; it cannot be continued");
    size_t end = at + n;
    r->text.len = end;
    r->text.data[end] = 0;
    while (r->n_spans && (size_t)(r->spans[r->n_spans - 1].text.ptr - r->text.data) >= end) r->n_spans--;
    if (r->n_spans) {
        srn_span *s = &r->spans[r->n_spans - 1];
        s->text.len = SRN_MIN(s->text.len, end - (size_t)(s->text.ptr - r->text.data));
    }
    return SRN_OK;
}

static int render(const srn__job_spec *spec, srn_rendered *ret, srn_err *err) {
    const srn__served *v = spec->model;
    const json_t *tools = shown_tools(spec);
    bool with_tools = json_array_size(tools) > 0;
    const srn_template *t = with_tools ? v->chat_tools : v->chat;
    if (!t)
        return srn_fail(err, SRN_EUNSUP,
                        "the model '%s' has no chat template; complete plain text with /v1/completions",
                        v->name);
    json_t *messages = NULL, *shown = NULL;
    int code = srn_reply_adapt(v->format, spec->messages, tools, &messages, &shown, err);
    if (code) return code;
    srn_render_opts o = {.messages = messages,
                         .tools = shown,
                         .extra = spec->template_vars,
                         .bos_token = v->bos,
                         .eos_token = v->eos,
                         .add_generation_prompt = !spec->continue_last && !spec->no_generation_prompt,
                         .now_unix = (int64_t)time(NULL)};
    code = srn_template_render(t, &o, ret, err);
    if (code == SRN_EINVAL) srn_fail_prefix(err, code, "the chat template refuses the messages");
    if (!code && spec->continue_last) code = cut_at_last(messages, ret, err);
    json_decref(messages);
    json_decref(shown);
    return code;
}

/* A vocabulary that asks for EOS asks for it at the end of a text; a prompt goes on. */
static void drop_eos(const srn_vocab *v, srn_tokens *t) {
    if (srn_vocab_add_eos(v) && t->n && t->ids[t->n - 1] == srn_vocab_eos(v)) t->n--;
}

static int chat_prompt(const srn__job_spec *spec, srn_buf *text, srn_tokens *ids, bool *ret_in_reasoning,
                       srn_err *err) {
    srn_rendered r = {0};
    int code = render(spec, &r, err);
    if (!code && text) srn_buf_add(text, r.text.data ? r.text.data : "", r.text.len);
    if (!code && ids) code = srn_tokenize(spec->model->vocab, r.spans, r.n_spans, 0, ids, err);
    if (!code && ret_in_reasoning)
        *ret_in_reasoning =
            r.n_spans && r.spans[r.n_spans - 1].trusted &&
            srn_reply_ends_in_reasoning(spec->model->format, (srn_str){r.text.data, r.text.len});
    srn_rendered_done(&r);
    return code;
}

int srn__job_build_prompt(const srn__job_spec *spec, srn_buf *text, srn_tokens *ids, bool *ret_in_reasoning,
                          const char **ret_param, srn_err *err) {
    const srn_vocab *v = spec->model->vocab;
    int code = SRN_OK;
    if (ret_in_reasoning) *ret_in_reasoning = false;
    *ret_param = spec->messages ? "messages" : "prompt";
    if (spec->messages) {
        code = chat_prompt(spec, text, ids, ret_in_reasoning, err);
    } else if (spec->tokens) {
        for (uint32_t i = 0; ids && i < spec->n_tokens; i++)
            if (!srn_tokens_push(ids, spec->tokens[i])) return srn_fail_nomem(err, spec->n_tokens * 4u);
    } else if (ids) {
        srn_span span = {spec->text, spec->parse_special};
        code = srn_tokenize(v, &span, span.text.len > 0, 0, ids, err);
    }
    if (code || !ids) return code;
    if (!spec->tokens) drop_eos(v, ids);
    if (ids->n == 0) return srn_fail(err, SRN_EINVAL, "the prompt is empty; give it at least one token");
    *ret_param = NULL;
    return SRN_OK;
}

int srn__job_prompt(const srn__job_spec *spec, srn_buf *text, srn_tokens *ids, srn_err *err) {
    const char *param;
    return srn__job_build_prompt(spec, text, ids, NULL, &param, err);
}

/* ---- the constraint ---- */

static srn_node content_node(const srn__job_spec *spec, srn_grammar *g, srn_err *err) {
    if (spec->schema) return srn_g_schema(g, spec->schema, err);
    if (spec->json_object) return srn_g_json(g, true);
    if (spec->regex.ptr) return srn_g_regex(g, spec->regex, err);
    return srn_g_gbnf(g, spec->gbnf, err);
}

int srn__job_constraint(const srn__job_spec *spec, srn_reply_opts *reply, srn_constraint **ret,
                        const char **ret_param, srn_err *err) {
    bool calls = reply->parse_tools && reply->choice != SRN_TOOLS_NONE && json_array_size(reply->tools) > 0;
    bool content = spec->schema || spec->json_object || spec->regex.ptr || spec->gbnf.ptr;
    *ret = NULL;
    reply->parse_tools = calls;
    if (!calls && !content) return SRN_OK;
    srn_grammar *g = NULL;
    srn_node node = SRN_NODE_NONE;
    int code = srn_grammar_new(MAX_GRAMMAR_NODES, &g, err);
    *err = (srn_err){0};
    if (!code && content) {
        *ret_param = spec->constraint_param;
        node = content_node(spec, g, err);
        if (node == SRN_NODE_NONE) code = err->code ? err->code : SRN_ELIMIT;
    }
    if (!code && (calls || reply->parse_reasoning)) {
        if (calls) *ret_param = "tools";
        node = srn_reply_grammar(spec->model->format, reply, g, node, err);
        if (node == SRN_NODE_NONE) code = err->code ? err->code : SRN_ELIMIT;
    }
    if (!code) code = srn_constraint_new(g, node, ret, err);
    if (code && !err->code) srn_fail(err, code, "the grammar of the answer is too large");
    srn_grammar_free(g);
    if (!code) {
        reply->guarded = calls;
        *ret_param = NULL;
    }
    return code;
}

/* ---- identity ---- */

static void add_json(srn_buf *b, const json_t *j) {
    char *dump = j ? json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY) : NULL;
    if (dump) srn_buf_add(b, dump, strlen(dump) + 1);
    free(dump);
}

int srn__job_prompt_hash(const srn_ledger_keys *keys, const srn__job_spec *spec,
                         char ret[SRN_KEYED_HASH_CHARS + 1], srn_err *err) {
    srn_buf fixed;
    srn_buf_init(&fixed, MAX_PROMPT_TEXT);
    srn_str source = {"", 0};
    const json_t *tools = shown_tools(spec);
    const srn_weights *w = srn_engine_weights(spec->model->engine);
    bool own =
        json_array_size(tools) > 0 && !srn_meta_str(w, "tokenizer.chat_template.tool_use", &source, NULL);
    if (spec->messages && !own) srn_meta_str(w, "tokenizer.chat_template", &source, NULL);
    srn_buf_add(&fixed, source.ptr, source.len);
    srn_buf_add(&fixed, "", 1);
    for (size_t i = 0; i < json_array_size(spec->messages); i++) {
        const json_t *m = json_array_get(spec->messages, i);
        const char *role = json_string_value(json_object_get(m, "role"));
        if (role && (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0))
            add_json(&fixed, json_object_get(m, "content"));
    }
    add_json(&fixed, tools);
    add_json(&fixed, spec->schema);
    int code = fixed.failed ? srn_fail_nomem(err, fixed.len) : SRN_OK;
    if (!code) srn_keyed_hash(keys, "prompt", (srn_str){fixed.data, fixed.len}, ret);
    srn_buf_done(&fixed);
    return code;
}

int srn__job_headers(srn__call *c, const srn__job_spec *spec, srn_err *err) {
    char hex[SRN_KEYED_HASH_CHARS + 1], seed[24];
    int code = srn__job_prompt_hash(srn__recorder_keys(srn__call_recorder(c)), spec, hex, err);
    if (code) return code;
    srn__record_prompt(c, hex);
    srn__otel_prompt(c, hex);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)spec->sampling.seed);
    srn__call_set_header(c, "x-serin-model", spec->model->ids.weights);
    char named[SRN_PROMPT_NAME_MAX + 16];
    if (spec->prompt) snprintf(named, sizeof named, "%s@%u", spec->prompt->name, spec->prompt->version);
    srn__call_set_header(c, "x-serin-prompt", spec->prompt ? named : hex);
    srn__call_set_header(c, "x-serin-seed", seed);
    srn__call_set_header(c, "x-serin-engine", spec->model->ids.engine);
    srn__job_arm_header(c);
    return SRN_OK;
}

void srn__job_arm_header(srn__call *c) {
    const srn__assigned *a = srn__assigned_of(c);
    char arm[SRN_ROLLOUT_NAME_MAX + 64], from[160];
    if (srn__fallback_text(c, from, sizeof from)) srn__call_set_header(c, "x-serin-fallback", from);
    if (!a || !a->of) return;
    snprintf(arm, sizeof arm, "%s; rollout=%s; why=%s", srn_arm_name(a->arm), a->of->declared->name,
             srn_why_name(a->why));
    srn__call_set_header(c, "x-serin-arm", arm);
}

/* ---- what the scheduler is asked for ---- */

/* Whether a control token of the vocabulary is one of the marks that are looked for. */
static bool marks_are_control(const srn__served *v, const srn_reply_opts *o) {
    const char *mark;
    for (size_t i = 0; (mark = srn_reply_mark(v->format, o->parse_tools, o->parse_reasoning, i)) != NULL;
         i++) {
        int32_t id = srn_vocab_find(v->vocab, srn_str_of(mark));
        if (id >= 0 && srn_vocab_attr(v->vocab, id) == SRN_TOKEN_CONTROL) return true;
    }
    return false;
}

srn_request_opts srn__job_request_opts(const srn__job_spec *spec, const srn_tokens *prompt,
                                       const srn_reply_opts *reply, srn_constraint *constraint) {
    return (srn_request_opts){
        .kind = SRN_REQUEST_GENERATE,
        .prompt = prompt->ids,
        .n_prompt = (uint32_t)prompt->n,
        .sampling = spec->sampling,
        .max_tokens = spec->max_tokens,
        .min_tokens = spec->min_tokens,
        .ignore_eog = spec->ignore_eog,
        .stops = spec->stops,
        .n_stops = spec->n_stops,
        .keep_stop = spec->keep_stop,
        .stop_tokens = spec->stop_tokens,
        .n_stop_tokens = spec->n_stop_tokens,
        .show_special = spec->show_special || marks_are_control(spec->model, reply),
        .logprobs = spec->logprobs,
        .n_top = spec->n_top,
        .prompt_logprobs = spec->prompt_logprobs,
        .constraint = constraint,
        .trie = spec->model->trie,
        .no_cache = spec->no_cache,
        .cache_salt = spec->cache_salt,
    };
}
