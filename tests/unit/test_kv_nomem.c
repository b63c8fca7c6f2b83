/* A KV cache or a sequence that cannot have its memory: an error that says so, nothing left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/kv.h"
#include "unit/nomem.h"

static void no_copy(void *ctx, uint32_t group, uint32_t from, uint32_t to, uint32_t n) {
    (void)ctx, (void)group, (void)from, (void)to, (void)n;
}

static const srn_kv_opts opts = {.n_groups = 2,
                                 .groups = {{.window = 0, .n_layers = 1}, {.window = 100, .n_layers = 1}},
                                 .n_blocks = {10, 6},
                                 .n_ctx = 640,
                                 .copy = no_copy};

static void every_allocation_that_fails_is_reported(void **state) {
    (void)state;
    for (size_t n = 1;; n++) {
        srn_kv *kv = NULL;
        srn_kv_seq *s = NULL;
        srn_err err = {0};
        nomem_begin(n);
        int code = srn_kv_new(&opts, &kv, &err);
        if (!code) code = srn_kv_seq_new(kv, 0, &s, &err);
        bool failed = nomem_end();
        if (failed) {
            assert_int_equal(code, SRN_ENOMEM);
            assert_null(s);
            assert_true(strlen(err.text) > 0);
        } else {
            assert_int_equal(code, SRN_OK);
            assert_true(n > 10);
        }
        srn_kv_seq_free(s);
        srn_kv_free(kv);
        if (!failed) return;
    }
}

static void what_follows_allocates_nothing(void **state) {
    (void)state;
    srn_kv *kv;
    srn_kv_seq *s[2];
    srn_err err = {0};
    int32_t tokens[640];
    for (int32_t i = 0; i < 640; i++) tokens[i] = i;
    if (srn_kv_new(&opts, &kv, &err) || srn_kv_seq_new(kv, 0, &s[0], &err) ||
        srn_kv_seq_new(kv, 0, &s[1], &err))
        fail_msg("%s", err.text);
    nomem_begin(1);
    for (uint32_t at = 0; at < 500; at += 100) {
        assert_true(srn_kv_seq_reserve(s[0], at + 100));
        srn_kv_seq_commit(s[0], tokens, at + 100);
    }
    assert_int_equal(srn_kv_seq_take(s[1], tokens, 640, 470), 470);
    assert_int_equal(srn_kv_seq_truncate(s[0], 450), 450);
    assert_int_equal(srn_kv_lookup(kv, 0, tokens, 640), 450);
    srn_kv_forget(kv);
    assert_false(nomem_end());
    srn_kv_seq_free(s[0]);
    srn_kv_seq_free(s[1]);
    srn_kv_free(kv);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_that_fails_is_reported),
        cmocka_unit_test(what_follows_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
