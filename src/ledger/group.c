/* Groups: many entries, one transaction, one sync. Each entry that is stored gets the next place in the
 * chain; one that is there already takes none and spoils nothing. The writer's thread, and srn_ledger_open
 * before it runs. After a failure the chain in memory is where it was.
 */
#include <stdlib.h>

#include "ledger/writer_internal.h"

/* Stores one row at the end `t` of the chain, and moves the end. */
static int put(srn_ledger *l, srn__tail *t, srn__row *row, srn_err *err) {
    row->seq = t->seq + 1;
    row->epoch = t->epoch;
    row->t_us = SRN_MAX(srn_unix_us(), t->t_us);
    if (srn__chain_next(t->hash, row, row->hash)) return srn_fail_nomem(err, 0);
    int code = l->store->ops->put(l->store, row, err);
    if (code) return code;
    t->seq = row->seq;
    t->t_us = row->t_us;
    memcpy(t->hash, row->hash, sizeof t->hash);
    return SRN_OK;
}

/* A record of the ledger's own. */
static int put_text(srn_ledger *l, srn__tail *t, srn_record_kind kind, srn_str body, srn_err *err) {
    srn__row row = {.kind = kind, .body = body};
    srn_record *record = NULL;
    int code = srn_record_decode(kind, body, &record, err);
    row.record = record;
    if (!code) code = put(l, t, &row, err);
    srn_record_free(record);
    return code;
}

/* Takes the body. */
static int put_json(srn_ledger *l, srn__tail *t, srn_record_kind kind, json_t *body, srn_err *err) {
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    int code = text ? put_text(l, t, kind, srn_str_of(text), err) : srn_fail_nomem(err, 0);
    free(text);
    return code;
}

static int put_lost(srn_ledger *l, srn__tail *t, const srn__lost *lost, srn_err *err) {
    json_t *body = json_pack("{sisssIsssIsIsI}", "v", 1, "event", "lost", "at_us", (json_int_t)srn_unix_us(),
                             "by", "ledger", "records", (json_int_t)lost->n, "from_us",
                             (json_int_t)lost->from_us, "to_us", (json_int_t)lost->to_us);
    return put_json(l, t, SRN_RECORD_EVENT, body, err);
}

/* Signs the chain up to here, unless that is done. */
static int put_checkpoint(srn_ledger *l, srn__tail *t, srn_err *err) {
    if (t->seq == t->signed_seq) return SRN_OK;
    srn__checkpoint c = {.epoch = t->epoch, .seq = t->seq, .at_us = srn_unix_us()};
    memcpy(c.instance, t->instance, sizeof c.instance);
    memcpy(c.hash, t->hash, sizeof c.hash);
    srn_buf text;
    srn_buf_init(&text, SRN__BODY_BYTES);
    int code = srn__checkpoint_make(l->keys, &c, &text, err);
    if (!code) code = put_text(l, t, SRN_RECORD_CHECKPOINT, (srn_str){text.data, text.len}, err);
    if (code) {
        srn_buf_done(&text);
        return code;
    }
    t->signed_seq = t->seq;
    srn_buf_done(&l->made);
    l->made = text;
    return SRN_OK;
}

int srn__group_resolve(srn_ledger *l, bool *ret_stored, srn_err *err) {
    bool stored = false;
    int code = l->store->ops->holds(l->store, &l->unsure, &stored, err);
    if (code) return code;
    if (stored) l->tail = l->unsure;
    *ret_stored = stored;
    return SRN_OK;
}

/* Begins a transaction; *t is then where the chain ends, which others may have lengthened. */
static int begin(srn_ledger *l, srn__tail *t, srn_err *err) {
    *t = l->tail;
    int code = l->store->ops->begin(l->store, err);
    if (!code && l->store->ops->end) l->store->ops->end(l->store, t);
    return code;
}

/* Commits what was put since begin, up to the end t of the chain. A commit without an answer is stored if the
 * chain has that record. */
