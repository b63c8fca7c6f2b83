/* Telemetry's part of the configuration: the file, the environment under it, what is refused, and that no
 * secret shows anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "config/config.h"

static int parse(srn_config *c, const char *yaml, srn_err *err) {
    *err = (srn_err){0};
    srn_config_init(c);
    return srn_config_parse(c, srn_str_of(yaml), "f", err);
}

/* The variables of one test. */
static const char *const *variables;
static const char *get(const char *name) {
    for (size_t i = 0; variables[i]; i += 2)
        if (strcmp(variables[i], name) == 0) return variables[i + 1];
    return NULL;
}

static int lay(srn_config *c, const char *const *vars, srn_err *err) {
    *err = (srn_err){0};
    variables = vars;
    return srn_config_otel_env(c, get, err);
}

static void it_is_off_unless_an_endpoint_is_named(void **state) {
    (void)state;
    srn_config c;
    srn_err err;
    srn_config_init(&c);
    assert_null(c.telemetry.endpoint);
    const char *const without[] = {"OTEL_SERVICE_NAME", "x", "OTEL_TRACES_SAMPLER", "always_on", NULL};
    assert_int_equal(lay(&c, without, &err), 0);
    assert_null(c.telemetry.endpoint);
    assert_false(c.telemetry.content);
    srn_config_done(&c);
    assert_int_equal(parse(&c, "telemetry: http://h:4318\n", &err), 0);
    assert_string_equal(c.telemetry.endpoint, "http://h:4318");
    const char *const disabled[] = {"OTEL_SDK_DISABLED", "TRUE", NULL};
    assert_int_equal(lay(&c, disabled, &err), 0);
    assert_null(c.telemetry.endpoint);
    srn_config_done(&c);
}

static void the_environment_fills_what_the_file_leaves(void **state) {
    (void)state;
    srn_config c;
    srn_err err;
    const char *const vars[] = {"OTEL_EXPORTER_OTLP_ENDPOINT",
                                "https://c:4318",
                                "OTEL_EXPORTER_OTLP_HEADERS",
                                "api-key=a%20b%3D, x = y",
                                "OTEL_RESOURCE_ATTRIBUTES",
                                "deployment.environment.name=test,team=",
                                "OTEL_SERVICE_NAME",
                                "mine",
                                "OTEL_TRACES_SAMPLER",
                                "traceidratio",
                                "OTEL_TRACES_SAMPLER_ARG",
                                "0.25",
                                "OTEL_EXPORTER_OTLP_TIMEOUT",
                                "2500",
                                "OTEL_METRICS_EXPORTER",
                                "none",
                                NULL};
    srn_config_init(&c);
    assert_int_equal(lay(&c, vars, &err), 0);
    const srn_config_telemetry *t = &c.telemetry;
    assert_string_equal(t->endpoint, "https://c:4318");
    assert_int_equal(t->n_headers, 2);
    assert_string_equal(t->headers[0].value, "a b=");
    assert_string_equal(t->headers[1].name, "x");
    assert_string_equal(t->headers[1].value, "y");
    assert_int_equal(t->n_resource, 2);
    assert_string_equal(t->resource[1].value, "");
    assert_string_equal(t->service_name, "mine");
    assert_true(t->sample == 0.25 && t->ignore_parent && t->no_metrics && !t->no_traces);
    assert_int_equal(t->timeout_ms, 2500);
    srn_config_done(&c);

    assert_int_equal(
        parse(&c, "telemetry: {endpoint: 'http://file:1', sample: 0.5, headers: {a: b}}\n", &err), 0);
    assert_int_equal(lay(&c, vars, &err), 0);
    assert_string_equal(c.telemetry.endpoint, "http://file:1");
    assert_true(c.telemetry.sample == 0.5 && !c.telemetry.no_metrics && !c.telemetry.ignore_parent);
    assert_int_equal(c.telemetry.n_headers, 1);
    assert_string_equal(c.telemetry.headers[0].value, "b");
    assert_string_equal(c.telemetry.service_name, "mine");
    srn_config_done(&c);
}

