/* Prints the time of every vector operation, of attention on the shapes of two small models, and of a
 * barrier, for each kernel table that this CPU can run. One thread computes, its CPU time counts (a barrier's
 * is wall time), attention's is that of the whole model; the cache of a decode step is as large as the whole
 * model's, so that it comes from memory as it does in an answer.
 *
 *   vector_bench [TABLE...]      all tables by default
 */
#include "cpu/cpu_internal.h"

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
};

#define BLOCK  64u
#define TILE   32u /* queries per call */
#define CHUNK  512u
#define MAX_KV (8192u + CHUNK)

/* The last n_queries before position a.n_past, in so many cells (a layer's KV head is a cell). */
static void attend(const srn_kernels *k, const shape *s, srn_attn a, uint32_t n_queries, uint32_t cells,
                   const uint16_t *cache, void *scratch) {
    size_t head = (size_t)MAX_KV * s->d;
    a.n_past -= n_queries;
    uint32_t first = a.n_past;
    for (uint32_t i = 0; i < cells; i++)
        for (uint32_t t = 0; t < n_queries; t += TILE) {
            a.k = (const uint8_t *)(cache + 2 * i * head);
            a.v = (const uint8_t *)(cache + (2 * i + 1) * head);
            a.n_past = first + t;
            a.n_queries = SRN_MIN(TILE, n_queries - t);
            k->attention(&a, scratch);
        }
}

static void bench_attention(const srn_kernels *k, const shape *s) {
    size_t values = 2 * (size_t)s->n_layers * s->n_kv_heads * MAX_KV * s->d;
    uint16_t *cache = srn_aligned_calloc(values, 2);
    uint32_t blocks[MAX_KV / BLOCK];
    float *q = noise_floats((size_t)TILE * s->group * s->d),
          *out = noise_floats((size_t)TILE * s->group * s->d);
    void *scratch = srn_aligned_calloc(k->attn_scratch_bytes(s->d, s->d), 1);
    if (!cache || !scratch) exit(1);
    for (uint32_t i = 0; i < MAX_KV / BLOCK; i++) blocks[i] = i;
    for (size_t i = 0; i < values; i++) cache[i] = srn_f32_to_f16(noise());
    srn_attn a = {.kv_type = SRN_KV_F16, .blocks = blocks, .block_len = BLOCK, .d_k = s->d, .d_v = s->d};
    a.k_block_stride = a.v_block_stride = BLOCK * s->d * sizeof *cache;
    a.n_heads = s->group, a.window = s->window, a.scale = 0.125f;
    a.q = q, a.out = out, a.q_stride = a.out_stride = (size_t)s->group * s->d;
    static const uint32_t ends[] = {512, 2048, 8192};
    for (size_t e = 0; e < SRN_LEN(ends); e++)
        for (uint32_t n = 1; n <= CHUNK; n += CHUNK - 1) {
            uint32_t all = s->n_layers * s->n_kv_heads, cells = n == 1 ? all : 1;
            double best, pairs = 0;
            a.n_past = ends[e];
            for (uint32_t i = ends[e] - n; i < ends[e]; i++)
                pairs += s->window && i + 1 > s->window ? s->window : i + 1;
            BEST_OF(CLOCK_THREAD_CPUTIME_ID, 0.2, attend(k, s, a, n, cells, cache, scratch));
            best = best / cells * all;
            printf("  %-20s %s to %4u: %9.3f ms, %6.1f G fma/s", s->name, n == 1 ? "token  " : "512    ",
                   ends[e], best * 1e3, pairs * s->group * 2 * s->d * all / best / 1e9);
            if (n == 1) printf(", %5.1f GB/s", pairs * 2 * s->d * sizeof *cache * all / best / 1e9);
            printf("\n");
        }
    srn_aligned_free(cache), srn_aligned_free(q), srn_aligned_free(out), srn_aligned_free(scratch);
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

int main(int argc, char **argv) {
    printf("pool\n");
    bench_pool(false);
    bench_pool(true);
    for (const char *const *name = srn__kernels_available(); *name; name++) {
        bool asked = argc == 1;
        for (int i = 1; i < argc; i++) asked = asked || strcmp(argv[i], *name) == 0;
        srn_kernels k;
        if (!asked || srn__kernels_select(*name, &k, NULL)) continue;
        printf("%s\n", *name);
        bench_vectors(&k);
        if (strcmp(*name, "ref") == 0) continue; /* minutes */
        for (size_t i = 0; i < SRN_LEN(shapes); i++) bench_attention(&k, &shapes[i]);
    }
    return 0;
}
