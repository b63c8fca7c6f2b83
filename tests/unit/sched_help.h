/* What the scheduler's tests share: a request computed alone by a session, a bell that requests ring, and a
 * device that a test stops, counts and makes fail. Include after cmocka.
 */
#ifndef SRN_TEST_SCHED_HELP_H
#define SRN_TEST_SCHED_HELP_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine_internal.h"
#include "engine/scheduler.h"
#include "engine/scheduler_internal.h"
#include "unit/long_model.h"

enum { MOST_TOP = 3, MOST_OUT = 256, MOST_PROMPT = 400 };

static inline uint64_t next_random(uint64_t *x) {
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

static inline bool among(const int32_t *ids, uint32_t n, int32_t id) {
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

static inline void alone(srn_engine *e, const srn_request_opts *o, answer *a) {
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

static inline void ring(void *ctx) {
    bell *b = ctx;
    pthread_mutex_lock(&b->lock);
    b->n++;
    pthread_cond_broadcast(&b->rung);
    pthread_mutex_unlock(&b->lock);
}

static inline void bell_init(bell *b) {
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->rung, NULL);
    b->n = 0;
}

static inline void bell_done(bell *b) {
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->rung);
}

static inline srn_request_status status_of(srn_request *r) {
    srn_request_status st;
    srn_request_read(r, 0, NULL, 0, NULL, NULL, 0, &st);
    return st;
}

/* Returns once the request has given out n tokens or ended. */
static inline srn_request_status wait_tokens(bell *b, srn_request *r, uint32_t n) {
    pthread_mutex_lock(&b->lock);
    srn_request_status st = status_of(r);
    while (st.n_output < n && st.state != SRN_REQUEST_DONE) {
        pthread_cond_wait(&b->rung, &b->lock);
        st = status_of(r);
    }
    pthread_mutex_unlock(&b->lock);
    return st;
}

static inline srn_request_status wait_done(bell *b, srn_request *r) {
    return wait_tokens(b, r, UINT32_MAX);
}

/* The same of a job that judges. */
static inline srn_judge_result wait_judged(bell *b, srn_judge *j) {
    srn_judge_result r;
    pthread_mutex_lock(&b->lock);
    for (srn_judge_read(j, &r); r.state != SRN_JUDGE_DONE; srn_judge_read(j, &r))
        pthread_cond_wait(&b->rung, &b->lock);
    pthread_mutex_unlock(&b->lock);
    return r;
}

static inline srn_scheduler *scheduler_of(const srn_scheduler_opts *o, srn_engine *e) {
    srn_scheduler *s;
    srn_err err = {0};
    if (srn_scheduler_new(o, &s, &err) || srn_scheduler_add(s, e, &err)) fail_msg("%s", err.text);
    return s;
}

static inline srn_request *submit(srn_scheduler *s, srn_engine *e, const srn_request_opts *o) {
    srn_request *r;
    srn_err err = {0};
    if (srn_request_submit(s, e, o, 1, &r, &err)) fail_msg("%s", err.text);
    return r;
}

/* ---- a device between the scheduler and the real one ---- */

enum { MOST_LOG = 4096 };

/* One sequence's part of a step. */
typedef struct logged {
    uint32_t step, n_past, n_tokens;
    int32_t first_token;
} logged;

typedef struct gate {
    srn_device base;
    srn_device_ops ops;
    srn_device *real;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t tickets;        /* steps that may go on */
    uint32_t n_steps;        /* that have begun */
    int32_t poison;          /* a step with this token fails as one whose activations overflowed; -1: none */
    _Atomic uint64_t *clock; /* not NULL: a step takes 1000 us and 100 for each token by it */
    logged log[MOST_LOG];
    uint32_t n_log;
} gate;

static int gate_forward(srn_device *d, const srn_batch *b, srn_err *err) {
    gate *g = (gate *)d;
    bool poisoned = false;
    pthread_mutex_lock(&g->lock);
    g->n_steps++;
    for (uint32_t i = 0; i < b->n_slices && g->n_log < MOST_LOG; i++)
        g->log[g->n_log++] =
            (logged){g->n_steps, b->slices[i].n_past, b->slices[i].n_tokens, b->tokens[b->slices[i].first]};
    for (uint32_t i = 0; i < b->n_tokens; i++) poisoned = poisoned || b->tokens[i] == g->poison;
    pthread_cond_broadcast(&g->changed);
    while (!g->tickets) pthread_cond_wait(&g->changed, &g->lock);
    if (g->tickets != UINT64_MAX) g->tickets--;
    pthread_mutex_unlock(&g->lock);
    if (g->clock) atomic_fetch_add(g->clock, 1000 + 100 * (uint64_t)b->n_tokens);
    if (poisoned) return srn_fail(err, SRN_ENONFINITE, "the test's token");
    return g->real->ops->forward(g->real, b, err);
}

static uint32_t gate_threads(const srn_device *d) {
    const gate *g = (const gate *)d;
    return g->real->ops->threads(g->real);
}

static const char *gate_class(const srn_device *d) {
    const gate *g = (const gate *)d;
    return g->real->ops->device_class(g->real);
}

static void gate_memory(const srn_device *d, uint64_t *ret_weights, uint64_t *ret_kv, uint64_t *ret_work) {
    const gate *g = (const gate *)d;
    g->real->ops->memory(g->real, ret_weights, ret_kv, ret_work);
}

static void gate_parallel(srn_device *d, void (*fn)(void *ctx, uint32_t i), void *ctx, uint32_t n) {
    gate *g = (gate *)d;
    g->real->ops->parallel(g->real, fn, ctx, n);
}

/* Puts the gate before the engine's device, which tickets open: so many steps, or all with UINT64_MAX. */
static inline void gate_init(gate *g, srn_engine *e, uint64_t tickets) {
    memset(g, 0, sizeof *g);
    g->ops = (srn_device_ops){.forward = gate_forward,
                              .device_class = gate_class,
                              .memory = gate_memory,
                              .threads = gate_threads,
                              .parallel = gate_parallel};
    g->base.ops = &g->ops;
    g->real = e->device;
    g->tickets = tickets;
    g->poison = -1;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    e->device = &g->base;
}

/* The engine has its own device again. */
static inline void gate_done(gate *g, srn_engine *e) {
    e->device = g->real;
    pthread_mutex_destroy(&g->lock);
    pthread_cond_destroy(&g->changed);
}

/* Lets n more steps go on. */
static inline void gate_open(gate *g, uint64_t n) {
    pthread_mutex_lock(&g->lock);
    g->tickets = n == UINT64_MAX ? n : g->tickets + n;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

/* No further step goes on. */
static inline void gate_close(gate *g) {
    pthread_mutex_lock(&g->lock);
    g->tickets = 0;
    pthread_mutex_unlock(&g->lock);
}

/* Returns when step n has begun: all of step n-1 is known to its requests then. */
static inline void gate_wait(gate *g, uint32_t n) {
    pthread_mutex_lock(&g->lock);
    while (g->n_steps < n) pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

#endif
