/* The scheduler: one thread that owns the engines given to it, their sequences and KV blocks, and turns
 * requests into tokens by continuous batching. Other threads submit, read, cancel and release requests; they
 * never see tensors. Every step serves running answers first and spends the rest of a budget on prompts, so
 * that a long prompt never stalls a running answer. What a request gets never depends on what else runs, bit
 * for bit.
 */
#ifndef SRN_ENGINE_SCHEDULER_H
#define SRN_ENGINE_SCHEDULER_H

#include "constrain/constrain.h"
#include "engine/engine.h"

typedef struct srn_scheduler srn_scheduler;
typedef struct srn_request srn_request;

typedef struct srn_scheduler_opts {
    uint32_t max_queue;   /* waiting requests of all models; one more is SRN_EBUSY. 0: 1024 */
    double prefill_share; /* of a step's time that prompts may take while answers run: 0.5 means that a gap
                             between tokens at most doubles; 0: the default, 0.5. While more prompts are read
                             than answers run it grows with their number, up to 0.75. */
    uint32_t max_judges;  /* jobs of judge.h that wait or run; one more is SRN_EBUSY. 0: 64 */
    uint64_t (*now_us)(void); /* NULL: srn_now_us */
    /* Called on the thread before the requests of a step are notified (true) and after it (false), so that
     * whoever they wake can be woken once. May be NULL. */
    void (*notifying)(void *ctx, bool begins);
    void *notifying_ctx;
} srn_scheduler_opts;
/* Starts the thread. opts may be NULL. */
int srn_scheduler_new(const srn_scheduler_opts *opts, srn_scheduler **ret, srn_err *err);
/* Ends what still runs with SRN_ECANCELLED, joins the thread. Engines go back to their owners; requests stay
 * readable until they are released. */
void srn_scheduler_free(srn_scheduler *s);
/* From now on the engine belongs to the thread; it has no sessions. srn_engine_opts.max_seqs bounds how many
 * of its requests run at once. Returns when the thread has it. */
int srn_scheduler_add(srn_scheduler *s, srn_engine *e, srn_err *err);
/* Takes an engine out: new requests for it are refused, and those that it has end by themselves, or after
 * grace_us with SRN_ECANCELLED; returns when they have, and the engine is the caller's again. */
void srn_scheduler_remove(srn_scheduler *s, srn_engine *e, uint64_t grace_us);

typedef enum srn_request_kind {
    SRN_REQUEST_GENERATE,
    SRN_REQUEST_EMBED /* the pooled hidden state of the prompt */
} srn_request_kind;
/* Work that nobody waits for: while others wait for a place it gives its own back and begins anew later, but
 * in the end has its turn as every overtaken request has. */
#define SRN_PRIORITY_BACKGROUND INT32_MAX
typedef enum srn_pooling { SRN_POOL_LAST, SRN_POOL_MEAN, SRN_POOL_CLS } srn_pooling;

/* Everything is copied by submit but the constraint, of which it takes a reference. */
typedef struct srn_request_opts {
    srn_request_kind kind;
    const int32_t *prompt;
    uint32_t n_prompt;
    srn_sampling sampling; /* logit_bias included */
    uint32_t max_tokens;   /* 0: until the model ends or the context is full */
    uint32_t min_tokens;   /* no end token before that many */
    bool ignore_eog;
    const srn_str
        *stops; /* the answer ends before the first of these texts; at most 64 of at most 1,024 bytes */
    uint32_t n_stops;
    bool keep_stop;             /* the stop text is part of the answer */
    const int32_t *stop_tokens; /* end an answer as end tokens do */
    uint32_t n_stop_tokens;
    bool show_special;          /* control tokens appear as their text */
    bool continues_text;        /* as srn_stream_continues: the answer goes on with the prompt's text */
    bool logprobs;              /* of each token */
    uint32_t n_top;             /* and of so many alternatives, at most 20 */
    bool prompt_logprobs;       /* of the prompt's tokens too, from the second on */
    uint32_t n_rows;            /* the logits after so many of the prompt's last tokens are kept; 0: none */
    srn_constraint *constraint; /* or NULL; needs trie */
    const srn_token_trie *trie; /* the model's; must outlive the request */
    uint32_t speculate;         /* most draft tokens a step from prompt look-up; 0: none */
    srn_pooling pooling;        /* of embeddings */
    bool no_cache;              /* neither takes cached blocks nor leaves any */
    uint64_t tenant;            /* whose turn it is, and salt of the cache */
    uint64_t cache_salt;        /* a further salt of the caller's */
    int32_t priority;           /* lower goes first; SRN_PRIORITY_BACKGROUND gives its place back too */
    uint32_t slice;             /* not 0: its engine time is measured, apart from that of other slices */
    bool again;                 /* it was in the queue before, and has its place however full that is */
    bool apart;                 /* of the queue only what waits for the same engine counts against it */
    uint64_t deadline_us;       /* srn_now_us() after which it ends with SRN_ETIMEOUT; 0: none */
    /* Called from the scheduler thread, at most once a step, when there is something new to read; it must not
     * block nor call the scheduler. May be NULL. */
    void (*notify)(void *ctx);
    void *notify_ctx;
} srn_request_opts;

