/* The sampler, inside: sampler.c checks parameters and draws, sampler_adjust.c changes logits (bias, mask,
 * penalties), rank.c orders them, row.c passes over whole rows. Pure functions; any thread.
 */
#ifndef SRN_ENGINE_SAMPLER_INTERNAL_H
#define SRN_ENGINE_SAMPLER_INTERNAL_H

#include "engine/engine_internal.h"

/* A token that may not be drawn has this logit; it is never a candidate. */
#define SRN__BANNED (-__builtin_inff())

/* The logits after bias, mask and penalties: d's own where nothing changes them, else own [n_vocab]. marks
 * [n_vocab] is zero, and zero again afterwards. */
const float *srn__adjust(const srn__draw_in *d, float *own, uint32_t *marks);

#endif
