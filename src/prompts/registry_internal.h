/* prompts, inside: the registry in memory. A snapshot and all below it never change once others can see them;
 * a change makes a new snapshot that shares what stayed. */
#ifndef SRN_PROMPTS_REGISTRY_INTERNAL_H
#define SRN_PROMPTS_REGISTRY_INTERNAL_H

#include <pthread.h>

#include "prompts/prompts_internal.h"

/* One move of a label, in the order of time. */
typedef struct srn__move {
    char label[SRN_PROMPT_LABEL_MAX + 1];
    uint32_t from, to; /* versions; 0: it pointed nowhere */
    char by[128];
    uint64_t at_us; /* Unix time */
} srn__move;

/* A prompt: all its versions, and all moves of its labels. */
typedef struct srn__entry {
    atomic_uint refs;
    char name[SRN_PROMPT_NAME_MAX + 1];
    srn__version **versions; /* [n_versions]; that of number v stands at v - 1 */
    uint32_t n_versions;
    srn__move *moves;
    size_t n_moves;
} srn__entry;

typedef struct srn__snapshot {
    atomic_uint refs;
    srn__entry **entries; /* [n], by name */
    size_t n;
} srn__snapshot;

struct srn_prompts {
    srn_ledger *ledger;      /* NULL: only for reading */
    pthread_mutex_t lock;    /* guards the pointer now */
    pthread_mutex_t writing; /* held from the look at the newest version to the swap of the snapshot */
    srn__snapshot *now;
};

/* The snapshot of this moment, with a hold. */
srn__snapshot *srn__prompts_hold(srn_prompts *p);
void srn__prompts_drop(srn__snapshot *s);
const srn__entry *srn__prompts_find(const srn__snapshot *s, const char *name, srn_err *err);
const srn__version *srn__prompts_which(const srn__entry *e, const srn_prompt_ref *ref,
                                       char ret_label[SRN_PROMPT_LABEL_MAX + 1], srn_err *err);
/* The version that a label points at, 0 for none. */
uint32_t srn__entry_label(const srn__entry *e, const char *label);
/* Each label that points somewhere, once; false of fn ends it. */
void srn__entry_labels(const srn__entry *e, bool (*fn)(void *ctx, const char *label, uint32_t version),
                       void *ctx);

#endif
