/* The counters of requests by themselves: what is counted where, and that tables that are full lose nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "serve/metrics.h"

typedef struct figures {
    srn_config config;
    srn_scheduler *scheduler;
    srn__models *models;
    srn__metrics *m;
} figures;

static void begin(figures *f) {
    srn_err err = {0};
    *f = (figures){0};
    srn_config_init(&f->config);
    assert_int_equal(srn_scheduler_new(NULL, &f->scheduler, &err), 0);
    assert_int_equal(srn__models_new(&f->config, f->scheduler, NULL, NULL, &f->models, &err), 0);
    assert_int_equal(srn__metrics_new(&f->m, &err), 0);
}

static void end(figures *f) {
    srn__metrics_free(f->m);
    srn__models_free(f->models);
    srn_scheduler_free(f->scheduler);
    srn_config_done(&f->config);
}

static void answered(figures *f, const char *model, const char *finish, uint32_t tokens) {
    srn__call_facts facts = {.prompt_tokens = 10, .output_tokens = tokens, .ttft_us = 2000};
    snprintf(facts.model, sizeof facts.model, "%s", model);
    snprintf(facts.finish, sizeof facts.finish, "%s", finish);
    srn__metrics_call(f->m, NULL, 200, &facts, 5000);
}

/* The figure of a series, named with all its labels; -1: there is none. Fails where it is there twice. */
static double figure(figures *f, const char *series) {
    srn_buf text;
    srn_buf_init(&text, 16u << 20);
    srn__metrics_text(f->m, f->models, f->scheduler, 0, &text);
    assert_false(text.failed);
    double v = -1;
    size_t n = strlen(series);
    for (const char *p = text.data; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL)
        if (strncmp(p, series, n) == 0 && p[n] == ' ') {
            assert_true(v < 0);
            v = strtod(p + n, NULL);
        }
    srn_buf_done(&text);
    return v;
}

static void answers_are_counted_by_how_they_ended(void **state) {
    (void)state;
    static const char *const ends[] = {"stop", "length", "tool_calls", "abort", "error"};
    figures f;
    begin(&f);
    for (uint32_t i = 0; i < SRN_LEN(ends); i++)
        for (uint32_t k = 0; k <= i; k++) answered(&f, "m", ends[i], i);
    answered(&f, "m", "", 0); /* nothing was computed */
    for (uint32_t i = 0; i < SRN_LEN(ends); i++) {
        char series[128];
        snprintf(series, sizeof series, "vllm:request_success_total{model_name=\"m\",finished_reason=\"%s\"}",
                 ends[i]);
        assert_int_equal((int)figure(&f, series), i + 1);
    }
    assert_int_equal((int)figure(&f, "vllm:e2e_request_latency_seconds_count{model_name=\"m\"}"), 15);
    assert_int_equal((int)figure(&f, "vllm:request_generation_tokens_sum{model_name=\"m\"}"), 40);
    assert_int_equal(
        (int)figure(&f, "vllm:time_to_first_token_seconds_bucket{model_name=\"m\",le=\"0.001\"}"), 0);
    assert_int_equal(
        (int)figure(&f, "vllm:time_to_first_token_seconds_bucket{model_name=\"m\",le=\"0.005\"}"), 15);
    assert_int_equal((int)figure(&f, "serin_http_requests_total{endpoint=\"other\",status=\"200\"}"), 16);
    end(&f);
}

static void models_beyond_the_table_are_counted_together(void **state) {
    (void)state;
    figures f;
    begin(&f);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 70; i++) {
            char name[32];
            snprintf(name, sizeof name, "model-%d", i);
            answered(&f, name, "stop", 1);
        }
#define STOPPED "vllm:request_success_total{model_name=\"%s\",finished_reason=\"stop\"}"
    char series[128];
    for (int i = 0; i < 63; i++) {
        char name[32];
        snprintf(name, sizeof name, "model-%d", i);
        snprintf(series, sizeof series, STOPPED, name);
        assert_int_equal((int)figure(&f, series), 2);
    }
    snprintf(series, sizeof series, STOPPED, "other");
    assert_int_equal((int)figure(&f, series), 14);
    end(&f);
}

static void labels_are_escaped(void **state) {
    (void)state;
    figures f;
    begin(&f);
    answered(&f, "a\"b\\c\nd", "stop", 1);
    assert_int_equal((int)figure(&f, "vllm:request_generation_tokens_count{model_name=\"a\\\"b\\\\c\\nd\"}"),
                     1);
    end(&f);
}

static void answers_are_counted_by_their_prompt(void **state) {
    (void)state;
    figures f;
    begin(&f);
    srn__call_facts facts = {
        .prompt_tokens = 10, .output_tokens = 3, .ttft_us = 2000, .model = "m", .finish = "stop"};
    srn__metrics_call(f.m, NULL, 200, &facts, 5000);
    facts.prompt = (srn__call_prompt){.name = "a/b", .version = 1};
    srn__metrics_call(f.m, NULL, 200, &facts, 5000);
    srn__metrics_call(f.m, NULL, 200, &facts, 5000);
    for (uint32_t v = 2; v < 300; v++) {
        facts.prompt.version = v;
        srn__metrics_call(f.m, NULL, 200, &facts, 5000);
    }
    assert_true(figure(&f, "serin_prompt_answers_total{model_name=\"m\",prompt=\"unregistered\",finished_"
                           "reason=\"stop\"}") == 1);
    assert_true(
        figure(&f,
               "serin_prompt_answers_total{model_name=\"m\",prompt=\"a/b@1\",finished_reason=\"stop\"}") ==
        2);
    assert_true(figure(&f, "serin_prompt_input_tokens_total{model_name=\"m\",prompt=\"a/b@1\"}") == 20);
    assert_true(figure(&f, "serin_prompt_output_tokens_total{model_name=\"m\",prompt=\"a/b@1\"}") == 6);
    assert_true(figure(&f, "serin_prompt_seconds_total{model_name=\"m\",prompt=\"a/b@1\"}") == 0.01);
    assert_true(
        figure(&f,
               "serin_prompt_answers_total{model_name=\"m\",prompt=\"a/b@254\",finished_reason=\"stop\"}") ==
        1);
    assert_true(
        figure(&f,
               "serin_prompt_answers_total{model_name=\"m\",prompt=\"a/b@255\",finished_reason=\"stop\"}") <
        0);
    assert_true(
        figure(
            &f,
            "serin_prompt_answers_total{model_name=\"other\",prompt=\"other\",finished_reason=\"stop\"}") ==
        45);
    end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_counted_by_how_they_ended),
        cmocka_unit_test(models_beyond_the_table_are_counted_together),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(answers_are_counted_by_their_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
