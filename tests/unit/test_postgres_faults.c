/* The ledger in PostgreSQL when the server, or what lies between, fails: nothing that was acknowledged is
 * missing, nothing is there twice, what waits is refused or kept as the mode says, and it recovers by itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>

#include "ledger_outcome.h"
#include "postgres_place.h"
#include "postgres_proxy.h"

/* ---- a connection that is cut ---- */

typedef struct behind { /* a ledger behind a proxy */
    pg_place p;
    pg_proxy x;
    char url[256];
    outcome o;
    srn_ledger *l;
} behind;

static void behind_new(behind *b, void **state, uint32_t queue, uint64_t patience_us) {
    const pg_server *s = *state;
    b->p = pg_place_new(state);
    pg_proxy_new(&b->x, s);
    snprintf(b->url, sizeof b->url, "postgresql://serin:%s@127.0.0.1:%d%s", PG_PASSWORD, b->x.port,
             strrchr(b->p.url, '/'));
    b->l = open_watched(b->url, b->p.f.path, &b->o, queue, patience_us);
}

/* The ledger holds, and so many calls are in it. */
static void behind_done(behind *b, uint32_t calls) {
    char text[32];
    srn_ledger_close(b->l);
    pg_proxy_done(&b->x);
    snprintf(text, sizeof text, "%u", calls);
    assert_string_equal(pg_sql(b->p.url, "SELECT count(*) FROM serin.calls"), text);
    assert_string_equal(pg_sql(b->p.url, "SELECT count(DISTINCT id) FROM serin.calls"), text);
    assert_null(strstr(b->o.said, PG_PASSWORD));
    pg_place_done(&b->p);
}

/* A commit that comes back in the end. */
static void commit_at_last(srn_ledger *l, uint32_t n) {
    int code;
    while ((code = commit_call(l, n)) == SRN_EIO || code == SRN_EBUSY) sched_yield();
    assert_int_equal(code, SRN_OK);
}

static void lose_answer(void **state, pg_loss how) {
    behind b;
    behind_new(&b, state, 0, 0);
    assert_int_equal(commit_call(b.l, 1), SRN_OK);
    atomic_store(&b.x.loss, how);
    assert_int_equal(commit_call(b.l, 2), SRN_OK); /* told once it is certain */
    assert_int_equal(atomic_load(&b.x.lost), 1);
    assert_int_equal(commit_call(b.l, 2), SRN_EEXIST);
    assert_int_equal(commit_call(b.l, 3), SRN_OK);
    behind_done(&b, 3);
}

static void a_lost_answer_of_a_commit_makes_no_duplicate(void **state) {
    lose_answer(state, PG_LOSE_ANSWER);
}

/* What is taken all the time, if slowly, takes longer than an answer may. */
static void much_content_comes_through_a_slow_line(void **state) {
    enum { BYTES = 80 << 20 };
    behind b;
    char buf[1024], *content = malloc(BYTES);
    uint64_t x = 1;
    srn_err err = {0};
    behind_new(&b, state, 0, 3000000);
    for (size_t i = 0; i < BYTES; i++) { /* the server does not take its time to compress it */
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        content[i] = (char)(x >> 56);
    }
    atomic_store(&b.x.loss, PG_SLOW);
    srn_entry e = {
        .kind = SRN_RECORD_CALL, .body = call_body(buf, sizeof buf, 1, ""), .content = {content, BYTES}};
    if (srn_ledger_commit(b.l, &e, &err)) fail_msg("%s", err.text);
    assert_int_equal(commit_call(b.l, 2), SRN_OK);
    free(content);
    behind_done(&b, 2);
}

/* Its old connection, which holds the lock, is ended by the new one. */
static void a_server_that_misses_the_loss_of_its_client_is_told(void **state) {
    lose_answer(state, PG_LOSE_CLIENT);
}

static void a_commit_that_did_not_arrive_is_refused_and_comes_again(void **state) {
    behind b;
    behind_new(&b, state, 0, 0);
    assert_int_equal(commit_call(b.l, 1), SRN_OK);
    atomic_store(&b.x.loss, PG_LOSE_COMMIT);
    append(b.l, &b.o, 2, true);
    wait_told(&b.o, 1);
    assert_int_equal(b.o.eio, 1);
    commit_at_last(b.l, 2);
    append(b.l, &b.o, 3, false);
    behind_done(&b, 3);
}

