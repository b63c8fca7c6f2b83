/* serin bench: how fast this machine runs a model. Prefill of N tokens and decode of M, each timed over
 * repetitions after one warm-up; medians and extremes. Main thread. Refuses counts of zero for both tests and
 * tokens beyond the model's context.
 */
#include "cli/bench.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "format/format.h"

enum { MAX_REPS = 1000 };

typedef struct bench {
    srn_bench_parallel parallel; /* n 0: not asked for */
    int64_t pp, tg, reps, threads;
    const char *kv;
    bool json;
    char path[4096];
    srn_engine *e;
    srn_session *s;
    int32_t *tokens; /* [max(pp, tg)] */
    char cpu[128];
} bench;

/* What one test measured, in tokens per second. */
typedef struct figures {
    char test[32];
    double median, min, max;
} figures;

/* The processor's name as the kernel gives it. */
static void read_cpu(char *out, size_t cap) {
    snprintf(out, cap, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) return;
    char line[512];
    while (fgets(line, sizeof line, f)) {
        char *value = strchr(line, ':');
        if (!value || (strncmp(line, "model name", 10) != 0 && strncmp(line, "Processor", 9) != 0)) continue;
        value += 1 + strspn(value + 1, " \t");
        value[strcspn(value, "\n")] = 0;
        snprintf(out, cap, "%s", value);
        break;
    }
    fclose(f);
}

void srn__bench_tokens(uint64_t seed, uint32_t n_vocab, int32_t *ret, size_t n) {
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        ret[i] = (int32_t)((seed >> 33) % n_vocab);
    }
}

/* The same tokens in every run: what is measured does not depend on them, but a comparison should not
 * wonder. */
static int make_tokens(bench *b, srn_err *err) {
    size_t n = (size_t)SRN_MAX(b->pp, b->tg);
    b->tokens = srn_calloc(n, sizeof *b->tokens);
    if (!b->tokens) return srn_fail_nomem(err, n * sizeof *b->tokens);
    srn__bench_tokens(1, srn_engine_get_info(b->e).n_vocab, b->tokens, n);
    return SRN_OK;
}

