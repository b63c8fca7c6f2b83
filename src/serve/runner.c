/* serve: a thread that does pieces of work one after the other, from a short queue (background.h). Each piece
 * that was taken is run exactly once; a cancellation makes that quick. Any thread pushes and cancels.
 */
#include <pthread.h>
#include <stdlib.h>

#include "serve/background.h"

struct srn__runner {
    pthread_mutex_t lock; /* guards all below but the thread */
    pthread_cond_t work;
    srn__task *first, *running;
    uint32_t n, queue;
    bool ending;
    char name[16];
    pthread_t thread;
};

static void *runner_main(void *p) {
    srn__runner *r = p;
    pthread_setname_np(pthread_self(), r->name);
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (!r->first && !r->ending) pthread_cond_wait(&r->work, &r->lock);
        srn__task *t = r->first;
        if (!t) break;
        r->first = t->next;
        r->n--;
        r->running = t;
        pthread_mutex_unlock(&r->lock);
        t->run(t);
        pthread_mutex_lock(&r->lock);
        r->running = NULL;
        pthread_mutex_unlock(&r->lock);
        t->drop(t);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

int srn__runner_new(const char *name, uint32_t queue, srn__runner **ret, srn_err *err) {
    srn__runner *r = srn_calloc(1, sizeof *r);
    if (!r) return srn_fail_nomem(err, sizeof *r);
    r->queue = queue;
    snprintf(r->name, sizeof r->name, "%s", name);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->work, NULL);
    if (pthread_create(&r->thread, NULL, runner_main, r)) {
        pthread_cond_destroy(&r->work);
        pthread_mutex_destroy(&r->lock);
        free(r);
        return srn_fail(err, SRN_ENOMEM, "cannot start a thread for work in the background");
    }
    *ret = r;
    return SRN_OK;
}

int srn__runner_push(srn__runner *r, srn__task *t, srn_err *err) {
    int code = SRN_OK;
    pthread_mutex_lock(&r->lock);
    if (r->ending)
        code = srn_fail(err, SRN_ECANCELLED, "the server is shutting down");
    else if (r->n == r->queue)
        code = srn_fail(err, SRN_EBUSY, "%u of them wait already; ask again when one has ended", r->n);
    if (!code) {
        srn__task **end = &r->first;
        while (*end) end = &(*end)->next;
        t->next = NULL;
        *end = t;
        r->n++;
        pthread_cond_signal(&r->work);
    }
    pthread_mutex_unlock(&r->lock);
    return code;
}

void srn__runner_cancel(srn__runner *r) {
    pthread_mutex_lock(&r->lock);
    for (srn__task *t = r->first; t; t = t->next) t->cancel(t);
    if (r->running) r->running->cancel(r->running);
    pthread_mutex_unlock(&r->lock);
}

void srn__runner_end(srn__runner *r) {
    pthread_mutex_lock(&r->lock);
    r->ending = true;
    pthread_cond_signal(&r->work);
    pthread_mutex_unlock(&r->lock);
    srn__runner_cancel(r);
}

void srn__runner_free(srn__runner *r) {
    if (!r) return;
    srn__runner_end(r);
    pthread_join(r->thread, NULL);
    pthread_cond_destroy(&r->work);
    pthread_mutex_destroy(&r->lock);
    free(r);
}
