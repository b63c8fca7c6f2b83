/* Pre-tokenizers: the regular expressions that cut text into pieces before byte-pair merging, run by PCRE2.
 * The table of names is pretok_table.c. Expressions are the families' published ones; this file gives \s the
 * White_Space property (PCRE2's own also has U+180E), sees that malformed UTF-8 never reaches PCRE2, and
 * bounds the work of a match. Compiled code is read by any thread; match data belongs to a call.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "token/token_internal.h"

enum { MAX_STEPS = 8 };

struct srn__pretok {
    const srn__pretok_row *row;
    pcre2_code *code[MAX_STEPS]; /* of the regex steps */
    pcre2_match_context *limits;
};

#define WHITE_SPACE                                                                                          \
    "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

/* Replaces \s and \S; classes in the table do not nest and have no "]" but an escaped one. */
static bool expand(const char *regex, srn_buf *out) {
    bool in_class = false;
    for (const char *p = regex; *p; p++) {
        if (*p == '\\' && p[1] == 's') {
            srn_buf_addz(out, in_class ? WHITE_SPACE : "[" WHITE_SPACE "]");
            p++;
        } else if (*p == '\\' && p[1] == 'S') {
            srn_buf_addz(out, "[^" WHITE_SPACE "]");
            p++;
        } else if (*p == '\\') {
            srn_buf_add(out, p++, 2);
        } else {
            in_class = in_class ? *p != ']' : *p == '[';
            srn_buf_addc(out, *p);
        }
    }
    return !out->failed;
}

static int compile(srn__pretok *p, size_t i, const char *regex, srn_err *err) {
    srn_buf b;
    srn_buf_init(&b, 1 << 16);
    int code = SRN_OK;
    if (!expand(regex, &b)) {
        code = srn_fail_nomem(err, b.len);
    } else {
        int number = 0;
        PCRE2_SIZE at = 0;
        p->code[i] = pcre2_compile((PCRE2_SPTR)b.data, b.len, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
                                   &number, &at, NULL);
        if (!p->code[i])
            code = srn_fail(err, SRN_EINVAL,
                            "pre-tokenizer '%s': step %zu does not compile at byte %zu (error %d)",
                            p->row->name, i, (size_t)at, number);
        else
            pcre2_jit_compile(p->code[i], PCRE2_JIT_COMPLETE); /* where it cannot, the interpreter runs it */
    }
    srn_buf_done(&b);
    return code;
}

static const srn__pretok_row *find_row(srn_str name) {
    for (size_t i = 0; i < srn__n_pretok_rows; i++)
        if (srn_str_eqz(name, srn__pretok_rows[i].name)) return &srn__pretok_rows[i];
    return NULL;
}

static int refuse(srn_str name, srn_err *err) {
    char shown[SRN__PRINTABLE];
    srn_buf list;
    srn_buf_init(&list, 4096);
    for (size_t i = 0; i < srn__n_pretok_rows; i++) {
        if (i) srn_buf_addc(&list, ' ');
        srn_buf_addz(&list, srn__pretok_rows[i].name);
    }
    srn_fail(err, SRN_EUNSUP, "the pre-tokenizer '%s' is unknown; known: %s", srn__printable(name, shown),
             list.data ? list.data : "");
    srn_buf_done(&list);
    return SRN_EUNSUP;
}

int srn__pretok_new(srn_str name, srn__pretok **ret, const srn__pretok_row **ret_row, srn_err *err) {
    const srn__pretok_row *row = find_row(name);
    if (!row) return refuse(name, err);
    srn__pretok *p = srn_calloc(1, sizeof *p);
    if (!p) return srn_fail_nomem(err, sizeof *p);
    p->row = row;
    p->limits = pcre2_match_context_create(NULL);
    int code = p->limits ? SRN_OK : srn_fail_nomem(err, 64);
    for (size_t i = 0; code == SRN_OK && row->steps[i].kind != SRN__STEP_END; i++)
        if (row->steps[i].kind == SRN__STEP_REGEX) code = compile(p, i, row->steps[i].regex, err);
    if (code) {
        srn__pretok_free(p);
        return code;
    }
    /* every expression of the table is near-linear; the limit is for what PCRE2 counts on the longest text */
    pcre2_set_match_limit(p->limits, 1u << 30);
    *ret = p;
    *ret_row = row;
    return SRN_OK;
}

