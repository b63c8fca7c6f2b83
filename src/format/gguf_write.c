/* The head of a GGUF file, version 3: magic, counts, keys, table of tensors, padding. Called by what makes
 * model files, on any thread. Refuses tensors whose rows are not whole blocks and heads over a gigabyte.
 */
#include "format/format_internal.h"
#include "format/write.h"

#define MAX_HEAD_BYTES ((size_t)1 << 30)

void srn_gguf_head_init(srn_gguf_head *h) {
    *h = (srn_gguf_head){0};
    srn_buf_init(&h->keys, MAX_HEAD_BYTES);
    srn_buf_init(&h->tensors, MAX_HEAD_BYTES);
}

void srn_gguf_head_done(srn_gguf_head *h) {
    srn_buf_done(&h->keys);
    srn_buf_done(&h->tensors);
}

/* The low n bytes of v, lowest first. */
static void put(srn_buf *b, uint64_t v, size_t n) {
    char bytes[8];
    for (size_t i = 0; i < n; i++) bytes[i] = (char)(uint8_t)(v >> (8 * i));
    srn_buf_add(b, bytes, n);
}

static void put_str(srn_buf *b, srn_str s) {
    put(b, s.len, 8);
    srn_buf_add(b, s.ptr, s.len);
}

static void begin(srn_gguf_head *h, const char *key, srn_meta_type type) {
    put_str(&h->keys, srn_str_of(key));
    put(&h->keys, (uint64_t)type, 4);
    h->n_keys++;
}

void srn_gguf_put_u32(srn_gguf_head *h, const char *key, uint32_t v) {
    begin(h, key, SRN_META_U32);
    put(&h->keys, v, 4);
}

void srn_gguf_put_f32(srn_gguf_head *h, const char *key, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    begin(h, key, SRN_META_F32);
    put(&h->keys, bits, 4);
}

void srn_gguf_put_bool(srn_gguf_head *h, const char *key, bool v) {
    begin(h, key, SRN_META_BOOL);
    put(&h->keys, v, 1);
}

void srn_gguf_put_str(srn_gguf_head *h, const char *key, srn_str v) {
    begin(h, key, SRN_META_STR);
    put_str(&h->keys, v);
}

void srn_gguf_put_array(srn_gguf_head *h, const char *key, srn_meta_type elem, uint64_t count) {
    begin(h, key, SRN_META_ARR);
    put(&h->keys, (uint64_t)elem, 4);
    put(&h->keys, count, 8);
}

void srn_gguf_elem_str(srn_gguf_head *h, srn_str v) {
    put_str(&h->keys, v);
}

void srn_gguf_elem_i32(srn_gguf_head *h, int32_t v) {
    put(&h->keys, (uint32_t)v, 4);
}

uint64_t srn_gguf_add_tensor(srn_gguf_head *h, const char *name, srn_type type, const uint64_t *ne,
                             uint32_t n_dims, uint64_t *ret_bytes) {
    uint64_t offset = h->data_bytes, bytes = 0;
    bool fits = n_dims >= 1 && n_dims <= SRN_MAX_DIMS && srn_type_bytes(type, ne[0], &bytes);
    for (uint32_t d = 1; d < n_dims && fits; d++) fits = srn_mul_u64(bytes, ne[d], &bytes);
    uint64_t end = 0;
    fits = fits && bytes && srn_add_u64(offset, bytes, &end) && end <= (uint64_t)INT64_MAX / 2;
    if (!fits) {
        if (!h->wrong) h->wrong = name;
        return 0;
    }
    put_str(&h->tensors, srn_str_of(name));
    put(&h->tensors, n_dims, 4);
    for (uint32_t d = 0; d < n_dims; d++) put(&h->tensors, ne[d], 8);
    put(&h->tensors, (uint64_t)type, 4);
    put(&h->tensors, offset, 8);
    h->n_tensors++;
    h->data_bytes = srn_align_up(end, SRN_GGUF_ALIGNMENT);
    if (ret_bytes) *ret_bytes = bytes;
    return offset;
}

int srn_gguf_head_finish(const srn_gguf_head *h, srn_buf *ret, srn_err *err) {
    if (h->wrong)
        return srn_fail(err, SRN_EINVAL, "tensor '%s' is empty, too large, or no whole blocks of its type",
                        h->wrong);
    srn_buf b;
    srn_buf_init(&b, MAX_HEAD_BYTES);
    srn_buf_add(&b, "GGUF", 4);
    put(&b, 3, 4);
    put(&b, h->n_tensors, 8);
    put(&b, h->n_keys, 8);
    srn_buf_add(&b, h->keys.data, h->keys.len);
    srn_buf_add(&b, h->tensors.data, h->tensors.len);
    while (b.len % SRN_GGUF_ALIGNMENT && srn_buf_addc(&b, 0)) continue;
    if (b.failed || h->keys.failed || h->tensors.failed) {
        srn_buf_done(&b);
        return srn_fail_nomem(err, h->keys.len + h->tensors.len);
    }
    *ret = b;
    return SRN_OK;
}
