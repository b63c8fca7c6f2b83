/* serve: bodies of the OpenAI API become checked requests; every refusal names the field. And what answers
 * are written with: strings, tokens, log-probabilities.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "serve/openai_internal.h"
#include "unit/vocab_image.h"

static srn_config_limits limits(void) {
    srn_config c;
    srn_config_init(&c);
    srn_config_limits l = c.limits;
    srn_config_done(&c);
    return l;
}

/* The request lives as long as its body. */
typedef struct parsed {
    json_t *body;
    srn__openai_request r;
    const char *param;
    srn_err err;
    int code;
} parsed;

static parsed parse(bool chat, const char *text) {
    parsed p = {.body = json_loads(text, 0, NULL)};
    srn_config_limits l = limits();
    if (!p.body) fail_msg("not JSON: %s", text);
    p.code = srn__openai_parse(p.body, chat, &l, &p.r, &p.param, &p.err);
    return p;
}

static void parsed_done(parsed *p) {
    srn__openai_request_done(&p->r);
    json_decref(p->body);
}

#define HI         "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"
#define PROMPT     "\"prompt\":\"Hi\""
#define TOOL(name) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"

static parsed accept(bool chat, const char *fields) {
    char *text = NULL;
    size_t n = strlen(fields) + 128;
    text = malloc(n);
    snprintf(text, n, "{%s%s%s}", chat ? HI : PROMPT, *fields ? "," : "", fields);
    parsed p = parse(chat, text);
    if (p.code) print_error("%s: %s\n", text, p.err.text);
    assert_int_equal(p.code, SRN_OK);
    free(text);
    return p;
}

static void refuse(bool chat, const char *fields, int code, const char *param) {
    size_t n = strlen(fields) + 128;
    char *text = malloc(n);
    bool own = strstr(fields, "messages\":") || strstr(fields, "prompt\":");
    snprintf(text, n, "{%s%s%s}", own ? "" : chat ? HI : PROMPT, own ? "" : ",", fields);
    parsed p = parse(chat, text);
    if (p.code != code || !p.param || strcmp(p.param, param) != 0)
        print_error("%s: %d %s %s\n", text, p.code, p.param ? p.param : "-", p.err.text);
    assert_int_equal(p.code, code);
    assert_string_equal(p.param, param);
    assert_non_null(strstr(p.err.text, param));
    free(text);
    parsed_done(&p);
}

static void a_plain_chat_has_the_defaults_of_the_api(void **state) {
    (void)state;
    parsed p = accept(true, "");
    const srn__job_spec *s = &p.r.spec;
    assert_true(s->sampling.temperature == 1 && s->sampling.top_p == 1 && s->sampling.min_p == 0);
    assert_int_equal(s->sampling.top_k, 0);
    assert_int_equal(s->n, 1);
    assert_int_equal(s->max_tokens, 0);
    assert_true(s->reply.parse_reasoning && !s->reply.parse_tools && !s->no_cache && !p.r.stream);
    assert_null(p.r.model);
    assert_int_equal(srn_sampling_check(&s->sampling, &p.err), SRN_OK);
    parsed_done(&p);
    p = accept(false, "");
    assert_int_equal(p.r.spec.max_tokens, 16);
    assert_int_equal(p.r.n_prompts, 1);
    assert_true(srn_str_eqz(p.r.prompts[0].text, "Hi"));
    parsed_done(&p);
}

static void minus_one_is_no_limit(void **state) {
    (void)state;
    static const char *const bodies[] = {"\"max_tokens\":-1", "\"n_predict\":-1",
                                         "\"max_tokens\":-1,\"min_tokens\":40"};
    for (size_t i = 0; i < 2 * SRN_LEN(bodies); i++) {
        parsed p = accept(i % 2, bodies[i / 2]);
        assert_int_equal(p.r.spec.max_tokens, 0);
        assert_false(p.r.no_output);
        parsed_done(&p);
    }
    parsed p = accept(true, "\"max_completion_tokens\":-1,\"max_tokens\":5");
    assert_int_equal(p.r.spec.max_tokens, 0);
    parsed_done(&p);
}

