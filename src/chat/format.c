/* String formatting: the % operator and str.format(). Called by ops.c and methods.c. The format's own text
 * keeps its trust, a formatted value brings its own, and padding is trusted only where both are.
 */
#include "chat/chat_internal.h"

#include <stdlib.h>

typedef struct spec {
    const srn__text *fill; /* NULL: a blank */
    char align;            /* '<' '>' '^' '=' or 0 */
    char sign;             /* '+', ' ' or 0 */
    bool alt, zero, comma;
    int64_t width, precision; /* -1: not given */
    char type;                /* 0: by the value */
} spec;

#define WIDTH_MAX     100000
#define PRECISION_MAX 300

/* Writes text (ASCII or UTF-8) padded to width; `left` characters of it (a sign) stay before '=' padding. */
static bool put_padded(srn__in *in, srn__builder *b, const spec *sp, const srn__text *s, size_t left,
                       char fallback, bool trusted) {
    int64_t n = (int64_t)srn__cp_count(s), total = sp->width > n ? sp->width - n : 0;
    char align = sp->align ? sp->align : fallback;
    int64_t before = align == '<' || align == '=' ? 0 : align == '^' ? total / 2 : total;
    trusted = trusted && srn__all_trusted(s);
    srn__text blank = {.ptr = sp->zero && !sp->fill ? "0" : " ", .len = 1, .trusted = trusted};
    const srn__text *fill = sp->fill ? sp->fill : &blank;
    if (!srn__work(in, (size_t)total)) return false;
    if (align == '=' && !srn__put_part(in, b, s, 0, left)) return false;
    for (int64_t i = 0; i < (align == '=' ? total : before); i++)
        if (!srn__put(in, b, fill->ptr, fill->len, trusted && srn__all_trusted(fill))) return false;
    if (!srn__put_part(in, b, s, align == '=' ? left : 0, s->len)) return false;
    for (int64_t i = before; align != '=' && i < total; i++)
        if (!srn__put(in, b, fill->ptr, fill->len, trusted && srn__all_trusted(fill))) return false;
    return true;
}

static void add_commas(char *digits, size_t cap) {
    size_t n = strspn(digits, "0123456789"), commas = n ? (n - 1) / 3 : 0, len = strlen(digits);
    if (len + commas + 1 > cap) return;
    memmove(digits + n + commas, digits + n, len - n + 1);
    for (size_t i = n, to = n + commas, run = 0; i > 0 && to > i; run++) {
        if (run && run % 3 == 0) digits[--to] = ',';
        digits[--to] = digits[--i];
    }
}

static void int_digits(uint64_t u, unsigned base, bool upper, char out[72]) {
    char tmp[72];
    size_t n = 0;
    do {
        tmp[n++] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
        u /= base;
    } while (u);
    for (size_t i = 0; i < n; i++) out[i] = tmp[n - 1 - i];
    out[n] = 0;
}

static void float_digits(double f, const spec *sp, char type, char *out, size_t cap) {
    int precision = sp->precision < 0 ? 6 : (int)sp->precision;
    switch (type) {
    case 'f':
        snprintf(out, cap, sp->alt ? "%#.*f" : "%.*f", precision, f);
        break;
    case 'F':
        snprintf(out, cap, sp->alt ? "%#.*F" : "%.*F", precision, f);
        break;
    case 'e':
        snprintf(out, cap, sp->alt ? "%#.*e" : "%.*e", precision, f);
        break;
    case 'E':
        snprintf(out, cap, sp->alt ? "%#.*E" : "%.*E", precision, f);
        break;
    case 'G':
        snprintf(out, cap, sp->alt ? "%#.*G" : "%.*G", precision, f);
        break;
    default:
        snprintf(out, cap, sp->alt ? "%#.*g" : "%.*g", precision, f);
        break;
    }
}

