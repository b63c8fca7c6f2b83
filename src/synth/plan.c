/* The plan of a model: every tensor that its architecture has, with type, shape and how its values come
 * about. Called once, by srn_synth_new. Weights are Gaussian with a standard deviation of 1/sqrt(fan-in), so
 * that activations keep their size from layer to layer; what enters the residual stream is smaller by the
 * root of the number of such additions; queries and keys are somewhat larger, so that attention is neither
 * flat nor a single position.
 */
#include <math.h>
#include <stdlib.h>

#include "synth/synth_internal.h"

#define SCORE_GAIN 1.4 /* of queries and of keys: scores have a standard deviation of about 2 */

static srn__synth_tensor *add(srn_synth *s) {
    if (s->n_tensors == s->cap_tensors) {
        size_t cap = s->cap_tensors ? 2 * s->cap_tensors : 256;
        srn__synth_tensor *grown = srn_realloc_array(s->tensors, cap, sizeof *grown);
        if (!grown) return NULL;
        s->tensors = grown;
        s->cap_tensors = cap;
    }
    srn__synth_tensor *t = &s->tensors[s->n_tensors++];
    *t = (srn__synth_tensor){.type = SRN_F32, .ne = {1, 1, 1, 1}, .n_dims = 1};
    return t;
}

/* Name of a tensor: of a layer, or of the whole model for layer UINT32_MAX. */
static void set_name(srn__synth_tensor *t, uint32_t layer, const char *name) {
    if (layer == UINT32_MAX)
        snprintf(t->name, sizeof t->name, "%s", name);
    else
        snprintf(t->name, sizeof t->name, "blk.%u.%s", layer, name);
}

static uint32_t pool_of(srn_synth *s, srn_type type, float std) {
    for (size_t i = 0; i < s->n_pools; i++)
        if (s->pools[i].type == type && s->pools[i].std == std) return (uint32_t)i;
    srn__pool_blocks *grown = srn_realloc_array(s->pools, s->n_pools + 1, sizeof *grown);
    if (!grown) return UINT32_MAX;
    s->pools = grown;
    s->pools[s->n_pools] = (srn__pool_blocks){.type = type, .std = std};
    return (uint32_t)s->n_pools++;
}

/* A matrix [parts, rows, columns]; gain: its standard deviation times sqrt(columns). */
static bool matrix(srn_synth *s, uint32_t layer, const char *name, srn__role role, uint64_t columns,
                   uint64_t rows, uint32_t parts, double gain) {
    srn__synth_tensor *t = add(s);
    if (!t) return false;
    set_name(t, layer, name);
    t->type = role ? srn__mix_type(s->mix, s->shape, s->opts.pure, role, layer, columns) : SRN_F32;
    t->ne[0] = columns, t->ne[1] = rows, t->ne[2] = parts;
    t->n_dims = parts > 1 ? 3 : 2;
    t->std = (float)(gain / sqrt((double)columns));
    t->fill = SRN__FILL_POOL;
    t->pool = pool_of(s, t->type, t->std);
    return t->pool != UINT32_MAX;
}

static bool norm(srn_synth *s, uint32_t layer, const char *name, uint64_t n, double mean, bool outliers) {
    srn__synth_tensor *t = add(s);
    if (!t) return false;
    set_name(t, layer, name);
    t->ne[0] = n, t->mean = (float)mean, t->fill = SRN__FILL_NORM, t->outliers = outliers;
    return true;
}

/* [parts, n] */
static bool bias(srn_synth *s, uint32_t layer, const char *name, uint64_t n, uint32_t parts, double std) {
    srn__synth_tensor *t = add(s);
    if (!t) return false;
    set_name(t, layer, name);
    t->ne[0] = n, t->ne[1] = parts, t->n_dims = parts > 1 ? 2 : 1;
    t->std = (float)std, t->fill = SRN__FILL_GAUSS;
    return true;
}

static bool attention(srn_synth *s, uint32_t i, double residual) {
    const srn_shape *p = s->shape;
    const srn__traits *a = s->traits;
    uint64_t w = p->n_embd, nq = (uint64_t)p->n_head * p->d_head, nk = (uint64_t)p->n_head_kv * p->d_head;
    double gain = a->qk_norm ? 1.0 : SCORE_GAIN;
    bool ok = norm(s, i, "attn_norm.weight", w, 1, true);
    if (a->fused)
        ok = ok && matrix(s, i, "attn_qkv.weight", SRN__ROLE_QKV, w, nq + 2 * nk, 1, 1);
    else
        ok = ok && matrix(s, i, "attn_q.weight", SRN__ROLE_Q, w, nq, 1, gain) &&
             matrix(s, i, "attn_k.weight", SRN__ROLE_K, w, nk, 1, gain) &&
             matrix(s, i, "attn_v.weight", SRN__ROLE_V, w, nk, 1, 1);
    if (a->qkv_bias)
        ok = ok && bias(s, i, "attn_q.bias", nq, 1, 0.5) && bias(s, i, "attn_k.bias", nk, 1, 0.5) &&
             bias(s, i, "attn_v.bias", nk, 1, 0.1);
    if (a->qk_norm)
        ok = ok && norm(s, i, "attn_q_norm.weight", p->d_head, SCORE_GAIN, false) &&
             norm(s, i, "attn_k_norm.weight", p->d_head, SCORE_GAIN, false);
    ok = ok && matrix(s, i, "attn_output.weight", SRN__ROLE_O, nq, w, 1, residual);
    if (a->sinks)
        ok = ok && bias(s, i, "attn_output.bias", w, 1, 0.1 * residual) &&
             bias(s, i, "attn_sinks.weight", p->n_head, 1, 1);
    return ok;
}

