/* serve, the HTTP core inside: the listener thread with its connections and calls, the worker pool, access
 * (keys, hosts, origins), TLS, the JSON body parser. Handlers see serve_internal.h only; the core knows
 * nothing of models, so that tests run it with a table of routes of their own.
 *
 * Threads. The listener thread alone touches libmicrohttpd, connections (srn__conn) and pulls sources. A
 * call (srn__call) is shared by reference count: the listener holds it from the first header to the end of
 * the exchange, a worker while it runs the handler, the ready list while it is on it, and whoever called
 * srn__call_hold. The reply passes from the worker to the listener under srn__call.lock.
 */
#ifndef SRN_SERVE_HTTP_INTERNAL_H
#define SRN_SERVE_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <pthread.h>

#include "serve/serve_internal.h"

/* An engine that is silent for so long is stuck. */
#define SRN__STUCK_US UINT64_C(10000000)

typedef struct srn__http srn__http;
typedef struct srn__conn srn__conn;

/* What is known of an exchange when it has ended. */
typedef struct srn__call_end {
    const char *id, *method, *path, *client;
    const char *key;         /* name of the key, or NULL */
    const srn__route *route; /* NULL: there is none */
    int status;              /* 0: the client left before there was one */
    bool complete;           /* the whole reply was handed to the network */
    uint64_t total_us;
    const srn__call_facts *facts;
} srn__call_end;

typedef struct srn__http_opts {
    const srn_config *config; /* outlives the core; listen, keys_file, tls_*, hosts, cors, limits are used */
    const srn__route *routes;
    size_t n_routes;
    const char *local_token; /* good as the key of an admin named "local"; outlives the core, may be NULL */
    srn_server *server;      /* what srn__call_server gives; may be NULL */
    uint32_t n_workers;      /* 0: 4 */
    uint32_t queue;          /* calls waiting for a worker; 0: limits.queue, at least 64 */
    uint32_t last_words_ms;  /* for cancelled sources to end their replies at the stop; 0: 3 s */
    void (*log)(void *ctx, const char *line); /* may be NULL */
    void *log_ctx;
    void (*on_end)(void *ctx, const srn__call_end *e); /* each exchange, listener thread; may be NULL */
    /* Nobody holds the call any more but who is asked here, and lets go of it now or soon, before the core is
     * freed. Any thread; may be NULL. */
    void (*on_last)(void *ctx, srn__call *c);
    /* The handler is about to run again (srn__call_rerun): what it left behind is undone. Worker; may be
     * NULL. */
    void (*on_rerun)(void *ctx, srn__call *c, const char *why);
    /* No call holds a configuration any more, and none will. Any thread; may be NULL. */
    void (*on_unused)(void *ctx, const srn_config *c);
    void *end_ctx;
} srn__http_opts;

/* Binds the address, reads keys and certificate, and starts the threads; every route that is not
 * SRN__ROUTE_OPEN is answered with 503 until srn__http_ready. */
int srn__http_new(const srn__http_opts *o, srn__http **ret, srn_err *err);
void srn__http_ready(srn__http *h);
const char *srn__http_address(const srn__http *h);
uint32_t srn__http_connections(const srn__http *h); /* open now; any thread */
/* Around many wakes at once, one thread: the listener is woken at their end. */
void srn__http_burst(srn__http *h, bool begins);
/* Takes no new work, or takes it again; what is no work for a model is still answered. Any thread. */
bool srn__http_drain(srn__http *h, bool on);
/* Calls fn for each exchange with work for a model, in the order of coming, under the core's lock. Any thread
 * but one that is inside fn. */
void srn__http_each_live(srn__http *h, void (*fn)(void *ctx, srn__call *c), void *ctx);
/* Ends such an exchange as if its client had left, but the client gets what there is and an error. false:
 * there is none of that id. Any thread. */
bool srn__http_cancel(srn__http *h, const char *id);
/* Why no requests are taken now ("loading", "draining"), or NULL. Any thread. */
const char *srn__http_unready(const srn__http *h);
/* A hold on the settings that new calls get. Before other threads adopt any, or on the one that does. */
struct srn__settings *srn__http_settings(srn__http *h);
/* Whether these settings may be adopted; SRN_EINVAL: the address is open to others, and they have no keys. */
int srn__http_may(const srn__http *h, const struct srn__settings *s, srn_err *err);
/* New calls get other settings, which are taken, and new connections another certificate, taken too; NULL:
 * they keep the one that there is. One thread at a time. */
