/* Power cuts and killed processes: nothing that was acknowledged is missing, and the chain is whole. Cuts are
 * drawn at random among all writes that a run made (its seed is printed); SERIN_TEST_CUTS says how many.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/wait.h>

#include "ledger_help.h"
#include "ledger_vfs.h"

enum { MAX_ACKS = 4096 };

typedef struct ack { /* an entry whose commit was told when so many operations were done */
    uint32_t call;
    size_t ops;
} ack;

static struct {
    pthread_mutex_t lock; /* guards the others */
    pthread_cond_t told;
    ack acks[MAX_ACKS];
    uint32_t n, asked;
} run = {.lock = PTHREAD_MUTEX_INITIALIZER, .told = PTHREAD_COND_INITIALIZER};

static void told(void *ctx, int code, const srn_err *why) {
    (void)why;
    size_t ops = vfs_now();
    pthread_mutex_lock(&run.lock);
    if (!code && run.n < MAX_ACKS) run.acks[run.n++] = (ack){(uint32_t)(uintptr_t)ctx, ops};
    run.asked--;
    pthread_cond_signal(&run.told);
    pthread_mutex_unlock(&run.lock);
}

static void wait_for(uint32_t still_asked) {
    pthread_mutex_lock(&run.lock);
    while (run.asked > still_asked) pthread_cond_wait(&run.told, &run.lock);
    pthread_mutex_unlock(&run.lock);
}

/* Calls first to last, up to eight under way, one in three with an intent before it, all acknowledged. */
static void write_calls(srn_ledger *l, uint32_t first, uint32_t last, srn_str content) {
    for (uint32_t n = first; n <= last; n++) {
        char buf[1024];
        srn_err err;
        for (int k = n % 3 ? 1 : 0; k < 2; k++) {
            srn_entry e = {.kind = k ? SRN_RECORD_CALL : SRN_RECORD_INTENT,
                           .body = call_body(buf, sizeof buf, n, ""),
                           .content = k ? content : (srn_str){0},
                           .durable = true,
                           .done = told,
                           .ctx = (void *)(uintptr_t)n};
            pthread_mutex_lock(&run.lock);
            run.asked++;
            pthread_mutex_unlock(&run.lock);
            assert_int_equal(srn_ledger_append(l, &e, &err), SRN_OK);
        }
        wait_for(8);
    }
    wait_for(0);
}

/* ---- after a cut ---- */

static void write_file(const char *dir, const char *name, const void *p, size_t n) {
    char path[192];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f)) fail_msg("%s cannot be written", path);
}

static bool has_call(srn_reader *r, uint32_t n) {
    char text[SRN_ULID_CHARS + 1];
    uint8_t id[16];
    srn_stored s;
    srn_buf body;
    srn_err err;
    call_id(n, text);
    srn_ulid_parse(srn_str_of(text), id);
    srn_buf_init(&body, 4096);
    int code = srn_reader_call(r, id, &s, &body, &err);
    srn_buf_done(&body);
    return !code;
}

/* Opens a ledger that lost its power, and looks for what was acknowledged before. */
static void check_survivor(const char *where, size_t ops, const char *when) {
    srn_ledger *l = NULL;
    srn_err err;
    if (srn_ledger_open(&(srn_ledger_opts){.where = where}, &l, &err)) fail_msg("%s: %s", when, err.text);
    srn_reader *r = reader_open(where);
    for (uint32_t i = 0; i < run.n; i++)
        if (run.acks[i].ops <= ops && !has_call(r, run.acks[i].call))
            fail_msg("%s: the call %u was acknowledged, and is missing", when, run.acks[i].call);
    srn_verify_result v;
    if (srn_reader_verify(r, NULL, &v, &err)) fail_msg("%s: %s", when, err.text);
    if (!v.ok) fail_msg("%s: %s", when, v.what);
    srn_reader_close(r);
    assert_int_equal(commit_call(l, 1000000), SRN_OK);
    srn_ledger_close(l);
}

static void cut_and_check(size_t at, uint32_t chance, uint64_t seed, const char *keys_of,
                          vfs_image images[VFS_N_FILES]) {
    static const char *const names[] = {"ledger.db", "ledger.db-wal"};
    folder f = folder_new();
    char a[128], b[128], when[96];
    snprintf(b, sizeof b, "%s/keys", f.path);
    mkdir(b, 0700);
    snprintf(a, sizeof a, "%s/keys/root.key", keys_of);
    snprintf(b, sizeof b, "%s/keys/root.key", f.path);
    copy_file(a, b);
    vfs_cut(at, chance, seed, images);
    for (int i = 0; i < VFS_N_FILES; i++)
        if (images[i].there) write_file(f.path, names[i], images[i].bytes, (size_t)images[i].n);
    snprintf(when, sizeof when, "cut after %zu of %zu operations, seed %llu, chance %u", at, vfs.n_ops,
             (unsigned long long)seed, chance);
    check_survivor(f.path, at, when);
    folder_done(&f);
}

static uint32_t cuts(uint32_t by_default) {
    const char *text = getenv("SERIN_TEST_CUTS");
    return text ? (uint32_t)strtoul(text, NULL, 10) : by_default;
}

