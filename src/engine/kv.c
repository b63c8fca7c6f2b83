/* Sequences over KV blocks: what each holds, what it takes from the cache and what it leaves there. Owned by
 * one thread, the scheduler's or that of an engine's sessions. After srn_kv_new and srn_kv_seq_new nothing is
 * allocated. What the pools cannot give is refused (false, or a shorter length), never waited for.
 *
 * The blocks of a sequence, in order: n_nodes whole ones that are sealed nodes of the tree; then, where
 * length ends inside a block, its tail, a node too; then blocks that were reserved and are nobody else's
 * business. A sequence that is alone, or for which nodes ran out, has such private blocks from there on
 * instead.
 */
#include "engine/kv_internal.h"

#include <stdlib.h>

/* ---- the cache ---- */

static int alloc_tree(srn_kv *kv, srn_err *err) {
    uint64_t most = 0;
    bool windows_only = true;
    for (uint32_t g = 0; g < kv->o.n_groups; g++) {
        most = SRN_MAX(most, kv->o.n_blocks[g]);
        windows_only = windows_only && kv->o.groups[g].window;
    }
    /* Each node has a block of a full group or is a root, which has a child. Where there are windows only, a
     * sequence also needs the nodes whose blocks it has left behind. */
    uint64_t n = 2 * most + (windows_only ? 8ull * kv->n_ctx_blocks : 0);
    if (n >= SRN_KV_NONE / 2)
        return srn_fail(err, SRN_ELIMIT, "a KV cache of %llu blocks is too large", (unsigned long long)most);
    kv->n_nodes = (uint32_t)n;
    kv->n_buckets = 1;
    while (kv->n_buckets < kv->n_nodes) kv->n_buckets *= 2;
    kv->nodes = srn_calloc(kv->n_nodes, sizeof *kv->nodes);
    kv->buckets = srn_calloc(kv->n_buckets, sizeof *kv->buckets);
    kv->path = srn_calloc(kv->n_ctx_blocks, sizeof *kv->path);
    if (!kv->nodes || !kv->buckets || !kv->path) return srn_fail_nomem(err, kv->n_nodes * sizeof *kv->nodes);
    for (uint32_t i = 0; i < kv->n_nodes; i++)
        kv->nodes[i].parent = i + 1 < kv->n_nodes ? i + 1 : SRN_KV_NONE;
    for (uint32_t i = 0; i < kv->n_buckets; i++) kv->buckets[i] = SRN_KV_NONE;
    return SRN_OK;
}

static int init(srn_kv *kv, const srn_kv_opts *o, srn_err *err) {
    kv->o = *o;
    kv->n_ctx_blocks = srn__kv_blocks_of(o->n_ctx);
    if (o->n_groups == 0 || o->n_groups > SRN_KV_MAX_GROUPS || o->n_ctx == 0)
        return srn_fail(err, SRN_EINVAL, "a KV cache has 1 to %d groups and a context", SRN_KV_MAX_GROUPS);
    for (uint32_t g = 0; g < o->n_groups; g++) {
        if (o->n_blocks[g] == 0)
            return srn_fail(err, SRN_EINVAL, "group %u of the KV cache has no blocks", g);
        int code = srn__kv_pool_init(&kv->pools[g], o->groups[g].window, o->n_blocks[g], err);
        if (code) return code;
        kv->runs[g] = srn_calloc(kv->n_ctx_blocks + 2, sizeof *kv->runs[g]);
        if (!kv->runs[g]) return srn_fail_nomem(err, kv->n_ctx_blocks * sizeof *kv->runs[g]);
    }
    return alloc_tree(kv, err);
}

int srn_kv_new(const srn_kv_opts *o, srn_kv **ret, srn_err *err) {
    srn_kv *kv = srn_calloc(1, sizeof *kv);
    if (!kv) return srn_fail_nomem(err, sizeof *kv);
    int code = init(kv, o, err);
    if (code) {
        srn_kv_free(kv);
        return code;
    }
    *ret = kv;
    return SRN_OK;
}

void srn_kv_free(srn_kv *kv) {
    if (!kv) return;
    for (uint32_t g = 0; g < SRN_KV_MAX_GROUPS; g++) {
        srn__kv_pool_done(&kv->pools[g]);
        free(kv->runs[g]);
    }
    free(kv->nodes);
    free(kv->buckets);
    free(kv->path);
    free(kv);
}

