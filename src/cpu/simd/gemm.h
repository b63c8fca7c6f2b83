/* Products of integer codes, 16 rows (the lanes) by a tile of columns, group after group, for every level.
 * `gemm` kernels read expanded groups and serve every type of a form; `fused` kernels unpack a type's panel
 * in registers, for few columns, where the panel's bytes are what takes the time.
 *
 * The activations of a tile come as an act_source at the first group. Running sums are stored to acc[column]
 * (acc_stride floats apart) and, unless this is the first part of a run, loaded from there, so that a run can
 * be done in parts. Included once by each level's translation unit, after the products of that level
 * (dot_*.h) and its tiles (tiles_*.h):
 *
 * - MAX_TILE: integer columns of the widest tile.
 * - WIDEST(planes): columns of the widest tile.
 * - FUSED_COLUMNS: integer columns up to which panels are not expanded.
 * - FETCH_COLUMNS: from so many integer columns on, a group takes longer than its bytes do, and the
 *   hardware's prefetchers fall behind; with fewer, fetching by hand only disturbs them.
 * - WIDE(planes, bits): whether products take expanded codes of so many bits as 16-bit numbers.
 * - REGISTERS: vector registers. With 32, scales are loaded before the codes, as they lie in memory.
 * - TILES(KERNEL, ...): KERNEL(..., columns, planes) for each tile.
 * - TILE_TABLE(name): tiles by [planes-1][columns-1]; one that is not there is done by the next wider one.
 */
#ifndef SRN_CPU_SIMD_GEMM_H
#define SRN_CPU_SIMD_GEMM_H

#include "cpu/simd/unpack.h"

#define FETCH_AHEAD 3072 /* bytes */

SRN__INLINE bool has_sub_scales(srn_form form) {
    return form == SRN_FORM_SUB || form == SRN_FORM_SUB_MIN;
}

/* The integer sums of a group, multiplied by the sub-scales of forms that have them; of SPLIT the first
 * half's, and in `other` the second's. a[i] is integer column i's group. All but codes, activations and
 * sub-scales are constants. */
SRN__INLINE void group_sums(srn_form form, int bits, int zero, int columns, int planes, const group_codes *w,
                            const acts *a, const scales *sub, i32x16 *sum, i32x16 *other) {
    const int n = int_columns(columns, planes);
    if (has_sub_scales(form)) {
        dot_halves(n, planes, bits, zero, w, a, sub->sc0, sub->sc1, sum, other);
        return;
    }
    const bool split = form == SRN_FORM_SPLIT;
    SRN__UNROLL for (int i = 0; i < n; i++) sum[i] =
        start_value(split ? neg_half(a, i, 0) : neg_sum(a, i), zero);
    dot_quads(n, planes, 0, split ? 4 : 8, bits, w, a, sum);
    if (!split) return;
    SRN__UNROLL for (int i = 0; i < n; i++) other[i] = start_value(neg_half(a, i, 1), zero);
    dot_quads(n, planes, 4, 4, bits, w, a, other);
}

/* Column c's sums into its running sum. */
SRN__INLINE v16 add_sums(srn_form form, int planes, int c, const acts *a, const i32x16 *sum,
                         const i32x16 *other, const scales *s, v16 f) {
    v16 dx = v16_set1(act_scale(a, c));
    v16 first = has_sub_scales(form) ? sum_of_halves(sum, other, planes, c) : sum_of_planes(sum, planes, c);
    f = v16_fma(v16_mul(s->d, dx), first, f);
    if (form == SRN_FORM_SCALE_MIN) f = v16_fma(s->m, v16_set1(act_sum(a, c)), f);
    if (form == SRN_FORM_SPLIT) f = v16_fma(v16_mul(s->m, dx), sum_of_planes(other, planes, c), f);
    if (form == SRN_FORM_SUB_MIN) {
        i32x16 min0 = lanes_mul(s->mn0, half_sum(a, c, 0)), min1 = lanes_mul(s->mn1, half_sum(a, c, 1));
        f = v16_fma(v16_mul(s->m, dx), lanes_float(lanes_add(min0, min1)), f);
    }
    return f;
}

/* ---- expanded groups ---- */

typedef void gemm_fn(const srn__expanded *e, const srn__wide *codes, uint32_t n_groups, act_source tile,
                     bool first, float *acc, size_t acc_stride);

