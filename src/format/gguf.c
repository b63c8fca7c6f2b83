/* The GGUF parser: one image in memory, v2 or v3, little endian, to metadata and a table of tensors. Pure: no
 * I/O, any thread. Called by weights.c for each part of a model, by srn_gguf_parse and by the fuzz target.
 *
 * Layout: "GGUF", u32 version, u64 tensors, u64 keys; then each key (string, u32 type, value), each tensor
 * (string, u32 dimensions, u64 each, u32 type, u64 offset), padding to general.alignment, the tensors' bytes.
 * A string is a u64 length and that many bytes.
 *
 * Refuses what is cut off, what overlaps or lies outside the file, names twice, non-UTF-8 names, nested
 * arrays, types that no longer exist, and counts that the file's own size cannot hold: nothing is allocated
 * for a count before the bytes left could encode it.
 */
#include "format/format_internal.h"

#include <inttypes.h>
#include <stdlib.h>

typedef struct reader {
    const uint8_t *p;
    size_t len, at;
    const char *name; /* of the file */
    char what[320];   /* "key 'general.name'": what is being read, for sentences */
    srn_err *err;
} reader;

static int fail_at(reader *r, int code, size_t at, const char *fmt, ...) SRN_PRINTF(4, 5);
static int fail_at(reader *r, int code, size_t at, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return srn_fail(r->err, code, "%s: %s at byte %zu: %s", r->name, r->what, at, text);
}

static int fail_cut(reader *r, uint64_t need) {
    return fail_at(r, SRN_EFORMAT, r->at,
                   "needs %" PRIu64
                   " bytes but the file ends after %zu; it is cut off or damaged, download it "
                   "again",
                   need, r->len - r->at);
}

static int fail_memory(reader *r, uint64_t bytes) {
    return fail_at(r, SRN_ENOMEM, r->at, "out of memory: %" PRIu64 " bytes could not be allocated", bytes);
}

/* n little-endian bytes (1, 2, 4 or 8) as an unsigned number. */
static uint64_t le(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    for (size_t i = n; i > 0; i--) v = v << 8 | p[i - 1];
    return v;
}

static int read_le(reader *r, size_t n, uint64_t *ret) {
    if (r->len - r->at < n) return fail_cut(r, n);
    *ret = le(r->p + r->at, n);
    r->at += n;
    return SRN_OK;
}

static int read_str(reader *r, uint64_t max_bytes, srn_str *ret) {
    size_t start = r->at;
    uint64_t n = 0;
    int code = read_le(r, 8, &n);
    if (code) return code;
    if (n > r->len - r->at) return fail_cut(r, n);
    if (n > max_bytes)
        return fail_at(r, SRN_ELIMIT, start, "a string of %" PRIu64 " bytes is over the limit of %" PRIu64, n,
                       max_bytes);
    *ret = (srn_str){(const char *)r->p + r->at, (size_t)n};
    r->at += (size_t)n;
    return SRN_OK;
}

/* Copies text for a sentence: what is not printable ASCII becomes '?', what is long is cut. */
static void quote(char *out, size_t cap, const char *before, srn_str s) {
    size_t n = (size_t)snprintf(out, cap, "%s '", before);
    size_t room = cap - n - 5;
    for (size_t i = 0; i < s.len && i < room; i++)
        out[n++] = s.ptr[i] >= 0x20 && s.ptr[i] < 0x7f ? s.ptr[i] : '?';
    snprintf(out + n, cap - n, s.len > room ? "...'" : "'");
}

/* Names are non-empty UTF-8 without control characters, so that they can be printed and compared. */
static bool name_is_clean(srn_str s) {
    if (s.len == 0) return false;
    for (size_t i = 0; i < s.len;) {
        uint32_t cp;
        size_t n = srn_utf8_get(s.ptr + i, s.len - i, &cp);
        if (n == 0 || cp < 0x20 || (cp >= 0x7f && cp < 0xa0)) return false;
        i += n;
    }
    return true;
}

/* ---- metadata ---- */

