/* The Anthropic Messages API, the way in: content blocks become chat messages, tools and choices what a job
 * knows. Pure; any thread. Refuses what it would have to leave out: images and documents, tools that a server
 * runs, containers; unknown fields that cannot change an answer are ignored.
 */
#include <stdlib.h>

#include "serve/anthropic.h"
#include "serve/openai_internal.h"

typedef struct reader {
    srn__anthropic *a;
    const srn_config_limits *limits;
} reader;

#define wrong(r, ...) srn__field_wrong(&(r)->a->fields, __VA_ARGS__)

static int no_memory(const reader *r) {
    return srn_fail_nomem(r->a->fields.err, 0);
}

/* ---- content blocks ---- */

/* A text, or an array of text blocks, as chat content (a new reference). */
static int text_content(const reader *r, const json_t *v, const char *param, json_t **ret) {
    static const srn__text_part kinds[] = {{"text", "text"}};
    return srn__field_text(&r->a->fields, v, param, "block", kinds, SRN_LEN(kinds), ret);
}

static int append(const reader *r, json_t *message) {
    if (message && json_array_append_new(r->a->messages, message) == 0) return SRN_OK;
    return no_memory(r);
}

static int add_tool_result(const reader *r, const json_t *block, const char *param) {
    const json_t *id = json_object_get(block, "tool_use_id"), *content = json_object_get(block, "content");
    json_t *text = NULL;
    if (!json_string_length(id)) return wrong(r, SRN_EINVAL, param, "a tool_result needs its tool_use_id");
    int code = content                    ? text_content(r, content, param, &text)
               : (text = json_string("")) ? SRN_OK
                                          : no_memory(r);
    if (code) return code;
    return append(r, json_pack("{s:s, s:O, s:o}", "role", "tool", "tool_call_id", id, "content", text));
}

/* A user's blocks: results of tools become messages of their own, before the text. */
static int add_user(const reader *r, const json_t *blocks, const char *param) {
    json_t *rest = json_array(), *block;
    size_t i;
    int code = rest ? SRN_OK : no_memory(r);
    json_array_foreach(blocks, i, block) {
        const char *type = json_string_value(json_object_get(block, "type"));
        if (code) break;
        if (type && strcmp(type, "tool_result") == 0)
            code = add_tool_result(r, block, param);
        else if (json_array_append(rest, block))
            code = no_memory(r);
    }
    json_t *content = NULL;
    if (!code && (json_array_size(rest) || !json_array_size(blocks)))
        code = text_content(r, rest, param, &content);
    json_decref(rest);
    if (code || !content) return code;
    return append(r, json_pack("{s:s, s:o}", "role", "user", "content", content));
}

static int add_call(const reader *r, const json_t *block, json_t *calls, const char *param) {
    const json_t *id = json_object_get(block, "id"), *name = json_object_get(block, "name"),
                 *input = json_object_get(block, "input");
    if (!json_string_length(id) || !json_string_length(name) || !json_is_object(input))
        return wrong(r, SRN_EINVAL, param, "a tool_use needs id, name and an object as input");
    char *text = json_dumps(input, JSON_COMPACT);
    json_t *call = text ? json_pack("{s:O, s:s, s:{s:O, s:s}}", "id", id, "type", "function", "function",
                                    "name", name, "arguments", text)
                        : NULL;
    free(text);
    return call && json_array_append_new(calls, call) == 0 ? SRN_OK : no_memory(r);
}

/* One block of an assistant's message into its text, calls and reasoning. */
static int add_assistant_block(const reader *r, const json_t *block, json_t *texts, json_t *calls,
                               srn_buf *reasoning, const char *param) {
    const char *type = json_string_value(json_object_get(block, "type"));
    if (!type) return wrong(r, SRN_EINVAL, param, "a content block has no type");
    if (strcmp(type, "tool_use") == 0) return add_call(r, block, calls, param);
    if (strcmp(type, "redacted_thinking") == 0) return SRN_OK;
    if (strcmp(type, "thinking") == 0) {
        const json_t *t = json_object_get(block, "thinking");
        if (!json_is_string(t)) return wrong(r, SRN_EINVAL, param, "a thinking block needs its text");
        return srn_buf_add(reasoning, json_string_value(t), json_string_length(t)) ? SRN_OK : no_memory(r);
    }
    return json_array_append(texts, (json_t *)block) ? no_memory(r) : SRN_OK;
}

