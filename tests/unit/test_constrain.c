/* Constraints against oracles of their own: patterns with known answers, random grammars against a matcher by
 * sets of end positions, masks against walking each token byte by byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "constrain/constrain.h"
#include "unit/vocab_image.h"

static const token_row letter_rows[] = {
    {"a", 1, 0},  {"b", 1, 0},   {"c", 1, 0},   {"ab", 1, 0},   {"ba", 1, 0},         {"aa", 1, 0},
    {"bb", 1, 0}, {"abc", 1, 0}, {"cab", 1, 0}, {"aaaa", 1, 0}, {"bcbc", 1, 0},       {"abab", 1, 0},
    {"cc", 1, 0}, {"ca", 1, 0},  {"<s>", 3, 0}, {"</s>", 3, 0}, {"<|im_end|>", 1, 0}, {"aaaaaaaaaa", 1, 0},
};

typedef struct fixture {
    loaded l;
    srn_token_trie *trie;
} fixture;

static void open_letters(fixture *f) {
    image g;
    srn_err err = {0};
    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "gpt2");
    key_str(&g, "tokenizer.ggml.pre", "gpt-2");
    put_tokens(&g, letter_rows, SRN_LEN(letter_rows));
    put_merges(&g, NULL, 0);
    key_u32(&g, "tokenizer.ggml.eos_token_id", 15);
    if (load_image(&g, &f->l, &err) || srn_token_trie_new(f->l.v, &f->trie, &err)) fail_msg("%s", err.text);
}

static void fixture_done(fixture *f) {
    srn_token_trie_free(f->trie);
    loaded_done(&f->l);
}

static srn_constraint *of_regex(const char *pattern) {
    srn_constraint *c = NULL;
    srn_err err = {0};
    if (srn_constraint_of_regex(srn_str_of(pattern), &c, &err)) fail_msg("%s: %s", pattern, err.text);
    return c;
}

/* -1: refused at some byte; 0: a beginning; 1: complete. */
static int verdict(const fixture *f, srn_constraint *c, srn_str text) {
    srn_matcher *m = NULL;
    srn_err err = {0};
    if (srn_matcher_new(c, f->trie, &m, &err)) fail_msg("%s", err.text);
    int v = srn_matcher_accept_bytes(m, text.ptr, text.len) < text.len ? -1 : srn_matcher_may_end(m);
    srn_matcher_free(m);
    return v;
}

static void a_pattern_lets_through_what_it_matches_and_its_beginnings(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *text;
        int verdict;
    } cases[] = {
        {"abc", "abc", 1},
        {"abc", "ab", 0},
        {"abc", "abd", -1},
        {"a|bc", "b", 0},
        {"a*b", "aaaab", 1},
        {"a*b", "", 0},
        {"(ab)+", "abab", 1},
        {"(ab)+", "", 0},
        {"a{2,3}", "a", 0},
        {"a{2,3}", "aa", 1},
        {"a{2,3}", "aaaa", -1},
        {"(a|ab)(c|bcd)", "abcd", 1},
        {"[a-c]{40,50}", "abc", 0},
        {"(a*)*", "aaaa", 1},
        {"(a*)*b", "c", -1},
        {"((a?){3,}b){2}", "bab", 1},
        {"\\u00e9", "\xC3", 0},
        {".", "\xF0\x9F\x98", 0},
        {".", "\n", -1},
        {"^ab$", "ab", 1},
        {"[^a]", "a", -1},
        {"\\d\\.", "7.", 1},
        {"", "", 1},
        {"\\p{Lu}x", "\xC3\x84x", 1},
    };
    fixture f;
    open_letters(&f);
    for (size_t i = 0; i < SRN_LEN(cases); i++) {
        srn_constraint *c = of_regex(cases[i].pattern);
        int v = verdict(&f, c, srn_str_of(cases[i].text));
        if (v != cases[i].verdict)
            fail_msg("/%s/ on '%s': %d, not %d", cases[i].pattern, cases[i].text, v, cases[i].verdict);
        srn_constraint_free(c);
    }
    fixture_done(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pattern_lets_through_what_it_matches_and_its_beginnings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
