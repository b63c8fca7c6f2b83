/* kernel_bench [TYPE] [K] [ROWS] [COLS] [PLANES]: the speed of each kernel table on one thread, beside what
 * the machine can do at most, measured in the same run: int8 operations (a loop of vpdpbusd) and bytes read.
 * Tables and the read loop take turns; each figure is the best of its turns, because neighbours on the
 * machine only ever slow it down. Bytes are those of the weights as the table has them; "file" says how many
 * times the file's they are. Without arguments: the common types at one column and at 512.
 */
#include <stdlib.h>
#include <time.h>

#include "cpu/cpu_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define TURNS    9
#define N_TABLES 8

/* Processor time of this thread in seconds: a neighbour that takes the core away does not count. */
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
static void *must_alloc(size_t bytes) {
    void *p = srn_aligned_calloc(1, bytes + 64);
    if (!p) {
        fprintf(stderr, "kernel_bench: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    return p;
}

/* ---- peaks ---- */

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512vnni"))) static double int8_peak_once(void) {
    enum { ROUNDS = 100000, CHAINS = 12 };
    __m512i acc[CHAINS], w = _mm512_set1_epi8(3), c = _mm512_set1_epi8(5);
    for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_set1_epi32(i);
    double t = now();
    for (int r = 0; r < ROUNDS; r++) {
        _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_dpbusd_epi32(acc[i], w, c);
        __asm__ volatile("" : "+v"(w));
    }
    for (int i = 1; i < CHAINS; i++) acc[0] = _mm512_xor_si512(acc[0], acc[i]);
    __asm__ volatile("" : : "v"(acc[0]));
    t = now() - t;
    return 2.0 * 64 * CHAINS * ROUNDS / t * 1e-9;
}
static double int8_peak(void) {
    srn_kernels k;
    srn_err err;
    if (srn__kernels_select("avx512vnni", &k, &err) != 0) return 0;
    double best = 0;
    for (int i = 0; i < 10 * TURNS; i++) best = SRN_MAX(best, int8_peak_once());
    return best;
}
#else
static double int8_peak(void) {
    return 0;
}
#endif

typedef uint64_t words __attribute__((vector_size(16)));

#define PROBE_BYTES ((size_t)160 << 20)

/* Bytes read in a second, in units of 10^9, by a plain loop over `p`. */
static double read_once(const words *p) {
    words z[4] = {{0}};
    double t = now();
    for (size_t i = 0; i < PROBE_BYTES / sizeof *p; i += 4) {
        _Pragma("GCC unroll 4") for (size_t j = 0; j < 4; j++) z[j] ^= p[i + j];
    }
    t = now() - t;
    z[0] ^= z[1] ^ z[2] ^ z[3];
    __asm__ volatile("" : : "r"(z[0][0]));
    return (double)PROBE_BYTES / t * 1e-9;
}

/* ---- one product ---- */

typedef struct bench {
    const srn_kernels *k;
    srn_packed w;
    srn_act a;
    void *scratch;
    float *y;
    double best;
} bench;

static void random_bytes(uint8_t *p, size_t n) {
    uint64_t z = 88172645463325252u;
    for (size_t i = 0; i < n; i++) {
        z ^= z << 13, z ^= z >> 7, z ^= z << 17;
        p[i] = (uint8_t)(z & 0xBF); /* clears a bit of every exponent: no scale is infinite */
    }
}

static void bench_init(bench *b, const srn_kernels *k, const srn_packed *w, const float *x, uint32_t n,
                       uint32_t planes) {
    *b = (bench){.k = k, .w = *w, .best = 1e30};
    b->w.panel_bytes = k->panel_bytes(w->type, w->cols);
    if (b->w.panel_bytes) {
        b->w.panels = must_alloc(b->w.panel_bytes * srn__panel_count(w));
        k->pack(&b->w, 0, srn__panel_count(w));
    }
    b->a = (srn_act){.x = x, .x_stride = w->cols, .k = w->cols, .n = n, .planes = planes};
    if (w->form != SRN_FORM_FLOAT) {
        b->a.q = must_alloc(k->act_bytes(w->cols, n, planes));
        k->quantize(&b->a, 0, n, 0, w->cols / SRN_GROUP);
    }
    b->scratch = must_alloc(k->scratch_bytes(w->cols));
    b->y = must_alloc((size_t)n * w->rows * sizeof(float));
}
static void bench_done(bench *b) {
    srn_aligned_free(b->w.panels);
    srn_aligned_free(b->a.q);
    srn_aligned_free(b->scratch);
    srn_aligned_free(b->y);
}
static void bench_turn(bench *b) {
    double t = now();
    b->k->matmul(&b->w, 0, srn__panel_count(&b->w), &b->a, NULL, b->a.n, b->y, b->w.rows, b->scratch);
    b->best = SRN_MIN(b->best, now() - t);
}

static srn_kernels tables[N_TABLES];
static int n_tables;

static void run(srn_type type, uint32_t k, uint32_t rows, uint32_t cols, uint32_t planes, double gops,
                const words *probe) {
    const srn_type_info *t = srn_type_get((uint32_t)type);
    uint64_t row_bytes;
    if (!srn_type_bytes(type, k, &row_bytes)) {
        fprintf(stderr, "kernel_bench: %s has blocks of %u; K %u is not a whole number\n", t->name,
                t->block_elems, k);
        exit(2);
    }
    uint8_t *raw = must_alloc((size_t)row_bytes * rows);
    random_bytes(raw, (size_t)row_bytes * rows);
    float *x = must_alloc((size_t)k * cols * sizeof(float));
    for (size_t i = 0; i < (size_t)k * cols; i++)
        x[i] = (float)((int)(i * 2654435761u >> 16 & 255) - 128) * 0.01f;
    srn_packed w = {
        .type = type, .form = t->form, .rows = rows, .cols = k, .raw = raw, .row_bytes = row_bytes};
    bench b[N_TABLES];
    for (int i = 0; i < n_tables; i++) bench_init(&b[i], &tables[i], &w, x, cols, planes);
    double gbytes = 0;
    for (int turn = 0; turn < TURNS; turn++) {
        for (int i = 0; i < n_tables; i++) bench_turn(&b[i]);
        gbytes = SRN_MAX(gbytes, read_once(probe));
    }
    for (int i = 0; i < n_tables; i++) {
        double ops = 2e-9 * k * rows * cols * planes / b[i].best;
        double file = (double)row_bytes * rows, size = file;
        if (b[i].w.panels) size = (double)b[i].w.panel_bytes * srn__panel_count(&b[i].w);
        double bytes = 1e-9 * size / b[i].best;
        printf("%-8s %6u %7u %4u %6u  %-10s %9.1f %5.0f%% %8.2f %5.0f%% %5.2f %10.1f\n", t->name, k, rows,
               cols, planes, tables[i].name, ops, gops > 0 ? 100 * ops / gops : 0, bytes,
               100 * bytes / gbytes, size / file, b[i].best * 1e6);
        bench_done(&b[i]);
    }
    srn_aligned_free(raw);
    srn_aligned_free(x);
}

static bool find_type(const char *name, srn_type *ret) {
    for (uint32_t i = 0; i < SRN_TYPE_END; i++) {
        const srn_type_info *t = srn_type_get(i);
        if (!t || t->refused || t->form == SRN_FORM_NONE || strcmp(t->name, name) != 0) continue;
        *ret = (srn_type)i;
        return true;
    }
    return false;
}

int main(int argc, char **argv) {
    for (const char *const *name = srn__kernels_available(); *name && n_tables < N_TABLES; name++) {
        srn_err err;
        if (strcmp(*name, "ref") != 0 && srn__kernels_select(*name, &tables[n_tables], &err) == 0) n_tables++;
    }
    words *probe = must_alloc(PROBE_BYTES);
    memset(probe, 1, PROBE_BYTES);
    double gops = int8_peak(), gbytes = 0;
    for (int turn = 0; turn < TURNS; turn++) gbytes = SRN_MAX(gbytes, read_once(probe));
    printf("one thread: int8 peak %.0f GOPS, reads %.1f GB/s\n", gops, gbytes);
    printf(
        "type          K    rows cols planes  table           GOPS   peak     GB/s  read  file         us\n");
    if (argc > 1) {
        srn_type type;
        if (!find_type(argv[1], &type)) {
            fprintf(stderr, "kernel_bench: no weight type \"%s\"; names are as in Q4_K\n", argv[1]);
            return 2;
        }
        uint32_t v[4] = {2048, 2048, 512, 1};
        for (int i = 2; i < argc && i < 6; i++) v[i - 2] = (uint32_t)strtoul(argv[i], NULL, 10);
        if (v[0] == 0 || v[1] == 0 || v[2] == 0 || v[3] == 0 || v[3] > 2) {
            fprintf(stderr, "usage: kernel_bench [TYPE] [K] [ROWS] [COLS] [PLANES 1|2]\n");
            return 2;
        }
        run(type, v[0], v[1], v[2], v[3], gops, probe);
        srn_aligned_free(probe);
        return 0;
    }
    static const srn_type types[] = {SRN_Q4_0, SRN_Q4_1, SRN_Q5_0, SRN_Q8_0,
                                     SRN_Q4_K, SRN_Q5_K, SRN_Q6_K, SRN_F16};
    for (size_t i = 0; i < SRN_LEN(types); i++) {
        run(types[i], 1536, 98304, 1, 1, gops, probe);
        run(types[i], 1536, 1536, 512, 1, gops, probe);
    }
    srn_aligned_free(probe);
    return 0;
}
