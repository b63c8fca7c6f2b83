/* Judges the answers of one model by another beside a load of requests, and prints a JSON line: what each
 * answer came to, what share of the step tokens that took, and how the load fared.
 *
 * usage: judge_tool BASELINE CANARY [CLIENTS [ANSWERS [TOKENS [SHARE]]]]
 *
 * CLIENTS requests (8) run on the baseline all the time, of TOKENS tokens each (64), until ANSWERS answers
 * (8) of the canary, written meanwhile, have been judged at SHARE of the step tokens (0.05). With SHARE 0
 * nothing is judged, and as many requests run as would have. Every prompt is another one.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/judge.h"

enum { MOST = 4096, MOST_TOKENS = 1024, MOST_CLIENTS = 64 };

typedef struct answer {
    srn_request *r;
    srn_judge *job;
    srn_judge_result result;
    int32_t tokens[MOST_TOKENS];
    uint32_t n, first;
} answer;

typedef struct tool {
    srn_engine *e[2];
    srn_scheduler *s;
    srn_request *clients[MOST_CLIENTS];
    answer *answers;
    uint32_t n_clients, n_answers, n_tokens, n_sent;
    double share;
    uint64_t produced, *gaps;
    size_t n_gaps, max_gaps;
    pthread_mutex_t lock;
    pthread_cond_t rung;
    uint64_t bells;
} tool;

static void ring(void *ctx) {
    tool *t = ctx;
    pthread_mutex_lock(&t->lock);
    t->bells++;
    pthread_cond_signal(&t->rung);
    pthread_mutex_unlock(&t->lock);
}

static void die(const srn_err *err) {
    fprintf(stderr, "judge_tool: %s\n", err->text);
    exit(1);
}

/* A prompt that no other is like; its tokens are the caller's to free. */
static int32_t *prompt_of(tool *t, uint32_t *ret_n) {
    static const char *const about[] = {"foxes",           "the tides of the sea", "old bridges",
                                        "a winter train",  "small harbours",       "the colour red",
                                        "how bread rises", "owls at night"};
    char text[256];
    srn_err err = {0};
    int32_t *ids;
    uint32_t k = t->n_sent++;
    snprintf(text, sizeof text,
             "Letter %u. In this letter of %u I shall tell you all that I know about %s. First,", k,
             1700 + k % 300, about[k % SRN_LEN(about)]);
    if (srn_engine_tokenize(t->e[0], text, strlen(text), 0, &ids, ret_n, &err)) die(&err);
    return ids;
}

static srn_request *send(tool *t, int arm, answer *a) {
    uint32_t n;
    srn_err err = {0};
    srn_request *r;
    int32_t *prompt = prompt_of(t, &n);
    srn_request_opts o = {.prompt = prompt,
                          .n_prompt = n,
                          .sampling = srn_sampling_default(),
                          .max_tokens = t->n_tokens,
                          .ignore_eog = true,
                          .cache_salt = (uint64_t)arm,
                          .notify = ring,
                          .notify_ctx = t};
    o.sampling.seed = t->n_sent;
    if (a) memcpy(a->tokens, prompt, n * sizeof *prompt), a->first = a->n = n;
    if (srn_request_submit(t->s, t->e[arm], &o, 1, &r, &err)) die(&err);
    free(prompt);
    return r;
}

/* Takes what a request has written if it is done. */
static bool take_done(tool *t, srn_request *r, answer *a) {
    static srn_out_token out[MOST_TOKENS];
    srn_request_status st;
    uint32_t n = srn_request_read(r, 0, NULL, 0, out, NULL, MOST_TOKENS, &st);
    if (st.state != SRN_REQUEST_DONE) return false;
    if (st.code) die(&st.err);
    for (uint32_t i = 0; a && i < n && a->n < MOST_TOKENS; i++) a->tokens[a->n++] = out[i].id;
    for (uint32_t i = 1; !a && i < n && t->n_gaps < t->max_gaps; i++)
        t->gaps[t->n_gaps++] = out[i].at_us - out[i - 1].at_us;
    if (!a) t->produced += n;
    srn_request_release(r);
    return true;
}

static void step_answer(tool *t, answer *a) {
    srn_err err = {0};
    if (a->r && take_done(t, a->r, a)) {
        a->r = NULL;
        srn_judge_opts o = {.tokens = a->tokens,
                            .n = a->n,
                            .first = a->first,
                            .share = t->share,
                            .cache_salt = {0, 1},
                            .notify = ring,
                            .notify_ctx = t};
        if (t->share > 0 && srn_judge_submit(t->s, t->e[0], t->e[1], &o, &a->job, &err)) die(&err);
    }
    if (!a->job) return;
    srn_judge_read(a->job, &a->result);
    if (a->result.state != SRN_JUDGE_DONE) return;
    if (a->result.code) die(&a->result.err);
    srn_judge_release(a->job);
    a->job = NULL;
}

static bool all_judged(const tool *t) {
    for (uint32_t i = 0; i < t->n_answers; i++)
        if (t->answers[i].r || t->answers[i].job) return false;
    return true;
}

