/* Jobs that judge, as other threads see them: checked and copied by submit, read under a short lock,
 * cancelled by a flag that the scheduler's thread reads each step, released at any time. Refuses what could
 * never be compared, and one job more than the queue holds. judge_step.c works them off.
 */
#include <stdlib.h>

#include "engine/judge_internal.h"

/* ---- the pair ---- */

int srn_judge_comparable(const srn_engine *baseline, const srn_engine *canary, srn_err *err) {
    srn_ids ids[2] = {0};
    srn_err why = {0};
    int code = srn_engine_ids(baseline, &ids[0], &why);
    if (!code) code = srn_engine_ids(canary, &ids[1], &why);
    if (code) return srn_fail(err, code, "%s", why.text);
    if (srn_engine_get_info(baseline).n_vocab != srn_engine_get_info(canary).n_vocab ||
        strcmp(ids[0].tokenizer, ids[1].tokenizer) != 0)
        return srn_fail(err, SRN_EUNSUP,
                        "not comparable: the two models have different tokenizers (%.12s and %.12s), so that "
                        "the tokens of one mean nothing to the other; outcomes can be compared",
                        ids[0].tokenizer, ids[1].tokenizer);
    if (ids[0].numerics != ids[1].numerics)
        return srn_fail(err, SRN_EUNSUP, "not comparable: numerics %u and %u", ids[0].numerics,
                        ids[1].numerics);
    return SRN_OK;
}

/* ---- life ---- */

static void free_judge(srn_judge *j) {
    pthread_mutex_destroy(&j->lock);
    pthread_mutex_destroy(&j->bell);
    free(j->tokens);
    free(j);
}

void srn__judge_drop(srn_judge *j) {
    if (atomic_fetch_sub(&j->refs, 1) == 1) free_judge(j);
}

static int check_fits(const srn_engine *e, uint32_t n, const char *arm, srn_err *err) {
    uint32_t longest = srn_engine_longest(e);
    if (n <= longest) return SRN_OK;
    return srn_fail(err, SRN_ECONTEXT,
                    "a text of %u tokens cannot be judged: the %s holds %u; give it a longer context or a "
                    "larger cache (--ctx, --cache-tokens)",
                    n, arm, longest);
}

/* Also sets how much of the text is fed and compared. */
static int check_opts(srn_judge *j, const srn_engine *baseline, const srn_engine *canary, srn_err *err) {
    const srn_judge_opts *o = &j->o;
    j->n_vocab = srn_engine_get_info(baseline).n_vocab;
    if (srn_engine_get_info(canary).n_vocab != j->n_vocab)
        return srn_fail(err, SRN_EUNSUP, "not comparable: the models have vocabularies of %u and %u tokens",
                        j->n_vocab, srn_engine_get_info(canary).n_vocab);
    if (o->first < 1 || o->first >= o->n)
        return srn_fail(err, SRN_EINVAL, "there is no token to compare: %u tokens, from the %u-th on", o->n,
                        o->first);
    if (!(o->share >= 0 && o->share < 1))
        return srn_fail(err, SRN_EINVAL, "a share of %g of the step tokens is outside 0..1", o->share);
    j->n_compared = o->n - o->first;
    if (o->max_tokens) j->n_compared = SRN_MIN(j->n_compared, o->max_tokens);
    j->n_fed = o->first - 1 + j->n_compared;
    int code = check_fits(baseline, j->n_fed, "baseline", err);
    if (!code) code = check_fits(canary, j->n_fed, "canary", err);
    if (!code) code = srn__check_ids(o->tokens, j->n_fed + 1, j->n_vocab, "token", err);
    return code;
}

