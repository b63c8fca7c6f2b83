/* serin regress: two models, or two versions of a prompt, over the same requests: which answers still pass
 * their checks, how far the models are apart, how long and how fast they answer. Reads the ledger, never
 * writes it. Main thread.
 */
#include "cli/regress.h"

#include <stdlib.h>

#include "cli/ledger.h"
#include "format/format.h"

enum { MAX_ITEMS = 1000000 };

static int check_sides(srn_regress *g, srn_err *err) {
    srn_regress_side *from = &g->sides[0], *to = &g->sides[1];
    if (!from->prompt != !to->prompt)
        return srn_fail(err, SRN_EUSAGE, "--from-prompt and --to-prompt go together");
    if (from->prompt && !g->filter)
        return srn_fail(err, SRN_EUSAGE,
                        "versions of a prompt are compared over the calls that used it: give --calls FILTER");
    if (from->prompt && from->model && to->model && strcmp(from->model, to->model) != 0)
        return srn_fail(err, SRN_EUSAGE,
                        "compare either models or versions of a prompt: with --from-prompt, give one model "
                        "(--from)");
    if (from->prompt && (from->program || to->program))
        return srn_fail(err, SRN_EUSAGE, "compare either programs or versions of a prompt");
    if ((from->program || to->program) && !to->model) to->model = from->model;
    if ((from->program || to->program) && !from->model) from->model = to->model;
    if (from->prompt && !to->model) to->model = from->model;
    if (from->prompt && !from->model) from->model = to->model;
    if (!from->model || !to->model)
        return srn_fail(err, SRN_EUSAGE, "give %s",
                        from->prompt ? "the model with --from MODEL" : "both models: --from A --to B");
    return SRN_OK;
}

static int check_usage(srn__regress *c, srn_err *err) {
    srn_regress *g = &c->g;
    if (!g->filter == !c->file)
        return srn_fail(
            err, SRN_EUSAGE,
            "give the requests: recorded calls with --calls FILTER, or a file with --prompts FILE");
    int code = check_sides(g, err);
    if (code) return code;
    if (c->fail_on && strcmp(c->fail_on, "lost") != 0 && strcmp(c->fail_on, "different") != 0)
        return srn_fail(err, SRN_EUSAGE, "--fail-on is 'lost' or 'different'");
    if (c->max_kl >= 0 && (g->no_divergence || g->sides[0].prompt))
        return srn_fail(err, SRN_EUSAGE, "--max-kl needs the divergence, which is not measured here");
    if (c->file && !c->max_tokens) c->max_tokens = SRN_REGRESS_LINE_TOKENS;
    g->limit = (uint64_t)c->limit;
    g->max_tokens = (uint32_t)c->max_tokens;
    return SRN_OK;
}

/* ---- the sides ---- */

static int open_side(void *ctx, int side, srn_answerer **ret, srn_err *err) {
    srn__regress *c = ctx;
    srn_regress_side *s = &c->g.sides[side];
    srn_replayer *r;
    int code = srn_weights_locate(s->model, c->paths[side], sizeof c->paths[side], err);
    s->path = c->paths[side];
    if (!code && s->program) {
        const srn__program_opts p = {.program = s->program,
                                     .model = s->path,
                                     .kv = c->kv,
                                     .ledger = c->g.filter ? c->ledger : NULL,
                                     .keys = c->keys,
                                     .threads = (uint32_t)c->threads,
                                     .ctx = (uint32_t)c->ctx,
                                     .patience_s = (uint32_t)c->patience};
        return srn__program_open(&p, ret, err);
    }
    const srn_replayer_opts o = {.model = c->paths[side],
                                 .kv = c->kv,
                                 .threads = (uint32_t)c->threads,
                                 .ctx = (uint32_t)c->ctx,
                                 .parallel = SRN_REGRESS_WORKERS,
                                 .prompts = c->g.prompts,
                                 .progress = srn_cli_progress};
    if (!code) code = srn_replayer_open(&o, &r, err);
    if (code) return code;
    *ret = srn_replayer_answerer(r);
    return SRN_OK;
}

