/* The methods of strings, as Python's str has them, with trust: a piece of a string keeps the trust of the
 * bytes it is made of, a changed character that of the character it came from, and what a method inserts that
 * of the argument it was given (padding that the method itself invents counts as the string's own).
 */
#include "chat/chat_internal.h"

#define METHOD(fn)                                                                                           \
    static bool fn(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret)
#define UNUSED (void)in, (void)vals, (void)raw

/* ---- case ---- */

typedef size_t case_fn(uint32_t cp, uint32_t out[3]);

static bool cased(uint32_t cp) {
    return srn__is_upper(cp) || srn__is_lower(cp) || srn__is_title(cp);
}

/* A capital sigma at the end of a word has its own small form. */
static bool final_sigma(const srn__text *s, size_t at) {
    uint32_t cp = 0;
    if (at == 0) return false;
    size_t before = at - 1;
    while (before > 0 && ((unsigned char)s->ptr[before] & 0xC0) == 0x80) before--;
    srn__cp_next(s->ptr + before, s->len - before, &cp);
    if (!cased(cp)) return false;
    size_t after = at + 2;
    if (after >= s->len) return true;
    srn__cp_next(s->ptr + after, s->len - after, &cp);
    return !cased(cp);
}

static bool put_case(srn__in *in, srn__builder *b, const srn__text *s, size_t at, uint32_t cp, case_fn *fn) {
    uint32_t out[3];
    size_t n = fn(cp, out);
    if (cp == 0x3A3 && fn == srn__lower) out[0] = final_sigma(s, at) ? 0x3C2 : 0x3C3;
    for (size_t i = 0; i < n; i++)
        if (!srn__put_cp(in, b, out[i], srn__trust_at(s, at))) return false;
    return srn__work(in, 1);
}

/* Maps every character; first is for the first one (or, by words, for the first cased one of each word). */
static bool map_case(srn__in *in, const srn__text *s, case_fn *first, case_fn *rest, bool words,
                     srn__val *ret) {
    srn__builder b = {0};
    bool start = true;
    uint32_t cp;
    for (size_t at = 0, len; at < s->len; at += len) {
        len = srn__cp_next(s->ptr + at, s->len - at, &cp);
        if (!put_case(in, &b, s, at, cp, start ? first : rest)) return false;
        start = words && !cased(cp);
    }
    return srn__finish(in, &b, ret);
}

METHOD(m_upper) {
    UNUSED;
    return map_case(in, self.u.s, srn__upper, srn__upper, false, ret);
}

METHOD(m_lower) {
    UNUSED;
    return map_case(in, self.u.s, srn__lower, srn__lower, false, ret);
}

METHOD(m_capitalize) {
    UNUSED;
    return map_case(in, self.u.s, srn__title, srn__lower, false, ret);
}

METHOD(m_title) {
    UNUSED;
    return map_case(in, self.u.s, srn__title, srn__lower, true, ret);
}

static size_t swap_one(uint32_t cp, uint32_t out[3]) {
    return srn__is_upper(cp)   ? srn__lower(cp, out)
           : srn__is_lower(cp) ? srn__upper(cp, out)
                               : (out[0] = cp, 1u);
}

METHOD(m_swapcase) {
    UNUSED;
    return map_case(in, self.u.s, swap_one, swap_one, false, ret);
}

/* ---- strip ---- */

static bool in_set(const srn__text *set, uint32_t cp) {
    uint32_t c;
    if (!set) return srn__is_space(cp);
    for (size_t at = 0; at < set->len;) {
        at += srn__cp_next(set->ptr + at, set->len - at, &c);
        if (c == cp) return true;
    }
    return false;
}

