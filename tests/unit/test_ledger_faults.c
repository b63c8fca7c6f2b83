/* A ledger whose disk is full, broken or locked: what somebody waits for is refused, what is buffered is kept
 * or counted as lost, nothing lies, and it recovers by itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ledger_outcome.h"
#include "ledger_vfs.h"

static srn_ledger *open_with(const char *where, outcome *o, uint32_t queue, uint64_t patience_us) {
    return open_watched(where, NULL, o, queue, patience_us);
}

static void holds(const char *where) {
    srn_reader *r = reader_open(where);
    srn_verify_result v;
    srn_err err;
    if (srn_reader_verify(r, NULL, &v, &err)) fail_msg("%s", err.text);
    if (!v.ok) fail_msg("%s", v.what);
    srn_reader_close(r);
}

static void fail_and_recover(bool full, bool broken, uint32_t syncs, const char *why) {
    folder f = folder_new();
    outcome o;
    srn_err err;
    vfs_install(f.path);
    srn_ledger *l = open_with(f.path, &o, 0, 0);
    assert_int_equal(commit_call(l, 1), SRN_OK);
    vfs_fail(full, broken, syncs);
    append(l, &o, 3, true);
    append(l, &o, 2, false);
    wait_told(&o, 2);
    assert_int_equal(o.ok, 1);  /* the buffered one has its place */
    assert_int_equal(o.eio, 1); /* the durable one is not stored */
    assert_true(was_said(&o, "ledger_failing"));
    if (full || broken) {
        assert_false(srn_ledger_ready(l, &err));
        assert_non_null(strstr(err.text, why));
        assert_false(stats_of(l).healthy);
        assert_int_equal(commit_call(l, 4), SRN_EIO);
    }
    vfs_fail(false, false, 0);
    int code;
    while ((code = commit_call(l, 5)) == SRN_EIO) continue; /* taken along by a try that began before */
    assert_int_equal(code, SRN_OK);
    assert_true(srn_ledger_ready(l, &err));
    assert_true(was_said(&o, "ledger_recovered"));
    assert_int_equal(commit_call(l, 2), SRN_EEXIST); /* kept, and written */
    assert_int_equal(commit_call(l, 3), SRN_OK);     /* refused, and not there */
    assert_int_equal(stats_of(l).lost, 0);
    srn_ledger_close(l);
    holds(f.path);
    folder_done(&f);
}

static void a_full_disk_refuses_and_recovers(void **state) {
    (void)state;
    fail_and_recover(true, false, 0, "full");
}

static void a_broken_disk_refuses_and_recovers(void **state) {
    (void)state;
    fail_and_recover(false, true, 0, "I/O");
}

/* What was written before the sync failed would come back after a crash: it is written over first. */
static void a_commit_whose_sync_fails_is_certainly_not_stored(void **state) {
    (void)state;
    fail_and_recover(false, false, 1, "");
}

/* As long as nobody can tell, nobody is told; and a survivor of a crash would be honest. */
static void a_commit_of_unknown_outcome_is_told_when_it_is_known(void **state) {
    (void)state;
    folder f = folder_new();
    outcome o;
    vfs_install(f.path);
    srn_ledger *l = open_with(f.path, &o, 0, 0);
    assert_int_equal(commit_call(l, 1), SRN_OK);
    vfs_fail(false, false, 6); /* the commit, and tries to write over it */
    append(l, &o, 2, true);
    wait_told(&o, 1);
    assert_int_equal(o.eio, 1);
    pthread_mutex_lock(&vfs.lock);
    uint32_t left = vfs.fail_syncs;
    pthread_mutex_unlock(&vfs.lock);
    assert_int_equal(left, 0); /* not before it was certain */
    assert_int_equal(commit_call(l, 2), SRN_OK);
    srn_ledger_close(l);
    holds(f.path);
    folder_done(&f);
}

static void after_its_patience_an_unknown_outcome_is_told_as_unknown(void **state) {
    (void)state;
    folder f = folder_new();
    outcome o;
    vfs_install(f.path);
    srn_ledger *l = open_with(f.path, &o, 0, 100 * 1000);
    vfs_fail(false, false, UINT32_MAX);
    append(l, &o, 2, true);
    wait_told(&o, 1);
    assert_int_equal(o.eio, 1);
    vfs_fail(false, false, 0);
    int code;
    while ((code = commit_call(l, 3)) == SRN_EIO) continue;
    assert_int_equal(code, SRN_OK);
    srn_ledger_close(l);
    holds(f.path);
    folder_done(&f);
}

static void what_finds_no_room_is_lost_counted_and_told_in_the_chain(void **state) {
    (void)state;
    folder f = folder_new();
    outcome o;
    srn_err err;
    vfs_install(f.path);
    srn_ledger *l = open_with(f.path, &o, 10, 50 * 1000);
    vfs_fail(true, false, 0);
    for (uint32_t n = 1; n <= 30; n++) append(l, &o, n, false);
    wait_told(&o, 30);
    assert_int_equal(o.ok, 10);
    assert_int_equal(o.ebusy, 20);
    assert_int_equal(stats_of(l).lost, 20);
    assert_true(was_said(&o, "ledger_lost"));
    assert_false(srn_ledger_ready(l, &err));
    vfs_fail(false, false, 0);
    int code;
    while ((code = commit_call(l, 100)) == SRN_EIO || code == SRN_EBUSY) continue;
    assert_int_equal(code, SRN_OK);
    assert_int_equal(commit_call(l, 10), SRN_EEXIST);
    assert_int_equal(commit_call(l, 11), SRN_OK);
    char lost[512] = "";
    srn_reader *r = reader_open(f.path);
    assert_int_equal(srn_reader_records(r, SRN_RECORD_EVENT, 0, find_lost, lost, &err), SRN_OK);
    assert_non_null(strstr(lost, "\"records\":20"));
    assert_non_null(strstr(lost, "\"from_us\""));
    srn_reader_close(r);
    srn_ledger_close(l);
    holds(f.path);
    folder_done(&f);
}

