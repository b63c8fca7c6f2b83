/* The probe's arithmetic with AVX-512; reading is AVX2's. */
#include "cpu/probe_internal.h"

#include <immintrin.h>

/* As with AVX2. */
static uint64_t int8_maddubs(uint32_t rounds) {
    enum { CHAINS = 6, DEPTH = 8 };
    __m512i acc[CHAINS], w = _mm512_set1_epi8(3), c = _mm512_set1_epi8(5), ones = _mm512_set1_epi16(1);
    for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_setzero_si512();
    for (uint32_t r = 0; r < rounds; r++) {
        _Pragma("GCC unroll 6") for (int i = 0; i < CHAINS; i++) {
            __m512i sum = _mm512_maddubs_epi16(w, c);
            _Pragma("GCC unroll 8") for (int d = 1; d < DEPTH; d++) {
                __asm__ volatile("" : "+v"(w), "+v"(sum));
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
    l->int8 = int8_maddubs;
    l->f32 = f32_fma;
}
