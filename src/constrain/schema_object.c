/* constrain: objects. Declared properties come in the schema's order, optional ones may be left out, others
 * come after them under names that are none of the declared ones. An undeclared name may come twice, which no
 * grammar can see; what would depend on how many different ones there are is refused.
 */
#include "constrain/schema_internal.h"

typedef struct member {
    srn_str name;
    bool required;
    srn__ids *ids; /* what its value must satisfy */
} member;

typedef struct object {
    member *members;
    uint32_t n, n_required;
    uint32_t min, max;       /* properties */
    const char *patterns[4]; /* names' patterns */
    uint32_t n_patterns;
    bool extra; /* undeclared names are possible, as far as is known */
    bool never;
    const char *ptr; /* of the first item, for errors */
} object;

static srn__ids *copy_ids(srn__schema *s, const srn__ids *ids) {
    srn__ids *c = srn_arena_alloc(&s->arena, offsetof(srn__ids, ids) + ids->n * sizeof ids->ids[0]);
    if (!c) {
        srn__schema_nomem(s);
        return NULL;
    }
    c->n = ids->n;
    memcpy(c->ids, ids->ids, ids->n * sizeof ids->ids[0]);
    return c;
}

void srn__leaf_property(srn__schema *s, const srn__list *leaf, srn_str name, srn__ids *ret) {
    ret->n = 0;
    for (uint32_t i = 0; i < leaf->n; i++) {
        const srn__sch *sch = s->sch[leaf->ids[i]];
        const json_t *j = json_object_getn(sch->properties, name.ptr, name.len);
        bool found = j != NULL;
        if (j) srn__ids_add(s, ret, srn__schema_at(s, j));
        const char *pattern;
        json_t *v;
        json_object_foreach((json_t *)(uintptr_t)sch->pattern_properties, pattern, v) {
            if (!srn__pattern_matches(s, pattern, name, sch->ptr)) continue;
            srn__ids_add(s, ret, srn__schema_at(s, v));
            found = true;
        }
        if (!found && sch->additional) srn__ids_add(s, ret, srn__schema_at(s, sch->additional));
    }
}

/* What an undeclared name's value must satisfy; bit i of matches: the name has pattern i. */
static void extra_ids(srn__schema *s, const srn__list *leaf, const object *o, uint32_t matches,
                      srn__ids *ret) {
    ret->n = 0;
    for (uint32_t i = 0; i < leaf->n; i++) {
        const srn__sch *sch = s->sch[leaf->ids[i]];
        bool found = false;
        const char *pattern;
        json_t *v;
        json_object_foreach((json_t *)(uintptr_t)sch->pattern_properties, pattern, v) {
            for (uint32_t p = 0; p < o->n_patterns; p++)
                if ((matches >> p & 1) && strcmp(o->patterns[p], pattern) == 0) {
                    srn__ids_add(s, ret, srn__schema_at(s, v));
                    found = true;
                }
        }
        if (!found && sch->additional) srn__ids_add(s, ret, srn__schema_at(s, sch->additional));
    }
}

/* ---- what the items say together ---- */

static member *find(srn__schema *s, object *o, srn_str name) {
    for (uint32_t i = 0; i < o->n; i++)
        if (srn_str_eq(o->members[i].name, name)) return &o->members[i];
    srn__schema_work(s, o->n);
    return NULL;
}

static bool declare(srn__schema *s, object *o, srn_str name, bool required) {
    member *m = find(s, o, name);
    if (!m) {
        if (o->n == SRN__CAP_MEMBERS)
            return srn__schema_fail(s, SRN_ELIMIT, o->ptr, "more than %d properties", SRN__CAP_MEMBERS);
        m = &o->members[o->n++];
        *m = (member){.name = name};
    }
    m->required |= required;
    return s->code == 0;
}

