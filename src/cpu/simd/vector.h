/* The vector operations in v16 operations: docs/numerics.md, equal to src/cpu/ref/vector_ref.c to the bit.
 * Included once by each ISA's vector file, whose fill function takes the static functions below. Any thread;
 * sizes were checked when the model was loaded.
 */
#ifndef SRN_CPU_SIMD_VECTOR_H
#define SRN_CPU_SIMD_VECTOR_H

#include "cpu/simd/v16.h"

static void rms_norm(const float *x, const float *weight, float eps, uint32_t n, float *y) {
    uint32_t whole = n & ~15u, rest = n % 16;
    v16 squares = v16_set1(0.0f);
    for (uint32_t i = 0; i < whole; i += 16) {
        v16 a = v16_load(x + i);
        squares = v16_fma(a, a, squares);
    }
    if (rest) { /* lanes without an element add +0 to a sum that is not -0 */
        v16 a = v16_load_part(x + whole, rest);
        squares = v16_fma(a, a, squares);
    }
    float r = 1.0f / sqrtf(v16_tree(squares) / (float)n + eps);
    v16 rv = v16_set1(r);
    for (uint32_t i = 0; i < whole; i += 16)
        v16_store(y + i, v16_mul(v16_mul(v16_load(x + i), rv), v16_load(weight + i)));
    for (uint32_t i = whole; i < n; i++) y[i] = x[i] * r * weight[i];
}

static void add(float *y, const float *x, uint32_t n) {
    uint32_t whole = n & ~15u;
    for (uint32_t i = 0; i < whole; i += 16) v16_store(y + i, v16_add(v16_load(y + i), v16_load(x + i)));
    for (uint32_t i = whole; i < n; i++) y[i] = y[i] + x[i];
}

/* y = act(gate) * up of n vectors from i on; their exponentials together (v16_exps). */
V16_FN void act_mul_some(bool silu, uint32_t n, const float *gate, const float *up, float *y) {
    v16 x[V16_EXPS], e[V16_EXPS], one = v16_set1(1.0f);
    V16_UNROLL for (uint32_t i = 0; i < n; i++) x[i] = v16_load(gate + i * 16);
    V16_UNROLL for (uint32_t i = 0; i < n; i++) {
        v16 cubic = v16_mul(v16_mul(v16_set1(SRN_GELU_B), x[i]), x[i]);
        e[i] = silu ? v16_neg(x[i]) : v16_mul(v16_set1(SRN_GELU_A), v16_fma(cubic, x[i], x[i]));
    }
    v16_exps(e, n);
    V16_UNROLL for (uint32_t i = 0; i < n; i++)
        v16_store(y + i * 16, v16_mul(v16_div(x[i], v16_add(one, e[i])), v16_load(up + i * 16)));
}

V16_FN void act_mul_of(bool silu, const float *gate, const float *up, uint32_t n, float *y) {
    uint32_t i = 0, rest = n % 16;
    for (; i + 16 * V16_EXPS <= n; i += 16 * V16_EXPS) act_mul_some(silu, V16_EXPS, gate + i, up + i, y + i);
    for (; i + 16 <= n; i += 16) act_mul_some(silu, 1, gate + i, up + i, y + i);
    if (rest) {
        float g[16], u[16];
        v16_store(g, v16_load_part(gate + i, rest));
        v16_store(u, v16_load_part(up + i, rest));
        act_mul_some(silu, 1, g, u, g);
        memcpy(y + i, g, rest * sizeof *y);
    }
}

static void act_mul(srn_act_kind kind, const float *gate, const float *up, uint32_t n, float *y) {
    if (kind == SRN_ACT_SILU)
        act_mul_of(true, gate, up, n, y);
    else
        act_mul_of(false, gate, up, n, y);
}

static void rope_pair(float *pa, float *pb, float c, float s) {
    float a = *pa, b = *pb;
    *pa = fmaf(a, c, -(b * s));
    *pb = fmaf(a, s, b * c);
}

/* Pairs (i, i + half). */
static void rope_apart(float *x, const float *cos, const float *sin, uint32_t half) {
    uint32_t whole = half & ~15u;
    for (uint32_t i = 0; i < whole; i += 16) {
        v16 a = v16_load(x + i), b = v16_load(x + half + i), c = v16_load(cos + i), s = v16_load(sin + i);
        v16_store(x + i, v16_fms(a, c, v16_mul(b, s)));
        v16_store(x + half + i, v16_fma(a, s, v16_mul(b, c)));
    }
    for (uint32_t i = whole; i < half; i++) rope_pair(x + i, x + half + i, cos[i], sin[i]);
}

/* Pairs (2i, 2i+1), four at a time: even lanes become a*c - b*s, odd lanes a*s + b*c. */
V16_FN void rope_four(float *x, const float *cos, const float *sin) {
#if defined(__aarch64__)
    float32x4x2_t ab = vld2q_f32(x), r;
    float32x4_t c = vld1q_f32(cos), s = vld1q_f32(sin);
    r.val[0] = vfmaq_f32(vnegq_f32(vmulq_f32(ab.val[1], s)), ab.val[0], c);
    r.val[1] = vfmaq_f32(vmulq_f32(ab.val[1], c), ab.val[0], s);
    vst2q_f32(x, r);
#else
    __m128 c = _mm_loadu_ps(cos), s = _mm_loadu_ps(sin);
    __m256 cs = _mm256_set_m128(_mm_unpackhi_ps(c, s), _mm_unpacklo_ps(c, s));
    __m256 sc = _mm256_permute_ps(cs, 0xb1), ab = _mm256_loadu_ps(x);
    __m256 a = _mm256_moveldup_ps(ab), b = _mm256_movehdup_ps(ab);
    _mm256_storeu_ps(x, _mm256_fmaddsub_ps(a, cs, _mm256_mul_ps(b, sc)));
#endif
}

