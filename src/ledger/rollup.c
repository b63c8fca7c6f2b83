/* Roll-ups: for every minute and every hour, and every combination of model, weights, prompt, version, arm,
 * endpoint, route and outcome that had calls in it, what these add up to. The writer calls
 * srn__rollup_advance now and then, in a transaction, and it adds the calls behind a high-water mark that it
 * stores with them; readers add the calls after the mark themselves. So they are right after a crash, may lag
 * behind as it suits the writer, and can be made anew from the calls at any time.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "ledger/query_internal.h"

enum { MAX_SUMS = 1 << 20, HOUR = 3600, N_SPANS = 2 };
static const uint32_t spans[N_SPANS] = {60, HOUR}; /* seconds */

/* start: Unix seconds, a multiple of span. */
const char srn__rollup_schema[] =
    "CREATE TABLE rollup_dims(id INTEGER PRIMARY KEY, model TEXT NOT NULL, weights TEXT NOT NULL,"
    " quantisation TEXT NOT NULL, prompt TEXT NOT NULL, version INTEGER NOT NULL, experiment TEXT NOT NULL,"
    " arm TEXT NOT NULL, endpoint TEXT NOT NULL, route TEXT NOT NULL, status INTEGER NOT NULL,"
    " finish TEXT NOT NULL, error TEXT NOT NULL, UNIQUE(model, weights, quantisation, prompt, version,"
    " experiment, arm, endpoint, route, status, finish, error)) STRICT;"
    "CREATE TABLE rollups(span INTEGER NOT NULL, start INTEGER NOT NULL, dim INTEGER NOT NULL,"
    " sums BLOB NOT NULL, PRIMARY KEY(span, start, dim)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE rollup_mark(one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL) STRICT;"
    "INSERT INTO rollup_mark VALUES(1, 0);";

typedef struct roller {
    srn__db *db;
    srn__groups groups[N_SPANS];
    uint64_t last_seq;
    uint32_t n;
    int code;
    srn_err *err;
} roller;

/* ---- from calls to sums in memory ---- */

static bool add_call(void *ctx, const srn__cell *cells) {
    roller *r = ctx;
    srn_call_row row;
    srn__values v;
    srn__call_cells(cells, &row);
    srn__call_values(&row, &v);
    for (int i = 0; i < N_SPANS && !r->code; i++) {
        uint64_t seconds = row.begun_us / 1000000;
        srn__group *g = NULL;
        r->code = srn__groups_get(&r->groups[i], seconds - seconds % spans[i], v.list, &g, r->err);
        if (!r->code && !srn__sums_call(&g->sums, &row)) r->code = srn_fail_nomem(r->err, sizeof *g);
    }
    r->last_seq = (uint64_t)cells[SRN__CALL_CELLS].number;
    r->n++;
    return !r->code;
}

/* ---- from memory to the tables ---- */

static bool take_number(void *ctx, const srn__cell *cells) {
    *(int64_t *)ctx = cells[0].number;
    return false;
}

static void bind_value(srn__sql *q, int b, const char *value) {
    if (srn__bys[b].number)
        srn__sql_number(q, strtoll(value, NULL, 10));
    else
        srn__sql_text(q, srn_str_of(value));
}

static int ask(srn__db *db, srn__sql *q, srn__cells_fn *fn, void *ctx, srn_err *err) {
    int code = srn__sql_check(q, err);
    if (!code) code = db->ask(db, q, fn, ctx, err);
    srn__sql_done(q);
    return code;
}

static int find_dim(srn__db *db, const srn__group *g, int64_t *ret, srn_err *err) {
    srn__sql q;
    *ret = 0;
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "SELECT id FROM rollup_dims WHERE 1 = 1");
    for (int b = 0; b < SRN__N_ROLLED; b++) {
        srn_buf_addf(&q.text, " AND %s = ", srn__bys[b].column);
        bind_value(&q, b, g->values[b]);
    }
    return ask(db, &q, take_number, ret, err);
}

static int dim_of(srn__db *db, const srn__group *g, int64_t *ret, srn_err *err) {
    int code = find_dim(db, g, ret, err);
    if (code || *ret) return code;
    srn__sql q;
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "INSERT INTO rollup_dims(");
    for (int b = 0; b < SRN__N_ROLLED; b++) srn_buf_addf(&q.text, "%s%s", b ? ", " : "", srn__bys[b].column);
    srn_buf_addz(&q.text, ") VALUES(");
    for (int b = 0; b < SRN__N_ROLLED; b++) {
        if (b) srn_buf_addz(&q.text, ", ");
        bind_value(&q, b, g->values[b]);
    }
    srn_buf_addc(&q.text, ')');
    code = ask(db, &q, NULL, NULL, err);
    return code ? code : find_dim(db, g, ret, err);
}

typedef struct merge {
    srn__sums *sums;
    int code;
    srn_err *err;
} merge;

static bool take_sums(void *ctx, const srn__cell *cells) {
    merge *m = ctx;
    m->code = srn__sums_read(m->sums, cells[0].text, m->err);
    return false;
}

