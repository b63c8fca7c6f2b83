/* Judging beside production: an engine is exactly nothing apart from itself, two are as far apart as sessions
 * of theirs say, to the bit, whatever else runs; requests get what they get alone; the share of step tokens
 * is kept, and blocks are for requests first; every way to end. Threads: pthread_create is that of the
 * scheduler.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "engine/judge.h"
#include "format/write.h"
#include "synth/synth.h"
#include "unit/sched_load.h"

enum { TEXT = 200, FIRST = 90, N_TEXTS = 6, MAIMED = 120000 };

static _Atomic uint64_t fake_now;
static uint64_t fake_clock(void) {
    return atomic_load(&fake_now);
}

typedef struct text {
    int32_t tokens[TEXT];
} text;

static text text_of(uint64_t seed) {
    text t = {{0}};
    for (int i = 0; i < TEXT; i++) t.tokens[i] = (int32_t)(next_random(&seed) % 100);
    return t;
}

static srn_judge_opts opts_of(const text *t) {
    return (srn_judge_opts){.tokens = t->tokens, .n = TEXT, .first = FIRST};
}

static srn_judge *judge(srn_scheduler *s, srn_engine *a, srn_engine *b, const srn_judge_opts *o) {
    srn_judge *j;
    srn_err err = {0};
    if (srn_judge_submit(s, a, b, o, &j, &err)) fail_msg("%s", err.text);
    return j;
}

static srn_judge_result result_of(srn_judge *j) {
    srn_judge_result r;
    srn_judge_read(j, &r);
    return r;
}

static void same_divergence(const srn_divergence *x, const srn_divergence *y) {
    const double a[] = {x->sum, x->max, x->sum_jsd, x->max_jsd, x->logprob_a, x->logprob_b},
                 b[] = {y->sum, y->max, y->sum_jsd, y->max_jsd, y->logprob_a, y->logprob_b};
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(x->n, y->n);
    assert_int_equal(x->max_at, y->max_at);
    assert_int_equal(x->max_jsd_at, y->max_jsd_at);
    assert_int_equal(x->n_same_top, y->n_same_top);
}

/* The rows that an engine gives after tokens [FIRST - 1, n - 1), by a session. */
static float *rows_of(srn_engine *e, const text *t, uint32_t n) {
    srn_session *s;
    srn_err err = {0};
    uint32_t n_vocab = srn_engine_get_info(e).n_vocab;
    float *rows = calloc((size_t)(n - FIRST) * n_vocab, sizeof *rows);
    if (srn_session_new(e, &s, &err) || srn_session_feed(s, t->tokens, FIRST - 1, NULL, &err) ||
        srn_session_feed_all(s, t->tokens + FIRST - 1, n - FIRST, rows, &err))
        fail_msg("%s", err.text);
    srn_session_free(s);
    return rows;
}

static srn_divergence diverge(srn_engine *a, srn_engine *b, const text *t, uint32_t n) {
    uint32_t n_vocab = srn_engine_get_info(a).n_vocab;
    float *x = rows_of(a, t, n), *y = rows_of(b, t, n);
    srn_divergence d = {0};
    for (uint32_t i = 0; i < n - FIRST; i++)
        srn_divergence_add(&d, x + (size_t)i * n_vocab, y + (size_t)i * n_vocab, n_vocab,
                           t->tokens[FIRST + i]);
    free(x);
    free(y);
    return d;
}

/* ---- beside a load of requests ---- */

typedef struct beside_load {
    beside base;
    srn_engine *canary; /* NULL: the engine itself */
    text texts[N_TEXTS];
    srn_divergence expected[N_TEXTS];
    srn_judge *jobs[N_TEXTS];
    bell b;
} beside_load;

