/* Backups and what is made from them: a copy taken while the ledger is written verifies and holds no keys; a
 * restored ledger goes on in a new epoch that names its parent; older formats are copied before they are
 * changed; forgetting a subject leaves the chain whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <sys/stat.h>

#include "ledger/backup_internal.h"
#include "ledger_help.h"

#define TEXT "{\"request\":\"Is the garden gate locked?\"}"

typedef struct place { /* of a ledger, its backup and what is restored */
    folder base;
    char ledger[96], backup[96], restored[96];
} place;

static place place_new(void) {
    place p = {.base = folder_new()};
    snprintf(p.ledger, sizeof p.ledger, "%s/ledger", p.base.path);
    snprintf(p.backup, sizeof p.backup, "%s/backup", p.base.path);
    snprintf(p.restored, sizeof p.restored, "%s/restored", p.base.path);
    return p;
}

static srn_verify_result verify(const char *where) {
    srn_reader *r = reader_open(where);
    srn_verify_result v = {0};
    srn_err err;
    if (srn_reader_verify(r, NULL, &v, &err)) fail_msg("%s", err.text);
    srn_reader_close(r);
    if (!v.ok) fail_msg("%s: %s", where, v.what);
    return v;
}

static srn_backup_info backup(const place *p) {
    srn_backup_info info;
    srn_err err = {0};
    if (srn_ledger_backup(p->ledger, p->backup, NULL, NULL, &info, &err)) fail_msg("%s", err.text);
    return info;
}

static void add_sealed(srn_ledger *l, uint32_t n, const char *subject) {
    char buf[1024], hash[SRN_KEYED_HASH_CHARS + 1];
    srn_buf sealed;
    srn_err err = {0};
    srn_buf_init(&sealed, 1 << 20);
    srn_keyed_hash(srn_ledger_get_keys(l), "subject", srn_str_of(subject), hash);
    assert_int_equal(srn_ledger_seal(srn_ledger_get_keys(l), SRN_CONTENT_ENCRYPTED, "acme", hash,
                                     SRN_STR(TEXT), &sealed, &err),
                     SRN_OK);
    srn_entry e = {.kind = SRN_RECORD_CALL,
                   .body = call_body(buf, sizeof buf, n, ""),
                   .content = {sealed.data, sealed.len}};
    if (srn_ledger_commit(l, &e, &err)) fail_msg("%s", err.text);
    srn_buf_done(&sealed);
}

static int read_content(const char *where, uint32_t n, srn_err *err) {
    char text[SRN_ULID_CHARS + 1];
    uint8_t id[16];
    srn_buf got;
    srn_reader *r = reader_open(where);
    srn_buf_init(&got, 1 << 20);
    call_id(n, text);
    assert_true(srn_ulid_parse(srn_str_of(text), id));
    int code = srn_reader_content(r, id, &got, err);
    if (!code) assert_true(srn_str_eq((srn_str){got.data, got.len}, SRN_STR(TEXT)));
    srn_buf_done(&got);
    srn_reader_close(r);
    return code;
}

static void copy_of(const char *from, const char *to, const char *name) {
    char path[192], *data = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/%s", from, name);
    assert_int_equal(srn_read_file(path, 1 << 30, &data, &n, NULL), SRN_OK);
    snprintf(path, sizeof path, "%s/%s", to, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, 0600), 0);
    free(data);
}

/* As an administrator does it: the keys come from elsewhere. */
static void copy_keys(const place *p) {
    char from[128], to[128];
    snprintf(from, sizeof from, "%s/keys", p->ledger);
    snprintf(to, sizeof to, "%s/keys", p->restored);
    mkdir(p->restored, 0700);
    assert_int_equal(mkdir(to, 0700), 0);
    copy_of(from, to, "root.key");
    copy_of(from, to, "subjects.keys");
}

