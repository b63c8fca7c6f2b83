/* The lanes of cpu/simd/lanes.h with AVX-512 or AVX2, and what is the same with both. */
#ifndef SRN_CPU_X86_LANES_X86_H
#define SRN_CPU_X86_LANES_X86_H

#if defined(__AVX512F__)
#include "cpu/x86/lanes_avx512.h"
#else
#include "cpu/x86/lanes_avx2.h"
#endif

#define LANES_SET1        MM(set1_epi32)
#define LANES_LOAD(p)     MM_INT(loadu)((const void *)(p))
#define LANES_STORE(p, a) MM_INT(storeu)((void *)(p), a)
#define LANES_FLOAT       MM(cvtepi32_ps)
#define LANES_ADD         MM(add_epi32)
#define LANES_MUL         MM(mullo_epi32)

SRN__INLINE i32x16 lanes_and(i32x16 a, i32x16 b) {
    return EACH_2(i32x16, MM_INT(and), a, b);
}
/* Of 16-bit elements. */
SRN__INLINE i32x16 lanes_add16(i32x16 a, i32x16 b) {
    return EACH_2(i32x16, MM(add_epi16), a, b);
}
/* u8 times s8, neighbours added, saturated to 16 bits; s16 times s16, neighbours added. */
SRN__INLINE i32x16 lanes_madd8(i32x16 a, i32x16 b) {
    return EACH_2(i32x16, MM(maddubs_epi16), a, b);
}
SRN__INLINE i32x16 lanes_madd16(i32x16 a, i32x16 b) {
    return EACH_2(i32x16, MM(madd_epi16), a, b);
}
/* The upper byte of each 16-bit element. */
SRN__INLINE i32x16 lanes_upper_bytes(i32x16 a) {
#define UPPER_BYTES(v) MM(srli_epi16)(v, 8)
    return EACH_1(i32x16, UPPER_BYTES, a);
#undef UPPER_BYTES
}
/* a * zero, for the zeros that types have. */
SRN__INLINE i32x16 lanes_times_zero(i32x16 a, int zero) {
#define TIMES_4(v)   MM(slli_epi32)(v, 2)
#define TIMES_8(v)   MM(slli_epi32)(v, 3)
#define TIMES_16(v)  MM(slli_epi32)(v, 4)
#define TIMES_32(v)  MM(slli_epi32)(v, 5)
#define TIMES_64(v)  MM(slli_epi32)(v, 6)
#define TIMES_128(v) MM(slli_epi32)(v, 7)
    switch (zero) {
    case 0:
        return EACH_SAME(i32x16, LANES_SET1(0));
    case 1:
        return a;
    case 4:
        return EACH_1(i32x16, TIMES_4, a);
    case 8:
        return EACH_1(i32x16, TIMES_8, a);
    case 16:
        return EACH_1(i32x16, TIMES_16, a);
    case 32:
        return EACH_1(i32x16, TIMES_32, a);
    case 64:
        return EACH_1(i32x16, TIMES_64, a);
    default:
        return EACH_1(i32x16, TIMES_128, a);
    }
}
/* The same of 16-bit elements, for the zeros of forms with two sub-scales. */
SRN__INLINE i32x16 lanes_times_zero16(i32x16 a, int zero) {
#define TIMES_4_16(v)  MM(slli_epi16)(v, 2)
#define TIMES_16_16(v) MM(slli_epi16)(v, 4)
#define TIMES_32_16(v) MM(slli_epi16)(v, 5)
    switch (zero) {
    case 0:
        return EACH_SAME(i32x16, LANES_SET1(0));
    case 4:
        return EACH_1(i32x16, TIMES_4_16, a);
    case 16:
        return EACH_1(i32x16, TIMES_16_16, a);
    default:
        return EACH_1(i32x16, TIMES_32_16, a);
    }
}
/* The lower 16 bits of each lane twice. */
SRN__INLINE i32x16 lanes_twice16(i32x16 a) {
    static const uint8_t order[64] __attribute__((aligned(64))) = {
        0,  1,  0,  1,  4, 5, 4,  5,  8,  9,  8, 9, 12, 13, 12, 13, 0,  1,  0,  1, 4, 5,
        4,  5,  8,  9,  8, 9, 12, 13, 12, 13, 0, 1, 0,  1,  4,  5,  4,  5,  8,  9, 8, 9,
        12, 13, 12, 13, 0, 1, 0,  1,  4,  5,  4, 5, 8,  9,  8,  9,  12, 13, 12, 13};
    const i32x16 by = EACH_LOAD(i32x16, LANES_LOAD, (const int32_t *)(const void *)order);
    return EACH_2(i32x16, MM(shuffle_epi8), a, by);
}

#endif
