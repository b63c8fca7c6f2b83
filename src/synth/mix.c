/* Quantisations by name, and the rules by which the usual mixtures give some matrices more bits than others:
 * those of the common GGUF quantiser without an importance matrix, so that a file has the types that a
 * downloaded one has. Immutable tables and pure functions.
 */
#include <strings.h>

#include "synth/synth_internal.h"

/* The mixes that have rules, as bits of a set. */
enum {
    IQ1_S = 1 << 0,
    IQ1_M = 1 << 1,
    IQ2_XXS = 1 << 2,
    IQ2_XS = 1 << 3,
    IQ2_S = 1 << 4,
    IQ2_M = 1 << 5,
    IQ3_XXS = 1 << 6,
    IQ3_XS = 1 << 7,
    IQ3_S = 1 << 8,
    IQ3_M = 1 << 9,
    Q2_K = 1 << 10,
    Q2_K_S = 1 << 11,
    Q3_K_S = 1 << 12,
    Q3_K_M = 1 << 13,
    Q3_K_L = 1 << 14,
    Q4_K_S = 1 << 15,
    Q4_K_M = 1 << 16,
    Q5_K_M = 1 << 17,
    IQ4 = 1 << 18, /* IQ4_NL and IQ4_XS */
    TERNARY = 1 << 19,
    EXPERTS_4BIT = 1 << 20,
    OTHER = 1 << 21,
    LOW = IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ2_M,
    ALL_BUT_LOW = (1 << 22) - 1 - LOW
};

/* Most bits first. A plain name of a K type means its M mixture, as everywhere. */
static const srn_mix mixes[] = {
    {"F32", SRN_F32, 0, OTHER},
    {"F16", SRN_F16, 1, OTHER},
    {"BF16", SRN_BF16, 32, OTHER},
    {"Q8_0", SRN_Q8_0, 7, OTHER},
    {"Q6_K", SRN_Q6_K, 18, OTHER},
    {"Q5_K_M", SRN_Q5_K, 17, Q5_K_M},
    {"Q5_K_S", SRN_Q5_K, 16, OTHER},
    {"Q5_K", SRN_Q5_K, 17, Q5_K_M},
    {"Q5_1", SRN_Q5_1, 9, OTHER},
    {"Q5_0", SRN_Q5_0, 8, OTHER},
    {"Q4_K_M", SRN_Q4_K, 15, Q4_K_M},
    {"Q4_K_S", SRN_Q4_K, 14, Q4_K_S},
    {"Q4_K", SRN_Q4_K, 15, Q4_K_M},
    {"Q4_1", SRN_Q4_1, 3, OTHER},
    {"Q4_0", SRN_Q4_0, 2, OTHER},
    {"IQ4_NL", SRN_IQ4_NL, 25, IQ4},
    {"IQ4_XS", SRN_IQ4_XS, 30, IQ4},
    {"MXFP4", SRN_MXFP4, -1, OTHER},
    {"MXFP4_MOE", SRN_Q8_0, 38, EXPERTS_4BIT},
    {"NVFP4", SRN_NVFP4, -1, OTHER},
    {"Q3_K_L", SRN_Q3_K, 13, Q3_K_L},
    {"Q3_K_M", SRN_Q3_K, 12, Q3_K_M},
    {"Q3_K_S", SRN_Q3_K, 11, Q3_K_S},
    {"Q3_K", SRN_Q3_K, 12, Q3_K_M},
    {"IQ3_M", SRN_IQ3_S, 27, IQ3_M},
    {"IQ3_S", SRN_IQ3_S, 26, IQ3_S},
    {"IQ3_XS", SRN_IQ3_S, 22, IQ3_XS},
    {"IQ3_XXS", SRN_IQ3_XXS, 23, IQ3_XXS},
    {"Q2_K", SRN_Q2_K, 10, Q2_K},
    {"Q2_K_S", SRN_Q2_K, 21, Q2_K_S},
    {"IQ2_M", SRN_IQ2_S, 29, IQ2_M},
    {"IQ2_S", SRN_IQ2_XS, 28, IQ2_S},
    {"IQ2_XS", SRN_IQ2_XS, 20, IQ2_XS},
    {"IQ2_XXS", SRN_IQ2_XXS, 19, IQ2_XXS},
    {"IQ1_M", SRN_IQ1_M, 31, IQ1_M},
    {"IQ1_S", SRN_IQ1_S, 24, IQ1_S},
    {"TQ2_0", SRN_TQ2_0, 37, TERNARY},
    {"TQ1_0", SRN_TQ1_0, 36, TERNARY},
    {"Q2_0", SRN_Q2_0, -1, OTHER},
    {"Q1_0", SRN_Q1_0, -1, OTHER},
};

