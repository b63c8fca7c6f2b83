/* serin regress: two models, or two versions of a prompt, over the same requests: which answers still pass
 * their checks, how far the models are apart, how long and how fast they answer. Reads the ledger, never
 * writes it. Main thread.
 */
#include "cli/regress.h"

#include <stdlib.h>

enum { MAX_ITEMS = 1000000, FILE_TOKENS = 512 };

static int check_usage(srn__regress *g, srn_err *err) {
    if (!g->filter == !g->file)
        return srn_fail(
            err, SRN_EUSAGE,
            "give the requests: recorded calls with --calls FILTER, or a file with --prompts FILE");
    if (!g->from_prompt != !g->to_prompt)
        return srn_fail(err, SRN_EUSAGE, "--from-prompt and --to-prompt go together");
    if (g->from_prompt && !g->filter)
        return srn_fail(err, SRN_EUSAGE,
                        "versions of a prompt are compared over the calls that used it: give --calls FILTER");
    if (g->from_prompt && g->from && g->to && strcmp(g->from, g->to) != 0)
        return srn_fail(err, SRN_EUSAGE,
                        "compare either models or versions of a prompt: with --from-prompt, give one model "
                        "(--from)");
    if (g->from_prompt && !g->to) g->to = g->from;
    if (g->from_prompt && !g->from) g->from = g->to;
    if (!g->from || !g->to)
        return srn_fail(err, SRN_EUSAGE, "give %s",
                        g->from_prompt ? "the model with --from MODEL" : "both models: --from A --to B");
    if (g->fail_on && strcmp(g->fail_on, "lost") != 0 && strcmp(g->fail_on, "different") != 0)
        return srn_fail(err, SRN_EUSAGE, "--fail-on is 'lost' or 'different'");
    if (g->max_kl >= 0 && (g->no_divergence || g->from_prompt))
        return srn_fail(err, SRN_EUSAGE, "--max-kl needs the divergence, which is not measured here");
    if (g->file && !g->max_tokens) g->max_tokens = FILE_TOKENS;
    return SRN_OK;
}

/* Whether what was asked for by --fail-on and --max-kl is crossed. A divergence that could not be measured is
 * not below any bound. */
static bool fails(const srn__regress *g, const srn__regress_sum *total) {
    if (!total->compared) return true;
    if (g->fail_on && total->lost) return true;
    if (g->fail_on && !strcmp(g->fail_on, "different") && total->same < total->items) return true;
    return g->max_kl >= 0 && (!total->kl_tokens || total->kl_sum / (double)total->kl_tokens > g->max_kl);
}

static int show(const srn__regress *g, bool *ret_fails, srn_err *err) {
    srn__regress_sum *sums = NULL;
    size_t n = 0;
    int code = srn__regress_add_up(g, &sums, &n, err);
    if (code) return code;
    if (g->json) {
        json_t *o = srn__regress_json(g, sums, n);
        if (!o || json_dumpf(o, stdout, JSON_COMPACT)) code = srn_fail_nomem(err, g->n * 256);
        printf("\n");
        json_decref(o);
    } else {
        srn__regress_print(g, sums, n);
    }
    if (!code && g->html) code = srn__regress_write_html(g, sums, n, err);
    *ret_fails = fails(g, &sums[n - 1]);
    free(sums);
    return code;
}

static int run(srn__regress *g, bool *ret_fails, srn_err *err) {
    srn_buf dir;
    srn_buf_init(&dir, 4096);
    int code = check_usage(g, err);
    if (!code && !g->ledger) {
        code = srn_ledger_default_dir(&dir, err);
        g->ledger = dir.data;
    }
    if (!code) code = srn__regress_read(g, err);
    if (!code) code = srn__regress_run(g, err);
    if (!code) code = show(g, ret_fails, err);
    srn__regress_done(g);
    srn_buf_done(&dir);
    return code;
}

