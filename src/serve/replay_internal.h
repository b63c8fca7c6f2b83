/* Replays, inside: the model and how requests run on it (replayer.c), the recorded request as its API's
 * parser makes it (replay.c), shared with answers of other models (replay_answer.c).
 */
#ifndef SRN_SERVE_REPLAY_INTERNAL_H
#define SRN_SERVE_REPLAY_INTERNAL_H

#include <pthread.h>

#include "serve/anthropic.h"
#include "serve/job_internal.h"
#include "serve/openai_internal.h"
#include "serve/replay.h"

/* One request on its way, and the thread that waits for it. */
typedef struct srn__replay_run {
    srn_replayer *replayer;
    srn_request *request; /* NULL: it could not be submitted */
    srn_request_status status;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool woken;                   /* under lock */
    struct srn__replay_run *next; /* under the replayer's lock */
} srn__replay_run;

struct srn_replayer {
    srn_answerer answerer;
    srn_config config;
    srn_config_model model;
    srn_scheduler *scheduler;
    srn__models *models;
    srn__served *served;
    srn_prompts *prompts;
    bool borrowed;        /* scheduler, models and prompts are a server's: it yields to other work */
    pthread_mutex_t lock; /* guards what is below */
    srn__replay_run *runs;
    bool cancelled;
};

/* One that runs on a model of a running server, behind all its other work, and leaves nothing in its cache.
 * Takes the hold on the model. */
int srn__replayer_borrow(srn_scheduler *s, srn__served *v, srn_prompts *prompts, srn_replayer **ret,
                         srn_err *err);
/* Submits a request and waits for its end, whose code is returned; x->request can be read until x is done,
 * which it must be in every case. */
int srn__replay_run_request(srn__replay_run *x, srn_replayer *r, const srn_request_opts *o, srn_err *err);
void srn__replay_run_done(srn__replay_run *x);

typedef struct srn__replay_request {
    json_t *body, *chat;
    srn__openai_request openai;
    srn__anthropic anthropic;
    bool is_anthropic;
    srn__job_spec *spec; /* in one of them */
} srn__replay_request;
/* q->body is there. ref: the version in place of the one that the record names, or NULL. On failure q must be
 * done all the same. */
int srn__replay_parse(srn_replayer *r, const json_t *record, const srn_prompt_ref *ref,
                      srn__replay_request *q, srn_err *err);
void srn__replay_request_done(srn__replay_request *q);
/* What was in force when the call ran, whatever the request says today: defaults may have changed since. */
void srn__replay_lay_record(const json_t *record, srn__job_spec *spec);
/* Points a completion's spec at its prompt of that number. */
void srn__replay_take_part(srn__replay_request *q, uint32_t part);

/* ---- replay_answer.c: srn_answerer.answer ---- */
int srn__replay_answer(srn_answerer *a, const srn_replay_ask *ask, srn_replay_answer *ret, srn_err *err);
/* What the call's first choice was, of its record's content; its finish is the content's, "" where it was cut
 * off. */
int srn__replay_recorded(const json_t *content, srn_replay_answer *ret, srn_err *err);

/* ---- replay_embed.c ---- */

/* Runs the embeddings call and holds the digests of its vectors against those that were recorded: appends to
 * choices as srn_replayer_run does. */
int srn__replay_embeddings(srn_replayer *r, const json_t *body, const json_t *content, json_t *choices,
                           bool *ret_same, bool *ret_prompt_same, uint32_t *ret_n, srn_err *err);
/* Base64, and base64 of little-endian 32-bit values; *ret is the caller's to free. what: for errors. */
int srn__bytes_of(const json_t *text, const char *what, uint8_t **ret, size_t *ret_n, srn_err *err);
int srn__values_of(const json_t *text, const char *what, uint32_t **ret, uint32_t *ret_n, srn_err *err);
/* A recorded prompt's ids: part i of the content. */
int srn__replay_prompt(const json_t *content, size_t i, srn_tokens *ret, srn_err *err);

#endif
