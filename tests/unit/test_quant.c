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

/* ---- dequantisers and groups ---- */

#define BLOCKS 40
#define SEED   0x5EED0001u

static uint32_t next_random(uint32_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 17;
    return *x ^= *x << 5;
}

/* Calls check for every type with integer codes, on random, all-zero, all-one and other constant bytes. src
 * is allocated to the byte, one past an aligned address, so that a sanitizer sees any read outside and any
 * load that needs alignment. */
static void for_every_coded_type(void (*check)(srn_type, const srn_type_info *, const uint8_t *, size_t n)) {
    static const int constants[] = {-1, 0x00, 0xFF, 0x7F, 0x80, 0x7C};
    print_message("seed %#x\n", SEED);
    uint32_t x = SEED;
    for (uint32_t id = 0; id < SRN_TYPE_END; id++) {
        const srn_type_info *t = srn_type_get(id);
        if (t->form <= SRN_FORM_FLOAT) continue;
        size_t bytes = (size_t)BLOCKS * t->block_bytes;
        uint8_t *raw = malloc(bytes + 1);
        assert_non_null(raw);
        for (size_t c = 0; c < SRN_LEN(constants); c++) {
            for (size_t i = 0; i <= bytes; i++)
                raw[i] = constants[c] < 0 ? (uint8_t)(next_random(&x) >> 11) : (uint8_t)constants[c];
            check((srn_type)id, t, raw + 1, (size_t)BLOCKS * t->block_elems);
        }
        free(raw);
    }
}

static void check_groups_are_the_values(srn_type type, const srn_type_info *t, const uint8_t *src, size_t n) {
    float *w = malloc(n * sizeof *w);
    srn_group *groups = malloc(n / 32 * sizeof *groups);
    assert_true(w && groups);
    srn_dequant(type, src, w, n);
    srn_group_decode(type, src, groups, n);
    for (size_t i = 0; i < n; i++) {
        const srn_group *g = &groups[i / 32];
        size_t h = i % 32 / 16;
        double q = g->q[i % 32], v = 0;
        assert_in_range(g->q[i % 32] + 128, t->q_min + 128, t->q_max + 128);
        if (t->form == SRN_FORM_SCALE) v = (double)g->d * q;
        if (t->form == SRN_FORM_SCALE_MIN) v = (double)g->d * q + (double)g->m;
        if (t->form == SRN_FORM_SUB) v = (double)g->d * g->sc[h] * q;
        if (t->form == SRN_FORM_SUB_MIN) v = (double)g->d * g->sc[h] * q + (double)g->m * g->mn[h];
        if (t->form == SRN_FORM_SPLIT) v = (double)g->d2[h] * q;
        if (isnan(v))
            assert_true(isnan(w[i]));
        else if (bits_of(w[i]) != bits_of((float)v))
            fail_msg("%s weight %zu: %a, the group says %a", t->name, i, (double)w[i], v);
    }
    free(w);
    free(groups);
}

static void any_bytes_give_groups_that_are_the_values(void **state) {
    (void)state;
    for_every_coded_type(check_groups_are_the_values);
}

static void check_blocks_are_independent(srn_type type, const srn_type_info *t, const uint8_t *src,
                                         size_t n) {
    enum { GUARD = 0x5A };
    float *all = malloc(n * sizeof *all), one[256 + 1];
    srn_group *groups = malloc(n / 32 * sizeof *groups), one_group[8 + 1];
    assert_true(all && groups);
    srn_dequant(type, src, all, n);
    srn_group_decode(type, src, groups, n);
    size_t elems = t->block_elems, per_block = elems / 32;
    for (size_t b = 0; b < n / elems; b++) {
        uint8_t *end = (uint8_t *)(one + elems), *group_end = (uint8_t *)(one_group + per_block);
        memset(one, GUARD, sizeof one);
        memset(one_group, GUARD, sizeof one_group);
        srn_dequant(type, src + b * t->block_bytes, one, elems);
        srn_group_decode(type, src + b * t->block_bytes, one_group, elems);
        assert_memory_equal(one, all + b * elems, elems * sizeof *one);
        assert_memory_equal(one_group, groups + b * per_block, per_block * sizeof *one_group);
        for (size_t i = 0; i < sizeof *one; i++) assert_int_equal(end[i], GUARD);
        for (size_t i = 0; i < sizeof *one_group; i++) assert_int_equal(group_end[i], GUARD);
    }
    free(all);
    free(groups);
}

static void blocks_decode_alone_as_in_a_row_and_write_nothing_more(void **state) {
    (void)state;
    for_every_coded_type(check_blocks_are_independent);
}

static void plain_numbers_convert_to_the_nearest_float(void **state) {
    (void)state;
    struct __attribute__((packed)) {
        uint8_t pad;
        double f64[4];
        int64_t i64[3];
        int32_t i32[2];
        int16_t i16[2];
        int8_t i8[2];
    } s = {.f64 = {1.0 / 3, 1e300, -1e-300, 16777217.0},
           .i64 = {INT64_MIN, INT64_MAX, 16777219},
           .i32 = {INT32_MIN, 16777217},
           .i16 = {INT16_MIN, INT16_MAX},
           .i8 = {INT8_MIN, INT8_MAX}};
    const uint8_t *at = &s.pad + 1; /* unaligned, as in a file */
    float w[4];
    srn_dequant(SRN_F64, at, w, 4);
    assert_true(w[0] == 1.0f / 3 && isinf(w[1]) && bits_of(w[2]) == 0x80000000u && w[3] == 16777216.0f);
    srn_dequant(SRN_I64, at + 32, w, 3);
    assert_true(w[0] == -0x1p63f && w[1] == 0x1p63f && w[2] == 16777220.0f);
    srn_dequant(SRN_I32, at + 56, w, 2);
    assert_true(w[0] == -0x1p31f && w[1] == 16777216.0f);
    srn_dequant(SRN_I16, at + 64, w, 2);
    assert_true(w[0] == -32768.0f && w[1] == 32767.0f);
    srn_dequant(SRN_I8, at + 68, w, 2);
    assert_true(w[0] == -128.0f && w[1] == 127.0f);
}

static void types_without_codes_or_refused_write_nothing(void **state) {
    (void)state;
    uint8_t src[512] = {0};
    srn_group g = {.d = 7};
    float w = 7;
    srn_group_decode(SRN_F32, src, &g, 32);
    srn_group_decode(SRN_I8, src, &g, 32);
    srn_group_decode(SRN_Q8_1, src, &g, 32);
    srn_group_decode((srn_type)4000, src, &g, 32);
    srn_dequant(SRN_Q8_K, src, &w, 256);
    srn_dequant((srn_type)4, src, &w, 1);
    assert_true(g.d == 7 && w == 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_id_below_the_end_has_a_row),
        cmocka_unit_test(removed_and_foreign_types_are_refused_by_name),
        cmocka_unit_test(bytes_of_elements_refuse_part_blocks_and_overflow),
        cmocka_unit_test(f16_is_exact_and_rounds_to_nearest_even),
        cmocka_unit_test(any_bytes_give_groups_that_are_the_values),
        cmocka_unit_test(blocks_decode_alone_as_in_a_row_and_write_nothing_more),
        cmocka_unit_test(plain_numbers_convert_to_the_nearest_float),
        cmocka_unit_test(types_without_codes_or_refused_write_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
