/* Who waits, who is let in, and who must give its blocks back. Runs on the scheduler's thread alone.
 *
 * Of those that wait the lowest priority number goes first; then those that had to give their blocks back;
 * then those of the tenant that was served least (tokens read and twice the tokens written, as in "virtual
 * token counters", Sheng et al. 2024; a tenant that comes anew starts at the least of the active ones); then
 * the first to come. If the first does not fit, none behind it is let in, so that a large one is not starved.
 * Work that nobody waits for (SRN_PRIORITY_BACKGROUND) gives its place to whoever wants one.
 * After MOST_OVERTAKEN that were let in before an older one of lower priority it is that one's turn.
 * Whoever wants a prefix that a running one is computing waits for it without keeping others from coming in.
 */
#include <stdlib.h>

#include "engine/scheduler_internal.h"

/* Tokens in common that are worth waiting for. */
#define TWIN_TOKENS 32u
/* Requests that may be passed over in one round because they wait for a prefix: what bounds its time. */
#define MOST_PASSED 32u
/* Places that may go, one after the other, to requests that came later than one of lower priority. */
#define MOST_OVERTAKEN 16u
/* Tenants without requests whose accounts are kept. */
#define IDLE_TENANTS 256u

/* ---- tenants ---- */

static srn__tenant *find_tenant(srn__lane *l, uint64_t id) {
    uint32_t n_idle = 0;
    uint64_t least = UINT64_MAX;
    srn__tenant *found = NULL, **oldest = NULL;
    for (srn__tenant **p = &l->tenants; *p; p = &(*p)->next) {
        srn__tenant *t = *p;
        if (t->id == id) found = t;
        if (t->n_active) least = SRN_MIN(least, t->served);
        if (!t->n_active && t->id != id && ++n_idle >= IDLE_TENANTS) oldest = p; /* new ones come first */
    }
    if (oldest) {
        srn__tenant *gone = *oldest;
        *oldest = gone->next;
        free(gone);
    }
    if (!found) {
        found = srn_calloc(1, sizeof *found);
        if (!found) return NULL;
        found->id = id;
        found->next = l->tenants;
        l->tenants = found;
    }
    if (!found->n_active && least != UINT64_MAX) found->served = SRN_MAX(found->served, least);
    return found;
}

