/* Downloads over libcurl: to PATH.part, resumed where a connection was cut, checked, then renamed to PATH.
 * One thread; the part file is locked, so that a second download of the same file is refused. What the server
 * says of the file (ETag) is kept in PATH.part.etag: a part is resumed only if the server still has the same
 * bytes. Refuses a change from https to http, and never sends the token to another host than the URL's own.
 */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "client/client.h"

#define DEFAULT_RETRIES 5
#define CHUNK           (1u << 20)
#define HEAD_BYTES      512u

typedef struct transfer {
    const srn_download_opts *o;
    CURL *curl;
    int fd;
    char part[4200], etag_path[4200];
    char old_etag[300], etag[300]; /* of the part file; of this answer */
    char linked_sha[65];           /* the digest that a hub names, "" if none */
    uint64_t have;                 /* bytes in the part file */
    uint64_t total;                /* of the whole file, 0: not known */
    srn_sha256 *hash;              /* of those bytes */
    long status;                   /* of the last answer of a chain of redirects */
    bool started;                  /* the body of a good answer began */
    bool head_seen, refused;       /* the first bytes were looked at, and are not those of what was wanted */
    int code;                      /* why a callback ended the transfer */
    srn_err *err;
} transfer;

/* ---- the part file ---- */

static int file_error(transfer *t, const char *what, const char *path) {
    int code = errno == ENOSPC || errno == EDQUOT ? SRN_ELIMIT : SRN_EIO;
    return t->code = srn_fail(t->err, code, "%s: %s: %s", path, what, strerror(errno));
}

/* Hashes what the part file holds. */
static int rehash(transfer *t) {
    srn_sha256 *h = srn_sha256_new();
    char *buf = malloc(CHUNK);
    if (t->hash) srn_sha256_end(t->hash, (uint8_t[SRN_SHA256_BYTES]){0});
    t->hash = h;
    if (!h || !buf) {
        free(buf);
        return srn_fail_nomem(t->err, CHUNK);
    }
    for (uint64_t at = 0; at < t->have;) {
        ssize_t n = pread(t->fd, buf, SRN_MIN((uint64_t)CHUNK, t->have - at), (off_t)at);
        if (n <= 0) {
            free(buf);
            return file_error(t, "reading failed", t->part);
        }
        srn_sha256_add(h, buf, (size_t)n);
        at += (uint64_t)n;
        if (t->o->progress) t->o->progress(t->o->progress_ctx, "checking what is here", at, t->have);
    }
    free(buf);
    return SRN_OK;
}

static int start_over(transfer *t) {
    if (ftruncate(t->fd, 0)) return file_error(t, "truncating failed", t->part);
    t->have = 0;
    t->head_seen = false;
    return rehash(t);
}

static void read_etag(transfer *t) {
    FILE *f = fopen(t->etag_path, "r");
    if (!f) return;
    if (!fgets(t->old_etag, sizeof t->old_etag, f)) t->old_etag[0] = 0;
    t->old_etag[strcspn(t->old_etag, "\r\n")] = 0;
    fclose(f);
}

static void write_etag(const transfer *t) {
    FILE *f = fopen(t->etag_path, "w");
    if (!f) return; /* the next try starts over, no worse */
    fprintf(f, "%s\n", t->etag);
    fclose(f);
}