static void judge_all(beside *other, srn_scheduler *s, srn_engine *e) {
    beside_load *w = (beside_load *)other;
    srn_err err = {0};
    if (w->canary && srn_scheduler_add(s, w->canary, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < N_TEXTS; i++) {
        srn_judge_opts o = opts_of(&w->texts[i]);
        o.share = 0.5;
        o.notify = ring;
        o.notify_ctx = &w->b;
        w->jobs[i] = judge(s, e, w->canary ? w->canary : e, &o);
    }
}

static void check_all(beside *other, srn_scheduler *s, srn_engine *e) {
    beside_load *w = (beside_load *)other;
    srn_judge_stats st;
    (void)e;
    for (int i = 0; i < N_TEXTS; i++) {
        srn_judge_result r = wait_judged(&w->b, w->jobs[i]);
        if (r.code) fail_msg("%s", r.err.text);
        same_divergence(&r.d, &w->expected[i]);
        assert_int_equal(r.d.n, TEXT - FIRST);
        srn_judge_release(w->jobs[i]);
    }
    srn_scheduler_judge_stats(s, &st);
    print_message("beside production: %llu of %llu tokens, starved %llu, gave back %llu\n",
                  (unsigned long long)st.busy_tokens, (unsigned long long)st.tokens,
                  (unsigned long long)st.n_starved, (unsigned long long)st.n_preempted);
    assert_int_equal(st.n_done, N_TEXTS);
    assert_int_equal(st.n_compared, N_TEXTS * (TEXT - FIRST));
    assert_true(st.busy_tokens > 0);
    if (w->canary) srn_scheduler_remove(s, w->canary, 0);
}

static void run_beside(const char *model, const load_case *c, bool itself) {
    beside_load w = {.base = {judge_all, check_all}};
    srn_engine_opts eo = {
        .threads = 2, .n_ctx = 512, .max_seqs = c->max_seqs, .cache_tokens = c->cache_tokens};
    srn_engine *e = open_long(model, &eo);
    if (!itself) w.canary = open_maimed(model, &eo, MAIMED);
    assert_non_null(e);
    bell_init(&w.b);
    for (uint64_t i = 0; i < N_TEXTS; i++) {
        w.texts[i] = text_of(100 + i % 4); /* some come twice */
        w.expected[i] = diverge(e, w.canary ? w.canary : e, &w.texts[i], TEXT);
        assert_true(itself ? w.expected[i].sum_jsd <= 0 : w.expected[i].sum_jsd > 0.01);
    }
    run_load_beside(e, c, &w.base);
    srn_engine_close(w.canary);
    bell_done(&w.b);
}

static void an_engine_is_exactly_nothing_apart_from_itself(void **state) {
    (void)state;
    run_beside("llama", &(load_case){"llama", 24, 8, 0, 0, 300, 60, true, false, 1}, true);
}

/* Both with blocks enough and with so few that requests and jobs give theirs back. */
static void jobs_and_requests_do_not_change_each_other(void **state) {
    (void)state;
    run_beside("llama", &(load_case){"llama", 24, 8, 0, 0, 300, 60, true, false, 2}, false);
    run_beside("llama", &(load_case){"llama", 12, 4, 512, 4, 40, 250, false, true, 3}, false);
    run_beside("gemma3", &(load_case){"gemma3", 16, 4, 512, 3, 200, 100, true, false, 4}, false);
}

/* ---- two engines, and what production they have ---- */

typedef struct pair {
    srn_engine *e[2];
    srn_scheduler *s;
    gate g[2]; /* before their devices; the baseline's lets all steps through */
    bell b;
    text t;
} pair;

static pair *begin(const srn_engine_opts *eo, const srn_scheduler_opts *so, size_t maimed, uint64_t tickets) {
    pair *p = calloc(1, sizeof *p);
    srn_err err = {0};
    p->t = text_of(7);
    p->e[0] = open_long("llama", eo);
    p->e[1] = open_maimed("llama", eo, maimed);
    assert_non_null(p->e[0]);
    assert_non_null(p->e[1]);
    gate_init(&p->g[0], p->e[0], UINT64_MAX);
    gate_init(&p->g[1], p->e[1], tickets);
    bell_init(&p->b);
    atomic_store(&fake_now, 1000000);
    p->s = scheduler_of(so, p->e[0]);
    if (srn_scheduler_add(p->s, p->e[1], &err)) fail_msg("%s", err.text);
    return p;
}

static void end(pair *p) {
    gate_open(&p->g[1], UINT64_MAX);
    srn_scheduler_free(p->s);
    for (int k = 0; k < 2; k++) gate_done(&p->g[k], p->e[k]);
    srn_engine_close(p->e[0]);
    srn_engine_close(p->e[1]);
    bell_done(&p->b);
    free(p);
}

static srn_judge *judge_pair(pair *p, const srn_judge_opts *from) {
    srn_judge_opts o = *from;
    o.notify = ring;
    o.notify_ctx = &p->b;
    return judge(p->s, p->e[0], p->e[1], &o);
}

static const srn_engine_opts roomy = {.threads = 2, .n_ctx = 2048, .max_seqs = 4};

static srn_request *produce(pair *p, srn_engine *e, const int32_t *prompt, uint32_t n, uint32_t max_tokens,
                            uint64_t seed) {
    srn_request_opts o = {.prompt = prompt,
                          .n_prompt = n,
                          .sampling = srn_sampling_default(),
                          .max_tokens = max_tokens,
                          .ignore_eog = true,
                          .notify = ring,
                          .notify_ctx = &p->b};
    o.sampling.seed = seed;
    return submit(p->s, e, &o);
}

static srn_judge_stats stats_of(srn_scheduler *s) {
    srn_judge_stats st;
    srn_scheduler_judge_stats(s, &st);
    return st;
}

/* While four answers run all the time, in so many tokens computed judging's part is its share. */
static void check_share(pair *p, double share, bool by_job) {
    enum { RUN = 4, LONG_ANSWER = 1600, JOBS = 48 };
    srn_request *r[RUN];
    srn_judge *jobs[JOBS];
    text texts[JOBS];
    srn_err err = {0};
    assert_int_equal(srn_scheduler_set_judge_share(p->s, by_job ? 0.9 : share, &err), SRN_OK);
    for (uint64_t i = 0; i < RUN; i++) r[i] = produce(p, p->e[0], p->t.tokens, 20, LONG_ANSWER, i);
    for (int i = 0; i < JOBS; i++) {
        texts[i] = text_of(1000 + (uint64_t)i + (uint64_t)(share * 1e6));
        srn_judge_opts o = opts_of(&texts[i]);
        o.share = by_job ? share : 0;
        wait_tokens(&p->b, r[0], 50);
        jobs[i] = judge_pair(p, &o);
    }
    wait_tokens(&p->b, r[0], 100);
    srn_judge_stats from = stats_of(p->s), to = from;
    for (uint32_t n = 200; n < LONG_ANSWER; n += 100) {
        wait_tokens(&p->b, r[0], n);
        to = stats_of(p->s);
        double all =
            (double)(to.busy_tokens + to.production_tokens - from.busy_tokens - from.production_tokens);
        assert_true((double)(to.busy_tokens - from.busy_tokens) <= share * all + 65);
    }
    for (int i = 0; i < RUN; i++) assert_int_not_equal(status_of(r[i]).state, SRN_REQUEST_DONE);
    double judged = (double)(to.busy_tokens - from.busy_tokens),
           all = judged + (double)(to.production_tokens - from.production_tokens);
    print_message("share %g: %g of %g tokens\n", share, judged, all);
    assert_true(all > 4 * 1200 && to.n_queued > 0);
    assert_true(judged > 0.8 * share * all && judged < 1.2 * share * all);
    for (int i = 0; i < RUN; i++) srn_request_release(r[i]);
    for (int i = 0; i < JOBS; i++) srn_judge_release(jobs[i]);
}

static void judging_has_its_share_of_the_tokens_and_no_more(void **state) {
    (void)state;
    pair *p = begin(&roomy, &(srn_scheduler_opts){.now_us = frozen}, MAIMED, UINT64_MAX);
    check_share(p, 0.05, false);
    check_share(p, 0.2, true);
    end(p);
    p = begin(&roomy, NULL, MAIMED, UINT64_MAX); /* by the machine's clock: steps of other sizes */
    check_share(p, 0.1, false);
    end(p);
}

/* By a clock that steps move: a step of a job is at most as much longer than an empty one as a step of the
 * answers that wait for it takes, once the first ones have told what a token costs. */
static void a_gap_is_lengthened_by_a_bounded_time(void **state) {
    (void)state;
    enum { RUN = 4, LONG_ANSWER = 1200, JOBS = 4, STEP_US = 1000 + RUN * 100, ALONE = 60, BESIDE = 1000 };
    pair *p = begin(&roomy, &(srn_scheduler_opts){.now_us = fake_clock}, MAIMED, UINT64_MAX);
    srn_request *r[RUN];
    srn_judge *jobs[JOBS];
    for (int k = 0; k < 2; k++) p->g[k].clock = &fake_now;
    gate_close(&p->g[0]);
    for (uint64_t i = 0; i < RUN; i++) r[i] = produce(p, p->e[0], p->t.tokens, 20, LONG_ANSWER, i);
    gate_open(&p->g[0], ALONE);
    gate_wait(&p->g[0], ALONE + 1); /* in the midst of their answers */
    srn_judge_opts o = opts_of(&p->t);
    o.share = 0.1;
    for (uint64_t i = 0; i < JOBS; i++) {
        o.tenant[0] = o.tenant[1] = i;
        jobs[i] = judge_pair(p, &o);
    }
    uint64_t from = atomic_load(&fake_now), judging_us = 0;
    gate_open(&p->g[0], BESIDE);
    gate_wait(&p->g[0], ALONE + BESIDE + 1); /* and still in it */
    pthread_mutex_lock(&p->g[1].lock);
    uint64_t all_us = atomic_load(&fake_now) - from;
    uint32_t n = p->g[1].n_log, most = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t tokens = p->g[1].log[i].n_tokens;
        judging_us += 1000 + 100 * tokens;
        if (i >= 4) most = SRN_MAX(most, tokens);
    }
    pthread_mutex_unlock(&p->g[1].lock);
    print_message("%u steps of the canary, at most %u tokens, %g of the time\n", n, most,
                  (double)judging_us / (double)all_us);
    gate_open(&p->g[0], UINT64_MAX);
    assert_true(n > 5 && judging_us < all_us);
    assert_true(most >= 8 && most <= STEP_US / 100);
    assert_true((double)judging_us < 0.1 * (double)all_us);
    for (int i = 0; i < RUN; i++) srn_request_release(r[i]);
    for (int i = 0; i < JOBS; i++) srn_judge_release(jobs[i]);
    end(p);
}

