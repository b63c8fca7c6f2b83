/* For tests of ledgers that fail: what became of entries, and what the ledger's log said. */
#ifndef SRN_TEST_LEDGER_OUTCOME_H
#define SRN_TEST_LEDGER_OUTCOME_H

#include <pthread.h>

#include "ledger_help.h"

typedef struct outcome {
    pthread_mutex_t lock; /* guards the others */
    pthread_cond_t told;
    uint32_t ok, eio, ebusy, other;
    char said[4096];
} outcome;

static inline void outcome_init(outcome *o) {
    *o = (outcome){0};
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->told, NULL);
}

static inline void told(void *ctx, int code, const srn_err *why) {
    outcome *o = ctx;
    pthread_mutex_lock(&o->lock);
    if (!code)
        o->ok++;
    else if (code == SRN_EIO && why->text[0])
        o->eio++;
    else if (code == SRN_EBUSY && why->text[0])
        o->ebusy++;
    else
        o->other++;
    pthread_cond_broadcast(&o->told);
    pthread_mutex_unlock(&o->lock);
}

static inline void say(void *ctx, const char *event, const char *detail) {
    outcome *o = ctx;
    pthread_mutex_lock(&o->lock);
    size_t n = strlen(o->said);
    snprintf(o->said + n, sizeof o->said - n, "%s: %s\n", event, detail);
    pthread_mutex_unlock(&o->lock);
}

/* Waits until so many entries were told something. */
static inline void wait_told(outcome *o, uint32_t n) {
    pthread_mutex_lock(&o->lock);
    while (o->ok + o->eio + o->ebusy + o->other < n) pthread_cond_wait(&o->told, &o->lock);
    pthread_mutex_unlock(&o->lock);
}

static inline bool was_said(outcome *o, const char *what) {
    pthread_mutex_lock(&o->lock);
    bool said = strstr(o->said, what) != NULL;
    pthread_mutex_unlock(&o->lock);
    return said;
}

/* where may be a URL, with a folder beside it, or beside NULL. */
static inline srn_ledger *open_watched(const char *where, const char *beside, outcome *o, uint32_t queue,
                                       uint64_t patience_us) {
    srn_ledger *l = NULL;
    srn_err err;
    srn_ledger_opts opts = {.where = where,
                            .folder = beside,
                            .queue = queue,
                            .patience_us = patience_us,
                            .log = say,
                            .log_ctx = o};
    outcome_init(o);
    if (srn_ledger_open(&opts, &l, &err)) fail_msg("%s", err.text);
    return l;
}

static inline void append(srn_ledger *l, outcome *o, uint32_t n, bool durable) {
    char buf[1024];
    srn_err err;
    srn_entry e = {.kind = SRN_RECORD_CALL,
                   .body = call_body(buf, sizeof buf, n, ""),
                   .durable = durable,
                   .done = told,
                   .ctx = o};
    assert_int_equal(srn_ledger_append(l, &e, &err), SRN_OK);
}

static inline srn_ledger_stats stats_of(srn_ledger *l) {
    srn_ledger_stats s;
    srn_ledger_get_stats(l, &s);
    return s;
}

static inline bool find_lost(void *ctx, const srn_stored *s) {
    if (strstr(s->body.ptr, "\"event\":\"lost\"")) snprintf(ctx, 512, "%.*s", (int)s->body.len, s->body.ptr);
    return true;
}

#endif
