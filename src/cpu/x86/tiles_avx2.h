/* The tiles of AVX2; see cpu/simd/gemm.h. */
#ifndef SRN_CPU_X86_TILES_AVX2_H
#define SRN_CPU_X86_TILES_AVX2_H

#define MAX_TILE       3
#define WIDEST(planes) MAX_TILE
#define FUSED_COLUMNS  12
#define FETCH_COLUMNS  3
#define REGISTERS      16

#define TILES(KERNEL, ...)                                                                                   \
    KERNEL(__VA_ARGS__, 1, 1)                                                                                \
    KERNEL(__VA_ARGS__, 2, 1)                                                                                \
    KERNEL(__VA_ARGS__, 3, 1)                                                                                \
    KERNEL(__VA_ARGS__, 1, 2)                                                                                \
    KERNEL(__VA_ARGS__, 2, 2)                                                                                \
    KERNEL(__VA_ARGS__, 3, 2)
#define TILE_TABLE(name)                                                                                     \
    {                                                                                                        \
        {name##_1x1, name##_2x1, name##_3x1}, {                                                              \
            name##_1x2, name##_2x2, name##_3x2                                                               \
        }                                                                                                    \
    }

#endif
