/* Text to tokens and back, for callers of the public API: the model's own tokenizer behind an engine. */
#include <stdlib.h>

#include "engine/engine_internal.h"

#define MAX_TEXT ((size_t)1 << 30)

static int check_flags(unsigned flags, srn_err *err) {
    if (flags & ~(unsigned)(SRN_TEXT_SPECIAL | SRN_TEXT_NO_BOS))
        return srn_fail(err, SRN_EINVAL, "flags 0x%x has bits that are not known", flags);
    return SRN_OK;
}

int srn_engine_tokenize(srn_engine *e, const char *text, size_t n_bytes, unsigned flags, int32_t **ret,
                        uint32_t *ret_n, srn_err *err) {
    const srn_vocab *v;
    int code = check_flags(flags, err);
    if (!code && n_bytes > MAX_TEXT)
        code = srn_fail(err, SRN_EINVAL, "the text has %zu bytes; at most %zu can be tokenized at once",
                        n_bytes, MAX_TEXT);
    if (!code) code = srn_engine_vocab(e, &v, err);
    if (code) return code;
    srn_tokens tokens = {0};
    srn_span span = {{text, n_bytes}, (flags & SRN_TEXT_SPECIAL) != 0};
    code = srn_tokenize(v, &span, 1, flags & SRN_TEXT_NO_BOS ? SRN_TOK_NO_BOS : 0, &tokens, err);
    if (!code && !tokens.ids && !(tokens.ids = srn_calloc(1, sizeof *tokens.ids)))
        code = srn_fail_nomem(err, sizeof *tokens.ids);
    if (code) {
        srn_tokens_done(&tokens);
        return code;
    }
    *ret = tokens.ids;
    *ret_n = (uint32_t)tokens.n;
    return SRN_OK;
}

int srn_engine_detokenize(srn_engine *e, const int32_t *tokens, uint32_t n, unsigned flags, char **ret,
                          srn_err *err) {
    const srn_vocab *v;
    int code = check_flags(flags, err);
    if (!code) code = srn_engine_vocab(e, &v, err);
    if (code) return code;
    srn_detok d;
    srn_buf out;
    srn_detok_init(&d, v, (flags & SRN_TEXT_SPECIAL) != 0);
    srn_buf_init(&out, MAX_TEXT);
    for (uint32_t i = 0; !code && i < n; i++) {
        if (tokens[i] < 0 || tokens[i] >= srn_vocab_size(v))
            code = srn_fail(err, SRN_EINVAL, "token %u has the id %d, and the vocabulary has 0 to %d", i,
                            tokens[i], srn_vocab_size(v) - 1);
        else
            srn_detok_add(&d, tokens[i], &out);
    }
    if (!code) srn_detok_end(&d, &out);
    if (!code && (!srn_buf_add(&out, "", 0) || out.failed)) code = srn_fail_nomem(err, out.len + 1);
    if (code) {
        srn_buf_done(&out);
        return code;
    }
    *ret = out.data;
    return SRN_OK;
}

/* ---- what breaks a repetition ---- */

static bool holds(const srn_buf *bytes, srn_str text) {
    for (size_t i = 0; text.len <= bytes->len && i <= bytes->len - text.len; i++)
        if (memcmp(bytes->data + i, text.ptr, text.len) == 0) return true;
    return false;
}

int srn_dry_breakers(const srn_vocab *v, const srn_str *texts, size_t n_texts, int32_t **ret, uint32_t *ret_n,
                     srn_err *err) {
    static const srn_str usual[] = {{"\n", 1}, {":", 1}, {"\"", 1}, {"*", 1}};
    if (n_texts == 0) texts = usual, n_texts = SRN_LEN(usual);
    size_t n_vocab = (size_t)srn_vocab_size(v);
    int32_t *ids = srn_calloc(n_vocab, sizeof *ids);
    if (!ids) return srn_fail_nomem(err, n_vocab * sizeof *ids);
    srn_buf bytes;
    srn_buf_init(&bytes, 1 << 20);
    uint32_t n = 0;
    for (int32_t id = 0; id < srn_vocab_size(v) && !bytes.failed; id++) {
        srn_buf_clear(&bytes);
        bool found = srn_vocab_attr(v, id) == SRN_TOKEN_CONTROL;
        if (!found) srn_token_bytes(v, id, false, &bytes);
        for (size_t i = 0; i < n_texts && !found && bytes.len; i++) found = holds(&bytes, texts[i]);
        if (found) ids[n++] = id;
    }
    bool failed = bytes.failed;
    srn_buf_done(&bytes);
    if (failed) {
        free(ids);
        return srn_fail_nomem(err, 1 << 20);
    }
    *ret = ids;
    *ret_n = n;
    return SRN_OK;
}
