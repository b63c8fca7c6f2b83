/* chat: the table of reply formats, how families of models write tool calls and reasoning, and which row a
 * chat template asks for. Immutable data and pure look-ups; any thread. A format that is not in the table
 * falls to the generic row, whose tools are described in a message.
 */
#include "chat/reply_internal.h"

/* ---- the rows; the first whose words the template contains is taken ---- */

static const srn__call_syntax syntaxes[] = {
    {.name = "qwen3-coder",
     .has = {"<tool_call>", "<function="},
     .call_open = "<tool_call>",
     .call_close = "</tool_call>",
     .body = SRN__BODY_XML},
    {.name = "kimi",
     .has = {"<|tool_calls_section_begin|>", "<|tool_call_argument_begin|>"},
     .section_open = "<|tool_calls_section_begin|>",
     .section_close = "<|tool_calls_section_end|>",
     .call_open = "<|tool_call_begin|>",
     .call_close = "<|tool_call_end|>",
     .body = SRN__BODY_NAMED,
     .before_name = "functions.",
     .after_name = "<|tool_call_argument_begin|>",
     .name_cut = ":",
     .numbered = true,
     .arguments_as_text = true},
    {.name = "deepseek",
     .has = {"<｜tool▁calls▁begin｜>", "```json"},
     .section_open = "<｜tool▁calls▁begin｜>",
     .section_close = "<｜tool▁calls▁end｜>",
     .call_open = "<｜tool▁call▁begin｜>",
     .call_close = "```<｜tool▁call▁end｜>",
     .body = SRN__BODY_NAMED,
     .before_name = "function<｜tool▁sep｜>",
     .after_name = "\n```json",
     .arguments_as_text = true},
    {.name = "deepseek-v3.1",
     .has = {"<｜tool▁calls▁begin｜>"},
     .section_open = "<｜tool▁calls▁begin｜>",
     .section_close = "<｜tool▁calls▁end｜>",
     .call_open = "<｜tool▁call▁begin｜>",
     .call_close = "<｜tool▁call▁end｜>",
     .body = SRN__BODY_NAMED,
     .before_name = "",
     .after_name = "<｜tool▁sep｜>",
     .arguments_as_text = true},
    {.name = "mistral",
     .has = {"[TOOL_CALLS]", "[ARGS]"},
     .call_open = "[TOOL_CALLS]",
     .call_close = "",
     .body = SRN__BODY_NAMED,
     .before_name = "",
     .after_name = "[ARGS]",
     .name_cut = "[CALL_ID]",
     .short_ids = true},
    {.name = "mistral-list",
     .has = {"[TOOL_CALLS]"},
     .section_open = "[TOOL_CALLS]",
     .section_close = "",
     .list = true,
     .call_open = "",
     .call_close = "",
     .arguments_key = "arguments",
     .short_ids = true},
    {.name = "nemotron",
     .has = {"<TOOLCALL>"},
     .section_open = "<TOOLCALL>",
     .section_close = "</TOOLCALL>",
     .list = true,
     .call_open = "",
     .call_close = "",
     .arguments_key = "arguments"},
    {.name = "phi",
     .has = {"<|/tool_call|>"},
     .section_open = "<|tool_call|>",
     .section_close = "<|/tool_call|>",
     .list = true,
     .call_open = "",
     .call_close = "",
     .arguments_key = "arguments"},
    {.name = "granite",
     .has = {"<|tool_call|>"},
     .section_open = "<|tool_call|>",
     .section_close = "",
     .list = true,
     .call_open = "",
     .call_close = "",
     .arguments_key = "arguments"},
    {.name = "hermes",
     .has = {"<tool_call>", "arguments"},
     .has_not = "<arg_key>",
     .call_open = "<tool_call>",
     .call_close = "</tool_call>",
     .arguments_key = "arguments"},
    {.name = "llama3",
     .has = {"parameters", "<|python_tag|>"},
     .call_open = "<|python_tag|>",
     .call_close = "",
     .arguments_key = "parameters",
     .bare = true,
     .single = true},
    {.name = "generic-user",
     .has = {"raise_exception", "ystem role not supported"},
     .call_open = "<tool_call>",
     .call_close = "</tool_call>",
     .arguments_key = "arguments",
     .described = true,
     .in_user = true},
    {.name = "generic",
     .call_open = "<tool_call>",
     .call_close = "</tool_call>",
     .arguments_key = "arguments",
     .described = true},
};

/* The last row is that of templates which mark no reasoning: a model may do so all the same. */
static const srn__think_marks thinks[] = {
    {"[THINK]", "[THINK]", "[/THINK]"},
    {"<seed:think>", "<seed:think>", "</seed:think>"},
    {"<|START_THINKING|>", "<|START_THINKING|>", "<|END_THINKING|>"},
    {"<think>", "<think>", "</think>"},
    {NULL, "<think>", "</think>"},
};

