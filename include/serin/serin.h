/* libserin: the public C API.
 *
 * Thread rules: an srn_err belongs to its caller and is used by one thread at a time. Every function that
 * can fail returns 0 or a negative SRN_E... code and, where it takes an srn_err, fills it with one sentence
 * for a person. Out-parameters named ret_* are written on success only. Every x_free accepts NULL.
 */
#ifndef SERIN_SERIN_H
#define SERIN_SERIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SRN_API __attribute__((visibility("default")))
#else
#define SRN_API
#endif

/* One list of errors: X(name, number, text). The number is returned negated. */
#define SRN_ERRORS(X)                                                                                        \
    X(EINVAL, 1, "invalid argument")                                                                         \
    X(ENOMEM, 2, "out of memory")                                                                            \
    X(EIO, 3, "input or output failed")                                                                      \
    X(ENOENT, 4, "not found")                                                                                \
    X(EFORMAT, 5, "malformed input")                                                                         \
    X(EUNSUP, 6, "not supported")                                                                            \
    X(ELIMIT, 7, "a limit was exceeded")                                                                     \
    X(ECONTEXT, 8, "the context is full")                                                                    \
    X(ENONFINITE, 9, "a value became infinite or not a number")                                              \
    X(ECANCELLED, 10, "cancelled")                                                                           \
    X(EUSAGE, 11, "wrong usage")                                                                             \
    X(EBUSY, 12, "no room for more work now")                                                                \
    X(ETIMEOUT, 13, "a deadline passed")                                                                     \
    X(EEXIST, 14, "is there already")

#define SRN_ERR_ENUM(name, number, text) SRN_##name = -(number),
enum { SRN_OK = 0, SRN_ERRORS(SRN_ERR_ENUM) };
#undef SRN_ERR_ENUM

/* What went wrong, for a person: what, where (file, key, tensor, offset), and what to do. */
typedef struct srn_err {
    int code;
    char text[1024];
} srn_err;

/* The fixed name of an error code, e.g. "EFORMAT"; "OK" for 0 and "?" for an unknown number. */
SRN_API const char *srn_err_name(int code);

/* Version of the library, e.g. "0.1.0". */
SRN_API const char *srn_version(void);

/* ---- the engine: one model in memory, ready to compute ---- */

typedef struct srn_engine srn_engine;

/* What long work tells the caller, from the calling thread; total 0: unknown. */
typedef void srn_progress_fn(void *ctx, const char *what, uint64_t done, uint64_t total);

typedef struct srn_engine_opts {
    uint32_t threads;      /* 0: as many as the process may run on; results never depend on it */
    uint32_t n_ctx;        /* longest sequence in tokens; 0: what the model was trained for, at most 8192 */
    const char *kv_type;   /* "f16" (also NULL), "f32" or "q8_0" */
    uint64_t cache_tokens; /* positions that the KV cache has in all; 0: n_ctx, for each of max_seqs while
                              that stays within a quarter of the available memory */
    uint32_t max_seqs;     /* sequences that may be computed in one step; 0: 1 */
    const char
        *cpu; /* highest instruction set to use: "ref", "avx2", "avx512", "avx512vnni"; NULL: the best */
    srn_progress_fn *progress; /* may be NULL */
    void *progress_ctx;
    /* Called once the file is read and everything is checked, before the long part: the weights' packing. The
     * engine has its info and cannot compute yet. A code other than 0, with err filled, ends srn_engine_open
     * with it. May be NULL. */
    int (*before_load)(void *ctx, srn_engine *e, srn_err *err);
    void *before_load_ctx;
    const volatile int *cancel; /* may be NULL; read while the weights are packed, so any thread or signal may
                                   set it: SRN_ECANCELLED */
} srn_engine_opts;

/* Opens a GGUF file and loads it. opts may be NULL. Everything is checked before the work: memory, context,
 * architecture. Errors: SRN_ENOENT, SRN_EIO, SRN_EFORMAT, SRN_EUNSUP, SRN_ELIMIT, SRN_ENOMEM, SRN_EINVAL,
 * SRN_ECANCELLED. */
SRN_API int srn_engine_open(const char *path, const srn_engine_opts *opts, srn_engine **ret, srn_err *err);
SRN_API void srn_engine_close(srn_engine *e); /* its sessions must be gone */

typedef struct srn_engine_info {
    const char *architecture;
    const char *engine_id; /* version, numerics, device class and cache type:
                              "serin-0.1.0/numerics-1/cpu-avx2/kv-f16" */
    const char *device;    /* what computes: "cpu-avx2"; NULL in before_load, as the bytes are 0 */
    uint32_t n_vocab, n_ctx, n_ctx_train, n_layer, n_embd, threads;
    uint64_t weights_bytes, kv_bytes, work_bytes; /* memory held */
    uint32_t max_seqs;                            /* sequences that may be computed in one step */
    uint64_t cache_tokens;                        /* positions that the KV cache has in all */
} srn_engine_info;
/* Strings live as long as the engine. */
SRN_API srn_engine_info srn_engine_get_info(const srn_engine *e);

