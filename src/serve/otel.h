/* Telemetry: each call as a trace and in metrics, for a collector that takes OTLP as JSON over HTTP
 * (docs/telemetry.md). Off unless an endpoint is configured: then there is no object, no thread and no
 * socket, and every function here does nothing for NULL.
 *
 * What a call is told of is gathered by the hooks below, on the thread that has the call, and becomes the
 * sender's when the call is over. The sender is a thread of its own with a bounded queue: nothing waits for
 * it, and what finds no room is dropped and counted. Prompts and answers go only where srn__otel_may_say says
 * so; of calls of local-only routes nothing goes out but their share of the sums.
 */
#ifndef SRN_SERVE_OTEL_H
#define SRN_SERVE_OTEL_H

#include "serve/job.h"

typedef struct srn__otel srn__otel;
struct srn__recorder;

typedef struct srn__otel_opts {
    const srn_config *config; /* what is needed of it is copied */
    const char *address;      /* of the server, as clients reach it: "http://HOST:PORT", "unix:PATH" */
    const struct srn_ledger_keys *keys; /* for the hash of conversations; outlives it */
    void (*log)(void *ctx, const char *event, const char *detail); /* any thread */
    void *log_ctx;
} srn__otel_opts;
/* *ret is NULL where no endpoint is configured. */
int srn__otel_new(const srn__otel_opts *o, srn__otel **ret, srn_err *err);
/* From here on the engines' figures go out too, until they are NULL again, before either is freed. */
void srn__otel_engines(srn__otel *o, srn__models *models, srn_scheduler *s);
/* Sends what waits, for at most a few seconds; what is left then is dropped. No call is alive any more. */
void srn__otel_free(srn__otel *o);

typedef struct srn__otel_stats {
    uint64_t sent, dropped; /* spans: of one call there are up to four */
    uint64_t posts, failed; /* requests to the collector; those without success */
    uint64_t muted;         /* spans that a local-only route kept back */
    uint32_t queued;        /* calls whose spans wait */
} srn__otel_stats;
srn__otel_stats srn__otel_get_stats(srn__otel *o);
/* For /metrics; nothing where there is none. */
void srn__metrics_telemetry(srn__otel *o, srn_buf *out);

srn__otel *srn__call_otel(const srn__call *c); /* NULL: off */

/* ---- hooks, each on the thread that has the call ---- */

/* The route and the model's name as asked for are known. */
void srn__otel_route(srn__call *c, const srn_config_route *route, const char *asked);
/* The keyed hash of the prompt's fixed part. */
void srn__otel_prompt(srn__call *c, const char *hash);
/* Work was submitted; spec NULL: an embedding. */
void srn__otel_work(srn__call *c, const srn__served *model, const srn__job_spec *spec);
/* A choice has ended, or was given up; before its request is released. */
typedef struct srn__otel_choice {
    srn_request *request;
    const srn_request_status *status;
    const char *finish; /* NULL: an embedding */
    uint32_t n_reasoning;
} srn__otel_choice;
void srn__otel_choice_end(srn__call *c, const srn__otel_choice *choice);
/* The work was given up, and the handler runs again. */
void srn__otel_again(srn__call *c);
/* The call is over, and the caller holds it alone. Any thread. */
void srn__otel_last(srn__call *c);

#endif
