/* The scheduler, inside: one thread, a lane for each engine, requests that wait or run in a lane.
 *
 *   scheduler.c   the thread: commands of other threads, whose turn it is, life
 *   queue.c       who waits, who is let in, who must give its blocks back
 *   step.c        one step of a lane: its batch, the forward pass, what a step's time teaches
 *   answer.c      from rows of logits to tokens, texts and ends
 *   request.c     what other threads see
 *   judge.c       texts on which two engines are compared, as other threads see them
 *   judge_step.c  and as they are worked off beside the requests
 *   speculate.c   drafts from what was written before (pure)
 *   policy.c      how much prompt a step takes (pure)
 */
#ifndef SRN_ENGINE_SCHEDULER_INTERNAL_H
#define SRN_ENGINE_SCHEDULER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine_internal.h"
#include "engine/kv.h"
#include "engine/policy.h"
#include "engine/judge.h"
#include "engine/scheduler.h"
#include "engine/stream.h"

#define SRN__MAX_DRAFT  16u
#define SRN__MAX_STOPS  64u
#define SRN__DRAFT_GRAM 4u /* longest run of tokens that a draft is looked up by; at least two must agree */

typedef struct srn__lane srn__lane;

/* A tenant of a lane: how much it got. */
typedef struct srn__tenant {
    struct srn__tenant *next;
    uint64_t id;
    uint64_t served;   /* tokens read, and twice the tokens written */
    uint32_t n_active; /* requests that wait or run */
} srn__tenant;

struct srn_request {
    /* Fixed by submit. */
    srn_request_opts o; /* its pointers are to memory of this request */
    srn_scheduler *s;   /* while the thread has it */
    srn__lane *lane;
    uint64_t serial, salt;
    uint32_t n_prompt, most_out; /* answer tokens that there is room for */
    atomic_uint refs;            /* the caller, and the thread */
    atomic_bool cancelled;

    /* The thread's alone, and of the device's threads in a step. */
    srn_request *next; /* in the inbox, or among those that wait */
    srn_request *touched_next;
    bool touched, ended;
    srn__tenant *tenant;
    srn_kv_seq *seq; /* while it runs */
    srn_matcher *matcher;
    srn_stream *stream;  /* added to under lock; NULL without a tokenizer */
    int32_t *tokens;     /* [n_prompt + most_out]: prompt, then answer */
    uint32_t n_tokens;   /* known; the answer's are n_tokens - n_prompt */
    uint32_t n_computed; /* of them in the cache */
    uint32_t n_scored;   /* prompt tokens whose log-probabilities are there */
    uint32_t n_given;    /* answer tokens in `out` and in the stream */
    int32_t boost;   /* the best priority among those that wait for what this one computes; least: overtaken
                        for so long that it goes before all */
    uint64_t passed; /* the round of admissions in which it was passed over */
    bool preempted;  /* goes before others of its priority */
    bool no_take;    /* computes everything itself */
    bool admitted;   /* once; its prompt is on the tenant's account */
    uint32_t draft_now;                  /* tokens of the next draft */
    uint32_t draft_pause, draft_penalty; /* steps until one is tried again, and after the next failure */
    double draft_rate;                   /* how often drafts were right, the recent ones more */
    double *sums;                        /* of MEAN pooling: [n_embd] */

    /* Readable by others from index 0 to n_certain under lock; the thread writes beyond. */
    srn_out_token *out;  /* [most_out] */
    srn_top_token *tops; /* [most_out, n_top] */
    float *prompt_logprobs;
    srn_top_token *prompt_tops;
    float *rows; /* [n_rows, n_vocab] */
    float *embedding;

    pthread_mutex_t lock; /* guards status, n_certain and the stream's text */
    srn_request_status status;
    uint32_t n_certain;

    pthread_mutex_t bell; /* held while notify runs; guards released */
    bool released;
};

/* One sequence's part of a step, and what came of it. */
typedef struct srn__part {
    srn_request *r;
    uint32_t first, n_tokens; /* of the batch */
    uint32_t row, n_rows;     /* of the logits or hidden states */
    uint32_t n_draft;         /* the last n_draft tokens */
    bool draws;               /* its last rows give tokens of the answer */
    uint32_t n_new;           /* tokens drawn, without one that ends the answer */
    int32_t end_token;        /* -1: none */
    bool must_end;            /* nothing may follow by its constraint */
    int code;                 /* why it failed */
    srn_err *err;             /* [1] of the lane, where it failed */
} srn__part;

