/* The life of a CPU device: kernels, threads, KV blocks, work buffers (load.c packs the weights). Created and
 * freed by one thread. Refuses nothing that srn_model_new accepted but for lack of memory. */
#include "cpu/device_internal.h"

#include <sched.h>
#include <stdlib.h>

uint32_t srn_cpu_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? (uint32_t)n : 1;
}

/* Bytes of all groups; UINT64_MAX when they cannot be counted. */
static uint64_t all_kv_bytes(const srn_model *m, const srn_device_opts *o) {
    srn_kv_group groups[SRN_KV_MAX_GROUPS];
    uint64_t sum = 0;
    for (uint32_t g = 0, n = srn_kv_groups(m, groups); g < n; g++)
        if (!srn_add_u64(sum, srn_kv_bytes(m, o->kv_type, g, o->n_kv_blocks[g]), &sum)) return UINT64_MAX;
    return sum;
}

static void cpu_free(srn_device *d) {
    srn_cpu *c = (srn_cpu *)d;
    if (!c) return;
    srn__pool_free(c->pool);
    srn_pages_free(c->panels, c->panels_bytes);
    srn_pages_free(c->kv, c->kv_bytes);
    srn_pages_free(c->work_mem, c->work_bytes);
    srn_aligned_free(c->scratch);
    free(c->freqs);
    free(c->packed);
    free(c->first_packed);
    free(c->shares);
    free(c);
}

/* ---- KV and work buffers ---- */

static int alloc_kv(srn_cpu *c, srn_err *err) {
    const srn_hparams *hp = &c->m->hp;
    c->k_tile_bytes = (size_t)srn_kv_tile_bytes(c->o.kv_type, hp->d_k);
    c->v_tile_bytes = (size_t)srn_kv_tile_bytes(c->o.kv_type, hp->d_v);
    c->kv_bytes = (size_t)all_kv_bytes(c->m, &c->o);
    c->kv = srn_pages_alloc(c->kv_bytes);
    if (!c->kv)
        return srn_fail(err, SRN_ENOMEM,
                        "the KV cache of %zu bytes cannot be had; ask for a smaller context (--ctx)",
                        c->kv_bytes);
    srn_kv_group groups[SRN_KV_MAX_GROUPS];
    uint8_t *at = c->kv;
    for (uint32_t g = 0, n = srn_kv_groups(c->m, groups); g < n; g++) {
        c->kv_group[g] = at;
        c->kv_block_bytes[g] = (size_t)srn_kv_bytes(c->m, c->o.kv_type, g, 1);
        at += c->kv_block_bytes[g] * c->o.n_kv_blocks[g];
    }
    return SRN_OK;
}

/* Hands out pieces of one region; with base NULL it only adds up. */
typedef struct carver {
    uint8_t *base;
    size_t used;
} carver;

static void *carve(carver *a, size_t n, size_t size) {
    size_t at = a->used;
    a->used += (size_t)srn_align_up((uint64_t)n * size, 64);
    return a->base ? a->base + at : NULL;
}

static uint32_t in_groups(uint32_t k) {
    return (uint32_t)srn_align_up(k, SRN_GROUP);
}

static uint32_t widest_ff(const srn_hparams *hp) {
    return SRN_MAX(hp->n_ff, hp->n_expert ? hp->n_ff_expert : 0);
}

/* The longest row that a product reads, in whole groups. */
static uint32_t widest_input(const srn_hparams *hp) {
    return in_groups(SRN_MAX(SRN_MAX(hp->n_embd, hp->n_head * hp->d_v), widest_ff(hp)));
}

/* A step of so many elements, tokens times width, is small: every thread computes all of its norms and codes.
 */
#define OWN_ELEMENTS 4096u

static void carve_rows(const srn_cpu *c, carver *a, size_t tokens, srn_rows *r) {
    const srn_hparams *hp = &c->m->hp;
    uint32_t n = (uint32_t)tokens;
    r->x = carve(a, tokens * hp->n_embd, sizeof(float));
    r->xn = carve(a, tokens * hp->n_embd, sizeof(float));
    r->act_wide = carve(a, c->k.act_bytes(in_groups(hp->n_embd), n, 2), 1);
    r->act_att = carve(a, c->k.act_bytes(in_groups(hp->n_head * hp->d_v), n, 1), 1);
}

