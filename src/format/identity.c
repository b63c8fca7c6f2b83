/* The weights id: SHA-256 of a model's bytes, and the cache of digests. Called by commands and the ledger on
 * any thread. Hashes through the descriptor that was opened with the mapping, so that it is the digest of the
 * file that is mapped even when the path now leads elsewhere.
 *
 * The cache is a folder with one small file per hashed file, named by device and inode and replaced as a
 * whole, so that any number of processes can use it. A digest counts only while size, mtime and ctime are
 * what they were, and only from an entry that nobody else can have written. A file changed within the last
 * seconds is not entered, for it could change again within the clock's grain; a cache that cannot be written
 * costs time and is no error.
 */
#include "format/format_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define HEX_BYTES     (2 * SRN_SHA256_BYTES + 1)
#define CHUNK_BYTES   ((size_t)1 << 20)
#define SETTLED_AFTER 3 /* seconds */

/* ---- the cache ---- */

bool srn_cache_path(const char *name, char *ret, size_t cap) {
    const char *own = getenv("SERIN_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (own && *own)
        n = snprintf(ret, cap, "%s/%s", own, name);
    else if (xdg && *xdg == '/')
        n = snprintf(ret, cap, "%s/serin/%s", xdg, name);
    else if (home && *home)
        n = snprintf(ret, cap, "%s/.cache/serin/%s", home, name);
    return n > 0 && (size_t)n < cap;
}

static bool entry_path(const struct stat *st, char *ret, size_t cap) {
    char name[64];
    snprintf(name, sizeof name, "digests/%" PRIx64 "-%" PRIx64, (uint64_t)st->st_dev, (uint64_t)st->st_ino);
    return srn_cache_path(name, ret, cap);
}

/* The line that a digest is entered under: what must not have changed. */
static void entry_stamp(const struct stat *st, char *out, size_t cap) {
    snprintf(out, cap, "serin-digest 1 %" PRId64 " %" PRId64 ".%09ld %" PRId64 ".%09ld sha256 ",
             (int64_t)st->st_size, (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
             (int64_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
}

static bool is_hex_digest(const char *s) {
    return strspn(s, "0123456789abcdef") == HEX_BYTES - 1;
}

/* In a folder that others can write to, an entry could be theirs. */
static bool only_ours(const struct stat *st) {
    return S_ISREG(st->st_mode) && (st->st_uid == geteuid() || st->st_uid == 0) && !(st->st_mode & 022);
}

static bool cache_get(const struct stat *st, char ret_hex[HEX_BYTES]) {
    char path[4096], stamp[160], line[256] = "";
    if (!entry_path(st, path, sizeof path)) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    if (!f) {
        if (fd >= 0) close(fd);
        return false;
    }
    struct stat own;
    bool ok = fstat(fd, &own) == 0 && only_ours(&own) && fgets(line, sizeof line, f) != NULL;
    fclose(f);
    entry_stamp(st, stamp, sizeof stamp);
    size_t n = strlen(stamp);
    if (!ok || strncmp(line, stamp, n) != 0 || !is_hex_digest(line + n)) return false;
    memcpy(ret_hex, line + n, HEX_BYTES - 1);
    ret_hex[HEX_BYTES - 1] = 0;
    return true;
}

/* Makes the folders above a path. */
static void make_folders(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        (void)mkdir(path, 0700); /* what cannot be made shows when the file is opened */
        *slash = '/';
    }
}

static void cache_put(const struct stat *st, const char *hex) {
    char path[4096], temporary[4128], stamp[160];
    if (time(NULL) - st->st_ctim.tv_sec < SETTLED_AFTER) return; /* no program can set a ctime back */
    if (!entry_path(st, path, sizeof path)) return;
    make_folders(path);
    snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    int fd = mkstemp(temporary);
    if (fd < 0) return;
    entry_stamp(st, stamp, sizeof stamp);
    bool ok = dprintf(fd, "%s%s\n", stamp, hex) > 0;
    ok = close(fd) == 0 && ok;
    if (!ok || rename(temporary, path)) unlink(temporary);
}

/* ---- hashing ---- */

typedef struct work {
    const srn_reading_opts *o;
    srn_reading *reading; /* is told of all bytes; may be NULL */
    uint32_t part;
    uint64_t done, total;
} work;

/* SRN_ECANCELLED: it is to end. */
static int advance(work *k, size_t n, srn_err *err) {
    k->done += n;
    if (k->o->progress) k->o->progress(k->o->progress_ctx, "hashing", k->done, k->total);
    if (k->o->stop && k->o->stop(k->o->stop_ctx))
        return srn_fail(err, SRN_ECANCELLED, "interrupted while the weights were hashed");
    return SRN_OK;
}

static int hash_fd(const srn__part *p, srn_sha256 *h, char *chunk, work *k, srn_err *err) {
    for (off_t at = 0; (uint64_t)at < p->len;) {
        ssize_t n = pread(p->fd, chunk, CHUNK_BYTES, at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return srn_fail(err, SRN_EIO, "%s: cannot be read: %s", p->path, strerror(errno));
        if (n == 0) return srn_fail(err, SRN_EIO, "%s: became shorter while it was read", p->path);
        srn_sha256_add(h, chunk, (size_t)n);
        if (k->reading)
            srn__reading_add(k->reading, k->part, (uint64_t)at, (const uint8_t *)chunk, (size_t)n);
        at += n;
        int code = advance(k, (size_t)n, err);
        if (code) return code;
    }
    return SRN_OK;
}

static bool same_file_state(const struct stat *a, const struct stat *b) {
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int hash_part(const srn__part *p, work *k, char ret_hex[HEX_BYTES], srn_err *err) {
    uint8_t digest[SRN_SHA256_BYTES];
    srn_sha256 *h = srn_sha256_new();
    char *chunk = p->fd >= 0 ? malloc(CHUNK_BYTES) : NULL;
    int code = SRN_OK;
    if (!h || (p->fd >= 0 && !chunk)) {
        code = srn_fail_nomem(err, CHUNK_BYTES);
    } else if (p->fd >= 0) {
        code = hash_fd(p, h, chunk, k, err);
    } else {
        srn_sha256_add(h, p->map, p->len);
        if (k->reading) srn__reading_add(k->reading, k->part, 0, p->map, p->len);
        code = advance(k, p->len, err);
    }
    free(chunk);
    if (h) srn_sha256_end(h, digest);
    if (!code) srn_hex(digest, sizeof digest, ret_hex);
    return code;
}

static int part_unchanged(const srn__part *p, struct stat *ret_now, srn_err *err) {
    if (fstat(p->fd, ret_now)) return srn_fail(err, SRN_EIO, "%s: %s", p->path, strerror(errno));
    if (!same_file_state(&p->st, ret_now))
        return srn_fail(err, SRN_EIO, "%s: was changed after it was opened; start again", p->path);
    return SRN_OK;
}

int srn_weights_unchanged(const srn_weights *w, srn_err *err) {
    struct stat now;
    for (uint32_t i = 0; i < w->n_parts; i++) {
        int code = w->parts[i].fd < 0 ? SRN_OK : part_unchanged(&w->parts[i], &now, err);
        if (code) return code;
    }
    return SRN_OK;
}

static int part_digest(const srn__part *p, bool force, work *k, char ret_hex[HEX_BYTES], srn_err *err) {
    struct stat now, after;
    if (p->fd < 0) return hash_part(p, k, ret_hex, err);
    int code = part_unchanged(p, &now, err);
    if (code) return code;
    if (!force && cache_get(&now, ret_hex)) return advance(k, p->len, err);
    code = hash_part(p, k, ret_hex, err);
    if (!code && (fstat(p->fd, &after) || !same_file_state(&now, &after)))
        code = srn_fail(err, SRN_EIO, "%s: was changed while it was hashed; start again", p->path);
    if (!code) cache_put(&now, ret_hex);
    return code;
}

static int by_text(const void *a, const void *b) {
    return memcmp(a, b, HEX_BYTES);
}

/* SHA-256 over the sorted parts' digests, each followed by a newline. */
static int digest_of_digests(char (*parts)[HEX_BYTES], size_t n, char ret_hex[HEX_BYTES], srn_err *err) {
    uint8_t digest[SRN_SHA256_BYTES];
    srn_sha256 *h = srn_sha256_new();
    if (!h) return srn_fail_nomem(err, 256);
    qsort(parts, n, HEX_BYTES, by_text);
    for (size_t i = 0; i < n; i++) {
        srn_sha256_add(h, parts[i], HEX_BYTES - 1);
        srn_sha256_add(h, "\n", 1);
    }
    srn_sha256_end(h, digest);
    srn_hex(digest, sizeof digest, ret_hex);
    return SRN_OK;
}

/* Of one part its digest, of several that of theirs. */
static int join_digests(char (*parts)[HEX_BYTES], uint32_t n, char ret_hex[HEX_BYTES], srn_err *err) {
    if (n > 1) return digest_of_digests(parts, n, ret_hex, err);
    memcpy(ret_hex, parts[0], HEX_BYTES);
    return SRN_OK;
}

static int hash_parts(const srn_weights *w, bool force, work *k, char ret_hex[HEX_BYTES], srn_err *err) {
    char(*parts)[HEX_BYTES] = srn_calloc(w->n_parts, HEX_BYTES);
    if (!parts) return srn_fail_nomem(err, (size_t)w->n_parts * HEX_BYTES);
    int code = SRN_OK;
    k->total = srn_weights_file_bytes(w);
    for (uint32_t i = 0; i < w->n_parts && !code; i++) {
        k->part = i;
        code = part_digest(&w->parts[i], force, k, parts[i], err);
    }
    if (!code) code = join_digests(parts, w->n_parts, ret_hex, err);
    free(parts);
    return code;
}

int srn_weights_id(const srn_weights *w, bool force, srn_progress_fn *progress, void *ctx, char ret_hex[65],
                   srn_err *err) {
    srn_reading_opts o = {.progress = progress, .progress_ctx = ctx};
    work k = {.o = &o};
    return hash_parts(w, force, &k, ret_hex, err);
}

int srn__hash_all(const srn_weights *w, const srn_reading_opts *o, srn_reading *r, char ret_hex[65],
                  srn_err *err) {
    static const srn_reading_opts none;
    work k = {.o = o ? o : &none, .reading = r};
    return hash_parts(w, true, &k, ret_hex, err);
}

bool srn_weights_known_id(const srn_weights *w, char ret_hex[65]) {
    char(*parts)[HEX_BYTES] = srn_calloc(w->n_parts, HEX_BYTES);
    bool known = parts != NULL;
    for (uint32_t i = 0; i < w->n_parts && known; i++) {
        struct stat now;
        known = w->parts[i].fd >= 0 && !part_unchanged(&w->parts[i], &now, NULL) && cache_get(&now, parts[i]);
    }
    known = known && !join_digests(parts, w->n_parts, ret_hex, NULL);
    free(parts);
    return known;
}
