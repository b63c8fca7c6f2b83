/* The kernel table for AVX2: what it has over the level below. */
#include "cpu/cpu_internal.h"

void srn__kernels_avx2(srn_kernels *k) {
    k->name = "avx2";
    srn__kernels_avx2_matmul(k);
    srn__kernels_avx2_vector(k);
}