/* Where in a model a rule holds. */
typedef enum when {
    ALWAYS,
    FIRST_2,
    FIRST_4,
    FIRST_8TH, /* of the layers */
    FIRST_16TH,
    MIDDLE,        /* not the first eighth, nor the last */
    SOME,          /* the first and last eighth, and every third layer between */
    SHARED_KV,     /* at least four heads share keys and values */
    LARGE_SHARING, /* or there are at least four experts */
    EIGHT_EXPERTS,
    EIGHT_EXPERTS_SOME,
    HAS_EXPERTS,
    LAYERS_80
} when;

typedef struct rule {
    unsigned set;
    unsigned roles; /* srn__role */
    when when;
    srn_type type;
} rule;

/* The first rule that holds counts; where none does, the mix's base type stands. */
static const rule rules[] = {
    {IQ2_XXS | IQ2_XS | IQ1_S | IQ1_M, SRN__ROLE_EMBD, ALWAYS, SRN_Q2_K},
    {IQ2_S | IQ2_M | IQ3_XXS, SRN__ROLE_EMBD, ALWAYS, SRN_IQ3_S},
    {TERNARY, SRN__ROLE_EMBD, ALWAYS, SRN_Q4_K},

    {LOW, SRN__ROLE_V, LARGE_SHARING, SRN_Q4_K},
    {IQ2_S | IQ2_M, SRN__ROLE_V, ALWAYS, SRN_IQ3_S},
    {LOW, SRN__ROLE_V, ALWAYS, SRN_Q2_K},
    {LOW, SRN__ROLE_K, EIGHT_EXPERTS, SRN_Q4_K},
    {IQ2_S | IQ2_M, SRN__ROLE_DOWN, FIRST_8TH, SRN_IQ3_S},
    {LOW, SRN__ROLE_DOWN, FIRST_8TH, SRN_Q2_K},
    {LOW, SRN__ROLE_O, EIGHT_EXPERTS, SRN_Q5_K},
    {IQ1_S | IQ1_M, SRN__ROLE_O, ALWAYS, SRN_IQ2_XXS},
    {IQ2_S | IQ2_M, SRN__ROLE_O, ALWAYS, SRN_IQ3_S},

    {EXPERTS_4BIT, SRN__ROLE_GATE | SRN__ROLE_UP | SRN__ROLE_DOWN, HAS_EXPERTS, SRN_MXFP4},

    {ALL_BUT_LOW, SRN__ROLE_V | SRN__ROLE_K, EIGHT_EXPERTS, SRN_Q8_0},
    {Q4_K_M | Q5_K_M, SRN__ROLE_V | SRN__ROLE_DOWN, SOME, SRN_Q6_K},
    {Q2_K | Q2_K_S | Q3_K_S | Q3_K_M | Q4_K_S | Q4_K_M | IQ3_XXS | IQ3_XS | IQ3_S | IQ3_M, SRN__ROLE_V,
     LAYERS_80, SRN_Q5_K},
    {Q2_K | Q2_K_S | IQ3_XXS | IQ3_XS | IQ3_S, SRN__ROLE_V, SHARED_KV, SRN_Q4_K},
    {Q2_K, SRN__ROLE_V, ALWAYS, SRN_Q3_K},
    {IQ3_XXS, SRN__ROLE_V, ALWAYS, SRN_IQ3_S},
    {IQ3_M, SRN__ROLE_V, ALWAYS, SRN_Q4_K},
    {Q3_K_M, SRN__ROLE_V, FIRST_2, SRN_Q5_K},
    {Q3_K_M, SRN__ROLE_V, ALWAYS, SRN_Q4_K},
    {Q3_K_L, SRN__ROLE_V, ALWAYS, SRN_Q5_K},
    {IQ4, SRN__ROLE_V, SHARED_KV, SRN_Q5_K},
    {Q4_K_S, SRN__ROLE_V, FIRST_4, SRN_Q5_K},

    {IQ3_XS, SRN__ROLE_K | SRN__ROLE_Q, ALWAYS, SRN_IQ3_XXS},
    {IQ3_XXS, SRN__ROLE_K | SRN__ROLE_Q, ALWAYS, SRN_IQ2_S},

    {Q2_K, SRN__ROLE_DOWN, ALWAYS, SRN_Q3_K},
    {Q2_K_S | IQ3_XXS | IQ3_M, SRN__ROLE_DOWN, FIRST_8TH, SRN_Q4_K},
    {IQ3_XXS, SRN__ROLE_DOWN, ALWAYS, SRN_Q3_K},
    {IQ3_M, SRN__ROLE_DOWN, EIGHT_EXPERTS_SOME, SRN_Q4_K},
    {Q3_K_M, SRN__ROLE_DOWN, FIRST_16TH, SRN_Q5_K},
    {Q3_K_M, SRN__ROLE_DOWN, ALWAYS, SRN_Q4_K},
    {Q3_K_L, SRN__ROLE_DOWN, ALWAYS, SRN_Q5_K},
    {IQ4 | Q4_K_S, SRN__ROLE_DOWN, FIRST_8TH, SRN_Q5_K},

    {Q2_K | Q3_K_S | Q3_K_M | Q4_K_S | Q4_K_M | IQ3_XXS | IQ3_XS | IQ3_S | IQ3_M | IQ4, SRN__ROLE_O,
     EIGHT_EXPERTS, SRN_Q5_K},
    {Q2_K, SRN__ROLE_O, ALWAYS, SRN_Q3_K},
    {IQ3_XXS, SRN__ROLE_O, ALWAYS, SRN_IQ3_S},
    {Q3_K_M | IQ3_M, SRN__ROLE_O, ALWAYS, SRN_Q4_K},
    {Q3_K_L, SRN__ROLE_O, ALWAYS, SRN_Q5_K},

    {Q3_K_M | Q3_K_L | IQ3_M, SRN__ROLE_QKV, ALWAYS, SRN_Q4_K},
    {Q4_K_M, SRN__ROLE_QKV, ALWAYS, SRN_Q5_K},
    {Q5_K_M, SRN__ROLE_QKV, ALWAYS, SRN_Q6_K},

    {IQ3_XS, SRN__ROLE_GATE | SRN__ROLE_UP, MIDDLE, SRN_IQ3_XXS},
};

