/* What a roll-out measures: names, and what their margins are. Pure; any thread. */
#include "canary/canary_internal.h"

#include <math.h>

#include "base/num.h"

/* part: of alpha. Faults and speed, which every roll-out can break, get more of it. */
static const struct {
    const char *name;
    srn__kind kind;
    double part;
} metrics[SRN_METRIC_END] = {
    [SRN_METRIC_ERROR] = {"error", SRN__KIND_SHARE, 16},
    [SRN_METRIC_CONSTRAINT] = {"constraint", SRN__KIND_SHARE, 1},
    [SRN_METRIC_CHECKS] = {"checks", SRN__KIND_SHARE, 1},
    [SRN_METRIC_CUT] = {"cut", SRN__KIND_SHARE, 0.5},
    [SRN_METRIC_TTFT] = {"ttft", SRN__KIND_LOG, 2},
    [SRN_METRIC_ITL] = {"itl", SRN__KIND_LOG, 6},
    [SRN_METRIC_TTFT_SLOW] = {"ttft_slow", SRN__KIND_SHARE, 0.5},
    [SRN_METRIC_ITL_SLOW] = {"itl_slow", SRN__KIND_SHARE, 0.5},
    [SRN_METRIC_LENGTH] = {"length", SRN__KIND_LOG, 0.5},
    [SRN_METRIC_REPETITION] = {"repetition", SRN__KIND_NATS, 0.5},
    [SRN_METRIC_UNCERTAINTY] = {"uncertainty", SRN__KIND_NATS, 0.5},
    [SRN_METRIC_FEEDBACK] = {"feedback", SRN__KIND_SHARE, 0.5},
    [SRN_METRIC_DIVERGENCE] = {"divergence", SRN__KIND_NATS, 2},
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
    return (unsigned)m < SRN_METRIC_END && metrics[m].kind == SRN__KIND_LOG;
}

srn__kind srn__metric_kind(srn_metric m) {
    return metrics[m].kind;
}

bool srn__metric_is_latency(srn_metric m) {
    return m == SRN_METRIC_TTFT || m == SRN_METRIC_ITL || srn__metric_of_tail(m) < SRN_METRIC_END;
}

srn_metric srn__metric_of_tail(srn_metric m) {
    if (m == SRN_METRIC_TTFT_SLOW) return SRN_METRIC_TTFT;
    return m == SRN_METRIC_ITL_SLOW ? SRN_METRIC_ITL : SRN_METRIC_END;
}

bool srn__metric_is_lived(srn_metric m) {
    return srn__metric_is_latency(m) || m == SRN_METRIC_FEEDBACK;
}

double srn__metric_icc(srn_metric m) {
    return metrics[m].kind == SRN__KIND_SHARE ? 0.05 : 0.1;
}

double srn__metric_part(srn_metric m) {
    return metrics[m].part;
}

/* Of logarithms: microseconds from 0.1 ms to 1,000 s, tokens from 1 to 2^20. */
double srn_metric_score(srn_metric m, double value) {
    if ((unsigned)m >= SRN_METRIC_END || !(value >= 0) || value > 1e18) return NAN;
    if (m == SRN_METRIC_LENGTH) return srn_log(SRN_MAX(1, SRN_MIN(0x1p20, value)));
    switch (metrics[m].kind) {
    case SRN__KIND_LOG:
        return srn_log(SRN_MAX(100, SRN_MIN(1e9, value)));
    case SRN__KIND_NATS:
        if (m == SRN_METRIC_REPETITION && value > 1) return NAN;
        return m == SRN_METRIC_DIVERGENCE && value > 0.6931472 ? NAN : SRN_MIN(value, 20);
    default:
        return value <= 1 ? value : NAN;
    }
}

void srn__canary_text(char *ret, size_t size, const char *z) {
    size_t len = z ? strlen(z) : 0, at = 0, n;
    while (at < len && (n = srn_utf8_len(z + at, len - at)) && at + n < size) at += n;
    if (at) memcpy(ret, z, at);
    ret[at] = 0;
}
