/* PostgreSQL as a source: what readers and verify ask of it, a statement each; the writer asks some of it
 * too. A source belongs to its reader's thread and has a connection of its own, which is made again where it
 * was lost between two questions.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "ledger/postgres_internal.h"

/* ---- rows ---- */

static void copy_bytes(const srn__cell *c, uint8_t *ret, size_t n) {
    memset(ret, 0, n);
    memcpy(ret, c->text.ptr, SRN_MIN(c->text.len, n));
}

void srn__pg_row(const srn__cell *c, srn__row *ret) {
    *ret = (srn__row){.seq = (uint64_t)c[0].number,
                      .epoch = (uint64_t)c[1].number,
                      .kind = (srn_record_kind)c[2].number,
                      .t_us = (uint64_t)c[3].number,
                      .body = c[4].text,
                      .has_content = !c[5].is_null};
    copy_bytes(&c[5], ret->content_sha, sizeof ret->content_sha);
    copy_bytes(&c[6], ret->hash, sizeof ret->hash);
}

/* ---- the end of the chain ---- */

const char srn__pg_tip_sql[] =
    "SELECT m.instance, e.epoch, e.first_seq, e.parent, r.seq, r.epoch, r.t_us, r.hash, p.first, p.last,"
    " p.made_us FROM meta m CROSS JOIN (SELECT * FROM epochs ORDER BY epoch DESC LIMIT 1) e LEFT JOIN"
    " (SELECT seq, epoch, t_us, hash FROM records WHERE seq >= $1 ORDER BY seq DESC LIMIT 1) r ON true LEFT "
    "JOIN"
    " (SELECT * FROM parts ORDER BY first DESC LIMIT 1) p ON true";

bool srn__pg_take_tip(void *ctx, const srn__cell *c) {
    srn__pg_tip *t = ctx;
    copy_bytes(&c[0], t->t.instance, sizeof t->t.instance);
    t->t.epoch = (uint64_t)c[1].number;
    t->first_seq = (uint64_t)c[2].number;
    t->has_parent = c[3].text.len == sizeof t->parent;
    copy_bytes(&c[3], t->parent, sizeof t->parent);
    t->begun = !c[4].is_null && (uint64_t)c[5].number == t->t.epoch;
    t->t.seq = (uint64_t)c[4].number;
    t->t.t_us = (uint64_t)c[6].number;
    copy_bytes(&c[7], t->t.hash, sizeof t->t.hash);
    t->part = (srn__pg_part){(uint64_t)c[8].number, (uint64_t)c[9].number, (uint64_t)c[10].number};
    t->there = true;
    return false;
}

int srn__pg_check_tip(const srn__pg *g, srn__pg_tip *t, srn_err *err) {
    if (!t->there) return srn_fail(err, SRN_EFORMAT, "%s: its epoch is missing", g->at->name);
    if (t->begun) return SRN_OK;
    t->t.seq = t->first_seq - 1;
    if (srn__chain_start(t->t.instance, t->t.epoch, t->has_parent ? t->parent : NULL, t->t.hash))
        return srn_fail_nomem(err, 0);
    return SRN_OK;
}

int srn__pg_tail(srn__pg *g, srn__tail *ret, srn_err *err) {
    srn__pg_tip t = {0};
    const int64_t any = 0;
    int code = srn__pg_ask_text(g, srn__pg_tip_sql, &any, 1, srn__pg_take_tip, &t, err);
    if (!code) code = srn__pg_check_tip(g, &t, err);
    if (!code) *ret = t.t;
    return code;
}

/* ---- one record ---- */

typedef struct taken {
    srn__row *row;
    srn_buf *body;
    bool there;
} taken;

static bool take_row(void *ctx, const srn__cell *c) {
    taken *t = ctx;
    srn__pg_row(c, t->row);
    srn_buf_clear(t->body);
    srn_buf_add(t->body, t->row->body.ptr, t->row->body.len);
    t->row->body = (srn_str){t->body->data, t->body->len};
    t->there = true;
    return false;
}

/* A statement that gives one record; SRN_ENOENT: it gave none, and the sentence is the caller's. */
static int one_row(srn__pg *g, const srn__sql *q, srn__row *ret_row, srn_buf *ret_body, srn_err *err) {
    taken t = {ret_row, ret_body, false};
    int code = srn__sql_check(q, err);
    if (!code) code = srn__pg_ask(&g->head, q, take_row, &t, err);
    if (!code && t.body->failed) code = srn_fail_nomem(err, 0);
    return code || t.there ? code : SRN_ENOENT;
}

/* Kinds past CALL have an index of their own, which the planner takes only where its condition is repeated.
 */
