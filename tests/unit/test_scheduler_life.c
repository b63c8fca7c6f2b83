/* What other threads see of the scheduler, step by step: a gate before the device stops it between two steps.
 * Cancellation and deadlines in every state, order and fairness, prompts in common, the queue's end, engines
 * that come and go, failures that stay with the one whose fault they are. Threads: pthread_create.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unit/sched_help.h"

enum { LONG = 300, N_PROMPTS = 44 };

static _Atomic uint64_t fake_now;
static uint64_t fake_clock(void) {
    return atomic_load(&fake_now);
}

typedef struct fixture {
    srn_engine *e;
    srn_scheduler *s;
    gate g;
    bell b;
    int32_t prompts[N_PROMPTS][LONG];
} fixture;

/* An engine behind a gate with so many tickets, and a scheduler that has it. Prompt i begins with token i and
 * has nothing in common with others. */
static fixture *begin(const srn_engine_opts *eo, const srn_scheduler_opts *so, uint64_t tickets) {
    fixture *f = calloc(1, sizeof *f);
    f->e = open_long("llama", eo);
    assert_non_null(f->e);
    gate_init(&f->g, f->e, tickets);
    bell_init(&f->b);
    atomic_store(&fake_now, 1000000);
    f->s = scheduler_of(so, f->e);
    uint64_t seed = 5;
    for (int32_t i = 0; i < N_PROMPTS; i++)
        for (int k = 0; k < LONG; k++) f->prompts[i][k] = k ? (int32_t)(20 + next_random(&seed) % 80) : i;
    return f;
}

static void end(fixture *f) {
    gate_open(&f->g, UINT64_MAX);
    srn_scheduler_free(f->s);
    gate_done(&f->g, f->e);
    srn_engine_close(f->e);
    bell_done(&f->b);
    free(f);
}

static srn_request_opts opts_of(fixture *f, int prompt, uint32_t n, uint32_t max_tokens) {
    srn_request_opts o = {.prompt = f->prompts[prompt],
                          .n_prompt = n,
                          .sampling = srn_sampling_default(),
                          .max_tokens = max_tokens,
                          .ignore_eog = true,
                          .notify = ring,
                          .notify_ctx = &f->b};
    return o;
}

static const srn_engine_opts small = {.threads = 2, .n_ctx = 512, .max_seqs = 2};

/* How many tokens of prompts were computed for sequences that begin with this token. */
static uint32_t computed(gate *g, int32_t first, uint32_t n_prompt) {
    uint32_t n = 0;
    bool ours = false;
    pthread_mutex_lock(&g->lock);
    for (uint32_t i = 0; i < g->n_log; i++) {
        const logged *l = &g->log[i];
        if (l->n_past == 0) ours = l->first_token == first;
        if (ours && l->n_past < n_prompt) n += l->n_tokens;
    }
    pthread_mutex_unlock(&g->lock);
    return n;
}

/* ---- ends ---- */

static void cancelled_within_a_step_in_every_state(void **state) {
    (void)state;
    fixture *f = begin(&small, NULL, 0);
    srn_request_opts o = opts_of(f, 0, 10, 0), p = opts_of(f, 1, LONG, 5), q = opts_of(f, 2, 10, 5);
    srn_request *decode = submit(f->s, f->e, &o);
    gate_wait(&f->g, 1);
    gate_open(&f->g, 3);
    gate_wait(&f->g, 4);
    srn_request *prefill = submit(f->s, f->e, &p), *queued = submit(f->s, f->e, &q);
    gate_open(&f->g, 2);
    gate_wait(&f->g, 6);
    assert_int_equal(status_of(decode).state, SRN_REQUEST_DECODE);
    assert_int_equal(status_of(prefill).state, SRN_REQUEST_PREFILL);
    assert_int_equal(status_of(queued).state, SRN_REQUEST_QUEUED);
    srn_request_cancel(queued);
    gate_open(&f->g, 1);
    gate_wait(&f->g, 7);
    assert_int_equal(status_of(queued).code, SRN_ECANCELLED);
    srn_request_cancel(prefill);
    gate_open(&f->g, 1);
    gate_wait(&f->g, 8);
    assert_int_equal(status_of(prefill).code, SRN_ECANCELLED);
    uint32_t n = status_of(decode).n_output;
    srn_request_cancel(decode);
    gate_open(&f->g, 1);
    srn_request_status st = wait_done(&f->b, decode);
    assert_int_equal(st.code, SRN_ECANCELLED);
    assert_int_equal(st.n_output, n + 1); /* of the step that was under way */
    assert_int_equal(f->g.n_steps, 8);
    srn_request_release(decode);
    srn_request_release(prefill);
    srn_request_release(queued);
    end(f);
}

