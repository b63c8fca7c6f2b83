/* Telemetry: sums over calls as OpenTelemetry's GenAI conventions name them, with their bounds of buckets,
 * and what the scheduler counts, as one request in OTLP's JSON. Sums only grow from the start of the process
 * (cumulative). Of combinations of labels there are at most MAX_SERIES; what comes later is counted as
 * "other".
 */
#include <stdlib.h>

#include "serve/metrics.h"
#include "serve/openai_internal.h"
#include "serve/otel_internal.h"

enum { MAX_SERIES = 256, MAX_BOUNDS = 16, CUMULATIVE = 2 };

static const double token_bounds[] = {1,     4,     16,     64,      256,     1024,     4096,
                                      16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864};
static const double duration_bounds[] = {0.01, 0.02, 0.04, 0.08,  0.16,  0.32,  0.64,
                                         1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92};
static const double first_bounds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                      0.25,  0.5,   0.75, 1.0,  2.5,  5.0,  7.5,  10.0};
static const double per_token_bounds[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,
                                          0.3,  0.4,   0.5,  0.75,  1.0, 2.5};

typedef enum which { INPUT, OUTPUT, DURATION, FIRST, PER_TOKEN, N_WHICH } which;

/* Rows of one name follow each other and are one metric. */
static const struct {
    const char *name, *unit, *help, *token_type;
    const double *bounds;
    uint32_t n;
} histograms[N_WHICH] = {
    [INPUT] = {"gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.", "input",
               token_bounds, SRN_LEN(token_bounds)},
    [OUTPUT] = {"gen_ai.client.token.usage", "{token}", "", "output", token_bounds, SRN_LEN(token_bounds)},
    [DURATION] = {"gen_ai.server.request.duration", "s", "Time from a request's arrival to its end.", NULL,
                  duration_bounds, SRN_LEN(duration_bounds)},
    [FIRST] = {"gen_ai.server.time_to_first_token", "s",
               "Time to the first token of answers that were completed.", NULL, first_bounds,
               SRN_LEN(first_bounds)},
    [PER_TOKEN] = {"gen_ai.server.time_per_output_token", "s",
                   "Time per token after the first one of answers that were completed.", NULL,
                   per_token_bounds, SRN_LEN(per_token_bounds)},
};

typedef struct histogram {
    uint64_t in[MAX_BOUNDS + 1], n; /* the last bucket: above every bound */
    double sum, min, max;
} histogram;

/* Whatever tells series apart. */
typedef struct labels {
    char operation[16], asked[128], model[128], prompt[SRN_PROMPT_NAME_MAX + 16], error[24];
} labels;

typedef struct series {
    labels l;
    histogram h[N_WHICH];
} series;

struct srn__otel_sums {
    pthread_mutex_t lock; /* guards everything below */
    series *all[MAX_SERIES];
    uint32_t n;
};

/* ---- counting ---- */

srn__otel_sums *srn__otel_sums_new(void) {
    srn__otel_sums *m = srn_calloc(1, sizeof *m);
    if (m) pthread_mutex_init(&m->lock, NULL);
    return m;
}

