/* engine, inside. */
#ifndef SRN_ENGINE_ENGINE_INTERNAL_H
#define SRN_ENGINE_ENGINE_INTERNAL_H

#include "engine/engine.h"
#include "model/device.h"

/* Most tokens in one step: the size of a prefill chunk. */
#define SRN_STEP_TOKENS 512

struct srn_engine {
    srn_weights *weights;
    srn_model *model;
    srn_device *device;
    srn_vocab *vocab; /* NULL until it was asked for */
    srn_kv_type kv_type;
    uint32_t n_ctx;
    uint32_t n_blocks, n_free;
    uint32_t *free_blocks; /* a stack of KV blocks that no session holds */
    char engine_id[128];
};

#endif
