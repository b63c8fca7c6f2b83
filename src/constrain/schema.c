/* constrain: JSON schema to grammar, the frame. Owns the lists of sub-schemas that must hold together:
 * following $ref and allOf, picking branches of anyOf and oneOf, interning what comes out, and giving each a
 * rule. The branches of oneOf must exclude each other, which is shown here or refused: then "exactly one" is
 * "any". srn_g_schema and srn_g_json are called by one thread for a grammar; nothing is kept between calls.
 */
#include "constrain/schema_internal.h"

bool srn__schema_fail(srn__schema *s, int code, const char *ptr, const char *fmt, ...) {
    if (s->code) return false;
    va_list ap;
    va_start(ap, fmt);
    s->code = srn_vfail(s->err, code, fmt, ap);
    va_end(ap);
    srn_fail_prefix(s->err, s->code, "JSON schema, %.300s", ptr);
    return false;
}

bool srn__schema_nomem(srn__schema *s) {
    if (!s->code && s->arena.used + 65536 > s->arena.max)
        return srn__schema_fail(s, SRN_ELIMIT, "#",
                                "the schema takes more than %d MiB to compile; make it smaller",
                                SRN__CAP_ARENA >> 20);
    if (!s->code) s->code = srn_fail_nomem(s->err, 0);
    return false;
}

bool srn__schema_work(srn__schema *s, uint64_t steps) {
    s->work += steps;
    if (s->code) return false;
    if (s->work <= SRN__CAP_WORK) return true;
    return srn__schema_fail(s, SRN_ELIMIT, "#",
                            "the schema takes more than %d steps to compile; make it simpler", SRN__CAP_WORK);
}

/* ---- lists ---- */

static bool always(const srn__schema *s, uint32_t id) {
    const json_t *j = s->sch[id]->j;
    return json_is_true(j) || (json_is_object(j) && json_object_size(j) == 0);
}

void srn__ids_add(srn__schema *s, srn__ids *ids, uint32_t id) {
    if (always(s, id)) return;
    for (uint32_t i = 0; i < ids->n; i++)
        if (ids->ids[i] == id) return;
    if (ids->n == SRN__CAP_ITEMS)
        srn__schema_fail(s, SRN_ELIMIT, s->sch[id]->ptr, "more than %d sub-schemas hold together here",
                         SRN__CAP_ITEMS);
    else
        ids->ids[ids->n++] = id;
}

/* The list with these contents, made where there is none; NULL after a failure. */
static srn__list *intern(srn__schema *s, const uint32_t *ids, uint32_t n, bool leaf) {
    srn__map *m = &s->by_list;
    uint64_t h = srn_hash(s->seed + leaf, (srn_str){(const char *)ids, n * sizeof *ids});
    size_t at = (size_t)h & (m->n_slots - 1);
    for (; m->slots[at]; at = (at + 1) & (m->n_slots - 1)) {
        srn__list *l = s->lists[m->slots[at] - 1];
        if (l->leaf == leaf && l->n == n && (n == 0 || memcmp(l->ids, ids, n * sizeof *ids) == 0)) return l;
    }
    if (s->n_lists == SRN__CAP_LISTS) {
        srn__schema_fail(s, SRN_ELIMIT, "#", "the schema has more than %d combinations of sub-schemas",
                         SRN__CAP_LISTS);
        return NULL;
    }
    srn__list *l = srn_arena_alloc(&s->arena, sizeof *l);
    uint32_t *copy = srn_arena_alloc(&s->arena, (n + 1) * sizeof *copy);
    if (!l || !copy) {
        srn__schema_nomem(s);
        return NULL;
    }
    if (n) memcpy(copy, ids, n * sizeof *copy);
    *l = (srn__list){.ids = copy, .n = n, .rule = UINT32_MAX, .leaf = leaf};
    s->lists[s->n_lists] = l;
    m->slots[at] = ++s->n_lists;
    return l;
}

/* ---- from a list to its leaves ---- */

/* Called with each leaf's items; false ends the walk. */
typedef bool leaf_fn(srn__schema *s, const srn__ids *items, void *arg);

