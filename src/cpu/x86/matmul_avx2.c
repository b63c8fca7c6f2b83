/* The matrix product for AVX2 with FMA and F16C. Reached through the kernel table; see cpu/simd/matmul.h. */
#include "cpu/x86/tiles_avx2.h"
#include "cpu/x86/dot_whole.h"
#include "cpu/simd/gemm.h"
#include "cpu/x86/quantize_avx2.h"
#include "cpu/simd/matmul.h"

void srn__kernels_avx2_matmul(srn_kernels *k) {
    fill_matmul(k);
}
