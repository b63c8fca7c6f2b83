/* Several processes that write one ledger in PostgreSQL: one chain whoever writes, each call once, nobody's
 * open calls are touched while he lives, and what the dead have left is closed by the others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>

#include "ledger/ledger_internal.h"
#include "ledger_outcome.h"
#include "postgres_place.h"
#include "postgres_proxy.h"

#define LONG_US UINT64_C(3600000000)
enum { SHORT_US = 60000 };

typedef struct pair { /* two machines that share a database */
    pg_place p;
    folder other; /* with the same keys */
} pair;

/* An opening, and the sentence of one that fails. */
static int open_in(const char *url, const folder *f, uint64_t dead_us, uint64_t retention_us,
                   srn_ledger **ret, srn_err *err) {
    const srn_ledger_opts o = {.where = url,
                               .folder = f->path,
                               .dead_us = dead_us,
                               .retention_us = retention_us,
                               .patience_us = 20000000};
    *ret = NULL;
    return srn_ledger_open(&o, ret, err);
}

static srn_ledger *open_or_fail(const char *url, const folder *f, uint64_t dead_us) {
    srn_ledger *l;
    srn_err err = {0};
    if (open_in(url, f, dead_us, 0, &l, &err)) fail_msg("%s", err.text);
    return l;
}

static folder folder_with_keys(const folder *of) {
    folder f = folder_new();
    char from[96], to[96];
    snprintf(to, sizeof to, "%s/keys", f.path);
    mkdir(to, 0700);
    snprintf(from, sizeof from, "%s/keys/root.key", of->path);
    snprintf(to, sizeof to, "%s/keys/root.key", f.path);
    copy_file(from, to);
    return f;
}

static pair pair_new(void **state) {
    pair x = {.p = pg_place_new(state)};
    srn_ledger_close(open_or_fail(x.p.url, &x.p.f, 0));
    x.other = folder_with_keys(&x.p.f);
    return x;
}

static void pair_done(pair *x) {
    pg_place_done(&x->p);
    folder_done(&x->other);
}

static uint64_t ask_number(const pg_place *p, const char *sql) {
    return strtoull(pg_sql(p->url, sql), NULL, 10);
}

/* ---- one chain ---- */

static void two_write_in_turns_and_the_chain_is_one(void **state) {
    pair x = pair_new(state);
    char buf[256];
    srn_err err;
    srn_buf text;
    srn_ledger *a = open_or_fail(x.p.url, &x.p.f, LONG_US), *b = open_or_fail(x.p.url, &x.other, LONG_US);
    for (uint32_t n = 1; n <= 40; n++) assert_int_equal(commit_call(n % 2 ? a : b, n), SRN_OK);
    assert_int_equal(commit_call(a, 2), SRN_EEXIST); /* of the other one */
    assert_int_equal(commit_call(b, 1), SRN_EEXIST);
    const srn_ledger_doc d = {"prompt", "p", 1, SRN_STR("{}")};
    const srn_entry e = {
        .kind = SRN_RECORD_EVENT, .body = event_body(buf, sizeof buf, "prompt_pushed"), .doc = &d};
    assert_int_equal(srn_ledger_commit(a, &e, &err), SRN_OK);
    assert_int_equal(srn_ledger_commit(b, &e, &err), SRN_EEXIST);
    srn_buf_init(&text, 1 << 16);
    assert_int_equal(srn_ledger_checkpoint(a, &text, &err), SRN_OK);
    assert_non_null(strstr(text.data, "\"seq\":41,"));
    assert_int_equal(srn_ledger_checkpoint(b, &text, &err), SRN_OK);
    assert_non_null(strstr(text.data, "\"seq\":42,")); /* the other one's checkpoint */
    srn_buf_done(&text);
    srn_ledger_close(b);
    assert_int_equal(commit_call(a, 41), SRN_OK);
    srn_ledger_close(a);
    assert_int_equal(ask_number(&x.p, "SELECT count(*) FROM serin.writers"), 0);
    pair_done(&x);
}