static void late_within_a_step_in_every_state(void **state) {
    (void)state;
    fixture *f = begin(&small, &(srn_scheduler_opts){.now_us = fake_clock}, 0);
    srn_request_opts o = opts_of(f, 0, 10, 0), p = opts_of(f, 1, LONG, 5), q = opts_of(f, 2, 10, 5);
    o.deadline_us = 2000000, p.deadline_us = 3000000, q.deadline_us = 4000000;
    srn_request *decode = submit(f->s, f->e, &o);
    gate_wait(&f->g, 1);
    gate_open(&f->g, 3);
    gate_wait(&f->g, 4);
    srn_request *prefill = submit(f->s, f->e, &p), *queued = submit(f->s, f->e, &q);
    q.deadline_us = 999999;
    srn_request *late = submit(f->s, f->e, &q);
    gate_open(&f->g, 1);
    gate_wait(&f->g, 5);
    assert_int_equal(status_of(late).code, SRN_ETIMEOUT);
    atomic_store(&fake_now, 2000000);
    gate_open(&f->g, 1);
    gate_wait(&f->g, 6);
    assert_int_equal(status_of(decode).code, SRN_ETIMEOUT);
    assert_non_null(strstr(status_of(decode).err.text, "answer"));
    atomic_store(&fake_now, 4000000); /* both, wherever they are now */
    gate_open(&f->g, 1);
    assert_int_equal(wait_done(&f->b, prefill).code, SRN_ETIMEOUT);
    assert_int_equal(wait_done(&f->b, queued).code, SRN_ETIMEOUT);
    assert_int_equal(f->g.n_steps, 6);
    srn_request_release(decode);
    srn_request_release(prefill);
    srn_request_release(queued);
    srn_request_release(late);
    end(f);
}

static void an_answer_ends_where_the_context_does(void **state) {
    (void)state;
    fixture *f = begin(&(srn_engine_opts){.threads = 1, .n_ctx = 64, .max_seqs = 1}, NULL, UINT64_MAX);
    srn_request_opts o = opts_of(f, 0, 50, 0);
    srn_request *r = submit(f->s, f->e, &o);
    srn_request_status st = wait_done(&f->b, r);
    assert_int_equal(st.code, SRN_OK);
    assert_int_equal(st.finish, SRN_FINISH_CONTEXT);
    assert_int_equal(st.n_output, 14);
    srn_request_release(r);
    end(f);
}

static void stop_texts_and_stop_tokens_end_answers(void **state) {
    (void)state;
    fixture *f = begin(&small, NULL, UINT64_MAX);
    srn_request_opts o = opts_of(f, 0, 10, 40);
    srn_out_token out[40];
    srn_buf text, cut;
    srn_buf_init(&text, 4096);
    srn_buf_init(&cut, 4096);
    srn_request *r = submit(f->s, f->e, &o);
    wait_done(&f->b, r);
    assert_int_equal(srn_request_read(r, 0, &text, 0, out, NULL, 40, NULL), 40);
    assert_int_equal(out[39].text_end, text.len);
    srn_request_release(r);
    srn_str stop = {text.data + text.len / 2, 3};
    o.stops = &stop, o.n_stops = 1;
    r = submit(f->s, f->e, &o);
    srn_request_status st = wait_done(&f->b, r);
    srn_request_read(r, 0, &cut, 0, NULL, NULL, 0, NULL);
    assert_int_equal(st.finish, SRN_FINISH_STOP);
    assert_int_equal(st.stop, 0);
    assert_true(st.n_output < 40 && cut.len <= text.len / 2);
    assert_memory_equal(cut.data, text.data, cut.len);
    srn_request_release(r);
    o.n_stops = 0, o.stop_tokens = &out[20].id, o.n_stop_tokens = 1;
    r = submit(f->s, f->e, &o);
    st = wait_done(&f->b, r);
    assert_int_equal(st.finish, SRN_FINISH_STOP);
    assert_int_equal(st.end_token, out[20].id);
    assert_true(st.n_output <= 20);
    srn_request_release(r);
    o.min_tokens = 30;
    r = submit(f->s, f->e, &o);
    st = wait_done(&f->b, r);
    assert_true(st.n_output >= 30);
    srn_request_release(r);
    srn_buf_done(&text);
    srn_buf_done(&cut);
    end(f);
}

/* ---- order ---- */

/* Lets the waiting requests run one after the other; gives the first tokens of their prompts in order. */
static uint32_t order_of(fixture *f, srn_request **r, uint32_t n, int32_t *order) {
    gate_open(&f->g, UINT64_MAX);
    for (uint32_t i = 0; i < n; i++) wait_done(&f->b, r[i]);
    uint32_t m = 0;
    for (uint32_t i = 0; i < f->g.n_log; i++)
        if (f->g.log[i].n_past == 0) order[m++] = f->g.log[i].first_token;
    for (uint32_t i = 0; i < n; i++) srn_request_release(r[i]);
    return m;
}

static const srn_engine_opts one_by_one = {.threads = 1, .n_ctx = 512, .max_seqs = 1};

static void priorities_go_first_then_the_first_to_come(void **state) {
    (void)state;
    fixture *f = begin(&one_by_one, NULL, 0);
    srn_request *r[6];
    int32_t order[16], priorities[6] = {0, 1, 1, -1, 0, -1};
    for (int i = 0; i < 6; i++) {
        srn_request_opts o = opts_of(f, i, 10, 2);
        o.priority = priorities[i];
        r[i] = submit(f->s, f->e, &o);
        if (i == 0) gate_wait(&f->g, 1); /* it runs */
    }
    assert_int_equal(order_of(f, r, 6, order), 6);
    const int32_t expected[6] = {0, 3, 5, 4, 1, 2};
    assert_memory_equal(order, expected, sizeof expected);
    end(f);
}

