/* serve: the threads for replays and regressions, and the models that these borrow (background.h). Made after
 * the models, ended before them. A piece of work holds its models only while it uses them; whoever cancels it
 * ends the requests that it has on them.
 */
#include <pthread.h>
#include <stdlib.h>

#include "serve/background.h"
#include "serve/http_internal.h"
#include "serve/replay_internal.h"

enum { MOST_REPLAYS = 16, MOST_REGRESSIONS = 4 };

struct srn__background {
    srn__background_opts o;
    srn__runner *replays, *regressions;
    srn__regressions *regressed;
};

int srn__background_new(const srn__background_opts *o, srn__background **ret, srn_err *err) {
    srn__background *b = srn_calloc(1, sizeof *b);
    if (!b) return srn_fail_nomem(err, sizeof *b);
    b->o = *o;
    int code = srn__runner_new("serin-replay", MOST_REPLAYS, &b->replays, err);
    if (!code) code = srn__runner_new("serin-regress", MOST_REGRESSIONS, &b->regressions, err);
    if (!code) code = srn__regressions_new(&b->regressed, err);
    if (code) {
        srn__background_free(b);
        return code;
    }
    *ret = b;
    return SRN_OK;
}

void srn__background_cancel(srn__background *b) {
    if (!b) return;
    srn__runner_cancel(b->replays);
    srn__runner_cancel(b->regressions);
}

void srn__background_end(srn__background *b) {
    if (!b) return;
    srn__runner_end(b->replays);
    srn__runner_end(b->regressions);
}

void srn__background_free(srn__background *b) {
    if (!b) return;
    srn__runner_free(b->replays);
    srn__runner_free(b->regressions);
    srn__regressions_free(b->regressed);
    free(b);
}

bool srn__background_refuses(srn__call *c) {
    const char *why = srn__http_unready(c->http);
    if (why) srn__call_fail(c, 503, NULL, NULL, why, "the server is %s: it takes no new work now", why);
    return why != NULL;
}

srn__runner *srn__background_replays(srn__background *b) {
    return b->replays;
}

srn__runner *srn__background_regressions(srn__background *b) {
    return b->regressions;
}

srn__regressions *srn__background_regressed(srn__background *b) {
    return b->regressed;
}

const srn__background_opts *srn__background_get(const srn__background *b) {
    return &b->o;
}

int srn__background_reader(const srn__background *b, srn_reader **ret, srn_err *err) {
    const srn_ledger *l = srn__recorder_ledger(b->o.recorder);
    if (!l) return srn_fail(err, SRN_ENOENT, "this server keeps no ledger (ledger: off)");
    return srn_reader_open_beside(l, ret, err);
}

/* ---- borrowed models ---- */

void srn__lent_init(srn__lent *l) {
    *l = (srn__lent){0};
    pthread_mutex_init(&l->lock, NULL);
}

void srn__lent_done(srn__lent *l) {
    pthread_mutex_destroy(&l->lock);
}

void srn__lent_cancel(srn__lent *l) {
    pthread_mutex_lock(&l->lock);
    l->cancelled = true;
    for (int k = 0; k < 2; k++)
        if (l->replayers[k]) {
            srn_answerer *a = srn_replayer_answerer(l->replayers[k]);
            a->cancel(a);
        }
    pthread_mutex_unlock(&l->lock);
}

bool srn__lent_cancelled(srn__lent *l) {
    pthread_mutex_lock(&l->lock);
    bool cancelled = l->cancelled;
    pthread_mutex_unlock(&l->lock);
    return cancelled;
}

/* Takes the hold on the model. */
static int lend(srn__lent *l, int k, const srn__background *b, srn__served *v, srn_err *err) {
    srn_replayer *r;
    int code = srn__replayer_borrow(b->o.scheduler, v, b->o.prompts, &r, err);
    if (code) return code;
    pthread_mutex_lock(&l->lock);
    bool cancelled = l->cancelled;
    if (!cancelled) l->replayers[k] = r;
    pthread_mutex_unlock(&l->lock);
    if (!cancelled) return SRN_OK;
    srn_replayer_close(r);
    return srn_fail(err, SRN_ECANCELLED, "it was cancelled");
}

void srn__lent_return(srn__lent *l, int k) {
    pthread_mutex_lock(&l->lock);
    srn_replayer *r = l->replayers[k];
    l->replayers[k] = NULL;
    pthread_mutex_unlock(&l->lock);
    srn_replayer_close(r);
}

/* Until a load that is under way has ended. */
typedef struct turn {
    pthread_mutex_t lock;
    pthread_cond_t came;
    bool now;
} turn;

static void again(void *ctx) {
    turn *t = ctx;
    pthread_mutex_lock(&t->lock);
    t->now = true;
    pthread_cond_signal(&t->came);
    pthread_mutex_unlock(&t->lock);
}

static void wait_turn(turn *t) {
    pthread_mutex_lock(&t->lock);
    while (!t->now) pthread_cond_wait(&t->came, &t->lock);
    t->now = false;
    pthread_mutex_unlock(&t->lock);
}

int srn__lend_named(srn__lent *l, int k, const srn__background *b, const char *name, srn_err *err) {
    turn t = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    srn__served *v = NULL;
    bool later = true;
    int code = SRN_OK;
    while (!code && later) {
        later = false;
        code = srn__models_get(b->o.models, NULL, name, again, &t, &v, &later, err);
        if (!code && later) wait_turn(&t);
    }
    pthread_cond_destroy(&t.came);
    pthread_mutex_destroy(&t.lock);
    return code ? code : lend(l, k, b, v, err);
}

typedef struct search {
    const char *weights, *kv;
    srn__served *found; /* held */
} search;

static void look(void *ctx, const srn_config_model *c, srn__served *v) {
    search *s = ctx;
    (void)c;
    if (s->found || !v || atomic_load(&v->leaving)) return;
    if (strcmp(v->ids.weights, s->weights) != 0 || strcmp(v->ids.kv, s->kv) != 0) return;
    atomic_fetch_add(&v->refs, 1);
    s->found = v;
}

int srn__lend_weights(srn__lent *l, int k, const srn__background *b, const char *weights, const char *kv,
                      srn_err *err) {
    search s = {weights, kv, NULL};
    srn__models_each(b->o.models, look, &s);
    if (s.found) return lend(l, k, b, s.found, err);
    return srn_fail(err, SRN_ENOENT,
                    "no model with the weights %.12s and a cache of %s is loaded here; POST /v1/models/load "
                    "loads one, and serin replay finds the file by itself",
                    weights, kv);
}