typedef struct load {
    pthread_t thread;
    srn_ledger *l;
    uint32_t first, n, stored;
    atomic_bool *ending;
} load;

static void *write_calls(void *arg) {
    load *x = arg;
    char buf[1024];
    for (uint32_t i = 0; i < x->n && !(x->ending && atomic_load(x->ending)); i++) {
        if (commit(x->l, SRN_RECORD_INTENT, call_body(buf, sizeof buf, x->first + i, ""))) continue;
        x->stored += !commit(x->l, SRN_RECORD_CALL, call_body(buf, sizeof buf, x->first + i, ""));
    }
    return NULL;
}

static void begin_load(load *x, srn_ledger *l, uint32_t first, uint32_t n, atomic_bool *ending) {
    *x = (load){.l = l, .first = first, .n = n, .ending = ending};
    assert_int_equal(pthread_create(&x->thread, NULL, write_calls, x), 0);
}

static void many_threads_of_two_writers_make_one_chain(void **state) {
    enum { THREADS = 6, EACH = 60 };
    pair x = pair_new(state);
    load loads[THREADS];
    pg_sql(x.p.url, "UPDATE serin.meta SET part_records = 100"); /* either makes the next part */
    srn_ledger *a = open_or_fail(x.p.url, &x.p.f, LONG_US), *b = open_or_fail(x.p.url, &x.other, LONG_US);
    for (uint32_t i = 0; i < THREADS; i++) begin_load(&loads[i], i % 2 ? a : b, 1000 * (i + 1), EACH, NULL);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(loads[i].thread, NULL);
        assert_int_equal(loads[i].stored, EACH);
    }
    assert_int_equal(stats_of(a).open_intents + stats_of(b).open_intents, 0);
    srn_ledger_close(a);
    srn_ledger_close(b);
    assert_int_equal(ask_number(&x.p, "SELECT count(*) FROM serin.calls"), THREADS * EACH);
    assert_int_equal(ask_number(&x.p, "SELECT max(seq) - count(*) FROM serin.records"), 0);
    assert_int_equal(ask_number(&x.p, "SELECT count(*) FROM serin.open"), 0);
    pair_done(&x);
}

typedef struct opening {
    pthread_t thread;
    const char *url;
    const folder *f;
    srn_ledger *l;
    srn_err err;
} opening;

static void *open_one(void *arg) {
    opening *o = arg;
    open_in(o->url, o->f, 0, 0, &o->l, &o->err);
    return NULL;
}

static void two_that_find_an_empty_database_make_one_ledger(void **state) {
    enum { N = 4 };
    pair x = {.p = pg_place_new(state)};
    opening all[N];
    folder f[N];
    char path[96];
    snprintf(path, sizeof path, "%s/keys", x.p.f.path);
    srn_ledger_keys *k = NULL;
    srn_err err = {0};
    if (srn_ledger_keys_open(path, &k, &err)) fail_msg("%s", err.text);
    srn_ledger_keys_close(k);
    for (int i = 0; i < N; i++) {
        f[i] = folder_with_keys(&x.p.f);
        all[i] = (opening){.url = x.p.url, .f = &f[i]};
        assert_int_equal(pthread_create(&all[i].thread, NULL, open_one, &all[i]), 0);
    }
    for (int i = 0; i < N; i++) pthread_join(all[i].thread, NULL);
    for (int i = 0; i < N; i++) {
        if (!all[i].l) fail_msg("%s", all[i].err.text);
        assert_int_equal(commit_call(all[i].l, (uint32_t)i + 1), SRN_OK);
    }
    for (int i = 0; i < N; i++) {
        srn_ledger_close(all[i].l);
        folder_done(&f[i]);
    }
    pg_place_done(&x.p);
}

/* ---- who may ---- */

