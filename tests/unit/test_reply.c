/* chat: reply formats. What families write is told apart the same however the text is cut; what is no call
 * stays text; messages take the form that their templates render.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "chat/reply.h"

static const char tools_json[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"d\",\"parameters\":{"
    "\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"},\"days\":{\"type\":\"integer\"}},"
    "\"required\":[\"city\"]}}},{\"type\":\"function\",\"function\":{\"name\":\"now\"}}]";

/* Sources that choose each row, as its templates contain them. */
static const struct source {
    const char *name, *text;
} sources[] = {
    {"hermes", "<tool_call>\n{\"name\": <x>, \"arguments\": <y>}\n</tool_call>"},
    {"qwen3-coder", "<tool_call>\n<function=example>"},
    {"llama3", "{\"name\": f, \"parameters\": p} <|python_tag|>"},
    {"mistral", "[TOOL_CALLS]f[ARGS]{}"},
    {"mistral-list", "[TOOL_CALLS] ["},
    {"nemotron", "<TOOLCALL>["},
    {"granite", "<|tool_call|>"},
    {"phi", "<|tool_call|><|/tool_call|>"},
    {"deepseek", "<｜tool▁calls▁begin｜>```json"},
    {"deepseek-v3.1", "<｜tool▁calls▁begin｜>"},
    {"kimi", "<|tool_calls_section_begin|><|tool_call_argument_begin|>"},
    {"generic", "{{ messages }}"},
    {"generic-user", "{{ raise_exception('System role not supported') }}"},
};

static const srn_reply_format *format(const char *name) {
    for (size_t i = 0; i < SRN_LEN(sources); i++)
        if (strcmp(sources[i].name, name) == 0) {
            const srn_reply_format *f = srn_reply_format_of(srn_str_of(sources[i].text));
            assert_string_equal(srn_reply_format_name(f), name);
            return f;
        }
    fail_msg("no source for %s", name);
    return NULL;
}

/* Events as text, joined where they go on: R[...] C[...] {index name:arguments} */
typedef struct record {
    srn_buf text;
    srn_reply_event_kind last;
    uint32_t index;
    uint64_t end;
} record;

static void note(void *ctx, const srn_reply_event *e) {
    record *r = ctx;
    bool goes_on = r->text.len && r->last == e->kind &&
                   (e->kind == SRN_REPLY_REASONING || e->kind == SRN_REPLY_CONTENT ||
                    (e->kind == SRN_REPLY_ARGUMENTS && r->index == e->index));
    assert_true(e->end >= r->end);
    r->end = e->end;
    if (!goes_on && r->text.len && (r->last == SRN_REPLY_REASONING || r->last == SRN_REPLY_CONTENT))
        srn_buf_addz(&r->text, "]");
    switch (e->kind) {
    case SRN_REPLY_REASONING:
        if (!goes_on) srn_buf_addz(&r->text, "R[");
        break;
    case SRN_REPLY_CONTENT:
        if (!goes_on) srn_buf_addz(&r->text, "C[");
        break;
    case SRN_REPLY_CALL:
        srn_buf_addf(&r->text, "{%u ", e->index);
        break;
    case SRN_REPLY_ARGUMENTS:
        if (!goes_on) srn_buf_addz(&r->text, ":");
        break;
    case SRN_REPLY_CALL_END:
        srn_buf_addz(&r->text, "}");
    }
    if (e->text.len) srn_buf_add(&r->text, e->text.ptr, e->text.len);
    r->last = e->kind;
    r->index = e->index;
}

