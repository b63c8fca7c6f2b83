/* The tree of what KV blocks hold: found by keyed hash and compared token by token, so that a collision
 * shares nothing and nobody outside can construct one. Called by kv.c and kv_pool.c, on their thread. Nodes
 * come from a fixed set; where that runs out and nothing can be evicted, a block stays unfindable, which
 * costs time and never a result. */
#include "engine/kv_internal.h"

#include <sodium.h>

_Static_assert(crypto_shorthash_siphashx24_BYTES == SRN_KV_HASH_BYTES, "the hash has 128 bits");

/* ---- the hash table ---- */

static void hash_node(const srn_kv *kv, uint64_t salt, const uint8_t *parent, const int32_t *tokens,
                      uint32_t n, uint8_t out[SRN_KV_HASH_BYTES]) {
    uint8_t in[8 + SRN_KV_HASH_BYTES + SRN_KV_BLOCK * sizeof *tokens] = {0};
    memcpy(in, &salt, 8);
    if (parent) memcpy(in + 8, parent, SRN_KV_HASH_BYTES);
    if (n) memcpy(in + 8 + SRN_KV_HASH_BYTES, tokens, n * sizeof *tokens);
    crypto_shorthash_siphashx24(out, in, 8 + SRN_KV_HASH_BYTES + n * sizeof *tokens, kv->o.key);
}

static uint32_t *bucket_of(const srn_kv *kv, const uint8_t hash[SRN_KV_HASH_BYTES]) {
    uint32_t low;
    memcpy(&low, hash, sizeof low);
    return &kv->buckets[low & (kv->n_buckets - 1)];
}

/* A root (parent SRN_KV_NONE) or a sealed node. */
static uint32_t find(const srn_kv *kv, uint32_t parent, uint64_t salt, const int32_t *tokens, uint32_t n) {
    uint8_t hash[SRN_KV_HASH_BYTES];
    hash_node(kv, salt, parent == SRN_KV_NONE ? NULL : kv->nodes[parent].hash, tokens, n, hash);
    for (uint32_t i = *bucket_of(kv, hash); i != SRN_KV_NONE; i = kv->nodes[i].chain) {
        const srn__kv_node *x = &kv->nodes[i];
        if (memcmp(x->hash, hash, sizeof hash) == 0 && x->parent == parent && x->salt == salt &&
            x->n_tokens == n && (n == 0 || memcmp(x->tokens, tokens, n * sizeof *tokens) == 0))
            return i;
    }
    return SRN_KV_NONE;
}

uint32_t srn__kv_find_root(const srn_kv *kv, uint64_t salt) {
    return find(kv, SRN_KV_NONE, salt, NULL, 0);
}

uint32_t srn__kv_find(const srn_kv *kv, uint32_t parent, const int32_t *tokens) {
    return find(kv, parent, kv->nodes[parent].salt, tokens, SRN_KV_BLOCK);
}

void srn__kv_seal(srn_kv *kv, uint32_t node) {
    srn__kv_node *x = &kv->nodes[node];
    hash_node(kv, x->salt, x->parent == SRN_KV_NONE ? NULL : kv->nodes[x->parent].hash, x->tokens,
              x->n_tokens, x->hash);
    uint32_t *bucket = bucket_of(kv, x->hash);
    x->chain = *bucket;
    *bucket = node;
}

void srn__kv_unseal(srn_kv *kv, uint32_t node) {
    uint32_t *at = bucket_of(kv, kv->nodes[node].hash);
    while (*at != node) at = &kv->nodes[*at].chain;
    *at = kv->nodes[node].chain;
}

/* ---- nodes ---- */

static void link_child(srn_kv *kv, uint32_t node) {
    srn__kv_node *x = &kv->nodes[node];
    if (x->parent == SRN_KV_NONE) return;
    uint32_t *first = &kv->nodes[x->parent].first_child;
    x->prev = SRN_KV_NONE;
    x->next = *first;
    if (*first != SRN_KV_NONE) kv->nodes[*first].prev = node;
    *first = node;
}

static void unlink_child(srn_kv *kv, uint32_t node) {
    srn__kv_node *x = &kv->nodes[node];
    if (x->parent == SRN_KV_NONE) return;
    if (x->prev != SRN_KV_NONE)
        kv->nodes[x->prev].next = x->next;
    else
        kv->nodes[x->parent].first_child = x->next;
    if (x->next != SRN_KV_NONE) kv->nodes[x->next].prev = x->prev;
}