const srn_mix *srn_mix_at(size_t i) {
    return i < SRN_LEN(mixes) ? &mixes[i] : NULL;
}

int srn_mix_find(const char *name, const srn_mix **ret, srn_err *err) {
    for (size_t i = 0; i < SRN_LEN(mixes); i++) {
        if (strcasecmp(mixes[i].name, name)) continue;
        *ret = &mixes[i];
        return SRN_OK;
    }
    srn_buf names;
    srn_buf_init(&names, 800);
    for (size_t i = 0; i < SRN_LEN(mixes); i++) srn_buf_addf(&names, "%s%s", i ? " " : "", mixes[i].name);
    int code = srn_fail(err, SRN_EUSAGE, "there is no quantisation '%.40s'; there are %s", name,
                        names.data ? names.data : "others");
    srn_buf_done(&names);
    return code;
}

static bool holds(when w, const srn_shape *s, uint32_t layer) {
    uint32_t n = s->n_layer, eighth = n / 8, last = 7 * n / 8;
    bool some = layer < eighth || layer >= last || (layer - eighth) % 3 == 2;
    bool shared = s->n_head >= 4 * s->n_head_kv;
    switch (w) {
    case ALWAYS:
        return true;
    case FIRST_2:
        return layer < 2;
    case FIRST_4:
        return layer < 4;
    case FIRST_8TH:
        return layer < eighth;
    case FIRST_16TH:
        return layer < n / 16;
    case MIDDLE:
        return layer >= eighth && layer < last;
    case SOME:
        return some;
    case SHARED_KV:
        return shared;
    case LARGE_SHARING:
        return shared || s->n_expert >= 4;
    case EIGHT_EXPERTS:
        return s->n_expert == 8;
    case EIGHT_EXPERTS_SOME:
        return s->n_expert == 8 && some;
    case HAS_EXPERTS:
        return s->n_expert > 0;
    case LAYERS_80:
        return n == 80;
    }
    return false;
}

/* For a width that is no multiple of a type's block: the nearest type with smaller blocks, and F16 where none
 * fits. */
static srn_type fitting(srn_type type, uint64_t columns) {
    const srn_type_info *t = srn_type_get((uint32_t)type);
    if (columns % t->block_elems == 0) return type;
    if (type == SRN_Q1_0 && columns % 64 == 0) return SRN_Q2_0;
    static const struct {
        srn_type from, to;
    } smaller[] = {{SRN_TQ1_0, SRN_Q4_0}, {SRN_TQ2_0, SRN_Q4_0}, {SRN_Q4_K, SRN_Q5_0},
                   {SRN_Q5_K, SRN_Q5_1},  {SRN_Q6_K, SRN_Q8_0},  {SRN_NVFP4, SRN_MXFP4}};
    srn_type to = SRN_IQ4_NL;
    for (size_t i = 0; i < SRN_LEN(smaller); i++)
        if (smaller[i].from == type) to = smaller[i].to;
    return columns % 32 ? SRN_F16 : to;
}

srn_type srn__mix_type(const srn_mix *m, const srn_shape *s, bool pure, srn__role role, uint32_t layer,
                       uint64_t columns) {
    if (srn_type_get((uint32_t)m->base)->form == SRN_FORM_FLOAT || pure) return fitting(m->base, columns);
    unsigned set = m->rules;
    if (role == SRN__ROLE_HEAD && set != EXPERTS_4BIT && m->base != SRN_Q8_0) {
        bool whole = columns % 256 == 0;
        return fitting(!whole ? SRN_Q8_0 : set & (LOW | IQ3_XXS) ? SRN_Q5_K : SRN_Q6_K, columns);
    }
    for (size_t i = 0; i < SRN_LEN(rules); i++) {
        const rule *r = &rules[i];
        if (r->set & set && r->roles & role && holds(r->when, s, layer)) return fitting(r->type, columns);
    }
    return fitting(m->base, columns);
}
