/* Variables: where they stand in a text, what may stand for them, and the messages with the values in place.
 * A text is read once, from left to right; what a value holds is never looked at again, so that {{other}} in
 * it stays the user's text, as does everything else. Pure; any thread.
 */
#include "prompts/prompts_internal.h"

#include <stdlib.h>

/* ---- texts ---- */

static bool is_word(char c, bool first) {
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (!first && c >= '0' && c <= '9');
}

/* "{{ name }}" at p: its length, 0 if it is none. */
static size_t variable_at(srn_str p, srn_str *ret_name) {
    size_t i = 2;
    while (i < p.len && (p.ptr[i] == ' ' || p.ptr[i] == '\t')) i++;
    size_t from = i;
    while (i < p.len && is_word(p.ptr[i], i == from)) i++;
    *ret_name = (srn_str){p.ptr + from, i - from};
    while (i < p.len && (p.ptr[i] == ' ' || p.ptr[i] == '\t')) i++;
    bool closed = i + 1 < p.len && p.ptr[i] == '}' && p.ptr[i + 1] == '}';
    return closed && ret_name->len && ret_name->len <= SRN__PROMPT_WORD ? i + 2 : 0;
}

/* Four braces stand for two. */
srn__piece srn__prompt_piece(srn_str text, size_t *at) {
    srn_str rest = {text.ptr + *at, text.len - *at};
    srn_str name;
    if (rest.len == 0) return (srn__piece){SRN__PIECE_END, rest};
    size_t n = 0;
    while (n < rest.len && !(rest.ptr[n] == '{' && n + 1 < rest.len && rest.ptr[n + 1] == '{')) n++;
    if (n) {
        *at += n;
        return (srn__piece){SRN__PIECE_TEXT, {rest.ptr, n}};
    }
    if (rest.len >= 4 && memcmp(rest.ptr, "{{{{", 4) == 0) {
        *at += 4;
        return (srn__piece){SRN__PIECE_TEXT, {rest.ptr, 2}};
    }
    n = variable_at(rest, &name);
    *at += n;
    return n ? (srn__piece){SRN__PIECE_VARIABLE, name} : (srn__piece){SRN__PIECE_BAD, rest};
}

const srn_prompt_variable *srn__prompt_variable(const srn_prompt *p, srn_str name) {
    for (uint32_t i = 0; i < p->n_variables; i++)
        if (srn_str_eqz(name, p->variables[i].name)) return &p->variables[i];
    return NULL;
}

/* ---- values ---- */

const char *srn_prompt_type_name(srn_prompt_type t) {
    static const char *const names[] = {
        [SRN_PROMPT_STRING] = "string",   [SRN_PROMPT_INTEGER] = "integer", [SRN_PROMPT_NUMBER] = "number",
        [SRN_PROMPT_BOOLEAN] = "boolean", [SRN_PROMPT_ENUM] = "enum",       [SRN_PROMPT_JSON] = "json"};
    return names[t];
}

static bool is_choice(const srn_prompt_variable *d, const char *text) {
    for (uint32_t i = 0; i < d->n_choices; i++)
        if (strcmp(text, d->choices[i]) == 0) return true;
    return false;
}

static bool choose(const srn_prompt_variable *d, const json_t *v, char ret[240]) {
    if (json_is_string(v) && is_choice(d, json_string_value(v))) return true;
    int n = snprintf(ret, 240, "must be one of");
    for (uint32_t i = 0; i < d->n_choices && n < 200; i++)
        n += snprintf(ret + n, 240 - (size_t)n, "%s %.30s", i ? "," : "", d->choices[i]);
    return false;
}

bool srn__prompt_value_fits(const srn_prompt_variable *d, const json_t *v, char ret[240]) {
    static const char *const wanted[] = {[SRN_PROMPT_STRING] = "a text",
                                         [SRN_PROMPT_INTEGER] = "an integer",
                                         [SRN_PROMPT_NUMBER] = "a number",
                                         [SRN_PROMPT_BOOLEAN] = "true or false"};
    bool fits = true;
    if (d->type == SRN_PROMPT_ENUM) return choose(d, v, ret);
    if (d->type == SRN_PROMPT_STRING) fits = json_is_string(v);
    if (d->type == SRN_PROMPT_INTEGER) fits = json_is_integer(v);
    if (d->type == SRN_PROMPT_NUMBER) fits = json_is_number(v);
    if (d->type == SRN_PROMPT_BOOLEAN) fits = json_is_boolean(v);
    if (!fits) snprintf(ret, 240, "must be %s, it is %s", wanted[d->type], srn__prompt_kind(v));
    return fits;
}

/* ---- filling ---- */

typedef struct filler {
    const srn_prompt *p;
    srn_buf *texts; /* [n_variables] */
    char *param;    /* [96] */
    srn_err *err;
} filler;

static int wrong(filler *f, const char *name, const char *fmt, ...) SRN_PRINTF(3, 4);
static int wrong(filler *f, const char *name, const char *fmt, ...) {
    va_list ap;
    snprintf(f->param, 96, "prompt.variables.%.70s", name);
    va_start(ap, fmt);
    srn_vfail(f->err, SRN_EINVAL, fmt, ap);
    va_end(ap);
    return srn_fail_prefix(f->err, SRN_EINVAL, "prompt.variables.%.70s", name);
}

