/* config: serin.yaml and the key file, as checked structs. Parsed by pure functions over bytes; reading files
 * is the caller's, but for srn_config_load. Errors name file, line, column and key. Unknown and duplicate
 * keys, anchors and aliases are errors.
 */
#ifndef SRN_CONFIG_CONFIG_H
#define SRN_CONFIG_CONFIG_H

#include "base/base.h"

/* One model to serve. Strings belong to the config's arena; NULL or 0 means the default. */
typedef struct srn_config_model {
    const char *name; /* what clients ask for */
    const char *path; /* file or name in the cache folder */
    const char *const *aliases;
    uint32_t n_aliases;
    uint32_t ctx, parallel, threads;
    uint64_t cache_tokens;
    const char *kv_type;
    uint32_t speculate; /* draft tokens a step by prompt look-up */
    bool lazy;          /* not loaded at start, but by the first request for it or /v1/models/load */
    /* Where another server answers for it, which has no path then. */
    const char *upstream; /* "http://HOST:PORT", "https://...", "unix:PATH"; NULL: it is a file */
    const char *model;    /* its name there; NULL: as here */
    const char *key_file,
        *key_env;         /* where the bearer token stands: a file, or a variable of the environment */
    const char *ca;       /* file of the certificates to trust; NULL: the system's */
    uint32_t timeout_ms;  /* until it begins to answer, and between its bytes; 0: 60 s */
    uint32_t connections; /* at once; more calls wait; 0: 32 */
} srn_config_model;
/* Of an upstream, where nothing else is said. */
#define SRN_UPSTREAM_TIMEOUT_MS  60000u
#define SRN_UPSTREAM_CONNECTIONS 32u

typedef struct srn_config_limits {
    uint64_t body_bytes, header_bytes;                  /* 8 MiB, 64 KiB */
    uint32_t json_depth;                                /* 64 */
    uint32_t messages, tools, stops, choices, logprobs; /* 4096, 128, 16, 16, 20 */
    uint32_t max_tokens;                                /* of one answer; 0: the context */
    uint64_t schema_bytes;                              /* 256 KiB */
    uint32_t queue;                                     /* waiting requests; 1024 */
    uint32_t connections, connections_per_ip;           /* 1024, 0: no limit */
    uint32_t header_timeout_ms, body_timeout_ms, request_timeout_ms,
        idle_timeout_ms; /* 10 s, 60 s, 0: none, 75 s */
} srn_config_limits;

/* What a request is matched against: NULL matches anything. The first route that matches says what it gets.
 */
typedef struct srn_config_route {
    const char *name;
    const char *endpoint; /* "/v1/chat/completions" */
    const char *key;      /* name of an API key */
    const char *alias;    /* the model name that the client asked for */
    const char *prompt;   /* id of a registered prompt */
    const char *header, *header_value;
    /* what it gets */
    const char *model;    /* NULL: the one asked for */
    const char *fallback; /* the model that answers where that one cannot; NULL: none */
    uint32_t max_tokens;  /* 0: the general limit */
    uint32_t timeout_ms;
    int32_t priority;
    const char *ledger;  /* "buffered" or "required"; NULL: the general mode */
    const char *content; /* "none", "hash", "full" or "encrypted"; NULL: the general policy */
    const char *risk;    /* "low", "normal" or "high"; NULL: normal. Roll-outs come to routes of low risk */
    bool require_prompt; /* only calls that name a registered prompt */
    bool local_only;     /* nothing of it leaves this machine, not by traces either */
} srn_config_route;

/* The record of calls (docs/ledger.md). */
typedef struct srn_config_ledger {
    const char *where;    /* a folder or "postgresql://..."; "off": none; NULL: the default folder */
    const char *folder;   /* of this machine, for a ledger in PostgreSQL; NULL: the default one */
    const char *keys;     /* folder of its keys; NULL: "keys" in the folder */
    const char *mode;     /* "buffered" (the default) or "required" */
    const char *content;  /* "none", "hash" (the default), "full" or "encrypted" */
    uint32_t queue;       /* records that may wait to be committed; 10,000 */
    uint32_t patience_ms; /* how long one waits for room before it is lost; 30 s */
    uint64_t retention_ms, max_bytes; /* 0: everything is kept */
    bool keep_weights;                /* replaced model files are kept as long as their calls */
} srn_config_ledger;

/* A roll-out as it was declared (docs/canary.md); what its keys mean is the canary room's. */
typedef struct srn_config_rollout {
    const char *json; /* an object */
    uint32_t line;    /* where it stands */
} srn_config_rollout;

typedef struct srn_config_pair {
    const char *name, *value;
} srn_config_pair;

/* Traces and metrics for a collector, as OTLP over HTTP (docs/telemetry.md). */
typedef struct srn_config_telemetry {
    bool content; /* prompts and answers too, where the content policy is full */
    /* What follows is read when a server starts, and then stays. */
    const char *endpoint;           /* "http://HOST:4318"; NULL: nothing is sent */
    const srn_config_pair *headers; /* of every request: secrets */
    uint32_t n_headers;
    const srn_config_pair *resource; /* more attributes of the resource */
    uint32_t n_resource;
    const char *service_name, *ca; /* "serin"; file of the certificates to trust, NULL: the system's */
    double sample;                 /* part of the calls that get a trace, where the caller has not decided */
    bool ignore_parent;            /* the caller's decision does not count */
    bool no_traces, no_metrics;
    uint32_t timeout_ms, metrics_interval_ms, delay_ms; /* 10 s, 60 s, 1 s */
    uint32_t queue;                                     /* spans that may wait; 2048 */
    const char *note; /* what the environment asks for and there is not, for the log; or NULL */
} srn_config_telemetry;

