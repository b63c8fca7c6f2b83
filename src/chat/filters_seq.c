/* The filters on sequences and mappings. Called through eval.c. Those that are generators in Jinja give a
 * generator here too: it can be walked once, and has no length.
 */
#include "chat/chat_internal.h"

#define FILTER(fn)                                                                                           \
    static bool fn(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret)
#define UNUSED (void)in, (void)vals, (void)raw

static bool tainted(srn__val v) {
    return v.tainted || (v.type == V_STR && !srn__all_trusted(v.u.s));
}

/* The value that items are compared by: an attribute where one is named, in lower case unless told otherwise.
 */
static bool sort_key(srn__in *in, srn__val item, srn__val attribute, bool case_sensitive, srn__val *ret) {
    *ret = item;
    if (srn__given(attribute) && attribute.type != V_NONE && !srn__attr_path(in, item, attribute, ret))
        return false;
    if (case_sensitive || ret->type != V_STR) return true;
    const srn__builtin *lower = srn__str_method(SRN_STR("lower"));
    return lower->fn(in, *ret, NULL, NULL, ret);
}

static bool flag(srn__val v) {
    return srn__given(v) && srn__truth(v);
}

FILTER(f_list) {
    UNUSED;
    srn__seq *s;
    if (!srn__iterate(in, self, &s)) return false;
    *ret = srn__seq_val(s, tainted(self));
    return true;
}

FILTER(f_first) {
    UNUSED;
    if (self.type == V_SEQ && self.u.seq->kind == SEQ_GEN) {
        srn__seq *g = self.u.seq;
        if (g->taken < g->n) return *ret = g->items[g->taken++], true;
    } else {
        srn__seq *s;
        if (!srn__iterate(in, self, &s)) return false;
        if (s->n) return *ret = s->items[0], true;
    }
    return srn__undef(in, "there is no first item, the sequence is empty", ret);
}

FILTER(f_last) {
    UNUSED;
    srn__seq *s;
    if (self.type == V_UNDEF || (self.type == V_SEQ && self.u.seq->kind == SEQ_GEN))
        return srn__err(in, SRN_EFORMAT, "last needs a sequence, not a %s", srn__type_name(self));
    if (!srn__iterate(in, self, &s)) return false;
    if (s->n) return *ret = s->items[s->n - 1], true;
    return srn__undef(in, "there is no last item, the sequence is empty", ret);
}

FILTER(f_items) {
    UNUSED;
    srn__val view;
    srn__args none = {0};
    if (self.type == V_UNDEF) return f_list(in, self, vals, raw, ret);
    if (self.type != V_DICT)
        return srn__err(in, SRN_EFORMAT, "items needs a dict, not a %s", srn__type_name(self));
    if (!srn__getattr(in, self, SRN_STR("items"), &view) || !srn__call(in, view, &none, ret)) return false;
    ret->u.seq->kind = SEQ_GEN;
    return true;
}

FILTER(f_join) {
    (void)raw;
    srn__seq *items;
    const srn__text *sep = NULL;
    srn__builder b = {0};
    if (srn__given(vals[0]) && !srn__to_text(in, vals[0], &sep)) return false;
    if (!srn__iterate(in, self, &items)) return false;
    for (size_t i = 0; i < items->n; i++) {
        srn__val v = items->items[i];
        if (srn__given(vals[1]) && vals[1].type != V_NONE && !srn__attr_path(in, v, vals[1], &v))
            return false;
        if (!srn__work(in, 1) || (i && sep && !srn__put_text(in, &b, sep)) || !srn__put_str(in, &b, v))
            return false;
    }
    return srn__finish(in, &b, ret);
}

FILTER(f_reverse) {
    UNUSED;
    srn__seq *s, *out;
    if (self.type == V_STR) return srn__slice(in, self, srn__none(), srn__none(), srn__int(-1), ret);
    if (!srn__iterate(in, self, &s) || !(out = srn__seq_new(in, SEQ_GEN, s->n))) return false;
    for (size_t i = s->n; i-- > 0;) out->items[out->n++] = s->items[i];
    *ret = srn__seq_val(out, self.tainted);
    return srn__work(in, s->n / 8);
}

/* ---- map, select, reject ---- */

