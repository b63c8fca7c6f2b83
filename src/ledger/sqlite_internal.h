/* ledger, inside: what the SQLite files share. A connection belongs to one thread at a time. */
#ifndef SRN_LEDGER_SQLITE_INTERNAL_H
#define SRN_LEDGER_SQLITE_INTERNAL_H

#include <sqlite3.h>

#include "ledger/query_internal.h"

enum {
    SRN__SQLITE_FORMAT = 1,          /* PRAGMA user_version */
    SRN__SQLITE_APP_ID = 0x53524E4C, /* PRAGMA application_id: "SRNL" */
    SRN__SQLITE_BUSY_MS = 2000
};

/* The sentence for what the connection's last call did; returns a code of ours (SRN_EIO, SRN_EBUSY,
 * SRN_ENOMEM, SRN_EFORMAT). */
int srn__sqlite_fail(srn_err *err, sqlite3 *db, const char *what);
/* DIR/ledger.db; write false: read-only, and never checkpoints. Checks that it is a ledger of this version;
 * of a new one (write only) *ret_new is true, and it has no tables. */
int srn__sqlite_connect(const char *dir, bool write, sqlite3 **ret, bool *ret_new, srn_err *err);
int srn__sqlite_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **ret, srn_err *err);
/* The one number that a statement without parameters gives; 0 where it gives none. */
int srn__sqlite_number(sqlite3 *db, const char *sql, uint64_t *ret, srn_err *err);
int srn__sqlite_tail(sqlite3 *db, srn__tail *ret, srn_err *err);
/* Text or blob of a column, valid until the statement's next step. */
srn_str srn__sqlite_text(sqlite3_stmt *s, int column);
/* Columns seq, epoch, kind, t_us, body, content_sha, hash, from `at` on. */
void srn__sqlite_row(sqlite3_stmt *s, int at, srn__row *ret);

/* A connection as what takes questions (sqlite_ask.c). Statements that come again are kept. */
enum { SRN__SQLITE_KEPT = 8 };
typedef struct srn__sqlite_db {
    srn__db head;
    sqlite3 *db;
    sqlite3_stmt *kept[SRN__SQLITE_KEPT];
    uint32_t next; /* whose place is given away */
} srn__sqlite_db;
void srn__sqlite_db_init(srn__sqlite_db *d, sqlite3 *db);
void srn__sqlite_db_done(srn__sqlite_db *d); /* before the connection is closed */
int srn__sqlite_usage(srn__sqlite_db *d, uint64_t now_us, srn__usage *ret, srn_err *err);

#define SRN__ROW_COLUMNS "r.seq, r.epoch, r.kind, r.t_us, r.body, r.content_sha, r.hash"

typedef struct srn__sqlite_source_of { /* what an srn__source of SQLite is */
    srn__source head;
    sqlite3 *db;
    srn__sqlite_db asked;
} srn__sqlite_source_of;

/* ---- sqlite_scan.c: for verifying ---- */

/* The columns of `calls` (as k), in the order in which srn__sqlite_call_row reads them. */
#define SRN__CALL_COLUMNS                                                                                    \
    "k.id, k.begun_us, k.status, k.finish, k.error, k.endpoint, k.route, k.key, k.tenant, k.conversation,"   \
    " k.model, k.weights, k.quantisation, k.config, k.prompt, k.version, k.prompt_hash, k.experiment,"       \
    " k.arm, k.n_input, k.n_cached, k.n_output, k.n_reasoning, k.queue_us, k.ttft_us, k.total_us,"           \
    " k.itl_us, k.itl_max_us, k.streamed"
enum { SRN__N_CALL_COLUMNS = 29 };
/* Texts are valid until the statement's next step. */
void srn__sqlite_call_row(sqlite3_stmt *s, int at, srn_call_row *ret);
int srn__sqlite_scan(srn__source *s, uint64_t from, uint32_t limit, bool beside, srn__checked_fn *fn,
                     void *ctx, uint32_t *ret_n, srn_err *err);
int srn__sqlite_epoch(srn__source *s, uint64_t epoch, uint64_t *ret_first, bool *ret_has_parent,
                      uint8_t ret_parent[SRN_SHA256_BYTES], srn_err *err);
int srn__sqlite_stray(srn__source *s, uint64_t *ret_seq, srn_err *err);

/* ---- sqlite_drop.c: for retention, on the writer's connection; as the store's operations of these names
 * ---- */

int srn__sqlite_newest(sqlite3 *db, srn_record_kind kind, srn_buf *ret_body, srn_err *err);
int srn__sqlite_walk(sqlite3 *db, uint64_t from, uint32_t limit, srn__walk_fn *fn, void *ctx, srn_err *err);
int srn__sqlite_drop(sqlite3 *db, uint64_t from, uint64_t to, uint32_t n, uint64_t *ret_next,
                     uint64_t *ret_dropped, srn_err *err);
int srn__sqlite_shrink(sqlite3 *db, uint32_t n, uint64_t keep, bool *ret_more, srn_err *err);
/* Bytes of the database that are in use. */
int srn__sqlite_used(sqlite3 *db, uint64_t *ret, srn_err *err);

#endif
