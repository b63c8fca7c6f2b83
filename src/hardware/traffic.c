/* Calls to facts: lengths, cache, volume, bursts, how many answers run at once, and what the machine that
 * answered can do. Pure; any thread. Refuses more calls and routes than its caps, and traffic of which
 * nothing says how much of it there is.
 */
#include <math.h>
#include <stdlib.h>

#include "hardware/advise.h"

#define DAY_US      86400e6
#define Z95         1.96 /* of a normal distribution, both sides */
#define LONG_PROMPT 8192 /* tokens (p95) from which on a mix is one of long contexts */
#define LONG_ANSWER 64   /* tokens (p50) from which on it generates rather than reads */
#define SHORT_LABEL 16   /* tokens (p95) up to which an answer is a label */
#define BURSTY      3.0  /* p95 over mean; independent calls of one a window or more stay at or below it */

enum { ARENA_BYTES = 1 << 20, NAME_BYTES = 127 };

const char *srn_advise_source_name(srn_advise_source s) {
    static const char *const names[] = {"none", "measured", "given", "predicted"};
    return names[s];
}

const char *srn_mix_shape_name(srn_mix_shape s) {
    static const char *const names[] = {"long-context generation", "long-context reading",
                                        "short rapid classification", "generation", "chat"};
    return names[s];
}

const char *srn_mix_pace_name(srn_mix_pace p) {
    static const char *const names[] = {"unknown", "steady", "bursty"};
    return names[p];
}

/* ---- what is gathered ---- */

void srn_advise_traffic_init(srn_advise_traffic *t) {
    *t = (srn_advise_traffic){.n = 0};
    srn_arena_init(&t->arena, ARENA_BYTES);
}

void srn_advise_traffic_done(srn_advise_traffic *t) {
    free(t->calls);
    srn_arena_done(&t->arena);
    *t = (srn_advise_traffic){.n = 0};
}

int srn_advise_traffic_route(srn_advise_traffic *t, srn_str name, uint32_t *ret, srn_err *err) {
    name.len = SRN_MIN(name.len, (size_t)NAME_BYTES);
    for (uint32_t i = 0; i < t->n_routes; i++)
        if (srn_str_eqz(name, t->routes[i].name)) return *ret = i, SRN_OK;
    if (t->n_routes == SRN_ADVISE_MOST_ROUTES)
        return srn_fail(err, SRN_ELIMIT,
                        "the calls are of more than %d routes; a filter such as route=NAME takes some",
                        SRN_ADVISE_MOST_ROUTES);
    const char *copy = srn_arena_strndup(&t->arena, name.ptr, name.len);
    if (!copy) return srn_fail_nomem(err, name.len);
    t->routes[t->n_routes].name = copy;
    *ret = t->n_routes++;
    return SRN_OK;
}

int srn_advise_traffic_add(srn_advise_traffic *t, const srn_advise_call *c, srn_err *err) {
    if (t->n == SRN_ADVISE_MOST_CALLS)
        return srn_fail(err, SRN_ELIMIT, "there are more than %d calls; look at a shorter time with --from",
                        SRN_ADVISE_MOST_CALLS);
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 1024;
        srn_advise_call *more = srn_realloc_array(t->calls, cap, sizeof *more);
        if (!more) return srn_fail_nomem(err, cap * sizeof *more);
        t->calls = more;
        t->cap = cap;
    }
    t->calls[t->n] = *c;
    t->calls[t->n].n_cached = SRN_MIN(c->n_cached, c->n_input);
    t->n++;
    return SRN_OK;
}

/* ---- sorted numbers ---- */

static int ascending_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Nearest rank of n ascending ones. */
static uint64_t quantile(const uint64_t *v, size_t n, double q) {
    size_t rank = (size_t)ceil(q * (double)n);
    return v[SRN_MIN(rank ? rank - 1 : 0, n - 1)];
}

typedef struct gathering {
    const srn_advise_traffic *t;
    const bool *of;
    srn_mix *m;
    uint64_t *a, *b; /* [n] room for what is sorted */
    size_t n, timed;
    uint64_t from_us, until_us;
} gathering;

