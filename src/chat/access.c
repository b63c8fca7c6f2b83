/* Attributes and items: obj.name, obj[key], and the methods of dicts and lists. Called by eval.c and the
 * filters. As in the sandbox that chat templates are written for, nothing here changes a value: the mutating
 * methods and names that start with "__" are undefined, with a sentence that says so.
 */
#include "chat/chat_internal.h"

static bool method(srn__in *in, const srn__builtin *b, srn__val self, srn__val *ret) {
    srn__func *f = srn__alloc(in, 1, sizeof *f);
    if (!f) return false;
    *f = (srn__func){.kind = FN_BUILTIN, .builtin = b, .self = self};
    *ret = (srn__val){.type = V_FUNC, .u.func = f};
    return true;
}

/* ---- dict ---- */

static bool dict_view(srn__in *in, srn__val self, srn__seq_kind kind, srn__val *ret) {
    const srn__dict *d = self.u.dict;
    srn__seq *s = srn__seq_new(in, kind, d->n);
    if (!s || !srn__work(in, d->n)) return false;
    for (size_t i = 0; i < d->n; i++) {
        srn__val item = kind == SEQ_KEYS ? d->pairs[i].k : d->pairs[i].v;
        if (kind == SEQ_ITEMS) {
            srn__seq *pair = srn__seq_new(in, SEQ_TUPLE, 2);
            if (!pair) return false;
            pair->items[0] = d->pairs[i].k;
            pair->items[1] = d->pairs[i].v;
            pair->n = 2;
            item = srn__seq_val(pair, self.tainted);
        }
        s->items[s->n++] = item;
    }
    *ret = srn__seq_val(s, self.tainted);
    return true;
}

static bool dict_items(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret) {
    (void)vals, (void)raw;
    return dict_view(in, self, SEQ_ITEMS, ret);
}

static bool dict_keys(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret) {
    (void)vals, (void)raw;
    return dict_view(in, self, SEQ_KEYS, ret);
}

static bool dict_values(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret) {
    (void)vals, (void)raw;
    return dict_view(in, self, SEQ_VALUES, ret);
}

static bool dict_get(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret) {
    (void)raw;
    bool found;
    if (!srn__hashable(in, vals[0]) || !srn__dict_get(in, self.u.dict, vals[0], ret, &found)) return false;
    if (!found) *ret = srn__given(vals[1]) ? vals[1] : srn__none();
    return true;
}

static bool same_value(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret) {
    (void)in, (void)vals, (void)raw;
    *ret = self;
    return true;
}

/* ---- list and tuple ---- */

static bool list_index(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret) {
    (void)raw;
    int64_t n = (int64_t)self.u.seq->n, from, to;
    if (!srn__want_int(in, vals[1], "start", 0, &from) || !srn__want_int(in, vals[2], "stop", n, &to))
        return false;
    from = SRN_MAX(from < 0 ? from + n : from, 0);
    to = SRN_MIN(to < 0 ? to + n : to, n);
    for (int64_t i = from; i < to; i++) {
        bool same;
        if (!srn__work(in, 1) || !srn__equal(in, self.u.seq->items[i], vals[0], &same)) return false;
        if (same) return *ret = srn__int(i), ret->tainted = self.tainted, true;
    }
    return srn__err(in, SRN_EFORMAT, "index(): the value is not in the list");
}

static bool list_count(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret) {
    (void)raw;
    int64_t count = 0;
    for (size_t i = 0; i < self.u.seq->n; i++) {
        bool same;
        if (!srn__work(in, 1) || !srn__equal(in, self.u.seq->items[i], vals[0], &same)) return false;
        count += same;
    }
    *ret = srn__int(count);
    ret->tainted = self.tainted;
    return true;
}

/* ---- cycler ---- */

static bool cycler_current(srn__in *in, srn__dict *state, srn__val *ret) {
    (void)in;
    *ret = state->pairs[1].v.u.seq->items[state->pairs[0].v.u.i];
    return true;
}

static bool cycler_next(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret) {
    (void)vals, (void)raw;
    srn__dict *state = self.u.dict;
    if (!cycler_current(in, state, ret)) return false;
    int64_t n = (int64_t)state->pairs[1].v.u.seq->n;
    state->pairs[0].v.u.i = (state->pairs[0].v.u.i + 1) % n;
    return true;
}

