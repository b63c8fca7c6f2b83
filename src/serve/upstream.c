/* One call's answer from another server: a request to it, what comes back, and the reply that is made of it.
 * The handler's worker begins it and, once the first of the answer is there or it has failed, replies; until
 * then the streams' thread reads, from then on the listener's. So whatever fails before anything was sent is
 * told to the handler, which may have another model answer. A relay hangs on its call and lives as long.
 */
#include "serve/upstream.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "serve/fallback.h"
#include "serve/http_internal.h"
#include "serve/openai_internal.h"
#include "serve/otel.h"
#include "serve/record.h"
#include "serve/rollout.h"
#include "serve/upstream_internal.h"

enum { UNREAD_BYTES = 256 << 10, KEY_BYTES = 4096 };

/* Why there is no answer, and what a client is told. */
typedef struct failure {
    int status; /* 0: none */
    const char *code;
    char text[700];
    uint32_t retry_after_s;
    bool passes; /* the other server's own refusal goes to the client, in its words */
} failure;

struct srn__relay {
    srn__relay *prev; /* asked before this one, in vain */
    srn__call *call;
    const srn_config_model *to; /* of the call's configuration */
    srn_stream *stream;
    srn__live live;
    srn__call_prompt prompt; /* the registered one that was sent */
    bool streamed, own_fields, left_out;
    uint64_t sent_us;
    atomic_bool ready; /* the streams' thread has handed over what follows */
    atomic_bool over;  /* it computes nothing for the call any more */
    atomic_uint n_pieces;
    srn_stream_status is;
    srn__relay_text text;
    srn_buf raw, now, held; /* raw: not streamed, or refused */
    srn_buf marks;
    srn_err err; /* of reading */
    bool given_up;
    bool serin;
    char said_call[80], said_weights[80], said_engine[160];
    bool records, recorded, told; /* told: the reply has its end */
    uint32_t part;
};

/* ---- life ---- */

void srn__relay_cancel(srn__relay *r) {
    if (r) srn_stream_cancel(r->stream);
}

void srn__relay_free(srn__relay *r) {
    while (r) {
        srn__relay *prev = r->prev;
        srn_stream_release(r->stream);
        srn__relay_text_done(&r->text);
        srn_buf_done(&r->raw);
        srn_buf_done(&r->now);
        srn_buf_done(&r->held);
        srn_buf_done(&r->marks);
        free(r);
        r = prev;
    }
}

static void live_status(void *ctx, srn__live_status *add) {
    srn__relay *r = ctx;
    if (atomic_load(&r->over)) return;
    snprintf(add->model, sizeof add->model, "%s", r->to->name);
    add->n_running++;
    add->n_output += atomic_load(&r->n_pieces);
}

/* ---- reading: the streams' thread until it is ready, then the listener's ---- */

static bool is_good(const srn__relay *r) {
    return r->is.status >= 200 && r->is.status < 300;
}

static void read_some(srn__relay *r, srn_stream *t) {
    srn_buf bytes;
    bool piecewise = r->streamed && is_good(r);
    srn_buf_init(&bytes, SRN__RELAY_BYTES);
    srn_buf_clear(&r->marks);
    srn_stream_read(t, piecewise ? &bytes : &r->raw, &r->marks, &r->is);
    const srn_stream_mark *marks = (const srn_stream_mark *)(const void *)r->marks.data;
    size_t n = r->marks.len / sizeof *marks;
    if (piecewise && bytes.len && !r->err.code)
        srn__relay_text_add(&r->text, (srn_str){bytes.data, bytes.len}, marks, n, &r->now, &r->held, &r->err);
    if (r->raw.failed && !r->err.code)
        srn_fail(&r->err, SRN_ELIMIT, "its answer has more than %d bytes", SRN__RELAY_BYTES);
    bool failed = r->now.failed || r->held.failed || bytes.failed;
    if (failed && !r->err.code) srn_fail_nomem(&r->err, SRN__RELAY_BYTES);
    if (r->err.code) srn_stream_cancel(t);
    atomic_store(&r->n_pieces, r->text.n_pieces);
    srn_buf_done(&bytes);
}

