/* The lexer: template source to one array of tokens, with the whitespace rules of chat templates (the first
 * newline after a block is dropped, blanks before a block at the start of a line are dropped, '-' and '+'
 * override both, one newline at the end of the source is dropped). Called by srn_template_new only. It
 * refuses tags without an end, unbalanced brackets and strings that do not close, each by line.
 */
#include "chat/chat_internal.h"

#include <stdlib.h>

typedef struct lexer {
    srn_template *t;
    const char *p;
    size_t n, at;
    int line;
    size_t cap;
    char *closers; /* the brackets that are open inside a tag */
    size_t n_closers;
    bool line_starting; /* the last match ended with a newline, or nothing was matched yet */
    srn_err *err;
    int code;
} lexer;

SRN_PRINTF(4, 5) static bool lex_fail(lexer *lx, int code, int line, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    lx->code = srn_vfail(lx->err, code, fmt, ap);
    va_end(ap);
    srn_fail_prefix(lx->err, code, "%s, line %d", lx->t->name, line);
    return false;
}

static bool emit(lexer *lx, srn__tok tok) {
    if (lx->t->n_toks == lx->cap) {
        size_t cap = lx->cap ? lx->cap * 2 : 256;
        srn__tok *toks = srn_realloc_array(lx->t->toks, cap, sizeof *toks);
        if (!toks) return lex_fail(lx, SRN_ENOMEM, lx->line, "out of memory");
        lx->t->toks = toks;
        lx->cap = cap;
    }
    lx->t->toks[lx->t->n_toks++] = tok;
    return true;
}

static bool emit_simple(lexer *lx, srn__tok_type type) {
    return emit(lx, (srn__tok){.type = (uint8_t)type, .line = lx->line});
}

static bool has(const lexer *lx, size_t at, const char *z) {
    size_t n = strlen(z);
    return at <= lx->n && lx->n - at >= n && memcmp(lx->p + at, z, n) == 0;
}

static void count_lines(lexer *lx, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) lx->line += lx->p[i] == '\n';
}

static size_t skip_space(const lexer *lx, size_t at) {
    uint32_t cp;
    while (at < lx->n) {
        size_t len = srn__cp_next(lx->p + at, lx->n - at, &cp);
        if (!srn__is_space(cp)) break;
        at += len;
    }
    return at;
}

/* Length of [from, to) without the whitespace at its end. */
static size_t rstrip(const lexer *lx, size_t from, size_t to) {
    while (to > from) {
        size_t at = to - 1;
        while (at > from && ((unsigned char)lx->p[at] & 0xC0) == 0x80) at--;
        uint32_t cp;
        srn__cp_next(lx->p + at, to - at, &cp);
        if (!srn__is_space(cp)) break;
        to = at;
    }
    return to;
}

/* Emits source text [from, to) that precedes a tag with this sign ('-', '+' or 0). */
static bool emit_data(lexer *lx, size_t from, size_t to, char sign, bool lstrip, int line) {
    size_t end = to;
    if (sign == '-') {
        end = rstrip(lx, from, to);
    } else if (sign != '+' && lstrip) {
        size_t start = to;
        while (start > from && lx->p[start - 1] != '\n') start--;
        if ((start > from || lx->line_starting) && skip_space(lx, start) >= to) end = start;
    }
    if (end <= from) return true;
    return emit(lx, (srn__tok){.type = T_DATA, .line = line, .text = {lx->p + from, end - from}});
}

/* If a tag's end ("%}", "}}", "#}") stands at `at`, with its sign, returns the offset behind it and what it
 * trims; else 0. */
static size_t tag_end(const lexer *lx, size_t at, const char *end, bool trim, bool plus) {
    if (has(lx, at, "-") && has(lx, at + 1, end)) return skip_space(lx, at + 3);
    if (plus && has(lx, at, "+") && has(lx, at + 1, end)) return at + 3;
    if (!has(lx, at, end)) return 0;
    return trim && has(lx, at + 2, "\n") ? at + 3 : at + 2;
}

