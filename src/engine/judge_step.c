/* Jobs that judge, worked off on the scheduler's thread: whose turn it is, one step of one engine, the rows
 * compared. The first job of the queue alone is at work. Its engines take turns: one feeds some tokens and
 * leaves its rows of logits in a ring, the other feeds the same and compares its own with them, so that
 * neither is ever more than max_ahead rows ahead.
 *
 * While requests have work, each of their tokens earns share / (1 - share) tokens of credit, and a step of a
 * job is made when there is credit for as many tokens as may be in it: as many as take no longer than a step
 * of the answers that wait for it. So judging has its share of the tokens, and a gap between two tokens of an
 * answer is lengthened seldom, and then by little. What it does not get for want of blocks it may make up
 * for, up to MOST_CREDIT.
 *
 * Blocks belong to requests first: a job takes none that running ones still want or that one waits for, and
 * gives all of a lane's back when they are asked for. It goes on later at the row where it stopped, from what
 * the cache still holds then.
 */
#include <stdlib.h>

#include "engine/judge_internal.h"

/* How long a step of a job may take while there is nothing else to do: who comes then waits for it. */
#define IDLE_US 20000.0
/* Tokens of a step beside production, and of credit. */
#define BUSY_TOKENS 64u
#define MOST_CREDIT 256.0

/* ---- blocks ---- */

/* The arm holds nothing any more. */
static void let_go(srn__arm *a) {
    if (!a->seq) return;
    for (srn__arm **p = &a->lane->judged; *p; p = &(*p)->next)
        if (*p == a) {
            *p = a->next;
            break;
        }
    srn_kv_seq_free(a->seq);
    a->seq = NULL;
    a->n_known = 0;
}

bool srn__judge_yield(srn__lane *l) {
    if (!l->judged) return false;
    srn_judge *j = l->judged->job; /* one job at a time holds blocks */
    while (l->judged) let_go(l->judged);
    pthread_mutex_lock(&j->lock);
    j->result.n_preempted++;
    pthread_mutex_unlock(&j->lock);
    j->judging->stats.n_preempted++;
    return true;
}

/* ---- ends ---- */

static void end(srn_scheduler *s, srn_judge *j, int code, const srn_err *err) {
    srn__judging *g = &s->judging;
    for (int k = 0; k < 2; k++) let_go(&j->arms[k]);
    g->stats.n_done += code == SRN_OK;
    g->stats.n_failed += code != SRN_OK;
    pthread_mutex_lock(&s->lock);
    g->published = g->stats; /* whoever is told of the end finds it counted */
    for (srn_judge **p = &g->queue; *p; p = &(*p)->next)
        if (*p == j) {
            *p = j->next;
            break;
        }
    g->n_queued--;
    for (int k = 0; k < 2; k++) j->arms[k].lane->n_judges--;
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_lock(&j->lock);
    j->result.state = SRN_JUDGE_DONE;
    j->result.code = code;
    if (code) j->result.err = *err;
    j->result.done_us = s->o.now_us();
    pthread_mutex_unlock(&j->lock);
    if (g->now == j) g->now = NULL;
    j->next = g->ended;
    g->ended = j;
}

void srn__judge_notify(srn_scheduler *s) {
    for (srn_judge *j = s->judging.ended, *next; j; j = next) {
        next = j->next;
        pthread_mutex_lock(&j->bell);
        if (j->o.notify && !j->released) j->o.notify(j->o.notify_ctx);
        pthread_mutex_unlock(&j->bell);
        srn__judge_drop(j);
    }
    s->judging.ended = NULL;
}

static int why_over(const srn_judge *j, uint64_t now, bool leaves, srn_err *err) {
    if (atomic_load_explicit(&j->cancelled, memory_order_relaxed))
        return srn_fail(err, SRN_ECANCELLED, "the judging was cancelled");
    if (leaves) return srn_fail(err, SRN_ECANCELLED, "a model was taken out before the text was judged");
    if (j->o.deadline_us && now >= j->o.deadline_us)
        return srn_fail(err, SRN_ETIMEOUT, "the judging's time was over after %u of %u tokens", j->result.d.n,
                        j->n_compared);
    return SRN_OK;
}

