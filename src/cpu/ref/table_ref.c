/* The reference table: plain C, defines the numerics, runs on every CPU. */
#include "cpu/cpu_internal.h"

void srn__kernels_ref(srn_kernels *k) {
    k->name = "ref";
    srn__kernels_ref_matmul(k);
    srn__kernels_ref_vector(k);
}
