/* The writer: the one thread that commits. It takes what stands at the front of the queue as one group, tells
 * those who wait, and lets what waits outside in. While commits fail it keeps what is buffered, tells those
 * who wait for a commit that there is none, and tries again, ever less often; buffered entries that find no
 * room in time are lost, counted, and told of in the chain as soon as it can be written again.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "ledger/query_internal.h"
#include "ledger/retain_internal.h"
#include "ledger/writer_internal.h"

enum {
    GROUP_ENTRIES = 1024,
    GROUP_BYTES = 16 << 20,
    LINGER_US = 20 * 1000, /* how long buffered entries gather, so that one sync serves many */
    RETRY_US = 10 * 1000,
    RETRY_MAX_US = 1000 * 1000,
    CLOSE_US = 5 * 1000 * 1000, /* how long a close goes on trying, at most its patience */
    USAGE_US = 30 * 1000 * 1000,
    ROLL_ENTRIES = 1024,  /* that roll-ups lag behind */
    ROLL_MOST = 8192,     /* that one transaction adds to them */
    SIGN_RECORDS = 10000, /* what a start has to check is at most as long */
    SIGN_US = 600 * 1000 * 1000,
    SWEEP_US = 3 * 1000 * 1000, /* between two looks for processes that are gone */
    SWEEP_LEAST_US = 20 * 1000
};

typedef struct writer {
    srn_ledger *l;
    uint64_t retry_at_us, retry_us; /* 0: nothing failed */
    uint64_t usage_at_us, sign_at_us;
    uint64_t rolled_seq;   /* up to which roll-ups are whole */
    uint64_t end_by_us;    /* 0: nobody closes it */
    uint64_t retain_at_us; /* when retention has more to do */
    uint64_t sweep_at_us;  /* when those who share the ledger are looked at; UINT64_MAX: nobody does */
    uint64_t failing_us;   /* Unix time since when commits fail; 0: they do not */
    bool told_lost;        /* of the losses since the last commit */
    uint32_t unsure;       /* entries of a group of which nobody knows whether it is stored; 0: none */
    srn__lost unsure_lost;
} writer;

static void say(srn_ledger *l, const char *event, const char *detail) {
    if (l->o.log) l->o.log(l->o.log_ctx, event, detail);
}

bool srn__writer_has_room(const srn_ledger *l, const srn__item *item) {
    if (l->outside.n || l->queue.n >= l->o.queue) return false;
    return !l->queue.n || l->queue.bytes + item->bytes <= l->o.queue_bytes;
}

/* ---- telling ---- */

/* Of entries that left the queue: calls done, outside the lock, and frees them. */
static void tell(srn__list *list, int code, const srn_err *why) {
    for (srn__item *item; (item = srn__list_pop(list));) {
        if (item->done) item->done(item->ctx, code, why);
        srn__item_free(item);
    }
}

typedef struct told { /* a callback that is due, outside the lock */
    void (*done)(void *ctx, int code, const srn_err *why);
    void *ctx;
} told;

/* Lets in what has room now, and tells those that are buffered. */
static void let_in(srn_ledger *l) {
    told now[64];
    bool more = true;
    while (more) {
        size_t n = 0;
        pthread_mutex_lock(&l->lock);
        srn__list rest = l->outside;
        l->outside = (srn__list){0}; /* so that those at its front find room */
        while (rest.n && n < SRN_LEN(now) && srn__writer_has_room(l, rest.first)) {
            srn__item *item = srn__list_pop(&rest);
            if (!item->durable && item->done) {
                now[n++] = (told){item->done, item->ctx};
                item->done = NULL;
            }
            srn__list_push(&l->queue, item);
        }
        more = n == SRN_LEN(now);
        l->outside = rest;
        pthread_mutex_unlock(&l->lock);
        for (size_t i = 0; i < n; i++) now[i].done(now[i].ctx, SRN_OK, NULL);
    }
}

/* ---- losses ---- */

/* Takes out of a list, under the lock, the entries that `pick` says. */
static srn__list take(srn__list *list, bool (*pick)(const srn__item *item, uint64_t arg), uint64_t arg) {
    srn__list taken = {0}, left = {0};
    for (srn__item *item; (item = srn__list_pop(list));)
        srn__list_push(pick(item, arg) ? &taken : &left, item);
    *list = left;
    return taken;
}

static bool is_durable(const srn__item *item, uint64_t arg) {
    (void)arg;
    return item->durable;
}

static bool is_late(const srn__item *item, uint64_t since_us) {
    return item->since_us <= since_us;
}

