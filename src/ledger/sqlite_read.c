/* SQLite as a source: connections to a folder's database, and what readers ask of it. A source belongs to its
 * reader's thread. Readers open read-only and never move the log into the database, not at their close
 * either.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "ledger/sqlite_internal.h"

int srn__sqlite_fail(srn_err *err, sqlite3 *db, const char *what) {
    int rc = db ? sqlite3_errcode(db) & 0xFF : SQLITE_NOMEM;
    const char *file = db ? sqlite3_db_filename(db, "main") : NULL,
               *text = db ? sqlite3_errmsg(db) : "out of memory";
    int system = db ? sqlite3_system_errno(db) : 0;
    int code = rc == SQLITE_BUSY || rc == SQLITE_LOCKED      ? SRN_EBUSY
               : rc == SQLITE_NOMEM                          ? SRN_ENOMEM
               : rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB ? SRN_EFORMAT
                                                             : SRN_EIO;
    bool why = code == SRN_EIO && system && rc != SQLITE_FULL;
    return srn_fail(err, code, "%s: %s: %s%s%s", file && *file ? file : "ledger.db", what, text,
                    why ? ": " : "", why ? strerror(system) : "");
}

int srn__sqlite_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **ret, srn_err *err) {
    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL))
        return srn__sqlite_fail(err, db, "reading its tables");
    return SRN_OK;
}

int srn__sqlite_number(sqlite3 *db, const char *sql, uint64_t *ret, srn_err *err) {
    sqlite3_stmt *s = NULL;
    int code = srn__sqlite_prepare(db, sql, &s, err);
    if (code) return code;
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW || rc == SQLITE_DONE)
        *ret = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(s, 0) : 0;
    else
        code = srn__sqlite_fail(err, db, "reading it");
    sqlite3_finalize(s);
    return code;
}

/* ---- connecting ---- */

static int check_header(const char *file, uint64_t app, uint64_t format, srn_err *err) {
    if (app != SRN__SQLITE_APP_ID || !format)
        return srn_fail(err, SRN_EFORMAT, "%s: is not a ledger of Serin's; give another folder", file);
    if (format > SRN__SQLITE_FORMAT)
        return srn_fail(err, SRN_EFORMAT,
                        "%s: was written by a newer Serin (format %u, this one knows %d); use that one", file,
                        (unsigned)format, SRN__SQLITE_FORMAT);
    return SRN_OK;
}

static uint64_t number_at(const uint8_t *p) {
    return (uint64_t)p[0] << 24 | (uint64_t)p[1] << 16 | (uint64_t)p[2] << 8 | p[3];
}

/* By the first 100 bytes of the file. What is new, or has its beginning in the log still, the connection
 * tells later. */
int srn__sqlite_look(const char *dir, srn_err *err) {
    enum { PAGES = 28, FORMAT = 60, APP = 68, HEADER = 100 };
    char path[4096], log[4160];
    uint8_t head[HEADER] = {0};
    int code = srn__folder_path(dir, "ledger.db", path, sizeof path, err);
    FILE *f = code ? NULL : fopen(path, "rb");
    if (!f) return code;
    size_t n = fread(head, 1, sizeof head, f);
    fclose(f);
    if (!n) return SRN_OK;
    if (n < sizeof head || memcmp(head, "SQLite format 3", 16) != 0) return check_header(path, 0, 0, err);
    snprintf(log, sizeof log, "%s-wal", path);
    if (!number_at(head + APP) && (number_at(head + PAGES) <= 1 || !access(log, F_OK))) return SRN_OK;
    return check_header(path, number_at(head + APP), number_at(head + FORMAT), err);
}

static int check_format(sqlite3 *db, bool write, bool *ret_new, srn_err *err) {
    const char *file = sqlite3_db_filename(db, "main");
    uint64_t app = 0, format = 0, tables = 0;
    int code = srn__sqlite_number(db, "PRAGMA application_id", &app, err);
    if (!code) code = srn__sqlite_number(db, "PRAGMA user_version", &format, err);
    if (!code) code = srn__sqlite_number(db, "SELECT count(*) FROM sqlite_schema", &tables, err);
    if (code) return code;
    if (write && !tables && !app && !format) return *ret_new = true, SRN_OK;
    return check_header(file, app, format, err);
}

/* Made here, so that nobody else may read it: the log gets the same permissions. */
static int make_file(const char *dir, const char *path, srn_err *err) {
    if (!access(path, F_OK)) return SRN_OK;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return srn_fail(err, SRN_EIO, "%s: %s", path, strerror(errno));
    close(fd);
    return srn__folder_sync(dir, err);
}

