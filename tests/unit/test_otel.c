/* Telemetry without a server: the caller's context, who may be told what, the JSON of calls that are unlike
 * any, and that series which are too many lose nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "serve/otel_internal.h"

static const srn__route route = {
    .method = "POST", .path = "/v1/chat/completions", .flags = SRN__ROUTE_MODEL | SRN__ROUTE_RECORD};

/* ---- the caller's context ---- */

#define GOOD "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

static bool is_parent(const char *text, srn__parent *p) {
    return srn__traceparent_parse(srn_str_of(text), p);
}

static void a_traceparent_is_read(void **state) {
    (void)state;
    srn__parent p;
    char hex[33];
    assert_true(is_parent(GOOD, &p));
    srn_hex(p.trace_id, sizeof p.trace_id, hex);
    assert_string_equal(hex, "0af7651916cd43dd8448eb211c80319c");
    srn_hex(p.span_id, sizeof p.span_id, hex);
    assert_string_equal(hex, "b7ad6b7169203331");
    assert_int_equal(p.flags, 1);
    assert_true(is_parent(" " GOOD "\t", &p));
    assert_true(is_parent("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-fe", &p));
    assert_int_equal(p.flags, 2); /* flags that nobody has defined are not passed on */
    assert_true(is_parent("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more", &p));
    assert_int_equal(p.flags, 0);
}

static void what_is_no_traceparent_is_ignored(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "",
        "00",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1x",
        "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
        GOOD "-more",
        GOOD "," GOOD,
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
    };
    for (size_t i = 0; i < SRN_LEN(wrong); i++) {
        srn__parent p = {.flags = 77};
        if (is_parent(wrong[i], &p)) fail_msg("%s", wrong[i]);
        assert_int_equal(p.flags, 77);
    }
}

static void a_tracestate_is_passed_on_if_it_is_one(void **state) {
    (void)state;
    static const char *const good[] = {"a=1", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "1a-_*/@b=x y ; z",
                                       " a=1 , b=2 ,, "};
    static const char *const wrong[] = {"", ",", "a", "a=", "A=1", "=1", "a=1=2", "a=\x01", "a=\xc3\xa4"};
    for (size_t i = 0; i < SRN_LEN(good); i++)
        if (!srn__tracestate_good(srn_str_of(good[i]))) fail_msg("%s", good[i]);
    for (size_t i = 0; i < SRN_LEN(wrong); i++)
        if (srn__tracestate_good(srn_str_of(wrong[i]))) fail_msg("%s", wrong[i]);
    char many[256] = "";
    for (int i = 0; i < 33; i++) {
        assert_int_equal(srn__tracestate_good(srn_str_of(many)), i > 0);
        snprintf(many + strlen(many), sizeof many - strlen(many), "%sa=1", i ? "," : "");
    }
    assert_false(srn__tracestate_good(srn_str_of(many)));
}

static void a_share_of_the_traces_is_kept(void **state) {
    (void)state;
    uint64_t seed = 1;
    uint32_t kept = 0, fewer = 0;
    for (int i = 0; i < 20000; i++) {
        uint8_t id[SRN__TRACE_ID];
        for (size_t k = 0; k < sizeof id; k++) {
            seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            id[k] = (uint8_t)(seed >> 56);
        }
        assert_true(srn__trace_in_share(id, 1));
        assert_false(srn__trace_in_share(id, 0));
        bool in = srn__trace_in_share(id, 0.2), in_fewer = srn__trace_in_share(id, 0.1);
        assert_true(in || !in_fewer); /* who keeps more keeps what the others keep */
        kept += in;
        fewer += in_fewer;
    }
    assert_in_range(kept, 3700, 4300);
    assert_in_range(fewer, 1750, 2250);
}

/* ---- who may be told what ---- */

