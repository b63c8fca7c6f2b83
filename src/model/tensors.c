/* The tensor map: every matrix and vector of the forward pass by its name in the file, with its shape
 * checked. A tensor that no part of the row asks for is refused by name. Called once, by srn_model_new. */
#include <stdlib.h>

#include "model/model_internal.h"

typedef struct mapper {
    srn_model *m;
    srn_err *err;
    uint8_t *used; /* per tensor of the directory */
} mapper;

static const srn_tensor *find(mapper *p, const char *name) {
    const srn_tensor *t = srn_weights_find(p->m->weights, name);
    if (t) p->used[t - srn_weights_at(p->m->weights, 0)] = 1;
    return t;
}

static int missing(mapper *p, const char *name) {
    return srn_fail(p->err, SRN_EFORMAT,
                    "%s: tensor '%s' is missing; the file is incomplete, convert or download it again",
                    srn_weights_path(p->m->weights), name);
}

static int wrong_shape(mapper *p, const srn_tensor *t, uint64_t cols, uint64_t rows) {
    return srn_fail(p->err, SRN_EFORMAT, "%s: tensor '%s' is [%llu, %llu, %llu] and should be [%llu, %llu]",
                    srn_weights_path(p->m->weights), t->name, (unsigned long long)t->ne[0],
                    (unsigned long long)t->ne[1], (unsigned long long)t->ne[2], (unsigned long long)cols,
                    (unsigned long long)rows);
}

/* Adds rows [row0, row0+rows) of a tensor as a matrix. */
static int add_mat(mapper *p, const srn_tensor *t, uint64_t row0, uint32_t rows, uint32_t cols,
                   uint32_t parts, const srn_mat **ret) {
    const srn_type_info *info = srn_type_get((uint32_t)t->type);
    if (info->form == SRN_FORM_NONE)
        return srn_fail(p->err, SRN_EUNSUP, "%s: tensor '%s' has type %s, which cannot be a weight matrix",
                        srn_weights_path(p->m->weights), t->name, info->name);
    srn_mat *mat = &p->m->mats[p->m->n_mats++];
    *mat = (srn_mat){.t = t, .row0 = row0, .rows = rows, .cols = cols, .parts = parts};
    *ret = mat;
    return SRN_OK;
}

/* A matrix [rows, cols] filling its tensor (times `experts` in a third dimension). NULL where optional. */
static int map_mat(mapper *p, const char *name, uint32_t experts, uint32_t rows, uint32_t cols, bool required,
                   const srn_mat **ret) {
    const srn_tensor *t = find(p, name);
    if (!t) return required ? missing(p, name) : SRN_OK;
    if (t->ne[0] != cols || t->ne[1] != rows || t->ne[2] != experts || t->ne[3] != 1)
        return wrong_shape(p, t, cols, rows);
    if ((uint64_t)rows * experts > UINT32_MAX)
        return srn_fail(p->err, SRN_EUNSUP, "%s: tensor '%s' has %u x %u rows, and 2^32 - 1 is the most",
                        srn_weights_path(p->m->weights), name, experts, rows);
    return add_mat(p, t, 0, rows * experts, cols, experts, ret);
}

/* A vector of n values as f32. NULL where optional. */
static int map_vec(mapper *p, const char *name, uint64_t n, bool required, const float **ret) {
    const srn_tensor *t = find(p, name);
    if (!t) return required ? missing(p, name) : SRN_OK;
    if (t->ne[0] != n || t->ne[1] * t->ne[2] * t->ne[3] != 1) return wrong_shape(p, t, n, 1);
    const srn_type_info *info = srn_type_get((uint32_t)t->type);
    if (info->form != SRN_FORM_FLOAT)
        return srn_fail(p->err, SRN_EUNSUP, "%s: tensor '%s' is a vector and has type %s; it must be floats",
                        srn_weights_path(p->m->weights), name, info->name);
    float *v = srn_arena_alloc(&p->m->arena, (size_t)n * sizeof *v);
    if (!v) return srn_fail_nomem(p->err, (size_t)n * sizeof *v);
    srn_dequant(t->type, t->data, v, (size_t)n);
    *ret = v;
    return SRN_OK;
}

#define TRY(call)                                                                                            \
    do {                                                                                                     \
        int code_ = (call);                                                                                  \
        if (code_) return code_;                                                                             \
    } while (0)