/* The events of the text cut into [0, a), [a, b) and the rest. */
static char *parse(const srn_reply_format *f, const srn_reply_opts *o, srn_str text, size_t a, size_t b,
                   bool bytewise) {
    srn_err err = {0};
    srn_reply_parser *p;
    record r = {0};
    srn_buf_init(&r.text, 1 << 20);
    assert_int_equal(srn_reply_parser_new(f, o, note, &r, &p, &err), SRN_OK);
    for (size_t i = 0; bytewise && i < text.len; i++)
        assert_int_equal(srn_reply_parser_add(p, (srn_str){text.ptr + i, 1}, &err), SRN_OK);
    if (!bytewise) {
        const size_t cuts[] = {0, a, b, text.len};
        for (int i = 0; i < 3; i++)
            assert_int_equal(
                srn_reply_parser_add(p, (srn_str){text.ptr + cuts[i], cuts[i + 1] - cuts[i]}, &err), SRN_OK);
    }
    assert_int_equal(srn_reply_parser_end(p, &err), SRN_OK);
    assert_true(r.end <= text.len);
    if (r.text.len && (r.last == SRN_REPLY_REASONING || r.last == SRN_REPLY_CONTENT))
        srn_buf_addz(&r.text, "]");
    srn_buf_add(&r.text, "", 0);
    srn_reply_parser_free(p);
    return r.text.data;
}

static srn_reply_opts with_tools(json_t *tools) {
    return (srn_reply_opts){
        .tools = tools, .parallel_calls = true, .parse_tools = true, .parse_reasoning = true};
}

static void expect_opts(const char *name, const srn_reply_opts *o, const char *text, const char *want) {
    const srn_reply_format *f = format(name);
    srn_str s = srn_str_of(text);
    for (size_t a = 0; a <= s.len + 1; a++) {
        /* Every cut in two, some in three, and byte by byte. */
        bool bytewise = a == s.len + 1;
        size_t b = bytewise ? 0 : SRN_MIN(s.len, a + a % 7);
        char *got = parse(f, o, s, bytewise ? 0 : a, b, bytewise);
        if (strcmp(got, want) != 0) print_error("%s: %s cut at %zu\n", name, text, a);
        assert_string_equal(got, want);
        free(got);
    }
}

/* Unguarded and guarded. */
static void expect(const char *name, const char *text, const char *want) {
    json_t *tools = json_loads(tools_json, 0, NULL);
    srn_reply_opts o = with_tools(tools);
    expect_opts(name, &o, text, want);
    o.guarded = true;
    expect_opts(name, &o, text, want);
    json_decref(tools);
}

static void expect_unguarded(const char *name, const char *text, const char *want) {
    json_t *tools = json_loads(tools_json, 0, NULL);
    srn_reply_opts o = with_tools(tools);
    expect_opts(name, &o, text, want);
    json_decref(tools);
}

#define CALL   "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\", \"days\": 2}}"
#define PARSED "get_weather:{\"city\": \"Bern\", \"days\": 2}}"

static void calls_of_every_format_are_told_from_text(void **state) {
    (void)state;
    static const char *const tagged[] = {"hermes", "generic", "generic-user"};
    for (size_t i = 0; i < SRN_LEN(tagged); i++) {
        expect(tagged[i], "<tool_call>\n" CALL "\n</tool_call>", "{0 " PARSED);
        expect(tagged[i], "Let me see.\n<tool_call>" CALL "</tool_call>\n<tool_call>" CALL "</tool_call>\n",
               "C[Let me see.]{0 " PARSED "{1 " PARSED);
        expect(tagged[i], "<tool_call>" CALL "</tool_call> and so", "{0 " PARSED "C[and so]");
    }
    expect("mistral", "[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Bern\", \"days\": 2}", "{0 " PARSED);
    expect("mistral", "[TOOL_CALLS]now[CALL_ID]abcdefghi[ARGS]{}[TOOL_CALLS]now[ARGS] {}",
           "{0 now:{}}{1 now:{}}");
    expect("mistral-list", "[TOOL_CALLS] [" CALL "]", "{0 " PARSED);
    expect("mistral-list",
           "[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {}, \"id\": \"abcdefghi\"}, " CALL "]",
           "{0 now:{}}{1 " PARSED);
    expect("nemotron", "<TOOLCALL>[" CALL ", " CALL "]</TOOLCALL>", "{0 " PARSED "{1 " PARSED);
    expect("granite", "<|tool_call|>[" CALL "]", "{0 " PARSED);
    expect("phi", "<|tool_call|>[" CALL "]<|/tool_call|>", "{0 " PARSED);
    expect(
        "deepseek",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": "
        "\"Bern\", \"days\": "
        "2}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```"
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "{0 " PARSED "{1 now:{}}");
    expect("deepseek-v3.1",
           "Hm<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><"
           "｜tool▁calls▁end｜>",
           "C[Hm]{0 now:{}}");
    expect("kimi",
           "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
           "<|tool_call_argument_begin|>{\"city\": \"Bern\", \"days\": 2}<|tool_call_end|>"
           "<|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
           "<|tool_calls_section_end|>",
           "{0 " PARSED "{1 now:{}}");
    expect("llama3", "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Bern\", \"days\": 2}}",
           "{0 " PARSED);
    expect("llama3", "<|python_tag|>{\"name\": \"now\", \"parameters\": {}}", "{0 now:{}}");
    expect("qwen3-coder",
           "I look.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nBern \"x\"\n"
           "y\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>",
           "C[I look.]{0 get_weather:{\"city\": \"Bern \\\"x\\\"\\ny\", \"days\": 2}}");
    expect("qwen3-coder", "<tool_call><function=now></function></tool_call>", "{0 now:{}}");
}

