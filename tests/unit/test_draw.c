/* Every stage of a draw against a reference that does what docs/numerics.md says in the plainest way: all ids
 * sorted, all sums in order. The library sorts only what it needs and must draw the same token each time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "base/num.h"
#include "engine/sampler_internal.h"

enum { MAX_N = 49152, MAX_HISTORY = 300 };

static uint64_t next(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static float unit(uint64_t *seed) {
    return (float)(next(seed) % (1u << 24)) / (float)(1u << 24);
}

/* ---- the reference ---- */

static float *by; /* what by_logit compares */

static int by_logit(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (by[x] != by[y]) return by[x] > by[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

static bool on(const uint64_t *allowed, uint32_t i) {
    return !allowed || (allowed[i / 64] >> (i % 64) & 1);
}

static void plain_bias(const srn__draw_in *d, float *l) {
    const srn_sampling *p = d->params;
    bool chosen = false;
    for (uint32_t i = 0; i < p->n_logit_bias; i++)
        chosen |= p->logit_bias[i].bias >= 100 && on(d->allowed, (uint32_t)p->logit_bias[i].id);
    for (uint32_t id = 0; id < d->n_vocab; id++) {
        float bias = 0;
        for (uint32_t i = 0; i < p->n_logit_bias; i++)
            if (p->logit_bias[i].id == (int32_t)id) bias = p->logit_bias[i].bias;
        if (bias > -100 && bias < 100) l[id] = l[id] + bias;
        if (!on(d->allowed, id) || (chosen ? bias < 100 : bias <= -100)) l[id] = -INFINITY;
    }
}

static bool among(const int32_t *ids, size_t n, int32_t id) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

static size_t begin(int32_t last_n, size_t n) {
    return last_n < 0 || (size_t)last_n > n ? 0 : n - (size_t)last_n;
}

static void plain_penalties(const srn__draw_in *d, float *l) {
    const srn_sampling *p = d->params;
    const int32_t *h = d->history;
    size_t n = d->n_history, from = begin(p->repeat_last_n, n);
    for (uint32_t id = 0; id < d->n_vocab; id++) {
        if (!among(h, n, (int32_t)id)) continue;
        if (p->repeat_penalty != 1 && among(h + from, n - from, (int32_t)id))
            l[id] = l[id] > 0 ? l[id] / p->repeat_penalty : l[id] * p->repeat_penalty;
        float count = 0;
        for (size_t i = d->n_prompt; i < n; i++) count += h[i] == (int32_t)id;
        if (count > 0) {
            float minus = count * p->frequency_penalty;
            minus = minus + p->presence_penalty;
            l[id] = l[id] - minus;
        }
    }
}

static void plain_dry(const srn__draw_in *d, float *l) {
    const srn_sampling *p = d->params;
    const int32_t *h = d->history;
    size_t n = d->n_history, from = begin(p->dry_last_n, n);
    for (uint32_t id = 0; id < d->n_vocab; id++) {
        int longest = 0;
        for (size_t i = from + 1; i < n; i++) {
            int length = 0;
            while (length < 64 && i >= from + 1 + (size_t)length && h[i] == (int32_t)id &&
                   h[i - 1 - (size_t)length] == h[n - 1 - (size_t)length] &&
                   !among(p->dry_breakers, p->n_dry_breakers, h[n - 1 - (size_t)length]))
                length++;
            longest = length > longest ? length : longest;
        }
        if (p->dry_multiplier == 0 || longest == 0 || longest < p->dry_allowed_length) continue;
        double penalty = (double)p->dry_multiplier;
        for (int i = p->dry_allowed_length; i < longest; i++) penalty *= (double)p->dry_base;
        l[id] = l[id] - (float)(penalty < 3e38 ? penalty : 3e38);
    }
}

/* rank[0..k): keeps those whose x is nearest to the mean, and returns how many. */
static uint32_t plain_typical(float typical_p, uint32_t k, int32_t *ids, const float *x, float *w) {
    static bool kept[MAX_N];
    double sum = 0, mean = 0, have = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < k; i++) sum += (double)w[i], kept[i] = false;
    for (uint32_t i = 0; i < k; i++) mean += (double)w[i] * (double)x[i];
    mean /= sum;
    do {
        uint32_t best = k;
        for (uint32_t i = 0; i < k; i++)
            if (!kept[i] && (best == k || fabs((double)x[i] - mean) < fabs((double)x[best] - mean))) best = i;
        if (best == k) break;
        kept[best] = true;
        have += (double)w[best];
    } while (have < (double)typical_p * sum);
    for (uint32_t i = 0; i < k; i++)
        if (kept[i]) ids[n] = ids[i], w[n++] = w[i];
    return n;
}

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int32_t plain_draw(const srn__draw_in *d) {
    static float l[MAX_N], x[MAX_N], w[MAX_N];
    static int32_t ids[MAX_N];
    const srn_sampling *p = d->params;
    uint32_t k = 0, cut = 0;
    memcpy(l, d->logits, d->n_vocab * sizeof *l);
    plain_bias(d, l);
    plain_penalties(d, l);
    plain_dry(d, l);
    for (uint32_t i = 0; i < d->n_vocab; i++)
        if (l[i] != -INFINITY) ids[k++] = (int32_t)i;
    by = l;
    qsort(ids, k, sizeof *ids, by_logit);
    if (k == 0) return -1;
    if (p->temperature == 0) return ids[0];
    if (p->top_k > 0 && (uint32_t)p->top_k < k) k = (uint32_t)p->top_k;
    for (uint32_t i = 0; i < k; i++) x[i] = (l[ids[i]] - l[ids[0]]) / p->temperature, w[i] = srn_expf(x[i]);
    if (p->typical_p < 1) k = plain_typical(p->typical_p, k, ids, x, w);
    double sum = 0, before = 0, total = 0;
    for (uint32_t i = 0; i < k; i++) sum += (double)w[i];
    while (cut < k && (cut == 0 || !(w[cut] < p->min_p * w[0] || before >= (double)p->top_p * sum)))
        before += (double)w[cut++];
    uint64_t z =
        mix(mix(p->seed + 0x9e3779b97f4a7c15u) ^ (d->position * 0xd1342543de82ef95u + 0x2545f4914f6cdd1du));
    double target = (double)(z >> 11) * 0x1p-53 * before;
    for (uint32_t i = 0; i < cut; i++) {
        total += (double)w[i];
        if (target < total) return ids[i];
    }
    return ids[cut - 1];
}

/* ---- random draws ---- */

/* Rows of every shape: smooth, with ties, all equal, one peak, extreme. */
static void fill(float *l, uint32_t n, uint64_t *seed) {
    uint64_t kind = next(seed) % 7;
    for (uint32_t i = 0; i < n; i++) {
        float v = 0; /* about normal */
        for (int k = 0; k < 6; k++) v += unit(seed) - 0.5f;
        v *= 6;
        if (kind == 1) v = floorf(v);
        if (kind == 2) v = floorf(v) / 1024;
        if (kind == 3) v = -1.25f;
        if (kind == 4) v = v * 30;
        if (kind == 6) v = floorf(v) * (next(seed) % 2 ? 0.0f : -0.0f);
        l[i] = kind == 5 ? v + 1e6f : v;
    }
    if (next(seed) % 3 == 0) l[next(seed) % n] += 12;
}

#define ONE_OF(...) ((const float[]){__VA_ARGS__}[next(seed) % SRN_LEN(((const float[]){__VA_ARGS__}))])

static srn_sampling params(uint32_t n, uint64_t *seed) {
    srn_sampling p = srn_sampling_default();
    p.temperature = ONE_OF(0, 0.1f, 0.7f, 1, 1, 2, 20);
    p.top_k = (int32_t)ONE_OF(0, 0, 0, 1, 5, 40, (float)(n / 2), (float)(n + 7));
    p.top_p = ONE_OF(1, 1, 0.95f, 0.5f, 0.25f, 1e-6f, 0.999f);
    p.min_p = ONE_OF(0, 0, 0, 0.05f, 1, 1e-4f, 1e-37f, 0.5f);
    p.typical_p = ONE_OF(1, 1, 1, 0.9f, 0.2f);
    p.repeat_penalty = ONE_OF(1, 1, 1.1f, 0.5f);
    p.repeat_last_n = (int32_t)ONE_OF(0, -1, 5, 1000);
    p.presence_penalty = ONE_OF(0, 0, 0.5f, -1.5f);
    p.frequency_penalty = ONE_OF(0, 0, 0.3f, -0.7f);
    p.dry_multiplier = ONE_OF(0, 0, 0.8f, 3);
    p.dry_base = ONE_OF(1, 1.75f, 100);
    p.dry_allowed_length = (int32_t)ONE_OF(0, 1, 2, 5);
    p.dry_last_n = (int32_t)ONE_OF(-1, 0, 1, 20, 1000);
    p.seed = next(seed);
    return p;
}

static void compare(uint32_t n, uint64_t at, void *scratch) {
    static float logits[MAX_N];
    static uint64_t allowed[MAX_N / 64];
    int32_t history[MAX_HISTORY], breakers[] = {1, 4};
    srn_logit_bias bias[4];
    uint64_t state = at, *seed = &state;
    fill(logits, n, seed);
    srn_sampling p = params(n, seed);
    if (n > 2000) p.typical_p = 1; /* the reference takes too long */
    srn__draw_in d = {
        .logits = logits, .n_vocab = n, .params = &p, .position = next(seed), .scratch = scratch};
    d.history = history;
    d.n_history = next(seed) % 3 ? next(seed) % MAX_HISTORY : 0;
    d.n_prompt = next(seed) % (d.n_history + 1);
    uint64_t variety = 1 + next(seed) % 6; /* few different tokens, so that sequences repeat */
    for (size_t i = 0; i < d.n_history; i++)
        history[i] = next(seed) % 40 ? (int32_t)(next(seed) % variety) : (int32_t)(next(seed) % 60000) - 5000;
    if (next(seed) % 3 == 0) p.dry_breakers = breakers, p.n_dry_breakers = 2;
    if (next(seed) % 3 == 0) {
        p.logit_bias = bias;
        for (int32_t id = 0; p.n_logit_bias < SRN_LEN(bias) && (uint32_t)id < n;
             id += 1 + (int32_t)(next(seed) % 9))
            bias[p.n_logit_bias++] = (srn_logit_bias){id, ONE_OF(-100, 5, -3, 99, -1000, 100, 2)};
    }
    if (next(seed) % 2) {
        uint64_t density = next(seed) % 4;
        for (uint32_t i = 0; i < (n + 63) / 64; i++)
            allowed[i] = density == 0   ? 0
                         : density == 1 ? next(seed) & next(seed) & next(seed) << 31
                         : density == 2 ? ~0ull
                                        : next(seed) << 33 | next(seed);
        uint32_t one = (uint32_t)(next(seed) % n);
        allowed[one / 64] |= 1ull << (one % 64);
        d.allowed = allowed;
    }
    srn_err err;
    if (srn_sampling_check(&p, &err)) fail_msg("%s", err.text);
    int32_t want = plain_draw(&d), got = srn__draw(&d);
    if (got != want)
        fail_msg("seed %llu, n %u: token %d, not %d (temperature %g top_k %d top_p %g min_p %g typical_p %g)",
                 (unsigned long long)at, n, got, want, (double)p.temperature, p.top_k, (double)p.top_p,
                 (double)p.min_p, (double)p.typical_p);
}

static void every_draw_is_that_of_the_reference(void **state) {
    (void)state;
    const uint32_t sizes[] = {1, 2, 3, 17, 63, 64, 65, 128, 500, 1000, 1500, 20011, 49152};
    for (size_t k = 0; k < SRN_LEN(sizes); k++) {
        void *scratch = calloc(1, srn__draw_scratch_bytes(sizes[k]));
        for (uint64_t i = 0; i < (sizes[k] < 2000 ? 500 : 15); i++) compare(sizes[k], 1000 * k + i, scratch);
        free(scratch);
    }
}

/* Where a sum is exactly on a border nobody can tell from bounds: the sum itself decides. */
static void sums_on_a_border_are_decided_exactly(void **state) {
    (void)state;
    static float logits[4096];
    void *scratch = calloc(1, srn__draw_scratch_bytes(4096));
    srn_sampling p = srn_sampling_default();
    p.temperature = 1, p.top_k = 0, p.min_p = 0;
    int last = 0;
    for (uint64_t i = 0; i < 2000; i++) {
        p.top_p = i % 2 ? 0.25f : 0.5f;
        srn__draw_in d = {.logits = logits, .n_vocab = 4096, .params = &p, .position = i, .scratch = scratch};
        int32_t token = srn__draw(&d);
        assert_int_equal(token, plain_draw(&d));
        assert_true(token < (i % 2 ? 1024 : 2048));
        last += token >= (i % 2 ? 1000 : 2000);
    }
    assert_true(last > 0);
    free(scratch);
}

/* ---- single stages, by hand ---- */

static float logits8[8];
static const float even[8] = {1, 1, 1, 1, 1, 1, 1, 1};

static int32_t greedy(const srn_sampling *p, const int32_t *history, size_t n_prompt, size_t n_history,
                      const uint64_t *allowed) {
    static uint64_t scratch[64];
    assert_true(srn__draw_scratch_bytes(8) <= sizeof scratch);
    return srn__draw(&(srn__draw_in){.logits = logits8,
                                     .n_vocab = 8,
                                     .params = p,
                                     .history = history,
                                     .n_prompt = n_prompt,
                                     .n_history = n_history,
                                     .allowed = allowed,
                                     .scratch = scratch});
}

static srn_sampling greedy_params(void) {
    srn_sampling p = srn_sampling_default();
    p.temperature = 0;
    memcpy(logits8, even, sizeof even);
    return p;
}

static void a_bias_moves_bans_and_chooses(void **state) {
    (void)state;
    srn_sampling p = greedy_params();
    srn_logit_bias bias[] = {{0, -100}, {3, 0.5f}};
    p.logit_bias = bias, p.n_logit_bias = 2;
    assert_int_equal(greedy(&p, NULL, 0, 0, NULL), 3);
    bias[1].bias = -0.5f;
    assert_int_equal(greedy(&p, NULL, 0, 0, NULL), 1); /* 0 is banned, 3 is lower */
    logits8[3] = -50, bias[1].bias = 100;
    assert_int_equal(greedy(&p, NULL, 0, 0, NULL), 3);
    const uint64_t without = 0x06;
    assert_int_equal(greedy(&p, NULL, 0, 0, &without), 1); /* what the mask forbids no bias chooses */
    const uint64_t only_banned = 0x01;
    assert_int_equal(greedy(&p, NULL, 0, 0, &only_banned), -1);
}

static void a_bias_that_leaves_nothing_is_an_error(void **state) {
    (void)state;
    srn_sampling p = greedy_params();
    srn_logit_bias bias[8];
    int32_t id = -7;
    srn_err err;
    for (int i = 0; i < 8; i++) bias[i] = (srn_logit_bias){i, -100};
    p.logit_bias = bias, p.n_logit_bias = 8;
    for (p.temperature = 0; p.temperature < 2; p.temperature++) {
        assert_int_equal(srn_sample(even, 8, &p, NULL, 0, 0, &id, &err), SRN_EINVAL);
        assert_non_null(strstr(err.text, "logit_bias"));
        assert_int_equal(id, -7);
    }
}

static void a_mask_of_one_token_leaves_no_choice(void **state) {
    (void)state;
    srn_sampling p = greedy_params();
    logits8[6] = -1e30f;
    const uint64_t mask = 1u << 6;
    for (int i = 0; i < 4; i++) {
        p.temperature = (float)i;
        p.top_k = i % 2 ? 0 : 40;
        assert_int_equal(greedy(&p, NULL, 0, 0, &mask), 6);
    }
}

static void presence_and_frequency_count_the_answer_only(void **state) {
    (void)state;
    srn_sampling p = greedy_params();
    const int32_t history[] = {0, 0, 1, 2, 2};
    p.presence_penalty = 0.1f;
    assert_int_equal(greedy(&p, history, 2, 5, NULL), 0); /* 0 stands in the prompt alone */
    assert_int_equal(greedy(&p, history, 0, 5, NULL), 3);
    p.presence_penalty = 0, p.frequency_penalty = 0.25f;
    logits8[2] = 1.4f; /* seen twice: 0.9; once would leave 1.15 */
    assert_int_equal(greedy(&p, history, 2, 5, NULL), 0);
    p.frequency_penalty = 0.15f;
    assert_int_equal(greedy(&p, history, 2, 5, NULL), 2);
}

static void dry_punishes_what_would_repeat_a_sequence_the_more_the_longer(void **state) {
    (void)state;
    srn_sampling p = greedy_params();
    const int32_t history[] = {5, 1, 2, 3, 7, 1, 2}; /* 3 followed "1 2" */
    p.dry_multiplier = 0.5f;
    logits8[3] = 1.6f;
    assert_int_equal(greedy(&p, history, 7, 7, NULL), 3); /* 1.6 - 0.5 */
    logits8[3] = 1.4f;
    assert_int_equal(greedy(&p, history, 7, 7, NULL), 0); /* 1.4 - 0.5 */
    p.dry_allowed_length = 3;
    assert_int_equal(greedy(&p, history, 7, 7, NULL), 3); /* "1 2" may repeat */
    p.dry_allowed_length = 1, logits8[3] = 1.8f;
    assert_int_equal(greedy(&p, history, 7, 7, NULL), 0); /* 1.8 - 0.5 * 1.75 */
    p.dry_last_n = 4;                                     /* "3 7 1 2" holds no earlier "1 2" */
    assert_int_equal(greedy(&p, history, 7, 7, NULL), 3);
    p.dry_last_n = -1;
    const int32_t breakers[] = {2, 6};
    p.dry_breakers = breakers, p.n_dry_breakers = 2;
    assert_int_equal(greedy(&p, history, 7, 7, NULL), 3);
}

/* ---- pinned: a change here would make recorded calls draw other tokens ---- */

static void draws_with_the_later_stages_are_those_of_the_numerics(void **state) {
    (void)state;
    static float logits[3000];
    uint64_t seed = 99;
    int32_t history[60];
    srn_logit_bias bias[] = {{5, 4.5f}, {17, -100}, {2900, 9}};
    uint64_t allowed[3000 / 64 + 1];
    for (int i = 0; i < 3000; i++) logits[i] = 8 * unit(&seed) - 4;
    for (int i = 0; i < 60; i++) history[i] = (int32_t)(next(&seed) % 4 * 700);
    for (size_t i = 0; i < SRN_LEN(allowed); i++) allowed[i] = next(&seed) << 33 | next(&seed);
    static const int32_t want[5][6] = {{2769, 1616, 2240, 96, 1468, 1098},  /* top-p alone */
                                       {2482, 483, 1488, 315, 1485, 1863},  /* typical */
                                       {2900, 2964, 2079, 1798, 1266, 0},   /* logit bias */
                                       {2375, 1693, 103, 41, 2783, 370},    /* penalties */
                                       {2620, 2138, 272, 1423, 930, 1271}}; /* and a mask */
    int32_t got[5][6];
    void *scratch = calloc(1, srn__draw_scratch_bytes(3000));
    for (int k = 0; k < 5; k++) {
        srn_sampling p = srn_sampling_default();
        p.top_k = 0, p.min_p = 0, p.top_p = 0.9f, p.temperature = 0.4f, p.seed = 12;
        if (k == 1) p.typical_p = 0.5f;
        if (k == 2) p.logit_bias = bias, p.n_logit_bias = 3, p.temperature = 1;
        if (k >= 3)
            p.presence_penalty = -0.5f, p.frequency_penalty = -0.2f, p.repeat_penalty = 0.9f,
            p.temperature = 0.7f, p.dry_multiplier = 0.8f;
        for (uint64_t i = 0; i < 6; i++)
            got[k][i] = srn__draw(&(srn__draw_in){.logits = logits,
                                                  .n_vocab = 3000,
                                                  .params = &p,
                                                  .history = history,
                                                  .n_prompt = 20,
                                                  .n_history = 60,
                                                  .position = i,
                                                  .allowed = k == 4 ? allowed : NULL,
                                                  .scratch = scratch});
    }
    free(scratch);
    assert_memory_equal(got, want, sizeof want);
}

/* ---- what draws are made of ---- */

static void ranks_are_a_full_sort_as_far_as_they_go(void **state) {
    (void)state;
    static float l[5000], maxima[80];
    static uint64_t entries[5001], spare[5001];
    static int32_t ids[5000];
    for (uint64_t round = 0; round < 300; round++) {
        uint64_t seed = round;
        uint32_t n = 1 + (uint32_t)(next(&seed) % 5000), live = 0;
        fill(l, n, &seed);
        for (uint32_t i = 0; i < n; i++)
            if (next(&seed) % 5 == 0) l[i] = SRN__BANNED;
        for (uint32_t i = 0; i < n; i++)
            if (l[i] != SRN__BANNED) ids[live++] = (int32_t)i;
        by = l;
        qsort(ids, live, sizeof *ids, by_logit);
        srn__rank r = {.maxima = maxima, .entries = entries, .spare = spare};
        assert_true(srn__rank_begin(&r, l, n) == (live > 0));
        if (live == 0) continue;
        assert_int_equal(srn__rank_first(&r), ids[0]);
        for (int step = 0; step < 4; step++) {
            uint32_t ask = (uint32_t)(next(&seed) % n) + 1;
            if (step % 2) srn__rank_to(&r, l[next(&seed) % n]);
            if (step % 2 == 0) srn__rank_grow(&r, ask);
            assert_true(step % 2 || r.n_sorted >= SRN_MIN(ask, live));
            assert_true(r.n_sorted <= live);
            for (uint32_t i = 0; i < r.n_sorted; i++) {
                assert_int_equal(srn__rank_id(&r, i), ids[i]);
                assert_true(srn__rank_logit(&r, i) == l[ids[i]]);
            }
        }
    }
}

#if defined(__x86_64__)
/* Bits of the reference for every length, with infinities and what is not a number among them. */
static void vector_passes_give_the_bits_of_the_reference(void **state) {
    (void)state;
    const srn__row_ops *ref = &srn__row_ref, *fast = srn__row();
    if (fast == ref) skip();
    enum { N = 700 };
    static float x[N], a[N], b[N], wa[N], wb[N];
    static uint64_t allowed[N / 64 + 1];
    for (uint64_t round = 0; round < 2000; round++) {
        uint64_t seed = round;
        uint32_t n = (uint32_t)(next(&seed) % N) + 1;
        fill(x, n, &seed);
        if (round % 4 == 0)
            for (uint32_t i = 0; i < n; i += 1 + (uint32_t)(next(&seed) % 20))
                x[i] = (const float[]){INFINITY, -INFINITY, NAN, 3e38f, -3e38f, 1e-40f}[next(&seed) % 6];
        for (size_t i = 0; i < SRN_LEN(allowed); i++) allowed[i] = next(&seed) << 33 | next(&seed);
        float m = ref->maxima(x, n, a), t = 0.1f + unit(&seed), bounds[SRN__BANDS], bands[2][SRN__BANDS];
        float got = fast->maxima(x, n, b);
        assert_true(m == got); /* of two zeros either will do */
        for (uint32_t i = 0; i * SRN__ROW_BLOCK < n; i++) assert_true(a[i] == b[i]);
        ref->mask(x, n, allowed, a), fast->mask(x, n, allowed, b);
        assert_memory_equal(a, b, n * sizeof *a);
        float p[16] = {1}, q[16] = {1};
        ref->add_exp(x, n, m, p), fast->add_exp(x, n, m, q);
        assert_memory_equal(p, q, sizeof p);
        for (int j = 0; j < SRN__BANDS; j++) bounds[j] = m - (float)j;
        double s = ref->weight_sum(x, n, m, t, bounds, bands[0]),
               s2 = fast->weight_sum(x, n, m, t, bounds, bands[1]);
        assert_true(fabs(s - s2) <= 2.0 * N * 0x1p-53 * s);
        for (int j = 0; j < SRN__BANDS && round % 4; j++)
            assert_true(fabsf(bands[0][j] - bands[1][j]) <= 1e-4f * bands[0][j]);
        memcpy(a, x, n * sizeof *a), memcpy(b, x, n * sizeof *b);
        ref->weights(a, n, m, t, wa), fast->weights(b, n, m, t, wb);
        for (uint32_t i = 0; i < n; i++)
            assert_true(memcmp(a + i, b + i, sizeof *a) == 0 || (a[i] != a[i] && b[i] != b[i]));
        assert_memory_equal(wa, wb, n * sizeof *wa);
    }
}
#endif

static void log_probabilities_come_from_the_raw_logits(void **state) {
    (void)state;
    static float l[10000];
    static int32_t ids[10000];
    for (uint64_t round = 0; round < 40; round++) {
        uint64_t seed = round;
        uint32_t n = (uint32_t)(next(&seed) % 10000) + 1,
                 n_top = (uint32_t)(next(&seed) % (SRN__MAX_TOP + 1));
        fill(l, n, &seed);
        double sum = 0;
        for (uint32_t i = 0; i < n; i++) ids[i] = (int32_t)i;
        by = l;
        qsort(ids, n, sizeof *ids, by_logit);
        for (uint32_t i = 0; i < n; i++) sum += exp((double)l[i] - (double)l[ids[0]]);
        float logprob;
        srn_top_token tops[SRN__MAX_TOP];
        int32_t token = (int32_t)(next(&seed) % n);
        srn__logprobs(l, n, token, n_top, &logprob, tops);
        double shift = (double)l[ids[0]] + log(sum), allowed = 1e-6 + 1e-6 * fabs((double)l[token] - shift);
        assert_true(fabs((double)logprob - ((double)l[token] - shift)) < allowed);
        for (uint32_t i = 0; i < n_top && i < n; i++) {
            assert_int_equal(tops[i].id, ids[i]);
            if (tops[i].id == token) assert_true(tops[i].logprob == logprob);
            assert_true(i == 0 || tops[i].logprob <= tops[i - 1].logprob);
        }
    }
}

static void each_wrong_field_is_named(void **state) {
    (void)state;
    srn_sampling p;
    srn_err e;
#define REFUSED(field, value)                                                                                \
    do {                                                                                                     \
        p = srn_sampling_default();                                                                          \
        p.dry_multiplier = 1;                                                                                \
        p.field = value;                                                                                     \
        assert_int_equal(srn_sampling_check(&p, &e), SRN_EINVAL);                                            \
        assert_memory_equal(e.text, #field, sizeof #field - 1);                                              \
    } while (0)
    REFUSED(temperature, NAN);
    REFUSED(top_k, -1);
    REFUSED(top_p, 0);
    REFUSED(min_p, NAN);
    REFUSED(typical_p, 0);
    REFUSED(typical_p, NAN);
    REFUSED(repeat_penalty, INFINITY);
    REFUSED(repeat_last_n, -2);
    REFUSED(presence_penalty, 2.5f);
    REFUSED(presence_penalty, NAN);
    REFUSED(frequency_penalty, -INFINITY);
    REFUSED(frequency_penalty, NAN);
    REFUSED(dry_multiplier, NAN);
    REFUSED(dry_base, 0.5f);
    REFUSED(dry_allowed_length, -1);
    REFUSED(dry_last_n, -2);
    const srn_logit_bias twice[] = {{3, 1}, {3, 2}}, unsorted[] = {{4, 1}, {3, 2}}, nan[] = {{1, NAN}},
                         negative[] = {{-1, 1}};
    const srn_logit_bias *const lists[] = {twice, unsorted, nan, negative};
    for (size_t i = 0; i < SRN_LEN(lists); i++) {
        p = srn_sampling_default();
        p.logit_bias = lists[i], p.n_logit_bias = i < 2 ? 2 : 1;
        assert_int_equal(srn_sampling_check(&p, &e), SRN_EINVAL);
        assert_memory_equal(e.text, "logit_bias", 10);
    }
    p.logit_bias = unsorted, p.n_logit_bias = 1;
    assert_int_equal(srn_sampling_check_ids(&p, 5, &e), SRN_OK);
    assert_int_equal(srn_sampling_check_ids(&p, 4, &e), SRN_EINVAL);
    assert_non_null(strstr(e.text, "logit_bias names the token 4"));
    p = srn_sampling_default();
    p.dry_base = 0, p.dry_allowed_length = 0; /* of no account without a multiplier */
    assert_int_equal(srn_sampling_check(&p, &e), SRN_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_draw_is_that_of_the_reference),
        cmocka_unit_test(sums_on_a_border_are_decided_exactly),
        cmocka_unit_test(a_bias_moves_bans_and_chooses),
        cmocka_unit_test(a_bias_that_leaves_nothing_is_an_error),
        cmocka_unit_test(a_mask_of_one_token_leaves_no_choice),
        cmocka_unit_test(presence_and_frequency_count_the_answer_only),
        cmocka_unit_test(dry_punishes_what_would_repeat_a_sequence_the_more_the_longer),
        cmocka_unit_test(draws_with_the_later_stages_are_those_of_the_numerics),
        cmocka_unit_test(ranks_are_a_full_sort_as_far_as_they_go),
#if defined(__x86_64__)
        cmocka_unit_test(vector_passes_give_the_bits_of_the_reference),
#endif
        cmocka_unit_test(log_probabilities_come_from_the_raw_logits),
        cmocka_unit_test(each_wrong_field_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
