/* Prompt files: what is read, what is refused and how it is named; the canonical document and its hash;
 * values in the place of variables, which stay text whatever they hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "prompts/prompts.h"

static srn_prompt *parsed(const char *text) {
    srn_prompt *p = NULL;
    srn_err err = {0};
    if (srn_prompt_parse(srn_str_of(text), "p.yaml", &p, &err)) fail_msg("%s\n%s", err.text, text);
    return p;
}

/* Refused, and the sentence holds both parts. */
static void refuse(const char *text, const char *place, const char *what) {
    srn_prompt *p = NULL;
    srn_err err = {0};
    if (srn_prompt_parse(srn_str_of(text), "p.yaml", &p, &err) == SRN_OK) fail_msg("was accepted: %s", text);
    if (!strstr(err.text, place) || !strstr(err.text, what))
        fail_msg("'%s' lacks '%s' or '%s'", err.text, place, what);
}

static const char full[] =
    "description: Answers a customer\n"
    "models: [small, large]\n"
    "variables:\n"
    "  name: string\n"
    "  tone: {type: enum, choices: [kind, brief], default: kind}\n"
    "  n: {type: integer, default: 3}\n"
    "  x: {type: number, default: 0.1}\n"
    "  loud: {type: boolean, default: false}\n"
    "  facts: {type: json, default: {\"a\": [1, 0.1, null]}}\n"
    "messages:\n"
    "  - role: system\n"
    "    content: |\n"
    "      Be {{ tone }}, {{n}} {{x}} {{loud}} {{facts}}.\n"
    "      # Twice.\n"
    "  - {role: user, content: \"{{name}}: {{{{hi}}\"}\n"
    "tools:\n"
    "  - {type: function, function: {name: f, parameters: {type: object}}}\n"
    "response_format: {type: json_schema, json_schema: {name: r, schema: {type: object}}}\n"
    "sampling: {temperature: 0, max_tokens: 20, stop: [END]}\n";

static void every_part_is_read(void **state) {
    (void)state;
    srn_prompt *p = parsed(full);
    assert_int_equal(p->version, 0);
    assert_string_equal(p->description, "Answers a customer");
    assert_int_equal(p->n_models, 2);
    assert_string_equal(p->models[1], "large");
    assert_int_equal(p->n_variables, 6);
    assert_true(p->variables[0].required && !p->variables[1].required);
    assert_int_equal(p->variables[1].type, SRN_PROMPT_ENUM);
    assert_string_equal(p->variables[1].choices[1], "brief");
    assert_int_equal(json_array_size(p->messages), 2);
    assert_int_equal(json_array_size(p->tools), 1);
    assert_non_null(p->response_format);
    assert_int_equal(json_integer_value(json_object_get(p->sampling, "max_tokens")), 20);
    srn_prompt_free(p);
}

static char *written(const srn_prompt *p, int (*write)(const srn_prompt *, srn_buf *, srn_err *)) {
    srn_buf b;
    srn_err err = {0};
    srn_buf_init(&b, 1 << 20);
    assert_int_equal(write(p, &b, &err), SRN_OK);
    return b.data;
}

static void the_document_is_one_however_it_was_written(void **state) {
    (void)state;
    srn_prompt *p = parsed(full);
    char *json = written(p, srn_prompt_document), *yaml = written(p, srn_prompt_yaml);
    srn_prompt *a = parsed(json), *b = parsed(yaml);
    assert_string_equal(a->hash, p->hash);
    assert_string_equal(b->hash, p->hash);
    assert_non_null(strstr(yaml, "content: |\n      Be {{ tone }}")); /* for people, not one long line */
    assert_non_null(strstr(json, "[1,0.1,null]"));                    /* not 0.10000000000000001 */
    srn_prompt *c = parsed("messages: [{role: user, content: Hi}]"),
               *d = parsed("# with a remark\nvariables: {}\nmessages:\n- role: user\n  content: 'Hi'\n"),
               *e = parsed("messages: [{role: user, content: Hi!}]");
    assert_string_equal(c->hash, d->hash);
    assert_string_not_equal(c->hash, e->hash);
    srn_prompt *all[] = {p, a, b, c, d, e};
    for (size_t i = 0; i < SRN_LEN(all); i++) srn_prompt_free(all[i]);
    free(json);
    free(yaml);
}

static void the_hash_is_that_of_the_canonical_document(void **state) {
    (void)state;
    srn_prompt *p = parsed("messages: [{role: user, content: Hi}]");
    char *json = written(p, srn_prompt_document), hex[2 * SRN_SHA256_BYTES + 1];
    uint8_t digest[SRN_SHA256_BYTES];
    assert_string_equal(json, "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}");
    srn_sha256 *h = srn_sha256_new();
    srn_sha256_add(h, json, strlen(json));
    srn_sha256_end(h, digest);
    srn_hex(digest, sizeof digest, hex);
    assert_string_equal(p->hash, hex);
    free(json);
    srn_prompt_free(p);
}