static void only_full_content_of_routes_that_are_not_local_may_go_out(void **state) {
    (void)state;
    srn_config c;
    srn_config_init(&c);
    const srn_config_route full = {.name = "f", .content = "full"}, hash = {.name = "h", .content = "hash"},
                           sealed = {.name = "e", .content = "encrypted"}, plain = {.name = "p"},
                           local = {.name = "l", .content = "full", .local_only = true};
    assert_false(srn__otel_may_say(&c, &full)); /* not by itself */
    c.telemetry.content = true;
    assert_true(srn__otel_may_say(&c, &full));
    assert_false(srn__otel_may_say(&c, NULL));
    assert_false(srn__otel_may_say(&c, &plain));
    c.ledger.content = "full";
    assert_true(srn__otel_may_say(&c, NULL));
    assert_true(srn__otel_may_say(&c, &plain));
    assert_false(srn__otel_may_say(&c, &hash));
    assert_false(srn__otel_may_say(&c, &sealed));
    assert_false(srn__otel_may_say(&c, &local));
    c.ledger.content = "something new";
    assert_false(srn__otel_may_say(&c, NULL));
    srn_config_done(&c);
}

static void local_only_routes_keep_their_spans(void **state) {
    (void)state;
    srn_config c;
    srn_config_init(&c);
    srn_config_route routes[] = {{.name = "a"}, {.name = "b", .local_only = true}};
    assert_false(srn__otel_mutes(&c, false, NULL));
    assert_false(srn__otel_mutes(&c, true, NULL));
    c.routes = routes;
    c.n_routes = 2;
    assert_true(srn__otel_mutes(&c, false, NULL)); /* it might have been that one */
    assert_false(srn__otel_mutes(&c, true, NULL));
    assert_false(srn__otel_mutes(&c, true, &routes[0]));
    assert_true(srn__otel_mutes(&c, true, &routes[1]));
    srn_config_done(&c);
}

/* ---- JSON ---- */

static srn__otel_self self_of(const srn_config_telemetry *t) {
    return (srn__otel_self){.config = t,
                            .instance = "01M835PSKKVVCBTA3WBMZY33HW",
                            .host = "127.0.0.1",
                            .port = 8080,
                            .started_unix_us = 1795000000000000};
}

static srn__trace trace_of(uint64_t n) {
    srn__trace t = {.route = &route, .sampled = true, .known = true, .worked = true, .generates = true};
    t.trace_id[15] = t.span_id[7] = (uint8_t)(n | 1);
    t.begun_us = 1000;
    t.submitted_us = 1100;
    t.started_us = 1300;
    t.first_us = 2000;
    t.done_us = 5000;
    t.ended_us = 5500;
    t.unix_us = UINT64_C(1795000000123456);
    t.status = 200;
    t.complete = true;
    snprintf(t.call, sizeof t.call, "01M835PSKKVVCBTA3WBMZY33HW");
    snprintf(t.asked, sizeof t.asked, "smol");
    t.facts = (srn__call_facts){.model = "m",
                                .prompt_tokens = 10,
                                .cached_tokens = 4,
                                .output_tokens = 4,
                                .ttft_us = 900,
                                .queue_us = 200,
                                .finish = "stop"};
    return t;
}

/* The spans as JSON, which they must be. */
static json_t *spans_of(const srn__trace *t) {
    srn_config c;
    srn_buf b;
    srn_config_init(&c);
    srn_buf_init(&b, 1 << 20);
    const srn__otel_self self = self_of(&c.telemetry);
    srn__otel_put_head(&b, &self, "resourceSpans", "scopeSpans", "spans");
    srn__otel_put_spans(&b, &self, t);
    srn__otel_put_tail(&b);
    json_error_t where;
    json_t *j = json_loadb(b.data, b.len, JSON_REJECT_DUPLICATES, &where);
    if (!j) fail_msg("%s: %s", where.text, b.data);
    json_t *scope = json_array_get(
        json_object_get(json_array_get(json_object_get(j, "resourceSpans"), 0), "scopeSpans"), 0);
    json_t *spans = json_incref(json_object_get(scope, "spans"));
    json_decref(j);
    srn_buf_done(&b);
    srn_config_done(&c);
    return spans;
}

