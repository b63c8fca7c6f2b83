/* AVX-512: products of integer codes, 16 rows (the lanes) by a tile of columns, group after group. `gemm`
 * kernels read expanded groups and serve every type of a form; `fused` kernels unpack a native type's panel
 * in registers, for few columns, where the panel's bytes are what takes the time.
 *
 * Columns come as pointers to their activations at the first group. A column with two planes is two integer
 * columns, whose exact sums meet in fma(256, I1, I2). Running sums are stored to acc[column] (acc_stride
 * floats apart) and, unless this is the first part of a run, loaded from there, so that a run can be done in
 * parts.
 */
#ifndef SRN_CPU_X86_GEMM_AVX512_H
#define SRN_CPU_X86_GEMM_AVX512_H

#include "cpu/x86/dot_avx512.h"

#define MAX_TILE 8 /* integer columns of a tile */

SRN__INLINE __m512 broadcast_f32(const float *p) {
    return _mm512_set1_ps(*p);
}

/* -zero * (sum of codes): the start value that takes the weights' offset out again. `zero` is a constant. */
SRN__INLINE __m512i start_value(const int32_t *neg_sum, int zero) {
    __m512i v = _mm512_set1_epi32(*neg_sum);
    return zero == 128  ? _mm512_slli_epi32(v, 7)
           : zero == 32 ? _mm512_slli_epi32(v, 5)
           : zero == 16 ? _mm512_slli_epi32(v, 4)
           : zero == 8  ? _mm512_slli_epi32(v, 3)
           : zero == 64 ? _mm512_slli_epi32(v, 6)
           : zero == 4  ? _mm512_slli_epi32(v, 2)
           : zero == 1  ? v
                        : _mm512_setzero_si512();
}

#if SRN__VNNI
/* Integer columns of so many columns, and the sum of column c as a float. */
SRN__INLINE int int_columns(int columns, int planes) {
    return columns * planes;
}
SRN__INLINE __m512 sum_of_planes(const __m512i *acc, int planes, int c) {
    if (planes == 1) return _mm512_cvtepi32_ps(acc[c]);
    return _mm512_fmadd_ps(_mm512_set1_ps(256.0f), _mm512_cvtepi32_ps(acc[2 * c]),
                           _mm512_cvtepi32_ps(acc[2 * c + 1]));
}
/* The sum of both halves, already multiplied by their scales: with planes it fits 32 bits. */
SRN__INLINE __m512 sum_of_halves(const __m512i *half0, const __m512i *half1, int planes, int c) {
    __m512i sum[2];
    SRN__UNROLL for (int i = 0; i < planes; i++) sum[i] =
        _mm512_add_epi32(half0[c * planes + i], half1[c * planes + i]);
    return sum_of_planes(sum, planes, 0);
}
#else
SRN__INLINE int int_columns(int columns, int planes) {
    (void)planes;
    return columns;
}
SRN__INLINE __m512 sum_of_planes(const __m512i *acc, int planes, int c) {
    (void)planes;
    return _mm512_cvtepi32_ps(acc[c]);
}
/* With whole codes of two planes a half needs 32 bits and their sum 33: it is added in binary64. */
SRN__INLINE __m512 sum_of_halves(const __m512i *half0, const __m512i *half1, int planes, int c) {
    if (planes == 1) return _mm512_cvtepi32_ps(_mm512_add_epi32(half0[c], half1[c]));
    __m512d low = _mm512_add_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(half0[c])),
                                _mm512_cvtepi32_pd(_mm512_castsi512_si256(half1[c])));
    __m512d high = _mm512_add_pd(_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(half0[c], 1)),
                                 _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(half1[c], 1)));
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}
#endif

/* One group into the running sums f[columns]; a[i] is integer column i's group. All but a, w, s, f are
 * constants. */