static bool strip(srn__in *in, const srn__text *s, srn__val chars, bool left, bool right, srn__val *ret) {
    const srn__text *set = NULL;
    size_t from = 0, to = s->len;
    uint32_t cp;
    if (srn__given(chars) && chars.type != V_NONE &&
        !srn__want_text(in, chars, "the characters to strip", &set))
        return false;
    while (left && from < to) {
        size_t len = srn__cp_next(s->ptr + from, to - from, &cp);
        if (!in_set(set, cp)) break;
        from += len;
        if (!srn__work(in, set ? set->len : 1)) return false;
    }
    while (right && to > from) {
        size_t at = to - 1;
        while (at > from && ((unsigned char)s->ptr[at] & 0xC0) == 0x80) at--;
        srn__cp_next(s->ptr + at, to - at, &cp);
        if (!in_set(set, cp)) break;
        to = at;
        if (!srn__work(in, set ? set->len : 1)) return false;
    }
    return srn__str_part(in, s, from, to, ret);
}

METHOD(m_strip) {
    UNUSED;
    return strip(in, self.u.s, vals[0], true, true, ret);
}

METHOD(m_lstrip) {
    UNUSED;
    return strip(in, self.u.s, vals[0], true, false, ret);
}

METHOD(m_rstrip) {
    UNUSED;
    return strip(in, self.u.s, vals[0], false, true, ret);
}

static bool starts(const srn__text *s, const srn__text *part) {
    return part->len <= s->len && (part->len == 0 || memcmp(s->ptr, part->ptr, part->len) == 0);
}

static bool ends(const srn__text *s, const srn__text *part) {
    return part->len <= s->len &&
           (part->len == 0 || memcmp(s->ptr + s->len - part->len, part->ptr, part->len) == 0);
}

METHOD(m_removeprefix) {
    UNUSED;
    const srn__text *part;
    if (!srn__want_text(in, vals[0], "the prefix", &part)) return false;
    return srn__str_part(in, self.u.s, starts(self.u.s, part) ? part->len : 0, self.u.s->len, ret);
}

METHOD(m_removesuffix) {
    UNUSED;
    const srn__text *part, *s = self.u.s;
    if (!srn__want_text(in, vals[0], "the suffix", &part)) return false;
    return srn__str_part(in, s, 0, part->len && ends(s, part) ? s->len - part->len : s->len, ret);
}

/* Searching from the right compares at every position: charged before it is done. */
static bool charge_rfind(srn__in *in, const srn__text *hay, const srn__text *needle) {
    size_t compare = needle->len / 64;
    if (compare && hay->len / 4 > SIZE_MAX / compare) return srn__work(in, SIZE_MAX / 2);
    return srn__work(in, hay->len / 16 + hay->len / 4 * compare);
}

/* ---- split ---- */

static bool push_part(srn__in *in, srn__seq *out, const srn__text *s, size_t from, size_t to) {
    srn__val v;
    return srn__work(in, 1) && srn__str_part(in, s, from, to, &v) && srn__seq_push(in, out, v);
}

static bool split_space(srn__in *in, const srn__text *s, int64_t most, srn__seq *out) {
    uint32_t cp;
    size_t at = 0;
    for (;;) {
        while (at < s->len) {
            size_t len = srn__cp_next(s->ptr + at, s->len - at, &cp);
            if (!srn__is_space(cp)) break;
            at += len;
        }
        if (at >= s->len) return true;
        size_t from = at;
        if (most >= 0 && (int64_t)out->n >= most) return push_part(in, out, s, from, s->len);
        while (at < s->len) {
            size_t len = srn__cp_next(s->ptr + at, s->len - at, &cp);
            if (srn__is_space(cp)) break;
            at += len;
        }
        if (!push_part(in, out, s, from, at)) return false;
    }
}

static bool split_sep(srn__in *in, const srn__text *s, const srn__text *sep, int64_t most, srn__seq *out) {
    size_t from = 0;
    if (!srn__work(in, s->len / 64)) return false;
    while (most < 0 || (int64_t)out->n < most) {
        size_t at = srn__find(srn__bytes(s), srn__bytes(sep), from);
        if (at == SIZE_MAX) break;
        if (!push_part(in, out, s, from, at)) return false;
        from = at + sep->len;
    }
    return push_part(in, out, s, from, s->len);
}

