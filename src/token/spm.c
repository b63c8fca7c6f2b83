/* SentencePiece's byte-pair model: characters merged by score, the leftmost of equals first, bytes for what
 * has no token. Fragments come with spaces as U+2581 and without special tokens. Refuses a vocabulary without
 * scores or with a score that is not a number.
 */
#include "token/token_internal.h"

#include <math.h>
#include <stdlib.h>

/* A falling map of floats to integers: the highest score gets the lowest number. */
static uint32_t order_of(float score) {
    uint32_t u;
    score += 0.0f; /* -0 and 0 are one score */
    memcpy(&u, &score, sizeof u);
    u = u & 0x80000000u ? ~u : u | 0x80000000u;
    return ~u;
}

static int load_scores(srn_vocab *v, const srn_weights *w, srn_err *err) {
    const srn_meta *m = srn_meta_find(w, "tokenizer.ggml.scores");
    if (!m)
        return srn_fail(err, SRN_EFORMAT,
                        "tokenizer.ggml.scores is missing, which a SentencePiece vocabulary needs");
    if (m->type != SRN_META_ARR || (m->elem != SRN_META_F32 && m->elem != SRN_META_I32))
        return srn_fail(err, SRN_EFORMAT, "tokenizer.ggml.scores is not an array of 32-bit numbers");
    if (m->count < (uint64_t)v->n)
        return srn_fail(err, SRN_EFORMAT, "tokenizer.ggml.scores has %llu entries for %d tokens",
                        (unsigned long long)m->count, v->n);
    v->order = srn_calloc((size_t)v->n, sizeof *v->order);
    if (!v->order) return srn_fail_nomem(err, (size_t)v->n * sizeof *v->order);
    for (int32_t i = 0; i < v->n; i++) {
        double score = srn_meta_elem_f64(m, (size_t)i);
        if (isnan(score))
            return srn_fail(err, SRN_EFORMAT, "tokenizer.ggml.scores: the score of token %d is not a number",
                            i);
        v->order[i] = order_of((float)score);
    }
    return SRN_OK;
}

/* The byte of a text of the form <0xXX>, or -1. */
static int byte_of(srn_str t) {
    if (t.len != 6 || memcmp(t.ptr, "<0x", 3) != 0 || t.ptr[5] != '>') return -1;
    int b = 0;
    for (int i = 3; i < 5; i++) {
        char c = t.ptr[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                       : -1;
        if (d < 0) return -1;
        b = b * 16 + d;
    }
    return b;
}

int srn__spm_load(srn_vocab *v, const srn_weights *w, srn_err *err) {
    int code = load_scores(v, w, err);
    if (code) return code;
    for (int b = 0; b < 256; b++) v->byte_id[b] = -1;
    bool typed = srn_meta_find(w, "tokenizer.ggml.token_type") != NULL;
    for (int32_t i = v->n - 1; i >= 0; i--) {
        int b = typed && v->attr[i] != SRN_TOKEN_BYTE ? -1 : byte_of(v->text[i]);
        if (b >= 0) v->attr[i] = SRN_TOKEN_BYTE;
        if (b >= 0) v->byte_id[b] = i;
        if (v->attr[i] == SRN_TOKEN_UNUSED) v->has_unused = true;
    }
    for (int b = 0; b < 256; b++) v->lacks_bytes |= v->byte_id[b] < 0;
    return SRN_OK;
}

static bool pair_by_score(srn__scratch *s, const char *text, const srn__sym *left, const srn__sym *right,
                          uint32_t *ret_key, int32_t *ret_id) {
    const srn_vocab *v = s->v;
    size_t n = left->len + right->len;
    if (n > v->max_bytes) return false;
    int32_t id = srn__strtab_get(&v->tab, (srn_str){text + left->pos, n});
    if (!srn__is_ordinary(v, id)) return false;
    if (v->attr[id] == SRN_TOKEN_UNUSED) s->split[id] = left->len;
    *ret_key = v->order[id];
    *ret_id = id;
    return true;
}

/* What is no token: its bytes' tokens, or one <unk> for a run of such characters. */
static bool push_unknown(srn__scratch *s, const char *p, size_t n) {
    const srn_vocab *v = s->v;
    bool bytes = true;
    for (size_t i = 0; i < n; i++) bytes &= v->byte_id[(uint8_t)p[i]] >= 0;
    if (bytes) {
        for (size_t i = 0; i < n; i++)
            if (!srn__push(s, v->byte_id[(uint8_t)p[i]])) return false;
        return true;
    }
    if (v->unk < 0 || v->eog[v->unk] || v->unk == v->bos || s->prev_unk) return true;
    if (!srn__push(s, v->unk)) return false;
    s->prev_unk = true;
    return true;
}

/* The token of p[0..n), or for an unused one what the parts that it was last merged from become. Parts are
 * shorter than their whole, so the nesting ends; past a depth that no real vocabulary has, the unused token
 * itself is taken. */
static bool push_resolved(srn__scratch *s, const char *p, size_t n, unsigned depth) {
    const srn_vocab *v = s->v;
    int32_t id = srn__strtab_get(&v->tab, (srn_str){p, n});
    if (!srn__is_ordinary(v, id)) return push_unknown(s, p, n);
    if (v->attr[id] != SRN_TOKEN_UNUSED || s->split[id] == 0 || depth > 256) return srn__push(s, id);
    size_t left = s->split[id];
    return push_resolved(s, p, left, depth + 1) && push_resolved(s, p + left, n - left, depth + 1);
}

int srn__spm_tokenize(srn__scratch *s, const char *text, size_t len) {
    const srn_vocab *v = s->v;
    if (v->has_unused && !s->split) {
        s->split = srn_calloc((size_t)v->n, sizeof *s->split);
        if (!s->split) return srn_fail_nomem(s->err, (size_t)v->n * sizeof *s->split);
    }
    s->n_syms = 0;
    for (size_t i = 0, k; i < len; i += k) {
        k = srn_utf8_len(text + i, len - i);
        if (k == 0) k = 1;
        int32_t id = srn__strtab_get(&v->tab, (srn_str){text + i, k});
        if (!srn__sym_push(s, i, k, srn__is_ordinary(v, id) ? id : -1))
            return srn_fail_nomem(s->err, len * sizeof(srn__sym));
    }
    int code = srn__merge_all(s, text, pair_by_score);
    if (code) return code;
    for (size_t i = 0; i < s->n_syms; i++) {
        const srn__sym *y = &s->syms[i];
        if (y->len == 0) continue;
        if (!push_resolved(s, text + y->pos, y->len, 0))
            return srn_fail_nomem(s->err, s->out->cap * 2 * sizeof(int32_t));
    }
    return SRN_OK;
}
