/* serin bench MODEL: prefill, decode, and decode of several sequences together, at one depth or more. Each
 * test is run once to warm up and then `reps` times; before, between and after these runs the machine's
 * limits are measured for a moment, and a run is judged by the two turns around it. Main thread. Refuses
 * tests that are beyond the model's context before it loads.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "cli/bench.h"
#include "cli/cli.h"
#include "format/format.h"

/* A buffer of the weights' size is read to know what memory gives, but beyond this it says no more. */
#define MOST_PROBE_BYTES ((uint64_t)1 << 30)

typedef struct bench {
    const srn_bench_asked *a;
    srn_bench_report r;
    srn__info info;
    srn_engine *e;
    srn_probe *probe;
    srn_bench_turns turns;
    srn_kv_type kv;
    uint32_t n_vocab, max_seqs, n_ctx;
    srn_session **s; /* [max_seqs] */
    int32_t *tokens; /* [max_seqs][n_ctx] */
    float *logits;   /* [max_seqs, n_vocab] */
} bench;

typedef struct test {
    bool decode;
    uint32_t n, n_seqs, depth; /* n tokens of each sequence */
} test;

/* ---- one run ---- */

static int32_t *tokens_of(const bench *b, uint32_t seq) {
    return b->tokens + (size_t)seq * b->n_ctx;
}

/* Brings a sequence to the test's depth. It ends with a token that was just computed, so that a window which
 * a longer run had given back is there again. */
static int fill(bench *b, const test *t, uint32_t seq, srn_err *err) {
    srn_session *s = b->s[seq];
    srn_session_truncate(s, t->depth ? t->depth - 1 : 0);
    uint32_t have = srn_session_length(s);
    for (uint32_t at = have; at < t->depth;) {
        uint32_t n = SRN_MIN(t->depth - at, 512u);
        int code = srn_session_feed(s, tokens_of(b, seq) + at, n, NULL, err);
        if (code) return code;
        at += n;
        if (t->depth - have > 1)
            srn_cli_progress(NULL, "filling", seq * (uint64_t)t->depth + at, (uint64_t)t->n_seqs * t->depth);
    }
    return SRN_OK;
}

static int decode(bench *b, const test *t, srn_err *err) {
    int32_t next[512];
    for (uint32_t i = 0; i < t->n; i++) {
        for (uint32_t q = 0; q < t->n_seqs; q++) next[q] = tokens_of(b, q)[t->depth + i];
        int code = srn_session_feed_each(b->s, next, t->n_seqs, b->logits, err);
        if (code) return code;
    }
    return SRN_OK;
}

/* Tokens per second of all sequences. */
static int run_once(bench *b, const test *t, double *ret, srn_err *err) {
    int code = SRN_OK;
    for (uint32_t i = 0; !code && i < t->n_seqs; i++) code = fill(b, t, i, err);
    uint64_t start = srn_now_us();
    if (!code && t->decode) code = decode(b, t, err);
    if (!code && !t->decode) code = srn_session_feed(b->s[0], tokens_of(b, 0) + t->depth, t->n, NULL, err);
    uint64_t us = srn_now_us() - start;
    if (!code) *ret = (double)t->n * t->n_seqs * 1e6 / (double)SRN_MAX(us, 1u);
    return code;
}

/* ---- one test ---- */

static void name_test(const test *t, char *out, size_t cap) {
    char batch[16] = "", depth[16] = "";
    if (t->n_seqs > 1) snprintf(batch, sizeof batch, "@%" PRIu32, t->n_seqs);
    if (t->depth) snprintf(depth, sizeof depth, " d%" PRIu32, t->depth);
    snprintf(out, cap, "%s%" PRIu32 "%s%s", t->decode ? "tg" : "pp", t->n, batch, depth);
}

/* What a token costs, mean over the test. */
static srn_cost cost_of(const bench *b, const test *t) {
    srn_cost c = {0};
    srn_cost_step s = {.n_seqs = t->n_seqs, .n_past = t->depth, .n_tokens = t->n, .n_rows = t->n_seqs};
    if (t->decode) s.n_tokens = 1;
    for (uint32_t i = 0; i < (t->decode ? t->n : 1); i++) {
        s.n_past = t->depth + i;
        srn_cost_add(b->info.model, b->kv, &s, &c);
    }
    double n = (double)t->n * t->n_seqs;
    return (srn_cost){c.int8_macs / n, c.f32_macs / n, c.weights_bytes / n, c.kv_bytes / n};
}

