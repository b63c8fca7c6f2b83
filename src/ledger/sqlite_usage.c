/* How much room an SQLite ledger takes; for its store and for readers, each on its own connection and thread.
 */
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "ledger/sqlite_internal.h"

static uint64_t file_bytes(const char *path, const char *suffix) {
    char name[4200];
    struct stat st;
    snprintf(name, sizeof name, "%s%s", path, suffix);
    return stat(name, &st) ? 0 : (uint64_t)st.st_size;
}

int srn__sqlite_usage(srn__sqlite_db *d, uint64_t now_us, srn__usage *ret, srn_err *err) {
    const char *path = sqlite3_db_filename(d->db, "main");
    srn__usage u = {.disk_bytes = file_bytes(path, "") + file_bytes(path, "-wal")};
    struct statvfs fs;
    if (!statvfs(path, &fs)) u.free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    int code = srn__usage_count(&d->head, now_us, &u, err);
    if (!code) code = srn__sqlite_used(d->db, &u.used_bytes, err);
    if (!code) *ret = u;
    return code;
}
