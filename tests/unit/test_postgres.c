/* The ledger in PostgreSQL, on a real server: the same records as in SQLite, and what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>

#include "ledger/query_internal.h"
#include "ledger_fill.h"
#include "postgres_place.h"

#define NOW    UINT64_C(1795340000000000)
#define DAY_US UINT64_C(86400000000)
static const srn__sharing sharing = {.answer_us = 15000000, .dead_us = 10000000};

static srn_ledger *open_ledger(const pg_place *p, uint64_t retention_us) {
    srn_ledger *l = NULL;
    srn_err err = {0};
    const srn_ledger_opts o = {.where = p->url, .folder = p->f.path, .retention_us = retention_us};
    if (srn_ledger_open(&o, &l, &err)) fail_msg("%s", err.text);
    return l;
}

/* An opening that fails; the sentence never shows the password. */
static int try_open(const char *url, const folder *f, srn_err *err) {
    srn_ledger *l = NULL;
    *err = (srn_err){0};
    int code = srn_ledger_open(&(srn_ledger_opts){.where = url, .folder = f->path}, &l, err);
    srn_ledger_close(l);
    assert_null(strstr(err->text, PG_PASSWORD));
    return code;
}

static void a_call_comes_out_as_it_went_in(void **state) {
    pg_place p = pg_place_new(state);
    srn_ledger *l = open_ledger(&p, 0);
    char buf[1024], text[SRN_ULID_CHARS + 1];
    srn_str body = call_body(buf, sizeof buf, 7, ",\"unknown\":{\"kept\":[1,2],\"z\":\"\xc3\xa4\"}");
    assert_int_equal(commit(l, SRN_RECORD_CALL, body), SRN_OK);
    srn_reader *r = pg_reader(&p);
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
    assert_int_equal(pg_holds(r), 2);
    srn_buf_done(&got);
    srn_reader_close(r);
    pg_place_done(&p);
}

static void a_call_has_one_record(void **state) {
    pg_place p = pg_place_new(state);
    srn_ledger *l = open_ledger(&p, 0);
    char buf[1024];
    assert_int_equal(commit_call(l, 1), SRN_OK);
    assert_int_equal(commit_call(l, 1), SRN_EEXIST);
    assert_int_equal(commit(l, SRN_RECORD_INTENT, call_body(buf, sizeof buf, 1, "")), SRN_EEXIST);
    assert_int_equal(commit(l, SRN_RECORD_INTENT, call_body(buf, sizeof buf, 2, "")), SRN_OK);
    assert_int_equal(commit(l, SRN_RECORD_INTENT, call_body(buf, sizeof buf, 2, "")), SRN_EEXIST);
    assert_int_equal(commit_call(l, 2), SRN_OK);
    assert_int_equal(commit_call(l, 2), SRN_EEXIST);
    srn_ledger_close(l);
    l = open_ledger(&p, 0); /* nor after a restart */
    assert_int_equal(commit_call(l, 2), SRN_EEXIST);
    srn_ledger_stats stats;
    srn_ledger_get_stats(l, &stats);
    assert_int_equal(stats.open_intents, 0);
    srn_ledger_close(l);
    pg_place_done(&p);
}

/* ---- the same as in SQLite ---- */

