/* serin bench --prompts: one's own prompts on several models and servers, under several loads. Reads what is
 * asked, finds who answers, and measures one after the other; after Ctrl-C what was measured until then is
 * shown, and that it is not all. Main thread. Refuses options that contradict each other, before any work.
 */
#include "cli/bench_load.h"

#include <math.h>
#include <stdlib.h>

#include "cli/ledger.h"
#include "cli/regress.h"
#include "hardware/energy.h"

enum { MAX_FILE = 512 << 20, MAX_OPERANDS = 16 };
static const char COMMAND[] = "bench";

/* ---- options ---- */

static int check(srn__bench_load *b, srn_err *err) {
    const char *list = b->concurrency_text;
    int code = SRN_OK;
    if (!b->prompts == !b->calls)
        return srn_fail(err, SRN_EUSAGE, "--prompts and --calls both say what is asked: give one");
    if (!b->models.n && !b->urls.n)
        return srn_fail(err, SRN_EUSAGE,
                        "nobody is there to answer: give --models MODEL... or --url URL; `serin bench "
                        "--prompts FILE --help` tells more");
    if (b->models.n + b->urls.n > MAX_OPERANDS)
        return srn_fail(err, SRN_EUSAGE, "there are more than %d models and URLs", MAX_OPERANDS);
    if (b->rate > 0 && list)
        return srn_fail(err, SRN_EUSAGE,
                        "--concurrency and --rate are two kinds of load: leave one of them out");
    if (b->poisson && !(b->rate > 0))
        return srn_fail(err, SRN_EUSAGE, "--poisson says how requests of a --rate arrive; give one");
    if (b->rate > 0)
        b->concurrency.n = 0;
    else
        code = srn__bench_read_list("concurrency", list ? list : "1,4", 1, 512, &b->concurrency, err);
    return !code && b->slo_text ? srn_load_slo_parse(b->slo_text, &b->slo, err) : code;
}

/* ---- what is asked ---- */

static int read_file(srn__bench_load *b, srn_err *err) {
    char *text;
    size_t n;
    int code = srn_read_file(b->prompts, MAX_FILE, &text, &n, err);
    if (code) return code;
    code = srn_load_asks_lines(&b->asks, (srn_str){text, n}, b->prompts, err);
    free(text);
    return code;
}

static int read_ledger(srn__bench_load *b, srn_err *err) {
    srn_buf place;
    srn_reader *r = NULL;
    int code = srn__ledger_place(&b->ledger, b->folder, &place, err);
    if (!code) code = srn_reader_open_in(b->ledger, b->folder, b->keys, &r, err);
    if (!code) code = srn_load_asks_calls(&b->asks, r, b->calls, err);
    srn_reader_close(r);
    srn_buf_done(&place);
    return code;
}

static int read_asks(srn__bench_load *b, srn_err *err) {
    b->asks.raw = b->raw;
    b->asks.limit = (size_t)b->limit;
    int code = b->prompts ? read_file(b, err) : read_ledger(b, err);
    if (!code && b->checks_file) code = srn__regress_checks_of(b->checks_file, &b->checks, err);
    return code;
}

/* ---- checks and agreement ---- */

static bool passes(const srn_checks *c, srn_str answer) {
    bool all = true;
    for (uint32_t i = 0; c && i < srn_checks_count(c); i++) {
        const char *const *argv = srn_check_command(c, i);
        int ended = argv ? srn__regress_ask_program(argv, answer) : 0;
        all = all && ended != SRN__REGRESS_NO_VERDICT && srn_check_passes(c, i, answer, ended);
    }
    return all;
}

static void judge(const srn__bench_load *b, srn__bench_cell *c) {
    for (size_t i = 0; i < c->run.n; i++) {
        const srn_load_answer *a = &c->run.answers[i];
        const srn_checks *own = b->asks.items[a->ask].checks;
        srn_str text = {a->text, a->n_text};
        if (a->why.code || (!own && !b->checks)) continue;
        c->n_checked++;
        c->n_passed += passes(own, text) && passes(b->checks, text);
    }
}

/* The reference under the load of a cell: it was measured first. */
static const srn__bench_cell *reference_of(const srn__bench_load *b, size_t load) {
    return load < b->n_cells && b->cells[load].target == b->cells[0].target ? &b->cells[load] : NULL;
}

