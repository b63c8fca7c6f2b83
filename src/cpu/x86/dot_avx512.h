/* AVX-512: the integer products, with VNNI (SRN__VNNI is 1) or without. */
#ifndef SRN_CPU_X86_DOT_AVX512_H
#define SRN_CPU_X86_DOT_AVX512_H

#include "cpu/x86/unpack_avx512.h"

SRN__INLINE __m512i broadcast4(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

#if SRN__VNNI

/* acc[i] += sum over n_quads of w[j] . codes of column i, whose first quad is at code[i] + offset. */
SRN__INLINE void dot_quads(int n, int n_quads, int bits, const __m512i *w, const int8_t *const *code,
                           int offset, __m512i *acc) {
    (void)bits;
    SRN__UNROLL for (int j = 0; j < n_quads; j++) {
        SRN__UNROLL for (int i = 0; i < n; i++) acc[i] =
            _mm512_dpbusd_epi32(acc[i], w[j], broadcast4(code[i] + offset + 4 * j));
    }
}

#else

/* Sums of two products of codes fit 16 bits this many deep: 2*128*(2^bits - 1)*depth <= 32767. */
SRN__INLINE int depth_of(int bits) {
    return bits == 4 ? 8 : bits == 5 ? 4 : 2;
}

SRN__INLINE void dot_quads(int n, int n_quads, int bits, const __m512i *w, const int8_t *const *code,
                           int offset, __m512i *acc) {
    const __m512i ones = _mm512_set1_epi16(1);
    if (bits == 8) {
        /* an unsigned byte of 8 bits would saturate: its low 7 bits and its top bit are multiplied apart */
        const __m512i low = _mm512_set1_epi8(127);
        SRN__UNROLL for (int j = 0; j < n_quads; j++) {
            __m512i w_low = _mm512_and_si512(w[j], low), w_top = _mm512_andnot_si512(low, w[j]);
            SRN__UNROLL for (int i = 0; i < n; i++) {
                __m512i c = broadcast4(code[i] + offset + 4 * j);
                __m512i a = _mm512_madd_epi16(_mm512_maddubs_epi16(w_low, c), ones);
                __m512i b = _mm512_madd_epi16(_mm512_maddubs_epi16(w_top, c), ones);
                acc[i] = _mm512_add_epi32(acc[i], _mm512_add_epi32(a, b));
            }
        }
        return;
    }
    const int depth = depth_of(bits) < n_quads ? depth_of(bits) : n_quads;
    SRN__UNROLL for (int j0 = 0; j0 < n_quads; j0 += depth) {
        SRN__UNROLL for (int i = 0; i < n; i++) {
            const int8_t *c = code[i] + offset + 4 * j0;
            __m512i sum = _mm512_maddubs_epi16(w[j0], broadcast4(c));
            SRN__UNROLL for (int j = 1; j < depth; j++) sum =
                _mm512_add_epi16(sum, _mm512_maddubs_epi16(w[j0 + j], broadcast4(c + 4 * j)));
            acc[i] = _mm512_add_epi32(acc[i], _mm512_madd_epi16(sum, ones));
        }
    }
}

#endif
#endif
