/* When requests of a load are due, and what their answers must keep. Pure. Refuses targets that no answer can
 * meet.
 */
#include <math.h>
#include <stdlib.h>

#include "serve/load.h"

/* In (0, 1], from a counter: the finaliser of splitmix64. */
static double uniform(uint64_t seed, uint64_t i) {
    uint64_t z = seed + (i + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return ((double)(z >> 11) + 1) / 9007199254740992.0;
}

void srn_load_arrivals(srn_load_kind kind, double per_second, uint64_t seed, size_t n, uint64_t *ret_us) {
    double at = 0, step = 1e6 / per_second;
    for (size_t i = 0; i < n; i++) {
        ret_us[i] = kind == SRN_LOAD_CLOSED ? 0 : (uint64_t)at;
        at = kind == SRN_LOAD_POISSON ? at - log(uniform(seed, i)) * step : (double)(i + 1) * step;
    }
}

/* "2s", "100ms", "1.5s" to microseconds. */
static bool read_time(const char *text, size_t n, uint64_t *ret) {
    static const struct {
        const char *unit;
        double us;
    } units[] = {{"us", 1}, {"ms", 1e3}, {"s", 1e6}, {"m", 60e6}};
    char *end;
    if (n == 0 || !(*text >= '0' && *text <= '9')) return false;
    double v = strtod(text, &end);
    size_t left = n - (size_t)(end - text);
    if (end > text + n || !(v >= 0 && v < 1e9)) return false;
    for (size_t i = 0; i < SRN_LEN(units); i++)
        if (left == strlen(units[i].unit) && memcmp(end, units[i].unit, left) == 0)
            return *ret = (uint64_t)(v * units[i].us + 0.5), true;
    return false;
}

int srn_load_slo_parse(const char *text, srn_load_slo *ret, srn_err *err) {
    static const struct {
        const char *name;
        size_t at;
    } keys[] = {{"ttft", offsetof(srn_load_slo, ttft_us)},
                {"itl", offsetof(srn_load_slo, itl_us)},
                {"gap", offsetof(srn_load_slo, gap_us)},
                {"e2e", offsetof(srn_load_slo, e2e_us)}};
    srn_load_slo slo = {0};
    for (const char *p = text;; p++) {
        size_t n = strcspn(p, ","), name = strcspn(p, "=,"), i = 0;
        uint64_t us = 0;
        while (i < SRN_LEN(keys) && !srn_str_eqz((srn_str){p, name}, keys[i].name)) i++;
        if (i == SRN_LEN(keys) || name == n || !read_time(p + name + 1, n - name - 1, &us))
            return srn_fail(err, SRN_EUSAGE,
                            "--slo is like ttft=2s,itl=100ms,gap=500ms,e2e=30s, some of these; not '%.80s'",
                            text);
        if (!us)
            return srn_fail(err, SRN_EUSAGE, "--slo: no answer can have %s=0; give it some time",
                            keys[i].name);
        *(uint64_t *)(void *)((char *)&slo + keys[i].at) = us;
        p += n;
        if (!*p) break;
    }
    *ret = slo;
    return SRN_OK;
}