static int set_up(sqlite3 *db, bool write, srn_err *err) {
    static const char writer[] = "PRAGMA auto_vacuum = INCREMENTAL;" /* of a new one only */
                                 "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                                 "PRAGMA secure_delete = ON;"
                                 "PRAGMA wal_autocheckpoint = 0; PRAGMA cell_size_check = ON;"
                                 "PRAGMA cache_size = -16000; PRAGMA temp_store = MEMORY";
    static const char reader[] = "PRAGMA query_only = ON; PRAGMA cell_size_check = ON;"
                                 "PRAGMA cache_size = -16000; PRAGMA temp_store = MEMORY";
    sqlite3_extended_result_codes(db, 1);
    sqlite3_busy_timeout(db,
                         write ? SRN__SQLITE_BUSY_MS / 8 : SRN__SQLITE_BUSY_MS); /* a writer tries again */
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (!write) sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return sqlite3_exec(db, write ? writer : reader, NULL, NULL, NULL)
               ? srn__sqlite_fail(err, db, "opening it")
               : SRN_OK;
}

int srn__sqlite_connect(const char *dir, bool write, sqlite3 **ret, bool *ret_new, srn_err *err) {
    char path[4096];
    sqlite3 *db = NULL;
    *ret_new = false;
    int code = srn__folder_path(dir, "ledger.db", path, sizeof path, err);
    if (!code && write) code = make_file(dir, path, err);
    if (!code && !write && access(path, F_OK) && (errno == ENOENT || errno == ENOTDIR))
        code = errno == ENOENT
                   ? srn_fail(err, SRN_ENOENT, "%s: there is no ledger here; `serin serve` makes one", dir)
                   : srn_fail(err, SRN_EINVAL, "%s: is not a folder; --ledger names that of a ledger", dir);
    if (!code && !write && access(path, R_OK) && errno == EACCES)
        code = srn_fail(err, SRN_EIO, "%s: this user may not read it: %s", path, strerror(errno));
    if (code) return code;
    int flags = (write ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY) | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &db, flags, NULL)) code = srn__sqlite_fail(err, db, "opening it");
    if (!code && write && sqlite3_db_readonly(db, "main"))
        code = srn_fail(err, SRN_EIO, "%s: may only be read; its owner must be able to write it", path);
    if (!code) code = set_up(db, write, err);
    if (!code) code = check_format(db, write, ret_new, err);
    if (code == SRN_EFORMAT && (sqlite3_errcode(db) & 0xFF) == SQLITE_NOTADB)
        srn_fail(err, code, "%s: is not a ledger of Serin's; give another folder", path);
    if (code)
        sqlite3_close(db);
    else
        *ret = db;
    return code;
}

/* ---- rows ---- */

srn_str srn__sqlite_text(sqlite3_stmt *s, int column) {
    const void *p = sqlite3_column_blob(s, column);
    return (srn_str){p ? p : "", (size_t)sqlite3_column_bytes(s, column)};
}

static void copy_blob(sqlite3_stmt *s, int column, uint8_t *ret, size_t n) {
    srn_str b = srn__sqlite_text(s, column);
    memset(ret, 0, n);
    memcpy(ret, b.ptr, SRN_MIN(b.len, n));
}

void srn__sqlite_row(sqlite3_stmt *s, int at, srn__row *ret) {
    *ret = (srn__row){
        .seq = (uint64_t)sqlite3_column_int64(s, at),
        .epoch = (uint64_t)sqlite3_column_int64(s, at + 1),
        .kind = (srn_record_kind)sqlite3_column_int(s, at + 2),
        .t_us = (uint64_t)sqlite3_column_int64(s, at + 3),
        .body = srn__sqlite_text(s, at + 4),
        .has_content = sqlite3_column_type(s, at + 5) != SQLITE_NULL,
    };
    copy_blob(s, at + 5, ret->content_sha, SRN_SHA256_BYTES);
    copy_blob(s, at + 6, ret->hash, SRN_SHA256_BYTES);
}

/* Of a ledger without records the hash is that which its first one is chained to. */
static int empty_tail(sqlite3 *db, srn__tail *t, srn_err *err) {
    sqlite3_stmt *s = NULL;
    int code = srn__sqlite_prepare(db, "SELECT first_seq, parent FROM epochs WHERE epoch = ?", &s, err);
    if (code) return code;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)t->epoch);
    if (sqlite3_step(s) != SQLITE_ROW) {
        code = srn_fail(err, SRN_EFORMAT, "%s: its epoch is missing", sqlite3_db_filename(db, "main"));
    } else {
        srn_str parent = srn__sqlite_text(s, 1);
        t->seq = (uint64_t)sqlite3_column_int64(s, 0) - 1;
        code = srn__chain_start(t->instance, t->epoch,
                                parent.len == SRN_SHA256_BYTES ? (const uint8_t *)parent.ptr : NULL, t->hash);
        if (code) srn_fail_nomem(err, 0);
    }
    sqlite3_finalize(s);
    return code;
}

