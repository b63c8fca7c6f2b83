/* judge: how far two engines of one scheduler are apart on a text that one of them wrote. Both are fed the
 * same tokens (teacher-forced), and what they expect is compared at each token of the answer. The scheduler
 * works jobs off beside production, one after the other in the order they came: while production has work
 * they get a guaranteed share of the tokens that steps compute and never more; idle time is theirs. They
 * never take a KV block that a request wants. An engine compared with itself is exactly 0 apart.
 */
#ifndef SRN_ENGINE_JUDGE_H
#define SRN_ENGINE_JUDGE_H

#include "engine/scheduler.h"

typedef struct srn_judge srn_judge; /* a job */

/* Whether divergence means anything between the two: the same tokenizer and numerics. SRN_EUNSUP "not
 * comparable: ...", which is a fact about the pair and no failure. Reads the models' files; any thread. */
int srn_judge_comparable(const srn_engine *baseline, const srn_engine *canary, srn_err *err);

/* Pairs are [baseline, canary]. */
typedef struct srn_judge_opts {
    const int32_t *tokens; /* [n], copied: the prompt and the answer */
    uint32_t n, first;     /* what is compared begins at token `first`, from 1 on: the answer's first */
    uint32_t max_tokens;   /* tokens that are compared at most; 0: all from first on */
    double share;          /* of step tokens while it is its turn, below 1; 0: the scheduler's */
    uint64_t tenant[2];    /* as in srn_request_opts: whose cached prefixes may be taken, and are left */
    uint64_t cache_salt[2];
    uint64_t deadline_us; /* srn_now_us() after which it ends with SRN_ETIMEOUT; 0: none */
    /* Called once from the scheduler's thread, when it is done; it must not block nor call the scheduler. */
    void (*notify)(void *ctx);
    void *notify_ctx;
} srn_judge_opts;

/* Queues a job. Any thread; both engines must be the scheduler's, and may be the same one. Errors, before any
 * work: SRN_EINVAL (no token to compare, ids, an engine that was not given to it), SRN_EUNSUP (vocabularies
 * of different sizes), SRN_ECONTEXT (one of the two could never hold the text), SRN_EBUSY (the queue is full,
 * or an engine is being taken out), SRN_ENOMEM. */
int srn_judge_submit(srn_scheduler *s, srn_engine *baseline, srn_engine *canary, const srn_judge_opts *o,
                     srn_judge **ret, srn_err *err);
/* Ends it within a step: SRN_ECANCELLED. Any thread. */
void srn_judge_cancel(srn_judge *j);
/* Gives the caller's hold back, and cancels what still runs; notify is not called once this returned. */
void srn_judge_release(srn_judge *j);

typedef enum srn_judge_state { SRN_JUDGE_QUEUED, SRN_JUDGE_RUNNING, SRN_JUDGE_DONE } srn_judge_state;
typedef struct srn_judge_result {
    srn_judge_state state;
    int code; /* when done: SRN_OK, or why it ended early, with err; d then has what was compared until then:
                 SRN_ECANCELLED (also: an engine was taken out), SRN_ETIMEOUT, SRN_ENONFINITE (a value
                 overflowed; err says in which of the two), SRN_ECONTEXT, SRN_ENOMEM */
    srn_err err;
    srn_divergence d;                    /* a: the baseline, b: the canary; max_at counts from `first` on */
    uint32_t n_cached[2], n_computed[2]; /* tokens found in the caches, and computed, again ones included */
    uint32_t n_preempted;                /* times that it had to give blocks back */
    uint64_t submitted_us, started_us, done_us; /* 0: not yet */
} srn_judge_result;
/* One consistent moment; any thread. */
void srn_judge_read(srn_judge *j, srn_judge_result *ret);

/* From now on, for jobs that do not say a share themselves. Between 0, not included, and 1; others are
 * SRN_EINVAL. The default is 0.05. */
int srn_scheduler_set_judge_share(srn_scheduler *s, double share, srn_err *err);

typedef struct srn_judge_stats {
    uint32_t n_queued;                    /* jobs that wait or run */
    uint64_t n_done, n_failed, n_refused; /* n_failed: ended early; n_refused: for a full queue */
    uint64_t n_compared;                  /* tokens of answers */
    uint64_t tokens, cached_tokens;       /* computed for judging, and found in caches */
    uint64_t busy_tokens;                 /* of tokens: while production had work */
    uint64_t production_tokens;           /* computed for requests meanwhile, while there was a job */
    uint64_t n_starved;                   /* turns in which requests wanted the blocks */
    uint64_t n_preempted;                 /* times that a job gave its blocks back */
    uint64_t n_steps, step_us, compare_us;
} srn_judge_stats;
void srn_scheduler_judge_stats(srn_scheduler *s, srn_judge_stats *ret);

#endif