/* Checks and queues n_requests requests, opts and ret [n_requests], that succeed or fail together (the n
 * choices of one call: their prompts are computed once where they are equal). Any thread. Errors, before any
 * work: SRN_EINVAL (sampling, ids, sizes), SRN_ECONTEXT (the prompt leaves no room for an answer, or the
 * cache could never hold it), SRN_ELIMIT (they are more than the queue could ever hold; the constraint's
 * first mask, which is made here, takes too long), SRN_EBUSY (the queue is full, or the engine is being taken
 * out), SRN_ENOMEM. */
int srn_request_submit(srn_scheduler *s, srn_engine *e, const srn_request_opts *opts, uint32_t n_requests,
                       srn_request **ret, srn_err *err);
/* Ends it within one step, wherever it is: SRN_ECANCELLED. Any thread. */
void srn_request_cancel(srn_request *r);
/* Gives the caller's hold back, and cancels what still runs; notify is not called once this returned (a call
 * of it that is under way is waited for, so hold no lock here that notify takes). */
void srn_request_release(srn_request *r);

typedef enum srn_request_state {
    SRN_REQUEST_QUEUED,
    SRN_REQUEST_PREFILL,
    SRN_REQUEST_DECODE,
    SRN_REQUEST_DONE
} srn_request_state;

typedef struct srn_request_status {
    srn_request_state state;
    int code; /* when done: SRN_OK, or why it failed, with err */
    srn_err err;
    srn_finish finish;                     /* when done and SRN_OK */
    int32_t end_token;                     /* that ended it, or -1 */
    int32_t stop;                          /* index of the stop text that did, or -1 */
    uint32_t n_prompt, n_cached, n_output; /* tokens; output without the end token */
    uint32_t n_draft, n_accepted;          /* speculation */
    uint32_t n_preempted;                  /* times it had to give its blocks back and start over */
    uint64_t submitted_us, started_us, first_token_us, done_us; /* srn_now_us(); 0: not yet */
    /* Of a request with a slice: its part of the steps that read its prompt, by tokens; the steps that gave
     * tokens to answers of its slice and to nothing else, and how many tokens it got in them. */
    uint64_t prefill_us, decode_us;
    uint32_t n_decoded;
} srn_request_status;

/* One token given out; its text is bytes [end of the token before, text_end) of the answer's text. A token
 * appears once its text is certain: not half a character, nor the beginning of a stop text. */
typedef struct srn_out_token {
    int32_t id;
    float logprob; /* natural logarithm, before penalties, temperature and masks; 0 unless asked for */
    float logit;   /* as the model gave it, before everything */
    uint64_t text_end;
    uint64_t at_us;
} srn_out_token;

/* Appends the answer's text from byte text_from on to text (may be NULL), and copies tokens from index
 * token_from on, at most cap of them, into tokens (may be NULL), and their n_top alternatives, most likely
 * first, into tops [cap, n_top] (may be NULL). Returns how many tokens were copied. One consistent moment;
 * any thread. */
uint32_t srn_request_read(srn_request *r, uint64_t text_from, srn_buf *text, uint32_t token_from,
                          srn_out_token *tokens, srn_top_token *tops, uint32_t cap, srn_request_status *ret);
/* When done: logprob [n_prompt] (of token 0: 0) and tops [n_prompt, n_top] of the prompt; valid until
 * release. NULL where they were not asked for. */
const float *srn_request_prompt_logprobs(const srn_request *r, const srn_top_token **ret_tops);
/* When done: [n_rows, n_vocab], valid until release; NULL where none were asked for. */
const float *srn_request_rows(const srn_request *r);
/* When done: [n_embd], not normalised; valid until release. */
const float *srn_request_embedding(const srn_request *r);

/* ---- what an answer was like; pure, of its tokens ---- */

/* Share of the answer's 4-grams of tokens that stood in it before, of its first 32,768 tokens. NAN: it has
 * none, or memory ran out. */
double srn_answer_repetition(const srn_out_token *tokens, uint32_t n);
/* Mean of -log p of the tokens, nats: how unsure the model was of what was drawn. Of a request with logprobs;
 * NAN: no tokens. */
double srn_answer_uncertainty(const srn_out_token *tokens, uint32_t n);

/* ---- what operators watch; any thread ---- */

typedef struct srn_engine_stats {
    uint32_t n_running, n_waiting;
    uint32_t kv_blocks, kv_held, kv_cached;
    uint64_t prompt_tokens, cached_tokens, output_tokens;
    uint64_t kv_evictions, preemptions;
    uint64_t draft_tokens, accepted_tokens;
    uint64_t n_steps, step_us; /* forward passes and the time spent in them */
    uint64_t step_tokens;      /* computed in them: of prompts, answers and drafts */
    uint64_t sample_us, idle_us;
} srn_engine_stats;
void srn_scheduler_stats(srn_scheduler *s, const srn_engine *e, srn_engine_stats *ret);
/* Microseconds since the thread last showed that it is alive (it does at least every 100 ms, and between
 * steps); what a health check asks. */
uint64_t srn_scheduler_silence_us(const srn_scheduler *s);

#endif
