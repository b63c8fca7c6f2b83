/* Packing of panels with AVX2: the bytes that pack.c makes, quicker. Sixteen rows are read side by side and
 * their dwords transposed, so that a lane is a row; what differs between the file's bits and the panel's is
 * then done to whole vectors. Codes of types with grids are looked up first. Called while a model is loaded,
 * on any thread. Panels with fewer than 16 rows, and types that are not here, are pack.c's.
 */
#include <immintrin.h>

#include "cpu/simd/layout.h"

typedef __m256i v8; /* 8 dwords: rows 0-7 or 8-15 of a panel */

/* Quads of 16 rows: [quad][rows 0-7, rows 8-15]. */
typedef struct quads {
    v8 v[SRN__QUADS][2];
} quads;

SRN__INLINE v8 rows_0_and_4(const uint8_t *p, size_t stride) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)p)),
                                   _mm_loadu_si128((const __m128i *)(p + 4 * stride)), 1);
}

/* 16 bytes of each of 8 rows, `stride` apart, become 4 vectors of their dwords. */
SRN__INLINE void transpose_4x8(const uint8_t *p, size_t stride, v8 ret[4]) {
    v8 a = rows_0_and_4(p, stride), b = rows_0_and_4(p + stride, stride),
       c = rows_0_and_4(p + 2 * stride, stride), d = rows_0_and_4(p + 3 * stride, stride);
    v8 ab0 = _mm256_unpacklo_epi32(a, b), ab1 = _mm256_unpackhi_epi32(a, b),
       cd0 = _mm256_unpacklo_epi32(c, d), cd1 = _mm256_unpackhi_epi32(c, d);
    ret[0] = _mm256_unpacklo_epi64(ab0, cd0);
    ret[1] = _mm256_unpackhi_epi64(ab0, cd0);
    ret[2] = _mm256_unpacklo_epi64(ab1, cd1);
    ret[3] = _mm256_unpackhi_epi64(ab1, cd1);
}

/* 16 or 32 bytes of each of 16 rows: quads 0..3, or 0..7. */
SRN__INLINE void load_quads(const uint8_t *p, size_t stride, uint32_t n_quads, quads *ret) {
    SRN__UNROLL for (uint32_t half = 0; half < 2; half++) {
        SRN__UNROLL for (uint32_t j = 0; j < n_quads; j += 4) {
            v8 t[4];
            transpose_4x8(p + 8 * half * stride + 4 * j, stride, t);
            SRN__UNROLL for (uint32_t i = 0; i < 4; i++) ret->v[j + i][half] = t[i];
        }
    }
}

/* A dword of each of the 16 rows. */
SRN__INLINE void load_dwords(const uint8_t *p, size_t stride, v8 ret[2]) {
    uint32_t d[SRN_PANEL];
    for (uint32_t r = 0; r < SRN_PANEL; r++) memcpy(&d[r], p + r * stride, 4);
    memcpy(ret, d, sizeof d);
}

SRN__INLINE void store(uint8_t *dst, const v8 v[2]) {
    _mm256_storeu_si256((v8 *)dst, v[0]);
    _mm256_storeu_si256((v8 *)(dst + 32), v[1]);
}

/* A 16-bit number of each of the 16 rows. */
SRN__INLINE void put_halves(uint8_t *dst, const uint8_t *p, size_t stride) {
    for (uint32_t r = 0; r < SRN_PANEL; r++) memcpy(dst + 2 * r, p + r * stride, 2);
}

SRN__INLINE v8 bytes_and(v8 a, uint8_t mask) {
    return _mm256_and_si256(a, _mm256_set1_epi8((char)mask));
}
/* Bytes shifted, of which only the bits in mask stay. */
SRN__INLINE v8 bytes_srl(v8 a, int n, uint8_t mask) {
    return bytes_and(_mm256_srli_epi16(a, n), mask);
}
SRN__INLINE v8 bytes_sll(v8 a, int n, uint8_t mask) {
    return bytes_and(_mm256_slli_epi16(a, n), mask);
}

/* ---- bits ---- */

