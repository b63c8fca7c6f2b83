/* The filter language: what is understood, what is refused and where, and the condition that comes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ledger/query_internal.h"

#define NOW UINT64_C(1795340000000000) /* 2026-11-22T07:33:20Z */

static srn_filter *parsed(const char *text) {
    srn_filter *f = NULL;
    srn_err err = {0};
    if (srn_filter_parse(srn_str_of(text), NOW, &f, &err)) fail_msg("%s: %s", text, err.text);
    return f;
}

/* The condition with its parameters written in: texts between quotes. */
static void expect_sql(const char *text, const char *want) {
    srn_filter *f = parsed(text);
    srn__sql q;
    srn_buf out;
    srn_buf_init(&out, 1 << 16);
    srn__sql_init(&q);
    srn__sql_filter(&q, f);
    uint32_t n = 0;
    for (const char *p = q.text.data ? q.text.data : ""; *p; p++) {
        if (*p != '$') {
            srn_buf_addc(&out, *p);
            continue;
        }
        p += strspn(p + 1, "0123456789");
        assert_true(n < q.n_params);
        const srn__param *v = &q.params[n++];
        if (v->kind == SRN__PARAM_NUMBER)
            srn_buf_addf(&out, "%lld", (long long)v->number);
        else
            srn_buf_addf(&out, "'%.*s'", (int)v->text.len, v->text.ptr);
    }
    assert_int_equal(n, q.n_params);
    assert_string_equal(out.data ? out.data : "", want);
    srn_buf_done(&out);
    srn__sql_done(&q);
    srn_filter_free(f);
}

static void terms_become_conditions(void **state) {
    (void)state;
    expect_sql("", "");
    expect_sql("model=small", " AND (model = 'small')");
    expect_sql("model=small,large", " AND (model = 'small' OR model = 'large')");
    expect_sql("model!=small", " AND NOT (model = 'small')");
    expect_sql("model = \"two words\" status >= 500", " AND (model = 'two words') AND (status >= 500)");
    expect_sql("model=\"a\\\"b\\\\\"", " AND (model = 'a\"b\\')");
    expect_sql("error=", " AND (error = '')");
    expect_sql("prompt=support@3", " AND (prompt = 'support' AND version = 3)");
    expect_sql("prompt!=a@1,b", " AND NOT (prompt = 'a' AND version = 1 OR prompt = 'b')");
    expect_sql("weights=9f3a", " AND (weights >= '9f3a' AND weights < '9f3ag')");
    expect_sql("key~Web", " AND (lower(key) LIKE '%web%' ESCAPE '\\')");
    expect_sql("key~^50%_", " AND (lower(key) LIKE '50\\%\\_%' ESCAPE '\\')");
    expect_sql("key!~x", " AND NOT (lower(key) LIKE '%x%' ESCAPE '\\')");
    expect_sql("fallback=large,",
               " AND (EXISTS (SELECT 1 FROM records b WHERE b.seq = calls.seq AND b.body LIKE "
               "'%,\"fallback\":{\"from\":\"large\"%') OR EXISTS (SELECT 1 FROM records b WHERE b.seq = "
               "calls.seq AND b.body LIKE '%,\"fallback\":null,%'))");
    expect_sql("streamed=true", " AND (streamed = 1)");
}

static void numbers_are_ranges(void **state) {
    (void)state;
    expect_sql("status=5xx", " AND (status >= 500 AND status <= 599)");
    expect_sql("status=500..503,429", " AND (status >= 500 AND status <= 503 OR status = 429)");
    expect_sql("tokens>4k", " AND ((n_input + n_output) >= 4001)");
    expect_sql("output<10", " AND (n_output >= 0 AND n_output <= 9)");
    expect_sql("ttft>2s", " AND (ttft_us >= 2000001)");
    expect_sql("ttft<=300ms", " AND (ttft_us >= 1 AND ttft_us <= 300000)");
    expect_sql("slow=1.5s", " AND (total_us >= 1500001)");
    expect_sql("slow>1min", " AND (total_us >= 60000001)");
    expect_sql("total=1s..2s", " AND (total_us >= 1000000 AND total_us <= 2000000)");
    expect_sql("queue<1us", " AND (queue_us = 0)");
}

static void expect_times(const char *text, uint64_t since, uint64_t until) {
    srn_filter *f = parsed(text);
    assert_int_equal(f->since_us, since);
    assert_int_equal(f->until_us, until);
    srn_filter_free(f);
}

static void times_are_a_span(void **state) {
    (void)state;
    expect_times("", 0, INT64_MAX);
    expect_times("since=1h", NOW - 3600000000u, INT64_MAX);
    expect_times("since=2026-11-22 until=2026-11-22T10:00", UINT64_C(1795305600000000),
                 UINT64_C(1795341600000000));
    expect_times("since=2026-11-22T01:00+01:00 until=2026-11-22T00:00:00.5Z", UINT64_C(1795305600000000),
                 UINT64_C(1795305600500000));
    expect_times("since=1h since=30min until=now", NOW - 1800000000u, NOW);
    expect_times("since=1795305600", UINT64_C(1795305600000000), INT64_MAX);
    expect_times("until=2024-02-29", 0, UINT64_C(1709164800000000));
    expect_times("since=100w", NOW - 100 * UINT64_C(604800000000), INT64_MAX);
}

