/* Values: construction, truth, equality, order, containers, iteration, as Python defines them. Called while
 * rendering, on the rendering's thread. Integers are 64 bits; what would be larger is refused by the callers.
 */
#include "chat/chat_internal.h"

const char *srn__type_name(srn__val v) {
    static const char *const seqs[] = {
        [SEQ_LIST] = "list",        [SEQ_TUPLE] = "tuple",    [SEQ_GROUP] = "_GroupTuple",
        [SEQ_RANGE] = "range",      [SEQ_KEYS] = "dict_keys", [SEQ_VALUES] = "dict_values",
        [SEQ_ITEMS] = "dict_items", [SEQ_GEN] = "generator"};
    static const char *const names[] = {
        [V_UNDEF] = "Undefined", [V_NONE] = "NoneType",    [V_BOOL] = "bool",     [V_INT] = "int",
        [V_FLOAT] = "float",     [V_STR] = "str",          [V_DICT] = "dict",     [V_NS] = "Namespace",
        [V_FUNC] = "function",   [V_LOOP] = "LoopContext", [V_CYCLER] = "Cycler", [V_JOINER] = "Joiner",
        [V_MISSING] = "missing"};
    return v.type == V_SEQ ? seqs[v.u.seq->kind] : names[v.type];
}

/* ---- undefined ---- */

bool srn__undef(srn__in *in, const char *hint, srn__val *ret) {
    srn__hole *u = srn__alloc(in, 1, sizeof *u);
    if (!u) return false;
    u->hint = hint;
    *ret = (srn__val){.type = V_UNDEF, .u.undef = u};
    return true;
}

bool srn__undef_name(srn__in *in, srn_str name, uint8_t obj_type, srn__val *ret) {
    srn__hole *u = srn__alloc(in, 1, sizeof *u);
    if (!u) return false;
    u->name = name;
    u->obj_type = obj_type;
    *ret = (srn__val){.type = V_UNDEF, .u.undef = u};
    return true;
}

bool srn__undef_fail(srn__in *in, srn__val v) {
    const srn__hole *u = v.u.undef;
    if (u->hint) return srn__err(in, SRN_EFORMAT, "%s", u->hint);
    int n = (int)SRN_MIN(u->name.len, 80);
    if (u->obj_type == V_MISSING) return srn__err(in, SRN_EFORMAT, "'%.*s' is undefined", n, u->name.ptr);
    srn__val obj = {.type = u->obj_type};
    return srn__err(in, SRN_EFORMAT, "'%s' has no attribute or item '%.*s'",
                    obj.type == V_SEQ ? "list" : srn__type_name(obj), n, u->name.ptr);
}

/* ---- containers ---- */

srn__seq *srn__seq_new(srn__in *in, srn__seq_kind kind, size_t cap) {
    srn__seq *s = srn__alloc(in, 1, sizeof *s);
    if (!s) return NULL;
    s->kind = (uint8_t)kind;
    s->cap = cap;
    if (cap && !(s->items = srn__alloc(in, cap, sizeof *s->items))) return NULL;
    return s;
}

bool srn__seq_push(srn__in *in, srn__seq *s, srn__val v) {
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 8;
        srn__val *items = srn__alloc(in, cap, sizeof *items);
        if (!items) return false;
        if (s->n) memcpy(items, s->items, s->n * sizeof *items);
        s->items = items;
        s->cap = cap;
    }
    s->items[s->n++] = v;
    return true;
}

srn__val srn__seq_val(srn__seq *s, bool tainted) {
    return (srn__val){.type = V_SEQ, .tainted = tainted, .u.seq = s};
}

srn__dict *srn__dict_new(srn__in *in, size_t cap) {
    srn__dict *d = srn__alloc(in, 1, sizeof *d);
    if (!d) return NULL;
    d->cap = cap;
    if (cap && !(d->pairs = srn__alloc(in, cap, sizeof *d->pairs))) return NULL;
    return d;
}

