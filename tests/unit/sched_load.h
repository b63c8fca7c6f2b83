/* A load of mixed requests, each of which must get, to the bit, what it gets alone. Include after cmocka.
 */
#ifndef SRN_TEST_SCHED_LOAD_H
#define SRN_TEST_SCHED_LOAD_H

#include "unit/sched_help.h"

/* ---- many at once ---- */

typedef struct job {
    srn_request_opts o;
    int32_t prompt[MOST_PROMPT];
    answer expected;
    srn_request *r;
    bool cancel;
} job;

typedef struct load_case {
    const char *model;
    uint32_t n_jobs, max_seqs, cache_tokens, speculate, most_prompt, most_out;
    bool cancels, long_answers; /* long: each of most_out tokens */
    uint64_t seed;
} load_case;

/* What else happens: once all are submitted, and once all are done. */
typedef struct beside {
    void (*begin)(struct beside *b, srn_scheduler *s, srn_engine *e);
    void (*end)(struct beside *b, srn_scheduler *s, srn_engine *e);
} beside;

/* Prompts of mixed lengths, of which many begin alike; parameters of all kinds. */
static inline void make_job(job *j, uint64_t *seed, uint32_t n_vocab, const load_case *c) {
    uint32_t n = 3 + (uint32_t)next_random(seed) % (c->most_prompt - 3),
             kind = (uint32_t)next_random(seed) % 4;
    uint64_t shared = 77 + kind / 2;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t *x = kind < 3 && i < 150 ? &shared : seed;
        j->prompt[i] = (int32_t)(next_random(x) % (kind == 1 ? 7 : n_vocab));
    }
    static const int32_t stops[] = {11, 42};
    j->o = (srn_request_opts){.prompt = j->prompt,
                              .n_prompt = n,
                              .sampling = srn_sampling_default(),
                              .max_tokens = 1 + (uint32_t)next_random(seed) % c->most_out,
                              .ignore_eog = true,
                              .logprobs = true,
                              .n_top = (uint32_t)next_random(seed) % (MOST_TOP + 1),
                              .speculate = c->speculate};
    if (c->long_answers)
        j->o.max_tokens = c->most_out;
    else if (next_random(seed) % 3 == 0)
        j->o.stop_tokens = stops, j->o.n_stop_tokens = 2;
    j->o.no_cache = next_random(seed) % 8 == 0;
    j->o.sampling.seed = next_random(seed);
    j->o.sampling.temperature = (float)(next_random(seed) % 3) * 0.4f;
    j->o.sampling.repeat_penalty = next_random(seed) % 2 ? 1.0f : 1.2f;
    j->o.sampling.presence_penalty = next_random(seed) % 2 ? 0.0f : 0.5f;
    j->o.sampling.top_k = (int32_t)(next_random(seed) % 3) * 20;
    static const srn_logit_bias few[] = {
        {3, 100}, {5, 100}, {9, 100}}; /* so that answers repeat themselves */
    if (next_random(seed) % 3 == 0) j->o.sampling.logit_bias = few, j->o.sampling.n_logit_bias = 3;
}

static inline void check_job(bell *b, job *j, uint32_t index) {
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

static inline uint64_t frozen(void) {
    return 1000000;
}

/* Runs it on the engine, which it closes; other may be NULL. */
static inline srn_engine_stats run_load_beside(srn_engine *e, const load_case *c, beside *other) {
    print_message("%s, seed %llu\n", c->model, (unsigned long long)c->seed);
    uint64_t seed = c->seed;
    job *jobs = calloc(c->n_jobs, sizeof *jobs);
    bell b;
    bell_init(&b);
    for (uint32_t i = 0; i < c->n_jobs; i++) {
        make_job(&jobs[i], &seed, srn_engine_get_info(e).n_vocab, c);
        jobs[i].o.notify = ring;
        jobs[i].o.notify_ctx = &b;
        jobs[i].cancel = c->cancels && i % 4 == 3;
        alone(e, &jobs[i].o, &jobs[i].expected);
    }
    /* Where the clock stands still every draft seems to cost nothing. */
    srn_scheduler_opts so = {.now_us = c->speculate ? frozen : NULL};
    srn_scheduler *s = scheduler_of(&so, e);
    for (uint32_t i = 0; i < c->n_jobs; i++) jobs[i].r = submit(s, e, &jobs[i].o);
    if (other) other->begin(other, s, e);
    for (uint32_t i = 0; i < c->n_jobs; i++)
        if (jobs[i].cancel) {
            wait_tokens(&b, jobs[i].r, (uint32_t)next_random(&seed) % 5);
            srn_request_cancel(jobs[i].r);
        }
    for (uint32_t i = 0; i < c->n_jobs; i++) check_job(&b, &jobs[i], i);
    if (other) other->end(other, s, e);
    srn_engine_stats st;
    srn_scheduler_stats(s, e, &st);
    srn_scheduler_free(s);
    srn_engine_close(e);
    bell_done(&b);
    free(jobs);
    return st;
}

static inline srn_engine_stats run_load_on(srn_engine *e, const load_case *c) {
    return run_load_beside(e, c, NULL);
}

#endif