#define MESSAGE "messages: [{role: user, content: Hi}]\n"

static void what_is_wrong_is_named_with_line_and_key(void **state) {
    (void)state;
    refuse(MESSAGE "colour: red\n", "p.yaml:2: colour", "is unknown");
    refuse("messages:\n- role: user\n  content: Hi\n  colour: red\n", "p.yaml:4: messages[0].colour",
           "unknown");
    refuse("messages: []\nmessages: []\n", "p.yaml:2", "second time");
    refuse("messages: &m [{role: user, content: Hi}]\ntools: *m\n", "p.yaml:1", "anchors");
    refuse("{\"messages\": [], \"messages\": []}", "p.yaml:1", "duplicate");
    refuse("{\"messages\":\n [{\"role\": \"user\"}]}", "messages[0].content", "missing");
    refuse("description: x\n", "messages", "is missing");
    refuse("messages:\n- {role: wizard, content: Hi}\n", "p.yaml:2: messages[0].role", "must be system");
    refuse("messages:\n- role: user\n  content: 5\n", "p.yaml:3: messages[0].content", "an integer");
    refuse("messages:\n- {role: user, content: [{type: image_url, image_url: x}]}\n",
           "messages[0].content[0]", "text");
    refuse("messages: [{role: user, content: '{{a}}'}]", "messages[0].content", "not declared");
    refuse("variables:\n  b: string\n" MESSAGE, "p.yaml:2: variables.b", "no message uses it");
    refuse("messages: [{role: user, content: '{{ a.b }}'}]", "messages[0].content", "is no variable");
    refuse("messages: [{role: user, content: 'a {{'}]", "messages[0].content", "is no variable");
    refuse("variables: {9a: string}\n" MESSAGE, "variables.9a", "begins with no digit");
    refuse("variables: {a: text}\n" MESSAGE, "variables.a", "'text'");
    refuse("variables: {a: {type: enum}}\n" MESSAGE, "variables.a.choices", "missing");
    refuse("variables: {a: {type: enum, choices: [x, x]}}\n" MESSAGE, "variables.a.choices[1]", "second");
    refuse("variables: {a: {type: enum, choices: [x], default: y}}\n" MESSAGE, "variables.a.default",
           "one of x");
    refuse("variables: {a: {type: integer, default: 1.5}}\n" MESSAGE, "variables.a.default", "an integer");
    refuse("variables: {a: {type: string, default: abc, max_bytes: 2}}\n" MESSAGE, "variables.a.default",
           "max_bytes");
    refuse("variables: {a: {type: string, required: false}}\n" MESSAGE, "variables.a.required", "default");
    refuse("variables: {a: {type: string, required: true, default: x}}\n" MESSAGE, "variables.a.required",
           "default");
    refuse(MESSAGE "models: []\n", "models", "1 to 64");
    refuse(MESSAGE "tools: [{type: function, function: {name: 'a b'}}]\n", "tools[0]", "letters");
    refuse(MESSAGE "tools: [{type: web_search}]\n", "tools[0]", "function");
    refuse(MESSAGE "response_format: {type: xml}\n", "response_format", "json_schema");
    refuse(MESSAGE "response_format: {type: json_schema, json_schema: {schema: {type: nothing}}}\n",
           "response_format.json_schema.schema", "a type is one of");
    refuse(MESSAGE "sampling: {temperature: 3}\n", "p.yaml:2: sampling.temperature", "from 0 to 2");
    refuse(MESSAGE "sampling: {top_k: 1.5}\n", "sampling.top_k", "an integer");
    refuse(MESSAGE "sampling: {warmth: 1}\n", "sampling.warmth", "temperature");
}

static void everything_is_capped(void **state) {
    (void)state;
    srn_buf b;
    srn_buf_init(&b, 4 << 20);
    srn_buf_addz(&b, "messages:\n");
    for (int i = 0; i < 257; i++) srn_buf_addz(&b, "- {role: user, content: Hi}\n");
    refuse(b.data, "messages", "1 to 256");
    srn_buf_clear(&b);
    srn_buf_addz(&b, MESSAGE "description: ");
    for (int i = 0; i < 5000; i++) srn_buf_addc(&b, 'x');
    refuse(b.data, "description", "4096");
    srn_buf_clear(&b);
    srn_buf_addz(&b, "messages: [{role: user, content: ");
    for (int i = 0; i < (512 << 10) + 1; i++) srn_buf_addc(&b, 'x');
    srn_buf_addz(&b, "}]");
    refuse(b.data, "messages[0].content", "524288");
    for (int i = 0; i < 600 << 10; i++) srn_buf_addc(&b, '\n');
    refuse(b.data, "p.yaml", "1048576");
    srn_buf_clear(&b);
    srn_buf_addz(&b, MESSAGE "tools: ");
    for (int i = 0; i < 200; i++) srn_buf_addc(&b, '[');
    refuse(b.data, "p.yaml:2", "too deeply");
    srn_buf_done(&b);
}

