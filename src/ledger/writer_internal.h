/* ledger, inside: the ledger that is open for writing. ledger.c opens and closes it and takes entries;
 * writer.c is its thread; group.c puts entries into the store.
 */
#ifndef SRN_LEDGER_WRITER_INTERNAL_H
#define SRN_LEDGER_WRITER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "ledger/ledger_internal.h"

/* An entry that was taken: a copy, in one piece of memory with its texts. */
typedef struct srn__item {
    struct srn__item *next;
    srn_record *record;
    srn__row row; /* without its place in the chain */
    srn_ledger_doc doc;
    size_t bytes;
    uint64_t since_us; /* when it came, on the monotonic clock */
    bool durable;
    int code; /* what became of it in a group: SRN_OK or SRN_EEXIST */
    void (*done)(void *ctx, int code, const srn_err *why);
    void *ctx;
} srn__item;

typedef struct srn__list { /* in the order of arrival */
    srn__item *first, *last;
    uint32_t n, n_durable;
    uint64_t bytes;
} srn__list;

typedef struct srn__lost {      /* entries that nobody will see again, until an event says so */
    uint64_t n, from_us, to_us; /* Unix time */
} srn__lost;

struct srn_ledger {
    srn__home at;
    srn_ledger_opts o;
    _Atomic uint64_t retention_us, max_bytes; /* in the place of those of o */
    srn_ledger_keys *keys;
    int lock_fd;

    /* the writer's thread alone, and open and close before and after it */
    srn__store *store;
    struct srn__retain *retain;
    srn__tail tail;
    srn__tail unsure; /* where the chain ends if the last commit, which gave no answer, is stored */
    srn_buf made;     /* the checkpoint of the group under way, or "" */
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work;  /* on the monotonic clock */
    srn__list queue;      /* have their place; the writer commits from its front */
    srn__list outside;    /* wait for one */
    srn__lost lost;       /* not told in the chain yet */
    srn_buf checkpoint;   /* the newest that is committed, or "" */
    bool ending;
    bool failing; /* the last commit failed; trouble says why */
    srn_err trouble;
    srn_ledger_stats stats; /* but queued, waiting, healthy */
    char address[200];      /* that was announced, or "" */
};

/* ---- group.c: the writer's thread ---- */

/* Puts the entries from `first` on, n of them, into one transaction; code of each says what became of it.
 * Then `lost` (or NULL), as an event, and with `sign` a checkpoint. An entry of kind CHECKPOINT has no body:
 * it gets one here. Nothing is stored on failure, unless *ret_unknown. */
int srn__group_commit(srn_ledger *l, srn__item *first, uint32_t n, const srn__lost *lost, bool sign,
                      bool *ret_unknown, srn_err *err);
/* After a group whose outcome is unknown: whether it is stored. */
int srn__group_resolve(srn_ledger *l, bool *ret_stored, srn_err *err);
/* Closes every open intent of processes that are gone with a CALL that says "interrupted", and tells of them
 * in an event. */
int srn__group_interrupt(srn_ledger *l, uint64_t *ret_n, srn_err *err);

/* ---- ledger.c ---- */

/* srn_ledger_append for the ledger's own kinds too. */
int srn__ledger_append_own(srn_ledger *l, const srn_entry *e, srn_err *err);

int srn__item_new(const srn_entry *e, srn__item **ret, srn_err *err);
void srn__item_free(srn__item *item);
void srn__list_push(srn__list *list, srn__item *item);
srn__item *srn__list_pop(srn__list *list); /* NULL: it is empty */

/* ---- writer.c ---- */

void *srn__writer_main(void *ledger);
/* Whether the item has a place in the queue now; under the lock. */
bool srn__writer_has_room(const srn_ledger *l, const srn__item *item);

#endif