/* Exchanges the bits of `mask` with those `shift` above them. */
SRN__INLINE v8 swap_bits(v8 a, uint32_t mask, int shift) {
    v8 t = _mm256_and_si256(_mm256_xor_si256(a, _mm256_srli_epi32(a, shift)), _mm256_set1_epi32((int)mask));
    return _mm256_xor_si256(a, _mm256_xor_si256(t, _mm256_slli_epi32(t, shift)));
}

/* Bit 4j+i of a dword becomes bit j of its byte i: the index j2 j1 j0 i1 i0 becomes i1 i0 j2 j1 j0, by
 * exchanges of two of its bits. */
SRN__INLINE v8 fifth_bits(v8 a) {
    a = swap_bits(a, 0x22222222u, 1);     /* bits 1 and 0 of the index */
    a = swap_bits(a, 0x0a0a0a0au, 3);     /* 2 and 0 */
    a = swap_bits(a, 0x00cc00ccu, 6);     /* 3 and 1 */
    return swap_bits(a, 0x0000f0f0u, 12); /* 4 and 2 */
}

/* Bit b of byte vector j becomes bit j of byte vector b: 8 vectors are 8x8 matrices of bits, one a byte. */
SRN__INLINE void transpose_bits(v8 v[SRN__QUADS]) {
    const uint8_t masks[3] = {0x55, 0x33, 0x0f};
    SRN__UNROLL for (int stage = 0; stage < 3; stage++) {
        int n = 1 << stage;
        SRN__UNROLL for (int j = 0; j < 8; j++) {
            if (j & n) continue;
            v8 t = bytes_and(_mm256_xor_si256(_mm256_srli_epi16(v[j], n), v[j + n]), masks[stage]);
            v[j + n] = _mm256_xor_si256(v[j + n], t);
            v[j] = _mm256_xor_si256(v[j], _mm256_slli_epi16(t, n));
        }
    }
}

/* ---- one record ---- */

typedef void pack_record(const uint8_t *src, size_t stride, uint32_t groups, uint8_t *dst);

/* Q4_0 and IQ4_NL: a block's byte i holds elements i and 16+i, as a panel's nibbles do. */
static void record_q4_0(const uint8_t *src, size_t stride, uint32_t groups, uint8_t *dst) {
    for (uint32_t g = 0; g < groups; g++, src += 18) {
        quads q;
        load_quads(src + 2, stride, 4, &q);
        put_halves(dst + 32 * g, src, stride);
        SRN__UNROLL for (uint32_t j = 0; j < 4; j++) store(dst + 64 + 256 * g + 64 * j, q.v[j]);
    }
}

static void record_q4_1(const uint8_t *src, size_t stride, uint32_t groups, uint8_t *dst) {
    (void)groups;
    quads q;
    load_quads(src + 4, stride, 4, &q);
    put_halves(dst, src, stride);
    put_halves(dst + 32, src + 2, stride);
    SRN__UNROLL for (uint32_t j = 0; j < 4; j++) store(dst + 64 + 64 * j, q.v[j]);
}

/* The codes of a block of Q5_0 or Q5_1, whose fifth bits begin at src: a dword, then the nibbles. */
SRN__INLINE void codes_q5(const uint8_t *src, size_t stride, uint8_t *dst) {
    v8 high[2];
    quads q;
    load_dwords(src, stride, high);
    load_quads(src + 4, stride, 4, &q);
    high[0] = fifth_bits(high[0]);
    high[1] = fifth_bits(high[1]);
    store(dst, high);
    SRN__UNROLL for (uint32_t j = 0; j < 4; j++) store(dst + 64 + 64 * j, q.v[j]);
}

static void record_q5_0(const uint8_t *src, size_t stride, uint32_t groups, uint8_t *dst) {
    for (uint32_t g = 0; g < groups; g++, src += 22) {
        put_halves(dst + 32 * g, src, stride);
        codes_q5(src + 2, stride, dst + 64 + 320 * g);
    }
}

static void record_q5_1(const uint8_t *src, size_t stride, uint32_t groups, uint8_t *dst) {
    (void)groups;
    put_halves(dst, src, stride);
    put_halves(dst + 32, src + 2, stride);
    codes_q5(src + 4, stride, dst + 64);
}