static int finish(srn_ledger *l, const srn__tail *t, bool *ret_unknown, srn_err *err) {
    bool stored = false;
    int code = l->store->ops->commit(l->store, ret_unknown, err);
    if (!code) l->tail = *t;
    if (!code || !*ret_unknown) return code;
    l->unsure = *t;
    if (srn__group_resolve(l, &stored, NULL)) return code;
    *ret_unknown = false;
    return stored ? SRN_OK : code;
}

int srn__group_commit(srn_ledger *l, srn__item *first, uint32_t n, const srn__lost *lost, bool sign,
                      bool *ret_unknown, srn_err *err) {
    srn__tail t;
    *ret_unknown = false;
    srn_buf_clear(&l->made);
    srn__item *item = first;
    for (uint32_t i = 0; i < n && l->store->ops->expect; i++) {
        if (i) item = item->next;
        l->store->ops->expect(l->store, &item->row);
    }
    int code = begin(l, &t, err);
    if (code) return code;
    item = first;
    for (uint32_t i = 0; i < n && !code; i++) {
        if (i) item = item->next; /* of the last one it is not ours to read */
        bool signs = item->row.kind == SRN_RECORD_CHECKPOINT;
        code = item->code = signs ? put_checkpoint(l, &t, err) : put(l, &t, &item->row, err);
        if (code == SRN_EEXIST) code = SRN_OK;
    }
    if (!code && lost) code = put_lost(l, &t, lost, err);
    if (!code && sign) code = put_checkpoint(l, &t, err);
    if (code) {
        l->store->ops->rollback(l->store);
        return code;
    }
    return finish(l, &t, ret_unknown, err);
}

/* ---- intents that no call followed ---- */

typedef struct bodies {
    json_t *array;
    srn_err *err;
} bodies;

static int collect(void *ctx, srn_str body) {
    bodies *b = ctx;
    json_t *j = json_loadb(body.ptr, body.len, 0, NULL);
    if (!json_is_object(j)) {
        json_decref(j);
        return srn_fail(b->err, SRN_EFORMAT, "an open intent is damaged; `serin ledger verify` tells more");
    }
    return json_array_append_new(b->array, j) ? srn_fail_nomem(b->err, body.len) : SRN_OK;
}

/* The call's record from its intent. */
static int put_interrupted(srn_ledger *l, srn__tail *t, json_t *intent, srn_err *err) {
    json_object_set_new(intent, "finish", json_string("interrupted"));
    json_object_set_new(intent, "error", json_string("interrupted"));
    if (!json_is_integer(json_object_get(intent, "status")))
        json_object_set_new(intent, "status", json_integer(500));
    return put_json(l, t, SRN_RECORD_CALL, json_incref(intent), err);
}

static int put_all_interrupted(srn_ledger *l, srn__tail *t, json_t *intents, srn_err *err) {
    enum { NAMED = 100 };
    json_t *ids = json_array(), *intent;
    size_t i;
    int code = SRN_OK;
    json_array_foreach(intents, i, intent) {
        if (code) break;
        if (i < NAMED) json_array_append(ids, json_object_get(intent, "id"));
        code = put_interrupted(l, t, intent, err);
    }
    json_t *body =
        json_pack("{sisssIsssIso}", "v", 1, "event", "interrupted", "at_us", (json_int_t)srn_unix_us(), "by",
                  "ledger", "n", (json_int_t)json_array_size(intents), "calls", ids);
    if (!code) return put_json(l, t, SRN_RECORD_EVENT, body, err);
    json_decref(body);
    return code;
}

int srn__group_interrupt(srn_ledger *l, uint64_t *ret_n, srn_err *err) {
    const srn__store_ops *ops = l->store->ops;
    bool unknown = false, gone = true;
    srn__tail t;
    *ret_n = 0;
    int code = ops->sweep ? ops->sweep(l->store, &gone, err) : SRN_OK;
    if (code || !gone) return code;
    code = begin(l, &t, err);
    if (code) return code;
    bodies b = {json_array(), err};
    code = ops->open_intents(l->store, collect, &b, err);
    size_t n = json_array_size(b.array);
    if (!code && n) code = put_all_interrupted(l, &t, b.array, err);
    if (code)
        ops->rollback(l->store);
    else
        code = finish(l, &t, &unknown, err);
    json_decref(b.array);
    if (!code) *ret_n = n;
    return code;
}
