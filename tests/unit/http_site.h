/* A server of the HTTP core for tests: handlers, a source whose text the test feeds, and waits with a limit
 * (WAIT_MS) after which the test fails rather than hangs. No model, no scheduler.
 */
#ifndef HTTP_SITE_H
#define HTTP_SITE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <time.h>

#include "http_client.h"
#include "serve/http_internal.h"

/* ---- a source whose text the test feeds ---- */

typedef struct feed {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    srn__call *call; /* held, once a handler took the feed */
    srn_buf text;
    bool done, ends_when_cancelled;
    int status;
    unsigned started, pulled, cancelled, freed;
    unsigned blocked;       /* handlers of /block that wait, */
    bool release;           /* until this */
    srn__call *waiting[16]; /* held calls of /wait, which run again then */
    unsigned n_waiting, again;
    unsigned ended; /* exchanges, by on_end */
    int last_status;
    bool last_complete;
    char last_key[64], last_model[128];
    srn_buf log;
} feed;

static inline void feed_init(feed *f) {
    *f = (feed){.status = 200, .ends_when_cancelled = true};
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->changed, &attr);
    pthread_condattr_destroy(&attr);
    srn_buf_init(&f->text, 64 << 20);
    srn_buf_init(&f->log, 64 << 20);
}

static inline void feed_done(feed *f) {
    srn_buf_done(&f->text);
    srn_buf_done(&f->log);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
}

/* Waits until *what is at least n. */
static inline void wait_for(feed *f, const unsigned *what, unsigned n) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_MS / 1000;
    int e = 0;
    pthread_mutex_lock(&f->lock);
    while (*what < n && e == 0) e = pthread_cond_timedwait(&f->changed, &f->lock, &until);
    unsigned got = *what;
    pthread_mutex_unlock(&f->lock);
    assert_true(got >= n);
}

static inline void give(feed *f, const char *text, bool done) {
    pthread_mutex_lock(&f->lock);
    srn_buf_addz(&f->text, text);
    f->done = done;
    srn__call *c = f->call;
    if (c) srn__call_wake(c);
    pthread_mutex_unlock(&f->lock);
}

static inline int feed_pull(void *source, srn_buf *out, int *status) {
    feed *f = source;
    pthread_mutex_lock(&f->lock);
    if (f->text.len) {
        srn_buf_add(out, f->text.data, f->text.len);
        f->pulled++;
        pthread_cond_broadcast(&f->changed);
    }
    srn_buf_clear(&f->text);
    bool done = f->done;
    *status = f->status;
    pthread_mutex_unlock(&f->lock);
    return done;
}