int srn__sqlite_tail(sqlite3 *db, srn__tail *ret, srn_err *err) {
    static const char sql[] =
        "SELECT (SELECT value FROM meta WHERE key = 'instance'), (SELECT max(epoch) FROM epochs), r.seq,"
        " r.epoch, r.t_us, r.hash FROM (SELECT 1) LEFT JOIN"
        " (SELECT * FROM records ORDER BY seq DESC LIMIT 1) r";
    sqlite3_stmt *s = NULL;
    srn__tail t = {0};
    int code = srn__sqlite_prepare(db, sql, &s, err);
    if (code) return code;
    if (sqlite3_step(s) != SQLITE_ROW) {
        code = srn__sqlite_fail(err, db, "reading the end of the chain");
    } else {
        copy_blob(s, 0, t.instance, sizeof t.instance);
        t.epoch = (uint64_t)sqlite3_column_int64(s, 1);
        bool begun =
            sqlite3_column_type(s, 2) != SQLITE_NULL && (uint64_t)sqlite3_column_int64(s, 3) == t.epoch;
        t.t_us = (uint64_t)sqlite3_column_int64(s, 4);
        t.seq = (uint64_t)sqlite3_column_int64(s, 2);
        copy_blob(s, 5, t.hash, sizeof t.hash);
        if (!begun) code = empty_tail(db, &t, err);
    }
    sqlite3_finalize(s);
    if (!code) *ret = t;
    return code;
}

/* ---- the source ---- */

typedef srn__sqlite_source_of sqlite_source;

static int source_tail(srn__source *base, srn__tail *ret, srn_err *err) {
    return srn__sqlite_tail(((sqlite_source *)base)->db, ret, err);
}

/* The row of a statement, its body copied. */
static int take_row(sqlite3_stmt *s, srn__row *ret_row, srn_buf *ret_body, srn_err *err) {
    srn__row row;
    srn__sqlite_row(s, 0, &row);
    srn_buf_clear(ret_body);
    if (!srn_buf_add(ret_body, row.body.ptr, row.body.len)) return srn_fail_nomem(err, row.body.len);
    row.body = (srn_str){ret_body->data, ret_body->len};
    *ret_row = row;
    return SRN_OK;
}

static int source_call(srn__source *base, const uint8_t id[16], srn__row *ret_row, srn_buf *ret_body,
                       srn_err *err) {
    static const char sql[] =
        "SELECT " SRN__ROW_COLUMNS " FROM records r WHERE r.seq ="
        " coalesce((SELECT seq FROM calls WHERE id = ?1), (SELECT seq FROM open WHERE id = ?1))";
    sqlite3 *db = ((sqlite_source *)base)->db;
    sqlite3_stmt *s = NULL;
    int code = srn__sqlite_prepare(db, sql, &s, err);
    if (code) return code;
    sqlite3_bind_blob(s, 1, id, SRN_ULID_BYTES, SQLITE_STATIC);
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        code = take_row(s, ret_row, ret_body, err);
    } else if (rc == SQLITE_DONE) {
        char text[SRN_ULID_CHARS + 1];
        srn_ulid_format(id, text);
        code = srn_fail(err, SRN_ENOENT, "there is no call %s in the ledger; `serin calls list` shows them",
                        text);
    } else {
        code = srn__sqlite_fail(err, db, "reading a call");
    }
    sqlite3_finalize(s);
    return code;
}

/* Kinds past CALL have an index of their own, which the planner takes only where its condition is repeated.
 */
static const char *index_of(srn_record_kind kind) {
    return kind > SRN_RECORD_CALL ? " AND r.kind > 2" : "";
}

static int source_newest(srn__source *base, srn_record_kind kind, srn__row *ret_row, srn_buf *ret_body,
                         srn_err *err) {
    sqlite3 *db = ((sqlite_source *)base)->db;
    sqlite3_stmt *s = NULL;
    char sql[256];
    snprintf(sql, sizeof sql,
             "SELECT " SRN__ROW_COLUMNS " FROM records r WHERE r.kind = %d%s ORDER BY r.seq DESC LIMIT 1",
             (int)kind, index_of(kind));
    int code = srn__sqlite_prepare(db, sql, &s, err);
    if (code) return code;
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        code = take_row(s, ret_row, ret_body, err);
    else
        code = rc == SQLITE_DONE ? srn_fail(err, SRN_ENOENT, "the ledger has no record of kind %d", (int)kind)
                                 : srn__sqlite_fail(err, db, "reading the newest record");
    sqlite3_finalize(s);
    return code;
}

