/* Builds GGUF images in memory for tests: keys, then tensors, then srn_buf bytes of the whole file. What a
 * test wants wrong it sets in the struct or writes itself with put_*.
 */
#ifndef SRN_TEST_GGUF_IMAGE_H
#define SRN_TEST_GGUF_IMAGE_H

#include "format/format.h"

typedef struct image {
    srn_buf keys, tensors, data;
    uint64_t n_keys, n_tensors;
    uint32_t version;
    uint64_t alignment;
} image;

static inline void image_init(image *g) {
    *g = (image){.version = 3, .alignment = 32};
    srn_buf_init(&g->keys, 64 << 20);
    srn_buf_init(&g->tensors, 64 << 20);
    srn_buf_init(&g->data, 64 << 20);
}

static inline void image_done(image *g) {
    srn_buf_done(&g->keys);
    srn_buf_done(&g->tensors);
    srn_buf_done(&g->data);
}

static inline void put_le(srn_buf *b, uint64_t v, size_t n) {
    for (size_t i = 0; i < n; i++) srn_buf_addc(b, (char)(uint8_t)(v >> (8 * i)));
}

static inline void put_str(srn_buf *b, srn_str s) {
    put_le(b, s.len, 8);
    srn_buf_add(b, s.ptr, s.len);
}

static inline void key_begin(image *g, const char *key, uint32_t type) {
    put_str(&g->keys, srn_str_of(key));
    put_le(&g->keys, type, 4);
    g->n_keys++;
}

static inline void key_int(image *g, const char *key, srn_meta_type type, uint64_t bits) {
    static const size_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    key_begin(g, key, type);
    put_le(&g->keys, bits, bytes[type]);
}

static inline void key_u32(image *g, const char *key, uint32_t v) {
    key_int(g, key, SRN_META_U32, v);
}

static inline void key_f32(image *g, const char *key, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    key_int(g, key, SRN_META_F32, bits);
}

static inline void key_f64(image *g, const char *key, double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    key_int(g, key, SRN_META_F64, bits);
}

static inline void key_str(image *g, const char *key, const char *v) {
    key_begin(g, key, SRN_META_STR);
    put_str(&g->keys, srn_str_of(v));
}

/* The head of an array; its elements follow with put_*. */
static inline void key_array(image *g, const char *key, uint32_t elem, uint64_t count) {
    key_begin(g, key, SRN_META_ARR);
    put_le(&g->keys, elem, 4);
    put_le(&g->keys, count, 8);
}

static inline void tensor_row(image *g, const char *name, uint32_t type, const uint64_t *ne, uint32_t n_dims,
                              uint64_t offset) {
    put_str(&g->tensors, srn_str_of(name));
    put_le(&g->tensors, n_dims, 4);
    for (uint32_t d = 0; d < n_dims; d++) put_le(&g->tensors, ne[d], 8);
    put_le(&g->tensors, type, 4);
    put_le(&g->tensors, offset, 8);
    g->n_tensors++;
}

/* A tensor with its bytes behind those of the tensors before it, all of the value `fill`. */
static inline void tensor(image *g, const char *name, srn_type type, uint64_t cols, uint64_t rows,
                          uint8_t fill) {
    uint64_t bytes = 0, ne[2] = {cols, rows};
    while (g->data.len % g->alignment) srn_buf_addc(&g->data, 0);
    tensor_row(g, name, type, ne, rows == 1 ? 1 : 2, g->data.len);
    srn_type_bytes(type, cols * rows, &bytes);
    for (uint64_t i = 0; i < bytes; i++) srn_buf_addc(&g->data, (char)fill);
}

static inline void image_write(const image *g, srn_buf *out) {
    srn_buf_init(out, 256 << 20);
    srn_buf_addz(out, "GGUF");
    put_le(out, g->version, 4);
    put_le(out, g->n_tensors, 8);
    put_le(out, g->n_keys, 8);
    srn_buf_add(out, g->keys.data, g->keys.len);
    srn_buf_add(out, g->tensors.data, g->tensors.len);
    if (g->data.len)
        while (out->len % g->alignment) srn_buf_addc(out, 0);
    srn_buf_add(out, g->data.data, g->data.len);
}

/* Parses the image from a copy of exactly its size, so that a read past the end is caught under ASan. The
 * copy is *ret_bytes, to be freed after the weights. */
static inline int image_parse(const image *g, void **ret_bytes, srn_weights **ret, srn_err *err) {
    srn_buf out;
    image_write(g, &out);
    *ret_bytes = srn_strndup(out.data, out.len);
    void *exact = realloc(*ret_bytes, out.len);
    if (exact) *ret_bytes = exact;
    int code = srn_gguf_parse(*ret_bytes, out.len, "test.gguf", ret, err);
    srn_buf_done(&out);
    return code;
}

#endif
