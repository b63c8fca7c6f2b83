/* serin bench: how fast this machine runs a model, and how fast it could. The options, and which of the
 * measurements they ask for: the tests of a model, the machine alone, many requests at once, or one's own
 * prompts, which have options of their own (bench_load.c). Main thread.
 * A model may be made for the call (--shape). Refuses tests of nothing, lists that are none, and options that
 * belong to another measurement.
 */
#include "cli/bench.h"

#include <stdlib.h>

#include "cli/bench_load.h"
#include "cli/cli.h"
#include "cli/synth.h"
#include "format/format.h"

typedef struct asked {
    srn_bench_parallel parallel; /* n 0: not asked for */
    int64_t pp, tg, reps, threads;
    const char *batch, *depth, *kv, *format;
    srn_bench_list batches, depths; /* of batch and depth */
    const char *made;               /* what to call the model that was made, or NULL */
    srn__synth_ask synth;           /* shape NULL: no model is made */
    bool json, machine;
} asked;

/* Of a count that was not given. */
#define NOT_GIVEN INT64_C(-1)

void srn__bench_tokens(uint64_t seed, uint32_t n_vocab, int32_t *ret, size_t n) {
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        ret[i] = (int32_t)((seed >> 33) % n_vocab);
    }
}

static int read_format(const asked *a, srn_bench_format *ret, srn_err *err) {
    static const char *const names[] = {"table", "md", "json"};
    *ret = a->json ? SRN_BENCH_JSON : SRN_BENCH_TABLE;
    if (!a->format) return SRN_OK;
    if (a->json && strcmp(a->format, "json") != 0)
        return srn_fail(err, SRN_EUSAGE, "--json is --format json: leave one of them out");
    for (size_t i = 0; i < SRN_LEN(names); i++)
        if (strcmp(a->format, names[i]) == 0) return *ret = (srn_bench_format)i, SRN_OK;
    return srn_fail(err, SRN_EUSAGE, "--format is table, md or json, not '%s'", a->format);
}

int srn__bench_read_list(const char *option, const char *text, uint32_t min, uint32_t max,
                         srn_bench_list *ret, srn_err *err) {
    srn_bench_list l = {.n = 0};
    const char *p = text;
    for (;;) {
        char *end;
        unsigned long long v = strtoull(p, &end, 10);
        if (*p < '0' || *p > '9' || v < min || v > max || (*end && *end != ','))
            return srn_fail(err, SRN_EUSAGE,
                            "--%s is a number from %u to %u, or several with commas between them, not '%s'",
                            option, min, max, text);
        if (l.n == SRN_BENCH_MAX_LIST)
            return srn_fail(err, SRN_EUSAGE, "--%s has more than %d numbers", option, SRN_BENCH_MAX_LIST);
        l.v[l.n++] = (uint32_t)v;
        if (!*end) break;
        p = end + 1;
    }
    *ret = l;
    return SRN_OK;
}

/* ---- before any work ---- */

/* The first of `options` that was given belongs to another measurement. */
typedef struct foreign {
    const char *option;
    bool given;
} foreign;

static int refuse(const foreign *options, size_t n, const char *why, srn_err *err) {
    for (size_t i = 0; i < n; i++)
        if (options[i].given) return srn_fail(err, SRN_EUSAGE, "%s %s: leave it out", options[i].option, why);
    return SRN_OK;
}

static int check_tests(asked *a, srn_err *err) {
    const srn_bench_parallel *p = &a->parallel;
    const foreign options[] = {{"--prompt", p->prompt != NOT_GIVEN},
                               {"--output", p->output != NOT_GIVEN},
                               {"--requests", p->requests != 0},
                               {"--long-prompt", p->long_prompt != 0},
                               {"--speculate", p->speculate != NOT_GIVEN}};
    int code = refuse(options, SRN_LEN(options), "is for --parallel", err);
    if (a->pp == NOT_GIVEN) a->pp = 512;
    if (a->tg == NOT_GIVEN) a->tg = 128;
    if (a->reps == NOT_GIVEN) a->reps = 3;
    if (!code && a->pp == 0 && a->tg == 0)
        return srn_fail(err, SRN_EUSAGE, "--pp and --tg are both 0, so there is nothing to measure");
    if (!code) code = srn__bench_read_list("batch", a->batch ? a->batch : "1", 1, 512, &a->batches, err);
    return code ? code
                : srn__bench_read_list("depth", a->depth ? a->depth : "0", 0, 1 << 24, &a->depths, err);
}