bool srn__dict_push(srn__in *in, srn__dict *d, srn__val k, srn__val v) {
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 8;
        srn__pair *pairs = srn__alloc(in, cap, sizeof *pairs);
        if (!pairs) return false;
        if (d->n) memcpy(pairs, d->pairs, d->n * sizeof *pairs);
        d->pairs = pairs;
        d->cap = cap;
    }
    d->pairs[d->n++] = (srn__pair){k, v};
    return true;
}

bool srn__hashable(srn__in *in, srn__val k) {
    bool bad = k.type == V_DICT ||
               (k.type == V_SEQ &&
                (k.u.seq->kind == SEQ_LIST || k.u.seq->kind == SEQ_KEYS || k.u.seq->kind == SEQ_ITEMS));
    if (bad) return srn__err(in, SRN_EFORMAT, "a %s cannot be a key", srn__type_name(k));
    if (k.type != V_SEQ || k.u.seq->kind > SEQ_GROUP) return true;
    if (!srn__enter(in)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < k.u.seq->n; i++) ok = srn__hashable(in, k.u.seq->items[i]);
    srn__leave(in);
    return ok;
}

static bool dict_find(srn__in *in, const srn__dict *d, srn__val k, size_t *ret) {
    for (size_t i = 0; i < d->n; i++) {
        srn__val have = d->pairs[i].k;
        bool same;
        if (have.type == V_STR && k.type == V_STR && k.u.s->len < 256)
            same = srn_str_eq(srn__bytes(have.u.s), srn__bytes(k.u.s)); /* the usual key, charged below */
        else if (!srn__equal(in, have, k, &same))
            return false;
        if (same) return *ret = i, true;
    }
    *ret = SIZE_MAX;
    return srn__work(in, d->n / 16);
}

bool srn__dict_set(srn__in *in, srn__dict *d, srn__val k, srn__val v) {
    size_t at;
    if (!srn__hashable(in, k) || !dict_find(in, d, k, &at)) return false;
    if (at == SIZE_MAX) return srn__dict_push(in, d, k, v);
    d->pairs[at].v = v;
    return true;
}

bool srn__dict_get(srn__in *in, const srn__dict *d, srn__val k, srn__val *ret, bool *ret_found) {
    size_t at;
    if (!dict_find(in, d, k, &at)) return false;
    *ret_found = at != SIZE_MAX;
    if (*ret_found) *ret = d->pairs[at].v;
    return true;
}

const srn__val *srn__dict_getz(const srn__dict *d, srn_str key) {
    for (size_t i = 0; i < d->n; i++)
        if (d->pairs[i].k.type == V_STR && srn_str_eq(srn__bytes(d->pairs[i].k.u.s), key))
            return &d->pairs[i].v;
    return NULL;
}

/* ---- truth, equality, order ---- */

bool srn__truth(srn__val v) {
    switch (v.type) {
    case V_UNDEF:
    case V_NONE:
    case V_MISSING:
        return false;
    case V_BOOL:
        return v.u.b;
    case V_INT:
        return v.u.i != 0;
    case V_FLOAT:
        return v.u.f != 0;
    case V_STR:
        return v.u.s->len > 0;
    case V_SEQ:
        return v.u.seq->kind == SEQ_GEN || v.u.seq->n > 0;
    case V_DICT:
        return v.u.dict->n > 0;
    case V_LOOP:
        return v.u.loop->items->n > 0;
    default:
        return true;
    }
}

/* -1, 0, 1; 2 when one is not a number. Exact for an integer against a float. */
static int number_order(srn__val a, srn__val b) {
    if (a.type != V_FLOAT && b.type != V_FLOAT) {
        int64_t x = srn__as_int(a), y = srn__as_int(b);
        return x < y ? -1 : x > y;
    }
    if (a.type == V_FLOAT && b.type == V_FLOAT) {
        if (a.u.f != a.u.f || b.u.f != b.u.f) return 2;
        return a.u.f < b.u.f ? -1 : a.u.f > b.u.f;
    }
    if (a.type == V_FLOAT) {
        int r = number_order(b, a);
        return r == 2 ? 2 : -r;
    }
    int64_t x = srn__as_int(a);
    double f = b.u.f;
    if (f != f) return 2;
    if (f >= 9223372036854775808.0) return -1;
    if (f < -9223372036854775808.0) return 1;
    int64_t whole = (int64_t)f;
    if (x != whole) return x < whole ? -1 : 1;
    double rest = f - (double)whole;
    return rest > 0 ? -1 : rest < 0;
}

