/* Fuzz target: figures in JSON; what is accepted stays within its bounds and comes back as it was written. */
#include <stdlib.h>

#include "hardware/figures.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds) {
    if (!holds) abort();
}

static char *written(const srn_hw_figures *f) {
    json_t *o = srn_hw_figures_json(f);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    check(text != NULL);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static srn_hw_figures f, again;
    srn_err err = {0};
    if (size > 1u << 16) return 0;
    if (srn_hw_figures_parse((srn_str){(const char *)data, size}, "f.json", &f, &err)) {
        check(err.text[0] != 0);
        return 0;
    }
    check(f.n_attention <= SRN_HW_MOST_ATTENTION && f.limits.n_reads <= SRN_HW_MOST_READS &&
          f.limits.n_isas <= SRN_HW_MOST_ISAS);
    char *text = written(&f);
    check(srn_hw_figures_parse(srn_str_of(text), "again", &again, &err) == SRN_OK);
    char *second = written(&again);
    check(strcmp(text, second) == 0);
    free(second);
    free(text);
    return 0;
}