static int add_assistant(const reader *r, const json_t *blocks, const char *param) {
    json_t *texts = json_array(), *calls = json_array(), *block, *content = NULL, *message = NULL;
    srn_buf reasoning;
    size_t i;
    srn_buf_init(&reasoning, r->limits->body_bytes);
    int code = texts && calls ? SRN_OK : no_memory(r);
    json_array_foreach(blocks, i, block) if (!code) code =
        add_assistant_block(r, block, texts, calls, &reasoning, param);
    if (!code) code = text_content(r, texts, param, &content);
    if (!code && json_array_size(texts) == 0 && json_array_size(calls)) {
        json_decref(content);
        content = json_null();
    }
    if (!code) message = json_pack("{s:s, s:o}", "role", "assistant", "content", content);
    if (message && json_array_size(calls) && json_object_set(message, "tool_calls", calls))
        code = no_memory(r);
    if (message && reasoning.len &&
        json_object_set_new(message, "reasoning_content", json_stringn(reasoning.data, reasoning.len)))
        code = no_memory(r);
    json_decref(texts);
    json_decref(calls);
    srn_buf_done(&reasoning);
    if (code) {
        json_decref(message);
        return code;
    }
    return append(r, message);
}

static int add_message(const reader *r, const json_t *m, size_t i) {
    char param[64];
    snprintf(param, sizeof param, "messages.%zu.role", i);
    const char *role = json_string_value(json_object_get(m, "role"));
    const json_t *content = json_object_get(m, "content");
    bool user = role && strcmp(role, "user") == 0;
    if (!user && !(role && strcmp(role, "assistant") == 0))
        return wrong(r, SRN_EINVAL, param, "must be user or assistant%s",
                     role && strcmp(role, "system") == 0 ? "; the system text goes into the field system"
                                                         : "");
    snprintf(param, sizeof param, "messages.%zu.content", i);
    if (json_is_string(content)) return append(r, json_pack("{s:s, s:O}", "role", role, "content", content));
    if (!json_is_array(content))
        return wrong(r, SRN_EINVAL, param, "needs a text or an array of content blocks");
    return user ? add_user(r, content, param) : add_assistant(r, content, param);
}

static int read_messages(const reader *r, const json_t *body) {
    const json_t *system = json_object_get(body, "system"), *list = json_object_get(body, "messages");
    json_t *content = NULL, *m;
    size_t i;
    int code = SRN_OK;
    bool optional = r->a->use.prompt && !srn__field_given(body, "messages");
    r->a->messages = r->a->use.prompt ? srn__prompt_messages(&r->a->use, NULL) : json_array();
    if (!r->a->messages) return no_memory(r);
    if (!optional && (!json_is_array(list) || (json_array_size(list) == 0 && !r->a->use.prompt)))
        return wrong(r, SRN_EINVAL, "messages", "needs at least one message");
    if (json_array_size(list) > r->limits->messages)
        return wrong(r, SRN_ELIMIT, "messages", "%zu messages, and at most %u are allowed",
                     json_array_size(list), r->limits->messages);
    if (system && !json_is_null(system)) {
        code = text_content(r, system, "system", &content);
        if (!code) code = append(r, json_pack("{s:s, s:o}", "role", "system", "content", content));
    }
    json_array_foreach(list, i, m) if (!code) code = add_message(r, m, i);
    const char *last =
        json_string_value(json_object_get(json_array_get(list, json_array_size(list) - 1), "role"));
    r->a->spec.continue_last = last && strcmp(last, "assistant") == 0;
    return code;
}

/* ---- tools ---- */