/* Nothing comes back for a while: each wait has an end, what waits is told, what is buffered stays. */
static void a_server_that_hangs_does_not_hang_the_ledger(void **state) {
    behind b;
    srn_err err;
    behind_new(&b, state, 10, 2000 * 1000);
    assert_int_equal(commit_call(b.l, 1), SRN_OK);
    atomic_store(&b.x.loss, PG_HANG);
    append(b.l, &b.o, 2, true);
    append(b.l, &b.o, 3, false);
    wait_told(&b.o, 2);
    assert_int_equal(b.o.ok, 1);
    assert_int_equal(b.o.eio, 1);
    while (srn_ledger_ready(b.l, &err)) sched_yield();
    assert_non_null(strstr(err.text, "no answer within"));
    assert_null(strstr(err.text, PG_PASSWORD));
    for (uint32_t n = 4; n < 40; n++) append(b.l, &b.o, n, false); /* nine find room */
    wait_told(&b.o, 38);
    uint64_t lost = stats_of(b.l).lost;
    assert_true(lost > 0);
    atomic_store(&b.x.loss, PG_PASS);
    commit_at_last(b.l, 1000);
    assert_true(was_said(&b.o, "ledger_recovered"));
    uint32_t there = (uint32_t)strtoul(pg_sql(b.p.url, "SELECT count(*) FROM serin.calls"), NULL, 10);
    assert_in_range(there, 39 - lost, 40 - lost); /* call 2 may have gone through */
    char text[512] = "";
    srn_reader *r = pg_reader(&b.p);
    assert_int_equal(srn_reader_records(r, SRN_RECORD_EVENT, 0, find_lost, text, &err), SRN_OK);
    assert_non_null(strstr(text, "\"records\":"));
    srn_reader_close(r);
    behind_done(&b, there);
}

/* ---- a server that goes ---- */

static void a_restart_between_two_calls_is_not_noticed(void **state) {
    pg_place p = pg_place_new(state);
    pg_server *s = *state;
    outcome o;
    srn_ledger *l = open_watched(p.url, p.f.path, &o, 0, 0);
    srn_reader *r = pg_reader(&p);
    uint64_t end;
    srn_err err;
    assert_int_equal(commit_call(l, 1), SRN_OK);
    pg_stop(s, SIGINT);
    pg_start(s);
    assert_int_equal(commit_call(l, 2), SRN_OK);
    assert_string_equal(o.said, "");
    if (srn_reader_end(r, &end, &err)) fail_msg("%s", err.text);
    assert_int_equal(end, 2);
    srn_reader_close(r);
    srn_ledger_close(l);
    pg_place_done(&p);
}

static void while_the_server_is_away_calls_are_refused_or_kept(void **state) {
    pg_place p = pg_place_new(state);
    pg_server *s = *state;
    outcome o;
    srn_err err;
    srn_ledger *l = open_watched(p.url, p.f.path, &o, 0, 0);
    assert_int_equal(commit_call(l, 1), SRN_OK);
    pg_stop(s, SIGINT);
    append(l, &o, 2, false);
    append(l, &o, 3, true);
    wait_told(&o, 2);
    assert_int_equal(o.ok, 1);
    assert_int_equal(o.eio, 1);
    assert_false(srn_ledger_ready(l, &err));
    assert_null(strstr(err.text, PG_PASSWORD));
    pg_start(s);
    commit_at_last(l, 4);
    assert_int_equal(commit_call(l, 2), SRN_EEXIST);
    assert_int_equal(commit_call(l, 3), SRN_OK);
    assert_true(was_said(&o, "ledger_recovered"));
    srn_ledger_close(l);
    pg_place_done(&p);
}

static void a_database_that_may_only_be_read_refuses_and_recovers(void **state) {
    pg_place p = pg_place_new(state);
    outcome o;
    srn_err err;
    srn_ledger *l = open_watched(p.url, p.f.path, &o, 0, 0);
    assert_int_equal(commit_call(l, 1), SRN_OK);
    pg_admin(&p, "ALTER DATABASE %s SET default_transaction_read_only = on", true);
    assert_int_equal(commit_call(l, 2), SRN_EIO);
    assert_false(srn_ledger_ready(l, &err));
    if (!strstr(err.text, "can only be read")) fail_msg("%s", err.text);
    pg_admin(&p, "ALTER DATABASE %s RESET default_transaction_read_only", true);
    commit_at_last(l, 2);
    srn_ledger_close(l);
    pg_place_done(&p);
}

