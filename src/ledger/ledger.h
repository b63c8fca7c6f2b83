/* ledger: the record of every call and of every change that could have moved an answer, in one chain that
 * shows when it was edited, cut or reordered. docs/ledger.md states the records and the chain. Underneath is
 * SQLite in a folder, or PostgreSQL.
 *
 * Writing: one srn_ledger in one process (a lock on the folder sees to that), whose writer thread commits
 * what others append in groups. A database of PostgreSQL takes several of them at once, in several processes
 * with a folder each: one chain, which they lengthen in turns. Reading: any number of srn_reader, in any
 * process, each used by one thread at a time. Bodies are JSON objects; what they hold is checked by
 * srn_record_decode before they are stored, so that the columns that are searched are always those of the
 * body.
 */
#ifndef SRN_LEDGER_LEDGER_H
#define SRN_LEDGER_LEDGER_H

#include "base/base.h"

typedef struct srn_ledger srn_ledger;
typedef struct srn_reader srn_reader;

/* ---- records (record.c; pure) ---- */

typedef enum srn_record_kind {
    SRN_RECORD_INTENT = 1,     /* a call is about to be answered (required mode) */
    SRN_RECORD_CALL = 2,       /* a call has ended, however it did; the only one of its id */
    SRN_RECORD_EVENT = 3,      /* something changed: a model, a label, the configuration, the binary */
    SRN_RECORD_FEEDBACK = 4,   /* what somebody thought of a call */
    SRN_RECORD_CHECKPOINT = 5, /* the chain up to here, signed */
    SRN_RECORD_TOMBSTONE = 6   /* what was dropped by retention, signed */
} srn_record_kind;

/* What is searched and summed of a call. Strings point into the decoded record, "" where there is none. */
typedef struct srn_call_row {
    uint8_t id[16];
    uint64_t begun_us; /* Unix time */
    int32_t status;    /* of HTTP */
    const char *finish, *error, *endpoint, *route, *key, *tenant, *conversation;
    const char *model, *weights, *quantisation, *config;
    const char *prompt; /* name, or "" where it is not registered */
    uint32_t version;   /* of a registered prompt, from 1 on */
    const char *prompt_hash;
    const char *experiment, *arm;
    uint32_t n_input, n_cached, n_output, n_reasoning;
    uint64_t queue_us, ttft_us, total_us, itl_us; /* itl: mean gap between tokens; 0: fewer than two */
    uint64_t itl_max_us;
    bool streamed;
} srn_call_row;

typedef struct srn_record srn_record; /* a decoded body */
/* The body of a record of that kind. SRN_EFORMAT names the field. CALL and INTENT have the fields of
 * docs/ledger.md; unknown fields are kept and ignored. */
int srn_record_decode(srn_record_kind kind, srn_str body, srn_record **ret, srn_err *err);
void srn_record_free(srn_record *r);
/* Of CALL and INTENT; valid as long as the record. */
const srn_call_row *srn_record_call(const srn_record *r);

/* ---- writing ---- */

typedef enum srn_ledger_mode {
    SRN_LEDGER_BUFFERED, /* answers do not wait for the disk, but for room in a bounded queue */
    SRN_LEDGER_REQUIRED  /* an answer begins when its intent is committed, and ends when its record is */
} srn_ledger_mode;

typedef struct srn_ledger_opts {
    const char *where;    /* a folder, made where it is missing, or "postgresql://..." */
    const char *folder;   /* of a ledger in PostgreSQL, as for srn_ledger_local_dir */
    const char *keys_dir; /* NULL: "keys" in the folder */
    uint32_t queue;       /* entries that may wait to be committed; 0: 10,000 */
    uint64_t queue_bytes; /* and their bytes; 0: 256 MiB */
    uint64_t
        patience_us; /* how long a buffered entry waits for room before it is lost, and counted; 0: 30 s */
    uint64_t retention_us, max_bytes; /* 0: everything is kept */
    uint64_t dead_us; /* after how long a server that shares the database and is gone has its open calls
                         closed by the others; 0: 10 s */
    void (*log)(void *ctx, const char *event, const char *detail); /* alarms; the writer's thread */
    void *log_ctx;
} srn_ledger_opts;

