/* For tests of the ledger in PostgreSQL: a database for each, and the folder beside it. */
#ifndef SRN_TEST_POSTGRES_PLACE_H
#define SRN_TEST_POSTGRES_PLACE_H

#include "postgres_help.h"

typedef struct pg_place {
    char url[256];
    folder f;
} pg_place;

/* state: the group's server. Skips the test where no PostgreSQL is installed. */
static inline pg_place pg_place_new(void **state) {
    pg_place p;
    pg_server *s = *state;
    if (!s->bin[0]) {
        print_message("no PostgreSQL is installed here; ./check installs it\n");
        skip();
    }
    pg_database(s, p.url, sizeof p.url);
    p.f = folder_new();
    return p;
}

static inline srn_reader *pg_reader(const pg_place *p) {
    srn_reader *r = NULL;
    srn_err err = {0};
    if (srn_reader_open_in(p->url, p->f.path, NULL, &r, &err)) fail_msg("%s", err.text);
    return r;
}

/* Verifies the whole chain; how many records it has. */
static inline uint64_t pg_holds(srn_reader *r) {
    srn_verify_result v = {0};
    srn_err err;
    if (srn_reader_verify(r, NULL, &v, &err)) fail_msg("%s", err.text);
    if (!v.ok) fail_msg("%s", v.what);
    return v.n_records;
}

static inline void pg_place_done(pg_place *p) {
    srn_reader *r = pg_reader(p);
    pg_holds(r);
    srn_reader_close(r);
    folder_done(&p->f);
}

/* A statement about the database, whose name takes the place of %s, from another one; then its connections
 * may be cut, so that it counts for all. */
static inline void pg_admin(const pg_place *p, const char *statement, bool cut) {
    char url[256], text[256], name[32];
    const char *slash = strrchr(p->url, '/');
    snprintf(name, sizeof name, "%s", slash + 1);
    snprintf(url, sizeof url, "%.*s/postgres", (int)(slash - p->url), p->url);
    const char *at = strstr(statement, "%s");
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - statement), statement, name, at + 2);
    pg_sql(url, text);
    snprintf(text, sizeof text,
             "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE datname = '%s'",
             name);
    if (cut) pg_sql(url, text);
}

static inline int pg_group_begin(void **state) {
    static pg_server server;
    pg_new(&server);
    *state = &server;
    return 0;
}

static inline int pg_group_end(void **state) {
    pg_done(*state);
    return 0;
}

#endif
