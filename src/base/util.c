/* Clock, whole files, addresses, UTF-8, the hash of tables and SHA-256. */
#include "base/base.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

uint64_t srn_now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

uint64_t srn_unix_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* The '@' behind user and password, which reach to the first of `ends`; NULL: there is none. Behind that an
 * '@' may be one of a password with such a character in it, which somebody forgot to encode: the last one
 * counts then. *ret_open: it may stand in a parameter as well, which may be a secret one. */
static const char *end_of_user(const char *host, const char *ends, bool *ret_open) {
    size_t n = strcspn(host, ends);
    const char *at = memrchr(host, '@', n);
    bool secret = *host != '[' && memchr(host, ':', at ? (size_t)(at - host) : n);
    const char *later = secret ? strrchr(host + n, '@') : NULL;
    *ret_open = later && strcspn(host + n, "?#") < (size_t)(later - host) - n;
    return later ? later : at;
}

void srn_hide_password(const char *address, srn_buf *ret) {
    bool open;
    const char *host = strstr(address, "://");
    if (!host) {
        srn_buf_addz(ret, address);
        return;
    }
    host += 3; /* of libpq '?' and '#' are characters of a password as any other */
    const char *at = end_of_user(host, "/", &open), *query = strchr(at ? at : host, '?');
    const char *end = query ? query : host + strlen(host);
    srn_buf_add(ret, address, (size_t)(host - address));
    if (at) srn_buf_add(ret, host, SRN_MIN(strcspn(host, ":"), (size_t)(at - host)));
    if (open) return;
    srn_buf_add(ret, at ? at : host, (size_t)(end - (at ? at : host)));
    bool first = true;
    for (const char *p = query, *next; p && *p; p = next) {
        size_t n = 1 + strcspn(p + 1, "&");
        next = p + n;
        if (!strncasecmp(p + 1, "password=", 9) || !strncasecmp(p + 1, "sslpassword=", 12)) continue;
        srn_buf_addc(ret, first ? '?' : '&');
        srn_buf_add(ret, p + 1, n - 1);
        first = false;
    }
}

int srn_read_file(const char *path, size_t max_bytes, char **ret_data, size_t *ret_len, srn_err *err) {
    bool is_stdin = strcmp(path, "-") == 0;
    const char *name = is_stdin ? "standard input" : path;
    FILE *f = is_stdin ? stdin : fopen(path, "rb");
    if (!f) return srn_fail(err, errno == ENOENT ? SRN_ENOENT : SRN_EIO, "%s: %s", name, strerror(errno));
    srn_buf b;
    srn_buf_init(&b, max_bytes);
    char chunk[16384];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        if (!srn_buf_add(&b, chunk, n)) break;
    int code = SRN_OK;
    if (b.failed && n <= max_bytes - b.len)
        code = srn_fail_nomem(err, b.len + n);
    else if (b.failed)
        code = srn_fail(err, SRN_ELIMIT, "%s: longer than the limit of %zu bytes", name, max_bytes);
    else if (ferror(f) && errno == EISDIR)
        code = srn_fail(err, SRN_EINVAL, "%s: is a folder; give a file", name);
    else if (ferror(f))
        code = srn_fail(err, SRN_EIO, "%s: %s", name, strerror(errno));
    else if (!srn_buf_add(&b, "", 0))
        code = srn_fail_nomem(err, b.len + 1);
    if (!is_stdin) fclose(f);
    if (code) {
        srn_buf_done(&b);
        return code;
    }
    *ret_data = b.data;
    *ret_len = b.len;
    return SRN_OK;
}

int srn_write_all(int fd, const void *p, size_t n) {
    const char *at = p;
    while (n) {
        ssize_t w = write(fd, at, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return -1;
        at += w;
        n -= (size_t)w;
    }
    return 0;
}

void srn_url_shown(const char *url, char *ret, size_t cap) {
    bool open;
    const char *scheme = strstr(url, "://"), *host = scheme ? scheme + 3 : url;
    const char *at = end_of_user(host, "/?#", &open), *from = open ? "" : at ? at + 1 : host;
    snprintf(ret, cap, "%.*s%.*s", (int)(host - url), url, (int)strcspn(from, "?#"), from);
}

size_t srn_utf8_get(const char *p, size_t n, uint32_t *ret_cp) {
    if (n == 0) return 0;
    const uint8_t *s = (const uint8_t *)p;
    size_t len;
    uint32_t cp, least;
    if (s[0] < 0x80) {
        *ret_cp = s[0];
        return 1;
    } else if (s[0] >= 0xC2 && s[0] < 0xE0) {
        len = 2, cp = s[0] & 0x1Fu, least = 0x80;
    } else if (s[0] >= 0xE0 && s[0] < 0xF0) {
        len = 3, cp = s[0] & 0x0Fu, least = 0x800;
    } else if (s[0] >= 0xF0 && s[0] < 0xF5) {
        len = 4, cp = s[0] & 0x07u, least = 0x10000;
    } else {
        return 0;
    }
    if (n < len) return 0;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
        cp = cp << 6 | (s[i] & 0x3Fu);
    }
    if (cp < least || cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000)) return 0;
    *ret_cp = cp;
    return len;
}

size_t srn_utf8_len(const char *p, size_t n) {
    uint32_t cp;
    return srn_utf8_get(p, n, &cp);
}

size_t srn_utf8_put(uint32_t cp, char out[4]) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, cp >>= 6) out[i] = (char)(0x80u | (cp & 0x3Fu));
    out[0] = (char)((0xF00u >> len & 0xFFu) | cp);
    return len;
}

/* The high half of a product depends on every bit of both factors, so both halves together hide the seed: no
 * difference between two texts is undone by a later one, whatever the seed. */
static uint64_t mix(uint64_t a, uint64_t b) {
    unsigned __int128 r = (unsigned __int128)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

uint64_t srn_hash(uint64_t seed, srn_str s) {
    uint64_t h = seed ^ 0x9E3779B97F4A7C15u, factor = (0xD6E8FEB86659FD93u ^ seed << 1) | 1;
    for (size_t i = 0; i < s.len; i += 8) {
        uint64_t word = 0;
        memcpy(&word, s.ptr + i, SRN_MIN(s.len - i, (size_t)8));
        h = mix(h ^ word, factor);
    }
    return mix(h ^ s.len, 0xA0761D6478BD642Fu);
}

uint64_t srn_hash_seed(void) {
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
        seed = srn_now_us() * 0x9E3779B97F4A7C15u ^ (uint64_t)(uintptr_t)&seed;
    return seed;
}

struct srn_sha256 {
    EVP_MD_CTX *ctx;
};

srn_sha256 *srn_sha256_new(void) {
    srn_sha256 *h = srn_calloc(1, sizeof *h);
    if (!h) return NULL;
    h->ctx = EVP_MD_CTX_new();
    if (!h->ctx || !EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL)) {
        EVP_MD_CTX_free(h->ctx);
        free(h);
        return NULL;
    }
    return h;
}

void srn_sha256_add(srn_sha256 *h, const void *p, size_t n) {
    EVP_DigestUpdate(h->ctx, p, n);
}

void srn_sha256_end(srn_sha256 *h, uint8_t out[SRN_SHA256_BYTES]) {
    EVP_DigestFinal_ex(h->ctx, out, NULL);
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

void srn_hex(const uint8_t *p, size_t n, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = 0;
}
