/* Fuzz target: a machine in JSON; what is accepted must come back as it was written, have paths, advice
 * and drawings without control characters, and stay within its bounds. */
#include <stdlib.h>

#include "hardware/hardware.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds) {
    if (!holds) abort();
}

static void walk(const srn_hw_machine *m) {
    srn_err err = {0};
    srn_hw_advices a;
    for (uint32_t i = 0; i < m->n_pci; i++) {
        check(m->pci[i].parent == SRN_HW_NONE ? m->pci[i].kind == SRN_HW_HOST : m->pci[i].parent < i);
        check(m->pci[i].node == SRN_HW_NONE || m->pci[i].node < m->n_nodes);
    }
    for (uint32_t i = 0; i < m->n_gpus; i++)
        for (uint32_t k = 0; k < m->n_gpus; k++) {
            srn_hw_path p = srn_hw_path_of(m, i, k);
            check(p.bytes_per_s >= 0 && (p.narrowest == SRN_HW_NONE || p.narrowest < m->n_pci));
        }
    check(srn_hw_advise(m, &a, &err) == SRN_OK);
    json_t *o = srn_hw_advices_json(m, &a);
    check(o && json_array_size(o) == a.n);
    json_decref(o);
    srn_buf out;
    srn_buf_init(&out, (size_t)64 << 20);
    srn_hw_draw_opts opts = {.columns = 60, .all = true, .ascii = true};
    check(srn_hw_draw(m, &a, &opts, &out, &err) == SRN_OK && out.len);
    for (size_t i = 0; i < out.len; i++)
        check(out.data[i] == '\n' || (out.data[i] >= ' ' && out.data[i] < 127));
    srn_buf_clear(&out);
    check(srn_hw_draw_svg(m, &a, &out, &err) == SRN_OK && memcmp(out.data, "<svg", 4) == 0);
    srn_buf_done(&out);
    srn_hw_advices_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    srn_err err = {0};
    srn_hw_machine *m, *again = NULL;
    if (size > 1u << 16) return 0;
    if (srn_hw_machine_parse((srn_str){(const char *)data, size}, "m.json", &m, &err)) {
        check(err.text[0] != 0);
        return 0;
    }
    walk(m);
    json_t *o = srn_hw_machine_json(m);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    check(text && srn_hw_machine_parse(srn_str_of(text), "again", &again, &err) == SRN_OK);
    o = srn_hw_machine_json(again);
    char *second = o ? json_dumps(o, JSON_COMPACT) : NULL;
    check(second && strcmp(text, second) == 0);
    json_decref(o);
    free(second);
    free(text);
    srn_hw_machine_free(again);
    srn_hw_machine_free(m);
    return 0;
}
