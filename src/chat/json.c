/* JSON values in, and tojson out. The text was parsed by the caller (jansson); here it becomes values that
 * share jansson's bytes, all of them untrusted but for one case: a message's role that is one of the names
 * below is a word of ours, not text, so that templates may build <|user|> from it.
 */
#include "chat/chat_internal.h"

static const char *const roles[] = {"system", "developer", "user",    "assistant",  "model",
                                    "tool",   "function",  "ipython", "observation"};

static bool from_object(srn__in *in, const json_t *j, int depth, srn__val *ret) {
    srn__dict *d = srn__dict_new(in, json_object_size(j));
    if (!d) return false;
    const char *key;
    size_t len;
    json_t *value;
    json_object_keylen_foreach((json_t *)(uintptr_t)j, key, len, value) {
        srn__val k, v;
        if (!srn__str_new(in, key, len, false, &k) || !srn__from_json(in, value, depth + 1, &v) ||
            !srn__dict_push(in, d, k, v))
            return false;
    }
    *ret = (srn__val){.type = V_DICT, .tainted = true, .u.dict = d};
    return true;
}

static bool from_array(srn__in *in, const json_t *j, int depth, srn__val *ret) {
    size_t n = json_array_size(j);
    srn__seq *s = srn__seq_new(in, SEQ_LIST, n);
    if (!s) return false;
    for (size_t i = 0; i < n; i++) {
        srn__val v;
        if (!srn__from_json(in, json_array_get(j, i), depth + 1, &v) || !srn__seq_push(in, s, v))
            return false;
    }
    *ret = srn__seq_val(s, true);
    return true;
}

bool srn__from_json(srn__in *in, const json_t *j, int depth, srn__val *ret) {
    if (depth > SRN__DATA_DEPTH)
        return srn__err(in, SRN_ELIMIT, "the messages or tools are nested more than %d deep",
                        SRN__DATA_DEPTH);
    if (!srn__work(in, 1)) return false;
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return from_object(in, j, depth, ret);
    case JSON_ARRAY:
        return from_array(in, j, depth, ret);
    case JSON_STRING:
        return srn__str_new(in, json_string_value(j), json_string_length(j), false, ret);
    case JSON_INTEGER:
        *ret = srn__int(json_integer_value(j));
        break;
    case JSON_REAL:
        *ret = srn__float(json_real_value(j));
        break;
    case JSON_NULL:
        *ret = srn__none();
        break;
    default:
        *ret = srn__bool(json_is_true(j));
        break;
    }
    ret->tainted = true;
    return true;
}

bool srn__messages_from_json(srn__in *in, const json_t *j, srn__val *ret) {
    if (!srn__from_json(in, j, 0, ret)) return false;
    if (ret->type != V_SEQ) return true;
    for (size_t i = 0; i < ret->u.seq->n; i++) {
        srn__val m = ret->u.seq->items[i];
        srn__val *role =
            m.type == V_DICT ? (srn__val *)(uintptr_t)srn__dict_getz(m.u.dict, SRN_STR("role")) : NULL;
        if (!role || role->type != V_STR) continue;
        for (size_t k = 0; k < SRN_LEN(roles); k++)
            if (srn_str_eqz(srn__bytes(role->u.s), roles[k]) &&
                !srn__str_new(in, roles[k], strlen(roles[k]), true, role))
                return false;
    }
    return true;
}

/* ---- tojson ---- */

typedef struct writer {
    srn__in *in;
    srn__builder b;
    bool ascii, sort;
    const srn__text *indent; /* NULL: one line */
    const srn__text *item_sep, *key_sep;
    int level;
} writer;

static bool write_value(writer *w, srn__val v);

static bool writez(writer *w, const char *z, bool trusted) {
    return srn__put(w->in, &w->b, z, strlen(z), trusted);
}

/* Separators and indentation written inside an untrusted container are untrusted too. */
static bool write_text(writer *w, const srn__text *s, bool trusted) {
    return trusted ? srn__put_text(w->in, &w->b, s) : srn__put(w->in, &w->b, s->ptr, s->len, false);
}

