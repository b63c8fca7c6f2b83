/* Backups of a ledger's folder, and folders made from them; forgetting a subject. Called by commands and by
 * the server's administration, on any thread, each call on its own. A backup is taken from one snapshot while
 * the server writes; keys are not part of it. A restored ledger is put together beside its place and moved
 * there whole. Refuses places that hold a ledger already, and a restore without the keys that its content and
 * signatures need.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ledger/backup_internal.h"
#include "ledger/keys_internal.h"

enum { PATH_CAP = 4096 };
#define DB    "ledger.db"
#define LINES "checkpoints.jsonl"

static int only_folders(const char *where, srn_err *err) {
    if (!srn_ledger_is_postgres(where)) return SRN_OK;
    return srn_fail(err, SRN_EUNSUP, "a ledger in PostgreSQL is backed up with its own tools (pg_dump)");
}

/* Renames A/name to B/to. */
static int move(const char *a, const char *name, const char *b, const char *to, srn_err *err) {
    char from[PATH_CAP], at[PATH_CAP];
    int code = srn__folder_path(a, name, from, sizeof from, err);
    if (!code) code = srn__folder_path(b, to, at, sizeof at, err);
    if (!code && rename(from, at)) code = srn_fail(err, SRN_EIO, "%s: %s", at, strerror(errno));
    return code;
}

static bool is_there(const char *dir, const char *name) {
    char path[PATH_CAP];
    return !srn__folder_path(dir, name, path, sizeof path, NULL) && access(path, F_OK) == 0;
}

static void drop(const char *dir, const char *name) {
    char path[PATH_CAP];
    if (!srn__folder_path(dir, name, path, sizeof path, NULL)) unlink(path);
}

/* ---- copying ---- */

static int write_file(const char *path, const char *data, size_t n, srn_err *err) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return srn_fail(err, SRN_EIO, "%s: %s", path, strerror(errno));
    int bad = srn_write_all(fd, data, n) || fsync(fd);
    int code = bad ? srn_fail(err, SRN_EIO, "%s: %s", path, strerror(errno)) : SRN_OK;
    close(fd);
    return code;
}

/* Whole lines only: the last one may be on its way. */
static int copy_lines(const char *from, const char *to, srn_err *err) {
    char path[PATH_CAP], *data = NULL;
    size_t n = 0;
    srn_err why;
    int code = srn__folder_path(from, LINES, path, sizeof path, err);
    if (code) return code;
    code = srn_read_file(path, (size_t)1 << 30, &data, &n, &why);
    if (code == SRN_ENOENT) return SRN_OK;
    if (code) return srn_fail(err, code, "%s", why.text);
    while (n && data[n - 1] != '\n') n--;
    code = srn__folder_path(to, LINES, path, sizeof path, err);
    if (!code) code = write_file(path, data, n, err);
    free(data);
    return code;
}

static int describe(sqlite3 *db, srn_backup_info *ret, srn_err *err) {
    srn__tail t;
    uint64_t pages = 0, bytes = 0;
    int code = srn__sqlite_tail(db, &t, err);
    if (!code) code = srn__sqlite_number(db, "PRAGMA page_count", &pages, err);
    if (!code) code = srn__sqlite_number(db, "PRAGMA page_size", &bytes, err);
    if (code) return code;
    *ret = (srn_backup_info){.epoch = t.epoch, .seq = t.seq, .bytes = pages * bytes};
    srn_hex(t.instance, sizeof t.instance, ret->instance);
    srn_hex(t.hash, sizeof t.hash, ret->hash);
    return SRN_OK;
}

/* ledger.db and checkpoints.jsonl of a folder into another one, the database under `name`. The lines come
 * first: a checkpoint of what is not in the snapshot would say that its end was cut off. */
