/* Questions to PostgreSQL: a text with its parameters in, rows of cells out, one row at a time and in binary.
 * Used by readers on their thread and by the writer for everything. The connection never blocks: every wait
 * is a poll with an end, after which the connection is closed, and what was under way is not known.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "ledger/postgres_internal.h"

/* ---- sentences ---- */

/* Replaces what stands of the secret in a text. */
static void blot(char *text, const char *secret) {
    size_t n = secret ? strlen(secret) : 0;
    for (char *p = text; n && (p = strstr(p, secret)); p++) memset(p, '*', n);
}

int srn__pg_fail(srn_err *err, const srn__pg *g, const PGresult *r, const char *what) {
    char text[700];
    const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
    const char *said = r ? PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    if (!said) said = g->conn ? PQerrorMessage(g->conn) : "there is no connection";
    snprintf(text, sizeof text, "%s", said);
    for (char *p = text; *p; p++)
        if (*p == '\n' || *p == '\t') *p = ' ';
    for (size_t n = strlen(text); n && text[n - 1] == ' ';) text[--n] = 0;
    if (g->conn) blot(text, PQpass(g->conn));
    int code = !state                         ? SRN_EIO
               : strcmp(state, "53200") == 0  ? SRN_ENOMEM
               : strncmp(state, "XX", 2) == 0 ? SRN_EFORMAT
               : strcmp(state, "55P03") == 0  ? SRN_EBUSY
                                              : SRN_EIO;
    if (state && strcmp(state, "23505") == 0)
        return srn_fail(err, SRN_EIO, "%s: %s: something else has written this ledger meanwhile; start again",
                        g->at->name, what);
    if (state && strcmp(state, "42501") == 0)
        return srn_fail(err, SRN_EIO, "%s: %s: %s; docs/ledger.md lists the rights that the role needs",
                        g->at->name, what, text);
    if (state && !g->writes && strcmp(state, "57014") == 0)
        return srn_fail(err, SRN_ETIMEOUT,
                        "%s: the answer took longer than %.0f s; ask for less: a narrower filter, fewer days",
                        g->at->name, (double)g->answer_us / 1e6 - SRN__PG_GRACE_MS / 1e3);
    return srn_fail(err, code, "%s: %s: %s", g->at->name, what, text);
}

/* ---- waiting ---- */

/* Waits for the server's next bytes, sending what is queued meanwhile: as long as it takes more of these it
 * has time. */
static int wait_io(srn__pg *g, uint64_t *end_us, srn_err *err) {
    int unsent = PQflush(g->conn);
    if (unsent < 0) return srn__pg_fail(err, g, NULL, "sending");
    struct pollfd p = {.fd = PQsocket(g->conn), .events = (short)(unsent ? POLLIN | POLLOUT : POLLIN)};
    uint64_t now_us = srn_now_us();
    int n = now_us < *end_us ? poll(&p, 1, (int)((*end_us - now_us) / 1000) + 1) : 0;
    if (n < 0 && errno == EINTR) return SRN_OK;
    if (n <= 0)
        return srn_fail(err, SRN_EIO, "%s: no answer within %.1f s", g->at->name, (double)g->answer_us / 1e6);
    if (p.revents & POLLOUT) *end_us = srn_now_us() + g->answer_us;
    return PQconsumeInput(g->conn) ? SRN_OK : srn__pg_fail(err, g, NULL, "the connection is lost");
}

int srn__pg_answer(srn__pg *g, PGresult **ret, srn_err *err) {
    uint64_t end_us = srn_now_us() + g->answer_us;
    int code = SRN_OK, unsent = g->conn ? PQflush(g->conn) : -1;
    *ret = NULL;
    if (unsent < 0) code = srn__pg_fail(err, g, NULL, "sending");
    while (!code && (unsent > 0 || PQisBusy(g->conn))) {
        code = wait_io(g, &end_us, err);
        if (!code && unsent > 0) unsent = PQflush(g->conn);
    }
    if (!code) *ret = PQgetResult(g->conn);
    if (!code && PQstatus(g->conn) == CONNECTION_BAD) {
        code = srn__pg_fail(err, g, *ret, "the connection is lost");
        PQclear(*ret);
        *ret = NULL;
        if (code != SRN_EIO) code = srn_fail_prefix(err, SRN_EIO, "the connection is lost");
    }
    if (code) srn__pg_close(g);
    return code;
}

static bool is_good(const PGresult *r) {
    ExecStatusType s = PQresultStatus(r);
    return s == PGRES_COMMAND_OK || s == PGRES_TUPLES_OK || s == PGRES_SINGLE_TUPLE || s == PGRES_EMPTY_QUERY;
}

