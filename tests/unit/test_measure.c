/* What an answer was like: repetition against the plainest count, its ends and bounds; uncertainty as the
 * mean of the log-probabilities that a request gives. Random numbers come from a printed seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "base/num.h"
#include "engine/scheduler.h"

enum { MOST = 600 };

static uint64_t next(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static uint32_t again(const srn_out_token *t, uint32_t n) {
    uint32_t count = 0;
    for (uint32_t i = 0; i + 4 <= n; i++)
        for (uint32_t k = 0; k < i; k++)
            if (t[k].id == t[i].id && t[k + 1].id == t[i + 1].id && t[k + 2].id == t[i + 2].id &&
                t[k + 3].id == t[i + 3].id) {
                count++;
                break;
            }
    return count;
}

static void repetition_is_the_share_of_parts_that_stood_before(void **state) {
    (void)state;
    static srn_out_token t[MOST];
    uint64_t seed = 4;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 300; round++) {
        uint32_t n = 4 + (uint32_t)next(&seed) % (MOST - 4), kinds = 1 + (uint32_t)next(&seed) % 12;
        for (uint32_t i = 0; i < n; i++) t[i].id = (int32_t)(next(&seed) % kinds);
        double want = (double)again(t, n) / (double)(n - 3), got = srn_answer_repetition(t, n);
        assert_memory_equal(&got, &want, sizeof want);
    }
    for (int i = 0; i < MOST; i++) t[i].id = i;
    assert_true(srn_answer_repetition(t, MOST) <= 0);
    for (int i = 0; i < 4; i++) assert_true(isnan(srn_answer_repetition(t, (uint32_t)i)));
    for (int i = 0; i < 10; i++) t[i].id = 7; /* 7 parts, all but the first equal to it */
    double got = srn_answer_repetition(t, 10), want = 6.0 / 7;
    assert_memory_equal(&got, &want, sizeof want);
}

/* What comes after the first 32,768 tokens is not looked at. */
static void a_long_answer_is_measured_up_to_a_bound(void **state) {
    (void)state;
    enum { BOUND = 32768, LONG = 3 * BOUND };
    srn_out_token *t = calloc(LONG, sizeof *t);
    for (int i = 0; i < LONG; i++) t[i].id = i < BOUND ? i : 0;
    assert_true(srn_answer_repetition(t, LONG) <= 0);
    for (int i = 0; i < LONG; i++) t[i].id = i % 2;
    assert_true(srn_answer_repetition(t, LONG) > 0.999);
    free(t);
}

static void uncertainty_is_the_mean_of_minus_log_p(void **state) {
    (void)state;
    const srn_out_token t[] = {{.logprob = -0.5f}, {.logprob = -1.5f}, {.logprob = 0}, {.logprob = -4}};
    double got = srn_answer_uncertainty(t, 4), want = 1.5;
    assert_memory_equal(&got, &want, sizeof want);
    assert_true(isnan(srn_answer_uncertainty(t, 0)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repetition_is_the_share_of_parts_that_stood_before),
        cmocka_unit_test(a_long_answer_is_measured_up_to_a_bound),
        cmocka_unit_test(uncertainty_is_the_mean_of_minus_log_p),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
