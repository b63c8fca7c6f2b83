/* The parts of a document: variables, models, messages, tools, the form of the answer, sampling defaults.
 * Each is checked, put into the canonical document and pointed at by the version. Pure; any thread.
 */
#include "chat/chat.h"
#include "constrain/constrain.h"
#include "prompts/checks.h"
#include "prompts/prompts_internal.h"

enum { MAX_TEXT = 512 << 10, MAX_STOPS = 16, MAX_STOP_BYTES = 1024, MAX_CHOICE = 1024, MAX_MODEL = 127 };

#define wrong srn__prompt_wrong

static int no_memory(const srn__prompt_reader *r) {
    return srn_fail_nomem(r->err, 0);
}

static int put(const srn__prompt_reader *r, const char *key, json_t *v) {
    return v && json_object_set_new(r->v->doc, key, v) == 0 ? SRN_OK : no_memory(r);
}

static json_t *hold(const json_t *v) {
    return json_incref((json_t *)(uintptr_t)v);
}

/* Texts [n] into the arena; each of 1 to max bytes, none twice. */
static int texts(const srn__prompt_reader *r, const json_t *list, const char *path, size_t most, size_t max,
                 const char *const **ret) {
    char at[600];
    size_t n = json_array_size(list);
    if (!json_is_array(list) || n == 0 || n > most)
        return wrong(r, SRN_EINVAL, path, "needs a list of 1 to %zu texts, it is %s of %zu", most,
                     srn__prompt_kind(list), n);
    const char **copy = srn_arena_alloc(&r->v->arena, n * sizeof *copy);
    if (!copy) return no_memory(r);
    for (size_t i = 0; i < n; i++) {
        const json_t *j = json_array_get(list, i);
        size_t len = json_string_length(j);
        snprintf(at, sizeof at, "%s[%zu]", path, i);
        if (!json_is_string(j) || len == 0 || len > max)
            return wrong(r, SRN_EINVAL, at, "needs a text of 1 to %zu bytes, it is %s", max,
                         srn__prompt_kind(j));
        copy[i] = srn_arena_strndup(&r->v->arena, json_string_value(j), len);
        if (!copy[i]) return no_memory(r);
        for (size_t k = 0; k < i; k++)
            if (strcmp(copy[k], copy[i]) == 0)
                return wrong(r, SRN_EINVAL, at, "stands there for the second time");
    }
    *ret = copy;
    return SRN_OK;
}

/* The first key of an object that is none of the known ones, or NULL. */
static const char *unknown_key(const json_t *o, const char *const *known, size_t n) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)o, key, v) {
        size_t i = 0;
        while (i < n && strcmp(key, known[i]) != 0) i++;
        if (i == n) return key;
    }
    return NULL;
}

static int refuse_unknown(const srn__prompt_reader *r, const json_t *o, const char *path,
                          const char *const *known, size_t n) {
    const char *key = unknown_key(o, known, n);
    char at[400], list[300] = "";
    int len = 0;
    if (!key) return SRN_OK;
    snprintf(at, sizeof at, "%s.%s", path, key);
    for (size_t i = 0; i < n && len < 260; i++)
        len += snprintf(list + len, sizeof list - (size_t)len, "%s%s", i ? ", " : "", known[i]);
    return wrong(r, SRN_EINVAL, at, "is unknown; there are %s", list);
}

int srn__prompt_read_models(srn__prompt_reader *r, const json_t *list) {
    r->v->pub.n_models = (uint32_t)json_array_size(list);
    int code = texts(r, list, "models", SRN__PROMPT_MODELS, MAX_MODEL, &r->v->pub.models);
    return code ? code : put(r, "models", hold(list));
}

/* ---- variables ---- */

