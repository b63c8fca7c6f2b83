/* Copies of calls, for a canary to answer beside the baseline (docs/canary.md, "Shadow"). A copy is a call of
 * its own without a client: the request that the client sent, run by the same handler on the canary, behind
 * everything else that the engine has to do; its reply is computed, recorded and dropped. Made on the worker
 * of the call that is copied, ended on the listener's thread, cancelled from any. Few run at a time and few
 * wait; what finds no room is left out and counted.
 */
#include <stdlib.h>

#include "serve/http_internal.h"
#include "serve/rollout.h"

enum { MOST_RUNNING = 2, MOST_KEPT = 32 };
#define MOST_BYTES (UINT64_C(64) << 20) /* of requests */

/* In the arena of its call. */
struct srn__copy {
    srn__copy *next;
    srn__copies *all;
    srn__call *call; /* with a hold */
    char of[40];     /* id of the call that it is a copy of */
    uint64_t seed, bytes;
    bool runs;
};

struct srn__copies {
    pthread_mutex_t lock; /* guards everything below */
    srn__copy *first, **end;
    uint32_t n_kept, n_running; /* kept: reservations included */
    uint64_t bytes;
    bool ending;
    srn__copies_stats stats;
};

int srn__copies_new(srn__copies **ret, srn_err *err) {
    srn__copies *x = srn_calloc(1, sizeof *x);
    if (!x) return srn_fail_nomem(err, sizeof *x);
    pthread_mutex_init(&x->lock, NULL);
    x->end = &x->first;
    *ret = x;
    return SRN_OK;
}

srn__copies_stats srn__copies_get_stats(srn__copies *x) {
    pthread_mutex_lock(&x->lock);
    srn__copies_stats s = x->stats;
    s.n_open = x->n_kept;
    pthread_mutex_unlock(&x->lock);
    return s;
}

/* ---- room ---- */

bool srn__copies_reserve(srn__copies *x, const srn__call *c) {
    if (!x || srn__http_unready(c->http)) return false;
    pthread_mutex_lock(&x->lock);
    bool room = !x->ending && x->n_kept < MOST_KEPT && x->bytes + c->body.len <= MOST_BYTES;
    if (room)
        x->n_kept++, x->bytes += c->body.len;
    else
        x->stats.n_skipped++;
    pthread_mutex_unlock(&x->lock);
    return room;
}

void srn__copies_release(srn__copies *x, const srn__call *c) {
    pthread_mutex_lock(&x->lock);
    x->n_kept--;
    x->bytes -= c->body.len;
    pthread_mutex_unlock(&x->lock);
}

/* ---- making one ---- */

static bool copy_text(srn__call *to, const char *text, const char **ret) {
    *ret = text ? srn_arena_strndup(&to->arena, text, strlen(text)) : NULL;
    return !text || *ret;
}

static bool copy_request(srn__call *to, const srn__call *c) {
    to->key = c->key;
    to->route = c->route;
    to->dialect = c->dialect;
    to->headers = srn_arena_alloc(&to->arena, (c->n_headers + 1) * sizeof *to->headers);
    bool whole = to->headers && copy_text(to, c->method, &to->method) && copy_text(to, c->path, &to->path);
    for (uint32_t i = 0; whole && i < c->n_headers; i++, to->n_headers++)
        whole = copy_text(to, c->headers[i].name, &to->headers[i].name) &&
                copy_text(to, c->headers[i].value, &to->headers[i].value);
    srn_buf_init(&to->body, c->body.max);
    return whole && srn_buf_add(&to->body, c->body.data, c->body.len);
}

static srn__copy *copy_new(srn__copies *x, srn__call *c, uint64_t seed) {
    srn__call *to = srn__call_new(c->http, c->settings);
    srn__copy *k = to ? srn_arena_alloc(&to->arena, sizeof *k) : NULL;
    if (!k || !copy_request(to, c) || !srn__assign_copy(to, c->assigned)) {
        if (to) to->route = NULL; /* it leaves no record */
        srn__call_drop(to);
        return NULL;
    }
    *k = (srn__copy){.all = x, .call = to, .seed = seed, .bytes = c->body.len};
    snprintf(k->of, sizeof k->of, "%s", c->id);
    to->copy = k;
    return k;
}

/* ---- running and ending ---- */