static void reverse(srn__seq *s) {
    for (size_t i = 0; i < s->n / 2; i++) {
        srn__val v = s->items[i];
        s->items[i] = s->items[s->n - 1 - i];
        s->items[s->n - 1 - i] = v;
    }
}

static bool rsplit_sep(srn__in *in, const srn__text *s, const srn__text *sep, int64_t most, srn__seq *out) {
    size_t to = s->len;
    if (!charge_rfind(in, s, sep)) return false;
    while (most < 0 || (int64_t)out->n < most) {
        size_t at = srn__rfind((srn_str){s->ptr, to}, srn__bytes(sep));
        if (at == SIZE_MAX) break;
        if (!push_part(in, out, s, at + sep->len, to)) return false;
        to = at;
    }
    if (!push_part(in, out, s, 0, to)) return false;
    reverse(out);
    return true;
}

/* From the right, at whitespace: at most `most` splits. */
static bool rsplit_space(srn__in *in, const srn__text *s, int64_t most, srn__seq *out) {
    srn__seq *all = srn__seq_new(in, SEQ_LIST, 0);
    if (!all || !split_space(in, s, -1, all)) return false;
    if (most < 0 || (int64_t)all->n <= most + 1) return *out = *all, true;
    size_t tail = all->n - (size_t)most;
    /* Each part shares the bytes of s, so the head ends where its last word does. */
    const srn__text *last = all->items[tail - 1].u.s;
    size_t end = (size_t)(last->ptr - s->ptr) + last->len;
    if (!push_part(in, out, s, 0, end)) return false;
    for (size_t i = tail; i < all->n; i++)
        if (!srn__seq_push(in, out, all->items[i])) return false;
    return true;
}

static bool split(srn__in *in, srn__val self, srn__val *vals, bool right, srn__val *ret) {
    int64_t most;
    const srn__text *sep = NULL;
    srn__seq *out = srn__seq_new(in, SEQ_LIST, 0);
    if (!out || !srn__want_int(in, vals[1], "maxsplit", -1, &most)) return false;
    if (srn__given(vals[0]) && vals[0].type != V_NONE) {
        if (!srn__want_text(in, vals[0], "the separator", &sep)) return false;
        if (sep->len == 0) return srn__err(in, SRN_EFORMAT, "split: the separator is empty");
    }
    bool ok = right ? (sep ? rsplit_sep(in, self.u.s, sep, most, out) : rsplit_space(in, self.u.s, most, out))
                    : (sep ? split_sep(in, self.u.s, sep, most, out) : split_space(in, self.u.s, most, out));
    *ret = srn__seq_val(out, !srn__all_trusted(self.u.s));
    return ok;
}

METHOD(m_split) {
    UNUSED;
    return split(in, self, vals, false, ret);
}

METHOD(m_rsplit) {
    UNUSED;
    return split(in, self, vals, true, ret);
}

METHOD(m_splitlines) {
    UNUSED;
    const srn__text *s = self.u.s;
    bool keep = srn__truth(vals[0]);
    srn__seq *out = srn__seq_new(in, SEQ_LIST, 0);
    size_t from = 0;
    uint32_t cp;
    if (!out) return false;
    for (size_t at = 0; at < s->len;) {
        size_t len = srn__cp_next(s->ptr + at, s->len - at, &cp), end = at;
        at += len;
        if (!srn__is_line_break(cp)) continue;
        if (cp == '\r' && at < s->len && s->ptr[at] == '\n') at++;
        if (!push_part(in, out, s, from, keep ? at : end)) return false;
        from = at;
    }
    if (from < s->len && !push_part(in, out, s, from, s->len)) return false;
    *ret = srn__seq_val(out, !srn__all_trusted(s));
    return true;
}