/* Counts as lost, under the lock, what is buffered of a list. */
static uint64_t count_lost(srn_ledger *l, const srn__list *list, uint64_t now_us) {
    uint64_t unix_us = srn_unix_us(), n = 0;
    for (const srn__item *item = list->first; item; item = item->next) {
        if (item->durable) {
            l->stats.failed++;
            continue;
        }
        uint64_t at_us = unix_us - SRN_MIN(unix_us, now_us - item->since_us);
        if (!l->lost.n || at_us < l->lost.from_us) l->lost.from_us = at_us;
        l->lost.to_us = SRN_MAX(l->lost.to_us, at_us);
        l->lost.n++;
        l->stats.lost++;
        n++;
    }
    return n;
}

static void expire(writer *w, uint64_t now_us) {
    srn_ledger *l = w->l;
    char text[160];
    pthread_mutex_lock(&l->lock);
    bool late = l->outside.n && l->outside.first->since_us + l->o.patience_us <= now_us;
    srn__list out = late ? take(&l->outside, is_late, now_us - l->o.patience_us) : (srn__list){0};
    uint64_t lost = count_lost(l, &out, now_us);
    pthread_mutex_unlock(&l->lock);
    if (!out.n) return;
    if (lost && !w->told_lost) {
        snprintf(text, sizeof text, "%llu records found no room within %.1f s and are lost; more may follow",
                 (unsigned long long)lost, (double)l->o.patience_us / 1e6);
        say(l, "ledger_lost", text);
        w->told_lost = true;
    }
    srn_err why;
    srn_fail(&why, SRN_EBUSY, "there was no room in the ledger's queue within %.1f s",
             (double)l->o.patience_us / 1e6);
    tell(&out, SRN_EBUSY, &why);
}

/* Nobody waits for ever for a commit of unknown outcome. */
static void expire_unsure(writer *w, uint64_t now_us) {
    srn_ledger *l = w->l;
    srn_err why;
    for (;;) {
        told t = {0};
        pthread_mutex_lock(&l->lock);
        for (srn__item *item = l->queue.first; item && !t.done; item = item->next) {
            if (!item->durable || !item->done || item->since_us + l->o.patience_us > now_us) continue;
            t = (told){item->done, item->ctx};
            item->done = NULL;
        }
        why = l->trouble;
        pthread_mutex_unlock(&l->lock);
        if (!t.done) return;
        srn_fail_prefix(&why, SRN_EIO, "whether it is stored is not known");
        t.done(t.ctx, SRN_EIO, &why);
    }
}

/* ---- groups ---- */

/* How many entries stand at the front for the next group; the rest of the queue may grow meanwhile. */
static uint32_t next_group(srn_ledger *l, srn__item **ret_first) {
    uint64_t bytes = 0;
    uint32_t n = 0;
    for (srn__item *item = l->queue.first; item && n < GROUP_ENTRIES; item = item->next, n++) {
        bytes += item->bytes;
        if (n && bytes > GROUP_BYTES) break;
    }
    *ret_first = l->queue.first;
    return n;
}

/* Hands out the checkpoint of a group that is committed. */
static void publish(writer *w) {
    srn_ledger *l = w->l;
    srn_err err;
    if (!l->made.len) return;
    w->sign_at_us = srn_now_us() + SIGN_US;
    if (srn__checkpoints_append(l->at.folder, (srn_str){l->made.data, l->made.len}, &err))
        say(l, "ledger_checkpoint_unwritten", err.text);
    pthread_mutex_lock(&l->lock);
    srn_buf old = l->checkpoint;
    l->checkpoint = l->made;
    l->made = old;
    pthread_mutex_unlock(&l->lock);
    srn_buf_clear(&l->made);
}

static void group_done(writer *w, uint32_t n, const srn__lost *lost, uint64_t took_us) {
    srn_ledger *l = w->l;
    srn__list good = {0}, there = {0};
    pthread_mutex_lock(&l->lock);
    for (uint32_t i = 0; i < n; i++) {
        srn__item *item = srn__list_pop(&l->queue);
        l->stats.bytes_written += item->row.body.len + item->row.content.len + item->doc.body.len;
        srn__list_push(item->code ? &there : &good, item);
    }
    l->stats.committed += good.n;
    l->stats.failed += there.n;
    l->stats.commits++;
    l->stats.commit_us += took_us;
    l->stats.open_intents = l->store->open;
    l->lost.n -= lost->n;
    if (!l->lost.n) l->lost = (srn__lost){0};
    bool recovered = l->failing;
    l->failing = false;
    pthread_mutex_unlock(&l->lock);
    publish(w);
    w->retry_us = w->retry_at_us = w->failing_us = 0;
    w->told_lost = false;
    if (recovered) say(l, "ledger_recovered", "records are written again");
    tell(&good, SRN_OK, NULL);
    srn_err why;
    srn_fail(&why, SRN_EEXIST, "the ledger has this record already");
    tell(&there, SRN_EEXIST, &why);
    let_in(l);
}