/* A text may come as {"type": "input_text", "text": ...}, which clients of the Responses API may send. */
static const json_t *plain(const srn_prompt_variable *d, const json_t *v) {
    const char *type = json_string_value(json_object_get(v, "type"));
    const json_t *text = json_object_get(v, "text");
    bool is_text = d->type == SRN_PROMPT_STRING || d->type == SRN_PROMPT_ENUM;
    return is_text && type && strcmp(type, "input_text") == 0 && json_is_string(text) ? text : v;
}

static int take_value(filler *f, uint32_t i, const json_t *given) {
    const srn_prompt_variable *d = &f->p->variables[i];
    const json_t *v = given ? plain(d, given) : d->fallback;
    char why[240];
    if (!v)
        return wrong(f, d->name, "is missing; '%s' needs it (%s)", f->p->name, srn_prompt_type_name(d->type));
    if (!srn__prompt_value_fits(d, v, why)) return wrong(f, d->name, "%s", why);
    srn__prompt_put_value(&f->texts[i], v);
    if (f->texts[i].failed) return wrong(f, d->name, "has more than %d bytes", SRN__PROMPT_FILLED);
    if (d->max_bytes && f->texts[i].len > d->max_bytes)
        return wrong(f, d->name, "has %zu bytes; at most %u are allowed", f->texts[i].len, d->max_bytes);
    return SRN_OK;
}

static int take_values(filler *f, const json_t *variables) {
    const char *key;
    json_t *v;
    int code = SRN_OK;
    json_object_foreach((json_t *)(uintptr_t)variables, key, v) {
        if (srn__prompt_variable(f->p, srn_str_of(key))) continue;
        char known[200] = "";
        int n = 0;
        for (uint32_t i = 0; i < f->p->n_variables && n < 160; i++)
            n += snprintf(known + n, sizeof known - (size_t)n, "%s %.40s", i ? "," : ": it has",
                          f->p->variables[i].name);
        return wrong(f, key, "'%s' has no such variable%s", f->p->name, known);
    }
    for (uint32_t i = 0; !code && i < f->p->n_variables; i++)
        code = take_value(f, i, json_object_get(variables, f->p->variables[i].name));
    return code;
}

static int fill_text(filler *f, const json_t *from, json_t **ret) {
    srn_str text = {json_string_value(from), json_string_length(from)};
    srn_buf b;
    size_t at = 0;
    srn_buf_init(&b, SRN__PROMPT_FILLED);
    for (srn__piece x; (x = srn__prompt_piece(text, &at)).kind != SRN__PIECE_END;) {
        if (x.kind == SRN__PIECE_TEXT) {
            srn_buf_add(&b, x.text.ptr, x.text.len);
            continue;
        }
        const srn_prompt_variable *d = srn__prompt_variable(f->p, x.text);
        if (x.kind == SRN__PIECE_BAD || !d) break; /* not in a version that was parsed */
        const srn_buf *value = &f->texts[d - f->p->variables];
        srn_buf_add(&b, value->len ? value->data : "", value->len);
    }
    json_t *out = b.failed ? NULL : json_stringn(b.len ? b.data : "", b.len);
    bool large = b.failed;
    srn_buf_done(&b);
    if (large) {
        snprintf(f->param, 96, "prompt.variables");
        return srn_fail(f->err, SRN_ELIMIT,
                        "a message of '%s' would have more than %d bytes with the variables in place",
                        f->p->name, SRN__PROMPT_FILLED);
    }
    if (!out) return srn_fail_nomem(f->err, text.len);
    *ret = out;
    return SRN_OK;
}

static int fill_message(filler *f, json_t *m) {
    json_t *content = json_object_get(m, "content"), *part, *text = NULL;
    size_t i;
    int code = SRN_OK;
    if (json_is_string(content)) {
        code = fill_text(f, content, &text);
        if (!code && json_object_set_new(m, "content", text)) code = srn_fail_nomem(f->err, 0);
        return code;
    }
    json_array_foreach(content, i, part) {
        if (!code) code = fill_text(f, json_object_get(part, "text"), &text);
        if (!code && json_object_set_new(part, "text", text)) code = srn_fail_nomem(f->err, 0);
    }
    return code;
}

int srn_prompt_fill(const srn_prompt *p, const json_t *variables, json_t **ret, char ret_param[96],
                    srn_err *err) {
    filler f = {p, NULL, ret_param, err};
    json_t *messages = NULL, *m;
    size_t i;
    snprintf(ret_param, 96, "prompt.variables");
    if (variables && !json_is_null(variables) && !json_is_object(variables))
        return srn_fail(err, SRN_EINVAL, "prompt.variables must be an object, it is %s",
                        srn__prompt_kind(variables));
    f.texts = srn_calloc(p->n_variables + 1, sizeof *f.texts);
    if (!f.texts) return srn_fail_nomem(err, 0);
    for (i = 0; i < p->n_variables; i++) srn_buf_init(&f.texts[i], SRN__PROMPT_FILLED);
    int code = take_values(&f, variables);
    if (!code && !(messages = json_deep_copy(p->messages))) code = srn_fail_nomem(err, 0);
    json_array_foreach(messages, i, m) if (!code) code = fill_message(&f, m);
    for (i = 0; i < p->n_variables; i++) srn_buf_done(&f.texts[i]);
    free(f.texts);
    if (code) {
        json_decref(messages);
        return code;
    }
    *ret = messages;
    return SRN_OK;
}
