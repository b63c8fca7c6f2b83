/* Verifying: the whole chain in order, with all that stands beside it, or its end alone before it is written
 * on. Reads through a source; one thread. Names the first record that is not as it was written; what keeps it
 * from being read is an error, a broken chain is a result. docs/ledger.md says what cannot be found without a
 * checkpoint that was kept elsewhere.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "ledger/keys_internal.h"
#include "ledger/query_internal.h"

enum {
    PIECE = 5000,        /* records in one read */
    REORDER_REACH = 2000 /* how far on a record is looked for that belongs elsewhere */
};

typedef struct verify {
    srn__source *source;
    bool beside;        /* also what stands beside the records */
    const uint8_t *key; /* that must have signed, or NULL: that of the first signature */
    uint8_t first_key[32];
    uint8_t instance[16];
    uint64_t epoch, seq; /* of the last good record */
    uint8_t hash[SRN_SHA256_BYTES];
    const srn__checkpoint *kept; /* from checkpoints.jsonl, ascending */
    size_t n_kept, at_kept;
    const srn__checkpoint *given; /* or NULL */
    uint64_t last_epoch;
    srn__tombstone floor; /* the newest; to 0: there is none, or it was passed */
    uint64_t n_below;     /* events that stayed where the rest was dropped, and the chain over them */
    uint8_t below[SRN_SHA256_BYTES];
    bool look_beyond; /* the record at seq + 1 is another one: is it elsewhere? */
    srn_verify_result *r;
    int code; /* what ended the work */
    srn_err *err;
} verify;

static bool broken(verify *v, uint64_t seq, const char *fmt, ...) SRN_PRINTF(3, 4);
static bool broken(verify *v, uint64_t seq, const char *fmt, ...) {
    if (!v->r->ok) return false;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(v->r->what, sizeof v->r->what, fmt, ap);
    va_end(ap);
    v->r->ok = false;
    v->r->bad_seq = seq;
    return false;
}

/* ---- signatures ---- */

/* Before a restore another key may have signed: what is told then stands in the chain of the last epoch. */
static bool check_key(verify *v, uint64_t seq, uint64_t epoch, const char *what, const uint8_t key[32]) {
    if (epoch < v->last_epoch) return true;
    if (!v->key) {
        memcpy(v->first_key, key, sizeof v->first_key);
        v->key = v->first_key;
    }
    if (memcmp(v->key, key, 32) == 0) return true;
    char hex[65];
    srn_hex(key, 32, hex);
    return broken(v, seq, "record %" PRIu64 ": %s is signed by another key, %.16s...", seq, what, hex);
}

static bool check_instance(verify *v, uint64_t seq, const char *what, const uint8_t instance[16]) {
    if (memcmp(instance, v->instance, 16) == 0) return true;
    return broken(v, seq, "record %" PRIu64 ": %s is that of another ledger", seq, what);
}

/* Against a checkpoint of record c->seq, where the chain has this hash. */
static bool check_point(verify *v, const srn__checkpoint *c, const char *what) {
    if (!check_key(v, c->seq, c->epoch, what, c->key) || !check_instance(v, c->seq, what, c->instance))
        return false;
    if (c->epoch != v->epoch)
        return broken(v, c->seq,
                      "record %" PRIu64 ": %s saw it in epoch %" PRIu64 ", but it is one of epoch %" PRIu64
                      ": the ledger was restored from an older copy",
                      c->seq, what, c->epoch, v->epoch);
    if (memcmp(c->hash, v->hash, sizeof c->hash) == 0) return true;
    return broken(v, c->seq,
                  "record %" PRIu64
                  ": it is not the one that %s states: it, or records before it, were edited "
                  "and their hashes computed again",
                  c->seq, what);
}

/* ---- one record ---- */

static bool same_texts(const srn_call_row *a, const srn_call_row *b) {
    const char *const of_a[] = {a->finish, a->error,        a->endpoint,    a->route,      a->key,
                                a->tenant, a->conversation, a->model,       a->weights,    a->quantisation,
                                a->config, a->prompt,       a->prompt_hash, a->experiment, a->arm};
    const char *const of_b[] = {b->finish, b->error,        b->endpoint,    b->route,      b->key,
                                b->tenant, b->conversation, b->model,       b->weights,    b->quantisation,
                                b->config, b->prompt,       b->prompt_hash, b->experiment, b->arm};
    for (size_t i = 0; i < SRN_LEN(of_a); i++)
        if (strcmp(of_a[i], of_b[i]) != 0) return false;
    return true;
}

