/* The OpenAI API: reading fields of a request's body. Types are checked strictly, null counts as absent, and
 * every refusal names the field. Pure; worker threads and fuzzers.
 */
#include <math.h>
#include <stdlib.h>

#include "serve/openai_internal.h"

const char *srn__json_type_name(const json_t *j) {
    if (!j) return "missing";
    static const char *const names[] = {
        [JSON_OBJECT] = "an object",   [JSON_ARRAY] = "an array",     [JSON_STRING] = "a string",
        [JSON_INTEGER] = "an integer", [JSON_REAL] = "a real number", [JSON_TRUE] = "a boolean",
        [JSON_FALSE] = "a boolean",    [JSON_NULL] = "null"};
    return names[json_typeof(j)];
}

static int wrong(const char *name, const char *want, const json_t *j, const char **ret_param, srn_err *err) {
    *ret_param = name;
    return srn_fail(err, SRN_EINVAL, "'%s' must be %s, it is %s", name, want, srn__json_type_name(j));
}

static int read_bool(const json_t *j, const srn__field *f, void *at, const char **ret_param, srn_err *err) {
    if (!json_is_boolean(j)) return wrong(f->name, "a boolean", j, ret_param, err);
    *(bool *)at = json_is_true(j);
    return SRN_OK;
}

static int read_field(const json_t *j, const srn__field *f, void *at, const char **ret_param, srn_err *err) {
    if (f->kind == SRN__FIELD_BOOL) return read_bool(j, f, at, ret_param, err);
    bool whole = f->kind != SRN__FIELD_F32;
    if (whole ? !json_is_integer(j) : !json_is_number(j))
        return wrong(f->name, whole ? "an integer" : "a number", j, ret_param, err);
    double v = json_number_value(j);
    if (!(v >= f->min && v <= f->max) || (f->above_min && !(v > f->min))) {
        *ret_param = f->name;
        return srn_fail(err, SRN_EINVAL, "'%s' is %.10g; it must be %s %.10g and at most %.10g", f->name, v,
                        f->above_min ? "above" : "at least", f->min, f->max);
    }
    if (f->kind == SRN__FIELD_F32)
        *(float *)at = (float)v;
    else if (f->kind == SRN__FIELD_I32)
        *(int32_t *)at = (int32_t)json_integer_value(j);
    else
        *(uint32_t *)at = (uint32_t)json_integer_value(j);
    return SRN_OK;
}

int srn__fields_read(const json_t *body, const srn__field *fields, size_t n, void *base,
                     const char **ret_param, srn_err *err) {
    for (size_t i = 0; i < n; i++) {
        const json_t *j = json_object_get(body, fields[i].name);
        if (!j || json_is_null(j)) continue;
        int code = read_field(j, &fields[i], (char *)base + fields[i].offset, ret_param, err);
        if (code) return code;
    }
    return SRN_OK;
}

/* ---- single fields ---- */

static const json_t *given(const json_t *body, const char *name) {
    const json_t *j = json_object_get(body, name);
    return json_is_null(j) ? NULL : j;
}

int srn__field_string(const json_t *body, const char *name, const char **ret, const char **ret_param,
                      srn_err *err) {
    const json_t *j = given(body, name);
    if (j && !json_is_string(j)) return wrong(name, "a string", j, ret_param, err);
    *ret = json_string_value(j);
    return SRN_OK;
}

int srn__field_object(const json_t *body, const char *name, const json_t **ret, const char **ret_param,
                      srn_err *err) {
    const json_t *j = given(body, name);
    if (j && !json_is_object(j)) return wrong(name, "an object", j, ret_param, err);
    *ret = j;
    return SRN_OK;
}

int srn__field_array(const json_t *body, const char *name, const json_t **ret, const char **ret_param,
                     srn_err *err) {
    const json_t *j = given(body, name);
    if (j && !json_is_array(j)) return wrong(name, "an array", j, ret_param, err);
    *ret = j;
    return SRN_OK;
}

/* ---- what must not be ignored ---- */

enum { CHAT = 1, COMPLETIONS = 2, BOTH = 3 };
typedef struct refused {
    const char *name;
    unsigned where;
    const char *neutral; /* the value, as JSON, that changes nothing; NULL: none but null and false */
    const char *advice;
} refused;
static const refused refusals[] = {
    {"functions", CHAT, "[]", "use 'tools'"},
    {"function_call", CHAT, "\"none\"", "use 'tool_choice'"},
    {"audio", CHAT, NULL, "this server answers in text"},
    {"modalities", CHAT, "[\"text\"]", "this server answers in text"},
    {"web_search_options", CHAT, NULL, "this server does not search"},
    {"suffix", COMPLETIONS, "\"\"", "filling in the middle is not supported; put its marks into 'prompt'"},
    {"echo", CHAT, NULL, "use 'continue_final_message', or /v1/completions"},
    {"chat_template", BOTH, NULL, "the template is the model's own"},
    {"documents", CHAT, "[]", "put them into the messages"},
    {"use_beam_search", BOTH, NULL, "answers are sampled"},
    {"length_penalty", BOTH, "1", "it belongs to beam search"},
    {"bad_words", BOTH, "[]", "use 'logit_bias'"},
    {"allowed_token_ids", BOTH, "[]", "use 'logit_bias' or a grammar"},
    {"logits_processors", BOTH, "[]", "use 'logit_bias' or a grammar"},
    {"truncate_prompt_tokens", BOTH, NULL, "shorten the prompt yourself"},
    {"prompt_embeds", BOTH, NULL, "send text or token ids"},
    {"mm_processor_kwargs", BOTH, "{}", "this server reads text"},
    {"lora", BOTH, "[]", "adapters are not supported"},
    {"lora_request", BOTH, NULL, "adapters are not supported"},
    {"mirostat", BOTH, "0", "it is not one of the samplers"},
    {"tfs_z", BOTH, "1", "it is not one of the samplers"},
    {"top_a", BOTH, "0", "it is not one of the samplers"},
    {"top_n_sigma", BOTH, "-1", "it is not one of the samplers"},
    {"dynatemp_range", BOTH, "0", "it is not one of the samplers"},
    {"xtc_probability", BOTH, "0", "it is not one of the samplers"},
    {"samplers", BOTH, NULL, "the order of the samplers is fixed"},
    {"grammar_lazy", BOTH, NULL, "use 'tools' for a grammar that begins at a mark"},
    {"grammar_triggers", BOTH, "[]", "use 'tools' for a grammar that begins at a mark"},
    {"guided_whitespace_pattern", BOTH, NULL, "use 'grammar'"},
    {"n_keep", BOTH, "0", "a full context ends the answer"},
    {"return_tokens_as_token_ids", BOTH, NULL, "use 'return_token_ids'"},
};

int srn__fields_refused(const json_t *body, bool chat, const char **ret_param, srn_err *err) {
    for (size_t i = 0; i < SRN_LEN(refusals); i++) {
        const refused *r = &refusals[i];
        const json_t *j = given(body, r->name);
        if (!j || json_is_false(j) || !(r->where & (chat ? CHAT : COMPLETIONS))) continue;
        json_t *neutral = r->neutral ? json_loads(r->neutral, JSON_DECODE_ANY, NULL) : NULL;
        bool same = neutral && (json_is_number(neutral) && json_is_number(j)
                                    ? json_number_value(neutral) == json_number_value(j)
                                    : json_equal(neutral, j));
        json_decref(neutral);
        if (same) continue;
        *ret_param = r->name;
        return srn_fail(err, SRN_EUNSUP, "'%s' is not supported: %s", r->name, r->advice);
    }
    return SRN_OK;
}
