/* AVX2: products of integer codes, 16 rows (two vectors of 8 lanes) by a tile of columns, group after group.
 * As in gemm_avx512.h: `gemm` kernels read expanded groups, `fused` kernels a native type's panel. A quad is
 * unpacked when its product is formed, because 16 registers do not hold a group.
 */
#ifndef SRN_CPU_X86_GEMM_AVX2_H
#define SRN_CPU_X86_GEMM_AVX2_H

#include "cpu/x86/unpack_avx2.h"

#define MAX_TILE      3 /* columns of a tile */
#define FUSED_TILE    3
#define FUSED_COLUMNS 12
#define FETCH_COLUMNS 3    /* as in gemm_avx512.h */
#define FETCH_AHEAD   3072 /* bytes */

typedef srn__act_whole act_group;
SRN__INLINE uint32_t act_groups(uint32_t planes) {
    (void)planes;
    return 1;
}

/* Keeps the compiler from forming all products of a tile first and spilling them. */
SRN__INLINE __m256i here(__m256i v) {
    __asm__("" : "+x"(v));
    return v;
}

SRN__INLINE __m256i broadcast4(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}

SRN__INLINE void load_expanded(const srn__expanded *e, int half, scales8 *s) {
    s->d = _mm256_loadu_ps(e->d + 8 * half), s->m = _mm256_loadu_ps(e->m + 8 * half);
    s->sc0 = _mm256_loadu_si256((const void *)(e->sc[0] + 8 * half));
    s->sc1 = _mm256_loadu_si256((const void *)(e->sc[1] + 8 * half));
    s->mn0 = _mm256_loadu_si256((const void *)(e->mn[0] + 8 * half));
    s->mn1 = _mm256_loadu_si256((const void *)(e->mn[1] + 8 * half));
}

/* ---- integer products ---- */

/* acc[h][c] += sum over n_quads quads from q0 of the codes times those of column c. `bits` is what the codes
 * need, `at` where they are stored, in the way of type `stored`. */
SRN__INLINE void dot_narrow(int n, int q0, int n_quads, int bits, srn_type stored, stored_at at,
                            const act_group *const *a, __m256i acc[2][MAX_TILE]) {
    const __m256i ones = _mm256_set1_epi16(1);
    const int depth = SRN_MIN(srn__narrow_depth(bits), n_quads);
    SRN__UNROLL for (int j0 = q0; j0 < q0 + n_quads; j0 += depth) {
        __m256i sum[2][MAX_TILE];
        SRN__UNROLL for (int j = j0; j < j0 + depth; j++) {
            __m256i w0 = load_quad(stored, at, j, 0), w1 = load_quad(stored, at, j, 1);
            SRN__UNROLL for (int c = 0; c < n; c++) {
                __m256i t = broadcast4(a[c]->c + 4 * j);
                __m256i p0 = _mm256_maddubs_epi16(w0, t), p1 = _mm256_maddubs_epi16(w1, t);
                sum[0][c] = here(j == j0 ? p0 : _mm256_add_epi16(sum[0][c], p0));
                sum[1][c] = here(j == j0 ? p1 : _mm256_add_epi16(sum[1][c], p1));
            }
        }
        SRN__UNROLL for (int h = 0; h < 2; h++) {
            SRN__UNROLL for (int c = 0; c < n; c++) acc[h][c] =
                _mm256_add_epi32(acc[h][c], _mm256_madd_epi16(sum[h][c], ones));
        }
    }
}

SRN__INLINE void dot_wide(int n, int q0, int n_quads, srn_type stored, stored_at at,
                          const act_group *const *a, __m256i acc[2][MAX_TILE]) {
    const __m256i even = _mm256_set1_epi16(255);
    SRN__UNROLL for (int j = q0; j < q0 + n_quads; j++) {
        SRN__UNROLL for (int h = 0; h < 2; h++) {
            __m256i w = load_quad(stored, at, j, h);
            __m256i w02 = _mm256_and_si256(w, even), w13 = _mm256_srli_epi16(w, 8);
            SRN__UNROLL for (int c = 0; c < n; c++) {
                __m256i p02 = _mm256_madd_epi16(w02, broadcast4(a[c]->t[j][0]));
                __m256i p13 = _mm256_madd_epi16(w13, broadcast4(a[c]->t[j][1]));
                acc[h][c] = here(_mm256_add_epi32(acc[h][c], _mm256_add_epi32(p02, p13)));
            }
        }
    }
}

