/* A value of 16 lanes is one register of AVX-512, two of AVX2 or four of NEON: its parts. These macros write
 * an operation on values as the operation on every part; `op` is a function or macro of one register's. Each
 * instruction set defines PARTS, PART_OF(a, i), EACH_PART(type, f, ...), which is the value whose part i is
 * f(i, ...), and FOR_PARTS(f, ...), which does f(i, ...) for each.
 */
#ifndef SRN_CPU_SIMD_PARTS_H
#define SRN_CPU_SIMD_PARTS_H

#define PART_SAME(i, x)         x
#define PART_LOAD(i, op, p)     op((p) + 16 / PARTS * (i))
#define PART_STORE(i, op, p, a) op((p) + 16 / PARTS * (i), PART_OF(a, i))
#define PART_1(i, op, a)        op(PART_OF(a, i))
#define PART_2(i, op, a, b)     op(PART_OF(a, i), PART_OF(b, i))
#define PART_3(i, op, a, b, c)  op(PART_OF(a, i), PART_OF(b, i), PART_OF(c, i))

#define EACH_SAME(type, x)        EACH_PART(type, PART_SAME, x)
#define EACH_LOAD(type, op, p)    EACH_PART(type, PART_LOAD, op, p)
#define EACH_STORE(op, p, a)      FOR_PARTS(PART_STORE, op, p, a)
#define EACH_1(type, op, a)       EACH_PART(type, PART_1, op, a)
#define EACH_2(type, op, a, b)    EACH_PART(type, PART_2, op, a, b)
#define EACH_3(type, op, a, b, c) EACH_PART(type, PART_3, op, a, b, c)

#if defined(__aarch64__)

#include <arm_neon.h>

#define PARTS             4
#define FOR_PARTS(f, ...) (f(0, __VA_ARGS__), f(1, __VA_ARGS__), f(2, __VA_ARGS__), f(3, __VA_ARGS__))
#define PART_OF(a, i)     ((a).v[i])
#define EACH_PART(type, f, ...)                                                                              \
    (type) {                                                                                                 \
        { f(0, __VA_ARGS__), f(1, __VA_ARGS__), f(2, __VA_ARGS__), f(3, __VA_ARGS__) }                       \
    }

#elif defined(__AVX512F__)

#include <immintrin.h>

#define PARTS                   1
#define FOR_PARTS(f, ...)       f(0, __VA_ARGS__)
#define PART_OF(a, i)           (a)
#define EACH_PART(type, f, ...) f(0, __VA_ARGS__)
#define MM(name)                _mm512_##name
#define MM_INT(name)            _mm512_##name##_si512

#else

#include <immintrin.h>

#define PARTS             2
#define FOR_PARTS(f, ...) (f(0, __VA_ARGS__), f(1, __VA_ARGS__))
#define PART_OF(a, i)     ((i) ? (a).hi : (a).lo)
#define EACH_PART(type, f, ...)                                                                              \
    (type) {                                                                                                 \
        f(0, __VA_ARGS__), f(1, __VA_ARGS__)                                                                 \
    }
#define MM(name)     _mm256_##name
#define MM_INT(name) _mm256_##name##_si256

#endif

#endif
