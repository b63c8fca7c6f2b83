/* serin score: log-probabilities of given tokens, perplexity of a text. Reads files, prints; one thread. */
#include "cli/cli.h"

#include <jansson.h>
#include <stdlib.h>

#include "base/num.h"
#include "engine/engine.h"

typedef struct score {
    const char *tokens_path, *text_path, *logits_path, *kv;
    int64_t top, ctx, threads, window, batch;
    bool json;
    srn_engine *e;
    srn_session *s;
    srn_tokens tokens;
    FILE *logits_file;
    json_t *positions;
    double sum; /* of log-probabilities */
    size_t scored;
} score;

static int read_token_ids(score *c, srn_err *err) {
    char *text;
    size_t len;
    int code = srn_read_file(c->tokens_path, (size_t)256 << 20, &text, &len, err);
    if (code) return code;
    json_error_t je;
    json_t *a = json_loadb(text, len, 0, &je), *v;
    size_t i;
    free(text);
    if (!a)
        return srn_fail(err, SRN_EFORMAT, "%s: line %d, column %d: %s", c->tokens_path, je.line, je.column,
                        je.text);
    if (!json_is_array(a) || json_array_size(a) == 0)
        code =
            srn_fail(err, SRN_EFORMAT, "%s: one non-empty array of token ids is expected, such as [1, 2, 3]",
                     c->tokens_path);
    else
        json_array_foreach(a, i, v) {
            json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
            if (id < 0 || id > INT32_MAX)
                code = srn_fail(err, SRN_EFORMAT, "%s: element %zu is not a token id", c->tokens_path, i);
            else if (!srn_tokens_push(&c->tokens, (int32_t)id))
                code = srn_fail_nomem(err, i * sizeof(int32_t));
            if (code) break;
        }
    json_decref(a);
    return code;
}

static int read_text(score *c, srn_err *err) {
    char *text;
    size_t len;
    const srn_vocab *v;
    int code = srn_read_file(c->text_path, (size_t)256 << 20, &text, &len, err);
    if (code) return code;
    code = srn_engine_vocab(c->e, &v, err);
    if (!code) {
        srn_span span = {{text, len}, false};
        code = srn_tokenize(v, &span, 1, 0, &c->tokens, err);
    }
    free(text);
    if (!code && c->tokens.n < 2)
        code = srn_fail(err, SRN_EINVAL, "%s: the text is too short to score: %zu tokens", c->text_path,
                        c->tokens.n);
    return code;
}

/* The distribution after a token: the greatest `top` log-probabilities. */
static json_t *top_of(const float *row, uint32_t n, double lse, uint32_t top) {
    json_t *list = json_array();
    int32_t *ids = malloc((top ? top : 1) * sizeof *ids);
    if (ids) srn_top_k(row, n, top, ids);
    for (uint32_t i = 0; ids && i < top; i++)
        json_array_append_new(list, json_pack("[i,f]", ids[i], (double)row[ids[i]] - lse));
    free(ids);
    return list;
}

/* One row of logits: what follows token i of the list; lp is the log-probability that token i itself had. */
static int take_row(score *c, size_t i, const float *row, double lse, bool has_lp, double lp, srn_err *err) {
    uint32_t n = srn_engine_get_info(c->e).n_vocab;
    if (has_lp) c->sum += lp, c->scored++;
    if (c->logits_file && fwrite(row, sizeof *row, n, c->logits_file) != n)
        return srn_fail(err, SRN_EIO, "%s: writing failed; is the disk full?", c->logits_path);
    if (!c->json) return SRN_OK;
    json_t *p = json_object();
    json_object_set_new(p, "token", json_integer(c->tokens.ids[i]));
    json_object_set_new(p, "logprob", has_lp ? json_real(lp) : json_null());
    json_object_set_new(p, "top", top_of(row, n, lse, (uint32_t)SRN_MIN(c->top, (int64_t)n)));
    return json_array_append_new(c->positions, p) ? srn_fail_nomem(err, sizeof p) : SRN_OK;
}