SRN__INLINE void add_group(srn_form form, int bits, int zero, int columns, int planes,
                           const act_group *const *a, const __m512i *w, const scales16 *s, __m512 *f) {
    const int n = int_columns(columns, planes);
    __m512i acc[MAX_TILE], other[MAX_TILE];
    if (form == SRN_FORM_SCALE || form == SRN_FORM_SCALE_MIN) {
        SRN__UNROLL for (int i = 0; i < n; i++) acc[i] = start_value(&a[i]->neg_sum, zero);
        dot_quads(n, planes, 0, 8, bits, w, a, acc);
    } else {
        SRN__UNROLL for (int i = 0; i < n; i++) acc[i] = start_value(&a[i]->neg_half[0], zero);
        dot_quads(n, planes, 0, 4, bits, w, a, acc);
        SRN__UNROLL for (int i = 0; i < n; i++) other[i] = start_value(&a[i]->neg_half[1], zero);
        if (form != SRN_FORM_SPLIT) {
            SRN__UNROLL for (int i = 0; i < n; i++) acc[i] = _mm512_mullo_epi32(acc[i], s->sc0);
        }
        dot_quads(n, planes, 4, 4, bits, w, a, other);
        if (form != SRN_FORM_SPLIT) {
            SRN__UNROLL for (int i = 0; i < n; i++) other[i] = _mm512_mullo_epi32(other[i], s->sc1);
        }
    }
    SRN__UNROLL for (int c = 0; c < columns; c++) {
        const act_group *g = a[int_columns(c, planes)];
        __m512 dx = broadcast_f32(&g->d);
        bool halves = form == SRN_FORM_SUB || form == SRN_FORM_SUB_MIN;
        __m512 sum = halves ? sum_of_halves(acc, other, planes, c) : sum_of_planes(acc, planes, c);
        f[c] = _mm512_fmadd_ps(_mm512_mul_ps(s->d, dx), sum, f[c]);
        if (form == SRN_FORM_SCALE_MIN) f[c] = _mm512_fmadd_ps(s->m, broadcast_f32(&g->s), f[c]);
        if (form == SRN_FORM_SPLIT)
            f[c] = _mm512_fmadd_ps(_mm512_mul_ps(s->m, dx), sum_of_planes(other, planes, c), f[c]);
        if (form == SRN_FORM_SUB_MIN) {
            __m512i sum0 = _mm512_mullo_epi32(s->mn0, _mm512_set1_epi32(g->half[0]));
            __m512i sum1 = _mm512_mullo_epi32(s->mn1, _mm512_set1_epi32(g->half[1]));
            f[c] = _mm512_fmadd_ps(_mm512_mul_ps(s->m, dx), _mm512_cvtepi32_ps(_mm512_add_epi32(sum0, sum1)),
                                   f[c]);
        }
    }
}

/* ---- expanded groups ---- */

typedef void gemm_fn(const srn__expanded *e, uint32_t n_groups, const act_group *const *columns, bool first,
                     float *acc, size_t acc_stride);

SRN__INLINE void gemm(srn_form form, int bits, int zero, int columns, int planes, const srn__expanded *e,
                      uint32_t n_groups, const act_group *const *column, bool first, float *acc,
                      size_t acc_stride) {
    __m512 f[MAX_TILE];
    const act_group *a[MAX_TILE];
    SRN__UNROLL for (int c = 0; c < columns; c++) f[c] =
        first ? _mm512_setzero_ps() : _mm512_loadu_ps(acc + (size_t)c * acc_stride);
    SRN__UNROLL for (int i = 0; i < int_columns(columns, planes); i++) a[i] =
        column[i / int_columns(1, planes)] + i % int_columns(1, planes);
    for (uint32_t g = 0; g < n_groups; g++, e++) {
        __m512i w[SRN__QUADS];
        scales16 s;
        SRN__UNROLL for (int j = 0; j < SRN__QUADS; j++) w[j] = _mm512_loadu_si512(e->q[j]);
        s.d = _mm512_loadu_ps(e->d), s.m = _mm512_loadu_ps(e->m);
        s.sc0 = _mm512_loadu_si512(e->sc[0]), s.sc1 = _mm512_loadu_si512(e->sc[1]);
        s.mn0 = _mm512_loadu_si512(e->mn[0]), s.mn1 = _mm512_loadu_si512(e->mn[1]);
        add_group(form, bits, zero, columns, planes, a, w, &s, f);
        SRN__UNROLL for (int i = 0; i < int_columns(columns, planes); i++) a[i] +=
            act_groups((uint32_t)planes);
    }
    SRN__UNROLL for (int c = 0; c < columns; c++) _mm512_storeu_ps(acc + (size_t)c * acc_stride, f[c]);
}

