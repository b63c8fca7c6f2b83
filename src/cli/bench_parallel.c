/* serin bench --parallel: the engine with several requests at once, without a server before it. Each of N
 * clients sends its next request as soon as its last is answered; their prompts have nothing in common. With
 * --long-prompt the clients run on while one long prompt is read beside them, and the gaps between their
 * tokens before, meanwhile and after it are told apart. Main thread; the tokens are drawn greedily and never
 * end early.
 */
#include "cli/bench.h"

#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "engine/scheduler.h"

/* Gaps of each client before the long prompt arrives, and after it was read. */
#define QUIET_TOKENS 100u

typedef struct values {
    double *v;
    size_t n, cap;
} values;

typedef struct load {
    const srn_bench_parallel *b;
    srn_engine *e;
    srn_scheduler *s;
    srn_request **clients; /* [n]; NULL: has nothing more to ask */
    srn_request *lengthy;
    int32_t *tokens;    /* [max(prompt, long_prompt)] */
    srn_out_token *out; /* [most output] */
    uint32_t most_out, n_sent, n_done;
    uint64_t n_tokens, n_draft, n_accepted;
    uint64_t busy_us, end_us;                /* when the long prompt came, and was read */
    values ttft, gaps, quiet, beside, after; /* milliseconds */
    pthread_mutex_t lock;
    pthread_cond_t news;
    uint64_t n_news; /* guarded by lock */
} load;

static void notify(void *ctx) {
    load *l = ctx;
    pthread_mutex_lock(&l->lock);
    l->n_news++;
    pthread_cond_signal(&l->news);
    pthread_mutex_unlock(&l->lock);
}

