/* The vector operations for arm64; see cpu/x86/vector_x86.h. */
#include "cpu/x86/vector_x86.h"

void srn__kernels_neon_vector(srn_kernels *k) {
    fill_vector(k);
    k->attn_scratch_bytes = srn__attn_scratch_bytes_x86;
    k->attention = srn__attention_neon;
    k->attn_merge = srn__attn_merge_neon;
}
