/* The vector operations with NEON; see cpu/simd/vector.h. */
#include "cpu/simd/vector.h"

void srn__kernels_neon_vector(srn_kernels *k) {
    fill_vector(k);
}
