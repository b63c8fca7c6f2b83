/* The probe's loops with AVX2 and FMA. */
#include "cpu/probe_internal.h"

#include <immintrin.h>

/* In order of address: processors that fetch ahead lose up to half of their speed where a compiler, given a
 * choice, reads the lines of an iteration in another order, or where it reads several streams a few pages
 * apart. For that reason also no wider registers: they were no faster. */
static uint64_t read_ymm(const void *p, size_t n) {
    const __m256i *w = p;
    __m256i x = _mm256_setzero_si256();
    for (size_t i = 0; i < n / sizeof *w; i += 8) {
        _Pragma("GCC unroll 8") for (size_t j = 0; j < 8; j++) {
            x = _mm256_xor_si256(x, _mm256_load_si256(w + i + j));
            __asm__ volatile("" : "+x"(x) : : "memory");
        }
    }
    __m128i h = _mm_xor_si128(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    return (uint64_t)_mm_cvtsi128_si64(h) ^ (uint64_t)_mm_extract_epi64(h, 1);
}

/* Products of bytes, added to sums of 16 bits eight deep, which are then widened. The empty asm statements
 * keep every product, and the additions in this order. */
static uint64_t int8_maddubs(uint32_t rounds) {
    enum { CHAINS = 6, DEPTH = 8 };
    __m256i acc[CHAINS], w = _mm256_set1_epi8(3), c = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
    for (int i = 0; i < CHAINS; i++) acc[i] = _mm256_setzero_si256();
    for (uint32_t r = 0; r < rounds; r++) {
        _Pragma("GCC unroll 6") for (int i = 0; i < CHAINS; i++) {
            __m256i sum = _mm256_maddubs_epi16(w, c);
            _Pragma("GCC unroll 8") for (int d = 1; d < DEPTH; d++) {
                __asm__ volatile("" : "+x"(w), "+x"(sum));
                sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, c));
            }
            acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(sum, ones));
        }
    }
    for (int i = 1; i < CHAINS; i++) acc[0] = _mm256_xor_si256(acc[0], acc[i]);
    __asm__ volatile("" : : "x"(acc[0]));
    return (uint64_t)32 * CHAINS * DEPTH * rounds;
}

static uint64_t f32_fma(uint32_t rounds) {
    enum { CHAINS = 12 };
    __m256 acc[CHAINS], a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(1.0f);
    for (int i = 0; i < CHAINS; i++) acc[i] = _mm256_setzero_ps();
    for (uint32_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : "+x"(a));
        _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) acc[i] = _mm256_fmadd_ps(acc[i], a, b);
    }
    for (int i = 1; i < CHAINS; i++) acc[0] = _mm256_add_ps(acc[0], acc[i]);
    __asm__ volatile("" : : "x"(acc[0]));
    return (uint64_t)8 * CHAINS * rounds;
}

void srn__probe_avx2(srn_probe_loops *l) {
    *l = (srn_probe_loops){read_ymm, int8_maddubs, f32_fma};
}
