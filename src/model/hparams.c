/* The file's numbers. Reads ARCH.* keys into srn_hparams, checks their ranges, and refuses by name what the
 * architecture's row does not have. Called once, by srn_model_new. */
#include <math.h>

#include "base/num.h"
#include "model/model_internal.h"

typedef struct reader {
    srn_model *m;
    srn_err *err;
    int code; /* first failure; later reads do nothing */
} reader;

/* "ARCH.suffix" in buf. */
static const char *key_of(const reader *r, const char *suffix, char buf[256]) {
    snprintf(buf, 256, "%s.%s", r->m->arch->name, suffix);
    return buf;
}

static void fail(reader *r, int code) {
    r->code = r->code ? r->code : code;
}

static uint32_t read_u32(reader *r, const char *suffix, uint32_t fallback, uint32_t min, uint32_t max,
                         bool required) {
    char key[256];
    uint64_t v;
    if (r->code) return fallback;
    int code = srn_meta_u64(r->m->weights, key_of(r, suffix, key), &v, r->err);
    if (code == SRN_ENOENT && !required) return fallback;
    if (code == SRN_ENOENT)
        fail(r, srn_fail(r->err, SRN_EFORMAT,
                         "%s: the key '%s' is missing; the file is incomplete, convert or download it again",
                         srn_weights_path(r->m->weights), key));
    else if (code)
        fail(r, code);
    else if (v < min || v > max)
        fail(r, srn_fail(r->err, SRN_EFORMAT, "%s: key '%s' is %llu, which is outside %u..%u",
                         srn_weights_path(r->m->weights), key, (unsigned long long)v, min, max));
    else
        return (uint32_t)v;
    return fallback;
}

static double read_f64(reader *r, const char *suffix, double fallback, double min, double max) {
    char key[256];
    double v;
    if (r->code) return fallback;
    int code = srn_meta_f64(r->m->weights, key_of(r, suffix, key), &v, r->err);
    if (code == SRN_ENOENT) return fallback;
    if (code)
        fail(r, code);
    else if (!(v >= min && v <= max))
        fail(r, srn_fail(r->err, SRN_EFORMAT, "%s: key '%s' is %g, which is outside %g..%g",
                         srn_weights_path(r->m->weights), key, v, min, max));
    else
        return v;
    return fallback;
}

/* A number per layer or one for all; layers that differ are refused. */
static uint32_t read_per_layer(reader *r, const char *suffix, uint32_t fallback, uint32_t max,
                               bool required) {
    char key[256];
    const srn_meta *meta = r->code ? NULL : srn_meta_find(r->m->weights, key_of(r, suffix, key));
    if (!meta || meta->type != SRN_META_ARR) return read_u32(r, suffix, fallback, 1, max, required);
    if (meta->count == 0 || meta->elem == SRN_META_STR || meta->elem == SRN_META_ARR) {
        fail(r, srn_fail(r->err, SRN_EFORMAT, "%s: key '%s' must hold numbers",
                         srn_weights_path(r->m->weights), key));
        return fallback;
    }
    int64_t v = srn_meta_elem_i64(meta, 0);
    for (size_t i = 1; i < meta->count; i++)
        if (srn_meta_elem_i64(meta, i) != v) {
            fail(r, srn_fail(r->err, SRN_EUNSUP,
                             "%s: key '%s' differs between layers, which '%s' models here cannot have",
                             srn_weights_path(r->m->weights), key, r->m->arch->name));
            return fallback;
        }
    if (v < 1 || v > max) {
        fail(r, srn_fail(r->err, SRN_EFORMAT, "%s: key '%s' is %lld, which is outside 1..%u",
                         srn_weights_path(r->m->weights), key, (long long)v, max));
        return fallback;
    }
    return (uint32_t)v;
}

