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

#endif
