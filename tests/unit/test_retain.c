/* Retention: what is old or too much goes, oldest first; what must stay stays; the chain holds over what is
 * gone, after a crash at any moment too; and nothing is dropped of a chain that somebody touched.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "ledger_help.h"

enum { CALLS = 700, DOC_SEQ = 301, ALL = CALLS + 2 }; /* a document among the calls, an event at the end */
#define SECRET "the garden gate"

/* ---- ledgers ---- */

static void log_event(void *ctx, const char *event, const char *detail) {
    (void)detail;
    if (strcmp(event, "ledger_damaged") == 0) __atomic_add_fetch((int *)ctx, 1, __ATOMIC_SEQ_CST);
}

static srn_ledger *open_with(const char *where, uint64_t retention_us, uint64_t max_bytes, int *damaged) {
    srn_ledger *l = NULL;
    srn_err err = {0};
    srn_ledger_opts o = {.where = where, .retention_us = retention_us, .max_bytes = max_bytes};
    if (damaged) {
        o.log = log_event;
        o.log_ctx = damaged;
    }
    if (srn_ledger_open(&o, &l, &err)) fail_msg("%s", err.text);
    return l;
}

static void add_document(srn_ledger *l, uint32_t version) {
    char buf[256];
    srn_err err = {0};
    srn_ledger_doc d = {"prompt", "a", version, SRN_STR("{\"text\":1}")};
    srn_entry e = {.kind = SRN_RECORD_EVENT, .body = event_body(buf, sizeof buf, "prompt_pushed"), .doc = &d};
    if (srn_ledger_commit(l, &e, &err)) fail_msg("%s", err.text);
}

static void add_event(srn_ledger *l, const char *name) {
    char buf[256];
    assert_int_equal(commit(l, SRN_RECORD_EVENT, event_body(buf, sizeof buf, name)), SRN_OK);
}

static void add_content(srn_ledger *l, uint32_t n, srn_str content) {
    char buf[1024];
    srn_err err = {0};
    srn_entry e = {.kind = SRN_RECORD_CALL, .body = call_body(buf, sizeof buf, n, ""), .content = content};
    if (srn_ledger_commit(l, &e, &err)) fail_msg("%s", err.text);
}

static void fill(const char *where) {
    srn_ledger *l = ledger_open(where);
    append_calls(l, 1, DOC_SEQ - 2);
    add_content(l, DOC_SEQ - 1, SRN_STR(SECRET));
    add_document(l, 1);
    append_calls(l, DOC_SEQ, CALLS);
    add_event(l, "config");
    srn_ledger_close(l);
}

static uint64_t dropped(srn_ledger *l) {
    srn_ledger_stats s;
    srn_ledger_get_stats(l, &s);
    return s.dropped;
}

static void wait_dropped(srn_ledger *l, uint64_t n) {
    while (dropped(l) < n) sched_yield();
}

static void sql(const char *where, const char *text) {
    char path[128], *why = NULL;
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/ledger.db", where);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, &why)) fail_msg("%s: %s", text, why);
    sqlite3_close(db);
}

static int one_number(void *ctx, int n, char **values, char **names) {
    (void)n, (void)names;
    *(long long *)ctx = values[0] ? strtoll(values[0], NULL, 10) : 0;
    return 0;
}

static long long number(const char *where, const char *text) {
    char path[128];
    sqlite3 *db;
    long long n = 0;
    snprintf(path, sizeof path, "%s/ledger.db", where);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, one_number, &n, NULL)) fail_msg("%s: %s", text, sqlite3_errmsg(db));
    sqlite3_close(db);
    return n;
}

static srn_verify_result verify(const char *where) {
    srn_reader *r = reader_open(where);
    srn_verify_result v = {0};
    srn_err err;
    if (srn_reader_verify(r, NULL, &v, &err)) fail_msg("%s", err.text);
    srn_reader_close(r);
    return v;
}

static void assert_holds(const char *where) {
    srn_verify_result v = verify(where);
    if (!v.ok) fail_msg("%s", v.what);
}