static void fields_reach_the_spec(void **state) {
    (void)state;
    parsed p = accept(
        true,
        "\"model\":\"m\",\"temperature\":0,\"top_p\":0.5,\"top_k\":7,\"min_p\":0.1,\"seed\":42,\"n\":3,"
        "\"max_tokens\":5,\"max_completion_tokens\":9,\"min_tokens\":2,\"ignore_eos\":true,"
        "\"cache_prompt\":false,\"stop\":[\"a\",\"\",\"b\"],\"stop_token_ids\":[3,1],\"presence_penalty\":1,"
        "\"frequency_penalty\":-2,\"repeat_penalty\":1.1,\"repeat_last_n\":-1,\"logprobs\":true,"
        "\"top_logprobs\":4,\"stream\":true,\"stream_options\":{\"include_usage\":true},"
        "\"logit_bias\":{\"9\":-100,\"3\":2.5},\"include_stop_str_in_output\":true,"
        "\"skip_special_tokens\":false,\"priority\":5,\"cache_salt\":\"x\",\"user\":\"u\",\"store\":true,"
        "\"metadata\":{\"a\":\"b\"},\"service_tier\":\"auto\",\"unheard_of\":{}");
    const srn__job_spec *s = &p.r.spec;
    assert_string_equal(p.r.model, "m");
    assert_true(s->sampling.temperature == 0 && s->sampling.top_p == 0.5f && s->sampling.min_p == 0.1f);
    assert_int_equal(s->sampling.top_k, 7);
    assert_int_equal(s->sampling.seed, 42);
    assert_int_equal(s->n, 3);
    assert_int_equal(s->max_tokens, 9);
    assert_int_equal(s->min_tokens, 2);
    assert_true(s->ignore_eog && s->no_cache && s->keep_stop && s->show_special && s->logprobs);
    assert_int_equal(s->n_stops, 2);
    assert_true(srn_str_eqz(s->stops[0], "a") && srn_str_eqz(s->stops[1], "b"));
    assert_int_equal(s->n_stop_tokens, 2);
    assert_int_equal(s->n_top, 4);
    assert_true(p.r.stream && p.r.include_usage);
    assert_int_equal(s->sampling.n_logit_bias, 2);
    assert_int_equal(s->sampling.logit_bias[0].id, 3);
    assert_true(s->sampling.logit_bias[1].bias == -100);
    assert_int_equal(s->priority, 5);
    assert_true(s->cache_salt != 0);
    assert_int_equal(srn_sampling_check(&s->sampling, &p.err), SRN_OK);
    parsed_done(&p);
}

static void null_counts_as_absent(void **state) {
    (void)state;
    parsed p =
        accept(true, "\"model\":null,\"temperature\":null,\"stop\":null,\"tools\":null,\"tool_choice\":null,"
                     "\"response_format\":null,\"seed\":null,\"logit_bias\":null,\"stream_options\":null,"
                     "\"functions\":null,\"max_tokens\":null,\"logprobs\":null,\"top_logprobs\":null,"
                     "\"grammar\":\"\",\"audio\":null,\"chat_template_kwargs\":null");
    assert_true(p.r.spec.sampling.temperature == 1);
    parsed_done(&p);
}