static void on_news(void *ctx, srn_stream *t) {
    srn__relay *r = ctx;
    srn__call *c = r->call;
    srn_stream_status s;
    srn_stream_get(t, &s);
    if (atomic_load(&r->ready)) {
        srn__call_wake(c);
    } else {
        r->is = s; /* what is unread is of this status */
        read_some(r, t);
        if (s.done || r->err.code || r->text.begun) {
            atomic_store(&r->ready, true);
            srn__call_again(c);
        }
    }
    if (s.done) srn__call_drop(c); /* nothing more will be told */
}

/* ---- asking ---- */

/* The registered prompt that the call's handler found, filled again: the very version. */
static int take_prompt(srn__call *c, const json_t *body, srn__prompt_use *ret, srn_err *err) {
    const srn__call_prompt *p = &srn__call_get_facts(c)->prompt;
    srn_prompt_ref ref = {.version = p->version};
    char param[96];
    if (!p->name[0]) return SRN_OK;
    snprintf(ref.name, sizeof ref.name, "%s", p->name);
    int code = srn_prompts_get(srn__call_prompts(c), &ref, &ret->prompt, NULL, err);
    if (code) return code;
    const json_t *variables = json_object_get(json_object_get(body, "prompt"), "variables");
    return srn_prompt_fill(ret->prompt, variables, &ret->messages, param, err);
}

/* From the file or the environment, without the blanks around it; *ret is zeroed by the caller. */
static int read_key(const srn_config_model *m, char ret[KEY_BYTES], srn_err *err) {
    char *data = NULL;
    size_t len = 0, from = 0;
    *ret = 0;
    const char *text = m->key_env ? getenv(m->key_env) : NULL;
    if (m->key_file) {
        int code = srn_read_file(m->key_file, KEY_BYTES - 1, &data, &len, err);
        if (code) return srn_fail_prefix(err, code, "key_file");
        text = data;
    } else {
        len = text ? strlen(text) : 0;
    }
    while (from < len && strchr(" \t\r\n", text[from])) from++;
    while (len > from && strchr(" \t\r\n", text[len - 1])) len--;
    bool plain = len - from < KEY_BYTES;
    for (size_t i = from; i < len && plain; i++) plain = text[i] > ' ' && text[i] < 127;
    if (plain && len > from) snprintf(ret, KEY_BYTES, "%.*s", (int)(len - from), text + from);
    bool missing = (m->key_file || m->key_env) && !*ret;
    if (data) explicit_bzero(data, len);
    free(data);
    return missing ? srn_fail(err, SRN_EFORMAT, "%s holds no key, which is one word",
                              m->key_file ? "key_file" : "key_env")
                   : SRN_OK;
}

static uint32_t least(uint32_t a, uint32_t b) { /* 0: no limit */
    return !a || (b && b < a) ? b : a;
}

/* What is left of the call's time, ms, at least one: of all attempts together. 0: no limit. */
static uint32_t time_left(srn__call *c, const srn_config_route *route) {
    uint32_t most = least(route ? route->timeout_ms : 0, srn__call_config(c)->limits.request_timeout_ms);
    uint64_t until_us = srn__call_deadline(c, most), now = srn_now_us();
    if (!until_us) return 0;
    return until_us > now ? (uint32_t)SRN_MIN((until_us - now + 999) / 1000, (uint64_t)UINT32_MAX) : 1;
}