/* Every pair of both, so that a format is one pointer to constant data. */
#define PAIRS(i)                                                                                             \
    {                                                                                                        \
        {&syntaxes[i], &thinks[0]}, {&syntaxes[i], &thinks[1]}, {&syntaxes[i], &thinks[2]},                  \
            {&syntaxes[i], &thinks[3]}, {                                                                    \
            &syntaxes[i], &thinks[4]                                                                         \
        }                                                                                                    \
    }
static const srn_reply_format formats[SRN_LEN(syntaxes)][SRN_LEN(thinks)] = {
    PAIRS(0), PAIRS(1), PAIRS(2), PAIRS(3),  PAIRS(4),  PAIRS(5),  PAIRS(6),
    PAIRS(7), PAIRS(8), PAIRS(9), PAIRS(10), PAIRS(11), PAIRS(12),
};
_Static_assert(SRN_LEN(syntaxes) == 13 && SRN_LEN(thinks) == 5, "PAIRS names every row");

static bool contains(srn_str text, const char *word) {
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= text.len; i++) {
        const char *p = memchr(text.ptr + i, word[0], text.len - n - i + 1);
        if (!p) return false;
        i = (size_t)(p - text.ptr);
        if (memcmp(p, word, n) == 0) return true;
    }
    return false;
}

const srn_reply_format *srn_reply_format_of(srn_str source) {
    size_t i = 0, j = 0;
    for (; i + 1 < SRN_LEN(syntaxes); i++) {
        const srn__call_syntax *s = &syntaxes[i];
        if (contains(source, s->has[0]) && (!s->has[1] || contains(source, s->has[1])) &&
            (!s->has_not || !contains(source, s->has_not)))
            break;
    }
    while (thinks[j].has && !contains(source, thinks[j].has)) j++;
    return &formats[i][j];
}

const char *srn_reply_format_name(const srn_reply_format *f) {
    return f->calls->name;
}

const char *srn_reply_mark(const srn_reply_format *f, bool tools, bool reasoning, size_t i) {
    const srn__call_syntax *s = f->calls;
    const char *const all[] = {tools ? s->section_open : NULL,    tools ? s->section_close : NULL,
                               tools ? s->call_open : NULL,       tools ? s->call_close : NULL,
                               tools ? s->before_name : NULL,     tools ? s->after_name : NULL,
                               tools ? s->name_cut : NULL,        reasoning ? f->think->open : NULL,
                               reasoning ? f->think->close : NULL};
    for (size_t k = 0; k < SRN_LEN(all); k++) {
        if (!all[k] || !*all[k]) continue;
        const char *inner = strchr(all[k] + 1, '<'); /* "function<sep>": the token is the mark's end */
        if (i-- == 0) return all[k];
        if (inner && i-- == 0) return inner;
    }
    return NULL;
}

bool srn_reply_ends_in_reasoning(const srn_reply_format *f, srn_str prompt) {
    size_t n = strlen(f->think->open);
    while (prompt.len && strchr(" \n\r\t", prompt.ptr[prompt.len - 1])) prompt.len--;
    return prompt.len >= n && memcmp(prompt.ptr + prompt.len - n, f->think->open, n) == 0;
}

/* ---- tools ---- */

const json_t *srn__tool_function(const json_t *tool) {
    const json_t *f = json_object_get(tool, "function");
    return json_is_object(f) ? f : json_object_get(tool, "name") ? tool : NULL;
}

const char *srn__tool_name(const json_t *tool) {
    const char *name = json_string_value(json_object_get(srn__tool_function(tool), "name"));
    return name ? name : "";
}

const json_t *srn__tool_find(const json_t *tools, srn_str name) {
    for (size_t i = 0; i < json_array_size(tools); i++)
        if (srn_str_eqz(name, srn__tool_name(json_array_get(tools, i)))) return json_array_get(tools, i);
    return NULL;
}

json_t *srn__tool_param_schema(const json_t *tool, const char *param) {
    const json_t *root = json_object_get(srn__tool_function(tool), "parameters");
    json_t *schema = json_object_get(json_object_get(root, "properties"), param);
    if (!json_is_object(schema)) return json_incref(schema);
    json_t *copy = json_copy(schema);
    static const char *const shared[] = {"$defs", "definitions"};
    for (size_t i = 0; copy && i < SRN_LEN(shared); i++) {
        json_t *defs = json_object_get(root, shared[i]);
        if (defs && !json_object_get(copy, shared[i]) && json_object_set(copy, shared[i], defs)) {
            json_decref(copy);
            return NULL;
        }
    }
    return copy;
}

bool srn__tool_param_is_text(const json_t *tool, srn_str param) {
    const json_t *props =
        json_object_get(json_object_get(srn__tool_function(tool), "parameters"), "properties");
    const json_t *schema = json_object_getn(props, param.ptr, param.len);
    const char *type = json_string_value(json_object_get(schema, "type"));
    if (type) return strcmp(type, "string") == 0;
    const json_t *choices = json_object_get(schema, "enum");
    for (size_t i = 0; i < json_array_size(choices); i++)
        if (!json_is_string(json_array_get(choices, i))) return false;
    return json_array_size(choices) > 0;
}
