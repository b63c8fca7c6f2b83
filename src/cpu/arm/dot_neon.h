/* The integer products of the three arm64 levels, on planes of bytes (srn__act_plane): with i8mm pairs of
 * columns by smmla, with the dot product extension sdot, else smull and 16-bit sums. A column with two planes
 * is two integer columns, whose exact sums meet in fma(256, I1, I2).
 */
#ifndef SRN_CPU_ARM_DOT_NEON_H
#define SRN_CPU_ARM_DOT_NEON_H

#include "cpu/simd/unpack.h"

typedef srn__act_plane act_group;
SRN__INLINE uint32_t act_groups(uint32_t planes) {
    return planes;
}
/* Integer columns of so many columns. */
SRN__INLINE int int_columns(int columns, int planes) {
    return columns * planes;
}
#include "cpu/simd/columns.h"

#if defined(__ARM_FEATURE_DOTPROD)

/* acc + w * dword `lane` of c; `lane` is a constant once loops are unrolled. */
SRN__INLINE int32x4_t dot_lane(int32x4_t acc, int8x16_t w, int8x16_t c, int lane) {
    switch (lane) {
    case 0:
        return vdotq_laneq_s32(acc, w, c, 0);
    case 1:
        return vdotq_laneq_s32(acc, w, c, 1);
    case 2:
        return vdotq_laneq_s32(acc, w, c, 2);
    default:
        return vdotq_laneq_s32(acc, w, c, 3);
    }
}

/* One column has two chains, for sums of one alone would wait for each other. */
SRN__INLINE void dot_columns(int n, int q0, int n_quads, const group_codes *w, const act_group *const *a,
                             i32x16 *acc) {
    i32x16 odd = lanes_set1(0);
    int8x16_t c[MAX_TILE];
    SRN__UNROLL for (int j = 0; j < n_quads; j++) {
        if (j % 4 == 0) SRN__UNROLL for (int i = 0; i < n; i++) c[i] = vld1q_s8(a[i]->c + 4 * (q0 + j));
        SRN__UNROLL for (int p = 0; p < 4; p++) {
            int8x16_t v = quad_part(w, q0 + j, p);
            SRN__UNROLL for (int i = 0; i < n; i++) {
                int32x4_t *sum = n == 1 && j % 2 ? &odd.v[p] : &acc[i].v[p];
                *sum = dot_lane(*sum, v, c[i], j % 4);
            }
        }
    }
    if (n == 1) acc[0] = lanes_add(acc[0], odd);
}

#endif

#if defined(__ARM_FEATURE_MATMUL_INT8)

/* 2x2 products of two rows and two columns, eight k each: of a pair of quads the zipped dwords are the rows.
 */
SRN__INLINE void dot_pairs(int pairs, int q0, int n_quads, const group_codes *w, const act_group *const *a,
                           i32x16 *acc) {
    int32x4_t m[MAX_TILE / 2][8];
    SRN__UNROLL for (int j = q0; j < q0 + n_quads; j += 2) {
        int8x16_t c[MAX_TILE / 2];
        SRN__UNROLL for (int i = 0; i < pairs; i++) c[i] =
            vcombine_s8(vld1_s8(a[2 * i]->c + 4 * j), vld1_s8(a[2 * i + 1]->c + 4 * j));
        SRN__UNROLL for (int p = 0; p < 4; p++) {
            int32x4_t even = vreinterpretq_s32_s8(quad_part(w, j, p));
            int32x4_t odd = vreinterpretq_s32_s8(quad_part(w, j + 1, p));
            int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(even, odd));
            int8x16_t high = vreinterpretq_s8_s32(vzip2q_s32(even, odd));
            SRN__UNROLL for (int i = 0; i < pairs; i++) {
                int32x4_t *sum = &m[i][2 * p], zero = vdupq_n_s32(0);
                sum[0] = vmmlaq_s32(j == q0 ? zero : sum[0], low, c[i]);
                sum[1] = vmmlaq_s32(j == q0 ? zero : sum[1], high, c[i]);
            }
        }
    }
    SRN__UNROLL for (int i = 0; i < pairs; i++) SRN__UNROLL for (int p = 0; p < 4; p++) {
        int32x4_t low = m[i][2 * p], high = m[i][2 * p + 1];
        acc[2 * i].v[p] = vaddq_s32(acc[2 * i].v[p], vuzp1q_s32(low, high));
        acc[2 * i + 1].v[p] = vaddq_s32(acc[2 * i + 1].v[p], vuzp2q_s32(low, high));
    }
}

