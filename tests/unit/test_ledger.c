/* The ledger on SQLite: what goes in comes out, once, and what one process writes no other does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "ledger_help.h"

/* ---- what goes in ---- */

static void a_call_comes_out_as_it_went_in(void **state) {
    (void)state;
    folder f = folder_new();
    srn_ledger *l = ledger_open(f.path);
    char buf[1024], text[SRN_ULID_CHARS + 1];
    srn_str body = call_body(buf, sizeof buf, 7, ",\"unknown\":{\"kept\":[1,2]}");
    assert_int_equal(commit(l, SRN_RECORD_CALL, body), SRN_OK);
    srn_reader *r = reader_open(f.path);
    srn_stored s;
    srn_buf got;
    uint8_t id[16];
    srn_err err = {0};
    srn_buf_init(&got, 1 << 20);
    call_id(7, text);
    assert_true(srn_ulid_parse(srn_str_of(text), id));
    assert_int_equal(srn_reader_call(r, id, &s, &got, &err), SRN_OK);
    assert_int_equal(s.kind, SRN_RECORD_CALL);
    assert_true(srn_str_eq(s.body, body));
    assert_int_equal(s.seq, 1);
    id[15] ^= 1;
    assert_int_equal(srn_reader_call(r, id, &s, &got, &err), SRN_ENOENT);
    srn_buf_done(&got);
    srn_reader_close(r);
    srn_ledger_close(l);
    folder_done(&f);
}

static void a_call_has_one_record(void **state) {
    (void)state;
    folder f = folder_new();
    srn_ledger *l = ledger_open(f.path);
    char buf[1024];
    assert_int_equal(commit_call(l, 1), SRN_OK);
    assert_int_equal(commit_call(l, 1), SRN_EEXIST);
    assert_int_equal(commit(l, SRN_RECORD_INTENT, call_body(buf, sizeof buf, 1, "")), SRN_EEXIST);
    assert_int_equal(commit(l, SRN_RECORD_INTENT, call_body(buf, sizeof buf, 2, "")), SRN_OK);
    assert_int_equal(commit(l, SRN_RECORD_INTENT, call_body(buf, sizeof buf, 2, "")), SRN_EEXIST);
    assert_int_equal(commit_call(l, 2), SRN_OK);
    assert_int_equal(commit_call(l, 2), SRN_EEXIST);
    srn_ledger_stats stats;
    srn_ledger_get_stats(l, &stats);
    assert_int_equal(stats.committed, 3);
    assert_int_equal(stats.failed, 4);
    srn_ledger_close(l);
    folder_done(&f);
}

/* ---- documents ---- */

static int push(srn_ledger *l, const char *key, uint32_t version, const char *body) {
    char buf[256];
    srn_err err = {0};
    srn_ledger_doc d = {"prompt", key, version, srn_str_of(body)};
    srn_entry e = {.kind = SRN_RECORD_EVENT, .body = event_body(buf, sizeof buf, "prompt_pushed"), .doc = &d};
    return srn_ledger_commit(l, &e, &err);
}

static bool list_doc(void *ctx, const srn_ledger_doc *d, uint64_t t_us) {
    srn_buf *b = ctx;
    assert_true(t_us > 0);
    srn_buf_addf(b, "%s %u %.*s;", d->key, d->version, (int)d->body.len, d->body.ptr);
    return true;
}

static bool count_record(void *ctx, const srn_stored *s) {
    (void)s;
    ++*(uint32_t *)ctx;
    return true;
}

static void a_document_is_there_once_and_its_event_with_it(void **state) {
    (void)state;
    folder f = folder_new();
    srn_ledger *l = ledger_open(f.path);
    assert_int_equal(push(l, "b", 1, "{\"x\":1}"), SRN_OK);
    assert_int_equal(push(l, "a", 2, "{}"), SRN_OK);
    assert_int_equal(push(l, "a", 1, "[]"), SRN_OK);
    assert_int_equal(push(l, "b", 1, "{\"x\":2}"), SRN_EEXIST);
    srn_reader *r = reader_open(f.path);
    srn_buf b;
    srn_err err;
    srn_buf_init(&b, 4096);
    assert_int_equal(srn_reader_docs(r, "prompt", NULL, list_doc, &b, &err), SRN_OK);
    assert_string_equal(b.data, "a 1 [];a 2 {};b 1 {\"x\":1};");
    srn_buf_clear(&b);
    assert_int_equal(srn_reader_docs(r, "prompt", "b", list_doc, &b, &err), SRN_OK);
    assert_string_equal(b.data, "b 1 {\"x\":1};");
    uint32_t events = 0;
    assert_int_equal(srn_reader_records(r, SRN_RECORD_EVENT, 0, count_record, &events, &err), SRN_OK);
    assert_int_equal(events, 3);
    events = 0;
    assert_int_equal(srn_reader_records(r, SRN_RECORD_EVENT, 3, count_record, &events, &err), SRN_OK);
    assert_int_equal(events, 1);
    srn_buf_done(&b);
    srn_reader_close(r);
    srn_ledger_close(l);
    folder_done(&f);
}

/* ---- one writer ---- */

