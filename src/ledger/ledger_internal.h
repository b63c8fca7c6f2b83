/* ledger, inside: what a store is (sqlite.c, and PostgreSQL beside it), what a source for readers is, the
 * chain. The writer thread alone uses a store; a source belongs to its reader.
 */
#ifndef SRN_LEDGER_INTERNAL_H
#define SRN_LEDGER_INTERNAL_H

#include <jansson.h>

#include "ledger/ledger.h"

enum {
    SRN__BODY_BYTES = 8 << 20,     /* of one record */
    SRN__CONTENT_BYTES = 256 << 20 /* of one call, sealed */
};

/* ---- records (record.c) ---- */

/* The call that a CALL, INTENT or FEEDBACK belongs to, NULL for other kinds. */
const uint8_t *srn__record_id(const srn_record *r);
const json_t *srn__record_json(const srn_record *r);

/* ---- the chain (chain.c; pure) ---- */

typedef struct srn__tail { /* the end of the chain */
    uint8_t instance[16];
    uint64_t epoch, seq; /* seq 0: there is no record yet */
    uint64_t t_us;       /* of the last record: times never go back along the chain */
    uint8_t hash[SRN_SHA256_BYTES];
} srn__tail;

/* A record on its way into a store, or as it was read from one. */
typedef struct srn__row {
    uint64_t seq, epoch, t_us;
    srn_record_kind kind;
    srn_str body;
    bool has_content; /* of an EVENT: it brought about a document */
    uint8_t content_sha[SRN_SHA256_BYTES];
    uint8_t hash[SRN_SHA256_BYTES];
    /* into a store only */
    const srn_record *record; /* the body, decoded */
    srn_str content;          /* "" where there is none */
    const srn_ledger_doc *doc;
} srn__row;

/* What the first record of an epoch is chained to; parent NULL: there was no epoch before. */
int srn__chain_start(const uint8_t instance[16], uint64_t epoch, const uint8_t *parent,
                     uint8_t ret[SRN_SHA256_BYTES]);
/* The hash of a row after the one with hash prev; reads seq, kind, t_us, body and content_sha. */
int srn__chain_next(const uint8_t prev[SRN_SHA256_BYTES], const srn__row *row, uint8_t ret[SRN_SHA256_BYTES]);
/* Digests of what stands beside the chain. SRN_ENOMEM. */
int srn__content_digest(srn_str content, uint8_t ret[SRN_SHA256_BYTES]);
int srn__doc_digest(const srn_ledger_doc *d, uint8_t ret[SRN_SHA256_BYTES]);

/* ---- a store: where the writer puts rows. One thread at a time. ---- */

typedef struct srn__db srn__db;
typedef struct srn__store srn__store;
typedef struct srn__usage {
    uint64_t disk_bytes, free_bytes;
    uint64_t records;                /* that are there */
    uint64_t recent, recent_span_us; /* records of the last day, or of as long as there are some */
} srn__usage;
typedef struct srn__store_ops {
    /* The end of the chain as it is stored; after a commit of unknown outcome it works only once that is
     * certain. */
    int (*tail)(srn__store *s, srn__tail *ret, srn_err *err);
    int (*begin)(srn__store *s, srn_err *err);
    /* One row into the transaction. SRN_EEXIST: a call of that id has its record, or is open (an INTENT), or
     * the document is there: nothing of the row is stored and the transaction goes on. After any other error
     * the transaction must be rolled back. */
    int (*put)(srn__store *s, const srn__row *row, srn_err *err);
    /* On failure *ret_unknown says whether the transaction may be stored after all (a lost answer, a failed
     * sync); then tail() tells, as soon as it works. Else it is certainly not. */
    int (*commit)(srn__store *s, bool *ret_unknown, srn_err *err);
    void (*rollback)(srn__store *s);
    /* INTENTs that have no CALL; body is valid during fn. */
    int (*open_intents)(srn__store *s, int (*fn)(void *ctx, srn_str body), void *ctx, srn_err *err);
    int (*usage)(srn__store *s, uint64_t now_us, srn__usage *ret, srn_err *err);
    /* Between groups, when there is nothing to commit: upkeep such as checkpoints of a write-ahead log. */
    void (*idle)(srn__store *s);
    void (*close)(srn__store *s);
} srn__store_ops;
struct srn__store { /* the head of every store */
    const srn__store_ops *ops;
    srn__db *db;   /* takes questions, and keeps roll-ups (query_internal.h) */
    uint64_t open; /* INTENTs without a CALL, as of the last commit */
};

/* The SQLite store of a folder that exists and is locked; makes the database where there is none. */
int srn__sqlite_open(const char *dir, srn__store **ret, srn_err *err);

/* ---- a source: where a reader reads ---- */

typedef struct srn__source srn__source;
typedef bool srn__row_fn(void *ctx, const srn__row *row, uint64_t n_total);
typedef struct srn__source_ops {
    int (*tail)(srn__source *s, srn__tail *ret, srn_err *err);
    /* The newest CALL or INTENT of that call, through ret_row but for its body. */
    int (*call)(srn__source *s, const uint8_t id[16], srn__row *ret_row, srn_buf *ret_body, srn_err *err);
    int (*content)(srn__source *s, uint64_t seq, srn_buf *ret, srn_err *err);
    int (*records)(srn__source *s, srn_record_kind kind, uint64_t from,
                   bool (*fn)(void *ctx, const srn_stored *r), void *ctx, srn_err *err);
    int (*docs)(srn__source *s, const char *collection, const char *key,
                bool (*fn)(void *ctx, const srn_ledger_doc *d, uint64_t t_us), void *ctx, srn_err *err);
    void (*close)(srn__source *s);
} srn__source_ops;
struct srn__source { /* the head of every source */
    const srn__source_ops *ops;
    srn__db *db; /* takes questions (query_internal.h) */
};
int srn__sqlite_source(const char *dir, srn__source **ret, srn_err *err);

struct srn_reader {
    srn__source *source;
    srn_ledger_keys *keys; /* or NULL: there are none here */
};

/* ---- the folder (folder.c) ---- */

/* DIR/name in ret[cap]; SRN_ELIMIT where it is too long. */
int srn__folder_path(const char *dir, const char *name, char *ret, size_t cap, srn_err *err);
/* Makes the folder, and those above it, readable by their owner only. */
int srn__folder_make(const char *dir, srn_err *err);
/* SRN_EBUSY names the process that has it. The lock is given back when ret_fd is closed. */
int srn__folder_lock(const char *dir, int *ret_fd, srn_err *err);
/* Writes into the lock file who has it; address NULL: none yet. */
int srn__folder_sign(int fd, const char *address, srn_err *err);
static inline bool srn__is_postgres(const char *where) {
    return strncmp(where, "postgresql://", 13) == 0 || strncmp(where, "postgres://", 11) == 0;
}

#endif
