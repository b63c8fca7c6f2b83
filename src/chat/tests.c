/* The tests behind `is`, and the global functions (range, namespace, raise_exception, strftime_now ...).
 * Called through eval.c; the globals are put into the outermost scope by template.c.
 */
#include "chat/chat_internal.h"

#include <time.h>

#define TEST(fn)                                                                                             \
    static bool fn(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret)
#define UNUSED (void)in, (void)self, (void)vals, (void)raw

/* The condition speaks of self. */
#define TEST_IF(name, condition)                                                                             \
    TEST(name) {                                                                                             \
        UNUSED;                                                                                              \
        *ret = srn__bool(condition);                                                                         \
        return true;                                                                                         \
    }

static bool iterable(srn__val v) {
    return v.type == V_STR || v.type == V_SEQ || v.type == V_DICT || v.type == V_UNDEF || v.type == V_LOOP;
}

static bool sequence(srn__val v) {
    if (v.type == V_SEQ) return v.u.seq->kind <= SEQ_RANGE;
    return v.type == V_STR || v.type == V_DICT;
}

TEST_IF(t_defined, self.type != V_UNDEF)
TEST_IF(t_undefined, self.type == V_UNDEF)
TEST_IF(t_none, self.type == V_NONE)
TEST_IF(t_boolean, self.type == V_BOOL)
TEST_IF(t_true, self.type == V_BOOL && self.u.b)
TEST_IF(t_false, self.type == V_BOOL && !self.u.b)
TEST_IF(t_integer, self.type == V_INT)
TEST_IF(t_float, self.type == V_FLOAT)
TEST_IF(t_number, srn__is_numberlike(self))
TEST_IF(t_string, self.type == V_STR)
TEST_IF(t_mapping, self.type == V_DICT)
TEST_IF(t_iterable, iterable(self))
TEST_IF(t_sequence, sequence(self))
TEST_IF(t_callable,
        self.type == V_FUNC || self.type == V_JOINER || self.type == V_LOOP || self.type == V_UNDEF)
TEST_IF(t_escaped, false)
TEST_IF(t_filter, self.type == V_STR && srn__filter(srn__bytes(self.u.s)))
TEST_IF(t_test, self.type == V_STR && srn__test(srn__bytes(self.u.s)))

static bool modulo(srn__in *in, srn__val v, srn__val by, int64_t want, srn__val *ret) {
    srn__val rest;
    bool same;
    if (!srn__binary(in, OP_MOD, v, by, &rest) || !srn__equal(in, rest, srn__int(want), &same)) return false;
    *ret = srn__bool(same);
    return true;
}

TEST(t_odd) {
    UNUSED;
    return modulo(in, self, srn__int(2), 1, ret);
}

TEST(t_even) {
    UNUSED;
    return modulo(in, self, srn__int(2), 0, ret);
}

TEST(t_divisibleby) {
    UNUSED;
    return modulo(in, self, vals[0], 0, ret);
}

static bool by_case(srn__in *in, srn__val self, const char *method, srn__val *ret) {
    const srn__text *s;
    if (!srn__to_text(in, self, &s)) return false;
    srn__val v = {.type = V_STR, .u.s = s};
    return srn__str_method(srn_str_of(method))->fn(in, v, NULL, NULL, ret);
}

TEST(t_lower) {
    UNUSED;
    return by_case(in, self, "islower", ret);
}

TEST(t_upper) {
    UNUSED;
    return by_case(in, self, "isupper", ret);
}

/* Identity: of small values equality of type and value, else the same object. */
TEST(t_sameas) {
    UNUSED;
    srn__val o = vals[0];
    bool same = self.type == o.type;
    if (same && (self.type == V_SEQ || self.type == V_DICT || self.type == V_NS))
        same = self.type == V_SEQ ? self.u.seq == o.u.seq : self.u.dict == o.u.dict;
    else if (same && !srn__equal(in, self, o, &same))
        return false;
    *ret = srn__bool(same);
    return true;
}

static bool compare(srn__in *in, srn__op op, srn__val a, srn__val b, srn__val *ret) {
    bool yes;
    if (!srn__compare(in, op, a, b, &yes)) return false;
    *ret = srn__bool(yes);
    return true;
}

#define COMPARE(name, op)                                                                                    \
    TEST(name) {                                                                                             \
        UNUSED;                                                                                              \
        return compare(in, op, self, vals[0], ret);                                                          \
    }
COMPARE(t_eq, OP_EQ)
COMPARE(t_ne, OP_NE)
COMPARE(t_lt, OP_LT)
COMPARE(t_le, OP_LE)
COMPARE(t_gt, OP_GT)
COMPARE(t_ge, OP_GE)
COMPARE(t_in, OP_IN)

