/* What a model's file holds besides its weights' bytes, in forms that are compared and recorded: the types of
 * its tensors in words, and the ids of its tokenizer and chat template. Pure functions over an open
 * directory; any thread.
 */
#include "format/format_internal.h"

#include <stdlib.h>

/* ---- types ---- */

static int by_weights(const void *a, const void *b) {
    const srn_type_share *x = a, *y = b;
    if (x->weights != y->weights) return x->weights < y->weights ? 1 : -1;
    return (x->type > y->type) - (x->type < y->type);
}

size_t srn_weights_types(const srn_weights *w, srn_type_share ret[SRN_TYPE_END]) {
    srn_type_share by_type[SRN_TYPE_END] = {0};
    size_t n = 0;
    for (size_t i = 0; i < w->n_tensors; i++) {
        const srn_tensor *t = &w->tensors[i];
        by_type[t->type].tensors++;
        /* products were checked when the file was opened */
        by_type[t->type].weights += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        by_type[t->type].bytes += t->n_bytes;
    }
    for (size_t t = 0; t < SRN_TYPE_END; t++) {
        if (!by_type[t].tensors) continue;
        by_type[t].type = (srn_type)t;
        ret[n++] = by_type[t];
    }
    qsort(ret, n, sizeof *ret, by_weights);
    return n;
}

void srn_weights_quantisation(const srn_weights *w, char ret[SRN_QUANTISATION_CHARS]) {
    srn_type_share shares[SRN_TYPE_END];
    size_t n_shares = srn_weights_types(w, shares), n = 0;
    uint64_t all = 0;
    for (size_t i = 0; i < n_shares; i++) all += shares[i].weights;
    ret[0] = 0;
    for (size_t i = 0; i < n_shares && n < SRN_QUANTISATION_CHARS; i++) {
        double percent = 100.0 * (double)shares[i].weights / (double)all;
        char share[24] = "";
        if (percent >= 1) snprintf(share, sizeof share, " (%.0f %%)", percent);
        int k = snprintf(ret + n, SRN_QUANTISATION_CHARS - n, "%s%s%s", i ? ", " : "",
                         srn_type_get(shares[i].type)->name, share);
        n += (size_t)SRN_MAX(k, 0);
    }
}

/* ---- ids of tables ----
 * The SHA-256 of keys and values in ascending order of the keys. A key or text is its length and its bytes,
 * a number its value whatever type the file keeps it in, an array its count and its elements; lengths,
 * counts and integers are 8 bytes little-endian, floats those of the float64. */

typedef struct sink {
    srn_sha256 *h;
    size_t n;
    uint8_t bytes[4096]; /* gathered, for most pieces are tiny and there are many */
} sink;

static void flush(sink *k) {
    srn_sha256_add(k->h, k->bytes, k->n);
    k->n = 0;
}

static void add(sink *k, const void *p, size_t n) {
    if (k->n + n > sizeof k->bytes) flush(k);
    if (n > sizeof k->bytes) {
        srn_sha256_add(k->h, p, n);
    } else if (n) {
        memcpy(k->bytes + k->n, p, n);
        k->n += n;
    }
}

static void add_u64(sink *k, uint64_t v) {
    uint8_t b[8];
    for (int i = 0; i < 8; i++) b[i] = (uint8_t)(v >> 8 * i);
    add(k, b, sizeof b);
}

static void add_text(sink *k, srn_str s) {
    add_u64(k, s.len);
    add(k, s.ptr, s.len);
}

static void add_f64(sink *k, double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    add_u64(k, bits);
}

static void add_elem(sink *k, const srn_meta *m, size_t i) {
    bool array = m->type == SRN_META_ARR;
    switch (m->elem) {
    case SRN_META_STR:
        add_text(k, array ? m->v.strs[i] : m->v.s);
        break;
    case SRN_META_F32:
    case SRN_META_F64:
        add_f64(k, array ? srn_meta_elem_f64(m, i) : m->v.f);
        break;
    case SRN_META_BOOL:
        add_u64(k, array ? srn_meta_elem_i64(m, i) != 0 : m->v.b);
        break;
    default:
        add_u64(k, array ? (uint64_t)srn_meta_elem_i64(m, i) : m->v.u);
    }
}

