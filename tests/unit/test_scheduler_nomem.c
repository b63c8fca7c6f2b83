/* Every allocation of the scheduler fails once: whoever asked gets SRN_ENOMEM, nobody else notices, and under
 * ASan nothing leaks. A gate keeps the scheduler's thread (pthread_create) still while the caller's
 * allocations are made to fail, and the other way round.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unit/nomem.h"
#include "unit/sched_help.h"

static const int32_t prompt[] = {5, 9, 2, 7, 1, 8, 3, 3, 6, 11, 4, 9};

static srn_request_opts opts_of(bell *b) {
    static const srn_logit_bias bias = {7, -1};
    static const int32_t stop_token = 90;
    static const srn_str stop = {"zzz", 3};
    srn_request_opts o = {.prompt = prompt,
                          .n_prompt = SRN_LEN(prompt),
                          .sampling = srn_sampling_default(),
                          .max_tokens = 20,
                          .ignore_eog = true,
                          .stops = &stop,
                          .n_stops = 1,
                          .stop_tokens = &stop_token,
                          .n_stop_tokens = 1,
                          .n_top = 2,
                          .prompt_logprobs = true,
                          .notify = ring,
                          .notify_ctx = b};
    o.sampling.logit_bias = &bias;
    o.sampling.n_logit_bias = 1;
    return o;
}

static void starting_survives(void **state) {
    (void)state;
    srn_engine *e = open_long("llama", &(srn_engine_opts){.threads = 1, .max_seqs = 2});
    srn_scheduler *s = NULL;
    srn_err err = {0};
    size_t n = 1;
    for (int code = SRN_ENOMEM; code; n++) {
        nomem_begin(n);
        code = srn_scheduler_new(NULL, &s, &err);
        bool failed = nomem_end();
        if (code) assert_true(failed && code == SRN_ENOMEM);
    }
    for (int code = SRN_ENOMEM; code; n++) {
        nomem_begin(n);
        code = srn_scheduler_add(s, e, &err);
        bool failed = nomem_end();
        if (code) assert_true(failed && code == SRN_ENOMEM);
    }
    assert_true(n > 10);
    srn_scheduler_free(s);
    srn_engine_close(e);
}

static void submitting_survives(void **state) {
    (void)state;
    gate *g = malloc(sizeof *g);
    bell b;
    bell_init(&b);
    srn_engine *e = open_long("llama", &(srn_engine_opts){.threads = 1, .n_ctx = 512, .max_seqs = 2});
    gate_init(g, e, 0);
    srn_scheduler *s = scheduler_of(NULL, e);
    srn_request_opts two[2] = {opts_of(&b), opts_of(&b)};
    two[1].kind = SRN_REQUEST_EMBED, two[1].pooling = SRN_POOL_MEAN;
    srn_request *first = submit(s, e, &two[0]), *r[2] = {NULL, NULL};
    srn_err err = {0};
    gate_wait(g, 1);
    size_t n = 1;
    for (int code = SRN_ENOMEM; code; n++) {
        nomem_begin(n);
        code = srn_request_submit(s, e, two, 2, r, &err);
        bool failed = nomem_end();
        if (code) assert_true(failed && code == SRN_ENOMEM && !r[0] && !r[1]);
    }
    assert_true(n > 10);
    gate_open(g, UINT64_MAX);
    assert_int_equal(wait_done(&b, first).code, SRN_OK);
    for (int i = 0; i < 2; i++) assert_int_equal(wait_done(&b, r[i]).code, SRN_OK);
    srn_request_release(first);
    for (int i = 0; i < 2; i++) srn_request_release(r[i]);
    srn_scheduler_free(s);
    gate_done(g, e);
    srn_engine_close(e);
    bell_done(&b);
    free(g);
}

static void running_survives(void **state) {
    (void)state;
    gate *g = malloc(sizeof *g);
    bell b;
    bell_init(&b);
    srn_engine *e = open_long("llama", &(srn_engine_opts){.threads = 1, .n_ctx = 512, .max_seqs = 2});
    gate_init(g, e, 0);
    srn_scheduler *s = scheduler_of(NULL, e);
    srn_request_opts o = opts_of(&b);
    uint32_t n_failed = 0, step = 0;
    for (size_t n = 1, reached = 1; reached; n++) {
        o.tenant = n; /* an account of its own */
        gate_close(g);
        step = g->n_steps;
        srn_request *first = submit(s, e, &o);
        gate_wait(g, step + 1); /* the thread stands still */
        srn_request *r = submit(s, e, &o);
        nomem_begin(n);
        gate_open(g, UINT64_MAX);
        srn_request_status a = wait_done(&b, first), c = wait_done(&b, r);
        reached = nomem_end();
        assert_true(a.code == SRN_OK || a.code == SRN_ENOMEM);
        assert_true(c.code == SRN_OK || c.code == SRN_ENOMEM);
        assert_false(a.code && c.code);
        n_failed += a.code || c.code;
        srn_request_release(first);
        srn_request_release(r);
    }
    assert_true(n_failed > 2);
    srn_scheduler_free(s);
    gate_done(g, e);
    srn_engine_close(e);
    bell_done(&b);
    free(g);
}

/* A job that judges: what its submission takes, and what working it off takes. The thread stands still in a
 * request's step while the job is submitted. */
static void judging_survives(void **state) {
    (void)state;
    gate *g = malloc(sizeof *g);
    bell b;
    bell_init(&b);
    srn_engine *e = open_long("llama", &(srn_engine_opts){.threads = 1, .n_ctx = 512, .max_seqs = 2});
    gate_init(g, e, 0);
    srn_scheduler *s = scheduler_of(NULL, e);
    srn_judge_opts o = {.tokens = prompt, .n = SRN_LEN(prompt), .first = 3, .notify = ring, .notify_ctx = &b};
    srn_request_opts still = opts_of(&b);
    srn_err err = {0};
    uint32_t n_failed[2] = {0}, step = 0;
    for (size_t n = 1, reached[2] = {1, 1}; reached[0] || reached[1]; n++) {
        srn_judge *j = NULL;
        o.tenant[0] = o.tenant[1] = n; /* finds nothing in the cache */
        srn_request *r = submit(s, e, &still);
        gate_wait(g, step + 1);
        nomem_begin(n);
        int code = srn_judge_submit(s, e, e, &o, &j, &err);
        reached[0] = nomem_end();
        assert_int_equal(code, reached[0] ? SRN_ENOMEM : SRN_OK);
        n_failed[0] += code != SRN_OK;
        if (code && srn_judge_submit(s, e, e, &o, &j, &err)) fail_msg("%s", err.text);
        srn_request_cancel(r);
        nomem_begin(n);
        gate_open(g, UINT64_MAX);
        srn_judge_result res = wait_judged(&b, j);
        wait_done(&b, r);
        reached[1] = nomem_end();
        assert_true(res.code == SRN_OK || res.code == SRN_ENOMEM);
        n_failed[1] += res.code != SRN_OK;
        srn_judge_release(j);
        srn_request_release(r);
        gate_close(g);
        step = g->n_steps;
    }
    assert_true(n_failed[0] > 1 && n_failed[1] > 1);
    srn_scheduler_free(s);
    gate_done(g, e);
    srn_engine_close(e);
    bell_done(&b);
    free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starting_survives),
        cmocka_unit_test(submitting_survives),
        cmocka_unit_test(running_survives),
        cmocka_unit_test(judging_survives),
    };
    return cmocka_run_group_tests_name("scheduler without memory", tests, NULL, NULL);
}
