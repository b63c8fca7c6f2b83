/* Attention in v16 operations: docs/numerics.md, equal to src/cpu/ref/attention_ref.c to the bit. Included
 * once by each ISA's attention file. Any thread; the scratch belongs to the call.
 *
 * A pair is one query of one head. Pairs that share the KV head are worked on in batches of at most BATCH, so
 * that a segment of K and V comes from memory once a batch; a batch is cut into tiles of at most PAIRS, whose
 * accumulators live in registers:
 *
 *   scores   a lane is a position: acc[pair][group] += q[pair][d] * K[group][d][16 positions], d ascending
 *   softmax  of each pair over the positions that it sees
 *   values   a lane is a d: acc[pair][chunk] += p[pair][j] * V[j][16 of d], j ascending
 *
 * Scores of positions that a pair does not see cost a lane and are dropped. In the value product they must be
 * skipped, for adding 0 * v turns -0 into +0 and a NaN of an unwritten position into a NaN: positions that
 * all pairs of a tile see run without checks, the few others with one for each pair.
 */
#ifndef SRN_CPU_SIMD_ATTENTION_H
#define SRN_CPU_SIMD_ATTENTION_H

#include "cpu/simd/v16.h"

#define PAIRS 6
#define BATCH 48

/* Groups of 16 positions, or chunks of 16 values, that a tile of n pairs holds in registers: n *
 * TILE_WIDTH(n) accumulators, at most 24 of 32 registers, or 6 times two of 16, with room for K or V and a
 * broadcast. */
#if defined(__AVX512F__)
#define TILE_WIDTH(n) 4
#else
#define TILE_WIDTH(n) ((n) == 1 ? 4 : (n) == 2 ? 2 : 1)
#endif
#define MAX_WIDTH 4

#define SEGMENT_GROUPS (SRN_SEGMENT / 16)

/* What becomes of a pair's result of one segment. */
enum { SEES_NOTHING, FIRST_SEGMENT, MERGE };

/* Where one segment's K and V lie, and what is read after them. A block of V is here what lies in one piece:
 * the cache's block, or of type q8_0 16 positions. */
typedef struct seg {
    uint32_t base;                    /* its first position */
    uint32_t block_shift;             /* log2 of positions per block of V */
    const uint8_t *k[SEGMENT_GROUPS]; /* group g */
    const uint8_t *v[SEGMENT_GROUPS]; /* block b */
    /* To fetch ahead, never dereferenced: group g of K as above, but V beyond the last; the block of V after
     * block b, and after the last the next segment's K, or the next call's. */
    const uint8_t *after_k[SEGMENT_GROUPS + MAX_WIDTH], *after_v[SEGMENT_GROUPS];
} seg;

/* One tile against one segment; positions count from the segment's first. */
typedef struct tile {
    uint32_t n;     /* pairs */
    const float *q; /* [d_k][PAIRS] */
    float *o;       /* [n][o_stride] */
    size_t o_stride;
    uint32_t lo[PAIRS], hi[PAIRS]; /* pair p sees [lo, hi) */
    uint32_t any_lo, any_hi;       /* some pair sees */
    uint32_t all_lo, all_hi;       /* every pair sees; [any_hi, any_hi) when there is none */
    uint8_t how[PAIRS];
    float keep[PAIRS], take[PAIRS];           /* factors of a merge */
    _Alignas(64) float s[PAIRS][SRN_SEGMENT]; /* scores, then exp(score - max) */
} tile;

V16_FN v16 load_kv(srn_kv_type type, const uint8_t *base, size_t index) {
    if (type == SRN_KV_F32) return v16_load((const float *)(const void *)base + index);
    return v16_load_f16((const uint16_t *)(const void *)base + index);
}
V16_FN v16 load_kv_part(srn_kv_type type, const uint8_t *base, size_t index, uint32_t n) {
    if (type == SRN_KV_F32) return v16_load_part((const float *)(const void *)base + index, n);
    uint16_t h[16] = {0};
    memcpy(h, (const uint16_t *)(const void *)base + index, n * sizeof *h);
    return v16_load_f16(h);
}
V16_FN v16 load_codes(const uint8_t *p) {
    return v16_load_i8((const int8_t *)p);
}
V16_FN v16 load_codes_part(const uint8_t *p, uint32_t n) {
    int8_t c[16] = {0};
    memcpy(c, p, n);
    return v16_load_i8(c);
}
V16_FN v16 load_scales(const uint8_t *p) {
    return v16_load_upper((const uint16_t *)(const void *)p);
}
V16_FN size_t row_bytes_of(srn_kv_type type, uint32_t d) {
    return (size_t)d * (type == SRN_KV_F32 ? 4 : type == SRN_KV_F16 ? 2 : 1);
}