static void advance(lexer *lx, size_t to) {
    count_lines(lx, lx->at, to);
    lx->line_starting = to > lx->at ? lx->p[to - 1] == '\n' : lx->line_starting;
    lx->at = to;
}

/* ---- inside a tag ---- */

static bool hex_escape(lexer *lx, const char *s, size_t n, uint32_t *ret) {
    uint32_t cp = 0;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        uint32_t d = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                            : 16;
        if (d == 16) return lex_fail(lx, SRN_EFORMAT, lx->line, "truncated escape in a string");
        cp = cp << 4 | d;
    }
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000))
        return lex_fail(lx, SRN_EFORMAT, lx->line, "escape \\%c in a string names no character", s[-1]);
    *ret = cp;
    return true;
}

/* One escape at s[0] == '\\'; writes to out and returns the bytes consumed, 0 on failure. */
static size_t unescape_one(lexer *lx, const char *s, size_t n, char *out, size_t *ret_len) {
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char *simple = memchr(from, s[1], sizeof from - 1);
    *ret_len = 1;
    if (simple) return out[0] = to[simple - from], 2;
    if (s[1] == '\n') return *ret_len = 0, 2;
    size_t digits = s[1] == 'x' ? 2 : s[1] == 'u' ? 4 : s[1] == 'U' ? 8 : 0;
    uint32_t cp = 0;
    if (digits) {
        if (n < 2 + digits) return lex_fail(lx, SRN_EFORMAT, lx->line, "truncated escape in a string"), 0;
        if (!hex_escape(lx, s + 2, digits, &cp)) return 0;
        *ret_len = srn_utf8_put(cp, out);
        return 2 + digits;
    }
    if (s[1] == 'N') return lex_fail(lx, SRN_EUNSUP, lx->line, "\\N{...} in a string is not supported"), 0;
    size_t used = 1;
    while (used < n && used < 4 && s[used] >= '0' && s[used] <= '7')
        cp = cp * 8 + (uint32_t)(s[used++] - '0');
    if (used > 1) return *ret_len = srn_utf8_put(cp, out), used;
    out[0] = '\\';
    return 1;
}

static bool lex_string(lexer *lx) {
    char quote = lx->p[lx->at];
    size_t end = lx->at + 1;
    bool escapes = false;
    while (end < lx->n && lx->p[end] != quote) {
        if (lx->p[end] == '\\') escapes = true, end++;
        end++;
    }
    if (end >= lx->n)
        return lex_fail(lx, SRN_EFORMAT, lx->line, "a string that starts with %c is not closed", quote);
    srn_str text = {lx->p + lx->at + 1, end - lx->at - 1};
    if (escapes) {
        char *out = srn_arena_alloc(&lx->t->arena, text.len + 4);
        if (!out) return lex_fail(lx, SRN_ELIMIT, lx->line, "the template needs too much memory");
        size_t n = 0;
        for (size_t i = 0; i < text.len;) {
            size_t len = 1, used = 1;
            if (text.ptr[i] != '\\')
                out[n] = text.ptr[i];
            else if (!(used = unescape_one(lx, text.ptr + i, text.len - i, out + n, &len)))
                return false;
            n += len;
            i += used;
        }
        text = (srn_str){out, n};
    }
    if (!emit(lx, (srn__tok){.type = T_STRING, .line = lx->line, .text = text})) return false;
    advance(lx, end + 1);
    return true;
}

/* Digits of the base with single underscores between; returns the offset behind them. */
static size_t digits_end(const lexer *lx, size_t at, const char *set) {
    size_t end = at;
    while (end < lx->n) {
        if (strchr(set, lx->p[end]) && lx->p[end])
            end++;
        else if (end > at && lx->p[end] == '_' && end + 1 < lx->n && lx->p[end + 1] &&
                 strchr(set, lx->p[end + 1]))
            end += 2;
        else
            break;
    }
    return end;
}