static bool same_numbers(const srn_call_row *a, const srn_call_row *b) {
    const uint64_t of_a[] = {a->begun_us, (uint64_t)a->status, a->version,  a->n_input, a->n_cached,
                             a->n_output, a->n_reasoning,      a->queue_us, a->ttft_us, a->total_us,
                             a->itl_us,   a->itl_max_us,       a->streamed};
    const uint64_t of_b[] = {b->begun_us, (uint64_t)b->status, b->version,  b->n_input, b->n_cached,
                             b->n_output, b->n_reasoning,      b->queue_us, b->ttft_us, b->total_us,
                             b->itl_us,   b->itl_max_us,       b->streamed};
    return memcmp(of_a, of_b, sizeof of_a) == 0;
}

static bool check_call(verify *v, const srn__checked *c) {
    srn_record *record = NULL;
    srn_err err;
    uint64_t seq = c->row.seq;
    if (srn_record_decode(SRN_RECORD_CALL, c->row.body, &record, &err))
        return broken(v, seq, "record %" PRIu64 ": it is no call: %.200s", seq, err.text);
    const srn_call_row *row = srn_record_call(record);
    bool same = c->call && memcmp(row->id, c->call->id, sizeof row->id) == 0 && same_texts(row, c->call) &&
                same_numbers(row, c->call);
    srn_record_free(record);
    if (same) return true;
    return broken(v, seq, "record %" PRIu64 ": what is searched of it (table calls) was %s", seq,
                  c->call ? "edited" : "removed");
}

static bool check_beside(verify *v, const srn__checked *c) {
    uint64_t seq = c->row.seq;
    bool is_call = c->row.kind == SRN_RECORD_CALL, there = is_call ? c->has_bytes : c->doc != NULL;
    const char *what = is_call ? "content" : "document";
    uint8_t digest[SRN_SHA256_BYTES];
    if (there != c->row.has_content || c->has_bytes != (is_call && there))
        return broken(v, seq, "record %" PRIu64 ": its %s was %s", seq, what,
                      c->row.has_content ? "removed" : "added");
    if (!there) return true;
    if (is_call ? srn__content_digest(c->bytes, digest) : srn__doc_digest(c->doc, digest)) {
        v->code = srn_fail_nomem(v->err, 0);
        return false;
    }
    if (memcmp(digest, c->row.content_sha, sizeof digest) == 0) return true;
    return broken(v, seq, "record %" PRIu64 ": its %s was edited", seq, what);
}

/* A CHECKPOINT signs the record before it. */
static bool check_signed(verify *v, const srn__row *row) {
    srn_err err;
    srn__checkpoint c;
    srn__tombstone t;
    if (row->kind == SRN_RECORD_TOMBSTONE) {
        if (srn__tombstone_parse(row->body, &t, &err))
            return broken(v, row->seq, "record %" PRIu64 ": %.200s", row->seq, err.text);
        return check_key(v, row->seq, row->epoch, "the tombstone", t.key) &&
               check_instance(v, row->seq, "the tombstone", t.instance);
    }
    if (row->kind != SRN_RECORD_CHECKPOINT) return true;
    if (srn__checkpoint_parse(row->body, &c, &err))
        return broken(v, row->seq, "record %" PRIu64 ": %.200s", row->seq, err.text);
    v->r->n_checkpoints++;
    if (!check_key(v, row->seq, row->epoch, "the checkpoint", c.key)) return false;
    if (c.seq + 1 != row->seq)
        return broken(v, row->seq, "record %" PRIu64 ": its checkpoint is that of another place", row->seq);
    return check_point(v, &c, "its checkpoint");
}

