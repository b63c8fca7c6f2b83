/* What a simulation is asked for, read from JSON and from words: traffic and effects. Pure; any thread. */
#include "canary/canary_internal.h"

#include <math.h>
#include <stdlib.h>

#include "base/num.h"

/* ---- traffic ---- */

static const struct {
    const char *name;
    size_t offset;
    double min, max;
} numbers[] = {
    {"zipf", offsetof(srn_traffic, zipf), 0, 5},
    {"icc", offsetof(srn_traffic, icc), 0, 0.5},
    {"drift", offsetof(srn_traffic, drift), 0, 1},
    {"calls_per_day", offsetof(srn_traffic, calls_per_day), 1, 1e9},
    {"history_calls", offsetof(srn_traffic, history_calls), 0, 1e12},
    {"newcomers", offsetof(srn_traffic, newcomers), 0, 1},
    {"stale", offsetof(srn_traffic, stale), 0, 1},
};

static int take(const char *what, const char *key, const json_t *j, double min, double max, double *ret,
                srn_err *err) {
    double v = json_number_value(j);
    if (!json_is_number(j) || !(v >= min) || !(v <= max))
        return srn_fail(err, SRN_EINVAL, "%s: %s: needs a number from %g to %g", what, key, min, max);
    *ret = v;
    return SRN_OK;
}

static int take_metric(const char *what, srn_metric m, const json_t *o, srn_traffic *t, srn_err *err) {
    const char *key;
    json_t *j;
    char name[80];
    bool ratio = srn_metric_is_ratio(m), share = srn__metric_kind(m) == SRN__KIND_SHARE;
    if (!json_is_object(o))
        return srn_fail(err, SRN_EINVAL, "%s: %s: needs {rate, sd, known}", what, srn_metric_name(m));
    json_object_foreach((json_t *)(uintptr_t)o, key, j) {
        int code;
        snprintf(name, sizeof name, "%s.%.20s", srn_metric_name(m), key);
        if (strcmp(key, "rate") == 0)
            code = take(what, name, j, ratio ? 1e-3 : 0, ratio ? 1e9 : share ? 1 : 20, &t->rate[m], err);
        else if (strcmp(key, "sd") == 0)
            code = take(what, name, j, 0, 10, &t->sd[m], err);
        else if (strcmp(key, "known") == 0)
            code = take(what, name, j, 0, 1, &t->known[m], err);
        else
            code = srn_fail(err, SRN_EINVAL, "%s: %s: there is no such key", what, name);
        if (code) return code;
    }
    return SRN_OK;
}

static int take_key(const char *what, const char *key, const json_t *j, srn_traffic *t, srn_err *err) {
    srn_metric m;
    double v = 0;
    if (strcmp(key, "subjects") == 0) {
        int code = take(what, key, j, 2, 1000000, &v, err);
        if (!code) t->n_subjects = (uint32_t)v;
        return code;
    }
    for (size_t i = 0; i < SRN_LEN(numbers); i++)
        if (strcmp(key, numbers[i].name) == 0)
            return take(what, key, j, numbers[i].min, numbers[i].max,
                        (double *)(void *)((char *)t + numbers[i].offset), err);
    if (srn_metric_of(srn_str_of(key), &m)) return take_metric(what, m, j, t, err);
    return srn_fail(err, SRN_EINVAL, "%s: %.40s: there is no such key; docs/canary.md lists them", what, key);
}

int srn_traffic_parse(const json_t *o, const char *what, srn_traffic *ret, srn_err *err) {
    const char *key;
    json_t *j;
    srn_traffic t;
    srn_traffic_default(&t);
    if (!json_is_object(o)) return srn_fail(err, SRN_EINVAL, "%s: traffic is an object", what);
    json_object_foreach((json_t *)(uintptr_t)o, key, j) {
        int code = take_key(what, key, j, &t, err);
        if (code) return code;
    }
    *ret = t;
    return SRN_OK;
}

/* ---- effects ---- */

int srn_effect_parse(const char *text, srn_effect *ret, srn_err *err) {
    const char *eq = strchr(text, '=');
    srn_effect e = {.by = 0};
    char *end;
    if (!eq || !srn_metric_of((srn_str){text, (size_t)(eq - text)}, &e.metric))
        return srn_fail(err, SRN_EINVAL,
                        "'%.60s' is no effect; write METRIC=+15%% as in itl=+15%%, error=+5%%", text);
    e.by = strtod(eq + 1, &end);
    bool percent = *end == '%', ratio = srn_metric_is_ratio(e.metric);
    if (percent) e.by /= 100, end++;
    if (end == eq + 1 || *end || !isfinite(e.by) || e.by <= -1 || e.by > 100 || (ratio && !percent))
        return srn_fail(err, SRN_EINVAL, "'%.60s': %s needs %s", text, srn_metric_name(e.metric),
                        ratio ? "percent, as +15%" : "a difference, as +5% or 0.05");
    *ret = e;
    return SRN_OK;
}

