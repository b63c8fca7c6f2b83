/* A session: one sequence of tokens, its block table, and the logits after its last token. */
#include "engine/engine_internal.h"

#include <stdlib.h>

struct srn_session {
    srn_engine *e;
    uint32_t *blocks; /* [n_blocks of the engine]; the first n_held are ours */
    uint32_t n_held, length;
    int32_t *tokens; /* [n_ctx], the first `length` are set */
    float *logits;
    void *sample_scratch;
};

int srn_session_new(srn_engine *e, srn_session **ret, srn_err *err) {
    srn_session *s = srn_calloc(1, sizeof *s);
    if (!s) return srn_fail_nomem(err, sizeof *s);
    s->e = e;
    s->blocks = srn_calloc(e->n_blocks, sizeof *s->blocks);
    s->tokens = srn_calloc(e->n_ctx, sizeof *s->tokens);
    s->logits = srn_calloc(e->model->hp.n_vocab, sizeof *s->logits);
    s->sample_scratch = srn_calloc(1, srn__draw_scratch_bytes(e->model->hp.n_vocab));
    if (!s->blocks || !s->tokens || !s->logits || !s->sample_scratch) {
        srn_session_free(s);
        return srn_fail_nomem(err, e->model->hp.n_vocab * sizeof *s->logits);
    }
    *ret = s;
    return SRN_OK;
}

static void give_back(srn_session *s, uint32_t keep) {
    while (s->n_held > keep) s->e->free_blocks[s->e->n_free++] = s->blocks[--s->n_held];
}

void srn_session_free(srn_session *s) {
    if (!s) return;
    give_back(s, 0);
    free(s->blocks);
    free(s->tokens);
    free(s->logits);
    free(s->sample_scratch);
    free(s);
}

srn_engine *srn_session_engine(const srn_session *s) {
    return s->e;
}

const int32_t *srn_session_tokens(const srn_session *s) {
    return s->tokens;
}

uint32_t srn_session_length(const srn_session *s) {
    return s->length;
}

void srn_session_truncate(srn_session *s, uint32_t length) {
    if (length >= s->length) return;
    s->length = length;
    give_back(s, (length + SRN_KV_BLOCK - 1) / SRN_KV_BLOCK);
}

const float *srn_session_logits(const srn_session *s) {
    return s->logits;
}

/* Takes blocks for n more tokens and checks the ids; all or nothing. */
static int reserve(srn_session *s, const int32_t *tokens, uint32_t n, srn_err *err) {
    srn_engine *e = s->e;
    if (n > e->n_ctx || s->length > e->n_ctx - n)
        return srn_fail(err, SRN_ECONTEXT,
                        "%u tokens and %u more do not fit into the context of %u tokens; shorten the text or "
                        "ask for a larger context (--ctx, at most %u)",
                        s->length, n, e->n_ctx, e->model->hp.n_ctx_train);
    for (uint32_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= e->model->hp.n_vocab)
            return srn_fail(err, SRN_EINVAL, "token %u has the id %d, and the vocabulary has 0 to %u", i,
                            tokens[i], e->model->hp.n_vocab - 1);
    uint32_t need = (s->length + n + SRN_KV_BLOCK - 1) / SRN_KV_BLOCK;
    if (need > s->n_held && need - s->n_held > e->n_free)
        return srn_fail(err, SRN_ECONTEXT, "the KV cache is full: other sessions hold %u of %u blocks",
                        e->n_blocks - e->n_free - s->n_held, e->n_blocks);
    while (s->n_held < need) s->blocks[s->n_held++] = e->free_blocks[--e->n_free];
    return SRN_OK;
}

/* One step over n <= SRN_STEP_TOKENS tokens at index `past`. */
static int step(srn_session *s, uint32_t past, const int32_t *tokens, uint32_t n, const uint32_t *wanted,
                uint32_t n_wanted, float *logits, srn_err *err) {
    srn_slice slice = {.blocks = {s->blocks, s->blocks}, .n_past = past, .n_tokens = n, .first = 0};
    srn_batch b = {.tokens = tokens,
                   .n_tokens = n,
                   .slices = &slice,
                   .n_slices = 1,
                   .wanted = wanted,
                   .n_wanted = n_wanted,
                   .logits = logits};
    return s->e->device->ops->forward(s->e->device, &b, err);
}

/* Forgets what a failed feed reserved. */
static int undo(srn_session *s, int code) {
    give_back(s, (s->length + SRN_KV_BLOCK - 1) / SRN_KV_BLOCK);
    return code;
}

static void append(srn_session *s, const int32_t *tokens, uint32_t n) {
    memcpy(s->tokens + s->length, tokens, n * sizeof *tokens);
    s->length += n;
}

int srn_session_feed(srn_session *s, const int32_t *tokens, uint32_t n, const volatile int *cancel,
                     srn_err *err) {
    if (n == 0) return srn_fail(err, SRN_EINVAL, "there are no tokens to feed");
    int code = reserve(s, tokens, n, err);
    uint32_t chunk = SRN_MIN(SRN_STEP_TOKENS, s->e->n_ctx);
    for (uint32_t done = 0; !code && done < n; done += chunk) {
        uint32_t now = SRN_MIN(chunk, n - done), last = now - 1;
        if (cancel && *cancel) return undo(s, srn_fail(err, SRN_ECANCELLED, "cancelled"));
        code = step(s, s->length + done, tokens + done, now, &last, done + now == n ? 1 : 0, s->logits, err);
    }
    if (code) return undo(s, code);
    append(s, tokens, n);
    return SRN_OK;
}

int srn_session_feed_all(srn_session *s, const int32_t *tokens, uint32_t n, float *out, srn_err *err) {
    uint32_t wanted[SRN_STEP_TOKENS], chunk = SRN_MIN(SRN_STEP_TOKENS, s->e->n_ctx);
    for (uint32_t i = 0; i < SRN_STEP_TOKENS; i++) wanted[i] = i;
    if (n == 0) return srn_fail(err, SRN_EINVAL, "there are no tokens to feed");
    int code = reserve(s, tokens, n, err);
    size_t vocab = s->e->model->hp.n_vocab;
    for (uint32_t done = 0; !code && done < n; done += chunk) {
        uint32_t now = SRN_MIN(chunk, n - done);
        code = step(s, s->length + done, tokens + done, now, wanted, now, out + done * vocab, err);
    }
    if (code) return undo(s, code);
    append(s, tokens, n);
    memcpy(s->logits, out + (n - 1) * vocab, vocab * sizeof *out);
    return SRN_OK;
}

int32_t srn__session_draw(srn_session *s, const srn_sampling *p, uint32_t n_prompt, const uint64_t *allowed) {
    return srn__draw(&(srn__draw_in){.logits = s->logits,
                                     .n_vocab = s->e->model->hp.n_vocab,
                                     .params = p,
                                     .history = s->tokens,
                                     .n_prompt = n_prompt,
                                     .n_history = s->length,
                                     .position = s->length,
                                     .allowed = allowed,
                                     .scratch = s->sample_scratch});
}
