/* Answers that come piece by piece, over libcurl's multi interface: one thread moves the bytes of all of
 * them. Callers begin, read and cancel from any thread; what they share with the streams' thread is guarded
 * by the lock of the streams. A stream whose reader is behind is paused: then the other end waits, and its
 * silence counts for nothing. The owner and the streams' thread each hold a stream; the last one frees it.
 * Refuses redirects, which are answers as any other, and what srn__curl_address does.
 */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <strings.h>

#include "client/client_internal.h"

enum { CONNECT_MS = 10000, MAX_HEAD = 65536, MAX_MARKS = 8192, WAIT_MS = 1000 };

typedef enum phase { WAITS, RUNS, ENDED } phase;

struct srn_stream {
    atomic_uint refs; /* the owner, the streams' thread */
    srn_streams *of;
    struct srn_stream *next; /* of those that have not ended; the thread's own */
    CURL *curl;
    struct curl_slist *headers;
    char *base, *body, *ca;
    size_t max_unread;
    uint64_t timeout_us;
    uint32_t connections;
    void (*notify)(void *ctx, srn_stream *t);
    void *ctx;
    char why[CURL_ERROR_SIZE];

    /* the thread's own */
    phase phase;
    uint64_t due_us, end_us; /* when silence has lasted too long; when all has, 0: never */

    /* under the lock */
    srn_stream_status is;
    srn_buf unread, head; /* bytes; lines of the answer's head */
    srn_stream_mark *marks;
    size_t n_marks, cap_marks;
    bool paused, resume, cancelled, tells; /* tells: there is news for notify */
};

struct srn_streams {
    CURLM *multi;
    pthread_t thread;
    bool started;
    srn_stream *list; /* the thread's own: oldest first */
    pthread_mutex_t lock;
    srn_stream *fresh, **fresh_end; /* begun since; guarded like what follows */
    bool ending, woken;
};

/* ---- life ---- */

static void stream_put(srn_stream *t) {
    if (atomic_fetch_sub(&t->refs, 1) != 1) return;
    curl_easy_cleanup(t->curl);
    curl_slist_free_all(t->headers);
    srn_buf_done(&t->unread);
    srn_buf_done(&t->head);
    free(t->marks);
    free(t->base);
    free(t->body);
    free(t->ca);
    free(t);
}

/* The lock is held. */
static void wake(srn_streams *s) {
    if (s->woken) return;
    s->woken = true;
    curl_multi_wakeup(s->multi);
}

/* ---- what libcurl calls, on the streams' thread ---- */

static void note(srn_stream *t, size_t n) {
    uint64_t now = srn_now_us();
    t->due_us = now + t->timeout_us;
    if (t->n_marks == t->cap_marks && t->cap_marks < MAX_MARKS) {
        size_t cap = t->cap_marks ? 2 * t->cap_marks : 64;
        srn_stream_mark *grown = srn_realloc_array(t->marks, cap, sizeof *grown);
        if (grown) t->marks = grown, t->cap_marks = cap;
    }
    if (t->n_marks == t->cap_marks) {
        if (t->n_marks) t->marks[t->n_marks - 1].end += n;
        return;
    }
    t->marks[t->n_marks++] = (srn_stream_mark){t->unread.len, now};
}

static size_t on_body(char *p, size_t one, size_t n, void *ctx) {
    srn_stream *t = ctx;
    size_t bytes = one * n, took = bytes;
    pthread_mutex_lock(&t->of->lock);
    if (t->cancelled) {
        took = 0;
    } else if (t->unread.len && t->unread.len + bytes > t->max_unread) {
        t->paused = true;
        took = CURL_WRITEFUNC_PAUSE;
    } else if (srn_buf_add(&t->unread, p, bytes)) {
        note(t, bytes);
        t->is.unread = t->tells = true;
    } else {
        took = 0;
    }
    pthread_mutex_unlock(&t->of->lock);
    return took == 0 && bytes ? CURL_WRITEFUNC_ERROR : took;
}

/* A line of a head; that of an interim answer (100) is followed by another one. */
static size_t on_head(char *p, size_t one, size_t n, void *ctx) {
    srn_stream *t = ctx;
    size_t bytes = one * n;
    long status = 0;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    pthread_mutex_lock(&t->of->lock);
    if (bytes > 5 && strncasecmp(p, "HTTP/", 5) == 0) srn_buf_clear(&t->head);
    bool fits = srn_buf_add(&t->head, p, bytes);
    bool end = bytes <= 2 && status >= 200;
    if (end) {
        curl_off_t after = 0;
        curl_easy_getinfo(t->curl, CURLINFO_RETRY_AFTER, &after);
        t->is.retry_after_s = (uint32_t)SRN_MIN(after, (curl_off_t)86400);
        t->is.status = (int)status;
        t->tells = true;
    }
    t->due_us = srn_now_us() + t->timeout_us;
    pthread_mutex_unlock(&t->of->lock);
    return fits ? bytes : 0;
}

