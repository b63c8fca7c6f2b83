/* constrain: a leaf, which is a list of sub-schemas whose own keywords must all hold, as one rule: which
 * types it leaves, the values of enum and const, arrays; objects, numbers and strings have files of their
 * own.
 */
#include "constrain/schema_internal.h"

static uint32_t types_of(const srn__schema *s, const srn__list *leaf) {
    uint32_t types = SRN__T_ANY;
    for (uint32_t i = 0; i < leaf->n; i++) types &= s->sch[leaf->ids[i]]->types;
    return types;
}

/* ---- enum and const ---- */

/* The first list of values among the items, NULL where there is none; *ret_one is a const's value. */
static const json_t *values_of(const srn__schema *s, const srn__list *leaf, const json_t **ret_one) {
    *ret_one = NULL;
    for (uint32_t i = 0; i < leaf->n; i++)
        if (s->sch[leaf->ids[i]]->constant) return *ret_one = s->sch[leaf->ids[i]]->constant;
    for (uint32_t i = 0; i < leaf->n; i++)
        if (s->sch[leaf->ids[i]]->enumeration) return s->sch[leaf->ids[i]]->enumeration;
    return NULL;
}

/* Those of the values that all items let through, in ret (room for all); how many. */
static size_t good_values(srn__schema *s, const srn__list *leaf, const json_t *values, const json_t *one,
                          const json_t **ret) {
    size_t n = one ? 1 : json_array_size(values), k = 0;
    for (size_t v = 0; v < n; v++) {
        const json_t *value = one ? one : json_array_get(values, v);
        bool good = true;
        s->member = value;
        s->member_of = one ? NULL : values;
        for (uint32_t i = 0; good && i < leaf->n; i++)
            good = srn__schema_valid(s, value, leaf->ids[i], true, 0);
        if (good) ret[k++] = value;
    }
    s->member = s->member_of = NULL;
    return k;
}

static const json_t **room_for_values(srn__schema *s, const json_t *values) {
    size_t n = json_is_array(values) ? json_array_size(values) + 1 : 1;
    const json_t **room = srn_arena_alloc(&s->arena, n * sizeof *room);
    if (!room) srn__schema_nomem(s);
    return room;
}

/* ---- arrays ---- */

void srn__leaf_element(srn__schema *s, const srn__list *leaf, size_t i, srn__ids *ret) {
    ret->n = 0;
    for (uint32_t k = 0; k < leaf->n; k++) {
        const srn__sch *sch = s->sch[leaf->ids[k]];
        const json_t *j =
            i < json_array_size(sch->prefix_items) ? json_array_get(sch->prefix_items, i) : sch->items;
        if (j) srn__ids_add(s, ret, srn__schema_at(s, j));
    }
}

typedef struct array {
    uint32_t min, max, prefix;
} array;

/* The bounds on the number of items, narrowed by places that nothing fits. */
static array array_of(srn__schema *s, const srn__list *leaf, unsigned depth) {
    array a = {0, SRN_NO_MAX, 0};
    for (uint32_t i = 0; i < leaf->n; i++) {
        const srn__sch *sch = s->sch[leaf->ids[i]];
        a.min = SRN_MAX(a.min, sch->min_items);
        a.max = SRN_MIN(a.max, sch->max_items);
        a.prefix = SRN_MAX(a.prefix, (uint32_t)json_array_size(sch->prefix_items));
    }
    if (depth == 0) return a;
    for (uint32_t i = 0; i <= a.prefix && i < a.max; i++) {
        srn__ids ids;
        srn__leaf_element(s, leaf, i, &ids);
        if (srn__schema_never(s, &ids, depth - 1)) a.max = i;
    }
    return a;
}

static srn_node g_array(srn__schema *s, const srn__list *leaf, unsigned depth) {
    srn_grammar *g = s->g;
    array a = array_of(s, leaf, depth);
    srn_node comma = SRN__SEQ(g, srn_g_text(g, SRN_STR(",")), srn__g_space(g));
    srn_node open = srn_g_text(g, SRN_STR("[")), close = srn_g_text(g, SRN_STR("]")), space = srn__g_space(g);
    if (a.max == 0) return SRN__SEQ(g, open, space, close);
    srn__ids ids;
    /* From the last item to the first: each is followed by what may come after it. */
    srn__leaf_element(s, leaf, a.prefix, &ids);
    srn_node tail = srn_g_text(g, SRN_STR(""));
    uint32_t first_free = SRN_MAX(a.prefix, 1u);
    if (a.max > first_free) {
        uint32_t min = a.min > first_free ? a.min - first_free : 0;
        uint32_t max = a.max == SRN_NO_MAX ? SRN_NO_MAX : a.max - first_free;
        tail = srn_g_repeat(g, SRN__SEQ(g, comma, srn__schema_place(s, &ids)), min, max);
    }
    for (uint32_t i = SRN_MIN(first_free, a.max); i-- > 0;) {
        srn__leaf_element(s, leaf, i, &ids);
        srn_node item = srn__schema_place(s, &ids);
        tail = i ? SRN__SEQ(g, comma, item, tail) : SRN__SEQ(g, item, tail, space);
        if (i >= a.min) tail = srn__g_opt(g, tail);
    }
    return SRN__SEQ(g, open, space, tail, close);
}