static bool named_filter(srn__in *in, srn__val name, const srn__builtin **ret) {
    const srn__text *s;
    if (!srn__want_text(in, name, "the name of a filter", &s)) return false;
    *ret = srn__filter(srn__bytes(s));
    return *ret || srn__err(in, SRN_EFORMAT, "there is no filter '%.*s'", (int)SRN_MIN(s->len, 60), s->ptr);
}

static bool map_attribute(srn__in *in, const srn__args *raw, srn__val *ret_attr, srn__val *ret_default,
                          bool *ret_is) {
    *ret_is = false;
    ret_default->type = V_MISSING;
    if (raw->n) return true;
    for (size_t i = 0; i < raw->n_kw; i++) {
        if (srn_str_eqz(raw->kw[i].name, "attribute")) {
            *ret_attr = raw->kw[i].v;
            *ret_is = true;
        } else if (srn_str_eqz(raw->kw[i].name, "default")) {
            *ret_default = raw->kw[i].v;
        } else {
            return srn__err(in, SRN_EFORMAT, "map has no parameter '%.*s'",
                            (int)SRN_MIN(raw->kw[i].name.len, 60), raw->kw[i].name.ptr);
        }
    }
    return *ret_is || srn__err(in, SRN_EFORMAT, "map needs the name of a filter or attribute=");
}

FILTER(f_map) {
    (void)vals;
    srn__seq *items, *out = srn__seq_new(in, SEQ_GEN, 0);
    srn__val attr, fallback;
    bool by_attr;
    const srn__builtin *b = NULL;
    srn__args rest = *raw;
    if (!out) return false;
    *ret = srn__seq_val(out, self.tainted);
    if (!srn__truth(self)) return true;
    if (!map_attribute(in, raw, &attr, &fallback, &by_attr)) return false;
    if (!by_attr && !named_filter(in, raw->pos[0], &b)) return false;
    if (!by_attr) rest.pos++, rest.n--;
    if (!srn__iterate(in, self, &items)) return false;
    for (size_t i = 0; i < items->n; i++) {
        srn__val v;
        bool ok = by_attr ? srn__attr_path(in, items->items[i], attr, &v)
                          : srn__call_builtin(in, b, items->items[i], &rest, &v);
        if (!ok) return false;
        if (by_attr && v.type == V_UNDEF && srn__given(fallback) && fallback.type != V_NONE) v = fallback;
        if (!srn__seq_push(in, out, v)) return false;
    }
    return true;
}

static bool pick(srn__in *in, srn__val self, const srn__args *raw, bool want, bool by_attr, srn__val *ret) {
    srn__seq *items, *out = srn__seq_new(in, SEQ_GEN, 0);
    srn__args rest = *raw;
    srn__val attr = srn__none();
    if (!out) return false;
    *ret = srn__seq_val(out, self.tainted);
    if (!srn__truth(self)) return true;
    if (by_attr) {
        if (!raw->n) return srn__err(in, SRN_EFORMAT, "selectattr needs the name of an attribute");
        attr = raw->pos[0];
        rest.pos++, rest.n--;
    }
    bool has_test = rest.n > 0;
    srn__val name = has_test ? rest.pos[0] : srn__none();
    if (has_test) rest.pos++, rest.n--;
    if (!srn__iterate(in, self, &items)) return false;
    for (size_t i = 0; i < items->n; i++) {
        srn__val v = items->items[i];
        bool yes;
        if (!srn__work(in, 1) || (by_attr && !srn__attr_path(in, v, attr, &v))) return false;
        if (!has_test)
            yes = srn__truth(v);
        else if (!srn__apply_test(in, name, v, &rest, &yes))
            return false;
        if (yes == want && !srn__seq_push(in, out, items->items[i])) return false;
    }
    return true;
}

FILTER(f_select) {
    UNUSED;
    return pick(in, self, raw, true, false, ret);
}

FILTER(f_reject) {
    UNUSED;
    return pick(in, self, raw, false, false, ret);
}

FILTER(f_selectattr) {
    UNUSED;
    return pick(in, self, raw, true, true, ret);
}

FILTER(f_rejectattr) {
    UNUSED;
    return pick(in, self, raw, false, true, ret);
}

/* ---- order ---- */