static bool plain_digits(lexer *lx, size_t from, size_t to, char *out, size_t cap) {
    size_t n = 0;
    for (size_t i = from; i < to; i++)
        if (lx->p[i] != '_') {
            if (n + 1 >= cap) return lex_fail(lx, SRN_ELIMIT, lx->line, "a number has too many digits");
            out[n++] = lx->p[i];
        }
    out[n] = 0;
    return true;
}

static bool lex_float(lexer *lx, bool *ret_found) {
    static const char dec[] = "0123456789";
    *ret_found = false;
    if (lx->at > 0 && lx->p[lx->at - 1] == '.') return true;
    size_t end = digits_end(lx, lx->at, dec), frac = end, exp;
    if (has(lx, end, ".")) frac = digits_end(lx, end + 1, dec);
    bool has_frac = frac > end + 1;
    if (!has_frac) frac = end;
    exp = frac;
    if (exp < lx->n && (lx->p[exp] | 32) == 'e') {
        size_t sign = exp + 1;
        if (sign < lx->n && (lx->p[sign] == '+' || lx->p[sign] == '-')) sign++;
        size_t stop = digits_end(lx, sign, dec);
        if (stop > sign) exp = stop;
    }
    if (exp == end) return true;
    char buf[512];
    if (!plain_digits(lx, lx->at, exp, buf, sizeof buf)) return false;
    *ret_found = true;
    if (!emit(lx, (srn__tok){.type = T_FLOAT, .line = lx->line, .f = strtod(buf, NULL)})) return false;
    advance(lx, exp);
    return true;
}

static bool lex_number(lexer *lx) {
    bool found;
    if (!lex_float(lx, &found)) return false;
    if (found) return true;
    int base = 10;
    size_t from = lx->at, end = 0;
    if (lx->p[from] == '0' && from + 1 < lx->n) {
        static const struct {
            char letter, base;
            const char *set;
        } bases[] = {{'b', 2, "01"}, {'o', 8, "01234567"}, {'x', 16, "0123456789abcdefABCDEF"}};
        for (size_t i = 0; i < SRN_LEN(bases); i++) {
            if ((lx->p[from + 1] | 32) != bases[i].letter) continue;
            size_t start = from + 2 + (has(lx, from + 2, "_") ? 1 : 0);
            size_t stop = digits_end(lx, start, bases[i].set);
            if (stop > start) from = start, end = stop, base = bases[i].base;
        }
    }
    if (!end) end = digits_end(lx, from, lx->p[from] == '0' ? "0" : "0123456789");
    char buf[512];
    if (!plain_digits(lx, from, end, buf, sizeof buf)) return false;
    int64_t v = 0;
    for (const char *c = buf; *c; c++) {
        int d = *c <= '9' ? *c - '0' : (*c | 32) - 'a' + 10;
        if (__builtin_mul_overflow(v, (int64_t)base, &v) || __builtin_add_overflow(v, (int64_t)d, &v))
            return lex_fail(lx, SRN_ELIMIT, lx->line, "the number %s does not fit in 64 bits", buf);
    }
    if (!emit(lx, (srn__tok){.type = T_INT, .line = lx->line, .i = v})) return false;
    advance(lx, end);
    return true;
}

static bool name_char(uint32_t cp) {
    if (cp < 0x80) return cp == '_' || (cp | 32) - 'a' < 26u || cp - '0' < 10u;
    return srn__is_alpha(cp) || srn__is_numeric(cp);
}

