/* The cost of a step, against counts made by hand from the golden models' shapes and files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "base/num.h"
#include "model/cost.h"

typedef struct opened {
    srn_weights *w;
    srn_model *m;
} opened;

static opened open_model(const char *name) {
    opened o = {0};
    srn_err err = {0};
    char path[512];
    snprintf(path, sizeof path, SRN_TEST_DIR "/golden/%s.gguf", name);
    if (srn_weights_open(path, NULL, &o.w, &err) || srn_model_new(o.w, 0, &o.m, &err))
        fail_msg("%s", err.text);
    return o;
}
static void close_model(opened *o) {
    srn_model_free(o->m);
    srn_weights_free(o->w);
}

static srn_cost cost(const srn_model *m, srn_kv_type kv, srn_cost_step s) {
    srn_cost c = {0};
    srn_cost_add(m, kv, &s, &c);
    return c;
}

/* Weights of the layers' tensors whose names end so. */
static double weights_of(const opened *o, const char *suffix, bool bytes) {
    double n = 0;
    for (size_t i = 0; i < srn_weights_count(o->w); i++) {
        const srn_tensor *t = srn_weights_at(o->w, i);
        size_t len = strlen(t->name), end = strlen(suffix);
        if (strncmp(t->name, "blk.", 4) != 0 || len < end || strcmp(t->name + len - end, suffix) != 0)
            continue;
        n += bytes ? (double)t->n_bytes : (double)(t->ne[0] * t->ne[1] * t->ne[2]);
    }
    return n;
}

static void a_dense_model_reads_its_matrices_and_its_cache(void **state) {
    (void)state;
    opened o = open_model("llama-gqa");
    const srn_hparams *hp = &o.m->hp;
    static const char *const names[] = {"attn_q.weight",      "attn_k.weight",   "attn_v.weight",
                                        "attn_output.weight", "ffn_gate.weight", "ffn_up.weight",
                                        "ffn_down.weight"};
    double macs = 0, bytes = 0;
    for (size_t i = 0; i < SRN_LEN(names); i++) {
        macs += weights_of(&o, names[i], false);
        bytes += weights_of(&o, names[i], true);
    }
    srn_cost c = cost(o.m, SRN_KV_F16, (srn_cost_step){.n_seqs = 1, .n_past = 9, .n_tokens = 1});
    double attention = 10.0 * hp->n_layer * hp->n_head * (hp->d_k + hp->d_v);
    /* Matrices of f32 have no codes; those that have count q, k and v twice. */
    bool codes = srn_type_get((uint32_t)o.m->layers[0].q->t->type)->form != SRN_FORM_FLOAT;
    double planes = codes ? weights_of(&o, names[0], false) + weights_of(&o, names[1], false) +
                                weights_of(&o, names[2], false)
                          : 0;
    assert_true(c.int8_macs + c.f32_macs == macs + planes + attention);
    assert_true(c.weights_bytes == bytes);
    assert_true(c.kv_bytes == 10.0 * hp->n_layer * hp->n_head_kv * (hp->d_k + hp->d_v) * 2);
    srn_cost rows =
        cost(o.m, SRN_KV_F16, (srn_cost_step){.n_seqs = 1, .n_past = 9, .n_tokens = 1, .n_rows = 1});
    double head = (double)hp->n_vocab * hp->n_embd;
    assert_true(rows.int8_macs + rows.f32_macs - c.int8_macs - c.f32_macs == head * (codes ? 2 : 1));
    assert_true(rows.weights_bytes > c.weights_bytes);
    close_model(&o);
}

static void sequences_share_weights_and_not_caches(void **state) {
    (void)state;
    opened o = open_model("llama-gqa");
    srn_cost one = cost(o.m, SRN_KV_F16, (srn_cost_step){1, 20, 1, 1});
    srn_cost five = cost(o.m, SRN_KV_F16, (srn_cost_step){5, 20, 1, 5});
    assert_true(five.int8_macs == 5 * one.int8_macs && five.f32_macs == 5 * one.f32_macs);
    assert_true(five.weights_bytes == one.weights_bytes);
    assert_true(five.kv_bytes == 5 * one.kv_bytes);
    srn_cost wide = cost(o.m, SRN_KV_F32, (srn_cost_step){1, 20, 1, 1});
    assert_true(wide.kv_bytes == 2 * one.kv_bytes);
    /* A prompt's queries see what came before each. */
    srn_cost prompt = cost(o.m, SRN_KV_F16, (srn_cost_step){1, 0, 4, 1}), sum = {0};
    for (uint32_t i = 0; i < 4; i++) srn_cost_add(o.m, SRN_KV_F16, &(srn_cost_step){1, i, 1, i == 3}, &sum);
    assert_true(prompt.int8_macs == sum.int8_macs && prompt.f32_macs == sum.f32_macs);
    assert_true(prompt.weights_bytes < sum.weights_bytes);
    close_model(&o);
}

