/* GBNF, the grammar notation of llama.cpp, to grammar nodes: rules `name ::= alternatives` with literals,
 * character classes, `.`, groups, the repetitions * + ? {m} {m,} {m,n} {,n} and comments from # to the end of
 * the line. One thread. Grammars come from outside: size and nesting are capped; errors name the line. Left
 * recursion, which llama.cpp refuses, is fine here; a rule may be defined only once; literals of token ids
 * (<[123]>, <name>) are refused.
 */
#include "constrain/constrain_internal.h"

#include <stdlib.h>

#define MAX_GBNF_BYTES  (1u << 20)
#define MAX_GROUPS_DEEP 100u
#define MAX_COUNT       1000000u

/* A name: where it was defined and first used; lines count from 1, 0 is never. */
typedef struct symbol {
    srn_str name;
    uint32_t rule, defined, used;
} symbol;

typedef struct parser {
    srn_grammar *g;
    srn_str p;
    size_t at;
    unsigned depth;
    symbol *symbols;
    uint32_t n_symbols, cap_symbols;
    uint32_t *table, table_size; /* hash table of symbols, plus 1 */
    uint64_t seed;
    size_t counted; /* up to where `line` is that of */
    uint32_t line;
    srn_err *err;
    bool failed;
} parser;

/* Mostly asked for with growing places, so that all of it takes one pass. */
static uint32_t line_of(parser *x, size_t at) {
    if (at < x->counted || x->line == 0) x->counted = 0, x->line = 1;
    for (; x->counted < at && x->counted < x->p.len; x->counted++) x->line += x->p.ptr[x->counted] == '\n';
    return x->line;
}

static srn_node fail_line(parser *x, int code, uint32_t line, const char *fmt, ...) SRN_PRINTF(4, 5);
static srn_node fail_line(parser *x, int code, uint32_t line, const char *fmt, ...) {
    if (x->failed) return SRN_NODE_NONE;
    x->failed = true;
    va_list ap;
    va_start(ap, fmt);
    if (srn__grammar_status(x->g, x->err)) /* what is wrong here came of that */
        code = x->g->failed.code;
    else
        srn_vfail(x->err, code, fmt, ap);
    va_end(ap);
    srn_fail_prefix(x->err, code, "the GBNF grammar, line %u", line);
    return SRN_NODE_NONE;
}

#define FAIL(x, code, at, ...) fail_line(x, code, line_of(x, at), __VA_ARGS__)

static bool at_end(const parser *x) {
    return x->at >= x->p.len;
}