/* Of those that came first and have a low priority, one goes after each sixteen that overtook it. */
static void nobody_is_overtaken_without_end(void **state) {
    (void)state;
    enum { LOW = 2, HIGH = 40, ALL = 1 + LOW + HIGH };
    fixture *f = begin(&one_by_one, NULL, 0);
    srn_request *r[ALL];
    int32_t order[ALL + 8];
    for (int i = 0; i < ALL; i++) {
        srn_request_opts o = opts_of(f, i, 10, 2);
        o.priority = i && i <= LOW ? 1000000 : -1000000;
        r[i] = submit(f->s, f->e, &o);
        if (i == 0) gate_wait(&f->g, 1); /* it runs */
    }
    assert_int_equal(order_of(f, r, ALL, order), ALL);
    for (int32_t i = 0, high = LOW + 1, low = 1; i < ALL; i++)
        assert_int_equal(order[i], i == 0 ? 0 : i % 17 == 0 && low <= LOW ? low++ : high++);
    end(f);
}

/* It begins anew when nobody else wants its place, and gives the answer that it would have given alone. */
static void work_that_nobody_waits_for_gives_its_place_back(void **state) {
    (void)state;
    fixture *f = begin(&one_by_one, NULL, 0);
    srn_request_opts o = opts_of(f, 0, 10, 20), urgent = opts_of(f, 1, 10, 2);
    srn_out_token out[20];
    answer expected;
    int32_t order[8];
    o.priority = SRN_PRIORITY_BACKGROUND, o.no_cache = true;
    srn_request *r[3] = {submit(f->s, f->e, &o)};
    gate_wait(&f->g, 1);
    gate_open(&f->g, 5);
    gate_wait(&f->g, 6);
    r[1] = submit(f->s, f->e, &urgent);
    o.prompt = f->prompts[2];
    r[2] = submit(f->s, f->e, &o); /* of its kind: it waits its turn */
    gate_open(&f->g, UINT64_MAX);
    assert_int_equal(wait_done(&f->b, r[0]).n_preempted, 1);
    assert_int_equal(wait_done(&f->b, r[1]).n_preempted, 0);
    assert_int_equal(wait_done(&f->b, r[2]).n_preempted, 0);
    assert_int_equal(srn_request_read(r[0], 0, NULL, 0, out, NULL, 20, NULL), 20);
    assert_int_equal(order_of(f, r, 3, order), 4);
    const int32_t as_it_came[4] = {0, 1, 0, 2};
    assert_memory_equal(order, as_it_came, sizeof as_it_came);
    srn_scheduler_free(f->s);
    f->s = NULL;
    o.prompt = f->prompts[0];
    alone(f->e, &o, &expected);
    for (uint32_t i = 0; i < 20; i++) assert_int_equal(out[i].id, expected.ids[i]);
    end(f);
}

/* A clock by which every step is slow, so that a step reads as little of a prompt as it may. */
static uint64_t slow_clock(void) {
    static atomic_uint_least64_t now;
    return atomic_fetch_add(&now, 1000000) + 1;
}

/* One that has its place and whose prompt waits for steps has its turn too: all of it is read then. */
static void a_prompt_is_not_overtaken_without_end(void **state) {
    (void)state;
    enum { URGENT = 24, SHORT = 4 };
    fixture *f = begin(&small, &(srn_scheduler_opts){.now_us = slow_clock}, 0);
    srn_request *r[1 + URGENT];
    int32_t order[1 + URGENT + 8];
    uint32_t read_at = 0, begun[1 + URGENT] = {0}, n = 0;
    for (int i = 0; i <= URGENT; i++) {
        srn_request_opts o = opts_of(f, i, i ? SHORT : LONG, 1);
        o.priority = i ? 0 : 1;
        r[i] = submit(f->s, f->e, &o);
        if (i == 0) gate_wait(&f->g, 1);
    }
    order_of(f, r, 1 + URGENT, order);
    assert_true(f->g.n_log < MOST_LOG);
    for (uint32_t i = 0; i < f->g.n_log; i++) {
        const logged *g = &f->g.log[i];
        if (g->n_past == 0 && g->first_token != 0) begun[++n] = i;
        if (g->n_past + g->n_tokens == LONG) read_at = i;
    }
    assert_int_equal(n, URGENT);
    assert_in_range(read_at, begun[16], begun[19]);
    end(f);
}

/* Texts to be embedded have steps of their own, in turn with those of the answers. */
static void an_embedding_does_not_wait_for_answers_nor_they_for_it(void **state) {
    (void)state;
    fixture *f = begin(&small, NULL, 0);
    srn_request_opts o = opts_of(f, 0, 10, 0), e = opts_of(f, 1, 10, 0);
    e.kind = SRN_REQUEST_EMBED;
    srn_request *run = submit(f->s, f->e, &o);
    gate_wait(&f->g, 1);
    srn_request *text = submit(f->s, f->e, &e);
    gate_open(&f->g, 30);
    gate_wait(&f->g, 31);
    assert_int_equal(status_of(text).state, SRN_REQUEST_DONE);
    assert_in_range(status_of(run).n_output, 15, 29); /* ten embedding steps at most */
    srn_request_release(text);
    srn_request_release(run);
    end(f);
}

