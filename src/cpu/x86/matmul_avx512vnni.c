/* The matrix product for AVX-512 with VNNI: vpdpbusd. Reached through the kernel table; see
 * matmul_x86.h. */
#include "cpu/x86/tiles_avx512.h"
#include "cpu/x86/dot_vnni.h"
#include "cpu/x86/gemm_x86.h"
#include "cpu/x86/quantize_avx512.h"
#include "cpu/x86/matmul_x86.h"

void srn__kernels_avx512vnni_matmul(srn_kernels *k) {
    fill_matmul(k);
}