const srn__builtin *srn__test(srn_str name) {
    static const srn__builtin rows[] = {
        {"!=", t_ne, "other"},
        {"<", t_lt, "other"},
        {"<=", t_le, "other"},
        {"==", t_eq, "other"},
        {">", t_gt, "other"},
        {">=", t_ge, "other"},
        {"boolean", t_boolean, ""},
        {"callable", t_callable, ""},
        {"defined", t_defined, ""},
        {"divisibleby", t_divisibleby, "num"},
        {"eq", t_eq, "other"},
        {"equalto", t_eq, "other"},
        {"escaped", t_escaped, ""},
        {"even", t_even, ""},
        {"false", t_false, ""},
        {"filter", t_filter, ""},
        {"float", t_float, ""},
        {"ge", t_ge, "other"},
        {"greaterthan", t_gt, "other"},
        {"gt", t_gt, "other"},
        {"in", t_in, "seq"},
        {"integer", t_integer, ""},
        {"iterable", t_iterable, ""},
        {"le", t_le, "other"},
        {"lessthan", t_lt, "other"},
        {"lower", t_lower, ""},
        {"lt", t_lt, "other"},
        {"mapping", t_mapping, ""},
        {"ne", t_ne, "other"},
        {"none", t_none, ""},
        {"number", t_number, ""},
        {"odd", t_odd, ""},
        {"sameas", t_sameas, "other"},
        {"sequence", t_sequence, ""},
        {"string", t_string, ""},
        {"test", t_test, ""},
        {"true", t_true, ""},
        {"undefined", t_undefined, ""},
        {"upper", t_upper, ""},
    };
    return srn__builtin_find(rows, SRN_LEN(rows), name);
}

bool srn__apply_test(srn__in *in, srn__val name, srn__val v, const srn__args *args, bool *ret) {
    const srn__text *s;
    srn__val r;
    if (!srn__want_text(in, name, "the name of a test", &s)) return false;
    const srn__builtin *b = srn__test(srn__bytes(s));
    if (!b) return srn__err(in, SRN_EFORMAT, "there is no test '%.*s'", (int)SRN_MIN(s->len, 60), s->ptr);
    if (!srn__call_builtin(in, b, v, args, &r)) return false;
    *ret = srn__truth(r);
    return true;
}

/* ---- globals ---- */

TEST(g_range) {
    (void)self, (void)raw;
    int64_t a, start = 0, stop, step;
    if (!srn__want_int(in, vals[0], "range", 0, &a) || !srn__want_int(in, vals[1], "stop", a, &stop) ||
        !srn__want_int(in, vals[2], "step", 1, &step))
        return false;
    if (srn__given(vals[1])) start = a;
    if (step == 0) return srn__err(in, SRN_EFORMAT, "range: the step cannot be zero");
    uint64_t gap = step > 0 ? (stop > start ? (uint64_t)stop - (uint64_t)start : 0)
                            : (start > stop ? (uint64_t)start - (uint64_t)stop : 0);
    uint64_t by = step > 0 ? (uint64_t)step : 0 - (uint64_t)step, n = gap ? (gap - 1) / by + 1 : 0;
    if (n > SRN__RANGE_MAX)
        return srn__err(in, SRN_ELIMIT, "range: more than the limit of %d items", SRN__RANGE_MAX);
    srn__seq *s = srn__seq_new(in, SEQ_RANGE, n);
    if (!s || !srn__work(in, n / 8)) return false;
    s->start = start;
    s->stop = stop;
    s->step = step;
    bool taint = vals[0].tainted || (srn__given(vals[1]) && vals[1].tainted) ||
                 (srn__given(vals[2]) && vals[2].tainted);
    for (; s->n < n; s->n++) {
        s->items[s->n] = srn__int((int64_t)((uint64_t)start + (uint64_t)s->n * (uint64_t)step));
        s->items[s->n].tainted = taint;
    }
    *ret = srn__seq_val(s, taint);
    return true;
}

