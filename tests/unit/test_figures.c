/* Figures of a machine: read as they were written, refused with their place, and what they foretell of a step
 * against arithmetic by hand; the steps of a real device that they are measured from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "hardware/predict.h"

#define MODEL SRN_TEST_DIR "/golden/llama-gqa.gguf"

typedef struct opened {
    srn_weights *w;
    srn_model *m;
} opened;

static opened open_model(void) {
    opened o;
    srn_err err = {0};
    srn_open_opts opts = {0};
    if (srn_weights_open(MODEL, &opts, &o.w, &err) || srn_model_new(o.w, 0, &o.m, &err))
        fail_msg("%s", err.text);
    return o;
}

static void close_model(opened *o) {
    srn_model_free(o->m);
    srn_weights_free(o->w);
}

/* A machine on which a weight takes 2 ps at one column, 3 at two, ... of one plane and twice that of two. */
static srn_hw_figures some_figures(void) {
    srn_hw_figures f = {.id = "0123", .name = "a machine", .taken_us = 7, .disk_read_bytes_per_s = 2e9};
    f.limits =
        (srn_hw_limits){.cpu = "a processor", .isa = "avx2", .threads = 4, .cpus = 4, .barrier_us = 0.5};
    f.limits.reads[f.limits.n_reads++] = (srn_hw_read){1, 1e10};
    f.limits.reads[f.limits.n_reads++] = (srn_hw_read){4, 3e10};
    f.limits.isas[f.limits.n_isas++] = (srn_hw_isa){"avx2", 3e11, 1e11};
    for (uint32_t i = 0; i < SRN_HW_N_COLUMNS; i++) {
        f.products[SRN_F32].ps[0][i] = 1 + srn_hw_columns(i);
        f.products[SRN_F32].ps[1][i] = 2 * (1 + srn_hw_columns(i));
        f.rest[i] = (srn_hw_rest){.us = 3, .ps_per_element = -1.5};
    }
    f.attention[f.n_attention++] = (srn_hw_attention){SRN_KV_F16, 64, 1, 4, 100};
    f.attention[f.n_attention++] = (srn_hw_attention){SRN_KV_F16, 64, 512, 4, 20};
    f.attention[f.n_attention++] = (srn_hw_attention){SRN_KV_F16, 128, 1, 4, 200};
    return f;
}

static char *text_of(const srn_hw_figures *f) {
    json_t *o = srn_hw_figures_json(f);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    assert_non_null(text);
    return text;
}

static void figures_are_read_as_they_were_written(void **state) {
    (void)state;
    srn_err err = {0};
    srn_hw_figures f = some_figures(), back;
    char *text = text_of(&f);
    if (srn_hw_figures_parse(srn_str_of(text), "f.json", &back, &err)) fail_msg("%s", err.text);
    assert_string_equal(back.id, "0123");
    assert_string_equal(back.limits.cpu, "a processor");
    assert_int_equal(back.limits.n_reads, 2);
    assert_true(back.limits.reads[1].threads == 4 && back.limits.reads[1].bytes_per_s == 3e10);
    assert_true(back.limits.isas[0].f32_macs_per_s == 1e11 && back.limits.barrier_us == 0.5);
    assert_true(back.products[SRN_F32].ps[1][6] == 2 * 513.0);
    assert_true(back.products[SRN_Q4_0].ps[0][0] == 0);
    assert_true(back.attention[1].ps == 20 && back.attention[2].d == 128 && back.n_attention == 3);
    assert_true(back.rest[6].us == 3 && back.rest[6].ps_per_element == -1.5);
    char *again = text_of(&back);
    assert_string_equal(text, again);
    free(again);
    free(text);
}

static void figures_that_are_none_are_refused_with_their_place(void **state) {
    (void)state;
    static const struct {
        const char *text, *say;
    } rows[] = {
        {"{", "f.json:1"},
        {"{}", "serin probe --record"},
        {"{\"serin_figures\": 1}", "columns must be [1, 2, 4"},
        {"{\"serin_figures\": 1, \"columns\": [1,2,4,8,16,64,500]}", "columns must be [1, 2, 4"},
        {"{\"serin_figures\": 1, \"colour\": 2}", "colour is no key"},
        {"{\"serin_figures\": 1, \"limits\": {\"threads\": -1}}", "limits.threads must be a whole number"},
        {"{\"serin_figures\": 1, \"limits\": {\"read_by_threads\": [{\"bytes_per_s\": -2}]}}",
         "limits.read_by_threads[0].bytes_per_s must be"},
        {"{\"serin_figures\": 1, \"columns\": [1,2,4,8,16,64,512], \"products\": [{\"type\": \"Q9\"}]}",
         "products[0].type must be a type"},
        {"{\"serin_figures\": 1, \"columns\": [1,2,4,8,16,64,512], \"products\": [{\"type\": \"Q4_0\", "
         "\"ps\": "
         "[1,1,1,1,1,1,0]}]}",
         "products[0].ps must have numbers above 0"},
        {"{\"serin_figures\": 1, \"columns\": [1,2,4,8,16,64,512], \"attention\": [{\"kv\": \"f16\", \"d\": "
         "0}]}",
         "attention[0].d must be above 0"},
        {"{\"serin_figures\": 1, \"columns\": [1,2,4,8,16,64,512], \"rest\": [{\"us\": \"1\"}]}",
         "rest[0].us must be a number"},
        {"{\"serin_figures\": 1, \"columns\": [1,2,4,8,16,64,512], \"rest\": [{},{},{},{},{},{},{},{}]}",
         "rest must be a list"},
    };
    for (size_t i = 0; i < SRN_LEN(rows); i++) {
        srn_hw_figures f = {.id = "untouched"};
        srn_err err = {0};
        assert_int_equal(srn_hw_figures_parse(srn_str_of(rows[i].text), "f.json", &f, &err), SRN_EFORMAT);
        if (!strstr(err.text, rows[i].say)) fail_msg("'%s' does not say '%s'", err.text, rows[i].say);
        assert_string_equal(f.id, "untouched");
    }
}