/* The first job that must end, and why. Under the lock. */
static srn_judge *next_over(srn_scheduler *s, uint64_t now, bool all, int *ret_code, srn_err *err) {
    for (srn_judge *j = s->judging.queue; j; j = j->next) {
        bool leaves = all || j->arms[0].lane->leaving || j->arms[1].lane->leaving;
        *ret_code = why_over(j, now, leaves, err);
        if (*ret_code) return j;
    }
    return NULL;
}

static bool alloc_rows(srn__judging *g, const srn_judge *j) {
    size_t bytes = (size_t)j->max_ahead * j->n_vocab * sizeof(float);
    if (bytes <= g->rows_bytes) return true;
    srn_pages_free(g->rows, g->rows_bytes);
    g->rows = srn_pages_alloc(bytes);
    g->rows_bytes = g->rows ? bytes : 0;
    return g->rows != NULL;
}

/* The job has become the first of the queue. */
static void begin(srn_scheduler *s, srn_judge *j) {
    srn_err err = {0};
    pthread_mutex_lock(&j->lock);
    j->result.state = SRN_JUDGE_RUNNING;
    j->result.started_us = s->o.now_us();
    pthread_mutex_unlock(&j->lock);
    if (!alloc_rows(&s->judging, j))
        end(s, j, srn_fail_nomem(&err, (size_t)j->max_ahead * j->n_vocab * sizeof(float)), &err);
}

bool srn__judge_sweep(srn_scheduler *s, uint64_t now, bool all) {
    srn__judging *g = &s->judging;
    for (;;) {
        int code = SRN_OK;
        srn_err err = {0};
        pthread_mutex_lock(&s->lock);
        srn_judge *over = next_over(s, now, all, &code, &err), *first = g->queue;
        if (first) g->now_share = first->o.share > 0 ? first->o.share : g->share;
        pthread_mutex_unlock(&s->lock);
        if (over) {
            end(s, over, code, &err);
            continue;
        }
        if (!first) return false;
        if (first == g->now) return true;
        g->now = first;
        begin(s, first);
    }
}

void srn__judge_done(srn__judging *g) {
    srn_pages_free(g->rows, g->rows_bytes);
}

/* ---- rows ---- */

/* Rows that a step of one engine gave, some to be compared and some to be kept. */
typedef struct giving {
    const srn_judge *j;
    int arm;
    float *ring;
    const float *rows;
    uint32_t first; /* the row that rows[0] is */
    srn__row_distance *distances;
} giving;

static void give_row(void *ctx, uint32_t i) {
    const giving *w = ctx;
    const srn_judge *j = w->j;
    uint32_t row = w->first + i, at = j->n_fed - j->n_compared + row;
    float *kept = w->ring + (size_t)(row % j->max_ahead) * j->n_vocab;
    const float *ours = w->rows + (size_t)i * j->n_vocab;
    if (row >= j->arms[!w->arm].n_rows)
        memcpy(kept, ours, j->n_vocab * sizeof *kept);
    else
        srn__compare_rows(w->arm ? kept : ours, w->arm ? ours : kept, j->n_vocab, j->tokens[at + 1],
                          &w->distances[i]);
}

/* The n rows that an engine's step gave. */
static void give_rows(srn_scheduler *s, srn_judge *j, int arm, uint32_t n) {
    srn__row_distance distances[SRN__JUDGE_ROWS];
    srn__arm *a = &j->arms[arm];
    giving w = {j, arm, s->judging.rows, a->lane->logits, a->n_rows, distances};
    srn_device *d = a->lane->e->device;
    uint64_t start = s->o.now_us();
    if (n) d->ops->parallel(d, give_row, &w, n);
    uint32_t other = j->arms[!arm].n_rows, both = other > a->n_rows ? SRN_MIN(other - a->n_rows, n) : 0;
    pthread_mutex_lock(&j->lock);
    for (uint32_t i = 0; i < both; i++) srn__divergence_add(&j->result.d, &distances[i]);
    pthread_mutex_unlock(&j->lock);
    a->n_rows += n;
    s->judging.stats.n_compared += both;
    s->judging.stats.compare_us += s->o.now_us() - start;
}

