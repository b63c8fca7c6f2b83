/* The ledger in PostgreSQL, on a real server: the same records as in SQLite, one writer, and what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ledger/query_internal.h"
#include "ledger_fill.h"
#include "postgres_help.h"

#define NOW    UINT64_C(1795340000000000)
#define DAY_US UINT64_C(86400000000)

typedef struct place { /* of one test: a database and the folder beside it */
    char url[256];
    folder f;
} place;

static place place_new(void **state) {
    place p;
    pg_server *s = *state;
    if (!s->pid) skip(); /* no PostgreSQL is installed: ./check installs it */
    pg_database(s, p.url, sizeof p.url);
    p.f = folder_new();
    return p;
}

static srn_ledger *open_ledger(const place *p) {
    srn_ledger *l = NULL;
    srn_err err = {0};
    if (srn_ledger_open(&(srn_ledger_opts){.where = p->url, .folder = p->f.path}, &l, &err))
        fail_msg("%s", err.text);
    return l;
}

static int try_open(const place *p, srn_err *err) {
    srn_ledger *l = NULL;
    int code = srn_ledger_open(&(srn_ledger_opts){.where = p->url, .folder = p->f.path}, &l, err);
    srn_ledger_close(l);
    return code;
}

static srn_reader *open_reader(const place *p) {
    srn_reader *r = NULL;
    srn_err err = {0};
    if (srn_reader_open_in(p->url, p->f.path, NULL, &r, &err)) fail_msg("%s", err.text);
    return r;
}

static void holds(srn_reader *r, uint64_t n) {
    srn_verify_result v = {0};
    srn_err err;
    if (srn_reader_verify(r, NULL, &v, &err)) fail_msg("%s", err.text);
    if (!v.ok) fail_msg("%s", v.what);
    assert_int_equal(v.n_records, n);
}

static void a_call_comes_out_as_it_went_in(void **state) {
    place p = place_new(state);
    srn_ledger *l = open_ledger(&p);
    char buf[1024], text[SRN_ULID_CHARS + 1];
    srn_str body = call_body(buf, sizeof buf, 7, ",\"unknown\":{\"kept\":[1,2],\"z\":\"\xc3\xa4\"}");
    assert_int_equal(commit(l, SRN_RECORD_CALL, body), SRN_OK);
    srn_reader *r = open_reader(&p);
    srn_stored s;
    srn_buf got;
    uint8_t id[16];
    srn_err err = {0};
    srn_buf_init(&got, 1 << 20);
    call_id(7, text);
    assert_true(srn_ulid_parse(srn_str_of(text), id));
    if (srn_reader_call(r, id, &s, &got, &err)) fail_msg("%s", err.text);
    assert_int_equal(s.kind, SRN_RECORD_CALL);
    assert_true(srn_str_eq(s.body, body));
    assert_int_equal(s.seq, 1);
    id[15] ^= 1;
    assert_int_equal(srn_reader_call(r, id, &s, &got, &err), SRN_ENOENT);
    srn_ledger_close(l);
    holds(r, 2);
    srn_buf_done(&got);
    srn_reader_close(r);
    folder_done(&p.f);
}

static void a_call_has_one_record(void **state) {
    place p = place_new(state);
    srn_ledger *l = open_ledger(&p);
    char buf[1024];
    assert_int_equal(commit_call(l, 1), SRN_OK);
    assert_int_equal(commit_call(l, 1), SRN_EEXIST);
    assert_int_equal(commit(l, SRN_RECORD_INTENT, call_body(buf, sizeof buf, 1, "")), SRN_EEXIST);
    assert_int_equal(commit(l, SRN_RECORD_INTENT, call_body(buf, sizeof buf, 2, "")), SRN_OK);
    assert_int_equal(commit(l, SRN_RECORD_INTENT, call_body(buf, sizeof buf, 2, "")), SRN_EEXIST);
    assert_int_equal(commit_call(l, 2), SRN_OK);
    assert_int_equal(commit_call(l, 2), SRN_EEXIST);
    srn_ledger_close(l);
    l = open_ledger(&p); /* nor after a restart */
    assert_int_equal(commit_call(l, 2), SRN_EEXIST);
    srn_ledger_stats stats;
    srn_ledger_get_stats(l, &stats);
    assert_int_equal(stats.open_intents, 0);
    srn_ledger_close(l);
    folder_done(&p.f);
}

static void a_database_has_one_writer(void **state) {
    place p = place_new(state), q = p;
    srn_ledger *l = open_ledger(&p);
    srn_err err = {0};
    q.f = folder_new();
    assert_int_equal(try_open(&q, &err), SRN_EBUSY);
    assert_non_null(strstr(err.text, "another process writes this ledger"));
    assert_null(strstr(err.text, PG_PASSWORD));
    assert_int_equal(try_open(&p, &err), SRN_EBUSY); /* the folder has one too */
    srn_ledger_close(l);
    folder_done(&q.f);
    folder_done(&p.f);
}