static bool partition(srn__in *in, srn__val self, srn__val *vals, bool right, srn__val *ret) {
    const srn__text *s = self.u.s, *sep;
    srn__seq *out = srn__seq_new(in, SEQ_TUPLE, 3);
    if (!out || !srn__want_text(in, vals[0], "the separator", &sep)) return false;
    if (sep->len == 0) return srn__err(in, SRN_EFORMAT, "partition: the separator is empty");
    if (right ? !charge_rfind(in, s, sep) : !srn__work(in, s->len / 64)) return false;
    size_t at =
        right ? srn__rfind(srn__bytes(s), srn__bytes(sep)) : srn__find(srn__bytes(s), srn__bytes(sep), 0);
    size_t cut[4] = {0, at, at + sep->len, s->len};
    if (at == SIZE_MAX) cut[1] = cut[2] = right ? 0 : s->len;
    for (int i = 0; i < 3; i++)
        if (!push_part(in, out, s, cut[i], cut[i + 1])) return false;
    *ret = srn__seq_val(out, !srn__all_trusted(s));
    return true;
}

METHOD(m_partition) {
    UNUSED;
    return partition(in, self, vals, false, ret);
}

METHOD(m_rpartition) {
    UNUSED;
    return partition(in, self, vals, true, ret);
}

/* ---- search ---- */

static bool any_affix(srn__in *in, srn__val self, srn__val *vals, bool at_end, srn__val *ret) {
    srn__val from = vals[1], to = vals[2], s = self;
    if (srn__given(from) && !srn__slice(in, self, from, srn__given(to) ? to : srn__none(), srn__none(), &s))
        return false;
    srn__val one[1] = {vals[0]};
    const srn__val *items = one;
    size_t n = 1;
    if (vals[0].type == V_SEQ && vals[0].u.seq->kind == SEQ_TUPLE)
        items = vals[0].u.seq->items, n = vals[0].u.seq->n;
    bool yes = false;
    for (size_t i = 0; i < n; i++) {
        const srn__text *part;
        if (!srn__want_text(in, items[i], at_end ? "the suffix" : "the prefix", &part)) return false;
        yes = yes || (at_end ? ends(s.u.s, part) : starts(s.u.s, part));
    }
    *ret = srn__bool(yes);
    return true;
}

METHOD(m_startswith) {
    UNUSED;
    return any_affix(in, self, vals, false, ret);
}

METHOD(m_endswith) {
    UNUSED;
    return any_affix(in, self, vals, true, ret);
}

/* The byte range that optional start and stop (code points) select. */
static bool window(srn__in *in, const srn__text *s, srn__val *vals, size_t *from, size_t *to,
                   bool *ret_empty) {
    int64_t n, a, z;
    srn__val self = {.type = V_STR, .u.s = s};
    *from = 0;
    *to = s->len;
    *ret_empty = false;
    if (!srn__given(vals[1]) && !srn__given(vals[2])) return true;
    if (!srn__length(in, self, &n)) return false;
    if (vals[1].type == V_NONE) vals[1].type = V_MISSING;
    if (vals[2].type == V_NONE) vals[2].type = V_MISSING;
    if (!srn__want_int(in, vals[1], "start", 0, &a) || !srn__want_int(in, vals[2], "stop", n, &z))
        return false;
    a = a < 0 ? SRN_MAX(a < -n ? 0 : a + n, 0) : a;
    z = z < 0 ? SRN_MAX(z < -n ? 0 : z + n, 0) : SRN_MIN(z, n);
    *ret_empty = a > z;
    *from = srn__cp_offset(s, (size_t)SRN_MIN(a, n));
    *to = SRN_MAX(*from, srn__cp_offset(s, (size_t)z));
    return true;
}

