/* The thread that makes large records: their content is escaped, compressed and sealed here, so that neither
 * the listener nor an answer of somebody else waits for it. Records come in the order of their ends and are
 * made in it. Started with the ledger; stopped before the HTTP core is freed.
 */
#include "serve/record_internal.h"

static void *run(void *p) {
    srn__recorder *r = p;
    pthread_setname_np(pthread_self(), "serin-recorder");
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (!r->first && !r->ending) pthread_cond_wait(&r->work, &r->lock);
        srn__record *record = r->first;
        if (!record) break;
        r->first = record->next;
        if (!r->first) r->last = NULL;
        pthread_mutex_unlock(&r->lock);
        srn__record_make(record);
        pthread_mutex_lock(&r->lock);
        r->n_made++;
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

int srn__recorder_thread_start(srn__recorder *r, srn_err *err) {
    if (pthread_create(&r->thread, NULL, run, r) != 0)
        return srn_fail(err, SRN_ENOMEM, "cannot start a thread for records: the system refuses more");
    r->has_thread = true;
    return SRN_OK;
}

bool srn__recorder_thread_push(srn__recorder *r, srn__record *record) {
    pthread_mutex_lock(&r->lock);
    bool taken = r->has_thread && !r->ending;
    if (taken) {
        record->next = NULL;
        *(r->last ? &r->last->next : &r->first) = record;
        r->last = record;
        r->n_pushed++;
        pthread_cond_signal(&r->work);
    }
    pthread_mutex_unlock(&r->lock);
    return taken;
}

bool srn__recorder_made(srn__recorder *r, uint64_t *target) {
    pthread_mutex_lock(&r->lock);
    if (!*target) *target = r->n_pushed;
    bool made = r->n_made >= *target;
    pthread_mutex_unlock(&r->lock);
    return made;
}

void srn__recorder_thread_stop(srn__recorder *r) {
    if (!r->has_thread) return;
    pthread_mutex_lock(&r->lock);
    r->ending = true;
    pthread_cond_signal(&r->work);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    pthread_mutex_lock(&r->lock);
    r->has_thread = false;
    pthread_mutex_unlock(&r->lock);
}
