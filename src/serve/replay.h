/* A recorded call run again. Everything that decides a token (weights, numerics, prompt, sampling, seed,
 * constraint) is rebuilt from the record and its content, and the tokens that come, their logits and
 * log-probabilities are held against those that were recorded, bit for bit. It needs no server: a replayer
 * has a model and a scheduler of its own. Several threads may run calls on one replayer.
 */
#ifndef SRN_SERVE_REPLAY_H
#define SRN_SERVE_REPLAY_H

#include <jansson.h>

#include "engine/engine.h"
#include "prompts/prompts.h"

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
void srn_replayer_close(srn_replayer *r); /* NULL is fine; nothing runs any more */
/* What it runs; valid until it is closed. */
const srn_ids *srn_replayer_ids(const srn_replayer *r);

/* Runs a call. record: its body; content: as srn_reader_content gives it. *ret, a new reference, is the
 * object that docs/replay.md describes; its "same" says whether every token and every bit came again. The
 * error is for what cannot be run at all (SRN_ENOENT: nothing was kept to compare with; SRN_EUNSUP: an
 * embedding; SRN_ECONTEXT); a difference is a result. */
int srn_replayer_run(srn_replayer *r, const json_t *record, const json_t *content, json_t **ret,
                     srn_err *err);

/* ---- what another model, or another version of the prompt, answers (replay_answer.c) ---- */

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
    uint32_t n_prompt, n_tokens;
    char *text; /* without reasoning; ends with 0, which it may also contain */
    size_t n_text;
    const char *finish;         /* "stop" or "length" */
    uint64_t ttft_us, total_us; /* from when it was asked; beside others that run at the same time */
} srn_replay_answer;
/* Renders the request with this model's template and runs it with the recorded sampling and seed: its first
 * choice, and of several texts the first. *ret is the caller's to be done with. Errors: what the API would
 * have said, SRN_ECONTEXT, SRN_EUNSUP. */
int srn_replayer_answer(srn_replayer *r, const srn_replay_ask *ask, srn_replay_answer *ret, srn_err *err);
void srn_replay_answer_done(srn_replay_answer *a);

#endif
