/* Products with F32, F16 and BF16 weights (F64 is packed as F32): a lane is a row, a run is one fma chain
 * ascending in k. Chains of several runs or columns are interleaved, because one alone would wait for each
 * fma.
 */
#ifndef SRN_CPU_SIMD_GEMM_FLOAT_H
#define SRN_CPU_SIMD_GEMM_FLOAT_H

#include "cpu/simd/layout.h"
#include "cpu/simd/v16.h"

enum { WEIGHT_F32, WEIGHT_F16, WEIGHT_BF16, N_WEIGHT_KINDS };

/* Chains that are interleaved: what the registers hold. */
#if defined(__AVX512F__)
#define FLOAT_CHAINS 8
#else
#define FLOAT_CHAINS 4
#endif

SRN__INLINE v16 load_weights(int kind, const uint8_t *panel, size_t k) {
    if (kind == WEIGHT_F32) return v16_load((const float *)(const void *)(panel + k * 64));
    if (kind == WEIGHT_F16) return v16_load_f16((const uint16_t *)(const void *)(panel + k * 32));
    return v16_load_upper((const uint16_t *)(const void *)(panel + k * 32));
}

/* Runs [run, run+n_runs), columns at x; results to acc[c][run]. */
typedef void float_fn(const uint8_t *panel, const srn__float_panel *l, uint32_t run, const float *const *x,
                      float *acc, size_t acc_stride);

SRN__INLINE void float_tile(int kind, int columns, int n_runs, const uint8_t *panel,
                            const srn__float_panel *l, uint32_t run, const float *const *x, float *acc,
                            size_t acc_stride) {
    const uint32_t line = kind == WEIGHT_F32 ? 1 : 2;
    v16 f[FLOAT_CHAINS];
    SRN__UNROLL for (int i = 0; i < columns * n_runs; i++) f[i] = v16_set1(0.0f);
    size_t at = srn__float_at(l, run, l->start[run]);
    for (uint32_t k = 0; k < l->even; k += line, at += (size_t)l->set * line) {
        SRN__UNROLL for (int r = 0; r < n_runs; r++) {
            SRN__UNROLL for (uint32_t e = 0; e < line; e++) {
                v16 w = load_weights(kind, panel, at + (uint32_t)r * line + e);
                SRN__UNROLL for (int c = 0; c < columns; c++) f[r * columns + c] =
                    v16_fma(w, v16_set1(x[c][l->start[run + (uint32_t)r] + k + e]), f[r * columns + c]);
            }
        }
    }
    SRN__UNROLL for (int r = 0; r < n_runs; r++) {
        const uint32_t this_run = run + (uint32_t)r, end = l->start[this_run + 1];
        for (uint32_t k = l->start[this_run] + l->even; k < end; k++) {
            v16 w = load_weights(kind, panel, srn__float_at(l, this_run, k));
            SRN__UNROLL for (int c = 0; c < columns; c++) f[r * columns + c] =
                v16_fma(w, v16_set1(x[c][k]), f[r * columns + c]);
        }
        SRN__UNROLL for (int c = 0; c < columns; c++)
            v16_store(acc + (size_t)c * acc_stride + r * SRN_PANEL, f[r * columns + c]);
    }
}

#define FLOAT_TILE(kind, columns, n_runs)                                                                    \
    static void float_##kind##_##columns##x##n_runs(const uint8_t *panel, const srn__float_panel *l,         \
                                                    uint32_t run, const float *const *x, float *acc,         \
                                                    size_t acc_stride) {                                     \
        float_tile(WEIGHT_##kind, columns, n_runs, panel, l, run, x, acc, acc_stride);                       \
    }
#define FLOAT_FAMILY(kind)                                                                                   \
    FLOAT_TILE(kind, 1, 1)                                                                                   \
    FLOAT_TILE(kind, 1, 2)                                                                                   \
    FLOAT_TILE(kind, 1, 4)                                                                                   \
    FLOAT_MANY_TILE(kind)
#define FLOAT_ONE(kind)                                                                                      \
    { [1] = float_##kind##_1x1, [2] = float_##kind##_1x2, [4] = float_##kind##_1x4 }
#if FLOAT_CHAINS == 8
#define FLOAT_MANY_TILE(kind) FLOAT_TILE(kind, 8, 1)
#else
#define FLOAT_MANY_TILE(kind) FLOAT_TILE(kind, 4, 1)
#endif
#define FLOAT_PASTE(kind, chains) float_##kind##_##chains##x1
#define FLOAT_MANY(kind, chains)  FLOAT_PASTE(kind, chains)
FLOAT_FAMILY(F32)
FLOAT_FAMILY(F16)
FLOAT_FAMILY(BF16)

typedef struct float_kernels {
    float_fn *one[SRN__FLOAT_SET + 1]; /* one column by a set of that many runs */
    float_fn *many;                    /* FLOAT_CHAINS columns by one run */
} float_kernels;
#define FLOAT_ROW(kind) [WEIGHT_##kind] = {FLOAT_ONE(kind), FLOAT_MANY(kind, FLOAT_CHAINS)}
static const float_kernels floats[N_WEIGHT_KINDS] = {FLOAT_ROW(F32), FLOAT_ROW(F16), FLOAT_ROW(BF16)};

/* All runs of n (up to SRN__COLUMN_BLOCK) columns of one panel. */
static void float_panel(srn_type type, const uint8_t *panel, const srn__float_panel *l, const float *const *x,
                        uint32_t n, float *acc, size_t acc_stride) {
    const float_kernels *k = &floats[type == SRN_F16    ? WEIGHT_F16
                                     : type == SRN_BF16 ? WEIGHT_BF16
                                                        : WEIGHT_F32];
    const uint32_t many = n / FLOAT_CHAINS * FLOAT_CHAINS;
    for (uint32_t r = 0; r < l->runs; r++) /* a run's weights stay in L1 while the columns pass */
        for (uint32_t c = 0; c < many; c += FLOAT_CHAINS)
            k->many(panel, l, r, x + c, acc + c * acc_stride + r * SRN_PANEL, acc_stride);
    for (uint32_t c = many; c < n; c++)
        for (uint32_t r = 0; r < l->runs; r += l->set)
            k->one[l->set](panel, l, r, x + c, acc + c * acc_stride + r * SRN_PANEL, acc_stride);
}

#endif
