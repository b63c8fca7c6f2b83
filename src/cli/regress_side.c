/* serin regress --as-side: answers another serin, which compares builds (regress_program.c). Lines of JSON
 * come on standard input and go to standard output (serve/side.h); several workers take lines and answer,
 * each when it is ready. It ends when there are no more lines. A line that is not of the protocol ends it
 * with 2.
 */
#include <pthread.h>
#include <stdlib.h>

#include "cli/regress.h"
#include "serve/side.h"

typedef struct side {
    srn_replayer *replayer;
    srn_prompts *prompts;
    pthread_mutex_t read, write; /* one line at a time */
    bool failed;                 /* under read */
} side;

static void say(side *s, srn_buf *line) {
    pthread_mutex_lock(&s->write);
    if (!line->failed) fwrite(line->data, 1, line->len, stdout);
    fflush(stdout);
    pthread_mutex_unlock(&s->write);
    srn_buf_done(line);
}

static void say_failed(side *s, uint32_t id, const srn_err *why) {
    srn_buf line;
    srn_buf_init(&line, 1 << 20);
    srn_side_put_failed(&line, id, why);
    say(s, &line);
}

/* The next line; false: there is none, or it is no request. */
static bool next_request(side *s, srn_side_request *ret) {
    char *text = NULL;
    size_t cap = 0;
    srn_err err = {0};
    pthread_mutex_lock(&s->read);
    ssize_t n = s->failed ? -1 : getline(&text, &cap, stdin);
    bool good = n > 0 && srn_side_read_request((srn_str){text, (size_t)n}, ret, &err) == SRN_OK;
    if (n > 0 && !good) {
        s->failed = true;
        srn_cli_error("regress", &err);
    }
    pthread_mutex_unlock(&s->read);
    free(text);
    return good;
}

/* ---- answers ---- */

static void answer(side *s, const srn_side_request *q) {
    srn_answerer *a = srn_replayer_answerer(s->replayer);
    srn_replay_answer r = {0};
    srn_err err = {0};
    srn_buf line;
    if (a->answer(a, &q->ask, &r, &err)) return say_failed(s, q->id, &err);
    srn_buf_init(&line, SRN_SIDE_LINE);
    srn_side_put_answer(&line, q->id, &r);
    srn_replay_answer_done(&r);
    if (line.failed) {
        srn_buf_done(&line);
        srn_fail(&err, SRN_ELIMIT, "the answer is too long for a line");
        return say_failed(s, q->id, &err);
    }
    say(s, &line);
}

static void tell_rows(side *s, const srn_side_request *q) {
    srn_answerer *a = srn_replayer_answerer(s->replayer);
    const uint64_t n = (uint64_t)q->n_rows * a->n_vocab;
    srn_err err = {0};
    srn_buf line;
    float *v = n < SRN_SIDE_LINE / 6 ? srn_calloc((size_t)n, sizeof *v) : NULL;
    int code =
        v ? a->rows(a, q->tokens, q->n_tokens, q->n_rows, v, &err) : srn_fail_nomem(&err, SRN_SIDE_LINE);
    if (code) {
        say_failed(s, q->id, &err);
    } else {
        srn_buf_init(&line, SRN_SIDE_LINE);
        srn_side_put_values(&line, q->id, v, (uint32_t)n);
        say(s, &line);
    }
    free(v);
}

static void *work(void *ctx) {
    side *s = ctx;
    srn_side_request q;
    while (next_request(s, &q)) {
        srn_err err = {0};
        if (q.word == SRN_SIDE_ASK)
            answer(s, &q);
        else if (q.word == SRN_SIDE_ROWS)
            tell_rows(s, &q);
        else
            srn_fail(&err, SRN_EFORMAT, "the model is open already"), say_failed(s, 0, &err);
        srn_side_request_done(&q);
    }
    return NULL;
}

/* ---- life ---- */

static void progress(void *ctx, const char *what, uint64_t done, uint64_t total) {
    srn_buf line;
    srn_buf_init(&line, 4096);
    srn_side_put_progress(&line, what, done, total);
    say(ctx, &line);
}

static int open_model(side *s, const srn_side_request *q, srn_err *err) {
    srn_err none;
    srn_buf line;
    if (q->ledger && srn_prompts_read(q->ledger, q->keys, &s->prompts, &none)) s->prompts = NULL;
    const srn_replayer_opts o = {.model = q->model,
                                 .kv = q->kv,
                                 .threads = q->threads,
                                 .ctx = q->ctx,
                                 .parallel = q->parallel,
                                 .prompts = s->prompts,
                                 .progress = progress,
                                 .progress_ctx = s};
    int code = srn_replayer_open(&o, &s->replayer, err);
    if (code) return code;
    const srn_answerer *a = srn_replayer_answerer(s->replayer);
    srn_buf_init(&line, 1 << 20);
    srn_side_put_opened(&line, a->ids, a->n_vocab);
    say(s, &line);
    return SRN_OK;
}

static void run(side *s) {
    pthread_t threads[SRN_REGRESS_WORKERS];
    size_t n = 0;
    while (n < SRN_REGRESS_WORKERS && pthread_create(&threads[n], NULL, work, s) == 0) n++;
    if (n == 0) work(s);
    for (size_t i = 0; i < n; i++) pthread_join(threads[i], NULL);
}

int srn__regress_as_side(void) {
    side s = {.read = PTHREAD_MUTEX_INITIALIZER, .write = PTHREAD_MUTEX_INITIALIZER};
    srn_side_request q;
    srn_err err = {0};
    srn_buf line;
    srn_buf_init(&line, 4096);
    srn_side_put_hello(&line);
    say(&s, &line);
    if (next_request(&s, &q)) {
        int code = q.word == SRN_SIDE_OPEN ? open_model(&s, &q, &err)
                                           : srn_fail(&err, SRN_EFORMAT, "the first line must be 'open'");
        srn_side_request_done(&q);
        if (code)
            say_failed(&s, 0, &err);
        else
            run(&s);
    }
    srn_replayer_close(s.replayer);
    srn_prompts_close(s.prompts);
    return s.failed ? 2 : 0;
}
