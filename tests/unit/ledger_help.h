/* For tests of the ledger: folders that go away, bodies of records, opening and appending in a line. */
#ifndef SRN_TEST_LEDGER_HELP_H
#define SRN_TEST_LEDGER_HELP_H

#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ledger/ledger.h"

typedef struct folder {
    char path[64];
} folder;

static inline folder folder_new(void) {
    folder f;
    /* in memory where that can be: there are many syncs, and what they are worth is not tested by them */
    snprintf(f.path, sizeof f.path, "/dev/shm/serin-ledger-XXXXXX");
    if (mkdtemp(f.path)) return f;
    snprintf(f.path, sizeof f.path, "/tmp/serin-ledger-XXXXXX");
    if (!mkdtemp(f.path)) fail_msg("no folder for the test");
    return f;
}

static inline int folder_remove(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static inline void folder_done(folder *f) {
    nftw(f->path, folder_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void copy_file(const char *from, const char *to) {
    char *data;
    size_t n;
    srn_err err;
    if (srn_read_file(from, 64 << 20, &data, &n, &err)) fail_msg("%s", err.text);
    int fd = open(to, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (fd < 0 || write(fd, data, n) != (ssize_t)n) fail_msg("%s cannot be written", to);
    close(fd);
    free(data);
}

/* A ledger that is closed, with its keys. */
static inline folder folder_copy(const char *from) {
    static const char *const names[] = {"ledger.db", "checkpoints.jsonl", "keys/root.key"};
    folder f = folder_new();
    char a[128], b[128];
    snprintf(b, sizeof b, "%s/keys", f.path);
    mkdir(b, 0700);
    for (size_t i = 0; i < SRN_LEN(names); i++) {
        snprintf(a, sizeof a, "%s/%s", from, names[i]);
        snprintf(b, sizeof b, "%s/%s", f.path, names[i]);
        copy_file(a, b);
    }
    return f;
}

/* An id that counts, so that a test can name it again. */
static inline void call_id(uint32_t n, char ret[SRN_ULID_CHARS + 1]) {
    uint8_t id[SRN_ULID_BYTES] = {0x01, 0x9A};
    for (int i = 0; i < 4; i++) id[15 - i] = (uint8_t)(n >> (8 * i));
    srn_ulid_format(id, ret);
}

/* The body of call n, for one statement: buf holds it. */
static inline srn_str call_body(char *buf, size_t cap, uint32_t n, const char *more) {
    char id[SRN_ULID_CHARS + 1];
    call_id(n, id);
    int len = snprintf(buf, cap,
                       "{\"v\":1,\"id\":\"%s\",\"begun_us\":%u,\"endpoint\":\"/v1/chat/completions\","
                       "\"route\":null,\"model\":\"small\",\"status\":200,\"finish\":\"stop\","
                       "\"prompt\":{\"name\":null,\"version\":null,\"hash\":\"ab\"},"
                       "\"tokens\":{\"input\":%u,\"output\":7},\"us\":{\"total\":1500,\"ttft\":20}%s}",
                       id, 1000 + n, n, more);
    if (len < 0 || (size_t)len >= cap) fail_msg("the body is longer than %zu bytes", cap);
    return (srn_str){buf, (size_t)len};
}

static inline srn_str event_body(char *buf, size_t cap, const char *name) {
    int len = snprintf(buf, cap, "{\"v\":1,\"event\":\"%s\",\"at_us\":5,\"by\":\"test\"}", name);
    return (srn_str){buf, (size_t)len};
}

static inline srn_ledger *ledger_open(const char *where) {
    srn_ledger *l = NULL;
    srn_err err = {0};
    if (srn_ledger_open(&(srn_ledger_opts){.where = where}, &l, &err)) fail_msg("%s", err.text);
    return l;
}

static inline srn_reader *reader_open(const char *where) {
    srn_reader *r = NULL;
    srn_err err = {0};
    if (srn_reader_open(where, NULL, &r, &err)) fail_msg("%s", err.text);
    return r;
}

/* Commits one record; the code. */
static inline int commit(srn_ledger *l, srn_record_kind kind, srn_str body) {
    srn_err err = {0};
    return srn_ledger_commit(l, &(srn_entry){.kind = kind, .body = body}, &err);
}

static inline int commit_call(srn_ledger *l, uint32_t n) {
    char buf[1024];
    return commit(l, SRN_RECORD_CALL, call_body(buf, sizeof buf, n, ""));
}

/* Commits calls first to last, many in a group. */
static inline void append_calls(srn_ledger *l, uint32_t first, uint32_t last) {
    for (uint32_t n = first; n <= last; n++) {
        char buf[1024];
        srn_err err = {0};
        srn_entry e = {.kind = SRN_RECORD_CALL, .body = call_body(buf, sizeof buf, n, "")};
        if (n == last ? srn_ledger_commit(l, &e, &err) : srn_ledger_append(l, &e, &err))
            fail_msg("call %u: %s", n, err.text);
    }
}

#endif
