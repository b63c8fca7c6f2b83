/* The lanes of cpu/simd/lanes.h with AVX-512 or AVX2, and what is the same with both. */
#ifndef SRN_CPU_X86_LANES_X86_H
#define SRN_CPU_X86_LANES_X86_H

#if defined(__AVX512F__)
#include "cpu/x86/lanes_avx512.h"
#else
#include "cpu/x86/lanes_avx2.h"
#endif

SRN__INLINE i32x16 lanes_add(i32x16 a, i32x16 b) {
    return LANES_2(LANES(add_epi32), a, b);
}
SRN__INLINE i32x16 lanes_mul(i32x16 a, i32x16 b) {
    return LANES_2(LANES(mullo_epi32), a, b);
}
/* Of 16-bit elements. */
SRN__INLINE i32x16 lanes_add16(i32x16 a, i32x16 b) {
    return LANES_2(LANES(add_epi16), a, b);
}
/* u8 times s8, neighbours added, saturated to 16 bits; s16 times s16, neighbours added. */
SRN__INLINE i32x16 lanes_madd8(i32x16 a, i32x16 b) {
    return LANES_2(LANES(maddubs_epi16), a, b);
}
SRN__INLINE i32x16 lanes_madd16(i32x16 a, i32x16 b) {
    return LANES_2(LANES(madd_epi16), a, b);
}
/* The upper byte of each 16-bit element. */
SRN__INLINE i32x16 lanes_upper_bytes(i32x16 a) {
#define UPPER_BYTES(v) LANES(srli_epi16)(v, 8)
    return LANES_1(UPPER_BYTES, a);
#undef UPPER_BYTES
}
/* a * zero, for the zeros that types have. */
SRN__INLINE i32x16 lanes_times_zero(i32x16 a, int zero) {
#define TIMES_4(v)   LANES(slli_epi32)(v, 2)
#define TIMES_8(v)   LANES(slli_epi32)(v, 3)
#define TIMES_16(v)  LANES(slli_epi32)(v, 4)
#define TIMES_32(v)  LANES(slli_epi32)(v, 5)
#define TIMES_64(v)  LANES(slli_epi32)(v, 6)
#define TIMES_128(v) LANES(slli_epi32)(v, 7)
    switch (zero) {
    case 0:
        return lanes_set1(0);
    case 1:
        return a;
    case 4:
        return LANES_1(TIMES_4, a);
    case 8:
        return LANES_1(TIMES_8, a);
    case 16:
        return LANES_1(TIMES_16, a);
    case 32:
        return LANES_1(TIMES_32, a);
    case 64:
        return LANES_1(TIMES_64, a);
    default:
        return LANES_1(TIMES_128, a);
    }
}

/* The same of 16-bit elements, for the zeros of forms with two sub-scales. */
SRN__INLINE i32x16 lanes_times_zero16(i32x16 a, int zero) {
#define TIMES_4_16(v)  LANES(slli_epi16)(v, 2)
#define TIMES_16_16(v) LANES(slli_epi16)(v, 4)
#define TIMES_32_16(v) LANES(slli_epi16)(v, 5)
    switch (zero) {
    case 0:
        return lanes_set1(0);
    case 4:
        return LANES_1(TIMES_4_16, a);
    case 16:
        return LANES_1(TIMES_16_16, a);
    default:
        return LANES_1(TIMES_32_16, a);
    }
}
/* The lower 16 bits of each lane twice. */
SRN__INLINE i32x16 lanes_twice16(i32x16 a) {
    static const uint8_t order[64] __attribute__((aligned(64))) = {
        0,  1,  0,  1,  4, 5, 4,  5,  8,  9,  8, 9, 12, 13, 12, 13, 0,  1,  0,  1, 4, 5,
        4,  5,  8,  9,  8, 9, 12, 13, 12, 13, 0, 1, 0,  1,  4,  5,  4,  5,  8,  9, 8, 9,
        12, 13, 12, 13, 0, 1, 0,  1,  4,  5,  4, 5, 8,  9,  8,  9,  12, 13, 12, 13};
    const i32x16 by = lanes_load(order);
    return LANES_2(LANES(shuffle_epi8), a, by);
}

#endif
