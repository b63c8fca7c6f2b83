/* What a roll-out measures: names, and what their margins are. Pure; any thread. */
#include "canary/canary_internal.h"

static const struct {
    const char *name;
    bool ratio;
} metrics[SRN_METRIC_END] = {
    [SRN_METRIC_ERROR] = {"error", false},
    [SRN_METRIC_CONSTRAINT] = {"constraint", false},
    [SRN_METRIC_CHECKS] = {"checks", false},
    [SRN_METRIC_CUT] = {"cut", false},
    [SRN_METRIC_TTFT] = {"ttft", true},
    [SRN_METRIC_ITL] = {"itl", true},
    [SRN_METRIC_LENGTH] = {"length", true},
    [SRN_METRIC_REPETITION] = {"repetition", false},
    [SRN_METRIC_UNCERTAINTY] = {"uncertainty", false},
    [SRN_METRIC_FEEDBACK] = {"feedback", false},
    [SRN_METRIC_DIVERGENCE] = {"divergence", false},
};

const char *srn_metric_name(srn_metric m) {
    return (unsigned)m < SRN_METRIC_END ? metrics[m].name : NULL;
}

bool srn_metric_of(srn_str name, srn_metric *ret) {
    for (unsigned m = 0; m < SRN_METRIC_END; m++)
        if (srn_str_eqz(name, metrics[m].name)) {
            *ret = (srn_metric)m;
            return true;
        }
    return false;
}

bool srn_metric_is_ratio(srn_metric m) {
    return (unsigned)m < SRN_METRIC_END && metrics[m].ratio;
}

void srn__canary_text(char *ret, size_t size, const char *z) {
    size_t len = z ? strlen(z) : 0, at = 0, n;
    while (at < len && (n = srn_utf8_len(z + at, len - at)) && at + n < size) at += n;
    if (at) memcpy(ret, z, at);
    ret[at] = 0;
}
