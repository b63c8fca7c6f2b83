/* How far two rows of logits are apart: exactly nothing for equal ones, what a plain binary64 computation
 * says for others, within its bounds, and the same bits on every CPU. Random numbers come from a printed
 * seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "base/num.h"
#include "engine/sampler_internal.h"

enum { MOST = 9000 };

static float a[MOST], b[MOST];

static uint64_t next(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static float unit(uint64_t *seed) { /* -1 to 1 */
    return (float)(next(seed) % (1u << 24)) / (float)(1u << 23) - 1;
}

/* Two rows that are `apart` from each other, of a scale and length of the round's. */
static uint32_t make(uint64_t *seed, float apart) {
    uint32_t n = 1 + (uint32_t)(next(seed) % MOST);
    float wide = (float[]){0.01f, 1, 5, 30}[next(seed) % 4];
    for (uint32_t i = 0; i < n; i++) {
        a[i] = unit(seed) * wide;
        b[i] = a[i] + unit(seed) * apart;
    }
    return n;
}

static double constant(const float *x, uint32_t n) {
    double max = (double)x[0], sum = 0;
    for (uint32_t i = 0; i < n; i++) max = fmax(max, (double)x[i]);
    for (uint32_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
    return max + log(sum);
}

/* The definitions, term by term. */
static void plain(uint32_t n, double *ret_jsd, double *ret_kl) {
    double la = constant(a, n), lb = constant(b, n), jsd = 0, kl = 0;
    for (uint32_t i = 0; i < n; i++) {
        double x = (double)a[i] - la, y = (double)b[i] - lb, p = exp(x), q = exp(y), m = (p + q) / 2;
        if (p > 0) jsd += p * log(p / m) / 2;
        if (q > 0) jsd += q * log(q / m) / 2;
        kl += p * (x - y);
    }
    *ret_jsd = jsd, *ret_kl = kl;
}

static void divergences_are_those_of_the_definitions(void **state) {
    (void)state;
    uint64_t seed = 5;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 400; round++) {
        uint32_t n = make(&seed, (float[]){1e-3f, 0.1f, 1, 40}[round % 4]);
        int32_t token = (int32_t)(next(&seed) % n);
        srn__row_distance d;
        double jsd, kl;
        srn__compare_rows(a, b, n, token, &d);
        plain(n, &jsd, &kl);
        assert_true(fabs(d.jsd - jsd) <= 1e-9 + 2e-5 * jsd);
        assert_true(fabs(d.kl - kl) <= 1e-6 + 2e-5 * kl);
        assert_true(fabs(d.logprob[0] - ((double)a[token] - constant(a, n))) < 1e-5);
        assert_true(fabs(d.logprob[1] - ((double)b[token] - constant(b, n))) < 1e-5);
        assert_true(d.jsd <= log(2) && d.jsd >= 0 && d.kl >= 0);
    }
}

static void equal_rows_are_exactly_nothing_apart(void **state) {
    (void)state;
    uint64_t seed = 6;
    const double zero = 0;
    int32_t top;
    for (int round = 0; round < 200; round++) {
        uint32_t n = make(&seed, 0);
        srn__row_distance d;
        memcpy(b, a, n * sizeof *a);
        srn__compare_rows(a, b, n, 0, &d);
        assert_memory_equal(&d.jsd, &zero, sizeof zero);
        assert_memory_equal(&d.kl, &zero, sizeof zero);
        assert_memory_equal(&d.logprob[0], &d.logprob[1], sizeof zero);
        assert_true(d.same_top);
        srn_top_k(a, n, 1, &top);
        b[top] += 0.01f; /* a hundredth of a nat at the likeliest token is seen */
        srn__compare_rows(a, b, n, 0, &d);
        assert_true(n == 1 || (d.jsd > 1e-12 && d.jsd < 1e-4));
    }
}

