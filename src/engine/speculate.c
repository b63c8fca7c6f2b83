/* Prompt look-up: what followed the last tokens when they stood in the text before. Pure. A draft never
 * changes an answer (the scheduler accepts a token only where it is the one that is drawn anyway), only how
 * many tokens a step brings.
 */
#include "engine/scheduler_internal.h"

uint32_t srn__draft(const int32_t *tokens, uint32_t n, uint32_t most, int32_t *ret) {
    uint32_t best = 1, at = n; /* tokens[at..] follows the place where `best` tokens agree */
    if (n < 3 || most == 0) return 0;
    for (uint32_t end = n - 1; end >= 2 && best < SRN__DRAFT_GRAM; end--) {
        if (tokens[end - 1] != tokens[n - 1] || tokens[end - 2] != tokens[n - 2]) continue;
        uint32_t len = 2;
        while (len < SRN__DRAFT_GRAM && len < end && tokens[end - 1 - len] == tokens[n - 1 - len]) len++;
        if (len > best) best = len, at = end;
    }
    if (best < 2) return 0;
    for (uint32_t i = 0; i < most; i++) /* past the end it goes on as it began: a text that repeats itself */
        ret[i] = i < n - at ? tokens[at + i] : ret[i - (n - at)];
    return most;
}
