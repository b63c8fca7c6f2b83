/* Pools of KV blocks: who holds which, and the order in which those that nobody holds are forgotten. Every
 * operation takes constant time but for eviction, which may remove a chain of empty nodes. Called by kv.c and
 * kv_index.c, on their thread; refuses nothing, for callers ask for what they know to be there. */
#include "engine/kv_internal.h"

#include <stdlib.h>

int srn__kv_pool_init(srn__kv_pool *p, uint32_t window, uint32_t n_blocks, srn_err *err) {
    *p = (srn__kv_pool){.window = window, .n_blocks = n_blocks, .oldest = SRN_KV_NONE, .newest = SRN_KV_NONE};
    p->blocks = srn_calloc(n_blocks, sizeof *p->blocks);
    p->free = srn_calloc(n_blocks, sizeof *p->free);
    if (!p->blocks || !p->free) return srn_fail_nomem(err, n_blocks * sizeof *p->blocks);
    p->n_free = n_blocks;
    for (uint32_t i = 0; i < n_blocks; i++) {
        p->free[i] = n_blocks - 1 - i;
        p->blocks[i].node = SRN_KV_NONE;
    }
    return SRN_OK;
}

void srn__kv_pool_done(srn__kv_pool *p) {
    free(p->blocks);
    free(p->free);
}

static void unlink_unheld(srn__kv_pool *p, uint32_t block) {
    srn__kv_block *b = &p->blocks[block];
    if (b->prev != SRN_KV_NONE)
        p->blocks[b->prev].next = b->next;
    else
        p->oldest = b->next;
    if (b->next != SRN_KV_NONE)
        p->blocks[b->next].prev = b->prev;
    else
        p->newest = b->prev;
    p->n_unheld--;
}

static void link_newest(srn__kv_pool *p, uint32_t block) {
    srn__kv_block *b = &p->blocks[block];
    b->prev = p->newest;
    b->next = SRN_KV_NONE;
    if (p->newest != SRN_KV_NONE)
        p->blocks[p->newest].next = block;
    else
        p->oldest = block;
    p->newest = block;
    p->n_unheld++;
}

void srn__kv_hold(srn_kv *kv, uint32_t group, uint32_t block) {
    srn__kv_pool *p = &kv->pools[group];
    if (p->blocks[block].held++ == 0) unlink_unheld(p, block);
}

void srn__kv_release(srn_kv *kv, uint32_t group, uint32_t block) {
    srn__kv_pool *p = &kv->pools[group];
    if (--p->blocks[block].held) return;
    if (p->blocks[block].node == SRN_KV_NONE)
        p->free[p->n_free++] = block;
    else
        link_newest(p, block);
}

void srn__kv_attach(srn_kv *kv, uint32_t group, uint32_t block, uint32_t node) {
    kv->pools[group].blocks[block].node = node;
    kv->nodes[node].block[group] = block;
}

void srn__kv_detach(srn_kv *kv, uint32_t node, uint32_t group) {
    srn__kv_pool *p = &kv->pools[group];
    uint32_t block = kv->nodes[node].block[group];
    if (block == SRN_KV_NONE) return;
    kv->nodes[node].block[group] = SRN_KV_NONE;
    p->blocks[block].node = SRN_KV_NONE;
    if (p->blocks[block].held) return;
    unlink_unheld(p, block);
    p->free[p->n_free++] = block;
}

bool srn__kv_evict(srn_kv *kv, uint32_t group) {
    srn__kv_pool *p = &kv->pools[group];
    if (p->oldest == SRN_KV_NONE) return false;
    uint32_t node = p->blocks[p->oldest].node;
    srn__kv_detach(kv, node, group);
    kv->evictions++;
    /* Without its block of a full group a node is of no use to anybody. */
    for (uint32_t g = 0; p->window == 0 && g < kv->o.n_groups; g++) {
        kv->evictions += kv->nodes[node].block[g] != SRN_KV_NONE;
        srn__kv_detach(kv, node, g);
    }
    srn__kv_drop(kv, node);
    return true;
}

uint32_t srn__kv_take(srn_kv *kv, uint32_t group) {
    srn__kv_pool *p = &kv->pools[group];
    if (p->n_free == 0) srn__kv_evict(kv, group);
    uint32_t block = p->free[--p->n_free];
    p->blocks[block].held = 1;
    return block;
}
