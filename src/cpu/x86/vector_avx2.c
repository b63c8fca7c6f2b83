/* The vector operations for AVX2; see vector_x86.h. */
#include "cpu/x86/vector_x86.h"

void srn__kernels_avx2_vector(srn_kernels *k) {
    fill_vector(k);
    k->attn_scratch_bytes = srn__attn_scratch_bytes_x86;
    k->attention = srn__attention_avx2;
    k->attn_merge = srn__attn_merge_avx2;
}