static const struct {
    const char *name;
    size_t bytes;
} meta_types[] = {
    [SRN_META_U8] = {"u8", 1},     [SRN_META_I8] = {"i8", 1},     [SRN_META_U16] = {"u16", 2},
    [SRN_META_I16] = {"i16", 2},   [SRN_META_U32] = {"u32", 4},   [SRN_META_I32] = {"i32", 4},
    [SRN_META_F32] = {"f32", 4},   [SRN_META_BOOL] = {"bool", 1}, [SRN_META_STR] = {"string", 0},
    [SRN_META_ARR] = {"array", 0}, [SRN_META_U64] = {"u64", 8},   [SRN_META_I64] = {"i64", 8},
    [SRN_META_F64] = {"f64", 8},
};

const char *srn__meta_type_name(srn_meta_type t) {
    return (size_t)t < SRN_LEN(meta_types) ? meta_types[t].name : "?";
}

size_t srn__meta_elem_bytes(srn_meta_type t) {
    return (size_t)t < SRN_LEN(meta_types) ? meta_types[t].bytes : 0;
}

static srn_str meta_name_at(const void *table, size_t i) {
    return ((const srn_meta *)table)[i].key;
}

const srn_meta *srn__gguf_find(const srn__gguf *g, srn_str key) {
    size_t i = srn__index_find(&g->meta_index, g->metas, meta_name_at, key);
    return i == SIZE_MAX ? NULL : &g->metas[i];
}

static int read_meta_type(reader *r, const char *of, srn_meta_type *ret) {
    size_t start = r->at;
    uint64_t id = 0;
    int code = read_le(r, 4, &id);
    if (code) return code;
    if (id >= SRN_LEN(meta_types))
        return fail_at(r, SRN_EFORMAT, start,
                       "%s type %" PRIu64
                       " does not exist in GGUF; the file is damaged or newer than this program",
                       of, id);
    *ret = (srn_meta_type)id;
    return SRN_OK;
}

static int read_number(reader *r, srn_meta_type type, srn_meta *m) {
    size_t start = r->at;
    uint64_t bits = 0;
    int code = read_le(r, meta_types[type].bytes, &bits);
    if (code) return code;
    switch (type) {
    case SRN_META_F32: {
        uint32_t bits32 = (uint32_t)bits;
        float f;
        memcpy(&f, &bits32, sizeof f);
        m->v.f = (double)f;
        break;
    }
    case SRN_META_F64:
        memcpy(&m->v.f, &bits, sizeof m->v.f);
        break;
    case SRN_META_BOOL:
        if (bits > 1) return fail_at(r, SRN_EFORMAT, start, "a bool must be 0 or 1 but is %" PRIu64, bits);
        m->v.b = bits != 0;
        break;
    case SRN_META_I8:
        m->v.i = (int8_t)bits;
        break;
    case SRN_META_I16:
        m->v.i = (int16_t)bits;
        break;
    case SRN_META_I32:
        m->v.i = (int32_t)bits;
        break;
    default:
        m->v.u = bits;
    }
    return SRN_OK;
}

static int read_strings(reader *r, srn_arena *arena, srn_meta *m) {
    if (m->count > (r->len - r->at) / 8) return fail_cut(r, m->count * 8);
    srn_str *strs = srn_arena_alloc(arena, (size_t)m->count * sizeof *strs);
    if (!strs) return fail_memory(r, m->count * sizeof *strs);
    for (uint64_t i = 0; i < m->count; i++) {
        int code = read_str(r, SRN__MAX_STR_BYTES, &strs[i]);
        if (code) return code;
    }
    m->v.strs = strs;
    return SRN_OK;
}

static int read_array(reader *r, srn_arena *arena, srn_meta *m) {
    size_t start = r->at;
    int code = read_meta_type(r, "element", &m->elem);
    if (!code) code = read_le(r, 8, &m->count);
    if (code) return code;
    if (m->elem == SRN_META_ARR)
        return fail_at(r, SRN_EUNSUP, start, "arrays of arrays are not supported; no known model needs them");
    if (m->count > SRN__MAX_ARRAY)
        return fail_at(r, SRN_ELIMIT, start, "an array of %" PRIu64 " elements is over the limit of %u",
                       m->count, SRN__MAX_ARRAY);
    if (m->elem == SRN_META_STR) return read_strings(r, arena, m);
    size_t bytes = (size_t)m->count * meta_types[m->elem].bytes; /* the limit rules out an overflow */
    if (bytes > r->len - r->at) return fail_cut(r, bytes);
    m->v.raw = r->p + r->at;
    for (size_t i = 0; m->elem == SRN_META_BOOL && i < bytes; i++)
        if (r->p[r->at + i] > 1)
            return fail_at(r, SRN_EFORMAT, r->at + i, "a bool must be 0 or 1 but is %u", r->p[r->at + i]);
    r->at += bytes;
    return SRN_OK;
}

