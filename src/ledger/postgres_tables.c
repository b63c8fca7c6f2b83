/* The tables of a ledger in PostgreSQL, and how they are split. Records, contents and calls are partitioned
 * by ranges of sequence numbers; since times never go back along the chain each range is a span of time, and
 * a new one is made, about a day long at the rate of the one before, before the records reach it. What
 * retention drops goes by whole ranges where all of one goes; the events among them move into the first
 * partition, which holds nothing else. Used by the writer on its connection. A partition is made beside the
 * others and then attached, which lets readers read on.
 */
#include <inttypes.h>

#include "ledger/postgres_internal.h"

enum { LEAST_RECORDS = 8192, MOST_RECORDS = 1 << 20, FIRST_RECORDS = 32768 };
#define DAY_US UINT64_C(86400000000)

/* Texts sort by their bytes, as in SQLite. No index holds a text that a client could make long. */
#define TEXT " text COLLATE \"C\" NOT NULL"
static const char schema[] =
    "CREATE TABLE meta(one integer PRIMARY KEY CHECK (one = 1), format bigint NOT NULL,"
    " instance bytea NOT NULL, part_records bigint NOT NULL DEFAULT 0);"
    "CREATE TABLE epochs(epoch bigint PRIMARY KEY, first_seq bigint NOT NULL, parent bytea,"
    " t_us bigint NOT NULL);"
    "CREATE TABLE parts(first bigint PRIMARY KEY, last bigint NOT NULL, made_us bigint NOT NULL);"
    "CREATE TABLE marks(seq bigint PRIMARY KEY, t_us bigint NOT NULL);"
    "CREATE TABLE records(seq bigint PRIMARY KEY, epoch bigint NOT NULL, kind bigint NOT NULL,"
    " t_us bigint NOT NULL, call bytea, body" TEXT ", content_sha bytea, hash bytea NOT NULL)"
    " PARTITION BY RANGE (seq);"
    "CREATE INDEX records_kind ON records(kind, seq) WHERE kind > 2;"
    "CREATE INDEX records_feedback ON records(call, seq) WHERE kind = 4;"
    "CREATE TABLE contents(seq bigint PRIMARY KEY, bytes bytea NOT NULL) PARTITION BY RANGE (seq);"
    "ALTER TABLE contents ALTER bytes SET STORAGE EXTERNAL;"
    "CREATE TABLE calls(seq bigint PRIMARY KEY, id bytea NOT NULL, begun_us bigint NOT NULL,"
    " status bigint NOT NULL, finish" TEXT ", error" TEXT ", endpoint" TEXT ", route" TEXT ", key" TEXT
    ", tenant" TEXT ", conversation" TEXT ", model" TEXT ", weights" TEXT ", quantisation" TEXT
    ", config" TEXT ", prompt" TEXT ", version bigint NOT NULL, prompt_hash" TEXT ", experiment" TEXT
    ", arm" TEXT ", n_input bigint NOT NULL, n_cached bigint NOT NULL, n_output bigint NOT NULL, n_reasoning "
    "bigint NOT NULL,"
    " queue_us bigint NOT NULL, ttft_us bigint NOT NULL, total_us bigint NOT NULL, itl_us bigint NOT NULL,"
    " itl_max_us bigint NOT NULL, streamed bigint NOT NULL) PARTITION BY RANGE (seq);"
    "CREATE INDEX calls_id ON calls(id);"
    "CREATE INDEX calls_begun ON calls(begun_us, seq);"
    "CREATE INDEX calls_errors ON calls(begun_us, seq) WHERE status >= 400;"
    "CREATE TABLE open(id bytea PRIMARY KEY, seq bigint NOT NULL);"
    "CREATE TABLE docs(collection" TEXT ", key" TEXT ", version bigint NOT NULL, seq bigint NOT NULL UNIQUE,"
    " t_us bigint NOT NULL, body" TEXT ", PRIMARY KEY(collection, key, version));"
    "CREATE TABLE rollup_dims(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, model" TEXT ", weights" TEXT
    ", quantisation" TEXT ", prompt" TEXT ", version bigint NOT NULL, experiment" TEXT ", arm" TEXT
    ", endpoint" TEXT ", route" TEXT ", status bigint NOT NULL, finish" TEXT ", error" TEXT ");"
    "CREATE TABLE rollups(span bigint NOT NULL, start bigint NOT NULL, dim bigint NOT NULL,"
    " sums bytea NOT NULL, PRIMARY KEY(span, start, dim));"
    "CREATE TABLE rollup_mark(one integer PRIMARY KEY CHECK (one = 1), seq bigint NOT NULL);"
    "INSERT INTO rollup_mark VALUES(1, 0);"
    "CREATE TABLE records_kept PARTITION OF records FOR VALUES FROM (MINVALUE) TO (1);"
    "INSERT INTO epochs(epoch, first_seq, parent, t_us) VALUES(1, 1, NULL,"
    " (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)";