static void record_q8_0(const uint8_t *src, size_t stride, uint32_t groups, uint8_t *dst) {
    const v8 flip = _mm256_set1_epi8((char)0x80);
    for (uint32_t g = 0; g < groups; g++, src += 34) {
        quads q;
        load_quads(src + 2, stride, 8, &q);
        put_halves(dst + 32 * g, src, stride);
        SRN__UNROLL for (uint32_t j = 0; j < 8; j++) {
            v8 u[2] = {_mm256_xor_si256(q.v[j][0], flip), _mm256_xor_si256(q.v[j][1], flip)};
            store(dst + 64 + 512 * g + 64 * j, u);
        }
    }
}

/* The nibbles of one group from the quads of 32 bytes: their low or their high ones. */
SRN__INLINE void put_nibbles(const quads *q, bool high, uint8_t *dst) {
    SRN__UNROLL for (uint32_t j = 0; j < 4; j++) {
        v8 u[2];
        SRN__UNROLL for (uint32_t h = 0; h < 2; h++) {
            v8 lo = q->v[j][h], up = q->v[j + 4][h];
            u[h] = high ? _mm256_or_si256(bytes_srl(lo, 4, 0x0f), bytes_and(up, 0xf0))
                        : _mm256_or_si256(bytes_and(lo, 0x0f), bytes_sll(up, 4, 0xf0));
        }
        store(dst + 64 * j, u);
    }
}

/* Scales of Q4_K and Q5_K: d, dmin and 12 bytes begin a block. */
SRN__INLINE void scales_k(const uint8_t *src, size_t stride, uint8_t *dst) {
    quads q;
    load_quads(src, stride, 4, &q);
    SRN__UNROLL for (uint32_t v = 0; v < 3; v++) store(dst + 64 * v, q.v[v + 1]);
    put_halves(dst + 192, src, stride);
    put_halves(dst + 224, src + 2, stride);
}

static void record_q4_k(const uint8_t *src, size_t stride, uint32_t groups, uint8_t *dst) {
    (void)groups;
    scales_k(src, stride, dst);
    for (uint32_t c = 0; c < 4; c++) { /* 32 bytes hold group 2c low and 2c+1 high */
        quads q;
        load_quads(src + 16 + 32 * c, stride, 8, &q);
        put_nibbles(&q, false, dst + 256 + 512 * c);
        put_nibbles(&q, true, dst + 256 + 512 * c + 256);
    }
}

static void record_q5_k(const uint8_t *src, size_t stride, uint32_t groups, uint8_t *dst) {
    (void)groups;
    scales_k(src, stride, dst);
    quads q;
    load_quads(src + 16, stride, 8, &q); /* bit g of byte e: the fifth bit of element e of group g */
    for (uint32_t h = 0; h < 2; h++) {
        v8 bits[SRN__QUADS];
        for (uint32_t j = 0; j < SRN__QUADS; j++) bits[j] = q.v[j][h];
        transpose_bits(bits);
        for (uint32_t g = 0; g < SRN__QUADS; g++)
            _mm256_storeu_si256((v8 *)(dst + 256 + 320 * g + 32 * h), bits[g]);
    }
    for (uint32_t c = 0; c < 4; c++) {
        load_quads(src + 48 + 32 * c, stride, 8, &q);
        put_nibbles(&q, false, dst + 256 + 640 * c + 64);
        put_nibbles(&q, true, dst + 256 + 640 * c + 320 + 64);
    }
}

/* The upper two bits, at 2k, of the elements in 32 bytes: byte i of vector h gets those of element i of quad
 * 4h+f at 2f. */
SRN__INLINE void put_upper_pairs(const quads *q, uint32_t k, uint8_t *dst) {
    SRN__UNROLL for (uint32_t h = 0; h < 2; h++) {
        v8 u[2];
        SRN__UNROLL for (uint32_t half = 0; half < 2; half++) {
            u[half] = _mm256_setzero_si256();
            SRN__UNROLL for (uint32_t f = 0; f < 4; f++) {
                v8 a = q->v[4 * h + f][half];
                uint8_t mask = (uint8_t)(3u << 2 * f);
                a = f >= k ? bytes_sll(a, (int)(2 * (f - k)), mask) : bytes_srl(a, (int)(2 * (k - f)), mask);
                u[half] = _mm256_or_si256(u[half], a);
            }
        }
        store(dst + 64 * h, u);
    }
}

