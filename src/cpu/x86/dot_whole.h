/* The integer products without VNNI: bytes by vpmaddubsw where the sums fit 16 bits ("narrow"), whole codes
 * by vpmaddwd elsewhere ("wide"). Compiled for AVX2 and AVX-512.
 */
#ifndef SRN_CPU_X86_DOT_WHOLE_H
#define SRN_CPU_X86_DOT_WHOLE_H

#include "cpu/simd/unpack.h"
#include "cpu/x86/act_part.h"

/* Products of two 8-bit codes are summed in 16 bits ("narrow") where that cannot overflow: one plane, weights
 * below 8 bits. Else the whole codes are multiplied in 16 bits ("wide"). */
typedef struct act_codes {
    int16_t t[SRN__QUADS][2][2]; /* whole codes, of each quad elements 0 and 2, then 1 and 3 */
    float d;
    int32_t neg_sum;
    float s;
    int32_t neg_half[2];
    int16_t neg_pairs[2][2]; /* minus the sums of each half's elements 0 and 1, 2 and 3 of all quads */
    int8_t c[SRN_GROUP];     /* the codes; this and the above with one plane only */
} act_codes;

enum { ROW_D, ROW_NEG_SUM, ROW_S, ROW_NEG_HALF, ROW_NEG_PAIRS = ROW_NEG_HALF + 2, ROW_C = ROW_NEG_PAIRS + 2 };
enum { WHOLE, NARROW, MAX_PARTS };

/* What wide products read: whole codes and fields; what narrow ones read: fields and codes. */
SRN__INLINE act_part act_part_at(uint32_t planes, uint32_t i) {
    const uint32_t codes = 2 * SRN__QUADS, whole = codes + ROW_NEG_PAIRS;
    (void)planes;
    return i == WHOLE ? (act_part){.rows = whole, .fields = codes}
                      : (act_part){.first = codes, .rows = ROW_C + SRN__QUADS, .before = whole};
}
SRN__INLINE uint32_t act_parts(uint32_t planes) {
    return planes == 2 ? 1 : MAX_PARTS;
}
SRN__INLINE bool is_wide(int planes, int bits) {
    return planes == 2 || bits == 8;
}
SRN__INLINE act_part act_part_of(uint32_t planes, int bits) {
    return act_part_at(planes, is_wide((int)planes, bits) ? WHOLE : NARROW);
}
#include "cpu/x86/act_tiles.h"

/* The codes of a quad, of one plane; half of its whole codes: in every lane. */
SRN__INLINE i32x16 narrow_codes(const acts *a, int c, int quad) {
    return lanes_set1(*act_row(a, ROW_C + quad, c));
}
SRN__INLINE i32x16 whole_codes(const acts *a, int c, int quad, int half) {
    return lanes_set1(*act_row(a, 2 * (quad - SRN__QUADS) + half, c));
}

SRN__INLINE void dot_narrow(int n, int q0, int n_quads, int bits, const group_codes *w, const acts *a,
                            i32x16 *acc) {
    const i32x16 ones = lanes_set1(0x10001);
    const int depth = SRN_MIN(srn__narrow_depth(bits), n_quads);
    SRN__UNROLL for (int j0 = q0; j0 < q0 + n_quads; j0 += depth) {
#if REGISTERS == 32 /* the codes stay in registers */
        SRN__UNROLL for (int i = 0; i < n; i++) {
            i32x16 sum = lanes_madd8(quad(w, j0), narrow_codes(a, i, j0));
            SRN__UNROLL for (int j = j0 + 1; j < j0 + depth; j++) sum =
                lanes_add16(sum, lanes_madd8(quad(w, j), narrow_codes(a, i, j)));
            acc[i] = lanes_add(acc[i], lanes_madd16(sum, ones));
        }
#else
        i32x16 sum[MAX_TILE];
        SRN__UNROLL for (int j = j0; j < j0 + depth; j++) {
            i32x16 v = quad(w, j);
            SRN__UNROLL for (int i = 0; i < n; i++) {
                i32x16 p = lanes_madd8(v, narrow_codes(a, i, j));
                sum[i] = here(j == j0 ? p : lanes_add16(sum[i], p));
            }
        }
        SRN__UNROLL for (int i = 0; i < n; i++) acc[i] = lanes_add(acc[i], lanes_madd16(sum[i], ones));
#endif
    }
}

SRN__INLINE void dot_wide(int n, int q0, int n_quads, const group_codes *w, const acts *a, i32x16 *acc) {
    const i32x16 even = lanes_set1(0xff00ff);
    SRN__UNROLL for (int j = q0; j < q0 + n_quads; j++) {
        i32x16 v = quad(w, j), v02 = lanes_and(v, even), v13 = lanes_upper_bytes(v);
        SRN__UNROLL for (int i = 0; i < n; i++) {
            i32x16 p02 = lanes_madd16(v02, whole_codes(a, i, j, 0));
            i32x16 p13 = lanes_madd16(v13, whole_codes(a, i, j, 1));
            acc[i] = here(lanes_add(acc[i], lanes_add(p02, p13)));
        }
    }
}