static bool is_variable_name(const char *p) {
    char braces[SRN__PROMPT_WORD + 8];
    size_t at = 0;
    if (strlen(p) > SRN__PROMPT_WORD) return false;
    snprintf(braces, sizeof braces, "{{%s}}", p);
    srn__piece x = srn__prompt_piece(srn_str_of(braces), &at);
    return x.kind == SRN__PIECE_VARIABLE && srn_str_eqz(x.text, p);
}

static int read_type(const srn__prompt_reader *r, const json_t *j, const char *path, srn_prompt_type *ret) {
    const char *name = json_string_value(j);
    for (int t = SRN_PROMPT_STRING; name && t <= SRN_PROMPT_JSON; t++)
        if (strcmp(name, srn_prompt_type_name((srn_prompt_type)t)) == 0)
            return *ret = (srn_prompt_type)t, SRN_OK;
    return wrong(r, SRN_EINVAL, path,
                 "the type must be string, integer, number, boolean, enum or json, it is %s%s%.40s%s",
                 name ? "" : srn__prompt_kind(j), name ? "'" : "", name ? name : "", name ? "'" : "");
}

/* choices, max_bytes, description, and whether they fit the type. */
static int read_bounds(const srn__prompt_reader *r, const json_t *o, const char *path,
                       srn_prompt_variable *d) {
    const json_t *choices = json_object_get(o, "choices"), *max = json_object_get(o, "max_bytes"),
                 *about = json_object_get(o, "description");
    char at[600];
    int code = SRN_OK;
    snprintf(at, sizeof at, "%s.choices", path);
    if ((d->type == SRN_PROMPT_ENUM) != (choices != NULL))
        return wrong(r, SRN_EINVAL, at,
                     choices ? "is for variables of type enum" : "is missing; an enum needs it");
    if (choices) code = texts(r, choices, at, SRN__PROMPT_CHOICES, MAX_CHOICE, &d->choices);
    d->n_choices = (uint32_t)json_array_size(choices);
    snprintf(at, sizeof at, "%s.max_bytes", path);
    json_int_t n = json_integer_value(max);
    if (!code && max && !(json_is_integer(max) && n >= 1 && n <= SRN__PROMPT_FILLED))
        code = wrong(r, SRN_EINVAL, at, "needs an integer from 1 to %d", SRN__PROMPT_FILLED);
    d->max_bytes = code ? 0 : (uint32_t)n;
    snprintf(at, sizeof at, "%s.description", path);
    if (!code && about && !json_is_string(about))
        code = wrong(r, SRN_EINVAL, at, "needs a text, it is %s", srn__prompt_kind(about));
    if (!code && about) {
        d->description = srn_arena_strndup(&r->v->arena, json_string_value(about), json_string_length(about));
        if (!d->description) code = no_memory(r);
    }
    return code;
}

static int read_default(const srn__prompt_reader *r, const json_t *o, const char *path,
                        srn_prompt_variable *d) {
    const json_t *v = json_object_get(o, "default"), *required = json_object_get(o, "required");
    char at[600], why[240];
    snprintf(at, sizeof at, "%s.required", path);
    if (required && !json_is_boolean(required))
        return wrong(r, SRN_EINVAL, at, "needs true or false, it is %s", srn__prompt_kind(required));
    if (json_is_true(required) && v)
        return wrong(r, SRN_EINVAL, at, "a variable with a default is not required");
    if (json_is_false(required) && !v)
        return wrong(r, SRN_EINVAL, at, "a variable that is not required needs a default");
    d->required = !v;
    if (!v) return SRN_OK;
    snprintf(at, sizeof at, "%s.default", path);
    if (!srn__prompt_value_fits(d, v, why)) return wrong(r, SRN_EINVAL, at, "%s", why);
    srn_buf b;
    srn_buf_init(&b, SRN_PROMPT_FILE_MAX);
    srn__prompt_put_value(&b, v);
    bool large = b.failed || (d->max_bytes && b.len > d->max_bytes);
    srn_buf_done(&b);
    return large ? wrong(r, SRN_EINVAL, at, "has more bytes than max_bytes allows") : SRN_OK;
}

