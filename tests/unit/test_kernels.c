/* Every kernel table that this CPU can run against the reference, to the bit: all types, shapes with tails,
 * adversarial scales and activations, work split at random, outputs poisoned, guard bytes around every
 * buffer. SERIN_SEED repeats a run; the seed is printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "cpu/cpu_internal.h"

#define GUARD     128
#define MAX_MACS  600000u
#define N_TABLES  8
#define MAX_K     8192
#define MAX_N     140
#define MAX_CALLS 64

static uint64_t rng_state;

static uint64_t rng(void) {
    uint64_t z = (rng_state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static uint32_t below(uint32_t n) {
    return (uint32_t)(rng() % n);
}
static float uniform(void) {
    return (float)(rng() >> 40) * 0x1p-24f;
}
static float gaussian(void) {
    float s = 0;
    for (int i = 0; i < 12; i++) s += uniform();
    return s - 6.0f;
}

/* ---- guarded buffers ---- */

typedef struct guarded {
    uint8_t *base, *data;
    size_t bytes;
} guarded;

static guarded guarded_new(size_t bytes) {
    guarded g = {.bytes = bytes};
    g.base = srn_aligned_calloc(1, bytes + 2 * GUARD);
    assert_non_null(g.base);
    memset(g.base, 0xA5, bytes + 2 * GUARD);
    g.data = g.base + GUARD;
    return g;
}
static void guarded_free(guarded *g) {
    for (int i = 0; i < GUARD; i++) {
        assert_int_equal(g->base[i], 0xA5);
        assert_int_equal(g->data[g->bytes + (size_t)i], 0xA5);
    }
    srn_aligned_free(g->base);
}

/* ---- weights ---- */

enum { SCALES_USUAL, SCALES_SUBNORMAL, SCALES_HUGE, SCALES_ANY, SCALES_FF, N_SCALES, SCALES_GREATEST };

/* Where a block keeps its f16 scales; -1: none. */
static const struct {
    srn_type type;
    int at[2];
} scale_fields[] = {
    {SRN_Q4_0, {0, -1}},   {SRN_Q4_1, {0, 2}},     {SRN_Q5_0, {0, -1}},    {SRN_Q5_1, {0, 2}},
    {SRN_Q8_0, {0, -1}},   {SRN_Q2_K, {80, 82}},   {SRN_Q3_K, {108, -1}},  {SRN_Q4_K, {0, 2}},
    {SRN_Q5_K, {0, 2}},    {SRN_Q6_K, {208, -1}},  {SRN_IQ2_XXS, {0, -1}}, {SRN_IQ2_XS, {0, -1}},
    {SRN_IQ2_S, {0, -1}},  {SRN_IQ3_XXS, {0, -1}}, {SRN_IQ3_S, {0, -1}},   {SRN_IQ1_S, {0, -1}},
    {SRN_IQ4_NL, {0, -1}}, {SRN_IQ4_XS, {0, -1}},  {SRN_TQ1_0, {52, -1}},  {SRN_TQ2_0, {64, -1}},
    {SRN_Q1_0, {0, -1}},   {SRN_Q2_0, {0, -1}},
};

static uint16_t random_scale(int kind) {
    uint16_t sign = (uint16_t)(below(4) == 0 ? 0x8000 : 0), mantissa = (uint16_t)below(1024);
    switch (kind) {
    case SCALES_SUBNORMAL:
        return sign | mantissa;
    case SCALES_HUGE:
        return (uint16_t)(sign | 30 << 10 | mantissa);
    case SCALES_ANY:
        return (uint16_t)rng();
    default:
        return (uint16_t)(sign | (4 + below(8)) << 10 | mantissa);
    }
}