/* ---- traffic from calls ---- */

static int by_subject(const void *a, const void *b) {
    uint64_t x = ((const srn_past_call *)a)->subject, y = ((const srn_past_call *)b)->subject;
    return (x > y) - (x < y);
}

static int by_number(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Mean and spread of one metric's scores over calls sorted by subject; the correlation within subjects by
 * one-way analysis of variance (NAN: none can be told). */
static void measure(const srn_past_call *calls, size_t n, srn_metric m, srn_traffic *t, double *ret_icc) {
    double sum = 0, sq = 0, within = 0, groups = 0, sizes = 0;
    size_t known = 0;
    *ret_icc = NAN;
    for (size_t i = 0; i < n;) {
        double own = 0, own_sq = 0, k = 0;
        size_t j = i;
        for (; j < n && calls[j].subject == calls[i].subject; j++) {
            double y = srn_metric_score(m, calls[j].values[m]);
            if (isnan(y)) continue;
            own += y, own_sq += y * y, k++;
        }
        if (k > 0) sum += own, sq += own_sq, within += own_sq - own * own / k, groups++, sizes += k * k;
        known += (size_t)k;
        i = j;
    }
    double all = (double)known;
    t->known[m] = n ? all / (double)n : 0;
    if (known < 2) return;
    double mean = sum / all, total = sq - sum * mean;
    bool share = srn__metric_kind(m) == SRN__KIND_SHARE;
    t->rate[m] = srn_metric_is_ratio(m) ? srn_exp(mean) : mean;
    t->sd[m] = share ? 0 : sqrt(SRN_MAX(total, 0) / (all - 1));
    if (groups < 2 || all - groups < 1 || !(within > 0)) return;
    double size = (all - sizes / all) / (groups - 1), msw = within / (all - groups),
           msb = (total - within) / (groups - 1);
    *ret_icc = SRN_MAX(0, (msb - msw) / (msb + (size - 1) * msw));
}

/* The exponent of activity by rank: least squares of logarithms over the busier half. */
static double zipf_of(double *sizes, size_t n) {
    double x1 = 0, y1 = 0, xx = 0, xy = 0, k = (double)SRN_MAX(n / 2, (size_t)2);
    qsort(sizes, n, sizeof *sizes, by_number);
    if (n < 4) return 0;
    for (size_t i = 0; i < (size_t)k; i++) {
        double x = srn_log((double)i + 1), y = srn_log(sizes[n - 1 - i]);
        x1 += x, y1 += y, xx += x * x, xy += x * y;
    }
    double slope = (xy - x1 * y1 / k) / (xx - x1 * x1 / k);
    return SRN_MAX(0, SRN_MIN(3, -slope));
}

int srn_traffic_of(srn_past_call *calls, size_t n, srn_traffic *ret, srn_err *err) {
    srn_traffic t;
    double *sizes = srn_calloc(n ? n : 1, sizeof *sizes), icc[2];
    size_t subjects = 0;
    uint64_t first = UINT64_MAX, last = 0;
    srn_traffic_default(&t);
    if (!sizes) return srn_fail_nomem(err, n * sizeof *sizes);
    qsort(calls, n, sizeof *calls, by_subject);
    for (size_t i = 0; i < n; i++) {
        if (i && calls[i].subject != calls[i - 1].subject) subjects++;
        sizes[subjects]++;
        first = SRN_MIN(first, calls[i].at_us), last = SRN_MAX(last, calls[i].at_us);
    }
    subjects += n > 0;
    if (n < 100 || subjects < 2 || last - first < 60000000) {
        free(sizes);
        return srn_fail(
            err, SRN_EINVAL,
            "%zu calls of %zu subjects are too few to learn traffic from; it takes 100 calls over "
            "a minute. --traffic FILE describes it instead",
            n, subjects);
    }
    t.n_subjects = (uint32_t)SRN_MIN(subjects, (size_t)1000000);
    t.zipf = zipf_of(sizes, subjects);
    t.calls_per_day = (double)n * 86400e6 / (double)(last - first);
    t.history_calls = (double)n;
    measure(calls, n, SRN_METRIC_ITL, &t, &icc[0]);
    t.icc = isnan(icc[0]) ? t.icc : SRN_MIN(icc[0], 0.5);
    static const srn_metric others[] = {SRN_METRIC_ERROR, SRN_METRIC_CUT, SRN_METRIC_TTFT, SRN_METRIC_LENGTH};
    for (size_t i = 0; i < SRN_LEN(others); i++) measure(calls, n, others[i], &t, &icc[1]);
    free(sizes);
    *ret = t;
    return SRN_OK;
}
