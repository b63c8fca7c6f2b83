/* The watcher: one thread that reads the ledger's new records, adds what they say to the evidence of the
 * roll-outs that run, looks, and acts. All that it knows it has from the ledger, in the ledger's order, so a
 * restart, or another server, comes to the same. The clock is asked here, and nowhere below.
 */
#include <stdlib.h>
#include <time.h>

#include "serve/alerts.h"
#include "serve/rollout.h"

enum { BATCH = 500, POLL_MS = 200, RETRY_US = 2000000 };

/* A roll-out that is watched. */
typedef struct watched {
    srn__rollout *r; /* with a hold */
    srn_rollout_state state;
    srn_evidence *evidence;
    srn__history *past; /* NULL: the evidence has it */
    srn__history_size known;
    srn_filter *filter;
    uint64_t began_seq, seq; /* the event that began it; everything up to seq is added */
    uint64_t last_canary_us;
    bool looked, gone, kept; /* kept: its number in flight is */
    bool failed;             /* what was decided last could not be recorded */
    uint64_t retry_us;       /* srn_now_us() before which that is not tried again */
    srn_step_is is;          /* that the look was made with */
    srn_look look;
} watched;

/* What one record says, until it is its turn. */
typedef struct item {
    uint64_t seq;
    srn__seen seen;
    srn_metric later; /* the only thing it tells, of a call that is known already; END: a call itself */
    uint64_t conversation, t_us;
    bool counted;
    srn_observation o;
} item;

struct srn__watcher {
    srn__watcher_opts o;
    const char *dir; /* for the numbers in flight */
    srn_reader *reader;
    srn__judges *judges;
    srn__alerts *alerts;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows, and looks that others read */
    pthread_cond_t news;
    bool poked, ending, started;
    watched *list;
    uint32_t n;
    item *items; /* the thread's own, as all below */
    size_t n_items, cap_items;
    bool failing;       /* the ledger could not be read: said once */
    uint64_t settle_us; /* srn_now_us() from when on what is owed to the ledger is tried again */
};

static void say(srn__watcher *w, const char *event, const char *fmt, ...) SRN_PRINTF(3, 4);
static void say(srn__watcher *w, const char *event, const char *fmt, ...) {
    char text[900];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (w->o.log) w->o.log(w->o.log_ctx, event, text);
}

/* Tells the declaration's webhook, if it has one, what has just happened: nothing of any call. Nobody waits
 * for it. */
static void alert(srn__watcher *w, const srn_rollout *d, const char *event, const char *why) {
    if (!d->webhook) return;
    json_t *body =
        json_pack("{s:s, s:s, s:s, s:I, s:s, s:s}", "event", event, "rollout", d->name, "why", why, "at_us",
                  (json_int_t)srn_unix_us(), "baseline", d->baseline, "canary", d->canary);
    srn__alerts_send(w->alerts, d->webhook, d->name, body);
    json_decref(body);
}

/* ---- which are watched ---- */

static void watched_done(watched *x) {
    srn_evidence_free(x->evidence);
    srn__history_free(x->past);
    srn_filter_free(x->filter);
    srn__rollout_put(x->r);
}

static int watched_begin(watched *x, srn_err *err) {
    char filter[SRN_ROLLOUT_NAME_MAX + 32];
    snprintf(filter, sizeof filter, "experiment=%s", x->r->declared->name);
    int code = srn_evidence_new(x->r->declared, &x->evidence, err);
    if (!code) code = srn__history_new(x->r, &x->past, err);
    if (!code) code = srn_filter_parse(srn_str_of(filter), srn_unix_us(), &x->filter, err);
    x->began_seq = x->seq = x->r->began_seq;
    return code;
}

/* Under the lock of the roll-outs. */
static void sync_one(void *ctx, srn__rollout *r, const srn_rollout_state *s) {
    srn__watcher *w = ctx;
    srn_err err = {0};
    watched *x = NULL;
    for (uint32_t i = 0; i < w->n && !x; i++)
        if (w->list[i].r == r && w->list[i].began_seq == r->began_seq) x = &w->list[i];
    if (x) {
        x->state = *s;
        x->gone = srn_rollout_is_over(s);
    }
    if (x || srn_rollout_is_over(s)) return;
    watched *grown = srn_realloc_array(w->list, w->n + 1, sizeof *grown);
    if (!grown) return; /* at the next turn */
    w->list = grown;
    watched next = {.r = r, .state = *s};
    atomic_fetch_add(&r->refs, 1);
    if (watched_begin(&next, &err))
        watched_done(&next);
    else
        w->list[w->n++] = next;
}

