/* ledger, inside: copies of a database, and formats that are brought up to date. */
#ifndef SRN_LEDGER_BACKUP_INTERNAL_H
#define SRN_LEDGER_BACKUP_INTERNAL_H

#include "ledger/sqlite_internal.h"

/* The database behind src, as it is now, as the file path, which must not exist: synced, in one piece,
 * without a write-ahead log. On failure there is no such file. */
int srn__sqlite_copy(sqlite3 *src, const char *path, srn_progress_fn *progress, void *ctx, srn_err *err);

/* Whether a restored ledger will find its keys; SRN_ENOENT says what to do. */
int srn__restore_check_keys(const char *dir, bool new_keys, srn_err *err);
/* The event `restored` as the first record of the new epoch, after the last one of the backup b. */
int srn__restore_tell(const srn_ledger_opts *place, const srn_restore_opts *o, const srn_backup_info *b,
                      srn_err *err);
/* srn_ledger_restore of a database that was put back already. */
int srn__postgres_restore(const srn_restore_opts *o, srn_backup_info *ret, srn_err *err);

typedef struct srn__migration {
    uint32_t from;   /* brings this format to the next */
    const char *sql; /* in one transaction */
} srn__migration;
/* Brings a database of an older format up to `to`, after a copy of it was put beside it as
 * before-format-TO.db. */
int srn__sqlite_migrate(const char *dir, sqlite3 *db, const srn__migration *steps, size_t n, uint32_t to,
                        srn_err *err);

#endif
