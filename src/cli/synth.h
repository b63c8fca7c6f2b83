/* What commands share of made models: the shape that a person names, and a model in memory. */
#ifndef SRN_CLI_SYNTH_H
#define SRN_CLI_SYNTH_H

#include "synth/synth.h"

/* The shape of a name in the table or of a JSON file. SRN_EUSAGE with what to try. */
int srn__synth_shape(const char *what, srn_shape *ret, srn_err *err);

typedef struct srn__synth_ask {
    const char *shape, *quant; /* a name or a file; a quantisation's name */
    uint64_t seed;
    uint32_t threads; /* 0: as many as the process may run on */
    bool pure;
    const volatile int *cancel; /* may be NULL */
} srn__synth_ask;

/* A model of random weights in memory, with a progress bar. srn_out_path(*ret) is what to open, in this
 * process; once it is open, *ret may be freed. */
int srn__synth_in_memory(const srn__synth_ask *ask, srn_out **ret, srn_err *err);

#endif