/* Reads the rest of an answer; the first failure counts. */
static int finish(srn__pg *g, int code, const char *what, srn_err *err) {
    PGresult *r = NULL;
    int end;
    while (!(end = srn__pg_answer(g, &r, code ? NULL : err)) && r) {
        if (!code && !is_good(r)) code = srn__pg_fail(err, g, r, what);
        PQclear(r);
    }
    g->asking = false;
    return code ? code : end;
}

/* A reader that lost its connection makes another one; what a writer loses is its caller's to know. */
static int connect_again(srn__pg *g, srn_err *err) {
    return g->conn || g->writes ? SRN_OK : srn__pg_connect(g, err);
}

/* Whether a connection that is lost now can be made again without anybody knowing. */
static bool can_repeat(const srn__pg *g) {
    return !g->writes && g->conn && PQtransactionStatus(g->conn) == PQTRANS_IDLE;
}

static int run_once(srn__pg *g, const char *sql, const char *what, srn_err *err) {
    int code = connect_again(g, err);
    if (code) return code;
    if (!g->conn || !PQsendQuery(g->conn, sql)) return srn__pg_fail(err, g, NULL, what);
    return finish(g, SRN_OK, what, err);
}

int srn__pg_run(srn__pg *g, const char *sql, const char *what, srn_err *err) {
    bool again = can_repeat(g) && g->ready;
    int code = run_once(g, sql, what, err);
    return code && again && !g->conn ? run_once(g, sql, what, err) : code;
}

/* ---- cells ---- */

static int64_t number_of(const char *p, int n) {
    uint64_t v = n && (p[0] & 0x80) ? UINT64_MAX : 0;
    for (int i = 0; i < n && i < 8; i++) v = v << 8 | (uint8_t)p[i];
    return (int64_t)v;
}

static void read_cells(const PGresult *r, int row, srn__cell *cells, int n) {
    for (int i = 0; i < n; i++) {
        const char *p = PQgetvalue(r, row, i);
        int len = PQgetlength(r, row, i);
        Oid type = PQftype(r, i);
        cells[i] = (srn__cell){.text = {"", 0}, .is_null = PQgetisnull(r, row, i)};
        if (cells[i].is_null) continue;
        if (type == SRN__PG_INT8 || type == SRN__PG_INT4)
            cells[i].number = number_of(p, len);
        else if (type == SRN__PG_BOOL)
            cells[i].number = len && p[0];
        else
            cells[i].text = (srn_str){p, (size_t)len};
    }
}

/* ---- pipelines ---- */

static void give_rows(const PGresult *r, srn__cells_fn *fn, void *ctx) {
    srn__cell cells[SRN__PG_MAX_CELLS];
    for (int row = 0; fn && row < PQntuples(r); row++) {
        read_cells(r, row, cells, SRN_MIN(PQnfields(r), (int)SRN__PG_MAX_CELLS));
        if (!fn(ctx, cells)) break;
    }
}

int srn__pg_settle(srn__pg *g, srn__cells_fn *fn, void *ctx, const char *what, srn_err *err) {
    PGresult *r = NULL;
    int code = SRN_OK, end = SRN_OK, nulls = 0;
    bool synced = false;
    g->answer = 0;
    if (!g->pipeline) return SRN_OK;
    if (!g->conn || !PQpipelineSync(g->conn)) end = srn__pg_fail(err, g, NULL, what);
    while (!end && !synced &&
           nulls < 2) { /* NULL ends a statement's answers; two of them: there are no more */
        end = srn__pg_answer(g, &r, code ? NULL : err);
        nulls = r ? 0 : nulls + 1;
        synced = r && PQresultStatus(r) == PGRES_PIPELINE_SYNC;
        bool skipped = r && PQresultStatus(r) == PGRES_PIPELINE_ABORTED;
        if (r && !synced && !skipped && !code && !is_good(r)) code = srn__pg_fail(err, g, r, what);
        if (r && !code) give_rows(r, fn, ctx);
        if (!r) g->answer++;
        PQclear(r);
    }
    g->pipeline = false;
    if (end || !synced || !PQexitPipelineMode(g->conn)) {
        if (!end) end = srn__pg_fail(code ? NULL : err, g, NULL, what);
        srn__pg_close(g);
    }
    return code ? code : end;
}

/* ---- asking ---- */

typedef struct parameters { /* as libpq takes them */
    Oid types[SRN__MAX_PARAMS];
    const char *values[SRN__MAX_PARAMS];
    int lengths[SRN__MAX_PARAMS], formats[SRN__MAX_PARAMS];
    char numbers[SRN__MAX_PARAMS][8];
} parameters;

