/* quant, inside the room: how one block becomes groups of 32 codes, and the tables behind it.
 *
 * An unpacker reads block_bytes bytes of one block and fills block_elems/32 groups that the caller has
 * zeroed. It must give codes within the row's q_min..q_max for any bytes, and scales that are exact products,
 * so that srn_dequant can rebuild the weights from the groups to the bit.
 */
#ifndef SRN_QUANT_INTERNAL_H
#define SRN_QUANT_INTERNAL_H

#include "quant/quant.h"

typedef void srn__unpack_fn(const uint8_t *block, srn_group *g);

/* blocks.c: blocks of 32 to 128 weights */
srn__unpack_fn srn__unpack_q1_0, srn__unpack_q2_0, srn__unpack_q4_0, srn__unpack_q4_1, srn__unpack_q5_0,
    srn__unpack_q5_1, srn__unpack_q8_0, srn__unpack_iq4_nl, srn__unpack_mxfp4, srn__unpack_nvfp4;
/* superblocks.c: 256 weights with integer scales */
srn__unpack_fn srn__unpack_q2_k, srn__unpack_q3_k, srn__unpack_q4_k, srn__unpack_q5_k, srn__unpack_q6_k,
    srn__unpack_iq4_xs, srn__unpack_tq1_0, srn__unpack_tq2_0;
/* codebooks.c: 256 weights as indices into grids */
srn__unpack_fn srn__unpack_iq1_s, srn__unpack_iq1_m, srn__unpack_iq2_xxs, srn__unpack_iq2_xs,
    srn__unpack_iq2_s, srn__unpack_iq3_xxs, srn__unpack_iq3_s;

/* The 16 levels of IQ4_NL and IQ4_XS. */
extern const int8_t srn__iq4_levels[16];
/* Twice the values of e2m1: 0 .5 1 1.5 2 3 4 6 and their negatives. */
extern const int8_t srn__e2m1_doubled[16];
/* Of the codes in the grids of IQ2 (code 3 occurs in none) and of IQ3_XXS. */
extern const int8_t srn__iq2_levels[4], srn__iq3_xxs_levels[8];

/* iq_tables.c: grids of the codebook types. IQ1 and IQ2: a word is a point of 8 codes of 2 bits, IQ3: of 4
 * codes of 4 bits; the first weight is in the lowest bits. */
extern const uint16_t srn__iq1_grid[2048], srn__iq2_xxs_grid[256], srn__iq2_xs_grid[512],
    srn__iq2_s_grid[1024], srn__iq3_xxs_grid[256], srn__iq3_s_grid[512];

static inline uint16_t srn__load16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t srn__load32(const uint8_t *p) {
    return srn__load16(p) | (uint32_t)srn__load16(p + 2) << 16;
}
static inline float srn__load_half(const uint8_t *p) {
    return srn_f16_to_f32(srn__load16(p));
}

#endif