/* A number by a spec whose type is one of d i x X o b c e f g ... */
static bool put_number(srn__in *in, srn__builder *b, const spec *sp, srn__val v, bool trusted) {
    char body[800], out[840];
    bool negative;
    char type = sp->type ? sp->type : v.type == V_FLOAT ? 'r' : 'd';
    const char *prefix = "";
    if (strchr("diuxXob", type)) {
        int64_t i = srn__as_int(v);
        negative = i < 0;
        int_digits(negative ? 0 - (uint64_t)i : (uint64_t)i,
                   (type | 32) == 'x' ? 16
                   : type == 'o'      ? 8
                   : type == 'b'      ? 2
                                      : 10,
                   type == 'X', body);
        if (sp->alt)
            prefix = type == 'x' ? "0x" : type == 'X' ? "0X" : type == 'o' ? "0o" : type == 'b' ? "0b" : "";
    } else {
        double f = srn__as_float(v);
        negative = f < 0 || (f == 0 && 1 / f < 0);
        if (negative) f = -f;
        if (type == 'r')
            srn__float_repr(f, body);
        else if (type == '%')
            float_digits(f * 100, sp, 'f', body, sizeof body - 1), memcpy(body + strlen(body), "%", 2);
        else
            float_digits(f, sp, type, body, sizeof body);
    }
    if (sp->comma) add_commas(body, sizeof body);
    const char *sign = negative ? "-" : sp->sign == '+' ? "+" : sp->sign == ' ' ? " " : "";
    int n = snprintf(out, sizeof out, "%s%s%s", sign, prefix, body);
    srn__text s = {.ptr = out, .len = (size_t)n, .trusted = !v.tainted};
    return put_padded(in, b, sp, &s, strlen(sign) + strlen(prefix), sp->zero ? '=' : '>', trusted);
}

/* ---- % ---- */

typedef struct percent {
    srn__in *in;
    const srn__text *fmt;
    size_t at;
    srn__val arg;
    const srn__seq *tuple; /* of positional values, or NULL for one value */
    size_t next;
} percent;

static bool next_value(percent *p, srn__val *ret) {
    size_t n = p->tuple ? p->tuple->n : 1;
    if (p->next >= n)
        return srn__err(p->in, SRN_EFORMAT, "there are not enough values for the format string");
    *ret = p->tuple ? p->tuple->items[p->next] : p->arg;
    p->next++;
    return true;
}

static bool read_number(percent *p, int64_t most, const char *what, int64_t *ret) {
    int64_t v = 0;
    if (p->at < p->fmt->len && p->fmt->ptr[p->at] == '*') {
        srn__val star;
        p->at++;
        if (!next_value(p, &star) || !srn__want_int(p->in, star, what, 0, &v)) return false;
    }
    while (p->at < p->fmt->len && p->fmt->ptr[p->at] >= '0' && p->fmt->ptr[p->at] <= '9' && v <= most)
        v = v * 10 + (p->fmt->ptr[p->at++] - '0');
    if (v > most || v < -most)
        return srn__err(p->in, SRN_ELIMIT, "the %s of a format is more than %lld", what, (long long)most);
    *ret = v;
    return true;
}

static bool mapping_key(percent *p, srn__val *ret) {
    const srn__text *f = p->fmt;
    size_t from = ++p->at;
    while (p->at < f->len && f->ptr[p->at] != ')') p->at++;
    if (p->at >= f->len) return srn__err(p->in, SRN_EFORMAT, "a format key is not closed by ')'");
    srn__val key;
    bool found;
    if (p->arg.type != V_DICT) return srn__err(p->in, SRN_EFORMAT, "a format with keys needs a dict");
    if (!srn__str_part(p->in, f, from, p->at++, &key) ||
        !srn__dict_get(p->in, p->arg.u.dict, key, ret, &found))
        return false;
    return found || srn__err(p->in, SRN_EFORMAT, "the format key '%.*s' is missing",
                             (int)SRN_MIN(key.u.s->len, 60), key.u.s->ptr);
}

