/* Retention: what is older than the operator wants, or more than fits, is dropped, oldest first, on the
 * writer's thread between its groups and a few records at a time, so that commits wait for milliseconds. A
 * walk first checks the chain of what is to go, so that a tombstone never vouches for records that somebody
 * edited; then the tombstone is committed; then the records go. A crash in the middle leaves the tombstone,
 * and the next start drops the rest. Events, documents and calls that still run are never dropped; where the
 * chain is broken nothing is.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "ledger/query_internal.h"
#include "ledger/retain_internal.h"

enum {
    WALK_RECORDS = 256,
    DROP_RECORDS = 100,
    RECORD_BYTES = 900, /* of a call's columns and indexes, beside its body and content */
    SHRINK_PAGES = 256,
    KEPT_PAGES = 4096, /* free ones that wait for what comes next */
    CHECK_US = 1000000,
    SEGMENTS = 32, /* in which a retention is dropped, at least */
    SIZE_SEGMENTS = 16
};
#define HOUR_US ((uint64_t)3600 * 1000000)
#define DAY_US  (24 * HOUR_US)

static void say(srn_ledger *l, const char *event, const char *detail) {
    if (l->o.log) l->o.log(l->o.log_ctx, event, detail);
}

/* ---- where it begins ---- */

/* The place after the newest tombstone, or before the first record. */
static int floor_place(const srn_ledger *l, srn__passed *ret, srn_err *err) {
    const srn__tombstone *t = &l->retain->floor;
    srn__passed p = {.seq = t->to, .epoch = t->epoch, .t_us = t->to_us, .n_kept = t->n_kept};
    memcpy(p.hash, t->after, sizeof p.hash);
    memcpy(p.kept, t->kept, sizeof p.kept);
    if (!p.seq) p.epoch = 1;
    if (!p.seq && srn__chain_start(l->tail.instance, 1, NULL, p.hash)) return srn_fail_nomem(err, 0);
    *ret = p;
    return SRN_OK;
}

/* The newest tombstone; then what is left of what it dropped, if a crash left some, goes. */
static int load_floor(srn_ledger *l, srn_err *err) {
    srn__retain *r = l->retain;
    srn_buf body;
    srn_buf_init(&body, SRN__BODY_BYTES);
    int code = l->store->ops->newest(l->store, SRN_RECORD_TOMBSTONE, &body, err);
    if (!code) code = srn__tombstone_parse((srn_str){body.data, body.len}, &r->floor, err);
    if (code == SRN_ENOENT) code = SRN_OK;
    r->doing = !code && r->floor.to ? SRN__RETAIN_DROP : SRN__RETAIN_REST;
    r->drop_from = 1;
    srn_buf_done(&body);
    return code;
}

int srn__retain_open(srn_ledger *l, srn_err *err) {
    l->retain = srn_calloc(1, sizeof *l->retain);
    return l->retain ? load_floor(l, err) : srn_fail_nomem(err, sizeof *l->retain);
}

/* Where several processes share the ledger one of them drops, from where the newest tombstone says when its
 * turn begins; a turn ends with the connection. */
static int take_turn(srn_ledger *l, srn_err *err) {
    const srn__store_ops *ops = l->store->ops;
    int code = ops->turn(l->store, true, err);
    if (!code && !l->store->turn) l->retain->doing = SRN__RETAIN_REST;
    if (!code && l->store->turn) code = load_floor(l, err);
    if (code && l->store->turn) ops->turn(l->store, false, NULL);
    return code;
}

static void end_turn(srn_ledger *l) {
    if (l->store->turn && l->store->ops->turn) l->store->ops->turn(l->store, false, NULL);
}

void srn__retain_close(srn_ledger *l) {
    free(l->retain);
}

/* ---- how far ---- */

/* Moves past one record that is to be dropped or, an event, kept. */
static bool pass(void *ctx, const srn__row *row, uint64_t content_bytes) {
    srn_ledger *l = ctx;
    srn__retain *r = l->retain;
    srn__passed *p = &r->at;
    uint8_t hash[SRN_SHA256_BYTES];
    bool wanted = row->t_us < r->until_us || p->bytes < r->want_bytes;
    r->reached = !wanted || row->seq >= r->end;
    if (r->reached) return false;
    if (p->n_old && row->t_us / HOUR_US != p->t_us / HOUR_US) r->hour = *p;
    if (row->epoch != p->epoch && srn__chain_start(l->tail.instance, row->epoch, p->hash, p->hash))
        return r->reached = true, false;
    if (srn__chain_next(p->hash, row, hash)) return r->reached = true, false;
    r->broken = row->seq != p->seq + 1 || memcmp(hash, row->hash, sizeof hash) != 0;
    if (r->broken) return false;
    if (row->kind == SRN_RECORD_EVENT) {
        if (srn__chain_next(p->kept, row, p->kept)) return r->reached = true, false;
        p->n_kept++;
    } else {
        p->n_old++;
        p->bytes += row->body.len + content_bytes + RECORD_BYTES;
    }
    p->seq = row->seq;
    p->epoch = row->epoch;
    p->t_us = row->t_us;
    memcpy(p->hash, hash, sizeof hash);
    return true;
}

