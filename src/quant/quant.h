/* quant: the tensor types of GGUF: their block layouts, the scalar dequantisers (the oracle of every kernel)
 * and the integer codes that the numerics multiply (docs/numerics.md). Pure functions, no I/O, no state.
 */
#ifndef SRN_QUANT_QUANT_H
#define SRN_QUANT_QUANT_H

#include "base/base.h"

/* Values are GGUF's own ids. */
typedef enum srn_type {
    SRN_F32 = 0,
    SRN_F16 = 1,
    SRN_Q4_0 = 2,
    SRN_Q4_1 = 3,
    SRN_Q5_0 = 6,
    SRN_Q5_1 = 7,
    SRN_Q8_0 = 8,
    SRN_Q8_1 = 9, /* activations of other engines; never stored in files: refused by name */
    SRN_Q2_K = 10,
    SRN_Q3_K = 11,
    SRN_Q4_K = 12,
    SRN_Q5_K = 13,
    SRN_Q6_K = 14,
    SRN_Q8_K = 15, /* as Q8_1 */
    SRN_IQ2_XXS = 16,
    SRN_IQ2_XS = 17,
    SRN_IQ3_XXS = 18,
    SRN_IQ1_S = 19,
    SRN_IQ4_NL = 20,
    SRN_IQ3_S = 21,
    SRN_IQ2_S = 22,
    SRN_IQ4_XS = 23,
    SRN_I8 = 24,
    SRN_I16 = 25,
    SRN_I32 = 26,
    SRN_I64 = 27,
    SRN_F64 = 28,
    SRN_IQ1_M = 29,
    SRN_BF16 = 30,
    SRN_TQ1_0 = 34,
    SRN_TQ2_0 = 35,
    SRN_MXFP4 = 39,
    SRN_NVFP4 = 40,
    SRN_Q1_0 = 41,
    SRN_Q2_0 = 42,
    SRN_TYPE_END = 43
} srn_type;

/* How a group of 32 weights enters a product (docs/numerics.md, "Matrix rows"). q: integer code, c: the
 * activation's integer code; I = sum of q*c over the group, I0 and I1 over its halves; S likewise of c. */
typedef enum srn_form {
    SRN_FORM_NONE,      /* not usable as a weight matrix */
    SRN_FORM_FLOAT,     /* no integer codes: f32 values against f32 activations */
    SRN_FORM_SCALE,     /* w = d*q                    acc = fma(d*dx, I, acc) */
    SRN_FORM_SCALE_MIN, /* w = d*q + m                ... ; acc = fma(m, dx*S, acc) */
    SRN_FORM_SUB,       /* w = d*sc[h]*q, h = half    acc = fma(d*dx, sc0*I0 + sc1*I1, acc) */
    SRN_FORM_SUB_MIN,   /* w = d*sc[h]*q + m*mn[h]    ... ; acc = fma(m*dx, mn0*S0 + mn1*S1, acc) */
    SRN_FORM_SPLIT /* w = d2[h]*q                acc = fma(d2[0]*dx, I0, acc); acc = fma(d2[1]*dx, I1, acc) */
} srn_form;

typedef struct srn_type_info {
    const char *name;     /* "Q4_K"; NULL where the id has no type */
    const char *refused;  /* NULL, or why files with it are refused and what to do; ends the sentence
                             "tensor T has type NAME, which ..." */
    uint16_t block_elems; /* weights per block */
    uint16_t block_bytes;
    srn_form form;
    int16_t q_min, q_max; /* range of the integer codes that any bytes can give */
} srn_type_info;

/* The row of a type id, or NULL for an id that no GGUF version defined. Removed and foreign ids
 * (Q4_2, Q4_3, Q4_0_4_4, IQ4_NL_4_4, IQ4_KS, ...) have rows with .refused set, so that errors can name them;
 * block_elems is 0 in those. */
const srn_type_info *srn_type_get(uint32_t id);

/* Bytes of n elements of a type; false when n is not a whole number of blocks or it overflows. */
bool srn_type_bytes(srn_type type, uint64_t n, uint64_t *ret_bytes);

/* Exact f32 values of n weights (whole blocks), equal to the bit to the gguf Python package's dequantize
 * where it has the type. Any input bytes are valid. Defined for every type that is not refused (integers
 * and F64 are converted to the nearest f32). */
void srn_dequant(srn_type type, const void *src, float *dst, size_t n);

/* One group of 32 weights as integer codes and scales, for the forms SCALE to SPLIT. */
typedef struct srn_group {
    int8_t q[32];
    float d, m;    /* SCALE*, SUB*: as in srn_form (m is negative for the K types: m = -(dmin*...)) */
    float d2[2];   /* SPLIT */
    int16_t sc[2]; /* SUB* */
    int16_t mn[2]; /* SUB_MIN: m*mn[h] is added; mn >= 0 and m = -dmin for Q2_K */
} srn_group;

/* Decodes n weights (whole blocks of the type) into n/32 groups; fields that the form does not use are 0.
 * srn_dequant's value is the exact value of the form, rounded once: no product of a scale and a code rounds.
 * Nothing is written for types without codes. */
void srn_group_decode(srn_type type, const void *src, srn_group *dst, size_t n);

/* ---- encoding ---- */

/* Encodes n finite f32 values (whole blocks) as the type, so that the error of the decoded values is small:
 * scales are searched, not only taken from the extremes. Deterministic on every CPU. False, and nothing is
 * written, for types that are refused, have no encoder or are no floats. */
bool srn_quantize(srn_type type, const float *src, void *dst, size_t n);
bool srn_can_quantize(srn_type type);

/* ---- scalar conversions, all round to nearest even; NaN in, quiet NaN out ---- */
float srn_f16_to_f32(uint16_t h);
uint16_t srn_f32_to_f16(float f);
uint16_t srn_f32_to_bf16(float f);
static inline float srn_bf16_to_f32(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

#endif
