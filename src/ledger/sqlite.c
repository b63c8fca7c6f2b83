/* SQLite as a store: the database of a folder, its tables, and the one connection that writes it. Used by the
 * ledger's writer thread, and by srn_ledger_open before that thread runs. WAL with synchronous=FULL: a commit
 * is a sync of the log. Only this connection ever moves the log into the database (SQLite up to 3.51.2 can
 * damage a database whose log two connections reset at once). Refuses databases that are not a ledger, or one
 * of a newer Serin.
 */
#include <stdlib.h>

#include "ledger/sqlite_internal.h"

enum { WAL_PAGES = 4096, WAL_KEPT_BYTES = 64 << 20 };

typedef struct statements {
    sqlite3_stmt *record, *content, *call, *find_call, *intent, *end_intent, *doc;
    sqlite3_stmt *begin, *commit, *rollback, *mark;
} statements;

typedef struct sqlite_store {
    srn__store head;
    sqlite3 *db;
    srn__sqlite_db asked;
    statements st;
    int wal_pages;  /* in the log after the last commit */
    int64_t opened; /* INTENTs of the transaction less those that it ended */
    bool unsynced;  /* a commit failed in its sync and was not written over yet */
} sqlite_store;

/* ---- tables ---- */

/* records: the chain. contents: what policies keep of calls, as srn_ledger_seal made it. calls: what is
 * searched of CALL records, always equal to their bodies ("" where a text is missing). open: INTENTs without
 * a CALL. docs: what events brought about. Ids are the 16 bytes of the ULID; call: of intents, calls and
 * feedback. */
