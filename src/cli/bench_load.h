/* serin bench --prompts, inside: options and the order of things (bench_load.c), who answers
 * (bench_load_target.c), how far models are apart (bench_load_diverge.c), what is printed
 * (bench_load_print.c, bench_load_html.c). How it is measured is the library's (serve/load.h). Main thread.
 */
#ifndef SRN_CLI_BENCH_LOAD_H
#define SRN_CLI_BENCH_LOAD_H

#include "cli/bench.h"
#include "cli/cli.h"
#include "serve/load.h"
#include "serve/serve.h"

typedef struct srn__bench_divergence { /* from the reference, on its answers */
    uint64_t items, tokens;
    double mean, max; /* nats a token */
    double likeliest; /* share of the tokens at which both expect the same one most */
    srn_err why;      /* code set: it is not known */
} srn__bench_divergence;

/* Who answers: a model of this machine, served on loopback while it is its turn, or a server elsewhere. */
typedef struct srn__bench_target {
    const char *said;    /* as it was given */
    const char *key_env; /* of a URL; or NULL */
    bool local;
    char name[256]; /* what tables call it */
    char path[4096];
    char base[2048], model[512]; /* whom to ask, and its name there */
    char quantisation[SRN_QUANTISATION_CHARS];
    uint64_t weights_bytes;
    /* While it is its turn. */
    srn_config config;
    srn_server *server;
    const char *bearer;
    uint64_t before_bytes;
    /* What came of it. */
    double start_seconds;
    uint64_t memory_bytes; /* the most that the process had beyond what it had before; 0: not known */
    srn_err why;           /* it could not be measured */
    srn__bench_divergence divergence;
} srn__bench_target;

typedef struct srn__bench_cell { /* one target under one load */
    const srn__bench_target *target;
    uint32_t concurrency; /* of a closed loop, else 0 */
    double rate;
    srn_load_run run;
    srn_load_sum sum;
    double joules;               /* NAN: not known */
    size_t n_checked, n_passed;  /* answers with checks */
    size_t n_compared, n_agreed; /* answers to prompts that the reference answered too; the same text */
} srn__bench_cell;

typedef struct srn__bench_load {
    const char *prompts, *calls, *slo_text, *report, *kv, *concurrency_text;
    const char *ledger, *folder, *keys, *checks_file, *ca;
    srn_str_list models, urls, key_envs;
    int64_t requests, warm_up, limit, max_tokens, timeout_s, threads, ctx, seed, divergence;
    double rate;
    bool poisson, keep_cache, raw, json;
    /* made of these */
    uint64_t salt; /* of the prefixes of all loads */
    srn_bench_list concurrency;
    srn_load_slo slo;
    srn_load_asks asks;
    srn_checks *checks;
    srn__bench_target *targets;
    size_t n_targets; /* the first one is the reference */
    srn__bench_cell *cells;
    size_t n_cells;
    srn_err no_energy; /* why there are no joules */
    char cpu[128];
    bool cut; /* Ctrl-C */
    const volatile int *cancel;
} srn__bench_load;

/* ---- bench_load_target.c ---- */
/* Finds every model and every URL, before anything is measured. */
int srn__bench_targets_find(srn__bench_load *b, srn_err *err);
int srn__bench_target_start(srn__bench_load *b, srn__bench_target *t, srn_err *err);
void srn__bench_target_stop(srn__bench_target *t);

/* ---- bench_load_diverge.c ---- */
/* How far each model is from the reference, over the first prompts, as many as --divergence says. */
void srn__bench_diverge(srn__bench_load *b);

/* ---- bench_load_print.c, bench_load_html.c ---- */
typedef struct srn__bench_traffic {
    size_t n;
    uint64_t n_recorded, n_input, n_cached, n_output; /* tokens as they were recorded */
} srn__bench_traffic;
srn__bench_traffic srn__bench_traffic_of(const srn__bench_load *b);
void srn__bench_load_name(const srn__bench_cell *c, char *ret, size_t cap); /* "4", "2.5/s" */
bool srn__bench_has_slo(const srn__bench_load *b);
typedef struct srn__bench_counts { /* of all loads of a target */
    size_t n_cells, n_checked, n_passed, n_compared, n_agreed;
    uint64_t n_output;
    double joules; /* NAN: not known */
} srn__bench_counts;
srn__bench_counts srn__bench_counts_of(const srn__bench_load *b, const srn__bench_target *t);
int srn__bench_load_html(const srn__bench_load *b, srn_err *err);
void srn__bench_load_print(const srn__bench_load *b);
json_t *srn__bench_load_json(const srn__bench_load *b);

/* serin bench --prompts and --calls: the same arguments as serin bench's. */
int srn__cmd_bench_load(int argc, char **argv);

#endif
