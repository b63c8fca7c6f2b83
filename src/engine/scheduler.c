/* The scheduler's thread: takes what other threads ask for, chooses whose turn it is, and shows that it is
 * alive. Engines are served in turn by the time that they had; one that comes back from idleness starts at
 * the least of those at work. The thread sleeps when there is nothing to do, and never otherwise.
 */
#include "engine/scheduler.h"

#include <signal.h>
#include <stdlib.h>

#include "engine/scheduler_internal.h"

#define DEFAULT_QUEUE       1024u
#define DEFAULT_SHARE       0.5
#define DEFAULT_JUDGES      64u
#define DEFAULT_JUDGE_SHARE 0.05
/* Most bytes of a step's logits, unless one row for each sequence takes more. */
#define LOGITS_BYTES ((size_t)64 << 20)
/* One in so many parts of the time of requests that somebody waits for goes to engines whose requests nobody
 * does; how much of it may be saved up. */
#define BESIDE         17
#define MOST_BESIDE_US 20000
/* Rows beyond one of each sequence: drafts, and prompts whose every token is scored. */
#define EXTRA_ROWS 64u

/* ---- lanes ---- */

static void free_lane(srn__lane *l) {
    if (!l) return;
    srn__queue_done(l);
    for (uint32_t i = 0; l->scratch && i < l->n_scratch; i++) {
        free(l->scratch[i].draw);
        free(l->scratch[i].mask);
    }
    free(l->scratch);
    free(l->end_tokens);
    free(l->running);
    free(l->parts);
    free(l->slices);
    free(l->tokens);
    free(l->wanted);
    srn_aligned_free(l->logits);
    srn_aligned_free(l->hidden);
    free(l->errs);
    free(l);
}

static bool find_ends(srn__lane *l) {
    l->end_tokens = srn_calloc(l->n_vocab, sizeof *l->end_tokens);
    if (!l->end_tokens) return false;
    for (uint32_t i = 0; l->vocab && i < l->n_vocab && (int32_t)i < srn_vocab_size(l->vocab); i++)
        if (srn_vocab_is_eog(l->vocab, (int32_t)i)) l->end_tokens[l->n_end_tokens++] = (int32_t)i;
    return true;
}

static bool alloc_scratch(srn__lane *l) {
    l->n_scratch = l->e->device->ops->threads(l->e->device);
    l->scratch = srn_calloc(l->n_scratch, sizeof *l->scratch);
    for (uint32_t i = 0; l->scratch && i < l->n_scratch; i++) {
        atomic_flag_clear(&l->scratch[i].taken);
        l->scratch[i].draw = srn_calloc(1, srn__draw_scratch_bytes(l->n_vocab));
        l->scratch[i].mask = srn_calloc(((size_t)l->n_vocab + 63) / 64, sizeof(uint64_t));
        if (!l->scratch[i].draw || !l->scratch[i].mask) return false;
    }
    return l->scratch != NULL;
}

static void size_lane(srn__lane *l) {
    const srn_hparams *hp = &l->e->model->hp;
    l->n_vocab = hp->n_vocab;
    l->n_embd = hp->n_embd;
    const srn_cache_plan *plan = &l->e->plan;
    l->kv = l->e->kv;
    l->n_groups = plan->n_groups;
    l->n_ctx = plan->n_ctx;
    l->max_batch = plan->max_batch;
    l->max_seqs = plan->max_seqs;
    uint32_t fits = (uint32_t)SRN_MIN(LOGITS_BYTES / (sizeof(float) * l->n_vocab), (size_t)UINT16_MAX);
    l->max_hidden = plan->max_wanted;
    l->max_rows = SRN_MIN(plan->max_wanted, SRN_MAX(l->max_seqs, SRN_MIN(l->max_seqs + EXTRA_ROWS, fits)));
    l->limit = srn_engine_longest(l->e);
}