static int source_content(srn__source *base, uint64_t seq, srn_buf *ret, srn_err *err) {
    sqlite3 *db = ((sqlite_source *)base)->db;
    sqlite3_stmt *s = NULL;
    int code = srn__sqlite_prepare(db, "SELECT bytes FROM contents WHERE seq = ?", &s, err);
    if (code) return code;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)seq);
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        srn_str bytes = srn__sqlite_text(s, 0);
        srn_buf_clear(ret);
        if (!srn_buf_add(ret, bytes.ptr, bytes.len)) code = srn_fail_nomem(err, bytes.len);
    } else if (rc == SQLITE_DONE) {
        code = srn_fail(err, SRN_ENOENT, "record %llu has no content", (unsigned long long)seq);
    } else {
        code = srn__sqlite_fail(err, db, "reading content");
    }
    sqlite3_finalize(s);
    return code;
}

static int source_records(srn__source *base, srn_record_kind kind, uint64_t from,
                          bool (*fn)(void *ctx, const srn_stored *r), void *ctx, srn_err *err) {
    sqlite3 *db = ((sqlite_source *)base)->db;
    sqlite3_stmt *s = NULL;
    char sql[256];
    snprintf(sql, sizeof sql,
             "SELECT " SRN__ROW_COLUMNS " FROM records r WHERE r.kind = %d%s AND r.seq >= ? ORDER BY r.seq",
             (int)kind, index_of(kind));
    int code = srn__sqlite_prepare(db, sql, &s, err), rc = SQLITE_DONE;
    if (code) return code;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)from);
    bool more = true;
    while (more && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        srn__row row;
        srn__sqlite_row(s, 0, &row);
        more = fn(ctx, &(srn_stored){row.seq, row.t_us, row.kind, row.body, row.has_content});
    }
    if (more && rc != SQLITE_DONE) code = srn__sqlite_fail(err, db, "reading records");
    sqlite3_finalize(s);
    return code;
}

static int source_docs(srn__source *base, const char *collection, const char *key,
                       bool (*fn)(void *ctx, const srn_ledger_doc *d, uint64_t t_us), void *ctx,
                       srn_err *err) {
    sqlite3 *db = ((sqlite_source *)base)->db;
    sqlite3_stmt *s = NULL;
    int code = srn__sqlite_prepare(db,
                                   key ? "SELECT collection, key, version, body, t_us FROM docs"
                                         " WHERE collection = ?1 AND key = ?2 ORDER BY key, version"
                                       : "SELECT collection, key, version, body, t_us FROM docs"
                                         " WHERE collection = ?1 ORDER BY key, version",
                                   &s, err);
    int rc = SQLITE_DONE;
    if (code) return code;
    sqlite3_bind_text(s, 1, collection, -1, SQLITE_STATIC);
    if (key) sqlite3_bind_text(s, 2, key, -1, SQLITE_STATIC);
    bool more = true;
    while (more && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        srn_ledger_doc d = {(const char *)sqlite3_column_text(s, 0), (const char *)sqlite3_column_text(s, 1),
                            (uint32_t)sqlite3_column_int64(s, 2), srn__sqlite_text(s, 3)};
        more = fn(ctx, &d, (uint64_t)sqlite3_column_int64(s, 4));
    }
    if (more && rc != SQLITE_DONE) code = srn__sqlite_fail(err, db, "reading documents");
    sqlite3_finalize(s);
    return code;
}

static int source_usage(srn__source *base, uint64_t now_us, srn__usage *ret, srn_err *err) {
    return srn__sqlite_usage(&((sqlite_source *)base)->asked, now_us, ret, err);
}

static void source_close(srn__source *base) {
    sqlite_source *s = (sqlite_source *)base;
    if (!s) return;
    srn__sqlite_db_done(&s->asked);
    sqlite3_close(s->db);
    free(s);
}

static const srn__source_ops sqlite_ops = {
    .tail = source_tail,
    .call = source_call,
    .newest = source_newest,
    .scan = srn__sqlite_scan,
    .usage = source_usage,
    .epoch = srn__sqlite_epoch,
    .stray = srn__sqlite_stray,
    .content = source_content,
    .records = source_records,
    .docs = source_docs,
    .close = source_close,
};

int srn__sqlite_source(const char *dir, srn__source **ret, srn_err *err) {
    bool is_new;
    sqlite_source *s = srn_calloc(1, sizeof *s);
    if (!s) return srn_fail_nomem(err, sizeof *s);
    s->head.ops = &sqlite_ops;
    int code = srn__sqlite_connect(dir, false, &s->db, &is_new, err);
    if (code) {
        free(s);
        return code;
    }
    srn__sqlite_db_init(&s->asked, s->db);
    s->head.db = &s->asked.head;
    *ret = &s->head;
    return SRN_OK;
}