static void idle_time_is_used_and_what_is_cached_is_not_computed(void **state) {
    (void)state;
    pair *p = begin(&roomy, NULL, MAIMED, UINT64_MAX);
    srn_judge_opts o = opts_of(&p->t);
    o.tenant[0] = o.tenant[1] = 5;
    srn_judge *j = judge_pair(p, &o);
    srn_judge_result r = wait_judged(&p->b, j), again;
    assert_int_equal(r.code, SRN_OK);
    assert_int_equal(r.n_cached[0] + r.n_cached[1], 0);
    assert_int_equal(r.n_computed[0], TEXT - 1);
    assert_int_equal(r.n_computed[1], TEXT - 1);
    assert_true(r.started_us >= r.submitted_us && r.done_us >= r.started_us);
    srn_judge_release(j);
    j = judge_pair(p, &o);
    again = wait_judged(&p->b, j);
    same_divergence(&again.d, &r.d);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(again.n_cached[k], FIRST - 1);
        assert_int_equal(again.n_computed[k], TEXT - FIRST);
    }
    srn_judge_release(j);
    o.tenant[1] = 6; /* another's prefix is not taken */
    j = judge_pair(p, &o);
    again = wait_judged(&p->b, j);
    assert_int_equal(again.n_cached[0], FIRST - 1);
    assert_int_equal(again.n_cached[1], 0);
    srn_judge_release(j);
    srn_judge_stats st = stats_of(p->s);
    assert_int_equal(st.n_done, 3);
    assert_int_equal(st.busy_tokens, 0);
    assert_int_equal(st.cached_tokens, 3 * (FIRST - 1));
    end(p);
}