SRN__INLINE void dot_quads(int n, int planes, int q0, int n_quads, int bits, srn_type stored, stored_at at,
                           const act_group *const *a, __m256i acc[2][MAX_TILE]) {
    if (planes == 2 || bits == 8)
        dot_wide(n, q0, n_quads, stored, at, a, acc);
    else
        dot_narrow(n, q0, n_quads, bits, stored, at, a, acc);
}

/* ---- one group into the running sums ---- */

/* -zero * (sum of codes): the start value that takes the weights' offset out again. `zero` is a constant. */
SRN__INLINE __m256i start_value(const int32_t *neg_sum, int zero) {
    __m256i v = _mm256_set1_epi32(*neg_sum);
    return zero == 128  ? _mm256_slli_epi32(v, 7)
           : zero == 32 ? _mm256_slli_epi32(v, 5)
           : zero == 16 ? _mm256_slli_epi32(v, 4)
           : zero == 8  ? _mm256_slli_epi32(v, 3)
           : zero == 64 ? _mm256_slli_epi32(v, 6)
           : zero == 4  ? _mm256_slli_epi32(v, 2)
           : zero == 1  ? v
                        : _mm256_setzero_si256();
}

/* half0 + half1 as a float, rounded once. With whole codes of two planes a half needs 32 bits and their sum
 * 33: it is added in binary64. */
SRN__INLINE __m256 sum_of_halves(__m256i half0, __m256i half1, int planes) {
    if (planes == 1) return _mm256_cvtepi32_ps(_mm256_add_epi32(half0, half1));
    __m256d low = _mm256_add_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(half0)),
                                _mm256_cvtepi32_pd(_mm256_castsi256_si128(half1)));
    __m256d high = _mm256_add_pd(_mm256_cvtepi32_pd(_mm256_extracti128_si256(half0, 1)),
                                 _mm256_cvtepi32_pd(_mm256_extracti128_si256(half1, 1)));
    return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low));
}

/* Rows 8*h on of column c: the integer sums of the group (of its halves, for forms that have them). */
SRN__INLINE __m256 add_sums(srn_form form, int planes, __m256i sum, __m256i other, const scales8 *s,
                            const act_group *g, __m256 f) {
    __m256 dx = _mm256_set1_ps(g->d);
    if (form == SRN_FORM_SCALE || form == SRN_FORM_SCALE_MIN || form == SRN_FORM_SPLIT) {
        f = _mm256_fmadd_ps(_mm256_mul_ps(s->d, dx), _mm256_cvtepi32_ps(sum), f);
        if (form == SRN_FORM_SCALE_MIN) f = _mm256_fmadd_ps(s->m, _mm256_set1_ps(g->s), f);
        if (form == SRN_FORM_SPLIT)
            f = _mm256_fmadd_ps(_mm256_mul_ps(s->m, dx), _mm256_cvtepi32_ps(other), f);
        return f;
    }
    __m256i half0 = _mm256_mullo_epi32(sum, s->sc0), half1 = _mm256_mullo_epi32(other, s->sc1);
    f = _mm256_fmadd_ps(_mm256_mul_ps(s->d, dx), sum_of_halves(half0, half1, planes), f);
    if (form == SRN_FORM_SUB_MIN) {
        __m256i sum0 = _mm256_mullo_epi32(s->mn0, _mm256_set1_epi32(g->half[0]));
        __m256i sum1 = _mm256_mullo_epi32(s->mn1, _mm256_set1_epi32(g->half[1]));
        f = _mm256_fmadd_ps(_mm256_mul_ps(s->m, dx), _mm256_cvtepi32_ps(_mm256_add_epi32(sum0, sum1)), f);
    }
    return f;
}

