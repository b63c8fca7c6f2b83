/* Vector operations and attention: every table that this CPU can run equals the reference to the bit, on
 * random and adversarial inputs; the reference equals a plain binary64 computation to a small tolerance; and
 * nothing depends on how queries are batched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <sys/mman.h>

#include "cpu/cpu_internal.h"

#define GUARD 64 /* floats before and after every output */

static srn_kernels tables[4];
static uint32_t n_tables;
static uint64_t rng;

static int setup(void **state) {
    (void)state;
    for (const char *const *name = srn__kernels_available(); *name; name++)
        if (srn__kernels_select(*name, &tables[n_tables++], NULL)) return -1;
    const char *seed = getenv("SERIN_TEST_SEED");
    rng = seed ? strtoull(seed, NULL, 0) : 20240607;
    printf("seed %llu (SERIN_TEST_SEED), %u tables\n", (unsigned long long)rng, n_tables);
    return 0;
}

static uint32_t random_u32(void) {
    rng += 0x9e3779b97f4a7c15u;
    uint64_t z = (rng ^ (rng >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 16);
}
static uint32_t random_below(uint32_t n) {
    return random_u32() % n;
}
static float random_unit(void) { /* -1 to 1 */
    return (float)(int32_t)random_u32() * 0x1p-31f;
}

enum { PLAIN, HUGE_VALUES, TINY, SPECIAL, ALL_ZERO, N_KINDS };

static float random_value(int kind) {
    static const float special[] = {0.0f,      -0.0f,     1.0f,     -1.0f,    0x1p-149f, -0x1p-149f,
                                    0x1p-126f, -0x1p-24f, 65504.0f, 65520.0f, 1e-20f,    0.29999f,
                                    0.3f,      88.0f,     -87.0f,   -300.0f};
    switch (kind) {
    case PLAIN:
        return random_unit() * 3.0f;
    case HUGE_VALUES:
        return random_unit() * 60000.0f;
    case TINY:
        return random_unit() * (random_below(2) ? 0x1p-140f : 0x1p-20f);
    case SPECIAL:
        return random_below(4) ? special[random_below(SRN_LEN(special))] : random_unit();
    default:
        return random_below(2) ? 0.0f : -0.0f;
    }
}

static float *floats(size_t n) {
    float *p = malloc((n ? n : 1) * sizeof *p);
    assert_non_null(p);
    return p;
}
static float *random_floats(size_t n, int kind) {
    float *p = floats(n);
    for (size_t i = 0; i < n; i++) p[i] = random_value(kind);
    return p;
}

/* NaN with a payload of its own: shows writes where there should be none. */
static float poison(size_t i) {
    return srn_f32_bits(0x7fc00000u | (uint32_t)(i & 0xffff));
}
static float *guarded(size_t n) {
    float *p = floats(n + 2 * GUARD);
    for (size_t i = 0; i < n + 2 * GUARD; i++) p[i] = poison(i);
    return p;
}
static bool guards_hold(const float *p, size_t n) {
    for (size_t i = 0; i < n + 2 * GUARD; i++)
        if ((i < GUARD || i >= n + GUARD) && srn_bits_f32(p[i]) != srn_bits_f32(poison(i))) return false;
    return true;
}

/* ---- vectors ---- */

static const uint32_t lengths[] = {1,  2,  3,  7,  8,  9,   15,  16,  17,  24,  31,
                                   32, 33, 47, 64, 80, 100, 576, 640, 641, 2047};

typedef enum vector_op { OP_RMS, OP_ADD, OP_SILU, OP_GELU, N_OPS } vector_op;

static void run_op(const srn_kernels *k, vector_op op, const float *x, const float *w, uint32_t n, float *y) {
    switch (op) {
    case OP_RMS:
        k->rms_norm(x, w, 1e-5f, n, y);
        break;
    case OP_ADD:
        memcpy(y, w, n * sizeof *y);
        k->add(y, x, n);
        break;
    case OP_SILU:
        k->act_mul(SRN_ACT_SILU, x, w, n, y);
        break;
    default:
        k->act_mul(SRN_ACT_GELU, x, w, n, y);
    }
}

static void every_table_gives_the_references_vectors(void **state) {
    (void)state;
    for (size_t l = 0; l < SRN_LEN(lengths); l++)
        for (int kind = 0; kind < N_KINDS; kind++)
            for (int op = 0; op < N_OPS; op++) {
                uint32_t n = lengths[l];
                float *x = random_floats(n, kind), *w = random_floats(n, (int)random_below(N_KINDS));
                float *want = floats(n);
                run_op(&tables[0], (vector_op)op, x, w, n, want);
                for (uint32_t t = 0; t < n_tables; t++) {
                    float *y = guarded(n);
                    run_op(&tables[t], (vector_op)op, x, w, n, y + GUARD);
                    assert_memory_equal(y + GUARD, want, n * sizeof *y);
                    assert_true(guards_hold(y, n));
                    if (op != OP_ADD) { /* in place */
                        memcpy(y + GUARD, x, n * sizeof *y);
                        run_op(&tables[t], (vector_op)op, y + GUARD, w, n, y + GUARD);
                        assert_memory_equal(y + GUARD, want, n * sizeof *y);
                    }
                    free(y);
                }
                free(x), free(w), free(want);
            }
}

static void one_value_that_is_not_finite_is_found_wherever_it_is(void **state) {
    (void)state;
    static const uint32_t bad[] = {0x7f800000u, 0xff800000u, 0x7fc00000u, 0x7f800001u, 0xffffffffu};
    for (size_t l = 0; l < SRN_LEN(lengths) && lengths[l] < 600; l++)
        for (uint32_t t = 0; t < n_tables; t++) {
            uint32_t n = lengths[l];
            float *x = guarded(n); /* of NaN */
            for (uint32_t i = 0; i < n; i++)
                x[GUARD + i] = random_below(2) ? random_value(PLAIN) : -3.4028234e38f;
            assert_true(tables[t].all_finite(x + GUARD, n));
            for (uint32_t i = 0; i < n; i++) {
                float was = x[GUARD + i];
                x[GUARD + i] = srn_f32_bits(bad[i % SRN_LEN(bad)]);
                assert_false(tables[t].all_finite(x + GUARD, n));
                x[GUARD + i] = was;
            }
            free(x);
        }
}

static double near_to(double got, double want, double scale) {
    return fabs(got - want) / scale;
}

static void reference_vectors_are_accurate(void **state) {
    (void)state;
    enum { N = 577 };
    float *x = random_floats(N, PLAIN), *w = random_floats(N, PLAIN), *y = floats(N);
    double square = 0, worst = 0;
    for (int i = 0; i < N; i++) square += (double)x[i] * (double)x[i];
    tables[0].rms_norm(x, w, 0.25f, N, y);
    for (int i = 0; i < N; i++)
        worst = fmax(worst, near_to(y[i], (double)x[i] / sqrt(square / N + 0.25) * (double)w[i], 1));
    assert_true(worst < 2e-6);
    worst = 0;
    tables[0].act_mul(SRN_ACT_SILU, x, w, N, y);
    for (int i = 0; i < N; i++)
        worst = fmax(worst, near_to(y[i], (double)x[i] / (1 + exp(-(double)x[i])) * (double)w[i], 1));
    tables[0].act_mul(SRN_ACT_GELU, x, w, N, y);
    for (int i = 0; i < N; i++) {
        double v = x[i], u = sqrt(2 / 3.14159265358979323846) * (v + 0.044715 * v * v * v);
        worst = fmax(worst, near_to(y[i], 0.5 * v * (1 + tanh(u)) * (double)w[i], 1));
    }
    assert_true(worst < 4e-6);
    free(x), free(w), free(y);
}

static void every_table_gives_the_references_rope(void **state) {
    (void)state;
    static const uint32_t rots[] = {2, 4, 6, 8, 10, 14, 16, 30, 32, 34, 64, 66, 80, 96, 128, 256};
    for (size_t r = 0; r < SRN_LEN(rots); r++)
        for (int neox = 0; neox < 2; neox++)
            for (int kind = 0; kind < N_KINDS; kind++) {
                uint32_t n = rots[r], beyond = random_below(20);
                float *x = random_floats(n + beyond, kind), *cos = floats(n / 2), *sin = floats(n / 2);
                for (uint32_t i = 0; i < n / 2; i++) {
                    double s, c;
                    srn_sincos((double)i * 1.7 + 0.3, &s, &c);
                    cos[i] = (float)c, sin[i] = (float)s;
                }
                float *want = floats(n + beyond);
                for (uint32_t t = 0; t < n_tables; t++) {
                    float *y = guarded(n + beyond);
                    memcpy(y + GUARD, x, (n + beyond) * sizeof *y);
                    tables[t].rope(y + GUARD, cos, sin, n, neox);
                    if (t == 0) memcpy(want, y + GUARD, (n + beyond) * sizeof *y);
                    assert_memory_equal(y + GUARD, want, (n + beyond) * sizeof *y);
                    assert_memory_equal(y + GUARD + n, x + n, beyond * sizeof *y);
                    assert_true(guards_hold(y, n + beyond));
                    free(y);
                }
                uint32_t step = neox ? 1 : 2, apart = neox ? n / 2 : 1;
                for (uint32_t i = 0; kind == PLAIN && i < n / 2; i++) { /* a rotation */
                    double a = x[i * step], b = x[i * step + apart], c = cos[i], s = sin[i];
                    assert_true(near_to(want[i * step], a * c - b * s, 1) < 1e-6);
                    assert_true(near_to(want[i * step + apart], a * s + b * c, 1) < 1e-6);
                }
                free(x), free(cos), free(sin), free(want);
            }
}

/* ---- the cache ---- */

enum { N_TYPES = SRN_KV_Q8_0 + 1 };

typedef struct cache {
    srn_kv_type type;
    uint32_t block_len, d_k, d_v, n_blocks;
    uint32_t *blocks; /* a permutation */
    uint8_t *k, *v;
    size_t k_stride, v_stride;
} cache;

/* So many positions of a head's K or V. */
static size_t tile_bytes(srn_kv_type type, uint32_t positions, uint32_t d) {
    return (size_t)srn_kv_tile_bytes(type, d) * positions / SRN_KV_BLOCK;
}

/* Room for n positions, every byte of it NaN. */
static cache cache_new(srn_kv_type type, uint32_t block_len, uint32_t d_k, uint32_t d_v, uint32_t n) {
    cache c = {type, block_len, d_k, d_v, (n + block_len - 1) / block_len, NULL, NULL, NULL, 0, 0};
    c.k_stride = tile_bytes(type, block_len, d_k) + 64;
    c.v_stride = tile_bytes(type, block_len, d_v) + 32;
    c.blocks = malloc(c.n_blocks * sizeof *c.blocks);
    c.k = malloc(c.n_blocks * c.k_stride);
    c.v = malloc(c.n_blocks * c.v_stride);
    assert_true(c.blocks && c.k && c.v);
    memset(c.k, 0xff, c.n_blocks * c.k_stride);
    memset(c.v, 0xff, c.n_blocks * c.v_stride);
    for (uint32_t i = 0; i < c.n_blocks; i++) c.blocks[i] = i;
    for (uint32_t i = c.n_blocks; i > 1; i--) {
        uint32_t j = random_below(i), b = c.blocks[i - 1];
        c.blocks[i - 1] = c.blocks[j];
        c.blocks[j] = b;
    }
    return c;
}
static void cache_done(cache *c) {
    free(c->blocks), free(c->k), free(c->v);
}
static uint8_t *cache_k(const cache *c, uint32_t pos) {
    return c->k + c->blocks[pos / c->block_len] * c->k_stride;
}
static uint8_t *cache_v(const cache *c, uint32_t pos) {
    return c->v + c->blocks[pos / c->block_len] * c->v_stride;
}
static void cache_fill(cache *c, uint32_t from, uint32_t to, int kind) {
    for (uint32_t pos = from; pos < to; pos++) {
        float *k = random_floats(c->d_k, kind), *v = random_floats(c->d_v, kind);
        assert_true(tables[0].kv_store(c->type, k, v, c->d_k, c->d_v, pos % c->block_len, cache_k(c, pos),
                                       cache_v(c, pos)));
        free(k), free(v);
    }
}
static double cache_value(srn_kv_type type, const uint8_t *base, size_t i) {
    if (type == SRN_KV_F32) return (double)((const float *)(const void *)base)[i];
    return (double)srn_f16_to_f32(((const uint16_t *)(const void *)base)[i]);
}
static double q8_value(const uint8_t *scale, const uint8_t *code) {
    uint32_t bits = (uint32_t)(scale[0] | scale[1] << 8) << 16;
    return (double)srn_f32_bits(bits) * (*code - (*code > 127 ? 256 : 0));
}
/* The layouts, as cpu_internal.h states them: dimension d of the position `at` of a block of K, and of V. */
static double key_at(const srn_attn *a, const uint8_t *k, uint32_t at, uint32_t d) {
    if (a->kv_type != SRN_KV_Q8_0)
        return cache_value(a->kv_type, k, ((size_t)(at / 16) * a->d_k + d) * 16 + at % 16);
    const uint8_t *group = k + at / 16 * tile_bytes(a->kv_type, 16, a->d_k) + d / 32 * 544;
    return q8_value(group + at % 16 * 2, group + 32 + d % 32 * 16 + at % 16);
}
static double value_at(const srn_attn *a, const uint8_t *v, uint32_t at, uint32_t d) {
    if (a->kv_type != SRN_KV_Q8_0) return cache_value(a->kv_type, v, (size_t)at * a->d_v + d);
    const uint8_t *piece = v + at / 16 * tile_bytes(a->kv_type, 16, a->d_v);
    return q8_value(piece + (d / 32 * 16 + at % 16) * 2,
                    piece + (a->d_v + 31) / 32 * 32 + at % 16 * a->d_v + d);
}

/* How far a value may be from what the cache holds of it, the greatest of its 32 being `most`. */
static double rounding(srn_kv_type type, double x, double most) {
    if (type == SRN_KV_F32) return 0;
    if (type == SRN_KV_F16) return fabs(x) > 65504 ? fabs(x) - 65504 : fabs(x) * 0x1p-11 + 0x1p-25;
    return most < 0x1p-100 ? most : most / 127 * (0.5 * (1 + 0x1p-7)) * (1 + 1e-5);
}
static double greatest_of_group(const float *x, uint32_t d, uint32_t n) {
    double most = 0;
    for (uint32_t i = d / 32 * 32; i < n && i < d / 32 * 32 + 32; i++) most = fmax(most, fabs((double)x[i]));
    return most;
}
static void the_cache_holds(srn_kv_type type, const cache *c, uint32_t pos, const float *k, const float *v) {
    srn_attn a = {.kv_type = type, .d_k = c->d_k, .d_v = c->d_v};
    for (uint32_t d = 0; d < c->d_k; d++)
        assert_true(fabs(key_at(&a, c->k, pos, d) - (double)k[d]) <=
                    rounding(type, (double)k[d], greatest_of_group(k, d, c->d_k)));
    for (uint32_t d = 0; d < c->d_v; d++)
        assert_true(fabs(value_at(&a, c->v, pos, d) - (double)v[d]) <=
                    rounding(type, (double)v[d], greatest_of_group(v, d, c->d_v)));
}

static void every_table_writes_the_references_cache(void **state) {
    (void)state;
    static const uint32_t dims[] = {1, 8, 15, 16, 17, 24, 31, 32, 33, 47, 49, 64, 80, 96, 256};
    for (size_t i = 0; i < SRN_LEN(dims) * N_TYPES * N_KINDS; i++) {
        srn_kv_type type = (srn_kv_type)(i % N_TYPES);
        uint32_t d_k = dims[i / N_TYPES % SRN_LEN(dims)], d_v = dims[random_below(SRN_LEN(dims))];
        uint32_t pos = random_below(64);
        int kind = (int)(i / N_TYPES / SRN_LEN(dims));
        float *k = random_floats(d_k, kind), *v = random_floats(d_v, kind);
        if (kind == HUGE_VALUES) v[0] = 1e9f, k[0] = -3e38f;
        cache want = cache_new(type, 64, d_k, d_v, 64);
        assert_true(tables[0].kv_store(type, k, v, d_k, d_v, pos, want.k, want.v));
        the_cache_holds(type, &want, pos, k, v);
        for (uint32_t t = 1; t < n_tables; t++) {
            cache got = cache_new(type, 64, d_k, d_v, 64);
            assert_true(tables[t].kv_store(type, k, v, d_k, d_v, pos, got.k, got.v));
            assert_memory_equal(got.k, want.k, got.k_stride);
            assert_memory_equal(got.v, want.v, got.v_stride);
            cache_done(&got);
        }
        cache_done(&want);
        free(k), free(v);
    }
}

static void values_that_are_not_finite_are_refused_and_not_written(void **state) {
    (void)state;
    static const uint32_t bad[] = {0x7f800000u, 0xff800000u, 0x7fc00000u, 0x7f800001u, 0xffffffffu};
    enum { D = 37 };
    for (uint32_t t = 0; t < n_tables; t++)
        for (int type = 0; type < N_TYPES; type++)
            for (uint32_t at = 0; at < 2 * D; at++) {
                float *kv = random_floats(2 * D, PLAIN);
                kv[at] = srn_f32_bits(bad[at % SRN_LEN(bad)]);
                cache c = cache_new((srn_kv_type)type, 16, D, D, 16);
                assert_false(tables[t].kv_store((srn_kv_type)type, kv, kv + D, D, D, 5, c.k, c.v));
                for (size_t i = 0; i < c.k_stride; i++) assert_int_equal(c.k[i], 0xff);
                for (size_t i = 0; i < c.v_stride; i++) assert_int_equal(c.v[i], 0xff);
                cache_done(&c);
                free(kv);
            }
}

/* ---- attention ---- */

typedef struct attn_case {
    cache c;
    srn_attn a;
    float *q;
} attn_case;

static attn_case case_new(cache c, uint32_t n_past, uint32_t n_queries, uint32_t n_heads, int kind) {
    attn_case x = {.c = c};
    size_t stride = (size_t)n_heads * c.d_k + random_below(9);
    x.q = random_floats(n_queries * stride, kind);
    x.a = (srn_attn){.kv_type = c.type, .block_len = c.block_len, .d_k = c.d_k, .d_v = c.d_v};
    x.a.k = c.k, x.a.v = c.v, x.a.blocks = c.blocks;
    x.a.k_block_stride = c.k_stride, x.a.v_block_stride = c.v_stride;
    x.a.n_past = n_past, x.a.n_queries = n_queries, x.a.n_heads = n_heads;
    x.a.scale = (float)(1 / sqrt((double)c.d_k));
    x.a.q = x.q, x.a.q_stride = stride;
    x.a.out_stride = (size_t)n_heads * c.d_v + random_below(9);
    return x;
}
static void case_done(attn_case *x) {
    cache_done(&x->c);
    free(x->q);
}

/* The whole output with guards and the gaps between rows; free it. */
static float *attend(const srn_kernels *k, srn_attn a, bool *ret_ok) {
    size_t n = (a.n_queries - 1) * a.out_stride + (size_t)a.n_heads * a.d_v;
    float *out = guarded(n);
    a.out = out + GUARD;
    size_t bytes = k->attn_scratch_bytes(a.d_k, a.d_v);
    uint8_t *scratch = srn_aligned_calloc(1, bytes + 64);
    memset(scratch, 0xff, bytes + 64);
    *ret_ok = k->attention(&a, scratch);
    for (int i = 0; i < 64; i++) assert_int_equal(scratch[bytes + (size_t)i], 0xff);
    for (uint32_t i = 0; i + 1 < a.n_queries; i++)
        for (size_t g = (size_t)a.n_heads * a.d_v; g < a.out_stride; g++) {
            size_t at = GUARD + i * a.out_stride + g;
            assert_int_equal(srn_bits_f32(out[at]), srn_bits_f32(poison(at)));
        }
    assert_true(guards_hold(out, n));
    srn_aligned_free(scratch);
    return out;
}

/* The same by records of segments, computed in random runs and then merged. */
static float *attend_in_parts(const srn_kernels *k, srn_attn a, bool *ret_ok) {
    size_t n = (a.n_queries - 1) * a.out_stride + (size_t)a.n_heads * a.d_v, record = srn__attn_record(a.d_v);
    uint32_t pairs = a.n_queries * a.n_heads;
    uint32_t first = a.window && a.n_past + 1 > a.window ? (a.n_past + 1 - a.window) / SRN_SEGMENT : 0;
    uint32_t stop = (a.n_past + a.n_queries + SRN_SEGMENT - 1) / SRN_SEGMENT;
    float *out = guarded(n), *parts = guarded((stop - first) * pairs * record);
    void *scratch = srn_aligned_calloc(1, k->attn_scratch_bytes(a.d_k, a.d_v));
    a.part_stride = pairs * record;
    *ret_ok = true;
    for (a.seg0 = first; a.seg0 < stop; a.seg0 = a.seg1) {
        a.seg1 = a.seg0 + 1 + random_below(stop - a.seg0);
        a.part = parts + GUARD + (a.seg0 - first) * a.part_stride;
        *ret_ok = k->attention(&a, scratch) && *ret_ok;
    }
    assert_true(guards_hold(parts, (stop - first) * pairs * record));
    for (uint32_t p = 0; p < pairs; p++)
        k->attn_merge(a.d_v, stop - first, parts + GUARD + p * record, a.part_stride,
                      out + GUARD + p / a.n_heads * a.out_stride + p % a.n_heads * a.d_v);
    srn_aligned_free(scratch);
    free(parts);
    return out;
}

static void all_tables_agree(const attn_case *x, const char *what) {
    bool ok;
    float *want = attend(&tables[0], x->a, &ok);
    size_t n = (x->a.n_queries - 1) * x->a.out_stride + (size_t)x->a.n_heads * x->a.d_v + 2 * GUARD;
    for (uint32_t t = 1; t < 2 * n_tables; t++) {
        bool ok_too, parts = t >= n_tables;
        const srn_kernels *k = &tables[t % n_tables];
        float *got = parts ? attend_in_parts(k, x->a, &ok_too) : attend(k, x->a, &ok_too);
        if (ok_too != ok || (ok && memcmp(got, want, n * sizeof *got) != 0))
            fail_msg("%s%s differs from ref (%s): type %d block_len %u d_k %u d_v %u n_past %u n_queries %u "
                     "n_heads "
                     "%u window %u softcap %g",
                     k->name, parts ? " in parts" : "", what, (int)x->a.kv_type, x->a.block_len, x->a.d_k,
                     x->a.d_v, x->a.n_past, x->a.n_queries, x->a.n_heads, x->a.window, (double)x->a.softcap);
        free(got);
    }
    free(want);
}

static const uint32_t windows[] = {1, 2, 3, 6, 15, 16, 17, 31, 40, 100, 255, 256, 257, 300, 512, 513};

static void every_table_gives_the_references_attention(void **state) {
    (void)state;
    static const uint32_t dims[] = {1, 8, 16, 17, 24, 32, 48, 64, 72, 80, 96, 112, 128, 192, 256, 576};
    static const uint32_t block_lens[] = {16, 32, 64, 128, 256};
    for (int i = 0; i < 500; i++) {
        uint32_t d_k = dims[random_below(SRN_LEN(dims))];
        uint32_t d_v = random_below(3) ? d_k : dims[random_below(SRN_LEN(dims))];
        uint32_t n_past = random_below(random_below(4) ? 601 : 20), n_heads = 1 + random_below(9);
        uint32_t n_queries = random_below(3) ? 1 + random_below(40) : 1;
        while (n_queries > 1 && (uint64_t)n_queries * n_heads * (n_past + 20) * (d_k + d_v) > 1500000)
            n_queries--;
        int kind = (int)random_below(N_KINDS);
        cache c = cache_new((srn_kv_type)random_below(N_TYPES), block_lens[random_below(5)], d_k, d_v,
                            n_past + n_queries);
        cache_fill(&c, 0, n_past + n_queries, kind);
        attn_case x = case_new(c, n_past, n_queries, n_heads, random_below(2) ? kind : PLAIN);
        if (random_below(2)) x.a.window = windows[random_below(SRN_LEN(windows))];
        if (random_below(3) == 0) x.a.softcap = random_below(2) ? 50.0f : 0.7f;
        all_tables_agree(&x, "random shape");
        case_done(&x);
    }
}

/* Every start and length around the edges of groups, blocks and segments, with positions that the window has
 * left behind already unwritten. */
static void windows_and_causality_hold_at_every_edge(void **state) {
    (void)state;
    for (uint32_t n_past = 0; n_past < 560; n_past += 1 + n_past / 40 * 3)
        for (uint32_t n_queries = 1; n_queries < 20; n_queries += 1 + n_queries / 2) {
            uint32_t window = random_below(2) ? windows[random_below(SRN_LEN(windows))] : 0;
            cache c = cache_new((srn_kv_type)random_below(N_TYPES), 32, 16, 16, n_past + n_queries);
            uint32_t begin = window && n_past + 1 > window ? n_past + 1 - window : 0;
            cache_fill(&c, begin, n_past + n_queries, SPECIAL);
            attn_case x = case_new(c, n_past, n_queries, 1 + random_below(4), PLAIN);
            x.a.window = window;
            all_tables_agree(&x, "edge");
            bool ok;
            float *out = attend(&tables[0], x.a, &ok);
            assert_true(ok);
            for (uint32_t i = 0; i < n_queries; i++)
                for (uint32_t d = 0; d < x.a.n_heads * 16; d++)
                    assert_true(srn_is_finite(out[GUARD + i * x.a.out_stride + d]));
            free(out);
            case_done(&x);
        }
}

/* The table of blocks, whose first n entries lie in a page that cannot be read. */
static uint32_t *half_hidden(const cache *c, uint32_t n, void **ret_pages) {
    const size_t page = 4096;
    assert_true(c->n_blocks * sizeof(uint32_t) <= page);
    uint8_t *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    uint32_t *table = (uint32_t *)(void *)(p + page) - n;
    memcpy(table + n, c->blocks + n, (c->n_blocks - n) * sizeof *table);
    assert_int_equal(mprotect(p, page, PROT_NONE), 0);
    *ret_pages = p;
    return table;
}

/* Nobody looks even at the table's entries of blocks that no query sees. Of the blocks that are seen, what
 * lies before the window is NaN. */
static void blocks_outside_the_window_are_not_looked_at(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 300; i++) {
        uint32_t block_len = 16u << random_below(3), d = 1 + random_below(70);
        uint32_t n_queries = random_below(2) ? 1 + random_below(70) : 1, n_past = random_below(900);
        uint32_t window = windows[random_below(SRN_LEN(windows))];
        cache c = cache_new((srn_kv_type)(i % N_TYPES), block_len, d, d, n_past + n_queries);
        uint32_t begin = n_past + 1 > window ? n_past + 1 - window : 0;
        cache_fill(&c, begin, n_past + n_queries, PLAIN);
        attn_case x = case_new(c, n_past, n_queries, 1 + random_below(4), PLAIN);
        x.a.window = window;
        bool ok;
        float *want = attend(&tables[0], x.a, &ok);
        assert_true(ok);
        for (size_t j = 0; j < x.a.out_stride * (n_queries - 1) + (size_t)x.a.n_heads * d; j++)
            if (j % x.a.out_stride < (size_t)x.a.n_heads * d) assert_true(srn_is_finite(want[GUARD + j]));
        void *pages;
        x.a.blocks = half_hidden(&c, begin / block_len, &pages);
        all_tables_agree(&x, "window");
        float *again = attend(&tables[0], x.a, &ok);
        assert_memory_equal(again + GUARD, want + GUARD,
                            (x.a.out_stride * (n_queries - 1) + (size_t)x.a.n_heads * d) * sizeof *want);
        munmap(pages, 8192);
        free(want), free(again);
        case_done(&x);
    }
}

