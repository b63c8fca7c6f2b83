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

/* A column with two planes is two integer columns. */
typedef srn__act_plane act_group;
SRN__INLINE uint32_t act_groups(uint32_t planes) {
    return planes;
}

/* acc[i] += sum over quads q0 to q0+n_quads of w . codes of integer column i. With few columns each has
 * several chains, for one alone would wait for every product. */
SRN__INLINE void dot_quads(int n, int planes, int q0, int n_quads, int bits, const __m512i *w,
                           const act_group *const *a, __m512i *acc) {
    (void)bits, (void)planes;
    const int chains = n == 1 ? n_quads / 2 : n == 2 ? 2 : 1;
    __m512i more[4 * 2];
    SRN__UNROLL for (int j = 0; j < n_quads; j++) {
        SRN__UNROLL for (int i = 0; i < n; i++) {
            __m512i c = broadcast4(a[i]->c + 4 * (q0 + j)),
                    *sum = j % chains ? &more[j % chains * n + i] : &acc[i];
            __m512i start = j && j < chains ? _mm512_setzero_si512() : *sum;
            *sum = _mm512_dpbusd_epi32(start, w[q0 + j], c);
        }
    }
    SRN__UNROLL for (int i = 0; i < n; i++) {
        SRN__UNROLL for (int k = 1; k < chains; k++) acc[i] = _mm512_add_epi32(acc[i], more[k * n + i]);
    }
}

#else

typedef srn__act_whole act_group;
SRN__INLINE uint32_t act_groups(uint32_t planes) {
    (void)planes;
    return 1;
}

/* Keeps the compiler from forming all products of a tile first and spilling them. */
SRN__INLINE __m512i here(__m512i v) {
    __asm__("" : "+v"(v));
    return v;
}

SRN__INLINE void dot_wide(int n, int q0, int n_quads, const __m512i *w, const act_group *const *a,
                          __m512i *acc) {
    const __m512i even = _mm512_set1_epi16(255);
    SRN__UNROLL for (int j = q0; j < q0 + n_quads; j++) {
        __m512i w02 = _mm512_and_si512(w[j], even), w13 = _mm512_srli_epi16(w[j], 8);
        SRN__UNROLL for (int i = 0; i < n; i++) {
            __m512i p02 = _mm512_madd_epi16(w02, broadcast4(a[i]->t[j][0]));
            __m512i p13 = _mm512_madd_epi16(w13, broadcast4(a[i]->t[j][1]));
            acc[i] = here(_mm512_add_epi32(acc[i], _mm512_add_epi32(p02, p13)));
        }
    }
}

SRN__INLINE void dot_quads(int n, int planes, int q0, int n_quads, int bits, const __m512i *w,
                           const act_group *const *a, __m512i *acc) {
    if (planes == 2 || bits == 8) {
        dot_wide(n, q0, n_quads, w, a, acc);
        return;
    }
    const __m512i ones = _mm512_set1_epi16(1);
    const int depth = SRN_MIN(srn__narrow_depth(bits), n_quads);
    SRN__UNROLL for (int j0 = q0; j0 < q0 + n_quads; j0 += depth) {
        SRN__UNROLL for (int i = 0; i < n; i++) {
            const int8_t *c = a[i]->c + 4 * j0;
            __m512i sum = _mm512_maddubs_epi16(w[j0], broadcast4(c));
            SRN__UNROLL for (int j = 1; j < depth; j++) sum =
                _mm512_add_epi16(sum, _mm512_maddubs_epi16(w[j0 + j], broadcast4(c + 4 * j)));
            acc[i] = _mm512_add_epi32(acc[i], _mm512_madd_epi16(sum, ones));
        }
    }
}

#endif
#endif