static const char *const split[] = {"records", "contents", "calls"};

/* ---- transactions ---- */

/* Ends a transaction of this file: commits it, or after a failure takes it back. Whether a commit without an
 * answer is stored need not be known: what these do is looked at again, and done again. */
static int end(srn__pg *g, int code, const char *what, srn_err *err) {
    if (!code) return srn__pg_run(g, "COMMIT", what, err);
    if (g->conn) srn__pg_run(g, "ROLLBACK", what, NULL);
    return code;
}

static int run_text(srn__pg *g, srn_buf *sql, const char *what, srn_err *err) {
    int code = sql->failed ? srn_fail_nomem(err, sql->len) : srn__pg_run(g, sql->data, what, err);
    srn_buf_clear(sql);
    return code;
}

int srn__pg_create(srn__pg *g, srn_err *err) {
    static const char what[] = "making its tables";
    char sql[160];
    uint64_t there = 0;
    int code =
        srn__pg_number(g, "SELECT (to_regnamespace('serin') IS NOT NULL)::integer", NULL, 0, &there, err);
    if (!code) code = srn__pg_run(g, "BEGIN", what, err);
    if (code) return code;
    if (!there) code = srn__pg_run(g, "CREATE SCHEMA serin", what, err);
    if (!code) code = srn__pg_run(g, schema, what, err);
    snprintf(sql, sizeof sql,
             "INSERT INTO meta(one, format, instance) VALUES(1, %d, uuid_send(gen_random_uuid()))",
             SRN__PG_FORMAT);
    if (!code) code = srn__pg_run(g, sql, what, err);
    return end(g, code, what, err);
}

/* ---- making partitions ---- */

static bool take_part(void *ctx, const srn__cell *c) {
    *(srn__pg_part *)ctx =
        (srn__pg_part){(uint64_t)c[0].number, (uint64_t)c[1].number, (uint64_t)c[2].number};
    return false;
}

int srn__pg_newest_part(srn__pg *g, srn__pg_part *ret, srn_err *err) {
    *ret = (srn__pg_part){0};
    return srn__pg_ask_text(g, "SELECT first, last, made_us FROM parts ORDER BY first DESC LIMIT 1", NULL, 0,
                            take_part, ret, err);
}

/* Records that come in about a day, as far as the newest part tells; meta.part_records says otherwise. */
static uint64_t day_of_records(const srn__pg_part *newest, uint64_t seq, uint64_t now_us) {
    if (!newest->first || seq <= newest->first || now_us <= newest->made_us) return FIRST_RECORDS;
    double a_day = (double)(seq - newest->first) * (double)DAY_US / (double)(now_us - newest->made_us);
    return a_day < LEAST_RECORDS ? LEAST_RECORDS : a_day > MOST_RECORDS ? MOST_RECORDS : (uint64_t)a_day;
}

int srn__pg_add_part(srn__pg *g, const srn__pg_part *newest, uint64_t seq, srn__pg_part *ret, srn_err *err) {
    static const char what[] = "making room for more records";
    uint64_t now_us = srn_unix_us(), n = 0;
    srn__pg_part p = {newest->first ? newest->last + 1 : seq, 0, now_us};
    srn_buf sql;
    int code = srn__pg_number(g, "SELECT part_records FROM meta", NULL, 0, &n, err);
    if (code) return code;
    p.last = p.first + (n ? n : day_of_records(newest, seq, now_us)) - 1;
    bool within = PQtransactionStatus(g->conn) != PQTRANS_IDLE;
    if (!within) code = srn__pg_run(g, "BEGIN", what, err);
    srn_buf_init(&sql, 1 << 16);
    for (size_t i = 0; i < SRN_LEN(split) && !code; i++) {
        srn_buf_addf(&sql,
                     "CREATE TABLE %s_%" PRIu64 "(LIKE %s INCLUDING ALL);"
                     "ALTER TABLE %s ATTACH PARTITION %s_%" PRIu64 " FOR VALUES FROM (%" PRIu64
                     ") TO (%" PRIu64 ")",
                     split[i], p.first, split[i], split[i], split[i], p.first, p.first, p.last + 1);
        code = run_text(g, &sql, what, err);
    }
    srn_buf_addf(&sql, "INSERT INTO parts VALUES(%" PRIu64 ", %" PRIu64 ", %" PRIu64 ")", p.first, p.last,
                 p.made_us);
    if (!code) code = run_text(g, &sql, what, err);
    srn_buf_done(&sql);
    if (!within) code = end(g, code, what, err);
    if (!code) *ret = p;
    return code;
}