static void who_has_other_keys_is_told_to_copy_them(void **state) {
    pair x = pair_new(state);
    folder stranger = folder_new();
    srn_ledger *l, *a = open_or_fail(x.p.url, &x.p.f, 0);
    srn_err err = {0};
    assert_int_equal(open_in(x.p.url, &stranger, 0, 0, &l, &err), SRN_EINVAL);
    if (!strstr(err.text, "copy the keys folder")) fail_msg("%s", err.text);
    assert_null(strstr(err.text, PG_PASSWORD));
    assert_int_equal(open_in(x.p.url, &x.p.f, 0, 0, &l, &err), SRN_EBUSY); /* a folder has one writer */
    assert_int_equal(commit_call(a, 1), SRN_OK);
    srn_ledger_close(a);
    assert_int_equal(open_in(x.p.url, &stranger, 0, 0, &l, &err), SRN_EINVAL);
    folder_done(&stranger);
    pair_done(&x);
}

/* What a start is told that finds somebody who has the chain, with these locks. */
static void start_beside(void **state, const char *locks, const char *told) {
    pair x = pair_new(state);
    srn_err err = {0};
    srn_ledger *l = NULL;
    PGconn *holder = PQconnectdb(x.p.url);
    PQclear(PQexec(holder, "SET application_name = 'serin'"));
    PQclear(PQexec(holder, locks));
    const srn_ledger_opts o = {.where = x.p.url, .folder = x.p.f.path, .patience_us = 600000};
    assert_int_equal(srn_ledger_open(&o, &l, &err), SRN_EBUSY);
    if (!strstr(err.text, told) || !strstr(err.text, "(serin at 127.0.0.1")) fail_msg("%s", err.text);
    PQfinish(holder);
    pair_done(&x);
}

static void an_older_serin_that_shares_with_nobody_is_named(void **state) {
    start_beside(state, "SELECT pg_advisory_lock(1397902924, 1)", "another process writes this ledger");
}

static void who_stands_still_in_a_commit_is_named(void **state) {
    start_beside(state, "SELECT pg_advisory_lock(1397902924, 1), pg_advisory_lock(1397902935, 77)",
                 "stands still in the midst of a commit");
}

static void a_ledger_of_one_writer_is_brought_up_to_date(void **state) {
    pair x = pair_new(state);
    char buf[1024];
    srn_ledger *a = open_or_fail(x.p.url, &x.p.f, 0);
    assert_int_equal(commit(a, SRN_RECORD_INTENT, call_body(buf, sizeof buf, 1, "")), SRN_OK);
    srn_ledger_close(a);
    pg_sql(x.p.url, "ALTER TABLE serin.meta DROP COLUMN hash_key; DROP TABLE serin.writers;"
                    "ALTER TABLE serin.open DROP COLUMN writer; UPDATE serin.meta SET format = 1");
    srn_reader *r = pg_reader(&x.p); /* which can be read as it is */
    pg_holds(r);
    srn_reader_close(r);
    a = open_or_fail(x.p.url, &x.other, LONG_US);
    assert_int_equal(stats_of(a).interrupted, 1); /* whoever wrote it is gone */
    assert_string_equal(pg_sql(x.p.url, "SELECT format FROM serin.meta"), "2");
    srn_ledger_close(a);
    pair_done(&x);
}

static void nothing_is_restored_under_those_who_write(void **state) {
    pair x = pair_new(state);
    srn_err err = {0};
    srn_backup_info info;
    srn_ledger *a = open_or_fail(x.p.url, &x.p.f, 0);
    assert_int_equal(commit_call(a, 1), SRN_OK);
    const srn_restore_opts o = {.from = "dump", .where = x.p.url, .folder = x.other.path};
    assert_int_equal(srn_ledger_restore(&o, &info, &err), SRN_EBUSY);
    if (!strstr(err.text, "1 other process writes this ledger")) fail_msg("%s", err.text);
    assert_int_equal(commit_call(a, 2), SRN_OK);
    srn_ledger_close(a);
    pair_done(&x);
}

/* ---- those who die ---- */

/* A process that has a call open, until it is killed. */
typedef struct child {
    pid_t pid;
    int ready;
} child;

