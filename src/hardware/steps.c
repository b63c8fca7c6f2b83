/* Steps of a real device, timed one by one: what figures are measured from and what predictions are held
 * against. The cache of every sequence is there to its full length without having been computed: a piece of
 * it comes from random tokens, and the rest are copies of that piece, which take as long to read. Called by
 * one thread. Refuses steps beyond 512 tokens or beyond what the cache was made for.
 */
#include <stdlib.h>

#include "cpu/cpu.h"
#include "hardware/figures.h"

enum { MOST_STEP = 512 };

struct srn_hw_steps {
    const srn_model *m;
    srn_device *d;
    uint32_t n_seqs, n_ctx, n_groups;
    uint32_t ring[SRN_KV_MAX_GROUPS];    /* blocks of one sequence */
    uint32_t *blocks[SRN_KV_MAX_GROUPS]; /* [n_seqs][blocks of n_ctx] */
    int32_t tokens[MOST_STEP];
    uint32_t wanted[MOST_STEP];
    srn_slice slices[MOST_STEP];
    float *logits; /* [n_seqs, n_vocab] */
};

static uint32_t blocks_of(uint32_t positions) {
    return positions / SRN_KV_BLOCK + (positions % SRN_KV_BLOCK != 0);
}

/* Position j of a windowed group lives in a ring of as many blocks as a window and a step take. */
static int make_tables(srn_hw_steps *s, uint32_t n_blocks[SRN_KV_MAX_GROUPS], srn_err *err) {
    srn_kv_group groups[SRN_KV_MAX_GROUPS];
    uint32_t each = blocks_of(s->n_ctx);
    s->n_groups = srn_kv_groups(s->m, groups);
    for (uint32_t g = 0; g < s->n_groups; g++) {
        uint32_t window = groups[g].window;
        s->ring[g] = window ? SRN_MIN(blocks_of(window + MOST_STEP) + 1, each) : each;
        n_blocks[g] = s->ring[g] * s->n_seqs;
        s->blocks[g] = srn_calloc((size_t)each * s->n_seqs, sizeof(uint32_t));
        if (!s->blocks[g]) return srn_fail_nomem(err, (size_t)each * s->n_seqs * sizeof(uint32_t));
        for (uint32_t q = 0; q < s->n_seqs; q++)
            for (uint32_t j = 0; j < each; j++)
                s->blocks[g][(size_t)q * each + j] = q * s->ring[g] + j % s->ring[g];
    }
    return SRN_OK;
}

/* A step of random tokens, and copies of what it left in the cache. */
static int fill_cache(srn_hw_steps *s, srn_err *err) {
    uint64_t z = 88172645463325252u;
    for (uint32_t i = 0; i < MOST_STEP; i++) {
        z ^= z << 13, z ^= z >> 7, z ^= z << 17;
        s->tokens[i] = (int32_t)((z >> 33) % s->m->hp.n_vocab);
    }
    double unused;
    uint32_t n = SRN_MIN(s->n_ctx, (uint32_t)MOST_STEP), whole = SRN_MAX(n / SRN_KV_BLOCK, 1u);
    int code = srn_hw_steps_time(s, 1, 0, n, false, &unused, err);
    for (uint32_t g = 0; !code && g < s->n_groups; g++)
        for (uint32_t b = whole; b < s->ring[g] * s->n_seqs; b++)
            s->d->ops->copy_block(s->d, g, b % whole, b, SRN_KV_BLOCK);
    return code;
}

static int init(srn_hw_steps *s, const srn_hw_steps_opts *o, srn_err *err) {
    srn_device_opts d = {.threads = o->threads,
                         .cpu_limit = o->cpu_limit,
                         .kv_type = o->kv,
                         .max_batch = MOST_STEP,
                         .max_wanted = s->n_seqs,
                         .n_ctx = s->n_ctx,
                         .progress = o->progress,
                         .progress_ctx = o->progress_ctx,
                         .cancel = o->cancel};
    s->logits = srn_aligned_calloc((size_t)s->n_seqs * s->m->hp.n_vocab, sizeof *s->logits);
    if (!s->logits) return srn_fail_nomem(err, (size_t)s->n_seqs * s->m->hp.n_vocab * sizeof *s->logits);
    int code = make_tables(s, d.n_kv_blocks, err);
    if (!code) code = srn_cpu_device_new(s->m, &d, &s->d, err);
    return code ? code : fill_cache(s, err);
}

int srn_hw_steps_new(const srn_model *m, const srn_hw_steps_opts *o, srn_hw_steps **ret, srn_err *err) {
    srn_hw_steps *s = srn_calloc(1, sizeof *s);
    if (!s) return srn_fail_nomem(err, sizeof *s);
    s->m = m;
    s->n_seqs = SRN_MIN(SRN_MAX(o->n_seqs, 1u), (uint32_t)MOST_STEP);
    s->n_ctx = SRN_MAX(o->n_ctx, 1u);
    int code = init(s, o, err);
    if (code) {
        srn_hw_steps_free(s);
        return code;
    }
    *ret = s;
    return SRN_OK;
}

void srn_hw_steps_free(srn_hw_steps *s) {
    if (!s) return;
    if (s->d) s->d->ops->free(s->d);
    for (uint32_t g = 0; g < SRN_KV_MAX_GROUPS; g++) free(s->blocks[g]);
    srn_aligned_free(s->logits);
    free(s);
}

int srn_hw_steps_time(srn_hw_steps *s, uint32_t n_seqs, uint32_t n_past, uint32_t n_tokens, bool logits,
                      double *ret_s, srn_err *err) {
    uint32_t each = blocks_of(s->n_ctx);
    if (!n_seqs || !n_tokens || n_seqs > s->n_seqs || (uint64_t)n_seqs * n_tokens > MOST_STEP ||
        (uint64_t)n_past + n_tokens > s->n_ctx)
        return srn_fail(err, SRN_ELIMIT,
                        "a step of %u sequences of %u tokens after %u was asked for, beyond the %u sequences "
                        "of %u positions that there are, or beyond %u tokens",
                        n_seqs, n_tokens, n_past, s->n_seqs, s->n_ctx, MOST_STEP);
    for (uint32_t q = 0; q < n_seqs; q++) {
        s->slices[q] = (srn_slice){.n_past = n_past, .n_tokens = n_tokens, .first = q * n_tokens};
        for (uint32_t g = 0; g < s->n_groups; g++) s->slices[q].blocks[g] = s->blocks[g] + (size_t)q * each;
        s->wanted[q] = (q + 1) * n_tokens - 1;
    }
    srn_batch b = {.tokens = s->tokens,
                   .n_tokens = n_seqs * n_tokens,
                   .slices = s->slices,
                   .n_slices = n_seqs,
                   .wanted = s->wanted,
                   .n_wanted = logits ? n_seqs : 0,
                   .logits = logits ? s->logits : NULL};
    uint64_t start = srn_now_us();
    int code = s->d->ops->forward(s->d, &b, err);
    if (!code) *ret_s = (double)(srn_now_us() - start) / 1e6;
    return code;
}
