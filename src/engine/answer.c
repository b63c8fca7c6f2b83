/* From the rows that a step computed to tokens, texts, scores and ends. Tokens are drawn on the device's
 * threads, one sequence each: mask, draw and log-probabilities of its rows, in their order, going on as long
 * as the draft was right. What came of it is then given to the requests, on the scheduler's thread.
 *
 * The token at index i of a sequence is a function of the row at i-1, the parameters, what stands before it
 * and (seed, i). So a draft token is right exactly where it is the one that is drawn anyway.
 */
#include "engine/scheduler_internal.h"

/* ---- on the device's threads ---- */

/* A scratch that no other thread uses now: there is one for each thread. */
static srn__scratch *take_scratch(srn__lane *l) {
    for (uint32_t i = 0;; i = (i + 1) % l->n_scratch)
        if (!atomic_flag_test_and_set_explicit(&l->scratch[i].taken, memory_order_acquire))
            return &l->scratch[i];
}

static void give_scratch(srn__scratch *s) {
    atomic_flag_clear_explicit(&s->taken, memory_order_release);
}

static bool is_stop_token(const srn_request *r, int32_t token) {
    for (uint32_t i = 0; i < r->o.n_stop_tokens; i++)
        if (r->o.stop_tokens[i] == token) return true;
    return false;
}

/* Whether the token ends the answer. What a constraint holds to its end cannot go on past it. */
static bool is_end(const srn__lane *l, const srn_request *r, int32_t token) {
    bool heeds = !r->o.ignore_eog || r->o.constraint;
    return (heeds && l->vocab && srn_vocab_is_eog(l->vocab, token)) || is_stop_token(r, token);
}

static void forbid(uint64_t *mask, int32_t token) {
    mask[token / 64] &= ~((uint64_t)1 << (token % 64));
}

/* Takes the tokens that end an answer out of the mask, if that leaves any. */
static void forbid_ends(const srn__lane *l, const srn_request *r, uint64_t *mask) {
    size_t words = ((size_t)l->n_vocab + 63) / 64;
    uint64_t others = 0;
    if (r->matcher && srn_matcher_must_end(r->matcher)) return;
    for (uint32_t i = 0; i < l->n_end_tokens && !(r->o.ignore_eog && !r->o.constraint); i++)
        forbid(mask, l->end_tokens[i]);
    for (uint32_t i = 0; i < r->o.n_stop_tokens; i++) forbid(mask, r->o.stop_tokens[i]);
    for (size_t i = 0; i < words; i++) others |= mask[i];
    if (!others && r->matcher) srn_matcher_mask(r->matcher, mask, NULL);
}

/* The tokens that may come next as token number n_out of the answer; *ret NULL: all may. */
static int allowed_tokens(const srn__lane *l, srn__part *p, uint32_t n_out, srn__scratch *s,
                          const uint64_t **ret) {
    srn_request *r = p->r;
    bool must_go_on = n_out < r->o.min_tokens;
    *ret = NULL;
    if (!r->matcher && !must_go_on) return SRN_OK;
    size_t words = ((size_t)l->n_vocab + 63) / 64;
    memset(s->mask, r->matcher ? 0 : 0xff, words * sizeof *s->mask);
    int code = r->matcher ? srn_matcher_mask(r->matcher, s->mask, p->err) : SRN_OK;
    if (code) return code;
    if (must_go_on) forbid_ends(l, r, s->mask);
    *ret = s->mask;
    return SRN_OK;
}

static void score_token(const srn__lane *l, srn_request *r, const float *logits, int32_t token, uint32_t at) {
    r->out[at] = (srn_out_token){.id = token, .logit = logits[token]};
    if (r->o.logprobs || r->o.n_top)
        srn__logprobs(logits, l->n_vocab, token, r->o.n_top, &r->out[at].logprob,
                      r->o.n_top ? r->tops + (size_t)at * r->o.n_top : NULL);
}

