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
#include "unit/constrain_oracle.h"
#include "unit/vocab_image.h"

/* ---- a vocabulary of a, b and c: all texts of 1 to 5 letters, and some long ones ---- */

enum { N_SHORT = 3 + 9 + 27 + 81 + 243, N_LONG = 60, LONGEST_TOKEN = 13, N_VOCAB = N_SHORT + N_LONG + 4 };
enum { ID_BOS = N_VOCAB - 4, ID_CONTROL, ID_EOS, ID_IM_END };

typedef struct fixture {
    loaded l;
    srn_token_trie *trie;
    char text[N_VOCAB][LONGEST_TOKEN + 1];
} fixture;

static void open_vocab(image *g, fixture *f) {
    srn_err err = {0};
    if (load_image(g, &f->l, &err) || srn_token_trie_new(f->l.v, &f->trie, &err)) fail_msg("%s", err.text);
}

static void open_letters(fixture *f) {
    image g;
    token_row rows[N_VOCAB];
    uint64_t seed = 7;
    int n = 0;
    memset(f, 0, sizeof *f);
    for (int len = 1, all = 3; len <= 5; len++, all *= 3)
        for (int i = 0; i < all; i++, n++)
            for (int k = 0, rest = i; k < len; k++, rest /= 3) f->text[n][k] = (char)('a' + rest % 3);
    for (; n < N_SHORT + N_LONG; n++) {
        int len = 6 + n % (LONGEST_TOKEN - 5);
        bool constant = n % 4 == 0;
        for (int k = 0; k < len; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            f->text[n][k] = (char)('a' + (constant ? (uint64_t)n / 4 : seed >> 40) % 3);
        }
        f->text[n][0] = (char)('a' + n % 3); /* no two are equal */
    }
    for (int i = 0; i < n; i++) rows[i] = (token_row){f->text[i], SRN_TOKEN_NORMAL, 0};
    rows[ID_BOS] = (token_row){"<s>", SRN_TOKEN_CONTROL, 0};
    rows[ID_CONTROL] = (token_row){"abcabc<x>", SRN_TOKEN_CONTROL, 0};
    rows[ID_EOS] = (token_row){"</s>", SRN_TOKEN_CONTROL, 0};
    rows[ID_IM_END] = (token_row){"<|im_end|>", SRN_TOKEN_NORMAL, 0};
    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "gpt2");
    key_str(&g, "tokenizer.ggml.pre", "gpt-2");
    put_tokens(&g, rows, N_VOCAB);
    put_merges(&g, NULL, 0);
    key_u32(&g, "tokenizer.ggml.eos_token_id", ID_EOS);
    open_vocab(&g, f);
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
    static fixture f;
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

/* ---- random grammars ---- */

static srn_matcher *new_matcher(const fixture *f, srn_constraint *c) {
    srn_matcher *m = NULL;
    srn_err err = {0};
    if (srn_matcher_new(c, f->trie, &m, &err)) fail_msg("%s", err.text);
    return m;
}

static void take_back(srn_matcher *m, uint32_t n) {
    srn_err err = {0};
    if (srn_matcher_rollback(m, n, &err)) fail_msg("%s", err.text);
}

enum { ALL_LETTERS = 6 };

/* Whether some text of up to ALL_LETTERS letters that begins with this one is accepted; compares the
 * matcher's word on each with the oracle's. m stands behind the text, or where it refused it. */
static bool compare_texts(oracle *o, srn_matcher *m, char *text, int len, bool alive) {
    bool want = oracle_accepts(o, text, len), got = alive && srn_matcher_may_end(m), any = want;
    if (want != got)
        fail_msg("grammar %llu: '%.*s' is %sin the language", (unsigned long long)o->seed, len, text,
                 want ? "" : "not ");
    for (int i = 0; i < 3 && len < ALL_LETTERS; i++) {
        text[len] = (char)('a' + i);
        bool moved = alive && srn_matcher_accept_bytes(m, &text[len], 1) == 1;
        any |= compare_texts(o, m, text, len + 1, moved);
        if (moved) take_back(m, 1);
    }
    return any;
}

/* A shortest way from here to a complete text, over a, b and c: its length, or -1. */
static int way_to_end(srn_matcher *m, char *text, int len, int most) {
    if (srn_matcher_may_end(m)) return len;
    if (len >= most) return -1;
    for (int i = 0; i < 3; i++) {
        text[len] = (char)('a' + i);
        if (srn_matcher_accept_bytes(m, &text[len], 1) != 1) continue;
        int n = way_to_end(m, text, len + 1, most);
        take_back(m, 1);
        if (n >= 0) return n;
    }
    return -1;
}

static void check_way_to_end(oracle *o, srn_matcher *m, const char *so_far, int len) {
    char text[ORACLE_LONGEST + 1];
    int n = -1;
    memcpy(text, so_far, (size_t)len);
    for (int most = len; n < 0 && most <= SRN_MIN(len + 6, ORACLE_LONGEST); most++)
        n = way_to_end(m, text, len, most);
    if (n >= 0 && !oracle_accepts(o, text, n))
        fail_msg("grammar %llu: '%.*s' is let through, and it is not in the language",
                 (unsigned long long)o->seed, n, text);
}