/* ---- a session: one sequence of tokens. Sessions of one engine are used by one thread at a time. ---- */

typedef struct srn_session srn_session;
/* The sessions of an engine share its cache of cache_tokens positions, in blocks of 64: those that begin
 * alike hold the same blocks. What no session holds any more stays findable for srn_generate until its memory
 * is needed. Errors: SRN_ENOMEM. */
SRN_API int srn_session_new(srn_engine *e, srn_session **ret, srn_err *err);
SRN_API void srn_session_free(srn_session *s);
SRN_API uint32_t srn_session_length(const srn_session *s);
/* Forgets everything from index length on. (A model with attention windows may have to compute again what
 * came before; the next feed does.) */
SRN_API void srn_session_truncate(srn_session *s, uint32_t length);
/* Appends n tokens and computes them (it takes nothing from the cache), and the logits after the last one.
 * Between chunks *cancel (may be NULL) is read; when it is set: SRN_ECANCELLED. Errors: SRN_EINVAL (no
 * tokens, or an id outside the vocabulary) and SRN_ECONTEXT (they do not fit, or other sessions hold the
 * cache) before anything is done, SRN_ENONFINITE. After any error the session has the length that it had. */
SRN_API int srn_session_feed(srn_session *s, const int32_t *tokens, uint32_t n, const volatile int *cancel,
                             srn_err *err);
/* [length]: the tokens that the session holds; valid until it is fed or freed. */
SRN_API const int32_t *srn_session_tokens(const srn_session *s);
/* [n_vocab] after the last token fed; valid until the next feed, failed ones too, and not after truncate. */
SRN_API const float *srn_session_logits(const srn_session *s);
/* As feed, with the logits after every one of the n tokens, [n, n_vocab], into out; on failure out holds
 * nothing of use. */
SRN_API int srn_session_feed_all(srn_session *s, const int32_t *tokens, uint32_t n, float *out, srn_err *err);

/* ---- text ---- */

enum {
    SRN_TEXT_SPECIAL = 1, /* special tokens' text becomes these tokens; never set it for a user's text */
    SRN_TEXT_NO_BOS = 2   /* do not add the tokens that the file asks for at the beginning and the end */
};

/* Tokens of a UTF-8 text by the model's tokenizer. *ret is the caller's to free(). Errors: SRN_EUNSUP (the
 * file's tokenizer is not known), SRN_EINVAL (a bit of flags is unknown), SRN_EFORMAT, SRN_ENOMEM. */
SRN_API int srn_engine_tokenize(srn_engine *e, const char *text, size_t n_bytes, unsigned flags,
                                int32_t **ret, uint32_t *ret_n, srn_err *err);

/* Text of n tokens, valid UTF-8 (what is no character becomes U+FFFD), NUL-terminated, the caller's to
 * free(). Special tokens are left out unless flags has SRN_TEXT_SPECIAL. Errors: as above, and SRN_EINVAL for
 * an id outside the vocabulary. */
SRN_API int srn_engine_detokenize(srn_engine *e, const int32_t *tokens, uint32_t n, unsigned flags,
                                  char **ret, srn_err *err);

/* ---- sampling: a pure function of (logits, parameters, history, position) ---- */

typedef struct srn_sampling {
    float temperature;    /* 0: the greatest logit, ties to the lower id */
    int32_t top_k;        /* 0: all */
    float top_p;          /* 1: all */
    float min_p;          /* 0: all */
    float typical_p;      /* 1: all; locally typical sampling (Meister et al. 2022) */
    float repeat_penalty; /* 1: none; over the last repeat_last_n tokens of prompt and answer (-1: all) */
    int32_t repeat_last_n;
    float presence_penalty,
        frequency_penalty; /* 0: none; over the answer's tokens, as the OpenAI API defines */
    float dry_multiplier;  /* 0: none; DRY over the last dry_last_n tokens of prompt and answer (-1: all) */
    float dry_base;
    int32_t dry_allowed_length, dry_last_n;
    const int32_t *dry_breakers; /* [n_dry_breakers], ids ascending; no repetition reaches over one of them */
    uint32_t n_dry_breakers;
    uint64_t seed;
    const struct srn_logit_bias *logit_bias; /* [n_logit_bias], ids ascending; added before everything else */
    uint32_t n_logit_bias;
} srn_sampling;
typedef struct srn_logit_bias {
    int32_t id;
    float bias; /* -100 and below: never; +100 and above: always, if any */
} srn_logit_bias;
/* What to start from, for a zeroed srn_sampling is refused: temperature 0.8, top_k 40, top_p 0.95, min_p
 * 0.05, typical_p 1, no penalties (last_n 64; DRY base 1.75, allowed length 2, last_n -1), seed 0. */
