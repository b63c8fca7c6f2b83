/* Two look-ups from bytes to token ids: a hash table of whole texts, and the matcher that finds the longest
 * special token at a position. Owns its arrays, borrows the texts; built by vocab.c, read by any thread.
 */
#include "token/token_internal.h"

#include <stdlib.h>

bool srn__strtab_init(srn__strtab *t, size_t n_max) {
    size_t slots = 16;
    while (slots < n_max * 2) slots *= 2;
    t->key = srn_calloc(slots, sizeof *t->key);
    t->id = srn_calloc(slots, sizeof *t->id);
    t->mask = (uint32_t)(slots - 1);
    t->n = 0;
    t->seed = srn_hash_seed(); /* so that no vocabulary can be made to collide */
    return t->key && t->id;
}

void srn__strtab_done(srn__strtab *t) {
    free(t->key);
    free(t->id);
    *t = (srn__strtab){0};
}

static uint32_t slot_of(const srn__strtab *t, srn_str text) {
    uint32_t i = (uint32_t)srn_hash(t->seed, text) & t->mask;
    while (t->key[i].ptr && !srn_str_eq(t->key[i], text)) i = (i + 1) & t->mask;
    return i;
}

bool srn__strtab_put(srn__strtab *t, srn_str text, int32_t id) {
    if ((uint64_t)t->n * 2 > t->mask) { /* more than half full: twice the slots */
        srn__strtab big;
        if (!srn__strtab_init(&big, (size_t)t->mask + 1)) return srn__strtab_done(&big), false;
        for (uint32_t i = 0; i <= t->mask; i++)
            if (t->key[i].ptr && !srn__strtab_put(&big, t->key[i], t->id[i])) return false;
        srn__strtab_done(t);
        *t = big;
    }
    uint32_t i = slot_of(t, text);
    if (t->key[i].ptr) return true;
    t->key[i] = text;
    t->id[i] = id;
    t->n++;
    return true;
}

int32_t srn__strtab_get(const srn__strtab *t, srn_str text) {
    if (text.len == 0) return -1;
    uint32_t i = slot_of(t, text);
    return t->key[i].ptr ? t->id[i] : -1;
}

/* ---- the matcher ---- */

typedef struct entry {
    srn_str text;
    int32_t id;
} entry;

static int by_bytes(const void *x, const void *y) {
    const entry *a = x, *b = y;
    int c = memcmp(a->text.ptr, b->text.ptr, SRN_MIN(a->text.len, b->text.len));
    if (c) return c;
    if (a->text.len != b->text.len) return a->text.len < b->text.len ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

int srn__matcher_init(srn__matcher *m, const srn_str *texts, const int32_t *ids, uint32_t n, srn_err *err) {
    entry *e = srn_calloc(n, sizeof *e);
    m->text = srn_calloc(n, sizeof *m->text);
    m->id = srn_calloc(n, sizeof *m->id);
    if (!e || !m->text || !m->id) {
        free(e);
        return srn_fail_nomem(err, n * sizeof *e);
    }
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++)
        if (texts[i].len) e[k++] = (entry){texts[i], ids[i]};
    if (k) qsort(e, k, sizeof *e, by_bytes);
    m->n = 0;
    for (uint32_t i = 0; i < k; i++) {
        if (m->n && srn_str_eq(m->text[m->n - 1], e[i].text)) continue; /* the lowest id keeps the text */
        m->text[m->n] = e[i].text;
        m->id[m->n++] = e[i].id;
    }
    free(e);
    uint32_t at = 0;
    for (uint32_t b = 0; b < 257; b++) {
        while (at < m->n && (uint8_t)m->text[at].ptr[0] < b) at++;
        m->first[b] = at;
    }
    return SRN_OK;
}

void srn__matcher_done(srn__matcher *m) {
    free(m->text);
    free(m->id);
    *m = (srn__matcher){0};
}

/* First index in lo..hi whose byte at depth is at least want; all texts there are longer than depth. */
static uint32_t lower_bound(const srn__matcher *m, uint32_t lo, uint32_t hi, size_t depth, unsigned want) {
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if ((uint8_t)m->text[mid].ptr[depth] < want)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

size_t srn__matcher_longest(const srn__matcher *m, const char *p, size_t n, int32_t *ret_id) {
    if (n == 0 || m->n == 0) return 0;
    uint8_t b = (uint8_t)p[0];
    uint32_t lo = m->first[b], hi = m->first[b + 1];
    size_t best = 0;
    for (size_t depth = 1; lo < hi; depth++) {
        if (m->text[lo].len == depth) { /* the shortest of equal prefixes sorts first */
            best = depth;
            *ret_id = m->id[lo++];
        }
        if (depth == n) break;
        b = (uint8_t)p[depth];
        lo = lower_bound(m, lo, hi, depth, b);
        hi = lower_bound(m, lo, hi, depth, b + 1u);
    }
    return best;
}
