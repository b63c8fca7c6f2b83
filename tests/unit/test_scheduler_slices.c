/* Slices: answers whose engine time is measured have steps of their own now and then; what anybody gets stays
 * the same, to the bit. Threads: pthread_create is the scheduler's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include "unit/sched_load.h"

static atomic_uint_least64_t the_time;

/* A clock that goes on by 100 us whenever it is read: a step takes 200, for it is read at three moments. */
static uint64_t tick(void) {
    return atomic_fetch_add(&the_time, 100) + 100;
}

enum { N = 6, TOKENS = 120 };

static void a_slice_is_measured_apart_and_gets_what_it_gets_alone(void **state) {
    (void)state;
    static const uint32_t slices[N] = {0, 1, 0, 2, 1, 0};
    srn_engine *e = open_long("llama", &(srn_engine_opts){.threads = 2, .n_ctx = 512, .max_seqs = N});
    srn_scheduler_opts so = {.now_us = tick};
    srn_request_opts o[N];
    srn_request *r[N];
    answer expected[N];
    int32_t prompts[N][20];
    bell b;
    bell_init(&b);
    for (uint32_t i = 0; i < N; i++) {
        for (uint32_t k = 0; k < 20; k++) prompts[i][k] = (int32_t)(7 * i + 3 * k + 1);
        o[i] = (srn_request_opts){.prompt = prompts[i],
                                  .n_prompt = 20,
                                  .sampling = srn_sampling_default(),
                                  .max_tokens = TOKENS,
                                  .ignore_eog = true,
                                  .logprobs = true,
                                  .notify = ring,
                                  .notify_ctx = &b};
        o[i].sampling.seed = i;
        alone(e, &o[i], &expected[i]);
        o[i].slice = slices[i];
    }
    srn_scheduler *s = scheduler_of(&so, e);
    srn_err err = {0};
    assert_int_equal(srn_request_submit(s, e, o, N, r, &err), SRN_OK);
    for (uint32_t i = 0; i < N; i++) {
        srn_request_status st = wait_done(&b, r[i]);
        srn_out_token out[TOKENS];
        assert_int_equal(srn_request_read(r[i], 0, NULL, 0, out, NULL, TOKENS, &st), TOKENS);
        for (uint32_t k = 0; k < TOKENS; k++) {
            assert_int_equal(out[k].id, expected[i].ids[k]);
            assert_memory_equal(&out[k].logprob, &expected[i].logprobs[k], sizeof(float));
        }
        print_message("slice %u: %u tokens in %llu us, prompt %llu us\n", slices[i], st.n_decoded,
                      (unsigned long long)st.decode_us, (unsigned long long)st.prefill_us);
        if (!slices[i]) {
            assert_int_equal(st.n_decoded, 0);
            assert_int_equal(st.decode_us + st.prefill_us, 0);
        } else {
            assert_in_range(st.n_decoded, TOKENS / 20,
                            TOKENS / 5); /* one step in eight is of the two slices */
            assert_int_equal(st.decode_us, 200 * st.n_decoded);
            assert_in_range(st.prefill_us, 1, 200); /* its part of one step */
        }
        srn_request_release(r[i]);
    }
    srn_scheduler_free(s);
    bell_done(&b);
    srn_engine_close(e);
}

/* Where nobody else runs every step is its own. */
static void a_slice_that_runs_alone_is_measured_in_all_steps(void **state) {
    (void)state;
    srn_engine *e = open_long("llama", &(srn_engine_opts){.threads = 2, .n_ctx = 512, .max_seqs = 2});
    srn_scheduler_opts so = {.now_us = tick};
    int32_t prompt[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    bell b;
    bell_init(&b);
    srn_request_opts o = {.prompt = prompt,
                          .n_prompt = 8,
                          .sampling = srn_sampling_default(),
                          .max_tokens = TOKENS,
                          .ignore_eog = true,
                          .slice = 3,
                          .notify = ring,
                          .notify_ctx = &b};
    srn_scheduler *s = scheduler_of(&so, e);
    srn_request *r = submit(s, e, &o);
    srn_request_status st = wait_done(&b, r);
    assert_int_equal(st.n_decoded, TOKENS - 1); /* the first token is the prompt's */
    srn_request_release(r);
    srn_scheduler_free(s);
    bell_done(&b);
    srn_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slice_is_measured_apart_and_gets_what_it_gets_alone),
        cmocka_unit_test(a_slice_that_runs_alone_is_measured_in_all_steps),
    };
    return cmocka_run_group_tests_name("scheduler slices", tests, NULL, NULL);
}
