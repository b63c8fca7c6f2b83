/* The probe's loops in plain C: what any CPU can run, at the speed that its compiler makes of them. */
#include "cpu/probe_internal.h"

#include <math.h>

static uint64_t read_words(const void *p, size_t n) {
    const uint64_t *w = p;
    uint64_t x = 0;
    for (size_t i = 0; i < n / sizeof *w; i++) x ^= w[i];
    return x;
}

enum { CODES = 1024 };

static uint64_t int8_dots(uint32_t rounds) {
    uint8_t w[CODES];
    int8_t x[CODES];
    int32_t sum = 0;
    for (int i = 0; i < CODES; i++) w[i] = (uint8_t)i, x[i] = (int8_t)(i % 7);
    for (uint32_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : : "r"(w), "r"(x) : "memory");
        for (int i = 0; i < CODES; i++) sum += w[i] * x[i];
    }
    __asm__ volatile("" : : "r"(sum));
    return (uint64_t)CODES * rounds;
}

static uint64_t f32_chains(uint32_t rounds) {
    enum { CHAINS = 8 };
    float acc[CHAINS] = {0}, a = 0.5f;
    for (uint32_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : : "r"(&a) : "memory");
        for (int i = 0; i < CHAINS; i++) acc[i] = fmaf(acc[i], a, 1.0f);
    }
    __asm__ volatile("" : : "r"(acc) : "memory");
    return (uint64_t)CHAINS * rounds;
}

void srn__probe_ref(srn_probe_loops *l) {
    *l = (srn_probe_loops){read_words, int8_dots, f32_chains};
}
