/* serin plan: what its files share. plan.c reads the options, finds machine, figures and model; plan_print.c
 * shows placements; plan_check.c holds them against the real thing. Main thread.
 */
#ifndef SRN_CLI_PLAN_H
#define SRN_CLI_PLAN_H

#include "hardware/hardware.h"
#include "hardware/plan.h"
#include "synth/synth.h"

/* A model to plan for: a file, or the head of one that was made for its shape. */
typedef struct srn__plan_model {
    char name[160], path[4096]; /* path "": only a shape */
    srn_out *out;               /* or NULL */
    srn_weights *w;
    srn_model *m;
} srn__plan_model;

typedef struct srn__plan_ask {
    srn_hw_settings s;
    const srn_hw_machine *machine;
    const srn_hw_figures *figures; /* or NULL */
    uint64_t available;
    bool foreign, explain, json; /* foreign: another machine than this one */
} srn__plan_ask;

/* One row of --quants. */
typedef struct srn__plan_quant {
    const char *quant;
    uint64_t bytes; /* of the file's tensors */
    srn_hw_placement p;
} srn__plan_quant;

int srn__plan_print(const srn__plan_ask *a, const srn__plan_model *m, const srn_hw_placement *p, uint32_t n,
                    srn_err *err);
int srn__plan_print_quants(const srn__plan_ask *a, const char *name, const srn__plan_quant *q, size_t n,
                           srn_err *err);
/* serin plan --check: the same model run here, predicted beside measured. */
int srn__plan_check(const srn__plan_ask *a, const srn__plan_model *m, srn_err *err);
/* Prints an object, which it takes. */
int srn__plan_put_json(json_t *o, srn_err *err);

#endif
