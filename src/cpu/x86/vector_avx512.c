/* The vector operations with AVX-512; see cpu/simd/vector.h. */
#include "cpu/simd/vector.h"

void srn__kernels_avx512_vector(srn_kernels *k) {
    fill_vector(k);
}