static void as_many_tokens_are_compared_as_were_asked_for(void **state) {
    (void)state;
    pair *p = begin(&roomy, NULL, MAIMED, UINT64_MAX);
    srn_judge_opts o = opts_of(&p->t);
    o.max_tokens = 33;
    srn_judge *j = judge_pair(p, &o);
    srn_judge_result r = wait_judged(&p->b, j);
    srn_judge_release(j);
    srn_scheduler_remove(p->s, p->e[0], 0);
    srn_scheduler_remove(p->s, p->e[1], 0);
    srn_divergence d = diverge(p->e[0], p->e[1], &p->t, FIRST + 33);
    assert_int_equal(r.d.n, 33);
    same_divergence(&r.d, &d);
    assert_true(d.sum_jsd > 0.1 && d.max_jsd <= log(2) && d.logprob_a < 0);
    end(p);
}

/* ---- ends ---- */

static void a_job_ends_when_it_is_cancelled_late_or_its_engine_goes(void **state) {
    (void)state;
    pair *p = begin(&roomy, &(srn_scheduler_opts){.now_us = fake_clock}, 0, 0);
    srn_judge_opts o = opts_of(&p->t), late = o;
    late.deadline_us = 2000000;
    srn_judge *first = judge_pair(p, &o), *second = judge_pair(p, &late), *third = judge_pair(p, &o),
              *last = judge_pair(p, &o);
    gate_wait(&p->g[1], 1); /* the thread stands still in a step of the first */
    assert_int_equal(result_of(first).state, SRN_JUDGE_RUNNING);
    assert_int_equal(result_of(second).state, SRN_JUDGE_QUEUED);
    srn_judge_cancel(first);
    srn_judge_cancel(third);
    gate_open(&p->g[1], 1);
    srn_judge_result r = wait_judged(&p->b, first);
    assert_int_equal(r.code, SRN_ECANCELLED);
    assert_true(r.d.n < TEXT - FIRST);
    assert_int_equal(wait_judged(&p->b, third).code, SRN_ECANCELLED);
    gate_wait(&p->g[1], 2); /* the second runs */
    atomic_store(&fake_now, 2000000);
    gate_open(&p->g[1], 1);
    r = wait_judged(&p->b, second);
    assert_int_equal(r.code, SRN_ETIMEOUT);
    assert_non_null(strstr(r.err.text, "time was over"));
    gate_wait(&p->g[1], 3);
    srn_judge_stats st = stats_of(p->s);
    assert_int_equal(st.n_failed, 3);
    assert_int_equal(st.n_queued, 1);
    gate_open(&p->g[1], UINT64_MAX);
    srn_judge_release(first);
    srn_judge_release(second);
    srn_judge_release(third);
    srn_judge_release(last);
    end(p);
}