/* Both prompts are longer than a step takes: the one that came later is read first. */
static void a_prompt_of_higher_priority_is_read_first(void **state) {
    (void)state;
    fixture *f = begin(&small, NULL, 0);
    srn_request_opts late = opts_of(f, 0, LONG, 5), urgent = opts_of(f, 1, LONG, 5);
    late.priority = 1;
    srn_request *r[2] = {submit(f->s, f->e, &late)};
    gate_wait(&f->g, 1);
    r[1] = submit(f->s, f->e, &urgent);
    gate_open(&f->g, 1);
    gate_wait(&f->g, 2);
    pthread_mutex_lock(&f->g.lock);
    const logged *first = &f->g.log[1]; /* of the second step */
    assert_int_equal(first->step, 2);
    assert_int_equal(first->n_past, 0);
    assert_int_equal(first->first_token, 1);
    pthread_mutex_unlock(&f->g.lock);
    gate_open(&f->g, UINT64_MAX);
    for (int i = 0; i < 2; i++) {
        wait_done(&f->b, r[i]);
        srn_request_release(r[i]);
    }
    end(f);
}

static void the_tenant_served_least_goes_first(void **state) {
    (void)state;
    fixture *f = begin(&one_by_one, NULL, 0);
    srn_request *r[7];
    int32_t order[16];
    /* Tenant 7 floods; 8 comes later with two requests, of which the first is long. */
    const uint64_t tenants[7] = {7, 7, 7, 7, 8, 8, 7};
    const uint32_t lengths[7] = {20, 20, 20, 20, 50, 20, 20};
    for (int i = 0; i < 7; i++) {
        srn_request_opts o = opts_of(f, i, lengths[i], 2);
        o.tenant = tenants[i];
        r[i] = submit(f->s, f->e, &o);
        if (i == 0) gate_wait(&f->g, 1);
    }
    assert_int_equal(order_of(f, r, 7, order), 7);
    /* 0: 7 has 24; 8 starts at 20. 4: 8 has 74. 1, 2, 3: 7 has 96. 5. 6. */
    const int32_t expected[7] = {0, 4, 1, 2, 3, 5, 6};
    assert_memory_equal(order, expected, sizeof expected);
    end(f);
}

static void a_full_queue_refuses_at_once(void **state) {
    (void)state;
    fixture *f = begin(&one_by_one, &(srn_scheduler_opts){.max_queue = 3}, 0);
    srn_request *r[4], *more[4];
    srn_err err = {0};
    srn_request_opts o = opts_of(f, 0, 10, 2), two[2] = {o, o}, four[4] = {o, o, o, o};
    assert_int_equal(srn_request_submit(f->s, f->e, four, 4, more, &err),
                     SRN_ELIMIT); /* never, however empty */
    for (int i = 0; i < 4; i++) {
        r[i] = submit(f->s, f->e, &o);
        if (i == 0) gate_wait(&f->g, 1);
        if (i == 2) assert_int_equal(srn_request_submit(f->s, f->e, two, 2, more, &err), SRN_EBUSY);
    }
    assert_int_equal(srn_request_submit(f->s, f->e, &o, 1, more, &err), SRN_EBUSY);
    assert_non_null(strstr(err.text, "queue"));
    srn_engine_stats st;
    srn_scheduler_stats(f->s, f->e, &st);
    assert_int_equal(st.n_waiting, 3);
    gate_open(&f->g, UINT64_MAX);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(wait_done(&f->b, r[i]).code, SRN_OK);
        srn_request_release(r[i]);
    }
    r[0] = submit(f->s, f->e, &o);
    wait_done(&f->b, r[0]);
    srn_request_release(r[0]);
    end(f);
}

static void what_can_never_run_is_refused(void **state) {
    (void)state;
    fixture *f = begin(&(srn_engine_opts){.threads = 1, .n_ctx = 256, .max_seqs = 2}, NULL, 0);
    srn_request *r;
    srn_err err = {0};
    const int32_t outside = 5000;
    srn_request_opts o = opts_of(f, 0, 256, 2);
    assert_int_equal(srn_request_submit(f->s, f->e, &o, 1, &r, &err), SRN_ECONTEXT);
    o = opts_of(f, 0, 0, 2);
    assert_int_equal(srn_request_submit(f->s, f->e, &o, 1, &r, &err), SRN_EINVAL);
    o = opts_of(f, 0, 10, 2);
    o.sampling.top_p = 2;
    assert_int_equal(srn_request_submit(f->s, f->e, &o, 1, &r, &err), SRN_EINVAL);
    o = opts_of(f, 0, 10, 2);
    o.stop_tokens = &outside, o.n_stop_tokens = 1;
    assert_int_equal(srn_request_submit(f->s, f->e, &o, 1, &r, &err), SRN_EINVAL);
    o = opts_of(f, 0, 10, 2);
    o.prompt = &outside, o.n_prompt = 1;
    assert_int_equal(srn_request_submit(f->s, f->e, &o, 1, &r, &err), SRN_EINVAL);
    o = opts_of(f, 0, 10, 2);
    o.n_top = 21;
    assert_int_equal(srn_request_submit(f->s, f->e, &o, 1, &r, &err), SRN_EINVAL);
    srn_engine *other = open_long("llama", &small);
    o = opts_of(f, 0, 10, 2);
    assert_int_equal(srn_request_submit(f->s, other, &o, 1, &r, &err), SRN_EINVAL);
    srn_engine_close(other);
    assert_int_equal(f->g.n_steps, 0);
    end(f);
}