/* ---- beginning ---- */

bool srn_url_is_local(const char *base) {
    if (strncmp(base, "unix:", 5) == 0) return true;
    CURLU *u = curl_url();
    char *host = NULL;
    uint8_t four[4], six[16];
    bool local = false;
    if (u && !curl_url_set(u, CURLUPART_URL, base, 0) && !curl_url_get(u, CURLUPART_HOST, &host, 0)) {
        static const uint8_t loopback[16] = {[15] = 1};
        size_t n = strlen(host);
        bool bracketed = n > 2 && host[0] == '[' && host[n - 1] == ']';
        if (bracketed) host[n - 1] = 0;
        local = strcasecmp(host, "localhost") == 0 ||
                (inet_pton(AF_INET, host, four) == 1 && four[0] == 127) ||
                (bracketed && inet_pton(AF_INET6, host + 1, six) == 1 && memcmp(six, loopback, 16) == 0);
    }
    curl_free(host);
    curl_url_cleanup(u);
    return local;
}

static void set_up(srn_stream *t, const srn_stream_to *to) {
    CURL *c = t->curl;
    t->headers = srn__curl_headers(
        &(srn__curl_head){"Accept: */*", to->bearer, to->body.ptr, to->headers, to->n_headers});
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(c, CURLOPT_PRIVATE, t);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->why);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)SRN_MIN(to->timeout_ms, (uint32_t)CONNECT_MS));
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* a resolver that hangs is not waited for */
#endif
    if (srn_url_is_local(to->base)) curl_easy_setopt(c, CURLOPT_PROXY, "");
    if (t->ca) curl_easy_setopt(c, CURLOPT_CAINFO, t->ca);
    if (!t->body) return;
    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)to->body.len);
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, t->body);
}

static srn_stream *stream_new(srn_streams *s, const srn_stream_to *to) {
    srn_stream *t = srn_calloc(1, sizeof *t);
    if (!t) return NULL;
    atomic_init(&t->refs, 1);
    t->of = s;
    t->max_unread = to->max_unread;
    t->timeout_us = to->timeout_ms * UINT64_C(1000);
    t->end_us = to->limit_ms ? srn_now_us() + to->limit_ms * UINT64_C(1000) : 0;
    t->connections = to->connections;
    t->notify = to->notify;
    t->ctx = to->ctx;
    srn_buf_init(&t->unread, to->max_unread + CURL_MAX_WRITE_SIZE);
    srn_buf_init(&t->head, MAX_HEAD);
    t->curl = curl_easy_init();
    t->base = srn_strndup(to->base, strlen(to->base));
    t->body = to->body.ptr ? srn_strndup(to->body.ptr, to->body.len) : NULL;
    t->ca = to->ca_file ? srn_strndup(to->ca_file, strlen(to->ca_file)) : NULL;
    bool whole = t->curl && t->base && !t->body == !to->body.ptr && !t->ca == !to->ca_file;
    if (whole) return t;
    stream_put(t);
    return NULL;
}

int srn_stream_begin(srn_streams *s, const srn_stream_to *to, srn_stream **ret, srn_err *err) {
    srn_stream *t = stream_new(s, to);
    if (!t) return srn_fail_nomem(err, sizeof *t + to->body.len);
    int code = srn__curl_address(t->curl, to->base, to->path, err);
    if (code) {
        stream_put(t);
        return code;
    }
    set_up(t, to);
    t->due_us = srn_now_us() + t->timeout_us;
    atomic_fetch_add(&t->refs, 1);
    pthread_mutex_lock(&s->lock);
    bool takes = !s->ending;
    if (takes) {
        *s->fresh_end = t;
        s->fresh_end = &t->next;
        wake(s);
    }
    pthread_mutex_unlock(&s->lock);
    if (!takes) {
        stream_put(t);
        stream_put(t);
        return srn_fail(err, SRN_ECANCELLED, "the server is shutting down");
    }
    *ret = t;
    return SRN_OK;
}

/* ---- what callers see ---- */