static bool declare_all(srn__schema *s, const srn__list *leaf, object *o) {
    for (uint32_t i = 0; i < leaf->n; i++) {
        const char *key;
        size_t len;
        json_t *v;
        json_object_keylen_foreach((json_t *)(uintptr_t)s->sch[leaf->ids[i]]->properties, key, len, v) {
            if (!declare(s, o, (srn_str){key, len}, false)) return false;
        }
    }
    for (uint32_t i = 0; i < leaf->n; i++) {
        const json_t *required = s->sch[leaf->ids[i]]->required;
        for (size_t k = 0; k < json_array_size(required); k++) {
            const json_t *name = json_array_get(required, k);
            if (!declare(s, o, (srn_str){json_string_value(name), json_string_length(name)}, true))
                return false;
        }
    }
    return true;
}

static bool patterns_of(srn__schema *s, const srn__list *leaf, object *o) {
    for (uint32_t i = 0; i < leaf->n; i++) {
        const char *pattern;
        json_t *v;
        json_object_foreach((json_t *)(uintptr_t)s->sch[leaf->ids[i]]->pattern_properties, pattern, v) {
            uint32_t p = 0;
            while (p < o->n_patterns && strcmp(o->patterns[p], pattern) != 0) p++;
            if (p < o->n_patterns) continue;
            if (p == SRN_LEN(o->patterns))
                return srn__schema_fail(s, SRN_EUNSUP, s->sch[leaf->ids[i]]->ptr,
                                        "more than %zu patterns of names hold together here",
                                        SRN_LEN(o->patterns));
            o->patterns[o->n_patterns++] = pattern;
        }
    }
    return true;
}

/* Members that nothing fits are dropped; a required one of them makes the object impossible. */
static bool object_of(srn__schema *s, const srn__list *leaf, unsigned depth, object *o) {
    *o = (object){.max = SRN_NO_MAX, .extra = true, .ptr = leaf->n ? s->sch[leaf->ids[0]]->ptr : "#"};
    size_t room = 0;
    for (uint32_t i = 0; i < leaf->n; i++) {
        const srn__sch *sch = s->sch[leaf->ids[i]];
        o->min = SRN_MAX(o->min, sch->min_properties);
        o->max = SRN_MIN(o->max, sch->max_properties);
        room += json_object_size(sch->properties) + json_array_size(sch->required);
    }
    room = SRN_MIN(room, (size_t)SRN__CAP_MEMBERS);
    o->members = srn_arena_alloc(&s->arena, (room + 1) * sizeof *o->members);
    if (!o->members) return srn__schema_nomem(s);
    if (!declare_all(s, leaf, o) || !patterns_of(s, leaf, o)) return false;
    uint32_t kept = 0;
    srn__ids ids;
    for (uint32_t i = 0; i < o->n; i++) {
        member m = o->members[i];
        srn__leaf_property(s, leaf, m.name, &ids);
        if (depth && srn__schema_never(s, &ids, depth - 1)) {
            o->never |= m.required;
            ids.n = 0;
            m.ids = NULL;
        } else if (!(m.ids = copy_ids(s, &ids))) {
            return false;
        }
        o->n_required += m.required;
        kept += m.ids != NULL;
        o->members[i] = m;
    }
    if (o->n_patterns == 0) {
        extra_ids(s, leaf, o, 0, &ids);
        o->extra = !(depth && srn__schema_never(s, &ids, depth - 1));
    }
    o->never |= o->min > o->max || o->n_required > o->max || (!o->extra && o->min > kept);
    return s->code == 0;
}

bool srn__object_never(srn__schema *s, const srn__list *leaf, unsigned depth) {
    object o;
    return object_of(s, leaf, depth, &o) && o.never;
}

/* ---- names and values ---- */

static srn_node quoted(srn_grammar *g, srn_node contents) {
    srn_node quote = srn_g_text(g, SRN_STR("\""));
    return SRN__SEQ(g, quote, contents, quote);
}

static srn_node member_node(srn__schema *s, const member *m) {
    return SRN__SEQ(s->g, quoted(s->g, srn__g_literal(s->g, m->name)), srn__g_colon(s->g),
                    srn__schema_place(s, m->ids));
}