static bool experts(srn_synth *s, uint32_t i, double residual) {
    const srn_shape *p = s->shape;
    uint64_t w = p->n_embd, ff = p->n_ff_expert;
    uint32_t n = p->n_expert;
    bool ok = matrix(s, i, "ffn_gate_inp.weight", SRN__ROLE_NONE, w, n, 1, 1) &&
              matrix(s, i, "ffn_gate_exps.weight", SRN__ROLE_GATE, w, ff, n, 1) &&
              matrix(s, i, "ffn_up_exps.weight", SRN__ROLE_UP, w, ff, n, 1) &&
              matrix(s, i, "ffn_down_exps.weight", SRN__ROLE_DOWN, ff, w, n, residual);
    if (s->traits->sinks)
        ok = ok && bias(s, i, "ffn_gate_inp.bias", n, 1, 0.1) &&
             bias(s, i, "ffn_gate_exps.bias", ff, n, 0.1) && bias(s, i, "ffn_up_exps.bias", ff, n, 0.1) &&
             bias(s, i, "ffn_down_exps.bias", w, n, 0.1 * residual);
    return ok;
}

static bool feed_forward(srn_synth *s, uint32_t i, double residual) {
    const srn_shape *p = s->shape;
    uint64_t w = p->n_embd, ff = p->n_ff;
    bool ok = norm(s, i, s->traits->sinks ? "post_attention_norm.weight" : "ffn_norm.weight", w, 1, true);
    if (p->n_expert) return ok && experts(s, i, residual);
    if (s->traits->fused)
        ok = ok && matrix(s, i, "ffn_up.weight", SRN__ROLE_UP, w, 2 * ff, 1, 1);
    else
        ok = ok && matrix(s, i, "ffn_gate.weight", SRN__ROLE_GATE, w, ff, 1, 1) &&
             matrix(s, i, "ffn_up.weight", SRN__ROLE_UP, w, ff, 1, 1);
    return ok && matrix(s, i, "ffn_down.weight", SRN__ROLE_DOWN, ff, w, 1, residual);
}

static bool all_tensors(srn_synth *s) {
    const srn_shape *p = s->shape;
    bool post_norm = s->traits->post_norm;
    /* a post-norm sets the size itself */
    double residual = post_norm ? 1.0 : 1.0 / sqrt(2.0 * p->n_layer);
    bool ok = matrix(s, UINT32_MAX, "token_embd.weight", p->tied ? SRN__ROLE_HEAD : SRN__ROLE_EMBD, p->n_embd,
                     p->n_vocab, 1, 1);
    if (ok && strcmp(p->arch, "llama") == 0 && p->rope_factor > 0) {
        srn__synth_tensor *t = add(s);
        if (!t) return false;
        set_name(t, UINT32_MAX, "rope_freqs.weight");
        t->ne[0] = p->d_head / 2, t->fill = SRN__FILL_ROPE_FACTORS;
    }
    for (uint32_t i = 0; i < p->n_layer && ok; i++) {
        ok = attention(s, i, residual);
        if (post_norm) ok = ok && norm(s, i, "post_attention_norm.weight", p->n_embd, 1, false);
        ok = ok && feed_forward(s, i, residual);
        if (post_norm) ok = ok && norm(s, i, "post_ffw_norm.weight", p->n_embd, 1, false);
    }
    ok = ok && norm(s, UINT32_MAX, "output_norm.weight", p->n_embd, 1, false);
    return ok &&
           (p->tied || matrix(s, UINT32_MAX, "output.weight", SRN__ROLE_HEAD, p->n_embd, p->n_vocab, 1, 1.5));
}

int srn__plan_tensors(srn_synth *s, srn_err *err) {
    if (!all_tensors(s)) return srn_fail_nomem(err, (s->n_tensors + 1) * sizeof *s->tensors);
    for (size_t i = 0; i < s->n_tensors; i++) {
        srn__synth_tensor *t = &s->tensors[i];
        t->offset = srn_gguf_add_tensor(&s->head, t->name, t->type, t->ne, t->n_dims, &t->bytes);
        t->n = t->ne[0] * t->ne[1] * t->ne[2];
        t->key = srn_hash(s->opts.seed, srn_str_of(t->name));
        t->first_chunk = s->n_chunks;
        if (t->fill == SRN__FILL_POOL) s->pools[t->pool].n_drawn += t->n;
        uint64_t per_chunk = (uint64_t)SRN__UNIT_WEIGHTS * SRN__CHUNK_UNITS;
        s->n_chunks += (t->n + per_chunk - 1) / per_chunk;
        s->n_params += t->fill == SRN__FILL_ROPE_FACTORS ? 0 : t->n;
    }
    return SRN_OK;
}