/* Takes the lock, checks the end of the chain, closes open intents as "interrupted", starts the writer.
 * Errors: SRN_EBUSY another process writes it (names its id and address), SRN_EIO, SRN_EFORMAT not a ledger,
 * or a damaged one, or one of a newer Serin. */
int srn_ledger_open(const srn_ledger_opts *o, srn_ledger **ret, srn_err *err);
/* Commits what waits, signs a checkpoint, gives the lock back. Nobody appends any more. */
void srn_ledger_close(srn_ledger *l);
/* Other limits than those of the opening, from within a minute on; 0: everything is kept. Any thread. */
void srn_ledger_retain(srn_ledger *l, uint64_t retention_us, uint64_t max_bytes);
/* As it was given, to open it again: a URL may hold a password, and is never to be shown. */
const char *srn_ledger_where(const srn_ledger *l);
/* The same for people, without a password. */
const char *srn_ledger_name(const srn_ledger *l);
/* The folder of this machine that belongs to it: its keys, checkpoints.jsonl and lock are there. */
const char *srn_ledger_folder(const srn_ledger *l);
/* Whether `where` is a URL of PostgreSQL and no folder. */
bool srn_ledger_is_postgres(const char *where);
/* The folder of this machine that belongs to the ledger at `where`: where itself; of one in PostgreSQL
 * `folder`, and where that is NULL the default one with "-postgresql" at its end. */
int srn_ledger_local_dir(const char *where, const char *folder, srn_buf *ret, srn_err *err);
/* "default": $XDG_STATE_HOME/serin/ledger, or that in ~/.local/state. */
int srn_ledger_default_dir(srn_buf *ret, srn_err *err);
/* Number i of the folders that servers beside each other take, from 1 on: the default one itself, then
 * "DIR-2", "DIR-3", ... Appended to ret. */
enum { SRN_LEDGER_FOLDERS = 64 };
int srn_ledger_numbered_dir(const char *dir, unsigned i, srn_buf *ret, srn_err *err);
/* Whether a process has the ledger in this folder open for writing now. */
bool srn_ledger_is_written(const char *dir);

/* A document that an event brings about, kept for ever beside the chain: a prompt's version, a label's move.
 * One that is there already is SRN_EEXIST, and nothing of the entry is stored. */
typedef struct srn_ledger_doc {
    const char *collection, *key; /* "prompt", "support-answer" */
    uint32_t version;             /* from 1 on */
    srn_str body;                 /* JSON */
} srn_ledger_doc;

typedef struct srn_entry {
    srn_record_kind kind;
    srn_str body;              /* JSON object; its "id" is the call's */
    srn_str content;           /* as srn_ledger_seal made it, or empty; of CALL */
    const srn_ledger_doc *doc; /* or NULL; of EVENT */
    bool durable;              /* done comes when it is committed; else when it has its place in the queue */
    /* Exactly once for an entry that was taken, perhaps before srn_ledger_append returns, on any thread; must
     * not block. code: SRN_OK; SRN_EEXIST; SRN_EIO it cannot be stored; SRN_EBUSY there was no room in time.
     * May be NULL. */
    void (*done)(void *ctx, int code, const srn_err *why);
    void *ctx;
} srn_entry;
/* Copies and takes the entry. Any thread, never blocks: an entry that finds the queue full waits outside of
 * it for its place. Errors: SRN_EFORMAT of the body, SRN_ENOMEM; done is not called then. */
int srn_ledger_append(srn_ledger *l, const srn_entry *e, srn_err *err);
/* Appends and waits for the commit: for commands and administrators. */
int srn_ledger_commit(srn_ledger *l, const srn_entry *e, srn_err *err);
/* Signs the chain up to now, waits for the commit, and gives the newest checkpoint as JSON, to be kept
 * elsewhere. SRN_ENOENT: there are no records yet. */