void srn__kv_touch(srn_kv *kv, uint32_t node) {
    unlink_child(kv, node);
    link_child(kv, node);
}

/* A node of nobody's, or SRN_KV_NONE. */
static uint32_t new_node(srn_kv *kv) {
    for (uint32_t g = 0; g < kv->o.n_groups; g++)
        while (kv->free_node == SRN_KV_NONE && srn__kv_evict(kv, g)) {
        }
    uint32_t node = kv->free_node;
    if (node == SRN_KV_NONE) return node;
    kv->free_node = kv->nodes[node].parent;
    kv->nodes[node] = (srn__kv_node){.parent = SRN_KV_NONE, .first_child = SRN_KV_NONE};
    for (uint32_t g = 0; g < SRN_KV_MAX_GROUPS; g++) kv->nodes[node].block[g] = SRN_KV_NONE;
    return node;
}

static void free_node(srn_kv *kv, uint32_t node) {
    kv->nodes[node].parent = kv->free_node;
    kv->free_node = node;
}

static uint32_t make_root(srn_kv *kv, uint64_t salt) {
    uint32_t root = new_node(kv);
    if (root == SRN_KV_NONE) return root;
    kv->nodes[root].salt = salt;
    srn__kv_seal(kv, root);
    return root;
}

uint32_t srn__kv_add(srn_kv *kv, uint32_t parent, uint64_t salt, const int32_t *tokens, uint32_t n) {
    uint32_t node = new_node(kv); /* first, for it may evict a root that has no other children */
    if (node == SRN_KV_NONE) return node;
    if (parent == SRN_KV_NONE) parent = srn__kv_find_root(kv, salt);
    if (parent == SRN_KV_NONE) parent = make_root(kv, salt);
    if (parent == SRN_KV_NONE) return free_node(kv, node), parent;
    srn__kv_node *x = &kv->nodes[node];
    x->salt = salt;
    x->parent = parent;
    x->n_tokens = n;
    x->refs = 1;
    memcpy(x->tokens, tokens, n * sizeof *tokens);
    link_child(kv, node);
    if (n == SRN_KV_BLOCK) srn__kv_seal(kv, node);
    return node;
}

static bool is_needed(const srn_kv *kv, const srn__kv_node *x) {
    bool needed = x->refs || x->first_child != SRN_KV_NONE;
    for (uint32_t g = 0; g < kv->o.n_groups; g++) needed = needed || x->block[g] != SRN_KV_NONE;
    return needed;
}

void srn__kv_drop(srn_kv *kv, uint32_t node) {
    while (node != SRN_KV_NONE && !is_needed(kv, &kv->nodes[node])) {
        srn__kv_node *x = &kv->nodes[node];
        uint32_t parent = x->parent;
        if (x->n_tokens == 0 || x->n_tokens == SRN_KV_BLOCK) srn__kv_unseal(kv, node);
        unlink_child(kv, node);
        free_node(kv, node);
        node = parent;
    }
}

/* ---- searches ---- */

static uint32_t common(const srn__kv_node *x, const int32_t *tokens, uint32_t n) {
    uint32_t most = SRN_MIN(x->n_tokens, n), i = 0;
    while (i < most && x->tokens[i] == tokens[i]) i++;
    return i;
}

/* Whether every group holds what a token at index n reads of the k whole blocks on the path. */
static bool covers(const srn_kv *kv, uint32_t k, uint32_t n) {
    for (uint32_t g = 0; g < kv->o.n_groups; g++) {
        uint32_t first = srn__kv_first(kv->pools[g].window, n);
        if (first < k && kv->runs[g][k] < k - first) return false;
    }
    return true;
}

static bool has_blocks(const srn_kv *kv, const srn__kv_node *x) {
    for (uint32_t g = 0; g < kv->o.n_groups; g++)
        if (x->block[g] == SRN_KV_NONE) return false;
    return true;
}

