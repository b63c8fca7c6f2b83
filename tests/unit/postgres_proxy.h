/* A proxy between the ledger and PostgreSQL, for tests: it passes bytes on, or loses a COMMIT, or its answer,
 * or everything. One thread of its own; one at a time. */
#ifndef SRN_TEST_POSTGRES_PROXY_H
#define SRN_TEST_POSTGRES_PROXY_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "postgres_help.h"

typedef enum pg_loss {
    PG_PASS,
    PG_LOSE_COMMIT, /* the next COMMIT does not arrive; both connections are cut */
    PG_LOSE_ANSWER, /* the next COMMIT does, but not its answer; both are cut */
    PG_LOSE_CLIENT, /* the same, and the server does not see that its client is gone */
    PG_HANG,        /* nothing is passed on */
    PG_SLOW         /* what clients say comes slowly, at most 20 MB/s */
} pg_loss;

enum { PG_PAIRS = 16 };
typedef struct pg_pair { /* -1: none */
    int client, server;
    bool waits; /* a COMMIT went through whose answer is not to */
    char seen[6];
} pg_pair;

typedef struct pg_proxy {
    int port, listener, to_port;
    atomic_int loss, lost; /* lost: how often something was */
    atomic_bool ending;
    pthread_t thread;
    pg_pair pairs[PG_PAIRS];
} pg_proxy;

static inline void pg_proxy_cut(pg_pair *p, bool server_too) {
    if (p->client >= 0) close(p->client);
    p->client = -1;
    if (!server_too) return;
    if (p->server >= 0) close(p->server);
    p->server = -1;
}

static inline void pg_proxy_accept(pg_proxy *x) {
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)x->to_port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int client = accept4(x->listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0) return;
    for (int i = 0; i < PG_PAIRS; i++) {
        pg_pair *p = &x->pairs[i];
        if (p->client >= 0 || p->server >= 0) continue;
        int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(server, (struct sockaddr *)&a, sizeof a)) {
            close(server);
            break;
        }
        *p = (pg_pair){.client = client, .server = server};
        return;
    }
    close(client);
}

static inline void pg_send_all(int fd, const char *p, size_t n) {
    for (ssize_t sent; n && (sent = send(fd, p, n, MSG_NOSIGNAL)) > 0; n -= (size_t)sent) p += sent;
}

/* Whether the bytes, after those before them, hold the word. */
static inline bool pg_holds_commit(pg_pair *p, const char *bytes, size_t n) {
    char both[65536 + 8];
    size_t kept = strnlen(p->seen, sizeof p->seen - 1);
    memcpy(both, p->seen, kept);
    memcpy(both + kept, bytes, n);
    bool there = memmem(both, kept + n, "COMMIT", 6) != NULL;
    size_t tail = kept + n < 5 ? kept + n : 5;
    memcpy(p->seen, both + kept + n - tail, tail);
    p->seen[tail] = 0;
    for (size_t i = 0; i < tail; i++)
        if (!p->seen[i]) p->seen[i] = ' ';
    return there;
}

static inline void pg_proxy_pass(pg_proxy *x, pg_pair *p, bool from_client) {
    char bytes[65536];
    ssize_t n = recv(from_client ? p->client : p->server, bytes, sizeof bytes, 0);
    if (n <= 0) {
        pg_proxy_cut(p, true);
        return;
    }
    int loss = atomic_load(&x->loss);
    if (!from_client && p->waits) { /* the server has done it */
        pg_proxy_cut(p, loss != PG_LOSE_CLIENT);
        p->waits = false;
        atomic_store(&x->loss, PG_PASS);
        atomic_fetch_add(&x->lost, 1);
        return;
    }
    if (from_client && loss == PG_SLOW) nanosleep(&(struct timespec){0, 3000000}, NULL);
    bool loses = from_client && loss != PG_PASS && loss < PG_HANG && pg_holds_commit(p, bytes, (size_t)n);
    if (loses && loss == PG_LOSE_COMMIT) {
        pg_proxy_cut(p, true);
        atomic_store(&x->loss, PG_PASS);
        atomic_fetch_add(&x->lost, 1);
        return;
    }
    p->waits = p->waits || loses;
    pg_send_all(from_client ? p->server : p->client, bytes, (size_t)n);
}

static inline void *pg_proxy_main(void *arg) {
    pg_proxy *x = arg;
    while (!atomic_load(&x->ending)) {
        struct pollfd fds[2 * PG_PAIRS + 1] = {{.fd = x->listener, .events = POLLIN}};
        bool hangs = atomic_load(&x->loss) == PG_HANG;
        for (int i = 0; i < PG_PAIRS; i++) {
            fds[1 + 2 * i] = (struct pollfd){.fd = hangs ? -1 : x->pairs[i].client, .events = POLLIN};
            bool half = x->pairs[i].client < 0; /* nobody reads any more what the server says */
            fds[2 + 2 * i] = (struct pollfd){.fd = hangs || half ? -1 : x->pairs[i].server, .events = POLLIN};
        }
        if (poll(fds, SRN_LEN(fds), 20) <= 0) continue;
        if (fds[0].revents) pg_proxy_accept(x);
        for (int i = 0; i < PG_PAIRS; i++) {
            pg_pair *p = &x->pairs[i];
            if (fds[1 + 2 * i].revents && p->client >= 0) pg_proxy_pass(x, p, true);
            if (fds[2 + 2 * i].revents && p->server >= 0 && p->client >= 0) pg_proxy_pass(x, p, false);
        }
    }
    return NULL;
}

static inline void pg_proxy_new(pg_proxy *x, const pg_server *s) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    memset(x, 0, sizeof *x);
    x->to_port = s->port;
    for (int i = 0; i < PG_PAIRS; i++) x->pairs[i] = (pg_pair){.client = -1, .server = -1};
    x->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* What is sent to it and not yet passed on is little, or a slow line would seem a silent one at the end.
     */
    setsockopt(x->listener, SOL_SOCKET, SO_RCVBUF, &(int){65536}, sizeof(int));
    if (bind(x->listener, (struct sockaddr *)&a, n) || getsockname(x->listener, (struct sockaddr *)&a, &n) ||
        listen(x->listener, 16) || pthread_create(&x->thread, NULL, pg_proxy_main, x))
        fail_msg("no proxy");
    x->port = ntohs(a.sin_port);
}

static inline void pg_proxy_done(pg_proxy *x) {
    atomic_store(&x->ending, true);
    pthread_join(x->thread, NULL);
    close(x->listener);
    for (int i = 0; i < PG_PAIRS; i++) pg_proxy_cut(&x->pairs[i], true);
}

#endif