static void fill_both(fill *a, const char *dir, fill *b, const srn__home *home, uint32_t n) {
    srn_err err = {0};
    srn__store *store = NULL;
    char sql[128], hex[33];
    bool unknown;
    if (fill_open(a, dir, 5, &err) || srn__postgres_open(home, &sharing, &store, &err))
        fail_msg("%s", err.text);
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

static bool keep_body(void *ctx, const srn_stored *s) {
    srn_buf_add(ctx, s->body.ptr, s->body.len);
    return false;
}

/* A call that is there already, however old: looked for where it can be only. */
static void is_there_already(fill *f, srn_reader *r, uint64_t seq) {
    srn_record *record = NULL;
    srn_err err = {0};
    srn_buf body;
    srn_buf_init(&body, 1 << 16);
    if (srn_reader_records(r, SRN_RECORD_CALL, seq, keep_body, &body, &err)) fail_msg("%s", err.text);
    srn__row row = {.seq = f->tail.seq + 1,
                    .epoch = f->tail.epoch,
                    .t_us = f->tail.t_us,
                    .kind = SRN_RECORD_CALL,
                    .body = {body.data, body.len}};
    if (srn_record_decode(row.kind, row.body, &record, &err)) fail_msg("%s", err.text);
    row.record = record;
    assert_int_equal(f->store->ops->begin(f->store, &err), SRN_OK);
    assert_int_equal(f->store->ops->put(f->store, &row, &err), SRN_EEXIST);
    f->store->ops->rollback(f->store);
    srn_record_free(record);
    srn_buf_done(&body);
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
    pg_place p = pg_place_new(state);
    folder f = folder_new();
    srn__home home;
    srn_err err = {0};
    fill a, b;
    if (srn__home_init(&home, p.url, p.f.path, &err)) fail_msg("%s", err.text);
    fill_both(&a, f.path, &b, &home, 1500);
    srn_reader *x = reader_open(f.path), *y = pg_reader(&p);
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
    assert_int_equal(pg_holds(y), 1500);
    assert_string_equal(pg_sql(p.url, "SELECT count(*) FROM serin.marks"), "12");
    fill_close(&b); /* the next one knows when which records came */
    srn__store *store = NULL;
    if (srn__postgres_open(&home, &sharing, &store, &err) || fill_begin(&b, store, 5, &err))
        fail_msg("%s", err.text);
    for (uint64_t seq = 3; seq < 1500; seq += 249) is_there_already(&b, y, seq);
    srn_reader_close(x);
    srn_reader_close(y);
    fill_close(&a);
    fill_close(&b);
    srn__home_done(&home);
    pg_place_done(&p);
    folder_done(&f);
}

/* ---- what is not fit ---- */

static void a_server_that_does_not_wait_for_the_disk_is_refused(void **state) {
    static const char *const bad[] = {"off", "local"};
    pg_place p = pg_place_new(state);
    char text[96];
    srn_err err;
    for (size_t i = 0; i < SRN_LEN(bad); i++) {
        snprintf(text, sizeof text, "ALTER DATABASE %%s SET synchronous_commit = %s", bad[i]);
        pg_admin(&p, text, false);
        assert_int_equal(try_open(p.url, &p.f, &err), SRN_EUNSUP);
        assert_non_null(strstr(err.text, "ALTER ROLE \"serin\" SET synchronous_commit = on"));
    }
    pg_admin(&p, "ALTER DATABASE %s SET synchronous_commit = on", false);
    srn_ledger_close(open_ledger(&p, 0));
    pg_place_done(&p);
}

static void a_database_that_may_only_be_read_is_not_written(void **state) {
    pg_place p = pg_place_new(state);
    srn_err err;
    srn_ledger *l = open_ledger(&p, 0);
    assert_int_equal(commit_call(l, 1), SRN_OK);
    srn_ledger_close(l);
    pg_admin(&p, "ALTER DATABASE %s SET default_transaction_read_only = on", false);
    assert_int_equal(try_open(p.url, &p.f, &err), SRN_EIO);
    assert_non_null(strstr(err.text, "can only be read"));
    pg_place_done(&p); /* it can be read */
}

static void what_is_no_database_of_the_ledger_s_is_said_without_secrets(void **state) {
    pg_place p = pg_place_new(state);
    srn_reader *r = NULL;
    srn_err err = {0};
    char url[300];
    const char *rest = strchr(p.url, '@');
    assert_int_equal(srn_reader_open_in(p.url, p.f.path, NULL, &r, &err), SRN_ENOENT);
    assert_non_null(strstr(err.text, "there is no ledger here"));
    snprintf(url, sizeof url, "postgresql://serin:wrong-%s%s", PG_PASSWORD, rest);
    assert_int_equal(try_open(url, &p.f, &err), SRN_EIO);
    assert_non_null(strstr(err.text, "password authentication failed"));
    snprintf(url, sizeof url, "postgresql://serin:%%zz%s%s", PG_PASSWORD, rest); /* libpq quotes this one */
    assert_int_equal(try_open(url, &p.f, &err), SRN_EINVAL);
    snprintf(url, sizeof url, "postgresql://serin:a@%s%s", PG_PASSWORD, rest); /* and looks for this host */
    assert_int_equal(try_open(url, &p.f, &err), SRN_EINVAL);
    assert_non_null(strstr(err.text, "%40"));
    snprintf(url, sizeof url, "postgresql://serin:%s/x%s", PG_PASSWORD, rest); /* a port that is none */
    assert_int_equal(try_open(url, &p.f, &err), SRN_EINVAL);
    snprintf(url, sizeof url, "postgresql://serin:1/%s%s", PG_PASSWORD, rest); /* a database of that name */
    assert_int_equal(try_open(url, &p.f, &err), SRN_EINVAL);
    snprintf(url, sizeof url, "postgresql://serin:?%s%s", PG_PASSWORD, rest); /* a password as any other */
    assert_int_equal(try_open(url, &p.f, &err), SRN_EIO);
    assert_non_null(strstr(err.text, "password authentication failed"));
    snprintf(url, sizeof url, "%s_gone", p.url);
    assert_int_equal(try_open(url, &p.f, &err), SRN_EIO);
    assert_non_null(strstr(err.text, "does not exist"));
    srn_ledger_close(open_ledger(&p, 0));
    pg_sql(p.url, "UPDATE serin.meta SET format = 99");
    assert_int_equal(try_open(p.url, &p.f, &err), SRN_EFORMAT);
    assert_non_null(strstr(err.text, "newer Serin"));
    pg_sql(p.url, "UPDATE serin.meta SET format = 2");
    pg_place_done(&p);
}

/* A client chooses many of them; no index may refuse one, for then nothing could be written any more. */
static void long_texts_are_stored(void **state) {
    pg_place p = pg_place_new(state);
    srn_ledger *l = open_ledger(&p, 0);
    char *long_text = calloc(1, 4097), *body = calloc(1, 65536);
    uint64_t x = 1;
    for (int i = 0; i < 4096; i++) { /* that does not compress */
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
        long_text[i] = (char)('0' + (x >> 60) % 10);
    }
    for (uint32_t n = 1; n <= 3; n++) {
        char id[SRN_ULID_CHARS + 1];
        call_id(n, id);
        snprintf(
            body, 65536,
            "{\"v\":1,\"id\":\"%s\",\"begun_us\":5,\"endpoint\":\"%s\",\"route\":\"%s\",\"key\":\"%s\","
            "\"tenant\":\"%s\",\"conversation\":\"%s\",\"model\":\"%s\",\"weights\":\"%s\",\"finish\":\"%s\","
            "\"error\":\"%s\",\"status\":200,\"prompt\":{\"name\":\"%s\",\"version\":1,\"hash\":\"%s\"}}",
            id, long_text, long_text, long_text, long_text, long_text, long_text, long_text, long_text,
            long_text, long_text, long_text);
        assert_int_equal(commit(l, SRN_RECORD_CALL, srn_str_of(body)), SRN_OK);
    }
    srn_ledger_close(l);
    l = open_ledger(&p, 0); /* brings the roll-ups up to date */
    srn_ledger_close(l);
    assert_string_equal(pg_sql(p.url, "SELECT seq FROM serin.rollup_mark"), "3");
    free(long_text);
    free(body);
    pg_place_done(&p);
}

/* ---- retention ---- */

static uint64_t dropped(srn_ledger *l) {
    srn_ledger_stats s;
    srn_ledger_get_stats(l, &s);
    return s.dropped;
}

static bool count_doc(void *ctx, const srn_ledger_doc *d, uint64_t t_us) {
    (void)t_us;
    assert_string_equal(d->key, "a");
    ++*(uint32_t *)ctx;
    return true;
}

/* Parts of 100 records: those that go whole are tables that go; an event of one of them stays. */
static void retention_drops_whole_parts_and_the_chain_holds(void **state) {
    enum { CALLS = 730 };
    pg_place p = pg_place_new(state);
    srn__home home;
    srn__store *store = NULL;
    srn_err err = {0};
    char buf[256];
    uint32_t docs = 0;
    if (srn__home_init(&home, p.url, p.f.path, &err) || srn__postgres_open(&home, &sharing, &store, &err))
        fail_msg("%s", err.text);
    store->ops->close(store);
    srn__home_done(&home);
    pg_sql(p.url, "UPDATE serin.meta SET part_records = 100");
    srn_ledger *l = open_ledger(&p, 0);
    append_calls(l, 1, 350);
    srn_ledger_doc d = {"prompt", "a", 1, SRN_STR("{}")};
    srn_entry e = {.kind = SRN_RECORD_EVENT, .body = event_body(buf, sizeof buf, "prompt_pushed"), .doc = &d};
    assert_int_equal(srn_ledger_commit(l, &e, &err), SRN_OK);
    append_calls(l, 351, CALLS);
    assert_int_equal(commit_call(l, 3), SRN_EEXIST); /* in whichever part it is */
    srn_ledger_close(l);
    long parts = strtol(pg_sql(p.url, "SELECT count(*) FROM serin.parts"), NULL, 10);
    assert_in_range(parts, 8, 60);
    l = open_ledger(&p, 1);
    while (dropped(l) < CALLS) sched_yield();
    srn_ledger_close(l);
    assert_string_equal(pg_sql(p.url, "SELECT count(*) FROM serin.calls"), "0");
    assert_string_equal(pg_sql(p.url, "SELECT min(first) FROM serin.parts"), "701");
    assert_string_equal(pg_sql(p.url, "SELECT to_regclass('serin.records_301') IS NULL"), "t");
    assert_string_equal(pg_sql(p.url, "SELECT count(*) FROM serin.records_kept"), "1");
    srn_reader *r = pg_reader(&p);
    assert_int_equal(srn_reader_docs(r, "prompt", NULL, count_doc, &docs, &err), SRN_OK);
    assert_int_equal(docs, 1);
    srn_reader_close(r);
    l = open_ledger(&p, 0);
    append_calls(l, CALLS + 1, CALLS + 300); /* it goes on */
    srn_ledger_close(l);
    l = open_ledger(&p, 1);
    while (dropped(l) < 300) sched_yield();
    srn_ledger_close(l);
    pg_place_done(&p);
}

static void an_edited_record_is_named(void **state) {
    pg_place p = pg_place_new(state);
    srn_verify_result v = {0};
    srn_err err;
    srn_ledger *l = open_ledger(&p, 0);
    append_calls(l, 1, 50);
    srn_ledger_close(l);
    srn_reader *r = pg_reader(&p);
    static const struct {
        const char *edit, *undo, *says;
    } edits[] = {
        {"UPDATE serin.records SET body = replace(body, 'small', 'large') WHERE seq = 17",
         "UPDATE serin.records SET body = replace(body, 'large', 'small') WHERE seq = 17",
         "record 17: it was edited"},
        {"UPDATE serin.calls SET model = 'large' WHERE seq = 9",
         "UPDATE serin.calls SET model = 'small' WHERE seq = 9", "record 9: what is searched of it"},
        {"UPDATE serin.records SET seq = 5000 WHERE seq = 30",
         "UPDATE serin.records SET seq = 30 WHERE seq = 5000", "record 30"},
    };
    for (size_t i = 0; i < SRN_LEN(edits); i++) {
        pg_sql(p.url, edits[i].edit);
        if (srn_reader_verify(r, NULL, &v, &err)) fail_msg("%s", err.text);
        assert_false(v.ok);
        if (!strstr(v.what, edits[i].says)) fail_msg("'%s' is not in: %s", edits[i].says, v.what);
        pg_sql(p.url, edits[i].undo);
    }
    srn_reader_close(r);
    pg_place_done(&p);
}

/* ---- questions that take long ---- */

static bool any_record(void *ctx, const srn_stored *s) {
    (void)s;
    ++*(int *)ctx;
    return true;
}

static void a_question_that_takes_longer_than_its_asker_waits_ends(void **state) {
    pg_place p = pg_place_new(state);
    srn_err err = {0};
    srn_reader *r = NULL;
    int n = 0;
    srn_ledger *l = open_ledger(&p, 0);
    append_calls(l, 1, 3);
    if (srn_reader_open_within(l, 500, &r, &err)) fail_msg("%s", err.text);
    PGconn *other = PQconnectdb(p.url);
    PQclear(PQexec(other, "BEGIN"));
    PQclear(PQexec(other, "LOCK TABLE serin.records"));
    assert_int_equal(srn_reader_records(r, SRN_RECORD_CALL, 0, any_record, &n, &err), SRN_ETIMEOUT);
    assert_non_null(strstr(err.text, "ask for less"));
    assert_int_equal(n, 0);
    PQfinish(other); /* and the reader goes on */
    if (srn_reader_records(r, SRN_RECORD_CALL, 0, any_record, &n, &err)) fail_msg("%s", err.text);
    assert_int_equal(n, 3);
    srn_reader_close(r);
    srn_ledger_close(l);
    pg_place_done(&p);
}

/* ---- an older copy of the database ---- */

static bool find_event(void *ctx, const srn_stored *s) {
    if (strstr(s->body.ptr, "\"restored\"")) snprintf(ctx, 512, "%.*s", (int)s->body.len, s->body.ptr);
    return true;
}

static void a_database_put_back_goes_on_in_a_new_epoch(void **state) {
    pg_place p = pg_place_new(state);
    pg_place copy = {.f = p.f};
    pg_server *s = *state;
    srn_err err = {0};
    srn_backup_info info = {0};
    char sql[96], event[512] = "";
    srn_ledger *l = open_ledger(&p, 0);
    append_calls(l, 1, 20);
    srn_ledger_close(l);
    snprintf(sql, sizeof sql, "CREATE DATABASE copy%d TEMPLATE %%s", s->databases);
    pg_admin(&p, sql, true);
    snprintf(sql, sizeof sql, "copy%d", s->databases);
    pg_url(s, sql, copy.url, sizeof copy.url);
    l = open_ledger(&p, 0);
    append_calls(l, 21, 40);
    srn_ledger_close(l);
    assert_int_equal(try_open(copy.url, &p.f, &err), SRN_EFORMAT); /* checkpoints.jsonl reaches further */
    srn_restore_opts o = {.from = "tuesday.dump", .where = copy.url, .folder = p.f.path};
    if (srn_ledger_restore(&o, &info, &err)) fail_msg("%s", err.text);
    assert_int_equal(info.epoch, 1);
    assert_int_equal(info.seq, 21); /* with the checkpoint */
    l = open_ledger(&copy, 0);
    assert_int_equal(commit_call(l, 20), SRN_EEXIST);
    assert_int_equal(commit_call(l, 21), SRN_OK);
    srn_ledger_close(l);
    srn_reader *r = pg_reader(&copy);
    srn_reader_status status;
    if (srn_reader_get_status(r, &status, &err)) fail_msg("%s", err.text);
    assert_int_equal(status.epoch, 2);
    assert_int_equal(srn_reader_records(r, SRN_RECORD_EVENT, 0, find_event, event, &err), SRN_OK);
    assert_non_null(strstr(event, "tuesday.dump"));
    assert_non_null(strstr(event, "\"parent\""));
    srn_reader_close(r);
    pg_place_done(&copy);
}

static void an_empty_database_is_not_restored(void **state) {
    pg_place p = pg_place_new(state);
    srn_err err = {0};
    srn_backup_info info;
    srn_restore_opts o = {.from = "x", .where = p.url, .folder = p.f.path, .new_keys = true};
    assert_int_equal(srn_ledger_restore(&o, &info, &err), SRN_ENOENT);
    assert_non_null(strstr(err.text, "pg_restore"));
    folder_done(&p.f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_comes_out_as_it_went_in),
        cmocka_unit_test(a_call_has_one_record),
        cmocka_unit_test(the_same_records_give_the_same_answers),
        cmocka_unit_test(a_server_that_does_not_wait_for_the_disk_is_refused),
        cmocka_unit_test(a_database_that_may_only_be_read_is_not_written),
        cmocka_unit_test(what_is_no_database_of_the_ledger_s_is_said_without_secrets),
        cmocka_unit_test(long_texts_are_stored),
        cmocka_unit_test(retention_drops_whole_parts_and_the_chain_holds),
        cmocka_unit_test(an_edited_record_is_named),
        cmocka_unit_test(a_question_that_takes_longer_than_its_asker_waits_ends),
        cmocka_unit_test(a_database_put_back_goes_on_in_a_new_epoch),
        cmocka_unit_test(an_empty_database_is_not_restored),
    };
    return cmocka_run_group_tests(tests, pg_group_begin, pg_group_end);
}
