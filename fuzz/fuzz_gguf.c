/* Any bytes as a GGUF file: the parser either refuses them with a sentence or gives a directory of which
 * every metadata value and every tensor's first and last byte can be read, and every name found.
 */
#include "format/format.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink; /* so that no read is optimised away */

static void require(bool holds) {
    if (!holds) abort();
}

static void touch(const void *p, size_t n) {
    const uint8_t *bytes = p;
    if (n) sink += (uint64_t)bytes[0] + bytes[n - 1];
}

static void touch_elem(const srn_meta *m, size_t i) {
    if (m->elem == SRN_META_STR)
        touch(m->v.strs[i].ptr, m->v.strs[i].len);
    else
        sink += (uint64_t)srn_meta_elem_i64(m, i) + (srn_meta_elem_f64(m, i) > 0);
}

static void touch_array(const srn_meta *m) {
    for (size_t i = 0; i < m->count; i++) touch_elem(m, i);
}

static void touch_meta(const srn_weights *w, const srn_meta *m) {
    uint64_t u;
    int64_t i;
    double d;
    bool b;
    srn_str s;
    const srn_str *strs;
    size_t n;
    char key[2048];
    srn_err err = {0};
    require(m->key.len > 0 && m->key.len < sizeof key);
    memcpy(key, m->key.ptr, m->key.len);
    key[m->key.len] = 0;
    require(srn_meta_find(w, key) == m);
    int ok = (srn_meta_u64(w, key, &u, &err) == SRN_OK) + (srn_meta_i64(w, key, &i, &err) == SRN_OK) +
             (srn_meta_f64(w, key, &d, &err) == SRN_OK) + (srn_meta_bool(w, key, &b, &err) == SRN_OK) +
             (srn_meta_str(w, key, &s, &err) == SRN_OK) + (srn_meta_strs(w, key, &strs, &n, &err) == SRN_OK);
    require(ok > 0 || m->type == SRN_META_ARR);
    if (m->type == SRN_META_STR) touch(m->v.s.ptr, m->v.s.len);
    if (m->type == SRN_META_ARR) touch_array(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    srn_weights *w = NULL;
    srn_err err = {0};
    int code = srn_gguf_parse(data, size, "fuzz.gguf", &w, &err);
    require((code == SRN_OK) == (w != NULL));
    if (code) {
        require(err.code == code && strncmp(err.text, "fuzz.gguf: ", 11) == 0);
        for (const char *p = err.text; *p; p++) require((uint8_t)*p >= 0x20 && *p != 0x7f);
        return 0;
    }
    for (size_t i = 0; i < srn_meta_count(w); i++) touch_meta(w, srn_meta_at(w, i));
    for (size_t i = 0; i < srn_weights_count(w); i++) {
        const srn_tensor *t = srn_weights_at(w, i);
        require(srn_weights_find(w, t->name) == t);
        require(t->n_bytes > 0 && t->offset + t->n_bytes <= size &&
                (const uint8_t *)t->data == data + t->offset);
        touch(t->data, (size_t)t->n_bytes);
    }
    srn_weights_free(w);
    return 0;
}