#if WIDE(2, 8)
/* dot_wide on codes that are expanded to 16 bits. */
SRN__INLINE void dot_expanded(int n, int q0, int n_quads, const group_codes *w, const acts *a, i32x16 *acc) {
    SRN__UNROLL for (int j = 2 * q0; j < 2 * (q0 + n_quads); j++) {
        i32x16 v = lanes_load(w->at.codes + 64 * j);
        SRN__UNROLL for (int i = 0; i < n; i++) {
            i32x16 p = lanes_madd16(v, whole_codes(a, i, j / 2, j % 2));
            acc[i] = here(lanes_add(acc[i], p));
        }
    }
}
#endif

/* acc[i] += sum over quads q0 to q0+n_quads of w * codes of column i; `bits` is what the codes need. */
SRN__INLINE void dot_quads(int n, int planes, int q0, int n_quads, int bits, const group_codes *w,
                           const acts *a, i32x16 *acc) {
#if WIDE(2, 8)
    if (w->wide) {
        dot_expanded(n, q0, n_quads, w, a, acc);
        return;
    }
#endif
    if (is_wide(planes, bits))
        dot_wide(n, q0, n_quads, w, a, acc);
    else
        dot_narrow(n, q0, n_quads, bits, w, a, acc);
}

/* The sum of column c as a float. */
SRN__INLINE v16 sum_of_planes(const i32x16 *acc, int planes, int c) {
    (void)planes;
    return lanes_float(acc[c]);
}
/* With one plane and codes of up to 6 bits a half's sum of w - zero fits 16 bits: 8 * 32 * 127 = 32512. (On
 * the way there it may not, but wraps.) The product that adds its pairs multiplies by the sub-scale. */
SRN__INLINE void dot_scaled(int n, int half, int zero, const group_codes *w, const acts *a, i32x16 sc,
                            i32x16 *acc) {
    const i32x16 by = lanes_twice16(sc);
#if REGISTERS == 32 /* as in dot_narrow */
    SRN__UNROLL for (int i = 0; i < n; i++) {
        i32x16 part = lanes_times_zero16(lanes_broadcast(act_row(a, ROW_NEG_PAIRS + half, i)), zero);
        SRN__UNROLL for (int j = 4 * half; j < 4 * half + 4; j++) part =
            lanes_add16(part, lanes_madd8(quad(w, j), narrow_codes(a, i, j)));
        part = lanes_madd16(part, by);
        acc[i] = half ? lanes_add(acc[i], part) : part;
    }
#else
    i32x16 part[MAX_TILE];
    SRN__UNROLL for (int i = 0; i < n; i++) part[i] =
        lanes_times_zero16(lanes_broadcast(act_row(a, ROW_NEG_PAIRS + half, i)), zero);
    SRN__UNROLL for (int j = 4 * half; j < 4 * half + 4; j++) {
        i32x16 v = quad(w, j);
        SRN__UNROLL for (int i = 0; i < n; i++) part[i] =
            here(lanes_add16(part[i], lanes_madd8(v, narrow_codes(a, i, j))));
    }
    SRN__UNROLL for (int i = 0; i < n; i++) {
        part[i] = lanes_madd16(part[i], by);
        acc[i] = half ? lanes_add(acc[i], part[i]) : part[i];
    }
#endif
}

SRN__INLINE bool scales_fit(int planes, int bits) {
    return planes == 1 && bits <= 6;
}

/* sum[i] = sc0 * (sum over the first half) + sc1 * (over the second) of w - zero and the codes of column i;
 * where that may not fit 32 bits, its two parts in sum and other. */
SRN__INLINE void dot_halves(int n, int planes, int bits, int zero, const group_codes *w, const acts *a,
                            i32x16 sc0, i32x16 sc1, i32x16 *sum, i32x16 *other) {
    if (scales_fit(planes, bits)) {
        dot_scaled(n, 0, zero, w, a, sc0, sum);
        dot_scaled(n, 1, zero, w, a, sc1, sum);
        return;
    }
    SRN__UNROLL for (int i = 0; i < n; i++) sum[i] = start_value(neg_half(a, i, 0), zero);
    dot_quads(n, planes, 0, 4, bits, w, a, sum);
    SRN__UNROLL for (int i = 0; i < n; i++) sum[i] = lanes_mul(sum[i], sc0);
    SRN__UNROLL for (int i = 0; i < n; i++) other[i] = start_value(neg_half(a, i, 1), zero);
    dot_quads(n, planes, 4, 4, bits, w, a, other);
    SRN__UNROLL for (int i = 0; i < n; i++) {
        other[i] = lanes_mul(other[i], sc1);
        if (planes == 1) sum[i] = lanes_add(sum[i], other[i]);
    }
}
SRN__INLINE v16 sum_of_halves(const i32x16 *sum, const i32x16 *other, int planes, int c) {
    return planes == 1 ? lanes_float(sum[c]) : lanes_long_sum(sum[c], other[c]);
}
/* The sum of the column's codes over half h. */
SRN__INLINE i32x16 half_sum(const acts *a, int c, int h) {
    return lanes_set1(-*neg_half(a, c, h));
}

#endif
