/* The thread that proves, behind the answers, that models in memory are what their ids say. A model whose
 * weights id came from the cache of digests is hashed in full; then, as long as it is loaded, its files'
 * sizes and times are looked at, since tables that are only looked up are used where they are mapped. One
 * thread for all models, which the system runs when nobody else wants the processor or the disk. A mismatch
 * is told once; the model goes on answering, for only its operator knows what is worse.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "serve/serve_internal.h"

#define LOOK_SECONDS 10 /* between two looks at the files' times */

struct srn__verifier {
    srn__models *models;
    srn__models_tell *tell; /* may be NULL */
    void *tell_ctx;
    pthread_t thread;
    atomic_bool stop;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t moved;
    bool running, woken;
};

/* One model that is held, and what is wrong with it. */
typedef struct picked {
    srn__served *v;
    srn_err why;
} picked;

static void hold(picked *p, srn__served *v) {
    atomic_fetch_add(&v->refs, 1);
    p->v = v;
}

static void pick_unverified(void *ctx, const srn_config_model *c, srn__served *v) {
    picked *p = ctx;
    (void)c;
    if (!p->v && v && !atomic_load(&v->leaving) && atomic_load(&v->verified) == SRN__UNVERIFIED) hold(p, v);
}

static void pick_changed(void *ctx, const srn_config_model *c, srn__served *v) {
    picked *p = ctx;
    (void)c;
    if (!p->v && v && atomic_load(&v->verified) == SRN__VERIFIED &&
        srn_weights_unchanged(srn_engine_weights(v->engine), &p->why))
        hold(p, v);
}

static void alarm_of(srn__verifier *x, picked *p) {
    atomic_store(&p->v->verified, SRN__MISMATCH);
    if (x->tell) x->tell(x->tell_ctx, p->v->name, p->v, &p->why);
}

typedef struct stopper {
    const srn__verifier *x;
    const srn__served *v;
} stopper;

static bool is_stopped(void *ctx) {
    const stopper *s = ctx;
    return atomic_load_explicit(&s->x->stop, memory_order_relaxed) ||
           atomic_load_explicit(&s->v->leaving, memory_order_relaxed);
}

/* False when there was nothing to do, or no memory for it. */
static bool verify_one(srn__verifier *x) {
    picked p = {0};
    srn__models_each(x->models, pick_unverified, &p);
    if (!p.v) return false;
    stopper s = {x, p.v};
    srn_reading_opts o = {.stop = is_stopped, .stop_ctx = &s};
    int code = srn_engine_verify(p.v->engine, p.v->ids.weights, &o, &p.why);
    if (!code)
        atomic_store(&p.v->verified, SRN__VERIFIED);
    else if (code != SRN_ECANCELLED && code != SRN_ENOMEM)
        alarm_of(x, &p);
    srn__served_put(p.v);
    return code != SRN_ENOMEM;
}

static bool look_at_times(srn__verifier *x) {
    picked p = {0};
    srn__models_each(x->models, pick_changed, &p);
    if (!p.v) return false;
    alarm_of(x, &p);
    srn__served_put(p.v);
    return true;
}

/* Sleeps until something was loaded, or it is time to look. */
static void rest(srn__verifier *x) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LOOK_SECONDS;
    pthread_mutex_lock(&x->lock);
    int waited = 0;
    while (!x->woken && !atomic_load(&x->stop) && waited == 0)
        waited = pthread_cond_timedwait(&x->moved, &x->lock, &until);
    x->woken = false;
    pthread_mutex_unlock(&x->lock);
}

static void *verify(void *ctx) {
    srn__verifier *x = ctx;
    struct sched_param none = {0};
    pthread_setname_np(pthread_self(), "serin-verify");
    pthread_setschedparam(pthread_self(), SCHED_IDLE, &none);
#ifdef SYS_ioprio_set
    syscall(SYS_ioprio_set, 1 /* this thread */, 0, 3 << 13 /* idle */);
#endif
    while (!atomic_load(&x->stop))
        if (!verify_one(x) && !look_at_times(x)) rest(x);
    return NULL;
}

int srn__verifier_new(srn__models *m, srn__models_tell *tell, void *tell_ctx, srn__verifier **ret,
                      srn_err *err) {
    srn__verifier *x = srn_calloc(1, sizeof *x);
    pthread_condattr_t monotonic;
    if (!x) return srn_fail_nomem(err, sizeof *x);
    x->models = m;
    x->tell = tell;
    x->tell_ctx = tell_ctx;
    pthread_mutex_init(&x->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&x->moved, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *ret = x;
    return SRN_OK;
}

void srn__verifier_wake(srn__verifier *x) {
    pthread_mutex_lock(&x->lock);
    if (!x->running) x->running = pthread_create(&x->thread, NULL, verify, x) == 0;
    x->woken = true;
    pthread_cond_signal(&x->moved);
    pthread_mutex_unlock(&x->lock);
}

void srn__verifier_free(srn__verifier *x) {
    if (!x) return;
    pthread_mutex_lock(&x->lock);
    atomic_store(&x->stop, true);
    pthread_cond_signal(&x->moved);
    bool running = x->running;
    pthread_mutex_unlock(&x->lock);
    if (running) pthread_join(x->thread, NULL);
    pthread_cond_destroy(&x->moved);
    pthread_mutex_destroy(&x->lock);
    free(x);
}
