/* constrain: every allocation from a text to a mask fails once; each time the result is SRN_ENOMEM (or the
 * same as ever, where only a kept mask was lost), and under ASan nothing leaks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "constrain/constrain.h"
#include "unit/nomem.h"
#include "unit/vocab_image.h"

typedef int make(srn_constraint **ret, srn_err *err);

static int pattern(srn_constraint **ret, srn_err *err) {
    return srn_constraint_of_regex(SRN_STR("(?<n>a|b[^\\W\\d]{3,400})+(\\p{L}|[\\u4e00-\\u4eff]*){2}"), ret,
                                   err);
}

static int grammar(srn_constraint **ret, srn_err *err) {
    return srn_constraint_of_gbnf(
        SRN_STR("root ::= root \"b\" | x{2,90} | \"a\"\nx ::= [^c-d\\u00e9] y?\ny ::= "
                "\"\\x41\" y | (\"z\" | \"ab\")+ # end"),
        ret, err);
}

static int free_text(srn_constraint **ret, srn_err *err) {
    srn_grammar *g = NULL;
    int code = srn_grammar_new(100, &g, err);
    if (code) return code;
    uint32_t rule = srn_g_rule(g, SRN_STR("digits"));
    srn_g_define(g, rule, srn_g_repeat(g, srn_g_class(g, &(srn_range){'0', '9'}, 1, true), 1, SRN_NO_MAX));
    srn_trigger t[] = {{SRN_STR("ab"), srn_g_ref(g, rule)}, {SRN_STR("ba"), srn_g_text(g, SRN_STR("a"))}};
    srn_node parts[] = {srn_g_text(g, SRN_STR("a")), srn_g_free_text(g, t, 2)};
    code = srn_constraint_new(g, srn_g_seq(g, parts, 2), ret, err);
    srn_grammar_free(g);
    return code;
}

static int use(srn_constraint *c, const srn_token_trie *t, srn_err *err) {
    srn_matcher *m = NULL;
    uint64_t mask = 0;
    int code = srn_matcher_new(c, t, &m, err);
    for (int i = 0; i < 3 && !code; i++) {
        code = srn_matcher_mask(m, &mask, err);
        if (!code && mask >> 6 & 1) code = srn_matcher_accept(m, 6, err);
        srn_matcher_accept_bytes(m, "baba", 4);
        bool ended = srn_matcher_may_end(m);
        if (!code && ended) code = srn_matcher_rollback(m, 1, err);
    }
    srn_matcher_free(m);
    return code;
}

static void survives(make *f) {
    image g;
    loaded l;
    srn_err err = {0};
    spm_image(&g);
    if (load_image(&g, &l, &err)) fail_msg("%s", err.text);
    size_t n = 1;
    for (bool failed = true; failed; n++) {
        srn_token_trie *t = NULL;
        srn_constraint *c = NULL;
        nomem_begin(n);
        int code = srn_token_trie_new(l.v, &t, &err);
        if (!code) code = f(&c, &err);
        if (!code) code = use(c, t, &err);
        failed = nomem_end();
        if (code && (code != SRN_ENOMEM || !failed)) fail_msg("allocation %zu: %s", n, err.text);
        if (!code && use(c, t, &err)) fail_msg("after allocation %zu: %s", n, err.text);
        srn_constraint_free(c);
        srn_token_trie_free(t);
    }
    assert_true(n > 30);
    loaded_done(&l);
}

static void patterns(void **state) {
    (void)state;
    survives(pattern);
}

static void grammars(void **state) {
    (void)state;
    survives(grammar);
}

static void free_texts(void **state) {
    (void)state;
    survives(free_text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns),
        cmocka_unit_test(grammars),
        cmocka_unit_test(free_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
