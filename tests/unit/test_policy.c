/* How much prompt a step takes, in simulations: machines with known costs and noise, thousands of steps, gaps
 * between the tokens of running answers as they would see them. Pure; random numbers come from a printed
 * seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/policy.h"

/* A machine: what steps really take. */
typedef struct machine {
    double base, row, prompt, attend; /* microseconds; attend for 1024 positions */
    double knee;   /* steps of fewer tokens in all cost as much as if they had so many (memory-bound) */
    double noise;  /* relative, uniform */
    double hiccup; /* chance of a step that takes three times as long */
    uint64_t seed;
} machine;

static double uniform(uint64_t *x) {
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return (double)(*x >> 33) / 2147483648.0;
}

static double step_us(machine *m, const srn__load *l) {
    double cost = m->row * l->n_rows + m->prompt * l->n_prompt;
    if (l->n_rows + l->n_prompt < m->knee) cost = SRN_MAX(cost, m->prompt * m->knee);
    double us = m->base + cost + m->attend * (double)l->attended / 1024;
    us *= 1 + m->noise * (2 * uniform(&m->seed) - 1);
    return uniform(&m->seed) < m->hiccup ? 3 * us : us;
}

static const machine small_model = {.base = 1500, .row = 700, .prompt = 550, .attend = 30, .noise = 0.05};
static const machine large_model = {.base = 60000, .row = 6000, .prompt = 5500, .attend = 300, .noise = 0.05};
static const machine many_cores = {
    .base = 8000, .row = 120, .prompt = 60, .attend = 3, .knee = 40, .noise = 0.1};

static srn__load answers_of(uint32_t n, uint32_t past) {
    return (srn__load){.n_rows = n, .attended = (uint64_t)n * past};
}

/* One step with n running answers at position `past` and a prompt of which `left` tokens are to come from
 * *at on; returns its time. */
static double simulate(srn__policy *p, machine *m, uint32_t n, uint32_t past, uint32_t *at, uint32_t left) {
    srn__load load = answers_of(n, past);
    uint32_t most = SRN_MIN(left, p->max_batch - n);
    uint32_t chunk = srn__policy_chunk(p, srn__policy_allowance(p, &load, 1, 0), 0, *at, most);
    assert_true(chunk <= most && (chunk > 0 || most == 0));
    if (n && srn__policy_wants_quiet(p)) chunk = 0;
    load.n_prompt = chunk;
    load.attended += (uint64_t)chunk * *at + (uint64_t)chunk * (chunk + 1) / 2;
    double us = step_us(m, &load);
    srn__policy_learn(p, &load, us);
    *at += chunk;
    return us;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *v, uint32_t n, double q) {
    qsort(v, n, sizeof *v, ascending);
    return v[SRN_MIN(n - 1, (uint32_t)(q * n))];
}

enum { LONG_PROMPT = 6000, MOST_STEPS = 8000 };
static double gaps[MOST_STEPS];

/* A machine that has answered for a while, and then reads a long prompt beside n answers. */
static void long_prompt_beside(const machine *of, uint32_t n, double share, double bar, double *ret_busy_us) {
    machine m = *of;
    m.seed = 7 + n;
    srn__policy p;
    srn__policy_init(&p, share, 512);
    uint32_t none = 0;
    for (uint32_t i = 0; i < n; i++) /* prompts of 100 tokens come one after the other */
        for (uint32_t at = 0; at < 100;) simulate(&p, &m, i, 120, &at, 100 - at);
    for (uint32_t i = 0; i < 500; i++) gaps[i] = simulate(&p, &m, n, 150, &none, 0);
    double quiet_p99 = quantile(gaps, 500, 0.99), quiet_p50 = quantile(gaps, 500, 0.5);
    uint32_t steps = 0;
    *ret_busy_us = 0;
    for (uint32_t at = 0; at < LONG_PROMPT; steps++) {
        assert_true(steps < MOST_STEPS);
        gaps[steps] = simulate(&p, &m, n, 150, &at, LONG_PROMPT - at);
        *ret_busy_us += gaps[steps];
    }
    double busy_p99 = quantile(gaps, steps, 0.99), busy_p50 = quantile(gaps, steps, 0.5);
    print_message("%2u answers: gap p50 %.1f -> %.1f ms, p99 %.1f -> %.1f ms, prompt in %.1f s\n", n,
                  quiet_p50 / 1e3, busy_p50 / 1e3, quiet_p99 / 1e3, busy_p99 / 1e3, *ret_busy_us / 1e6);
    assert_true(busy_p99 <= bar * quiet_p99);
    assert_true(busy_p50 <= bar * quiet_p50);
}

