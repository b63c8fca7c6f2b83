/* A hash index over names that live elsewhere: metadata keys and tensor names. Built once by the thread that
 * parses, read by any. Linear probing at half load; the seed is random, so that a hostile file cannot choose
 * names that collide.
 */
#include "format/format_internal.h"

#include <stdlib.h>
#include <sys/random.h>

static uint64_t mix(uint64_t a, uint64_t b) {
    unsigned __int128 r = (unsigned __int128)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

static uint64_t hash_name(uint64_t seed, srn_str s) {
    uint64_t h = seed ^ 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < s.len; i += 8) {
        uint64_t word = 0;
        memcpy(&word, s.ptr + i, SRN_MIN(s.len - i, (size_t)8));
        h = mix(h ^ word, (0xD6E8FEB86659FD93u ^ seed << 1) | 1);
    }
    return mix(h ^ s.len, 0xA0761D6478BD642Fu);
}

bool srn__index_init(srn__index *x, size_t n) {
    uint64_t slots = 16;
    while (slots < 2 * (uint64_t)n) slots *= 2;
    x->slots = srn_calloc(slots, sizeof *x->slots);
    if (!x->slots) return false;
    x->mask = slots - 1;
    if (getrandom(&x->seed, sizeof x->seed, GRND_NONBLOCK) != (ssize_t)sizeof x->seed)
        x->seed = srn_now_us() ^ (uint64_t)(uintptr_t)x->slots;
    return true;
}

void srn__index_done(srn__index *x) {
    free(x->slots);
    *x = (srn__index){0};
}

/* The slot that holds the name, or the empty one where it belongs. */
static uint64_t slot_of(const srn__index *x, const void *table, srn__name_at_fn *at, srn_str name) {
    uint64_t i = hash_name(x->seed, name) & x->mask;
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
