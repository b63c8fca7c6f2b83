/* srn_group_decode and srn_dequant: from the blocks of any type to groups of integer codes, and from those to
 * floats. There is one reading of each layout, the unpacker; the float values follow from its groups by the
 * operations below, in this order, which is the order of the formats' reference definition. Called by
 * packers, embedding look-ups and tests on any thread.
 */
#include "quant/quant_internal.h"

#define MAX_GROUPS 8 /* of one block */

static srn__unpack_fn *const unpackers[SRN_TYPE_END] = {
    [SRN_Q1_0] = srn__unpack_q1_0,     [SRN_Q2_0] = srn__unpack_q2_0,     [SRN_Q4_0] = srn__unpack_q4_0,
    [SRN_Q4_1] = srn__unpack_q4_1,     [SRN_Q5_0] = srn__unpack_q5_0,     [SRN_Q5_1] = srn__unpack_q5_1,
    [SRN_Q8_0] = srn__unpack_q8_0,     [SRN_Q2_K] = srn__unpack_q2_k,     [SRN_Q3_K] = srn__unpack_q3_k,
    [SRN_Q4_K] = srn__unpack_q4_k,     [SRN_Q5_K] = srn__unpack_q5_k,     [SRN_Q6_K] = srn__unpack_q6_k,
    [SRN_IQ1_S] = srn__unpack_iq1_s,   [SRN_IQ1_M] = srn__unpack_iq1_m,   [SRN_IQ2_XXS] = srn__unpack_iq2_xxs,
    [SRN_IQ2_XS] = srn__unpack_iq2_xs, [SRN_IQ2_S] = srn__unpack_iq2_s,   [SRN_IQ3_XXS] = srn__unpack_iq3_xxs,
    [SRN_IQ3_S] = srn__unpack_iq3_s,   [SRN_IQ4_NL] = srn__unpack_iq4_nl, [SRN_IQ4_XS] = srn__unpack_iq4_xs,
    [SRN_TQ1_0] = srn__unpack_tq1_0,   [SRN_TQ2_0] = srn__unpack_tq2_0,   [SRN_MXFP4] = srn__unpack_mxfp4,
    [SRN_NVFP4] = srn__unpack_nvfp4,
};

void srn_group_decode(srn_type type, const void *src, srn_group *dst, size_t n) {
    const srn_type_info *t = srn_type_get((uint32_t)type);
    if (!t || t->form <= SRN_FORM_FLOAT) return;
    srn__unpack_fn *unpack = unpackers[type];
    const uint8_t *block = src;
    size_t groups = t->block_elems / 32u;
    memset(dst, 0, n / 32 * sizeof *dst);
    for (size_t i = 0; i < n / t->block_elems; i++) unpack(block + i * t->block_bytes, dst + i * groups);
}

/* The 32 floats of a group. Every product is exact (docs/quant-types.md), the one addition rounds. */
static void group_values(srn_form form, const srn_group *g, float *w) {
    for (int h = 0; h < 2; h++) {
        const int8_t *q = g->q + 16 * h;
        float d = g->d, m = g->m, *out = w + 16 * h;
        if (form == SRN_FORM_SPLIT) d = g->d2[h];
        if (form == SRN_FORM_SUB || form == SRN_FORM_SUB_MIN) d *= (float)g->sc[h];
        if (form == SRN_FORM_SUB_MIN) m *= (float)g->mn[h];
        if (form == SRN_FORM_SCALE_MIN || form == SRN_FORM_SUB_MIN)
            for (int i = 0; i < 16; i++) out[i] = d * (float)q[i] + m;
        else
            for (int i = 0; i < 16; i++) out[i] = d * (float)q[i];
    }
}

static void dequant_blocks(const srn_type_info *t, srn__unpack_fn *unpack, const uint8_t *src, float *dst,
                           size_t n) {
    size_t groups = t->block_elems / 32u;
    for (size_t i = 0; i < n / t->block_elems; i++) {
        srn_group g[MAX_GROUPS] = {0};
        unpack(src + i * t->block_bytes, g);
        for (size_t k = 0; k < groups; k++) group_values(t->form, &g[k], dst + i * t->block_elems + 32 * k);
    }
}

static void dequant_plain(srn_type type, const uint8_t *src, float *dst, size_t n) {
    if (type == SRN_F32) {
        memcpy(dst, src, n * sizeof *dst);
    } else if (type == SRN_F16) {
        for (size_t i = 0; i < n; i++) dst[i] = srn__load_half(src + 2 * i);
    } else if (type == SRN_BF16) {
        for (size_t i = 0; i < n; i++) dst[i] = srn_bf16_to_f32(srn__load16(src + 2 * i));
    } else if (type == SRN_I8) {
        for (size_t i = 0; i < n; i++) dst[i] = (float)(int8_t)src[i];
    } else if (type == SRN_I16) {
        for (size_t i = 0; i < n; i++) dst[i] = (float)(int16_t)srn__load16(src + 2 * i);
    } else if (type == SRN_I32) {
        for (size_t i = 0; i < n; i++) dst[i] = (float)(int32_t)srn__load32(src + 4 * i);
    } else {
        for (size_t i = 0; i < n; i++) {
            uint64_t bits = srn__load32(src + 8 * i) | (uint64_t)srn__load32(src + 8 * i + 4) << 32;
            double wide;
            memcpy(&wide, &bits, 8);
            dst[i] = type == SRN_F64 ? (float)wide : (float)(int64_t)bits;
        }
    }
}

void srn_dequant(srn_type type, const void *src, float *dst, size_t n) {
    const srn_type_info *t = srn_type_get((uint32_t)type);
    if (!t || t->refused) return;
    if (t->form > SRN_FORM_FLOAT)
        dequant_blocks(t, unpackers[type], src, dst, n);
    else
        dequant_plain(type, src, dst, n);
}
