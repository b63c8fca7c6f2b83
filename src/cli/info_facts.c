/* The facts behind `serin info`: pure functions from an open model to numbers. Refuses hyper-parameters of
 * the wrong type and sizes that overflow; what a file does not say stays 0.
 */
#include "cli/info.h"
#include "engine/engine.h"

#include <inttypes.h>
#include <stdlib.h>

enum { MAX_LAYERS = 65536 };

/* "ARCH.KEY" of the model's architecture. */
static void arch_key(const srn__info *f, const char *key, char out[256]) {
    snprintf(out, 256, "%.*s.%s", (int)SRN_MIN(f->arch.len, (size_t)100), f->arch.ptr, key);
}

/* A hyper-parameter; *ret stays when the file does not have it. */
static int hparam(const srn__info *f, const char *key, uint64_t *ret, srn_err *err) {
    char full[256];
    arch_key(f, key, full);
    int code = srn_meta_u64(f->w, full, ret, err);
    return code == SRN_ENOENT ? SRN_OK : code;
}

/* The same for one layer: some files give one number for all, some an array with one for each. */
static int layer_hparam(const srn__info *f, const char *key, uint64_t layer, uint64_t *ret, srn_err *err) {
    char full[256];
    arch_key(f, key, full);
    const srn_meta *m = srn_meta_find(f->w, full);
    if (!m || m->type != SRN_META_ARR) return hparam(f, key, ret, err);
    if (m->elem == SRN_META_STR || m->elem == SRN_META_F32 || m->elem == SRN_META_F64)
        return srn_fail(err, SRN_EFORMAT, "%s: key '%s' must hold integers", srn_weights_path(f->w), full);
    if (layer >= m->count)
        return srn_fail(err, SRN_EFORMAT,
                        "%s: key '%s' has %" PRIu64 " entries but the model has %" PRIu64 " layers",
                        srn_weights_path(f->w), full, m->count, f->layers);
    int64_t v = srn_meta_elem_i64(m, (size_t)layer);
    if (v < 0)
        return srn_fail(err, SRN_EFORMAT,
                        "%s: key '%s' must not be negative but entry %" PRIu64 " is %" PRId64,
                        srn_weights_path(f->w), full, layer, v);
    *ret = (uint64_t)v;
    return SRN_OK;
}

static int optional_str(const srn_weights *w, const char *key, srn_str *ret, srn_err *err) {
    int code = srn_meta_str(w, key, ret, err);
    return code == SRN_ENOENT ? SRN_OK : code;
}

/* ---- types ---- */

static void count_types(srn__info *f) {
    f->n_shares = srn_weights_types(f->w, f->shares);
    for (size_t i = 0; i < f->n_shares; i++) {
        f->parameters += f->shares[i].weights;
        f->tensor_bytes += f->shares[i].bytes;
    }
    srn_weights_quantisation(f->w, f->quantisation);
}

/* ---- hyper-parameters ---- */

static int gather_heads(srn__info *f, srn_err *err) {
    for (uint64_t i = 0; i < f->layers; i++) {
        uint64_t heads = 0;
        int code = layer_hparam(f, "attention.head_count", i, &heads, err);
        uint64_t kv_heads = heads; /* not stated: one for each head */
        if (!code) code = layer_hparam(f, "attention.head_count_kv", i, &kv_heads, err);
        if (code) return code;
        f->heads_least = i ? SRN_MIN(f->heads_least, heads) : heads;
        f->heads_most = SRN_MAX(f->heads_most, heads);
        f->kv_heads_least = i ? SRN_MIN(f->kv_heads_least, kv_heads) : kv_heads;
        f->kv_heads_most = SRN_MAX(f->kv_heads_most, kv_heads);
    }
    return SRN_OK;
}

