/* Operators, as Python defines them for the types that templates have. Called by eval.c and the filters. An
 * integer result beyond 64 bits is refused (SRN_ELIMIT), never wrapped.
 */
#include "chat/chat_internal.h"

#include <math.h>

static const char *spelling(srn__op op) {
    static const char *const ops[] = {[OP_ADD] = "+",       [OP_SUB] = "-", [OP_MUL] = "*", [OP_DIV] = "/",
                                      [OP_FLOORDIV] = "//", [OP_MOD] = "%", [OP_POW] = "**"};
    return ops[op];
}

static bool overflow(srn__in *in) {
    return srn__err(in, SRN_ELIMIT, "an integer grew beyond 64 bits");
}

static bool zero_division(srn__in *in) {
    return srn__err(in, SRN_EFORMAT, "division by zero");
}

static double float_floordiv(double a, double b) {
    double mod = fmod(a, b), div = (a - mod) / b;
    if (mod != 0 && (b < 0) != (mod < 0)) div -= 1;
    if (div == 0) return copysign(0.0, a / b);
    double fl = floor(div);
    return div - fl > 0.5 ? fl + 1 : fl;
}

static double float_mod(double a, double b) {
    double mod = fmod(a, b);
    if (mod == 0) return copysign(0.0, b);
    return (b < 0) != (mod < 0) ? mod + b : mod;
}

static bool int_pow(srn__in *in, int64_t base, int64_t exp, srn__val *ret) {
    int64_t r = 1;
    if (exp < 0) {
        if (base == 0) return zero_division(in);
        *ret = srn__float(pow((double)base, (double)exp));
        return true;
    }
    while (exp) {
        if ((exp & 1) && __builtin_mul_overflow(r, base, &r)) return overflow(in);
        exp >>= 1;
        if (exp && __builtin_mul_overflow(base, base, &base)) return overflow(in);
    }
    *ret = srn__int(r);
    return true;
}

static bool int_op(srn__in *in, srn__op op, int64_t a, int64_t b, srn__val *ret) {
    int64_t r = 0;
    switch (op) {
    case OP_ADD:
        if (__builtin_add_overflow(a, b, &r)) return overflow(in);
        break;
    case OP_SUB:
        if (__builtin_sub_overflow(a, b, &r)) return overflow(in);
        break;
    case OP_MUL:
        if (__builtin_mul_overflow(a, b, &r)) return overflow(in);
        break;
    case OP_DIV:
        if (b == 0) return zero_division(in);
        *ret = srn__float((double)a / (double)b);
        return true;
    case OP_POW:
        return int_pow(in, a, b, ret);
    default:
        if (b == 0) return zero_division(in);
        if (b == -1) {
            if (op == OP_FLOORDIV && __builtin_sub_overflow((int64_t)0, a, &r)) return overflow(in);
            break;
        }
        bool shift = a % b != 0 && (a % b < 0) != (b < 0);
        r = op == OP_MOD ? a % b + (shift ? b : 0) : a / b - (shift ? 1 : 0);
        break;
    }
    *ret = srn__int(r);
    return true;
}

static bool float_op(srn__in *in, srn__op op, double a, double b, srn__val *ret) {
    double r;
    if (b == 0 && (op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD)) return zero_division(in);
    switch (op) {
    case OP_ADD:
        r = a + b;
        break;
    case OP_SUB:
        r = a - b;
        break;
    case OP_MUL:
        r = a * b;
        break;
    case OP_DIV:
        r = a / b;
        break;
    case OP_FLOORDIV:
        r = float_floordiv(a, b);
        break;
    case OP_MOD:
        r = float_mod(a, b);
        break;
    default:
        if (a == 0 && b < 0) return zero_division(in);
        r = pow(a, b);
        if (r != r && a == a && b == b)
            return srn__err(in, SRN_EFORMAT, "a negative number cannot be raised to a fraction");
        if (r - r != 0 && a - a == 0 && b - b == 0)
            return srn__err(in, SRN_ELIMIT, "the result of ** is too large");
        break;
    }
    *ret = srn__float(r);
    return true;
}

