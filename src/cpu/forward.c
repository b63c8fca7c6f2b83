/* One step of the transformer on the CPU: every thread of the pool walks the same phases, each taking its
 * part, with a barrier between phases. The arithmetic is docs/numerics.md's; nothing here adds across k, so
 * the split changes no bit. Called by srn_device_ops.forward; refuses nothing (the engine checked the batch),
 * but reports a step in which a value became infinite or NaN.
 */
#include "cpu/device_internal.h"

typedef struct step {
    srn_cpu *c;
    const srn_batch *b;
    const srn_hparams *hp;
    uint32_t n; /* tokens */
} step;

/* One thread's view of a step. With few tokens every thread keeps the residual stream and what is derived
 * from it itself (`alone`): to compute a row again takes less time than to wait for who computed it. */
typedef struct worker {
    step *s;
    srn_cpu *c;
    const srn_hparams *hp;
    srn_work *w;
    void *scratch;
    uint32_t n, thread, n_threads;
    bool alone;
    srn_rows r; /* shared, or with `alone` this thread's own */
} worker;

static void barrier(const worker *t) {
    srn__pool_barrier(t->c->pool);
}

static void part(const worker *t, uint32_t n, uint32_t unit, uint32_t *a, uint32_t *b) {
    srn__pool_part(n, unit, t->thread, t->n_threads, a, b);
}

static void flag(const worker *t, bool finite) {
    if (!finite) atomic_store_explicit(&t->c->non_finite, true, memory_order_relaxed);
}

/* ---- products ---- */

/* The activations of a product: rows of x, with room for their codes in q. */
static srn_act act_of(const float *x, uint32_t k, uint32_t n, uint32_t planes, void *q) {
    return (srn_act){.x = x, .x_stride = k, .k = k, .n = n, .planes = planes, .q = q};
}

/* Prepares groups [g0, g1) of columns [c0, c1): codes where k allows them, and the check for infinities. */
static void prepare(const worker *t, const srn_act *a, uint32_t c0, uint32_t c1, uint32_t g0, uint32_t g1) {
    if (c0 >= c1 || g0 >= g1) return;
    if (a->k % SRN_GROUP == 0) return flag(t, t->c->k.quantize(a, c0, c1, g0, g1));
    uint32_t e0 = g0 * SRN_GROUP, e1 = SRN_MIN(g1 * SRN_GROUP, a->k);
    for (uint32_t i = c0; i < c1; i++) flag(t, t->c->k.all_finite(a->x + i * a->x_stride + e0, e1 - e0));
}

/* The tokens, or other rows, of n that this thread does: all with `alone`. */
static void own_tokens(const worker *t, uint32_t n, uint32_t *a, uint32_t *b) {
    *a = 0;
    *b = n;
    if (!t->alone) part(t, n, 1, a, b);
}

static uint32_t group_count(const srn_act *a) {
    return (a->k + SRN_GROUP - 1) / SRN_GROUP;
}

/* Prepares all columns of activations that every thread has or sees: each thread its own, or a part of all by
 * columns, or for one column by groups, and then all wait. */
static void prepare_all(const worker *t, const srn_act *a) {
    uint32_t p, q;
    if (t->alone) return prepare(t, a, 0, a->n, 0, group_count(a));
    if (a->n >= t->n_threads) {
        part(t, a->n, 1, &p, &q);
        prepare(t, a, p, q, 0, group_count(a));
    } else {
        part(t, group_count(a), 1, &p, &q);
        prepare(t, a, 0, a->n, p, q);
    }
    barrier(t);
}

/* Panels [p0, p1) of y = w * a, and the bias of their rows. */
static void product_panels(const worker *t, const srn_packed *w, const srn_act *a, const float *bias,
                           float *y, uint32_t p0, uint32_t p1) {
    if (p0 >= p1) return;
    t->c->k.matmul(w, p0, p1, a, NULL, a->n, y, w->rows, t->scratch);
    if (!bias) return;
    uint32_t r0 = p0 * SRN_PANEL, r1 = SRN_MIN(p1 * SRN_PANEL, w->rows);
    for (uint32_t i = 0; i < a->n; i++) t->c->k.add(y + (size_t)i * w->rows + r0, bias + r0, r1 - r0);
}

