/* One sequence's way through a constraint: which tokens may come next, moving on, taking back. Belongs to one
 * thread. A mask is made by walking the trie of tokens with the sets' transitions. What the walk finds within
 * a set's shape is kept, so that a string in one object costs nothing new in the next; only the tokens that
 * leave what the shape knows are walked again in the real set.
 */
#include "constrain/constrain_internal.h"

#include <stdlib.h>

/* Tokens that can be taken back. */
#define HISTORY 128u
/* Operations, of which one takes about a tenth of a microsecond: what the first mask may cost, which is best
 * made before anybody waits for it; what any later token with its mask may; and what they may on average.
 * Others wait for a step's masks, so that no grammar may take long, whatever it is. Common ones need some
 * thousand for their first masks, then next to none. */
#define FIRST   4000000u
#define SAVINGS 1000000u
#define INCOME  100000u
/* Bytes of sets in use that call for a collection, and of masks that are kept. */
#define COLLECT_BYTES  ((uint64_t)8 << 20)
#define MAX_MASK_BYTES ((uint64_t)8 << 20)
/* A walk of fewer nodes is not worth keeping. */
#define SHORT_WALK 256u
/* No token is so long. */
#define ALL_THE_WAY UINT32_MAX

/* A place in the text. */
typedef struct moment {
    uint32_t set;
    bool started; /* a token or byte was accepted */
    bool ended;   /* so was an end token */
} moment;

struct srn_matcher {
    srn_constraint *c;
    const srn_token_trie *t;
    srn__cache *k;
    moment now;
    moment past[HISTORY]; /* ring; past[(n_past - 1) % HISTORY] is the last */
    uint32_t n_past, n_kept;
    uint64_t credit; /* operations that may still be spent */
};

/* ---- the cache ---- */

static void drop_mask(srn__cache *k, srn__mask *m) {
    free(m->bits);
    free(m->open);
    k->mask_bytes -= m->bytes;
    *m = (srn__mask){0};
}

static void drop_masks(srn__cache *k) {
    for (uint32_t i = 0; i < SRN__MASK_SLOTS; i++) drop_mask(k, &k->masks[i]);
}

void srn__cache_free(srn__cache *k) {
    if (!k) return;
    drop_masks(k);
    srn__sets_done(&k->sets);
    free(k->stack);
    free(k->path);
    free(k->escaped);
    free(k->open);
    free(k);
}

/* Makes the cache fit the trie. */
static int bind_cache(srn__cache *k, const srn_token_trie *t, srn_err *err) {
    if (k->trie_id == t->id && k->stack) return SRN_OK;
    drop_masks(k);
    k->trie_id = t->id;
    free(k->stack);
    free(k->path);
    free(k->escaped);
    k->stack = srn_calloc((size_t)t->most_bytes + 1, sizeof *k->stack);
    k->path = srn_calloc((size_t)t->most_bytes + 1, sizeof *k->path);
    k->escaped = srn_calloc((size_t)t->most_bytes + 1, 1);
    if (k->stack && k->path && k->escaped) return SRN_OK;
    return srn_fail_nomem(err, t->most_bytes * sizeof *k->stack);
}

static srn__mask *slot_of(srn__cache *k, uint32_t shape, uint32_t ahead) {
    return &k->masks[((shape * 64 + ahead % 64) * 0x9E3779B1u >> 16) % SRN__MASK_SLOTS];
}

int srn_matcher_new(srn_constraint *c, const srn_token_trie *t, srn_matcher **ret, srn_err *err) {
    srn_matcher *m = srn_calloc(1, sizeof *m);
    if (!m) return srn_fail_nomem(err, sizeof *m);
    srn_err why = {0};
    m->c = c;
    m->t = t;
    m->k = srn__constraint_take_cache(c, &why);
    int code = !m->k ? why.code : t ? bind_cache(m->k, t, &why) : SRN_OK;
    if (code) {
        srn__cache_free(m->k);
        free(m);
        return srn_fail(err, code, "%s", why.text);
    }
    m->now.set = m->k->sets.start;
    m->credit = FIRST;
    *ret = m;
    return SRN_OK;
}

