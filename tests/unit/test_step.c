/* A step of the CPU device with what a server asks of it: many sequences of different lengths, hidden states,
 * blocks that are copies, windows that have left blocks behind, work on the srn_pool's threads. On the tiny
 * models of tests/golden; whatever is done together has the bits of what is done alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "cpu/cpu_internal.h"
#include "unit/golden_device.h"

enum { MOST = 330, N_VOCAB = 112, N_BLOCKS = (MOST + SRN_KV_BLOCK - 1) / SRN_KV_BLOCK, MAX_ROWS = 600 };

/* Tokens [from, to) of a sequence. */
typedef struct part {
    const int32_t *tokens;
    const uint32_t *blocks[SRN_KV_MAX_GROUPS];
    uint32_t from, to;
} part;

static srn_device_opts opts(srn_kv_type type) {
    return (srn_device_opts){.threads = 3,
                             .kv_type = type,
                             .n_kv_blocks = {64, 64},
                             .max_batch = MAX_ROWS,
                             .max_wanted = MAX_ROWS,
                             .n_ctx = MOST};
}

static void random_tokens(int32_t *tokens, uint32_t seed) {
    for (uint32_t i = 0; i < MOST; i++) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((seed >> 8) % N_VOCAB);
    }
}

/* One step; logits and hidden states, either may be NULL, of every token, or of the last one of each part. */
static void step(const fixture *f, const part *parts, uint32_t n, bool of_all, float *logits, float *hidden) {
    int32_t tokens[MAX_ROWS];
    uint32_t wanted[MAX_ROWS], n_wanted = 0, at = 0;
    srn_slice slices[64];
    for (uint32_t i = 0; i < n; i++) {
        slices[i] =
            (srn_slice){.n_past = parts[i].from, .n_tokens = parts[i].to - parts[i].from, .first = at};
        memcpy(slices[i].blocks, parts[i].blocks, sizeof slices[i].blocks);
        for (uint32_t k = parts[i].from; k < parts[i].to; k++, at++) {
            tokens[at] = parts[i].tokens[k];
            if (of_all || k + 1 == parts[i].to) wanted[n_wanted++] = at;
        }
    }
    srn_batch b = {.tokens = tokens,
                   .n_tokens = at,
                   .slices = slices,
                   .n_slices = n,
                   .wanted = wanted,
                   .n_wanted = n_wanted,
                   .logits = logits,
                   .hidden = hidden};
    srn_err err = {0};
    if (f->device->ops->forward(f->device, &b, &err)) fail_msg("%s", err.text);
}

static float *floats(size_t n) {
    float *p = malloc(n * sizeof *p);
    assert_non_null(p);
    memset(p, 0xff, n * sizeof *p);
    return p;
}

static void many_sequences_beside_a_prompt_get_what_each_gets_alone(void **state) {
    (void)state;
    enum { N = 16, CHUNK = 200 };
    for (size_t g = 0; g < SRN_LEN(goldens); g++) {
        fixture f = open_golden(goldens[g], opts(g % 2 ? SRN_KV_Q8_0 : SRN_KV_F16));
        static int32_t tokens[N + 1][MOST];
        uint32_t blocks[N + 1][N_BLOCKS];
        part parts[N + 1];
        float *alone = floats((N + 1) * N_VOCAB), *shared = floats((N + 1) * N_VOCAB);
        for (uint32_t i = 0; i <= N; i++) { /* lengths from 1 to 151, the longest in the middle */
            uint32_t n = i == N ? CHUNK : 1 + (i * 7 % N) * 10;
            random_tokens(tokens[i], i + 1);
            for (uint32_t k = 0; k < N_BLOCKS; k++)
                blocks[i][k] = (i * 3 + k * 17) % 64; /* alone: may overlap */
            parts[i] = (part){tokens[i], {blocks[i], blocks[i]}, 0, n};
            step(&f, &parts[i], 1, false, alone + i * N_VOCAB, NULL);
        }
        uint32_t next = 63;
        for (uint32_t i = 0; i <= N; i++)
            for (uint32_t k = 0; k * SRN_KV_BLOCK < parts[i].to; k++) blocks[i][k] = next--;
        for (uint32_t i = 0; i < N; i++) { /* all but the last token, then all last ones at once */
            part first = parts[i];
            first.to--, parts[i].from = first.to;
            if (first.to) step(&f, &first, 1, false, shared, NULL);
        }
        step(&f, parts, N + 1, false, shared, NULL);
        assert_memory_equal(shared, alone, (N + 1) * N_VOCAB * sizeof *shared);
        free(alone), free(shared);
        close_golden(&f);
    }
}

/* The head of a model as plain numbers. */
static float *head_of(const srn_model *m) {
    const srn_tensor *t = m->head->t;
    uint32_t n = m->hp.n_embd;
    uint64_t row_bytes;
    assert_true(srn_type_bytes(t->type, n, &row_bytes));
    float *w = floats((size_t)N_VOCAB * n);
    for (uint32_t r = 0; r < N_VOCAB; r++)
        srn_dequant(t->type, (const uint8_t *)t->data + (m->head->row0 + r) * row_bytes, w + (size_t)r * n,
                    n);
    return w;
}