static const char *text_of(const json_t *span, const char *key) {
    return json_string_value(json_object_get(span, key));
}

/* The only value of an attribute; NULL: there is none. */
static const json_t *attribute(const json_t *span, const char *key) {
    const json_t *a, *found = NULL;
    size_t i;
    json_array_foreach(json_object_get(span, "attributes"), i, a) {
        if (strcmp(text_of(a, "key"), key) != 0) continue;
        assert_null(found);
        found = json_object_iter_value(json_object_iter(json_object_get(a, "value")));
    }
    return found;
}

static void a_call_is_a_span_with_one_for_each_of_its_times(void **state) {
    (void)state;
    srn__trace t = trace_of(0);
    json_t *spans = spans_of(&t);
    assert_int_equal(json_array_size(spans), 4);
    assert_int_equal(srn__trace_spans(&t), 4);
    const json_t *call = json_array_get(spans, 0);
    static const char *const names[] = {"chat smol", "queue", "prefill", "decode"};
    static const uint64_t at[] = {0, 100, 300, 1000, 4000};
    for (size_t i = 0; i < 4; i++) {
        const json_t *s = json_array_get(spans, i);
        char from[32], to[32];
        uint64_t begin = t.unix_us + at[i], end = t.unix_us + (i ? at[i + 1] : 4500);
        snprintf(from, sizeof from, "%llu000", (unsigned long long)begin);
        snprintf(to, sizeof to, "%llu000", (unsigned long long)end);
        assert_string_equal(text_of(s, "name"), names[i]);
        assert_string_equal(text_of(s, "startTimeUnixNano"), from);
        assert_string_equal(text_of(s, "endTimeUnixNano"), to);
        assert_string_equal(text_of(s, "traceId"), "00000000000000000000000000000001");
        assert_int_equal(json_integer_value(json_object_get(s, "kind")), i ? 1 : 2);
        if (i) assert_string_equal(text_of(s, "parentSpanId"), text_of(call, "spanId"));
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(text_of(s, "spanId"), text_of(json_array_get(spans, k), "spanId"));
    }
    assert_null(json_object_get(call, "parentSpanId"));
    assert_null(json_object_get(call, "status"));
    assert_null(attribute(call, "error.type"));
    assert_string_equal(json_string_value(attribute(call, "gen_ai.usage.input_tokens")), "10");
    json_decref(spans);
}

static void a_call_that_never_began_has_no_times(void **state) {
    (void)state;
    srn__trace t = trace_of(0);
    t.worked = t.known = false;
    t.submitted_us = t.started_us = t.first_us = t.done_us = 0;
    t.status = 503;
    t.facts = (srn__call_facts){.error = "overloaded"};
    t.facts.prompt.name[0] = 0;
    json_t *spans = spans_of(&t);
    assert_int_equal(json_array_size(spans), 1);
    const json_t *call = json_array_get(spans, 0);
    assert_string_equal(text_of(call, "name"), "chat");
    assert_string_equal(json_string_value(attribute(call, "error.type")), "overloaded");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(call, "status"), "code")), 2);
    assert_null(attribute(call, "gen_ai.usage.input_tokens"));
    json_decref(spans);
    t.submitted_us = 1100; /* it waited, and was never started */
    spans = spans_of(&t);
    assert_int_equal(json_array_size(spans), 2);
    assert_string_equal(text_of(json_array_get(spans, 1), "endTimeUnixNano"),
                        text_of(json_array_get(spans, 0), "endTimeUnixNano"));
    json_decref(spans);
}