/* Back-pressure: there is room again before anything is lost. */
static void what_waits_outside_gets_in_when_there_is_room(void **state) {
    (void)state;
    folder f = folder_new();
    outcome o;
    vfs_install(f.path);
    srn_ledger *l = open_with(f.path, &o, 10, 0);
    for (uint32_t n = 1; n <= 200; n++) append(l, &o, n, n % 5 == 0);
    wait_told(&o, 200);
    assert_int_equal(o.ok, 200);
    srn_ledger_close(l);
    l = ledger_open(f.path);
    for (uint32_t n = 1; n <= 200; n++) assert_int_equal(commit_call(l, n), SRN_EEXIST);
    srn_ledger_close(l);
    folder_done(&f);
}

static void a_locked_database_refuses_and_recovers(void **state) {
    (void)state;
    folder f = folder_new();
    outcome o;
    char path[128];
    sqlite3 *other;
    srn_err err;
    vfs_install(f.path);
    srn_ledger *l = open_with(f.path, &o, 0, 0);
    assert_int_equal(commit_call(l, 1), SRN_OK);
    snprintf(path, sizeof path, "%s/ledger.db", f.path);
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    append(l, &o, 2, false);
    assert_int_equal(commit_call(l, 3), SRN_EIO);
    assert_false(srn_ledger_ready(l, &err));
    assert_non_null(strstr(err.text, "locked"));
    assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    int code;
    while ((code = commit_call(l, 4)) == SRN_EIO) continue;
    assert_int_equal(code, SRN_OK);
    assert_int_equal(commit_call(l, 2), SRN_EEXIST);
    sqlite3_close(other);
    srn_ledger_close(l);
    holds(f.path);
    folder_done(&f);
}

static void what_cannot_be_written_at_the_close_is_said(void **state) {
    (void)state;
    folder f = folder_new();
    outcome o;
    vfs_install(f.path);
    srn_ledger *l = open_with(f.path, &o, 0, 50 * 1000);
    assert_int_equal(commit_call(l, 1), SRN_OK);
    vfs_fail(true, false, 0);
    append(l, &o, 2, false);
    srn_ledger_close(l);
    assert_true(was_said(&o, "ledger_lost: 1 records"));
    vfs_fail(false, false, 0);
    l = ledger_open(f.path);
    assert_int_equal(commit_call(l, 2), SRN_OK);
    srn_ledger_close(l);
    holds(f.path);
    folder_done(&f);
}

static void one_entry_that_is_there_spoils_nothing_of_its_group(void **state) {
    (void)state;
    folder f = folder_new();
    outcome o;
    vfs_install(f.path);
    srn_ledger *l = open_with(f.path, &o, 0, 0);
    for (uint32_t n = 1; n <= 50; n++) append(l, &o, n / 2, true);
    wait_told(&o, 50);
    assert_int_equal(o.ok, 26); /* 0 to 25 */
    assert_int_equal(o.other, 24);
    srn_ledger_close(l);
    holds(f.path);
    folder_done(&f);
}

/* However long the ledger is: counted in pages, for time would be another machine's. */
static void a_start_reads_the_end_of_the_ledger_only(void **state) {
    (void)state;
    folder f = folder_new();
    char path[128];
    struct stat st;
    vfs_install("");
    srn_ledger *l = ledger_open(f.path);
    append_calls(l, 1, 3000);
    srn_ledger_close(l);
    snprintf(path, sizeof path, "%s/ledger.db", f.path);
    assert_int_equal(stat(path, &st), 0);
    vfs_install(f.path);
    vfs.reads = 0;
    l = ledger_open(f.path);
    pthread_mutex_lock(&vfs.lock);
    uint64_t reads = vfs.reads;
    pthread_mutex_unlock(&vfs.lock);
    assert_in_range(reads, 1, (uint64_t)st.st_size / 4096 / 5);
    srn_ledger_close(l);
    folder_done(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_refuses_and_recovers),
        cmocka_unit_test(a_broken_disk_refuses_and_recovers),
        cmocka_unit_test(a_commit_whose_sync_fails_is_certainly_not_stored),
        cmocka_unit_test(a_commit_of_unknown_outcome_is_told_when_it_is_known),
        cmocka_unit_test(after_its_patience_an_unknown_outcome_is_told_as_unknown),
        cmocka_unit_test(what_finds_no_room_is_lost_counted_and_told_in_the_chain),
        cmocka_unit_test(what_waits_outside_gets_in_when_there_is_room),
        cmocka_unit_test(a_locked_database_refuses_and_recovers),
        cmocka_unit_test(what_cannot_be_written_at_the_close_is_said),
        cmocka_unit_test(a_start_reads_the_end_of_the_ledger_only),
        cmocka_unit_test(one_entry_that_is_there_spoils_nothing_of_its_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
