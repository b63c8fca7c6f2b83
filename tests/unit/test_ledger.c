/* The ledger on SQLite: what goes in comes out, once, and what one process writes no other does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <sqlite3.h>
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

/* Opening keys reads them all: a server's readers take those that it has. */
static void a_reader_borrows_keys_that_are_open(void **state) {
    (void)state;
    static const char text[] = "{\"request\":\"x\"}";
    folder f = folder_new();
    srn_ledger *l = ledger_open(f.path);
    srn_ledger_keys *keys = srn_ledger_get_keys(l);
    srn_reader *r = NULL;
    srn_buf sealed, got;
    char buf[1024], name[SRN_ULID_CHARS + 1], path[128], away[128];
    uint8_t id[16];
    srn_err err = {0};
    srn_buf_init(&sealed, 1 << 20);
    srn_buf_init(&got, 1 << 20);
    assert_int_equal(srn_ledger_seal(keys, SRN_CONTENT_ENCRYPTED, "t", "s", srn_str_of(text), &sealed, &err),
                     SRN_OK);
    const srn_entry e = {.kind = SRN_RECORD_CALL,
                         .body = call_body(buf, sizeof buf, 1, ""),
                         .content = {sealed.data, sealed.len}};
    assert_int_equal(srn_ledger_commit(l, &e, &err), SRN_OK);
    snprintf(path, sizeof path, "%s/keys", f.path);
    snprintf(away, sizeof away, "%s/away", f.path);
    assert_int_equal(rename(path, away), 0);
    call_id(1, name);
    assert_true(srn_ulid_parse(srn_str_of(name), id));
    for (int i = 0; i < 2; i++) { /* closing the first one leaves them to the second */
        assert_int_equal(srn_reader_open_beside(l, &r, &err), SRN_OK);
        srn_buf_clear(&got);
        assert_int_equal(srn_reader_content(r, id, &got, &err), SRN_OK);
        assert_string_equal(got.data, text);
        srn_reader_close(r);
    }
    srn_buf_done(&sealed);
    srn_buf_done(&got);
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

static void a_file_that_may_only_be_read_is_not_opened_for_writing(void **state) {
    (void)state;
    if (geteuid() == 0) skip(); /* who may write everything */
    folder f = folder_new();
    char path[128];
    srn_ledger *l = NULL;
    srn_err err;
    srn_ledger_close(ledger_open(f.path));
    snprintf(path, sizeof path, "%s/ledger.db", f.path);
    assert_int_equal(chmod(path, 0400), 0);
    assert_int_equal(srn_ledger_open(&(srn_ledger_opts){.where = f.path}, &l, &err), SRN_EIO);
    assert_non_null(strstr(err.text, "may only be read"));
    folder_done(&f);
}

static void a_later_format_and_another_database_are_refused(void **state) {
    (void)state;
    static const char *const changes[] = {"PRAGMA user_version = 1000", "PRAGMA application_id = 7"};
    static const char *const says[] = {"newer Serin", "not a ledger"};
    for (size_t i = 0; i < SRN_LEN(changes); i++) {
        folder f = folder_new();
        char path[128];
        srn_ledger *l = NULL;
        srn_reader *r = NULL;
        srn_err err;
        sqlite3 *db;
        srn_ledger_close(ledger_open(f.path));
        snprintf(path, sizeof path, "%s/ledger.db", f.path);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, changes[i], NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        assert_int_equal(srn_ledger_open(&(srn_ledger_opts){.where = f.path}, &l, &err), SRN_EFORMAT);
        assert_non_null(strstr(err.text, says[i]));
        assert_int_equal(srn_reader_open(f.path, NULL, &r, &err), SRN_EFORMAT);
        assert_non_null(strstr(err.text, says[i]));
        folder_done(&f);
    }
}

/* ---- bodies ---- */

static void a_body_that_is_no_record_is_refused_by_its_field(void **state) {
    (void)state;
    static const struct {
        srn_record_kind kind;
        const char *body, *field;
    } rows[] = {
        {SRN_RECORD_CALL, "[]", "object"},
        {SRN_RECORD_CALL, "{\"v\":1,\"v\":1}", "duplicate"},
        {SRN_RECORD_CALL, "{\"v\":2}", "v must be 1"},
        {SRN_RECORD_CALL, "{\"v\":1}", "id is missing"},
        {SRN_RECORD_CALL, "{\"v\":1,\"id\":\"nonsense\"}", "id must be"},
        {SRN_RECORD_CALL, "{\"v\":1,\"id\":\"01KA0000000000000000000001\"}", "begun_us"},
        {SRN_RECORD_CALL, "{\"v\":1,\"id\":\"01KA0000000000000000000001\",\"begun_us\":1}", "status"},
        {SRN_RECORD_CALL, "{\"v\":1,\"id\":\"01KA0000000000000000000001\",\"begun_us\":1,\"status\":1000}",
         "status is out of range"},
        {SRN_RECORD_INTENT,
         "{\"v\":1,\"id\":\"01KA0000000000000000000001\",\"begun_us\":1,\"tokens\":{\"input\":-1}}",
         "tokens.input is out of range"},
        {SRN_RECORD_INTENT,
         "{\"v\":1,\"id\":\"01KA0000000000000000000001\",\"begun_us\":1,\"prompt\":{\"name\":\"a\"}}",
         "prompt.version"},
        {SRN_RECORD_INTENT, "{\"v\":1,\"id\":\"01KA0000000000000000000001\",\"begun_us\":1,\"model\":5}",
         "model must be a text"},
        {SRN_RECORD_EVENT, "{\"v\":1,\"at_us\":1,\"by\":\"x\"}", "event is missing"},
        {SRN_RECORD_FEEDBACK,
         "{\"v\":1,\"id\":\"01KA0000000000000000000001\",\"at_us\":1,\"by\":\"x\",\"score\":\"5\"}",
         "score must be a number"},
        {SRN_RECORD_CHECKPOINT, "{\"v\":1,\"epoch\":1}", "seq"},
        {(srn_record_kind)9, "{\"v\":1}", "no kind 9"},
    };
    for (size_t i = 0; i < SRN_LEN(rows); i++) {
        srn_record *r = NULL;
        srn_err err = {0};
        assert_int_equal(srn_record_decode(rows[i].kind, srn_str_of(rows[i].body), &r, &err), SRN_EFORMAT);
        if (!strstr(err.text, rows[i].field)) fail_msg("%s: %s", rows[i].body, err.text);
    }
}

static void a_body_gives_the_fields_that_are_searched(void **state) {
    (void)state;
    static const char body[] =
        "{\"v\":1,\"id\":\"01ka0000000000000000000001\",\"begun_us\":17,\"status\":503,\"model\":\"m\","
        "\"streamed\":true,\"prompt\":{\"name\":\"p\",\"version\":3,\"hash\":\"h\"},\"tokens\":null,"
        "\"us\":{\"queue\":1,\"ttft\":2,\"itl\":3,\"itl_max\":4,\"total\":5},\"more\":[{}]}";
    srn_record *r = NULL;
    srn_err err = {0};
    assert_int_equal(srn_record_decode(SRN_RECORD_CALL, srn_str_of(body), &r, &err), SRN_OK);
    const srn_call_row *c = srn_record_call(r);
    assert_int_equal(c->begun_us, 17);
    assert_int_equal(c->status, 503);
    assert_true(c->streamed);
    assert_string_equal(c->model, "m");
    assert_string_equal(c->prompt, "p");
    assert_int_equal(c->version, 3);
    assert_string_equal(c->prompt_hash, "h");
    assert_string_equal(c->tenant, "");
    assert_int_equal(c->n_input, 0);
    assert_int_equal(
        c->queue_us * 10000 + c->ttft_us * 1000 + c->itl_us * 100 + c->itl_max_us * 10 + c->total_us, 12345);
    srn_record_free(r);
}

static void an_entry_that_is_no_records_is_refused(void **state) {
    (void)state;
    folder f = folder_new();
    srn_ledger *l = ledger_open(f.path);
    char buf[1024];
    srn_err err;
    srn_ledger_doc d = {"prompt", "a", 0, SRN_STR("{}")};
    srn_entry doc = {.kind = SRN_RECORD_EVENT, .body = event_body(buf, sizeof buf, "x"), .doc = &d};
    assert_int_equal(srn_ledger_append(l, &doc, &err), SRN_EFORMAT);
    srn_entry content = {.kind = SRN_RECORD_EVENT, .body = doc.body, .content = SRN_STR("x")};
    assert_int_equal(srn_ledger_append(l, &content, &err), SRN_EFORMAT);
    assert_int_equal(srn_ledger_event(l, "config", "test", SRN_STR("[1]"), &err), SRN_EFORMAT);
    assert_int_equal(srn_ledger_event(l, "config", "test", SRN_STR("{\"id\":5}"), &err), SRN_OK);
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
        cmocka_unit_test(a_file_that_may_only_be_read_is_not_opened_for_writing),
        cmocka_unit_test(a_later_format_and_another_database_are_refused),
        cmocka_unit_test(a_body_that_is_no_record_is_refused_by_its_field),
        cmocka_unit_test(a_body_gives_the_fields_that_are_searched),
        cmocka_unit_test(an_entry_that_is_no_records_is_refused),
        cmocka_unit_test(a_reader_borrows_keys_that_are_open),
        cmocka_unit_test(an_intent_without_its_call_is_closed_as_interrupted),
        cmocka_unit_test(threads_share_commits),
        cmocka_unit_test(what_is_buffered_is_written_at_the_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