static void select_kind(srn__sql *q, srn_record_kind kind) {
    srn__sql_init(q);
    srn_buf_addf(&q->text, "SELECT " SRN__PG_ROW_COLUMNS " FROM records r WHERE r.kind = %d%s", (int)kind,
                 kind > SRN_RECORD_CALL ? " AND r.kind > 2" : "");
}

int srn__pg_newest(srn__pg *g, srn_record_kind kind, srn__row *ret_row, srn_buf *ret_body, srn_err *err) {
    srn__sql q;
    select_kind(&q, kind);
    srn_buf_addz(&q.text, " ORDER BY r.seq DESC LIMIT 1");
    int code = one_row(g, &q, ret_row, ret_body, err);
    srn__sql_done(&q);
    if (code != SRN_ENOENT) return code;
    return srn_fail(err, code, "the ledger has no record of kind %d", (int)kind);
}

/* ---- how much room it takes ---- */

/* Sizes are those of the files. Of the oldest part some records may be gone whose room is not given back
 * before the rest of it goes, but filled again by nobody: it is counted as free. */
int srn__pg_usage(srn__pg *g, uint64_t now_us, srn__usage *ret, srn_err *err) {
    static const char all_sql[] = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class"
                                  " WHERE relnamespace = 'serin'::regnamespace AND relkind = 'r'";
    static const char oldest_sql[] =
        "SELECT (coalesce(sum(pg_total_relation_size(to_regclass(t || first))), 0)"
        " * least(1.0, greatest(0, $1 - first) / (least(last, $2) - first + 1.0)))::bigint"
        " FROM (SELECT first, last FROM parts ORDER BY first LIMIT 1) p,"
        " (VALUES ('records_'), ('contents_'), ('calls_')) v(t) GROUP BY first, last";
    srn__usage u = {.free_bytes = SRN_LEDGER_FREE_UNKNOWN};
    uint64_t gone = 0;
    int code = srn__usage_count(&g->head, now_us, &u, err);
    const int64_t range[] = {(int64_t)u.first, (int64_t)u.last};
    if (!code) code = srn__pg_number(g, all_sql, NULL, 0, &u.disk_bytes, err);
    if (!code && u.last) code = srn__pg_number(g, oldest_sql, range, 2, &gone, err);
    if (code) return code;
    u.used_bytes = u.disk_bytes - SRN_MIN(u.disk_bytes, gone);
    *ret = u;
    return SRN_OK;
}

/* ---- the source ---- */

typedef struct pg_source {
    srn__source head;
    srn__pg pg;
} pg_source;

static srn__pg *pg_of(srn__source *base) {
    return &((pg_source *)base)->pg;
}

static int source_tail(srn__source *base, srn__tail *ret, srn_err *err) {
    return srn__pg_tail(pg_of(base), ret, err);
}

static int source_call(srn__source *base, const uint8_t id[16], srn__row *ret_row, srn_buf *ret_body,
                       srn_err *err) {
    srn__sql q;
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "SELECT " SRN__PG_ROW_COLUMNS " FROM records r WHERE r.seq ="
                          " coalesce((SELECT seq FROM calls WHERE id = ");
    srn__sql_bytes(&q, (srn_str){(const char *)id, SRN_ULID_BYTES});
    srn_buf_addz(&q.text, "), (SELECT seq FROM open WHERE id = $1))");
    int code = one_row(pg_of(base), &q, ret_row, ret_body, err);
    srn__sql_done(&q);
    if (code != SRN_ENOENT) return code;
    char text[SRN_ULID_CHARS + 1];
    srn_ulid_format(id, text);
    return srn_fail(err, code, "there is no call %s in the ledger; `serin calls list` shows them", text);
}

static int source_newest(srn__source *base, srn_record_kind kind, srn__row *ret_row, srn_buf *ret_body,
                         srn_err *err) {
    return srn__pg_newest(pg_of(base), kind, ret_row, ret_body, err);
}

typedef struct content {
    srn_buf *to;
    bool there;
} content;

static bool take_content(void *ctx, const srn__cell *c) {
    content *t = ctx;
    srn_buf_clear(t->to);
    srn_buf_add(t->to, c[0].text.ptr, c[0].text.len);
    t->there = true;
    return false;
}

static int source_content(srn__source *base, uint64_t seq, srn_buf *ret, srn_err *err) {
    content t = {ret, false};
    const int64_t at = (int64_t)seq;
    int code = srn__pg_ask_text(pg_of(base), "SELECT bytes FROM contents WHERE seq = $1", &at, 1,
                                take_content, &t, err);
    if (!code && ret->failed) code = srn_fail_nomem(err, 0);
    if (!code && !t.there) code = srn_fail(err, SRN_ENOENT, "record %" PRIu64 " has no content", seq);
    return code;
}