static bool find(srn__in *in, srn__val self, srn__val *vals, bool right, bool must, srn__val *ret) {
    const srn__text *s = self.u.s, *part;
    size_t from, to;
    bool empty;
    if (!srn__want_text(in, vals[0], "the text to find", &part) || !window(in, s, vals, &from, &to, &empty))
        return false;
    if (right ? !charge_rfind(in, s, part) : !srn__work(in, s->len / 64)) return false;
    srn_str hay = {s->ptr + from, to - from};
    size_t at = empty   ? SIZE_MAX
                : right ? srn__rfind(hay, srn__bytes(part))
                        : srn__find(hay, srn__bytes(part), 0);
    int64_t index = -1;
    if (at != SIZE_MAX) {
        srn__text head = {.ptr = s->ptr, .len = from + at};
        index = (int64_t)srn__cp_count(&head);
    } else if (must) {
        return srn__err(in, SRN_EFORMAT, "index(): the substring was not found");
    }
    *ret = srn__int(index);
    ret->tainted = !srn__all_trusted(s);
    return true;
}

METHOD(m_find) {
    UNUSED;
    return find(in, self, vals, false, false, ret);
}

METHOD(m_rfind) {
    UNUSED;
    return find(in, self, vals, true, false, ret);
}

METHOD(m_index) {
    UNUSED;
    return find(in, self, vals, false, true, ret);
}

METHOD(m_rindex) {
    UNUSED;
    return find(in, self, vals, true, true, ret);
}

METHOD(m_count) {
    UNUSED;
    const srn__text *s = self.u.s, *part;
    size_t from, to;
    bool empty;
    int64_t count = 0;
    if (!srn__want_text(in, vals[0], "the text to count", &part) || !window(in, s, vals, &from, &to, &empty))
        return false;
    srn__text within = {.ptr = s->ptr + from, .len = to - from};
    if (!srn__work(in, s->len / 64)) return false;
    if (part->len == 0) count = empty ? 0 : (int64_t)srn__cp_count(&within) + 1;
    for (size_t at = 0; part->len && (at = srn__find(srn__bytes(&within), srn__bytes(part), at)) != SIZE_MAX;
         count++)
        at += part->len;
    *ret = srn__int(count);
    ret->tainted = !srn__all_trusted(s);
    return true;
}

/* ---- join, replace, padding ---- */

METHOD(m_join) {
    UNUSED;
    srn__seq *items;
    srn__builder b = {0};
    if (!srn__iterate(in, vals[0], &items)) return false;
    for (size_t i = 0; i < items->n; i++) {
        if (items->items[i].type != V_STR)
            return srn__err(in, SRN_EFORMAT, "join: item %zu is a %s, not a string", i,
                            srn__type_name(items->items[i]));
        if (!srn__work(in, 1) || (i && !srn__put_text(in, &b, self.u.s)) ||
            !srn__put_text(in, &b, items->items[i].u.s))
            return false;
    }
    return srn__finish(in, &b, ret);
}

METHOD(m_replace) {
    (void)raw;
    const srn__text *s = self.u.s, *old, *new;
    int64_t most;
    srn__builder b = {0};
    size_t from = 0, at = 0;
    if (vals[2].type == V_NONE) vals[2].type = V_MISSING;
    if (!srn__want_text(in, vals[0], "the text to replace", &old) ||
        !srn__want_text(in, vals[1], "the replacement", &new) ||
        !srn__want_int(in, vals[2], "count", -1, &most) || !srn__work(in, s->len / 64))
        return false;
    for (int64_t done = 0; most < 0 || done < most; done++) {
        uint32_t cp;
        size_t hit = srn__find(srn__bytes(s), srn__bytes(old), at);
        if (hit == SIZE_MAX) break;
        if (!srn__work(in, 1) || !srn__put_part(in, &b, s, from, hit) || !srn__put_text(in, &b, new))
            return false;
        from = hit + old->len;
        if (old->len == 0 && hit == s->len) break;
        at = old->len ? from : hit + srn__cp_next(s->ptr + hit, s->len - hit, &cp);
    }
    if (b.len == 0 && from == 0) return *ret = self, true;
    return srn__put_part(in, &b, s, from, s->len) && srn__finish(in, &b, ret);
}