/* A commit whose outcome nobody knows keeps its durable entries: the next try tells. */
static void group_failed(writer *w, bool unknown, uint64_t now_us, const srn_err *err) {
    srn_ledger *l = w->l;
    srn__list out = {0}, more = {0};
    w->retry_us = w->retry_us ? SRN_MIN(2 * w->retry_us, (uint64_t)RETRY_MAX_US) : RETRY_US;
    w->retry_at_us = now_us + w->retry_us;
    if (!w->failing_us) w->failing_us = srn_unix_us();
    pthread_mutex_lock(&l->lock);
    bool first = !l->failing;
    l->failing = true;
    l->trouble = *err;
    if (!unknown) {
        out = take(&l->queue, is_durable, 0);
        more = take(&l->outside, is_durable, 0);
        l->stats.failed += out.n + more.n;
    }
    pthread_mutex_unlock(&l->lock);
    if (first) say(l, "ledger_failing", err->text);
    tell(&out, SRN_EIO, err);
    tell(&more, SRN_EIO, err);
    let_in(l);
}

static bool sign_is_due(const writer *w, uint64_t now_us) {
    uint64_t since = w->l->tail.seq - w->l->tail.signed_seq;
    return since && (since >= SIGN_RECORDS || now_us >= w->sign_at_us);
}

/* A new group, or the one of unknown outcome again. */
static void commit_group(writer *w, bool sign) {
    srn_ledger *l = w->l;
    srn__item *first = NULL;
    srn_err err = {0};
    bool unknown = w->unsure > 0, stored = false;
    pthread_mutex_lock(&l->lock);
    uint32_t n = unknown ? w->unsure : next_group(l, &first);
    srn__lost lost = unknown ? w->unsure_lost : l->lost;
    if (unknown) err = l->trouble;
    pthread_mutex_unlock(&l->lock);
    uint64_t begun_us = srn_now_us();
    int code;
    if (unknown) {
        code = srn__group_resolve(l, &stored, &err);
        if (!code) unknown = false;
        if (!code && !stored) code = SRN_EIO;
    } else {
        code = srn__group_commit(l, first, n, lost.n ? &lost : NULL, sign, &unknown, &err);
    }
    uint64_t now_us = srn_now_us();
    w->unsure = unknown ? n : 0;
    w->unsure_lost = lost;
    if (code)
        group_failed(w, unknown, now_us, &err);
    else
        group_done(w, n, &lost, now_us - begun_us);
}

/* ---- waiting ---- */

/* When there is work next: now, later, or (UINT64_MAX) when somebody comes. Under the lock. */
static uint64_t due_us(const writer *w, uint64_t now_us) {
    const srn_ledger *l = w->l;
    uint64_t due = UINT64_MAX;
    if (l->queue.n || l->lost.n) {
        bool gathered =
            l->ending || l->queue.n_durable || l->queue.n >= GROUP_ENTRIES || l->outside.n || l->lost.n;
        uint64_t at = gathered ? now_us : l->queue.first->since_us + LINGER_US;
        due = SRN_MAX(at, w->retry_at_us);
    }
    if (l->failing && !l->ending) due = SRN_MIN(due, w->retry_at_us);
    if (l->outside.n) due = SRN_MIN(due, l->outside.first->since_us + l->o.patience_us);
    return due;
}

/* Sleeps until there is work; false: it is closed, and there is nothing left to do. */
static bool wait_for_work(writer *w) {
    srn_ledger *l = w->l;
    bool go_on = true;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        uint64_t now_us = srn_now_us();
        if (l->ending && !w->end_by_us) w->end_by_us = now_us + SRN_MIN((uint64_t)CLOSE_US, l->o.patience_us);
        go_on = !l->ending || ((l->queue.n || l->outside.n || l->lost.n) && now_us < w->end_by_us);
        uint64_t upkeep = SRN_MIN(SRN_MIN(w->usage_at_us, w->retain_at_us), w->sweep_at_us);
        uint64_t until = SRN_MIN(due_us(w, now_us), upkeep);
        if (!go_on || until <= now_us) break;
        struct timespec t = {(time_t)(until / 1000000), (long)(until % 1000000) * 1000};
        pthread_cond_timedwait(&l->work, &l->lock, &t);
    }
    pthread_mutex_unlock(&l->lock);
    return go_on;
}

/* While commits fail and nobody waits for one, the ledger tries by itself: with the event that tells of it.
 */
static void try_again(writer *w) {
    srn_ledger *l = w->l;
    char fields[64];
    pthread_mutex_lock(&l->lock);
    bool idle = l->failing && !l->ending && !l->queue.n && !l->lost.n;
    pthread_mutex_unlock(&l->lock);
    if (!idle || !w->failing_us) return;
    snprintf(fields, sizeof fields, "{\"since_us\":%llu}", (unsigned long long)w->failing_us);
    srn_ledger_event(l, "recovered", "ledger", srn_str_of(fields), NULL);
}