/* The group's integer sums of a tile; all but at and a are constants. */
SRN__INLINE void group_sums(srn_form form, int bits, int zero, srn_type stored, int columns, int planes,
                            stored_at at, const act_group *const *a, __m256i sum[2][MAX_TILE],
                            __m256i other[2][MAX_TILE]) {
    bool halves = form == SRN_FORM_SUB || form == SRN_FORM_SUB_MIN || form == SRN_FORM_SPLIT;
    SRN__UNROLL for (int c = 0; c < columns; c++) {
        sum[0][c] = sum[1][c] = start_value(halves ? &a[c]->neg_half[0] : &a[c]->neg_sum, zero);
        if (halves) other[0][c] = other[1][c] = start_value(&a[c]->neg_half[1], zero);
    }
    dot_quads(columns, planes, 0, halves ? 4 : 8, bits, stored, at, a, sum);
    if (halves) dot_quads(columns, planes, 4, 4, bits, stored, at, a, other);
}

/* ---- kernels ---- */

typedef void gemm_fn(const srn__expanded *e, uint32_t n_groups, const act_group *const *columns, bool first,
                     float *acc, size_t acc_stride);
typedef void fused_fn(const uint8_t *panel, uint32_t g0, uint32_t g1, const act_group *const *columns,
                      float *acc, size_t acc_stride);
typedef void expand_fn(const uint8_t *panel, uint32_t g0, uint32_t n, srn__expanded *e);

SRN__INLINE void gemm(srn_form form, int bits, int zero, int columns, int planes, const srn__expanded *e,
                      uint32_t n_groups, const act_group *const *column, bool first, float *acc,
                      size_t acc_stride) {
    __m256 f[2][MAX_TILE];
    const act_group *a[MAX_TILE];
    SRN__UNROLL for (int c = 0; c < columns; c++) {
        a[c] = column[c];
        SRN__UNROLL for (int h = 0; h < 2; h++) f[h][c] =
            first ? _mm256_setzero_ps() : _mm256_loadu_ps(acc + (size_t)c * acc_stride + 8 * h);
    }
    for (uint32_t g = 0; g < n_groups; g++, e++) {
        __m256i sum[2][MAX_TILE], other[2][MAX_TILE];
        group_sums(form, bits, zero, SRN_Q8_0, columns, planes, (stored_at){.codes = e->q[0][0]}, a, sum,
                   other);
        SRN__UNROLL for (int h = 0; h < 2; h++) {
            scales8 s;
            load_expanded(e, h, &s);
            SRN__UNROLL for (int c = 0; c < columns; c++) f[h][c] =
                add_sums(form, planes, sum[h][c], other[h][c], &s, a[c], f[h][c]);
        }
        SRN__UNROLL for (int c = 0; c < columns; c++) a[c]++;
    }
    SRN__UNROLL for (int c = 0; c < columns; c++) {
        _mm256_storeu_ps(acc + (size_t)c * acc_stride, f[0][c]);
        _mm256_storeu_ps(acc + (size_t)c * acc_stride + 8, f[1][c]);
    }
}

SRN__INLINE void fused(srn_type type, srn_form form, int columns, int planes, const uint8_t *panel,
                       uint32_t g0, uint32_t g1, const act_group *const *column, float *acc,
                       size_t acc_stride) {
    const srn__x86_type t = srn__x86_type_of(type);
    __m256 f[2][FUSED_TILE];
    const act_group *a[FUSED_TILE];
    SRN__UNROLL for (int c = 0; c < columns; c++) {
        a[c] = column[c];
        f[0][c] = f[1][c] = _mm256_setzero_ps();
    }
    for (uint32_t g = g0; g < g1; g++) {
        const stored_at at = stored_group(t, panel, g);
        __m256i sum[2][MAX_TILE], other[2][MAX_TILE];
        if (columns * planes >= FETCH_COLUMNS) {
            SRN__UNROLL for (int i = 0; i < t.bits; i++) _mm_prefetch(
                (const void *)((uintptr_t)at.codes + FETCH_AHEAD + 64 * (uintptr_t)i), _MM_HINT_T0);
        }
        group_sums(form, t.code_bits, t.zero, type, columns, planes, at, a, sum, other);
        SRN__UNROLL for (int h = 0; h < 2; h++) {
            scales8 s;
            load_scales(type, at, h, &s);
            SRN__UNROLL for (int c = 0; c < columns; c++) f[h][c] =
                add_sums(form, planes, sum[h][c], other[h][c], &s, a[c], f[h][c]);
        }
        SRN__UNROLL for (int c = 0; c < columns; c++) a[c]++;
    }
    SRN__UNROLL for (int c = 0; c < columns; c++) {
        _mm256_storeu_ps(acc + (size_t)c * acc_stride, f[0][c]);
        _mm256_storeu_ps(acc + (size_t)c * acc_stride + 8, f[1][c]);
    }
}