static bool is_of(const gathering *g, const srn_advise_call *c) {
    return !g->of || g->of[c->route];
}

/* ---- tokens ---- */

typedef struct sized {
    uint32_t input, cached, output;
} sized;

static int by_input(const void *a, const void *b) {
    const sized *x = a, *y = b;
    return (x->input > y->input) - (x->input < y->input);
}

/* Prompts in ascending order with the sums up to each. */
static int sort_prompts(gathering *g, srn_err *err) {
    srn_mix *m = g->m;
    size_t n = 0;
    sized *all = srn_calloc(m->n, sizeof *all);
    m->prompts = srn_calloc(m->n, sizeof *m->prompts);
    m->sums = srn_calloc(3 * (m->n + 1), sizeof *m->sums);
    if (!all || !m->prompts || !m->sums) return free(all), srn_fail_nomem(err, m->n * sizeof *all);
    for (size_t i = 0; i < g->t->n; i++) {
        const srn_advise_call *c = &g->t->calls[i];
        if (!is_of(g, c)) continue;
        m->estimated += c->estimated;
        all[n++] = (sized){c->n_input, c->n_cached, c->n_output};
    }
    qsort(all, n, sizeof *all, by_input);
    for (size_t i = 0; i < n; i++) {
        const uint32_t add[3] = {all[i].input, all[i].cached, all[i].output};
        m->prompts[i] = all[i].input;
        for (size_t k = 0; k < 3; k++) m->sums[3 * (i + 1) + k] = m->sums[3 * i + k] + add[k];
        g->a[i] = all[i].input;
        g->b[i] = all[i].output;
    }
    free(all);
    return SRN_OK;
}

static int count_tokens(gathering *g, srn_err *err) {
    srn_mix *m = g->m;
    int code = sort_prompts(g, err);
    if (code) return code;
    double n = (double)m->n;
    const double *all = m->sums + 3 * m->n;
    m->input = all[0] / n;
    m->cached = all[1] / n;
    m->output = all[2] / n;
    m->estimated /= n;
    qsort(g->b, m->n, sizeof *g->b, ascending_u64);
    m->prompt_p50 = (uint32_t)quantile(g->a, m->n, 0.5);
    m->prompt_p95 = (uint32_t)quantile(g->a, m->n, 0.95);
    m->output_p50 = (uint32_t)quantile(g->b, m->n, 0.5);
    m->output_p95 = (uint32_t)quantile(g->b, m->n, 0.95);
    if (m->prompt_p95 >= LONG_PROMPT)
        m->shape = m->output_p50 >= LONG_ANSWER ? SRN_MIX_LONG_GENERATION : SRN_MIX_LONG_READING;
    else if (m->output_p95 <= SHORT_LABEL)
        m->shape = SRN_MIX_CLASSIFICATION;
    else
        m->shape = m->output_p50 > m->prompt_p50 ? SRN_MIX_GENERATION : SRN_MIX_CHAT;
    return SRN_OK;
}

/* ---- times ---- */

/* The observation, which is that of all routes: one without calls for a week has few calls a week. */
static void find_span(gathering *g) {
    const srn_advise_traffic *t = g->t;
    uint64_t first = UINT64_MAX, last = 0;
    for (size_t i = 0; i < t->n; i++) {
        const srn_advise_call *c = &t->calls[i];
        if (!c->begun_us) continue;
        first = SRN_MIN(first, c->begun_us);
        last = SRN_MAX(last, c->begun_us + SRN_MIN(c->total_us, UINT64_MAX - c->begun_us));
    }
    g->from_us = t->from_us ? t->from_us : first;
    g->until_us = t->until_us ? t->until_us : last;
}

/* Counts of the windows from the first to the last one, most of which may be empty: counts[i] is how many
 * calls a window with some has. Returns how many have. */
static size_t count_windows(const gathering *g, double window_us, uint64_t *counts) {
    size_t windows = 0;
    uint64_t last = UINT64_MAX;
    for (size_t i = 0; i < g->timed; i++) { /* g->a: begins, ascending */
        uint64_t at = g->a[i] < g->from_us ? 0 : (uint64_t)((double)(g->a[i] - g->from_us) / window_us);
        if (at != last || !windows) counts[windows++] = 0;
        counts[windows - 1]++;
        last = at;
    }
    return windows;
}