/* The panels of a matrix that this thread packed. */
static void share(const worker *t, const srn_mat *mat, uint32_t *p0, uint32_t *p1) {
    srn__panel_share(t->c, mat, t->thread, t->n_threads, p0, p1);
}

static void product(const worker *t, const srn_mat *mat, const srn_act *a, const float *bias, float *y) {
    uint32_t p0, p1;
    share(t, mat, &p0, &p1);
    product_panels(t, srn__packed(t->c, mat, 0), a, bias, y, p0, p1);
}

/* ---- attention ---- */

static void project_qkv(const worker *t, const srn_layer *l, const srn_act *a) {
    product(t, l->q, a, l->q_bias, t->w->q);
    product(t, l->k, a, l->k_bias, t->w->k);
    product(t, l->v, a, l->v_bias, t->w->v);
}

static const srn_slice *slice_of(const worker *t, uint32_t token) {
    return &t->s->b->slices[t->w->slice[token]];
}

/* Norm and rope of one head of one token, and for a KV head its rounding into the cache. */
static void finish_head(const worker *t, const srn_layer *l, uint32_t token, uint32_t head) {
    const srn_hparams *hp = t->hp;
    const srn_kernels *k = &t->c->k;
    bool is_q = head < hp->n_head;
    uint32_t h = is_q ? head : head - hp->n_head;
    float *x = is_q ? t->w->q + ((size_t)token * hp->n_head + h) * hp->d_k
                    : t->w->k + ((size_t)token * hp->n_head_kv + h) * hp->d_k;
    const float *norm = is_q ? l->q_norm : l->k_norm;
    if (norm) k->rms_norm(x, norm, hp->norm_eps, hp->d_k, x);
    if (!(t->c->m->features_off & SRN_FEAT_ROPE)) {
        size_t row = ((l->local_rope ? (size_t)t->s->c->o.max_batch : 0) + token) * (hp->n_rot / 2);
        k->rope(x, t->w->cos + row, t->w->sin + row, hp->n_rot, t->c->m->arch->rope_neox);
    }
    if (is_q) return; /* one that is not finite shows in its scores */
    const srn_slice *s = slice_of(t, token);
    uint32_t pos = t->w->pos[token];
    size_t at = s->blocks[l->kv_group][pos / SRN_KV_BLOCK] * t->c->kv_block_bytes[l->kv_group];
    flag(t, k->kv_store(t->c->o.kv_type, x, t->w->v + ((size_t)token * hp->n_head_kv + h) * hp->d_v, hp->d_k,
                        hp->d_v, pos % SRN_KV_BLOCK, srn__k_tiles(t->c, l, h) + at,
                        srn__v_tiles(t->c, l, h) + at));
}

static void finish_qk(const worker *t, const srn_layer *l) {
    uint32_t heads = t->hp->n_head + t->hp->n_head_kv, a, b;
    part(t, t->n * heads, 1, &a, &b);
    for (uint32_t i = a; i < b; i++) finish_head(t, l, i / heads, i % heads);
}

static void attention_block(const worker *t, uint32_t layer, const srn_act *in) {
    const srn_layer *l = &t->c->m->layers[layer];
    srn_act mid = act_of(t->w->att, t->hp->n_head * t->hp->d_v, t->n, 1, t->r.act_att);
    if (t->thread == 0) atomic_store_explicit(&t->c->next_item, 0, memory_order_relaxed);
    project_qkv(t, l, in);
    barrier(t);
    finish_qk(t, l);
    barrier(t);
    flag(t, srn__attend(t->c, t->s->b, l, t->scratch));
    barrier(t);
    prepare_all(t, &mid);
    product(t, l->o, &mid, l->o_bias, t->w->out);
    barrier(t);
}

/* ---- feed-forward ---- */

