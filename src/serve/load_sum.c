/* What the answers of a load add up to. Pure. An answer that failed counts in no time, and is never good. */
#include <math.h>
#include <stdlib.h>

#include "serve/load.h"

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double rank(const double *v, size_t n, double q) {
    size_t i = (size_t)ceil(q * (double)n);
    return v[i ? SRN_MIN(i, n) - 1 : 0];
}

/* The most values k below the median's interval: the k-th and the (n+1-k)-th enclose it with a probability of
 * 1 - 2 P(B(n, 1/2) < k), which is to be 95 % at least. 0: there is none. */
static size_t below_median(size_t n) {
    if (n > 1000) return (size_t)floor((double)n / 2 - 0.98 * sqrt((double)n));
    double p = exp2(-(double)n), sum = 0;
    size_t k = 0;
    while (k < n && sum + p <= 0.025) {
        sum += p;
        p *= (double)(n - k) / (double)(k + 1);
        k++;
    }
    return k;
}

srn_load_spread srn_load_spread_of(double *v, size_t n) {
    srn_load_spread s = {n, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    double sum = 0;
    if (!n) return s;
    qsort(v, n, sizeof *v, ascending);
    for (size_t i = 0; i < n; i++) sum += v[i];
    size_t k = below_median(n);
    s.mean = sum / (double)n;
    s.p50 = rank(v, n, 0.5);
    s.p90 = rank(v, n, 0.9);
    s.p95 = rank(v, n, 0.95);
    s.p99 = rank(v, n, 0.99);
    s.max = v[n - 1];
    if (k) s.low = v[k - 1], s.high = v[n - k];
    return s;
}

double srn_load_tpot_us(const srn_load_answer *a) {
    if (!a->streamed || a->n_output < 2 || a->last_us <= a->first_us) return NAN;
    return (double)(a->last_us - a->first_us) / (a->n_output - 1);
}

static uint64_t longest_gap(const srn_load_answer *a) {
    uint64_t most = 0;
    for (size_t i = 0; i < a->n_gaps; i++) most = SRN_MAX(most, a->gaps_us[i]);
    return most;
}

bool srn_load_is_good(const srn_load_answer *a, const srn_load_slo *slo) {
    double tpot = srn_load_tpot_us(a);
    if (a->why.code) return false;
    if (slo->ttft_us && !(a->streamed && a->first_us && a->first_us - a->due_us <= slo->ttft_us))
        return false;
    if (slo->itl_us && !isnan(tpot) && tpot > (double)slo->itl_us) return false;
    if (slo->gap_us && longest_gap(a) > slo->gap_us) return false;
    return !slo->e2e_us || a->ended_us - a->due_us <= slo->e2e_us;
}

typedef struct columns {
    double *v, *ttft, *tpot, *e2e, *late, *input, *output, *gaps; /* v: the memory of all */
    size_t n_ttft, n_tpot, n, n_gaps;                             /* n: answered */
} columns;

static int columns_init(columns *c, const srn_load_run *r, srn_err *err) {
    size_t gaps = 0;
    for (size_t i = 0; i < r->n; i++) gaps += r->answers[i].n_gaps;
    *c = (columns){.v = srn_calloc(6 * r->n + gaps + 1, sizeof(double))};
    if (!c->v) return srn_fail_nomem(err, (6 * r->n + gaps) * sizeof(double));
    double **const parts[] = {&c->ttft, &c->tpot, &c->e2e, &c->late, &c->input, &c->output, &c->gaps};
    for (size_t i = 0; i < SRN_LEN(parts); i++) *parts[i] = c->v + i * r->n;
    return SRN_OK;
}

static void take(columns *c, srn_load_sum *s, const srn_load_answer *a) {
    double tpot = srn_load_tpot_us(a);
    if (a->streamed && a->first_us) c->ttft[c->n_ttft++] = (double)(a->first_us - a->due_us) / 1e3;
    if (!isnan(tpot)) c->tpot[c->n_tpot++] = tpot / 1e3;
    for (size_t i = 0; i < a->n_gaps; i++) c->gaps[c->n_gaps++] = (double)a->gaps_us[i] / 1e3;
    c->e2e[c->n] = (double)(a->ended_us - a->due_us) / 1e3;
    c->late[c->n] = (double)(a->begun_us - a->due_us) / 1e3;
    c->input[c->n] = a->n_input;
    c->output[c->n] = a->n_output;
    c->n++;
    s->n_input += a->n_input;
    s->n_cached += a->n_cached;
    s->n_output += a->n_output;
    s->pieces_counted = s->pieces_counted || !a->has_usage;
}

int srn_load_add_up(const srn_load_run *r, const srn_load_slo *slo, srn_load_sum *ret, srn_err *err) {
    srn_load_sum s = {.n = r->n};
    uint64_t from = UINT64_MAX, until = 0;
    double busy = 0;
    columns c;
    int code = columns_init(&c, r, err);
    if (code) return code;
    for (size_t i = 0; i < r->n; i++) {
        const srn_load_answer *a = &r->answers[i];
        from = SRN_MIN(from, a->due_us);
        until = SRN_MAX(until, a->ended_us);
        busy += (double)(a->ended_us - a->due_us);
        s.n_good += srn_load_is_good(a, slo);
        if (a->why.code)
            s.n_failed++;
        else
            take(&c, &s, a);
    }
    s.ttft = srn_load_spread_of(c.ttft, c.n_ttft);
    s.tpot = srn_load_spread_of(c.tpot, c.n_tpot);
    s.itl = srn_load_spread_of(c.gaps, c.n_gaps);
    s.e2e = srn_load_spread_of(c.e2e, c.n);
    s.late = srn_load_spread_of(c.late, c.n);
    s.input = srn_load_spread_of(c.input, c.n);
    s.output = srn_load_spread_of(c.output, c.n);
    free(c.v);
    if (r->n) {
        double us = (double)SRN_MAX(until - from, UINT64_C(1));
        s.seconds = us / 1e6;
        s.in_flight = busy / us;
        s.tok_per_s = (double)s.n_output / s.seconds;
        s.req_per_s = (double)c.n / s.seconds;
        s.good_share = (double)s.n_good / (double)r->n;
        s.good_per_s = (double)s.n_good / s.seconds;
    }
    *ret = s;
    return SRN_OK;
}
