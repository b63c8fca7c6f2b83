/* The shapes of well-known models: the numbers of their published configurations. Read by `serin synth` and
 * `serin bench --shape`. Immutable. docs/synth.md says what each column means.
 */
#include <strings.h>

#include "synth/synth_internal.h"

#define SHAPE(name_, arch_, vocab, embd, layers, heads, kv, d, ff, ctx, base, eps, ...)                      \
    {                                                                                                        \
        .name = name_, .arch = arch_, .n_vocab = vocab, .n_embd = embd, .n_layer = layers, .n_head = heads,  \
        .n_head_kv = kv, .d_head = d, .n_ff = ff, .n_ctx = ctx, .rope_base = base, .norm_eps = eps,          \
        __VA_ARGS__                                                                                          \
    }
#define TIED                 .tied = true
#define UNTIED               .tied = false
#define EXPERTS(n, used, ff) .n_expert = n, .n_expert_used = used, .n_ff_expert = ff

/* name, architecture, vocabulary, width, layers, heads, KV heads, head size, feed-forward, context, rope
 * base, epsilon */
static const srn_shape shapes[] = {
    SHAPE("llama-3.2-1b", "llama", 128256, 2048, 16, 32, 8, 64, 8192, 131072, 5e5, 1e-5, TIED,
          .rope_factor = 32),
    SHAPE("llama-3.2-3b", "llama", 128256, 3072, 28, 24, 8, 128, 8192, 131072, 5e5, 1e-5, TIED,
          .rope_factor = 32),
    SHAPE("llama-3.1-8b", "llama", 128256, 4096, 32, 32, 8, 128, 14336, 131072, 5e5, 1e-5, UNTIED,
          .rope_factor = 8),
    SHAPE("llama-3.3-70b", "llama", 128256, 8192, 80, 64, 8, 128, 28672, 131072, 5e5, 1e-5, UNTIED,
          .rope_factor = 8),
    SHAPE("qwen2.5-0.5b", "qwen2", 151936, 896, 24, 14, 2, 64, 4864, 32768, 1e6, 1e-6, TIED),
    SHAPE("qwen2.5-1.5b", "qwen2", 151936, 1536, 28, 12, 2, 128, 8960, 32768, 1e6, 1e-6, TIED),
    SHAPE("qwen2.5-3b", "qwen2", 151936, 2048, 36, 16, 2, 128, 11008, 32768, 1e6, 1e-6, TIED),
    SHAPE("qwen2.5-7b", "qwen2", 152064, 3584, 28, 28, 4, 128, 18944, 32768, 1e6, 1e-6, UNTIED),
    SHAPE("qwen2.5-14b", "qwen2", 152064, 5120, 48, 40, 8, 128, 13824, 32768, 1e6, 1e-6, UNTIED),
    SHAPE("qwen2.5-32b", "qwen2", 152064, 5120, 64, 40, 8, 128, 27648, 32768, 1e6, 1e-6, UNTIED),
    SHAPE("qwen2.5-72b", "qwen2", 152064, 8192, 80, 64, 8, 128, 29568, 32768, 1e6, 1e-6, UNTIED),
    SHAPE("qwen3-0.6b", "qwen3", 151936, 1024, 28, 16, 8, 128, 3072, 40960, 1e6, 1e-6, TIED),
    SHAPE("qwen3-1.7b", "qwen3", 151936, 2048, 28, 16, 8, 128, 6144, 40960, 1e6, 1e-6, TIED),
    SHAPE("qwen3-4b", "qwen3", 151936, 2560, 36, 32, 8, 128, 9728, 40960, 1e6, 1e-6, TIED),
    SHAPE("qwen3-8b", "qwen3", 151936, 4096, 36, 32, 8, 128, 12288, 40960, 1e6, 1e-6, UNTIED),
    SHAPE("qwen3-14b", "qwen3", 151936, 5120, 40, 40, 8, 128, 17408, 40960, 1e6, 1e-6, UNTIED),
    SHAPE("qwen3-32b", "qwen3", 151936, 5120, 64, 64, 8, 128, 25600, 40960, 1e6, 1e-6, UNTIED),
    SHAPE("qwen3-30b-a3b", "qwen3moe", 151936, 2048, 48, 32, 4, 128, 6144, 40960, 1e6, 1e-6, UNTIED,
          EXPERTS(128, 8, 768)),
    SHAPE("qwen3-235b-a22b", "qwen3moe", 151936, 4096, 94, 64, 4, 128, 12288, 40960, 1e6, 1e-6, UNTIED,
          EXPERTS(128, 8, 1536)),
    SHAPE("gemma-2-2b", "gemma2", 256000, 2304, 26, 8, 4, 256, 9216, 8192, 1e4, 1e-6, TIED, .window = 4096),
    SHAPE("gemma-2-9b", "gemma2", 256000, 3584, 42, 16, 8, 256, 14336, 8192, 1e4, 1e-6, TIED, .window = 4096),
    SHAPE("gemma-2-27b", "gemma2", 256000, 4608, 46, 32, 16, 128, 36864, 8192, 1e4, 1e-6, TIED,
          .window = 4096),
    SHAPE("gemma-3-270m", "gemma3", 262144, 640, 18, 4, 1, 256, 2048, 32768, 1e6, 1e-6, TIED, .window = 512),
    SHAPE("gemma-3-1b", "gemma3", 262144, 1152, 26, 4, 1, 256, 6912, 32768, 1e6, 1e-6, TIED, .window = 512),
    SHAPE("gemma-3-4b", "gemma3", 262208, 2560, 34, 8, 4, 256, 10240, 131072, 1e6, 1e-6, TIED, .window = 1024,
          .rope_factor = 8),
    SHAPE("gemma-3-12b", "gemma3", 262208, 3840, 48, 16, 8, 256, 15360, 131072, 1e6, 1e-6, TIED,
          .window = 1024, .rope_factor = 8),
    SHAPE("gemma-3-27b", "gemma3", 262208, 5376, 62, 32, 16, 128, 21504, 131072, 1e6, 1e-6, TIED,
          .window = 1024, .rope_factor = 8),
    SHAPE("mistral-7b", "llama", 32768, 4096, 32, 32, 8, 128, 14336, 32768, 1e6, 1e-5, UNTIED),
    SHAPE("mixtral-8x7b", "llama", 32000, 4096, 32, 32, 8, 128, 14336, 32768, 1e6, 1e-5, UNTIED,
          EXPERTS(8, 2, 14336)),
    SHAPE("phi-3-mini", "phi3", 32064, 3072, 32, 32, 32, 96, 8192, 4096, 1e4, 1e-5, UNTIED, .window = 2047),
    SHAPE("phi-4", "phi3", 100352, 5120, 40, 40, 10, 128, 17920, 16384, 2.5e5, 1e-5, UNTIED),
    SHAPE("smollm2-135m", "llama", 49152, 576, 30, 9, 3, 64, 1536, 8192, 1e5, 1e-5, TIED),
    SHAPE("smollm2-360m", "llama", 49152, 960, 32, 15, 5, 64, 2560, 8192, 1e5, 1e-5, TIED),
    SHAPE("smollm2-1.7b", "llama", 49152, 2048, 24, 32, 32, 64, 8192, 8192, 1.3e5, 1e-5, TIED),
    SHAPE("tinyllama-1.1b", "llama", 32000, 2048, 22, 32, 4, 64, 5632, 2048, 1e4, 1e-5, UNTIED),
    /* engines that know its attention sinks run it */
    SHAPE("gpt-oss-20b", "gpt-oss", 201088, 2880, 24, 64, 8, 64, 2880, 131072, 1.5e5, 1e-5, UNTIED,
          .window = 128, .rope_factor = 32, EXPERTS(32, 4, 2880)),
    SHAPE("gpt-oss-120b", "gpt-oss", 201088, 2880, 36, 64, 8, 64, 2880, 131072, 1.5e5, 1e-5, UNTIED,
          .window = 128, .rope_factor = 32, EXPERTS(128, 4, 2880)),
};

