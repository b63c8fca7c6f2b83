/* The C reference of attention: one query, one head, one segment of 256 positions after another
 * (docs/numerics.md, "Attention"). SIMD forms equal it to the bit. Called through the kernel table, on any
 * thread.
 */
#include "cpu/cpu_internal.h"

static size_t attn_scratch_bytes(uint32_t d_k, uint32_t d_v) {
    (void)d_k;
    return 2 * (size_t)d_v * sizeof(float); /* o of a segment, o of all segments so far */
}

static float cache_value(srn_kv_type type, const uint8_t *base, size_t index) {
    if (type == SRN_KV_F32) return ((const float *)(const void *)base)[index];
    return srn_f16_to_f32(((const uint16_t *)(const void *)base)[index]);
}

static float q8_value(const uint8_t *scale, const uint8_t *code) {
    return srn__q8_scale(*(const uint16_t *)(const void *)scale) * (float)*(const int8_t *)code;
}

/* Dimension d of the key at position `at` of a block of K. */
static float key(const srn_attn *a, const uint8_t *block, uint32_t at, uint32_t d) {
    if (a->kv_type != SRN_KV_Q8_0)
        return cache_value(a->kv_type, block, ((size_t)(at / 16) * a->d_k + d) * 16 + at % 16);
    const uint8_t *group = block + at / 16 * srn__q8_piece_bytes(a->d_k) + srn__q8_k_group(d / SRN_KV_GROUP);
    return q8_value(group + at % 16 * 2, group + 32 + (size_t)(d % SRN_KV_GROUP) * 16 + at % 16);
}

/* Dimension d of the value at position `at` of a block of V. */
static float value(const srn_attn *a, const uint8_t *block, uint32_t at, uint32_t d) {
    if (a->kv_type != SRN_KV_Q8_0) return cache_value(a->kv_type, block, (size_t)at * a->d_v + d);
    const uint8_t *piece = block + at / 16 * srn__q8_piece_bytes(a->d_v);
    return q8_value(piece + (d / SRN_KV_GROUP * 16 + at % 16) * 2,
                    piece + srn__q8_groups(a->d_v) * 32 + (size_t)(at % 16) * a->d_v + d);
}

/* The score of query q at position pos; false when it is not finite. */
static bool score(const srn_attn *a, const float *q, uint32_t pos, float *ret) {
    const uint8_t *block = a->k + a->blocks[pos / a->block_len] * a->k_block_stride;
    uint32_t at = pos % a->block_len;
    float dot = 0;
    for (uint32_t d = 0; d < a->d_k; d++) dot = fmaf(q[d], key(a, block, at, d), dot);
    float s = dot * a->scale;
    if (!srn_is_finite(s)) return false;
    if (a->softcap > 0) s = a->softcap * srn_tanhf(s / a->softcap);
    *ret = s;
    return true;
}

/* Positions [begin, end), all of one segment: their greatest score, the sum of exp(s - max) and, in o[d_v],
 * the sum of exp(s - max) * v. */
static bool segment(const srn_attn *a, const float *q, uint32_t begin, uint32_t end, float *ret_max,
                    float *ret_sum, float *o) {
    float p[SRN_SEGMENT], partial[16] = {0}, m;
    if (!score(a, q, begin, &m)) return false;
    p[0] = m;
    for (uint32_t j = begin + 1; j < end; j++) {
        if (!score(a, q, j, &p[j - begin])) return false;
        if (p[j - begin] > m) m = p[j - begin];
    }
    for (uint32_t d = 0; d < a->d_v; d++) o[d] = 0;
    for (uint32_t j = begin; j < end; j++) {
        float e = srn_expf(p[j - begin] - m);
        partial[j % 16] = partial[j % 16] + e;
        const uint8_t *block = a->v + a->blocks[j / a->block_len] * a->v_block_stride;
        for (uint32_t d = 0; d < a->d_v; d++) o[d] = fmaf(e, value(a, block, j % a->block_len, d), o[d]);
    }
    *ret_max = m;
    *ret_sum = srn_tree16(partial);
    return true;
}