static const char schema[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE epochs(epoch INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL, parent BLOB,"
    "  t_us INTEGER NOT NULL) STRICT;"
    "CREATE TABLE records(seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, kind INTEGER NOT NULL,"
    "  t_us INTEGER NOT NULL, call BLOB, body TEXT NOT NULL, content_sha BLOB, hash BLOB NOT NULL) STRICT;"
    "CREATE INDEX records_kind ON records(kind, seq) WHERE kind > 2;"
    "CREATE INDEX records_feedback ON records(call, seq) WHERE kind = 4;"
    "CREATE TABLE contents(seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;"
    "CREATE TABLE open(id BLOB PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE docs(collection TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL,"
    "  seq INTEGER NOT NULL UNIQUE, t_us INTEGER NOT NULL, body TEXT NOT NULL,"
    "  PRIMARY KEY(collection, key, version)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE calls(seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, begun_us INTEGER NOT NULL,"
    "  status INTEGER NOT NULL, finish TEXT NOT NULL, error TEXT NOT NULL, endpoint TEXT NOT NULL,"
    "  route TEXT NOT NULL, key TEXT NOT NULL, tenant TEXT NOT NULL, conversation TEXT NOT NULL,"
    "  model TEXT NOT NULL, weights TEXT NOT NULL, quantisation TEXT NOT NULL, config TEXT NOT NULL,"
    "  prompt TEXT NOT NULL, version INTEGER NOT NULL, prompt_hash TEXT NOT NULL, experiment TEXT NOT NULL,"
    "  arm TEXT NOT NULL, n_input INTEGER NOT NULL, n_cached INTEGER NOT NULL, n_output INTEGER NOT NULL,"
    "  n_reasoning INTEGER NOT NULL, queue_us INTEGER NOT NULL, ttft_us INTEGER NOT NULL,"
    "  total_us INTEGER NOT NULL, itl_us INTEGER NOT NULL, itl_max_us INTEGER NOT NULL,"
    "  streamed INTEGER NOT NULL) STRICT;"
    "CREATE INDEX calls_begun ON calls(begun_us);"
    "CREATE INDEX calls_model ON calls(model, begun_us);"
    "CREATE INDEX calls_prompt ON calls(prompt, version, begun_us) WHERE prompt <> '';"
    "CREATE INDEX calls_tenant ON calls(tenant, begun_us) WHERE tenant <> '';"
    "CREATE INDEX calls_errors ON calls(begun_us) WHERE status >= 400;";

static const struct {
    size_t at; /* of the statement, in statements */
    const char *sql;
} prepared[] = {
    {offsetof(statements, record),
     "INSERT INTO records(seq, epoch, kind, t_us, call, body, content_sha, hash) VALUES(?,?,?,?,?,?,?,?)"},
    {offsetof(statements, content), "INSERT INTO contents(seq, bytes) VALUES(?,?)"},
    {offsetof(statements, call),
     "INSERT INTO calls(seq, id, begun_us, status, finish, error, endpoint, route, key, tenant, conversation,"
     " model, weights, quantisation, config, prompt, version, prompt_hash, experiment, arm, n_input,"
     " n_cached, n_output, n_reasoning, queue_us, ttft_us, total_us, itl_us, itl_max_us, streamed)"
     " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"},
    {offsetof(statements, find_call), "SELECT 1 FROM calls WHERE id = ?"},
    {offsetof(statements, intent), "INSERT INTO open(id, seq) VALUES(?,?) ON CONFLICT DO NOTHING"},
    {offsetof(statements, end_intent), "DELETE FROM open WHERE id = ?"},
    {offsetof(statements, doc), "INSERT INTO docs(collection, key, version, seq, t_us, body) "
                                "VALUES(?,?,?,?,?,?) ON CONFLICT DO NOTHING"},
    {offsetof(statements, begin), "BEGIN IMMEDIATE"},
    {offsetof(statements, commit), "COMMIT"},
    {offsetof(statements, rollback), "ROLLBACK"},
    {offsetof(statements, mark),
     "INSERT INTO meta(key, value) VALUES('unsynced', 1) ON CONFLICT DO UPDATE SET value = value + 1"},
};

static sqlite3_stmt **statement_at(statements *st, size_t at) {
    return (sqlite3_stmt **)(void *)((char *)st + at);
}

static int create(sqlite3 *db, srn_err *err) {
    sqlite3_stmt *s = NULL;
    char text[256];
    int code = SRN_OK;
    if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL)) return srn__sqlite_fail(err, db, "making it");
    snprintf(text, sizeof text, "PRAGMA application_id = %d; PRAGMA user_version = %d;", SRN__SQLITE_APP_ID,
             SRN__SQLITE_FORMAT);
    if (sqlite3_exec(db, schema, NULL, NULL, NULL) ||
        sqlite3_exec(db, srn__rollup_schema, NULL, NULL, NULL) || sqlite3_exec(db, text, NULL, NULL, NULL) ||
        sqlite3_exec(db, "INSERT INTO meta VALUES('instance', randomblob(16))", NULL, NULL, NULL))
        code = srn__sqlite_fail(err, db, "making its tables");
    if (!code)
        code = srn__sqlite_prepare(
            db, "INSERT INTO epochs(epoch, first_seq, parent, t_us) VALUES(1,1,NULL,?)", &s, err);
    if (!code) {
        sqlite3_bind_int64(s, 1, (sqlite3_int64)srn_unix_us());
        if (sqlite3_step(s) != SQLITE_DONE) code = srn__sqlite_fail(err, db, "making its first epoch");
    }
    sqlite3_finalize(s);
    if (!code && sqlite3_exec(db, "COMMIT", NULL, NULL, NULL))
        code = srn__sqlite_fail(err, db, "making its tables");
    if (code) sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return code;
}

/* ---- rows ---- */

static void bind_text(sqlite3_stmt *s, int at, const char *text) {
    sqlite3_bind_text(s, at, text, -1, SQLITE_STATIC);
}

static int run(sqlite_store *s, sqlite3_stmt *st, const char *what, srn_err *err) {
    int rc = sqlite3_step(st);
    int code = rc == SQLITE_DONE || rc == SQLITE_ROW ? SRN_OK : srn__sqlite_fail(err, s->db, what);
    sqlite3_reset(st);
    return code;
}