/* 16 bytes of each of the 16 rows become [16][row]. */
SRN__INLINE void put_scale_bytes(const uint8_t *src, size_t stride, uint8_t *dst) {
    const v8 gather = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)); /* bytes 0 of 4 rows, bytes 1 */
    const v8 order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    quads q;
    load_quads(src, stride, 4, &q);
    SRN__UNROLL for (uint32_t j = 0; j < 4; j++) {
        v8 a = _mm256_shuffle_epi8(q.v[j][0], gather), b = _mm256_shuffle_epi8(q.v[j][1], gather);
        v8 u[2] = {_mm256_permutevar8x32_epi32(_mm256_unpacklo_epi32(a, b), order),
                   _mm256_permutevar8x32_epi32(_mm256_unpackhi_epi32(a, b), order)};
        store(dst + 64 * j, u);
    }
}

/* Q6_K: ql[128], qh[64], 16 scales, d. A half of 128 elements has 64 bytes of ql and 32 of qh; its group k
 * has the low (k < 2) or high nibbles of ql's 32 bytes k%2, and bits 2k, 2k+1 of qh's. */
static void record_q6_k(const uint8_t *src, size_t stride, uint32_t groups, uint8_t *dst) {
    (void)groups;
    put_scale_bytes(src + 192, stride, dst);
    put_halves(dst + 256, src + 208, stride);
    for (uint32_t half = 0; half < 2; half++) {
        uint8_t *codes = dst + 320 + 4 * 384 * half;
        quads q;
        load_quads(src + 128 + 32 * half, stride, 8, &q);
        SRN__UNROLL for (uint32_t k = 0; k < 4; k++) put_upper_pairs(&q, k, codes + 384 * k);
        for (uint32_t c = 0; c < 2; c++) {
            load_quads(src + 64 * half + 32 * c, stride, 8, &q);
            put_nibbles(&q, false, codes + 384 * c + 128);
            put_nibbles(&q, true, codes + 384 * (c + 2) + 128);
        }
    }
}

/* Q2_K: 16 scale bytes, qs[64], d, dmin. 32 bytes of qs hold 4 groups, group k in bits 2k and 2k+1. */
static void record_q2_k(const uint8_t *src, size_t stride, uint32_t groups, uint8_t *dst) {
    (void)groups;
    put_scale_bytes(src, stride, dst);
    put_halves(dst + 256, src + 80, stride);
    put_halves(dst + 288, src + 82, stride);
    for (uint32_t half = 0; half < 2; half++) {
        quads q;
        load_quads(src + 16 + 32 * half, stride, 8, &q);
        SRN__UNROLL for (uint32_t k = 0; k < 4; k++) put_upper_pairs(&q, k, dst + 320 + 128 * (4 * half + k));
    }
}

/* Codes of 3 bits, a byte each. */
SRN__INLINE void put_3_bits(const quads *q, uint8_t *dst) {
    v8 out[3][2];
    SRN__UNROLL for (uint32_t half = 0; half < 2; half++) {
        v8 six = q->v[6][half], seven = q->v[7][half];
        SRN__UNROLL for (uint32_t i = 0; i < 3; i++) out[i][half] =
            _mm256_or_si256(q->v[2 * i][half], bytes_sll(q->v[2 * i + 1][half], 3, 0x38));
        out[0][half] = _mm256_or_si256(out[0][half], bytes_sll(six, 6, 0xc0));
        out[1][half] = _mm256_or_si256(out[1][half], bytes_sll(seven, 6, 0xc0));
        out[2][half] = _mm256_or_si256(out[2][half], bytes_sll(six, 4, 0x40));
        out[2][half] = _mm256_or_si256(out[2][half], bytes_sll(seven, 5, 0x80));
    }
    SRN__UNROLL for (uint32_t i = 0; i < 3; i++) store(dst + 64 * i, out[i]);
}

/* A group of Q3_K from the quads of 32 bytes with its lower two bits at 2k, and of 32 with its third at g. */
SRN__INLINE void put_q3_k(const quads *low, uint32_t k, const quads *third, uint32_t g, uint8_t *dst) {
    quads u;
    SRN__UNROLL for (uint32_t half = 0; half < 2; half++) {
        SRN__UNROLL for (uint32_t j = 0; j < SRN__QUADS; j++) {
            v8 t = third->v[j][half];
            t = g >= 2 ? bytes_srl(t, (int)g - 2, 4) : bytes_sll(t, 2 - (int)g, 4);
            u.v[j][half] = _mm256_or_si256(bytes_srl(low->v[j][half], (int)(2 * k), 3), t);
        }
    }
    put_3_bits(&u, dst);
}