/* An engine's place in the scheduler. The thread's alone, but for what is marked. */
struct srn__lane {
    srn__lane *next; /* written under the scheduler's lock */
    srn_engine *e;
    srn_kv *kv;
    const srn_vocab *vocab; /* NULL: the tokenizer is not known */
    uint32_t n_vocab, n_embd, n_ctx, n_groups;
    uint32_t limit; /* longest sequence: of the context and of the whole cache */
    uint32_t max_seqs, max_batch, max_rows, max_hidden; /* max_hidden: rows of hidden states */
    int32_t *end_tokens;                                /* [n_end_tokens] of the vocabulary */
    uint32_t n_end_tokens;

    srn_request *waiting;  /* in the order they came */
    srn_request **running; /* [max_seqs], the most deserving first */
    uint32_t n_running, n_waiting;
    srn__tenant *tenants;
    srn__policy policy;
    uint64_t n_rounds;    /* of admissions */
    uint32_t n_overtaken; /* places that went past an older request of lower priority */
    uint64_t served_us;   /* whose turn it is */
    uint64_t beside_us;   /* the same of turns with nothing but work that nobody waits for */
    uint32_t slice_turns; /* steps since answers of one slice had a step of their own */
    uint32_t slice_last;  /* which that was */
    bool embeds_next, was_busy;
    bool over;                /* all that it has are to end */
    struct srn__arm *judged;  /* halves of jobs that hold blocks here: judge_internal.h */
    srn__policy judge_policy; /* what steps that judge take */

    srn__part *parts; /* [max_seqs] */
    uint32_t n_parts;
    srn_slice *slices;            /* [max_seqs] */
    int32_t *tokens;              /* [max_batch] */
    uint32_t *wanted;             /* [max_batch] */
    float *logits;                /* [max_rows, n_vocab] */
    float *hidden;                /* [max_hidden, n_embd] */
    srn_err *errs;                /* [max_seqs] */
    struct srn__scratch *scratch; /* [n_scratch], one for each of the device's threads */
    uint32_t n_scratch;

    srn_engine_stats stats; /* the thread's; published under the scheduler's lock */

    /* Guarded by the scheduler's lock. */
    srn_engine_stats published;
    uint32_t published_waiting;
    uint32_t n_inbox, n_users; /* n_users: submits under way */
    uint32_t n_judges;         /* jobs that want it */
    bool leaving;
    uint64_t leave_at;
};

/* What one of the device's threads draws in. */
typedef struct srn__scratch {
    atomic_flag taken;
    void *draw;
    uint64_t *mask; /* [(n_vocab+63)/64] */
} srn__scratch;

/* The jobs of judge.h: all of them in one queue, of which the first is worked off. */
typedef struct srn__judging {
    /* Guarded by the scheduler's lock. */
    srn_judge *queue; /* the thread alone takes jobs out */
    uint32_t n_queued;
    double share; /* of jobs that say none */
    uint64_t n_refused;
    srn_judge_stats published;

    /* The thread's. */
    srn_judge *now;   /* the first of the queue; NULL: there is none */
    double now_share; /* what it gets */
    double credit;    /* tokens that production's tokens have earned */
    srn_judge *ended;
    float *rows; /* a ring of [max_ahead, n_vocab] that one engine has given and the other not yet */
    size_t rows_bytes;
    srn_judge_stats stats;
} srn__judging;

struct srn_scheduler {
    srn_scheduler_opts o;
    uint64_t salt_seed;
    pthread_t thread;
    atomic_uint_least64_t alive_us; /* when the thread last showed itself; 0: it sleeps */

    pthread_mutex_t lock;
    pthread_cond_t wake;    /* for the thread: there is something in the inbox, or a lane comes or goes */
    pthread_cond_t changed; /* for callers of remove */
    /* Guarded by lock. */
    srn_request *inbox, **inbox_end;
    uint32_t n_waiting; /* of all lanes, inbox included */
    uint64_t n_submitted;
    bool stop;
    srn__lane *arriving;
    srn__lane *lanes; /* of these the thread alone changes the list, under lock */

    srn__judging judging;

    /* The thread's. */
    srn_request *touched;
    uint64_t idle_us;
    int64_t beside_us; /* time that work which nobody waits for has earned beside the other */
};

