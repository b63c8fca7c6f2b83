/* The sampler: a pure function of logits, parameters, history and position. Its exp, its sums, its order of
 * ties and its random numbers are part of the numerics (docs/numerics.md), so that a call replays to the bit.
 */
#include <stdlib.h>

#include "base/num.h"
#include "engine/engine_internal.h"

srn_sampling srn_sampling_default(void) {
    return (srn_sampling){.temperature = 0.8f,
                          .top_k = 40,
                          .top_p = 0.95f,
                          .min_p = 0.05f,
                          .repeat_penalty = 1.0f,
                          .repeat_last_n = 64};
}

int srn_sampling_check(const srn_sampling *p, srn_err *err) {
    if (!(p->temperature >= 0 && p->temperature <= 100))
        return srn_fail(err, SRN_EINVAL, "temperature %g is outside 0..100", (double)p->temperature);
    if (p->top_k < 0) return srn_fail(err, SRN_EINVAL, "top_k %d is negative; 0 means all", p->top_k);
    if (!(p->top_p > 0 && p->top_p <= 1))
        return srn_fail(err, SRN_EINVAL, "top_p %g is outside (0, 1]", (double)p->top_p);
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return srn_fail(err, SRN_EINVAL, "min_p %g is outside 0..1", (double)p->min_p);
    if (!(p->repeat_penalty > 0 && p->repeat_penalty <= 100))
        return srn_fail(err, SRN_EINVAL, "repeat_penalty %g is outside (0, 100]; 1 means none",
                        (double)p->repeat_penalty);
    if (p->repeat_last_n < 0)
        return srn_fail(err, SRN_EINVAL, "repeat_last_n %d is negative", p->repeat_last_n);
    return SRN_OK;
}

/* Finaliser of splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A number in [0, 1) keyed by seed and position: the draw does not depend on what was drawn before. */
static double uniform(uint64_t seed, uint64_t position) {
    uint64_t z =
        mix(mix(seed + 0x9e3779b97f4a7c15u) ^ (position * 0xd1342543de82ef95u + 0x2545f4914f6cdd1du));
    return (double)(z >> 11) * 0x1p-53;
}

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

static void penalise(float *logits, uint32_t n_vocab, const srn_sampling *p, const int32_t *history,
                     size_t n) {
    size_t from = n > (size_t)p->repeat_last_n ? n - (size_t)p->repeat_last_n : 0;
    for (size_t i = from; i < n; i++) {
        int32_t id = history[i];
        bool seen = id < 0 || (uint32_t)id >= n_vocab;
        for (size_t k = from; k < i && !seen; k++) seen = history[k] == id;
        if (!seen)
            logits[id] = logits[id] > 0 ? logits[id] / p->repeat_penalty : logits[id] * p->repeat_penalty;
    }
}

/* Weights e^((logit - max)/temperature) of ids[0..k) in order; returns their sum. */
static double weights_of(const float *logits, const int32_t *ids, uint32_t k, float temperature, float *w) {
    double sum = 0;
    for (uint32_t i = 0; i < k; i++) {
        w[i] = srn_expf((logits[ids[i]] - logits[ids[0]]) / temperature);
        sum += (double)w[i];
    }
    return sum;
}

/* How many of the k ordered candidates survive top-p and min-p; at least one. */
static uint32_t survivors(const float *w, uint32_t k, double sum, const srn_sampling *p) {
    double cumulative = 0;
    for (uint32_t i = 0; i < k; i++) {
        if (i > 0 && (w[i] < p->min_p * w[0] || cumulative >= (double)p->top_p * sum)) return i;
        cumulative += (double)w[i];
    }
    return k;
}

static int32_t draw(const float *logits, uint32_t k, const srn_sampling *p, uint64_t position, int32_t *ids,
                    float *w) {
    double sum = weights_of(logits, ids, k, p->temperature, w);
    uint32_t n = survivors(w, k, sum, p);
    double total = 0, cumulative = 0;
    for (uint32_t i = 0; i < n; i++) total += (double)w[i];
    double target = uniform(p->seed, position) * total;
    for (uint32_t i = 0; i + 1 < n; i++) {
        cumulative += (double)w[i];
        if (target < cumulative) return ids[i];
    }
    return ids[n - 1];
}

int32_t srn__sample_in(const float *logits, uint32_t n_vocab, const srn_sampling *p, const int32_t *history,
                       size_t n_history, uint64_t position, void *scratch) {
    float *own = scratch, *w = own + n_vocab;
    int32_t *ids = (int32_t *)(w + n_vocab);
    bool greedy = p->temperature <= 0;
    uint32_t k = greedy ? 1 : p->top_k > 0 ? SRN_MIN((uint32_t)p->top_k, n_vocab) : n_vocab;
    if (p->repeat_penalty != 1.0f && p->repeat_last_n > 0) {
        memcpy(own, logits, n_vocab * sizeof *own);
        penalise(own, n_vocab, p, history, n_history);
        logits = own;
    }
    srn_top_k(logits, n_vocab, k, ids);
    return greedy ? ids[0] : draw(logits, k, p, position, ids, w);
}

int srn_sample(const float *logits, uint32_t n_vocab, const srn_sampling *p, const int32_t *history,
               size_t n_history, uint64_t position, int32_t *ret, srn_err *err) {
    void *scratch = malloc(srn__sample_scratch_bytes(n_vocab));
    if (!scratch) return srn_fail_nomem(err, srn__sample_scratch_bytes(n_vocab));
    *ret = srn__sample_in(logits, n_vocab, p, history, n_history, position, scratch);
    free(scratch);
    return SRN_OK;
}