static void set_parameters(parameters *p, const srn__param *from, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        bool number = from[i].kind == SRN__PARAM_NUMBER;
        if (number) srn__pg_put_u64((uint64_t)from[i].number, p->numbers[i]);
        p->types[i] = number ? SRN__PG_INT8 : from[i].kind == SRN__PARAM_TEXT ? SRN__PG_TEXT : SRN__PG_BYTES;
        p->values[i] = number ? p->numbers[i] : from[i].text.ptr ? from[i].text.ptr : "";
        p->lengths[i] = number ? 8 : (int)from[i].text.len;
        p->formats[i] = 1;
    }
}

typedef struct question {
    const char *sql;
    const srn__param *params;
    uint32_t n;
    srn__cells_fn *fn;
    void *ctx;
    uint32_t rows; /* that fn saw */
} question;

static const char asking[] = "asking it";

static int send_question(srn__pg *g, const question *q, srn_err *err) {
    parameters *p = srn_calloc(1, sizeof *p);
    if (!p) return srn_fail_nomem(err, sizeof *p);
    set_parameters(p, q->params, q->n);
    bool sent =
        g->conn &&
        PQsendQueryParams(g->conn, q->sql, (int)q->n, p->types, p->values, p->lengths, p->formats, 1) &&
        PQsetSingleRowMode(g->conn);
    free(p);
    if (sent) return SRN_OK;
    srn__pg_fail(err, g, NULL, asking);
    if (g->conn && PQstatus(g->conn) == CONNECTION_BAD) srn__pg_close(g);
    return SRN_EIO;
}

static int ask_once(srn__pg *g, question *q, srn_err *err) {
    srn__cell cells[SRN__PG_MAX_CELLS];
    PGresult *r = NULL;
    int code = connect_again(g, err);
    if (!code) code = srn__pg_settle(g, NULL, NULL, asking, err);
    if (!code) code = send_question(g, q, err);
    if (code) return code;
    g->asking = true;
    bool more = q->fn != NULL;
    while (!(code = srn__pg_answer(g, &r, err)) && r) {
        if (!is_good(r)) code = srn__pg_fail(err, g, r, asking);
        if (!code && more && PQntuples(r)) {
            read_cells(r, 0, cells, SRN_MIN(PQnfields(r), (int)SRN__PG_MAX_CELLS));
            q->rows++;
            more = q->fn(q->ctx, cells);
        }
        PQclear(r);
        if (code) return finish(g, code, asking, err);
    }
    g->asking = false;
    return code;
}

/* Rows come one at a time, so a question from within an answer needs a connection of its own. */
static int take_spare(srn__pg *g, srn__pg **ret, srn_err *err) {
    if (g->writes || (g->spare && g->spare->asking))
        return srn_fail(err, SRN_EBUSY, "%s: an answer is being read", g->at->name);
    if (!g->spare) {
        g->spare = srn_calloc(1, sizeof *g->spare);
        if (!g->spare) return srn_fail_nomem(err, sizeof *g->spare);
        srn__pg_init(g->spare, g->at, false, g->answer_us);
    }
    *ret = g->spare;
    return SRN_OK;
}

static int ask(srn__pg *g, const char *sql, const srn__param *params, uint32_t n, srn__cells_fn *fn,
               void *ctx, srn_err *err) {
    question q = {sql, params, n, fn, ctx, 0};
    if (g->asking) {
        int code = take_spare(g, &g, err);
        if (code) return code;
    }
    bool again = can_repeat(g) && g->ready;
    int code = ask_once(g, &q, err);
    return code && again && !g->conn && !q.rows ? ask_once(g, &q, err) : code;
}

int srn__pg_ask(srn__db *db, const srn__sql *q, srn__cells_fn *fn, void *ctx, srn_err *err) {
    return ask((srn__pg *)db, q->text.data, q->params, q->n_params, fn, ctx, err);
}

int srn__pg_ask_text(srn__pg *g, const char *sql, const int64_t *numbers, uint32_t n, srn__cells_fn *fn,
                     void *ctx, srn_err *err) {
    srn__param params[2] = {{0}, {0}};
    for (uint32_t i = 0; i < n && i < SRN_LEN(params); i++) params[i].number = numbers[i];
    return ask(g, sql, params, n, fn, ctx, err);
}

static bool take_number(void *ctx, const srn__cell *cells) {
    *(uint64_t *)ctx = (uint64_t)cells[0].number;
    return false;
}

int srn__pg_number(srn__pg *g, const char *sql, const int64_t *numbers, uint32_t n, uint64_t *ret,
                   srn_err *err) {
    *ret = 0;
    return srn__pg_ask_text(g, sql, numbers, n, take_number, ret, err);
}
