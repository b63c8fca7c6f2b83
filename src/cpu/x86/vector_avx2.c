/* The vector operations with AVX2; see cpu/simd/vector.h. */
#include "cpu/simd/vector.h"

void srn__kernels_avx2_vector(srn_kernels *k) {
    fill_vector(k);
}
