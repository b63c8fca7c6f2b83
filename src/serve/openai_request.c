/* The OpenAI API: the body of a chat or completion becomes a checked request. Knows OpenAI's fields and those
 * that clients of llama-server and vLLM send; what is unknown and harmless is ignored, what would change the
 * answer's meaning is refused by name (openai_fields.c). All caps are checked here, before any work. Pure but
 * for a random seed where the client gives none; worker threads and fuzzers.
 */
#include <stdlib.h>

#include "serve/openai_internal.h"

enum {
    MAX_STOP_BYTES = 1024,
    MAX_STOP_TOKENS = 64,
    MAX_BIASES = 4096,
    MAX_PROMPTS = 256,
    MAX_BREAKERS = 16,
    NOT_GIVEN = INT32_MIN,
    COMPLETION_TOKENS = 16 /* where a completion does not say how many */
};

typedef struct reader {
    const json_t *body;
    const srn_config_limits *limits;
    srn__openai_request *r;
    const char **ret_param;
    srn_err *err;
} reader;

static int refuse(reader *x, int code, const char *param, const char *fmt, ...) SRN_PRINTF(4, 5);
static int refuse(reader *x, int code, const char *param, const char *fmt, ...) {
    *x->ret_param = param;
    va_list ap;
    va_start(ap, fmt);
    srn_vfail(x->err, code, fmt, ap);
    va_end(ap);
    return code;
}

static const json_t *given(reader *x, const char *name) {
    const json_t *j = json_object_get(x->body, name);
    return json_is_null(j) ? NULL : j;
}

/* ---- numbers and switches ---- */

#define AT(member) offsetof(srn__openai_request, member)
#define F32(name, m, lo, hi)                                                                                 \
    { name, SRN__FIELD_F32, AT(m), lo, hi, false }
#define ABOVE(name, m, lo, hi)                                                                               \
    { name, SRN__FIELD_F32, AT(m), lo, hi, true }
#define I32(name, m, lo, hi)                                                                                 \
    { name, SRN__FIELD_I32, AT(m), lo, hi, false }
#define U32(name, m, lo, hi)                                                                                 \
    { name, SRN__FIELD_U32, AT(m), lo, hi, false }
#define BOOL(name, m)                                                                                        \
    { name, SRN__FIELD_BOOL, AT(m), 0, 0, false }

static const srn__field fields[] = {
    F32("temperature", spec.sampling.temperature, 0, 2),
    F32("top_p", spec.sampling.top_p, 0, 1),
    F32("min_p", spec.sampling.min_p, 0, 1),
    ABOVE("typical_p", spec.sampling.typical_p, 0, 1),
    I32("top_k", spec.sampling.top_k, -1, INT32_MAX),
    F32("presence_penalty", spec.sampling.presence_penalty, -2, 2),
    F32("frequency_penalty", spec.sampling.frequency_penalty, -2, 2),
    ABOVE("repeat_penalty", spec.sampling.repeat_penalty, 0, 100),
    ABOVE("repetition_penalty", repetition_penalty, 0, 100),
    I32("repeat_last_n", spec.sampling.repeat_last_n, -1, INT32_MAX),
    F32("dry_multiplier", spec.sampling.dry_multiplier, 0, 100),
    F32("dry_base", spec.sampling.dry_base, 1, 100),
    I32("dry_allowed_length", spec.sampling.dry_allowed_length, 0, INT32_MAX),
    I32("dry_penalty_last_n", spec.sampling.dry_last_n, -1, INT32_MAX),
    U32("min_tokens", spec.min_tokens, 0, INT32_MAX),
    I32("n_predict", n_predict, -1, INT32_MAX),
    I32("priority", spec.priority, -1000000, 1000000),
    BOOL("ignore_eos", spec.ignore_eog),
    BOOL("include_stop_str_in_output", spec.keep_stop),
    BOOL("stream", stream),
    BOOL("cache_prompt", cache_prompt),
    BOOL("skip_special_tokens", skip_special),
    BOOL("return_token_ids", token_ids),
};
static const srn__field chat_fields[] = {
    I32("max_tokens", max_tokens, -1, INT32_MAX),
    I32("max_completion_tokens", max_completion_tokens, -1, INT32_MAX),
    BOOL("logprobs", logprobs),
    BOOL("add_generation_prompt", generation_prompt),
    BOOL("continue_final_message", spec.continue_last),
    BOOL("include_reasoning", include_reasoning),
};
static const srn__field completion_fields[] = {
    I32("max_tokens", max_tokens, -1, INT32_MAX),
    BOOL("echo", echo),
    BOOL("parse_special", spec.parse_special),
};

