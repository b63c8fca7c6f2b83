/* cost: what a step of a model takes at least, whatever computes it: multiply-adds and bytes read. Pure; what
 * speeds are judged by and what predictions start from.
 */
#ifndef SRN_MODEL_COST_H
#define SRN_MODEL_COST_H

#include "model/device.h"

/* Sums over a step. They are estimates of large numbers, so double. */
typedef struct srn_cost {
    double int8_macs;     /* multiply-adds of integer codes; two planes count twice (docs/numerics.md) */
    double f32_macs;      /* of f32: matrices without codes, and attention */
    double weights_bytes; /* matrices, as the file holds them; of experts, those that are expected to be
                             chosen */
    double kv_bytes;      /* keys and values read */
} srn_cost;

/* A step in which n_seqs sequences that hold n_past positions get n_tokens more each, and n_rows of these
 * tokens, of all sequences together, want their logits. */
typedef struct srn_cost_step {
    uint32_t n_seqs, n_past, n_tokens, n_rows;
} srn_cost_step;
/* Adds the step's cost to *sum. */
void srn_cost_add(const srn_model *m, srn_kv_type kv, const srn_cost_step *s, srn_cost *sum);

#endif
