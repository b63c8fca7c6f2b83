/* Prints the time of every vector operation, of attention on the shapes of small models, and of a
 * barrier, for each kernel table that this CPU can run. One thread computes, its CPU time counts (a barrier's
 * is wall time), attention's is that of the whole model; the cache of a decode step is as large as the whole
 * model's, so that it comes from memory as it does in an answer.
 *
 *   vector_bench [TABLE | SHAPE...]      how their names begin; all, and barriers, by default
 */
#include "cpu/cpu_internal.h"
#include "cpu/probe.h"

#include <sched.h>
#include <stdlib.h>
#include <time.h>

static double seconds_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint32_t state = 1;
static float noise(void) {
    state = state * 1664525u + 1013904223u;
    return (float)(int32_t)state * 0x1p-31f;
}
static float *noise_floats(size_t n) {
    float *p = srn_aligned_calloc(n, sizeof *p);
    if (!p) exit(1);
    for (size_t i = 0; i < n; i++) p[i] = noise();
    return p;
}

/* The least time of the statement, run over and over for so many seconds, by a clock. */
#define BEST_OF(clock, seconds, statement)                                                                   \
    do {                                                                                                     \
        double start_ = seconds_of(CLOCK_MONOTONIC);                                                         \
        best = 1e9;                                                                                          \
        while (best == 1e9 || seconds_of(CLOCK_MONOTONIC) - start_ < (seconds)) {                            \
            double t_ = seconds_of(clock);                                                                   \
            statement;                                                                                       \
            t_ = seconds_of(clock) - t_;                                                                     \
            if (t_ < best) best = t_;                                                                        \
        }                                                                                                    \
    } while (0)

static void bench_vectors(const srn_kernels *k) {
    enum { N = 2048, D = 64, TIMES = 200 };
    float *x = noise_floats(N), *w = noise_floats(N), *y = noise_floats(N);
    uint16_t *kb = srn_aligned_calloc(D * 64, 2), *vb = srn_aligned_calloc(D * 64, 2);
    double best;
#define LINE(name, n, call)                                                                                  \
    BEST_OF(                                                                                                 \
        CLOCK_THREAD_CPUTIME_ID, 0.05, for (int i = 0; i < TIMES; i++) { call; });                           \
    printf("  %-28s %9.1f ns\n", name, best / TIMES * 1e9)
    LINE("rms_norm 576", 576, k->rms_norm(x, w, 1e-5f, 576, y));
    LINE("rms_norm 2048", 2048, k->rms_norm(x, w, 1e-5f, N, y));
    LINE("add 2048", 2048, k->add(y, x, N));
    LINE("act_mul silu 2048", 2048, k->act_mul(SRN_ACT_SILU, x, w, N, y));
    LINE("act_mul gelu 2048", 2048, k->act_mul(SRN_ACT_GELU, x, w, N, y));
    LINE("rope 64 adjacent", 64, k->rope(y, x, w, 64, false));
    LINE("rope 64 neox", 64, k->rope(y, x, w, 64, true));
    LINE("kv_store f16 64", 64, k->kv_store(SRN_KV_F16, x, w, D, D, (uint32_t)i % 64, kb, vb));
#undef LINE
    srn_aligned_free(x), srn_aligned_free(w), srn_aligned_free(y), srn_aligned_free(kb), srn_aligned_free(vb);
}

typedef struct shape {
    const char *name;
    uint32_t n_layers, n_kv_heads, group, d, window;
} shape;

static const shape shapes[] = {
    {"SmolLM2-135M", 30, 3, 3, 64, 0},
    {"Gemma-3-270M window", 15, 1, 4, 256, 512},
    {"Gemma-3-270M full", 3, 1, 4, 256, 0},
    {"Llama-3.2-1B, 4 layers", 4, 8, 4, 64, 0},
};

#define BLOCK  64u
#define TILE   32u /* queries per call */
#define MAX_KV 8192u

/* The last n_queries before position a.n_past, in so many cells (a layer's KV head is a cell), whose K and V
 * follow one another. */
