/* canary, inside: the sums that evidence keeps and a look reads, and what else its files share. */
#ifndef SRN_CANARY_CANARY_INTERNAL_H
#define SRN_CANARY_CANARY_INTERNAL_H

#include "canary/canary.h"

/* Copies z (NULL: "") into ret[size], cut between characters, so that it stays UTF-8. */
void srn__canary_text(char *ret, size_t size, const char *z);

/* What a metric's values are, which decides how they are scored and how their noise is bounded. */
typedef enum srn__kind {
    SRN__KIND_SHARE, /* 0 or 1, or a share between: as it is */
    SRN__KIND_LOG,   /* the logarithm, clipped */
    SRN__KIND_NATS   /* not negative: as it is, clipped */
} srn__kind;
srn__kind srn__metric_kind(srn_metric m);
bool srn__metric_is_latency(srn_metric m); /* only the control slice is compared with */
/* Whether it takes a client: copies, which run behind everything else and which nobody reads, have none. */
bool srn__metric_is_lived(srn_metric m);
/* Of one that says how often another is slow, that other one; of the others SRN_METRIC_END. */
srn_metric srn__metric_of_tail(srn_metric m);
/* Its part of alpha, next to the others' parts. */
double srn__metric_part(srn_metric m);

/* ---- the working model (docs/canary.md, "Method") ---- */

#define SRN__HELD 0.9 /* of what history says of a subject's level, the part that still holds */
/* The correlation of a subject's calls that weights are made for: less for shares, where most faults are
 * nobody's in particular. Another one costs power, not validity. */
double srn__metric_icc(srn_metric m);

enum {
    SRN__BLOCK_US = 600 * 1000000, /* time block */
    SRN__BLOCK_CALLS = 10,         /* of one subject that count in one block */
    SRN__SUBJECTS_MAX = 1 << 20,   /* of one step; later ones are not counted */
    SRN__BETS = 4
};
#define SRN__COPY (UINT64_C(1) << 63) /* in the number of a subject: of its copies, not itself */

/* Sums of one metric in one arm: over subjects, each with its mean score y over n calls and weight
 * w = n / (1 - ICC + n * rho). */
typedef struct srn__sums {
    uint64_t n_subjects, n_calls, n_missing;
    uint64_t n_hit;                             /* subjects with a value above 0 */
    uint64_t missing_run;                       /* calls since the newest that had a value */
    double w, wy, wyy, w2, w2y, w2yy, w4, w2_n; /* w2_n: w^2 / n */
} srn__sums;

/* Bets on whether any of a subject's first calls failed (faults.c); of one number of calls. */
enum { SRN__FAULT_SPANS = 3, SRN__FAULT_GAINS = 2 };
typedef struct srn__faults {
    uint32_t n[2], hits[2]; /* subjects of the block that is open: [baseline, canary] */
    double seen, seen_hits; /* the baseline's, of the blocks before */
    double log_wealth[SRN__FAULT_GAINS];
} srn__faults;
/* A subject has made n_calls calls; hit: one of them failed. true: the e-value has changed. */
bool srn__faults_add(srn__faults all[SRN__FAULT_SPANS], double margin, unsigned side, uint32_t n_calls,
                     bool hit);
double srn__faults_evalue(const srn__faults all[SRN__FAULT_SPANS]);

typedef struct srn__stratum { /* one step's evidence; [control, canary] */
    srn__sums sums[2][SRN_METRIC_END];
    uint64_t n_subjects[2], n_calls[2], n_exposed;
    uint64_t newest_us, observed_us;     /* newest admission; time with calls in it */
    uint64_t since_canary;               /* answers of the control since the newest of the canary */
    double split[2], split_log, split_p; /* subjects by arm; log of the e-value; its least p */
    double wealth[SRN__BETS], evalue;    /* of the bets on divergence; the most that their mean was */
    srn__faults faults[SRN__FAULT_SPANS];
    double fault_evalue; /* the most that it was */
} srn__stratum;

const srn__stratum *srn__evidence_stratum(const srn_evidence *e, uint32_t step);
uint32_t srn__evidence_step(const srn_evidence *e); /* the newest */

/* Whether a full look could say anything but hold: never no where it would. Cheap, for looks at every call.
 */
bool srn__look_may_speak(const srn_rollout *r, const srn_evidence *e, const srn_step_is *is);

#endif