static int new_lane(srn_scheduler *s, srn_engine *e, srn__lane **ret, srn_err *err) {
    srn__lane *l = srn_calloc(1, sizeof *l);
    if (!l) return srn_fail_nomem(err, sizeof *l);
    srn_err unknown = {0};
    l->e = e;
    int code = srn_engine_vocab(e, &l->vocab, &unknown);
    if (code && code != SRN_EUNSUP) {
        free_lane(l);
        return srn_fail(err, code, "%s", unknown.text);
    }
    size_lane(l);
    srn__policy_init(&l->policy, s->o.prefill_share, l->max_batch);
    srn__policy_init(&l->judge_policy, s->o.prefill_share, l->max_batch);
    l->running = srn_calloc(l->max_seqs, sizeof(srn_request *));
    l->parts = srn_calloc(l->max_seqs, sizeof *l->parts);
    l->slices = srn_calloc(l->max_seqs, sizeof *l->slices);
    l->errs = srn_calloc(l->max_seqs, sizeof *l->errs);
    l->tokens = srn_calloc(l->max_batch, sizeof *l->tokens);
    l->wanted = srn_calloc(l->max_batch, sizeof *l->wanted);
    l->logits = srn_aligned_calloc((size_t)l->max_rows * l->n_vocab, sizeof *l->logits);
    l->hidden = srn_aligned_calloc((size_t)l->max_hidden * l->n_embd, sizeof *l->hidden);
    if (!find_ends(l) || !alloc_scratch(l) || !l->running || !l->parts || !l->slices || !l->errs ||
        !l->tokens || !l->wanted || !l->logits || !l->hidden) {
        code = srn_fail_nomem(err, (size_t)l->max_rows * l->n_vocab * sizeof *l->logits);
        free_lane(l);
        return code;
    }
    *ret = l;
    return SRN_OK;
}

static srn__lane *lane_of(const srn_scheduler *s, const srn_engine *e) {
    for (srn__lane *l = s->lanes; l; l = l->next)
        if (l->e == e) return l;
    return NULL;
}

/* ---- the thread ---- */

/* Takes over what came: lanes, then requests. Under the lock. */
static void take_inbox(srn_scheduler *s) {
    while (s->arriving) {
        srn__lane *l = s->arriving;
        s->arriving = l->next;
        l->next = s->lanes;
        s->lanes = l;
        pthread_cond_broadcast(&s->changed);
    }
    for (srn_request *r = s->inbox, *next; r; r = next) {
        next = r->next;
        r->lane->n_inbox--;
        srn__queue_add(r->lane, r);
    }
    s->inbox = NULL;
    s->inbox_end = &s->inbox;
}

/* What others may see of a lane. Under the lock. */
static void publish(srn_scheduler *s, srn__lane *l) {
    srn_kv_stats kv = srn_kv_get_stats(l->kv);
    l->stats.n_running = l->n_running;
    l->stats.kv_blocks = kv.n_blocks;
    l->stats.kv_held = kv.n_held;
    l->stats.kv_cached = kv.n_cached;
    l->stats.kv_evictions = kv.evictions;
    l->stats.idle_us = s->idle_us;
    l->published = l->stats;
    l->published_waiting = l->n_waiting;
    s->n_waiting += l->n_waiting + l->n_inbox;
}

static void publish_all(srn_scheduler *s) {
    s->n_waiting = 0;
    for (srn__lane *l = s->lanes; l; l = l->next) publish(s, l);
    s->judging.published = s->judging.stats;
}

/* Lanes that are to go and have nothing left go. Under the lock. */
static void retire(srn_scheduler *s) {
    for (srn__lane **p = &s->lanes; *p;) {
        srn__lane *l = *p;
        bool idle = !l->n_running && !l->n_waiting && !l->n_inbox && !l->n_users && !l->n_judges;
        if (l->leaving && idle) {
            *p = l->next;
            free_lane(l);
            pthread_cond_broadcast(&s->changed);
        } else {
            p = &l->next;
        }
    }
}

static bool has_work(const srn__lane *l) {
    return l->n_running || l->n_waiting;
}

/* Sleeps while nothing is to be done. Under the lock. */
static void sleep_idle(srn_scheduler *s) {
    uint64_t start = s->o.now_us();
    atomic_store(&s->alive_us, 0);
    pthread_cond_wait(&s->wake, &s->lock);
    uint64_t now = s->o.now_us();
    s->idle_us += now - start;
    atomic_store(&s->alive_us, SRN_MAX(now, 1u));
}