static child child_new(void (*run)(const char *url, const folder *f, uint32_t n), const char *url,
                       const folder *f, uint32_t n) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) fail_msg("no pipe");
    pid_t parent = getpid();
    child c = {fork(), ends[0]};
    if (c.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
        run(url, f, n);
        if (write(ends[1], "x", 1) != 1) _exit(2);
        for (;;) pause();
    }
    char byte;
    close(ends[1]);
    if (read(c.ready, &byte, 1) != 1) fail_msg("the other process did not come so far");
    return c;
}

static void child_kill(child *c) {
    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
    close(c->ready);
}

static void open_a_call(const char *url, const folder *f, uint32_t n) {
    char buf[1024];
    srn_ledger *l;
    srn_err err;
    if (open_in(url, f, LONG_US, 0, &l, &err)) _exit(3);
    if (commit(l, SRN_RECORD_INTENT, call_body(buf, sizeof buf, n, ""))) _exit(4);
}

static void die_in_a_transaction(const char *url, const folder *f, uint32_t n) {
    static const srn__sharing sharing = {.answer_us = 15000000, .dead_us = LONG_US};
    char buf[1024];
    srn__home home;
    srn__store *s;
    srn__tail t = {0};
    srn__row row = {.kind = SRN_RECORD_CALL, .body = call_body(buf, sizeof buf, n, "")};
    srn_record *record;
    srn_err err;
    if (srn__home_init(&home, url, f->path, &err) || srn__postgres_open(&home, &sharing, &s, &err)) _exit(3);
    if (s->ops->begin(s, &err) || srn_record_decode(row.kind, row.body, &record, &err)) _exit(4);
    s->ops->end(s, &t);
    row.record = record;
    row.seq = t.seq + 1;
    row.epoch = t.epoch;
    if (s->ops->put(s, &row, &err)) _exit(5);
}

static void the_open_calls_of_the_dead_are_closed_and_those_of_the_living_stay(void **state) {
    pair x = pair_new(state);
    folder third = folder_with_keys(&x.other);
    char buf[1024];
    child dies = child_new(open_a_call, x.p.url, &x.other, 1),
          lives = child_new(open_a_call, x.p.url, &third, 2);
    srn_ledger *a = open_or_fail(x.p.url, &x.p.f, SHORT_US);
    assert_int_equal(commit(a, SRN_RECORD_INTENT, call_body(buf, sizeof buf, 3, "")), SRN_OK);
    assert_int_equal(stats_of(a).interrupted, 0);
    child_kill(&dies);
    while (!stats_of(a).interrupted) sched_yield();
    assert_int_equal(stats_of(a).interrupted, 1);
    assert_int_equal(stats_of(a).open_intents, 1); /* its own */
    assert_string_equal(pg_sql(x.p.url, "SELECT count(*) FROM serin.calls WHERE finish = 'interrupted'"),
                        "1");
    assert_int_equal(ask_number(&x.p, "SELECT count(*) FROM serin.open"), 2);
    assert_int_equal(ask_number(&x.p, "SELECT count(*) FROM serin.writers"), 2);
    assert_int_equal(commit_call(a, 1), SRN_EEXIST);
    assert_int_equal(commit_call(a, 3), SRN_OK);
    child_kill(&lives);
    while (stats_of(a).interrupted < 2) sched_yield();
    srn_ledger_close(a);
    assert_int_equal(ask_number(&x.p, "SELECT count(*) FROM serin.open"), 0);
    pair_done(&x);
    folder_done(&third);
}

static void a_start_knows_whom_its_folder_takes_the_place_of(void **state) {
    pair x = pair_new(state);
    folder third = folder_with_keys(&x.other);
    child dies = child_new(open_a_call, x.p.url, &x.other, 1),
          too = child_new(open_a_call, x.p.url, &third, 2);
    child_kill(&dies);
    child_kill(&too);
    srn_ledger *a = open_or_fail(x.p.url, &x.other, LONG_US);
    assert_int_equal(stats_of(a).interrupted, 1); /* the third may come back */
    assert_int_equal(ask_number(&x.p, "SELECT count(*) FROM serin.open"), 1);
    srn_ledger_close(a);
    a = open_or_fail(x.p.url, &third, LONG_US);
    assert_int_equal(stats_of(a).interrupted, 1);
    srn_ledger_close(a);
    pair_done(&x);
    folder_done(&third);
}

