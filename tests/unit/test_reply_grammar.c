/* chat: grammars of answers. For every format: what a model may write, and at which byte it is stopped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "chat/reply.h"
#include "unit/vocab_image.h"

static const char tools_json[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"find\",\"parameters\":{\"type\":\"object\","
    "\"additionalProperties\":false,\"properties\":{\"q\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"}}"
    ","
    "\"required\":[\"q\"]}}},{\"type\":\"function\",\"function\":{\"name\":\"now\"}}]";

typedef struct setup {
    loaded l;
    srn_token_trie *trie;
    json_t *tools;
} setup;

static int begin(void **state) {
    setup *s = calloc(1, sizeof *s);
    image g;
    srn_err err = {0};
    bpe_image(&g);
    if (!s || load_image(&g, &s->l, &err) || srn_token_trie_new(s->l.v, &s->trie, &err)) return 1;
    s->tools = json_loads(tools_json, 0, NULL);
    *state = s;
    return 0;
}

static int end(void **state) {
    setup *s = *state;
    json_decref(s->tools);
    srn_token_trie_free(s->trie);
    loaded_done(&s->l);
    free(s);
    return 0;
}

static srn_constraint *compile(const srn_reply_format *f, const srn_reply_opts *o, const char *content) {
    srn_err err = {0};
    srn_grammar *g;
    srn_constraint *c = NULL;
    assert_int_equal(srn_grammar_new(1 << 18, &g, &err), SRN_OK);
    json_t *schema = content ? json_loads(content, 0, NULL) : NULL;
    srn_node node = schema ? srn_g_schema(g, schema, &err) : SRN_NODE_NONE;
    json_decref(schema);
    node = srn_reply_grammar(f, o, g, node, &err);
    if (node == SRN_NODE_NONE || srn_constraint_new(g, node, &c, &err)) fail_msg("%s", err.text);
    srn_grammar_free(g);
    return c;
}

/* The text is let through whole, and may or may not end there; or it is stopped at byte `at`. */
enum { WHOLE = -1, OPEN = -2 };
static void check(const setup *s, srn_constraint *c, const char *text, int at) {
    srn_err err = {0};
    srn_matcher *m;
    assert_int_equal(srn_matcher_new(c, s->trie, &m, &err), SRN_OK);
    size_t n = strlen(text), got = srn_matcher_accept_bytes(m, text, n);
    size_t want = at < 0 ? n : (size_t)at;
    if (got != want) print_error("'%s' is stopped at %zu\n", text, got);
    assert_int_equal(got, want);
    if (at < 0 && srn_matcher_may_end(m) != (at == WHOLE)) fail_msg("'%s' may end: %d", text, at != WHOLE);
    srn_matcher_free(m);
}

static srn_reply_opts with_tools(const setup *s, srn_tool_choice choice) {
    return (srn_reply_opts){.tools = s->tools,
                            .choice = choice,
                            .parallel_calls = true,
                            .parse_tools = true,
                            .parse_reasoning = true};
}

/* A call of each tool in every format, and the byte at which a wrong name or wrong arguments are stopped. */
static const struct form {
    const char *source, *good[2], *bad;
    int at;
} forms[] = {
    {"",
     {"<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>",
      "<tool_call>{\"name\":\"find\",\"arguments\":{\"q\":\"x\"}}</tool_call>"},
     "<tool_call>{\"name\":\"fond\"",
     21},
    {"<tool_call><function=",
     {"<tool_call>\n<function=now>\n</function>\n</tool_call>",
      "<tool_call>\n<function=find>\n<parameter=q>\na <b\n</parameter>\n<parameter=n>\n3\n"
      "</parameter>\n</function>\n</tool_call>"},
     "<tool_call>\n<function=find>\n</function>",
     29},
    {"parameters <|python_tag|>",
     {"{\"name\": \"now\", \"parameters\": {}}",
      "<|python_tag|>{\"name\": \"find\", \"parameters\": {\"q\": \"x\"}}"},
     "{\"name\": \"now\", \"parameters\": {\"a",
     31},
    {"[TOOL_CALLS] [ARGS]",
     {"[TOOL_CALLS]now[ARGS]{}", "[TOOL_CALLS]find[ARGS]{\"q\": \"\", \"n\": 1}"},
     "[TOOL_CALLS]nix",
     13},
    {"[TOOL_CALLS]",
     {"[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {}}]",
      "[TOOL_CALLS] [{\"name\": \"now\", \"arguments\": {}}, {\"name\": \"find\", \"arguments\": {\"q\": "
      "\"x\"}}]"},
     "[TOOL_CALLS][]",
     13},
    {"<TOOLCALL>",
     {"<TOOLCALL>[{\"name\": \"now\", \"arguments\": {}}]</TOOLCALL>",
      "<TOOLCALL>[{\"name\": \"find\", \"arguments\": {\"q\": \"x\"}}]</TOOLCALL>"},
     "<TOOLCALL>[{\"name\": \"find\", \"arguments\": {}",
     42},
    {"<｜tool▁calls▁begin｜> ```json",
     {"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<"
      "｜tool▁call▁end｜><｜tool▁calls▁end｜>",
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>find\n```json\n{\"q\": "
      "\"x\"}\n```<｜tool▁call▁end｜>\n"
      "<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><"
      "｜tool▁calls▁end｜>"},
     "<｜tool▁calls▁begin｜>x",
     28},
    {"<|tool_calls_section_begin|><|tool_call_argument_begin|>",
     {"<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}<|tool_"
      "call_end|>"
      "<|tool_calls_section_end|>",
      "<|tool_calls_section_begin|><|tool_call_begin|>functions.find:12<|tool_call_argument_begin|>{\"q\": "
      "\"x\"}<|tool_call_end|><|tool_calls_section_end|>"},
     "<|tool_calls_section_begin|><|tool_call_begin|>functions.now<",
     60},
};

