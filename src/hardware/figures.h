/* figures: what a machine does in a second, measured (measure.c) or read from a file that another machine's
 * measurement wrote (figures_json.c): its limits, and how long the engine's own work takes on it. Predictions
 * start from these (predict.h); docs/probe.md says what each figure is.
 *
 * Figures are filled by one thread and then immutable; they own no memory.
 */
#ifndef SRN_HARDWARE_FIGURES_H
#define SRN_HARDWARE_FIGURES_H

#include <jansson.h>

#include "cpu/probe.h"
#include "model/device.h"
#include "quant/quant.h"

/* ---- limits: what any program could reach ---- */

enum { SRN_HW_MOST_READS = 16, SRN_HW_MOST_ISAS = 8 };

typedef struct srn_hw_read { /* from memory */
    uint32_t threads;
    double bytes_per_s;
} srn_hw_read;
typedef struct srn_hw_isa {
    char isa[24]; /* a level's name */
    double int8_macs_per_s, f32_macs_per_s;
} srn_hw_isa;

typedef struct srn_hw_limits {
    char cpu[128], isa[24]; /* the processor's name; the best instruction set that was measured */
    uint32_t threads, cpus; /* used; that the process may run on */
    uint64_t l2_bytes, l3_bytes, probe_bytes;
    double huge_page_share;               /* of probe_bytes */
    srn_hw_read reads[SRN_HW_MOST_READS]; /* by threads ascending; the last has all */
    uint32_t n_reads;
    double l2_read_bytes_per_s, l3_read_bytes_per_s; /* of all threads; 0: not measured */
    srn_hw_isa isas[SRN_HW_MOST_ISAS];               /* lowest first */
    uint32_t n_isas;
    double barrier_us; /* 0: one thread */
} srn_hw_limits;

/* Measures all limits in `reps` rounds that take turns, after one that warms up; every figure is the median
 * of its rounds. */
int srn_hw_measure_limits(srn_probe *p, uint32_t reps, srn_progress_fn *progress, void *ctx,
                          srn_hw_limits *ret, srn_err *err);
json_t *srn_hw_limits_json(const srn_hw_limits *l); /* NULL: no memory */
/* The median; v is left in ascending order. 0 of none. */
double srn_hw_median(double *v, size_t n);

/* ---- figures ---- */

/* The numbers of columns (tokens) for which products and the rest of a layer are measured. */
enum { SRN_HW_N_COLUMNS = 7, SRN_HW_MOST_ATTENTION = 32 };
uint32_t srn_hw_columns(uint32_t i); /* 1, 2, 4, 8, 16, 64, 512 */

/* Picoseconds a weight takes in a product with so many columns, all threads at work, the matrix in memory;
 * of one and of two planes of codes. 0: not measured. */
typedef struct srn_hw_product {
    double ps[2][SRN_HW_N_COLUMNS];
} srn_hw_product;

/* Picoseconds that a pair of a query head and a position takes in attention. */
typedef struct srn_hw_attention {
    srn_kv_type kv;
    uint32_t d;       /* of a head's keys, and of its values */
    uint32_t queries; /* of a sequence in the step: 1 in decode, 512 in prefill */
    uint32_t group;   /* query heads that share keys and values, which are read once for all */
    double ps;
} srn_hw_attention;

/* What a layer takes besides products and attention, at so many tokens: norms, codes, rope, barriers:
 * us + ps_per_element / 1e6 for each of the elements that srn_hw_layer_elements counts. May be negative,
 * where products are faster inside a model than by themselves. */
typedef struct srn_hw_rest {
    double us, ps_per_element;
} srn_hw_rest;

typedef struct srn_hw_figures {
    char id[72], name[128]; /* srn_hw_machine.id, .name */
    uint64_t taken_us;      /* Unix time */
    srn_hw_limits limits;
    double disk_read_bytes_per_s; /* past the page cache; 0: not measured */
    srn_hw_product products[SRN_TYPE_END];
    srn_hw_attention attention[SRN_HW_MOST_ATTENTION];
    uint32_t n_attention;
    srn_hw_rest rest[SRN_HW_N_COLUMNS];
} srn_hw_figures;

typedef struct srn_hw_measure_opts {
    uint32_t threads;      /* 0: as many as the process may run on */
    const char *cpu_limit; /* highest instruction set to use, or NULL */
    bool quick;            /* turns are short, and fewer */
    bool types[SRN_TYPE_END];
    const char *disk_file; /* to be read past the page cache; NULL: the disk is not measured */
    srn_progress_fn *progress;
    void *progress_ctx;
    const volatile int *cancel; /* may be NULL */
} srn_hw_measure_opts;
/* All but id and name. Errors: SRN_ENOMEM, SRN_EUNSUP, SRN_EINVAL, SRN_ECANCELLED. */
int srn_hw_measure(const srn_hw_measure_opts *o, srn_hw_figures *ret, srn_err *err);

/* JSON {"serin_figures": 1, ...} (docs/probe.md). file stands in messages; SRN_EFORMAT names the field. */
json_t *srn_hw_figures_json(const srn_hw_figures *f); /* NULL: no memory */
int srn_hw_figures_parse(srn_str text, const char *file, srn_hw_figures *ret, srn_err *err);
int srn_hw_figures_load(const char *path, srn_hw_figures *ret, srn_err *err);

/* Where the figures of a machine are kept: in the cache folder, by its id, instruction set and threads.
 * false: there is no such folder. */
bool srn_hw_figures_path(const char *id, const char *isa, uint32_t threads, char *ret, size_t cap);
/* Writes a file whole or not at all, with the folders above it. SRN_EIO names it. */
int srn_hw_figures_store(const srn_hw_figures *f, const char *path, srn_err *err);

/* ---- steps of a real device (steps.c) ---- */

/* A device of its own for a model, whose cache is filled with what random tokens leave there. */
typedef struct srn_hw_steps srn_hw_steps;
typedef struct srn_hw_steps_opts {
    uint32_t threads;
    const char *cpu_limit;
    srn_kv_type kv;
    uint32_t n_seqs, n_ctx; /* most sequences, and positions of each */
    srn_progress_fn *progress;
    void *progress_ctx;
    const volatile int *cancel;
} srn_hw_steps_opts;
int srn_hw_steps_new(const srn_model *m, const srn_hw_steps_opts *o, srn_hw_steps **ret, srn_err *err);
void srn_hw_steps_free(srn_hw_steps *s);
/* Seconds of a step in which n_seqs sequences that hold n_past positions get n_tokens more each, with the
 * logits of the last token of each if `logits`; n_seqs * n_tokens is at most 512. */
int srn_hw_steps_time(srn_hw_steps *s, uint32_t n_seqs, uint32_t n_past, uint32_t n_tokens, bool logits,
                      double *ret_s, srn_err *err);

#endif