static int put_call_columns(sqlite_store *s, const srn__row *row, srn_err *err) {
    const srn_call_row *c = srn_record_call(row->record);
    const char *const texts[] = {c->finish,  c->error,        c->endpoint,     c->route,
                                 c->key,     c->tenant,       c->conversation, c->model,
                                 c->weights, c->quantisation, c->config,       c->prompt};
    const uint64_t numbers[] = {c->n_input, c->n_cached, c->n_output, c->n_reasoning, c->queue_us,
                                c->ttft_us, c->total_us, c->itl_us,   c->itl_max_us,  c->streamed};
    sqlite3_stmt *st = s->st.call;
    int at = 1;
    sqlite3_bind_int64(st, at++, (sqlite3_int64)row->seq);
    sqlite3_bind_blob(st, at++, c->id, sizeof c->id, SQLITE_STATIC);
    sqlite3_bind_int64(st, at++, (sqlite3_int64)c->begun_us);
    sqlite3_bind_int(st, at++, c->status);
    for (size_t i = 0; i < SRN_LEN(texts); i++) bind_text(st, at++, texts[i]);
    sqlite3_bind_int64(st, at++, c->version);
    bind_text(st, at++, c->prompt_hash);
    bind_text(st, at++, c->experiment);
    bind_text(st, at++, c->arm);
    for (size_t i = 0; i < SRN_LEN(numbers); i++) sqlite3_bind_int64(st, at++, (sqlite3_int64)numbers[i]);
    return run(s, st, "adding a call", err);
}

/* What must be unique goes in first, so that a row that is there already leaves nothing behind. */
static int put_call(sqlite_store *s, const srn__row *row, srn_err *err) {
    int code = put_call_columns(s, row, err);
    const uint8_t *id = srn__record_id(row->record);
    if (!code && !sqlite3_changes(s->db)) {
        char text[SRN_ULID_CHARS + 1];
        srn_ulid_format(id, text);
        return srn_fail(err, SRN_EEXIST, "the call %s has its record already", text);
    }
    if (code) return code;
    sqlite3_bind_blob(s->st.end_intent, 1, id, SRN_ULID_BYTES, SQLITE_STATIC);
    code = run(s, s->st.end_intent, "ending an intent", err);
    if (!code) s->opened -= sqlite3_changes(s->db);
    if (code || !row->has_content) return code;
    sqlite3_bind_int64(s->st.content, 1, (sqlite3_int64)row->seq);
    sqlite3_bind_blob64(s->st.content, 2, row->content.ptr, row->content.len, SQLITE_STATIC);
    return run(s, s->st.content, "adding a call's content", err);
}

static int put_intent(sqlite_store *s, const srn__row *row, srn_err *err) {
    const uint8_t *id = srn__record_id(row->record);
    sqlite3_bind_blob(s->st.find_call, 1, id, SRN_ULID_BYTES, SQLITE_STATIC);
    int rc = sqlite3_step(s->st.find_call);
    int code =
        rc == SQLITE_ROW || rc == SQLITE_DONE ? SRN_OK : srn__sqlite_fail(err, s->db, "looking for a call");
    sqlite3_reset(s->st.find_call);
    if (code) return code;
    bool there = rc == SQLITE_ROW;
    if (!there) {
        sqlite3_bind_blob(s->st.intent, 1, id, SRN_ULID_BYTES, SQLITE_STATIC);
        sqlite3_bind_int64(s->st.intent, 2, (sqlite3_int64)row->seq);
        code = run(s, s->st.intent, "adding an intent", err);
        there = !code && !sqlite3_changes(s->db);
        s->opened += !code && !there;
    }
    char text[SRN_ULID_CHARS + 1];
    srn_ulid_format(id, text);
    return there ? srn_fail(err, SRN_EEXIST, "the call %s is in the ledger already", text) : code;
}

static int put_doc(sqlite_store *s, const srn__row *row, srn_err *err) {
    const srn_ledger_doc *d = row->doc;
    sqlite3_stmt *st = s->st.doc;
    bind_text(st, 1, d->collection);
    bind_text(st, 2, d->key);
    sqlite3_bind_int64(st, 3, d->version);
    sqlite3_bind_int64(st, 4, (sqlite3_int64)row->seq);
    sqlite3_bind_int64(st, 5, (sqlite3_int64)row->t_us);
    sqlite3_bind_text64(st, 6, d->body.ptr, d->body.len, SQLITE_STATIC, SQLITE_UTF8);
    int code = run(s, st, "adding a document", err);
    if (!code && !sqlite3_changes(s->db))
        return srn_fail(err, SRN_EEXIST, "%s '%s' has a version %u already", d->collection, d->key,
                        d->version);
    return code;
}

