/* model, inside: the two halves of srn_model_new. */
#ifndef SRN_MODEL_MODEL_INTERNAL_H
#define SRN_MODEL_MODEL_INTERNAL_H

#include "model/model.h"

/* hparams.c: fills m->hp from the metadata; m->weights and m->arch are set. */
int srn__hparams_read(srn_model *m, srn_err *err);
/* tensors.c: fills matrices, vectors and layers; m->hp is set. */
int srn__tensors_map(srn_model *m, srn_err *err);

#endif