/* The share of a limit at a rate, between two turns that measured it. */
static double share_of(double rate, double each, double before, double after) {
    double limit = (before + after) / 2;
    return limit > 0 ? rate * each / limit : 0;
}

static int run_test(bench *b, const test *t, srn_bench_result *ret, srn_err *err) {
    enum { RATE, READ, INT8, F32, N };
    size_t reps = b->a->reps;
    double warm_up, *v[N], *mem = srn_calloc(N * reps, sizeof *mem);
    if (!mem) return srn_fail_nomem(err, N * reps * sizeof *mem);
    for (size_t k = 0; k < N; k++) v[k] = mem + k * reps;
    name_test(t, ret->test, sizeof ret->test);
    ret->each = cost_of(b, t);
    int code = run_once(b, t, &warm_up, err);
    srn_bench_limits before = srn__bench_limits(b->probe), after;
    if (!code) code = srn__bench_turns_add(&b->turns, before, err);
    for (size_t i = 0; !code && i < reps; i++, before = after) {
        code = run_once(b, t, &v[RATE][i], err);
        after = srn__bench_limits(b->probe);
        if (!code) code = srn__bench_turns_add(&b->turns, after, err);
        double rate = v[RATE][i], bytes = ret->each.weights_bytes + ret->each.kv_bytes;
        v[READ][i] = share_of(rate, bytes, before.read_bytes_per_s, after.read_bytes_per_s);
        v[INT8][i] = share_of(rate, ret->each.int8_macs, before.int8_macs_per_s, after.int8_macs_per_s);
        v[F32][i] = share_of(rate, ret->each.f32_macs, before.f32_macs_per_s, after.f32_macs_per_s);
        srn_cli_progress(NULL, ret->test, i + 1, reps);
    }
    ret->tok_per_s = srn__bench_spread(v[RATE], reps);
    ret->read_share = srn__bench_spread(v[READ], reps).median;
    ret->int8_share = srn__bench_spread(v[INT8], reps).median;
    ret->f32_share = srn__bench_spread(v[F32], reps).median;
    double compute = ret->int8_share + ret->f32_share;
    ret->limit = compute > ret->read_share ? "compute" : "read";
    ret->limit_share = SRN_MAX(compute, ret->read_share);
    free(mem);
    return code;
}

/* ---- all of them ---- */

uint32_t srn__bench_most(const srn_bench_list *l) {
    uint32_t n = 0;
    for (size_t i = 0; i < l->n; i++) n = SRN_MAX(n, l->v[i]);
    return n;
}

static int open_engine(bench *b, srn_err *err) {
    const srn_bench_asked *a = b->a;
    uint32_t depth = srn__bench_most(&a->depth);
    b->max_seqs = a->tg ? srn__bench_most(&a->batch) : 1;
    b->n_ctx = depth + SRN_MAX(a->pp, a->tg);
    uint64_t each = (uint64_t)depth + a->tg + 2 * SRN_KV_BLOCK;
    srn_engine_opts o = {.threads = a->threads,
                         .n_ctx = b->n_ctx,
                         .max_seqs = b->max_seqs,
                         .cache_tokens = each * b->max_seqs + a->pp,
                         .kv_type = a->kv,
                         .progress = srn_cli_progress};
    int code = srn_weights_locate(a->model, b->r.path, sizeof b->r.path, err);
    if (!code) code = srn_engine_open(b->r.path, &o, &b->e, err);
    if (a->made) snprintf(b->r.path, sizeof b->r.path, "%s", a->made);
    if (code == SRN_EINVAL)
        srn_fail_prefix(err, code, "--depth and the larger of --pp and --tg together are the context");
    return code;
}

