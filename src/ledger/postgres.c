/* PostgreSQL as a store: the connection of one of those who write it. Used by the ledger's writer thread, and
 * by srn_ledger_open before that thread runs. A transaction is two round trips: BEGIN with the chain's lock
 * and a look at where it ends and what is there already, then all rows and COMMIT in one pipeline. A
 * connection that is lost is made again by the next transaction; one that is lost while its COMMIT was on the
 * way leaves an outcome that is not known until the chain's lock is had again, which is when that transaction
 * has ended: then it is looked for. Refuses what srn__pg_connect and srn__pg_join refuse.
 */
#include <stdlib.h>

#include "ledger/postgres_internal.h"

enum {
    KNOWN_SLOTS = 4096,
    EXPECTED = 1024,
    MARKS = 32,
    MISSED = 64,
    USAGE_US = 10 * 1000 * 1000,
    PART_AHEAD = 2048,
    ARRAY_HEAD = 20,
    ARRAY_ITEM = 4 + SRN_ULID_BYTES
};

#define DAY_US  UINT64_C(86400000000)
#define MARK_US (DAY_US / 4)

typedef enum state { /* bits: what the ledger has of a call */
                     HAS_CALL = 1,
                     HAS_OPEN = 2
} state;

typedef struct known {
    uint8_t id[SRN_ULID_BYTES];
    uint8_t bits;
    bool used;
} known;

typedef struct mark { /* when a record was put */
    uint64_t seq, t_us;
} mark;

typedef struct missed { /* a writer without a connection, when that was first seen */
    uint32_t writer;
    uint64_t since_us;
} missed;

typedef struct pg_store {
    srn__store head;
    srn__pg pg;
    srn__sharing o;
    srn__pg_tip tip;  /* in a transaction: the end of the chain when it began, and the newest part */
    bool ready;       /* statements are prepared on this connection */
    bool of_others;   /* the transaction ends INTENTs of writers that are gone */
    uint64_t end_seq; /* the last record that is known to be committed; UINT64_MAX: none is */
    uint8_t end_hash[SRN_SHA256_BYTES];
    uint64_t put_seq; /* and that of the transaction */
    uint8_t put_hash[SRN_SHA256_BYTES];
    missed missing[MISSED];
    uint32_t n_missing;
    mark marks[MARKS]; /* ascending, the newest that are committed */
    mark marking;      /* of the transaction; seq 0: none */
    uint32_t n_marks;
    srn__usage usage;
    uint64_t usage_at_us; /* when that was asked; 0: never */
    int64_t opened;       /* INTENTs of the transaction less those that it ended */
    /* what is known of calls, for one transaction */
    known slots[KNOWN_SLOTS]; /* open addressing by hash */
    uint32_t n_known;
    uint64_t seed;
    uint8_t expected[EXPECTED][SRN_ULID_BYTES]; /* to be looked for with BEGIN */
    uint32_t n_expected;
    char array[ARRAY_HEAD + EXPECTED * ARRAY_ITEM]; /* these, as a parameter */
} pg_store;

/* ---- statements ---- */

enum { RECORD_PARAMS = 8, CALL_PARAMS = 30, MOST_PARAMS = 30 };
static const struct {
    const char *name, *sql;
} prepared[] = {
    {"record", "INSERT INTO records(seq, epoch, kind, t_us, call, body, content_sha, hash)"
               " VALUES($1, $2, $3, $4, $5, $6, $7, $8)"},
    {"content", "INSERT INTO contents(seq, bytes) VALUES($1, $2)"},
    {"call",
     "INSERT INTO calls(seq, id, begun_us, status, finish, error, endpoint, route, key, tenant, conversation,"
     " model, weights, quantisation, config, prompt, version, prompt_hash, experiment, arm, n_input,"
     " n_cached, n_output, n_reasoning, queue_us, ttft_us, total_us, itl_us, itl_max_us, streamed)"
     " VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,"
     " $22, $23, $24, $25, $26, $27, $28, $29, $30)"},
    {"intent", "INSERT INTO open(id, seq, writer) VALUES($1, $2, $3::bigint)"},
    {"end_intent", "DELETE FROM open WHERE id = $1"},
    {"doc", "INSERT INTO docs(collection, key, version, seq, t_us, body) VALUES($1, $2, $3, $4, $5, $6)"},
    {"mark", "INSERT INTO marks(seq, t_us) VALUES($1, $2)"},
    {"chain", SRN__PG_LOCK_CHAIN},
    {"tip", srn__pg_tip_sql},
    {"look", "SELECT id, 1::bigint FROM calls WHERE id = ANY($1::bytea[]) AND seq >= $2"
             " UNION ALL SELECT id, 2::bigint FROM open WHERE id = ANY($1::bytea[])"},
};