/* One run over n tokens, `step` of them at a time, from an empty session; tokens per second. */
static int run_once(bench *b, uint32_t n, uint32_t step, double *ret, srn_err *err) {
    srn_session_truncate(b->s, 0);
    uint64_t start = srn_now_us();
    for (uint32_t i = 0; i < n; i += step) {
        int code = srn_session_feed(b->s, b->tokens + i, step, NULL, err);
        if (code) return code;
    }
    uint64_t us = srn_now_us() - start;
    *ret = (double)n * 1e6 / (double)SRN_MAX(us, 1u);
    return SRN_OK;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int run_test(bench *b, const char *name, uint32_t n, uint32_t step, figures *ret, srn_err *err) {
    double rates[MAX_REPS], warm_up;
    size_t reps = (size_t)b->reps;
    int code = run_once(b, n, step, &warm_up, err);
    for (size_t i = 0; !code && i < reps; i++) {
        code = run_once(b, n, step, &rates[i], err);
        srn_cli_progress(NULL, name, i + 1, reps);
    }
    if (code) return code;
    qsort(rates, reps, sizeof *rates, ascending);
    snprintf(ret->test, sizeof ret->test, "%s%" PRIu32, name, n);
    ret->min = rates[0];
    ret->max = rates[reps - 1];
    ret->median = reps % 2 ? rates[reps / 2] : (rates[reps / 2 - 1] + rates[reps / 2]) / 2;
    return SRN_OK;
}

static int print_json(const bench *b, const figures *f, size_t n, srn_err *err) {
    srn_engine_info info = srn_engine_get_info(b->e);
    const char *dash = strchr(info.device, '-'); /* "cpu-avx2" */
    const char *isa = dash ? dash + 1 : info.device;
    json_t *results = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(results, json_pack("{s:s, s:{s:f, s:f, s:f}}", "test", f[i].test, "tok_per_s",
                                                 "median", f[i].median, "min", f[i].min, "max", f[i].max));
    json_t *o = json_pack("{s:{s:s, s:i, s:s}, s:{s:s, s:s, s:I}, s:s, s:i, s:o}", "machine", "cpu", b->cpu,
                          "threads", (int)info.threads, "isa", isa, "model", "path", b->path, "architecture",
                          info.architecture, "weights_bytes", (json_int_t)info.weights_bytes, "engine",
                          info.engine_id, "reps", (int)b->reps, "results", results);
    if (!o) return srn_fail(err, SRN_EINVAL, "the result cannot be written as JSON: the path is not UTF-8");
    json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(o);
    putchar('\n');
    return SRN_OK;
}

static void print_table(const bench *b, const figures *f, size_t n) {
    srn_engine_info info = srn_engine_get_info(b->e);
    printf("%s, %s, %" PRIu32 " thread%s, %s\n", b->path, info.engine_id, info.threads,
           info.threads == 1 ? "" : "s", b->cpu);
    printf("%-10s %12s %12s %12s   tokens per second, %" PRId64 " run%s\n", "test", "median", "min", "max",
           b->reps, b->reps == 1 ? "" : "s");
    for (size_t i = 0; i < n; i++)
        printf("%-10s %12.1f %12.1f %12.1f\n", f[i].test, f[i].median, f[i].min, f[i].max);
}

static int run_parallel(bench *b, const char *model, srn_err *err) {
    srn_bench_parallel *p = &b->parallel;
    int code = srn_weights_locate(model, b->path, sizeof b->path, err);
    if (code) return code;
    read_cpu(b->cpu, sizeof b->cpu);
    p->path = b->path;
    p->cpu = b->cpu;
    p->kv = b->kv;
    p->threads = b->threads;
    p->json = b->json;
    if (!p->requests) p->requests = 2 * p->n;
    p->requests = SRN_MAX(p->requests, p->n);
    return srn__bench_parallel(p, err);
}

static int run(bench *b, const char *model, srn_err *err) {
    if (b->parallel.n) return run_parallel(b, model, err);
    if (b->pp == 0 && b->tg == 0)
        return srn_fail(err, SRN_EUSAGE, "--pp and --tg are both 0, so there is nothing to measure");
    int code = srn_weights_locate(model, b->path, sizeof b->path, err);
    srn_engine_opts o = {.threads = (uint32_t)b->threads,
                         .n_ctx = (uint32_t)SRN_MAX(b->pp, b->tg),
                         .kv_type = b->kv,
                         .progress = srn_cli_progress};
    if (!code) code = srn_engine_open(b->path, &o, &b->e, err);
    if (code == SRN_EINVAL) srn_fail_prefix(err, code, "the larger of --pp and --tg is the context");
    if (!code) code = srn_session_new(b->e, &b->s, err);
    if (!code) code = make_tokens(b, err);
    figures f[2];
    size_t n = 0;
    if (!code && b->pp) code = run_test(b, "pp", (uint32_t)b->pp, (uint32_t)b->pp, &f[n++], err);
    if (!code && b->tg) code = run_test(b, "tg", (uint32_t)b->tg, 1, &f[n++], err);
    if (code) return code;
    read_cpu(b->cpu, sizeof b->cpu);
    if (b->json) return print_json(b, f, n, err);
    print_table(b, f, n);
    return SRN_OK;
}

int srn__cmd_bench(int argc, char **argv) {
    bench b = {.pp = 512, .tg = 128, .reps = 3, .parallel = {.prompt = 130, .output = 64}};
    srn_bench_parallel *p = &b.parallel;
    const srn_opt opts[] = {
        {"pp", 0, SRN_OPT_INT, &b.pp, 0, 1 << 24, "N", "tokens of the prefill test; 0 leaves it out (512)"},
        {"tg", 0, SRN_OPT_INT, &b.tg, 0, 1 << 24, "N", "tokens of the decode test; 0 leaves it out (128)"},
        {"reps", 'r', SRN_OPT_INT, &b.reps, 1, MAX_REPS, "N", "timed runs of each test (3)"},
        {"parallel", 'p', SRN_OPT_INT, &p->n, 1, 512, "N", "so many requests at once, as a server has them"},
        {"prompt", 0, SRN_OPT_INT, &p->prompt, 1, 1 << 24, "N", "tokens of each of their prompts (130)"},
        {"output", 0, SRN_OPT_INT, &p->output, 1, 1 << 24, "N", "tokens of each of their answers (64)"},
        {"requests", 0, SRN_OPT_INT, &p->requests, 1, 1 << 20, "N",
         "requests in all (twice as many as at once)"},
        {"long-prompt", 0, SRN_OPT_INT, &p->long_prompt, 1, 1 << 24, "N",
         "what a prompt of so many tokens does to the others when it arrives"},
        {"speculate", 0, SRN_OPT_INT, &p->speculate, 0, 16, "N", "most draft tokens a step (0)"},
        {"kv", 0, SRN_OPT_STR, &b.kv, 0, 0, "TYPE", "type of the KV cache: f16 (default), q8_0 or f32"},
        {"threads", 't', SRN_OPT_INT, &b.threads, 1, 1024, "N", "threads (all CPUs)"},
        {"json", 0, SRN_OPT_FLAG, &b.json, 0, 0, NULL, "one JSON object"},
    };
    const srn_cli_spec spec = {
        .usage = "serin bench MODEL [--pp N] [--tg N] [--threads N] [--reps R] [--json]\n"
                 "       serin bench MODEL --parallel N [--prompt N] [--output N] [--long-prompt N] [--json]",
        .about =
            "Measures prefill (a prompt read at once) and decode (one token after the other) in tokens per\n"
            "second, each after one run that warms up. The context is the larger of the two counts.\n"
            "With --parallel: tokens per second of N requests at once, the time to their first token and "
            "the\n"
            "gaps between their tokens, without a server's overhead.",
        .examples = "  serin bench smollm2\n"
                    "  serin bench model.gguf --pp 4096 --tg 0 --threads 8\n"
                    "  SERIN_CPU=avx2 serin bench smollm2 --reps 10 --json\n"
                    "  serin bench smollm2 --parallel 16 --prompt 130 --output 64\n"
                    "  serin bench smollm2 --parallel 8 --output 2000 --long-prompt 6000\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 1,
        .max_operands = 1};
    const char *model;
    int n, stop = srn_cli_parse(&spec, argc, argv, &model, &n);
    if (stop >= 0) return stop;
    srn_err err = {0};
    int code = run(&b, model, &err);
    free(b.tokens);
    srn_session_free(b.s);
    srn_engine_close(b.e);
    return code ? srn_cli_error("bench", &err) : srn_cli_flush("bench");
}
