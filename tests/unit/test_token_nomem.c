/* token: every allocation of loading and of tokenizing fails once; each time the result is SRN_ENOMEM,
 * nothing is half done, and under ASan nothing leaks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "unit/nomem.h"
#include "unit/vocab_image.h"

static void survives(image *g, const char *text) {
    loaded l = {0};
    srn_err err = {0};
    assert_int_equal(image_parse(g, &l.bytes, &l.w, &err), SRN_OK);
    image_done(g);
    size_t n = 1;
    for (;; n++) {
        l.v = NULL;
        nomem_begin(n);
        int code = srn_vocab_new(l.w, &l.v, &err);
        bool failed = nomem_end();
        if (code == SRN_OK) break; /* PCRE2 falls back where compiling to machine code fails */
        assert_true(failed);
        assert_int_equal(code, SRN_ENOMEM);
        assert_null(l.v);
    }
    assert_true(n > 5);
    srn_span spans[] = {{srn_str_of(text), true}, {srn_str_of(text), false}};
    for (n = 1;; n++) {
        srn_tokens t = {0};
        assert_true(srn_tokens_push(&t, 7));
        nomem_begin(n);
        int code = srn_tokenize(l.v, spans, SRN_LEN(spans), 0, &t, &err);
        bool failed = nomem_end();
        if (code) assert_int_equal(code, SRN_ENOMEM);
        if (code) assert_int_equal(t.n, 1); /* nothing was appended */
        assert_true(code == SRN_OK || failed);
        srn_tokens_done(&t);
        if (!failed) break;
    }
    assert_true(n > 5);
    loaded_done(&l);
}

static void byte_level(void **state) {
    (void)state;
    image g;
    bpe_image(&g);
    survives(&g, "abc ab<tool> abcabcabc c<s> \xFF");
}

static void sentencepiece(void **state) {
    (void)state;
    image g;
    spm_image(&g);
    survives(&g, "ab ba\n<end_of_turn> aa \xE4\xB8\xAD");
}

static void wordpiece(void **state) {
    (void)state;
    static const token_row rows[] = {{"[UNK]", 3, 0}, {"[CLS]", 3, 0}, {LOWLINE "a", 1, 0}, {"b", 1, 0}};
    image g;
    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "bert");
    put_tokens(&g, rows, SRN_LEN(rows));
    key_u32(&g, "tokenizer.ggml.bos_token_id", 1);
    key_u32(&g, "tokenizer.ggml.unknown_token_id", 0);
    survives(&g, "Ab \xC3\xA1"
                 "b zz[CLS]");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level),
        cmocka_unit_test(sentencepiece),
        cmocka_unit_test(wordpiece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