/* ---- scores ---- */

/* Few pairs mean a decode step, whose time is that of reading K and V from memory: what comes next is fetched
 * in the order of addresses, for the tiles' own order, several streams of a group each, has half the speed.
 */
#define FETCHES_AHEAD(n) ((n) <= 4)

V16_FN void fetch(const uint8_t *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
}

/* Dot products of n pairs with groups g to g+width-1. */
V16_FN void score_groups(srn_kv_type type, uint32_t n, uint32_t width, tile *t, const seg *sg, uint32_t d_k,
                         uint32_t g) {
    size_t row_bytes = row_bytes_of(type, 16), at = 0;
    v16 acc[PAIRS][MAX_WIDTH];
    V16_UNROLL for (uint32_t p = 0; p < n; p++) V16_UNROLL for (uint32_t w = 0; w < width; w++) acc[p][w] =
        v16_set1(0.0f);
    const float *q = t->q;
    for (uint32_t part = 0; part < width; part++) {
        const uint8_t *next = sg->after_k[g + MAX_WIDTH + part];
        uint32_t stop = d_k * (part + 1) / width;
        for (uint32_t d = d_k * part / width; d < stop; d++, q += PAIRS, at += row_bytes) {
            if (FETCHES_AHEAD(n)) {
                fetch(next, width * row_bytes);
                next += width * row_bytes;
            }
            V16_UNROLL for (uint32_t w = 0; w < width; w++) {
                v16 kv = load_kv(type, sg->k[g + w] + at, 0);
                V16_UNROLL for (uint32_t p = 0; p < n; p++) acc[p][w] =
                    v16_fma(v16_set1(q[p]), kv, acc[p][w]);
            }
        }
    }
    V16_UNROLL for (uint32_t p = 0; p < n; p++) V16_UNROLL for (uint32_t w = 0; w < width; w++)
        v16_store(t->s[p] + (g + w) * 16, acc[p][w]);
}

/* The same of type q8_0, a group of dimensions after the other. */
V16_FN void score_groups_q8(uint32_t n, uint32_t width, tile *t, const seg *sg, uint32_t d_k, uint32_t g) {
    v16 acc[PAIRS][MAX_WIDTH], scale[MAX_WIDTH];
    V16_UNROLL for (uint32_t p = 0; p < n; p++) V16_UNROLL for (uint32_t w = 0; w < width; w++) acc[p][w] =
        v16_set1(0.0f);
    const float *q = t->q;
    size_t at = 0;
    const uint8_t *const *after = sg->after_k + g + MAX_WIDTH, *next = *after;
    uint32_t fetched = 0; /* dimensions of *after; a line is four rows and their part of the scales */
    for (uint32_t d = 0; d < d_k; d += SRN_KV_GROUP) {
        V16_UNROLL for (uint32_t w = 0; w < width; w++) scale[w] = load_scales(sg->k[g + w] + at);
        at += 32;
        for (uint32_t end = SRN_MIN(d_k, d + SRN_KV_GROUP), i = d; i < end; i++, q += PAIRS, at += 16) {
            if (FETCHES_AHEAD(n) && i * width % 4 == 0) {
                if (fetched >= d_k) next = *++after, fetched = 0;
                fetch(next, 1);
                next += 4 * 17, fetched += 4;
            }
            V16_UNROLL for (uint32_t w = 0; w < width; w++) {
                v16 kv = v16_mul(load_codes(sg->k[g + w] + at), scale[w]);
                V16_UNROLL for (uint32_t p = 0; p < n; p++) acc[p][w] =
                    v16_fma(v16_set1(q[p]), kv, acc[p][w]);
            }
        }
    }
    V16_UNROLL for (uint32_t p = 0; p < n; p++) V16_UNROLL for (uint32_t w = 0; w < width; w++)
        v16_store(t->s[p] + (g + w) * 16, acc[p][w]);
}

V16_FN void score_some(srn_kv_type type, uint32_t n, uint32_t width, tile *t, const seg *sg, uint32_t d_k,
                       uint32_t g) {
    if (type == SRN_KV_Q8_0)
        score_groups_q8(n, width, t, sg, d_k, g);
    else
        score_groups(type, n, width, t, sg, d_k, g);
}

