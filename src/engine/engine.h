/* engine: a model in memory and the sequences that run on it. The public part is include/serin/serin.h; here
 * is what other rooms need besides. One thread at a time uses an engine and its sessions.
 */
#ifndef SRN_ENGINE_ENGINE_H
#define SRN_ENGINE_ENGINE_H

#include "base/base.h"
#include "constrain/constrain.h"
#include "model/device.h"
#include "model/model.h"
#include "token/token.h"

/* The numerics of docs/numerics.md. */
#define SRN_NUMERICS_ID 1

const srn_weights *srn_engine_weights(const srn_engine *e);
srn_engine *srn_session_engine(const srn_session *s);
/* The file's vocabulary, built on first use (a model whose tokenizer is unknown still computes) and owned by
 * the engine. Errors: those of srn_vocab_new. */
int srn_engine_vocab(srn_engine *e, const srn_vocab **ret, srn_err *err);

/* What an answer of an engine is pinned to (docs/ledger.md). Digests are SHA-256 as hex; "": there is none.
 */
typedef struct srn_ids {
    char weights[65];                          /* of the file's bytes: srn_weights_id */
    char tokenizer[65], chat_template[65];     /* of what decides tokens; of the chat template */
    char quantisation[SRN_QUANTISATION_CHARS]; /* stated from the tensors */
    char engine[128];                          /* "serin 0.1.0/numerics 1/cpu-avx2" */
    uint32_t numerics;
    const char *kv; /* type of the cache */
} srn_ids;
/* All but weights, which is left as it is: hashing a file takes time, and its digest may be known. */
int srn_engine_ids(const srn_engine *e, srn_ids *ret, srn_err *err);

/* srn_engine_open, and the weights id of the very bytes that were loaded. *ret_verified: they were hashed
 * while they were loaded; false: the id came from the cache of digests, and srn_engine_verify proves it.
 * Errors: also SRN_EIO for a file that changed while it was loaded. */
int srn_engine_open_identified(const char *path, const srn_engine_opts *opts, char ret_id[65],
                               bool *ret_verified, srn_engine **ret, srn_err *err);
/* Hashes the files again, and compares with the id and with what the device has read. Any thread, beside one
 * that uses the engine. Errors: SRN_EFORMAT the id is another one; SRN_EIO what was loaded is not what is
 * there, or it cannot be read; SRN_ECANCELLED. */
int srn_engine_verify(const srn_engine *e, const char *id, const srn_reading_opts *o, srn_err *err);

/* Tokens of the longest sequence that can be computed: of the context, and of the KV cache where that is
 * smaller. */
uint32_t srn_engine_longest(const srn_engine *e);

/* What srn_generate checks of a prompt before it computes; also in srn_engine_opts.before_load. */
int srn_generate_check(const srn_engine *e, const int32_t *prompt, size_t n_prompt, srn_err *err);

/* Appends one token to each of n sessions of one engine, no session twice, in a single step; the logits after
 * them, the same as srn_session_feed gives, into out [n, n_vocab], and srn_session_logits of these sessions
 * is of no use until they are fed by themselves. n is at most srn_engine_info.max_seqs. Errors: those of
 * srn_session_feed, and SRN_ELIMIT; every session then has the length that it had. */
int srn_session_feed_each(srn_session *const *s, const int32_t *tokens, uint32_t n, float *out, srn_err *err);

/* ---- the plan of the KV cache (docs/kv-cache.md) ---- */

typedef struct srn_cache_wish {
    srn_kv_type type;
    uint32_t n_ctx, max_seqs; /* longest sequence; sequences in one step, 0: 1 */
    uint64_t cache_tokens;    /* positions in all; 0: n_ctx for each of max_seqs, while ... */
    uint64_t available_bytes; /* ... that takes at most a quarter of this; at least n_ctx */
} srn_cache_wish;
typedef struct srn_cache_plan {
    uint32_t n_ctx, max_seqs;
    uint32_t max_batch, max_wanted; /* tokens, and rows of logits, of a step */
    uint32_t n_groups;
    srn_kv_group groups[SRN_KV_MAX_GROUPS];
    uint32_t n_blocks[SRN_KV_MAX_GROUPS];
    uint64_t tokens, bytes; /* positions that a full group has; UINT64_MAX bytes: beyond counting */
} srn_cache_plan;
/* What an engine allocates for that wish. Pure. Errors: SRN_ELIMIT. */
int srn_plan_cache(const srn_model *m, const srn_cache_wish *w, srn_cache_plan *ret, srn_err *err);

/* srn_generate for an answer that the matcher m, made for the engine's vocabulary and at its beginning, lets
 * through: its masks apply to every draw, and the answer ends where nothing may follow. m may be NULL.
 * Errors: also SRN_ELIMIT (the constraint is too ambiguous) and SRN_EINVAL for ignore_eog. */
int srn_generate_constrained(srn_session *s, const int32_t *prompt, uint32_t n_prompt,
                             const srn_generate_opts *opts, srn_matcher *m, srn_generation *ret,
                             srn_err *err);

/* ---- log-probabilities of a row of logits (natural logarithms) ---- */

/* log of the sum of e^logit: the constant that turns logits into log-probabilities. Sums in a fixed order. */
double srn_log_sum_exp(const float *logits, uint32_t n);

/* The k greatest logits in descending order, ties to the lower id; k <= n. ids: [k]. */
void srn_top_k(const float *logits, uint32_t n, uint32_t k, int32_t *ids);

typedef struct srn_top_token {
    int32_t id;
    float logprob;
} srn_top_token;

/* ---- two models on one text ---- */

typedef struct srn_divergence {
    uint32_t n;              /* tokens compared */
    double sum, max;         /* Kullback-Leibler of b from a, nats; the mean is sum / n */
    uint32_t max_at;         /* which of them was the greatest */
    double sum_jsd, max_jsd; /* Jensen-Shannon, nats: at most log 2 a token */
    uint32_t max_jsd_at;
    uint32_t n_same_top;         /* tokens at which both had the same likeliest one */
    double logprob_a, logprob_b; /* of the text, summed */
} srn_divergence;
/* Adds one token, `next`, before which a and b expected these logits, [n_vocab]. The same rows give 0
 * exactly.
 */
void srn_divergence_add(srn_divergence *d, const float *a, const float *b, uint32_t n_vocab, int32_t next);

/* What a request's logit bias and DRY breakers need besides srn_sampling_check: ids of the vocabulary. */
int srn_sampling_check_ids(const srn_sampling *p, uint32_t n_vocab, srn_err *err);
/* Ids for srn_sampling.dry_breakers, ascending: the tokens in whose text one of the given texts stands, and
 * control tokens, for no repetition reaches from one turn of a conversation into the next. The usual texts
 * (n_texts 0) are a line break, ":", a double quote and "*". *ret is the caller's to free(). */
int srn_dry_breakers(const srn_vocab *v, const srn_str *texts, size_t n_texts, int32_t **ret, uint32_t *ret_n,
                     srn_err *err);

#endif
