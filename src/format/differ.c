/* In which tensors two models differ: what to look at when their digests do. Reads both files once, a piece
 * at a time, and drops the pages behind itself. Called by regress; one thread.
 */
#include "format/format.h"

enum { PIECE = 16 << 20 };

static bool same_form(const srn_tensor *a, const srn_tensor *b) {
    if (a->type != b->type || a->n_dims != b->n_dims || a->n_bytes != b->n_bytes) return false;
    return memcmp(a->ne, b->ne, sizeof a->ne) == 0;
}

static void drop(const srn_weights *w, const srn_tensor *t, uint64_t at, uint64_t n) {
    srn_weights_drop_pages(w, t->part, t->offset + at, t->offset + at + n);
}

typedef struct asked {
    bool (*stop)(void *ctx);
    void *ctx;
    bool stopped;
} asked;

static bool goes_on(asked *s) {
    s->stopped = s->stopped || (s->stop && s->stop(s->ctx));
    return !s->stopped;
}

static bool same_bytes(const srn_weights *wa, const srn_tensor *a, const srn_weights *wb, const srn_tensor *b,
                       asked *s) {
    bool same = true;
    for (uint64_t at = 0; same && at < a->n_bytes && goes_on(s); at += PIECE) {
        uint64_t n = SRN_MIN(a->n_bytes - at, (uint64_t)PIECE);
        same = memcmp((const uint8_t *)a->data + at, (const uint8_t *)b->data + at, (size_t)n) == 0;
        drop(wa, a, at, n);
        drop(wb, b, at, n);
    }
    return same;
}

uint64_t srn_weights_differ(const srn_weights *a, const srn_weights *b,
                            void (*fn)(void *ctx, const char *tensor, srn_difference what), void *ctx,
                            bool (*stop)(void *ctx), void *stop_ctx) {
    asked s = {.stop = stop, .ctx = stop_ctx};
    uint64_t n = 0;
    for (size_t i = 0; i < srn_weights_count(a) && goes_on(&s); i++) {
        const srn_tensor *t = srn_weights_at(a, i), *u = srn_weights_find(b, t->name);
        if (u && t->data && u->data && same_form(t, u) && same_bytes(a, t, b, u, &s)) continue;
        fn(ctx, t->name, !u ? SRN_ONLY_FIRST : same_form(t, u) ? SRN_OTHER_BYTES : SRN_OTHER_FORM);
        n++;
    }
    for (size_t i = 0; i < srn_weights_count(b) && !s.stopped; i++) {
        const srn_tensor *u = srn_weights_at(b, i);
        if (srn_weights_find(a, u->name)) continue;
        fn(ctx, u->name, SRN_ONLY_SECOND);
        n++;
    }
    return n;
}
