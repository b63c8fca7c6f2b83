/* Sends a load and measures its answers. In a closed loop the next request goes when one is answered; in an
 * open one each goes when it is due, whatever becomes of the others, and its times count from then, so that a
 * server which falls behind cannot hide it. The caller's thread sends and reads; the streams' thread notes
 * when bytes came. Nothing is tried again: a failure is a result.
 */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "serve/load.h"
#include "serve/upstream_internal.h"

enum { MAX_BODY = 64 << 20, MAX_UNREAD = 16 << 20, LOOK_US = 200000 };

typedef struct slot {   /* a request under way */
    srn_stream *stream; /* NULL: free */
    srn_load_answer *a;
    srn__relay_text text;
    srn_buf body, gaps; /* of what is no stream of events; uint64_t: when pieces came */
    bool whole;         /* so it is */
    uint64_t last_us;   /* its last byte came */
} slot;

typedef struct load {
    const srn_load_opts *o;
    srn_streams *streams;
    srn_load_run *run;
    slot *slots;
    size_t n_slots, n_busy, n_done;
    uint64_t *due_us; /* [n], from the begin; NULL: a closed loop */
    srn_buf now, held, marks, bytes;
    pthread_mutex_t lock;
    pthread_cond_t news;
    bool has_news; /* guarded by lock */
} load;

static void notify(void *ctx, srn_stream *t) {
    load *l = ctx;
    (void)t;
    pthread_mutex_lock(&l->lock);
    l->has_news = true;
    pthread_cond_signal(&l->news);
    pthread_mutex_unlock(&l->lock);
}

/* Until there is news, until_us, or so long that a cancellation is seen soon. */
static void wait_news(load *l, uint64_t until_us) {
    uint64_t now = srn_now_us(), us = SRN_MIN(until_us > now ? until_us - now : 0, (uint64_t)LOOK_US);
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    us += (uint64_t)t.tv_nsec / 1000;
    t.tv_sec += (time_t)(us / 1000000);
    t.tv_nsec = (long)(us % 1000000) * 1000;
    pthread_mutex_lock(&l->lock);
    while (!l->has_news && pthread_cond_timedwait(&l->news, &l->lock, &t) == 0) continue;
    l->has_news = false;
    pthread_mutex_unlock(&l->lock);
}

static bool cancelled(const load *l) {
    return l->o->cancel && *l->o->cancel;
}

/* ---- a request ---- */

static void slot_done(slot *s) {
    if (s->a) srn__relay_text_done(&s->text);
    srn_stream_release(s->stream);
    srn_buf_done(&s->body);
    srn_buf_done(&s->gaps);
    *s = (slot){0};
}

/* A text that no other request has: of the salt, and whether the request counts. */
static void make_nonce(const load *l, const srn_load_answer *a, bool counts, char ret[24]) {
    uint64_t what[3] = {l->o->salt, a->index, counts};
    snprintf(ret, 24, "%016llx",
             (unsigned long long)srn_hash(l->o->salt, (srn_str){(const char *)what, sizeof what}));
}

/* due_us 0: now. */
static int begin(load *l, slot *s, srn_load_answer *a, uint64_t due_us, bool counts, srn_err *err) {
    const srn_load_opts *o = l->o;
    const srn_load_ask *ask = &o->asks->items[a->ask];
    char nonce[24];
    make_nonce(l, a, counts, nonce);
    json_t *body = srn_load_body(ask, o->model, o->max_tokens, o->keep_cache ? NULL : nonce);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    if (!text) return srn_fail_nomem(err, 4096);
    *s = (slot){.a = a,
                .text = {.api = ask->completion ? SRN__RELAY_COMPLETIONS : SRN__RELAY_CHAT,
                         .streamed = true,
                         .model = o->model,
                         .id = "load",
                         .n_choices = 1,
                         .piece_us = &s->gaps}};
    srn_buf_init(&s->body, MAX_BODY);
    srn_buf_init(&s->gaps, MAX_BODY);
    srn_stream_to to = {.base = o->base,
                        .path = ask->completion ? "/v1/completions" : "/v1/chat/completions",
                        .bearer = o->bearer,
                        .ca_file = o->ca_file,
                        .body = srn_str_of(text),
                        .max_unread = MAX_UNREAD,
                        .timeout_ms = o->timeout_ms,
                        .connections = UINT32_MAX,
                        .notify = notify,
                        .ctx = l};
    int code = srn__relay_text_init(&s->text, err);
    a->begun_us = srn_now_us();
    a->due_us = due_us ? due_us : a->begun_us;
    if (!code) code = srn_stream_begin(l->streams, &to, &s->stream, err);
    free(text);
    if (code)
        slot_done(s);
    else
        l->n_busy++;
    return code;
}