static void gaps_at_most_double_while_a_long_prompt_is_read(void **state) {
    (void)state;
    double us;
    for (uint32_t n = 4; n <= 32; n *= 2) {
        long_prompt_beside(&small_model, n, 0.5, 2.0, &us);
        long_prompt_beside(&many_cores, n, 0.5, 2.0, &us);
    }
    for (uint32_t n = 8; n <= 32; n *= 2) long_prompt_beside(&large_model, n, 0.5, 2.0, &us);
}

static void hiccups_do_not_spoil_the_bound(void **state) {
    (void)state;
    machine m = small_model;
    m.hiccup = 0.02;
    double us;
    long_prompt_beside(&m, 8, 0.5, 2.1, &us);
}

static void a_prompt_uses_most_of_its_share(void **state) {
    (void)state;
    double busy;
    long_prompt_beside(&small_model, 8, 0.5, 2.0, &busy);
    machine m = small_model;
    double alone = m.prompt * LONG_PROMPT + m.attend * (double)LONG_PROMPT * LONG_PROMPT / 2 / 1024;
    assert_true(busy < 2.5 * alone); /* at half the time it would take twice as long */
}

static void a_smaller_share_means_smaller_gaps(void **state) {
    (void)state;
    double half, quarter;
    long_prompt_beside(&small_model, 8, 0.5, 2.0, &half);
    long_prompt_beside(&small_model, 8, 0.25, 1.4, &quarter);
    assert_true(quarter > 1.5 * half);
}

static void a_prompt_alone_is_read_fast_and_stops_soon(void **state) {
    (void)state;
    const machine *all[] = {&small_model, &many_cores};
    for (size_t i = 0; i < SRN_LEN(all); i++) {
        machine m = *all[i];
        m.seed = 3;
        srn__policy p;
        srn__policy_init(&p, 0.5, 512);
        double total = 0, worst = 0;
        uint32_t steps = 0;
        for (uint32_t at = 0; at < LONG_PROMPT; steps++) {
            double us = simulate(&p, &m, 0, 0, &at, LONG_PROMPT - at);
            total += us;
            worst = SRN_MAX(worst, us);
        }
        print_message("alone: %u steps, longest %.1f ms, %.2f s\n", steps, worst / 1e3, total / 1e6);
        assert_true(worst < 100e3);
        assert_true(total < 1.3 * (m.prompt * LONG_PROMPT + m.attend * 6000.0 * 3000 / 1024 + 20 * m.base));
    }
}

static void a_prompt_always_makes_progress(void **state) {
    (void)state;
    machine m = large_model;
    m.seed = 5;
    srn__policy p;
    srn__policy_init(&p, 0.05, 512);
    uint32_t at = 0, steps = 0;
    for (; at < 600; steps++) simulate(&p, &m, 4, 4000, &at, 600 - at);
    assert_true(steps <= 600 / SRN__MIN_CHUNK);
}

static void a_machine_that_slows_down_is_followed(void **state) {
    (void)state;
    machine m = small_model;
    m.seed = 9;
    srn__policy p;
    srn__policy_init(&p, 0.5, 512);
    uint32_t at = 0;
    while (at < 3000) simulate(&p, &m, 8, 150, &at, 3000 - at);
    m.base *= 6, m.row *= 6, m.prompt *= 6, m.attend *= 6;
    for (uint32_t i = 0; i < 60; i++) simulate(&p, &m, 8, 150, &at, 8);
    srn__load load = answers_of(8, 150);
    load.n_prompt = 8; /* a step as the recent ones were */
    load.attended += 8ull * at;
    m.noise = 0;
    double predicted = srn__policy_predict(&p, &load), real = step_us(&m, &load);
    print_message("predicted %.1f ms, real %.1f ms\n", predicted / 1e3, real / 1e3);
    assert_true(predicted > 0.8 * real && predicted < 1.25 * real);
}

static void prompts_are_still_known_after_many_answers(void **state) {
    (void)state;
    machine m = small_model;
    m.seed = 11;
    srn__policy p;
    srn__policy_init(&p, 0.5, 512);
    uint32_t at = 0, none = 0;
    while (at < 3000) simulate(&p, &m, 8, 150, &at, 3000 - at);
    for (uint32_t i = 0; i < 5000; i++) simulate(&p, &m, 8, 150, &none, 0);
    at = 0;
    srn__load load = answers_of(8, 150);
    double quiet = step_us(&m, &load), first = simulate(&p, &m, 8, 150, &at, 3000);
    assert_true(first < 2.2 * quiet && at >= 4);
}