static void wrong_types_and_ranges_are_refused_by_name(void **state) {
    (void)state;
    static const char *const chat[][2] = {
        {"\"temperature\":\"1\"", "temperature"},
        {"\"temperature\":2.1", "temperature"},
        {"\"temperature\":-0.1", "temperature"},
        {"\"temperature\":true", "temperature"},
        {"\"top_p\":1.5", "top_p"},
        {"\"top_k\":-2", "top_k"},
        {"\"top_k\":1.5", "top_k"},
        {"\"n\":0", "n"},
        {"\"n\":17", "n"},
        {"\"n\":1.0", "n"},
        {"\"max_tokens\":0", "max_tokens"},
        {"\"max_tokens\":-2", "max_tokens"},
        {"\"max_completion_tokens\":0", "max_completion_tokens"},
        {"\"max_tokens\":99999999999999999999.0", "max_tokens"},
        {"\"max_completion_tokens\":\"9\"", "max_completion_tokens"},
        {"\"max_tokens\":3,\"min_tokens\":4", "min_tokens"},
        {"\"stream\":1", "stream"},
        {"\"stream_options\":{}", "stream_options"},
        {"\"seed\":1.5", "seed"},
        {"\"stop\":5", "stop"},
        {"\"stop\":[1]", "stop"},
        {"\"presence_penalty\":3", "presence_penalty"},
        {"\"logit_bias\":[]", "logit_bias"},
        {"\"logit_bias\":{\"x\":1}", "logit_bias"},
        {"\"logit_bias\":{\"1\":101}", "logit_bias"},
        {"\"logit_bias\":{\"1\":1,\"01\":1}", "logit_bias"},
        {"\"logprobs\":1", "logprobs"},
        {"\"top_logprobs\":2", "top_logprobs"},
        {"\"logprobs\":true,\"top_logprobs\":21", "top_logprobs"},
        {"\"prompt_logprobs\":1,\"stream\":true", "prompt_logprobs"},
        {"\"model\":5", "model"},
        {"\"messages\":[]", "messages"},
        {"\"messages\":\"Hi\"", "messages"},
        {"\"messages\":[{\"role\":\"wizard\",\"content\":\"a\"}]", "messages"},
        {"\"messages\":[{\"role\":\"user\"}]", "messages"},
        {"\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\"}]}]", "messages"},
        {"\"tools\":{}", "tools"},
        {"\"tools\":[{\"type\":\"custom\"}]", "tools"},
        {"\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a b\"}}]", "tools"},
        {"\"tools\":[" TOOL("a") "," TOOL("a") "]", "tools"},
        {"\"tool_choice\":\"required\"", "tool_choice"},
        {"\"tool_choice\":\"perhaps\"", "tool_choice"},
        {"\"tools\":[" TOOL("a") "],\"tool_choice\":" TOOL("b"), "tool_choice"},
        {"\"parallel_tool_calls\":\"no\"", "parallel_tool_calls"},
        {"\"response_format\":\"json\"", "response_format"},
        {"\"response_format\":{\"type\":\"xml\"}", "response_format"},
        {"\"response_format\":{\"type\":\"json_schema\"}", "response_format"},
        {"\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":5}}", "response_format"},
        {"\"guided_choice\":[]", "guided_choice"},
        {"\"guided_choice\":[5]", "guided_choice"},
        {"\"guided_regex\":5", "guided_regex"},
        {"\"chat_template_kwargs\":{\"bos_token\":\"x\"}", "chat_template_kwargs"},
        {"\"cache_salt\":\"\"", "cache_salt"},
        {"\"dry_sequence_breakers\":[\"\"]", "dry_sequence_breakers"},
    };
    for (size_t i = 0; i < SRN_LEN(chat); i++) refuse(true, chat[i][0], SRN_EINVAL, chat[i][1]);
    static const char *const plain[][2] = {
        {"\"prompt\":5", "prompt"},          {"\"prompt\":[]", "prompt"},
        {"\"prompt\":[[]]", "prompt"},       {"\"prompt\":[1,\"a\"]", "prompt"},
        {"\"prompt\":[-1]", "prompt"},       {"\"prompt\":[{}]", "prompt"},
        {"\"logprobs\":true", "logprobs"},   {"\"echo\":true,\"logprobs\":1,\"stream\":true", "echo"},
        {"\"max_tokens\":-2", "max_tokens"},
    };
    for (size_t i = 0; i < SRN_LEN(plain); i++) refuse(false, plain[i][0], SRN_EINVAL, plain[i][1]);
}

static void what_would_change_the_answer_is_refused_by_name(void **state) {
    (void)state;
    static const char *const chat[][2] = {
        {"\"functions\":[{\"name\":\"f\"}]", "functions"},
        {"\"function_call\":\"auto\"", "function_call"},
        {"\"audio\":{\"voice\":\"a\"}", "audio"},
        {"\"modalities\":[\"text\",\"audio\"]", "modalities"},
        {"\"web_search_options\":{}", "web_search_options"},
        {"\"best_of\":2", "best_of"},
        {"\"mirostat\":2", "mirostat"},
        {"\"chat_template\":\"x\"", "chat_template"},
        {"\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]", "messages"},
        {"\"messages\":[{\"role\":\"assistant\",\"function_call\":{}}]", "messages"},
        {"\"structured_outputs\":{\"structural_tag\":\"x\"}", "structured_outputs"},
    };
    for (size_t i = 0; i < SRN_LEN(chat); i++) refuse(true, chat[i][0], SRN_EUNSUP, chat[i][1]);
    refuse(false, "\"suffix\":\"x\"", SRN_EUNSUP, "suffix");
    refuse(false, "\"best_of\":2", SRN_EUNSUP, "best_of");
    /* The values that change nothing pass. */
    parsed p =
        accept(true, "\"modalities\":[\"text\"],\"mirostat\":0,\"length_penalty\":1.0,\"functions\":[],"
                     "\"function_call\":\"none\",\"best_of\":1,\"use_beam_search\":false,\"n_keep\":0");
    parsed_done(&p);
    p = accept(false, "\"suffix\":\"\",\"n\":2,\"best_of\":2");
    parsed_done(&p);
}