static void hidden_states_are_what_the_head_reads_however_the_batch_is_cut(void **state) {
    (void)state;
    enum { N = 150 };
    static const uint32_t cuts[][5] = {{0, 1, 66, 130, N}, {0, 64, 65, 127, N}, {0, 149, N, N, N}};
    for (size_t g = 0; g < SRN_LEN(goldens); g++) {
        fixture f = open_golden(goldens[g], opts(SRN_KV_F16));
        uint32_t e = f.model->hp.n_embd, blocks[N_BLOCKS] = {5, 1, 7};
        int32_t tokens[MOST];
        float *logits = floats(N * N_VOCAB), *hidden = floats((size_t)N * e), *again = floats((size_t)N * e);
        random_tokens(tokens, 9);
        part all = {tokens, {blocks, blocks}, 0, N};
        step(&f, &all, 1, true, logits, hidden);
        float *w = head_of(f.model);
        for (uint32_t i = 0; i < N; i++)
            for (uint32_t r = 0; r < N_VOCAB; r++) {
                double dot = 0, size = 0;
                for (uint32_t d = 0; d < e; d++) {
                    double x = (double)w[(size_t)r * e + d] * (double)hidden[(size_t)i * e + d];
                    dot += x, size += fabs(x);
                }
                assert_true(fabs(dot - (double)logits[i * N_VOCAB + r]) <= 1e-3 * size + 1e-6);
            }
        step(&f, &all, 1, true, NULL, again); /* without logits */
        assert_memory_equal(again, hidden, (size_t)N * e * sizeof *again);
        for (size_t c = 0; c < SRN_LEN(cuts); c++) {
            memset(again, 0xff, (size_t)N * e * sizeof *again);
            for (uint32_t k = 0; k + 1 < 5; k++) {
                part p = {tokens, {blocks, blocks}, cuts[c][k], cuts[c][k + 1]};
                if (p.from < p.to) step(&f, &p, 1, true, k % 2 ? logits : NULL, again + (size_t)p.from * e);
            }
            assert_memory_equal(again, hidden, (size_t)N * e * sizeof *again);
        }
        free(logits), free(hidden), free(again), free(w);
        close_golden(&f);
    }
}

/* A sequence is copied after 100 tokens, the copy goes on differently, and both are what they are alone. */
static void a_copied_block_goes_on_as_the_original_would(void **state) {
    (void)state;
    enum { SAME = 100, N = 180 };
    for (size_t g = 0; g < SRN_LEN(goldens) * 3; g++) {
        fixture f = open_golden(goldens[g / 3], opts((srn_kv_type)(g % 3)));
        srn_kv_group groups[SRN_KV_MAX_GROUPS];
        uint32_t n_groups = srn_kv_groups(f.model, groups);
        int32_t a[MOST], b[MOST];
        random_tokens(a, 1), random_tokens(b, 2);
        memcpy(b, a, SAME * sizeof *a);
        uint32_t of_a[N_BLOCKS] = {3, 9, 4}, of_b[N_BLOCKS] = {3, 20, 21}, fresh[N_BLOCKS] = {30, 31, 32};
        static float want[2][N_VOCAB], got[2][N_VOCAB];
        step(&f, &(part){a, {fresh, fresh}, 0, N}, 1, false, want[0], NULL);
        step(&f, &(part){b, {fresh, fresh}, 0, N}, 1, false, want[1], NULL);
        assert_memory_not_equal(want[0], want[1], sizeof want[0]);

        step(&f, &(part){a, {of_a, of_a}, 0, SAME}, 1, false, got[0], NULL);
        for (uint32_t k = 0; k < n_groups; k++)
            f.device->ops->copy_block(f.device, k, 9, 20, SAME - SRN_KV_BLOCK);
        part both[] = {{a, {of_a, of_a}, SAME, N}, {b, {of_b, of_b}, SAME, N}};
        step(&f, &both[1], 1, false, got[1], NULL);
        assert_memory_equal(got[1], want[1], sizeof got[1]);
        step(&f, both, 2, false, got[0], NULL);
        assert_memory_equal(got, want, sizeof got);
        close_golden(&f);
    }
}

/* Blocks that the window has left are given away: their entries say none, and their memory holds another
 * sequence's. */
