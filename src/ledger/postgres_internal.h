/* ledger, inside: what the PostgreSQL files share. A connection belongs to one thread at a time; every wait
 * on it ends within a stated time, whatever the server does.
 */
#ifndef SRN_LEDGER_POSTGRES_INTERNAL_H
#define SRN_LEDGER_POSTGRES_INTERNAL_H

#include <libpq-fe.h>

#include "ledger/query_internal.h"

enum {
    SRN__PG_FORMAT = 2,               /* meta.format; 1: one process wrote it at a time */
    SRN__PG_LOCK_CLASS = 1397902924,  /* of advisory locks, "SRNL"; 1: the chain's end, 2: the turn to drop */
    SRN__PG_ALIVE_CLASS = 1397902935, /* "SRNW", with a writer's number: it has a connection */
    SRN__PG_MAX_CELLS = 48
};

/* The first statement of a transaction that alone may lengthen the chain. */
#define SRN__PG_LOCK_CHAIN "SELECT pg_advisory_xact_lock(1397902924, 1)"

/* Types of parameters and cells, as the server numbers them. */
enum { SRN__PG_BOOL = 16, SRN__PG_BYTES = 17, SRN__PG_INT8 = 20, SRN__PG_INT4 = 23, SRN__PG_TEXT = 25 };

typedef struct srn__pg {
    srn__db head; /* takes questions: srn__pg_ask */
    const srn__home *at;
    PGconn *conn; /* NULL: there is none now */
    bool writes;
    bool ready;            /* all of srn__pg_connect is done */
    uint64_t answer_us;    /* the longest wait for the server's next bytes */
    struct srn__pg *spare; /* a reader's, for questions from within an answer; NULL: none yet */
    bool asking;           /* rows of an answer are being read */
    bool pipeline;         /* statements were sent whose answers nobody has read yet */
    uint32_t answer;       /* number of the statement of a pipeline whose rows are being given */
    /* of a writer's last connection, by which its end can be waited for */
    int64_t pid;
    char started[64];
    uint32_t writer; /* its number among those who ever wrote the database; 0: none yet */
    uint32_t before; /* that of the process which had the folder before; 0: not known */
} srn__pg;

/* ---- postgres_connect.c ---- */

/* Of a reader: the longest question where nothing else is said; so much longer is waited for its end. */
enum { SRN__PG_QUESTION_MS = 110000, SRN__PG_GRACE_MS = 10000 };
void srn__pg_init(srn__pg *g, const srn__home *at, bool writes, uint64_t answer_us);
/* A new connection, its settings, and whether the database is fit for a ledger; what a writer's connection
 * before left under way is ended. A writer may find no tables yet; readers get SRN_ENOENT. Errors: SRN_EIO,
 * SRN_EFORMAT, SRN_EUNSUP settings under which a commit is not durable. */
int srn__pg_connect(srn__pg *g, srn_err *err);
void srn__pg_close(srn__pg *g);

/* ---- postgres_writers.c: on a writer's connection ---- */

/* Makes the tables where there are none, brings those of format 1 up to date, compares the key (NULL: not),
 * and is counted among the writers, alive as long as the connection. SRN_EBUSY: a Serin that shares with
 * nobody writes it. */
int srn__pg_join(srn__pg *g, const char *key, srn_err *err);
/* Not counted any more, unless it leaves calls open. */
void srn__pg_leave(srn__pg *g);
/* Writers that have no connection now; fn sees the number of each. */
int srn__pg_missing(srn__pg *g, srn__cells_fn *fn, void *ctx, srn_err *err);
/* Whether any process writes the database now: SRN_EBUSY. */
int srn__pg_alone(srn__pg *g, srn_err *err);
/* Tables of format 1 become those of this one; in a transaction that has the chain. */
int srn__pg_upgrade(srn__pg *g, srn_err *err);

/* ---- postgres_ask.c ---- */

/* Sends what is queued and reads one answer; *ret NULL: the statement has no more. The result is the
 * caller's. After SRN_EIO because of the connection there is none any more. */
