/* What a server leaves in its ledger so that calls can be replayed and explained later: the weights that
 * answered them, as hard links, which program ran last and what it ran on, so that others are events. Called
 * at the start and when a model was loaded. Refuses nothing: what cannot be kept is said in the log, and the
 * server goes on.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cpu/cpu.h"
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
    if (!atomic_load(&r->keep_weights) || !r->ledger) return;
    snprintf(dir, sizeof dir, "%s/weights", srn_ledger_folder(r->ledger));
    if (mkdir(dir, 0700) && errno != EEXIST)
        return say(r, "weights_not_kept", "%s: %s", dir, strerror(errno));
    snprintf(dir, sizeof dir, "%s/weights/%s", srn_ledger_folder(r->ledger), v->ids.weights);
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
    snprintf(dir, sizeof dir, "%s/weights", srn_ledger_folder(r->ledger));
    DIR *d = opendir(dir);
    if (!d) return;
    if (!srn_reader_open_beside(r->ledger, &reader, NULL))
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
    snprintf(path, sizeof path, "%s/program", srn_ledger_folder(r->ledger));
    bool known = !srn_read_file(path, 256, &before, &len, NULL);
    bool same = known && len >= 2 * SRN_SHA256_BYTES && memcmp(before, now, 2 * SRN_SHA256_BYTES) == 0;
    free(before);
    if (same) return;
    srn__recorder_event(r, "binary", json_pack("{s:s, s:s}", "sha256", now, "version", srn_version()));
    FILE *f = fopen(path, "w");
    if (f) fprintf(f, "%s\n", now);
    if (!f || fclose(f)) say(r, "program_not_noted", "%s: %s", path, strerror(errno));
}

/* ---- what it runs on ---- */

/* A row a thing; the driver of a GPU, which has a kernel of its own, belongs here too. */
static json_t *platform_json(void) {
    srn_platform p;
    srn_platform_get(&p);
    const char *const rows[][2] = {{"kernel", p.kernel},
                                   {"cpu", p.cpu},
                                   {"isa", srn_cpu_level(getenv("SERIN_CPU"))},
                                   {"microcode", p.microcode},
                                   {"libc", p.libc}};
    json_t *o = json_object();
    for (size_t i = 0; i < SRN_LEN(rows); i++) {
        bool known = rows[i][1] && rows[i][1][0];
        json_object_set_new(o, rows[i][0], known ? json_string(rows[i][1]) : json_null());
    }
    return o;
}

typedef struct newest {
    const char *host;
    json_t *now; /* of the newest event of this host; NULL: there is none */
} newest;

static bool see_driver(void *ctx, const srn_stored *s) {
    newest *n = ctx;
    json_t *j = json_loadb(s->body.ptr, s->body.len, 0, NULL);
    const char *event = json_string_value(json_object_get(j, "event")),
               *host = json_string_value(json_object_get(j, "host"));
    if (event && strcmp(event, "driver") == 0 && host && strcmp(host, n->host) == 0) {
        json_decref(n->now);
        n->now = json_incref(json_object_get(j, "now"));
    }
    json_decref(j);
    return true;
}

static json_t *names_of_changes(const json_t *before, const json_t *now) {
    json_t *names = json_array(), *value;
    const char *key;
    json_object_foreach((json_t *)(uintptr_t)now, key,
                        value) if (!json_equal(value, json_object_get(before, key)))
        json_array_append_new(names, json_string(key));
    return names;
}

/* The event `driver` when what the program runs on is not what this machine's newest one says. */
static void note_platform(srn__recorder *r) {
    char host[256] = "";
    srn_reader *reader = NULL;
    srn_err err = {0};
    gethostname(host, sizeof host - 1);
    newest n = {.host = host};
    int code = srn_reader_open_beside(r->ledger, &reader, &err);
    if (!code) code = srn_reader_records(reader, SRN_RECORD_EVENT, 0, see_driver, &n, &err);
    srn_reader_close(reader);
    json_t *now = platform_json(), *changed = names_of_changes(n.now, now);
    if (code)
        say(r, "platform_not_noted", "%s", err.text);
    else if (json_array_size(changed))
        srn__recorder_event(r, "driver",
                            json_pack("{s:s, s:O?, s:O, s:O}", "host", host, "before", n.now, "now", now,
                                      "changed", changed));
    json_decref(changed);
    json_decref(now);
    json_decref(n.now);
}

void srn__recorder_remember(srn__recorder *r) {
    if (!r->ledger) return;
    note_platform(r);
    note_program(r);
    let_go(r);
}