SRN__INLINE void load_expanded(const srn__expanded *e, scales *s) {
    s->d = v16_load(e->d), s->m = v16_load(e->m);
    s->sc0 = lanes_load(e->sc[0]), s->sc1 = lanes_load(e->sc[1]);
    s->mn0 = lanes_load(e->mn[0]), s->mn1 = lanes_load(e->mn[1]);
}

SRN__INLINE void gemm(srn_form form, int bits, int zero, int columns, int planes, const srn__expanded *e,
                      const srn__wide *codes, uint32_t n_groups, act_source tile, bool first, float *acc,
                      size_t acc_stride) {
    const bool wide = WIDE(planes, bits);
    v16 f[MAX_TILE];
    acts a = open_acts(columns, planes, bits, tile);
    SRN__UNROLL for (int c = 0; c < columns; c++) f[c] =
        first ? v16_set1(0.0f) : v16_load(acc + (size_t)c * acc_stride);
    for (uint32_t g = 0; g < n_groups; g++, e++, codes++) {
        group_codes w;
        scales s;
        i32x16 sum[MAX_TILE], other[MAX_TILE];
        expanded_codes(e, &w);
#if WIDE(2, 8)
        if (wide) wide_codes(codes, &w);
#endif
        load_expanded(e, &s);
        group_sums(form, bits, wide ? 0 : zero, columns, planes, &w, &a, &s, sum, other);
        if (REGISTERS == 16) load_expanded(e, &s);
        SRN__UNROLL for (int c = 0; c < columns; c++) f[c] =
            add_sums(form, planes, c, &a, sum, other, &s, f[c]);
        next_group(&a);
    }
    SRN__UNROLL for (int c = 0; c < columns; c++) v16_store(acc + (size_t)c * acc_stride, f[c]);
}

#define GEMM(name, form, bits, zero, columns, planes)                                                        \
    static void name##_##columns##x##planes(const srn__expanded *e, const srn__wide *codes,                  \
                                            uint32_t n_groups, act_source tile, bool first, float *acc,      \
                                            size_t acc_stride) {                                             \
        gemm(form, bits, zero, columns, planes, e, codes, n_groups, tile, first, acc, acc_stride);           \
    }
#define GEMM_FAMILY(name, form, bits, zero)                                                                  \
    TILES(GEMM, name, form, bits, zero)                                                                      \
    static gemm_fn *const name[2][MAX_TILE] = TILE_TABLE(name);

GEMM_FAMILY(gemm_scale2, SRN_FORM_SCALE, 2, 1)
GEMM_FAMILY(gemm_scale4, SRN_FORM_SCALE, 4, 8)
GEMM_FAMILY(gemm_scale5, SRN_FORM_SCALE, 5, 16)
GEMM_FAMILY(gemm_scale7, SRN_FORM_SCALE, 7, 64)
GEMM_FAMILY(gemm_scale8, SRN_FORM_SCALE, 8, 128)
GEMM_FAMILY(gemm_min4, SRN_FORM_SCALE_MIN, 4, 0)
GEMM_FAMILY(gemm_min5, SRN_FORM_SCALE_MIN, 5, 0)
GEMM_FAMILY(gemm_sub3, SRN_FORM_SUB, 3, 4)
GEMM_FAMILY(gemm_sub5, SRN_FORM_SUB, 5, 16)
GEMM_FAMILY(gemm_sub6, SRN_FORM_SUB, 6, 32)
GEMM_FAMILY(gemm_sub7, SRN_FORM_SUB, 7, 64)
GEMM_FAMILY(gemm_sub_min, SRN_FORM_SUB_MIN, 2, 0)
GEMM_FAMILY(gemm_split, SRN_FORM_SPLIT, 5, 16)

/* bits: code_bits of the type */
static gemm_fn *const *gemm_family(srn_form form, uint32_t bits, uint32_t planes) {
    switch (form) {
    case SRN_FORM_SCALE:
        return (bits == 2   ? gemm_scale2
                : bits == 4 ? gemm_scale4
                : bits == 5 ? gemm_scale5
                : bits == 7 ? gemm_scale7
                            : gemm_scale8)[planes - 1];
    case SRN_FORM_SCALE_MIN:
        return (bits == 4 ? gemm_min4 : gemm_min5)[planes - 1];
    case SRN_FORM_SUB:
        return (bits == 3   ? gemm_sub3
                : bits == 5 ? gemm_sub5
                : bits == 6 ? gemm_sub6
                            : gemm_sub7)[planes - 1];
    case SRN_FORM_SUB_MIN:
        return gemm_sub_min[planes - 1];
    default:
        return gemm_split[planes - 1];
    }
}

