/* The tiles of AVX2; see cpu/simd/gemm.h. */
#ifndef SRN_CPU_X86_TILES_AVX2_H
#define SRN_CPU_X86_TILES_AVX2_H

#include "cpu/simd/tiles.h"

#define MAX_TILE       3
#define WIDEST(planes) MAX_TILE
#define FUSED_COLUMNS  12
#define FETCH_COLUMNS  3
#define REGISTERS      16

#define WIDE(planes, bits) ((planes) == 2 || (bits) == 8)

#define TILES(KERNEL, ...) TILES_TO_3(KERNEL, 1, __VA_ARGS__) TILES_TO_3(KERNEL, 2, __VA_ARGS__)
#define TILE_TABLE(name)                                                                                     \
    {                                                                                                        \
        {TILE_NAMES_3(name, 1)}, {                                                                           \
            TILE_NAMES_3(name, 2)                                                                            \
        }                                                                                                    \
    }

#endif
