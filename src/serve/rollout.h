/* Roll-outs in the server (docs/canary.md): those that there are, what their events add up to, and which arm
 * a call gets. What an event says is in force once it is committed, here and on every server that shares the
 * ledger, for all of them fold the same events; only the end of a canary's share does not wait for the disk.
 */
#ifndef SRN_SERVE_ROLLOUT_H
#define SRN_SERVE_ROLLOUT_H

#include <pthread.h>

#include "canary/canary.h"
#include "serve/record.h"

typedef struct srn__rollouts srn__rollouts;
srn__rollouts *srn__call_rollouts(const srn__call *c); /* NULL: there is no ledger */

/* ---- the roll-outs that there are (rollouts.c); any thread ---- */

typedef struct srn__rollouts_opts {
    const srn_config *config;
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
 * name runs), SRN_EIO. */
int srn__rollouts_begin(srn__rollouts *x, const char *by, const json_t *declaration, srn_err *err);
/* What the configuration declares begins, unless it ran before. */
int srn__rollouts_begin_declared(srn__rollouts *x, srn_err *err);
/* "rollout_step", "rollout_paused", ...: an event with these fields beside name, hash and by; fields (NULL:
 * none) is taken. What takes the share away is in force even if it cannot be recorded. SRN_ENOENT, SRN_EINVAL
 * (it does not fit the state), SRN_EIO. */
int srn__rollouts_act(srn__rollouts *x, const char *by, const char *name, const char *event, json_t *fields,
                      srn_err *err);
/* No share grows and no label moves while it is on; who has an arm keeps it. */
int srn__rollouts_freeze(srn__rollouts *x, const char *by, bool on, const char *why, srn_err *err);
bool srn__rollouts_frozen(srn__rollouts *x);

/* One roll-out: what was declared, by whom it is held. */
typedef struct srn__rollout {
    atomic_uint refs;
    srn_rollout *declared;
    uint8_t key[32];      /* of places */
    pthread_mutex_t lock; /* guards what follows */
    srn_pins *pins;
    uint64_t window_us; /* calls since then, about: what the cap is a share of */
    double n_calls, n_canary;
    uint32_t n_open; /* calls of the canary that have not ended */
} srn__rollout;
void srn__rollout_put(srn__rollout *r); /* NULL is fine */
/* Calls fn for each one that ever was, oldest first, under the lock. */
void srn__rollouts_each(srn__rollouts *x, void (*fn)(void *ctx, srn__rollout *r, const srn_rollout_state *s),
                        void *ctx);
/* A hold on the oldest one that runs, or is paused, and fits; NULL: there is none. */
srn__rollout *srn__rollouts_pick(srn__rollouts *x, bool (*fits)(void *ctx, const srn_rollout *r), void *ctx,
                                 srn_rollout_state *ret_state);
/* A hold on the newest of that name. SRN_ENOENT names those that there are. */
int srn__rollouts_get(srn__rollouts *x, const char *name, srn__rollout **ret, srn_rollout_state *ret_state,
                      srn_err *err);

/* ---- assignment (assign.c) ---- */

/* What a call got: decided once, by its worker, then read only. */
typedef struct srn__assigned {
    srn__rollout *of; /* with a hold; NULL: no roll-out */
    srn_arm arm;
    srn_why why;
    uint32_t step;
    bool counted; /* it is evidence */
    bool fell_back;
    uint64_t subject, conversation; /* keyed */
    uint64_t salt;                  /* of the arm's cache namespace; 0: that of everybody */
} srn__assigned;

/* asked: the model as the client names it. For a call that cannot be part of any: of is NULL. */
const srn__assigned *srn__assign(srn__call *c, const char *asked);
/* What was decided, or NULL: nothing yet. */
const srn__assigned *srn__assigned_of(const srn__call *c);
/* The model that the call gets in place of this one, and the version of a registered prompt. */
const char *srn__assigned_model(const srn__assigned *a, const char *model);
uint32_t srn__assigned_version(const srn__assigned *a, const char *prompt, uint32_t version);
/* The canary cannot answer: the baseline does, and it counts as a failure of the canary. Before the work
 * begins. */
void srn__assign_fall_back(srn__call *c);
/* The call is over. */
void srn__assign_done(srn__call *c);

/* The route that the configuration has for the call, or NULL. */
const srn_config_route *srn__call_route(srn__call *c, const char *endpoint, const char *asked);

#endif
