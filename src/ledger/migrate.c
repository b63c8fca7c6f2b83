/* Copies of databases, and older formats brought up to date. A copy is taken from one snapshot, while others
 * write. Used by backups, and by the writer before its thread runs. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "ledger/backup_internal.h"

enum { STEP_PAGES = 512 };

static int copy_pages(sqlite3 *src, sqlite3 *dst, srn_progress_fn *progress, void *ctx, srn_err *err) {
    sqlite3_backup *b = sqlite3_backup_init(dst, "main", src, "main");
    if (!b) return srn__sqlite_fail(err, dst, "copying into it");
    int rc = SQLITE_OK;
    while (rc == SQLITE_OK || rc == SQLITE_BUSY || rc == SQLITE_LOCKED) {
        rc = sqlite3_backup_step(b, STEP_PAGES);
        uint64_t all = (uint64_t)sqlite3_backup_pagecount(b), left = (uint64_t)sqlite3_backup_remaining(b);
        if (progress && all) progress(ctx, "copying", all - left, all);
        if (rc == SQLITE_BUSY || rc == SQLITE_LOCKED) sqlite3_sleep(10);
    }
    rc = sqlite3_backup_finish(b);
    return rc ? srn__sqlite_fail(err, dst, "copying into it") : SRN_OK;
}

/* Without a log of its own the copy is one file, and can be read where nothing can be written. */
static int copy_into(sqlite3 *src, const char *path, srn_progress_fn *progress, void *ctx, srn_err *err) {
    sqlite3 *dst = NULL;
    int code = SRN_OK;
    if (sqlite3_open_v2(path, &dst, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL))
        code = srn__sqlite_fail(err, dst, "opening it");
    if (!code) code = copy_pages(src, dst, progress, ctx, err);
    if (!code && sqlite3_exec(dst, "PRAGMA journal_mode = DELETE", NULL, NULL, NULL))
        code = srn__sqlite_fail(err, dst, "finishing the copy");
    if (sqlite3_close(dst) && !code) code = srn_fail(err, SRN_EIO, "%s: it cannot be closed", path);
    return code;
}

static int sync_file(const char *path, srn_err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int bad = fd < 0 || fsync(fd);
    if (bad) srn_fail(err, SRN_EIO, "%s: it cannot be synced: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return bad ? SRN_EIO : SRN_OK;
}

int srn__sqlite_copy(sqlite3 *src, const char *path, srn_progress_fn *progress, void *ctx, srn_err *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return srn_fail(err, errno == EEXIST ? SRN_EEXIST : SRN_EIO, "%s: it cannot be made: %s", path,
                        strerror(errno));
    close(fd);
    /* A read transaction holds one snapshot, else every commit of the writer would begin the copy anew. */
    bool inside = !sqlite3_get_autocommit(src);
    int code = SRN_OK;
    if (!inside && sqlite3_exec(src, "BEGIN; SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL))
        code = srn__sqlite_fail(err, src, "reading it");
    if (!code) code = copy_into(src, path, progress, ctx, err);
    if (!inside) sqlite3_exec(src, "ROLLBACK", NULL, NULL, NULL);
    if (!code) code = sync_file(path, err);
    if (code) unlink(path);
    return code;
}

/* ---- formats ---- */

static int apply(sqlite3 *db, const srn__migration *step, srn_err *err) {
    char text[64];
    snprintf(text, sizeof text, "PRAGMA user_version = %u; COMMIT", step->from + 1);
    if (!sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) &&
        !sqlite3_exec(db, step->sql, NULL, NULL, NULL) && !sqlite3_exec(db, text, NULL, NULL, NULL))
        return SRN_OK;
    int code = srn__sqlite_fail(err, db, "bringing it up to date");
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return code;
}

/* The copy from an earlier try stays: it is older, and whole. */
static int save(const char *dir, sqlite3 *db, uint32_t to, srn_err *err) {
    char name[64], path[4096], fresh[4160];
    snprintf(name, sizeof name, "before-format-%u.db", to);
    int code = srn__folder_path(dir, name, path, sizeof path, err);
    if (code || access(path, F_OK) == 0) return code;
    snprintf(fresh, sizeof fresh, "%s.part", path);
    unlink(fresh);
    code = srn__sqlite_copy(db, fresh, NULL, NULL, err);
    if (!code && rename(fresh, path)) code = srn_fail(err, SRN_EIO, "%s: %s", path, strerror(errno));
    return code ? code : srn__folder_sync(dir, err);
}

int srn__sqlite_migrate(const char *dir, sqlite3 *db, const srn__migration *steps, size_t n, uint32_t to,
                        srn_err *err) {
    uint64_t format = 0;
    int code = srn__sqlite_number(db, "PRAGMA user_version", &format, err);
    if (code || format >= to) return code;
    code = save(dir, db, to, err);
    while (!code && format < to) {
        const srn__migration *step = NULL;
        for (size_t i = 0; i < n && !step; i++)
            if (steps[i].from == format) step = &steps[i];
        if (!step)
            return srn_fail(err, SRN_EUNSUP, "%s: is of format %u, which this Serin cannot bring up to date",
                            sqlite3_db_filename(db, "main"), (unsigned)format);
        code = apply(db, step, err);
        format++;
    }
    return code;
}
