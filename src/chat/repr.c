/* Printing values as Python prints them: str() and repr() of numbers, strings and containers. What is printed
 * from a tainted value is untrusted; the brackets of a container follow the container's own taint.
 */
#include "chat/chat_internal.h"

#include <stdlib.h>

/* The shortest digits that read back as f, in Python's layout: plain from 1e-4 up to 1e16, else an exponent.
 */
size_t srn__float_repr(double f, char out[40]) {
    if (f != f) return (size_t)snprintf(out, 40, "nan");
    if (f > 1.7976931348623157e308 || f < -1.7976931348623157e308)
        return (size_t)snprintf(out, 40, f < 0 ? "-inf" : "inf");
    char sci[40];
    for (int digits = 0; digits <= 16; digits++) {
        snprintf(sci, sizeof sci, "%.*e", digits, f);
        if (strtod(sci, NULL) == f) break;
    }
    char *e = strchr(sci, 'e');
    int exp = (int)strtoll(e + 1, NULL, 10); /* printf wrote it */
    *e = 0;
    const char *sign = sci[0] == '-' ? "-" : "";
    char digits[24];
    int n = 0;
    for (const char *c = sci; *c; c++)
        if (*c >= '0' && *c <= '9') digits[n++] = *c;
    while (n > 1 && digits[n - 1] == '0') n--;
    if (exp < -4 || exp >= 16)
        return (size_t)snprintf(out, 40, "%s%c%s%.*se%c%02d", sign, digits[0], n > 1 ? "." : "", n - 1,
                                digits + 1, exp < 0 ? '-' : '+', abs(exp));
    if (exp < 0) return (size_t)snprintf(out, 40, "%s0.%.*s%.*s", sign, -exp - 1, "000", n, digits);
    if (n <= exp + 1)
        return (size_t)snprintf(out, 40, "%s%.*s%.*s.0", sign, n, digits, exp + 1 - n, "0000000000000000");
    return (size_t)snprintf(out, 40, "%s%.*s.%.*s", sign, exp + 1, digits, n - exp - 1, digits + exp + 1);
}

static bool put_str_repr(srn__in *in, srn__builder *b, const srn__text *s) {
    bool single = s->len && memchr(s->ptr, '\'', s->len), twofold = s->len && memchr(s->ptr, '"', s->len);
    char quote = single && !twofold ? '"' : '\'';
    bool edge = srn__all_trusted(s);
    if (!srn__put(in, b, &quote, 1, edge)) return false;
    uint32_t cp;
    for (size_t at = 0, len; at < s->len; at += len) {
        len = srn__cp_next(s->ptr + at, s->len - at, &cp);
        bool trusted = srn__trust_at(s, at), ok;
        const char *p = cp < 0x80 ? strchr("\\\n\r\t", (int)cp) : NULL;
        char esc[16];
        if (cp && p)
            ok = srn__put(in, b, (const char *[]){"\\\\", "\\n", "\\r", "\\t"}[p - strchr("\\\n\r\t", '\\')],
                          2, trusted);
        else if (cp == (uint32_t)quote)
            ok = srn__put(in, b, "\\", 1, trusted) && srn__put(in, b, &quote, 1, trusted);
        else if (srn__is_printable(cp))
            ok = srn__put_part(in, b, s, at, at + len);
        else {
            int n = cp < 0x100     ? snprintf(esc, sizeof esc, "\\x%02x", cp)
                    : cp < 0x10000 ? snprintf(esc, sizeof esc, "\\u%04x", cp)
                                   : snprintf(esc, sizeof esc, "\\U%08x", cp);
            ok = srn__put(in, b, esc, (size_t)n, trusted);
        }
        if (!ok || !srn__work(in, 1)) return false;
    }
    return srn__put(in, b, &quote, 1, edge);
}

static bool putz(srn__in *in, srn__builder *b, const char *z, bool trusted) {
    return srn__put(in, b, z, strlen(z), trusted);
}