static void fill_floats(srn_type type, uint8_t *raw, size_t n, int kind) {
    for (size_t i = 0; i < n; i++) {
        float f = gaussian() * (kind == SCALES_SUBNORMAL ? 1e-40f : kind == SCALES_HUGE ? 1e37f : 1.0f);
        double d = (double)f;
        uint16_t h = srn_f32_to_f16(kind == SCALES_USUAL ? f : f * 1e-6f);
        uint32_t bits = srn_bits_f32(f);
        uint16_t b = (uint16_t)(bits >> 16);
        if (type == SRN_F32) memcpy(raw + 4 * i, &f, 4);
        if (type == SRN_F64) memcpy(raw + 8 * i, &d, 8);
        if (type == SRN_F16) memcpy(raw + 2 * i, &h, 2);
        if (type == SRN_BF16) memcpy(raw + 2 * i, &b, 2);
    }
}

/* Scales that are not halves in one place: exponents of MXFP4, the spread half of IQ1_M. */
static void fill_odd_scales(srn_type type, uint8_t *block, int kind) {
    if (type == SRN_MXFP4 && kind != SCALES_ANY)
        block[0] = (uint8_t)(kind == SCALES_SUBNORMAL ? below(4)
                             : kind == SCALES_HUGE    ? 240 + below(16)
                                                      : 110 + below(20));
    if (type == SRN_IQ1_M) {
        uint16_t h = random_scale(kind);
        for (int i = 0; i < 4; i++)
            block[49 + 2 * i] = (uint8_t)((block[49 + 2 * i] & 15) | (h >> 4 * i & 15) << 4);
    }
}

static void fill_weights(srn_type type, uint8_t *raw, size_t bytes, int kind) {
    const srn_type_info *t = srn_type_get((uint32_t)type);
    bool codes_ff = below(8) == 0;
    for (size_t i = 0; i < bytes; i++) raw[i] = kind == SCALES_FF || codes_ff ? 0xFF : (uint8_t)rng();
    if (kind == SCALES_FF) return;
    if (t->form == SRN_FORM_FLOAT) {
        fill_floats(type, raw, bytes / t->block_bytes, kind);
        return;
    }
    if (type == SRN_Q8_0 && below(4) == 0) memset(raw, 0x80, bytes);
    if (type == SRN_Q6_K && (kind == SCALES_GREATEST ||
                             below(4) == 0)) /* least codes and scales: the greatest sums of all types */
        for (size_t b = 0; b < bytes; b += t->block_bytes) {
            memset(raw + b, 0, 192);
            memset(raw + b + 192, 0x80, 16);
        }
    for (size_t b = 0; b < bytes; b += t->block_bytes) fill_odd_scales(type, raw + b, kind);
    for (size_t s = 0; s < SRN_LEN(scale_fields); s++)
        for (int f = 0; f < 2 && scale_fields[s].type == type; f++)
            for (size_t b = 0; b < bytes && scale_fields[s].at[f] >= 0; b += t->block_bytes) {
                uint16_t h = random_scale(kind);
                memcpy(raw + b + scale_fields[s].at[f], &h, 2);
            }
}

/* ---- activations ---- */

enum {
    ACT_GAUSSIAN,
    ACT_OUTLIERS,
    ACT_ZEROS,
    ACT_TINY,
    ACT_HUGE,
    ACT_TIES,
    ACT_EXTREME,
    ACT_EQUAL,
    ACT_MIXED,
    N_ACTS
};

static float random_activation(int kind) {
    float g = gaussian(), sign = below(2) ? 1.0f : -1.0f;
    switch (kind) {
    case ACT_OUTLIERS:
        return below(50) == 0 ? g * 40.0f : g;
    case ACT_ZEROS:
        return below(40) ? 0.0f * sign : g;
    case ACT_TINY:
        return g * (below(2) ? 0x1p-101f : 0x1p-140f);
    case ACT_HUGE:
        return g * 5e37f;
    case ACT_TIES:
        return sign * ((float)below(128) + 0.5f * (float)below(2));
    case ACT_EXTREME:
        return sign * 3.0f;
    case ACT_EQUAL:
        return 3.0f;
    case ACT_MIXED:
        return ldexpf(g, (int)below(200) - 110);
    default:
        return g;
    }
}