/* ---- prompts in common ---- */

static void equal_prompts_of_one_call_are_computed_once(void **state) {
    (void)state;
    fixture *f = begin(&(srn_engine_opts){.threads = 2, .n_ctx = 512, .max_seqs = 4}, NULL, UINT64_MAX);
    srn_request_opts o[4];
    srn_request *r[4];
    srn_err err = {0};
    for (int i = 0; i < 4; i++) {
        o[i] = opts_of(f, 0, LONG, 20);
        o[i].sampling.seed = (uint64_t)i;
    }
    if (srn_request_submit(f->s, f->e, o, 4, r, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < 4; i++) {
        srn_request_status st = wait_done(&f->b, r[i]);
        assert_int_equal(st.n_output, 20);
        if (i) assert_true(st.n_cached >= LONG - 64);
        srn_request_release(r[i]);
    }
    srn_engine_stats st;
    srn_scheduler_stats(f->s, f->e, &st);
    assert_true(st.prompt_tokens >= LONG + 3 && st.prompt_tokens <= LONG + 3 * 64);
    assert_int_equal(st.prompt_tokens + st.cached_tokens, 4 * LONG);
    end(f);
}

static void twins_go_on_when_the_first_is_cancelled(void **state) {
    (void)state;
    fixture *f = begin(&(srn_engine_opts){.threads = 2, .n_ctx = 512, .max_seqs = 3}, NULL, 0);
    srn_request_opts o = opts_of(f, 0, LONG, 10);
    srn_request *r[3];
    answer expected;
    for (int i = 0; i < 3; i++) r[i] = submit(f->s, f->e, &o);
    gate_wait(&f->g, 1);
    gate_open(&f->g, 1);
    gate_wait(&f->g, 2);
    assert_int_equal(status_of(r[0]).state, SRN_REQUEST_PREFILL);
    assert_int_equal(status_of(r[1]).state, SRN_REQUEST_QUEUED);
    srn_request_cancel(r[0]);
    gate_open(&f->g, UINT64_MAX);
    assert_int_equal(wait_done(&f->b, r[0]).code, SRN_ECANCELLED);
    srn_out_token out[3][10];
    for (int i = 1; i < 3; i++) {
        assert_int_equal(wait_done(&f->b, r[i]).code, SRN_OK);
        assert_int_equal(srn_request_read(r[i], 0, NULL, 0, out[i], NULL, 10, NULL), 10);
    }
    for (int i = 0; i < 3; i++) srn_request_release(r[i]);
    srn_scheduler_remove(f->s, f->e, 0);
    assert_true(computed(&f->g, 0, LONG) < 2 * LONG);
    alone(f->e, &o, &expected);
    for (int i = 1; i < 3; i++)
        for (int k = 0; k < 10; k++) assert_int_equal(out[i][k].id, expected.ids[k]);
    end(f);
}

static void tenants_share_nothing(void **state) {
    (void)state;
    fixture *f = begin(&small, NULL, UINT64_MAX);
    const struct {
        uint64_t tenant, salt;
        bool cached;
    } cases[] = {
        {1, 0, false}, {1, 0, true}, {2, 0, false}, {1, 5, false}, {1, 5, true}, {2, 0, true},
    };
    for (size_t i = 0; i < SRN_LEN(cases); i++) {
        srn_request_opts o = opts_of(f, 0, 200, 2);
        o.tenant = cases[i].tenant, o.cache_salt = cases[i].salt;
        srn_request *r = submit(f->s, f->e, &o);
        assert_int_equal(wait_done(&f->b, r).n_cached > 0, cases[i].cached);
        srn_request_release(r);
        o.no_cache = true;
        r = submit(f->s, f->e, &o);
        assert_int_equal(wait_done(&f->b, r).n_cached, 0);
        srn_request_release(r);
    }
    end(f);
}

/* ---- failures ---- */

static void an_overflow_fails_only_its_own_request(void **state) {
    (void)state;
    fixture *f = begin(&(srn_engine_opts){.threads = 2, .n_ctx = 512, .max_seqs = 4}, NULL, 0);
    f->g.poison = 110;
    f->prompts[2][17] = 110;
    static const srn_logit_bias never = {110, -100};
    srn_request *r[4];
    srn_request_opts o[4];
    answer expected;
    for (int i = 0; i < 4; i++) {
        o[i] = opts_of(f, i, 40, 12);
        o[i].sampling.logit_bias = &never;
        o[i].sampling.n_logit_bias = 1;
        r[i] = submit(f->s, f->e, &o[i]);
    }
    gate_open(&f->g, UINT64_MAX);
    srn_out_token out[4][12];
    for (int i = 0; i < 4; i++) {
        srn_request_status st = wait_done(&f->b, r[i]);
        assert_int_equal(st.code, i == 2 ? SRN_ENONFINITE : SRN_OK);
        assert_int_equal(srn_request_read(r[i], 0, NULL, 0, out[i], NULL, 12, NULL), i == 2 ? 0 : 12);
        srn_request_release(r[i]);
    }
    srn_scheduler_remove(f->s, f->e, 0);
    for (int i = 0; i < 4; i++) {
        if (i == 2) continue;
        alone(f->e, &o[i], &expected);
        for (int k = 0; k < 12; k++) assert_int_equal(out[i][k].id, expected.ids[k]);
    }
    end(f);
}

/* ---- engines ---- */

static void two_engines_are_served_side_by_side(void **state) {
    (void)state;
    fixture *f = begin(&small, NULL, UINT64_MAX);
    srn_engine *other = open_long("gemma3", &small);
    srn_err err = {0};
    srn_request_opts o = opts_of(f, 0, 100, 40);
    answer expected[2];
    srn_request *r[2];
    alone(other, &o, &expected[1]);
    if (srn_scheduler_add(f->s, other, &err)) fail_msg("%s", err.text);
    assert_int_equal(srn_scheduler_add(f->s, other, &err), SRN_EINVAL);
    r[0] = submit(f->s, f->e, &o);
    r[1] = submit(f->s, other, &o);
    srn_out_token out[2][40];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(wait_done(&f->b, r[i]).code, SRN_OK);
        assert_int_equal(srn_request_read(r[i], 0, NULL, 0, out[i], NULL, 40, NULL), 40);
        srn_request_release(r[i]);
    }
    srn_scheduler_remove(f->s, f->e, 0);
    alone(f->e, &o, &expected[0]);
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 40; k++) assert_int_equal(out[i][k].id, expected[i].ids[k]);
    srn_scheduler_remove(f->s, other, 0);
    srn_engine_close(other);
    end(f);
}

