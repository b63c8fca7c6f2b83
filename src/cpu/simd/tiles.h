/* For tiles_*.h: tiles of 1 to so many columns as KERNEL(..., columns, planes), and their names. */
#ifndef SRN_CPU_SIMD_TILES_H
#define SRN_CPU_SIMD_TILES_H

#define TILES_TO_2(KERNEL, planes, ...) KERNEL(__VA_ARGS__, 1, planes) KERNEL(__VA_ARGS__, 2, planes)
#define TILES_TO_3(KERNEL, planes, ...) TILES_TO_2(KERNEL, planes, __VA_ARGS__) KERNEL(__VA_ARGS__, 3, planes)
#define TILES_TO_4(KERNEL, planes, ...) TILES_TO_3(KERNEL, planes, __VA_ARGS__) KERNEL(__VA_ARGS__, 4, planes)

#define TILE_NAMES_2(name, planes) name##_1x##planes, name##_2x##planes
#define TILE_NAMES_3(name, planes) TILE_NAMES_2(name, planes), name##_3x##planes
#define TILE_NAMES_4(name, planes) TILE_NAMES_3(name, planes), name##_4x##planes

#endif
