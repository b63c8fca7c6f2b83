/* The metadata of a made model: what its architecture needs, under the keys that GGUF readers look for.
 * Called once, by srn_synth_new.
 */
#include "synth/synth_internal.h"

/* "ARCH.suffix" */
static const char *key(const srn_synth *s, const char *suffix, char buf[96]) {
    snprintf(buf, 96, "%s.%s", s->shape->arch, suffix);
    return buf;
}

static void put_u32(srn_synth *s, const char *suffix, uint32_t v) {
    char buf[96];
    srn_gguf_put_u32(&s->head, key(s, suffix, buf), v);
}

static void put_f32(srn_synth *s, const char *suffix, double v) {
    char buf[96];
    srn_gguf_put_f32(&s->head, key(s, suffix, buf), (float)v);
}

static void put_rope(srn_synth *s) {
    const srn_shape *p = s->shape;
    char buf[96];
    put_f32(s, "rope.freq_base", p->rope_base);
    put_u32(s, "rope.dimension_count", p->d_head);
    bool linear = strcmp(p->arch, "gemma3") == 0, yarn = s->traits->sinks;
    if (p->rope_factor > 0 && (linear || yarn)) { /* Llama's factors are a tensor */
        srn_gguf_put_str(&s->head, key(s, "rope.scaling.type", buf),
                         yarn ? SRN_STR("yarn") : SRN_STR("linear"));
        put_f32(s, "rope.scaling.factor", p->rope_factor);
        if (yarn) put_u32(s, "rope.scaling.original_context_length", 4096);
    }
}

void srn__put_keys(srn_synth *s) {
    const srn_shape *p = s->shape;
    srn_gguf_head *h = &s->head;
    char name[96];
    snprintf(name, sizeof name, "%s (random weights)", p->name);
    srn_gguf_put_str(h, "general.architecture", srn_str_of(p->arch));
    srn_gguf_put_str(h, "general.type", SRN_STR("model"));
    srn_gguf_put_str(h, "general.name", srn_str_of(name));
    srn_gguf_put_str(
        h, "general.description",
        SRN_STR("random weights in the shape of a model, for measuring hardware; made by serin synth"));
    if (s->mix->file_type >= 0) srn_gguf_put_u32(h, "general.file_type", (uint32_t)s->mix->file_type);
    srn_gguf_put_u32(h, "general.quantization_version", 2);
    put_u32(s, "vocab_size", p->n_vocab);
    put_u32(s, "context_length", p->n_ctx);
    put_u32(s, "embedding_length", p->n_embd);
    put_u32(s, "block_count", p->n_layer);
    put_u32(s, "feed_forward_length", p->n_ff);
    put_u32(s, "attention.head_count", p->n_head);
    put_u32(s, "attention.head_count_kv", p->n_head_kv);
    put_u32(s, "attention.key_length", p->d_head);
    put_u32(s, "attention.value_length", p->d_head);
    put_f32(s, "attention.layer_norm_rms_epsilon", p->norm_eps);
    if (p->window) put_u32(s, "attention.sliding_window", p->window);
    put_rope(s);
    if (strcmp(p->arch, "gemma2") == 0) {
        put_f32(s, "attn_logit_softcapping", 50);
        put_f32(s, "final_logit_softcapping", 30);
    }
    if (p->n_expert) {
        put_u32(s, "expert_count", p->n_expert);
        put_u32(s, "expert_used_count", p->n_expert_used);
        put_u32(s, "expert_feed_forward_length", p->n_ff_expert);
    }
}
