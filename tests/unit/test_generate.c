/* Generation on the tiny models of tests/golden: what a session remembers changes no token, every way to end,
 * and what is refused before anything is computed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "engine/engine.h"

#define N_CTX 48

static const int32_t prompt[] = {5, 9, 2, 7, 1, 8, 3, 3, 6, 11, 4, 9};
enum { N_PROMPT = SRN_LEN(prompt), MOST = N_CTX + 8 };

typedef struct fixture {
    srn_engine *e;
    srn_session *s;
} fixture;

static int set_up(void **state) {
    static fixture f;
    srn_err err = {0};
    srn_engine_opts o = {.threads = 2, .n_ctx = N_CTX};
    if (srn_engine_open(SRN_TEST_DIR "/golden/llama.gguf", &o, &f.e, &err) ||
        srn_session_new(f.e, &f.s, &err)) {
        print_error("%s\n", err.text);
        return -1;
    }
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    srn_session_free(f->s);
    srn_engine_close(f->e);
    return 0;
}

/* Collects tokens; answers `reply` from the given one on. */
typedef struct collector {
    int32_t ids[MOST];
    uint32_t n, reply_at;
    srn_go reply;
    volatile int *set; /* written at reply_at */
} collector;

static srn_go collect(void *ctx, int32_t token) {
    collector *c = ctx;
    assert_true(c->n < MOST);
    c->ids[c->n++] = token;
    if (!c->reply_at || c->n < c->reply_at) return SRN_GO_ON;
    if (c->set) *c->set = 1;
    return c->reply;
}

static srn_generate_opts options(collector *c, float temperature, uint32_t max) {
    *c = (collector){0};
    srn_generate_opts o = {.sampling = srn_sampling_default(),
                           .max_tokens = max,
                           .ignore_eog = true, /* random weights end an answer anywhere */
                           .on_token = collect,
                           .on_token_ctx = c};
    o.sampling.temperature = temperature;
    o.sampling.seed = 42;
    return o;
}

static srn_generation generate(srn_session *s, const int32_t *p, uint32_t n, const srn_generate_opts *o) {
    srn_generation g;
    srn_err err = {0};
    if (srn_generate(s, p, n, o, &g, &err)) fail_msg("%s", err.text);
    return g;
}

static void what_a_session_holds_changes_no_token(void **state) {
    fixture *f = *state;
    collector fresh, warm;
    srn_generate_opts o = options(&fresh, 1.0f, 20);
    o.sampling.repeat_penalty = 1.3f;
    srn_session_truncate(f->s, 0);
    srn_generation g = generate(f->s, prompt, N_PROMPT, &o);
    assert_int_equal(g.n_cached, 0);
    assert_int_equal(g.n_prompt, N_PROMPT);
    assert_int_equal(g.n_output, 20);
    assert_int_equal(g.n_steps, 19);
    assert_int_equal(srn_session_length(f->s), N_PROMPT + 19);

    o.on_token_ctx = &warm;
    warm = (collector){0};
    g = generate(f->s, prompt, N_PROMPT, &o); /* all of it is held, so the last token is computed again */
    assert_int_equal(g.n_cached, N_PROMPT - 1);
    assert_memory_equal(fresh.ids, warm.ids, sizeof fresh.ids);

    int32_t other[N_PROMPT];
    memcpy(other, prompt, sizeof prompt);
    other[N_PROMPT - 3] = 1;
    generate(f->s, other, N_PROMPT, &o);
    warm = (collector){0};
    g = generate(f->s, prompt, N_PROMPT, &o);
    assert_int_equal(g.n_cached, N_PROMPT - 3);
    assert_memory_equal(fresh.ids, warm.ids, sizeof fresh.ids);
}

/* The masks of a matcher hold for every token, and the answer ends where nothing may follow. */
static void a_constrained_answer_is_what_the_matcher_lets_through(void **state) {
    fixture *f = *state;
    srn_err err = {0};
    const srn_vocab *v;
    srn_constraint *c;
    srn_token_trie *t;
    srn_matcher *m;
    if (srn_engine_vocab(f->e, &v, &err) || srn_token_trie_new(v, &t, &err) ||
        srn_constraint_of_regex(SRN_STR("[ab]{3}(c|dd)"), &c, &err))
        fail_msg("%s", err.text);
    for (uint64_t seed = 0; seed < 20; seed++) {
        collector got;
        srn_generation g;
        char *text;
        srn_generate_opts o = options(&got, 2.0f, 0);
        o.sampling.seed = seed;
        assert_int_equal(srn_matcher_new(c, t, &m, &err), SRN_OK);
        assert_int_equal(srn_generate_constrained(f->s, prompt, N_PROMPT, &o, m, &g, &err), SRN_EINVAL);
        assert_non_null(strstr(err.text, "ignore_eog"));
        o.ignore_eog = false;
        assert_int_equal(srn_generate_constrained(f->s, prompt, N_PROMPT, &o, m, &g, &err), SRN_OK);
        assert_int_equal(g.finish, SRN_FINISH_STOP);
        assert_int_equal(g.end_token, -1); /* it needed none */
        assert_int_equal(srn_engine_detokenize(f->e, got.ids, got.n, 0, &text, &err), SRN_OK);
        assert_int_equal(strspn(text, "ab"), 3);
        assert_true(strcmp(text + 3, "c") == 0 || strcmp(text + 3, "dd") == 0);
        free(text);
        srn_matcher_free(m);
    }
    srn_token_trie_free(t);
    srn_constraint_free(c);
}

