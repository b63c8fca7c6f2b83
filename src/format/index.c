/* A hash index over names that live elsewhere: metadata keys and tensor names. Built once by the thread that
 * parses, read by any. Linear probing at half load; the seed is random, so that a hostile file cannot choose
 * names that collide.
 */
#include "format/format_internal.h"

#include <stdlib.h>

bool srn__index_init(srn__index *x, size_t n) {
    uint64_t slots = 16;
    while (slots < 2 * (uint64_t)n) slots *= 2;
    x->slots = srn_calloc(slots, sizeof *x->slots);
    if (!x->slots) return false;
    x->mask = slots - 1;
    x->seed = srn_hash_seed();
    return true;
}

void srn__index_done(srn__index *x) {
    free(x->slots);
    *x = (srn__index){0};
}

/* The slot that holds the name, or the empty one where it belongs. */
static uint64_t slot_of(const srn__index *x, const void *table, srn__name_at_fn *at, srn_str name) {
    uint64_t i = srn_hash(x->seed, name) & x->mask;
    while (x->slots[i] && !srn_str_eq(at(table, x->slots[i] - 1), name)) i = (i + 1) & x->mask;
    return i;
}

size_t srn__index_find(const srn__index *x, const void *table, srn__name_at_fn *at, srn_str name) {
    if (!x->slots) return SIZE_MAX;
    uint32_t held = x->slots[slot_of(x, table, at, name)];
    return held ? held - 1 : SIZE_MAX;
}

bool srn__index_add(srn__index *x, const void *table, srn__name_at_fn *at, size_t i, size_t *ret_other) {
    uint64_t slot = slot_of(x, table, at, at(table, i));
    if (x->slots[slot]) return *ret_other = x->slots[slot] - 1, false;
    x->slots[slot] = (uint32_t)(i + 1);
    return true;
}