/* Calls of the canary that still run are those of a roll-out that is over: no crash of them matters. */
static void leave_inflight(const srn__watcher *w, srn__rollout *r) {
    pthread_mutex_lock(&r->lock);
    srn__inflight_close(r->inflight);
    r->inflight = NULL;
    pthread_mutex_unlock(&r->lock);
    srn__inflight_forget(w->dir, r->declared->hash);
}

/* Those that ended go; of one that began anew there is a new one. */
static void sync_list(srn__watcher *w) {
    pthread_mutex_lock(&w->lock);
    for (uint32_t i = 0; i < w->n; i++) w->list[i].gone = true;
    srn__rollouts_each(w->o.rollouts, sync_one, w);
    for (uint32_t i = w->n; i-- > 0;) {
        if (!w->list[i].gone) continue;
        srn__copies_cancel(w->o.copies, w->list[i].r->declared->hash);
        leave_inflight(w, w->list[i].r);
        watched_done(&w->list[i]);
        memmove(&w->list[i], &w->list[i + 1], (--w->n - i) * sizeof *w->list);
    }
    pthread_mutex_unlock(&w->lock);
}

/* ---- reading ---- */

static bool add_item(srn__watcher *w, const item *it) {
    if (w->n_items == w->cap_items) {
        size_t cap = w->cap_items ? 2 * w->cap_items : 256;
        item *grown = srn_realloc_array(w->items, cap, sizeof *grown);
        if (!grown) return false;
        w->items = grown;
        w->cap_items = cap;
    }
    w->items[w->n_items++] = *it;
    return true;
}

typedef struct reading {
    srn__watcher *w;
    const char *hash;
    uint64_t last, until; /* seq of the newest record seen; up to which events count */
    uint32_t n;
    bool no_memory;
} reading;

static bool same_declaration(const json_t *o, const char *hash) {
    const char *z = json_string_value(json_object_get(o, "hash"));
    return z && strcmp(z, hash) == 0;
}

static bool on_call(void *ctx, const srn_call_row *row, const srn_stored *s) {
    reading *g = ctx;
    (void)row;
    json_t *body = json_loadb(s->body.ptr, s->body.len, 0, NULL);
    const json_t *rollout = json_object_get(body, "rollout");
    item it = {.seq = s->seq, .t_us = s->t_us, .later = SRN_METRIC_END};
    g->last = s->seq;
    g->n++;
    if (same_declaration(rollout, g->hash)) it.seen = srn__rollout_observe(body, &it.o);
    const char *conversation = json_string_value(json_object_get(rollout, "conversation"));
    if (conversation) it.conversation = strtoull(conversation, NULL, 16);
    it.counted = json_is_true(json_object_get(rollout, "counted"));
    json_decref(body);
    if (it.seen != SRN__SEEN_NOTHING && !add_item(g->w, &it)) g->no_memory = true;
    return !g->no_memory;
}

/* A record that may tell more of a call, if the mark is in it; false: no more are wanted. */
static bool on_later(reading *g, const srn_stored *s, srn_str mark, srn_metric m,
                     bool (*observe)(const json_t *body, srn_observation *ret)) {
    if (s->seq > g->until) return false;
    if (!memmem(s->body.ptr, s->body.len, mark.ptr, mark.len)) return true;
    json_t *body = json_loadb(s->body.ptr, s->body.len, 0, NULL);
    const json_t *says = m == SRN_METRIC_FEEDBACK ? json_object_get(body, "rollout") : body;
    item it = {.seq = s->seq, .later = m};
    if (same_declaration(says, g->hash) && observe(body, &it.o) && !add_item(g->w, &it)) g->no_memory = true;
    json_decref(body);
    return !g->no_memory;
}

static bool on_event(void *ctx, const srn_stored *s) {
    return on_later(ctx, s, srn_str_of("\"rollout_judged\""), SRN_METRIC_DIVERGENCE,
                    srn__rollout_observe_judged);
}

static bool on_feedback(void *ctx, const srn_stored *s) {
    reading *g = ctx;
    return on_later(g, s, srn_str_of(g->hash), SRN_METRIC_FEEDBACK, srn__rollout_observe_feedback);
}