typedef struct walk {
    srn__schema *s;
    srn__ids items;            /* with keywords of their own */
    srn__ids seen;             /* whatever was followed */
    const json_t *choices[64]; /* lists of branches */
    uint32_t n_choices;
    uint32_t n_leaves;
    leaf_fn *leaf;
    void *arg;
} walk;

/* Whether the entry was followed before on this way; notes it. */
static bool seen(walk *w, uint32_t id) {
    for (uint32_t i = 0; i < w->seen.n; i++)
        if (w->seen.ids[i] == id) return true;
    srn__ids_add(w->s, &w->seen, id);
    return false;
}

static void follow(walk *w, uint32_t id) {
    srn__schema *s = w->s;
    if (!srn__schema_work(s, 1) || always(s, id) || seen(w, id)) return;
    const srn__sch *sch = s->sch[id];
    const char *name;
    json_t *v;
    /* In the document's order, so that properties of a base come before or after as they are written. */
    json_object_foreach((json_t *)(uintptr_t)sch->j, name, v) {
        if (strcmp(name, "properties") == 0) {
            srn__ids_add(s, &w->items, id);
        } else if (strcmp(name, "$ref") == 0) {
            follow(w, srn__schema_at(s, sch->ref));
        } else if (strcmp(name, "allOf") == 0) {
            for (size_t i = 0; i < json_array_size(v); i++)
                follow(w, srn__schema_at(s, json_array_get(v, i)));
        } else if (strcmp(name, "anyOf") == 0 || strcmp(name, "oneOf") == 0) {
            if (w->n_choices == SRN_LEN(w->choices))
                srn__schema_fail(s, SRN_ELIMIT, sch->ptr, "more than %zu anyOf and oneOf hold together here",
                                 SRN_LEN(w->choices));
            else
                w->choices[w->n_choices++] = v;
        }
    }
    if (sch->asserts) srn__ids_add(s, &w->items, id);
}

/* Tries the branches of choice k and those after it; false once the walk was ended. */
static bool pick(walk *w, uint32_t k) {
    srn__schema *s = w->s;
    if (s->code) return false;
    if (k == w->n_choices) {
        if (++w->n_leaves > SRN__CAP_LEAVES)
            return srn__schema_fail(s, SRN_ELIMIT, w->items.n ? s->sch[w->items.ids[0]]->ptr : "#",
                                    "the branches of anyOf and oneOf combine in more than %d ways",
                                    SRN__CAP_LEAVES);
        return w->leaf(s, &w->items, w->arg);
    }
    uint32_t n_items = w->items.n, n_seen = w->seen.n, n_choices = w->n_choices;
    const json_t *branches = w->choices[k];
    for (size_t i = 0; i < json_array_size(branches); i++) {
        follow(w, srn__schema_at(s, json_array_get(branches, i)));
        if (!pick(w, k + 1)) return false;
        w->items.n = n_items;
        w->seen.n = n_seen;
        w->n_choices = n_choices;
    }
    return true;
}

/* own: an entry of which only its own keywords hold, UINT32_MAX for none. */
static bool each_leaf(srn__schema *s, uint32_t own, const srn__ids *ids, leaf_fn *leaf, void *arg) {
    walk w = {.s = s, .leaf = leaf, .arg = arg};
    if (own != UINT32_MAX) {
        (void)seen(&w, own);
        if (s->sch[own]->asserts) srn__ids_add(s, &w.items, own);
    }
    for (uint32_t i = 0; i < ids->n; i++) follow(&w, ids->ids[i]);
    return pick(&w, 0);
}

typedef struct never_arg {
    unsigned depth;
    bool maybe;
} never_arg;

static bool never_leaf(srn__schema *s, const srn__ids *items, void *arg) {
    never_arg *a = arg;
    srn__list *l = intern(s, items->ids, items->n, true);
    a->maybe = !l || !srn__leaf_never(s, l, a->depth);
    return !a->maybe;
}

bool srn__schema_never_with(srn__schema *s, uint32_t own, const srn__ids *ids, unsigned depth) {
    never_arg a = {depth, false};
    each_leaf(s, own, ids, never_leaf, &a);
    return !a.maybe && !s->code;
}

