/* The tiles of both AVX-512 levels; see cpu/simd/gemm.h. */
#ifndef SRN_CPU_X86_TILES_AVX512_H
#define SRN_CPU_X86_TILES_AVX512_H

#include "cpu/simd/tiles.h"

#define MAX_TILE       8
#define WIDEST(planes) MAX_TILE
#define FUSED_COLUMNS  64
#define FETCH_COLUMNS  4
#define REGISTERS      32

#define WIDE(planes, bits) 0

#define TILES(KERNEL, ...)                                                                                   \
    TILES_TO_4(KERNEL, 1, __VA_ARGS__)                                                                       \
    KERNEL(__VA_ARGS__, 6, 1)                                                                                \
    KERNEL(__VA_ARGS__, 8, 1)                                                                                \
    TILES_TO_4(KERNEL, 2, __VA_ARGS__) KERNEL(__VA_ARGS__, 6, 2) KERNEL(__VA_ARGS__, 8, 2)
#define TILE_TABLE(name)                                                                                     \
    {                                                                                                        \
        {TILE_NAMES_4(name, 1), name##_6x1, name##_6x1, name##_8x1, name##_8x1}, {                           \
            TILE_NAMES_4(name, 2), name##_6x2, name##_6x2, name##_8x2, name##_8x2                            \
        }                                                                                                    \
    }

#endif