void srn_stream_get(srn_stream *t, srn_stream_status *ret) {
    pthread_mutex_lock(&t->of->lock);
    *ret = t->is;
    pthread_mutex_unlock(&t->of->lock);
}

void srn_stream_read(srn_stream *t, srn_buf *to, srn_buf *marks, srn_stream_status *ret) {
    pthread_mutex_lock(&t->of->lock);
    if (t->unread.len) srn_buf_add(to, t->unread.data, t->unread.len);
    if (marks) srn_buf_add(marks, t->marks, t->n_marks * sizeof *t->marks);
    srn_buf_clear(&t->unread);
    t->n_marks = 0;
    t->is.unread = false;
    *ret = t->is;
    if (t->paused && !t->is.done) {
        t->resume = true;
        wake(t->of);
    }
    pthread_mutex_unlock(&t->of->lock);
}

bool srn_stream_header(srn_stream *t, const char *name, char *ret, size_t cap) {
    size_t n = strlen(name);
    bool found = false;
    pthread_mutex_lock(&t->of->lock);
    for (const char *p = t->head.data, *end; p && *p && !found; p = end ? end + 1 : NULL) {
        end = strchr(p, '\n');
        size_t len = end ? (size_t)(end - p) : strlen(p);
        if (len <= n || p[n] != ':' || strncasecmp(p, name, n) != 0) continue;
        const char *v = p + n + 1, *last = p + len;
        while (v < last && (*v == ' ' || *v == '\t')) v++;
        while (last > v && strchr(" \t\r", last[-1])) last--;
        found = (size_t)(last - v) < cap;
        if (found) snprintf(ret, cap, "%.*s", (int)(last - v), v);
    }
    pthread_mutex_unlock(&t->of->lock);
    return found;
}

void srn_stream_cancel(srn_stream *t) {
    pthread_mutex_lock(&t->of->lock);
    if (!t->is.done && !t->cancelled) {
        t->cancelled = true;
        wake(t->of);
    }
    pthread_mutex_unlock(&t->of->lock);
}

void srn_stream_release(srn_stream *t) {
    if (!t) return;
    srn_stream_cancel(t);
    stream_put(t);
}

/* ---- the thread ---- */

static void tell(srn_stream *t) {
    pthread_mutex_lock(&t->of->lock);
    bool tells = t->tells;
    t->tells = false;
    pthread_mutex_unlock(&t->of->lock);
    if (tells && t->notify) t->notify(t->ctx, t);
}

static bool is_tls(CURLcode c) {
    return c == CURLE_PEER_FAILED_VERIFICATION || c == CURLE_SSL_CONNECT_ERROR ||
           c == CURLE_SSL_CACERT_BADFILE || c == CURLE_SSL_CERTPROBLEM || c == CURLE_SSL_ISSUER_ERROR;
}

/* code SRN_OK: as libcurl says. */
static void end_stream(srn_stream *t, CURLcode got, int code, const char *why) {
    srn_streams *s = t->of;
    if (t->phase == RUNS) curl_multi_remove_handle(s->multi, t->curl);
    t->phase = ENDED;
    if (!code && got) {
        code = got == CURLE_OPERATION_TIMEDOUT ? SRN_ETIMEOUT
               : got == CURLE_OUT_OF_MEMORY    ? SRN_ENOMEM
                                               : SRN_EIO;
        why = t->why[0] ? t->why : curl_easy_strerror(got);
    }
    pthread_mutex_lock(&s->lock);
    if (t->cancelled && code) code = SRN_ECANCELLED, why = "cancelled";
    if (code) srn_fail(&t->is.err, code, "%s", why);
    t->is.tls = is_tls(got);
    t->is.done = true;
    t->tells = true;
    pthread_mutex_unlock(&s->lock);
    tell(t);
}

static bool same_place(const srn_stream *a, const srn_stream *b) {
    return strcmp(a->base, b->base) == 0;
}

/* What waits for a connection gets one, in order. */
static void start_some(srn_streams *s) {
    for (srn_stream *t = s->list; t; t = t->next) {
        uint32_t n = 0;
        if (t->phase != WAITS) continue;
        for (const srn_stream *o = s->list; o; o = o->next) n += o->phase == RUNS && same_place(o, t);
        if (n >= t->connections) continue;
        if (curl_multi_add_handle(s->multi, t->curl)) {
            end_stream(t, CURLE_OUT_OF_MEMORY, SRN_OK, NULL);
            continue;
        }
        t->phase = RUNS;
        t->due_us = srn_now_us() + t->timeout_us;
    }
}