static void an_engine_that_goes_takes_its_jobs_along(void **state) {
    (void)state;
    pair *p = begin(&roomy, NULL, 0, 0);
    srn_judge_opts o = opts_of(&p->t);
    srn_judge *run = judge_pair(p, &o), *wait = judge_pair(p, &o), *left = judge_pair(p, &o);
    srn_request *r = produce(p, p->e[0], p->t.tokens, 20, 30, 1);
    gate_wait(&p->g[1], 1);
    gate_open(&p->g[1], UINT64_MAX);
    srn_scheduler_remove(p->s, p->e[1], UINT64_MAX);
    srn_judge *jobs[3] = {run, wait, left};
    for (int i = 0; i < 3; i++) {
        srn_judge_result res = wait_judged(&p->b, jobs[i]);
        assert_true(res.code == SRN_ECANCELLED || res.code == SRN_OK); /* those that were quick */
        srn_judge_release(jobs[i]);
    }
    srn_err err = {0};
    assert_int_equal(srn_judge_submit(p->s, p->e[0], p->e[1], &o, &run, &err), SRN_EINVAL);
    assert_int_equal(wait_done(&p->b, r).code, SRN_OK);
    srn_request_release(r);
    end(p);
}

static void jobs_end_with_the_scheduler_and_outlive_it(void **state) {
    (void)state;
    pair *p = begin(&roomy, NULL, 0, 0);
    srn_judge_opts o = opts_of(&p->t);
    srn_judge *j[2] = {judge_pair(p, &o), judge_pair(p, &o)};
    gate_wait(&p->g[1], 1);
    srn_judge_cancel(j[0]);
    srn_judge_cancel(j[1]);
    end(p);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(result_of(j[i]).code, SRN_ECANCELLED);
        srn_judge_release(j[i]);
    }
}

