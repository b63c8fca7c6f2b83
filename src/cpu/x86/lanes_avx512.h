/* The lanes of cpu/simd/lanes.h with AVX-512: one register. See lanes_x86.h. */
#ifndef SRN_CPU_X86_LANES_AVX512_H
#define SRN_CPU_X86_LANES_AVX512_H

typedef __m512i i32x16;

/* f(a + b), rounded once: the sum needs 33 bits. */
SRN__INLINE v16 lanes_long_sum(i32x16 a, i32x16 b) {
    __m512d low = _mm512_add_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(a)),
                                _mm512_cvtepi32_pd(_mm512_castsi512_si256(b)));
    __m512d high = _mm512_add_pd(_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(a, 1)),
                                 _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(b, 1)));
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}
/* Keeps the compiler from forming all products of a tile first and spilling them. */
SRN__INLINE i32x16 here(i32x16 a) {
    __asm__("" : "+v"(a));
    return a;
}

#endif
