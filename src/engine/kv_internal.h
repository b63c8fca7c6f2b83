/* KV blocks, inside: the pools (kv_pool.c), the tree of what they hold (kv_index.c), and the sequences
 * (kv.c).
 *
 * Contents form a tree. A node is one block's worth of tokens after its parent's; it names, for each group,
 * the block that holds their K and V, if one still does. A root has no tokens and stands for a salt. A node
 * with all SRN_KV_BLOCK tokens is sealed: it is in the hash table and never changes. One with fewer is the
 * tail of a sequence, which may go on appending to it while somebody holds it; it is found by comparing
 * tokens only.
 *
 * Who holds a node's block holds it in every full group, and its ancestors' too. Sequences give their last
 * blocks back first, so in the order of last use a child always stands before its parent, and eviction takes
 * leaves before what they grow on. A node goes when nobody holds it, no block is left to it and no child is.
 */
#ifndef SRN_ENGINE_KV_INTERNAL_H
#define SRN_ENGINE_KV_INTERNAL_H

#include "engine/kv.h"

#define SRN_KV_HASH_BYTES 16
/* Children of a node that a search for a common beginning looks at, the last used first: what bounds its time
 * where very many prompts begin alike. */
#define SRN_KV_SCAN 64

typedef struct srn__kv_node {
    uint8_t hash[SRN_KV_HASH_BYTES]; /* of a root or a sealed node */
    uint64_t salt;
    uint32_t parent;                  /* SRN_KV_NONE: a root. Of a free node: the next free one */
    uint32_t first_child, prev, next; /* children, the last used first */
    uint32_t chain;                   /* the next of its bucket */
    uint32_t refs;                    /* sequences that hold it */
    uint32_t block[SRN_KV_MAX_GROUPS];
    uint32_t n_tokens; /* 0: a root */
    int32_t tokens[SRN_KV_BLOCK];
} srn__kv_node;

typedef struct srn__kv_block {
    uint32_t held;       /* sequences that have it in their tables */
    uint32_t node;       /* whose content it has, or SRN_KV_NONE: nobody can find it */
    uint32_t prev, next; /* while nobody holds it and it can be found: by last use */
} srn__kv_block;

/* The blocks of one group: each is free, held, or unheld and findable. */
typedef struct srn__kv_pool {
    uint32_t window, n_blocks;
    srn__kv_block *blocks;
    uint32_t *free; /* a stack of n_free */
    uint32_t n_free, n_unheld;
    uint32_t oldest, newest; /* of the unheld */
} srn__kv_pool;

struct srn_kv {
    srn_kv_opts o;
    uint32_t n_ctx_blocks;
    srn__kv_pool pools[SRN_KV_MAX_GROUPS];
    srn__kv_node *nodes;
    uint32_t n_nodes, free_node;       /* a list through parent */
    uint32_t *buckets, n_buckets;      /* a power of two */
    uint32_t *path;                    /* scratch of a search [n_ctx_blocks] */
    uint32_t *runs[SRN_KV_MAX_GROUPS]; /* scratch [n_ctx_blocks + 2]: runs[g][k] blocks end before block k */
    uint64_t evictions, copies;
};

struct srn_kv_seq {
    srn_kv *kv;
    uint64_t salt;
    bool alone;                          /* neither finds nor is found */
    uint32_t length;                     /* positions that hold K and V */
    uint32_t n_blocks;                   /* entries of the tables in use: what was reserved */
    uint32_t n_nodes;                    /* leading blocks that are sealed nodes */
    uint32_t tail;                       /* node of block n_nodes, which is not full, or SRN_KV_NONE */
    uint32_t *nodes;                     /* [n_ctx_blocks], the first n_nodes are set */
    uint32_t *tables[SRN_KV_MAX_GROUPS]; /* [n_ctx_blocks] */
};

/* The first block that a token at index n still reads in a group: those before it are not needed. At most the
 * block of position n-1, which is written on. */
static inline uint32_t srn__kv_first(uint32_t window, uint32_t n) {
    return window == 0 || n < window ? 0 : (n - (window > 1 ? window : 2) + 1) / SRN_KV_BLOCK;
}
static inline uint32_t srn__kv_blocks_of(uint32_t n) {
    return n / SRN_KV_BLOCK + (n % SRN_KV_BLOCK != 0);
}

/* ---- pools (kv_pool.c) ---- */

int srn__kv_pool_init(srn__kv_pool *p, uint32_t window, uint32_t n_blocks, srn_err *err);
void srn__kv_pool_done(srn__kv_pool *p);
static inline uint32_t srn__kv_pool_available(const srn__kv_pool *p) {
    return p->n_free + p->n_unheld;
}
/* A block of nobody's, held once; evicts what was used least recently. One must be available. */
uint32_t srn__kv_take(srn_kv *kv, uint32_t group);
void srn__kv_hold(srn_kv *kv, uint32_t group, uint32_t block);
/* The last to release a block frees it, or leaves it findable. */
void srn__kv_release(srn_kv *kv, uint32_t group, uint32_t block);
/* The block becomes the node's, or nobody's (SRN_KV_NONE); one that nobody holds is then free. */
void srn__kv_attach(srn_kv *kv, uint32_t group, uint32_t block, uint32_t node);
void srn__kv_detach(srn_kv *kv, uint32_t node, uint32_t group);
/* Forgets the least recently used block of a group; false when there is none. */
bool srn__kv_evict(srn_kv *kv, uint32_t group);

/* ---- the tree (kv_index.c) ---- */

/* The root of a salt, or the sealed child of parent with these SRN_KV_BLOCK tokens; SRN_KV_NONE. */
uint32_t srn__kv_find_root(const srn_kv *kv, uint64_t salt);
uint32_t srn__kv_find(const srn_kv *kv, uint32_t parent, const int32_t *tokens);
/* A new child with these n <= SRN_KV_BLOCK tokens, sealed if they are all, held once, of parent, or of the
 * salt's root for SRN_KV_NONE. It may evict; what is held stays. SRN_KV_NONE when nodes have run out. */
uint32_t srn__kv_add(srn_kv *kv, uint32_t parent, uint64_t salt, const int32_t *tokens, uint32_t n);
void srn__kv_seal(srn_kv *kv, uint32_t node);   /* now has all its tokens */
void srn__kv_unseal(srn_kv *kv, uint32_t node); /* about to lose some */
/* Puts a node before its siblings. */
void srn__kv_touch(srn_kv *kv, uint32_t node);
/* Removes a node, and then its ancestors, as far as nothing needs them. */
void srn__kv_drop(srn_kv *kv, uint32_t node);

typedef struct srn__kv_match {
    uint32_t length; /* tokens found: */
    uint32_t n_full; /* whole blocks, kv->path[0..n_full) */
    uint32_t part;   /* and a node whose beginning is the rest, or SRN_KV_NONE */
} srn__kv_match;
/* The longest prefix of at most `most` of n tokens for which every group holds what the next token reads;
 * whole: of whole blocks only. Writes kv->path and kv->runs. */
srn__kv_match srn__kv_search(const srn_kv *kv, uint64_t salt, const int32_t *tokens, uint32_t n,
                             uint32_t most, bool whole);
/* The tail that a sequence has just let go: it goes, or others go, where one holds all that the other does.
 */
void srn__kv_settle(srn_kv *kv, uint32_t node);

#endif
