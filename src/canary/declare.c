/* A declaration: JSON (or a section of serin.yaml as JSON) becomes a checked srn_rollout with its canonical
 * JSON and hash. Strict: what is unknown, missing, of another type or out of range is refused with its key.
 * Pure; any thread, and fuzzers.
 */
#include "canary/canary_internal.h"

#include <stdlib.h>

enum { ARENA_BYTES = 1 << 20, TEXT_MAX = 256, URL_MAX = 2048, MAX_ROUTES = 256, MAX_OPT_OUT = 4096 };

typedef struct reader {
    srn_rollout *r;
    const char *what; /* for messages */
    srn_err *err;
} reader;

static int wrong(const reader *x, const char *key, const char *fmt, ...) SRN_PRINTF(3, 4);
static int wrong(const reader *x, const char *key, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    srn_vfail(x->err, SRN_EINVAL, fmt, ap);
    va_end(ap);
    if (*key) srn_fail_prefix(x->err, SRN_EINVAL, "%s", key);
    return srn_fail_prefix(x->err, SRN_EINVAL, "%s", x->what);
}

/* ---- values ---- */

/* To twelve digits, so that 0.1% and 0.001 are one number and one hash. */
static double rounded(double v) {
    char text[40];
    snprintf(text, sizeof text, "%.12g", v);
    return strtod(text, NULL);
}

/* 0.05, or "5%". */
static int read_share(const reader *x, const char *key, const json_t *j, double min, double max,
                      double *ret) {
    double v = json_number_value(j);
    bool ok = json_is_number(j);
    if (json_is_string(j)) {
        const char *z = json_string_value(j);
        char *end;
        v = strtod(z, &end) / 100;
        ok = end != z && strcmp(end, "%") == 0 && z[0] >= '0' && z[0] <= '9';
    }
    v = rounded(v);
    if (!ok || !(v >= min) || !(v <= max))
        return wrong(x, key, "needs a share from %g to %g, as 0.05 or 5%%", min, max);
    *ret = v;
    return SRN_OK;
}

static const struct {
    const char *name;
    uint64_t us;
} units[] = {{"d", 86400000000}, {"h", 3600000000}, {"min", 60000000},
             {"m", 60000000},    {"s", 1000000},    {"ms", 1000}};

static int read_time(const reader *x, const char *key, const json_t *j, uint64_t min_us, uint64_t max_us,
                     uint64_t *ret) {
    const char *z = json_string_value(j);
    uint64_t v = 0;
    size_t i = 0;
    bool ok = z != NULL, known = false;
    for (; ok && z[i] >= '0' && z[i] <= '9'; i++)
        ok = srn_mul_u64(v, 10, &v) && srn_add_u64(v, (uint64_t)(z[i] - '0'), &v);
    for (size_t k = 0; ok && i && !known && k < SRN_LEN(units); k++)
        if (strcmp(z + i, units[k].name) == 0) known = srn_mul_u64(v, units[k].us, &v);
    if (!known) return wrong(x, key, "needs a time such as 500ms, 30s, 10m, 12h or 7d");
    if (v < min_us || v > max_us)
        return wrong(x, key, "must be from %llu s to %llu s", (unsigned long long)(min_us / 1000000),
                     (unsigned long long)(max_us / 1000000));
    *ret = v;
    return SRN_OK;
}

static json_t *time_json(uint64_t us) {
    size_t k = 0;
    char text[40];
    while (k + 1 < SRN_LEN(units) && us % units[k].us) k++;
    snprintf(text, sizeof text, "%llu%s", (unsigned long long)(us / units[k].us), units[k].name);
    return json_string(text);
}

static int read_count(const reader *x, const char *key, const json_t *j, uint32_t min, uint32_t max,
                      uint32_t *ret) {
    json_int_t v = json_integer_value(j);
    if (!json_is_integer(j) || v < (json_int_t)min || v > (json_int_t)max)
        return wrong(x, key, "needs a whole number from %u to %u", min, max);
    *ret = (uint32_t)v;
    return SRN_OK;
}