static void whatever_a_client_sends_is_json(void **state) {
    (void)state;
    srn__trace t = trace_of(0);
    srn_buf_init(&t.input, SRN__TRACE_CONTENT);
    srn_buf_init(&t.output, SRN__TRACE_CONTENT);
    t.may_say = true;
    snprintf(t.asked, sizeof t.asked, "a\"\\\n\x01\xff\xc3");
    t.sampling.temperature = (float)strtod("nan", NULL);
    t.sampling.top_p = (float)strtod("inf", NULL);
    t.sampling.seed = UINT64_MAX;
    t.max_tokens = UINT32_MAX;
    t.n_choices = 3;
    for (int i = 0; i < 20; i++) snprintf(t.finishes[i % 16], 16, "stop");
    t.n_finishes = 16;
    json_t *messages = json_loads(
        "[{\"role\": \"user\", \"content\": \"say \\\"hi\\\"\\n\"},"
        " {\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"part\"}, 8]},"
        " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"c1\", \"function\": "
        "{\"name\": \"f\", \"arguments\": {\"x\": 1}}}, {}]},"
        " {\"role\": \"tool\", \"tool_call_id\": \"c1\", \"content\": \"42\"}, 7, {\"role\": 3}]",
        0, NULL);
    assert_non_null(messages);
    srn__otel_put_input(&t.input, &(srn__job_spec){.messages = messages});
    srn__otel_put_output(&t.output, SRN_STR("one\xff"), "stop");
    srn__otel_put_output(&t.output, SRN_STR("two"), "length");
    json_t *spans = spans_of(&t);
    const json_t *call = json_array_get(spans, 0);
    assert_null(attribute(call, "gen_ai.request.temperature"));
    assert_null(attribute(call, "gen_ai.request.seed"));
    assert_string_equal(json_string_value(attribute(call, "gen_ai.request.max_tokens")), "4294967295");
    json_t *in = json_loads(json_string_value(attribute(call, "gen_ai.input.messages")), 0, NULL);
    json_t *out = json_loads(json_string_value(attribute(call, "gen_ai.output.messages")), 0, NULL);
    assert_int_equal(json_array_size(in), 6);
    assert_int_equal(json_array_size(out), 2);
    const json_t *parts = json_object_get(json_array_get(in, 3), "parts");
    assert_string_equal(text_of(json_array_get(parts, 0), "type"), "tool_call_response");
    t.muted = true; /* nothing is said then, whatever was gathered */
    json_t *quiet = spans_of(&t);
    assert_null(attribute(json_array_get(quiet, 0), "gen_ai.input.messages"));
    json_decref(quiet);
    json_decref(in);
    json_decref(out);
    json_decref(spans);
    json_decref(messages);
    srn_buf_done(&t.input);
    srn_buf_done(&t.output);
}

/* ---- sums ---- */

