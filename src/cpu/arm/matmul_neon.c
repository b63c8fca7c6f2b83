/* The matrix product for arm64 without the extensions of the levels above. Reached through the kernel table;
 * see cpu/simd/matmul.h. */
#include "cpu/arm/tiles_neon.h"
#include "cpu/arm/dot_neon.h"
#include "cpu/simd/gemm.h"
#include "cpu/arm/quantize_neon.h"
#include "cpu/simd/matmul.h"

void srn__kernels_neon_matmul(srn_kernels *k) {
    fill_matmul(k);
}
