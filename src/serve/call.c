/* serve: one exchange as handlers see it: the request's parts, and the one reply. A handler runs on a worker
 * (those of inline routes on the listener); the reply is handed over under the call's lock. A second reply is
 * dropped. The object lives until the last of its holders lets go.
 */
#include <stdlib.h>
#include <strings.h>

#include "serve/http_internal.h"
#include "serve/upstream.h"

enum { ARENA_BYTES = 1 << 20, MESSAGE_BYTES = 1200 };

/* ---- life ---- */

srn__call *srn__call_new(srn__http *h, srn__settings *s) {
    srn__call *c = srn_calloc(1, sizeof *c);
    if (!c) return NULL;
    atomic_init(&c->refs, 1);
    atomic_init(&c->woken, false);
    pthread_mutex_init(&c->lock, NULL);
    srn_arena_init(&c->arena, ARENA_BYTES);
    c->settings = srn__settings_hold(s);
    srn_buf_init(&c->body, c->settings->config->limits.body_bytes);
    srn_buf_init(&c->out, (size_t)256 << 20);
    c->http = h;
    c->begun_us = srn_now_us();
    c->status = 200;
    c->pull_due = true;
    srn_ulid_new(c->id);
    return c;
}

void srn__call_hold(srn__call *c) {
    atomic_fetch_add(&c->refs, 1);
}

