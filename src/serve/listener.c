/* serve: the listener thread. It waits in one epoll for everything that concerns it: libmicrohttpd's own
 * epoll (accepts, requests, room to write), the event by which other threads wake calls, hang-ups of every
 * connection, and sockets that linger. libmicrohttpd runs in its external mode, so that one thread alone
 * touches connections: none can be closed, and no descriptor be used anew, between seeing an event and acting
 * on it. A suspended connection is out of libmicrohttpd's sight; its hang-up is seen here (EPOLLRDHUP, plain
 * and TLS alike), which cancels the call's source at once.
 *
 * Deadlines of headers and bodies are kept here, for libmicrohttpd's own timeout starts anew with each byte.
 * At its deadline a connection is shut down, which libmicrohttpd then notices like any end of a connection.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/http_internal.h"

enum {
    N_EVENTS = 256,
    LINGER_US = 10000000,
    GONE_US = 20000,
    LINGER_BYTES = 64 << 20,
    POOL_EXTRA = 32 << 10
};
enum { KIND_DAEMON = 1, KIND_EVENT, KIND_CONN, KIND_LINGER };

static bool watch(srn__http *h, int fd, uint32_t events, void *what) {
    struct epoll_event e = {.events = events, .data.ptr = what};
    return epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, fd, &e) == 0;
}

void srn__listener_wake(srn__http *h) {
    uint64_t one = 1;
    while (write(h->event_fd, &one, sizeof one) < 0 && errno == EINTR) continue;
}

/* ---- connections ---- */

uint32_t srn__listener_idle_s(const srn_config *c) {
    return (uint32_t)(((uint64_t)c->limits.idle_timeout_ms + 999) / 1000);
}

static void name_client(const struct sockaddr *a, char out[64]) {
    char text[INET6_ADDRSTRLEN] = "?";
    if (!a || a->sa_family == AF_UNIX) {
        snprintf(out, 64, "unix");
    } else if (a->sa_family == AF_INET6) {
        const struct sockaddr_in6 *s = (const void *)a;
        inet_ntop(AF_INET6, &s->sin6_addr, text, sizeof text);
        snprintf(out, 64, "[%s]:%u", text, ntohs(s->sin6_port));
    } else {
        const struct sockaddr_in *s = (const void *)a;
        inet_ntop(AF_INET, &s->sin_addr, text, sizeof text);
        snprintf(out, 64, "%s:%u", text, ntohs(s->sin_port));
    }
}

/* 0: none. That of a client who left comes soon, whatever else was to be waited for. */
void srn__listener_arm(srn__http *h, srn__conn *conn, uint64_t deadline_us) {
    if (conn->gone) deadline_us = srn_now_us() + GONE_US;
    conn->deadline_us = deadline_us;
    if (deadline_us) h->next_deadline_us = SRN_MIN(h->next_deadline_us, deadline_us);
}