static void fill_activations(float *x, size_t n, int kind) {
    for (size_t i = 0; i < n; i++) {
        float v = random_activation(kind);
        x[i] = srn_is_finite(v) ? v : 0.0f;
        if (kind == ACT_TIES && i % 32 == 0) x[i] = 127.0f;
    }
}

/* ---- one product by one table ---- */

typedef struct problem {
    srn_type type;
    uint32_t rows, k, n, planes, n_cols;
    const uint32_t *cols; /* n_cols column indices, or NULL */
    const uint8_t *raw;
    const float *x;
    size_t x_stride, y_stride;
} problem;

/* Cuts [0, n) at random places: fills cut[0..*ret_n], cut[0] = 0, cut[*ret_n] = n. */
static void random_cuts(uint32_t n, uint32_t *cut, uint32_t *ret_n) {
    uint32_t c = 0, at = 0;
    cut[0] = 0;
    while (at < n && c + 2 < MAX_CALLS) {
        at += 1 + below(below(3) ? n : 1 + n / 8);
        cut[++c] = SRN_MIN(at, n);
    }
    if (cut[c] < n) cut[++c] = n;
    *ret_n = c;
}

static bool quantize_in_parts(const srn_kernels *k, const srn_act *a) {
    bool finite = true;
    uint32_t cut_c[MAX_CALLS], cut_g[MAX_CALLS], nc, ng;
    random_cuts(a->n, cut_c, &nc);
    for (uint32_t i = 0; i < nc; i++) {
        random_cuts(a->k / SRN_GROUP, cut_g, &ng);
        for (uint32_t j = 0; j < ng; j++)
            finite &= k->quantize(a, cut_c[i], cut_c[i + 1], cut_g[j], cut_g[j + 1]);
    }
    return finite;
}

static void pack_in_parts(const srn_kernels *k, srn_packed *w) {
    uint32_t cut[MAX_CALLS], n;
    random_cuts(srn__panel_count(w), cut, &n);
    for (uint32_t i = 0; i < n; i++) k->pack(w, cut[i], cut[i + 1]);
}

/* y: n_cols * y_stride floats. Returns what quantize said. */
static bool run_table(const srn_kernels *k, const problem *p, float *y) {
    const srn_type_info *t = srn_type_get((uint32_t)p->type);
    srn_packed w = {.type = p->type, .form = t->form, .rows = p->rows, .cols = p->k, .raw = p->raw};
    uint64_t row_bytes;
    assert_true(srn_type_bytes(p->type, p->k, &row_bytes));
    w.row_bytes = (size_t)row_bytes;
    w.panel_bytes = k->panel_bytes(p->type, p->k);
    guarded panels = guarded_new(w.panel_bytes * srn__panel_count(&w));
    if (w.panel_bytes) {
        w.panels = panels.data;
        pack_in_parts(k, &w);
    }
    srn_act a = {.x = p->x, .x_stride = p->x_stride, .k = p->k, .n = p->n, .planes = p->planes};
    bool floats = t->form == SRN_FORM_FLOAT, finite = true;
    guarded q = guarded_new(floats ? 0 : k->act_bytes(p->k, p->n, p->planes));
    if (!floats) {
        a.q = q.data;
        finite = quantize_in_parts(k, &a);
    }
    guarded scratch = guarded_new(k->scratch_bytes(p->k));
    uint32_t cut[MAX_CALLS], n;
    random_cuts(srn__panel_count(&w), cut, &n);
    for (uint32_t i = 0; i < n; i++) {
        memset(scratch.data, 0xFF, scratch.bytes);
        k->matmul(&w, cut[i], cut[i + 1], &a, p->cols, p->n_cols, y, p->y_stride, scratch.data);
    }
    guarded_free(&scratch);
    guarded_free(&q);
    guarded_free(&panels);
    return finite;
}

