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

/* ---- the sampler; a scratch belongs to one thread at a time, and nothing here allocates ---- */

/* What the next token is drawn from. */
typedef struct srn__draw_in {
    const float *logits; /* [n_vocab], finite; not written */
    uint32_t n_vocab;
    const srn_sampling *params; /* srn_sampling_check has passed it */
    const int32_t *history;     /* [n_history]: the prompt's n_prompt tokens, then the answer's */
    size_t n_prompt, n_history;
    uint64_t position;       /* of the token drawn: its index in the sequence */
    const uint64_t *allowed; /* [(n_vocab+63)/64], bit i: token i may be drawn; NULL: all may */
    void *scratch;           /* srn__draw_scratch_bytes(n_vocab), zeroed before its first use */
} srn__draw_in;
size_t srn__draw_scratch_bytes(uint32_t n_vocab);
/* The token, or -1 where mask and logit bias leave none. */
int32_t srn__draw(const srn__draw_in *d);
/* The sentence for that -1: SRN_EINVAL. */
int srn__draw_fail(srn_err *err);

/* Most alternatives that srn__logprobs gives. */
#define SRN__MAX_TOP 128u
/* Log-probabilities from the raw logits [n_vocab], before penalties, temperature and masks: of token, and of
 * the n_top <= SRN__MAX_TOP likeliest tokens, most likely first (fewer where the vocabulary has fewer).
 * ret_tops may be NULL where n_top is 0. */
void srn__logprobs(const float *logits, uint32_t n_vocab, int32_t token, uint32_t n_top, float *ret_logprob,
                   srn_top_token *ret_tops);

/* Draws the token that follows a session's last one, after a prompt of n_prompt tokens; allowed as above. */
int32_t srn__session_draw(srn_session *s, const srn_sampling *p, uint32_t n_prompt, const uint64_t *allowed);

#endif