static void cut_often(const char *where, uint32_t n, size_t from) {
    uint64_t seed = srn_hash_seed(), state = seed;
    vfs_image images[VFS_N_FILES] = {0};
    printf("seed %llu, %zu operations\n", (unsigned long long)seed, vfs.n_ops);
    vfs.under[0] = 0; /* what survivors do is not noted */
    for (uint32_t i = 0; i < n; i++) {
        static const uint32_t chances[] = {0, 256, 128, 230};
        size_t at = from + (size_t)(vfs_random(&state) % (vfs.n_ops - from + 1));
        cut_and_check(at, chances[i % SRN_LEN(chances)], vfs_random(&state), where, images);
    }
    for (int i = 0; i < VFS_N_FILES; i++) free(images[i].bytes);
    vfs_forget();
    run.n = 0;
}

static void a_power_cut_loses_nothing_that_was_acknowledged(void **state) {
    (void)state;
    folder f = folder_new();
    char content[3000];
    memset(content, 'c', sizeof content);
    vfs_install(f.path);
    for (uint32_t i = 0; i < 4; i++) { /* each close moves the log into the database and removes it */
        srn_ledger *l = ledger_open(f.path);
        write_calls(l, 100 * i + 1, 100 * i + 40, (srn_str){content, sizeof content});
        srn_ledger_close(l);
    }
    assert_int_equal(run.n, 4 * 40 + 13 + 13 + 14 + 13); /* and intents */
    cut_often(f.path, cuts(30), 0);
    folder_done(&f);
}

/* A log that is moved into the database and begun again while it is written. */
static void a_power_cut_while_the_log_begins_again_loses_nothing(void **state) {
    (void)state;
    folder f = folder_new();
    size_t n = 600 << 10;
    char *content = malloc(n);
    memset(content, 'c', n);
    vfs_install(f.path);
    srn_ledger *l = ledger_open(f.path);
    write_calls(l, 1, 36, (srn_str){content, n});
    size_t from = 0, moved = 0;
    for (size_t i = 0; i < vfs.n_ops;
         i++) { /* from shortly before the database is written, past the first pages */
        if (vfs.ops[i].file != VFS_DB || vfs.ops[i].at < 4096 * 64 || vfs.ops[i].kind != VFS_WRITE) continue;
        if (!moved++) from = i;
    }
    assert_true(moved > 1000);
    cut_often(f.path, cuts(20), from);
    srn_ledger_close(l);
    free(content);
    folder_done(&f);
}

/* ---- kill -9 ---- */

static int pipe_to_parent = -1;

static void tell_parent(void *ctx, int code, const srn_err *why) {
    (void)why;
    uint32_t n = (uint32_t)(uintptr_t)ctx;
    if (!code && write(pipe_to_parent, &n, sizeof n) != sizeof n) pipe_to_parent = -1;
}

/* Never ends: durable calls, as fast as they are acknowledged. */
static void write_until_killed(const char *where, uint32_t first) {
    srn_ledger *l = ledger_open(where);
    for (uint32_t n = first;; n++) {
        char buf[1024];
        srn_err err;
        srn_entry e = {.kind = SRN_RECORD_CALL,
                       .body = call_body(buf, sizeof buf, n, ""),
                       .durable = true,
                       .done = tell_parent,
                       .ctx = (void *)(uintptr_t)n};
        if (srn_ledger_append(l, &e, &err)) return;
        if (n % 8 == 0) commit_call(l, 500000 + n); /* waits, so that the queue stays short */
    }
}

static void a_killed_process_loses_nothing_that_was_acknowledged(void **state) {
    (void)state;
    folder f = folder_new();
    uint64_t seed = srn_hash_seed(), random = seed;
    printf("seed %llu\n", (unsigned long long)seed);
    vfs.under[0] = 0;
    run.n = 0;
    for (uint32_t round = 0; round < 8; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) {
            close(ends[0]);
            pipe_to_parent = ends[1];
            write_until_killed(f.path, 10000 * (round + 1));
            _exit(1);
        }
        close(ends[1]);
        uint32_t n, most = 1 + (uint32_t)(vfs_random(&random) % 120), seen = 0;
        while (seen < most && read(ends[0], &n, sizeof n) == sizeof n) {
            if (run.n < MAX_ACKS) run.acks[run.n++] = (ack){n, 0};
            seen++;
        }
        kill(child, SIGKILL);
        while (read(ends[0], &n, sizeof n) == sizeof n) /* told before it died */
            if (run.n < MAX_ACKS) run.acks[run.n++] = (ack){n, 0};
        assert_int_equal(waitpid(child, NULL, 0), child);
        close(ends[0]);
        assert_int_equal(seen, most);
    }
    check_survivor(f.path, 0, "killed");
    run.n = 0;
    folder_done(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_process_loses_nothing_that_was_acknowledged),
        cmocka_unit_test(a_power_cut_loses_nothing_that_was_acknowledged),
        cmocka_unit_test(a_power_cut_while_the_log_begins_again_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