typedef struct values { /* of one statement that is sent */
    const char *list[MOST_PARAMS];
    int lengths[MOST_PARAMS], formats[MOST_PARAMS];
    char numbers[MOST_PARAMS][8];
    int n;
} values;

static void add_bytes(values *v, const void *p, size_t n) {
    v->list[v->n] = n ? p : "";
    v->lengths[v->n] = (int)n;
    v->formats[v->n++] = 1;
}

static void add_null(values *v) {
    v->list[v->n] = NULL;
    v->formats[v->n++] = 1;
}

static void add_text(values *v, const char *text) {
    add_bytes(v, text, strlen(text));
}

static void add_number(values *v, uint64_t number) {
    srn__pg_put_u64(number, v->numbers[v->n]);
    add_bytes(v, v->numbers[v->n], 8);
}

/* Sends a statement into the pipeline; its answer is read when that is settled. */
static int send_put(pg_store *s, const char *name, const values *v, srn_err *err) {
    srn__pg *g = &s->pg;
    bool ok = g->conn && (g->pipeline || PQenterPipelineMode(g->conn));
    g->pipeline = g->pipeline || ok;
    ok = ok && PQsendQueryPrepared(g->conn, name, v->n, v->list, v->lengths, v->formats, 1);
    return ok ? SRN_OK : srn__pg_fail(err, g, NULL, "writing");
}

/* ---- what is known of calls ---- */

static known *slot_of(pg_store *s, const uint8_t *id) {
    uint64_t at = srn_hash(s->seed, (srn_str){(const char *)id, SRN_ULID_BYTES});
    for (;; at++) {
        known *k = &s->slots[at % KNOWN_SLOTS];
        if (!k->used || memcmp(k->id, id, sizeof k->id) == 0) return k;
    }
}

static void forget_known(pg_store *s) {
    if (s->n_known) memset(s->slots, 0, sizeof s->slots);
    s->n_known = s->n_expected = 0;
}

/* The slot of an id, which is used then; half of the table stays free. */
static known *know(pg_store *s, const uint8_t *id) {
    known *k = slot_of(s, id);
    if (!k->used && s->n_known >= KNOWN_SLOTS / 2) {
        memset(s->slots, 0, sizeof s->slots);
        s->n_known = 0;
        k = slot_of(s, id);
    }
    if (!k->used) {
        memcpy(k->id, id, sizeof k->id);
        k->used = true;
        s->n_known++;
    }
    return k;
}

static bool take_known(void *ctx, const srn__cell *c) {
    pg_store *s = ctx;
    if (c[0].text.len != SRN_ULID_BYTES) return true;
    know(s, (const uint8_t *)c[0].text.ptr)->bits |= (uint8_t)c[1].number;
    return true;
}

/* An array of bytea as the protocol has it: dimensions, whether there are NULLs, the type; the one
 * dimension's length and first index; for each element its length and bytes. */
static void put_u32(char **at, uint32_t v) {
    for (int i = 0; i < 4; i++) *(*at)++ = (char)(uint8_t)(v >> (24 - 8 * i));
}

static size_t make_array(char *to, const uint8_t (*ids)[SRN_ULID_BYTES], uint32_t n) {
    char *at = to;
    const uint32_t head[] = {1, 0, SRN__PG_BYTES, n, 1};
    for (size_t i = 0; i < SRN_LEN(head); i++) put_u32(&at, head[i]);
    for (uint32_t i = 0; i < n; i++) {
        put_u32(&at, SRN_ULID_BYTES);
        memcpy(at, ids[i], SRN_ULID_BYTES);
        at += SRN_ULID_BYTES;
    }
    return (size_t)(at - to);
}

/* Before which record none of these calls can be: what was committed a day before the first of them began, as
 * their ids say, is none of them. So only the newest parts are looked into. */
static uint64_t first_possible(const pg_store *s, const uint8_t (*ids)[SRN_ULID_BYTES], uint32_t n) {
    uint64_t first_us = UINT64_MAX, seq = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t ms = 0;
        for (int k = 0; k < 6; k++) ms = ms << 8 | ids[i][k];
        first_us = SRN_MIN(first_us, ms * 1000);
    }
    for (uint32_t i = 0; i < s->n_marks; i++)
        if (s->marks[i].t_us + DAY_US <= first_us) seq = s->marks[i].seq;
    return seq;
}

