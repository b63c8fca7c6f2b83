/* Verifying the chain: whatever is done to a ledger behind its back, the first record that it touched is
 * named.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "ledger_help.h"

enum {
    CALLS = 60,
    DOC_SEQ = CALLS + 1,
    SIGNED_SEQ = CALLS + 2,
    LAST = SIGNED_SEQ + 5 /* and its checkpoint */
};

static folder filled; /* which tests copy */

/* Calls, a document, a checkpoint, four more calls, an event and a checkpoint at the close. */
static void fill(const char *where) {
    srn_ledger *l = ledger_open(where);
    append_calls(l, 1, CALLS - 1);
    char buf[1024];
    srn_err err;
    srn_entry full = {.kind = SRN_RECORD_CALL,
                      .body = call_body(buf, sizeof buf, CALLS, ""),
                      .content = SRN_STR("sealed content")};
    assert_int_equal(srn_ledger_commit(l, &full, &err), SRN_OK);
    srn_ledger_doc d = {"prompt", "a", 1, SRN_STR("{}")};
    srn_entry e = {.kind = SRN_RECORD_EVENT, .body = event_body(buf, sizeof buf, "prompt_pushed"), .doc = &d};
    assert_int_equal(srn_ledger_commit(l, &e, &err), SRN_OK);
    srn_buf point;
    srn_buf_init(&point, 4096);
    assert_int_equal(srn_ledger_checkpoint(l, &point, &err), SRN_OK);
    srn_buf_done(&point);
    append_calls(l, CALLS + 1, CALLS + 4);
    assert_int_equal(commit(l, SRN_RECORD_EVENT, event_body(buf, sizeof buf, "config")), SRN_OK);
    srn_ledger_close(l);
}

static void sql(const char *where, const char *text) {
    char path[128], *why = NULL;
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/ledger.db", where);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, &why)) fail_msg("%s: %s", text, why);
    sqlite3_close(db);
}

static srn_verify_result verify(const char *where, srn_str checkpoint) {
    srn_reader *r = reader_open(where);
    srn_verify_result v = {0};
    srn_err err;
    srn_verify_opts o = {.checkpoint = checkpoint};
    if (srn_reader_verify(r, &o, &v, &err)) fail_msg("%s", err.text);
    srn_reader_close(r);
    return v;
}

static void a_chain_as_it_was_written_holds(void **state) {
    (void)state;
    folder f = folder_new();
    srn_ledger_close(ledger_open(f.path));
    assert_true(verify(f.path, (srn_str){0}).ok);
    fill(f.path);
    srn_verify_result v = verify(f.path, (srn_str){0});
    if (!v.ok) fail_msg("%s", v.what);
    assert_int_equal(v.n_records, LAST + 1);
    assert_int_equal(v.n_checkpoints, 2);
    assert_int_equal(v.n_dropped, 0);
    folder_done(&f);
}