static bool first_time(void *ctx, const srn__row *row, uint64_t content_bytes) {
    (void)content_bytes;
    *(uint64_t *)ctx = row->t_us;
    return false;
}

/* Intents without a call stay, and the newest checkpoint, from which the next start checks the chain. */
static int find_end(srn_ledger *l, uint64_t *ret, srn_err *err) {
    srn_buf body;
    srn__checkpoint c;
    uint64_t open = 0, end = l->tail.seq;
    srn_buf_init(&body, SRN__BODY_BYTES);
    int code = l->store->ops->oldest_open(l->store, &open, err);
    if (!code && open) end = SRN_MIN(end, open);
    if (!code) code = l->store->ops->newest(l->store, SRN_RECORD_CHECKPOINT, &body, err);
    if (!code && !srn__checkpoint_parse((srn_str){body.data, body.len}, &c, NULL))
        end = SRN_MIN(end, c.seq + 1);
    if (code == SRN_ENOENT) code = SRN_OK;
    srn_buf_done(&body);
    if (!code) *ret = end;
    return code;
}

/* Whole hours where a retention has many, since statistics are kept by the hour. */
static uint64_t age_limit(const srn_ledger *l, uint64_t first_us) {
    uint64_t keep = atomic_load(&l->retention_us), now = srn_unix_us();
    if (!keep || now <= keep) return 0;
    uint64_t until = now - keep, segment = SRN_MIN(DAY_US, keep / SEGMENTS);
    if (keep >= DAY_US) until -= until % HOUR_US;
    return first_us + segment < until ? until : 0;
}

/* Whether there is something to drop: then a walk begins, in this process's turn. */
static int look(srn_ledger *l, srn_err *err) {
    srn__retain *r = l->retain;
    srn__usage u;
    uint64_t first_us = UINT64_MAX - DAY_US, max = atomic_load(&l->max_bytes);
    int code = l->store->ops->walk(l->store, r->floor.to + 1, 1, first_time, &first_us, err);
    if (!code) code = l->store->ops->usage(l->store, srn_unix_us(), &u, err);
    if (code) return code;
    r->until_us = age_limit(l, first_us);
    r->want_bytes = max && u.used_bytes > max ? u.used_bytes - max + max / SIZE_SEGMENTS : 0;
    if (!r->until_us && !r->want_bytes) return SRN_OK;
    if (!l->store->turn) {
        code = take_turn(l, err);
        if (code || !l->store->turn || r->doing == SRN__RETAIN_DROP) return code;
    }
    code = find_end(l, &r->end, err);
    if (!code) code = floor_place(l, &r->at, err);
    if (code) return code;
    r->hour = (srn__passed){0};
    r->reached = r->broken = false;
    r->doing = SRN__RETAIN_WALK;
    return SRN_OK;
}

/* ---- the tombstone ---- */

/* On the writer's thread, like all else here: the entry is durable. */
static void tombstone_done(void *ctx, int code, const srn_err *why) {
    srn_ledger *l = ctx;
    srn__retain *r = l->retain;
    (void)why;
    r->doing = code ? SRN__RETAIN_REST : SRN__RETAIN_DROP;
    if (code) return;
    r->drop_from = r->floor.to + 1;
    r->floor = r->next_floor;
}

static int append_tombstone(srn_ledger *l, const srn__passed *p, srn_err *err) {
    srn__retain *r = l->retain;
    srn__tombstone t = {.epoch = p->epoch,
                        .from = 1,
                        .to = p->seq,
                        .to_us = p->t_us,
                        .at_us = srn_unix_us(),
                        .n_kept = p->n_kept};
    srn_buf body;
    memcpy(t.instance, l->tail.instance, sizeof t.instance);
    memcpy(t.after, p->hash, sizeof t.after);
    memcpy(t.kept, p->kept, sizeof t.kept);
    if (srn__chain_start(l->tail.instance, 1, NULL, t.before)) return srn_fail_nomem(err, 0);
    srn_buf_init(&body, SRN__BODY_BYTES);
    json_t *more = json_pack("{sssI}", "by", r->want_bytes ? "size" : "age", "dropped", (json_int_t)p->n_old);
    int code = more ? srn__tombstone_make(l->keys, &t, more, &body, err) : srn_fail_nomem(err, 0);
    json_decref(more);
    if (!code) {
        srn_entry e = {.kind = SRN_RECORD_TOMBSTONE,
                       .body = {body.data, body.len},
                       .durable = true,
                       .done = tombstone_done,
                       .ctx = l};
        r->next_floor = t;
        r->doing = SRN__RETAIN_SIGN;
        code = srn__ledger_append_own(l, &e, err);
        if (code) r->doing = SRN__RETAIN_REST;
    }
    srn_buf_done(&body);
    return code;
}

