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

/* Writes nothing when it returns false: the cache never holds an infinity or a NaN. */
static bool kv_store(srn_kv_type type, const float *k, const float *v, uint32_t d_k, uint32_t d_v,
                     uint32_t pos, void *k_block, void *v_block) {
    if (!all_finite(k, d_k) || !all_finite(v, d_v)) return false;
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
    k->rms_norm = rms_norm;
    k->add = add;
    k->act_mul = act_mul;
    k->rope = rope;
    k->kv_store = kv_store;
    k->attn_scratch_bytes = srn__attn_scratch_bytes_ref;
    k->attention = srn__attention_ref;
}