static void attend(const srn_kernels *k, srn_attn a, uint32_t n_queries, uint32_t cells, const uint8_t *cache,
                   size_t head_bytes, void *scratch) {
    a.n_past -= n_queries, a.n_queries = n_queries;
    for (uint32_t i = 0; i < cells; i++, cache += 2 * head_bytes) {
        a.k = cache, a.v = cache + head_bytes;
        a.soon = cache + 2 * head_bytes;
        k->attention(&a, scratch);
    }
}

static void fill_cells(const srn_kernels *k, const shape *s, srn_kv_type type, uint8_t *cache,
                       size_t block_bytes, uint32_t cells) {
    float *x = noise_floats(2 * (size_t)s->d);
    for (uint32_t i = 0; i < cells; i++, cache += 2 * (MAX_KV / BLOCK) * block_bytes)
        for (uint32_t pos = 0; pos < MAX_KV; pos++) {
            for (uint32_t d = 0; d < 2; d++) x[pos * 2 % s->d + d] = noise();
            uint8_t *kb = cache + pos / BLOCK * block_bytes;
            k->kv_store(type, x, x + s->d, s->d, s->d, pos % BLOCK, kb, kb + MAX_KV / BLOCK * block_bytes);
        }
    srn_aligned_free(x);
}

/* One token, whose keys and values come from memory, and a tile of a prompt, whose keys and values come from
 * a cache; each is the time of all layers. peak: of fused multiply-adds. */
static void bench_attention(const srn_kernels *k, const shape *s, srn_kv_type type, double peak) {
    uint32_t all = s->n_layers * s->n_kv_heads, blocks[MAX_KV / BLOCK];
    size_t block_bytes = (size_t)srn_kv_tile_bytes(type, s->d), head_bytes = MAX_KV / BLOCK * block_bytes;
    uint8_t *cache = srn_pages_alloc(2 * all * head_bytes);
    float *q = noise_floats((size_t)TILE * s->group * s->d),
          *out = noise_floats((size_t)TILE * s->group * s->d);
    void *scratch = srn_aligned_calloc(k->attn_scratch_bytes(s->d, s->d), 1);
    if (!cache || !scratch) exit(1);
    for (uint32_t i = 0; i < MAX_KV / BLOCK; i++) blocks[i] = i;
    fill_cells(k, s, type, cache, block_bytes, all);
    srn_attn a = {.kv_type = type, .blocks = blocks, .block_len = BLOCK, .d_k = s->d, .d_v = s->d};
    a.k_block_stride = a.v_block_stride = block_bytes;
    a.n_heads = s->group, a.window = s->window, a.scale = 0.125f;
    a.q = q, a.out = out, a.q_stride = a.out_stride = (size_t)s->group * s->d;
    static const uint32_t ends[] = {512, 2048, 8192};
    for (size_t e = s->window ? 1 : 0; e < (s->window ? 2 : SRN_LEN(ends)); e++)
        for (uint32_t n = 1; n <= TILE; n += TILE - 1) {
            uint32_t cells = n == 1 ? all : 1;
            double best, pairs = 0;
            a.n_past = ends[e];
            for (uint32_t i = ends[e] - n; i < ends[e]; i++)
                pairs += s->window && i + 1 > s->window ? s->window : i + 1;
            BEST_OF(CLOCK_THREAD_CPUTIME_ID, 0.2, attend(k, a, n, cells, cache, head_bytes, scratch));
            best = best / cells * all;
            double fma = pairs * s->group * 2 * s->d * all / best;
            printf("  %-20s %-4s %s to %4u: %9.3f ms, %5.1f G fma/s, %5.1f %% of the peak", s->name,
                   srn_kv_type_name(type), n == 1 ? "1 token  " : "32 tokens", ends[e], best * 1e3, fma / 1e9,
                   fma / peak * 100);
            if (n == 1) printf(", %5.1f GB/s", pairs * 2 * (double)block_bytes / BLOCK * all / best / 1e9);
            printf("\n");
        }
    srn_pages_free(cache, 2 * all * head_bytes);
    srn_aligned_free(q), srn_aligned_free(out), srn_aligned_free(scratch);
}