static void ignore(void *ctx, const srn_reply_event *e) {
    *(uint32_t *)ctx += e->kind == SRN_REPLY_CALL_END;
}

static void calls_are_held_to_the_tools_in_every_format(void **state) {
    const setup *s = *state;
    for (size_t i = 0; i < SRN_LEN(forms); i++) {
        const srn_reply_format *f = srn_reply_format_of(srn_str_of(forms[i].source));
        srn_reply_opts free_text = with_tools(s, SRN_TOOLS_AUTO), forced = with_tools(s, SRN_TOOLS_REQUIRED);
        srn_constraint *a = compile(f, &free_text, NULL), *r = compile(f, &forced, NULL);
        for (int k = 0; k < 2; k++) {
            check(s, a, forms[i].good[k], WHOLE);
            check(s, r, forms[i].good[k], WHOLE);
            /* What the grammar lets through, the parser reads. */
            srn_err err = {0};
            srn_reply_parser *p;
            uint32_t calls = 0;
            assert_int_equal(srn_reply_parser_new(f, &free_text, ignore, &calls, &p, &err), SRN_OK);
            assert_int_equal(srn_reply_parser_add(p, srn_str_of(forms[i].good[k]), &err), SRN_OK);
            assert_true(calls > 0);
            srn_reply_parser_free(p);
        }
        check(s, a, forms[i].bad, forms[i].at);
        check(s, r, forms[i].bad, forms[i].at);
        check(s, a, "Just text, a < b [c] {\"name\" : 1}.", WHOLE);
        check(s, a, "", WHOLE);
        check(s, r, "", OPEN);
        check(s, r, "Just", 0);
        srn_constraint_free(a);
        srn_constraint_free(r);
    }
}

static void text_may_come_before_calls_and_after(void **state) {
    const setup *s = *state;
    const srn_reply_format *f = srn_reply_format_of(SRN_STR(""));
    srn_reply_opts o = with_tools(s, SRN_TOOLS_AUTO);
    srn_constraint *c = compile(f, &o, NULL);
    check(s, c, "Hm.\n<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call> and more <tool", WHOLE);
    check(s, c, "Hm.\n<tool_call>{\"name\": \"now\"", OPEN);
    check(s, c, "Hm.\n<tool_call>x", 15);
    srn_constraint_free(c);
    o.parallel_calls = false;
    c = compile(f, &o, NULL);
    check(s, c, "Hm <tool <<tool_call> \n", 22);
    check(s, c, "Hm <tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>", WHOLE);
    check(s, c, "Hm <tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>x", 58);
    srn_constraint_free(c);
}

static void a_named_tool_is_the_only_one(void **state) {
    const setup *s = *state;
    srn_reply_opts o = with_tools(s, SRN_TOOLS_NAMED);
    o.tool_name = "find";
    srn_constraint *c = compile(srn_reply_format_of(SRN_STR("")), &o, NULL);
    check(s, c, "<tool_call>{\"name\": \"now\"", 21);
    check(s, c, "<tool_call>{\"name\": \"find\", \"arguments\": {\"q\": \"x\"}}</tool_call>", WHOLE);
    srn_constraint_free(c);
}

static void a_schema_or_a_call(void **state) {
    const setup *s = *state;
    srn_reply_opts o = with_tools(s, SRN_TOOLS_AUTO);
    srn_constraint *c = compile(srn_reply_format_of(SRN_STR("")), &o, "{\"type\": \"integer\"}");
    check(s, c, "12", WHOLE);
    check(s, c, "twelve", 0);
    check(s, c, "<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>", WHOLE);
    srn_constraint_free(c);
}

