/* Fuzz target of the quant room: the first byte is a type id, the rest its blocks. Any bytes are valid
 * blocks, so what must hold is that nothing outside is touched and that codes stay in the range that kernels
 * rely on.
 */
#include <stdlib.h>

#include "quant/quant.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > 1 << 16) return 0;
    const srn_type_info *t = srn_type_get(data[0]);
    if (!t || t->refused) return 0;
    size_t blocks = (size - 1) / t->block_bytes, n = blocks * t->block_elems;
    if (n == 0) return 0;
    uint8_t *src = malloc(blocks * t->block_bytes); /* exact, so that a read past the end is caught */
    float *w = malloc(n * sizeof *w);
    srn_group *g = malloc((n / 32 + 1) * sizeof *g);
    if (src && w && g) {
        memcpy(src, data + 1, blocks * t->block_bytes);
        srn_dequant((srn_type)data[0], src, w, n);
        if (t->form > SRN_FORM_FLOAT) {
            srn_group_decode((srn_type)data[0], src, g, n);
            for (size_t i = 0; i < n; i++)
                if (g[i / 32].q[i % 32] < t->q_min || g[i / 32].q[i % 32] > t->q_max) abort();
        }
    }
    free(src);
    free(w);
    free(g);
    return 0;
}
