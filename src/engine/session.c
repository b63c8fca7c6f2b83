/* A session: one sequence of tokens, the blocks that it holds of the engine's KV cache, and the logits after
 * its last token. Used by the thread that has the engine. Refuses what does not fit before it computes.
 *
 * The cache may hold less than the session's tokens: a window that was given back is gone when the session is
 * cut to a shorter length. What is missing is computed again with the next feed.
 */
#include "engine/engine_internal.h"

#include <stdlib.h>

struct srn_session {
    srn_engine *e;
    srn_kv_seq *seq;
    uint32_t length; /* at least the sequence's */
    int32_t *tokens; /* [n_ctx], the first `length` are set */
    float *logits;
    uint32_t *wanted; /* [max_wanted] */
    void *draw_scratch;
};

int srn_session_new(srn_engine *e, srn_session **ret, srn_err *err) {
    uint32_t n_vocab = e->model->hp.n_vocab;
    srn_session *s = srn_calloc(1, sizeof *s);
    if (!s) return srn_fail_nomem(err, sizeof *s);
    s->e = e;
    s->tokens = srn_calloc(e->plan.n_ctx, sizeof *s->tokens);
    s->logits = srn_calloc(n_vocab, sizeof *s->logits);
    s->wanted = srn_calloc(e->plan.max_wanted, sizeof *s->wanted);
    s->draw_scratch = srn_calloc(1, srn__draw_scratch_bytes(n_vocab));
    int code = SRN_OK;
    if (!s->tokens || !s->logits || !s->wanted || !s->draw_scratch)
        code = srn_fail_nomem(err, n_vocab * sizeof *s->logits);
    if (!code) code = srn_kv_seq_new(e->kv, 0, &s->seq, err);
    if (code) {
        srn_session_free(s);
        return code;
    }
    *ret = s;
    return SRN_OK;
}

void srn_session_free(srn_session *s) {
    if (!s) return;
    srn_kv_seq_free(s->seq);
    free(s->tokens);
    free(s->logits);
    free(s->wanted);
    free(s->draw_scratch);
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
    srn_kv_seq_truncate(s->seq, length);
}

const float *srn_session_logits(const srn_session *s) {
    return s->logits;
}

/* Whether n more tokens are tokens, and fit. */
static int check(const srn_session *s, const int32_t *tokens, uint32_t n, srn_err *err) {
    const srn_engine *e = s->e;
    uint32_t n_ctx = e->plan.n_ctx, n_vocab = e->model->hp.n_vocab;
    if (n == 0) return srn_fail(err, SRN_EINVAL, "there are no tokens to feed");
    if (n > n_ctx || s->length > n_ctx - n)
        return srn_fail(err, SRN_ECONTEXT,
                        "%u tokens and %u more do not fit into the context of %u tokens; shorten the text or "
                        "ask for a larger context (--ctx, at most %u)",
                        s->length, n, n_ctx, e->model->hp.n_ctx_train);
    for (uint32_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= n_vocab)
            return srn_fail(err, SRN_EINVAL, "token %u has the id %d, and the vocabulary has 0 to %u", i,
                            tokens[i], n_vocab - 1);
    uint32_t end = s->length + n;
    if (srn_kv_seq_can_reach(s->seq, end, e->plan.max_batch)) return SRN_OK;
    if (end > srn_kv_longest(e->kv, e->plan.max_batch))
        return srn_fail(err, SRN_ECONTEXT,
                        "%u tokens do not fit into the KV cache of %llu; ask for a larger cache "
                        "(--cache-tokens, or cache_tokens)",
                        end, (unsigned long long)e->plan.tokens);
    return srn_fail(err, SRN_ECONTEXT,
                    "the KV cache of %llu tokens is full: other sessions hold what %u tokens need; free one, "
                    "or ask for a larger cache (--cache-tokens, or cache_tokens)",
                    (unsigned long long)e->plan.tokens, end);
}

/* One step over the n tokens from index `at` on; logits after the last n_rows of them. */
static int step(srn_session *s, uint32_t at, uint32_t n, uint32_t n_rows, float *rows, srn_err *err) {
    srn_slice slice = srn__kv_slice(s->seq, at, n, 0);
    srn_batch b = {.tokens = s->tokens + at,
                   .n_tokens = n,
                   .slices = &slice,
                   .n_slices = 1,
                   .wanted = s->wanted,
                   .n_wanted = n_rows,
                   .logits = rows};
    for (uint32_t i = 0; i < n_rows; i++) s->wanted[i] = n - n_rows + i;
    return s->e->device->ops->forward(s->e->device, &b, err);
}