bool srn__schema_never(srn__schema *s, const srn__ids *ids, unsigned depth) {
    return srn__schema_never_with(s, UINT32_MAX, ids, depth);
}

/* ---- from leaves to rules ---- */

static bool rule_of(srn__schema *s, srn__list *l) {
    if (l->rule != UINT32_MAX) return true;
    l->rule = srn_g_rule(s->g, srn_str_of(l->n ? s->sch[l->ids[0]]->ptr : "any JSON value"));
    if (l->leaf) s->queue[s->n_queue++] = l;
    return l->rule != UINT32_MAX;
}

typedef struct leaves {
    srn_node nodes[SRN__CAP_LEAVES];
    uint32_t rules[SRN__CAP_LEAVES];
    uint32_t n;
} leaves;

static bool collect(srn__schema *s, const srn__ids *items, void *arg) {
    leaves *ls = arg;
    srn__list *l = intern(s, items->ids, items->n, true);
    if (!l) return false;
    if (srn__leaf_never(s, l, SRN__NEVER_DEPTH)) return !s->code;
    if (!rule_of(s, l)) return false;
    for (uint32_t i = 0; i < ls->n; i++)
        if (ls->rules[i] == l->rule) return true;
    ls->rules[ls->n] = l->rule;
    ls->nodes[ls->n++] = srn_g_ref(s->g, l->rule);
    return true;
}

srn_node srn__schema_place(srn__schema *s, const srn__ids *ids) {
    srn__list *l = intern(s, ids->ids, ids->n, false);
    if (!l || s->code) return SRN_NODE_NONE;
    if (l->rule != UINT32_MAX) return srn_g_ref(s->g, l->rule);
    leaves ls = {.n = 0};
    if (!each_leaf(s, UINT32_MAX, ids, collect, &ls)) return SRN_NODE_NONE;
    if (ls.n == 1) {
        l->rule = ls.rules[0];
    } else {
        if (!rule_of(s, l)) return SRN_NODE_NONE;
        srn_g_define(s->g, l->rule, srn_g_alt(s->g, ls.nodes, ls.n));
    }
    return srn_g_ref(s->g, l->rule);
}

/* The bodies of all rules that were asked for; they ask for more. */
static bool bodies(srn__schema *s) {
    for (uint32_t i = 0; i < s->n_queue; i++) {
        const srn__list *l = s->queue[i];
        srn_node body = srn__leaf_node(s, l);
        if (s->code) return false;
        srn_g_define(s->g, l->rule, body);
    }
    return s->code == 0;
}

/* ---- oneOf ---- */

static bool branches_exclude(srn__schema *s, uint32_t id) {
    const json_t *v = json_object_get(s->sch[id]->j, "oneOf");
    size_t n = json_array_size(v);
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n; k++) {
            srn__ids both = {.n = 0};
            uint32_t a = srn__schema_at(s, json_array_get(v, i)), b = srn__schema_at(s, json_array_get(v, k));
            srn__ids_add(s, &both, a);
            srn__ids_add(s, &both, b);
            bool excluded = a != b && srn__schema_never_with(s, id, &both, 2 * SRN__NEVER_DEPTH);
            if (s->code) return false;
            if (!excluded)
                return srn__schema_fail(
                    s, SRN_EUNSUP, s->sch[id]->ptr,
                    "oneOf is supported where its branches exclude each other (by type, or by a "
                    "required property with different constants); branches %zu and %zu may both "
                    "hold; use anyOf if that is no harm",
                    i, k);
        }
    return true;
}

static bool one_of_is_any_of(srn__schema *s) {
    s->excluding = true;
    for (uint32_t i = 0; i < s->n_sch; i++)
        if (!branches_exclude(s, i)) return false;
    s->excluding = false;
    for (uint32_t i = 0; i < s->n_lists; i++)
        if (s->lists[i]->status == SRN__MAYBE) s->lists[i]->status = SRN__NOT_ASKED;
    return true;
}

/* ---- doors ---- */

