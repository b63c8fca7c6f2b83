/* Which model answers a call when the one that was to cannot (fallback.h), what a run of its handler has to
 * undo of the one before, and how often that happens. A call's own part is its worker's until it replies and
 * the listener's from then on; one lock guards the counts.
 */
#include "serve/fallback.h"

#include <stdlib.h>

#include "serve/http_internal.h"
#include "serve/otel.h"
#include "serve/record.h"
#include "serve/rollout.h"
#include "serve/upstream.h"

/* ---- how often ---- */

enum { MOST_ROWS = 256 };

typedef struct row {
    char model[128], route[64];
    const char *why; /* static */
    uint64_t n;
} row;

struct srn__fallbacks {
    pthread_mutex_t lock; /* guards what follows */
    uint32_t n;
    row rows[MOST_ROWS]; /* the last one is for all that come too late */
};

int srn__fallbacks_new(srn__fallbacks **ret, srn_err *err) {
    srn__fallbacks *f = srn_calloc(1, sizeof *f);
    if (!f) return srn_fail_nomem(err, sizeof *f);
    pthread_mutex_init(&f->lock, NULL);
    *ret = f;
    return SRN_OK;
}

void srn__fallbacks_free(srn__fallbacks *f) {
    if (!f) return;
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static void count(srn__fallbacks *f, const char *model, const char *route, const char *why) {
    row *at = NULL;
    if (!f) return;
    pthread_mutex_lock(&f->lock);
    for (uint32_t i = 0; i < f->n && !at; i++)
        if (strcmp(f->rows[i].model, model) == 0 && strcmp(f->rows[i].route, route) == 0 &&
            strcmp(f->rows[i].why, why) == 0)
            at = &f->rows[i];
    if (!at && f->n == MOST_ROWS) at = &f->rows[MOST_ROWS - 1];
    if (!at) {
        bool other = f->n == MOST_ROWS - 1;
        at = &f->rows[f->n++];
        at->why = other ? "other" : why;
        snprintf(at->model, sizeof at->model, "%s", other ? "other" : model);
        snprintf(at->route, sizeof at->route, "%s", other ? "other" : route);
    }
    at->n++;
    pthread_mutex_unlock(&f->lock);
}

void srn__metrics_fallbacks(srn__fallbacks *f, srn_buf *out) {
    srn_buf_addz(out, "# HELP serin_fallbacks_total Calls that another model answered than the one that was "
                      "to, by that one, route and reason.\n# TYPE serin_fallbacks_total counter\n");
    pthread_mutex_lock(&f->lock);
    for (uint32_t i = 0; i < f->n; i++)
        srn_buf_addf(out, "serin_fallbacks_total{model=\"%s\",route=\"%s\",why=\"%s\"} %llu\n",
                     f->rows[i].model, f->rows[i].route, f->rows[i].why, (unsigned long long)f->rows[i].n);
    pthread_mutex_unlock(&f->lock);
}

/* ---- which model ---- */

const char *srn__answering_model(srn__call *c, const srn_config_route *route, const char *asked) {
    srn__fallen *f = &c->fallen;
    const char *name = srn__assigned_model(srn__assigned_of(c), route && route->model ? route->model : asked);
    if (f->model) name = f->model;
    f->route = route;
    if (!srn__models_name(srn__call_models(c), srn__call_config(c), name, f->answers))
        snprintf(f->answers, sizeof f->answers, "%s", name ? name : "");
    return name;
}

/* Of that a canary and its baseline are not to blame, for the queue is that of both. */
static bool is_load(const char *why) {
    return strncmp(why, "queue_", 6) == 0;
}

/* The route's, if it is another one than that which has failed; one failure more is the end. */
static const char *route_fallback(srn__call *c) {
    const srn__fallen *f = &c->fallen;
    char name[128];
    if (f->model || !f->route || !f->route->fallback || !(c->route->flags & SRN__ROUTE_ANSWERS)) return NULL;
    bool known = srn__models_name(srn__call_models(c), srn__call_config(c), f->route->fallback, name);
    bool may = known && strcmp(name, f->answers) != 0 && srn__model_may(c, f->route, name);
    return may ? f->route->fallback : NULL;
}

/* The baseline answers the call that it is a copy of already: no other model does. Where the canary cannot be
 * had, that is its failure. */
static bool copy_falls(srn__call *c, const char *why, const srn_err *err) {
    bool late = err->code == SRN_ECANCELLED || err->code == SRN_ETIMEOUT;
    if (!is_load(why) && !late) srn__assign_fall_back(c);
    return false;
}

bool srn__fall_back(srn__call *c, const char *why, const srn_err *err) {
    srn__fallen *f = &c->fallen;
    if (srn__copy_of(c)) return copy_falls(c, why, err);
    if (srn__call_reruns(c)) return true;
    const char *next = srn__assigned_canary(c) && !is_load(why) ? NULL : route_fallback(c);
    bool to_baseline = !next && srn__assigned_canary(c) && !is_load(why);
    if (!next && !to_baseline) return false;
    if (c->deadline_us && srn_now_us() >= c->deadline_us) return false;
    if (!srn__call_rerun(c, NULL)) return false;
    count(srn__call_fallbacks(c), f->answers, f->route ? f->route->name : "", why);
    snprintf(f->from, sizeof f->from, "%s", f->answers);
    f->why = why;
    f->err = *err;
    f->model = next;
    srn__assign_fall_back(c);
    return true;
}

bool srn__fallback_text(const srn__call *c, char *ret, size_t cap) {
    if (!c->fallen.why) return false;
    snprintf(ret, cap, "%s; why=%s", c->fallen.from, c->fallen.why);
    return true;
}

/* ---- from run to run ---- */

uint64_t srn__call_deadline(srn__call *c, uint32_t timeout_ms) {
    if (!c->deadline_us && timeout_ms) c->deadline_us = srn_now_us() + 1000 * (uint64_t)timeout_ms;
    return c->deadline_us;
}

void srn__call_admitted(srn__call *c) {
    c->fallen.admitted = true;
}

bool srn__call_was_admitted(const srn__call *c) {
    return c->fallen.admitted;
}

bool srn__call_fell_back(const srn__call *c) {
    return c->fallen.model != NULL;
}

void srn__fallback_renew(void *ctx, srn__call *c, const char *why) {
    (void)ctx;
    c->facts = (srn__call_facts){0};
    srn__fallback_text(c, c->facts.fallback, sizeof c->facts.fallback);
    srn__relay_give_up(c);
    srn__record_again(c);
    srn__otel_again(c);
    if (why) srn__assign_rolled_back(c);
}
