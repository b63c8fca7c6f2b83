/* Replays, inside: the recorded request as its API's parser makes it (replay.c), shared with answers of other
 * models (replay_answer.c).
 */
#ifndef SRN_SERVE_REPLAY_INTERNAL_H
#define SRN_SERVE_REPLAY_INTERNAL_H

#include <pthread.h>

#include "serve/anthropic.h"
#include "serve/job_internal.h"
#include "serve/openai_internal.h"
#include "serve/replay.h"

struct srn_replayer {
    srn_config config;
    srn_config_model model;
    srn_scheduler *scheduler;
    srn__models *models;
    srn__served *served;
    srn_prompts *prompts;
};

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

/* A thread that waits for its request. */
typedef struct srn__replay_waiter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool woken; /* under lock */
} srn__replay_waiter;
#define SRN__REPLAY_WAITER                                                                                   \
    { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false }
void srn__replay_wake(void *waiter); /* srn_request_opts.notify */
void srn__replay_wait(srn_request *q, srn__replay_waiter *w, srn_request_status *ret);
void srn__replay_waiter_done(srn__replay_waiter *w);

#endif
