/* The order of logits, and the constant that makes log-probabilities of them. Pure; any thread. */
#include "base/num.h"
#include "engine/sampler_internal.h"

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
    if (k == 0) return;
    for (uint32_t i = 0; i < k; i++) ids[i] = (int32_t)i;
    for (uint32_t i = k / 2; i-- > 0;) sift_down(logits, ids, k, i);
    for (uint32_t i = k; i < n; i++)
        if (logits[i] > logits[ids[0]]) { /* on equality the id is higher, so it stays out */
            ids[0] = (int32_t)i;
            sift_down(logits, ids, k, 0);
        }
    for (uint32_t m = k; m > 1;) { /* the root goes to the end, so the order becomes descending */
        int32_t t = ids[0];
        ids[0] = ids[--m];
        ids[m] = t;
        sift_down(logits, ids, m, 0);
    }
}

#define LSE_CHUNK 4096u

double srn_log_sum_exp(const float *logits, uint32_t n) {
    float max = logits[0];
    for (uint32_t i = 1; i < n; i++) max = logits[i] > max ? logits[i] : max;
    double sum = 0;
    for (uint32_t c = 0; c < n; c += LSE_CHUNK) {
        float p[16] = {0};
        uint32_t end = SRN_MIN(n, c + LSE_CHUNK);
        for (uint32_t i = c; i < end; i++) p[i % 16] = p[i % 16] + srn_expf(logits[i] - max);
        sum += (double)srn_tree16(p);
    }
    return (double)max + srn_log(sum);
}