static char kind_of(srn_meta_type t) {
    return t == SRN_META_STR ? 's' : t == SRN_META_F32 || t == SRN_META_F64 ? 'f' : 'i';
}

static void add_meta(sink *k, const srn_meta *m) {
    char kind[2] = {m->type == SRN_META_ARR ? 'a' : 'v', kind_of(m->elem)};
    add_text(k, m->key);
    add(k, kind, sizeof kind);
    add_u64(k, m->count);
    for (uint64_t i = 0; i < m->count; i++) add_elem(k, m, (size_t)i);
}

static int by_key(const void *a, const void *b) {
    srn_str x = (*(const srn_meta *const *)a)->key, y = (*(const srn_meta *const *)b)->key;
    int c = memcmp(x.ptr, y.ptr, SRN_MIN(x.len, y.len));
    return c ? c : (x.len > y.len) - (x.len < y.len);
}

static bool has_prefix(srn_str s, srn_str prefix) {
    return s.len >= prefix.len && memcmp(s.ptr, prefix.ptr, prefix.len) == 0;
}

static bool of_template(srn_str key) {
    return has_prefix(key, SRN_STR("tokenizer.chat_template"));
}

/* Beside its tables a tokenizer reads the architecture, by which some files say which one they mean. */
static bool of_tokenizer(srn_str key) {
    return (has_prefix(key, SRN_STR("tokenizer.")) && !of_template(key)) ||
           srn_str_eqz(key, "general.architecture");
}

/* The keys that are meant, sorted, into ret (malloc'd). */
static int chosen_keys(const srn_weights *w, bool (*is)(srn_str key), const srn_meta ***ret, size_t *ret_n,
                       srn_err *err) {
    size_t n = 0, all = srn_meta_count(w);
    const srn_meta **list = srn_calloc(all + 1, sizeof *list);
    if (!list) return srn_fail_nomem(err, (all + 1) * sizeof *list);
    for (size_t i = 0; i < all; i++) {
        const srn_meta *m = srn_meta_at(w, i);
        if (is(m->key)) list[n++] = m;
    }
    qsort(list, n, sizeof *list, by_key);
    *ret = list;
    *ret_n = n;
    return SRN_OK;
}

static int table_id(const srn_meta *const *list, size_t n, const char *domain, bool text_alone,
                    char ret_hex[65], srn_err *err) {
    uint8_t digest[SRN_SHA256_BYTES];
    sink k;
    k.n = 0;
    k.h = srn_sha256_new();
    if (!k.h) return srn_fail_nomem(err, 256);
    if (text_alone) {
        add(&k, list[0]->v.s.ptr, list[0]->v.s.len);
    } else {
        add_text(&k, srn_str_of(domain));
        for (size_t i = 0; i < n; i++) add_meta(&k, list[i]);
    }
    flush(&k);
    srn_sha256_end(k.h, digest);
    srn_hex(digest, sizeof digest, ret_hex);
    return SRN_OK;
}

int srn_tokenizer_id(const srn_weights *w, char ret_hex[65], srn_err *err) {
    const srn_meta **list;
    size_t n;
    int code = chosen_keys(w, of_tokenizer, &list, &n, err);
    if (code) return code;
    if (srn_meta_find(w, "tokenizer.ggml.model"))
        code = table_id(list, n, "serin tokenizer 1", false, ret_hex, err);
    else
        ret_hex[0] = 0;
    free(list);
    return code;
}

int srn_chat_template_id(const srn_weights *w, char ret_hex[65], srn_err *err) {
    const srn_meta **list;
    size_t n;
    int code = chosen_keys(w, of_template, &list, &n, err);
    if (code) return code;
    bool alone = n == 1 && list[0]->type == SRN_META_STR;
    if (n)
        code = table_id(list, n, "serin chat template 1", alone, ret_hex, err);
    else
        ret_hex[0] = 0;
    free(list);
    return code;
}