/* width and fill of ljust, rjust and center: left and right counts of fill come from the caller's rule. */
static bool pad(srn__in *in, srn__val self, srn__val *vals, int where, srn__val *ret) {
    const srn__text *s = self.u.s, *fill = NULL;
    int64_t width, n;
    if (!srn__want_int(in, vals[0], "width", 0, &width) || !srn__length(in, self, &n)) return false;
    if (srn__given(vals[1])) {
        if (!srn__want_text(in, vals[1], "the fill character", &fill)) return false;
        if (srn__cp_count(fill) != 1) return srn__err(in, SRN_EFORMAT, "the fill must be one character");
    }
    int64_t total = width > n ? width - n : 0;
    int64_t left = where < 0 ? 0 : where > 0 ? total : total / 2 + (total & width & 1);
    srn__builder b = {0};
    for (int64_t i = 0; i <= total; i++) {
        if (i == left && !srn__put_text(in, &b, s)) return false;
        if (i == total) break;
        bool ok = fill ? srn__put_text(in, &b, fill) : srn__put(in, &b, " ", 1, srn__all_trusted(s));
        if (!ok || !srn__work(in, 1)) return false;
    }
    return srn__finish(in, &b, ret);
}

METHOD(m_ljust) {
    UNUSED;
    return pad(in, self, vals, -1, ret);
}

METHOD(m_rjust) {
    UNUSED;
    return pad(in, self, vals, 1, ret);
}

METHOD(m_center) {
    UNUSED;
    return pad(in, self, vals, 0, ret);
}

METHOD(m_zfill) {
    UNUSED;
    const srn__text *s = self.u.s;
    int64_t width, n;
    srn__builder b = {0};
    if (!srn__want_int(in, vals[0], "width", 0, &width) || !srn__length(in, self, &n)) return false;
    size_t sign = s->len && (s->ptr[0] == '-' || s->ptr[0] == '+');
    if (!srn__put_part(in, &b, s, 0, sign)) return false;
    for (; n < width; n++)
        if (!srn__work(in, 1) || !srn__put(in, &b, "0", 1, srn__all_trusted(s))) return false;
    return srn__put_part(in, &b, s, sign, s->len) && srn__finish(in, &b, ret);
}

/* ---- questions ---- */

typedef bool cp_fn(uint32_t cp);

static bool is_alnum(uint32_t cp) {
    return srn__is_alpha(cp) || srn__is_numeric(cp) || srn__is_digit(cp);
}

static bool all(srn__in *in, const srn__text *s, cp_fn *fn, bool empty, srn__val *ret) {
    bool yes = s->len > 0 || empty;
    uint32_t cp;
    for (size_t at = 0; yes && at < s->len; yes = fn(cp)) at += srn__cp_next(s->ptr + at, s->len - at, &cp);
    *ret = srn__bool(yes);
    return srn__work(in, s->len / 16);
}

#define ALL(name, fn, empty)                                                                                 \
    METHOD(name) {                                                                                           \
        UNUSED;                                                                                              \
        return all(in, self.u.s, fn, empty, ret);                                                            \
    }
ALL(m_isalpha, srn__is_alpha, false)
ALL(m_isalnum, is_alnum, false)
ALL(m_isdigit, srn__is_digit, false)
ALL(m_isdecimal, srn__is_decimal, false)
ALL(m_isnumeric, srn__is_numeric, false)
ALL(m_isspace, srn__is_space, false)
ALL(m_isprintable, srn__is_printable, true)

static bool is_ascii(uint32_t cp) {
    return cp < 0x80;
}
ALL(m_isascii, is_ascii, true)

