/* The memory layouts that all SIMD levels share: packed panels, expanded groups, activations.
 *
 * A packed panel is 16 rows: a sequence of records, each the scales and then the codes of a few groups of 32,
 * because one ascending stream is what memory delivers fastest. The last record ends with the last group.
 *
 * The codes of a group take 64*bits bytes. A vector of 64 bytes is 16 rows (dwords) of 4 consecutive k (a
 * quad).
 * - 8 bits: quads 0..7, stored = q + zero.
 * - 4, 5, 6 bits: vector j (0..3) has quad j in its low and quad j+4 in its high nibbles. Before them, of
 *   5 bits, one vector whose byte i has in bit j the fifth bit of element i of quad j; of 6 bits two
 *   vectors: byte i of vector h has in bits 2f, 2f+1 the upper bits of element i of quad 4h+f.
 * - 3 bits: vector j (0..2) has quads 2j and 2j+1 in bits 0..2 and 3..5; quad 6 has its lower two bits in
 *   the top two of vector 0 and its third in bit 6 of vector 2, quad 7 likewise in vector 1 and bit 7.
 * - 2 bits: vector h (0, 1) has quad 4h+f in bits 2f, 2f+1.
 * - 1 bit: bit j is quad j; stored = (q + 1) / 2.
 *
 * Types with a table (srn__code_table) store which entry of it a code is.
 *
 * Scales, [16] each, f16 unless stated:
 * - Q4_0 Q5_0 Q8_0 IQ4_NL Q2_0 Q1_0 TQ1_0 TQ2_0: two d, each of half the groups of the record.
 * - Q4_1 Q5_1: d, m.
 * - Q4_K Q5_K: the 12 scale bytes of a row as 3 vectors of dwords, then d, dmin.
 * - Q2_K: bytes of scale and minimum (a nibble each) of each half group, then d, dmin.
 * - Q3_K Q6_K: int8 sc0[16], sc1[16] of each group, then d, then 32 unused bytes.
 * - IQ4_XS: int8 scales of each group, then d, then 32 unused bytes.
 * - IQ2_XXS IQ3_XXS IQ3_S IQ1_S: dwords of 8 nibbles, one a group (of IQ1_S three bits of scale, above
 *   them the delta's sign), then d, then 32 unused bytes.
 * - IQ2_XS IQ2_S IQ1_M: two vectors of dwords of 4 bytes, one a group, a nibble for each half; then d,
 *   then 32 bytes, unused but for IQ1_M: its nibbles are three bits of scale and the sign of the half's
 *   first delta, bit 2g+h of the words is the sign of the second delta of half h of group g.
 * - MXFP4: the byte of each group.
 * - NVFP4: the byte of each half, 0 for those that count as 0.
 *
 * F32, F16 and BF16 panels are [k][16] in the order of srn__float_at; F64 is packed as F32.
 */
#ifndef SRN_CPU_SIMD_LAYOUT_H
#define SRN_CPU_SIMD_LAYOUT_H

#include "cpu/cpu_internal.h"

#define SRN__QUADS 8 /* quads of 4 codes in a group */

/* ---- templates ---- */

/* Kernels are inline functions whose constants (columns, bits, form, ...) come in as arguments, with loops
 * that are unrolled whole, so that their small arrays live in registers. */
#define SRN__INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define SRN__UNROLL _Pragma("clang loop unroll(full)")
#else
#define SRN__UNROLL _Pragma("GCC unroll 16")
#endif

/* ---- types ---- */

/* How a type with integer codes is packed, and what its codes are in products. */
typedef struct srn__simd_type {
    uint8_t bits;          /* stored bits of a code: 1 to 6 or 8 */
    uint8_t code_bits;     /* bits that an unpacked code, q + zero, needs; it decides what zero is */
    uint8_t zero;          /* 0 or a power of two */
    uint8_t record_groups; /* groups of a record */
    uint16_t scale_bytes;  /* bytes of a record's scales, a multiple of 64 */
} srn__simd_type;