static void caps_are_checked(void **state) {
    (void)state;
    srn_config_limits l = limits();
    srn_buf b;
    srn_buf_init(&b, 64 << 20);
    srn_buf_addz(&b, "\"stop\":[");
    for (uint32_t i = 0; i <= l.stops; i++) srn_buf_addz(&b, i ? ",\"a\"" : "\"a\"");
    srn_buf_addz(&b, "]");
    refuse(true, b.data, SRN_ELIMIT, "stop");
    srn_buf_clear(&b);
    srn_buf_addz(&b, "\"messages\":[");
    for (uint32_t i = 0; i <= l.messages; i++)
        srn_buf_addf(&b, "%s{\"role\":\"user\",\"content\":\"a\"}", i ? "," : "");
    srn_buf_addz(&b, "]");
    refuse(true, b.data, SRN_ELIMIT, "messages");
    srn_buf_clear(&b);
    srn_buf_addz(&b, "\"tools\":[");
    for (uint32_t i = 0; i <= l.tools; i++)
        srn_buf_addf(&b, "%s{\"type\":\"function\",\"function\":{\"name\":\"t%u\"}}", i ? "," : "", i);
    srn_buf_addz(&b, "]");
    refuse(true, b.data, SRN_ELIMIT, "tools");
    srn_buf_clear(&b);
    srn_buf_addz(&b, "\"guided_json\":{\"description\":\"");
    for (uint64_t i = 0; i < l.schema_bytes; i++) srn_buf_addc(&b, 'x');
    srn_buf_addz(&b, "\"}");
    refuse(true, b.data, SRN_ELIMIT, "guided_json");
    srn_buf_done(&b);
}

static void tools_and_their_choice_are_read(void **state) {
    (void)state;
    parsed p = accept(true, "\"tools\":[" TOOL("a") "," TOOL("b") "]");
    const srn_reply_opts *o = &p.r.spec.reply;
    assert_true(o->parse_tools && o->parallel_calls && o->choice == SRN_TOOLS_AUTO);
    assert_int_equal(json_array_size(o->tools), 2);
    parsed_done(&p);
    p = accept(true, "\"tools\":[" TOOL("a") "],\"tool_choice\":\"none\"");
    assert_true(!p.r.spec.reply.tools && !p.r.spec.tools && !p.r.spec.reply.parse_tools);
    parsed_done(&p);
    p = accept(true, "\"tools\":[" TOOL("a") "," TOOL("b") "],\"tool_choice\":" TOOL(
                         "b") ",\"parallel_tool_calls\":false");
    assert_true(p.r.spec.reply.choice == SRN_TOOLS_NAMED && !p.r.spec.reply.parallel_calls);
    assert_string_equal(p.r.spec.reply.tool_name, "b");
    parsed_done(&p);
    p = accept(true, "\"tools\":[" TOOL("a") "," TOOL(
                         "b") "],\"tool_choice\":{\"type\":\"allowed_tools\","
                              "\"allowed_tools\":{\"mode\":\"required\",\"tools\":[" TOOL("b") "]}}");
    assert_int_equal(p.r.spec.reply.choice, SRN_TOOLS_REQUIRED);
    assert_int_equal(json_array_size(p.r.spec.reply.tools), 1);
    assert_int_equal(json_array_size(p.r.spec.tools), 2);
    parsed_done(&p);
    refuse(true,
           "\"tools\":[" TOOL("a") "],\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":"
                                   "{\"mode\":\"required\",\"tools\":[]}}",
           SRN_EINVAL, "tool_choice");
}