void srn_matcher_free(srn_matcher *m) {
    if (!m) return;
    srn__constraint_give_cache(m->c, m->k);
    free(m);
}

srn_matcher_stats srn_matcher_get_stats(const srn_matcher *m) {
    srn_matcher_stats st = {.bytes = sizeof *m + sizeof *m->k + m->k->sets.bytes + m->k->mask_bytes,
                            .sets = m->k->sets.n_sets};
    for (uint32_t i = 0; i < SRN__MASK_SLOTS; i++) st.masks += m->k->masks[i].shape != SRN__DEAD;
    return st;
}

/* Forgets sets that neither the text so far nor a kept mask needs. */
static int collect(srn_matcher *m, srn_err *err) {
    srn__cache *k = m->k;
    uint32_t roots[1 + HISTORY + SRN__MASK_SLOTS], n = 0;
    srn__mask moved[SRN__MASK_SLOTS];
    roots[n++] = m->now.set;
    for (uint32_t i = 0; i < HISTORY; i++) roots[n++] = i < m->n_past ? m->past[i].set : SRN__DEAD;
    memcpy(moved, k->masks, sizeof moved);
    for (uint32_t i = 0; i < SRN__MASK_SLOTS; i++) roots[n++] = moved[i].shape;
    int code = srn__sets_collect(&k->sets, roots, n, err);
    if (code) return code;
    m->now.set = roots[0];
    for (uint32_t i = 0; i < HISTORY && i < m->n_past; i++) m->past[i].set = roots[1 + i];
    memset(k->masks, 0, sizeof k->masks);
    for (uint32_t i = 0; i < SRN__MASK_SLOTS; i++) {
        moved[i].shape = roots[1 + HISTORY + i];
        srn__mask *slot = slot_of(k, moved[i].shape, moved[i].ahead);
        if (moved[i].shape == SRN__DEAD || slot->shape != SRN__DEAD)
            drop_mask(k, &moved[i]);
        else
            *slot = moved[i];
    }
    k->collect_at = SRN_MAX(COLLECT_BYTES, 2 * srn__sets_used(&k->sets));
    return SRN_OK;
}

static int begin_work(srn_matcher *m, srn_err *err) {
    srn__sets *s = &m->k->sets;
    s->budget = m->credit;
    s->failed = SRN_OK;
    if (srn__sets_used(s) < SRN_MAX(m->k->collect_at, COLLECT_BYTES)) return SRN_OK;
    return collect(m, err);
}

/* After a failure: memory may be full of sets that nothing needs any more. */
static bool is_full(const srn_matcher *m) {
    return m->k->sets.failed == SRN_ELIMIT && m->k->sets.budget > 0;
}

static int fail_sets(const srn_matcher *m, srn_err *err) {
    if (m->k->sets.failed == SRN_ENOMEM)
        return srn_fail(err, SRN_ENOMEM, "out of memory for the state of a constraint");
    return srn_fail(err, SRN_ELIMIT,
                    "the constraint is too ambiguous: a text can be read in too many ways at once; make its "
                    "alternatives or repetitions exclude each other");
}

/* ---- masks ---- */

static uint32_t next_set(srn__sets *s, uint32_t set, uint8_t byte) {
    return srn__sets_next(s, set, s->p->class_of[byte]);
}

/* The real set will tell about the node's subtree. */
static bool leave_open(srn__cache *k, uint32_t node) {
    if (k->n_open == k->cap_open) {
        uint32_t cap = k->cap_open ? 2 * k->cap_open : 1024;
        uint32_t *open = srn_realloc_array(k->open, cap, sizeof *open);
        if (!open) return k->sets.failed = SRN_ENOMEM, false;
        k->open = open;
        k->cap_open = cap;
    }
    k->open[k->n_open++] = node;
    return true;
}

/* Walks the nodes [from, to) of the trie, whose least depth is that of `from`; k->stack holds the set before
 * it. Sets the bits of the tokens that the sets let in. Where a walk ends after a set that escaped, or
 * because it came `ahead` deep, the node goes to k->open. Returns how many nodes were looked at, UINT32_MAX
 * after a failure. */