static int read_numbers(reader *x) {
    srn__openai_request *r = x->r;
    const srn__field n = U32("n", spec.n, 1, x->limits->choices);
    const srn__field best_of = U32("best_of", best_of, 1, x->limits->choices);
    int code = srn__fields_read(x->body, fields, SRN_LEN(fields), r, x->ret_param, x->err);
    if (!code)
        code = r->chat ? srn__fields_read(x->body, chat_fields, SRN_LEN(chat_fields), r, x->ret_param, x->err)
                       : srn__fields_read(x->body, completion_fields, SRN_LEN(completion_fields), r,
                                          x->ret_param, x->err);
    if (!code) code = srn__fields_read(x->body, &n, 1, r, x->ret_param, x->err);
    if (!code) code = srn__fields_read(x->body, &best_of, 1, r, x->ret_param, x->err);
    if (code) return code;
    if (r->best_of && r->best_of != r->spec.n)
        return refuse(x, SRN_EUNSUP, "best_of",
                      "'best_of' other than 'n' is not supported; ask for more choices with 'n'");
    srn_sampling *s = &r->spec.sampling;
    if (s->top_k == -1) s->top_k = 0;
    if (s->top_p == 0) s->top_k = 1, s->top_p = 1; /* nothing but the most likely token */
    if (r->repetition_penalty >= 0) {
        s->repeat_penalty = r->repetition_penalty;
        if (!given(x, "repeat_last_n")) s->repeat_last_n = -1; /* as vLLM: over everything */
    }
    r->spec.no_cache = !r->cache_prompt;
    r->spec.show_special = !r->skip_special;
    r->spec.no_generation_prompt = !r->generation_prompt;
    r->spec.reply.parse_reasoning = r->chat;
    return SRN_OK;
}

/* -1, which llama-server's clients send, is no limit. */
static int read_max_tokens(reader *x) {
    srn__openai_request *r = x->r;
    if (r->chat && (r->max_tokens == 0 || r->max_completion_tokens == 0))
        return refuse(x, SRN_EINVAL, r->max_tokens == 0 ? "max_tokens" : "max_completion_tokens",
                      "'%s' is 0; it must be at least 1 (or -1: no limit)",
                      r->max_tokens == 0 ? "max_tokens" : "max_completion_tokens");
    int32_t max = r->max_completion_tokens != NOT_GIVEN ? r->max_completion_tokens
                  : r->max_tokens != NOT_GIVEN          ? r->max_tokens
                  : r->n_predict != NOT_GIVEN           ? r->n_predict
                  : r->chat                             ? -1
                                                        : COMPLETION_TOKENS;
    r->no_output = max == 0;
    r->spec.max_tokens = max < 0 ? 0 : max == 0 ? 1 : (uint32_t)max;
    if (r->spec.max_tokens && r->spec.min_tokens > r->spec.max_tokens)
        return refuse(x, SRN_EINVAL, "min_tokens", "'min_tokens' is %u, more than the %u that may come",
                      r->spec.min_tokens, r->spec.max_tokens);
    return SRN_OK;
}

/* -1, which llama-server's clients send, is the same as none: a random one, small enough for every JSON
 * reader. */
static int read_seed(reader *x) {
    const json_t *seed = given(x, "seed");
    if (seed && !json_is_integer(seed))
        return refuse(x, SRN_EINVAL, "seed", "'seed' must be an integer, it is %s",
                      srn__json_type_name(seed));
    json_int_t v = seed ? json_integer_value(seed) : -1;
    x->r->spec.sampling.seed = v == -1 ? srn_hash_seed() >> 11 : (uint64_t)v;
    return SRN_OK;
}

