/* What is the same for products of planes of bytes (srn__act_plane), which dot_vnni.h and arm/dot_neon.h
 * form: a column with two planes is two integer columns, whose exact sums meet in fma(256, I1, I2).
 */
#ifndef SRN_CPU_SIMD_PLANES_H
#define SRN_CPU_SIMD_PLANES_H

#include "cpu/simd/unpack.h"

typedef srn__act_plane act_group;
SRN__INLINE uint32_t act_groups(uint32_t planes) {
    return planes;
}
/* Integer columns of so many columns. */
SRN__INLINE int int_columns(int columns, int planes) {
    return columns * planes;
}

/* acc[i] += sum over quads q0 to q0+n_quads of w * codes of integer column i; `bits` is what the codes need.
 * The instruction set's. */
SRN__INLINE void dot_quads(int n, int planes, int q0, int n_quads, int bits, const group_codes *w,
                           const act_group *const *a, i32x16 *acc);

/* The sum of column c as a float. */
SRN__INLINE v16 sum_of_planes(const i32x16 *acc, int planes, int c) {
    if (planes == 1) return lanes_float(acc[c]);
    return v16_fma(v16_set1(256.0f), lanes_float(acc[2 * c]), lanes_float(acc[2 * c + 1]));
}
/* sum[i] = sc0 * (sum over the first half) + sc1 * (over the second) of w - zero and the codes of column i.
 */
SRN__INLINE void dot_halves(int n, int planes, int bits, int zero, const group_codes *w,
                            const act_group *const *a, i32x16 sc0, i32x16 sc1, i32x16 *sum, i32x16 *other) {
    SRN__UNROLL for (int i = 0; i < n; i++) sum[i] = start_value(&a[i]->neg_half[0], zero);
    dot_quads(n, planes, 0, 4, bits, w, a, sum);
    SRN__UNROLL for (int i = 0; i < n; i++) other[i] = start_value(&a[i]->neg_half[1], zero);
    dot_quads(n, planes, 4, 4, bits, w, a, other);
    SRN__UNROLL for (int i = 0; i < n; i++) sum[i] =
        lanes_add(lanes_mul(sum[i], sc0), lanes_mul(other[i], sc1));
}
SRN__INLINE v16 sum_of_halves(const i32x16 *sum, const i32x16 *other, int planes, int c) {
    (void)other;
    return sum_of_planes(sum, planes, c); /* each fits 32 bits */
}
/* The sum of the column's whole codes over half h. */
SRN__INLINE i32x16 half_sum(const act_group *a, int h) {
    return lanes_broadcast(&a->half[h]);
}

#endif