static uint32_t walk(srn__cache *k, const srn_token_trie *t, uint32_t from, uint32_t to, uint32_t ahead,
                     uint64_t *mask) {
    srn__sets *s = &k->sets;
    const srn__program *p = s->p;
    uint32_t n = 0, classes = p->n_classes;
    for (uint32_t i = from; i < to; n++) {
        uint32_t d = t->depth[i], set = k->stack[d], row = s->sets[set].row, then = SRN__UNKNOWN;
        unsigned byte_class = p->class_of[t->byte[i]];
        if (d == ahead) {
            if (!leave_open(k, i)) return UINT32_MAX;
            i = t->skip[i];
            continue;
        }
        if (row != SRN__NO_ROW) then = s->rows[(size_t)row * classes + byte_class];
        if (then == SRN__UNKNOWN) {
            then = srn__sets_next(s, set, byte_class);
            if (then == SRN__FAILED) return UINT32_MAX;
        }
        if (then == SRN__DEAD) {
            if (k->escaped[d] && !leave_open(k, i)) return UINT32_MAX;
            i = t->skip[i];
            continue;
        }
        for (uint32_t a = t->tokens_at[i], b = t->tokens_at[i + 1]; a < b; a++) {
            uint32_t id = (uint32_t)t->tokens[a];
            mask[id / 64] |= (uint64_t)1 << id % 64;
        }
        k->stack[d + 1] = then;
        k->escaped[d + 1] = k->escaped[d] || (s->sets[then].flags & SRN__SET_ESCAPES);
        i++;
    }
    return n;
}

/* Walks the subtrees of the nodes in the real set. A node's ancestors are alive there, for its shape's were.
 */
static bool walk_open(srn__cache *k, const srn_token_trie *t, uint32_t set, const uint32_t *open, uint32_t n,
                      uint64_t *mask) {
    uint32_t valid = 0; /* depth down to which path and stack belong to the node before */
    memset(k->escaped, 0, (size_t)t->most_bytes + 1);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t node = open[i], depth = t->depth[node], first = depth;
        for (uint32_t a = t->parent[node]; first > 0; a = t->parent[a]) {
            if (first <= valid && k->path[first - 1] == a) break;
            k->path[--first] = a;
        }
        k->stack[0] = set;
        for (uint32_t d = first; d < depth; d++) {
            k->stack[d + 1] = next_set(&k->sets, k->stack[d], t->byte[k->path[d]]);
            if (k->stack[d + 1] == SRN__FAILED) return false;
        }
        valid = depth;
        if (walk(k, t, node, t->skip[node], ALL_THE_WAY, mask) == UINT32_MAX) return false;
    }
    return true;
}

static uint32_t count_bits(const uint64_t *bits, size_t words) {
    uint32_t n = 0;
    for (size_t i = 0; i < words; i++) n += (uint32_t)__builtin_popcountll(bits[i]);
    return n;
}

/* Keeps what a walk found; without memory for it nothing is lost but time. */
static void keep_mask(srn__cache *k, uint32_t shape, uint32_t ahead, const uint64_t *mask, size_t words) {
    uint32_t n = count_bits(mask, words);
    bool listed = n < words;
    uint64_t bytes = (listed ? n : words) * 8 + k->n_open * sizeof *k->open;
    if (k->mask_bytes + bytes > MAX_MASK_BYTES) drop_masks(k);
    srn__mask m = {.shape = shape,
                   .ahead = ahead,
                   .n_tokens = listed ? n : UINT32_MAX,
                   .bytes = (uint32_t)bytes,
                   .n_open = k->n_open,
                   .bits = srn_calloc(listed ? n : words, 8),
                   .open = srn_calloc(k->n_open, sizeof *m.open)};
    if (!m.bits || !m.open) {
        free(m.bits);
        free(m.open);
        return;
    }
    int32_t *list = (int32_t *)(void *)m.bits;
    for (size_t i = 0; listed && i < words; i++)
        for (uint64_t w = mask[i]; w; w &= w - 1) *list++ = (int32_t)(i * 64) + __builtin_ctzll(w);
    if (!listed) memcpy(m.bits, mask, words * 8);
    if (k->n_open) memcpy(m.open, k->open, k->n_open * sizeof *k->open);
    srn__mask *slot = slot_of(k, shape, ahead);
    drop_mask(k, slot);
    *slot = m;
    k->mask_bytes += bytes;
}

