/* When the model that was to answer a call cannot: the call's handler runs again from its start, for another
 * model. Of a roll-out's canary that is the baseline; else it is the fallback of the call's route, once. Only
 * for what is not the client's mistake, and only where nothing was sent yet.
 */
#ifndef SRN_SERVE_FALLBACK_H
#define SRN_SERVE_FALLBACK_H

#include "serve/serve_internal.h"

/* The model that answers this run of the handler: what was asked for, as the route, the roll-out's arm and
 * what failed before leave it. A name or alias, NULL: the default model. Worker. */
const char *srn__answering_model(srn__call *c, const srn_config_route *route, const char *asked);
/* It cannot. why: "not_loaded", "unloading", "queue_full", "queue_time", "failed", ..., static; err says
 * more. true: the handler runs again for another one, and whatever reply the caller makes goes nowhere; a
 * source ends its pull with 0. false: there is none, or it is too late: the caller says err to the client.
 * Worker in the handler, or the listener in a source's pull. */
bool srn__fall_back(srn__call *c, const char *why, const srn_err *err);
/* The work of the call may take so long in all, whatever model does it: srn_now_us() by which it ends; 0: no
 * limit. Worker. */
uint64_t srn__call_deadline(srn__call *c, uint32_t timeout_ms);
/* A request of the call waits or has waited in the scheduler's queue; whether one has. Worker. */
void srn__call_admitted(srn__call *c);
bool srn__call_was_admitted(const srn__call *c);
bool srn__call_fell_back(const srn__call *c); /* to its route's fallback */
/* Undoes what the run before has left in the call (srn__http_opts.on_rerun). */
void srn__fallback_renew(void *ctx, srn__call *c, const char *why);
/* "MODEL; why=WHY" of the one that another answers for; false: none does. */
bool srn__fallback_text(const srn__call *c, char *ret, size_t cap);

/* How often, by model, route and reason, for /metrics. Any thread. */
typedef struct srn__fallbacks srn__fallbacks;
int srn__fallbacks_new(srn__fallbacks **ret, srn_err *err);
void srn__fallbacks_free(srn__fallbacks *f);
srn__fallbacks *srn__call_fallbacks(const srn__call *c);
void srn__metrics_fallbacks(srn__fallbacks *f, srn_buf *out);

#endif
