/* serve: the life of the HTTP core: address, keys, certificate, workers, listener; readiness; the stop with
 * its grace time. Called by the server (server.c) and by tests with routes of their own.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "serve/http_internal.h"
#include "serve/upstream.h"

enum { N_WORKERS = 4, LAST_WORDS_MS = 3000, LEAST_QUEUE = 64 };

static int load_access(srn__http *h, srn_err *err) {
    const srn_config *c = h->o.config;
    int code = srn__settings_new(c, NULL, &h->settings, err);
    if (!code) {
        h->settings->on_unused = h->o.on_unused;
        h->settings->unused_ctx = h->o.end_ctx;
        h->latest = srn__settings_hold(h->settings);
    }
    if (!code && (c->tls_cert || c->tls_key)) {
        if (!c->tls_cert || !c->tls_key)
            return srn_fail(err, SRN_EINVAL,
                            "TLS needs both a certificate and its key: --tls-cert FILE --tls-key FILE");
        code = srn__cert_load(c->tls_cert, c->tls_key, &h->tls.current, err);
    }
    return code;
}

int srn__http_may(const srn__http *h, const srn__settings *s, srn_err *err) {
    if (h->address.loopback || s->keys || s->config->allow_open) return 0;
    return srn_fail(
        err, SRN_EINVAL,
        "listening on %s without keys would let everyone who reaches it use the models: give --keys "
        "FILE, or --allow-open if that is meant",
        s->config->listen);
}

static int start(srn__http *h, srn_err *err) {
    int code = load_access(h, err);
    if (!code)
        code =
            srn__address_listen(h->o.config->listen, h->tls.current != NULL, &h->listen_fd, &h->address, err);
    if (!code) code = srn__http_may(h, h->settings, err);
    if (code) return code;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* workers inherit it: signals are the main thread's */
    code =
        srn__workers_new(h->o.n_workers ? h->o.n_workers : N_WORKERS,
                         h->o.queue ? h->o.queue : SRN_MAX(h->o.config->limits.queue, (uint32_t)LEAST_QUEUE),
                         &h->workers, err);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code ? code : srn__listener_start(h, err);
}

int srn__http_new(const srn__http_opts *o, srn__http **ret, srn_err *err) {
    srn__http *h = srn_calloc(1, sizeof *h);
    if (!h) return srn_fail_nomem(err, sizeof *h);
    h->o = *o;
    h->local_key = (srn_key){.name = "local", .tenant = "local", .admin = true};
    h->local_key.tenant_id = srn_hash_seed() | 1;
    h->listen_fd = h->epoll_fd = h->event_fd = -1;
    for (int i = 0; i < SRN__LINGERS; i++) h->lingers[i].fd = -1;
    atomic_init(&h->ready, NULL);
    atomic_init(&h->mode, SRN__MODE_LOADING);
    atomic_init(&h->burst, false);
    atomic_init(&h->hurry, false);
    atomic_init(&h->drain, false);
    atomic_init(&h->n_conns, 0);
    atomic_init(&h->new_settings, NULL);
    atomic_init(&h->new_cert, NULL);
    pthread_mutex_init(&h->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&h->idle, &attr);
    pthread_condattr_destroy(&attr);
    int code = start(h, err);
    if (code) {
        srn__http_free(h);
        return code;
    }
    *ret = h;
    return 0;
}

/* Modes only go forward. */
static void advance(srn__http *h, srn__mode to) {
    int now = atomic_load(&h->mode);
    while (now < (int)to && !atomic_compare_exchange_weak(&h->mode, &now, (int)to)) continue;
    if (h->event_fd >= 0) srn__listener_wake(h);
}

void srn__http_ready(srn__http *h) {
    advance(h, SRN__MODE_RUN);
}

const char *srn__http_address(const srn__http *h) {
    return h->address.url;
}

uint32_t srn__http_connections(const srn__http *h) {
    return atomic_load(&h->n_conns);
}