/* One query and head of attention, in binary64, without segments. */
static void attend_plainly(const srn_attn *a, uint32_t i, uint32_t h, double *out) {
    uint32_t end = a->n_past + i + 1, begin = a->window && end > a->window ? end - a->window : 0;
    double *p = malloc(end * sizeof *p), max = -INFINITY, sum = 0;
    const float *q = a->q + i * a->q_stride + (size_t)h * a->d_k;
    for (uint32_t j = begin; j < end; j++) {
        const uint8_t *k = a->k + a->blocks[j / a->block_len] * a->k_block_stride;
        uint32_t at = j % a->block_len;
        p[j] = 0;
        for (uint32_t d = 0; d < a->d_k; d++) p[j] += (double)q[d] * key_at(a, k, at, d);
        p[j] *= (double)a->scale;
        if (a->softcap > 0) p[j] = (double)a->softcap * tanh(p[j] / (double)a->softcap);
        max = fmax(max, p[j]);
    }
    for (uint32_t d = 0; d < a->d_v; d++) out[d] = 0;
    for (uint32_t j = begin; j < end; j++) {
        const uint8_t *v = a->v + a->blocks[j / a->block_len] * a->v_block_stride;
        double e = exp(p[j] - max);
        sum += e;
        for (uint32_t d = 0; d < a->d_v; d++) out[d] += e * value_at(a, v, j % a->block_len, d);
    }
    for (uint32_t d = 0; d < a->d_v; d++) out[d] /= sum;
    free(p);
}