static void close_side(void *ctx, int side, srn_answerer *a) {
    (void)ctx, (void)side;
    a->close(a);
}

static void progress(void *ctx, const char *what, uint64_t done, uint64_t total) {
    (void)ctx;
    srn_cli_progress(NULL, what, done, total);
}

/* ---- the command ---- */

/* Whether what was asked for by --fail-on and --max-kl is crossed. A divergence that could not be measured is
 * not below any bound. */
static bool fails(const srn__regress *c, const srn_regress_sum *total) {
    if (!total->compared) return true;
    if (c->fail_on && total->lost) return true;
    if (c->fail_on && !strcmp(c->fail_on, "different") && total->same < total->items) return true;
    return c->max_kl >= 0 && (!total->kl_tokens || total->kl_sum / (double)total->kl_tokens > c->max_kl);
}

static int show(const srn__regress *c, bool *ret_fails, srn_err *err) {
    const srn_regress *g = &c->g;
    srn_regress_sum *sums = NULL;
    size_t n = 0;
    int code = srn_regress_add_up(g, &sums, &n, err);
    if (code) return code;
    if (c->json) {
        json_t *o = srn_regress_json(g, sums, n);
        if (!o || json_dumpf(o, stdout, JSON_COMPACT)) code = srn_fail_nomem(err, g->n * 256);
        printf("\n");
        json_decref(o);
    } else {
        srn__regress_print(g, sums, n);
    }
    if (!code && c->html) code = srn__regress_write_html(g, c->html, sums, n, err);
    *ret_fails = fails(c, &sums[n - 1]);
    free(sums);
    return code;
}

/* Of both sides where one is another build, so that it is known whether they are one. */
static int identify(srn_regress *g, srn_err *err) {
    int code = SRN_OK;
    if (!g->sides[0].program && !g->sides[1].program) return SRN_OK;
    for (int k = 0; !code && k < 2; k++)
        code = srn__program_id(g->sides[k].program, g->sides[k].program_id, err);
    return code;
}

static int open_ledger(srn__regress *c, srn_err *err) {
    srn_err none;
    int code = srn_reader_open_in(c->ledger, c->folder, c->keys, &c->g.reader, err);
    if (!code && srn_prompts_read(c->ledger, c->keys, &c->g.prompts, &none)) c->g.prompts = NULL;
    return code;
}

static int run(srn__regress *c, bool *ret_fails, srn_err *err) {
    srn_buf dir = {0};
    int code = check_usage(c, err);
    if (!code) code = srn__ledger_place(&c->ledger, c->folder, &dir, err);
    c->g.open = open_side;
    c->g.close = close_side;
    c->g.program = srn__regress_ask_program;
    c->g.progress = progress;
    c->g.ctx = c;
    if (!code) code = identify(&c->g, err);
    if (!code) code = srn__regress_read_files(c, err);
    if (!code && c->g.filter) code = open_ledger(c, err);
    if (!code) code = srn_regress_read(&c->g, err);
    if (!code) code = srn_regress_run(&c->g, err);
    if (!code) code = show(c, ret_fails, err);
    srn_regress_done(&c->g);
    srn_prompts_close(c->g.prompts);
    srn_reader_close(c->g.reader);
    srn_buf_done(&dir);
    return code;
}