#define GEMM(name, form, bits, zero, columns, planes)                                                        \
    static void name##_##columns##x##planes(const srn__expanded *e, uint32_t n_groups,                       \
                                            const act_group *const *column, bool first, float *acc,          \
                                            size_t acc_stride) {                                             \
        gemm(form, bits, zero, columns, planes, e, n_groups, column, first, acc, acc_stride);                \
    }
/* Tiles of a form: [planes-1][columns-1]; a tile that is not there is done by the next wider one. */
#define GEMM_FAMILY(name, form, bits, zero)                                                                  \
    GEMM(name, form, bits, zero, 1, 1)                                                                       \
    GEMM(name, form, bits, zero, 2, 1)                                                                       \
    GEMM(name, form, bits, zero, 4, 1)                                                                       \
    GEMM(name, form, bits, zero, 6, 1)                                                                       \
    GEMM(name, form, bits, zero, 8, 1)                                                                       \
    GEMM(name, form, bits, zero, 1, 2)                                                                       \
    GEMM(name, form, bits, zero, 2, 2)                                                                       \
    GEMM(name, form, bits, zero, 3, 2)                                                                       \
    GEMM(name, form, bits, zero, 4, 2)                                                                       \
    static gemm_fn *const name[2][MAX_TILE] = {                                                              \
        {name##_1x1, name##_2x1, name##_4x1, name##_4x1, name##_6x1, name##_6x1, name##_8x1, name##_8x1},    \
        {name##_1x2, name##_2x2, name##_3x2, name##_4x2},                                                    \
    };

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

SRN__INLINE uint32_t gemm_tile(uint32_t planes) {
    return MAX_TILE / planes;
}
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

#define FUSED_TILE 8 /* integer columns of a fused tile */
/* From so many integer columns on, a group takes longer than its bytes do, and the hardware's prefetchers
 * fall behind; with fewer, fetching by hand only disturbs them. */
#define FETCH_COLUMNS 4
#define FETCH_AHEAD   3072 /* bytes */
#define FUSED_COLUMNS 64

/* Groups [g0, g1), a whole run, of a panel; columns point at group g0. */
typedef void fused_fn(const uint8_t *panel, uint32_t g0, uint32_t g1, const act_group *const *columns,
                      float *acc, size_t acc_stride);
typedef void expand_fn(const uint8_t *panel, uint32_t g0, uint32_t n, srn__expanded *e);

SRN__INLINE void fused(srn_type type, srn_form form, int columns, int planes, const uint8_t *panel,
                       uint32_t g0, uint32_t g1, const act_group *const *column, float *acc,
                       size_t acc_stride) {
    const srn__x86_type t = srn__x86_type_of(type);
    __m512 f[FUSED_TILE];
    const act_group *a[FUSED_TILE];
    SRN__UNROLL for (int c = 0; c < columns; c++) f[c] = _mm512_setzero_ps();
    SRN__UNROLL for (int i = 0; i < int_columns(columns, planes); i++) a[i] =
        column[i / int_columns(1, planes)] + i % int_columns(1, planes);
    for (uint32_t g = g0; g < g1; g++) {
        const uint8_t *codes = panel + srn__codes_at(t, g), *record = panel + srn__record_at(t, g);
        __m512i w[SRN__QUADS];
        scales16 s;
        if (columns * planes >= FETCH_COLUMNS) {
            SRN__UNROLL for (int i = 0; i < t.bits; i++)
                _mm_prefetch((const void *)((uintptr_t)codes + FETCH_AHEAD + 64 * (uintptr_t)i), _MM_HINT_T0);
        }
        load_scales(type, record, g, &s);
        SRN__LOAD_ORDER();
        unpack_codes(type, record, codes, g, w);
        add_group(form, t.code_bits, t.zero, columns, planes, a, w, &s, f);
        SRN__UNROLL for (int i = 0; i < int_columns(columns, planes); i++) a[i] +=
            act_groups((uint32_t)planes);
    }
    SRN__UNROLL for (int c = 0; c < columns; c++) _mm512_storeu_ps(acc + (size_t)c * acc_stride, f[c]);
}

SRN__INLINE void expand(srn_type type, srn_form form, const uint8_t *panel, uint32_t g0, uint32_t n,
                        srn__expanded *e) {
    const srn__x86_type t = srn__x86_type_of(type);
    for (uint32_t g = g0; g < g0 + n; g++, e++) {
        const uint8_t *codes = panel + srn__codes_at(t, g), *record = panel + srn__record_at(t, g);
        __m512i w[SRN__QUADS];
        scales16 s;
        load_scales(type, record, g, &s);
        SRN__LOAD_ORDER();
        unpack_codes(type, record, codes, g, w);
        SRN__UNROLL for (int j = 0; j < SRN__QUADS; j++) _mm512_storeu_si512(e->q[j], w[j]);
        _mm512_storeu_ps(e->d, s.d);
        if (form != SRN_FORM_SCALE && form != SRN_FORM_SUB) _mm512_storeu_ps(e->m, s.m);
        if (form == SRN_FORM_SUB || form == SRN_FORM_SUB_MIN) {
            _mm512_storeu_si512(e->sc[0], s.sc0);
            _mm512_storeu_si512(e->sc[1], s.sc1);
        }
        if (form == SRN_FORM_SUB_MIN) {
            _mm512_storeu_si512(e->mn[0], s.mn0);
            _mm512_storeu_si512(e->mn[1], s.mn1);
        }
    }
}

#define FUSED(type, form, columns, planes)                                                                   \
    static void fused_##type##_##columns##x##planes(const uint8_t *panel, uint32_t g0, uint32_t g1,          \
                                                    const act_group *const *column, float *acc,              \
                                                    size_t acc_stride) {                                     \
        fused(SRN_##type, form, columns, planes, panel, g0, g1, column, acc, acc_stride);                    \
    }
#define NATIVE(type, form)                                                                                   \
    FUSED(type, form, 1, 1)                                                                                  \
    FUSED(type, form, 2, 1)                                                                                  \
    FUSED(type, form, 3, 1)                                                                                  \
    FUSED(type, form, 4, 1)                                                                                  \
    FUSED(type, form, 6, 1)                                                                                  \
    FUSED(type, form, 8, 1)                                                                                  \
    FUSED(type, form, 1, 2)                                                                                  \
    FUSED(type, form, 2, 2)                                                                                  \
    FUSED(type, form, 3, 2)                                                                                  \
    FUSED(type, form, 4, 2)                                                                                  \
    static void expand_##type(const uint8_t *panel, uint32_t g0, uint32_t n, srn__expanded *e) {             \
        expand(SRN_##type, form, panel, g0, n, e);                                                           \
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

SRN__INLINE uint32_t fused_tile(uint32_t planes) {
    return FUSED_TILE / planes;
}

typedef struct native_kernels {
    fused_fn *fused[2][FUSED_TILE]; /* [planes-1][columns-1] */
    expand_fn *expand;
} native_kernels;

/* A type and the one whose panels it shares, often itself. */
#define NATIVE_ROW(id, type)                                                                                 \
    [SRN_##id] = {{{fused_##type##_1x1, fused_##type##_2x1, fused_##type##_3x1, fused_##type##_4x1,          \
                    fused_##type##_6x1, fused_##type##_6x1, fused_##type##_8x1, fused_##type##_8x1},         \
                   {fused_##type##_1x2, fused_##type##_2x2, fused_##type##_3x2, fused_##type##_4x2}},        \
                  expand_##type}
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