int srn__pg_answer(srn__pg *g, PGresult **ret, srn_err *err);
/* One statement, or several without parameters, whose rows nobody wants. */
int srn__pg_run(srn__pg *g, const char *sql, const char *what, srn_err *err);
/* The sentence for a failed result, or for the connection where r is NULL; a code of ours. Never with a
 * password. */
int srn__pg_fail(srn_err *err, const srn__pg *g, const PGresult *r, const char *what);
/* As srn__db's ask. */
int srn__pg_ask(srn__db *db, const srn__sql *q, srn__cells_fn *fn, void *ctx, srn_err *err);
/* The same for a text with up to two numbers, $1 and $2. */
int srn__pg_ask_text(srn__pg *g, const char *sql, const int64_t *numbers, uint32_t n, srn__cells_fn *fn,
                     void *ctx, srn_err *err);
/* The one number that such a statement gives; 0 where it gives none. */
int srn__pg_number(srn__pg *g, const char *sql, const int64_t *numbers, uint32_t n, uint64_t *ret,
                   srn_err *err);
/* Reads the answers of all that was sent in a pipeline, and ends it. The first failure is the result; fn (may
 * be NULL) sees each row. Where the connection was lost there is none any more. */
int srn__pg_settle(srn__pg *g, srn__cells_fn *fn, void *ctx, const char *what, srn_err *err);
/* A number as parameters have them. */
static inline void srn__pg_put_u64(uint64_t v, char ret[8]) {
    for (int i = 0; i < 8; i++) ret[i] = (char)(uint8_t)(v >> (56 - 8 * i));
}

/* ---- postgres_tables.c: on the writer's connection ---- */

/* A transaction that has the chain, and its end: a commit, or after a failure the opposite. Whether a commit
 * without an answer is stored need not be known: what these do is looked at again, and done again. */
int srn__pg_begin(srn__pg *g, const char *what, srn_err *err);
int srn__pg_end(srn__pg *g, int code, const char *what, srn_err *err);

typedef struct srn__pg_part { /* records first to last lie in tables of their own */
    uint64_t first, last, made_us;
} srn__pg_part;
/* Makes schema and tables of a new ledger, within a transaction. */
int srn__pg_create(srn__pg *g, srn_err *err);
/* In a transaction that has the chain: the part after `newest`, from record seq on, for about a day at the
 * rate of the newest one. */
int srn__pg_add_part(srn__pg *g, const srn__pg_part *newest, uint64_t seq, srn__pg_part *ret, srn_err *err);
/* As the store's operation. */
int srn__pg_drop(srn__pg *g, uint64_t from, uint64_t to, uint32_t n, uint64_t *ret_next,
                 uint64_t *ret_dropped, srn_err *err);

/* ---- postgres_read.c ---- */

typedef struct srn__pg_tip { /* the end of the chain, and the newest part */
    srn__tail t;
    uint64_t last_epoch, first_seq;
    bool begun, has_parent, there;
    uint8_t parent[SRN_SHA256_BYTES];
    srn__pg_part part;
} srn__pg_tip;
/* Its question; $1: a record at or behind the end. */
extern const char srn__pg_tip_sql[];
bool srn__pg_take_tip(void *tip, const srn__cell *c);
/* Of a ledger, or an epoch, without records the hash is that which its first one is chained to. */
int srn__pg_check_tip(const srn__pg *g, srn__pg_tip *tip, srn_err *err);
int srn__pg_tail(srn__pg *g, srn__tail *ret, srn_err *err);
int srn__pg_usage(srn__pg *g, uint64_t now_us, srn__usage *ret, srn_err *err);
int srn__pg_newest(srn__pg *g, srn_record_kind kind, srn__row *ret_row, srn_buf *ret_body, srn_err *err);
/* Columns seq, epoch, kind, t_us, body, content_sha, hash. */
void srn__pg_row(const srn__cell *cells, srn__row *ret);
#define SRN__PG_ROW_COLUMNS "r.seq, r.epoch, r.kind, r.t_us, r.body, r.content_sha, r.hash"
enum { SRN__PG_ROW_CELLS = 7 };

#endif
