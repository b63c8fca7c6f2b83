/* A load's pure parts: when requests are due, targets, percentiles and the median's interval, what is good;
 * and lines of requests. That answers are measured as they came is in tests/cli/test_bench_prompts.py. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "serve/load.h"

enum { N = 20000 };

/* ---- arrivals ---- */

static void test_even_arrivals_are_a_step_apart(void **state) {
    uint64_t at[5];
    (void)state;
    srn_load_arrivals(SRN_LOAD_EVEN, 4, 1, 5, at);
    for (size_t i = 0; i < 5; i++) assert_int_equal(at[i], i * 250000);
}

static void test_poisson_arrivals_have_the_rate_and_the_spread_of_independent_ones(void **state) {
    uint64_t *at = srn_calloc(2 * N, sizeof *at);
    double sum = 0, square = 0;
    (void)state;
    assert_non_null(at);
    srn_load_arrivals(SRN_LOAD_POISSON, 10, 7, N, at);
    srn_load_arrivals(SRN_LOAD_POISSON, 10, 7, N, at + N);
    assert_memory_equal(at, at + N, N * sizeof *at);
    assert_int_equal(at[0], 0);
    for (size_t i = 1; i < N; i++) {
        assert_true(at[i] >= at[i - 1]);
        double gap = (double)(at[i] - at[i - 1]) / 1e6;
        sum += gap;
        square += gap * gap;
    }
    double mean = sum / (N - 1), deviation = sqrt(square / (N - 1) - mean * mean);
    assert_true(fabs(mean - 0.1) < 0.004); /* 5 standard errors, of a fixed seed */
    assert_true(fabs(deviation / mean - 1) < 0.05);
    free(at);
}

/* ---- targets ---- */

static void test_targets_are_read_and_impossible_ones_refused(void **state) {
    srn_load_slo slo;
    srn_err err = {0};
    static const char *const wrong[] = {"",          "ttft",       "ttft=2",    "ttft=0ms", "speed=2s",
                                        "ttft=2s,,", "ttft=-1s",   "ttft=nans", "ttft=s",   "ttft=1e99s",
                                        "ttft=2s;",  "itl=100ms ", "ttft=2s,"};
    (void)state;
    assert_int_equal(srn_load_slo_parse("ttft=2s,itl=1.5ms,gap=250us,e2e=2m", &slo, &err), SRN_OK);
    assert_int_equal(slo.ttft_us, 2000000);
    assert_int_equal(slo.itl_us, 1500);
    assert_int_equal(slo.gap_us, 250);
    assert_int_equal(slo.e2e_us, 120000000);
    for (size_t i = 0; i < SRN_LEN(wrong); i++) {
        if (srn_load_slo_parse(wrong[i], &slo, &err) != SRN_EUSAGE) fail_msg("'%s' is taken", wrong[i]);
        assert_non_null(strstr(err.text, "--slo"));
    }
}

static srn_load_answer answer_of(uint64_t ttft, uint64_t gap, uint32_t tokens) {
    return (srn_load_answer){.due_us = 1000,
                             .begun_us = 1000,
                             .first_us = 1000 + ttft,
                             .last_us = 1000 + ttft + gap * (tokens - 1),
                             .ended_us = 1000 + ttft + gap * (tokens - 1),
                             .streamed = true,
                             .n_pieces = tokens,
                             .n_output = tokens,
                             .has_usage = true};
}

static void test_an_answer_is_good_that_keeps_every_target(void **state) {
    const srn_load_slo slo = {.ttft_us = 500, .itl_us = 100, .e2e_us = 2000};
    uint64_t gaps[] = {10, 400};
    (void)state;
    srn_load_answer a = answer_of(500, 100, 11), late = a, slow = a, lengthy = a, failed = a, sparse = a;
    assert_true(srn_load_is_good(&a, &slo));
    late.first_us++;
    assert_false(srn_load_is_good(&late, &slo));
    slow.last_us += 10;
    assert_false(srn_load_is_good(&slow, &slo));
    lengthy.ended_us = 3001;
    assert_false(srn_load_is_good(&lengthy, &slo));
    failed.why.code = SRN_EIO;
    assert_false(srn_load_is_good(&failed, &slo));
    sparse.gaps_us = gaps;
    sparse.n_gaps = 2;
    assert_true(srn_load_is_good(&sparse, &(srn_load_slo){.gap_us = 400}));
    assert_false(srn_load_is_good(&sparse, &(srn_load_slo){.gap_us = 399}));
}