SRN_API srn_sampling srn_sampling_default(void);
/* Checks ranges; names the field that is wrong. */
SRN_API int srn_sampling_check(const srn_sampling *p, srn_err *err);
/* Draws the token at `position` (its index in the sequence: the draw is keyed by seed and position) from
 * logits [n_vocab], finite as a session gives them, with n_vocab > 0. All of history counts as the answer's.
 * Logit bias, repetition, presence and frequency penalties, DRY, temperature, top-k, typical, top-p, min-p,
 * in this order. p has passed srn_sampling_check. Any thread. Errors: SRN_EINVAL (the logit bias leaves no
 * token), SRN_ENOMEM. */
SRN_API int srn_sample(const float *logits, uint32_t n_vocab, const srn_sampling *p, const int32_t *history,
                       size_t n_history, uint64_t position, int32_t *ret, srn_err *err);

/* ---- generation: a prompt in, tokens out ---- */

/* Why an answer ended: X(name, text). */
#define SRN_FINISHES(X)                                                                                      \
    X(STOP, "stop")           /* the model ended it, or the callback did */                                  \
    X(LENGTH, "length")       /* max_tokens were given out */                                                \
    X(CONTEXT, "context")     /* prompt and answer fill the context */                                       \
    X(CANCELLED, "cancelled") /* *cancel was set, or the callback asked for it */
#define SRN_FINISH_ENUM(name, text) SRN_FINISH_##name,
typedef enum srn_finish { SRN_FINISHES(SRN_FINISH_ENUM) } srn_finish;
#undef SRN_FINISH_ENUM
/* "stop", "length", ...; "?" for an unknown number. */
SRN_API const char *srn_finish_name(srn_finish f);

/* What a token callback returns. */
typedef enum srn_go { SRN_GO_ON, SRN_GO_STOP, SRN_GO_CANCEL } srn_go;
/* Called from the generating thread with each token as soon as it is drawn; tokens that end an answer are not
 * given out. The session must not be touched from inside. */
typedef srn_go srn_token_fn(void *ctx, int32_t token);

typedef struct srn_generate_opts {
    srn_sampling sampling;
    uint32_t max_tokens;        /* 0: until the model ends or the context is full */
    bool ignore_eog;            /* go on past the tokens that end an answer; no tokenizer is needed then */
    const volatile int *cancel; /* may be NULL; read between steps, so any thread or signal may set it */
    srn_token_fn *on_token;     /* may be NULL */
    void *on_token_ctx;
    srn_progress_fn *progress; /* of a long prompt; may be NULL */
    void *progress_ctx;
} srn_generate_opts;

typedef struct srn_generation {
    srn_finish finish;
    int32_t end_token; /* the token that ended the answer, -1 if none did */
    uint32_t n_prompt; /* tokens */
    uint32_t n_cached; /* of them, held by the session or by the engine's cache and not computed again */
    uint32_t n_output; /* tokens given out */
    uint32_t
        n_steps; /* decode steps in generate_us: n_output - 1, and one more where an end token was drawn */
    /* Microseconds: computing the prompt; from the call to the first token drawn; from there to the end. */
    uint64_t prompt_us, ttft_us, generate_us;
} srn_generation;

/* Answers a prompt of n_prompt token ids (taken as they are). The session keeps what it shares with the
 * prompt from its beginning, or takes what the engine's cache has of it, and computes the rest, so that the
 * next turn of a conversation costs only what is new; the result never depends on that. The token at index i
 * of the sequence is drawn at position i, and the repeat penalty's history is prompt and answer, so that
 * equal prompts and parameters give equal answers. opts may be NULL: the default sampling, no callback.
 * Afterwards the session holds the prompt and the answer, but for the last token where nothing followed it;
 * on failure or cancellation, what was computed until then: a prefix of these. Cancelled is not an error.
 * Errors: SRN_EINVAL (an empty prompt, a sampling parameter or a token id out of range), SRN_ECONTEXT (prompt
 * and at least one token do not fit), SRN_EUNSUP (the file's tokenizer is not known), SRN_ENONFINITE,
 * SRN_ENOMEM. Nothing is computed before they are checked, but for the last two. */
SRN_API int srn_generate(srn_session *s, const int32_t *prompt, uint32_t n_prompt,
                         const srn_generate_opts *opts, srn_generation *ret, srn_err *err);

#ifdef __cplusplus
}
#endif
#endif