static int read_stream_options(reader *x) {
    const json_t *o = NULL;
    const srn__field usage = BOOL("include_usage", include_usage);
    int code = srn__field_object(x->body, "stream_options", &o, x->ret_param, x->err);
    if (code || !o) return code;
    if (!x->r->stream)
        return refuse(x, SRN_EINVAL, "stream_options", "'stream_options' is for requests with stream true");
    return srn__fields_read(o, &usage, 1, x->r, x->ret_param, x->err);
}

/* ---- what ends an answer ---- */

static int add_stop(reader *x, const json_t *j, srn_str *stops) {
    if (!json_is_string(j))
        return refuse(x, SRN_EINVAL, "stop", "'stop' must be a string or an array of strings; it holds %s",
                      srn__json_type_name(j));
    srn_str s = {json_string_value(j), json_string_length(j)};
    if (s.len > MAX_STOP_BYTES)
        return refuse(x, SRN_ELIMIT, "stop", "a stop text has %zu bytes; at most %d are allowed", s.len,
                      MAX_STOP_BYTES);
    if (s.len) stops[x->r->spec.n_stops++] = s; /* an empty one never comes */
    return SRN_OK;
}

static int read_stops(reader *x) {
    const json_t *stop = given(x, "stop");
    if (!stop) return SRN_OK;
    size_t n = json_is_array(stop) ? json_array_size(stop) : 1;
    if (n > x->limits->stops)
        return refuse(x, SRN_ELIMIT, "stop", "there are %zu stop texts; at most %u are allowed", n,
                      x->limits->stops);
    srn_str *stops = srn_arena_alloc(&x->r->arena, (n + 1) * sizeof *stops);
    if (!stops) return srn_fail_nomem(x->err, n * sizeof *stops);
    x->r->spec.stops = stops;
    int code = SRN_OK;
    for (size_t i = 0; !code && i < n; i++)
        code = add_stop(x, json_is_array(stop) ? json_array_get(stop, i) : stop, stops);
    return code;
}

/* An array of token ids into the arena. */
static int read_ids(reader *x, const char *param, const json_t *list, size_t most, int32_t **ret) {
    size_t n = json_array_size(list);
    if (n > most)
        return refuse(x, SRN_ELIMIT, param, "'%s' has %zu token ids; at most %zu are allowed", param, n,
                      most);
    int32_t *ids = srn_arena_alloc(&x->r->arena, (n + 1) * sizeof *ids);
    if (!ids) return srn_fail_nomem(x->err, n * sizeof *ids);
    for (size_t i = 0; i < n; i++) {
        const json_t *j = json_array_get(list, i);
        json_int_t v = json_integer_value(j);
        if (!json_is_integer(j) || v < 0 || v > INT32_MAX)
            return refuse(x, SRN_EINVAL, param, "'%s'[%zu] must be a token id, it is %s", param, i,
                          json_is_integer(j) ? "out of range" : srn__json_type_name(j));
        ids[i] = (int32_t)v;
    }
    *ret = ids;
    return SRN_OK;
}

static int read_stop_tokens(reader *x) {
    const json_t *list = NULL;
    int32_t *ids;
    int code = srn__field_array(x->body, "stop_token_ids", &list, x->ret_param, x->err);
    if (code || !list) return code;
    code = read_ids(x, "stop_token_ids", list, MAX_STOP_TOKENS, &ids);
    if (code) return code;
    x->r->spec.stop_tokens = ids;
    x->r->spec.n_stop_tokens = (uint32_t)json_array_size(list);
    return SRN_OK;
}

/* ---- logit bias ---- */

static int by_id(const void *a, const void *b) {
    const srn_logit_bias *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static int read_bias(reader *x) {
    const json_t *o = NULL;
    int code = srn__field_object(x->body, "logit_bias", &o, x->ret_param, x->err);
    size_t n = json_object_size(o), i = 0;
    if (code || n == 0) return code;
    if (n > MAX_BIASES)
        return refuse(x, SRN_ELIMIT, "logit_bias", "'logit_bias' has %zu tokens; at most %d are allowed", n,
                      MAX_BIASES);
    srn_logit_bias *list = srn_arena_alloc(&x->r->arena, n * sizeof *list);
    if (!list) return srn_fail_nomem(x->err, n * sizeof *list);
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)o, key, v) {
        char *end = NULL;
        long id = strtol(key, &end, 10);
        double bias = json_number_value(v);
        if (*key < '0' || *key > '9' || *end || id > INT32_MAX)
            return refuse(x, SRN_EINVAL, "logit_bias", "'logit_bias' names '%s', which is no token id", key);
        if (!json_is_number(v) || !(bias >= -100 && bias <= 100))
            return refuse(x, SRN_EINVAL, "logit_bias",
                          "'logit_bias' of token %ld must be a number from -100 to 100", id);
        list[i++] = (srn_logit_bias){(int32_t)id, (float)bias};
    }
    qsort(list, n, sizeof *list, by_id);
    for (i = 1; i < n; i++)
        if (list[i].id == list[i - 1].id)
            return refuse(x, SRN_EINVAL, "logit_bias", "'logit_bias' names token %d twice", list[i].id);
    x->r->spec.sampling.logit_bias = list;
    x->r->spec.sampling.n_logit_bias = (uint32_t)n;
    return SRN_OK;
}

