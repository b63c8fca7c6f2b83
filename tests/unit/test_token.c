/* token: what a file may ask for and what it may not, what ends an answer, and the stream of characters. How
 * texts become ids is compared with other tokenizers in tests/cli/test_tokens_*.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "token/token_internal.h"
#include "unit/vocab_image.h"

static loaded load_ok(image *g) {
    loaded l;
    srn_err err = {0};
    if (load_image(g, &l, &err)) fail_msg("%s", err.text);
    return l;
}

static void refused(image *g, int code, const char *words) {
    loaded l;
    srn_err err = {0};
    int got = load_image(g, &l, &err);
    assert_null(l.v);
    loaded_done(&l);
    if (got != code) fail_msg("%s, not %s: %s", srn_err_name(got), srn_err_name(code), err.text);
    if (!strstr(err.text, words)) fail_msg("no '%s' in: %s", words, err.text);
    assert_non_null(strstr(err.text, "test.gguf: "));
}

static srn_tokens tokenize(const srn_vocab *v, const char *text, bool trusted, unsigned flags) {
    srn_tokens t = {0};
    srn_err err = {0};
    srn_span span = {srn_str_of(text), trusted};
    if (srn_tokenize(v, &span, 1, flags, &t, &err)) fail_msg("%s", err.text);
    return t;
}

static void expect(const srn_vocab *v, const char *text, bool trusted, const int32_t *ids, size_t n) {
    srn_tokens t = tokenize(v, text, trusted, SRN_TOK_NO_BOS);
    assert_int_equal(t.n, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(t.ids[i], ids[i]);
    srn_tokens_done(&t);
}
#define IDS(...) (const int32_t[]){__VA_ARGS__}, sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)

/* ---- what files hold ---- */

static void a_file_without_a_vocabulary_is_refused(void **state) {
    (void)state;
    image g;
    image_init(&g);
    key_str(&g, "general.name", "x");
    refused(&g, SRN_EFORMAT, "tokenizer.ggml.model is missing");
    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "gpt2");
    refused(&g, SRN_EFORMAT, "tokenizer.ggml.tokens is missing");
    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "gpt2");
    key_array(&g, "tokenizer.ggml.tokens", SRN_META_STR, 0);
    refused(&g, SRN_EFORMAT, "tokenizer.ggml.tokens is empty");
}

static void unknown_tokenizers_and_pre_tokenizers_are_refused_by_name(void **state) {
    (void)state;
    static const char *const models[] = {"t5", "rwkv", "plamo2", "none", "a\x1b[31m\n"};
    static const char *const shown[] = {"'t5'", "'rwkv'", "'plamo2'", "'none'", "'a?[31m?'"};
    for (size_t i = 0; i < SRN_LEN(models); i++) {
        image g;
        image_init(&g);
        key_str(&g, "tokenizer.ggml.model", models[i]);
        refused(&g, SRN_EUNSUP, shown[i]);
    }
    image g;
    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "gpt2");
    key_str(&g, "tokenizer.ggml.pre", "llama-bpe2");
    put_tokens(&g, bpe_rows, SRN_LEN(bpe_rows));
    refused(&g, SRN_EUNSUP, "the pre-tokenizer 'llama-bpe2' is unknown; known: default gpt-2 ");
}

static void lists_that_do_not_fit_the_tokens_are_refused(void **state) {
    (void)state;
    image g;
    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "llama");
    put_tokens(&g, spm_rows, SRN_LEN(spm_rows));
    image h = g;
    image_init(&g);
    image_done(&h);
    key_str(&g, "tokenizer.ggml.model", "llama");
    key_array(&g, "tokenizer.ggml.tokens", SRN_META_STR, 2);
    put_str(&g.keys, SRN_STR("a"));
    put_str(&g.keys, SRN_STR("b"));
    key_array(&g, "tokenizer.ggml.scores", SRN_META_F32, 1);
    put_le(&g.keys, 0, 4);
    refused(&g, SRN_EFORMAT, "tokenizer.ggml.scores has 1 entries for 2 tokens");

    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "llama");
    key_array(&g, "tokenizer.ggml.tokens", SRN_META_STR, 1);
    put_str(&g.keys, SRN_STR("a"));
    refused(&g, SRN_EFORMAT, "tokenizer.ggml.scores is missing");

    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "gpt2");
    key_array(&g, "tokenizer.ggml.tokens", SRN_META_STR, 1);
    put_str(&g.keys, SRN_STR("a"));
    key_array(&g, "tokenizer.ggml.token_type", SRN_META_STR, 1);
    put_str(&g.keys, SRN_STR("a"));
    refused(&g, SRN_EFORMAT, "tokenizer.ggml.token_type is not an array of integers");

    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "gpt2");
    put_tokens(&g, bpe_rows, SRN_LEN(bpe_rows));
    refused(&g, SRN_EFORMAT, "tokenizer.ggml.merges is missing");
}

