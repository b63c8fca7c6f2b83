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
/* Seconds to read n_tokens of one sequence that holds n_past, in steps of 512, with the last one's logits. */
double srn_hw_predict_prefill(const srn_model *m, const srn_hw_figures *f, srn_kv_type kv, uint32_t n_past,
                              uint32_t n_tokens);

#endif