static int read_breakers(reader *x) {
    const json_t *list = NULL;
    int code = srn__field_array(x->body, "dry_sequence_breakers", &list, x->ret_param, x->err);
    if (code || !list) return code;
    if (json_array_size(list) > MAX_BREAKERS)
        return refuse(x, SRN_ELIMIT, "dry_sequence_breakers",
                      "there are %zu breakers; at most %d are allowed", json_array_size(list), MAX_BREAKERS);
    for (size_t i = 0; i < json_array_size(list); i++) {
        size_t n = json_string_length(json_array_get(list, i));
        if (!json_is_string(json_array_get(list, i)) || n == 0 || n > MAX_STOP_BYTES)
            return refuse(x, SRN_EINVAL, "dry_sequence_breakers",
                          "'dry_sequence_breakers'[%zu] must be a text of 1 to %d bytes", i, MAX_STOP_BYTES);
    }
    x->r->dry_breakers = list;
    return SRN_OK;
}

/* ---- log-probabilities ---- */

static int read_logprobs(reader *x) {
    srn__openai_request *r = x->r;
    const char *name = r->chat ? "top_logprobs" : "logprobs";
    const srn__field top = U32(name, n_top, 0, x->limits->logprobs);
    const srn__field prompt = U32("prompt_logprobs", n_prompt_top, 0, x->limits->logprobs);
    int code = srn__fields_read(x->body, &top, 1, r, x->ret_param, x->err);
    if (!code) code = srn__fields_read(x->body, &prompt, 1, r, x->ret_param, x->err);
    if (code) return code;
    if (!r->chat)
        r->logprobs = given(x, "logprobs") != NULL;
    else if (given(x, "top_logprobs") && !r->logprobs)
        return refuse(x, SRN_EINVAL, "top_logprobs", "'top_logprobs' needs 'logprobs' to be true");
    r->prompt_logprobs = given(x, "prompt_logprobs") != NULL;
    if (r->prompt_logprobs && r->stream)
        return refuse(x, SRN_EINVAL, "prompt_logprobs",
                      "'prompt_logprobs' are not streamed; set stream false");
    if (r->echo && r->logprobs && r->stream)
        return refuse(x, SRN_EINVAL, "echo",
                      "the prompt's 'logprobs' are not streamed; set stream or echo false");
    bool of_prompt = r->prompt_logprobs || (r->echo && r->logprobs);
    r->spec.logprobs = r->logprobs;
    r->spec.prompt_logprobs = of_prompt;
    r->spec.n_top = SRN_MAX(r->logprobs ? r->n_top : 0, r->prompt_logprobs ? r->n_prompt_top : 0);
    return SRN_OK;
}

/* ---- the prompt of a chat ---- */