static bool write_escape(writer *w, uint32_t cp, bool trusted) {
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
    const char *simple = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    char esc[16];
    if (simple)
        snprintf(esc, sizeof esc, "\\%c", to[simple - from]);
    else if (cp < 0x10000)
        snprintf(esc, sizeof esc, "\\u%04x", cp);
    else
        snprintf(esc, sizeof esc, "\\u%04x\\u%04x", 0xD800 + ((cp - 0x10000) >> 10),
                 0xDC00 + ((cp - 0x10000) & 0x3FF));
    return writez(w, esc, trusted);
}

static bool write_string(writer *w, const srn__text *s) {
    bool edge = srn__all_trusted(s);
    if (!writez(w, "\"", edge)) return false;
    uint32_t cp = 0;
    size_t plain = 0, at = 0;
    while (at < s->len) {
        size_t len = srn__cp_next(s->ptr + at, s->len - at, &cp);
        bool esc = cp < 0x20 || cp == '"' || cp == '\\' || (w->ascii && cp >= 0x80);
        if (esc && (!srn__put_part(w->in, &w->b, s, plain, at) || !write_escape(w, cp, srn__trust_at(s, at))))
            return false;
        at += len;
        if (esc) plain = at;
    }
    return srn__put_part(w->in, &w->b, s, plain, at) && writez(w, "\"", edge) &&
           srn__work(w->in, s->len / 64);
}

static bool newline(writer *w, bool trusted) {
    if (!w->indent) return true;
    if (!writez(w, "\n", trusted)) return false;
    for (int i = 0; i < w->level; i++)
        if (!write_text(w, w->indent, trusted)) return false;
    return true;
}

static bool write_seq(writer *w, const srn__seq *s, bool trusted) {
    if (s->n == 0) return writez(w, "[]", trusted);
    w->level++;
    if (!writez(w, "[", trusted) || !newline(w, trusted)) return false;
    for (size_t i = 0; i < s->n; i++) {
        if (i && (!write_text(w, w->item_sep, trusted) || !newline(w, trusted))) return false;
        if (!write_value(w, s->items[i])) return false;
    }
    w->level--;
    return newline(w, trusted) && writez(w, "]", trusted);
}

static bool write_key(writer *w, srn__val k) {
    bool trusted = !k.tainted;
    char buf[40];
    switch (k.type) {
    case V_STR:
        return write_string(w, k.u.s);
    case V_NONE:
        return writez(w, "\"null\"", trusted);
    case V_BOOL:
        return writez(w, k.u.b ? "\"true\"" : "\"false\"", trusted);
    case V_INT:
    case V_FLOAT:
        if (k.type == V_INT)
            snprintf(buf, sizeof buf, "%lld", (long long)k.u.i);
        else
            srn__float_repr(k.u.f, buf);
        return writez(w, "\"", trusted) && writez(w, buf, trusted) && writez(w, "\"", trusted);
    default:
        return srn__err(w->in, SRN_EFORMAT, "tojson: a key must be a string or a number, not a %s",
                        srn__type_name(k));
    }
}

/* The pairs in the order of their keys, for sort_keys. */
static bool sorted_pairs(srn__in *in, const srn__dict *d, srn__dict *ret) {
    *ret = (srn__dict){.pairs = srn__alloc(in, d->n, sizeof *d->pairs), .n = d->n, .cap = d->n};
    if (!ret->pairs) return false;
    for (size_t i = 0; i < d->n; i++) {
        size_t k = i;
        for (; k > 0; k--) {
            bool less;
            if (!srn__work(in, 1) || !srn__order(in, d->pairs[i].k, ret->pairs[k - 1].k, OP_LT, &less))
                return false;
            if (!less) break;
            ret->pairs[k] = ret->pairs[k - 1];
        }
        ret->pairs[k] = d->pairs[i];
    }
    return true;
}

