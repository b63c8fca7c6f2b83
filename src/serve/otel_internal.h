/* Telemetry, inside: what is known of one call (otel_call.c), the context that its caller sent
 * (otel_context.c), what goes out as JSON (otel_json.c, otel_content.c), the histograms (otel_metrics.c), and
 * the sender (otel.c).
 */
#ifndef SRN_SERVE_OTEL_INTERNAL_H
#define SRN_SERVE_OTEL_INTERNAL_H

#include <pthread.h>

#include "serve/http_internal.h"
#include "serve/otel.h"

/* ---- the caller's context (otel_context.c; pure) ---- */

enum { SRN__TRACE_ID = 16, SRN__SPAN_ID = 8, SRN__TRACESTATE_MAX = 512 };
typedef struct srn__parent {
    uint8_t trace_id[SRN__TRACE_ID], span_id[SRN__SPAN_ID];
    uint8_t flags; /* bit 0: sampled; bit 1: the trace id is random */
} srn__parent;
/* A traceparent header of W3C's Trace Context; false: it is none, and is to be ignored. */
bool srn__traceparent_parse(srn_str text, srn__parent *ret);
/* Whether a tracestate (its headers joined by commas) may be passed on: at most 32 members, 512 bytes. */
bool srn__tracestate_good(srn_str text);
/* Whether a trace of this id is among the share of those that are kept: the same for every service. */
bool srn__trace_in_share(const uint8_t trace_id[SRN__TRACE_ID], double share);

/* ---- one call ---- */

enum { SRN__TRACE_FINISHES = 16, SRN__TRACE_CONTENT = 64 << 10 };
typedef struct srn__trace {
    struct srn__trace *next; /* of the sender's queue; its lock guards it */
    srn__parent parent;
    bool has_parent, sampled;
    bool muted;    /* its route keeps it on this machine */
    bool may_say;  /* prompts and answers may go out */
    bool left_out; /* and were too long */
    bool may_hash; /* keyed hashes of what the client named */
    uint8_t trace_id[SRN__TRACE_ID], span_id[SRN__SPAN_ID];
    char *state; /* tracestate, or NULL */
    char call[40];
    const srn__route *route;
    char asked[128], route_name[64];
    bool known; /* asked is a configured name */
    char conversation[SRN_KEYED_HASH_CHARS + 1], prompt_hash[SRN_KEYED_HASH_CHARS + 1];
    /* once there was work */
    bool worked, generates, streamed, json;
    char config[65], experiment[72], arm[16];
    char weights[65], engine[128], quantisation[SRN_QUANTISATION_CHARS];
    srn_sampling sampling; /* its pointers are not valid */
    uint32_t max_tokens, n_choices, n_stops;
    char finishes[SRN__TRACE_FINISHES][16];
    uint32_t n_finishes, n_reasoning;
    srn_buf input, output; /* content: messages as JSON text; output without its brackets */
    /* once it is over */
    srn__call_facts facts;
    int status;
    bool complete;
    uint64_t begun_us, submitted_us, started_us, first_us, done_us, ended_us; /* srn_now_us(); 0: never */
    uint64_t unix_us;                                                         /* of begun_us */
} srn__trace;
void srn__trace_free(srn__trace *t);
/* How many spans are sent of it. */
uint32_t srn__trace_spans(const srn__trace *t);
/* "chat", "text_completion", "embeddings". */
const char *srn__trace_operation(const srn__trace *t);
/* Name of the error that it ended with, of few values; NULL: none. number: room for a status. */
const char *srn__trace_error(const srn__trace *t, char number[16]);
/* "NAME@VERSION" or "unregistered". */
void srn__trace_prompt(const srn__trace *t, char *ret, size_t cap);

/* Whether what was said in a call of this route may go out: only if the configuration says so, the whole
 * content is kept, and the route is not local-only. */
bool srn__otel_may_say(const srn_config *c, const srn_config_route *route);
/* Whether a call's spans stay here. routed: it is known which route it took; else any local-only one counts.
 */
bool srn__otel_mutes(const srn_config *c, bool routed, const srn_config_route *route);

/* ---- content (otel_content.c; pure) ---- */

/* Messages of chat completions, or the text of a completion, as OpenTelemetry's input messages. */
void srn__otel_put_input(srn_buf *b, const srn__job_spec *spec);
void srn__otel_put_output(srn_buf *b, srn_str text, const char *finish); /* one message */

/* ---- JSON (otel_json.c; pure) ---- */

/* What all that is sent has in common. */
typedef struct srn__otel_self {
    const srn_config_telemetry *config;
    char instance[SRN_ULID_CHARS + 1], host[128];
    uint32_t port; /* 0: a socket */
    uint64_t started_unix_us;
} srn__otel_self;

/* A list of attributes: begun with "[", members put by the functions below, ended with "]". */
typedef struct srn__attributes {
    srn_buf *b;
    bool any;
} srn__attributes;
void srn__put_attribute(srn__attributes *a, const char *name, const char *value); /* none for NULL and "" */
void srn__put_attribute_int(srn__attributes *a, const char *name, uint64_t value);
void srn__put_attribute_real(srn__attributes *a, const char *name, double value);
void srn__put_attribute_bool(srn__attributes *a, const char *name, bool value);
void srn__put_server(srn__attributes *a, const srn__otel_self *s); /* its address and port */
/* ,"NAME":"UNIX TIME IN NANOSECONDS" without the comma. */
void srn__put_time(srn_buf *b, const char *name, uint64_t unix_us);

/* {"resource":...,"NAME":[{"scope":...,"INNER":[ and the end of that. */
void srn__otel_put_head(srn_buf *b, const srn__otel_self *s, const char *outer, const char *scopes,
                        const char *inner);
void srn__otel_put_tail(srn_buf *b);
/* The spans of one call, with commas between them. */
void srn__otel_put_spans(srn_buf *b, const srn__otel_self *s, const srn__trace *t);

/* ---- metrics (otel_metrics.c) ---- */

typedef struct srn__otel_sums srn__otel_sums;
srn__otel_sums *srn__otel_sums_new(void); /* NULL: no memory */
void srn__otel_sums_free(srn__otel_sums *m);
void srn__otel_sums_add(srn__otel_sums *m, const srn__trace *t); /* any thread */
/* A whole request for /v1/metrics. models and scheduler may be NULL. */
void srn__otel_put_metrics(srn_buf *b, const srn__otel_self *s, srn__otel_sums *m, srn__models *models,
                           srn_scheduler *scheduler, const srn__otel_stats *stats);

/* ---- the sender (otel.c) ---- */

struct srn__otel {
    srn_arena arena;
    srn_config_telemetry config; /* copied into the arena, without headers */
    const char **headers;        /* "Name: value" [config.n_headers] */
    srn__otel_self self;
    const struct srn_ledger_keys *keys;
    void (*log)(void *ctx, const char *event, const char *detail);
    void *log_ctx;
    srn__otel_sums *sums;
    pthread_t thread;
    pthread_mutex_t engines; /* guards the two below */
    srn__models *models;
    srn_scheduler *scheduler;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t wake;
    srn__trace *first, *last;
    size_t content_bytes; /* of what is queued */
    uint64_t first_us;    /* when the oldest came */
    bool stopping;
    uint64_t stop_us; /* nothing is sent any more then */
    srn__otel_stats stats;
};
/* Takes a call that is over. Any thread; never waits. */
void srn__otel_push(srn__otel *o, srn__trace *t);

#endif