/* Where a text of the file stands; found by the text's address. */
typedef struct srn_config_place {
    const char *text;
    uint32_t line, column;
    struct srn_config_place *next;
} srn_config_place;

typedef struct srn_config {
    srn_arena arena;
    srn_config_place *places;
    const char *file;   /* for messages */
    const char *listen; /* "127.0.0.1:8080", "[::1]:8080", "unix:/run/serin.sock" */
    const char *keys_file, *tls_cert, *tls_key;
    bool allow_open;          /* listen beyond loopback without keys */
    const char *const *hosts; /* allowed Host headers; empty: those of the address, and localhost */
    uint32_t n_hosts;
    const char *const *cors; /* allowed origins; empty: none */
    uint32_t n_cors;
    const char *default_model;
    bool metrics_open; /* /metrics needs no key */
    uint32_t grace_ms; /* for running answers after SIGTERM; 30 s */
    srn_config_model *models;
    uint32_t n_models;
    srn_config_route *routes;
    uint32_t n_routes;
    srn_config_rollout *rollouts;
    uint32_t n_rollouts;
    srn_config_limits limits;
    srn_config_ledger ledger;
    srn_config_telemetry telemetry;
} srn_config;

void srn_config_init(srn_config *c); /* the defaults */
void srn_config_done(srn_config *c);
/* Reads serin.yaml's bytes into *c (initialised). name is used in messages. */
int srn_config_parse(srn_config *c, srn_str yaml, const char *name, srn_err *err);
int srn_config_load(srn_config *c, const char *path, srn_err *err);
/* What parsing one value cannot see: names used twice, routes to models that are not there, missing files, an
 * open listener without keys. After flags were laid over the file. */
int srn_config_check(const srn_config *c, srn_err *err);
/* SRN_EINVAL with a sentence that begins with the file and, where `text` is one of its texts, with line and
 * column. */
int srn_config_fail(const srn_config *c, const char *text, srn_err *err, const char *fmt, ...)
    SRN_PRINTF(4, 5);
/* Lays what OpenTelemetry's environment variables say under the telemetry of *c, which the file has not
 * named: get is getenv. SRN_EINVAL names the variable. */
int srn_config_otel_env(srn_config *c, const char *(*get)(const char *name), srn_err *err);
/* The id of what is in force: the SHA-256, as hex, of a canonical JSON text of all of it without secrets,
 * which is added to ret_json (may be NULL). */
int srn_config_identity(const srn_config *c, srn_buf *ret_json, char ret_id[65], srn_err *err);
/* Which keys differ, as the file names them: "limits.body", "models.small.ctx", "models.big (added)",
 * "routes (order)"; never values. */
typedef void srn_config_change_fn(void *ctx, const char *key);
int srn_config_changes(const srn_config *from, const srn_config *to, srn_config_change_fn *fn, void *ctx,
                       srn_err *err);
/* Lays over *next what a server that runs with another configuration reads at its start alone: the address,
 * the place of the ledger and its queue, limits that memory was taken for. running's own such
 * texts are those of the first configuration, which outlives *next. */
int srn_config_keep(srn_config *next, const srn_config *running, srn_err *err);
/* The model that a name or an alias stands for, or NULL. */
const srn_config_model *srn_config_model_of(const srn_config *c, const char *name);
/* The route of a request, or NULL. */
typedef struct srn_route_query {
    const char *endpoint, *key, *alias, *prompt;
    /* value of a header, NULL if there is none */
    const char *(*header)(void *ctx, const char *name);
    void *header_ctx;
} srn_route_query;
const srn_config_route *srn_config_route_of(const srn_config *c, const srn_route_query *q);

/* ---- API keys ----
 * One a line: NAME KEY [admin] [priority=N] [tenant=NAME]; '#' starts a comment. KEY is the secret itself or
 * sha256:HEX of it. */
typedef struct srn_key {
    const char *name, *tenant; /* tenant: NAME unless said */
    uint64_t tenant_id;        /* keyed hash of tenant; never 0 */
    bool admin;
    int32_t priority;
} srn_key;
typedef struct srn_keys srn_keys; /* immutable */
int srn_keys_parse(srn_str text, const char *name, srn_keys **ret, srn_err *err);
int srn_keys_load(const char *path, srn_keys **ret, srn_err *err);
void srn_keys_free(srn_keys *k);
/* Which keys came, went or differ, by name: "keys.NAME (added)"; either may be NULL. */
void srn_keys_changes(const srn_keys *from, const srn_keys *to, srn_config_change_fn *fn, void *ctx);
bool srn_keys_has_name(const srn_keys *k, const char *name);
/* The key that is equal to the secret, or NULL. Looks at every key, in a time that does not depend on how
 * much of one is right. */
const srn_key *srn_keys_find(const srn_keys *k, srn_str secret);

#endif