struct srn__cert;
void srn__http_adopt(srn__http *h, struct srn__settings *s, struct srn__cert *cert);
/* Refuses new requests, lets running ones end within grace_ms, then ends them, then joins all threads. One
 * thread, once. srn__http_hurry ends the grace time at once, from any thread. */
void srn__http_stop(srn__http *h, uint32_t grace_ms);
void srn__http_hurry(srn__http *h);
/* Stops it first. Whoever may wake calls (a scheduler) is gone by now. */
void srn__http_free(srn__http *h);
void srn__http_log_event(srn__http *h, const char *event, const char *detail);

/* ---- body.c: pure ---- */

/* The body as a JSON value: valid UTF-8 without NUL, at most max_depth containers deep, with at most
 * SRN__JSON_MAX_CONTAINERS objects and arrays and SRN__JSON_MAX_VALUES values (what bounds memory), no name
 * twice in an object. SRN_EFORMAT names line, column and offset; SRN_ELIMIT the limit. */
enum { SRN__JSON_MAX_CONTAINERS = 100000, SRN__JSON_MAX_VALUES = 2000000 };
int srn__json_parse(srn_str body, uint32_t max_depth, json_t **ret, srn_err *err);
/* Only the checks that precede parsing. */
int srn__json_check(srn_str body, uint32_t max_depth, srn_err *err);

/* ---- address.c ---- */

typedef struct srn__address {
    char url[256];  /* "http://127.0.0.1:8080", with the real port */
    char host[128]; /* as given, without brackets; "" for a unix socket */
    char path[108]; /* of a unix socket, to be removed at the end; else "" */
    bool loopback, any;
} srn__address;
/* "HOST:PORT", "[V6]:PORT" or "unix:PATH" -> a listening socket. Port 0 picks one. SRN_EINVAL, SRN_EIO. */
int srn__address_listen(const char *listen, bool tls, int *ret_fd, srn__address *ret, srn_err *err);

/* ---- settings.c ---- */

/* What is in force, as one piece: a configuration, its id and the keys of its file. Immutable; each call
 * holds the one that it began with, so that what it is served by never changes on the way. */
typedef struct srn__settings srn__settings;
struct srn__settings {
    atomic_uint refs;
    const srn_config *config;
    srn_config *own;                                   /* the same, where it is freed with the last hold */
    char id[65];                                       /* srn_config_identity */
    srn_keys *keys;                                    /* NULL: none are needed */
    void (*on_unused)(void *ctx, const srn_config *c); /* the last hold is gone; any thread, may be NULL */
    void *unused_ctx;
};
/* Reads the keys. own (NULL: c outlives all holds) is taken on success: on the heap, and c points to it. */
int srn__settings_new(const srn_config *c, srn_config *own, srn__settings **ret, srn_err *err);
srn__settings *srn__settings_hold(srn__settings *s);
void srn__settings_put(srn__settings *s); /* NULL is fine; any thread */

/* ---- access.c ---- */

/* The secret of a request, from Authorization: Bearer, x-api-key or api-key; ptr NULL: there is none. */
srn_str srn__access_secret(const srn__call *c);
/* Whether a Host header may be served: guards against names that a hostile page pointed here. */
bool srn__access_host(const srn_config *c, const srn__address *a, const char *host);
/* The allowed origin to be named in the reply ("*" where the config says so), or NULL. */
/* What to ask instead of a path that is not there, as another server calls it; NULL where nothing is known.
 */
const char *srn__path_hint(const char *path);
const char *srn__access_origin(const srn_config *c, const char *origin);
/* What to ask instead of a path that is not there, as another server calls it; NULL where nothing is known.
 */
const char *srn__path_hint(const char *path);
/* Whether an Origin header is the server's own address as the Host header names it. */
bool srn__access_same_origin(const char *origin, const char *host);

/* ---- local.c ---- */

enum { SRN__TOKEN_CHARS = 64 };
void srn__local_token(char ret[SRN__TOKEN_CHARS + 1]);
bool srn__local_is(const char *token, srn_str secret); /* in a time that does not depend on the secret */

/* ---- tls.c ---- */

typedef struct srn__cert srn__cert;
int srn__cert_load(const char *cert_file, const char *key_file, srn__cert **ret, srn_err *err);
void srn__cert_free(srn__cert *c);
/* What libmicrohttpd's callback needs: the certificate that new handshakes present. Listener thread. */
typedef struct srn__tls {
    srn__cert *current;
    srn__cert *retired; /* a list: in use by handshakes of connections older than their since */
} srn__tls;
void srn__tls_replace(srn__tls *t, srn__cert *next, uint64_t next_conn);
/* Frees what was retired before the oldest connection came. */
void srn__tls_sweep(srn__tls *t, uint64_t oldest_conn);
void srn__tls_done(srn__tls *t);
/* The option's value: a gnutls_certificate_retrieve_function2 that finds the srn__tls by the session. */
void *srn__tls_callback(void);
void srn__tls_attach(struct MHD_Connection *con, srn__tls *t);

