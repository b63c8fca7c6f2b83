/* quant: the table of types, half precision, and properties of the dequantisers and group codes that hold for
 * any bytes. The values themselves are compared with an independent implementation in
 * tests/cli/test_quant.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "quant/quant.h"

static uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static void every_id_below_the_end_has_a_row(void **state) {
    (void)state;
    for (uint32_t id = 0; id < SRN_TYPE_END; id++) {
        const srn_type_info *t = srn_type_get(id);
        assert_non_null(t);
        assert_int_equal(t->block_elems == 0, t->refused != NULL);
        if (t->form > SRN_FORM_FLOAT) {
            assert_int_equal(t->block_elems % 32, 0);
            assert_true(t->q_min >= -128 && t->q_max <= 127 && t->q_min < t->q_max);
        }
    }
    assert_null(srn_type_get(SRN_TYPE_END));
    assert_null(srn_type_get(UINT32_MAX));
}

static void removed_and_foreign_types_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        uint32_t id;
        const char *name;
    } refused[] = {{4, "Q4_2"},      {5, "Q4_3"},        {9, "Q8_1"},    {15, "Q8_K"},   {31, "Q4_0_4_4"},
                   {33, "Q4_0_8_8"}, {36, "IQ4_NL_4_4"}, {133, "Q6_0"},  {137, "IQ2_K"}, {144, "IQ4_KS"},
                   {152, "IQ5_KS"},  {157, "IQ2_KL"},    {158, "IQ1_KT"}};
    for (size_t i = 0; i < SRN_LEN(refused); i++) {
        const srn_type_info *t = srn_type_get(refused[i].id);
        assert_non_null(t);
        assert_string_equal(t->name, refused[i].name);
        assert_non_null(t->refused);
        uint64_t bytes = 7;
        assert_false(srn_type_bytes((srn_type)refused[i].id, 256, &bytes));
        assert_int_equal(bytes, 7);
    }
    assert_null(srn_type_get(142));
    assert_non_null(srn_type_get(212)->refused);
}

static void bytes_of_elements_refuse_part_blocks_and_overflow(void **state) {
    (void)state;
    uint64_t b = 0;
    assert_true(srn_type_bytes(SRN_Q4_K, 512, &b));
    assert_int_equal(b, 288);
    assert_true(srn_type_bytes(SRN_NVFP4, 64, &b));
    assert_int_equal(b, 36);
    assert_true(srn_type_bytes(SRN_F64, 3, &b));
    assert_int_equal(b, 24);
    assert_true(srn_type_bytes(SRN_Q4_K, 0, &b));
    assert_int_equal(b, 0);
    assert_false(srn_type_bytes(SRN_Q4_K, 255, &b));
    assert_false(srn_type_bytes(SRN_Q4_0, 16, &b));
    assert_false(srn_type_bytes(SRN_F64, UINT64_MAX / 4, &b));
    assert_int_equal(b, 0);
}

static void f16_is_exact_and_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = srn_f16_to_f32((uint16_t)h);
        uint32_t exp = (h >> 10) & 31, man = h & 1023;
        if (exp == 31 && man) {
            assert_true(isnan(f));
            assert_int_equal(srn_f32_to_f16(f), h | 0x200);
            continue;
        }
        double v = exp == 31 ? INFINITY : exp ? ldexp(1024 + man, (int)exp - 25) : ldexp(man, -24);
        assert_int_equal(bits_of(f), bits_of((float)(h & 0x8000 ? -v : v)));
        assert_int_equal(srn_f32_to_f16(f), h);
        if (exp == 31 || (h & 0x7FFF) == 0x7BFF) continue;
        /* halfway to the next magnitude goes to the even one, the neighbours of halfway do not */
        float next = srn_f16_to_f32((uint16_t)(h + 1)), mid = f + (next - f) / 2;
        assert_int_equal(srn_f32_to_f16(mid), h & 1 ? h + 1 : h);
        assert_int_equal(srn_f32_to_f16(nextafterf(mid, f)), h);
        assert_int_equal(srn_f32_to_f16(nextafterf(mid, next)), h + 1);
    }
    assert_int_equal(srn_f32_to_f16(65519.996f), 0x7BFF);
    assert_int_equal(srn_f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(srn_f32_to_f16(-3e38f), 0xFC00);
    assert_int_equal(srn_f32_to_f16(1e-45f), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_id_below_the_end_has_a_row),
        cmocka_unit_test(removed_and_foreign_types_are_refused_by_name),
        cmocka_unit_test(bytes_of_elements_refuse_part_blocks_and_overflow),
        cmocka_unit_test(f16_is_exact_and_rounds_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
