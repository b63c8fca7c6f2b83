/* Divergence: what the canary wrote is shown to both arms, token by token, beside production, and how far
 * their expectations are apart becomes an event. The listener's thread hands answers in; the watcher's
 * submits them to the scheduler and tells of what came back. What is not judged, for there is a bound on what
 * waits, is simply not known: a budget decides, not the answer.
 */
#include <stdlib.h>

#include "engine/judge.h"
#include "serve/http_internal.h"
#include "serve/rollout.h"

enum { MOST_WAITING = 64, MOST_RUNNING = 4, MOST_PAIRS = 64 };
#define DEADLINE_US (UINT64_C(600) * 1000000)

typedef struct text { /* an answer that waits, or is judged */
    struct text *next;
    srn__rollout *of; /* with a hold */
    char call[40];
    uint64_t subject, begun_us, tenant, salt;
    uint32_t step;
    bool shadow;
    int32_t *tokens;
    uint32_t n, first;
    srn__served *arms[2]; /* with holds, while it is judged */
    srn_judge *job;
} text;

typedef struct pair {        /* whether two arms can be compared */
    char hash[65], why[256]; /* why: "" where they can */
} pair;

struct srn__judges {
    srn__watcher_opts o;
    void (*news)(void *ctx);
    void *ctx;
    pthread_mutex_t lock; /* guards waiting and pairs */
    text *waiting, **last;
    uint32_t n_waiting;
    pair pairs[MOST_PAIRS];
    uint32_t n_pairs;
    text *running; /* the watcher's own */
    uint32_t n_running;
};

int srn__judges_new(const srn__watcher_opts *o, void (*news)(void *ctx), void *ctx, srn__judges **ret,
                    srn_err *err) {
    srn__judges *j = srn_calloc(1, sizeof *j);
    if (!j) return srn_fail_nomem(err, sizeof *j);
    j->o = *o;
    j->news = news;
    j->ctx = ctx;
    j->last = &j->waiting;
    pthread_mutex_init(&j->lock, NULL);
    *ret = j;
    return SRN_OK;
}

static void text_free(text *t) {
    if (!t) return;
    if (t->job) srn_judge_release(t->job);
    for (size_t i = 0; i < 2; i++) srn__served_put(t->arms[i]);
    srn__rollout_put(t->of);
    free(t->tokens);
    free(t);
}

static void list_free(text *t) {
    while (t) {
        text *next = t->next;
        text_free(t);
        t = next;
    }
}

