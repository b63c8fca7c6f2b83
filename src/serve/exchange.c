/* serve: the exchange between libmicrohttpd and a call, on the listener thread. Headers -> checks (size,
 * host, route, readiness, origin, key, announced length) -> body under its cap -> a worker, with the
 * connection suspended -> the reply. What fails early is answered once the body is read and dropped, so that
 * the client can keep its connection; a body that is announced as too large, or that the client holds back
 * until it is asked for, is not read at all.
 */
#include <stdlib.h>
#include <strings.h>

#include "serve/http_internal.h"
#include "serve/upstream.h"

enum {
    MAX_PAIRS = 256,
    STREAM_BLOCK = 16 << 10,
    DROP_BYTES = 64 << 20 /* of a body beyond its cap that are read to answer in order */
};

/* ---- copying the request: workers must not look into a connection that may close ---- */

typedef struct collect {
    srn__call *c;
    srn__pair *pairs;
    uint32_t n;
    bool failed;
} collect;

static enum MHD_Result collect_pair(void *cls, enum MHD_ValueKind kind, const char *name, const char *value) {
    (void)kind;
    collect *x = cls;
    if (x->n == MAX_PAIRS) return MHD_YES;
    if (!value) value = "";
    srn__pair p = {srn_arena_strndup(&x->c->arena, name, strlen(name)),
                   srn_arena_strndup(&x->c->arena, value, strlen(value))};
    if (!p.name || !p.value) return x->failed = true, MHD_NO;
    x->pairs[x->n++] = p;
    return MHD_YES;
}

static bool collect_pairs(srn__call *c, enum MHD_ValueKind kind, srn__pair **ret, uint32_t *ret_n) {
    int n = MHD_get_connection_values(c->mhd, kind, NULL, NULL);
    collect x = {.c = c};
    size_t room = n > 0 ? SRN_MIN((size_t)n, (size_t)MAX_PAIRS) : 0;
    x.pairs = srn_arena_alloc(&c->arena, room * sizeof *x.pairs);
    if (!x.pairs) return false;
    MHD_get_connection_values(c->mhd, kind, collect_pair, &x);
    *ret = x.pairs;
    *ret_n = x.n;
    return !x.failed;
}

/* ---- routes ---- */

/* Whether a row's path is this one; *ret_id is the part that stood for "{id}". */
static bool path_matches(const char *pattern, const char *path, const char **ret_id) {
    const char *hole = strstr(pattern, "{id}");
    size_t n = strlen(pattern);
    *ret_id = NULL;
    if (hole && hole[4]) { /* one part of the path, and more behind it */
        size_t before = (size_t)(hole - pattern), after = n - before - 4, len = strlen(path);
        if (len <= before + after || strncmp(pattern, path, before) != 0) return false;
        if (strcmp(path + len - after, hole + 4) != 0) return false;
        *ret_id = path + before;
        return memchr(path + before, '/', len - before - after) == NULL;
    }
    if (n < 4 || strcmp(pattern + n - 4, "{id}") != 0) return strcmp(pattern, path) == 0;
    if (strncmp(pattern, path, n - 4) != 0 || !path[n - 4]) return false;
    *ret_id = path + n - 4;
    return true;
}

/* Finds the row; where only the method is wrong, c->allow lists the right ones. Exact paths come before those
 * with an id. */
static void find_route(srn__call *c) {
    const srn__http_opts *o = &c->http->o;
    const char *method = strcmp(c->method, "HEAD") == 0 ? "GET" : c->method, *id, *best_id = NULL;
    const srn__route *best = NULL;
    srn_buf allow;
    srn_buf_init(&allow, 256);
    for (size_t i = 0; i < o->n_routes; i++) {
        const srn__route *r = &o->routes[i];
        if (!path_matches(r->path, c->path, &id)) continue;
        c->dialect = r->dialect;
        if (!strstr(allow.data ? allow.data : "", r->method))
            srn_buf_addf(&allow, "%s%s%s", allow.len ? ", " : "", r->method,
                         strcmp(r->method, "GET") == 0 ? ", HEAD" : "");
        if (strcmp(r->method, method) == 0 && (!best || (best_id && !id))) best = r, best_id = id;
    }
    if (allow.len) {
        srn_buf_addz(&allow, ", OPTIONS");
        c->allow = srn_arena_strndup(&c->arena, allow.data, allow.len);
    }
    srn_buf_done(&allow);
    c->route = best;
    c->path_id = best_id;
    if (best_id && strstr(best->path, "{id}/"))
        c->path_id = srn_arena_strndup(&c->arena, best_id, strcspn(best_id, "/"));
    if (best) c->dialect = best->dialect;
}