static int note_text(srn_load_answer *a, const slot *s, srn_err *err) {
    const srn__relay_text *t = &s->text;
    const srn_buf *text = &t->choices[0].text;
    size_t n = s->gaps.len / sizeof(uint64_t);
    const uint64_t *at = (const uint64_t *)(const void *)s->gaps.data;
    a->text = srn_strndup(text->data ? text->data : "", text->len);
    a->n_text = text->len;
    a->first_us = t->first_us;
    a->last_us = t->last_us;
    a->streamed = !s->whole;
    a->n_pieces = t->n_pieces;
    a->has_usage = t->has_usage;
    a->n_input = t->n_input;
    a->n_cached = t->n_cached;
    a->n_output = t->has_usage ? t->n_output : t->n_pieces;
    snprintf(a->finish, sizeof a->finish, "%s", t->choices[0].finish);
    a->n_gaps = n > 1 && a->streamed ? n - 1 : 0;
    a->gaps_us = srn_calloc(a->n_gaps + 1, sizeof *a->gaps_us);
    if (!a->text || !a->gaps_us) return srn_fail_nomem(err, a->n_text + n * sizeof *at);
    for (size_t i = 0; i < a->n_gaps; i++) a->gaps_us[i] = at[i + 1] - at[i];
    return SRN_OK;
}

/* Why the answer is none. */
static void judge_end(slot *s, const srn_stream_status *st) {
    srn_load_answer *a = s->a;
    char said[256];
    a->status = st->status;
    if (st->err.code) {
        a->why = st->err;
    } else if (st->status != 200) {
        srn__relay_error_text((srn_str){s->body.data ? s->body.data : "", s->body.len}, said, sizeof said);
        srn_fail(&a->why, SRN_EIO, "HTTP %d%s%s", st->status, *said ? ": " : "", said);
    } else if (s->text.failed) {
        srn_fail(&a->why, SRN_EIO, "the answer ended with an error");
    } else if (!s->whole && !s->text.ended && !s->text.choices[0].finish[0]) {
        srn_fail(&a->why, SRN_EIO, "the answer broke off");
    } else if (!s->text.n_pieces && !s->text.choices[0].finish[0]) {
        srn_fail(&a->why, SRN_EIO, "the answer is no answer of the OpenAI API");
    }
}

static int end_slot(load *l, slot *s, const srn_stream_status *st, srn_err *err) {
    srn_load_answer *a = s->a;
    srn_err none = {0};
    a->ended_us = s->last_us ? s->last_us : srn_now_us();
    if (s->whole && st->status == 200 && !st->err.code && !a->why.code)
        srn__relay_text_whole(&s->text, (srn_str){s->body.data ? s->body.data : "", s->body.len}, &l->held,
                              &a->why);
    if (!a->why.code) judge_end(s, st);
    int code = note_text(a, s, err ? err : &none);
    slot_done(s);
    l->n_busy--;
    l->n_done++;
    return code;
}

/* ---- reading ---- */

static bool is_events(srn_stream *t) {
    char type[64];
    return srn_stream_header(t, "content-type", type, sizeof type) &&
           strncmp(type, "text/event-stream", 17) == 0;
}

static int read_slot(load *l, slot *s, srn_err *err) {
    srn_stream_status st;
    srn_buf_clear(&l->bytes);
    srn_buf_clear(&l->marks);
    srn_buf_clear(&l->now);
    srn_buf_clear(&l->held);
    srn_stream_read(s->stream, &l->bytes, &l->marks, &st);
    if (l->bytes.failed || l->marks.failed) return srn_fail_nomem(err, l->bytes.len);
    srn_str bytes = {l->bytes.data ? l->bytes.data : "", l->bytes.len};
    const srn_stream_mark *marks = (const srn_stream_mark *)(const void *)l->marks.data;
    const size_t n_marks = l->marks.len / sizeof *marks;
    if (n_marks) s->last_us = marks[n_marks - 1].at_us;
    if (bytes.len && !s->text.bytes.len && !s->text.begun && !s->body.len)
        s->whole = st.status != 200 || !is_events(s->stream);
    if (s->whole) {
        if (!srn_buf_add(&s->body, bytes.ptr, bytes.len) && !s->a->why.code)
            srn_fail(&s->a->why, SRN_ELIMIT, "the answer has more than %d MiB", MAX_BODY >> 20);
    } else if (bytes.len && !s->a->why.code) {
        srn__relay_text_add(&s->text, bytes, marks, n_marks, &l->now, &l->held, &s->a->why);
    }
    if (s->a->why.code && !st.done) srn_stream_cancel(s->stream);
    return st.done ? end_slot(l, s, &st, err) : SRN_OK;
}

static int read_all(load *l, srn_err *err) {
    int code = SRN_OK;
    for (size_t i = 0; !code && i < l->n_slots; i++)
        if (l->slots[i].stream) code = read_slot(l, &l->slots[i], err);
    return code;
}

static slot *free_slot(load *l) {
    for (size_t i = 0; i < l->n_slots; i++)
        if (!l->slots[i].stream) return &l->slots[i];
    return NULL;
}

/* ---- the loops ---- */

static void show(load *l) {
    const srn_load_opts *o = l->o;
    if (o->progress) o->progress(o->progress_ctx, o->what, l->n_done, o->warm_up + o->n);
}

