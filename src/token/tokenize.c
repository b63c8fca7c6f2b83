/* Spans of text to ids: control tokens are cut out of trusted text, user-defined ones of all text, and what
 * lies between goes to the vocabulary's kind. Owns one call's scratch memory; any thread.
 */
#include "token/token_internal.h"

#include <stdlib.h>

void srn_tokens_done(srn_tokens *t) {
    free(t->ids);
    *t = (srn_tokens){0};
}

bool srn_tokens_push(srn_tokens *t, int32_t id) {
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        int32_t *p = srn_realloc_array(t->ids, cap, sizeof *p);
        if (!p) return false;
        t->ids = p;
        t->cap = cap;
    }
    t->ids[t->n++] = id;
    return true;
}

bool srn__push(srn__scratch *s, int32_t id) {
    s->prev_unk = false;
    s->steps++;
    return srn_tokens_push(s->out, id);
}

static int push(srn__scratch *s, int32_t id) {
    return srn__push(s, id) ? SRN_OK : srn_fail_nomem(s->err, s->out->cap * 2 * sizeof(int32_t));
}

static int ordinary(srn__scratch *s, const char *text, size_t len) {
    if (len == 0) return SRN_OK;
    switch (s->v->kind) {
    case SRN_VOCAB_BPE:
        return srn__bpe_tokenize(s, text, len);
    case SRN_VOCAB_SPM:
        return srn__spm_tokenize(s, text, len);
    case SRN_VOCAB_WPM:
        return srn__wpm_tokenize(s, text, len);
    }
    return srn_fail(s->err, SRN_EUNSUP, "the vocabulary has no tokenizer");
}

static bool starts_with_space(const char *p, size_t n) {
    uint32_t cp = 0;
    return srn_utf8_get(p, n, &cp) &&
           (cp == ' ' || (cp >= 9 && cp <= 13) || cp == 0x85 || cp == 0xA0 || cp == 0x3000);
}

/* A fragment as the kind reads it: with the space that the file adds in front, and spaces as U+2581. */
static int prepare(srn__scratch *s, const char **text, size_t *len, bool first) {
    const srn_vocab *v = s->v;
    bool escape = srn__escapes_spaces(v);
    bool prefix =
        first && v->add_space_prefix && (v->kind == SRN_VOCAB_SPM || !starts_with_space(*text, *len));
    if (!escape && !prefix) return SRN_OK;
    srn_buf_clear(&s->text);
    if (prefix) srn_buf_addz(&s->text, escape ? SRN__LOWLINE : " ");
    for (size_t i = 0; i < *len && escape; i++) {
        if ((*text)[i] == ' ')
            srn_buf_addz(&s->text, SRN__LOWLINE);
        else
            srn_buf_addc(&s->text, (*text)[i]);
    }
    if (!escape) srn_buf_add(&s->text, *text, *len);
    if (s->text.failed) return srn_fail_nomem(s->err, *len * 3);
    *text = s->text.data;
    *len = s->text.len;
    return SRN_OK;
}

/* Text between control tokens; first: nothing but control tokens came before it. */
static int fragment(srn__scratch *s, const char *text, size_t len, bool first) {
    if (len == 0) return SRN_OK;
    int code = prepare(s, &text, &len, first);
    size_t last = 0;
    for (size_t i = 0; i < len && code == SRN_OK;) {
        int32_t id = -1;
        size_t n = srn__matcher_longest(&s->v->user, text + i, len - i, &id);
        if (n == 0) {
            i++;
            continue;
        }
        code = ordinary(s, text + last, i - last);
        if (code == SRN_OK) code = push(s, id);
        last = i += n;
    }
    return code ? code : ordinary(s, text + last, len - last);
}

static bool is_ascii_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Phi-3: these control tokens leave the white space after them alone. */
static bool strips_right(const srn_vocab *v, int32_t id) {
    return v->control_rstrip && id != v->unk && !srn_str_eqz(v->text[id], "<s>") &&
           !srn_str_eqz(v->text[id], "<|endoftext|>");
}

typedef struct all_text {
    char *owned; /* the spans joined, where there are several */
    const char *ptr;
    size_t len;
    size_t *trusted; /* pairs of start and end of maximal trusted runs */
    size_t n_trusted;
} all_text;

