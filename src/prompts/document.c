/* A version's document: a file (YAML or JSON) or a JSON value becomes a checked srn_prompt with its canonical
 * document and hash. Strict: what is unknown, twice, of another type or too much is refused with file, line
 * and key. Pure; any thread, and fuzzers.
 */
#include "prompts/prompts_internal.h"

#include <stdlib.h>

enum { ARENA_BYTES = 16 << 20, MAX_DOCUMENT = 2 << 20, MAX_KEY = 250, MAX_DESCRIPTION = 4096 };

int srn__prompt_wrong(const srn__prompt_reader *r, int code, const char *path, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    srn_vfail(r->err, code, fmt, ap);
    va_end(ap);
    if (*path) srn_fail_prefix(r->err, code, "%s", path);
    return r->yaml ? srn_fail_prefix(r->err, code, "%s:%u", r->file, srn_yaml_line(r->yaml, path))
                   : srn_fail_prefix(r->err, code, "%s", r->file);
}

const char *srn__prompt_kind(const json_t *j) {
    if (!j) return "missing";
    static const char *const names[] = {
        [JSON_OBJECT] = "a mapping",   [JSON_ARRAY] = "a list",  [JSON_STRING] = "a text",
        [JSON_INTEGER] = "an integer", [JSON_REAL] = "a number", [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",        [JSON_NULL] = "null"};
    return names[json_typeof(j)];
}

/* ---- life ---- */

void srn_prompt_free(srn_prompt *p) {
    if (!p) return;
    srn__version *v = srn__version_of(p);
    if (atomic_fetch_sub(&v->refs, 1) != 1) return;
    json_decref(v->doc);
    json_decref(v->source);
    srn_arena_done(&v->arena);
    free(v);
}

void srn_prompts_put(const srn_prompt *p) {
    srn_prompt_free((srn_prompt *)(uintptr_t)p);
}

/* ---- the whole ---- */

/* What any value may be: not too deep, with keys that YAML can hold too. */
static int check_tree(const srn__prompt_reader *r, const json_t *v, int depth) {
    const char *key;
    json_t *item;
    size_t i;
    int code = SRN_OK;
    if (depth > SRN__PROMPT_DEPTH)
        return srn__prompt_wrong(r, SRN_ELIMIT, "", "nested more than %d deep", SRN__PROMPT_DEPTH);
    json_array_foreach(v, i, item) if (!code) code = check_tree(r, item, depth + 1);
    json_object_foreach((json_t *)(uintptr_t)v, key, item) {
        if (!code && strlen(key) > MAX_KEY)
            code = srn__prompt_wrong(r, SRN_ELIMIT, "", "the key '%.60s...' has more than %d bytes", key,
                                     MAX_KEY);
        if (!code) code = check_tree(r, item, depth + 1);
    }
    return code;
}

static int read_description(srn__prompt_reader *r, const json_t *j) {
    if (!json_is_string(j) || json_string_length(j) > MAX_DESCRIPTION)
        return srn__prompt_wrong(r, SRN_EINVAL, "description", "needs a text of at most %d bytes, it is %s",
                                 MAX_DESCRIPTION, srn__prompt_kind(j));
    if (json_object_set(r->v->doc, "description", (json_t *)(uintptr_t)j)) return srn_fail_nomem(r->err, 0);
    r->v->pub.description = json_string_value(json_object_get(r->v->doc, "description"));
    return SRN_OK;
}

/* In the order of the canonical document; variables before the texts that use them. */
typedef struct section {
    const char *key;
    int (*read)(srn__prompt_reader *r, const json_t *j);
} section;
static const section sections[] = {
    {"description", read_description},         {"models", srn__prompt_read_models},
    {"variables", srn__prompt_read_variables}, {"messages", srn__prompt_read_messages},
    {"tools", srn__prompt_read_tools},         {"response_format", srn__prompt_read_format},
    {"sampling", srn__prompt_read_sampling},   {"checks", srn__prompt_read_checks},
};

static int check_keys(const srn__prompt_reader *r, const json_t *o) {
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)(uintptr_t)o, key, item) {
        size_t i = 0;
        while (i < SRN_LEN(sections) && strcmp(key, sections[i].key) != 0) i++;
        if (i == SRN_LEN(sections))
            return srn__prompt_wrong(r, SRN_EINVAL, key,
                                     "is unknown; a prompt has description, models, variables, messages, "
                                     "tools, response_format, sampling and checks");
    }
    return SRN_OK;
}