/* ---- a step ---- */

/* What an arm may feed next. */
typedef struct portion {
    uint32_t n, n_rows; /* tokens; the last n_rows of them are compared ones whose rows are not there yet */
} portion;

static portion most_of(const srn_judge *j, int arm) {
    const srn__arm *a = &j->arms[arm];
    uint32_t first_row = j->n_fed - j->n_compared; /* the token that gives row 0 */
    uint32_t rows = SRN_MIN(j->n_compared, SRN_MIN(a->n_rows, j->arms[!arm].n_rows) + j->max_ahead);
    uint32_t end = first_row + rows, n = end > a->n_known ? end - a->n_known : 0;
    n = rows > a->n_rows ? SRN_MIN(n, a->lane->max_batch) : 0;
    uint32_t given = first_row + a->n_rows; /* tokens before this one need no row any more */
    end = a->n_known + n;
    return (portion){n, end > given ? end - given : 0};
}

static portion cut(portion p, uint32_t n) {
    uint32_t without = p.n - p.n_rows;
    return (portion){n, n > without ? n - without : 0};
}

/* Gives the arm a sequence with what the cache holds of it. */
static int take_cached(srn_scheduler *s, srn_judge *j, int arm, srn_err *err) {
    srn__arm *a = &j->arms[arm];
    int code = srn_kv_seq_new(a->lane->kv, a->salt, &a->seq, err);
    if (code) return code;
    a->next = a->lane->judged;
    a->lane->judged = a;
    if (a->alone) srn_kv_seq_set_alone(a->seq);
    a->n_known = srn_kv_seq_take(a->seq, j->tokens, j->n_fed, j->n_fed - j->n_compared + a->n_rows);
    if (!a->began) {
        s->judging.stats.cached_tokens += a->n_known;
        pthread_mutex_lock(&j->lock);
        j->result.n_cached[arm] = a->n_known;
        pthread_mutex_unlock(&j->lock);
    }
    a->began = true;
    return SRN_OK;
}

/* Whether requests want more blocks of a lane than are left: one waits for some, or will not for long. */
static bool is_short(const srn__lane *l) {
    return (l->n_waiting && l->n_running < l->max_seqs) || !srn__queue_fits(l);
}

/* There are no blocks. Returns an error where there never will be any. */
static int starve(srn_scheduler *s, srn_judge *j, srn__arm *a, srn_err *err) {
    bool idle = !a->lane->n_running && !a->lane->n_waiting;
    s->judging.stats.n_starved += !idle;
    let_go(a);
    if (idle && a->alone)
        return srn_fail(err, SRN_ECONTEXT, "the KV cache cannot hold the %u tokens to be judged", j->n_fed);
    a->alone = idle; /* what it shares with the cache may take a block more */
    return SRN_OK;
}

static int forward(srn_judge *j, srn__arm *a, portion p, srn_err *err) {
    srn__lane *l = a->lane;
    srn_slice slice = srn__kv_slice(a->seq, a->n_known, p.n, 0);
    srn_batch b = {.tokens = j->tokens + a->n_known,
                   .n_tokens = p.n,
                   .slices = &slice,
                   .n_slices = 1,
                   .wanted = l->wanted,
                   .n_wanted = p.n_rows,
                   .logits = p.n_rows ? l->logits : NULL};
    for (uint32_t i = 0; i < p.n_rows; i++) l->wanted[i] = p.n - p.n_rows + i;
    return l->e->device->ops->forward(l->e->device, &b, err);
}