/* In its canonical form: a mapping, with only what was said. */
static json_t *variable_json(const json_t *o, const srn_prompt_variable *d) {
    static const char *const keys[] = {"description", "choices", "max_bytes", "default"};
    json_t *out = json_object();
    if (!out || json_object_set_new(out, "type", json_string(srn_prompt_type_name(d->type)))) goto failed;
    for (size_t i = 0; i < SRN_LEN(keys); i++) {
        json_t *v = json_object_get(o, keys[i]);
        if (v && json_object_set(out, keys[i], v)) goto failed;
    }
    return out;
failed:
    json_decref(out);
    return NULL;
}

/* "name: string" is short for "name: {type: string}". */
static int read_variable(const srn__prompt_reader *r, const char *name, const json_t *o,
                         srn_prompt_variable *d, json_t *all) {
    static const char *const known[] = {"type", "description", "required", "default", "choices", "max_bytes"};
    char path[400];
    snprintf(path, sizeof path, "variables.%s", name);
    if (!is_variable_name(name))
        return wrong(r, SRN_EINVAL, path,
                     "a variable's name has up to %d letters, digits and '_', and begins with no digit",
                     SRN__PROMPT_WORD);
    if (!json_is_object(o) && !json_is_string(o))
        return wrong(r, SRN_EINVAL, path, "needs a type, or a mapping with one; it is %s",
                     srn__prompt_kind(o));
    int code = refuse_unknown(r, o, path, known, SRN_LEN(known));
    if (!code) code = read_type(r, json_is_string(o) ? o : json_object_get(o, "type"), path, &d->type);
    if (!code) code = read_bounds(r, o, path, d);
    if (!code) code = read_default(r, o, path, d);
    if (code) return code;
    d->name = srn_arena_strndup(&r->v->arena, name, strlen(name));
    json_t *canonical = variable_json(o, d);
    if (!d->name || !canonical || json_object_set_new(all, name, canonical)) return no_memory(r);
    d->fallback = json_object_get(canonical, "default");
    return SRN_OK;
}

int srn__prompt_read_variables(srn__prompt_reader *r, const json_t *o) {
    const char *name;
    json_t *v;
    size_t n = json_object_size(o), i = 0;
    if (!json_is_object(o))
        return wrong(r, SRN_EINVAL, "variables", "needs a mapping, it is %s", srn__prompt_kind(o));
    if (n > SRN__PROMPT_VARIABLES)
        return wrong(r, SRN_ELIMIT, "variables", "there are %zu; at most %d are allowed", n,
                     SRN__PROMPT_VARIABLES);
    if (n == 0) return SRN_OK;
    srn_prompt_variable *list = srn_arena_alloc(&r->v->arena, n * sizeof *list);
    json_t *all = json_object();
    int code = list ? put(r, "variables", all) : (json_decref(all), no_memory(r));
    json_object_foreach((json_t *)(uintptr_t)o, name, v) if (!code) code =
        read_variable(r, name, v, &list[i++], all);
    r->v->pub.variables = list;
    r->v->pub.n_variables = code ? 0 : (uint32_t)n;
    return code;
}

/* ---- messages ---- */

