/* The architecture table, and the names of features. A new architecture is a row here and, at most, one new
 * block kind in the forward pass. Immutable. */
#include "model/model.h"

static const srn_arch arches[] = {
    /* mistral and mixtral files call themselves llama */
    {.name = "llama", .act = SRN_ACT_SILU, .experts = true},
    {.name = "qwen2", .act = SRN_ACT_SILU, .rope_neox = true},
    {.name = "qwen3", .act = SRN_ACT_SILU, .rope_neox = true, .qk_norm = true},
    {.name = "qwen3moe", .act = SRN_ACT_SILU, .rope_neox = true, .qk_norm = true, .experts = true},
    {.name = "phi3", .act = SRN_ACT_SILU, .rope_neox = true, .fused_qkv = true},
    {.name = "gemma2",
     .act = SRN_ACT_GELU,
     .rope_neox = true,
     .post_norm = true,
     .embed_scale = true,
     .window_period = 2,
     .scale_by_embd_layers = 46, /* 27B */
     .attn_softcap = 50.0f,
     .final_softcap = 30.0f},
    {.name = "gemma3",
     .act = SRN_ACT_GELU,
     .rope_neox = true,
     .qk_norm = true,
     .post_norm = true,
     .embed_scale = true,
     .window_period = 6,
     .scale_by_embd_layers = 62, /* 27B */
     .local_rope_base = 10000.0f},
};

const srn_arch *srn_arch_find(srn_str name) {
    for (size_t i = 0; i < SRN_LEN(arches); i++)
        if (srn_str_eqz(name, arches[i].name)) return &arches[i];
    return NULL;
}

const srn_arch *srn_arch_at(size_t i) {
    return i < SRN_LEN(arches) ? &arches[i] : NULL;
}

unsigned srn_feature_by_name(srn_str name) {
    static const char *const names[] = {"rope",       "rope_base",      "rope_scaling",  "window",
                                        "attn_scale", "attn_softcap",   "final_softcap", "qk_norm",
                                        "attn_bias",  "post_norm",      "embed_scale",   "gate",
                                        "moe_norm",   "rope_local_base"};
    for (unsigned i = 0; i < SRN_LEN(names); i++)
        if (srn_str_eqz(name, names[i])) return 1u << i;
    return 0;
}
