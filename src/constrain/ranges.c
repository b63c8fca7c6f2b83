/* Sets of code points as sorted ranges, for character classes. Used by the grammar and its front ends, on one
 * thread at a time.
 */
#include "constrain/constrain_internal.h"

#include <stdlib.h>

#define FIRST_SURROGATE 0xD800u
#define LAST_SURROGATE  0xDFFFu

void srn__ranges_done(srn__ranges *s) {
    free(s->r);
    *s = (srn__ranges){0};
}

void srn__ranges_add(srn__ranges *s, uint32_t first, uint32_t last) {
    if (s->failed || first > last) return;
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 8;
        srn_range *r = srn_realloc_array(s->r, cap, sizeof *r);
        if (!r) {
            s->failed = true;
            return;
        }
        s->r = r;
        s->cap = cap;
    }
    s->r[s->n++] = (srn_range){first, last};
}

void srn__ranges_add_all(srn__ranges *s, const srn_range *r, size_t n) {
    for (size_t i = 0; i < n; i++) srn__ranges_add(s, r[i].first, r[i].last);
}

static int by_first(const void *a, const void *b) {
    const srn_range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

void srn__ranges_normalise(srn__ranges *s) {
    size_t n = s->n;
    for (size_t i = 0; i < n; i++) {
        srn_range *r = &s->r[i];
        uint32_t last = SRN_MIN(r->last, SRN__MAX_CP);
        if (r->first < FIRST_SURROGATE && last >= FIRST_SURROGATE) {
            srn__ranges_add(s, LAST_SURROGATE + 1, last);
            r = &s->r[i]; /* the array may have moved */
            r->last = FIRST_SURROGATE - 1;
        } else {
            if (r->first >= FIRST_SURROGATE && r->first <= LAST_SURROGATE) r->first = LAST_SURROGATE + 1;
            r->last = last;
        }
    }
    if (s->n > 1) qsort(s->r, s->n, sizeof *s->r, by_first);
    size_t out = 0;
    for (size_t i = 0; i < s->n; i++) {
        srn_range r = s->r[i];
        if (r.first > r.last) continue;
        bool joins = out && r.first <= s->r[out - 1].last + 1;
        if (joins)
            s->r[out - 1].last = SRN_MAX(s->r[out - 1].last, r.last);
        else
            s->r[out++] = r;
    }
    s->n = out;
}

void srn__ranges_negate(srn__ranges *s) {
    srn__ranges other = {0};
    uint32_t next = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->r[i].first > next) srn__ranges_add(&other, next, s->r[i].first - 1);
        next = s->r[i].last + 1;
    }
    if (next <= SRN__MAX_CP) srn__ranges_add(&other, next, SRN__MAX_CP);
    srn__ranges_normalise(&other);
    other.failed |= s->failed;
    srn__ranges_done(s);
    *s = other;
}
