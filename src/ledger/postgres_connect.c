/* Connections to PostgreSQL: made within a stated time, with settings under which a hanging server, a dead
 * peer or a forgotten transaction ends by itself, and what a writer's connection before left under way is
 * ended. Refuses databases in which a commit would not be durable, that are not in UTF-8, that can only be
 * read, or that hold a ledger of a newer Serin. Sentences never hold the password.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>

#include "ledger/postgres_internal.h"

enum { CONNECT_US = 10 * 1000 * 1000, OLDEST_SERVER = 140000 };

void srn__pg_init(srn__pg *g, const srn__home *at, bool writes, uint64_t answer_us) {
    *g = (srn__pg){.at = at, .writes = writes, .answer_us = answer_us};
}

void srn__pg_close(srn__pg *g) {
    PQfinish(g->conn);
    g->conn = NULL;
    if (g->spare) srn__pg_close(g->spare);
    free(g->spare);
    g->spare = NULL;
    g->asking = g->pipeline = g->ready = false;
}

/* ---- the connection itself ---- */

/* Whether a port is a list of numbers, and nothing of a password with a '/' in it that ended the address. */
static bool is_port(const PQconninfoOption *o) {
    return !o->val || strcmp(o->keyword, "port") != 0 || !o->val[strspn(o->val, "0123456789,")];
}

/* What libpq says of a URL that it cannot take, or of the port and the database that it takes pieces of a
 * password for, may quote these, and is not shown. */
static int check_url(const srn__pg *g, srn_err *err) {
    char *why = NULL;
    PQconninfoOption *options = PQconninfoParse(g->at->where, &why);
    const char *host = strstr(g->at->where, "://") + 3, *path = host + strcspn(host, "/");
    const char *at = memchr(host, '@', (size_t)(path - host));
    bool ok = options && !(at && memchr(at + 1, '@', (size_t)(path - at) - 1));
    ok = ok && !memchr(path, '@', strcspn(path, "?"));
    for (const PQconninfoOption *o = options; ok && o->keyword; o++) ok = is_port(o);
    PQconninfoFree(options);
    PQfreemem(why);
    if (ok) return SRN_OK;
    return srn_fail(
        err, SRN_EINVAL,
        "the address of the ledger is no URL of PostgreSQL: postgresql://USER:PASSWORD@HOST/DATABASE, "
        "where characters such as @ / %% in a password are written %%40 %%2F %%25");
}

/* Warnings would go to the process's standard error. */
static void drop_notice(void *ctx, const char *text) {
    (void)ctx, (void)text;
}

static int begin_connection(srn__pg *g, srn_err *err) {
    /* the URL's own settings take the place of those before it */
    static const char *const names[] = {
        "fallback_application_name", "keepalives_idle", "keepalives_interval", "keepalives_count",
        "tcp_user_timeout",          "dbname",          "client_encoding",     NULL};
    const char *const values[] = {"serin", "10", "5", "3", "15000", g->at->where, "UTF8", NULL};
    int code = check_url(g, err);
    if (code) return code;
    g->conn = PQconnectStartParams(names, values, 1);
    if (!g->conn) return srn_fail_nomem(err, 0);
    PQsetNoticeProcessor(g->conn, drop_notice, NULL);
    if (PQstatus(g->conn) == CONNECTION_BAD) return srn__pg_fail(err, g, NULL, "connecting");
    return SRN_OK;
}

