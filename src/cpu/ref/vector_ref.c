/* The C reference of the vector operations: docs/numerics.md in code, one element at a time. Every SIMD form
 * equals it to the bit. Called through the kernel table, on any thread; n and sizes were checked before.
 */
#include "cpu/cpu_internal.h"

static void rms_norm(const float *x, const float *weight, float eps, uint32_t n, float *y) {
    float partial[16] = {0};
    for (uint32_t i = 0; i < n; i++) partial[i % 16] = fmaf(x[i], x[i], partial[i % 16]);
    float mean = srn_tree16(partial) / (float)n;
    float r = 1.0f / sqrtf(mean + eps);
    for (uint32_t i = 0; i < n; i++) y[i] = x[i] * r * weight[i];
}

static void add(float *y, const float *x, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) y[i] = y[i] + x[i];
}

static void act_mul(srn_act_kind kind, const float *gate, const float *up, uint32_t n, float *y) {
    if (kind == SRN_ACT_SILU)
        for (uint32_t i = 0; i < n; i++) y[i] = srn_siluf(gate[i]) * up[i];
    else
        for (uint32_t i = 0; i < n; i++) y[i] = srn_geluf(gate[i]) * up[i];
}

static void rope(float *x, const float *cos, const float *sin, uint32_t n_rot, bool neox) {
    uint32_t half = n_rot / 2, step = neox ? 1 : 2, apart = neox ? half : 1;
    for (uint32_t i = 0; i < half; i++) {
        float *pa = x + (size_t)i * step, *pb = pa + apart;
        float a = *pa, b = *pb;
        *pa = fmaf(a, cos[i], -(b * sin[i]));
        *pb = fmaf(a, sin[i], b * cos[i]);
    }
}

static bool all_finite(const float *x, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (!srn_is_finite(x[i])) return false;
    return true;
}

static uint16_t cache_f16(float x) {
    x = x < 65504.0f ? x : 65504.0f;
    x = x > -65504.0f ? x : -65504.0f;
    return srn_f32_to_f16(x);
}

/* One head's values x[d], as scales scale_step apart and codes: group g's at codes + g*group_step, code_step
 * apart. */
static void store_q8(const float *x, uint32_t d, uint16_t *scales, size_t scale_step, int8_t *codes,
                     size_t group_step, size_t code_step) {
    for (uint32_t i = 0; i < d; i += SRN_KV_GROUP) {
        uint32_t n = SRN_MIN(d - i, SRN_KV_GROUP), g = i / SRN_KV_GROUP;
        float amax = 0;
        for (uint32_t l = 0; l < n; l++) amax = fabsf(x[i + l]) > amax ? fabsf(x[i + l]) : amax;
        uint16_t bits = srn__q8_scale_bits(amax);
        float scale = srn__q8_scale(bits);
        scales[g * scale_step] = bits;
        for (uint32_t l = 0; l < n; l++) /* adding and subtracting rounds, ties to even */
            codes[g * group_step + l * code_step] =
                (int8_t)(bits ? x[i + l] / scale + 0x1.8p23f - 0x1.8p23f : 0.0f);
    }
}

static void kv_store_q8(const float *k, const float *v, uint32_t d_k, uint32_t d_v, uint32_t pos,
                        uint8_t *k_block, uint8_t *v_block) {
    k_block += pos / 16 * srn__q8_piece_bytes(d_k);
    v_block += pos / 16 * srn__q8_piece_bytes(d_v);
    pos %= 16;
    size_t step = srn__q8_k_group(1);
    store_q8(k, d_k, (uint16_t *)(void *)k_block + pos, step / 2, (int8_t *)k_block + 32 + pos, step, 16);
    store_q8(v, d_v, (uint16_t *)(void *)v_block + pos, 16,
             (int8_t *)v_block + srn__q8_groups(d_v) * 32 + (size_t)pos * d_v, SRN_KV_GROUP, 1);
}

/* Writes nothing when it returns false: the cache never holds an infinity or a NaN. */
static bool kv_store(srn_kv_type type, const float *k, const float *v, uint32_t d_k, uint32_t d_v,
                     uint32_t pos, void *k_block, void *v_block) {
    if (!all_finite(k, d_k) || !all_finite(v, d_v)) return false;
    if (type == SRN_KV_Q8_0) return kv_store_q8(k, v, d_k, d_v, pos, k_block, v_block), true;
    size_t k_at = (size_t)(pos / 16) * d_k * 16 + pos % 16, v_at = (size_t)pos * d_v;
    if (type == SRN_KV_F16) {
        uint16_t *kb = (uint16_t *)k_block + k_at, *vb = (uint16_t *)v_block + v_at;
        for (uint32_t d = 0; d < d_k; d++) kb[(size_t)d * 16] = cache_f16(k[d]);
        for (uint32_t d = 0; d < d_v; d++) vb[d] = cache_f16(v[d]);
    } else {
        float *kb = (float *)k_block + k_at, *vb = (float *)v_block + v_at;
        for (uint32_t d = 0; d < d_k; d++) kb[(size_t)d * 16] = k[d];
        for (uint32_t d = 0; d < d_v; d++) vb[d] = v[d];
    }
    return true;
}

void srn__kernels_ref_vector(srn_kernels *k) {
    k->all_finite = all_finite;
    k->rms_norm = rms_norm;
    k->add = add;
    k->act_mul = act_mul;
    k->rope = rope;
    k->kv_store = kv_store;
}
