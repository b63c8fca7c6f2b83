/* Passes over a row of logits with AVX2 and FMA: eight of the reference's lanes at a time, the same
 * operations in the same order. Reached only through srn__row, which has checked the CPU.
 */
#include <immintrin.h>

#include "base/x86/exp.h"
#include "engine/sampler_internal.h"

static float greatest_lane(__m256 v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

static float maxima(const float *x, uint32_t n, float *ret) {
    const __m256 none = _mm256_set1_ps(SRN__BANNED);
    float all = SRN__BANNED;
    uint32_t whole = n / SRN__ROW_BLOCK;
    for (uint32_t b = 0; b < whole; b++) {
        const float *p = x + (size_t)b * SRN__ROW_BLOCK;
        __m256 m0 = none, m1 = none;
        for (uint32_t i = 0; i < SRN__ROW_BLOCK; i += 16) {
            m0 = _mm256_max_ps(_mm256_loadu_ps(p + i), m0);
            m1 = _mm256_max_ps(_mm256_loadu_ps(p + i + 8), m1);
        }
        ret[b] = greatest_lane(_mm256_max_ps(m0, m1));
        all = ret[b] > all ? ret[b] : all;
    }
    uint32_t done = whole * SRN__ROW_BLOCK;
    if (done == n) return all;
    float last = srn__row_ref.maxima(x + done, n - done, ret + whole);
    return last > all ? last : all;
}

static void mask(const float *x, uint32_t n, const uint64_t *allowed, float *ret) {
    const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256 banned = _mm256_set1_ps(SRN__BANNED);
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i byte = _mm256_set1_epi32((int)(allowed[i / 64] >> (i % 64) & 0xff));
        __m256 on = _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(byte, bits), bits));
        _mm256_storeu_ps(ret + i, _mm256_blendv_ps(banned, _mm256_loadu_ps(x + i), on));
    }
    for (; i < n; i++) ret[i] = allowed[i / 64] >> (i % 64) & 1 ? x[i] : SRN__BANNED;
}

static void add_exp(const float *x, uint32_t n, float max, float p[16]) {
    const __m256 top = _mm256_set1_ps(max);
    __m256 p0 = _mm256_loadu_ps(p), p1 = _mm256_loadu_ps(p + 8);
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        p0 = _mm256_add_ps(p0, srn_exp8(_mm256_sub_ps(_mm256_loadu_ps(x + i), top)));
        p1 = _mm256_add_ps(p1, srn_exp8(_mm256_sub_ps(_mm256_loadu_ps(x + i + 8), top)));
    }
    _mm256_storeu_ps(p, p0);
    _mm256_storeu_ps(p + 8, p1);
    if (i < n) srn__row_ref.add_exp(x + i, n - i, max, p);
}

static void weights(float *x, uint32_t n, float max, float temperature, float *w) {
    const __m256 top = _mm256_set1_ps(max), t = _mm256_set1_ps(temperature);
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_div_ps(_mm256_sub_ps(_mm256_loadu_ps(x + i), top), t);
        _mm256_storeu_ps(x + i, v);
        _mm256_storeu_ps(w + i, srn_exp8(v));
    }
    if (i < n) srn__row_ref.weights(x + i, n - i, max, temperature, w + i);
}

static float sum_of_lanes(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static double weight_sum(const float *x, uint32_t n, float max, float temperature,
                         const float bounds[SRN__BANDS], float ret_bands[SRN__BANDS]) {
    const __m256 top = _mm256_set1_ps(max), t = _mm256_set1_ps(temperature),
                 none = _mm256_set1_ps(SRN__BANNED);
    __m256d low = _mm256_setzero_pd(), high = low;
    __m256 bands[SRN__BANDS];
    for (int j = 0; j < SRN__BANDS; j++) bands[j] = _mm256_setzero_ps();
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        __m256 w = srn_exp8(_mm256_div_ps(_mm256_sub_ps(v, top), t));
        w = _mm256_and_ps(w, _mm256_cmp_ps(v, none, _CMP_GT_OQ));
        low = _mm256_add_pd(low, _mm256_cvtps_pd(_mm256_castps256_ps128(w)));
        high = _mm256_add_pd(high, _mm256_cvtps_pd(_mm256_extractf128_ps(w, 1)));
        for (int j = 0; j < SRN__BANDS; j++) {
            __m256 in = _mm256_cmp_ps(v, _mm256_set1_ps(bounds[j]), _CMP_GE_OQ);
            bands[j] = _mm256_add_ps(bands[j], _mm256_and_ps(w, in));
        }
    }
    double lanes[4], sum = srn__row_ref.weight_sum(x + i, n - i, max, temperature, bounds, ret_bands);
    _mm256_storeu_pd(lanes, _mm256_add_pd(low, high));
    for (int l = 0; l < 4; l++) sum += lanes[l];
    for (int j = 0; j < SRN__BANDS; j++) ret_bands[j] += sum_of_lanes(bands[j]);
    return sum;
}

