/* Roll-outs in the server (docs/canary.md): those that there are, what their events add up to, and which arm
 * a call gets. What an event says is in force once it is committed, here and on every server that shares the
 * ledger, for all of them fold the same events; only the end of a canary's share does not wait for the disk.
 */
#ifndef SRN_SERVE_ROLLOUT_H
#define SRN_SERVE_ROLLOUT_H

#include <pthread.h>

#include "canary/canary.h"
#include "prompts/checks.h"
#include "serve/record.h"

/* Of the keyed hash of who makes a call: what roll-outs assign by, and what records hold of it. */
enum { SRN__WHO_CHARS = 32 };

typedef struct srn__rollouts srn__rollouts;
typedef struct srn__copies srn__copies;
srn__rollouts *srn__call_rollouts(const srn__call *c); /* NULL: there is no ledger */

/* ---- the roll-outs that there are (rollouts.c); any thread ---- */

/* Who changes what the configuration declares. */
#define SRN__BY_FILE "serin.yaml"

typedef struct srn__rollouts_opts {
    srn_prompts *prompts;    /* whose labels a promotion moves */
    srn__recorder *recorder; /* with a ledger */
    void (*log)(void *ctx, const char *event, const char *detail);
    void *log_ctx;
} srn__rollouts_opts;
/* Folds what the ledger knows. */
int srn__rollouts_new(const srn__rollouts_opts *o, srn__rollouts **ret, srn_err *err);
void srn__rollouts_free(srn__rollouts *x); /* NULL is fine; no call is alive any more */
/* Folds the events that came since, also those of other servers. */
int srn__rollouts_catch_up(srn__rollouts *x, srn_err *err);

/* Begins one: an event, after it was checked against the configuration. SRN_EINVAL, SRN_EEXIST (one of the
 * name runs; or one has the calls, and the file does not begin it), SRN_EIO. */
int srn__rollouts_begin(srn__rollouts *x, const srn_config *c, const char *by, const json_t *declaration,
                        srn_err *err);
/* Whether one that is declared so could begin with that configuration. SRN_EINVAL, SRN_EUNSUP. */
int srn__rollouts_check(const srn__rollouts *x, const srn_config *c, const srn_rollout *d, srn_err *err);
/* "rollout_step", "rollout_paused", ...: an event with these fields beside name, hash and by; fields (NULL:
 * none) is taken. What takes the share away is in force even if it cannot be recorded. SRN_ENOENT, SRN_EINVAL
 * (it does not fit the state), SRN_EEXIST (another server's event came first, and it changed nothing),
 * SRN_EIO. */
int srn__rollouts_act(srn__rollouts *x, const char *by, const char *name, const char *event, json_t *fields,
                      srn_err *err);
/* Records what is in force and could not be recorded so far, and moves the labels that a promotion has left
 * behind. */
int srn__rollouts_settle(srn__rollouts *x, srn_err *err);
/* No share grows and no label moves while it is on; who has an arm keeps it. */
int srn__rollouts_freeze(srn__rollouts *x, const char *by, bool on, const char *why, srn_err *err);
bool srn__rollouts_frozen(srn__rollouts *x);

/* One roll-out: what was declared, by whom it is held. */
typedef struct srn__rollout {
    atomic_uint refs;
    srn_rollout *declared;
    char own[65];         /* the declaration's hash as it is read today; events bear the one of their day */
    uint8_t key[32];      /* of places */
    pthread_mutex_t lock; /* guards what follows */
    srn_pins *pins;
    uint64_t window_us; /* calls since then, about: what the cap is a share of */
    double n_calls, n_canary;
    struct srn__assigned *first, *last; /* calls of the canary that have not ended, oldest first */
    bool closed;                        /* there are no more of them, whatever state a call has seen */
    uint32_t n_open;
    struct srn__inflight *inflight; /* the same number where a crash leaves it; NULL: not kept */
    /* Of the event that began it, and of that which promoted it; the list's lock guards them. */
    uint64_t began_seq, promoted_seq;
    bool of_file; /* the event that began it is the configuration's; likewise */
} srn__rollout;
void srn__rollout_put(srn__rollout *r); /* NULL is fine */
/* Calls fn for each one that ever was, oldest first, under the lock. */
void srn__rollouts_each(srn__rollouts *x, void (*fn)(void *ctx, srn__rollout *r, const srn_rollout_state *s),
                        void *ctx);
/* A hold on the oldest one that runs, or is paused, and fits; NULL: there is none. */
srn__rollout *srn__rollouts_pick(srn__rollouts *x, bool (*fits)(void *ctx, const srn_rollout *r), void *ctx,
                                 srn_rollout_state *ret_state);