static int check_message(reader *x, const json_t *m, size_t i) {
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    const char *role = json_string_value(json_object_get(m, "role"));
    bool known = false;
    for (size_t k = 0; k < SRN_LEN(roles); k++) known = known || strcmp(role, roles[k]) == 0;
    if (!known)
        return refuse(x, SRN_EINVAL, "messages",
                      "messages[%zu].role is '%s'; it must be system, developer, user, assistant or tool%s",
                      i, role, strcmp(role, "function") == 0 ? " (in place of function)" : "");
    static const char *const unsupported[] = {"function_call", "audio"};
    for (size_t k = 0; k < SRN_LEN(unsupported); k++) {
        const json_t *j = json_object_get(m, unsupported[k]);
        if (j && !json_is_null(j))
            return refuse(x, SRN_EUNSUP, "messages", "messages[%zu].%s is not supported", i, unsupported[k]);
    }
    const json_t *content = json_object_get(m, "content"), *calls = json_object_get(m, "tool_calls");
    for (size_t k = 0; k < json_array_size(content); k++) {
        const char *type = json_string_value(json_object_get(json_array_get(content, k), "type"));
        if (strcmp(type, "text") != 0 && strcmp(type, "refusal") != 0)
            return refuse(
                x, SRN_EUNSUP, "messages",
                "messages[%zu].content[%zu] is of type '%s'; this model reads parts of type text only", i, k,
                type);
    }
    for (size_t k = 0; k < json_array_size(calls); k++) {
        const json_t *f = json_object_get(json_array_get(calls, k), "function");
        const json_t *args = json_object_get(f, "arguments");
        if (!json_is_string(json_object_get(f, "name")) || !(json_is_string(args) || json_is_object(args)))
            return refuse(x, SRN_EINVAL, "messages",
                          "messages[%zu].tool_calls[%zu].function must have a name and arguments", i, k);
    }
    return SRN_OK;
}

/* Those of a registered prompt were checked when it came, and stand before the request's, which may then be
 * none. */
static int read_messages(reader *x) {
    const srn__prompt_use *use = x->r->use.prompt ? &x->r->use : NULL;
    const json_t *messages = use ? given(x, "messages") : json_object_get(x->body, "messages");
    *x->ret_param = "messages";
    int code = use && !messages ? SRN_OK : srn_messages_check(messages, NULL, x->err);
    size_t n = json_array_size(messages);
    if (code) return code;
    if (n == 0 && !use) return refuse(x, SRN_EINVAL, "messages", "'messages' is empty");
    if (n > x->limits->messages)
        return refuse(x, SRN_ELIMIT, "messages", "there are %zu messages; at most %u are allowed", n,
                      x->limits->messages);
    for (size_t i = 0; !code && i < n; i++) code = check_message(x, json_array_get(messages, i), i);
    if (!code && use && !(messages = srn__openai_keep(x->r, srn__prompt_messages(use, messages))))
        code = srn_fail_nomem(x->err, 0);
    x->r->spec.messages = messages;
    return code;
}

/* Variables of the template; none may stand in for what the request itself or the model gives. */
static int read_template_vars(reader *x) {
    static const char *const taken[] = {"messages",  "tools",     "add_generation_prompt",
                                        "bos_token", "eos_token", "continue_final_message"};
    const json_t *vars = NULL;
    const char *effort = NULL;
    int code = srn__field_object(x->body, "chat_template_kwargs", &vars, x->ret_param, x->err);
    if (!code) code = srn__field_string(x->body, "reasoning_effort", &effort, x->ret_param, x->err);
    for (size_t i = 0; !code && i < SRN_LEN(taken); i++)
        if (json_object_get(vars, taken[i]))
            return refuse(x, SRN_EINVAL, "chat_template_kwargs", "'chat_template_kwargs' must not hold '%s'",
                          taken[i]);
    if (code) return code;
    if (effort && !json_object_get(vars, "reasoning_effort")) {
        json_t *more = vars ? json_copy((json_t *)(uintptr_t)vars) : json_object();
        if (!srn__openai_keep(x->r, more) ||
            json_object_set_new(more, "reasoning_effort", json_string(effort)))
            return srn_fail_nomem(x->err, strlen(effort));
        vars = more;
    }
    x->r->spec.template_vars = vars;
    return SRN_OK;
}

static int read_chat(reader *x) {
    int code = read_messages(x);
    if (!code) code = read_template_vars(x);
    if (!code) code = srn__openai_parse_tools(x->body, x->limits, x->r, x->ret_param, x->err);
    if (!code && x->r->spec.continue_last && json_is_true(given(x, "add_generation_prompt")))
        code = refuse(x, SRN_EINVAL, "add_generation_prompt",
                      "'continue_final_message' and 'add_generation_prompt' exclude each other");
    return code;
}

/* ---- the prompts of completions ---- */

