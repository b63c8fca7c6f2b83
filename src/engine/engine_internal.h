/* engine, inside. */
#ifndef SRN_ENGINE_ENGINE_INTERNAL_H
#define SRN_ENGINE_ENGINE_INTERNAL_H

#include "engine/engine.h"
#include "engine/kv.h"
#include "model/device.h"

struct srn_engine {
    srn_weights *weights;
    srn_model *model;
    srn_device *device;
    srn_vocab *vocab; /* NULL until it was asked for */
    srn_kv *kv;       /* over the device's blocks; of the thread that has the engine */
    srn_kv_type kv_type;
    srn_cache_plan plan; /* n_ctx, max_seqs, the size of steps */
    char engine_id[128];
    char software[128]; /* the same without the cache's type, as records have it */
};

/* Opens and loads a model into a zeroed engine, which the caller closes, also on failure. */
int srn__engine_fill(srn_engine *e, const char *path, const srn_engine_opts *o, srn_err *err);

/* A slice of a step: n_tokens tokens at batch index `first` continue a sequence that holds n_past. */
static inline srn_slice srn__kv_slice(const srn_kv_seq *s, uint32_t n_past, uint32_t n_tokens,
                                      uint32_t first) {
    srn_slice slice = {.n_past = n_past, .n_tokens = n_tokens, .first = first};
    for (uint32_t g = 0; g < SRN_KV_MAX_GROUPS; g++) slice.blocks[g] = srn_kv_seq_table(s, g);
    return slice;
}

/* Leaves in a session what it or the engine's cache holds of the prompt's beginning, at most all but the last
 * token; returns how many tokens that are. */
uint32_t srn__session_begin(srn_session *s, const int32_t *prompt, uint32_t n_prompt);

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
    void *scratch;           /* srn__draw_scratch_bytes(n_vocab) for this n_vocab alone, zeroed at first */
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
