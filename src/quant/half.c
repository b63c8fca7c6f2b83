/* IEEE binary16 and bfloat16 to and from binary32, in integer operations, so that no CPU instruction or
 * floating-point mode changes a bit. Any thread.
 */
#include "quant/quant.h"

static float float_of(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

float srn_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exp = (h >> 10) & 0x1Fu, man = h & 0x3FFu;
    if (exp == 31) return float_of(sign | 0x7F800000u | (man << 13) | (man ? 0x400000u : 0));
    if (exp == 0) {
        if (man == 0) return float_of(sign);
        /* subnormal: shift the leading one to bit 10; each step halves the exponent's weight */
        unsigned shift = (unsigned)__builtin_clz(man) - 21;
        man = (man << shift) & 0x3FFu;
        exp = 1 - shift;
    }
    return float_of(sign | ((exp + 112) << 23) | (man << 13));
}

uint16_t srn_f32_to_f16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    uint32_t sign = (u >> 16) & 0x8000u, mag = u & 0x7FFFFFFFu;
    if (mag > 0x7F800000u) return (uint16_t)(sign | 0x7E00u | ((mag >> 13) & 0x3FFu));
    if (mag >= 0x477FF000u) return (uint16_t)(sign | 0x7C00u); /* 65520 and more round to infinity */
    if (mag >= 0x38800000u) {                                  /* normal: 2^-14 and more */
        uint32_t odd = (mag >> 13) & 1;
        return (uint16_t)(sign | ((mag - 0x38000000u + 0xFFFu + odd) >> 13));
    }
    if (mag <= 0x33000000u) return (uint16_t)sign; /* 2^-25, a tie with zero, and less */
    /* subnormal: the 24-bit significand in units of 2^-24 */
    uint32_t man = (mag & 0x7FFFFFu) | 0x800000u, shift = 126 - (mag >> 23);
    uint32_t half = 1u << (shift - 1), odd = (man >> shift) & 1;
    return (uint16_t)(sign | ((man + half - 1 + odd) >> shift));
}

uint16_t srn_f32_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(u >> 16 | 0x40u); /* quiet */
    return (uint16_t)((u + 0x7FFFu + (u >> 16 & 1)) >> 16);
}