/* The oldest one that runs, or is paused, and has calls of this one, which runs too; false: none has. */
bool srn__rollouts_waits_for(srn__rollouts *x, const srn_config *c, const char *hash,
                             char ret[SRN_ROLLOUT_NAME_MAX + 1]);
/* A hold on the one that fits and was promoted first after *seq, which becomes the seq of that; NULL: there
 * is none. */
srn__rollout *srn__rollouts_promoted(srn__rollouts *x, bool (*fits)(void *ctx, const srn_rollout *r),
                                     void *ctx, uint64_t *seq);
/* A hold on the newest of that name. SRN_ENOENT names those that there are. */
int srn__rollouts_get(srn__rollouts *x, const char *name, srn__rollout **ret, srn_rollout_state *ret_state,
                      srn_err *err);

/* ---- what a configuration has of it (rollout_fit.c); pure ---- */

/* The model of it that the configuration does not have, or NULL. */
const char *srn__rollout_missing(const srn_rollout *d, const srn_config *c);
/* Whether the configuration has its models and the routes that it names. SRN_EINVAL lists those there are. */
int srn__rollout_fits(const srn_rollout *d, const srn_config *c, srn_err *err);
/* Whether calls can come to it by that configuration's routes. SRN_EINVAL says what is missing. */
int srn__rollout_routes(const srn_rollout *d, const srn_config *c, srn_err *err);
/* Whether calls of the route (NULL: of none) come to it. */
bool srn__rollout_takes(const srn_rollout *d, const srn_config_route *route);
/* Whether `before`, which began earlier, has calls that would come to d. One of a prompt leaves those of
 * other prompts, and of none. */
bool srn__rollout_waits(const srn_rollout *d, const srn_rollout *before, const srn_config *c);

/* ---- those that ended long ago (rollouts_past.c); whoever holds it locks ---- */

typedef struct srn__past srn__past;
/* Remembers a declaration by its two hashes; latched: it never runs again. *past NULL: there was none yet.
 * false: no memory, or too many. */
bool srn__past_add(srn__past **past, const char *hash, const char *own, bool latched);
bool srn__past_knows(const srn__past *p, const char *hash, bool *ret_latched); /* ret_latched may be NULL */
void srn__past_free(srn__past *p);                                             /* NULL is fine */

/* ---- what the configuration declares (rollouts_file.c) ---- */

/* Whether next can follow now: what would begin can, and what goes on running keeps its models. x NULL: there
 * is no ledger. SRN_EINVAL names the line, or the roll-out. */
int srn__rollouts_may(srn__rollouts *x, const srn_config *now, const srn_config *next, srn_err *err);
/* c is in force after `before` (NULL: the server starts): what it declares begins, unless it ran before; what
 * the file began, and declares no more, is aborted. A freeze keeps a roll-out from beginning, and nothing
 * else. m: whose models they are. waits (may be NULL) gets a sentence for each that is declared and gets no
 * calls yet. One thread at a time. */
int srn__rollouts_declared(srn__rollouts *x, srn__models *m, const srn_config *before, const srn_config *c,
                           json_t *waits, srn_err *err);
/* Whether a declaration of that hash ended so long ago that it is in no list. */
bool srn__rollouts_ended(srn__rollouts *x, const char *hash);
/* The log that was given at the start. */
void srn__rollouts_log(const srn__rollouts *x, const char *event, const char *detail);

/* ---- labels of what was promoted (rollout_labels.c) ---- */

/* Labels that point at the baseline's version of the prompt, and were moved by nobody since, point at the
 * canary's from now on. */
int srn__rollout_labels(srn_prompts *p, const srn_rollout *d, uint64_t promoted_us, srn_err *err);

/* ---- calls of the canary in flight (inflight.c) ---- */

/* A number in a file of the folder that a killed process leaves as it was. *ret_left: what the process before
 * left; 0: it ended cleanly, or never was. */
int srn__inflight_open(const char *dir, const char *hash, struct srn__inflight **ret, uint32_t *ret_left,
                       srn_err *err);
void srn__inflight_close(struct srn__inflight *f); /* NULL is fine */
void srn__inflight_forget(const char *dir, const char *hash);
void srn__inflight_add(srn__rollout *r, int32_t by); /* the roll-out's lock is held */

/* ---- what records say (rollout_observe.c; pure) ---- */

typedef enum srn__seen { SRN__SEEN_NOTHING, SRN__SEEN_CALL, SRN__SEEN_EXPOSED } srn__seen;
/* A call's record. EXPOSED: it is no evidence, but its subject saw the arm. */
srn__seen srn__rollout_observe(const json_t *body, srn_observation *ret);
/* A call's record as history: who made it, as place and subject of a roll-out are derived of, and what it
 * was like; times by the engine's clock only, for those of the wall are another thing. false: it tells
 * nothing of a subject, or was not the model's doing. */
