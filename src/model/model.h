/* model: a file's weights read as one transformer. The architecture table says what a family does; hparams
 * are the file's numbers; the tensor map names every matrix and vector that the forward pass uses. Immutable
 * after srn_model_new; any number of threads may read it; it must not outlive its srn_weights.
 */
#ifndef SRN_MODEL_MODEL_H
#define SRN_MODEL_MODEL_H

#include "base/base.h"
#include "format/format.h"

typedef enum srn_act_kind { SRN_ACT_SILU, SRN_ACT_GELU } srn_act_kind;

/* Everything that can be switched off one by one, so that a test can show that a golden notices it. */
typedef enum srn_feature {
    SRN_FEAT_ROPE = 1 << 0,
    SRN_FEAT_ROPE_BASE = 1 << 1, /* off: 10000 */
    SRN_FEAT_ROPE_SCALING = 1 << 2,
    SRN_FEAT_WINDOW = 1 << 3,
    SRN_FEAT_ATTN_SCALE = 1 << 4, /* off: 1 */
    SRN_FEAT_ATTN_SOFTCAP = 1 << 5,
    SRN_FEAT_FINAL_SOFTCAP = 1 << 6,
    SRN_FEAT_QK_NORM = 1 << 7,
    SRN_FEAT_ATTN_BIAS = 1 << 8,
    SRN_FEAT_POST_NORM = 1 << 9,
    SRN_FEAT_EMBED_SCALE = 1 << 10,
    SRN_FEAT_GATE = 1 << 11,     /* off: the other activation */
    SRN_FEAT_MOE_NORM = 1 << 12, /* off: expert weights are not renormalised (or are, where they were not) */
    SRN_FEAT_ROPE_LOCAL_BASE = 1 << 13, /* off: windowed layers use the global base */
} srn_feature;
/* The bit of a feature's name ("rope_base"), 0 if there is none. */
unsigned srn_feature_by_name(srn_str name);

/* One architecture: a row of the table in arch.c. */
typedef struct srn_arch {
    const char *name; /* general.architecture */
    bool rope_neox;   /* pairs (i, i + n_rot/2) instead of (2i, 2i+1) */
    srn_act_kind act;
    bool qk_norm;          /* RMS norm of each query and key head */
    bool post_norm;        /* norms after attention and after the feed-forward */
    bool embed_scale;      /* embeddings times sqrt(n_embd) */
    bool fused_qkv;        /* attn_qkv, and ffn_up holding gate and up */
    bool experts;          /* may have experts */
    uint8_t window_period; /* every n-th layer is full, the others windowed; 0: all layers, if the file has a
                              window */
    uint8_t scale_by_embd_layers;      /* with this many layers the score scale is 1/sqrt(n_embd/n_head) */
    float attn_softcap, final_softcap; /* what the file's keys default to; 0: none */
    float local_rope_base;             /* of windowed layers; 0: the global one */
} srn_arch;

const srn_arch *srn_arch_find(srn_str name);
const srn_arch *srn_arch_at(size_t i); /* NULL past the end */

typedef enum srn_rope_scaling {
    SRN_ROPE_NONE,
    SRN_ROPE_LINEAR,
    SRN_ROPE_YARN,
    SRN_ROPE_LONG /* factors per dimension, short or long by the context's size */
} srn_rope_scaling;

typedef struct srn_hparams {
    uint32_t n_vocab, n_embd, n_layer, n_head, n_head_kv, d_k, d_v, n_ff, n_ctx_train;
    uint32_t n_expert, n_expert_used, n_ff_expert;
    float norm_eps;
    float attn_scale, attn_softcap, final_softcap, embed_scale; /* softcap 0: none; embed_scale 1: none */
    bool expert_norm; /* expert weights are softmax over the chosen, else over all */
    uint32_t window;
    uint32_t n_rot;
    double rope_base, rope_base_local;
    bool local_rope; /* windowed layers have a rope of their own: rope_base_local, never scaled */
    srn_rope_scaling rope_scaling;
    double rope_factor;
    uint32_t rope_ctx_orig;
    double rope_attn_factor; /* multiplies cosines and sines */
    double yarn_beta_fast, yarn_beta_slow, yarn_ext_factor;
} srn_hparams;

/* A matrix [rows, cols] inside a tensor: rows row0 and on. */
typedef struct srn_mat {
    const srn_tensor *t;
    uint64_t row0;
    uint32_t rows, cols;
    uint32_t parts; /* experts, each rows/parts rows; 1 where dense */
} srn_mat;

/* NULL where the architecture or the file has none. Vectors are f32. Biases and norms per layer. */
typedef struct srn_layer {
    const float *attn_norm, *attn_post_norm, *ffn_norm, *ffn_post_norm;
    const float *q_norm, *k_norm; /* [d_k] */
    const float *q_bias, *k_bias, *v_bias, *o_bias;
    const srn_mat *q, *k, *v, *o;
    const srn_mat *gate, *up, *down;                         /* dense */
    const srn_mat *router, *gate_exps, *up_exps, *down_exps; /* experts, one part each */
    uint32_t window;                                         /* 0: full attention */
    uint32_t kv_group, kv_index; /* its group of the KV cache (model/device.h) and its place in there */
    bool local_rope;
} srn_layer;

typedef struct srn_model {
    const srn_weights *weights;
    const srn_arch *arch;
    srn_act_kind act;
    srn_hparams hp;
    srn_mat *mats; /* every matrix, also the output head and the embedding (mats[0]) */
    uint32_t n_mats;
    srn_layer *layers;
    const srn_mat *embd, *head; /* the same one where tied */
    const float *out_norm;
    const float *rope_factors, *rope_factors_long; /* [n_rot/2] divisors, or NULL */
    srn_arena arena;
    unsigned features_off; /* srn_feature bits; tests only */
} srn_model;

/* Reads hparams and maps the tensors. What the file asks for and the row lacks is refused by name
 * (SRN_EUNSUP); a tensor that is missing or of the wrong shape is SRN_EFORMAT. features_off: 0 but in tests.
 */
int srn_model_new(const srn_weights *w, unsigned features_off, srn_model **ret, srn_err *err);
void srn_model_free(srn_model *m);

/* ---- rope ---- */

/* Frequencies [n_rot/2] of the global or the local rope for a context of n_ctx positions, and the factor that
 * multiplies cosines and sines. */
void srn_rope_freqs(const srn_model *m, bool local, uint32_t n_ctx, double *freqs, double *ret_factor);
/* cos and sin [n_rot/2] at a position, rounded once to f32. */
void srn_rope_row(const double *freqs, double factor, uint32_t n_half, uint32_t position, float *cos,
                  float *sin);

#endif