static int read_text(const reader *x, const char *key, const json_t *j, size_t max, const char **ret) {
    size_t len = json_string_length(j);
    if (!json_is_string(j) || !len || len > max || strlen(json_string_value(j)) != len)
        return wrong(x, key, "needs a text of 1 to %zu bytes", max);
    *ret = srn_arena_strndup(&x->r->arena, json_string_value(j), len);
    return *ret ? SRN_OK : srn_fail_nomem(x->err, len);
}

static int read_texts(const reader *x, const char *key, const json_t *j, size_t max, const char *const **ret,
                      uint32_t *ret_n) {
    size_t n = json_array_size(j);
    if (!json_is_array(j) || n > max) return wrong(x, key, "needs a list of at most %zu names", max);
    const char **items = srn_arena_alloc(&x->r->arena, (n + 1) * sizeof *items);
    if (!items) return srn_fail_nomem(x->err, n * sizeof *items);
    for (size_t i = 0; i < n; i++) {
        int code = read_text(x, key, json_array_get(j, i), TEXT_MAX, &items[i]);
        if (code) return code;
    }
    *ret = items;
    *ret_n = (uint32_t)n;
    return SRN_OK;
}

static int read_word(const reader *x, const char *key, const json_t *j, const char *const *words, size_t n,
                     int *ret) {
    char all[128] = "";
    for (size_t i = 0; i < n; i++) {
        if (json_is_string(j) && strcmp(json_string_value(j), words[i]) == 0) {
            *ret = (int)i;
            return SRN_OK;
        }
        size_t at = strlen(all);
        snprintf(all + at, sizeof all - at, "%s%s", i ? ", " : "", words[i]);
    }
    return wrong(x, key, "needs one of %s", all);
}

/* ---- keys ---- */

typedef int read_fn(reader *x, const char *key, const json_t *j);
typedef struct field {
    const char *key;
    read_fn *read;
    bool needed;
} field;

/* path: of the object, "" or "evidence.". */
static int read_fields(reader *x, const char *path, const json_t *o, const field *fields, size_t n) {
    const char *key;
    json_t *j;
    char name[96];
    json_object_foreach((json_t *)(uintptr_t)o, key, j) {
        size_t i = 0;
        while (i < n && strcmp(key, fields[i].key) != 0) i++;
        if (i == n)
            return wrong(x, "", "%s%.40s: there is no such key; docs/canary.md lists them", path, key);
    }
    for (size_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s%s", path, fields[i].key);
        j = json_object_get(o, fields[i].key);
        if (json_is_null(j)) j = NULL;
        if (!j && fields[i].needed) return wrong(x, name, "is missing");
        int code = j ? fields[i].read(x, name, j) : SRN_OK;
        if (code) return code;
    }
    return SRN_OK;
}

static const char *const kinds[] = {
    [SRN_ROLLOUT_EQUIVALENT] = "equivalent", [SRN_ROLLOUT_DIFFERENT] = "different"};
static const char *const ends[] = {
    [SRN_AT_END_HOLD] = "hold", [SRN_AT_END_PROMOTE] = "promote", [SRN_AT_END_ROLL_BACK] = "roll_back"};
static const char *const clears[] = {"last", "every"};