/* Scores tokens [from, to) as one sequence. */
static int score_window(score *c, size_t from, size_t to, float *rows, uint32_t chunk, srn_err *err) {
    uint32_t n = srn_engine_get_info(c->e).n_vocab;
    double prev_lse = 0;
    float *prev = NULL; /* the row before; kept in rows[chunk] */
    srn_session_truncate(c->s, 0);
    for (size_t at = from; at < to; at += chunk) {
        uint32_t now = (uint32_t)SRN_MIN((size_t)chunk, to - at);
        int code = srn_session_feed_all(c->s, c->tokens.ids + at, now, rows, err);
        for (uint32_t i = 0; !code && i < now; i++) {
            const float *row = rows + (size_t)i * n;
            double lp = prev ? (double)prev[c->tokens.ids[at + i]] - prev_lse : 0;
            double lse = srn_log_sum_exp(row, n);
            code = take_row(c, at + i, row, lse, prev != NULL, lp, err);
            prev_lse = lse;
            prev = rows + (size_t)i * n;
        }
        if (code) return code;
        memcpy(rows + (size_t)chunk * n, prev, n * sizeof *rows);
        prev = rows + (size_t)chunk * n;
        srn_cli_progress(NULL, "scoring", at + now, c->tokens.n);
    }
    return SRN_OK;
}

static int score_all(score *c, srn_err *err) {
    srn_engine_info info = srn_engine_get_info(c->e);
    size_t window = c->window ? (size_t)c->window : c->text_path ? info.n_ctx : c->tokens.n;
    if (window > info.n_ctx)
        return srn_fail(err, SRN_ECONTEXT,
                        "%zu tokens do not fit into the context of %u; ask for a larger one (--ctx, at most "
                        "%u) or cut them into windows (--window N)",
                        window, info.n_ctx, info.n_ctx_train);
    uint32_t chunk = c->batch ? (uint32_t)c->batch : SRN_MAX(16u, SRN_MIN(512u, (32u << 20) / info.n_vocab));
    chunk = (uint32_t)SRN_MIN((size_t)chunk, window);
    float *rows = srn_pages_alloc(((size_t)chunk + 1) * info.n_vocab * sizeof *rows);
    if (!rows) return srn_fail_nomem(err, ((size_t)chunk + 1) * info.n_vocab * sizeof *rows);
    int code = SRN_OK;
    for (size_t at = 0; !code && at < c->tokens.n; at += window)
        code = score_window(c, at, SRN_MIN(c->tokens.n, at + window), rows, chunk, err);
    srn_pages_free(rows, ((size_t)chunk + 1) * info.n_vocab * sizeof *rows);
    return code;
}

static int print_result(score *c, srn_err *err) {
    double ppl = c->scored ? srn_exp(-c->sum / (double)c->scored) : 0;
    if (!c->json) {
        if (c->scored == 0)
            return printf("%zu token; nothing precedes it, so it has no probability\n", c->tokens.n), SRN_OK;
        printf("%zu tokens, mean log-probability %.6f, perplexity %.4f\n", c->tokens.n,
               c->sum / (double)c->scored, ppl);
        return SRN_OK;
    }
    json_t *o = json_object();
    json_object_set(o, "positions", c->positions);
    json_object_set_new(o, "tokens", json_integer((json_int_t)c->tokens.n));
    json_object_set_new(o, "mean_logprob", c->scored ? json_real(c->sum / (double)c->scored) : json_null());
    json_object_set_new(o, "perplexity", c->scored ? json_real(ppl) : json_null());
    json_object_set_new(o, "engine", json_string(srn_engine_get_info(c->e).engine_id));
    int bad = json_dumpf(o, stdout, JSON_COMPACT);
    json_decref(o);
    if (bad) return srn_fail(err, SRN_EIO, "the result could not be written");
    printf("\n");
    return SRN_OK;
}

