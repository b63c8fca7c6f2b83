/* AVX-512: products with F32, F16 and BF16 weights (F64 is packed as F32): a lane is a row, a run is one fma
 * chain ascending in k. Chains of several runs and columns are interleaved, because one alone would wait for
 * each fma.
 */
#ifndef SRN_CPU_X86_FLOAT_AVX512_H
#define SRN_CPU_X86_FLOAT_AVX512_H

#include "cpu/x86/unpack_avx512.h"

enum { WEIGHT_F32, WEIGHT_F16, WEIGHT_BF16, N_WEIGHT_KINDS };

SRN__INLINE __m512 load_weights(int kind, const uint8_t *panel, size_t k) {
    if (kind == WEIGHT_F32) return _mm512_loadu_ps(panel + k * 64);
    __m256i h = _mm256_loadu_si256((const void *)(panel + k * 32));
    if (kind == WEIGHT_F16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* Runs [r, r+n_runs) whose first elements are start[0..n_runs], columns at x; results to acc[c][run]. */
typedef void float_fn(const uint8_t *panel, const uint32_t *start, const float *const *x, float *acc,
                      size_t acc_stride);

SRN__INLINE void float_tile(int kind, int columns, int n_runs, const uint8_t *panel, const uint32_t *start,
                            const float *const *x, float *acc, size_t acc_stride) {
    __m512 f[8];
    uint32_t shortest = start[1] - start[0];
    for (int r = 1; r < n_runs; r++) shortest = SRN_MIN(shortest, start[r + 1] - start[r]);
    SRN__UNROLL for (int i = 0; i < columns * n_runs; i++) f[i] = _mm512_setzero_ps();
    for (uint32_t k = 0; k < shortest; k++) {
        SRN__UNROLL for (int r = 0; r < n_runs; r++) {
            __m512 w = load_weights(kind, panel, start[r] + k);
            SRN__UNROLL for (int c = 0; c < columns; c++) f[r * columns + c] =
                _mm512_fmadd_ps(w, _mm512_set1_ps(x[c][start[r] + k]), f[r * columns + c]);
        }
    }
    SRN__UNROLL for (int r = 0; r < n_runs; r++) {
        for (uint32_t k = start[r] + shortest; k < start[r + 1]; k++) {
            __m512 w = load_weights(kind, panel, k);
            SRN__UNROLL for (int c = 0; c < columns; c++) f[r * columns + c] =
                _mm512_fmadd_ps(w, _mm512_set1_ps(x[c][k]), f[r * columns + c]);
        }
        SRN__UNROLL for (int c = 0; c < columns; c++)
            _mm512_storeu_ps(acc + (size_t)c * acc_stride + r * SRN_PANEL, f[r * columns + c]);
    }
}

#define FLOAT_TILE(kind, columns, n_runs)                                                                    \
    static void float_##kind##_##columns##x##n_runs(const uint8_t *panel, const uint32_t *start,             \
                                                    const float *const *x, float *acc, size_t acc_stride) {  \
        float_tile(WEIGHT_##kind, columns, n_runs, panel, start, x, acc, acc_stride);                        \
    }
#define FLOAT_FAMILY(kind)                                                                                   \
    FLOAT_TILE(kind, 1, 1)                                                                                   \
    FLOAT_TILE(kind, 1, 2)                                                                                   \
    FLOAT_TILE(kind, 1, 4)                                                                                   \
    FLOAT_TILE(kind, 1, 8)                                                                                   \
    FLOAT_TILE(kind, 4, 1)                                                                                   \
    FLOAT_TILE(kind, 4, 2)                                                                                   \
    FLOAT_TILE(kind, 8, 1)
FLOAT_FAMILY(F32)
FLOAT_FAMILY(F16)
FLOAT_FAMILY(BF16)

typedef struct float_kernels {
    float_fn *one[SRN_MAX_RUNS + 1]; /* one column, that many runs */
    float_fn *four[3], *eight;       /* four columns by 1 or 2 runs, eight by one */
} float_kernels;
#define FLOAT_ROW(kind)                                                                                      \
    [WEIGHT_##kind] = {{[1] = float_##kind##_1x1,                                                            \
                        [2] = float_##kind##_1x2,                                                            \
                        [4] = float_##kind##_1x4,                                                            \
                        [8] = float_##kind##_1x8},                                                           \
                       {[1] = float_##kind##_4x1, [2] = float_##kind##_4x2},                                 \
                       float_##kind##_8x1}
static const float_kernels floats[N_WEIGHT_KINDS] = {FLOAT_ROW(F32), FLOAT_ROW(F16), FLOAT_ROW(BF16)};

/* All runs of n (up to SRN__COLUMN_BLOCK) columns of one panel. */
static void float_panel(srn_type type, const uint8_t *panel, const uint32_t *start, uint32_t runs,
                        const float *const *x, uint32_t n, float *acc, size_t acc_stride) {
    const float_kernels *k = &floats[type == SRN_F16    ? WEIGHT_F16
                                     : type == SRN_BF16 ? WEIGHT_BF16
                                                        : WEIGHT_F32];
    uint32_t c = 0;
    for (; c + 8 <= n; c += 8)
        for (uint32_t r = 0; r < runs; r++)
            k->eight(panel, start + r, x + c, acc + c * acc_stride + r * SRN_PANEL, acc_stride);
    uint32_t step = SRN_MIN(runs, 2);
    for (; c + 4 <= n; c += 4)
        for (uint32_t r = 0; r < runs; r += step)
            k->four[step](panel, start + r, x + c, acc + c * acc_stride + r * SRN_PANEL, acc_stride);
    for (; c < n; c++) k->one[runs](panel, start, x + c, acc + c * acc_stride, acc_stride);
}

#endif
