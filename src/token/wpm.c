/* WordPiece: BERT's normalisation (control characters out, CJK apart, accents off, lower case), words parted
 * at white space and punctuation, and the longest token first within a word. GGUF stores a word's first piece
 * with U+2581 in front and the others bare. Fragments come without special tokens.
 */
#include "token/token_internal.h"

#include <stdlib.h>
#include <utf8proc.h>

enum { MAX_WORD_CHARS = 100 }; /* longer words are <unk>, as in BERT */

int srn__wpm_load(srn_vocab *v, const srn_weights *w, srn_err *err) {
    v->lowercase = true;
    int code = srn_meta_bool(w, "tokenizer.ggml.normalizer.lowercase", &v->lowercase, err);
    if (code && code != SRN_ENOENT) return code;
    v->strip_accents = v->lowercase;
    code = srn_meta_bool(w, "tokenizer.ggml.normalizer.strip_accents", &v->strip_accents, err);
    if (code && code != SRN_ENOENT) return code;
    for (int b = 0; b < 256; b++) v->byte_id[b] = -1;
    v->lacks_bytes = true;
    return SRN_OK;
}

/* ---- characters ---- */

static bool is_white(uint32_t cp) {
    return (cp >= 9 && cp <= 13) || cp == ' ' || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F ||
           cp == 0x3000;
}

static bool is_dropped(uint32_t cp) {
    if (cp == 0 || cp == 0xFFFD) return true;
    if (cp == '\t' || cp == '\n' || cp == '\r') return false;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
        return true;
    default:
        return false;
    }
}

static bool is_punctuation(uint32_t cp) {
    if (cp < 0x80)
        return (cp >= '!' && cp <= '/') || (cp >= ':' && cp <= '@') || (cp >= '[' && cp <= '`') ||
               (cp >= '{' && cp <= '~');
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

/* The ranges that BERT's own tokenizers part from their neighbours; the gap from U+2B820 is theirs. */
static bool is_cjk(uint32_t cp) {
    static const uint32_t ranges[][2] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                         {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF},
                                         {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    for (size_t i = 0; i < SRN_LEN(ranges); i++)
        if (cp >= ranges[i][0] && cp <= ranges[i][1]) return true;
    return false;
}

/* ---- one word ---- */

/* Length of the longest token that p[0..n) starts with, in whole characters; 0 if none. */
static size_t longest(const srn_vocab *v, const char *p, size_t n, int32_t *ret_id) {
    size_t k = SRN_MIN(n, v->max_bytes);
    for (; k > 0; k--) {
        if (k < n && ((uint8_t)p[k] & 0xC0) == 0x80) continue; /* within a character */
        int32_t id = srn__strtab_get(&v->tab, (srn_str){p, k});
        if (!srn__is_ordinary(v, id)) continue;
        *ret_id = id;
        return k;
    }
    return 0;
}

static bool push_unknown(srn__scratch *s) {
    const srn_vocab *v = s->v;
    return v->unk < 0 || v->eog[v->unk] || v->unk == v->bos || srn__push(s, v->unk);
}

/* s->word holds U+2581 and the word's n_chars characters. */
static bool flush(srn__scratch *s, size_t *n_chars) {
    size_t chars = *n_chars, before = s->out->n;
    *n_chars = 0;
    if (chars == 0) return true;
    if (chars > MAX_WORD_CHARS) return push_unknown(s);
    for (size_t at = 0; at < s->word.len;) {
        int32_t id = -1;
        size_t k = longest(s->v, s->word.data + at, s->word.len - at, &id);
        /* U+2581 alone is no beginning: a word without a token for its first characters is unknown */
        if (k == 0 || (at == 0 && k <= 3)) {
            s->out->n = before;
            return push_unknown(s);
        }
        if (!srn__push(s, id)) return false;
        at += k;
    }
    return true;
}

static bool add_char(srn__scratch *s, uint32_t cp, size_t *n_chars) {
    char t[4];
    if (*n_chars == 0) {
        srn_buf_clear(&s->word);
        srn_buf_addz(&s->word, SRN__LOWLINE);
    }
    if (++*n_chars > MAX_WORD_CHARS) return true; /* already unknown */
    return srn_buf_add(&s->word, t, srn_utf8_put(cp, t));
}

/* A normalised character: white space and single signs end words. */
static bool take(srn__scratch *s, uint32_t cp, size_t *n_chars) {
    if (is_white(cp)) return flush(s, n_chars);
    if (!is_punctuation(cp) && !is_cjk(cp)) return add_char(s, cp, n_chars);
    return flush(s, n_chars) && add_char(s, cp, n_chars) && flush(s, n_chars);
}

static bool lower_and_take(srn__scratch *s, uint32_t cp, size_t *n_chars) {
    if (!s->v->lowercase) return take(s, cp, n_chars);
    if (cp == 0x130) return take(s, 'i', n_chars) && take(s, 0x307, n_chars); /* the one that becomes two */
    return take(s, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp), n_chars);
}

/* Canonical decomposition of the cleaned text, without the non-spacing marks. */
static int strip(srn__scratch *s, const srn_buf *clean, srn_buf *out) {
    utf8proc_uint8_t *d = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)(clean->data ? clean->data : ""),
                                      (utf8proc_ssize_t)clean->len, &d, UTF8PROC_DECOMPOSE);
    if (n < 0) {
        free(d);
        return n == UTF8PROC_ERROR_NOMEM
                   ? srn_fail_nomem(s->err, clean->len)
                   : srn_fail(s->err, SRN_EFORMAT, "the text cannot be normalised: %s", utf8proc_errmsg(n));
    }
    for (size_t i = 0, k; i < (size_t)n; i += k) {
        uint32_t cp = 0;
        k = srn_utf8_get((const char *)d + i, (size_t)n - i, &cp);
        if (k == 0)
            k = 1;
        else if (utf8proc_category((utf8proc_int32_t)cp) != UTF8PROC_CATEGORY_MN)
            srn_buf_add(out, d + i, k);
    }
    free(d);
    return out->failed ? srn_fail_nomem(s->err, clean->len) : SRN_OK;
}

