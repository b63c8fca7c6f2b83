/* serve, inside: one HTTP exchange (srn_call), the table of routes, the models in memory. */
#ifndef SRN_SERVE_SERVE_INTERNAL_H
#define SRN_SERVE_SERVE_INTERNAL_H

#include <stdatomic.h>

#include "chat/chat.h"
#include "chat/reply.h"
#include "prompts/prompts.h"
#include "serve/serve.h"

/* ---- models in memory (models.c) ---- */

/* Requests of one model that run at once, where nothing else is said. */
#define SRN__PARALLEL 16

/* Whether a model's bytes are known to be those of its weights id. */
typedef enum srn__verified {
    SRN__UNVERIFIED, /* the id came from the cache of digests; the bytes are being hashed */
    SRN__VERIFIED,
    SRN__MISMATCH /* they are not, or can no longer be shown to be */
} srn__verified;

/* One loaded model with all that its requests need. Immutable but for its atomics. */
typedef struct srn__served {
    const char *name; /* as configured */
    srn_engine *engine;
    const srn_vocab *vocab;
    srn_token_trie *trie;
    srn_template *chat, *chat_tools; /* NULL: the file has none */
    srn_str bos, eos;
    const srn_reply_format *format;
    srn_pooling pooling;
    srn_ids ids;
    int64_t loaded_unix;
    const srn_config_model *config; /* as it was loaded, without aliases; srn__served_config has them */
    atomic_uint refs;
    atomic_bool leaving; /* being unloaded */
    atomic_int verified; /* srn__verified */
    struct srn__models *models;
    struct srn__slot *slot;
    bool removed; /* from the scheduler */
} srn__served;

typedef struct srn__models srn__models;
/* A model is there (v), could not be loaded (why), its memory was given back (both NULL), or the bytes of one
 * that is there are not those of its weights id (both). Any thread. */
typedef void srn__models_tell(void *ctx, const char *name, const srn__served *v, const srn_err *why);
int srn__models_new(const srn_config *c, srn_scheduler *s, srn__models_tell *tell, void *tell_ctx,
                    srn__models **ret, srn_err *err);
void srn__models_free(srn__models *m);
/* Loads every model of the config that is not lazy. */
int srn__models_load_all(srn__models *m, srn_progress_fn *progress, void *progress_ctx, srn_err *err);
/* A hold on a model by name or alias as a configuration that is in use knows them (NULL: the newest one);
 * name NULL or "" is the default one. A lazy one is loaded on the caller's thread where it is not there.
 * While another load is under way nothing comes of it: *ret_later is true with SRN_OK, and again(ctx) is
 * called on another thread, perhaps before this returns, when it is time to ask again. SRN_ENOENT lists what
 * there is; SRN_EBUSY: known, but not loaded now or not to be loaded. */
int srn__models_get(srn__models *m, const srn_config *c, const char *name, void (*again)(void *ctx),
                    void *ctx, srn__served **ret, bool *ret_later, srn_err *err);
/* What that configuration calls the model that a name or alias (NULL or "": the default) stands for; false:
 * none. */
bool srn__models_name(srn__models *m, const srn_config *c, const char *name, char ret[128]);
/* A hold on a model by its own name, if it is loaded now, or NULL. */
srn__served *srn__models_peek(srn__models *m, const char *name);
void srn__served_put(srn__served *v); /* any thread; the last one closes the engine on a thread of its own */
/* What a configuration says of a loaded model, or, where it does not know it, as what it was loaded. */
const srn_config_model *srn__served_config(const srn__served *v, const srn_config *c);
/* Loads and unloads at run time; a failed load leaves everything as it was. Blocks; worker threads call it.
 * SRN_EBUSY: another one is under way. */
int srn__models_load(srn__models *m, const char *name, const char *path, srn_err *err);
int srn__models_unload(srn__models *m, const char *name, uint64_t grace_us, srn_err *err);
/* From one configuration to the next, while requests go on. Prepare loads what the next one has new, or
 * describes otherwise, beside what runs; nothing changes until the commit, and abort takes it back. No other
 * load or unload runs meanwhile: prepare waits for one that does, and SRN_EBUSY says that a model is being
 * unloaded. What is not named any more stays for calls of configurations that name it: srn__models_let_go
 * says that nobody uses one any more. */