/* An engine whose requests nobody waits for has one part in seventeen of the time while those of another are
 * waited for, and all of it afterwards. By a clock that steps move. */
static void work_that_nobody_waits_for_has_little_beside_another_engine(void **state) {
    (void)state;
    enum { TOKENS = 240 };
    fixture *f = begin(&small, &(srn_scheduler_opts){.now_us = fake_clock}, 0);
    srn_engine *other = open_long("gemma3", &small);
    gate beside;
    srn_err err = {0};
    gate_init(&beside, other, UINT64_MAX);
    f->g.clock = beside.clock = &fake_now;
    if (srn_scheduler_add(f->s, other, &err)) fail_msg("%s", err.text);
    srn_request_opts o = opts_of(f, 0, 10, TOKENS), back = opts_of(f, 1, 10, TOKENS);
    back.priority = SRN_PRIORITY_BACKGROUND;
    srn_request *front = submit(f->s, f->e, &o);
    gate_wait(&f->g, 1); /* it has begun before the other came */
    srn_request *r = submit(f->s, other, &back);
    gate_open(&f->g, TOKENS - 2);
    gate_wait(&f->g, TOKENS - 1);
    uint32_t n = status_of(r).n_output;
    print_message("%u tokens beside %u\n", n, status_of(front).n_output);
    assert_in_range(n, TOKENS / 17 - 8, TOKENS / 17 + 4);
    gate_open(&f->g, UINT64_MAX);
    assert_int_equal(wait_done(&f->b, front).code, SRN_OK);
    assert_int_equal(wait_done(&f->b, r).code, SRN_OK);
    srn_request_release(front);
    srn_request_release(r);
    srn_scheduler_remove(f->s, other, 0);
    gate_done(&beside, other);
    srn_engine_close(other);
    end(f);
}

typedef struct removal {
    fixture *f;
    uint64_t grace_us;
} removal;

static void *remove_engine(void *arg) {
    removal *m = arg;
    srn_scheduler_remove(m->f->s, m->f->e, m->grace_us);
    return NULL;
}

static void removal_waits_for_its_grace(void **state) {
    (void)state;
    for (int with_grace = 0; with_grace < 2; with_grace++) {
        fixture *f = begin(&small, NULL, 0);
        srn_request_opts o = opts_of(f, 0, 20, 30);
        srn_request *r = submit(f->s, f->e, &o), *refused;
        srn_err err = {0};
        gate_wait(&f->g, 1);
        gate_open(&f->g, 3);
        gate_wait(&f->g, 4);
        pthread_t t;
        removal m = {f, with_grace ? UINT64_MAX : 0};
        pthread_create(&t, NULL, remove_engine, &m);
        int code;
        while (!(code = srn_request_submit(f->s, f->e, &o, 1, &refused, &err))) {
            srn_request_cancel(refused); /* the other thread has not come to it yet */
            srn_request_release(refused);
        }
        assert_int_equal(code, SRN_EBUSY);
        gate_open(&f->g, UINT64_MAX);
        srn_request_status st = wait_done(&f->b, r);
        assert_int_equal(st.code, with_grace ? SRN_OK : SRN_ECANCELLED);
        if (with_grace) assert_int_equal(st.n_output, 30);
        pthread_join(t, NULL);
        assert_int_equal(srn_request_submit(f->s, f->e, &o, 1, &refused, &err), SRN_EINVAL);
        if (srn_scheduler_add(f->s, f->e, &err)) fail_msg("%s", err.text);
        srn_request *again = submit(f->s, f->e, &o);
        assert_int_equal(wait_done(&f->b, again).code, SRN_OK);
        srn_request_release(r);
        srn_request_release(again);
        end(f);
    }
}

