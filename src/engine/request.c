/* Requests as other threads see them: checked and copied by submit, read under a short lock, cancelled by a
 * flag that the scheduler's thread reads each step, released at any time. Every array that the answer needs
 * is taken here, so that a step takes no memory of its own for it.
 */
#include <stdlib.h>

#include "engine/scheduler_internal.h"

#define MAX_TOP         20u
#define MAX_STOP_BYTES  1024u
#define MAX_STOP_TOKENS 1024u
#define MAX_CHOICES     1024u

/* ---- life ---- */

static void free_request(srn_request *r) {
    pthread_mutex_destroy(&r->lock);
    pthread_mutex_destroy(&r->bell);
    srn_matcher_free(r->matcher);
    srn_constraint_free(r->o.constraint);
    srn_stream_free(r->stream);
    free((void *)(uintptr_t)r->o.sampling.logit_bias);
    free((void *)(uintptr_t)r->o.sampling.dry_breakers);
    free((void *)(uintptr_t)r->o.stop_tokens);
    free(r->tokens);
    free(r->out);
    free(r->tops);
    free(r->prompt_logprobs);
    free(r->prompt_tops);
    free(r->rows);
    free(r->embedding);
    free(r->sums);
    free(r);
}

void srn__request_drop(srn_request *r) {
    if (atomic_fetch_sub(&r->refs, 1) == 1) free_request(r);
}

/* n elements of memory of the request's own; NULL for none. */
static int copy_array(const void *from, uint32_t n, size_t size, const void **ret, srn_err *err) {
    *ret = NULL;
    if (n == 0) return SRN_OK;
    void *to = srn_calloc(n, size);
    if (!to) return srn_fail_nomem(err, n * size);
    memcpy(to, from, n * size);
    *ret = to;
    return SRN_OK;
}

/* The arrays that opts points at; those of o that have none yet are NULL, so that free_request is safe. */
static int copy_opts(srn_request *r, const srn_request_opts *from, srn_err *err) {
    srn_request_opts *o = &r->o;
    const void *bias = NULL, *breakers = NULL, *stops = NULL;
    *o = *from;
    if (o->kind == SRN_REQUEST_EMBED)
        o->prompt_logprobs = o->logprobs = false, o->n_top = o->min_tokens = o->n_rows = 0;
    o->prompt = NULL;
    o->constraint = NULL;
    o->stops = NULL;
    int code = copy_array(from->sampling.logit_bias, from->sampling.n_logit_bias, sizeof(srn_logit_bias),
                          &bias, err);
    if (!code)
        code = copy_array(from->sampling.dry_breakers, from->sampling.n_dry_breakers, sizeof(int32_t),
                          &breakers, err);
    if (!code) code = copy_array(from->stop_tokens, from->n_stop_tokens, sizeof(int32_t), &stops, err);
    o->sampling.logit_bias = bias;
    o->sampling.dry_breakers = breakers;
    o->stop_tokens = stops;
    if (!code && from->constraint) o->constraint = srn_constraint_ref(from->constraint);
    return code;
}

/* The arrays of an answer; false when memory ran out. */
static bool alloc_arrays(srn_request *r) {
    const srn_request_opts *o = &r->o;
    size_t out = SRN_MAX(r->most_out, 1u), scored = o->prompt_logprobs ? r->n_prompt : 0;
    bool ok = (r->tokens = srn_calloc((size_t)r->n_prompt + r->most_out, sizeof *r->tokens)) != NULL;
    ok = ok && (r->out = srn_calloc(out, sizeof *r->out));
    if (o->n_top) ok = ok && (r->tops = srn_calloc(out * o->n_top, sizeof *r->tops));
    if (scored) ok = ok && (r->prompt_logprobs = srn_calloc(scored, sizeof *r->prompt_logprobs));
    if (scored && o->n_top)
        ok = ok && (r->prompt_tops = srn_calloc(scored * o->n_top, sizeof *r->prompt_tops));
    if (o->n_rows) ok = ok && (r->rows = srn_calloc((size_t)o->n_rows * r->lane->n_vocab, sizeof *r->rows));
    return ok;
}

/* The first mask is the dearest: it is made here, where no other request waits for it. */
static int begin_constraint(srn_request *r, srn_err *err) {
    int code = srn_matcher_new(r->o.constraint, r->o.trie, &r->matcher, err);
    if (code) return code;
    size_t words = ((size_t)r->lane->n_vocab + 63) / 64;
    uint64_t *mask = srn_calloc(words, sizeof *mask);
    if (!mask) return srn_fail_nomem(err, words * sizeof *mask);
    code = srn_matcher_mask(r->matcher, mask, err);
    free(mask);
    return code;
}