/* ---- checks of the headers; each replies and returns false when it refuses ---- */

static bool check_size(srn__call *c) {
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    uint64_t most = c->settings->config->limits.header_bytes;
    if (!i || i->header_size <= most) return true;
    c->close_after = true;
    srn__call_fail(c, 431, NULL, NULL, "headers_too_large",
                   "the headers have %zu bytes; at most %llu are read", i->header_size,
                   (unsigned long long)most);
    return false;
}

static bool check_host(srn__call *c) {
    const char *host = srn__call_header(c, "Host");
    if (srn__access_host(c->settings->config, &c->http->address, host)) return true;
    srn__call_fail(
        c, 403, NULL, NULL, "host_not_allowed",
        "this server does not answer to the Host '%.200s'; add it with --host, or under 'hosts' in "
        "serin.yaml",
        host);
    return false;
}

/* OPTIONS needs no key: browsers send none before they ask. */
static bool answer_options(srn__call *c) {
    const char *origin = srn__call_header(c, "Origin");
    if (strcmp(c->method, "OPTIONS") != 0) return false;
    if (origin && srn__call_header(c, "Access-Control-Request-Method")) {
        const char *wanted = srn__call_header(c, "Access-Control-Request-Headers");
        if (!c->origin) {
            srn__call_fail(
                c, 403, NULL, NULL, "origin_not_allowed",
                "pages of '%.200s' may not use this server; add it with --cors, or under 'cors' in "
                "serin.yaml",
                origin);
            return true;
        }
        srn__call_set_header(c, "Access-Control-Allow-Methods", c->allow ? c->allow : "GET, POST");
        if (wanted) srn__call_set_header(c, "Access-Control-Allow-Headers", wanted);
        srn__call_set_header(c, "Access-Control-Max-Age", "600");
    }
    srn__call_reply_text(c, 204, NULL, SRN_STR(""));
    return true;
}

static bool check_route(srn__call *c) {
    find_route(c);
    c->origin = srn__access_origin(c->settings->config, srn__call_header(c, "Origin"));
    if (!c->allow) {
        if (strncmp(c->path, "/v1/messages", 12) == 0) c->dialect = SRN__ANTHROPIC;
        const char *hint = srn__path_hint(c->path);
        srn__call_fail(c, 404, NULL, NULL, "unknown_url", "there is no %s %.200s here%s%s", c->method,
                       c->path, hint ? "; " : "", hint ? hint : "");
        return false;
    }
    if (answer_options(c)) return false;
    if (c->route) return true;
    srn__call_fail(c, 405, NULL, NULL, "method_not_allowed", "%.200s does not take %.20s, but %s", c->path,
                   c->method, c->allow);
    return false;
}

static bool check_ready(srn__call *c) {
    const char *why = srn__http_unready(c->http);
    if (!why || (c->route->flags & SRN__ROUTE_OPEN)) return true;
    bool stays = atomic_load(&c->http->mode) == SRN__MODE_RUN; /* drained by an operator */
    if (stays && !(c->route->flags & SRN__ROUTE_MODEL)) return true;
    if (!stays && strcmp(why, "draining") == 0) c->close_after = true;
    srn__call_fail(c, 503, NULL, NULL, why, "the server is %s",
                   stays            ? "draining: it takes no new work now"
                   : c->close_after ? "shutting down"
                                    : "loading its models");
    return false;
}

static bool check_key(srn__call *c) {
    srn__http *h = c->http;
    unsigned flags = c->route->flags;
    srn_str secret = srn__access_secret(c);
    if (secret.ptr && srn__local_is(h->o.local_token, secret)) {
        c->key = &h->local_key;
        return true;
    }
    if (!c->settings->keys) {
        const char *origin = srn__call_header(c, "Origin");
        if (flags & SRN__ROUTE_ADMIN) {
            srn__call_fail(c, 403, NULL, NULL, "admin_key_needed",
                           "%.200s needs an admin key; start the server with --keys FILE", c->path);
            return false;
        }
        if (!origin || c->origin || (flags & SRN__ROUTE_OPEN)) return true;
        /* Without keys any page could make a browser ask, though not read the answer. */
        if (srn__access_same_origin(origin, srn__call_header(c, "Host"))) return true;
        srn__call_fail(c, 403, NULL, NULL, "origin_not_allowed",
                       "pages of '%.200s' may not use this server; add it with --cors, or under 'cors' in "
                       "serin.yaml",
                       origin);
        return false;
    }
    if ((flags & SRN__ROUTE_OPEN) || ((flags & SRN__ROUTE_METRICS) && c->settings->config->metrics_open))
        return true;
    const srn_key *key = secret.ptr ? srn_keys_find(c->settings->keys, secret) : NULL;
    if (!key) {
        srn__call_set_header(c, "WWW-Authenticate", "Bearer");
        srn__call_fail(c, 401, NULL, NULL, secret.ptr ? "invalid_api_key" : "missing_api_key",
                       secret.ptr ? "the API key is not known here"
                                  : "an API key is needed: Authorization: Bearer KEY, or x-api-key: KEY");
        return false;
    }
    if ((flags & SRN__ROUTE_ADMIN) && !key->admin) {
        srn__call_fail(c, 403, NULL, NULL, "admin_key_needed", "%.200s needs a key marked admin", c->path);
        return false;
    }
    c->key = key;
    return true;
}