/* Follows whole blocks; returns how many there are. */
static uint32_t follow(const srn_kv *kv, uint32_t root, const int32_t *tokens, uint32_t n) {
    uint32_t k = 0, node = root;
    for (uint32_t g = 0; g < kv->o.n_groups; g++) kv->runs[g][0] = 0;
    for (; k < n / SRN_KV_BLOCK && k < kv->n_ctx_blocks; k++) {
        node = srn__kv_find(kv, node, tokens + (size_t)k * SRN_KV_BLOCK);
        if (node == SRN_KV_NONE) break;
        kv->path[k] = node;
        for (uint32_t g = 0; g < kv->o.n_groups; g++)
            kv->runs[g][k + 1] = kv->nodes[node].block[g] == SRN_KV_NONE ? 0 : kv->runs[g][k] + 1;
    }
    return k;
}

/* What is looked for below the k whole blocks on the path: the tokens from index `at` to `end`. */
typedef struct part_search {
    const int32_t *tokens;
    uint32_t k, at, end;
} part_search;

/* Takes a child for the match if it has more of the beginning. */
static void consider(const srn_kv *kv, const part_search *s, uint32_t child, srn__kv_match *m) {
    const srn__kv_node *x = &kv->nodes[child];
    uint32_t length = s->at + common(x, s->tokens + s->at, s->end - s->at);
    if (length > s->at && length > m->length && has_blocks(kv, x) && covers(kv, s->k, length))
        *m = (srn__kv_match){.length = length, .n_full = s->k, .part = child};
}

/* The child of `parent`, after k whole blocks, that begins with most of the tokens from there to `end`. */
static void search_part(const srn_kv *kv, uint32_t parent, uint32_t k, const int32_t *tokens, uint32_t n,
                        uint32_t end, srn__kv_match *m) {
    part_search s = {.tokens = tokens, .k = k, .at = k * SRN_KV_BLOCK, .end = end};
    if (end <= s.at || !covers(kv, k, SRN_MIN(end, s.at + SRN_KV_BLOCK))) return;
    uint32_t child = n - s.at >= SRN_KV_BLOCK ? srn__kv_find(kv, parent, tokens + s.at) : SRN_KV_NONE;
    if (child != SRN_KV_NONE) consider(kv, &s, child, m);
    child = kv->nodes[parent].first_child;
    for (uint32_t i = 0;
         i < SRN_KV_SCAN && child != SRN_KV_NONE && m->length < SRN_MIN(end, s.at + SRN_KV_BLOCK);
         i++, child = kv->nodes[child].next)
        consider(kv, &s, child, m);
}

srn__kv_match srn__kv_search(const srn_kv *kv, uint64_t salt, const int32_t *tokens, uint32_t n,
                             uint32_t most, bool whole) {
    srn__kv_match m = {.part = SRN_KV_NONE};
    uint32_t root = srn__kv_find_root(kv, salt), end = SRN_MIN(SRN_MIN(n, most), kv->o.n_ctx);
    if (root == SRN_KV_NONE) return m;
    for (uint32_t k = follow(kv, root, tokens, end) + 1; k-- > 0;) {
        if (!whole) search_part(kv, k ? kv->path[k - 1] : root, k, tokens, n, end, &m);
        if (m.length) return m;
        if (covers(kv, k, k * SRN_KV_BLOCK))
            return (srn__kv_match){.length = k * SRN_KV_BLOCK, .n_full = k, .part = SRN_KV_NONE};
    }
    return m;
}

static void discard(srn_kv *kv, uint32_t node) {
    for (uint32_t g = 0; g < kv->o.n_groups; g++) srn__kv_detach(kv, node, g);
    srn__kv_drop(kv, node);
}

void srn__kv_settle(srn_kv *kv, uint32_t node) {
    const srn__kv_node *x = &kv->nodes[node];
    uint32_t scanned = 0, next;
    for (uint32_t i = kv->nodes[x->parent].first_child; i != SRN_KV_NONE && scanned < SRN_KV_SCAN;
         i = next, scanned++) {
        const srn__kv_node *y = &kv->nodes[i];
        next = y->next;
        if (i == node) continue;
        uint32_t same = common(y, x->tokens, x->n_tokens);
        if (same == x->n_tokens && has_blocks(kv, y)) {
            srn__kv_touch(kv, i);
            return discard(kv, node);
        }
        if (same == y->n_tokens && y->refs == 0) discard(kv, i); /* it is a shorter tail */
    }
}
