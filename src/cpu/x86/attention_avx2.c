/* Attention for AVX2; see attention_x86.h. */
#include "cpu/x86/attention_x86.h"

bool srn__attention_avx2(const srn_attn *a, void *scratch) {
    return attention(a, scratch);
}