/* Takes what came; notes which lanes' time is over. Returns whether the thread is to end. Under the lock. */
static bool take_commands(srn_scheduler *s, uint64_t now) {
    take_inbox(s);
    for (srn__lane *l = s->lanes; l; l = l->next) l->over = s->stop || (l->leaving && now >= l->leave_at);
    return s->stop;
}

/* Takes commands, ends who must end, lets in who may come, and sleeps while there is nothing else. False when
 * the thread is to end. */
static bool take_turn(srn_scheduler *s) {
    for (;;) {
        uint64_t now = s->o.now_us();
        bool busy = false;
        atomic_store(&s->alive_us, SRN_MAX(now, 1u));
        pthread_mutex_lock(&s->lock);
        bool stop = take_commands(s, now);
        pthread_mutex_unlock(&s->lock);
        for (srn__lane *l = s->lanes; l; l = l->next) {
            srn__queue_sweep(l, now, l->over);
            srn__queue_admit(l);
            busy = busy || has_work(l);
        }
        busy = srn__judge_sweep(s, now, stop) || busy;
        srn__request_notify_all(s);
        srn__judge_notify(s);
        pthread_mutex_lock(&s->lock);
        publish_all(s);
        retire(s);
        if (!busy && !stop && !s->inbox && !s->arriving && !s->judging.queue && !s->stop) sleep_idle(s);
        pthread_mutex_unlock(&s->lock);
        if (busy || stop) return !stop;
    }
}

/* Whether somebody waits for any of the lane's requests. */
static bool has_foreground(const srn__lane *l) {
    for (uint32_t i = 0; i < l->n_running; i++)
        if (l->running[i]->boost != SRN_PRIORITY_BACKGROUND) return true;
    for (const srn_request *r = l->waiting; r; r = r->next)
        if (r->o.priority != SRN_PRIORITY_BACKGROUND) return true;
    return false;
}

/* The lane with work that was served least; one whose requests nobody waits for has its turn (*ret_beside)
 * while there is no other, or once it has earned one. */
static srn__lane *whose_turn(srn_scheduler *s, bool *ret_beside) {
    srn__lane *best = NULL, *beside = NULL;
    uint64_t least = UINT64_MAX;
    for (srn__lane *l = s->lanes; l; l = l->next)
        if (l->was_busy && has_foreground(l)) least = SRN_MIN(least, l->served_us);
    for (srn__lane *l = s->lanes; l; l = l->next) {
        bool busy = has_foreground(l);
        if (busy && !l->was_busy && least != UINT64_MAX) l->served_us = SRN_MAX(l->served_us, least);
        l->was_busy = busy;
        if (busy && (!best || l->served_us < best->served_us)) best = l;
        if (!busy && has_work(l) && (!beside || l->beside_us < beside->beside_us)) beside = l;
    }
    *ret_beside = beside && (!best || s->beside_us > 0);
    if (!best || !beside) s->beside_us = 0;
    return *ret_beside ? beside : best;
}

/* What a turn has taken goes to the account of its kind. */
static void account(srn_scheduler *s, srn__lane *l, bool beside, uint64_t before_us) {
    uint64_t took = l->served_us - before_us;
    if (beside) {
        l->served_us = before_us;
        l->beside_us += took;
        s->beside_us -= (int64_t)took;
    } else {
        s->beside_us = SRN_MIN(s->beside_us + (int64_t)(took / (BESIDE - 1)), (int64_t)MOST_BESIDE_US);
    }
}

/* A step of the requests, and then one of a job that judges, if it is due. */
static void steps(srn_scheduler *s) {
    bool beside;
    srn__lane *turn = whose_turn(s, &beside);
    uint64_t before_us = turn ? turn->served_us : 0;
    double others = 0, own = turn ? srn__lane_answers_us(turn) : 0;
    for (srn__lane *l = s->lanes; l; l = l->next)
        if (l != turn) others += srn__lane_answers_us(l);
    uint64_t before = turn ? turn->stats.step_tokens : 0;
    if (turn && !srn__lane_step(turn, s->o.now_us, others)) turn->served_us++; /* others may go on */
    if (turn) account(s, turn, beside, before_us);
    srn__request_notify_all(s);
    uint64_t produced = turn ? turn->stats.step_tokens - before : 0;
    srn__judge_turn(s, turn != NULL, (uint32_t)produced, own + others);
}