/* The first record of a new epoch is chained to what the epoch's row and the record before say. */
static bool enter_epoch(verify *v, const srn__row *row) {
    uint64_t first = 0;
    bool has_parent = false;
    uint8_t parent[SRN_SHA256_BYTES];
    int code = row->epoch > v->epoch
                   ? v->source->ops->epoch(v->source, row->epoch, &first, &has_parent, parent, v->err)
                   : SRN_ENOENT;
    if (code && code != SRN_ENOENT) return v->code = code, false;
    bool fits = !code && first == row->seq && has_parent == (v->seq > 0);
    if (fits && has_parent) fits = memcmp(parent, v->hash, sizeof parent) == 0;
    if (!fits)
        return broken(v, row->seq,
                      "record %" PRIu64 ": the epoch %" PRIu64 " that it names did not begin with it",
                      row->seq, row->epoch);
    if (srn__chain_start(v->instance, row->epoch, has_parent ? parent : NULL, v->hash))
        return v->code = srn_fail_nomem(v->err, 0), false;
    v->epoch = row->epoch;
    return true;
}

static bool check_hash(verify *v, const srn__row *row) {
    uint8_t hash[SRN_SHA256_BYTES];
    if (srn__chain_next(v->hash, row, hash)) return v->code = srn_fail_nomem(v->err, 0), false;
    if (memcmp(hash, row->hash, sizeof hash) == 0) return memcpy(v->hash, hash, sizeof hash), true;
    v->look_beyond = true;
    return broken(v, row->seq,
                  "record %" PRIu64
                  ": it was edited, or the hash of the record before it was; the chain holds "
                  "up to there",
                  row->seq);
}

static bool check_kept(verify *v) {
    for (; v->at_kept < v->n_kept && v->kept[v->at_kept].seq <= v->seq; v->at_kept++) {
        const srn__checkpoint *c = &v->kept[v->at_kept];
        if (c->seq == v->seq && c->epoch == v->epoch && !check_point(v, c, "checkpoints.jsonl")) return false;
    }
    return !v->given || v->given->seq != v->seq || check_point(v, v->given, "the given checkpoint");
}

static bool check_record(void *ctx, const srn__checked *c) {
    verify *v = ctx;
    const srn__row *row = &c->row;
    if (row->seq != v->seq + 1)
        return broken(v, v->seq + 1, "record %" PRIu64 ": it was removed%s", v->seq + 1,
                      row->seq > v->seq + 2 ? ", and others after it" : "");
    if (row->epoch != v->epoch && !enter_epoch(v, row)) return false;
    if (!check_signed(v, row) || !check_hash(v, row)) return false;
    v->seq = row->seq;
    if (v->beside && !check_beside(v, c)) return false;
    if (v->beside && row->kind == SRN_RECORD_CALL && !check_call(v, c)) return false;
    if (v->beside && row->kind != SRN_RECORD_CALL && c->call)
        return broken(v, row->seq, "record %" PRIu64 ": the table calls has a row for it, but it is no call",
                      row->seq);
    v->r->n_records++;
    return check_kept(v);
}

/* ---- where retention dropped ---- */

/* Of the records up to the tombstone's end the events stay, one after another in a chain of their own; what
 * else there is is still to be dropped. */
static bool check_below(verify *v, const srn__checked *c) {
    v->seq = c->row.seq;
    if (c->row.kind != SRN_RECORD_EVENT) return true;
    if (v->beside && !check_beside(v, c)) return false;
    if (srn__chain_next(v->below, &c->row, v->below)) return v->code = srn_fail_nomem(v->err, 0), false;
    v->n_below++;
    v->r->n_records++;
    return true;
}

static bool pass_floor(verify *v) {
    const srn__tombstone t = v->floor;
    v->floor.to = 0;
    if (v->n_below != t.n_kept || memcmp(v->below, t.kept, sizeof t.kept) != 0)
        return broken(
            v, t.to,
            "records 1 to %" PRIu64
            ": of the events that stayed when the others were dropped one was edited, removed or added",
            t.to);
    v->r->n_dropped = t.to - t.n_kept;
    v->seq = t.to;
    v->epoch = t.epoch;
    memcpy(v->hash, t.after, sizeof v->hash);
    return check_kept(v);
}