static int read_prompt(reader *x, const json_t *j, srn__openai_prompt *ret) {
    if (json_is_string(j)) {
        ret->text = (srn_str){json_string_value(j), json_string_length(j)};
        return SRN_OK;
    }
    if (!json_is_array(j) || json_array_size(j) == 0)
        return refuse(x, SRN_EINVAL, "prompt", "'prompt' must hold texts or arrays of token ids");
    int32_t *ids;
    int code = read_ids(x, "prompt", j, INT32_MAX, &ids);
    if (code) return code;
    ret->tokens = ids;
    ret->n_tokens = (uint32_t)json_array_size(j);
    return SRN_OK;
}

static int read_prompts(reader *x) {
    const json_t *prompt = given(x, "prompt"), *first = json_array_get(prompt, 0);
    if (!prompt || !(json_is_string(prompt) || json_is_array(prompt)))
        return refuse(x, SRN_EINVAL, "prompt", "'prompt' must be a string or an array, it is %s",
                      srn__json_type_name(prompt));
    if (json_is_array(prompt) && !first) return refuse(x, SRN_EINVAL, "prompt", "'prompt' is an empty array");
    bool several = json_is_array(prompt) && !json_is_integer(first);
    size_t n = several ? json_array_size(prompt) : 1;
    if (n > MAX_PROMPTS)
        return refuse(x, SRN_ELIMIT, "prompt", "there are %zu prompts; at most %d are allowed", n,
                      MAX_PROMPTS);
    x->r->prompts = srn_arena_alloc(&x->r->arena, n * sizeof *x->r->prompts);
    if (!x->r->prompts) return srn_fail_nomem(x->err, n * sizeof *x->r->prompts);
    x->r->n_prompts = (uint32_t)n;
    int code = SRN_OK;
    for (size_t i = 0; !code && i < n; i++)
        code = read_prompt(x, several ? json_array_get(prompt, i) : prompt, &x->r->prompts[i]);
    return code;
}

/* ---- all of it ---- */

static int read_salt(reader *x) {
    const char *salt = NULL;
    int code = srn__field_string(x->body, "cache_salt", &salt, x->ret_param, x->err);
    if (code || !salt) return code;
    if (!*salt) return refuse(x, SRN_EINVAL, "cache_salt", "'cache_salt' is empty");
    x->r->spec.cache_salt = srn_hash(0x73616c74, srn_str_of(salt)) | 1;
    return SRN_OK;
}

static void defaults(srn__openai_request *r, bool chat) {
    *r = (srn__openai_request){.chat = chat,
                               .cache_prompt = true,
                               .skip_special = true,
                               .generation_prompt = true,
                               .include_reasoning = true,
                               .max_tokens = NOT_GIVEN,
                               .max_completion_tokens = NOT_GIVEN,
                               .n_predict = NOT_GIVEN,
                               .repetition_penalty = -1};
    r->spec.n = 1;
    r->spec.parse_special = true;
    r->spec.sampling = srn_sampling_default();
    r->spec.sampling.temperature = 1;
    r->spec.sampling.top_p = 1;
    r->spec.sampling.top_k = 0;
    r->spec.sampling.min_p = 0;
    srn_arena_init(&r->arena, 0);
}

/* ret has its defaults. */
static int parse(json_t *body, bool chat, const srn_config_limits *limits, srn__openai_request *ret,
                 const char **ret_param, srn_err *err) {
    reader x = {body, limits, ret, ret_param, err};
    *ret_param = NULL;
    int code = srn__field_string(body, "model", &ret->model, ret_param, err);
    if (!code) code = srn__fields_refused(body, chat, ret_param, err);
    if (!code) code = read_numbers(&x);
    if (!code) code = read_max_tokens(&x);
    if (!code) code = read_seed(&x);
    if (!code) code = read_stream_options(&x);
    if (!code) code = read_stops(&x);
    if (!code) code = read_stop_tokens(&x);
    if (!code) code = read_bias(&x);
    if (!code) code = read_breakers(&x);
    if (!code) code = read_logprobs(&x);
    if (!code) code = read_salt(&x);
    if (!code) code = chat ? read_chat(&x) : read_prompts(&x);
    if (!code) code = srn__openai_parse_constraint(body, limits, ret, ret_param, err);
    return code;
}

