/* The scheduler on the tiny models: what a request gets does not depend on what else runs, to the bit; every
 * way to end; whose turn it is; what other threads may do at any time. Threads: pthread_create is the
 * scheduler's. Random numbers come from a printed seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include "unit/sched_load.h"

static srn_engine_stats run_load(const load_case *c) {
    srn_engine_opts eo = {
        .threads = 2, .n_ctx = 512, .max_seqs = c->max_seqs, .cache_tokens = c->cache_tokens};
    srn_engine *e = open_long(c->model, &eo);
    assert_non_null(e);
    return run_load_on(e, c);
}

static void many_at_once_get_what_each_gets_alone(void **state) {
    (void)state;
    srn_engine_stats st = run_load(&(load_case){"llama", 32, 8, 0, 0, 400, 60, true, false, 1});
    assert_true(st.cached_tokens > 0);
    assert_int_equal(st.draft_tokens, 0);
}

static void speculation_changes_no_token(void **state) {
    (void)state;
    srn_engine_stats st = run_load(&(load_case){"llama", 32, 4, 0, 6, 400, 60, false, false, 2});
    print_message("drafts: %llu, right: %llu\n", (unsigned long long)st.draft_tokens,
                  (unsigned long long)st.accepted_tokens);
    assert_true(st.accepted_tokens > 0 && st.accepted_tokens < st.draft_tokens);
}

static void giving_blocks_back_changes_no_token(void **state) {
    (void)state;
    srn_engine_stats st = run_load(&(load_case){"llama", 16, 8, 512, 0, 40, 250, false, true, 3});
    print_message("preemptions: %llu\n", (unsigned long long)st.preemptions);
    assert_true(st.preemptions > 0 && st.kv_evictions > 0);
    st = run_load(&(load_case){"llama", 16, 8, 512, 5, 40, 250, true, true, 4});
    assert_true(st.preemptions > 0 && st.accepted_tokens > 0);
}

static void windows_change_no_token(void **state) {
    (void)state;
    srn_engine_stats st = run_load(&(load_case){"gemma3", 32, 8, 0, 3, 400, 60, true, false, 5});
    assert_true(st.cached_tokens > 0);
    run_load(&(load_case){"gemma2", 24, 6, 512, 3, 100, 200, true, true, 6});
    run_load(&(load_case){"mistral", 24, 6, 512, 3, 100, 200, true, false, 7});
}

static void experts_change_no_token(void **state) {
    (void)state;
    run_load(&(load_case){"qwen3moe", 24, 8, 0, 0, 400, 60, true, false, 8});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_at_once_get_what_each_gets_alone),
        cmocka_unit_test(speculation_changes_no_token),
        cmocka_unit_test(giving_blocks_back_changes_no_token),
        cmocka_unit_test(windows_change_no_token),
        cmocka_unit_test(experts_change_no_token),
    };
    return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