/* A property of any name that is not declared; SRN_NODE_NONE where there can be none. */
static srn_node extra_node(srn__schema *s, const srn__list *leaf, object *o) {
    srn_str *names = srn_arena_alloc(&s->arena, (o->n + 1) * sizeof *names);
    if (!names) return srn__schema_nomem(s), SRN_NODE_NONE;
    for (uint32_t i = 0; i < o->n; i++) names[i] = o->members[i].name;
    srn_grammar *g = s->g;
    srn__ids ids;
    if (!o->extra) return SRN_NODE_NONE;
    if (o->n_patterns == 0) {
        extra_ids(s, leaf, o, 0, &ids);
        return SRN__SEQ(g, quoted(g, srn__g_one_of(s, names, o->n, true)), srn__g_colon(g),
                        srn__schema_place(s, &ids));
    }
    srn__dfa *d = srn__dfa_of_names(s, o->patterns, o->n_patterns, names, o->n, o->ptr);
    srn_node alt[1 << SRN_LEN(o->patterns)];
    size_t n = 0;
    for (uint32_t matches = 0; d && matches < 1u << o->n_patterns; matches++) {
        extra_ids(s, leaf, o, matches, &ids);
        if (srn__schema_never(s, &ids, SRN__NEVER_DEPTH)) continue;
        srn_node name = srn__dfa_node(s, d, matches | 2u << o->n_patterns);
        if (name != SRN_NODE_NONE)
            alt[n++] = SRN__SEQ(g, quoted(g, name), srn__g_colon(g), srn__schema_place(s, &ids));
    }
    o->extra = n > 0;
    return n ? srn_g_alt(g, alt, n) : SRN_NODE_NONE;
}

/* ---- order ---- */

static srn_node comma(srn_grammar *g, srn_node node) {
    return SRN__SEQ(g, srn_g_text(g, SRN_STR(",")), srn__g_space(g), node);
}

static srn_node empty(srn_grammar *g) {
    return srn_g_text(g, SRN_STR(""));
}

static srn_node after(srn__schema *s, const member *m) {
    srn_node node = comma(s->g, member_node(s, m));
    return m->required ? node : srn__g_opt(s->g, node);
}

/* The members where their number is not bounded. Up to the first required one each may be the first that is
 * written, so what follows it is a rule; behind it there is always a comma. */
static srn_node members_free(srn__schema *s, const object *o, srn_node extra) {
    srn_grammar *g = s->g;
    srn_node space = srn__g_space(g);
    srn_node more = o->extra ? SRN__SEQ(g, srn_g_repeat(g, comma(g, extra), 0, SRN_NO_MAX), space) : space;
    uint32_t r = 0;
    while (r < o->n && !o->members[r].required) r++;
    srn_node *parts = srn_arena_alloc(&s->arena, (o->n + 2) * sizeof *parts);
    if (!parts) return srn__schema_nomem(s), SRN_NODE_NONE;
    size_t n = 0;
    for (uint32_t i = r + 1; i < o->n; i++) parts[n++] = after(s, &o->members[i]);
    parts[n++] = more;
    srn_node tail = srn_g_seq(g, parts, n);
    if (o->n > 0 && r == 0) return SRN__SEQ(g, member_node(s, &o->members[0]), tail);
    n = 0;
    if (r == o->n && o->extra) parts[n++] = SRN__SEQ(g, extra, more);
    if (r < o->n) parts[n++] = SRN__SEQ(g, member_node(s, &o->members[r]), tail);
    if (r < o->n) tail = SRN__SEQ(g, comma(g, member_node(s, &o->members[r])), tail);
    for (uint32_t i = r; i-- > 0;) {
        uint32_t rule = srn_g_rule(g, srn_str_of(o->ptr));
        srn_g_define(g, rule, tail);
        tail = srn_g_ref(g, rule);
        parts[n++] = SRN__SEQ(g, member_node(s, &o->members[i]), tail);
        if (i) tail = SRN__SEQ(g, after(s, &o->members[i]), tail);
    }
    srn_node any = srn_g_alt(g, parts, n);
    return r == o->n ? srn__g_opt(g, any) : any;
}

