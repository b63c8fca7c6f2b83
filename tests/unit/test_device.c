/* The CPU device below the engine, on the tiny models of tests/golden: what it holds is what was foretold,
 * and sequences that share a step, in blocks anywhere in the cache, get the bits that each gets alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "cpu/cpu.h"
#include "cpu/cpu_internal.h"
#include "unit/golden_device.h"

/* Of one head's K or V. */
static uint32_t position_bytes(srn_kv_type type, uint32_t d) {
    return type == SRN_KV_F32 ? 4 * d : type == SRN_KV_F16 ? 2 * d : d + (d + 31) / 32 * 2;
}

static void a_device_holds_what_was_foretold(void **state) {
    (void)state;
    for (const char *const *level = srn__kernels_available(); *level; level++)
        for (size_t i = 0; i < SRN_LEN(goldens); i++)
            for (srn_kv_type kv = SRN_KV_F16; kv <= SRN_KV_Q8_0; kv++) {
                fixture f = open_golden(goldens[i], (srn_device_opts){.threads = 3,
                                                                      .cpu_limit = *level,
                                                                      .kv_type = kv,
                                                                      .n_kv_blocks = {5, 5},
                                                                      .max_batch = 100,
                                                                      .n_ctx = 300});
                uint64_t weights, cache, work, held, held_cache, held_work;
                assert_int_equal(srn_cpu_device_bytes(f.model, &f.opts, &weights, &cache, &work, NULL),
                                 SRN_OK);
                f.device->ops->memory(f.device, &held, &held_cache, &held_work);
                uint64_t in_file = 0; /* read from there: all by the reference, else the rows of embeddings */
                for (uint32_t k = 0; k < f.model->n_mats; k++)
                    if (!held || (&f.model->mats[k] == f.model->embd && f.model->head != f.model->embd))
                        in_file += f.model->mats[k].t->n_bytes;
                if (!f.model->arch->fused_qkv) assert_int_equal(weights, held + in_file);
                assert_int_equal(cache, held_cache);
                assert_int_equal(
                    cache, 5u * 64 * f.model->hp.n_layer * f.model->hp.n_head_kv *
                               (position_bytes(kv, f.model->hp.d_k) + position_bytes(kv, f.model->hp.d_v)));
                assert_int_equal(work, held_work);
                assert_true(work > 100u * f.model->hp.n_embd * sizeof(float) * 3);
                close_golden(&f);
            }
}

static void a_cache_beyond_counting_is_not_counted_small(void **state) {
    (void)state;
    srn_layer last = {.kv_index = (1u << 14) - 1};
    srn_model m = {.hp = {.n_layer = 1, .n_head_kv = 1u << 14, .d_k = 1u << 14, .d_v = 1u << 14},
                   .layers = &last};
    assert_true(srn_kv_bytes(&m, SRN_KV_F32, 0, 1u << 24) == UINT64_MAX);
    assert_true(srn_kv_bytes(&m, SRN_KV_F32, 0, 1) == 1ull << 51);
}

/* ---- steps ---- */

enum { MOST = 150, N_VOCAB = 112 };

typedef struct sequence {
    int32_t tokens[MOST];
    uint32_t n, blocks[4];
} sequence;

static void fill(sequence *s, uint32_t n, uint32_t seed, const uint32_t blocks[4]) {
    s->n = n;
    for (uint32_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        s->tokens[i] = (int32_t)((seed >> 8) % N_VOCAB);
    }
    memcpy(s->blocks, blocks, sizeof s->blocks);
}

/* One step over tokens [from[i], to[i]) of each sequence; the logits after the last one of each. */
static void step(fixture *f, const sequence *const *s, uint32_t n, const uint32_t *from, const uint32_t *to,
                 float *logits) {
    int32_t tokens[2 * MOST];
    srn_slice slices[2];
    uint32_t wanted[2], at = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t count = to[i] - from[i];
        slices[i] = (srn_slice){
            .blocks = {s[i]->blocks, s[i]->blocks}, .n_past = from[i], .n_tokens = count, .first = at};
        memcpy(tokens + at, s[i]->tokens + from[i], count * sizeof *tokens);
        at += count;
        wanted[i] = at - 1;
    }
    srn_batch b = {.tokens = tokens,
                   .n_tokens = at,
                   .slices = slices,
                   .n_slices = n,
                   .wanted = wanted,
                   .n_wanted = n,
                   .logits = logits};
    srn_err err = {0};
    if (f->device->ops->forward(f->device, &b, &err)) fail_msg("%s", err.text);
}

static void sequences_that_share_a_step_do_not_disturb_each_other(void **state) {
    (void)state;
    for (size_t i = 0; i < 2 * SRN_LEN(goldens); i++) {
        fixture f = open_golden(goldens[i / 2], (srn_device_opts){.threads = 3,
                                                                  .kv_type = i % 2 ? SRN_KV_Q8_0 : SRN_KV_F16,
                                                                  .n_kv_blocks = {12, 12},
                                                                  .max_batch = 2 * MOST,
                                                                  .n_ctx = 300});
        assert_int_equal(f.model->hp.n_vocab, N_VOCAB);
        static float alone[2][N_VOCAB], shared[2][N_VOCAB];
        sequence a, b;
        const uint32_t in_order[4] = {0, 1, 2, 3}, scattered[4] = {11, 2, 9, 4}, others[4] = {7, 0, 10, 1};
        const uint32_t none = 0;
        fill(&a, 150, 1, in_order);
        step(&f, (const sequence *[]){&a}, 1, &none, &a.n, alone[0]);
        fill(&b, 101, 2, in_order);
        step(&f, (const sequence *[]){&b}, 1, &none, &b.n, alone[1]);
        assert_memory_not_equal(alone[0], alone[1], sizeof alone[0]);

        fill(&a, 150, 1, scattered);
        fill(&b, 101, 2, others);
        const sequence *both[] = {&a, &b};
        const uint32_t cuts[][2] = {{0, 0}, {70, 33}, {71, 100}, {150, 101}};
        for (size_t k = 0; k + 1 < SRN_LEN(cuts); k++) step(&f, both, 2, cuts[k], cuts[k + 1], shared[0]);
        assert_memory_equal(shared, alone, sizeof alone);
        close_golden(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_holds_what_was_foretold),
        cmocka_unit_test(a_cache_beyond_counting_is_not_counted_small),
        cmocka_unit_test(sequences_that_share_a_step_do_not_disturb_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