static const char *blk(char buf[96], uint32_t layer, const char *suffix) {
    snprintf(buf, 96, "blk.%u.%s", layer, suffix);
    return buf;
}

/* q, k and v from one tensor's rows, in that order. */
static int map_fused_qkv(mapper *p, uint32_t i, srn_layer *l) {
    const srn_hparams *hp = &p->m->hp;
    char b[96];
    uint32_t nq = hp->n_head * hp->d_k, nk = hp->n_head_kv * hp->d_k, nv = hp->n_head_kv * hp->d_v;
    const srn_tensor *t = find(p, blk(b, i, "attn_qkv.weight"));
    if (!t) return missing(p, b);
    if (t->ne[0] != hp->n_embd || t->ne[1] != (uint64_t)nq + nk + nv || t->ne[2] != 1)
        return wrong_shape(p, t, hp->n_embd, (uint64_t)nq + nk + nv);
    TRY(add_mat(p, t, 0, nq, hp->n_embd, 1, &l->q));
    TRY(add_mat(p, t, nq, nk, hp->n_embd, 1, &l->k));
    return add_mat(p, t, (uint64_t)nq + nk, nv, hp->n_embd, 1, &l->v);
}

static int map_attention(mapper *p, uint32_t i, srn_layer *l) {
    const srn_hparams *hp = &p->m->hp;
    const srn_arch *a = p->m->arch;
    char b[96];
    uint32_t nq = hp->n_head * hp->d_k, nk = hp->n_head_kv * hp->d_k, nv = hp->n_head_kv * hp->d_v;
    bool bias = !(p->m->features_off & SRN_FEAT_ATTN_BIAS);
    TRY(map_vec(p, blk(b, i, "attn_norm.weight"), hp->n_embd, true, &l->attn_norm));
    if (a->fused_qkv && srn_weights_find(p->m->weights, blk(b, i, "attn_qkv.weight"))) {
        TRY(map_fused_qkv(p, i, l));
    } else {
        TRY(map_mat(p, blk(b, i, "attn_q.weight"), 1, nq, hp->n_embd, true, &l->q));
        TRY(map_mat(p, blk(b, i, "attn_k.weight"), 1, nk, hp->n_embd, true, &l->k));
        TRY(map_mat(p, blk(b, i, "attn_v.weight"), 1, nv, hp->n_embd, true, &l->v));
    }
    TRY(map_vec(p, blk(b, i, "attn_q.bias"), nq, false, &l->q_bias));
    TRY(map_vec(p, blk(b, i, "attn_k.bias"), nk, false, &l->k_bias));
    TRY(map_vec(p, blk(b, i, "attn_v.bias"), nv, false, &l->v_bias));
    TRY(map_vec(p, blk(b, i, "attn_output.bias"), hp->n_embd, false, &l->o_bias));
    if (!bias) l->q_bias = l->k_bias = l->v_bias = l->o_bias = NULL;
    TRY(map_mat(p, blk(b, i, "attn_output.weight"), 1, hp->n_embd, hp->n_head * hp->d_v, true, &l->o));
    if (a->qk_norm) {
        TRY(map_vec(p, blk(b, i, "attn_q_norm.weight"), hp->d_k, true, &l->q_norm));
        TRY(map_vec(p, blk(b, i, "attn_k_norm.weight"), hp->d_k, true, &l->k_norm));
        if (p->m->features_off & SRN_FEAT_QK_NORM) l->q_norm = l->k_norm = NULL;
    }
    if (a->post_norm)
        TRY(map_vec(p, blk(b, i, "post_attention_norm.weight"), hp->n_embd, true, &l->attn_post_norm));
    return SRN_OK;
}

