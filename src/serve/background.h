/* Work of administrators that takes long, beside the calls of clients: replays, one after the other, and
 * regressions, one after the other, each kind on a thread of its own. What they compute goes through the
 * scheduler behind everything else. They are refused and cancelled while the server drains or stops.
 */
#ifndef SRN_SERVE_BACKGROUND_H
#define SRN_SERVE_BACKGROUND_H

#include "serve/record.h"
#include "serve/replay.h"

/* ---- one thread with a short queue (runner.c) ---- */

typedef struct srn__task srn__task;
struct srn__task {
    void (*run)(srn__task *t);    /* on the runner's thread, once for each task that was pushed */
    void (*cancel)(srn__task *t); /* run ends soon. Any thread, before or while it runs, more than once */
    void (*drop)(srn__task *t);   /* the runner's last use of it */
    srn__task *next;              /* the runner's */
};
typedef struct srn__runner srn__runner;
int srn__runner_new(const char *name, uint32_t queue, srn__runner **ret, srn_err *err);
/* SRN_EBUSY: the queue is full; SRN_ECANCELLED: it has ended. */
int srn__runner_push(srn__runner *r, srn__task *t, srn_err *err);
void srn__runner_cancel(srn__runner *r); /* what waits and what runs */
void srn__runner_end(srn__runner *r);    /* the same, and takes no more */
void srn__runner_free(srn__runner *r);   /* ends it, joins its thread */

/* ---- the server's (background.c) ---- */

typedef struct srn__background srn__background;
typedef struct srn__regressions srn__regressions; /* regress_api.c */
typedef struct srn__background_opts {
    srn__models *models;
    srn_scheduler *scheduler;
    srn_prompts *prompts; /* or NULL */
    srn__recorder *recorder;
} srn__background_opts;
int srn__background_new(const srn__background_opts *o, srn__background **ret, srn_err *err);
void srn__background_cancel(srn__background *b); /* the server drains: what runs ends */
void srn__background_end(srn__background *b);    /* it stops */
void srn__background_free(srn__background *b);   /* before models and scheduler; NULL is fine */
srn__background *srn__call_background(const srn__call *c);
/* Whether none is taken now, for the server drains; that was replied then. */
bool srn__background_refuses(srn__call *c);
srn__runner *srn__background_replays(srn__background *b);
srn__runner *srn__background_regressions(srn__background *b);
srn__regressions *srn__background_regressed(srn__background *b);
const srn__background_opts *srn__background_get(const srn__background *b);

/* Those who answer for one piece of such work: the models that it borrows, and whether it was cancelled. */
typedef struct srn__lent {
    pthread_mutex_t lock; /* guards all of it */
    bool cancelled;
    srn_replayer *replayers[2];
} srn__lent;
void srn__lent_init(srn__lent *l);
void srn__lent_done(srn__lent *l);
void srn__lent_cancel(srn__lent *l);
bool srn__lent_cancelled(srn__lent *l);
/* The model of that name or alias, loaded if it is a lazy one, into place k. SRN_ENOENT, SRN_EBUSY,
 * SRN_ECANCELLED. */
int srn__lend_named(srn__lent *l, int k, const srn__background *b, const char *name, srn_err *err);
/* A model that is loaded with this weights id and cache type. SRN_ENOENT: there is none. */
int srn__lend_weights(srn__lent *l, int k, const srn__background *b, const char *weights, const char *kv,
                      srn_err *err);
void srn__lent_return(srn__lent *l, int k);
/* Opens the server's own ledger. SRN_ENOENT: it keeps none. */
int srn__background_reader(const srn__background *b, srn_reader **ret, srn_err *err);

/* ---- regress_api.c ---- */
int srn__regressions_new(srn__regressions **ret, srn_err *err);
void srn__regressions_free(srn__regressions *r); /* nothing runs any more */

#endif