/* ---- the same as in SQLite ---- */

static void fill_both(fill *a, const char *dir, fill *b, const srn__home *home, uint32_t n) {
    srn_err err = {0};
    srn__store *store = NULL;
    char sql[128], hex[33];
    bool unknown;
    if (fill_open(a, dir, 5, &err) || srn__postgres_open(home, &store, &err)) fail_msg("%s", err.text);
    srn_hex(a->tail.instance, sizeof a->tail.instance, hex); /* the same chain needs the same name */
    snprintf(sql, sizeof sql, "UPDATE serin.meta SET instance = '\\x%s'", hex);
    pg_sql(home->where, sql);
    if (fill_begin(b, store, 5, &err)) fail_msg("%s", err.text);
    fill *const all[] = {a, b};
    for (size_t i = 0; i < SRN_LEN(all); i++) {
        srn__store *s = all[i]->store;
        uint32_t rolled = 1;
        if (fill_calls(all[i], n, NOW - 3 * DAY_US, NOW, &err)) fail_msg("%s", err.text);
        if (s->ops->begin(s, &err) || srn__rollup_advance(s->db, n - 100, &rolled, &err) ||
            s->ops->commit(s, &unknown, &err))
            fail_msg("%s", err.text);
        assert_int_equal(rolled, n - 100);
    }
    assert_int_equal(a->tail.seq, b->tail.seq);
    assert_memory_equal(a->tail.hash, b->tail.hash, sizeof a->tail.hash);
}

static bool list_call(void *ctx, const srn_call_row *row, const srn_stored *s) {
    srn_buf *b = ctx;
    srn_call_write_json(s, b);
    return srn_buf_addf(b, " %s %s\n", row->model, row->error);
}

static bool list_stats(void *ctx, const srn_stats_row *row) {
    srn_stats_write_json(row, &(srn_stats_opts){.by = (1u << SRN_BY_END) - 1}, ctx);
    return srn_buf_addc(ctx, '\n');
}

static void answers(srn_reader *r, const char *filter, srn_buf *ret) {
    srn_filter *f = NULL;
    srn_err err = {0};
    const srn_stats_opts some = {.by = 1 << SRN_BY_MODEL | 1 << SRN_BY_PROMPT, .step_us = DAY_US / 4},
                         all = {.by = 1 << SRN_BY_TENANT | 1 << SRN_BY_STATUS};
    srn_buf_init(ret, 64 << 20);
    if (srn_filter_parse(srn_str_of(filter), NOW, &f, &err) ||
        srn_reader_calls(r, f, NULL, 300, list_call, ret, &err) ||
        srn_reader_calls_after(r, f, 700, 50, list_call, ret, &err) ||
        srn_reader_stats(r, f, &some, list_stats, ret, &err) ||
        srn_reader_stats(r, f, &all, list_stats, ret, &err))
        fail_msg("%s: %s", filter, err.text);
    srn_filter_free(f);
}

static void the_same_records_give_the_same_answers(void **state) {
    static const char *const filters[] = {
        "",
        "model=small",
        "model=nothing",
        "status=5xx",
        "status>=400 since=30h",
        "prompt=support-answer@2 since=40h until=2h",
        "prompt!=summary tenant=acme,globex",
        "weights=22222222222222222222222222222222222222222222222222222222222222a",
        "model~MAL ttft>100ms",
        "error=EIO streamed=true",
    };
    place p = place_new(state), q = {.f = folder_new()};
    srn__home home;
    srn_err err = {0};
    fill a, b;
    if (srn__home_init(&home, p.url, p.f.path, &err)) fail_msg("%s", err.text);
    fill_both(&a, q.f.path, &b, &home, 1500);
    srn_reader *x = reader_open(q.f.path), *y = open_reader(&p);
    for (size_t i = 0; i < SRN_LEN(filters); i++) {
        srn_buf u, v;
        answers(x, filters[i], &u);
        answers(y, filters[i], &v);
        assert_int_equal(u.len, v.len);
        if (u.len) assert_string_equal(u.data, v.data);
        if (u.len < 100 && i != 2) fail_msg("nothing matches %s", filters[i]);
        srn_buf_done(&u);
        srn_buf_done(&v);
    }
    holds(y, 1500);
    srn_reader_close(x);
    srn_reader_close(y);
    fill_close(&a);
    fill_close(&b);
    srn__home_done(&home);
    folder_done(&p.f);
    folder_done(&q.f);
}

static int begin_server(void **state) {
    static pg_server server;
    pg_new(&server);
    *state = &server;
    return 0;
}

static int end_server(void **state) {
    pg_done(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_comes_out_as_it_went_in),
        cmocka_unit_test(a_call_has_one_record),
        cmocka_unit_test(a_database_has_one_writer),
        cmocka_unit_test(the_same_records_give_the_same_answers),
    };
    return cmocka_run_group_tests(tests, begin_server, end_server);
}