/* Times count from when a request was due, also of one that was sent later: a queue cannot hide. */
static void test_times_count_from_when_a_request_was_due(void **state) {
    srn_load_answer a[2] = {answer_of(500, 100, 11), answer_of(500, 100, 11)};
    srn_load_run r = {.answers = a, .n = 2};
    srn_load_sum s;
    srn_err err;
    (void)state;
    a[1].due_us = 0;
    assert_int_equal(srn_load_add_up(&r, &(srn_load_slo){.ttft_us = 1000}, &s, &err), SRN_OK);
    assert_true(s.ttft.p50 == 0.5 && s.ttft.max == 1.5 && s.late.max == 1.0);
    assert_int_equal(s.n_good, 1);
    assert_int_equal(s.n_output, 22);
    assert_true(fabs(s.tok_per_s - 22 / 2500e-6) < 1e-3 && fabs(s.good_per_s - 400) < 1e-6);
}

/* ---- percentiles ---- */

static void test_percentiles_are_values_that_were_measured(void **state) {
    double v[100];
    (void)state;
    for (size_t i = 0; i < 100; i++) v[i] = (double)((i * 37) % 100 + 1);
    srn_load_spread s = srn_load_spread_of(v, 100);
    assert_true(s.p50 == 50 && s.p90 == 90 && s.p95 == 95 && s.p99 == 99 && s.max == 100 && s.mean == 50.5);
    assert_true(s.low == 40 && s.high == 61); /* the 40th and the 61st: 2 P(B(100, 1/2) < 40) = 0.0352 */
    srn_load_spread none = srn_load_spread_of(v, 0), few = srn_load_spread_of(v, 5);
    assert_true(isnan(none.p50) && none.n == 0 && few.p99 == few.max && isnan(few.low));
    srn_load_spread six = srn_load_spread_of(v, 6);
    assert_true(six.low == 1 && six.high == 6);
}

/* ---- lines ---- */

static int read_lines(srn_load_asks *a, const char *text, srn_err *err) {
    return srn_load_asks_lines(a, srn_str_of(text), "p.jsonl", err);
}

static const char *first_text(const json_t *body) {
    return json_string_value(
        json_object_get(json_array_get(json_object_get(body, "messages"), 0), "content"));
}

static void test_lines_of_every_form_become_requests(void **state) {
    srn_load_asks a = {0};
    srn_err err = {0};
    (void)state;
    assert_int_equal(
        read_lines(
            &a,
            "\"one\"\n\n{\"prompt\": \"two\", \"id\": \"b\", \"max_tokens\": 3}\r\n"
            "{\"messages\": [{\"role\": \"user\", \"content\": \"three\"}], \"output\": \"x\", \"prompt\": "
            "\"support\", \"version\": 4, \"model\": \"m\", \"usage\": {\"prompt_tokens\": 9, "
            "\"completion_tokens\": 2}}\n"
            "{\"id\": \"01J\", \"endpoint\": \"/v1/chat/completions\", \"tokens\": {\"input\": 7, "
            "\"cached\": 1, \"output\": 5}, \"content\": {\"request\": \"{\\\"messages\\\": [{\\\"role\\\": "
            "\\\"user\\\", \\\"content\\\": \\\"four\\\"}], \\\"temperature\\\": 1}\"}}\n"
            "{\"id\": \"01K\", \"endpoint\": \"/v1/embeddings\", \"tokens\": {\"input\": 7, \"output\": 0}}",
            &err),
        SRN_OK);
    assert_int_equal(a.n, 4);
    assert_int_equal(a.without, 1);
    static const char *const texts[] = {"one", "two", "three", "four"}, *const ids[] = {"line 1", "b",
                                                                                        "line 4", "01J"};
    static const int most[] = {64, 3, 2, 5}; /* as many as asked for, or as were recorded */
    for (size_t i = 0; i < a.n; i++) {
        json_t *body = srn_load_body(&a.items[i], "m", 64, NULL);
        assert_string_equal(first_text(body), texts[i]);
        assert_string_equal(a.items[i].id, ids[i]);
        assert_int_equal(json_integer_value(json_object_get(body, "max_tokens")), most[i]);
        assert_int_equal(json_integer_value(json_object_get(body, "temperature")), i == 3);
        assert_true(json_is_true(json_object_get(body, "stream")));
        assert_null(json_object_get(body, "prompt"));
        json_decref(body);
    }
    assert_true(a.items[3].counted && a.items[3].n_input == 7 && a.items[3].n_cached == 1);
    srn_load_asks_done(&a);
}

