/* The Responses API, the way in (responses.h). Refuses what needs a store of earlier responses, tools that a
 * provider runs, and images, files and sound; fields that cannot change an answer are ignored. Pure; any
 * thread.
 */
#include <stdlib.h>

#include "serve/responses.h"

typedef struct reader {
    srn__fields *f;
    json_t *messages;
    srn_buf reasoning; /* of an assistant's turn, waiting for its message or call */
} reader;

#define wrong(r, ...) srn__field_wrong((r)->f, __VA_ARGS__)

static int no_memory(const reader *r) {
    return srn_fail_nomem(r->f->err, 0);
}

/* ---- items ---- */

/* A text, or an array of text parts and refusals, as chat content (a new reference). */
static int content_of(const reader *r, const json_t *v, const char *param, json_t **ret) {
    static const srn__text_part kinds[] = {
        {"input_text", "text"}, {"output_text", "text"}, {"text", "text"}, {"refusal", "refusal"}};
    return srn__field_text(r->f, v, param, "part", kinds, SRN_LEN(kinds), ret);
}

static int append(const reader *r, json_t *message) {
    return message && json_array_append_new(r->messages, message) == 0 ? SRN_OK : no_memory(r);
}

/* The reasoning that came before an assistant's message belongs to it. */
static int take_reasoning(reader *r, json_t *message) {
    if (!r->reasoning.len) return SRN_OK;
    int failed =
        json_object_set_new(message, "reasoning_content", json_stringn(r->reasoning.data, r->reasoning.len));
    srn_buf_clear(&r->reasoning);
    return failed ? no_memory(r) : SRN_OK;
}

static int add_message(reader *r, const json_t *item, const char *param) {
    static const char *const roles[] = {"user", "assistant", "system", "developer"};
    const char *role = json_string_value(json_object_get(item, "role"));
    json_t *content = NULL;
    bool known = false;
    for (size_t i = 0; role && i < SRN_LEN(roles); i++) known = known || strcmp(role, roles[i]) == 0;
    if (!known) return wrong(r, SRN_EINVAL, param, "the role must be user, assistant, system or developer");
    int code = content_of(r, json_object_get(item, "content"), param, &content);
    if (code) return code;
    json_t *m =
        json_pack("{s:s, s:o}", "role", strcmp(role, "developer") == 0 ? "system" : role, "content", content);
    code = append(r, m);
    return code || strcmp(role, "assistant") != 0 ? code : take_reasoning(r, m);
}

/* A call belongs to the assistant's message before it, or begins one. */
static int add_call(reader *r, const json_t *item, const char *param) {
    const json_t *id = json_object_get(item, "call_id"), *name = json_object_get(item, "name"),
                 *arguments = json_object_get(item, "arguments");
    if (!json_string_length(id) || !json_string_length(name) || !json_is_string(arguments))
        return wrong(r, SRN_EINVAL, param, "a function_call needs call_id, name and arguments (a text)");
    json_t *last = json_array_get(r->messages, json_array_size(r->messages) - 1);
    const char *role = json_string_value(json_object_get(last, "role"));
    int code = SRN_OK;
    if (!role || strcmp(role, "assistant") != 0) {
        last = json_pack("{s:s, s:n}", "role", "assistant", "content");
        code = append(r, last);
        if (!code) code = take_reasoning(r, last);
    }
    if (code) return code;
    json_t *calls = json_object_get(last, "tool_calls");
    if (!calls) json_object_set_new(last, "tool_calls", calls = json_array());
    json_t *call = json_pack("{s:O, s:s, s:{s:O, s:O}}", "id", id, "type", "function", "function", "name",
                             name, "arguments", arguments);
    return calls && call && json_array_append_new(calls, call) == 0 ? SRN_OK : no_memory(r);
}

static int add_result(reader *r, const json_t *item, const char *param) {
    const json_t *id = json_object_get(item, "call_id");
    json_t *content = NULL;
    if (!json_string_length(id))
        return wrong(r, SRN_EINVAL, param, "a function_call_output needs its call_id");
    int code = content_of(r, json_object_get(item, "output"), param, &content);
    if (code) return code;
    return append(r, json_pack("{s:s, s:O, s:o}", "role", "tool", "tool_call_id", id, "content", content));
}

static int add_reasoning(reader *r, const json_t *item) {
    static const char *const lists[] = {"content", "summary"};
    for (size_t k = 0; k < SRN_LEN(lists); k++) {
        const json_t *list = json_object_get(item, lists[k]);
        json_t *part;
        size_t i;
        json_array_foreach(list, i, part) {
            const json_t *text = json_object_get(part, "text");
            if (!srn_buf_add(&r->reasoning, json_string_value(text), json_string_length(text)))
                return no_memory(r);
        }
        if (json_array_size(list)) break; /* the summary only stands in for the text */
    }
    return SRN_OK;
}

