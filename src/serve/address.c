/* serve: the address to listen on, from its text to a listening socket. Called once at start. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "serve/http_internal.h"

enum { BACKLOG = 1024 };

/* A socket file that nobody listens on is left over from a server that was killed. */
static void remove_stale(const struct sockaddr_un *a) {
    struct stat st;
    if (lstat(a->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode)) return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return;
    if (connect(fd, (const struct sockaddr *)a, sizeof *a) != 0 && errno == ECONNREFUSED) unlink(a->sun_path);
    close(fd);
}

static int listen_unix(const char *path, int *ret_fd, srn__address *ret, srn_err *err) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof a.sun_path)
        return srn_fail(err, SRN_EINVAL, "listen address unix:%s: a socket's path has 1 to %zu bytes", path,
                        sizeof a.sun_path - 1);
    memcpy(a.sun_path, path, n);
    remove_stale(&a);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return srn_fail(err, SRN_EIO, "no socket can be had: %s", strerror(errno));
    if (bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || chmod(path, 0660) != 0 ||
        listen(fd, BACKLOG) != 0) {
        int e = errno;
        close(fd);
        return srn_fail(err, SRN_EIO, "cannot listen on unix:%s: %s", path, strerror(e));
    }
    *ret = (srn__address){.loopback = true};
    memcpy(ret->path, path, n);
    snprintf(ret->url, sizeof ret->url, "unix:%s", path);
    *ret_fd = fd;
    return 0;
}

/* "HOST:PORT" or "[V6]:PORT" in two parts. */
static int split(const char *text, char host[128], char port[16], srn_err *err) {
    const char *colon = strrchr(text, ':'), *end = colon;
    const char *from = text;
    bool six = text[0] == '[';
    if (six && colon && colon > text && colon[-1] == ']') from++, end--;
    bool bad = !colon || end <= from || (size_t)(end - from) >= 128 || strlen(colon + 1) - 1 >= 5 ||
               strspn(colon + 1, "0123456789") != strlen(colon + 1) || (six && from == text) ||
               (!six && memchr(text, ':', (size_t)(colon - text)));
    if (bad)
        return srn_fail(err, SRN_EINVAL,
                        "listen address '%s': write HOST:PORT, as 127.0.0.1:8080 or [::1]:8080, or unix:PATH",
                        text);
    if (strtoul(colon + 1, NULL, 10) > 65535) /* at most five digits */
        return srn_fail(err, SRN_EINVAL, "listen address '%s': a port is at most 65535 (0: a free one)",
                        text);
    memcpy(host, from, (size_t)(end - from));
    host[end - from] = 0;
    snprintf(port, 16, "%s", colon + 1);
    return 0;
}

static void describe(const struct sockaddr *a, bool tls, srn__address *ret) {
    char number[INET6_ADDRSTRLEN] = "";
    unsigned port = 0;
    if (a->sa_family == AF_INET6) {
        const struct sockaddr_in6 *s = (const void *)a;
        inet_ntop(AF_INET6, &s->sin6_addr, number, sizeof number);
        port = ntohs(s->sin6_port);
        ret->loopback = IN6_IS_ADDR_LOOPBACK(&s->sin6_addr);
        ret->any = IN6_IS_ADDR_UNSPECIFIED(&s->sin6_addr);
    } else {
        const struct sockaddr_in *s = (const void *)a;
        inet_ntop(AF_INET, &s->sin_addr, number, sizeof number);
        port = ntohs(s->sin_port);
        ret->loopback = (ntohl(s->sin_addr.s_addr) >> 24) == 127;
        ret->any = s->sin_addr.s_addr == htonl(INADDR_ANY);
    }
    bool six = a->sa_family == AF_INET6;
    snprintf(ret->url, sizeof ret->url, "%s://%s%s%s:%u", tls ? "https" : "http", six ? "[" : "", number,
             six ? "]" : "", port);
}

static int open_socket(const struct addrinfo *i) {
    int fd = socket(i->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    if (fd < 0) return -1;
    /* Accepted sockets inherit these: a client whose machine vanished is noticed within a minute even while
     * nothing is sent, and no chunk of a stream waits for the acknowledgement of the one before. */
    int idle = 30, interval = 10, count = 3;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, i->ai_addr, i->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int e = errno;
    close(fd);
    errno = e;
    return -1;
}

int srn__address_listen(const char *text, bool tls, int *ret_fd, srn__address *ret, srn_err *err) {
    if (strncmp(text, "unix:", 5) == 0) return listen_unix(text + 5, ret_fd, ret, err);
    char host[128], port[16];
    int code = split(text, host, port, err);
    if (code) return code;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *list = NULL;
    int e = getaddrinfo(host, port, &hints, &list);
    if (e) return srn_fail(err, SRN_EINVAL, "listen address '%s': %s", text, gai_strerror(e));
    int fd = open_socket(list);
    if (fd < 0) {
        code = srn_fail(
            err, SRN_EIO, "cannot listen on %s: %s%s", text, strerror(errno),
            errno == EADDRINUSE ? "; another program has it: choose another with --listen HOST:PORT" : "");
        freeaddrinfo(list);
        return code;
    }
    freeaddrinfo(list);
    struct sockaddr_storage bound;
    socklen_t n = sizeof bound;
    getsockname(fd, (struct sockaddr *)&bound, &n);
    *ret = (srn__address){0};
    describe((struct sockaddr *)&bound, tls, ret);
    snprintf(ret->host, sizeof ret->host, "%s", host);
    *ret_fd = fd;
    return 0;
}