static void one_process_writes_a_folder_and_the_next_is_told_which(void **state) {
    (void)state;
    folder f = folder_new();
    srn_ledger *l = ledger_open(f.path), *second = NULL;
    srn_err err = {0};
    char pid[32];
    assert_int_equal(srn_ledger_open(&(srn_ledger_opts){.where = f.path}, &second, &err), SRN_EBUSY);
    snprintf(pid, sizeof pid, "process %d", (int)getpid());
    assert_non_null(strstr(err.text, pid));
    srn_ledger_close(l);
    srn_ledger_close(ledger_open(f.path));
    folder_done(&f);
}

static void files_are_their_owners(void **state) {
    (void)state;
    folder f = folder_new();
    char dir[128], path[192];
    snprintf(dir, sizeof dir, "%s/a/b", f.path);
    srn_ledger *l = ledger_open(dir);
    assert_int_equal(commit_call(l, 1), SRN_OK);
    static const char *const names[] = {"ledger.db", "ledger.db-wal", "ledger.db-shm", "lock"};
    struct stat st;
    for (size_t i = 0; i < SRN_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    srn_ledger_close(l);
    folder_done(&f);
}

/* ---- what was open ---- */

static void an_intent_without_its_call_is_closed_as_interrupted(void **state) {
    (void)state;
    folder f = folder_new();
    srn_ledger *l = ledger_open(f.path);
    char buf[1024], text[SRN_ULID_CHARS + 1];
    assert_int_equal(commit(l, SRN_RECORD_INTENT, call_body(buf, sizeof buf, 1, "")), SRN_OK);
    assert_int_equal(commit(l, SRN_RECORD_INTENT, call_body(buf, sizeof buf, 2, "")), SRN_OK);
    assert_int_equal(commit_call(l, 2), SRN_OK);
    srn_ledger_stats stats;
    srn_ledger_get_stats(l, &stats);
    assert_int_equal(stats.open_intents, 1);
    srn_ledger_close(l);
    l = ledger_open(f.path);
    srn_ledger_get_stats(l, &stats);
    assert_int_equal(stats.interrupted, 1);
    srn_reader *r = reader_open(f.path);
    srn_stored s;
    srn_buf got;
    srn_err err;
    uint8_t id[16];
    srn_buf_init(&got, 4096);
    call_id(1, text);
    srn_ulid_parse(srn_str_of(text), id);
    assert_int_equal(srn_reader_call(r, id, &s, &got, &err), SRN_OK);
    assert_int_equal(s.kind, SRN_RECORD_CALL);
    assert_non_null(strstr(got.data, "\"finish\":\"interrupted\""));
    uint32_t events = 0;
    assert_int_equal(srn_reader_records(r, SRN_RECORD_EVENT, 0, count_record, &events, &err), SRN_OK);
    assert_int_equal(events, 1);
    srn_reader_close(r);
    srn_ledger_close(l);
    l = ledger_open(f.path);
    srn_ledger_get_stats(l, &stats);
    assert_int_equal(stats.interrupted, 0);
    srn_ledger_close(l);
    srn_buf_done(&got);
    folder_done(&f);
}

/* ---- many at once ---- */

enum { THREADS = 4, EACH = 50 };
typedef struct author {
    srn_ledger *l;
    uint32_t first;
} author;

static void *write_calls(void *ctx) {
    author *a = ctx;
    uintptr_t failed = 0;
    for (uint32_t i = 0; i < EACH; i++) failed += commit_call(a->l, a->first + i) != SRN_OK;
    return (void *)failed;
}

static void threads_share_commits(void **state) {
    (void)state;
    folder f = folder_new();
    srn_ledger *l = ledger_open(f.path);
    pthread_t threads[THREADS];
    author authors[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        authors[i] = (author){l, 1000 * i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_calls, &authors[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    srn_ledger_stats stats;
    srn_ledger_get_stats(l, &stats);
    assert_int_equal(stats.committed, THREADS * EACH);
    assert_int_equal(stats.queued + stats.waiting, 0);
    assert_true(stats.commits <= THREADS * EACH);
    assert_true(srn_ledger_ready(l, NULL));
    srn_ledger_close(l);
    folder_done(&f);
}

static void what_is_buffered_is_written_at_the_close(void **state) {
    (void)state;
    folder f = folder_new();
    srn_ledger *l = ledger_open(f.path);
    for (uint32_t n = 1; n <= 100; n++) {
        char buf[1024];
        srn_err err;
        srn_entry e = {.kind = SRN_RECORD_CALL, .body = call_body(buf, sizeof buf, n, "")};
        assert_int_equal(srn_ledger_append(l, &e, &err), SRN_OK);
    }
    srn_ledger_close(l);
    l = ledger_open(f.path);
    assert_int_equal(commit_call(l, 100), SRN_EEXIST);
    assert_int_equal(commit_call(l, 1), SRN_EEXIST);
    assert_int_equal(commit_call(l, 101), SRN_OK);
    srn_ledger_close(l);
    folder_done(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_comes_out_as_it_went_in),
        cmocka_unit_test(a_call_has_one_record),
        cmocka_unit_test(a_document_is_there_once_and_its_event_with_it),
        cmocka_unit_test(one_process_writes_a_folder_and_the_next_is_told_which),
        cmocka_unit_test(files_are_their_owners),
        cmocka_unit_test(an_intent_without_its_call_is_closed_as_interrupted),
        cmocka_unit_test(threads_share_commits),
        cmocka_unit_test(what_is_buffered_is_written_at_the_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
