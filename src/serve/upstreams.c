/* The upstreams of a server: the thread that moves their bytes, and what the calls made so far have found of
 * each. One lock guards the list, which has one entry for each address and name there that was ever asked.
 * The log says when one is lost and when it is back. Any thread.
 */
#include <pthread.h>
#include <stdlib.h>

#include "serve/openai_internal.h"
#include "serve/upstream_internal.h"

enum { MOST_KNOWN = 4096 };

typedef struct known {
    char *address, *model;
    srn__upstream_state is;
} known;

struct srn__upstreams {
    srn_streams *streams;
    void (*log)(void *ctx, const char *event, const char *detail);
    void *log_ctx;
    pthread_mutex_t lock; /* guards what follows */
    known *list;
    uint32_t n;
};

int srn__upstreams_new(void (*log)(void *ctx, const char *event, const char *detail), void *log_ctx,
                       srn__upstreams **ret, srn_err *err) {
    srn__upstreams *u = srn_calloc(1, sizeof *u);
    if (!u) return srn_fail_nomem(err, sizeof *u);
    pthread_mutex_init(&u->lock, NULL);
    u->log = log;
    u->log_ctx = log_ctx;
    int code = srn_streams_new(&u->streams, err);
    if (code)
        srn__upstreams_free(u);
    else
        *ret = u;
    return code;
}

void srn__upstreams_stop(srn__upstreams *u) {
    if (u) srn_streams_stop(u->streams);
}

void srn__upstreams_free(srn__upstreams *u) {
    if (!u) return;
    srn_streams_free(u->streams);
    for (uint32_t i = 0; i < u->n; i++) {
        free(u->list[i].address);
        free(u->list[i].model);
    }
    free(u->list);
    pthread_mutex_destroy(&u->lock);
    free(u);
}

srn_streams *srn__upstream_streams(srn__upstreams *u) {
    return u->streams;
}

const char *srn__upstream_model(const srn_config_model *m) {
    return m->model ? m->model : m->name;
}

/* ---- what is known; the lock is held ---- */

static known *find(srn__upstreams *u, const srn_config_model *m) {
    for (uint32_t i = 0; i < u->n; i++)
        if (strcmp(u->list[i].address, m->upstream) == 0 &&
            strcmp(u->list[i].model, srn__upstream_model(m)) == 0)
            return &u->list[i];
    return NULL;
}

/* NULL: no memory, or too many. */
static known *find_or_add(srn__upstreams *u, const srn_config_model *m) {
    known *k = find(u, m);
    if (k || u->n == MOST_KNOWN) return k;
    known *grown = srn_realloc_array(u->list, u->n + 1, sizeof *grown);
    if (!grown) return NULL;
    u->list = grown;
    const char *model = srn__upstream_model(m);
    known one = {.address = srn_strndup(m->upstream, strlen(m->upstream)),
                 .model = srn_strndup(model, strlen(model))};
    if (!one.address || !one.model) {
        free(one.address);
        free(one.model);
        return NULL;
    }
    u->list[u->n] = one;
    return &u->list[u->n++];
}

srn__upstream_state srn__upstream_get(srn__upstreams *u, const srn_config_model *m) {
    srn__upstream_state s = {0};
    pthread_mutex_lock(&u->lock);
    const known *k = find(u, m);
    if (k) s = k->is;
    pthread_mutex_unlock(&u->lock);
    return s;
}

void srn__upstream_note(srn__upstreams *u, const srn_config_model *m, const srn__upstream_news *news) {
    char text[600];
    bool lost = false, back = false;
    pthread_mutex_lock(&u->lock);
    known *k = find_or_add(u, m);
    if (k) {
        bool told = !news->cut_short;
        lost = told && !news->reachable && (!k->is.known || k->is.reachable);
        back = told && news->reachable && k->is.known && !k->is.reachable;
        k->is.known = k->is.known || told;
        if (told) k->is.reachable = news->reachable;
        if (news->answered) k->is.serin = news->serin;
        k->is.n_calls++;
        k->is.n_failed += news->why != NULL;
        if (news->why) snprintf(k->is.why, sizeof k->is.why, "%s", news->why);
    }
    pthread_mutex_unlock(&u->lock);
    if (!u->log || !(lost || back)) return;
    snprintf(text, sizeof text, "%.127s: %.400s", m->name, lost ? news->why : "it answers again");
    u->log(u->log_ctx, lost ? "upstream_lost" : "upstream_back", text);
}