/* A constant where the type is one. */
SRN__INLINE srn__simd_type srn__simd_type_of(srn_type type) {
    switch (type) {
    case SRN_Q1_0:
        return (srn__simd_type){1, 2, 1, 8, 64};
    case SRN_Q2_0:
        return (srn__simd_type){2, 2, 1, 4, 64};
    case SRN_TQ1_0:
    case SRN_TQ2_0:
        return (srn__simd_type){2, 2, 1, 16, 64};
    case SRN_Q2_K:
        return (srn__simd_type){2, 2, 0, 8, 320};
    case SRN_Q3_K:
        return (srn__simd_type){3, 3, 4, 8, 320};
    case SRN_Q4_0:
        return (srn__simd_type){4, 4, 8, 2, 64};
    case SRN_Q4_1:
        return (srn__simd_type){4, 4, 0, 1, 64};
    case SRN_Q4_K:
        return (srn__simd_type){4, 4, 0, 8, 256};
    case SRN_Q5_0:
        return (srn__simd_type){5, 5, 16, 2, 64};
    case SRN_Q5_1:
        return (srn__simd_type){5, 5, 0, 1, 64};
    case SRN_Q5_K:
        return (srn__simd_type){5, 5, 0, 8, 256};
    case SRN_Q6_K:
        return (srn__simd_type){6, 6, 32, 8, 320};
    case SRN_IQ1_S:
        return (srn__simd_type){2, 5, 16, 8, 128};
    case SRN_IQ1_M:
        return (srn__simd_type){2, 5, 16, 8, 192};
    case SRN_IQ2_XXS:
        return (srn__simd_type){3, 7, 64, 8, 128};
    case SRN_IQ2_XS:
    case SRN_IQ2_S:
        return (srn__simd_type){3, 7, 64, 8, 192};
    case SRN_IQ3_XXS:
        return (srn__simd_type){4, 7, 64, 8, 128};
    case SRN_IQ3_S:
        return (srn__simd_type){4, 5, 16, 8, 128};
    case SRN_IQ4_NL:
        return (srn__simd_type){4, 8, 128, 2, 64};
    case SRN_IQ4_XS:
        return (srn__simd_type){4, 8, 128, 8, 192};
    case SRN_MXFP4:
        return (srn__simd_type){4, 5, 16, 4, 64};
    case SRN_NVFP4:
        return (srn__simd_type){4, 5, 16, 2, 64};
    default:
        return (srn__simd_type){8, 8, 128, 2, 64}; /* Q8_0 */
    }
}

/* The codes of a type that stores places in a table, 16 of them (repeated where it needs fewer, and 0 where
 * no weight has that place); NULL for the others. Levels, grids and signs are as docs/quant-types.md says. */
SRN__INLINE const int8_t *srn__code_table(srn_type type) {
    static const int8_t iq1[16] = {-7, 1, 9, 0, -9, -1, 7, 0, -7, 1, 9, 0, -9, -1, 7, 0};
    static const int8_t iq2[16] = {8, 25, 43, 0, -8, -25, -43, 0, 8, 25, 43, 0, -8, -25, -43, 0};
    static const int8_t iq3_xxs[16] = {4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62};
    static const int8_t iq3_s[16] = {1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15};
    static const int8_t iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    static const int8_t e2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    switch (type) {
    case SRN_IQ1_S:
    case SRN_IQ1_M:
        return iq1;
    case SRN_IQ2_XXS:
    case SRN_IQ2_XS:
    case SRN_IQ2_S:
        return iq2;
    case SRN_IQ3_XXS:
        return iq3_xxs;
    case SRN_IQ3_S:
        return iq3_s;
    case SRN_IQ4_NL:
    case SRN_IQ4_XS:
        return iq4;
    case SRN_MXFP4:
    case SRN_NVFP4:
        return e2m1;
    default:
        return NULL;
    }
}

static inline size_t srn__code_bytes(uint32_t bits) {
    return (size_t)bits * 64;
}
/* Where a group's nibbles begin, after its upper bits. */
static inline size_t srn__nibbles_at(uint32_t bits) {
    return (size_t)(bits - 4) * 64;
}
static inline size_t srn__record_bytes(srn__simd_type t) {
    return t.scale_bytes + t.record_groups * srn__code_bytes(t.bits);
}
/* The record of group g of a panel (its scales come first), and the group's codes in it. */
static inline size_t srn__record_at(srn__simd_type t, uint32_t g) {
    return g / t.record_groups * srn__record_bytes(t);
}
static inline size_t srn__codes_at(srn__simd_type t, uint32_t g) {
    return srn__record_at(t, g) + t.scale_bytes + g % t.record_groups * srn__code_bytes(t.bits);
}

/* Loads before it stay before loads after it: memory is read in ascending order, which prefetchers follow. */
#define SRN__LOAD_ORDER() __asm__ volatile("" ::: "memory")

/* ---- expanded groups: what any type becomes before a product with many columns ---- */

/* One group of 32 of 16 rows; what the form does not use is left as it was. */
typedef struct srn__expanded {
    uint8_t q[SRN__QUADS][SRN_PANEL][4]; /* stored codes, a byte each */
    float d[SRN_PANEL];                  /* SPLIT: d2[0] */
    float m[SRN_PANEL];                  /* SPLIT: d2[1] */
    int32_t sc[2][SRN_PANEL];
    int32_t mn[2][SRN_PANEL];
} srn__expanded;