static int new_judge(const srn_engine *baseline, const srn_engine *canary, const srn_judge_opts *o,
                     srn_judge **ret, srn_err *err) {
    srn_judge *j = srn_calloc(1, sizeof *j);
    if (!j) return srn_fail_nomem(err, sizeof *j);
    pthread_mutex_init(&j->lock, NULL);
    pthread_mutex_init(&j->bell, NULL);
    atomic_init(&j->refs, 2);
    atomic_init(&j->cancelled, false);
    j->o = *o;
    int code = check_opts(j, baseline, canary, err);
    if (!code) {
        size_t bytes = ((size_t)j->n_fed + 1) * sizeof *j->tokens;
        j->tokens = srn_calloc((size_t)j->n_fed + 1, sizeof *j->tokens);
        if (j->tokens)
            memcpy(j->tokens, o->tokens, bytes);
        else
            code = srn_fail_nomem(err, bytes);
    }
    j->o.tokens = NULL;
    if (code)
        free_judge(j);
    else
        *ret = j;
    return code;
}

/* ---- submit ---- */

/* Gives a job its lanes and its place in the queue. Under the lock. */
static int post(srn_scheduler *s, srn_judge *j, const srn_engine *const engines[2], srn_err *err) {
    srn__judging *g = &s->judging;
    uint32_t ahead = (uint32_t)SRN_MIN(SRN__JUDGE_BYTES / (sizeof(float) * j->n_vocab), SRN__JUDGE_ROWS);
    j->max_ahead = SRN_MAX(ahead, 8u);
    j->judging = g;
    for (int k = 0; k < 2; k++) {
        int code = srn__lane_find(s, engines[k], &j->arms[k].lane, err);
        if (code) return code;
        j->arms[k].job = j;
        j->arms[k].salt = srn__salt_of(s, j->o.tenant[k], j->o.cache_salt[k]);
        j->max_ahead = SRN_MIN(j->max_ahead, j->arms[k].lane->max_rows);
    }
    if (g->n_queued >= s->o.max_judges) {
        g->n_refused++;
        return srn_fail(err, SRN_EBUSY, "%u texts wait to be judged already; try again later", g->n_queued);
    }
    srn_judge **end = &g->queue;
    while (*end) end = &(*end)->next;
    *end = j;
    g->n_queued++;
    for (int k = 0; k < 2; k++) j->arms[k].lane->n_judges++;
    uint64_t asleep = 0, now = s->o.now_us();
    j->result.submitted_us = now;
    atomic_compare_exchange_strong(&s->alive_us, &asleep, SRN_MAX(now, 1u));
    pthread_cond_signal(&s->wake);
    return SRN_OK;
}

int srn_judge_submit(srn_scheduler *s, srn_engine *baseline, srn_engine *canary, const srn_judge_opts *o,
                     srn_judge **ret, srn_err *err) {
    srn_judge *j = NULL;
    int code = new_judge(baseline, canary, o, &j, err);
    if (code) return code;
    const srn_engine *const engines[2] = {baseline, canary};
    pthread_mutex_lock(&s->lock);
    code = post(s, j, engines, err);
    pthread_mutex_unlock(&s->lock);
    if (code)
        free_judge(j);
    else
        *ret = j;
    return code;
}

/* ---- what holders do ---- */

void srn_judge_cancel(srn_judge *j) {
    if (j) atomic_store(&j->cancelled, true);
}

void srn_judge_release(srn_judge *j) {
    if (!j) return;
    atomic_store(&j->cancelled, true);
    pthread_mutex_lock(&j->bell);
    j->released = true;
    pthread_mutex_unlock(&j->bell);
    srn__judge_drop(j);
}

void srn_judge_read(srn_judge *j, srn_judge_result *ret) {
    pthread_mutex_lock(&j->lock);
    *ret = j->result;
    pthread_mutex_unlock(&j->lock);
}

int srn_scheduler_set_judge_share(srn_scheduler *s, double share, srn_err *err) {
    if (!(share > 0 && share < 1))
        return srn_fail(err, SRN_EINVAL, "a share of %g of the step tokens is outside 0..1", share);
    pthread_mutex_lock(&s->lock);
    s->judging.share = share;
    pthread_mutex_unlock(&s->lock);
    return SRN_OK;
}

void srn_scheduler_judge_stats(srn_scheduler *s, srn_judge_stats *ret) {
    pthread_mutex_lock(&s->lock);
    *ret = s->judging.published;
    ret->n_queued = s->judging.n_queued;
    ret->n_refused = s->judging.n_refused;
    pthread_mutex_unlock(&s->lock);
}
