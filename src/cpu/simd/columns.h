/* Activations a column after the other, each its groups in order, for the levels whose kernels read the
 * columns of a tile through a pointer each. Included by those dot_*.h, after
 *
 * - act_group, act_groups(planes): a group of activations, and how many are one group of a column;
 * - int_columns(columns, planes): integer columns of so many columns.
 *
 * act_tiles.h has the same functions for x86, where columns lie side by side:
 *
 * - act_source: where the activations of a tile begin; acts: where they are, group after group.
 * - open_acts, next_group; act_scale, act_sum: d and s of a column; neg_sum, neg_half: of an integer column.
 * - act_bytes, quantize: as the kernel table has them.
 * - act_block, open_block, tile_source: the columns of a block, and of a tile in it.
 * - must_gather: whether columns have to be gathered in scratch->list first; LIST_BLOCK(planes) of them at a
 * time, which takes list_bytes(k).
 */
#ifndef SRN_CPU_SIMD_COLUMNS_H
#define SRN_CPU_SIMD_COLUMNS_H

#include "cpu/simd/layout.h"

/* ---- in a kernel ---- */

typedef const act_group *const *act_source;

typedef struct acts {
    const act_group *at[MAX_TILE]; /* of each integer column */
    int columns, planes;           /* constants */
} acts;

SRN__INLINE acts open_acts(int columns, int planes, int bits, act_source tile) {
    (void)bits;
    acts a = {.columns = columns, .planes = planes};
    SRN__UNROLL for (int i = 0; i < int_columns(columns, planes); i++) a.at[i] =
        tile[i / int_columns(1, planes)] + i % int_columns(1, planes);
    return a;
}
SRN__INLINE void next_group(acts *a) {
    SRN__UNROLL for (int i = 0; i < int_columns(a->columns, a->planes); i++) a->at[i] +=
        act_groups((uint32_t)a->planes);
}
SRN__INLINE float act_scale(const acts *a, int c) {
    return a->at[int_columns(c, a->planes)]->d;
}
SRN__INLINE float act_sum(const acts *a, int c) {
    return a->at[int_columns(c, a->planes)]->s;
}
SRN__INLINE const int32_t *neg_sum(const acts *a, int i) {
    return &a->at[i]->neg_sum;
}
SRN__INLINE const int32_t *neg_half(const acts *a, int i, int half) {
    return &a->at[i]->neg_half[half];
}

/* ---- in memory ---- */

/* Quantises the group of 32 at x. False when a value is not finite. */
static bool quantize_group(const float *x, uint32_t planes, act_group *a);

static size_t act_stride(uint32_t k, uint32_t planes) {
    return srn__act_stride((size_t)(k / SRN_GROUP) * act_groups(planes) * sizeof(act_group));
}
static size_t act_bytes(uint32_t k, uint32_t n, uint32_t planes) {
    return n * act_stride(k, planes);
}
static act_group *act_column(const srn_act *a, uint32_t column) {
    return (act_group *)(void *)((char *)a->q + column * act_stride(a->k, a->planes));
}

static bool quantize(const srn_act *a, uint32_t c0, uint32_t c1, uint32_t g0, uint32_t g1) {
    bool finite = true;
    for (uint32_t c = c0; c < c1; c++) {
        act_group *column = act_column(a, c);
        const float *x = a->x + c * a->x_stride;
        for (uint32_t g = g0; g < g1; g++)
            finite &= quantize_group(x + (size_t)g * SRN_GROUP, a->planes,
                                     column + (size_t)g * act_groups(a->planes));
    }
    return finite;
}

typedef struct act_block {
    const act_group *column[SRN__COLUMN_BLOCK];
    uint32_t planes;
    const act_group *tile[SRN__MAX_TILE]; /* the one asked for */
} act_block;

#define LIST_BLOCK(planes) SRN__COLUMN_BLOCK

static bool must_gather(const srn_act *a, const uint32_t *cols, uint32_t n) {
    (void)a, (void)cols, (void)n;
    return false;
}
static size_t list_bytes(uint32_t k) {
    (void)k;
    return 0;
}

/* Columns cols[first] and on, or first and on, n of them. */
static void open_block(const srn_act *a, int bits, const uint32_t *cols, bool gather, uint32_t first,
                       uint32_t n, srn__simd_scratch *scratch, act_block *ret) {
    (void)bits, (void)gather, (void)scratch;
    ret->planes = a->planes;
    for (uint32_t c = 0; c < n; c++) ret->column[c] = act_column(a, cols ? cols[first + c] : first + c);
}
/* The tile of `take` columns from c on, at group g; good until the next is asked for. A tile wider than what
 * is there repeats its last column, whose results are not used. */
SRN__INLINE act_source tile_source(act_block *b, uint32_t c, uint32_t take, uint32_t g) {
    for (uint32_t i = 0; i < SRN__MAX_TILE; i++)
        b->tile[i] = b->column[c + SRN_MIN(i, take - 1)] + (size_t)g * act_groups(b->planes);
    return b->tile;
}

#endif