static int read_name(reader *x, const char *key, const json_t *j) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    int code = read_text(x, key, j, SRN_ROLLOUT_NAME_MAX, &x->r->name);
    if (!code && x->r->name[strspn(x->r->name, letters)])
        code = wrong(x, key, "may have letters, digits and . _ - only");
    return code;
}
static int read_kind(reader *x, const char *key, const json_t *j) {
    int v = 0, code = read_word(x, key, j, kinds, SRN_LEN(kinds), &v);
    x->r->kind = (srn_rollout_kind)v;
    return code;
}
static int read_baseline(reader *x, const char *key, const json_t *j) {
    return read_text(x, key, j, TEXT_MAX, &x->r->baseline);
}
static int read_canary(reader *x, const char *key, const json_t *j) {
    return read_text(x, key, j, TEXT_MAX, &x->r->canary);
}
static int read_prompt_id(reader *x, const char *key, const json_t *j) {
    return read_text(x, key, j, TEXT_MAX, &x->r->prompt);
}
static int read_prompt_baseline(reader *x, const char *key, const json_t *j) {
    return read_count(x, key, j, 1, INT32_MAX, &x->r->baseline_version);
}
static int read_prompt_canary(reader *x, const char *key, const json_t *j) {
    return read_count(x, key, j, 1, INT32_MAX, &x->r->canary_version);
}
static int read_prompt(reader *x, const char *key, const json_t *j) {
    static const field fields[] = {{"id", read_prompt_id, true},
                                   {"baseline", read_prompt_baseline, true},
                                   {"canary", read_prompt_canary, true}};
    if (!json_is_object(j)) return wrong(x, key, "needs {id, baseline, canary}: a prompt and two versions");
    return read_fields(x, "prompt.", j, fields, SRN_LEN(fields));
}
static int read_routes(reader *x, const char *key, const json_t *j) {
    return read_texts(x, key, j, MAX_ROUTES, &x->r->routes, &x->r->n_routes);
}
static int read_opt_out(reader *x, const char *key, const json_t *j) {
    return read_texts(x, key, j, MAX_OPT_OUT, &x->r->opt_out, &x->r->n_opt_out);
}
static int read_steps(reader *x, const char *key, const json_t *j) {
    size_t n = json_array_size(j);
    if (n < 1 || n > SRN_ROLLOUT_STEPS)
        return wrong(x, key, "needs a list of 1 to %d shares", SRN_ROLLOUT_STEPS);
    for (size_t i = 0; i < n; i++) {
        int code = read_share(x, key, json_array_get(j, i), i ? 1e-6 : 0, 1, &x->r->steps[i]);
        if (code) return code;
        if (i && !(x->r->steps[i] > x->r->steps[i - 1])) return wrong(x, key, "each share is above the last");
    }
    x->r->n_steps = (uint32_t)n;
    return SRN_OK;
}
static int read_max_share(reader *x, const char *key, const json_t *j) {
    return read_share(x, key, j, 1e-6, 1, &x->r->max_share);
}
static int read_shadow(reader *x, const char *key, const json_t *j) {
    return read_share(x, key, j, 0, 1, &x->r->shadow);
}
static int read_subjects(reader *x, const char *key, const json_t *j) {
    return read_count(x, key, j, 2, 1000000, &x->r->min_subjects);
}
static int read_calls(reader *x, const char *key, const json_t *j) {
    return read_count(x, key, j, 2, 1000000000, &x->r->min_calls);
}
static int read_min_time(reader *x, const char *key, const json_t *j) {
    return read_time(x, key, j, 0, 366ull * 86400000000, &x->r->min_time_us);
}
static int read_clear(reader *x, const char *key, const json_t *j) {
    int v = 0, code = read_word(x, key, j, clears, SRN_LEN(clears), &v);
    x->r->clear_every_step = v;
    return code;
}
static int read_evidence(reader *x, const char *key, const json_t *j) {
    static const field fields[] = {{"subjects", read_subjects, false},
                                   {"calls", read_calls, false},
                                   {"time", read_min_time, false},
                                   {"clear", read_clear, false}};
    if (!json_is_object(j)) return wrong(x, key, "needs {subjects, calls, time, clear}");
    return read_fields(x, "evidence.", j, fields, SRN_LEN(fields));
}
static int no_metric(const reader *x, const char *path) {
    char all[256] = "";
    for (unsigned m = 0; m < SRN_METRIC_END; m++) {
        size_t at = strlen(all);
        snprintf(all + at, sizeof all - at, "%s%s", m ? ", " : "", srn_metric_name((srn_metric)m));
    }
    return wrong(x, path, "there is no such metric; known are: %s", all);
}
static int read_guardrails(reader *x, const char *key, const json_t *j) {
    const char *name;
    json_t *v;
    if (!json_is_object(j)) return wrong(x, key, "needs metrics and their margins, as {itl: 5%%}");
    json_object_foreach((json_t *)(uintptr_t)j, name, v) {
        srn_metric m;
        char path[96];
        double margin = 0;
        snprintf(path, sizeof path, "%s.%.40s", key, name);
        if (!srn_metric_of(srn_str_of(name), &m)) return no_metric(x, path);
        bool off = json_is_false(v) || json_is_null(v) ||
                   (json_is_string(v) && strcmp(json_string_value(v), "off") == 0);
        int code = off ? SRN_OK : read_share(x, path, v, 0, srn_metric_is_ratio(m) ? 100 : 1, &margin);
        if (code) return code;
        x->r->guards[m] = (srn_guardrail){!off, off ? 0 : srn_metric_is_ratio(m) ? 1 + margin : margin};
    }
    return SRN_OK;
}
static int read_alpha(reader *x, const char *key, const json_t *j) {
    return read_share(x, key, j, 1e-6, 0.2, &x->r->alpha);
}
static int read_judge(reader *x, const char *key, const json_t *j) {
    return read_share(x, key, j, 0, 1, &x->r->judge_share);
}
static int read_max_time(reader *x, const char *key, const json_t *j) {
    return read_time(x, key, j, 1000000, 366ull * 86400000000, &x->r->max_time_us);
}
static int read_at_end(reader *x, const char *key, const json_t *j) {
    int v = 0, code = read_word(x, key, j, ends, SRN_LEN(ends), &v);
    x->r->at_end = (srn_rollout_end)v;
    return code;
}
static int read_on_timeout(reader *x, const char *key, const json_t *j) {
    int v = 0, code = read_word(x, key, j, ends, SRN_LEN(ends), &v);
    x->r->on_timeout = (srn_rollout_end)v;
    if (!code && x->r->on_timeout == SRN_AT_END_PROMOTE)
        code = wrong(x, key, "what has not proven itself in its time is not promoted; use hold or roll_back");
    return code;
}
static int read_webhook(reader *x, const char *key, const json_t *j) {
    int code = read_text(x, key, j, URL_MAX, &x->r->webhook);
    if (!code && strncmp(x->r->webhook, "https://", 8) != 0 && strncmp(x->r->webhook, "http://", 7) != 0)
        code = wrong(x, key, "needs an URL that begins with https:// or http://");
    return code;
}

