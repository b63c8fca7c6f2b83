/* Attention with NEON; see cpu/simd/attention.h. */
#include "cpu/simd/attention.h"

void srn__kernels_neon_attention(srn_kernels *k) {
    fill_attention(k);
}
