/* A database that PostgreSQL's own tools have put back becomes a ledger again: a new epoch behind its last
 * record. Called by srn_ledger_restore, on its thread; takes the lock of the folder and of the chain. What
 * a crash left half done is done by the next call: an epoch that has no record yet is begun once. Refuses a
 * database that holds no records, or that somebody writes.
 */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "ledger/backup_internal.h"
#include "ledger/postgres_internal.h"

enum { RESTORE_ANSWER_US = 15 * 1000 * 1000 };
static const char what[] = "beginning an epoch";

typedef struct last { /* the restored ledger's last record */
    uint64_t seq, epoch;
    uint8_t hash[SRN_SHA256_BYTES];
} last;

static bool take_last(void *ctx, const srn__cell *c) {
    last *l = ctx;
    l->seq = (uint64_t)c[0].number;
    l->epoch = (uint64_t)c[1].number;
    if (c[2].text.len == sizeof l->hash) memcpy(l->hash, c[2].text.ptr, sizeof l->hash);
    return false;
}

static int insert_epoch(srn__pg *g, const last *l, srn_err *err) {
    srn__sql q;
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "INSERT INTO epochs(epoch, first_seq, parent, t_us) VALUES(");
    srn__sql_number(&q, (int64_t)l->epoch + 1);
    srn_buf_addz(&q.text, ", ");
    srn__sql_number(&q, (int64_t)l->seq + 1);
    srn_buf_addz(&q.text, ", ");
    srn__sql_bytes(&q, (srn_str){(const char *)l->hash, sizeof l->hash});
    srn_buf_addz(&q.text, ", ");
    srn__sql_number(&q, (int64_t)srn_unix_us());
    srn_buf_addz(&q.text, ") ON CONFLICT DO NOTHING");
    int code = srn__sql_check(&q, err);
    if (!code) code = srn__pg_ask(&g->head, &q, NULL, NULL, err);
    srn__sql_done(&q);
    return code;
}

/* Nobody is left of those who wrote it, nor need they have had the keys that it goes on with. */
static int forget_writers(srn__pg *g, srn_err *err) {
    return srn__pg_run(g, "UPDATE open SET writer = 0; DELETE FROM writers; UPDATE meta SET hash_key = NULL",
                       what, err);
}

/* In a transaction that has the chain. */
static int go_on(srn__pg *g, srn__tail *t, last *l, srn_err *err) {
    uint64_t there = 0;
    int code =
        srn__pg_number(g, "SELECT (to_regclass('serin.meta') IS NOT NULL)::integer", NULL, 0, &there, err);
    if (!code && there) code = srn__pg_tail(g, t, err);
    if (!code && there)
        code = srn__pg_ask_text(g, "SELECT seq, epoch, hash FROM records ORDER BY seq DESC LIMIT 1", NULL, 0,
                                take_last, l, err);
    if (!code && !l->seq)
        code = srn_fail(err, SRN_ENOENT,
                        "%s: holds no records of a ledger; put its backup back first, as by pg_restore",
                        g->at->name);
    if (!code) code = srn__pg_upgrade(g, err);
    if (!code) code = srn__pg_alone(g, err);
    if (!code) code = forget_writers(g, err);
    return code ? code : insert_epoch(g, l, err);
}

static int begin_epoch(const srn__home *home, srn_backup_info *ret, srn_err *err) {
    srn__pg g;
    srn__tail t;
    last l = {0};
    srn__pg_init(&g, home, true, RESTORE_ANSWER_US);
    int code = srn__pg_connect(&g, err);
    if (!code) code = srn__pg_begin(&g, what, err);
    if (!code) code = srn__pg_end(&g, go_on(&g, &t, &l, err), what, err);
    srn__pg_close(&g);
    if (code) return code;
    *ret = (srn_backup_info){.epoch = l.epoch, .seq = l.seq};
    srn_hex(t.instance, sizeof t.instance, ret->instance);
    srn_hex(l.hash, sizeof l.hash, ret->hash);
    return SRN_OK;
}

/* Checkpoints of what came after the backup are of another history now. */
static int put_aside(const srn__home *home, uint64_t epoch, srn_err *err) {
    char from[4096], name[64], to[4096];
    snprintf(name, sizeof name, "checkpoints-epoch-%" PRIu64 ".jsonl", epoch);
    int code = srn__folder_path(home->folder, "checkpoints.jsonl", from, sizeof from, err);
    if (!code) code = srn__folder_path(home->folder, name, to, sizeof to, err);
    if (!code && rename(from, to) && errno != ENOENT)
        code = srn_fail(err, SRN_EIO, "%s: %s", from, strerror(errno));
    return code ? code : srn__folder_sync(home->folder, err);
}

int srn__postgres_restore(const srn_restore_opts *o, srn_backup_info *ret, srn_err *err) {
    char keys[4096];
    srn__home home;
    srn_backup_info info;
    int lock = -1, code = srn__home_init(&home, o->where, o->folder, err);
    if (code) return code;
    code = srn__folder_make(home.folder, err);
    if (!code) code = srn__folder_lock(home.folder, &lock, err);
    if (!code) code = srn__folder_path(home.folder, "keys", keys, sizeof keys, err);
    const char *keys_dir = o->keys_dir ? o->keys_dir : keys;
    if (!code) code = srn__restore_check_keys(keys_dir, o->new_keys, err);
    if (!code) code = begin_epoch(&home, &info, err);
    if (!code) code = put_aside(&home, info.epoch, err);
    if (lock >= 0) close(lock);
    const srn_ledger_opts place = {.where = o->where, .folder = home.folder, .keys_dir = keys_dir};
    if (!code) code = srn__restore_tell(&place, o, &info, err);
    srn__home_done(&home);
    if (!code) *ret = info;
    return code;
}