int srn__cmd_regress(int argc, char **argv) {
    srn__regress g = {.limit = 1000, .max_kl = -1};
    const srn_opt opts[] = {
        {"from", 0, SRN_OPT_STR, &g.from, 0, 0, "MODEL", "A: a file, or a name in the cache"},
        {"to", 0, SRN_OPT_STR, &g.to, 0, 0, "MODEL", "B"},
        {"from-prompt", 0, SRN_OPT_STR, &g.from_prompt, 0, 0, "NAME@V",
         "compare versions of a prompt on one model, over the calls that used it"},
        {"to-prompt", 0, SRN_OPT_STR, &g.to_prompt, 0, 0, "NAME@V", "the other version"},
        {"calls", 0, SRN_OPT_STR, &g.filter, 0, 0, "FILTER", "recorded calls that a filter finds"},
        {"prompts", 0, SRN_OPT_STR, &g.file, 0, 0, "FILE", "a request a line (JSONL; - for standard input)"},
        {"limit", 0, SRN_OPT_INT, &g.limit, 1, MAX_ITEMS, "N", "at most so many of them (1000)"},
        {"checks", 0, SRN_OPT_STR, &g.checks_file, 0, 0, "FILE", "a JSON list of checks for all answers"},
        {"greedy", 0, SRN_OPT_FLAG, &g.greedy, 0, 0, NULL, "the likeliest tokens, whatever was recorded"},
        {"max-tokens", 0, SRN_OPT_INT, &g.max_tokens, 1, 1 << 24, "N",
         "tokens of an answer whose request does not say (a file's: 512)"},
        {"no-divergence", 0, SRN_OPT_FLAG, &g.no_divergence, 0, 0, NULL,
         "do not measure it; both models must fit into memory for it"},
        {"fail-on", 0, SRN_OPT_STR, &g.fail_on, 0, 0, "WHAT",
         "end with 1 if an item was 'lost', or an answer is 'different'"},
        {"max-kl", 0, SRN_OPT_FLOAT, &g.max_kl, 0, 1e9, "X",
         "end with 1 if the mean divergence is more nats a token"},
        {"html", 0, SRN_OPT_STR, &g.html, 0, 0, "FILE", "also write a report with plots"},
        {"threads", 't', SRN_OPT_INT, &g.threads, 1, 1024, "N", "threads; only times depend on it"},
        {"ctx", 0, SRN_OPT_INT, &g.ctx, 1, 1 << 30, "N",
         "context in tokens (what a model was trained for, at most 8192)"},
        {"kv", 0, SRN_OPT_STR, &g.kv, 0, 0, "TYPE", "type of the KV cache: f16 (default), q8_0 or f32"},
        {"ledger", 0, SRN_OPT_STR, &g.ledger, 0, 0, "DIR|URL", "the ledger (the default folder)"},
        {"keys", 0, SRN_OPT_STR, &g.keys, 0, 0, "DIR", "its keys, where they are elsewhere"},
        {"json", 0, SRN_OPT_FLAG, &g.json, 0, 0, NULL, "one JSON object"},
    };
    const srn_cli_spec spec = {
        .usage = "serin regress --from A --to B (--calls FILTER | --prompts FILE)",
        .about = "Asks two models, or two versions of a prompt, the same: which answers still pass their "
                 "checks, how far the models are apart, how long and how fast they answer.",
        .examples =
            "  serin regress --from small.Q8_0.gguf --to small.Q4_K_M.gguf --calls 'since=1d' --html "
            "report.html\n"
            "  serin regress --from small --to new --prompts cases.jsonl --checks checks.json --fail-on "
            "lost\n"
            "  serin regress --from small --from-prompt support@3 --to-prompt support@4 --calls 'since=7d'\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
    };
    int n = 0, early = srn_cli_parse(&spec, argc, argv, NULL, &n);
    srn_err err = {0};
    bool failed = false;
    if (early >= 0) return early;
    if (run(&g, &failed, &err)) return srn_cli_error("regress", &err);
    int code = srn_cli_flush("regress");
    return code ? code : failed;
}