/* With what the reference answered to the same text: prefixes are alike in loads of one number. */
static void compare(const srn__bench_load *b, srn__bench_cell *c, size_t load) {
    const srn__bench_cell *was = reference_of(b, load);
    if (!was || was == c) return;
    for (size_t i = 0, k = 0; i < c->run.n; i++) {
        const srn_load_answer *a = &c->run.answers[i];
        while (k < was->run.n && was->run.answers[k].index < a->index) k++;
        const srn_load_answer *r = k < was->run.n ? &was->run.answers[k] : NULL;
        if (!r || r->index != a->index || a->why.code || r->why.code) continue;
        c->n_compared++;
        c->n_agreed += srn_str_eq((srn_str){a->text, a->n_text}, (srn_str){r->text, r->n_text});
    }
}

/* ---- measuring ---- */

static int run_cell(srn__bench_load *b, srn__bench_target *t, size_t load, srn_err *err) {
    srn__bench_cell *c = &b->cells[b->n_cells];
    srn_energy from, to;
    char what[300];
    *c = (srn__bench_cell){.target = t, .rate = b->rate, .joules = NAN};
    if (b->concurrency.n) c->concurrency = b->concurrency.v[load];
    snprintf(what, sizeof what, "%.200s, %s%g", t->name, b->concurrency.n ? "" : "at a rate of ",
             b->concurrency.n ? c->concurrency : b->rate);
    srn_load_opts o = {.base = t->base,
                       .bearer = t->bearer,
                       .ca_file = b->ca,
                       .model = t->model,
                       .asks = &b->asks,
                       .kind = b->concurrency.n ? SRN_LOAD_CLOSED
                               : b->poisson     ? SRN_LOAD_POISSON
                                                : SRN_LOAD_EVEN,
                       .concurrency = c->concurrency,
                       .per_second = b->rate,
                       .seed = (uint64_t)b->seed,
                       .n =
                           b->requests ? (size_t)b->requests : SRN_MAX(b->asks.n, 4 * (size_t)c->concurrency),
                       .warm_up = (size_t)b->warm_up,
                       .max_tokens = (uint32_t)b->max_tokens,
                       .timeout_ms = (uint32_t)b->timeout_s * 1000,
                       .keep_cache = b->keep_cache,
                       .salt = b->salt + load,
                       .progress = srn_cli_progress,
                       .what = what,
                       .cancel = b->cancel};
    bool counted = srn_energy_read("/", &from, &b->no_energy) == SRN_OK;
    int code = srn_load_go(&o, &c->run, err);
    if (code) return srn_fail_prefix(err, code, "%s", t->name);
    b->n_cells++;
    if (counted && t->local && !srn_energy_read("/", &to, NULL)) c->joules = srn_energy_joules(&from, &to);
    b->cut = b->cut || c->run.cut;
    code = srn_load_add_up(&c->run, &b->slo, &c->sum, err);
    if (!code) judge(b, c);
    if (!code) compare(b, c, load);
    return code;
}

static int run_target(srn__bench_load *b, srn__bench_target *t, srn_err *err) {
    size_t loads = SRN_MAX(b->concurrency.n, (size_t)1);
    int code = srn__bench_target_start(b, t, err);
    for (size_t i = 0; !code && i < loads && !b->cut; i++) code = run_cell(b, t, i, err);
    srn__bench_target_stop(t);
    return code;
}

/* A target that fails is a result once another one was measured; nothing measured at all is an error. */
static int run_all(srn__bench_load *b, srn_err *err) {
    size_t most = b->n_targets * SRN_MAX(b->concurrency.n, (size_t)1);
    b->cells = srn_calloc(most, sizeof *b->cells);
    if (!b->cells) return srn_fail_nomem(err, most * sizeof *b->cells);
    for (size_t i = 0; i < b->n_targets && !b->cut; i++) {
        srn__bench_target *t = &b->targets[i];
        if (run_target(b, t, &t->why) == SRN_OK) continue;
        if (*b->cancel || t->why.code == SRN_ECANCELLED) b->cut = true;
        if (!b->n_cells) {
            *err = t->why;
            return err->code;
        }
    }
    return SRN_OK;
}

