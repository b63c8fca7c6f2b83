/* The merge loop that byte-pair encoding and SentencePiece share: symbols in a linked list, candidate pairs
 * in a binary heap, the best first and the leftmost of equals. O(n log n) for any text. One call's scratch;
 * no allocation but the growth of its arrays.
 */
#include "token/token_internal.h"

#include <stdlib.h>

static bool before(const srn__cand *a, const srn__cand *b) {
    return a->key != b->key ? a->key < b->key : a->left < b->left;
}

static void sift_down(srn__scratch *s, size_t i) {
    srn__cand *h = s->heap, x = h[i];
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= s->n_heap) break;
        if (c + 1 < s->n_heap && before(&h[c + 1], &h[c])) c++;
        s->steps++;
        if (!before(&h[c], &x)) break;
        h[i] = h[c];
        i = c;
    }
    h[i] = x;
}

static bool heap_push(srn__scratch *s, srn__cand x) {
    if (s->n_heap == s->heap_cap) {
        size_t cap = s->heap_cap ? s->heap_cap * 2 : 256;
        srn__cand *p = srn_realloc_array(s->heap, cap, sizeof *p);
        if (!p) return false;
        s->heap = p;
        s->heap_cap = cap;
    }
    size_t i = s->n_heap++;
    while (i > 0) {
        size_t up = (i - 1) / 2;
        s->steps++;
        if (!before(&x, &s->heap[up])) break;
        s->heap[i] = s->heap[up];
        i = up;
    }
    s->heap[i] = x;
    return true;
}

static bool consider(srn__scratch *s, const char *text, srn__pair_fn *pair, int32_t left) {
    if (left < 0 || s->syms[left].next < 0) return true;
    const srn__sym *a = &s->syms[left], *b = &s->syms[a->next];
    srn__cand c = {.left = (uint32_t)left, .len = a->len + b->len};
    s->steps++;
    if (!pair(s, text, a, b, &c.key, &c.id)) return true;
    return heap_push(s, c);
}

bool srn__sym_push(srn__scratch *s, size_t pos, size_t len, int32_t id) {
    if (s->n_syms == s->syms_cap) {
        size_t cap = s->syms_cap ? s->syms_cap * 2 : 256;
        srn__sym *p = srn_realloc_array(s->syms, cap, sizeof *p);
        if (!p) return false;
        s->syms = p;
        s->syms_cap = cap;
    }
    s->syms[s->n_syms++] = (srn__sym){.pos = (uint32_t)pos, .len = (uint32_t)len, .id = id};
    return true;
}

int srn__merge_all(srn__scratch *s, const char *text, srn__pair_fn *pair) {
    int32_t n = (int32_t)s->n_syms;
    for (int32_t i = 0; i < n; i++) {
        s->syms[i].prev = i - 1;
        s->syms[i].next = i + 1 < n ? i + 1 : -1;
    }
    s->n_heap = 0;
    for (int32_t i = 0; i + 1 < n; i++)
        if (!consider(s, text, pair, i)) goto nomem;
    while (s->n_heap > 0) {
        srn__cand c = s->heap[0];
        s->heap[0] = s->heap[--s->n_heap];
        if (s->n_heap) sift_down(s, 0);
        srn__sym *a = &s->syms[c.left];
        /* symbols only grow or vanish, so an equal total length means that neither did */
        if (a->len == 0 || a->next < 0 || a->len + s->syms[a->next].len != c.len) continue;
        srn__sym *b = &s->syms[a->next];
        a->len = c.len;
        a->id = c.id;
        a->next = b->next;
        b->len = 0;
        if (a->next >= 0) s->syms[a->next].prev = (int32_t)c.left;
        if (!consider(s, text, pair, a->prev) || !consider(s, text, pair, (int32_t)c.left)) goto nomem;
    }
    return SRN_OK;
nomem:
    return srn_fail_nomem(s->err, s->heap_cap * 2 * sizeof *s->heap);
}