static void read_rope(reader *r) {
    srn_hparams *hp = &r->m->hp;
    char key[256];
    srn_str type = SRN_STR("none");
    hp->n_rot = read_u32(r, "rope.dimension_count", hp->d_k, 2, hp->d_k, false);
    if (!r->code && hp->n_rot % 2)
        fail(r, srn_fail(r->err, SRN_EFORMAT, "%s: rope.dimension_count %u is odd",
                         srn_weights_path(r->m->weights), hp->n_rot));
    hp->rope_base = read_f64(r, "rope.freq_base", 10000.0, 1.0, 1e12);
    double local = (double)r->m->arch->local_rope_base;
    hp->rope_base_local = read_f64(r, "rope.freq_base_swa", local > 0 ? local : hp->rope_base, 1.0, 1e12);
    hp->local_rope = local > 0 || hp->rope_base_local != hp->rope_base;
    hp->rope_factor =
        read_f64(r, "rope.scaling.factor", read_f64(r, "rope.scale_linear", 1.0, 1e-3, 1e4), 1e-3, 1e4);
    hp->rope_ctx_orig =
        read_u32(r, "rope.scaling.original_context_length", hp->n_ctx_train, 1, 1u << 30, false);
    hp->rope_attn_factor = read_f64(r, "rope.scaling.attn_factor", 1.0, 1e-3, 1e3) *
                           read_f64(r, "rope.scaling.yarn_attn_factor", 1.0, 1e-3, 1e3);
    hp->yarn_ext_factor = read_f64(r, "rope.scaling.yarn_ext_factor", 1.0, 0.0, 1.0);
    hp->yarn_beta_fast = read_f64(r, "rope.scaling.yarn_beta_fast", 32.0, 1e-3, 1e4);
    hp->yarn_beta_slow = read_f64(r, "rope.scaling.yarn_beta_slow", 1.0, 1e-3, 1e4);
    if (r->code) return;
    int code = srn_meta_str(r->m->weights, key_of(r, "rope.scaling.type", key), &type, r->err);
    if (code && code != SRN_ENOENT) return fail(r, code);
    if (code == SRN_ENOENT && hp->rope_factor != 1.0) type = SRN_STR("linear");
    if (srn_str_eqz(type, "none"))
        hp->rope_scaling = SRN_ROPE_NONE;
    else if (srn_str_eqz(type, "linear"))
        hp->rope_scaling = SRN_ROPE_LINEAR;
    else if (srn_str_eqz(type, "yarn"))
        hp->rope_scaling = SRN_ROPE_YARN;
    else if (srn_str_eqz(type, "longrope"))
        hp->rope_scaling = SRN_ROPE_LONG;
    else
        fail(r, srn_fail(r->err, SRN_EUNSUP,
                         "%s: key '%s' asks for rope scaling '%.*s'; known are none, linear, yarn, longrope",
                         srn_weights_path(r->m->weights), key, (int)SRN_MIN(type.len, 40), type.ptr));
}

static void read_experts(reader *r) {
    srn_hparams *hp = &r->m->hp;
    char key[256];
    hp->n_expert = read_u32(r, "expert_count", 0, 0, 4096, false);
    hp->n_expert_used = read_u32(r, "expert_used_count", 0, 0, SRN_MIN(hp->n_expert, 64u), false);
    hp->n_ff_expert = read_u32(r, "expert_feed_forward_length", hp->n_ff, 1, 1u << 24, false);
    hp->expert_norm = true;
    if (r->code) return;
    if (hp->n_expert && !r->m->arch->experts)
        return fail(r, srn_fail(r->err, SRN_EUNSUP,
                                "%s: the file asks for %u experts, which '%s' models do not have",
                                srn_weights_path(r->m->weights), hp->n_expert, r->m->arch->name));
    if (hp->n_expert && !hp->n_expert_used)
        return fail(r, srn_fail(r->err, SRN_EFORMAT, "%s: the file has %u experts and uses none of them",
                                srn_weights_path(r->m->weights), hp->n_expert));
    int code = srn_meta_bool(r->m->weights, key_of(r, "expert_weights_norm", key), &hp->expert_norm, r->err);
    if (code && code != SRN_ENOENT) fail(r, code);
}

