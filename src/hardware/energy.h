/* Energy that the processors' packages have used, as their own counters say it (RAPL, through the kernel's
 * powercap): package 0's and all others' together, memory and other devices not. Any thread.
 */
#ifndef SRN_HARDWARE_ENERGY_H
#define SRN_HARDWARE_ENERGY_H

#include "base/base.h"

enum { SRN_ENERGY_PACKAGES = 16 };

typedef struct srn_energy {
    uint32_t n;
    struct {
        char name[32]; /* "intel-rapl:0" */
        uint64_t uj, range_uj;
    } packages[SRN_ENERGY_PACKAGES];
} srn_energy;
/* root: "/", or where a recorded tree lies. SRN_EUNSUP: there is no counter that may be read, and why. */
int srn_energy_read(const char *root, srn_energy *ret, srn_err *err);
/* Joules between two readings; each counter may have begun anew once. NAN: they are of different packages. */
double srn_energy_joules(const srn_energy *from, const srn_energy *to);

#endif