static int send_body(srn__relay *r, const srn_config_route *route, const char *endpoint, srn_str body,
                     srn_err *err) {
    char key[KEY_BYTES], api_key[KEY_BYTES + 16];
    const char *headers[2];
    size_t n = 0;
    int code = read_key(r->to, key, err);
    if (!code && r->text.api == SRN__RELAY_MESSAGES) {
        headers[n++] = "anthropic-version: 2023-06-01";
        snprintf(api_key, sizeof api_key, "x-api-key: %s", key);
        if (key[0]) headers[n++] = api_key;
    }
    srn_stream_to to = {.base = r->to->upstream,
                        .path = endpoint,
                        .bearer = key[0] ? key : NULL,
                        .ca_file = r->to->ca,
                        .body = body,
                        .headers = headers,
                        .n_headers = n,
                        .max_unread = UNREAD_BYTES,
                        .timeout_ms = r->to->timeout_ms ? r->to->timeout_ms : SRN_UPSTREAM_TIMEOUT_MS,
                        .limit_ms = time_left(r->call, route),
                        .connections = r->to->connections ? r->to->connections : SRN_UPSTREAM_CONNECTIONS,
                        .notify = on_news,
                        .ctx = r};
    if (!code)
        code = srn_stream_begin(srn__upstream_streams(srn__call_upstreams(r->call)), &to, &r->stream, err);
    explicit_bzero(key, sizeof key);
    explicit_bzero(api_key, sizeof api_key);
    return code;
}

static int make_body(srn__relay *r, const srn_config_route *route, const json_t *body, char **ret,
                     srn_err *err) {
    srn__prompt_use use = {0};
    json_t *out = NULL;
    srn__relay_ask ask = {
        .api = r->text.api,
        .body = body,
        .use = &use,
        .model = srn__upstream_model(r->to),
        .max_tokens = least(route ? route->max_tokens : 0, srn__call_config(r->call)->limits.max_tokens),
        .own_fields = r->own_fields};
    int code = take_prompt(r->call, body, &use, err);
    if (!code && use.prompt) code = srn__prompt_check_model(use.prompt, r->to, "", err);
    if (!code) srn__assign_checks(r->call, use.prompt);
    if (!code) code = srn__relay_body(&ask, &out, &r->left_out, err);
    srn__prompt_use_done(&use);
    *ret = out ? json_dumps(out, JSON_COMPACT) : NULL;
    if (!code && !*ret) code = srn_fail_nomem(err, 4096);
    json_decref(out);
    return code;
}

static srn__relay *relay_new(srn__call *c, const srn_config_model *to, srn__relay_api api) {
    srn__relay *r = srn_calloc(1, sizeof *r);
    srn_err err = {0};
    if (!r) return NULL;
    const json_t *body = srn__call_json(c), *options = json_object_get(body, "stream_options");
    const srn__upstream_state known = srn__upstream_get(srn__call_upstreams(c), to);
    r->call = c;
    r->to = to;
    r->prompt = srn__call_get_facts(c)->prompt;
    r->streamed = api != SRN__RELAY_EMBEDDINGS && json_is_true(json_object_get(body, "stream"));
    r->own_fields = !known.known || known.serin;
    r->text = (srn__relay_text){.api = api,
                                .streamed = r->streamed,
                                .hides_usage = r->streamed && api <= SRN__RELAY_COMPLETIONS &&
                                               !json_is_true(json_object_get(options, "include_usage")),
                                .model = srn__assigned_shown(c, to->name),
                                .id = srn__call_id(c),
                                .n_choices = srn__relay_choices(api, body)};
    srn_buf_init(&r->raw, SRN__RELAY_BYTES);
    srn_buf_init(&r->now, SRN__RELAY_BYTES);
    srn_buf_init(&r->held, SRN__RELAY_BYTES);
    srn_buf_init(&r->marks, (size_t)1 << 20);
    r->live = (srn__live){.status = live_status, .ctx = r};
    atomic_init(&r->ready, false);
    atomic_init(&r->over, false);
    atomic_init(&r->n_pieces, 0);
    if (!srn__relay_text_init(&r->text, &err)) return r;
    srn__relay_free(r);
    return NULL;
}

/* Sends the request; the handler waits for what comes of it. */
static int ask(srn__call *c, const srn_config_route *route, const char *endpoint, const srn_config_model *to,
               srn_err *err) {
    srn__relay *r = relay_new(c, to, srn__relay_api_of(endpoint));
    char *body = NULL;
    if (!r) return srn_fail_nomem(err, sizeof *r);
    int code = make_body(r, route, srn__call_json(c), &body, err);
    r->sent_us = srn_now_us();
    srn__call_hold(c); /* until the stream has ended */
    srn__call_may_wait(c, true);
    if (!code) code = send_body(r, route, endpoint, srn_str_of(body), err);
    free(body);
    if (code) {
        srn__call_may_wait(c, false);
        srn__call_drop(c);
        srn__relay_free(r);
        return code;
    }
    srn__call_live(c, &r->live);
    pthread_mutex_lock(&c->lock);
    r->prev = c->relay;
    c->relay = r;
    if (c->gone || c->ended || c->cancelled) srn__relay_cancel(r);
    pthread_mutex_unlock(&c->lock);
    return SRN_OK;
}