static bool lex_operator(lexer *lx) {
    static const struct {
        char z[3];
        uint8_t op;
    } table[] = {{"//", OP_FLOORDIV}, {"**", OP_POW},     {"==", OP_EQ},    {"!=", OP_NE},
                 {">=", OP_GE},       {"<=", OP_LE},      {"+", OP_ADD},    {"-", OP_SUB},
                 {"/", OP_DIV},       {"*", OP_MUL},      {"%", OP_MOD},    {"~", OP_TILDE},
                 {"[", OP_LBRACKET},  {"]", OP_RBRACKET}, {"(", OP_LPAREN}, {")", OP_RPAREN},
                 {"{", OP_LBRACE},    {"}", OP_RBRACE},   {">", OP_GT},     {"<", OP_LT},
                 {"=", OP_ASSIGN},    {".", OP_DOT},      {":", OP_COLON},  {"|", OP_PIPE},
                 {",", OP_COMMA},     {";", OP_SEMICOLON}};
    for (size_t i = 0; i < SRN_LEN(table); i++) {
        if (!has(lx, lx->at, table[i].z)) continue;
        char c = table[i].z[0];
        if (c == '(' || c == '[' || c == '{') {
            if (lx->n_closers >= SRN__NEST_MAX)
                return lex_fail(lx, SRN_ELIMIT, lx->line, "brackets are nested more than %d deep",
                                SRN__NEST_MAX);
            lx->closers[lx->n_closers++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if (c == ')' || c == ']' || c == '}') {
            if (!lx->n_closers) return lex_fail(lx, SRN_EFORMAT, lx->line, "unexpected '%c'", c);
            char want = lx->closers[--lx->n_closers];
            if (want != c)
                return lex_fail(lx, SRN_EFORMAT, lx->line, "unexpected '%c', expected '%c'", c, want);
        }
        if (!emit(lx, (srn__tok){.type = T_OP, .op = table[i].op, .line = lx->line})) return false;
        advance(lx, lx->at + strlen(table[i].z));
        return true;
    }
    uint32_t cp;
    size_t len = srn__cp_next(lx->p + lx->at, lx->n - lx->at, &cp);
    return lex_fail(lx, SRN_EFORMAT, lx->line, "unexpected character '%.*s'", (int)len, lx->p + lx->at);
}

/* Tokens up to the tag's end. */
static bool lex_tag(lexer *lx, bool block) {
    int start = lx->line;
    lx->n_closers = 0;
    while (lx->at < lx->n) {
        size_t end = lx->n_closers ? 0 : tag_end(lx, lx->at, block ? "%}" : "}}", block, block);
        if (end) {
            if (!emit_simple(lx, block ? T_BLOCK_END : T_VAR_END)) return false;
            advance(lx, end);
            return true;
        }
        size_t space = skip_space(lx, lx->at);
        if (space > lx->at) {
            advance(lx, space);
            continue;
        }
        char c = lx->p[lx->at];
        uint32_t cp;
        size_t len = srn__cp_next(lx->p + lx->at, lx->n - lx->at, &cp);
        if (c >= '0' && c <= '9') {
            if (!lex_number(lx)) return false;
        } else if (name_char(cp)) {
            size_t stop = lx->at;
            while (len && name_char(cp)) stop += len, len = srn__cp_next(lx->p + stop, lx->n - stop, &cp);
            srn_str text = {lx->p + lx->at, stop - lx->at};
            if (!emit(lx, (srn__tok){.type = T_NAME, .line = lx->line, .text = text})) return false;
            advance(lx, stop);
        } else if (c == '"' || c == '\'') {
            if (!lex_string(lx)) return false;
        } else if (!lex_operator(lx)) {
            return false;
        }
    }
    return lex_fail(lx, SRN_EFORMAT, start, "a tag that starts with %s is not closed", block ? "{%" : "{{");
}

/* ---- outside of tags ---- */

/* "{% raw %}" at `at`: returns the offset behind it, or 0. */
static size_t raw_tag(const lexer *lx, size_t at, const char *word, char *ret_sign) {
    size_t p = at + 2;
    *ret_sign = p < lx->n && (lx->p[p] == '-' || lx->p[p] == '+') ? lx->p[p++] : 0;
    p = skip_space(lx, p);
    if (!has(lx, p, word)) return 0;
    p = skip_space(lx, p + strlen(word));
    bool end = word[0] == 'e';
    return tag_end(lx, p, "%}", end, end);
}

static bool lex_raw(lexer *lx) {
    int start = lx->line;
    size_t from = lx->at;
    for (size_t at = from; at + 1 < lx->n; at++) {
        if (!has(lx, at, "{%")) continue;
        char sign;
        size_t end = raw_tag(lx, at, "endraw", &sign);
        if (!end) continue;
        if (!emit_data(lx, from, at, sign, true, start)) return false;
        advance(lx, end);
        return true;
    }
    return lex_fail(lx, SRN_EFORMAT, start, "{%% raw %%} is not closed by {%% endraw %%}");
}

static bool lex_comment(lexer *lx) {
    int start = lx->line;
    for (size_t at = lx->at; at + 1 < lx->n; at++) {
        size_t end = tag_end(lx, at, "#}", true, true);
        if (!end) continue;
        advance(lx, end);
        return true;
    }
    return lex_fail(lx, SRN_EFORMAT, start, "a comment that starts with {# is not closed");
}

static bool lex_root(lexer *lx) {
    while (lx->at < lx->n) {
        size_t from = lx->at, at = from;
        while (at < lx->n &&
               !(lx->p[at] == '{' && (has(lx, at, "{%") || has(lx, at, "{{") || has(lx, at, "{#"))))
            at++;
        int line = lx->line;
        if (at >= lx->n) {
            if (!emit_data(lx, from, at, '+', false, line)) return false;
            advance(lx, at);
            break;
        }
        char kind = lx->p[at + 1], sign;
        size_t raw = kind == '%' ? raw_tag(lx, at, "raw", &sign) : 0, open = at + 2;
        sign = open < lx->n && (lx->p[open] == '-' || lx->p[open] == '+') ? lx->p[open++] : 0;
        if (!emit_data(lx, from, at, sign, kind != '{', line)) return false;
        advance(lx, raw ? raw : open);
        if (raw) {
            if (!lex_raw(lx)) return false;
        } else if (kind == '#') {
            if (!lex_comment(lx)) return false;
        } else if (!emit_simple(lx, kind == '%' ? T_BLOCK_BEGIN : T_VAR_BEGIN) || !lex_tag(lx, kind == '%')) {
            return false;
        }
    }
    return emit_simple(lx, T_EOF);
}

/* Every line ends in "\n", and one newline at the very end is dropped. */
static bool normalize(lexer *lx, srn_str source) {
    char *out = srn_arena_alloc(&lx->t->arena, source.len + 1);
    if (!out) return lex_fail(lx, SRN_ENOMEM, 1, "out of memory");
    size_t n = 0;
    for (size_t i = 0; i < source.len; i++) {
        char c = source.ptr[i];
        if (c == '\r') {
            c = '\n';
            if (i + 1 < source.len && source.ptr[i + 1] == '\n') i++;
        }
        out[n++] = c;
    }
    if (n && out[n - 1] == '\n') n--;
    int line = 1;
    for (size_t i = 0; i < n;) {
        size_t len = srn_utf8_len(out + i, n - i);
        if (!len) return lex_fail(lx, SRN_EFORMAT, line, "byte 0x%02x is not UTF-8", (unsigned char)out[i]);
        line += out[i] == '\n';
        i += len;
    }
    lx->p = out;
    lx->n = n;
    return true;
}

int srn__lex(srn_template *t, srn_str source, srn_err *err) {
    char closers[SRN__NEST_MAX];
    lexer lx = {.t = t, .line = 1, .closers = closers, .line_starting = true, .err = err};
    if (source.len > SRN__SOURCE_MAX)
        return srn_fail(err, SRN_ELIMIT, "%s: the template has %zu bytes, more than the limit of %zu",
                        t->name, source.len, SRN__SOURCE_MAX);
    if (!normalize(&lx, source) || !lex_root(&lx)) return lx.code;
    return SRN_OK;
}