static int map_ffn(mapper *p, uint32_t i, srn_layer *l) {
    const srn_hparams *hp = &p->m->hp;
    char b[96];
    TRY(map_vec(p, blk(b, i, "ffn_norm.weight"), hp->n_embd, true, &l->ffn_norm));
    if (p->m->arch->post_norm)
        TRY(map_vec(p, blk(b, i, "post_ffw_norm.weight"), hp->n_embd, true, &l->ffn_post_norm));
    if (p->m->features_off & SRN_FEAT_POST_NORM) l->attn_post_norm = l->ffn_post_norm = NULL;
    if (hp->n_expert && srn_weights_find(p->m->weights, blk(b, i, "ffn_gate_inp.weight"))) {
        TRY(map_mat(p, b, 1, hp->n_expert, hp->n_embd, true, &l->router));
        TRY(map_mat(p, blk(b, i, "ffn_gate_exps.weight"), hp->n_expert, hp->n_ff_expert, hp->n_embd, true,
                    &l->gate_exps));
        TRY(map_mat(p, blk(b, i, "ffn_up_exps.weight"), hp->n_expert, hp->n_ff_expert, hp->n_embd, true,
                    &l->up_exps));
        return map_mat(p, blk(b, i, "ffn_down_exps.weight"), hp->n_expert, hp->n_embd, hp->n_ff_expert, true,
                       &l->down_exps);
    }
    if (p->m->arch->fused_qkv && !srn_weights_find(p->m->weights, blk(b, i, "ffn_gate.weight"))) {
        const srn_tensor *t = find(p, blk(b, i, "ffn_up.weight")); /* gate, then up */
        if (!t) return missing(p, b);
        if (t->ne[0] != hp->n_embd || t->ne[1] != 2ull * hp->n_ff || t->ne[2] != 1)
            return wrong_shape(p, t, hp->n_embd, 2ull * hp->n_ff);
        TRY(add_mat(p, t, 0, hp->n_ff, hp->n_embd, 1, &l->gate));
        TRY(add_mat(p, t, hp->n_ff, hp->n_ff, hp->n_embd, 1, &l->up));
    } else {
        TRY(map_mat(p, blk(b, i, "ffn_gate.weight"), 1, hp->n_ff, hp->n_embd, true, &l->gate));
        TRY(map_mat(p, blk(b, i, "ffn_up.weight"), 1, hp->n_ff, hp->n_embd, true, &l->up));
    }
    return map_mat(p, blk(b, i, "ffn_down.weight"), 1, hp->n_embd, hp->n_ff, true, &l->down);
}

/* Divisors of the frequencies [n_rot/2], or NULL. The range keeps every angle one that srn_sincos can take.
 */
static int check_rope_factors(mapper *p, const float *f) {
    for (uint32_t i = 0; f && i < p->m->hp.n_rot / 2; i++)
        if (!(f[i] >= 1e-3f && f[i] <= 1e6f))
            return srn_fail(p->err, SRN_EFORMAT, "%s: rope factor %u is %g, which is outside 0.001..1000000",
                            srn_weights_path(p->m->weights), i, (double)f[i]);
    return SRN_OK;
}

static int map_globals(mapper *p) {
    srn_model *m = p->m;
    srn_hparams *hp = &m->hp;
    const srn_tensor *t = find(p, "token_embd.weight");
    if (!t) return missing(p, "token_embd.weight");
    if (t->ne[0] != hp->n_embd || t->ne[1] == 0 || t->ne[1] > (1u << 24) || t->ne[2] != 1)
        return wrong_shape(p, t, hp->n_embd, hp->n_vocab);
    hp->n_vocab = (uint32_t)t->ne[1];
    TRY(add_mat(p, t, 0, hp->n_vocab, hp->n_embd, 1, &m->embd));
    TRY(map_mat(p, "output.weight", 1, hp->n_vocab, hp->n_embd, false, &m->head));
    if (!m->head) m->head = m->embd;
    TRY(map_vec(p, "output_norm.weight", hp->n_embd, true, &m->out_norm));
    uint32_t half = hp->n_rot / 2;
    if (hp->rope_scaling == SRN_ROPE_NONE && srn_weights_find(m->weights, "rope_factors_long.weight"))
        hp->rope_scaling = SRN_ROPE_LONG; /* phi3 files say it by these tensors alone */
    if (hp->rope_scaling == SRN_ROPE_LONG) {
        TRY(map_vec(p, "rope_factors_short.weight", half, true, &m->rope_factors));
        TRY(map_vec(p, "rope_factors_long.weight", half, true, &m->rope_factors_long));
    } else {
        TRY(map_vec(p, "rope_freqs.weight", half, false, &m->rope_factors));
    }
    if (m->features_off & SRN_FEAT_ROPE_SCALING) {
        (void)find(p, "rope_factors_short.weight"), (void)find(p, "rope_factors_long.weight");
        m->rope_factors = m->rope_factors_long = NULL;
        hp->rope_scaling = SRN_ROPE_NONE;
    }
    TRY(check_rope_factors(p, m->rope_factors));
    return check_rope_factors(p, m->rope_factors_long);
}