/* ---- the command ---- */

static int bench(srn__bench_load *b, srn_err *err) {
    int code = check(b, err);
    if (!code) code = read_asks(b, err);
    if (!code) code = srn__bench_targets_find(b, err);
    if (!code) code = run_all(b, err);
    if (!code) srn__bench_diverge(b);
    srn__bench_cpu(b->cpu, sizeof b->cpu);
    if (!code && b->report) code = srn__bench_load_html(b, err);
    return code;
}

/* The exit code: 130 where Ctrl-C cut it short, 1 where a target could not be measured. */
static int show(const srn__bench_load *b) {
    int failed = 0;
    if (b->json) {
        json_t *o = srn__bench_load_json(b);
        if (o) json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
        putchar('\n');
        failed = o == NULL;
        json_decref(o);
    } else {
        srn__bench_load_print(b);
    }
    for (size_t i = 0; i < b->n_targets; i++)
        if (b->targets[i].why.code && b->targets[i].why.code != SRN_ECANCELLED)
            failed = srn_cli_error(COMMAND, &b->targets[i].why);
    int flushed = srn_cli_flush(COMMAND);
    if (b->cut) fprintf(stderr, "serin bench: stopped: what was measured until then is all there is\n");
    return flushed ? flushed : b->cut ? 130 : failed;
}

static void done(srn__bench_load *b) {
    for (size_t i = 0; i < b->n_cells; i++) srn_load_run_done(&b->cells[i].run);
    free(b->cells);
    free(b->targets);
    srn_load_asks_done(&b->asks);
    srn_checks_free(b->checks);
    srn_str_list_done(&b->models);
    srn_str_list_done(&b->urls);
    srn_str_list_done(&b->key_envs);
}

/* Operands are models, too, so that --models takes several. */
static bool add_models(srn__bench_load *b, const char *const *operands, int n) {
    const char **items =
        srn_realloc_array((void *)b->models.items, b->models.n + (size_t)n + 1, sizeof *items);
    if (!items) return false;
    for (int i = 0; i < n; i++) items[b->models.n + (size_t)i] = operands[i];
    b->models.items = items;
    b->models.n += (size_t)n;
    return true;
}