static const srn__traits traits[] = {
    {.arch = "llama", .experts = true, .dense = true, .scales_rope = true},
    {.arch = "qwen2", .qkv_bias = true, .dense = true},
    {.arch = "qwen3", .qk_norm = true, .dense = true},
    {.arch = "qwen3moe", .qk_norm = true, .experts = true},
    {.arch = "gemma2", .post_norm = true, .dense = true, .needs_window = true},
    {.arch = "gemma3",
     .qk_norm = true,
     .post_norm = true,
     .dense = true,
     .needs_window = true,
     .scales_rope = true},
    {.arch = "phi3", .fused = true, .dense = true},
    {.arch = "gpt-oss",
     .qkv_bias = true,
     .experts = true,
     .needs_window = true,
     .scales_rope = true,
     .sinks = true},
};

const srn__traits *srn__traits_of(const char *arch) {
    for (size_t i = 0; i < SRN_LEN(traits); i++)
        if (strcmp(traits[i].arch, arch) == 0) return &traits[i];
    return NULL;
}

const srn_shape *srn_shape_at(size_t i) {
    return i < SRN_LEN(shapes) ? &shapes[i] : NULL;
}

const srn_shape *srn_shape_find(const char *name) {
    for (size_t i = 0; i < SRN_LEN(shapes); i++)
        if (strcasecmp(shapes[i].name, name) == 0) return &shapes[i];
    return NULL;
}