srn_kv_stats srn_kv_get_stats(const srn_kv *kv) {
    srn_kv_stats s = {.evictions = kv->evictions, .copies = kv->copies};
    for (uint32_t g = 0; g < kv->o.n_groups; g++) {
        const srn__kv_pool *p = &kv->pools[g];
        s.n_blocks += p->n_blocks;
        s.n_cached += p->n_unheld;
        s.n_held += p->n_blocks - p->n_free - p->n_unheld;
    }
    return s;
}

uint32_t srn_kv_available(const srn_kv *kv, uint32_t group) {
    return srn__kv_pool_available(&kv->pools[group]);
}

void srn_kv_forget(srn_kv *kv) {
    for (uint32_t g = 0; g < kv->o.n_groups; g++)
        while (srn__kv_evict(kv, g)) {
        }
}

uint32_t srn_kv_lookup(const srn_kv *kv, uint64_t salt, const int32_t *tokens, uint32_t n) {
    return srn__kv_search(kv, salt, tokens, n, n, false).length;
}

/* Most blocks that a sequence of n tokens holds in a group at once. */
static uint32_t most_held(const srn__kv_pool *p, uint32_t n, uint32_t step) {
    uint64_t all = srn__kv_blocks_of(n);
    uint64_t seen = ((uint64_t)p->window + step + SRN_KV_BLOCK - 1) / SRN_KV_BLOCK + 1;
    return (uint32_t)(p->window ? SRN_MIN(all, seen) : all);
}

uint32_t srn_kv_longest(const srn_kv *kv, uint32_t step) {
    uint64_t longest = kv->o.n_ctx;
    for (uint32_t g = 0; g < kv->o.n_groups; g++) {
        const srn__kv_pool *p = &kv->pools[g];
        if (most_held(p, kv->o.n_ctx, step) > p->n_blocks)
            longest = SRN_MIN(longest, (uint64_t)p->n_blocks * SRN_KV_BLOCK);
    }
    return (uint32_t)longest;
}

/* ---- a sequence's life ---- */

int srn_kv_seq_new(srn_kv *kv, uint64_t salt, srn_kv_seq **ret, srn_err *err) {
    size_t n = kv->n_ctx_blocks, all = n * (1 + kv->o.n_groups);
    srn_kv_seq *s = srn_calloc(1, sizeof *s);
    uint32_t *memory = srn_calloc(all, sizeof *memory);
    if (!s || !memory) {
        free(s);
        free(memory);
        return srn_fail_nomem(err, all * sizeof *memory);
    }
    *s = (srn_kv_seq){.kv = kv, .salt = salt, .tail = SRN_KV_NONE, .nodes = memory};
    for (uint32_t g = 0; g < kv->o.n_groups; g++) s->tables[g] = memory + n * (1 + g);
    for (size_t i = n; i < all; i++) memory[i] = SRN_KV_NONE;
    *ret = s;
    return SRN_OK;
}

void srn_kv_seq_set_alone(srn_kv_seq *s) {
    s->alone = true;
}

uint32_t srn_kv_seq_length(const srn_kv_seq *s) {
    return s->length;
}

const uint32_t *srn_kv_seq_table(const srn_kv_seq *s, uint32_t group) {
    return s->tables[group];
}

static void clear_entry(srn_kv_seq *s, uint32_t g, uint32_t i) {
    uint32_t block = s->tables[g][i];
    if (block == SRN_KV_NONE) return;
    s->tables[g][i] = SRN_KV_NONE;
    srn__kv_release(s->kv, g, block);
}

/* Lets go of the node of block i. Its blocks were released before. */
static void drop_node(srn_kv_seq *s, uint32_t i) {
    srn_kv *kv = s->kv;
    bool is_tail = i == s->n_nodes;
    uint32_t node = is_tail ? s->tail : s->nodes[i];
    if (is_tail)
        s->tail = SRN_KV_NONE;
    else
        s->n_nodes = i;
    if (node == SRN_KV_NONE || --kv->nodes[node].refs) return;
    if (is_tail) return srn__kv_settle(kv, node);
    srn__kv_drop(kv, node);
}