static int add_tool(const reader *r, const json_t *tool, size_t i) {
    char param[64];
    snprintf(param, sizeof param, "tools.%zu", i);
    const char *type = json_string_value(json_object_get(tool, "type"));
    const json_t *name = json_object_get(tool, "name"), *about = json_object_get(tool, "description"),
                 *schema = json_object_get(tool, "input_schema");
    if (type && strcmp(type, "custom") != 0)
        return wrong(r, SRN_EUNSUP, param,
                     "the tool type '%.60s' is run by a provider's servers; only custom tools are "
                     "supported",
                     type);
    if (!json_string_length(name)) return wrong(r, SRN_EINVAL, param, "needs a name");
    if (!json_is_object(schema)) return wrong(r, SRN_EINVAL, param, "needs an input_schema, an object");
    json_t *f = json_pack("{s:O, s:O}", "name", name, "parameters", schema);
    if (f && json_is_string(about)) json_object_set(f, "description", (json_t *)about);
    json_t *t = f ? json_pack("{s:s, s:o}", "type", "function", "function", f) : NULL;
    return t && json_array_append_new(r->a->tools, t) == 0 ? SRN_OK : no_memory(r);
}

static int read_choice(const reader *r, const json_t *choice) {
    srn_reply_opts *o = &r->a->spec.reply;
    const char *type = json_string_value(json_object_get(choice, "type"));
    bool single = false;
    if (!choice || json_is_null(choice)) return SRN_OK;
    if (type && strcmp(type, "auto") == 0)
        o->choice = SRN_TOOLS_AUTO;
    else if (type && strcmp(type, "any") == 0)
        o->choice = SRN_TOOLS_REQUIRED;
    else if (type && strcmp(type, "none") == 0)
        o->choice = SRN_TOOLS_NONE;
    else if (type && strcmp(type, "tool") == 0) {
        o->choice = SRN_TOOLS_NAMED;
        o->tool_name = json_string_value(json_object_get(choice, "name"));
        if (!o->tool_name) return wrong(r, SRN_EINVAL, "tool_choice.name", "is missing");
    } else
        return wrong(r, SRN_EINVAL, "tool_choice.type", "must be auto, any, tool or none");
    const srn__field field = {.name = "disable_parallel_tool_use", .kind = SRN__FIELD_BOOL};
    int code = srn__field_table(&r->a->fields, choice, &field, 1, &single);
    o->parallel_calls = !single;
    return code;
}

static int check_named(const reader *r) {
    const srn_reply_opts *o = &r->a->spec.reply;
    const json_t *t;
    size_t i;
    if (o->choice != SRN_TOOLS_AUTO && o->choice != SRN_TOOLS_NONE && !json_array_size(r->a->tools))
        return wrong(r, SRN_EINVAL, "tool_choice", "asks for a tool, and there are no tools");
    if (o->choice != SRN_TOOLS_NAMED) return SRN_OK;
    json_array_foreach(r->a->tools, i, t) {
        const char *name = json_string_value(json_object_get(json_object_get(t, "function"), "name"));
        if (name && strcmp(name, o->tool_name) == 0) return SRN_OK;
    }
    return wrong(r, SRN_EINVAL, "tool_choice.name", "there is no tool '%.80s'", o->tool_name);
}

static int read_tools(const reader *r, const json_t *body) {
    const json_t *list = json_object_get(body, "tools");
    json_t *t;
    size_t i;
    int code = SRN_OK;
    if (!(r->a->tools = json_array())) return no_memory(r);
    r->a->spec.reply.parallel_calls = true;
    r->a->spec.reply.parse_reasoning = true;
    if (list && !json_is_null(list) && !json_is_array(list))
        return wrong(r, SRN_EINVAL, "tools", "needs an array");
    json_array_foreach(list, i, t) if (!code) code = add_tool(r, t, i);
    const srn_prompt *prompt = r->a->use.prompt;
    if (!code && prompt && prompt->tools && !srn__field_given(body, "tools") &&
        json_array_extend(r->a->tools, (json_t *)(uintptr_t)prompt->tools))
        code = no_memory(r);
    const char *param;
    if (!code) code = srn__openai_check_tools(r->a->tools, r->limits, &param, r->a->fields.err);
    if (code && !r->a->fields.param[0]) snprintf(r->a->fields.param, sizeof r->a->fields.param, "tools");
    if (!code) code = read_choice(r, json_object_get(body, "tool_choice"));
    if (!code) code = check_named(r);
    if (!code && json_array_size(r->a->tools)) {
        r->a->spec.reply.tools = r->a->tools;
        r->a->spec.reply.parse_tools = r->a->spec.reply.choice != SRN_TOOLS_NONE;
    }
    return code;
}