/* ---- what came of it ---- */

static void fail_with(failure *f, const srn__relay *r, int status, const char *code, const char *fmt, ...)
    SRN_PRINTF(5, 6);
static void fail_with(failure *f, const srn__relay *r, int status, const char *code, const char *fmt, ...) {
    char shown[256];
    va_list ap;
    srn_url_shown(r->to->upstream, shown, sizeof shown);
    f->status = status;
    f->code = code;
    int n = snprintf(f->text, sizeof f->text, "the model '%.127s' at %.200s: ", r->to->name, shown);
    va_start(ap, fmt);
    vsnprintf(f->text + n, sizeof f->text - (size_t)n, fmt, ap);
    va_end(ap);
}

/* Whether what it refuses with quotes the key that it was asked with, or may: nobody is shown that. */
static bool quotes_key(const srn__relay *r) {
    char key[KEY_BYTES];
    json_t *o = NULL;
    srn_err err = {0};
    if (!r->raw.len || !(r->to->key_file || r->to->key_env)) return false;
    bool read =
        !read_key(r->to, key, &err) && !srn__json_parse((srn_str){r->raw.data, r->raw.len}, 64, &o, &err);
    char *text = read ? json_dumps(o, JSON_COMPACT) : NULL;
    bool quotes = !text || strstr(text, key);
    explicit_bzero(key, sizeof key);
    free(text);
    json_decref(o);
    return quotes;
}

/* A status that is no answer. */
static void refused(srn__relay *r, failure *f) {
    char said[300];
    int status = r->is.status;
    if (quotes_key(r)) srn_buf_clear(&r->raw);
    srn__relay_error_text((srn_str){r->raw.data ? r->raw.data : "", r->raw.len}, said, sizeof said);
    bool ours =
        status == 401 || status == 403 || status == 404 || status == 405 || status == 407 || status == 408;
    f->retry_after_s = r->is.retry_after_s;
    if (status == 429 || status == 503)
        fail_with(f, r, status, "upstream_overloaded", "it takes no more now (%d)%s%s", status,
                  *said ? ": " : "", said);
    else if (status >= 500)
        fail_with(f, r, status == 504 ? 504 : 502, "upstream_error", "it failed (%d)%s%s", status,
                  *said ? ": " : "", said);
    else if (status < 400)
        fail_with(f, r, 502, "upstream_refused", "it sends elsewhere (%d), where nobody follows it", status);
    else if (ours)
        fail_with(f, r, 502, "upstream_refused", "it refuses this server (%d)%s%s", status, *said ? ": " : "",
                  said);
    else
        fail_with(f, r, status, "upstream_refused", "%s", *said ? said : "it refuses the request");
    f->passes = status >= 400 && status < 500 && !ours && status != 429;
}

static void not_carried(const srn__relay *r, failure *f) {
    const srn_err *e = &r->is.err;
    if (e->code == SRN_ECANCELLED)
        fail_with(f, r, 503, "cancelled", "cancelled");
    else if (e->code == SRN_ETIMEOUT)
        fail_with(f, r, 504, "upstream_timeout", "it does not answer in time: %s", e->text);
    else if (r->is.tls)
        fail_with(f, r, 502, "upstream_tls", "no trusted connection: %s", e->text);
    else
        fail_with(f, r, 502, r->is.status ? "upstream_broken" : "upstream_unreachable", "%s: %s",
                  r->is.status ? "its answer broke off" : "it cannot be reached", e->text);
}