static int seal(srn__prompt_reader *r) {
    srn_buf b;
    srn_buf_init(&b, MAX_DOCUMENT);
    srn__prompt_put(&b, r->v->doc);
    srn_sha256 *h = b.failed ? NULL : srn_sha256_new();
    int code = b.failed ? srn__prompt_wrong(r, SRN_ELIMIT, "", "has more than %d bytes as JSON", MAX_DOCUMENT)
               : h      ? SRN_OK
                        : srn_fail_nomem(r->err, 128);
    if (!code) {
        uint8_t digest[SRN_SHA256_BYTES];
        srn_sha256_add(h, b.data, b.len);
        srn_sha256_end(h, digest);
        srn_hex(digest, sizeof digest, r->v->pub.hash);
    }
    srn_buf_done(&b);
    return code;
}

int srn__prompt_read(srn__prompt_reader *r, const json_t *value) {
    if (!json_is_object(value))
        return srn__prompt_wrong(r, SRN_EINVAL, "", "a prompt is a mapping, this is %s",
                                 srn__prompt_kind(value));
    int code = check_tree(r, value, 1);
    if (!code) code = check_keys(r, value);
    if (!code && !(r->v->doc = json_object())) code = srn_fail_nomem(r->err, 0);
    if (!code && !json_object_get(value, "messages"))
        code = srn__prompt_wrong(r, SRN_EINVAL, "messages", "is missing; a prompt has at least one message");
    for (size_t i = 0; !code && i < SRN_LEN(sections); i++) {
        const json_t *j = json_object_get(value, sections[i].key);
        if (j) code = sections[i].read(r, j);
    }
    return code ? code : seal(r);
}

static int build(srn__prompt_reader *r, const json_t *value, srn_prompt **ret) {
    r->v = srn_calloc(1, sizeof *r->v);
    if (!r->v) return srn_fail_nomem(r->err, sizeof *r->v);
    atomic_init(&r->v->refs, 1);
    srn_arena_init(&r->v->arena, ARENA_BYTES);
    r->v->pub.name = "this prompt";
    json_t *own = json_deep_copy(value); /* nobody else's, who might change it */
    int code = own ? srn__prompt_read(r, own) : srn_fail_nomem(r->err, 0);
    json_decref(own);
    if (code)
        srn_prompt_free(&r->v->pub);
    else
        *ret = &r->v->pub;
    return code;
}

int srn_prompt_of_json(const json_t *value, const char *what, srn_prompt **ret, srn_err *err) {
    srn__prompt_reader r = {.file = what, .err = err};
    return build(&r, value, ret);
}

int srn__prompt_stored(const json_t *document, const char *what, srn_prompt **ret, srn_err *err) {
    srn__prompt_reader r = {.file = what, .err = err, .stored = true};
    return build(&r, document, ret);
}

static int parse_json(srn_str text, const char *file, srn_prompt **ret, srn_err *err) {
    json_error_t e;
    json_t *v = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &e);
    if (!v) return srn_fail(err, SRN_EFORMAT, "%s:%d:%d: %s", file, e.line, e.column, e.text);
    int code = srn_prompt_of_json(v, file, ret, err);
    json_decref(v);
    return code;
}

int srn_prompt_parse(srn_str text, const char *file, srn_prompt **ret, srn_err *err) {
    size_t i = 0;
    if (text.len > SRN_PROMPT_FILE_MAX)
        return srn_fail(err, SRN_ELIMIT, "%s: %zu bytes; a prompt file has at most %d", file, text.len,
                        SRN_PROMPT_FILE_MAX);
    while (i < text.len && strchr(" \t\r\n", text.ptr[i]) && text.ptr[i]) i++;
    if (i < text.len && text.ptr[i] == '{') return parse_json(text, file, ret, err);
    srn_yaml *y = NULL;
    json_t *v = NULL;
    int code = srn_yaml_parse(text, file, SRN__PROMPT_DEPTH, &y, err);
    if (!code) code = srn_yaml_json(y, &v, err);
    if (!code) {
        srn__prompt_reader r = {.file = file, .yaml = y, .err = err};
        code = build(&r, v, ret);
    }
    json_decref(v);
    srn_yaml_free(y);
    return code;
}
