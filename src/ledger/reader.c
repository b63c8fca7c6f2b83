/* Readers: whatever reads a ledger, in any process. A reader belongs to one thread at a time; it never
 * writes. Refuses places that hold no ledger, and ledgers of a newer Serin.
 */
#include <stdlib.h>

#include "ledger/keys_internal.h"
#include "ledger/ledger_internal.h"

int srn__source_open(const srn__home *p, srn__source **ret, srn_err *err) {
    return srn_ledger_is_postgres(p->where) ? srn__postgres_source(p, ret, err)
                                            : srn__sqlite_source(p->where, ret, err);
}

/* Without keys a reader can do all but read content and tell whose signatures they are. */
static int open_keys(const char *folder, const char *keys_dir, srn_ledger_keys **ret, srn_err *err) {
    char path[4096];
    int code = SRN_OK;
    if (!keys_dir) code = srn__folder_path(folder, "keys", path, sizeof path, err);
    if (!code) code = srn__keys_read(keys_dir ? keys_dir : path, ret, err);
    return !keys_dir && (code == SRN_ENOENT || code == SRN_EIO) ? SRN_OK : code;
}

static int open_reader(const char *where, const char *folder, const char *keys_dir, srn_ledger_keys *keys,
                       uint32_t question_ms, srn_reader **ret, srn_err *err) {
    srn_reader *r = srn_calloc(1, sizeof *r);
    if (!r) return srn_fail_nomem(err, sizeof *r);
    r->keys = keys;
    r->borrows_keys = keys != NULL;
    int code = srn__home_init(&r->at, where, folder, err);
    r->at.question_ms = question_ms;
    if (!code) code = srn__source_open(&r->at, &r->source, err);
    if (!code && !keys) code = open_keys(r->at.folder, keys_dir, &r->keys, err);
    if (code)
        srn_reader_close(r);
    else
        *ret = r;
    return code;
}

int srn_reader_open(const char *where, const char *keys_dir, srn_reader **ret, srn_err *err) {
    return open_reader(where, NULL, keys_dir, NULL, 0, ret, err);
}

int srn_reader_open_in(const char *where, const char *folder, const char *keys_dir, srn_reader **ret,
                       srn_err *err) {
    return open_reader(where, folder, keys_dir, NULL, 0, ret, err);
}

int srn_reader_open_beside(const srn_ledger *l, srn_reader **ret, srn_err *err) {
    return srn_reader_open_within(l, 0, ret, err);
}

int srn_reader_open_within(const srn_ledger *l, uint32_t question_ms, srn_reader **ret, srn_err *err) {
    return open_reader(srn_ledger_where(l), srn_ledger_folder(l), NULL, srn_ledger_get_keys(l), question_ms,
                       ret, err);
}

void srn_reader_close(srn_reader *r) {
    if (!r) return;
    if (r->source) r->source->ops->close(r->source);
    if (!r->borrows_keys) srn_ledger_keys_close(r->keys);
    srn__home_done(&r->at);
    free(r);
}

int srn_reader_call(srn_reader *r, const uint8_t id[16], srn_stored *ret, srn_buf *ret_body, srn_err *err) {
    srn__row row;
    int code = r->source->ops->call(r->source, id, &row, ret_body, err);
    if (!code) *ret = (srn_stored){row.seq, row.t_us, row.kind, row.body, row.has_content};
    return code;
}

int srn_reader_subject(const srn_reader *r, const char *who, char ret[SRN_KEYED_HASH_CHARS + 1],
                       srn_err *err) {
    if (srn_is_keyed_hash(who)) return memcpy(ret, who, SRN_KEYED_HASH_CHARS + 1), SRN_OK;
    if (!r->keys)
        return srn_fail(err, SRN_ENOENT,
                        "%s: without the ledger's keys (--keys DIR) nobody is found by name; give a record's "
                        "`subject`",
                        r->at.name);
    srn_keyed_hash(r->keys, "subject", srn_str_of(who), ret);
    return SRN_OK;
}

int srn_reader_records(srn_reader *r, srn_record_kind kind, uint64_t from,
                       bool (*fn)(void *ctx, const srn_stored *s), void *ctx, srn_err *err) {
    return r->source->ops->records(r->source, kind, from, fn, ctx, err);
}

int srn_reader_docs(srn_reader *r, const char *collection, const char *key,
                    bool (*fn)(void *ctx, const srn_ledger_doc *d, uint64_t t_us), void *ctx, srn_err *err) {
    return r->source->ops->docs(r->source, collection, key, fn, ctx, err);
}

int srn_reader_checkpoint(srn_reader *r, srn_buf *ret, srn_err *err) {
    srn__row row;
    int code = r->source->ops->newest(r->source, SRN_RECORD_CHECKPOINT, &row, ret, err);
    if (code == SRN_ENOENT)
        code =
            srn_fail(err, code, "%s: nothing is signed yet; a server signs at its stop and every 10 minutes",
                     r->at.name);
    return code;
}

int srn_reader_get_status(srn_reader *r, srn_reader_status *ret, srn_err *err) {
    srn_reader_status s = {0};
    srn__tail t;
    srn__usage u;
    srn__writer_is w = {0};
    srn__checkpoint c;
    srn_buf body;
    srn_buf_init(&body, SRN__BODY_BYTES);
    int code = r->source->ops->tail(r->source, &t, err);
    if (!code) code = r->source->ops->usage(r->source, srn_unix_us(), &u, err);
    if (!code) code = srn_reader_checkpoint(r, &body, err);
    if (!code) code = srn__checkpoint_parse((srn_str){body.data, body.len}, &c, err);
    if (!code) s.signed_seq = c.seq, s.signed_us = c.at_us;
    srn_buf_done(&body);
    if (code && code != SRN_ENOENT) return code;
    srn_hex(t.instance, sizeof t.instance, s.instance);
    s.epoch = t.epoch;
    s.last_seq = t.seq;
    s.last_us = t.t_us;
    s.n_records = u.records;
    s.n_recent = u.recent;
    s.recent_span_us = u.recent_span_us;
    s.disk_bytes = u.disk_bytes;
    s.free_bytes = u.free_bytes;
    s.is_written = srn__folder_writer(r->at.folder, &w);
    s.max_bytes = w.max_bytes;
    s.days_left = srn__days_left(&u, s.max_bytes);
    if (s.is_written) {
        s.writer_pid = w.pid;
        memcpy(s.writer_address, w.address, sizeof s.writer_address);
    }
    *ret = s;
    return SRN_OK;
}