/* Takes over what callers asked for; true: all shall end. */
static bool take_asked(srn_streams *s) {
    pthread_mutex_lock(&s->lock);
    srn_stream *fresh = s->fresh, **at = &s->list;
    s->fresh = NULL;
    s->fresh_end = &s->fresh;
    s->woken = false;
    bool ending = s->ending;
    pthread_mutex_unlock(&s->lock);
    while (*at) at = &(*at)->next;
    *at = fresh;
    return ending;
}

/* Ends what was cancelled or silent for too long, lets those go on whose readers have caught up. */
static void look_after(srn_stream *t, uint64_t now) {
    srn_streams *s = t->of;
    if (t->phase == ENDED) return;
    pthread_mutex_lock(&s->lock);
    bool cancelled = t->cancelled, resume = t->resume, paused = t->paused;
    if (resume) t->resume = t->paused = false;
    pthread_mutex_unlock(&s->lock);
    if (cancelled) return end_stream(t, CURLE_OK, SRN_ECANCELLED, "cancelled");
    if (t->end_us && now >= t->end_us)
        return end_stream(t, CURLE_OK, SRN_ETIMEOUT, "the call's time is over");
    if (resume) {
        t->due_us = now + t->timeout_us;
        curl_easy_pause(t->curl, CURLPAUSE_CONT);
    } else if (paused) {
        t->due_us = UINT64_MAX; /* until its reader has caught up */
    } else if (now >= t->due_us) {
        char text[96];
        snprintf(text, sizeof text, "silent for %llu ms", (unsigned long long)(t->timeout_us / 1000));
        end_stream(t, CURLE_OK, SRN_ETIMEOUT, text);
    }
}

static void take_ended(srn_streams *s) {
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(s->multi, &left)) != NULL;) {
        srn_stream *t = NULL;
        if (m->msg != CURLMSG_DONE) continue;
        CURLcode got = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        end_stream(t, got, SRN_OK, NULL);
    }
}

static void drop_ended(srn_streams *s) {
    for (srn_stream **at = &s->list; *at;) {
        srn_stream *t = *at;
        if (t->phase != ENDED) {
            at = &t->next;
            continue;
        }
        *at = t->next;
        stream_put(t);
    }
}

static int wait_ms(const srn_streams *s) {
    uint64_t now = srn_now_us(), least = WAIT_MS;
    for (const srn_stream *t = s->list; t; t = t->next) {
        uint64_t due = t->end_us ? SRN_MIN(t->end_us, t->due_us) : t->due_us;
        uint64_t ms = due > now ? (due - now) / 1000 + 1 : 1;
        least = SRN_MIN(least, SRN_MAX(ms, UINT64_C(10)));
    }
    return (int)least;
}

static void *streams_main(void *p) {
    srn_streams *s = p;
    pthread_setname_np(pthread_self(), "serin-streams");
    for (;;) {
        int running;
        bool ending = take_asked(s);
        uint64_t now = srn_now_us();
        for (srn_stream *t = s->list; t; t = t->next) {
            if (ending && t->phase != ENDED)
                end_stream(t, CURLE_OK, SRN_ECANCELLED, "the server is shutting down");
            look_after(t, now);
        }
        if (!ending) start_some(s);
        curl_multi_perform(s->multi, &running);
        take_ended(s);
        for (srn_stream *t = s->list; t; t = t->next)
            if (t->phase != ENDED) tell(t);
        drop_ended(s);
        if (ending && !s->list) return NULL;
        curl_multi_poll(s->multi, NULL, 0, wait_ms(s), NULL);
    }
}

int srn_streams_new(srn_streams **ret, srn_err *err) {
    srn_streams *s = srn_calloc(1, sizeof *s);
    if (!s) return srn_fail_nomem(err, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    s->fresh_end = &s->fresh;
    s->multi = curl_multi_init();
    s->started = s->multi && pthread_create(&s->thread, NULL, streams_main, s) == 0;
    if (!s->started) {
        srn_streams_free(s);
        return srn_fail(err, SRN_ENOMEM, "cannot start the thread of upstreams: the system refuses more");
    }
    *ret = s;
    return SRN_OK;
}

void srn_streams_stop(srn_streams *s) {
    if (!s->started) return;
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    wake(s);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    s->started = false;
}

void srn_streams_free(srn_streams *s) {
    if (!s) return;
    srn_streams_stop(s);
    if (s->multi) curl_multi_cleanup(s->multi);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