/* Sends the question for these ids. */
static int send_look(pg_store *s, const uint8_t (*ids)[SRN_ULID_BYTES], uint32_t n, srn_err *err) {
    values v = {.n = 0};
    add_bytes(&v, s->array, make_array(s->array, ids, n));
    add_number(&v, first_possible(s, ids, n));
    for (uint32_t i = 0; i < n; i++) know(s, ids[i]);
    return send_put(s, "look", &v, err);
}

static void store_expect(srn__store *base, const srn__row *row) {
    pg_store *s = (pg_store *)base;
    bool of_call = row->kind == SRN_RECORD_CALL || row->kind == SRN_RECORD_INTENT;
    if (of_call && row->record && s->n_expected < EXPECTED)
        memcpy(s->expected[s->n_expected++], srn__record_id(row->record), SRN_ULID_BYTES);
}

/* What is known of a call; it is looked up where it was not expected. */
static int find_known(pg_store *s, const uint8_t *id, known **ret, srn_err *err) {
    uint8_t one[1][SRN_ULID_BYTES];
    known *k = slot_of(s, id);
    int code = SRN_OK;
    if (!k->used) {
        code = srn__pg_settle(&s->pg, NULL, NULL, "writing", err);
        memcpy(one[0], id, sizeof one[0]);
        if (!code) code = send_look(s, (const uint8_t(*)[SRN_ULID_BYTES])one, 1, err);
        if (!code) code = srn__pg_settle(&s->pg, take_known, s, "looking for a call", err);
    }
    *ret = know(s, id);
    return code;
}

/* ---- the connection ---- */

static int prepare_all(pg_store *s, srn_err *err) {
    srn__pg *g = &s->pg;
    bool ok = PQenterPipelineMode(g->conn);
    g->pipeline = ok;
    for (size_t i = 0; i < SRN_LEN(prepared) && ok; i++)
        ok = PQsendPrepare(g->conn, prepared[i].name, prepared[i].sql, 0, NULL);
    return ok ? srn__pg_settle(g, NULL, NULL, "preparing its statements", err)
              : srn__pg_fail(err, g, NULL, "preparing its statements");
}

typedef struct hash {
    bool there;
    uint8_t bytes[SRN_SHA256_BYTES];
} hash;

static bool take_hash(void *ctx, const srn__cell *c) {
    hash *h = ctx;
    h->there = c[0].text.len == sizeof h->bytes;
    if (h->there) memcpy(h->bytes, c[0].text.ptr, sizeof h->bytes);
    return false;
}

static int hash_of(pg_store *s, uint64_t seq, hash *ret, srn_err *err) {
    const int64_t at = (int64_t)seq;
    *ret = (hash){0};
    return srn__pg_ask_text(&s->pg, "SELECT hash FROM records WHERE seq = $1", &at, 1, take_hash, ret, err);
}

static int is_another(const pg_store *s, srn_err *err) {
    return srn_fail(err, SRN_EIO,
                    "%s: the ledger has not got the record %llu that it had: it was restored; start again",
                    s->pg.at->name, (unsigned long long)s->end_seq);
}

/* After the connection was lost: the last record that was known is as it was, or others have dropped it. */
static int check_end(pg_store *s, srn_err *err) {
    srn__tail now;
    hash h;
    if (s->end_seq == UINT64_MAX || !s->end_seq) return SRN_OK;
    int code = srn__pg_tail(&s->pg, &now, err);
    if (!code) code = hash_of(s, s->end_seq, &h, err);
    if (code) return code;
    bool same = h.there ? memcmp(h.bytes, s->end_hash, sizeof h.bytes) == 0 : now.seq > s->end_seq;
    return same ? SRN_OK : is_another(s, err);
}

static bool take_mark(void *ctx, const srn__cell *c) {
    pg_store *s = ctx;
    s->marks[s->n_marks++] = (mark){(uint64_t)c[0].number, (uint64_t)c[1].number};
    return s->n_marks < MARKS;
}

static int load_marks(pg_store *s, srn_err *err) {
    static const char sql[] =
        "SELECT seq, t_us FROM (SELECT * FROM marks ORDER BY seq DESC LIMIT $1) x ORDER BY seq";
    const int64_t most = MARKS;
    s->n_marks = 0;
    return srn__pg_ask_text(&s->pg, sql, &most, 1, take_mark, s, err);
}