static void constraints_come_from_one_field_only(void **state) {
    (void)state;
    parsed p = accept(
        true, "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"strict\":"
              "true,\"schema\":{\"type\":\"object\"}}}");
    assert_non_null(p.r.spec.schema);
    assert_string_equal(p.r.spec.constraint_param, "response_format");
    parsed_done(&p);
    p = accept(true, "\"response_format\":{\"type\":\"json_object\"}");
    assert_true(p.r.spec.json_object);
    parsed_done(&p);
    p = accept(true, "\"guided_json\":\"{\\\"type\\\":\\\"string\\\"}\"");
    assert_true(json_is_object(p.r.spec.schema));
    parsed_done(&p);
    p = accept(false, "\"guided_choice\":[\"a\\\"b\",\"c\\\\\\n\"]");
    assert_true(srn_str_eqz(p.r.spec.gbnf, "root ::= \"a\\\"b\" | \"c\\\\\\x0a\""));
    parsed_done(&p);
    p = accept(true, "\"structured_outputs\":{\"regex\":\"a+\",\"json\":null}");
    assert_true(srn_str_eqz(p.r.spec.regex, "a+"));
    parsed_done(&p);
    refuse(true, "\"guided_regex\":\"a\",\"grammar\":\"root ::= \\\"a\\\"\"", SRN_EINVAL, "guided_regex");
    refuse(true, "\"response_format\":{\"type\":\"json_object\"},\"guided_json\":{}", SRN_EINVAL,
           "guided_json");
}

static void prompts_come_in_every_form(void **state) {
    (void)state;
    parsed p = parse(false, "{\"prompt\":[\"a\",\"b\"]}");
    assert_int_equal(p.r.n_prompts, 2);
    assert_true(srn_str_eqz(p.r.prompts[1].text, "b"));
    parsed_done(&p);
    p = parse(false, "{\"prompt\":[1,2,3]}");
    assert_int_equal(p.r.n_prompts, 1);
    assert_int_equal(p.r.prompts[0].n_tokens, 3);
    parsed_done(&p);
    p = parse(false, "{\"prompt\":[[1],[2,3]],\"max_tokens\":0,\"echo\":true,\"logprobs\":0}");
    assert_int_equal(p.r.n_prompts, 2);
    assert_int_equal(p.r.prompts[1].tokens[1], 3);
    assert_true(p.r.no_output && p.r.echo && p.r.logprobs && p.r.spec.prompt_logprobs);
    assert_int_equal(p.r.spec.max_tokens, 1);
    parsed_done(&p);
}

static void seeds_are_random_where_none_is_given(void **state) {
    (void)state;
    parsed a = accept(true, ""), b = accept(true, "\"seed\":-1"), c = accept(true, "\"seed\":-5");
    assert_true(a.r.spec.sampling.seed != b.r.spec.sampling.seed);
    assert_true(a.r.spec.sampling.seed < (uint64_t)1 << 53);
    assert_true(c.r.spec.sampling.seed == (uint64_t)-5);
    parsed_done(&a);
    parsed_done(&b);
    parsed_done(&c);
}

static void ids_beyond_the_vocabulary_are_refused(void **state) {
    (void)state;
    image g;
    loaded l;
    srn_err err = {0};
    bpe_image(&g);
    assert_int_equal(load_image(&g, &l, &err), SRN_OK);
    srn__served v = {.name = "m", .vocab = l.v};
    static const char *const bad[][2] = {{"\"logit_bias\":{\"14\":1}", "logit_bias"},
                                         {"\"stop_token_ids\":[14]", "stop_token_ids"}};
    for (size_t i = 0; i < SRN_LEN(bad); i++) {
        parsed p = accept(true, bad[i][0]);
        assert_int_equal(srn__openai_bind(&p.r, &v, &p.param, &p.err), SRN_EINVAL);
        assert_string_equal(p.param, bad[i][1]);
        parsed_done(&p);
    }
    parsed p =
        accept(true, "\"logit_bias\":{\"13\":1},\"dry_multiplier\":1,\"dry_sequence_breakers\":[\"b\"]");
    assert_int_equal(srn__openai_bind(&p.r, &v, &p.param, &p.err), SRN_OK);
    assert_int_equal(p.r.spec.sampling.n_dry_breakers, 3); /* b, ab, abc */
    parsed_done(&p);
    p = parse(false, "{\"prompt\":[14]}");
    assert_int_equal(srn__openai_bind(&p.r, &v, &p.param, &p.err), SRN_EINVAL);
    parsed_done(&p);
    loaded_done(&l);
}