int srn_ledger_checkpoint(srn_ledger *l, srn_buf *ret, srn_err *err);
/* Says at what address the process that writes this ledger can be reached, for those who find it locked. */
int srn_ledger_announce(srn_ledger *l, const char *address, srn_err *err);
/* An event with these fields (a JSON object, may be empty): {"event": name, "by": by, ...}. Durable; does not
 * wait. */
int srn_ledger_event(srn_ledger *l, const char *name, const char *by, srn_str fields, srn_err *err);
/* Whether new calls may come: false while the queue is full or commits fail; *ret_why says why. Any thread.
 */
bool srn_ledger_ready(srn_ledger *l, srn_err *ret_why);

#define SRN_LEDGER_FREE_UNKNOWN UINT64_MAX /* a database server does not tell */
typedef struct srn_ledger_stats {
    uint64_t appended, committed, failed, lost; /* entries */
    uint64_t commits, commit_us, bytes_written;
    uint32_t queued, waiting; /* in the queue; outside of it */
    uint64_t disk_bytes, free_bytes;
    double days_left; /* at the rate of the last day, until max_bytes or the disk is full; INFINITY: no rate
                         yet, or no end */
    uint64_t open_intents, interrupted;
    uint64_t dropped;          /* records, by retention, since it was opened */
    uint64_t retention_failed; /* steps of it that failed */
    bool healthy;
} srn_ledger_stats;
void srn_ledger_get_stats(srn_ledger *l, srn_ledger_stats *ret);

/* ---- content and keys (content.c, keys.c) ---- */

typedef enum srn_content_policy {
    SRN_CONTENT_NONE,     /* nothing of it is kept */
    SRN_CONTENT_HASH,     /* keyed hashes, which group equal ones */
    SRN_CONTENT_FULL,     /* the content, beside the chain */
    SRN_CONTENT_ENCRYPTED /* the content, under a key of its subject */
} srn_content_policy;
/* "none", "hash", "full", "encrypted". */
bool srn_content_policy_of(srn_str name, srn_content_policy *ret);
const char *srn_content_policy_name(srn_content_policy p);

/* The keys of a ledger's folder: for hashes, of tenants and subjects, for signatures. Any thread. */
typedef struct srn_ledger_keys srn_ledger_keys;
/* dir NULL: keys that live as long as this process (no ledger). */
int srn_ledger_keys_open(const char *dir, srn_ledger_keys **ret, srn_err *err);
void srn_ledger_keys_close(srn_ledger_keys *k);
srn_ledger_keys *srn_ledger_get_keys(const srn_ledger *l);
enum { SRN_KEYED_HASH_CHARS = 64, SRN_KEY_ID_CHARS = 16 };
/* Keyed hash of a text in a domain ("prompt", "input", "subject", ...), as hex. Pure of anything but the key.
 */
void srn_keyed_hash(const srn_ledger_keys *k, const char *domain, srn_str text,
                    char ret[SRN_KEYED_HASH_CHARS + 1]);
bool srn_is_keyed_hash(const char *text); /* whether it looks like one */
/* Which key that was; two hashes compare only under one id. */
const char *srn_hash_key_id(const srn_ledger_keys *k);
/* Content (JSON text) as it is stored: compressed and salted (FULL), or under the key of the subject of the
 * tenant (ENCRYPTED; made on first use). Any thread. */
int srn_ledger_seal(srn_ledger_keys *k, srn_content_policy p, const char *tenant, const char *subject,
                    srn_str content, srn_buf *ret, srn_err *err);