static int by_seq(const void *a, const void *b) {
    uint64_t x = ((const item *)a)->seq, y = ((const item *)b)->seq;
    return (x > y) - (x < y);
}

static void add(watched *x, const item *it) {
    srn_err err = {0};
    if (it->later < SRN_METRIC_END) {
        srn_evidence_later(x->evidence, it->later, &it->o, &err);
        return;
    }
    if (it->o.arm == SRN_ARM_CANARY && !it->o.shadow) x->last_canary_us = it->t_us;
    if (it->seen == SRN__SEEN_EXPOSED)
        srn_evidence_expose(x->evidence, it->o.subject, it->o.arm);
    else
        srn_evidence_add(x->evidence, &it->o, &err); /* what is out of range is no evidence */
    const srn_rollout *d = x->r->declared;
    bool stays = !it->o.shadow && it->o.step < d->n_steps && d->steps[it->o.step] > 0;
    if (!stays) return; /* of copies no conversation is made */
    srn_pin pin = {.arm = it->o.arm, .counted = it->counted, .at_us = it->t_us}, known;
    pthread_mutex_lock(&x->r->lock);
    if (!srn_pins_get(x->r->pins, it->conversation, it->t_us, &known))
        srn_pins_put(x->r->pins, it->conversation, &pin);
    pthread_mutex_unlock(&x->r->lock);
}

/* Some more of what was before the roll-out began, which comes before all evidence. */
static int read_past(srn__watcher *w, watched *x, srn_err *err) {
    srn__history_size known = {0};
    bool done = false;
    int code = srn__history_turn(x->past, w->reader, x->evidence, &known, &done, err);
    if (code || !done) return code;
    srn__history_free(x->past);
    pthread_mutex_lock(&w->lock);
    x->past = NULL;
    x->known = known;
    pthread_mutex_unlock(&w->lock);
    return SRN_OK;
}

/* The records after those that were added, in their order. *ret_more: there may be others. */
static int read_new(srn__watcher *w, watched *x, bool *ret_more, srn_err *err) {
    reading g = {.w = w, .hash = x->r->declared->hash, .last = x->seq};
    w->n_items = 0;
    int code = srn_reader_end(w->reader, &g.until, err);
    if (!code) code = srn_reader_calls_after(w->reader, x->filter, x->seq, BATCH, on_call, &g, err);
    *ret_more = g.n == BATCH;
    if (*ret_more) g.until = g.last;
    if (!code && g.until > x->seq)
        code = srn_reader_records(w->reader, SRN_RECORD_EVENT, x->seq + 1, on_event, &g, err);
    if (!code && g.until > x->seq)
        code = srn_reader_records(w->reader, SRN_RECORD_FEEDBACK, x->seq + 1, on_feedback, &g, err);
    if (!code && g.no_memory) code = srn_fail_nomem(err, w->cap_items * sizeof(item));
    if (code) return code;
    if (w->n_items) qsort(w->items, w->n_items, sizeof *w->items, by_seq);
    for (size_t i = 0; i < w->n_items && w->items[i].seq <= g.until; i++) add(x, &w->items[i]);
    x->seq = SRN_MAX(x->seq, g.until);
    return SRN_OK;
}

/* ---- looking and acting ---- */

/* Somebody else may have been faster: then nothing is told. What could not be recorded is tried again, but
 * for a roll-back, which is in force and is recorded by srn__rollouts_settle. */
static void act(srn__watcher *w, watched *x, const char *event, const srn_look *l, json_t *more) {
    const srn_rollout *d = x->r->declared;
    srn_err err = {0};
    json_t *fields = json_pack("{s:s, s:o?, s:o}", "why", l->why, "look", srn_look_json(l), "is",
                               srn__step_is_json(&x->is));
    if (fields && more) json_object_update(fields, more);
    json_decref(more);
    int code = srn__rollouts_act(w->o.rollouts, "watcher", d->name, event, fields, &err);
    if (code == SRN_EINVAL || code == SRN_EBUSY || code == SRN_EEXIST) return;
    bool in_force = !code || strcmp(event, "rollout_rolled_back") == 0, told = code && x->failed;
    x->failed = code != SRN_OK;
    x->retry_us = code ? srn_now_us() + RETRY_US : 0;
    if (!told)
        say(w, event, "%s: %s%s%s", d->name, l->why, code ? "; this could not be recorded: " : "",
            code ? err.text : "");
    if (in_force) alert(w, d, event, l->why);
}