/* Kind comes before guardrails, whose defaults it decides. */
static const field fields[] = {
    {"name", read_name, true},
    {"kind", read_kind, true},
    {"baseline", read_baseline, true},
    {"canary", read_canary, false},
    {"prompt", read_prompt, false},
    {"routes", read_routes, false},
    {"opt_out", read_opt_out, false},
    {"steps", read_steps, false},
    {"max_share", read_max_share, false},
    {"shadow", read_shadow, false},
    {"evidence", read_evidence, false},
    {"guardrails", read_guardrails, false},
    {"alpha", read_alpha, false},
    {"judge", read_judge, false},
    {"max_time", read_max_time, false},
    {"at_end", read_at_end, false},
    {"on_timeout", read_on_timeout, false},
    {"webhook", read_webhook, false},
};

static void defaults(srn_rollout *r) {
    static const double steps[] = {0.01, 0.05, 0.25, 0.5, 1};
    memcpy(r->steps, steps, sizeof steps);
    r->n_steps = SRN_LEN(steps);
    r->min_subjects = 30;
    r->min_calls = 200;
    r->min_time_us = 600000000;
    r->max_time_us = 7 * 86400000000;
    r->alpha = 0.05;
    r->judge_share = 0.05;
    r->at_end = SRN_AT_END_PROMOTE;
    r->guards[SRN_METRIC_ERROR] = (srn_guardrail){true, 0.005};
    r->guards[SRN_METRIC_TTFT] = (srn_guardrail){true, 1.1};
    r->guards[SRN_METRIC_ITL] = (srn_guardrail){true, 1.05};
    r->guards[SRN_METRIC_DIVERGENCE] = (srn_guardrail){true, 0.02};
}