/* The dict that dict() and namespace() build from pairs or a mapping, and keywords. */
static bool build_dict(srn__in *in, const srn__args *raw, srn__dict **ret) {
    srn__dict *d = srn__dict_new(in, 0);
    if (!d) return false;
    if (raw->n > 1) return srn__err(in, SRN_EFORMAT, "dict: at most one positional argument");
    if (raw->n && raw->pos[0].type == V_DICT) {
        const srn__dict *from = raw->pos[0].u.dict;
        for (size_t i = 0; i < from->n; i++)
            if (!srn__dict_push(in, d, from->pairs[i].k, from->pairs[i].v)) return false;
    } else if (raw->n) {
        srn__seq *items, *pair;
        if (!srn__iterate(in, raw->pos[0], &items)) return false;
        for (size_t i = 0; i < items->n; i++) {
            if (!srn__iterate(in, items->items[i], &pair)) return false;
            if (pair->n != 2) return srn__err(in, SRN_EFORMAT, "dict: item %zu is not a pair", i);
            if (!srn__dict_set(in, d, pair->items[0], pair->items[1])) return false;
        }
    }
    for (size_t i = 0; i < raw->n_kw; i++) {
        srn__val k;
        if (!srn__kw_name(in, &raw->kw[i], &k) || !srn__dict_set(in, d, k, raw->kw[i].v)) return false;
    }
    *ret = d;
    return true;
}

TEST(g_dict) {
    (void)self, (void)vals;
    ret->tainted = false;
    ret->type = V_DICT;
    return build_dict(in, raw, &ret->u.dict);
}

TEST(g_namespace) {
    (void)self, (void)vals;
    ret->tainted = false;
    ret->type = V_NS;
    return build_dict(in, raw, &ret->u.dict);
}

TEST(g_cycler) {
    (void)self, (void)vals;
    srn__dict *state = srn__dict_new(in, 2);
    srn__seq *items = srn__seq_new(in, SEQ_TUPLE, raw->n);
    if (!state || !items) return false;
    if (!raw->n) return srn__err(in, SRN_EFORMAT, "cycler: at least one item is needed");
    for (size_t i = 0; i < raw->n; i++) items->items[items->n++] = raw->pos[i];
    state->pairs[0].v = srn__int(0);
    state->pairs[1].v = srn__seq_val(items, false);
    state->n = 2;
    *ret = (srn__val){.type = V_CYCLER, .u.dict = state};
    return true;
}

TEST(g_joiner) {
    (void)self, (void)raw;
    srn__dict *state = srn__dict_new(in, 2);
    srn__val sep = vals[0];
    if (!state || (!srn__given(sep) && !srn__str_new(in, ", ", 2, true, &sep))) return false;
    state->pairs[0].v = sep;
    state->n = 1;
    *ret = (srn__val){.type = V_JOINER, .u.dict = state};
    return true;
}

TEST(g_raise) {
    (void)self, (void)raw, (void)ret;
    const srn__text *s;
    if (!srn__to_text(in, vals[0], &s)) return false;
    if (in->code) return false;
    in->code = srn_fail(in->err, SRN_EINVAL, "the chat template refuses these messages: %.*s",
                        (int)SRN_MIN(s->len, 800), s->ptr);
    return false;
}

TEST(g_strftime) {
    (void)self, (void)raw;
    const srn__text *fmt;
    struct tm tm;
    time_t now = (time_t)in->o->now_unix;
    char out[512];
    if (!srn__want_text(in, vals[0], "strftime_now's format", &fmt)) return false;
    if (fmt->len > 200) return srn__err(in, SRN_ELIMIT, "strftime_now: the format is longer than 200 bytes");
    char *z = srn_arena_strndup(&in->arena, fmt->ptr, fmt->len);
    if (!z) return srn__nomem(in);
    if (!gmtime_r(&now, &tm)) return srn__err(in, SRN_EINVAL, "strftime_now: the time is out of range");
    size_t n = strftime(out, sizeof out, z, &tm);
    char *p = srn_arena_strndup(&in->arena, out, n);
    if (!p) return srn__nomem(in);
    return srn__str_new(in, p, n, srn__all_trusted(fmt), ret);
}

bool srn__define_globals(srn__in *in) {
    static const srn__builtin rows[] = {{"range", g_range, "start stop? step?"},
                                        {"dict", g_dict, "*"},
                                        {"namespace", g_namespace, "*"},
                                        {"cycler", g_cycler, "*"},
                                        {"joiner", g_joiner, "sep?"},
                                        {"raise_exception", g_raise, "message"},
                                        {"strftime_now", g_strftime, "format"}};
    for (size_t i = 0; i < SRN_LEN(rows); i++) {
        const char *name = srn__intern((srn_template *)(uintptr_t)in->t, srn_str_of(rows[i].name), false);
        if (!name) continue;
        srn__func *f = srn__alloc(in, 1, sizeof *f);
        if (!f) return false;
        *f = (srn__func){.kind = FN_BUILTIN, .builtin = &rows[i]};
        if (!srn__scope_set(in, in->globals, name, (srn__val){.type = V_FUNC, .u.func = f})) return false;
    }
    return true;
}