/* Keys under "ARCH." that are understood or say nothing about the computation; others are refused. */
static const char *const known_keys[] = {"vocab_size",
                                         "context_length",
                                         "embedding_length",
                                         "block_count",
                                         "feed_forward_length",
                                         "attention.head_count",
                                         "attention.head_count_kv",
                                         "attention.key_length",
                                         "attention.value_length",
                                         "attention.layer_norm_rms_epsilon",
                                         "attention.sliding_window",
                                         "attention.sliding_window_pattern",
                                         "attention.scale",
                                         "attention.key_length_swa",
                                         "attention.value_length_swa",
                                         "attention.head_count_kv_swa",
                                         "rope.dimension_count_swa",
                                         "attn_logit_softcapping",
                                         "final_logit_softcapping",
                                         "rope.dimension_count",
                                         "rope.freq_base",
                                         "rope.freq_base_swa",
                                         "rope.scale_linear",
                                         "rope.scaling.type",
                                         "rope.scaling.factor",
                                         "rope.scaling.original_context_length",
                                         "rope.scaling.attn_factor",
                                         "rope.scaling.finetuned",
                                         "rope.scaling.yarn_beta_fast",
                                         "rope.scaling.yarn_beta_slow",
                                         "rope.scaling.yarn_attn_factor",
                                         "rope.scaling.yarn_ext_factor",
                                         "expert_count",
                                         "expert_used_count",
                                         "expert_feed_forward_length",
                                         "expert_weights_norm"};

static void refuse_unknown_keys(reader *r) {
    size_t prefix = strlen(r->m->arch->name) + 1;
    for (size_t i = 0; i < srn_meta_count(r->m->weights) && !r->code; i++) {
        const srn_meta *meta = srn_meta_at(r->m->weights, i);
        if (meta->key.len <= prefix || memcmp(meta->key.ptr, r->m->arch->name, prefix - 1) != 0 ||
            meta->key.ptr[prefix - 1] != '.')
            continue;
        srn_str rest = {meta->key.ptr + prefix, meta->key.len - prefix};
        size_t k = 0;
        while (k < SRN_LEN(known_keys) && !srn_str_eqz(rest, known_keys[k])) k++;
        if (k < SRN_LEN(known_keys)) continue;
        bool zero = (meta->type <= SRN_META_I32 && meta->v.u == 0) ||
                    (meta->type == SRN_META_BOOL && !meta->v.b) ||
                    (meta->type == SRN_META_F32 && meta->v.f == 0.0);
        if (!zero) /* a feature that is switched off is no request */
            fail(r, srn_fail(r->err, SRN_EUNSUP,
                             "%s: the file sets '%.*s', which this version does not know for '%s' models",
                             srn_weights_path(r->m->weights), (int)SRN_MIN(meta->key.len, 200), meta->key.ptr,
                             r->m->arch->name));
    }
}

/* Sizes of windowed layers, where a file states them: they must be those of the others. */
static void check_window_sizes(reader *r) {
    const srn_hparams *hp = &r->m->hp;
    const struct {
        const char *key;
        uint32_t want;
    } sizes[] = {{"attention.key_length_swa", hp->d_k},
                 {"attention.value_length_swa", hp->d_v},
                 {"attention.head_count_kv_swa", hp->n_head_kv},
                 {"rope.dimension_count_swa", hp->n_rot}};
    for (size_t i = 0; i < SRN_LEN(sizes) && !r->code; i++)
        if (read_u32(r, sizes[i].key, sizes[i].want, 0, UINT32_MAX, false) != sizes[i].want && !r->code)
            fail(r, srn_fail(r->err, SRN_EUNSUP,
                             "%s: key '%s.%s' gives windowed layers another size than %u, which this version "
                             "cannot run",
                             srn_weights_path(r->m->weights), r->m->arch->name, sizes[i].key, sizes[i].want));
}

/* Whether layer windows follow the row's period; a pattern in the file must agree with it. */
static void check_window_pattern(reader *r) {
    char key[256];
    const srn_meta *meta = srn_meta_find(r->m->weights, key_of(r, "attention.sliding_window_pattern", key));
    uint32_t period = r->m->arch->window_period;
    if (!meta || r->code) return;
    bool same = true;
    if (meta->type != SRN_META_ARR)
        same = meta->type <= SRN_META_I32 && meta->v.u == period;
    else if (meta->elem == SRN_META_STR || meta->elem == SRN_META_ARR)
        same = false;
    else
        for (size_t i = 0; i < meta->count; i++)
            same = same && (srn_meta_elem_i64(meta, i) != 0) == (period == 0 || (i + 1) % period != 0);
    if (!same)
        fail(r,
             srn_fail(r->err, SRN_EUNSUP,
                      "%s: key '%s' asks for a pattern of windowed layers other than every %u-th being full",
                      srn_weights_path(r->m->weights), key, period));
}

