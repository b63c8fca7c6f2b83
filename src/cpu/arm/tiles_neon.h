/* The tiles of the arm64 levels; see cpu/simd/gemm.h. 32 registers of 16 bytes hold the sums of four
 * columns and what they are made of. */
#ifndef SRN_CPU_ARM_TILES_NEON_H
#define SRN_CPU_ARM_TILES_NEON_H

#define MAX_TILE       4
#define WIDEST(planes) (MAX_TILE / (planes))
#define FUSED_COLUMNS  8
#define FETCH_COLUMNS  3
#define REGISTERS      16 /* of 32 bytes, as AVX2 has */

#define TILES(KERNEL, ...)                                                                                   \
    KERNEL(__VA_ARGS__, 1, 1)                                                                                \
    KERNEL(__VA_ARGS__, 2, 1)                                                                                \
    KERNEL(__VA_ARGS__, 3, 1)                                                                                \
    KERNEL(__VA_ARGS__, 4, 1)                                                                                \
    KERNEL(__VA_ARGS__, 1, 2)                                                                                \
    KERNEL(__VA_ARGS__, 2, 2)
#define TILE_TABLE(name)                                                                                     \
    {                                                                                                        \
        {name##_1x1, name##_2x1, name##_3x1, name##_4x1}, {                                                  \
            name##_1x2, name##_2x2                                                                           \
        }                                                                                                    \
    }

#endif
