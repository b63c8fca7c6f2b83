/* cpu, inside: the kernel table that each ISA fills, the packed matrix, packed activations, the thread pool.
 * Kernels own no memory, take no locks and never fail; sizes were checked when the model was loaded.
 */
#ifndef SRN_CPU_CPU_INTERNAL_H
#define SRN_CPU_CPU_INTERNAL_H

#include "base/base.h"
#include "base/num.h"
#include "model/device.h"
#include "quant/quant.h"

#define SRN_PANEL    16  /* rows of a matrix that are interleaved: a lane is a row */
#define SRN_GROUP    32  /* weights per group, the unit of integer products */
#define SRN_SEGMENT  256 /* positions per attention segment */
#define SRN_MAX_RUNS 8

/* ---- runs (docs/numerics.md) ---- */

/* Number of runs of a row of k elements. */
static inline uint32_t srn__run_count(uint32_t k) {
    uint32_t r = 1;
    while (r < SRN_MAX_RUNS && k / (2 * r) >= 256) r *= 2;
    return r;
}
/* First element of run r of `runs` in a row of k elements; k for r == runs. */
static inline uint32_t srn__run_start(uint32_t k, uint32_t block_elems, uint32_t r, uint32_t runs) {
    uint32_t unit = block_elems > SRN_GROUP ? block_elems : SRN_GROUP;
    uint64_t n = ((uint64_t)k + unit - 1) / unit;
    uint64_t start = r * n / runs * unit;
    return start < k ? (uint32_t)start : k;
}
/* Adds n runs (a power of two), each a vector of width floats at r + i*width, by the binary tree, into
 * r[0..width). */
static inline void srn__run_tree(float *r, uint32_t n, uint32_t width) {
    for (uint32_t step = 1; step < n; step *= 2)
        for (uint32_t i = 0; i + step < n; i += 2 * step)
            for (uint32_t l = 0; l < width; l++)
                r[i * width + l] = r[i * width + l] + r[(i + step) * width + l];
}

/* ---- matrices ---- */

/* A weight matrix [rows, cols] as a kernel table reads it. The layout of panels belongs to the table. */
typedef struct srn_packed {
    srn_type type;
    srn_form form;
    uint32_t rows, cols;
    const uint8_t *raw; /* the file's rows, row_bytes apart; always valid */
    size_t row_bytes;
    uint8_t *panels; /* panel p at p*panel_bytes, 64-byte aligned; NULL when the table reads raw */
    size_t panel_bytes;
} srn_packed;

static inline uint32_t srn__panel_count(const srn_packed *w) {
    return (w->rows + SRN_PANEL - 1) / SRN_PANEL;
}

/* ---- activations ---- */

/* n columns (tokens) of k activations each. FLOAT weights read x; the others what quantize made of it in q,
 * whose layout belongs to the table. */
typedef struct srn_act {
    const float *x; /* column i at x + i*x_stride */
    size_t x_stride;
    uint32_t k, n;
    uint32_t planes; /* 1 or 2 */
    void *q;         /* act_bytes(k, n, planes), 64-byte aligned */
} srn_act;

/* ---- the cache ---- */

/* Tiles of type q8_0 are made of pieces of 16 positions. Of K: for each group of 32 dimensions the scales
 * [16], then the codes [dimensions of the group][16]. Of V: the scales [groups][16], then the codes
 * [16][d_v]. A scale is the upper half of a binary32 number, a code an int8; the product of the two is exact.
 */
#define SRN_KV_GROUP 32

static inline uint32_t srn__q8_groups(uint32_t d) {
    return (d + SRN_KV_GROUP - 1) / SRN_KV_GROUP;
}
static inline size_t srn__q8_piece_bytes(uint32_t d) {
    return 32 * (size_t)srn__q8_groups(d) + 16 * (size_t)d;
}
/* Where group g's scales begin in a piece of K; its codes follow them. */
static inline size_t srn__q8_k_group(uint32_t g) {
    return g * (size_t)(32 + 16 * SRN_KV_GROUP);
}
static inline float srn__q8_scale(uint16_t bits) {
    return srn_f32_bits((uint32_t)bits << 16);
}
/* The scale of a group whose greatest magnitude is amax: amax/127, up to the next number of 8 significant
 * bits. No code is then beyond 127. 0: all codes are 0. */