/* The JSON text again. SRN_ENOENT: its key was destroyed (or is not here); SRN_EFORMAT: damaged. */
int srn_ledger_unseal(srn_ledger_keys *k, srn_str sealed, srn_buf *ret, srn_err *err);
/* Destroys the key of a subject; what was sealed under it is gone. SRN_ENOENT: there is none. */
int srn_ledger_forget(srn_ledger_keys *k, const char *tenant, const char *subject, srn_err *err);

/* The same with an event that tells of it in the chain, by whom. subject: the user as requests name him, or
 * the keyed hash that records show. For commands and administrators. */
int srn_ledger_forget_subject(srn_ledger *l, const char *by, const char *tenant, const char *subject,
                              srn_err *err);

/* ---- backups (backup.c) ---- */

typedef struct srn_backup_info { /* the end of the chain in a backup */
    char instance[33], hash[65]; /* hex */
    uint64_t epoch, seq, bytes;
} srn_backup_info;
/* One snapshot of the ledger in the folder `where`, while others write it, as the folder `to`, which readers
 * can open. Keys are not part of it. SRN_EEXIST: `to` holds one already. SRN_EUNSUP: it is in PostgreSQL. */
int srn_ledger_backup(const char *where, const char *to, srn_progress_fn *progress, void *ctx,
                      srn_backup_info *ret, srn_err *err);
typedef struct srn_restore_opts {
    /* the backup; the folder, which holds no ledger. Of PostgreSQL: a name for the backup, which its own
     * tools have put into the database already; the URL, whose ledger goes on in a new epoch. */
    const char *from, *where;
    const char *folder;   /* of a ledger in PostgreSQL, as for srn_ledger_local_dir */
    const char *keys_dir; /* NULL: "keys" in the folder */
    bool new_keys;        /* go on where there are none */
    const char *by;       /* for the event; NULL: "restore" */
    srn_progress_fn *progress;
    void *progress_ctx;
} srn_restore_opts;
/* A ledger from a backup: a new epoch, whose parent is the backup's last record, begins with an event that
 * names it. *ret: that parent. SRN_EEXIST, SRN_EBUSY, SRN_ENOENT (no backup, or no keys). */
int srn_ledger_restore(const srn_restore_opts *o, srn_backup_info *ret, srn_err *err);

/* ---- reading ---- */

/* where as in srn_ledger_opts; never writes, nor checkpoints the log of SQLite. */
int srn_reader_open(const char *where, const char *keys_dir, srn_reader **ret, srn_err *err);
/* The same; folder as for srn_ledger_local_dir. */
int srn_reader_open_in(const char *where, const char *folder, const char *keys_dir, srn_reader **ret,
                       srn_err *err);
/* Of a ledger that is open here, with its keys, which stay open: opening them reads an entry for every
 * subject. l outlives it. */
int srn_reader_open_beside(const srn_ledger *l, srn_reader **ret, srn_err *err);
/* The same for somebody who waits: a question to PostgreSQL that takes longer is SRN_ETIMEOUT. */
int srn_reader_open_within(const srn_ledger *l, uint32_t question_ms, srn_reader **ret, srn_err *err);
void srn_reader_close(srn_reader *r);
/* A place in a result set that goes on. */
typedef struct srn_stored {
    uint64_t seq, t_us; /* t_us: Unix time of the append */
    srn_record_kind kind;
    srn_str body;
    bool has_content;
} srn_stored;
/* The call's newest record (CALL, or INTENT while it runs); the body goes to ret_body. SRN_ENOENT. */
int srn_reader_call(srn_reader *r, const uint8_t id[16], srn_stored *ret, srn_buf *ret_body, srn_err *err);
/* Its content as JSON text. SRN_ENOENT: none was kept, or it was forgotten or dropped; the sentence says
 * which. */
int srn_reader_content(srn_reader *r, const uint8_t id[16], srn_buf *ret, srn_err *err);
/* Events or feedback from seq `from` on, ascending; fn returns false to end. */
int srn_reader_records(srn_reader *r, srn_record_kind kind, uint64_t from,
                       bool (*fn)(void *ctx, const srn_stored *s), void *ctx, srn_err *err);