static int put_group(srn__db *db, uint32_t span, srn__group *g, srn_err *err) {
    int64_t dim = 0;
    merge m = {.sums = &g->sums, .err = err};
    srn_buf bytes;
    srn__sql q;
    int code = dim_of(db, g, &dim, err);
    if (code) return code;
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "SELECT sums FROM rollups WHERE span = ");
    srn__sql_number(&q, span);
    srn_buf_addz(&q.text, " AND start = ");
    srn__sql_number(&q, (int64_t)g->start_us);
    srn_buf_addz(&q.text, " AND dim = ");
    srn__sql_number(&q, dim);
    code = ask(db, &q, take_sums, &m, err);
    if (!code) code = m.code;
    if (code) return code;
    srn_buf_init(&bytes, MAX_SUMS);
    srn__sums_write(&g->sums, &bytes);
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "INSERT INTO rollups(span, start, dim, sums) VALUES(");
    srn__sql_number(&q, span);
    srn_buf_addz(&q.text, ", ");
    srn__sql_number(&q, (int64_t)g->start_us);
    srn_buf_addz(&q.text, ", ");
    srn__sql_number(&q, dim);
    srn_buf_addz(&q.text, ", ");
    srn__sql_bytes(&q, (srn_str){bytes.data, bytes.len});
    srn_buf_addz(&q.text, ") ON CONFLICT(span, start, dim) DO UPDATE SET sums = excluded.sums");
    q.text.failed = q.text.failed || bytes.failed;
    code = ask(db, &q, NULL, NULL, err);
    srn_buf_done(&bytes);
    return code;
}

/* ---- the two together ---- */

/* Adds the calls that the question, completed by the caller, finds. */
static int add_calls(roller *r, srn__sql *q) {
    int code;
    for (int i = 0; i < N_SPANS; i++) srn__groups_init(&r->groups[i], (1u << SRN__N_ROLLED) - 1);
    code = ask(r->db, q, add_call, r, r->err);
    if (!code) code = r->code;
    for (int i = 0; i < N_SPANS; i++)
        for (uint32_t k = 0; k < r->groups[i].n && !code; k++)
            code = put_group(r->db, spans[i], r->groups[i].list[k], r->err);
    for (int i = 0; i < N_SPANS; i++) srn__groups_done(&r->groups[i]);
    return code;
}

static void select_calls(srn__sql *q) {
    srn__sql_init(q);
    srn_buf_addf(&q->text, "SELECT %s, seq FROM calls WHERE ", srn__call_columns);
}

int srn__rollup_mark(srn__db *db, uint64_t *ret, srn_err *err) {
    int64_t seq = 0;
    srn__sql q;
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "SELECT seq FROM rollup_mark");
    int code = ask(db, &q, take_number, &seq, err);
    if (!code) *ret = (uint64_t)seq;
    return code;
}

int srn__rollup_may_match(srn__db *db, const srn_filter *f, uint64_t *ret_mark, bool *ret, srn_err *err) {
    int64_t id = 0;
    uint64_t mark = 0;
    srn__sql q;
    int code = srn__rollup_mark(db, &mark, err); /* first: what is up to it has its row already */
    if (code) return code;
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "SELECT id FROM rollup_dims WHERE 1 = 1");
    if (!srn__sql_filter_rolled(&q, f)) {
        srn__sql_done(&q);
        *ret = true;
        return SRN_OK;
    }
    srn_buf_addz(&q.text, " LIMIT 1");
    code = ask(db, &q, take_number, &id, err);
    *ret_mark = mark;
    *ret = id != 0;
    return code;
}

int srn__rollup_advance(srn__db *db, uint32_t limit, uint32_t *ret_n, srn_err *err) {
    roller r = {.db = db, .err = err};
    uint64_t mark = 0;
    srn__sql q;
    int code = srn__rollup_mark(db, &mark, err);
    if (code) return code;
    select_calls(&q);
    srn_buf_addz(&q.text, "seq > ");
    srn__sql_number(&q, (int64_t)mark);
    srn_buf_addz(&q.text, " ORDER BY seq LIMIT ");
    srn__sql_number(&q, limit);
    code = add_calls(&r, &q);
    if (!code && r.n) {
        srn__sql_init(&q);
        srn_buf_addz(&q.text, "UPDATE rollup_mark SET seq = ");
        srn__sql_number(&q, (int64_t)r.last_seq);
        code = ask(db, &q, NULL, NULL, err);
    }
    if (!code) *ret_n = r.n;
    return code;
}

int srn__rollup_forget(srn__db *db, uint64_t before_us, srn_err *err) {
    roller r = {.db = db, .err = err};
    int64_t end = (int64_t)((before_us / 1000000 + HOUR - 1) / HOUR * HOUR); /* of the last hour touched */
    uint64_t mark = 0;
    srn__sql q;
    int code = srn__rollup_mark(db, &mark, err);
    if (code) return code;
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "DELETE FROM rollups WHERE start < ");
    srn__sql_number(&q, end);
    code = ask(db, &q, NULL, NULL, err);
    if (code) return code;
    select_calls(&q);
    srn_buf_addz(&q.text, "begun_us < ");
    srn__sql_number(&q, end * 1000000);
    srn_buf_addz(&q.text, " AND seq <= ");
    srn__sql_number(&q, (int64_t)mark);
    return add_calls(&r, &q);
}