SRN__INLINE void scales_by_row(srn_type type, const uint8_t *src, size_t stride, uint8_t *dst) {
    for (uint32_t r = 0; r < SRN_PANEL; r++) srn__simd_put_scales(type, dst, 0, r, src + r * stride);
}

/* Q3_K: third bits [32], bit g of byte e of group g; qs[64] as Q2_K's; scales and d. */
static void record_q3_k(const uint8_t *src, size_t stride, uint32_t groups, uint8_t *dst) {
    (void)groups;
    scales_by_row(SRN_Q3_K, src, stride, dst);
    quads third, q;
    load_quads(src, stride, 8, &third);
    for (uint32_t half = 0; half < 2; half++) {
        load_quads(src + 32 + 32 * half, stride, 8, &q);
        for (uint32_t k = 0; k < 4; k++)
            put_q3_k(&q, k, &third, 4 * half + k, dst + 320 + 192 * (4 * half + k));
    }
}

/* IQ4_XS: d and scales in 8 bytes, then 16 bytes a group, as IQ4_NL's. */
static void record_iq4_xs(const uint8_t *src, size_t stride, uint32_t groups, uint8_t *dst) {
    scales_by_row(SRN_IQ4_XS, src, stride, dst);
    for (uint32_t g = 0; g < groups; g++) {
        quads q;
        load_quads(src + 8 + 16 * g, stride, 4, &q);
        SRN__UNROLL for (uint32_t j = 0; j < 4; j++) store(dst + 192 + 256 * g + 64 * j, q.v[j]);
    }
}

/* Nibbles of 8, minus zero, become 0, the other zero. */
SRN__INLINE v8 one_zero(v8 a) {
    v8 low = bytes_and(a, 0x0f), high = bytes_and(a, 0xf0);
    low = _mm256_andnot_si256(_mm256_cmpeq_epi8(low, _mm256_set1_epi8(8)), low);
    high = _mm256_andnot_si256(_mm256_cmpeq_epi8(high, _mm256_set1_epi8((char)0x80)), high);
    return _mm256_or_si256(low, high);
}

/* MXFP4: a byte of scale, then nibbles as Q4_0's. */
static void record_mxfp4(const uint8_t *src, size_t stride, uint32_t groups, uint8_t *dst) {
    for (uint32_t g = 0; g < groups; g++, src += 17) {
        quads q;
        load_quads(src + 1, stride, 4, &q);
        for (uint32_t r = 0; r < SRN_PANEL; r++) dst[16 * g + r] = src[r * stride];
        SRN__UNROLL for (uint32_t j = 0; j < 4; j++) {
            v8 u[2] = {one_zero(q.v[j][0]), one_zero(q.v[j][1])};
            store(dst + 64 + 256 * g + 64 * j, u);
        }
    }
}

/* ---- types of grids ---- */

/* What a type's indices and sign bits become: stored codes of 8 weights (IQ3: of 4), a byte each. The bytes
 * of a point and of its signs have no bit in common. */
typedef struct grid {
    uint64_t points[2048], signs[256];
} grid;

/* Where index c of a block has its lower byte (of IQ2_XS all 9 bits), and its other bits: `high` bits each,
 * packed from byte high_at, with `in` of them in `step` bytes. */
typedef struct grid_type {
    uint16_t indices;  /* points of the grid */
    uint8_t per_block; /* points of a block: 32, or 64 of 4 weights */
    uint8_t sign;      /* what a negative weight's code has more; 0: none */
    uint8_t low_at, high_at, high, in, step;
} grid_type;