/* gate and up for this thread's rows, the activation, and the codes of the groups that it finished. */
static void gate_up(const worker *t, const srn_mat *gates, const srn_mat *ups, uint32_t e, const srn_act *in,
                    const uint32_t *cols, uint32_t first, uint32_t n, const srn_act *ret) {
    const srn_packed *gate = srn__packed(t->c, gates, e), *up = srn__packed(t->c, ups, e);
    uint32_t p0, p1, ff = gate->rows;
    share(t, gates, &p0, &p1);
    if (p0 >= p1 || n == 0) return;
    float *g = t->w->gate + (size_t)first * ff, *u = t->w->up + (size_t)first * ff;
    t->c->k.matmul(gate, p0, p1, in, cols, n, g, ff, t->scratch);
    t->c->k.matmul(up, p0, p1, in, cols, n, u, ff, t->scratch);
    uint32_t r0 = p0 * SRN_PANEL, r1 = SRN_MIN(p1 * SRN_PANEL, ff);
    for (uint32_t i = 0; i < n; i++)
        t->c->k.act_mul(t->c->m->act, g + (size_t)i * ff + r0, u + (size_t)i * ff + r0, r1 - r0,
                        g + (size_t)i * ff + r0);
    prepare(t, ret, first, first + n, r0 / SRN_GROUP, (r1 + SRN_GROUP - 1) / SRN_GROUP);
}

static void dense_block(const worker *t, const srn_layer *l, const srn_act *in) {
    srn_act mid = act_of(t->w->gate, t->hp->n_ff, t->n, 1, t->w->act_mid);
    gate_up(t, l->gate, l->up, 0, in, NULL, 0, t->n, &mid);
    barrier(t);
    product(t, l->down, &mid, NULL, t->w->out);
    barrier(t);
}

/* The n_used greatest router logits of a token, ties to the lower expert, and their weights. */
static void choose_experts(const worker *t, uint32_t token) {
    const srn_hparams *hp = t->hp;
    const float *logits = t->w->router + (size_t)token * hp->n_expert;
    srn_choice *c = t->w->choices + (size_t)token * hp->n_expert_used;
    for (uint32_t r = 0; r < hp->n_expert_used; r++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t e = 0; e < hp->n_expert; e++) {
            bool taken = false;
            for (uint32_t k = 0; k < r; k++) taken = taken || c[k].expert == e;
            if (!taken && (best == UINT32_MAX || logits[e] > logits[best])) best = e;
        }
        c[r].expert = best;
    }
    float max = logits[c[0].expert], sum = 0;
    for (uint32_t r = 0; r < hp->n_expert_used; r++) c[r].weight = srn_expf(logits[c[r].expert] - max);
    if (hp->expert_norm)
        for (uint32_t r = 0; r < hp->n_expert_used; r++) sum = sum + c[r].weight;
    else
        for (uint32_t e = 0; e < hp->n_expert; e++) sum = sum + srn_expf(logits[e] - max);
    for (uint32_t r = 0; r < hp->n_expert_used; r++) c[r].weight = c[r].weight / sum;
    flag(t, t->c->k.all_finite(logits, hp->n_expert));
}

/* Numbers the slots so that each expert's tokens are neighbours, in token order. One thread. */
static void group_slots(const worker *t) {
    const srn_hparams *hp = t->hp;
    uint32_t n = t->n * hp->n_expert_used, *start = t->w->expert_start;
    memset(start, 0, (hp->n_expert + 1) * sizeof *start);
    for (uint32_t i = 0; i < n; i++) start[t->w->choices[i].expert + 1]++;
    for (uint32_t e = 0; e < hp->n_expert; e++) start[e + 1] += start[e];
    for (uint32_t i = 0; i < n; i++) {
        srn_choice *c = &t->w->choices[i];
        c->slot = start[c->expert]++;
        t->w->slot_token[c->slot] = i / hp->n_expert_used;
    }
    for (uint32_t e = hp->n_expert; e > 0; e--) start[e] = start[e - 1];
    start[0] = 0;
}