/* All groups that some pair sees, in the widest tiles that fit. */
V16_FN void score_tile(srn_kv_type type, uint32_t n, tile *t, const seg *sg, uint32_t d_k) {
    uint32_t g = t->any_lo / 16, end = (t->any_hi + 15) / 16;
    for (; g + 4 <= end && TILE_WIDTH(n) >= 4; g += 4) score_some(type, n, 4, t, sg, d_k, g);
    for (; g + 2 <= end && TILE_WIDTH(n) >= 2; g += 2) score_some(type, n, 2, t, sg, d_k, g);
    for (; g < end; g++) score_some(type, n, 1, t, sg, d_k, g);
}

/* ---- softmax ---- */

/* Lanes of group g that lie in [lo, hi). */
V16_FN v16_lanes group_lanes(uint32_t g, uint32_t lo, uint32_t hi) {
    uint32_t a = lo > g * 16 ? lo - g * 16 : 0, b = hi > g * 16 ? hi - g * 16 : 0;
    return v16_range(SRN_MIN(a, 16u), SRN_MIN(b, 16u));
}
V16_FN bool all_lanes(uint32_t g, uint32_t lo, uint32_t hi) {
    return g * 16 >= lo && g * 16 + 16 <= hi;
}

/* Pairs whose exponentials are computed together. */
#if defined(__AVX512F__)
#define TOGETHER 4
#else
#define TOGETHER 2
#endif

/* Dot products of n pairs from p0 on to scores: in ret_max their greatest; false when one is not finite.
 * Positions that a pair does not see become -infinity. */
V16_FN bool scale_scores(float scale, float softcap, bool capped, tile *t, uint32_t p0, uint32_t n,
                         float *ret_max) {
    v16 least = v16_set1(srn_f32_bits(0xff800000u)), factor = v16_set1(scale), cap = v16_set1(softcap);
    v16 max[TOGETHER], magnitude = v16_set1(0.0f), x[TOGETHER];
    V16_UNROLL for (uint32_t p = 0; p < n; p++) max[p] = least;
    for (uint32_t g = t->any_lo / 16; g < (t->any_hi + 15) / 16; g++) {
        bool all = all_lanes(g, t->all_lo, t->all_hi);
        V16_UNROLL for (uint32_t p = 0; p < n; p++) x[p] = v16_mul(v16_load(t->s[p0 + p] + g * 16), factor);
        if (!all)
            V16_UNROLL for (uint32_t p = 0; p < n; p++) x[p] =
                v16_select(group_lanes(g, t->lo[p0 + p], t->hi[p0 + p]), x[p], v16_set1(0.0f));
        V16_UNROLL for (uint32_t p = 0; p < n; p++) {
            magnitude = v16_greater_magnitude(magnitude, x[p]);
            if (capped) x[p] = v16_mul(cap, v16_tanh(v16_div(x[p], cap)));
        }
        if (!all)
            V16_UNROLL for (uint32_t p = 0; p < n; p++) x[p] =
                v16_select(group_lanes(g, t->lo[p0 + p], t->hi[p0 + p]), x[p], least);
        V16_UNROLL for (uint32_t p = 0; p < n; p++) {
            max[p] = v16_max(x[p], max[p]);
            v16_store(t->s[p0 + p] + g * 16, x[p]);
        }
    }
    V16_UNROLL for (uint32_t p = 0; p < n; p++) ret_max[p] = v16_greatest(max[p]);
    return v16_not_finite(magnitude) == 0;
}

/* Scores to exp(score - max), and their sums. A position that a pair does not see adds +0 to a sum that is
 * not -0. */
V16_FN void exp_scores(tile *t, uint32_t p0, uint32_t n, const float *max, float *ret_sum) {
    v16 sum[TOGETHER], m[TOGETHER], x[TOGETHER];
    V16_UNROLL for (uint32_t p = 0; p < n; p++) sum[p] = v16_set1(0.0f), m[p] = v16_set1(max[p]);
    for (uint32_t g = t->any_lo / 16; g < (t->any_hi + 15) / 16; g++) {
        V16_UNROLL for (uint32_t p = 0; p < n; p++) x[p] = v16_sub(v16_load(t->s[p0 + p] + g * 16), m[p]);
        v16_exps(x, n);
        if (!all_lanes(g, t->all_lo, t->all_hi))
            V16_UNROLL for (uint32_t p = 0; p < n; p++) x[p] =
                v16_select(group_lanes(g, t->lo[p0 + p], t->hi[p0 + p]), x[p], v16_set1(0.0f));
        V16_UNROLL for (uint32_t p = 0; p < n; p++) {
            sum[p] = v16_add(sum[p], x[p]);
            v16_store(t->s[p0 + p] + g * 16, x[p]);
        }
    }
    V16_UNROLL for (uint32_t p = 0; p < n; p++) ret_sum[p] = v16_tree(sum[p]);
}