static void a_repetition_is_broken_by_tokens_that_hold_a_text(void **state) {
    fixture *f = *state;
    srn_err err = {0};
    const srn_vocab *v;
    assert_int_equal(srn_engine_vocab(f->e, &v, &err), SRN_OK);
    for (int own = 0; own < 2; own++) {
        const srn_str text = SRN_STR("e");
        int32_t *ids;
        uint32_t n, at = 0;
        assert_int_equal(srn_dry_breakers(v, &text, own ? 1 : 0, &ids, &n, &err), SRN_OK);
        assert_true(n > 0);
        for (int32_t id = 0; id < srn_vocab_size(v); id++) {
            srn_buf b;
            srn_buf_init(&b, 1000);
            srn_token_bytes(v, id, false, &b);
            srn_buf_addc(&b, 0);
            bool want = srn_vocab_attr(v, id) == SRN_TOKEN_CONTROL || strpbrk(b.data, own ? "e" : "\n:\"*");
            assert_int_equal(at < n && ids[at] == id, want);
            at += want;
            srn_buf_done(&b);
        }
        assert_int_equal(at, n);
        free(ids);
    }
}

static void an_answer_goes_on_where_it_was_cut(void **state) {
    fixture *f = *state;
    collector whole, half;
    srn_generate_opts o = options(&whole, 1.5f, 16);
    generate(f->s, prompt, N_PROMPT, &o);
    o = options(&half, 1.5f, 7);
    srn_generation g = generate(f->s, prompt, N_PROMPT, &o);
    assert_int_equal(g.finish, SRN_FINISH_LENGTH);
    int32_t longer[N_PROMPT + 7];
    memcpy(longer, prompt, sizeof prompt);
    memcpy(longer + N_PROMPT, half.ids, 7 * sizeof *longer);
    o = options(&half, 1.5f, 9);
    generate(f->s, longer, N_PROMPT + 7, &o);
    assert_memory_equal(whole.ids, longer + N_PROMPT, 7 * sizeof *longer);
    assert_memory_equal(whole.ids + 7, half.ids, 9 * sizeof *longer);
}

static void the_seed_decides_what_is_drawn(void **state) {
    fixture *f = *state;
    collector a, b;
    srn_generate_opts o = options(&a, 2.0f, 24);
    generate(f->s, prompt, N_PROMPT, &o);
    o = options(&b, 2.0f, 24);
    o.sampling.seed = 43;
    generate(f->s, prompt, N_PROMPT, &o);
    assert_memory_not_equal(a.ids, b.ids, 24 * sizeof *a.ids);
}

static void the_repeat_penalty_looks_at_prompt_and_answer(void **state) {
    fixture *f = *state;
    collector c;
    srn_generate_opts o = options(&c, 0, 20);
    o.sampling.repeat_penalty = 100;
    generate(f->s, prompt, N_PROMPT, &o);
    for (uint32_t i = 0; i < c.n; i++) {
        for (size_t k = 0; k < N_PROMPT; k++) assert_int_not_equal(c.ids[i], prompt[k]);
        for (uint32_t k = 0; k < i; k++) assert_int_not_equal(c.ids[i], c.ids[k]);
    }
}

static void prompt_and_answer_fill_the_context_and_no_more(void **state) {
    fixture *f = *state;
    collector c;
    srn_generate_opts o = options(&c, 0, 0);
    srn_generation g = generate(f->s, prompt, N_PROMPT, &o);
    assert_int_equal(g.finish, SRN_FINISH_CONTEXT);
    assert_int_equal(g.n_output, N_CTX - N_PROMPT);
    o = options(&c, 0, N_CTX - N_PROMPT); /* both limits at once: the caller's own is named */
    assert_int_equal(generate(f->s, prompt, N_PROMPT, &o).finish, SRN_FINISH_LENGTH);
}

