/* A bare HTTP client for tests of the server: sockets, bytes, and replies read to their end. Every wait has a
 * limit of WAIT_MS, after which the test fails rather than hangs.
 */
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"

enum { WAIT_MS = 30000 };

static inline int dial(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) != 0) close(fd), fd = -1;
    return fd;
}

/* False when the peer has closed. */
static inline bool say_n(int fd, const char *p, size_t n) {
    while (n) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}
static inline bool say(int fd, const char *z) {
    return say_n(fd, z, strlen(z));
}

typedef struct heard {
    int status; /* 0: no reply came */
    srn_buf head, body;
    bool ended; /* the body came to its proper end */
    bool closed;
} heard;

static inline void heard_done(heard *r) {
    srn_buf_done(&r->head);
    srn_buf_done(&r->body);
}

/* 1: a byte, 0: closed, -1: nothing within the limit. */
static inline int get_byte(int fd, char *ret) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, WAIT_MS) <= 0) return -1;
    return recv(fd, ret, 1, 0) == 1 ? 1 : 0;
}

static inline bool get_line(int fd, srn_buf *line) {
    char c;
    srn_buf_clear(line);
    while (get_byte(fd, &c) == 1) {
        if (c == '\n') return true;
        if (c != '\r') srn_buf_addc(line, c);
    }
    return false;
}

static inline const char *header(const heard *r, const char *name, char value[256]) {
    size_t n = strlen(name);
    for (const char *p = r->head.data; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
        if (strncasecmp(p, name, n) != 0 || p[n] != ':') continue;
        const char *v = p + n + 1 + strspn(p + n + 1, " ");
        snprintf(value, 256, "%.*s", (int)strcspn(v, "\n"), v);
        return value;
    }
    return NULL;
}

static inline bool get_bytes(int fd, size_t n, srn_buf *to) {
    char c;
    while (n--) {
        if (get_byte(fd, &c) != 1) return false;
        srn_buf_addc(to, c);
    }
    return true;
}

/* Status line and headers. */
static inline bool hear_head(int fd, heard *r) {
    srn_buf line;
    srn_buf_init(&r->head, 1 << 20);
    srn_buf_init(&r->body, 64 << 20);
    srn_buf_init(&line, 1 << 20);
    r->status = 0;
    r->ended = r->closed = false;
    bool ok = get_line(fd, &line);
    if (ok && line.len > 12) r->status = (int)strtol(line.data + 9, NULL, 10);
    while (ok && (ok = get_line(fd, &line)) && line.len) srn_buf_addf(&r->head, "%s\n", line.data);
    srn_buf_done(&line);
    return ok;
}

/* One chunk onto the body; false at the end (r->ended) or when the connection broke. */
static inline bool hear_chunk(int fd, heard *r) {
    srn_buf line;
    srn_buf_init(&line, 1 << 16);
    bool ok = get_line(fd, &line);
    size_t n = ok ? strtoul(line.data ? line.data : "0", NULL, 16) : 0;
    ok = ok && get_bytes(fd, n, &r->body) && get_line(fd, &line);
    if (ok && n == 0) r->ended = true;
    srn_buf_done(&line);
    return ok && n > 0;
}

/* A whole reply; of HEAD only the headers. */
static inline heard hear(int fd, bool head) {
    heard r;
    char v[256], c;
    if (!hear_head(fd, &r) || head) return r;
    const char *length = header(&r, "Content-Length", v);
    if (length) {
        r.ended = get_bytes(fd, strtoul(length, NULL, 10), &r.body);
    } else if (header(&r, "Transfer-Encoding", v)) {
        while (hear_chunk(fd, &r)) continue;
    } else if (r.status != 204) {
        while (get_byte(fd, &c) == 1) srn_buf_addc(&r.body, c);
        r.ended = r.closed = true;
    } else {
        r.ended = true;
    }
    return r;
}

/* Whether the peer closes without another byte. */
static inline bool hears_end(int fd) {
    char c;
    return get_byte(fd, &c) == 0;
}

#endif
