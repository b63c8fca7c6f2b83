/* constrain: pieces of JSON text as grammar: space, characters of a string with their escaped forms,
 * literals, and "one of these" or "none of these" texts. Printable ASCII but " and \ is always written as
 * itself, so that a text has few forms; control characters, DEL and everything beyond ASCII may be written as
 * \u, and / as \/. Halves of surrogate pairs never stand alone.
 */
#include <stdlib.h>

#include "constrain/schema_internal.h"

srn_node srn__g_join(srn_grammar *g, size_t n, const srn_node *nodes) {
    return srn_g_seq(g, nodes, n);
}

srn_node srn__g_opt(srn_grammar *g, srn_node node) {
    return srn_g_repeat(g, node, 0, 1);
}

static srn_node one(srn_grammar *g, uint32_t first, uint32_t last) {
    return srn_g_class(g, &(srn_range){first, last}, 1, false);
}

srn_node srn__g_space(srn_grammar *g) {
    srn_node spaces = srn_g_repeat(g, one(g, ' ', ' '), 0, SRN__CAP_INDENT);
    srn_node tabs = srn_g_repeat(g, one(g, '\t', '\t'), 1, SRN__CAP_INDENT / 4);
    srn_node indent[] = {spaces, tabs};
    srn_node line = SRN__SEQ(g, srn_g_text(g, SRN_STR("\n")), srn_g_alt(g, indent, 2));
    srn_node either[] = {one(g, ' ', ' '), line};
    return srn__g_opt(g, srn_g_alt(g, either, 2));
}

srn_node srn__g_colon(srn_grammar *g) {
    return SRN__SEQ(g, srn_g_text(g, SRN_STR(":")), srn__g_opt(g, one(g, ' ', ' ')));
}

/* ---- characters ---- */

static srn_node hex_digit(srn_grammar *g, unsigned first, unsigned last) {
    srn_range r[3];
    size_t n = 0;
    if (first < 10) r[n++] = (srn_range){'0' + first, '0' + SRN_MIN(last, 9u)};
    if (last >= 10) {
        unsigned from = SRN_MAX(first, 10u) - 10;
        r[n++] = (srn_range){'A' + from, 'A' + last - 10};
        r[n++] = (srn_range){'a' + from, 'a' + last - 10};
    }
    return srn_g_class(g, r, n, false);
}

/* The numbers from first to last as n_digits hexadecimal digits. */
static srn_node hex_range(srn_grammar *g, uint32_t first, uint32_t last, unsigned n_digits) {
    uint32_t all = (1u << (4 * n_digits)) - 1;
    if (n_digits == 0) return srn_g_text(g, SRN_STR(""));
    if (first == 0 && last == all) return srn_g_repeat(g, hex_digit(g, 0, 15), n_digits, n_digits);
    unsigned shift = 4 * (n_digits - 1), low = first >> shift, high = last >> shift;
    uint32_t rest = all >> 4;
    if (low == high)
        return SRN__SEQ(g, hex_digit(g, low, low), hex_range(g, first & rest, last & rest, n_digits - 1));
    srn_node alt[3];
    size_t n = 0;
    if (first & rest) {
        alt[n++] = SRN__SEQ(g, hex_digit(g, low, low), hex_range(g, first & rest, rest, n_digits - 1));
        low++;
    }
    if ((last & rest) != rest) {
        alt[n++] = SRN__SEQ(g, hex_digit(g, high, high), hex_range(g, 0, last & rest, n_digits - 1));
        high--;
    }
    if (low <= high && high < 16)
        alt[n++] = SRN__SEQ(g, hex_digit(g, low, high), hex_range(g, 0, rest, n_digits - 1));
    return srn_g_alt(g, alt, n);
}

static srn_node unit_escape(srn_grammar *g, uint32_t first, uint32_t last) {
    return SRN__SEQ(g, srn_g_text(g, SRN_STR("\\u")), hex_range(g, first, last, 4));
}