static inline uint16_t srn__q8_scale_bits(float amax) {
    return amax < 0x1p-100f ? 0 : (uint16_t)((srn_bits_f32(amax / 127.0f) + 0xffffu) >> 16);
}

/* ---- attention ---- */

/* One sequence, one KV head, some of the query heads that share it, queries [0, n_queries) at consecutive
 * indices n_past, n_past+1, ... Query i sees the positions j <= n_past+i, and with a window only
 * j > n_past+i - window. Position j lies in block blocks[j / block_len] of the cache, where K is
 * [block_len/16][d_k][16] (a lane is a position) and V is [block_len][d_v]; of type q8_0 both are
 * block_len/16 pieces (above). Blocks of positions that no query sees are not looked at.
 *
 * With `part`, only segments [seg0, seg1) are computed, and each pair's result of each of them goes,
 * unmerged, into a record of its own: o[d_v], from align_up(d_v, 16) on the maximum and the sum, which is 0
 * where the pair sees nothing of the segment. attn_merge makes the result of the records of all segments, so
 * that one query's segments can be spread over threads. */
typedef struct srn_attn {
    srn_kv_type kv_type;
    const uint8_t *k, *v;                  /* this layer's and KV head's part of block 0 */
    size_t k_block_stride, v_block_stride; /* bytes between blocks */
    const uint32_t *blocks;
    uint32_t block_len; /* a multiple of 16 that divides 256 */
    uint32_t d_k, d_v;
    uint32_t n_past, n_queries, n_heads;
    uint32_t window;      /* 0: none */
    float scale, softcap; /* softcap 0: none */
    const uint8_t *soon;  /* K that will be read after this call, to be fetched ahead; or NULL */
    const float *q;       /* query i, head h at q + i*q_stride + h*d_k */
    size_t q_stride;
    float *out; /* at out + i*out_stride + h*d_v */
    size_t out_stride;
    float *
        part; /* NULL, or: segment s, query i, head h at part + (s-seg0)*part_stride + (i*n_heads+h)*record */
    size_t part_stride;
    uint32_t seg0, seg1;
} srn_attn;

/* Floats of one record: o, maximum and sum, padded to whole lines. */
static inline size_t srn__attn_record(uint32_t d_v) {
    return (size_t)srn_align_up(d_v, 16) + 16;
}

/* ---- the kernel table ---- */

typedef struct srn_kernels {
    const char *name; /* a level, as kernels.c has them */

    /* Bytes of one packed panel of a matrix with this many columns; 0: the table reads the raw rows. */
    size_t (*panel_bytes)(srn_type type, uint32_t cols);
    /* Packs panels [p0, p1) of w from raw into panels. Rows beyond the last are packed as zeros. */
    void (*pack)(const srn_packed *w, uint32_t p0, uint32_t p1);

    /* Bytes of srn_act.q. */
    size_t (*act_bytes)(uint32_t k, uint32_t n, uint32_t planes);
    /* Quantises groups [g0, g1) of columns [c0, c1). False when a value there is not finite (its group then
     * has zero codes). k is a multiple of 32. Distinct groups and columns may be done by different threads.
     */
    bool (*quantize)(const srn_act *a, uint32_t c0, uint32_t c1, uint32_t g0, uint32_t g1);

    /* Scratch that matmul needs per thread, for matrices of at most k columns; 64-byte aligned. */
    size_t (*scratch_bytes)(uint32_t k);
    /* Rows of panels [p0, p1) times columns: y[i*y_stride + row] = row . column, where column i is cols[i],
     * or i itself when cols is NULL; n_cols of them. Writes no row at or beyond w->rows. */
    void (*matmul)(const srn_packed *w, uint32_t p0, uint32_t p1, const srn_act *a, const uint32_t *cols,
                   uint32_t n_cols, float *y, size_t y_stride, void *scratch);

    bool (*all_finite)(const float *x, uint32_t n);
    /* y = x * (1/sqrt(mean(x^2) + eps)) * weight; y may be x. */
    void (*rms_norm)(const float *x, const float *weight, float eps, uint32_t n, float *y);
    /* y[i] = y[i] + x[i] */
    void (*add)(float *y, const float *x, uint32_t n);
    /* y[i] = act(gate[i]) * up[i]; y may be gate. */
    void (*act_mul)(srn_act_kind kind, const float *gate, const float *up, uint32_t n, float *y);
    /* Rope on one head. Pairs are (2i, 2i+1), or with neox (i, i + n_rot/2); cos and sin have n_rot/2
     * entries; values from n_rot on stay. */
    void (*rope)(float *x, const float *cos, const float *sin, uint32_t n_rot, bool neox);
    /* Rounds k[d_k] and v[d_v] of one head into the cache at position pos of its block. False, and nothing
     * written, when a value is not finite. */
    bool (*kv_store)(srn_kv_type type, const float *k, const float *v, uint32_t d_k, uint32_t d_v,
                     uint32_t pos, void *k_block, void *v_block);
    /* Scratch of attention per thread, 64-byte aligned. */
    size_t (*attn_scratch_bytes)(uint32_t d_k, uint32_t d_v);
    /* False when a score, before the soft cap, is not finite; out is then undefined. */
    bool (*attention)(const srn_attn *a, void *scratch);
    /* One pair's records of n segments in ascending order, at part + i*part_stride, into out[d_v]; the pair
     * sees something of at least one. The first record that counts is used up. */
    void (*attn_merge)(uint32_t d_v, uint32_t n, float *part, size_t part_stride, float *out);
} srn_kernels;

