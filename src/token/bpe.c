/* Byte-pair encoding by merge rank, over GPT-2's byte letters (a printable code point for each byte) or, for
 * the raw kind, over UTF-8 with U+2581 for spaces and <0xXX> for what has no token. Loads merges, tokenizes
 * fragments that hold no special tokens. Refuses merges that are not two parts.
 */
#include "token/token_internal.h"

#include <stdlib.h>

/* ---- byte letters ---- */

static bool prints_itself(uint32_t b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
}

/* Bytes that print are themselves; the 68 others take U+0100.. in ascending order. */
uint32_t srn__byte_letter(uint8_t byte) {
    if (prints_itself(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    if (byte <= 0xA0) return 0x121u + (byte - 0x7Fu);
    return 0x143u; /* 0xAD */
}

int srn__letter_byte(uint32_t cp) {
    if (cp < 0x100) return prints_itself(cp) ? (int)cp : -1;
    if (cp <= 0x120) return (int)(cp - 0x100);
    if (cp <= 0x142) return (int)(cp - 0x121 + 0x7F);
    return cp == 0x143 ? 0xAD : -1;
}

/* ---- loading ---- */

static uint32_t row_of(const srn_vocab *v, int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u ^ v->tab.seed;
    h = (h ^ h >> 29) * 0xD6E8FEB86659FD93u;
    uint32_t i = (uint32_t)(h >> 32) & v->merge_mask;
    while (v->merges[i].left >= 0 && (v->merges[i].left != left || v->merges[i].right != right))
        i = (i + 1) & v->merge_mask;
    return i;
}

/* The id of a merge's part or result; strings that are no token get ids from v->n on. owned: the text stays
 * where it is, else it is copied when it is new. */
static int32_t part_id(srn_vocab *v, srn_str text, bool owned) {
    int32_t id = srn__strtab_get(&v->tab, text);
    if (id >= 0) return id;
    if (!owned) {
        text.ptr = srn_arena_strndup(&v->arena, text.ptr, text.len);
        if (!text.ptr) return -1;
    }
    return srn__strtab_put(&v->tab, text, v->n_all) ? v->n_all++ : -1;
}

static int load_merge(srn_vocab *v, srn_str m, uint32_t rank, srn_buf *both, srn_err *err) {
    const char *space = m.len > 1 ? memchr(m.ptr + 1, ' ', m.len - 1) : NULL;
    if (!space || space + 1 == m.ptr + m.len)
        return srn_fail(err, SRN_EFORMAT,
                        "tokenizer.ggml.merges: entry %u is not two parts with a space between", rank);
    srn_str left = {m.ptr, (size_t)(space - m.ptr)};
    srn_str right = {space + 1, m.len - left.len - 1};
    if (m.len > 2 * (size_t)SRN__MAX_TOKEN_BYTES)
        return srn_fail(err, SRN_ELIMIT, "tokenizer.ggml.merges: entry %u has %zu bytes", rank, m.len);
    srn_buf_clear(both);
    srn_buf_add(both, left.ptr, left.len);
    if (!srn_buf_add(both, right.ptr, right.len)) return srn_fail_nomem(err, m.len);
    srn__merge_row row = {.left = part_id(v, left, true),
                          .right = part_id(v, right, true),
                          .rank = rank,
                          .merged = part_id(v, (srn_str){both->data, both->len}, false)};
    if (row.left < 0 || row.right < 0 || row.merged < 0) return srn_fail_nomem(err, m.len);
    uint32_t i = row_of(v, row.left, row.right);
    if (v->merges[i].left < 0) v->merges[i] = row; /* of equal pairs the first counts */
    return SRN_OK;
}

static void load_byte_ids(srn_vocab *v) {
    for (int b = 0; b < 256; b++) {
        char t[8];
        size_t n = v->raw_bpe ? (size_t)snprintf(t, sizeof t, "<0x%02X>", (unsigned)b)
                              : srn_utf8_put(srn__byte_letter((uint8_t)b), t);
        int32_t id = srn__strtab_get(&v->tab, (srn_str){t, n});
        bool ok =
            id >= 0 && id < v->n && v->attr[id] != SRN_TOKEN_CONTROL && v->attr[id] != SRN_TOKEN_UNKNOWN;
        v->byte_id[b] = ok ? id : -1;
        if (!ok) v->lacks_bytes = true;
    }
}

int srn__bpe_load(srn_vocab *v, const srn_weights *w, srn_err *err) {
    const srn_str *m = NULL;
    size_t n = 0;
    int code = srn_meta_strs(w, "tokenizer.ggml.merges", &m, &n, err);
    if (code == SRN_ENOENT)
        return srn_fail(err, SRN_EFORMAT,
                        "tokenizer.ggml.merges is missing, which a byte-pair vocabulary needs");
    if (code) return code;
    if (n > SRN__MAX_TOKENS)
        return srn_fail(err, SRN_ELIMIT, "tokenizer.ggml.merges: %zu entries, more than the limit of %d", n,
                        SRN__MAX_TOKENS);
    size_t slots = 16;
    while (slots < n * 2) slots *= 2;
    v->merges = srn_calloc(slots, sizeof *v->merges);
    if (!v->merges) return srn_fail_nomem(err, slots * sizeof *v->merges);
    for (size_t i = 0; i < slots; i++) v->merges[i].left = -1;
    v->merge_mask = (uint32_t)(slots - 1);
    /* first the byte letters of the file itself: merges add strings that are no tokens */
    load_byte_ids(v);
    srn_buf both;
    srn_buf_init(&both, 4 * (size_t)SRN__MAX_TOKEN_BYTES);
    for (size_t i = 0; i < n && code == SRN_OK; i++) code = load_merge(v, m[i], (uint32_t)i, &both, err);
    srn_buf_done(&both);
    return code;
}

/* ---- tokenizing ---- */

static bool pair_by_rank(srn__scratch *s, const char *text, const srn__sym *left, const srn__sym *right,
                         uint32_t *ret_key, int32_t *ret_id) {
    (void)text;
    if (left->id < 0 || right->id < 0) return false;
    const srn__merge_row *r = &s->v->merges[row_of(s->v, left->id, right->id)];
    if (r->left < 0) return false;
    *ret_key = r->rank;
    *ret_id = r->merged;
    return true;
}

/* A symbol that is no token after all: byte by byte. Bytes without a token are left out, as the families' own
 * tokenizers do. */
static bool push_bytes(srn__scratch *s, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        int32_t id = s->v->byte_id[(uint8_t)p[i]];
        if (id >= 0 && !srn__push(s, id)) return false;
    }
    return true;
}

static bool push_symbols(srn__scratch *s, const char *text) {
    for (size_t i = 0; i < s->n_syms; i++) {
        const srn__sym *y = &s->syms[i];
        if (y->len == 0) continue;
        bool token =
            srn__is_ordinary(s->v, y->id) || (y->len == 1 && y->id == s->v->byte_id[(uint8_t)text[y->pos]]);
        if (!(token && y->id >= 0 ? srn__push(s, y->id) : push_bytes(s, text + y->pos, y->len))) return false;
    }
    return true;
}

/* The token that a whole piece is, or -1. */
static int32_t whole_token(srn__scratch *s, const char *p, size_t n) {
    if (n > s->v->max_bytes) return -1;
    srn_buf_clear(&s->word);
    for (size_t i = 0; i < n; i++) {
        char t[4];
        srn_buf_add(&s->word, t, srn_utf8_put(srn__byte_letter((uint8_t)p[i]), t));
    }
    if (s->word.failed) return -1;
    int32_t id = srn__strtab_get(&s->v->tab, (srn_str){s->word.data, s->word.len});
    return srn__is_ordinary(s->v, id) ? id : -1;
}

static int piece(srn__scratch *s, const char *p, size_t n) {
    const srn_vocab *v = s->v;
    if (v->ignore_merges) {
        int32_t id = whole_token(s, p, n);
        if (id >= 0) return srn__push(s, id) ? SRN_OK : srn_fail_nomem(s->err, n);
    }
    s->n_syms = 0;
    for (size_t i = 0, k; i < n; i += k) {
        int32_t id;
        if (v->raw_bpe) {
            k = srn_utf8_len(p + i, n - i);
            if (k == 0) k = 1;
            id = srn__strtab_get(&v->tab, (srn_str){p + i, k});
        } else {
            k = 1;
            id = v->byte_id[(uint8_t)p[i]];
        }
        if (!srn__sym_push(s, i, k, id)) return srn_fail_nomem(s->err, n * sizeof(srn__sym));
    }
    int code = srn__merge_all(s, p, pair_by_rank);
    if (code) return code;
    return push_symbols(s, p) ? SRN_OK : srn_fail_nomem(s->err, n * sizeof(int32_t));
}

/* Puts U+FFFD for every stray byte that has no token. */
static bool replace_stray(const srn_vocab *v, const char *p, size_t n, srn_buf *out) {
    for (size_t i = 0, k; i < n; i += k) {
        k = srn_utf8_len(p + i, n - i);
        bool unknown = k == 0 && v->byte_id[(uint8_t)p[i]] < 0;
        if (k == 0) k = 1;
        if (!(unknown ? srn_buf_addz(out, SRN__REPLACEMENT) : srn_buf_add(out, p + i, k))) return false;
    }
    return true;
}

int srn__bpe_tokenize(srn__scratch *s, const char *text, size_t len) {
    const srn_vocab *v = s->v;
    srn_buf clean;
    srn_buf_init(&clean, (size_t)SRN__MAX_TEXT_BYTES * 4);
    int code = SRN_OK;
    if (v->lacks_bytes && !v->raw_bpe) {
        if (!replace_stray(v, text, len, &clean)) {
            code = srn_fail_nomem(s->err, len);
            goto done;
        }
        text = clean.data;
        len = clean.len;
    }
    code = srn__pretok_split(v->pretok, s, text, len);
    for (size_t i = 0, at = 0; i < s->pieces.n && code == SRN_OK; i++) {
        code = piece(s, text + at, s->pieces.end[i] - at);
        at = s->pieces.end[i];
    }
done:
    srn_buf_done(&clean);
    return code;
}
