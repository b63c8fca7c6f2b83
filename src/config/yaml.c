/* YAML to a tree that remembers lines, over libyaml's events. Pure: bytes in, nodes out. Refuses what makes a
 * configuration ambiguous: duplicate keys, anchors and aliases, tags, a second document, keys that are no
 * strings.
 */
#include <stdlib.h>
#include <yaml.h>

#include "config/config_internal.h"

#define MAX_NODES 100000
#define MAX_KEYS  4096 /* of one mapping */

typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the current one */
    bool has_event;
    srn_arena *arena;
    const char *name;
    srn_err *err;
    uint32_t n_nodes, max_depth;
} reader;

static int fail_at(reader *r, yaml_mark_t m, const char *what) {
    return srn_fail(r->err, SRN_EFORMAT, "%s:%zu:%zu: %s", r->name, m.line + 1, m.column + 1, what);
}

static int next(reader *r) {
    if (r->has_event) yaml_event_delete(&r->event);
    r->has_event = false;
    if (yaml_parser_parse(&r->parser, &r->event)) return r->has_event = true, SRN_OK;
    if (r->parser.error == YAML_MEMORY_ERROR) return srn_fail_nomem(r->err, 0);
    yaml_mark_t m = r->parser.problem_mark;
    if (r->parser.error == YAML_READER_ERROR)
        return srn_fail(r->err, SRN_EFORMAT, "%s: byte %zu: %s", r->name, r->parser.problem_offset,
                        r->parser.problem ? r->parser.problem : "malformed text");
    return fail_at(r, m, r->parser.problem ? r->parser.problem : "malformed YAML");
}

static srn__node *new_node(reader *r, srn__node_kind kind) {
    srn__node *n = r->n_nodes++ < MAX_NODES ? srn_arena_alloc(r->arena, sizeof *n) : NULL;
    if (!n) {
        srn_fail(r->err, SRN_ELIMIT, "%s: too large", r->name);
        return NULL;
    }
    n->kind = kind;
    n->line = (uint32_t)r->event.start_mark.line + 1;
    n->column = (uint32_t)r->event.start_mark.column + 1;
    return n;
}

static int read_value(reader *r, uint32_t depth, srn__node **ret);

static int read_list(reader *r, uint32_t depth, srn__node *list) {
    srn__node **tail = &list->first;
    for (;;) {
        int code = next(r);
        if (code || r->event.type == YAML_SEQUENCE_END_EVENT) return code;
        code = read_value(r, depth + 1, tail);
        if (code) return code;
        tail = &(*tail)->next;
        list->n++;
    }
}

static int read_key(reader *r, const srn__node *map, char **ret) {
    const yaml_event_t *e = &r->event;
    if (e->type == YAML_ALIAS_EVENT || (e->type == YAML_SCALAR_EVENT && e->data.scalar.anchor))
        return fail_at(r, e->start_mark, "anchors and aliases are not allowed; write the value out");
    if (e->type != YAML_SCALAR_EVENT) return fail_at(r, e->start_mark, "a key must be a name");
    if (strlen((const char *)e->data.scalar.value) != e->data.scalar.length)
        return fail_at(r, e->start_mark, "a key holds a NUL byte");
    if (map->n >= MAX_KEYS) return fail_at(r, e->start_mark, "more than 4,096 keys in one mapping");
    *ret = srn_arena_strndup(r->arena, (const char *)e->data.scalar.value, e->data.scalar.length);
    if (!*ret) return srn_fail(r->err, SRN_ELIMIT, "%s: too large", r->name);
    for (const srn__node *n = map->first; n; n = n->next)
        if (strcmp(n->key, *ret) == 0) {
            char text[200];
            snprintf(text, sizeof text,
                     "the key '%.80s' stands here for the second time; the first is in line %u", *ret,
                     n->key_line);
            return fail_at(r, e->start_mark, text);
        }
    return SRN_OK;
}

