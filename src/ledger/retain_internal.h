/* ledger, inside: retention. The writer's thread calls these between its groups. */
#ifndef SRN_LEDGER_RETAIN_INTERNAL_H
#define SRN_LEDGER_RETAIN_INTERNAL_H

#include "ledger/writer_internal.h"

typedef enum srn__retaining {
    SRN__RETAIN_REST,
    SRN__RETAIN_WALK,  /* checking what is to go, and finding how far */
    SRN__RETAIN_SIGN,  /* a tombstone is on its way into the chain */
    SRN__RETAIN_DROP,  /* it stands: what it names goes */
    SRN__RETAIN_SHRINK /* free pages are given back */
} srn__retaining;

typedef struct srn__passed { /* a record, and what was found up to it */
    uint64_t seq, epoch, t_us;
    uint8_t hash[SRN_SHA256_BYTES];
    uint8_t kept[SRN_SHA256_BYTES]; /* over the events, from the ledger's first on */
    uint64_t n_kept;
    uint64_t n_old, bytes; /* to be dropped, and about what they take */
} srn__passed;

typedef struct srn__retain {
    srn__retaining doing;
    srn__tombstone floor, next_floor;   /* the newest (to 0: none), and the one on its way */
    srn__passed at, hour;               /* of a walk: here, and where an hour ended (seq 0: nowhere) */
    uint64_t until_us, want_bytes, end; /* it goes so far: older than, or as much as, and never this record */
    bool reached, broken;
    uint64_t drop_from;
    uint64_t check_at_us; /* on the monotonic clock */
    bool stopped;         /* the chain is broken: nothing is dropped any more */
    bool failing;         /* the last step failed, and that was said */
} srn__retain;

/* Finds where the last retention ended. */
int srn__retain_open(srn_ledger *l, srn_err *err);
void srn__retain_close(srn_ledger *l);
/* Does a little, in a few milliseconds. When there is more to do, on the monotonic clock; UINT64_MAX: not
 * before something is committed. */
uint64_t srn__retain_step(srn_ledger *l, uint64_t now_us);

#endif