typedef struct srn__view srn__view;
int srn__models_prepare(srn__models *m, const srn_config *next, srn__view **ret, srn_err *err);
void srn__models_commit(srn__models *m, srn__view *v);
void srn__models_abort(srn__models *m, srn__view *v);
void srn__models_let_go(srn__models *m, const srn_config *c);
/* For /v1/models and metrics: calls fn for each known model; v is NULL where it is not loaded. */
void srn__models_each(srn__models *m, void (*fn)(void *ctx, const srn_config_model *c, srn__served *v),
                      void *ctx);

/* ---- that models are what their ids say (verify.c) ---- */

typedef struct srn__verifier srn__verifier;
int srn__verifier_new(srn__models *m, srn__models_tell *tell, void *tell_ctx, srn__verifier **ret,
                      srn_err *err);
/* A model was loaded. Any thread. */
void srn__verifier_wake(srn__verifier *x);
/* Ends what it is at; before the models are freed. */
void srn__verifier_free(srn__verifier *x);

/* ---- one exchange (call.c) ---- */

typedef struct srn__call srn__call;

/* The form of error objects. */
typedef enum srn__dialect { SRN__OPENAI, SRN__ANTHROPIC } srn__dialect;

enum {
    SRN__ROUTE_OPEN = 1,     /* no key needed, and answered while loading and draining: health */
    SRN__ROUTE_ADMIN = 2,    /* an admin key; refused where there are no keys */
    SRN__ROUTE_METRICS = 4,  /* open when the config says so */
    SRN__ROUTE_MODEL = 16,   /* it names a model, which the config's routes may choose */
    SRN__ROUTE_RECORD = 32,  /* its calls leave records */
    SRN__ROUTE_ANSWERS = 64, /* it computes an answer: a roll-out may come to it */
    SRN__ROUTE_INLINE = 8    /* the handler is quick and never waits: it runs on the listener's thread */
};
/* A row of the routing table (routes.c); the handler runs on a worker and replies exactly once. A path may
 * end in "/{id}": the rest of the path is the id. */
typedef struct srn__route {
    const char *method, *path;
    void (*handle)(srn__call *c);
    unsigned flags;
    srn__dialect dialect;
} srn__route;
extern const srn__route srn__routes[];
extern const size_t srn__n_routes;

srn_server *srn__call_server(const srn__call *c);
srn__models *srn__call_models(const srn__call *c);
srn_scheduler *srn__call_scheduler(const srn__call *c);
struct srn__metrics *srn__call_metrics(const srn__call *c);
srn_prompts *srn__call_prompts(const srn__call *c); /* NULL: there is no ledger that keeps them */
const srn_config *srn__call_config(const srn__call *c);
const char *srn__call_id(const srn__call *c);      /* the x-serin-call header */
const char *srn__call_path_id(const srn__call *c); /* what stood for {id}, or NULL */
const char *srn__call_header(const srn__call *c, const char *name);
const char *srn__call_query(const srn__call *c, const char *name); /* ?name=value */
const srn_key *srn__call_key(const srn__call *c);                  /* NULL where none is needed */
srn_str srn__call_body(const srn__call *c);
/* The body as JSON object under the caps of size, depth and valid UTF-8; NULL: an error was replied. Owned by
 * the call. */
json_t *srn__call_json(srn__call *c);
/* Headers of the reply; before it. */
void srn__call_set_header(srn__call *c, const char *name, const char *value);

/* Replies. The JSON reference is taken. */
void srn__call_reply_json(srn__call *c, int status, json_t *body);
void srn__call_reply_text(srn__call *c, int status, const char *content_type, srn_str body);
/* An error in the route's dialect. param: the field that is wrong, or NULL. */
void srn__call_fail(srn__call *c, int status, const char *type, const char *param, const char *code,
                    const char *fmt, ...) SRN_PRINTF(6, 7);
/* The status and type that belong to an srn_err. Retry-After comes with every 429 and 503. */
void srn__call_fail_err(srn__call *c, const char *param, const srn_err *err);
/* The same for an error inside a stream: the HTTP status that it would have had (code of OpenAI's objects in
 * *ret_code, which may be NULL), and the error object itself, a new reference (NULL: out of memory). type
 * NULL: the one that belongs to the status. */
int srn__error_status(const srn_err *err, const char **ret_code);
json_t *srn__error_json(srn__dialect d, int status, const char *type, const char *param, const char *code,
                        const char *message);
/* The error object as the text of a reply; returns its status. */
int srn__put_error(srn_buf *out, srn__dialect d, const srn_err *err);

