/* The filters on single values: text, numbers, conversions. Those on sequences are in filters_seq.c. Called
 * through eval.c; a filter that is a string method by another name goes to methods.c.
 */
#include "chat/chat_internal.h"

#include <math.h>
#include <stdlib.h>

#define FILTER(fn)                                                                                           \
    static bool fn(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret)
#define UNUSED (void)in, (void)vals, (void)raw

static bool text_of(srn__in *in, srn__val v, srn__val *ret) {
    const srn__text *s;
    if (!srn__to_text(in, v, &s)) return false;
    *ret = (srn__val){.type = V_STR, .u.s = s};
    return true;
}

/* Runs the string method `name` on the text of self. */
static bool via_method(srn__in *in, srn__val self, const char *name, srn__val *vals, const srn__args *raw,
                       srn__val *ret) {
    srn__val s;
    return text_of(in, self, &s) && srn__str_method(srn_str_of(name))->fn(in, s, vals, raw, ret);
}

#define VIA(fn, method)                                                                                      \
    FILTER(fn) {                                                                                             \
        return via_method(in, self, method, vals, raw, ret);                                                 \
    }
VIA(f_upper, "upper")
VIA(f_lower, "lower")
VIA(f_capitalize, "capitalize")
VIA(f_trim, "strip")

FILTER(f_string) {
    UNUSED;
    return text_of(in, self, ret);
}

FILTER(f_center) {
    if (!srn__given(vals[0])) vals[0] = srn__int(80);
    return via_method(in, self, "center", vals, raw, ret);
}

FILTER(f_replace) {
    for (int i = 0; i < 2; i++)
        if (!text_of(in, vals[i], &vals[i])) return false;
    return via_method(in, self, "replace", vals, raw, ret);
}

/* Upper case after blanks and - ( { [ <, lower case elsewhere. */
FILTER(f_title) {
    UNUSED;
    srn__val s;
    srn__builder b = {0};
    bool start = true;
    uint32_t cp, out[3];
    if (!text_of(in, self, &s)) return false;
    for (size_t at = 0, len; at < s.u.s->len; at += len) {
        len = srn__cp_next(s.u.s->ptr + at, s.u.s->len - at, &cp);
        size_t n = start ? srn__upper(cp, out) : srn__lower(cp, out);
        for (size_t i = 0; i < n; i++)
            if (!srn__work(in, 1) || !srn__put_cp(in, &b, out[i], srn__trust_at(s.u.s, at))) return false;
        start = srn__is_space(cp) || (cp && cp < 0x80 && strchr("-({[<", (int)cp));
    }
    return srn__finish(in, &b, ret);
}

FILTER(f_safe) {
    return f_string(in, self, vals, raw, ret);
}