static inline void feed_cancel(void *source) {
    feed *f = source;
    pthread_mutex_lock(&f->lock);
    if (f->ends_when_cancelled && !f->done) {
        srn_buf_addz(&f->text, "data: {\"error\":{}}\n\n");
        f->done = true;
        if (f->call) srn__call_wake(f->call);
    }
    f->cancelled++;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static inline void feed_free(void *source) {
    feed *f = source;
    pthread_mutex_lock(&f->lock);
    srn__call *c = f->call;
    f->call = NULL;
    f->freed++;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    srn__call_drop(c);
}

static const srn__source_ops feed_ops = {feed_pull, feed_cancel, feed_free};

/* ---- handlers ---- */

static inline feed *feed_of(srn__call *c) {
    return (feed *)(void *)srn__call_server(c);
}

static inline void start_feed(srn__call *c, bool streamed) {
    feed *f = feed_of(c);
    srn__call_hold(c);
    pthread_mutex_lock(&f->lock);
    f->call = c;
    pthread_mutex_unlock(&f->lock);
    srn__call_reply_source(c, streamed, "application/json", &feed_ops, f);
    pthread_mutex_lock(&f->lock);
    f->started++;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static inline void handle_stream(srn__call *c) {
    start_feed(c, true);
}
static inline void handle_once(srn__call *c) {
    start_feed(c, false);
}
static inline void handle_hello(srn__call *c) {
    const char *name = srn__call_query(c, "name");
    srn__call_set_header(c, "x-serin-model", "m");
    snprintf(srn__call_get_facts(c)->model, sizeof srn__call_get_facts(c)->model, "m");
    srn__call_reply_json(c, 200, json_pack("{s:s}", "hello", name ? name : "world"));
}
static inline void handle_echo(srn__call *c) {
    json_t *v = srn__call_json(c);
    if (v) srn__call_reply_json(c, 200, json_incref(v));
}
static inline void handle_length(srn__call *c) {
    srn__call_reply_json(c, 200, json_pack("{s:I}", "length", (json_int_t)srn__call_body(c).len));
}
static inline void handle_id(srn__call *c) {
    srn__call_reply_text(c, 200, "text/plain", srn_str_of(srn__call_path_id(c)));
}
static inline void handle_block(srn__call *c) {
    feed *f = feed_of(c);
    snprintf(srn__call_get_facts(c)->model, sizeof srn__call_get_facts(c)->model, "unfinished");
    pthread_mutex_lock(&f->lock);
    f->blocked++;
    pthread_cond_broadcast(&f->changed);
    while (!f->release) pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
    srn__call_reply_text(c, 200, "text/plain", SRN_STR("free"));
}
/* Waits without a worker, with ?now for what comes before it has returned. */
static inline void handle_wait(srn__call *c) {
    feed *f = feed_of(c);
    pthread_mutex_lock(&f->lock);
    bool ready = f->release;
    if (ready) f->again++;
    if (!ready) {
        srn__call_may_wait(c, true);
        if (srn__call_query(c, "now")) {
            f->release = true;
            srn__call_again(c);
        } else {
            srn__call_hold(c);
            f->waiting[f->n_waiting++] = c;
        }
    }
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    if (ready) srn__call_reply_text(c, 200, "text/plain", SRN_STR("came"));
}
static inline void handle_nothing(srn__call *c) {
    (void)c;
}
static inline void handle_busy(srn__call *c) {
    srn_err err;
    srn_fail(&err, SRN_EBUSY, "the queue is full");
    srn__call_fail_err(c, NULL, &err);
}
static inline void handle_invalid(srn__call *c) {
    srn__call_fail(c, 400, NULL, "top_p", "invalid_value", "top_p: \xff must be a number");
}

/* A stream of its own for each call: "left" events, each of which asks for the next. */
typedef struct own {
    srn__call *call;
    unsigned left;
    atomic_bool cancelled;
} own;
static inline int own_pull(void *source, srn_buf *out, int *status) {
    own *o = source;
    (void)status;
    if (atomic_load(&o->cancelled) || o->left == 0) return 1;
    srn_buf_addz(out, "data: 0123456789\n\n");
    o->left--;
    srn__call_wake(o->call);
    return 0;
}
static inline void own_cancel(void *source) {
    own *o = source;
    atomic_store(&o->cancelled, true);
}
static inline void own_free(void *source) {
    own *o = source;
    srn__call_drop(o->call);
    free(o);
}
static const srn__source_ops own_ops = {own_pull, own_cancel, own_free};
static inline void handle_own(srn__call *c) {
    own *o = srn_calloc(1, sizeof *o);
    srn__call_hold(c);
    o->call = c;
    o->left = 1000;
    atomic_init(&o->cancelled, false);
    srn__call_reply_source(c, srn__call_query(c, "once") == NULL, "text/plain", &own_ops, o);
}

static const srn__route routes[] = {
    {"POST", "/own", handle_own, SRN__ROUTE_MODEL, SRN__OPENAI},
    {"GET", "/hello", handle_hello, 0, SRN__OPENAI},
    {"GET", "/health", handle_hello, SRN__ROUTE_OPEN | SRN__ROUTE_INLINE, SRN__OPENAI},
    {"GET", "/metrics", handle_hello, SRN__ROUTE_METRICS, SRN__OPENAI},
    {"POST", "/admin", handle_length, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"POST", "/echo", handle_echo, 0, SRN__OPENAI},
    {"POST", "/length", handle_length, 0, SRN__OPENAI},
    {"POST", "/stream", handle_stream, 0, SRN__OPENAI},
    {"POST", "/once", handle_once, SRN__ROUTE_MODEL, SRN__OPENAI},
    {"GET", "/id/{id}", handle_id, 0, SRN__OPENAI},
    {"GET", "/id/hello", handle_hello, 0, SRN__OPENAI},
    {"GET", "/block", handle_block, SRN__ROUTE_MODEL, SRN__OPENAI},
    {"GET", "/wait", handle_wait, 0, SRN__OPENAI},
    {"GET", "/nothing", handle_nothing, 0, SRN__OPENAI},
    {"GET", "/busy", handle_busy, 0, SRN__OPENAI},
    {"GET", "/invalid", handle_invalid, 0, SRN__OPENAI},
    {"POST", "/v1/messages", handle_echo, 0, SRN__ANTHROPIC},
};

/* ---- a server ---- */

static inline void on_end(void *ctx, const srn__call_end *e) {
    feed *f = ctx;
    pthread_mutex_lock(&f->lock);
    f->ended++;
    f->last_status = e->status;
    f->last_complete = e->complete;
    snprintf(f->last_key, sizeof f->last_key, "%s", e->key ? e->key : "");
    snprintf(f->last_model, sizeof f->last_model, "%s", e->facts->model);
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}
static inline void on_log(void *ctx, const char *line) {
    feed *f = ctx;
    pthread_mutex_lock(&f->lock);
    srn_buf_addf(&f->log, "%s\n", line);
    pthread_mutex_unlock(&f->lock);
}

typedef struct site {
    srn_config config;
    srn__http_opts opts;
    srn__http *http;
    uint16_t port;
    feed feed;
    char keys[64]; /* path of the key file, or "" */
} site;

static inline void site_init(site *s) {
    *s = (site){0};
    srn_config_init(&s->config);
    s->config.listen = "127.0.0.1:0";
    feed_init(&s->feed);
    s->opts = (srn__http_opts){.config = &s->config,
                               .routes = routes,
                               .n_routes = SRN_LEN(routes),
                               .server = (srn_server *)(void *)&s->feed,
                               .log = on_log,
                               .log_ctx = &s->feed,
                               .on_end = on_end,
                               .end_ctx = &s->feed};
}

static inline void site_start(site *s) {
    srn_err err = {0};
    if (srn__http_new(&s->opts, &s->http, &err)) fail_msg("%s", err.text);
    srn__http_ready(s->http);
    const char *colon = strrchr(srn__http_address(s->http), ':');
    s->port = (uint16_t)strtoul(colon + 1, NULL, 10);
}

/* The same configuration with its files as they are now. */
static inline int site_reload(site *s, srn_err *err) {
    srn__settings *settings = NULL;
    srn__cert *cert = NULL;
    int code = srn__settings_new(&s->config, NULL, &settings, err);
    if (!code && s->config.tls_cert) code = srn__cert_load(s->config.tls_cert, s->config.tls_key, &cert, err);
    if (code)
        srn__settings_put(settings);
    else
        srn__http_adopt(s->http, settings, cert);
    return code;
}

static inline void site_stop(site *s) {
    srn__http_free(s->http);
    feed_done(&s->feed);
    srn_config_done(&s->config);
    if (s->keys[0]) unlink(s->keys);
}

static inline void write_keys(site *s, const char *text) {
    if (!s->keys[0]) {
        snprintf(s->keys, sizeof s->keys, "/tmp/serin-test-keys-XXXXXX");
        int fd = mkstemp(s->keys);
        assert_true(fd >= 0);
        close(fd);
    }
    FILE *f = fopen(s->keys, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    s->config.keys_file = s->keys;
}

/* Sends a whole request on a connection of its own and reads the reply. */
static inline heard ask(const site *s, const char *request) {
    int fd = dial(s->port);
    assert_true(fd >= 0);
    say(fd, request);
    heard r = hear(fd, strncmp(request, "HEAD", 4) == 0);
    close(fd);
    return r;
}

static inline heard post(const site *s, const char *path, const char *more, const char *body) {
    srn_buf b;
    srn_buf_init(&b, 1 << 20);
    srn_buf_addf(&b, "POST %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n%s", path, more,
                 strlen(body), body);
    heard r = ask(s, b.data);
    srn_buf_done(&b);
    return r;
}

static inline void check(heard r, int status, const char *in_body) {
    if (r.status != status || (in_body && !strstr(r.body.data ? r.body.data : "", in_body)))
        print_error("status %d, body: %s\n", r.status, r.body.data);
    assert_int_equal(r.status, status);
    assert_true(r.ended);
    if (in_body) assert_non_null(strstr(r.body.data ? r.body.data : "", in_body));
    heard_done(&r);
}

static inline int open_stream(site *s, const char *path) {
    int fd = dial(s->port);
    srn_buf b;
    srn_buf_init(&b, 4096);
    srn_buf_addf(&b, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", path);
    assert_true(say(fd, b.data));
    srn_buf_done(&b);
    wait_for(&s->feed, &s->feed.started, 1);
    return fd;
}

#endif
