/* The counters and histograms of requests, and the text that Prometheus scrapes: those, what the scheduler
 * counts for each engine, and the process's own figures. Called by whoever ends a request or has a token, and
 * by GET /metrics. Refuses a further model or route once its tables are full: it is then counted as "other".
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "serve/metrics.h"

#define MAX_MODELS  64
#define MAX_ROUTES  64
#define MAX_PROMPTS 256 /* pairs of a model and a version */
#define MAX_BUCKETS 24
#define N_STATUS    600

/* ---- histograms ---- */

typedef struct buckets {
    const double *le;
    uint32_t n;
} buckets;

static const double ttft_le[] = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                 1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
static const double gap_le[] = {.001, .0025, .005, .0075, .01, .0175, .025, .05, .075, .1, .15, .2,
                                .3,   .4,    .5,   .75,   1,   2.5,   5,    7.5, 10,   20, 40,  80};
static const double request_le[] = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                    30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
static const double queue_le[] = {.001, .003, .01, .03, .1, .3, .5, .8,  1,   1.5, 2,
                                  2.5,  5,    10,  15,  20, 30, 60, 120, 240, 480};
static const double tokens_le[] = {1,   2,    5,    10,   20,    50,    100,   200,
                                   500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};

typedef enum which { TTFT, GAP, E2E, QUEUE, PROMPT, OUTPUT, N_HISTOGRAMS } which;

static const struct {
    const char *name, *help;
    const double *le;
    uint32_t n;
} histograms[N_HISTOGRAMS] = {
    [TTFT] = {"vllm:time_to_first_token_seconds", "Time from a request's arrival to its first token.",
              ttft_le, SRN_LEN(ttft_le)},
    [GAP] = {"vllm:inter_token_latency_seconds", "Time between two tokens of an answer.", gap_le,
             SRN_LEN(gap_le)},
    [E2E] = {"vllm:e2e_request_latency_seconds", "Time from a request's arrival to the end of its answer.",
             request_le, SRN_LEN(request_le)},
    [QUEUE] = {"vllm:request_queue_time_seconds", "Time that a request waited for its turn.", queue_le,
               SRN_LEN(queue_le)},
    [PROMPT] = {"vllm:request_prompt_tokens", "Tokens of a request's prompt.", tokens_le, SRN_LEN(tokens_le)},
    [OUTPUT] = {"vllm:request_generation_tokens", "Tokens of a request's answer.", tokens_le,
                SRN_LEN(tokens_le)},
};

typedef struct histogram {
    uint64_t in[MAX_BUCKETS + 1]; /* the last: above every bound */
    double sum;
} histogram;

static void observe(histogram *h, which w, double v) {
    uint32_t i = 0;
    while (i < histograms[w].n && v > histograms[w].le[i]) i++;
    h->in[i]++;
    h->sum += v;
}

/* ---- what is kept ---- */

static const char *const finishes[] = {"stop", "length", "tool_calls", "abort", "error"};

typedef struct model_counts {
    char name[128];
    uint64_t finished[SRN_LEN(finishes)];
    histogram h[N_HISTOGRAMS];
} model_counts;

typedef struct route_counts {
    const srn__route *route; /* NULL: none matched */
    uint64_t status[N_STATUS];
} route_counts;

/* Of the answers that a model gave with a version of a registered prompt, or without one. */
typedef struct prompt_counts {
    char model[128], prompt[SRN_PROMPT_NAME_MAX + 16]; /* "NAME@VERSION", "unregistered" */
    uint64_t finished[SRN_LEN(finishes)], input_tokens, output_tokens;
    double seconds, ttft_seconds;
} prompt_counts;

struct srn__metrics {
    pthread_mutex_t lock; /* guards everything below */
    model_counts *models[MAX_MODELS];
    route_counts *routes[MAX_ROUTES];
    prompt_counts *prompts[MAX_PROMPTS];
    uint32_t n_models, n_routes, n_prompts;
    uint64_t gone, reloads, reloads_refused;
    int64_t reloaded_unix; /* the configuration in force is of then */
    int64_t started_unix;
};

