/* The tiles of the arm64 levels; see cpu/simd/gemm.h. 32 registers of 16 bytes hold the sums of four
 * columns and what they are made of. */
#ifndef SRN_CPU_ARM_TILES_NEON_H
#define SRN_CPU_ARM_TILES_NEON_H

#include "cpu/simd/tiles.h"

#define MAX_TILE       4
#define WIDEST(planes) (MAX_TILE / (planes))
#define FUSED_COLUMNS  8
#define FETCH_COLUMNS  3
#define REGISTERS      16 /* of 32 bytes, as AVX2 has */

#define WIDE(planes, bits) 0

#define TILES(KERNEL, ...) TILES_TO_4(KERNEL, 1, __VA_ARGS__) TILES_TO_2(KERNEL, 2, __VA_ARGS__)
#define TILE_TABLE(name)                                                                                     \
    {                                                                                                        \
        {TILE_NAMES_4(name, 1)}, {                                                                           \
            TILE_NAMES_2(name, 2)                                                                            \
        }                                                                                                    \
    }

#endif