static int join(const srn_span *spans, size_t n, all_text *t, srn_err *err) {
    uint64_t len = 0;
    for (size_t i = 0; i < n; i++)
        if (!srn_add_u64(len, spans[i].text.len, &len) || len > SRN__MAX_TEXT_BYTES)
            return srn_fail(err, SRN_ELIMIT, "the text is longer than the limit of %d bytes; split it",
                            SRN__MAX_TEXT_BYTES);
    t->len = (size_t)len;
    t->trusted = srn_calloc(n, 2 * sizeof *t->trusted);
    t->owned = n == 1 ? NULL : malloc(t->len + 1);
    if (!t->trusted || (n != 1 && !t->owned)) return srn_fail_nomem(err, t->len);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        size_t k = spans[i].text.len, *run = t->trusted + 2 * t->n_trusted;
        if (t->owned && k) memcpy(t->owned + at, spans[i].text.ptr, k);
        if (spans[i].trusted && k) {
            if (t->n_trusted && run[-1] == at)
                run[-1] = at + k;
            else
                run[0] = at, run[1] = at + k, t->n_trusted++;
        }
        at += k;
    }
    t->ptr = n == 1 ? spans[0].text.ptr : t->owned;
    return SRN_OK;
}

/* Control tokens of the trusted runs, and the fragments between them. */
static int partition(srn__scratch *s, const all_text *t) {
    size_t last = 0;
    bool first = true;
    for (size_t r = 0; r < t->n_trusted; r++) {
        size_t end = t->trusted[2 * r + 1];
        for (size_t i = SRN_MAX(t->trusted[2 * r], last); i < end;) {
            int32_t id = -1;
            size_t n = srn__matcher_longest(&s->v->control, t->ptr + i, end - i, &id);
            if (n == 0) {
                i++;
                continue;
            }
            int code = fragment(s, t->ptr + last, i - last, first);
            if (code == SRN_OK) code = push(s, id);
            if (code) return code;
            first = true;
            last = i += n;
            while (strips_right(s->v, id) && last < t->len && is_ascii_space(t->ptr[last])) last++;
            i = SRN_MAX(i, last);
        }
    }
    return fragment(s, t->ptr + last, t->len - last, first);
}

static int run(srn__scratch *s, const all_text *t, unsigned flags) {
    const srn_vocab *v = s->v;
    bool plain = flags & SRN_TOK_NO_BOS, force = flags & SRN_TOK_FORCE_BOS;
    bool bos = force || (v->add_bos && !plain);
    if (force && v->bos < 0)
        return srn_fail(s->err, SRN_EINVAL, "a BOS token was asked for, but the vocabulary names none");
    size_t start = s->out->n;
    int code = bos ? push(s, v->bos) : SRN_OK;
    if (code == SRN_OK) code = partition(s, t);
    if (code) return code;
    if (bos && s->out->n > start + 1 && s->out->ids[start + 1] == v->bos) { /* the text wrote it itself */
        memmove(s->out->ids + start, s->out->ids + start + 1, (s->out->n - start - 1) * sizeof *s->out->ids);
        s->out->n--;
    }
    int32_t ends[] = {v->add_sep ? v->sep : -1, v->add_eos ? v->eos : -1};
    for (size_t i = 0; i < SRN_LEN(ends) && !plain && code == SRN_OK; i++)
        if (ends[i] >= 0 && (s->out->n == start || s->out->ids[s->out->n - 1] != ends[i]))
            code = push(s, ends[i]);
    return code;
}

int srn__tokenize_counted(const srn_vocab *v, const srn_span *spans, size_t n_spans, unsigned flags,
                          srn_tokens *ret, uint64_t *ret_steps, srn_err *err) {
    all_text t = {0};
    srn__scratch s = {.v = v, .out = ret, .err = err};
    size_t n_before = ret->n;
    srn_buf_init(&s.text, (size_t)SRN__MAX_TEXT_BYTES * 4);
    srn_buf_init(&s.word, (size_t)SRN__MAX_TEXT_BYTES * 4);
    int code = join(spans, n_spans, &t, err);
    if (code == SRN_OK) code = run(&s, &t, flags);
    if (code) ret->n = n_before;
    *ret_steps = s.steps;
    srn__pretok_scratch_done(&s);
    srn_buf_done(&s.text);
    srn_buf_done(&s.word);
    free(s.syms);
    free(s.heap);
    free(s.split);
    free(t.owned);
    free(t.trusted);
    return code;
}

int srn_tokenize(const srn_vocab *v, const srn_span *spans, size_t n_spans, unsigned flags, srn_tokens *ret,
                 srn_err *err) {
    uint64_t steps;
    return srn__tokenize_counted(v, spans, n_spans, flags, ret, &steps, err);
}
