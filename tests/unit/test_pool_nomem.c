/* A pool that cannot have its memory or its threads: an error that says so, nothing left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "cpu/cpu_internal.h"
#include "unit/nomem.h"

static void count(void *ctx, uint32_t thread, uint32_t n_threads) {
    (void)thread, (void)n_threads;
    atomic_fetch_add((atomic_uint *)ctx, 1);
}

static void every_allocation_that_fails_is_reported(void **state) {
    (void)state;
    for (size_t n = 1;; n++) {
        srn_pool *p = NULL;
        srn_err err = {0};
        nomem_begin(n);
        int e = srn__pool_new(4, &p, &err);
        if (!nomem_end()) {
            assert_int_equal(e, 0);
            atomic_uint calls = 0;
            srn__pool_run(p, count, &calls);
            assert_int_equal(calls, 4);
            srn__pool_free(p);
            assert_true(n > 5); /* the pool, its two tables, an argument for each worker */
            return;
        }
        assert_int_equal(e, SRN_ENOMEM);
        assert_null(p);
        assert_true(strlen(err.text) > 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_that_fails_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