static void tell_broken(srn_ledger *l) {
    char text[200];
    l->retain->stopped = true;
    l->retain->doing = SRN__RETAIN_REST;
    snprintf(text, sizeof text,
             "record %" PRIu64 " is not as it was written: nothing is dropped until `serin ledger verify` "
             "has been looked at",
             l->retain->at.seq + 1);
    say(l, "ledger_damaged", text);
}

static int walk_on(srn_ledger *l, srn_err *err) {
    srn__retain *r = l->retain;
    uint64_t before = r->at.seq;
    int code = l->store->ops->walk(l->store, before + 1, WALK_RECORDS, pass, l, err);
    if (code) return code;
    if (r->broken) return tell_broken(l), SRN_OK;
    if (!r->reached && r->at.seq != before) return SRN_OK; /* more */
    bool by_hour = r->want_bytes && r->hour.seq && r->hour.bytes >= r->want_bytes / 2;
    const srn__passed *p = by_hour ? &r->hour : &r->at;
    r->doing = SRN__RETAIN_REST;
    r->check_at_us = p->n_old ? 0 : srn_now_us() + CHECK_US; /* only events, or calls that still run */
    return p->n_old ? append_tombstone(l, p, err) : SRN_OK;
}

/* ---- dropping ---- */

/* Statistics forget what was dropped. */
static int forget_rollups(srn_ledger *l, srn_err *err) {
    srn__store *s = l->store;
    bool unknown = false;
    int code = s->ops->begin(s, err);
    if (code) return code;
    code = srn__rollup_forget(s->db, l->retain->floor.to_us, err);
    if (!code) code = s->ops->commit(s, &unknown, err);
    if (code) s->ops->rollback(s);
    return code;
}

static int drop_on(srn_ledger *l, srn_err *err) {
    srn__retain *r = l->retain;
    uint64_t next = 0, dropped = 0;
    int code = l->store->ops->drop(l->store, r->drop_from, r->floor.to, DROP_RECORDS, &next, &dropped, err);
    if (!code && !next) code = forget_rollups(l, err);
    if (code) return code;
    pthread_mutex_lock(&l->lock);
    l->stats.dropped += dropped;
    pthread_mutex_unlock(&l->lock);
    r->drop_from = next;
    if (!next) r->doing = SRN__RETAIN_SHRINK;
    return SRN_OK;
}

static int shrink_on(srn_ledger *l, srn_err *err) {
    bool more = false;
    int code = l->store->ops->shrink(l->store, SHRINK_PAGES, KEPT_PAGES, &more, err);
    if (code || !more) l->retain->doing = SRN__RETAIN_REST;
    return code;
}

/* What fails is counted, and said once until something succeeds again. */
static void tell_failure(srn_ledger *l, const srn_err *why) {
    srn__retain *r = l->retain;
    char text[sizeof why->text + 64];
    pthread_mutex_lock(&l->lock);
    l->stats.retention_failed++;
    pthread_mutex_unlock(&l->lock);
    snprintf(text, sizeof text, "nothing can be dropped now, and it is tried again: %s", why->text);
    if (!r->failing) say(l, "ledger_retention_failed", text);
    r->failing = true;
}

uint64_t srn__retain_step(srn_ledger *l, uint64_t now_us) {
    srn__retain *r = l->retain;
    srn_err err = {0};
    int code = SRN_OK;
    if (r->doing == SRN__RETAIN_SIGN) return UINT64_MAX;
    bool limited = atomic_load(&l->retention_us) || atomic_load(&l->max_bytes);
    if (r->stopped || (r->doing == SRN__RETAIN_REST && !limited)) return end_turn(l), UINT64_MAX;
    if (now_us < r->check_at_us) return r->check_at_us;
    bool lost = r->doing != SRN__RETAIN_REST && !l->store->turn;
    if (lost) {
        code = take_turn(l, &err);
        if (code) r->doing = SRN__RETAIN_REST;
    }
    switch (r->doing) {
    case SRN__RETAIN_REST:
        if (!lost) code = look(l, &err);
        if (r->doing == SRN__RETAIN_REST) {
            r->check_at_us = now_us + CHECK_US;
            end_turn(l);
        }
        break;
    case SRN__RETAIN_WALK:
        code = walk_on(l, &err);
        break;
    case SRN__RETAIN_DROP:
        code = drop_on(l, &err);
        break;
    case SRN__RETAIN_SHRINK:
        code = shrink_on(l, &err);
        break;
    case SRN__RETAIN_SIGN:
        break;
    }
    if (code) {
        r->check_at_us = now_us + CHECK_US; /* the disk is full, perhaps: again later */
        tell_failure(l, &err);
    } else if (r->doing != SRN__RETAIN_REST) {
        r->failing = false;
    }
    return r->doing == SRN__RETAIN_SIGN ? UINT64_MAX : r->check_at_us;
}