static void what_is_no_call_stays_text(void **state) {
    (void)state;
    expect("hermes", "a < b <tool <tool_cal <<tool_call", "C[a < b <tool <tool_cal <<tool_call]");
    expect_unguarded("hermes", "<tool_call>no</tool_call>", "C[<tool_call>no</tool_call>]");
    expect_unguarded("hermes", "<tool_call>{\"name\": \"other\", \"arguments\": {}}</tool_call>",
                     "C[<tool_call>{\"name\": \"other\", \"arguments\": {}}</tool_call>]");
    expect_unguarded("hermes", "<tool_call>{\"name\": \"now\", \"arguments\": {]}}</tool_call>",
                     "C[<tool_call>{\"name\": \"now\", \"arguments\": {]}}</tool_call>]");
    expect_unguarded("hermes", "<tool_call>{\"name\": \"now\", \"arguments\": []}</tool_call>",
                     "C[<tool_call>{\"name\": \"now\", \"arguments\": []}</tool_call>]");
    expect_unguarded("hermes", "<tool_call><tool_call>\n" CALL "</tool_call>", "C[<tool_call>]{0 " PARSED);
    expect_unguarded("hermes", "x <tool_call>{\"name\": \"now\", \"argu",
                     "C[x <tool_call>{\"name\": \"now\", \"argu]");
    expect("llama3", "{\"name\" : 1}", "C[{\"name\" : 1}]");
    expect("llama3", "See {\"name\": \"now\", \"parameters\": {}}",
           "C[See {\"name\": \"now\", \"parameters\": {}}]");
    expect_unguarded("mistral-list", "[TOOL_CALLS][1]", "C[[TOOL_CALLS][1]]");
    expect_unguarded("kimi", "<|tool_calls_section_begin|><|tool_calls_section_end|>",
                     "C[<|tool_calls_section_begin|><|tool_calls_section_end|>]");
    /* What came before the part that is wrong was a call. */
    expect_unguarded("nemotron", "<TOOLCALL>[" CALL ", 1]", "{0 " PARSED "C[, 1]]");
    expect_unguarded("qwen3-coder", "<tool_call><function=other></function></tool_call>",
                     "C[<tool_call><function=other></function></tool_call>]");
}

static void arguments_come_as_they_are_written(void **state) {
    (void)state;
    expect(
        "hermes",
        "<tool_call>{\"name\":\"get_weather\",\"arguments\":{\"city\":\"a}\\\"]{<tool_call>\",\"x\":[1,{}]} "
        ",\"id\":\"1\"}</tool_call>",
        "{0 get_weather:{\"city\":\"a}\\\"]{<tool_call>\",\"x\":[1,{}]}}");
    /* The name may come behind them, and they may be left out. */
    expect_unguarded("hermes", "<tool_call>{\"arguments\": {\"a\": 1}, \"name\": \"now\"}</tool_call>",
                     "{0 now:{\"a\": 1}}");
    expect("hermes", "<tool_call>{\"name\": \"now\"}</tool_call>", "{0 now:{}}");
}

