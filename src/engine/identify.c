/* Opening a model together with its weights id, so that the id is that of the bytes that were loaded: they
 * are hashed by a thread of its own while the device packs them, and what both have read is compared. Where
 * the digest is cached nothing is hashed, and whoever opened the model verifies it afterwards. Called by the
 * thread that opens; its progress goes on when packing is done before hashing.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "engine/engine_internal.h"

#define TOLD_EACH ((uint64_t)16 << 20) /* bytes between two signs of progress */

typedef struct opening {
    const srn_engine_opts *o; /* the caller's */
    char *ret_id;
    bool known; /* by the cache */

    srn_reading *reading;
    bool running; /* the thread was started */
    pthread_t thread;
    atomic_bool stop;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t moved;
    uint64_t done, total;
    bool ended;
    int code;
    srn_err err;
} opening;

/* ---- the thread that hashes ---- */

static bool is_stopped(void *ctx) {
    opening *p = ctx;
    return atomic_load_explicit(&p->stop, memory_order_relaxed) || (p->o->cancel && *p->o->cancel);
}

static void tell_moved(void *ctx, const char *what, uint64_t done, uint64_t total) {
    opening *p = ctx;
    (void)what;
    if (done < p->done + TOLD_EACH && done < total) return; /* done is written by this thread alone */
    pthread_mutex_lock(&p->lock);
    p->done = done;
    p->total = total;
    pthread_cond_signal(&p->moved);
    pthread_mutex_unlock(&p->lock);
}

static void *hash(void *ctx) {
    opening *p = ctx;
    srn_err err = {0};
    srn_reading_opts o = {.progress = tell_moved, .progress_ctx = p, .stop = is_stopped, .stop_ctx = p};
    int code = srn_reading_run(p->reading, &o, &err);
    pthread_mutex_lock(&p->lock);
    p->code = code;
    p->err = err;
    p->ended = true;
    pthread_cond_signal(&p->moved);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- the thread that opens ---- */

static int before_load(void *ctx, srn_engine *e, srn_err *err) {
    opening *p = ctx;
    int code = p->o->before_load ? p->o->before_load(p->o->before_load_ctx, e, err) : SRN_OK;
    if (!code) code = srn_weights_watch(e->weights, err);
    if (code) return code;
    p->known = srn_weights_known_id(e->weights, p->ret_id);
    if (p->known) return SRN_OK;
    code = srn_reading_new(e->weights, &p->reading, err);
    if (code) return code;
    if (pthread_create(&p->thread, NULL, hash, p))
        return srn_fail(err, SRN_ENOMEM, "the system gives no thread to hash the weights");
    p->running = true;
    return SRN_OK;
}

/* Until the thread is done; shows how far it is. */
static void wait_for_hash(opening *p) {
    pthread_mutex_lock(&p->lock);
    while (!p->ended) {
        pthread_cond_wait(&p->moved, &p->lock);
        uint64_t done = p->done, total = p->total;
        pthread_mutex_unlock(&p->lock);
        if (p->o->progress && total) p->o->progress(p->o->progress_ctx, "hashing", done, total);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
}

static int finish_hash(opening *p, srn_err *err) {
    if (p->code) {
        if (err) *err = p->err;
        return p->code;
    }
    int code = srn_reading_check(p->reading, err);
    if (!code) memcpy(p->ret_id, srn_reading_id(p->reading), 65);
    return code;
}

int srn_engine_open_identified(const char *path, const srn_engine_opts *opts, char ret_id[65],
                               bool *ret_verified, srn_engine **ret, srn_err *err) {
    static const srn_engine_opts none;
    char id[65] = "";
    opening p = {.o = opts ? opts : &none, .ret_id = id};
    srn_engine_opts o = *p.o;
    srn_engine *e = srn_calloc(1, sizeof *e);
    if (!e) return srn_fail_nomem(err, sizeof *e);
    o.before_load = before_load;
    o.before_load_ctx = &p;
    pthread_mutex_init(&p.lock, NULL);
    pthread_cond_init(&p.moved, NULL);
    int code = srn__engine_fill(e, path, &o, err);
    if (code) atomic_store(&p.stop, true);
    if (p.running) wait_for_hash(&p); /* it reads the engine's files */
    if (!code && p.running) code = finish_hash(&p, err);
    srn_reading_free(p.reading);
    pthread_cond_destroy(&p.moved);
    pthread_mutex_destroy(&p.lock);
    if (code) {
        srn_engine_close(e);
        return code;
    }
    memcpy(ret_id, id, sizeof id);
    *ret_verified = !p.known;
    *ret = e;
    return SRN_OK;
}

int srn_engine_verify(const srn_engine *e, const char *id, const srn_reading_opts *o, srn_err *err) {
    srn_reading *r = NULL;
    int code = srn_reading_new(e->weights, &r, err);
    if (!code) code = srn_reading_run(r, o, err);
    if (!code && strcmp(srn_reading_id(r), id) != 0)
        code =
            srn_fail(err, SRN_EFORMAT,
                     "%s: the weights id is %s, and the model was loaded as %s, the digest that was cached: "
                     "the file was changed behind its times, or the disk is failing; what this model "
                     "answers is not what its id says",
                     srn_weights_path(e->weights), srn_reading_id(r), id);
    if (!code) code = srn_reading_check(r, err);
    srn_reading_free(r);
    return code;
}