/* ---- the rest ---- */

static int read_stops(const reader *r, const json_t *body) {
    const json_t *list = json_object_get(body, "stop_sequences");
    json_t *s;
    size_t i;
    if (!srn__field_given(body, "stop_sequences"))
        list = r->a->use.prompt ? json_object_get(r->a->use.prompt->sampling, "stop") : NULL;
    r->a->stop_texts = list;
    if (!list) return SRN_OK;
    if (!json_is_array(list)) return wrong(r, SRN_EINVAL, "stop_sequences", "needs an array of texts");
    if (json_array_size(list) > r->limits->stops)
        return wrong(r, SRN_ELIMIT, "stop_sequences", "%zu texts, and at most %u are allowed",
                     json_array_size(list), r->limits->stops);
    r->a->stops = srn_calloc(json_array_size(list) + 1, sizeof *r->a->stops);
    if (!r->a->stops) return no_memory(r);
    json_array_foreach(list, i, s) {
        if (!json_string_length(s) || json_string_length(s) > 1024)
            return wrong(r, SRN_EINVAL, "stop_sequences", "text %zu must have from 1 to 1024 bytes", i);
        r->a->stops[i] = (srn_str){json_string_value(s), json_string_length(s)};
    }
    r->a->spec.stops = r->a->stops;
    r->a->spec.n_stops = (uint32_t)json_array_size(list);
    return SRN_OK;
}

/* Thinking is off unless asked for; templates know it as enable_thinking. */
static int read_thinking(const reader *r, const json_t *body) {
    static const char *const types[] = {"disabled", "enabled", "adaptive", "between_tools"};
    const json_t *v = json_object_get(body, "thinking");
    const char *type = json_string_value(json_object_get(v, "type"));
    size_t i = 0;
    if (srn__field_given(body, "thinking"))
        while (i < SRN_LEN(types) && !(type && strcmp(type, types[i]) == 0)) i++;
    if (i == SRN_LEN(types))
        return wrong(r, SRN_EINVAL, "thinking.type", "must be enabled, adaptive, between_tools or disabled");
    r->a->vars = json_pack("{s:b}", "enable_thinking", i > 0);
    r->a->spec.template_vars = r->a->vars;
    return r->a->vars ? SRN_OK : no_memory(r);
}

/* The form that a registered prompt asks for, in the words of chat completions. */
static void take_format(const reader *r, const json_t *format) {
    const char *type = json_string_value(json_object_get(format, "type"));
    srn__job_spec *spec = &r->a->spec;
    spec->json_object = type && strcmp(type, "json_object") == 0;
    spec->schema = json_object_get(json_object_get(format, "json_schema"), "schema");
    spec->constraint_param = "prompt";
}

