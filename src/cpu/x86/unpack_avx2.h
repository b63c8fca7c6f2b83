/* AVX2: what cpu/simd/unpack.h and quads.h are written in, 8 rows at a time. Included by the AVX2 translation
 * unit only, whose flags it needs.
 */
#ifndef SRN_CPU_X86_UNPACK_AVX2_H
#define SRN_CPU_X86_UNPACK_AVX2_H

typedef __m256i part_ints, part_bytes, part_codes;
typedef __m256 part_floats;

SRN__INLINE __m256i load_part(const uint8_t *vector, int part) {
    return _mm256_loadu_si256((const void *)(vector + 32 * part));
}
SRN__INLINE __m256i load_rows(const uint8_t *vector, int part) {
    return load_part(vector, part);
}

/* ---- codes ---- */

/* Every 16 bits shifted. */
SRN__INLINE __m256i shift_right(__m256i v, int n) {
    return n < 0 ? _mm256_slli_epi16(v, -n) : n > 0 ? _mm256_srli_epi16(v, n) : v;
}
SRN__INLINE __m256i and8(__m256i v, int mask) {
    return _mm256_and_si256(v, _mm256_set1_epi8((char)mask));
}
SRN__INLINE __m256i upper_bits(__m256i v, int n) {
    return and8(shift_right(v, n), 0xff >> n);
}
SRN__INLINE __m256i or8(__m256i v, __m256i w) {
    return _mm256_or_si256(v, w);
}
SRN__INLINE __m256i load_words(const uint8_t *p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p));
}
SRN__INLINE __m256i all_bits(__m256i v, uint32_t left) {
    return _mm256_srai_epi32(_mm256_sll_epi32(v, _mm_cvtsi32_si128((int)left)), 31);
}
SRN__INLINE __m256i unpacked(__m256i v) {
    return v;
}
SRN__INLINE __m256i whole_bytes(__m256i v) {
    return v;
}
SRN__INLINE __m256i dwords_of(__m256i codes) {
    return codes;
}
SRN__INLINE __m256i look_up(srn_type type, __m256i v) {
    __m128i table = _mm_loadu_si128((const void *)srn__code_table(type));
    table = _mm_add_epi8(table, _mm_set1_epi8((char)srn__simd_type_of(type).zero));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), v);
}

#include "cpu/simd/quads.h"

/* ---- scales ---- */

SRN__INLINE __m256 load_halves(const uint8_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}
SRN__INLINE __m256i load_bytes(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
}
SRN__INLINE __m256i load_signed(const uint8_t *p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p));
}
SRN__INLINE __m256i and_or_dwords(__m256i v, int mask, __m256i w) {
    return _mm256_or_si256(w, _mm256_and_si256(v, _mm256_set1_epi32(mask)));
}
SRN__INLINE __m256 negated(__m256 v) {
    return _mm256_xor_ps(v, _mm256_set1_ps(-0.0f));
}
SRN__INLINE __m256 load_e8m0(const uint8_t *p) {
    __m256i e = load_bytes(p);
    __m256i v = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __m256i small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
    __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x200000), e);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(v, subnormal, small));
}
SRN__INLINE __m256 load_ue4m3(const uint8_t *p) {
    __m128i half = _mm_slli_epi16(_mm_cvtepu8_epi16(_mm_loadl_epi64((const void *)p)), 7);
    return _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(128.0f));
}

#endif