static void test_a_prefix_stands_before_the_first_text_alone(void **state) {
    srn_load_asks a = {0};
    srn_err err = {0};
    (void)state;
    assert_int_equal(
        read_lines(&a,
                   "{\"messages\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", "
                   "\"content\": \"u\"}]}\n{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": "
                   "\"text\", \"text\": \"u\"}]}]}",
                   &err),
        SRN_OK);
    json_t *b = srn_load_body(&a.items[0], "m", 1, "abc"), *m = json_object_get(b, "messages");
    assert_string_equal(first_text(b), "abc\ns");
    assert_string_equal(json_string_value(json_object_get(json_array_get(m, 1), "content")), "u");
    json_t *parts = srn_load_body(&a.items[1], "m", 1, "abc");
    m = json_object_get(json_array_get(json_object_get(parts, "messages"), 0), "content");
    assert_int_equal(json_array_size(m), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(m, 0), "text")), "abc\n");
    json_t *again = srn_load_body(&a.items[0], "m", 1, NULL);
    assert_string_equal(first_text(again), "s"); /* what is asked is left as it was */
    json_decref(b);
    json_decref(parts);
    json_decref(again);
    srn_load_asks_done(&a);
}

static void test_raw_prompts_are_completions(void **state) {
    srn_load_asks a = {.raw = true, .limit = 1};
    srn_err err = {0};
    (void)state;
    assert_int_equal(read_lines(&a, "\"one\"\n\"two\"\n", &err), SRN_OK);
    assert_int_equal(a.n, 1);
    json_t *b = srn_load_body(&a.items[0], "m", 1, "abc");
    assert_true(a.items[0].completion);
    assert_string_equal(json_string_value(json_object_get(b, "prompt")), "abc\none");
    json_decref(b);
    srn_load_asks_done(&a);
}

static void test_lines_that_are_no_request_are_refused_with_their_number(void **state) {
    static const struct {
        const char *text, *says;
    } wrong[] = {
        {"", "p.jsonl: line 1: there is no prompt"},
        {"\n\n", "p.jsonl: line 3: there is no prompt"},
        {"\"a\"\nnonsense\n", "p.jsonl: line 2, column"},
        {"\"a\"\n\"\"\n", "p.jsonl: line 2: 'prompt'"},
        {"7", "p.jsonl: line 1: a line is"},
        {"{}", "p.jsonl: line 1: give either"},
        {"{\"prompt\": \"a\", \"messages\": [{\"role\": \"user\"}]}", "give either"},
        {"{\"messages\": []}", "'messages'"},
        {"{\"messages\": [3]}", "messages[0]"},
        {"{\"prompt\": \"a\", \"id\": 7}", "'id'"},
        {"{\"prompt\": \"a\", \"prompt\": \"b\"}", "line 1, column"},
        {"{\"prompt\": \"a\", \"checks\": [{\"regex\": \"(\"}]}", "line 1: checks[0]"},
        {"{\"endpoint\": \"/v1/chat/completions\", \"tokens\": {\"input\": 7, \"output\": 5}}", "--content"},
    };
    (void)state;
    for (size_t i = 0; i < SRN_LEN(wrong); i++) {
        srn_load_asks a = {0};
        srn_err err = {0};
        if (read_lines(&a, wrong[i].text, &err) != SRN_EFORMAT || !strstr(err.text, wrong[i].says))
            fail_msg("'%s': '%s' should say '%s'", wrong[i].text, err.text, wrong[i].says);
        srn_load_asks_done(&a);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_even_arrivals_are_a_step_apart),
        cmocka_unit_test(test_poisson_arrivals_have_the_rate_and_the_spread_of_independent_ones),
        cmocka_unit_test(test_targets_are_read_and_impossible_ones_refused),
        cmocka_unit_test(test_an_answer_is_good_that_keeps_every_target),
        cmocka_unit_test(test_times_count_from_when_a_request_was_due),
        cmocka_unit_test(test_percentiles_are_values_that_were_measured),
        cmocka_unit_test(test_lines_of_every_form_become_requests),
        cmocka_unit_test(test_a_prefix_stands_before_the_first_text_alone),
        cmocka_unit_test(test_raw_prompts_are_completions),
        cmocka_unit_test(test_lines_that_are_no_request_are_refused_with_their_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