static int add_item(reader *r, const json_t *item, size_t i) {
    char param[64];
    snprintf(param, sizeof param, "input.%zu", i);
    if (!json_is_object(item)) return wrong(r, SRN_EINVAL, param, "needs an object");
    const char *type = json_string_value(json_object_get(item, "type"));
    if (!type || strcmp(type, "message") == 0) return add_message(r, item, param);
    if (strcmp(type, "function_call") == 0) return add_call(r, item, param);
    if (strcmp(type, "function_call_output") == 0) return add_result(r, item, param);
    if (strcmp(type, "reasoning") == 0) return add_reasoning(r, item);
    return wrong(r, SRN_EUNSUP, param, "the item type '%.60s' is not supported", type);
}

/* With a registered prompt there may be none. */
static int read_input(reader *r, const json_t *body, bool with_prompt, const srn_config_limits *limits) {
    const json_t *instructions = json_object_get(body, "instructions"),
                 *input = json_object_get(body, "input");
    json_t *item;
    size_t i;
    int code = SRN_OK;
    if (srn__field_given(body, "instructions")) {
        if (!json_is_string(instructions)) return wrong(r, SRN_EINVAL, "instructions", "needs a text");
        code = append(r, json_pack("{s:s, s:O}", "role", "system", "content", instructions));
    }
    if (!code && with_prompt && !srn__field_given(body, "input")) return SRN_OK;
    if (!code && json_is_string(input))
        return append(r, json_pack("{s:s, s:O}", "role", "user", "content", input));
    if (!json_is_array(input) || !json_array_size(input))
        return wrong(r, SRN_EINVAL, "input", "needs a text or an array of items");
    if (json_array_size(input) > limits->messages)
        return wrong(r, SRN_ELIMIT, "input", "%zu items, and at most %u are allowed", json_array_size(input),
                     limits->messages);
    json_array_foreach(input, i, item) if (!code) code = add_item(r, item, i);
    return code;
}

/* ---- tools and formats ---- */

static int read_tools(const reader *r, const json_t *body, json_t *chat) {
    const json_t *list = json_object_get(body, "tools");
    json_t *tool, *tools;
    size_t i;
    if (!srn__field_given(body, "tools")) return SRN_OK;
    if (!json_is_array(list)) return wrong(r, SRN_EINVAL, "tools", "needs an array");
    if (!(tools = json_array()) || json_object_set_new(chat, "tools", tools)) return no_memory(r);
    json_array_foreach(list, i, tool) {
        char param[64];
        snprintf(param, sizeof param, "tools.%zu", i);
        const char *type = json_string_value(json_object_get(tool, "type"));
        if (!type || strcmp(type, "function") != 0)
            return wrong(r, SRN_EUNSUP, param,
                         "the tool type '%.60s' is run by a provider; only functions are supported",
                         type ? type : "");
        json_t *f = json_copy(tool); /* name, description, parameters, strict */
        if (f) json_object_del(f, "type");
        if (!f || json_array_append_new(tools, json_pack("{s:s, s:o}", "type", "function", "function", f)))
            return no_memory(r);
    }
    return SRN_OK;
}

static int read_choice(const reader *r, const json_t *body, json_t *chat) {
    const json_t *choice = json_object_get(body, "tool_choice"), *name = json_object_get(choice, "name");
    const char *type = json_string_value(json_object_get(choice, "type"));
    if (!srn__field_given(body, "tool_choice")) return SRN_OK;
    if (json_is_string(choice))
        return json_object_set(chat, "tool_choice", (json_t *)choice) ? no_memory(r) : SRN_OK;
    if (!type || strcmp(type, "function") != 0 || !json_string_length(name))
        return wrong(r, SRN_EINVAL, "tool_choice",
                     "needs auto, none, required or {type: function, name: ...}");
    json_t *named = json_pack("{s:s, s:{s:O}}", "type", "function", "function", "name", name);
    return named && json_object_set_new(chat, "tool_choice", named) == 0 ? SRN_OK : no_memory(r);
}