static void fail_too_large(srn__call *c) {
    srn__call_fail(c, 413, NULL, NULL, "body_too_large",
                   "the body has more than %llu bytes, which is the limit",
                   (unsigned long long)c->settings->config->limits.body_bytes);
}

/* ---- the reply ---- */

static bool pull(srn__call *c) {
    c->pull_due = false;
    int status = 200;
    int end = c->ops->pull(c->source, &c->out, &status);
    if (end) {
        c->source_done = true;
        c->broken = end == 2;
        if (!c->streamed) c->status = status;
    }
    return c->source_done || c->out.len > c->out_at || c->out.failed;
}

/* The next bytes of a stream; suspends the connection when there are none now. */
static ssize_t read_stream(void *cls, uint64_t at, char *to, size_t most) {
    (void)at;
    srn__call *c = cls;
    if (c->gone || atomic_load(&c->http->mode) == SRN__MODE_KILL) return MHD_CONTENT_READER_END_WITH_ERROR;
    if (c->out_at == c->out.len && !c->out.failed) {
        srn_buf_clear(&c->out);
        c->out_at = 0;
        if (!c->source_done && c->pull_due) pull(c);
    }
    if (c->out.failed) return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t n = SRN_MIN(c->out.len - c->out_at, most);
    if (n) {
        memcpy(to, c->out.data + c->out_at, n);
        c->out_at += n;
        return (ssize_t)n;
    }
    if (c->source_done)
        return c->broken ? MHD_CONTENT_READER_END_WITH_ERROR : MHD_CONTENT_READER_END_OF_STREAM;
    c->suspended = true;
    MHD_suspend_connection(c->mhd);
    return 0;
}

static void add_headers(srn__call *c, struct MHD_Response *r) {
    MHD_add_response_header(r, "x-serin-call", c->id);
    /* The name under which the official clients look for it. */
    MHD_add_response_header(r, c->dialect == SRN__ANTHROPIC ? "request-id" : "x-request-id", c->id);
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (c->content_type) MHD_add_response_header(r, "Content-Type", c->content_type);
    if (c->streamed) {
        MHD_add_response_header(r, "Cache-Control", "no-cache");
        MHD_add_response_header(r, "X-Accel-Buffering", "no");
    }
    if (c->allow && (c->status == 405 || c->status == 204)) MHD_add_response_header(r, "Allow", c->allow);
    if (c->origin) {
        MHD_add_response_header(r, "Access-Control-Allow-Origin", c->origin);
        MHD_add_response_header(r, "Access-Control-Expose-Headers",
                                "x-serin-call, x-serin-model, x-request-id, request-id, Retry-After");
        MHD_add_response_header(r, "Vary", "Origin");
    }
    for (uint32_t i = 0; i < c->n_reply_headers; i++)
        MHD_add_response_header(r, c->reply_headers[i].name, c->reply_headers[i].value);
    if ((c->status == 429 || c->status == 503) && !MHD_get_response_header(r, "Retry-After"))
        MHD_add_response_header(r, "Retry-After", "1");
    if (c->close_after || atomic_load(&c->http->mode) >= SRN__MODE_DRAIN)
        MHD_add_response_header(r, "Connection", "close");
}

/* A source that is not streamed has ended: its text becomes the reply's. */
static void take_out(srn__call *c) {
    if (!c->ops || c->streamed) return;
    c->text = c->out.data;
    c->text_len = c->out.len;
    bool failed = c->out.failed;
    srn_buf_init(&c->out, c->out.max);
    if (!failed) return;
    static const char sentence[] = "{\"error\":{\"message\":\"the answer is too large for this server\","
                                   "\"type\":\"server_error\",\"param\":null,\"code\":\"answer_too_large\"}}";
    free(c->text);
    c->text = srn_strndup(sentence, sizeof sentence - 1);
    c->text_len = c->text ? sizeof sentence - 1 : 0;
    c->status = 500;
    c->content_type = "application/json";
}