static void assert_broken(const char *where, const char *says) {
    srn_verify_result v = verify(where);
    assert_false(v.ok);
    if (!strstr(v.what, says)) fail_msg("'%s' is not in: %s", says, v.what);
}

/* A ledger whose calls are all gone: the document's event, the configuration's, a checkpoint, the tombstone
 * and the checkpoint of the close are left. */
static folder dropped_ledger(void) {
    folder f = folder_new();
    fill(f.path);
    srn_ledger *l = open_with(f.path, 1, 0, NULL);
    wait_dropped(l, CALLS);
    srn_ledger_close(l);
    return f;
}

/* ---- what goes and what stays ---- */

static void old_calls_go_and_the_chain_holds(void **state) {
    (void)state;
    folder f = dropped_ledger();
    srn_verify_result v = verify(f.path);
    if (!v.ok) fail_msg("%s", v.what);
    assert_int_equal(v.n_dropped, CALLS);
    assert_int_equal(number(f.path, "SELECT count(*) FROM records WHERE kind = 2"), 0);
    assert_int_equal(number(f.path, "SELECT count(*) FROM calls"), 0);
    assert_int_equal(number(f.path, "SELECT count(*) FROM contents"), 0);
    assert_int_equal(number(f.path, "SELECT count(*) FROM docs"), 1);
    assert_int_equal(number(f.path, "SELECT count(*) FROM records WHERE kind = 3"), 2);
    assert_int_equal(number(f.path, "SELECT count(*) FROM records WHERE kind = 6"), 1);
    assert_true(number(f.path, "SELECT count(*) FROM records WHERE kind = 5") >= 1);
    srn_reader *r = reader_open(f.path);
    uint8_t id[16];
    char text[SRN_ULID_CHARS + 1];
    srn_stored s;
    srn_buf body;
    srn_buf_init(&body, 1 << 20);
    call_id(5, text);
    assert_true(srn_ulid_parse(srn_str_of(text), id));
    assert_int_equal(srn_reader_call(r, id, &s, &body, NULL), SRN_ENOENT);
    srn_buf_done(&body);
    srn_reader_close(r);
    folder_done(&f);
}

static void dropped_content_is_gone_from_the_files(void **state) {
    (void)state;
    folder f = folder_new();
    fill(f.path);
    char path[128];
    for (int gone = 0; gone < 2; gone++) {
        bool seen = false;
        for (int i = 0; i < 2; i++) {
            char *data = NULL;
            size_t n = 0;
            snprintf(path, sizeof path, "%s/ledger.db%s", f.path, i ? "-wal" : "");
            if (srn_read_file(path, 1 << 30, &data, &n, NULL)) continue;
            seen |= memmem(data, n, SECRET, sizeof SECRET - 1) != NULL;
            free(data);
        }
        assert_int_equal(seen, !gone);
        if (gone) continue;
        srn_ledger *l = open_with(f.path, 1, 0, NULL);
        wait_dropped(l, CALLS);
        srn_ledger_close(l);
    }
    folder_done(&f);
}

static void what_is_young_enough_stays(void **state) {
    (void)state;
    folder f = folder_new();
    fill(f.path);
    srn_ledger *l = open_with(f.path, (uint64_t)3600 * 1000000, (uint64_t)1 << 40, NULL);
    append_calls(l, CALLS + 1, CALLS + 2); /* the writer's thread has looked once by then */
    srn_ledger_close(l);
    assert_int_equal(number(f.path, "SELECT count(*) FROM calls"), CALLS + 2);
    assert_int_equal(number(f.path, "SELECT count(*) FROM records WHERE kind = 6"), 0);
    folder_done(&f);
}