static bool near(double a, double b) {
    return fabs(a - b) <= 1e-9 * fabs(b);
}

static void a_step_takes_its_matrices_its_pairs_and_the_rest(void **state) {
    (void)state;
    opened o = open_model();
    const srn_hparams *hp = &o.m->hp;
    srn_hw_figures f = some_figures();
    double two = 0, one = 0, head = (double)o.m->head->rows * o.m->head->cols;
    for (uint32_t i = 0; i < hp->n_layer; i++) {
        const srn_layer *l = &o.m->layers[i];
        const srn_mat *qkv[] = {l->q, l->k, l->v}, *others[] = {l->o, l->gate, l->up, l->down};
        for (size_t k = 0; k < SRN_LEN(qkv); k++) two += (double)qkv[k]->rows * qkv[k]->cols;
        for (size_t k = 0; k < SRN_LEN(others); k++) one += (double)others[k]->rows * others[k]->cols;
    }
    double pair =
        100.0 / 64 * (hp->d_k + hp->d_v) / 2 * 1e-12; /* heads smaller than any measured: in proportion */
    srn_hw_time t = srn_hw_predict_step(
        o.m, &f, SRN_KV_F16, &(srn_cost_step){.n_seqs = 3, .n_past = 9, .n_tokens = 1, .n_rows = 3});
    assert_true(near(t.products, (one * 4 + two * 8) * 1e-12)); /* between two and four columns, on a line */
    assert_true(near(t.attention, 3.0 * 10 * hp->n_head * hp->n_layer * pair));
    assert_true(near(t.rest, hp->n_layer * (3e-6 - 1.5e-12 * srn_hw_layer_elements(o.m))));
    assert_true(near(t.head, head * 8 * 1e-12));
    assert_true(near(t.all, t.products + t.attention + t.rest + t.head));
    close_model(&o);
}

static void a_prompt_is_read_in_steps_of_which_only_the_last_has_logits(void **state) {
    (void)state;
    opened o = open_model();
    srn_hw_figures f = some_figures();
    double sum = 0;
    for (uint32_t at = 0; at < 1100; at += 512) {
        srn_cost_step s = {
            .n_seqs = 1, .n_past = 5 + at, .n_tokens = at < 1024 ? 512 : 76, .n_rows = at == 1024};
        sum += srn_hw_predict_step(o.m, &f, SRN_KV_F16, &s).all;
    }
    assert_true(near(srn_hw_predict_prefill(o.m, &f, SRN_KV_F16, 5, 1100).all, sum));
    assert_int_equal(srn_hw_unmeasured(o.m, &f), SRN_TYPE_END);
    f.products[SRN_F32].ps[1][0] = 0;
    assert_int_equal(srn_hw_unmeasured(o.m, &f), SRN_F32);
    close_model(&o);
}

static void a_device_takes_steps_at_depths_that_nobody_computed(void **state) {
    (void)state;
    opened o = open_model();
    srn_hw_steps *s;
    srn_err err = {0};
    srn_hw_steps_opts opts = {.threads = 2, .n_seqs = 3, .n_ctx = 700};
    double t = -1;
    if (srn_hw_steps_new(o.m, &opts, &s, &err)) fail_msg("%s", err.text);
    if (srn_hw_steps_time(s, 3, 699, 1, true, &t, &err)) fail_msg("%s", err.text);
    assert_true(t >= 0);
    if (srn_hw_steps_time(s, 1, 188, 512, false, &t, &err)) fail_msg("%s", err.text);
    assert_int_equal(srn_hw_steps_time(s, 4, 0, 1, true, &t, &err), SRN_ELIMIT);
    assert_int_equal(srn_hw_steps_time(s, 1, 700, 1, true, &t, &err), SRN_ELIMIT);
    assert_int_equal(srn_hw_steps_time(s, 2, 0, 257, true, &t, &err), SRN_ELIMIT);
    srn_hw_steps_free(s);
    close_model(&o);
}

static void a_median_is_the_middle_one_or_the_mean_of_two(void **state) {
    (void)state;
    double odd[] = {3, 1, 2}, even[] = {4, 1, 3, 2};
    assert_true(srn_hw_median(odd, 3) == 2 && odd[0] == 1 && odd[2] == 3);
    assert_true(srn_hw_median(even, 4) == 2.5 && srn_hw_median(NULL, 0) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_are_read_as_they_were_written),
        cmocka_unit_test(figures_that_are_none_are_refused_with_their_place),
        cmocka_unit_test(a_step_takes_its_matrices_its_pairs_and_the_rest),
        cmocka_unit_test(a_prompt_is_read_in_steps_of_which_only_the_last_has_logits),
        cmocka_unit_test(a_device_takes_steps_at_depths_that_nobody_computed),
        cmocka_unit_test(a_median_is_the_middle_one_or_the_mean_of_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
