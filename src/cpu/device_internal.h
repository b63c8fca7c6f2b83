/* The CPU device's state, shared by device.c (life), load.c (weights) and forward.c (a step). Written by one
 * step at a time. */
#ifndef SRN_CPU_DEVICE_INTERNAL_H
#define SRN_CPU_DEVICE_INTERNAL_H

#include <stdatomic.h>

#include "cpu/cpu.h"
#include "cpu/cpu_internal.h"

/* One of a token's experts. */
typedef struct srn_choice {
    uint32_t expert, slot; /* slot: its column in the expert buffers, grouped by expert */
    float weight;
} srn_choice;

/* Neighbouring queries of a slice, whose attention is computed together. */
typedef struct srn_query_tile {
    uint32_t slice, first, n; /* first: token of the slice */
} srn_query_tile;

/* The residual stream and what is derived from it; rows are tokens. */
typedef struct srn_rows {
    float *x;       /* [n_embd] */
    float *xn;      /* normed */
    void *act_wide; /* quantised, one or two planes: what the first product of a block reads */
    void *act_att;  /* the attention's results, quantised, one plane */
} srn_rows;

/* One query of one KV head whose segments are computed by several items (attend.c). */
typedef struct srn_attn_split {
    float *part; /* the records [n_segments][heads of the group] */
    uint32_t tile, kv_head, seg0, n_segments, items;
    atomic_uint left; /* items not done yet: the last one merges */
} srn_attn_split;

/* What a thread takes: some of the heads of a tile and KV head, and with a split some of its segments. */
typedef struct srn_attn_item {
    srn_attn_split *split; /* or NULL */
    uint32_t tile;
    uint16_t kv_head, head0, head1; /* of the group: [head0, head1) */
    uint32_t seg0, seg1;
} srn_attn_item;

/* The items of a layer, longest first; the same for all layers of a group of the cache. */
typedef struct srn_attn_plan {
    srn_attn_item *items;
    srn_attn_split *splits;
    float *parts;
    uint32_t n_items, n_splits, max_splits;
    size_t part_floats, max_part_floats;
} srn_attn_plan;

/* Work buffers for max_batch tokens; rows are tokens, every row 64-byte aligned in its stride. */
typedef struct srn_work {
    srn_rows shared;
    srn_rows *own;          /* [thread] */
    uint32_t own_tokens;    /* tokens that fit a thread's own rows */
    float *q;               /* [n_head*d_k] */
    float *k, *v;           /* [n_head_kv*d_k], [n_head_kv*d_v] */
    float *att;             /* [n_head*d_v] */
    float *gate, *up;       /* [n_ff], or experts': one row per slot */
    float *out;             /* projections back to n_embd */
    float *router;          /* [n_expert] */
    float *expert_out;      /* [slot][n_embd] */
    srn_choice *choices;    /* [token][n_used] */
    uint32_t *slot_token;   /* [slot]: the token it came from */
    uint32_t *slot_self;    /* [slot]: the slot's own number */
    uint32_t *expert_start; /* [n_expert + 1]: first slot of each expert */
    void *act_mid;          /* quantised rows of n_ff or n_ff_expert, one plane: what ffn_down reads */
    float *cos, *sin;       /* [2][token][n_rot/2]: global, then local */
    uint32_t *pos;          /* index in its sequence */
    uint32_t *slice;        /* the token's slice */
    srn_query_tile *tiles;  /* by how long they take, ascending */
    srn_attn_plan attn[SRN_KV_MAX_GROUPS];
} srn_work;

/* How the panels of a matrix are dealt to the threads: they are panels [at, at + its own) of a list of n, of
 * which each thread has a part cut at multiples of unit. */
typedef struct srn_share {
    uint32_t at, n, unit;
} srn_share;

typedef struct srn_cpu {
    srn_device base;
    const srn_model *m;
    srn_kernels k;
    srn_pool *pool;
    srn_device_opts o;
    char device_class[32];

    srn_packed *packed;     /* matrix i: entries from first_packed[i], one per part */
    uint32_t *first_packed; /* [n_mats] */
    srn_share *shares;      /* [n_mats] */
    uint8_t *panels;        /* all packed panels */
    size_t panels_bytes;

    /* Per group [block][layer of the group], each K [kv head] tiles, then V likewise: a block's memory is one
     * piece. */
    uint8_t *kv, *kv_group[SRN_KV_MAX_GROUPS];
    size_t kv_bytes, k_tile_bytes, v_tile_bytes, kv_block_bytes[SRN_KV_MAX_GROUPS];

    uint8_t *work_mem;
    size_t work_bytes;
    srn_work w;
    double *freqs; /* [2][n_rot/2]: global, local */
    double rope_factor[2];
    uint8_t *scratch; /* scratch_each per thread */
    size_t scratch_each;
    atomic_uint next_item; /* the next item of a phase whose items are taken, not dealt */
    atomic_bool non_finite;
} srn_cpu;

/* The packed form of part e of a matrix (0 where dense). */
static inline const srn_packed *srn__packed(const srn_cpu *c, const srn_mat *mat, uint32_t e) {
    return &c->packed[c->first_packed[mat - c->m->mats] + e];
}

/* Tiles of a layer's KV head in block 0 of its group; those of other blocks lie kv_block_bytes apart. */
static inline uint8_t *srn__k_tiles(const srn_cpu *c, const srn_layer *l, uint32_t h) {
    return c->kv_group[l->kv_group] +
           (size_t)l->kv_index * c->m->hp.n_head_kv * (c->k_tile_bytes + c->v_tile_bytes) +
           h * c->k_tile_bytes;
}
static inline uint8_t *srn__v_tiles(const srn_cpu *c, const srn_layer *l, uint32_t h) {
    return srn__k_tiles(c, l, 0) + c->m->hp.n_head_kv * c->k_tile_bytes + h * c->v_tile_bytes;
}

/* The panels [*ret_a, *ret_b) of each part of a matrix that belong to a thread: it packs them, so that its
 * processor has them near, and it multiplies them. */
static inline void srn__panel_share(const srn_cpu *c, const srn_mat *mat, uint32_t thread, uint32_t n_threads,
                                    uint32_t *ret_a, uint32_t *ret_b) {
    const srn_share *s = &c->shares[mat - c->m->mats];
    uint32_t a, b, count = srn__panel_count(srn__packed(c, mat, 0));
    srn__pool_part(s->n, s->unit, thread, n_threads, &a, &b);
    *ret_a = a > s->at ? SRN_MIN(a - s->at, count) : 0;
    *ret_b = b > s->at ? SRN_MIN(b - s->at, count) : 0;
}

/* Part e of a matrix, not packed yet. */
srn_packed srn__packed_part(const srn_cpu *c, const srn_mat *mat, uint32_t e);
/* load.c: packs the weights on the pool. Errors: SRN_ENOMEM, SRN_ECANCELLED. */
int srn__cpu_load(srn_cpu *c, srn_err *err);

int srn__cpu_forward(srn_device *d, const srn_batch *b, srn_err *err);

/* Attention of a step. attend_sizes says how much a plan holds, for the carving of its memory; plan makes
 * the plans of all groups, on one thread before the step; attend computes a layer on every thread of the
 * pool, with next_item 0 before and a barrier after. False when a score was not finite. */
void srn__attend_sizes(const srn_cpu *c, size_t *ret_items, uint32_t *ret_splits, size_t *ret_part_floats);
void srn__attend_plan(srn_cpu *c, const srn_batch *b);
bool srn__attend(srn_cpu *c, const srn_batch *b, const srn_layer *l, void *scratch);

#endif