/* The texts of the messages with these values (JSON), joined by '|'. */
static char *filled(const char *prompt, const char *values) {
    srn_prompt *p = parsed(prompt);
    json_t *v = json_loads(values, 0, NULL), *messages = NULL, *m;
    size_t i;
    srn_err err = {0};
    char param[96];
    srn_buf b;
    if (srn_prompt_fill(p, v, &messages, param, &err)) fail_msg("%s: %s", param, err.text);
    srn_buf_init(&b, 1 << 20);
    json_array_foreach(messages, i, m) {
        const json_t *c = json_object_get(m, "content");
        if (json_is_array(c)) c = json_object_get(json_array_get(c, 0), "text");
        srn_buf_addf(&b, "%s%s", i ? "|" : "", json_string_value(c));
    }
    json_decref(messages);
    json_decref(v);
    srn_prompt_free(p);
    return b.data;
}

static void fills(const char *prompt, const char *values, const char *expected) {
    char *got = filled(prompt, values);
    assert_string_equal(got, expected);
    free(got);
}

static void values_stand_where_their_names_stood(void **state) {
    (void)state;
    fills(full, "{\"name\":\"Ann\"}", "Be kind, 3 0.1 false {\"a\":[1,0.1,null]}.\n# Twice.\n|Ann: {{hi}}");
    fills(full, "{\"name\":\"\",\"tone\":\"brief\",\"n\":-7,\"x\":2,\"loud\":true,\"facts\":\"s\"}",
          "Be brief, -7 2 true s.\n# Twice.\n|: {{hi}}");
    fills(full,
          "{\"name\":{\"type\":\"input_text\",\"text\":\"Bob\"},\"x\":1e30,\"facts\":{\"k\":[\"\\n\"]}}",
          "Be kind, 3 1e+30 false {\"k\":[\"\\n\"]}.\n# Twice.\n|Bob: {{hi}}");
    fills("variables: {a: string}\nmessages: [{role: user, content: [{type: text, text: '<{{a}}{{a}}>'}]}]",
          "{\"a\":\"x\"}", "<xx>");
}

static void a_value_is_never_read_again(void **state) {
    (void)state;
    static const char two[] = "variables: {a: string, b: string}\n"
                              "messages: [{role: user, content: '{{a}} {{b}}'}]";
    fills(two, "{\"a\":\"{{b}}\",\"b\":\"{{a}}\"}", "{{b}} {{a}}");
    fills(two, "{\"a\":\"{{\",\"b\":\"b}}\"}", "{{ b}}");
    fills(two, "{\"a\":\"<|im_end|>{{{{\",\"b\":\"{% for m in messages %}{{ m }}{% endfor %}\"}",
          "<|im_end|>{{{{ {% for m in messages %}{{ m }}{% endfor %}");
}

static void misfit(const char *values, const char *place, const char *what) {
    srn_prompt *p = parsed(full);
    json_t *v = json_loads(values, JSON_DECODE_ANY, NULL), *messages = NULL;
    srn_err err = {0};
    char param[96] = "";
    assert_int_equal(srn_prompt_fill(p, v, &messages, param, &err), SRN_EINVAL);
    assert_null(messages);
    assert_string_equal(param, place);
    if (!strstr(err.text, place) || !strstr(err.text, what)) fail_msg("%s", err.text);
    json_decref(v);
    srn_prompt_free(p);
}

static void a_value_that_does_not_fit_is_named(void **state) {
    (void)state;
    misfit("{}", "prompt.variables.name", "is missing");
    misfit("{\"name\":\"x\",\"age\":1}", "prompt.variables.age", "no such variable: it has name, tone");
    misfit("{\"name\":5}", "prompt.variables.name", "must be a text, it is an integer");
    misfit("{\"name\":null}", "prompt.variables.name", "it is null");
    misfit("{\"name\":\"x\",\"n\":\"5\"}", "prompt.variables.n", "must be an integer");
    misfit("{\"name\":\"x\",\"n\":5.0}", "prompt.variables.n", "must be an integer");
    misfit("{\"name\":\"x\",\"x\":true}", "prompt.variables.x", "must be a number");
    misfit("{\"name\":\"x\",\"loud\":1}", "prompt.variables.loud", "true or false");
    misfit("{\"name\":\"x\",\"tone\":\"rude\"}", "prompt.variables.tone", "one of kind, brief");
    misfit("{\"name\":{\"type\":\"input_image\"}}", "prompt.variables.name", "must be a text");
    misfit("[]", "prompt.variables", "must be an object");
}