static int run(score *c, const char *model, srn_err *err) {
    char path[4096];
    if (!c->tokens_path == !c->text_path)
        return srn_fail(err, SRN_EUSAGE, "give either --tokens FILE.json or --text FILE");
    int code = srn_weights_locate(model, path, sizeof path, err);
    if (!code && c->tokens_path) code = read_token_ids(c, err);
    const volatile int *cancel = srn_cli_catch_interrupts();
    srn_engine_opts o = {.threads = (uint32_t)c->threads,
                         .n_ctx = (uint32_t)c->ctx,
                         .kv_type = c->kv,
                         .progress = srn_cli_progress,
                         .cancel = cancel};
    if (!code) code = srn_engine_open(path, &o, &c->e, err);
    if (!code && *cancel) code = srn_fail(err, SRN_ECANCELLED, "interrupted");
    srn_cli_release_interrupts();
    if (!code && c->text_path) code = read_text(c, err);
    if (!code) code = srn_session_new(c->e, &c->s, err);
    if (!code && c->logits_path && !(c->logits_file = fopen(c->logits_path, "wb")))
        code = srn_fail(err, SRN_EIO, "%s: cannot be opened for writing", c->logits_path);
    if (!code && c->json && !(c->positions = json_array())) code = srn_fail_nomem(err, 64);
    if (!code) code = score_all(c, err);
    if (c->logits_file && fclose(c->logits_file) && !code)
        code = srn_fail(err, SRN_EIO, "%s: writing failed; is the disk full?", c->logits_path);
    if (!code) code = print_result(c, err);
    return code;
}

int srn__cmd_score(int argc, char **argv) {
    score c = {.top = 20};
    const srn_opt opts[] = {
        {"tokens", 0, SRN_OPT_STR, &c.tokens_path, 0, 0, "FILE",
         "one JSON array of token ids, taken as they are"},
        {"text", 0, SRN_OPT_STR, &c.text_path, 0, 0, "FILE",
         "a text, tokenized as the model's file asks (- for standard input)"},
        {"top", 0, SRN_OPT_INT, &c.top, 0, 1 << 24, "N",
         "with --json: the N likeliest tokens after each position (20)"},
        {"window", 0, SRN_OPT_INT, &c.window, 2, 1 << 30, "N",
         "score windows of N tokens, each on its own (text: the context)"},
        {"batch", 0, SRN_OPT_INT, &c.batch, 1, 4096, "N",
         "tokens computed at once; the result never depends on it"},
        {"logits", 0, SRN_OPT_STR, &c.logits_path, 0, 0, "FILE",
         "also write all logits, little-endian f32 [tokens, vocabulary]"},
        {"kv", 0, SRN_OPT_STR, &c.kv, 0, 0, "TYPE", "type of the KV cache: f16 (default), q8_0 or f32"},
        {"ctx", 0, SRN_OPT_INT, &c.ctx, 1, 1 << 30, "N",
         "context in tokens (what the model was trained for, at most 8192)"},
        {"threads", 't', SRN_OPT_INT, &c.threads, 1, 1024, "N",
         "threads (all CPUs); the result never depends on it"},
        {"json", 0, SRN_OPT_FLAG, &c.json, 0, 0, NULL, "one JSON object"},
    };
    const srn_cli_spec spec = {
        .usage = "serin score MODEL (--tokens FILE.json | --text FILE) [options]",
        .about = "Log-probabilities (natural logarithms) of tokens given their predecessors, and perplexity.",
        .examples = "  serin score smollm2 --text README.md\n"
                    "  serin tokenize smollm2 --text 'The sky is' --json > t.json\n"
                    "  serin score smollm2 --tokens t.json --top 5 --json\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 1,
        .max_operands = 1};
    const char *model;
    int n, stop = srn_cli_parse(&spec, argc, argv, &model, &n);
    if (stop >= 0) return stop;
    srn_err err = {0};
    int code = run(&c, model, &err);
    json_decref(c.positions);
    srn_session_free(c.s);
    srn_engine_close(c.e);
    srn_tokens_done(&c.tokens);
    if (code) return srn_cli_error("score", &err);
    return srn_cli_flush("score");
}