/* Draws from one row; true while the next row follows from what was drawn. */
static bool draw_row(srn__lane *l, srn__part *p, const float *logits, uint32_t i, srn__scratch *s) {
    srn_request *r = p->r;
    uint32_t known = r->n_tokens + p->n_new, n_out = known - r->n_prompt;
    const uint64_t *allowed;
    p->code = allowed_tokens(l, p, n_out, s, &allowed);
    if (p->code) return false;
    int32_t token = srn__draw(&(srn__draw_in){.logits = logits,
                                              .n_vocab = l->n_vocab,
                                              .params = &r->o.sampling,
                                              .history = r->tokens,
                                              .n_prompt = r->n_prompt,
                                              .n_history = known,
                                              .position = known,
                                              .allowed = allowed,
                                              .scratch = s->draw});
    if (token < 0) return p->code = srn__draw_fail(p->err), false;
    if (is_end(l, r, token)) return p->end_token = token, false;
    score_token(l, r, logits, token, n_out);
    r->tokens[known] = token;
    p->n_new++;
    if (r->matcher) {
        p->code = srn_matcher_accept(r->matcher, token, p->err);
        if (p->code) return false;
        p->must_end = srn_matcher_must_end(r->matcher);
    }
    if (p->must_end || p->n_new > p->n_draft || n_out + 1 == r->most_out) return false;
    return token == l->tokens[p->first + p->n_tokens - p->n_draft + i];
}

static void draw_part(void *ctx, uint32_t index) {
    srn__lane *l = ctx;
    srn__part *p = &l->parts[index];
    if (!p->draws || p->code) return;
    const float *logits = l->logits + (size_t)(p->row + p->n_rows - 1 - p->n_draft) * l->n_vocab;
    srn__scratch *s = take_scratch(l);
    for (uint32_t i = 0; draw_row(l, p, logits + (size_t)i * l->n_vocab, i, s); i++) {
    }
    give_scratch(s);
}

/* The rows of a prompt's chunk that its request keeps. */
static void keep_rows(const srn__lane *l, const srn__part *p) {
    srn_request *r = p->r;
    uint32_t first = r->n_prompt - r->o.n_rows, n = SRN_MIN(p->n_rows, r->n_prompt - r->n_computed);
    memcpy(r->rows + (size_t)(r->n_computed - first) * l->n_vocab, l->logits + (size_t)p->row * l->n_vocab,
           (size_t)n * l->n_vocab * sizeof *r->rows);
}

typedef struct scoring {
    srn__lane *l;
    const srn__part *p;
} scoring;

/* Row i of a prompt's chunk tells how likely the token after it was. */
static void score_prompt_row(void *ctx, uint32_t i) {
    const scoring *w = ctx;
    srn_request *r = w->p->r;
    uint32_t at = r->n_computed + i + 1;
    if (at >= r->n_prompt) return;
    srn__logprobs(w->l->logits + (size_t)(w->p->row + i) * w->l->n_vocab, w->l->n_vocab, r->tokens[at],
                  r->o.n_top, &r->prompt_logprobs[at],
                  r->o.n_top ? r->prompt_tops + (size_t)at * r->o.n_top : NULL);
}

void srn__answer_draw(srn__lane *l) {
    srn_device *d = l->e->device;
    d->ops->parallel(d, draw_part, l, l->n_parts);
    for (uint32_t i = 0; i < l->n_parts; i++) {
        const srn__part *p = &l->parts[i];
        if (!p->code && srn__request_keeps_rows(p->r)) keep_rows(l, p);
        if (p->code || !p->r->o.prompt_logprobs || p->r->n_scored == p->r->n_prompt) continue;
        d->ops->parallel(d, score_prompt_row, &(scoring){l, p}, p->n_rows);
    }
}

/* ---- on the scheduler's thread ---- */

/* Sums of a text's hidden states are binary64, ascending in position: however the text was cut. */
static void pool_rows(srn__lane *l, const srn__part *p) {
    srn_request *r = p->r;
    const float *rows = l->hidden + (size_t)p->row * l->n_embd;
    uint32_t end = r->n_computed + p->n_tokens;
    if (r->o.pooling != SRN_POOL_MEAN) {
        if (p->n_rows) memcpy(r->embedding, rows, l->n_embd * sizeof *rows);
        return;
    }
    for (uint32_t i = 0; i < p->n_rows; i++)
        for (uint32_t k = 0; k < l->n_embd; k++) r->sums[k] += (double)rows[(size_t)i * l->n_embd + k];
    for (uint32_t k = 0; k < l->n_embd && end == r->n_tokens; k++)
        r->embedding[k] = (float)(r->sums[k] / (double)r->n_prompt);
}