static int alloc_answer(srn_request *r, const srn_request_opts *from, srn_err *err) {
    srn_request_opts *o = &r->o;
    if (!alloc_arrays(r))
        return srn_fail_nomem(err, ((size_t)r->n_prompt + r->most_out) *
                                       (sizeof *r->out + sizeof *r->tokens + o->n_top * sizeof *r->tops));
    memcpy(r->tokens, from->prompt, r->n_prompt * sizeof *r->tokens);
    r->n_tokens = r->n_prompt;
    if (!r->lane->vocab) return SRN_OK;
    int code = srn_stream_new(r->lane->vocab, o->show_special, from->stops, o->n_stops, o->keep_stop,
                              &r->stream, err);
    if (!code && o->continues_text) srn_stream_continues(r->stream);
    if (!code && o->constraint) code = begin_constraint(r, err);
    return code;
}

/* The arrays of a text to be embedded. */
static int alloc_embedding(srn_request *r, const srn_request_opts *from, srn_err *err) {
    size_t n = r->lane->n_embd;
    r->tokens = srn_calloc(r->n_prompt, sizeof *r->tokens);
    r->embedding = srn_calloc(n, sizeof *r->embedding);
    if (r->o.pooling == SRN_POOL_MEAN) r->sums = srn_calloc(n, sizeof *r->sums);
    if (!r->tokens || !r->embedding || (r->o.pooling == SRN_POOL_MEAN && !r->sums))
        return srn_fail_nomem(err, r->n_prompt * sizeof *r->tokens + n * sizeof *r->sums);
    memcpy(r->tokens, from->prompt, r->n_prompt * sizeof *r->tokens);
    r->n_tokens = r->n_prompt;
    return SRN_OK;
}

static int new_request(srn__lane *l, const srn_request_opts *opts, srn_request **ret, srn_err *err) {
    srn_request *r = srn_calloc(1, sizeof *r);
    if (!r) return srn_fail_nomem(err, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    pthread_mutex_init(&r->bell, NULL);
    atomic_init(&r->refs, 2);
    atomic_init(&r->cancelled, false);
    r->lane = l;
    r->n_prompt = opts->n_prompt;
    if (opts->kind == SRN_REQUEST_GENERATE) {
        uint32_t room = l->limit - opts->n_prompt;
        r->most_out = opts->max_tokens ? SRN_MIN(opts->max_tokens, room) : room;
    }
    r->boost = opts->priority;
    r->draft_now = SRN_MIN(opts->speculate, 2u);
    r->draft_rate = 0.5f;
    r->status.n_prompt = opts->n_prompt;
    r->status.end_token = r->status.stop = -1;
    int code = copy_opts(r, opts, err);
    if (!code)
        code = opts->kind == SRN_REQUEST_EMBED ? alloc_embedding(r, opts, err) : alloc_answer(r, opts, err);
    if (code) {
        free_request(r);
        return code;
    }
    r->o.speculate = SRN_MIN(opts->speculate, SRN__MAX_DRAFT);
    *ret = r;
    return SRN_OK;
}

/* ---- submit ---- */

int srn__check_ids(const int32_t *ids, uint32_t n, uint32_t n_vocab, const char *what, srn_err *err) {
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= n_vocab)
            return srn_fail(err, SRN_EINVAL, "%s %u has the id %d, and the vocabulary has 0 to %u", what, i,
                            ids[i], n_vocab - 1);
    return SRN_OK;
}

static int check_room(const srn__lane *l, const srn_request_opts *o, srn_err *err) {
    bool generate = o->kind == SRN_REQUEST_GENERATE;
    if (o->n_prompt == 0) return srn_fail(err, SRN_EINVAL, "the prompt is empty: it has no tokens");
    if (generate && o->n_prompt >= l->n_ctx) return srn_generate_check(l->e, o->prompt, o->n_prompt, err);
    if (o->n_prompt > l->n_ctx)
        return srn_fail(err, SRN_ECONTEXT, "the text has %u tokens and the context is %u; shorten the text",
                        o->n_prompt, l->n_ctx);
    if (o->n_prompt + (generate ? 1 : 0) > l->limit)
        return srn_fail(err, SRN_ECONTEXT,
                        "the %s has %u tokens and the KV cache holds %u in all%s; ask for a larger cache "
                        "(--cache-tokens) or shorten the %s",
                        generate ? "prompt" : "text", o->n_prompt, l->limit,
                        generate ? ", so that no room is left for an answer" : "",
                        generate ? "prompt" : "text");
    return srn__check_ids(o->prompt, o->n_prompt, l->n_vocab, "token", err);
}