static void reasoning_comes_first(void **state) {
    const setup *s = *state;
    srn_reply_opts o = {.parse_reasoning = true, .in_reasoning = true};
    const srn_reply_format *f = srn_reply_format_of(SRN_STR("<think>"));
    srn_constraint *c = compile(f, &o, "{\"type\": \"integer\"}");
    check(s, c, "12 </thin </</think>\n\n12", WHOLE);
    check(s, c, "12", OPEN);
    check(s, c, "a</think>b", 9);
    srn_constraint_free(c);
    o.in_reasoning = false;
    c = compile(f, &o, "{\"type\": \"integer\"}");
    check(s, c, "12", WHOLE);
    check(s, c, "<think>a</think>\n12", WHOLE);
    srn_constraint_free(c);
    c = compile(srn_reply_format_of(SRN_STR("")), &o, "{\"type\": \"integer\"}");
    check(s, c, "<think>", 0);
    srn_constraint_free(c);
    o = with_tools(s, SRN_TOOLS_REQUIRED);
    o.in_reasoning = true;
    c = compile(f, &o, NULL);
    check(s, c,
          "I think <tool_call> is it</think>\n<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>",
          WHOLE);
    check(s, c, "I think</think>\nno", 16);
    srn_constraint_free(c);
    o.choice = SRN_TOOLS_AUTO;
    c = compile(f, &o, NULL);
    check(s, c, "I think <tool_call>x</think>\nyes <tool_call>x", 44);
    check(s, c, "I think", WHOLE);
    srn_constraint_free(c);
}

static void parameters_that_cannot_be_held_are_refused_by_name(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"{\"type\":\"object\",\"properties\":{\"q\":{\"type\":\"string\",\"pattern\":\"a\"}}}", "pattern"},
        {"{\"type\":\"object\",\"oneOf\":[]}", "oneOf"}};
    for (size_t i = 0; i < SRN_LEN(bad); i++) {
        srn_err err = {0};
        srn_grammar *g;
        json_t *tools = json_pack("[{s:s, s:{s:s, s:o}}]", "type", "function", "function", "name", "f",
                                  "parameters", json_loads(bad[i][0], 0, NULL));
        srn_reply_opts o = {.tools = tools, .parse_tools = true};
        assert_int_equal(srn_grammar_new(1 << 18, &g, &err), SRN_OK);
        srn_node n = srn_reply_grammar(srn_reply_format_of(SRN_STR("<tool_call><function=")), &o, g,
                                       SRN_NODE_NONE, &err);
        assert_int_equal(n, SRN_NODE_NONE);
        assert_int_equal(err.code, SRN_EUNSUP);
        assert_non_null(strstr(err.text, bad[i][1]));
        srn_grammar_free(g);
        json_decref(tools);
    }
}

/* <s> is a control token of the vocabulary; as a mark it stands for its text. */
static void a_mark_may_be_a_control_token(void **state) {
    const setup *s = *state;
    srn_err err = {0};
    srn_constraint *c;
    srn_token_trie *with;
    srn_matcher *m;
    const int32_t mark = 6;
    uint64_t mask[1] = {0};
    assert_int_equal(srn_constraint_of_regex(SRN_STR("<s>abc"), &c, &err), SRN_OK);
    assert_int_equal(srn_token_trie_new_marks(s->l.v, &mark, 1, &with, &err), SRN_OK);
    assert_int_equal(srn_matcher_new(c, with, &m, &err), SRN_OK);
    assert_int_equal(srn_matcher_mask(m, mask, &err), SRN_OK);
    assert_true(mask[0] >> mark & 1);
    assert_int_equal(srn_matcher_accept(m, mark, &err), SRN_OK);
    assert_int_equal(srn_matcher_accept(m, 5, &err), SRN_OK);
    assert_true(srn_matcher_may_end(m));
    srn_matcher_free(m);
    srn_token_trie_free(with);
    assert_int_equal(srn_matcher_new(c, s->trie, &m, &err), SRN_OK);
    assert_int_equal(srn_matcher_accept(m, mark, &err), SRN_EINVAL);
    srn_matcher_free(m);
    srn_constraint_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_held_to_the_tools_in_every_format),
        cmocka_unit_test(text_may_come_before_calls_and_after),
        cmocka_unit_test(a_named_tool_is_the_only_one),
        cmocka_unit_test(a_schema_or_a_call),
        cmocka_unit_test(reasoning_comes_first),
        cmocka_unit_test(parameters_that_cannot_be_held_are_refused_by_name),
        cmocka_unit_test(a_mark_may_be_a_control_token),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
