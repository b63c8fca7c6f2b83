/* serin bench --machine: the limits of the machine, and the turns that measure them between the runs of a
 * model. Every figure is the median of turns that take turns with each other, so that a while in which the
 * machine is slow is a while for all of them.
 */
#include <jansson.h>
#include <stdlib.h>

#include "cli/bench.h"
#include "cli/cli.h"
#include "cpu/cpu.h"

/* Microseconds of a turn: long enough for the clock, short beside a run. */
#define READ_US       40000u
#define ARITHMETIC_US 12000u
#define N_BARRIERS    2000u

/* ---- turns between runs ---- */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

srn_bench_spread srn__bench_spread(double *v, size_t n) {
    if (!n) return (srn_bench_spread){0};
    qsort(v, n, sizeof *v, ascending);
    return (srn_bench_spread){n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2, v[0], v[n - 1]};
}

srn_bench_limits srn__bench_limits(srn_probe *p) {
    size_t best = srn_probe_levels(p) - 1;
    return (srn_bench_limits){.read_bytes_per_s = srn_probe_read(p, 0, READ_US),
                              .int8_macs_per_s = srn_probe_int8(p, best, 0, ARITHMETIC_US),
                              .f32_macs_per_s = srn_probe_f32(p, best, 0, ARITHMETIC_US)};
}

int srn__bench_turns_add(srn_bench_turns *t, srn_bench_limits l, srn_err *err) {
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        double *more = srn_realloc_array(t->v, cap, 3 * sizeof *more);
        if (!more) return srn_fail_nomem(err, cap * 3 * sizeof *more);
        t->v = more;
        t->cap = cap;
    }
    double *row = t->v + 3 * t->n++;
    row[0] = l.read_bytes_per_s, row[1] = l.int8_macs_per_s, row[2] = l.f32_macs_per_s;
    return SRN_OK;
}

srn_bench_limits srn__bench_turns_middle(const srn_bench_turns *t) {
    double middle[3] = {0}, *column = srn_calloc(t->n, sizeof *column);
    for (size_t k = 0; column && k < 3; k++) {
        for (size_t i = 0; i < t->n; i++) column[i] = t->v[3 * i + k];
        middle[k] = srn__bench_spread(column, t->n).median;
    }
    free(column);
    return (srn_bench_limits){middle[0], middle[1], middle[2]};
}

void srn__bench_cpu(char *out, size_t cap) {
    srn_platform p;
    srn_platform_get(&p);
    snprintf(out, cap, "%s", p.cpu[0] ? p.cpu : "unknown");
}

/* ---- everything there is to measure ---- */

typedef enum kind { READ, L2, L3, INT8, F32, BARRIER } kind;

typedef struct figure {
    kind kind;
    uint32_t threads; /* 0: all */
    size_t level;
    double turns[SRN_BENCH_MAX_REPS], median;
} figure;

enum { MAX_FIGURES = 48 };

typedef struct machine {
    srn_probe *p;
    char cpu[128];
    figure *f; /* [MAX_FIGURES] */
    size_t n;
} machine;

static void ask(machine *m, kind k, uint32_t threads, size_t level) {
    if (m->n == MAX_FIGURES) return;
    m->f[m->n].kind = k;
    m->f[m->n].threads = threads;
    m->f[m->n++].level = level;
}

static double measure(machine *m, const figure *f) {
    uint64_t l2 = srn_probe_l2_bytes(), l3 = srn_probe_l3_bytes();
    switch (f->kind) {
    case READ:
        return srn_probe_read(m->p, f->threads, READ_US);
    case L2:
        return srn_probe_read_again(m->p, 0, l2 / 2, ARITHMETIC_US);
    case L3:
        return srn_probe_read_again(m->p, 0, l3 / 2 / srn_probe_threads(m->p), ARITHMETIC_US);
    case INT8:
        return srn_probe_int8(m->p, f->level, 0, ARITHMETIC_US);
    case F32:
        return srn_probe_f32(m->p, f->level, 0, ARITHMETIC_US);
    case BARRIER:
        break;
    }
    return srn_probe_barrier_us(m->p, N_BARRIERS);
}

/* 1, 2, 4, ... threads and all of them. */
static void ask_for_all(machine *m) {
    uint32_t all = srn_probe_threads(m->p);
    for (uint32_t t = 1; t < all; t *= 2) ask(m, READ, t, 0);
    ask(m, READ, all, 0);
    if (srn_probe_l2_bytes()) ask(m, L2, 0, 0);
    /* Less than two second-level caches for each thread would be read from those. */
    if (srn_probe_l3_bytes() / 2 / all > 2 * srn_probe_l2_bytes()) ask(m, L3, 0, 0);
    for (size_t i = 0; i < srn_probe_levels(m->p); i++) ask(m, INT8, 0, i), ask(m, F32, 0, i);
    if (all > 1) ask(m, BARRIER, 0, 0);
}

static void measure_all(machine *m, size_t reps) {
    for (size_t r = 0; r <= reps; r++) { /* the first round warms up */
        for (size_t i = 0; i < m->n; i++) {
            double v = measure(m, &m->f[i]);
            if (r) m->f[i].turns[r - 1] = v;
        }
        srn_cli_progress(NULL, "measuring the machine", r, reps);
    }
    for (size_t i = 0; i < m->n; i++) m->f[i].median = srn__bench_spread(m->f[i].turns, reps).median;
}

