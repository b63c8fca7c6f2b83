/* Telemetry: the sender. One thread takes calls that are over from a bounded queue and sends their spans in
 * batches, and the sums at their interval. A collector that is away, or says that it has too much, is asked
 * again after a pause that grows; meanwhile the queue fills, and what finds no room is dropped and counted,
 * which the log says once a minute. Nobody ever waits for this thread but the stop, and that for a few
 * seconds. Refuses to follow redirects, reads little of answers, and names neither headers nor users of URLs.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <time.h>

#include "client/client.h"
#include "ledger/ledger.h"
#include "serve/otel_internal.h"

enum {
    BATCH = 256, /* calls */
    BATCH_BYTES = 2 << 20,
    MAX_BODY = 16 << 20,
    MAX_ANSWER = 16 << 10,
    MAX_QUEUED_CONTENT = 16 << 20,
    STOP_US = 5000000,
    SAY_US = 60000000,
    LEAST_WAIT_US = 200000,
    FIRST_WAIT_US = 1000000,
    MOST_WAIT_US = 30000000,
    MOST_ASKED_S = 300 /* of a Retry-After */
};

/* ---- the queue ---- */

srn__otel_stats srn__otel_get_stats(srn__otel *o) {
    pthread_mutex_lock(&o->lock);
    srn__otel_stats s = o->stats;
    pthread_mutex_unlock(&o->lock);
    return s;
}

static size_t content_of(const srn__trace *t) {
    return t->input.len + t->output.len;
}

void srn__otel_push(srn__otel *o, srn__trace *t) {
    uint32_t n = srn__trace_spans(t);
    srn__otel_sums_add(o->sums, t);
    pthread_mutex_lock(&o->lock);
    bool wanted = t->sampled && !t->muted;
    bool room = o->stats.queued < o->config.queue && o->content_bytes + content_of(t) <= MAX_QUEUED_CONTENT;
    if (t->sampled && t->muted) o->stats.muted += n;
    if (wanted && !room) o->stats.dropped += n;
    if (wanted && room) {
        t->next = NULL;
        *(o->last ? &o->last->next : &o->first) = t;
        o->last = t;
        o->content_bytes += content_of(t);
        if (o->stats.queued++ == 0) o->first_us = srn_now_us();
        if (o->stats.queued == 1 || o->stats.queued == BATCH) pthread_cond_signal(&o->wake);
        t = NULL;
    }
    pthread_mutex_unlock(&o->lock);
    srn__trace_free(t);
}

/* ---- one request ---- */

typedef struct channel {
    const char *path;
    uint64_t wait_us;    /* the last pause; 0: none */
    uint64_t not_before; /* srn_now_us() */
} channel;

typedef struct sender {
    srn__otel *o;
    srn_http_session *session;
    channel traces, metrics;
    srn__trace *batch; /* taken, formatted as body, not yet sent */
    uint32_t n_spans;
    srn_buf body;
    uint64_t next_metrics_us, said_us, said_dropped;
    srn_err why; /* of the last failure; text "": none since it was said */
} sender;

typedef enum outcome { TAKEN, LATER, NEVER } outcome;

static bool past_stop(void *ctx) {
    srn__otel *o = ctx;
    pthread_mutex_lock(&o->lock);
    bool past = o->stopping && srn_now_us() >= o->stop_us;
    pthread_mutex_unlock(&o->lock);
    return past;
}

static void free_list(srn__trace *t) {
    for (srn__trace *next; t; t = next) {
        next = t->next;
        srn__trace_free(t);
    }
}

/* What a collector that answered 200 did not take: {"partialSuccess": {"rejectedSpans": "3"}}. */
static uint64_t rejected_of(const char *answer, size_t n, srn_err *why) {
    json_t *j = json_loadb(answer, n, 0, NULL), *partial = json_object_get(j, "partialSuccess");
    const json_t *rejected = json_object_get(partial, "rejectedSpans");
    const char *text = json_string_value(rejected);
    long long count = text ? strtoll(text, NULL, 10) : json_integer_value(rejected);
    if (count > 0) srn_fail(why, SRN_EIO, "the collector rejected %lld spans", count);
    json_decref(j);
    return count > 0 ? (uint64_t)count : 0;
}

static bool asks_again(int status) {
    return status == 429 || status == 502 || status == 503 || status == 504;
}

/* Pauses double; a fifth of them is chance, so that many servers do not come at once. */
static void pause_channel(channel *c, uint32_t asked_s) {
    uint64_t next = c->wait_us ? 2 * c->wait_us : FIRST_WAIT_US;
    c->wait_us = SRN_MIN(next, (uint64_t)MOST_WAIT_US);
    uint64_t wait = c->wait_us - srn_hash_seed() % (c->wait_us / 5);
    if (asked_s) wait = SRN_MIN(asked_s, MOST_ASKED_S) * UINT64_C(1000000);
    c->not_before = srn_now_us() + SRN_MAX(wait, (uint64_t)LEAST_WAIT_US);
}

