/* What runs replays: a model with a scheduler of its own, or one of a running server, behind all its other
 * work. Each request has a thread that waits for it; a cancellation ends them all.
 */
#include <stdlib.h>
#include <time.h>

#include "serve/replay_internal.h"

enum { PARALLEL = 8, WINDOW_BYTES = 32 << 20 };

/* ---- one request ---- */

static void wake(void *run) {
    srn__replay_run *x = run;
    pthread_mutex_lock(&x->lock);
    x->woken = true;
    pthread_cond_signal(&x->changed);
    pthread_mutex_unlock(&x->lock);
}

static int submit(srn__replay_run *x, const srn_request_opts *given, srn_err *err) {
    srn_replayer *r = x->replayer;
    srn_request_opts o = *given;
    int code = SRN_OK;
    o.notify = wake;
    o.notify_ctx = x;
    if (r->borrowed) {
        o.priority = SRN_PRIORITY_BACKGROUND;
        o.tenant = UINT64_MAX;
        o.no_cache = true;
    }
    pthread_mutex_lock(&r->lock);
    if (r->cancelled) code = srn_fail(err, SRN_ECANCELLED, "it was cancelled");
    if (!code) code = srn_request_submit(r->scheduler, r->served->engine, &o, 1, &x->request, err);
    if (!code) {
        x->next = r->runs;
        r->runs = x;
    }
    pthread_mutex_unlock(&r->lock);
    return code;
}

static void wait_done(srn__replay_run *x) {
    for (;;) {
        srn_request_read(x->request, 0, NULL, 0, NULL, NULL, 0, &x->status);
        if (x->status.state == SRN_REQUEST_DONE) return;
        pthread_mutex_lock(&x->lock);
        while (!x->woken) pthread_cond_wait(&x->changed, &x->lock);
        x->woken = false;
        pthread_mutex_unlock(&x->lock);
    }
}

int srn__replay_run_request(srn__replay_run *x, srn_replayer *r, const srn_request_opts *o, srn_err *err) {
    const struct timespec nap = {0, 50000000};
    *x = (srn__replay_run){.replayer = r};
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->changed, NULL);
    int code = submit(x, o, err);
    while (code == SRN_EBUSY && r->borrowed &&
           !atomic_load(&r->served->leaving)) { /* others fill the queue */
        nanosleep(&nap, NULL);
        code = submit(x, o, err);
    }
    if (code) return code;
    wait_done(x);
    if (x->status.code) *err = x->status.err;
    return x->status.code;
}

void srn__replay_run_done(srn__replay_run *x) {
    srn_replayer *r = x->replayer;
    if (x->request) {
        pthread_mutex_lock(&r->lock);
        for (srn__replay_run **p = &r->runs; *p; p = &(*p)->next)
            if (*p == x) {
                *p = x->next;
                break;
            }
        pthread_mutex_unlock(&r->lock);
        srn_request_release(x->request);
    }
    pthread_cond_destroy(&x->changed);
    pthread_mutex_destroy(&x->lock);
}

static void cancel(srn_answerer *a) {
    srn_replayer *r = (srn_replayer *)a;
    pthread_mutex_lock(&r->lock);
    r->cancelled = true;
    for (srn__replay_run *x = r->runs; x; x = x->next) srn_request_cancel(x->request);
    pthread_mutex_unlock(&r->lock);
}

/* ---- rows ---- */

static int rows(srn_answerer *a, const int32_t *tokens, uint32_t n, uint32_t n_rows, float *ret,
                srn_err *err) {
    srn_replayer *r = (srn_replayer *)a;
    srn__replay_run x;
    const srn_request_opts o = {.prompt = tokens,
                                .n_prompt = n,
                                .sampling = srn_sampling_default(),
                                .max_tokens = 1,
                                .ignore_eog = true,
                                .n_rows = n_rows};
    int code = srn__replay_run_request(&x, r, &o, err);
    if (!code) memcpy(ret, srn_request_rows(x.request), (size_t)n_rows * a->n_vocab * sizeof *ret);
    srn__replay_run_done(&x);
    return code;
}

