/* Which arm a conversation began with, so that no later share moves it: a table of a fixed number of places,
 * found by the conversation's number; the least recently used of a few neighbours makes room. One thread at a
 * time.
 */
#include <stdlib.h>

#include "canary/canary_internal.h"

enum { WAYS = 8 };

struct srn_pins {
    uint64_t *keys; /* [n_sets, WAYS]; 0: free */
    srn_pin *pins;
    size_t n_sets;
    uint64_t keep_us;
};

int srn_pins_new(size_t n, uint64_t keep_us, srn_pins **ret, srn_err *err) {
    srn_pins *p = srn_calloc(1, sizeof *p);
    if (!p) return srn_fail_nomem(err, sizeof *p);
    p->n_sets = SRN_MAX(n / WAYS, (size_t)1);
    p->keep_us = keep_us;
    p->keys = srn_calloc(p->n_sets * WAYS, sizeof *p->keys);
    p->pins = srn_calloc(p->n_sets * WAYS, sizeof *p->pins);
    if (!p->keys || !p->pins) {
        srn_pins_free(p);
        return srn_fail_nomem(err, n * (sizeof *p->keys + sizeof *p->pins));
    }
    *ret = p;
    return SRN_OK;
}

void srn_pins_free(srn_pins *p) {
    if (!p) return;
    free(p->keys);
    free(p->pins);
    free(p);
}

/* The conversation's place, or SIZE_MAX; *ret_free: the best place for a new one. */
static size_t find(const srn_pins *p, uint64_t key, size_t *ret_free) {
    size_t first = (size_t)(key % p->n_sets) * WAYS;
    *ret_free = first;
    for (size_t i = first; i < first + WAYS; i++) {
        if (p->keys[i] == key) return i;
        if (!p->keys[*ret_free]) continue;
        if (!p->keys[i] || p->pins[i].at_us < p->pins[*ret_free].at_us) *ret_free = i;
    }
    return SIZE_MAX;
}

bool srn_pins_get(srn_pins *p, uint64_t conversation, uint64_t now_us, srn_pin *ret) {
    uint64_t key = conversation + !conversation;
    size_t free_at, i = find(p, key, &free_at);
    if (i == SIZE_MAX) return false;
    if (now_us > p->pins[i].at_us && now_us - p->pins[i].at_us > p->keep_us) return false;
    p->pins[i].at_us = SRN_MAX(p->pins[i].at_us, now_us);
    *ret = p->pins[i];
    return true;
}

void srn_pins_put(srn_pins *p, uint64_t conversation, const srn_pin *pin) {
    uint64_t key = conversation + !conversation;
    size_t free_at, i = find(p, key, &free_at);
    if (i == SIZE_MAX) i = free_at;
    p->keys[i] = key;
    p->pins[i] = *pin;
}