static int check_stops(const srn__lane *l, const srn_request_opts *o, srn_err *err) {
    if (o->n_stops > SRN__MAX_STOPS)
        return srn_fail(err, SRN_EINVAL, "%u stop texts were given; at most %u can be", o->n_stops,
                        SRN__MAX_STOPS);
    for (uint32_t i = 0; i < o->n_stops; i++)
        if (o->stops[i].len == 0 || o->stops[i].len > MAX_STOP_BYTES)
            return srn_fail(err, SRN_EINVAL, "stop text %u has %zu bytes; 1 to %u can be searched for", i,
                            o->stops[i].len, MAX_STOP_BYTES);
    if (o->n_stop_tokens > MAX_STOP_TOKENS)
        return srn_fail(err, SRN_EINVAL, "%u stop tokens were given; at most %u can be", o->n_stop_tokens,
                        MAX_STOP_TOKENS);
    return srn__check_ids(o->stop_tokens, o->n_stop_tokens, l->n_vocab, "stop token", err);
}

static int check_generate(const srn__lane *l, const srn_request_opts *o, srn_err *err) {
    int code = srn_sampling_check(&o->sampling, err);
    if (!code) code = srn_sampling_check_ids(&o->sampling, l->n_vocab, err);
    if (!code) code = check_stops(l, o, err);
    if (code) return code;
    if (o->n_top > MAX_TOP)
        return srn_fail(err, SRN_EINVAL, "%u alternatives of each token were asked for; at most %u can be",
                        o->n_top, MAX_TOP);
    if (o->n_rows > o->n_prompt)
        return srn_fail(err, SRN_EINVAL, "rows after %u tokens were asked for, and the prompt has %u",
                        o->n_rows, o->n_prompt);
    if (o->constraint && !o->trie)
        return srn_fail(err, SRN_EINVAL, "a constraint needs the trie of the vocabulary's tokens");
    if (!l->vocab && (!o->ignore_eog || o->constraint || o->n_stops))
        return srn_fail(err, SRN_EUNSUP,
                        "the model's tokenizer is not known, so that neither the end of an answer nor its "
                        "text can be found; only answers of max_tokens with ignore_eog can be had");
    return SRN_OK;
}

static int check_opts(const srn__lane *l, const srn_request_opts *o, srn_err *err) {
    if (o->kind != SRN_REQUEST_GENERATE && o->kind != SRN_REQUEST_EMBED)
        return srn_fail(err, SRN_EINVAL, "there is no kind of request %d", (int)o->kind);
    int code = check_room(l, o, err);
    if (!code && o->kind == SRN_REQUEST_GENERATE) code = check_generate(l, o, err);
    return code;
}

int srn__lane_find(srn_scheduler *s, const srn_engine *e, srn__lane **ret, srn_err *err) {
    for (srn__lane *l = s->lanes; l; l = l->next) {
        if (l->e != e) continue;
        if (l->leaving || s->stop)
            return srn_fail(err, SRN_EBUSY, "the model is being taken out and takes no more requests");
        *ret = l;
        return SRN_OK;
    }
    return srn_fail(err, SRN_EINVAL, "the engine was not given to this scheduler");
}

/* A submit is over: there may be requests, and a lane that is taken out may have waited for it. Under the
 * lock. */
static void leave_lane(srn_scheduler *s, srn__lane *l) {
    l->n_users--;
    pthread_cond_signal(&s->wake);
}

/* How many requests wait that count against one of these; under the lock. */
static uint32_t n_before(const srn_scheduler *s, const srn__lane *l, const srn_request_opts *o) {
    return o->again ? 0 : o->apart ? l->published_waiting + l->n_inbox : s->n_waiting;
}

/* Puts requests into the inbox, all or none. */
static int post(srn_scheduler *s, srn__lane *l, srn_request **r, uint32_t n, srn_err *err) {
    pthread_mutex_lock(&s->lock);
    int code = SRN_OK;
    if (l->leaving || s->stop)
        code = srn_fail(err, SRN_EBUSY, "the model is being taken out and takes no more requests");
    else if (n > s->o.max_queue)
        code = srn_fail(err, SRN_ELIMIT,
                        "%u answers at once were asked for, and the queue holds %u in all; ask for fewer", n,
                        s->o.max_queue);
    else if (n_before(s, l, &r[0]->o) > s->o.max_queue - n)
        code = srn_fail(err, SRN_EBUSY, "%u requests wait already, and the queue holds %u; try again later",
                        n_before(s, l, &r[0]->o), s->o.max_queue);
    uint64_t now = s->o.now_us();
    for (uint32_t i = 0; !code && i < n; i++) {
        r[i]->s = s;
        r[i]->serial = ++s->n_submitted;
        r[i]->status.submitted_us = now;
        *s->inbox_end = r[i];
        s->inbox_end = &r[i]->next;
    }
    if (!code) {
        s->n_waiting += n;
        l->n_inbox += n;
        uint64_t asleep = 0;
        atomic_compare_exchange_strong(&s->alive_us, &asleep, SRN_MAX(now, 1u));
    }
    leave_lane(s, l);
    pthread_mutex_unlock(&s->lock);
    return code;
}