const char *srn__http_unready(const srn__http *h) {
    int mode = atomic_load(&h->mode);
    if (mode == SRN__MODE_LOADING) return "loading";
    return mode == SRN__MODE_RUN && !atomic_load(&h->drain) ? NULL : "draining";
}

bool srn__http_drain(srn__http *h, bool on) {
    bool changed = atomic_exchange(&h->drain, on) != on;
    if (changed) srn__http_log_event(h, on ? "draining" : "in service", NULL);
    return changed;
}

void srn__http_each_live(srn__http *h, void (*fn)(void *ctx, srn__call *c), void *ctx) {
    pthread_mutex_lock(&h->lock);
    for (srn__call *c = h->live_first; c; c = c->live_next) fn(ctx, c);
    pthread_mutex_unlock(&h->lock);
}

bool srn__http_cancel(srn__http *h, const char *id) {
    pthread_mutex_lock(&h->lock);
    srn__call *c = h->live_first;
    while (c && strcmp(c->id, id) != 0) c = c->live_next;
    if (c) srn__call_hold(c);
    pthread_mutex_unlock(&h->lock);
    if (!c) return false;
    pthread_mutex_lock(&c->lock);
    c->cancelled = true;
    if (c->ops) c->ops->cancel(c->source);
    srn__relay_cancel(c->relay);
    pthread_mutex_unlock(&c->lock);
    srn__call_drop(c);
    return true;
}

srn__settings *srn__http_settings(srn__http *h) {
    return srn__settings_hold(h->latest);
}

void srn__http_adopt(srn__http *h, srn__settings *s, srn__cert *cert) {
    s->on_unused = h->o.on_unused;
    s->unused_ctx = h->o.end_ctx;
    srn__settings_put(h->latest);
    h->latest = srn__settings_hold(s);
    srn__settings_put(atomic_exchange(&h->new_settings, s));
    if (cert) srn__cert_free(atomic_exchange(&h->new_cert, cert));
    srn__listener_wake(h);
}

/* Until no exchange runs, the time is over, or, with or_hurry, somebody is in a hurry. */
static void wait_idle(srn__http *h, uint32_t ms, bool or_hurry) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    pthread_mutex_lock(&h->lock);
    while (h->n_calls && !(or_hurry && atomic_load(&h->hurry)))
        if (pthread_cond_timedwait(&h->idle, &h->lock, &until) == ETIMEDOUT) break;
    pthread_mutex_unlock(&h->lock);
}

void srn__http_hurry(srn__http *h) {
    pthread_mutex_lock(&h->lock);
    atomic_store(&h->hurry, true);
    pthread_cond_broadcast(&h->idle);
    pthread_mutex_unlock(&h->lock);
}

void srn__http_stop(srn__http *h, uint32_t grace_ms) {
    if (h->stopped) return;
    h->stopped = true;
    if (h->thread_runs) {
        advance(h, SRN__MODE_DRAIN);
        wait_idle(h, grace_ms, true);
        advance(h, SRN__MODE_END);
        wait_idle(h, h->o.last_words_ms ? h->o.last_words_ms : LAST_WORDS_MS, false);
    }
    advance(h, SRN__MODE_KILL);
    srn__listener_stop(h);
    srn__workers_free(h->workers);
    h->workers = NULL;
    if (h->address.path[0]) unlink(h->address.path);
}

void srn__http_free(srn__http *h) {
    if (!h) return;
    srn__http_stop(h, 0);
    /* What was woken after the listener's last look. Only now nobody can wake any more. */
    for (srn__call *c = atomic_exchange(&h->ready, NULL), *next; c; c = next) {
        next = c->next_ready;
        srn__call_drop(c);
    }
    if (h->event_fd >= 0) close(h->event_fd);
    srn__settings_put(h->latest);
    srn__settings_put(h->settings);
    srn__settings_put(atomic_exchange(&h->new_settings, NULL));
    srn__cert_free(atomic_exchange(&h->new_cert, NULL));
    srn__tls_done(&h->tls);
    pthread_cond_destroy(&h->idle);
    pthread_mutex_destroy(&h->lock);
    free(h);
}
