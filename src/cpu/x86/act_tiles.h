/* Activations on x86: what cpu/simd/columns.h describes, with the columns of a tile side by side, so that a
 * kernel reads one ascending stream. Included by dot_*.h, which say what a column has:
 *
 * - act_codes: a group of one column, as quantize_group makes it.
 * - act_parts(planes): parts of the buffer, each of which has all columns but only some dwords of act_codes,
 * for kernels that read only these; act_part_at(planes, i); act_part_of(planes, bits): the one for weights of
 * so many bits. The dwords from ROW_D on (act_part.fields) are the scale, minus the sum of the codes,
 * fl(scale * f(sum of the codes)), and minus the sums over each half.
 *
 * Columns are cut into tiles of MAX_TILE; the last one is as wide as the kernel that does it, and what it has
 * too many is never looked at. A tile is its groups in order; a group of w columns is rows of w dwords.
 */
#ifndef SRN_CPU_X86_ACT_TILES_H
#define SRN_CPU_X86_ACT_TILES_H

#include "cpu/simd/lanes.h"

/* Columns that the tile of so many is laid out for. */
SRN__INLINE uint32_t tile_width(uint32_t columns) {
    return columns <= 4 ? columns : (columns + 1) & ~1u;
}

/* ---- in a kernel ---- */

/* A column is one integer column, whatever its planes. */
SRN__INLINE int int_columns(int columns, int planes) {
    (void)planes;
    return columns;
}

typedef const int32_t *act_source;

typedef struct acts {
    act_source at;
    uint32_t columns; /* constants */
    act_part part;
} acts;

SRN__INLINE acts open_acts(int columns, int planes, int bits, act_source tile) {
    return (acts){tile, (uint32_t)columns, act_part_of((uint32_t)planes, bits)};
}
SRN__INLINE void next_group(acts *a) {
    a->at += a->part.rows * a->columns;
}
/* A dword of column c; `row` counts from the fields on, and codes are before or behind them. */
SRN__INLINE const int32_t *act_row(const acts *a, int row, int c) {
    return a->at + ((int)a->part.fields + row) * (int)a->columns + c;
}
SRN__INLINE float act_scale(const acts *a, int c) {
    return srn_f32_bits((uint32_t)*act_row(a, ROW_D, c));
}
SRN__INLINE float act_sum(const acts *a, int c) {
    return srn_f32_bits((uint32_t)*act_row(a, ROW_S, c));
}
SRN__INLINE const int32_t *neg_sum(const acts *a, int c) {
    return act_row(a, ROW_NEG_SUM, c);
}
SRN__INLINE const int32_t *neg_half(const acts *a, int c, int half) {
    return act_row(a, ROW_NEG_HALF + half, c);
}

/* ---- in memory ---- */

/* Quantises the group of 32 at x. False when a value is not finite. */
static bool quantize_group(const float *x, uint32_t planes, act_codes *ret);

/* Columns that a buffer for n is laid out for. */
static uint32_t all_widths(uint32_t n) {
    return n / MAX_TILE * MAX_TILE + tile_width(n % MAX_TILE);
}
static size_t act_bytes(uint32_t k, uint32_t n, uint32_t planes) {
    act_part last = act_part_at(planes, act_parts(planes) - 1);
    return (size_t)all_widths(n) * (k / SRN_GROUP) * (last.before + last.rows) * sizeof(int32_t);
}
/* Where a part begins. */
static int32_t *part_start(const srn_act *a, act_part part) {
    return (int32_t *)a->q + (size_t)all_widths(a->n) * (a->k / SRN_GROUP) * part.before;
}

/* A column of those that a part holds. */
typedef struct act_place {
    int32_t *at;    /* its first dword */
    uint32_t width; /* of its tile: dwords from row to row */
} act_place;

SRN__INLINE act_place place_of(int32_t *q, uint32_t groups, act_part part, uint32_t n, uint32_t c) {
    uint32_t first = c / MAX_TILE * MAX_TILE;
    return (act_place){q + (size_t)first * groups * part.rows + c % MAX_TILE,
                       tile_width(SRN_MIN(n - first, (uint32_t)MAX_TILE))};
}

static bool quantize(const srn_act *a, uint32_t c0, uint32_t c1, uint32_t g0, uint32_t g1) {
    bool finite = true;
    for (uint32_t c = c0; c < c1; c++) {
        const float *x = a->x + c * a->x_stride;
        act_part part[MAX_PARTS];
        act_place place[MAX_PARTS];
        for (uint32_t p = 0; p < act_parts(a->planes); p++) {
            part[p] = act_part_at(a->planes, p);
            place[p] = place_of(part_start(a, part[p]), a->k / SRN_GROUP, part[p], a->n, c);
        }
        for (uint32_t g = g0; g < g1; g++) {
            act_codes codes;
            int32_t row[sizeof codes / sizeof(int32_t)];
            finite &= quantize_group(x + (size_t)g * SRN_GROUP, a->planes, &codes);
            memcpy(row, &codes, sizeof row);
            for (uint32_t p = 0; p < act_parts(a->planes); p++) {
                int32_t *to = place[p].at + (size_t)g * part[p].rows * place[p].width;
                for (uint32_t r = 0; r < part[p].rows; r++)
                    to[(size_t)r * place[p].width] = row[part[p].first + r];
            }
        }
    }
    return finite;
}

/* A block's columns: tiles of `a`, or of what was gathered from it. */
typedef struct act_block {
    act_source q;
    uint32_t groups;
    act_part part;
} act_block;

/* Columns of a block that are gathered. */
#define LIST_BLOCK(planes) (SRN__LIST_BLOCK / (planes))

static size_t list_bytes(uint32_t k) {
    return SRN_MAX(act_bytes(k, LIST_BLOCK(1), 1), act_bytes(k, LIST_BLOCK(2), 2));
}

/* Whether columns cols[0..n), or 0..n, are not whole tiles of `a` as they lie. */
static bool must_gather(const srn_act *a, const uint32_t *cols, uint32_t n) {
    uint32_t first = cols && n ? cols[0] : 0;
    if (first % MAX_TILE || (n % MAX_TILE && first + n != a->n)) return true;
    for (uint32_t i = 1; i < n && cols; i++)
        if (cols[i] != first + i) return true;
    return false;
}

/* Columns cols[first] and on, or first and on, n of them, for weights of so many bits. */
static void open_block(const srn_act *a, int bits, const uint32_t *cols, bool gather, uint32_t first,
                       uint32_t n, srn__simd_scratch *scratch, act_block *ret) {
    const uint32_t groups = a->k / SRN_GROUP;
    const act_part part = act_part_of(a->planes, bits);
    int32_t *q = part_start(a, part);
    *ret = (act_block){gather ? scratch->list : q, groups, part};
    if (!gather) {
        ret->q += (size_t)(cols ? cols[first] : first) * groups * part.rows;
        return;
    }
    for (uint32_t c = 0; c < n; c++) {
        act_place from = place_of(q, groups, part, a->n, cols ? cols[first + c] : first + c);
        act_place to = place_of(scratch->list, groups, part, n, c);
        for (size_t i = 0; i < (size_t)groups * part.rows; i++) to.at[i * to.width] = from.at[i * from.width];
    }
}
/* The tile of `take` columns from c on, a multiple of MAX_TILE, at group g. */
SRN__INLINE act_source tile_source(const act_block *b, uint32_t c, uint32_t take, uint32_t g) {
    return b->q + ((size_t)c * b->groups + (size_t)g * tile_width(take)) * b->part.rows;
}

#endif