static void read_headers(srn__relay *r) {
    srn_stream_header(r->stream, "x-serin-call", r->said_call, sizeof r->said_call);
    srn_stream_header(r->stream, "x-serin-model", r->said_weights, sizeof r->said_weights);
    srn_stream_header(r->stream, "x-serin-engine", r->said_engine, sizeof r->said_engine);
    r->serin = r->said_call[0] != 0;
}

/* Ready: an answer that can be replied, or why there is none. A stream that has broken off already is none.
 */
static failure outcome(srn__relay *r) {
    failure f = {0};
    char type[128] = "";
    if (r->is.status) read_headers(r);
    if (r->err.code) {
        fail_with(&f, r, 502, "upstream_invalid", "%s", r->err.text);
    } else if (r->is.err.code) {
        not_carried(r, &f);
    } else if (!is_good(r)) {
        refused(r, &f);
    } else if (r->streamed) {
        srn_stream_header(r->stream, "content-type", type, sizeof type);
        bool broken = r->is.done && !srn__relay_text_end(&r->text, &r->held);
        if (strncmp(type, "text/event-stream", 17) != 0)
            fail_with(&f, r, 502, "upstream_invalid", "it answers a stream with %s",
                      *type ? type : "something else");
        else if (broken)
            fail_with(&f, r, 502, "upstream_broken", "its answer broke off");
    } else if (srn__relay_text_whole(&r->text, (srn_str){r->raw.data ? r->raw.data : "", r->raw.len},
                                     &r->held, &r->err)) {
        fail_with(&f, r, 502, "upstream_invalid", "%s", r->err.text);
    }
    if (!f.status && r->text.failed)
        fail_with(&f, r, 502, "upstream_error", "its answer says that it failed");
    return f;
}

static void note(const srn__relay *r, const failure *f) {
    const srn__call *c = r->call;
    bool reached = r->is.status != 0, late = c->deadline_us && srn_now_us() >= c->deadline_us;
    if (f->status && strcmp(f->code, "cancelled") == 0) return;
    srn__upstream_note(srn__call_upstreams(c), r->to,
                       &(srn__upstream_news){.reachable = reached,
                                             .answered = reached,
                                             .serin = r->serin,
                                             .cut_short = late && !reached,
                                             .why = f->status && !f->passes ? f->text : NULL});
}

/* ---- what the record is told ---- */

static void end_choice(srn__relay *r, uint32_t i, const char *finish) {
    const srn__relay_text *t = &r->text;
    const srn__relay_choice *c = &t->choices[i];
    srn__record_choice e = {.part = r->part,
                            .index = i,
                            .relayed = true,
                            .text = {c->text.len ? c->text.data : "", c->text.len},
                            .finish = c->finish[0] ? c->finish : finish};
    if (i == 0 && t->first_us) {
        bool counted = t->has_usage && t->n_choices == 1 && t->n_output > 1;
        e.first_us = t->first_us;
        e.gaps_us = t->last_us - t->first_us;
        e.gap_max_us = t->gap_max_us;
        e.n_gaps = counted ? t->n_output - 1 : t->n_pieces > 1 ? t->n_pieces - 1 : 0;
    }
    srn__record_choice_end(r->call, &e);
}

static void measure(const srn__relay *r, srn__record_part *p, srn_str *answer) {
    const srn__assigned *a = srn__assigned_of(r->call);
    const srn_buf *text = &r->text.choices[0].text;
    *answer = (srn_str){text->len ? text->data : "", text->len};
    if (!srn__assigned_measured(a)) return;
    p->measured = true;
    p->repetition = srn__text_repetition(*answer);
    p->uncertainty = NAN;
    if (a->checks) p->answer = answer;
}