static bool is_there(const char *dir, const char *name) {
    char path[192];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

/* ---- backups ---- */

typedef struct appender {
    srn_ledger *l;
    bool stop;
    uint32_t n;
} appender;

static void *append_on(void *ctx) {
    appender *a = ctx;
    while (!__atomic_load_n(&a->stop, __ATOMIC_SEQ_CST)) {
        if (commit_call(a->l, ++a->n)) break;
    }
    return NULL;
}

static void a_backup_is_taken_while_the_ledger_is_written(void **state) {
    (void)state;
    place p = place_new();
    srn_ledger *l = ledger_open(p.ledger);
    append_calls(l, 1, 2000);
    appender a = {.l = l, .n = 2000};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, append_on, &a), 0);
    srn_backup_info info = backup(&p);
    __atomic_store_n(&a.stop, true, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);
    srn_ledger_close(l);
    assert_true(info.seq >= 2000 && info.seq <= (uint64_t)a.n + 10);
    assert_int_equal(info.epoch, 1);
    srn_verify_result v = verify(p.backup);
    assert_int_equal(v.n_records, info.seq);
    assert_false(is_there(p.backup, "keys"));
    assert_false(is_there(p.backup, "ledger.db-wal"));
    assert_false(is_there(p.backup, "ledger.db.part"));
    struct stat st;
    char path[128];
    snprintf(path, sizeof path, "%s/ledger.db", p.backup);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    verify(p.ledger);
    srn_err err = {0};
    assert_int_equal(srn_ledger_backup(p.ledger, p.backup, NULL, NULL, &info, &err), SRN_EEXIST);
    assert_int_equal(srn_ledger_backup(p.restored, p.backup, NULL, NULL, &info, &err), SRN_EEXIST);
    char other[128];
    snprintf(other, sizeof other, "%s/other", p.base.path);
    assert_int_equal(srn_ledger_backup(p.restored, other, NULL, NULL, &info, &err), SRN_ENOENT);
    assert_false(is_there(p.base.path, "other"));
    folder_done(&p.base);
}

static void a_backup_that_was_cut_is_begun_again(void **state) {
    (void)state;
    place p = place_new();
    srn_ledger *l = ledger_open(p.ledger);
    append_calls(l, 1, 20);
    srn_ledger_close(l);
    assert_int_equal(mkdir(p.backup, 0700), 0);
    copy_of(p.ledger, p.backup, "lock");
    char from[128], to[128];
    snprintf(from, sizeof from, "%s/lock", p.backup);
    snprintf(to, sizeof to, "%s/ledger.db.part", p.backup);
    assert_int_equal(rename(from, to), 0); /* some bytes of an earlier try */
    backup(&p);
    verify(p.backup);
    folder_done(&p.base);
}

/* ---- restoring ---- */

static bool see_restored(void *ctx, const srn_stored *s) {
    srn_buf *b = ctx;
    if (memmem(s->body.ptr, s->body.len, "\"restored\"", 10)) srn_buf_add(b, s->body.ptr, s->body.len);
    return true;
}

static void a_restored_ledger_goes_on_in_a_new_epoch(void **state) {
    (void)state;
    place p = place_new();
    srn_ledger *l = ledger_open(p.ledger);
    append_calls(l, 1, 50);
    add_sealed(l, 51, "ann");
    srn_ledger_close(l);
    srn_backup_info info = backup(&p), parent;
    l = ledger_open(p.ledger); /* what came after the backup */
    append_calls(l, 52, 60);
    srn_ledger_close(l);
    copy_keys(&p);
    srn_err err = {0};
    srn_restore_opts o = {.from = p.backup, .where = p.restored};
    if (srn_ledger_restore(&o, &parent, &err)) fail_msg("%s", err.text);
    assert_int_equal(parent.seq, info.seq);
    assert_string_equal(parent.hash, info.hash);
    assert_false(is_there(p.restored, "restore.part"));
    verify(p.restored);
    assert_int_equal(read_content(p.restored, 51, &err), SRN_OK);
    srn_reader *r = reader_open(p.restored);
    srn_buf b;
    srn_buf_init(&b, 1 << 16);
    assert_int_equal(srn_reader_records(r, SRN_RECORD_EVENT, 0, see_restored, &b, &err), SRN_OK);
    srn_reader_close(r);
    assert_non_null(b.data);
    assert_non_null(strstr(b.data, info.hash));
    assert_non_null(strstr(b.data, info.instance));
    srn_buf_done(&b);
    l = ledger_open(p.restored);
    append_calls(l, 52, 70);
    srn_ledger_close(l);
    verify(p.restored);
    assert_int_equal(srn_ledger_restore(&o, &parent, &err), SRN_EEXIST);
    folder_done(&p.base);
}

static void a_restore_without_keys_is_refused_unless_meant(void **state) {
    (void)state;
    place p = place_new();
    srn_ledger *l = ledger_open(p.ledger);
    add_sealed(l, 1, "ann");
    append_calls(l, 2, 20);
    srn_ledger_close(l);
    backup(&p);
    srn_err err = {0};
    srn_backup_info parent;
    srn_restore_opts o = {.from = p.backup, .where = p.restored};
    assert_int_equal(srn_ledger_restore(&o, &parent, &err), SRN_ENOENT);
    assert_non_null(strstr(err.text, "--new-keys"));
    assert_false(is_there(p.restored, "ledger.db"));
    o.new_keys = true;
    if (srn_ledger_restore(&o, &parent, &err)) fail_msg("%s", err.text);
    verify(p.restored);
    assert_int_equal(read_content(p.restored, 1, &err), SRN_ENOENT);
    l = ledger_open(p.restored);
    append_calls(l, 21, 25);
    srn_ledger_close(l);
    verify(p.restored);
    folder_done(&p.base);
}