typedef struct giving { /* records, one by one, to whoever asked */
    bool (*fn)(void *ctx, const srn_stored *r);
    void *ctx;
} giving;

static bool give_record(void *ctx, const srn__cell *c) {
    const giving *s = ctx;
    srn__row row;
    srn__pg_row(c, &row);
    return s->fn(s->ctx, &(srn_stored){row.seq, row.t_us, row.kind, row.body, row.has_content});
}

static int source_records(srn__source *base, srn_record_kind kind, uint64_t from,
                          bool (*fn)(void *ctx, const srn_stored *r), void *ctx, srn_err *err) {
    srn__sql q;
    giving s = {fn, ctx};
    select_kind(&q, kind);
    srn_buf_addz(&q.text, " AND r.seq >= ");
    srn__sql_number(&q, (int64_t)from);
    srn_buf_addz(&q.text, " ORDER BY r.seq");
    int code = srn__sql_check(&q, err);
    if (!code) code = srn__pg_ask(base->db, &q, give_record, &s, err);
    srn__sql_done(&q);
    return code;
}

typedef struct documents {
    bool (*fn)(void *ctx, const srn_ledger_doc *d, uint64_t t_us);
    void *ctx;
} documents;

static bool give_doc(void *ctx, const srn__cell *c) {
    const documents *s = ctx;
    srn_ledger_doc d = {c[0].text.ptr, c[1].text.ptr, (uint32_t)c[2].number, c[3].text};
    return s->fn(s->ctx, &d, (uint64_t)c[4].number);
}

static int source_docs(srn__source *base, const char *collection, const char *key,
                       bool (*fn)(void *ctx, const srn_ledger_doc *d, uint64_t t_us), void *ctx,
                       srn_err *err) {
    srn__sql q;
    documents s = {fn, ctx};
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "SELECT collection, key, version, body, t_us FROM docs WHERE collection = ");
    srn__sql_text(&q, srn_str_of(collection));
    if (key) {
        srn_buf_addz(&q.text, " AND key = ");
        srn__sql_text(&q, srn_str_of(key));
    }
    srn_buf_addz(&q.text, " ORDER BY key, version");
    int code = srn__sql_check(&q, err);
    if (!code) code = srn__pg_ask(base->db, &q, give_doc, &s, err);
    srn__sql_done(&q);
    return code;
}

/* ---- for verifying ---- */

typedef struct scan {
    srn__checked_fn *fn;
    void *ctx;
    bool beside;
    uint32_t n;
} scan;

enum { BYTES_AT = SRN__PG_ROW_CELLS, SEQ_AT, DOC_AT, CALL_AT = DOC_AT + 4 };

static bool give_checked(void *ctx, const srn__cell *c) {
    scan *s = ctx;
    srn__checked k = {0};
    srn_call_row call;
    srn_ledger_doc doc;
    srn__pg_row(c, &k.row);
    s->n++;
    if (s->beside) {
        k.has_bytes = !c[BYTES_AT].is_null;
        k.bytes = c[BYTES_AT].text;
        if (!c[SEQ_AT].is_null) {
            srn__call_cells(c + CALL_AT, &call);
            k.call = &call;
        }
        if (!c[DOC_AT].is_null) {
            doc = (srn_ledger_doc){c[DOC_AT].text.ptr, c[DOC_AT + 1].text.ptr, (uint32_t)c[DOC_AT + 2].number,
                                   c[DOC_AT + 3].text};
            k.doc = &doc;
        }
    }
    return s->fn(s->ctx, &k);
}

/* The last record is found first: bounds on every table keep a join from reading more of it. */
static int source_scan(srn__source *base, uint64_t from, uint32_t limit, bool beside, srn__checked_fn *fn,
                       void *ctx, uint32_t *ret_n, srn_err *err) {
    static const char end_sql[] =
        "SELECT coalesce(max(seq), 0) FROM (SELECT seq FROM records WHERE seq >= $1 ORDER BY seq LIMIT $2) x";
    static const char scan_sql[] =
        "SELECT " SRN__PG_ROW_COLUMNS " FROM records r WHERE r.seq BETWEEN $1 AND $2 ORDER BY r.seq";
    srn__pg *g = pg_of(base);
    scan s = {.fn = fn, .ctx = ctx, .beside = beside};
    int64_t range[2] = {(int64_t)from, limit};
    uint64_t last = 0;
    srn_buf sql;
    int code = srn__pg_number(g, end_sql, range, 2, &last, err);
    if (code) return code;
    range[1] = (int64_t)last;
    srn_buf_init(&sql, 1 << 14);
    if (!beside)
        srn_buf_addz(&sql, scan_sql);
    else
        srn_buf_addf(&sql,
                     "SELECT " SRN__PG_ROW_COLUMNS
                     ", c.bytes, k.seq, collection, d_key, d_version, d_body, %s FROM records r"
                     " LEFT JOIN (SELECT * FROM contents WHERE seq BETWEEN $1 AND $2) c ON c.seq = r.seq"
                     " LEFT JOIN (SELECT * FROM calls WHERE seq BETWEEN $1 AND $2) k ON k.seq = r.seq"
                     " LEFT JOIN (SELECT seq AS d_seq, collection, key AS d_key, version AS d_version,"
                     "  body AS d_body FROM docs WHERE seq BETWEEN $1 AND $2) d"
                     "  ON d_seq = r.seq AND r.kind = 3"
                     " WHERE r.seq BETWEEN $1 AND $2 ORDER BY r.seq",
                     srn__call_columns);
    code =
        sql.failed ? srn_fail_nomem(err, 0) : srn__pg_ask_text(g, sql.data, range, 2, give_checked, &s, err);
    srn_buf_done(&sql);
    if (!code) *ret_n = s.n;
    return code;
}