/* Every variable of a text is declared; used [n_variables] tells which ones were. */
static int check_text(const srn__prompt_reader *r, const json_t *j, const char *path, bool *used) {
    srn_str text = {json_string_value(j), json_string_length(j)};
    size_t at = 0;
    if (!json_is_string(j)) return wrong(r, SRN_EINVAL, path, "needs a text, it is %s", srn__prompt_kind(j));
    if (text.len > MAX_TEXT)
        return wrong(r, SRN_ELIMIT, path, "has %zu bytes; at most %d are allowed", text.len, MAX_TEXT);
    for (srn__piece x; (x = srn__prompt_piece(text, &at)).kind != SRN__PIECE_END;) {
        char shown[48];
        int n = (int)SRN_MIN(x.text.len, (size_t)30);
        while (n > 0 && (x.text.ptr[n - 1] & 0x80)) n--; /* no cut character */
        snprintf(shown, sizeof shown, "%.*s", n, x.text.ptr);
        if (x.kind == SRN__PIECE_BAD)
            return wrong(r, SRN_EINVAL, path,
                         "'%s' is no variable: write {{name}}, and nothing else between the braces; {{{{ "
                         "stands for two braces of the text",
                         shown);
        if (x.kind != SRN__PIECE_VARIABLE) continue;
        const srn_prompt_variable *d = srn__prompt_variable(&r->v->pub, x.text);
        if (!d) return wrong(r, SRN_EINVAL, path, "uses '%s', which is not declared in variables", shown);
        used[d - r->v->pub.variables] = true;
    }
    return SRN_OK;
}

static int check_parts(const srn__prompt_reader *r, const json_t *parts, const char *path, bool *used) {
    static const char *const known[] = {"type", "text"};
    char at[600];
    json_t *part;
    size_t i;
    json_array_foreach(parts, i, part) {
        snprintf(at, sizeof at, "%s[%zu]", path, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!type || strcmp(type, "text") != 0)
            return wrong(r, SRN_EUNSUP, at, "needs the type text; parts of other types are not supported");
        int code = refuse_unknown(r, part, at, known, SRN_LEN(known));
        snprintf(at, sizeof at, "%s[%zu].text", path, i);
        if (!code) code = check_text(r, json_object_get(part, "text"), at, used);
        if (code) return code;
    }
    return SRN_OK;
}

static int check_calls(const srn__prompt_reader *r, const json_t *calls, size_t message) {
    char at[100];
    json_t *call;
    size_t i;
    snprintf(at, sizeof at, "messages[%zu].tool_calls", message);
    if (calls && !json_is_array(calls))
        return wrong(r, SRN_EINVAL, at, "needs a list, it is %s", srn__prompt_kind(calls));
    json_array_foreach(calls, i, call) {
        const json_t *f = json_object_get(call, "function"), *a = json_object_get(f, "arguments");
        snprintf(at, sizeof at, "messages[%zu].tool_calls[%zu]", message, i);
        if (!json_string_length(json_object_get(f, "name")) || !(json_is_string(a) || json_is_object(a)))
            return wrong(r, SRN_EINVAL, at, "needs a function with a name and arguments");
    }
    return SRN_OK;
}

static int check_message(const srn__prompt_reader *r, const json_t *m, size_t i, bool *used) {
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    static const char *const known[] = {"role",       "content",      "name",
                                        "tool_calls", "tool_call_id", "reasoning_content"};
    char path[64], at[100];
    bool is_role = false;
    snprintf(path, sizeof path, "messages[%zu]", i);
    if (!json_is_object(m))
        return wrong(r, SRN_EINVAL, path, "needs a mapping with role and content, it is %s",
                     srn__prompt_kind(m));
    int code = refuse_unknown(r, m, path, known, SRN_LEN(known));
    const char *role = json_string_value(json_object_get(m, "role"));
    const json_t *content = json_object_get(m, "content"), *calls = json_object_get(m, "tool_calls");
    for (size_t k = 0; role && k < SRN_LEN(roles); k++) is_role = is_role || strcmp(role, roles[k]) == 0;
    snprintf(at, sizeof at, "messages[%zu].role", i);
    if (!code && !is_role)
        code = wrong(r, SRN_EINVAL, at, "must be system, developer, user, assistant or tool");
    static const char *const words[] = {"name", "tool_call_id", "reasoning_content"};
    for (size_t k = 0; !code && k < SRN_LEN(words); k++) {
        const json_t *j = json_object_get(m, words[k]);
        snprintf(at, sizeof at, "messages[%zu].%s", i, words[k]);
        if (j && !json_is_string(j))
            code = wrong(r, SRN_EINVAL, at, "needs a text, it is %s", srn__prompt_kind(j));
    }
    if (!code) code = check_calls(r, calls, i);
    if (code) return code;
    snprintf(at, sizeof at, "messages[%zu].content", i);
    if (json_is_array(content)) return check_parts(r, content, at, used);
    if (json_array_size(calls) && strcmp(role, "assistant") == 0 && (!content || json_is_null(content)))
        return SRN_OK;
    return check_text(r, content, at, used);
}

