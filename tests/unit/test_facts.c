/* What a file's tables are known by: the tokenizer's id follows all that decides tokens and nothing else, the
 * chat template's is that of its text, and the quantisation is stated from the tensors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gguf_image.h"

typedef struct ids {
    char tokenizer[65], template[65], quantisation[SRN_QUANTISATION_CHARS];
} ids;

static ids ids_of(const image *g) {
    srn_weights *w = NULL;
    void *bytes = NULL;
    srn_err err = {0};
    ids d;
    if (image_parse(g, &bytes, &w, &err)) fail_msg("%s", err.text);
    assert_int_equal(srn_tokenizer_id(w, d.tokenizer, &err), SRN_OK);
    assert_int_equal(srn_chat_template_id(w, d.template, &err), SRN_OK);
    srn_weights_quantisation(w, d.quantisation);
    srn_weights_free(w);
    free(bytes);
    return d;
}

/* A vocabulary of two texts, of which the second one and its score can differ. */
static image vocabulary(const char *second, float score) {
    image g;
    uint32_t bits;
    image_init(&g);
    key_str(&g, "general.architecture", "llama");
    key_str(&g, "tokenizer.ggml.model", "llama");
    key_array(&g, "tokenizer.ggml.tokens", SRN_META_STR, 2);
    put_str(&g.keys, SRN_STR("a"));
    put_str(&g.keys, srn_str_of(second));
    key_array(&g, "tokenizer.ggml.scores", SRN_META_F32, 2);
    memcpy(&bits, &score, sizeof bits);
    put_le(&g.keys, 0, 4);
    put_le(&g.keys, bits, 4);
    return g;
}

static ids ids_and_done(image g) {
    ids d = ids_of(&g);
    image_done(&g);
    return d;
}

static void the_tokenizer_id_follows_what_decides_tokens(void **state) {
    (void)state;
    ids base = ids_and_done(vocabulary("b", -1)), text = ids_and_done(vocabulary("c", -1)),
        score = ids_and_done(vocabulary("b", -1.5f));
    assert_string_not_equal(base.tokenizer, text.tokenizer);
    assert_string_not_equal(base.tokenizer, score.tokenizer);
    image g = vocabulary("b", -1);
    key_u32(&g, "tokenizer.ggml.bos_token_id", 1);
    assert_string_not_equal(base.tokenizer, ids_and_done(g).tokenizer);
}

static void the_tokenizer_id_follows_nothing_else(void **state) {
    (void)state;
    ids base = ids_and_done(vocabulary("b", -1));
    image g = vocabulary("b", -1);
    key_str(&g, "general.name", "another");
    key_str(&g, "tokenizer.chat_template", "{{ x }}");
    tensor(&g, "t", SRN_F32, 32, 2, 7);
    assert_string_equal(base.tokenizer, ids_and_done(g).tokenizer);
}

static void integers_count_by_value_and_keys_in_any_order(void **state) {
    (void)state;
    image a = vocabulary("b", 0), b = vocabulary("b", 0);
    key_int(&a, "tokenizer.ggml.bos_token_id", SRN_META_U32, 1);
    key_int(&a, "tokenizer.ggml.eos_token_id", SRN_META_U32, 0);
    key_int(&b, "tokenizer.ggml.eos_token_id", SRN_META_U64, 0);
    key_int(&b, "tokenizer.ggml.bos_token_id", SRN_META_I16, 1);
    ids x = ids_and_done(a), y = ids_and_done(b);
    assert_string_equal(x.tokenizer, y.tokenizer);
}

static void a_lone_templates_id_is_the_sha256_of_its_text(void **state) {
    (void)state;
    image g = vocabulary("b", 0);
    assert_string_equal(ids_of(&g).template, "");
    key_str(&g, "tokenizer.chat_template", "abc");
    ids one = ids_of(&g);
    assert_string_equal(one.template, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    key_str(&g, "tokenizer.chat_template.tool_use", "abc");
    assert_string_not_equal(ids_and_done(g).template, one.template);
}

static void a_file_without_a_tokenizer_has_no_id_of_one(void **state) {
    (void)state;
    image g;
    image_init(&g);
    key_str(&g, "general.architecture", "llama");
    tensor(&g, "t", SRN_F32, 32, 1, 0);
    assert_string_equal(ids_and_done(g).tokenizer, "");
}

static void the_quantisation_is_stated_from_the_tensors(void **state) {
    (void)state;
    image g;
    image_init(&g);
    key_str(&g, "general.architecture", "llama");
    assert_string_equal(ids_of(&g).quantisation, "");
    tensor(&g, "a", SRN_F16, 32, 3, 0);
    tensor(&g, "b", SRN_Q8_0, 32, 9, 0);
    assert_string_equal(ids_and_done(g).quantisation, "Q8_0 (75 %), F16 (25 %)");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tokenizer_id_follows_what_decides_tokens),
        cmocka_unit_test(the_tokenizer_id_follows_nothing_else),
        cmocka_unit_test(integers_count_by_value_and_keys_in_any_order),
        cmocka_unit_test(a_lone_templates_id_is_the_sha256_of_its_text),
        cmocka_unit_test(a_file_without_a_tokenizer_has_no_id_of_one),
        cmocka_unit_test(the_quantisation_is_stated_from_the_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