static bool cycler_reset(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret) {
    (void)in, (void)vals, (void)raw;
    self.u.dict->pairs[0].v.u.i = 0;
    *ret = srn__none();
    return true;
}

/* ---- look-up ---- */

static const srn__builtin dict_methods[] = {{"items", dict_items, ""},
                                            {"keys", dict_keys, ""},
                                            {"values", dict_values, ""},
                                            {"get", dict_get, "key default?"},
                                            {"copy", same_value, ""}};
static const srn__builtin list_methods[] = {
    {"index", list_index, "value start? stop?"}, {"count", list_count, "value"}, {"copy", same_value, ""}};
static const srn__builtin cycler_methods[] = {{"next", cycler_next, ""}, {"reset", cycler_reset, ""}};

static bool one_of(srn_str name, const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (srn_str_eqz(name, names[i])) return true;
    return false;
}

static bool mutates(srn__val obj, srn_str name) {
    static const char *const of_dict[] = {"clear", "pop", "popitem", "setdefault", "update"};
    static const char *const of_list[] = {"append", "clear", "pop",    "reverse",
                                          "insert", "sort",  "extend", "remove"};
    if (obj.type == V_DICT) return one_of(name, of_dict, SRN_LEN(of_dict));
    return obj.type == V_SEQ && obj.u.seq->kind == SEQ_LIST && one_of(name, of_list, SRN_LEN(of_list));
}

static bool range_attr(const srn__seq *s, srn_str name, srn__val *ret, bool *ret_found) {
    *ret_found = true;
    if (srn_str_eqz(name, "start"))
        *ret = srn__int(s->start);
    else if (srn_str_eqz(name, "stop"))
        *ret = srn__int(s->stop);
    else if (srn_str_eqz(name, "step"))
        *ret = srn__int(s->step);
    else
        *ret_found = false;
    return true;
}

static bool seq_attr(srn__in *in, srn__val obj, srn_str name, srn__val *ret, bool *ret_found) {
    const srn__seq *s = obj.u.seq;
    if (s->kind == SEQ_RANGE) return range_attr(s, name, ret, ret_found);
    if (s->kind == SEQ_GROUP && (srn_str_eqz(name, "grouper") || srn_str_eqz(name, "list"))) {
        *ret_found = true;
        return *ret = s->items[srn_str_eqz(name, "list")], true;
    }
    const srn__builtin *b =
        srn__builtin_find(list_methods, SRN_LEN(list_methods) - (s->kind != SEQ_LIST), name);
    *ret_found = b && s->kind <= SEQ_GROUP;
    return !*ret_found || method(in, b, obj, ret);
}

/* Attributes proper, without the fallback to items. */
static bool own_attr(srn__in *in, srn__val obj, srn_str name, srn__val *ret, bool *ret_found) {
    const srn__builtin *b = NULL;
    const srn__val *v;
    *ret_found = false;
    switch (obj.type) {
    case V_SEQ:
        return seq_attr(in, obj, name, ret, ret_found);
    case V_LOOP:
        return srn__loop_attr(in, obj.u.loop, name, ret, ret_found);
    case V_NS:
        v = srn__dict_getz(obj.u.dict, name);
        *ret_found = v != NULL;
        if (v) *ret = *v;
        return true;
    case V_FUNC:
        *ret_found = obj.u.func->kind == FN_MACRO && srn_str_eqz(name, "name");
        return !*ret_found ||
               srn__str_new(in, obj.u.func->node->name, strlen(obj.u.func->node->name), true, ret);
    case V_CYCLER:
        if (srn_str_eqz(name, "current")) return *ret_found = true, cycler_current(in, obj.u.dict, ret);
        b = srn__builtin_find(cycler_methods, SRN_LEN(cycler_methods), name);
        break;
    case V_DICT:
        b = srn__builtin_find(dict_methods, SRN_LEN(dict_methods), name);
        break;
    case V_STR:
        b = srn__str_method(name);
        break;
    default:
        break;
    }
    *ret_found = b != NULL;
    return !b || method(in, b, obj, ret);
}