enum { CROWD = 128 };

typedef struct crowd {
    fixture *f;
    srn_request_opts o[CROWD];
    srn_request *r[CROWD];
    atomic_bool comes;
    bool refused; /* after it had begun */
} crowd;

static void *submit_crowds(void *arg) {
    crowd *c = arg;
    srn_err err = {0};
    for (int code = SRN_OK; code != SRN_EINVAL;) {
        code = srn_request_submit(c->f->s, c->f->e, c->o, CROWD, c->r, &err);
        atomic_store(&c->comes, true);
        for (int i = 0; !code && i < CROWD; i++) srn_request_release(c->r[i]);
        c->refused |= code == SRN_EBUSY && strstr(err.text, "taken out");
    }
    return NULL;
}

/* The engine goes while requests for it are being checked and copied: whichever comes first, both return. */
static void a_removal_hears_that_a_submit_is_over(void **state) {
    (void)state;
    fixture *f = begin(&small, NULL, UINT64_MAX);
    static crowd c;
    uint32_t refused = 0;
    for (int round = 0; round < 40; round++) {
        pthread_t t;
        srn_err err = {0};
        c.f = f;
        c.refused = false;
        atomic_store(&c.comes, false);
        for (int i = 0; i < CROWD; i++) c.o[i] = opts_of(f, i % 8, LONG, 5);
        pthread_create(&t, NULL, submit_crowds, &c);
        while (!atomic_load(&c.comes)) {
        }
        srn_scheduler_remove(f->s, f->e, 0);
        pthread_join(t, NULL);
        refused += c.refused;
        if (srn_scheduler_add(f->s, f->e, &err)) fail_msg("%s", err.text);
    }
    print_message("refused while the engine went: %u of 40\n", refused);
    end(f);
}

static void *free_scheduler(void *arg) {
    srn_scheduler_free(arg);
    return NULL;
}

static bool is_stopping(srn_scheduler *s) {
    pthread_mutex_lock(&s->lock);
    bool stop = s->stop;
    pthread_mutex_unlock(&s->lock);
    return stop;
}

static void requests_outlive_the_scheduler(void **state) {
    (void)state;
    fixture *f = begin(&small, NULL, 0);
    srn_request_opts o = opts_of(f, 0, 20, 30);
    srn_request *r[3];
    for (int i = 0; i < 3; i++) r[i] = submit(f->s, f->e, &o);
    gate_wait(&f->g, 1);
    pthread_t t;
    pthread_create(&t, NULL, free_scheduler, f->s);
    while (!is_stopping(f->s)) { /* it goes no further than the gate */
    }
    gate_open(&f->g, UINT64_MAX);
    pthread_join(t, NULL);
    f->s = NULL;
    end(f);
    for (int i = 0; i < 3; i++) {
        srn_request_status st = status_of(r[i]);
        assert_int_equal(st.state, SRN_REQUEST_DONE);
        assert_int_equal(st.code, SRN_ECANCELLED);
        srn_request_cancel(r[i]);
        srn_request_release(r[i]);
    }
}

/* ---- other threads ---- */

typedef struct caller {
    _Atomic bool gone;
    _Atomic uint32_t calls;
} caller;

static void check_caller(void *ctx) {
    caller *c = ctx;
    assert_false(atomic_load(&c->gone));
    atomic_fetch_add(&c->calls, 1);
}

static void nobody_is_notified_after_release(void **state) {
    (void)state;
    fixture *f = begin(&(srn_engine_opts){.threads = 2, .n_ctx = 512, .max_seqs = 4}, NULL, UINT64_MAX);
    uint64_t seed = 21;
    for (int i = 0; i < 200; i++) {
        caller *c = calloc(1, sizeof *c);
        srn_request_opts o = opts_of(f, i % 8, 5 + (uint32_t)next_random(&seed) % 20, 50);
        o.notify = check_caller, o.notify_ctx = c;
        srn_request *r = submit(f->s, f->e, &o);
        while (i % 3 && atomic_load(&c->calls) < (uint32_t)i % 5) {
        }
        srn_request_release(r);
        atomic_store(&c->gone, true);
        free(c); /* a later call would touch freed memory, too */
    }
    end(f);
}

typedef struct client {
    fixture *f;
    uint64_t seed;
    uint32_t n_done, n_cancelled, n_tokens;
} client;