/* Notes how often drafts are right, and how long the next one is to be. */
static void learn_draft(srn__lane *l, srn_request *r, uint32_t n_draft, uint32_t n_right) {
    if (!n_draft) return;
    r->draft_rate = 0.8 * r->draft_rate + 0.2 * (double)n_right / (double)n_draft;
    if (n_right == n_draft)
        r->draft_now = SRN_MIN(2 * r->draft_now, r->o.speculate);
    else
        r->draft_now = SRN_MIN(n_right + 1, r->o.speculate);
    r->draft_penalty = n_right ? 0 : SRN_MIN(2 * r->draft_penalty + 1, 63u);
    r->draft_pause = r->draft_penalty;
    r->status.n_draft += n_draft;
    r->status.n_accepted += n_right;
    l->stats.draft_tokens += n_draft;
    l->stats.accepted_tokens += n_right;
}

/* Gives the new tokens to the stream up to a stop text; returns the stop or -1. Under the request's lock. */
static int32_t give_tokens(srn_request *r, srn__part *p, uint64_t now) {
    int32_t stop = -1;
    for (uint32_t i = 0; i < p->n_new && stop < 0; i++) {
        r->out[r->n_given].at_us = now;
        if (r->stream) stop = srn_stream_add(r->stream, r->tokens[r->n_prompt + r->n_given]);
        r->n_given++;
    }
    uint32_t certain = r->stream ? srn_stream_n_tokens(r->stream) : r->n_given;
    for (; r->n_certain < certain; r->n_certain++)
        r->out[r->n_certain].text_end = r->stream ? srn_stream_text_end(r->stream, r->n_certain) : 0;
    return stop;
}

/* Takes over what the step brought; returns the index of the stop text that was found, or -1. */
static int32_t take_over(srn__lane *l, srn__part *p, uint64_t now) {
    srn_request *r = p->r;
    uint32_t n_drawn = p->n_new + (p->end_token >= 0), n_right = n_drawn ? n_drawn - 1 : 0;
    uint32_t given = r->n_given;
    size_t text = r->stream ? srn_stream_text(r->stream).len : 0;
    r->n_computed += p->n_tokens - p->n_draft + n_right;
    pthread_mutex_lock(&r->lock);
    int32_t stop = give_tokens(r, p, now);
    learn_draft(l, r, p->n_draft, n_right);
    r->n_tokens = r->n_prompt + r->n_given;
    r->n_computed = SRN_MIN(r->n_computed, r->n_tokens);
    r->status.n_output = r->n_given;
    r->status.stop = stop;
    if (stop < 0) r->status.end_token = p->end_token;
    r->status.state = srn__request_decodes(r) ? SRN_REQUEST_DECODE : SRN_REQUEST_PREFILL;
    if (n_drawn && !r->status.first_token_us) r->status.first_token_us = now;
    pthread_mutex_unlock(&r->lock);
    r->tenant->served += 2 * (uint64_t)(r->n_given - given);
    l->stats.output_tokens += r->n_given - given;
    if (r->n_given != given || (r->stream && srn_stream_text(r->stream).len != text)) srn__request_touch(r);
    return stop;
}

static void apply_part(srn__lane *l, srn__part *p, uint64_t now) {
    srn_request *r = p->r;
    if (p->code) return srn__queue_end(l, r, p->code, SRN_FINISH_CANCELLED, p->err);
    if (r->o.kind == SRN_REQUEST_EMBED) pool_rows(l, p);
    uint32_t scored = r->n_computed + p->n_tokens;
    int32_t stop = take_over(l, p, now);
    if (r->o.prompt_logprobs) r->n_scored = SRN_MAX(r->n_scored, SRN_MIN(scored, r->n_prompt));
    srn_kv_seq_commit(r->seq, r->tokens, r->n_computed);
    if (r->stream && srn_stream_failed(r->stream)) {
        srn_err err = {0};
        int code = srn_fail(&err, SRN_ENOMEM, "there is no memory for the answer's text");
        return srn__queue_end(l, r, code, SRN_FINISH_CANCELLED, &err);
    }
    bool embedded = r->o.kind == SRN_REQUEST_EMBED && r->n_computed == r->n_tokens;
    if (embedded || stop >= 0 || p->end_token >= 0 || p->must_end)
        srn__queue_end(l, r, SRN_OK, SRN_FINISH_STOP, NULL);
    else if (p->draws && r->n_given == r->most_out)
        srn__queue_end(l, r, SRN_OK, r->n_given == r->o.max_tokens ? SRN_FINISH_LENGTH : SRN_FINISH_CONTEXT,
                       NULL);
}

void srn__answer_apply(srn__lane *l, uint64_t now) {
    for (uint32_t i = 0; i < l->n_parts; i++) apply_part(l, &l->parts[i], now);
}