static int copy_folder(const char *from, const char *to, const char *name, srn_progress_fn *progress,
                       void *ctx, srn_backup_info *ret, srn_err *err) {
    char path[PATH_CAP];
    sqlite3 *db = NULL, *copy = NULL;
    bool is_new;
    int code = srn__sqlite_connect(from, false, &db, &is_new, err);
    if (!code) code = copy_lines(from, to, err);
    if (!code) code = srn__folder_path(to, name, path, sizeof path, err);
    if (!code) unlink(path);
    if (!code) code = srn__sqlite_copy(db, path, progress, ctx, err);
    sqlite3_close(db);
    if (code) return code;
    if (sqlite3_open_v2(path, &copy, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL))
        code = srn__sqlite_fail(err, copy, "opening it");
    else
        code = describe(copy, ret, err);
    sqlite3_close(copy);
    return code;
}

int srn_ledger_backup(const char *where, const char *to, srn_progress_fn *progress, void *ctx,
                      srn_backup_info *ret, srn_err *err) {
    srn_backup_info info;
    int code = only_folders(where, err);
    if (!code && is_there(to, DB))
        code = srn_fail(err, SRN_EEXIST, "%s holds a ledger or a backup already; give another folder", to);
    if (!code && !is_there(where, DB))
        code = srn_fail(err, SRN_ENOENT, "%s: there is no ledger here; --ledger DIR names another folder",
                        where);
    if (!code) code = srn__folder_make(to, err);
    if (!code) code = copy_folder(where, to, DB ".part", progress, ctx, &info, err);
    if (!code) code = move(to, DB ".part", to, DB, err);
    if (!code) code = srn__folder_sync(to, err);
    if (!code) *ret = info;
    return code;
}

/* ---- restoring ---- */

int srn__restore_check_keys(const char *dir, bool new_keys, srn_err *err) {
    srn_ledger_keys *k = NULL;
    srn_err why = {0};
    int code = srn__keys_read(dir, &k, &why);
    srn_ledger_keys_close(k);
    if (code == SRN_ENOENT && new_keys) return SRN_OK;
    if (code == SRN_ENOENT)
        return srn_fail(
            err, SRN_ENOENT,
            "%s holds no keys, and they are no part of a backup: copy them there first, or begin with "
            "new ones (--new-keys), under which encrypted content cannot be read",
            dir);
    return code ? srn_fail(err, code, "%s", why.text) : SRN_OK;
}

/* A new epoch behind the last record. */
static int begin_epoch(const char *dir, srn_err *err) {
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    bool is_new;
    srn__tail t;
    int code = srn__sqlite_connect(dir, true, &db, &is_new, err);
    if (!code) code = srn__sqlite_tail(db, &t, err);
    if (!code)
        code = srn__sqlite_prepare(db, "INSERT INTO epochs(epoch, first_seq, parent, t_us) VALUES(?,?,?,?)",
                                   &s, err);
    if (!code) {
        sqlite3_bind_int64(s, 1, (sqlite3_int64)t.epoch + 1);
        sqlite3_bind_int64(s, 2, (sqlite3_int64)t.seq + 1);
        sqlite3_bind_blob(s, 3, t.hash, sizeof t.hash, SQLITE_STATIC);
        sqlite3_bind_int64(s, 4, (sqlite3_int64)srn_unix_us());
        if (sqlite3_step(s) != SQLITE_DONE) code = srn__sqlite_fail(err, db, "beginning an epoch");
    }
    sqlite3_finalize(s);
    if (sqlite3_close(db) && !code) code = srn_fail(err, SRN_EIO, "%s/" DB ": it cannot be closed", dir);
    return code;
}

int srn__restore_tell(const srn_ledger_opts *place, const srn_restore_opts *o, const srn_backup_info *b,
                      srn_err *err) {
    srn_ledger *l = NULL;
    json_t *body =
        json_pack("{sisssIssss?s{sssIsIss}}", "v", 1, "event", "restored", "at_us", (json_int_t)srn_unix_us(),
                  "by", o->by ? o->by : "restore", "from", o->from, "parent", "instance", b->instance,
                  "epoch", (json_int_t)b->epoch, "seq", (json_int_t)b->seq, "hash", b->hash);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    if (!text) return srn_fail(err, SRN_EINVAL, "the name of the backup must be UTF-8");
    int code = srn_ledger_open(place, &l, err);
    if (!code)
        code = srn_ledger_commit(l, &(srn_entry){.kind = SRN_RECORD_EVENT, .body = srn_str_of(text)}, err);
    srn_ledger_close(l);
    free(text);
    return code;
}