static int store_put(srn__store *base, const srn__row *row, srn_err *err) {
    sqlite_store *s = (sqlite_store *)base;
    int code = SRN_OK;
    if (row->kind == SRN_RECORD_CALL) code = put_call(s, row, err);
    if (row->kind == SRN_RECORD_INTENT) code = put_intent(s, row, err);
    if (row->doc) code = put_doc(s, row, err);
    if (code) return code;
    const uint8_t *id = srn__record_id(row->record);
    sqlite3_stmt *st = s->st.record;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)row->seq);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)row->epoch);
    sqlite3_bind_int(st, 3, (int)row->kind);
    sqlite3_bind_int64(st, 4, (sqlite3_int64)row->t_us);
    if (id)
        sqlite3_bind_blob(st, 5, id, SRN_ULID_BYTES, SQLITE_STATIC);
    else
        sqlite3_bind_null(st, 5);
    sqlite3_bind_text64(st, 6, row->body.ptr, row->body.len, SQLITE_STATIC, SQLITE_UTF8);
    if (row->has_content)
        sqlite3_bind_blob(st, 7, row->content_sha, SRN_SHA256_BYTES, SQLITE_STATIC);
    else
        sqlite3_bind_null(st, 7);
    sqlite3_bind_blob(st, 8, row->hash, SRN_SHA256_BYTES, SQLITE_STATIC);
    return run(s, st, "adding a record", err);
}

/* ---- transactions ---- */

static int store_begin(srn__store *base, srn_err *err) {
    sqlite_store *s = (sqlite_store *)base;
    s->opened = 0;
    return run(s, s->st.begin, "beginning to write", err);
}

static void store_rollback(srn__store *base) {
    sqlite_store *s = (sqlite_store *)base;
    if (sqlite3_get_autocommit(s->db)) return;
    sqlite3_step(s->st.rollback);
    sqlite3_reset(s->st.rollback);
}

/* A commit whose sync failed is not seen, but stands whole in the log: a crash would bring it back. Another
 * commit writes over it. */
static bool overwrite_unsynced(sqlite_store *s) {
    bool done = sqlite3_step(s->st.begin) == SQLITE_DONE && sqlite3_step(s->st.mark) == SQLITE_DONE &&
                sqlite3_step(s->st.commit) == SQLITE_DONE;
    sqlite3_reset(s->st.begin);
    sqlite3_reset(s->st.mark);
    sqlite3_reset(s->st.commit);
    store_rollback(&s->head);
    return done;
}

static int store_commit(srn__store *base, bool *ret_unknown, srn_err *err) {
    sqlite_store *s = (sqlite_store *)base;
    *ret_unknown = false;
    if (sqlite3_step(s->st.commit) == SQLITE_DONE) {
        sqlite3_reset(s->st.commit);
        base->open += (uint64_t)s->opened;
        s->unsynced = false;
        return SRN_OK;
    }
    int extended = sqlite3_extended_errcode(s->db);
    int code = srn__sqlite_fail(err, s->db, "committing");
    sqlite3_reset(s->st.commit);
    store_rollback(base);
    if (extended == SQLITE_IOERR_FSYNC || extended == SQLITE_IOERR_DIR_FSYNC)
        *ret_unknown = s->unsynced = true;
    return code;
}

/* ---- the rest of a store ---- */

static int store_tail(srn__store *base, srn__tail *ret, srn_err *err) {
    sqlite_store *s = (sqlite_store *)base;
    if (s->unsynced && !overwrite_unsynced(s)) return srn__sqlite_fail(err, s->db, "syncing it");
    s->unsynced = false;
    return srn__sqlite_tail(s->db, ret, err);
}

static int store_holds(srn__store *base, const srn__tail *t, bool *ret, srn_err *err) {
    srn__tail now;
    int code = store_tail(base, &now, err);
    if (!code) *ret = now.seq == t->seq && memcmp(now.hash, t->hash, sizeof now.hash) == 0;
    return code;
}

/* The cross join keeps the planner from walking all records in the order that is asked for. */
static int store_open_intents(srn__store *base, int (*fn)(void *ctx, srn_str body), void *ctx, srn_err *err) {
    sqlite_store *s = (sqlite_store *)base;
    sqlite3_stmt *st = NULL;
    int rc = SQLITE_DONE;
    int code = srn__sqlite_prepare(
        s->db, "SELECT r.body FROM open o CROSS JOIN records r ON r.seq = o.seq ORDER BY o.seq", &st, err);
    while (!code && (rc = sqlite3_step(st)) == SQLITE_ROW) code = fn(ctx, srn__sqlite_text(st, 0));
    if (!code && rc != SQLITE_DONE) code = srn__sqlite_fail(err, s->db, "reading open intents");
    sqlite3_finalize(st);
    return code;
}

