/* Regular expressions to grammar nodes: for srn_g_regex, which the whole text must match, and for a schema's
 * "pattern", which searches. One thread. Patterns come from outside: length, nesting and counts are capped.
 * Where dialects differ about a class (\d, \w, \s and their opposites), only what ECMAScript and Python both
 * match is let in, so that either accepts the text. What is not a regular language (back references,
 * look-around) and what dialects read differently is refused by name.
 */
#include "constrain/constrain_internal.h"

#include <stdlib.h>
#include <utf8proc.h>

#define MAX_PATTERN_BYTES (64u << 10)
#define MAX_GROUPS_DEEP   100u
#define MAX_COUNT         1000000u

typedef struct parser {
    srn_grammar *g;
    const srn__regex_how *how;
    srn_str p;
    size_t at;
    unsigned depth;
    srn_err *err;
    bool failed;
} parser;

/* What a class matches in every dialect, and in any; the latter only where it is needed, to be negated. */
typedef struct charset {
    srn__ranges in, maybe;
    bool wants_maybe;
} charset;

static void charset_done(charset *s) {
    srn__ranges_done(&s->in);
    srn__ranges_done(&s->maybe);
}

static srn_node fail(parser *x, int code, size_t at, const char *fmt, ...) SRN_PRINTF(4, 5);
static srn_node fail(parser *x, int code, size_t at, const char *fmt, ...) {
    if (x->failed) return SRN_NODE_NONE;
    x->failed = true;
    va_list ap;
    va_start(ap, fmt);
    srn_vfail(x->err, code, fmt, ap);
    va_end(ap);
    srn_fail_prefix(x->err, code, "the regular expression, byte %zu", at);
    return SRN_NODE_NONE;
}

static bool at_end(const parser *x) {
    return x->at >= x->p.len;
}

static bool looking_at(const parser *x, const char *z) {
    size_t n = strlen(z);
    return x->p.len - x->at >= n && memcmp(x->p.ptr + x->at, z, n) == 0;
}

static bool take(parser *x, const char *z) {
    if (!looking_at(x, z)) return false;
    x->at += strlen(z);
    return true;
}

/* The next code point; the pattern is known to be valid UTF-8. */
static uint32_t take_cp(parser *x) {
    uint32_t cp = 0;
    x->at += srn_utf8_get(x->p.ptr + x->at, x->p.len - x->at, &cp);
    return cp;
}

/* ---- categories ---- */

/* utf8proc's categories in its order. */
static const char category_names[][3] = {"Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd",
                                         "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm",
                                         "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co"};

/* Planes 4 to 13 have no characters, and the last two are for private use but for their ends. */
static uint8_t category_of(uint32_t cp) {
    if (cp >= 0x40000 && cp < 0xE0000) return UTF8PROC_CATEGORY_CN;
    if (cp >= 0xF0000) return (cp & 0xFFFF) < 0xFFFE ? UTF8PROC_CATEGORY_CO : UTF8PROC_CATEGORY_CN;
    return (uint8_t)utf8proc_category((utf8proc_int32_t)cp);
}

/* Where the category changes, over all code points: made once a grammar that needs it, for it takes some
 * milliseconds. */
static bool find_runs(srn_grammar *g) {
    uint32_t n = 0, cap = 0;
    srn__category_run *runs = NULL;
    for (uint32_t cp = 0; cp <= SRN__MAX_CP; cp++) {
        uint8_t category = category_of(cp);
        if (n && runs[n - 1].category == category) continue;
        if (n == cap) {
            cap = cap ? 2 * cap : 4096;
            srn__category_run *more = srn_realloc_array(runs, cap, sizeof *runs);
            if (!more) return free(runs), false;
            runs = more;
        }
        runs[n++] = (srn__category_run){cp, category};
    }
    g->runs = runs;
    g->n_runs = n;
    return true;
}

/* Adds the code points of a general category ("L", "Lu"); false: there is none of this name. */
static bool add_category(parser *x, srn_str name, srn__ranges *to) {
    uint32_t wanted = 0;
    for (unsigned i = 0; i < SRN_LEN(category_names); i++)
        if (name.len >= 1 && name.len <= 2 && memcmp(category_names[i], name.ptr, name.len) == 0)
            wanted |= 1u << i;
    if (!wanted) return false;
    const srn_grammar *g = x->g;
    if (!g->runs && !find_runs(x->g)) to->failed = true;
    for (uint32_t i = 0; i < g->n_runs; i++)
        if (wanted >> g->runs[i].category & 1)
            srn__ranges_add(to, g->runs[i].first, i + 1 < g->n_runs ? g->runs[i + 1].first - 1 : SRN__MAX_CP);
    return true;
}