static void copy_mask(const srn__mask *m, uint64_t *mask, size_t words) {
    const int32_t *list = (const int32_t *)(const void *)m->bits;
    if (m->n_tokens == UINT32_MAX) {
        memcpy(mask, m->bits, words * 8);
        return;
    }
    for (uint32_t i = 0; i < m->n_tokens; i++) mask[list[i] / 64] |= (uint64_t)1 << list[i] % 64;
}

/* The whole trie from one set, by way of its shape where it has one. */
static bool mask_from(srn_matcher *m, uint32_t set, uint64_t *mask, size_t words) {
    srn__cache *k = m->k;
    const srn_token_trie *t = m->t;
    uint32_t ahead = srn__sets_look_ahead(&k->sets, set, t->most_bytes);
    uint32_t shape = srn__sets_shape(&k->sets, set, ahead), from = shape;
    if (k->sets.failed) return false;
    if (shape == SRN__FAILED) from = set;
    if (from == set || ahead == t->most_bytes) ahead = ALL_THE_WAY;
    srn__mask *known = slot_of(k, from, ahead);
    if (known->shape == from && known->ahead == ahead) {
        copy_mask(known, mask, words);
        return walk_open(k, t, set, known->open, known->n_open, mask);
    }
    k->n_open = 0;
    k->stack[0] = from;
    k->escaped[0] = 0;
    uint32_t n = walk(k, t, 0, t->n_nodes, ahead, mask);
    if (n == UINT32_MAX) return false;
    if (n >= SHORT_WALK) keep_mask(k, from, ahead, mask, words);
    return walk_open(k, t, set, k->open, k->n_open, mask);
}

/* A text's first token may begin with a space that is not part of the text. */
static bool mask_first(srn_matcher *m, uint32_t set, uint64_t *mask) {
    srn__cache *k = m->k;
    const srn_token_trie *t = m->t;
    memset(k->escaped, 0, (size_t)t->most_bytes + 1);
    for (uint32_t i = 0; i < t->n_nodes; i = t->skip[i]) {
        k->stack[0] = set;
        k->stack[1] = set;
        uint32_t from = i;
        if (t->byte[i] == ' ') {
            for (uint32_t a = t->tokens_at[i]; a < t->tokens_at[i + 1]; a++) {
                uint32_t id = (uint32_t)t->tokens[a];
                mask[id / 64] |= (uint64_t)1 << id % 64;
            }
            from++;
        }
        if (walk(k, t, from, t->skip[i], ALL_THE_WAY, mask) == UINT32_MAX) return false;
    }
    return true;
}

int srn_matcher_mask(srn_matcher *m, uint64_t *mask, srn_err *err) {
    const srn_token_trie *t = m->t;
    size_t words = ((size_t)t->n_vocab + 63) / 64;
    memset(mask, 0, words * sizeof *mask);
    if (m->now.ended) return SRN_OK;
    for (int attempt = 0;; attempt++) {
        int code = begin_work(m, err);
        if (code) return code;
        bool first = !m->now.started && t->drops_space;
        bool made = first ? mask_first(m, m->now.set, mask) : mask_from(m, m->now.set, mask, words);
        m->credit = m->k->sets.budget;
        if (made) break;
        if (attempt || !is_full(m)) return fail_sets(m, err);
        memset(mask, 0, words * sizeof *mask);
        code = collect(m, err);
        if (code) return code;
    }
    if (m->k->sets.sets[m->now.set].flags & SRN__SET_ACCEPTS)
        for (uint32_t i = 0; i < t->n_ends; i++) mask[t->ends[i] / 64] |= (uint64_t)1 << t->ends[i] % 64;
    else if (count_bits(mask, words) == 0) /* only where not every byte has a token */
        return srn_fail(err, SRN_EUNSUP,
                        "the constraint asks for characters that no token of the model can write");
    return SRN_OK;
}

/* ---- moving ---- */