static bool repeat(srn__in *in, srn__val v, int64_t times, srn__val *ret) {
    if (v.type == V_STR) {
        srn__builder b = {0};
        bool trusted = srn__all_trusted(v.u.s);
        for (int64_t i = 0; v.u.s->len && i < times; i++)
            if (!srn__work(in, 1) || !srn__put_text(in, &b, v.u.s)) return false;
        if (b.len == 0) return srn__str_new(in, "", 0, trusted, ret);
        return srn__finish(in, &b, ret);
    }
    srn__seq *s = srn__seq_new(in, (srn__seq_kind)v.u.seq->kind, 0);
    for (int64_t i = 0; s && v.u.seq->n && i < times; i++)
        for (size_t k = 0; k < v.u.seq->n; k++)
            if (!srn__work(in, 1) || !srn__seq_push(in, s, v.u.seq->items[k])) return false;
    if (!s) return false;
    *ret = srn__seq_val(s, v.tainted);
    return true;
}

static bool repeatable(srn__val v) {
    return v.type == V_STR || (v.type == V_SEQ && v.u.seq->kind <= SEQ_GROUP);
}

static bool concat(srn__in *in, srn__val a, srn__val b, srn__val *ret) {
    if (a.type == V_STR) {
        srn__builder out = {0};
        if (a.u.s->len == 0) return *ret = b, true;
        if (b.u.s->len == 0) return *ret = a, true;
        return srn__put_text(in, &out, a.u.s) && srn__put_text(in, &out, b.u.s) && srn__finish(in, &out, ret);
    }
    const srn__seq *x = a.u.seq, *y = b.u.seq;
    srn__seq *s = srn__seq_new(in, x->kind == SEQ_LIST ? SEQ_LIST : SEQ_TUPLE, x->n + y->n);
    if (!s || !srn__work(in, (x->n + y->n) / 8)) return false;
    if (x->n) memcpy(s->items, x->items, x->n * sizeof *s->items);
    if (y->n) memcpy(s->items + x->n, y->items, y->n * sizeof *s->items);
    s->n = x->n + y->n;
    *ret = srn__seq_val(s, a.tainted || b.tainted);
    return true;
}

static bool concatenable(srn__val a, srn__val b) {
    if (a.type == V_STR && b.type == V_STR) return true;
    if (a.type != V_SEQ || b.type != V_SEQ) return false;
    uint8_t x = a.u.seq->kind, y = b.u.seq->kind;
    return (x == SEQ_LIST && y == SEQ_LIST) ||
           ((x == SEQ_TUPLE || x == SEQ_GROUP) && (y == SEQ_TUPLE || y == SEQ_GROUP));
}

bool srn__binary(srn__in *in, srn__op op, srn__val a, srn__val b, srn__val *ret) {
    if (srn__is_numberlike(a) && srn__is_numberlike(b)) {
        bool ok = a.type == V_FLOAT || b.type == V_FLOAT
                      ? float_op(in, op, srn__as_float(a), srn__as_float(b), ret)
                      : int_op(in, op, srn__as_int(a), srn__as_int(b), ret);
        if (ok) ret->tainted = a.tainted || b.tainted;
        return ok;
    }
    if (op == OP_MOD && a.type == V_STR) return srn__percent(in, a.u.s, b, ret);
    if (a.type == V_UNDEF) return srn__undef_fail(in, a);
    if (b.type == V_UNDEF) return srn__undef_fail(in, b);
    if (op == OP_ADD && concatenable(a, b)) return concat(in, a, b, ret);
    if (op == OP_MUL && repeatable(a) && srn__is_intlike(b)) return repeat(in, a, srn__as_int(b), ret);
    if (op == OP_MUL && repeatable(b) && srn__is_intlike(a)) return repeat(in, b, srn__as_int(a), ret);
    return srn__err(in, SRN_EFORMAT, "'%s' cannot be used on a %s and a %s", spelling(op), srn__type_name(a),
                    srn__type_name(b));
}

bool srn__negate(srn__in *in, srn__val a, bool positive, srn__val *ret) {
    if (a.type == V_UNDEF) return srn__undef_fail(in, a);
    if (!srn__is_numberlike(a))
        return srn__err(in, SRN_EFORMAT, "a %s has no %s", srn__type_name(a), positive ? "plus" : "minus");
    if (a.type == V_FLOAT) {
        *ret = srn__float(positive ? a.u.f : -a.u.f);
    } else {
        int64_t r = srn__as_int(a);
        if (!positive && __builtin_sub_overflow((int64_t)0, r, &r)) return overflow(in);
        *ret = srn__int(r);
    }
    ret->tainted = a.tainted;
    return true;
}

bool srn__compare(srn__in *in, srn__op op, srn__val a, srn__val b, bool *ret) {
    bool ok;
    switch (op) {
    case OP_EQ:
        return srn__equal(in, a, b, ret);
    case OP_NE:
        ok = srn__equal(in, a, b, ret);
        break;
    case OP_IN:
        return srn__contains(in, a, b, ret);
    case OP_NOT_IN:
        ok = srn__contains(in, a, b, ret);
        break;
    default:
        return srn__order(in, a, b, op, ret);
    }
    if (ok) *ret = !*ret;
    return ok;
}