static void errors_name_the_place(void **state) {
    (void)state;
    static const struct {
        const char *text, *want;
    } bad[] = {
        {"modle=small", "column 1: there is no field 'modle'"},
        {"model=a modle=b", "column 9: there is no field 'modle'; there are model, weights"},
        {"model", "column 6: 'model' needs an operator"},
        {"model>a", "'model' takes =, !=, ~ and !~"},
        {"since>1h", "'since' takes ="},
        {"status~5", "'status' takes =, !=, >, >=, < and <="},
        {"ttft>2", "column 6: '2' is no value of 'ttft': it needs a number and a unit"},
        {"ttft>2parsecs", "it needs a number and a unit"},
        {"status=", "column 8: 'status' needs a value"},
        {"status= model=a", "column 9: 'model=a' is no value of 'status'"},
        {"status=abc", "column 8: 'abc' is no value of 'status': it needs a whole number"},
        {"status=6xx", "'6xx' is no value"},
        {"status=500..", "column 13: '' is no value"},
        {"status=5..3", "the range ends before it begins"},
        {"weights=xyz", "0-9 and a-f"},
        {"prompt=a@b", "the number of a version"},
        {"prompt=a@0", "the number of a version"},
        {"fallback=\"a\\\"b\"", "it needs the name of a model"},
        {"fallback~a", "'fallback' takes"},
        {"streamed=maybe", "it is true or false"},
        {"since=yesterday", "column 7: 'yesterday' is no value of 'since'"},
        {"since=2026-02-30", "is no value"},
        {"since=2025-02-29", "is no value"},
        {"since=2026-11-22T25:00", "is no value"},
        {"since=99999999999999999999999d", "is no value"},
        {"model=\"open", "column 7: the quote is not closed"},
        {"model=\"a\"b", "column 10: a space is missing"},
        {"tokens>99999999999", "whole number"},
        {"=5", "there is no field '=5'"},
        {"model~", "column 7: '' is no value of 'model'"},
        {"model=\xff", "column 7: not UTF-8"},
    };
    for (size_t i = 0; i < SRN_LEN(bad); i++) {
        srn_filter *f = NULL;
        srn_err err = {0};
        int code = srn_filter_parse(srn_str_of(bad[i].text), NOW, &f, &err);
        if (code != SRN_EINVAL || !strstr(err.text, bad[i].want))
            fail_msg("'%s': code %d, \"%s\" lacks \"%s\"", bad[i].text, code, err.text, bad[i].want);
    }
}

static void what_is_too_long_is_refused(void **state) {
    (void)state;
    srn_buf b;
    srn_err err = {0};
    srn_filter *f = NULL;
    srn_buf_init(&b, 1 << 16);
    for (int i = 0; i < 65; i++) srn_buf_addz(&b, "model=a ");
    assert_int_equal(srn_filter_parse((srn_str){b.data, b.len}, NOW, &f, &err), SRN_EINVAL);
    assert_non_null(strstr(err.text, "more than 64 terms"));
    srn_buf_clear(&b);
    srn_buf_addz(&b, "model=a");
    for (int i = 0; i < 64; i++) srn_buf_addz(&b, ",a");
    assert_int_equal(srn_filter_parse((srn_str){b.data, b.len}, NOW, &f, &err), SRN_EINVAL);
    srn_buf_clear(&b);
    for (int i = 0; i < 5000; i++) srn_buf_addc(&b, ' ');
    assert_int_equal(srn_filter_parse((srn_str){b.data, b.len}, NOW, &f, &err), SRN_EINVAL);
    /* as many as there may be, each with the longest condition */
    srn_buf_clear(&b);
    for (int i = 0; i < 4; i++) {
        srn_buf_addz(&b, i ? " weights=a" : "weights=a");
        for (int k = 1; k < 64; k++) srn_buf_addz(&b, ",a");
    }
    assert_int_equal(srn_filter_parse((srn_str){b.data, b.len}, NOW, &f, &err), SRN_OK);
    srn__sql q;
    srn__sql_init(&q);
    srn__sql_filter(&q, f);
    assert_int_equal(srn__sql_check(&q, &err), SRN_OK);
    srn__sql_done(&q);
    srn_filter_free(f);
    srn_buf_done(&b);
}

static void rollups_know_what_they_hold(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool rolled;
    } cases[] = {{"", true},         {"model=a since=1h status=5xx prompt=a@2 arm~b", true},
                 {"ttft>1s", false}, {"model=a tenant=b", false},
                 {"slow>2s", false}, {"conversation=ab", false}};
    for (size_t i = 0; i < SRN_LEN(cases); i++) {
        srn_filter *f = parsed(cases[i].text);
        assert_int_equal(srn__filter_rolled(f), cases[i].rolled);
        srn_filter_free(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(terms_become_conditions),
        cmocka_unit_test(numbers_are_ranges),
        cmocka_unit_test(times_are_a_span),
        cmocka_unit_test(errors_name_the_place),
        cmocka_unit_test(what_is_too_long_is_refused),
        cmocka_unit_test(rollups_know_what_they_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