void srn__judges_free(srn__judges *j) {
    if (!j) return;
    list_free(j->running);
    list_free(j->waiting);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

/* ---- handing in ---- */

static text *text_new(const srn__call *c, const srn__assigned *a, const int32_t *prompt, uint32_t n_prompt,
                      const srn_out_token *answer, uint32_t n_answer) {
    text *t = srn_calloc(1, sizeof *t);
    if (!t) return NULL;
    t->tokens = srn_calloc((size_t)n_prompt + n_answer, sizeof *t->tokens);
    if (!t->tokens) {
        free(t);
        return NULL;
    }
    memcpy(t->tokens, prompt, n_prompt * sizeof *prompt);
    for (uint32_t i = 0; i < n_answer; i++) t->tokens[n_prompt + i] = answer[i].id;
    t->n = n_prompt + n_answer;
    t->first = n_prompt;
    t->of = a->of;
    atomic_fetch_add(&a->of->refs, 1);
    t->subject = a->subject;
    t->step = a->step;
    t->begun_us = a->begun_us;
    t->shadow = srn__assigned_is_copy(a);
    t->tenant = srn__assigned_tenant(a, c->key);
    t->salt = srn__assigned_salt(a, 0);
    snprintf(t->call, sizeof t->call, "%s", srn__call_id(c));
    return t;
}

void srn__judges_add(srn__judges *j, const srn__call *c, const int32_t *prompt, uint32_t n_prompt,
                     const srn_out_token *answer, uint32_t n_answer) {
    const srn__assigned *a = srn__assigned_of(c);
    bool evidence = j && a && a->of && a->arm == SRN_ARM_CANARY && a->counted && !a->fell_back;
    if (!evidence || !n_prompt || !n_answer) return;
    if (strcmp(a->of->declared->baseline, a->of->declared->canary) == 0) return;
    pthread_mutex_lock(&j->lock);
    bool room = j->n_waiting < MOST_WAITING;
    pthread_mutex_unlock(&j->lock);
    text *t = room ? text_new(c, a, prompt, n_prompt, answer, n_answer) : NULL;
    if (!t) return;
    pthread_mutex_lock(&j->lock);
    *j->last = t;
    j->last = &t->next;
    j->n_waiting++;
    pthread_mutex_unlock(&j->lock);
    j->news(j->ctx);
}

/* ---- comparable or not ---- */

bool srn__judges_why_not(srn__judges *j, const char *hash, char ret[256]) {
    bool found = false;
    if (!j) return false;
    pthread_mutex_lock(&j->lock);
    for (uint32_t i = 0; i < j->n_pairs && !found; i++) {
        found = strcmp(j->pairs[i].hash, hash) == 0 && j->pairs[i].why[0];
        if (found) snprintf(ret, 256, "%s", j->pairs[i].why);
    }
    pthread_mutex_unlock(&j->lock);
    return found;
}

static bool known_pair(const srn__judges *j, const char *hash) {
    for (uint32_t i = 0; i < j->n_pairs; i++)
        if (strcmp(j->pairs[i].hash, hash) == 0) return true;
    return false;
}

/* Asked once for each roll-out; only the watcher adds to the list. */
static bool comparable(srn__judges *j, const text *t) {
    const srn_rollout *d = t->of->declared;
    char why[256];
    srn_err err = {0};
    if (!known_pair(j, d->hash) && j->n_pairs < MOST_PAIRS) {
        int code = srn_judge_comparable(t->arms[0]->engine, t->arms[1]->engine, &err);
        pthread_mutex_lock(&j->lock);
        pair *p = &j->pairs[j->n_pairs++];
        snprintf(p->hash, sizeof p->hash, "%s", d->hash);
        snprintf(p->why, sizeof p->why, "%.255s", code ? err.text : "");
        pthread_mutex_unlock(&j->lock);
        if (code && j->o.log) j->o.log(j->o.log_ctx, "rollout_not_comparable", err.text);
    }
    return !srn__judges_why_not(j, d->hash, why);
}

int srn__rollout_comparable(srn__models *m, const srn_rollout *d, srn_err *err) {
    if (!d->guards[SRN_METRIC_DIVERGENCE].set) return SRN_OK;
    srn__served *arms[] = {srn__models_peek(m, d->baseline), srn__models_peek(m, d->canary)};
    srn_err why = {0};
    int code = arms[0] && arms[1] ? srn_judge_comparable(arms[0]->engine, arms[1]->engine, &why) : SRN_OK;
    for (size_t i = 0; i < 2; i++) srn__served_put(arms[i]);
    return code ? srn_fail(err, SRN_EUNSUP,
                           "%s: divergence is a guardrail, and the two are %s; make it of kind 'different', "
                           "or say 'divergence: off'",
                           d->name, why.text)
                : SRN_OK;
}

/* ---- judging ---- */

static bool submit(srn__judges *j, text *t) {
    const srn_rollout *d = t->of->declared;
    srn_err err = {0};
    t->arms[0] = srn__models_peek(j->o.models, d->baseline);
    t->arms[1] = srn__models_peek(j->o.models, d->canary);
    if (!t->arms[0] || !t->arms[1] || !comparable(j, t)) return false;
    srn_judge_opts o = {.tokens = t->tokens,
                        .n = t->n,
                        .first = t->first,
                        .share = d->judge_share,
                        .tenant = {t->tenant, t->tenant},
                        .cache_salt = {t->salt, t->salt},
                        .deadline_us = srn_now_us() + DEADLINE_US,
                        .notify = j->news,
                        .notify_ctx = j->ctx};
    return srn_judge_submit(j->o.scheduler, t->arms[0]->engine, t->arms[1]->engine, &o, &t->job, &err) ==
           SRN_OK;
}

static void tell(srn__judges *j, const text *t, const srn_judge_result *r) {
    const srn_divergence *d = &r->d;
    char subject[24];
    if (r->code || !d->n) return;
    snprintf(subject, sizeof subject, "%016llx", (unsigned long long)t->subject);
    srn__recorder_event(j->o.recorder, "rollout_judged",
                        json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:I, s:i, s:f, s:f, s:f, s:i, s:b}",
                                  "rollout", t->of->declared->name, "hash", t->of->declared->hash, "call",
                                  t->call, "arm", "canary", "subject", subject, "step", (int)t->step,
                                  "begun_us", (json_int_t)t->begun_us, "tokens", (int)d->n, "jsd", d->sum_jsd,
                                  "kl", d->sum, "jsd_max", d->max_jsd, "same_top", (int)d->n_same_top,
                                  "shadow", (int)t->shadow));
}

static text *take(srn__judges *j) {
    pthread_mutex_lock(&j->lock);
    text *t = j->waiting;
    if (t) {
        j->waiting = t->next;
        if (!j->waiting) j->last = &j->waiting;
        j->n_waiting--;
        t->next = NULL;
    }
    pthread_mutex_unlock(&j->lock);
    return t;
}

void srn__judges_turn(srn__judges *j) {
    for (text **at = &j->running; *at;) {
        text *t = *at;
        srn_judge_result r;
        srn_judge_read(t->job, &r);
        if (r.state != SRN_JUDGE_DONE) {
            at = &t->next;
            continue;
        }
        *at = t->next;
        j->n_running--;
        tell(j, t, &r);
        text_free(t);
    }
    for (text *t; j->n_running < MOST_RUNNING && (t = take(j)) != NULL;) {
        if (!submit(j, t)) {
            text_free(t);
            continue;
        }
        t->next = j->running;
        j->running = t;
        j->n_running++;
    }
}