static void reference_attention_is_accurate(void **state) {
    (void)state;
    for (int i = 0; i < 60; i++) {
        uint32_t d_k = 8 + random_below(90), d_v = 8 + random_below(90), n_past = random_below(700);
        cache c = cache_new((srn_kv_type)(i % N_TYPES), 64, d_k, d_v, n_past + 3);
        cache_fill(&c, 0, n_past + 3, PLAIN);
        attn_case x = case_new(c, n_past, 3, 2, PLAIN);
        x.a.window = i % 3 == 0 ? 1 + random_below(600) : 0;
        x.a.softcap = i % 5 == 0 ? 3.0f : 0;
        bool ok;
        float *out = attend(&tables[0], x.a, &ok);
        assert_true(ok);
        double *want = malloc(d_v * sizeof *want), worst = 0;
        for (uint32_t qi = 0; qi < 3; qi++)
            for (uint32_t h = 0; h < 2; h++) {
                attend_plainly(&x.a, qi, h, want);
                for (uint32_t d = 0; d < d_v; d++)
                    worst =
                        fmax(worst, fabs((double)out[GUARD + qi * x.a.out_stride + h * d_v + d] - want[d]));
            }
        assert_true(worst < 1e-5); /* values are up to 3 */
        free(want), free(out);
        case_done(&x);
    }
}