/* ---- the whole ---- */

/* Of types, those that something fits. */
static uint32_t possible(srn__schema *s, const srn__list *leaf, uint32_t types, unsigned depth) {
    if ((types & SRN__T_INT) && srn__number_never(s, leaf, true)) types &= ~(uint32_t)SRN__T_INT;
    if ((types & SRN__T_REAL) && srn__number_never(s, leaf, false)) types &= ~(uint32_t)SRN__T_REAL;
    if ((types & SRN__T_STRING) && srn__string_never(s, leaf)) types &= ~(uint32_t)SRN__T_STRING;
    if (types & SRN__T_ARRAY) {
        array a = array_of(s, leaf, depth);
        if (a.min > a.max) types &= ~(uint32_t)SRN__T_ARRAY;
    }
    if ((types & SRN__T_OBJECT) && srn__object_never(s, leaf, depth)) types &= ~(uint32_t)SRN__T_OBJECT;
    return types;
}

bool srn__leaf_never(srn__schema *s, const srn__list *constant_leaf, unsigned depth) {
    srn__list *leaf = (srn__list *)(uintptr_t)constant_leaf;
    if (leaf->status == SRN__NEVER) return true;
    if (leaf->status == SRN__OPEN || (leaf->status == SRN__MAYBE && depth <= leaf->depth) || s->code)
        return false;
    if (!srn__schema_work(s, 1 + leaf->n)) return false;
    const json_t *one, *values = values_of(s, leaf, &one);
    uint32_t types = types_of(s, leaf);
    bool never;
    if (values && types) {
        const json_t **room = room_for_values(s, values);
        never = room && good_values(s, leaf, values, one, room) == 0;
    } else {
        leaf->status = SRN__OPEN;
        never = possible(s, leaf, types, depth) == 0;
    }
    leaf->status = never ? SRN__NEVER : SRN__MAYBE;
    leaf->depth = depth;
    return never && !s->code;
}

static srn_node shared(srn__schema *s, uint32_t *rule, const char *name, srn_node (*make)(srn_grammar *g)) {
    if (*rule == UINT32_MAX) {
        *rule = srn_g_rule(s->g, srn_str_of(name));
        srn_g_define(s->g, *rule, make(s->g));
    }
    return srn_g_ref(s->g, *rule);
}

static srn_node make_json(srn_grammar *g) {
    return srn_g_json(g, false);
}

srn_node srn__leaf_node(srn__schema *s, const srn__list *leaf) {
    if (leaf->n == 0) return shared(s, &s->rule_json, "JSON", make_json);
    const json_t *one, *values = values_of(s, leaf, &one);
    uint32_t types = types_of(s, leaf);
    if (values) {
        const json_t **room = room_for_values(s, values);
        if (!room) return SRN_NODE_NONE;
        return srn__g_values(s, room, good_values(s, leaf, values, one, room));
    }
    types = possible(s, leaf, types, SRN__NEVER_DEPTH);
    srn_node alt[8];
    size_t n = 0;
    if (types & SRN__T_NULL) alt[n++] = srn_g_text(s->g, SRN_STR("null"));
    if (types & SRN__T_BOOL) {
        alt[n++] = srn_g_text(s->g, SRN_STR("true"));
        alt[n++] = srn_g_text(s->g, SRN_STR("false"));
    }
    if (types & SRN__T_REAL)
        alt[n++] = srn__g_number(s, leaf, false);
    else if (types & SRN__T_INT)
        alt[n++] = srn__g_number(s, leaf, true);
    if (types & SRN__T_STRING) alt[n++] = srn__g_string(s, leaf);
    if (types & SRN__T_ARRAY) alt[n++] = g_array(s, leaf, SRN__NEVER_DEPTH);
    if (types & SRN__T_OBJECT) alt[n++] = srn__g_object(s, leaf);
    return n == 1 ? alt[0] : srn_g_alt(s->g, alt, n);
}