static bool seq_comparable(const srn__seq *a, const srn__seq *b) {
    bool tuple_a = a->kind == SEQ_TUPLE || a->kind == SEQ_GROUP,
         tuple_b = b->kind == SEQ_TUPLE || b->kind == SEQ_GROUP;
    return a->kind == b->kind || (tuple_a && tuple_b);
}

static bool dict_equal(srn__in *in, const srn__dict *a, const srn__dict *b, bool *ret) {
    *ret = a->n == b->n;
    for (size_t i = 0; *ret && i < a->n; i++) {
        srn__val other;
        bool found;
        if (!srn__dict_get(in, b, a->pairs[i].k, &other, &found)) return false;
        if (!found)
            *ret = false;
        else if (!srn__equal(in, a->pairs[i].v, other, ret))
            return false;
    }
    return true;
}

static bool seq_equal(srn__in *in, const srn__seq *a, const srn__seq *b, bool *ret) {
    *ret = a == b || (seq_comparable(a, b) && a->kind != SEQ_GEN && a->kind != SEQ_VALUES && a->n == b->n);
    for (size_t i = 0; a != b && *ret && i < a->n; i++)
        if (!srn__equal(in, a->items[i], b->items[i], ret)) return false;
    return true;
}

bool srn__equal(srn__in *in, srn__val a, srn__val b, bool *ret) {
    if (srn__is_numberlike(a) && srn__is_numberlike(b)) return *ret = number_order(a, b) == 0, true;
    if (a.type != b.type) return *ret = false, true;
    bool ok = true;
    switch (a.type) {
    case V_STR:
        *ret = srn_str_eq(srn__bytes(a.u.s), srn__bytes(b.u.s));
        return srn__work(in, SRN_MIN(a.u.s->len, b.u.s->len) / 256);
    case V_SEQ:
    case V_DICT:
        if (!srn__enter(in)) return false;
        ok = a.type == V_SEQ ? seq_equal(in, a.u.seq, b.u.seq, ret) : dict_equal(in, a.u.dict, b.u.dict, ret);
        srn__leave(in);
        return ok;
    case V_FUNC:
        *ret = a.u.func == b.u.func;
        return true;
    case V_NS:
    case V_CYCLER:
    case V_JOINER:
        *ret = a.u.dict == b.u.dict;
        return true;
    case V_LOOP:
        *ret = a.u.loop == b.u.loop;
        return true;
    default:
        *ret = true; /* none and undefined equal themselves */
        return true;
    }
}

static bool order_of(int c, srn__op op) {
    return op == OP_LT ? c < 0 : op == OP_LE ? c <= 0 : op == OP_GT ? c == 1 : c == 0 || c == 1;
}

static int str_order(srn_str a, srn_str b) {
    size_t n = SRN_MIN(a.len, b.len);
    int c = n ? memcmp(a.ptr, b.ptr, n) : 0;
    if (c == 0) return a.len < b.len ? -1 : a.len > b.len;
    return c < 0 ? -1 : 1;
}

bool srn__order(srn__in *in, srn__val a, srn__val b, srn__op op, bool *ret) {
    if (srn__is_numberlike(a) && srn__is_numberlike(b)) {
        int c = number_order(a, b);
        return *ret = c != 2 && order_of(c, op), true;
    }
    if (a.type == V_STR && b.type == V_STR)
        return *ret = order_of(str_order(srn__bytes(a.u.s), srn__bytes(b.u.s)), op),
               srn__work(in, SRN_MIN(a.u.s->len, b.u.s->len) / 256 + 1);
    if (a.type == V_UNDEF) return srn__undef_fail(in, a);
    if (b.type == V_UNDEF) return srn__undef_fail(in, b);
    bool seqs =
        a.type == V_SEQ && b.type == V_SEQ && a.u.seq->kind <= SEQ_GROUP && seq_comparable(a.u.seq, b.u.seq);
    if (!seqs)
        return srn__err(in, SRN_EFORMAT, "a %s and a %s cannot be put in order", srn__type_name(a),
                        srn__type_name(b));
    const srn__seq *x = a.u.seq, *y = b.u.seq;
    if (!srn__enter(in)) return false;
    bool ok = true;
    size_t i = 0;
    for (bool same = true; ok && i < x->n && i < y->n; i++) {
        ok = srn__equal(in, x->items[i], y->items[i], &same);
        if (!same) break;
    }
    if (ok && i < x->n && i < y->n)
        ok = srn__order(in, x->items[i], y->items[i], op, ret);
    else if (ok)
        *ret = order_of(x->n < y->n ? -1 : x->n > y->n, op);
    srn__leave(in);
    return ok;
}

