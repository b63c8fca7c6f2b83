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

/* srn_sample in scratch memory of the caller's: the decode loop allocates nothing. */
static inline size_t srn__sample_scratch_bytes(uint32_t n_vocab) {
    return 3 * sizeof(float) * (size_t)n_vocab;
}
int32_t srn__sample_in(const float *logits, uint32_t n_vocab, const srn_sampling *p, const int32_t *history,
                       size_t n_history, uint64_t position, void *scratch);

/* Draws the token that follows a session's last one. */
int32_t srn__session_sample(srn_session *s, const srn_sampling *p);

#endif
