/* SQLite as retention uses it: records in order, dropped a few at a time, and free pages given back. On the
 * writer's connection and thread, between its transactions. Events and documents are never dropped. Freed
 * pages are overwritten (secure_delete), so that dropped content is gone from the file.
 */
#include "ledger/sqlite_internal.h"

int srn__sqlite_newest(sqlite3 *db, srn_record_kind kind, srn_buf *ret_body, srn_err *err) {
    sqlite3_stmt *s = NULL;
    char sql[128]; /* the literal kind lets the planner use the index of kinds past CALL */
    snprintf(sql, sizeof sql,
             "SELECT body FROM records WHERE kind = %d AND kind > 2 ORDER BY seq DESC LIMIT 1", (int)kind);
    int code = srn__sqlite_prepare(db, sql, &s, err);
    if (code) return code;
    int rc = sqlite3_step(s);
    srn_str body = rc == SQLITE_ROW ? srn__sqlite_text(s, 0) : (srn_str){"", 0};
    srn_buf_clear(ret_body);
    if (rc == SQLITE_DONE)
        code = srn_fail(err, SRN_ENOENT, "the ledger has no record of kind %d", (int)kind);
    else if (rc != SQLITE_ROW)
        code = srn__sqlite_fail(err, db, "reading its newest record");
    else if (!srn_buf_add(ret_body, body.ptr, body.len))
        code = srn_fail_nomem(err, body.len);
    sqlite3_finalize(s);
    return code;
}

int srn__sqlite_walk(sqlite3 *db, uint64_t from, uint32_t limit, srn__walk_fn *fn, void *ctx, srn_err *err) {
    static const char sql[] = "SELECT " SRN__ROW_COLUMNS ", coalesce(length(c.bytes), 0) FROM records r"
                              " LEFT JOIN contents c ON c.seq = r.seq"
                              " WHERE r.seq >= ? ORDER BY r.seq LIMIT ?";
    sqlite3_stmt *s = NULL;
    int rc = SQLITE_DONE, code = srn__sqlite_prepare(db, sql, &s, err);
    if (code) return code;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)from);
    sqlite3_bind_int64(s, 2, limit);
    bool more = true;
    while (more && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        srn__row row;
        srn__sqlite_row(s, 0, &row);
        more = fn(ctx, &row, (uint64_t)sqlite3_column_int64(s, 7));
    }
    if (more && rc != SQLITE_DONE) code = srn__sqlite_fail(err, db, "reading records");
    sqlite3_finalize(s);
    return code;
}

/* ---- dropping ---- */

/* A statement with two numbers. *ret (may be NULL): the first column of its row, 0 where there is none. */
static int run_range(sqlite3 *db, const char *sql, uint64_t from, uint64_t to, uint64_t *ret, srn_err *err) {
    sqlite3_stmt *s = NULL;
    int code = srn__sqlite_prepare(db, sql, &s, err);
    if (code) return code;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)from);
    sqlite3_bind_int64(s, 2, (sqlite3_int64)to);
    int rc = sqlite3_step(s);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        code = srn__sqlite_fail(err, db, "dropping old records");
    else if (ret)
        *ret = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(s, 0) : 0;
    sqlite3_finalize(s);
    return code;
}

static int delete_range(sqlite3 *db, uint64_t from, uint64_t to, uint64_t *ret_dropped, srn_err *err) {
    int code = run_range(db, "DELETE FROM contents WHERE seq BETWEEN ? AND ?", from, to, NULL, err);
    if (!code) code = run_range(db, "DELETE FROM calls WHERE seq BETWEEN ? AND ?", from, to, NULL, err);
    if (!code)
        code =
            run_range(db, "DELETE FROM records WHERE seq BETWEEN ? AND ? AND kind <> 3", from, to, NULL, err);
    if (!code) *ret_dropped = (uint64_t)sqlite3_changes64(db);
    return code;
}

int srn__sqlite_drop(sqlite3 *db, uint64_t from, uint64_t to, uint32_t n, uint64_t *ret_next,
                     uint64_t *ret_dropped, srn_err *err) {
    uint64_t first = 0, dropped = 0;
    int code =
        run_range(db, "SELECT seq FROM records WHERE seq BETWEEN ? AND ? AND kind <> 3 ORDER BY seq LIMIT 1",
                  from, to, &first, err);
    if (code) return code;
    if (!first) return *ret_next = *ret_dropped = 0, SRN_OK;
    uint64_t last = to - first < n ? to : first + n - 1;
    if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL))
        return srn__sqlite_fail(err, db, "dropping old records");
    code = delete_range(db, first, last, &dropped, err);
    if (!code && sqlite3_exec(db, "COMMIT", NULL, NULL, NULL))
        code = srn__sqlite_fail(err, db, "dropping old records");
    if (code) {
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
        return code;
    }
    *ret_next = last < to ? last + 1 : 0;
    *ret_dropped = dropped;
    return SRN_OK;
}

/* ---- space ---- */

static int count_pages(sqlite3 *db, uint64_t *ret_all, uint64_t *ret_free, srn_err *err) {
    int code = srn__sqlite_number(db, "PRAGMA page_count", ret_all, err);
    return code ? code : srn__sqlite_number(db, "PRAGMA freelist_count", ret_free, err);
}

int srn__sqlite_used(sqlite3 *db, uint64_t *ret, srn_err *err) {
    uint64_t all = 0, free_pages = 0, bytes = 0;
    int code = count_pages(db, &all, &free_pages, err);
    if (!code) code = srn__sqlite_number(db, "PRAGMA page_size", &bytes, err);
    if (!code) *ret = (all - SRN_MIN(all, free_pages)) * bytes;
    return code;
}

/* What is dropped in the usual way makes room for what comes; only more than an eighth is given back. */
int srn__sqlite_shrink(sqlite3 *db, uint32_t n, uint64_t keep, bool *ret_more, srn_err *err) {
    uint64_t all = 0, free_pages = 0;
    char sql[64];
    int code = count_pages(db, &all, &free_pages, err);
    if (code) return code;
    *ret_more = free_pages > keep && free_pages > all / 8;
    if (!*ret_more) return SRN_OK;
    snprintf(sql, sizeof sql, "PRAGMA incremental_vacuum(%u)", n);
    return sqlite3_exec(db, sql, NULL, NULL, NULL) ? srn__sqlite_fail(err, db, "giving free pages back")
                                                   : SRN_OK;
}