/* A step of copies alone shows what an answer is like, not how it is lived with. */
static int check_shadow(const reader *x, const json_t *o) {
    srn_rollout *r = x->r;
    uint32_t last = r->n_steps - 1;
    bool any = false;
    if (r->steps[0] > 0) return SRN_OK;
    if (!(r->shadow > 0))
        return wrong(x, "steps",
                     "a step of 0%% is one of copies alone: say of how many calls (shadow: 20%%)");
    if (last == 1 && r->steps[1] >= 1)
        return wrong(x, "steps", "a step of 100%% leaves no control; put one of at most 50%% before it");
    for (unsigned m = 0; m < SRN_METRIC_END; m++)
        any |= r->guards[m].set && !srn__metric_is_lived((srn_metric)m);
    if (!any)
        return wrong(x, "guardrails",
                     "copies have neither times nor feedback, so that a step of 0%% needs another");
    if (last || r->at_end != SRN_AT_END_PROMOTE) return SRN_OK;
    if (json_object_get(o, "at_end"))
        return wrong(x, "at_end", "a canary that nobody has used is not promoted; use hold or roll_back");
    r->at_end = SRN_AT_END_HOLD;
    return SRN_OK;
}

/* What one value cannot show. */
static int check(const reader *x, const json_t *guardrails) {
    srn_rollout *r = x->r;
    bool any = false;
    if (!r->canary && !r->prompt)
        return wrong(x, "canary", "is missing: name a model, or two versions of a prompt");
    if (!r->canary) r->canary = r->baseline;
    if (strcmp(r->baseline, r->canary) == 0 && !r->prompt)
        return wrong(x, "canary", "is the baseline; nothing would be compared");
    if (r->prompt && r->baseline_version == r->canary_version && strcmp(r->baseline, r->canary) == 0)
        return wrong(x, "prompt.canary", "is the baseline's version; nothing would be compared");
    bool one = strcmp(r->baseline, r->canary) == 0; /* model, whose prompts differ */
    if (r->kind == SRN_ROLLOUT_DIFFERENT || one) {
        if (r->guards[SRN_METRIC_DIVERGENCE].set && json_object_get(guardrails, "divergence"))
            return wrong(x, "guardrails.divergence", "%s",
                         one ? "compares two models, and both arms have the same"
                             : "is a guardrail of kind equivalent; of kind different it is reported");
        r->guards[SRN_METRIC_DIVERGENCE] = (srn_guardrail){false, 0};
    }
    if (r->n_steps == 1 && r->steps[0] >= 1)
        return wrong(x, "steps", "a step of 100%% leaves no control; put one of at most 50%% before it");
    for (int m = 0; m < SRN_METRIC_END; m++) any |= r->guards[m].set;
    if (!any) return wrong(x, "guardrails", "none is left; a roll-out needs at least one");
    if (r->guards[SRN_METRIC_DIVERGENCE].set && !(r->judge_share > 0))
        return wrong(x, "judge", "is 0, so there would be no divergence to guard");
    if (r->min_time_us >= r->max_time_us)
        return wrong(x, "max_time", "is not above the time that each step takes (evidence.time)");
    return SRN_OK;
}

/* ---- the canonical form ---- */

static json_t *texts_json(const char *const *items, uint32_t n) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++) json_array_append_new(list, json_string(items[i]));
    return list;
}

