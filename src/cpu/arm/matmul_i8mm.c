/* The matrix product for arm64 with i8mm: smmla. Reached through the kernel table; see
 * cpu/simd/matmul.h. */
#include "cpu/arm/tiles_neon.h"
#include "cpu/arm/dot_neon.h"
#include "cpu/simd/gemm.h"
#include "cpu/arm/quantize_neon.h"
#include "cpu/simd/matmul.h"

void srn__kernels_i8mm_matmul(srn_kernels *k) {
    fill_matmul(k);
}
