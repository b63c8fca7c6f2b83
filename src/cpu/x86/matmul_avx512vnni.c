/* The matrix product for AVX-512 with VNNI: vpdpbusd. Reached through the kernel table; see
 * cpu/simd/matmul.h. */
#include "cpu/x86/tiles_avx512.h"
#include "cpu/x86/dot_vnni.h"
#include "cpu/simd/gemm.h"
#include "cpu/x86/quantize_avx512.h"
#include "cpu/simd/matmul.h"

void srn__kernels_avx512vnni_matmul(srn_kernels *k) {
    fill_matmul(k);
}
