/* The table of tensor types: one row per id that a GGUF file may carry. Called by the file parsers, the
 * packers and everything that names a type; any thread. What it refuses: removed, foreign and never-stored
 * types have a row only so that an error can name them. docs/quant-types.md describes the layouts.
 */
#include "quant/quant.h"

#define REMOVED_REPACK                                                                                       \
    "was removed from GGUF because its rows were interleaved for one CPU; use a Q4_0 or IQ4_NL file of the " \
    "model"
#define REMOVED_EARLY "was removed before GGUF existed; convert or download the model again"
#define ACTIVATIONS   "is for activations and never stored in model files; the file is damaged"
#define FOREIGN       "only the ik_llama.cpp fork reads; use a file with standard GGUF types"

/* name, elements and bytes of a block, form, smallest and largest integer code */
#define PLAIN(name_, bytes_, form_)                                                                          \
    { .name = name_, .block_elems = 1, .block_bytes = bytes_, .form = form_ }
#define BLOCK(name_, elems_, bytes_, form_, min_, max_)                                                      \
    {                                                                                                        \
        .name = name_, .block_elems = elems_, .block_bytes = bytes_, .form = SRN_FORM_##form_,               \
        .q_min = min_, .q_max = max_                                                                         \
    }
#define REFUSED(name_, why_)                                                                                 \
    { .name = name_, .refused = why_ }

static const srn_type_info types[SRN_TYPE_END] = {
    [SRN_F32] = PLAIN("F32", 4, SRN_FORM_FLOAT),
    [SRN_F16] = PLAIN("F16", 2, SRN_FORM_FLOAT),
    [SRN_Q4_0] = BLOCK("Q4_0", 32, 18, SCALE, -8, 7),
    [SRN_Q4_1] = BLOCK("Q4_1", 32, 20, SCALE_MIN, 0, 15),
    [4] = REFUSED("Q4_2", REMOVED_EARLY),
    [5] = REFUSED("Q4_3", REMOVED_EARLY),
    [SRN_Q5_0] = BLOCK("Q5_0", 32, 22, SCALE, -16, 15),
    [SRN_Q5_1] = BLOCK("Q5_1", 32, 24, SCALE_MIN, 0, 31),
    [SRN_Q8_0] = BLOCK("Q8_0", 32, 34, SCALE, -128, 127),
    [SRN_Q8_1] = REFUSED("Q8_1", ACTIVATIONS),
    [SRN_Q2_K] = BLOCK("Q2_K", 256, 84, SUB_MIN, 0, 3),
    [SRN_Q3_K] = BLOCK("Q3_K", 256, 110, SUB, -4, 3),
    [SRN_Q4_K] = BLOCK("Q4_K", 256, 144, SCALE_MIN, 0, 15),
    [SRN_Q5_K] = BLOCK("Q5_K", 256, 176, SCALE_MIN, 0, 31),
    [SRN_Q6_K] = BLOCK("Q6_K", 256, 210, SUB, -32, 31),
    [SRN_Q8_K] = REFUSED("Q8_K", ACTIVATIONS),
    [SRN_IQ2_XXS] = BLOCK("IQ2_XXS", 256, 66, SCALE, -43, 43),
    [SRN_IQ2_XS] = BLOCK("IQ2_XS", 256, 74, SUB, -43, 43),
    [SRN_IQ3_XXS] = BLOCK("IQ3_XXS", 256, 98, SCALE, -62, 62),
    [SRN_IQ1_S] = BLOCK("IQ1_S", 256, 50, SCALE, -9, 9),
    [SRN_IQ4_NL] = BLOCK("IQ4_NL", 32, 18, SCALE, -127, 113),
    [SRN_IQ3_S] = BLOCK("IQ3_S", 256, 110, SCALE, -15, 15),
    [SRN_IQ2_S] = BLOCK("IQ2_S", 256, 82, SUB, -43, 43),
    [SRN_IQ4_XS] = BLOCK("IQ4_XS", 256, 136, SCALE, -127, 113),
    [SRN_I8] = PLAIN("I8", 1, SRN_FORM_NONE),
    [SRN_I16] = PLAIN("I16", 2, SRN_FORM_NONE),
    [SRN_I32] = PLAIN("I32", 4, SRN_FORM_NONE),
    [SRN_I64] = PLAIN("I64", 8, SRN_FORM_NONE),
    [SRN_F64] = PLAIN("F64", 8, SRN_FORM_FLOAT),
    [SRN_IQ1_M] = BLOCK("IQ1_M", 256, 56, SUB, -9, 9),
    [SRN_BF16] = PLAIN("BF16", 2, SRN_FORM_FLOAT),
    [31] = REFUSED("Q4_0_4_4", REMOVED_REPACK),
    [32] = REFUSED("Q4_0_4_8", REMOVED_REPACK),
    [33] = REFUSED("Q4_0_8_8", REMOVED_REPACK),
    [SRN_TQ1_0] = BLOCK("TQ1_0", 256, 54, SCALE, -1, 1),
    [SRN_TQ2_0] = BLOCK("TQ2_0", 256, 66, SCALE, -1, 2),
    [36] = REFUSED("IQ4_NL_4_4", REMOVED_REPACK),
    [37] = REFUSED("IQ4_NL_4_8", REMOVED_REPACK),
    [38] = REFUSED("IQ4_NL_8_8", REMOVED_REPACK),
    [SRN_MXFP4] = BLOCK("MXFP4", 32, 17, SCALE, -12, 12),
    [SRN_NVFP4] = BLOCK("NVFP4", 64, 36, SPLIT, -12, 12),
    [SRN_Q1_0] = BLOCK("Q1_0", 128, 18, SCALE, -1, 1),
    [SRN_Q2_0] = BLOCK("Q2_0", 64, 18, SCALE, -1, 2),
};

