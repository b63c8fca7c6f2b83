/* The models in memory, inside: what is loaded (slots) and which names a configuration gives to it (views).
 * models.c has both and answers requests; served.c makes and closes one loaded model; models_reload.c changes
 * from one configuration to the next.
 */
#ifndef SRN_SERVE_MODELS_INTERNAL_H
#define SRN_SERVE_MODELS_INTERNAL_H

#include <pthread.h>

#include "serve/serve_internal.h"

typedef enum srn__slot_state {
    SRN__SLOT_UNLOADED,
    SRN__SLOT_LOADING,
    SRN__SLOT_LOADED,
    SRN__SLOT_UNLOADING
} srn__slot_state;

/* A place for one model as it is described: the file, and what decides the memory that it takes. Views of
 * several configurations share it where they describe it alike. */
typedef struct srn__slot {
    atomic_uint refs;        /* of its memory: those that name it, what is loaded in it, who loads it */
    srn_config_model config; /* its strings in own; without aliases */
    srn_arena own;
    /* under the lock of the models */
    uint32_t named; /* by so many views, and by the list of those that were added; 0: it goes */
    srn__slot_state state;
    srn__served *served; /* while LOADED: the slot's own hold */
    uint64_t failed_us;  /* when it could not be loaded; 0: it never failed */
} srn__slot;

/* What a configuration calls its models. Immutable once it is in the list. */
struct srn__view {
    const srn_config *config;
    srn__slot **slots; /* [config->n_models], held */
    struct srn__view *next;
};

/* Who is told when the load that is under way has ended. */
typedef struct srn__load_waiter {
    void (*again)(void *ctx);
    void *ctx;
} srn__load_waiter;

struct srn__models {
    srn_scheduler *scheduler;
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t changed;
    srn__view *views;  /* newest first; never empty */
    srn__slot **added; /* [n_added], held: by /v1/models/load, with a file of its own */
    uint32_t n_added;
    bool loading, unloading;   /* one model at a time */
    srn__load_waiter *waiters; /* [n_waiters], none but while loading */
    size_t n_waiters;
    uint32_t n_closing;     /* threads that close models */
    srn__models_tell *tell; /* may be NULL */
    void *tell_ctx;
    srn__verifier *verifier;
};

/* ---- served.c ---- */

/* Loads what the slot describes and hands it to the scheduler; tells of it. */
int srn__served_new(srn__models *m, srn__slot *slot, srn_progress_fn *progress, void *ctx, srn__served **ret,
                    srn_err *err);

/* ---- models.c ---- */

int srn__slot_new(const srn_config_model *c, srn__slot **ret, srn_err *err); /* named once */
void srn__slot_put(srn__slot *s);                                            /* of its memory; NULL is fine */
/* One name less: the last one lets go of what is loaded in it. Not under the lock. */
void srn__slot_leave(srn__models *m, srn__slot *s);
int srn__view_new(const srn_config *c, srn__view **ret, srn_err *err); /* its slots are NULL yet */
void srn__view_free(srn__models *m, srn__view *v); /* leaves its slots; not under the lock */
/* The load that is under way, m->loading, has ended: tells those that waited. Not under the lock. */
void srn__models_loaded(srn__models *m);

#endif
