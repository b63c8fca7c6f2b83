/* The probe's dot products with AVX-512 VNNI; the other loops are AVX-512's. */
#include "cpu/probe_internal.h"

#include <immintrin.h>

static uint64_t int8_dpbusd(uint32_t rounds) {
    enum { CHAINS = 12 };
    __m512i acc[CHAINS], w = _mm512_set1_epi8(3), c = _mm512_set1_epi8(5);
    for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_setzero_si512();
    for (uint32_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : "+v"(w));
        _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_dpbusd_epi32(acc[i], w, c);
    }
    for (int i = 1; i < CHAINS; i++) acc[0] = _mm512_xor_si512(acc[0], acc[i]);
    __asm__ volatile("" : : "v"(acc[0]));
    return (uint64_t)64 * CHAINS * rounds;
}

void srn__probe_avx512vnni(srn_probe_loops *l) {
    l->int8 = int8_dpbusd;
}