/* ---- workers.c ---- */

typedef struct srn__workers srn__workers;
int srn__workers_new(uint32_t n, uint32_t queue, srn__workers **ret, srn_err *err);
/* Takes a hold on the call and runs its handler soon; false: the queue is full. again: it was there before,
 * and always finds a place. */
bool srn__workers_push(srn__workers *w, srn__call *c, bool again);
void srn__workers_free(srn__workers *w); /* runs what is queued (calls that ended are skipped), joins */

/* ---- one exchange ---- */

typedef struct srn__pair {
    const char *name, *value;
} srn__pair;

typedef enum srn__stage {
    SRN__STAGE_BODY,  /* its body comes in, to be kept or, after an early error, dropped */
    SRN__STAGE_WAIT,  /* suspended: a worker has it, or a source that is not streamed computes */
    SRN__STAGE_REPLY, /* a response is queued */
} srn__stage;

/* Of a handler that returns without a reply. */
typedef enum srn__wait {
    SRN__WAIT_NOT,
    SRN__WAIT_MAY, /* it runs and may wait */
    SRN__WAIT_DUE, /* it runs, and what it waits for has come already */
    SRN__WAIT_NOW  /* it has returned, and waits */
} srn__wait;

struct srn__call {
    atomic_uint refs;
    srn__http *http;
    const srn__route *route; /* NULL: none matches */
    srn__dialect dialect;
    srn_arena arena; /* strings of the request and header values of the reply */
    char id[40];
    const char *method, *path, *path_id, *client;
    srn__pair *headers, *query;
    uint32_t n_headers, n_query;
    srn__settings *settings; /* held */
    const srn_key *key;
    srn_buf body;
    json_t *json;
    srn__call_facts facts;
    struct srn__record *record;     /* record.c; NULL: none yet */
    struct srn__assigned *assigned; /* assign.c; NULL: not asked yet */
    struct srn__trace *trace;       /* otel_call.c; NULL: none yet */
    struct srn__relay *relay;       /* upstream.c; NULL: no other server was asked. Set under the lock */
    struct srn__copy *copy;         /* shadow.c: it has no client, and this in place of one; else NULL */
    bool last;                      /* on_last has it */
    uint64_t begun_us, ended_us;    /* ended_us, complete: once the exchange is over */
    bool complete;                  /* the whole reply was handed to the network */
    srn__fallen fallen;             /* fallback.c */
    uint64_t deadline_us;           /* of its work, whichever attempt; 0: none, or not known yet */

    /* The reply, written by the handler's thread, then handed over by `replied`. */
    pthread_mutex_t lock; /* guards the flags below, live, wait, refusal and calls of ops->cancel */
    bool replied, gone, ended, cancelled;
    srn__live *live;        /* a list */
    bool withheld, refused; /* the reply has to wait; the refusal takes its place */
    srn_err refusal;
    srn__wait wait;
    bool fixed;            /* the reply is on its way, or its record is: no other one takes its place */
    bool handling;         /* the handler runs */
    bool rerun, renewed;   /* the handler has to run again; its next run does so */
    const char *rerun_why; /* static */
    int status;
    const char *content_type;
    char *text; /* malloc'd; NULL where a source is */
    size_t text_len;
    srn__pair reply_headers[16];
    uint32_t n_reply_headers;
    const srn__source_ops *ops; /* NULL once freed */
    void *source;
    bool streamed;

    /* Listener thread only. */
    srn__conn *conn; /* NULL: the exchange has ended */
    struct MHD_Connection *mhd;
    srn__stage stage;
    bool suspended, pull_due, source_done, close_after;
    bool broken;                /* the source ended, and its stream is not whole */
    const char *allow, *origin; /* reply headers of 405 and CORS */
    uint64_t body_bytes;        /* received, kept or not */
    srn_buf out;                /* pulled and not yet sent: [out_at, out.len) */
    size_t out_at;

    atomic_bool woken;                /* on the ready list */
    srn__call *next_ready;            /* the ready list, newest first */
    srn__call *live_next, *live_prev; /* the core's list of work, under its lock */
    bool listed;
    srn__call *next_waiting; /* the workers' queue */
};

/* exchange.c, called by libmicrohttpd on the listener thread; cls is the srn__http. */
enum MHD_Result srn__exchange_request(void *cls, struct MHD_Connection *con, const char *url,
                                      const char *method, const char *version, const char *upload,
                                      size_t *upload_size, void **call);
