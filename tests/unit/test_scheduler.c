/* The scheduler on the tiny models: what a request gets does not depend on what else runs, to the bit; every
 * way to end; whose turn it is; what other threads may do at any time. Threads: pthread_create is the
 * scheduler's. Random numbers come from a printed seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine_internal.h"
#include "engine/scheduler.h"
#include "unit/long_model.h"

enum { MOST_TOP = 3, MOST_OUT = 256, MOST_PROMPT = 400 };

static uint64_t next_random(uint64_t *x) {
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return *x >> 33;
}

/* ---- a request alone, by a session ---- */

typedef struct answer {
    uint32_t n;
    int32_t ids[MOST_OUT];
    float logprobs[MOST_OUT];
    srn_top_token tops[MOST_OUT][MOST_TOP];
    int32_t end_token;
} answer;

static bool among(const int32_t *ids, uint32_t n, int32_t id) {
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

static void alone(srn_engine *e, const srn_request_opts *o, answer *a) {
    srn_session *s;
    srn_err err = {0};
    uint32_t n_vocab = srn_engine_get_info(e).n_vocab;
    if (srn_session_new(e, &s, &err) || srn_session_feed(s, o->prompt, o->n_prompt, NULL, &err))
        fail_msg("%s", err.text);
    *a = (answer){.end_token = -1};
    while (a->n < o->max_tokens) {
        int32_t id = srn__session_draw(s, &o->sampling, o->n_prompt, NULL);
        assert_true(id >= 0);
        if (among(o->stop_tokens, o->n_stop_tokens, id)) {
            a->end_token = id;
            break;
        }
        srn__logprobs(srn_session_logits(s), n_vocab, id, o->n_top, &a->logprobs[a->n], a->tops[a->n]);
        a->ids[a->n++] = id;
        if (srn_session_feed(s, &id, 1, NULL, &err)) fail_msg("%s", err.text);
    }
    srn_session_free(s);
}

/* ---- waiting for requests ---- */

typedef struct bell {
    pthread_mutex_t lock;
    pthread_cond_t rung;
    uint64_t n;
} bell;

static void ring(void *ctx) {
    bell *b = ctx;
    pthread_mutex_lock(&b->lock);
    b->n++;
    pthread_cond_broadcast(&b->rung);
    pthread_mutex_unlock(&b->lock);
}

static void bell_init(bell *b) {
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->rung, NULL);
    b->n = 0;
}

static void bell_done(bell *b) {
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->rung);
}

static srn_request_status status_of(srn_request *r) {
    srn_request_status st;
    srn_request_read(r, 0, NULL, 0, NULL, NULL, 0, &st);
    return st;
}

/* Returns once the request has given out n tokens or ended. */
static srn_request_status wait_tokens(bell *b, srn_request *r, uint32_t n) {
    pthread_mutex_lock(&b->lock);
    srn_request_status st = status_of(r);
    while (st.n_output < n && st.state != SRN_REQUEST_DONE) {
        pthread_cond_wait(&b->rung, &b->lock);
        st = status_of(r);
    }
    pthread_mutex_unlock(&b->lock);
    return st;
}

static srn_request_status wait_done(bell *b, srn_request *r) {
    return wait_tokens(b, r, UINT32_MAX);
}

/* ---- many at once ---- */

typedef struct job {
    srn_request_opts o;
    int32_t prompt[MOST_PROMPT];
    answer expected;
    srn_request *r;
    bool cancel;
} job;

/* Prompts of mixed lengths, of which many begin alike; parameters of all kinds. */
static void make_job(job *j, uint64_t *seed, uint32_t n_vocab, uint32_t speculate) {
    uint32_t n = 3 + (uint32_t)next_random(seed) % (MOST_PROMPT - 3), kind = (uint32_t)next_random(seed) % 4;
    uint64_t shared = 77 + kind / 2;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t *x = kind < 3 && i < 150 ? &shared : seed;
        j->prompt[i] = (int32_t)(next_random(x) % (kind == 1 ? 7 : n_vocab));
    }
    static const int32_t stops[] = {11, 42};
    j->o = (srn_request_opts){.prompt = j->prompt,
                              .n_prompt = n,
                              .sampling = srn_sampling_default(),
                              .max_tokens = 1 + (uint32_t)next_random(seed) % 60,
                              .ignore_eog = true,
                              .logprobs = true,
                              .n_top = (uint32_t)next_random(seed) % (MOST_TOP + 1),
                              .speculate = speculate};
    if (next_random(seed) % 3 == 0) j->o.stop_tokens = stops, j->o.n_stop_tokens = 2;
    j->o.no_cache = next_random(seed) % 8 == 0;
    j->o.sampling.seed = next_random(seed);
    j->o.sampling.temperature = (float)(next_random(seed) % 3) * 0.4f;
    j->o.sampling.repeat_penalty = next_random(seed) % 2 ? 1.0f : 1.2f;
    j->o.sampling.presence_penalty = next_random(seed) % 2 ? 0.0f : 0.5f;
    j->o.sampling.top_k = (int32_t)(next_random(seed) % 3) * 20;
}

