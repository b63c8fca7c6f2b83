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

/* ---- where a ledger is (home.c) ---- */

typedef struct srn__home {
    char *where;          /* as it was given: a folder, or a URL that may hold a password */
    char *name;           /* of that, what may be shown */
    char *folder;         /* of this machine: keys, checkpoints.jsonl, lock */
    uint32_t question_ms; /* no question of a reader to PostgreSQL takes longer; 0: as long as it may */
} srn__home;
int srn__home_init(srn__home *p, const char *where, const char *folder, srn_err *err);
void srn__home_done(srn__home *p);

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
    uint64_t signed_seq; /* the newest CHECKPOINT record; the writer's own, stores do not fill it */
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

/* ---- what is signed (signed.c) ---- */

typedef struct srn__checkpoint { /* the chain up to a record */
    uint8_t instance[16];
    uint64_t epoch, seq, at_us;
    uint8_t hash[SRN_SHA256_BYTES]; /* of record seq */
    uint8_t key[32];                /* that signed it; its signature holds */
} srn__checkpoint;

typedef struct srn__tombstone { /* records `from` to `to`, dropped but for the events; the newest counts */
    uint8_t instance[16];
    uint64_t epoch;    /* of record `to` */
    uint64_t from, to; /* from: 1, the ledger's first */
    uint64_t to_us;    /* time of record `to` */
    uint64_t at_us;
    uint8_t before[SRN_SHA256_BYTES]; /* what the first one is chained to */
    uint8_t after[SRN_SHA256_BYTES];  /* hash of record `to` */
    uint64_t n_kept;                  /* events among them, which stay */
    uint8_t kept[SRN_SHA256_BYTES];   /* the chain over these alone, from 32 zero bytes on */
    uint8_t key[32];
} srn__tombstone;

/* The body of a record: signs what is given, key aside. more: further fields, or NULL; not taken. */
int srn__checkpoint_make(const srn_ledger_keys *k, const srn__checkpoint *c, srn_buf *ret, srn_err *err);
int srn__tombstone_make(const srn_ledger_keys *k, const srn__tombstone *t, const json_t *more, srn_buf *ret,
                        srn_err *err);
/* SRN_EFORMAT: not one, or its signature is not that of its key. Whose key it is the caller asks. */
int srn__checkpoint_parse(srn_str body, srn__checkpoint *ret, srn_err *err);
int srn__tombstone_parse(srn_str body, srn__tombstone *ret, srn_err *err);

/* DIR/checkpoints.jsonl: appended and synced; read as a whole, ascending by seq and epoch, lines that are
 * none left out. */
int srn__checkpoints_append(const char *dir, srn_str line, srn_err *err);
int srn__checkpoints_read(const char *dir, srn__checkpoint **ret, size_t *ret_n, srn_err *err);

/* ---- a store: where the writer puts rows. One thread at a time. ---- */