static void carve_attention(srn_cpu *c, carver *a) {
    srn_kv_group groups[SRN_KV_MAX_GROUPS];
    size_t n_items, part_floats;
    uint32_t n_splits;
    srn__attend_sizes(c, &n_items, &n_splits, &part_floats);
    float *parts = carve(a, part_floats, sizeof *parts); /* one layer's at a time */
    for (uint32_t g = 0, n = srn_kv_groups(c->m, groups); g < n; g++) {
        srn_attn_plan *p = &c->w.attn[g];
        p->items = carve(a, n_items, sizeof *p->items);
        p->splits = carve(a, n_splits, sizeof *p->splits);
        p->parts = parts;
        p->max_splits = n_splits, p->max_part_floats = part_floats;
    }
}

static void carve_work(srn_cpu *c, carver *a) {
    const srn_hparams *hp = &c->m->hp;
    size_t t = c->o.max_batch, slots = t * hp->n_expert_used;
    srn_work *w = &c->w;
    w->own_tokens = SRN_MIN((uint32_t)t, OWN_ELEMENTS / SRN_MAX(hp->n_embd, hp->n_head * hp->d_v));
    w->own = carve(a, c->o.threads, sizeof *w->own);
    carve_rows(c, a, t, &w->shared);
    for (uint32_t i = 0; i < c->o.threads && w->own_tokens; i++) {
        srn_rows own;
        carve_rows(c, a, w->own_tokens, a->base ? &w->own[i] : &own);
    }
    w->q = carve(a, t * hp->n_head * hp->d_k, sizeof(float));
    w->k = carve(a, t * hp->n_head_kv * hp->d_k, sizeof(float));
    w->v = carve(a, t * hp->n_head_kv * hp->d_v, sizeof(float));
    w->att = carve(a, t * hp->n_head * hp->d_v, sizeof(float));
    w->gate = carve(a, SRN_MAX(t * hp->n_ff, slots * hp->n_ff_expert), sizeof(float));
    w->up = carve(a, SRN_MAX(t * hp->n_ff, slots * hp->n_ff_expert), sizeof(float));
    w->out = carve(a, t * hp->n_embd, sizeof(float));
    w->router = carve(a, t * hp->n_expert, sizeof(float));
    w->expert_out = carve(a, slots * hp->n_embd, sizeof(float));
    w->choices = carve(a, slots, sizeof *w->choices);
    w->slot_token = carve(a, slots, sizeof(uint32_t));
    w->slot_self = carve(a, slots, sizeof(uint32_t));
    w->expert_start = carve(a, hp->n_expert + 1, sizeof(uint32_t));
    w->cos = carve(a, 2 * t * hp->n_rot / 2, sizeof(float));
    w->sin = carve(a, 2 * t * hp->n_rot / 2, sizeof(float));
    w->pos = carve(a, t, sizeof(uint32_t));
    w->slice = carve(a, t, sizeof(uint32_t));
    w->tiles = carve(a, t, sizeof *w->tiles);
    carve_attention(c, a);
    w->act_mid = carve(a, c->k.act_bytes(in_groups(widest_ff(hp)), (uint32_t)SRN_MAX(t, slots), 1), 1);
}

static void size_work(srn_cpu *c) {
    const srn_hparams *hp = &c->m->hp;
    carver sizing = {NULL, 0};
    carve_work(c, &sizing);
    c->work_bytes = sizing.used;
    c->scratch_each =
        SRN_MAX(c->k.scratch_bytes(widest_input(hp)), c->k.attn_scratch_bytes(hp->d_k, hp->d_v));
    c->scratch_each = (size_t)srn_align_up(c->scratch_each, 4096);
}

static int alloc_work(srn_cpu *c, srn_err *err) {
    const srn_hparams *hp = &c->m->hp;
    size_work(c);
    c->work_mem = srn_pages_alloc(c->work_bytes);
    c->scratch = srn_aligned_calloc(srn__pool_threads(c->pool), c->scratch_each);
    c->freqs = srn_calloc(hp->n_rot, sizeof *c->freqs);
    if (!c->work_mem || !c->scratch || !c->freqs)
        return srn_fail(err, SRN_ENOMEM, "work buffers for %u tokens a step need %zu bytes of memory",
                        c->o.max_batch, c->work_bytes);
    carver real = {c->work_mem, 0};
    carve_work(c, &real);
    for (uint32_t i = 0; i < c->o.max_batch * hp->n_expert_used; i++) c->w.slot_self[i] = i;
    for (uint32_t local = 0; local < 2; local++)
        srn_rope_freqs(c->m, local, c->o.n_ctx, c->freqs + local * (hp->n_rot / 2), &c->rope_factor[local]);
    return SRN_OK;
}

