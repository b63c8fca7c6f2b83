/* A recorded call run again. Everything that decides a token (weights, numerics, prompt, sampling, seed,
 * constraint) is rebuilt from the record and its content, and the tokens that come, their logits and
 * log-probabilities are held against those that were recorded, bit for bit. A replayer has a model and a
 * scheduler of its own, or borrows those of a running server. Several threads may run calls on one replayer.
 */
#ifndef SRN_SERVE_REPLAY_H
#define SRN_SERVE_REPLAY_H

#include <jansson.h>

#include "engine/engine.h"
#include "prompts/prompts.h"

/* ---- who answers ---- */

typedef struct srn_replay_ask {
    const json_t *record; /* the call's body, or NULL: a request of chat completions, or with "prompt" in
                             place of "messages" of completions; then the seed is 0 unless it says one */
    const char *request;  /* the request's body, as JSON text */
    const srn_prompt_ref *prompt; /* a version in place of the one that was used, or NULL */
    bool greedy;                  /* in place of the recorded sampling */
    uint32_t max_tokens;          /* where the request says none; 0: as the server does */
} srn_replay_ask;
typedef struct srn_replay_answer {
    int32_t *prompt, *tokens; /* ids in the model's vocabulary; tokens without the one that ended it */
    float *logits;            /* [n_tokens] as the model gave them */
    uint32_t n_prompt, n_tokens;
    char *text; /* without reasoning; ends with 0, which it may also contain */
    size_t n_text;
    const char *finish;         /* "stop" or "length" */
    uint64_t ttft_us, total_us; /* from when it was asked; beside others that run at the same time */
} srn_replay_answer;
void srn_replay_answer_done(srn_replay_answer *a);

/* Who answers requests and tells what it expects of a text: a replayer, or another program. Any thread,
 * several at a time. */
typedef struct srn_answerer srn_answerer;
struct srn_answerer {
    const srn_ids *ids; /* of what answers */
    uint32_t n_vocab;
    /* Renders the request with the model's template and runs it with the recorded sampling and seed: its
     * first choice, and of several texts the first. *ret is the caller's to be done with. Errors: what the
     * API would have said, SRN_ECONTEXT, SRN_EUNSUP, SRN_ECANCELLED. */
    int (*answer)(srn_answerer *a, const srn_replay_ask *ask, srn_replay_answer *ret, srn_err *err);
    /* The logits after the last n_rows of these tokens, [n_rows, n_vocab]. */
    int (*rows)(srn_answerer *a, const int32_t *tokens, uint32_t n, uint32_t n_rows, float *ret,
                srn_err *err);
    /* Whether it still answers at all; else why not. NULL: it does. */
    int (*check)(srn_answerer *a, srn_err *err);
    void (*cancel)(srn_answerer *a); /* what runs, and all that will, ends with SRN_ECANCELLED */
    void (*close)(srn_answerer *a);  /* nothing runs any more */
};

/* How far b is from a on n tokens, at each of [first, n) (engine/engine.h): both are asked for their rows, a
 * window at a time. Errors: SRN_EINVAL vocabularies of different sizes, or nothing to compare; SRN_ECONTEXT.
 */
int srn_answerers_diverge(srn_answerer *a, srn_answerer *b, const int32_t *tokens, uint32_t n, uint32_t first,
                          srn_divergence *ret, srn_err *err);
/* {"tokens", "mean", "max", "max_at", "top1"}, or null where nothing was compared. */
json_t *srn_divergence_json(const srn_divergence *d);

/* ---- replayers ---- */

typedef struct srn_replayer srn_replayer;

typedef struct srn_replayer_opts {
    const char *model;    /* a file, or a name in the cache folder */
    const char *kv;       /* type of the cache; NULL: f16 */
    uint32_t threads;     /* 0: all cores */
    uint32_t ctx;         /* tokens of the longest call; 0: what the model was trained for */
    uint32_t parallel;    /* calls at once; 0: 8 */
    srn_prompts *prompts; /* of the ledger; NULL: calls of registered prompts cannot be rebuilt */
    srn_progress_fn *progress;
    void *progress_ctx;
} srn_replayer_opts;
/* Errors: those of loading a model. */
int srn_replayer_open(const srn_replayer_opts *o, srn_replayer **ret, srn_err *err);
void srn_replayer_close(srn_replayer *r);             /* NULL is fine; nothing runs any more */
srn_answerer *srn_replayer_answerer(srn_replayer *r); /* whose close closes the replayer */
const srn_weights *srn_replayer_weights(const srn_replayer *r);

/* Runs a call. record: its body; content: as srn_reader_content gives it. *ret, a new reference, is the
 * object that docs/replay.md describes; its "same" says whether every token and every bit came again. The
 * error is for what cannot be run at all (SRN_ENOENT: nothing was kept to compare with; SRN_ECONTEXT); a
 * difference is a result. */
int srn_replayer_run(srn_replayer *r, const json_t *record, const json_t *content, json_t **ret,
                     srn_err *err);

/* ---- recorded calls and their verdicts (replay_calls.c) ---- */

typedef enum srn_replay_verdict {
    SRN_REPLAY_SAME,
    SRN_REPLAY_DIFFERENT,
    SRN_REPLAY_UNPROVEN,
    SRN_REPLAY_EMPTY /* nothing was computed */
} srn_replay_verdict;
typedef struct srn_replay_call {
    uint8_t id[16];
    char name[27];
    json_t *record, *content;
    srn_replay_verdict verdict;
    json_t *result; /* NULL where it could not be run: why says it */
    srn_err why;
    bool done; /* there is a result, or a reason why there is none */
} srn_replay_call;
/* Reads the record and the content of c->id; where there is nothing to run, c is done. */
void srn_replay_read(srn_reader *ledger, srn_replay_call *c);
/* What the record says: its weights id and cache type ("" where it says none), and its tokens. */
const char *srn_replay_weights(const srn_replay_call *c);
const char *srn_replay_kv(const srn_replay_call *c);
uint64_t srn_replay_tokens(const srn_replay_call *c);
/* Runs it, which makes it done. */
void srn_replay_run(srn_replayer *r, srn_replay_call *c);
/* Asks another model the same and compares its answer with the recorded one, which makes it done. was: the
 * recorded weights, for the divergence; NULL: no_was says why they are not there. */
void srn_replay_run_other(srn_answerer *other, const char *name, srn_answerer *was, const char *no_was,
                          srn_replay_call *c);
void srn_replay_fail(srn_replay_call *c, const srn_err *why); /* it cannot be run */
void srn_replay_call_done(srn_replay_call *c);
/* {"calls": [...], "same": ...} of docs/replay.md, a new reference. */
json_t *srn_replay_json(const srn_replay_call *calls, size_t n);
/* The word of docs/replay.md for it. */
const char *srn_replay_verdict_name(srn_replay_verdict v);

#endif