typedef struct keyed {
    srn__val key, item;
} keyed;

/* A stable merge sort; `reverse` keeps equal items in their order too. */
static bool merge_sort(srn__in *in, keyed *a, keyed *tmp, size_t n, bool reverse) {
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * width) {
            size_t mid = SRN_MIN(lo + width, n), hi = SRN_MIN(lo + 2 * width, n), i = lo, j = mid, k = lo;
            while (i < mid && j < hi) {
                bool second;
                srn__val x = reverse ? a[i].key : a[j].key, y = reverse ? a[j].key : a[i].key;
                if (!srn__work(in, 1) || !srn__order(in, x, y, OP_LT, &second)) return false;
                tmp[k++] = second ? a[j++] : a[i++];
            }
            while (i < mid) tmp[k++] = a[i++];
            while (j < hi) tmp[k++] = a[j++];
        }
        memcpy(a, tmp, n * sizeof *a);
    }
    return true;
}

static bool sorted(srn__in *in, srn__seq *items, srn__val attribute, bool case_sensitive, bool reverse,
                   keyed **ret) {
    keyed *a = srn__alloc(in, items->n, sizeof *a), *tmp = srn__alloc(in, items->n, sizeof *tmp);
    if (!a || !tmp) return false;
    for (size_t i = 0; i < items->n; i++) {
        a[i].item = items->items[i];
        if (!sort_key(in, a[i].item, attribute, case_sensitive, &a[i].key)) return false;
    }
    *ret = a;
    return merge_sort(in, a, tmp, items->n, reverse);
}

static bool from_keyed(srn__in *in, const keyed *a, size_t n, bool taint, srn__val *ret) {
    srn__seq *out = srn__seq_new(in, SEQ_LIST, n);
    if (!out) return false;
    for (size_t i = 0; i < n; i++) out->items[out->n++] = a[i].item;
    *ret = srn__seq_val(out, taint);
    return true;
}

/* Attributes may be several, "a,b": then the key is a tuple of them. */
static bool multi_key(srn__in *in, srn__val item, const srn__text *names, bool case_sensitive,
                      srn__val *ret) {
    srn__seq *key = srn__seq_new(in, SEQ_TUPLE, 0);
    if (!key) return false;
    for (size_t from = 0; from <= names->len;) {
        size_t to = srn__find(srn__bytes(names), SRN_STR(","), from);
        if (to == SIZE_MAX) to = names->len;
        srn__val name, v;
        if (!srn__str_part(in, names, from, to, &name) || !sort_key(in, item, name, case_sensitive, &v) ||
            !srn__seq_push(in, key, v))
            return false;
        from = to + 1;
    }
    *ret = srn__seq_val(key, false);
    return true;
}

FILTER(f_sort) {
    (void)raw;
    srn__seq *items;
    keyed *a;
    srn__val attr = vals[2];
    bool reverse = flag(vals[0]), cs = flag(vals[1]);
    if (!srn__iterate(in, self, &items)) return false;
    bool several = attr.type == V_STR && srn__find(srn__bytes(attr.u.s), SRN_STR(","), 0) != SIZE_MAX;
    if (!several) {
        if (!sorted(in, items, attr, cs, reverse, &a)) return false;
    } else {
        a = srn__alloc(in, items->n, sizeof *a);
        keyed *tmp = srn__alloc(in, items->n, sizeof *tmp);
        if (!a || !tmp) return false;
        for (size_t i = 0; i < items->n; i++) {
            a[i].item = items->items[i];
            if (!multi_key(in, a[i].item, attr.u.s, cs, &a[i].key)) return false;
        }
        if (!merge_sort(in, a, tmp, items->n, reverse)) return false;
    }
    return from_keyed(in, a, items->n, tainted(self), ret);
}