bool srn__rollout_observe_past(const json_t *body, char who[SRN__WHO_CHARS + 1],
                               double values[SRN_METRIC_END]);
/* What of a step was known at a look besides the events: part of the event of a decision. */
json_t *srn__step_is_json(const srn_step_is *is);
void srn__step_is_read(const json_t *o, srn_step_is *add);
/* An event rollout_judged: subject, step and divergence. */
bool srn__rollout_observe_judged(const json_t *event, srn_observation *ret);
/* What feedback on a call says beside its mark, so that it is evidence by itself: of whom, which arm and
 * step. A new object, or NULL: its call is no evidence of how an arm answers. */
json_t *srn__rollout_of_marked(const json_t *call);
/* A record of feedback: how bad it is. Without a mark, or of such a call: false. */
bool srn__rollout_observe_feedback(const json_t *body, srn_observation *ret);

/* ---- subjects before the roll-out (rollout_history.c) ---- */

typedef struct srn__history srn__history;
typedef struct srn__history_size {
    uint32_t n_calls, n_subjects;
} srn__history_size;
/* r->began_seq is where it ends; r outlives it. */
int srn__history_new(const srn__rollout *r, srn__history **ret, srn_err *err);
void srn__history_free(srn__history *h); /* NULL is fine */
/* Reads some more; *ret_done: there is no more, and the evidence, which has seen nothing yet, has got it. */
int srn__history_turn(srn__history *h, srn_reader *reader, srn_evidence *e, srn__history_size *ret,
                      bool *ret_done, srn_err *err);

/* ---- the watcher (rollout_watch.c) ---- */

typedef struct srn__watcher srn__watcher;
srn__watcher *srn__call_watcher(const srn__call *c); /* NULL: there is no ledger */
typedef struct srn__watcher_opts {
    srn__rollouts *rollouts;
    srn__recorder *recorder;
    srn__models *models;
    srn_scheduler *scheduler;
    srn__copies *copies;
    void (*log)(void *ctx, const char *event, const char *detail);
    void *log_ctx;
} srn__watcher_opts;
/* Starts the thread that reads what is new, looks, and acts. What a crash left behind is told of first. */
int srn__watcher_new(const srn__watcher_opts *o, srn__watcher **ret, srn_err *err);
void srn__watcher_free(srn__watcher *w); /* NULL is fine; joins the thread */
void srn__watcher_poke(srn__watcher *w); /* there is news; any thread */
/* The newest look at a roll-out that runs. SRN_ENOENT: there was none yet. */
int srn__watcher_look(srn__watcher *w, const char *hash, srn_look *ret, srn_err *err);
/* How much is known of the subjects from before; false: it is being read, or not watched. */
bool srn__watcher_history(srn__watcher *w, const char *hash, srn__history_size *ret);

/* ---- divergence (rollout_judge.c) ---- */

/* Answers of the canary that both arms are to be asked about, and what came of it: jobs of the scheduler
 * beside production, whose results are events rollout_judged. */
typedef struct srn__judges srn__judges;
int srn__judges_new(const srn__watcher_opts *o, void (*news)(void *ctx), void *ctx, srn__judges **ret,
                    srn_err *err);
void srn__judges_free(srn__judges *j); /* NULL is fine; ends what runs. Before the scheduler is freed */
/* An answer has ended: looked at where its call is evidence and the arms are two models. Copies; any thread,
 * quick. Where too many wait it is left out. */
void srn__judges_add(srn__judges *j, const srn__call *c, const int32_t *prompt, uint32_t n_prompt,
                     const srn_out_token *answer, uint32_t n_answer);
/* Submits what waits and tells of what is done. The watcher's thread. */
void srn__judges_turn(srn__judges *j);
/* Why the arms of that roll-out cannot be compared; false: they can, or nobody asked yet. Any thread. */
bool srn__judges_why_not(srn__judges *j, const char *hash, char ret[256]);
srn__judges *srn__watcher_judges(srn__watcher *w);
/* Whether divergence, where it is a guardrail, can be had of two models that are in memory; one that is not
 * is not asked about. SRN_EUNSUP. Reads the models' files. */
int srn__rollout_comparable(srn__models *m, const srn_rollout *d, srn_err *err);

/* ---- copies of calls (shadow.c) ---- */

/* What the baseline answers, answered by the canary as well: calls without clients, behind everything else.
 * Those that are kept wait or run; there is room for few. */
