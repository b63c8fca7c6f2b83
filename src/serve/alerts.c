/* The sender of alerts (alerts.h): one thread and a short list. What is due longest goes first, so a webhook
 * that hangs holds up others by one try at most. A try that fails for the network's sake, or because the
 * webhook is busy or broken (408, 429, 5xx), is made again after a pause; any other answer but success is
 * final. Refuses to follow redirects, and reads little of answers.
 */
#include "serve/alerts.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "client/client.h"

enum { MAX_ANSWER = 64 << 10, FIRST_WAIT_MS = 500, TIMEOUT_MS = 10000 };
#define STOP_US UINT64_C(3000000)

typedef struct alert {
    struct alert *next;
    char *base, *path, *about, *body;
    uint32_t tries;
    uint64_t due_us; /* srn_now_us() */
} alert;

struct srn__alerts {
    srn__alerts_opts o;
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    alert *first; /* in the order in which they are due */
    uint32_t n;   /* with the one that is being sent */
    bool stopping;
    uint64_t stop_us; /* no try goes on after that */
};

static void alert_free(alert *t) {
    if (!t) return;
    free(t->base);
    free(t->path);
    free(t->about);
    free(t->body);
    free(t);
}

static void say(const srn__alerts *a, const char *about, const char *what, const char *more) {
    char text[800];
    snprintf(text, sizeof text, "%.80s: %.500s%.200s", about, what, more);
    if (a->o.log) a->o.log(a->o.log_ctx, "webhook_failed", text);
}

/* The lock is held. */
static void put(srn__alerts *a, alert *t) {
    alert **at = &a->first;
    while (*at && (*at)->due_us <= t->due_us) at = &(*at)->next;
    t->next = *at;
    *at = t;
    pthread_cond_signal(&a->wake);
}

static alert *alert_new(const char *url, const char *about, const json_t *body) {
    const char *host = strstr(url, "://");
    alert *t = host ? srn_calloc(1, sizeof *t) : NULL;
    if (!t) return NULL;
    const char *path = host + 3 + strcspn(host + 3, "/?#");
    t->base = srn_strndup(url, (size_t)(path - url));
    t->path = srn_strndup(*path ? path : "/", *path ? strlen(path) : 1);
    t->about = srn_strndup(about, strlen(about));
    t->body = json_dumps(body, JSON_COMPACT);
    if (t->base && t->path && t->about && t->body) return t;
    alert_free(t);
    return NULL;
}

void srn__alerts_send(srn__alerts *a, const char *url, const char *about, const json_t *body) {
    alert *t = alert_new(url, about, body);
    if (!t) return say(a, about, "there is no memory for an alert", "");
    t->due_us = srn_now_us();
    pthread_mutex_lock(&a->lock);
    bool room = a->n < SRN__ALERTS_MOST;
    if (room) put(a, t), a->n++;
    pthread_mutex_unlock(&a->lock);
    if (room) return;
    say(a, about, "an alert is lost, for too many wait", "");
    alert_free(t);
}

/* ---- the thread ---- */

static bool past_stop(void *ctx) {
    srn__alerts *a = ctx;
    pthread_mutex_lock(&a->lock);
    bool past = a->stopping && srn_now_us() >= a->stop_us;
    pthread_mutex_unlock(&a->lock);
    return past;
}

typedef enum outcome { DONE, LATER, NEVER } outcome;

static outcome post(srn__alerts *a, const alert *t, srn_err *why) {
    char *answer = NULL;
    int status = 0;
    const srn_request_to r = {.base = t->base,
                              .path = t->path,
                              .body = srn_str_of(t->body),
                              .max_bytes = MAX_ANSWER,
                              .cut = true,
                              .timeout_ms = a->o.timeout_ms,
                              .give_up = past_stop,
                              .give_up_ctx = a};
    int code = srn_http_request(&r, &status, &answer, &(size_t){0}, why);
    free(answer);
    if (code) return code == SRN_EINVAL ? NEVER : LATER;
    if (status >= 200 && status < 300) return DONE;
    srn_fail(why, SRN_EIO, "the webhook answered with %d", status);
    return status == 408 || status == 429 || status >= 500 ? LATER : NEVER;
}

/* Takes it. Each pause is four times the one before. */
static void send_one(srn__alerts *a, alert *t) {
    srn_err why = {0};
    outcome came = post(a, t, &why);
    t->tries++;
    pthread_mutex_lock(&a->lock);
    bool again = came == LATER && t->tries < SRN__ALERTS_TRIES && !a->stopping;
    uint64_t wait = (uint64_t)a->o.first_wait_ms * 1000 << 2 * (t->tries - 1);
    t->due_us = srn_now_us() + wait;
    if (again)
        put(a, t);
    else
        a->n--;
    pthread_mutex_unlock(&a->lock); /* nobody else takes or frees one */
    if (came != DONE && (!again || t->tries == 1))
        say(a, t->about, why.text, again ? "; it is tried again" : "; the alert is lost");
    if (!again) alert_free(t);
}

/* The next one that is due, waiting for it; NULL: it is time to end. */
static alert *take(srn__alerts *a) {
    pthread_mutex_lock(&a->lock);
    while (!a->stopping && (!a->first || a->first->due_us > srn_now_us())) {
        if (!a->first) {
            pthread_cond_wait(&a->wake, &a->lock);
            continue;
        }
        uint64_t us = a->first->due_us;
        const struct timespec until = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
        pthread_cond_timedwait(&a->wake, &a->lock, &until);
    }
    alert *t = a->first;
    if (t) a->first = t->next;
    pthread_mutex_unlock(&a->lock);
    return t;
}

static void *run(void *p) {
    srn__alerts *a = p;
    alert *t;
    pthread_setname_np(pthread_self(), "serin-alerts");
    while ((t = take(a)) != NULL) {
        if (!past_stop(a)) {
            send_one(a, t);
            continue;
        }
        say(a, t->about, "the server stops, and an alert is lost", "");
        alert_free(t);
    }
    return NULL;
}

/* ---- life ---- */

int srn__alerts_new(const srn__alerts_opts *o, srn__alerts **ret, srn_err *err) {
    pthread_condattr_t attr;
    srn__alerts *a = srn_calloc(1, sizeof *a);
    if (!a) return srn_fail_nomem(err, sizeof *a);
    a->o = *o;
    if (!a->o.first_wait_ms) a->o.first_wait_ms = FIRST_WAIT_MS;
    if (!a->o.timeout_ms) a->o.timeout_ms = TIMEOUT_MS;
    pthread_mutex_init(&a->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&a->wake, &attr);
    pthread_condattr_destroy(&attr);
    a->has_thread = pthread_create(&a->thread, NULL, run, a) == 0;
    if (!a->has_thread) {
        srn__alerts_free(a);
        return srn_fail(err, SRN_ENOMEM, "no thread could be started for alerts");
    }
    *ret = a;
    return SRN_OK;
}

void srn__alerts_free(srn__alerts *a) {
    if (!a) return;
    pthread_mutex_lock(&a->lock);
    a->stopping = true;
    a->stop_us = srn_now_us() + STOP_US;
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
    if (a->has_thread) pthread_join(a->thread, NULL);
    pthread_cond_destroy(&a->wake);
    pthread_mutex_destroy(&a->lock);
    free(a);
}
