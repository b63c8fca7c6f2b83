/* The limits of the machine, measured in turns: what any program could reach. Every figure is the median of
 * rounds that take turns with each other, so that a while in which the machine is slow is a while for all of
 * them. Called by `serin bench --machine` and by measure.c, on the thread that has the probe.
 */
#include "hardware/figures.h"

#include <stdlib.h>

#include "cpu/cpu.h"

/* Microseconds of a turn: long enough for the clock, short beside a run. */
#define READ_US       40000u
#define ARITHMETIC_US 12000u
#define N_BARRIERS    2000u

double srn_hw_median(double *v, size_t n) {
    for (size_t i = 1; i < n; i++) {
        double x = v[i];
        size_t k = i;
        for (; k > 0 && v[k - 1] > x; k--) v[k] = v[k - 1];
        v[k] = x;
    }
    return n == 0 ? 0 : n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

uint32_t srn_hw_columns(uint32_t i) {
    static const uint32_t columns[SRN_HW_N_COLUMNS] = {1, 2, 4, 8, 16, 64, 512};
    return columns[SRN_MIN(i, (uint32_t)SRN_HW_N_COLUMNS - 1)];
}

typedef enum kind { READ, L2, L3, INT8, F32, BARRIER } kind;

typedef struct figure {
    kind kind;
    uint32_t threads; /* 0: all */
    size_t level;
    double *to;
} figure;

enum { MOST_FIGURES = SRN_HW_MOST_READS + 2 * SRN_HW_MOST_ISAS + 3 };

typedef struct asked {
    figure v[MOST_FIGURES];
    size_t n;
} asked;

static void ask(asked *a, kind k, uint32_t threads, size_t level, double *to) {
    a->v[a->n++] = (figure){k, threads, level, to};
}

static void ask_reads(asked *a, uint32_t all, srn_hw_limits *l) {
    for (uint32_t t = 1;; t = SRN_MIN(2 * t, all)) {
        l->reads[l->n_reads].threads = t;
        ask(a, READ, t, 0, &l->reads[l->n_reads++].bytes_per_s);
        if (t == all) return;
        if (l->n_reads + 1 == SRN_HW_MOST_READS) t = all;
    }
}

/* 1, 2, 4, ... threads and all of them. */
static void ask_for_all(asked *a, const srn_probe *p, srn_hw_limits *l) {
    ask_reads(a, l->threads, l);
    if (l->l2_bytes) ask(a, L2, 0, 0, &l->l2_read_bytes_per_s);
    /* Less than two second-level caches for each thread would be read from those. */
    if (l->l3_bytes / 2 / l->threads > 2 * l->l2_bytes) ask(a, L3, 0, 0, &l->l3_read_bytes_per_s);
    for (size_t i = 0; i < srn_probe_levels(p) && i < SRN_HW_MOST_ISAS; i++) {
        snprintf(l->isas[i].isa, sizeof l->isas[i].isa, "%s", srn_probe_level(p, i));
        ask(a, INT8, 0, i, &l->isas[i].int8_macs_per_s);
        ask(a, F32, 0, i, &l->isas[i].f32_macs_per_s);
        l->n_isas++;
    }
    if (l->threads > 1) ask(a, BARRIER, 0, 0, &l->barrier_us);
}

static double measure(srn_probe *p, const srn_hw_limits *l, const figure *f) {
    switch (f->kind) {
    case READ:
        return srn_probe_read(p, f->threads, READ_US);
    case L2:
        return srn_probe_read_again(p, 0, l->l2_bytes / 2, ARITHMETIC_US);
    case L3:
        return srn_probe_read_again(p, 0, l->l3_bytes / 2 / l->threads, ARITHMETIC_US);
    case INT8:
        return srn_probe_int8(p, f->level, 0, ARITHMETIC_US);
    case F32:
        return srn_probe_f32(p, f->level, 0, ARITHMETIC_US);
    case BARRIER:
        break;
    }
    return srn_probe_barrier_us(p, N_BARRIERS);
}

int srn_hw_measure_limits(srn_probe *p, uint32_t reps, srn_progress_fn *progress, void *ctx,
                          srn_hw_limits *ret, srn_err *err) {
    srn_hw_limits l = {.threads = srn_probe_threads(p),
                       .cpus = srn_cpu_count(),
                       .l2_bytes = srn_probe_l2_bytes(),
                       .l3_bytes = srn_probe_l3_bytes(),
                       .probe_bytes = srn_probe_bytes(p),
                       .huge_page_share = srn_probe_huge_share(p)};
    srn_platform platform;
    asked a = {.n = 0};
    double *turns = srn_calloc((size_t)MOST_FIGURES * reps, sizeof *turns);
    if (!turns) return srn_fail_nomem(err, (size_t)MOST_FIGURES * reps * sizeof *turns);
    srn_platform_get(&platform);
    snprintf(l.cpu, sizeof l.cpu, "%s", platform.cpu[0] ? platform.cpu : "unknown");
    snprintf(l.isa, sizeof l.isa, "%s", srn_probe_level(p, srn_probe_levels(p) - 1));
    ask_for_all(&a, p, &l);
    for (uint32_t r = 0; r <= reps; r++) { /* the first round warms up */
        for (size_t i = 0; i < a.n; i++) {
            double v = measure(p, &l, &a.v[i]);
            if (r) turns[i * reps + r - 1] = v;
        }
        if (progress) progress(ctx, "measuring the machine", r, reps);
    }
    for (size_t i = 0; i < a.n; i++) *a.v[i].to = srn_hw_median(turns + i * reps, reps);
    free(turns);
    *ret = l;
    return SRN_OK;
}
