/* The OpenAI API: what an answer may be, read from a request's body. Tools and how they may be called, and
 * the constraints of the text: response_format, and what llama-server and vLLM call json_schema, grammar,
 * guided_* and structured_outputs. Pure.
 */
#include <stdlib.h>

#include "serve/openai_internal.h"

static int invalid(const char *param, const char **ret_param, srn_err *err, const char *fmt, ...)
    SRN_PRINTF(4, 5);
static int invalid(const char *param, const char **ret_param, srn_err *err, const char *fmt, ...) {
    *ret_param = param;
    va_list ap;
    va_start(ap, fmt);
    int code = srn_vfail(err, SRN_EINVAL, fmt, ap);
    va_end(ap);
    return code;
}

json_t *srn__openai_keep(srn__openai_request *r, json_t *value) {
    if (!r->owned) r->owned = json_array();
    return value && r->owned && !json_array_append_new(r->owned, value) ? value : NULL;
}

/* ---- tools ---- */

static const json_t *function_of(const json_t *tool) {
    return json_object_get(tool, "function");
}

static const char *name_of(const json_t *tool) {
    return json_string_value(json_object_get(function_of(tool), "name"));
}

static int check_tool(const json_t *tools, size_t i, const char **ret_param, srn_err *err) {
    const json_t *tool = json_array_get(tools, i), *f = function_of(tool);
    const char *type = json_string_value(json_object_get(tool, "type")), *name = name_of(tool);
    if (!type || strcmp(type, "function") != 0)
        return invalid("tools", ret_param, err, "tools[%zu].type must be \"function\"", i);
    if (!json_is_object(f) || !name)
        return invalid("tools", ret_param, err, "tools[%zu].function must be an object with a name", i);
    size_t n = strlen(name);
    if (n == 0 || n > 64 ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") != n)
        return invalid("tools", ret_param, err,
                       "tools[%zu].function.name must be 1 to 64 letters, digits, '_', '-' or '.'", i);
    for (size_t k = 0; k < i; k++)
        if (strcmp(name, name_of(json_array_get(tools, k))) == 0)
            return invalid("tools", ret_param, err, "tools[%zu].function.name '%s' is there twice", i, name);
    const json_t *params = json_object_get(f, "parameters"), *strict = json_object_get(f, "strict");
    if (params && !json_is_null(params) && !json_is_object(params))
        return invalid("tools", ret_param, err,
                       "tools[%zu].function.parameters must be a JSON schema (an object), it is %s", i,
                       srn__json_type_name(params));
    if (strict && !json_is_null(strict) && !json_is_boolean(strict))
        return invalid("tools", ret_param, err, "tools[%zu].function.strict must be a boolean, it is %s", i,
                       srn__json_type_name(strict));
    return SRN_OK;
}

int srn__fits_schema_bytes(const json_t *value, const srn_config_limits *limits, const char *param,
                           srn_err *err) {
    size_t n = json_dumpb(value, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
    if (n <= limits->schema_bytes) return SRN_OK;
    return srn_fail(err, SRN_ELIMIT, "'%s' has %zu bytes; at most %llu are allowed", param, n,
                    (unsigned long long)limits->schema_bytes);
}

int srn__openai_check_tools(const json_t *tools, const srn_config_limits *limits, const char **ret_param,
                            srn_err *err) {
    size_t n = json_array_size(tools);
    *ret_param = "tools";
    if (n > limits->tools)
        return srn_fail(err, SRN_ELIMIT, "there are %zu tools; at most %u are allowed", n, limits->tools);
    int code = SRN_OK;
    for (size_t i = 0; !code && i < n; i++) code = check_tool(tools, i, ret_param, err);
    return code ? code : srn__fits_schema_bytes(tools, limits, "tools", err);
}

static const json_t *find_tool(const json_t *tools, const char *name) {
    for (size_t i = 0; name && i < json_array_size(tools); i++)
        if (strcmp(name_of(json_array_get(tools, i)), name) == 0) return json_array_get(tools, i);
    return NULL;
}

/* {"type": "allowed_tools", "allowed_tools": {"mode": ..., "tools": [...]}}: all are shown, some may be
 * called. */
static int allowed_tools(const json_t *choice, srn__openai_request *r, const char **ret_param, srn_err *err) {
    const json_t *allowed = json_object_get(choice, "allowed_tools");
    const json_t *list = json_object_get(allowed, "tools");
    const char *mode = json_string_value(json_object_get(allowed, "mode"));
    if (!mode || (strcmp(mode, "auto") != 0 && strcmp(mode, "required") != 0) || !json_is_array(list))
        return invalid("tool_choice", ret_param, err,
                       "tool_choice.allowed_tools must have a mode, auto or required, and an array tools");
    if (strcmp(mode, "required") == 0 && !json_array_size(list))
        return invalid("tool_choice", ret_param, err,
                       "tool_choice.allowed_tools asks for a call, and there are no tools in it");
    json_t *some = srn__openai_keep(r, json_array());
    if (!some) return srn_fail_nomem(err, sizeof *some);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = name_of(json_array_get(list, i));
        json_t *tool = (json_t *)(uintptr_t)find_tool(r->spec.tools, name);
        if (!tool)
            return invalid("tool_choice", ret_param, err,
                           "tool_choice.allowed_tools.tools[%zu] names '%s', which is none of the tools", i,
                           name ? name : "");
        if (json_array_append(some, tool)) return srn_fail_nomem(err, sizeof *some);
    }
    r->spec.reply.tools = some;
    r->spec.reply.choice = strcmp(mode, "required") == 0 ? SRN_TOOLS_REQUIRED : SRN_TOOLS_AUTO;
    return SRN_OK;
}

static int tool_choice(const json_t *choice, srn__openai_request *r, const char **ret_param, srn_err *err) {
    static const char *const words[] = {
        [SRN_TOOLS_AUTO] = "auto", [SRN_TOOLS_NONE] = "none", [SRN_TOOLS_REQUIRED] = "required"};
    srn_reply_opts *o = &r->spec.reply;
    if (!choice || json_is_null(choice)) return SRN_OK;
    for (size_t i = 0; json_is_string(choice) && i < SRN_LEN(words); i++)
        if (strcmp(json_string_value(choice), words[i]) == 0) {
            o->choice = (srn_tool_choice)i;
            if (i == SRN_TOOLS_REQUIRED && !o->tools)
                return invalid("tool_choice", ret_param, err,
                               "tool_choice is 'required' and there are no tools");
            return SRN_OK;
        }
    const char *type = json_string_value(json_object_get(choice, "type"));
    if (type && strcmp(type, "allowed_tools") == 0) return allowed_tools(choice, r, ret_param, err);
    if (!type || strcmp(type, "function") != 0 || !name_of(choice))
        return invalid("tool_choice", ret_param, err,
                       "tool_choice must be auto, none, required, {\"type\": \"function\", \"function\": "
                       "{\"name\": ...}} or allowed_tools");
    if (!find_tool(o->tools, name_of(choice)))
        return invalid("tool_choice", ret_param, err, "tool_choice names '%s', which is none of the tools",
                       name_of(choice));
    o->choice = SRN_TOOLS_NAMED;
    o->tool_name = name_of(choice);
    return SRN_OK;
}

int srn__openai_parse_tools(const json_t *body, const srn_config_limits *limits, srn__openai_request *r,
                            const char **ret_param, srn_err *err) {
    const json_t *tools = NULL;
    srn_reply_opts *o = &r->spec.reply;
    const srn__field parallel = {.name = "parallel_tool_calls", .kind = SRN__FIELD_BOOL};
    o->parallel_calls = true;
    int code = srn__fields_read(body, &parallel, 1, &o->parallel_calls, ret_param, err);
    if (!code) code = srn__field_array(body, "tools", &tools, ret_param, err);
    if (!code && tools) code = srn__openai_check_tools(tools, limits, ret_param, err);
    if (code) return code;
    if (json_array_size(tools) > 0) {
        o->tools = r->spec.tools = tools;
        o->parse_tools = true;
    }
    code = tool_choice(json_object_get(body, "tool_choice"), r, ret_param, err);
    if (!code && o->choice == SRN_TOOLS_NONE) { /* then the model need not know of them */
        o->tools = r->spec.tools = NULL;
        o->parse_tools = false;
    }
    return code;
}

/* ---- constraints ---- */

typedef struct reader {
    const srn_config_limits *limits;
    srn__openai_request *r;
    const char **ret_param;
    srn_err *err;
} reader;

static bool has_constraint(const srn__job_spec *s) {
    return s->schema || s->json_object || s->regex.ptr || s->gbnf.ptr;
}

/* Only one of them may be given. */
static int claim(reader *x, const char *param) {
    srn__job_spec *s = &x->r->spec;
    if (has_constraint(s))
        return invalid(param, x->ret_param, x->err, "'%s' and '%s' both say what the answer may be; give one",
                       s->constraint_param, param);
    s->constraint_param = param;
    return SRN_OK;
}

static int too_large(reader *x, const char *param, size_t n) {
    if (n <= x->limits->schema_bytes) return SRN_OK;
    *x->ret_param = param;
    return srn_fail(x->err, SRN_ELIMIT, "'%s' has %zu bytes; at most %llu are allowed", param, n,
                    (unsigned long long)x->limits->schema_bytes);
}

/* A schema as object, as text, or true and false. */
static int take_schema(reader *x, const char *param, json_t *schema) {
    int code = claim(x, param);
    if (code) return code;
    if (json_is_string(schema)) {
        code = too_large(x, param, json_string_length(schema));
        json_t *parsed = code ? NULL
                              : json_loadb(json_string_value(schema), json_string_length(schema),
                                           JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
        if (code) return code;
        schema = srn__openai_keep(x->r, parsed);
    }
    if (!json_is_object(schema) && !json_is_boolean(schema))
        return invalid(param, x->ret_param, x->err, "'%s' must be a JSON schema: an object", param);
    *x->ret_param = param;
    x->r->spec.schema = schema;
    return srn__fits_schema_bytes(schema, x->limits, param, x->err);
}

static int take_text(reader *x, const char *param, const json_t *text, srn_str *ret) {
    int code = claim(x, param);
    if (code) return code;
    if (!json_is_string(text))
        return invalid(param, x->ret_param, x->err, "'%s' must be a string, it is %s", param,
                       srn__json_type_name(text));
    *ret = (srn_str){json_string_value(text), json_string_length(text)};
    return too_large(x, param, ret->len);
}

/* One of these texts: a grammar that lists them. */
static int take_choice(reader *x, const char *param, const json_t *choices) {
    int code = claim(x, param);
    if (code) return code;
    if (!json_is_array(choices) || json_array_size(choices) == 0)
        return invalid(param, x->ret_param, x->err, "'%s' must be an array of strings", param);
    srn_buf b;
    srn_buf_init(&b, x->limits->schema_bytes);
    srn_buf_addz(&b, "root ::= ");
    for (size_t i = 0; i < json_array_size(choices); i++) {
        const json_t *c = json_array_get(choices, i);
        if (!json_is_string(c)) {
            srn_buf_done(&b);
            return invalid(param, x->ret_param, x->err, "'%s'[%zu] must be a string, it is %s", param, i,
                           srn__json_type_name(c));
        }
        srn_buf_addz(&b, i ? " | \"" : "\"");
        for (const char *p = json_string_value(c); *p; p++) {
            if (*p == '"' || *p == '\\')
                srn_buf_addf(&b, "\\%c", *p);
            else if ((unsigned char)*p < 32)
                srn_buf_addf(&b, "\\x%02x", (unsigned)*p);
            else
                srn_buf_addc(&b, *p);
        }
        srn_buf_addc(&b, '"');
    }
    char *copy = b.failed ? NULL : srn_arena_strndup(&x->r->arena, b.data, b.len);
    x->r->spec.gbnf = (srn_str){copy, b.len};
    srn_buf_done(&b);
    *x->ret_param = param;
    return copy ? SRN_OK : srn_fail(x->err, SRN_ELIMIT, "'%s' is too large", param);
}

static int response_format(reader *x, const json_t *f) {
    const char *type = json_string_value(json_object_get(f, "type"));
    json_t *nested = json_object_get(f, "json_schema"), *schema = json_object_get(nested, "schema");
    if (!type)
        return invalid("response_format", x->ret_param, x->err,
                       "response_format must be an object with a type: text, json_object or json_schema");
    if (strcmp(type, "text") == 0) return SRN_OK;
    if (strcmp(type, "json_object") == 0) {
        json_t *own = json_object_get(f, "schema");
        if (own && !json_is_null(own)) return take_schema(x, "response_format", own);
        int code = claim(x, "response_format");
        x->r->spec.json_object = true;
        return code;
    }
    if (strcmp(type, "json_schema") != 0)
        return invalid("response_format", x->ret_param, x->err,
                       "response_format.type '%s' is not one of text, json_object, json_schema", type);
    if (!schema) schema = json_object_get(f, "schema");
    if (!schema || json_is_null(schema))
        return invalid("response_format", x->ret_param, x->err,
                       "response_format.json_schema must be an object with a name and a schema");
    return take_schema(x, "response_format", schema);
}

/* vLLM's {"json": ..., "regex": ..., "choice": ..., "grammar": ..., "json_object": ...}. */
static int structured(reader *x, const json_t *o) {
    const char *key, *param = "structured_outputs";
    json_t *v;
    int code = SRN_OK;
    json_object_foreach((json_t *)(uintptr_t)o, key, v) {
        if (json_is_null(v) || json_is_false(v)) continue;
        if (strcmp(key, "json") == 0)
            code = take_schema(x, param, v);
        else if (strcmp(key, "regex") == 0)
            code = take_text(x, param, v, &x->r->spec.regex);
        else if (strcmp(key, "grammar") == 0)
            code = take_text(x, param, v, &x->r->spec.gbnf);
        else if (strcmp(key, "choice") == 0)
            code = take_choice(x, param, v);
        else if (strcmp(key, "json_object") == 0)
            code = claim(x, param), x->r->spec.json_object = true;
        else if (strcmp(key, "structural_tag") == 0 || strcmp(key, "whitespace_pattern") == 0) {
            *x->ret_param = param;
            code = srn_fail(x->err, SRN_EUNSUP, "structured_outputs.%s is not supported; use 'grammar'", key);
        }
        if (code) return code;
    }
    return SRN_OK;
}

int srn__openai_parse_constraint(const json_t *body, const srn_config_limits *limits, srn__openai_request *r,
                                 const char **ret_param, srn_err *err) {
    reader x = {limits, r, ret_param, err};
    const json_t *object = NULL;
    int code = srn__field_object(body, "response_format", &object, ret_param, err);
    if (!code && object) code = response_format(&x, object);
    if (!code) code = srn__field_object(body, "structured_outputs", &object, ret_param, err);
    if (!code && object) code = structured(&x, object);
    static const char *const schemas[] = {"json_schema", "guided_json"};
    for (size_t i = 0; !code && i < SRN_LEN(schemas); i++) {
        json_t *v = json_object_get(body, schemas[i]);
        if (v && !json_is_null(v)) code = take_schema(&x, schemas[i], v);
    }
    static const char *const texts[] = {"grammar", "guided_grammar", "guided_regex"};
    for (size_t i = 0; !code && i < SRN_LEN(texts); i++) {
        const json_t *v = json_object_get(body, texts[i]);
        if (!v || json_is_null(v) || (json_is_string(v) && json_string_length(v) == 0)) continue;
        code = take_text(&x, texts[i], v, i == 2 ? &r->spec.regex : &r->spec.gbnf);
    }
    const json_t *choices = json_object_get(body, "guided_choice");
    if (!code && choices && !json_is_null(choices)) code = take_choice(&x, "guided_choice", choices);
    return code;
}
