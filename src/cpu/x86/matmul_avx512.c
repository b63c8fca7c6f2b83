/* The matrix product for AVX-512 without VNNI: vpmaddubsw and vpmaddwd. Reached through the kernel table; see
 * matmul_x86.h. */
#define SRN__VNNI 0
#include "cpu/x86/gemm_avx512.h"
#include "cpu/x86/quantize_avx2.h"
#include "cpu/x86/matmul_x86.h"

void srn__kernels_avx512_matmul(srn_kernels *k) {
    fill_matmul(k);
}
