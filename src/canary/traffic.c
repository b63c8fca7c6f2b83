/* What a simulation is asked for, read from JSON and from words: traffic and effects. Pure; any thread. */
#include "canary/canary_internal.h"

#include <math.h>
#include <stdlib.h>

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