/* Joins a segment's result to that of the segments before it. */
static void merge(uint32_t d_v, float *max, float *sum, float *o, float m, float s, const float *o_seg) {
    float top = m > *max ? m : *max;
    float keep = srn_expf(*max - top), take = srn_expf(m - top);
    *sum = fmaf(s, take, *sum * keep);
    for (uint32_t d = 0; d < d_v; d++) o[d] = fmaf(o_seg[d], take, o[d] * keep);
    *max = top;
}

/* Query i of one head, into out[d_v]. o and o_seg have d_v floats. */
static bool one_query(const srn_attn *a, uint32_t i, const float *q, float *out, float *o, float *o_seg) {
    uint32_t end = a->n_past + i + 1;
    uint32_t begin = a->window && end > a->window ? end - a->window : 0;
    float max = 0, sum = 0;
    for (uint32_t from = begin, to; from < end; from = to) {
        to = SRN_MIN(from / SRN_SEGMENT * SRN_SEGMENT + SRN_SEGMENT, end);
        float m, s;
        if (from == begin) {
            if (!segment(a, q, from, to, &max, &sum, o)) return false;
            continue;
        }
        if (!segment(a, q, from, to, &m, &s, o_seg)) return false;
        merge(a->d_v, &max, &sum, o, m, s, o_seg);
    }
    for (uint32_t d = 0; d < a->d_v; d++) out[d] = o[d] / sum;
    return true;
}

/* The records of one query and head. */
static bool one_query_in_parts(const srn_attn *a, uint32_t i, const float *q, float *record) {
    uint32_t end = a->n_past + i + 1;
    uint32_t begin = a->window && end > a->window ? end - a->window : 0;
    for (uint32_t s = a->seg0; s < a->seg1; s++, record += a->part_stride) {
        uint32_t from = SRN_MAX(s * SRN_SEGMENT, begin), to = SRN_MIN((s + 1) * SRN_SEGMENT, end);
        float *max = record + srn_align_up(a->d_v, 16), *sum = max + 1;
        *sum = 0;
        if (from < to && !segment(a, q, from, to, max, sum, record)) return false;
    }
    return true;
}

static void attn_merge(uint32_t d_v, uint32_t n, float *part, size_t part_stride, float *out) {
    size_t at_max = srn_align_up(d_v, 16);
    float *o = NULL;
    for (; n > 0; n--, part += part_stride) {
        if (part[at_max + 1] == 0) continue;
        if (o)
            merge(d_v, &o[at_max], &o[at_max + 1], o, part[at_max], part[at_max + 1], part);
        else
            o = part;
    }
    for (uint32_t d = 0; o && d < d_v; d++) out[d] = o[d] / o[at_max + 1];
}

static bool attention(const srn_attn *a, void *scratch) {
    float *o = scratch, *o_seg = o + a->d_v;
    for (uint32_t i = 0; i < a->n_queries && a->part; i++)
        for (uint32_t h = 0; h < a->n_heads; h++)
            if (!one_query_in_parts(a, i, a->q + i * a->q_stride + (size_t)h * a->d_k,
                                    a->part + (i * a->n_heads + h) * srn__attn_record(a->d_v)))
                return false;
    if (a->part) return true;
    for (uint32_t i = 0; i < a->n_queries; i++)
        for (uint32_t h = 0; h < a->n_heads; h++)
            if (!one_query(a, i, a->q + i * a->q_stride + (size_t)h * a->d_k,
                           a->out + i * a->out_stride + (size_t)h * a->d_v, o, o_seg))
                return false;
    return true;
}

void srn__kernels_ref_attention(srn_kernels *k) {
    k->attn_scratch_bytes = attn_scratch_bytes;
    k->attention = attention;
    k->attn_merge = attn_merge;
}