/* ---- panels of native types ---- */

/* Groups [g0, g1), a whole run, of a panel; the tile begins at group g0. */
typedef void fused_fn(const uint8_t *panel, uint32_t g0, uint32_t g1, act_source tile, float *acc,
                      size_t acc_stride);
typedef void expand_fn(const uint8_t *panel, uint32_t g0, uint32_t n, srn__expanded *e, srn__wide *codes);

SRN__INLINE void fused(srn_type type, srn_form form, int columns, int planes, const uint8_t *panel,
                       uint32_t g0, uint32_t g1, act_source tile, float *acc, size_t acc_stride) {
    const srn__simd_type t = srn__simd_type_of(type);
    v16 f[MAX_TILE];
    acts a = open_acts(columns, planes, t.code_bits, tile);
    SRN__UNROLL for (int c = 0; c < columns; c++) f[c] = v16_set1(0.0f);
    for (uint32_t g = g0; g < g1; g++) {
        group_codes w;
        scales s;
        i32x16 sum[MAX_TILE], other[MAX_TILE];
        if (columns * planes >= FETCH_COLUMNS) {
            const uintptr_t ahead = (uintptr_t)panel + srn__codes_at(t, g) + FETCH_AHEAD;
            SRN__UNROLL for (int i = 0; i < t.bits; i++)
                __builtin_prefetch((const void *)(ahead + 64 * (uintptr_t)i), 0, 3);
        }
        load_group_scales(type, panel, g, &s);
        if (REGISTERS == 32) SRN__LOAD_ORDER();
        load_codes(type, panel, g, &w);
        group_sums(form, t.code_bits, t.zero, columns, planes, &w, &a, &s, sum, other);
        if (REGISTERS == 16) load_group_scales(type, panel, g, &s);
        SRN__UNROLL for (int c = 0; c < columns; c++) f[c] =
            add_sums(form, planes, c, &a, sum, other, &s, f[c]);
        next_group(&a);
    }
    SRN__UNROLL for (int c = 0; c < columns; c++) v16_store(acc + (size_t)c * acc_stride, f[c]);
}

/* Quad j, of codes q + zero, as bytes or as q in 16 bits each. */
SRN__INLINE void store_codes(srn__expanded *e, srn__wide *to, bool wide, int j, i32x16 codes, int zero) {
#if WIDE(2, 8)
    const i32x16 even = lanes_set1(0xff00ff),
                 minus_zero = lanes_set1((int32_t)((-(uint32_t)zero & 0xffffu) * 0x10001u));
    if (wide) {
        lanes_store(to->q[j][0], lanes_add16(lanes_and(codes, even), minus_zero));
        lanes_store(to->q[j][1], lanes_add16(lanes_upper_bytes(codes), minus_zero));
        return;
    }
#endif
    (void)to, (void)wide, (void)zero;
    lanes_store(e->q[j], codes);
}

SRN__INLINE void expand(srn_type type, srn_form form, bool wide, const uint8_t *panel, uint32_t g0,
                        uint32_t n, srn__expanded *e, srn__wide *codes) {
    for (uint32_t g = g0; g < g0 + n; g++, e++, codes++) {
        group_codes w;
        scales s;
        load_group_scales(type, panel, g, &s);
        if (REGISTERS == 32) SRN__LOAD_ORDER();
        load_codes(type, panel, g, &w);
        SRN__UNROLL for (int j = 0; j < SRN__QUADS; j++) {
            store_codes(e, codes, wide, j, quad(&w, j), srn__simd_type_of(type).zero);
        }
        v16_store(e->d, s.d);
        if (form != SRN_FORM_SCALE && form != SRN_FORM_SUB) v16_store(e->m, s.m);
        if (form == SRN_FORM_SUB || form == SRN_FORM_SUB_MIN) {
            lanes_store(e->sc[0], s.sc0);
            lanes_store(e->sc[1], s.sc1);
        }
        if (form == SRN_FORM_SUB_MIN) {
            lanes_store(e->mn[0], s.mn0);
            lanes_store(e->mn[1], s.mn1);
        }
    }
}