#endif

#if !defined(__ARM_FEATURE_DOTPROD)

/* Products that a sum of 16 bits takes: codes are at most 31, 63 or 126 by their bits, and of 8 bits -128;
 * activations at most 128, of one plane 127. */
SRN__INLINE int narrow_depth(int bits, int planes) {
    return bits <= 5 ? 8 : bits == 6 ? 4 : bits == 7 || planes == 1 ? 2 : 1;
}

SRN__INLINE void dot_narrow(int n, int planes, int q0, int n_quads, int bits, const group_codes *w,
                            const act_group *const *a, i32x16 *acc) {
    const int depth = SRN_MIN(narrow_depth(bits, planes), n_quads);
    SRN__UNROLL for (int p = 0; p < 4; p++) {
        SRN__UNROLL for (int j0 = q0; j0 < q0 + n_quads; j0 += depth) {
            int16x8_t low[MAX_TILE], high[MAX_TILE];
            SRN__UNROLL for (int j = j0; j < j0 + depth; j++) {
                int8x16_t v = quad_part(w, j, p);
                SRN__UNROLL for (int i = 0; i < n; i++) {
                    int8x16_t c = vreinterpretq_s8_s32(lanes_broadcast(a[i]->c + 4 * j).v[0]);
                    int16x8_t l = vmull_s8(vget_low_s8(v), vget_low_s8(c)), h = vmull_high_s8(v, c);
                    low[i] = j == j0 ? l : vaddq_s16(low[i], l);
                    high[i] = j == j0 ? h : vaddq_s16(high[i], h);
                }
            }
            SRN__UNROLL for (int i = 0; i < n; i++) acc[i].v[p] =
                vaddq_s32(acc[i].v[p], vpaddq_s32(vpaddlq_s16(low[i]), vpaddlq_s16(high[i])));
        }
    }
}

#endif

/* acc[i] += sum over quads q0 to q0+n_quads of w * codes of integer column i; `bits` is what the codes need.
 */
SRN__INLINE void dot_quads(int n, int planes, int q0, int n_quads, int bits, const group_codes *w,
                           const acts *a, i32x16 *acc) {
    (void)bits, (void)planes;
#if defined(__ARM_FEATURE_MATMUL_INT8)
    dot_pairs(n / 2, q0, n_quads, w, a->at, acc);
    if (n % 2) dot_columns(1, q0, n_quads, w, a->at + n - 1, acc + n - 1);
#elif defined(__ARM_FEATURE_DOTPROD)
    dot_columns(n, q0, n_quads, w, a->at, acc);
#else
    dot_narrow(n, planes, q0, n_quads, bits, w, a->at, acc);
#endif
}

/* The sum of column c as a float. */
SRN__INLINE v16 sum_of_planes(const i32x16 *acc, int planes, int c) {
    if (planes == 1) return lanes_float(acc[c]);
    return v16_fma(v16_set1(256.0f), lanes_float(acc[2 * c]), lanes_float(acc[2 * c + 1]));
}
/* sum[i] = sc0 * (sum over the first half) + sc1 * (over the second) of w - zero and the codes of column i.
 */
SRN__INLINE void dot_halves(int n, int planes, int bits, int zero, const group_codes *w, const acts *a,
                            i32x16 sc0, i32x16 sc1, i32x16 *sum, i32x16 *other) {
    SRN__UNROLL for (int i = 0; i < n; i++) sum[i] = start_value(neg_half(a, i, 0), zero);
    dot_quads(n, planes, 0, 4, bits, w, a, sum);
    SRN__UNROLL for (int i = 0; i < n; i++) other[i] = start_value(neg_half(a, i, 1), zero);
    dot_quads(n, planes, 4, 4, bits, w, a, other);
    SRN__UNROLL for (int i = 0; i < n; i++) sum[i] =
        lanes_add(lanes_mul(sum[i], sc0), lanes_mul(other[i], sc1));
}
SRN__INLINE v16 sum_of_halves(const i32x16 *sum, const i32x16 *other, int planes, int c) {
    (void)other;
    return sum_of_planes(sum, planes, c); /* each fits 32 bits */
}
/* The sum of the column's whole codes over half h. */
SRN__INLINE i32x16 half_sum(const acts *a, int c, int h) {
    return lanes_broadcast(&a->at[int_columns(c, a->planes)]->half[h]);
}

#endif
