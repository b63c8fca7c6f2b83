/* The sampler: pure, keyed by seed and position, its distribution that of the parameters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "engine/engine.h"

#define N 1000

static float logits[N];

static void fill(unsigned seed) {
    for (int i = 0; i < N; i++) {
        seed = seed * 1664525u + 1013904223u;
        logits[i] = (float)(seed >> 8) / (float)(1 << 24) * 12.0f - 6.0f;
    }
}

static int32_t draw(const srn_sampling *p, uint64_t position) {
    int32_t id = -1;
    assert_int_equal(srn_sample(logits, N, p, NULL, 0, position, &id, NULL), SRN_OK);
    return id;
}

static void greedy_takes_the_greatest_and_the_lower_id_of_equals(void **state) {
    (void)state;
    fill(1);
    logits[17] = logits[801] = 100.0f;
    srn_sampling p = srn_sampling_default();
    p.temperature = 0;
    for (uint64_t i = 0; i < 10; i++) assert_int_equal(draw(&p, i), 17);
}

static int by_logit(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (logits[x] != logits[y]) return logits[x] > logits[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

static void top_k_equals_a_full_sort(void **state) {
    (void)state;
    for (unsigned seed = 1; seed < 40; seed++) {
        fill(seed);
        for (int i = 0; i < N; i += 3) logits[i] = floorf(logits[i]); /* many ties */
        int32_t want[N], got[N];
        for (int i = 0; i < N; i++) want[i] = i;
        qsort(want, N, sizeof *want, by_logit);
        uint32_t k = seed == 39 ? N : seed * 7;
        srn_top_k(logits, N, k, got);
        assert_memory_equal(got, want, k * sizeof *got);
    }
}

static void draws_depend_on_seed_and_position_alone(void **state) {
    (void)state;
    fill(3);
    srn_sampling p = srn_sampling_default();
    p.seed = 7;
    int32_t first[64];
    int distinct = 0;
    for (uint64_t i = 0; i < 64; i++) first[i] = draw(&p, i);
    for (uint64_t i = 64; i-- > 0;) assert_int_equal(draw(&p, i), first[i]);
    p.seed = 8;
    for (uint64_t i = 0; i < 64; i++) distinct += draw(&p, i) != first[i];
    assert_true(distinct > 32);
}

/* Of 1000 equal logits the token is floor(1000 u), u computed from the formula in docs/numerics.md: a change
 * here would make every recorded call draw other tokens. */
static void draws_are_those_of_the_numerics(void **state) {
    (void)state;
    static const struct {
        uint64_t seed, position;
        int32_t want;
    } rows[] = {{0, 0, 789},
                {0, 1, 913},
                {0, 2, 886},
                {1, 0, 920},
                {42, 4095, 283},
                {(1ull << 53) - 1, 1 << 20, 143},
                {UINT64_MAX, UINT64_MAX, 420}};
    for (int i = 0; i < N; i++) logits[i] = -3.0f;
    srn_sampling p = {.temperature = 0.9f, .top_p = 1, .typical_p = 1, .repeat_penalty = 1};
    for (size_t i = 0; i < SRN_LEN(rows); i++) {
        p.seed = rows[i].seed;
        assert_int_equal(draw(&p, rows[i].position), rows[i].want);
    }
}

static void frequencies_are_the_softmax_of_the_survivors(void **state) {
    (void)state;
    fill(5);
    srn_sampling p = {
        .temperature = 0.7f, .top_k = 8, .top_p = 1, .typical_p = 1, .repeat_penalty = 1, .seed = 11};
    int32_t ids[8];
    srn_top_k(logits, N, 8, ids);
    double w[8], sum = 0;
    int count[8] = {0};
    for (int i = 0; i < 8; i++) sum += w[i] = exp((double)(logits[ids[i]] - logits[ids[0]]) / 0.7);
    for (uint64_t i = 0; i < 40000; i++) {
        int32_t id = draw(&p, i);
        int k = 0;
        while (k < 8 && ids[k] != id) k++;
        assert_true(k < 8);
        count[k]++;
    }
    for (int i = 0; i < 8; i++) assert_true(fabs(count[i] / 40000.0 - w[i] / sum) < 0.012);
}