/* Documents of a collection, ascending by key and version; key NULL: all. */
int srn_reader_docs(srn_reader *r, const char *collection, const char *key,
                    bool (*fn)(void *ctx, const srn_ledger_doc *d, uint64_t t_us), void *ctx, srn_err *err);

/* Calls by a filter, newest first. */
typedef struct srn_filter srn_filter;
/* "model=small status>=500 since=1h ttft>2s prompt=support@3": docs/calls.md. now_us: Unix time. Pure.
 * SRN_EINVAL names the place. */
int srn_filter_parse(srn_str text, uint64_t now_us, srn_filter **ret, srn_err *err);
void srn_filter_free(srn_filter *f);
typedef bool srn_call_fn(void *ctx, const srn_call_row *row, const srn_stored *s);
/* At most limit of those that are older than the call `before` (NULL: from the newest on). */
int srn_reader_calls(srn_reader *r, const srn_filter *f, const uint8_t *before, uint32_t limit,
                     srn_call_fn *fn, void *ctx, srn_err *err);
/* At most limit of those whose record came after seq, in that order: for who follows them. */
int srn_reader_calls_after(srn_reader *r, const srn_filter *f, uint64_t seq, uint32_t limit, srn_call_fn *fn,
                           void *ctx, srn_err *err);
/* Those whose record has a seq from `from` on and before `until`, in that order. */
int srn_reader_calls_between(srn_reader *r, uint64_t from, uint64_t until, srn_call_fn *fn, void *ctx,
                             srn_err *err);
/* The keyed hash by which records name a user: of his name as requests have it, or such a hash itself.
 * SRN_ENOENT: there are no keys here to hash with. */
int srn_reader_subject(const srn_reader *r, const char *who, char ret[SRN_KEYED_HASH_CHARS + 1],
                       srn_err *err);
/* The seq of the chain's last record. */
int srn_reader_end(srn_reader *r, uint64_t *ret_seq, srn_err *err);

/* What calls add up to. */
typedef enum srn_by {
    SRN_BY_MODEL,
    SRN_BY_WEIGHTS,
    SRN_BY_QUANTISATION,
    SRN_BY_PROMPT,
    SRN_BY_VERSION,
    SRN_BY_EXPERIMENT,
    SRN_BY_ARM,
    SRN_BY_ENDPOINT,
    SRN_BY_ROUTE,
    SRN_BY_STATUS,
    SRN_BY_FINISH,
    SRN_BY_ERROR,
    SRN_BY_TENANT, /* these need the calls themselves: slower */
    SRN_BY_KEY,
    SRN_BY_CONFIG,
    SRN_BY_END
} srn_by;
bool srn_by_of(srn_str name, srn_by *ret); /* "model", ... */
const char *srn_by_name(srn_by b);
typedef enum srn_time { SRN_TIME_TTFT, SRN_TIME_ITL, SRN_TIME_TOTAL, SRN_TIME_QUEUE, SRN_TIME_END } srn_time;
typedef struct srn_stats_opts {
    uint32_t by;      /* bits 1 << SRN_BY_... */
    uint64_t step_us; /* also by spans of time so long, whole minutes; 0: not */
    bool from_calls;  /* never from roll-ups */
} srn_stats_opts;
typedef struct srn_stats_row {
    uint64_t start_us;              /* of the span of time */
    const char *values[SRN_BY_END]; /* "" for what was not asked for */
    uint64_t calls, errors,
        aborted; /* errors: a status from 400 on, or an error's name; aborted: the client left */
    uint64_t n_input, n_cached, n_output, n_reasoning;
    struct {
        uint64_t n, sum_us; /* of the calls that have such a time */
    } times[SRN_TIME_END];
    const void *inside;
} srn_stats_row;
typedef bool srn_stats_fn(void *ctx, const srn_stats_row *row);
/* By roll-ups where they hold what is asked for, else from the calls; the sums are the same. Ascending by
 * time, then most calls first. At most 100,000 groups: SRN_ELIMIT. */
