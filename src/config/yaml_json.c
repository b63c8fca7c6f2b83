/* YAML's tree as JSON values, and places of it by their paths (yaml.h). Pure; any thread. */
#include "config/yaml.h"

#include <stdlib.h>

#include "config/config_internal.h"

struct srn_yaml {
    srn_arena arena;
    srn__node *root;
    const char *name;
};

enum { ARENA_BYTES = 64 << 20 };

int srn_yaml_parse(srn_str text, const char *name, uint32_t max_depth, srn_yaml **ret, srn_err *err) {
    srn_yaml *y = srn_calloc(1, sizeof *y);
    if (!y) return srn_fail_nomem(err, sizeof *y);
    srn_arena_init(&y->arena, ARENA_BYTES);
    y->name = srn_arena_strndup(&y->arena, name, strlen(name));
    int code = y->name ? srn__yaml_parse(&y->arena, text, y->name, max_depth, &y->root, err)
                       : srn_fail_nomem(err, strlen(name));
    if (code) {
        srn_yaml_free(y);
        return code;
    }
    *ret = y;
    return SRN_OK;
}

void srn_yaml_free(srn_yaml *y) {
    if (!y) return;
    srn_arena_done(&y->arena);
    free(y);
}

/* ---- values ---- */

static bool is_one_of(srn_str s, const char *const *words, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (srn_str_eqz(s, words[i])) return true;
    return false;
}

static json_t *scalar(const srn__node *n) {
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"},
                             *const yes[] = {"true", "True", "TRUE"},
                             *const no[] = {"false", "False", "FALSE"};
    if (!n->quoted) {
        char c = n->text.len ? n->text.ptr[0] : 0;
        if (is_one_of(n->text, nulls, SRN_LEN(nulls))) return json_null();
        if (is_one_of(n->text, yes, SRN_LEN(yes))) return json_true();
        if (is_one_of(n->text, no, SRN_LEN(no))) return json_false();
        if (c == '-' || (c >= '0' && c <= '9')) {
            json_t *v = json_loadb(n->text.ptr, n->text.len, JSON_DECODE_ANY, NULL);
            if (v) return v;
        }
    }
    return json_stringn(n->text.ptr, n->text.len);
}

json_t *srn__yaml_value(const srn__node *n) {
    if (n->kind == SRN__SCALAR) return scalar(n);
    json_t *v = n->kind == SRN__LIST ? json_array() : json_object();
    for (const srn__node *e = n->first; v && e; e = e->next) {
        json_t *item = srn__yaml_value(e);
        int failed = !item || (n->kind == SRN__LIST ? json_array_append_new(v, item)
                                                    : json_object_set_new(v, e->key, item));
        if (!failed) continue;
        json_decref(v);
        return NULL;
    }
    return v;
}

int srn_yaml_json(const srn_yaml *y, json_t **ret, srn_err *err) {
    json_t *v = srn__yaml_value(y->root);
    if (!v) return srn_fail(err, SRN_ENOMEM, "%s: out of memory", y->name);
    *ret = v;
    return SRN_OK;
}

/* ---- places ---- */

/* The entry that the path goes on with; *path is moved behind its name. */
static const srn__node *step(const srn__node *n, const char **path) {
    const char *p = *path;
    const srn__node *e = n->first;
    if (*p == '.') p++;
    if (*p == '[') {
        char *end;
        unsigned long i = strtoul(p + 1, &end, 10);
        *path = *end == ']' ? end + 1 : end;
        if (n->kind != SRN__LIST) return NULL;
        while (e && i--) e = e->next;
        return e;
    }
    size_t len = strcspn(p, ".[");
    *path = p + len;
    if (n->kind != SRN__MAP) return NULL;
    while (e && !(strlen(e->key) == len && memcmp(e->key, p, len) == 0)) e = e->next;
    return e;
}

uint32_t srn_yaml_line(const srn_yaml *y, const char *path) {
    const srn__node *at = y->root;
    while (*path) {
        const srn__node *next = step(at, &path);
        if (!next) break;
        at = next;
    }
    return at->key ? at->key_line : at->line;
}
