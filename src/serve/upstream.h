/* Upstreams: models that another server computes (docs/upstreams.md). srn__job_model, which every handler
 * asks for its model, answers such calls itself, so no handler knows of them: the request goes out, the
 * handler returns without a reply, and when the answer has begun, or could not be had, it runs again, this
 * time to reply, or to be answered by another model.
 */
#ifndef SRN_SERVE_UPSTREAM_H
#define SRN_SERVE_UPSTREAM_H

#include "client/client.h"
#include "serve/serve_internal.h"

/* ---- those of a server (upstreams.c) ---- */

typedef struct srn__upstreams srn__upstreams;
int srn__upstreams_new(void (*log)(void *ctx, const char *event, const char *detail), void *log_ctx,
                       srn__upstreams **ret, srn_err *err);
/* No exchange runs any more: what still runs ends, and tells its call of it, before this returns. NULL is
 * fine. */
void srn__upstreams_stop(srn__upstreams *u);
void srn__upstreams_free(srn__upstreams *u); /* no call is alive any more. NULL is fine */
srn__upstreams *srn__call_upstreams(const srn__call *c);

/* How an upstream was found to be by the calls made so far. */
typedef struct srn__upstream_state {
    bool known,
        reachable; /* known: it was asked; reachable: the newest call was answered, if only by a refusal */
    bool serin;    /* it is a Serin */
    uint64_t n_calls, n_failed;
    char why[300]; /* of the newest failure; "": none */
} srn__upstream_state;
srn__upstream_state srn__upstream_get(srn__upstreams *u, const srn_config_model *m);
/* What is known of it, for lists of models: {"address", "model", "reachable", "serin", "why"}; NULL: no
 * memory. */
json_t *srn__upstream_json(srn__upstreams *u, const srn_config_model *m);
/* For /metrics. */
void srn__metrics_upstreams(srn__upstreams *u, srn__models *m, srn_buf *out);
/* The model of the call's configuration that a name or alias (NULL or "": the default) stands for, where
 * another server computes it; NULL: it is computed here, or there is none. */
const srn_config_model *srn__upstream_of(srn__call *c, const char *name);
/* Whether a call of this route may be answered there: false where the route is local only, and it is not on
 * this machine. */
bool srn__upstream_may(const srn_config_route *route, const srn_config_model *m);
/* The same of a model by its name; what is computed here may be. */
bool srn__model_may(srn__call *c, const srn_config_route *route, const char *name);

/* ---- a call's answer (upstream.c) ---- */

/* Answers the call by `model` (as srn__answering_model chose it), if another server computes it; false: it is
 * computed here, and nothing was done. true: the handler returns; it was replied to, or the handler will run
 * again, also for another model where this one fails before anything was sent. Worker. */
bool srn__upstream_answers(srn__call *c, const srn_config_route *route, const char *endpoint,
                           const char *model);

/* What a call has of its upstreams: hangs on the call from its first request to one until it is freed. */
typedef struct srn__relay srn__relay;
void srn__relay_cancel(srn__relay *r); /* NULL is fine; any thread, under the call's lock */
/* The handler is about to run again, for whichever model: nothing of the request that was sent counts.
 * Worker. */
void srn__relay_give_up(srn__call *c);
void srn__relay_free(srn__relay *r); /* NULL is fine; nobody holds the call */
/* The record's `upstream`: an object, or null where the answer, if there is one, is not from any. */
void srn__relay_put(srn_buf *b, const srn__call *c);

#endif