/* Pairs of surrogates for first to last, both beyond U+FFFF: at most three rectangles. */
static size_t pair_escapes(srn_grammar *g, uint32_t first, uint32_t last, srn_node ret[3]) {
    uint32_t high = (first - 0x10000) >> 10, low = (first - 0x10000) & 0x3ff;
    uint32_t high_end = (last - 0x10000) >> 10, low_end = (last - 0x10000) & 0x3ff;
    size_t n = 0;
    if (high < high_end && low > 0) {
        ret[n++] =
            SRN__SEQ(g, unit_escape(g, 0xd800 + high, 0xd800 + high), unit_escape(g, 0xdc00 + low, 0xdfff));
        high++, low = 0;
    }
    if (high < high_end && low_end < 0x3ff) {
        ret[n++] = SRN__SEQ(g, unit_escape(g, 0xd800 + high_end, 0xd800 + high_end),
                            unit_escape(g, 0xdc00, 0xdc00 + low_end));
        high_end--, low_end = 0x3ff;
    }
    ret[n++] = SRN__SEQ(g, unit_escape(g, 0xd800 + high, 0xd800 + high_end),
                        unit_escape(g, 0xdc00 + low, 0xdc00 + low_end));
    return n;
}

/* The parts of ranges [n] that lie in one of parts [n_parts]; ret has room for n * n_parts. */
static size_t intersect(const srn_range *ranges, size_t n, const srn_range *parts, size_t n_parts,
                        srn_range *ret) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < n_parts; p++) {
            uint32_t first = SRN_MAX(ranges[i].first, parts[p].first);
            uint32_t last = SRN_MIN(ranges[i].last, parts[p].last);
            if (first <= last) ret[k++] = (srn_range){first, last};
        }
    return k;
}

static const srn_range raw_parts[] = {{0x20, 0x21}, {0x23, 0x5b}, {0x5d, 0xd7ff}, {0xe000, 0x10ffff}};
static const srn_range unit_parts[] = {{0, 0x1f}, {0x7f, 0xd7ff}, {0xe000, 0xffff}};
static const srn_range pair_parts[] = {{0x10000, 0x10ffff}};
static const struct {
    uint32_t cp;
    char letter;
} shorts[] = {{'"', '"'},  {'\\', '\\'}, {'/', '/'},  {'\b', 'b'},
              {'\f', 'f'}, {'\n', 'n'},  {'\r', 'r'}, {'\t', 't'}};

/* Beyond this many ranges (a class such as \W) only control characters are let through as \u. */
enum { MANY_RANGES = 40 };

static srn_node escapes(srn_grammar *g, const srn_range *ranges, size_t n, srn_range *scratch) {
    srn_range letters[SRN_LEN(shorts)];
    size_t n_letters = 0, n_alt = 0;
    for (size_t i = 0; i < SRN_LEN(shorts); i++)
        for (size_t r = 0; r < n; r++)
            if (shorts[i].cp >= ranges[r].first && shorts[i].cp <= ranges[r].last) {
                uint32_t c = (uint8_t)shorts[i].letter;
                letters[n_letters++] = (srn_range){c, c};
                break;
            }
    srn_node alt[2 + 3 * MANY_RANGES + 3 * MANY_RANGES];
    if (n_letters)
        alt[n_alt++] = SRN__SEQ(g, srn_g_text(g, SRN_STR("\\")), srn_g_class(g, letters, n_letters, false));
    bool many = n > MANY_RANGES;
    size_t k = intersect(ranges, n, unit_parts, many ? 1 : SRN_LEN(unit_parts), scratch);
    for (size_t i = 0; i < k && i < 3 * (size_t)MANY_RANGES; i++)
        alt[n_alt++] = unit_escape(g, scratch[i].first, scratch[i].last);
    k = many ? 0 : intersect(ranges, n, pair_parts, SRN_LEN(pair_parts), scratch);
    for (size_t i = 0; i < k; i++) n_alt += pair_escapes(g, scratch[i].first, scratch[i].last, alt + n_alt);
    return n_alt ? srn_g_alt(g, alt, n_alt) : SRN_NODE_NONE;
}