/* A connection with tables, a number and statements. What others lost may be what this one lost: nobody is
 * missed yet. */
static int connect_store(pg_store *s, srn_err *err) {
    static const char own[] = "SELECT count(*) FROM open WHERE writer = $1";
    s->ready = s->head.turn = false;
    s->n_missing = 0;
    int code = srn__pg_connect(&s->pg, err);
    if (!code) code = srn__pg_join(&s->pg, s->o.key, err);
    if (!code) code = prepare_all(s, err);
    const int64_t writer = s->pg.writer;
    if (!code) code = srn__pg_number(&s->pg, own, &writer, 1, &s->head.open, err);
    if (!code) code = load_marks(s, err);
    if (!code) code = check_end(s, err);
    s->ready = !code;
    if (code) srn__pg_close(&s->pg);
    return code;
}

static int ensure(pg_store *s, srn_err *err) {
    return s->ready && s->pg.conn ? SRN_OK : connect_store(s, err);
}

/* Room for records from the next one on. */
static int ensure_part(pg_store *s, uint64_t seq, uint64_t ahead, srn_err *err) {
    while (s->tip.part.last < seq + ahead) {
        int code = srn__pg_add_part(&s->pg, &s->tip.part, seq, &s->tip.part, err);
        if (code) return code;
    }
    return SRN_OK;
}

/* ---- rows ---- */

static int put_call_columns(pg_store *s, const srn__row *row, srn_err *err) {
    const srn_call_row *c = srn_record_call(row->record);
    const char *const texts[] = {c->finish,  c->error,        c->endpoint,     c->route,
                                 c->key,     c->tenant,       c->conversation, c->model,
                                 c->weights, c->quantisation, c->config,       c->prompt};
    const uint64_t numbers[] = {c->n_input, c->n_cached, c->n_output, c->n_reasoning, c->queue_us,
                                c->ttft_us, c->total_us, c->itl_us,   c->itl_max_us,  c->streamed};
    values v = {.n = 0};
    add_number(&v, row->seq);
    add_bytes(&v, c->id, sizeof c->id);
    add_number(&v, c->begun_us);
    add_number(&v, (uint64_t)c->status);
    for (size_t i = 0; i < SRN_LEN(texts); i++) add_text(&v, texts[i]);
    add_number(&v, c->version);
    add_text(&v, c->prompt_hash);
    add_text(&v, c->experiment);
    add_text(&v, c->arm);
    for (size_t i = 0; i < SRN_LEN(numbers); i++) add_number(&v, numbers[i]);
    return send_put(s, "call", &v, err);
}

static int is_there(const uint8_t *id, const char *what, srn_err *err) {
    char text[SRN_ULID_CHARS + 1];
    srn_ulid_format(id, text);
    return srn_fail(err, SRN_EEXIST, "the call %s %s already", text, what);
}

static int put_call(pg_store *s, const srn__row *row, srn_err *err) {
    const uint8_t *id = srn__record_id(row->record);
    known *k;
    int code = find_known(s, id, &k, err);
    if (code) return code;
    if (k->bits & HAS_CALL) return is_there(id, "has its record", err);
    code = put_call_columns(s, row, err);
    if (!code && k->bits & HAS_OPEN) {
        values v = {.n = 0};
        add_bytes(&v, id, SRN_ULID_BYTES);
        code = send_put(s, "end_intent", &v, err);
        s->opened -= !s->of_others;
    }
    k->bits = HAS_CALL;
    if (code || !row->has_content) return code;
    values v = {.n = 0};
    add_number(&v, row->seq);
    add_bytes(&v, row->content.ptr, row->content.len);
    return send_put(s, "content", &v, err);
}

static int put_intent(pg_store *s, const srn__row *row, srn_err *err) {
    const uint8_t *id = srn__record_id(row->record);
    known *k;
    int code = find_known(s, id, &k, err);
    if (code) return code;
    if (k->bits) return is_there(id, "is in the ledger", err);
    values v = {.n = 0};
    add_bytes(&v, id, SRN_ULID_BYTES);
    add_number(&v, row->seq);
    add_number(&v, s->pg.writer);
    k->bits = HAS_OPEN;
    s->opened++;
    return send_put(s, "intent", &v, err);
}

static bool take_there(void *ctx, const srn__cell *c) {
    (void)c;
    *(bool *)ctx = true;
    return false;
}

