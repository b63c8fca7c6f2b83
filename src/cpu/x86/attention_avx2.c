/* Attention for AVX2; see cpu/simd/attention.h. */
#include "cpu/simd/attention.h"

bool srn__attention_avx2(const srn_attn *a, void *scratch) {
    return attention(a, scratch);
}

void srn__attn_merge_avx2(uint32_t d_v, uint32_t n, float *part, size_t part_stride, float *out) {
    attn_merge(d_v, n, part, part_stride, out);
}