int srn__cmd_regress(int argc, char **argv) {
    srn__regress c = {.limit = 1000, .patience = 600, .max_kl = -1, .g.workers = SRN_REGRESS_WORKERS};
    const srn_opt opts[] = {
        {"from", 0, SRN_OPT_STR, &c.g.sides[0].model, 0, 0, "MODEL", "A: a file, or a name in the cache"},
        {"to", 0, SRN_OPT_STR, &c.g.sides[1].model, 0, 0, "MODEL", "B"},
        {"from-prompt", 0, SRN_OPT_STR, &c.g.sides[0].prompt, 0, 0, "NAME@V",
         "compare versions of a prompt on one model, over the calls that used it"},
        {"to-prompt", 0, SRN_OPT_STR, &c.g.sides[1].prompt, 0, 0, "NAME@V", "the other version"},
        {"from-program", 0, SRN_OPT_STR, &c.g.sides[0].program, 0, 0, "FILE",
         "another build of serin that answers for A"},
        {"to-program", 0, SRN_OPT_STR, &c.g.sides[1].program, 0, 0, "FILE", "and for B"},
        {"calls", 0, SRN_OPT_STR, &c.g.filter, 0, 0, "FILTER", "recorded calls that a filter finds"},
        {"prompts", 0, SRN_OPT_STR, &c.file, 0, 0, "FILE", "a request a line (JSONL; - for standard input)"},
        {"limit", 0, SRN_OPT_INT, &c.limit, 1, MAX_ITEMS, "N", "at most so many of them (1000)"},
        {"checks", 0, SRN_OPT_STR, &c.checks_file, 0, 0, "FILE", "a JSON list of checks for all answers"},
        {"greedy", 0, SRN_OPT_FLAG, &c.g.greedy, 0, 0, NULL, "the likeliest tokens, whatever was recorded"},
        {"max-tokens", 0, SRN_OPT_INT, &c.max_tokens, 1, 1 << 24, "N",
         "tokens of an answer whose request does not say (a file's: 512)"},
        {"no-divergence", 0, SRN_OPT_FLAG, &c.g.no_divergence, 0, 0, NULL,
         "do not measure it; both models must fit into memory for it"},
        {"fail-on", 0, SRN_OPT_STR, &c.fail_on, 0, 0, "WHAT",
         "end with 1 if an item was 'lost', or an answer is 'different'"},
        {"max-kl", 0, SRN_OPT_FLOAT, &c.max_kl, 0, 1e9, "X",
         "end with 1 if the mean divergence is more nats a token"},
        {"html", 0, SRN_OPT_STR, &c.html, 0, 0, "FILE", "also write a report with plots"},
        {"threads", 't', SRN_OPT_INT, &c.threads, 1, 1024, "N", "threads; only times depend on it"},
        {"ctx", 0, SRN_OPT_INT, &c.ctx, 1, 1 << 30, "N",
         "context in tokens (what a model was trained for, at most 8192)"},
        {"kv", 0, SRN_OPT_STR, &c.kv, 0, 0, "TYPE", "type of the KV cache: f16 (default), q8_0 or f32"},
        {"patience", 0, SRN_OPT_INT, &c.patience, 1, 86400, "SECONDS",
         "such a build may be silent for so long (600)"},
        {"as-side", 0, SRN_OPT_FLAG, &c.as_side, 0, 0, NULL,
         "answer another serin on standard input and output"},
        {"ledger", 0, SRN_OPT_STR, &c.ledger, 0, 0, "DIR|URL", "the ledger (the default folder)"},
        SRN__LEDGER_FOLDER(&c.folder),
        {"keys", 0, SRN_OPT_STR, &c.keys, 0, 0, "DIR", "its keys, where they are elsewhere"},
        {"json", 0, SRN_OPT_FLAG, &c.json, 0, 0, NULL, "one JSON object"},
    };
    const srn_cli_spec spec = {
        .usage = "serin regress --from A --to B (--calls FILTER | --prompts FILE)",
        .about = "Asks two models, two versions of a prompt or two builds of serin the same: which answers "
                 "still pass their "
                 "checks, how far the models are apart, how long and how fast they answer.",
        .examples =
            "  serin regress --from small.Q8_0.gguf --to small.Q4_K_M.gguf --calls 'since=1d' --html "
            "report.html\n"
            "  serin regress --from small --to new --prompts cases.jsonl --checks checks.json --fail-on "
            "lost\n"
            "  serin regress --from small --to-program ./serin-new --prompts cases.jsonl --fail-on "
            "different\n"
            "  serin regress --from small --from-prompt support@3 --to-prompt support@4 --calls 'since=7d'\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
    };
    int n = 0, early = srn_cli_parse(&spec, argc, argv, NULL, &n);
    srn_err err = {0};
    bool failed = false;
    if (early >= 0) return early;
    if (c.as_side) return srn__regress_as_side();
    if (run(&c, &failed, &err)) return srn_cli_error("regress", &err);
    int flushed = srn_cli_flush("regress");
    return flushed ? flushed : failed;
}