/* %s, %r, %a, and %c of a string. */
static bool percent_text(percent *p, srn__builder *b, const spec *sp, srn__val v, bool trusted) {
    srn__in *in = p->in;
    srn__builder one = {0};
    srn__val s;
    bool plain = sp->type == 's' || sp->type == 'c';
    if (!(plain ? srn__put_str(in, &one, v) : srn__put_repr(in, &one, v)) || !srn__finish(in, &one, &s))
        return false;
    if (sp->type == 'c' && srn__cp_count(s.u.s) != 1)
        return srn__err(in, SRN_EFORMAT, "%%c needs one character");
    if (sp->type != 'c' && sp->precision >= 0 &&
        !srn__slice(in, s, srn__none(), srn__int(sp->precision), srn__none(), &s))
        return false;
    return put_padded(in, b, sp, s.u.s, 0, '>', trusted);
}

static bool percent_char(percent *p, srn__builder *b, const spec *sp, srn__val v, bool trusted) {
    srn__builder one = {0};
    srn__val s;
    int64_t cp = v.type == V_FLOAT ? -1 : srn__as_int(v);
    if (cp < 0 || cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000))
        return srn__err(p->in, SRN_EFORMAT, "%%c needs a character or its number");
    return srn__put_cp(p->in, &one, (uint32_t)cp, !v.tainted) && srn__finish(p->in, &one, &s) &&
           put_padded(p->in, b, sp, s.u.s, 0, '>', trusted);
}

static bool put_percent(percent *p, srn__builder *b, const spec *sp, srn__val v, bool trusted) {
    srn__in *in = p->in;
    if (strchr("sra", sp->type) || (sp->type == 'c' && v.type == V_STR))
        return percent_text(p, b, sp, v, trusted);
    if (v.type == V_UNDEF) return srn__undef_fail(in, v);
    if (!srn__is_numberlike(v))
        return srn__err(in, SRN_EFORMAT, "%%%c needs a number, not a %s", sp->type, srn__type_name(v));
    if (sp->type == 'c') return percent_char(p, b, sp, v, trusted);
    if (strchr("xXo", sp->type) && v.type == V_FLOAT)
        return srn__err(in, SRN_EFORMAT, "%%%c needs an integer", sp->type);
    if (strchr("diu", sp->type) && v.type == V_FLOAT) {
        if (!(v.u.f > -9.2e18 && v.u.f < 9.2e18))
            return srn__err(in, SRN_ELIMIT, "a number does not fit in 64 bits");
        bool tainted = v.tainted;
        v = srn__int((int64_t)v.u.f);
        v.tainted = tainted;
    }
    return put_number(in, b, sp, v, trusted);
}

/* The next byte of the format if it is one of set, else 0; consumed. */
static char take(percent *p, const char *set) {
    char c = p->at < p->fmt->len ? p->fmt->ptr[p->at] : 0;
    if (!c || !strchr(set, c)) return 0;
    p->at++;
    return c;
}

/* Flags, width and precision. */
static bool percent_spec(percent *p, spec *sp) {
    *sp = (spec){.width = -1, .precision = -1};
    for (char c; (c = take(p, "#0- +"));) {
        if (c == '#') sp->alt = true;
        if (c == '0') sp->zero = true;
        if (c == '-') sp->align = '<';
        if (c == '+' || (c == ' ' && !sp->sign)) sp->sign = c;
    }
    if (!read_number(p, WIDTH_MAX, "width", &sp->width)) return false;
    if (sp->width < 0) sp->align = '<', sp->width = -sp->width;
    if (take(p, ".")) {
        if (!read_number(p, PRECISION_MAX, "precision", &sp->precision)) return false;
        sp->precision = SRN_MAX(sp->precision, 0);
    }
    while (take(p, "hlL")) continue;
    return true;
}

