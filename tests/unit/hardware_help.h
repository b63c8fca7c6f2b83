/* Shared by the tests of hardware: fixtures of tests/data/machines, and problems as one line of text. */
#ifndef SRN_TEST_HARDWARE_HELP_H
#define SRN_TEST_HARDWARE_HELP_H

#include <stdlib.h>

#include "hardware/hardware.h"

static const char *const hardware_fixtures[] = {"one-gpu",      "two-on-one-root", "four-v100",
                                                "two-switches", "consumer-board",  "eight-nvlink"};

static inline srn_hw_machine *hardware_load(const char *name) {
    char path[512];
    srn_err err = {0};
    srn_hw_machine *m = NULL;
    snprintf(path, sizeof path, SRN_TEST_DIR "/data/machines/%s.json", name);
    if (srn_hw_machine_load(path, &m, &err)) fail_msg("%s", err.text);
    return m;
}

/* "acs shared_uplink": the problems' names in the order of the enum, each as often as it was found. */
static inline void hardware_problems(const srn_hw_machine *m, char *ret, size_t cap) {
    srn_hw_advices a;
    srn_err err = {0};
    size_t n = 0;
    ret[0] = 0;
    if (srn_hw_advise(m, &a, &err)) fail_msg("%s", err.text);
    for (int p = 0; p < SRN_HW_PROBLEM_END; p++)
        for (uint32_t i = 0; i < a.n; i++)
            if (a.v[i].problem == (srn_hw_problem)p)
                n += (size_t)snprintf(ret + n, cap - n, "%s%s", n ? " " : "",
                                      srn_hw_problem_name(a.v[i].problem));
    srn_hw_advices_done(&a);
}

#endif
