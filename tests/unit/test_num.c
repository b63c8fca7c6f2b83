/* The elementary functions of the numerics: accurate against libm (which differs by machine, hence bounds),
 * and with fixed bits at a few points, so that a change of the numerics is seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/num.h"

static double worst_relative(float (*f)(float), double (*ref)(double), float lo, float hi, float step) {
    double worst = 0;
    for (float x = lo; x < hi; x += step) {
        double want = ref((double)x), got = (double)f(x);
        double e = fabs(got - want) / (fabs(want) > 1e-30 ? fabs(want) : 1e-30);
        if (e > worst) worst = e;
    }
    return worst;
}

static float expf_of(float x) {
    return srn_expf(x);
}
static float logf_of(float x) {
    return srn_logf(x);
}
static float siluf_of(float x) {
    return srn_siluf(x);
}
static float geluf_of(float x) {
    return srn_geluf(x);
}
static double silu_ref(double x) {
    return x / (1 + exp(-x));
}
static double gelu_ref(double x) {
    return x / (1 + exp(-2 * sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

static void single_precision_functions_are_within_a_few_ulp(void **state) {
    (void)state;
    assert_true(worst_relative(expf_of, exp, -86.4f, 87.9f, 0.00137f) < 2.0e-7);
    assert_true(worst_relative(logf_of, log, 1.3f, 900.0f, 0.0153f) < 3.0e-7);
    assert_true(worst_relative(logf_of, log, 1e-3f, 0.8f, 0.000013f) < 3.0e-7);
    double near_one = 0; /* where the logarithm is small, its absolute error */
    for (float x = 0.7f; x < 1.5f; x += 0.000017f)
        near_one = fmax(near_one, fabs((double)srn_logf(x) - log((double)x)));
    assert_true(near_one < 1.2e-7);
    assert_true(srn_logf(0.0f) < -88 && srn_logf(0.0f) > -89);
    assert_true(worst_relative(srn_tanhf, tanh, -9.0f, 9.0f, 0.00113f) < 4.0e-7);
    assert_true(worst_relative(siluf_of, silu_ref, -40.0f, 40.0f, 0.0071f) < 4.0e-7);
    assert_true(worst_relative(geluf_of, gelu_ref, -3.0f, 10.0f, 0.0031f) < 2.0e-6);
}

static void double_precision_functions_are_within_a_few_ulp(void **state) {
    (void)state;
    double worst = 0;
    for (double x = 1e-3; x < 3e6; x = x * 1.0031 + 1e-4) {
        double s, c;
        srn_sincos(x, &s, &c);
        worst = fmax(worst, fmax(fabs(s - sin(x)), fabs(c - cos(x))));
    }
    assert_true(worst < 1e-15);
    worst = 0;
    for (double x = 1e-6; x < 1e7; x *= 1.00173)
        worst = fmax(worst, fabs(srn_log(x) - log(x)) / fmax(1, fabs(log(x))));
    assert_true(worst < 5e-16);
    worst = 0;
    for (double x = -600; x < 600; x += 0.0617) worst = fmax(worst, fabs(srn_exp(x) / exp(x) - 1));
    assert_true(worst < 1e-15);
    assert_true(fabs(srn_pow(1e6, -0.37) / pow(1e6, -0.37) - 1) < 1e-14);
}

static void single_precision_bits_are_fixed(void **state) {
    (void)state;
    static const float at[] = {0.0f, 1.0f, -1.0f, 0.3f, -17.25f, 80.0f, -100.0f, 100.0f};
    uint64_t h = 1469598103934665603u; /* FNV-1a over the results */
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        uint32_t u[4] = {srn_bits_f32(srn_expf(at[i])), srn_bits_f32(srn_tanhf(at[i])),
                         srn_bits_f32(srn_siluf(at[i])), srn_bits_f32(srn_geluf(at[i]))};
        for (size_t k = 0; k < 4; k++) h = (h ^ u[k]) * 1099511628211u;
    }
    assert_int_equal(srn_bits_f32(srn_expf(0.0f)), 0x3f800000);
    assert_true(h == 0x8296043f0cb32135u);
}

static void tree_adds_by_halves(void **state) {
    (void)state;
    float s[16], want;
    for (int i = 0; i < 16; i++) s[i] = 1.0f / (float)(i * i + 3);
    float a[8];
    for (int i = 0; i < 8; i++) a[i] = s[i] + s[i + 8];
    want = ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
    assert_int_equal(srn_bits_f32(srn_tree16(s)), srn_bits_f32(want));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_precision_functions_are_within_a_few_ulp),
        cmocka_unit_test(double_precision_functions_are_within_a_few_ulp),
        cmocka_unit_test(single_precision_bits_are_fixed),
        cmocka_unit_test(tree_adds_by_halves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
