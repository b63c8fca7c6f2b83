/* Internals of synth: the plan of a model, and the pools that its blocks are drawn from. */
#ifndef SRN_SYNTH_INTERNAL_H
#define SRN_SYNTH_INTERNAL_H

#include "synth/synth.h"

/* What a matrix does, as far as the rules of a mix tell matrices apart. Bits, so that a rule can name
 * several.
 */
typedef enum srn__role {
    SRN__ROLE_NONE = 0, /* floats whatever the mix: norms, biases, routers */
    SRN__ROLE_EMBD = 1,
    SRN__ROLE_HEAD = 2, /* also the embedding of a tied model */
    SRN__ROLE_Q = 4,
    SRN__ROLE_K = 8,
    SRN__ROLE_V = 16,
    SRN__ROLE_QKV = 32,
    SRN__ROLE_O = 64,
    SRN__ROLE_GATE = 128,
    SRN__ROLE_UP = 256,
    SRN__ROLE_DOWN = 512
} srn__role;

/* What an architecture has beside attention and a feed-forward part. */
typedef struct srn__traits {
    const char *arch;
    bool qk_norm, post_norm, fused, qkv_bias;
    bool experts; /* may have them */
    bool dense;   /* may be without */
    bool needs_window;
    bool scales_rope; /* knows rope_factor */
    bool sinks;       /* one per head; biases everywhere; the norm before the feed-forward part is named after
                         attention */
} srn__traits;
const srn__traits *srn__traits_of(const char *arch); /* NULL if it is not known */

/* The type that a mix gives a matrix of a layer, or another where the width is not a multiple of its block.
 */
srn_type srn__mix_type(const srn_mix *m, const srn_shape *s, bool pure, srn__role role, uint32_t layer,
                       uint64_t columns);

/* How values come about. */
typedef enum srn__fill {
    SRN__FILL_POOL,        /* blocks drawn from pool `pool` */
    SRN__FILL_NORM,        /* f32 near `mean`, with outlier channels where `outliers` */
    SRN__FILL_GAUSS,       /* f32, standard deviation std */
    SRN__FILL_ROPE_FACTORS /* f32: Llama 3's divisors */
} srn__fill;

typedef struct srn__synth_tensor {
    char name[64];
    srn_type type;
    uint32_t n_dims;
    uint64_t ne[SRN_MAX_DIMS], n, offset, bytes; /* offset: from the start of all data */
    uint64_t key;                                /* of its draws */
    srn__fill fill;
    bool outliers;
    float mean, std;
    uint32_t pool;
    uint64_t first_chunk;
} srn__synth_tensor;

/* Blocks of a type that hold Gaussian weights of one standard deviation. */
typedef struct srn__pool_blocks {
    srn_type type;
    float std;
    uint8_t *blocks;
    uint64_t n_drawn;                            /* weights that tensors draw */
    uint32_t n_blocks, block_bytes, unit_blocks; /* a unit: what one draw gives, 256 weights */
} srn__pool_blocks;

struct srn_synth {
    const srn_shape *shape;
    const srn__traits *traits;
    const srn_mix *mix;
    srn_synth_opts opts;
    srn__synth_tensor *tensors;
    size_t n_tensors, cap_tensors;
    srn__pool_blocks *pools;
    size_t n_pools;
    uint64_t n_params, n_chunks;
    srn_gguf_head head;
    srn_buf head_bytes;
};

/* A draw: a hash of a key and a counter, every bit of which depends on both. */
static inline uint64_t srn__draw(uint64_t key, uint64_t counter) {
    uint64_t x = key + counter * 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}
/* Two independent standard normal values from one draw (Box and Muller), equal on every machine. */
void srn__normal_pair(uint64_t draw, float ret[2]);

/* pool.c: weights in a pool; memory for it; filling part `part` of SRN__POOL_PART weights, which parts are
 * filled by which thread is all the same. */
size_t srn__pool_weights(const srn__pool_blocks *p);
int srn__pool_alloc(srn__pool_blocks *p, srn_err *err);
void srn__pool_fill(srn__pool_blocks *p, uint64_t seed, uint32_t part);
/* The values of a tensor's chunk, in `out` of SRN__CHUNK_BYTES; returns the bytes and where they go, from the
 * start of all data. */
size_t srn__draw_chunk(const srn_synth *s, const srn__synth_tensor *t, uint64_t chunk, uint8_t *out,
                       uint64_t *ret_offset);

/* plan.c: every tensor of the shape. */
int srn__plan_tensors(srn_synth *s, srn_err *err);
/* keys.c and vocab.c: the metadata. */
void srn__put_keys(srn_synth *s);
void srn__put_vocab(srn_gguf_head *h, uint32_t n_vocab); /* at least SRN__MIN_VOCAB */

#define SRN__UNIT_WEIGHTS 256u
#define SRN__CHUNK_UNITS  8192u /* 2 Mi weights: what a thread makes and writes at a time */
#define SRN__CHUNK_BYTES  ((size_t)SRN__UNIT_WEIGHTS * SRN__CHUNK_UNITS * 4)
#define SRN__POOL_PART                                                                                       \
    4096u                   /* weights of a pool that a thread fills at a time: whole blocks of every type   \
                             */
#define SRN__MIN_VOCAB 260u /* 256 bytes, special tokens */

#endif