/* All cased characters are of one case, and there is one. */
static bool one_case(srn__in *in, const srn__text *s, cp_fn *want, srn__val *ret) {
    bool any = false, yes = true;
    uint32_t cp;
    for (size_t at = 0; yes && at < s->len;) {
        at += srn__cp_next(s->ptr + at, s->len - at, &cp);
        if (!cased(cp)) continue;
        any = true;
        yes = want(cp);
    }
    *ret = srn__bool(any && yes);
    return srn__work(in, s->len / 16);
}

METHOD(m_isupper) {
    UNUSED;
    return one_case(in, self.u.s, srn__is_upper, ret);
}

METHOD(m_islower) {
    UNUSED;
    return one_case(in, self.u.s, srn__is_lower, ret);
}

METHOD(m_istitle) {
    UNUSED;
    const srn__text *s = self.u.s;
    bool any = false, after = false, yes = true;
    uint32_t cp;
    for (size_t at = 0; yes && at < s->len;) {
        at += srn__cp_next(s->ptr + at, s->len - at, &cp);
        bool up = srn__is_upper(cp) || srn__is_title(cp), low = srn__is_lower(cp);
        yes = !(up && after) && !(low && !after);
        any = any || up || low;
        after = up || low;
    }
    *ret = srn__bool(any && yes);
    return srn__work(in, s->len / 16);
}

METHOD(m_isidentifier) {
    UNUSED;
    const srn__text *s = self.u.s;
    bool yes = s->len > 0;
    uint32_t cp;
    for (size_t at = 0; yes && at < s->len;) {
        bool first = at == 0;
        at += srn__cp_next(s->ptr + at, s->len - at, &cp);
        yes = cp == '_' || srn__is_alpha(cp) || (!first && srn__is_decimal(cp));
    }
    *ret = srn__bool(yes);
    return true;
}

const srn__builtin *srn__str_method(srn_str name) {
    static const srn__builtin rows[] = {
        {"strip", m_strip, "chars?"},
        {"lstrip", m_lstrip, "chars?"},
        {"rstrip", m_rstrip, "chars?"},
        {"split", m_split, "sep? maxsplit?"},
        {"rsplit", m_rsplit, "sep? maxsplit?"},
        {"splitlines", m_splitlines, "keepends?"},
        {"partition", m_partition, "sep"},
        {"rpartition", m_rpartition, "sep"},
        {"startswith", m_startswith, "prefix start? end?"},
        {"endswith", m_endswith, "suffix start? end?"},
        {"removeprefix", m_removeprefix, "prefix"},
        {"removesuffix", m_removesuffix, "suffix"},
        {"replace", m_replace, "old new count?"},
        {"join", m_join, "iterable"},
        {"find", m_find, "sub start? end?"},
        {"rfind", m_rfind, "sub start? end?"},
        {"index", m_index, "sub start? end?"},
        {"rindex", m_rindex, "sub start? end?"},
        {"count", m_count, "sub start? end?"},
        {"upper", m_upper, ""},
        {"lower", m_lower, ""},
        {"casefold", m_lower, ""},
        {"title", m_title, ""},
        {"capitalize", m_capitalize, ""},
        {"swapcase", m_swapcase, ""},
        {"format", srn__format_method, "*"},
        {"ljust", m_ljust, "width fill?"},
        {"rjust", m_rjust, "width fill?"},
        {"center", m_center, "width fill?"},
        {"zfill", m_zfill, "width"},
        {"isalpha", m_isalpha, ""},
        {"isalnum", m_isalnum, ""},
        {"isdigit", m_isdigit, ""},
        {"isdecimal", m_isdecimal, ""},
        {"isnumeric", m_isnumeric, ""},
        {"isspace", m_isspace, ""},
        {"isupper", m_isupper, ""},
        {"islower", m_islower, ""},
        {"istitle", m_istitle, ""},
        {"isidentifier", m_isidentifier, ""},
        {"isprintable", m_isprintable, ""},
        {"isascii", m_isascii, ""},
    };
    return srn__builtin_find(rows, SRN_LEN(rows), name);
}
