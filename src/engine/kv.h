/* KV blocks: which sequence holds which, what they contain, and which can be shared. Pure bookkeeping over
 * block numbers; the device owns the memory. Owned by one thread (the scheduler's, or that of an engine's
 * sessions).
 *
 * A cache has one pool of blocks per group of layers (model/device.h). A block of SRN_KV_BLOCK positions is
 * addressed by content: a keyed 128-bit hash of (cache key, salt, parent block, its tokens), the tokens
 * compared as well, so that a collision shares nothing. Blocks are shared by reference count; one that nobody
 * holds stays findable until its memory is needed, the least recently used first. A block that is shared or
 * findable is never written: who must write into one gets a copy.
 */
#ifndef SRN_ENGINE_KV_H
#define SRN_ENGINE_KV_H

#include "base/base.h"
#include "model/device.h"

typedef struct srn_kv srn_kv;
typedef struct srn_kv_seq srn_kv_seq;

typedef struct srn_kv_opts {
    uint32_t n_groups;
    srn_kv_group groups[SRN_KV_MAX_GROUPS];
    uint32_t n_blocks[SRN_KV_MAX_GROUPS];
    uint32_t n_ctx;  /* longest sequence */
    uint8_t key[16]; /* random: nobody outside can construct hashes */
    /* Copies a block's memory: positions [0, n_positions) of `from` into `to`. */
    void (*copy)(void *ctx, uint32_t group, uint32_t from, uint32_t to, uint32_t n_positions);
    void *copy_ctx;
} srn_kv_opts;
int srn_kv_new(const srn_kv_opts *o, srn_kv **ret, srn_err *err);
void srn_kv_free(srn_kv *kv); /* its sequences must be gone */

/* An empty sequence. salt separates tenants: only sequences of one salt share. */
int srn_kv_seq_new(srn_kv *kv, uint64_t salt, srn_kv_seq **ret, srn_err *err);
void srn_kv_seq_free(srn_kv_seq *s); /* gives its blocks back; full and partial ones stay findable */
/* An empty sequence that from now on neither takes cached blocks nor leaves any. */
void srn_kv_seq_set_alone(srn_kv_seq *s);
/* How many of the tokens the cache holds, without taking them: the longest prefix for which every group holds
 * what it needs. */
uint32_t srn_kv_lookup(const srn_kv *kv, uint64_t salt, const int32_t *tokens, uint32_t n);
/* Takes the longest cached prefix, at most `most` tokens, into an empty sequence; returns its length. The
 * last block may be taken in part (by a copy). */
uint32_t srn_kv_seq_take(srn_kv_seq *s, const int32_t *tokens, uint32_t n, uint32_t most);
/* Blocks for positions up to n: all or nothing, evicting what nobody holds. False when a pool is exhausted or
 * n is beyond n_ctx. A window group needs blocks for everything from the window of the current end to n: long
 * prompts are reserved step by step. */
bool srn_kv_seq_reserve(srn_kv_seq *s, uint32_t n);
/* Whether reservations and commits in steps of at most `step` positions can bring the sequence to n, if
 * nobody else takes blocks meanwhile. */
bool srn_kv_seq_can_reach(const srn_kv_seq *s, uint32_t n, uint32_t step);
/* The longest sequence that the cache could hold if it were alone there and went on in such steps. */
uint32_t srn_kv_longest(const srn_kv *kv, uint32_t step);
/* Positions up to n, which were reserved, now hold K and V of tokens[0..n), of which those before the current
 * length are the same as before: full blocks become findable, and so does what is there of the last one (its
 * positions are only appended to); blocks that fell out of every window are given back. May replace blocks of
 * the table by equal ones that another sequence computed meanwhile. Positions that were reserved and computed
 * but not committed (rejected drafts) are written again later. */
void srn_kv_seq_commit(srn_kv_seq *s, const int32_t *tokens, uint32_t n);
/* Forgets positions from n on, and what was reserved beyond the end. A window group may no longer hold what a
 * shorter sequence needs: returns the length that remains usable (n, or less), to be computed again from
 * there. */
uint32_t srn_kv_seq_truncate(srn_kv_seq *s, uint32_t n);
uint32_t srn_kv_seq_length(const srn_kv_seq *s);
/* [blocks of n_ctx] of a group, for srn_slice; entries outside the window are SRN_KV_NONE. NULL for a group
 * that the cache does not have. */
const uint32_t *srn_kv_seq_table(const srn_kv_seq *s, uint32_t group);

typedef struct srn_kv_stats {
    uint32_t n_blocks, n_held, n_cached; /* of all groups; cached: held by nobody, findable */
    uint64_t evictions, copies;
} srn_kv_stats;
srn_kv_stats srn_kv_get_stats(const srn_kv *kv);
/* Blocks of a group that could be had now: those that nobody holds. */
uint32_t srn_kv_available(const srn_kv *kv, uint32_t group);
/* Makes everything that nobody holds unfindable (tests, operators). */
void srn_kv_forget(srn_kv *kv);

#endif