uint64_t srn__salt_of(const srn_scheduler *s, uint64_t tenant, uint64_t cache_salt) {
    uint64_t parts[2] = {tenant, cache_salt};
    return srn_hash(s->salt_seed, (srn_str){(const char *)parts, sizeof parts});
}

int srn_request_submit(srn_scheduler *s, srn_engine *e, const srn_request_opts *opts, uint32_t n_requests,
                       srn_request **ret, srn_err *err) {
    if (n_requests == 0 || n_requests > MAX_CHOICES)
        return srn_fail(err, SRN_EINVAL, "%u requests at once were asked for; 1 to %u can be", n_requests,
                        MAX_CHOICES);
    srn__lane *l = NULL;
    pthread_mutex_lock(&s->lock);
    int code = srn__lane_find(s, e, &l, err);
    if (!code) l->n_users++; /* keeps the lane until the requests are posted */
    pthread_mutex_unlock(&s->lock);
    if (code) return code;
    srn_request *made[MAX_CHOICES];
    uint32_t n = 0;
    for (; !code && n < n_requests; n += code ? 0 : 1) {
        code = check_opts(l, &opts[n], err);
        if (!code) code = new_request(l, &opts[n], &made[n], err);
        if (!code) made[n]->salt = srn__salt_of(s, opts[n].tenant, opts[n].cache_salt);
    }
    if (!code) {
        code = post(s, l, made, n, err);
    } else {
        pthread_mutex_lock(&s->lock);
        leave_lane(s, l);
        pthread_mutex_unlock(&s->lock);
    }
    if (code)
        while (n) free_request(made[--n]);
    else
        memcpy(ret, made, n * sizeof *ret);
    return code;
}

/* ---- what holders do ---- */

void srn_request_cancel(srn_request *r) {
    if (r) atomic_store(&r->cancelled, true);
}

void srn_request_release(srn_request *r) {
    if (!r) return;
    atomic_store(&r->cancelled, true);
    pthread_mutex_lock(&r->bell);
    r->released = true;
    pthread_mutex_unlock(&r->bell);
    srn__request_drop(r);
}

uint32_t srn_request_read(srn_request *r, uint64_t text_from, srn_buf *text, uint32_t token_from,
                          srn_out_token *tokens, srn_top_token *tops, uint32_t cap, srn_request_status *ret) {
    pthread_mutex_lock(&r->lock);
    if (text && r->stream) {
        srn_str all = srn_stream_text(r->stream);
        if (text_from < all.len) srn_buf_add(text, all.ptr + text_from, all.len - (size_t)text_from);
    }
    uint32_t n = token_from < r->n_certain ? SRN_MIN(cap, r->n_certain - token_from) : 0, n_top = r->o.n_top;
    if (tokens && n) memcpy(tokens, r->out + token_from, n * sizeof *tokens);
    if (tops && n && n_top)
        memcpy(tops, r->tops + (size_t)token_from * n_top, (size_t)n * n_top * sizeof *tops);
    if (ret) *ret = r->status;
    pthread_mutex_unlock(&r->lock);
    return n;
}

static bool is_done(const srn_request *r) {
    srn_request *w = (srn_request *)(uintptr_t)r;
    pthread_mutex_lock(&w->lock);
    bool done = r->status.state == SRN_REQUEST_DONE && r->status.code == SRN_OK;
    pthread_mutex_unlock(&w->lock);
    return done;
}

const float *srn_request_prompt_logprobs(const srn_request *r, const srn_top_token **ret_tops) {
    bool done = is_done(r);
    if (ret_tops) *ret_tops = done ? r->prompt_tops : NULL;
    return done ? r->prompt_logprobs : NULL;
}

const float *srn_request_rows(const srn_request *r) {
    return is_done(r) ? r->rows : NULL;
}

const float *srn_request_embedding(const srn_request *r) {
    return is_done(r) ? r->embedding : NULL;
}

/* ---- news: the thread's ---- */

void srn__request_touch(srn_request *r) {
    if (r->touched) return;
    r->touched = true;
    r->touched_next = r->s->touched;
    r->s->touched = r;
}

void srn__request_notify_all(srn_scheduler *s) {
    bool tell = s->touched && s->o.notifying;
    if (tell) s->o.notifying(s->o.notifying_ctx, true);
    for (srn_request *r = s->touched, *next; r; r = next) {
        next = r->touched_next;
        r->touched = false;
        pthread_mutex_lock(&r->bell);
        if (r->o.notify && !r->released) r->o.notify(r->o.notify_ctx);
        pthread_mutex_unlock(&r->bell);
        if (r->ended) srn__request_drop(r);
    }
    s->touched = NULL;
    if (tell) s->o.notifying(s->o.notifying_ctx, false);
}
