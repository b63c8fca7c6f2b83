/* The probe's loops with AVX-512. */
#include "cpu/probe_internal.h"

#include <immintrin.h>

static uint64_t read_zmm(const void *p, size_t n) {
    const __m512i *w = p;
    __m512i x[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                    _mm512_setzero_si512()};
    for (size_t i = 0; i < n / sizeof *w; i += 8) {
        _Pragma("GCC unroll 8") for (size_t j = 0; j < 8; j++) x[j % 4] =
            _mm512_xor_si512(x[j % 4], _mm512_load_si512(w + i + j));
    }
    x[0] = _mm512_xor_si512(_mm512_xor_si512(x[0], x[1]), _mm512_xor_si512(x[2], x[3]));
    return (uint64_t)_mm512_reduce_add_epi64(x[0]);
}

/* Products of bytes, added to sums of 16 bits eight deep, which are then widened. */
static uint64_t int8_maddubs(uint32_t rounds) {
    enum { CHAINS = 6, DEPTH = 8 };
    __m512i acc[CHAINS], w = _mm512_set1_epi8(3), c = _mm512_set1_epi8(5), ones = _mm512_set1_epi16(1);
    for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_setzero_si512();
    for (uint32_t r = 0; r < rounds; r++) {
        _Pragma("GCC unroll 6") for (int i = 0; i < CHAINS; i++) {
            __m512i sum = _mm512_setzero_si512();
            _Pragma("GCC unroll 8") for (int d = 0; d < DEPTH; d++) {
                __asm__ volatile("" : "+v"(w)); /* so that no product is used twice */
                sum = _mm512_add_epi16(sum, _mm512_maddubs_epi16(w, c));
            }
            acc[i] = _mm512_add_epi32(acc[i], _mm512_madd_epi16(sum, ones));
        }
    }
    for (int i = 1; i < CHAINS; i++) acc[0] = _mm512_xor_si512(acc[0], acc[i]);
    __asm__ volatile("" : : "v"(acc[0]));
    return (uint64_t)64 * CHAINS * DEPTH * rounds;
}

static uint64_t f32_fma(uint32_t rounds) {
    enum { CHAINS = 12 };
    __m512 acc[CHAINS], a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(1.0f);
    for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_setzero_ps();
    for (uint32_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : "+v"(a));
        _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_fmadd_ps(acc[i], a, b);
    }
    for (int i = 1; i < CHAINS; i++) acc[0] = _mm512_add_ps(acc[0], acc[i]);
    __asm__ volatile("" : : "v"(acc[0]));
    return (uint64_t)16 * CHAINS * rounds;
}

void srn__probe_avx512(srn_probe_loops *l) {
    *l = (srn_probe_loops){read_zmm, int8_maddubs, f32_fma};
}
