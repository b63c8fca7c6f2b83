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

const srn__row_ops srn__row_avx2 = {maxima, mask, add_exp, weights, weight_sum};