static bool unsafe(srn__in *in, srn__val obj, srn_str name, srn__val *ret) {
    char text[200];
    snprintf(text, sizeof text,
             "access to attribute '%.*s' of a %s is unsafe: chat templates may not change values",
             (int)SRN_MIN(name.len, 60), name.ptr, srn__type_name(obj));
    char *hint = srn_arena_strndup(&in->arena, text, strlen(text));
    return hint ? srn__undef(in, hint, ret) : srn__nomem(in);
}

bool srn__getattr(srn__in *in, srn__val obj, srn_str name, srn__val *ret) {
    bool found;
    if (obj.type == V_UNDEF) return srn__undef_fail(in, obj);
    if (mutates(obj, name) || (name.len > 1 && memcmp(name.ptr, "__", 2) == 0))
        return unsafe(in, obj, name, ret);
    if (!own_attr(in, obj, name, ret, &found)) return false;
    if (found) return true;
    if (obj.type == V_DICT) {
        const srn__val *v = srn__dict_getz(obj.u.dict, name);
        if (!srn__work(in, obj.u.dict->n / 16)) return false;
        if (v) return *ret = *v, true;
    }
    return srn__undef_name(in, name, obj.type, ret);
}

static bool index_of(srn__val key, int64_t n, int64_t *ret) {
    if (!srn__is_intlike(key)) return false;
    int64_t i = srn__as_int(key);
    if (i < 0) i += n;
    *ret = i;
    return i >= 0 && i < n;
}

static bool is_key(srn__val key) {
    return key.type != V_DICT && !(key.type == V_SEQ && key.u.seq->kind == SEQ_LIST);
}

/* obj[key] alone. */
static bool own_item(srn__in *in, srn__val obj, srn__val key, srn__val *ret, bool *ret_found) {
    int64_t n, i;
    *ret_found = false;
    if (obj.type == V_DICT) return !is_key(key) || srn__dict_get(in, obj.u.dict, key, ret, ret_found);
    if (obj.type == V_SEQ && obj.u.seq->kind <= SEQ_RANGE) {
        *ret_found = index_of(key, (int64_t)obj.u.seq->n, &i);
        if (*ret_found) *ret = obj.u.seq->items[i];
        return true;
    }
    if (obj.type != V_STR || !srn__is_intlike(key)) return true;
    const srn__text *s = obj.u.s;
    if (!srn__length(in, obj, &n) || !index_of(key, n, &i)) return in->code == 0;
    size_t at = srn__cp_offset(s, (size_t)i);
    uint32_t cp;
    *ret_found = true;
    return srn__str_part(in, s, at, at + srn__cp_next(s->ptr + at, s->len - at, &cp), ret);
}

bool srn__getitem(srn__in *in, srn__val obj, srn__val key, srn__val *ret) {
    bool found;
    if (obj.type == V_UNDEF) return srn__undef_fail(in, obj);
    if (!own_item(in, obj, key, ret, &found)) return false;
    if (found) return true;
    const srn__text *name;
    if (key.type == V_STR) {
        srn_str z = srn__bytes(key.u.s);
        if (mutates(obj, z) || (z.len > 1 && memcmp(z.ptr, "__", 2) == 0)) return unsafe(in, obj, z, ret);
        if (!own_attr(in, obj, z, ret, &found)) return false;
        if (found) return true;
    }
    return srn__to_text(in, key, &name) && srn__undef_name(in, srn__bytes(name), obj.type, ret);
}

bool srn__attr_path(srn__in *in, srn__val obj, srn__val path, srn__val *ret) {
    *ret = obj;
    if (path.type != V_STR) return srn__getitem(in, obj, path, ret);
    const srn__text *s = path.u.s;
    for (size_t from = 0; from <= s->len;) {
        size_t to = srn__find(srn__bytes(s), SRN_STR("."), from);
        if (to == SIZE_MAX) to = s->len;
        bool digits = to > from && to - from < 10;
        int64_t index = 0;
        for (size_t i = from; digits && i < to; i++) {
            digits = s->ptr[i] >= '0' && s->ptr[i] <= '9';
            index = index * 10 + (s->ptr[i] - '0');
        }
        srn__val key = srn__int(index), item;
        if (!digits && !srn__str_part(in, s, from, to, &key)) return false;
        if (!srn__getitem(in, *ret, key, &item)) return false;
        *ret = item;
        from = to + 1;
    }
    return true;
}
