/* The tables of AVX-512 (F, BW, DQ, VL), without and with VNNI: what they have over the level below. */
#include "cpu/cpu_internal.h"

void srn__kernels_avx512(srn_kernels *k) {
    k->name = "avx512";
    srn__kernels_avx512_matmul(k);
    srn__kernels_avx512_vector(k);
}

void srn__kernels_avx512vnni(srn_kernels *k) {
    k->name = "avx512vnni";
    srn__kernels_avx512vnni_matmul(k);
}