srn_node srn__g_char(srn_grammar *g, const srn_range *ranges, size_t n) {
    srn_range few[4 * MANY_RANGES];
    srn_range *scratch = n > MANY_RANGES ? srn_calloc(4 * n, sizeof *scratch) : few;
    if (!scratch) return SRN_NODE_NONE;
    srn_node alt[2];
    size_t n_alt = 0;
    bool escaped = false;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < SRN_LEN(shorts); k++)
            escaped |= shorts[k].cp >= ranges[i].first && shorts[k].cp <= ranges[i].last;
        escaped |= ranges[i].first <= 0x1f || ranges[i].last >= 0x7f;
    }
    size_t k = intersect(ranges, n, raw_parts, SRN_LEN(raw_parts), scratch);
    if (k) alt[n_alt++] = srn_g_class(g, scratch, k, false);
    if (escaped) alt[n_alt++] = escapes(g, ranges, n, scratch);
    if (scratch != few) free(scratch);
    return n_alt == 1 ? alt[0] : srn_g_alt(g, alt, n_alt);
}

srn_node srn__schema_char(srn__schema *s, const srn_range *ranges, size_t n) {
    for (srn__class *c = s->classes; c; c = c->next)
        if (c->n == n && memcmp(c->ranges, ranges, n * sizeof *ranges) == 0) return c->node;
    srn__class *c = srn_arena_alloc(&s->arena, sizeof *c);
    srn_range *copy = srn_arena_alloc(&s->arena, (n + 1) * sizeof *copy);
    if (!c || !copy) return srn__schema_nomem(s), SRN_NODE_NONE;
    memcpy(copy, ranges, n * sizeof *copy);
    *c = (srn__class){copy, n, srn__g_char(s->g, ranges, n), s->classes};
    s->classes = c;
    return c->node;
}

srn_node srn__g_chars(srn_grammar *g, uint32_t min, uint32_t max) {
    static const srn_range any[] = {{0, 0xd7ff}, {0xe000, 0x10ffff}};
    return srn_g_repeat(g, srn__g_char(g, any, SRN_LEN(any)), min, max);
}

/* ---- literals ---- */

static bool is_plain(uint8_t c) {
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\' && c != '/';
}

srn_node srn__g_literal(srn_grammar *g, srn_str text) {
    srn_node parts[64];
    size_t n = 0, at = 0;
    while (at < text.len) {
        if (n == SRN_LEN(parts)) {
            parts[0] = srn_g_seq(g, parts, n);
            n = 1;
        }
        size_t end = at;
        while (end < text.len && is_plain((uint8_t)text.ptr[end])) end++;
        if (end > at) {
            parts[n++] = srn_g_text(g, (srn_str){text.ptr + at, end - at});
            at = end;
            continue;
        }
        uint32_t cp = 0;
        size_t len = srn_utf8_get(text.ptr + at, text.len - at, &cp);
        if (len == 0) len = 1, cp = 0xfffd; /* cannot happen: the JSON parser has checked it */
        parts[n++] = srn__g_char(g, &(srn_range){cp, cp}, 1);
        at += len;
    }
    return srn_g_seq(g, parts, n);
}

/* ---- one of, none of ---- */

static int by_bytes(const void *a, const void *b) {
    const srn_str *x = a, *y = b;
    size_t n = SRN_MIN(x->len, y->len);
    int c = n ? memcmp(x->ptr, y->ptr, n) : 0;
    return c ? c : (x->len > y->len) - (x->len < y->len);
}

static srn_str rest(srn_str s, size_t at) {
    return (srn_str){s.ptr + at, s.len - at};
}

/* Past this depth of shared beginnings texts stand side by side. */
enum { TRIE_DEPTH = 128 };