static void what_cannot_be_meant_is_named(void **state) {
    (void)state;
    static const char *const wrong[][2] = {
        {"OTEL_EXPORTER_OTLP_HEADERS", "a"},    {"OTEL_EXPORTER_OTLP_HEADERS", "=x"},
        {"OTEL_EXPORTER_OTLP_HEADERS", "a=%4"}, {"OTEL_RESOURCE_ATTRIBUTES", "a=%zz"},
        {"OTEL_RESOURCE_ATTRIBUTES", "a=%00"},  {"OTEL_EXPORTER_OTLP_TIMEOUT", "soon"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT", "0"},    {"OTEL_METRIC_EXPORT_INTERVAL", "-1"},
        {"OTEL_METRIC_EXPORT_INTERVAL", "9e9"}, {"OTEL_BSP_SCHEDULE_DELAY", "1000000000000"},
        {"OTEL_TRACES_SAMPLER_ARG", "2"},       {"OTEL_TRACES_SAMPLER_ARG", "-0.1"},
    };
    for (size_t i = 0; i < SRN_LEN(wrong); i++) {
        srn_config c;
        srn_err err;
        srn_config_init(&c);
        const char *const vars[] = {"OTEL_EXPORTER_OTLP_ENDPOINT",
                                    "http://h:4318",
                                    "OTEL_TRACES_SAMPLER",
                                    "parentbased_traceidratio",
                                    wrong[i][0],
                                    wrong[i][1],
                                    NULL};
        assert_int_equal(lay(&c, vars, &err), SRN_EINVAL);
        assert_non_null(strstr(err.text, wrong[i][0]));
        srn_config_done(&c);
    }
    srn_config c;
    srn_err err;
    srn_config_init(&c);
    const char *const grpc[] = {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4317", "OTEL_EXPORTER_OTLP_PROTOCOL",
                                "grpc", NULL};
    assert_int_equal(lay(&c, grpc, &err), 0);
    assert_null(c.telemetry.endpoint);
    assert_non_null(strstr(c.telemetry.note, "4318"));
    srn_config_done(&c);
}

static void wrong_endpoints_and_headers_are_refused_without_their_secrets(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "telemetry: 'ftp://h'\n",
        "telemetry: 'h:4318'\n",
        "telemetry: 'http://'\n",
        "telemetry: 'http://user:secret@h:4318/?token=secret'\n",
        "telemetry: {endpoint: 'http://h', headers: {'a b': secret}}\n",
        "telemetry: {endpoint: 'http://h', headers: {a: \"secret\\r\\nb: c\"}}\n",
    };
    for (size_t i = 0; i < SRN_LEN(wrong); i++) {
        srn_config c;
        srn_err err;
        assert_int_equal(parse(&c, wrong[i], &err), 0);
        c.models = &(srn_config_model){.name = "m", .path = "m"};
        c.n_models = 1;
        assert_int_equal(srn_config_check(&c, &err), SRN_EINVAL);
        if (!strstr(err.text, "telemetry: ") || strstr(err.text, "secret")) fail_msg("%s", err.text);
        srn_config_done(&c);
    }
    static const char *const unread[] = {"telemetry: {sample: 1.5}\n",
                                         "telemetry: {sample: 1e-1}\n",
                                         "telemetry: {sample: .}\n",
                                         "telemetry: {queue: 0}\n",
                                         "telemetry: {header: {}}\n",
                                         "telemetry: {headers: [a]}\n",
                                         "telemetry: [a]\n"};
    for (size_t i = 0; i < SRN_LEN(unread); i++) {
        srn_config c;
        srn_err err;
        assert_int_equal(parse(&c, unread[i], &err), SRN_EFORMAT);
        srn_config_done(&c);
    }
}

static void the_configurations_id_holds_no_secret(void **state) {
    (void)state;
    srn_config c;
    srn_err err;
    srn_buf json;
    char id[65], off[65];
    srn_config_init(&c);
    srn_buf_init(&json, 1 << 20);
    assert_int_equal(srn_config_identity(&c, NULL, off, &err), 0);
    srn_config_done(&c);
    assert_int_equal(
        parse(&c, "telemetry: {endpoint: 'http://u:secret@h:1', headers: {k: secret}, sample: 0.125}\n",
              &err),
        0);
    assert_int_equal(srn_config_identity(&c, &json, id, &err), 0);
    assert_non_null(strstr(json.data, "\"endpoint\":\"http://h:1\""));
    assert_non_null(strstr(json.data, "\"headers\":[\"k\"]"));
    assert_null(strstr(json.data, "secret"));
    assert_string_not_equal(id, off);
    srn_buf_done(&json);
    srn_config_done(&c);
}

static void addresses_are_shown_without_user_and_query(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"http://h:1", "http://h:1"},
                                           {"https://u:p@h/x?y=z#w", "https://h/x"},
                                           {"http://u@v@h", "http://h"},
                                           {"http://h/@p", "http://h/@p"},
                                           {"http://h?a@b", "http://h"},
                                           {"u:p@h", "h"},
                                           {"http://[::1]:4318/v1/@", "http://[::1]:4318/v1/@"},
                                           {"http://u:p/w@h/x", "http://h/x"}, /* not encoded */
                                           {"http://u:p?w@h/x", "http://"},
                                           {"", ""}};
    for (size_t i = 0; i < SRN_LEN(cases); i++) {
        char shown[64];
        srn_url_shown(cases[i][0], shown, sizeof shown);
        assert_string_equal(shown, cases[i][1]);
    }
    char cut[8];
    srn_url_shown("http://user@host", cut, sizeof cut);
    assert_string_equal(cut, "http://");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_off_unless_an_endpoint_is_named),
        cmocka_unit_test(the_environment_fills_what_the_file_leaves),
        cmocka_unit_test(what_cannot_be_meant_is_named),
        cmocka_unit_test(wrong_endpoints_and_headers_are_refused_without_their_secrets),
        cmocka_unit_test(the_configurations_id_holds_no_secret),
        cmocka_unit_test(addresses_are_shown_without_user_and_query),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