static enum MHD_Result send_reply(srn__call *c) {
    struct MHD_Response *r;
    c->stage = SRN__STAGE_REPLY;
    srn__call_fix(c);
    take_out(c);
    if (c->streamed) {
        r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, c, NULL);
    } else {
        r = MHD_create_response_from_buffer(c->text_len, c->text, MHD_RESPMEM_MUST_FREE);
        if (r) c->text = NULL;
    }
    if (!r) return MHD_NO;
    add_headers(c, r);
    enum MHD_Result ok = MHD_queue_response(c->mhd, (unsigned)c->status, r);
    MHD_destroy_response(r);
    return ok;
}

/* ---- the steps of a request ---- */

static uint64_t announced(const srn__call *c) {
    const char *v = srn__call_header(c, "Content-Length");
    return v ? strtoull(v, NULL, 10) : 0; /* libmicrohttpd refused what is no number */
}

/* Of a connection that came under another configuration. */
static void set_idle(srn__call *c, srn__conn *conn) {
    uint32_t idle_s = srn__listener_idle_s(c->settings->config);
    if (idle_s == conn->idle_s) return;
    MHD_set_connection_option(c->mhd, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)idle_s);
    conn->idle_s = idle_s;
}

static enum MHD_Result begin(srn__http *h, struct MHD_Connection *con, const char *url, const char *method,
                             void **ret) {
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(con, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    srn__conn *conn = i ? i->socket_context : NULL;
    srn__call *c = conn ? srn__call_new(h, h->settings) : NULL;
    if (!c) return MHD_NO;
    c->mhd = con;
    c->client = conn->client;
    c->method = srn_arena_strndup(&c->arena, method, strlen(method));
    c->path = srn_arena_strndup(&c->arena, url, strlen(url));
    bool copied = c->method && c->path && collect_pairs(c, MHD_HEADER_KIND, &c->headers, &c->n_headers) &&
                  collect_pairs(c, MHD_GET_ARGUMENT_KIND, &c->query, &c->n_query);
    if (!copied) {
        srn__call_drop(c);
        return MHD_NO;
    }
    c->conn = conn;
    conn->call = c;
    *ret = c;
    set_idle(c, conn);
    pthread_mutex_lock(&h->lock);
    h->n_calls++;
    pthread_mutex_unlock(&h->lock);
    srn__listener_arm(h, conn, c->begun_us + c->settings->config->limits.body_timeout_ms * UINT64_C(1000));
    bool good = check_size(c) && check_host(c) && check_route(c) && check_ready(c) && check_key(c);
    if (announced(c) > c->settings->config->limits.body_bytes) {
        if (good) fail_too_large(c);
        conn->linger = c->close_after = true;
        return send_reply(c);
    }
    /* Who waits to be asked for the body gets the refusal in its place. */
    if (!good && srn__call_header(c, "Expect")) {
        c->close_after = true;
        return send_reply(c);
    }
    return MHD_YES;
}

static enum MHD_Result take_body(srn__call *c, const char *data, size_t n) {
    uint64_t most = c->settings->config->limits.body_bytes;
    c->body_bytes += n;
    if (c->body_bytes > most + DROP_BYTES) return MHD_NO;
    if (c->replied) return MHD_YES;
    if (c->body_bytes <= most && srn_buf_add(&c->body, data, n)) return MHD_YES;
    srn_buf_done(&c->body);
    c->close_after = true;
    if (c->body_bytes > most)
        fail_too_large(c);
    else
        srn__call_fail(c, 503, NULL, NULL, "out_of_memory", "no memory for the body now");
    return MHD_YES;
}

/* The core's list of exchanges with work for a model. */
static void list_live(srn__call *c) {
    srn__http *h = c->http;
    if (!(c->route->flags & SRN__ROUTE_MODEL)) return;
    pthread_mutex_lock(&h->lock);
    c->live_prev = h->live_last;
    *(h->live_last ? &h->live_last->live_next : &h->live_first) = c;
    h->live_last = c;
    c->listed = true;
    pthread_mutex_unlock(&h->lock);
}

static void unlist_live(srn__call *c) {
    srn__http *h = c->http;
    if (!c->listed) return;
    pthread_mutex_lock(&h->lock);
    *(c->live_prev ? &c->live_prev->live_next : &h->live_first) = c->live_next;
    *(c->live_next ? &c->live_next->live_prev : &h->live_last) = c->live_prev;
    c->listed = false;
    pthread_mutex_unlock(&h->lock);
}

static enum MHD_Result body_complete(srn__call *c) {
    srn__listener_arm(c->http, c->conn, 0);
    if (c->replied) return send_reply(c);
    if (c->route->flags & SRN__ROUTE_INLINE) {
        c->route->handle(c);
        return send_reply(c);
    }
    if (c->conn->gone || atomic_load(&c->http->mode) == SRN__MODE_KILL) return MHD_NO;
    list_live(c);
    if (!srn__workers_push(c->http->workers, c, false)) {
        srn__call_fail(c, 503, NULL, NULL, "overloaded", "too many requests wait already");
        return send_reply(c);
    }
    c->stage = SRN__STAGE_WAIT;
    c->suspended = true;
    MHD_suspend_connection(c->mhd);
    return MHD_YES;
}

/* Of a source: its whole reply, or of a stream the first bytes. Until then nothing is sent, not its headers
 * either, so that the handler can run again. */
static bool has_reply(const srn__call *c) {
    return c->source_done || c->out.failed || (c->streamed && c->out.len > c->out_at);
}

/* The connection goes on after it was suspended to wait for the handler. */
static enum MHD_Result resumed(srn__call *c) {
    if (c->gone || atomic_load(&c->http->mode) == SRN__MODE_KILL) return MHD_NO;
    bool due = !srn__call_restart(c) && srn__call_due(c);
    if (due && (!c->ops || has_reply(c))) return send_reply(c);
    c->suspended = true;
    MHD_suspend_connection(c->mhd);
    return MHD_YES;
}

enum MHD_Result srn__exchange_request(void *cls, struct MHD_Connection *con, const char *url,
                                      const char *method, const char *version, const char *upload,
                                      size_t *upload_size, void **call) {
    (void)version;
    srn__call *c = *call;
    if (!c) return begin(cls, con, url, method, call);
    if (*upload_size) {
        size_t n = *upload_size;
        *upload_size = 0;
        return take_body(c, upload, n);
    }
    return c->stage == SRN__STAGE_BODY ? body_complete(c) : resumed(c);
}

void srn__exchange_ready(srn__call *c) {
    if (c->copy) return srn__copy_ready(c);
    if (!c->conn || !c->suspended) {
        c->pull_due = true; /* read_stream sees to it when the bytes before are sent */
        return;
    }
    if (srn__call_restart(c) || !srn__call_due(c)) return;
    bool some = !c->ops || c->gone || pull(c);
    if (srn__call_restart(c) || !some) return;
    if (c->stage == SRN__STAGE_WAIT && c->ops && !c->gone && !has_reply(c)) return;
    c->suspended = false;
    MHD_resume_connection(c->mhd);
}

void srn__exchange_cancel(srn__call *c, bool drop) {
    pthread_mutex_lock(&c->lock);
    if (drop) c->gone = true;
    if (c->ops && !c->source_done) c->ops->cancel(c->source);
    srn__relay_cancel(c->relay);
    pthread_mutex_unlock(&c->lock);
    if (!drop || !c->suspended) return;
    c->suspended = false;
    MHD_resume_connection(c->mhd);
}

void srn__exchange_completed(void *cls, struct MHD_Connection *con, void **call,
                             enum MHD_RequestTerminationCode toe) {
    (void)con;
    srn__http *h = cls;
    srn__call *c = *call;
    if (!c) return;
    *call = NULL;
    srn__conn *conn = c->conn;
    unlist_live(c);
    srn__call_finish(c);
    static const srn__call_facts unknown; /* a handler that has not replied may still be writing them */
    bool sent = c->stage == SRN__STAGE_REPLY, known = srn__call_replied(c);
    c->ended_us = srn_now_us();
    c->complete = sent && toe == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    srn__call_end e = {.id = c->id,
                       .method = c->method,
                       .path = c->path,
                       .client = c->client,
                       .key = c->key ? c->key->name : NULL,
                       .route = c->route,
                       .status = sent ? c->status : 0,
                       .complete = c->complete,
                       .total_us = c->ended_us - c->begun_us,
                       .facts = known ? &c->facts : &unknown};
    srn__log_call(h, &e);
    if (h->o.on_end) h->o.on_end(h->o.end_ctx, &e);
    c->conn = NULL;
    c->mhd = NULL;
    conn->call = NULL;
    conn->in_request = false;
    uint64_t idle = h->settings->config->limits.idle_timeout_ms * UINT64_C(1000);
    srn__listener_arm(h, conn, idle ? srn_now_us() + idle : 0);
    srn__call_drop(c);
    pthread_mutex_lock(&h->lock);
    if (--h->n_calls == 0) pthread_cond_broadcast(&h->idle);
    pthread_mutex_unlock(&h->lock);
}