static int put_doc(pg_store *s, const srn__row *row, srn_err *err) {
    const srn_ledger_doc *d = row->doc;
    bool there = false;
    srn__sql q;
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "SELECT version FROM docs WHERE collection = ");
    srn__sql_text(&q, srn_str_of(d->collection));
    srn_buf_addz(&q.text, " AND key = ");
    srn__sql_text(&q, srn_str_of(d->key));
    srn_buf_addz(&q.text, " AND version = ");
    srn__sql_number(&q, d->version);
    int code = srn__sql_check(&q, err);
    if (!code) code = srn__pg_ask(&s->pg.head, &q, take_there, &there, err);
    srn__sql_done(&q);
    if (code) return code;
    if (there)
        return srn_fail(err, SRN_EEXIST, "%s '%s' has a version %u already", d->collection, d->key,
                        d->version);
    values v = {.n = 0};
    add_text(&v, d->collection);
    add_text(&v, d->key);
    add_number(&v, d->version);
    add_number(&v, row->seq);
    add_number(&v, row->t_us);
    add_bytes(&v, d->body.ptr, d->body.len);
    return send_put(s, "doc", &v, err);
}

/* Now and then, where a time is in the chain; it counts once it is committed. */
static int put_mark(pg_store *s, const srn__row *row, srn_err *err) {
    uint64_t before_us = s->marking.seq ? s->marking.t_us : s->n_marks ? s->marks[s->n_marks - 1].t_us : 0;
    if (row->t_us < before_us + MARK_US) return SRN_OK;
    values v = {.n = 0};
    add_number(&v, row->seq);
    add_number(&v, row->t_us);
    s->marking = (mark){row->seq, row->t_us};
    return send_put(s, "mark", &v, err);
}

static void keep_mark(pg_store *s) {
    if (!s->marking.seq) return;
    if (s->n_marks == MARKS) memmove(s->marks, s->marks + 1, --s->n_marks * sizeof *s->marks);
    s->marks[s->n_marks++] = s->marking;
}

static int store_put(srn__store *base, const srn__row *row, srn_err *err) {
    pg_store *s = (pg_store *)base;
    if (row->kind == SRN_RECORD_TOMBSTONE && !s->head.turn)
        return srn_fail(err, SRN_EEXIST, "another process drops records of this ledger");
    int code = s->tip.part.last < row->seq ? srn__pg_settle(&s->pg, NULL, NULL, "writing", err) : SRN_OK;
    if (!code) code = ensure_part(s, row->seq, 0, err);
    if (!code && row->kind == SRN_RECORD_CALL) code = put_call(s, row, err);
    if (!code && row->kind == SRN_RECORD_INTENT) code = put_intent(s, row, err);
    if (!code && row->doc) code = put_doc(s, row, err);
    if (!code) code = put_mark(s, row, err);
    if (code) return code;
    s->put_seq = row->seq;
    memcpy(s->put_hash, row->hash, sizeof s->put_hash);
    const uint8_t *id = srn__record_id(row->record);
    values v = {.n = 0};
    add_number(&v, row->seq);
    add_number(&v, row->epoch);
    add_number(&v, (uint64_t)row->kind);
    add_number(&v, row->t_us);
    if (id)
        add_bytes(&v, id, SRN_ULID_BYTES);
    else
        add_null(&v);
    add_bytes(&v, row->body.ptr, row->body.len);
    if (row->has_content)
        add_bytes(&v, row->content_sha, SRN_SHA256_BYTES);
    else
        add_null(&v);
    add_bytes(&v, row->hash, SRN_SHA256_BYTES);
    return send_put(s, "record", &v, err);
}

/* ---- transactions ---- */

static int send_text(pg_store *s, const char *sql, srn_err *err) {
    srn__pg *g = &s->pg;
    bool ok = g->conn && (g->pipeline || PQenterPipelineMode(g->conn));
    g->pipeline = g->pipeline || ok;
    ok = ok && PQsendQueryParams(g->conn, sql, 0, NULL, NULL, NULL, NULL, 1);
    return ok ? SRN_OK : srn__pg_fail(err, g, NULL, "writing");
}

static void store_rollback(srn__store *base) {
    pg_store *s = (pg_store *)base;
    forget_known(s);
    srn__pg_settle(&s->pg, NULL, NULL, "rolling back", NULL);
    if (s->pg.conn && PQtransactionStatus(s->pg.conn) != PQTRANS_IDLE)
        srn__pg_run(&s->pg, "ROLLBACK", "rolling back", NULL);
}