static void move_to(srn_matcher *m, moment to) {
    m->credit = SRN_MIN(m->k->sets.budget + INCOME, SAVINGS);
    m->past[m->n_past++ % HISTORY] = m->now;
    if (m->n_past == 2 * HISTORY) m->n_past = HISTORY;
    m->n_kept = SRN_MIN(m->n_kept + 1, HISTORY);
    m->now = to;
}

static int refuse(const srn_matcher *m, int32_t token, srn_err *err) {
    srn_str text = srn_vocab_text(m->t->v, token);
    return srn_fail(err, SRN_EINVAL, "the constraint does not allow token %d ('%.*s') here", token,
                    (int)SRN_MIN(text.len, 60), text.ptr ? text.ptr : "");
}

static bool is_end(const srn_token_trie *t, int32_t token) {
    for (uint32_t i = 0; i < t->n_ends; i++)
        if (t->ends[i] == token) return true;
    return false;
}

int srn_matcher_accept(srn_matcher *m, int32_t token, srn_err *err) {
    const srn_token_trie *t = m->t;
    if (token < 0 || (uint32_t)token >= t->n_vocab || m->now.ended) return refuse(m, token, err);
    if (is_end(t, token)) {
        if (!srn_matcher_may_end(m)) return refuse(m, token, err);
        return move_to(m, (moment){m->now.set, true, true}), SRN_OK;
    }
    uint32_t at = t->bytes_at[token], end = t->bytes_at[token + 1];
    if (at == end) return refuse(m, token, err);
    if (!m->now.started && t->drops_space && t->bytes[at] == ' ') at++;
    uint32_t set = SRN__DEAD;
    for (int attempt = 0;; attempt++) {
        int code = begin_work(m, err);
        if (code) return code;
        set = m->now.set;
        for (uint32_t i = at; i < end && set != SRN__DEAD && set != SRN__FAILED; i++)
            set = next_set(&m->k->sets, set, t->bytes[i]);
        m->credit = m->k->sets.budget;
        if (set != SRN__FAILED) break;
        if (attempt || !is_full(m)) return fail_sets(m, err);
        code = collect(m, err);
        if (code) return code;
    }
    if (set == SRN__DEAD) return refuse(m, token, err);
    move_to(m, (moment){set, true, false});
    return SRN_OK;
}

size_t srn_matcher_accept_bytes(srn_matcher *m, const char *bytes, size_t n) {
    if (m->now.ended || begin_work(m, NULL)) return 0;
    uint32_t set = m->now.set;
    size_t i = 0;
    for (; i < n; i++) {
        uint32_t then = next_set(&m->k->sets, set, (uint8_t)bytes[i]);
        if (then == SRN__DEAD || then == SRN__FAILED) break;
        set = then;
    }
    if (i) move_to(m, (moment){set, true, false});
    return i;
}

bool srn_matcher_may_end(const srn_matcher *m) {
    return m->now.ended || (m->k->sets.sets[m->now.set].flags & SRN__SET_ACCEPTS);
}

bool srn_matcher_must_end(const srn_matcher *m) {
    return m->now.ended || (srn_matcher_may_end(m) && m->k->sets.sets[m->now.set].n_bytes == 0);
}

int srn_matcher_rollback(srn_matcher *m, uint32_t n, srn_err *err) {
    if (n > m->n_kept)
        return srn_fail(err, SRN_EINVAL, "%u tokens cannot be taken back: only the last %u are kept", n,
                        m->n_kept);
    if (n == 0) return SRN_OK;
    m->n_kept -= n;
    m->now = m->past[(m->n_past + 2 * HISTORY - n) % HISTORY];
    m->n_past = (m->n_past + 2 * HISTORY - n) % (2 * HISTORY);
    return SRN_OK;
}

bool srn_constraint_accepts(srn_constraint *c, srn_str text) {
    srn_matcher *m = NULL;
    if (srn_matcher_new(c, NULL, &m, NULL)) return false;
    bool whole = srn_matcher_accept_bytes(m, text.ptr, text.len) == text.len && srn_matcher_may_end(m);
    srn_matcher_free(m);
    return whole;
}