int srn_reader_stats(srn_reader *r, const srn_filter *f, const srn_stats_opts *o, srn_stats_fn *fn, void *ctx,
                     srn_err *err);
/* The time in microseconds that a share q of the calls did not exceed, within 0.4 %; 0: none has one. */
uint64_t srn_stats_quantile(const srn_stats_row *row, srn_time t, double q);

/* ---- calls as text, for commands and HTTP (text.c) ---- */

/* [since, until) of a filter in Unix microseconds: 0 and INT64_MAX where it does not say. */
void srn_filter_span(const srn_filter *f, uint64_t *ret_since_us, uint64_t *ret_until_us);
/* The record's body with "seq", "recorded_us" and "has_content" before its fields. */
void srn_call_write_json(const srn_stored *s, srn_buf *ret);
/* {"start_us", values asked for, "calls", "errors", "aborted", "tokens": {}, "ttft_us": {}, ...}. */
void srn_stats_write_json(const srn_stats_row *row, const srn_stats_opts *o, srn_buf *ret);
/* "model,prompt,version" to bits of srn_by. */
int srn_stats_by(srn_str list, uint32_t *ret, srn_err *err);

typedef enum srn_export {
    SRN_EXPORT_JSONL, /* records, with their content where it is asked for and there */
    SRN_EXPORT_CSV,
    SRN_EXPORT_EVAL /* {"messages", "output", ...}: needs content; calls without any are left out */
} srn_export;
bool srn_export_of(srn_str name, srn_export *ret); /* "jsonl", "csv", "eval" */
/* The line before the first one, if the form has one. */
void srn_export_head(srn_export e, srn_buf *ret);
/* A line; content: JSON text or empty. false: this call gives none. */
bool srn_export_call(srn_export e, const srn_call_row *row, const srn_stored *s, srn_str content,
                     srn_buf *ret);
/* Feedback on a call, oldest first. */
int srn_reader_feedback(srn_reader *r, const uint8_t id[16], bool (*fn)(void *ctx, const srn_stored *s),
                        void *ctx, srn_err *err);

typedef struct srn_reader_status {
    char instance[33]; /* hex */
    uint64_t epoch, last_seq, last_us;
    uint64_t n_records, n_recent,
        recent_span_us; /* recent: of the last day, or of as long as there are some */
    uint64_t disk_bytes, free_bytes;
    uint64_t max_bytes; /* that the server which writes it, or did last, lets it have; 0: no limit */
    double days_left;   /* until there is no room at that rate; INFINITY: there is none yet */
    bool is_written;    /* a process has it open */
    int64_t writer_pid;
    char writer_address[200];       /* "" where it has none */
    uint64_t signed_seq, signed_us; /* up to where the newest checkpoint reaches; 0: there is none */
} srn_reader_status;
int srn_reader_get_status(srn_reader *r, srn_reader_status *ret, srn_err *err);

/* ---- verifying ---- */

/* The newest signed checkpoint as JSON. SRN_ENOENT: there is none yet. */
int srn_reader_checkpoint(srn_reader *r, srn_buf *ret, srn_err *err);

typedef struct srn_verify_opts {
    srn_str checkpoint; /* one that was kept elsewhere, as JSON; empty: none */
    srn_progress_fn *progress;
    void *progress_ctx;
} srn_verify_opts;
typedef struct srn_verify_result {
    uint64_t n_records, n_dropped, n_checkpoints;
    bool ok;
    uint64_t bad_seq; /* the first record that is not as it was written */
    char what[512];   /* a sentence: edited, removed, reordered, cut off, signed by another key */
} srn_verify_result;
/* Reads the whole chain. The error is for what keeps it from being read; a broken chain is a result. */
int srn_reader_verify(srn_reader *r, const srn_verify_opts *o, srn_verify_result *ret, srn_err *err);

#endif