static void find_bursts(gathering *g) {
    static const struct {
        const char *name;
        double us;
    } windows[] = {{"minute", 60e6}, {"hour", 3600e6}, {"day", DAY_US}};
    srn_mix *m = g->m;
    double span = (double)(g->until_us - g->from_us);
    size_t w = 0;
    while (w + 1 < SRN_LEN(windows) && (double)g->timed * windows[w].us < span)
        w++; /* a mean of one at least */
    double all = SRN_MAX(1, ceil(span / windows[w].us)), mean = (double)g->timed / all;
    size_t some = count_windows(g, windows[w].us, g->b);
    qsort(g->b, some, sizeof *g->b, ascending_u64);
    double empty = SRN_MAX(0, all - (double)some), rank = SRN_MAX(1, ceil(0.95 * all));
    double p95 = rank <= empty ? 0 : (double)g->b[SRN_MIN((size_t)(rank - empty), some) - 1];
    m->window = windows[w].name;
    m->burst = SRN_MAX(1, p95 / mean);
    m->pace = all < 20 ? SRN_MIX_PACE_UNKNOWN : m->burst > BURSTY ? SRN_MIX_BURSTY : SRN_MIX_STEADY;
}

/* What the number of calls a month may be off by, for it was watched for so long only: the spread of the days
 * where there are three or more, and never less than that of independent calls. */
static void find_volume(gathering *g) {
    srn_mix *m = g->m;
    double n = (double)m->n, off = Z95 / sqrt(n), days = floor(m->span_days);
    m->volume = (srn_bounds){1, 1};
    m->more = 1;
    if (g->t->calls_per_day > 0) {
        m->calls_per_month = g->t->calls_per_day * SRN_MONTH_DAYS * n / (double)g->t->n;
        if (m->span_days > 0) m->more = m->calls_per_month / (n / m->span_days * SRN_MONTH_DAYS);
        return;
    }
    m->calls_per_month = n / m->span_days * SRN_MONTH_DAYS;
    if (days >= 3 && g->timed) {
        size_t some = count_windows(g, DAY_US, g->b);
        double mean = 0, square = 0;
        for (size_t i = 0; i < some; i++) mean += (double)g->b[i];
        days = SRN_MAX(days, (double)some);
        mean /= days;
        for (size_t i = 0; i < some; i++) square += ((double)g->b[i] - mean) * ((double)g->b[i] - mean);
        square += (days - (double)some) * mean * mean;
        off = SRN_MAX(off, Z95 * sqrt(square / (days - 1)) / sqrt(days) / mean);
    }
    m->volume = (srn_bounds){SRN_MAX(0, 1 - off), 1 + off};
}

/* How many run when a call begins, itself included: g->a begins and g->b ends, both ascending. */
static int find_in_flight(gathering *g, srn_err *err) {
    srn_mix *m = g->m;
    size_t n = 0, ended = 0;
    double busy = 0;
    for (size_t i = 0; i < g->t->n; i++) {
        const srn_advise_call *c = &g->t->calls[i];
        if (!is_of(g, c) || !c->begun_us || !c->total_us) continue;
        g->a[n] = c->begun_us;
        g->b[n++] = c->begun_us + SRN_MIN(c->total_us, UINT64_MAX - c->begun_us);
        busy += (double)c->total_us;
    }
    if (!n) return SRN_OK;
    uint64_t *found = srn_calloc(n, sizeof *found);
    if (!found) return srn_fail_nomem(err, n * sizeof *found);
    qsort(g->a, n, sizeof *g->a, ascending_u64);
    qsort(g->b, n, sizeof *g->b, ascending_u64);
    for (size_t i = 0; i < n; i++) {
        while (g->b[ended] <= g->a[i]) ended++;
        found[i] = i + 1 - ended;
    }
    qsort(found, n, sizeof *found, ascending_u64);
    m->seconds = busy / (double)n / 1e6;
    m->in_flight_mean = busy / 1e6 / (m->span_days * 86400);
    m->in_flight_p50 = (double)quantile(found, n, 0.5);
    m->in_flight_p95 = (double)quantile(found, n, 0.95);
    m->in_flight_max = (double)found[n - 1];
    free(found);
    return SRN_OK;
}

