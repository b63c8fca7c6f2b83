/* Attention for AVX512; see attention_x86.h. */
#include "cpu/x86/attention_x86.h"

bool srn__attention_avx512(const srn_attn *a, void *scratch) {
    return attention(a, scratch);
}
