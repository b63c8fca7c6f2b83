/* What an answer was like, from its tokens alone: how much of it repeats itself, and how sure the model was.
 * Called where calls are recorded, once an answer has ended. Pure; any thread. Time and memory grow with the
 * answer up to a bound.
 */
#include <stdlib.h>

#include "base/num.h"
#include "engine/scheduler.h"

enum { GRAM = 4, MOST_TOKENS = 32768 };

/* The first GRAM-gram that is equal to the one at index i, or i itself, which is then remembered. slots [mask
 * + 1] hold index + 1, 0: none. */
static uint32_t first_equal(const srn_out_token *t, uint32_t i, uint32_t *slots, uint32_t mask,
                            uint64_t seed) {
    int32_t ids[GRAM];
    for (uint32_t k = 0; k < GRAM; k++) ids[k] = t[i + k].id;
    uint64_t at = srn_hash(seed, (srn_str){(const char *)ids, sizeof ids});
    for (;; at++) {
        uint32_t *slot = &slots[at & mask], k = 0;
        if (*slot == 0) return *slot = i + 1, i;
        while (k < GRAM && t[*slot - 1 + k].id == ids[k]) k++;
        if (k == GRAM) return *slot - 1;
    }
}

double srn_answer_repetition(const srn_out_token *tokens, uint32_t n) {
    n = SRN_MIN(n, (uint32_t)MOST_TOKENS);
    if (n < GRAM) return NAN;
    uint32_t n_grams = n - GRAM + 1, n_slots = 16, n_again = 0;
    while (n_slots < 2 * n_grams) n_slots *= 2;
    uint32_t *slots = srn_calloc(n_slots, sizeof *slots);
    if (!slots) return NAN;
    uint64_t seed = srn_hash_seed(); /* nobody can write an answer whose parts all collide */
    for (uint32_t i = 0; i < n_grams; i++) n_again += first_equal(tokens, i, slots, n_slots - 1, seed) != i;
    free(slots);
    return (double)n_again / (double)n_grams;
}

double srn_answer_uncertainty(const srn_out_token *tokens, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum -= (double)tokens[i].logprob;
    return n ? sum / (double)n : NAN;
}
