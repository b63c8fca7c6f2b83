/* Roll-outs that ended long ago: what is kept of them so that no start revives what a verdict has ended. The
 * list of the roll-outs (rollouts.c) has one, under its lock. Refuses more than MOST, which is two hundred
 * bytes each.
 */
#include <stdlib.h>

#include "serve/rollout.h"

enum { MOST = 100000 };

typedef struct one {
    char hash[65], own[65]; /* of its declaration: of its day, and as it is read today */
    bool latched;
} one;

struct srn__past {
    one *list;
    size_t n;
};

static one *find(const srn__past *p, const char *hash) {
    for (size_t i = 0; p && hash && i < p->n; i++)
        if (strcmp(p->list[i].hash, hash) == 0 || strcmp(p->list[i].own, hash) == 0) return &p->list[i];
    return NULL;
}

bool srn__past_add(srn__past **past, const char *hash, const char *own, bool latched) {
    if (!*past && !(*past = srn_calloc(1, sizeof **past))) return false;
    srn__past *p = *past;
    one *o = find(p, hash);
    if (!o && p->n == MOST) return false;
    if (!o && (p->n & (p->n - 1)) == 0) { /* full, at a power of two */
        one *grown = srn_realloc_array(p->list, p->n ? 2 * p->n : 1, sizeof *grown);
        if (!grown) return false;
        p->list = grown;
    }
    if (!o) o = &p->list[p->n++];
    *o = (one){.latched = latched};
    snprintf(o->hash, sizeof o->hash, "%s", hash);
    snprintf(o->own, sizeof o->own, "%s", own);
    return true;
}

bool srn__past_knows(const srn__past *p, const char *hash, bool *ret_latched) {
    const one *o = find(p, hash);
    if (ret_latched) *ret_latched = o && o->latched;
    return o != NULL;
}

void srn__past_free(srn__past *p) {
    if (p) free(p->list);
    free(p);
}