static void end_of(srn__watcher *w, watched *x, const srn_look *l) {
    switch (x->r->declared->at_end) {
    case SRN_AT_END_PROMOTE:
        act(w, x, "rollout_promoted", l, NULL);
        break;
    case SRN_AT_END_ROLL_BACK:
        act(w, x, "rollout_rolled_back", l, NULL);
        break;
    case SRN_AT_END_HOLD:
        break; /* as it is, until somebody says more */
    }
}

static void decide(srn__watcher *w, watched *x, const srn_look *l) {
    if (l->verdict == SRN_VERDICT_ROLL_BACK) return act(w, x, "rollout_rolled_back", l, NULL);
    if (l->verdict != SRN_VERDICT_STEP || srn__rollouts_frozen(w->o.rollouts)) return;
    if (srn_now_us() < x->retry_us) return;
    if (l->step + 1 >= x->r->declared->n_steps) return end_of(w, x, l);
    act(w, x, "rollout_step", l, json_pack("{s:i}", "step", (int)l->step + 1));
}

static void look(srn__watcher *w, watched *x) {
    srn_step_is is = x->state.is;
    srn_look l;
    is.last_canary_us = x->last_canary_us;
    pthread_mutex_lock(&x->r->lock);
    is.n_open = x->r->n_open;
    is.oldest_open_us = x->r->first ? x->r->first->begun_us : 0;
    pthread_mutex_unlock(&x->r->lock);
    srn_look_at(x->r->declared, x->evidence, &is, srn_unix_us(), &l);
    pthread_mutex_lock(&w->lock);
    x->look = l;
    x->is = is;
    x->looked = true;
    pthread_mutex_unlock(&w->lock);
    if (x->state.phase == SRN_PHASE_RUNNING && x->state.share + x->state.shadow > 0) decide(w, x, &l);
}

/* ---- what a crash left ---- */

/* A roll-out whose canary was at work when the process before this one was killed. */
static void tell_crash(srn__watcher *w, const watched *x, uint32_t left) {
    const char *name = x->r->declared->name;
    bool ends = srn_rollout_crash_ends(&x->state, srn_unix_us());
    srn_err err = {0};
    char why[200];
    snprintf(why, sizeof why, "the server ended with %u call%s of the canary in flight%s", left,
             left == 1 ? "" : "s", ends ? ", for the second time within ten minutes" : "");
    srn__rollouts_act(w->o.rollouts, "watcher", name, "rollout_crashed",
                      json_pack("{s:i, s:s}", "calls", (int)left, "why", why), &err);
    say(w, "rollout_crashed", "%s: %s", name, why);
    alert(w, x->r->declared, ends ? "rollout_rolled_back" : "rollout_crashed", why);
    if (!ends) return;
    srn__rollouts_act(w->o.rollouts, "watcher", name, "rollout_rolled_back", json_pack("{s:s}", "why", why),
                      &err);
    say(w, "rollout_rolled_back", "%s: %s", name, why);
}

/* Its number in flight is kept from here on; what a killed process left of it is a crash. */
static void keep_inflight(srn__watcher *w, watched *x) {
    srn_err err = {0};
    uint32_t left = 0;
    struct srn__inflight *open = NULL;
    x->kept = true;
    if (x->r->inflight) return;
    int code = srn__inflight_open(w->dir, x->r->declared->hash, &open, &left, &err);
    if (code)
        return say(w, "rollout_unguarded", "%s: a crash will not be noticed: %s", x->r->declared->name,
                   err.text);
    pthread_mutex_lock(&x->r->lock);
    x->r->inflight = open;
    srn__inflight_add(x->r, 0);
    pthread_mutex_unlock(&x->r->lock);
    if (!left) return;
    tell_crash(w, x, left);
    x->state.phase = SRN_PHASE_PAUSED; /* at least; nothing is decided before the next turn */
}