/* ---- showing it ---- */

static void set_limits(json_t *o, json_t *threads, json_t *levels, const machine *m, const figure *f) {
    uint32_t all = srn_probe_threads(m->p);
    bool best = f->level + 1 == srn_probe_levels(m->p);
    json_t *v = json_real(f->median);
    switch (f->kind) {
    case READ:
        json_array_append_new(threads, json_pack("{s:i, s:O}", "threads", (int)f->threads, "bytes_per_s", v));
        if (f->threads == all) json_object_set(o, "read_bytes_per_s", v);
        break;
    case L2:
        json_object_set(o, "l2_read_bytes_per_s", v);
        break;
    case L3:
        json_object_set(o, "l3_read_bytes_per_s", v);
        break;
    case INT8:
        json_array_append_new(
            levels, json_pack("{s:s, s:O}", "isa", srn_probe_level(m->p, f->level), "int8_macs_per_s", v));
        if (best) json_object_set(o, "int8_macs_per_s", v);
        break;
    case F32:
        json_object_set(json_array_get(levels, json_array_size(levels) - 1), "f32_macs_per_s", v);
        if (best) json_object_set(o, "f32_macs_per_s", v);
        break;
    case BARRIER:
        json_object_set(o, "barrier_us", v);
        break;
    }
    json_decref(v);
}

static int print_json(const machine *m, srn_err *err) {
    json_t *threads = json_array(), *levels = json_array();
    json_t *o =
        json_pack("{s:s, s:s, s:i, s:i, s:I, s:I, s:I, s:f}", "cpu", m->cpu, "isa",
                  srn_probe_level(m->p, srn_probe_levels(m->p) - 1), "threads", (int)srn_probe_threads(m->p),
                  "cpus", (int)srn_cpu_count(), "l2_bytes", (json_int_t)srn_probe_l2_bytes(), "l3_bytes",
                  (json_int_t)srn_probe_l3_bytes(), "probe_bytes", (json_int_t)srn_probe_bytes(m->p),
                  "huge_page_share", srn_probe_huge_share(m->p));
    for (size_t i = 0; i < m->n; i++) set_limits(o, threads, levels, m, &m->f[i]);
    json_object_set_new(o, "read_by_threads", threads);
    json_object_set_new(o, "by_isa", levels);
    json_t *root = json_pack("{s:o}", "machine", o);
    if (!root) return srn_fail(err, SRN_ENOMEM, "the result cannot be written as JSON: out of memory");
    json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(root);
    putchar('\n');
    return SRN_OK;
}

static void print_row(bool md, const char *what, const char *how, double v, const char *unit) {
    printf(md ? "| %s | %s | %.2f %s |\n" : "%-24s %-12s %10.2f %s\n", what, how, v, unit);
}

static void print_figure(const machine *m, const figure *f, bool md) {
    char how[32];
    const char *level = srn_probe_level(m->p, f->level);
    snprintf(how, sizeof how, "%u thread%s", f->threads, f->threads == 1 ? "" : "s");
    switch (f->kind) {
    case READ:
        print_row(md, "reads from memory", how, f->median / 1e9, "GB/s");
        break;
    case L2:
        print_row(md, "reads from the L2 caches", "all threads", f->median / 1e9, "GB/s");
        break;
    case L3:
        print_row(md, "reads from the L3 cache", "all threads", f->median / 1e9, "GB/s");
        break;
    case INT8:
        print_row(md, "int8 multiply-adds", level, f->median / 1e9, "G/s");
        break;
    case F32:
        print_row(md, "f32 multiply-adds", level, f->median / 1e9, "G/s");
        break;
    case BARRIER:
        print_row(md, "a barrier", "all threads", f->median, "us");
        break;
    }
}

static void print_table(const machine *m, bool md) {
    printf("%s, %u CPUs, %u threads, %s; %.0f MB read, %.0f %% of them on huge pages\n", m->cpu,
           srn_cpu_count(), srn_probe_threads(m->p), srn_probe_level(m->p, srn_probe_levels(m->p) - 1),
           (double)srn_probe_bytes(m->p) / 1e6, 100 * srn_probe_huge_share(m->p));
    if (md) printf("\n| limit | with | measured |\n|---|---|---:|\n");
    for (size_t i = 0; i < m->n; i++) print_figure(m, &m->f[i], md);
}

int srn__bench_machine(uint32_t threads, size_t reps, srn_bench_format format, srn_err *err) {
    const char *limit = getenv("SERIN_CPU");
    machine m = {.f = srn_calloc(MAX_FIGURES, sizeof *m.f)};
    srn_probe_opts o = {.threads = threads, .cpu_limit = limit && *limit ? limit : NULL};
    int code = m.f ? srn_probe_new(&o, &m.p, err) : srn_fail_nomem(err, MAX_FIGURES * sizeof *m.f);
    if (!code) {
        srn__bench_cpu(m.cpu, sizeof m.cpu);
        ask_for_all(&m);
        measure_all(&m, reps);
        if (format == SRN_BENCH_JSON)
            code = print_json(&m, err);
        else
            print_table(&m, format == SRN_BENCH_MARKDOWN);
    }
    srn_probe_free(m.p);
    free(m.f);
    return code;
}
