/* Fuzzes stored content: what is unsealed is appended as a whole or not at all, and what came out, sealed
 * again, is the same text.
 */
#include <stdlib.h>

#include "ledger/ledger.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(srn_ledger_keys *k, srn_content_policy p, srn_str text) {
    srn_buf sealed, back;
    srn_buf_init(&sealed, SIZE_MAX);
    srn_buf_init(&back, SIZE_MAX);
    if (srn_ledger_seal(k, p, "tenant", "subject", text, &sealed, NULL) ||
        srn_ledger_unseal(k, (srn_str){sealed.data, sealed.len}, &back, NULL) ||
        !srn_str_eq((srn_str){back.data, back.len}, text))
        __builtin_trap();
    srn_buf_done(&sealed);
    srn_buf_done(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static srn_ledger_keys *keys;
    srn_buf text;
    srn_err err = {0};
    if (!keys && srn_ledger_keys_open(NULL, &keys, NULL)) return 0;
    srn_buf_init(&text, 1 << 20);
    srn_buf_addz(&text, "before");
    int code = srn_ledger_unseal(keys, (srn_str){(const char *)data, size}, &text, &err);
    if (code && (text.len != 6 || !err.text[0])) __builtin_trap();
    if (!code) {
        srn_str got = {text.data + 6, text.len - 6};
        again(keys, SRN_CONTENT_FULL, got);
        again(keys, SRN_CONTENT_ENCRYPTED, got);
    }
    srn_buf_done(&text);
    return 0;
}