typedef struct srn__db srn__db;
typedef struct srn__store srn__store;
typedef struct srn__usage {
    uint64_t disk_bytes, free_bytes;
    uint64_t used_bytes;             /* of disk_bytes: without free pages and the log */
    uint64_t records;                /* that are there */
    uint64_t recent, recent_span_us; /* records of the last day, or of as long as there are some */
    uint64_t first, last;            /* the oldest record that is no event, and the newest; 0: none */
} srn__usage;
/* All but the bytes. */
int srn__usage_count(srn__db *db, uint64_t now_us, srn__usage *ret, srn_err *err);
/* Until max_bytes (0: none) or the disk is full; INFINITY where there is no rate yet. */
double srn__days_left(const srn__usage *u, uint64_t max_bytes);
typedef bool srn__walk_fn(void *ctx, const srn__row *row, uint64_t content_bytes); /* false: stop */
typedef struct srn__store_ops {
    /* The end of the chain as it is stored. */
    int (*tail)(srn__store *s, srn__tail *ret, srn_err *err);
    /* Whether the chain has this record: what t says of its last one. After a commit of unknown outcome it
     * works only once that is certain. */
    int (*holds)(srn__store *s, const srn__tail *t, bool *ret, srn_err *err);
    /* After begin: where the chain ends while the transaction lasts, for others may have written since. NULL:
     * nobody else writes. */
    void (*end)(const srn__store *s, srn__tail *tail);
    /* A row that the next transaction puts, so that what is to be known of all of them is asked for at once;
     * the row lives as long. May be NULL. */
    void (*expect)(srn__store *s, const srn__row *row);
    int (*begin)(srn__store *s, srn_err *err);
    /* One row into the transaction. SRN_EEXIST: a call of that id has its record, or is open (an INTENT), or
     * the document is there, or (a TOMBSTONE) it is the turn of another process to drop: nothing of the row
     * is stored and the transaction goes on. After any other error the transaction must be rolled back. */
    int (*put)(srn__store *s, const srn__row *row, srn_err *err);
    /* On failure *ret_unknown says whether the transaction may be stored after all (a lost answer, a failed
     * sync); then tail() tells, as soon as it works. Else it is certainly not. */
    int (*commit)(srn__store *s, bool *ret_unknown, srn_err *err);
    void (*rollback)(srn__store *s);
    /* The record of the oldest INTENT that has no CALL, whoever put it; 0: there is none. */
    int (*oldest_open)(srn__store *s, uint64_t *ret_seq, srn_err *err);
    /* In a transaction that puts their CALLs: the INTENTs without one of processes that are gone; body is
     * valid during fn. */
    int (*open_intents)(srn__store *s, int (*fn)(void *ctx, srn_str body), void *ctx, srn_err *err);
    /* Outside of transactions, now and then: says that this process lives, and whether another one is gone
     * that may have left such INTENTs. NULL: there are no others. */
    int (*sweep)(srn__store *s, bool *ret_gone, srn_err *err);
    /* Takes the turn to drop, where nobody else has it, or gives it back: turn in the head. NULL: it is
     * always this one's. */
    int (*turn)(srn__store *s, bool take, srn_err *err);
    int (*usage)(srn__store *s, uint64_t now_us, srn__usage *ret, srn_err *err);
    /* Between groups, when there is nothing to commit: upkeep such as checkpoints of a write-ahead log. */
    void (*idle)(srn__store *s);
    /* For retention, outside of transactions. The body of the newest record of a kind. SRN_ENOENT. */
    int (*newest)(srn__store *s, srn_record_kind kind, srn_buf *ret_body, srn_err *err);
    /* At most limit records from seq `from` on, ascending, with the size of their content; until fn returns
     * false. */
    int (*walk)(srn__store *s, uint64_t from, uint32_t limit, srn__walk_fn *fn, void *ctx, srn_err *err);
    /* Drops about n of the records from seq `from` to `to`, but for events, and what stands beside them.
     * *ret_next: where to go on, 0: nothing is left. */
    int (*drop)(srn__store *s, uint64_t from, uint64_t to, uint32_t n, uint64_t *ret_next,
                uint64_t *ret_dropped, srn_err *err);
    /* Gives about n free pages back, as long as there are more than `keep` and than a share of all. */
    int (*shrink)(srn__store *s, uint32_t n, uint64_t keep, bool *ret_more, srn_err *err);
    void (*close)(srn__store *s);
} srn__store_ops;
struct srn__store { /* the head of every store */
    const srn__store_ops *ops;
    srn__db *db;   /* takes questions, and keeps roll-ups (query_internal.h) */
    uint64_t open; /* INTENTs of this process without a CALL, as of the last commit */
    bool turn;     /* this process drops, and no other */
};

/* The SQLite store of a folder that exists and is locked; makes the database where there is none. */
int srn__sqlite_open(const char *dir, srn__store **ret, srn_err *err);
/* Whether a database that is there is a ledger, without a trace: SRN_EFORMAT. */
int srn__sqlite_look(const char *dir, srn_err *err);
typedef struct srn__sharing {
    uint64_t answer_us; /* no wait for the server is longer */
    uint64_t dead_us;   /* how long a process that shares the database is missed before it counts as gone */
    const char *key;    /* id of the hash key, which all of them have; NULL: not compared */
} srn__sharing;
/* The store of a PostgreSQL database, which other processes may write as well; the place and the key outlive
 * it. */
