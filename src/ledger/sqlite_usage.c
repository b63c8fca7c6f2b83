/* How much room an SQLite ledger takes, and how fast it grows; for its store and for readers, each on its own
 * connection and thread.
 */
#include <math.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "ledger/sqlite_internal.h"

double srn__days_left(const srn__usage *u, uint64_t max_bytes) {
    if (!u->recent || !u->records || u->recent_span_us < (uint64_t)60 * 1000000) return INFINITY;
    double per_record = (double)u->disk_bytes / (double)u->records;
    double per_day = per_record * (double)u->recent / ((double)u->recent_span_us / 86400e6);
    double left = (double)u->free_bytes;
    if (max_bytes)
        left = SRN_MIN(left, max_bytes > u->disk_bytes ? (double)(max_bytes - u->disk_bytes) : 0.0);
    return per_day > 0 ? left / per_day : INFINITY;
}

static uint64_t file_bytes(const char *path, const char *suffix) {
    char name[4200];
    struct stat st;
    snprintf(name, sizeof name, "%s%s", path, suffix);
    return stat(name, &st) ? 0 : (uint64_t)st.st_size;
}

/* Times never go back along the chain, so the first record of the last day is found by halving. */
static int first_since(sqlite3 *db, uint64_t since_us, uint64_t first, uint64_t last, uint64_t *ret_seq,
                       uint64_t *ret_us, srn_err *err) {
    sqlite3_stmt *s = NULL;
    int code =
        srn__sqlite_prepare(db, "SELECT seq, t_us FROM records WHERE seq >= ? ORDER BY seq LIMIT 1", &s, err);
    while (!code && first <= last) {
        uint64_t middle = first + (last - first) / 2;
        sqlite3_bind_int64(s, 1, (sqlite3_int64)middle);
        if (sqlite3_step(s) != SQLITE_ROW) {
            code = srn__sqlite_fail(err, db, "reading times");
        } else if ((uint64_t)sqlite3_column_int64(s, 1) >= since_us) {
            *ret_seq = (uint64_t)sqlite3_column_int64(s, 0);
            *ret_us = (uint64_t)sqlite3_column_int64(s, 1);
            if (middle == 0) break;
            last = middle - 1;
        } else {
            first = (uint64_t)sqlite3_column_int64(s, 0) + 1;
        }
        sqlite3_reset(s);
    }
    sqlite3_finalize(s);
    return code;
}

int srn__sqlite_usage(sqlite3 *db, uint64_t now_us, srn__usage *ret, srn_err *err) {
    const char *path = sqlite3_db_filename(db, "main");
    const uint64_t day_us = (uint64_t)24 * 3600 * 1000000;
    srn__usage u = {.disk_bytes = file_bytes(path, "") + file_bytes(path, "-wal")};
    struct statvfs fs;
    if (!statvfs(path, &fs)) u.free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    uint64_t first = 0, last = 0, seq = 0, t_us = 0;
    uint64_t events = 0; /* which stay where the rest was dropped */
    int code =
        srn__sqlite_number(db, "SELECT seq FROM records WHERE kind <> 3 ORDER BY seq LIMIT 1", &first, err);
    if (!code && !first) code = srn__sqlite_number(db, "SELECT min(seq) FROM records", &first, err);
    if (!code && first > 1)
        code = srn__sqlite_number(db,
                                  "SELECT count(*) FROM records WHERE seq < (SELECT seq FROM records WHERE"
                                  " kind <> 3 ORDER BY seq LIMIT 1)",
                                  &events, err);
    if (!code) code = srn__sqlite_used(db, &u.used_bytes, err);
    if (!code) code = srn__sqlite_number(db, "SELECT max(seq) FROM records", &last, err);
    if (!code && last)
        code = first_since(db, now_us > day_us ? now_us - day_us : 0, first, last, &seq, &t_us, err);
    if (code) return code;
    u.records = last ? last - first + 1 + events : 0;
    u.recent = seq ? last - seq + 1 : 0;
    u.recent_span_us = seq && now_us > t_us ? now_us - t_us : 0;
    if (first && seq && seq > first) u.recent_span_us = day_us;
    *ret = u;
    return SRN_OK;
}