/* ---- classes by letter ---- */

static void add_negated(srn__ranges *to, const srn__ranges *of) {
    srn__ranges s = {0};
    srn__ranges_add_all(&s, of->r, of->n);
    srn__ranges_normalise(&s);
    srn__ranges_negate(&s);
    to->failed |= s.failed;
    srn__ranges_add_all(to, s.r, s.n);
    srn__ranges_done(&s);
}

/* \d, \w and \s: ECMAScript's are of ASCII but for white space, Python's of Unicode. */
static void letter_class(parser *x, char letter, charset *s) {
    if (letter == 'd') {
        srn__ranges_add(&s->in, '0', '9');
        if (s->wants_maybe) add_category(x, SRN_STR("Nd"), &s->maybe);
    } else if (letter == 'w') {
        static const srn_range word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
        srn__ranges_add_all(&s->in, word, SRN_LEN(word));
        if (s->wants_maybe) {
            add_category(x, SRN_STR("L"), &s->maybe);
            add_category(x, SRN_STR("N"), &s->maybe);
        }
        srn__ranges_add(&s->maybe, '_', '_');
    } else {
        static const srn_range both[] = {{0x09, 0x0D},     {' ', ' '},       {0xA0, 0xA0},
                                         {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029},
                                         {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};
        static const srn_range either[] = {{0x1C, 0x1F}, {0x85, 0x85}, {0xFEFF, 0xFEFF}};
        srn__ranges_add_all(&s->in, both, SRN_LEN(both));
        srn__ranges_add_all(&s->maybe, both, SRN_LEN(both));
        srn__ranges_add_all(&s->maybe, either, SRN_LEN(either));
    }
}

static void add_letter_class(parser *x, char letter, charset *to) {
    bool negated = letter < 'a';
    charset s = {.wants_maybe = negated || to->wants_maybe};
    letter_class(x, negated ? (char)(letter + 'a' - 'A') : letter, &s);
    if (negated) {
        add_negated(&to->in, &s.maybe);
        add_negated(&to->maybe, &s.in);
    } else {
        srn__ranges_add_all(&to->in, s.in.r, s.in.n);
        srn__ranges_add_all(&to->maybe, s.maybe.r, s.maybe.n);
    }
    to->in.failed |= s.in.failed || s.maybe.failed;
    charset_done(&s);
}

/* ---- escapes ---- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Exactly n hexadecimal digits. */
static bool take_hex(parser *x, unsigned n, uint32_t *ret) {
    uint32_t v = 0;
    for (unsigned i = 0; i < n; i++) {
        int d = x->at + i < x->p.len ? hex_digit(x->p.ptr[x->at + i]) : -1;
        if (d < 0) return false;
        v = v << 4 | (uint32_t)d;
    }
    x->at += n;
    *ret = v;
    return true;
}

/* After \u, \U or \x: {digits}, or so many digits; two \u that are surrogates are one code point. */
static bool take_code_point(parser *x, char letter, size_t start, uint32_t *ret) {
    uint32_t cp = 0, low = 0;
    if (take(x, "{")) {
        unsigned n = 0;
        for (int d; n < 7 && !at_end(x) && (d = hex_digit(x->p.ptr[x->at])) >= 0; n++, x->at++)
            cp = cp << 4 | (uint32_t)d;
        if (n == 0 || n > 6 || !take(x, "}"))
            return fail(x, SRN_EINVAL, start, "\\%c{ needs 1 to 6 hexadecimal digits and }", letter), false;
    } else if (!take_hex(x, letter == 'x' ? 2 : letter == 'u' ? 4 : 8, &cp)) {
        return fail(x, SRN_EINVAL, start, "\\%c needs %d hexadecimal digits", letter,
                    letter == 'x'   ? 2
                    : letter == 'u' ? 4
                                    : 8),
               false;
    }
    if (cp >= 0xD800 && cp <= 0xDBFF && take(x, "\\u") && take_hex(x, 4, &low) && low >= 0xDC00 &&
        low <= 0xDFFF)
        cp = 0x10000 + ((cp - 0xD800) << 10) + (low - 0xDC00);
    if (cp > SRN__MAX_CP || (cp >= 0xD800 && cp <= 0xDFFF))
        return fail(x, SRN_EINVAL, start, "U+%04X is no character", (unsigned)cp), false;
    *ret = cp;
    return true;
}

static bool take_property(parser *x, bool negated, size_t start, charset *to) {
    size_t from = x->at + 1, end = from;
    while (end < x->p.len && x->p.ptr[end] != '}') end++;
    srn_str name = {x->p.ptr + from, end > from ? end - from : 0};
    srn__ranges r = {0};
    if (at_end(x) || x->p.ptr[x->at] != '{' || end >= x->p.len || !add_category(x, name, &r)) {
        fail(x, SRN_EUNSUP, start, "\\%c needs a general category in braces, such as \\p{L} or \\p{Lu}",
             negated ? 'P' : 'p');
        return false;
    }
    x->at = end + 1;
    if (negated) {
        add_negated(&to->in, &r);
        add_negated(&to->maybe, &r);
    } else {
        srn__ranges_add_all(&to->in, r.r, r.n);
        srn__ranges_add_all(&to->maybe, r.r, r.n);
    }
    to->in.failed |= r.failed;
    srn__ranges_done(&r);
    return true;
}

static void refuse_escape(parser *x, size_t start, uint32_t c) {
    if (c >= '1' && c <= '9')
        fail(x, SRN_EUNSUP, start, "back references (\\%c) are not supported", (int)c);
    else if (c == 'k')
        fail(x, SRN_EUNSUP, start, "back references (\\k) are not supported");
    else if (c == 'b' || c == 'B')
        fail(x, SRN_EUNSUP, start, "word boundaries (\\%c) are not supported", (int)c);
    else
        fail(x, SRN_EUNSUP, start, "the escape \\%c is not supported", (int)c);
}

/* After a backslash. A class of characters goes to `to` and *ret_is_class is true; else *ret is the one. */
static bool take_escape(parser *x, bool in_class, charset *to, bool *ret_is_class, uint32_t *ret) {
    size_t start = x->at - 1;
    if (at_end(x)) return fail(x, SRN_EINVAL, start, "it ends with a backslash"), false;
    uint32_t c = take_cp(x);
    static const char controls[][2] = {{'t', '\t'}, {'n', '\n'}, {'r', '\r'}, {'f', '\f'}, {'v', '\v'}};
    *ret_is_class = false;
    for (size_t i = 0; i < SRN_LEN(controls); i++)
        if (c == (uint32_t)controls[i][0]) return *ret = (uint32_t)controls[i][1], true;
    if (c < 0x80 && strchr("dDwWsS", (int)c)) {
        *ret_is_class = true;
        add_letter_class(x, (char)c, to);
        return true;
    }
    if (c == 'p' || c == 'P') {
        *ret_is_class = true;
        return take_property(x, c == 'P', start, to);
    }
    if (c == 'x' || c == 'u' || c == 'U') return take_code_point(x, (char)c, start, ret);
    if (c == 'b' && in_class) return *ret = '\b', true;
    if (c == '0') {
        *ret = 0;
        if (at_end(x) || x->p.ptr[x->at] < '0' || x->p.ptr[x->at] > '9') return true;
        return fail(x, SRN_EUNSUP, start, "octal escapes are not supported; write \\xXX"), false;
    }
    if (c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return refuse_escape(x, start, c), false;
    *ret = c;
    return true;
}

/* ---- classes in brackets ---- */

/* One character or class; *ret_is_class as in take_escape. */
static bool take_class_atom(parser *x, charset *to, bool *ret_is_class, uint32_t *ret) {
    *ret_is_class = false;
    if (looking_at(x, "[:") || looking_at(x, "[.") || looking_at(x, "[="))
        return fail(x, SRN_EUNSUP, x->at, "named classes ([:alpha:]) are not supported; write \\p{L}"), false;
    if (take(x, "\\")) return take_escape(x, true, to, ret_is_class, ret);
    *ret = take_cp(x);
    return true;
}

/* After '['. */
static bool take_brackets(parser *x, charset *ret) {
    size_t start = x->at - 1;
    bool negated = take(x, "^");
    charset s = {.wants_maybe = negated};
    if (looking_at(x, "]"))
        fail(x, SRN_EUNSUP, start, "a class that begins with ']' is read in different ways; write \\]");
    while (!x->failed && !take(x, "]")) {
        size_t from = x->at;
        uint32_t first = 0, last = 0;
        bool first_is_class = false, last_is_class = false;
        if (at_end(x)) {
            fail(x, SRN_EINVAL, start, "the class is not closed; write \\[ for the character");
            break;
        }
        if (!take_class_atom(x, &s, &first_is_class, &first)) break;
        last = first;
        if (looking_at(x, "-") && !looking_at(x, "-]")) {
            x->at++;
            if (at_end(x) || !take_class_atom(x, &s, &last_is_class, &last)) continue;
            if (first_is_class || last_is_class || first > last) {
                fail(x, SRN_EINVAL, from, "a range in a class must go from a character to a later one");
                break;
            }
        }
        if (first_is_class) continue;
        srn__ranges_add(&s.in, first, last);
        srn__ranges_add(&s.maybe, first, last);
    }
    if (negated && !x->failed) {
        add_negated(&ret->in, &s.maybe);
    } else {
        srn__ranges_add_all(&ret->in, s.in.r, s.in.n);
    }
    ret->in.failed |= s.in.failed || s.maybe.failed;
    charset_done(&s);
    return !x->failed;
}

/* ---- nodes ---- */

static srn_node leaf(parser *x, srn__ranges *r) {
    srn__ranges_normalise(r);
    if (r->failed) return fail(x, SRN_ENOMEM, x->at, "out of memory for a class");
    return x->how->leaf ? x->how->leaf(x->how->ctx, x->g, r->r, r->n) : srn_g_class(x->g, r->r, r->n, false);
}

static srn_node leaf_of(parser *x, uint32_t first, uint32_t last) {
    srn__ranges r = {0};
    srn__ranges_add(&r, first, last);
    srn_node node = leaf(x, &r);
    srn__ranges_done(&r);
    return node;
}

static srn_node anything(parser *x) {
    return srn_g_repeat(x->g, leaf_of(x, 0, SRN__MAX_CP), 0, SRN_NO_MAX);
}

/* ---- quantifiers ---- */

static bool take_number(parser *x, uint32_t *ret) {
    uint64_t v = 0;
    size_t start = x->at;
    while (!at_end(x) && x->p.ptr[x->at] >= '0' && x->p.ptr[x->at] <= '9') {
        v = SRN_MIN(v * 10 + (uint64_t)(x->p.ptr[x->at] - '0'), (uint64_t)UINT32_MAX);
        x->at++;
    }
    *ret = (uint32_t)v;
    return x->at > start;
}

/* {m}, {m,} or {m,n}; anything else after '{' is no count, and the brace is a character. */
static bool take_count(parser *x, uint32_t *ret_min, uint32_t *ret_max) {
    size_t start = x->at;
    if (looking_at(x, "{,")) {
        size_t i = x->at + 2;
        while (i < x->p.len && x->p.ptr[i] >= '0' && x->p.ptr[i] <= '9') i++;
        if (i < x->p.len && x->p.ptr[i] == '}')
            fail(x, SRN_EUNSUP, start, "a count without a least number is read in different ways; write {0,");
        return false;
    }
    if (!take(x, "{") || !take_number(x, ret_min)) return x->at = start, false;
    *ret_max = *ret_min;
    if (take(x, ",") && !take_number(x, ret_max)) *ret_max = SRN_NO_MAX;
    if (!take(x, "}")) return x->at = start, false;
    if (*ret_min > *ret_max)
        return fail(x, SRN_EINVAL, start, "a count from %u to %u", *ret_min, *ret_max), false;
    if (*ret_min > MAX_COUNT || (*ret_max != SRN_NO_MAX && *ret_max > MAX_COUNT))
        return fail(x, SRN_ELIMIT, start, "a count of more than %u", MAX_COUNT), false;
    return true;
}

static bool take_quantifier(parser *x, uint32_t *ret_min, uint32_t *ret_max) {
    if (take(x, "*"))
        *ret_min = 0, *ret_max = SRN_NO_MAX;
    else if (take(x, "+"))
        *ret_min = 1, *ret_max = SRN_NO_MAX;
    else if (take(x, "?"))
        *ret_min = 0, *ret_max = 1;
    else
        return take_count(x, ret_min, ret_max);
    return true;
}

static srn_node quantified(parser *x, srn_node atom) {
    uint32_t min, max, more;
    if (x->failed || !take_quantifier(x, &min, &max)) return atom;
    size_t after = x->at;
    if (!take(x, "?") && take(x, "+"))
        return fail(x, SRN_EUNSUP, after, "possessive quantifiers are not supported");
    after = x->at;
    if (!x->failed && take_quantifier(x, &more, &more))
        return fail(x, SRN_EINVAL, after, "a quantifier follows another; put the first into a group");
    return srn_g_repeat(x->g, atom, min, max);
}

/* ---- groups ---- */

static srn_node take_alternatives(parser *x, bool opens, bool closes);

/* After '(': what (? may begin. */
static bool take_group_head(parser *x, size_t start) {
    if (!take(x, "?") || take(x, ":")) return true;
    if (looking_at(x, "=") || looking_at(x, "!") || looking_at(x, "<=") || looking_at(x, "<!"))
        return fail(x, SRN_EUNSUP, start, "look-around is not supported"), false;
    if (looking_at(x, "P=")) return fail(x, SRN_EUNSUP, start, "back references are not supported"), false;
    if (take(x, "P<") || take(x, "<")) {
        size_t name = x->at;
        while (!at_end(x) && x->p.ptr[x->at] != '>' && x->p.ptr[x->at] != ')') x->at++;
        if (x->at > name && take(x, ">")) return true;
        return fail(x, SRN_EINVAL, start, "the group's name is not closed by >"), false;
    }
    return fail(x, SRN_EUNSUP, start,
                "a group that begins with (?%.1s is not supported (flags, conditions, atomic groups)",
                at_end(x) ? "" : x->p.ptr + x->at),
           false;
}

/* Where the group that begins here ends: one past its ')', or the pattern's end. */
static size_t end_of_group(const parser *x) {
    unsigned depth = 0;
    bool in_class = false;
    for (size_t i = x->at; i < x->p.len; i++) {
        char c = x->p.ptr[i];
        if (c == '\\')
            i++;
        else if (in_class)
            in_class = c != ']';
        else if (c == '[')
            in_class = true;
        else if (c == '(')
            depth++;
        else if (c == ')' && --depth == 0)
            return i + 1;
    }
    return x->p.len;
}

/* Whether a group's end is also its alternative's, so that $ may stand in it, and *ret_plain whether nothing
 * repeats it. */
static bool group_is_last(const parser *x, bool *ret_plain) {
    size_t end = end_of_group(x);
    char after = end < x->p.len ? x->p.ptr[end] : '|';
    *ret_plain = after != '*' && after != '+' && after != '?' && after != '{';
    return after == '|' || after == ')';
}

/* *ret_opens and *ret_closes: the group sees to the text's begin and end itself. */
static srn_node take_group(parser *x, bool opens, bool closes, bool *ret_opens, bool *ret_closes) {
    size_t start = x->at;
    bool plain, last = group_is_last(x, &plain);
    *ret_opens = opens && plain;
    *ret_closes = closes && plain && last;
    x->at++;
    if (!take_group_head(x, start)) return SRN_NODE_NONE;
    if (++x->depth > MAX_GROUPS_DEEP)
        return fail(x, SRN_ELIMIT, start, "groups are nested more than %u deep", MAX_GROUPS_DEEP);
    srn_node node = take_alternatives(x, *ret_opens, *ret_closes);
    x->depth--;
    if (!x->failed && !x->g->failed.code && !take(x, ")"))
        return fail(x, SRN_EINVAL, start, "the group is not closed; write \\( for the character");
    return node;
}

/* ---- sequences ---- */

static void add_node(parser *x, srn__nodes *list, srn_node node) {
    if (!srn__nodes_add(list, node)) fail(x, SRN_ENOMEM, x->at, "out of memory");
}

static srn_node take_atom(parser *x) {
    size_t start = x->at;
    charset s = {0};
    bool is_class = true;
    uint32_t cp = 0;
    if (take(x, "[")) {
        take_brackets(x, &s);
    } else if (take(x, ".")) {
        srn__ranges_add(&s.in, 0, '\n' - 1);
        srn__ranges_add(&s.in, '\n' + 1, SRN__MAX_CP);
    } else if (take(x, "\\")) {
        take_escape(x, false, &s, &is_class, &cp);
    } else {
        cp = take_cp(x);
        is_class = false;
        if (cp == '*' || cp == '+' || cp == '?')
            fail(x, SRN_EINVAL, start,
                 "there is nothing that '%c' could repeat; write \\%c for the character", (int)cp, (int)cp);
        else if (cp == '^' || cp == '$')
            fail(x, SRN_EUNSUP, start, "'%c' inside the pattern is not supported, only at its %s", (int)cp,
                 cp == '^' ? "beginning" : "end");
    }
    if (!is_class) srn__ranges_add(&s.in, cp, cp);
    srn_node node = x->failed ? SRN_NODE_NONE : leaf(x, &s.in);
    charset_done(&s);
    return node;
}

/* Takes a $ that ends an alternative. */
static bool take_dollar(parser *x) {
    char after = x->at + 1 < x->p.len ? x->p.ptr[x->at + 1] : '|';
    if (!looking_at(x, "$") || (after != '|' && after != ')')) return false;
    x->at++;
    return true;
}

static bool at_sequence_end(const parser *x) {
    return x->failed || x->g->failed.code || at_end(x) || looking_at(x, "|") || looking_at(x, ")");
}

/* opens: nothing of the pattern stands before; closes: nothing of it comes after the alternative. Where a
 * search is open to a side, anything may stand there. */
static srn_node take_sequence(parser *x, bool opens, bool closes) {
    srn__nodes list = {0};
    bool search = x->how->search, anchored = opens && take(x, "^");
    bool open = search && opens && !anchored, close = search && closes;
    for (bool first = true; !at_sequence_end(x); first = false) {
        if (closes && take_dollar(x)) {
            close = false;
            break;
        }
        bool group_opens = false, group_closes = false;
        srn_node atom = looking_at(x, "(")
                            ? take_group(x, opens && first && !anchored, closes, &group_opens, &group_closes)
                            : take_atom(x);
        if (open && !group_opens) add_node(x, &list, anything(x));
        open = false;
        if (group_closes) close = false;
        add_node(x, &list, quantified(x, atom));
    }
    if (open) add_node(x, &list, anything(x));
    if (close) add_node(x, &list, anything(x));
    srn_node node = x->failed ? SRN_NODE_NONE : srn_g_seq(x->g, list.ids, list.n);
    free(list.ids);
    return node;
}

static srn_node take_alternatives(parser *x, bool opens, bool closes) {
    srn__nodes list = {0};
    do add_node(x, &list, take_sequence(x, opens, closes));
    while (!x->failed && !x->g->failed.code && take(x, "|"));
    srn_node node = x->failed ? SRN_NODE_NONE : srn_g_alt(x->g, list.ids, list.n);
    free(list.ids);
    return node;
}

srn_node srn__regex(srn_grammar *g, srn_str pattern, const srn__regex_how *how, srn_err *err) {
    parser x = {.g = g, .how = how, .p = pattern, .err = err};
    if (pattern.len > MAX_PATTERN_BYTES)
        return fail(&x, SRN_ELIMIT, 0, "it has %zu bytes, at most %u are supported", pattern.len,
                    MAX_PATTERN_BYTES);
    for (size_t i = 0, k; i < pattern.len; i += k) {
        k = srn_utf8_len(pattern.ptr + i, pattern.len - i);
        if (!k) return fail(&x, SRN_EINVAL, i, "it is not valid UTF-8");
    }
    srn_node node = take_alternatives(&x, true, true);
    if (!x.failed && !g->failed.code && !at_end(&x))
        fail(&x, SRN_EINVAL, x.at, "a ')' that closes no group; write \\) for the character");
    if (x.failed) return SRN_NODE_NONE;
    return srn__grammar_status(g, err) ? SRN_NODE_NONE : node;
}

srn_node srn_g_regex(srn_grammar *g, srn_str pattern, srn_err *err) {
    return srn__regex(g, pattern, &(srn__regex_how){0}, err);
}