FILTER(f_escape) {
    UNUSED;
    static const struct {
        char c;
        const char *to;
    } table[] = {{'&', "&amp;"}, {'>', "&gt;"}, {'<', "&lt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
    srn__val s;
    srn__builder b = {0};
    if (!text_of(in, self, &s)) return false;
    for (size_t at = 0; at < s.u.s->len; at++) {
        size_t i = 0;
        while (i < SRN_LEN(table) && table[i].c != s.u.s->ptr[at]) i++;
        bool ok = i < SRN_LEN(table)
                      ? srn__put(in, &b, table[i].to, strlen(table[i].to), srn__trust_at(s.u.s, at))
                      : srn__put_part(in, &b, s.u.s, at, at + 1);
        if (!ok || !srn__work(in, 1)) return false;
    }
    return srn__finish(in, &b, ret);
}

FILTER(f_format) {
    UNUSED;
    srn__val s, arg;
    if (raw->n && raw->n_kw)
        return srn__err(in, SRN_EFORMAT, "format takes either positional values or keywords");
    if (!text_of(in, self, &s)) return false;
    if (raw->n_kw) {
        srn__dict *d = srn__dict_new(in, raw->n_kw);
        for (size_t i = 0; d && i < raw->n_kw; i++) {
            srn__val k;
            if (!srn__kw_name(in, &raw->kw[i], &k) || !srn__dict_push(in, d, k, raw->kw[i].v)) return false;
        }
        if (!d) return false;
        arg = (srn__val){.type = V_DICT, .u.dict = d};
    } else {
        srn__seq *t = srn__seq_new(in, SEQ_TUPLE, 0);
        if (!t) return false;
        t->items = raw->pos;
        t->n = t->cap = raw->n;
        arg = srn__seq_val(t, false);
    }
    return srn__percent(in, s.u.s, arg, ret);
}

FILTER(f_indent) {
    UNUSED;
    srn__val s, pad, lines, keep[SRN__ARGS_MAX] = {{.type = V_MISSING}};
    srn__builder b = {0}, blanks = {0};
    bool first = srn__given(vals[1]) && srn__truth(vals[1]),
         blank = srn__given(vals[2]) && srn__truth(vals[2]);
    int64_t width;
    if (self.type != V_STR)
        return srn__err(in, SRN_EFORMAT, "indent needs a string, not a %s", srn__type_name(self));
    if (vals[0].type == V_STR) {
        pad = vals[0];
    } else {
        if (!srn__want_int(in, vals[0], "width", 4, &width)) return false;
        for (int64_t i = 0; i < width; i++)
            if (!srn__work(in, 1) || !srn__put(in, &blanks, " ", 1, srn__all_trusted(self.u.s))) return false;
        if (!srn__finish(in, &blanks, &pad)) return false;
    }
    /* The newline that is added lets an empty last line count as a line. */
    bool trusted = srn__all_trusted(self.u.s);
    srn__builder with = {0};
    if (!srn__put_text(in, &with, self.u.s) || !srn__put(in, &with, "\n", 1, trusted) ||
        !srn__finish(in, &with, &s) || !srn__str_method(SRN_STR("splitlines"))->fn(in, s, keep, raw, &lines))
        return false;
    for (size_t i = 0; i < lines.u.seq->n; i++) {
        const srn__text *line = lines.u.seq->items[i].u.s;
        if (i && !srn__put(in, &b, "\n", 1, trusted)) return false;
        if ((i ? blank || line->len : first) && !srn__put_text(in, &b, pad.u.s)) return false;
        if (!srn__put_text(in, &b, line)) return false;
    }
    return srn__finish(in, &b, ret);
}

FILTER(f_truncate) {
    UNUSED;
    int64_t length, leeway, n, end_len = 3;
    srn__val end = vals[2];
    if (self.type != V_STR)
        return srn__err(in, SRN_EFORMAT, "truncate needs a string, not a %s", srn__type_name(self));
    const srn__text *s = self.u.s;
    if (vals[3].type == V_NONE) vals[3].type = V_MISSING;
    if (!srn__want_int(in, vals[0], "length", 255, &length) ||
        !srn__want_int(in, vals[3], "leeway", 5, &leeway) || !srn__length(in, self, &n))
        return false;
    if (!srn__given(end) && !srn__str_new(in, "...", 3, srn__all_trusted(s), &end)) return false;
    const srn__text *tail;
    if (!srn__want_text(in, end, "end", &tail) || !srn__length(in, end, &end_len)) return false;
    if (length < end_len || leeway < 0)
        return srn__err(in, SRN_EFORMAT, "truncate: the length is less than that of its end");
    if (n <= length + leeway) return *ret = self, true;
    size_t cut = srn__cp_offset(s, (size_t)(length - end_len));
    if (!(srn__given(vals[1]) && srn__truth(vals[1]))) {
        size_t space = srn__rfind((srn_str){s->ptr, cut}, SRN_STR(" "));
        if (space != SIZE_MAX) cut = space;
    }
    srn__builder b = {0};
    return srn__put_part(in, &b, s, 0, cut) && srn__put_text(in, &b, tail) && srn__finish(in, &b, ret);
}

FILTER(f_wordcount) {
    UNUSED;
    srn__val s;
    int64_t count = 0;
    bool inside = false;
    uint32_t cp;
    if (!text_of(in, self, &s)) return false;
    for (size_t at = 0; at < s.u.s->len;) {
        at += srn__cp_next(s.u.s->ptr + at, s.u.s->len - at, &cp);
        bool word = cp == '_' || srn__is_alpha(cp) || srn__is_numeric(cp);
        count += word && !inside;
        inside = word;
    }
    *ret = srn__int(count);
    ret->tainted = !srn__all_trusted(s.u.s);
    return srn__work(in, s.u.s->len / 16);
}

FILTER(f_urlencode) {
    UNUSED;
    srn__val s;
    srn__builder b = {0};
    if (self.type == V_DICT || self.type == V_SEQ)
        return srn__err(in, SRN_EUNSUP, "urlencode of a %s is not supported", srn__type_name(self));
    if (!text_of(in, self, &s)) return false;
    for (size_t i = 0; i < s.u.s->len; i++) {
        unsigned char c = (unsigned char)s.u.s->ptr[i];
        bool plain =
            (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || (c && strchr("_.-~/", c));
        char esc[4];
        snprintf(esc, sizeof esc, "%%%02X", c);
        if (!srn__work(in, 1) ||
            !srn__put(in, &b, plain ? (const char *)&c : esc, plain ? 1 : 3, srn__trust_at(s.u.s, i)))
            return false;
    }
    return srn__finish(in, &b, ret);
}

/* ---- numbers ---- */

/* The value of a digit or letter, 99 for any other byte. */
static int64_t digit_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

/* Skips "0x", "0o" or "0b" where the base is that one or 0, which becomes it. */
static size_t skip_prefix(const char *p, size_t n, int64_t *base) {
    static const char letters[] = "xob";
    static const int64_t bases[] = {16, 8, 2};
    const char *at = n > 2 && p[0] == '0' && p[1] ? strchr(letters, p[1] | 32) : NULL;
    if (!at || !*at || (*base != 0 && *base != bases[at - letters])) return 0;
    *base = bases[at - letters];
    return 2;
}

static void trim_ascii(const srn__text *s, size_t *at, size_t *end) {
    *at = 0;
    *end = s->len;
    while (*at < *end && srn__is_space((unsigned char)s->ptr[*at])) ++*at;
    while (*end > *at && srn__is_space((unsigned char)s->ptr[*end - 1])) --*end;
}

/* Python's int(text, base); false in *ret_ok where the text is no integer. */
static bool parse_int(srn__in *in, const srn__text *s, int64_t base, int64_t *ret, bool *ret_ok) {
    size_t at, end;
    bool negative = false, digit = false;
    uint64_t v = 0;
    *ret_ok = false;
    trim_ascii(s, &at, &end);
    if (at < end && (s->ptr[at] == '+' || s->ptr[at] == '-')) negative = s->ptr[at++] == '-';
    at += skip_prefix(s->ptr + at, end - at, &base);
    if (base == 0) base = 10;
    for (; at < end; at++) {
        int64_t d = digit_value(s->ptr[at]);
        if (s->ptr[at] == '_' && digit && at + 1 < end && s->ptr[at + 1] != '_') continue;
        if (d >= base) return true;
        digit = true;
        if (__builtin_mul_overflow(v, (uint64_t)base, &v) || __builtin_add_overflow(v, (uint64_t)d, &v) ||
            v > INT64_MAX)
            return srn__err(in, SRN_ELIMIT, "an integer does not fit in 64 bits");
    }
    *ret = negative ? -(int64_t)v : (int64_t)v;
    *ret_ok = digit;
    return true;
}

/* Python's float(text). */
static bool parse_float(const srn__text *s, double *ret) {
    char buf[400];
    size_t at, end, n = 0;
    trim_ascii(s, &at, &end);
    if (at == end || end - at >= sizeof buf) return false;
    for (; at < end; at++) {
        char c = s->ptr[at];
        if (c == '_' && n && buf[n - 1] >= '0' && buf[n - 1] <= '9' && at + 1 < end &&
            s->ptr[at + 1] >= '0' && s->ptr[at + 1] <= '9')
            continue;
        if (!c || !strchr("0123456789+-.eEinfatyINFATY", c)) return false;
        buf[n++] = c;
    }
    buf[n] = 0;
    char *stop;
    *ret = strtod(buf, &stop);
    return *stop == 0;
}

static bool float_to_int(srn__in *in, double f, srn__val *ret, bool *ret_ok) {
    *ret_ok = false;
    if (f - f != 0) return true;
    if (!(f > -9223372036854775808.0 && f < 9223372036854775808.0))
        return srn__err(in, SRN_ELIMIT, "an integer does not fit in 64 bits");
    *ret = srn__int((int64_t)f);
    *ret_ok = true;
    return true;
}

FILTER(f_int) {
    (void)raw;
    int64_t base, i;
    double f;
    bool ok = false;
    if (!srn__want_int(in, vals[1], "base", 10, &base)) return false;
    if (base != 0 && (base < 2 || base > 36)) base = 10;
    if (self.type == V_UNDEF) return srn__undef_fail(in, self);
    if (srn__is_intlike(self)) {
        *ret = srn__int(srn__as_int(self));
        ok = true;
    } else if (self.type == V_FLOAT) {
        if (self.u.f - self.u.f != 0 && self.u.f == self.u.f)
            return srn__err(in, SRN_EFORMAT, "infinity has no integer");
        if (!float_to_int(in, self.u.f, ret, &ok)) return false;
    } else if (self.type == V_STR) {
        if (!parse_int(in, self.u.s, base, &i, &ok)) return false;
        if (ok)
            *ret = srn__int(i);
        else if (parse_float(self.u.s, &f) && !float_to_int(in, f, ret, &ok))
            return false;
    }
    if (!ok) return *ret = srn__given(vals[0]) ? vals[0] : srn__int(0), true;
    ret->tainted = self.tainted || (self.type == V_STR && !srn__all_trusted(self.u.s));
    return true;
}

FILTER(f_float) {
    (void)raw;
    double f = 0;
    if (self.type == V_UNDEF) return srn__undef_fail(in, self);
    bool ok = srn__is_numberlike(self) || (self.type == V_STR && parse_float(self.u.s, &f));
    if (!ok) return *ret = srn__given(vals[0]) ? vals[0] : srn__float(0), true;
    *ret = srn__float(self.type == V_STR ? f : srn__as_float(self));
    ret->tainted = self.tainted || (self.type == V_STR && !srn__all_trusted(self.u.s));
    return true;
}

FILTER(f_abs) {
    UNUSED;
    if (self.type == V_UNDEF) return srn__undef_fail(in, self);
    if (!srn__is_numberlike(self))
        return srn__err(in, SRN_EFORMAT, "abs needs a number, not a %s", srn__type_name(self));
    bool negative = self.type == V_FLOAT ? signbit(self.u.f) != 0 : srn__as_int(self) < 0;
    return srn__negate(in, self, !negative, ret);
}

/* The nearest decimal, ties to even on the exact value, as Python's round() does it. */
static double round_decimal(double f, int64_t digits) {
    char buf[800];
    if (f - f != 0 || digits > 300) return f;
    if (digits < -300) return copysign(0.0, f);
    if (digits >= 0) {
        snprintf(buf, sizeof buf, "%.*f", (int)digits, f);
        return strtod(buf, NULL);
    }
    double unit = 1;
    for (int64_t i = 0; i > digits; i--) unit *= 10;
    double q = f / unit, low = floor(q), rest = q - low;
    double up = rest > 0.5 || (rest == 0.5 && fmod(low, 2) != 0) ? 1 : 0;
    return (low + up) * unit;
}

FILTER(f_round) {
    (void)raw;
    int64_t digits;
    const srn__text *how = NULL;
    if (!srn__want_int(in, vals[0], "precision", 0, &digits)) return false;
    if (srn__given(vals[1]) && !srn__want_text(in, vals[1], "method", &how)) return false;
    bool common = !how || srn_str_eqz(srn__bytes(how), "common"),
         up = how && srn_str_eqz(srn__bytes(how), "ceil");
    if (!common && !up && !srn_str_eqz(srn__bytes(how), "floor"))
        return srn__err(in, SRN_EFORMAT, "round: the method must be common, ceil or floor");
    if (self.type == V_UNDEF) return srn__undef_fail(in, self);
    if (!srn__is_numberlike(self))
        return srn__err(in, SRN_EFORMAT, "round needs a number, not a %s", srn__type_name(self));
    if (common && self.type != V_FLOAT && digits >= 0) {
        *ret = srn__int(srn__as_int(self));
    } else if (common) {
        double f = round_decimal(srn__as_float(self), digits);
        *ret = self.type == V_FLOAT ? srn__float(f) : srn__int((int64_t)f);
    } else {
        double unit = 1, f = srn__as_float(self);
        if (digits < -300 || digits > 300)
            return srn__err(in, SRN_ELIMIT, "round: the precision is out of range");
        for (int64_t i = 0; i < (digits < 0 ? -digits : digits); i++) unit *= 10;
        f = digits < 0 ? f / unit : f * unit;
        f = up ? ceil(f) : floor(f);
        *ret = srn__float(digits < 0 ? f * unit : f / unit);
    }
    ret->tainted = self.tainted;
    return true;
}

/* ---- choice ---- */

FILTER(f_default) {
    (void)raw;
    bool empty = self.type == V_UNDEF || (srn__given(vals[1]) && srn__truth(vals[1]) && !srn__truth(self));
    if (!empty) return *ret = self, true;
    if (srn__given(vals[0])) return *ret = vals[0], true;
    return srn__str_new(in, "", 0, true, ret);
}

FILTER(f_length) {
    UNUSED;
    int64_t n;
    if (!srn__length(in, self, &n)) return false;
    *ret = srn__int(n);
    ret->tainted = self.tainted || (self.type == V_STR && !srn__all_trusted(self.u.s));
    return true;
}

/* An attribute proper: unlike obj.name never an item of a dict. */
FILTER(f_attr) {
    (void)raw;
    const srn__text *name;
    srn__val probe = self;
    if (!srn__want_text(in, vals[0], "the attribute's name", &name)) return false;
    if (self.type == V_DICT) {
        if (!(probe.u.dict = srn__dict_new(in, 0)) || !srn__getattr(in, probe, srn__bytes(name), ret))
            return false;
        if (ret->type == V_UNDEF) return true;
    }
    return srn__getattr(in, self, srn__bytes(name), ret);
}

const srn__builtin *srn__filter(srn_str name) {
    static const srn__builtin rows[] = {
        {"abs", f_abs, ""},
        {"attr", f_attr, "name"},
        {"capitalize", f_capitalize, ""},
        {"center", f_center, "width?"},
        {"count", f_length, ""},
        {"d", f_default, "default_value? boolean?"},
        {"default", f_default, "default_value? boolean?"},
        {"e", f_escape, ""},
        {"escape", f_escape, ""},
        {"float", f_float, "default?"},
        {"forceescape", f_escape, ""},
        {"format", f_format, "*"},
        {"indent", f_indent, "width? first? blank?"},
        {"int", f_int, "default? base?"},
        {"length", f_length, ""},
        {"lower", f_lower, ""},
        {"replace", f_replace, "old new count?"},
        {"round", f_round, "precision? method?"},
        {"safe", f_safe, ""},
        {"string", f_string, ""},
        {"title", f_title, ""},
        {"trim", f_trim, "chars?"},
        {"truncate", f_truncate, "length? killwords? end? leeway?"},
        {"upper", f_upper, ""},
        {"urlencode", f_urlencode, ""},
        {"wordcount", f_wordcount, ""},
    };
    const srn__builtin *b = srn__builtin_find(rows, SRN_LEN(rows), name);
    if (!b && srn_str_eqz(name, srn__tojson_filter.name)) b = &srn__tojson_filter;
    return b ? b : srn__seq_filter(name);
}