/* One request after the other, of which nothing is kept. */
static int warm_up(load *l, srn_err *err) {
    int code = SRN_OK;
    for (size_t i = 0; !code && i < l->o->warm_up && !cancelled(l); i++) {
        srn_load_answer a = {.ask = (uint32_t)(i % l->o->asks->n), .index = (uint32_t)i};
        code = begin(l, &l->slots[0], &a, 0, false, err);
        while (!code && l->n_busy && !cancelled(l)) {
            wait_news(l, UINT64_MAX);
            code = read_slot(l, &l->slots[0], err);
        }
        if (l->n_busy) l->n_busy--, slot_done(&l->slots[0]);
        if (!code && i == 0 && a.why.code) {
            code = a.why.code;
            *err = a.why;
        }
        free(a.text);
        free(a.gaps_us);
        show(l);
    }
    return code;
}

/* Sends what is due; *ret_next: when the next one is, or UINT64_MAX. */
static int send_due(load *l, uint64_t from_us, uint64_t *ret_next, srn_err *err) {
    srn_load_run *r = l->run;
    int code = SRN_OK;
    *ret_next = UINT64_MAX;
    while (!code && r->n < l->o->n) {
        uint64_t due = l->due_us ? from_us + l->due_us[r->n] : 0;
        slot *s = free_slot(l);
        if (due > srn_now_us()) *ret_next = due;
        if (!s || due > srn_now_us()) break;
        r->answers[r->n].ask = (uint32_t)(r->n % l->o->asks->n);
        r->answers[r->n].index = (uint32_t)r->n;
        code = begin(l, s, &r->answers[r->n], due, true, err);
        if (!code) r->n++;
    }
    return code;
}

static int measure(load *l, srn_err *err) {
    uint64_t from = srn_now_us(), next = UINT64_MAX;
    int code = send_due(l, from, &next, err);
    while (!code && (l->n_busy || l->run->n < l->o->n) && !cancelled(l)) {
        wait_news(l, next);
        code = read_all(l, err);
        if (!code) code = send_due(l, from, &next, err);
        show(l);
    }
    return code;
}

/* What was cancelled is no answer: those that had no end are left out. */
static void drop_unended(load *l) {
    srn_load_run *r = l->run;
    size_t n = 0;
    for (size_t i = 0; i < l->n_slots; i++)
        if (l->slots[i].stream) slot_done(&l->slots[i]);
    for (size_t i = 0; i < r->n; i++)
        if (r->answers[i].ended_us) r->answers[n++] = r->answers[i];
    r->cut = r->n > n || n < l->o->n;
    r->n = n;
}

static int load_init(load *l, srn_err *err) {
    const srn_load_opts *o = l->o;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&l->news, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&l->lock, NULL);
    srn_buf *const bufs[] = {&l->now, &l->held, &l->marks, &l->bytes};
    for (size_t i = 0; i < SRN_LEN(bufs); i++) srn_buf_init(bufs[i], MAX_BODY);
    l->n_slots = o->kind == SRN_LOAD_CLOSED ? SRN_MIN((size_t)o->concurrency, o->n) : o->n;
    l->n_slots = SRN_MAX(l->n_slots, (size_t)1);
    l->slots = srn_calloc(l->n_slots, sizeof *l->slots);
    l->run->answers = srn_calloc(o->n + 1, sizeof *l->run->answers);
    if (o->kind != SRN_LOAD_CLOSED) {
        l->due_us = srn_calloc(o->n + 1, sizeof *l->due_us);
        if (l->due_us) srn_load_arrivals(o->kind, o->per_second, o->seed, o->n, l->due_us);
    }
    if (!l->slots || !l->run->answers || (o->kind != SRN_LOAD_CLOSED && !l->due_us))
        return srn_fail_nomem(err, o->n * sizeof *l->run->answers + l->n_slots * sizeof *l->slots);
    return SRN_OK;
}

int srn_load_go(const srn_load_opts *o, srn_load_run *ret, srn_err *err) {
    srn_load_run run = {0};
    load l = {.o = o, .run = &run};
    int code = load_init(&l, err);
    if (!code) code = srn_streams_new(&l.streams, err);
    if (!code) code = warm_up(&l, err);
    if (!code) code = measure(&l, err);
    if (l.slots && run.answers) drop_unended(&l);
    srn_streams_free(l.streams); /* from here on nobody calls notify */
    pthread_cond_destroy(&l.news);
    pthread_mutex_destroy(&l.lock);
    free(l.slots);
    free(l.due_us);
    srn_buf *const bufs[] = {&l.now, &l.held, &l.marks, &l.bytes};
    for (size_t i = 0; i < SRN_LEN(bufs); i++) srn_buf_done(bufs[i]);
    if (code)
        srn_load_run_done(&run);
    else
        *ret = run;
    return code;
}

void srn_load_run_done(srn_load_run *r) {
    for (size_t i = 0; r->answers && i < r->n; i++) {
        free(r->answers[i].text);
        free(r->answers[i].gaps_us);
    }
    free(r->answers);
    *r = (srn_load_run){0};
}
