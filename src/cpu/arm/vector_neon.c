/* The vector operations for arm64; see cpu/simd/vector.h. */
#include "cpu/simd/vector.h"

void srn__kernels_neon_vector(srn_kernels *k) {
    fill_vector(k);
    k->attn_scratch_bytes = srn__attn_scratch_bytes_simd;
    k->attention = srn__attention_neon;
    k->attn_merge = srn__attn_merge_neon;
}