static bool check_next(void *ctx, const srn__checked *c) {
    verify *v = ctx;
    if (c->row.seq <= v->floor.to) return check_below(v, c);
    if (v->floor.to && !pass_floor(v)) return false;
    return check_record(ctx, c);
}

/* Where retention dropped up to, in the newest tombstone; it is checked again where it stands. */
static int find_floor(verify *v) {
    srn__row row;
    srn_buf body;
    srn__tombstone t;
    srn_err why;
    srn_buf_init(&body, SRN__BODY_BYTES);
    int code = v->source->ops->newest(v->source, SRN_RECORD_TOMBSTONE, &row, &body, v->err);
    if (!code && srn__tombstone_parse(row.body, &t, &why)) {
        broken(v, row.seq, "record %" PRIu64 ": %.200s", row.seq, why.text);
    } else if (!code && check_key(v, row.seq, row.epoch, "the tombstone", t.key) &&
               check_instance(v, row.seq, "the tombstone", t.instance)) {
        v->floor = t;
        if (t.from != 1 || t.to >= row.seq || memcmp(t.before, v->hash, sizeof t.before) != 0)
            broken(v, row.seq, "record %" PRIu64 ": the tombstone is that of another chain", row.seq);
    }
    srn_buf_done(&body);
    return code == SRN_ENOENT ? SRN_OK : code;
}

/* ---- what was moved ---- */

typedef struct moved {
    const verify *v;
    uint64_t found_at; /* 0: nowhere near */
} moved;

static bool belongs_here(void *ctx, const srn__checked *c) {
    moved *m = ctx;
    uint8_t hash[SRN_SHA256_BYTES];
    srn__row row = c->row;
    row.seq = m->v->seq + 1;
    if (srn__chain_next(m->v->hash, &row, hash)) return false;
    if (memcmp(hash, row.hash, sizeof hash) != 0) return true;
    m->found_at = c->row.seq;
    return false;
}

static int tell_moved(verify *v) {
    moved m = {.v = v};
    uint32_t n;
    uint64_t seq = v->r->bad_seq;
    int code = v->source->ops->scan(v->source, seq + 1, REORDER_REACH, false, belongs_here, &m, &n, v->err);
    if (!code && m.found_at)
        snprintf(v->r->what, sizeof v->r->what,
                 "record %" PRIu64 ": records were reordered: the one that belongs here stands at %" PRIu64,
                 seq, m.found_at);
    return code;
}

/* ---- the whole ---- */

static int scan_on(verify *v, uint64_t end, srn_progress_fn *progress, void *ctx) {
    uint32_t n = 1;
    while (n && v->r->ok) {
        int code = v->source->ops->scan(v->source, v->seq + 1, PIECE, v->beside, check_next, v, &n, v->err);
        if (code || v->code) return code ? code : v->code;
        if (progress) progress(ctx, "verifying", SRN_MIN(v->seq, end), end);
    }
    return v->look_beyond ? tell_moved(v) : SRN_OK;
}

/* Records that a checkpoint saw, and that are not there. */
static void check_cut(verify *v) {
    const srn__checkpoint *last = v->given && v->given->seq > v->seq ? v->given : NULL;
    for (size_t i = v->n_kept; i > v->at_kept && !last; i--)
        if (v->kept[i - 1].seq > v->seq && v->kept[i - 1].epoch == v->epoch) last = &v->kept[i - 1];
    const char *what = last && last == v->given ? "the given checkpoint" : "checkpoints.jsonl";
    if (!last || !check_key(v, last->seq, last->epoch, what, last->key) ||
        !check_instance(v, last->seq, what, last->instance))
        return;
    broken(v, v->seq + 1,
           "record %" PRIu64 ": it and all after it were cut off: %s saw the chain up to record %" PRIu64,
           v->seq + 1, what, last->seq);
}