static void a_guarded_call_that_is_cut_off_keeps_what_there_was(void **state) {
    (void)state;
    json_t *tools = json_loads(tools_json, 0, NULL);
    srn_reply_opts o = with_tools(tools);
    o.guarded = true;
    expect_opts("hermes", &o, "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": [1",
                "{0 now:{\"a\": [1");
    expect_opts("hermes", &o, "<tool_call>{\"name\": \"n", "C[<tool_call>{\"name\": \"n]");
    json_decref(tools);
}

static void arguments_of_a_guarded_call_stream(void **state) {
    (void)state;
    json_t *tools = json_loads(tools_json, 0, NULL);
    srn_err err = {0};
    srn_reply_opts o = with_tools(tools);
    srn_reply_parser *p;
    record r = {0};
    srn_buf_init(&r.text, 4096);
    o.guarded = true;
    assert_int_equal(srn_reply_parser_new(format("hermes"), &o, note, &r, &p, &err), SRN_OK);
    assert_int_equal(
        srn_reply_parser_add(p, SRN_STR("<tool_call>{\"name\": \"now\", \"arguments\": {\"a"), &err), SRN_OK);
    assert_string_equal(r.text.data, "{0 now:{\"a");
    srn_reply_parser_free(p);
    srn_buf_done(&r.text);
    json_decref(tools);
}

static void reasoning_is_told_from_content(void **state) {
    (void)state;
    expect("generic", "<think>\nWell.\n</think>\n\nYes.", "R[Well.]C[Yes.]");
    expect("generic", "\n<think>a < b</think>", "R[a < b]");
    expect("hermes", "<think>x</think>\n<tool_call>" CALL "</tool_call>", "R[x]{0 " PARSED);
    expect("hermes", "<think>x <tool_call> y</think>", "R[x <tool_call> y]");
    expect("generic", "Hi <think>x</think>", "C[Hi <think>x</think>]");
    expect("generic", "  Hi ", "C[  Hi ]");
    expect("generic", "<think>never ends ", "R[never ends ]");
    srn_reply_opts o = {.parse_reasoning = true, .in_reasoning = true};
    expect_opts("generic", &o, "\nWell.\n\n</think>\nYes. <tool_call>", "R[Well.]C[Yes. <tool_call>]");
    o = (srn_reply_opts){0};
    expect_opts("generic", &o, "<think>a</think> b\n", "C[<think>a</think> b\n]");
    const srn_reply_format *f = srn_reply_format_of(SRN_STR("[THINK] [TOOL_CALLS] [ARGS]"));
    assert_true(srn_reply_ends_in_reasoning(f, SRN_STR("x[THINK]\n")));
    assert_false(srn_reply_ends_in_reasoning(f, SRN_STR("x[THINK]\n[/THINK]")));
    o = (srn_reply_opts){.parse_reasoning = true};
    char *got = parse(f, &o, SRN_STR("[THINK]a[/THINK]b"), 3, 9, false);
    assert_string_equal(got, "R[a]C[b]");
    free(got);
}

static void the_end_of_reasoning_is_known(void **state) {
    (void)state;
    srn_err err = {0};
    srn_reply_opts o = {.parse_reasoning = true};
    record r = {0};
    srn_reply_parser *p;
    srn_buf_init(&r.text, 4096);
    assert_int_equal(srn_reply_parser_new(format("generic"), &o, note, &r, &p, &err), SRN_OK);
    assert_int_equal(srn_reply_parser_reasoning_end(p), 0);
    assert_int_equal(srn_reply_parser_add(p, SRN_STR("<think>a"), &err), SRN_OK);
    assert_true(srn_reply_parser_reasoning_end(p) == UINT64_MAX);
    assert_int_equal(srn_reply_parser_add(p, SRN_STR("</think>b"), &err), SRN_OK);
    assert_int_equal(srn_reply_parser_reasoning_end(p), 16);
    srn_reply_parser_free(p);
    srn_buf_done(&r.text);
}

static void without_tools_marks_are_text(void **state) {
    (void)state;
    srn_reply_opts o = {.parse_reasoning = true};
    expect_opts("hermes", &o, "<tool_call>" CALL "</tool_call>", "C[<tool_call>" CALL "</tool_call>]");
}

static void one_call_where_only_one_is_wanted(void **state) {
    (void)state;
    json_t *tools = json_loads(tools_json, 0, NULL);
    srn_reply_opts o = with_tools(tools);
    o.parallel_calls = false;
    expect_opts("hermes", &o, "<tool_call>" CALL "</tool_call><tool_call>" CALL "</tool_call>",
                "{0 " PARSED "C[<tool_call>" CALL "</tool_call>]");
    json_decref(tools);
}

/* ---- messages ---- */

static void expect_adapted(const char *name, const char *messages, bool tools, const char *want, bool keeps) {
    srn_err err = {0};
    json_t *m = json_loads(messages, 0, NULL), *t = tools ? json_loads(tools_json, 0, NULL) : NULL;
    json_t *got, *got_tools;
    assert_non_null(m);
    int code = srn_reply_adapt(format(name), m, t, &got, &got_tools, &err);
    if (code) print_error("%s\n", err.text);
    assert_int_equal(code, SRN_OK);
    char *dump = json_dumps(got, JSON_COMPACT);
    assert_string_equal(dump, want);
    assert_int_equal(got_tools != NULL, keeps);
    for (size_t i = 0; i < json_array_size(got_tools); i++) /* every function has parameters */
        assert_non_null(
            json_object_get(json_object_get(json_array_get(got_tools, i), "function"), "parameters"));
    free(dump);
    json_decref(got);
    json_decref(got_tools);
    json_decref(m);
    json_decref(t);
}

#define CALLED                                                                                               \
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"call_1\",\"type\":\"function\","     \
    "\"function\":{\"name\":\"now\",\"arguments\":\"{\\\"a\\\":1}\"}}]}"
#define RESULT "{\"role\":\"tool\",\"tool_call_id\":\"call_1\",\"content\":\"noon\"}"

static void messages_take_the_form_of_the_template(void **state) {
    (void)state;
    expect_adapted("hermes",
                   "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":"
                   "\"text\",\"text\":\"b\"}]}]",
                   true, "[{\"role\":\"user\",\"content\":\"a\\nb\"}]", true);
    expect_adapted("hermes", "[{\"role\":\"developer\",\"content\":\"a\"}]", false,
                   "[{\"role\":\"system\",\"content\":\"a\"}]", false);
    expect_adapted("hermes", "[" CALLED "," RESULT "]", true,
                   "[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"call_1\",\"type\":"
                   "\"function\",\"function\":{\"name\":\"now\",\"arguments\":{\"a\":1}}}]}," RESULT "]",
                   true);
    expect_adapted(
        "deepseek",
        "[{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[{\"function\":{"
        "\"name\":\"now\",\"arguments\":{\"a\":1}}}]}]",
        false,
        "[{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[{\"function\":{\"name\":\"now\","
        "\"arguments\":\"{\\\"a\\\": 1}\"}}]}]",
        false);
    expect_adapted("hermes", "[{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[]}]", false,
                   "[{\"role\":\"assistant\",\"content\":\"x\"}]", false);
}

static void ids_have_the_length_that_a_family_wants(void **state) {
    (void)state;
    srn_err err = {0};
    json_t *m = json_loads("[" CALLED "," RESULT "]", 0, NULL), *got, *tools;
    assert_int_equal(srn_reply_adapt(format("mistral-list"), m, NULL, &got, &tools, &err), SRN_OK);
    const json_t *call = json_array_get(json_object_get(json_array_get(got, 0), "tool_calls"), 0);
    const char *id = json_string_value(json_object_get(call, "id"));
    assert_int_equal(strlen(id), 9);
    assert_string_equal(id, json_string_value(json_object_get(json_array_get(got, 1), "tool_call_id")));
    json_decref(m);
    json_decref(got);
    json_decref(tools);
}

static void tools_are_told_where_the_template_knows_none(void **state) {
    (void)state;
    srn_err err = {0};
    static const char *const roles[][2] = {{"generic", "system"}, {"generic-user", "user"}};
    for (size_t i = 0; i < SRN_LEN(roles); i++) {
        json_t *m = json_loads("[{\"role\":\"user\",\"content\":\"Hi\"}]", 0, NULL), *got, *kept;
        json_t *tools = json_loads(tools_json, 0, NULL);
        assert_int_equal(srn_reply_adapt(format(roles[i][0]), m, tools, &got, &kept, &err), SRN_OK);
        assert_null(kept);
        assert_int_equal(json_array_size(got), i == 0 ? 2 : 1);
        const json_t *first = json_array_get(got, 0);
        assert_string_equal(json_string_value(json_object_get(first, "role")), roles[i][1]);
        const char *text = json_string_value(json_object_get(first, "content"));
        assert_non_null(strstr(text, "\"name\": \"get_weather\""));
        assert_non_null(strstr(text, "<tool_call>"));
        json_decref(m);
        json_decref(got);
        json_decref(tools);
    }
    expect_adapted(
        "generic", "[" CALLED "," RESULT "," RESULT "]", false,
        "[{\"role\":\"assistant\",\"content\":\"<tool_call>\\n{\\\"name\\\": \\\"now\\\", "
        "\\\"arguments\\\": {\\\"a\\\": 1}}\\n</tool_call>\"},{\"role\":\"user\",\"content\":"
        "\"<tool_response>\\nnoon\\n</tool_response>\\n<tool_response>\\nnoon\\n</tool_response>\"}]",
        false);
}

static void parts_that_are_not_text_are_refused(void **state) {
    (void)state;
    srn_err err = {0};
    json_t *m = json_loads("[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]", 0, NULL), *a, *b;
    assert_int_equal(srn_reply_adapt(format("hermes"), m, NULL, &a, &b, &err), SRN_EUNSUP);
    assert_non_null(strstr(err.text, "messages[0].content[0]"));
    assert_non_null(strstr(err.text, "image_url"));
    json_decref(m);
}

static void every_mark_is_listed(void **state) {
    (void)state;
    const srn_reply_format *f = format("deepseek");
    bool sep = false, think = false;
    const char *mark;
    for (size_t i = 0; (mark = srn_reply_mark(f, true, true, i)) != NULL; i++) {
        sep = sep || strcmp(mark, "<｜tool▁sep｜>") == 0;
        think = think || strcmp(mark, "</think>") == 0;
    }
    assert_true(sep && think);
    assert_null(srn_reply_mark(f, false, false, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_of_every_format_are_told_from_text),
        cmocka_unit_test(what_is_no_call_stays_text),
        cmocka_unit_test(arguments_come_as_they_are_written),
        cmocka_unit_test(a_guarded_call_that_is_cut_off_keeps_what_there_was),
        cmocka_unit_test(arguments_of_a_guarded_call_stream),
        cmocka_unit_test(reasoning_is_told_from_content),
        cmocka_unit_test(the_end_of_reasoning_is_known),
        cmocka_unit_test(without_tools_marks_are_text),
        cmocka_unit_test(one_call_where_only_one_is_wanted),
        cmocka_unit_test(messages_take_the_form_of_the_template),
        cmocka_unit_test(ids_have_the_length_that_a_family_wants),
        cmocka_unit_test(tools_are_told_where_the_template_knows_none),
        cmocka_unit_test(parts_that_are_not_text_are_refused),
        cmocka_unit_test(every_mark_is_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