static void other_limits_hold_for_a_ledger_that_is_open(void **state) {
    (void)state;
    folder f = folder_new();
    fill(f.path);
    srn_ledger *l = open_with(f.path, 0, 0, NULL);
    append_calls(l, CALLS + 1, CALLS + 2);
    assert_int_equal(dropped(l), 0);
    srn_ledger_retain(l, 1, 0);
    append_calls(l, CALLS + 3, CALLS + 3); /* the writer's thread looks when something comes */
    wait_dropped(l, CALLS);
    srn_ledger_close(l);
    assert_holds(f.path);
    folder_done(&f);
}

static void on_failure(void *ctx, const char *event, const char *detail) {
    if (strcmp(event, "ledger_retention_failed") != 0) return;
    assert_non_null(strstr(detail, "not today"));
    __atomic_add_fetch((int *)ctx, 1, __ATOMIC_SEQ_CST);
}

static void what_cannot_be_dropped_is_said_once_counted_and_dropped_later(void **state) {
    (void)state;
    folder f = folder_new();
    int said = 0;
    srn_ledger *l = NULL;
    srn_ledger_stats s = {0};
    srn_err err = {0};
    srn_ledger_opts o = {.where = f.path, .retention_us = 1, .log = on_failure, .log_ctx = &said};
    fill(f.path);
    sql(f.path, "CREATE TRIGGER no BEFORE DELETE ON records BEGIN SELECT RAISE(ABORT, 'not today'); END");
    if (srn_ledger_open(&o, &l, &err)) fail_msg("%s", err.text);
    while (s.retention_failed < 2) { /* a second apart */
        sched_yield();
        srn_ledger_get_stats(l, &s);
    }
    assert_int_equal(s.dropped, 0);
    assert_int_equal(__atomic_load_n(&said, __ATOMIC_SEQ_CST), 1);
    sql(f.path, "DROP TRIGGER no");
    wait_dropped(l, CALLS);
    srn_ledger_close(l);
    assert_holds(f.path);
    folder_done(&f);
}

static void calls_that_still_run_stay(void **state) {
    (void)state;
    folder f = folder_new();
    char buf[1024];
    srn_ledger *l = open_with(f.path, 1, 0, NULL);
    append_calls(l, 1, 10);
    assert_int_equal(commit(l, SRN_RECORD_INTENT, call_body(buf, sizeof buf, 1000, "")), SRN_OK);
    append_calls(l, 11, 30);
    wait_dropped(l, 10);
    assert_int_equal(number(f.path, "SELECT count(*) FROM records WHERE kind = 1"), 1);
    assert_int_equal(number(f.path, "SELECT count(*) FROM calls"), 20);
    assert_int_equal(commit_call(l, 1000), SRN_OK);
    srn_ledger_close(l);
    l = open_with(f.path, 1, 0, NULL);
    while (number(f.path, "SELECT count(*) FROM calls")) sched_yield();
    srn_ledger_close(l);
    assert_holds(f.path);
    folder_done(&f);
}

static void what_is_dropped_twice_is_one_tombstone(void **state) {
    (void)state;
    folder f = dropped_ledger();
    srn_ledger *l = ledger_open(f.path);
    append_calls(l, CALLS + 1, CALLS + 50);
    add_document(l, 2);
    append_calls(l, CALLS + 51, CALLS + 90);
    srn_ledger_close(l);
    l = open_with(f.path, 1, 0, NULL);
    wait_dropped(l, 90);
    srn_ledger_close(l);
    srn_verify_result v = verify(f.path);
    if (!v.ok) fail_msg("%s", v.what);
    assert_true(v.n_dropped >= CALLS + 90);
    assert_int_equal(number(f.path, "SELECT count(*) FROM records WHERE kind = 6"), 1);
    assert_int_equal(number(f.path, "SELECT count(*) FROM docs"), 2);
    folder_done(&f);
}