int srn__prompt_read_messages(srn__prompt_reader *r, const json_t *list) {
    const srn_prompt *p = &r->v->pub;
    size_t n = json_array_size(list);
    bool used[SRN__PROMPT_VARIABLES] = {false};
    char at[100];
    int code = SRN_OK;
    if (!json_is_array(list) || n == 0 || n > SRN__PROMPT_MESSAGES)
        return wrong(r, SRN_EINVAL, "messages", "needs a list of 1 to %d messages, it is %s of %zu",
                     SRN__PROMPT_MESSAGES, srn__prompt_kind(list), n);
    for (size_t i = 0; !code && i < n; i++) code = check_message(r, json_array_get(list, i), i, used);
    for (uint32_t i = 0; !code && i < p->n_variables; i++) {
        snprintf(at, sizeof at, "variables.%.70s", p->variables[i].name);
        if (!used[i])
            code = wrong(r, SRN_EINVAL, at, "no message uses it; take it out, or write {{%s}}",
                         p->variables[i].name);
    }
    if (code) return code;
    r->v->pub.messages = list;
    return put(r, "messages", hold(list));
}

/* ---- tools and the form of the answer ---- */

static int check_tool(const srn__prompt_reader *r, const json_t *tools, size_t i) {
    char at[64];
    const json_t *tool = json_array_get(tools, i), *f = json_object_get(tool, "function");
    const json_t *name = json_object_get(f, "name"), *params = json_object_get(f, "parameters");
    const char *type = json_string_value(json_object_get(tool, "type"));
    snprintf(at, sizeof at, "tools[%zu]", i);
    if (!type || strcmp(type, "function") != 0 || !json_string_length(name))
        return wrong(r, SRN_EINVAL, at, "needs the type function, and a function with a name");
    if (json_string_length(name) > 64 ||
        strspn(json_string_value(name),
               "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") !=
            json_string_length(name))
        return wrong(r, SRN_EINVAL, at, "the name must be 1 to 64 letters, digits, '_', '-' or '.'");
    if (params && !json_is_object(params))
        return wrong(r, SRN_EINVAL, at, "parameters must be a JSON schema, it is %s",
                     srn__prompt_kind(params));
    for (size_t k = 0; k < i; k++)
        if (json_equal(name, json_object_get(json_object_get(json_array_get(tools, k), "function"), "name")))
            return wrong(r, SRN_EINVAL, at, "a tool of this name stands there already");
    return SRN_OK;
}

int srn__prompt_read_tools(srn__prompt_reader *r, const json_t *list) {
    size_t n = json_array_size(list);
    int code = SRN_OK;
    if (!json_is_array(list) || n == 0 || n > SRN__PROMPT_TOOLS)
        return wrong(r, SRN_EINVAL, "tools", "needs a list of 1 to %d tools, it is %s of %zu",
                     SRN__PROMPT_TOOLS, srn__prompt_kind(list), n);
    for (size_t i = 0; !code && i < n; i++) code = check_tool(r, list, i);
    if (code) return code;
    r->v->pub.tools = list;
    return put(r, "tools", hold(list));
}

