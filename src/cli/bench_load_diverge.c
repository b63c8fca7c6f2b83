/* serin bench --prompts: how far each model of this machine is from the reference, token by token, on the
 * answers that the reference gives. The comparison is serin regress's: both read the same text. Main thread.
 * A pair that cannot be compared (a server elsewhere, another tokenizer) has a reason in place of figures.
 */
#include <stdlib.h>

#include "cli/bench_load.h"
#include "serve/regress.h"

enum { MOST_TOKENS = 1 << 16, PARALLEL = 8 };

typedef struct pair {
    const srn__bench_load *b;
    const srn__bench_target *sides[2];
} pair;

static int open_side(void *ctx, int side, srn_answerer **ret, srn_err *err) {
    const pair *p = ctx;
    srn_replayer *r;
    const srn_replayer_opts o = {.model = p->sides[side]->path,
                                 .kv = p->b->kv,
                                 .threads = (uint32_t)p->b->threads,
                                 .ctx = (uint32_t)p->b->ctx,
                                 .parallel = PARALLEL,
                                 .progress = srn_cli_progress};
    int code = srn_replayer_open(&o, &r, err);
    if (!code) *ret = srn_replayer_answerer(r);
    return code;
}

static void close_side(void *ctx, int side, srn_answerer *a) {
    (void)ctx, (void)side;
    a->close(a);
}

static bool stopped(void *ctx) {
    const pair *p = ctx;
    return *p->b->cancel != 0;
}

static void progress(void *ctx, const char *what, uint64_t done, uint64_t total) {
    (void)ctx;
    srn_cli_progress(NULL, what, done, total);
}

static int add_asks(srn_regress *g, const srn__bench_load *b, srn_err *err) {
    int code = SRN_OK;
    for (size_t i = 0; !code && i < b->asks.n && i < (size_t)b->divergence; i++) {
        const srn_load_ask *a = &b->asks.items[i];
        json_t *body = srn_load_body(a, "", (uint32_t)b->max_tokens, NULL);
        if (!body) return srn_fail_nomem(err, 4096);
        json_object_del(body, "model");
        json_object_del(body, "stream_options");
        code = srn_regress_add(g, body, a->id, a->id, err);
        json_decref(body);
    }
    return code;
}

static int take_sum(const srn_regress *g, srn__bench_divergence *ret, srn_err *err) {
    srn_regress_sum *sums;
    size_t n;
    if (g->no_divergence_why) return srn_fail(err, SRN_EUNSUP, "%s", g->no_divergence_why);
    int code = srn_regress_add_up(g, &sums, &n, err);
    if (code) return code;
    const srn_regress_sum *all = &sums[n - 1];
    ret->items = all->kl_items;
    ret->tokens = all->kl_tokens;
    if (all->kl_tokens) {
        ret->mean = all->kl_sum / (double)all->kl_tokens;
        ret->max = all->kl_max;
        ret->likeliest = (double)all->top1 / (double)all->kl_tokens;
    } else {
        code = srn_fail(err, SRN_EUNSUP, "the reference's answers have no token to compare");
    }
    free(sums);
    return code;
}

static int diverge(const srn__bench_load *b, srn__bench_target *t, srn_err *err) {
    pair p = {.b = b, .sides = {&b->targets[0], t}};
    srn_regress g = {.limit = (uint64_t)b->divergence,
                     .max_tokens = MOST_TOKENS,
                     .workers = SRN_REGRESS_WORKERS,
                     .greedy = true,
                     .open = open_side,
                     .close = close_side,
                     .stop = stopped,
                     .progress = progress,
                     .ctx = &p};
    for (int k = 0; k < 2; k++) g.sides[k].model = p.sides[k]->said;
    int code = add_asks(&g, b, err);
    if (!code) code = srn_regress_read(&g, err);
    if (!code) code = srn_regress_run(&g, err);
    if (!code) code = take_sum(&g, &t->divergence, err);
    srn_regress_done(&g);
    return code;
}

void srn__bench_diverge(srn__bench_load *b) {
    for (size_t i = 1; i < b->n_targets && b->divergence && !*b->cancel; i++) {
        srn__bench_target *t = &b->targets[i];
        srn_err *why = &t->divergence.why;
        if (t->why.code || b->targets[0].why.code)
            srn_fail(why, SRN_EUNSUP, "one of the two was not measured");
        else if (!t->local || !b->targets[0].local)
            srn_fail(why, SRN_EUNSUP, "only models of this machine can be compared token by token");
        else
            diverge(b, t, why);
    }
    b->cut = b->cut || *b->cancel;
}