/* ---- dropping ---- */

/* The first partition takes the events of the part, and its range. */
static int move_events(srn__pg *g, const srn__pg_part *p, srn_err *err) {
    srn_buf sql;
    srn_buf_init(&sql, 1 << 16);
    srn_buf_addf(&sql,
                 "ALTER TABLE records DETACH PARTITION records_kept;"
                 "ALTER TABLE records DETACH PARTITION records_%" PRIu64 ";"
                 "INSERT INTO records_kept SELECT * FROM records_%" PRIu64 " WHERE kind = 3 AND kind > 2;"
                 "ALTER TABLE records ATTACH PARTITION records_kept FOR VALUES FROM (MINVALUE) TO (%" PRIu64
                 ");"
                 "DROP TABLE records_%" PRIu64 ", contents_%" PRIu64 ", calls_%" PRIu64 ";"
                 "DELETE FROM parts WHERE first = %" PRIu64,
                 p->first, p->first, p->last + 1, p->first, p->first, p->first, p->first);
    int code = run_text(g, &sql, "dropping old records", err);
    srn_buf_done(&sql);
    return code;
}

/* Nothing here reads the part's bodies, so that it does not take longer than the server may for an answer:
 * the records are counted by their key, and the events by the index of kinds. */
static int drop_part(srn__pg *g, const srn__pg_part *p, uint64_t *ret_dropped, srn_err *err) {
    static const char what[] = "dropping old records";
    static const char count[] =
        "SELECT (SELECT count(*) FROM records WHERE seq BETWEEN $1 AND $2)"
        " - (SELECT count(*) FROM records WHERE seq BETWEEN $1 AND $2 AND kind = 3 AND kind > 2)";
    const int64_t range[] = {(int64_t)p->first, (int64_t)p->last};
    int code = srn__pg_run(g, "BEGIN", what, err);
    if (code) return code;
    code = srn__pg_number(g, count, range, 2, ret_dropped, err);
    if (!code) code = move_events(g, p, err);
    return end(g, code, what, err);
}

static int delete_some(srn__pg *g, uint64_t from, uint64_t to, uint64_t *ret_dropped, srn_err *err) {
    static const char what[] = "dropping old records";
    const int64_t range[] = {(int64_t)from, (int64_t)to};
    int code = srn__pg_run(g, "BEGIN", what, err);
    if (code) return code;
    code = srn__pg_ask_text(g, "DELETE FROM contents WHERE seq BETWEEN $1 AND $2", range, 2, NULL, NULL, err);
    if (!code)
        code =
            srn__pg_ask_text(g, "DELETE FROM calls WHERE seq BETWEEN $1 AND $2", range, 2, NULL, NULL, err);
    if (!code)
        code = srn__pg_number(g,
                              "WITH gone AS (DELETE FROM records WHERE seq BETWEEN $1 AND $2 AND kind <> 3"
                              " RETURNING 1) SELECT count(*) FROM gone",
                              range, 2, ret_dropped, err);
    return end(g, code, what, err);
}

int srn__pg_drop(srn__pg *g, uint64_t from, uint64_t to, uint32_t n, uint64_t *ret_next,
                 uint64_t *ret_dropped, srn_err *err) {
    srn__pg_part oldest = {0};
    const int64_t range[] = {(int64_t)from, (int64_t)to};
    uint64_t first = 0;
    *ret_next = *ret_dropped = 0;
    int code = srn__pg_ask_text(g, "SELECT first, last, made_us FROM parts ORDER BY first LIMIT 1", NULL, 0,
                                take_part, &oldest, err);
    if (code) return code;
    if (oldest.first && oldest.last <= to) {
        code = drop_part(g, &oldest, ret_dropped, err);
        if (!code) *ret_next = SRN_MAX(from, oldest.last + 1);
        if (!code && *ret_next > to) *ret_next = 0;
        return code;
    }
    code = srn__pg_number(
        g, "SELECT seq FROM records WHERE seq BETWEEN $1 AND $2 AND kind <> 3 ORDER BY seq LIMIT 1", range, 2,
        &first, err);
    if (code || !first) return code;
    uint64_t last = to - first < n ? to : first + n - 1;
    code = delete_some(g, first, last, ret_dropped, err);
    if (!code) *ret_next = last < to ? last + 1 : 0;
    return code;
}