static void what_was_done_to_a_record_is_named(void **state) {
    (void)state;
    static const struct {
        const char *sql;
        uint64_t seq;
        const char *what;
    } rows[] = {
        {"UPDATE records SET body = replace(body, 'stop', 'pots') WHERE seq = 7", 7, "edited"},
        {"UPDATE records SET t_us = t_us + 1 WHERE seq = 8", 8, "edited"},
        {"UPDATE records SET kind = 3 WHERE seq = 9", 9, "edited"},
        {"UPDATE records SET epoch = 2 WHERE seq = 9", 9, "epoch"},
        {"UPDATE records SET body = body || ' ' WHERE seq = 1", 1, "edited"},
        {"UPDATE records SET hash = zeroblob(32) WHERE seq = 10", 10, "edited"},
        {"UPDATE records SET body = replace(body, '\"at_us\":5', '\"at_us\":6') WHERE seq = 67", 67,
         "edited"},
        {"DELETE FROM records WHERE seq = 11; DELETE FROM calls WHERE seq = 11", 11, "removed"},
        {"DELETE FROM records WHERE seq = 1", 1, "removed"},
        {"DELETE FROM records WHERE seq BETWEEN 20 AND 30", 20, "and others after it"},
        {"UPDATE records SET seq = 1000 WHERE seq = 5; UPDATE records SET seq = 5 WHERE seq = 30;"
         "UPDATE records SET seq = 30 WHERE seq = 1000",
         5, "stands at 30"},
        {"UPDATE records SET seq = 1000 WHERE seq = 5; UPDATE records SET seq = 5 WHERE seq = 6;"
         "UPDATE records SET seq = 6 WHERE seq = 1000",
         5, "stands at 6"},
        {"DELETE FROM records WHERE seq = 12; UPDATE records SET seq = seq - 1 WHERE seq > 12", 12, "edited"},
        {"DELETE FROM records WHERE seq > 66; DELETE FROM calls WHERE seq > 66", 67, "cut off"},
        {"DELETE FROM records WHERE seq > 40; DELETE FROM calls WHERE seq > 40; DELETE FROM contents;"
         "DELETE FROM docs",
         41, "cut off"},
        {"DELETE FROM records; DELETE FROM calls; DELETE FROM contents; DELETE FROM docs", 1, "cut off"},
        {"UPDATE calls SET model = 'other' WHERE seq = 13", 13, "table calls) was edited"},
        {"UPDATE calls SET model = 'small' || char(0) || 'x' WHERE seq = 13", 13, "table calls) was edited"},
        {"UPDATE calls SET total_us = 1 WHERE seq = 14", 14, "table calls) was edited"},
        {"UPDATE calls SET streamed = 1 WHERE seq = 14", 14, "table calls) was edited"},
        {"UPDATE calls SET id = zeroblob(16) WHERE seq = 15", 15, "table calls) was edited"},
        {"DELETE FROM calls WHERE seq = 15", 15, "table calls) was removed"},
        {"UPDATE calls SET seq = 61 WHERE seq = 15", 15, "table calls) was removed"},
        {"UPDATE calls SET seq = 500 WHERE seq = 15;"
         "INSERT INTO calls SELECT 15, zeroblob(16), begun_us, status, finish, error, endpoint, route, key,"
         " tenant, conversation, model, weights, quantisation, config, prompt, version, prompt_hash, "
         "experiment,"
         " arm, n_input, n_cached, n_output, n_reasoning, queue_us, ttft_us, total_us, itl_us, itl_max_us,"
         " streamed FROM calls WHERE seq = 500",
         15, "table calls) was edited"},
        {"INSERT INTO contents VALUES(500, x'00')", 500, "does not exist"},
        {"INSERT INTO contents VALUES(7, x'00')", 7, "content was added"},
        {"UPDATE contents SET bytes = x'00' WHERE seq = 60", 60, "content was edited"},
        {"DELETE FROM contents", 60, "content was removed"},
        {"UPDATE records SET content_sha = NULL WHERE seq = 60", 60, "edited"},
        {"UPDATE docs SET body = '{\"x\":1}'", DOC_SEQ, "document was edited"},
        {"UPDATE docs SET version = 2", DOC_SEQ, "document was edited"},
        {"DELETE FROM docs", DOC_SEQ, "document was removed"},
        {"INSERT INTO docs VALUES('prompt', 'b', 1, 67, 0, '{}')", 67, "document was added"},
        {"INSERT INTO docs VALUES('prompt', 'b', 1, 3, 0, '{}')", 3, "does not exist"},
        {"UPDATE records SET body = replace(body, '\"seq\":61', '\"seq\":60') WHERE seq = 62", SIGNED_SEQ,
         "signature"},
        {"UPDATE meta SET value = zeroblob(16) WHERE key = 'instance'", 1, "edited"},
    };
    for (size_t i = 0; i < SRN_LEN(rows); i++) {
        folder f = folder_copy(filled.path);
        sql(f.path, rows[i].sql);
        srn_verify_result v = verify(f.path, (srn_str){0});
        if (v.ok) fail_msg("%s: not found", rows[i].sql);
        if (v.bad_seq != rows[i].seq || !strstr(v.what, rows[i].what))
            fail_msg("%s: %llu: %s", rows[i].sql, (unsigned long long)v.bad_seq, v.what);
        folder_done(&f);
    }
}

static void remove_file(const folder *f, const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    assert_int_equal(unlink(path), 0);
}

