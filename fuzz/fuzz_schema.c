/* Fuzzes JSON schemas: the input is a schema. Whatever is let in must give a grammar that compiles or that
 * nothing satisfies, and whoever takes bytes that are let through must never be stuck before the text may
 * end.
 */
#include <stdlib.h>

#include "constrain/constrain_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Goes on by the first byte that is let through, closing what is open where that is possible. */
static void walk(const srn_constraint *c) {
    static const char first[] = "\"}]0123456789,:.-ntf{[";
    const srn__program *p = srn__constraint_program(c);
    srn__sets sets;
    srn_err err;
    if (srn__sets_init(&sets, p, &err)) return;
    uint32_t set = sets.start;
    for (int step = 0; step < 300; step++) {
        uint32_t then = SRN__DEAD;
        sets.budget = 1u << 20;
        for (size_t i = 0; then == SRN__DEAD && i < sizeof first - 1; i++)
            then = srn__sets_next(&sets, set, p->class_of[(uint8_t)first[i]]);
        for (unsigned k = 0; then == SRN__DEAD && k < p->n_classes; k++) then = srn__sets_next(&sets, set, k);
        if (then == SRN__DEAD && !(sets.sets[set].flags & SRN__SET_ACCEPTS)) abort();
        if (then == SRN__DEAD || then == SRN__FAILED) break;
        set = then;
    }
    srn__sets_done(&sets);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *schema = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    srn_constraint *c = NULL;
    srn_err err = {0};
    if (!schema) return 0;
    int rc = srn_constraint_of_schema(schema, &c, &err);
    if (rc == 0) walk(c);
    if (rc && (rc != err.code || err.text[0] == 0)) abort();
    srn_constraint_free(c);
    json_decref(schema);
    return 0;
}
