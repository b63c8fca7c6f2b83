/* Readers: whatever reads a ledger, in any process. A reader belongs to one thread at a time; it never
 * writes. Refuses places that hold no ledger, and ledgers of a newer Serin.
 */
#include <stdlib.h>

#include "ledger/ledger_internal.h"

int srn_reader_open(const char *where, const char *keys_dir, srn_reader **ret, srn_err *err) {
    (void)keys_dir;
    srn_reader *r = srn_calloc(1, sizeof *r);
    if (!r) return srn_fail_nomem(err, sizeof *r);
    int code = srn__is_postgres(where)
                   ? srn_fail(err, SRN_EUNSUP, "%s: this build keeps ledgers in folders only", where)
                   : srn__sqlite_source(where, &r->source, err);
    if (code)
        srn_reader_close(r);
    else
        *ret = r;
    return code;
}

void srn_reader_close(srn_reader *r) {
    if (!r) return;
    if (r->source) r->source->ops->close(r->source);
    free(r);
}

int srn_reader_call(srn_reader *r, const uint8_t id[16], srn_stored *ret, srn_buf *ret_body, srn_err *err) {
    srn__row row;
    int code = r->source->ops->call(r->source, id, &row, ret_body, err);
    if (!code) *ret = (srn_stored){row.seq, row.t_us, row.kind, row.body, row.has_content};
    return code;
}

int srn_reader_records(srn_reader *r, srn_record_kind kind, uint64_t from,
                       bool (*fn)(void *ctx, const srn_stored *s), void *ctx, srn_err *err) {
    return r->source->ops->records(r->source, kind, from, fn, ctx, err);
}

int srn_reader_docs(srn_reader *r, const char *collection, const char *key,
                    bool (*fn)(void *ctx, const srn_ledger_doc *d, uint64_t t_us), void *ctx, srn_err *err) {
    return r->source->ops->docs(r->source, collection, key, fn, ctx, err);
}