static int begin(verify *v, srn_err *err) {
    srn__tail tail;
    uint64_t first;
    bool has_parent;
    uint8_t parent[SRN_SHA256_BYTES];
    int code = v->source->ops->tail(v->source, &tail, err);
    if (!code) code = v->source->ops->epoch(v->source, 1, &first, &has_parent, parent, err);
    if (code == SRN_ENOENT) code = srn_fail(err, SRN_EFORMAT, "the ledger's first epoch is missing");
    if (code) return code;
    memcpy(v->instance, tail.instance, sizeof v->instance);
    v->epoch = 1;
    v->last_epoch = tail.epoch;
    if (srn__chain_start(v->instance, 1, has_parent ? parent : NULL, v->hash)) return srn_fail_nomem(err, 0);
    return find_floor(v);
}

int srn_reader_verify(srn_reader *r, const srn_verify_opts *o, srn_verify_result *ret, srn_err *err) {
    srn_verify_result result = {.ok = true};
    srn__checkpoint given, *kept = NULL;
    srn__tail tail;
    verify v = {.source = r->source, .beside = true, .r = &result, .err = err};
    if (r->keys) v.key = srn__keys_public(r->keys);
    int code = begin(&v, err);
    if (!code && o && o->checkpoint.len) {
        code = srn__checkpoint_parse(o->checkpoint, &given, err);
        v.given = &given;
    }
    if (!code && v.given && memcmp(given.instance, v.instance, sizeof v.instance) != 0)
        code = srn_fail(err, SRN_EINVAL, "the given checkpoint is that of another ledger");
    if (!code) code = srn__checkpoints_read(r->at.folder, &kept, &v.n_kept, err);
    v.kept = kept;
    if (!code) code = r->source->ops->tail(r->source, &tail, err);
    if (!code) code = scan_on(&v, tail.seq, o ? o->progress : NULL, o ? o->progress_ctx : NULL);
    if (!code && result.ok) check_cut(&v);
    uint64_t stray = 0;
    if (!code && result.ok) code = r->source->ops->stray(r->source, &stray, err);
    if (!code && stray)
        broken(&v, stray,
               "record %" PRIu64 ": a call, content or a document says to belong to it, but it does not "
               "exist",
               stray);
    free(kept);
    if (!code) *ret = result;
    return code;
}

/* The newest checkpoint of the chain, where there is one: the check starts with the record that carries it.
 */
static int begin_end(verify *v, uint64_t *ret_signed) {
    srn__row row;
    srn_buf body;
    srn__checkpoint c;
    srn_err why;
    srn_buf_init(&body, SRN__BODY_BYTES);
    int code = v->source->ops->newest(v->source, SRN_RECORD_CHECKPOINT, &row, &body, v->err);
    if (!code && (srn__checkpoint_parse(row.body, &c, &why) || c.seq + 1 != row.seq)) {
        broken(v, row.seq, "record %" PRIu64 ": its checkpoint was edited", row.seq);
    } else if (!code) {
        v->seq = c.seq;
        v->epoch = c.epoch;
        v->floor.to = 0;
        memcpy(v->hash, c.hash, sizeof v->hash);
        *ret_signed = row.seq;
    }
    srn_buf_done(&body);
    return code == SRN_ENOENT ? SRN_OK : code;
}

int srn__verify_end(const srn__home *p, const srn_ledger_keys *k, uint64_t *ret_signed, srn_err *err) {
    srn_verify_result result = {.ok = true};
    srn__checkpoint *kept = NULL;
    verify v = {.r = &result, .err = err, .key = srn__keys_public(k)};
    *ret_signed = 0;
    int code = srn__source_open(p, &v.source, err);
    if (code) return code;
    srn__db *db = v.source->db; /* one moment: others may write, and drop, what lies between two reads */
    if (db->snapshot) code = db->snapshot(db, true, err);
    if (!code) code = begin(&v, err);
    if (!code) code = begin_end(&v, ret_signed);
    if (!code) code = srn__checkpoints_read(p->folder, &kept, &v.n_kept, err);
    v.kept = kept;
    if (!code && result.ok) code = scan_on(&v, 0, NULL, NULL);
    if (!code && result.ok) check_cut(&v);
    if (!code && db->snapshot) code = db->snapshot(db, false, err);
    free(kept);
    v.source->ops->close(v.source);
    if (!code && !result.ok)
        code = srn_fail(err, SRN_EFORMAT, "%s: the ledger is damaged: %s; `serin ledger verify` tells more",
                        p->name, result.what);
    return code;
}
