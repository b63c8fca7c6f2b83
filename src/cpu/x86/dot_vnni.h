/* The integer products with VNNI: vpdpbusd on planes of bytes. */
#ifndef SRN_CPU_X86_DOT_VNNI_H
#define SRN_CPU_X86_DOT_VNNI_H

#include "cpu/simd/planes.h"

/* With few columns each has several chains, for one alone would wait for every product. */
SRN__INLINE void dot_quads(int n, int planes, int q0, int n_quads, int bits, const group_codes *w,
                           const act_group *const *a, i32x16 *acc) {
    (void)bits, (void)planes;
    const int chains = n == 1 ? n_quads / 2 : n == 2 ? 2 : 1;
    i32x16 more[4 * 2];
    SRN__UNROLL for (int j = 0; j < n_quads; j++) {
        SRN__UNROLL for (int i = 0; i < n; i++) {
            i32x16 c = lanes_broadcast(a[i]->c + 4 * (q0 + j)),
                   *sum = j % chains ? &more[j % chains * n + i] : &acc[i];
            i32x16 start = j && j < chains ? lanes_set1(0) : *sum;
            *sum = _mm512_dpbusd_epi32(start, quad(w, q0 + j), c);
        }
    }
    SRN__UNROLL for (int i = 0; i < n; i++) {
        SRN__UNROLL for (int k = 1; k < chains; k++) acc[i] = lanes_add(acc[i], more[k * n + i]);
    }
}

#endif