typedef struct srn__copy srn__copy;
srn__copies *srn__call_copies(const srn__call *c); /* NULL: there is no ledger */
int srn__copies_new(srn__copies **ret, srn_err *err);
void srn__copies_cancel(srn__copies *x, const char *hash); /* those of a declaration; NULL: all */
void srn__copies_end(srn__copies *x);                      /* takes no more, and cancels; NULL is fine */
void srn__copies_finish(srn__copies *x); /* those that are left; the HTTP core has stopped; NULL is fine */
void srn__copies_free(srn__copies *x);   /* NULL is fine */
typedef struct srn__copies_stats {
    uint64_t n_made, n_skipped, n_cancelled;
    uint32_t n_open;
} srn__copies_stats;
srn__copies_stats srn__copies_get_stats(srn__copies *x);
/* Room for a copy of the call; false: there is none, and that is counted. */
bool srn__copies_reserve(srn__copies *x, const srn__call *c);
void srn__copies_release(srn__copies *x, const srn__call *c); /* it is not needed */
/* The call's work has begun, with that seed: where there is room for its copy, it is made. Worker. */
void srn__copies_begin(srn__call *c, uint64_t seed);
/* Id of the call that this one is a copy of, or NULL. */
const char *srn__copy_of(const srn__call *c);
/* Of a copy: that of the call. */
void srn__copy_seed(const srn__call *c, uint64_t *seed);

/* ---- assignment (assign.c) ---- */

/* What a call got: decided once, by its worker, then read only. */
typedef struct srn__assigned {
    srn__rollout *of; /* with a hold; NULL: no roll-out */
    srn_arm arm;
    srn_why why;
    uint32_t step;
    bool counted; /* it is evidence */
    bool copied;  /* room for a copy is taken, which is not made yet */
    bool fell_back;
    bool wall;                      /* an arm is another server: both are measured from outside */
    char shown[128];                /* the model asked for, as configured; "": nobody asked */
    char model[128];                /* what was promoted in place of the model asked for; "": nothing was */
    char who[SRN__WHO_CHARS + 1];   /* keyed, the same for every roll-out, and for a call of none */
    uint64_t subject, conversation; /* keyed */
    uint64_t salt;                  /* of the arm's cache namespace; 0: that of everybody */
    srn_checks *checks;             /* of the version of the prompt; NULL: none */
    uint64_t begun_us;              /* of a call of the canary */
    srn__call *call;
    struct srn__assigned *next, *prev;
} srn__assigned;

/* asked: the model as the client names it. For a call that cannot be part of any: of is NULL. */
const srn__assigned *srn__assign(srn__call *c, const char *asked);
/* What was decided, or NULL: nothing yet. */
const srn__assigned *srn__assigned_of(const srn__call *c);
/* The model that the call gets in place of this one, and the version of a registered prompt. */
const char *srn__assigned_model(const srn__assigned *a, const char *model);
/* The name that an answer of `model` gives to the client: where a canary, or what was promoted, answers, that
 * of the model in whose place it does. What a route falls back to has its own. Lives as long as the call. */
const char *srn__assigned_shown(const srn__call *c, const char *model);
uint32_t srn__assigned_version(const srn__assigned *a, const char *prompt, uint32_t version);
/* The salt of the arm's cache namespace with a request's own in it; without an arm that alone. */
uint64_t srn__assigned_salt(const srn__assigned *a, uint64_t own);
/* The checks that the answer will be put to, where the call is compared and its prompt has some. */
void srn__assign_checks(srn__call *c, const srn_prompt *p);
/* Whether it is measured what the answer was like: it is evidence, of whichever arm. */
bool srn__assigned_measured(const srn__assigned *a);
/* The slice whose engine time is measured; 0: none, as for the baseline outside of its control. */
uint32_t srn__assigned_slice(const srn__assigned *a);
/* The model of the call's arm cannot answer: another one does, and it counts as a failure of the arm. The
 * thread that has the call. */
void srn__assign_fall_back(srn__call *c);
/* Whether the canary is to answer. */
bool srn__assigned_canary(const srn__call *c);
/* The share is gone: no call gets the canary any more, and those that it has sent nothing of yet run again.
 * Any thread. *ret_running (may be NULL): of so many others something was sent. */
uint32_t srn__assign_recall(srn__rollout *r, uint32_t *ret_running);
/* It is given out again. */
void srn__assign_reopen(srn__rollout *r);
/* A call that runs again for that: the baseline answers, outside the evidence. Worker. */
void srn__assign_rolled_back(srn__call *c);
/* What a copy of a call with that assignment gets. false: no memory. */
bool srn__assign_copy(srn__call *copy, const srn__assigned *a);
bool srn__assigned_is_copy(const srn__assigned *a);
/* Whose turn it is in the scheduler, and the salt of its cache: a tenant's copies are no work of the tenant.
 */
uint64_t srn__assigned_tenant(const srn__assigned *a, const srn_key *key);
/* The call is over. */
void srn__assign_done(srn__call *c);

/* The route that the configuration has for the call, or NULL. */
const srn_config_route *srn__call_route(srn__call *c, const char *endpoint, const char *asked);

#endif
