/* The encoders of src/quant: how near the decoded values come, on Gaussian weights; blocks of zeros, of one
 * value, and of values that no scale can hold.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "quant/quant.h"

enum { N = 64 * 256, SEED = 20261122 };

/* What a type can do: root of the mean squared error over that of the weights, for Gaussian weights. Bounds
 * are about 2 % over what the encoders reach. */
static const struct row {
    srn_type type;
    double bound;
} rows[] = {
    {SRN_Q8_0, 0.0054},   {SRN_Q6_K, 0.0169},   {SRN_Q5_K, 0.0366},    {SRN_Q5_1, 0.0348},
    {SRN_Q5_0, 0.0402},   {SRN_Q4_K, 0.0724},   {SRN_Q4_1, 0.0712},    {SRN_Q4_0, 0.0812},
    {SRN_IQ4_NL, 0.0754}, {SRN_IQ4_XS, 0.076},  {SRN_MXFP4, 0.1175},   {SRN_NVFP4, 0.0974},
    {SRN_Q3_K, 0.1452},   {SRN_Q2_K, 0.2757},   {SRN_Q2_0, 0.366},     {SRN_TQ2_0, 0.442},
    {SRN_TQ1_0, 0.442},   {SRN_Q1_0, 0.6111},   {SRN_IQ3_S, 0.1396},   {SRN_IQ3_XXS, 0.1862},
    {SRN_IQ2_S, 0.2474},  {SRN_IQ2_XS, 0.2987}, {SRN_IQ2_XXS, 0.3365}, {SRN_IQ1_M, 0.4242},
    {SRN_IQ1_S, 0.4536},  {SRN_F32, 0},         {SRN_F16, 0.0003},     {SRN_BF16, 0.0017},
};

/* Sums of uniform values: near enough to Gaussian. */
static void gaussian(float *x, size_t n, float std) {
    uint64_t state = SEED;
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < 12; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            sum += (double)(state >> 40) * 0x1p-24 - 0.5;
        }
        x[i] = (float)sum * std;
    }
}

static double error_of(srn_type type, const float *x, size_t n) {
    const srn_type_info *t = srn_type_get((uint32_t)type);
    uint8_t *block = malloc(n / t->block_elems * t->block_bytes);
    float *back = malloc(n * sizeof *back);
    assert_true(srn_quantize(type, x, block, n));
    srn_dequant(type, block, back, n);
    double error = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        assert_true(isfinite(back[i]));
        error += ((double)x[i] - back[i]) * ((double)x[i] - back[i]);
        all += (double)x[i] * x[i];
    }
    free(block);
    free(back);
    return all > 0 ? sqrt(error / all) : sqrt(error);
}

static void decoded_values_are_near(void **state) {
    (void)state;
    float *x = malloc(N * sizeof *x);
    for (size_t i = 0; i < SRN_LEN(rows); i++) {
        gaussian(x, N, 0.7f);
        double e = error_of(rows[i].type, x, N);
        print_message("%-8s %.4f\n", srn_type_get((uint32_t)rows[i].type)->name, e);
        assert_true(e <= rows[i].bound);
    }
    free(x);
}

/* Every type whose codes have a zero; for the others a block of zeros is small. */
static void zeros_stay_zeros(void **state) {
    (void)state;
    static const float x[256];
    for (size_t i = 0; i < SRN_LEN(rows); i++) assert_true(error_of(rows[i].type, x, 256) == 0);
}

/* What no half can hold, alone or as a difference: decoded values must be finite all the same. */
static void extremes_stay_finite(void **state) {
    (void)state;
    float x[256];
    static const float sizes[] = {1e-38f, 1e-7f, 3e-5f, 1.0f, 1000.0f, 60000.0f};
    for (size_t i = 0; i < SRN_LEN(rows); i++)
        for (size_t k = 0; k < SRN_LEN(sizes); k++) {
            for (int j = 0; j < 256; j++) x[j] = j == 77 ? -sizes[k] : j == 78 ? sizes[k] : 0;
            (void)error_of(rows[i].type, x, 256);
            for (int j = 0; j < 256; j++) x[j] = sizes[k];
            (void)error_of(rows[i].type, x, 256);
            for (int j = 0; j < 256; j++) x[j] = -sizes[k] * (float)(j % 7);
            if (sizes[k] < 9000) (void)error_of(rows[i].type, x, 256);
        }
}

static void blocks_do_not_depend_on_each_other(void **state) {
    (void)state;
    float x[1024];
    uint8_t whole[4096], parts[4096];
    gaussian(x, 1024, 0.02f);
    for (size_t i = 0; i < SRN_LEN(rows); i++) {
        uint64_t bytes, quarter;
        assert_true(srn_type_bytes(rows[i].type, 1024, &bytes) &&
                    srn_type_bytes(rows[i].type, 256, &quarter));
        assert_true(srn_quantize(rows[i].type, x, whole, 1024));
        for (size_t k = 0; k < 4; k++)
            assert_true(srn_quantize(rows[i].type, x + 256 * k, parts + quarter * k, 256));
        assert_memory_equal(whole, parts, bytes);
    }
}

static void what_cannot_be_encoded_is_refused(void **state) {
    (void)state;
    static const float x[256];
    uint8_t out[1024] = {0xAB};
    static const srn_type none[] = {SRN_Q8_1, SRN_Q8_K,    SRN_I8,       SRN_I32,
                                    SRN_F64,  (srn_type)4, (srn_type)36, SRN_TYPE_END};
    for (size_t i = 0; i < SRN_LEN(none); i++) {
        assert_false(srn_can_quantize(none[i]));
        assert_false(srn_quantize(none[i], x, out, 256));
    }
    assert_false(srn_quantize(SRN_Q4_K, x, out, 128)); /* half a block */
    assert_int_equal(out[0], 0xAB);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoded_values_are_near), cmocka_unit_test(zeros_stay_zeros),
        cmocka_unit_test(extremes_stay_finite), cmocka_unit_test(blocks_do_not_depend_on_each_other),
        cmocka_unit_test(what_cannot_be_encoded_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