/* true: there is more to read at once. */
static bool turn(srn__watcher *w) {
    srn_err err = {0};
    bool more = false;
    int code = SRN_OK;
    if (srn_now_us() >= w->settle_us) {
        srn__rollouts_settle(w->o.rollouts, &err); /* what fails is tried again */
        w->settle_us = srn_now_us() + RETRY_US;
    }
    code = srn__rollouts_catch_up(w->o.rollouts, &err);
    sync_list(w);
    for (uint32_t i = 0; i < w->n; i++)
        if (!w->list[i].kept) keep_inflight(w, &w->list[i]);
    for (uint32_t i = 0; i < w->n && !code; i++) {
        bool some = false;
        if (w->list[i].past) {
            code = read_past(w, &w->list[i], &err);
            more = true;
            continue;
        }
        code = read_new(w, &w->list[i], &some, &err);
        more = more || some;
        if (!code && !some) look(w, &w->list[i]); /* not in the midst of what is old */
    }
    if (code && !w->failing)
        say(w, "rollout_blind", "the evidence of roll-outs cannot be read: %s", err.text);
    w->failing = code != 0;
    srn__judges_turn(w->judges);
    return more && !code;
}

static void *run(void *p) {
    srn__watcher *w = p;
    pthread_setname_np(pthread_self(), "serin-rollout");
    for (;;) {
        bool more = turn(w);
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += POLL_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_mutex_lock(&w->lock);
        while (!more && !w->poked && !w->ending)
            if (pthread_cond_timedwait(&w->news, &w->lock, &until)) break;
        bool ending = w->ending;
        w->poked = false;
        pthread_mutex_unlock(&w->lock);
        if (ending) return NULL;
    }
}

/* ---- life ---- */

static void poke(void *ctx) {
    srn__watcher_poke(ctx);
}

srn__judges *srn__watcher_judges(srn__watcher *w) {
    return w ? w->judges : NULL;
}

int srn__watcher_new(const srn__watcher_opts *o, srn__watcher **ret, srn_err *err) {
    const srn_ledger *l = srn__recorder_ledger(o->recorder);
    srn__watcher *w = srn_calloc(1, sizeof *w);
    if (!w) return srn_fail_nomem(err, sizeof *w);
    w->o = *o;
    w->dir = srn_ledger_folder(l);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->news, NULL);
    int code = srn_reader_open_beside(l, &w->reader, err);
    if (!code) code = srn__judges_new(o, poke, w, &w->judges, err);
    const srn__alerts_opts ao = {.log = o->log, .log_ctx = o->log_ctx};
    if (!code) code = srn__alerts_new(&ao, &w->alerts, err);
    while (!code && turn(w)) continue; /* before the first call */
    if (!code && pthread_create(&w->thread, NULL, run, w) != 0)
        code = srn_fail(err, SRN_ENOMEM, "no thread could be started for the roll-outs");
    w->started = !code;
    if (code)
        srn__watcher_free(w);
    else
        *ret = w;
    return code;
}

void srn__watcher_free(srn__watcher *w) {
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->ending = true;
    pthread_cond_signal(&w->news);
    pthread_mutex_unlock(&w->lock);
    if (w->started) pthread_join(w->thread, NULL);
    srn__judges_free(w->judges);
    srn__alerts_free(w->alerts);
    for (uint32_t i = 0; i < w->n; i++) watched_done(&w->list[i]);
    free(w->list);
    free(w->items);
    srn_reader_close(w->reader);
    pthread_cond_destroy(&w->news);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

void srn__watcher_poke(srn__watcher *w) {
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->poked = true;
    pthread_cond_signal(&w->news);
    pthread_mutex_unlock(&w->lock);
}

int srn__watcher_look(srn__watcher *w, const char *hash, srn_look *ret, srn_err *err) {
    bool found = false;
    pthread_mutex_lock(&w->lock);
    for (uint32_t i = 0; i < w->n && !found; i++) {
        found = w->list[i].looked && strcmp(w->list[i].r->declared->hash, hash) == 0;
        if (found) *ret = w->list[i].look;
    }
    pthread_mutex_unlock(&w->lock);
    return found ? SRN_OK : srn_fail(err, SRN_ENOENT, "it was not looked at yet");
}

bool srn__watcher_history(srn__watcher *w, const char *hash, srn__history_size *ret) {
    bool found = false;
    pthread_mutex_lock(&w->lock);
    for (uint32_t i = 0; i < w->n && !found; i++) {
        found = !w->list[i].past && strcmp(w->list[i].r->declared->hash, hash) == 0;
        if (found) *ret = w->list[i].known;
    }
    pthread_mutex_unlock(&w->lock);
    return found;
}
