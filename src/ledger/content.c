/* Content as it is stored: JSON text compressed with zstd, behind a random salt (full) or under the key of
 * its subject (encrypted). Any thread; owns nothing. What is unsealed is not trusted: sizes are capped and a
 * frame's window too, whatever its header says.
 *
 * Full: "SRNc" 1, salt[32], frame. The salt makes the digest in the chain tell nothing of a text that was
 * dropped. Encrypted: "SRNc" 2, id of the key[16], nonce[24], XChaCha20-Poly1305 of the frame with all of the
 * head.
 */
#include <sodium.h>
#include <stdlib.h>
#include <zstd.h>

#include "ledger/keys_internal.h"

enum {
    MAGIC_BYTES = 5,
    SALT_BYTES = 32,
    FULL_HEAD = MAGIC_BYTES + SALT_BYTES,
    NONCE_BYTES = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
    TAG_BYTES = crypto_aead_xchacha20poly1305_ietf_ABYTES,
    KEY_AT = MAGIC_BYTES,
    NONCE_AT = KEY_AT + SRN__KEY_ID_BYTES,
    ENCRYPTED_HEAD = NONCE_AT + NONCE_BYTES,
    LEVEL = 3,
    WINDOW_LOG = 23, /* level 3 makes 21 at most */
    CHUNK = 128 << 10
};
static const uint8_t full_magic[MAGIC_BYTES] = {'S', 'R', 'N', 'c', 1};
static const uint8_t encrypted_magic[MAGIC_BYTES] = {'S', 'R', 'N', 'c', 2};

static const char *const policies[] = {
    [SRN_CONTENT_NONE] = "none",
    [SRN_CONTENT_HASH] = "hash",
    [SRN_CONTENT_FULL] = "full",
    [SRN_CONTENT_ENCRYPTED] = "encrypted",
};

bool srn_content_policy_of(srn_str name, srn_content_policy *ret) {
    for (size_t i = 0; i < SRN_LEN(policies); i++)
        if (srn_str_eqz(name, policies[i])) return *ret = (srn_content_policy)i, true;
    return false;
}

const char *srn_content_policy_name(srn_content_policy p) {
    return (size_t)p < SRN_LEN(policies) ? policies[p] : "?";
}

/* ---- sealing ---- */

/* One frame, which carries its content's size and checksum. */
static int compress(srn_str content, uint8_t *to, size_t cap, size_t *ret_n, srn_err *err) {
    ZSTD_CCtx *c = ZSTD_createCCtx();
    if (!c) return srn_fail_nomem(err, 1 << 20);
    ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
    size_t n = ZSTD_compress2(c, to, cap, content.ptr, content.len);
    ZSTD_freeCCtx(c);
    if (ZSTD_isError(n))
        return srn_fail(err, SRN_ENOMEM, "content cannot be compressed: %s", ZSTD_getErrorName(n));
    *ret_n = n;
    return SRN_OK;
}

static bool put(srn_buf *ret, const uint8_t *head, size_t head_n, const uint8_t *p, size_t n) {
    size_t before = ret->len;
    if (srn_buf_add(ret, head, head_n) && srn_buf_add(ret, p, n)) return true;
    ret->len = before;
    return false;
}

static int seal_encrypted(srn_ledger_keys *k, const char *tenant, const char *subject, uint8_t *frame,
                          size_t n, srn_buf *ret, srn_err *err) {
    uint8_t head[ENCRYPTED_HEAD], key[SRN__KEY_BYTES];
    memcpy(head, encrypted_magic, MAGIC_BYTES);
    randombytes_buf(head + NONCE_AT, NONCE_BYTES);
    pthread_mutex_lock(&k->lock);
    int code = srn__subjects_key(&k->subjects, tenant ? tenant : "", subject ? subject : "", true,
                                 head + KEY_AT, key, err);
    pthread_mutex_unlock(&k->lock);
    if (code) return code;
    unsigned long long sealed = 0; /* in place; frame has room for the tag */
    crypto_aead_xchacha20poly1305_ietf_encrypt(frame, &sealed, frame, n, head, sizeof head, NULL,
                                               head + NONCE_AT, key);
    sodium_memzero(key, sizeof key);
    return put(ret, head, sizeof head, frame, (size_t)sealed) ? SRN_OK : srn_fail_nomem(err, n);
}

int srn_ledger_seal(srn_ledger_keys *k, srn_content_policy p, const char *tenant, const char *subject,
                    srn_str content, srn_buf *ret, srn_err *err) {
    if (p != SRN_CONTENT_FULL && p != SRN_CONTENT_ENCRYPTED)
        return srn_fail(err, SRN_EINVAL, "content policy '%s' keeps no content", srn_content_policy_name(p));
    if (content.len > SRN__PLAIN_BYTES)
        return srn_fail(err, SRN_ELIMIT,
                        "a call's content of %zu bytes is more than the %d bytes kept of one", content.len,
                        (int)SRN__PLAIN_BYTES);
    size_t cap = ZSTD_compressBound(content.len), n = 0;
    uint8_t *frame = malloc(cap + TAG_BYTES);
    if (!frame) return srn_fail_nomem(err, cap + TAG_BYTES);
    int code = compress(content, frame, cap, &n, err);
    if (!code && p == SRN_CONTENT_FULL) {
        uint8_t head[FULL_HEAD];
        memcpy(head, full_magic, MAGIC_BYTES);
        randombytes_buf(head + MAGIC_BYTES, SALT_BYTES);
        if (!put(ret, head, sizeof head, frame, n)) code = srn_fail_nomem(err, n);
    } else if (!code) {
        code = seal_encrypted(k, tenant, subject, frame, n, ret, err);
        if (code) sodium_memzero(frame, n);
    }
    free(frame);
    return code;
}

