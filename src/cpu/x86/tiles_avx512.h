/* The tiles of both AVX-512 levels; see cpu/simd/gemm.h. */
#ifndef SRN_CPU_X86_TILES_AVX512_H
#define SRN_CPU_X86_TILES_AVX512_H

#define MAX_TILE       8
#define WIDEST(planes) (MAX_TILE / (planes))
#define FUSED_COLUMNS  64
#define FETCH_COLUMNS  4
#define REGISTERS      32

#define TILES(KERNEL, ...)                                                                                   \
    KERNEL(__VA_ARGS__, 1, 1)                                                                                \
    KERNEL(__VA_ARGS__, 2, 1)                                                                                \
    KERNEL(__VA_ARGS__, 3, 1)                                                                                \
    KERNEL(__VA_ARGS__, 4, 1)                                                                                \
    KERNEL(__VA_ARGS__, 6, 1)                                                                                \
    KERNEL(__VA_ARGS__, 8, 1)                                                                                \
    KERNEL(__VA_ARGS__, 1, 2)                                                                                \
    KERNEL(__VA_ARGS__, 2, 2)                                                                                \
    KERNEL(__VA_ARGS__, 3, 2)                                                                                \
    KERNEL(__VA_ARGS__, 4, 2)
#define TILE_TABLE(name)                                                                                     \
    {                                                                                                        \
        {name##_1x1, name##_2x1, name##_3x1, name##_4x1, name##_6x1, name##_6x1, name##_8x1, name##_8x1}, {  \
            name##_1x2, name##_2x2, name##_3x2, name##_4x2                                                   \
        }                                                                                                    \
    }

#endif