static void top_p_and_min_p_cut_the_tail(void **state) {
    (void)state;
    for (int i = 0; i < N; i++) logits[i] = -20.0f;
    logits[4] = 2.0f, logits[9] = 1.9f, logits[2] = -3.0f;
    srn_sampling p = {.temperature = 1, .top_k = 0, .top_p = 0.9f, .typical_p = 1, .repeat_penalty = 1};
    int second = 0;
    for (uint64_t i = 0; i < 500; i++) {
        int32_t id = draw(&p, i);
        assert_true(id == 4 || id == 9);
        second += id == 9;
    }
    assert_true(second > 150); /* its share is 0.475 */
    p.top_p = 0.52f;           /* 4 alone has 0.523 */
    for (uint64_t i = 0; i < 500; i++) assert_int_equal(draw(&p, i), 4);
    p.top_p = 1, p.min_p = 0.95f; /* e^-0.1 is 0.905 */
    for (uint64_t i = 0; i < 500; i++) assert_int_equal(draw(&p, i), 4);
}

static void repeat_penalty_lowers_recent_tokens_once(void **state) {
    (void)state;
    for (int i = 0; i < N; i++) logits[i] = -1.0f;
    logits[4] = 2.0f, logits[9] = 1.5f;
    int32_t history[] = {4, 4, 9}, id;
    srn_sampling p = {
        .temperature = 0, .top_p = 1, .typical_p = 1, .repeat_penalty = 1.2f, .repeat_last_n = 2};
    assert_int_equal(srn_sample(logits, N, &p, history, 3, 0, &id, NULL), SRN_OK);
    assert_int_equal(
        id, 4); /* 2/1.2 = 1.67 beats 1.5/1.2; twice would be 1.39, still first; 1.5 unpenalised would not */
    p.repeat_penalty = 1.5f, p.repeat_last_n = 1;
    assert_int_equal(srn_sample(logits, N, &p, history, 2, 0, &id, NULL), SRN_OK);
    assert_int_equal(id, 9);
    assert_true(logits[4] == 2.0f); /* the caller's row is untouched */
}

static void bad_parameters_are_named(void **state) {
    (void)state;
    srn_err e;
    srn_sampling p = srn_sampling_default();
    assert_int_equal(srn_sampling_check(&p, &e), SRN_OK);
    p.top_p = NAN;
    assert_int_equal(srn_sampling_check(&p, &e), SRN_EINVAL);
    assert_non_null(strstr(e.text, "top_p"));
    p = srn_sampling_default(), p.temperature = -1;
    assert_int_equal(srn_sampling_check(&p, &e), SRN_EINVAL);
    assert_non_null(strstr(e.text, "temperature"));
}

static void log_sum_exp_is_right(void **state) {
    (void)state;
    static float row[3 * 4096 + 5]; /* more than one chunk, and a tail */
    const uint32_t sizes[] = {1, 2, 15, 16, 17, 4095, 4096, 4097, 8192, SRN_LEN(row)};
    for (size_t k = 0; k < SRN_LEN(sizes); k++) {
        double sum = 0;
        for (uint32_t i = 0; i < sizes[k]; i++) {
            row[i] = 90.0f + (float)((i * 7919) % 1000) / 100.0f;
            sum += exp((double)row[i]);
        }
        assert_true(fabs(srn_log_sum_exp(row, sizes[k]) - log(sum)) < 1e-6);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_greatest_and_the_lower_id_of_equals),
        cmocka_unit_test(top_k_equals_a_full_sort),
        cmocka_unit_test(draws_depend_on_seed_and_position_alone),
        cmocka_unit_test(draws_are_those_of_the_numerics),
        cmocka_unit_test(frequencies_are_the_softmax_of_the_survivors),
        cmocka_unit_test(top_p_and_min_p_cut_the_tail),
        cmocka_unit_test(repeat_penalty_lowers_recent_tokens_once),
        cmocka_unit_test(bad_parameters_are_named),
        cmocka_unit_test(log_sum_exp_is_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