void srn__otel_sums_free(srn__otel_sums *m) {
    if (!m) return;
    for (uint32_t i = 0; i < m->n; i++) free(m->all[i]);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static void observe(histogram *h, which w, double v) {
    uint32_t i = 0;
    while (i < histograms[w].n && v > histograms[w].bounds[i]) i++;
    h->in[i]++;
    h->min = h->n ? SRN_MIN(h->min, v) : v;
    h->max = h->n ? SRN_MAX(h->max, v) : v;
    h->n++;
    h->sum += v;
}

/* Texts are padded with zeros, so that labels compare as bytes. */
static labels labels_of(const srn__trace *t) {
    labels l = {0};
    char number[16];
    const char *error = srn__trace_error(t, number);
    snprintf(l.operation, sizeof l.operation, "%s", srn__trace_operation(t));
    if (t->known) snprintf(l.asked, sizeof l.asked, "%s", t->asked);
    if (t->worked) snprintf(l.model, sizeof l.model, "%s", t->facts.model);
    srn__trace_prompt(t, l.prompt, sizeof l.prompt);
    if (error) snprintf(l.error, sizeof l.error, "%s", error);
    return l;
}

/* The lock is held. The last place is for all that come too late; NULL when memory ran out. */
static series *series_of(srn__otel_sums *m, const labels *l) {
    static const labels other = {"other", "", "other", "other", ""};
    for (uint32_t i = 0; i < m->n; i++)
        if (memcmp(&m->all[i]->l, l, sizeof *l) == 0) return m->all[i];
    if (m->n == MAX_SERIES) return m->all[MAX_SERIES - 1];
    series *s = srn_calloc(1, sizeof *s);
    if (!s) return NULL;
    s->l = m->n == MAX_SERIES - 1 ? other : *l;
    return m->all[m->n++] = s;
}

void srn__otel_sums_add(srn__otel_sums *m, const srn__trace *t) {
    const srn__call_facts *f = &t->facts;
    labels l = labels_of(t);
    double total = (double)(t->ended_us - t->begun_us) / 1e6;
    bool good = t->worked && !l.error[0];
    pthread_mutex_lock(&m->lock);
    series *s = series_of(m, &l);
    if (s) {
        observe(&s->h[DURATION], DURATION, total);
        if (t->worked) observe(&s->h[INPUT], INPUT, f->prompt_tokens);
        if (t->worked && t->generates) observe(&s->h[OUTPUT], OUTPUT, f->output_tokens);
        if (good && f->ttft_us) observe(&s->h[FIRST], FIRST, (double)f->ttft_us / 1e6);
        if (good && t->first_us && f->output_tokens > 1)
            observe(&s->h[PER_TOKEN], PER_TOKEN,
                    (double)(SRN_MAX(t->done_us, t->first_us) - t->first_us) / 1e6 / (f->output_tokens - 1));
    }
    pthread_mutex_unlock(&m->lock);
}

/* ---- writing ---- */

typedef struct writer {
    srn_buf *b;
    const srn__otel_self *self;
    uint64_t now_us;
    const char *name; /* of the metric whose points are being written; NULL: none */
    bool any;
} writer;

static void end_metric(writer *w) {
    if (w->name) srn_buf_addz(w->b, "]}}");
    w->name = NULL;
}

/* kind: "histogram", "sum" or "gauge". The points follow. */
static void begin_metric(writer *w, const char *name, const char *unit, const char *help, const char *kind) {
    end_metric(w);
    srn_buf_addz(w->b, w->any ? ",{\"name\":" : "{\"name\":");
    srn__put_string(w->b, srn_str_of(name));
    if (*unit) srn_buf_addf(w->b, ",\"unit\":\"%s\"", unit);
    srn_buf_addz(w->b, ",\"description\":");
    srn__put_string(w->b, srn_str_of(help));
    srn_buf_addf(w->b, ",\"%s\":{", kind);
    if (strcmp(kind, "gauge") != 0) srn_buf_addf(w->b, "\"aggregationTemporality\":%d,", CUMULATIVE);
    if (strcmp(kind, "sum") == 0) srn_buf_addz(w->b, "\"isMonotonic\":true,");
    srn_buf_addz(w->b, "\"dataPoints\":[");
    w->name = name;
    w->any = true;
}

static srn__attributes begin_point(writer *w) {
    srn_buf_addz(w->b, w->b->data[w->b->len - 1] == '[' ? "{" : ",{");
    srn__put_time(w->b, "startTimeUnixNano", w->self->started_unix_us);
    srn_buf_addc(w->b, ',');
    srn__put_time(w->b, "timeUnixNano", w->now_us);
    srn_buf_addz(w->b, ",\"attributes\":[");
    return (srn__attributes){w->b, false};
}

static void put_labels(srn__attributes *a, const srn__otel_self *self, const labels *l, which w) {
    srn__put_attribute(a, "gen_ai.operation.name", l->operation);
    srn__put_attribute(a, "gen_ai.provider.name", "serin");
    srn__put_attribute(a, "gen_ai.request.model", l->asked);
    srn__put_attribute(a, "gen_ai.response.model", l->model);
    srn__put_attribute(a, "gen_ai.token.type", histograms[w].token_type);
    srn__put_attribute(a, "serin.prompt", l->prompt);
    srn__put_attribute(a, "error.type", l->error);
    srn__put_server(a, self);
}

static void put_histogram(writer *w, const series *s, which h) {
    const histogram *g = &s->h[h];
    srn__attributes a = begin_point(w);
    put_labels(&a, w->self, &s->l, h);
    srn_buf_addf(w->b, "],\"count\":\"%llu\",\"sum\":%.9g,\"min\":%.9g,\"max\":%.9g,\"bucketCounts\":[",
                 (unsigned long long)g->n, g->sum, g->min, g->max);
    for (uint32_t i = 0; i <= histograms[h].n; i++)
        srn_buf_addf(w->b, i ? ",\"%llu\"" : "\"%llu\"", (unsigned long long)g->in[i]);
    srn_buf_addz(w->b, "],\"explicitBounds\":[");
    for (uint32_t i = 0; i < histograms[h].n; i++)
        srn_buf_addf(w->b, i ? ",%.9g" : "%.9g", histograms[h].bounds[i]);
    srn_buf_addz(w->b, "]}");
}

/* A copy is written, so that calls that end do not wait for the text. */
static void put_histograms(writer *w, srn__otel_sums *m) {
    series *all = srn_calloc(MAX_SERIES, sizeof *all);
    uint32_t n = 0;
    pthread_mutex_lock(&m->lock);
    for (; all && n < m->n; n++) all[n] = *m->all[n];
    pthread_mutex_unlock(&m->lock);
    for (which h = 0; h < N_WHICH; h++)
        for (uint32_t i = 0; i < n; i++) {
            if (!all[i].h[h].n) continue;
            if (!w->name || strcmp(w->name, histograms[h].name) != 0)
                begin_metric(w, histograms[h].name, histograms[h].unit, histograms[h - (h == OUTPUT)].help,
                             "histogram");
            put_histogram(w, &all[i], h);
        }
    end_metric(w);
    free(all);
}

/* "vllm:x_total" and "serin_x_total" are serin.x here: a colon is no sign of a name, and sums are marked. */
static void name_of(const char *name, char *ret, size_t cap) {
    const char *rest = strchr(name, strncmp(name, "vllm:", 5) == 0 ? ':' : '_') + 1;
    size_t n = strlen(rest);
    if (n > 6 && strcmp(rest + n - 6, "_total") == 0) n -= 6;
    snprintf(ret, cap, "serin.%.*s", (int)n, rest);
}

static void put_engine(void *ctx, const srn__engine_metric *m) {
    writer *w = ctx;
    if (!w->name || strcmp(w->name, m->name) != 0) {
        char name[96];
        name_of(m->name, name, sizeof name);
        begin_metric(w, name, strstr(name, "_seconds") ? "s" : "1", m->help, m->counts ? "sum" : "gauge");
        w->name = m->name;
    }
    srn__attributes a = begin_point(w);
    srn__put_attribute(&a, "gen_ai.response.model", m->model);
    srn_buf_addf(w->b, "],\"asDouble\":%.15g}", m->value);
}

typedef struct own {
    const char *name, *help, *type;
    uint64_t value;
} own;
#define OWN(name, help, type, value)                                                                         \
    { "serin_telemetry_" name, help, type, value }
enum { N_OWN = 6 };

static void own_rows(const srn__otel_stats *s, own ret[N_OWN]) {
    const own rows[N_OWN] = {
        OWN("spans_sent_total", "Spans that the collector took.", "counter", s->sent),
        OWN("spans_dropped_total", "Spans that found no room, or that the collector did not take.", "counter",
            s->dropped),
        OWN("spans_muted_total", "Spans that a local-only route kept on this machine.", "counter", s->muted),
        OWN("posts_total", "Requests to the collector.", "counter", s->posts),
        OWN("posts_failed_total", "Requests to the collector without success.", "counter", s->failed),
        OWN("queued", "Calls whose spans wait to be sent.", "gauge", s->queued),
    };
    memcpy(ret, rows, sizeof rows);
}

void srn__metrics_telemetry(srn__otel *o, srn_buf *out) {
    own rows[N_OWN];
    if (!o) return;
    const srn__otel_stats s = srn__otel_get_stats(o);
    own_rows(&s, rows);
    for (size_t i = 0; i < N_OWN; i++)
        srn_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", rows[i].name, rows[i].help, rows[i].name,
                     rows[i].type, rows[i].name, (unsigned long long)rows[i].value);
}

static void put_own(writer *w, const srn__otel_stats *s) {
    own rows[N_OWN];
    char name[96];
    own_rows(s, rows);
    for (size_t i = 0; i < N_OWN; i++) {
        name_of(rows[i].name, name, sizeof name);
        begin_metric(w, name, "1", rows[i].help, strcmp(rows[i].type, "counter") == 0 ? "sum" : "gauge");
        begin_point(w);
        srn_buf_addf(w->b, "],\"asInt\":\"%llu\"}", (unsigned long long)rows[i].value);
        end_metric(w);
    }
}

void srn__otel_put_metrics(srn_buf *b, const srn__otel_self *s, srn__otel_sums *m, srn__models *models,
                           srn_scheduler *scheduler, const srn__otel_stats *stats) {
    writer w = {.b = b, .self = s, .now_us = srn_unix_us()};
    srn__otel_put_head(b, s, "resourceMetrics", "scopeMetrics", "metrics");
    put_histograms(&w, m);
    if (models) srn__metrics_engines(models, scheduler, put_engine, &w);
    end_metric(&w);
    put_own(&w, stats);
    srn__otel_put_tail(b);
}