/* Layers with full attention are group 0, those with a window the next (0 where none is full). */
static void group_layers(srn_model *m) {
    uint32_t in_group[2] = {0, 0};
    bool any_full = false;
    for (uint32_t i = 0; i < m->hp.n_layer; i++) any_full = any_full || !m->layers[i].window;
    for (uint32_t i = 0; i < m->hp.n_layer; i++) {
        srn_layer *l = &m->layers[i];
        l->kv_group = l->window && any_full;
        l->kv_index = in_group[l->kv_group]++;
    }
}

static int map_all(mapper *p) {
    srn_model *m = p->m;
    TRY(map_globals(p));
    for (uint32_t i = 0; i < m->hp.n_layer; i++) {
        srn_layer *l = &m->layers[i];
        TRY(map_attention(p, i, l));
        TRY(map_ffn(p, i, l));
        bool full = m->arch->window_period && (i + 1) % m->arch->window_period == 0;
        l->window = full ? 0 : m->hp.window;
        l->local_rope = !full && m->hp.local_rope;
    }
    group_layers(m);
    for (size_t i = 0; i < srn_weights_count(m->weights); i++) {
        const srn_tensor *t = srn_weights_at(m->weights, i);
        if (!p->used[i])
            return srn_fail(p->err, SRN_EUNSUP,
                            "%s: tensor '%s' has no place in a '%s' model, and nothing is ignored; this "
                            "version cannot run the file",
                            srn_weights_path(m->weights), t->name, m->arch->name);
    }
    return SRN_OK;
}

int srn__tensors_map(srn_model *m, srn_err *err) {
    mapper p = {.m = m, .err = err};
    size_t max_mats = 2 + (size_t)m->hp.n_layer * 8;
    if (srn_weights_count(m->weights) == 0)
        return srn_fail(err, SRN_EFORMAT, "%s: the file holds a vocabulary and no weights",
                        srn_weights_path(m->weights));
    if (m->hp.n_layer > srn_weights_count(m->weights))
        return srn_fail(err, SRN_EFORMAT, "%s: %u layers, but only %zu tensors", srn_weights_path(m->weights),
                        m->hp.n_layer, srn_weights_count(m->weights));
    m->mats = srn_arena_alloc(&m->arena, max_mats * sizeof *m->mats);
    m->layers = srn_arena_alloc(&m->arena, m->hp.n_layer * sizeof *m->layers);
    p.used = srn_calloc(srn_weights_count(m->weights), 1);
    int code = m->mats && m->layers && p.used ? map_all(&p) : srn_fail_nomem(err, max_mats * sizeof *m->mats);
    free(p.used);
    return code;
}

int srn_model_new(const srn_weights *w, unsigned features_off, srn_model **ret, srn_err *err) {
    srn_str name;
    int code = srn_meta_str(w, "general.architecture", &name, err);
    if (code == SRN_ENOENT)
        return srn_fail(err, SRN_EFORMAT, "%s: the key 'general.architecture' is missing",
                        srn_weights_path(w));
    if (code) return code;
    const srn_arch *arch = srn_arch_find(name);
    if (!arch) {
        char known[256] = "";
        for (size_t i = 0; srn_arch_at(i); i++)
            snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "",
                     srn_arch_at(i)->name);
        return srn_fail(err, SRN_EUNSUP, "%s: architecture '%.*s' is not supported; this version runs %s",
                        srn_weights_path(w), (int)SRN_MIN(name.len, 60), name.ptr, known);
    }
    srn_model *m = srn_calloc(1, sizeof *m);
    if (!m) return srn_fail_nomem(err, sizeof *m);
    m->weights = w;
    m->arch = arch;
    m->act = arch->act;
    m->features_off = features_off;
    srn_arena_init(&m->arena, 0);
    code = srn__hparams_read(m, err);
    if (!code) code = srn__tensors_map(m, err);
    if (code) {
        srn_model_free(m);
        return code;
    }
    *ret = m;
    return SRN_OK;
}

void srn_model_free(srn_model *m) {
    if (!m) return;
    srn_arena_done(&m->arena);
    free(m);
}