static int finish(srn__schema *s) {
    srn_grammar_free(s->trees);
    srn_arena_done(&s->arena);
    return s->code;
}

srn_node srn_g_schema(srn_grammar *g, const json_t *schema, srn_err *err) {
    srn__schema s = {.g = g, .root = schema, .err = err, .seed = srn_hash_seed(), .rule_json = UINT32_MAX};
    srn_arena_init(&s.arena, SRN__CAP_ARENA);
    s.by_list.n_slots = 65536;
    s.by_list.slots = srn_arena_alloc(&s.arena, s.by_list.n_slots * sizeof *s.by_list.slots);
    s.lists = srn_arena_alloc(&s.arena, SRN__CAP_LISTS * sizeof(srn__list *));
    s.queue = srn_arena_alloc(&s.arena, SRN__CAP_LISTS * sizeof(srn__list *));
    srn_node root = SRN_NODE_NONE;
    if (!s.by_list.slots || !s.lists || !s.queue) {
        srn__schema_nomem(&s);
    } else if (srn__schema_index(&s)) {
        srn__ids ids = {.n = 0};
        srn__ids_add(&s, &ids, 0);
        if (one_of_is_any_of(&s) && srn__schema_never(&s, &ids, 2 * SRN__NEVER_DEPTH))
            srn__schema_fail(&s, SRN_EINVAL, "#", "nothing satisfies this schema");
        if (!s.code) root = srn__schema_place(&s, &ids);
        if (!s.code) bodies(&s);
    }
    if (finish(&s)) return SRN_NODE_NONE;
    if (root == SRN_NODE_NONE && err) srn__grammar_status(g, err);
    return root;
}

/* value = object | array | string | number | true | false | null */
srn_node srn_g_json(srn_grammar *g, bool object_only) {
    srn_node quote = srn_g_text(g, SRN_STR("\"")), space = srn__g_space(g);
    uint32_t value = srn_g_rule(g, SRN_STR("any JSON value")),
             object = srn_g_rule(g, SRN_STR("any JSON object"));
    srn_node string = SRN__SEQ(g, quote, srn__g_chars(g, 0, SRN_NO_MAX), quote), item = srn_g_ref(g, value);
    srn_node member = SRN__SEQ(g, string, srn__g_colon(g), item);
    srn_node comma = SRN__SEQ(g, srn_g_text(g, SRN_STR(",")), space);
    srn_node members = SRN__SEQ(g, member, srn_g_repeat(g, SRN__SEQ(g, comma, member), 0, SRN_NO_MAX), space);
    srn_node items = SRN__SEQ(g, item, srn_g_repeat(g, SRN__SEQ(g, comma, item), 0, SRN_NO_MAX), space);
    srn_g_define(
        g, object,
        SRN__SEQ(g, srn_g_text(g, SRN_STR("{")), space, srn__g_opt(g, members), srn_g_text(g, SRN_STR("}"))));
    srn_node kinds[] = {
        srn_g_ref(g, object),
        SRN__SEQ(g, srn_g_text(g, SRN_STR("[")), space, srn__g_opt(g, items), srn_g_text(g, SRN_STR("]"))),
        string,
        srn__g_any_number(g, false),
        srn_g_text(g, SRN_STR("true")),
        srn_g_text(g, SRN_STR("false")),
        srn_g_text(g, SRN_STR("null"))};
    srn_g_define(g, value, srn_g_alt(g, kinds, SRN_LEN(kinds)));
    return srn_g_ref(g, object_only ? object : value);
}

int srn_constraint_of_schema(const json_t *schema, srn_constraint **ret, srn_err *err) {
    srn_grammar *g;
    int rc = srn_grammar_new(SRN__CAP_NODES, &g, err);
    if (rc) return rc;
    srn_err own = {0};
    srn_node root = srn_g_schema(g, schema, &own);
    if (root == SRN_NODE_NONE) {
        rc = own.code ? own.code : SRN_ELIMIT;
        if (err) *err = own;
    } else {
        rc = srn_constraint_new(g, root, ret, err);
    }
    srn_grammar_free(g);
    return rc;
}