/* Once; whole: the answer has come to its end. */
static void record(srn__relay *r, const char *finish, const char *error, bool whole) {
    const srn__relay_text *t = &r->text;
    srn__call_facts *facts = srn__call_get_facts(r->call);
    srn_str answer;
    srn__record_part p = {.n_input = t->n_input,
                          .n_cached = t->n_cached,
                          .n_output = t->n_output,
                          .n_reasoning = t->n_reasoning,
                          .ttft_us = t->first_us ? t->first_us - r->sent_us : 0,
                          .finish = finish,
                          .error = error};
    r->recorded = true;
    if (!t->has_usage) p.n_output = t->n_pieces;
    atomic_store(&r->over, true);
    facts->prompt_tokens = p.n_input;
    facts->cached_tokens = p.n_cached;
    facts->output_tokens = p.n_output;
    facts->ttft_us = p.ttft_us;
    snprintf(facts->finish, sizeof facts->finish, "%s", finish ? finish : "");
    if (error) snprintf(facts->error, sizeof facts->error, "%s", error);
    if (!r->records) return;
    if (t->api != SRN__RELAY_EMBEDDINGS)
        for (uint32_t i = 0; i < t->n_choices; i++) end_choice(r, i, finish);
    if (whole) measure(r, &p, &answer);
    srn__record_end(r->call, &p, whole);
}

void srn__relay_put(srn_buf *b, const srn__call *c) {
    const srn__relay *r = c->relay;
    char shown[1536];
    if (!r || r->given_up) {
        srn_buf_addz(b, "null");
        return;
    }
    srn_url_shown(r->to->upstream, shown, sizeof shown);
    const char *const said[][2] = {
        {"address", shown},     {"asked", srn__upstream_model(r->to)}, {"model", r->text.said_model},
        {"call", r->said_call}, {"weights", r->said_weights},          {"engine", r->said_engine}};
    for (size_t i = 0; i < SRN_LEN(said); i++) {
        srn_buf_addf(b, "%s\"%s\":", i ? "," : "{", said[i][0]);
        if (said[i][1][0])
            srn__put_string(b, srn_str_of(said[i][1]));
        else
            srn_buf_addz(b, "null");
    }
    srn_buf_addc(b, '}');
}

/* ---- the source: the listener's thread ---- */

static const char *finish_of(const srn__relay *r) {
    const char *finish = r->text.choices[0].finish;
    return r->text.failed ? "error" : *finish ? finish : r->text.api == SRN__RELAY_EMBEDDINGS ? NULL : "stop";
}

/* It cannot go on: what is there goes out, then why. */
static int break_off(srn__relay *r, srn_buf *out) {
    failure f = {0};
    if (r->err.code)
        fail_with(&f, r, 502, "upstream_invalid", "%s", r->err.text);
    else if (r->is.err.code)
        not_carried(r, &f);
    else
        fail_with(&f, r, 502, "upstream_broken", "its answer broke off");
    bool cancelled = strcmp(f.code, "cancelled") == 0;
    srn__upstream_break(srn__call_upstreams(r->call), r->to, cancelled ? NULL : f.text);
    srn_buf_add(out, r->held.data ? r->held.data : "", r->held.len);
    srn__relay_text_broken(&r->text, f.status, f.code, f.text, out);
    r->told = true;
    record(r, cancelled ? "abort" : "error", f.code, false);
    return 1;
}

static int finish(srn__relay *r, srn_buf *out) {
    srn_err why = {0};
    if (!r->recorded) record(r, finish_of(r), r->text.failed ? "upstream_error" : NULL, true);
    srn__record_state state = srn__record_settled(r->call, &why);
    if (state == SRN__RECORD_OPEN) return 0;
    r->told = true;
    if (state == SRN__RECORD_FAILED) {
        const char *code;
        srn__relay_text_broken(&r->text, srn__error_status(&why, &code), code, why.text, out);
        return 2;
    }
    srn_buf_add(out, r->held.data ? r->held.data : "", r->held.len);
    return 1;
}

static int pull(void *source, srn_buf *out, int *status) {
    srn__relay *r = source;
    (void)status;
    if (r->told) return 1;
    if (r->recorded) return finish(r, out);
    if (r->streamed && !r->is.done) read_some(r, r->stream);
    if (r->now.len) srn_buf_add(out, r->now.data, r->now.len);
    srn_buf_clear(&r->now);
    if (r->err.code) return break_off(r, out);
    if (!r->is.done) return 0;
    if (!r->streamed) return finish(r, out);
    return srn__relay_text_end(&r->text, &r->held) && !r->is.err.code ? finish(r, out) : break_off(r, out);
}