int srn_answerers_diverge(srn_answerer *a, srn_answerer *b, const int32_t *tokens, uint32_t n, uint32_t first,
                          srn_divergence *ret, srn_err *err) {
    const uint32_t vocab = a->n_vocab;
    if (b->n_vocab != vocab)
        return srn_fail(err, SRN_EINVAL, "the models have vocabularies of different sizes");
    if (first < 1 || first >= n)
        return srn_fail(err, SRN_EINVAL, "there is no token to compare: %u tokens, from the %u-th on", n,
                        first);
    const uint32_t window = SRN_MAX(8u, SRN_MIN(256u, WINDOW_BYTES / (vocab * (uint32_t)sizeof(float))));
    const size_t bytes = (size_t)window * vocab * sizeof(float);
    float *rows_a = srn_pages_alloc(bytes), *rows_b = srn_pages_alloc(bytes);
    srn_divergence d = {0};
    int code = rows_a && rows_b ? SRN_OK : srn_fail_nomem(err, 2 * bytes);
    for (uint32_t at = first; !code && at < n; at += window) {
        uint32_t now = SRN_MIN(window, n - at); /* tokens at .. at + now - 1 follow these rows */
        code = a->rows(a, tokens, at + now - 1, now, rows_a, err);
        if (!code) code = b->rows(b, tokens, at + now - 1, now, rows_b, err);
        for (uint32_t i = 0; !code && i < now; i++)
            srn_divergence_add(&d, rows_a + (size_t)i * vocab, rows_b + (size_t)i * vocab, vocab,
                               tokens[at + i]);
    }
    srn_pages_free(rows_a, bytes);
    srn_pages_free(rows_b, bytes);
    if (!code) *ret = d;
    return code;
}

json_t *srn_divergence_json(const srn_divergence *d) {
    if (!d->n) return json_null();
    return json_pack("{s:I, s:f, s:f, s:I, s:f}", "tokens", (json_int_t)d->n, "mean", d->sum / d->n, "max",
                     d->max, "max_at", (json_int_t)d->max_at, "top1", (double)d->n_same_top / d->n);
}

/* ---- life ---- */

static void close_answerer(srn_answerer *a) {
    srn_replayer_close((srn_replayer *)a);
}

static int new_replayer(srn_prompts *prompts, srn_replayer **ret, srn_err *err) {
    srn_replayer *r = srn_calloc(1, sizeof *r);
    if (!r) return srn_fail_nomem(err, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    srn_config_init(&r->config);
    srn_config_limits *l = &r->config.limits; /* what a server let through passes here */
    l->messages = l->tools = 1000000;
    l->stops = 64;
    l->choices = 128;
    l->json_depth = 256;
    l->schema_bytes = 16u << 20;
    r->prompts = prompts;
    r->answerer.answer = srn__replay_answer;
    r->answerer.rows = rows;
    r->answerer.cancel = cancel;
    r->answerer.close = close_answerer;
    *ret = r;
    return SRN_OK;
}

static void has_model(srn_replayer *r, srn__served *v) {
    r->served = v;
    r->answerer.ids = &v->ids;
    r->answerer.n_vocab = srn_engine_get_info(v->engine).n_vocab;
}

int srn_replayer_open(const srn_replayer_opts *o, srn_replayer **ret, srn_err *err) {
    srn_replayer *r;
    srn__served *v;
    bool later = false;
    int code = new_replayer(o->prompts, &r, err);
    if (code) return code;
    r->model = (srn_config_model){.name = o->model,
                                  .path = o->model,
                                  .kv_type = o->kv,
                                  .ctx = o->ctx,
                                  .threads = o->threads,
                                  .parallel = o->parallel ? o->parallel : PARALLEL};
    r->config.models = &r->model;
    r->config.n_models = 1;
    code = srn_scheduler_new(NULL, &r->scheduler, err);
    if (!code) code = srn__models_new(&r->config, r->scheduler, NULL, NULL, &r->models, err);
    if (!code) code = srn__models_load_all(r->models, o->progress, o->progress_ctx, err);
    if (!code) code = srn__models_get(r->models, NULL, NULL, NULL, NULL, &v, &later, err);
    if (code) {
        srn_replayer_close(r);
        return code;
    }
    has_model(r, v);
    *ret = r;
    return SRN_OK;
}

int srn__replayer_borrow(srn_scheduler *s, srn__served *v, srn_prompts *prompts, srn_replayer **ret,
                         srn_err *err) {
    srn_replayer *r;
    int code = new_replayer(prompts, &r, err);
    if (code) {
        srn__served_put(v);
        return code;
    }
    r->borrowed = true;
    r->scheduler = s;
    has_model(r, v);
    *ret = r;
    return SRN_OK;
}

void srn_replayer_close(srn_replayer *r) {
    if (!r) return;
    srn__served_put(r->served);
    if (!r->borrowed) {
        srn__models_free(r->models);
        srn_scheduler_free(r->scheduler);
    }
    r->config.models = NULL; /* not the arena's */
    srn_config_done(&r->config);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

srn_answerer *srn_replayer_answerer(srn_replayer *r) {
    return &r->answerer;
}

const srn_weights *srn_replayer_weights(const srn_replayer *r) {
    return srn_engine_weights(r->served->engine);
}
