/* The tables of arm64: NEON, which every such CPU has, then the dot product extension and i8mm, which change
 * the products of integer codes alone. */
#include "cpu/cpu_internal.h"

void srn__kernels_neon(srn_kernels *k) {
    k->name = "neon";
    srn__kernels_neon_matmul(k);
    srn__kernels_neon_vector(k);
}

void srn__kernels_dotprod(srn_kernels *k) {
    k->name = "dotprod";
    srn__kernels_dotprod_matmul(k);
}

void srn__kernels_i8mm(srn_kernels *k) {
    k->name = "i8mm";
    srn__kernels_i8mm_matmul(k);
}
