/* The chain: how the hash of a record follows from the one before, and the digests of what stands beside it.
 * docs/ledger.md states the bytes. Pure; any thread. Numbers are 8 bytes, little-endian.
 */
#include "ledger/ledger_internal.h"

static void add_u64(srn_sha256 *h, uint64_t v) {
    uint8_t b[8];
    for (int i = 0; i < 8; i++) b[i] = (uint8_t)(v >> (8 * i));
    srn_sha256_add(h, b, sizeof b);
}

int srn__chain_start(const uint8_t instance[16], uint64_t epoch, const uint8_t *parent,
                     uint8_t ret[SRN_SHA256_BYTES]) {
    static const uint8_t none[SRN_SHA256_BYTES];
    srn_sha256 *h = srn_sha256_new();
    if (!h) return SRN_ENOMEM;
    srn_sha256_add(h, "serin ledger 1", 14);
    srn_sha256_add(h, instance, 16);
    add_u64(h, epoch);
    srn_sha256_add(h, parent ? parent : none, SRN_SHA256_BYTES);
    srn_sha256_end(h, ret);
    return SRN_OK;
}

int srn__chain_next(const uint8_t prev[SRN_SHA256_BYTES], const srn__row *row,
                    uint8_t ret[SRN_SHA256_BYTES]) {
    static const uint8_t none[SRN_SHA256_BYTES];
    srn_sha256 *h = srn_sha256_new();
    if (!h) return SRN_ENOMEM;
    srn_sha256_add(h, prev, SRN_SHA256_BYTES);
    add_u64(h, row->seq);
    add_u64(h, (uint64_t)row->kind);
    add_u64(h, row->t_us);
    add_u64(h, row->body.len);
    srn_sha256_add(h, row->body.ptr, row->body.len);
    srn_sha256_add(h, row->has_content ? row->content_sha : none, SRN_SHA256_BYTES);
    srn_sha256_end(h, ret);
    return SRN_OK;
}

int srn__content_digest(srn_str content, uint8_t ret[SRN_SHA256_BYTES]) {
    srn_sha256 *h = srn_sha256_new();
    if (!h) return SRN_ENOMEM;
    srn_sha256_add(h, content.ptr, content.len);
    srn_sha256_end(h, ret);
    return SRN_OK;
}

int srn__doc_digest(const srn_ledger_doc *d, uint8_t ret[SRN_SHA256_BYTES]) {
    srn_sha256 *h = srn_sha256_new();
    if (!h) return SRN_ENOMEM;
    srn_sha256_add(h, d->collection, strlen(d->collection) + 1);
    srn_sha256_add(h, d->key, strlen(d->key) + 1);
    add_u64(h, d->version);
    srn_sha256_add(h, d->body.ptr, d->body.len);
    srn_sha256_end(h, ret);
    return SRN_OK;
}
