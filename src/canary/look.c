/* A look as JSON and back: what the log keeps of a decision. Reading refuses what no look can be. Pure. */
#include "canary/canary_internal.h"

#include <math.h>

/* ---- fields of a finding, in the order in which they are written ---- */

typedef enum kind { REAL, COUNT, FLAG } kind;
typedef struct field {
    const char *name;
    kind kind;
    uint32_t n; /* 2: [control, canary] */
    size_t offset;
} field;
#define AT(member) offsetof(srn_finding, member)
static const field finding_fields[] = {
    {"subjects", COUNT, 2, AT(n_subjects)},
    {"calls", COUNT, 2, AT(n_calls)},
    {"missing", COUNT, 2, AT(n_missing)},
    {"missing_run", COUNT, 2, AT(missing_run)},
    {"weight", REAL, 2, AT(weight)},
    {"mean", REAL, 2, AT(mean)},
    {"variance", REAL, 1, AT(variance)},
    {"freedom", REAL, 1, AT(freedom)},
    {"estimate", REAL, 1, AT(estimate)},
    {"low", REAL, 1, AT(low)},
    {"high", REAL, 1, AT(high)},
    {"evalue", REAL, 1, AT(evalue)},
    {"alpha", REAL, 1, AT(alpha)},
    {"margin", REAL, 1, AT(margin)},
    {"guarded", FLAG, 1, AT(guarded)},
    {"enough", FLAG, 1, AT(enough)},
    {"broken", FLAG, 1, AT(broken)},
    {"cleared", FLAG, 1, AT(cleared)},
};
#undef AT
#define AT(member) offsetof(srn_look, member)
static const field look_fields[] = {
    {"at_us", COUNT, 1, AT(at_us)},
    {"srm_p", REAL, 1, AT(srm_p)},
    {"exposed", COUNT, 1, AT(n_exposed)},
    {"subjects", COUNT, 2, AT(n_subjects)},
    {"calls", COUNT, 2, AT(n_calls)},
    {"newest_us", COUNT, 1, AT(newest_us)},
    {"observed_us", COUNT, 1, AT(observed_us)},
    {"since_canary", COUNT, 1, AT(since_canary)},
};
#undef AT

/* ---- writing ---- */

static json_t *one_json(const char *at, kind k) {
    double v = 0;
    uint64_t n = 0;
    bool b = false;
    switch (k) {
    case FLAG:
        memcpy(&b, at, sizeof b);
        return json_boolean(b);
    case COUNT:
        memcpy(&n, at, sizeof n);
        return json_integer((json_int_t)SRN_MIN(n, (uint64_t)INT64_MAX));
    default:
        memcpy(&v, at, sizeof v);
        return isfinite(v) ? json_real(v) : json_null();
    }
}

static void put_fields(json_t *o, const void *base, const field *fields, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const char *at = (const char *)base + fields[i].offset;
        json_t *v = one_json(at, fields[i].kind);
        if (fields[i].n == 2) {
            json_t *pair = json_array();
            json_array_append_new(pair, v);
            json_array_append_new(pair, one_json(at + 8, fields[i].kind));
            v = pair;
        }
        json_object_set_new(o, fields[i].name, v);
    }
}

json_t *srn_look_json(const srn_look *l) {
    json_t *o = json_object(), *findings = json_object();
    for (unsigned m = 0; m < SRN_METRIC_END; m++) {
        json_t *f = json_object();
        put_fields(f, &l->findings[m], finding_fields, SRN_LEN(finding_fields));
        json_object_set_new(findings, srn_metric_name((srn_metric)m), f);
    }
    const char *metric = srn_metric_name(l->metric);
    json_object_set_new(o, "verdict", json_string(srn_verdict_name(l->verdict)));
    json_object_set_new(o, "metric", metric ? json_string(metric) : json_null());
    json_object_set_new(o, "why", json_string(l->why));
    json_object_set_new(o, "step", json_integer(l->step));
    json_object_set_new(o, "compared", json_integer(l->compared));
    put_fields(o, l, look_fields, SRN_LEN(look_fields));
    json_object_set_new(o, "findings", findings);
    return o;
}

/* ---- reading ---- */

static bool take_one(const json_t *j, kind k, char *at) {
    if (k == FLAG) {
        bool b = json_is_true(j);
        memcpy(at, &b, sizeof b);
        return json_is_boolean(j);
    }
    if (k == COUNT) {
        uint64_t n = (uint64_t)json_integer_value(j);
        memcpy(at, &n, sizeof n);
        return json_is_integer(j) && json_integer_value(j) >= 0;
    }
    double v = json_is_null(j) ? NAN : json_number_value(j);
    memcpy(at, &v, sizeof v);
    return json_is_null(j) || (json_is_number(j) && isfinite(v));
}

static int take_fields(const json_t *o, const char *what, void *base, const field *fields, size_t n,
                       srn_err *err) {
    for (size_t i = 0; i < n; i++) {
        const json_t *j = json_object_get(o, fields[i].name);
        char *at = (char *)base + fields[i].offset;
        bool ok = fields[i].n == 1
                      ? take_one(j, fields[i].kind, at)
                      : json_array_size(j) == 2 && take_one(json_array_get(j, 0), fields[i].kind, at) &&
                            take_one(json_array_get(j, 1), fields[i].kind, at + 8);
        if (!ok)
            return srn_fail(err, SRN_EINVAL, "a look: %s.%s is missing or of another type", what,
                            fields[i].name);
    }
    return SRN_OK;
}

static bool take_step(const json_t *o, const char *key, uint32_t *ret) {
    const json_t *j = json_object_get(o, key);
    json_int_t v = json_integer_value(j);
    if (!json_is_integer(j) || v < 0 || v >= SRN_ROLLOUT_STEPS) return false;
    *ret = (uint32_t)v;
    return true;
}

static bool take_words(const json_t *o, srn_look *l) {
    const char *verdict = json_string_value(json_object_get(o, "verdict"));
    const json_t *metric = json_object_get(o, "metric");
    bool known = false;
    for (unsigned v = 0; verdict && v <= SRN_VERDICT_ROLL_BACK && !known; v++) {
        known = strcmp(verdict, srn_verdict_name((srn_verdict)v)) == 0;
        if (known) l->verdict = (srn_verdict)v;
    }
    l->metric = SRN_METRIC_END;
    srn__canary_text(l->why, sizeof l->why, json_string_value(json_object_get(o, "why")));
    return known &&
           (json_is_null(metric) ||
            (json_is_string(metric) && srn_metric_of(srn_str_of(json_string_value(metric)), &l->metric)));
}

int srn_look_parse(const json_t *o, srn_look *ret, srn_err *err) {
    srn_look l;
    memset(&l, 0, sizeof l);
    if (!take_words(o, &l))
        return srn_fail(err, SRN_EINVAL, "a look: verdict or metric is missing or none that there is");
    if (!take_step(o, "step", &l.step) || !take_step(o, "compared", &l.compared))
        return srn_fail(err, SRN_EINVAL, "a look: step and compared are numbers below %d", SRN_ROLLOUT_STEPS);
    int code = take_fields(o, "look", &l, look_fields, SRN_LEN(look_fields), err);
    const json_t *findings = json_object_get(o, "findings");
    for (unsigned m = 0; !code && m < SRN_METRIC_END; m++) {
        const char *name = srn_metric_name((srn_metric)m);
        code = take_fields(json_object_get(findings, name), name, &l.findings[m], finding_fields,
                           SRN_LEN(finding_fields), err);
    }
    if (!code) *ret = l;
    return code;
}