void srn__pretok_free(srn__pretok *p) {
    if (!p) return;
    for (size_t i = 0; i < MAX_STEPS; i++) pcre2_code_free(p->code[i]);
    pcre2_match_context_free(p->limits);
    free(p);
}

bool srn__pieces_push(srn__pieces *p, size_t end) {
    if (p->n == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 256;
        uint32_t *q = srn_realloc_array(p->end, cap, sizeof *q);
        if (!q) return false;
        p->end = q;
        p->cap = cap;
    }
    p->end[p->n++] = (uint32_t)end;
    return true;
}

/* Runs of well-formed characters and runs of stray bytes; expressions see only the former. */
static bool cut_malformed(srn__pieces *out, const char *text, size_t len) {
    bool stray = false;
    for (size_t i = 0, k; i < len; i += k) {
        k = srn_utf8_len(text + i, len - i);
        bool is_stray = k == 0;
        if (is_stray) k = 1;
        if (i > 0 && is_stray != stray && !srn__pieces_push(out, i)) return false;
        stray = is_stray;
    }
    return len == 0 || srn__pieces_push(out, len);
}

/* The next match of a regex step at or after *at: 1 and its bounds, 0, or an SRN_E code. */
static int next_match(const srn__pretok *p, size_t step, srn__scratch *s, const char *piece, size_t len,
                      size_t *at, size_t *ret_start) {
    int rc = pcre2_match(p->code[step], (PCRE2_SPTR)piece, len, *at, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                         s->match_data, p->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack on the heap */
        rc = pcre2_match(p->code[step], (PCRE2_SPTR)piece, len, *at,
                         PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY | PCRE2_NO_JIT, s->match_data, p->limits);
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc < 0)
        return srn_fail(
            s->err, SRN_ELIMIT,
            "the pre-tokenizer '%s' gave up after byte %zu of %zu (PCRE2 error %d); shorten the text",
            p->row->name, *at, len, rc);
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(s->match_data);
    *ret_start = bounds[0];
    *at = bounds[1];
    return 1;
}

static int cut_regex(const srn__pretok *p, size_t step, srn__scratch *s, const char *piece, size_t base,
                     size_t len) {
    size_t at = 0, last = 0, start = 0;
    while (at < len) {
        int rc = next_match(p, step, s, piece, len, &at, &start);
        if (rc < 0) return rc;
        if (rc == 0) break;
        s->steps++;
        if ((start > last && !srn__pieces_push(&s->pieces_next, base + start)) ||
            !srn__pieces_push(&s->pieces_next, base + at))
            return srn_fail_nomem(s->err, len);
        last = at;
    }
    if (last < len && !srn__pieces_push(&s->pieces_next, base + len)) return srn_fail_nomem(s->err, len);
    return SRN_OK;
}

/* ---- digits in groups of three from the right; an expression for it would read ahead quadratically ---- */

static bool is_digit(uint32_t cp) {
    return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_ND;
}

/* A word character as the published expressions' engine has it: letters, marks, decimal and letter numbers,
 * connectors, the enclosed letters, and of the other numbers those of Latin-1. */
static bool is_word(uint32_t cp) {
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    if (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_PC && c != UTF8PROC_CATEGORY_NO) return true;
    return cp == 0xB2 || cp == 0xB3 || cp == 0xB9 || (cp >= 0xBC && cp <= 0xBE) ||
           (cp >= 0x24B6 && cp <= 0x24E9) || (cp >= 0x1F130 && cp <= 0x1F149) ||
           (cp >= 0x1F150 && cp <= 0x1F169) || (cp >= 0x1F170 && cp <= 0x1F189);
}

/* Cuts before every group of three of a run of n digits at piece[i..end), and at its ends where isolate. */
static bool cut_groups(srn__scratch *s, const char *piece, size_t base, size_t i, size_t end, size_t n,
                       bool isolate, size_t *last) {
    for (size_t at = i; n > 0; n--) {
        if ((n % 3 == 0 || (isolate && at == i)) && at > *last) {
            if (!srn__pieces_push(&s->pieces_next, base + at)) return false;
            *last = at;
        }
        at += srn_utf8_len(piece + at, end - at);
    }
    if (isolate && !srn__pieces_push(&s->pieces_next, base + (*last = end))) return false;
    return true;
}