/* ---- writing ---- */

static void expect_written(srn_str s, const char *want) {
    srn_buf b;
    srn_buf_init(&b, 4096);
    srn__put_string(&b, s);
    assert_string_equal(b.data, want);
    srn_buf_done(&b);
}

static void strings_are_written_as_json(void **state) {
    (void)state;
    expect_written(SRN_STR("a\"b\\c\n\t\x01"), "\"a\\\"b\\\\c\\n\\u0009\\u0001\"");
    expect_written(SRN_STR("\xC3\xA9 \xF0\x9F\x98\x80"), "\"\xC3\xA9 \xF0\x9F\x98\x80\"");
    expect_written(SRN_STR("\xC3(\xFF"), "\"\xEF\xBF\xBD(\xEF\xBF\xBD\"");
    expect_written(SRN_STR(""), "\"\"");
}

static void log_probabilities_are_written(void **state) {
    (void)state;
    image g;
    loaded l;
    srn_err err = {0};
    srn_buf b;
    bpe_image(&g);
    assert_int_equal(load_image(&g, &l, &err), SRN_OK);
    srn_buf_init(&b, 4096);
    const srn_out_token t[] = {{.id = 4, .logprob = -0.5f}, {.id = 3, .logprob = -INFINITY}};
    const srn_top_token tops[] = {{4, -0.5f}, {0, -1}, {3, -0.25f}, {1, -2}};
    srn__put_chat_logprobs(&b, l.v, t, tops, 2, 2, 1);
    assert_string_equal(
        b.data, "{\"token\":\"ab\",\"logprob\":-0.5,\"bytes\":[97,98],\"top_logprobs\":[{\"token\":"
                "\"ab\",\"logprob\":-0.5,\"bytes\":[97,98]}]},{\"token\":\" \",\"logprob\":-9999.0,"
                "\"bytes\":[32],\"top_logprobs\":[{\"token\":\" \",\"logprob\":-0.25,\"bytes\":[32]}]}");
    srn_buf_clear(&b);
    srn__lists lists;
    srn__lists_init(&lists);
    srn__lists_add(&lists, l.v, 4, NULL, NULL, 0);
    srn__lists_add(&lists, l.v, 3, &t[0].logprob, tops, 2);
    srn__lists_put(&b, &lists);
    srn__lists_add(&lists, l.v, 0, &t[0].logprob, tops, 0);
    srn__lists_put(&b, &lists);
    assert_string_equal(
        b.data, "{\"tokens\":[\"ab\",\" \"],\"token_logprobs\":[null,-0.5],\"top_logprobs\":[null,{"
                "\"ab\":-0.5,\"a\":-1}],\"text_offset\":[0,2]}{\"tokens\":[\"a\"],\"token_logprobs\":["
                "-0.5],\"top_logprobs\":[{}],\"text_offset\":[3]}");
    srn__lists_done(&lists);
    srn_buf_clear(&b);
    const int32_t ids[] = {0, 4};
    const float logprobs[] = {0, -0.5f};
    srn__put_prompt_logprobs(&b, l.v, ids, logprobs, tops, 2, 2, 1);
    assert_string_equal(
        b.data, "[null,{\"3\":{\"logprob\":-0.25,\"rank\":1,\"decoded_token\":\" \"},\"4\":{\"logprob\":"
                "-0.5,\"rank\":null,\"decoded_token\":\"ab\"}}]");
    srn_buf_done(&b);
    loaded_done(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_chat_has_the_defaults_of_the_api),
        cmocka_unit_test(minus_one_is_no_limit),
        cmocka_unit_test(fields_reach_the_spec),
        cmocka_unit_test(null_counts_as_absent),
        cmocka_unit_test(wrong_types_and_ranges_are_refused_by_name),
        cmocka_unit_test(what_would_change_the_answer_is_refused_by_name),
        cmocka_unit_test(caps_are_checked),
        cmocka_unit_test(tools_and_their_choice_are_read),
        cmocka_unit_test(constraints_come_from_one_field_only),
        cmocka_unit_test(prompts_come_in_every_form),
        cmocka_unit_test(seeds_are_random_where_none_is_given),
        cmocka_unit_test(ids_beyond_the_vocabulary_are_refused),
        cmocka_unit_test(strings_are_written_as_json),
        cmocka_unit_test(log_probabilities_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