static bool add(values *a, double v) {
    if (a->n == a->cap) {
        size_t cap = a->cap ? 2 * a->cap : 1024;
        double *more = srn_realloc_array(a->v, cap, sizeof *more);
        if (!more) return false;
        a->v = more;
        a->cap = cap;
    }
    a->v[a->n++] = v;
    return true;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(values *a, double q) {
    if (!a->n) return 0;
    qsort(a->v, a->n, sizeof *a->v, ascending);
    size_t i = (size_t)(q * (double)a->n);
    return a->v[SRN_MIN(i, a->n - 1)];
}

static int send(load *l, int64_t n_prompt, uint32_t max_tokens, srn_request **ret, srn_err *err) {
    srn__bench_tokens(++l->n_sent, srn_engine_get_info(l->e).n_vocab, l->tokens, (size_t)n_prompt);
    srn_request_opts o = {.prompt = l->tokens,
                          .n_prompt = (uint32_t)n_prompt,
                          .sampling = srn_sampling_default(),
                          .max_tokens = max_tokens,
                          .ignore_eog = true,
                          .speculate = (uint32_t)l->b->speculate,
                          .notify = notify,
                          .notify_ctx = l};
    o.sampling.temperature = 0;
    return srn_request_submit(l->s, l->e, &o, 1, ret, err);
}

/* Takes the figures of an answer and lets it go. */
static int collect(load *l, srn_request *r, srn_err *err) {
    srn_request_status st;
    uint32_t n = srn_request_read(r, 0, NULL, 0, l->out, NULL, l->most_out, &st);
    bool ok = !st.first_token_us || add(&l->ttft, (double)(st.first_token_us - st.submitted_us) / 1e3);
    for (uint32_t i = 1; ok && i < n; i++) {
        uint64_t from = l->out[i - 1].at_us, to = l->out[i].at_us;
        double ms = (double)(to - from) / 1e3;
        ok = add(&l->gaps, ms);
        if (ok && i >= 2 && to <= l->busy_us) ok = add(&l->quiet, ms);
        if (ok && l->busy_us && to > l->busy_us && to <= l->end_us) ok = add(&l->beside, ms);
        if (ok && l->busy_us && from >= l->end_us) ok = add(&l->after, ms);
    }
    l->n_tokens += n;
    l->n_draft += st.n_draft;
    l->n_accepted += st.n_accepted;
    l->n_done++;
    srn_request_release(r);
    if (st.code && st.code != SRN_ECANCELLED) return srn_fail(err, st.code, "%s", st.err.text);
    return ok ? SRN_OK : srn_fail_nomem(err, sizeof(double) * l->gaps.cap);
}

static void wait_news(load *l, uint64_t *seen) {
    pthread_mutex_lock(&l->lock);
    while (l->n_news == *seen) pthread_cond_wait(&l->news, &l->lock);
    *seen = l->n_news;
    pthread_mutex_unlock(&l->lock);
}

static srn_request_status status_of(srn_request *r) {
    srn_request_status st;
    srn_request_read(r, 0, NULL, 0, NULL, NULL, 0, &st);
    return st;
}

/* Clients that ask again and again, until all requests are answered. */
static int run_clients(load *l, srn_err *err) {
    const srn_bench_parallel *b = l->b;
    uint64_t seen = 0;
    int code = SRN_OK;
    for (int64_t i = 0; !code && i < b->n; i++)
        code = send(l, b->prompt, (uint32_t)b->output, &l->clients[i], err);
    while (!code && l->n_done < b->requests) {
        wait_news(l, &seen);
        for (int64_t i = 0; !code && i < b->n; i++) {
            if (!l->clients[i] || status_of(l->clients[i]).state != SRN_REQUEST_DONE) continue;
            srn_request *done = l->clients[i];
            l->clients[i] = NULL;
            code = collect(l, done, err);
            if (!code && l->n_sent < b->requests)
                code = send(l, b->prompt, (uint32_t)b->output, &l->clients[i], err);
        }
        srn_cli_progress(NULL, "answering", l->n_done, (uint64_t)b->requests);
    }
    return code;
}

/* The fewest tokens that a client has got. */
static uint32_t fewest(load *l) {
    uint32_t n = UINT32_MAX;
    for (int64_t i = 0; i < l->b->n; i++) n = SRN_MIN(n, status_of(l->clients[i]).n_output);
    return n;
}

/* Clients that run on until a while after a long prompt was read beside them: their contexts, and so their
 * gaps, grow meanwhile. */
static int run_beside(load *l, srn_err *err) {
    const srn_bench_parallel *b = l->b;
    uint64_t seen = 0;
    int code = SRN_OK;
    for (int64_t i = 0; !code && i < b->n; i++) code = send(l, b->prompt, l->most_out, &l->clients[i], err);
    for (uint32_t until = UINT32_MAX; !code && (until == UINT32_MAX || fewest(l) < until);) {
        wait_news(l, &seen);
        uint32_t n = fewest(l);
        if (!l->lengthy && n >= QUIET_TOKENS) {
            l->busy_us = srn_now_us();
            code = send(l, b->long_prompt, 1, &l->lengthy, err);
        }
        if (until == UINT32_MAX && l->lengthy && status_of(l->lengthy).state == SRN_REQUEST_DONE)
            until = n + QUIET_TOKENS;
        for (int64_t i = 0; !code && i < b->n; i++)
            if (status_of(l->clients[i]).state == SRN_REQUEST_DONE)
                code = srn_fail(err, SRN_ECONTEXT,
                                "an answer was over too soon after the long prompt; ask for more --output");
    }
    if (code) return code;
    l->end_us = status_of(l->lengthy).first_token_us;
    for (int64_t i = 0; !code && i < b->n; i++) {
        srn_request *r = l->clients[i];
        l->clients[i] = NULL;
        srn_request_cancel(r);
        while (status_of(r).state != SRN_REQUEST_DONE) wait_news(l, &seen);
        code = collect(l, r, err);
    }
    return code;
}

static json_t *spread(values *a) {
    return json_pack("{s:f, s:f, s:f, s:f}", "p50", quantile(a, 0.5), "p95", quantile(a, 0.95), "p99",
                     quantile(a, 0.99), "max", quantile(a, 1));
}

static int print_json(load *l, double seconds, srn_err *err) {
    const srn_bench_parallel *b = l->b;
    srn_engine_info info = srn_engine_get_info(l->e);
    json_t *o = json_pack("{s:{s:s, s:i}, s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:o, s:o}", "machine",
                          "cpu", b->cpu, "threads", (int)info.threads, "model", b->name, "engine",
                          info.engine_id, "parallel", (json_int_t)b->n, "requests", (json_int_t)l->n_done,
                          "prompt_tokens", (json_int_t)b->prompt, "output_tokens", (json_int_t)l->n_tokens,
                          "seconds", seconds, "tok_per_s", (double)l->n_tokens / seconds, "ttft_ms",
                          spread(&l->ttft), "gap_ms", spread(&l->gaps));
    if (!o) return srn_fail(err, SRN_EINVAL, "the result cannot be written as JSON: the path is not UTF-8");
    srn_engine_stats st;
    srn_scheduler_stats(l->s, l->e, &st);
    json_object_set_new(o, "steps",
                        json_pack("{s:I, s:f, s:f}", "n", (json_int_t)st.n_steps, "forward_s",
                                  (double)st.step_us / 1e6, "draw_s", (double)st.sample_us / 1e6));
    if (b->speculate)
        json_object_set_new(
            o, "drafts",
            json_pack("{s:I, s:I}", "tokens", (json_int_t)l->n_draft, "accepted", (json_int_t)l->n_accepted));
    if (l->lengthy) {
        json_object_set_new(o, "gap_quiet_ms", spread(&l->quiet));
        json_object_set_new(o, "gap_beside_ms", spread(&l->beside));
        json_object_set_new(o, "gap_after_ms", spread(&l->after));
        json_object_set_new(o, "long_prompt",
                            json_pack("{s:I, s:f}", "tokens", (json_int_t)b->long_prompt, "ttft_ms",
                                      (double)(l->end_us - status_of(l->lengthy).submitted_us) / 1e3));
    }
    json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(o);
    putchar('\n');
    return SRN_OK;
}

static void print_row(const char *name, values *a) {
    printf("%-28s %9.1f %9.1f %9.1f %9.1f   ms\n", name, quantile(a, 0.5), quantile(a, 0.95),
           quantile(a, 0.99), quantile(a, 1));
}

static void print_table(load *l, double seconds) {
    const srn_bench_parallel *b = l->b;
    srn_engine_info info = srn_engine_get_info(l->e);
    printf("%s, %s, %" PRIu32 " threads, %s\n", b->name, info.engine_id, info.threads, b->cpu);
    printf("%" PRId64 " at once, %" PRIu32 " requests of %" PRId64 " tokens, %" PRIu64
           " tokens of answers in %.2f s: %.1f tokens per second\n",
           b->n, l->n_done, b->prompt, l->n_tokens, seconds, (double)l->n_tokens / seconds);
    printf("%-28s %9s %9s %9s %9s\n", "", "p50", "p95", "p99", "max");
    print_row("to the first token", &l->ttft);
    print_row("between tokens", &l->gaps);
    if (l->lengthy) {
        print_row("before the long prompt", &l->quiet);
        print_row("while it was read", &l->beside);
        print_row("after it", &l->after);
        printf("the long prompt of %" PRId64 " tokens was read in %.2f s\n", b->long_prompt,
               (double)(l->end_us - status_of(l->lengthy).submitted_us) / 1e6);
    }
    if (b->speculate)
        printf("drafts: %" PRIu64 " tokens, %" PRIu64 " of them right\n", l->n_draft, l->n_accepted);
}

static int open_load(load *l, srn_err *err) {
    const srn_bench_parallel *b = l->b;
    int64_t longest = SRN_MAX(b->prompt + b->output, b->long_prompt ? b->long_prompt + 1 : 0);
    srn_engine_opts o = {.threads = (uint32_t)b->threads,
                         .n_ctx = (uint32_t)longest,
                         .max_seqs = (uint32_t)(b->n + (b->long_prompt ? 1 : 0)),
                         .cache_tokens =
                             (uint64_t)(b->n * (b->prompt + b->output + 64) + b->long_prompt + 128),
                         .kv_type = b->kv,
                         .progress = srn_cli_progress};
    int code = srn_engine_open(b->path, &o, &l->e, err);
    if (code == SRN_EINVAL)
        srn_fail_prefix(err, code, "--prompt and --output, or --long-prompt, are the context");
    if (!code) code = srn_scheduler_new(NULL, &l->s, err);
    if (!code) code = srn_scheduler_add(l->s, l->e, err);
    if (code) return code;
    l->most_out = (uint32_t)b->output;
    l->clients = srn_calloc((size_t)b->n, sizeof(srn_request *));
    l->tokens = srn_calloc((size_t)SRN_MAX(b->prompt, b->long_prompt), sizeof *l->tokens);
    l->out = srn_calloc(l->most_out, sizeof *l->out);
    if (!l->clients || !l->tokens || !l->out) return srn_fail_nomem(err, l->most_out * sizeof *l->out);
    return SRN_OK;
}

static void close_load(load *l) {
    for (int64_t i = 0; l->clients && i < l->b->n; i++) srn_request_release(l->clients[i]);
    srn_request_release(l->lengthy);
    srn_scheduler_free(l->s);
    srn_engine_close(l->e);
    free(l->clients);
    free(l->tokens);
    free(l->out);
    free(l->ttft.v);
    free(l->gaps.v);
    free(l->quiet.v);
    free(l->beside.v);
    free(l->after.v);
    pthread_cond_destroy(&l->news);
    pthread_mutex_destroy(&l->lock);
}

int srn__bench_parallel(const srn_bench_parallel *b, srn_err *err) {
    load l = {.b = b};
    pthread_mutex_init(&l.lock, NULL);
    pthread_cond_init(&l.news, NULL);
    int code = open_load(&l, err);
    uint64_t start = srn_now_us();
    if (!code) code = b->long_prompt ? run_beside(&l, err) : run_clients(&l, err);
    double seconds = (double)SRN_MAX(srn_now_us() - start, 1u) / 1e6;
    if (!code && b->json) code = print_json(&l, seconds, err);
    if (!code && !b->json) print_table(&l, seconds);
    close_load(&l);
    return code;
}
