/* Fuzz target: filters of calls, and the condition that comes of those that are understood, which has exactly
 * its parameters. */
#include <stdlib.h>

#include "ledger/query_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    srn_err err = {0};
    srn_filter *f = NULL;
    if (size > 8192) return 0;
    if (srn_filter_parse((srn_str){(const char *)data, size}, UINT64_C(1795340000000000), &f, &err)) {
        if (err.code != SRN_EINVAL || !err.text[0]) abort();
        return 0;
    }
    srn__sql q;
    srn__sql_init(&q);
    srn__sql_filter(&q, f);
    uint32_t n = 0;
    for (size_t i = 0; i < q.text.len; i++) n += q.text.data[i] == '$';
    if (srn__sql_check(&q, &err) || n != q.n_params || f->since_us > INT64_MAX) abort();
    srn__sql_done(&q);
    srn_filter_free(f);
    return 0;
}