static int open_part(transfer *t) {
    struct stat st;
    t->fd = open(t->part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (t->fd < 0) return file_error(t, "cannot be written", t->part);
    if (flock(t->fd, LOCK_EX | LOCK_NB))
        return srn_fail(t->err, SRN_EBUSY, "%s: another process is downloading this file", t->part);
    if (fstat(t->fd, &st)) return file_error(t, "cannot be read", t->part);
    t->have = t->o->no_resume ? 0 : (uint64_t)st.st_size;
    read_etag(t);
    if (!t->old_etag[0]) t->have = 0; /* nothing says that it is the same file */
    return t->have ? rehash(t) : start_over(t);
}

/* ---- callbacks of libcurl ---- */

/* The value of header `name`, without quotes and "W/", into ret; false when the line is another header's. */
static bool header_value(const char *line, size_t n, const char *name, char *ret, size_t cap) {
    size_t k = strlen(name);
    if (n <= k || strncasecmp(line, name, k) != 0 || line[k] != ':') return false;
    const char *p = line + k + 1, *end = line + n;
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    while (end > p && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ')) end--;
    if ((size_t)(end - p) >= cap) return false;
    memcpy(ret, p, (size_t)(end - p));
    ret[end - p] = 0;
    return true;
}

static bool is_sha256(const char *s) {
    return strlen(s) == 64 && strspn(s, "0123456789abcdefABCDEF") == 64;
}

static size_t on_header(char *line, size_t size, size_t n, void *ctx) {
    transfer *t = ctx;
    char value[300];
    if (n > 5 && strncmp(line, "HTTP/", 5) == 0) { /* a new answer: of a redirect's target, say */
        const char *space = memchr(line, ' ', n);
        t->status = space ? strtol(space, NULL, 10) : 0;
        t->etag[0] = 0;
    }
    if (header_value(line, n, "ETag", value, sizeof value) ||
        (!t->etag[0] && header_value(line, n, "Last-Modified", value, sizeof value)))
        snprintf(t->etag, sizeof t->etag, "%s", value);
    if (header_value(line, n, "X-Linked-ETag", value, sizeof value)) {
        size_t quoted = value[0] == '"' && strlen(value) == 66;
        value[strlen(value) - quoted] = 0;
        if (is_sha256(value + quoted)) memcpy(t->linked_sha, value + quoted, 65);
    }
    if (t->status == 206 && header_value(line, n, "Content-Range", value, sizeof value)) {
        unsigned long long from = 0, to = 0, all = 0;
        int got = sscanf(value, "bytes %llu-%llu/%llu", &from, &to, &all);
        if (got < 2 || from != t->have) {
            t->code =
                srn_fail(t->err, SRN_EIO, "%s: the server sent bytes from %llu on where %llu were asked for",
                         t->o->url, from, (unsigned long long)t->have);
            return 0;
        }
        t->total = got == 3 ? all : 0;
    }
    return size * n;
}

/* The first bytes of a good answer: does it go on where we were, is there room? */
static int begin_body(transfer *t) {
    curl_off_t length = -1;
    struct statvfs fs;
    t->started = true;
    if (t->status == 200) {
        int code = t->have ? start_over(t) : SRN_OK;
        if (code) return t->code = code;
        curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        t->total = length > 0 ? (uint64_t)length : 0;
    }
    write_etag(t);
    if (t->total > t->have && fstatvfs(t->fd, &fs) == 0 &&
        (uint64_t)fs.f_bavail * fs.f_frsize < t->total - t->have)
        return t->code = srn_fail(t->err, SRN_ELIMIT, "%s: %.1f GB are needed and the disk has %.1f GB left",
                                  t->o->path, (double)(t->total - t->have) / 1e9,
                                  (double)fs.f_bavail * (double)fs.f_frsize / 1e9);
    return SRN_OK;
}

/* Has the first bytes looked at, once. */
static int check_head(transfer *t) {
    uint8_t head[HEAD_BYTES];
    if (t->head_seen || !t->o->head) return SRN_OK;
    t->head_seen = true;
    ssize_t n = pread(t->fd, head, SRN_MIN(t->have, (uint64_t)sizeof head), 0);
    if (n < 0) return file_error(t, "reading failed", t->part);
    t->code = t->o->head(t->o->head_ctx, head, (size_t)n, t->err);
    t->refused = t->code != SRN_OK;
    return t->code;
}

static size_t on_body(char *data, size_t size, size_t n, void *ctx) {
    transfer *t = ctx;
    if (t->status != 200 && t->status != 206) return n * size; /* an error's page */
    if (!t->started && begin_body(t)) return 0;
    for (size_t done = 0; done < n;) {
        ssize_t wrote = pwrite(t->fd, data + done, n - done, (off_t)(t->have + done));
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) return file_error(t, "writing failed", t->part), 0;
        done += (size_t)wrote;
    }
    srn_sha256_add(t->hash, data, n);
    t->have += n;
    if (t->have >= HEAD_BYTES && check_head(t)) return 0;
    if (t->o->progress) t->o->progress(t->o->progress_ctx, "downloading", t->have, t->total);
    return n * size;
}

static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    transfer *t = ctx;
    (void)a, (void)b, (void)c, (void)d;
    if (!t->o->cancel || !*t->o->cancel) return 0;
    t->code = srn_fail(t->err, SRN_ECANCELLED, "cancelled; the next try goes on from %.1f MB",
                       (double)t->have / 1e6);
    return 1;
}

/* ---- one try ---- */

static void set_common(CURL *c, const char *url, const char *bearer) {
    bool https = strncasecmp(url, "https:", 6) == 0;
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(c, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, https ? "https" : "http,https");
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 30L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 60L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "serin/" SRN_VERSION);
    if (bearer) {
        curl_easy_setopt(c, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
        curl_easy_setopt(c, CURLOPT_XOAUTH2_BEARER, bearer);
    }
}