/* Its codes in 16 bits: of each quad elements 0 and 2, then 1 and 3. */
typedef struct srn__wide {
    int16_t q[SRN__QUADS][2][SRN_PANEL][2];
} srn__wide;

/* ---- panels of floats ---- */

#define SRN__FLOAT_SET 4 /* runs whose lines alternate, at most */

typedef struct srn__float_panel {
    uint32_t runs, set;               /* runs of the row, and of a set */
    uint32_t line;                    /* elements of a line: 1 or 2 */
    uint32_t even;                    /* elements of every run that alternate */
    uint32_t start[SRN_MAX_RUNS + 1]; /* first element of each run */
} srn__float_panel;

static inline srn__float_panel srn__float_panel_of(srn_type type, uint32_t cols) {
    srn__float_panel f = {.runs = srn__run_count(cols), .line = type == SRN_F16 || type == SRN_BF16 ? 2 : 1};
    f.set = SRN_MIN(f.runs, SRN__FLOAT_SET);
    f.even = cols;
    for (uint32_t r = 0; r <= f.runs; r++) f.start[r] = srn__run_start(cols, 1, r, f.runs);
    for (uint32_t r = 0; r < f.runs; r++) f.even = SRN_MIN(f.even, f.start[r + 1] - f.start[r]);
    f.even = f.even / f.line * f.line;
    return f;
}
/* The place, in elements from the panel's beginning, of element k, which is in run r. */
static inline size_t srn__float_at(const srn__float_panel *f, uint32_t r, uint32_t k) {
    uint32_t i = r % f->set, base = f->start[r - i], at = k - f->start[r];
    if (at >= f->even) return (size_t)k + (size_t)f->even * (f->set - 1 - i);
    return (size_t)base + (at / f->line * f->set + i) * f->line + at % f->line;
}

size_t srn__simd_panel_bytes(srn_type type, uint32_t cols);
void srn__simd_pack(const srn_packed *w, uint32_t p0, uint32_t p1);
/* The scales of one block of a row, whose first group is i in its record. */
void srn__simd_put_scales(srn_type type, uint8_t *record, uint32_t i, uint32_t row, const uint8_t *block);
/* The bytes of srn__simd_pack, quicker. */
void srn__simd_pack_avx2(const srn_packed *w, uint32_t p0, uint32_t p1);

/* ---- activations ---- */

/* arm64: one group of one plane of one column. A column is its groups in order, the planes of a group side by
 * side. (x86: cpu/x86/act_tiles.h.) */
typedef struct srn__act_plane {
    int8_t c[SRN_GROUP]; /* this plane's codes */
    float d;             /* the scale */
    float s;             /* fl(d * f(S)) with S of the whole code t */
    int32_t neg_sum;     /* minus the sum of c: what an offset of 1 in the weights adds */
    int32_t neg_half[2]; /* the same for each half */
    int32_t half[2];     /* sums of the whole codes t over each half */
    int32_t unused;
} srn__act_plane;

/* Narrow products of this many quads fit 16 bits: 2 * 127 * (2^bits - 1) * depth <= 32767 up to 6 bits. The
 * types with 7 have codes up to 126 with their zero, for which one quad fits. */
static inline int srn__narrow_depth(int bits) {
    return bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
}

/* Bytes between columns of n bytes: an odd multiple of 64 that spreads a tile's columns over the sets of a
 * cache. */
static inline size_t srn__act_stride(size_t n) {
    size_t lines = (n + 63) / 64;
    return (lines + (25 - lines % 16) % 16) * 64;
}

/* ---- a product in blocks of columns ---- */

#define SRN__MAX_TILE      8  /* columns of the widest tile of any level */
#define SRN__EXPAND_GROUPS 16 /* groups that are expanded at a time: they stay in L1 */
#define SRN__LIST_BLOCK    64 /* integer columns that are gathered at a time */
#define SRN__COLUMN_BLOCK  128

typedef struct srn__simd_scratch {
    srn__expanded e[SRN__EXPAND_GROUPS];
    srn__wide wide[SRN__EXPAND_GROUPS];                    /* where products take these in place of e's */
    float acc[SRN__COLUMN_BLOCK][SRN_MAX_RUNS][SRN_PANEL]; /* with R runs, a column's first R are used */
    int32_t list[]; /* where columns that do not lie as a kernel reads them are gathered */
} srn__simd_scratch;

/* Bytes need no unpacking. While 64 columns stay in L2, panels of such codes are read as they are, for so
 * many columns at a time; longer ones had to be read from memory too often. */
static inline bool srn__simd_reads_bytes(uint32_t bits, uint32_t k, uint32_t planes) {
    return bits == 8 && k * planes <= 4096;
}

#endif