static void switch_off(srn_model *m) {
    srn_hparams *hp = &m->hp;
    unsigned off = m->features_off;
    if (off & SRN_FEAT_ROPE_BASE) hp->rope_base = 10000.0;
    if (off & SRN_FEAT_ROPE_SCALING) hp->rope_scaling = SRN_ROPE_NONE, hp->rope_factor = 1.0;
    if (off & SRN_FEAT_ROPE_LOCAL_BASE) hp->rope_base_local = hp->rope_base;
    if (off & SRN_FEAT_WINDOW) hp->window = 0;
    if (off & SRN_FEAT_ATTN_SCALE) hp->attn_scale = 1.0f;
    if (off & SRN_FEAT_ATTN_SOFTCAP) hp->attn_softcap = 0;
    if (off & SRN_FEAT_FINAL_SOFTCAP) hp->final_softcap = 0;
    if (off & SRN_FEAT_EMBED_SCALE) hp->embed_scale = 1.0f;
    if (off & SRN_FEAT_MOE_NORM) hp->expert_norm = !hp->expert_norm;
    if (off & SRN_FEAT_GATE) m->act = m->act == SRN_ACT_SILU ? SRN_ACT_GELU : SRN_ACT_SILU;
}

int srn__hparams_read(srn_model *m, srn_err *err) {
    reader rd = {m, err, 0}, *r = &rd;
    srn_hparams *hp = &m->hp;
    const srn_arch *a = m->arch;
    hp->n_embd = read_u32(r, "embedding_length", 0, 1, 1u << 20, true);
    hp->n_layer = read_u32(r, "block_count", 0, 1, 1u << 14, true);
    hp->n_ctx_train = read_u32(r, "context_length", 0, 1, 1u << 30, true);
    hp->n_head = read_per_layer(r, "attention.head_count", 0, 1u << 14, true);
    hp->n_head_kv = read_per_layer(r, "attention.head_count_kv", hp->n_head, 1u << 14, false);
    hp->n_ff = read_per_layer(r, "feed_forward_length", 0, 1u << 24, true);
    hp->norm_eps = (float)read_f64(r, "attention.layer_norm_rms_epsilon", 1e-5, 0.0, 1.0);
    if (r->code) return r->code;
    uint32_t per_head = hp->n_embd / hp->n_head;
    hp->d_k = read_u32(r, "attention.key_length", per_head, 1, 1u << 14, per_head == 0);
    hp->d_v = read_u32(r, "attention.value_length", per_head, 1, 1u << 14, per_head == 0);
    hp->window = read_u32(r, "attention.sliding_window", 0, 0, 1u << 30, false);
    uint32_t scale_dim =
        a->scale_by_embd_layers && hp->n_layer == a->scale_by_embd_layers ? per_head : hp->d_k;
    hp->attn_scale = (float)read_f64(r, "attention.scale", 1.0 / sqrt((double)scale_dim), 1e-6, 1e3);
    hp->attn_softcap = (float)read_f64(r, "attn_logit_softcapping", (double)a->attn_softcap, 0.0, 1e6);
    hp->final_softcap = (float)read_f64(r, "final_logit_softcapping", (double)a->final_softcap, 0.0, 1e6);
    hp->embed_scale = a->embed_scale ? sqrtf((float)hp->n_embd) : 1.0f;
    read_rope(r);
    read_experts(r);
    check_window_sizes(r);
    refuse_unknown_keys(r);
    check_window_pattern(r);
    if (r->code) return r->code;
    if (hp->n_head % hp->n_head_kv)
        return srn_fail(err, SRN_EFORMAT, "%s: %u query heads cannot share %u KV heads evenly",
                        srn_weights_path(m->weights), hp->n_head, hp->n_head_kv);
    if (a->window_period && !hp->window)
        return srn_fail(err, SRN_EFORMAT, "%s: the key '%s.attention.sliding_window' is missing",
                        srn_weights_path(m->weights), a->name);
    switch_off(m);
    return SRN_OK;
}
