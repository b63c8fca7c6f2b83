/* The integer products with VNNI: vpdpbusd on planes of bytes. Of a column with two planes the sum of the
 * upper one's products is shifted to its place before the lower one's are added: the exact sum of a group,
 * with whole codes below 2^15, fits a lane.
 */
#ifndef SRN_CPU_X86_DOT_VNNI_H
#define SRN_CPU_X86_DOT_VNNI_H

#include "cpu/simd/unpack.h"
#include "cpu/x86/act_part.h"

#define SRN__LARGE_CODES (1 << 19)

typedef struct act_codes {
    int8_t c[2][SRN_GROUP]; /* of each plane; of one plane only the second is kept */
    float d;
    int32_t neg_sum;
    float s;
    int32_t neg_half[2];
    int32_t large; /* the sum of |t| is SRN__LARGE_CODES or more; with two planes only */
} act_codes;

enum { ROW_D, ROW_NEG_SUM, ROW_S, ROW_NEG_HALF, ROW_LARGE = ROW_NEG_HALF + 2, MAX_PARTS = 1 };

/* Codes and fields. */
SRN__INLINE act_part act_part_of(uint32_t planes, int bits) {
    (void)bits;
    return planes == 2
               ? (act_part){.rows = 2 * SRN__QUADS + ROW_LARGE + 1, .fields = 2 * SRN__QUADS}
               : (act_part){.first = SRN__QUADS, .rows = SRN__QUADS + ROW_LARGE, .fields = SRN__QUADS};
}
SRN__INLINE uint32_t act_parts(uint32_t planes) {
    (void)planes;
    return MAX_PARTS;
}
SRN__INLINE act_part act_part_at(uint32_t planes, uint32_t i) {
    (void)i;
    return act_part_of(planes, 0);
}

#include "cpu/x86/act_tiles.h"

/* The codes of one quad of a plane, in every lane. */
SRN__INLINE i32x16 act_quad(const acts *a, int c, int plane, int quad) {
    return lanes_set1(a->at[(plane * SRN__QUADS + quad) * (int)a->columns + c]);
}

/* acc[i] += sum over quads q0 to q0+n_quads of w * codes of plane p of column i. With few columns each has
 * several chains, for one alone would wait for every product. */
SRN__INLINE void dot_plane(int n, int p, int q0, int n_quads, const group_codes *w, const acts *a,
                           i32x16 *acc) {
    const int chains = n == 1 ? n_quads / 2 : n == 2 ? 2 : 1;
    i32x16 more[4 * 2];
    SRN__UNROLL for (int j = 0; j < n_quads; j++) {
        SRN__UNROLL for (int i = 0; i < n; i++) {
            i32x16 c = act_quad(a, i, p, q0 + j), *sum = j % chains ? &more[j % chains * n + i] : &acc[i];
            i32x16 start = j && j < chains ? lanes_set1(0) : *sum;
            *sum = _mm512_dpbusd_epi32(start, quad(w, q0 + j), c);
        }
    }
    SRN__UNROLL for (int i = 0; i < n; i++) {
        SRN__UNROLL for (int k = 1; k < chains; k++) acc[i] = lanes_add(acc[i], more[k * n + i]);
    }
}

/* acc[i] += sum over quads q0 to q0+n_quads of w * whole codes of column i. With many columns a sum's
 * register serves both planes, one after the other; with few the planes' sums are chains of their own. */
SRN__INLINE void dot_quads(int n, int planes, int q0, int n_quads, int bits, const group_codes *w,
                           const acts *a, i32x16 *acc) {
    (void)bits;
    if (planes == 1) {
        dot_plane(n, 0, q0, n_quads, w, a, acc);
        return;
    }
    i32x16 upper[MAX_TILE];
    SRN__UNROLL for (int i = 0; i < n; i++) upper[i] = lanes_set1(0);
    dot_plane(n, 0, q0, n_quads, w, a, upper);
    if (n <= 4) dot_plane(n, 1, q0, n_quads, w, a, acc);
    SRN__UNROLL for (int i = 0; i < n; i++) acc[i] = lanes_add(acc[i], _mm512_slli_epi32(upper[i], 8));
    if (n > 4) dot_plane(n, 1, q0, n_quads, w, a, acc);
}

/* The sum of column c as a float. */
SRN__INLINE v16 sum_of_planes(const i32x16 *acc, int planes, int c) {
    (void)planes;
    return lanes_float(acc[c]);
}

/* Whether sc0*I0 + sc1*I1 of any column may need more than 32 bits. With two planes and weights and
 * sub-scales of up to 2^5 and 2^7 (Q6_K; of other types they are smaller) it is at most 2^12 * the codes'
 * magnitudes. */
SRN__INLINE bool any_long(int n, int planes, int bits, const acts *a) {
    if (planes == 1 || bits != 6) return false;
    int32_t large = 0;
    SRN__UNROLL for (int i = 0; i < n; i++) large |= *act_row(a, ROW_LARGE, i);
    return large;
}
/* f(a + b), rounded once; |a| and |b| are at most 2^31 - 2^16, so that both parts are exact. */
SRN__INLINE v16 long_sum(i32x16 a, i32x16 b) {
    i32x16 upper = lanes_add(_mm512_srai_epi32(a, 8), _mm512_srai_epi32(b, 8));
    i32x16 lower = _mm512_sub_epi32(lanes_add(a, b), _mm512_slli_epi32(upper, 8));
    return v16_fma(v16_set1(256.0f), lanes_float(upper), lanes_float(lower));
}
/* sum[i] = the bits of f(sc0 * (sum over the first half) + sc1 * (over the second)) of w - zero and the codes
 * of column i. */
SRN__INLINE void dot_halves(int n, int planes, int bits, int zero, const group_codes *w, const acts *a,
                            i32x16 sc0, i32x16 sc1, i32x16 *sum, i32x16 *other) {
    SRN__UNROLL for (int i = 0; i < n; i++) sum[i] = start_value(neg_half(a, i, 0), zero);
    dot_quads(n, planes, 0, 4, bits, w, a, sum);
    SRN__UNROLL for (int i = 0; i < n; i++) sum[i] = lanes_mul(sum[i], sc0);
    SRN__UNROLL for (int i = 0; i < n; i++) other[i] = start_value(neg_half(a, i, 1), zero);
    dot_quads(n, planes, 4, 4, bits, w, a, other);
    SRN__UNROLL for (int i = 0; i < n; i++) other[i] = lanes_mul(other[i], sc1);
    if (any_long(n, planes, bits, a)) {
        SRN__UNROLL for (int i = 0; i < n; i++) sum[i] = _mm512_castps_si512(long_sum(sum[i], other[i]));
    } else {
        SRN__UNROLL for (int i = 0; i < n; i++) sum[i] =
            _mm512_castps_si512(lanes_float(lanes_add(sum[i], other[i])));
    }
}
SRN__INLINE v16 sum_of_halves(const i32x16 *sum, const i32x16 *other, int planes, int c) {
    (void)other, (void)planes;
    return _mm512_castsi512_ps(sum[c]);
}
/* The sum of the column's whole codes over half h. */
SRN__INLINE i32x16 half_sum(const acts *a, int c, int h) {
    return lanes_set1(-*neg_half(a, c, h));
}

#endif
