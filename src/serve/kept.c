/* What a server leaves in its ledger's folder so that calls can be replayed later: the weights that answered
 * them, as hard links, and which program ran last, so that a new one is an event. Called at the start and
 * when a model was loaded; folders only. Refuses nothing: what cannot be kept is said in the log, and the
 * server goes on.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "serve/record_internal.h"

enum { MAX_PROGRAM = 1 << 30 };

static void say(srn__recorder *r, const char *event, const char *fmt, ...) SRN_PRINTF(3, 4);
static void say(srn__recorder *r, const char *event, const char *fmt, ...) {
    char text[4600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (r->log) r->log(r->log_ctx, event, text);
}

static bool is_folder(const srn__recorder *r) {
    return r->ledger && !strstr(srn_ledger_where(r->ledger), "://");
}

/* ---- weights ---- */

static bool link_part(srn__recorder *r, const char *path, const char *dir) {
    char to[4400];
    const char *slash = strrchr(path, '/');
    snprintf(to, sizeof to, "%s/%s", dir, slash ? slash + 1 : path);
    if (linkat(AT_FDCWD, path, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0 || errno == EEXIST) return true;
    say(r, "weights_not_kept", "%s cannot be linked into %s: %s%s", path, dir, strerror(errno),
        errno == EXDEV ? "; keep_weights needs the ledger and the models on one file system" : "");
    return false;
}

void srn__recorder_keep(srn__recorder *r, const srn__served *v) {
    const srn_weights *w = srn_engine_weights(v->engine);
    char dir[4300];
    if (!atomic_load(&r->keep_weights) || !is_folder(r)) return;
    snprintf(dir, sizeof dir, "%s/weights", srn_ledger_where(r->ledger));
    if (mkdir(dir, 0700) && errno != EEXIST)
        return say(r, "weights_not_kept", "%s: %s", dir, strerror(errno));
    snprintf(dir, sizeof dir, "%s/weights/%s", srn_ledger_where(r->ledger), v->ids.weights);
    if (mkdir(dir, 0700) && errno != EEXIST)
        return say(r, "weights_not_kept", "%s: %s", dir, strerror(errno));
    for (uint32_t i = 0; i < srn_weights_parts(w); i++)
        if (!link_part(r, srn_weights_part_path(w, i), dir)) return;
}

/* Whether a call of these weights is in the ledger. */
static bool some(void *ctx, const srn_call_row *row, const srn_stored *s) {
    (void)row, (void)s;
    *(bool *)ctx = true;
    return false;
}
static bool is_used(srn_reader *reader, const char *weights) {
    srn_filter *f = NULL;
    char text[128];
    bool used = false;
    snprintf(text, sizeof text, "weights=%s", weights);
    if (srn_filter_parse(srn_str_of(text), srn_unix_us(), &f, NULL)) return true;
    if (srn_reader_calls(reader, f, NULL, 1, some, &used, NULL)) used = true;
    srn_filter_free(f);
    return used;
}

static void remove_dir(const char *dir) {
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.') unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
    rmdir(dir);
}

/* Weights whose calls retention has dropped go too. */
static void let_go(srn__recorder *r) {
    char dir[4300], one[4600];
    srn_reader *reader = NULL;
    struct dirent *e;
    snprintf(dir, sizeof dir, "%s/weights", srn_ledger_where(r->ledger));
    DIR *d = opendir(dir);
    if (!d) return;
    if (!srn_reader_open(srn_ledger_where(r->ledger), r->config->ledger.keys, &reader, NULL))
        while ((e = readdir(d))) {
            if (strlen(e->d_name) != 2 * SRN_SHA256_BYTES || is_used(reader, e->d_name)) continue;
            snprintf(one, sizeof one, "%s/%.64s", dir, e->d_name);
            remove_dir(one);
            say(r, "weights_let_go", "%s: no call of them is left", e->d_name);
        }
    closedir(d);
    srn_reader_close(reader);
}

/* ---- the program ---- */

static bool hash_of_program(char ret[2 * SRN_SHA256_BYTES + 1]) {
    uint8_t digest[SRN_SHA256_BYTES];
    char *bytes = NULL;
    size_t len = 0;
    srn_sha256 *h = NULL;
    if (srn_read_file("/proc/self/exe", MAX_PROGRAM, &bytes, &len, NULL) || !(h = srn_sha256_new())) {
        free(bytes);
        return false;
    }
    srn_sha256_add(h, bytes, len);
    srn_sha256_end(h, digest);
    srn_hex(digest, sizeof digest, ret);
    free(bytes);
    return true;
}

/* The event `binary` when the program is not the one that wrote this ledger last. */
static void note_program(srn__recorder *r) {
    char path[4300], now[2 * SRN_SHA256_BYTES + 1], *before = NULL;
    size_t len = 0;
    if (!hash_of_program(now)) return;
    snprintf(path, sizeof path, "%s/program", srn_ledger_where(r->ledger));
    bool known = !srn_read_file(path, 256, &before, &len, NULL);
    bool same = known && len >= 2 * SRN_SHA256_BYTES && memcmp(before, now, 2 * SRN_SHA256_BYTES) == 0;
    free(before);
    if (same) return;
    srn__recorder_event(r, "binary", json_pack("{s:s, s:s}", "sha256", now, "version", srn_version()));
    FILE *f = fopen(path, "w");
    if (f) fprintf(f, "%s\n", now);
    if (!f || fclose(f)) say(r, "program_not_noted", "%s: %s", path, strerror(errno));
}

void srn__recorder_remember(srn__recorder *r) {
    if (!is_folder(r)) return;
    note_program(r);
    let_go(r);
}