static void expert_block(const worker *t, const srn_layer *l, const srn_act *in) {
    const srn_hparams *hp = t->hp;
    uint32_t a, b, p0, p1;
    product(t, l->router, in, NULL, t->w->router);
    barrier(t);
    part(t, t->n, 1, &a, &b);
    for (uint32_t i = a; i < b; i++) choose_experts(t, i);
    barrier(t);
    if (t->thread == 0) group_slots(t);
    barrier(t);
    srn_act mid = act_of(t->w->gate, hp->n_ff_expert, t->n * hp->n_expert_used, 1, t->w->act_mid);
    const uint32_t *start = t->w->expert_start;
    for (uint32_t e = 0; e < hp->n_expert; e++)
        gate_up(t, l->gate_exps, l->up_exps, e, in, t->w->slot_token + start[e], start[e],
                start[e + 1] - start[e], &mid);
    barrier(t);
    share(t, l->down_exps, &p0, &p1);
    for (uint32_t e = 0; e < hp->n_expert; e++) {
        if (p0 < p1 && start[e] < start[e + 1])
            t->c->k.matmul(srn__packed(t->c, l->down_exps, e), p0, p1, &mid, t->w->slot_self + start[e],
                           start[e + 1] - start[e], t->w->expert_out + (size_t)start[e] * hp->n_embd,
                           hp->n_embd, t->scratch);
    }
    barrier(t);
    for (uint32_t i = a; i < b; i++) {
        const srn_choice *c = t->w->choices + (size_t)i * hp->n_expert_used;
        float *out = t->w->out + (size_t)i * hp->n_embd;
        for (uint32_t r = 0; r < hp->n_expert_used; r++) {
            const float *y = t->w->expert_out + (size_t)c[r].slot * hp->n_embd;
            for (uint32_t j = 0; j < hp->n_embd; j++)
                out[j] = r ? fmaf(c[r].weight, y[j], out[j]) : c[r].weight * y[j];
        }
    }
    barrier(t);
}

/* ---- the step ---- */

/* Adds a block's output (after its post norm, which is formed in `spare`) to the residual of token i. */
static void add_out(const worker *t, const float *post_norm, uint32_t i, float *spare) {
    uint32_t n = t->hp->n_embd;
    const float *out = t->w->out + (size_t)i * n;
    if (post_norm) t->c->k.rms_norm(out, post_norm, t->hp->norm_eps, n, spare);
    t->c->k.add(t->r.x + (size_t)i * n, post_norm ? spare : out, n);
}

/* Adds what came before, if anything did, and makes of the residual stream what a block reads: normed, and as
 * codes of `planes`. */
static srn_act block_input(const worker *t, bool add, const float *post_norm, const float *norm,
                           uint32_t planes) {
    uint32_t a, b, n = t->hp->n_embd;
    srn_act in = act_of(t->r.xn, n, t->n, planes, t->r.act_wide);
    own_tokens(t, t->n, &a, &b);
    for (uint32_t i = a; i < b; i++) {
        float *row = t->r.xn + (size_t)i * n;
        if (add) add_out(t, post_norm, i, row);
        t->c->k.rms_norm(t->r.x + (size_t)i * n, norm, t->hp->norm_eps, n, row);
    }
    prepare(t, &in, a, b, 0, group_count(&in));
    if (!t->alone) barrier(t);
    return in;
}

static void embed(const worker *t) {
    const srn_packed *w = srn__packed(t->c, t->c->m->embd, 0);
    uint32_t n = t->hp->n_embd, half = t->hp->n_rot / 2, a, b;
    own_tokens(t, t->n, &a, &b);
    for (uint32_t i = a; i < b; i++) {
        float *x = t->r.x + (size_t)i * n;
        srn_dequant(w->type, w->raw + (size_t)t->s->b->tokens[i] * w->row_bytes, x, n);
        if (t->hp->embed_scale != 1.0f)
            for (uint32_t j = 0; j < n; j++) x[j] = x[j] * t->hp->embed_scale;
    }
    part(t, t->n, 1, &a, &b);
    for (uint32_t i = a; i < b; i++) {
        const srn_slice *s = slice_of(t, i);
        t->w->pos[i] = s->n_past + (i - s->first);
        for (uint32_t local = 0; local < (t->c->m->hp.local_rope ? 2u : 1u); local++) {
            size_t row = ((size_t)local * t->c->o.max_batch + i) * half;
            srn_rope_row(t->c->freqs + local * half, t->c->rope_factor[local], half, t->w->pos[i],
                         t->w->cos + row, t->w->sin + row);
        }
    }
}

/* Panels of the head whose logits are looked at before the next are computed: they are in a cache still. */
#define HEAD_PANELS 32u