/* ---- forgetting ---- */

static void a_forgotten_subject_leaves_the_chain_whole(void **state) {
    (void)state;
    place p = place_new();
    srn_ledger *l = ledger_open(p.ledger);
    srn_err err = {0};
    add_sealed(l, 1, "ann");
    add_sealed(l, 2, "bob");
    add_sealed(l, 3, "cat");
    assert_int_equal(srn_ledger_forget_subject(l, "test", "acme", "dan", &err), SRN_ENOENT);
    assert_int_equal(srn_ledger_forget_subject(l, "test", "acme", "ann", &err), SRN_OK);
    char hash[SRN_KEYED_HASH_CHARS + 1];
    srn_keyed_hash(srn_ledger_get_keys(l), "subject", SRN_STR("cat"), hash);
    assert_int_equal(srn_ledger_forget_subject(l, "test", "acme", hash, &err), SRN_OK);
    srn_ledger_close(l);
    verify(p.ledger);
    assert_int_equal(read_content(p.ledger, 1, &err), SRN_ENOENT);
    assert_non_null(strstr(err.text, "forgotten"));
    assert_int_equal(read_content(p.ledger, 2, &err), SRN_OK);
    assert_int_equal(read_content(p.ledger, 3, &err), SRN_ENOENT);
    folder_done(&p.base);
}

/* ---- formats ---- */

static uint64_t number(sqlite3 *db, const char *sql) {
    uint64_t n = 0;
    srn_err err = {0};
    if (srn__sqlite_number(db, sql, &n, &err)) fail_msg("%s", err.text);
    return n;
}

static void an_older_format_is_copied_and_brought_up_to_date(void **state) {
    (void)state;
    static const srn__migration steps[] = {{1, "CREATE TABLE second(x INTEGER) STRICT"},
                                           {2, "INSERT INTO second VALUES(7)"}};
    static const srn__migration wrong[] = {{3, "CREATE TABLE t(x INTEGER); INSERT INTO nowhere VALUES(1)"}};
    place p = place_new();
    srn_ledger *l = ledger_open(p.ledger);
    append_calls(l, 1, 10);
    srn_ledger_close(l);
    sqlite3 *db = NULL, *old = NULL;
    bool is_new;
    char path[160];
    srn_err err = {0};
    assert_int_equal(srn__sqlite_connect(p.ledger, true, &db, &is_new, &err), SRN_OK);
    assert_int_equal(srn__sqlite_migrate(p.ledger, db, steps, 2, 1, &err), SRN_OK); /* nothing to do */
    assert_false(is_there(p.ledger, "before-format-1.db"));
    if (srn__sqlite_migrate(p.ledger, db, steps, 2, 3, &err)) fail_msg("%s", err.text);
    assert_int_equal(number(db, "PRAGMA user_version"), 3);
    assert_int_equal(number(db, "SELECT x FROM second"), 7);
    snprintf(path, sizeof path, "%s/before-format-3.db", p.ledger);
    assert_int_equal(sqlite3_open(path, &old), SQLITE_OK);
    assert_int_equal(number(old, "PRAGMA user_version"), 1);
    assert_int_equal(number(old, "SELECT count(*) FROM calls"), 10);
    sqlite3_close(old);
    assert_int_not_equal(srn__sqlite_migrate(p.ledger, db, wrong, 1, 4, &err), SRN_OK);
    assert_int_equal(number(db, "PRAGMA user_version"), 3); /* all of a step, or nothing */
    assert_int_equal(number(db, "SELECT count(*) FROM sqlite_schema WHERE name = 't'"), 0);
    assert_int_equal(srn__sqlite_migrate(p.ledger, db, NULL, 0, 4, &err), SRN_EUNSUP);
    sqlite3_close(db);
    assert_int_equal(srn_ledger_open(&(srn_ledger_opts){.where = p.ledger}, &l, &err), SRN_EFORMAT);
    assert_non_null(strstr(err.text, "newer Serin"));
    folder_done(&p.base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_backup_is_taken_while_the_ledger_is_written),
        cmocka_unit_test(a_backup_that_was_cut_is_begun_again),
        cmocka_unit_test(a_restored_ledger_goes_on_in_a_new_epoch),
        cmocka_unit_test(a_restore_without_keys_is_refused_unless_meant),
        cmocka_unit_test(a_forgotten_subject_leaves_the_chain_whole),
        cmocka_unit_test(an_older_format_is_copied_and_brought_up_to_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