/* The form of the answer's text: output_config.format. */
static int read_format(const reader *r, const json_t *body) {
    const json_t *format = json_object_get(json_object_get(body, "output_config"), "format");
    const char *type = json_string_value(json_object_get(format, "type"));
    const json_t *schema = json_object_get(format, "schema");
    if (!format || json_is_null(format)) {
        if (r->a->use.prompt) take_format(r, r->a->use.prompt->response_format);
        return SRN_OK;
    }
    if (!type || strcmp(type, "json_schema") != 0)
        return wrong(r, SRN_EINVAL, "output_config.format.type", "must be json_schema");
    if (!json_is_object(schema) && !json_is_boolean(schema))
        return wrong(r, SRN_EINVAL, "output_config.format.schema", "needs a JSON schema");
    if (srn__fits_schema_bytes(schema, r->limits, "output_config.format.schema", r->a->fields.err)) {
        snprintf(r->a->fields.param, sizeof r->a->fields.param, "output_config.format.schema");
        return SRN_ELIMIT;
    }
    r->a->spec.schema = schema;
    r->a->spec.constraint_param = "output_config.format.schema";
    return SRN_OK;
}

static int read_numbers(const reader *r, const json_t *body) {
#define AT(member) offsetof(srn__anthropic, member)
    static const srn__field fields[] = {
        {"temperature", SRN__FIELD_F32, AT(spec.sampling.temperature), 0, 2, false},
        {"top_p", SRN__FIELD_F32, AT(spec.sampling.top_p), 0, 1, false},
        {"top_k", SRN__FIELD_I32, AT(spec.sampling.top_k), 0, INT32_MAX, false},
        {"max_tokens", SRN__FIELD_U32, AT(spec.max_tokens), 1, INT32_MAX, false},
        {"stream", SRN__FIELD_BOOL, AT(stream), 0, 0, false},
    };
#undef AT
    srn_sampling *s = &r->a->spec.sampling;
    *s = srn_sampling_default();
    s->temperature = 1;
    s->top_p = 1;
    s->top_k = 0;
    s->min_p = 0;
    s->seed = srn_hash_seed() >> 11; /* small enough for every JSON reader */
    if (r->a->use.prompt) srn__prompt_sampling(r->a->use.prompt, &r->a->spec);
    int code = srn__field_table(&r->a->fields, body, fields, SRN_LEN(fields), r->a);
    if (s->top_p == 0) s->top_k = 1, s->top_p = 1; /* nothing but the most likely token */
    return code;
}

/* Fields that change what an answer is, and that nothing here could honour. */
static const char *const refused[] = {"container", "mcp_servers", "context_management", "output_format"};

int srn__anthropic_parse(const json_t *body, const srn_config_limits *limits, bool to_count,
                         srn__anthropic *ret, srn_err *err) {
    srn__prompt_use none = {0};
    return srn__anthropic_parse_prompt(body, &none, limits, to_count, ret, err);
}

int srn__anthropic_parse_prompt(const json_t *body, srn__prompt_use *use, const srn_config_limits *limits,
                                bool to_count, srn__anthropic *ret, srn_err *err) {
    *ret = (srn__anthropic){.spec = {.n = 1, .prompt = use->prompt}, .fields = {.err = err}, .use = *use};
    *use = (srn__prompt_use){0};
    reader r = {ret, limits};
    const json_t *model = json_object_get(body, "model");
    if (!json_string_length(model)) return wrong(&r, SRN_EINVAL, "model", "is missing");
    ret->model = json_string_value(model);
    int code = srn__field_refuse(&ret->fields, body, refused, SRN_LEN(refused));
    if (!code) code = read_messages(&r, body);
    if (!code) code = read_tools(&r, body);
    if (!code) code = read_stops(&r, body);
    if (!code) code = read_thinking(&r, body);
    if (!code) code = read_format(&r, body);
    if (!code) code = read_numbers(&r, body);
    if (!code && !to_count && !ret->spec.max_tokens) code = wrong(&r, SRN_EINVAL, "max_tokens", "is missing");
    if (!code && limits->max_tokens && ret->spec.max_tokens > limits->max_tokens)
        ret->spec.max_tokens = limits->max_tokens;
    if (!code) code = srn_messages_check(ret->messages, ret->tools, err);
    ret->spec.messages = ret->messages;
    return code;
}

void srn__anthropic_done(srn__anthropic *a) {
    json_decref(a->messages);
    json_decref(a->tools);
    json_decref(a->vars);
    free(a->stops);
    srn__prompt_use_done(&a->use);
}