/* ---- comparison ---- */

static srn_kernels tables[N_TABLES];
static int n_tables;

static void check_same(const problem *p, const char *name, const float *want, const float *got) {
    for (uint32_t c = 0; c < p->n_cols; c++)
        for (size_t r = 0; r < p->y_stride; r++) {
            size_t i = c * p->y_stride + r;
            /* which NaN an operation makes is the one thing that IEEE leaves open */
            bool both_nan = isnan(want[i]) && isnan(got[i]) && r < p->rows;
            if (srn_bits_f32(want[i]) == srn_bits_f32(got[i]) || both_nan) continue;
            fail_msg("%s differs from ref: %s rows %u k %u n %u planes %u, column %u of %u%s row %u: "
                     "%a (%08x), want %a (%08x)",
                     name, srn_type_get((uint32_t)p->type)->name, p->rows, p->k, p->n, p->planes, c,
                     p->n_cols, p->cols ? " (list)" : "", (unsigned)r, (double)got[i], srn_bits_f32(got[i]),
                     (double)want[i], srn_bits_f32(want[i]));
        }
}

static void compare_tables(problem *p, int scales, int acts, bool poison_input) {
    uint64_t row_bytes;
    assert_true(srn_type_bytes(p->type, p->k, &row_bytes));
    size_t raw_bytes = (size_t)row_bytes * p->rows;
    guarded raw = guarded_new(raw_bytes), x = guarded_new(p->n * p->x_stride * sizeof(float));
    fill_weights(p->type, raw.data, raw_bytes, scales);
    float *xs = (float *)(void *)x.data;
    fill_activations(xs, p->n * p->x_stride, acts);
    if (poison_input) {
        static const uint32_t bad[] = {0x7f800000u, 0xff800000u, 0x7fc00000u, 0xffffffffu, 0x7f800001u};
        xs[below(p->n) * p->x_stride + below(p->k)] = srn_f32_bits(bad[below(SRN_LEN(bad))]);
    }
    p->raw = raw.data, p->x = xs;
    size_t y_bytes = p->n_cols * p->y_stride * sizeof(float);
    guarded want = guarded_new(y_bytes), got = guarded_new(y_bytes);
    memset(want.data, 0xFF, y_bytes);
    bool finite = run_table(&tables[0], p, (float *)(void *)want.data);
    if (srn_type_get((uint32_t)p->type)->form != SRN_FORM_FLOAT) assert_int_equal(finite, !poison_input);
    for (int t = 1; t < n_tables; t++) {
        memset(got.data, 0xFF, y_bytes);
        assert_int_equal(run_table(&tables[t], p, (float *)(void *)got.data), finite);
        check_same(p, tables[t].name, (float *)(void *)want.data, (float *)(void *)got.data);
    }
    guarded_free(&want);
    guarded_free(&got);
    guarded_free(&raw);
    guarded_free(&x);
}

static bool usable(srn_type type) {
    const srn_type_info *t = srn_type_get((uint32_t)type);
    return t && !t->refused && t->form != SRN_FORM_NONE;
}

static uint32_t random_k(srn_type type) {
    static const uint32_t ks[] = {32,  64,  96,   256,  288,  320,  512,  544,  576,  640,  768,
                                  960, 992, 1024, 1536, 1568, 2048, 2304, 2560, 4096, 4128, 8192};
    const srn_type_info *t = srn_type_get((uint32_t)type);
    if (t->form == SRN_FORM_FLOAT && below(3) == 0) return 1 + below(3000);
    uint32_t k = ks[below(SRN_LEN(ks))];
    return (k + t->block_elems - 1u) / t->block_elems * t->block_elems;
}