static void *be_a_client(void *arg) {
    client *c = arg;
    fixture *f = c->f;
    for (int i = 0; i < 25; i++) {
        srn_request_opts o =
            opts_of(f, (int)(next_random(&c->seed) % 8), 1 + (uint32_t)next_random(&c->seed) % 90,
                    1 + (uint32_t)next_random(&c->seed) % 20);
        o.tenant = next_random(&c->seed) % 3;
        o.priority = (int32_t)(next_random(&c->seed) % 3);
        o.speculate = (uint32_t)(next_random(&c->seed) % 3);
        srn_engine_stats st;
        srn_scheduler_stats(f->s, f->e, &st);
        srn_request *r = submit(f->s, f->e, &o);
        uint64_t what = next_random(&c->seed) % 4;
        if (what == 0) wait_tokens(&f->b, r, 3);
        if (what <= 1) srn_request_cancel(r);
        if (what == 2) {
            srn_request_release(r);
            c->n_cancelled++;
            continue;
        }
        srn_request_status done = wait_done(&f->b, r);
        c->n_done += done.code == SRN_OK;
        c->n_cancelled += done.code == SRN_ECANCELLED;
        c->n_tokens += done.n_output;
        srn_request_release(r);
    }
    return NULL;
}

static void many_threads_ask_cancel_and_leave(void **state) {
    (void)state;
    fixture *f = begin(&(srn_engine_opts){.threads = 2, .n_ctx = 256, .max_seqs = 4, .cache_tokens = 512},
                       NULL, UINT64_MAX);
    pthread_t t[4];
    client c[4];
    uint32_t n = 0, n_tokens = 0;
    for (int i = 0; i < 4; i++) {
        c[i] = (client){.f = f, .seed = 100 + (uint64_t)i};
        pthread_create(&t[i], NULL, be_a_client, &c[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        n += c[i].n_done + c[i].n_cancelled;
        n_tokens += c[i].n_tokens;
    }
    assert_int_equal(n, 100);
    srn_engine_stats st;
    do srn_scheduler_stats(f->s, f->e, &st); /* those that were released end in the next step */
    while (st.n_running || st.n_waiting);
    assert_true(st.output_tokens >= n_tokens);
    assert_int_equal(st.kv_held, 0);
    end(f);
}

static void silence_is_measured_while_there_is_work(void **state) {
    (void)state;
    fixture *f = begin(&small, &(srn_scheduler_opts){.now_us = fake_clock}, 0);
    atomic_fetch_add(&fake_now, 5000000);
    srn_request_opts o = opts_of(f, 0, 20, 2);
    srn_request *r = submit(f->s, f->e, &o);
    gate_wait(&f->g, 1);
    atomic_fetch_add(&fake_now, 7000000);
    assert_int_equal(srn_scheduler_silence_us(f->s), 7000000); /* stuck in a step */
    gate_open(&f->g, 1);
    gate_wait(&f->g, 2);
    assert_int_equal(srn_scheduler_silence_us(f->s), 0);
    gate_open(&f->g, UINT64_MAX);
    wait_done(&f->b, r);
    srn_request_release(r);
    atomic_fetch_add(&fake_now, 9000000);
    while (srn_scheduler_silence_us(f->s)) { /* it falls asleep, and sleep is no silence */
    }
    atomic_fetch_add(&fake_now, 9000000);
    assert_int_equal(srn_scheduler_silence_us(f->s), 0);
    end(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cancelled_within_a_step_in_every_state),
        cmocka_unit_test(late_within_a_step_in_every_state),
        cmocka_unit_test(an_answer_ends_where_the_context_does),
        cmocka_unit_test(stop_texts_and_stop_tokens_end_answers),
        cmocka_unit_test(priorities_go_first_then_the_first_to_come),
        cmocka_unit_test(nobody_is_overtaken_without_end),
        cmocka_unit_test(a_prompt_is_not_overtaken_without_end),
        cmocka_unit_test(work_that_nobody_waits_for_gives_its_place_back),
        cmocka_unit_test(an_embedding_does_not_wait_for_answers_nor_they_for_it),
        cmocka_unit_test(a_prompt_of_higher_priority_is_read_first),
        cmocka_unit_test(the_tenant_served_least_goes_first),
        cmocka_unit_test(a_full_queue_refuses_at_once),
        cmocka_unit_test(what_can_never_run_is_refused),
        cmocka_unit_test(equal_prompts_of_one_call_are_computed_once),
        cmocka_unit_test(twins_go_on_when_the_first_is_cancelled),
        cmocka_unit_test(tenants_share_nothing),
        cmocka_unit_test(an_overflow_fails_only_its_own_request),
        cmocka_unit_test(two_engines_are_served_side_by_side),
        cmocka_unit_test(work_that_nobody_waits_for_has_little_beside_another_engine),
        cmocka_unit_test(removal_waits_for_its_grace),
        cmocka_unit_test(a_removal_hears_that_a_submit_is_over),
        cmocka_unit_test(requests_outlive_the_scheduler),
        cmocka_unit_test(nobody_is_notified_after_release),
        cmocka_unit_test(many_threads_ask_cancel_and_leave),
        cmocka_unit_test(silence_is_measured_while_there_is_work),
    };
    return cmocka_run_group_tests_name("scheduler, step by step", tests, NULL, NULL);
}
