/* cpu/x86: the memory layouts that the x86 kernels share: packed panels, expanded groups, activations.
 *
 * A packed panel is 16 rows: a sequence of records, each the scales and then the codes of a few groups of 32,
 * because one ascending stream is what memory delivers fastest.
 *   codes of a group, 64*bits bytes. A vector of 64 bytes is 16 rows (dwords) of 4 consecutive k (a quad).
 *     8 bits: quads 0..7, stored = q + zero.
 *     5 bits: first one vector whose byte i has in bit j the fifth bit of element i of quad j.
 *     6 bits: first two vectors; byte i of vector h has in bits 2f, 2f+1 the upper bits of element i of quad
 *             4h+f.
 *     4, 5, 6 bits: vector j (0..3) has quad j in its low and quad j+4 in its high nibbles.
 *   scales, f16 unless stated, [16] each:
 *     Q4_0 Q5_0 Q8_0 (records of 2 groups; the last may be half empty): d of each group.
 *     Q4_1 Q5_1 (1 group): d, m.
 *     Q4_K Q5_K (8 groups): the 12 scale bytes of a row as 3 vectors of dwords, then d, dmin.
 *     Q6_K (8 groups): int8 sc0[16], sc1[16] of each group, then d, then 32 unused bytes.
 * F32, F16 and BF16 panels are [k][16]; F64 is packed as F32. The other types are not packed.
 */
#ifndef SRN_CPU_X86_LAYOUT_H
#define SRN_CPU_X86_LAYOUT_H

#include "cpu/cpu_internal.h"

#define SRN__QUADS 8 /* quads of 4 codes in a group */

/* How a type's codes are stored, in panels (native types) or in expanded groups (all). */
typedef struct srn__x86_type {
    uint8_t bits;          /* stored bits of a code: 4, 5, 6 or 8 */
    uint8_t zero;          /* stored = q + zero; 0 or a power of two */
    uint8_t record_groups; /* groups of a record: 1, 2 or 8; 0: not packed into panels */
    uint16_t scale_bytes;  /* bytes of a record's scales, a multiple of 64 */
} srn__x86_type;

/* For types with integer codes. */
srn__x86_type srn__x86_type_of(srn_type type);

static inline size_t srn__code_bytes(uint32_t bits) {
    return (size_t)bits * 64;
}
/* Where a group's nibbles begin, after its upper bits. */
static inline size_t srn__nibbles_at(uint32_t bits) {
    return (size_t)(bits - 4) * 64;
}
static inline size_t srn__record_bytes(srn__x86_type t) {
    return t.scale_bytes + t.record_groups * srn__code_bytes(t.bits);
}
/* The record of group g of a panel (its scales come first), and the group's codes in it. */
static inline size_t srn__record_at(srn__x86_type t, uint32_t g) {
    return g / t.record_groups * srn__record_bytes(t);
}
static inline size_t srn__codes_at(srn__x86_type t, uint32_t g) {
    return srn__record_at(t, g) + t.scale_bytes + g % t.record_groups * srn__code_bytes(t.bits);
}

/* Types with a panel layout: bits, zero, groups and scale bytes of a record. A macro, so that kernels can
 * have the numbers as constants. */
#define SRN__LAYOUT_Q4_0                                                                                     \
    { 4, 8, 2, 64 }
#define SRN__LAYOUT_Q4_1                                                                                     \
    { 4, 0, 1, 64 }
#define SRN__LAYOUT_Q5_0                                                                                     \
    { 5, 16, 2, 64 }
#define SRN__LAYOUT_Q5_1                                                                                     \
    { 5, 0, 1, 64 }
#define SRN__LAYOUT_Q8_0                                                                                     \
    { 8, 128, 2, 64 }
#define SRN__LAYOUT_Q4_K                                                                                     \
    { 4, 0, 8, 256 }
#define SRN__LAYOUT_Q5_K                                                                                     \
    { 5, 0, 8, 256 }
