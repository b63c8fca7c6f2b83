/* serin bench --machine: the limits of the machine, which src/hardware measures, shown; and the short turns
 * that measure some of them between the runs of a model, so that a while in which the machine is slow is a
 * while for both.
 */
#include <jansson.h>
#include <stdlib.h>

#include "cli/bench.h"
#include "cli/cli.h"
#include "hardware/figures.h"

/* Microseconds of a turn: long enough for the clock, short beside a run. */
#define READ_US       40000u
#define ARITHMETIC_US 12000u

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

static int print_json(const srn_hw_limits *l, srn_err *err) {
    json_t *root = json_pack("{s:o}", "machine", srn_hw_limits_json(l));
    if (!root) return srn_fail(err, SRN_ENOMEM, "the result cannot be written as JSON: out of memory");
    json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(root);
    putchar('\n');
    return SRN_OK;
}

static void print_row(bool md, const char *what, const char *how, double v, const char *unit) {
    if (v > 0) printf(md ? "| %s | %s | %.2f %s |\n" : "%-24s %-12s %10.2f %s\n", what, how, v, unit);
}

void srn__bench_limits_print(const srn_hw_limits *l, bool md) {
    printf("%s, %u CPUs, %u threads, %s; %.0f MB read, %.0f %% of them on huge pages\n", l->cpu, l->cpus,
           l->threads, l->isa, (double)l->probe_bytes / 1e6, 100 * l->huge_page_share);
    if (md) printf("\n| limit | with | measured |\n|---|---|---:|\n");
    for (uint32_t i = 0; i < l->n_reads; i++) {
        char how[32];
        snprintf(how, sizeof how, "%u thread%s", l->reads[i].threads, l->reads[i].threads == 1 ? "" : "s");
        print_row(md, "reads from memory", how, l->reads[i].bytes_per_s / 1e9, "GB/s");
    }
    print_row(md, "reads from the L2 caches", "all threads", l->l2_read_bytes_per_s / 1e9, "GB/s");
    print_row(md, "reads from the L3 cache", "all threads", l->l3_read_bytes_per_s / 1e9, "GB/s");
    for (uint32_t i = 0; i < l->n_isas; i++) {
        print_row(md, "int8 multiply-adds", l->isas[i].isa, l->isas[i].int8_macs_per_s / 1e9, "G/s");
        print_row(md, "f32 multiply-adds", l->isas[i].isa, l->isas[i].f32_macs_per_s / 1e9, "G/s");
    }
    print_row(md, "a barrier", "all threads", l->barrier_us, "us");
}

int srn__bench_machine(uint32_t threads, size_t reps, srn_bench_format format, srn_err *err) {
    const char *limit = getenv("SERIN_CPU");
    srn_probe_opts o = {.threads = threads, .cpu_limit = limit && *limit ? limit : NULL};
    srn_probe *p = NULL;
    srn_hw_limits l;
    int code = srn_probe_new(&o, &p, err);
    if (!code) code = srn_hw_measure_limits(p, (uint32_t)reps, srn_cli_progress, NULL, &l, err);
    if (!code && format == SRN_BENCH_JSON)
        code = print_json(&l, err);
    else if (!code)
        srn__bench_limits_print(&l, format == SRN_BENCH_MARKDOWN);
    srn_probe_free(p);
    return code;
}