/* A cut that took everything of this machine with it. */
static void a_checkpoint_kept_elsewhere_sees_a_cut(void **state) {
    (void)state;
    folder f = folder_copy(filled.path);
    srn_reader *r = reader_open(f.path);
    srn_buf point;
    srn_err err;
    srn_buf_init(&point, 4096);
    assert_int_equal(srn_reader_checkpoint(r, &point, &err), SRN_OK);
    srn_reader_close(r);
    srn_str kept = {point.data, point.len};
    assert_true(verify(f.path, kept).ok);
    sql(f.path, "DELETE FROM records WHERE seq > 50; DELETE FROM calls WHERE seq > 50;"
                "DELETE FROM contents; DELETE FROM docs");
    remove_file(&f, "checkpoints.jsonl");
    assert_true(verify(f.path, (srn_str){0}).ok);
    srn_verify_result v = verify(f.path, kept);
    assert_false(v.ok);
    assert_int_equal(v.bad_seq, 51);
    assert_non_null(strstr(v.what, "cut off"));
    /* and so does the history written anew after it */
    srn_ledger *l = ledger_open(f.path);
    append_calls(l, 100, 160);
    srn_ledger_close(l);
    assert_true(verify(f.path, (srn_str){0}).ok);
    v = verify(f.path, kept);
    assert_false(v.ok);
    assert_non_null(strstr(v.what, "edited and their hashes computed again"));
    srn_buf_done(&point);
    folder_done(&f);
}

static void a_checkpoint_by_another_key_is_named(void **state) {
    (void)state;
    folder f = folder_copy(filled.path), g = folder_new();
    srn_ledger_close(ledger_open(g.path));
    char from[128], to[128];
    snprintf(from, sizeof from, "%s/keys/root.key", g.path);
    snprintf(to, sizeof to, "%s/keys/root.key", f.path);
    copy_file(from, to);
    srn_verify_result v = verify(f.path, (srn_str){0});
    assert_false(v.ok);
    assert_int_equal(v.bad_seq, SIGNED_SEQ - 1);
    assert_non_null(strstr(v.what, "another key"));
    srn_ledger *l = NULL;
    srn_err err;
    assert_int_equal(srn_ledger_open(&(srn_ledger_opts){.where = f.path}, &l, &err), SRN_EFORMAT);
    assert_non_null(strstr(err.text, "another key"));
    folder_done(&f);
    folder_done(&g);
}

static void a_damaged_end_is_not_written_on(void **state) {
    (void)state;
    static const char *const tampering[] = {
        "DELETE FROM records WHERE seq > 65",
        "UPDATE records SET body = replace(body, 'signed', 'x') WHERE seq = 68;"
        "UPDATE records SET t_us = 0 WHERE seq = 68",
    };
    for (size_t i = 0; i < SRN_LEN(tampering); i++) {
        folder f = folder_copy(filled.path);
        sql(f.path, tampering[i]);
        srn_ledger *l = NULL;
        srn_err err;
        assert_int_equal(srn_ledger_open(&(srn_ledger_opts){.where = f.path}, &l, &err), SRN_EFORMAT);
        assert_non_null(strstr(err.text, "serin ledger verify"));
        folder_done(&f);
    }
}

static void the_newest_checkpoint_reaches_its_file_after_all(void **state) {
    (void)state;
    folder f = folder_copy(filled.path);
    remove_file(&f, "checkpoints.jsonl");
    srn_ledger_close(ledger_open(f.path));
    sql(f.path, "DELETE FROM records WHERE seq > 66; DELETE FROM calls WHERE seq > 66");
    assert_int_equal(verify(f.path, (srn_str){0}).bad_seq, 67);
    folder_done(&f);
}

static void a_ledger_without_news_signs_nothing(void **state) {
    (void)state;
    folder f = folder_copy(filled.path);
    for (int i = 0; i < 3; i++) srn_ledger_close(ledger_open(f.path));
    assert_int_equal(verify(f.path, (srn_str){0}).n_records, LAST + 1);
    folder_done(&f);
}

static int set_up(void **state) {
    (void)state;
    filled = folder_new();
    fill(filled.path);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    folder_done(&filled);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_as_it_was_written_holds),
        cmocka_unit_test(what_was_done_to_a_record_is_named),
        cmocka_unit_test(a_checkpoint_kept_elsewhere_sees_a_cut),
        cmocka_unit_test(a_checkpoint_by_another_key_is_named),
        cmocka_unit_test(a_damaged_end_is_not_written_on),
        cmocka_unit_test(the_newest_checkpoint_reaches_its_file_after_all),
        cmocka_unit_test(a_ledger_without_news_signs_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