int srn__openai_parse(json_t *body, bool chat, const srn_config_limits *limits, srn__openai_request *ret,
                      const char **ret_param, srn_err *err) {
    defaults(ret, chat);
    return parse(body, chat, limits, ret, ret_param, err);
}

int srn__openai_parse_prompt(json_t *body, srn__prompt_use *use, const srn_config_limits *limits,
                             srn__openai_request *ret, const char **ret_param, srn_err *err) {
    defaults(ret, true);
    ret->use = *use;
    *use = (srn__prompt_use){0};
    ret->spec.prompt = ret->use.prompt;
    if (ret->use.prompt && !(body = srn__openai_keep(ret, srn__prompt_defaults(ret->use.prompt, body)))) {
        *ret_param = NULL;
        return srn_fail_nomem(err, 0);
    }
    return parse(body, true, limits, ret, ret_param, err);
}

void srn__openai_request_done(srn__openai_request *r) {
    srn__prompt_use_done(&r->use);
    json_decref(r->owned);
    srn_arena_done(&r->arena);
    *r = (srn__openai_request){0};
}

/* ---- with the model ---- */

static bool holds(srn_str text, srn_str word) {
    for (size_t i = 0; i + word.len <= text.len; i++)
        if (memcmp(text.ptr + i, word.ptr, word.len) == 0) return true;
    return false;
}

/* DRY's breakers: every token that holds one of the texts. */
static int bind_breakers(srn__openai_request *r, srn_err *err) {
    static const char *const usual[] = {"\n", ":", "\"", "*"};
    const srn_vocab *v = r->spec.model->vocab;
    size_t n_words = r->dry_breakers ? json_array_size(r->dry_breakers) : SRN_LEN(usual);
    int32_t n = srn_vocab_size(v);
    int32_t *ids = srn_arena_alloc(&r->arena, (size_t)n * sizeof *ids);
    if (!ids) return srn_fail_nomem(err, (size_t)n * sizeof *ids);
    uint32_t found = 0;
    srn_buf b;
    srn_buf_init(&b, 1 << 20);
    for (int32_t id = 0; id < n; id++) {
        srn_buf_clear(&b);
        srn_token_bytes(v, id, false, &b);
        bool breaks = false;
        for (size_t k = 0; b.len && k < n_words && !breaks; k++) {
            const json_t *j = json_array_get(r->dry_breakers, k);
            srn_str word = j ? (srn_str){json_string_value(j), json_string_length(j)} : srn_str_of(usual[k]);
            breaks = holds((srn_str){b.data, b.len}, word);
        }
        if (breaks) ids[found++] = id;
    }
    srn_buf_done(&b);
    r->spec.sampling.dry_breakers = ids;
    r->spec.sampling.n_dry_breakers = found;
    return SRN_OK;
}

int srn__openai_bind(srn__openai_request *r, srn__served *v, const char **ret_param, srn_err *err) {
    const srn_sampling *s = &r->spec.sampling;
    int32_t n_vocab = srn_vocab_size(v->vocab);
    r->spec.model = v;
    const srn_logit_bias *last = s->n_logit_bias ? &s->logit_bias[s->n_logit_bias - 1] : NULL;
    if (last && last->id >= n_vocab) {
        *ret_param = "logit_bias";
        return srn_fail(err, SRN_EINVAL, "'logit_bias' names token %d; the model's go up to %d", last->id,
                        n_vocab - 1);
    }
    for (uint32_t i = 0; i < r->spec.n_stop_tokens; i++)
        if (r->spec.stop_tokens[i] >= n_vocab) {
            *ret_param = "stop_token_ids";
            return srn_fail(err, SRN_EINVAL, "'stop_token_ids'[%u] is %d; the model's tokens go up to %d", i,
                            r->spec.stop_tokens[i], n_vocab - 1);
        }
    for (uint32_t p = 0; p < r->n_prompts; p++)
        for (uint32_t i = 0; i < r->prompts[p].n_tokens; i++)
            if (r->prompts[p].tokens[i] >= n_vocab) {
                *ret_param = "prompt";
                return srn_fail(err, SRN_EINVAL, "'prompt' holds token %d; the model's go up to %d",
                                r->prompts[p].tokens[i], n_vocab - 1);
            }
    return s->dry_multiplier > 0 ? bind_breakers(r, err) : SRN_OK;
}