/* ---- unsealing ---- */

static int damaged(srn_err *err, const char *why) {
    return srn_fail(err, SRN_EFORMAT, "stored content is damaged: %s", why);
}

/* The one frame in n bytes, appended to ret. Memory grows with what comes out, not with what a header claims.
 */
static int expand_with(ZSTD_DCtx *d, const uint8_t *p, size_t n, uint8_t *chunk, srn_buf *ret, srn_err *err) {
    ZSTD_inBuffer in = {p, n, 0};
    uint64_t total = 0;
    for (;;) {
        ZSTD_outBuffer out = {chunk, CHUNK, 0};
        size_t at = in.pos, left = ZSTD_decompressStream(d, &out, &in);
        if (ZSTD_isError(left)) return damaged(err, ZSTD_getErrorName(left));
        total += out.pos;
        if (total > SRN__PLAIN_BYTES) return damaged(err, "it expands to more than a call may hold");
        if (out.pos && !srn_buf_add(ret, chunk, out.pos))
            return srn_fail(err, SRN_ENOMEM, "content of %llu bytes and more does not fit",
                            (unsigned long long)total);
        if (left == 0) break;
        if (in.pos == at && out.pos == 0) return damaged(err, "it is cut off");
    }
    return in.pos == n ? SRN_OK : damaged(err, "bytes follow its end");
}

static int expand(const uint8_t *p, size_t n, srn_buf *ret, srn_err *err) {
    unsigned long long size = ZSTD_getFrameContentSize(p, n);
    if (size == ZSTD_CONTENTSIZE_ERROR) return damaged(err, "it is not compressed as content is");
    if (size == ZSTD_CONTENTSIZE_UNKNOWN || size > SRN__PLAIN_BYTES)
        return damaged(err, "it does not state a size, or one above what a call may hold");
    ZSTD_DCtx *d = ZSTD_createDCtx();
    uint8_t *chunk = malloc(CHUNK);
    int code = SRN_ENOMEM;
    size_t before = ret->len;
    if (d && chunk) {
        ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, WINDOW_LOG);
        code = expand_with(d, p, n, chunk, ret, err);
        sodium_memzero(chunk, CHUNK);
    } else {
        srn_fail_nomem(err, CHUNK);
    }
    if (code && ret->len > before) ret->data[ret->len = before] = 0;
    ZSTD_freeDCtx(d);
    free(chunk);
    return code;
}

static int unseal_encrypted(srn_ledger_keys *k, const uint8_t *p, size_t n, srn_buf *ret, srn_err *err) {
    uint8_t key[SRN__KEY_BYTES];
    if (n < ENCRYPTED_HEAD + TAG_BYTES) return damaged(err, "it is cut off");
    pthread_mutex_lock(&k->lock);
    int code = srn__subjects_key_of_id(&k->subjects, p + KEY_AT, key, err);
    pthread_mutex_unlock(&k->lock);
    if (code) return code;
    size_t cap = n - ENCRYPTED_HEAD;
    uint8_t *frame = malloc(cap);
    unsigned long long got = 0;
    if (!frame)
        code = srn_fail_nomem(err, cap);
    else if (crypto_aead_xchacha20poly1305_ietf_decrypt(frame, &got, NULL, p + ENCRYPTED_HEAD, cap, p,
                                                        ENCRYPTED_HEAD, p + NONCE_AT, key))
        code = damaged(err, "it is not what was sealed under its subject's key");
    else
        code = expand(frame, (size_t)got, ret, err);
    sodium_memzero(key, sizeof key);
    if (frame) sodium_memzero(frame, cap);
    free(frame);
    return code;
}

int srn_ledger_unseal(srn_ledger_keys *k, srn_str sealed, srn_buf *ret, srn_err *err) {
    const uint8_t *p = (const uint8_t *)sealed.ptr;
    if (sealed.len >= FULL_HEAD && memcmp(p, full_magic, MAGIC_BYTES) == 0)
        return expand(p + FULL_HEAD, sealed.len - FULL_HEAD, ret, err);
    if (sealed.len >= MAGIC_BYTES && memcmp(p, encrypted_magic, MAGIC_BYTES) == 0)
        return unseal_encrypted(k, p, sealed.len, ret, err);
    return damaged(err, "it does not begin as content does");
}

int srn_ledger_forget(srn_ledger_keys *k, const char *tenant, const char *subject, srn_err *err) {
    pthread_mutex_lock(&k->lock);
    int code = srn__subjects_forget(&k->subjects, tenant ? tenant : "", subject ? subject : "", err);
    pthread_mutex_unlock(&k->lock);
    return code;
}