void srn__upstream_break(srn__upstreams *u, const srn_config_model *m, const char *why) {
    pthread_mutex_lock(&u->lock);
    known *k = why ? find(u, m) : NULL;
    if (k) {
        k->is.n_failed++;
        snprintf(k->is.why, sizeof k->is.why, "%s", why);
    }
    pthread_mutex_unlock(&u->lock);
}

/* ---- what others see ---- */

json_t *srn__upstream_json(srn__upstreams *u, const srn_config_model *m) {
    srn__upstream_state s = u ? srn__upstream_get(u, m) : (srn__upstream_state){0};
    char shown[1536];
    srn_url_shown(m->upstream, shown, sizeof shown);
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "address", srn__text_json(srn_str_of(shown)), "model",
                     srn__text_json(srn_str_of(srn__upstream_model(m))), "reachable",
                     s.known ? json_boolean(s.reachable) : json_null(), "serin",
                     s.known && s.reachable ? json_boolean(s.serin) : json_null(), "why",
                     s.known && !s.reachable ? srn__text_json(srn_str_of(s.why)) : json_null());
}

typedef struct writer {
    srn__upstreams *u;
    srn_buf *out;
    int metric;
} writer;

static void put_metric(void *ctx, const srn_config_model *c, srn__served *v) {
    static const char *const names[] = {"serin_upstream_calls_total", "serin_upstream_failures_total",
                                        "serin_upstream_reachable"};
    writer *w = ctx;
    (void)v;
    if (!c->upstream) return;
    srn__upstream_state s = srn__upstream_get(w->u, c);
    if (w->metric == 2 && !s.known) return;
    uint64_t value = w->metric == 0 ? s.n_calls : w->metric == 1 ? s.n_failed : s.reachable;
    srn_buf_addf(w->out, "%s{model_name=", names[w->metric]);
    srn__put_string(w->out, srn_str_of(c->name));
    srn_buf_addf(w->out, "} %llu\n", (unsigned long long)value);
}

typedef struct any {
    bool found;
} any;

static void find_any(void *ctx, const srn_config_model *c, srn__served *v) {
    (void)v;
    if (c->upstream) ((any *)ctx)->found = true;
}

void srn__metrics_upstreams(srn__upstreams *u, srn__models *m, srn_buf *out) {
    static const char *const heads[] = {
        "# HELP serin_upstream_calls_total Calls that another server was asked to answer.\n"
        "# TYPE serin_upstream_calls_total counter\n",
        "# HELP serin_upstream_failures_total Of these, those that it did not answer.\n"
        "# TYPE serin_upstream_failures_total counter\n",
        "# HELP serin_upstream_reachable Whether the newest call to it was answered.\n"
        "# TYPE serin_upstream_reachable gauge\n"};
    any some = {false};
    if (!u) return;
    srn__models_each(m, find_any, &some);
    for (int i = 0; i < 3 && some.found; i++) {
        writer w = {u, out, i};
        srn_buf_addz(out, heads[i]);
        srn__models_each(m, put_metric, &w);
    }
}

const srn_config_model *srn__upstream_of(srn__call *c, const char *name) {
    char known_as[128];
    if (!srn__models_name(srn__call_models(c), srn__call_config(c), name, known_as)) return NULL;
    const srn_config_model *m = srn_config_model_of(srn__call_config(c), known_as);
    return m && m->upstream ? m : NULL;
}

bool srn__upstream_may(const srn_config_route *route, const srn_config_model *m) {
    return !route || !route->local_only || srn_url_is_local(m->upstream);
}

bool srn__model_may(srn__call *c, const srn_config_route *route, const char *name) {
    const srn_config_model *m = srn__upstream_of(c, name);
    return !m || srn__upstream_may(route, m);
}