static int read_map(reader *r, uint32_t depth, srn__node *map) {
    srn__node **tail = &map->first;
    for (;;) {
        char *key = NULL;
        int code = next(r);
        if (code || r->event.type == YAML_MAPPING_END_EVENT) return code;
        uint32_t line = (uint32_t)r->event.start_mark.line + 1;
        code = read_key(r, map, &key);
        if (!code) code = next(r);
        srn__node *n = NULL;
        if (!code) code = read_value(r, depth + 1, &n);
        if (code) return code;
        n->key = key;
        n->key_line = line;
        *tail = n;
        tail = &n->next;
        map->n++;
    }
}

static int read_scalar(reader *r, srn__node *n) {
    const char *text = (const char *)r->event.data.scalar.value;
    size_t len = r->event.data.scalar.length;
    if (memchr(text, 0, len)) return fail_at(r, r->event.start_mark, "the value holds a NUL byte");
    n->text = (srn_str){srn_arena_strndup(r->arena, text, len), len};
    n->quoted = r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    return n->text.ptr ? SRN_OK : srn_fail(r->err, SRN_ELIMIT, "%s: too large", r->name);
}

/* The value that begins with the current event. */
static int read_value(reader *r, uint32_t depth, srn__node **ret) {
    const yaml_event_t *e = &r->event;
    if (depth > r->max_depth) return fail_at(r, e->start_mark, "nested too deeply");
    bool scalar = e->type == YAML_SCALAR_EVENT, list = e->type == YAML_SEQUENCE_START_EVENT;
    if (e->type == YAML_ALIAS_EVENT || (scalar && e->data.scalar.anchor) ||
        (list && e->data.sequence_start.anchor) ||
        (e->type == YAML_MAPPING_START_EVENT && e->data.mapping_start.anchor))
        return fail_at(r, e->start_mark, "anchors and aliases are not allowed; write the value out");
    if ((scalar && e->data.scalar.tag) || (list && e->data.sequence_start.tag) ||
        (e->type == YAML_MAPPING_START_EVENT && e->data.mapping_start.tag))
        return fail_at(r, e->start_mark, "tags are not allowed");
    srn__node *n = new_node(r, scalar ? SRN__SCALAR : list ? SRN__LIST : SRN__MAP);
    if (!n) return r->err ? r->err->code : SRN_ELIMIT;
    int code = scalar ? read_scalar(r, n) : list ? read_list(r, depth, n) : read_map(r, depth, n);
    if (!code) *ret = n;
    return code;
}

/* Everything between the parser's birth and death. */
static int read_stream(reader *r, srn__node **ret) {
    int code = next(r); /* the stream's start */
    if (!code) code = next(r);
    if (code) return code;
    if (r->event.type == YAML_STREAM_END_EVENT) {
        *ret = new_node(r, SRN__MAP);
        return *ret ? SRN_OK : SRN_ELIMIT;
    }
    srn__node *root = NULL;
    code = next(r);
    if (!code) code = read_value(r, 0, &root);
    if (!code) code = next(r); /* the document's end */
    if (!code) code = next(r);
    if (code) return code;
    if (r->event.type != YAML_STREAM_END_EVENT)
        return fail_at(r, r->event.start_mark, "a second document; there can be only one");
    if (root->kind == SRN__SCALAR && root->text.len == 0 && !root->quoted) root->kind = SRN__MAP;
    *ret = root;
    return SRN_OK;
}

int srn__yaml_parse(srn_arena *a, srn_str text, const char *name, uint32_t max_depth, srn__node **ret,
                    srn_err *err) {
    srn_err none;
    reader r = {.arena = a, .name = name, .err = err ? err : &none, .max_depth = max_depth};
    if (!yaml_parser_initialize(&r.parser)) return srn_fail_nomem(err, sizeof r.parser);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text.ptr, text.len);
    int code = read_stream(&r, ret);
    if (r.has_event) yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return code;
}