/* A reply that comes as it is computed. */
typedef struct srn__source_ops {
    /* Appends what is ready to out; 0: more will come (it will wake the call), 1: that was all, 2: so too,
     * but a stream breaks off behind it, without the end that tells a whole one. For a reply that is not
     * streamed nothing is sent before 1, and *status is what it then is sent with (preset to 200). Listener
     * thread. */
    int (*pull)(void *source, srn_buf *out, int *status);
    /* The client is gone, or the server stops: end the work soon. Any thread, perhaps during pull, more than
     * once. */
    void (*cancel)(void *source);
    void (*free)(void *source); /* the last call */
} srn__source_ops;
/* streamed: text/event-stream, sent as it comes, status 200; else one body of content_type. */
void srn__call_reply_source(srn__call *c, bool streamed, const char *content_type, const srn__source_ops *ops,
                            void *source);
/* Something is ready to be pulled: any thread, cheap, also before srn__call_reply_source. The call is kept
 * alive by srn__call_hold until srn__call_drop. */
void srn__call_wake(srn__call *c);
void srn__call_hold(srn__call *c);
void srn__call_drop(srn__call *c);
/* Between these two nothing of the reply goes out. Before the handler replies; by any thread, once. why (may
 * be NULL): a source that was to answer is freed, and this error takes its place. */
void srn__call_withhold(srn__call *c);
void srn__call_release(srn__call *c, const srn_err *why);
/* A handler that must wait for something returns without a reply, and runs again from its start on a worker
 * once somebody has called srn__call_again, from any thread, also before the handler has returned. It says so
 * by srn__call_may_wait(true) before anybody could, and takes that back with false where it need not wait. */
void srn__call_may_wait(srn__call *c, bool may);
void srn__call_again(srn__call *c);
/* Nothing of the reply was sent and it is not complete: what there is of it is given up, and the handler runs
 * again from its start on a worker; a reply that it is about to make goes nowhere. Any thread, also the
 * handler's own, and that of a source inside its pull, which then ends with 0. why: static, for on_rerun, or
 * NULL. false: it is too late for that, or nobody waits any more. */
bool srn__call_rerun(srn__call *c, const char *why);
bool srn__call_reruns(srn__call *c); /* it is going to */
/* Which model answers a call, and which could not (fallback.c). */
typedef struct srn__fallen {
    const srn_config_route *route; /* of the call, once it is known; NULL: none */
    char answers[128];             /* the model that is to answer, as the configuration calls it */
    const char *model;             /* the route's fallback, once it is its turn; NULL: not yet */
    char from[128];                /* the model that failed last */
    const char *why;               /* static; NULL: none failed */
    srn_err err;                   /* how */
    bool admitted;                 /* requests of it were in the scheduler's queue */
} srn__fallen;
/* The registered prompt that a call named; name "": none. */
typedef struct srn__call_prompt {
    char name[SRN_PROMPT_NAME_MAX + 1];
    uint32_t version;
    char hash[2 * SRN_SHA256_BYTES + 1];
    char label[SRN_PROMPT_LABEL_MAX + 1]; /* that it was found by; "": none */
} srn__call_prompt;
/* Work that a call has in the scheduler, for those who watch: from srn__call_live to srn__call_live_end,
 * which comes before its requests are released. Any thread. */
typedef struct srn__live_status {
    char model[128];
    uint32_t n_queued, n_running; /* requests */
    uint32_t n_input, n_output;   /* tokens so far */
} srn__live_status;
typedef struct srn__live {
    void (*status)(void *ctx, srn__live_status *add); /* any thread */
    void *ctx;
    struct srn__live *next;
} srn__live;
void srn__call_live(srn__call *c, srn__live *l);
void srn__call_live_end(srn__call *c, srn__live *l);
/* For the log line and the metrics: written by the handler before it replies, then on the listener thread. */
typedef struct srn__call_facts {
    char model[128];
    srn__call_prompt prompt;
    uint32_t prompt_tokens, cached_tokens, output_tokens;
    uint64_t queue_us, ttft_us;
    char finish[24];    /* "stop", "length", "tool_calls", "abort", "error"; "": nothing was computed */
    char error[24];     /* name of the error that ended it */
    char fallback[160]; /* "MODEL; why=WHY" that another one answers for; "": none does */
} srn__call_facts;
srn__call_facts *srn__call_get_facts(srn__call *c);

#endif