/* What may follow c declared members and ends the object, SRN_NODE_NONE where nothing may. */
static srn_node counted_end(srn_grammar *g, const object *o, uint32_t c, srn_node extra) {
    uint32_t min = c < o->min ? o->min - c : 0, max = o->max == SRN_NO_MAX ? SRN_NO_MAX : o->max - c;
    if (c > o->max || (min && !o->extra)) return SRN_NODE_NONE;
    srn_node space = srn__g_space(g);
    if (!o->extra || max == 0) return c ? space : empty(g);
    if (c) return SRN__SEQ(g, srn_g_repeat(g, comma(g, extra), min, max), space);
    uint32_t more = max == SRN_NO_MAX ? max : max - 1;
    srn_node all = SRN__SEQ(g, extra, srn_g_repeat(g, comma(g, extra), min ? min - 1 : 0, more), space);
    return min ? all : srn__g_opt(g, all);
}

/* The same with the number of properties counted, up to max or, where that is open, until min is reached. A
 * rule for each member and count that can still end well, from the last to the first. */
static srn_node members_counted(srn__schema *s, const object *o, srn_node extra) {
    srn_grammar *g = s->g;
    uint32_t top = o->max == SRN_NO_MAX ? SRN_MAX(o->min, 1u) : SRN_MIN(o->max, o->n + 1);
    if ((uint64_t)(o->n + 1) * (top + 1) > 20000)
        return srn__schema_fail(s, SRN_ELIMIT, o->ptr,
                                "minProperties and maxProperties with so many properties"),
               SRN_NODE_NONE;
    srn_node *next = srn_arena_alloc(&s->arena, (top + 1) * sizeof *next);
    srn_node *here = srn_arena_alloc(&s->arena, (top + 1) * sizeof *here);
    if (!next || !here) return srn__schema_nomem(s), SRN_NODE_NONE;
    for (uint32_t c = 0; c <= top; c++) next[c] = counted_end(g, o, c, extra);
    for (uint32_t i = o->n; i-- > 0;) {
        srn_node first = member_node(s, &o->members[i]), later = comma(g, first);
        for (uint32_t c = 0; c <= top; c++) {
            srn_node alt[2];
            size_t n = 0;
            uint32_t with = c == top && o->max == SRN_NO_MAX ? top : c + 1;
            if (with <= top && with <= o->max && next[with] != SRN_NODE_NONE)
                alt[n++] = SRN__SEQ(g, c ? later : first, next[with]);
            if (!o->members[i].required && next[c] != SRN_NODE_NONE) alt[n++] = next[c];
            here[c] = SRN_NODE_NONE;
            if (n == 0) continue;
            uint32_t rule = srn_g_rule(g, srn_str_of(o->ptr));
            srn_g_define(g, rule, srn_g_alt(g, alt, n));
            here[c] = srn_g_ref(g, rule);
        }
        srn_node *swap = next;
        next = here;
        here = swap;
    }
    return next[0];
}

srn_node srn__g_object(srn__schema *s, const srn__list *leaf) {
    object o;
    srn_grammar *g = s->g;
    if (!object_of(s, leaf, SRN__NEVER_DEPTH, &o)) return SRN_NODE_NONE;
    srn_node extra = extra_node(s, leaf, &o), members;
    if (s->code) return SRN_NODE_NONE;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < o.n; i++)
        if (o.members[i].ids) o.members[kept++] = o.members[i];
    o.n = kept;
    if (o.extra && o.min > o.n_required + 1)
        return srn__schema_fail(
                   s, SRN_EUNSUP, o.ptr,
                   "minProperties %u cannot be enforced where undeclared names are allowed, as a name may "
                   "be repeated; set additionalProperties to false or require properties",
                   o.min),
               SRN_NODE_NONE;
    bool bounded = o.min > o.n_required || (o.max != SRN_NO_MAX && (o.extra || o.max < o.n));
    if (o.n == 0 && !o.extra)
        members = empty(g);
    else
        members = bounded ? members_counted(s, &o, extra) : members_free(s, &o, extra);
    if (members == SRN_NODE_NONE) members = srn_g_alt(g, NULL, 0); /* nothing fits the bounds */
    srn_node open = srn_g_text(g, SRN_STR("{")), close = srn_g_text(g, SRN_STR("}"));
    return SRN__SEQ(g, open, srn__g_space(g), members, close);
}