static void who_is_killed_in_a_transaction_leaves_nothing_of_it_and_holds_nobody(void **state) {
    pair x = pair_new(state);
    srn_ledger *a = open_or_fail(x.p.url, &x.p.f, LONG_US);
    outcome o;
    outcome_init(&o);
    assert_int_equal(commit_call(a, 1), SRN_OK);
    child c = child_new(die_in_a_transaction, x.p.url, &x.other, 2);
    append(a, &o, 3, true); /* waits for the other one's end */
    child_kill(&c);
    wait_told(&o, 1);
    assert_int_equal(o.ok, 1);
    assert_int_equal(commit_call(a, 2), SRN_OK);
    srn_ledger_close(a);
    assert_int_equal(ask_number(&x.p, "SELECT count(*) FROM serin.calls"), 3);
    pair_done(&x);
}

/* ---- a connection that is cut ---- */

/* Somebody else writes all the time, so that the chain has gone on when the answer is looked for. */
static void lose(void **state, pg_loss how, uint32_t eio) {
    pair x = pair_new(state);
    pg_proxy proxy;
    outcome o;
    load other;
    atomic_bool ending = false;
    char url[256];
    pg_proxy_new(&proxy, *state);
    snprintf(url, sizeof url, "postgresql://serin:%s@127.0.0.1:%d%s", PG_PASSWORD, proxy.port,
             strrchr(x.p.url, '/'));
    srn_ledger *a = open_or_fail(url, &x.p.f, LONG_US), *b = open_or_fail(x.p.url, &x.other, LONG_US);
    outcome_init(&o);
    begin_load(&other, b, 1000, 100000, &ending);
    for (uint32_t i = 1; i <= 5; i++) {
        atomic_store(&proxy.loss, (int)how);
        append(a, &o, i, true);
        wait_told(&o, i);
        assert_int_equal(atomic_load(&proxy.lost), i);
    }
    assert_int_equal(o.eio, eio);
    assert_int_equal(o.ok, 5 - eio);
    atomic_store(&ending, true);
    pthread_join(other.thread, NULL);
    for (uint32_t i = 1; i <= 5; i++) assert_int_equal(commit_call(a, i), eio ? SRN_OK : SRN_EEXIST);
    srn_ledger_close(a);
    srn_ledger_close(b);
    pg_proxy_done(&proxy);
    assert_int_equal(ask_number(&x.p, "SELECT count(*) FROM serin.calls"), 5 + other.stored);
    assert_int_equal(ask_number(&x.p, "SELECT count(DISTINCT id) FROM serin.calls"), 5 + other.stored);
    pair_done(&x);
}

static void a_lost_answer_is_found_though_others_have_written_since(void **state) {
    lose(state, PG_LOSE_ANSWER, 0);
}

static void the_same_where_the_server_has_not_seen_the_loss(void **state) {
    lose(state, PG_LOSE_CLIENT, 0);
}

static void a_commit_that_did_not_arrive_is_known_not_to_have(void **state) {
    lose(state, PG_LOSE_COMMIT, 5);
}

/* ---- retention ---- */