FILTER(f_dictsort) {
    (void)raw;
    srn__seq *items;
    keyed *a;
    const srn__text *by = NULL;
    if (self.type != V_DICT)
        return srn__err(in, SRN_EFORMAT, "dictsort needs a dict, not a %s", srn__type_name(self));
    if (srn__given(vals[1]) && !srn__want_text(in, vals[1], "by", &by)) return false;
    bool value = by && srn_str_eqz(srn__bytes(by), "value");
    if (by && !value && !srn_str_eqz(srn__bytes(by), "key"))
        return srn__err(in, SRN_EFORMAT, "dictsort: by must be key or value");
    srn__val pairs;
    if (!f_items(in, self, vals, raw, &pairs) || !srn__iterate(in, pairs, &items)) return false;
    return sorted(in, items, srn__int(value), flag(vals[0]), flag(vals[2]), &a) &&
           from_keyed(in, a, items->n, self.tainted, ret);
}

FILTER(f_unique) {
    (void)raw;
    srn__seq *items, *out = srn__seq_new(in, SEQ_GEN, 0);
    srn__dict *seen = srn__dict_new(in, 0);
    if (!out || !seen || !srn__iterate(in, self, &items)) return false;
    for (size_t i = 0; i < items->n; i++) {
        srn__val key, old;
        bool found;
        if (!sort_key(in, items->items[i], vals[1], flag(vals[0]), &key) || !srn__hashable(in, key) ||
            !srn__dict_get(in, seen, key, &old, &found))
            return false;
        if (!found &&
            (!srn__dict_push(in, seen, key, srn__none()) || !srn__seq_push(in, out, items->items[i])))
            return false;
    }
    *ret = srn__seq_val(out, self.tainted);
    return true;
}

FILTER(f_groupby) {
    (void)raw;
    srn__seq *items, *out = srn__seq_new(in, SEQ_LIST, 0), *group = NULL;
    keyed *a, *tmp;
    bool cs = flag(vals[2]);
    if (!out || !srn__iterate(in, self, &items)) return false;
    a = srn__alloc(in, items->n, sizeof *a);
    tmp = srn__alloc(in, items->n, sizeof *tmp);
    srn__val *real = srn__alloc(in, items->n, sizeof *real);
    if (!a || !tmp || !real) return false;
    for (size_t i = 0; i < items->n; i++) {
        a[i].item = items->items[i];
        if (!srn__attr_path(in, a[i].item, vals[0], &a[i].key)) return false;
        if (a[i].key.type == V_UNDEF && srn__given(vals[1]) && vals[1].type != V_NONE) a[i].key = vals[1];
        if (!cs && !sort_key(in, a[i].key, srn__none(), false, &a[i].key)) return false;
    }
    if (!merge_sort(in, a, tmp, items->n, false)) return false;
    for (size_t i = 0; i < items->n; i++) {
        bool same = false;
        if (i && !srn__equal(in, a[i].key, a[i - 1].key, &same)) return false;
        if (!same) {
            srn__seq *pair = srn__seq_new(in, SEQ_GROUP, 2);
            srn__val key;
            group = srn__seq_new(in, SEQ_LIST, 0);
            if (!pair || !group || !srn__attr_path(in, a[i].item, vals[0], &key)) return false;
            if (key.type == V_UNDEF && srn__given(vals[1]) && vals[1].type != V_NONE) key = vals[1];
            pair->items[0] = key;
            pair->items[1] = srn__seq_val(group, self.tainted);
            pair->n = 2;
            if (!srn__seq_push(in, out, srn__seq_val(pair, self.tainted))) return false;
        }
        if (!srn__seq_push(in, group, a[i].item)) return false;
    }
    *ret = srn__seq_val(out, self.tainted);
    return true;
}

static bool extreme(srn__in *in, srn__val self, srn__val *vals, srn__op op, srn__val *ret) {
    srn__seq *items;
    srn__val best;
    if (!srn__iterate(in, self, &items)) return false;
    if (!items->n) return srn__undef(in, "there is no smallest or largest item, the sequence is empty", ret);
    *ret = items->items[0];
    if (!sort_key(in, *ret, vals[1], flag(vals[0]), &best)) return false;
    for (size_t i = 1; i < items->n; i++) {
        srn__val key;
        bool better;
        if (!srn__work(in, 1) || !sort_key(in, items->items[i], vals[1], flag(vals[0]), &key) ||
            !srn__order(in, key, best, op, &better))
            return false;
        if (better) best = key, *ret = items->items[i];
    }
    return true;
}

FILTER(f_min) {
    UNUSED;
    return extreme(in, self, vals, OP_LT, ret);
}

