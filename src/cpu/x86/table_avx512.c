/* The kernel table for AVX512: what it has over the level below. */
#include "cpu/cpu_internal.h"

void srn__kernels_avx512(srn_kernels *k) {
    k->name = "avx512";
    srn__kernels_avx512_vector(k);
}
