/* Fuzz target: bodies of records, by the kind in the first byte ('1' to '6'; 'c' and 't' read a signed
 * checkpoint and tombstone). What is accepted must have what the columns of the store need.
 */
#include <stdlib.h>

#include "ledger/ledger_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every text is there, and ends where it says; numbers fit a signed 64-bit column. */
static void check_row(const srn_call_row *r) {
    const char *const texts[] = {r->finish, r->error,        r->endpoint,    r->route,      r->key,
                                 r->tenant, r->conversation, r->model,       r->weights,    r->quantisation,
                                 r->config, r->prompt,       r->prompt_hash, r->experiment, r->arm};
    const uint64_t numbers[] = {r->begun_us, r->queue_us, r->ttft_us, r->total_us, r->itl_us, r->itl_max_us};
    for (size_t i = 0; i < SRN_LEN(texts); i++)
        if (!texts[i] || strlen(texts[i]) > 4096) abort();
    for (size_t i = 0; i < SRN_LEN(numbers); i++)
        if (numbers[i] > INT64_MAX) abort();
    if (r->status < 0 || r->status > 999) abort();
    if (!*r->prompt != !r->version) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 1u << 16) return 0;
    srn_err err = {0};
    srn_str body = {(const char *)data + 1, size - 1};
    srn__checkpoint c;
    srn__tombstone t;
    if (data[0] == 'c') return srn__checkpoint_parse(body, &c, &err), 0;
    if (data[0] == 't') {
        if (srn__tombstone_parse(body, &t, &err) == SRN_OK && (!t.from || t.from > t.to)) abort();
        return 0;
    }
    srn_record_kind kind = (srn_record_kind)(data[0] - '0');
    srn_record *r = NULL;
    if (srn_record_decode(kind, body, &r, &err)) {
        if (r || !err.text[0]) abort();
        return 0;
    }
    bool is_call = kind == SRN_RECORD_CALL || kind == SRN_RECORD_INTENT;
    if (is_call) check_row(srn_record_call(r));
    if ((is_call || kind == SRN_RECORD_FEEDBACK) != (srn__record_id(r) != NULL)) abort();
    srn_record_free(r);
    return 0;
}