/* ---- slices ---- */

static bool slice_index(srn__in *in, srn__val v, bool *ret_given, int64_t *ret) {
    *ret_given = v.type != V_NONE && v.type != V_MISSING;
    if (!*ret_given) return true;
    if (v.type == V_UNDEF) return srn__undef_fail(in, v);
    if (!srn__is_intlike(v))
        return srn__err(in, SRN_EFORMAT, "a slice needs integers, not a %s", srn__type_name(v));
    *ret = srn__as_int(v);
    return true;
}

static int64_t clamp(int64_t i, int64_t n, int64_t low, int64_t high) {
    if (i < 0) i = i < -n ? low : i + n;
    return i < low ? low : i > high ? high : i;
}

/* Start, step and count of the items that [start:stop:step] picks out of n, by Python's rules. */
static bool slice_range(srn__in *in, const srn__val parts[3], int64_t n, int64_t *from, int64_t *step,
                        int64_t *count) {
    int64_t start = 0, stop = 0;
    bool has_start, has_stop, has_step;
    *step = 1;
    if (!slice_index(in, parts[0], &has_start, &start) || !slice_index(in, parts[1], &has_stop, &stop) ||
        !slice_index(in, parts[2], &has_step, step))
        return false;
    if (*step == 0) return srn__err(in, SRN_EFORMAT, "the step of a slice cannot be zero");
    if (*step == INT64_MIN) *step = -INT64_MAX;
    bool down = *step < 0;
    int64_t low = down ? -1 : 0, high = down ? n - 1 : n;
    start = has_start ? clamp(start, n, low, high) : down ? high : low;
    stop = has_stop ? clamp(stop, n, low, high) : down ? low : high;
    *from = start;
    if (down)
        *count = stop < start ? (start - stop - 1) / -*step + 1 : 0;
    else
        *count = start < stop ? (stop - start - 1) / *step + 1 : 0;
    return true;
}

static bool slice_text(srn__in *in, const srn__text *s, int64_t from, int64_t step, int64_t count,
                       srn__val *ret) {
    if (!srn__work(in, s->len / 64)) return false;
    if (step == 1 || count <= 0) {
        size_t a = srn__cp_offset(s, (size_t)(count > 0 ? from : 0));
        srn__text rest = {.ptr = s->ptr + a, .len = s->len - a};
        return srn__str_part(in, s, a, count > 0 ? a + srn__cp_offset(&rest, (size_t)count) : a, ret);
    }
    srn__seq *chars;
    srn__builder b = {0};
    if (!srn__iterate(in, (srn__val){.type = V_STR, .u.s = s}, &chars)) return false;
    for (int64_t i = 0; i < count; i++)
        if (!srn__work(in, 1) || !srn__put_text(in, &b, chars->items[from + i * step].u.s)) return false;
    return srn__finish(in, &b, ret);
}

bool srn__slice(srn__in *in, srn__val v, srn__val start, srn__val stop, srn__val step, srn__val *ret) {
    const srn__val parts[3] = {start, stop, step};
    int64_t n, from = 0, by = 1, count = 0;
    if (v.type == V_UNDEF) return srn__undef_fail(in, v);
    bool ok = v.type == V_STR || (v.type == V_SEQ && v.u.seq->kind <= SEQ_RANGE);
    if (!ok) return srn__err(in, SRN_EFORMAT, "a %s cannot be sliced", srn__type_name(v));
    if (!srn__length(in, v, &n) || !slice_range(in, parts, n, &from, &by, &count)) return false;
    if (v.type == V_STR) return slice_text(in, v.u.s, from, by, count, ret);
    uint8_t kind = v.u.seq->kind == SEQ_GROUP ? SEQ_TUPLE : v.u.seq->kind;
    srn__seq *s = srn__seq_new(in, (srn__seq_kind)kind, 0);
    if (!s) return false;
    for (int64_t i = 0; i < count; i++)
        if (!srn__work(in, 1) || !srn__seq_push(in, s, v.u.seq->items[from + i * by])) return false;
    if (kind == SEQ_RANGE) {
        const srn__seq *r = v.u.seq;
        s->start = r->start + from * r->step;
        s->step = r->step * by;
        s->stop = s->start + s->step * count;
    }
    *ret = srn__seq_val(s, v.tainted);
    return true;
}