static void random_problem(srn_type type, uint32_t n, uint32_t *list, problem *p) {
    *p = (problem){.type = type, .k = random_k(type), .n = n, .planes = 1 + below(2)};
    uint32_t limit = MAX_MACS / (p->k * n);
    p->rows = 1 + below(SRN_MAX(1, SRN_MIN(limit, 100)));
    p->n_cols = below(3) ? n : 1 + below(n);
    if (below(3) == 0) {
        for (uint32_t i = 0; i < p->n_cols; i++) list[i] = below(n);
        p->cols = list;
    }
    p->x_stride = p->k + below(3) * 5;
    p->y_stride = p->rows + below(3) * 7;
}

static void every_table_gives_the_bits_of_the_reference(void **state) {
    (void)state;
    uint32_t list[MAX_N];
    for (int type = 0; type < SRN_TYPE_END; type++) {
        if (!usable((srn_type)type)) continue;
        for (uint32_t trial = 0; trial < 60; trial++) {
            uint32_t n = trial < 36 ? 1 + trial : trial < 48 ? 1 + below(6) : 1 + below(MAX_N);
            problem p;
            random_problem((srn_type)type, n, list, &p);
            int scales = below(3) ? SCALES_USUAL : (int)below(N_SCALES);
            int acts = below(3) ? ACT_GAUSSIAN : (int)below(N_ACTS);
            compare_tables(&p, scales, acts, false);
        }
    }
}

/* The halves of a group of two planes need 33 bits together: each table's own way for that, in each of its
 * tiles. */
static void the_greatest_sums_of_all_types_give_the_bits_of_the_reference(void **state) {
    (void)state;
    for (uint32_t n = 1; n <= 20; n++)
        for (uint32_t k = 256; k <= 1024; k *= 2) {
            problem p = {.type = SRN_Q6_K,
                         .rows = 17,
                         .k = k,
                         .n = n,
                         .n_cols = n,
                         .planes = 2,
                         .x_stride = k,
                         .y_stride = 17};
            compare_tables(&p, SCALES_GREATEST, ACT_EQUAL, false);
        }
}

static void adversarial_data_gives_the_bits_of_the_reference(void **state) {
    (void)state;
    uint32_t list[MAX_N];
    for (int type = 0; type < SRN_TYPE_END; type++) {
        if (!usable((srn_type)type)) continue;
        for (int scales = 0; scales < N_SCALES; scales++)
            for (int acts = 0; acts < N_ACTS; acts++) {
                problem p;
                random_problem((srn_type)type, 1 + below(9), list, &p);
                p.rows = SRN_MIN(p.rows, 20);
                compare_tables(&p, scales, acts, false);
            }
    }
}

static void non_finite_activations_are_reported_by_every_table(void **state) {
    (void)state;
    uint32_t list[MAX_N];
    for (int trial = 0; trial < 60; trial++) {
        problem p;
        random_problem(trial % 2 ? SRN_Q8_0 : SRN_Q4_1, 1 + below(9), list, &p);
        p.rows = 1;
        compare_tables(&p, SCALES_USUAL, (int)below(N_ACTS), true);
    }
}

/* ---- the reference itself ---- */

/* Root mean square of the error against binary64 over dequantised weights, relative to that of the result. */
static double error_of_reference(srn_type type, uint32_t planes) {
    enum { ROWS = 48, K = 768, N = 3 };
    static uint8_t raw[ROWS * K * 8];
    static float x[N * K], w[K], y[N * ROWS];
    uint64_t row_bytes = 0;
    assert_true(srn_type_bytes(type, K, &row_bytes));
    fill_weights(type, raw, (size_t)row_bytes * ROWS, SCALES_USUAL);
    fill_activations(x, N * K, ACT_GAUSSIAN);
    problem p = {
        .type = type, .rows = ROWS, .k = K, .n = N, .planes = planes, .n_cols = N, .raw = raw, .x = x};
    p.x_stride = K, p.y_stride = ROWS;
    assert_true(run_table(&tables[0], &p, y));
    double error = 0, size = 0;
    for (uint32_t r = 0; r < ROWS; r++) {
        srn_dequant(type, raw + r * row_bytes, w, K);
        for (uint32_t c = 0; c < N; c++) {
            double exact = 0;
            for (uint32_t i = 0; i < K; i++) exact += (double)w[i] * (double)x[c * K + i];
            if (!isfinite(exact)) continue;
            error += (exact - (double)y[c * ROWS + r]) * (exact - (double)y[c * ROWS + r]);
            size += exact * exact;
        }
    }
    assert_true(size > 0);
    return sqrt(error / size);
}