static void what_overflows_in_one_engine_is_said_of_it(void **state) {
    (void)state;
    pair *p = begin(&roomy, NULL, 0, UINT64_MAX);
    p->g[1].poison = 99;
    p->t.tokens[FIRST + 50] = 99;
    for (int i = 0; i < FIRST + 50; i++) p->t.tokens[i] %= 99;
    srn_judge_opts o = opts_of(&p->t);
    srn_judge *j = judge_pair(p, &o);
    srn_judge_result r = wait_judged(&p->b, j);
    assert_int_equal(r.code, SRN_ENONFINITE);
    assert_non_null(strstr(r.err.text, "canary"));
    assert_true(r.d.n < TEXT - FIRST);
    srn_judge_release(j);
    o.n = FIRST + 40;
    j = judge_pair(p, &o);
    assert_int_equal(wait_judged(&p->b, j).code, SRN_OK);
    srn_judge_release(j);
    end(p);
}

/* ---- refusals ---- */

/* A model of another number of tokens than the tiny ones have. */
static srn_engine *open_of_other_words(const srn_engine_opts *o) {
    static const char like[] = "{\"arch\":\"llama\",\"n_vocab\":300,\"n_embd\":256,\"n_layer\":1,"
                               "\"n_head\":4,\"n_head_kv\":2,\"n_ff\":512,\"n_ctx\":256}";
    const srn_mix *mix;
    srn_shape shape;
    srn_synth *made = NULL;
    srn_engine *e = NULL;
    srn_out *out = NULL;
    srn_err err = {0};
    if (srn_shape_parse(like, sizeof like - 1, "other", &shape, &err) || srn_mix_find("Q8_0", &mix, &err) ||
        srn_synth_new(&shape, mix, NULL, &made, &err) ||
        srn_out_memory(srn_synth_file_bytes(made), &out, &err) || srn_synth_fill(made, out, &err) ||
        srn_engine_open(srn_out_path(out), o, &e, &err))
        fail_msg("%s", err.text);
    srn_out_free(out);
    srn_synth_free(made);
    return e;
}