/* Sends body over a channel. *ret_rejected: of what was taken. */
static outcome post(sender *s, channel *c, srn_str body, uint64_t *ret_rejected) {
    srn__otel *o = s->o;
    char *answer = NULL;
    size_t n = 0;
    int status = 0;
    uint32_t retry_after = 0;
    const srn_request_to r = {.base = o->config.endpoint,
                              .path = c->path,
                              .body = body,
                              .max_bytes = MAX_ANSWER,
                              .cut = true,
                              .timeout_ms = o->config.timeout_ms,
                              .give_up = past_stop,
                              .give_up_ctx = o,
                              .headers = o->headers,
                              .n_headers = o->config.n_headers,
                              .ca_file = o->config.ca,
                              .session = s->session,
                              .ret_retry_after_s = &retry_after};
    srn_err why = {0};
    int code = srn_http_request(&r, &status, &answer, &n, &why);
    bool good = !code && status >= 200 && status < 300;
    *ret_rejected = good && answer ? rejected_of(answer, n, &why) : 0;
    free(answer);
    if (!code && !good)
        srn_fail(&why, SRN_EIO, "the collector answered with %d%s", status,
                 status >= 300 && status < 400 ? ", and redirects are not followed" : "");
    if (why.code) s->why = why;
    pthread_mutex_lock(&o->lock);
    o->stats.posts++;
    o->stats.failed += !good;
    pthread_mutex_unlock(&o->lock);
    if (good) {
        c->wait_us = 0;
        return TAKEN;
    }
    if (!code && !asks_again(status)) return NEVER;
    pause_channel(c, retry_after);
    return LATER;
}

/* ---- spans ---- */

/* Takes the next calls off the queue, as many as fit into a request. */
static void take_batch(sender *s) {
    srn__otel *o = s->o;
    srn__trace **end = &s->batch;
    srn_buf_clear(&s->body);
    srn__otel_put_head(&s->body, &o->self, "resourceSpans", "scopeSpans", "spans");
    s->n_spans = 0;
    for (uint32_t i = 0; i < BATCH && s->body.len < BATCH_BYTES; i++) {
        pthread_mutex_lock(&o->lock);
        srn__trace *t = o->first;
        if (t) {
            o->first = t->next;
            if (!o->first) o->last = NULL;
            o->stats.queued--;
            o->content_bytes -= content_of(t);
            o->first_us = srn_now_us();
        }
        pthread_mutex_unlock(&o->lock);
        if (!t) break;
        if (i) srn_buf_addc(&s->body, ',');
        srn__otel_put_spans(&s->body, &o->self, t);
        s->n_spans += srn__trace_spans(t);
        t->next = NULL;
        *end = t;
        end = &t->next;
    }
    srn__otel_put_tail(&s->body);
}

static void count_spans(srn__otel *o, uint64_t sent, uint64_t dropped) {
    pthread_mutex_lock(&o->lock);
    o->stats.sent += sent;
    o->stats.dropped += dropped;
    pthread_mutex_unlock(&o->lock);
}

static void drop_batch(sender *s, uint64_t sent, uint64_t dropped) {
    count_spans(s->o, sent, dropped);
    free_list(s->batch);
    s->batch = NULL;
}

static void send_spans(sender *s) {
    uint64_t rejected = 0;
    if (!s->batch) take_batch(s);
    if (!s->batch) return;
    outcome came = NEVER;
    if (s->body.failed)
        srn_fail_nomem(&s->why, s->body.len);
    else
        came = post(s, &s->traces, (srn_str){s->body.data, s->body.len}, &rejected);
    if (came == LATER) return;
    rejected = came == TAKEN ? SRN_MIN(rejected, (uint64_t)s->n_spans) : s->n_spans;
    drop_batch(s, s->n_spans - rejected, rejected);
}

/* ---- sums ---- */

static void send_sums(sender *s) {
    srn__otel *o = s->o;
    srn_buf body;
    uint64_t ignored;
    const srn__otel_stats stats = srn__otel_get_stats(o);
    srn_buf_init(&body, MAX_BODY);
    pthread_mutex_lock(&o->engines);
    srn__otel_put_metrics(&body, &o->self, o->sums, o->models, o->scheduler, &stats);
    pthread_mutex_unlock(&o->engines);
    if (!body.failed) post(s, &s->metrics, (srn_str){body.data, body.len}, &ignored);
    srn_buf_done(&body);
    uint64_t next = srn_now_us() + o->config.metrics_interval_ms * UINT64_C(1000);
    s->next_metrics_us = SRN_MAX(next, s->metrics.not_before);
}