static void a_chunk_of_queries_gives_what_they_give_one_by_one(void **state) {
    (void)state;
    for (uint32_t t = 0; t < n_tables; t++)
        for (uint32_t i = 0; i < 4; i++) {
            enum { N = 512, HEADS = 3, D = 32, PAST = 70 };
            uint32_t window = i % 2 * 200;
            cache c = cache_new(i / 2 ? SRN_KV_Q8_0 : SRN_KV_F16, 64, D, D, PAST + N);
            cache_fill(&c, 0, PAST + N, PLAIN);
            attn_case x = case_new(c, PAST, N, HEADS, PLAIN);
            x.a.window = window;
            bool ok;
            float *all = attend(&tables[t], x.a, &ok);
            assert_true(ok);
            for (uint32_t j = 0; j < N; j++)
                for (uint32_t h = 0; h < HEADS; h++) {
                    srn_attn one = x.a;
                    one.n_past += j, one.n_queries = 1, one.n_heads = 1;
                    one.q += j * one.q_stride + (size_t)h * D;
                    float *out = attend(&tables[t], one, &ok);
                    assert_memory_equal(out + GUARD, all + GUARD + j * x.a.out_stride + (size_t)h * D,
                                        D * sizeof *out);
                    free(out);
                }
            free(all);
            case_done(&x);
        }
}