/* Both of n pairs. Where a pair sees nothing its numbers mean nothing. */
V16_FN bool softmax_pairs(const srn_attn *a, tile *t, uint32_t p0, uint32_t n, float *max, float *sum) {
    bool finite = a->softcap > 0 ? scale_scores(a->scale, a->softcap, true, t, p0, n, max)
                                 : scale_scores(a->scale, 0, false, t, p0, n, max);
    exp_scores(t, p0, n, max, sum);
    return finite;
}

/* Softmax of every pair of a tile, and how its results join those of the segments before: max[n] and sum[n]
 * are the pairs' running ones, sum is 0 before the first segment. */
static bool softmax_tile(const srn_attn *a, tile *t, float *max, float *sum) {
    float m[PAIRS], s[PAIRS];
    bool finite = true;
    uint32_t p = 0;
    for (uint32_t left; (left = t->n - p) > 0;) /* 6 are 3 and 3, 5 are 3 and 2 */
        if (TOGETHER == 4 && left == 4)
            finite &= softmax_pairs(a, t, p, TOGETHER, m + p, s + p), p += TOGETHER;
        else if (TOGETHER == 4 && left >= 3)
            finite &= softmax_pairs(a, t, p, TOGETHER - 1, m + p, s + p), p += TOGETHER - 1;
        else if (left >= 2)
            finite &= softmax_pairs(a, t, p, 2, m + p, s + p), p += 2;
        else
            finite &= softmax_pairs(a, t, p, 1, m + p, s + p), p += 1;
    for (p = 0; p < t->n; p++) {
        t->how[p] = SEES_NOTHING;
        if (t->lo[p] >= t->hi[p]) continue;
        if (sum[p] == 0) {
            t->how[p] = FIRST_SEGMENT;
            max[p] = m[p];
            sum[p] = s[p];
            continue;
        }
        float top = m[p] > max[p] ? m[p] : max[p];
        t->how[p] = MERGE;
        t->keep[p] = srn_expf(max[p] - top);
        t->take[p] = srn_expf(m[p] - top);
        sum[p] = fmaf(s[p], t->take[p], sum[p] * t->keep[p]);
        max[p] = top;
    }
    return finite;
}

/* ---- values ---- */

/* With few pairs a chunk of V is used up at once; with many a broadcast is: fewer registers are needed. */
#define FEW(n) ((n) <= 2)

/* Chunk c of a row of V, of type q8_0 with its scale. */
V16_FN v16 load_values(srn_kv_type type, const uint8_t *row, uint32_t c, uint32_t lanes, const float *scale) {
    if (type == SRN_KV_Q8_0) {
        v16 codes = lanes == 16 ? load_codes(row + c * 16) : load_codes_part(row + c * 16, lanes);
        return v16_mul(codes, v16_set1(*scale));
    }
    return lanes == 16 ? load_kv(type, row, c * 16) : load_kv_part(type, row, c * 16, lanes);
}