static int prepare(bench *b, srn_err *err) {
    srn_engine_info info = srn_engine_get_info(b->e);
    size_t n_tokens = (size_t)b->max_seqs * b->n_ctx, n_logits = (size_t)b->max_seqs * info.n_vocab;
    b->n_vocab = info.n_vocab;
    b->s = srn_calloc(b->max_seqs, sizeof(srn_session *));
    b->tokens = srn_calloc(n_tokens, sizeof *b->tokens);
    b->logits = srn_aligned_calloc(n_logits, sizeof *b->logits);
    if (!b->s || !b->tokens || !b->logits)
        return srn_fail_nomem(err, n_tokens * sizeof *b->tokens + n_logits * sizeof *b->logits);
    /* The same tokens in every call: what is measured does not depend on them, but a comparison should not
     * wonder. */
    srn__bench_tokens(1, info.n_vocab, b->tokens, n_tokens);
    int code = SRN_OK;
    for (uint32_t i = 0; !code && i < b->max_seqs; i++) code = srn_session_new(b->e, &b->s[i], err);
    if (!code) code = srn__info_gather(srn_engine_weights(b->e), &b->info, err);
    if (code) return code;
    srn_kv_type_by_name(b->a->kv ? b->a->kv : "f16", &b->kv);
    const char *dash = strchr(info.device, '-'); /* "cpu-avx2" */
    srn_probe_opts o = {.threads = info.threads,
                        .cpu_limit = dash ? dash + 1 : NULL,
                        .bytes = SRN_MIN(info.weights_bytes, MOST_PROBE_BYTES)};
    return srn_probe_new(&o, &b->probe, err);
}

static int run_all(bench *b, srn_err *err) {
    const srn_bench_asked *a = b->a;
    size_t most = a->depth.n * (1 + a->batch.n);
    b->r.results = srn_calloc(most, sizeof *b->r.results);
    if (!b->r.results) return srn_fail_nomem(err, most * sizeof *b->r.results);
    int code = SRN_OK;
    for (size_t d = 0; d < a->depth.n; d++) {
        test t = {.n = a->pp, .n_seqs = 1, .depth = a->depth.v[d]};
        if (!code && a->pp) code = run_test(b, &t, &b->r.results[b->r.n++], err);
        t.decode = true;
        t.n = a->tg;
        for (size_t i = 0; !code && a->tg && i < a->batch.n; i++) {
            t.n_seqs = a->batch.v[i];
            code = run_test(b, &t, &b->r.results[b->r.n++], err);
        }
    }
    return code;
}

static int report(bench *b, srn_bench_format format, srn_err *err) {
    srn_bench_report *r = &b->r;
    r->engine = srn_engine_get_info(b->e);
    r->info = &b->info;
    r->kv = srn_kv_type_name(b->kv);
    r->reps = b->a->reps;
    srn__bench_cpu(r->cpu, sizeof r->cpu);
    r->machine = (srn_bench_machine){.cpu = r->cpu,
                                     .isa = srn_probe_level(b->probe, srn_probe_levels(b->probe) - 1),
                                     .threads = r->engine.threads,
                                     .probe_bytes = srn_probe_bytes(b->probe),
                                     .huge_share = srn_probe_huge_share(b->probe),
                                     .limits = srn__bench_turns_middle(&b->turns)};
    int code = SRN_OK;
    if (format == SRN_BENCH_JSON && !b->a->made)
        code = srn_weights_id(srn_engine_weights(b->e), false, srn_cli_progress, NULL, r->weights_id, err);
    return code ? code : srn__bench_print(r, format, err);
}

int srn__bench_model(const srn_bench_asked *a, srn_bench_format format, srn_err *err) {
    bench b = {.a = a};
    int code = open_engine(&b, err);
    if (!code) code = prepare(&b, err);
    if (!code) code = run_all(&b, err);
    if (!code) code = report(&b, format, err);
    for (uint32_t i = 0; b.s && i < b.max_seqs; i++) srn_session_free(b.s[i]);
    srn_probe_free(b.probe);
    srn__info_done(&b.info);
    srn_engine_close(b.e);
    free(b.s);
    free(b.tokens);
    srn_aligned_free(b.logits);
    free(b.r.results);
    free(b.turns.v);
    return code;
}
