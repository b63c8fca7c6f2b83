/* Fuzz target: a machine out of an export of hwloc; what is accepted must be one that a fixture can hold. */
#include <stdlib.h>

#include "hardware/hardware_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds) {
    if (!holds) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    srn_err err = {0};
    srn_hw_machine *m, *again = NULL;
    if (size > 1u << 16) return 0;
    if (srn__hw_of_xml((srn_str){(const char *)data, size}, "m.xml", &m, &err)) {
        check(err.text[0] != 0);
        return 0;
    }
    json_t *o = srn_hw_machine_json(m);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    check(text && srn_hw_machine_parse(srn_str_of(text), "again", &again, &err) == SRN_OK);
    free(text);
    srn_hw_machine_free(again);
    srn_hw_machine_free(m);
    return 0;
}