static void the_callback_and_the_flag_end_an_answer(void **state) {
    fixture *f = *state;
    collector c;
    volatile int cancel = 0;
    srn_generate_opts o = options(&c, 0, 20);
    c.reply_at = 3, c.reply = SRN_GO_STOP;
    srn_generation g = generate(f->s, prompt, N_PROMPT, &o);
    assert_int_equal(g.finish, SRN_FINISH_STOP);
    assert_int_equal(g.n_output, 3);
    assert_int_equal(g.end_token, -1);
    o = options(&c, 0, 20);
    c.reply_at = 4, c.reply = SRN_GO_CANCEL;
    g = generate(f->s, prompt, N_PROMPT, &o);
    assert_int_equal(g.finish, SRN_FINISH_CANCELLED);
    assert_int_equal(g.n_output, 4);
    o = options(&c, 0, 20);
    o.cancel = &cancel;
    c.reply_at = 5, c.reply = SRN_GO_ON, c.set = &cancel;
    g = generate(f->s, prompt, N_PROMPT, &o);
    assert_int_equal(g.finish, SRN_FINISH_CANCELLED);
    assert_int_equal(g.n_output, 5);
    srn_session_truncate(f->s, 4);
    o = options(&c, 0, 20); /* set from the beginning: nothing is computed */
    o.cancel = &cancel;
    g = generate(f->s, prompt, N_PROMPT, &o);
    assert_int_equal(g.finish, SRN_FINISH_CANCELLED);
    assert_int_equal(g.n_output, 0);
    assert_int_equal(srn_session_length(f->s), 4);
}

static void bad_requests_leave_the_session_alone(void **state) {
    fixture *f = *state;
    collector c;
    srn_generate_opts good = options(&c, 0, 4), bad;
    srn_generation g;
    srn_err err = {0};
    int32_t ids[N_CTX] = {0};
    generate(f->s, prompt, N_PROMPT, &good);
    uint32_t length = srn_session_length(f->s);
    assert_int_equal(srn_generate(f->s, prompt, 0, &good, &g, &err), SRN_EINVAL);
    assert_int_equal(srn_generate(f->s, ids, N_CTX, &good, &g, &err), SRN_ECONTEXT);
    assert_non_null(strstr(err.text, "48 tokens"));
    assert_non_null(strstr(err.text, "--ctx"));
    ids[2] = -1;
    assert_int_equal(srn_generate(f->s, ids, 4, &good, &g, &err), SRN_EINVAL);
    assert_non_null(strstr(err.text, "token 2"));
    bad = good;
    bad.sampling.top_p = 0;
    assert_int_equal(srn_generate(f->s, prompt, N_PROMPT, &bad, &g, &err), SRN_EINVAL);
    assert_int_equal(srn_session_length(f->s), length);
    assert_int_equal(c.n, 4);
}

static int refuse(void *ctx, srn_engine *e, srn_err *err) {
    srn_engine_info info = srn_engine_get_info(e);
    assert_int_equal(info.n_ctx, N_CTX);
    assert_int_equal(info.weights_bytes, 0);
    *(int *)ctx += 1;
    return srn_fail(err, SRN_EUSAGE, "no");
}

static void a_caller_may_refuse_before_the_weights_are_packed(void **state) {
    (void)state;
    int calls = 0;
    srn_engine *e = NULL;
    srn_err err = {0};
    srn_engine_opts o = {.n_ctx = N_CTX, .before_load = refuse, .before_load_ctx = &calls};
    assert_int_equal(srn_engine_open(SRN_TEST_DIR "/golden/llama.gguf", &o, &e, &err), SRN_EUSAGE);
    assert_int_equal(calls, 1);
    assert_null(e);
    assert_string_equal(err.text, "no");
}

static void a_missing_path_is_an_error(void **state) {
    (void)state;
    srn_engine *e = NULL;
    srn_err err = {0};
    assert_int_equal(srn_engine_open(NULL, NULL, &e, &err), SRN_EINVAL);
    assert_null(e);
    assert_non_null(strstr(err.text, "NULL"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_session_holds_changes_no_token),
        cmocka_unit_test(a_constrained_answer_is_what_the_matcher_lets_through),
        cmocka_unit_test(a_repetition_is_broken_by_tokens_that_hold_a_text),
        cmocka_unit_test(an_answer_goes_on_where_it_was_cut),
        cmocka_unit_test(the_seed_decides_what_is_drawn),
        cmocka_unit_test(the_repeat_penalty_looks_at_prompt_and_answer),
        cmocka_unit_test(prompt_and_answer_fill_the_context_and_no_more),
        cmocka_unit_test(the_callback_and_the_flag_end_an_answer),
        cmocka_unit_test(bad_requests_leave_the_session_alone),
        cmocka_unit_test(a_caller_may_refuse_before_the_weights_are_packed),
        cmocka_unit_test(a_missing_path_is_an_error),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