/* ---- crashes under load ---- */

enum { CLIENTS = 6, CRASHES = 3, ROUNDS = 40 };
typedef struct client {
    pthread_t thread;
    srn_ledger *l;
    uint32_t first;
    atomic_uint *acknowledged;
    bool done[4000]; /* whose record was acknowledged */
    uint32_t n;
    atomic_bool *ending;
} client;

/* As a server in required mode: an intent, then the call; either may be refused. */
static void *answer_calls(void *arg) {
    client *c = arg;
    char buf[1024];
    while (!atomic_load(c->ending) && c->n < SRN_LEN(c->done)) {
        uint32_t n = c->first + c->n;
        if (!commit(c->l, SRN_RECORD_INTENT, call_body(buf, sizeof buf, n, ""))) {
            c->done[c->n] = !commit(c->l, SRN_RECORD_CALL, call_body(buf, sizeof buf, n, ""));
            if (c->done[c->n]) atomic_fetch_add(c->acknowledged, 1);
            c->n++;
        } else {
            sched_yield();
        }
    }
    return NULL;
}

static void nothing_acknowledged_is_lost_when_the_server_crashes_under_load(void **state) {
    static client clients[CLIENTS];
    pg_place p = pg_place_new(state);
    pg_server *s = *state;
    outcome o;
    atomic_bool ending = false;
    atomic_uint acknowledged = 0;
    srn_ledger *l = open_watched(p.url, p.f.path, &o, 0, 0);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        memset(&clients[i], 0, sizeof clients[i]);
        clients[i] =
            (client){.l = l, .first = 10000 * (i + 1), .acknowledged = &acknowledged, .ending = &ending};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, answer_calls, &clients[i]), 0);
    }
    for (int i = 0; i < CRASHES; i++) {
        unsigned before = atomic_load(&acknowledged);
        while (atomic_load(&acknowledged) < before + ROUNDS) sched_yield();
        pg_crash(s);
        pg_start(s);
    }
    unsigned before = atomic_load(&acknowledged);
    while (atomic_load(&acknowledged) < before + ROUNDS) sched_yield(); /* it came back by itself */
    atomic_store(&ending, true);
    for (int i = 0; i < CLIENTS; i++) pthread_join(clients[i].thread, NULL);
    srn_ledger_close(l);
    srn_reader *r = pg_reader(&p);
    srn_buf body;
    srn_buf_init(&body, 1 << 20);
    for (int i = 0; i < CLIENTS; i++)
        for (uint32_t k = 0; k < clients[i].n; k++) {
            char text[SRN_ULID_CHARS + 1];
            uint8_t id[16];
            srn_stored stored;
            call_id(clients[i].first + k, text);
            assert_true(srn_ulid_parse(srn_str_of(text), id));
            int code = srn_reader_call(r, id, &stored, &body, NULL);
            if (clients[i].done[k] && (code || stored.kind != SRN_RECORD_CALL))
                fail_msg("%s is missing", text);
        }
    pg_holds(r);
    srn_buf_done(&body);
    srn_reader_close(r);
    assert_string_equal(pg_sql(p.url, "SELECT count(*) - count(DISTINCT id) FROM serin.calls"), "0");
    pg_place_done(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_answer_of_a_commit_makes_no_duplicate),
        cmocka_unit_test(much_content_comes_through_a_slow_line),
        cmocka_unit_test(a_server_that_misses_the_loss_of_its_client_is_told),
        cmocka_unit_test(a_commit_that_did_not_arrive_is_refused_and_comes_again),
        cmocka_unit_test(a_server_that_hangs_does_not_hang_the_ledger),
        cmocka_unit_test(a_restart_between_two_calls_is_not_noticed),
        cmocka_unit_test(while_the_server_is_away_calls_are_refused_or_kept),
        cmocka_unit_test(a_database_that_may_only_be_read_refuses_and_recovers),
        cmocka_unit_test(nothing_acknowledged_is_lost_when_the_server_crashes_under_load),
    };
    return cmocka_run_group_tests(tests, pg_group_begin, pg_group_end);
}
