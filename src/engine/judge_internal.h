/* Judging, inside: judge.c is what other threads see, judge_step.c what the scheduler's thread does. */
#ifndef SRN_ENGINE_JUDGE_INTERNAL_H
#define SRN_ENGINE_JUDGE_INTERNAL_H

#include "engine/judge.h"
#include "engine/sampler_internal.h"
#include "engine/scheduler_internal.h"

/* Rows of logits that one engine may be ahead of the other, and bytes that these may take. */
#define SRN__JUDGE_ROWS  32u
#define SRN__JUDGE_BYTES ((size_t)16 << 20)

/* A job's half: the text in one engine. The thread's. */
typedef struct srn__arm {
    struct srn__arm *next; /* of the lane's arms that hold a sequence */
    srn_judge *job;        /* fixed, and while the job is not done: */
    srn__lane *lane;
    srn_kv_seq *seq; /* NULL: it holds nothing */
    uint64_t salt;
    uint32_t n_known;  /* tokens in the sequence */
    uint32_t n_rows;   /* rows of logits that it has given, of compared tokens */
    bool began, alone; /* took its cached prefix; computes everything itself */
} srn__arm;

struct srn_judge {
    /* Fixed by submit. */
    srn_judge_opts o;           /* its tokens are this object's */
    int32_t *tokens;            /* [n_fed + 1]: all but the last are fed */
    uint32_t n_fed, n_compared; /* rows [n_fed - n_compared, n_fed) are compared */
    uint32_t n_vocab, max_ahead;
    srn__judging *judging;
    atomic_uint refs; /* the caller, and the thread */
    atomic_bool cancelled;

    srn_judge *next; /* in the queue: guarded by the scheduler's lock; among the ended ones: the thread's */
    srn__arm arms[2];

    pthread_mutex_t lock; /* guards result */
    srn_judge_result result;
    pthread_mutex_t bell; /* held while notify runs; guards released */
    bool released;
};

#endif