/* ---- queue.c: the thread's ---- */

void srn__queue_add(srn__lane *l, srn_request *r);
/* Lets in who may run. */
void srn__queue_admit(srn__lane *l);
/* Room for positions up to n of a running request: takes blocks from less deserving ones. False: r itself is
 * now waiting again, or has ended. */
bool srn__queue_make_room(srn__lane *l, srn_request *r, uint32_t n);
/* As srn_kv_seq_reserve of a running request's sequence; jobs that judge give their blocks back for it. */
bool srn__queue_reserve(srn__lane *l, srn_request *r, uint32_t n);
/* Whether all that run will find the blocks that they want at present. */
bool srn__queue_fits(const srn__lane *l);
/* Ends a request that waits or runs. code SRN_OK: with this finish. */
void srn__queue_end(srn__lane *l, srn_request *r, int code, srn_finish finish, const srn_err *err);
/* Ends those that were cancelled, are late, or belong to a lane whose grace is over. */
void srn__queue_sweep(srn__lane *l, uint64_t now, bool all);
void srn__queue_done(srn__lane *l);

/* Whether all but its last token is in the cache, and that is one of the answer. */
static inline bool srn__request_decodes(const srn_request *r) {
    return r->n_tokens > r->n_prompt && r->n_tokens - r->n_computed == 1;
}

/* Whether the next token that is computed is one of those whose logits are kept. */
static inline bool srn__request_keeps_rows(const srn_request *r) {
    return r->o.n_rows && r->n_computed < r->n_prompt && r->n_computed >= r->n_prompt - r->o.n_rows;
}

/* ---- step.c ---- */

/* One step; false when there was nothing to compute. others_us: as srn__policy_allowance. */
bool srn__lane_step(srn__lane *l, uint64_t (*now_us)(void), double others_us);
/* Microseconds that a step of its running answers takes; 0: it has none. */
double srn__lane_answers_us(const srn__lane *l);

/* ---- answer.c ---- */

/* Draws the tokens of the lane's parts, on the device's threads. */
void srn__answer_draw(srn__lane *l);
/* What the parts brought goes to their requests. */
void srn__answer_apply(srn__lane *l, uint64_t now);

/* ---- request.c ---- */

/* Notes that the request has news; the thread notifies when the step is over. */
void srn__request_touch(srn_request *r);
/* Notifies all of the touched ones. */
void srn__request_notify_all(srn_scheduler *s);
void srn__request_drop(srn_request *r); /* gives one reference back */
/* The engine's lane, if anything may be added to it. Under the scheduler's lock. */
int srn__lane_find(srn_scheduler *s, const srn_engine *e, srn__lane **ret, srn_err *err);
/* The salt of a tenant's cached blocks: nobody outside can choose texts for which two of them are equal. */
uint64_t srn__salt_of(const srn_scheduler *s, uint64_t tenant, uint64_t cache_salt);
/* Token ids that come from a caller; what names them in the error. */
int srn__check_ids(const int32_t *ids, uint32_t n, uint32_t n_vocab, const char *what, srn_err *err);

/* ---- judge.c ---- */

void srn__judge_drop(srn_judge *j); /* gives one reference back */

/* ---- judge_step.c: the thread's ---- */

/* Ends jobs that were cancelled, are late, or want a lane that leaves; `all`: every one. Returns whether
 * there are others. Takes the scheduler's lock. */
bool srn__judge_sweep(srn_scheduler *s, uint64_t now, bool all);
/* A step of the first job, if it is due. busy: requests have work, of whose last step produced tokens were
 * computed and whose answers need answers_us for a step. */
void srn__judge_turn(srn_scheduler *s, bool busy, uint32_t produced, double answers_us);
/* Jobs give back what they hold of a lane's blocks; false where they hold none. */
bool srn__judge_yield(srn__lane *l);
/* Rings the bells of those that ended. */
void srn__judge_notify(srn_scheduler *s);
void srn__judge_done(srn__judging *g);

/* ---- speculate.c ---- */

/* Tokens that may follow tokens[0..n): those after the latest earlier place where the longest run (of 2 to
 * SRN__DRAFT_GRAM) of the last tokens stands. Returns how many, at most `most`. */
uint32_t srn__draft(const int32_t *tokens, uint32_t n, uint32_t most, int32_t *ret);

#endif