static bool take_begun(void *ctx, const srn__cell *c) {
    enum { LOCK = 1, TIP };
    pg_store *s = ctx;
    if (s->pg.answer > TIP) return take_known(s, c);
    return s->pg.answer == TIP ? srn__pg_take_tip(&s->tip, c) : true;
}

/* What the lock found is the end of the chain until the commit. */
static int take_end(pg_store *s, srn_err *err) {
    int code = srn__pg_check_tip(&s->pg, &s->tip, err);
    if (code) return code;
    if (s->end_seq != UINT64_MAX && s->tip.t.seq < s->end_seq) return is_another(s, err);
    s->end_seq = s->tip.t.seq;
    memcpy(s->end_hash, s->tip.t.hash, sizeof s->end_hash);
    return ensure_part(s, s->end_seq + 1, PART_AHEAD, err);
}

static int begin_once(pg_store *s, srn_err *err) {
    values none = {.n = 0}, from = {.n = 0};
    int code = ensure(s, err);
    s->tip = (srn__pg_tip){0};
    add_number(&from, s->end_seq == UINT64_MAX ? 0 : s->end_seq);
    if (!code) code = send_text(s, "BEGIN", err);
    if (!code) code = send_put(s, "chain", &none, err);
    if (!code) code = send_put(s, "tip", &from, err);
    if (!code && s->n_expected)
        code = send_look(s, (const uint8_t(*)[SRN_ULID_BYTES])s->expected, s->n_expected, err);
    if (!code) code = srn__pg_settle(&s->pg, take_begun, s, "beginning to write", err);
    if (!code) code = take_end(s, err);
    if (code) store_rollback(&s->head);
    return code;
}

/* A connection that the server has closed meanwhile is found out here, where nothing is lost yet. */
static int store_begin(srn__store *base, srn_err *err) {
    pg_store *s = (pg_store *)base;
    bool had = s->ready && s->pg.conn;
    s->opened = 0;
    s->of_others = false;
    s->put_seq = 0;
    s->marking = (mark){0};
    int code = begin_once(s, err);
    if (code && had && !s->pg.conn) code = begin_once(s, err);
    if (code) s->n_expected = 0;
    return code;
}

static int store_commit(srn__store *base, bool *ret_unknown, srn_err *err) {
    pg_store *s = (pg_store *)base;
    *ret_unknown = false;
    int code = send_text(s, "COMMIT", err);
    if (!code) code = srn__pg_settle(&s->pg, NULL, NULL, "committing", err);
    if (!code) {
        base->open += (uint64_t)s->opened;
        if (s->put_seq) {
            s->end_seq = s->put_seq;
            memcpy(s->end_hash, s->put_hash, sizeof s->end_hash);
        }
        keep_mark(s);
        forget_known(s);
        return SRN_OK;
    }
    *ret_unknown = !s->pg.conn && s->put_seq;
    store_rollback(base);
    return code;
}

/* ---- the rest of a store ---- */

static int store_tail(srn__store *base, srn__tail *ret, srn_err *err) {
    pg_store *s = (pg_store *)base;
    int code = ensure(s, err);
    if (!code) code = srn__pg_tail(&s->pg, ret, err);
    if (code) return code;
    s->end_seq = ret->seq;
    memcpy(s->end_hash, ret->hash, sizeof s->end_hash);
    return SRN_OK;
}

static void store_end(const srn__store *base, srn__tail *tail) {
    const srn__tail *t = &((const pg_store *)base)->tip.t;
    tail->seq = t->seq;
    tail->epoch = t->epoch;
    tail->t_us = t->t_us;
    memcpy(tail->hash, t->hash, sizeof tail->hash);
}

/* With the chain's lock, which the transaction in question had until its end. */
static int store_holds(srn__store *base, const srn__tail *t, bool *ret, srn_err *err) {
    static const char what[] = "looking for a commit";
    pg_store *s = (pg_store *)base;
    hash h = {0};
    int code = ensure(s, err);
    if (!code) code = srn__pg_begin(&s->pg, what, err);
    if (!code) code = hash_of(s, t->seq, &h, err);
    if (s->pg.conn && PQtransactionStatus(s->pg.conn) != PQTRANS_IDLE)
        srn__pg_run(&s->pg, "ROLLBACK", what, NULL);
    if (!code) *ret = h.there && memcmp(h.bytes, t->hash, sizeof h.bytes) == 0;
    return code;
}