static CURLcode perform(transfer *t, char *why) {
    struct curl_slist *headers = NULL;
    char if_range[340];
    t->started = false;
    t->status = 0;
    curl_easy_reset(t->curl);
    set_common(t->curl, t->o->url, t->o->bearer);
    curl_easy_setopt(t->curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(t->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(t->curl, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(t->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(t->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(t->curl, CURLOPT_XFERINFODATA, t);
    if (t->have) { /* CURLOPT_RESUME_FROM would refuse an answer of the whole file */
        char range[40];
        snprintf(range, sizeof range, "Range: bytes=%llu-", (unsigned long long)t->have);
        snprintf(if_range, sizeof if_range, "If-Range: %s", t->old_etag);
        headers = curl_slist_append(headers, range);
        headers = curl_slist_append(headers, if_range);
        curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, headers);
    }
    CURLcode code = curl_easy_perform(t->curl);
    curl_slist_free_all(headers);
    if (t->started) snprintf(t->old_etag, sizeof t->old_etag, "%s", t->etag);
    return code;
}

static bool may_retry(CURLcode code) {
    return code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR ||
           code == CURLE_OPERATION_TIMEDOUT || code == CURLE_GOT_NOTHING || code == CURLE_HTTP2_STREAM ||
           code == CURLE_HTTP2;
}

static int explain(const char *url, CURLcode code, const char *why, srn_err *err) {
    const char *text = why[0] ? why : curl_easy_strerror(code);
    if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL)
        return srn_fail(err, SRN_EINVAL, "%s: %s; a URL begins with http:// or https://", url, text);
    if (code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT)
        return srn_fail(err, SRN_EIO, "%s: %s; is this machine online, and the name right?", url, text);
    if (code == CURLE_TOO_MANY_REDIRECTS)
        return srn_fail(err, SRN_EIO, "%s: the server sends from one address to the next without end", url);
    return srn_fail(err, SRN_EIO, "%s: %s", url, text);
}

static int explain_status(const char *url, long status, srn_err *err) {
    if (status == 404 || status == 410)
        return srn_fail(err, SRN_ENOENT, "%s: there is no such file (HTTP %ld)", url, status);
    if (status == 401 || status == 403)
        return srn_fail(
            err, SRN_EINVAL,
            "%s: the server refuses access (HTTP %ld); set HF_TOKEN to a token that may read it, and accept "
            "the model's terms on its page if it has some",
            url, status);
    return srn_fail(err, SRN_EIO, "%s: the server answers HTTP %ld%s", url, status,
                    status == 429 ? "; it asks to come back later" : "");
}

/* What one try came to: SRN_OK done, SRN_EBUSY try again, else the error. */
static int judge(transfer *t, CURLcode code, const char *why) {
    if (t->code) return t->code;
    if (code == CURLE_OK && (t->status == 200 || t->status == 206)) {
        if (!t->started) begin_body(t); /* an empty file */
        if (t->code) return t->code;
        return !t->total || t->have == t->total ? SRN_OK : SRN_EBUSY;
    }
    if (code == CURLE_OK && t->status == 416 && t->have) return start_over(t) ? t->err->code : SRN_EBUSY;
    if (code == CURLE_OK && t->status >= 500) return explain_status(t->o->url, t->status, t->err), SRN_EBUSY;
    if (code == CURLE_OK) return explain_status(t->o->url, t->status, t->err);
    int fail = explain(t->o->url, code, why, t->err);
    return may_retry(code) ? SRN_EBUSY : fail;
}

static bool wait_ms(const transfer *t, uint64_t ms) {
    for (uint64_t until = srn_now_us() + ms * 1000; srn_now_us() < until;) {
        if (t->o->cancel && *t->o->cancel) return false;
        usleep(20000);
    }
    return true;
}

static int fetch(transfer *t) {
    uint32_t retries = t->o->retries ? t->o->retries : DEFAULT_RETRIES, left = retries;
    uint64_t wait = t->o->retry_ms ? t->o->retry_ms : 1000;
    for (;;) {
        char why[CURL_ERROR_SIZE] = "";
        if (t->have && !t->old_etag[0] && start_over(t)) return t->err->code;
        uint64_t before = t->have;
        int code = judge(t, perform(t, why), why);
        if (code != SRN_EBUSY) return code;
        if (t->have > before) { /* it helps: as long as that goes on, so do we */
            left = retries;
            continue;
        }
        if (left-- == 0) {
            if (!t->err->code)
                srn_fail(t->err, SRN_EIO, "%s: the file ended after %llu of %llu bytes", t->o->url,
                         (unsigned long long)t->have, (unsigned long long)t->total);
            t->err->code = SRN_EIO;
            return srn_fail_prefix(t->err, SRN_EIO, "after %u tries", retries + 1);
        }
        if (!wait_ms(t, wait)) return srn_fail(t->err, SRN_ECANCELLED, "cancelled");
        wait *= 2;
    }
}

/* ---- the end ---- */

/* Compares the digest, makes the file durable and gives it its name. */
static int finish(transfer *t, srn_download *ret) {
    uint8_t digest[SRN_SHA256_BYTES];
    const char *want = t->o->sha256 ? t->o->sha256 : t->linked_sha[0] ? t->linked_sha : NULL;
    srn_sha256_end(t->hash, digest);
    t->hash = NULL;
    if (check_head(t)) return t->code;
    srn_hex(digest, sizeof digest, ret->sha256);
    if (want && strcasecmp(want, ret->sha256) != 0) {
        unlink(t->part); /* resuming it could never help */
        unlink(t->etag_path);
        return srn_fail(t->err, SRN_EFORMAT,
                        "%s: the file's SHA-256 is %s, and %s was expected; it was deleted, try again",
                        t->o->url, ret->sha256, want);
    }
    ret->verified = want != NULL;
    ret->bytes = t->have;
    if (fsync(t->fd)) return file_error(t, "writing failed", t->part);
    if (rename(t->part, t->o->path)) return file_error(t, "cannot be renamed to the model's name", t->part);
    unlink(t->etag_path);
    return SRN_OK;
}

int srn_download_file(const srn_download_opts *o, srn_download *ret, srn_err *err) {
    srn_err none;
    transfer t = {.o = o, .fd = -1, .err = err ? err : &none};
    *t.err = (srn_err){0};
    if (o->sha256 && !is_sha256(o->sha256))
        return srn_fail(err, SRN_EINVAL, "'%s' is no SHA-256: it has 64 hexadecimal digits", o->sha256);
    int n = snprintf(t.part, sizeof t.part, "%s.part", o->path);
    snprintf(t.etag_path, sizeof t.etag_path, "%s.part.etag", o->path);
    if (n < 0 || (size_t)n + 5 >= sizeof t.part)
        return srn_fail(err, SRN_EINVAL, "%s: the path is too long", o->path);
    *ret = (srn_download){0};
    t.curl = curl_easy_init();
    int code = t.curl ? open_part(&t) : srn_fail_nomem(err, 0);
    bool ours = !code; /* the lock on the part is held */
    ret->resumed_from = t.have;
    if (!code) code = fetch(&t);
    if (!code) code = finish(&t, ret);
    if (code && ours && (t.have == 0 || t.refused)) { /* nothing to go on from */
        unlink(t.part);
        unlink(t.etag_path);
    }
    if (t.hash) srn_sha256_end(t.hash, (uint8_t[SRN_SHA256_BYTES]){0});
    if (t.fd >= 0) close(t.fd);
    curl_easy_cleanup(t.curl);
    return code;
}

/* ---- small answers ---- */

typedef struct small {
    srn_buf body;
    const volatile int *cancel;
} small;

static size_t on_small(char *data, size_t size, size_t n, void *ctx) {
    small *s = ctx;
    return srn_buf_add(&s->body, data, n) ? size * n : 0;
}

static int on_small_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    const small *s = ctx;
    (void)a, (void)b, (void)c, (void)d;
    return s->cancel && *s->cancel;
}

int srn_http_get(const char *url, const char *bearer, size_t max_bytes, const volatile int *cancel,
                 char **ret, size_t *ret_len, srn_err *err) {
    small s = {.cancel = cancel};
    char why[CURL_ERROR_SIZE] = "";
    long status = 0;
    CURL *c = curl_easy_init();
    if (!c) return srn_fail_nomem(err, 0);
    srn_buf_init(&s.body, max_bytes);
    srn_buf_add(&s.body, "", 0);
    set_common(c, url, bearer);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_small);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &s);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_small_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, &s);
    CURLcode got = curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(c);
    int code = SRN_OK;
    if (cancel && *cancel)
        code = srn_fail(err, SRN_ECANCELLED, "cancelled");
    else if (s.body.failed)
        code = srn_fail(err, SRN_ELIMIT, "%s: the answer is longer than %zu bytes", url, max_bytes);
    else if (got != CURLE_OK)
        code = explain(url, got, why, err);
    else if (status != 200)
        code = explain_status(url, status, err);
    if (code) {
        srn_buf_done(&s.body);
        return code;
    }
    *ret = s.body.data ? s.body.data : srn_strndup("", 0);
    *ret_len = s.body.len;
    return SRN_OK;
}
