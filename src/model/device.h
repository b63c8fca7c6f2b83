/* The interface between the engine and what computes: one object holds one model's weights in the device's
 * own form and its KV blocks. Filled by src/cpu (and later src/cuda). One thread at a time calls an object.
 */
#ifndef SRN_MODEL_DEVICE_H
#define SRN_MODEL_DEVICE_H

#include "model/model.h"

/* Positions per KV block: a multiple of 16 that divides the attention segment of 256. */
#define SRN_KV_BLOCK 64

/* q8_0: per position and head, and per 32 dimensions (the last may be fewer), a scale of 16 bits and int8
 * codes (docs/numerics.md). */
typedef enum srn_kv_type { SRN_KV_F16, SRN_KV_F32, SRN_KV_Q8_0 } srn_kv_type;
/* "f16", "f32", "q8_0"; false if there is no such type. */
bool srn_kv_type_by_name(const char *name, srn_kv_type *ret);
const char *srn_kv_type_name(srn_kv_type type);

/* Layers whose caches live and die together: those with full attention, and those with a window. */
#define SRN_KV_MAX_GROUPS 2
#define SRN_KV_NONE       UINT32_MAX /* in a block table: a position that no query sees any more */
typedef struct srn_kv_group {
    uint32_t window; /* 0: every position is needed */
    uint32_t n_layers;
} srn_kv_group;
/* The groups of a model, at least one; returns how many. The full one, if there is one, comes first. */
uint32_t srn_kv_groups(const srn_model *m, srn_kv_group ret[SRN_KV_MAX_GROUPS]);

typedef struct srn_device_opts {
    uint32_t threads;      /* 0: as many as the process may run on */
    const char *cpu_limit; /* highest instruction set to use (SERIN_CPU), or NULL */
    srn_kv_type kv_type;
    uint32_t n_kv_blocks[SRN_KV_MAX_GROUPS]; /* of each of the model's groups */
    uint32_t max_batch;                      /* most tokens in one step */
    uint32_t max_wanted;                     /* most rows of logits or hidden states in one step */
    uint32_t n_ctx; /* longest sequence; chooses between short and long rope factors */
    srn_progress_fn *progress;
    void *progress_ctx;
    const volatile int *cancel; /* read while the weights are packed; may be NULL */
} srn_device_opts;

/* One sequence's part of a step: n_tokens consecutive tokens from batch index `first`, at indices n_past,
 * n_past+1, ... of the sequence, whose position j lives, for the layers of group g, in block
 * blocks[g][j / SRN_KV_BLOCK]. Entries that lie before the window of every token of the slice are not read.
 */
typedef struct srn_slice {
    const uint32_t *blocks[SRN_KV_MAX_GROUPS];
    uint32_t n_past, n_tokens, first;
} srn_slice;

typedef struct srn_batch {
    const int32_t *tokens;
    uint32_t n_tokens;
    const srn_slice *slices;
    uint32_t n_slices;
    const uint32_t *wanted; /* ascending batch indices whose logits are wanted */
    uint32_t n_wanted;
    float *logits; /* [n_wanted, n_vocab], or NULL */
    float *hidden; /* [n_wanted, n_embd]: the state after the last norm, which the head would read; or NULL */
} srn_batch;

typedef struct srn_device srn_device;
typedef struct srn_device_ops {
    void (*free)(srn_device *d);
    /* Runs one step: fills K and V of the tokens and the wanted logits. SRN_ENONFINITE when an activation of
     * any token overflowed (nothing of the step may then be used). */
    int (*forward)(srn_device *d, const srn_batch *b, srn_err *err);
    /* For people and records: "cpu-avx512vnni". */
    const char *(*device_class)(const srn_device *d);
    /* Bytes held: weights in the device's form (not the mapping), KV blocks, work buffers. */
    void (*memory)(const srn_device *d, uint64_t *ret_weights, uint64_t *ret_kv, uint64_t *ret_work);
    uint32_t (*threads)(const srn_device *d);
    /* Copies positions [0, n_positions) of a KV block of a group into another block, for every layer. */
    void (*copy_block)(srn_device *d, uint32_t group, uint32_t from, uint32_t to, uint32_t n_positions);
    /* Calls fn(ctx, i) for every i < n on the device's host threads and returns when all are done: sampling
     * and masks of a step's sequences. */
    void (*parallel)(srn_device *d, void (*fn)(void *ctx, uint32_t i), void *ctx, uint32_t n);
} srn_device_ops;
struct srn_device {
    const srn_device_ops *ops;
};

/* Bytes of one head's keys (d = d_k) or values (d_v) of one block. */
uint64_t srn_kv_tile_bytes(srn_kv_type type, uint32_t d);
/* Bytes of KV cache for n_blocks blocks of a model's group; UINT64_MAX when they cannot be counted. */
uint64_t srn_kv_bytes(const srn_model *m, srn_kv_type type, uint32_t group, uint64_t n_blocks);

#endif