static int make_connection(srn__pg *g, srn_err *err) {
    uint64_t most_us = SRN_MIN(g->answer_us, (uint64_t)CONNECT_US), end_us = srn_now_us() + most_us;
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    int code = begin_connection(g, err);
    while (!code && status != PGRES_POLLING_OK) {
        uint64_t now_us = srn_now_us();
        struct pollfd p = {.fd = PQsocket(g->conn),
                           .events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        int n = now_us < end_us ? poll(&p, 1, (int)((end_us - now_us) / 1000) + 1) : 0;
        if (!n)
            return srn_fail(err, SRN_EIO, "%s: connecting: no answer within %.1f s", g->at->name,
                            (double)most_us / 1e6);
        if (n > 0) status = PQconnectPoll(g->conn);
        if (status == PGRES_POLLING_FAILED) code = srn__pg_fail(err, g, NULL, "connecting");
    }
    if (!code && PQsetnonblocking(g->conn, 1)) code = srn__pg_fail(err, g, NULL, "connecting");
    return code;
}

/* ---- whether the database is fit ---- */

typedef struct facts {
    int64_t version;
    bool utf8, recovering, read_only, tables;
    char commit[24], fsync[8];
} facts;

static bool take_facts(void *ctx, const srn__cell *c) {
    facts *f = ctx;
    f->version = c[0].number;
    f->utf8 = srn_str_eqz(c[1].text, "UTF8");
    snprintf(f->commit, sizeof f->commit, "%s", c[2].text.ptr);
    snprintf(f->fsync, sizeof f->fsync, "%s", c[3].text.ptr);
    f->recovering = c[4].number != 0;
    f->read_only = srn_str_eqz(c[5].text, "on");
    f->tables = c[6].number != 0;
    return false;
}

static int check_durable(const srn__pg *g, const facts *f, srn_err *err) {
    const char *user = PQuser(g->conn);
    if (f->recovering || f->read_only)
        return srn_fail(err, SRN_EIO, "%s: %s; the ledger needs a database that it can write", g->at->name,
                        f->recovering ? "this server is a standby" : "this database can only be read");
    if (strcmp(f->commit, "off") == 0 || strcmp(f->commit, "local") == 0)
        return srn_fail(
            err, SRN_EUNSUP,
            "%s: with synchronous_commit = %s a commit is told before it is durable; set it, as in "
            "ALTER ROLE \"%s\" SET synchronous_commit = on",
            g->at->name, f->commit, user ? user : "");
    if (strcmp(f->fsync, "on") != 0)
        return srn_fail(err, SRN_EUNSUP,
                        "%s: with fsync = %s a power cut loses what was committed; set fsync = on in "
                        "postgresql.conf",
                        g->at->name, f->fsync);
    return SRN_OK;
}

static int check_database(srn__pg *g, facts *f, srn_err *err) {
    static const char sql[] =
        "SELECT current_setting('server_version_num')::bigint, current_setting('server_encoding'),"
        " current_setting('synchronous_commit'), current_setting('fsync'), pg_is_in_recovery(),"
        " current_setting('transaction_read_only'), to_regclass('serin.meta') IS NOT NULL";
    int code = srn__pg_ask_text(g, sql, NULL, 0, take_facts, f, err);
    if (code) return code;
    if (f->version < OLDEST_SERVER)
        return srn_fail(err, SRN_EUNSUP, "%s: this is PostgreSQL %d; the ledger needs 14 or newer",
                        g->at->name, (int)(f->version / 10000));
    if (!f->utf8)
        return srn_fail(err, SRN_EUNSUP,
                        "%s: the database is not in UTF-8; make one with "
                        "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
                        g->at->name);
    return g->writes ? check_durable(g, f, err) : SRN_OK;
}

static int check_format(srn__pg *g, srn_err *err) {
    uint64_t format = 0;
    int code = srn__pg_number(g, "SELECT format FROM meta", NULL, 0, &format, err);
    if (!code && !format) code = srn_fail(err, SRN_EFORMAT, "%s: is not a ledger of Serin's", g->at->name);
    if (!code && format > SRN__PG_FORMAT)
        code = srn_fail(err, SRN_EFORMAT,
                        "%s: was written by a newer Serin (format %u, this one knows %d); use that one",
                        g->at->name, (unsigned)format, SRN__PG_FORMAT);
    return code;
}

/* ---- the connection before ---- */

/* What is left of it may have the chain, and would keep everybody waiting: it is ended, unless it waits for a
 * standby to have what it committed. */
static int end_before(srn__pg *g, srn_err *err) {
    srn__sql q;
    if (!g->pid) return SRN_OK;
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                          " WHERE wait_event IS DISTINCT FROM 'SyncRep' AND pid = ");
    srn__sql_number(&q, g->pid);
    srn_buf_addz(&q.text, " AND backend_start::text = ");
    srn__sql_text(&q, srn_str_of(g->started));
    int code = srn__sql_check(&q, err);
    if (!code) code = srn__pg_ask(&g->head, &q, NULL, NULL, err);
    srn__sql_done(&q);
    return code;
}

static bool take_self(void *ctx, const srn__cell *c) {
    srn__pg *g = ctx;
    g->pid = c[0].number;
    snprintf(g->started, sizeof g->started, "%s", c[1].text.ptr);
    return false;
}

static int know_self(srn__pg *g, srn_err *err) {
    static const char self[] =
        "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    int code = end_before(g, err);
    return code ? code : srn__pg_ask_text(g, self, NULL, 0, take_self, g, err);
}

/* ---- all of it ---- */

int srn__pg_connect(srn__pg *g, srn_err *err) {
    static const char writer[] =
        "SET search_path = serin; SET default_transaction_isolation = 'read committed'; SET "
        "statement_timeout = 0; SET idle_in_transaction_session_timeout = "
        "60000; SET client_connection_check_interval = 5000;"
        "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;"
        "SET tcp_user_timeout = 15000"; /* so that a machine that is gone holds no lock */
    static const char reader[] =
        "SET search_path = serin; SET lock_timeout = 10000;"
        "SET default_transaction_read_only = on; SET idle_in_transaction_session_timeout = 600000;"
        "SET enable_partitionwise_join = on; SET client_connection_check_interval = 5000; SET jit = off";
    facts f = {0};
    char wait[64]; /* of a writer for the chain: others commit; of a reader for any answer */
    srn__pg_close(g);
    if (g->writes)
        snprintf(wait, sizeof wait, "SET lock_timeout = %u", (unsigned)(g->answer_us / 1500) + 1);
    else
        snprintf(wait, sizeof wait, "SET statement_timeout = %u",
                 (unsigned)(g->answer_us / 1000) - SRN__PG_GRACE_MS);
    int code = make_connection(g, err);
    if (!code) g->head = (srn__db){.ask = srn__pg_ask, .snapshot = g->head.snapshot};
    if (!code) code = srn__pg_run(g, g->writes ? writer : reader, "setting it up", err);
    if (!code) code = check_database(g, &f, err);
    if (!code) code = srn__pg_run(g, wait, "setting it up", err);
    if (!code && g->writes) code = know_self(g, err);
    if (!code && f.tables) code = check_format(g, err);
    if (!code && !f.tables && !g->writes)
        code =
            srn_fail(err, SRN_ENOENT,
                     "%s: there is no ledger here; `serin serve MODEL --ledger URL` makes one", g->at->name);
    g->ready = !code;
    if (code) srn__pg_close(g);
    return code;
}