static int read_meta(reader *r, srn_arena *arena, size_t i, srn_meta *m) {
    size_t start = r->at;
    snprintf(r->what, sizeof r->what, "key %zu", i);
    int code = read_str(r, SRN__MAX_KEY_BYTES, &m->key);
    if (code) return code;
    quote(r->what, sizeof r->what, "key", m->key);
    if (!name_is_clean(m->key))
        return fail_at(r, SRN_EFORMAT, start, "a key must be printable UTF-8 and not empty");
    code = read_meta_type(r, "value", &m->type);
    if (code) return code;
    m->elem = m->type;
    m->count = 1;
    if (m->type == SRN_META_ARR) return read_array(r, arena, m);
    if (m->type == SRN_META_STR) return read_str(r, SRN__MAX_STR_BYTES, &m->v.s);
    return read_number(r, m->type, m);
}

static int read_metas(reader *r, srn__gguf *g, uint64_t n) {
    enum { LEAST_BYTES = 8 + 1 + 4 + 1 }; /* the smallest key and value */
    if (n > SRN__MAX_KEYS)
        return fail_at(r, SRN_ELIMIT, 16,
                       "%" PRIu64 " keys are over the limit of %u; it is damaged, download it again", n,
                       SRN__MAX_KEYS);
    if (n > (r->len - r->at) / LEAST_BYTES) return fail_cut(r, n * LEAST_BYTES);
    g->metas = srn_arena_alloc(&g->arena, (size_t)n * sizeof *g->metas);
    if (!g->metas || !srn__index_init(&g->meta_index, (size_t)n)) return fail_memory(r, n * sizeof *g->metas);
    for (size_t i = 0; i < n; i++) {
        size_t start = r->at, other;
        int code = read_meta(r, &g->arena, i, &g->metas[i]);
        if (code) return code;
        if (!srn__index_add(&g->meta_index, g->metas, meta_name_at, i, &other))
            return fail_at(r, SRN_EFORMAT, start, "the key is there twice (entries %zu and %zu)", other, i);
        g->n_metas = i + 1;
    }
    return SRN_OK;
}

static int read_alignment(reader *r, srn__gguf *g) {
    const srn_meta *m = srn__gguf_find(g, SRN_STR("general.alignment"));
    g->alignment = SRN__DEFAULT_ALIGN;
    if (!m) return SRN_OK;
    snprintf(r->what, sizeof r->what, "key 'general.alignment'");
    size_t at = (size_t)((const uint8_t *)m->key.ptr - r->p);
    if (m->type != SRN_META_U32 && m->type != SRN_META_U64)
        return fail_at(r, SRN_EFORMAT, at, "must be a u32 but is of type %s", srn__meta_type_name(m->type));
    if (m->v.u < 8 || (m->v.u & (m->v.u - 1)))
        return fail_at(r, SRN_EFORMAT, at, "must be a power of two from 8 on but is %" PRIu64, m->v.u);
    if (m->v.u > SRN__MAX_ALIGNMENT)
        return fail_at(r, SRN_ELIMIT, at, "%" PRIu64 " is over the limit of %u", m->v.u, SRN__MAX_ALIGNMENT);
    g->alignment = m->v.u;
    return SRN_OK;
}

/* ---- tensors ---- */

static int read_shape(reader *r, srn_tensor *t) {
    size_t start = r->at;
    uint64_t n_dims = 0, elems = 1;
    int code = read_le(r, 4, &n_dims);
    if (code) return code;
    if (n_dims > SRN_MAX_DIMS)
        return fail_at(r, SRN_ELIMIT, start, "%" PRIu64 " dimensions are over the limit of %d", n_dims,
                       SRN_MAX_DIMS);
    t->n_dims = n_dims ? (uint32_t)n_dims : 1; /* none: a scalar */
    for (size_t d = 0; d < SRN_MAX_DIMS; d++) t->ne[d] = 1;
    for (size_t d = 0; d < n_dims; d++) {
        start = r->at;
        code = read_le(r, 8, &t->ne[d]);
        if (code) return code;
        if (t->ne[d] == 0) return fail_at(r, SRN_EFORMAT, start, "dimension %zu is 0", d);
        if (!srn_mul_u64(elems, t->ne[d], &elems) || elems > INT64_MAX)
            return fail_at(r, SRN_EFORMAT, start,
                           "the dimensions overflow at dimension %zu, which is %" PRIu64, d, t->ne[d]);
    }
    return SRN_OK;
}