SRN__INLINE void expand(srn_type type, srn_form form, const uint8_t *panel, uint32_t g0, uint32_t n,
                        srn__expanded *e) {
    const srn__x86_type t = srn__x86_type_of(type);
    for (uint32_t g = g0; g < g0 + n; g++, e++) {
        const stored_at at = stored_group(t, panel, g);
        SRN__UNROLL for (int j = 0; j < SRN__QUADS; j++) {
            _mm256_storeu_si256((void *)e->q[j][0], load_quad(type, at, j, 0));
            _mm256_storeu_si256((void *)e->q[j][8], load_quad(type, at, j, 1));
        }
        SRN__UNROLL for (int h = 0; h < 2; h++) {
            scales8 s;
            load_scales(type, at, h, &s);
            _mm256_storeu_ps(e->d + 8 * h, s.d);
            if (form != SRN_FORM_SCALE && form != SRN_FORM_SUB) _mm256_storeu_ps(e->m + 8 * h, s.m);
            if (form == SRN_FORM_SUB || form == SRN_FORM_SUB_MIN) {
                _mm256_storeu_si256((void *)(e->sc[0] + 8 * h), s.sc0);
                _mm256_storeu_si256((void *)(e->sc[1] + 8 * h), s.sc1);
            }
            if (form == SRN_FORM_SUB_MIN) {
                _mm256_storeu_si256((void *)(e->mn[0] + 8 * h), s.mn0);
                _mm256_storeu_si256((void *)(e->mn[1] + 8 * h), s.mn1);
            }
        }
    }
}

/* ---- tables ---- */

#define GEMM(name, form, bits, zero, columns, planes)                                                        \
    static void name##_##columns##x##planes(const srn__expanded *e, uint32_t n_groups,                       \
                                            const act_group *const *column, bool first, float *acc,          \
                                            size_t acc_stride) {                                             \
        gemm(form, bits, zero, columns, planes, e, n_groups, column, first, acc, acc_stride);                \
    }
#define GEMM_FAMILY(name, form, bits, zero)                                                                  \
    GEMM(name, form, bits, zero, 1, 1)                                                                       \
    GEMM(name, form, bits, zero, 2, 1)                                                                       \
    GEMM(name, form, bits, zero, 3, 1)                                                                       \
    GEMM(name, form, bits, zero, 1, 2)                                                                       \
    GEMM(name, form, bits, zero, 2, 2)                                                                       \
    GEMM(name, form, bits, zero, 3, 2)                                                                       \
    static gemm_fn *const name[2][MAX_TILE] = {{name##_1x1, name##_2x1, name##_3x1},                         \
                                               {name##_1x2, name##_2x2, name##_3x2}};

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
    (void)planes;
    return MAX_TILE;
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
    FUSED(type, form, 1, 2)                                                                                  \
    FUSED(type, form, 2, 2)                                                                                  \
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
    return planes == 1 ? 3 : 2;
}

typedef struct native_kernels {
    fused_fn *fused[2][FUSED_TILE]; /* [planes-1][columns-1] */
    expand_fn *expand;
} native_kernels;

/* A type and the one whose panels it shares, often itself. */
#define NATIVE_ROW(id, type)                                                                                 \
    [SRN_##id] = {{{fused_##type##_1x1, fused_##type##_2x1, fused_##type##_3x1},                             \
                   {fused_##type##_1x2, fused_##type##_2x2}},                                                \
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