static void a_random_grammar_is_its_language_and_nothing_that_leads_nowhere(void **state) {
    (void)state;
    static fixture f;
    static oracle o;
    unsigned accepted = 0, refused = 0;
    open_letters(&f);
    for (uint64_t seed = 0; seed < 500; seed++) {
        srn_err err = {0};
        srn_constraint *c = NULL;
        char text[ORACLE_LONGEST + 1] = {0};
        srn_node root = oracle_grammar(&o, seed, &err);
        int code = srn_constraint_new(o.g, root, &c, &err);
        srn_grammar_free(o.g);
        o.seed = seed;
        if (code == SRN_EINVAL) { /* no text at all, says the compiler */
            for (int len = 0; len <= 3; len++)
                if (oracle_accepts(&o, text, len))
                    fail_msg("grammar %llu: %s", (unsigned long long)seed, err.text);
            refused++;
            continue;
        }
        if (code) fail_msg("grammar %llu: %s", (unsigned long long)seed, err.text);
        srn_matcher *m = new_matcher(&f, c);
        accepted += compare_texts(&o, m, text, 0, true);
        for (int walk = 0; walk < 5; walk++) {
            int len = 0;
            for (int tries = 0; tries < 12; tries++) {
                text[len] = (char)('a' + oracle_random(&o, 3));
                if (srn_matcher_accept_bytes(m, &text[len], 1) == 1) len++;
            }
            check_way_to_end(&o, m, text, len);
            take_back(m, (uint32_t)len);
            o.seed = seed + (uint64_t)walk * 7919;
        }
        srn_matcher_free(m);
        srn_constraint_free(c);
    }
    assert_in_range(accepted, 200, 500);
    assert_in_range(refused, 5, 200);
    fixture_done(&f);
}

/* ---- masks ---- */

static bool bit(const uint64_t *mask, int id) {
    return mask[id / 64] >> id % 64 & 1;
}

/* Every bit against walking the token's bytes. */
static void check_mask(const fixture *f, srn_matcher *m, const uint64_t *mask, unsigned long long seed) {
    for (int id = 0; id < N_VOCAB; id++) {
        size_t n = strlen(f->text[id]), moved = n ? srn_matcher_accept_bytes(m, f->text[id], n) : 0;
        if (moved) take_back(m, 1);
        bool want = n ? moved == n : id >= ID_EOS && srn_matcher_may_end(m);
        if (bit(mask, id) != want)
            fail_msg("grammar %llu: token %d '%s' is %s", seed, id, f->text[id],
                     want ? "left out" : "let in");
    }
}

static int random_token(oracle *o, const uint64_t *mask) {
    int n = 0, chosen = -1;
    for (int id = 0; id < ID_BOS; id++)
        if (bit(mask, id) && oracle_random(o, (uint32_t)++n) == 0) chosen = id;
    return chosen;
}

enum { MASK_WORDS = (N_VOCAB + 63) / 64, WALK = 40 };

/* A random walk by tokens; the same text by bytes, on a matcher of its own, must lead to the same. False when
 * the grammar turned out to be too ambiguous. */
static bool check_walk(const fixture *f, oracle *o, srn_constraint *c, unsigned long long seed) {
    static uint64_t masks[WALK + 1][MASK_WORDS];
    uint64_t other[MASK_WORDS];
    srn_matcher *m = new_matcher(f, c), *by_bytes = new_matcher(f, c);
    srn_err err = {0};
    uint32_t n = 0;
    int code = srn_matcher_mask(m, masks[0], &err);
    while (!code) {
        check_mask(f, m, masks[n], seed);
        int id = random_token(o, masks[n]);
        assert_int_equal(srn_matcher_must_end(m), srn_matcher_may_end(m) && id < 0);
        if (id < 0 || n == WALK) break;
        code = srn_matcher_accept(m, id, &err);
        if (code) break;
        size_t len = strlen(f->text[id]);
        if (srn_matcher_accept_bytes(by_bytes, f->text[id], len) != len) fail_msg("grammar %llu", seed);
        code = srn_matcher_mask(by_bytes, other, &err);
        if (!code) code = srn_matcher_mask(m, masks[++n], &err);
        if (!code) assert_memory_equal(other, masks[n], sizeof other);
    }
    if (code && code != SRN_ELIMIT) fail_msg("grammar %llu: %s", seed, err.text);
    while (n > 0 && !code) { /* and back */
        uint32_t back = 1 + oracle_random(o, n);
        take_back(m, back);
        n -= back;
        if (srn_matcher_mask(m, other, &err)) fail_msg("grammar %llu: %s", seed, err.text);
        assert_memory_equal(other, masks[n], sizeof other);
    }
    srn_matcher_free(m);
    srn_matcher_free(by_bytes);
    return code == SRN_OK;
}

static void a_mask_lets_in_exactly_the_tokens_whose_bytes_may_follow(void **state) {
    (void)state;
    static fixture f;
    static oracle o;
    unsigned too_ambiguous = 0;
    open_letters(&f);
    for (uint64_t seed = 5000; seed < 5100; seed++) {
        srn_err err = {0};
        srn_constraint *c = NULL;
        srn_node root = oracle_grammar(&o, seed, &err);
        int code = srn_constraint_new(o.g, root, &c, &err);
        srn_grammar_free(o.g);
        if (code == SRN_EINVAL) continue;
        if (code) fail_msg("grammar %llu: %s", (unsigned long long)seed, err.text);
        /* twice: the second time with what the first has left in the constraint's cache */
        for (int i = 0; i < 2; i++) too_ambiguous += !check_walk(&f, &o, c, seed);
        srn_constraint_free(c);
    }
    assert_in_range(too_ambiguous, 0, 6);
    fixture_done(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_random_grammar_is_its_language_and_nothing_that_leads_nowhere),
        cmocka_unit_test(a_mask_lets_in_exactly_the_tokens_whose_bytes_may_follow),
        cmocka_unit_test(a_pattern_lets_through_what_it_matches_and_its_beginnings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