static int read_tensor_type(reader *r, srn_tensor *t) {
    size_t start = r->at;
    uint64_t id = 0;
    int code = read_le(r, 4, &id);
    if (code) return code;
    const srn_type_info *info = srn_type_get((uint32_t)id);
    if (!info || !info->name)
        return fail_at(r, SRN_EUNSUP, start,
                       "type %" PRIu64 " is unknown; the file is damaged or newer than this program", id);
    if (info->refused)
        return fail_at(r, SRN_EUNSUP, start, "type %s (%" PRIu64 ") is refused: %s", info->name, id,
                       info->refused);
    t->type = (srn_type)id;
    uint64_t row_bytes = 0;
    if (!srn_type_bytes(t->type, t->ne[0], &row_bytes))
        return fail_at(r, SRN_EFORMAT, start,
                       "rows of %" PRIu64 " elements are not whole blocks of %u, as type %s needs", t->ne[0],
                       info->block_elems, info->name);
    t->n_bytes = row_bytes;
    for (size_t d = 1; d < SRN_MAX_DIMS; d++)
        if (!srn_mul_u64(t->n_bytes, t->ne[d], &t->n_bytes) || t->n_bytes > INT64_MAX)
            return fail_at(r, SRN_EFORMAT, start, "the size in bytes overflows");
    return SRN_OK;
}

/* Leaves t->offset relative to the data section, whose place is not known yet. */
static int read_tensor(reader *r, srn__gguf *g, size_t i, srn_tensor *t) {
    size_t start = r->at;
    srn_str name = {NULL, 0};
    snprintf(r->what, sizeof r->what, "tensor %zu", i);
    int code = read_str(r, SRN__MAX_NAME_BYTES, &name);
    if (code) return code;
    quote(r->what, sizeof r->what, "tensor", name);
    if (!name_is_clean(name))
        return fail_at(r, SRN_EFORMAT, start, "a tensor's name must be printable UTF-8 and not empty");
    t->name = srn_arena_strndup(&g->arena, name.ptr, name.len);
    if (!t->name) return fail_memory(r, name.len + 1);
    code = read_shape(r, t);
    if (!code) code = read_tensor_type(r, t);
    if (code) return code;
    start = r->at;
    code = read_le(r, 8, &t->offset);
    if (code) return code;
    if (t->offset % g->alignment)
        return fail_at(r, SRN_EFORMAT, start,
                       "its offset %" PRIu64 " is not a multiple of the alignment %" PRIu64, t->offset,
                       g->alignment);
    return SRN_OK;
}

static int read_tensors(reader *r, srn__gguf *g, uint64_t n) {
    enum { LEAST_BYTES = 8 + 1 + 4 + 4 + 8 }; /* a name of one letter and no dimensions */
    snprintf(r->what, sizeof r->what, "the table of tensors");
    if (n > SRN__MAX_TENSORS)
        return fail_at(r, SRN_ELIMIT, 8,
                       "%" PRIu64 " tensors are over the limit of %u; it is damaged, download it again", n,
                       SRN__MAX_TENSORS);
    if (n > (r->len - r->at) / LEAST_BYTES) return fail_cut(r, n * LEAST_BYTES);
    g->tensors = srn_arena_alloc(&g->arena, (size_t)n * sizeof *g->tensors);
    if (!g->tensors) return fail_memory(r, n * sizeof *g->tensors);
    for (size_t i = 0; i < n; i++) {
        int code = read_tensor(r, g, i, &g->tensors[i]);
        if (code) return code;
    }
    g->n_tensors = (size_t)n;
    return SRN_OK;
}