#define SRN__LAYOUT_Q6_K                                                                                     \
    { 6, 32, 8, 320 }

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

/* Expands groups [g0, g0+n) of panel p from the file's rows, any type with integer codes; g0 and n are whole
 * blocks of the type or within one. */
void srn__x86_expand_raw(const srn_packed *w, uint32_t p, uint32_t g0, uint32_t n, srn__expanded *e);

size_t srn__x86_panel_bytes(srn_type type, uint32_t cols);
void srn__x86_pack(const srn_packed *w, uint32_t p0, uint32_t p1);
/* The same bytes, quicker. */
void srn__x86_pack_avx2(const srn_packed *w, uint32_t p0, uint32_t p1);

/* ---- activations ---- */

/* VNNI: one group of one plane of one column. A column is its groups in order, the planes of a group side by
 * side. */
typedef struct srn__act_plane {
    int8_t c[SRN_GROUP]; /* this plane's codes */
    float d;             /* the scale */
    float s;             /* fl(d * f(S)) with S of the whole code t */
    int32_t neg_sum;     /* minus the sum of c: what an offset of 1 in the weights adds */
    int32_t neg_half[2]; /* the same for each half */
    int32_t half[2];     /* sums of the whole codes t over each half */
    int32_t unused;
} srn__act_plane;

/* Without VNNI: one group of one column. Products of two 8-bit codes are summed in 16 bits ("narrow") where
 * that cannot overflow: one plane, weights below 8 bits. Else the whole codes are multiplied in 16 bits
 * ("wide"). */
typedef struct srn__act_whole {
    int8_t c[SRN_GROUP]; /* with one plane: the codes */
    float d, s;
    int32_t neg_sum, neg_half[2], half[2]; /* of the whole codes t */
    int32_t unused;
    int16_t t[SRN__QUADS][2][2]; /* per quad: elements 0 and 2, then 1 and 3 */
} srn__act_whole;

/* Narrow products of this many quads fit 16 bits: 2 * 127 * (2^bits - 1) * depth <= 32767. */
static inline int srn__narrow_depth(int bits) {
    return bits == 4 ? 8 : bits == 5 ? 4 : 2;
}

/* Bytes between columns of n bytes: an odd multiple of 64 that spreads a tile's columns over the sets of a
 * cache. */
static inline size_t srn__act_stride(size_t n) {
    size_t lines = (n + 63) / 64;
    return (lines + (25 - lines % 16) % 16) * 64;
}

/* ---- templates ---- */

/* Kernels are inline functions whose constants (columns, bits, form, ...) come in as arguments, with loops
 * that are unrolled whole, so that their small arrays live in registers. */
#define SRN__INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define SRN__UNROLL _Pragma("clang loop unroll(full)")
#else
#define SRN__UNROLL _Pragma("GCC unroll 16")
#endif

/* ---- a product in blocks of columns ---- */

#define SRN__MAX_TILE      8   /* columns of the widest tile of any level */
#define SRN__EXPAND_GROUPS 16  /* groups that are expanded at a time: they stay in L1 */
#define SRN__COLUMN_BLOCK  128 /* columns whose partial results wait for their tree */

typedef struct srn__x86_scratch {
    srn__expanded e[SRN__EXPAND_GROUPS];
    float acc[SRN__COLUMN_BLOCK][SRN_MAX_RUNS][SRN_PANEL]; /* with R runs, a column's first R are used */
} srn__x86_scratch;

static inline size_t srn__x86_scratch_bytes(uint32_t k) {
    (void)k;
    return sizeof(srn__x86_scratch);
}

/* Columns that are done together, so that their activations stay in L2. */
static inline uint32_t srn__x86_column_block(uint32_t k) {
    uint32_t n = (1u << 18) / SRN_MAX(k, 1u) / 8 * 8;
    return n < 32 ? 32 : n > SRN__COLUMN_BLOCK ? SRN__COLUMN_BLOCK : n;
}

#endif