static int gather_sizes(srn__info *f, srn_err *err) {
    const struct {
        const char *key;
        uint64_t *dest;
    } sizes[] = {
        {"block_count", &f->layers},     {"embedding_length", &f->embedding},
        {"context_length", &f->context}, {"attention.sliding_window", &f->window},
        {"expert_count", &f->experts},   {"expert_used_count", &f->experts_used},
        {"vocab_size", &f->vocab},
    };
    for (size_t i = 0; i < SRN_LEN(sizes); i++) {
        int code = hparam(f, sizes[i].key, sizes[i].dest, err);
        if (code) return code;
    }
    if (f->layers > MAX_LAYERS)
        return srn_fail(err, SRN_ELIMIT, "%s: %" PRIu64 " layers are over the limit of %d",
                        srn_weights_path(f->w), f->layers, MAX_LAYERS);
    if (f->layers == 0) return SRN_OK;
    return layer_hparam(f, "feed_forward_length", 0, &f->feed_forward, err);
}

static bool has_key(const srn__info *f, const char *key) {
    char full[256];
    arch_key(f, key, full);
    return srn_meta_find(f->w, full) != NULL;
}

/* Whether the model can be run is the model room's answer, with its own sentence. */
static int try_model(srn__info *f, srn_err *err) {
    srn_err why = {0};
    int code = SRN_EUNSUP;
    if (f->parameters)
        code = srn_model_new(f->w, 0, &f->model, &why);
    else
        srn_fail(&why, code, "the file holds no tensors");
    if (code == SRN_ENOMEM) return srn_fail(err, code, "%s", why.text);
    if (code) snprintf(f->refusal, sizeof f->refusal, "%s", why.text);
    return SRN_OK;
}

int srn__info_gather(const srn_weights *w, srn__info *ret, srn_err *err) {
    srn__info f = {.w = w};
    const srn_str *tokens = NULL;
    size_t n_tokens = 0;
    int code = optional_str(w, "general.architecture", &f.arch, err);
    if (!code) code = optional_str(w, "general.name", &f.name, err);
    if (!code) code = optional_str(w, "tokenizer.ggml.model", &f.tokenizer, err);
    if (!code) code = optional_str(w, "tokenizer.ggml.pre", &f.pre, err);
    if (!code) code = gather_sizes(&f, err);
    if (!code) code = gather_heads(&f, err);
    if (!code) code = srn_meta_strs(w, "tokenizer.ggml.tokens", &tokens, &n_tokens, err);
    if (code && code != SRN_ENOENT) return code;
    if (n_tokens) f.vocab = n_tokens;
    code = srn_tokenizer_id(w, f.tokenizer_id, err);
    if (!code) code = srn_chat_template_id(w, f.template_id, err);
    if (code) return code;
    f.chat_template = srn_meta_find(w, "tokenizer.chat_template") != NULL;
    f.recurrent = has_key(&f, "ssm.state_size") || has_key(&f, "wkv.head_size");
    count_types(&f);
    code = try_model(&f, err);
    if (!code) *ret = f;
    return code;
}

void srn__info_done(srn__info *info) {
    srn_model_free(info->model);
}

/* ---- memory ---- */

/* Architectures that do not run here and whose files leave out how often a layer attends to everything: the
 * others see the window. */
static const struct {
    const char *arch;
    uint64_t full_every;
} window_patterns[] = {
    {"gemma2", 2}, {"gemma3", 6}, {"gemma3n", 5}, {"cohere2", 4}, {"gpt-oss", 2}, {"exaone4", 4},
};

/* Does a layer read only the window's positions? The model room knows for what runs; else the file's own
 * pattern (a bool for each layer, or a number: each such-and-such layer is full) goes before the table;
 * without either every layer is taken as full. */
static int layer_is_windowed(const srn__info *f, uint64_t layer, bool *ret, srn_err *err) {
    char full[256];
    uint64_t every = 0;
    *ret = false;
    if (f->model) {
        *ret = f->model->layers[layer].window != 0;
        return SRN_OK;
    }
    if (!f->window) return SRN_OK;
    arch_key(f, "attention.sliding_window_pattern", full);
    const srn_meta *m = srn_meta_find(f->w, full);
    if (m) {
        int code = layer_hparam(f, "attention.sliding_window_pattern", layer, &every, err);
        if (code) return code;
        *ret = m->type == SRN_META_ARR ? every != 0 : every > 0 && (layer + 1) % every != 0;
        return SRN_OK;
    }
    for (size_t i = 0; i < SRN_LEN(window_patterns); i++)
        if (srn_str_eqz(f->arch, window_patterns[i].arch)) every = window_patterns[i].full_every;
    *ret = every > 0 && (layer + 1) % every != 0;
    return SRN_OK;
}

