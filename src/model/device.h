/* The interface between the engine and what computes: one object holds one model's weights in the device's
 * own form and its KV blocks. Filled by src/cpu (and later src/cuda). One thread at a time calls an object.
 */
#ifndef SRN_MODEL_DEVICE_H
#define SRN_MODEL_DEVICE_H

#include "model/model.h"

/* Positions per KV block: a multiple of 16 that divides the attention segment of 256. */
#define SRN_KV_BLOCK 64

typedef enum srn_kv_type { SRN_KV_F16, SRN_KV_F32 } srn_kv_type;

typedef struct srn_device_opts {
    uint32_t threads;      /* 0: as many as the process may run on */
    const char *cpu_limit; /* highest instruction set to use (SERIN_CPU), or NULL */
    srn_kv_type kv_type;
    uint32_t n_kv_blocks;
    uint32_t max_batch; /* most tokens in one step */
    uint32_t n_ctx;     /* longest sequence; chooses between short and long rope factors */
    srn_progress_fn *progress;
    void *progress_ctx;
} srn_device_opts;

/* One sequence's part of a step: n_tokens consecutive tokens from batch index `first`, at indices n_past,
 * n_past+1, ... of the sequence, whose position j lives in block blocks[j / SRN_KV_BLOCK]. */
typedef struct srn_slice {
    const uint32_t *blocks;
    uint32_t n_past, n_tokens, first;
} srn_slice;

typedef struct srn_batch {
    const int32_t *tokens;
    uint32_t n_tokens;
    const srn_slice *slices;
    uint32_t n_slices;
    const uint32_t *wanted; /* ascending batch indices whose logits are wanted */
    uint32_t n_wanted;
    float *logits; /* [n_wanted, n_vocab] */
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
} srn_device_ops;
struct srn_device {
    const srn_device_ops *ops;
};

/* Bytes of KV cache for n_blocks blocks of a model; UINT64_MAX when they cannot be counted. */
uint64_t srn_kv_bytes(const srn_model *m, srn_kv_type type, uint64_t n_blocks);

#endif