/* Without malformed bytes and control characters; CJK between spaces. */
static bool clean_text(const char *text, size_t len, srn_buf *out) {
    for (size_t i = 0, k; i < len; i += k) {
        uint32_t cp = 0;
        k = srn_utf8_get(text + i, len - i, &cp);
        bool drop = k == 0 || is_dropped(cp);
        if (k == 0) k = 1;
        if (drop) continue;
        bool apart = is_cjk(cp);
        if (apart) srn_buf_addc(out, ' ');
        srn_buf_add(out, text + i, k);
        if (apart) srn_buf_addc(out, ' ');
    }
    return !out->failed;
}

int srn__wpm_tokenize(srn__scratch *s, const char *text, size_t len) {
    srn_buf clean, stripped;
    srn_buf_init(&clean, (size_t)SRN__MAX_TEXT_BYTES * 4);
    srn_buf_init(&stripped, (size_t)SRN__MAX_TEXT_BYTES * 16);
    const srn_buf *t = &clean;
    int code = clean_text(text, len, &clean) ? SRN_OK : srn_fail_nomem(s->err, len);
    if (code == SRN_OK && s->v->strip_accents) {
        code = strip(s, &clean, &stripped);
        t = &stripped;
    }
    size_t n_chars = 0;
    bool ok = true;
    for (size_t i = 0, k; code == SRN_OK && ok && i < t->len; i += k) {
        uint32_t cp = 0;
        k = srn_utf8_get(t->data + i, t->len - i, &cp);
        s->steps++;
        ok = lower_and_take(s, cp, &n_chars);
    }
    if (code == SRN_OK && !(ok && flush(s, &n_chars))) code = srn_fail_nomem(s->err, len);
    srn_buf_done(&clean);
    srn_buf_done(&stripped);
    return code;
}