static void special_ids_outside_the_vocabulary_are_refused(void **state) {
    (void)state;
    static const char *const keys[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.eot_token_id"};
    for (size_t i = 0; i < SRN_LEN(keys); i++) {
        image g;
        spm_image(&g);
        key_u32(&g, keys[i], (uint32_t)SRN_LEN(spm_rows));
        refused(&g, SRN_EFORMAT, "is 14, but the vocabulary has 14 tokens");
    }
    image g;
    spm_image(&g);
    key_u32(&g, "tokenizer.ggml.padding_token_id", UINT32_MAX); /* how some converters write "none" */
    loaded l = load_ok(&g);
    assert_int_equal(srn_vocab_pad(l.v), -1);
    loaded_done(&l);
}

static void a_score_that_is_not_a_number_is_refused_and_infinite_ones_order(void **state) {
    (void)state;
    image g;
    token_row rows[SRN_LEN(spm_rows)];
    memcpy(rows, spm_rows, sizeof rows);
    rows[9].score = NAN;
    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "llama");
    put_tokens(&g, rows, SRN_LEN(rows));
    refused(&g, SRN_EFORMAT, "the score of token 9 is not a number");

    rows[9].score = -INFINITY; /* "ab" */
    rows[10].score = 3e38f;    /* "ba" */
    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "llama");
    put_tokens(&g, rows, SRN_LEN(rows));
    key_int(&g, "tokenizer.ggml.add_space_prefix", SRN_META_BOOL, 0);
    loaded l = load_ok(&g);
    expect(l.v, "aba", false, IDS(6, 10));
    loaded_done(&l);
}

static void a_merge_that_is_not_two_parts_is_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {"ab", "a ", "", " ", " b"};
    for (size_t i = 0; i < SRN_LEN(wrong); i++) {
        image g;
        image_init(&g);
        key_str(&g, "tokenizer.ggml.model", "gpt2");
        put_tokens(&g, bpe_rows, SRN_LEN(bpe_rows));
        put_merges(&g, (const char *const[]){"a b", wrong[i]}, 2);
        refused(&g, SRN_EFORMAT, "tokenizer.ggml.merges: entry 1 is not two parts");
    }
}

static void special_tokens_too_long_to_match_quickly_are_refused(void **state) {
    (void)state;
    char text[1026];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    for (int type = SRN_TOKEN_CONTROL; type <= SRN_TOKEN_USER_DEFINED; type++) {
        image g;
        image_init(&g);
        key_str(&g, "tokenizer.ggml.model", "llama");
        put_tokens(&g, (token_row[]){{"<unk>", 2, 0}, {text, type, 0}}, 2);
        refused(&g, SRN_ELIMIT, "special token 1 has 1025 bytes, the limit is 1024");
    }
}

static void empty_and_equal_tokens_are_harmless(void **state) {
    (void)state;
    static const token_row rows[] = {{"<unk>", 2, 0}, {"", 1, 0},  {"", 3, 0},  {"", 4, 0},   {"a", 1, 0},
                                     {"a", 1, 5},     {"x", 4, 0}, {"x", 4, 0}, {"aa", 1, 1}, {"aa", 1, 9}};
    image g;
    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "llama");
    put_tokens(&g, rows, SRN_LEN(rows));
    key_int(&g, "tokenizer.ggml.add_space_prefix", SRN_META_BOOL, 0);
    loaded l = load_ok(&g);
    expect(l.v, "aaxa", true, IDS(8, 6, 4)); /* of equal texts the lowest id */
    assert_int_equal(srn_vocab_find(l.v, SRN_STR("aa")), 8);
    assert_int_equal(srn_vocab_find(l.v, SRN_STR("")), -1);
    loaded_done(&l);
}