/* Values [16*c, 16*(c+width)) of d for n pairs; where lanes < 16, width is 1 and only that many exist. */
V16_FN void value_tile(srn_kv_type type, uint32_t n, uint32_t width, tile *t, const seg *sg, uint32_t d_v,
                       uint32_t c, uint32_t lanes) {
    v16 acc[PAIRS][MAX_WIDTH], v[MAX_WIDTH];
    V16_UNROLL for (uint32_t p = 0; p < n; p++) V16_UNROLL for (uint32_t w = 0; w < width; w++) acc[p][w] =
        v16_set1(0.0f);
    const uint32_t shift = type == SRN_KV_Q8_0 ? 4 : sg->block_shift, block_last = (1u << shift) - 1;
    size_t row_bytes = row_bytes_of(type, d_v), scales = type == SRN_KV_Q8_0 ? srn__q8_groups(d_v) * 32 : 0;
    float scale[MAX_WIDTH / 2][16]; /* q8_0: of the groups of these chunks, in the block */
    for (uint32_t j = t->any_lo; j < t->any_hi;) {
        size_t at = scales + (j & block_last) * row_bytes;
        const uint8_t *row = sg->v[j >> shift] + at, *next = sg->after_v[j >> shift] + at;
        bool all = j >= t->all_lo && j < t->all_hi;
        uint32_t stop = all ? t->all_hi : j < t->all_lo ? t->all_lo : t->any_hi;
        stop = SRN_MIN(stop, (j | block_last) + 1);
        for (uint32_t w = 0; w < width && type == SRN_KV_Q8_0; w += 2)
            v16_store(scale[w / 2], load_scales(sg->v[j >> shift] + (c + w) / 2 * 32));
        if (type == SRN_KV_Q8_0 && FETCHES_AHEAD(n) && c == 0) fetch(sg->after_v[j >> shift], scales);
        if (all)
            for (; j < stop; j++, row += row_bytes, next += row_bytes) {
                if (FETCHES_AHEAD(n) && c == 0) fetch(next, row_bytes);
                V16_UNROLL for (uint32_t w = 0; w < width; w++) {
                    v[w] = load_values(type, row, c + w, lanes, &scale[w / 2][j % 16]);
                    V16_UNROLL for (uint32_t p = 0; p < n && FEW(n); p++) acc[p][w] =
                        v16_fma(v16_set1(t->s[p][j]), v[w], acc[p][w]);
                }
                V16_UNROLL for (uint32_t p = 0; p < n && !FEW(n); p++) {
                    v16 e = v16_set1(t->s[p][j]);
                    V16_UNROLL for (uint32_t w = 0; w < width; w++) acc[p][w] = v16_fma(e, v[w], acc[p][w]);
                }
            }
        else
            for (; j < stop; j++, row += row_bytes) {
                V16_UNROLL for (uint32_t w = 0; w < width; w++) v[w] =
                    load_values(type, row, c + w, lanes, &scale[w / 2][j % 16]);
                V16_UNROLL for (uint32_t p = 0; p < n; p++) {
                    if (j < t->lo[p] || j >= t->hi[p]) continue;
                    v16 e = v16_set1(t->s[p][j]);
                    V16_UNROLL for (uint32_t w = 0; w < width; w++) acc[p][w] = v16_fma(e, v[w], acc[p][w]);
                }
            }
    }
    V16_UNROLL for (uint32_t p = 0; p < n; p++) {
        if (t->how[p] == SEES_NOTHING) continue;
        float *o = t->o + p * t->o_stride + c * 16;
        v16 keep = v16_set1(t->keep[p]), take = v16_set1(t->take[p]);
        V16_UNROLL for (uint32_t w = 0; w < width; w++) {
            v16 r = acc[p][w];
            if (t->how[p] == MERGE) r = v16_fma(r, take, v16_mul(v16_load(o + w * 16), keep));
            v16_store(o + w * 16, r);
        }
    }
}

/* All of d, in the widest tiles that fit. */
V16_FN void value_tiles(srn_kv_type type, uint32_t n, tile *t, const seg *sg, uint32_t d_v) {
    uint32_t c = 0, whole = d_v / 16;
    for (; c + 4 <= whole && TILE_WIDTH(n) >= 4; c += 4) value_tile(type, n, 4, t, sg, d_v, c, 16);
    for (; c + 2 <= whole && TILE_WIDTH(n) >= 2; c += 2) value_tile(type, n, 2, t, sg, d_v, c, 16);
    for (; c < whole; c++) value_tile(type, n, 1, t, sg, d_v, c, 16);
    if (d_v % 16) value_tile(type, n, 1, t, sg, d_v, c, d_v % 16);
}

/* ---- one function per cache type and number of pairs ---- */

typedef void tile_fn(tile *t, const seg *sg, uint32_t d);

#define TILE_FNS(type, n)                                                                                    \
    static void scores_##type##_##n(tile *t, const seg *sg, uint32_t d_k) {                                  \
        score_tile(SRN_KV_##type, n, t, sg, d_k);                                                            \
    }                                                                                                        \
    static void values_##type##_##n(tile *t, const seg *sg, uint32_t d_v) {                                  \
        value_tiles(SRN_KV_##type, n, t, sg, d_v);                                                           \
    }
#define TILE_FNS_OF(type)                                                                                    \
    TILE_FNS(type, 1)                                                                                        \
    TILE_FNS(type, 2) TILE_FNS(type, 3) TILE_FNS(type, 4) TILE_FNS(type, 5) TILE_FNS(type, 6)
TILE_FNS_OF(F16)
TILE_FNS_OF(F32)
TILE_FNS_OF(Q8_0)