/* One format; p->at is behind its '%'. */
static bool percent_one(percent *p, srn__builder *b) {
    const srn__text *f = p->fmt;
    bool trusted = srn__trust_at(f, p->at - 1), keyed = p->at < f->len && f->ptr[p->at] == '(';
    spec sp;
    srn__val v = srn__none();
    if ((keyed && !mapping_key(p, &v)) || !percent_spec(p, &sp)) return false;
    if (p->at >= f->len) return srn__err(p->in, SRN_EFORMAT, "the format string ends inside a format");
    sp.type = f->ptr[p->at++];
    if (sp.type == '%') return srn__put(p->in, b, "%", 1, trusted);
    if (!sp.type || !strchr("srcadiuxXoeEfFgG", sp.type))
        return srn__err(p->in, SRN_EFORMAT, "there is no format '%%%c'", sp.type);
    if (!keyed && !next_value(p, &v)) return false;
    if (sp.align == '<' || strchr("srac", sp.type)) sp.zero = false;
    return put_percent(p, b, &sp, v, trusted);
}

bool srn__percent(srn__in *in, const srn__text *fmt, srn__val arg, srn__val *ret) {
    percent p = {.in = in, .fmt = fmt, .arg = arg};
    srn__builder b = {0};
    if (arg.type == V_SEQ && (arg.u.seq->kind == SEQ_TUPLE || arg.u.seq->kind == SEQ_GROUP))
        p.tuple = arg.u.seq;
    while (p.at < fmt->len) {
        const char *next = memchr(fmt->ptr + p.at, '%', fmt->len - p.at);
        size_t to = next ? (size_t)(next - fmt->ptr) : fmt->len;
        if (!srn__work(in, 1) || !srn__put_part(in, &b, fmt, p.at, to)) return false;
        p.at = to + 1;
        if (next && !percent_one(&p, &b)) return false;
    }
    bool spare = p.tuple ? p.next < p.tuple->n : p.next == 0 && arg.type != V_DICT && arg.type != V_SEQ;
    if (spare) return srn__err(in, SRN_EFORMAT, "not all values were used by the format string");
    return srn__finish(in, &b, ret);
}

/* ---- str.format ---- */

typedef struct braces {
    srn__in *in;
    const srn__text *fmt;
    const srn__args *args;
    size_t next; /* the next automatic index */
    bool manual, automatic;
} braces;

static bool spec_error(srn__in *in) {
    return srn__err(in, SRN_EFORMAT, "the format specification is not valid");
}

static bool spec_number(srn__in *in, const srn__text *s, size_t *at, int64_t most, int64_t *ret) {
    int64_t v = 0;
    while (*at < s->len && s->ptr[*at] >= '0' && s->ptr[*at] <= '9' && v <= most)
        v = v * 10 + (s->ptr[(*at)++] - '0');
    if (v > most) return srn__err(in, SRN_ELIMIT, "a width or precision is more than %lld", (long long)most);
    *ret = v;
    return true;
}

static bool parse_spec(srn__in *in, const srn__text *s, spec *sp, srn__text *fill) {
    size_t at = 0;
    uint32_t cp;
    *sp = (spec){.width = -1, .precision = -1};
    size_t first = srn__cp_next(s->ptr, s->len, &cp);
    if (first && first < s->len && s->ptr[first] && strchr("<>^=", s->ptr[first])) {
        *fill = (srn__text){.ptr = s->ptr, .len = first, .trusted = srn__trust_at(s, 0)};
        sp->fill = fill;
        sp->align = s->ptr[first];
        at = first + 1;
    } else if (s->len && s->ptr[0] && strchr("<>^=", s->ptr[0])) {
        sp->align = s->ptr[at++];
    }
    if (at < s->len && s->ptr[at] && strchr("+- ", s->ptr[at])) sp->sign = s->ptr[at++];
    if (at < s->len && s->ptr[at] == '#') sp->alt = true, at++;
    if (at < s->len && s->ptr[at] == '0') sp->zero = true, at++;
    if (!spec_number(in, s, &at, WIDTH_MAX, &sp->width)) return false;
    if (at < s->len && s->ptr[at] == ',') sp->comma = true, at++;
    if (at < s->len && s->ptr[at] == '.') {
        size_t before = ++at;
        if (!spec_number(in, s, &at, PRECISION_MAX, &sp->precision)) return false;
        if (at == before) return spec_error(in);
    }
    if (at < s->len) sp->type = s->ptr[at++];
    return at == s->len || spec_error(in);
}