/* Fused multiply-adds per second of one thread at this level. */
static double fma_peak(const char *level) {
    srn_probe *p;
    srn_probe_opts o = {.threads = 1, .cpu_limit = level, .bytes = 1 << 22};
    double best = 0;
    if (srn_probe_new(&o, &p, NULL)) return 1;
    for (int i = 0; i < 20; i++) best = SRN_MAX(best, srn_probe_f32(p, srn_probe_levels(p) - 1, 1, 5000));
    srn_probe_free(p);
    return best;
}

#define BARRIERS 50
static void run_barriers(void *ctx, uint32_t thread, uint32_t n_threads) {
    (void)thread, (void)n_threads;
    for (int i = 0; i < BARRIERS; i++) srn__pool_barrier(ctx);
}
static void run_nothing(void *ctx, uint32_t thread, uint32_t n_threads) {
    (void)ctx, (void)thread, (void)n_threads;
}

/* Each thread on a CPU of its own, as far as they go. */
static void pin(void *ctx, uint32_t thread, uint32_t n_threads) {
    const cpu_set_t *all = ctx;
    if ((uint32_t)CPU_COUNT(all) < n_threads) return;
    cpu_set_t one;
    CPU_ZERO(&one);
    for (size_t cpu = 0, i = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, all) && i++ == thread) CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static void bench_pool(bool pinned) {
    for (uint32_t n = 1; n <= 4; n *= 2) {
        srn_pool *p;
        srn_err err;
        cpu_set_t all;
        double best;
        if (sched_getaffinity(0, sizeof all, &all) || srn__pool_new(n, &p, &err)) return;
        if (pinned) srn__pool_run(p, pin, &all);
        BEST_OF(CLOCK_MONOTONIC, 0.2, srn__pool_run(p, run_barriers, p));
        printf("  %u threads: barrier %8.1f ns", n, best / BARRIERS * 1e9);
        BEST_OF(CLOCK_MONOTONIC, 0.2, for (int i = 0; i < 10; i++) srn__pool_run(p, run_nothing, NULL));
        printf(", run %8.1f ns%s\n", best / 10 * 1e9, pinned ? " (pinned)" : "");
        srn__pool_free(p);
        sched_setaffinity(0, sizeof all, &all);
    }
}

/* Whether some argument begins the name, or none begins any of the names of its kind. */
static bool asked(const char *name, const char *const *kind, size_t n_kind, char **args, int n_args) {
    bool any = false;
    for (int i = 0; i < n_args; i++) {
        size_t len = strlen(args[i]);
        if (!strncmp(name, args[i], len)) return true;
        for (size_t k = 0; k < n_kind; k++) any = any || !strncmp(kind[k], args[i], len);
    }
    return !any;
}

int main(int argc, char **argv) {
    const char *const *tables = srn__kernels_available(), *shape_names[SRN_LEN(shapes)];
    size_t n_tables = 0;
    while (tables[n_tables]) n_tables++;
    for (size_t i = 0; i < SRN_LEN(shapes); i++) shape_names[i] = shapes[i].name;
    if (argc == 1) {
        printf("pool\n");
        bench_pool(false);
        bench_pool(true);
    }
    for (size_t t = 0; t < n_tables; t++) {
        srn_kernels k;
        if (!asked(tables[t], tables, n_tables, argv + 1, argc - 1)) continue;
        if (srn__kernels_select(tables[t], &k, NULL)) continue;
        printf("%s\n", tables[t]);
        bench_vectors(&k);
        if (strcmp(tables[t], "ref") == 0) continue; /* minutes */
        double peak = fma_peak(tables[t]);
        printf("  peak: %.1f G fma/s\n", peak / 1e9);
        for (size_t i = 0; i < SRN_LEN(shapes); i++)
            for (int type = 0; type < 3; type++)
                if (type != SRN_KV_F32 &&
                    asked(shapes[i].name, shape_names, SRN_LEN(shapes), argv + 1, argc - 1))
                    bench_attention(&k, &shapes[i], (srn_kv_type)type, peak);
    }
    return 0;
}