int srn__cmd_bench_load(int argc, char **argv) {
    srn__bench_load b = {
        .limit = 1000, .warm_up = 2, .max_tokens = 256, .timeout_s = 600, .seed = 1, .divergence = 8};
    const srn_opt opts[] = {
        {"prompts", 0, SRN_OPT_STR, &b.prompts, 0, 0, "FILE",
         "a prompt a line (JSONL; - for standard input)"},
        {"calls", 0, SRN_OPT_STR, &b.calls, 0, 0, "FILTER", "recorded calls that a filter finds: since=1d"},
        {"models", 'm', SRN_OPT_LIST, &b.models, 0, 0, "MODEL...", "models of this machine"},
        {"url", 0, SRN_OPT_LIST, &b.urls, 0, 0, "URL[#MODEL]", "a server that speaks the OpenAI API"},
        {"key-env", 0, SRN_OPT_LIST, &b.key_envs, 0, 0, "NAME",
         "variable with the key of the first --url; again for the next (- for none)"},
        {"ca", 0, SRN_OPT_STR, &b.ca, 0, 0, "FILE", "certificates to trust, in place of the system's"},
        {"concurrency", 'c', SRN_OPT_STR, &b.concurrency_text, 0, 0, "N,N",
         "so many requests at once, one load after the other (1,4)"},
        {"rate", 0, SRN_OPT_FLOAT, &b.rate, 1e-3, 1e5, "R",
         "in place of it: R requests a second, come what may"},
        {"poisson", 0, SRN_OPT_FLAG, &b.poisson, 0, 0, NULL, "which arrive at random"},
        {"requests", 'n', SRN_OPT_INT, &b.requests, 1, 1 << 20, "N",
         "requests of each load (as many as prompts, and 4 for each at once)"},
        {"warm-up", 0, SRN_OPT_INT, &b.warm_up, 0, 1 << 20, "N",
         "requests before them that do not count (2)"},
        {"slo", 0, SRN_OPT_STR, &b.slo_text, 0, 0, "TARGETS", "what a good answer keeps: ttft=2s,itl=100ms"},
        {"keep-cache", 0, SRN_OPT_FLAG, &b.keep_cache, 0, 0, NULL,
         "prompts as they are: without a first line that no other has"},
        {"max-tokens", 0, SRN_OPT_INT, &b.max_tokens, 1, 1 << 24, "N",
         "of answers whose request does not say (256)"},
        {"raw", 0, SRN_OPT_FLAG, &b.raw, 0, 0, NULL, "prompts by themselves are completions, not chats"},
        {"checks", 0, SRN_OPT_STR, &b.checks_file, 0, 0, "FILE", "a JSON list of checks for all answers"},
        {"divergence", 0, SRN_OPT_INT, &b.divergence, 0, 1000000, "N",
         "prompts over which models are held against the first one, token by token (8)"},
        {"limit", 0, SRN_OPT_INT, &b.limit, 1, 1000000, "N", "at most so many prompts (1000)"},
        {"seed", 0, SRN_OPT_INT, &b.seed, 0, 1e15, "N", "of --poisson (1)"},
        {"timeout", 0, SRN_OPT_INT, &b.timeout_s, 1, 86400, "SECONDS",
         "a server may be silent for so long (600)"},
        {"threads", 't', SRN_OPT_INT, &b.threads, 1, 1024, "N", "of models of this machine (all CPUs)"},
        {"ctx", 0, SRN_OPT_INT, &b.ctx, 1, 1 << 30, "N", "their context in tokens (as `serin serve`)"},
        {"kv", 0, SRN_OPT_STR, &b.kv, 0, 0, "TYPE", "type of their KV cache: f16 (default), q8_0 or f32"},
        {"report", 0, SRN_OPT_STR, &b.report, 0, 0, "FILE", "also write a report with plots (HTML)"},
        {"json", 0, SRN_OPT_FLAG, &b.json, 0, 0, NULL, "one JSON object"},
        {"ledger", 0, SRN_OPT_STR, &b.ledger, 0, 0, "DIR|URL", "the ledger of --calls (the default folder)"},
        SRN__LEDGER_FOLDER(&b.folder),
        {"keys", 0, SRN_OPT_STR, &b.keys, 0, 0, "DIR", "its keys (keys in the ledger's folder)"},
    };
    const srn_cli_spec spec = {
        .usage = "serin bench --prompts FILE|--calls FILTER --models MODEL... [--url URL[#MODEL]]...\n"
                 "                   [--concurrency N,N | --rate R [--poisson]] [--slo TARGETS] [--json]",
        .about =
            "Asks several models, and servers that speak the OpenAI API, your own prompts: the time to the\n"
            "first token, between tokens and in all, tokens per second, which share of the answers keeps\n"
            "your targets, checks and answers side by side. The first one is the reference.\n"
            "docs/bench.md says what is measured and how.",
        .examples =
            "  serin bench --prompts prompts.jsonl --models small.Q8_0.gguf small.Q4_K_M.gguf\n"
            "  serin bench --calls 'route=support since=7d' -m small -c 1,4,16 --slo ttft=2s,itl=100ms\n"
            "  serin bench --prompts prompts.jsonl -m small --url http://127.0.0.1:11434#llama3.2 \\\n"
            "      --report report.html\n"
            "  serin bench --prompts prompts.jsonl --url https://api.example.com#big --key-env EXAMPLE_KEY "
            "\\\n"
            "      --rate 2 --poisson --requests 200\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .max_operands = MAX_OPERANDS};
    const char *operands[MAX_OPERANDS];
    srn_err err = {0};
    int n = 0, result = srn_cli_parse(&spec, argc, argv, operands, &n);
    if (result < 0) {
        b.cancel = srn_cli_catch_interrupts();
        b.salt = srn_hash_seed();
        int code = add_models(&b, operands, n) ? bench(&b, &err) : srn_fail_nomem(&err, sizeof operands);
        if (code && *b.cancel) code = srn_fail(&err, SRN_ECANCELLED, "stopped before anything was measured");
        srn_cli_release_interrupts();
        result = code ? srn_cli_error(COMMAND, &err) : show(&b);
    }
    done(&b);
    return result;
}
