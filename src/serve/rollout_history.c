/* What subjects were like before a roll-out began: the baseline's calls in the stretch of the ledger before
 * the event that began it, read backwards, a part at a time, so that the watcher does other work in between.
 * Nothing but that stretch and the declaration decides what is read and in which order it is added up, so a
 * restart, or another server, comes to the same bits. The watcher's thread.
 */
#include <math.h>
#include <stdlib.h>

#include "serve/rollout.h"

enum {
    PART = 2000,       /* records that are looked at at once */
    SPAN = 100 * PART, /* records that are looked at in all */
    MOST_CALLS = 20000 /* no further part is begun from here on */
};

typedef struct past { /* a call; scores: NAN where it has none */
    uint64_t subject, seq;
    double scores[SRN_METRIC_END];
} past;

struct srn__history {
    const srn__rollout *r;
    uint64_t next, end; /* the part that is read next ends before `next`; the last one begins at `end` */
    past *calls;
    uint32_t n, cap;
    bool no_memory;
};

int srn__history_new(const srn__rollout *r, srn__history **ret, srn_err *err) {
    srn__history *h = srn_calloc(1, sizeof *h);
    if (!h) return srn_fail_nomem(err, sizeof *h);
    h->r = r;
    h->next = r->began_seq;
    h->end = h->next > SPAN ? h->next - SPAN : 0;
    *ret = h;
    return SRN_OK;
}

void srn__history_free(srn__history *h) {
    if (h) free(h->calls);
    free(h);
}

/* ---- reading ---- */

static past *grown(srn__history *h) {
    if (h->n == h->cap) {
        uint32_t cap = h->cap ? 2 * h->cap : 1024;
        past *calls = srn_realloc_array(h->calls, cap, sizeof *calls);
        if (!calls) return NULL;
        h->calls = calls;
        h->cap = cap;
    }
    return &h->calls[h->n];
}

static bool is_of(const srn_rollout *d, const srn_call_row *row) {
    bool route = !d->n_routes;
    for (uint32_t i = 0; i < d->n_routes && !route; i++)
        route = strcmp(d->routes[i], "*") == 0 || strcmp(d->routes[i], row->route) == 0;
    return route && strcmp(row->model, d->baseline) == 0 &&
           (!d->prompt || strcmp(row->prompt, d->prompt) == 0);
}

static bool on_call(void *ctx, const srn_call_row *row, const srn_stored *s) {
    srn__history *h = ctx;
    char who[SRN__WHO_CHARS + 1];
    double values[SRN_METRIC_END];
    if (!is_of(h->r->declared, row)) return true;
    json_t *body = json_loadb(s->body.ptr, s->body.len, 0, NULL);
    bool some = srn__rollout_observe_past(body, who, values);
    json_decref(body);
    if (!some) return true;
    past *p = grown(h);
    h->no_memory = p == NULL;
    if (!p) return false;
    p->subject = srn_assign_subject(h->r->key, h->r->declared->name, srn_str_of(who));
    p->seq = s->seq;
    for (unsigned m = 0; m < SRN_METRIC_END; m++) p->scores[m] = srn_metric_score((srn_metric)m, values[m]);
    h->n++;
    return true;
}

/* ---- adding up ---- */

static int by_subject(const void *a, const void *b) {
    const past *x = a, *y = b;
    if (x->subject != y->subject) return x->subject > y->subject ? 1 : -1;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

/* Of calls in the order of their subjects; the number of subjects. */
static size_t add_up(const past *calls, uint32_t n, srn_history *ret) {
    size_t subjects = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i == 0 || calls[i].subject != calls[i - 1].subject)
            ret[subjects++] = (srn_history){.subject = calls[i].subject};
        srn_history *s = &ret[subjects - 1];
        for (unsigned m = 0; m < SRN_METRIC_END; m++)
            if (!isnan(calls[i].scores[m])) s->n[m]++, s->mean[m] += calls[i].scores[m];
    }
    for (size_t k = 0; k < subjects; k++)
        for (unsigned m = 0; m < SRN_METRIC_END; m++)
            if (ret[k].n[m]) ret[k].mean[m] /= ret[k].n[m];
    return subjects;
}

static int give(srn__history *h, srn_evidence *e, srn__history_size *ret, srn_err *err) {
    srn_history *sums = srn_calloc(h->n ? h->n : 1, sizeof *sums);
    if (!sums) return srn_fail_nomem(err, h->n * sizeof *sums);
    if (h->n) qsort(h->calls, h->n, sizeof *h->calls, by_subject);
    size_t n = add_up(h->calls, h->n, sums);
    int code = n ? srn_evidence_history(e, sums, n, err) : SRN_OK;
    *ret = (srn__history_size){.n_calls = h->n, .n_subjects = (uint32_t)n};
    free(sums);
    return code;
}

int srn__history_turn(srn__history *h, srn_reader *reader, srn_evidence *e, srn__history_size *ret,
                      bool *ret_done, srn_err *err) {
    *ret_done = h->next <= h->end || h->n >= MOST_CALLS;
    if (*ret_done) return give(h, e, ret, err);
    uint64_t from = h->next - h->end > PART ? h->next - PART : h->end;
    uint32_t before = h->n;
    int code = srn_reader_calls_between(reader, from, h->next, on_call, h, err);
    if (!code && h->no_memory) code = srn_fail_nomem(err, h->cap * sizeof(past));
    if (code)
        h->n = before; /* the part is read again */
    else
        h->next = from;
    return code;
}