int srn__postgres_open(const srn__home *p, const srn__sharing *o, srn__store **ret, srn_err *err);

/* ---- a source: where a reader reads ---- */

typedef struct srn__source srn__source;
typedef struct srn__checked { /* a record with all that stands beside it; valid during the callback */
    srn__row row;
    bool has_bytes; /* stored content */
    srn_str bytes;
    const srn_call_row *call; /* of `calls`, or NULL */
    const srn_ledger_doc *doc;
} srn__checked;
typedef bool srn__checked_fn(void *ctx, const srn__checked *c); /* false: stop */
typedef struct srn__source_ops {
    int (*tail)(srn__source *s, srn__tail *ret, srn_err *err);
    /* The newest CALL or INTENT of that call, through ret_row but for its body. */
    int (*call)(srn__source *s, const uint8_t id[16], srn__row *ret_row, srn_buf *ret_body, srn_err *err);
    /* The newest record of a kind. SRN_ENOENT. */
    int (*newest)(srn__source *s, srn_record_kind kind, srn__row *ret_row, srn_buf *ret_body, srn_err *err);
    /* At most limit records from seq `from` on, ascending; beside: with what stands beside them. *ret_n: how
     * many fn saw. */
    int (*scan)(srn__source *s, uint64_t from, uint32_t limit, bool beside, srn__checked_fn *fn, void *ctx,
                uint32_t *ret_n, srn_err *err);
    int (*usage)(srn__source *s, uint64_t now_us, srn__usage *ret, srn_err *err);
    /* First record and parent (NULL: none) of an epoch. SRN_ENOENT. */
    int (*epoch)(srn__source *s, uint64_t epoch, uint64_t *ret_first, bool *ret_has_parent,
                 uint8_t ret_parent[SRN_SHA256_BYTES], srn_err *err);
    /* The first of calls, contents and documents that belongs to no record; 0: none. */
    int (*stray)(srn__source *s, uint64_t *ret_seq, srn_err *err);
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
/* The place outlives it. */
int srn__postgres_source(const srn__home *p, srn__source **ret, srn_err *err);
int srn__source_open(const srn__home *p, srn__source **ret, srn_err *err);

struct srn_reader {
    srn__home at;
    srn__source *source;
    srn_ledger_keys *keys; /* or NULL: there are none here */
    bool borrows_keys;
};

/* ---- verifying (verify.c) ---- */

/* The end of the chain, from its newest checkpoint on, before it is written on. SRN_EFORMAT names the record
 * that is not as it was written. *ret_signed: the CHECKPOINT record from which it started, 0: none. */
int srn__verify_end(const srn__home *p, const srn_ledger_keys *k, uint64_t *ret_signed, srn_err *err);

/* ---- the folder (folder.c) ---- */

/* DIR/name in ret[cap]; SRN_ELIMIT where it is too long. */
int srn__folder_path(const char *dir, const char *name, char *ret, size_t cap, srn_err *err);
/* Makes the folder, and those above it, readable by their owner only. */
int srn__folder_make(const char *dir, srn_err *err);
int srn__folder_sync(const char *dir, srn_err *err);
/* The folder that dir stands in, so that dir's name survives. */
int srn__folder_sync_above(const char *dir, srn_err *err);
/* SRN_EBUSY names the process that has it. The lock is given back when ret_fd is closed. */
int srn__folder_lock(const char *dir, int *ret_fd, srn_err *err);
typedef struct srn__writer_is { /* who writes a folder */
    int64_t pid;
    uint64_t max_bytes; /* that the ledger may have; 0: no limit */
    char address[200];  /* "" where it has none */
} srn__writer_is;
/* Whether somebody writes it now; *ret is who does, or did last. */
bool srn__folder_writer(const char *dir, srn__writer_is *ret);
/* Writes into the lock file who has it; address NULL: none yet. */
int srn__folder_sign(int fd, const char *address, uint64_t max_bytes, srn_err *err);

#endif
