/* What surrounds a template: where a model keeps its own, the texts of its special tokens, and whether
 * messages have the shapes that templates rely on. Called by the commands and by the server before rendering.
 */
#include "chat/chat.h"

int srn_template_of(const srn_weights *w, bool with_tools, srn_template **ret, srn_err *err) {
    static const char *const keys[] = {"tokenizer.chat_template.tool_use", "tokenizer.chat_template"};
    for (size_t i = with_tools ? 0 : 1; i < SRN_LEN(keys); i++) {
        srn_str source;
        if (!srn_meta_find(w, keys[i])) continue;
        int code = srn_meta_str(w, keys[i], &source, err);
        if (!code) code = srn_template_new(source, keys[i], ret, err);
        return code ? srn_fail_prefix(err, code, "%s", srn_weights_path(w)) : SRN_OK;
    }
    return srn_fail(err, SRN_ENOENT, "%s has no chat template (tokenizer.chat_template)",
                    srn_weights_path(w));
}

static srn_str special(const srn_weights *w, const char *key) {
    uint64_t id;
    const srn_str *tokens;
    size_t n;
    if (srn_meta_u64(w, key, &id, NULL) || srn_meta_strs(w, "tokenizer.ggml.tokens", &tokens, &n, NULL) ||
        id >= n)
        return (srn_str){0};
    return tokens[id];
}

void srn_template_specials(const srn_weights *w, srn_str *ret_bos, srn_str *ret_eos) {
    *ret_bos = special(w, "tokenizer.ggml.bos_token_id");
    *ret_eos = special(w, "tokenizer.ggml.eos_token_id");
}

/* ---- shapes ---- */

static const char *type_name(const json_t *j) {
    if (!j) return "missing";
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_NULL:
        return "null";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "a number";
    }
}

static int check_parts(const json_t *parts, size_t message, srn_err *err) {
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i), *type = json_object_get(part, "type");
        if (!json_is_object(part))
            return srn_fail(err, SRN_EINVAL,
                            "messages[%zu].content[%zu] must be an object with a type, it is %s", message, i,
                            type_name(part));
        if (!json_is_string(type))
            return srn_fail(err, SRN_EINVAL, "messages[%zu].content[%zu].type must be a string, it is %s",
                            message, i, type_name(type));
        const json_t *text = json_object_get(part, "text");
        if (strcmp(json_string_value(type), "text") == 0 && !json_is_string(text))
            return srn_fail(err, SRN_EINVAL, "messages[%zu].content[%zu].text must be a string, it is %s",
                            message, i, type_name(text));
    }
    return SRN_OK;
}

static int check_calls(const json_t *calls, size_t message, srn_err *err) {
    if (!calls || json_is_null(calls)) return SRN_OK;
    if (!json_is_array(calls))
        return srn_fail(err, SRN_EINVAL, "messages[%zu].tool_calls must be an array, it is %s", message,
                        type_name(calls));
    for (size_t i = 0; i < json_array_size(calls); i++)
        if (!json_is_object(json_array_get(calls, i)))
            return srn_fail(err, SRN_EINVAL, "messages[%zu].tool_calls[%zu] must be an object, it is %s",
                            message, i, type_name(json_array_get(calls, i)));
    return SRN_OK;
}

static int check_message(const json_t *m, size_t i, srn_err *err) {
    if (!json_is_object(m))
        return srn_fail(err, SRN_EINVAL, "messages[%zu] must be an object, it is %s", i, type_name(m));
    const json_t *role = json_object_get(m, "role"), *content = json_object_get(m, "content");
    if (!json_is_string(role))
        return srn_fail(err, SRN_EINVAL, "messages[%zu].role must be a string, it is %s", i, type_name(role));
    bool assistant = strcmp(json_string_value(role), "assistant") == 0;
    if (json_is_array(content)) {
        int code = check_parts(content, i, err);
        if (code) return code;
    } else if (!json_is_string(content) && !(assistant && (!content || json_is_null(content)))) {
        return srn_fail(err, SRN_EINVAL,
                        "messages[%zu].content must be a string or an array of parts, it is %s", i,
                        type_name(content));
    }
    return check_calls(json_object_get(m, "tool_calls"), i, err);
}

int srn_messages_check(const json_t *messages, const json_t *tools, srn_err *err) {
    if (!json_is_array(messages))
        return srn_fail(err, SRN_EINVAL, "messages must be an array, it is %s", type_name(messages));
    if (tools && !json_is_null(tools) && !json_is_array(tools))
        return srn_fail(err, SRN_EINVAL, "tools must be an array, it is %s", type_name(tools));
    for (size_t i = 0; i < json_array_size(tools); i++)
        if (!json_is_object(json_array_get(tools, i)))
            return srn_fail(err, SRN_EINVAL, "tools[%zu] must be an object, it is %s", i,
                            type_name(json_array_get(tools, i)));
    for (size_t i = 0; i < json_array_size(messages); i++) {
        int code = check_message(json_array_get(messages, i), i, err);
        if (code) return code;
    }
    return SRN_OK;
}