int srn__prompt_read_format(srn__prompt_reader *r, const json_t *o) {
    static const char *const known[] = {"type", "json_schema"};
    const char *type = json_string_value(json_object_get(o, "type"));
    const json_t *schema = json_object_get(json_object_get(o, "json_schema"), "schema");
    bool with_schema = type && strcmp(type, "json_schema") == 0;
    if (!type || !(with_schema || strcmp(type, "text") == 0 || strcmp(type, "json_object") == 0))
        return wrong(r, SRN_EINVAL, "response_format", "needs the type text, json_object or json_schema");
    int code = refuse_unknown(r, o, "response_format", known, SRN_LEN(known));
    if (code) return code;
    if (with_schema != (json_object_get(o, "json_schema") != NULL) || (with_schema && !schema))
        return wrong(r, SRN_EINVAL, "response_format.json_schema",
                     with_schema ? "needs a mapping with a schema" : "is for the type json_schema");
    if (with_schema && !r->stored) {
        srn_constraint *c = NULL;
        code = srn_constraint_of_schema(schema, &c, r->err);
        srn_constraint_free(c);
        if (code) {
            srn_err why = *r->err;
            return wrong(r, code, "response_format.json_schema.schema", "%s", why.text);
        }
    }
    r->v->pub.response_format = o;
    return put(r, "response_format", hold(o));
}

/* ---- sampling ---- */

typedef struct range {
    const char *name;
    bool whole;
    double min, max; /* both allowed */
} range;
static const range ranges[] = {
    {"temperature", false, 0, 2},         {"top_p", false, 0, 1},
    {"top_k", true, 0, INT32_MAX},        {"min_p", false, 0, 1},
    {"presence_penalty", false, -2, 2},   {"frequency_penalty", false, -2, 2},
    {"repeat_penalty", false, 0.01, 100}, {"repeat_last_n", true, -1, INT32_MAX},
    {"max_tokens", true, 1, INT32_MAX},   {"seed", true, 0, 9007199254740991.0},
};

static int check_number(const srn__prompt_reader *r, const char *name, const json_t *v) {
    char at[600];
    snprintf(at, sizeof at, "sampling.%s", name);
    for (size_t i = 0; i < SRN_LEN(ranges); i++) {
        const range *d = &ranges[i];
        if (strcmp(name, d->name) != 0) continue;
        double x = json_number_value(v);
        if (d->whole ? !json_is_integer(v) : !json_is_number(v))
            return wrong(r, SRN_EINVAL, at, "needs %s, it is %s", d->whole ? "an integer" : "a number",
                         srn__prompt_kind(v));
        if (!(x >= d->min && x <= d->max))
            return wrong(r, SRN_EINVAL, at, "is %.10g; it must be from %.10g to %.16g", x, d->min, d->max);
        return SRN_OK;
    }
    return wrong(r, SRN_EINVAL, at,
                 "is unknown; there are temperature, top_p, top_k, min_p, presence_penalty, "
                 "frequency_penalty, repeat_penalty, repeat_last_n, max_tokens, seed and stop");
}

int srn__prompt_read_sampling(srn__prompt_reader *r, const json_t *o) {
    const char *name, *const *stops;
    json_t *v;
    int code = SRN_OK;
    if (!json_is_object(o) || !json_object_size(o))
        return wrong(r, SRN_EINVAL, "sampling", "needs a mapping with at least one parameter, it is %s",
                     srn__prompt_kind(o));
    json_object_foreach((json_t *)(uintptr_t)o, name, v) {
        if (code) break;
        code = strcmp(name, "stop") == 0 ? texts(r, v, "sampling.stop", MAX_STOPS, MAX_STOP_BYTES, &stops)
                                         : check_number(r, name, v);
    }
    if (code) return code;
    r->v->pub.sampling = o;
    return put(r, "sampling", hold(o));
}

/* What answers must satisfy: compiled once, to see that they can be. */
int srn__prompt_read_checks(srn__prompt_reader *r, const json_t *list) {
    srn_checks *c = NULL;
    srn_err why = {0};
    int code = r->stored ? SRN_OK : srn_checks_new(list, "checks", &c, &why);
    srn_checks_free(c);
    if (code) return wrong(r, code, "checks", "%s", why.text);
    r->v->pub.checks = list;
    return put(r, "checks", hold(list));
}