static void the_oldest_make_room_when_there_is_too_much(void **state) {
    (void)state;
    enum { MAX = 1500000, N = 400 };
    folder f = folder_new();
    char *bytes = malloc(20000);
    srn_ledger *l = open_with(f.path, 0, MAX, NULL);
    for (size_t i = 0; i < 20000; i++) bytes[i] = (char)(i * 2654435761u >> 11);
    for (uint32_t n = 1; n <= N; n++) add_content(l, n, (srn_str){bytes, 20000});
    srn_ledger_close(l);
    for (int i = 0; i < 2; i++) { /* what was left is dropped at the next start */
        l = open_with(f.path, 0, MAX, NULL);
        if (!i) wait_dropped(l, 1);
        srn_ledger_close(l);
    }
    assert_holds(f.path);
    long long used = number(f.path, "SELECT (p.page_count - l.freelist_count) * s.page_size FROM"
                                    " pragma_page_count p, pragma_freelist_count l, pragma_page_size s");
    long long left = number(f.path, "SELECT count(*) FROM calls");
    assert_true(left > 0 && left < N);
    assert_int_equal(number(f.path, "SELECT count(*) FROM contents"), left);
    assert_int_equal(number(f.path, "SELECT max(begun_us) FROM calls"), 1000 + N); /* the newest is there */
    assert_int_equal(number(f.path, "SELECT max(begun_us) - min(begun_us) + 1 FROM calls"), left);
    (void)used;
    free(bytes);
    folder_done(&f);
}

/* ---- crashes ---- */

static void a_crash_in_the_middle_is_gone_on_with(void **state) {
    (void)state;
    unsigned seed = (unsigned)getpid();
    print_message("seed %u\n", seed);
    folder f = folder_new();
    fill(f.path);
    uint32_t next = CALLS + 1;
    for (int round = 0; round < 12; round++) {
        int tube[2];
        assert_int_equal(pipe(tube), 0);
        pid_t child = fork();
        if (child == 0) {
            srn_ledger *l = NULL;
            char buf[1024];
            srn_ledger_opts o = {.where = f.path, .retention_us = 1};
            if (srn_ledger_open(&o, &l, NULL)) _exit(3);
            for (uint32_t n = next;; n++) {
                srn_entry e = {.kind = SRN_RECORD_CALL, .body = call_body(buf, sizeof buf, n, "")};
                if (srn_ledger_commit(l, &e, NULL)) _exit(4);
                if (write(tube[1], &n, sizeof n) != sizeof n) _exit(5);
            }
        }
        close(tube[1]);
        int enough = rand_r(&seed) % 40;
        uint32_t n = next - 1;
        for (int i = 0; i < enough && read(tube[0], &n, sizeof n) == sizeof n; i++) continue;
        kill(child, SIGKILL);
        while (read(tube[0], &n, sizeof n) == sizeof n) continue;
        close(tube[0]);
        int status = 0;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        assert_holds(f.path);
        next = n + 2; /* n + 1 may have been committed without a word */
    }
    srn_ledger *l = open_with(f.path, 1, 0, NULL);
    add_event(l, "config");
    srn_ledger_close(l);
    l = open_with(f.path, 1, 0, NULL);
    wait_dropped(l, 1);
    srn_ledger_close(l);
    assert_holds(f.path);
    assert_int_equal(number(f.path, "SELECT count(*) FROM docs"), 1);
    folder_done(&f);
}

/* As a crash leaves it after the tombstone and before the rest: what stands below it says nothing. */
static void records_that_are_still_to_go_disturb_nobody(void **state) {
    (void)state;
    folder f = dropped_ledger();
    sql(f.path, "INSERT INTO records(seq, epoch, kind, t_us, call, body, content_sha, hash)"
                " VALUES(200, 1, 2, 5, NULL, '{}', NULL, x'00')");
    assert_holds(f.path);
    srn_ledger *l = open_with(f.path, 0, 0, NULL);
    wait_dropped(l, 1);
    srn_ledger_close(l);
    assert_int_equal(number(f.path, "SELECT count(*) FROM records WHERE seq = 200"), 0);
    assert_holds(f.path);
    folder_done(&f);
}

/* ---- tampering ---- */