/* ---- the interface ---- */

static const char *cpu_device_class(const srn_device *d) {
    return ((const srn_cpu *)d)->device_class;
}

static void cpu_memory(const srn_device *d, uint64_t *ret_weights, uint64_t *ret_kv, uint64_t *ret_work) {
    const srn_cpu *c = (const srn_cpu *)d;
    *ret_weights = c->panels_bytes;
    *ret_kv = c->kv_bytes;
    *ret_work = c->work_bytes + c->scratch_each * srn__pool_threads(c->pool);
}

static uint32_t cpu_threads(const srn_device *d) {
    return srn__pool_threads(((const srn_cpu *)d)->pool);
}

static void cpu_copy_block(srn_device *d, uint32_t group, uint32_t from, uint32_t to, uint32_t n_positions) {
    srn_cpu *c = (srn_cpu *)d;
    (void)n_positions; /* the positions of a block lie spread over its tiles */
    size_t bytes = c->kv_block_bytes[group];
    memcpy(c->kv_group[group] + to * bytes, c->kv_group[group] + from * bytes, bytes);
}

typedef struct shared_work {
    void (*fn)(void *ctx, uint32_t i);
    void *ctx;
    uint32_t n;
    atomic_uint next;
} shared_work;

static void take_work(void *ctx, uint32_t thread, uint32_t n_threads) {
    shared_work *w = ctx;
    (void)thread, (void)n_threads;
    uint32_t i;
    while ((i = atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed)) < w->n) w->fn(w->ctx, i);
}

static void cpu_parallel(srn_device *d, void (*fn)(void *ctx, uint32_t i), void *ctx, uint32_t n) {
    shared_work w = {.fn = fn, .ctx = ctx, .n = n};
    if (n == 1) return fn(ctx, 0);
    if (n) srn__pool_run(((srn_cpu *)d)->pool, take_work, &w);
}

static const srn_device_ops cpu_ops = {.free = cpu_free,
                                       .forward = srn__cpu_forward,
                                       .device_class = cpu_device_class,
                                       .memory = cpu_memory,
                                       .threads = cpu_threads,
                                       .copy_block = cpu_copy_block,
                                       .parallel = cpu_parallel};

/* What needs no memory of note: options and kernels. */
static int describe(srn_cpu *c, const srn_model *m, const srn_device_opts *o, srn_err *err) {
    c->base.ops = &cpu_ops;
    c->m = m;
    c->o = *o;
    c->o.max_batch = SRN_MAX(o->max_batch, 1u);
    c->o.threads = o->threads ? o->threads : srn_cpu_count();
    return srn__kernels_select(o->cpu_limit, &c->k, err);
}

int srn_cpu_device_bytes(const srn_model *m, const srn_device_opts *o, uint64_t *ret_weights,
                         uint64_t *ret_kv, uint64_t *ret_work, srn_err *err) {
    srn_cpu c = {0};
    int code = describe(&c, m, o, err);
    if (code) return code;
    uint64_t weights = 0;
    for (uint32_t i = 0; i < m->n_mats; i++) {
        const srn_mat *mat = &m->mats[i];
        srn_packed part = srn__packed_part(&c, mat, 0);
        size_t bytes =
            part.panel_bytes ? part.panel_bytes * srn__panel_count(&part) : part.rows * part.row_bytes;
        weights += bytes * mat->parts;
    }
    size_work(&c);
    *ret_weights = weights;
    *ret_kv = all_kv_bytes(m, o);
    *ret_work = c.work_bytes + c.scratch_each * c.o.threads;
    return SRN_OK;
}

int srn_cpu_device_new(const srn_model *m, const srn_device_opts *o, srn_device **ret, srn_err *err) {
    srn_cpu *c = srn_calloc(1, sizeof *c);
    if (!c) return srn_fail_nomem(err, sizeof *c);
    int code = describe(c, m, o, err);
    if (!code) code = srn__pool_new(c->o.threads, &c->pool, err);
    if (!code) code = srn__cpu_load(c, err);
    if (!code) code = alloc_kv(c, err);
    if (!code) code = alloc_work(c, err);
    if (code) {
        cpu_free(&c->base);
        return code;
    }
    snprintf(c->device_class, sizeof c->device_class, "cpu-%s", c->k.name);
    *ret = &c->base;
    return SRN_OK;
}