static int read_format(const reader *r, const json_t *body, json_t *chat) {
    const json_t *text = json_object_get(body, "text"), *format = json_object_get(text, "format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (srn__field_given(body, "text") && !json_is_object(text))
        return wrong(r, SRN_EINVAL, "text", "needs an object");
    if (!format || json_is_null(format)) return SRN_OK;
    if (!type) return wrong(r, SRN_EINVAL, "text.format.type", "is missing");
    if (strcmp(type, "json_schema") != 0)
        return json_object_set(chat, "response_format", (json_t *)format) ? no_memory(r) : SRN_OK;
    json_t *inner = json_copy((json_t *)format); /* name, schema, strict */
    if (inner) json_object_del(inner, "type");
    json_t *nested = inner ? json_pack("{s:s, s:o}", "type", "json_schema", "json_schema", inner) : NULL;
    return nested && json_object_set_new(chat, "response_format", nested) == 0 ? SRN_OK : no_memory(r);
}

/* Whether the field include asks for log-probabilities. */
static bool wants_logprobs(const json_t *body) {
    json_t *v;
    size_t i;
    json_array_foreach(json_object_get(body, "include"), i, v) {
        const char *s = json_string_value(v);
        if (s && strcmp(s, "message.output_text.logprobs") == 0) return true;
    }
    return srn__field_given(body, "top_logprobs");
}

/* Copies what both APIs call by the same name, or the chat API by another. */
static int copy_fields(const reader *r, const json_t *body, json_t *chat) {
    static const char *const names[][2] = {{"model", "model"},
                                           {"stream", "stream"},
                                           {"temperature", "temperature"},
                                           {"top_p", "top_p"},
                                           {"top_logprobs", "top_logprobs"},
                                           {"max_output_tokens", "max_tokens"},
                                           {"parallel_tool_calls", "parallel_tool_calls"},
                                           {"presence_penalty", "presence_penalty"},
                                           {"frequency_penalty", "frequency_penalty"},
                                           {"seed", "seed"},
                                           {"top_k", "top_k"},
                                           {"min_p", "min_p"},
                                           {"ignore_eos", "ignore_eos"},
                                           {"stop", "stop"},
                                           {"chat_template_kwargs", "chat_template_kwargs"},
                                           {"cache_salt", "cache_salt"},
                                           {"priority", "priority"}};
    for (size_t i = 0; i < SRN_LEN(names); i++) {
        json_t *v = json_object_get(body, names[i][0]);
        if (v && json_object_set(chat, names[i][1], v)) return no_memory(r);
    }
    if (srn__field_given(body, "include") && !json_is_array(json_object_get(body, "include")))
        return wrong(r, SRN_EINVAL, "include", "needs an array of texts");
    if (wants_logprobs(body)) json_object_set_new(chat, "logprobs", json_true());
    return SRN_OK;
}

static int refuse(const reader *r, const json_t *body) {
    static const char *const stored[] = {"previous_response_id", "conversation"};
    static const char *const others[] = {"max_tool_calls"};
    const char *truncation = json_string_value(json_object_get(body, "truncation"));
    for (size_t i = 0; i < SRN_LEN(stored); i++)
        if (srn__field_given(body, stored[i]))
            return wrong(r, SRN_EUNSUP, stored[i],
                         "is not supported: responses are not stored; send the items again");
    if (json_is_true(json_object_get(body, "background")))
        return wrong(r, SRN_EUNSUP, "background", "is not supported; ask for a stream instead");
    if (truncation && strcmp(truncation, "disabled") != 0)
        return wrong(r, SRN_EUNSUP, "truncation",
                     "only disabled is supported: nothing is left out in silence");
    return srn__field_refuse(r->f, body, others, SRN_LEN(others));
}

int srn__responses_to_chat(const json_t *body, bool with_prompt, const srn_config_limits *limits,
                           srn__fields *f, json_t **ret) {
    json_t *chat = json_object();
    reader r = {.f = f, .messages = json_array()};
    srn_buf_init(&r.reasoning, limits->body_bytes);
    int code = chat && r.messages ? SRN_OK : no_memory(&r);
    if (!code) code = refuse(&r, body);
    if (!code) code = read_input(&r, body, with_prompt, limits);
    if (!code) code = read_tools(&r, body, chat);
    if (!code) code = read_choice(&r, body, chat);
    if (!code) code = read_format(&r, body, chat);
    if (!code) code = copy_fields(&r, body, chat);
    if (!code && json_object_set(chat, "messages", r.messages)) code = no_memory(&r);
    json_decref(r.messages);
    srn_buf_done(&r.reasoning);
    if (code) {
        json_decref(chat);
        return code;
    }
    *ret = chat;
    return SRN_OK;
}

/* ---- errors ---- */

static bool is_word(char c) {
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

void srn__responses_rename(srn_err *err) {
    /* The longer ones first: the first that fits at a place is taken. */
    static const char *const names[][2] = {{"response_format.json_schema", "text.format"},
                                           {"response_format", "text.format"},
                                           {"max_completion_tokens", "max_output_tokens"},
                                           {"max_tokens", "max_output_tokens"},
                                           {"'messages'", "'input'"},
                                           {"].function must be an object with a name", "] must have a name"},
                                           {"].function.", "]."},
                                           {"\"function\": {\"name\": ...}", "\"name\": ..."}};
    char out[sizeof err->text];
    size_t n = 0;
    for (const char *p = err->text; *p && n + 1 < sizeof out;) {
        const char *const *found = NULL;
        for (size_t i = 0; i < SRN_LEN(names) && !found; i++) {
            size_t len = strlen(names[i][0]);
            bool inside =
                is_word(*p) && ((p > err->text && is_word(p[-1])) || is_word(p[SRN_MIN(len, strlen(p))]));
            if (!inside && strncmp(p, names[i][0], len) == 0) found = names[i];
        }
        if (!found) {
            out[n++] = *p++;
            continue;
        }
        size_t len = SRN_MIN(strlen(found[1]), sizeof out - 1 - n);
        memcpy(out + n, found[1], len);
        n += len;
        p += strlen(found[0]);
    }
    out[n] = 0;
    memcpy(err->text, out, n + 1);
}
