/* Alerts to webhooks: small JSON bodies that are POSTed by a thread of their own, so that nobody waits for a
 * webhook that hangs, and again after a while where one is away.
 */
#ifndef SRN_SERVE_ALERTS_H
#define SRN_SERVE_ALERTS_H

#include <jansson.h>

#include "base/base.h"

enum { SRN__ALERTS_MOST = 64, SRN__ALERTS_TRIES = 6 };

typedef struct srn__alerts srn__alerts;
typedef struct srn__alerts_opts {
    void (*log)(void *ctx, const char *event, const char *detail); /* any thread; may be NULL */
    void *log_ctx;
    uint32_t first_wait_ms; /* before the second try, four times as long before each one after it; 0: 500 */
    uint32_t timeout_ms;    /* of one try; 0: 10 s */
} srn__alerts_opts;
/* Starts the thread. */
int srn__alerts_new(const srn__alerts_opts *o, srn__alerts **ret, srn_err *err);
/* What waits is tried once more, within about three seconds in all; joins the thread. NULL is fine. */
void srn__alerts_free(srn__alerts *a);
/* Copies; any thread, quick. about: whom it is about, for the log. What does not arrive after
 * SRN__ALERTS_TRIES, or finds SRN__ALERTS_MOST others waiting, is lost, and the log says so
 * ("webhook_failed"). */
void srn__alerts_send(srn__alerts *a, const char *url, const char *about, const json_t *body);

#endif