static void finish_logits(const worker *t, float *y, uint32_t n) {
    flag(t, t->c->k.all_finite(y, n));
    float cap = t->hp->final_softcap;
    for (uint32_t i = 0; i < n && cap > 0; i++) y[i] = cap * srn_tanhf(y[i] / cap);
}

/* The rows that the head reads: the wanted tokens' hidden states, one after the other. */
static srn_act head_input(const worker *t, const float *post_norm) {
    const srn_batch *b = t->s->b;
    uint32_t a, e, n = t->hp->n_embd;
    srn_act in = act_of(t->r.xn, n, b->n_wanted, 2, t->r.act_wide);
    own_tokens(t, b->n_wanted, &a, &e);
    for (uint32_t i = a; i < e; i++) {
        float *row = t->r.xn + (size_t)i * n;
        add_out(t, post_norm, b->wanted[i], row);
        t->c->k.rms_norm(t->r.x + (size_t)b->wanted[i] * n, t->c->m->out_norm, t->hp->norm_eps, n, row);
    }
    if (b->logits) prepare(t, &in, a, e, 0, group_count(&in));
    if (!b->hidden) return in;
    part(t, b->n_wanted, 1, &a, &e);
    for (uint32_t i = a; i < e; i++)
        memcpy(b->hidden + (size_t)i * n, t->r.xn + (size_t)i * n, n * sizeof(float));
    return in;
}

static void head(const worker *t, const float *post_norm) {
    const srn_batch *b = t->s->b;
    uint32_t a, e, vocab = t->hp->n_vocab;
    srn_act in = head_input(t, post_norm);
    if (!b->logits) return;
    if (!t->alone) barrier(t);
    const srn_packed *w = srn__packed(t->c, t->c->m->head, 0);
    share(t, t->c->m->head, &a, &e);
    for (uint32_t p = a; p < e; p += HEAD_PANELS) {
        uint32_t r0 = p * SRN_PANEL, r1 = SRN_MIN(SRN_MIN(p + HEAD_PANELS, e) * SRN_PANEL, vocab);
        product_panels(t, w, &in, NULL, b->logits, p, SRN_MIN(p + HEAD_PANELS, e));
        for (uint32_t i = 0; i < b->n_wanted; i++)
            finish_logits(t, b->logits + (size_t)i * vocab + r0, r1 - r0);
    }
}

static void run_step(void *ctx, uint32_t thread, uint32_t n_threads) {
    step *s = ctx;
    srn_cpu *c = s->c;
    worker w = {.s = s,
                .c = c,
                .hp = s->hp,
                .w = &c->w,
                .scratch = c->scratch + thread * c->scratch_each,
                .n = s->n,
                .thread = thread,
                .n_threads = n_threads,
                .alone = s->n <= c->w.own_tokens};
    w.r = w.alone ? c->w.own[thread] : c->w.shared;
    const worker *t = &w;
    embed(t);
    for (uint32_t i = 0; i < s->hp->n_layer; i++) {
        const srn_layer *l = &c->m->layers[i];
        const float *post_norm = i ? c->m->layers[i - 1].ffn_post_norm : NULL;
        srn_act in = block_input(t, i > 0, post_norm, l->attn_norm, 2);
        attention_block(t, i, &in);
        in = block_input(t, true, l->attn_post_norm, l->ffn_norm, 1);
        if (l->router)
            expert_block(t, l, &in);
        else
            dense_block(t, l, &in);
    }
    if (s->b->n_wanted) head(t, c->m->layers[s->hp->n_layer - 1].ffn_post_norm);
}

int srn__cpu_forward(srn_device *d, const srn_batch *b, srn_err *err) {
    srn_cpu *c = (srn_cpu *)d;
    step s = {.c = c, .b = b, .hp = &c->m->hp, .n = b->n_tokens};
    atomic_store(&c->non_finite, false);
    for (uint32_t i = 0; i < b->n_slices; i++)
        for (uint32_t q = 0; q < b->slices[i].n_tokens; q++) c->w.slice[b->slices[i].first + q] = i;
    srn__attend_plan(c, b);
    srn__pool_run(c->pool, run_step, &s);
    if (atomic_load(&c->non_finite))
        return srn_fail(err, SRN_ENONFINITE,
                        "an activation became infinite or not a number: the weights or the prompt drive the "
                        "model out of range");
    return SRN_OK;
}