FILTER(f_max) {
    UNUSED;
    return extreme(in, self, vals, OP_GT, ret);
}

FILTER(f_sum) {
    (void)raw;
    srn__seq *items;
    if (!srn__iterate(in, self, &items)) return false;
    *ret = srn__given(vals[1]) ? vals[1] : srn__int(0);
    if (ret->type == V_STR) return srn__err(in, SRN_EFORMAT, "sum cannot add strings; use join");
    for (size_t i = 0; i < items->n; i++) {
        srn__val v = items->items[i];
        if (srn__given(vals[0]) && vals[0].type != V_NONE && !srn__attr_path(in, v, vals[0], &v))
            return false;
        if (!srn__work(in, 1) || !srn__binary(in, OP_ADD, *ret, v, ret)) return false;
    }
    return true;
}

/* ---- in parts ---- */

FILTER(f_batch) {
    (void)raw;
    int64_t size;
    srn__seq *items, *out = srn__seq_new(in, SEQ_GEN, 0), *row = NULL;
    if (!out || !srn__want_int(in, vals[0], "linecount", 0, &size) || !srn__iterate(in, self, &items))
        return false;
    for (size_t i = 0; i < items->n; i++) {
        if (!row || (int64_t)row->n == size) {
            row = srn__seq_new(in, SEQ_LIST, 0);
            if (!row || !srn__seq_push(in, out, srn__seq_val(row, self.tainted))) return false;
        }
        if (!srn__work(in, 1) || !srn__seq_push(in, row, items->items[i])) return false;
    }
    while (row && srn__given(vals[1]) && vals[1].type != V_NONE && (int64_t)row->n < size)
        if (!srn__work(in, 1) || !srn__seq_push(in, row, vals[1])) return false;
    *ret = srn__seq_val(out, self.tainted);
    return true;
}

FILTER(f_slice) {
    (void)raw;
    int64_t parts;
    srn__seq *items, *out = srn__seq_new(in, SEQ_GEN, 0);
    if (!out || !srn__want_int(in, vals[0], "slices", 0, &parts) || !srn__iterate(in, self, &items))
        return false;
    if (parts <= 0)
        return parts ? (*ret = srn__seq_val(out, false), true)
                     : srn__err(in, SRN_EFORMAT, "division by zero");
    int64_t each = (int64_t)items->n / parts, extra = (int64_t)items->n % parts;
    size_t at = 0;
    for (int64_t p = 0; p < parts; p++) {
        srn__seq *row = srn__seq_new(in, SEQ_LIST, 0);
        if (!row || !srn__work(in, 1) || !srn__seq_push(in, out, srn__seq_val(row, self.tainted)))
            return false;
        for (int64_t i = 0; i < each + (p < extra); i++)
            if (!srn__seq_push(in, row, items->items[at++])) return false;
        if (srn__given(vals[1]) && vals[1].type != V_NONE && p >= extra && !srn__seq_push(in, row, vals[1]))
            return false;
    }
    *ret = srn__seq_val(out, self.tainted);
    return true;
}

const srn__builtin *srn__seq_filter(srn_str name) {
    static const srn__builtin rows[] = {
        {"batch", f_batch, "linecount fill_with?"},
        {"dictsort", f_dictsort, "case_sensitive? by? reverse?"},
        {"first", f_first, ""},
        {"groupby", f_groupby, "attribute default? case_sensitive?"},
        {"items", f_items, ""},
        {"join", f_join, "d? attribute?"},
        {"last", f_last, ""},
        {"list", f_list, ""},
        {"map", f_map, "*"},
        {"max", f_max, "case_sensitive? attribute?"},
        {"min", f_min, "case_sensitive? attribute?"},
        {"reject", f_reject, "*"},
        {"rejectattr", f_rejectattr, "*"},
        {"reverse", f_reverse, ""},
        {"select", f_select, "*"},
        {"selectattr", f_selectattr, "*"},
        {"slice", f_slice, "slices fill_with?"},
        {"sort", f_sort, "reverse? case_sensitive? attribute?"},
        {"sum", f_sum, "attribute? start?"},
        {"unique", f_unique, "case_sensitive? attribute?"},
    };
    return srn__builtin_find(rows, SRN_LEN(rows), name);
}
