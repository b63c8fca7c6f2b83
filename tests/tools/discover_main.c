/* Runs discovery below a root of its own, for tests: discover_tool ROOT [NVML [CUDA]], prints the machine as
 * JSON. What is not given is not opened. */
#include <stdlib.h>

#include "hardware/hardware.h"

int main(int argc, char **argv) {
    srn_err err = {0};
    srn_hw_machine *m;
    if (argc < 2) return fprintf(stderr, "usage: discover_tool ROOT [NVML [CUDA]]\n"), 2;
    srn_hw_discover_opts o = {
        .root = argv[1], .nvml = argc > 2 ? argv[2] : "", .cuda = argc > 3 ? argv[3] : ""};
    if (srn_hw_discover(&o, &m, &err)) return fprintf(stderr, "%s\n", err.text), 1;
    json_t *j = srn_hw_machine_json(m);
    json_dumpf(j, stdout, JSON_COMPACT);
    json_decref(j);
    srn_hw_machine_free(m);
    return 0;
}