typedef struct bodies {
    int (*fn)(void *ctx, srn_str body);
    void *ctx;
    int code;
} bodies;

static bool give_body(void *ctx, const srn__cell *c) {
    bodies *b = ctx;
    b->code = b->fn(b->ctx, c[0].text);
    return !b->code;
}

/* ---- those who are gone ---- */

static bool is_gone(const pg_store *s, const missed *m, uint64_t now_us) {
    bool certain = !m->writer || m->writer == s->pg.before; /* whose folder this one has */
    return certain || now_us - m->since_us >= s->o.dead_us;
}

/* "0, 7, 12": the numbers of those who are gone; false: nobody is. */
static bool list_gone(const pg_store *s, srn_buf *ret) {
    uint64_t now_us = srn_now_us();
    for (uint32_t i = 0; i < s->n_missing; i++)
        if (is_gone(s, &s->missing[i], now_us))
            srn_buf_addf(ret, "%s%u", ret->len ? ", " : "", (unsigned)s->missing[i].writer);
    return ret->len > 0 && !ret->failed;
}

typedef struct sweeping {
    missed found[MISSED];
    uint32_t n;
} sweeping;

static bool take_missing(void *ctx, const srn__cell *c) {
    sweeping *w = ctx;
    w->found[w->n++] = (missed){(uint32_t)c[0].number, srn_now_us()};
    return w->n < MISSED;
}

static int store_sweep(srn__store *base, bool *ret_gone, srn_err *err) {
    pg_store *s = (pg_store *)base;
    sweeping w = {.n = 0};
    srn_buf list;
    int code = ensure(s, err);
    if (!code) code = srn__pg_missing(&s->pg, take_missing, &w, err);
    if (code) return code;
    for (uint32_t i = 0; i < w.n; i++)
        for (uint32_t k = 0; k < s->n_missing; k++)
            if (s->missing[k].writer == w.found[i].writer) w.found[i].since_us = s->missing[k].since_us;
    memcpy(s->missing, w.found, sizeof s->missing);
    s->n_missing = w.n;
    srn_buf_init(&list, 1024);
    *ret_gone = list_gone(s, &list);
    srn_buf_done(&list);
    return SRN_OK;
}

/* What they have put since they were missed is seen, for this transaction has the chain. Who is back by then
 * is not gone. */
static int store_open_intents(srn__store *base, int (*fn)(void *ctx, srn_str body), void *ctx, srn_err *err) {
    pg_store *s = (pg_store *)base;
    bodies b = {fn, ctx, SRN_OK};
    srn_buf list, sql;
    bool gone = false;
    srn_buf_init(&list, 1024);
    srn_buf_init(&sql, 4096);
    int code = store_sweep(base, &gone, err);
    gone = gone && list_gone(s, &list);
    srn_buf_addf(
        &sql,
        "SELECT r.body FROM open o JOIN records r ON r.seq = o.seq WHERE o.writer IN (%s) ORDER BY o.seq",
        gone ? list.data : "");
    if (!code && gone) code = srn__pg_ask_text(&s->pg, sql.data, NULL, 0, give_body, &b, err);
    srn_buf_clear(&sql);
    srn_buf_addf(&sql, "DELETE FROM writers WHERE id IN (%s)", gone ? list.data : "");
    if (!code && gone && !b.code) code = srn__pg_run(&s->pg, sql.data, "closing what was open", err);
    s->of_others = true;
    srn_buf_done(&list);
    srn_buf_done(&sql);
    return code ? code : b.code;
}

static int store_turn(srn__store *base, bool take, srn_err *err) {
    static const char lock[] = "SELECT pg_try_advisory_lock($1::integer, 2)::integer",
                      unlock[] = "SELECT pg_advisory_unlock($1::integer, 2)::integer";
    pg_store *s = (pg_store *)base;
    const int64_t class = SRN__PG_LOCK_CLASS;
    uint64_t done = 0;
    int code = ensure(s, err);
    if (code || take == base->turn) return code;
    code = srn__pg_number(&s->pg, take ? lock : unlock, &class, 1, &done, err);
    if (!code) base->turn = take && done;
    return code;
}

static int store_oldest_open(srn__store *base, uint64_t *ret_seq, srn_err *err) {
    pg_store *s = (pg_store *)base;
    int code = ensure(s, err);
    return code ? code
                : srn__pg_number(&s->pg, "SELECT coalesce(min(seq), 0) FROM open", NULL, 0, ret_seq, err);
}