static void *thread_main(void *arg) {
    srn_scheduler *s = arg;
    pthread_setname_np(pthread_self(), "serin-sched");
    while (take_turn(s)) steps(s);
    return NULL;
}

/* ---- life ---- */

static int start_thread(srn_scheduler *s, srn_err *err) {
    sigset_t all, old; /* signals are for other threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int e = pthread_create(&s->thread, NULL, thread_main, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e) return srn_fail(err, SRN_ENOMEM, "the scheduler's thread could not be started: %s", strerror(e));
    return SRN_OK;
}

static void destroy(srn_scheduler *s) {
    srn__judge_done(&s->judging);
    pthread_cond_destroy(&s->wake);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

int srn_scheduler_new(const srn_scheduler_opts *opts, srn_scheduler **ret, srn_err *err) {
    srn_scheduler_opts o = opts ? *opts : (srn_scheduler_opts){0};
    if (!(o.prefill_share >= 0 && o.prefill_share < 1))
        return srn_fail(err, SRN_EINVAL, "the prompts' share %g of a step is outside 0..1", o.prefill_share);
    if (!o.max_queue) o.max_queue = DEFAULT_QUEUE;
    if (!o.max_judges) o.max_judges = DEFAULT_JUDGES;
    if (!(o.prefill_share > 0)) o.prefill_share = DEFAULT_SHARE;
    if (!o.now_us) o.now_us = srn_now_us;
    srn_scheduler *s = srn_calloc(1, sizeof *s);
    if (!s) return srn_fail_nomem(err, sizeof *s);
    s->o = o;
    s->salt_seed = srn_hash_seed();
    s->inbox_end = &s->inbox;
    s->judging.share = DEFAULT_JUDGE_SHARE;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    pthread_cond_init(&s->changed, NULL);
    int code = start_thread(s, err);
    if (code) {
        destroy(s);
        return code;
    }
    *ret = s;
    return SRN_OK;
}

void srn_scheduler_free(srn_scheduler *s) {
    if (!s) return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    for (srn__lane *l = s->lanes, *next; l; l = next) {
        next = l->next;
        free_lane(l);
    }
    destroy(s);
}

int srn_scheduler_add(srn_scheduler *s, srn_engine *e, srn_err *err) {
    srn__lane *l;
    int code = new_lane(s, e, &l, err);
    if (code) return code;
    pthread_mutex_lock(&s->lock);
    if (s->stop || lane_of(s, e)) {
        code = srn_fail(err, SRN_EINVAL, "the engine was given to this scheduler already");
    } else {
        l->next = s->arriving;
        s->arriving = l;
        pthread_cond_signal(&s->wake);
        while (!lane_of(s, e)) pthread_cond_wait(&s->changed, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    if (code) free_lane(l);
    return code;
}

void srn_scheduler_remove(srn_scheduler *s, srn_engine *e, uint64_t grace_us) {
    pthread_mutex_lock(&s->lock);
    srn__lane *l = lane_of(s, e);
    if (l) {
        uint64_t at = s->o.now_us();
        at = grace_us < UINT64_MAX - at ? at + grace_us : UINT64_MAX;
        l->leave_at = l->leaving ? SRN_MIN(l->leave_at, at) : at;
        l->leaving = true;
        pthread_cond_signal(&s->wake);
    }
    while (lane_of(s, e)) pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

/* ---- what operators watch ---- */

void srn_scheduler_stats(srn_scheduler *s, const srn_engine *e, srn_engine_stats *ret) {
    *ret = (srn_engine_stats){0};
    pthread_mutex_lock(&s->lock);
    const srn__lane *l = lane_of(s, e);
    if (l) {
        *ret = l->published;
        ret->n_waiting = l->published_waiting + l->n_inbox;
    }
    pthread_mutex_unlock(&s->lock);
}

uint64_t srn_scheduler_silence_us(const srn_scheduler *s) {
    uint64_t alive = atomic_load(&s->alive_us), now = s->o.now_us();
    return alive && now > alive ? now - alive : 0;
}