#define FUSED(name, type, form, columns, planes)                                                             \
    static void name##_##columns##x##planes(const uint8_t *panel, uint32_t g0, uint32_t g1, act_source tile, \
                                            float *acc, size_t acc_stride) {                                 \
        fused(SRN_##type, form, columns, planes, panel, g0, g1, tile, acc, acc_stride);                      \
    }
#define NATIVE(type, form)                                                                                   \
    TILES(FUSED, fused_##type, type, form)                                                                   \
    static void expand_##type(const uint8_t *panel, uint32_t g0, uint32_t n, srn__expanded *e,               \
                              srn__wide *codes) {                                                            \
        expand(SRN_##type, form, false, panel, g0, n, e, codes);                                             \
    }                                                                                                        \
    static void expand_wide_##type(const uint8_t *panel, uint32_t g0, uint32_t n, srn__expanded *e,          \
                                   srn__wide *codes) {                                                       \
        expand(SRN_##type, form, WIDE(2, 8), panel, g0, n, e, codes);                                        \
    }

NATIVE(Q4_0, SRN_FORM_SCALE)
NATIVE(Q4_1, SRN_FORM_SCALE_MIN)
NATIVE(Q5_0, SRN_FORM_SCALE)
NATIVE(Q5_1, SRN_FORM_SCALE_MIN)
NATIVE(Q8_0, SRN_FORM_SCALE)
NATIVE(Q4_K, SRN_FORM_SCALE_MIN)
NATIVE(Q5_K, SRN_FORM_SCALE_MIN)
NATIVE(Q6_K, SRN_FORM_SUB)
NATIVE(Q1_0, SRN_FORM_SCALE)
NATIVE(Q2_0, SRN_FORM_SCALE)
NATIVE(TQ2_0, SRN_FORM_SCALE)
NATIVE(Q2_K, SRN_FORM_SUB_MIN)
NATIVE(Q3_K, SRN_FORM_SUB)
NATIVE(IQ1_S, SRN_FORM_SCALE)
NATIVE(IQ1_M, SRN_FORM_SUB)
NATIVE(IQ2_XXS, SRN_FORM_SCALE)
NATIVE(IQ2_S, SRN_FORM_SUB)
NATIVE(IQ3_XXS, SRN_FORM_SCALE)
NATIVE(IQ3_S, SRN_FORM_SCALE)
NATIVE(IQ4_NL, SRN_FORM_SCALE)
NATIVE(IQ4_XS, SRN_FORM_SCALE)
NATIVE(MXFP4, SRN_FORM_SCALE)
NATIVE(NVFP4, SRN_FORM_SPLIT)

typedef struct native_kernels {
    fused_fn *fused[2][MAX_TILE]; /* [planes-1][columns-1] */
    expand_fn *expand[2];         /* to bytes; as WIDE has them */
} native_kernels;

/* A type and the one whose panels it shares, often itself. */
#define NATIVE_ROW(id, type) [SRN_##id] = {TILE_TABLE(fused_##type), {expand_##type, expand_wide_##type}}
static const native_kernels natives[] = {
    NATIVE_ROW(Q4_0, Q4_0),     NATIVE_ROW(Q4_1, Q4_1),       NATIVE_ROW(Q5_0, Q5_0),
    NATIVE_ROW(Q5_1, Q5_1),     NATIVE_ROW(Q8_0, Q8_0),       NATIVE_ROW(Q4_K, Q4_K),
    NATIVE_ROW(Q5_K, Q5_K),     NATIVE_ROW(Q6_K, Q6_K),       NATIVE_ROW(Q1_0, Q1_0),
    NATIVE_ROW(Q2_0, Q2_0),     NATIVE_ROW(TQ1_0, TQ2_0),     NATIVE_ROW(TQ2_0, TQ2_0),
    NATIVE_ROW(Q2_K, Q2_K),     NATIVE_ROW(Q3_K, Q3_K),       NATIVE_ROW(IQ1_S, IQ1_S),
    NATIVE_ROW(IQ1_M, IQ1_M),   NATIVE_ROW(IQ2_XXS, IQ2_XXS), NATIVE_ROW(IQ2_XS, IQ2_S),
    NATIVE_ROW(IQ2_S, IQ2_S),   NATIVE_ROW(IQ3_XXS, IQ3_XXS), NATIVE_ROW(IQ3_S, IQ3_S),
    NATIVE_ROW(IQ4_NL, IQ4_NL), NATIVE_ROW(IQ4_XS, IQ4_XS),   NATIVE_ROW(MXFP4, MXFP4),
    NATIVE_ROW(NVFP4, NVFP4),
};

#endif