/* The parts of a table that each level has: matrix products (pack to matmul), vectors (all_finite to
 * kv_store) and attention. They fill in what they have over what is there already: kernels.c calls ref's,
 * then avx2's, avx512's, avx512vnni's, or on arm64 neon's, dotprod's, i8mm's. */
void srn__kernels_ref_matmul(srn_kernels *k);
void srn__kernels_ref_vector(srn_kernels *k);
void srn__kernels_ref_attention(srn_kernels *k);
void srn__kernels_avx2_matmul(srn_kernels *k);
void srn__kernels_avx2_vector(srn_kernels *k);
void srn__kernels_avx2_attention(srn_kernels *k);
void srn__kernels_avx512_matmul(srn_kernels *k);
void srn__kernels_avx512_vector(srn_kernels *k);
void srn__kernels_avx512_attention(srn_kernels *k);
void srn__kernels_avx512vnni_matmul(srn_kernels *k);
void srn__kernels_neon_matmul(srn_kernels *k);
void srn__kernels_neon_vector(srn_kernels *k);
void srn__kernels_neon_attention(srn_kernels *k);
void srn__kernels_dotprod_matmul(srn_kernels *k);
void srn__kernels_i8mm_matmul(srn_kernels *k);

/* The table for this CPU, up to `limit` (a level's name; NULL for the best). A level
 * that the CPU lacks is SRN_EUNSUP, an unknown one SRN_EINVAL. */
int srn__kernels_select(const char *limit, srn_kernels *ret, srn_err *err);
/* Names of the levels that this CPU can run, lowest first, NULL-terminated. */
const char *const *srn__kernels_available(void);

/* ---- the thread pool ---- */

/* A fixed set of threads; the caller of run is thread 0. Asleep when idle; inside a run barriers spin briefly
 * and then sleep. One run at a time. */
typedef struct srn_pool srn_pool;
typedef void srn_pool_fn(void *ctx, uint32_t thread, uint32_t n_threads);
int srn__pool_new(uint32_t n_threads, srn_pool **ret, srn_err *err);
void srn__pool_free(srn_pool *p);
uint32_t srn__pool_threads(const srn_pool *p);
/* Runs fn on every thread and returns when all are done. */
void srn__pool_run(srn_pool *p, srn_pool_fn *fn, void *ctx);
/* Called by every thread of a run: none goes on before all have come. */
void srn__pool_barrier(srn_pool *p);
/* The part [*ret_a, *ret_b) of n items, cut at multiples of `unit`, that belongs to a thread. */
static inline void srn__pool_part(uint32_t n, uint32_t unit, uint32_t thread, uint32_t n_threads,
                                  uint32_t *ret_a, uint32_t *ret_b) {
    uint64_t units = ((uint64_t)n + unit - 1) / unit;
    uint64_t a = units * thread / n_threads * unit, b = units * (thread + 1) / n_threads * unit;
    *ret_a = (uint32_t)(a < n ? a : n);
    *ret_b = (uint32_t)(b < n ? b : n);
}

#endif
