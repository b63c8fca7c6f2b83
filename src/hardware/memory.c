/* The memory that serving a model takes: what its device allocates, counted by the device's own code, and
 * what the engine, the scheduler and the vocabulary allocate besides. Pure but for the instruction sets that
 * are asked for. Any thread. Refuses settings that an engine would refuse.
 */
#include "cpu/cpu.h"
#include "engine/engine.h"
#include "hardware/predict.h"

/* Of a process whatever the model: what its threads and libraries have of the heap. */
#define PROCESS_BYTES ((uint64_t)4 << 20)
/* What a block of the cache has beside its keys and values: two nodes of the tree of prefixes with a hash, 64
 * tokens and links, two buckets or more, its own record (docs/kv-cache.md). */
#define BLOCK_BYTES 800u
/* As src/engine/scheduler.c limits the logits of a step. */
#define LOGITS_BYTES ((uint64_t)64 << 20)
#define EXTRA_ROWS   64u

static uint64_t table_slots(uint64_t n) {
    uint64_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    return slots;
}

/* Texts of tokens and merges stay in the file; what is made of them are slices and tables to look them up. */
static uint64_t vocabulary_bytes(const srn_weights *w) {
    const srn_str *unused;
    srn_err none = {0};
    size_t n = 0, merges = 0;
    if (srn_meta_strs(w, "tokenizer.ggml.tokens", &unused, &n, &none)) n = 0;
    if (srn_meta_strs(w, "tokenizer.ggml.merges", &unused, &merges, &none)) merges = 0;
    uint64_t bytes = n * (sizeof(srn_str) + 2) + table_slots(n) * (sizeof(srn_str) + 4);
    if (merges) bytes += merges * sizeof(srn_str) + table_slots(merges) * 16;
    return n ? bytes + (merges ? 0 : 4 * n) : 0;
}

/* Logits and hidden states of a step, and for each thread what drawing needs: order, candidates, a mask. */
static uint64_t scheduler_bytes(const srn_model *m, const srn_cache_plan *p, uint32_t threads) {
    uint64_t row = sizeof(float) * (uint64_t)m->hp.n_vocab, fits = LOGITS_BYTES / row;
    uint64_t rows =
        SRN_MIN((uint64_t)p->max_wanted,
                SRN_MAX((uint64_t)p->max_seqs, SRN_MIN((uint64_t)p->max_seqs + EXTRA_ROWS, fits)));
    uint64_t each_draw = 28 * (uint64_t)m->hp.n_vocab + m->hp.n_vocab / 8, ends = row;
    return rows * row + (uint64_t)p->max_wanted * m->hp.n_embd * sizeof(float) + threads * each_draw + ends;
}

int srn_hw_predict_memory(const srn_model *m, const srn_hw_settings *s, srn_hw_memory *ret, srn_err *err) {
    srn_cache_wish wish = {.type = s->kv,
                           .n_ctx = s->n_ctx,
                           .max_seqs = s->n_seqs,
                           .cache_tokens = (uint64_t)s->n_ctx * SRN_MAX(s->n_seqs, 1u)};
    srn_cache_plan plan;
    int code = srn_plan_cache(m, &wish, &plan, err);
    if (code) return code;
    srn_device_opts d = {.threads = s->threads,
                         .cpu_limit = s->cpu_limit,
                         .kv_type = s->kv,
                         .max_batch = plan.max_batch,
                         .max_wanted = plan.max_wanted,
                         .n_ctx = plan.n_ctx};
    memcpy(d.n_kv_blocks, plan.n_blocks, sizeof d.n_kv_blocks);
    srn_hw_memory r = {.cache_tokens = plan.tokens, .process = PROCESS_BYTES};
    code = srn_cpu_device_bytes(m, &d, &r.weights, &r.kv, &r.work, err);
    if (code) return code;
    if (r.kv == UINT64_MAX)
        return srn_fail(err, SRN_ELIMIT, "a cache of so many positions is beyond counting");
    for (uint32_t g = 0; g < plan.n_groups; g++) r.scheduler += (uint64_t)plan.n_blocks[g] * BLOCK_BYTES;
    r.scheduler += scheduler_bytes(m, &plan, s->threads ? s->threads : srn_cpu_count());
    r.vocabulary = vocabulary_bytes(m->weights);
    r.all = r.weights + r.kv + r.work + r.scheduler + r.vocabulary + r.process;
    *ret = r;
    return SRN_OK;
}

static bool fits(const srn_model *m, const srn_hw_settings *s, uint64_t bytes) {
    srn_hw_memory r;
    srn_err none = {0};
    return srn_hw_predict_memory(m, s, &r, &none) == SRN_OK && r.all <= bytes;
}

uint32_t srn_hw_longest_context(const srn_model *m, const srn_hw_settings *s, uint64_t bytes) {
    uint32_t low = 0, high = m->hp.n_ctx_train / SRN_KV_BLOCK; /* in blocks; low fits, beyond high nothing */
    while (low < high) {
        srn_hw_settings with = *s;
        uint32_t middle = high - (high - low) / 2;
        with.n_ctx = middle * SRN_KV_BLOCK;
        if (fits(m, &with, bytes))
            low = middle;
        else
            high = middle - 1;
    }
    return low * SRN_KV_BLOCK;
}

uint32_t srn_hw_most_sequences(const srn_model *m, const srn_hw_settings *s, uint64_t bytes) {
    uint32_t low = 0, high = 512; /* a step's most */
    while (low < high) {
        srn_hw_settings with = *s;
        with.n_seqs = high - (high - low) / 2;
        if (fits(m, &with, bytes))
            low = with.n_seqs;
        else
            high = with.n_seqs - 1;
    }
    return low;
}
