/* A server, inside: server.c has its life, reload.c changes its configuration. */
#ifndef SRN_SERVE_SERVER_INTERNAL_H
#define SRN_SERVE_SERVER_INTERNAL_H

#include <pthread.h>

#include "serve/background.h"
#include "serve/fallback.h"
#include "serve/http_internal.h"
#include "serve/metrics.h"
#include "serve/otel.h"
#include "serve/record.h"
#include "serve/rollout.h"
#include "serve/upstream.h"

struct srn_server {
    srn__http *http;
    srn_scheduler *scheduler;
    srn__models *models;
    srn__metrics *metrics;
    srn__fallbacks *fallbacks;
    srn_prompts *prompts; /* NULL: there is no ledger */
    srn__recorder *recorder;
    srn__rollouts *rollouts; /* NULL: there is no ledger */
    srn__watcher *watcher;   /* likewise */
    srn__copies *copies;     /* likewise */
    srn__background *background;
    srn__upstreams *upstreams;
    _Atomic(srn__otel *) otel; /* NULL: off, or not yet: calls come as soon as there is an address */
    srn_server_opts opts;
    atomic_uint grace_ms;        /* of the configuration in force */
    pthread_mutex_t unused_lock; /* guards `models` against those who tell that a configuration is unused */

    pthread_mutex_t reload_lock; /* held for as long as a reload takes: one at a time */
    pthread_mutex_t asked_lock;  /* guards what follows */
    pthread_t reloader;          /* works off what was asked for without waiting */
    bool has_reloader, stopping;
    uint32_t asked;
    pthread_cond_t asked_more;
};

/* ---- reload.c ---- */

typedef struct srn__reloaded {
    char from[65], to[65]; /* ids of configurations; `to` is `from` on failure */
    json_t *changed;       /* names of keys, now in force */
    json_t *restart;       /* names of keys that need a restart, and stay as they were */
    json_t *waits;         /* sentences on what is in force and cannot begin yet */
} srn__reloaded;
/* Reads the configuration again and puts it in force, whole or not at all. by: who asked. Logs and records
 * what came of it. SRN_EBUSY: a model is being unloaded. Any thread; waits for its turn, and for models to be
 * loaded. */
int srn__server_reload(srn_server *s, const char *by, srn__reloaded *ret, srn_err *err);
void srn__reloaded_done(srn__reloaded *r);
/* Roll-outs are not frozen any more: those of the configuration that waited begin. Any thread. */
void srn__server_thawed(srn_server *s);
/* After this none is under way, and none begins by itself. */
void srn__server_reload_stop(srn_server *s);

#endif