static int check_parallel(asked *a, srn_bench_format format, srn_err *err) {
    srn_bench_parallel *p = &a->parallel;
    const foreign options[] = {
        {"--pp", a->pp != NOT_GIVEN},     {"--tg", a->tg != NOT_GIVEN},
        {"--reps", a->reps != NOT_GIVEN}, {"--batch", a->batch != NULL},
        {"--depth", a->depth != NULL},    {"--format md", format == SRN_BENCH_MARKDOWN}};
    if (p->prompt == NOT_GIVEN) p->prompt = 130;
    if (p->output == NOT_GIVEN) p->output = 64;
    if (p->speculate == NOT_GIVEN) p->speculate = 0;
    if (!p->requests) p->requests = 2 * p->n;
    p->requests = SRN_MAX(p->requests, p->n);
    return refuse(options, SRN_LEN(options), "does not go with --parallel", err);
}

static int check_machine(asked *a, srn_err *err) {
    const foreign options[] = {{"--pp", a->pp != NOT_GIVEN},     {"--tg", a->tg != NOT_GIVEN},
                               {"--batch", a->batch != NULL},    {"--depth", a->depth != NULL},
                               {"--kv", a->kv != NULL},          {"--quant", a->synth.quant != NULL},
                               {"--parallel", a->parallel.n > 0}};
    if (a->reps == NOT_GIVEN) a->reps = 3;
    return refuse(options, SRN_LEN(options), "needs a model, and --machine has none", err);
}

static int check(asked *a, const char *model, srn_bench_format format, srn_err *err) {
    srn_kv_type kv;
    if (a->synth.shape && (model || a->machine))
        return srn_fail(err, SRN_EUSAGE, "--shape makes the model: leave %s out, or leave --shape out",
                        model ? "MODEL" : "--machine");
    if (a->machine && model)
        return srn_fail(err, SRN_EUSAGE,
                        "--machine measures the machine alone: leave '%s' out, or leave --machine out",
                        model);
    if (a->machine) return check_machine(a, err);
    if (!model && !a->synth.shape)
        return srn_fail(err, SRN_EUSAGE,
                        "MODEL is missing: give a model, --shape or --machine; `serin bench --help` tells "
                        "more");
    if (model && a->synth.quant)
        return srn_fail(err, SRN_EUSAGE,
                        "--quant is of a model that --shape makes; '%s' has a quantisation of its own",
                        model);
    if (a->kv && !srn_kv_type_by_name(a->kv, &kv))
        return srn_fail(err, SRN_EUSAGE, "--kv is f16, q8_0 or f32, not '%s'", a->kv);
    return a->parallel.n ? check_parallel(a, format, err) : check_tests(a, err);
}

/* ---- the measurements ---- */

static int run_parallel(const asked *a, const char *model, srn_bench_format format, srn_err *err) {
    srn_bench_parallel p = a->parallel;
    char path[4096], cpu[128];
    int code = srn_weights_locate(model, path, sizeof path, err);
    if (code) return code;
    srn__bench_cpu(cpu, sizeof cpu);
    p.path = path;
    p.name = a->made ? a->made : path;
    p.cpu = cpu;
    p.kv = a->kv;
    p.threads = a->threads;
    p.json = format == SRN_BENCH_JSON;
    return srn__bench_parallel(&p, err);
}

static int run_model(const asked *a, const char *model, srn_bench_format format, srn_err *err) {
    srn_bench_asked b = {.model = model,
                         .made = a->made,
                         .pp = (uint32_t)a->pp,
                         .tg = (uint32_t)a->tg,
                         .threads = (uint32_t)a->threads,
                         .reps = (size_t)a->reps,
                         .batch = a->batches,
                         .depth = a->depths,
                         .kv = a->kv};
    return srn__bench_model(&b, format, err);
}