static int cut_digits(srn__scratch *s, const char *piece, size_t base, size_t len, srn__step_kind kind) {
    size_t last = 0;
    for (size_t i = 0, k; i < len; i += k) {
        uint32_t cp = 0;
        k = srn_utf8_get(piece + i, len - i, &cp);
        if (!is_digit(cp)) continue;
        size_t end = i, n = 0;
        while (end < len && (k = srn_utf8_get(piece + end, len - end, &cp)) > 0 && is_digit(cp))
            end += k, n++;
        bool cut = kind != SRN__STEP_DIGITS_BOUNDED || end == len || !is_word(cp);
        if (cut && !cut_groups(s, piece, base, i, end, n, kind != SRN__STEP_DIGITS_CUT, &last))
            return srn_fail_nomem(s->err, len);
        s->steps++;
        k = end - i;
    }
    if (last < len && !srn__pieces_push(&s->pieces_next, base + len)) return srn_fail_nomem(s->err, len);
    return SRN_OK;
}

/* Falcon splits digits after it has turned bytes into letters, so the letters of six other bytes, which are
 * superscripts and fractions, count as numeric. */
static bool is_numeric_byte(uint8_t b) {
    return (b >= '0' && b <= '9') || b == 0xB2 || b == 0xB3 || b == 0xB9 || (b >= 0xBC && b <= 0xBE);
}

static int cut_byte_digits(srn__scratch *s, const char *piece, size_t base, size_t len) {
    size_t last = 0;
    unsigned digits = 0; /* ASCII digits up to here since the last cut */
    for (size_t i = 0; i < len; i++) {
        uint8_t b = (uint8_t)piece[i];
        digits = b >= '0' && b <= '9' ? digits + 1 : 0;
        if (digits == 3 && i - 2 > last && !srn__pieces_push(&s->pieces_next, base + (last = i - 2)))
            return srn_fail_nomem(s->err, len);
        if (digits != 3 && i + 1 < len && is_numeric_byte(b) == is_numeric_byte((uint8_t)piece[i + 1]))
            continue;
        digits = 0;
        if (!srn__pieces_push(&s->pieces_next, base + (last = i + 1))) return srn_fail_nomem(s->err, len);
    }
    return SRN_OK;
}

static int run_step(const srn__pretok *p, size_t step, srn__scratch *s, const char *text) {
    srn__step_kind kind = p->row->steps[step].kind;
    s->pieces_next.n = 0;
    for (size_t i = 0, at = 0; i < s->pieces.n; i++) {
        size_t len = s->pieces.end[i] - at;
        int code;
        if (kind == SRN__STEP_BYTE_DIGITS)
            code = cut_byte_digits(s, text + at, at, len);
        else if (srn_utf8_len(text + at, len) == 0) /* a run of stray bytes */
            code = srn__pieces_push(&s->pieces_next, at + len) ? SRN_OK : srn_fail_nomem(s->err, len);
        else if (kind == SRN__STEP_REGEX)
            code = cut_regex(p, step, s, text + at, at, len);
        else
            code = cut_digits(s, text + at, at, len, kind);
        if (code) return code;
        at += len;
    }
    srn__pieces swap = s->pieces;
    s->pieces = s->pieces_next;
    s->pieces_next = swap;
    return SRN_OK;
}

int srn__pretok_split(const srn__pretok *p, srn__scratch *s, const char *text, size_t len) {
    s->pieces.n = 0;
    if (!s->match_data) s->match_data = pcre2_match_data_create(16, NULL);
    if (!s->match_data || !cut_malformed(&s->pieces, text, len)) return srn_fail_nomem(s->err, len);
    for (size_t i = 0; p->row->steps[i].kind != SRN__STEP_END; i++) {
        int code = run_step(p, i, s, text);
        if (code) return code;
    }
    return SRN_OK;
}

void srn__pretok_scratch_done(srn__scratch *s) {
    pcre2_match_data_free(s->match_data);
    s->match_data = NULL;
    free(s->pieces.end);
    free(s->pieces_next.end);
}