bool srn__contains(srn__in *in, srn__val item, srn__val box, bool *ret) {
    *ret = false;
    if (box.type == V_STR) {
        if (item.type != V_STR)
            return srn__err(in, SRN_EFORMAT, "'in' a string needs a string on its left, not a %s",
                            srn__type_name(item));
        *ret = srn__find(srn__bytes(box.u.s), srn__bytes(item.u.s), 0) != SIZE_MAX;
        return srn__work(in, box.u.s->len / 256);
    }
    if (box.type == V_DICT) {
        srn__val v;
        return srn__hashable(in, item) && srn__dict_get(in, box.u.dict, item, &v, ret);
    }
    srn__seq *items;
    if (!srn__iterate(in, box, &items)) return false;
    for (size_t i = 0; !*ret && i < items->n; i++)
        if (!srn__work(in, 1) || !srn__equal(in, items->items[i], item, ret)) return false;
    return true;
}

bool srn__length(srn__in *in, srn__val v, int64_t *ret) {
    if (v.type == V_STR) return *ret = (int64_t)srn__cp_count(v.u.s), srn__work(in, v.u.s->len / 64);
    if (v.type == V_SEQ && v.u.seq->kind != SEQ_GEN) return *ret = (int64_t)v.u.seq->n, true;
    if (v.type == V_DICT) return *ret = (int64_t)v.u.dict->n, true;
    if (v.type == V_UNDEF) return *ret = 0, true;
    if (v.type == V_LOOP) {
        srn__val n;
        bool found;
        if (!srn__loop_attr(in, v.u.loop, SRN_STR("length"), &n, &found)) return false;
        return *ret = n.u.i, true;
    }
    return srn__err(in, SRN_EFORMAT, "a %s has no length", srn__type_name(v));
}

/* ---- iteration ---- */

static bool iterate_str(srn__in *in, const srn__text *s, srn__seq **ret) {
    srn__seq *list = srn__seq_new(in, SEQ_LIST, 0);
    uint32_t cp;
    for (size_t at = 0; list && at < s->len;) {
        size_t len = srn__cp_next(s->ptr + at, s->len - at, &cp);
        srn__val c;
        if (!srn__work(in, 1) || !srn__str_part(in, s, at, at + len, &c) || !srn__seq_push(in, list, c))
            return false;
        at += len;
    }
    *ret = list;
    return list != NULL;
}

bool srn__iterate(srn__in *in, srn__val v, srn__seq **ret) {
    if (v.type == V_STR) return iterate_str(in, v.u.s, ret);
    srn__seq *list = srn__seq_new(in, SEQ_LIST, 0);
    if (!list) return false;
    *ret = list;
    switch (v.type) {
    case V_UNDEF:
        return true;
    case V_SEQ: {
        srn__seq *s = v.u.seq;
        *list = (srn__seq){
            .items = s->n ? s->items + s->taken : NULL, .n = s->n - s->taken, .cap = s->n - s->taken};
        if (s->kind == SEQ_GEN) s->taken = s->n;
        return true;
    }
    case V_DICT:
        for (size_t i = 0; i < v.u.dict->n; i++)
            if (!srn__seq_push(in, list, v.u.dict->pairs[i].k)) return false;
        return srn__work(in, v.u.dict->n / 8);
    default:
        return srn__err(in, SRN_EFORMAT, "a %s cannot be iterated", srn__type_name(v));
    }
}
