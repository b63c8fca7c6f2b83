/* The thread pool: every thread runs once, barriers hold, modes and masks are as promised, more threads than
 * CPUs make progress. Also run under ThreadSanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "cpu/cpu_internal.h"

#define MAX_THREADS 16

static srn_pool *pool_of(uint32_t n) {
    srn_pool *p = NULL;
    srn_err err;
    assert_int_equal(srn__pool_new(n, &p, &err), 0);
    assert_int_equal(srn__pool_threads(p), n);
    return p;
}

typedef struct calls {
    uint32_t count[MAX_THREADS], n_seen[MAX_THREADS];
} calls;

static void count_call(void *ctx, uint32_t thread, uint32_t n) {
    calls *c = ctx;
    c->count[thread]++;
    c->n_seen[thread] = n;
}

static void every_thread_runs_once_per_run_and_run_waits_for_all(void **state) {
    (void)state;
    for (uint32_t n = 1; n <= MAX_THREADS; n = n < 4 ? n + 1 : n * 2) {
        srn_pool *p = pool_of(n);
        calls c = {0};
        for (uint32_t run = 1; run <= 300; run++) {
            srn__pool_run(p, count_call, &c);
            for (uint32_t t = 0; t < n; t++) {
                assert_int_equal(c.count[t], run);
                assert_int_equal(c.n_seen[t], n);
            }
        }
        srn__pool_free(p);
    }
}

#define STAGES 200

typedef struct stages {
    srn_pool *pool;
    uint32_t value[STAGES + 1][MAX_THREADS]; /* plain memory: the barrier alone orders it */
    uint32_t wrong[MAX_THREADS];
} stages;

/* Each stage adds up what all threads wrote in the one before. */
static void run_stages(void *ctx, uint32_t thread, uint32_t n) {
    stages *s = ctx;
    s->value[0][thread] = thread + 1;
    srn__pool_barrier(s->pool);
    uint32_t want = n * (n + 1) / 2;
    for (uint32_t i = 1; i <= STAGES; i++) {
        uint32_t sum = 0;
        for (uint32_t t = 0; t < n; t++) sum += s->value[i - 1][t];
        if (sum != want) s->wrong[thread]++;
        s->value[i][thread] = s->value[i - 1][(thread + 1) % n];
        srn__pool_barrier(s->pool);
    }
}

static void nobody_passes_a_barrier_before_all_have_come(void **state) {
    (void)state;
    for (uint32_t n = 1; n <= MAX_THREADS; n *= 2) {
        stages *s = calloc(1, sizeof *s);
        s->pool = pool_of(n);
        for (int run = 0; run < 10; run++) {
            memset(s->value, 0, sizeof s->value);
            srn__pool_run(s->pool, run_stages, s);
            for (uint32_t t = 0; t < n; t++) assert_int_equal(s->wrong[t], 0);
        }
        srn__pool_free(s->pool);
        free(s);
    }
}

typedef struct modes {
    int rounding[MAX_THREADS];
    bool subnormals[MAX_THREADS], masked[MAX_THREADS];
    char name[MAX_THREADS][16];
} modes;

static void look_at_mode(void *ctx, uint32_t thread, uint32_t n) {
    (void)n;
    modes *m = ctx;
    m->rounding[thread] = fegetround();
    volatile float tiny = 0x1p-126f;
    float half = tiny * 0.5f;
    m->subnormals[thread] = half > 0;
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    m->masked[thread] = sigismember(&set, SIGINT) == 1 && sigismember(&set, SIGTERM) == 1;
    pthread_getname_np(pthread_self(), m->name[thread], sizeof m->name[thread]);
}

static void threads_compute_in_the_default_mode_and_the_callers_own_comes_back(void **state) {
    (void)state;
    fesetround(FE_UPWARD);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040u);
    unsigned before = _mm_getcsr();
#endif
    srn_pool *p = pool_of(3);
    modes m = {0};
    srn__pool_run(p, look_at_mode, &m);
    int rounding_after = fegetround();
    fesetround(FE_TONEAREST);
#if defined(__x86_64__)
    assert_int_equal((_mm_getcsr() | 0x4000u) & 0xffc0u, before & 0xffc0u);
    _mm_setcsr(_mm_getcsr() & ~0x8040u);
#endif
    assert_int_equal(rounding_after, FE_UPWARD);
    for (int t = 0; t < 3; t++) {
        assert_int_equal(m.rounding[t], FE_TONEAREST);
        assert_true(m.subnormals[t]);
    }
    srn__pool_free(p);
}

static void workers_have_names_and_take_no_signals(void **state) {
    (void)state;
    srn_pool *p = pool_of(3);
    modes m = {0};
    srn__pool_run(p, look_at_mode, &m);
    assert_false(m.masked[0]); /* the caller's mask is left alone */
    assert_true(m.masked[1] && m.masked[2]);
    assert_string_equal(m.name[1], "serin-cpu-1");
    assert_string_equal(m.name[2], "serin-cpu-2");
    srn__pool_free(p);
}

static void parts_cover_everything_once_and_start_at_units(void **state) {
    (void)state;
    for (uint32_t n = 0; n < 100; n++)
        for (uint32_t unit = 1; unit <= 16; unit *= 4)
            for (uint32_t threads = 1; threads <= 9; threads++) {
                uint32_t at = 0;
                for (uint32_t t = 0; t < threads; t++) {
                    uint32_t a, b;
                    srn__pool_part(n, unit, t, threads, &a, &b);
                    assert_int_equal(a, at);
                    assert_true(b >= a && (a % unit == 0 || a == n));
                    at = b;
                }
                assert_int_equal(at, n);
            }
}

static void impossible_thread_counts_are_refused_by_number(void **state) {
    (void)state;
    srn_pool *p = NULL;
    srn_err err;
    assert_int_equal(srn__pool_new(0, &p, &err), SRN_EINVAL);
    assert_int_equal(srn__pool_new(100000, &p, &err), SRN_EINVAL);
    assert_non_null(strstr(err.text, "100000"));
    assert_null(p);
    srn__pool_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_runs_once_per_run_and_run_waits_for_all),
        cmocka_unit_test(nobody_passes_a_barrier_before_all_have_come),
        cmocka_unit_test(threads_compute_in_the_default_mode_and_the_callers_own_comes_back),
        cmocka_unit_test(workers_have_names_and_take_no_signals),
        cmocka_unit_test(parts_cover_everything_once_and_start_at_units),
        cmocka_unit_test(impossible_thread_counts_are_refused_by_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
