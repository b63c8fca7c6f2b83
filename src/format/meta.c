/* Typed look-ups in a model's metadata: of the first part, which holds all of it. Pure; any thread. */
#include "format/format_internal.h"

#include <inttypes.h>

size_t srn_meta_count(const srn_weights *w) {
    return w->parts[0].gguf.n_metas;
}

const srn_meta *srn_meta_at(const srn_weights *w, size_t i) {
    return i < srn_meta_count(w) ? &w->parts[0].gguf.metas[i] : NULL;
}

const srn_meta *srn_meta_find(const srn_weights *w, const char *key) {
    return srn__gguf_find(&w->parts[0].gguf, srn_str_of(key));
}

static int fail_type(const srn_weights *w, const srn_meta *m, const char *wanted, srn_err *err) {
    bool array = m->type == SRN_META_ARR;
    return srn_fail(err, SRN_EFORMAT, "%s: key '%.*s' must be %s but is %s%s", srn_weights_path(w),
                    (int)m->key.len, m->key.ptr, wanted, array ? "an array of " : "of type ",
                    srn__meta_type_name(array ? m->elem : m->type));
}

static bool is_unsigned(srn_meta_type t) {
    return t == SRN_META_U8 || t == SRN_META_U16 || t == SRN_META_U32 || t == SRN_META_U64;
}

static bool is_signed(srn_meta_type t) {
    return t == SRN_META_I8 || t == SRN_META_I16 || t == SRN_META_I32 || t == SRN_META_I64;
}

int srn_meta_u64(const srn_weights *w, const char *key, uint64_t *ret, srn_err *err) {
    const srn_meta *m = srn_meta_find(w, key);
    if (!m) return SRN_ENOENT;
    if (!is_unsigned(m->type) && !is_signed(m->type)) return fail_type(w, m, "an integer", err);
    if (is_signed(m->type) && m->v.i < 0)
        return srn_fail(err, SRN_EFORMAT, "%s: key '%s' must not be negative but is %" PRId64,
                        srn_weights_path(w), key, m->v.i);
    *ret = m->v.u;
    return SRN_OK;
}

int srn_meta_i64(const srn_weights *w, const char *key, int64_t *ret, srn_err *err) {
    const srn_meta *m = srn_meta_find(w, key);
    if (!m) return SRN_ENOENT;
    if (!is_unsigned(m->type) && !is_signed(m->type)) return fail_type(w, m, "an integer", err);
    if (is_unsigned(m->type) && m->v.u > INT64_MAX)
        return srn_fail(err, SRN_EFORMAT, "%s: key '%s' is too large: %" PRIu64, srn_weights_path(w), key,
                        m->v.u);
    *ret = m->v.i;
    return SRN_OK;
}

int srn_meta_f64(const srn_weights *w, const char *key, double *ret, srn_err *err) {
    const srn_meta *m = srn_meta_find(w, key);
    if (!m) return SRN_ENOENT;
    if (m->type == SRN_META_F32 || m->type == SRN_META_F64)
        *ret = m->v.f;
    else if (is_unsigned(m->type))
        *ret = (double)m->v.u;
    else if (is_signed(m->type))
        *ret = (double)m->v.i;
    else
        return fail_type(w, m, "a number", err);
    return SRN_OK;
}

int srn_meta_bool(const srn_weights *w, const char *key, bool *ret, srn_err *err) {
    const srn_meta *m = srn_meta_find(w, key);
    if (!m) return SRN_ENOENT;
    if (m->type != SRN_META_BOOL) return fail_type(w, m, "a bool", err);
    *ret = m->v.b;
    return SRN_OK;
}

int srn_meta_str(const srn_weights *w, const char *key, srn_str *ret, srn_err *err) {
    const srn_meta *m = srn_meta_find(w, key);
    if (!m) return SRN_ENOENT;
    if (m->type != SRN_META_STR) return fail_type(w, m, "a string", err);
    *ret = m->v.s;
    return SRN_OK;
}

int srn_meta_strs(const srn_weights *w, const char *key, const srn_str **ret, size_t *ret_n, srn_err *err) {
    const srn_meta *m = srn_meta_find(w, key);
    if (!m) return SRN_ENOENT;
    if (m->type != SRN_META_ARR || m->elem != SRN_META_STR)
        return fail_type(w, m, "an array of strings", err);
    *ret = m->v.strs;
    *ret_n = (size_t)m->count;
    return SRN_OK;
}

/* The bits of element i, zero-extended. */
static uint64_t elem_bits(const srn_meta *m, size_t i) {
    size_t n = srn__meta_elem_bytes(m->elem);
    const uint8_t *p = (const uint8_t *)m->v.raw + i * n;
    uint64_t v = 0;
    for (size_t k = n; k > 0; k--) v = v << 8 | p[k - 1];
    return v;
}

static int64_t sign_extend(uint64_t bits, srn_meta_type t) {
    switch (t) {
    case SRN_META_I8:
        return (int8_t)bits;
    case SRN_META_I16:
        return (int16_t)bits;
    case SRN_META_I32:
        return (int32_t)bits;
    default:
        return (int64_t)bits;
    }
}

double srn_meta_elem_f64(const srn_meta *m, size_t i) {
    uint64_t bits = elem_bits(m, i);
    if (m->elem == SRN_META_F32) {
        uint32_t bits32 = (uint32_t)bits;
        float f;
        memcpy(&f, &bits32, sizeof f);
        return (double)f;
    }
    if (m->elem == SRN_META_F64) {
        double d;
        memcpy(&d, &bits, sizeof d);
        return d;
    }
    return is_signed(m->elem) ? (double)sign_extend(bits, m->elem) : (double)bits;
}

int64_t srn_meta_elem_i64(const srn_meta *m, size_t i) {
    if (m->elem == SRN_META_F32 || m->elem == SRN_META_F64) {
        double d = srn_meta_elem_f64(m, i);
        if (d != d) return 0; /* not a number */
        return d >= 0x1p63 ? INT64_MAX : d < -0x1p63 ? INT64_MIN : (int64_t)d;
    }
    uint64_t bits = elem_bits(m, i);
    if (is_signed(m->elem)) return sign_extend(bits, m->elem);
    return bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
}
