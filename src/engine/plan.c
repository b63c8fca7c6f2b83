/* How many KV blocks an engine has, and the size of its steps: decided when it is opened, before anything is
 * allocated, and never changed. Pure; also what `serin info` foretells. Refuses sizes that cannot be. */
#include "engine/engine.h"

/* Most tokens in one step: a prefill chunk, or one token each of so many sequences. */
#define STEP_TOKENS 512u
/* Rows of logits that a step can give: one for each sequence and for each of its draft tokens, and enough at
 * once where a text is scored. */
#define MOST_DRAFT 16u
#define LEAST_ROWS 64u
/* Of the blocks that whole prefixes may take, one in so many is a window's, so that prefixes can be found
 * again: a prefix of 2,048 tokens and a window of 512 need 32 and 8. */
#define WINDOW_SHARE 4u
#define MOST_TOKENS  (1ull << 36)

static uint64_t blocks_of(uint64_t tokens) {
    return tokens / SRN_KV_BLOCK + (tokens % SRN_KV_BLOCK != 0);
}

/* A window is needed once for each sequence, with the step that moves it, and some more stay findable. Never
 * more than a full group has: who fits there fits here. */
static uint32_t group_blocks(const srn_cache_plan *p, uint32_t window, uint64_t all) {
    if (window == 0) return (uint32_t)all;
    uint64_t each = blocks_of((uint64_t)window + p->max_batch) + 1;
    uint64_t n = each * p->max_seqs + SRN_MAX(each, all / WINDOW_SHARE);
    return (uint32_t)SRN_MIN(n, all);
}

/* The plan for a cache of so many positions. */
static void plan_blocks(const srn_model *m, srn_kv_type type, uint64_t tokens, srn_cache_plan *p) {
    uint64_t all = blocks_of(tokens);
    p->tokens = all * SRN_KV_BLOCK;
    p->bytes = 0;
    for (uint32_t g = 0; g < p->n_groups; g++) {
        p->n_blocks[g] = group_blocks(p, p->groups[g].window, all);
        if (!srn_add_u64(p->bytes, srn_kv_bytes(m, type, g, p->n_blocks[g]), &p->bytes))
            p->bytes = UINT64_MAX;
    }
}

int srn_plan_cache(const srn_model *m, const srn_cache_wish *w, srn_cache_plan *ret, srn_err *err) {
    srn_cache_plan p = {.n_ctx = w->n_ctx, .max_seqs = w->max_seqs ? w->max_seqs : 1};
    if (p.max_seqs > STEP_TOKENS)
        return srn_fail(err, SRN_ELIMIT,
                        "%u sequences at once were asked for, and a step computes at most %u", p.max_seqs,
                        STEP_TOKENS);
    if (w->cache_tokens > MOST_TOKENS)
        return srn_fail(err, SRN_ELIMIT, "a KV cache of %llu positions was asked for, and the most is %llu",
                        (unsigned long long)w->cache_tokens, MOST_TOKENS);
    p.max_batch = (uint32_t)SRN_MIN((uint64_t)p.n_ctx * p.max_seqs, (uint64_t)STEP_TOKENS);
    p.max_wanted = SRN_MIN(SRN_MAX(p.max_seqs * (1 + MOST_DRAFT), LEAST_ROWS), p.max_batch);
    p.n_groups = srn_kv_groups(m, p.groups);
    uint64_t contexts = p.max_seqs;
    do plan_blocks(m, w->type, w->cache_tokens ? w->cache_tokens : contexts * p.n_ctx, &p);
    while (!w->cache_tokens && p.bytes > w->available_bytes / 4 && contexts-- > 1);
    *ret = p;
    return SRN_OK;
}
