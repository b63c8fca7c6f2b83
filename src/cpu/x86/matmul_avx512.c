/* The matrix product for AVX-512 without VNNI: vpmaddubsw and vpmaddwd. Reached through the kernel table; see
 * cpu/simd/matmul.h. */
#include "cpu/x86/tiles_avx512.h"
#include "cpu/x86/dot_whole.h"
#include "cpu/simd/gemm.h"
#include "cpu/x86/quantize_avx2.h"
#include "cpu/simd/matmul.h"

void srn__kernels_avx512_matmul(srn_kernels *k) {
    fill_matmul(k);
}
