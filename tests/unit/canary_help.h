/* What the tests of roll-outs share: declarations written with single quotes. */
#ifndef SRN_TESTS_CANARY_HELP_H
#define SRN_TESTS_CANARY_HELP_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "canary/canary.h"

/* So many fewer roll-outs are simulated where everything takes longer. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SLOWER = 40 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { SLOWER = 40 };
#else
enum { SLOWER = 1 };
#endif
#else
enum { SLOWER = 1 };
#endif

#define MINIMAL "{'name':'trial','kind':'equivalent','baseline':'small','canary':'small-q8'}"

/* JSON with ' for ". */
static inline json_t *quoted(const char *text) {
    char *copy = srn_strndup(text, strlen(text));
    for (char *p = copy; *p; p++)
        if (*p == '\'') *p = '"';
    json_t *o = json_loads(copy, JSON_DECODE_ANY, NULL);
    if (!o) fail_msg("no JSON: %s", copy);
    free(copy);
    return o;
}

static inline srn_rollout *declared(const char *text) {
    srn_rollout *r = NULL;
    srn_err err = {0};
    json_t *o = quoted(text);
    if (srn_rollout_parse(o, "declaration", &r, &err)) fail_msg("%s", err.text);
    json_decref(o);
    return r;
}

/* The share of so many simulated roll-outs that were taken back, in ten groups of 100 to 1,000 subjects with
 * a correlation of up to 0.2; prints a row of docs/canary.md. SERIN_CANARY_RUNS says how many otherwise. */
static inline double rolled_back(const srn_rollout *r, const char *name, const srn_traffic *traffic,
                                 const char *effect, long usual, uint64_t calls, double share,
                                 uint64_t seed) {
    const char *asked = getenv("SERIN_CANARY_RUNS");
    long n = asked ? strtol(asked, NULL, 10) : usual;
    uint32_t runs = 0, back = 0, ended = 0, groups = 0;
    double median = 0, p95 = 0;
    for (uint32_t g = 0; g < 10; g++) {
        srn_traffic t = *traffic;
        srn_effect x;
        srn_simulation s;
        srn_err err = {0};
        t.n_subjects = 100 + 100 * g;
        t.icc = 0.2 * (7 * g % 10) / 9;
        if (effect && srn_effect_parse(effect, &x, &err)) fail_msg("%s", err.text);
        const srn_simulate_opts o = {.traffic = &t,
                                     .effects = &x,
                                     .n_effects = effect != NULL,
                                     .n_runs = (uint32_t)SRN_MAX(1, n / 10 / SLOWER),
                                     .max_calls = calls,
                                     .seed = seed + g,
                                     .share = share};
        if (srn_simulate(r, &o, &s, &err)) fail_msg("%s", err.text);
        runs += s.n_runs, back += s.n_rolled_back, ended += s.n_promoted;
        if (isnan(s.calls_median)) continue;
        groups++;
        median += s.calls_median;
        p95 = SRN_MAX(p95, s.calls_p95);
    }
    printf("seed %llu\n| %s | %u | %.2f %% | %.2f %% | %.0f | %.0f |\n", (unsigned long long)seed, name, runs,
           100.0 * back / runs, 100.0 * ended / runs, median / SRN_MAX(groups, 1), p95);
    return (double)back / runs;
}

#endif
