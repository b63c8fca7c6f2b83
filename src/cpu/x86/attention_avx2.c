/* Attention with AVX2; see cpu/simd/attention.h. */
#include "cpu/simd/attention.h"

void srn__kernels_avx2_attention(srn_kernels *k) {
    fill_attention(k);
}
