/* The order of a row of logits: greatest first, ties to the lower id. A few are found by a heap that skips
 * blocks in which nothing is great enough; more are sorted a stage at a time, from the greatest on, because
 * an answer rarely needs to know how the tail is ordered. Pure; any thread.
 */
#include <float.h>

#include "base/num.h"
#include "engine/sampler_internal.h"

/* ---- the k greatest ---- */

/* Whether a goes before b: greater logit, then lower id. */
static bool before(const float *logits, int32_t a, int32_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

/* Heap of ids whose root is the last in order. */
static void sift_down(const float *logits, int32_t *heap, uint32_t n, uint32_t i) {
    for (;;) {
        uint32_t l = 2 * i + 1, r = l + 1, last = i;
        if (l < n && before(logits, heap[last], heap[l])) last = l;
        if (r < n && before(logits, heap[last], heap[r])) last = r;
        if (last == i) return;
        int32_t t = heap[i];
        heap[i] = heap[last];
        heap[last] = t;
        i = last;
    }
}

void srn_top_k(const float *logits, uint32_t n, uint32_t k, int32_t *ids) {
    const srn__row_ops *row = srn__row();
    if (k == 0) return;
    for (uint32_t i = 0; i < k; i++) ids[i] = (int32_t)i;
    for (uint32_t i = k / 2; i-- > 0;) sift_down(logits, ids, k, i);
    for (uint32_t b = k; b < n; b += SRN__ROW_BLOCK) {
        float greatest;
        uint32_t end = SRN_MIN(n, b + SRN__ROW_BLOCK);
        if (!(row->maxima(logits + b, end - b, &greatest) > logits[ids[0]])) continue;
        for (uint32_t i = b; i < end; i++)
            if (logits[i] > logits[ids[0]]) { /* on equality the id is higher, so it stays out */
                ids[0] = (int32_t)i;
                sift_down(logits, ids, k, 0);
            }
    }
    for (uint32_t m = k; m > 1;) { /* the root goes to the end, so the order becomes descending */
        int32_t t = ids[0];
        ids[0] = ids[--m];
        ids[m] = t;
        sift_down(logits, ids, m, 0);
    }
}

/* ---- entries: numbers that ascend in this order ---- */

/* High half: a float's bits such that greater floats give lower numbers, both zeros the same; low half: the
 * id. */
static uint64_t entry_of(float x, uint32_t id) {
    uint32_t bits = srn_bits_f32(x + 0.0f);
    bits = bits >> 31 ? bits : ~(bits | 0x80000000u);
    return (uint64_t)bits << 32 | id;
}

float srn__rank_logit(const srn__rank *r, uint32_t i) {
    uint32_t bits = (uint32_t)(r->entries[i] >> 32);
    return srn_f32_bits(bits >> 31 ? bits : ~bits & 0x7fffffffu);
}

static void insertion_sort(uint64_t *e, uint32_t n) {
    for (uint32_t i = 1; i < n; i++) {
        uint64_t v = e[i];
        uint32_t k = i;
        for (; k > 0 && e[k - 1] > v; k--) e[k] = e[k - 1];
        e[k] = v;
    }
}

/* By the four bytes of the high half, the lowest first; equal ones stay in the order in which they came,
 * which is that of their ids. A byte that all have in common is passed over. */
static void radix_sort(uint64_t *e, uint64_t *spare, uint32_t n) {
    uint32_t count[4][256] = {0};
    uint64_t *from = e, *to = spare;
    for (uint32_t i = 0; i < n; i++)
        for (int k = 0; k < 4; k++) count[k][e[i] >> (32 + 8 * k) & 0xff]++;
    for (int k = 0; k < 4; k++) {
        if (count[k][from[0] >> (32 + 8 * k) & 0xff] == n) continue;
        uint32_t at = 0;
        for (int v = 0; v < 256; v++) {
            uint32_t c = count[k][v];
            count[k][v] = at;
            at += c;
        }
        for (uint32_t i = 0; i < n; i++) to[count[k][from[i] >> (32 + 8 * k) & 0xff]++] = from[i];
        uint64_t *t = from;
        from = to;
        to = t;
    }
    if (from != e) memcpy(e, from, n * sizeof *e);
}

/* ---- ranks ---- */

bool srn__rank_begin(srn__rank *r, const float *logits, uint32_t n) {
    r->logits = logits;
    r->n = n;
    r->n_sorted = 0;
    r->max = srn__row()->maxima(logits, n, r->maxima);
    r->least = srn_f32_bits(0x7fc00000u); /* not a number: nothing is above it */
    return r->max > SRN__BANNED;
}

int32_t srn__rank_first(const srn__rank *r) {
    uint32_t i = 0;
    while (r->maxima[i] != r->max) i++;
    for (i *= SRN__ROW_BLOCK; r->logits[i] != r->max;) i++;
    return (int32_t)i;
}

/* A bound above which there are at least n values, for n up to the number of blocks that have any: each of
 * the n blocks with the greatest maxima has one. ids: room for n. */
static float bound_of(const srn__rank *r, uint32_t n, int32_t *ids) {
    uint32_t n_blocks = (r->n + SRN__ROW_BLOCK - 1) / SRN__ROW_BLOCK;
    srn_top_k(r->maxima, n_blocks, n, ids);
    return r->maxima[ids[n - 1]];
}

static float least_maximum(const srn__rank *r) {
    float least = r->max;
    for (uint32_t b = 0; b * SRN__ROW_BLOCK < r->n; b++)
        if (r->maxima[b] > SRN__BANNED && r->maxima[b] < least) least = r->maxima[b];
    return least;
}

/* Appends the entries of all values from `bound` on that are not sorted yet, in the order of their ids. */
static uint32_t gather(srn__rank *r, float bound) {
    uint64_t *to = r->entries + r->n_sorted;
    uint32_t n = 0;
    for (uint32_t b = 0; b * SRN__ROW_BLOCK < r->n; b++) {
        if (!(r->maxima[b] >= bound)) continue;
        uint32_t end = SRN_MIN(r->n, (b + 1) * SRN__ROW_BLOCK);
        for (uint32_t i = b * SRN__ROW_BLOCK; i < end; i++) { /* no branch: which ones is anybody's guess */
            float x = r->logits[i];
            to[n] = entry_of(x, i);
            n += (x >= bound) & !(x >= r->least);
        }
    }
    return n;
}

void srn__rank_to(srn__rank *r, float bound) {
    if (!(bound >= -FLT_MAX)) bound = -FLT_MAX; /* banned ones are below */
    if (bound >= r->least) return;
    uint32_t n = gather(r, bound);
    if (n <= 32)
        insertion_sort(r->entries + r->n_sorted, n);
    else
        radix_sort(r->entries + r->n_sorted, r->spare, n);
    r->n_sorted += n;
    r->least = bound;
}

void srn__rank_grow(srn__rank *r, uint32_t n) {
    uint32_t n_blocks = (r->n + SRN__ROW_BLOCK - 1) / SRN__ROW_BLOCK;
    float bound = SRN__BANNED;
    if (n <= n_blocks / 2) bound = bound_of(r, n, (int32_t *)r->spare);
    if (n <= n_blocks && !(bound > SRN__BANNED)) bound = least_maximum(r);
    srn__rank_to(r, bound);
    if (r->n_sorted < n) srn__rank_to(r, -FLT_MAX);
}