static void unlink_copy(srn__copies *x, srn__copy *k) {
    for (srn__copy **at = &x->first; *at; at = &(*at)->next)
        if (*at == k) {
            *at = k->next;
            break;
        }
    x->end = &x->first;
    while (*x->end) x->end = &(*x->end)->next;
    x->n_kept--;
    x->bytes -= k->bytes;
    x->n_running -= k->runs;
}

/* It is in no list any more. What never ran leaves no record. */
static void drop(srn__copy *k) {
    if (!k->runs) k->call->route = NULL;
    srn__call_finish(k->call);
    srn__call_drop(k->call);
}

/* Those that may run now are given to the workers. */
static void run_next(srn__copies *x) {
    for (;;) {
        pthread_mutex_lock(&x->lock);
        srn__copy *k = x->first;
        while (k && k->runs) k = k->next;
        if (x->n_running >= MOST_RUNNING || x->ending) k = NULL;
        if (k) k->runs = true, x->n_running++;
        bool pushed = !k || srn__workers_push(k->call->http->workers, k->call, false);
        if (!pushed) {
            unlink_copy(x, k);
            k->runs = false;
            x->stats.n_skipped++;
        }
        pthread_mutex_unlock(&x->lock);
        if (!pushed) drop(k);
        if (!k) return;
    }
}

void srn__copies_begin(srn__call *c, uint64_t seed) {
    srn__assigned *a = c->assigned;
    srn__copies *x = srn__call_copies(c);
    if (!a || !a->copied) return;
    a->copied = false;
    srn__copy *k = copy_new(x, c, seed);
    if (!k) return srn__copies_release(x, c);
    pthread_mutex_lock(&x->lock);
    bool late = x->ending;
    *x->end = k;
    x->end = &k->next;
    x->stats.n_made += !late;
    if (late) unlink_copy(x, k);
    pthread_mutex_unlock(&x->lock);
    if (late)
        drop(k);
    else
        run_next(x);
}

void srn__copy_ready(srn__call *c) {
    srn__copy *k = c->copy;
    int status = 200;
    if (c->complete || !srn__call_due(c)) return;
    if (c->ops) {
        int end = c->ops->pull(c->source, &c->out, &status);
        srn_buf_clear(&c->out);
        if (!end) return;
        c->source_done = true;
        pthread_mutex_lock(&c->lock);
        if (!c->streamed && !c->cancelled) c->status = status;
        pthread_mutex_unlock(&c->lock);
    }
    c->stage = SRN__STAGE_REPLY;
    c->complete = true;
    c->ended_us = srn_now_us();
    srn__copies *x = k->all;
    pthread_mutex_lock(&x->lock);
    unlink_copy(x, k);
    pthread_mutex_unlock(&x->lock);
    drop(k);
    run_next(x);
}

/* Those that wait end here; those that run say so soon, and their replies are pulled as any. */
void srn__copies_cancel(srn__copies *x, const char *hash) {
    srn__copy *gone = NULL;
    pthread_mutex_lock(&x->lock);
    for (srn__copy *k = x->first, *next; k; k = next) {
        next = k->next;
        if (hash && strcmp(k->call->assigned->of->declared->hash, hash) != 0) continue;
        x->stats.n_cancelled++;
        if (k->runs) {
            pthread_mutex_lock(&k->call->lock);
            k->call->cancelled = true;
            if (x->ending) k->call->gone = true; /* what it waits for may come when the workers have left */
            if (k->call->ops) k->call->ops->cancel(k->call->source);
            pthread_mutex_unlock(&k->call->lock);
            continue;
        }
        unlink_copy(x, k);
        k->next = gone;
        gone = k;
    }
    pthread_mutex_unlock(&x->lock);
    for (srn__copy *k = gone, *next; k; k = next) {
        next = k->next;
        drop(k);
    }
}

void srn__copies_end(srn__copies *x) {
    if (!x) return;
    pthread_mutex_lock(&x->lock);
    x->ending = true;
    pthread_mutex_unlock(&x->lock);
    srn__copies_cancel(x, NULL);
}

void srn__copies_finish(srn__copies *x) {
    for (srn__copy *k; x && (k = x->first) != NULL;) {
        unlink_copy(x, k);
        drop(k);
    }
}

void srn__copies_free(srn__copies *x) {
    if (!x) return;
    pthread_mutex_destroy(&x->lock);
    free(x);
}

/* ---- what a copy is ---- */

const char *srn__copy_of(const srn__call *c) {
    return c->copy ? c->copy->of : NULL;
}

void srn__copy_seed(const srn__call *c, uint64_t *seed) {
    if (c->copy) *seed = c->copy->seed;
}