static json_t *metrics_of(srn__otel_sums *m) {
    srn_config c;
    srn_buf b;
    srn_config_init(&c);
    srn_buf_init(&b, 16 << 20);
    const srn__otel_self self = self_of(&c.telemetry);
    const srn__otel_stats stats = {.sent = 5};
    srn__otel_put_metrics(&b, &self, m, NULL, NULL, &stats);
    json_t *j = json_loadb(b.data, b.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(j);
    json_t *scope = json_array_get(
        json_object_get(json_array_get(json_object_get(j, "resourceMetrics"), 0), "scopeMetrics"), 0);
    json_t *metrics = json_incref(json_object_get(scope, "metrics"));
    json_decref(j);
    srn_buf_done(&b);
    srn_config_done(&c);
    return metrics;
}

/* Points of a histogram; the metric is there once. */
static const json_t *points_of(const json_t *metrics, const char *name) {
    const json_t *m, *found = NULL;
    size_t i;
    json_array_foreach(metrics, i, m) {
        if (strcmp(text_of(m, "name"), name) != 0) continue;
        assert_null(found);
        found = json_object_get(json_object_get(m, "histogram"), "dataPoints");
    }
    return found;
}

static void calls_are_summed_in_the_conventions_buckets(void **state) {
    (void)state;
    srn__otel_sums *m = srn__otel_sums_new();
    srn__trace t = trace_of(0);
    for (int i = 0; i < 3; i++) srn__otel_sums_add(m, &t);
    snprintf(t.facts.error, sizeof t.facts.error, "ETIMEDOUT");
    srn__otel_sums_add(m, &t);
    json_t *metrics = metrics_of(m);
    const json_t *usage = points_of(metrics, "gen_ai.client.token.usage");
    assert_int_equal(json_array_size(usage), 4); /* input and output, with and without an error */
    const json_t *buckets = json_object_get(json_array_get(usage, 0), "bucketCounts");
    assert_int_equal(json_array_size(buckets), 15);
    assert_string_equal(json_string_value(json_array_get(buckets, 2)), "3"); /* 10 is in (4, 16] */
    const json_t *first = points_of(metrics, "gen_ai.server.time_to_first_token");
    assert_int_equal(json_array_size(first), 1); /* of answers that were completed */
    assert_string_equal(text_of(json_array_get(first, 0), "count"), "3");
    const json_t *each = points_of(metrics, "gen_ai.server.time_per_output_token");
    assert_true(json_number_value(json_object_get(json_array_get(each, 0), "max")) ==
                0.001); /* 3 ms, 3 tokens */
    assert_int_equal(json_array_size(points_of(metrics, "gen_ai.server.request.duration")), 2);
    json_decref(metrics);
    srn__otel_sums_free(m);
}

static void series_beyond_the_table_are_summed_together(void **state) {
    (void)state;
    srn__otel_sums *m = srn__otel_sums_new();
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 300; i++) {
            srn__trace t = trace_of(0);
            t.facts.prompt.version = (uint32_t)i;
            snprintf(t.facts.prompt.name, sizeof t.facts.prompt.name, "p");
            srn__otel_sums_add(m, &t);
        }
    json_t *metrics = metrics_of(m);
    const json_t *all = points_of(metrics, "gen_ai.server.request.duration"), *p;
    long long sum = 0, most = 0;
    size_t i;
    assert_int_equal(json_array_size(all), 256);
    json_array_foreach(all, i, p) {
        long long n = strtoll(text_of(p, "count"), NULL, 10);
        sum += n;
        most = SRN_MAX(most, n);
    }
    assert_int_equal(sum, 600);
    assert_int_equal(most, 90);
    json_decref(metrics);
    srn__otel_sums_free(m);
}

static void names_that_no_model_has_are_no_label(void **state) {
    (void)state;
    srn__otel_sums *m = srn__otel_sums_new();
    for (int i = 0; i < 5; i++) {
        srn__trace t = trace_of(0);
        t.known = false;
        snprintf(t.asked, sizeof t.asked, "anything-%d", i);
        srn__otel_sums_add(m, &t);
    }
    json_t *metrics = metrics_of(m);
    assert_int_equal(json_array_size(points_of(metrics, "gen_ai.server.request.duration")), 1);
    json_decref(metrics);
    srn__otel_sums_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_traceparent_is_read),
        cmocka_unit_test(what_is_no_traceparent_is_ignored),
        cmocka_unit_test(a_tracestate_is_passed_on_if_it_is_one),
        cmocka_unit_test(a_share_of_the_traces_is_kept),
        cmocka_unit_test(only_full_content_of_routes_that_are_not_local_may_go_out),
        cmocka_unit_test(local_only_routes_keep_their_spans),
        cmocka_unit_test(a_call_is_a_span_with_one_for_each_of_its_times),
        cmocka_unit_test(a_call_that_never_began_has_no_times),
        cmocka_unit_test(whatever_a_client_sends_is_json),
        cmocka_unit_test(calls_are_summed_in_the_conventions_buckets),
        cmocka_unit_test(series_beyond_the_table_are_summed_together),
        cmocka_unit_test(names_that_no_model_has_are_no_label),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