/* All weight on one token each, and not the same: the most that there can be. */
static void rows_that_share_nothing_are_log_2_apart(void **state) {
    (void)state;
    for (uint32_t i = 0; i < MOST; i++) a[i] = b[i] = -1e9f;
    a[17] = 80, b[8000] = 3e38f;
    srn__row_distance d;
    srn__compare_rows(a, b, MOST, 17, &d);
    assert_true(d.jsd <= log(2) && d.jsd > log(2) - 1e-7);
    assert_false(d.same_top);
    assert_true(d.kl > 1e38 && isfinite(d.kl) && isfinite(d.logprob[1]));
}

static void sums_hold_what_was_added(void **state) {
    (void)state;
    srn_divergence d = {0};
    const srn__row_distance rows[3] = {{.jsd = 0, .kl = 0.5, .logprob = {-1, -2}, .same_top = true},
                                       {.jsd = 0.25, .kl = 0.25, .logprob = {-1, -4}},
                                       {.jsd = 0.125, .kl = 2, .logprob = {-2, -1}, .same_top = true}};
    for (int i = 0; i < 3; i++) srn__divergence_add(&d, &rows[i]);
    assert_int_equal(d.n, 3);
    assert_true(d.sum == 2.75 && d.max == 2 && d.sum_jsd == 0.375 && d.max_jsd == 0.25);
    assert_int_equal(d.max_at, 2);
    assert_int_equal(d.max_jsd_at, 1);
    assert_int_equal(d.n_same_top, 2);
    assert_true(d.logprob_a == -4 && d.logprob_b == -7);
}

/* ---- bits ---- */

static void vector_forms_give_the_bits_of_the_reference(void **state) {
    (void)state;
    const srn__row_ops *fast = srn__row();
    if (fast == &srn__row_ref) skip();
    uint64_t seed = 8;
    for (int round = 0; round < 1000; round++) {
        uint32_t n = 1 + make(&seed, (float[]){1e-3f, 0.1f, 1, 40}[round % 4]) % 600;
        srn__row_pair pair = {.shift = (double)unit(&seed)};
        for (int k = 0; k < 2; k++) {
            double sum = srn__row_sum_exp(k ? b : a, n, &pair.max[k]);
            pair.scale[k] = round % 7 ? (float)(1 / sum) : 1e-39f; /* also where nothing has any weight */
        }
        if (round % 5 == 0)
            for (uint32_t i = 0; i < n; i += 1 + (uint32_t)(next(&seed) % 20)) b[i] = -3e38f;
        float js[2][16] = {{1}, {1}};
        double kl[2][16] = {{2}, {2}};
        srn__row_ref.compare(&pair, a, b, n, js[0], kl[0]);
        fast->compare(&pair, a, b, n, js[1], kl[1]);
        assert_memory_equal(js[0], js[1], sizeof js[0]);
        assert_memory_equal(kl[0], kl[1], sizeof kl[0]);
    }
}

static uint64_t digest(uint64_t h, const void *bytes, size_t n) { /* FNV-1a */
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)bytes)[i]) * 1099511628211u;
    return h;
}

/* What a roll-out on one machine measures is what another one recomputes. */
static void bits_are_fixed(void **state) {
    (void)state;
    uint64_t seed = 9, h = 1469598103934665603u;
    for (int round = 0; round < 40; round++) {
        uint32_t n = make(&seed, (float[]){1e-3f, 0.1f, 1, 40}[round % 4]);
        srn__row_distance d;
        srn__compare_rows(a, b, n, 0, &d);
        const double all[4] = {d.jsd, d.kl, d.logprob[0], d.logprob[1]};
        h = digest(h, all, sizeof all);
    }
    assert_true(h == 0x61c1956e8b6eb6fcu);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divergences_are_those_of_the_definitions),
        cmocka_unit_test(equal_rows_are_exactly_nothing_apart),
        cmocka_unit_test(rows_that_share_nothing_are_log_2_apart),
        cmocka_unit_test(sums_hold_what_was_added),
        cmocka_unit_test(vector_forms_give_the_bits_of_the_reference),
        cmocka_unit_test(bits_are_fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
