/* The probe: every loop does the work that it says it did, at every level of this machine, with any number of
 * threads and any size of buffer; what cannot be measured is refused. Speeds are not judged here.
 * ThreadSanitizer watches, for the probe has an srn_pool of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "cpu/cpu_internal.h"
#include "cpu/probe.h"
#include "cpu/probe_internal.h"

static srn_probe *open_probe(uint32_t threads, uint64_t bytes, const char *limit) {
    srn_probe_opts o = {.threads = threads, .cpu_limit = limit, .bytes = bytes};
    srn_probe *p = NULL;
    srn_err err = {0};
    if (srn_probe_new(&o, &p, &err)) fail_msg("%s", err.text);
    return p;
}

/* ---- the loops ---- */

static size_t fill_levels(srn_probe_loops l[4]) {
    size_t n = 0;
    for (const char *const *name = srn__kernels_available(); *name; name++) {
        if (n) l[n] = l[n - 1];
        if (strcmp(*name, "ref") == 0) srn__probe_ref(&l[n]), n++;
#if defined(__x86_64__)
        if (strcmp(*name, "avx2") == 0) srn__probe_avx2(&l[n]), n++;
        if (strcmp(*name, "avx512") == 0) srn__probe_avx512(&l[n]), n++;
        if (strcmp(*name, "avx512vnni") == 0) srn__probe_avx512vnni(&l[n]), n++;
#elif defined(__aarch64__)
        if (strcmp(*name, "neon") == 0) srn__probe_neon(&l[n]), n++;
        if (strcmp(*name, "dotprod") == 0) srn__probe_dotprod(&l[n]), n++;
        if (strcmp(*name, "i8mm") == 0) srn__probe_i8mm(&l[n]), n++;
#endif
    }
    return n;
}

static void reading_takes_in_every_word(void **state) {
    (void)state;
    enum { BYTES = 3 * 4096 };
    srn_probe_loops l[4];
    size_t n = fill_levels(l);
    assert_true(n >= 1);
    uint64_t *p = srn_aligned_calloc(1, BYTES);
    for (size_t level = 0; level < n; level++) {
        uint64_t nothing = l[level].read(p, BYTES);
        for (size_t i = 0; i < BYTES / sizeof *p; i++) {
            p[i] = 0x5A5A0000u + i;
            assert_true(l[level].read(p, BYTES) != nothing);
            p[i] = 0;
        }
        assert_true(l[level].read(p, BYTES) == nothing);
    }
    srn_aligned_free(p);
}

static void work_grows_with_the_rounds(void **state) {
    (void)state;
    srn_probe_loops l[4];
    size_t n = fill_levels(l);
    for (size_t level = 0; level < n; level++) {
        assert_true(l[level].int8(10) > 0 && l[level].f32(10) > 0);
        assert_int_equal(l[level].int8(30), 3 * l[level].int8(10));
        assert_int_equal(l[level].f32(30), 3 * l[level].f32(10));
    }
}

/* ---- the probe ---- */

static void every_limit_is_measured(void **state) {
    (void)state;
    for (uint32_t threads = 1; threads <= 3; threads++) {
        srn_probe *p = open_probe(threads, (1u << 20) + 5, NULL);
        assert_int_equal(srn_probe_threads(p), threads);
        assert_true(srn_probe_bytes(p) >= (1u << 20) + 5);
        assert_true(srn_probe_huge_share(p) >= 0 && srn_probe_huge_share(p) <= 1);
        for (uint32_t n = 0; n <= threads + 1; n++) {
            assert_true(srn_probe_read(p, n, 200) > 0);
            assert_true(srn_probe_read_again(p, n, 1 << 16, 200) > 0);
        }
        for (size_t i = 0; i < srn_probe_levels(p); i++) {
            assert_non_null(srn_probe_level(p, i));
            assert_true(srn_probe_int8(p, i, 0, 200) > 0);
            assert_true(srn_probe_f32(p, i, 0, 200) > 0);
        }
        assert_null(srn_probe_level(p, srn_probe_levels(p)));
        assert_true(srn_probe_barrier_us(p, 20) >= 0);
        srn_probe_free(p);
    }
}

static void small_buffers_and_odd_sizes_are_read(void **state) {
    (void)state;
    static const uint64_t sizes[] = {1, 4096, 4097, 300000};
    for (size_t i = 0; i < SRN_LEN(sizes); i++) {
        srn_probe *p = open_probe(2, sizes[i], NULL);
        for (int turn = 0; turn < 5; turn++) assert_true(srn_probe_read(p, 0, 0) > 0);
        assert_true(srn_probe_read_again(p, 0, 1, 0) > 0);
        assert_true(srn_probe_read_again(p, 0, UINT64_MAX, 0) > 0);
        srn_probe_free(p);
    }
}

static void the_ladder_ends_at_the_limit(void **state) {
    (void)state;
    const char *const *names = srn__kernels_available();
    for (size_t i = 0; names[i]; i++) {
        srn_probe *p = open_probe(1, 4096, names[i]);
        assert_int_equal(srn_probe_levels(p), i + 1);
        assert_string_equal(srn_probe_level(p, i), names[i]);
        srn_probe_free(p);
    }
    srn_probe *p = NULL;
    srn_err err = {0};
    assert_int_equal(srn_probe_new(&(srn_probe_opts){.cpu_limit = "mmx"}, &p, &err), SRN_EINVAL);
    assert_int_equal(srn_probe_new(&(srn_probe_opts){.threads = 5000, .bytes = 1}, &p, &err), SRN_EINVAL);
    assert_int_equal(srn_probe_new(&(srn_probe_opts){.threads = 1, .bytes = UINT64_MAX}, &p, &err),
                     SRN_ENOMEM);
    assert_null(p);
    srn_probe_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading_takes_in_every_word),
        cmocka_unit_test(work_grows_with_the_rounds),
        cmocka_unit_test(every_limit_is_measured),
        cmocka_unit_test(the_ladder_ends_at_the_limit),
        cmocka_unit_test(small_buffers_and_odd_sizes_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