SRN__INLINE grid_type grid_type_of(srn_type type) {
    switch (type) {
    case SRN_IQ1_S:
        return (grid_type){2048, 32, 0, 2, 34, 3, 4, 2};
    case SRN_IQ1_M:
        return (grid_type){2048, 32, 0, 0, 32, 4, 2, 1};
    case SRN_IQ2_XXS:
        return (grid_type){256, 32, 4, 2, 0, 0, 0, 0};
    case SRN_IQ2_XS:
        return (grid_type){512, 32, 4, 2, 0, 0, 0, 0};
    case SRN_IQ2_S:
        return (grid_type){1024, 32, 4, 2, 66, 2, 4, 1};
    case SRN_IQ3_XXS:
        return (grid_type){256, 64, 8, 2, 0, 0, 0, 0};
    default: /* IQ3_S */
        return (grid_type){512, 64, 8, 2, 66, 1, 8, 1};
    }
}

SRN__INLINE uint32_t load_16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
SRN__INLINE uint32_t load_32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* Byte of index c in a block: of IQ2_XXS the second half of every 8 bytes is signs. */
SRN__INLINE uint32_t low_at(srn_type type, uint32_t c) {
    return type == SRN_IQ2_XXS  ? 2 + 8 * (c / 4) + c % 4
           : type == SRN_IQ2_XS ? 2 + 2 * c
                                : grid_type_of(type).low_at + c;
}

SRN__INLINE uint32_t index_at(srn_type type, const uint8_t *block, uint32_t c) {
    const grid_type t = grid_type_of(type);
    if (type == SRN_IQ2_XS) return load_16(block + low_at(type, c)) & 511;
    uint32_t index = block[low_at(type, c)];
    if (!t.high) return index;
    const uint8_t *p = block + t.high_at + c / t.in * t.step;
    uint32_t word = t.step == 2 ? load_16(p) : p[0];
    return index | (word >> c % t.in * t.high & (t.indices / 256u - 1)) << 8;
}

static void put_index(srn_type type, uint8_t *block, uint32_t c, uint32_t index) {
    const grid_type t = grid_type_of(type);
    block[low_at(type, c)] = (uint8_t)index;
    if (type == SRN_IQ2_XS) block[low_at(type, c) + 1] = (uint8_t)(index >> 8);
    if (!t.high) return;
    uint32_t shift = c % t.in * t.high;
    uint8_t *p = block + t.high_at + c / t.in * t.step;
    uint32_t word = (index >> 8) << shift;
    for (uint32_t i = 0; i < t.step; i++) p[i] = (uint8_t)(p[i] | word >> 8 * i);
}

/* The 8 sign bits of weights 8c to 8c+7 of a block, or 7 whose eighth makes their number even. */
SRN__INLINE uint32_t signs_at(srn_type type, const uint8_t *block, uint32_t c) {
    switch (type) {
    case SRN_IQ2_XXS:
        return load_32(block + 6 + 8 * (c / 4)) >> 7 * (c % 4) & 127;
    case SRN_IQ2_XS:
        return load_16(block + 2 + 2 * c) >> 9;
    case SRN_IQ3_XXS:
        return load_32(block + 66 + 4 * (c / 4)) >> 7 * (c % 4) & 127;
    case SRN_IQ2_S:
        return block[34 + c];
    default: /* IQ3_S */
        return block[74 + c];
    }
}

/* The points are learned from the decoder, which has the grids: blocks that hold every index in turn. */
static void grid_of(srn_type type, grid *g) {
    const grid_type t = grid_type_of(type);
    const int8_t *table = srn__code_table(type);
    uint32_t weights = 256u / t.per_block, stored_bits = srn__simd_type_of(type).bits;
    for (uint32_t first = 0; first < t.indices; first += t.per_block) {
        uint8_t block[256] = {0}, codes[256];
        srn_group decoded[8];
        for (uint32_t c = 0; c < t.per_block; c++) put_index(type, block, c, first + c);
        srn_group_decode(type, block, decoded, 256);
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t place = 0;
            while (place < 15 && table[place] != decoded[i / 32].q[i % 32]) place++;
            codes[i] = (uint8_t)(place & ((1u << stored_bits) - 1));
        }
        for (uint32_t c = 0; c < t.per_block; c++) {
            g->points[first + c] = 0;
            memcpy(&g->points[first + c], codes + weights * c, weights);
        }
    }
    bool even = type == SRN_IQ2_XXS || type == SRN_IQ2_XS || type == SRN_IQ3_XXS;
    for (uint32_t s = 0; s < 256; s++) {
        uint32_t bits = even ? (s & 127) | (uint32_t)__builtin_parity(s & 127) << 7 : s;
        uint8_t bytes[8];
        for (uint32_t j = 0; j < 8; j++) bytes[j] = (bits >> j & 1) ? t.sign : 0;
        memcpy(&g->signs[s], bytes, 8);
    }
}