void srn__call_drop(srn__call *c) {
    if (!c || atomic_fetch_sub(&c->refs, 1) != 1) return;
    if (c->http->o.on_last && !c->last) {
        c->last = true;
        atomic_store(&c->refs, 1);
        c->http->o.on_last(c->http->o.end_ctx, c);
        return;
    }
    srn__relay_free(c->relay);
    json_decref(c->json);
    srn_buf_done(&c->body);
    srn_buf_done(&c->out);
    free(c->text);
    srn__settings_put(c->settings);
    srn_arena_done(&c->arena);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* Pushes the call on the list that the listener takes whole; only the push onto an empty list wakes it, and
 * none during a burst, so that a step of the scheduler which wakes many calls costs one system call. */
void srn__call_wake(srn__call *c) {
    if (atomic_exchange(&c->woken, true)) return;
    srn__call_hold(c);
    srn__http *h = c->http;
    srn__call *head = atomic_load(&h->ready);
    do c->next_ready = head;
    while (!atomic_compare_exchange_weak(&h->ready, &head, c));
    if (!head && !atomic_load(&h->burst)) srn__listener_wake(h);
}

/* A push reads `burst` after it, the end reads the list after clearing `burst`: one of them sees the other.
 */
void srn__http_burst(srn__http *h, bool begins) {
    atomic_store(&h->burst, begins);
    if (!begins && atomic_load(&h->ready)) srn__listener_wake(h);
}

bool srn__call_replied(srn__call *c) {
    pthread_mutex_lock(&c->lock);
    bool replied = c->replied;
    pthread_mutex_unlock(&c->lock);
    return replied;
}

void srn__call_withhold(srn__call *c) {
    pthread_mutex_lock(&c->lock);
    c->withheld = true;
    pthread_mutex_unlock(&c->lock);
}

void srn__call_release(srn__call *c, const srn_err *why) {
    pthread_mutex_lock(&c->lock);
    c->withheld = false;
    c->refused = why != NULL;
    if (why) c->refusal = *why;
    pthread_mutex_unlock(&c->lock);
    srn__call_wake(c);
}

/* The error in the place of a source, which is freed. */
static void refuse(srn__call *c) {
    const char *code = NULL;
    pthread_mutex_lock(&c->lock);
    const srn__source_ops *ops = c->ops;
    ops->cancel(c->source);
    c->ops = NULL;
    pthread_mutex_unlock(&c->lock);
    ops->free(c->source);
    c->streamed = false;
    c->status = srn__error_status(&c->refusal, &code);
    c->content_type = "application/json";
    json_t *j = srn__error_json(c->dialect, c->status, NULL, NULL, code, c->refusal.text);
    c->text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    c->text_len = c->text ? strlen(c->text) : 0;
    json_decref(j);
    snprintf(c->facts.error, sizeof c->facts.error, "%s", code);
}

bool srn__call_due(srn__call *c) {
    pthread_mutex_lock(&c->lock);
    bool due = c->replied && !c->withheld, refused = due && c->refused && c->ops;
    pthread_mutex_unlock(&c->lock);
    if (refused) refuse(c);
    return due;
}

/* The handler's next run comes after one whose reply is given up; the lock is held. */
static void renew(srn__call *c) {
    c->rerun = false;
    c->renewed = true;
    c->wait = SRN__WAIT_NOT;
}

/* After the handler has returned: what is to be done about the call now. */
static srn__wait take_wait(srn__call *c, bool *ret_replied) {
    pthread_mutex_lock(&c->lock);
    srn__wait w = c->replied ? SRN__WAIT_NOT : c->wait == SRN__WAIT_MAY ? SRN__WAIT_NOW : c->wait;
    c->wait = w == SRN__WAIT_NOW ? w : SRN__WAIT_NOT;
    c->handling = false;
    *ret_replied = c->replied;
    bool wake = c->rerun && c->replied; /* the listener has waited for this */
    if (c->rerun && !c->replied) renew(c), w = SRN__WAIT_DUE;
    pthread_mutex_unlock(&c->lock);
    if (wake) srn__call_wake(c);
    return w;
}

/* Before the handler runs; false: nobody waits for it. */
static bool take_run(srn__call *c, bool *ret_renewed, const char **ret_why) {
    pthread_mutex_lock(&c->lock);
    bool wanted = !c->gone && !c->ended;
    if (c->rerun) renew(c);
    *ret_renewed = c->renewed;
    *ret_why = c->rerun_why;
    c->renewed = false;
    c->handling = wanted;
    pthread_mutex_unlock(&c->lock);
    return wanted;
}

bool srn__call_rerun(srn__call *c, const char *why) {
    pthread_mutex_lock(&c->lock);
    bool may = !c->fixed && !c->ended && !c->gone && !c->cancelled && !c->refused &&
               atomic_load(&c->http->mode) < SRN__MODE_END && (!c->replied || c->ops);
    bool waits = may && c->wait == SRN__WAIT_NOW, wake = may && c->replied;
    if (may && !c->rerun) c->rerun = true, c->rerun_why = why;
    if (waits) renew(c), srn__workers_push(c->http->workers, c, true); /* they are there: it has not ended */
    pthread_mutex_unlock(&c->lock);
    if (wake) srn__call_wake(c);
    return may;
}

bool srn__call_reruns(srn__call *c) {
    pthread_mutex_lock(&c->lock);
    bool reruns = c->rerun;
    pthread_mutex_unlock(&c->lock);
    return reruns;
}

void srn__call_fix(srn__call *c) {
    pthread_mutex_lock(&c->lock);
    c->fixed = true;
    c->rerun = false; /* it came too late */
    pthread_mutex_unlock(&c->lock);
}

bool srn__call_restart(srn__call *c) {
    pthread_mutex_lock(&c->lock);
    bool due = c->rerun && c->replied && c->ops && !c->fixed && !c->source_done && !c->gone;
    bool now = due && !c->handling;
    const srn__source_ops *ops = c->ops;
    if (now) {
        ops->cancel(c->source);
        c->ops = NULL;
        c->replied = false;
        renew(c);
    }
    pthread_mutex_unlock(&c->lock);
    if (!now) return due;
    ops->free(c->source);
    srn_buf_clear(&c->out);
    c->out_at = 0;
    c->pull_due = true;
    srn__workers_push(c->http->workers, c, true);
    return true;
}

/* Before the handler runs again: nothing that it has done counts. */
static void begin_anew(srn__call *c, const char *why) {
    c->n_reply_headers = 0;
    c->status = 200;
    c->streamed = false;
    if (c->http->o.on_rerun) c->http->o.on_rerun(c->http->o.end_ctx, c, why);
}

void srn__call_run(srn__call *c) {
    srn__wait w = SRN__WAIT_NOT;
    bool renewed, replied = true;
    const char *why;
    do {
        if (!take_run(c, &renewed, &why)) return;
        if (renewed) begin_anew(c, why);
        if (atomic_load(&c->http->mode) >= SRN__MODE_END)
            srn__call_fail(c, 503, NULL, NULL, "shutting_down", "the server is shutting down");
        else
            c->route->handle(c);
        w = take_wait(c, &replied);
    } while (w == SRN__WAIT_DUE);
    if (w == SRN__WAIT_NOT && !replied)
        srn__call_fail(c, 500, NULL, NULL, "internal_error", "the server made no reply; this is a bug in it");
}

void srn__call_may_wait(srn__call *c, bool may) {
    pthread_mutex_lock(&c->lock);
    c->wait = may ? SRN__WAIT_MAY : SRN__WAIT_NOT;
    pthread_mutex_unlock(&c->lock);
}

void srn__call_again(srn__call *c) {
    pthread_mutex_lock(&c->lock);
    bool waits = c->wait == SRN__WAIT_NOW && !c->ended && !c->gone;
    if (c->wait == SRN__WAIT_MAY) c->wait = SRN__WAIT_DUE;
    if (waits) c->wait = SRN__WAIT_NOT;
    if (waits) srn__workers_push(c->http->workers, c, true); /* they are there while it has not ended */
    pthread_mutex_unlock(&c->lock);
}

void srn__call_finish(srn__call *c) {
    pthread_mutex_lock(&c->lock);
    const srn__source_ops *ops = c->ops;
    if (ops && !c->source_done) ops->cancel(c->source);
    srn__relay_cancel(c->relay);
    c->ops = NULL;
    c->ended = true;
    pthread_mutex_unlock(&c->lock);
    if (ops) ops->free(c->source);
}

void srn__call_live(srn__call *c, srn__live *l) {
    pthread_mutex_lock(&c->lock);
    l->next = c->live;
    c->live = l;
    pthread_mutex_unlock(&c->lock);
}

void srn__call_live_end(srn__call *c, srn__live *l) {
    pthread_mutex_lock(&c->lock);
    for (srn__live **at = &c->live; *at; at = &(*at)->next)
        if (*at == l) {
            *at = l->next;
            break;
        }
    pthread_mutex_unlock(&c->lock);
}

/* ---- the request ---- */

srn_server *srn__call_server(const srn__call *c) {
    return c->http->o.server;
}

const srn_config *srn__call_config(const srn__call *c) {
    return c->settings->config;
}

const char *srn__call_id(const srn__call *c) {
    return c->id;
}

const char *srn__call_path_id(const srn__call *c) {
    return c->path_id;
}

static const char *find(const srn__pair *p, uint32_t n, const char *name, bool exact) {
    for (uint32_t i = 0; i < n; i++)
        if ((exact ? strcmp(p[i].name, name) : strcasecmp(p[i].name, name)) == 0) return p[i].value;
    return NULL;
}

const char *srn__call_header(const srn__call *c, const char *name) {
    return find(c->headers, c->n_headers, name, false);
}

const char *srn__call_query(const srn__call *c, const char *name) {
    return find(c->query, c->n_query, name, true);
}

const srn_key *srn__call_key(const srn__call *c) {
    return c->key;
}

srn_str srn__call_body(const srn__call *c) {
    return (srn_str){c->body.data ? c->body.data : "", c->body.len};
}

json_t *srn__call_json(srn__call *c) {
    if (c->json) return c->json;
    srn_err err = {0};
    json_t *v = NULL;
    if (srn__json_parse(srn__call_body(c), c->settings->config->limits.json_depth, &v, &err)) {
        srn__call_fail(c, err.code == SRN_ENOMEM ? 503 : 400, NULL, NULL,
                       err.code == SRN_ELIMIT ? "limit_exceeded" : "invalid_json", "%s", err.text);
        return NULL;
    }
    if (!json_is_object(v)) {
        json_decref(v);
        srn__call_fail(c, 400, NULL, NULL, "invalid_json", "the body must be a JSON object");
        return NULL;
    }
    c->json = v;
    return v;
}

srn__call_facts *srn__call_get_facts(srn__call *c) {
    return &c->facts;
}

/* ---- the reply ---- */

void srn__call_set_header(srn__call *c, const char *name, const char *value) {
    for (uint32_t i = 0; i < c->n_reply_headers; i++)
        if (strcasecmp(c->reply_headers[i].name, name) == 0) {
            const char *v = srn_arena_strndup(&c->arena, value, strlen(value));
            if (v) c->reply_headers[i].value = v;
            return;
        }
    if (c->n_reply_headers == SRN_LEN(c->reply_headers)) return;
    srn__pair p = {srn_arena_strndup(&c->arena, name, strlen(name)),
                   srn_arena_strndup(&c->arena, value, strlen(value))};
    if (p.name && p.value) c->reply_headers[c->n_reply_headers++] = p;
}

typedef struct reply {
    int status;
    const char *content_type;
    char *text; /* taken */
    size_t text_len;
    const srn__source_ops *ops;
    void *source;
    bool streamed;
} reply;

/* Hands the reply over, or disposes of it where nobody waits for one any more. */
static void publish(srn__call *c, const reply *r) {
    pthread_mutex_lock(&c->lock);
    bool dead = c->replied || c->ended || c->rerun;
    if (!dead) {
        c->status = r->status;
        c->content_type = r->content_type;
        c->text = r->text;
        c->text_len = r->text_len;
        c->ops = r->ops;
        c->source = r->source;
        c->streamed = r->streamed;
        bool end = c->gone || c->cancelled || atomic_load(&c->http->mode) >= SRN__MODE_END;
        if (r->ops && end) r->ops->cancel(r->source);
        c->replied = true;
    }
    pthread_mutex_unlock(&c->lock);
    if (!dead) {
        srn__call_wake(c);
        return;
    }
    free(r->text);
    if (r->ops) {
        r->ops->cancel(r->source);
        r->ops->free(r->source);
    }
}

void srn__call_reply_json(srn__call *c, int status, json_t *body) {
    char *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    json_decref(body);
    if (!text) {
        static const char sentence[] = "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\","
                                       "\"param\":null,\"code\":\"out_of_memory\"}}";
        status = 500;
        text = srn_strndup(sentence, sizeof sentence - 1);
    }
    publish(c, &(reply){status, "application/json", text, text ? strlen(text) : 0, NULL, NULL, false});
}

void srn__call_reply_text(srn__call *c, int status, const char *content_type, srn_str body) {
    char *text = srn_strndup(body.len ? body.ptr : "", body.len);
    if (!text) status = 500;
    publish(c, &(reply){status, content_type, text, text ? body.len : 0, NULL, NULL, false});
}

void srn__call_reply_source(srn__call *c, bool streamed, const char *content_type, const srn__source_ops *ops,
                            void *source) {
    publish(c, &(reply){200, streamed ? "text/event-stream" : content_type, NULL, 0, ops, source, streamed});
}

void srn__call_fail(srn__call *c, int status, const char *type, const char *param, const char *code,
                    const char *fmt, ...) {
    char message[MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    if (!srn__call_replied(c)) snprintf(c->facts.error, sizeof c->facts.error, "%s", code ? code : "");
    size_t len = n < 0 ? 0 : SRN_MIN((size_t)n, sizeof message - 1);
    /* What a client sent may be quoted in it; JSON text must be UTF-8 all the same. */
    for (size_t i = 0, k; i < len; i += k) {
        k = srn_utf8_len(message + i, len - i);
        if (k == 0) message[i] = '?', k = 1;
    }
    message[len] = 0;
    srn__call_reply_json(c, status, srn__error_json(c->dialect, status, type, param, code, message));
}

void srn__call_fail_err(srn__call *c, const char *param, const srn_err *err) {
    const char *code = NULL;
    int status = srn__error_status(err, &code);
    if (c->fallen.model && status < 500) { /* for the model that it was for the request was good */
        srn__call_fail(c, 503, NULL, NULL, "model_unavailable", "%s; and '%s', its fallback, refuses: %s",
                       c->fallen.err.text, c->fallen.model, err->text);
        return;
    }
    srn__call_fail(c, status, NULL, param, code, "%s", err->text[0] ? err->text : srn_err_name(err->code));
}