void srn__exchange_completed(void *cls, struct MHD_Connection *con, void **call,
                             enum MHD_RequestTerminationCode toe);
/* A call was woken: pulls what is ready and lets its connection go on. */
void srn__exchange_ready(srn__call *c);
void srn__copy_ready(srn__call *c); /* shadow.c: the same of a call without a client */
/* The client left (gone), or the server wants no more of it: the source is cancelled; with drop the
 * connection is closed as well. */
void srn__exchange_cancel(srn__call *c, bool drop);

/* call.c */
srn__call *srn__call_new(srn__http *h, srn__settings *s); /* takes a hold of its own */
void srn__call_run(srn__call *c); /* a worker: runs the handler, sees to it that there is a reply */
/* Frees the source, if there is one; later ones are cancelled and freed as they come. */
void srn__call_finish(srn__call *c);
bool srn__call_replied(srn__call *c);
/* Whether there is a reply that may go out now; a refusal has taken its place. Listener thread. */
bool srn__call_due(srn__call *c);
/* Where the handler has to run again: its source is freed, and a worker gets the call, now or as soon as the
 * run before has returned. Listener thread. */
bool srn__call_restart(srn__call *c);
/* From here on the reply stays what it is. Listener thread. */
void srn__call_fix(srn__call *c);

/* log.c: an event by the callback of a server that may have no core yet; the JSON line of a request. */
void srn__log_event(void (*log)(void *ctx, const char *line), void *ctx, const char *event,
                    const char *detail);
void srn__log_call(srn__http *h, const srn__call_end *e);

/* ---- the listener ---- */

struct srn__conn {
    int kind; /* first: what an epoll event points at */
    int fd;
    uint64_t id; /* ascending in the order of coming */
    srn__conn *next, *prev;
    srn__call *call;
    struct MHD_Connection *mhd;
    uint64_t deadline_us; /* for its headers or body; 0: none */
    uint32_t idle_s;      /* what libmicrohttpd knows of it, also for clients that do not read */
    bool in_request;      /* the request line came */
    bool gone;            /* closed by the client */
    bool linger;          /* swallow what is still on its way before the socket is closed */
    char client[64];
};

typedef enum srn__mode {
    SRN__MODE_LOADING,
    SRN__MODE_RUN,
    SRN__MODE_DRAIN, /* new requests: 503 */
    SRN__MODE_END,   /* running sources are cancelled, and may still say so */
    SRN__MODE_KILL   /* connections are closed, the thread ends */
} srn__mode;

enum { SRN__LINGERS = 64 };
typedef struct srn__linger {
    int kind;
    int fd; /* -1: free */
    uint64_t deadline_us, bytes;
} srn__linger;

struct srn__http {
    srn__http_opts o;
    srn__address address;
    int listen_fd, epoll_fd, event_fd;
    struct MHD_Daemon *daemon;
    int daemon_kind, event_kind; /* what epoll events point at */
    pthread_t thread;
    bool thread_runs;
    srn__workers *workers;
    _Atomic(srn__call *) ready; /* woken calls, pushed by any thread, taken whole by the listener */
    atomic_int mode;
    atomic_bool burst; /* wakes come in quick succession: their end wakes the listener */
    atomic_bool hurry, drain;
    atomic_uint n_conns;
    bool stopped;

    srn_key local_key; /* what the local token stands for */

    /* Handed over to the listener thread by exchange; NULL: nothing new. */
    srn__settings *latest; /* held; of the thread that adopts */
    _Atomic(srn__settings *) new_settings;
    _Atomic(srn__cert *) new_cert;

    /* Listener thread only. */
    srn__settings *settings;
    srn__tls tls;
    srn__conn *first, *last;
    uint64_t next_conn, next_deadline_us;
    srn__linger lingers[SRN__LINGERS];
    srn__mode seen; /* the mode that was acted upon */

    pthread_mutex_t lock; /* guards n_calls and the list of work */
    srn__call *live_first, *live_last;
    pthread_cond_t idle; /* n_calls fell to 0, or hurry */
    uint32_t n_calls;    /* exchanges that have not ended */
};

/* listener.c */
int srn__listener_start(srn__http *h, srn_err *err);
void srn__listener_stop(srn__http *h); /* mode is KILL: joins the thread */
void srn__listener_wake(srn__http *h); /* any thread */
uint32_t srn__listener_idle_s(const srn_config *c);
void srn__listener_arm(srn__http *h, srn__conn *conn, uint64_t deadline_us);

#endif
