/* serin bench: what its files share. bench.c reads the options and chooses; bench_run.c runs the tests of a
 * model, bench_machine.c measures the machine, bench_print.c shows both; bench_parallel.c is another
 * measurement altogether. Main thread.
 */
#ifndef SRN_CLI_BENCH_H
#define SRN_CLI_BENCH_H

#include "cli/info.h"
#include "cpu/probe.h"
#include "engine/engine.h"
#include "hardware/figures.h"
#include "model/cost.h"

enum { SRN_BENCH_MAX_REPS = 1000, SRN_BENCH_MAX_LIST = 16 };

typedef enum srn_bench_format { SRN_BENCH_TABLE, SRN_BENCH_MARKDOWN, SRN_BENCH_JSON } srn_bench_format;

/* Numbers with commas between them. */
typedef struct srn_bench_list {
    uint32_t v[SRN_BENCH_MAX_LIST];
    size_t n;
} srn_bench_list;
/* "1,4,16", each from min to max; option: its name, for errors. */
int srn__bench_read_list(const char *option, const char *text, uint32_t min, uint32_t max,
                         srn_bench_list *ret, srn_err *err);
uint32_t srn__bench_most(const srn_bench_list *l); /* the greatest; 0 of none */

/* Of several measurements, which are left in ascending order. */
typedef struct srn_bench_spread {
    double median, min, max;
} srn_bench_spread;
srn_bench_spread srn__bench_spread(double *v, size_t n);

/* ---- the machine ---- */

/* What the machine can do at most with all threads that were asked for. */
typedef struct srn_bench_limits {
    double read_bytes_per_s, int8_macs_per_s, f32_macs_per_s;
} srn_bench_limits;
/* One short turn of each. */
srn_bench_limits srn__bench_limits(srn_probe *p);

/* The limits as they were measured in turns throughout a call. */
typedef struct srn_bench_turns {
    double *v; /* [n][3] */
    size_t n, cap;
} srn_bench_turns;
int srn__bench_turns_add(srn_bench_turns *t, srn_bench_limits l, srn_err *err);
/* The medians, or zeros where there was no turn. */
srn_bench_limits srn__bench_turns_middle(const srn_bench_turns *t);

typedef struct srn_bench_machine {
    const char *cpu; /* the processor's name */
    const char *isa;
    uint32_t threads;
    uint64_t probe_bytes;
    double huge_share;
    srn_bench_limits limits;
} srn_bench_machine;

/* As a table for people. */
void srn__bench_limits_print(const srn_hw_limits *l, bool markdown);
/* serin bench --machine */
int srn__bench_machine(uint32_t threads, size_t reps, srn_bench_format format, srn_err *err);
/* The processor's name as the system gives it. */
void srn__bench_cpu(char *out, size_t cap);

/* ---- the tests of a model ---- */

typedef struct srn_bench_asked {
    const char *model; /* as it was given */
    const char *made;  /* what to call a model of random weights, whose file has no name; or NULL */
    uint32_t pp, tg, threads;
    size_t reps;
    srn_bench_list batch, depth;
    const char *kv; /* or NULL */
} srn_bench_asked;

typedef struct srn_bench_result {
    char test[64]; /* "pp512", "tg128@16 d8192" */
    srn_bench_spread tok_per_s;
    srn_cost each; /* per token */
    /* Shares of the limits, medians of the rounds'. Of limit_share, the greatest: what a perfect program
     * would still have left. */
    double read_share, int8_share, f32_share, limit_share;
    const char *limit; /* "read" or "compute": which one is nearest */
} srn_bench_result;

typedef struct srn_bench_report {
    char path[4096], cpu[128];
    char weights_id[65]; /* only for JSON, and not of a model that was made for this call */
    srn_bench_machine machine;
    srn_engine_info engine;
    const srn__info *info;
    const char *kv;
    size_t reps, n;
    srn_bench_result *results; /* [n] */
} srn_bench_report;

/* Runs everything and shows it. */
int srn__bench_model(const srn_bench_asked *a, srn_bench_format format, srn_err *err);
int srn__bench_print(const srn_bench_report *r, srn_bench_format format, srn_err *err);

/* ---- many requests at once ---- */

/* serin bench MODEL --parallel N: N requests at once through the scheduler, as a server has them. */
typedef struct srn_bench_parallel {
    const char *path;       /* of the model */
    const char *name;       /* what to call it */
    const char *kv;         /* type of the cache, or NULL */
    const char *cpu;        /* the processor's name */
    int64_t threads;        /* 0: all */
    int64_t n, requests;    /* at once; in all */
    int64_t prompt, output; /* tokens of each */
    int64_t long_prompt;    /* of one that arrives while the others run; 0: none */
    int64_t speculate;      /* most draft tokens a step */
    bool json;
} srn_bench_parallel;
int srn__bench_parallel(const srn_bench_parallel *b, srn_err *err);

/* The same n tokens for the same seed. */
void srn__bench_tokens(uint64_t seed, uint32_t n_vocab, int32_t *ret, size_t n);

#endif