static int place_tensor(reader *r, const srn__gguf *g, srn_tensor *t) {
    uint64_t begin = 0, end = 0;
    quote(r->what, sizeof r->what, "tensor", srn_str_of(t->name));
    if (!srn_add_u64(g->data_offset, t->offset, &begin) || !srn_add_u64(begin, t->n_bytes, &end))
        return fail_at(r, SRN_EFORMAT, r->at, "its offset %" PRIu64 " overflows", t->offset);
    if (end > r->len)
        return srn_fail(r->err, SRN_EFORMAT,
                        "%s: %s is at bytes %" PRIu64 " to %" PRIu64
                        " but the file has %zu; it is cut off or damaged, "
                        "download it again",
                        r->name, r->what, begin, end, r->len);
    t->offset = begin;
    t->data = r->p + begin;
    return SRN_OK;
}

static int by_offset(const void *a, const void *b) {
    const srn_tensor *x = *(const srn_tensor *const *)a, *y = *(const srn_tensor *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static int check_overlaps(reader *r, const srn__gguf *g) {
    const srn_tensor **sorted = srn_calloc(g->n_tensors, sizeof *sorted);
    if (!sorted) return fail_memory(r, g->n_tensors * sizeof *sorted);
    for (size_t i = 0; i < g->n_tensors; i++) sorted[i] = &g->tensors[i];
    qsort(sorted, g->n_tensors, sizeof *sorted, by_offset);
    int code = SRN_OK;
    for (size_t i = 1; i < g->n_tensors && !code; i++) {
        const srn_tensor *a = sorted[i - 1], *b = sorted[i];
        if (a->offset + a->n_bytes <= b->offset) continue;
        char other[160];
        quote(r->what, sizeof r->what, "tensor", srn_str_of(b->name));
        quote(other, sizeof other, "tensor", srn_str_of(a->name));
        code = fail_at(r, SRN_EFORMAT, (size_t)b->offset, "overlaps %s, which ends at byte %" PRIu64, other,
                       a->offset + a->n_bytes);
    }
    free(sorted);
    return code;
}

static int place_tensors(reader *r, srn__gguf *g) {
    g->data_offset = srn_align_up(r->at, g->alignment);
    for (size_t i = 0; i < g->n_tensors; i++) {
        int code = place_tensor(r, g, &g->tensors[i]);
        if (code) return code;
    }
    return check_overlaps(r, g);
}

/* ---- header ---- */

static int read_header(reader *r, srn__gguf *g, uint64_t *ret_tensors, uint64_t *ret_keys) {
    if (r->len < 4 || memcmp(r->p, "GGUF", 4)) {
        if (r->len >= 4 && memcmp(r->p, "FUGG", 4) == 0)
            return srn_fail(r->err, SRN_EUNSUP,
                            "%s: a big-endian GGUF file; convert it with `gguf-convert-endian FILE little` "
                            "(Python package gguf)",
                            r->name);
        return srn__not_gguf(r->p, r->len, r->name, r->err);
    }
    snprintf(r->what, sizeof r->what, "the header");
    r->at = 4;
    uint64_t version = 0;
    int code = read_le(r, 4, &version);
    if (code) return code;
    if (version && (version & 0xFFFF) == 0)
        return srn_fail(r->err, SRN_EUNSUP,
                        "%s: a big-endian GGUF file; convert it with `gguf-convert-endian FILE little` "
                        "(Python package gguf)",
                        r->name);
    if (version < 2 || version > 3)
        return srn_fail(r->err, SRN_EUNSUP, "%s: GGUF version %" PRIu64 "; versions 2 and 3 are read: %s",
                        r->name, version,
                        version < 2 ? "convert the model again or download a current file"
                                    : "use a newer program or a file of version 3");
    g->version = (uint32_t)version;
    code = read_le(r, 8, ret_tensors);
    if (!code) code = read_le(r, 8, ret_keys);
    return code;
}

int srn__gguf_init(srn__gguf *g, const void *data, size_t len, const char *name, srn_err *err) {
    reader r = {.p = data, .len = len, .name = name, .err = err};
    uint64_t n_tensors = 0, n_keys = 0;
    *g = (srn__gguf){0};
    srn_arena_init(&g->arena, 0);
    int code = read_header(&r, g, &n_tensors, &n_keys);
    if (!code) code = read_metas(&r, g, n_keys);
    if (!code) code = read_alignment(&r, g);
    if (!code) code = read_tensors(&r, g, n_tensors);
    if (!code) code = place_tensors(&r, g);
    if (code) srn__gguf_done(g);
    return code;
}

void srn__gguf_done(srn__gguf *g) {
    srn__index_done(&g->meta_index);
    srn_arena_done(&g->arena);
    *g = (srn__gguf){0};
}