static int run_all(asked *a, const char *model, srn_bench_format format, srn_err *err) {
    return a->parallel.n ? run_parallel(a, model, format, err) : run_model(a, model, format, err);
}

/* What a model of this shape could not do: to find that out after it was made would be late. */
static int check_shape(const asked *a, srn_err *err) {
    srn_shape shape;
    int code = srn__synth_shape(a->synth.shape, &shape, err);
    if (code) return code;
    if (!srn_arch_find(srn_str_of(shape.arch)))
        return srn_fail(err, SRN_EUNSUP, "'%s' is of architecture '%s', which this version cannot run",
                        shape.name, shape.arch);
    uint64_t ctx = srn__bench_most(&a->depths) + (uint64_t)SRN_MAX(a->pp, a->tg);
    if (!a->parallel.n && ctx > shape.n_ctx)
        return srn_fail(err, SRN_EUSAGE,
                        "--depth and the larger of --pp and --tg together are a context of %llu tokens, and "
                        "'%s' has one of %u",
                        (unsigned long long)ctx, shape.name, shape.n_ctx);
    return SRN_OK;
}

/* A model of random weights, in memory only. */
static int run_made(asked *a, srn_bench_format format, srn_err *err) {
    srn_out *out = NULL;
    char name[256];
    if (!a->synth.quant) a->synth.quant = "Q4_K_M";
    a->synth.threads = (uint32_t)SRN_MIN(a->threads, 64);
    int code = check_shape(a, err);
    if (!code) code = srn__synth_in_memory(&a->synth, &out, err);
    if (code) return code;
    snprintf(name, sizeof name, "%.100s %.20s (random weights)", a->synth.shape, a->synth.quant);
    a->made = name;
    code = run_all(a, srn_out_path(out), format, err);
    srn_out_free(out);
    return code;
}

static int run(asked *a, const char *model, srn_err *err) {
    srn_bench_format format;
    int code = read_format(a, &format, err);
    if (code) return code;
    code = check(a, model, format, err);
    if (code) return code;
    if (a->machine) return srn__bench_machine((uint32_t)a->threads, (size_t)a->reps, format, err);
    return a->synth.shape ? run_made(a, format, err) : run_all(a, model, format, err);
}

/* Whether one's own prompts are asked: a measurement with options of its own. */
static bool has_prompts(int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--prompts") == 0 || strncmp(argv[i], "--prompts=", 10) == 0 ||
            strcmp(argv[i], "--calls") == 0 || strncmp(argv[i], "--calls=", 8) == 0)
            return true;
    return false;
}

