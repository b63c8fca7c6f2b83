/* predict: how long a step of a model takes and how much memory it needs, from figures of a machine and facts
 * of a model. Pure. Filled by nobody: all goes in and comes out by value.
 */
#ifndef SRN_HARDWARE_PREDICT_H
#define SRN_HARDWARE_PREDICT_H

#include "hardware/figures.h"
#include "model/cost.h"

/* Where the time of a step goes, in seconds. */
typedef struct srn_hw_time {
    double products;  /* of all layers */
    double attention; /* keys and values */
    double rest;      /* norms, codes, rope, barriers */
    double head;      /* logits */
    double all;
} srn_hw_time;

/* Elements of a layer at one token that something besides products and attention goes over. */
double srn_hw_layer_elements(const srn_model *m);
/* The first type among the model's matrices that the figures lack; SRN_TYPE_END: they have all. */
srn_type srn_hw_unmeasured(const srn_model *m, const srn_hw_figures *f);
/* The time of a step of at most 512 tokens. */
srn_hw_time srn_hw_predict_step(const srn_model *m, const srn_hw_figures *f, srn_kv_type kv,
                                const srn_cost_step *s);
/* The time to read n_tokens of one sequence that holds n_past, in steps of 512, with the last one's logits.
 */
srn_hw_time srn_hw_predict_prefill(const srn_model *m, const srn_hw_figures *f, srn_kv_type kv,
                                   uint32_t n_past, uint32_t n_tokens);

/* ---- memory (memory.c) ---- */

typedef struct srn_hw_settings {
    srn_kv_type kv;
    uint32_t n_ctx, n_seqs; /* positions of each sequence, and sequences at once, all of them full */
    uint32_t threads;       /* 0: as many as the process may run on */
    const char *cpu_limit;  /* instruction set of the machine: layouts differ; NULL: this one's best */
} srn_hw_settings;
typedef struct srn_hw_memory {  /* bytes */
    uint64_t weights, kv, work; /* of the device: srn_cpu_device_bytes */
    uint64_t scheduler;         /* logits, drawing, the table of blocks */
    uint64_t vocabulary;
    uint64_t process; /* heap of threads and libraries */
    uint64_t all;
    uint64_t cache_tokens; /* positions that the cache has */
} srn_hw_memory;
/* Errors: SRN_ELIMIT; SRN_EUNSUP where this processor lacks the instruction set. */
int srn_hw_predict_memory(const srn_model *m, const srn_hw_settings *s, srn_hw_memory *ret, srn_err *err);
/* Positions of each of n_seqs sequences that fit, at most what the model was trained for; 0: none. */
uint32_t srn_hw_longest_context(const srn_model *m, const srn_hw_settings *s, uint64_t bytes);
/* Sequences of n_ctx positions that fit, at most 512; 0: none. */
uint32_t srn_hw_most_sequences(const srn_model *m, const srn_hw_settings *s, uint64_t bytes);

#endif