static void cancel(void *source) {
    srn__relay_cancel(source);
}

/* The relay itself is the call's. */
static void let_go(void *source) {
    srn__relay *r = source;
    srn__relay_cancel(r);
    if (!r->recorded) record(r, "abort", NULL, false);
    r->given_up = true; /* a handler that runs again asks anew */
}

/* ---- replying ---- */

/* Keyed hash of what is fixed in the request: system texts and tools. */
static void hash_fixed(srn__call *c, const json_t *body, char ret[SRN_KEYED_HASH_CHARS + 1]) {
    static const char *const names[] = {"system", "instructions", "tools"};
    json_t *fixed = json_object();
    const json_t *messages = json_object_get(body, "messages");
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *m = json_array_get(messages, i);
        const char *role = json_string_value(json_object_get(m, "role"));
        if (role && (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0))
            json_array_append(list, m);
    }
    for (size_t i = 0; i < SRN_LEN(names); i++)
        json_object_set(fixed, names[i], json_object_get(body, names[i]));
    json_object_set_new(fixed, "messages", list);
    char *text = json_dumps(fixed, JSON_COMPACT | JSON_SORT_KEYS);
    srn_keyed_hash(srn__recorder_keys(srn__call_recorder(c)), "prompt", srn_str_of(text ? text : ""), ret);
    free(text);
    json_decref(fixed);
}

static void set_headers(srn__relay *r) {
    srn__call *c = r->call;
    char hex[SRN_KEYED_HASH_CHARS + 1], named[SRN_PROMPT_NAME_MAX + 16];
    hash_fixed(c, srn__call_json(c), hex);
    srn__record_prompt(c, hex);
    srn__otel_prompt(c, hex);
    snprintf(named, sizeof named, "%s@%u", r->prompt.name, r->prompt.version);
    srn__call_set_header(c, "x-serin-prompt", r->prompt.name[0] ? named : hex);
    if (r->serin && r->said_weights[0]) srn__call_set_header(c, "x-serin-model", r->said_weights);
    if (r->serin && r->said_engine[0]) srn__call_set_header(c, "x-serin-engine", r->said_engine);
    srn__job_arm_header(c);
}

static void reply(srn__relay *r) {
    static const srn__source_ops ops = {pull, cancel, let_go};
    srn__call *c = r->call;
    srn_err err = {0};
    srn__call_get_facts(c)->prompt = r->prompt;
    set_headers(r);
    const srn__record_work work = {.name = r->to->name, .asked = srn__call_body(c)};
    r->records = srn__record_wanted(c);
    if (srn__record_begin(c, &work, &r->part, &err)) {
        r->recorded = true;
        return srn__call_fail_err(c, NULL, &err);
    }
    srn__call_reply_source(c, r->streamed, "application/json", &ops, r);
}

static void reply_failure(srn__call *c, const failure *f) {
    const srn__relay *r = c->relay;
    char seconds[24];
    json_t *o = NULL;
    srn_err err = {.code = SRN_EINVAL};
    if (f->retry_after_s && (f->status == 429 || f->status == 503)) {
        snprintf(seconds, sizeof seconds, "%u", f->retry_after_s);
        srn__call_set_header(c, "Retry-After", seconds);
    }
    srn__job_arm_header(c);
    if (c->fallen.model && f->status < 500) { /* for the model that it was for the request was good */
        snprintf(err.text, sizeof err.text, "%s", f->text);
        return srn__call_fail_err(c, NULL, &err);
    }
    bool own = f->passes && r &&
               !srn__json_parse((srn_str){r->raw.data ? r->raw.data : "", r->raw.len}, 64, &o, &err);
    if (!own || !json_is_object(o) || !json_object_get(o, "error")) {
        json_decref(o);
        return srn__call_fail(c, f->status, NULL, NULL, f->code, "%s", f->text);
    }
    snprintf(srn__call_get_facts(c)->error, sizeof srn__call_get_facts(c)->error, "%s", f->code);
    srn__call_reply_json(c, f->status, o);
}