static bool write_dict(writer *w, const srn__dict *d, bool trusted) {
    srn__dict sorted;
    if (d->n == 0) return writez(w, "{}", trusted);
    if (w->sort) {
        if (!sorted_pairs(w->in, d, &sorted)) return false;
        d = &sorted;
    }
    w->level++;
    if (!writez(w, "{", trusted) || !newline(w, trusted)) return false;
    for (size_t i = 0; i < d->n; i++) {
        if (i && (!write_text(w, w->item_sep, trusted) || !newline(w, trusted))) return false;
        if (!write_key(w, d->pairs[i].k) || !write_text(w, w->key_sep, trusted) ||
            !write_value(w, d->pairs[i].v))
            return false;
    }
    w->level--;
    return newline(w, trusted) && writez(w, "}", trusted);
}

static bool write_float(writer *w, double f, bool trusted) {
    char buf[40];
    srn__float_repr(f, buf);
    if (strcmp(buf, "nan") == 0) return writez(w, "NaN", trusted);
    if (strcmp(buf, "inf") == 0) return writez(w, "Infinity", trusted);
    return writez(w, strcmp(buf, "-inf") == 0 ? "-Infinity" : buf, trusted);
}

static bool write_inner(writer *w, srn__val v) {
    bool trusted = !v.tainted;
    switch (v.type) {
    case V_NONE:
        return writez(w, "null", trusted);
    case V_BOOL:
        return writez(w, v.u.b ? "true" : "false", trusted);
    case V_INT:
        return srn__put_repr(w->in, &w->b, v);
    case V_FLOAT:
        return write_float(w, v.u.f, trusted);
    case V_STR:
        return write_string(w, v.u.s);
    case V_DICT:
        return write_dict(w, v.u.dict, trusted);
    case V_SEQ:
        if (v.u.seq->kind <= SEQ_GROUP) return write_seq(w, v.u.seq, trusted);
        break;
    case V_UNDEF:
        if (v.u.undef->hint || v.u.undef->name.len) return srn__undef_fail(w->in, v);
        break;
    default:
        break;
    }
    return srn__err(w->in, SRN_EFORMAT, "tojson: a %s cannot be written as JSON", srn__type_name(v));
}

static bool write_value(writer *w, srn__val v) {
    if (!srn__enter(w->in)) return false;
    bool ok = srn__work(w->in, 1) && write_inner(w, v);
    srn__leave(w->in);
    return ok;
}

static bool set_indent(writer *w, srn__val v) {
    if (v.type == V_NONE || v.type == V_MISSING) return true;
    if (v.type == V_STR) return w->indent = v.u.s, true;
    int64_t n;
    srn__builder b = {0};
    srn__val s;
    if (!srn__want_int(w->in, v, "indent", 0, &n)) return false;
    if (n > 64) return srn__err(w->in, SRN_ELIMIT, "tojson: an indent of %lld is more than 64", (long long)n);
    for (int64_t i = 0; i < n; i++)
        if (!srn__put(w->in, &b, " ", 1, true)) return false;
    if (!srn__finish(w->in, &b, &s)) return false;
    w->indent = s.u.s;
    return true;
}

static bool tojson(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret) {
    (void)raw;
    srn__val item, key, seps = vals[2];
    writer w = {.in = in, .ascii = srn__truth(vals[0]), .sort = srn__truth(vals[3])};
    if (!set_indent(&w, vals[1])) return false;
    if (seps.type == V_SEQ && seps.u.seq->n == 2) {
        item = seps.u.seq->items[0];
        key = seps.u.seq->items[1];
    } else if (seps.type != V_MISSING && seps.type != V_NONE) {
        return srn__err(in, SRN_EFORMAT, "tojson: separators must be two strings");
    } else if (!srn__str_new(in, w.indent ? "," : ", ", w.indent ? 1 : 2, true, &item) ||
               !srn__str_new(in, ": ", 2, true, &key)) {
        return false;
    }
    if (!srn__want_text(in, item, "separators", &w.item_sep) ||
        !srn__want_text(in, key, "separators", &w.key_sep))
        return false;
    return write_value(&w, self) && srn__finish(in, &w.b, ret);
}

const srn__builtin srn__tojson_filter = {"tojson", tojson, "ensure_ascii? indent? separators? sort_keys?"};