static void open_conn(srn__http *h, struct MHD_Connection *con, void **context) {
    const union MHD_ConnectionInfo *fd = MHD_get_connection_info(con, MHD_CONNECTION_INFO_CONNECTION_FD);
    srn__conn *conn = fd ? srn_calloc(1, sizeof *conn) : NULL;
    if (!conn) return; /* its requests find no context and are refused */
    conn->kind = KIND_CONN;
    conn->fd = fd->connect_fd;
    conn->mhd = con;
    conn->id = h->next_conn++;
    conn->idle_s = srn__listener_idle_s(h->o.config);
    const union MHD_ConnectionInfo *addr = MHD_get_connection_info(con, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    name_client(addr ? addr->client_addr : NULL, conn->client);
    /* Once for the connection's life; closing the descriptor takes it out of the epoll. */
    watch(h, conn->fd, EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLET, conn);
    conn->prev = h->last;
    *(h->last ? &h->last->next : &h->first) = conn;
    h->last = conn;
    atomic_fetch_add(&h->n_conns, 1);
    if (h->tls.current) srn__tls_attach(con, &h->tls);
    uint64_t allowed = h->settings->config->limits.header_timeout_ms;
    srn__listener_arm(h, conn, allowed ? srn_now_us() + allowed * 1000 : 0);
    *context = conn;
}

static void close_conn(srn__http *h, void **context) {
    srn__conn *conn = *context;
    if (!conn) return;
    *context = NULL;
    atomic_fetch_sub(&h->n_conns, 1);
    *(conn->prev ? &conn->prev->next : &h->first) = conn->next;
    *(conn->next ? &conn->next->prev : &h->last) = conn->prev;
    srn__tls_sweep(&h->tls, h->first ? h->first->id : UINT64_MAX);
    epoll_ctl(h->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
    if (conn->linger) {
        /* A second descriptor keeps the socket open after libmicrohttpd closed its own and said that nothing
         * more comes; what the client still sends is swallowed, or a reset would take the reply with it. */
        for (int i = 0; i < SRN__LINGERS; i++) {
            srn__linger *l = &h->lingers[i];
            if (l->fd >= 0) continue;
            *l = (srn__linger){KIND_LINGER, dup(conn->fd), srn_now_us() + LINGER_US, 0};
            if (l->fd < 0) break;
            if (!watch(h, l->fd, EPOLLIN | EPOLLRDHUP, l)) close(l->fd), l->fd = -1;
            h->next_deadline_us = SRN_MIN(h->next_deadline_us, l->deadline_us);
            break;
        }
    }
    free(conn);
}

static void on_connection(void *cls, struct MHD_Connection *con, void **context,
                          enum MHD_ConnectionNotificationCode code) {
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        open_conn(cls, con, context);
    else
        close_conn(cls, context);
}

/* The request line has come: from now on it is the headers' time that counts, not idleness. */
static void *on_request_line(void *cls, const char *uri, struct MHD_Connection *con) {
    (void)uri;
    srn__http *h = cls;
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(con, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    srn__conn *conn = i ? i->socket_context : NULL;
    if (conn && !conn->in_request) {
        conn->in_request = true;
        uint64_t allowed = h->settings->config->limits.header_timeout_ms;
        srn__listener_arm(h, conn, allowed ? srn_now_us() + allowed * 1000 : 0);
    }
    return NULL;
}

/* ---- the loop ---- */

static void close_linger(srn__linger *l) {
    if (l->fd >= 0) close(l->fd);
    l->fd = -1;
}

static void swallow(srn__linger *l) {
    char sink[16 << 10];
    for (int i = 0; i < 16; i++) {
        ssize_t n = recv(l->fd, sink, sizeof sink, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) return;
        if (n > 0) l->bytes += (uint64_t)n;
        if (n <= 0 || l->bytes > LINGER_BYTES) {
            close_linger(l);
            return;
        }
    }
}

/* A connection that took too long. Where a request has begun on a plain connection it is told why. */
static void expire(srn__http *h, srn__conn *conn) {
    static const char body[] = "{\"error\":{\"message\":\"the request took too long to arrive\","
                               "\"type\":\"timeout_error\",\"param\":null,\"code\":null}}";
    if (!h->tls.current && conn->in_request && !conn->gone) {
        char reply[512];
        int n =
            snprintf(reply, sizeof reply,
                     "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\n\r\n%s",
                     sizeof body - 1, body);
        (void)!send(conn->fd, reply, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    shutdown(conn->fd, SHUT_RDWR);
}

static void check_deadlines(srn__http *h, uint64_t now) {
    if (now < h->next_deadline_us) return;
    h->next_deadline_us = UINT64_MAX;
    for (srn__conn *c = h->first; c; c = c->next) {
        if (c->deadline_us && c->deadline_us <= now) {
            c->deadline_us = 0;
            expire(h, c);
        } else if (c->deadline_us) {
            h->next_deadline_us = SRN_MIN(h->next_deadline_us, c->deadline_us);
        }
    }
    for (int i = 0; i < SRN__LINGERS; i++) {
        srn__linger *l = &h->lingers[i];
        if (l->fd >= 0 && l->deadline_us <= now) close_linger(l);
        if (l->fd >= 0) h->next_deadline_us = SRN_MIN(h->next_deadline_us, l->deadline_us);
    }
}

/* The client closed its end. A call that waits or streams ends now. libmicrohttpd still reads what came
 * before the end, but may overlook an end that came together with it; the deadline sees to that. */
static void hang_up(srn__http *h, srn__conn *conn) {
    conn->gone = true;
    if (conn->call && conn->call->stage != SRN__STAGE_BODY) srn__exchange_cancel(conn->call, true);
    srn__listener_arm(h, conn, 0);
}

static void on_event(srn__http *h, const struct epoll_event *e) {
    switch (*(int *)e->data.ptr) {
    case KIND_CONN:
        hang_up(h, e->data.ptr);
        break;
    case KIND_LINGER:
        swallow(e->data.ptr);
        break;
    default: /* libmicrohttpd's turn, and that of the calls that were woken, comes anyway */
        break;
    }
}

static void take_ready(srn__http *h) {
    srn__call *list = atomic_exchange(&h->ready, NULL), *oldest = NULL;
    while (list) { /* reversed: first woken, first served */
        srn__call *next = list->next_ready;
        list->next_ready = oldest;
        oldest = list;
        list = next;
    }
    while (oldest) {
        srn__call *c = oldest;
        oldest = c->next_ready;
        atomic_store(&c->woken, false); /* before pulling: what comes later wakes again */
        srn__exchange_ready(c);
        srn__call_drop(c);
    }
}

static void take_new_settings(srn__http *h) {
    srn__settings *s = atomic_exchange(&h->new_settings, NULL);
    if (s) {
        srn__settings_put(h->settings);
        h->settings = s;
    }
    srn__cert *cert = atomic_exchange(&h->new_cert, NULL);
    if (cert) {
        srn__tls_replace(&h->tls, cert, h->next_conn);
        srn__tls_sweep(&h->tls, h->first ? h->first->id : UINT64_MAX);
    }
}

/* Ends what runs when the server ends: once when sources shall say their last, and once for all. */
static void take_mode(srn__http *h) {
    srn__mode mode = (srn__mode)atomic_load(&h->mode);
    if (mode == h->seen) return;
    h->seen = mode;
    if (mode < SRN__MODE_END) return;
    for (srn__conn *c = h->first; c; c = c->next)
        if (c->call) srn__exchange_cancel(c->call, mode == SRN__MODE_KILL);
}

static int wait_ms(srn__http *h) {
    MHD_UNSIGNED_LONG_LONG mhd_ms;
    uint64_t ms = 60000, now = srn_now_us();
    if (MHD_get_timeout(h->daemon, &mhd_ms) == MHD_YES) ms = SRN_MIN(ms, (uint64_t)mhd_ms);
    if (h->next_deadline_us != UINT64_MAX)
        ms = SRN_MIN(ms, h->next_deadline_us > now ? (h->next_deadline_us - now + 999) / 1000 : 0);
    return (int)ms;
}

static void *listener_main(void *p) {
    srn__http *h = p;
    struct epoll_event events[N_EVENTS];
    pthread_setname_np(pthread_self(), "serin-http");
    while (h->seen != SRN__MODE_KILL) {
        int n = epoll_wait(h->epoll_fd, events, N_EVENTS, wait_ms(h));
        /* Connections end in MHD_run alone, so that every event's object is alive here. */
        for (int i = 0; i < n; i++) on_event(h, &events[i]);
        take_new_settings(h);
        take_mode(h);
        take_ready(h);
        check_deadlines(h, srn_now_us());
        MHD_run(h->daemon);
    }
    MHD_run(h->daemon); /* lets resumed connections end: none may be suspended when the daemon stops */
    MHD_stop_daemon(h->daemon);
    h->daemon = NULL;
    return NULL;
}

/* ---- start and stop ---- */

static int start_daemon(srn__http *h, srn_err *err) {
    const srn_config_limits *l = &h->settings->config->limits;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME;
    struct MHD_OptionItem options[] = {
        {MHD_OPTION_LISTEN_SOCKET, h->listen_fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)SRN_MAX(l->connections, 1u), NULL},
        {MHD_OPTION_PER_IP_CONNECTION_LIMIT, (intptr_t)l->connections_per_ip, NULL},
        /* Also ends a client that does not read its reply. */
        {MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)srn__listener_idle_s(h->o.config), NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)(SRN_MAX(l->header_bytes, 16384u) + POOL_EXTRA), NULL},
        {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL}, /* HTTP/1.1 without a Host header is refused */
        {MHD_OPTION_END, 0, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    if (h->tls.current) {
        flags |= MHD_USE_TLS;
        options[SRN_LEN(options) - 2] =
            (struct MHD_OptionItem){MHD_OPTION_HTTPS_CERT_CALLBACK, 0, srn__tls_callback()};
    }
    h->daemon = MHD_start_daemon(flags, 0, NULL, NULL, srn__exchange_request, h, MHD_OPTION_NOTIFY_COMPLETED,
                                 srn__exchange_completed, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
                                 MHD_OPTION_URI_LOG_CALLBACK, on_request_line, h, MHD_OPTION_HTTPS_PRIORITIES,
                                 "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", MHD_OPTION_ARRAY, options,
                                 MHD_OPTION_END);
    if (!h->daemon) return srn_fail(err, SRN_EIO, "the HTTP server cannot be started: %s", strerror(errno));
    h->listen_fd = -1; /* libmicrohttpd closes it */
    return 0;
}

int srn__listener_start(srn__http *h, srn_err *err) {
    h->daemon_kind = KIND_DAEMON;
    h->event_kind = KIND_EVENT;
    h->next_conn = 1;
    h->next_deadline_us = UINT64_MAX;
    for (int i = 0; i < SRN__LINGERS; i++) h->lingers[i].fd = -1;
    h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    h->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->epoll_fd < 0 || h->event_fd < 0)
        return srn_fail(err, SRN_EIO, "no descriptors are left for the HTTP server: %s", strerror(errno));
    int code = start_daemon(h, err);
    if (code) return code;
    const union MHD_DaemonInfo *i = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!i || !watch(h, i->epoll_fd, EPOLLIN, &h->daemon_kind) ||
        !watch(h, h->event_fd, EPOLLIN | EPOLLET, &h->event_kind))
        return srn_fail(err, SRN_EIO, "the HTTP server's sockets cannot be watched: %s", strerror(errno));
    /* Signals are the main thread's; a write to a closed socket is an error code here. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int e = pthread_create(&h->thread, NULL, listener_main, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (e) return srn_fail(err, SRN_ENOMEM, "cannot start the listener's thread: %s", strerror(e));
    h->thread_runs = true;
    return 0;
}

void srn__listener_stop(srn__http *h) {
    if (h->thread_runs) {
        srn__listener_wake(h);
        pthread_join(h->thread, NULL);
    }
    h->thread_runs = false;
    if (h->daemon) MHD_stop_daemon(h->daemon);
    h->daemon = NULL;
    for (int i = 0; i < SRN__LINGERS; i++) close_linger(&h->lingers[i]);
    if (h->epoll_fd >= 0) close(h->epoll_fd);
    if (h->listen_fd >= 0) close(h->listen_fd);
    h->epoll_fd = h->listen_fd = -1;
}