static void what_cannot_be_judged_is_refused_at_once(void **state) {
    (void)state;
    pair *p = begin(&(srn_engine_opts){.threads = 1, .n_ctx = 256, .max_seqs = 2},
                    &(srn_scheduler_opts){.max_judges = 2}, 0, 0);
    srn_engine *other = open_long("gemma3", &(srn_engine_opts){.threads = 1, .n_ctx = 256}),
               *wide = open_of_other_words(&(srn_engine_opts){.threads = 1, .n_ctx = 256});
    srn_judge_opts good = opts_of(&p->t), o = good;
    srn_judge *j, *queued[2];
    srn_err err = {0};
    assert_non_null(other);
    o.first = 0;
    assert_int_equal(srn_judge_submit(p->s, p->e[0], p->e[1], &o, &j, &err), SRN_EINVAL);
    o.first = o.n;
    assert_int_equal(srn_judge_submit(p->s, p->e[0], p->e[1], &o, &j, &err), SRN_EINVAL);
    o = good, o.share = 1;
    assert_int_equal(srn_judge_submit(p->s, p->e[0], p->e[1], &o, &j, &err), SRN_EINVAL);
    assert_int_equal(srn_scheduler_set_judge_share(p->s, 0, &err), SRN_EINVAL);
    text bad = p->t;
    bad.tokens[TEXT - 1] = 1 << 20;
    o = opts_of(&bad);
    assert_int_equal(srn_judge_submit(p->s, p->e[0], p->e[1], &o, &j, &err), SRN_EINVAL);
    assert_non_null(strstr(err.text, "199"));
    int32_t many[300] = {0};
    o = good, o.tokens = many, o.n = 300;
    assert_int_equal(srn_judge_submit(p->s, p->e[0], p->e[1], &o, &j, &err), SRN_ECONTEXT);
    assert_int_equal(srn_judge_submit(p->s, p->e[0], other, &good, &j, &err), SRN_EINVAL);
    assert_int_equal(srn_judge_comparable(p->e[0], other, &err), SRN_EUNSUP);
    assert_non_null(strstr(err.text, "not comparable"));
    assert_int_equal(srn_judge_comparable(p->e[0], p->e[1], &err), SRN_OK);
    if (srn_scheduler_add(p->s, wide, &err)) fail_msg("%s", err.text);
    assert_int_equal(srn_judge_submit(p->s, p->e[0], wide, &good, &j, &err), SRN_EUNSUP);
    assert_non_null(strstr(err.text, "vocabularies of 112 and 300"));
    assert_int_equal(srn_judge_comparable(p->e[0], wide, &err), SRN_EUNSUP);
    for (int i = 0; i < 2; i++) queued[i] = judge_pair(p, &good);
    assert_int_equal(srn_judge_submit(p->s, p->e[0], p->e[1], &good, &j, &err), SRN_EBUSY);
    assert_int_equal(stats_of(p->s).n_refused, 1);
    gate_open(&p->g[1], UINT64_MAX);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(wait_judged(&p->b, queued[i]).code, SRN_OK);
        srn_judge_release(queued[i]);
    }
    srn_scheduler_remove(p->s, wide, 0);
    srn_engine_close(wide);
    srn_engine_close(other);
    end(p);
}

/* ---- blocks ---- */

/* Requests that fill the cache leave none to the job, which is seen, and which then ends as it would alone.
 */