/* Stored codes of one block of a row. */
SRN__INLINE void grid_codes(srn_type type, const grid *g, const uint8_t *block, uint64_t codes[32]) {
    const grid_type t = grid_type_of(type);
    for (uint32_t c = 0; c < 32; c++) {
        uint64_t v;
        if (t.per_block == 32)
            v = g->points[index_at(type, block, c)];
        else
            v = g->points[index_at(type, block, 2 * c)] | g->points[index_at(type, block, 2 * c + 1)] << 32;
        codes[c] = t.sign ? v | g->signs[signs_at(type, block, c)] : v;
    }
}

SRN__INLINE void pack_grid(srn_type type, const srn_packed *w, const grid *g, const uint8_t *raw,
                           uint8_t *panel) {
    const srn__simd_type t = srn__simd_type_of(type);
    uint32_t block_bytes = srn_type_get((uint32_t)type)->block_bytes;
    for (uint32_t b = 0; b < w->cols / 256; b++) {
        uint64_t codes[SRN_PANEL][32];
        const uint8_t *src = raw + (size_t)b * block_bytes;
        uint8_t *dst = panel + srn__record_at(t, 8 * b);
        scales_by_row(type, src, w->row_bytes, dst);
        for (uint32_t r = 0; r < SRN_PANEL; r++) grid_codes(type, g, src + r * w->row_bytes, codes[r]);
        for (uint32_t k = 0; k < 8; k++) {
            quads q;
            uint8_t *at = dst + t.scale_bytes + k * srn__code_bytes(t.bits);
            load_quads((const uint8_t *)codes[0] + 32 * k, sizeof codes[0], 8, &q);
            if (t.bits == 2)
                put_upper_pairs(&q, 0, at);
            else if (t.bits == 3)
                put_3_bits(&q, at);
            else
                put_nibbles(&q, false, at);
        }
    }
}

#define GRID_TYPES(X)                                                                                        \
    X(IQ1_S)                                                                                                 \
    X(IQ1_M) X(IQ2_XXS) X(IQ2_XS) X(IQ2_S) X(IQ3_XXS) X(IQ3_S)

typedef void pack_grid_fn(const srn_packed *w, const grid *g, const uint8_t *raw, uint8_t *panel);

#define DEFINE_PACK_GRID(TYPE)                                                                               \
    static void pack_##TYPE(const srn_packed *w, const grid *g, const uint8_t *raw, uint8_t *panel) {        \
        pack_grid(SRN_##TYPE, w, g, raw, panel);                                                             \
    }
GRID_TYPES(DEFINE_PACK_GRID)

static pack_grid_fn *grid_packer_of(srn_type type) {
    switch (type) {
#define CASE_PACK_GRID(TYPE)                                                                                 \
    case SRN_##TYPE:                                                                                         \
        return pack_##TYPE;
        GRID_TYPES(CASE_PACK_GRID)
    default:
        return NULL;
    }
}

/* Whole panels [p0, p1). Out of line, for the tables are large. */
static void pack_grid_panels(const srn_packed *w, pack_grid_fn *pack, uint32_t p0, uint32_t p1) {
    grid g;
    grid_of(w->type, &g);
    for (uint32_t p = p0; p < p1; p++)
        pack(w, &g, w->raw + (size_t)p * SRN_PANEL * w->row_bytes, w->panels + p * w->panel_bytes);
}

/* ---- panels ---- */

static pack_record *record_of(srn_type type) {
    switch (type) {
    case SRN_Q4_0:
    case SRN_IQ4_NL:
        return record_q4_0;
    case SRN_Q4_1:
        return record_q4_1;
    case SRN_Q5_0:
        return record_q5_0;
    case SRN_Q5_1:
        return record_q5_1;
    case SRN_Q8_0:
        return record_q8_0;
    case SRN_Q2_K:
        return record_q2_k;
    case SRN_Q3_K:
        return record_q3_k;
    case SRN_IQ4_XS:
        return record_iq4_xs;
    case SRN_MXFP4:
        return record_mxfp4;
    case SRN_Q4_K:
        return record_q4_k;
    case SRN_Q5_K:
        return record_q5_k;
    case SRN_Q6_K:
        return record_q6_k;
    default:
        return NULL;
    }
}

