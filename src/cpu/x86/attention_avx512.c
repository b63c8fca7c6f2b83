/* Attention with AVX-512; see cpu/simd/attention.h. */
#include "cpu/simd/attention.h"

void srn__kernels_avx512_attention(srn_kernels *k) {
    fill_attention(k);
}
