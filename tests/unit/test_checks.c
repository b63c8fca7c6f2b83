/* Checks of answers: each kind lets through and refuses, lists that are wrong are named, pairs are counted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "prompts/checks.h"

static srn_checks *make(const char *text) {
    srn_err err = {0};
    srn_checks *c = NULL;
    json_t *list = json_loads(text, 0, NULL);
    assert_non_null(list);
    if (srn_checks_new(list, "checks", &c, &err)) fail_msg("%s", err.text);
    json_decref(list);
    return c;
}

static bool passes(const char *check, const char *answer) {
    char list[4096];
    snprintf(list, sizeof list, "[%s]", check);
    srn_checks *c = make(list);
    bool yes = srn_check_passes(c, 0, srn_str_of(answer), 1);
    srn_checks_free(c);
    return yes;
}

static void texts(void **state) {
    (void)state;
    assert_true(passes("{\"exact\": \"yes\"}", " yes\n"));
    assert_false(passes("{\"exact\": \"yes\"}", "yes."));
    assert_true(passes("{\"exact\": \"\"}", ""));
    assert_true(passes("{\"contains\": \"fox\"}", "a foxy answer"));
    assert_false(passes("{\"contains\": \"fox\"}", "fo"));
    assert_true(passes("{\"contains\": \"fox\", \"not\": true}", "a dog"));
    assert_true(passes("{\"regex\": \"(?i)^dear \\\\p{L}+\"}", "Dear \303\204nne"));
    assert_false(passes("{\"regex\": \"^dear$\"}", "my dear"));
    assert_false(passes("{\"regex\": \"^(a+)+$\"}",
                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"));
}

/* Each place where it could begin costs as much as the rest of the answer: 11 seconds, were it let. */
static void a_pattern_that_costs_too_much_does_not_match(void **state) {
    (void)state;
    enum { N = 32000 };
    char *answer = malloc(N + 2);
    assert_non_null(answer);
    memset(answer, 'a', N);
    memcpy(answer + N, "1", 2);
    assert_true(passes("{\"regex\": \"[a-z]*\\\\d\"}", answer));
    answer[N] = 'a';
    memcpy(answer + N - 200, "b1", 2);
    assert_true(passes("{\"regex\": \"(?<=b)1a*$\"}", answer));
    assert_false(passes("{\"regex\": \"(?:b|[a-z]*c|(?=a)[a-z]*2)|1\"}", answer)); /* found, but too late */
    free(answer);
}

static void json(void **state) {
    (void)state;
    const char *answer = "{\"a\": {\"b c\": [1, {\"d\": \"x\"}]}, \"n\": 2.0}";
    assert_true(passes("{\"json\": \"$.a['b c'][1].d\", \"equals\": \"x\"}", answer));
    assert_false(passes("{\"json\": \"$.a['b c'][1].d\", \"equals\": \"y\"}", answer));
    assert_true(passes("{\"json\": \"$.n\", \"equals\": 2}", answer));
    assert_true(passes("{\"json\": \"$.a\"}", answer));
    assert_false(passes("{\"json\": \"$.a['b c'][2]\"}", answer));
    assert_false(passes("{\"json\": \"$.a\"}", "no json"));
    assert_false(passes("{\"json\": \"$.a[\"}", answer));
    const char *schema = "{\"schema\": {\"type\": \"object\", \"properties\": {\"a\": {\"type\": "
                         "\"integer\"}, \"b\": {\"type\": "
                         "\"string\"}}, \"required\": [\"a\", \"b\"], \"additionalProperties\": false}}";
    assert_true(passes(schema, "{\"a\": 1, \"b\": \"x\"}"));
    assert_true(passes(schema, "{\"b\": \"x\", \"a\": 1}")); /* an order is no part of what JSON says */
    assert_false(passes(schema, "{\"a\": \"1\", \"b\": \"x\"}"));
    assert_false(passes(schema, "{\"a\": 1}"));
    assert_false(passes(schema, "{\"a\": 1, \"b\": \"x\", \"c\": 0}"));
}

static void numbers(void **state) {
    (void)state;
    assert_true(passes("{\"number\": 1234.5}", "first 7, then $1,234.5."));
    assert_false(passes("{\"number\": 7}", "first 7, then 8"));
    assert_true(passes("{\"number\": -3.1, \"tolerance\": 0.15}", "about -3"));
    assert_false(passes("{\"number\": -3.1, \"tolerance\": 0.05}", "about -3"));
    assert_false(passes("{\"number\": 0}", "none"));
}

static void commands(void **state) {
    (void)state;
    srn_checks *c =
        make("[{\"command\": [\"grep\", \"-q\", \"x\"], \"name\": \"has an x\"}, {\"exact\": \"a\"}]");
    assert_int_equal(srn_checks_count(c), 2);
    assert_string_equal(srn_check_name(c, 0), "has an x");
    assert_string_equal(srn_check_name(c, 1), "exact \"a\"");
    assert_string_equal(srn_check_command(c, 0)[2], "x");
    assert_null(srn_check_command(c, 0)[3]);
    assert_null(srn_check_command(c, 1));
    assert_true(srn_check_passes(c, 0, SRN_STR(""), 0));
    assert_false(srn_check_passes(c, 0, SRN_STR(""), 1));
    srn_checks_free(c);
}

static void what_is_wrong_is_named(void **state) {
    (void)state;
    static const char *const lists[][2] = {
        {"{}", "needs a list"},
        {"[1]", "[0]: must be a mapping"},
        {"[{\"exact\": \"a\"}, {\"exakt\": \"a\"}]", "[1]: 'exakt' is unknown"},
        {"[{\"exact\": \"a\", \"regex\": \"b\"}]", "more than one"},
        {"[{\"name\": \"a\"}]", "has none of"},
        {"[{\"regex\": \"(\"}]", "regex: missing closing parenthesis"},
        {"[{\"regex\": \"a\", \"equals\": 1}]", "equals belongs to json"},
        {"[{\"json\": \"a.b\"}]", "begins with $"},
        {"[{\"number\": \"1\"}]", "number needs a number"},
        {"[{\"command\": []}]", "needs a list of a program"},
        {"[{\"schema\": {\"type\": \"objekt\"}}]", "schema"},
        {"[{\"exact\": \"a\", \"name\": \"\"}]", "name needs"},
    };
    for (size_t i = 0; i < SRN_LEN(lists); i++) {
        srn_err err = {0};
        srn_checks *c = NULL;
        json_t *list = json_loads(lists[i][0], 0, NULL);
        assert_int_not_equal(srn_checks_new(list, "checks", &c, &err), SRN_OK);
        if (!strstr(err.text, lists[i][1])) fail_msg("%s: %s", lists[i][0], err.text);
        json_decref(list);
    }
}

/* The values of the exact binomial test. */
static void pairs(void **state) {
    (void)state;
    assert_true(srn_mcnemar(0, 0) >= 1);
    assert_float_equal(srn_mcnemar(0, 5), 0.0625, 1e-9);
    assert_float_equal(srn_mcnemar(5, 0), 0.0625, 1e-9);
    assert_float_equal(srn_mcnemar(2, 8), 0.109375, 1e-9);
    assert_float_equal(srn_mcnemar(10, 10), 1.0, 1e-9);
    assert_true(srn_mcnemar(100, 200) < 1e-7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(a_pattern_that_costs_too_much_does_not_match),
        cmocka_unit_test(json),
        cmocka_unit_test(numbers),
        cmocka_unit_test(commands),
        cmocka_unit_test(pairs),
        cmocka_unit_test(what_is_wrong_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