static char peek(const parser *x) {
    return at_end(x) ? 0 : x->p.ptr[x->at];
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

/* Blanks and comments; line breaks too where a rule cannot end. */
static void skip_space(parser *x, bool lines) {
    while (!at_end(x)) {
        char c = peek(x);
        if (c == '#')
            while (!at_end(x) && peek(x) != '\n' && peek(x) != '\r') x->at++;
        else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')))
            x->at++;
        else
            return;
    }
}

/* ---- names ---- */

static bool is_name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static bool take_name(parser *x, srn_str *ret) {
    size_t start = x->at;
    while (!at_end(x) && is_name_char(peek(x))) x->at++;
    *ret = (srn_str){x->p.ptr + start, x->at - start};
    return ret->len > 0;
}

static bool grow_symbols(parser *x) {
    uint32_t cap = x->cap_symbols ? 2 * x->cap_symbols : 32, size = 2 * cap;
    symbol *s = srn_realloc_array(x->symbols, cap, sizeof *s);
    if (s) x->symbols = s;
    uint32_t *table = srn_calloc(size, sizeof *table);
    if (!s || !table) {
        free(table);
        return fail_line(x, SRN_ENOMEM, line_of(x, x->at), "out of memory for names"), false;
    }
    for (uint32_t i = 0; i < x->n_symbols; i++) {
        uint32_t at = (uint32_t)srn_hash(x->seed, s[i].name) & (size - 1);
        while (table[at]) at = (at + 1) & (size - 1);
        table[at] = i + 1;
    }
    free(x->table);
    x->table = table;
    x->table_size = size;
    x->cap_symbols = cap;
    return true;
}

/* The symbol of this name, declared as a rule when it is new; NULL after a failure. */
static symbol *symbol_of(parser *x, srn_str name) {
    if (x->n_symbols == x->cap_symbols && !grow_symbols(x)) return NULL;
    uint32_t at = (uint32_t)srn_hash(x->seed, name) & (x->table_size - 1);
    for (; x->table[at]; at = (at + 1) & (x->table_size - 1))
        if (srn_str_eq(x->symbols[x->table[at] - 1].name, name)) return &x->symbols[x->table[at] - 1];
    x->symbols[x->n_symbols] = (symbol){.name = name, .rule = srn_g_rule(x->g, name)};
    x->table[at] = ++x->n_symbols;
    return &x->symbols[x->n_symbols - 1];
}

/* ---- characters ---- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool take_hex(parser *x, unsigned n, uint32_t *ret) {
    uint32_t v = 0;
    for (unsigned i = 0; i < n; i++, x->at++) {
        int d = hex_digit(peek(x));
        if (d < 0) return FAIL(x, SRN_EINVAL, x->at, "the escape needs %u hexadecimal digits", n), false;
        v = v << 4 | (uint32_t)d;
    }
    if (v > SRN__MAX_CP || (v >= 0xD800 && v <= 0xDFFF))
        return FAIL(x, SRN_EINVAL, x->at, "U+%04X is no character", (unsigned)v), false;
    *ret = v;
    return true;
}

/* One character of a literal or class, escaped or not. */
static bool take_char(parser *x, uint32_t *ret) {
    static const char controls[][2] = {{'t', '\t'}, {'n', '\n'}, {'r', '\r'}};
    if (!take(x, "\\")) {
        size_t k = srn_utf8_get(x->p.ptr + x->at, x->p.len - x->at, ret);
        x->at += k;
        return k > 0;
    }
    if (at_end(x)) return FAIL(x, SRN_EINVAL, x->at, "the grammar ends with a backslash"), false;
    char c = x->p.ptr[x->at++];
    for (size_t i = 0; i < SRN_LEN(controls); i++)
        if (c == controls[i][0]) return *ret = (uint8_t)controls[i][1], true;
    if (c == 'x') return take_hex(x, 2, ret);
    if (c == 'u') return take_hex(x, 4, ret);
    if (c == 'U') return take_hex(x, 8, ret);
    if (strchr("\\\"[]^-'/.", c) && c) return *ret = (uint8_t)c, true;
    FAIL(x, SRN_EINVAL, x->at,
         "the escape \\%c is not known; there are \\n \\r \\t \\\\ \\\" \\[ \\] \\xXX \\uXXXX",
         c > ' ' && c < 0x7F ? c : '?');
    return false;
}

/* After the opening quote. */
static srn_node take_literal(parser *x) {
    size_t start = x->at;
    srn_buf b;
    srn_buf_init(&b, MAX_GBNF_BYTES);
    while (!x->failed && !take(x, "\"")) {
        uint32_t cp = 0;
        char utf8[4];
        if (at_end(x) || peek(x) == '\n')
            FAIL(x, SRN_EINVAL, start, "the literal is not closed by a quotation mark");
        else if (take_char(x, &cp))
            srn_buf_add(&b, utf8, srn_utf8_put(cp, utf8));
    }
    if (b.failed) FAIL(x, SRN_ENOMEM, start, "out of memory for a literal");
    srn_node node = x->failed ? SRN_NODE_NONE : srn_g_text(x->g, (srn_str){b.data ? b.data : "", b.len});
    srn_buf_done(&b);
    return node;
}

/* After the opening bracket. */
static srn_node take_class(parser *x) {
    size_t start = x->at;
    srn__ranges r = {0};
    bool negated = take(x, "^");
    while (!x->failed && !take(x, "]")) {
        uint32_t first = 0, last = 0;
        if (at_end(x)) {
            FAIL(x, SRN_EINVAL, start, "the character class is not closed by ]");
            break;
        }
        if (!take_char(x, &first)) break;
        last = first;
        if (looking_at(x, "-") && !looking_at(x, "-]")) {
            x->at++;
            if (at_end(x) || !take_char(x, &last)) continue;
        }
        if (first > last) FAIL(x, SRN_EINVAL, start, "a range of the class ends before it begins");
        srn__ranges_add(&r, first, last);
    }
    if (!x->failed && r.n == 0 && !negated) FAIL(x, SRN_EINVAL, start, "the character class is empty");
    if (r.failed) FAIL(x, SRN_ENOMEM, start, "out of memory for a character class");
    srn_node node = x->failed ? SRN_NODE_NONE : srn_g_class(x->g, r.r, r.n, negated);
    srn__ranges_done(&r);
    return node;
}

/* ---- repetitions ---- */

static bool take_number(parser *x, uint32_t *ret) {
    uint64_t v = 0;
    size_t start = x->at;
    for (; peek(x) >= '0' && peek(x) <= '9'; x->at++)
        v = SRN_MIN(v * 10 + (uint64_t)(peek(x) - '0'), (uint64_t)UINT32_MAX);
    *ret = (uint32_t)v;
    return x->at > start;
}

/* After '{'. */
static void take_count(parser *x, bool in_group, uint32_t *ret_min, uint32_t *ret_max) {
    size_t start = x->at;
    skip_space(x, in_group);
    bool least = take_number(x, ret_min);
    *ret_max = *ret_min;
    skip_space(x, in_group);
    if (take(x, ",")) {
        skip_space(x, in_group);
        if (!take_number(x, ret_max)) *ret_max = least ? SRN_NO_MAX : 0;
        least |= *ret_max > 0;
    }
    skip_space(x, in_group);
    if (!least || !take(x, "}"))
        FAIL(x, SRN_EINVAL, start, "a repetition must be {m}, {m,}, {m,n} or {,n}");
    else if (*ret_min > *ret_max)
        FAIL(x, SRN_EINVAL, start, "a repetition from %u to %u", *ret_min, *ret_max);
    else if (*ret_min > MAX_COUNT || (*ret_max != SRN_NO_MAX && *ret_max > MAX_COUNT))
        FAIL(x, SRN_ELIMIT, start, "a repetition of more than %u", MAX_COUNT);
}

static bool take_repetition(parser *x, bool in_group, uint32_t *ret_min, uint32_t *ret_max) {
    *ret_min = peek(x) == '+' ? 1 : 0;
    *ret_max = peek(x) == '?' ? 1 : SRN_NO_MAX;
    if (take(x, "*") || take(x, "+") || take(x, "?")) return true;
    if (!take(x, "{")) return false;
    take_count(x, in_group, ret_min, ret_max);
    return !x->failed;
}

/* ---- alternatives ---- */

static void add_node(parser *x, srn__nodes *list, srn_node node) {
    if (!srn__nodes_add(list, node)) FAIL(x, SRN_ENOMEM, x->at, "out of memory");
}

static srn_node take_alternatives(parser *x, bool in_group);

static srn_node take_group(parser *x) {
    size_t start = x->at;
    if (++x->depth > MAX_GROUPS_DEEP)
        return FAIL(x, SRN_ELIMIT, start, "groups are nested more than %u deep", MAX_GROUPS_DEEP);
    srn_node node = take_alternatives(x, true);
    x->depth--;
    if (!x->failed && !take(x, ")"))
        return FAIL(x, SRN_EINVAL, at_end(x) ? start : x->at,
                    "the group that began in line %u is not closed by )", line_of(x, start));
    return node;
}

static srn_node take_reference(parser *x) {
    srn_str name;
    size_t start = x->at;
    take_name(x, &name);
    symbol *s = symbol_of(x, name);
    if (!s) return SRN_NODE_NONE;
    if (!s->used) s->used = line_of(x, start);
    return srn_g_ref(x->g, s->rule);
}

/* SRN_NODE_NONE without failure: no element begins here. */
static srn_node take_element(parser *x) {
    static const srn_range any = {0, SRN__MAX_CP};
    if (take(x, "\"")) return take_literal(x);
    if (take(x, "[")) return take_class(x);
    if (take(x, "(")) return take_group(x);
    if (take(x, ".")) return srn_g_class(x->g, &any, 1, false);
    if (is_name_char(peek(x))) return take_reference(x);
    if (peek(x) == '<' || looking_at(x, "!<"))
        return FAIL(x, SRN_EUNSUP, x->at,
                    "literals of tokens (<...>) are not supported; write the token's text");
    return SRN_NODE_NONE;
}

/* Whether a rule begins here: a name and ::=. */
static bool at_rule(parser *x) {
    size_t start = x->at;
    srn_str name;
    bool rule = take_name(x, &name);
    skip_space(x, false);
    rule = rule && looking_at(x, "::=");
    x->at = start;
    return rule;
}

static srn_node take_sequence(parser *x, bool in_group) {
    srn__nodes list = {0};
    uint32_t min, max;
    for (;;) {
        skip_space(x, in_group);
        srn_node node = take_element(x);
        if (x->failed || node == SRN_NODE_NONE) break;
        skip_space(x, in_group);
        while (!x->failed && take_repetition(x, in_group, &min, &max)) {
            node = srn_g_repeat(x->g, node, min, max);
            skip_space(x, in_group);
        }
        add_node(x, &list, node);
    }
    srn_node node = x->failed ? SRN_NODE_NONE : srn_g_seq(x->g, list.ids, list.n);
    free(list.ids);
    return node;
}

/* A rule's alternatives may go on in the next line after | or before it. */
static srn_node take_alternatives(parser *x, bool in_group) {
    srn__nodes list = {0};
    for (;;) {
        add_node(x, &list, take_sequence(x, in_group));
        size_t end = x->at;
        skip_space(x, true);
        if (x->failed || !take(x, "|")) {
            if (!in_group) x->at = end;
            break;
        }
        skip_space(x, true);
    }
    srn_node node = x->failed ? SRN_NODE_NONE : srn_g_alt(x->g, list.ids, list.n);
    free(list.ids);
    return node;
}

/* ---- rules ---- */

static void take_rule(parser *x) {
    size_t start = x->at;
    srn_str name;
    if (!at_rule(x)) {
        FAIL(x, SRN_EINVAL, start, "a rule must begin with its name and ::=");
        return;
    }
    take_name(x, &name);
    symbol *s = symbol_of(x, name);
    if (!s) return;
    uint32_t index = (uint32_t)(s - x->symbols); /* the table may move below */
    if (s->defined) {
        FAIL(x, SRN_EINVAL, start, "the rule '%.*s' is defined already, in line %u",
             (int)SRN_MIN(name.len, 100), name.ptr, s->defined);
        return;
    }
    s->defined = line_of(x, start);
    skip_space(x, false);
    take(x, "::=");
    skip_space(x, true);
    srn_node body = at_rule(x) ? srn_g_seq(x->g, NULL, 0) : take_alternatives(x, false);
    if (x->failed) return;
    srn_g_define(x->g, x->symbols[index].rule, body);
    skip_space(x, false);
    if (at_end(x) || peek(x) == '\n' || peek(x) == '\r') return;
    FAIL(x, SRN_EINVAL, x->at, "the rule '%.*s' has something that is no element of a grammar: '%.*s'",
         (int)SRN_MIN(name.len, 100), name.ptr,
         (int)SRN_MAX(srn_utf8_len(x->p.ptr + x->at, x->p.len - x->at), (size_t)1), x->p.ptr + x->at);
}

static bool check_text(parser *x) {
    if (x->p.len > MAX_GBNF_BYTES)
        return fail_line(x, SRN_ELIMIT, 1, "the grammar has %zu bytes, at most %u are supported", x->p.len,
                         MAX_GBNF_BYTES),
               false;
    for (size_t i = 0, k; i < x->p.len; i += k) {
        k = srn_utf8_len(x->p.ptr + i, x->p.len - i);
        if (!k) return FAIL(x, SRN_EINVAL, i, "the text is not valid UTF-8"), false;
    }
    return true;
}

static srn_node take_grammar(parser *x) {
    skip_space(x, true);
    while (!x->failed && !at_end(x)) {
        take_rule(x);
        skip_space(x, true);
    }
    uint32_t root = UINT32_MAX;
    for (uint32_t i = 0; i < x->n_symbols && !x->failed; i++) {
        const symbol *s = &x->symbols[i];
        if (!s->defined)
            fail_line(x, SRN_EINVAL, s->used, "the rule '%.*s' is used but not defined",
                      (int)SRN_MIN(s->name.len, 100), s->name.ptr);
        if (srn_str_eqz(s->name, "root")) root = s->rule;
    }
    if (!x->failed && root == UINT32_MAX)
        return FAIL(x, SRN_EINVAL, x->p.len, "there is no rule 'root', with which texts begin");
    return x->failed ? SRN_NODE_NONE : srn_g_ref(x->g, root);
}

srn_node srn_g_gbnf(srn_grammar *g, srn_str text, srn_err *err) {
    parser x = {.g = g, .p = text, .seed = srn_hash_seed(), .err = err};
    srn_node node = check_text(&x) ? take_grammar(&x) : SRN_NODE_NONE;
    free(x.symbols);
    free(x.table);
    if (x.failed) return SRN_NODE_NONE;
    return srn__grammar_status(g, err) ? SRN_NODE_NONE : node;
}