/* Gives back all blocks from index i on, the last one first. */
static void give_back(srn_kv_seq *s, uint32_t from) {
    while (s->n_blocks > from) {
        uint32_t i = --s->n_blocks;
        for (uint32_t g = 0; g < s->kv->o.n_groups; g++) clear_entry(s, g, i);
        if (i == s->n_nodes || i + 1 == s->n_nodes) drop_node(s, i);
    }
}

void srn_kv_seq_free(srn_kv_seq *s) {
    if (!s) return;
    give_back(s, 0);
    free(s->nodes);
    free(s);
}

/* ---- taking ---- */

static bool all_available(const srn_kv *kv, const uint32_t need[SRN_KV_MAX_GROUPS]) {
    for (uint32_t g = 0; g < kv->o.n_groups; g++)
        if (srn__kv_pool_available(&kv->pools[g]) < need[g]) return false;
    return true;
}

static const uint32_t one_each[SRN_KV_MAX_GROUPS] = {1, 1};

/* Holds of the sequence's nodes what a token at index n reads; nothing beyond n. */
static void hold_window(srn_kv_seq *s, uint32_t n) {
    uint32_t end = SRN_MIN(s->n_nodes, srn__kv_blocks_of(n));
    for (uint32_t g = 0; g < s->kv->o.n_groups; g++)
        for (uint32_t i = srn__kv_first(s->kv->pools[g].window, n); i < end; i++) {
            if (s->tables[g][i] != SRN_KV_NONE) continue;
            s->tables[g][i] = s->kv->nodes[s->nodes[i]].block[g];
            srn__kv_hold(s->kv, g, s->tables[g][i]);
        }
}

static void take_whole(srn_kv_seq *s, const srn__kv_match *m) {
    srn_kv *kv = s->kv;
    for (uint32_t i = 0; i < m->n_full; i++) {
        s->nodes[i] = kv->path[i];
        kv->nodes[s->nodes[i]].refs++;
        srn__kv_touch(kv, s->nodes[i]);
    }
    s->n_nodes = s->n_blocks = m->n_full;
    hold_window(s, m->length);
    s->length = m->n_full * SRN_KV_BLOCK;
}

/* Block i becomes a copy of the first r positions of a node's blocks. There must be a block for each group.
 */
static void copy_part(srn_kv_seq *s, uint32_t i, uint32_t node, uint32_t r) {
    srn_kv *kv = s->kv;
    uint32_t from[SRN_KV_MAX_GROUPS];
    memcpy(from, kv->nodes[node].block, sizeof from);
    for (uint32_t g = 0; g < kv->o.n_groups; g++) srn__kv_hold(kv, g, from[g]);
    for (uint32_t g = 0; g < kv->o.n_groups; g++) {
        s->tables[g][i] = srn__kv_take(kv, g);
        kv->o.copy(kv->o.copy_ctx, g, from[g], s->tables[g][i], r);
        kv->copies++;
    }
    for (uint32_t g = 0; g < kv->o.n_groups; g++) srn__kv_release(kv, g, from[g]);
}

/* The node's beginning becomes the sequence's tail. False when there are no blocks for a copy. */
static bool take_part(srn_kv_seq *s, const srn__kv_match *m) {
    srn_kv *kv = s->kv;
    srn__kv_node *x = &kv->nodes[m->part];
    uint32_t i = m->n_full, r = m->length - i * SRN_KV_BLOCK;
    srn__kv_touch(kv, m->part);
    if (x->refs == 0 && x->n_tokens == r && r < SRN_KV_BLOCK) { /* nobody's, and at its end */
        x->refs = 1;
        s->tail = m->part;
        for (uint32_t g = 0; g < kv->o.n_groups; g++) {
            s->tables[g][i] = x->block[g];
            srn__kv_hold(kv, g, x->block[g]);
        }
    } else {
        /* The source is held while it is copied, so it cannot be the block that is taken. */
        uint32_t need[SRN_KV_MAX_GROUPS];
        for (uint32_t g = 0; g < kv->o.n_groups; g++)
            need[g] = 1 + (kv->pools[g].blocks[x->block[g]].held == 0);
        if (!all_available(kv, need)) return false;
        copy_part(s, i, m->part, r);
    }
    s->n_blocks = i + 1;
    s->length = m->length;
    return true;
}