/* ---- the thread ---- */

/* What went wrong, once a minute; at the end in any case. */
static void say(sender *s, bool last) {
    srn__otel *o = s->o;
    char text[sizeof s->why.text + 160];
    uint64_t now = srn_now_us();
    const srn__otel_stats stats = srn__otel_get_stats(o);
    bool news = stats.dropped > s->said_dropped || s->why.text[0];
    if (!news || !o->log || (!last && s->said_us && now < s->said_us + SAY_US)) return;
    snprintf(text, sizeof text, "%llu spans were dropped so far, %llu since this was last said%s%s",
             (unsigned long long)stats.dropped, (unsigned long long)(stats.dropped - s->said_dropped),
             s->why.text[0] ? ": " : "", s->why.text);
    o->log(o->log_ctx, "telemetry_fails", text);
    s->said_us = now;
    s->said_dropped = stats.dropped;
    s->why = (srn_err){0};
}

static struct timespec timespec_of(uint64_t us) {
    return (struct timespec){(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
}

/* When spans are to be sent; UINT64_MAX: there are none. The lock is held. */
static uint64_t spans_due(const sender *s) {
    const srn__otel *o = s->o;
    if (!s->batch && !o->first) return UINT64_MAX;
    if (o->stopping) return 0;
    uint64_t at = o->first_us + o->config.delay_ms * UINT64_C(1000);
    if (s->batch || o->stats.queued >= BATCH) at = 0;
    return SRN_MAX(at, s->traces.not_before);
}

/* Waits until something is to be done. false: it is time to end. */
static bool wait_due(sender *s, bool *ret_spans, bool *ret_sums) {
    srn__otel *o = s->o;
    pthread_mutex_lock(&o->lock);
    for (;;) {
        uint64_t now = srn_now_us(), spans = spans_due(s);
        uint64_t sums = o->config.no_metrics ? UINT64_MAX : s->next_metrics_us;
        *ret_spans = now >= spans;
        *ret_sums = now >= sums;
        if (*ret_spans || *ret_sums || o->stopping) break;
        struct timespec until = timespec_of(SRN_MIN(SRN_MIN(spans, sums), now + SAY_US));
        if (pthread_cond_timedwait(&o->wake, &o->lock, &until) == ETIMEDOUT && s->why.text[0]) break;
    }
    bool goes_on = !o->stopping;
    pthread_mutex_unlock(&o->lock);
    return goes_on;
}

/* Once the server stops: everything that waits, each once, while there is time. */
static void send_rest(sender *s) {
    srn__otel *o = s->o;
    bool more = true;
    if (!o->config.no_metrics) send_sums(s);
    while (more && !past_stop(o)) {
        send_spans(s);
        if (s->batch) break; /* the collector is away */
        pthread_mutex_lock(&o->lock);
        more = o->first != NULL;
        pthread_mutex_unlock(&o->lock);
    }
    if (s->batch) drop_batch(s, 0, s->n_spans);
    for (bool some = true; some;) {
        take_batch(s);
        some = s->batch != NULL;
        drop_batch(s, 0, s->n_spans);
    }
    say(s, true);
}

static void *run(void *ctx) {
    srn__otel *o = ctx;
    sender s = {.o = o,
                .traces.path = "/v1/traces",
                .metrics.path = "/v1/metrics",
                .next_metrics_us = srn_now_us() + o->config.metrics_interval_ms * UINT64_C(1000)};
    bool spans, sums;
    pthread_setname_np(pthread_self(), "serin-otel");
    srn_buf_init(&s.body, MAX_BODY);
    srn_http_session_new(&s.session, NULL); /* without one each request has its own connection */
    while (wait_due(&s, &spans, &sums)) {
        if (spans) send_spans(&s);
        if (sums) send_sums(&s);
        say(&s, false);
    }
    send_rest(&s);
    srn_http_session_free(s.session);
    srn_buf_done(&s.body);
    return NULL;
}

/* ---- life ---- */

/* "http://HOST:PORT", "http://[V6]:PORT"; a socket's path stands as it is. */
static void read_address(srn__otel_self *s, const char *address) {
    const char *host = strstr(address, "://"), *port = strrchr(address, ':');
    host = host ? host + 3 : NULL;
    if (!host || port < host) {
        snprintf(s->host, sizeof s->host, "%s", address);
        return;
    }
    bool brackets = *host == '[' && port[-1] == ']';
    snprintf(s->host, sizeof s->host, "%.*s", (int)(port - host) - 2 * brackets, host + brackets);
    s->port = (uint32_t)strtoul(port + 1, NULL, 10);
}

static const char *keep(srn__otel *o, const char *text, bool *failed) {
    const char *kept = text ? srn_arena_strndup(&o->arena, text, strlen(text)) : NULL;
    *failed = *failed || (text && !kept);
    return kept;
}

/* Everything that is needed of the configuration, which may be replaced. */
static int copy_config(srn__otel *o, const srn__otel_opts *opts, srn_err *err) {
    const srn_config_telemetry *from = &opts->config->telemetry;
    srn_config_telemetry *to = &o->config;
    bool failed = false;
    *to = *from;
    to->endpoint = keep(o, from->endpoint, &failed);
    to->service_name = keep(o, from->service_name, &failed);
    to->ca = keep(o, from->ca, &failed);
    to->headers = NULL;
    srn_config_pair *resource = srn_arena_alloc(&o->arena, (from->n_resource + 1) * sizeof *resource);
    o->headers = srn_arena_alloc(&o->arena, (from->n_headers + 1) * sizeof *o->headers);
    if (!resource || !o->headers) return srn_fail_nomem(err, from->n_headers * sizeof *o->headers);
    for (uint32_t i = 0; i < from->n_resource; i++)
        resource[i] = (srn_config_pair){keep(o, from->resource[i].name, &failed),
                                        keep(o, from->resource[i].value, &failed)};
    to->resource = resource;
    for (uint32_t i = 0; i < from->n_headers; i++) {
        const srn_config_pair *h = &from->headers[i];
        srn_buf line;
        srn_buf_init(&line, 8192);
        srn_buf_addf(&line, *h->value ? "%s: %s" : "%s;%s", h->name, h->value); /* ";": an empty one */
        o->headers[i] = keep(o, line.failed ? NULL : line.data, &failed);
        failed = failed || line.failed;
        srn_buf_done(&line);
    }
    o->self.config = to;
    return failed ? srn_fail_nomem(err, 4096) : SRN_OK;
}

static void destroy(srn__otel *o) {
    free_list(o->first);
    srn__otel_sums_free(o->sums);
    pthread_mutex_destroy(&o->engines);
    pthread_mutex_destroy(&o->lock);
    pthread_cond_destroy(&o->wake);
    srn_arena_done(&o->arena);
    free(o);
}

static int start(srn__otel *o, const srn__otel_opts *opts, srn_err *err) {
    int code = copy_config(o, opts, err);
    o->sums = srn__otel_sums_new();
    if (!code && !o->sums) code = srn_fail_nomem(err, 4096);
    if (code) return code;
    o->keys = opts->keys;
    o->log = opts->log;
    o->log_ctx = opts->log_ctx;
    read_address(&o->self, opts->address);
    srn_ulid_new(o->self.instance);
    o->self.started_unix_us = srn_unix_us();
    if (pthread_create(&o->thread, NULL, run, o) != 0)
        return srn_fail(err, SRN_ENOMEM, "cannot start a thread for telemetry: the system refuses more");
    return SRN_OK;
}

int srn__otel_new(const srn__otel_opts *opts, srn__otel **ret, srn_err *err) {
    const srn_config_telemetry *t = &opts->config->telemetry;
    char shown[256], text[400];
    *ret = NULL;
    if (t->note && opts->log) opts->log(opts->log_ctx, "telemetry_note", t->note);
    if (!t->endpoint) return SRN_OK;
    srn__otel *o = srn_calloc(1, sizeof *o);
    if (!o) return srn_fail_nomem(err, sizeof *o);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&o->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&o->lock, NULL);
    pthread_mutex_init(&o->engines, NULL);
    srn_arena_init(&o->arena, 4u << 20);
    int code = start(o, opts, err);
    if (code) {
        destroy(o);
        return code;
    }
    srn_url_shown(t->endpoint, shown, sizeof shown);
    snprintf(text, sizeof text, "%s%s%s", shown, t->no_traces ? "; no traces" : "",
             t->content ? "; with prompts and answers where the content policy is full" : "");
    if (o->log) o->log(o->log_ctx, "telemetry", text);
    *ret = o;
    return SRN_OK;
}

void srn__otel_engines(srn__otel *o, srn__models *models, srn_scheduler *s) {
    if (!o) return;
    pthread_mutex_lock(&o->engines);
    o->models = models;
    o->scheduler = s;
    pthread_mutex_unlock(&o->engines);
}

void srn__otel_free(srn__otel *o) {
    if (!o) return;
    pthread_mutex_lock(&o->lock);
    o->stopping = true;
    o->stop_us = srn_now_us() + STOP_US;
    pthread_cond_signal(&o->wake);
    pthread_mutex_unlock(&o->lock);
    pthread_join(o->thread, NULL);
    destroy(o);
}