static int store_usage(srn__store *base, uint64_t now_us, srn__usage *ret, srn_err *err) {
    return srn__sqlite_usage(&((sqlite_store *)base)->asked, now_us, ret, err);
}

/* Moves the log into the database; readers that still need it are not waited for. */
static void store_idle(srn__store *base) {
    sqlite_store *s = (sqlite_store *)base;
    if (s->wal_pages < WAL_PAGES) return;
    sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    s->wal_pages = 0;
}

static void store_close(srn__store *base) {
    sqlite_store *s = (sqlite_store *)base;
    if (!s) return;
    for (size_t i = 0; i < SRN_LEN(prepared); i++) sqlite3_finalize(*statement_at(&s->st, prepared[i].at));
    srn__sqlite_db_done(&s->asked);
    sqlite3_close(s->db);
    free(s);
}

static int count_wal(void *ctx, sqlite3 *db, const char *name, int pages) {
    (void)db, (void)name;
    ((sqlite_store *)ctx)->wal_pages = pages;
    return SQLITE_OK;
}

static int store_oldest_open(srn__store *base, uint64_t *ret_seq, srn_err *err) {
    return srn__sqlite_number(((sqlite_store *)base)->db, "SELECT min(seq) FROM open", ret_seq, err);
}

static int store_newest(srn__store *base, srn_record_kind kind, srn_buf *ret_body, srn_err *err) {
    return srn__sqlite_newest(((sqlite_store *)base)->db, kind, ret_body, err);
}

static int store_walk(srn__store *base, uint64_t from, uint32_t limit, srn__walk_fn *fn, void *ctx,
                      srn_err *err) {
    return srn__sqlite_walk(((sqlite_store *)base)->db, from, limit, fn, ctx, err);
}

static int store_drop(srn__store *base, uint64_t from, uint64_t to, uint32_t n, uint64_t *ret_next,
                      uint64_t *ret_dropped, srn_err *err) {
    return srn__sqlite_drop(((sqlite_store *)base)->db, from, to, n, ret_next, ret_dropped, err);
}

static int store_shrink(srn__store *base, uint32_t n, uint64_t keep, bool *ret_more, srn_err *err) {
    return srn__sqlite_shrink(((sqlite_store *)base)->db, n, keep, ret_more, err);
}

static const srn__store_ops sqlite_ops = {
    .tail = store_tail,
    .holds = store_holds,
    .begin = store_begin,
    .put = store_put,
    .commit = store_commit,
    .rollback = store_rollback,
    .open_intents = store_open_intents,
    .oldest_open = store_oldest_open,
    .usage = store_usage,
    .newest = store_newest,
    .walk = store_walk,
    .drop = store_drop,
    .shrink = store_shrink,
    .idle = store_idle,
    .close = store_close,
};

int srn__sqlite_open(const char *dir, srn__store **ret, srn_err *err) {
    bool is_new = false;
    sqlite_store *s = srn_calloc(1, sizeof *s);
    if (!s) return srn_fail_nomem(err, sizeof *s);
    s->head.ops = &sqlite_ops;
    s->head.turn = true;
    int code = srn__sqlite_connect(dir, true, &s->db, &is_new, err);
    if (!code && is_new) code = create(s->db, err);
    for (size_t i = 0; i < SRN_LEN(prepared) && !code; i++)
        code = srn__sqlite_prepare(s->db, prepared[i].sql, statement_at(&s->st, prepared[i].at), err);
    if (!code) code = srn__sqlite_number(s->db, "SELECT count(*) FROM open", &s->head.open, err);
    if (code) {
        store_close(&s->head);
        return code;
    }
    srn__sqlite_db_init(&s->asked, s->db);
    s->head.db = &s->asked.head;
    char text[64];
    snprintf(text, sizeof text, "PRAGMA journal_size_limit = %d", WAL_KEPT_BYTES);
    sqlite3_exec(s->db, text, NULL, NULL, NULL);
    sqlite3_wal_hook(s->db, count_wal, s); /* takes the place of the automatic checkpoints */
    *ret = &s->head;
    return SRN_OK;
}