uint32_t srn_kv_seq_take(srn_kv_seq *s, const int32_t *tokens, uint32_t n, uint32_t most) {
    if (s->alone || s->length) return s->length;
    give_back(s, 0);
    srn__kv_match m = srn__kv_search(s->kv, s->salt, tokens, n, most, false);
    take_whole(s, &m);
    if (m.part == SRN_KV_NONE || take_part(s, &m)) return s->length;
    give_back(s, 0);
    m = srn__kv_search(s->kv, s->salt, tokens, n, most, true);
    take_whole(s, &m);
    return s->length;
}

/* ---- reserving ---- */

bool srn_kv_seq_reserve(srn_kv_seq *s, uint32_t n) {
    srn_kv *kv = s->kv;
    uint32_t from = s->length / SRN_KV_BLOCK, to = srn__kv_blocks_of(n), need[SRN_KV_MAX_GROUPS] = {0};
    if (n > kv->o.n_ctx) return false;
    for (uint32_t g = 0; g < kv->o.n_groups; g++)
        for (uint32_t i = from; i < to; i++) need[g] += s->tables[g][i] == SRN_KV_NONE;
    if (!all_available(kv, need)) return false;
    for (uint32_t g = 0; g < kv->o.n_groups; g++)
        for (uint32_t i = from; i < to; i++)
            if (s->tables[g][i] == SRN_KV_NONE) s->tables[g][i] = srn__kv_take(kv, g);
    s->n_blocks = SRN_MAX(s->n_blocks, to);
    return true;
}

bool srn_kv_seq_can_reach(const srn_kv_seq *s, uint32_t n, uint32_t step) {
    const srn_kv *kv = s->kv;
    if (n > kv->o.n_ctx) return false;
    for (uint32_t g = 0; g < kv->o.n_groups; g++) {
        const srn__kv_pool *p = &kv->pools[g];
        uint32_t most = most_held(p, n, step), ours = 0; /* blocks that we have, or shall have given back */
        for (uint32_t i = srn__kv_first(p->window, s->length); i < s->n_blocks; i++)
            ours += p->window == 0 || p->blocks[s->tables[g][i]].held == 1;
        if (most > ours && most - ours > srn__kv_pool_available(p)) return false;
    }
    return true;
}

/* ---- committing ---- */

/* Block i is what a node of another sequence's holds: takes its blocks, or gives it ours where it lost them.
 */
static void share(srn_kv_seq *s, uint32_t i, uint32_t node) {
    srn_kv *kv = s->kv;
    kv->nodes[node].refs++;
    srn__kv_touch(kv, node);
    for (uint32_t g = 0; g < kv->o.n_groups; g++) {
        uint32_t ours = s->tables[g][i], theirs = kv->nodes[node].block[g];
        if (s->tail != SRN_KV_NONE) srn__kv_detach(kv, s->tail, g);
        if (theirs == SRN_KV_NONE) {
            srn__kv_attach(kv, g, ours, node);
            continue;
        }
        srn__kv_hold(kv, g, theirs);
        s->tables[g][i] = theirs;
        srn__kv_release(kv, g, ours);
    }
    if (s->tail != SRN_KV_NONE) {
        kv->nodes[s->tail].refs = 0;
        srn__kv_drop(kv, s->tail);
        s->tail = SRN_KV_NONE;
    }
    s->nodes[s->n_nodes++] = node;
}

/* Makes the r tokens of block n_nodes findable; false when nodes have run out. */
static bool publish(srn_kv_seq *s, const int32_t *tokens, uint32_t r) {
    srn_kv *kv = s->kv;
    uint32_t i = s->n_nodes, parent = i ? s->nodes[i - 1] : srn__kv_find_root(kv, s->salt);
    tokens += (size_t)i * SRN_KV_BLOCK;
    if (r == SRN_KV_BLOCK && parent != SRN_KV_NONE) {
        uint32_t same = srn__kv_find(kv, parent, tokens);
        if (same != SRN_KV_NONE) return share(s, i, same), true;
    }
    if (s->tail == SRN_KV_NONE) {
        uint32_t node = srn__kv_add(kv, parent, s->salt, tokens, r);
        if (node == SRN_KV_NONE) return false;
        for (uint32_t g = 0; g < kv->o.n_groups; g++) srn__kv_attach(kv, g, s->tables[g][i], node);
        s->tail = node;
    } else {
        srn__kv_node *x = &kv->nodes[s->tail];
        memcpy(x->tokens + x->n_tokens, tokens + x->n_tokens, (r - x->n_tokens) * sizeof *tokens);
        x->n_tokens = r;
        if (r == SRN_KV_BLOCK) srn__kv_seal(kv, s->tail);
    }
    if (r < SRN_KV_BLOCK) return true;
    s->nodes[s->n_nodes++] = s->tail;
    s->tail = SRN_KV_NONE;
    return true;
}