typedef struct epoch {
    uint64_t first;
    bool has_parent, there;
    uint8_t parent[SRN_SHA256_BYTES];
} epoch;

static bool take_epoch(void *ctx, const srn__cell *c) {
    epoch *e = ctx;
    e->first = (uint64_t)c[0].number;
    e->has_parent = c[1].text.len == sizeof e->parent;
    copy_bytes(&c[1], e->parent, sizeof e->parent);
    e->there = true;
    return false;
}

static int source_epoch(srn__source *base, uint64_t number, uint64_t *ret_first, bool *ret_has_parent,
                        uint8_t ret_parent[SRN_SHA256_BYTES], srn_err *err) {
    epoch e = {0};
    const int64_t at = (int64_t)number;
    int code = srn__pg_ask_text(pg_of(base), "SELECT first_seq, parent FROM epochs WHERE epoch = $1", &at, 1,
                                take_epoch, &e, err);
    if (!code && !e.there) code = srn_fail(err, SRN_ENOENT, "the ledger has no epoch %" PRIu64, number);
    if (code) return code;
    *ret_first = e.first;
    *ret_has_parent = e.has_parent;
    memcpy(ret_parent, e.parent, sizeof e.parent);
    return SRN_OK;
}

static int source_stray(srn__source *base, uint64_t *ret_seq, srn_err *err) {
    static const char sql[] =
        "SELECT coalesce(min(seq), 0) FROM ("
        " SELECT min(k.seq) AS seq FROM calls k LEFT JOIN records r ON r.seq = k.seq AND r.kind = 2"
        "  WHERE r.seq IS NULL"
        " UNION ALL SELECT min(c.seq) FROM contents c LEFT JOIN records r ON r.seq = c.seq WHERE r.seq IS "
        "NULL"
        " UNION ALL SELECT min(d.seq) FROM docs d LEFT JOIN records r ON r.seq = d.seq AND r.kind = 3"
        "  WHERE r.seq IS NULL) x";
    return srn__pg_number(pg_of(base), sql, NULL, 0, ret_seq, err);
}

static int source_usage(srn__source *base, uint64_t now_us, srn__usage *ret, srn_err *err) {
    return srn__pg_usage(pg_of(base), now_us, ret, err);
}

static void source_close(srn__source *base) {
    pg_source *s = (pg_source *)base;
    if (!s) return;
    srn__pg_close(&s->pg);
    free(s);
}

static int source_snapshot(srn__db *db, bool begin, srn_err *err) {
    srn__pg *g = (srn__pg *)db;
    return srn__pg_run(g, begin ? "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" : "COMMIT", "asking it",
                       err);
}

static const srn__source_ops postgres_ops = {
    .tail = source_tail,
    .call = source_call,
    .newest = source_newest,
    .scan = source_scan,
    .usage = source_usage,
    .epoch = source_epoch,
    .stray = source_stray,
    .content = source_content,
    .records = source_records,
    .docs = source_docs,
    .close = source_close,
};

int srn__postgres_source(const srn__home *p, srn__source **ret, srn_err *err) {
    pg_source *s = srn_calloc(1, sizeof *s);
    if (!s) return srn_fail_nomem(err, sizeof *s);
    s->head.ops = &postgres_ops;
    uint32_t question_ms = p->question_ms ? p->question_ms : SRN__PG_QUESTION_MS;
    srn__pg_init(&s->pg, p, false, (uint64_t)(question_ms + SRN__PG_GRACE_MS) * 1000);
    int code = srn__pg_connect(&s->pg, err);
    if (code) {
        source_close(&s->head);
        return code;
    }
    s->pg.head.snapshot = source_snapshot;
    s->head.db = &s->pg.head;
    *ret = &s->head;
    return SRN_OK;
}