static void pack_codes(const srn_packed *w, pack_record *record, const uint8_t *raw, uint8_t *panel) {
    const srn_type_info *info = srn_type_get((uint32_t)w->type);
    srn__simd_type t = srn__simd_type_of(w->type);
    uint32_t groups = w->cols / SRN_GROUP, per_block = info->block_elems / SRN_GROUP;
    for (uint32_t g = 0; g < groups; g += t.record_groups)
        record(raw + (size_t)(g / per_block) * info->block_bytes, w->row_bytes,
               SRN_MIN(groups - g, (uint32_t)t.record_groups), panel + srn__record_at(t, g));
}

/* [16][k] of 4 bytes. A run is a multiple of 4 elements, but for the last. */
static void pack_dwords(const srn_packed *w, const uint8_t *raw, uint8_t *panel) {
    const srn__float_panel f = srn__float_panel_of(w->type, w->cols);
    for (uint32_t r = 0; r < f.runs; r++) {
        uint32_t k = f.start[r], end = f.start[r + 1];
        for (; k + 4 <= end; k += 4) {
            quads q;
            load_quads(raw + 4 * (size_t)k, w->row_bytes, 4, &q);
            SRN__UNROLL for (uint32_t j = 0; j < 4; j++)
                store(panel + 64 * srn__float_at(&f, r, k + j), q.v[j]);
        }
        for (; k < end; k++) {
            v8 v[2];
            load_dwords(raw + 4 * (size_t)k, w->row_bytes, v);
            store(panel + 64 * srn__float_at(&f, r, k), v);
        }
    }
}

/* [16][k] of 2 bytes. A dword is columns k and k+1 of a row. */
static void pack_words(const srn_packed *w, const uint8_t *raw, uint8_t *panel) {
    const srn__float_panel f = srn__float_panel_of(w->type, w->cols);
    for (uint32_t r = 0; r < f.runs; r++) {
        uint32_t k = f.start[r], end = f.start[r + 1];
        for (; k + 8 <= end; k += 8) {
            quads q;
            load_quads(raw + 2 * (size_t)k, w->row_bytes, 4, &q);
            SRN__UNROLL for (uint32_t j = 0; j < 4; j++) {
                v8 a = q.v[j][0], b = q.v[j][1], low = _mm256_set1_epi32(0xffff);
                v8 even = _mm256_packus_epi32(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
                v8 odd = _mm256_packus_epi32(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16));
                v8 u[2] = {_mm256_permute4x64_epi64(even, 0xd8), _mm256_permute4x64_epi64(odd, 0xd8)};
                store(panel + 32 * srn__float_at(&f, r, k + 2 * j), u);
            }
        }
        for (; k < end; k++)
            put_halves(panel + 32 * srn__float_at(&f, r, k), raw + 2 * (size_t)k, w->row_bytes);
    }
}

static void pack_panel(const srn_packed *w, pack_record *record, uint32_t p) {
    const uint8_t *raw = w->raw + (size_t)p * SRN_PANEL * w->row_bytes;
    uint8_t *panel = w->panels + p * w->panel_bytes;
    if (record)
        pack_codes(w, record, raw, panel);
    else if (w->type == SRN_F32)
        pack_dwords(w, raw, panel);
    else
        pack_words(w, raw, panel);
}

void srn__simd_pack_avx2(const srn_packed *w, uint32_t p0, uint32_t p1) {
    pack_record *record = record_of(w->type);
    pack_grid_fn *packer = grid_packer_of(w->type);
    bool here = record || packer || w->type == SRN_F32 || w->type == SRN_F16 || w->type == SRN_BF16;
    uint32_t whole = here ? SRN_MIN(p1, w->rows / SRN_PANEL) : p0;
    if (packer && p0 < whole) pack_grid_panels(w, packer, p0, whole);
    for (uint32_t p = p0; p < whole && !packer; p++) pack_panel(w, record, p);
    if (SRN_MAX(p0, whole) < p1) srn__simd_pack(w, SRN_MAX(p0, whole), p1);
}