static void requests_have_the_blocks_first(void **state) {
    (void)state;
    pair *p = begin(&(srn_engine_opts){.threads = 2, .n_ctx = 512, .max_seqs = 2, .cache_tokens = 512}, NULL,
                    MAIMED, UINT64_MAX);
    srn_divergence d;
    srn_judge_opts o = opts_of(&p->t);
    srn_judge *j = judge_pair(p, &o);
    d = wait_judged(&p->b, j).d;
    srn_judge_release(j);
    o.tenant[0] = o.tenant[1] = 1;
    srn_request *r[2];
    enum { STEPS = 110 }; /* after which the two are in the midst of their answers */
    uint32_t before = p->g[0].n_steps;
    gate_close(&p->g[0]);
    for (uint64_t i = 0; i < 2; i++) r[i] = produce(p, p->e[0], p->t.tokens + i, 30, 210, i);
    gate_open(&p->g[0], STEPS);
    gate_wait(&p->g[0], before + STEPS + 1);
    j = judge_pair(p, &o);
    gate_open(&p->g[0], UINT64_MAX);
    for (int i = 0; i < 2; i++) {
        srn_request_status st = wait_done(&p->b, r[i]);
        assert_int_equal(st.code, SRN_OK);
        assert_int_equal(st.n_preempted, 0);
        srn_request_release(r[i]);
    }
    srn_judge_result res = wait_judged(&p->b, j);
    assert_int_equal(res.code, SRN_OK);
    same_divergence(&res.d, &d);
    srn_judge_release(j);
    srn_judge_stats st = stats_of(p->s);
    print_message("starved %llu, gave back %llu\n", (unsigned long long)st.n_starved,
                  (unsigned long long)st.n_preempted);
    assert_true(st.n_starved + st.n_preempted > 0);
    end(p);
}

/* A job that holds blocks gives them back for a request that wants them all, and goes on when it is over. */
static void a_job_gives_its_blocks_back_for_a_request(void **state) {
    (void)state;
    enum { LONG_PROMPT = 440 };
    pair *p = begin(&(srn_engine_opts){.threads = 2, .n_ctx = 512, .max_seqs = 2, .cache_tokens = 512}, NULL,
                    MAIMED, 0);
    int32_t prompt[LONG_PROMPT];
    for (int i = 0; i < LONG_PROMPT; i++) prompt[i] = i % 90;
    srn_judge_opts o = opts_of(&p->t);
    srn_judge *j = judge_pair(p, &o);
    gate_wait(&p->g[1], 1);
    gate_open(&p->g[1], 1);
    gate_wait(&p->g[1], 2); /* it has blocks */
    srn_request *r = produce(p, p->e[1], prompt, LONG_PROMPT, 30, 3);
    gate_open(&p->g[1], UINT64_MAX);
    srn_request_status st = wait_done(&p->b, r);
    assert_int_equal(st.code, SRN_OK);
    assert_int_equal(st.n_preempted, 0);
    assert_int_equal(st.n_output, 30);
    srn_request_release(r);
    srn_judge_result res = wait_judged(&p->b, j);
    assert_int_equal(res.code, SRN_OK);
    assert_true(res.n_preempted >= 1);
    assert_true(res.n_computed[1] >= TEXT - 1);
    srn_judge_release(j);
    srn_scheduler_remove(p->s, p->e[0], 0);
    srn_scheduler_remove(p->s, p->e[1], 0);
    srn_divergence d = diverge(p->e[0], p->e[1], &p->t, TEXT);
    same_divergence(&res.d, &d);
    end(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_engine_is_exactly_nothing_apart_from_itself),
        cmocka_unit_test(jobs_and_requests_do_not_change_each_other),
        cmocka_unit_test(judging_has_its_share_of_the_tokens_and_no_more),
        cmocka_unit_test(a_gap_is_lengthened_by_a_bounded_time),
        cmocka_unit_test(idle_time_is_used_and_what_is_cached_is_not_computed),
        cmocka_unit_test(as_many_tokens_are_compared_as_were_asked_for),
        cmocka_unit_test(a_job_ends_when_it_is_cancelled_late_or_its_engine_goes),
        cmocka_unit_test(an_engine_that_goes_takes_its_jobs_along),
        cmocka_unit_test(jobs_end_with_the_scheduler_and_outlive_it),
        cmocka_unit_test(what_overflows_in_one_engine_is_said_of_it),
        cmocka_unit_test(what_cannot_be_judged_is_refused_at_once),
        cmocka_unit_test(requests_have_the_blocks_first),
        cmocka_unit_test(a_job_gives_its_blocks_back_for_a_request),
    };
    return cmocka_run_group_tests_name("judging", tests, NULL, NULL);
}