static void what_stayed_is_vouched_for(void **state) {
    (void)state;
    static const struct {
        const char *sql, *says;
    } deeds[] = {
        {"UPDATE records SET body = replace(body, 'test', 'tEst') WHERE seq = 301", "events that stayed"},
        {"DELETE FROM docs; DELETE FROM records WHERE seq = 301", "events that stayed"},
        {"UPDATE docs SET body = '{}'", "its document was edited"},
        {"DELETE FROM docs", "its document was removed"},
        {"INSERT INTO records SELECT 7, epoch, kind, t_us, call, body, NULL, hash FROM records WHERE seq = "
         "702",
         "events that stayed"},
        {"UPDATE records SET body = replace(body, '\"to\":', '\"to\":1') WHERE kind = 6", "signature"},
        {"DELETE FROM records WHERE kind = 6", "removed"},
    };
    for (size_t i = 0; i < SRN_LEN(deeds); i++) {
        folder f = dropped_ledger();
        sql(f.path, deeds[i].sql);
        assert_broken(f.path, deeds[i].says);
        folder_done(&f);
    }
}

static void nothing_is_dropped_of_a_chain_that_was_touched(void **state) {
    (void)state;
    folder f = folder_new();
    fill(f.path);
    sql(f.path, "UPDATE records SET body = replace(body, 'small', 'smell') WHERE seq = 650");
    int damaged = 0;
    srn_ledger *l = open_with(f.path, 1, 0, &damaged);
    while (!__atomic_load_n(&damaged, __ATOMIC_SEQ_CST)) sched_yield();
    srn_ledger_close(l);
    assert_int_equal(number(f.path, "SELECT count(*) FROM calls"), CALLS);
    assert_int_equal(number(f.path, "SELECT count(*) FROM records WHERE kind = 6"), 0);
    assert_broken(f.path, "record 650");
    folder_done(&f);
}

/* ---- room ---- */

static void calls_come_in_while_others_go(void **state) {
    (void)state;
    folder f = folder_new();
    fill(f.path);
    srn_ledger *l = open_with(f.path, 1, 0, NULL);
    uint32_t n = CALLS;
    while (dropped(l) < CALLS) assert_int_equal(commit_call(l, ++n), SRN_OK);
    srn_ledger_close(l);
    assert_holds(f.path);
    folder_done(&f);
}

static void commands_are_told_the_limits_that_are_in_force(void **state) {
    (void)state;
    folder f = folder_new();
    srn_ledger *l = open_with(f.path, 0, 64 << 20, NULL);
    srn_reader_status s;
    srn_err err = {0};
    assert_int_equal(srn_ledger_announce(l, "http://127.0.0.1:1", &err), SRN_OK);
    srn_ledger_retain(l, 0, 32 << 20); /* as a server does whose configuration is read again */
    srn_reader *r = reader_open(f.path);
    if (srn_reader_get_status(r, &s, &err)) fail_msg("%s", err.text);
    assert_int_equal(s.max_bytes, 32 << 20);
    assert_string_equal(s.writer_address, "http://127.0.0.1:1");
    srn_reader_close(r);
    srn_ledger_close(l);
    folder_done(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_calls_go_and_the_chain_holds),
        cmocka_unit_test(dropped_content_is_gone_from_the_files),
        cmocka_unit_test(what_is_young_enough_stays),
        cmocka_unit_test(other_limits_hold_for_a_ledger_that_is_open),
        cmocka_unit_test(what_cannot_be_dropped_is_said_once_counted_and_dropped_later),
        cmocka_unit_test(calls_that_still_run_stay),
        cmocka_unit_test(what_is_dropped_twice_is_one_tombstone),
        cmocka_unit_test(the_oldest_make_room_when_there_is_too_much),
        cmocka_unit_test(a_crash_in_the_middle_is_gone_on_with),
        cmocka_unit_test(records_that_are_still_to_go_disturb_nobody),
        cmocka_unit_test(what_stayed_is_vouched_for),
        cmocka_unit_test(nothing_is_dropped_of_a_chain_that_was_touched),
        cmocka_unit_test(calls_come_in_while_others_go),
        cmocka_unit_test(commands_are_told_the_limits_that_are_in_force),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