static void clear(const char *part) {
    static const char *const names[] = {DB,    DB "-wal", DB "-shm",    DB "-journal",
                                        LINES, "lock",    "server.json"};
    for (size_t i = 0; i < SRN_LEN(names); i++) drop(part, names[i]);
    rmdir(part);
}

/* In the folder `part` of the place, then moved there. */
static int build(const srn_restore_opts *o, const char *keys, const char *part, srn_backup_info *ret,
                 srn_err *err) {
    clear(part);
    if (mkdir(part, 0700)) return srn_fail(err, SRN_EIO, "%s: %s", part, strerror(errno));
    int code = copy_folder(o->from, part, DB, o->progress, o->progress_ctx, ret, err);
    if (!code) code = begin_epoch(part, err);
    const srn_ledger_opts place = {.where = part, .keys_dir = keys};
    if (!code) code = srn__restore_tell(&place, o, ret, err);
    if (!code && is_there(part, DB "-wal"))
        code = srn_fail(err, SRN_EBUSY, "%s/" DB " is open elsewhere; try again", part);
    if (!code && is_there(part, LINES)) code = move(part, LINES, o->where, LINES, err);
    if (!code) code = move(part, DB, o->where, DB, err);
    if (!code) code = srn__folder_sync(o->where, err);
    clear(part);
    return code;
}

int srn_ledger_restore(const srn_restore_opts *o, srn_backup_info *ret, srn_err *err) {
    char keys[PATH_CAP], part[PATH_CAP];
    int lock = -1, code = SRN_OK;
    srn_backup_info info;
    if (srn_ledger_is_postgres(o->where)) return srn__postgres_restore(o, ret, err);
    if (!is_there(o->from, DB))
        code = srn_fail(err, SRN_ENOENT, "%s: there is no backup here; `serin ledger backup` makes one",
                        o->from);
    if (!code) code = srn__folder_make(o->where, err);
    if (!code) code = srn__folder_lock(o->where, &lock, err);
    if (!code && is_there(o->where, DB))
        code = srn_fail(err, SRN_EEXIST,
                        "%s holds a ledger already; move it away, or restore into another folder", o->where);
    if (!code) code = srn__folder_path(o->where, "keys", keys, sizeof keys, err);
    if (!code) code = srn__folder_path(o->where, "restore.part", part, sizeof part, err);
    const char *keys_dir = o->keys_dir ? o->keys_dir : keys;
    if (!code) code = srn__restore_check_keys(keys_dir, o->new_keys, err);
    if (!code) code = build(o, keys_dir, part, &info, err);
    if (lock >= 0) close(lock);
    if (!code) *ret = info;
    return code;
}

/* ---- forgetting ---- */

int srn_ledger_forget_subject(srn_ledger *l, const char *by, const char *tenant, const char *subject,
                              srn_err *err) {
    char hash[SRN_KEYED_HASH_CHARS + 1];
    srn_ledger_keys *k = srn_ledger_get_keys(l);
    if (srn_is_keyed_hash(subject))
        memcpy(hash, subject, sizeof hash);
    else
        srn_keyed_hash(k, "subject", srn_str_of(subject), hash);
    json_t *body =
        json_pack("{sisssIssssssss}", "v", 1, "event", "forgotten", "at_us", (json_int_t)srn_unix_us(), "by",
                  by, "tenant", tenant, "subject", hash, "key", srn_hash_key_id(k));
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    if (!text) return srn_fail(err, SRN_EINVAL, "the name of a tenant must be UTF-8");
    int code = srn_ledger_forget(k, tenant, hash, err);
    if (code) return free(text), code;
    code = srn_ledger_commit(l, &(srn_entry){.kind = SRN_RECORD_EVENT, .body = srn_str_of(text)}, err);
    free(text);
    return code ? srn_fail_prefix(err, code, "the key is destroyed, but the ledger does not say so") : SRN_OK;
}