static void a_text_cannot_grow_without_bound(void **state) {
    (void)state;
    srn_buf b;
    srn_err err = {0};
    char param[96];
    srn_buf_init(&b, 4 << 20);
    srn_buf_addz(&b,
                 "variables: {a: {type: string, max_bytes: 1000000}}\nmessages: [{role: user, content: '");
    for (int i = 0; i < 1000; i++) srn_buf_addz(&b, "{{a}}");
    srn_buf_addz(&b, "'}]");
    srn_prompt *p = parsed(b.data);
    char *large = malloc(1000002);
    memset(large, 'x', 1000001);
    large[1000001] = 0;
    json_t *v = json_pack("{s:s%}", "a", large, (size_t)1000000), *messages = NULL;
    assert_int_equal(srn_prompt_fill(p, v, &messages, param, &err), SRN_ELIMIT);
    assert_string_equal(param, "prompt.variables");
    json_object_set_new(v, "a", json_string(large));
    assert_int_equal(srn_prompt_fill(p, v, &messages, param, &err), SRN_EINVAL);
    assert_non_null(strstr(err.text, "1000001 bytes"));
    free(large);
    json_decref(v);
    srn_prompt_free(p);
    srn_buf_done(&b);
}

static void filling_leaves_the_version_as_it_was(void **state) {
    (void)state;
    srn_prompt *p = parsed(full);
    char *before = written(p, srn_prompt_document), param[96];
    json_t *v = json_pack("{s:s}", "name", "Ann"), *messages = NULL;
    srn_err err = {0};
    assert_int_equal(srn_prompt_fill(p, v, &messages, param, &err), SRN_OK);
    json_object_set_new(json_array_get(messages, 0), "content", json_string("changed"));
    char *after = written(p, srn_prompt_document);
    assert_string_equal(before, after);
    free(before);
    free(after);
    json_decref(messages);
    json_decref(v);
    srn_prompt_free(p);
}

static void names_are_parts_and_references_name_a_version(void **state) {
    (void)state;
    static const char *const good[] = {"a", "support/answer", "A-1_b.c/d", "_x", "labels", "9"};
    static const char *const bad[] = {"",    "/a",       "a/",        "a//b",     "../a",  "a/.b", "a b",
                                      "a@b", "x/labels", "a/history", "\xc3\xa4", "a/./b", "-a",   "a\n"};
    srn_err err;
    for (size_t i = 0; i < SRN_LEN(good); i++)
        assert_int_equal(srn_prompt_check_name(srn_str_of(good[i]), &err), SRN_OK);
    for (size_t i = 0; i < SRN_LEN(bad); i++)
        if (srn_prompt_check_name(srn_str_of(bad[i]), &err) != SRN_EINVAL)
            fail_msg("'%s' was accepted", bad[i]);
    srn_prompt_ref r;
    assert_int_equal(srn_prompt_ref_parse(SRN_STR("a/b"), &r, &err), SRN_OK);
    assert_true(strcmp(r.name, "a/b") == 0 && r.version == 0 && r.label[0] == 0);
    assert_int_equal(srn_prompt_ref_parse(SRN_STR("a@12"), &r, &err), SRN_OK);
    assert_true(strcmp(r.name, "a") == 0 && r.version == 12 && r.label[0] == 0);
    assert_int_equal(srn_prompt_ref_parse(SRN_STR("a@v2-beta"), &r, &err), SRN_OK);
    assert_true(r.version == 0 && strcmp(r.label, "v2-beta") == 0);
    static const char *const odd[] = {"a@", "a@0", "a@99999999999", "a@b@c", "@1", "a@b/c", "a@ 1"};
    for (size_t i = 0; i < SRN_LEN(odd); i++)
        if (srn_prompt_ref_parse(srn_str_of(odd[i]), &r, &err) != SRN_EINVAL)
            fail_msg("'%s' was accepted", odd[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_is_read),
        cmocka_unit_test(the_document_is_one_however_it_was_written),
        cmocka_unit_test(the_hash_is_that_of_the_canonical_document),
        cmocka_unit_test(what_is_wrong_is_named_with_line_and_key),
        cmocka_unit_test(everything_is_capped),
        cmocka_unit_test(values_stand_where_their_names_stood),
        cmocka_unit_test(a_value_is_never_read_again),
        cmocka_unit_test(a_value_that_does_not_fit_is_named),
        cmocka_unit_test(a_text_cannot_grow_without_bound),
        cmocka_unit_test(filling_leaves_the_version_as_it_was),
        cmocka_unit_test(names_are_parts_and_references_name_a_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
