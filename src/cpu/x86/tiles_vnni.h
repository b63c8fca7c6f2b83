/* Activations for VNNI: what cpu/simd/columns.h describes, with the columns of a tile side by side, so that a
 * kernel reads one ascending stream.
 *
 * Columns are cut into tiles of MAX_TILE; the last one is as wide as the kernel that does it, and what it has
 * too many is never looked at. A tile is its groups in order; a group of w columns is rows of w dwords: for
 * each plane the quads of codes, then the fields of act_codes.
 */
#ifndef SRN_CPU_X86_TILES_VNNI_H
#define SRN_CPU_X86_TILES_VNNI_H

#include "cpu/simd/lanes.h"

#define SRN__LARGE_CODES (1 << 19)

/* A group of one column. */
typedef struct act_codes {
    int8_t c[2][SRN_GROUP]; /* of one plane only the second is there */
    float d;                /* the scale */
    int32_t neg_sum;        /* minus the sum of the codes t: what an offset of 1 in the weights adds */
    float s;                /* fl(d * f(S)) with S the sum of the codes t */
    int32_t neg_half[2];    /* minus the sums over each half */
    int32_t large;          /* the sum of |t| is SRN__LARGE_CODES or more; with two planes only */
} act_codes;

enum { ROW_D, ROW_NEG_SUM, ROW_S, ROW_NEG_HALF, ROW_LARGE = ROW_NEG_HALF + 2 };

/* Dwords of a group of one column. */
SRN__INLINE uint32_t act_rows(uint32_t planes) {
    return planes == 1 ? SRN__QUADS + ROW_LARGE : 2 * SRN__QUADS + ROW_LARGE + 1;
}
/* Columns that the tile of so many is laid out for. */
SRN__INLINE uint32_t tile_width(uint32_t columns) {
    return columns <= 4 ? columns : (columns + 1) & ~1u;
}

/* ---- in a kernel ---- */

typedef const int32_t *act_source;

typedef struct acts {
    act_source at;
    int columns, planes; /* constants */
} acts;

SRN__INLINE acts open_acts(int columns, int planes, act_source tile) {
    return (acts){tile, columns, planes};
}
SRN__INLINE void next_group(acts *a) {
    a->at += act_rows((uint32_t)a->planes) * (uint32_t)a->columns;
}
SRN__INLINE const int32_t *act_row(const acts *a, int row, int c) {
    return a->at + (a->planes * SRN__QUADS + row) * a->columns + c;
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
/* The codes of one quad of a plane, in every lane. */
SRN__INLINE i32x16 act_quad(const acts *a, int c, int plane, int quad) {
    return lanes_set1(a->at[(plane * SRN__QUADS + quad) * a->columns + c]);
}

/* ---- in memory ---- */

/* Quantises the group of 32 at x. False when a value is not finite. */
static bool quantize_group(const float *x, uint32_t planes, act_codes *ret);

static size_t act_bytes(uint32_t k, uint32_t n, uint32_t planes) {
    size_t columns = n / MAX_TILE * MAX_TILE + tile_width(n % MAX_TILE);
    return columns * (k / SRN_GROUP) * act_rows(planes) * sizeof(int32_t);
}

/* A column of those that a buffer holds. */
typedef struct act_place {
    int32_t *at;    /* its first dword */
    uint32_t width; /* of its tile: dwords from row to row */
} act_place;

SRN__INLINE act_place place_of(int32_t *q, uint32_t groups, uint32_t planes, uint32_t n, uint32_t c) {
    uint32_t first = c / MAX_TILE * MAX_TILE;
    return (act_place){q + (size_t)first * groups * act_rows(planes) + c % MAX_TILE,
                       tile_width(SRN_MIN(n - first, (uint32_t)MAX_TILE))};
}

static bool quantize(const srn_act *a, uint32_t c0, uint32_t c1, uint32_t g0, uint32_t g1) {
    const uint32_t rows = act_rows(a->planes);
    bool finite = true;
    for (uint32_t c = c0; c < c1; c++) {
        act_place p = place_of(a->q, a->k / SRN_GROUP, a->planes, a->n, c);
        const float *x = a->x + c * a->x_stride + (size_t)g0 * SRN_GROUP;
        int32_t *to = p.at + (size_t)g0 * rows * p.width;
        for (uint32_t g = g0; g < g1; g++, x += SRN_GROUP) {
            act_codes codes;
            int32_t row[sizeof codes / sizeof(int32_t)];
            finite &= quantize_group(x, a->planes, &codes);
            memcpy(row, (const uint8_t *)&codes + (2 - a->planes) * SRN_GROUP, rows * sizeof *row);
            for (uint32_t r = 0; r < rows; r++, to += p.width) *to = row[r];
        }
    }
    return finite;
}

/* A block's columns: tiles of `a`, or of what was gathered from it. */
typedef struct act_block {
    act_source q;
    uint32_t planes, groups;
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

/* Columns cols[first] and on, or first and on, n of them. */
static void open_block(const srn_act *a, const uint32_t *cols, bool gather, uint32_t first, uint32_t n,
                       srn__simd_scratch *scratch, act_block *ret) {
    const uint32_t groups = a->k / SRN_GROUP, rows = act_rows(a->planes);
    *ret = (act_block){a->q, a->planes, groups};
    if (!gather) {
        ret->q += (size_t)(cols ? cols[first] : first) * groups * rows;
        return;
    }
    ret->q = scratch->list;
    for (uint32_t c = 0; c < n; c++) {
        act_place from = place_of(a->q, groups, a->planes, a->n, cols ? cols[first + c] : first + c);
        act_place to = place_of(scratch->list, groups, a->planes, n, c);
        for (uint32_t i = 0; i < groups * rows; i++, to.at += to.width, from.at += from.width)
            *to.at = *from.at;
    }
}
/* The tile of `take` columns from c on, a multiple of MAX_TILE, at group g. */
SRN__INLINE act_source tile_source(const act_block *b, uint32_t c, uint32_t take, uint32_t g) {
    return b->q + ((size_t)c * b->groups + (size_t)g * tile_width(take)) * act_rows(b->planes);
}

#endif