static bool number_with_spec(srn__in *in, srn__builder *b, srn__val v, spec *sp, bool trusted) {
    bool whole = sp->type && strchr("dxXob", sp->type), real = v.type == V_FLOAT;
    if (sp->type && !whole && !strchr("eEfFgG%", sp->type)) return spec_error(in);
    if (whole && (real || sp->precision >= 0)) return spec_error(in);
    if (!sp->type && sp->precision >= 0) {
        if (!real) return spec_error(in);
        sp->type = 'g';
    }
    return put_number(in, b, sp, v, trusted);
}

static bool put_with_spec(srn__in *in, srn__builder *b, srn__val v, const srn__text *s) {
    spec sp;
    srn__text fill;
    if (s->len == 0) return srn__put_str(in, b, v);
    if (!parse_spec(in, s, &sp, &fill)) return false;
    bool trusted = srn__all_trusted(s);
    if (srn__is_numberlike(v) && (v.type != V_BOOL || sp.type))
        return number_with_spec(in, b, v, &sp, trusted);
    const srn__text *text;
    if (v.type != V_STR && v.type != V_BOOL)
        return srn__err(in, SRN_EFORMAT, "a %s takes no format specification", srn__type_name(v));
    if ((sp.type && sp.type != 's') || sp.sign || sp.comma || sp.alt || sp.align == '=')
        return spec_error(in);
    if (!srn__to_text(in, v, &text)) return false;
    srn__val cut = {.type = V_STR, .u.s = text};
    if (sp.precision >= 0 && !srn__slice(in, cut, srn__none(), srn__int(sp.precision), srn__none(), &cut))
        return false;
    return put_padded(in, b, &sp, cut.u.s, 0, '<', trusted);
}

static bool is_digits(const srn__text *s, size_t from, size_t to) {
    for (size_t i = from; i < to; i++)
        if (s->ptr[i] < '0' || s->ptr[i] > '9') return false;
    return to > from && to - from < 9;
}

static int64_t digits_value(const srn__text *s, size_t from, size_t to) {
    int64_t v = 0;
    for (size_t i = from; i < to; i++) v = v * 10 + (s->ptr[i] - '0');
    return v;
}

static bool field_root(braces *p, size_t from, size_t to, srn__val *ret) {
    const srn__text *f = p->fmt;
    bool automatic = from == to, digits = is_digits(f, from, to);
    if (automatic || digits) {
        if (automatic ? p->manual : p->automatic)
            return srn__err(p->in, SRN_EFORMAT, "format: {} and {0} cannot be mixed");
        *(automatic ? &p->automatic : &p->manual) = true;
        size_t index = automatic ? p->next++ : (size_t)digits_value(f, from, to);
        if (index >= p->args->n)
            return srn__err(p->in, SRN_EFORMAT, "format: there is no value for {%zu}", index);
        *ret = p->args->pos[index];
        return true;
    }
    for (size_t i = 0; i < p->args->n_kw; i++)
        if (srn_str_eq(p->args->kw[i].name, (srn_str){f->ptr + from, to - from}))
            return *ret = p->args->kw[i].v, true;
    return srn__err(p->in, SRN_EFORMAT, "format: there is no value for {%.*s}", (int)SRN_MIN(to - from, 60),
                    f->ptr + from);
}