static void blocks_behind_the_window_are_not_read(void **state) {
    (void)state;
    enum { N = 330 };
    for (size_t g = 0; g < SRN_LEN(goldens) * 3; g++) {
        fixture f = open_golden(goldens[g / 3], opts((srn_kv_type)(g % 3)));
        srn_kv_group groups[SRN_KV_MAX_GROUPS];
        uint32_t n_groups = srn_kv_groups(f.model, groups), tables[SRN_KV_MAX_GROUPS][N_BLOCKS];
        static const uint32_t steps[] = {0, 100, 101, 200, 201, 202, 264, 265, 320, N};
        int32_t tokens[MOST], other[MOST];
        float want[N_VOCAB], got[N_VOCAB];
        uint32_t elsewhere[N_BLOCKS];
        random_tokens(tokens, 1), random_tokens(other, 2);
        for (uint32_t k = 0; k < N_BLOCKS; k++) elsewhere[k] = 40 + k;
        step(&f, &(part){tokens, {elsewhere, elsewhere}, 0, N}, 1, false, want, NULL);
        step(&f, &(part){other, {elsewhere, elsewhere}, 0, N}, 1, false, got, NULL);
        for (uint32_t k = 0; k < N_BLOCKS; k++) tables[0][k] = tables[1][k] = k;
        for (size_t i = 0; i + 1 < SRN_LEN(steps); i++) {
            for (uint32_t k = 0; k < n_groups; k++)
                for (uint32_t j = 0;
                     groups[k].window && (j + 1) * SRN_KV_BLOCK + groups[k].window <= steps[i] + 1; j++) {
                    if (tables[k][j] == SRN_KV_NONE) continue;
                    f.device->ops->copy_block(f.device, k, 40, tables[k][j], SRN_KV_BLOCK);
                    tables[k][j] = SRN_KV_NONE;
                }
            step(&f, &(part){tokens, {tables[0], tables[1]}, steps[i], steps[i + 1]}, 1, false, got, NULL);
        }
        for (uint32_t k = 0; k < n_groups; k++)
            assert_int_equal(tables[k][0] == SRN_KV_NONE, groups[k].window != 0);
        assert_memory_equal(got, want, sizeof got);
        close_golden(&f);
    }
}

/* Two sequences of several segments of attention, whose last tokens are decoded together: few enough for
 * their segments and heads to be spread over threads. */
static void long_sequences_get_the_same_however_many_threads_share_them(void **state) {
    (void)state;
    enum { LONG = 1200, STEPS = 3 };
    static const uint32_t threads[] = {1, 2, 3, 8}, lengths[2] = {LONG - 1, 530};
    static int32_t tokens[LONG + STEPS];
    for (uint32_t i = 0; i < SRN_LEN(tokens); i++) tokens[i] = (int32_t)((i * i + i / 7) % N_VOCAB);
    for (size_t g = 0; g < SRN_LEN(goldens); g++) {
        float logits[SRN_LEN(threads)][STEPS][2 * N_VOCAB];
        for (size_t i = 0; i < SRN_LEN(threads); i++) {
            srn_device_opts o = opts((srn_kv_type)(g % 3));
            o.n_ctx = LONG + STEPS, o.threads = threads[i];
            fixture f = open_golden(goldens[g], o);
            uint32_t blocks[64];
            for (uint32_t k = 0; k < 64; k++) blocks[k] = k * 11 % 64;
            part p[2] = {{tokens, {blocks, blocks}, 0, 0}, {tokens, {blocks + 32, blocks + 32}, 0, 0}};
            for (uint32_t s = 0; s < 2; s++)
                for (p[s].to = 0; p[s].to < lengths[s]; p[s].from = p[s].to) {
                    p[s].to = SRN_MIN(p[s].from + 400, lengths[s]);
                    step(&f, &p[s], 1, false, logits[i][0], NULL);
                }
            for (uint32_t at = 0; at < STEPS; at++, p[0].from++, p[1].from++) {
                p[0].to = p[0].from + 1, p[1].to = p[1].from + 1;
                step(&f, p, 2, false, logits[i][at], NULL);
            }
            assert_memory_equal(logits[i], logits[0], sizeof logits[0]);
            close_golden(&f);
        }
    }
}

static void count(void *ctx, uint32_t i) {
    uint32_t *counts = ctx;
    counts[i]++; /* two threads here at once would be a race, which ThreadSanitizer sees */
}

static void parallel_work_is_done_once_each(void **state) {
    (void)state;
    for (uint32_t threads = 1; threads <= 5; threads += 2) {
        srn_device_opts o = opts(SRN_KV_F16);
        o.threads = threads;
        fixture f = open_golden("llama-gqa", o);
        static const uint32_t sizes[] = {0, 1, 2, 3, 16, 1000};
        static uint32_t counts[1000];
        for (size_t s = 0; s < SRN_LEN(sizes); s++)
            for (int times = 0; times < 20; times++) {
                memset(counts, 0, sizeof counts);
                f.device->ops->parallel(f.device, count, counts, sizes[s]);
                for (uint32_t i = 0; i < SRN_LEN(counts); i++) assert_int_equal(counts[i], i < sizes[s]);
            }
        close_golden(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_sequences_beside_a_prompt_get_what_each_gets_alone),
        cmocka_unit_test(hidden_states_are_what_the_head_reads_however_the_batch_is_cut),
        cmocka_unit_test(a_copied_block_goes_on_as_the_original_would),
        cmocka_unit_test(blocks_behind_the_window_are_not_read),
        cmocka_unit_test(long_sequences_get_the_same_however_many_threads_share_them),
        cmocka_unit_test(parallel_work_is_done_once_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
