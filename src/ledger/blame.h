/* blame: since which call, and with which recorded change, a metric moved, adjusted for the traffic mix.
 * Pure: no clock, no files, its own random numbers from a fixed seed; docs/blame.md states the method. Memory
 * is in proportion to the calls. Any thread.
 */
#ifndef SRN_LEDGER_BLAME_H
#define SRN_LEDGER_BLAME_H

#include "base/base.h"

/* One call that has the metric, ascending by t_us. */
typedef struct srn_blame_call {
    uint64_t t_us;
    uint32_t model, prompt; /* numbers of the caller's, from 1 on: what changes are about */
    uint32_t kind; /* any number: calls of different kinds are never compared (endpoint, streamed, ...) */
    double size;   /* what the metric may grow with, >= 0: calls are compared with those of about this size */
    double value;  /* finite */
} srn_blame_call;

typedef struct srn_blame_event {
    uint64_t t_us;
    uint32_t model, prompt; /* it can have changed calls of these alone; 0: of any */
    uint32_t order;         /* of changes that no call lies between, the one with the lowest comes first */
} srn_blame_event;

typedef struct srn_blame_opts {
    bool rate;    /* values are 0 and 1 */
    double alpha; /* least evidence: the chance of as much movement where nothing changed; 0: 0.005 */
} srn_blame_opts;

/* A change that the metric moved with. */
typedef struct srn_blame_finding {
    uint32_t event;       /* index */
    uint32_t first;       /* index of the first call after it that it can have changed */
    uint32_t step;        /* changes of one step are candidates for one movement; 0: the greatest movement */
    double before, after; /* typical values, weighted as the calls after it are */
    double change;        /* after / before - 1; of a rate after - before */
    double low, high;     /* where the true one lies with 95 % confidence */
    double p;             /* of the step: the chance of as much movement where nothing changed */
    double share;         /* of the step's likelihood among its candidates, 0 to 1 */
    uint32_t n_before, n_after;
} srn_blame_finding;

enum { SRN_BLAME_MAX_FINDINGS = 16, SRN_BLAME_MAX_EVENTS = 2000, SRN_BLAME_MIN_CALLS = 100 };
typedef struct srn_blame_result {
    srn_blame_finding findings[SRN_BLAME_MAX_FINDINGS]; /* by step, then likeliest first */
    uint32_t n_findings;
    bool moved;          /* it moved, perhaps with no recorded change nearby */
    uint32_t first;      /* index of the call since which it did, of the greatest movement */
    double p;            /* of the greatest movement */
    uint32_t n_compared; /* calls that others could be compared with */
} srn_blame_result;
/* Errors: SRN_EINVAL fewer than SRN_BLAME_MIN_CALLS calls; SRN_ELIMIT more changes than SRN_BLAME_MAX_EVENTS;
 * SRN_ENOMEM. */
int srn_blame(const srn_blame_opts *o, const srn_blame_call *calls, uint32_t n_calls,
              const srn_blame_event *events, uint32_t n_events, srn_blame_result *ret, srn_err *err);

#endif