static void other_engines_answers_are_not_kept_waiting(void **state) {
    (void)state;
    machine m = small_model;
    m.seed = 13;
    srn__policy p;
    srn__policy_init(&p, 0.5, 512);
    uint32_t at = 0;
    while (at < 3000) simulate(&p, &m, 0, 0, &at, 3000 - at);
    srn__load none = {0};
    uint32_t n = 0;
    for (uint32_t i = 0; i < 20; i++) {
        n = srn__policy_chunk(&p, srn__policy_allowance(&p, &none, 1, 10e3), 0, 0, 500);
        srn__load load = {.n_prompt = n, .attended = n * (n + 1) / 2};
        srn__policy_learn(&p, &load, step_us(&m, &load));
    }
    assert_true(m.base + m.prompt * n < 10e3 && n > SRN__MIN_CHUNK);
    assert_true(srn__policy_chunk(&p, srn__policy_allowance(&p, &none, 1, 0), 0, 0, 500) > 3 * n);
}

static void more_prompts_than_answers_get_a_larger_share(void **state) {
    (void)state;
    machine m = small_model;
    m.seed = 15;
    srn__policy p;
    srn__policy_init(&p, 0.5, 512);
    for (uint32_t at = 0; at < 2000;) simulate(&p, &m, 8, 150, &at, 2000 - at);
    srn__load load = answers_of(8, 150);
    double one = srn__policy_allowance(&p, &load, 1, 0), eight = srn__policy_allowance(&p, &load, 8, 0);
    double many = srn__policy_allowance(&p, &load, 16, 0), most = srn__policy_allowance(&p, &load, 500, 0);
    double quiet = srn__policy_predict(&p, &load);
    assert_true(one == eight && one <= quiet);
    assert_true(many > 1.9 * one && many < 2.1 * one); /* two of three, not one of two */
    assert_true(most > 2.9 * one && most <= 3 * quiet);
    p.share = 0.9;
    assert_true(srn__policy_allowance(&p, &load, 500, 0) > 8 * quiet);
}

static void chunks_share_one_budget(void **state) {
    (void)state;
    machine m = small_model;
    m.seed = 17;
    srn__policy p;
    srn__policy_init(&p, 0.5, 512);
    for (uint32_t at = 0; at < 2000;) simulate(&p, &m, 8, 150, &at, 2000 - at);
    srn__load load = answers_of(8, 150);
    double us = srn__policy_allowance(&p, &load, 1, 0);
    uint32_t all = srn__policy_chunk(&p, us, 0, 100, 500), first = all / 2;
    us -= srn__policy_chunk_us(&p, 100, first);
    uint32_t rest = srn__policy_chunk(&p, us, first, 100, 500);
    assert_in_range(first + rest, all - 2, all + 2);
    assert_int_equal(srn__policy_chunk(&p, -1.0, first, 100, 500), 0);
}

static void drafts_pay_where_a_row_is_cheap(void **state) {
    (void)state;
    machine m = {.base = 9000, .row = 900, .prompt = 800, .seed = 19};
    srn__policy p;
    srn__policy_init(&p, 0.5, 512);
    uint32_t none = 0;
    for (uint32_t i = 0; i < 300; i++) simulate(&p, &m, 1 + i % 32, 150, &none, 0);
    srn__load one = answers_of(1, 150), many = answers_of(32, 150);
    assert_true(srn__policy_draft_pays(&p, &one, 150, 0.2));
    assert_false(srn__policy_draft_pays(&p, &many, 150, 0.2));
    assert_true(srn__policy_draft_pays(&p, &many, 150, 0.9));
}

/* It reads all weights for however few tokens. */
static void a_step_of_prompts_alone_is_worth_its_base(void **state) {
    (void)state;
    srn__policy p;
    srn__load none = {0};
    srn__policy_init(&p, 0.5, 512);
    p.cost[0] = 1000;
    p.cost[2] = 20;
    double us = srn__policy_allowance(&p, &none, 0, 900);
    assert_int_equal(srn__policy_chunk(&p, us, 0, 0, 512), 50);
    us = srn__policy_allowance(&p, &none, 0, 3000); /* 2,700 less the base */
    assert_int_equal(srn__policy_chunk(&p, us, 0, 0, 64), 64);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_of_prompts_alone_is_worth_its_base),
        cmocka_unit_test(gaps_at_most_double_while_a_long_prompt_is_read),
        cmocka_unit_test(hiccups_do_not_spoil_the_bound),
        cmocka_unit_test(a_prompt_uses_most_of_its_share),
        cmocka_unit_test(a_smaller_share_means_smaller_gaps),
        cmocka_unit_test(a_prompt_alone_is_read_fast_and_stops_soon),
        cmocka_unit_test(a_prompt_always_makes_progress),
        cmocka_unit_test(a_machine_that_slows_down_is_followed),
        cmocka_unit_test(prompts_are_still_known_after_many_answers),
        cmocka_unit_test(other_engines_answers_are_not_kept_waiting),
        cmocka_unit_test(more_prompts_than_answers_get_a_larger_share),
        cmocka_unit_test(chunks_share_one_budget),
        cmocka_unit_test(drafts_pay_where_a_row_is_cheap),
    };
    return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