/* Retention asks every second; the answer is kept for a while, unless it drops something. */
static int store_usage(srn__store *base, uint64_t now_us, srn__usage *ret, srn_err *err) {
    pg_store *s = (pg_store *)base;
    uint64_t at_us = srn_now_us();
    int code = SRN_OK;
    if (!s->usage_at_us || at_us - s->usage_at_us >= USAGE_US) {
        code = ensure(s, err);
        if (!code) code = srn__pg_usage(&s->pg, now_us, &s->usage, err);
        s->usage_at_us = code ? 0 : at_us;
    }
    if (!code) *ret = s->usage;
    return code;
}

static int store_newest(srn__store *base, srn_record_kind kind, srn_buf *ret_body, srn_err *err) {
    pg_store *s = (pg_store *)base;
    srn__row row;
    int code = ensure(s, err);
    return code ? code : srn__pg_newest(&s->pg, kind, &row, ret_body, err);
}

typedef struct walking {
    srn__walk_fn *fn;
    void *ctx;
} walking;

static bool walk_on(void *ctx, const srn__cell *c) {
    const walking *w = ctx;
    srn__row row;
    srn__pg_row(c, &row);
    return w->fn(w->ctx, &row, (uint64_t)c[SRN__PG_ROW_CELLS].number);
}

static int store_walk(srn__store *base, uint64_t from, uint32_t limit, srn__walk_fn *fn, void *ctx,
                      srn_err *err) {
    static const char sql[] =
        "SELECT " SRN__PG_ROW_COLUMNS ", (SELECT length(c.bytes)::bigint FROM contents c WHERE c.seq = r.seq)"
        " FROM (SELECT * FROM records WHERE seq >= $1 ORDER BY seq LIMIT $2) r ORDER BY r.seq";
    pg_store *s = (pg_store *)base;
    walking w = {fn, ctx};
    const int64_t numbers[] = {(int64_t)from, limit};
    int code = ensure(s, err);
    return code ? code : srn__pg_ask_text(&s->pg, sql, numbers, 2, walk_on, &w, err);
}

static int store_drop(srn__store *base, uint64_t from, uint64_t to, uint32_t n, uint64_t *ret_next,
                      uint64_t *ret_dropped, srn_err *err) {
    pg_store *s = (pg_store *)base;
    int code = ensure(s, err);
    s->usage_at_us = 0;
    return code ? code : srn__pg_drop(&s->pg, from, to, n, ret_next, ret_dropped, err);
}

/* What parts held is given back with them; the server's own upkeep sees to the rest. */
static int store_shrink(srn__store *base, uint32_t n, uint64_t keep, bool *ret_more, srn_err *err) {
    (void)base, (void)n, (void)keep, (void)err;
    *ret_more = false;
    return SRN_OK;
}

static void store_idle(srn__store *base) {
    (void)base;
}

static void store_close(srn__store *base) {
    pg_store *s = (pg_store *)base;
    if (!s) return;
    srn__pg_leave(&s->pg);
    srn__pg_close(&s->pg);
    free(s);
}

static const srn__store_ops postgres_ops = {
    .tail = store_tail,
    .holds = store_holds,
    .end = store_end,
    .expect = store_expect,
    .begin = store_begin,
    .put = store_put,
    .commit = store_commit,
    .rollback = store_rollback,
    .open_intents = store_open_intents,
    .oldest_open = store_oldest_open,
    .sweep = store_sweep,
    .turn = store_turn,
    .usage = store_usage,
    .newest = store_newest,
    .walk = store_walk,
    .drop = store_drop,
    .shrink = store_shrink,
    .idle = store_idle,
    .close = store_close,
};

int srn__postgres_open(const srn__home *p, const srn__sharing *o, srn__store **ret, srn_err *err) {
    pg_store *s = srn_calloc(1, sizeof *s);
    if (!s) return srn_fail_nomem(err, sizeof *s);
    s->head.ops = &postgres_ops;
    s->end_seq = UINT64_MAX;
    s->seed = srn_hash_seed();
    s->o = *o;
    srn__pg_init(&s->pg, p, true, o->answer_us);
    int code = connect_store(s, err);
    if (code) {
        store_close(&s->head);
        return code;
    }
    s->head.db = &s->pg.head;
    *ret = &s->head;
    return SRN_OK;
}