static void a_window_ends_what_is_read(void **state) {
    (void)state;
    opened o = open_model("mistral");
    uint32_t window = o.m->layers[0].window;
    assert_true(window > 0);
    srn_cost at = cost(o.m, SRN_KV_F16, (srn_cost_step){1, window - 1, 1, 0});
    srn_cost beyond = cost(o.m, SRN_KV_F16, (srn_cost_step){1, 10 * window, 1, 0});
    srn_cost before = cost(o.m, SRN_KV_F16, (srn_cost_step){1, window - 2, 1, 0});
    assert_true(at.kv_bytes == beyond.kv_bytes && at.f32_macs == beyond.f32_macs);
    assert_true(before.kv_bytes < at.kv_bytes);
    close_model(&o);
}

static void experts_that_nobody_chose_are_not_read(void **state) {
    (void)state;
    opened o = open_model("qwen3moe");
    const srn_hparams *hp = &o.m->hp;
    double experts = weights_of(&o, "ffn_gate_exps.weight", true) +
                     weights_of(&o, "ffn_up_exps.weight", true) +
                     weights_of(&o, "ffn_down_exps.weight", true);
    double used = (double)hp->n_expert_used / hp->n_expert;
    assert_true(used < 1);
    srn_cost one = cost(o.m, SRN_KV_F16, (srn_cost_step){1, 0, 1, 0});
    srn_cost two = cost(o.m, SRN_KV_F16, (srn_cost_step){2, 0, 1, 0});
    srn_cost many = cost(o.m, SRN_KV_F16, (srn_cost_step){500, 0, 1, 0});
    double rest = one.weights_bytes - used * experts;
    assert_true(rest > 0);
    double seen = used + (1 - used) * used; /* what a second token adds */
    assert_true(fabs(two.weights_bytes - rest - seen * experts) < 1e-6 * experts);
    assert_true(fabs(many.weights_bytes - rest - experts) < 1e-6 * experts);
    assert_true(fabs(many.int8_macs - 500 * one.int8_macs) <= 1e-9 * many.int8_macs);
    close_model(&o);
}

static void codes_of_q_k_v_and_the_head_count_twice(void **state) {
    (void)state;
    enum { E = 64, F = 96, V = 160 };
    srn_tensor codes = {.type = SRN_Q4_0}, floats = {.type = SRN_F16};
    srn_mat square = {.t = &codes, .rows = E, .cols = E, .parts = 1};
    srn_mat up = {.t = &codes, .rows = F, .cols = E, .parts = 1}, down = {&codes, 0, E, F, 1};
    srn_mat head = {.t = &codes, .rows = V, .cols = E, .parts = 1};
    srn_layer l = {
        .q = &square, .k = &square, .v = &square, .o = &square, .gate = &up, .up = &up, .down = &down};
    srn_model m = {
        .hp = {.n_layer = 1, .n_head = 2, .n_head_kv = 2, .d_k = 32, .d_v = 32}, .layers = &l, .head = &head};
    srn_cost c = cost(&m, SRN_KV_F16, (srn_cost_step){1, 0, 3, 1});
    assert_true(c.int8_macs == 3.0 * (7 * E * E + 3 * E * F) + 2 * V * E);
    assert_true(c.f32_macs == (1 + 2 + 3) * 2 * 64);
    assert_true(c.weights_bytes == (4 * E * E + 3 * E * F + V * E) * 18.0 / 32);
    srn_mat plain = {.t = &floats, .rows = E, .cols = E, .parts = 1};
    l.q = &plain; /* without codes there are no planes */
    srn_cost f = cost(&m, SRN_KV_F16, (srn_cost_step){1, 0, 3, 1});
    assert_true(c.int8_macs - f.int8_macs == 3.0 * 2 * E * E);
    assert_true(f.f32_macs - c.f32_macs == 3.0 * E * E);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dense_model_reads_its_matrices_and_its_cache),
        cmocka_unit_test(codes_of_q_k_v_and_the_head_count_twice),
        cmocka_unit_test(sequences_share_weights_and_not_caches),
        cmocka_unit_test(a_window_ends_what_is_read),
        cmocka_unit_test(experts_that_nobody_chose_are_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