/* A merge may name strings that are no tokens: they pass, but only tokens come out. */
static void merges_through_strings_that_are_no_tokens_reach_the_tokens_behind_them(void **state) {
    (void)state;
    static const token_row rows[] = {{"a", 1, 0}, {"b", 1, 0}, {"c", 1, 0}, {"abc", 1, 0}};
    image g;
    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "gpt2");
    key_str(&g, "tokenizer.ggml.pre", "gpt-2");
    put_tokens(&g, rows, SRN_LEN(rows));
    put_merges(&g, (const char *const[]){"a b", "ab c", "a b", "x y"}, 4);
    loaded l = load_ok(&g);
    expect(l.v, "abcab", false, IDS(3, 0, 1));
    loaded_done(&l);
}

/* ---- what ends an answer, and what a text may become ---- */

static void ends_are_found_by_id_and_by_name(void **state) {
    (void)state;
    image g;
    bpe_image(&g);
    key_u32(&g, "tokenizer.ggml.eot_token_id", 9);
    loaded l = load_ok(&g);
    static const bool want[] = {[7] = true, [9] = true, [10] = true, [13] = false};
    for (int32_t i = 0; i < (int32_t)SRN_LEN(want); i++) assert_int_equal(srn_vocab_is_eog(l.v, i), want[i]);
    assert_false(srn_vocab_is_eog(l.v, -1));
    assert_false(srn_vocab_is_eog(l.v, 1000));
    loaded_done(&l);
}

static void a_message_end_is_no_answer_end_where_return_and_call_are(void **state) {
    (void)state;
    static const token_row rows[] = {{"a", 1, 0},        {"<|end|>", 3, 0}, {"<|return|>", 3, 0},
                                     {"<|call|>", 3, 0}, {"</s>", 4, 0},    {"<eos>", 1, 0}};
    for (size_t n = 2; n <= SRN_LEN(rows); n += 4) {
        image g;
        image_init(&g);
        key_str(&g, "tokenizer.ggml.model", "gpt2");
        put_tokens(&g, rows, n);
        put_merges(&g, NULL, 0);
        loaded l = load_ok(&g);
        assert_int_equal(srn_vocab_is_eog(l.v, 1), n == 2);
        for (int32_t i = 2; i < (int32_t)n; i++)
            assert_int_equal(srn_vocab_is_eog(l.v, i), i < 4); /* </s>: HTML */
        loaded_done(&l);
    }
}

static void mislabelled_control_tokens_are_control_tokens(void **state) {
    (void)state;
    image g;
    bpe_image(&g);
    loaded l = load_ok(&g);
    assert_int_equal(srn_vocab_attr(l.v, 7), SRN_TOKEN_CONTROL); /* the file says normal */
    assert_int_equal(srn_vocab_attr(l.v, 9), SRN_TOKEN_CONTROL); /* the file says user-defined */
    assert_int_equal(srn_vocab_attr(l.v, 8), SRN_TOKEN_USER_DEFINED);
    expect(l.v, "<tool><|x|><|im_end|>", true, IDS(8, 9, 7));
    expect(l.v, "<tool>", false, IDS(8));
    srn_tokens t = tokenize(l.v, "abc<|x|>a<|im_end|>", false, SRN_TOK_NO_BOS);
    for (size_t i = 0; i < t.n; i++) assert_int_not_equal(srn_vocab_attr(l.v, t.ids[i]), SRN_TOKEN_CONTROL);
    srn_tokens_done(&t);
    loaded_done(&l);

    image_init(&g); /* an end that texts need stays ordinary, and ends answers all the same */
    key_str(&g, "tokenizer.ggml.model", "gpt2");
    put_tokens(&g, (token_row[]){{"a", 1, 0}, {"\xC4\x8A", 1, 0}}, 2);
    put_merges(&g, NULL, 0);
    key_u32(&g, "tokenizer.ggml.eos_token_id", 1);
    l = load_ok(&g);
    expect(l.v, "a\n", false, IDS(0, 1));
    assert_true(srn_vocab_is_eog(l.v, 1));
    loaded_done(&l);
}

/* ---- order and fallback of SentencePiece ---- */

static void the_higher_score_merges_first_and_the_leftmost_of_equals(void **state) {
    (void)state;
    image g;
    spm_image(&g);
    key_int(&g, "tokenizer.ggml.add_space_prefix", SRN_META_BOOL, 0);
    loaded l = load_ok(&g);
    expect(l.v, "aba", false, IDS(9, 6));
    expect(l.v, "bab", false, IDS(10, 7));
    expect(l.v, "a a", false, IDS(6, 11));
    expect(l.v, "\xE4\xB8\xAD", false, IDS(3, 4, 5));
    expect(l.v, "\xE4\xB8", false, IDS(3, 4));
    expect(l.v,
           "xyz"
           "a",
           false, IDS(0, 6)); /* one <unk> for a run */
    loaded_done(&l);
}