static void rope_adjacent(float *x, const float *cos, const float *sin, uint32_t half) {
    uint32_t whole = half & ~3u;
    for (uint32_t i = 0; i < whole; i += 4) rope_four(x + 2 * (size_t)i, cos + i, sin + i);
    for (uint32_t i = whole; i < half; i++)
        rope_pair(x + 2 * (size_t)i, x + 2 * (size_t)i + 1, cos[i], sin[i]);
}

static void rope(float *x, const float *cos, const float *sin, uint32_t n_rot, bool neox) {
    if (neox)
        rope_apart(x, cos, sin, n_rot / 2);
    else
        rope_adjacent(x, cos, sin, n_rot / 2);
}

static bool all_finite(const float *x, uint32_t n) {
    uint32_t whole = n & ~15u, rest = n % 16;
    unsigned bad = 0;
    for (uint32_t i = 0; i < whole; i += 16) bad |= v16_not_finite(v16_load(x + i));
    if (rest) bad |= v16_not_finite(v16_load_part(x + whole, rest));
    return bad == 0;
}

/* Clamps and rounds n <= 16 values to f16. */
V16_FN void to_cache_f16(const float *x, uint32_t n, uint16_t out[16]) {
    v16 a = n == 16 ? v16_load(x) : v16_load_part(x, n);
    v16_store_f16(out, v16_max(v16_min(a, v16_set1(65504.0f)), v16_set1(-65504.0f)));
}

/* One group of n <= 32 values: its scale's bits, and its codes. */
V16_FN uint16_t to_cache_q8(const float *x, uint32_t n, int8_t codes[SRN_KV_GROUP]) {
    v16 a = n >= 16 ? v16_load(x) : v16_load_part(x, n);
    v16 b = n == 32 ? v16_load(x + 16) : n > 16 ? v16_load_part(x + 16, n - 16) : v16_set1(0.0f);
    uint16_t bits = srn__q8_scale_bits(v16_greatest(v16_max(v16_abs(a), v16_abs(b))));
    v16 scale = v16_set1(bits ? srn__q8_scale(bits) : 1.0f); /* below 2^-100 a code rounds to 0 */
    v16_store_i8(codes, v16_div(a, scale));
    v16_store_i8(codes + 16, v16_div(b, scale));
    return bits;
}

static void kv_store_q8(const float *k, const float *v, uint32_t d_k, uint32_t d_v, uint32_t pos,
                        uint8_t *k_block, uint8_t *v_block) {
    int8_t c[SRN_KV_GROUP];
    k_block += pos / 16 * srn__q8_piece_bytes(d_k);
    v_block += pos / 16 * srn__q8_piece_bytes(d_v);
    pos %= 16;
    for (uint32_t d = 0; d < d_k; d += SRN_KV_GROUP, k_block += srn__q8_k_group(1)) {
        uint32_t n = SRN_MIN(d_k - d, SRN_KV_GROUP);
        ((uint16_t *)(void *)k_block)[pos] = to_cache_q8(k + d, n, c);
        for (uint32_t l = 0; l < n; l++) k_block[32 + l * 16 + pos] = (uint8_t)c[l];
    }
    uint8_t *codes = v_block + srn__q8_groups(d_v) * 32 + (size_t)pos * d_v;
    for (uint32_t d = 0; d < d_v; d += SRN_KV_GROUP) {
        uint32_t n = SRN_MIN(d_v - d, SRN_KV_GROUP);
        ((uint16_t *)(void *)v_block)[d / SRN_KV_GROUP * 16 + pos] = to_cache_q8(v + d, n, c);
        memcpy(codes + d, c, n);
    }
}

static bool kv_store(srn_kv_type type, const float *k, const float *v, uint32_t d_k, uint32_t d_v,
                     uint32_t pos, void *k_block, void *v_block) {
    if (!all_finite(k, d_k) || !all_finite(v, d_v)) return false;
    if (type == SRN_KV_Q8_0) return kv_store_q8(k, v, d_k, d_v, pos, k_block, v_block), true;
    size_t k_at = (size_t)(pos / 16) * d_k * 16 + pos % 16, v_at = (size_t)pos * d_v;
    if (type == SRN_KV_F32) {
        float *kb = (float *)k_block + k_at, *vb = (float *)v_block + v_at;
        for (uint32_t d = 0; d < d_k; d++) kb[(size_t)d * 16] = k[d];
        memcpy(vb, v, d_v * sizeof *v);
        return true;
    }
    uint16_t *kb = (uint16_t *)k_block + k_at, *vb = (uint16_t *)v_block + v_at, h[16];
    for (uint32_t d = 0; d < d_k; d += 16) {
        uint32_t n = SRN_MIN(d_k - d, 16);
        to_cache_f16(k + d, n, h);
        for (uint32_t l = 0; l < n; l++) kb[(size_t)(d + l) * 16] = h[l];
    }
    for (uint32_t d = 0; d < d_v; d += 16) {
        uint32_t n = SRN_MIN(d_v - d, 16);
        to_cache_f16(v + d, n, h);
        memcpy(vb + d, h, n * sizeof *h);
    }
    return true;
}

V16_FN void fill_vector(srn_kernels *k) {
    k->all_finite = all_finite;
    k->rms_norm = rms_norm;
    k->add = add;
    k->act_mul = act_mul;
    k->rope = rope;
    k->kv_store = kv_store;
}

#endif