/* Types of a fork: ids from 133 on, in order; its row-interleaved variants have ids from 202 on. */
#define FOREIGN_FIRST      133
#define FOREIGN_ROWS_FIRST 202
#define FOREIGN_ROWS_LAST  399
static const srn_type_info foreign[] = {
    REFUSED("Q6_0", FOREIGN),   REFUSED("IQ1_BN", FOREIGN),  REFUSED("IQ2_BN", FOREIGN),
    REFUSED("Q8_K64", FOREIGN), REFUSED("IQ2_K", FOREIGN),   REFUSED("IQ3_K", FOREIGN),
    REFUSED("IQ4_K", FOREIGN),  REFUSED("IQ5_K", FOREIGN),   REFUSED("IQ6_K", FOREIGN),
    REFUSED(NULL, NULL),        REFUSED(NULL, NULL),         REFUSED("IQ4_KS", FOREIGN),
    REFUSED("IQ2_KS", FOREIGN), REFUSED("IQ4_KSS", FOREIGN), REFUSED("Q8_K16", FOREIGN),
    REFUSED("Q8_K32", FOREIGN), REFUSED("Q8_KR8", FOREIGN),  REFUSED("Q8_K128", FOREIGN),
    REFUSED("Q8_KV", FOREIGN),  REFUSED("IQ5_KS", FOREIGN),  REFUSED("IQ2_KT", FOREIGN),
    REFUSED("IQ3_KT", FOREIGN), REFUSED("IQ4_KT", FOREIGN),  REFUSED("IQ3_KS", FOREIGN),
    REFUSED("IQ2_KL", FOREIGN), REFUSED("IQ1_KT", FOREIGN),
};
static const srn_type_info foreign_rows = REFUSED("a row-interleaved layout", FOREIGN);

const srn_type_info *srn_type_get(uint32_t id) {
    const srn_type_info *t = NULL;
    if (id < SRN_TYPE_END) t = &types[id];
    if (id >= FOREIGN_FIRST && id < FOREIGN_FIRST + SRN_LEN(foreign)) t = &foreign[id - FOREIGN_FIRST];
    if (id >= FOREIGN_ROWS_FIRST && id <= FOREIGN_ROWS_LAST) t = &foreign_rows;
    return t && t->name ? t : NULL;
}

bool srn_type_bytes(srn_type type, uint64_t n, uint64_t *ret_bytes) {
    const srn_type_info *t = srn_type_get((uint32_t)type);
    if (!t || t->refused || n % t->block_elems != 0) return false;
    return srn_mul_u64(n / t->block_elems, t->block_bytes, ret_bytes);
}