#define TILE_ROW(what, type)                                                                                 \
    [SRN_KV_##type] = {what##_##type##_1, what##_##type##_2, what##_##type##_3,                              \
                       what##_##type##_4, what##_##type##_5, what##_##type##_6}
static tile_fn *const score_fns[][PAIRS] = {TILE_ROW(scores, F16), TILE_ROW(scores, F32),
                                            TILE_ROW(scores, Q8_0)};
static tile_fn *const value_fns[][PAIRS] = {TILE_ROW(values, F16), TILE_ROW(values, F32),
                                            TILE_ROW(values, Q8_0)};

/* ---- a segment of type q8_0 as f32 ---- */

/* Tiles from which on a segment is worth expanding: each then saves the conversions. */
#define EXPANDED_TILES 3

/* Positions of pieces [g0, g1) of K to k, [d][16] each, and of V to v, [d_v] each. */
static void expand_q8(const seg *sg, uint32_t g0, uint32_t g1, uint32_t d_k, uint32_t d_v, float *k,
                      float *v) {
    uint32_t whole = d_v & ~15u, part = d_v % 16;
    for (uint32_t g = g0; g < g1; g++) {
        const uint8_t *at = sg->k[g];
        float *to = k + (size_t)g * 16 * d_k;
        for (uint32_t d = 0; d < d_k;) {
            v16 scale = load_scales(at);
            at += 32;
            for (uint32_t end = SRN_MIN(d_k, d + SRN_KV_GROUP); d < end; d++, at += 16, to += 16)
                v16_store(to, v16_mul(load_codes(at), scale));
        }
        float scales[16];
        const uint8_t *codes = sg->v[g] + srn__q8_groups(d_v) * 32;
        to = v + (size_t)g * 16 * d_v;
        for (uint32_t d = 0; d < d_v; d += 16) {
            if (d % SRN_KV_GROUP == 0) v16_store(scales, load_scales(sg->v[g] + d / SRN_KV_GROUP * 32));
            for (uint32_t j = 0; j < 16 && d < whole; j++)
                v16_store(to + j * d_v + d, v16_mul(load_codes(codes + j * d_v + d), v16_set1(scales[j])));
            for (uint32_t j = 0; j < 16 && d >= whole; j++)
                v16_store_part(to + j * d_v + d,
                               v16_mul(load_codes_part(codes + j * d_v + d, part), v16_set1(scales[j])),
                               part);
        }
    }
}

/* The segment's pieces as f32 in room, and where they are. */
static void expand_segment(const srn_attn *a, uint32_t from, uint32_t to, float *room, seg *sg) {
    uint32_t g0 = from / 16, g1 = (to + 15) / 16;
    float *k = room, *v = room + (size_t)SRN_SEGMENT * a->d_k;
    expand_q8(sg, g0, g1, a->d_k, a->d_v, k, v);
    for (uint32_t g = g0; g < g1; g++) sg->k[g] = (const uint8_t *)(k + (size_t)g * 16 * a->d_k);
    sg->block_shift = 8;
    sg->v[0] = sg->after_v[0] = (const uint8_t *)v;
}

/* ---- a batch of pairs ---- */

typedef struct batch {
    uint32_t first, n; /* pairs; pair i is head i % n_heads of query i / n_heads */
    float *q;          /* tile by tile, PAIRS * d_k floats apart: [d_k][PAIRS] */
    float *o;          /* [n][o_stride] */
    size_t o_stride;
    float *expanded; /* room for K and V of a segment as f32 */
    float max[BATCH], sum[BATCH];
} batch;

/* First position that query i sees, and the one after its last. */
static uint32_t seen_end(const srn_attn *a, uint32_t i) {
    return a->n_past + i + 1;
}
static uint32_t seen_begin(const srn_attn *a, uint32_t i) {
    uint32_t end = seen_end(a, i);
    return a->window && end > a->window ? end - a->window : 0;
}

/* Tile i of n pairs cut into equal parts of at most PAIRS. */
static uint32_t tile_count(uint32_t n) {
    return (n + PAIRS - 1) / PAIRS;
}
static uint32_t tile_start(uint32_t n, uint32_t i) {
    return n * i / tile_count(n);
}

/* Tile by tile, transposed; where a tile has fewer than PAIRS, its last is repeated and not read. */
static void pack_queries(const srn_attn *a, batch *b) {
    for (uint32_t i = 0; i < tile_count(b->n); i++) {
        const float *row[PAIRS];
        float *q = b->q + (size_t)i * PAIRS * a->d_k;
        uint32_t start = tile_start(b->n, i), n = tile_start(b->n, i + 1) - start;
        for (uint32_t p = 0; p < PAIRS; p++) {
            uint32_t pair = b->first + start + SRN_MIN(p, n - 1);
            row[p] = a->q + pair / a->n_heads * a->q_stride + (size_t)(pair % a->n_heads) * a->d_k;
        }
        for (uint32_t d = 0; d < a->d_k; d++, q += PAIRS)
            V16_UNROLL for (uint32_t p = 0; p < PAIRS; p++) q[p] = row[p][d];
    }
}

/* 16 positions of K or V. */
static size_t piece_bytes(srn_kv_type type, uint32_t d) {
    return type == SRN_KV_Q8_0 ? srn__q8_piece_bytes(d) : 16 * row_bytes_of(type, d);
}

/* Finds the blocks of the segment that begins at base, for its positions [from, to), which are not empty. Its
 * queries see no position from `end` on. */
static void find_segment(const srn_attn *a, uint32_t base, uint32_t from, uint32_t to, uint32_t end,
                         seg *sg) {
    size_t k_bytes = piece_bytes(a->kv_type, a->d_k), v_bytes = piece_bytes(a->kv_type, a->d_v);
    uint32_t shift = (uint32_t)__builtin_ctz(a->block_len), per_block = a->block_len / 16; /* pieces */
    uint32_t first = from / 16, last = (to - 1) / 16, v_shift = a->kv_type == SRN_KV_Q8_0 ? 0 : shift - 4;
    uint32_t v_mask = (1u << v_shift) - 1; /* pieces of a block of sg->v, less 1 */
    const uint32_t *blocks = a->blocks + (base >> shift);
    sg->base = base;
    sg->block_shift = 4 + v_shift;
    for (uint32_t g = first; g <= last; g++) {
        size_t block = blocks[g >> (shift - 4)], at = g & (per_block - 1);
        sg->k[g] = sg->after_k[g] = a->k + block * a->k_block_stride + at * k_bytes;
        sg->v[g >> v_shift] = a->v + block * a->v_block_stride + (at & ~(size_t)v_mask) * v_bytes;
    }
    for (uint32_t g = last + 1; g <= last + MAX_WIDTH; g++) {
        uint32_t vg = SRN_MIN(first + g - last - 1, last);
        sg->after_k[g] = sg->v[vg >> v_shift] + (vg & v_mask) * v_bytes;
    }
    uint32_t last_block = last >> v_shift, next = base + SRN_SEGMENT, ahead = per_block >> v_shift;
    const uint8_t *next_k = next < end ? a->k + a->blocks[next >> shift] * a->k_block_stride : a->soon;
    for (uint32_t b = first >> v_shift; b <= last_block; b++) /* a block of the cache ahead */
        sg->after_v[b] = b + ahead <= last_block ? sg->v[b + ahead]
                         : next_k                ? next_k + (b + ahead - last_block - 1) * k_bytes
                                                 : sg->v[b];
}

/* What the pairs of a tile, the first of which is `pair`, see of a segment. False: nothing. */
static bool tile_range(const srn_attn *a, tile *t, uint32_t pair, uint32_t base) {
    uint32_t any_lo = SRN_SEGMENT, any_hi = 0, all_lo = 0, all_hi = SRN_SEGMENT;
    for (uint32_t p = 0; p < t->n; p++) {
        uint32_t i = (pair + p) / a->n_heads, begin = seen_begin(a, i), end = seen_end(a, i);
        uint32_t lo = begin > base ? SRN_MIN(begin - base, SRN_SEGMENT) : 0;
        uint32_t hi = end > base ? SRN_MIN(end - base, SRN_SEGMENT) : 0;
        t->lo[p] = lo;
        t->hi[p] = hi;
        all_lo = SRN_MAX(all_lo, lo);
        all_hi = SRN_MIN(all_hi, hi);
        if (lo >= hi) continue;
        any_lo = SRN_MIN(any_lo, lo);
        any_hi = SRN_MAX(any_hi, hi);
    }
    if (all_lo >= all_hi) all_lo = all_hi = any_hi;
    t->any_lo = any_lo, t->any_hi = any_hi;
    t->all_lo = all_lo, t->all_hi = all_hi;
    return any_lo < any_hi;
}

static bool batch_segment(const srn_attn *a, srn_kv_type type, batch *b, const seg *sg) {
    tile t;
    t.o_stride = b->o_stride;
    for (uint32_t i = 0; i < tile_count(b->n); i++) {
        uint32_t start = tile_start(b->n, i);
        t.n = tile_start(b->n, i + 1) - start;
        t.q = b->q + (size_t)i * PAIRS * a->d_k;
        t.o = b->o + start * b->o_stride;
        if (!tile_range(a, &t, b->first + start, sg->base)) continue;
        score_fns[type][t.n - 1](&t, sg, a->d_k);
        if (!softmax_tile(a, &t, b->max + start, b->sum + start)) return false;
        value_fns[type][t.n - 1](&t, sg, a->d_v);
    }
    return true;
}

/* The segment from base on, of which the batch sees positions [from, to), not empty, and none from `end` on.
 */
static bool run_segment(const srn_attn *a, batch *b, uint32_t base, uint32_t from, uint32_t to,
                        uint32_t end) {
    seg sg;
    srn_kv_type type = a->kv_type;
    find_segment(a, base, from, to, end, &sg);
    if (type == SRN_KV_Q8_0 && tile_count(b->n) >= EXPANDED_TILES) {
        expand_segment(a, from, to, b->expanded, &sg);
        type = SRN_KV_F32;
    }
    return batch_segment(a, type, b, &sg);
}

/* Segments [seg0, seg1), each into its records. */
static bool run_parts(const srn_attn *a, batch *b) {
    uint32_t begin = seen_begin(a, b->first / a->n_heads);
    uint32_t end = SRN_MIN(seen_end(a, (b->first + b->n - 1) / a->n_heads), a->seg1 * SRN_SEGMENT);
    size_t record = b->o_stride = srn__attn_record(a->d_v);
    b->o = a->part + b->first * record;
    for (uint32_t s = a->seg0; s < a->seg1; s++, b->o += a->part_stride) {
        uint32_t base = s * SRN_SEGMENT, from = begin > base ? begin - base : 0;
        uint32_t to = end > base ? SRN_MIN(end - base, SRN_SEGMENT) : 0;
        memset(b->sum, 0, sizeof b->sum);
        if (from < to && !run_segment(a, b, base, from, to, end)) return false;
        for (uint32_t p = 0; p < b->n; p++) {
            float *at = b->o + (p + 1) * record - 16;
            at[0] = b->max[p], at[1] = b->sum[p];
        }
    }
    return true;
}

/* o / sum, into out[d_v]. */
static void divide(const float *o, float sum_of, uint32_t d_v, float *out) {
    uint32_t whole = d_v & ~15u;
    v16 sum = v16_set1(sum_of);
    for (uint32_t d = 0; d < whole; d += 16) v16_store(out + d, v16_div(v16_load(o + d), sum));
    if (d_v % 16) v16_store_part(out + whole, v16_div(v16_load(o + whole), sum), d_v % 16);
}

static bool run_batch(const srn_attn *a, batch *b) {
    uint32_t begin = seen_begin(a, b->first / a->n_heads);
    uint32_t end = seen_end(a, (b->first + b->n - 1) / a->n_heads);
    for (uint32_t base = begin / SRN_SEGMENT * SRN_SEGMENT; base < end; base += SRN_SEGMENT) {
        uint32_t from = begin > base ? begin - base : 0, to = SRN_MIN(end - base, SRN_SEGMENT);
        if (!run_segment(a, b, base, from, to, end)) return false;
    }
    for (uint32_t p = 0; p < b->n; p++) {
        uint32_t pair = b->first + p;
        divide(b->o + p * b->o_stride, b->sum[p], a->d_v,
               a->out + pair / a->n_heads * a->out_stride + (size_t)(pair % a->n_heads) * a->d_v);
    }
    return true;
}

static bool attention(const srn_attn *a, void *scratch) {
    uint32_t total = a->n_queries * a->n_heads;
    batch b = {.q = scratch, .o = (float *)scratch + (size_t)BATCH * a->d_k};
    b.o_stride = (size_t)srn_align_up(a->d_v, 16);
    b.expanded = b.o + BATCH * b.o_stride;
    for (; b.first < total; b.first += BATCH) {
        b.n = SRN_MIN(total - b.first, BATCH);
        memset(b.sum, 0, sizeof b.sum);
        pack_queries(a, &b);
        if (!(a->part ? run_parts(a, &b) : run_batch(a, &b))) return false;
    }
    return true;
}

static void attn_merge(uint32_t d_v, uint32_t n, float *part, size_t part_stride, float *out) {
    size_t padded = srn_align_up(d_v, 16);
    float *o = NULL, max = 0, sum = 0;
    for (; n > 0; n--, part += part_stride) {
        float m = part[padded], s = part[padded + 1];
        if (s == 0) continue;
        if (!o) {
            o = part, max = m, sum = s;
            continue;
        }
        float top = m > max ? m : max, keep = srn_expf(max - top), take = srn_expf(m - top);
        v16 k = v16_set1(keep), t = v16_set1(take);
        sum = fmaf(s, take, sum * keep);
        max = top;
        for (uint32_t d = 0; d < padded; d += 16)
            v16_store(o + d, v16_fma(v16_load(part + d), t, v16_mul(v16_load(o + d), k)));
    }
    if (o) divide(o, sum, d_v, out);
}

static size_t attn_scratch_bytes(uint32_t d_k, uint32_t d_v) {
    return (BATCH + SRN_SEGMENT) * (d_k + (size_t)srn_align_up(d_v, 16)) * sizeof(float);
}

V16_FN void fill_attention(srn_kernels *k) {
    k->attn_scratch_bytes = attn_scratch_bytes;
    k->attention = attention;
    k->attn_merge = attn_merge;
}

#endif