/* ---- Phi-3 ---- */

static void phi3_control_tokens_take_the_white_space_after_them(void **state) {
    (void)state;
    static const token_row rows[] = {{"<unk>", 2, 0}, {"<s>", 3, 0}, {"</s>", 3, 0}, {"<|user|>", 3, 0},
                                     {LOWLINE, 1, 0}, {"a", 1, 0},   {"\n", 1, 0}};
    for (int phi = 0; phi < 2; phi++) {
        image g;
        image_init(&g);
        key_str(&g, "general.architecture", phi ? "phi3" : "llama");
        key_str(&g, "tokenizer.ggml.model", "llama");
        put_tokens(&g, rows, SRN_LEN(rows));
        key_int(&g, "tokenizer.ggml.add_space_prefix", SRN_META_BOOL, 0);
        loaded l = load_ok(&g);
        if (phi)
            expect(l.v, "<|user|>\n a<s>\na", true, IDS(3, 5, 1, 6, 5));
        else
            expect(l.v, "<|user|>\n a<s>\na", true, IDS(3, 6, 4, 5, 1, 6, 5));
        loaded_done(&l);
    }
}

/* ---- the stream ---- */

static void the_stream_never_gives_half_a_character(void **state) {
    (void)state;
    static const token_row rows[] = {{"<unk>", 2, 0},  {"<s>", 3, 0},    {"<0xE4>", 6, 0}, {"<0xB8>", 6, 0},
                                     {"<0xAD>", 6, 0}, {"<0xF0>", 6, 0}, {"<0x9F>", 6, 0}, {"<0xC0>", 6, 0},
                                     {"a", 1, 0},      {"<0xED>", 6, 0}, {"<0xA0>", 6, 0}};
    static const struct {
        int32_t ids[6];
        size_t n;
        const char *after[7]; /* everything given out after each id, and after the end */
    } cases[] = {
        {{2, 3, 4}, 3, {"", "", "\xE4\xB8\xAD", "\xE4\xB8\xAD"}},
        {{2, 8},
         2,
         {"",
          "\xEF\xBF\xBD"
          "a",
          "\xEF\xBF\xBD"
          "a"}},
        {{5, 6}, 2, {"", "", "\xEF\xBF\xBD"}},
        {{7, 3, 8},
         3,
         {"\xEF\xBF\xBD", "\xEF\xBF\xBD\xEF\xBF\xBD",
          "\xEF\xBF\xBD\xEF\xBF\xBD"
          "a",
          "\xEF\xBF\xBD\xEF\xBF\xBD"
          "a"}},
        {{2, 2, 3, 4},
         4,
         {"", "\xEF\xBF\xBD", "\xEF\xBF\xBD", "\xEF\xBF\xBD\xE4\xB8\xAD", "\xEF\xBF\xBD\xE4\xB8\xAD"}},
        {{9, 10, 8},
         3,
         {"", "\xEF\xBF\xBD\xEF\xBF\xBD",
          "\xEF\xBF\xBD\xEF\xBF\xBD"
          "a",
          "\xEF\xBF\xBD\xEF\xBF\xBD"
          "a"}},
        {{8, -1, 1000, 1, 8},
         5,
         {"a", "a", "a", "a", "aa", "aa"}}, /* invalid ids and hidden control tokens */
    };
    image g;
    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "llama");
    put_tokens(&g, rows, SRN_LEN(rows));
    loaded l = load_ok(&g);
    for (size_t c = 0; c < SRN_LEN(cases); c++) {
        srn_detok d;
        srn_buf b;
        srn_buf_init(&b, 1000);
        srn_detok_init(&d, l.v, false);
        for (size_t i = 0; i < cases[c].n; i++) {
            srn_detok_add(&d, cases[c].ids[i], &b);
            assert_string_equal(b.data ? b.data : "", cases[c].after[i]);
        }
        srn_detok_end(&d, &b);
        assert_string_equal(b.data, cases[c].after[cases[c].n]);
        srn_buf_done(&b);
    }
    loaded_done(&l);
}

