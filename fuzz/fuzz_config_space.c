/* Fuzz target: the configuration space of a PCI device. */
#include <stdlib.h>

#include "hardware/discover_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds) {
    if (!holds) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    srn__config c;
    if (size > 4096) return 0;
    check(srn__config_parse(data, size, &c) == (size >= 64));
    if (size < 64) return 0;
    check(c.gen <= 7 && c.max_gen <= 7 && c.width <= 32 && c.max_width <= 32 && c.port_type <= 15);
    check(c.whole == (size > 64) && (!c.express || c.whole) && (!c.acs || c.extended));
    return 0;
}