/* ---- upkeep ---- */

static void take_stock(writer *w) {
    srn_ledger *l = w->l;
    srn__usage u;
    w->usage_at_us = srn_now_us() + USAGE_US;
    if (l->store->ops->usage(l->store, srn_unix_us(), &u, NULL)) return;
    pthread_mutex_lock(&l->lock);
    l->stats.disk_bytes = u.disk_bytes;
    l->stats.free_bytes = u.free_bytes;
    l->stats.days_left = srn__days_left(&u, atomic_load(&l->max_bytes));
    pthread_mutex_unlock(&l->lock);
}

/* What cannot be written any more when the ledger is closed. */
static void give_up(writer *w) {
    srn_ledger *l = w->l;
    char text[1200];
    pthread_mutex_lock(&l->lock);
    srn__list rest = l->queue, more = l->outside;
    l->queue = l->outside = (srn__list){0};
    uint64_t now_us = srn_now_us();
    count_lost(l, &rest, now_us);
    count_lost(l, &more, now_us);
    uint64_t lost = l->lost.n;
    srn_err why = l->trouble;
    pthread_mutex_unlock(&l->lock);
    if (lost) {
        snprintf(text, sizeof text, "%llu records could not be written before the end and are lost: %s",
                 (unsigned long long)lost, why.text);
        say(l, "ledger_lost", text);
    }
    tell(&rest, SRN_EIO, &why);
    tell(&more, SRN_EIO, &why);
}

/* What fails is tried again: then somebody else may be faster. */
static void sweep(writer *w) {
    srn_ledger *l = w->l;
    uint64_t n = 0, every_us = SRN_MIN((uint64_t)SWEEP_US, l->o.dead_us / 3);
    char text[96];
    if (!w->unsure && !l->failing && srn__group_interrupt(l, &n, NULL)) n = 0;
    w->sweep_at_us = srn_now_us() + SRN_MAX(every_us, (uint64_t)SWEEP_LEAST_US);
    if (!n) return;
    pthread_mutex_lock(&l->lock);
    l->stats.interrupted += n;
    pthread_mutex_unlock(&l->lock);
    snprintf(text, sizeof text, "%llu calls of a server that is gone were open, and are closed",
             (unsigned long long)n);
    say(l, "ledger_interrupted", text);
}

/* Brings the roll-ups up to what is committed, in a transaction of their own: what fails here is tried again
 * some groups later, and costs readers time but no truth. */
static void roll_up(writer *w) {
    srn__store *s = w->l->store;
    bool unknown = false;
    uint32_t n = 0;
    if (s->ops->begin(s, NULL)) return;
    int code = srn__rollup_advance(s->db, ROLL_MOST, &n, NULL);
    if (!code) code = s->ops->commit(s, &unknown, NULL);
    if (code) s->ops->rollback(s);
    if (code || n < ROLL_MOST) w->rolled_seq = w->l->tail.seq; /* else more is left for the next group */
}

void *srn__writer_main(void *ledger) {
    srn_ledger *l = ledger;
    writer w = {.l = l};
    pthread_setname_np(pthread_self(), "serin-ledger");
    w.sign_at_us = srn_now_us() + SIGN_US;
    w.sweep_at_us = l->store->ops->sweep ? 0 : UINT64_MAX;
    take_stock(&w);
    roll_up(&w);
    while (wait_for_work(&w)) {
        uint64_t now_us = srn_now_us();
        expire(&w, now_us);
        if (w.unsure) expire_unsure(&w, now_us);
        if (w.retry_at_us <= now_us) try_again(&w);
        pthread_mutex_lock(&l->lock);
        bool due = due_us(&w, now_us) <= now_us && (l->queue.n || l->lost.n);
        pthread_mutex_unlock(&l->lock);
        bool sign = sign_is_due(&w, now_us);
        if ((due || sign) && w.retry_at_us <= now_us) {
            commit_group(&w, sign);
            if (l->tail.seq >= w.rolled_seq + ROLL_ENTRIES) roll_up(&w);
            l->store->ops->idle(l->store);
        }
        if (w.usage_at_us <= now_us) take_stock(&w);
        if (w.sweep_at_us <= now_us) sweep(&w);
        now_us = srn_now_us();
        w.retain_at_us = l->failing ? now_us + RETRY_MAX_US : srn__retain_step(l, now_us);
        if (w.retain_at_us <= now_us) l->store->ops->idle(l->store);
    }
    if (!w.retry_us && l->tail.seq != l->tail.signed_seq) commit_group(&w, true);
    give_up(&w);
    return NULL;
}
