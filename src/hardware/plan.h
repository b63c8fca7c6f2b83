/* plan: where a model can be placed on a machine, with what memory and at what speed. Pure functions of a
 * model's facts, a machine's memory and its figures. Results own no memory.
 */
#ifndef SRN_HARDWARE_PLAN_H
#define SRN_HARDWARE_PLAN_H

#include "hardware/predict.h"

enum { SRN_HW_MOST_PLACEMENTS = 16, SRN_HW_MOST_SPEEDS = 24 };

typedef enum srn_hw_where { SRN_HW_ON_CPU } srn_hw_where;
const char *srn_hw_where_name(srn_hw_where w); /* "cpu" */

/* What is foretold of a step or a prompt. */
typedef struct srn_hw_speed {
    uint32_t n_seqs, n_ctx; /* decode: sequences that hold n_ctx each; prefill: one of n_ctx tokens */
    bool prefill;
    double tok_per_s; /* of all sequences together */
    srn_hw_time time; /* of a step; of a prompt all its steps */
} srn_hw_speed;

typedef struct srn_hw_placement {
    srn_hw_where where;
    srn_hw_memory memory;
    uint64_t available, headroom; /* bytes there are; of these, to be left free */
    bool fits;
    uint32_t longest_ctx;    /* with as many sequences as asked for */
    uint32_t most_sequences; /* of the context that was asked for */
    bool has_speeds;
    srn_type unmeasured; /* why not: a type that the figures lack; SRN_TYPE_END: there are no figures */
    srn_hw_speed speeds[SRN_HW_MOST_SPEEDS];
    uint32_t n_speeds;
} srn_hw_placement;

/* Left free of memory: a twentieth, and at least 512 MiB. */
uint64_t srn_hw_headroom(uint64_t available);
/* All placements of a model for these settings, the best first; f may be NULL. Contexts: 512, 4096, 8192 and
 * the one asked for, as far as it allows; loads: 1, 8 and as many as asked for. SRN_ELIMIT, SRN_EUNSUP. */
int srn_hw_plan(const srn_model *m, const srn_hw_figures *f, const srn_hw_settings *s, uint64_t available,
                srn_hw_placement ret[SRN_HW_MOST_PLACEMENTS], uint32_t *ret_n, srn_err *err);

#endif