void srn__queue_done(srn__lane *l) {
    for (srn__tenant *t = l->tenants, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    l->tenants = NULL;
}

/* ---- the lists ---- */

static void append_waiting(srn__lane *l, srn_request *r) {
    srn_request **p = &l->waiting;
    while (*p) p = &(*p)->next;
    r->next = NULL;
    *p = r;
    l->n_waiting++;
}

static void remove_waiting(srn__lane *l, srn_request *r) {
    for (srn_request **p = &l->waiting; *p; p = &(*p)->next)
        if (*p == r) {
            *p = r->next;
            r->next = NULL;
            l->n_waiting--;
            return;
        }
}

static void remove_running(srn__lane *l, srn_request *r) {
    for (uint32_t i = 0; i < l->n_running; i++)
        if (l->running[i] == r) {
            memmove(l->running + i, l->running + i + 1, (l->n_running - i - 1) * sizeof *l->running);
            l->n_running--;
            return;
        }
}

/* The most deserving first: by priority (their own, or of those that wait for them), then by age. */
static void sort_running(srn__lane *l) {
    for (uint32_t i = 1; i < l->n_running; i++) {
        srn_request *r = l->running[i];
        uint32_t k = i;
        for (; k > 0; k--) {
            const srn_request *q = l->running[k - 1];
            if (q->boost < r->boost || (q->boost == r->boost && q->serial < r->serial)) break;
            l->running[k] = l->running[k - 1];
        }
        l->running[k] = r;
    }
}

void srn__queue_end(srn__lane *l, srn_request *r, int code, srn_finish finish, const srn_err *err) {
    if (r->seq)
        remove_running(l, r);
    else
        remove_waiting(l, r);
    srn_kv_seq_free(r->seq);
    srn_matcher_free(r->matcher);
    r->seq = NULL;
    r->matcher = NULL;
    if (r->tenant) r->tenant->n_active--;
    r->tenant = NULL;
    pthread_mutex_lock(&r->lock);
    if (r->stream) {
        uint32_t n = r->n_certain;
        srn_stream_end(r->stream);
        r->n_certain = SRN_MIN(r->n_given, srn_stream_n_tokens(r->stream));
        for (; n < r->n_certain; n++) r->out[n].text_end = srn_stream_text_end(r->stream, n);
    }
    r->status.state = SRN_REQUEST_DONE;
    r->status.code = code;
    r->status.finish = finish;
    if (err) r->status.err = *err;
    r->status.done_us = r->s->o.now_us();
    pthread_mutex_unlock(&r->lock);
    r->ended = true;
    r->lane = NULL;
    srn__request_touch(r);
}

/* ---- those that end without an answer ---- */

static bool sweep_one(srn__lane *l, srn_request *r, uint64_t now, bool all) {
    srn_err err = {0};
    int code = SRN_OK;
    if (atomic_load_explicit(&r->cancelled, memory_order_relaxed))
        code = srn_fail(&err, SRN_ECANCELLED, "the request was cancelled");
    else if (all)
        code = srn_fail(&err, SRN_ECANCELLED, "the model was taken out while the request ran");
    else if (r->o.deadline_us && now >= r->o.deadline_us)
        code = srn_fail(&err, SRN_ETIMEOUT, "the request's time was over %s",
                        r->n_tokens > r->n_prompt ? "before its answer ended"
                        : r->seq                  ? "while its prompt was read"
                                                  : "while it waited for its turn");
    if (!code) return false;
    srn__queue_end(l, r, code, SRN_FINISH_CANCELLED, &err);
    return true;
}

void srn__queue_sweep(srn__lane *l, uint64_t now, bool all) {
    for (srn_request *r = l->waiting, *next; r; r = next) {
        next = r->next;
        sweep_one(l, r, now, all);
    }
    for (uint32_t i = l->n_running; i-- > 0;) sweep_one(l, l->running[i], now, all);
}

void srn__queue_add(srn__lane *l, srn_request *r) {
    append_waiting(l, r);
    r->tenant = find_tenant(l, r->o.tenant);
    if (r->tenant) {
        r->tenant->n_active++;
        return;
    }
    srn_err err = {0};
    srn__queue_end(l, r, srn_fail_nomem(&err, sizeof *r->tenant), SRN_FINISH_CANCELLED, &err);
}

/* ---- blocks ---- */

static bool takes_cached(const srn_request *r) {
    if (r->o.no_cache || r->no_take) return false;
    if (r->o.kind == SRN_REQUEST_EMBED) return r->o.pooling == SRN_POOL_LAST;
    return !r->o.prompt_logprobs || r->n_scored == r->n_prompt;
}

/* Blocks of a group that a running request will still want for the tokens that it has and a little more. */
static uint64_t still_wants(const srn__lane *l, const srn_request *r, const srn_kv_group *g) {
    uint64_t end = SRN_MIN((uint64_t)r->n_tokens + SRN_KV_BLOCK, (uint64_t)r->n_prompt + r->most_out);
    uint64_t blocks = (end + SRN_KV_BLOCK - 1) / SRN_KV_BLOCK, have = r->n_computed / SRN_KV_BLOCK;
    blocks = blocks > have ? blocks - have : 0;
    return g->window ? SRN_MIN(blocks, ((uint64_t)g->window + l->max_batch) / SRN_KV_BLOCK + 2) : blocks;
}

bool srn__queue_fits(const srn__lane *l) {
    srn_kv_group groups[SRN_KV_MAX_GROUPS];
    uint32_t n_groups = srn_kv_groups(l->e->model, groups);
    for (uint32_t g = 0; g < n_groups; g++) {
        uint64_t wanted = 0;
        for (uint32_t i = 0; i < l->n_running; i++) wanted += still_wants(l, l->running[i], &groups[g]);
        if (wanted > srn_kv_available(l->kv, g)) return false;
    }
    return true;
}

static void give_back(srn__lane *l, srn_request *r) {
    remove_running(l, r);
    srn_kv_seq_free(r->seq);
    r->seq = NULL;
    r->n_computed = 0;
    if (r->sums) memset(r->sums, 0, l->n_embd * sizeof *r->sums);
    append_waiting(l, r);
}

static void preempt(srn__lane *l, srn_request *r) {
    give_back(l, r);
    r->preempted = true;
    pthread_mutex_lock(&r->lock);
    r->status.n_preempted++;
    r->status.state = SRN_REQUEST_QUEUED;
    pthread_mutex_unlock(&r->lock);
    l->stats.preemptions++;
}

bool srn__queue_reserve(srn__lane *l, srn_request *r, uint32_t n) {
    return srn_kv_seq_reserve(r->seq, n) || (srn__judge_yield(l) && srn_kv_seq_reserve(r->seq, n));
}

bool srn__queue_make_room(srn__lane *l, srn_request *r, uint32_t n) {
    while (!srn__queue_reserve(l, r, n)) {
        srn_request *last = l->running[l->n_running - 1];
        if (l->n_running == 1 && r->no_take) {
            srn_err err = {0};
            int code = srn_fail(&err, SRN_ECONTEXT, "the KV cache cannot hold %u tokens", n);
            srn__queue_end(l, r, code, SRN_FINISH_CANCELLED, &err);
            return false;
        }
        if (l->n_running == 1) r->no_take = true; /* what it shares with the cache may take a block more */
        preempt(l, last);
        if (last == r) return false;
    }
    return true;
}

/* ---- twins ---- */

static uint32_t common_prefix(const srn_request *a, const srn_request *b) {
    uint32_t n = SRN_MIN(a->n_tokens, b->n_tokens), i = 0;
    while (i < n && a->tokens[i] == b->tokens[i]) i++;
    return i;
}

/* Whether a running request will soon hold more of r's beginning than the cache does now. */
static bool waits_for_twin(srn__lane *l, srn_request *r) {
    if (!takes_cached(r)) return false;
    for (uint32_t i = 0; i < l->n_running; i++) {
        srn_request *q = l->running[i];
        if (q->salt != r->salt || q->o.no_cache || q->n_tokens - q->n_computed < TWIN_TOKENS) continue;
        uint32_t n = SRN_MIN(common_prefix(r, q), r->n_tokens - 1);
        if (n < q->n_computed + TWIN_TOKENS) continue;
        if (n < srn_kv_lookup(l->kv, r->salt, r->tokens, n) + TWIN_TOKENS) continue;
        q->boost = SRN_MIN(q->boost, r->o.priority);
        return true;
    }
    return false;
}

/* ---- admission ---- */

static bool goes_before(const srn_request *a, const srn_request *b) {
    if (a->o.priority != b->o.priority) return a->o.priority < b->o.priority;
    if (a->preempted != b->preempted) return a->preempted;
    if (!a->preempted && a->tenant->served != b->tenant->served) return a->tenant->served < b->tenant->served;
    return a->serial < b->serial;
}

/* The older of found and q, of which q counts where it came before r and has a lower priority. */
static srn_request *older(srn_request *found, srn_request *q, const srn_request *r) {
    bool overtaken = q->serial < r->serial && q->boost > r->o.priority;
    return overtaken && (!found || q->serial < found->serial) ? q : found;
}

/* The oldest of those that r overtakes: that wait for a place and were not passed over in this round
 * (UINT64_MAX: or were), or wait for steps that read their prompt. */
static srn_request *overtaken_by(srn__lane *l, const srn_request *r, uint64_t round) {
    srn_request *found = NULL;
    for (srn_request *q = l->waiting; q; q = q->next)
        if (q->passed != round) found = older(found, q, r);
    for (uint32_t i = 0; i < l->n_running; i++)
        if (!srn__request_decodes(l->running[i])) found = older(found, l->running[i], r);
    return found;
}

/* Whose turn it is; *ret_late: because it was overtaken for too long. */
static srn_request *first_waiting(srn__lane *l, uint64_t round, bool *ret_late) {
    *ret_late = false;
    srn_request *best = NULL;
    for (srn_request *r = l->waiting; r; r = r->next)
        if (r->passed != round && (!best || goes_before(r, best))) best = r;
    if (!best || l->n_overtaken < MOST_OVERTAKEN) return best;
    srn_request *late = overtaken_by(l, best, round);
    if (late && !late->seq) return *ret_late = true, late;
    if (late) late->boost = INT32_MIN; /* it has a place: its prompt is read now */
    if (late || !overtaken_by(l, best, UINT64_MAX)) l->n_overtaken = 0;
    return best;
}

/* r was let in, late or perhaps past another one. From then on a late one goes before all others. */
static void count_overtaking(srn__lane *l, srn_request *r, bool late) {
    if (late) {
        r->boost = INT32_MIN;
        l->n_overtaken = 0;
    } else if (overtaken_by(l, r, UINT64_MAX)) {
        l->n_overtaken++;
    }
}

/* Gives r a place and what the cache holds of it. False: it stays where it is. */
static bool start(srn__lane *l, srn_request *r) {
    srn_err err = {0};
    srn_kv_seq *seq;
    int code = srn_kv_seq_new(l->kv, r->salt, &seq, &err);
    if (code) {
        srn__queue_end(l, r, code, SRN_FINISH_CANCELLED, &err);
        return true;
    }
    remove_waiting(l, r);
    r->seq = seq;
    l->running[l->n_running++] = r;
    if (r->o.no_cache) srn_kv_seq_set_alone(seq);
    uint32_t most = r->o.n_rows ? r->n_prompt - r->o.n_rows : r->n_tokens - 1; /* what need not be computed */
    if (takes_cached(r)) r->n_computed = srn_kv_seq_take(seq, r->tokens, r->n_tokens, most);
    if (l->n_running > 1 && !srn__queue_fits(l) && !(srn__judge_yield(l) && srn__queue_fits(l))) {
        give_back(l, r);
        return false;
    }
    uint32_t cached = r->n_computed;
    if (!r->admitted) {
        l->stats.cached_tokens += cached;
        r->tenant->served += r->n_tokens - cached;
    }
    pthread_mutex_lock(&r->lock);
    if (!r->admitted) {
        r->status.n_cached = cached;
        r->status.started_us = r->s->o.now_us();
    }
    r->status.state = srn__request_decodes(r) ? SRN_REQUEST_DECODE : SRN_REQUEST_PREFILL;
    pthread_mutex_unlock(&r->lock);
    r->admitted = true;
    r->preempted = false;
    return true;
}

/* Whether the least deserving one that runs is work that nobody waits for. */
static bool has_background(srn__lane *l) {
    sort_running(l);
    return l->n_running && l->running[l->n_running - 1]->boost == SRN_PRIORITY_BACKGROUND;
}

/* Sends such a one back to where it waits, for this round. */
static void displace(srn__lane *l, uint64_t round) {
    srn_request *last = l->running[l->n_running - 1];
    preempt(l, last);
    last->passed = round;
}

void srn__queue_admit(srn__lane *l) {
    uint64_t round = ++l->n_rounds;
    uint32_t n_passed = 0;
    while (n_passed < MOST_PASSED) {
        bool late, full = l->n_running == l->max_seqs;
        if (full && !has_background(l)) break;
        srn_request *r = first_waiting(l, round, &late);
        if (!r || (full && r->o.priority == SRN_PRIORITY_BACKGROUND)) break;
        if (waits_for_twin(l, r)) {
            r->passed = round; /* not again in this round */
            n_passed++;
            continue;
        }
        if (full) displace(l, round);
        if (!start(l, r)) {
            if (r->o.priority == SRN_PRIORITY_BACKGROUND || !has_background(l)) break;
            displace(l, round);
            continue;
        }
        if (r->seq) count_overtaking(l, r, late);
    }
    sort_running(l);
}