/* A score that overflows fails the call, with a soft cap too; one that no query sees does not. */
static void scores_that_are_not_finite_fail(void **state) {
    (void)state;
    for (uint32_t t = 0; t < n_tables; t++)
        for (uint32_t bad = 0; bad < 330; bad += 11)
            for (int cap = 0; cap < 2; cap++) {
                enum { N_PAST = 300, WINDOW = 280 };
                cache c = cache_new(SRN_KV_F32, 64, 16, 16, 330);
                cache_fill(&c, 0, 330, PLAIN);
                float *k = (float *)(void *)cache_k(&c, bad) + (size_t)(bad % 64 / 16) * 16 * 16 + bad % 16;
                for (int d = 0; d < 16; d++) k[d * 16] = 3e38f;
                attn_case x = case_new(c, N_PAST, 4, 2, PLAIN);
                for (uint32_t i = 0; i < 4 * x.a.q_stride; i++) x.q[i] = 2.0f;
                x.a.window = WINDOW;
                x.a.softcap = cap ? 20.0f : 0;
                bool ok;
                free(attend(&tables[t], x.a, &ok));
                assert_int_equal(ok, bad < N_PAST + 1 - WINDOW || bad > N_PAST + 3);
                case_done(&x);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_gives_the_references_vectors),
        cmocka_unit_test(one_value_that_is_not_finite_is_found_wherever_it_is),
        cmocka_unit_test(reference_vectors_are_accurate),
        cmocka_unit_test(every_table_gives_the_references_rope),
        cmocka_unit_test(every_table_writes_the_references_cache),
        cmocka_unit_test(values_that_are_not_finite_are_refused_and_not_written),
        cmocka_unit_test(every_table_gives_the_references_attention),
        cmocka_unit_test(windows_and_causality_hold_at_every_edge),
        cmocka_unit_test(blocks_outside_the_window_are_not_looked_at),
        cmocka_unit_test(reference_attention_is_accurate),
        cmocka_unit_test(a_chunk_of_queries_gives_what_they_give_one_by_one),
        cmocka_unit_test(scores_that_are_not_finite_fail),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