static void the_reference_is_close_to_the_exact_product(void **state) {
    (void)state;
    for (int type = 0; type < SRN_TYPE_END; type++) {
        if (!usable((srn_type)type)) continue;
        double one = error_of_reference((srn_type)type, 1), two = error_of_reference((srn_type)type, 2);
        if (srn_type_get((uint32_t)type)->form == SRN_FORM_FLOAT) {
            assert_true(one < 1e-6 && two < 1e-6);
            continue;
        }
        if (!(one > 1e-4 && one < 0.02 && two < 1e-4))
            fail_msg("%s: error %g with one plane, %g with two", srn_type_get((uint32_t)type)->name, one,
                     two);
    }
}

static void runs_cut_rows_at_whole_blocks_and_add_up(void **state) {
    (void)state;
    assert_int_equal(srn__run_count(32), 1);
    assert_int_equal(srn__run_count(511), 1);
    assert_int_equal(srn__run_count(512), 2);
    assert_int_equal(srn__run_count(576), 2);
    assert_int_equal(srn__run_count(1536), 4);
    assert_int_equal(srn__run_count(2048), 8);
    assert_int_equal(srn__run_count(1 << 20), 8);
    for (uint32_t k = 32; k < 9000; k += 32)
        for (uint32_t block = 32; block <= 256; block *= 2) {
            uint32_t runs = srn__run_count(k);
            if (k % block) continue;
            assert_int_equal(srn__run_start(k, block, 0, runs), 0);
            assert_int_equal(srn__run_start(k, block, runs, runs), k);
            for (uint32_t r = 0; r < runs; r++) {
                uint32_t a = srn__run_start(k, block, r, runs), b = srn__run_start(k, block, r + 1, runs);
                assert_true(a < b && a % block == 0);
            }
        }
}

static void the_ladder_refuses_unknown_levels(void **state) {
    (void)state;
    srn_kernels k;
    srn_err err;
    assert_int_equal(srn__kernels_select("sse9", &k, &err), SRN_EINVAL);
    assert_non_null(strstr(err.text, "sse9"));
    assert_int_equal(srn__kernels_select(NULL, &k, &err), 0);
    assert_string_equal(k.name, tables[n_tables - 1].name);
    for (int i = 0; i < n_tables; i++) assert_string_equal(tables[i].name, srn__kernels_available()[i]);
}

int main(void) {
    const char *seed = getenv("SERIN_SEED");
    rng_state = seed ? strtoull(seed, NULL, 0) : srn_now_us();
    printf("SERIN_SEED=%llu, tables:", (unsigned long long)rng_state);
    for (const char *const *name = srn__kernels_available(); *name && n_tables < N_TABLES; name++) {
        srn_err err;
        if (srn__kernels_select(*name, &tables[n_tables], &err) != 0) {
            printf(" %s: %s\n", *name, err.text);
            return 1;
        }
        printf(" %s", tables[n_tables++].name);
    }
    printf("\n");
    fflush(stdout);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_cut_rows_at_whole_blocks_and_add_up),
        cmocka_unit_test(the_ladder_refuses_unknown_levels),
        cmocka_unit_test(the_reference_is_close_to_the_exact_product),
        cmocka_unit_test(every_table_gives_the_bits_of_the_reference),
        cmocka_unit_test(the_greatest_sums_of_all_types_give_the_bits_of_the_reference),
        cmocka_unit_test(adversarial_data_gives_the_bits_of_the_reference),
        cmocka_unit_test(non_finite_activations_are_reported_by_every_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