/* Brings the cache to `end` tokens, with the logits after the last n_rows of them. */
static int compute(srn_session *s, uint32_t end, uint32_t n_rows, float *rows, const volatile int *cancel,
                   srn_err *err) {
    const srn_cache_plan *plan = &s->e->plan;
    uint32_t first_row = end - n_rows;
    for (uint32_t at = srn_kv_seq_length(s->seq); at < end;) {
        uint32_t to = SRN_MIN(end, at + plan->max_batch), rows_from = SRN_MAX(at, first_row);
        if (to > rows_from) to = SRN_MIN(to, rows_from + plan->max_wanted);
        uint32_t n_now = to > rows_from ? to - rows_from : 0;
        if (cancel && *cancel) return srn_fail(err, SRN_ECANCELLED, "cancelled");
        if (!srn_kv_seq_reserve(s->seq, to))
            return srn_fail(err, SRN_ECONTEXT, "the KV cache has no blocks for %u tokens", to);
        int code = step(s, at, to - at, n_now, rows, err);
        if (code) return code;
        srn_kv_seq_commit(s->seq, s->tokens, to);
        rows += (size_t)n_now * s->e->model->hp.n_vocab;
        at = to;
    }
    return SRN_OK;
}

static int feed(srn_session *s, const int32_t *tokens, uint32_t n, uint32_t n_rows, float *rows,
                const volatile int *cancel, srn_err *err) {
    int code = check(s, tokens, n, err);
    if (code) return code;
    memmove(s->tokens + s->length, tokens, n * sizeof *tokens);
    code = compute(s, s->length + n, n_rows, rows, cancel, err);
    if (code)
        srn_kv_seq_truncate(s->seq, s->length);
    else
        s->length += n;
    return code;
}

int srn_session_feed(srn_session *s, const int32_t *tokens, uint32_t n, const volatile int *cancel,
                     srn_err *err) {
    return feed(s, tokens, n, 1, s->logits, cancel, err);
}

int srn_session_feed_all(srn_session *s, const int32_t *tokens, uint32_t n, float *out, srn_err *err) {
    int code = feed(s, tokens, n, n, out, NULL, err);
    if (code) return code;
    size_t n_vocab = s->e->model->hp.n_vocab;
    memcpy(s->logits, out + (n - 1) * n_vocab, n_vocab * sizeof *out);
    return SRN_OK;
}

/* ---- a token of each of several sessions ---- */

#define MOST_SESSIONS 512u /* of a step; the plan's limit */

/* Room for one more token of a session, and in its cache all that the step will read. */
static int prepare_one(srn_session *s, const int32_t *token, srn_err *err) {
    int code = check(s, token, 1, err);
    if (!code && srn_kv_seq_length(s->seq) < s->length) code = compute(s, s->length, 0, NULL, NULL, err);
    if (code) return code;
    if (!srn_kv_seq_reserve(s->seq, s->length + 1))
        return srn_fail(err, SRN_ECONTEXT, "the KV cache has no blocks for %u tokens", s->length + 1);
    s->tokens[s->length] = *token;
    return SRN_OK;
}

int srn_session_feed_each(srn_session *const *s, const int32_t *tokens, uint32_t n, float *out,
                          srn_err *err) {
    srn_slice slices[MOST_SESSIONS];
    uint32_t wanted[MOST_SESSIONS];
    if (n == 0) return srn_fail(err, SRN_EINVAL, "there are no tokens to feed");
    srn_engine *e = s[0]->e;
    if (n > e->plan.max_seqs)
        return srn_fail(err, SRN_ELIMIT, "%u sessions were to be fed in a step, and the engine takes %u", n,
                        e->plan.max_seqs);
    int code = SRN_OK;
    for (uint32_t i = 0; !code && i < n; i++) code = prepare_one(s[i], &tokens[i], err);
    for (uint32_t i = 0; !code && i < n; i++) {
        slices[i] = srn__kv_slice(s[i]->seq, s[i]->length, 1, i);
        wanted[i] = i;
    }
    srn_batch b = {.tokens = tokens,
                   .n_tokens = n,
                   .slices = slices,
                   .n_slices = n,
                   .wanted = wanted,
                   .n_wanted = n,
                   .logits = out};
    if (!code) code = e->device->ops->forward(e->device, &b, err);
    for (uint32_t i = 0; i < n; i++) {
        if (code)
            srn_kv_seq_truncate(s[i]->seq, s[i]->length);
        else
            srn_kv_seq_commit(s[i]->seq, s[i]->tokens, ++s[i]->length);
    }
    return code;
}

uint32_t srn__session_begin(srn_session *s, const int32_t *prompt, uint32_t n_prompt) {
    uint32_t most = n_prompt - 1, same = 0,
             found = SRN_MIN(srn_kv_lookup(s->e->kv, 0, prompt, n_prompt), most);
    while (same < SRN_MIN(s->length, most) && s->tokens[same] == prompt[same]) same++;
    if (srn_kv_seq_truncate(s->seq, same) < found) {
        srn_kv_seq_truncate(s->seq, 0);
        srn_kv_seq_take(s->seq, prompt, n_prompt, most);
    }
    s->length = srn_kv_seq_length(s->seq);
    memmove(s->tokens, prompt, s->length * sizeof *prompt);
    return s->length;
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
                                     .scratch = s->draw_scratch});
}