static void two_that_drop_do_it_in_turns(void **state) {
    enum { CALLS = 700 };
    pair x = pair_new(state);
    srn_err err = {0};
    srn_buf text;
    pg_sql(x.p.url, "UPDATE serin.meta SET part_records = 100");
    srn_ledger *a = open_or_fail(x.p.url, &x.p.f, LONG_US), *b = NULL;
    append_calls(a, 1, CALLS);
    srn_ledger_close(a);
    if (open_in(x.p.url, &x.p.f, LONG_US, 1, &a, &err) || open_in(x.p.url, &x.other, LONG_US, 1, &b, &err))
        fail_msg("%s", err.text);
    while (stats_of(a).dropped + stats_of(b).dropped < CALLS) sched_yield();
    srn_ledger *stays = stats_of(a).dropped ? b : a; /* who did not drop goes on from where the other was */
    srn_ledger_close(stays == a ? b : a);
    append_calls(stays, CALLS + 1, CALLS + 300);
    srn_buf_init(&text, 1 << 16); /* what is behind the newest checkpoint stays */
    assert_int_equal(srn_ledger_checkpoint(stays, &text, &err), SRN_OK);
    srn_buf_done(&text);
    while (stats_of(stays).dropped < 300) sched_yield();
    srn_ledger_close(stays);
    assert_int_equal(ask_number(&x.p, "SELECT count(*) FROM serin.calls"), 0);
    pair_done(&x);
}

/* A tombstone that does not go on from the newest one would break the chain. */
static void who_has_not_the_turn_puts_no_tombstone(void **state) {
    static const srn__sharing sharing = {.answer_us = 15000000, .dead_us = LONG_US};
    pair x = pair_new(state);
    srn__home homes[2];
    srn__store *s[2];
    srn_err err = {0};
    char buf[256];
    srn__row row = {
        .kind = SRN_RECORD_TOMBSTONE, .seq = 1, .epoch = 1, .body = event_body(buf, sizeof buf, "dropped")};
    srn_record *record = NULL;
    assert_int_equal(srn_record_decode(SRN_RECORD_EVENT, row.body, &record, &err), SRN_OK);
    row.record = record;
    for (int i = 0; i < 2; i++)
        if (srn__home_init(&homes[i], x.p.url, i ? x.other.path : x.p.f.path, &err) ||
            srn__postgres_open(&homes[i], &sharing, &s[i], &err) || s[i]->ops->turn(s[i], true, &err))
            fail_msg("%s", err.text);
    assert_true(s[0]->turn);
    assert_false(s[1]->turn);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(s[i]->ops->begin(s[i], &err), SRN_OK);
        assert_int_equal(s[i]->ops->put(s[i], &row, &err), i ? SRN_EEXIST : SRN_OK);
        s[i]->ops->rollback(s[i]);
    }
    s[0]->ops->close(s[0]); /* its turn ends with its connection */
    while (!s[1]->turn) assert_int_equal(s[1]->ops->turn(s[1], true, &err), SRN_OK);
    s[1]->ops->close(s[1]);
    srn_record_free(record);
    for (int i = 0; i < 2; i++) srn__home_done(&homes[i]);
    pair_done(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_write_in_turns_and_the_chain_is_one),
        cmocka_unit_test(many_threads_of_two_writers_make_one_chain),
        cmocka_unit_test(two_that_find_an_empty_database_make_one_ledger),
        cmocka_unit_test(who_has_other_keys_is_told_to_copy_them),
        cmocka_unit_test(an_older_serin_that_shares_with_nobody_is_named),
        cmocka_unit_test(who_stands_still_in_a_commit_is_named),
        cmocka_unit_test(a_ledger_of_one_writer_is_brought_up_to_date),
        cmocka_unit_test(nothing_is_restored_under_those_who_write),
        cmocka_unit_test(the_open_calls_of_the_dead_are_closed_and_those_of_the_living_stay),
        cmocka_unit_test(a_start_knows_whom_its_folder_takes_the_place_of),
        cmocka_unit_test(who_is_killed_in_a_transaction_leaves_nothing_of_it_and_holds_nobody),
        cmocka_unit_test(a_lost_answer_is_found_though_others_have_written_since),
        cmocka_unit_test(the_same_where_the_server_has_not_seen_the_loss),
        cmocka_unit_test(a_commit_that_did_not_arrive_is_known_not_to_have),
        cmocka_unit_test(two_that_drop_do_it_in_turns),
        cmocka_unit_test(who_has_not_the_turn_puts_no_tombstone),
    };
    return cmocka_run_group_tests(tests, pg_group_begin, pg_group_end);
}