/* Bytes of d values of a position; false when they overflow. */
static bool value_bytes(srn_kv_type type, uint64_t d, uint64_t *ret) {
    if (type == SRN_KV_Q8_0) return srn_add_u64(d, 2 * (d / 32 + (d % 32 != 0)), ret);
    return srn_mul_u64(d, type == SRN_KV_F32 ? 4 : 2, ret);
}

/* Bytes that one position takes in one layer: keys and values of each KV head, or the latent and its rope
 * part where the architecture caches those (multi-head latent attention). */
static int position_bytes(const srn__info *f, uint64_t layer, srn_kv_type type, uint64_t *ret, srn_err *err) {
    uint64_t heads = 0, latent = 0, rope = 0, interval = 0;
    int code = layer_hparam(f, "attention.head_count", layer, &heads, err);
    uint64_t kv_heads = heads, key = heads ? f->embedding / heads : 0, value = key, sum = 0;
    if (!code) code = layer_hparam(f, "attention.head_count_kv", layer, &kv_heads, err);
    if (!code) code = hparam(f, "attention.key_length", &key, err);
    if (!code) code = hparam(f, "attention.value_length", &value, err);
    if (!code) code = hparam(f, "attention.kv_lora_rank", &latent, err);
    if (!code) code = hparam(f, "rope.dimension_count", &rope, err);
    if (!code) code = hparam(f, "full_attention_interval", &interval, err);
    if (code) return code;
    if (interval && (layer + 1) % interval) return *ret = 0, SRN_OK; /* a recurrent layer */
    if (latent) kv_heads = 1, key = latent, value = rope;
    if (!value_bytes(type, key, &key) || !value_bytes(type, value, &value) ||
        !srn_add_u64(key, value, &sum) || !srn_mul_u64(sum, kv_heads, &sum))
        return srn_fail(err, SRN_ELIMIT,
                        "%s: the size of the KV cache overflows; its hyper-parameters are damaged",
                        srn_weights_path(f->w));
    *ret = sum;
    return SRN_OK;
}

static int add_layer(const srn__info *f, uint64_t layer, srn_kv_type type, srn__kv_need *n, srn_err *err) {
    uint64_t bytes = 0, kept = 0, blocks_end = srn_align_up(n->ctx, SRN_KV_BLOCK);
    bool windowed = false;
    int code = position_bytes(f, layer, type, &bytes, err);
    if (!code) code = layer_is_windowed(f, layer, &windowed, err);
    if (code || bytes == 0) return code;
    n->layers++;
    n->window_layers += windowed;
    if (!srn_mul_u64(bytes, blocks_end, &kept) || !srn_add_u64(n->kv_bytes, kept, &n->kv_bytes))
        return srn_fail(err, SRN_ELIMIT, "%s: the size of the KV cache overflows at %" PRIu64 " positions",
                        srn_weights_path(f->w), n->ctx);
    n->read_bytes += bytes * (windowed ? SRN_MIN(n->ctx, f->window) : n->ctx); /* no more than kv_bytes */
    return SRN_OK;
}

int srn__info_kv(const srn__info *info, uint64_t ctx, srn_kv_type type, srn__kv_need *ret, srn_err *err) {
    srn__kv_need n = {.ctx = ctx};
    for (uint64_t i = 0; i < info->layers; i++) {
        int code = add_layer(info, i, type, &n, err);
        if (code) return code;
    }
    if (info->model && ctx <= UINT32_MAX) { /* what the engine will ask for */
        srn_cache_plan plan;
        srn_cache_wish wish = {.type = type, .n_ctx = (uint32_t)ctx, .max_seqs = 1, .cache_tokens = ctx};
        int code = srn_plan_cache(info->model, &wish, &plan, err);
        if (code) return code;
        n.kv_bytes = plan.bytes;
    }
    if (!srn_add_u64(n.kv_bytes, info->tensor_bytes, &n.total_bytes))
        return srn_fail(err, SRN_ELIMIT, "%s: the memory needed overflows", srn_weights_path(info->w));
    *ret = n;
    return SRN_OK;
}
