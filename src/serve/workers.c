/* serve: a few threads that run handlers, so that parsing, rendering and tokenizing never hold up the
 * listener. A bounded queue, first come first served. The listener pushes; the pool's owner frees it when
 * nobody pushes any more.
 */
#include <stdlib.h>

#include "serve/http_internal.h"

struct srn__workers {
    pthread_mutex_t lock; /* guards all below but threads */
    pthread_cond_t work;
    srn__call *first, *last;
    uint32_t n_queued, queue;
    bool ending;
    uint32_t n;
    pthread_t threads[];
};

static void *worker_main(void *p) {
    srn__workers *w = p;
    pthread_setname_np(pthread_self(), "serin-worker");
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->first && !w->ending) pthread_cond_wait(&w->work, &w->lock);
        srn__call *c = w->first;
        if (!c) break;
        w->first = c->next_waiting;
        if (!w->first) w->last = NULL;
        w->n_queued--;
        pthread_mutex_unlock(&w->lock);
        srn__call_run(c);
        srn__call_drop(c);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

int srn__workers_new(uint32_t n, uint32_t queue, srn__workers **ret, srn_err *err) {
    srn__workers *w = srn_calloc(1, sizeof *w + n * sizeof w->threads[0]);
    if (!w) return srn_fail_nomem(err, sizeof *w);
    w->queue = queue;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    while (w->n < n && pthread_create(&w->threads[w->n], NULL, worker_main, w) == 0) w->n++;
    if (w->n < n) {
        srn__workers_free(w);
        return srn_fail(err, SRN_ENOMEM, "cannot start %u worker threads: the system refuses more", n);
    }
    *ret = w;
    return 0;
}

bool srn__workers_push(srn__workers *w, srn__call *c, bool again) {
    pthread_mutex_lock(&w->lock);
    bool room = again || w->n_queued < w->queue;
    if (room) {
        srn__call_hold(c);
        c->next_waiting = NULL;
        *(w->last ? &w->last->next_waiting : &w->first) = c;
        w->last = c;
        w->n_queued++;
        pthread_cond_signal(&w->work);
    }
    pthread_mutex_unlock(&w->lock);
    return room;
}

void srn__workers_free(srn__workers *w) {
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->ending = true;
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    for (uint32_t i = 0; i < w->n; i++) pthread_join(w->threads[i], NULL);
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