static void check_job(bell *b, job *j, uint32_t index) {
    srn_request_status st = wait_done(b, j->r);
    srn_out_token out[MOST_OUT];
    srn_top_token tops[MOST_OUT * MOST_TOP];
    const answer *e = &j->expected;
    uint32_t n = srn_request_read(j->r, 0, NULL, 0, out, tops, MOST_OUT, &st);
    if (st.code && !(j->cancel && st.code == SRN_ECANCELLED)) fail_msg("request %u: %s", index, st.err.text);
    if (st.code == SRN_OK) {
        assert_int_equal(n, e->n);
        assert_int_equal(st.end_token, e->end_token);
        assert_int_equal(st.finish, e->end_token >= 0 ? SRN_FINISH_STOP : SRN_FINISH_LENGTH);
    }
    assert_int_equal(n, st.n_output);
    assert_true(n <= e->n);
    for (uint32_t i = 0; i < n; i++) {
        if (out[i].id != e->ids[i])
            fail_msg("request %u: token %u is %d, not %d", index, i, out[i].id, e->ids[i]);
        assert_memory_equal(&out[i].logprob, &e->logprobs[i], sizeof(float));
        assert_memory_equal(tops + i * j->o.n_top, e->tops[i], j->o.n_top * sizeof *tops);
    }
    srn_request_release(j->r);
}

typedef struct load_case {
    const char *model;
    uint32_t n_jobs, max_seqs, cache_tokens, speculate;
    bool cancels;
    uint64_t seed;
} load_case;

static srn_engine_stats run_load(const load_case *c) {
    print_message("%s, seed %llu\n", c->model, (unsigned long long)c->seed);
    srn_engine_opts eo = {
        .threads = 2, .n_ctx = 512, .max_seqs = c->max_seqs, .cache_tokens = c->cache_tokens};
    srn_engine *e = open_long(c->model, &eo);
    assert_non_null(e);
    uint64_t seed = c->seed;
    job *jobs = calloc(c->n_jobs, sizeof *jobs);
    bell b;
    bell_init(&b);
    for (uint32_t i = 0; i < c->n_jobs; i++) {
        make_job(&jobs[i], &seed, srn_engine_get_info(e).n_vocab, c->speculate);
        jobs[i].o.notify = ring;
        jobs[i].o.notify_ctx = &b;
        jobs[i].cancel = c->cancels && i % 4 == 3;
        alone(e, &jobs[i].o, &jobs[i].expected);
    }
    srn_scheduler *s;
    srn_err err = {0};
    if (srn_scheduler_new(NULL, &s, &err) || srn_scheduler_add(s, e, &err)) fail_msg("%s", err.text);
    for (uint32_t i = 0; i < c->n_jobs; i++)
        if (srn_request_submit(s, e, &jobs[i].o, 1, &jobs[i].r, &err)) fail_msg("%s", err.text);
    for (uint32_t i = 0; i < c->n_jobs; i++)
        if (jobs[i].cancel) {
            wait_tokens(&b, jobs[i].r, (uint32_t)next_random(&seed) % 5);
            srn_request_cancel(jobs[i].r);
        }
    for (uint32_t i = 0; i < c->n_jobs; i++) check_job(&b, &jobs[i], i);
    srn_engine_stats st;
    srn_scheduler_stats(s, e, &st);
    srn_scheduler_free(s);
    srn_engine_close(e);
    bell_done(&b);
    free(jobs);
    return st;
}

static void many_at_once_get_what_each_gets_alone(void **state) {
    (void)state;
    srn_engine_stats st = run_load(&(load_case){"llama", 32, 8, 0, 0, true, 1});
    assert_true(st.cached_tokens > 0);
    assert_int_equal(st.draft_tokens, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_at_once_get_what_each_gets_alone),
    };
    return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