void srn_kv_seq_commit(srn_kv_seq *s, const int32_t *tokens, uint32_t n) {
    n = SRN_MIN(n, s->n_blocks * SRN_KV_BLOCK);
    if (n <= s->length) return;
    bool private = s->alone || s->n_nodes < s->length / SRN_KV_BLOCK;
    s->length = n;
    while (!private && s->n_nodes * SRN_KV_BLOCK < n) {
        uint32_t r = SRN_MIN(n - s->n_nodes * SRN_KV_BLOCK, (uint32_t)SRN_KV_BLOCK);
        private = !publish(s, tokens, r) || r < SRN_KV_BLOCK;
    }
    for (uint32_t g = 0; g < s->kv->o.n_groups; g++)
        for (uint32_t i = srn__kv_first(s->kv->pools[g].window, n);
             i-- > 0 && s->tables[g][i] != SRN_KV_NONE;)
            clear_entry(s, g, i);
}

/* ---- truncating ---- */

/* The greatest length up to n for which the blocks that are left hold what the next token reads: n itself, or
 * whole blocks, since inside a block a shorter length reads further back. */
static uint32_t usable(const srn_kv_seq *s, uint32_t n) {
    const srn_kv *kv = s->kv;
    for (uint32_t i = 0; i < srn__kv_blocks_of(n); i++)
        for (uint32_t g = 0; g < kv->o.n_groups; g++) {
            bool here = s->tables[g][i] != SRN_KV_NONE ||
                        (i < s->n_nodes && kv->nodes[s->nodes[i]].block[g] != SRN_KV_NONE);
            if (i == 0) kv->runs[g][0] = 0;
            kv->runs[g][i + 1] = here ? kv->runs[g][i] + 1 : 0;
        }
    for (;; n = (n - 1) / SRN_KV_BLOCK * SRN_KV_BLOCK) {
        bool good = true;
        uint32_t blocks = srn__kv_blocks_of(n);
        for (uint32_t g = 0; n && g < kv->o.n_groups; g++)
            good = good && kv->runs[g][blocks] >= blocks - srn__kv_first(kv->pools[g].window, n);
        if (good) return n;
    }
}

/* Block i, a sealed node, is to be written on from position r: the sequence gets a copy, or the node itself
 * if nobody else needs it and there is no room for a copy. False when that cannot be. */
static bool own_part(srn_kv_seq *s, uint32_t i, uint32_t r) {
    srn_kv *kv = s->kv;
    uint32_t node = s->nodes[i];
    srn__kv_node *x = &kv->nodes[node];
    if (!all_available(kv, one_each)) {
        if (x->refs > 1 || x->first_child != SRN_KV_NONE) return false;
        srn__kv_unseal(kv, node);
        x->n_tokens = r;
        s->n_nodes = i;
        s->tail = node;
        return true;
    }
    uint32_t old[SRN_KV_MAX_GROUPS] = {0};
    for (uint32_t g = 0; g < kv->o.n_groups; g++) old[g] = s->tables[g][i];
    copy_part(s, i, node, r);
    for (uint32_t g = 0; g < kv->o.n_groups; g++) srn__kv_release(kv, g, old[g]);
    drop_node(s, i);
    return true;
}

uint32_t srn_kv_seq_truncate(srn_kv_seq *s, uint32_t n) {
    if (n >= s->length) {
        give_back(s, srn__kv_blocks_of(s->length));
        return s->length;
    }
    for (;;) {
        n = usable(s, n);
        uint32_t whole = n / SRN_KV_BLOCK, r = n % SRN_KV_BLOCK;
        hold_window(s, n);
        give_back(s, srn__kv_blocks_of(n));
        s->length = n;
        if (whole == s->n_nodes && s->tail != SRN_KV_NONE) s->kv->nodes[s->tail].n_tokens = r;
        if (whole >= s->n_nodes || own_part(s, whole, r)) return n;
        n = whole * SRN_KV_BLOCK;
    }
}