int srn__cmd_bench(int argc, char **argv) {
    if (has_prompts(argc, argv)) return srn__cmd_bench_load(argc, argv);
    asked a = {.pp = NOT_GIVEN,
               .tg = NOT_GIVEN,
               .reps = NOT_GIVEN,
               .parallel = {.prompt = NOT_GIVEN, .output = NOT_GIVEN, .speculate = NOT_GIVEN},
               .synth = {.seed = 1}};
    srn_bench_parallel *p = &a.parallel;
    const srn_opt opts[] = {
        {"pp", 0, SRN_OPT_INT, &a.pp, 0, 1 << 24, "N", "tokens of the prefill test; 0 leaves it out (512)"},
        {"tg", 0, SRN_OPT_INT, &a.tg, 0, 1 << 24, "N", "tokens of the decode test; 0 leaves it out (128)"},
        {"batch", 'b', SRN_OPT_STR, &a.batch, 0, 0, "N,N", "decode so many sequences together (1)"},
        {"depth", 'd', SRN_OPT_STR, &a.depth, 0, 0, "N,N",
         "tokens that each sequence holds before a test begins (0)"},
        {"reps", 'r', SRN_OPT_INT, &a.reps, 1, SRN_BENCH_MAX_REPS, "N", "timed runs of each test (3)"},
        {"kv", 0, SRN_OPT_STR, &a.kv, 0, 0, "TYPE", "type of the KV cache: f16 (default), q8_0 or f32"},
        {"threads", 't', SRN_OPT_INT, &a.threads, 1, 1024, "N", "threads (all CPUs)"},
        {"format", 'o', SRN_OPT_STR, &a.format, 0, 0, "F", "table, md (Markdown) or json"},
        {"json", 0, SRN_OPT_FLAG, &a.json, 0, 0, NULL, "the same as --format json"},
        {"shape", 's', SRN_OPT_STR, &a.synth.shape, 0, 0, "NAME|FILE",
         "make a model of random weights, in memory (`serin synth --list`)"},
        {"quant", 'q', SRN_OPT_STR, &a.synth.quant, 0, 0, "TYPE", "and its quantisation (Q4_K_M)"},
        {"machine", 0, SRN_OPT_FLAG, &a.machine, 0, 0, NULL, "the machine's limits alone, without a model"},
        {"parallel", 'p', SRN_OPT_INT, &p->n, 1, 512, "N", "so many requests at once, as a server has them"},
        {"prompt", 0, SRN_OPT_INT, &p->prompt, 1, 1 << 24, "N", "tokens of each of their prompts (130)"},
        {"output", 0, SRN_OPT_INT, &p->output, 1, 1 << 24, "N", "tokens of each of their answers (64)"},
        {"requests", 0, SRN_OPT_INT, &p->requests, 1, 1 << 20, "N",
         "requests in all (twice as many as at once)"},
        {"long-prompt", 0, SRN_OPT_INT, &p->long_prompt, 1, 1 << 24, "N",
         "what a prompt of so many tokens does to the others when it arrives"},
        {"speculate", 0, SRN_OPT_INT, &p->speculate, 0, 16, "N", "most draft tokens a step (0)"},
    };
    const srn_cli_spec spec = {
        .usage =
            "serin bench MODEL [--pp N] [--tg N] [--batch N,N] [--depth N,N] [--reps R] [--json]\n"
            "       serin bench --shape NAME [--quant TYPE] ...\n"
            "       serin bench --machine [--json]\n"
            "       serin bench MODEL --parallel N [--prompt N] [--output N] [--long-prompt N] [--json]\n"
            "       serin bench --prompts FILE|--calls FILTER ... (`serin bench --prompts FILE --help`)",
        .about =
            "Measures prefill (a prompt read at once), decode (one token after the other) and decode of\n"
            "several sequences together, in tokens per second of all of them, each after one run that warms\n"
            "up. Between the runs it measures the machine, and says which share of its limit each figure\n"
            "is: of the bytes that memory gives, or of the multiply-adds that the processor does.\n"
            "With --parallel: N requests at once through the scheduler: tokens per second, the time to\n"
            "their first token and the gaps between tokens, without a server's overhead.\n"
            "With --prompts or --calls: your own prompts, on several models and servers.",
        .examples = "  serin bench smollm2\n"
                    "  serin bench model.gguf --pp 4096 --tg 0 --threads 8\n"
                    "  serin bench smollm2 --batch 1,4,16 --depth 0,4096 -o md\n"
                    "  SERIN_CPU=avx2 serin bench smollm2 --reps 10 --json\n"
                    "  serin bench --shape llama-3.1-8b --quant Q4_K_M\n"
                    "  serin bench --machine\n"
                    "  serin bench smollm2 --parallel 16 --prompt 130 --output 64\n"
                    "  serin bench smollm2 --parallel 8 --output 2000 --long-prompt 6000\n"
                    "  serin bench --prompts prompts.jsonl --models small.Q8_0.gguf small.Q4_K_M.gguf\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 0,
        .max_operands = 1};
    const char *model = NULL;
    int n, stop = srn_cli_parse(&spec, argc, argv, &model, &n);
    if (stop >= 0) return stop;
    srn_err err = {0};
    int code = run(&a, model, &err);
    return code ? srn_cli_error("bench", &err) : srn_cli_flush("bench");
}
