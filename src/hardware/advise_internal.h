/* hardware, inside: what the files of the advice on money share. */
#ifndef SRN_HARDWARE_ADVISE_INTERNAL_H
#define SRN_HARDWARE_ADVISE_INTERNAL_H

#include "hardware/advise.h"

#define SRN__MONTH_S (SRN_MONTH_DAYS * 86400)

/* Every assumption in the middle; volume and estimate at what was measured. */
void srn__case_middle(const srn_case *c, double v[SRN_ASSUME_END]);
/* A call's seconds of a machine, prefill and decode together, all of the machine being its own. */
double srn__machine_seconds(const srn_case *c, const double v[SRN_ASSUME_END]);
/* The fleet in which `needed` machines must run: spares, capital, hosting, idle energy in kWh, staff,
 * availability. */
void srn__fleet_of(const srn_case *c, const double v[SRN_ASSUME_END], double needed, srn_local_cost *ret);

#endif