static bool put_seq(srn__in *in, srn__builder *b, const srn__seq *s, bool trusted) {
    static const char *const open[] = {"[", "(", "(", "", "dict_keys([", "dict_values([", "dict_items(["};
    static const char *const close[] = {"]", ")", ")", "", "])", "])", "])"};
    if (s->kind == SEQ_GEN) return putz(in, b, "<generator object>", trusted);
    if (s->kind == SEQ_RANGE) {
        char text[96];
        int n = s->step == 1 ? snprintf(text, sizeof text, "range(%lld, %lld)", (long long)s->start,
                                        (long long)s->stop)
                             : snprintf(text, sizeof text, "range(%lld, %lld, %lld)", (long long)s->start,
                                        (long long)s->stop, (long long)s->step);
        return srn__put(in, b, text, (size_t)n, trusted);
    }
    if (!putz(in, b, open[s->kind], trusted)) return false;
    for (size_t i = 0; i < s->n; i++) {
        if (i && !putz(in, b, ", ", trusted)) return false;
        if (!srn__put_repr(in, b, s->items[i])) return false;
    }
    if (s->n == 1 && (s->kind == SEQ_TUPLE || s->kind == SEQ_GROUP) && !putz(in, b, ",", trusted))
        return false;
    return putz(in, b, close[s->kind], trusted);
}

static bool put_dict(srn__in *in, srn__builder *b, const srn__dict *d, bool trusted) {
    if (!putz(in, b, "{", trusted)) return false;
    for (size_t i = 0; i < d->n; i++)
        if ((i && !putz(in, b, ", ", trusted)) || !srn__put_repr(in, b, d->pairs[i].k) ||
            !putz(in, b, ": ", trusted) || !srn__put_repr(in, b, d->pairs[i].v))
            return false;
    return putz(in, b, "}", trusted);
}

static bool put_func(srn__in *in, srn__builder *b, const srn__func *f) {
    if (f->kind == FN_BUILTIN) return putz(in, b, "<function>", true);
    return putz(in, b, "<Macro '", true) && putz(in, b, f->node->name, true) && putz(in, b, "'>", true);
}

static bool put_value(srn__in *in, srn__builder *b, srn__val v) {
    char buf[40];
    bool trusted = !v.tainted;
    switch (v.type) {
    case V_UNDEF:
    case V_MISSING:
        return putz(in, b, "Undefined", trusted);
    case V_NONE:
        return putz(in, b, "None", trusted);
    case V_BOOL:
        return putz(in, b, v.u.b ? "True" : "False", trusted);
    case V_INT:
        return srn__put(in, b, buf, (size_t)snprintf(buf, sizeof buf, "%lld", (long long)v.u.i), trusted);
    case V_FLOAT:
        return srn__put(in, b, buf, srn__float_repr(v.u.f, buf), trusted);
    case V_STR:
        return put_str_repr(in, b, v.u.s);
    case V_SEQ:
        return put_seq(in, b, v.u.seq, trusted);
    case V_DICT:
        return put_dict(in, b, v.u.dict, trusted);
    case V_NS:
        return putz(in, b, "<Namespace ", true) && put_dict(in, b, v.u.dict, trusted) &&
               putz(in, b, ">", true);
    case V_FUNC:
        return put_func(in, b, v.u.func);
    case V_LOOP:
        return putz(in, b, "<LoopContext>", true);
    default:
        return putz(in, b, v.type == V_CYCLER ? "<Cycler>" : "<Joiner>", true);
    }
}

bool srn__put_repr(srn__in *in, srn__builder *b, srn__val v) {
    if (!srn__enter(in)) return false;
    bool ok = srn__work(in, 1) && put_value(in, b, v);
    srn__leave(in);
    return ok;
}

bool srn__put_str(srn__in *in, srn__builder *b, srn__val v) {
    if (v.type == V_STR) return srn__put_text(in, b, v.u.s);
    if (v.type == V_UNDEF) return true;
    return srn__put_repr(in, b, v);
}

bool srn__to_text(srn__in *in, srn__val v, const srn__text **ret) {
    if (v.type == V_STR) return *ret = v.u.s, true;
    srn__builder b = {0};
    srn__val s;
    if (!srn__put_str(in, &b, v) || !srn__finish(in, &b, &s)) return false;
    *ret = s.u.s;
    return true;
}