/* ---- checks ---- */

static int check_range(const char *key, uint64_t v, uint64_t min, uint64_t max, uint32_t unit, srn_err *err) {
    if (v < min || v > max)
        return srn_fail(err, SRN_EINVAL, "'%s' is %llu, which is outside %llu..%llu", key,
                        (unsigned long long)v, (unsigned long long)min, (unsigned long long)max);
    if (v % unit)
        return srn_fail(err, SRN_EINVAL, "'%s' is %llu, which is not a multiple of %u", key,
                        (unsigned long long)v, unit);
    return SRN_OK;
}

static int check_numbers(const srn_shape *s, srn_err *err) {
    const struct {
        const char *key;
        uint64_t v, min, max;
        uint32_t unit;
    } rows[] = {
        {"n_vocab", s->n_vocab, SRN__MIN_VOCAB, 1u << 20, 1},
        {"n_embd", s->n_embd, 32, 1u << 16, 32},
        {"n_layer", s->n_layer, 1, 1024, 1},
        {"n_head", s->n_head, 1, 1024, 1},
        {"n_head_kv", s->n_head_kv, 1, 1024, 1},
        {"d_head", s->d_head, 16, 1024, 2},
        {"n_ff", s->n_ff, 32, 1u << 20, 32},
        {"n_ctx", s->n_ctx, 1, 1u << 30, 1},
        {"n_expert", s->n_expert, 0, 1024, 1},
        {"n_expert_used", s->n_expert_used, s->n_expert ? 1 : 0, SRN_MIN(s->n_expert, 64u), 1},
        {"n_ff_expert", s->n_ff_expert, s->n_expert ? 32 : 0, s->n_expert ? 1u << 20 : 0, 32},
        {"window", s->window, 0, 1u << 30, 1},
    };
    for (size_t i = 0; i < SRN_LEN(rows); i++) {
        int code = check_range(rows[i].key, rows[i].v, rows[i].min, rows[i].max, rows[i].unit, err);
        if (code) return code;
    }
    if (s->n_head % s->n_head_kv)
        return srn_fail(err, SRN_EINVAL, "'n_head' is %u, which 'n_head_kv' %u does not divide", s->n_head,
                        s->n_head_kv);
    if ((uint64_t)s->n_head * s->d_head % 32)
        return srn_fail(err, SRN_EINVAL, "'n_head' times 'd_head' is %llu, which is not a multiple of 32",
                        (unsigned long long)s->n_head * s->d_head);
    if (!(s->rope_base >= 1 && s->rope_base <= 1e12))
        return srn_fail(err, SRN_EINVAL, "'rope_base' is %g, which is outside 1..1e12", s->rope_base);
    if (!(s->rope_factor == 0 || (s->rope_factor >= 1 && s->rope_factor <= 1e4)))
        return srn_fail(err, SRN_EINVAL, "'rope_factor' is %g, which is neither 0 nor in 1..10000",
                        s->rope_factor);
    if (!(s->norm_eps >= 0 && s->norm_eps <= 1))
        return srn_fail(err, SRN_EINVAL, "'norm_eps' is %g, which is outside 0..1", s->norm_eps);
    return SRN_OK;
}

int srn_shape_check(const srn_shape *s, srn_err *err) {
    const srn__traits *a = srn__traits_of(s->arch);
    if (!a) {
        char known[160] = "";
        for (size_t i = 0; i < SRN_LEN(traits); i++)
            snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "",
                     traits[i].arch);
        return srn_fail(err, SRN_EUNSUP, "'arch' is '%s'; models can be made of %s", s->arch, known);
    }
    if (s->n_expert && !a->experts)
        return srn_fail(err, SRN_EINVAL, "'n_expert' is %u, and '%s' models have no experts", s->n_expert,
                        s->arch);
    if (!s->n_expert && !a->dense)
        return srn_fail(err, SRN_EINVAL, "'n_expert' is missing, and '%s' models have experts", s->arch);
    if (!s->window && a->needs_window)
        return srn_fail(err, SRN_EINVAL, "'window' is missing, and '%s' models have windowed layers",
                        s->arch);
    if (s->rope_factor != 0 && !a->scales_rope)
        return srn_fail(err, SRN_EINVAL, "'rope_factor' is %g, and '%s' models here scale no positions",
                        s->rope_factor, s->arch);
    return check_numbers(s, err);
}