/* name(.attr|[key])* in [from, to). */
static bool field_value(braces *p, size_t from, size_t to, srn__val *ret) {
    const srn__text *f = p->fmt;
    size_t at = from;
    while (at < to && f->ptr[at] != '.' && f->ptr[at] != '[') at++;
    if (!field_root(p, from, at, ret)) return false;
    while (at < to) {
        bool attr = f->ptr[at] == '.';
        size_t start = ++at;
        while (at < to && (attr ? f->ptr[at] != '.' && f->ptr[at] != '[' : f->ptr[at] != ']')) at++;
        if (at == start || (!attr && at >= to))
            return srn__err(p->in, SRN_EFORMAT, "format: a field is malformed");
        srn__val key, v;
        if (!attr && is_digits(f, start, at))
            key = srn__int(digits_value(f, start, at));
        else if (!srn__str_part(p->in, f, start, at, &key))
            return false;
        bool ok =
            attr ? srn__getattr(p->in, *ret, srn__bytes(key.u.s), &v) : srn__getitem(p->in, *ret, key, &v);
        if (!ok) return false;
        *ret = v;
        if (!attr) at++;
    }
    return true;
}

static bool put_field(braces *p, srn__builder *b, size_t from, size_t to) {
    const srn__text *f = p->fmt;
    size_t name_end = from, square = 0;
    for (; name_end < to; name_end++) {
        char c = f->ptr[name_end];
        square += c == '[';
        if (c == ']') square = 0;
        if (!square && (c == '!' || c == ':')) break;
    }
    srn__val v, s, spec_text;
    if (!field_value(p, from, name_end, &v)) return false;
    if (name_end + 1 < to && f->ptr[name_end] == '!') {
        char conv = f->ptr[name_end + 1];
        srn__builder one = {0};
        if (conv != 's' && conv != 'r')
            return srn__err(p->in, SRN_EFORMAT, "format: there is no conversion !%c", conv);
        if (!(conv == 's' ? srn__put_str(p->in, &one, v) : srn__put_repr(p->in, &one, v)) ||
            !srn__finish(p->in, &one, &s))
            return false;
        v = s;
        name_end += 2;
        if (name_end < to && f->ptr[name_end] != ':')
            return srn__err(p->in, SRN_EFORMAT, "format: a field is malformed");
    }
    if (!srn__str_part(p->in, f, name_end < to ? name_end + 1 : to, to, &spec_text)) return false;
    if (memchr(spec_text.u.s->ptr, '{', spec_text.u.s->len))
        return srn__err(p->in, SRN_EUNSUP, "format: nested fields are not supported");
    return put_with_spec(p->in, b, v, spec_text.u.s);
}

bool srn__format_method(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret) {
    (void)vals;
    const srn__text *f = self.u.s;
    braces p = {.in = in, .fmt = f, .args = raw};
    srn__builder b = {0};
    for (size_t at = 0; at < f->len;) {
        size_t from = at;
        while (at < f->len && f->ptr[at] != '{' && f->ptr[at] != '}') at++;
        if (!srn__work(in, 1) || !srn__put_part(in, &b, f, from, at)) return false;
        if (at >= f->len) break;
        char c = f->ptr[at];
        if (at + 1 < f->len && f->ptr[at + 1] == c) {
            if (!srn__put_part(in, &b, f, at, at + 1)) return false;
            at += 2;
            continue;
        }
        if (c == '}') return srn__err(in, SRN_EFORMAT, "format: a single '}' in the format string");
        size_t depth = 1, end = at + 1;
        for (; end < f->len; end++) {
            if (f->ptr[end] == '{') depth++;
            if (f->ptr[end] == '}' && --depth == 0) break;
        }
        if (end >= f->len) return srn__err(in, SRN_EFORMAT, "format: a '{' is not closed");
        if (!put_field(&p, &b, at + 1, end)) return false;
        at = end + 1;
    }
    return srn__finish(in, &b, ret);
}
