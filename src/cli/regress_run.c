/* serin regress: both sides answer every item, one after the other, several items at once; then both models
 * read the first one's answers to see how far apart they are. Main thread, and workers that wait for answers.
 */
#include <pthread.h>
#include <stdlib.h>

#include "cli/regress.h"
#include "format/format.h"

typedef struct runner {
    srn__regress *g;
    srn_replayer *replayer;
    int side;
    const char *what;
    pthread_mutex_t lock;
    size_t next, n_done; /* under lock */
} runner;

/* ---- answers ---- */

static void answer(runner *r, srn__regress_item *it) {
    srn__regress_side *s = &it->sides[r->side];
    const srn__regress *g = r->g;
    const srn_replay_ask ask = {.record = it->record,
                                .request = it->request,
                                .prompt = g->from_prompt ? &g->refs[r->side] : NULL,
                                .greedy = g->greedy,
                                .max_tokens = (uint32_t)g->max_tokens};
    if (it->why.code)
        s->why = it->why;
    else
        s->ran = srn_replayer_answer(r->replayer, &ask, &s->answer, &s->why) == SRN_OK;
}

static void *work(void *ctx) {
    runner *r = ctx;
    pthread_mutex_lock(&r->lock);
    while (r->next < r->g->n) {
        srn__regress_item *it = &r->g->items[r->next++];
        pthread_mutex_unlock(&r->lock);
        answer(r, it);
        pthread_mutex_lock(&r->lock);
        srn_cli_progress(NULL, r->what, ++r->n_done, r->g->n);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static void run_side(srn__regress *g, srn_replayer *replayer, int side) {
    pthread_t threads[SRN__REGRESS_WORKERS];
    size_t n = 0;
    runner r = {.g = g, .replayer = replayer, .side = side, .what = side ? "asking B" : "asking A"};
    pthread_mutex_init(&r.lock, NULL);
    while (n < SRN__REGRESS_WORKERS && n < g->n && pthread_create(&threads[n], NULL, work, &r) == 0) n++;
    if (n == 0) work(&r);
    for (size_t i = 0; i < n; i++) pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&r.lock);
    const srn_ids *ids = srn_replayer_ids(replayer);
    snprintf(g->ids[side].weights, sizeof g->ids->weights, "%s", ids->weights);
    snprintf(g->ids[side].tokenizer, sizeof g->ids->tokenizer, "%s", ids->tokenizer);
    snprintf(g->ids[side].quantisation, sizeof g->ids->quantisation, "%s", ids->quantisation);
    snprintf(g->ids[side].engine, sizeof g->ids->engine, "%s", ids->engine);
}

static int run_sides(srn__regress *g, srn_err *err) {
    srn_replayer *replayer = NULL;
    int code = SRN_OK;
    for (int side = 0; !code && side < 2; side++) {
        srn_replayer_opts o = {.model = side ? g->to : g->from,
                               .kv = g->kv,
                               .threads = (uint32_t)g->threads,
                               .ctx = (uint32_t)g->ctx,
                               .parallel = SRN__REGRESS_WORKERS,
                               .prompts = g->prompts,
                               .progress = srn_cli_progress};
        /* Versions of a prompt share their model. */
        if (side == 0 || !g->from_prompt) {
            srn_replayer_close(replayer);
            replayer = NULL;
            code = srn_replayer_open(&o, &replayer, err);
        }
        if (!code) run_side(g, replayer, side);
    }
    srn_replayer_close(replayer);
    return code;
}

/* ---- divergence ---- */

typedef struct pair {
    srn_engine *engines[2];
    srn_session *sessions[2];
} pair;

static int open_pair(const srn__regress *g, pair *p, srn_err *err) {
    char path[4096];
    int code = SRN_OK;
    for (int k = 0; !code && k < 2; k++) {
        srn_engine_opts o = {.threads = (uint32_t)g->threads,
                             .n_ctx = (uint32_t)g->ctx,
                             .kv_type = g->kv,
                             .progress = srn_cli_progress};
        code = srn_weights_locate(k ? g->to : g->from, path, sizeof path, err);
        if (!code) code = srn_engine_open(path, &o, &p->engines[k], err);
        if (!code) code = srn_session_new(p->engines[k], &p->sessions[k], err);
    }
    return code;
}

static void close_pair(pair *p) {
    for (int k = 0; k < 2; k++) {
        srn_session_free(p->sessions[k]);
        srn_engine_close(p->engines[k]);
    }
}

/* Of one item: an item whose text does not fit B's context has none. */
static int diverge(const pair *p, srn__regress_item *it, srn_err *err) {
    const srn_replay_answer *a = &it->sides[0].answer;
    srn_tokens t = {0};
    if (!it->sides[0].ran || !a->n_tokens) return SRN_OK;
    for (uint32_t i = 0; i < a->n_prompt + a->n_tokens; i++)
        if (!srn_tokens_push(&t, i < a->n_prompt ? a->prompt[i] : a->tokens[i - a->n_prompt])) {
            srn_tokens_done(&t);
            return srn_fail_nomem(err, a->n_prompt * sizeof *a->prompt);
        }
    int code = srn_diverge(p->sessions[0], p->sessions[1], t.ids, (uint32_t)t.n, a->n_prompt, NULL,
                           &it->divergence, err);
    it->has_divergence = !code;
    srn_tokens_done(&t);
    return code == SRN_ECONTEXT ? SRN_OK : code;
}

static int diverge_all(srn__regress *g) {
    pair p = {0};
    int code = open_pair(g, &p, &g->no_kl_err);
    for (size_t i = 0; !code && i < g->n; i++) {
        code = diverge(&p, &g->items[i], &g->no_kl_err);
        srn_cli_progress(NULL, "comparing", i + 1, g->n);
    }
    close_pair(&p);
    return code;
}

int srn__regress_run(srn__regress *g, srn_err *err) {
    int code = run_sides(g, err);
    for (size_t i = 0; !code && i < g->n; i++)
        for (int k = 0; !code && k < 2; k++)
            code = srn__regress_judge(&g->items[i], &g->items[i].sides[k], err);
    if (code) return code;
    if (g->no_divergence)
        g->no_kl = "it was not asked for";
    else if (g->from_prompt)
        g->no_kl = "the prompts are different texts";
    else if (strcmp(g->ids[0].tokenizer, g->ids[1].tokenizer) != 0)
        g->no_kl = "the models have different tokenizers";
    else if (diverge_all(g))
        g->no_kl = g->no_kl_err.text;
    for (size_t i = 0; g->no_kl && i < g->n; i++) g->items[i].has_divergence = false;
    return SRN_OK;
}
