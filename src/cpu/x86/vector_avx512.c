/* The vector operations for AVX512; see cpu/simd/vector.h. */
#include "cpu/simd/vector.h"

void srn__kernels_avx512_vector(srn_kernels *k) {
    fill_vector(k);
    k->attn_scratch_bytes = srn__attn_scratch_bytes_simd;
    k->attention = srn__attention_avx512;
    k->attn_merge = srn__attn_merge_avx512;
}