static void run(tool *t) {
    for (uint32_t i = 0; i < t->n_clients; i++) t->clients[i] = send(t, 0, NULL);
    for (uint32_t i = 0; i < t->n_answers; i++) t->answers[i].r = send(t, 1, &t->answers[i]);
    /* Without judging: as many tokens as the share of what is judged would have taken with it. */
    uint64_t enough = t->share > 0 ? 0 : (uint64_t)t->n_answers * t->n_tokens * 40, seen = 0;
    while (!all_judged(t) || t->produced < enough) {
        for (uint32_t i = 0; i < t->n_clients; i++)
            if (take_done(t, t->clients[i], NULL)) t->clients[i] = send(t, 0, NULL);
        for (uint32_t i = 0; i < t->n_answers; i++) step_answer(t, &t->answers[i]);
        pthread_mutex_lock(&t->lock);
        while (seen == t->bells) pthread_cond_wait(&t->rung, &t->lock);
        seen = t->bells;
        pthread_mutex_unlock(&t->lock);
    }
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double gap_ms(const tool *t, double q) {
    return t->n_gaps ? (double)t->gaps[(size_t)(q * (double)(t->n_gaps - 1))] / 1000 : 0;
}

static void print(tool *t, const srn_judge_stats *st, const srn_engine_stats *es, double seconds) {
    printf("{\"answers\": [");
    for (uint32_t i = 0; i < t->n_answers; i++) {
        const srn_divergence *d = &t->answers[i].result.d;
        printf("%s{\"tokens\": %u, \"jsd\": %.17g, \"max_jsd\": %.17g, \"kl\": %.17g, \"same_top\": %u, "
               "\"cached\": [%u, %u]}",
               i ? ", " : "", d->n, d->sum_jsd, d->max_jsd, d->sum, d->n_same_top,
               t->answers[i].result.n_cached[0], t->answers[i].result.n_cached[1]);
    }
    qsort(t->gaps, t->n_gaps, sizeof *t->gaps, by_size);
    printf("], \"judged_tokens\": %llu, \"judge_computed\": %llu, \"busy_tokens\": %llu, "
           "\"production_tokens\": %llu, \"starved\": %llu, \"judge_us\": %llu, \"compare_us\": %llu, ",
           (unsigned long long)st->n_compared, (unsigned long long)st->tokens,
           (unsigned long long)st->busy_tokens, (unsigned long long)st->production_tokens,
           (unsigned long long)st->n_starved, (unsigned long long)st->step_us,
           (unsigned long long)st->compare_us);
    printf("\"judge_steps\": %llu, \"load\": {\"tokens\": %llu, \"seconds\": %.3f, \"steps\": %llu, "
           "\"step_us\": %llu, \"gap_ms\": [%.2f, %.2f, %.2f]}}\n",
           (unsigned long long)st->n_steps, (unsigned long long)t->produced, seconds,
           (unsigned long long)es->n_steps, (unsigned long long)es->step_us, gap_ms(t, 0.5), gap_ms(t, 0.95),
           gap_ms(t, 0.99));
}

static double number(int argc, char **argv, int i, double otherwise) {
    return argc > i ? strtod(argv[i], NULL) : otherwise;
}

int main(int argc, char **argv) {
    srn_err err = {0};
    if (argc < 3) {
        fprintf(stderr, "usage: judge_tool BASELINE CANARY [CLIENTS [ANSWERS [TOKENS [SHARE]]]]\n");
        return 1;
    }
    tool t = {.n_clients = (uint32_t)number(argc, argv, 3, 8),
              .n_answers = (uint32_t)number(argc, argv, 4, 8),
              .n_tokens = (uint32_t)number(argc, argv, 5, 64),
              .share = number(argc, argv, 6, 0.05),
              .max_gaps = 1 << 20};
    if (t.n_clients > MOST_CLIENTS || t.n_answers > MOST || t.n_tokens > MOST_TOKENS / 2) return 1;
    pthread_mutex_init(&t.lock, NULL);
    pthread_cond_init(&t.rung, NULL);
    t.answers = srn_calloc(SRN_MAX(t.n_answers, 1u), sizeof *t.answers);
    t.gaps = srn_calloc(t.max_gaps, sizeof *t.gaps);
    srn_engine_opts eo = {.n_ctx = 1024, .max_seqs = SRN_MAX(t.n_clients, 8u), .threads = 0};
    for (int k = 0; k < 2; k++)
        if (srn_engine_open(argv[1 + k], &eo, &t.e[k], &err)) die(&err);
    if (srn_judge_comparable(t.e[0], t.e[1], &err)) die(&err);
    if (srn_scheduler_new(&(srn_scheduler_opts){.max_judges = MOST}, &t.s, &err)) die(&err);
    for (int k = 0; k < 2; k++)
        if (srn_scheduler_add(t.s, t.e[k], &err)) die(&err);
    uint64_t start = srn_now_us();
    run(&t);
    double seconds = (double)(srn_now_us() - start) / 1e6;
    srn_judge_stats st;
    srn_engine_stats es;
    srn_scheduler_judge_stats(t.s, &st);
    srn_scheduler_stats(t.s, t.e[0], &es);
    print(&t, &st, &es, seconds);
    for (uint32_t i = 0; i < t.n_clients; i++) srn_request_release(t.clients[i]);
    srn_scheduler_free(t.s);
    for (int k = 0; k < 2; k++) srn_engine_close(t.e[k]);
    free(t.answers);
    free(t.gaps);
    return 0;
}