int srn__metrics_new(srn__metrics **ret, srn_err *err) {
    srn__metrics *m = srn_calloc(1, sizeof *m);
    if (!m) return srn_fail_nomem(err, sizeof *m);
    pthread_mutex_init(&m->lock, NULL);
    m->started_unix = m->reloaded_unix = (int64_t)time(NULL);
    *ret = m;
    return SRN_OK;
}

void srn__metrics_free(srn__metrics *m) {
    if (!m) return;
    for (uint32_t i = 0; i < m->n_models; i++) free(m->models[i]);
    for (uint32_t i = 0; i < m->n_routes; i++) free(m->routes[i]);
    for (uint32_t i = 0; i < m->n_prompts; i++) free(m->prompts[i]);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* The lock is held. The last place is for all models that come too late; NULL when memory ran out. */
static model_counts *model_of(srn__metrics *m, const char *name) {
    for (uint32_t i = 0; i < m->n_models; i++)
        if (strcmp(m->models[i]->name, name) == 0) return m->models[i];
    if (m->n_models == MAX_MODELS) return m->models[MAX_MODELS - 1];
    if (m->n_models == MAX_MODELS - 1 && strcmp(name, "other") != 0) return model_of(m, "other");
    model_counts *c = srn_calloc(1, sizeof *c);
    if (!c) return NULL;
    snprintf(c->name, sizeof c->name, "%s", name);
    return m->models[m->n_models++] = c;
}

static route_counts *route_of(srn__metrics *m, const srn__route *route) {
    for (uint32_t i = 0; i < m->n_routes; i++)
        if (m->routes[i]->route == route) return m->routes[i];
    if (m->n_routes == MAX_ROUTES) return NULL;
    route_counts *c = srn_calloc(1, sizeof *c);
    if (!c) return NULL;
    c->route = route;
    return m->routes[m->n_routes++] = c;
}

/* The lock is held. The last place is for all pairs that come too late; NULL when memory ran out. */
static prompt_counts *prompt_of(srn__metrics *m, const char *model, const char *prompt) {
    for (uint32_t i = 0; i < m->n_prompts; i++)
        if (strcmp(m->prompts[i]->prompt, prompt) == 0 && strcmp(m->prompts[i]->model, model) == 0)
            return m->prompts[i];
    if (m->n_prompts == MAX_PROMPTS) return m->prompts[MAX_PROMPTS - 1];
    if (m->n_prompts == MAX_PROMPTS - 1 && strcmp(prompt, "other") != 0)
        return prompt_of(m, "other", "other");
    prompt_counts *c = srn_calloc(1, sizeof *c);
    if (!c) return NULL;
    snprintf(c->model, sizeof c->model, "%s", model);
    snprintf(c->prompt, sizeof c->prompt, "%s", prompt);
    return m->prompts[m->n_prompts++] = c;
}

static void count_prompt(srn__metrics *m, const srn__call_facts *f, uint64_t total_us) {
    char named[SRN_PROMPT_NAME_MAX + 16] = "unregistered";
    if (f->prompt.name[0]) snprintf(named, sizeof named, "%s@%u", f->prompt.name, f->prompt.version);
    prompt_counts *c = prompt_of(m, f->model, named);
    if (!c) return;
    for (size_t i = 0; i < SRN_LEN(finishes); i++) c->finished[i] += strcmp(f->finish, finishes[i]) == 0;
    c->input_tokens += f->prompt_tokens;
    c->output_tokens += f->output_tokens;
    c->seconds += (double)total_us / 1e6;
    c->ttft_seconds += (double)f->ttft_us / 1e6;
}

static void count_answer(srn__metrics *m, const srn__call_facts *f, uint64_t total_us) {
    model_counts *c = model_of(m, f->model);
    if (!c) return;
    for (size_t i = 0; i < SRN_LEN(finishes); i++) c->finished[i] += strcmp(f->finish, finishes[i]) == 0;
    observe(&c->h[E2E], E2E, (double)total_us / 1e6);
    observe(&c->h[PROMPT], PROMPT, f->prompt_tokens);
    observe(&c->h[OUTPUT], OUTPUT, f->output_tokens);
    observe(&c->h[QUEUE], QUEUE, (double)f->queue_us / 1e6);
    if (f->ttft_us) observe(&c->h[TTFT], TTFT, (double)f->ttft_us / 1e6);
}

void srn__metrics_call(srn__metrics *m, const srn__route *route, int status, const srn__call_facts *f,
                       uint64_t total_us) {
    pthread_mutex_lock(&m->lock);
    route_counts *r = route_of(m, route);
    if (r && status >= 0 && status < N_STATUS) r->status[status]++;
    if (f->model[0] && f->finish[0]) {
        count_answer(m, f, total_us);
        count_prompt(m, f, total_us);
    }
    pthread_mutex_unlock(&m->lock);
}

void srn__metrics_gaps(srn__metrics *m, const char *model, const srn_out_token *tokens, uint32_t n) {
    if (!m || n < 2) return;
    pthread_mutex_lock(&m->lock);
    model_counts *c = model_of(m, model);
    for (uint32_t i = 1; c && i < n; i++)
        observe(&c->h[GAP], GAP, (double)(tokens[i].at_us - tokens[i - 1].at_us) / 1e6);
    pthread_mutex_unlock(&m->lock);
}

void srn__metrics_reload(srn__metrics *m, bool done) {
    pthread_mutex_lock(&m->lock);
    if (done)
        m->reloads++, m->reloaded_unix = (int64_t)time(NULL);
    else
        m->reloads_refused++;
    pthread_mutex_unlock(&m->lock);
}

void srn__metrics_gone(srn__metrics *m) {
    pthread_mutex_lock(&m->lock);
    m->gone++;
    pthread_mutex_unlock(&m->lock);
}

/* ---- the text ---- */

static void head(srn_buf *out, const char *name, const char *type, const char *help) {
    srn_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and line break are escaped. */
static void add_value(srn_buf *out, const char *v) {
    srn_buf_addc(out, '"');
    for (; *v; v++) {
        if (*v == '\n')
            srn_buf_addz(out, "\\n");
        else {
            if (*v == '"' || *v == '\\') srn_buf_addc(out, '\\');
            srn_buf_addc(out, *v);
        }
    }
    srn_buf_addc(out, '"');
}

static void add_model_label(srn_buf *out, const char *name, const char *model) {
    srn_buf_addf(out, "%s{model_name=", name);
    add_value(out, model);
}

static void requests_text(const srn__metrics *m, srn_buf *out) {
    head(out, "serin_http_requests_total", "counter", "Requests by endpoint and HTTP status.");
    for (uint32_t i = 0; i < m->n_routes; i++)
        for (uint32_t s = 0; s < N_STATUS; s++) {
            const route_counts *r = m->routes[i];
            if (!r->status[s]) continue;
            srn_buf_addz(out, "serin_http_requests_total{endpoint=");
            add_value(out, r->route ? r->route->path : "other");
            srn_buf_addf(out, ",status=\"%u\"} %llu\n", s, (unsigned long long)r->status[s]);
        }
    head(out, "serin_clients_gone_total", "counter", "Clients that left before their answer was complete.");
    srn_buf_addf(out, "serin_clients_gone_total %llu\n", (unsigned long long)m->gone);
    head(out, "serin_config_reloads_total", "counter", "Reloads of the configuration.");
    srn_buf_addf(out, "serin_config_reloads_total{result=\"done\"} %llu\n", (unsigned long long)m->reloads);
    srn_buf_addf(out, "serin_config_reloads_total{result=\"refused\"} %llu\n",
                 (unsigned long long)m->reloads_refused);
    head(out, "serin_config_in_force_since_seconds", "gauge", "When the configuration in force was read.");
    srn_buf_addf(out, "serin_config_in_force_since_seconds %lld\n", (long long)m->reloaded_unix);
    head(out, "vllm:request_success_total", "counter", "Answers by the reason they ended.");
    for (uint32_t i = 0; i < m->n_models; i++)
        for (size_t k = 0; k < SRN_LEN(finishes); k++) {
            add_model_label(out, "vllm:request_success_total", m->models[i]->name);
            srn_buf_addf(out, ",finished_reason=\"%s\"} %llu\n", finishes[k],
                         (unsigned long long)m->models[i]->finished[k]);
        }
}

static void add_prompt_labels(srn_buf *out, const char *name, const prompt_counts *c) {
    add_model_label(out, name, c->model);
    srn_buf_addz(out, ",prompt=");
    add_value(out, c->prompt);
}

static void prompts_text(const srn__metrics *m, srn_buf *out) {
    static const struct {
        const char *name, *help;
    } rows[] = {{"serin_prompt_input_tokens_total", "Tokens of prompts by registered prompt."},
                {"serin_prompt_output_tokens_total", "Tokens of answers by registered prompt."},
                {"serin_prompt_seconds_total", "Time from arrival to end by registered prompt."},
                {"serin_prompt_first_token_seconds_total", "Time to the first token by registered prompt."}};
    head(out, "serin_prompt_answers_total", "counter",
         "Answers by registered prompt and the reason they ended.");
    for (uint32_t i = 0; i < m->n_prompts; i++)
        for (size_t k = 0; k < SRN_LEN(finishes); k++) {
            if (!m->prompts[i]->finished[k]) continue;
            add_prompt_labels(out, "serin_prompt_answers_total", m->prompts[i]);
            srn_buf_addf(out, ",finished_reason=\"%s\"} %llu\n", finishes[k],
                         (unsigned long long)m->prompts[i]->finished[k]);
        }
    for (size_t k = 0; k < SRN_LEN(rows); k++) {
        head(out, rows[k].name, "counter", rows[k].help);
        for (uint32_t i = 0; i < m->n_prompts; i++) {
            const prompt_counts *c = m->prompts[i];
            const double values[] = {(double)c->input_tokens, (double)c->output_tokens, c->seconds,
                                     c->ttft_seconds};
            add_prompt_labels(out, rows[k].name, c);
            srn_buf_addf(out, "} %.15g\n", values[k]);
        }
    }
}

static void histogram_text(const srn__metrics *m, which w, srn_buf *out) {
    char name[96];
    head(out, histograms[w].name, "histogram", histograms[w].help);
    for (uint32_t i = 0; i < m->n_models; i++) {
        const histogram *h = &m->models[i]->h[w];
        uint64_t sum = 0;
        snprintf(name, sizeof name, "%s_bucket", histograms[w].name);
        for (uint32_t k = 0; k < histograms[w].n; k++) {
            sum += h->in[k];
            add_model_label(out, name, m->models[i]->name);
            srn_buf_addf(out, ",le=\"%g\"} %llu\n", histograms[w].le[k], (unsigned long long)sum);
        }
        sum += h->in[histograms[w].n];
        add_model_label(out, name, m->models[i]->name);
        srn_buf_addf(out, ",le=\"+Inf\"} %llu\n", (unsigned long long)sum);
        snprintf(name, sizeof name, "%s_sum", histograms[w].name);
        add_model_label(out, name, m->models[i]->name);
        srn_buf_addf(out, "} %.9g\n", h->sum);
        snprintf(name, sizeof name, "%s_count", histograms[w].name);
        add_model_label(out, name, m->models[i]->name);
        srn_buf_addf(out, "} %llu\n", (unsigned long long)sum);
    }
}

/* ---- what the scheduler counts ---- */

typedef struct seen_engine {
    const char *name;
    srn_engine_stats s;
    const char *engine_id;
    srn_ids ids;
    int verified; /* srn__verified */
} seen_engine;

typedef struct seen {
    srn_scheduler *scheduler;
    seen_engine e[MAX_MODELS];
    uint32_t n;
} seen;

static void see(void *ctx, const srn_config_model *c, srn__served *v) {
    seen *all = ctx;
    if (!v || all->n == MAX_MODELS) return;
    seen_engine *e = &all->e[all->n++];
    e->name = c->name;
    e->engine_id = srn_engine_get_info(v->engine).engine_id;
    e->ids = v->ids;
    e->verified = atomic_load(&v->verified);
    srn_scheduler_stats(all->scheduler, v->engine, &e->s);
}

static double usage_of(const srn_engine_stats *s) {
    return s->kv_blocks ? (double)s->kv_held / s->kv_blocks : 0;
}

#define STAT(name, type, help, value)                                                                        \
    static double get_##value(const srn_engine_stats *s) {                                                   \
        return (double)s->value;                                                                             \
    }
#define STATS(X)                                                                                             \
    X("vllm:num_requests_running", "gauge", "Requests that are being computed.", n_running)                  \
    X("vllm:num_requests_waiting", "gauge", "Requests that wait for their turn.", n_waiting)                 \
    X("serin_prompt_tokens_computed_total", "counter", "Tokens of prompts that were computed.",              \
      prompt_tokens)                                                                                         \
    X("vllm:generation_tokens_total", "counter", "Tokens given out.", output_tokens)                         \
    X("vllm:prefix_cache_hits_total", "counter", "Tokens of prompts that the cache held.", cached_tokens)    \
    X("vllm:num_preemptions_total", "counter", "Times that a request had to give its cache back.",           \
      preemptions)                                                                                           \
    X("vllm:spec_decode_num_draft_tokens_total", "counter", "Tokens that speculation proposed.",             \
      draft_tokens)                                                                                          \
    X("vllm:spec_decode_num_accepted_tokens_total", "counter", "Proposed tokens that were right.",           \
      accepted_tokens)                                                                                       \
    X("serin_kv_blocks", "gauge", "Blocks of the KV cache.", kv_blocks)                                      \
    X("serin_kv_blocks_held", "gauge", "Blocks that running requests hold.", kv_held)                        \
    X("serin_kv_blocks_cached", "gauge", "Blocks that nobody holds and a prefix can still find.", kv_cached) \
    X("serin_kv_evictions_total", "counter", "Cached blocks that were given up for others.", kv_evictions)   \
    X("serin_steps_total", "counter", "Forward passes.", n_steps)
STATS(STAT)
#undef STAT

/* Tokens of prompts: computed or found. */
static double get_all_prompt_tokens(const srn_engine_stats *s) {
    return (double)(s->prompt_tokens + s->cached_tokens);
}
static double get_step_seconds(const srn_engine_stats *s) {
    return (double)s->step_us / 1e6;
}
static double get_sample_seconds(const srn_engine_stats *s) {
    return (double)s->sample_us / 1e6;
}

static const struct {
    const char *name, *type, *help;
    double (*get)(const srn_engine_stats *s);
} engine_rows[] = {
#define ROW(name, type, help, value) {name, type, help, get_##value},
    STATS(ROW)
#undef ROW
        {"vllm:kv_cache_usage_perc", "gauge", "Part of the KV cache that running requests hold, 0 to 1.",
         usage_of},
    {"vllm:prefix_cache_queries_total", "counter", "Tokens of prompts that were looked up in the cache.",
     get_all_prompt_tokens},
    {"vllm:prompt_tokens_total", "counter", "Tokens of prompts, computed or found in the cache.",
     get_all_prompt_tokens},
    {"serin_step_seconds_total", "counter", "Time in forward passes.", get_step_seconds},
    {"serin_sample_seconds_total", "counter", "Time in sampling and masks.", get_sample_seconds},
};

static void engines_text(const seen *all, srn_buf *out) {
    for (size_t i = 0; i < SRN_LEN(engine_rows); i++) {
        head(out, engine_rows[i].name, engine_rows[i].type, engine_rows[i].help);
        for (uint32_t k = 0; k < all->n; k++) {
            add_model_label(out, engine_rows[i].name, all->e[k].name);
            srn_buf_addf(out, "} %.15g\n", engine_rows[i].get(&all->e[k].s));
        }
    }
    head(out, "serin_model_info", "gauge", "What a model is: its weights and the engine that runs it.");
    for (uint32_t k = 0; k < all->n; k++) {
        add_model_label(out, "serin_model_info", all->e[k].name);
        srn_buf_addf(out, ",weights_id=\"%s\",quantisation=", all->e[k].ids.weights);
        add_value(out, all->e[k].ids.quantisation);
        srn_buf_addf(out, ",tokenizer_id=\"%s\",template_id=\"%s\",engine_id=", all->e[k].ids.tokenizer,
                     all->e[k].ids.chat_template);
        add_value(out, all->e[k].engine_id);
        srn_buf_addz(out, "} 1\n");
    }
    head(out, "serin_weights_verified", "gauge",
         "1: the bytes in memory are those of the weights id; 0: they are not; absent: being hashed.");
    for (uint32_t k = 0; k < all->n; k++) {
        if (all->e[k].verified == SRN__UNVERIFIED) continue;
        add_model_label(out, "serin_weights_verified", all->e[k].name);
        srn_buf_addf(out, "} %d\n", all->e[k].verified == SRN__VERIFIED);
    }
}

void srn__metrics_engines(srn__models *models, srn_scheduler *s,
                          void (*fn)(void *ctx, const srn__engine_metric *m), void *ctx) {
    seen *all = srn_calloc(1, sizeof *all);
    if (!all) return;
    all->scheduler = s;
    srn__models_each(models, see, all);
    for (size_t i = 0; i < SRN_LEN(engine_rows); i++)
        for (uint32_t k = 0; k < all->n; k++)
            fn(ctx, &(srn__engine_metric){.name = engine_rows[i].name,
                                          .help = engine_rows[i].help,
                                          .model = all->e[k].name,
                                          .counts = strcmp(engine_rows[i].type, "counter") == 0,
                                          .value = engine_rows[i].get(&all->e[k].s)});
    free(all);
}

/* ---- the process ---- */

static uint64_t resident_bytes(void) {
    unsigned long long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%llu %llu", &size, &resident) != 2) resident = 0;
    if (f) fclose(f);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void process_text(const srn__metrics *m, srn_scheduler *s, uint32_t open_connections, srn_buf *out) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    double cpu = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                 (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
    head(out, "serin_build_info", "gauge", "The program's version.");
    srn_buf_addf(out, "serin_build_info{version=\"%s\",numerics=\"%d\"} 1\n", srn_version(), SRN_NUMERICS_ID);
    head(out, "serin_http_connections", "gauge", "Open connections.");
    srn_buf_addf(out, "serin_http_connections %u\n", open_connections);
    head(out, "serin_scheduler_silence_seconds", "gauge",
         "Time since the engine's thread last showed that it lives.");
    srn_buf_addf(out, "serin_scheduler_silence_seconds %.6f\n", (double)srn_scheduler_silence_us(s) / 1e6);
    head(out, "process_start_time_seconds", "gauge", "When the process started, in seconds since 1970.");
    srn_buf_addf(out, "process_start_time_seconds %lld\n", (long long)m->started_unix);
    head(out, "process_cpu_seconds_total", "counter", "Processor time used.");
    srn_buf_addf(out, "process_cpu_seconds_total %.3f\n", cpu);
    head(out, "process_resident_memory_bytes", "gauge", "Memory in use.");
    srn_buf_addf(out, "process_resident_memory_bytes %llu\n", (unsigned long long)resident_bytes());
}

void srn__metrics_text(srn__metrics *m, srn__models *models, srn_scheduler *s, uint32_t open_connections,
                       srn_buf *out) {
    seen *all = srn_calloc(1, sizeof *all);
    if (!all) return;
    all->scheduler = s;
    srn__models_each(models, see, all);
    engines_text(all, out);
    free(all);
    pthread_mutex_lock(&m->lock);
    requests_text(m, out);
    prompts_text(m, out);
    for (which w = 0; w < N_HISTOGRAMS; w++) histogram_text(m, w, out);
    process_text(m, s, open_connections, out);
    pthread_mutex_unlock(&m->lock);
}