static json_t *guards_json(const srn_rollout *r) {
    json_t *o = json_object();
    for (unsigned m = 0; m < SRN_METRIC_END; m++) {
        const srn_guardrail *g = &r->guards[m];
        double margin = srn_metric_is_ratio((srn_metric)m) ? rounded(g->margin - 1) : g->margin;
        json_object_set_new(o, srn_metric_name((srn_metric)m), g->set ? json_real(margin) : json_false());
    }
    return o;
}

json_t *srn_rollout_json(const srn_rollout *r) {
    json_t *prompt = json_null(), *steps = json_array();
    for (uint32_t i = 0; i < r->n_steps; i++) json_array_append_new(steps, json_real(r->steps[i]));
    if (r->prompt)
        prompt = json_pack("{s:s, s:I, s:I}", "id", r->prompt, "baseline", (json_int_t)r->baseline_version,
                           "canary", (json_int_t)r->canary_version);
    json_t *evidence = json_pack("{s:I, s:I, s:o, s:s}", "subjects", (json_int_t)r->min_subjects, "calls",
                                 (json_int_t)r->min_calls, "time", time_json(r->min_time_us), "clear",
                                 clears[r->clear_every_step]);
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:f, s:o, s:o, s:f, s:f, s:o, s:s, s:s, s:o}", "name",
        r->name, "kind", kinds[r->kind], "baseline", r->baseline, "canary", r->canary, "prompt", prompt,
        "routes", texts_json(r->routes, r->n_routes), "opt_out", texts_json(r->opt_out, r->n_opt_out),
        "steps", steps, "max_share", r->max_share > 0 ? json_real(r->max_share) : json_null(), "shadow",
        r->shadow, "evidence", evidence, "guardrails", guards_json(r), "alpha", r->alpha, "judge",
        r->judge_share, "max_time", time_json(r->max_time_us), "at_end", ends[r->at_end], "on_timeout",
        ends[r->on_timeout], "webhook", r->webhook ? json_string(r->webhook) : json_null());
}

static int identify(const reader *x) {
    json_t *o = srn_rollout_json(x->r);
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    srn_sha256 *h = text ? srn_sha256_new() : NULL;
    uint8_t digest[SRN_SHA256_BYTES];
    if (h) {
        srn_sha256_add(h, text, strlen(text));
        srn_sha256_end(h, digest);
        srn_hex(digest, sizeof digest, x->r->hash);
    }
    free(text);
    json_decref(o);
    return h ? SRN_OK : srn_fail_nomem(x->err, 0);
}

int srn_rollout_parse(const json_t *o, const char *what, srn_rollout **ret, srn_err *err) {
    reader x = {.what = what, .err = err};
    if (!json_is_object(o))
        return srn_fail(err, SRN_EINVAL, "%s: a roll-out is an object with name, kind, baseline and canary",
                        what);
    if (!(x.r = srn_calloc(1, sizeof *x.r))) return srn_fail_nomem(err, sizeof *x.r);
    srn_arena_init(&x.r->arena, ARENA_BYTES);
    defaults(x.r);
    int code = read_fields(&x, "", o, fields, SRN_LEN(fields));
    if (!code) code = check(&x, json_object_get(o, "guardrails"));
    if (!code) code = check_shadow(&x, o);
    if (!code) code = identify(&x);
    if (code) {
        srn_rollout_free(x.r);
        return code;
    }
    *ret = x.r;
    return SRN_OK;
}

int srn_rollout_may_begin(const srn_rollout *r, srn_err *err) {
    double most = r->steps[r->n_steps - 1];
    if (!(r->max_share > 0) || r->max_share >= most) return SRN_OK;
    return srn_fail(
        err, SRN_EINVAL,
        "%s: max_share: %g%% is below the step of %g%%, which would never have its share; raise it, "
        "or leave it out, or end the steps before that one",
        r->name, 100 * r->max_share, 100 * most);
}

void srn_rollout_free(srn_rollout *r) {
    if (!r) return;
    srn_arena_done(&r->arena);
    free(r);
}
