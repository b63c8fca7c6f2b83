/* What the fuzzers of constraints share: a walk through a program. */
#ifndef SRN_FUZZ_CONSTRAIN_WALK_H
#define SRN_FUZZ_CONSTRAIN_WALK_H

#include <stdlib.h>

#include "constrain/constrain_internal.h"

/* Up to `steps` bytes, drawn by the input itself. A set that accepts nothing and waits for nothing is a bug.
 */
static inline void walk_program(const srn__program *p, const uint8_t *data, size_t size, int steps) {
    srn__sets s;
    srn_err err;
    if (srn__sets_init(&s, p, &err)) return;
    uint32_t set = s.start;
    s.budget = 200000;
    for (int i = 0; i < steps && set != SRN__FAILED; i++) {
        uint32_t then = SRN__DEAD;
        const srn__set *x = &s.sets[set];
        if (x->n_bytes == 0 && !(x->flags & SRN__SET_ACCEPTS)) abort();
        if (x->n_bytes == 0) break;
        unsigned first = data[(size_t)i % size];
        for (unsigned k = 0; k < p->n_classes && then == SRN__DEAD; k++)
            then = srn__sets_next(&s, set, (first + k) % p->n_classes);
        if (then == SRN__DEAD) abort(); /* it waits for bytes and takes none */
        set = then;
        if (i % 16 == 15 && set != SRN__FAILED) {
            srn__sets_shape(&s, set, 8);
            s.failed = 0;
            if (srn__sets_collect(&s, &set, 1, &err)) break;
        }
    }
    srn__sets_done(&s);
}

#endif
