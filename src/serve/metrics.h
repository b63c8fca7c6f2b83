/* Metrics: what an operator watches, as Prometheus text. Where the meaning is equal the names are those that
 * dashboards know from vLLM; the others begin with serin_. Labels have few values: configured models, the
 * routing table's paths, HTTP statuses, finish reasons. One lock guards all counters; any thread.
 */
#ifndef SRN_SERVE_METRICS_H
#define SRN_SERVE_METRICS_H

#include "serve/serve_internal.h"

typedef struct srn__metrics srn__metrics;

int srn__metrics_new(srn__metrics **ret, srn_err *err);
void srn__metrics_free(srn__metrics *m);

/* One request has ended. route NULL: none matched. */
void srn__metrics_call(srn__metrics *m, const srn__route *route, int status, const srn__call_facts *f,
                       uint64_t total_us);
/* The times between n tokens of an answer that follow each other. m may be NULL: nothing is counted. */
void srn__metrics_gaps(srn__metrics *m, const char *model, const srn_out_token *tokens, uint32_t n);
/* A client left before its answer was complete. */
void srn__metrics_gone(srn__metrics *m);

/* A reload of the configuration has ended. */
void srn__metrics_reload(srn__metrics *m, bool done);

/* Everything, as the text format 0.0.4. models and scheduler give the gauges; open_connections is the
 * listener's. */
void srn__metrics_text(srn__metrics *m, srn__models *models, srn_scheduler *s, uint32_t open_connections,
                       srn_buf *out);

/* What the scheduler counts for each engine, for those who write it in another form: all models of a metric
 * follow each other. */
typedef struct srn__engine_metric {
    const char *name, *help, *model;
    bool counts; /* up only */
    double value;
} srn__engine_metric;
void srn__metrics_engines(srn__models *models, srn_scheduler *s,
                          void (*fn)(void *ctx, const srn__engine_metric *m), void *ctx);

/* And what the ledger counts; nothing where there is none. */
struct srn__recorder;
void srn__metrics_ledger(struct srn__recorder *r, srn_buf *out);
/* And the scheduler, of judging. */
void srn__metrics_judge(srn_scheduler *s, srn_buf *out);
/* And of roll-outs; nothing where x is NULL. */
struct srn__rollouts;
struct srn__copies;
void srn__metrics_rollouts(struct srn__rollouts *x, struct srn__copies *copies, srn_buf *out);

#endif