/* ---- the door ---- */

typedef enum step { REPLIED, WAITS, FAILED } step;

static step refuse(failure *f, int status, const char *code, const char *fmt, const char *a, const char *b) {
    f->status = status;
    f->code = code;
    snprintf(f->text, sizeof f->text, fmt, a, b);
    return FAILED;
}

/* Whether the call may go there at all; what is wrong is replied. */
static bool check_call(srn__call *c, const srn_config_route *route, const char *endpoint) {
    const json_t *priority = json_object_get(srn__call_json(c), "priority");
    const char *param = NULL;
    srn_err err = {0};
    json_int_t p = json_is_integer(priority) ? json_integer_value(priority) : 0;
    bool registered = srn__call_get_facts(c)->prompt.name[0] != 0;
    if (srn__relay_api_of(endpoint) == SRN__RELAY_NONE)
        srn_fail(&err, SRN_EUNSUP,
                 "the model is computed by another server, and not here; what needs the model itself, as its "
                 "tokens, is to be asked there");
    else if (!srn__job_check_route(c, p < 0 ? -1 : 0, registered, route, &param, &err))
        return true;
    srn__call_fail_err(c, param ? param : "model", &err);
    return false;
}

/* Whether the handler runs again for what comes of it; it may have been run for another reason meanwhile. */
static bool waits_still(srn__relay *r) {
    srn__call_may_wait(r->call, true);
    if (!atomic_load(&r->ready)) return true;
    srn__call_may_wait(r->call, false);
    return false;
}

static step answer_by(srn__call *c, const srn_config_route *route, const char *endpoint,
                      const srn_config_model *to, failure *f) {
    srn__relay *r = c->relay;
    srn_err err = {0};
    if (!srn__upstream_may(route, to))
        return refuse(
            f, 403, "local_only",
            "the route '%.63s' is local_only, and the model '%.127s' is computed on another machine",
            route->name, to->name);
    snprintf(srn__call_get_facts(c)->model, sizeof srn__call_get_facts(c)->model, "%s", to->name);
    if (r && r->to == to && !r->given_up) {
        if (waits_still(r)) return WAITS;
        *f = outcome(r);
        note(r, f);
        if (!f->status) return reply(r), REPLIED;
        atomic_store(&r->over, true);
        if (!f->passes || !r->own_fields || !r->left_out || r->serin) return FAILED;
        r->given_up = true; /* it may be what few servers know that it refuses */
    }
    *f = (failure){0};
    if (!ask(c, route, endpoint, to, &err)) return WAITS;
    return refuse(f, err.code == SRN_EINVAL ? 400 : 502, "upstream_unreachable", "the model '%.127s': %.500s",
                  to->name, err.text);
}

/* Nothing was sent: another model may answer. What the client has got wrong only a canary is asked beside
 * another one for. */
static bool falls_back(srn__call *c, const failure *f) {
    bool canary = srn__assigned_canary(c), own = f->passes || (f->status < 500 && f->status != 429);
    char text[900];
    srn_err err = {0};
    if (own && !canary) return false;
    srn_fail(&err, SRN_EIO, "%s", f->text);
    if (!srn__fall_back(c, f->code, &err)) return false;
    if (!canary) return true;
    snprintf(text, sizeof text, "%s: %s", srn__assigned_of(c)->of->declared->name, f->text);
    srn__http_log_event(c->http, "rollout_fallback", text);
    return true;
}

void srn__relay_give_up(srn__call *c) {
    if (!c->relay) return;
    srn__relay_cancel(c->relay);
    atomic_store(&c->relay->over, true);
    c->relay->given_up = true;
}

bool srn__upstream_answers(srn__call *c, const srn_config_route *route, const char *endpoint,
                           const char *model) {
    const srn_config_model *to = srn__upstream_of(c, model);
    failure f = {0};
    if (!to) return false;
    if (!check_call(c, route, endpoint)) return true;
    if (answer_by(c, route, endpoint, to, &f) == FAILED && !falls_back(c, &f)) reply_failure(c, &f);
    return true;
}