static void invalid_ids_have_no_text(void **state) {
    (void)state;
    image g;
    bpe_image(&g);
    loaded l = load_ok(&g);
    srn_buf b;
    srn_buf_init(&b, 100);
    static const int32_t ids[] = {-1, INT32_MIN, INT32_MAX, (int32_t)SRN_LEN(bpe_rows)};
    for (size_t i = 0; i < SRN_LEN(ids); i++) {
        assert_int_equal(srn_token_bytes(l.v, ids[i], true, &b), 0);
        assert_int_equal(srn_vocab_text(l.v, ids[i]).len, 0);
        assert_int_equal(srn_vocab_attr(l.v, ids[i]), SRN_TOKEN_UNKNOWN);
    }
    srn_buf_done(&b);
    loaded_done(&l);
}

/* ---- hostile vocabularies ---- */

/* Texts of 13 pairs of words, each pair in one of two forms. Flipping the top bit of a word flips the top bit
 * of its product with any odd number; where a hash then only folds that down, flipping bits 63 and 31 of the
 * next word undoes it whatever the seed, and all 8192 texts are one. */
static void texts_made_to_collide_do_not(void **state) {
    (void)state;
    enum { PAIRS = 13, BYTES = PAIRS * 16, TEXTS = 1 << PAIRS };
    char *text = malloc((size_t)TEXTS * BYTES);
    srn__strtab t = {0};
    assert_non_null(text);
    assert_true(srn__strtab_init(&t, TEXTS));
    for (int32_t i = 0; i < TEXTS; i++) {
        char *p = text + (size_t)i * BYTES;
        memset(p, 'a', BYTES);
        for (int k = 0; k < PAIRS; k++) {
            if (!(i >> k & 1)) continue;
            p[16 * k + 7] ^= (char)0x80;
            p[16 * k + 11] ^= (char)0x80;
            p[16 * k + 15] ^= (char)0x80;
        }
        assert_true(srn__strtab_put(&t, (srn_str){p, BYTES}, i));
    }
    uint32_t run = 0, longest = 0;
    for (uint32_t i = 0; i <= t.mask; i++) {
        run = t.key[i].ptr ? run + 1 : 0;
        longest = SRN_MAX(longest, run);
    }
    if (longest > TEXTS / 8) fail_msg("%u of %d texts lie side by side", longest, TEXTS);
    srn__strtab_done(&t);
    free(text);
}

/* ---- one vocabulary, many threads ---- */

static void *tokenize_often(void *arg) {
    const srn_vocab *v = arg;
    for (int i = 0; i < 300; i++) {
        srn_tokens t = {0};
        srn_span span = {SRN_STR("abc ab a c abc<tool>abcabc"), i % 2};
        if (srn_tokenize(v, &span, 1, 0, &t, NULL) || t.n != 12) return arg;
        srn_tokens_done(&t);
    }
    return NULL;
}

static void many_threads_share_a_vocabulary(void **state) {
    (void)state;
    image g;
    bpe_image(&g);
    loaded l = load_ok(&g);
    pthread_t threads[4];
    for (size_t i = 0; i < SRN_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, tokenize_often, l.v), 0);
    for (size_t i = 0; i < SRN_LEN(threads); i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    loaded_done(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_without_a_vocabulary_is_refused),
        cmocka_unit_test(unknown_tokenizers_and_pre_tokenizers_are_refused_by_name),
        cmocka_unit_test(lists_that_do_not_fit_the_tokens_are_refused),
        cmocka_unit_test(special_ids_outside_the_vocabulary_are_refused),
        cmocka_unit_test(a_score_that_is_not_a_number_is_refused_and_infinite_ones_order),
        cmocka_unit_test(a_merge_that_is_not_two_parts_is_refused),
        cmocka_unit_test(special_tokens_too_long_to_match_quickly_are_refused),
        cmocka_unit_test(empty_and_equal_tokens_are_harmless),
        cmocka_unit_test(merges_through_strings_that_are_no_tokens_reach_the_tokens_behind_them),
        cmocka_unit_test(ends_are_found_by_id_and_by_name),
        cmocka_unit_test(a_message_end_is_no_answer_end_where_return_and_call_are),
        cmocka_unit_test(mislabelled_control_tokens_are_control_tokens),
        cmocka_unit_test(the_higher_score_merges_first_and_the_leftmost_of_equals),
        cmocka_unit_test(phi3_control_tokens_take_the_white_space_after_them),
        cmocka_unit_test(the_stream_never_gives_half_a_character),
        cmocka_unit_test(invalid_ids_have_no_text),
        cmocka_unit_test(texts_made_to_collide_do_not),
        cmocka_unit_test(many_threads_share_a_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