static int compute(srn_scheduler *s, srn_judge *j, int arm, portion p, bool busy, srn_err *err) {
    srn__judging *g = &s->judging;
    srn__arm *a = &j->arms[arm];
    srn_err why = {0};
    uint64_t start = s->o.now_us();
    int code = forward(j, a, p, &why);
    if (code) return srn_fail(err, code, "the %s: %s", arm ? "canary" : "baseline", why.text);
    uint64_t us = s->o.now_us() - start;
    give_rows(s, j, arm, p.n_rows);
    srn__load load = {.n_prompt = p.n,
                      .attended = (uint64_t)p.n * a->n_known + (uint64_t)p.n * (p.n + 1) / 2};
    srn__policy_learn(&a->lane->judge_policy, &load, (double)(s->o.now_us() - start));
    a->n_known += p.n;
    srn_kv_seq_commit(a->seq, j->tokens, a->n_known);
    if (a->n_rows == j->n_compared) let_go(a);
    pthread_mutex_lock(&j->lock);
    j->result.n_computed[arm] += p.n;
    pthread_mutex_unlock(&j->lock);
    g->stats.n_steps++;
    g->stats.step_us += us;
    g->stats.tokens += p.n;
    g->stats.busy_tokens += busy ? p.n : 0;
    return SRN_OK;
}

/* ---- whose turn it is ---- */

/* The engine that is behind, unless the other may go on alone. */
static int which_arm(const srn_judge *j) {
    const srn__arm *a = j->arms;
    uint32_t n[2] = {most_of(j, 0).n, most_of(j, 1).n};
    if (!n[0] || !n[1]) return n[0] == 0;
    if (a[0].n_rows != a[1].n_rows) return a[1].n_rows < a[0].n_rows;
    return a[1].n_known < a[0].n_known;
}

/* As many tokens as a step may have now: at least one. */
static uint32_t chunk(const srn__judging *g, const srn__lane *l, uint32_t past, uint32_t most, bool busy,
                      double answers_us) {
    const srn__policy *p = &l->judge_policy;
    if (busy) most = SRN_MIN(most, BUSY_TOKENS);
    if (g->credit >= MOST_CREDIT / 2) return most; /* its share comes before the length of a gap */
    double base = srn__policy_predict(p, &(srn__load){0});
    double us = busy && answers_us > 0 ? answers_us : SRN_MAX(IDLE_US - base, base);
    return srn__policy_chunk(p, us, 0, past, most);
}

/* One step of an arm, if there are credit and blocks for it. */
static int step(srn_scheduler *s, srn_judge *j, int arm, bool busy, double answers_us, srn_err *err) {
    srn__judging *g = &s->judging;
    srn__arm *a = &j->arms[arm];
    if (busy && is_short(a->lane)) return starve(s, j, a, err);
    int code = a->seq ? SRN_OK : take_cached(s, j, arm, err);
    if (code) return code;
    if (busy && is_short(a->lane)) return starve(s, j, a, err); /* with what it took */
    portion p = most_of(j, arm);
    uint32_t n = chunk(g, a->lane, a->n_known, p.n, busy, answers_us);
    if (busy && g->credit < n) return SRN_OK;
    if (!srn_kv_seq_reserve(a->seq, a->n_known + n) || is_short(a->lane)) return starve(s, j, a, err);
    if (busy) g->credit -= n;
    return compute(s, j, arm, cut(p, n), busy, err);
}

void srn__judge_turn(srn_scheduler *s, bool busy, uint32_t produced, double answers_us) {
    srn__judging *g = &s->judging;
    srn_judge *j = g->now;
    srn_err err = {0};
    double earned = produced * g->now_share / (1 - g->now_share);
    g->credit = j && busy ? SRN_MIN(g->credit + earned, MOST_CREDIT) : 0;
    if (!j) return;
    g->stats.production_tokens += produced;
    int code = step(s, j, which_arm(j), busy, answers_us, &err);
    if (code)
        end(s, j, code, &err);
    else if (j->result.d.n == j->n_compared)
        end(s, j, SRN_OK, NULL);
}