/* What the machine that answered did: a prompt's uncached tokens between queue and first token, and an
 * answer's tokens by their gaps. One answer's rate is the least that it can do in all, and as many times that
 * as ran at once (p95) the most that was seen. */
static void find_capacity(gathering *g) {
    srn_mix *m = g->m;
    double read = 0, read_us = 0, gaps = 0, gaps_us = 0;
    for (size_t i = 0; i < g->t->n; i++) {
        const srn_advise_call *c = &g->t->calls[i];
        if (!is_of(g, c) || c->elsewhere) continue;
        if (c->ttft_us > c->queue_us && c->n_input > c->n_cached) {
            read += (double)(c->n_input - c->n_cached);
            read_us += (double)(c->ttft_us - c->queue_us);
        }
        if (c->itl_us && c->n_output > 1) {
            gaps += (double)(c->n_output - 1);
            gaps_us += (double)c->itl_us * (double)(c->n_output - 1);
        }
    }
    if (read_us <= 0 || gaps_us <= 0 || m->in_flight_max < 1) return;
    double one = gaps / gaps_us * 1e6, parallel = SRN_MAX(m->in_flight_max, g->t->parallel);
    m->measured = (srn_capacity){.source = SRN_FACT_MEASURED,
                                 .prefill_tok_per_s = {read / read_us * 1e6, read / read_us * 1e6},
                                 .decode_tok_per_s = {one, one * SRN_MAX(1, m->in_flight_p95)},
                                 .parallel = {parallel, parallel}};
}

static int find_times(gathering *g, srn_err *err) {
    srn_mix *m = g->m;
    for (size_t i = 0; i < g->t->n; i++)
        if (is_of(g, &g->t->calls[i]) && g->t->calls[i].begun_us) g->a[g->timed++] = g->t->calls[i].begun_us;
    find_span(g);
    bool known = g->until_us > g->from_us;
    if (!known && g->t->calls_per_day <= 0)
        return srn_fail(
            err, SRN_EFORMAT,
            "nothing says how often these calls come: they have no times; --calls-per-day N tells");
    m->window = "";
    m->burst = 1;
    if (known) {
        m->span_days = (double)(g->until_us - g->from_us) / DAY_US;
        qsort(g->a, g->timed, sizeof *g->a, ascending_u64);
        if (g->timed) find_bursts(g);
    }
    find_volume(g);
    return known ? find_in_flight(g, err) : SRN_OK;
}

int srn_mix_of(const srn_advise_traffic *t, const bool *of, srn_mix *ret, srn_err *err) {
    *ret = (srn_mix){.local_only = true, .batch = true};
    gathering g = {.t = t, .of = of, .m = ret};
    for (size_t i = 0; i < t->n; i++) ret->n += is_of(&g, &t->calls[i]);
    for (uint32_t i = 0; i < t->n_routes; i++) {
        if (of && !of[i]) continue;
        ret->local_only = ret->local_only && t->routes[i].local_only;
        ret->batch = ret->batch && t->routes[i].batch;
    }
    if (!ret->n) return srn_fail(err, SRN_EFORMAT, "there is no call to advise on");
    g.a = srn_calloc(ret->n, sizeof *g.a);
    g.b = srn_calloc(ret->n, sizeof *g.b);
    int code = g.a && g.b ? count_tokens(&g, err) : srn_fail_nomem(err, 2 * ret->n * sizeof *g.a);
    if (!code) code = find_times(&g, err);
    if (!code) find_capacity(&g);
    free(g.a);
    free(g.b);
    if (code) srn_mix_done(ret);
    return code;
}

void srn_mix_done(srn_mix *m) {
    free(m->prompts);
    free(m->sums);
    *m = (srn_mix){.n = 0};
}