/* srn_logf of eight lanes, none of which is negative. */
static inline __m256 log8(__m256 x) {
    const __m256 one = _mm256_set1_ps(1.0f);
    __m256i u = _mm256_castps_si256(x), bits = _mm256_and_si256(u, _mm256_set1_epi32(0x007fffff));
    __m256 n = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_srli_epi32(u, 23), _mm256_set1_epi32(127)));
    __m256 m = _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_castps_si256(one)));
    __m256 above = _mm256_cmp_ps(m, _mm256_set1_ps(SRN_LOG_SQRT2), _CMP_GT_OQ);
    n = _mm256_add_ps(n, _mm256_and_ps(above, one));
    m = _mm256_mul_ps(m, _mm256_blendv_ps(one, _mm256_set1_ps(0.5f), above));
    __m256 z = _mm256_div_ps(_mm256_sub_ps(m, one), _mm256_add_ps(m, one)), z2 = _mm256_mul_ps(z, z);
    __m256 s = _mm256_fmadd_ps(_mm256_set1_ps(SRN_LOG_C9), z2, _mm256_set1_ps(SRN_LOG_C7));
    s = _mm256_fmadd_ps(s, z2, _mm256_set1_ps(SRN_LOG_C5));
    s = _mm256_fmadd_ps(s, z2, _mm256_set1_ps(SRN_LOG_C3));
    __m256 two = _mm256_add_ps(z, z), log_m = _mm256_fmadd_ps(_mm256_mul_ps(two, z2), s, two);
    return _mm256_fmadd_ps(n, _mm256_set1_ps(SRN_EXP_LN2_HI),
                           _mm256_fmadd_ps(n, _mm256_set1_ps(SRN_EXP_LN2_LO), log_m));
}

/* js_part (compare.c) of eight lanes. */
static inline __m256 js8(__m256 p, __m256 q) {
    const __m256 one = _mm256_set1_ps(1.0f), half = _mm256_set1_ps(0.5f);
    __m256 s = _mm256_max_ps(_mm256_add_ps(p, q), _mm256_set1_ps(SRN__LEAST_MASS));
    __m256 u = _mm256_div_ps(_mm256_sub_ps(p, q), s), v = _mm256_mul_ps(u, u);
    __m256 near = _mm256_fmadd_ps(_mm256_set1_ps(SRN__JS_C5), v, _mm256_set1_ps(SRN__JS_C4));
    near = _mm256_fmadd_ps(near, v, _mm256_set1_ps(SRN__JS_C3));
    near = _mm256_fmadd_ps(near, v, _mm256_set1_ps(SRN__JS_C2));
    near = _mm256_fmadd_ps(near, v, half);
    __m256 g = _mm256_mul_ps(near, v), far = _mm256_cmp_ps(v, _mm256_set1_ps(SRN__JS_FAR), _CMP_GE_OQ);
    if (_mm256_movemask_ps(far)) {
        __m256 x = _mm256_add_ps(one, u), y = _mm256_sub_ps(one, u);
        __m256 logs = _mm256_fmadd_ps(x, log8(x), _mm256_mul_ps(y, log8(y)));
        g = _mm256_blendv_ps(g, _mm256_mul_ps(half, logs), far);
    }
    return _mm256_mul_ps(_mm256_mul_ps(half, s), g);
}

/* Four lanes of p (log p - log q), added. */
static inline __m256d kl4(__m256d kl, __m128 p, __m128 a, __m128 b, __m256d shift) {
    __m256d d = _mm256_sub_pd(_mm256_sub_pd(_mm256_cvtps_pd(a), _mm256_cvtps_pd(b)), shift);
    return _mm256_fmadd_pd(_mm256_cvtps_pd(p), d, kl);
}

static void compare(const srn__row_pair *pair, const float *a, const float *b, uint32_t n, float js[16],
                    double kl[16]) {
    const __m256 max_a = _mm256_set1_ps(pair->max[0]), max_b = _mm256_set1_ps(pair->max[1]);
    const __m256 scale_a = _mm256_set1_ps(pair->scale[0]), scale_b = _mm256_set1_ps(pair->scale[1]);
    const __m256d shift = _mm256_set1_pd(pair->shift);
    __m256 j[2] = {_mm256_loadu_ps(js), _mm256_loadu_ps(js + 8)};
    __m256d k[4];
    for (int l = 0; l < 4; l++) k[l] = _mm256_loadu_pd(kl + 4 * l);
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256 x[2] = {_mm256_loadu_ps(a + i), _mm256_loadu_ps(a + i + 8)};
        __m256 y[2] = {_mm256_loadu_ps(b + i), _mm256_loadu_ps(b + i + 8)};
        __m256 e[4] = {_mm256_sub_ps(x[0], max_a), _mm256_sub_ps(x[1], max_a), _mm256_sub_ps(y[0], max_b),
                       _mm256_sub_ps(y[1], max_b)};
        srn_exp8s(e, 4);
        for (int l = 0; l < 2; l++) {
            __m256 p = _mm256_mul_ps(e[l], scale_a), q = _mm256_mul_ps(e[l + 2], scale_b);
            j[l] = _mm256_add_ps(j[l], js8(p, q));
            k[2 * l] = kl4(k[2 * l], _mm256_castps256_ps128(p), _mm256_castps256_ps128(x[l]),
                           _mm256_castps256_ps128(y[l]), shift);
            k[2 * l + 1] = kl4(k[2 * l + 1], _mm256_extractf128_ps(p, 1), _mm256_extractf128_ps(x[l], 1),
                               _mm256_extractf128_ps(y[l], 1), shift);
        }
    }
    _mm256_storeu_ps(js, j[0]);
    _mm256_storeu_ps(js + 8, j[1]);
    for (int l = 0; l < 4; l++) _mm256_storeu_pd(kl + 4 * l, k[l]);
    if (i < n) srn__row_ref.compare(pair, a + i, b + i, n - i, js, kl);
}

const srn__row_ops srn__row_avx2 = {maxima, mask, add_exp, weights, weight_sum, compare};
