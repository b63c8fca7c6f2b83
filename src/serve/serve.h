/* serve: HTTP in front of the scheduler. One listener thread moves bytes (libmicrohttpd) and notices clients
 * that left, a few workers do what may take time (parse, render, tokenize, compile), the scheduler's thread
 * does the computing. A request's life: listener collects the body under caps -> worker
 * runs the route's handler, which replies at once or submits work -> the scheduler wakes the call -> the
 * listener pulls what is ready and sends it.
 */
#ifndef SRN_SERVE_SERVE_H
#define SRN_SERVE_SERVE_H

#include <jansson.h>

#include "config/config.h"
#include "engine/scheduler.h"

typedef struct srn_server srn_server;

typedef struct srn_server_opts {
    const srn_config *config;                 /* that it starts with: checked; outlives the server */
    void (*log)(void *ctx, const char *line); /* one JSON line a request, and events; any thread */
    void *log_ctx;
    srn_progress_fn *progress; /* of loading models */
    void *progress_ctx;
    /* Makes the configuration anew, from the file and the command line; *ret is on the heap, with all that it
     * points to but the command line's texts. NULL: it cannot be reloaded. Any thread, one at a time. */
    int (*configure)(void *ctx, srn_config **ret, srn_err *err);
    void (*reloaded)(void *ctx); /* what srn_server_reload began has ended; any thread, may be NULL */
    void *configure_ctx;
} srn_server_opts;
/* Loads the models, listens, serves. Errors: those of loading; SRN_EIO the address cannot be had. */
int srn_server_start(const srn_server_opts *o, srn_server **ret, srn_err *err);
const char *srn_server_address(const srn_server *s); /* "http://127.0.0.1:8080", with the real port */
/* What srn_config_check sees, and whether the key file and the certificate are as they should be. */
int srn_server_check(const srn_config *c, srn_err *err);
/* The same, and whether each roll-out that it declares can begin: one that runs already may wait for a route.
 */
int srn_server_check_fresh(const srn_config *c, srn_err *err);
/* Begins to read configuration, keys and certificate again; what is wrong is logged, and changes nothing. */
void srn_server_reload(srn_server *s);
/* For running answers at the stop, as the configuration in force says. */
uint32_t srn_server_grace_ms(const srn_server *s);
/* Whether the engine's thread showed signs of life lately. */
bool srn_server_alive(const srn_server *s);
/* No new requests (503 with Retry-After); running answers finish within grace_ms or end properly. Nothing
 * listens any more when it returns. */
void srn_server_drain(srn_server *s, uint32_t grace_ms);
/* Ends the grace time that another thread waits for in srn_server_drain. */
void srn_server_hurry(srn_server *s);
/* Drains, if that was not done, and frees everything. */
void srn_server_stop(srn_server *s, uint32_t grace_ms);

#endif