/* The sorted, different texts [n], all equal in their first `at` bytes: what follows there. */
static srn_node one_of(srn__schema *s, const srn_str *texts, size_t n, size_t at, unsigned depth) {
    if (!srn__schema_work(s, n)) return SRN_NODE_NONE;
    srn_grammar *g = s->g;
    if (n == 1) return srn__g_literal(g, rest(texts[0], at));
    size_t shared = at; /* whole characters that all have */
    while (shared < texts[0].len) {
        size_t len = srn_utf8_len(texts[0].ptr + shared, texts[0].len - shared);
        len = len ? len : 1;
        const srn_str *last = &texts[n - 1];
        if (last->len < shared + len || memcmp(last->ptr + shared, texts[0].ptr + shared, len) != 0) break;
        shared += len;
    }
    if (shared > at)
        return SRN__SEQ(g, srn__g_literal(g, (srn_str){texts[0].ptr + at, shared - at}),
                        one_of(s, texts, n, shared, depth));
    srn_node *alt = srn_arena_alloc(&s->arena, n * sizeof *alt);
    if (!alt) return srn__schema_nomem(s), SRN_NODE_NONE;
    size_t k = 0;
    for (size_t i = 0; i < n;) {
        size_t len = texts[i].len > at ? srn_utf8_len(texts[i].ptr + at, texts[i].len - at) : 0, end = i + 1;
        while (depth < TRIE_DEPTH && len && end < n && texts[end].len >= at + len &&
               memcmp(texts[end].ptr + at, texts[i].ptr + at, len) == 0)
            end++;
        alt[k++] = one_of(s, texts + i, end - i, at, depth + 1);
        i = end;
    }
    return srn_g_alt(g, alt, k);
}

/* The same for every text that is none of them; any is any number of any characters. */
static srn_node none_of(srn__schema *s, const srn_str *texts, size_t n, size_t at, srn_node any) {
    if (!srn__schema_work(s, n)) return SRN_NODE_NONE;
    srn_node *alt = srn_arena_alloc(&s->arena, (n + 2) * sizeof *alt);
    srn_range *other = srn_arena_alloc(&s->arena, (n + 2) * sizeof *other);
    if (!alt || !other) return srn__schema_nomem(s), SRN_NODE_NONE;
    size_t k = 0, n_other = 0, i = 0;
    bool may_end = true;
    if (texts[0].len == at) may_end = false, i = 1;
    uint32_t from = 0;
    for (; i < n;) {
        uint32_t cp = 0, next;
        size_t len = srn_utf8_get(texts[i].ptr + at, texts[i].len - at, &cp), end = i + 1;
        while (end < n && srn_utf8_get(texts[end].ptr + at, texts[end].len - at, &next) && next == cp) end++;
        alt[k++] = SRN__SEQ(s->g, srn__g_char(s->g, &(srn_range){cp, cp}, 1),
                            none_of(s, texts + i, end - i, at + (len ? len : 1), any));
        if (cp > from) other[n_other++] = (srn_range){from, cp - 1};
        from = cp + 1;
        i = end;
    }
    other[n_other++] = (srn_range){from, 0x10ffff};
    alt[k++] = SRN__SEQ(s->g, srn__g_char(s->g, other, n_other), any);
    srn_node body = srn_g_alt(s->g, alt, k);
    return may_end ? srn__g_opt(s->g, body) : body;
}

srn_node srn__g_one_of(srn__schema *s, const srn_str *texts, size_t n, bool negated) {
    srn_str *sorted = srn_arena_alloc(&s->arena, (n + 1) * sizeof *sorted);
    if (!sorted) return srn__schema_nomem(s), SRN_NODE_NONE;
    if (n) memcpy(sorted, texts, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_bytes);
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || by_bytes(&sorted[i], &sorted[i - 1]) != 0) sorted[k++] = sorted[i];
    if (!negated) return one_of(s, sorted, k, 0, 0);
    srn_node any = srn__g_chars(s->g, 0, SRN_NO_MAX);
    return k ? none_of(s, sorted, k, 0, any) : any;
}
