/* Where an answer ends, told by answers whose every token is forced by a bias: least lengths, end tokens,
 * stop texts, and drafts that reach past an end. Threads: pthread_create is the scheduler's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unit/sched_help.h"

enum { N_PROMPT = 40 };

typedef struct fixture {
    srn_engine *e;
    srn_scheduler *s;
    bell b;
    gate g;
    const srn_vocab *v;
    srn_token_trie *trie;
    srn_constraint *c;
    int32_t a, end; /* the tokens of the text "a" and of an answer's end */
    int32_t prompt[N_PROMPT];
    srn_logit_bias bias[2];
} fixture;

/* Where the clock stands still every draft seems to cost nothing. */
static uint64_t still(void) {
    return 1000000;
}

static int set_up(void **state) {
    static fixture f;
    srn_err err = {0};
    f = (fixture){.a = -1, .end = -1};
    f.e = open_long("llama", &(srn_engine_opts){.threads = 2, .n_ctx = 512, .max_seqs = 2});
    if (!f.e || srn_engine_vocab(f.e, &f.v, &err) || srn_token_trie_new(f.v, &f.trie, &err)) return -1;
    for (int32_t i = 0; i < srn_vocab_size(f.v); i++)
        if (srn_vocab_is_eog(f.v, i)) f.end = i;
    f.a = srn_vocab_find(f.v, SRN_STR("a"));
    if (f.a < 0 || f.end < 0) return -1;
    for (int i = 0; i < N_PROMPT; i++) f.prompt[i] = f.a; /* what drafts are taken from */
    bell_init(&f.b);
    gate_init(&f.g, f.e, UINT64_MAX);
    f.s = scheduler_of(&(srn_scheduler_opts){.now_us = still}, f.e);
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    srn_scheduler_free(f->s);
    gate_done(&f->g, f->e);
    srn_constraint_free(f->c);
    srn_token_trie_free(f->trie);
    srn_engine_close(f->e);
    bell_done(&f->b);
    return 0;
}

/* An answer of which every token is `first`, or `second` where that is not allowed. */
static srn_request_opts forced(fixture *f, int32_t first, int32_t second, uint32_t max_tokens) {
    bool sorted = first <= second;
    f->bias[!sorted] = (srn_logit_bias){first, 100};
    if (first != second) f->bias[sorted] = (srn_logit_bias){second, 50};
    srn_request_opts o = {.prompt = f->prompt,
                          .n_prompt = N_PROMPT,
                          .sampling = srn_sampling_default(),
                          .max_tokens = max_tokens,
                          .notify = ring,
                          .notify_ctx = &f->b};
    o.sampling.temperature = 0;
    o.sampling.logit_bias = f->bias;
    o.sampling.n_logit_bias = first == second ? 1 : 2;
    return o;
}

static void hold_to(fixture *f, srn_request_opts *o, srn_str regex) {
    srn_err err = {0};
    if (srn_constraint_of_regex(regex, &f->c, &err)) fail_msg("%s", err.text);
    o->constraint = f->c;
    o->trie = f->trie;
}

static srn_request_status answer_of(fixture *f, const srn_request_opts *o, srn_buf *text) {
    srn_request *r = submit(f->s, f->e, o);
    srn_request_status st = wait_done(&f->b, r);
    srn_buf_init(text, 4096);
    srn_request_read(r, 0, text, 0, NULL, NULL, 0, NULL);
    srn_buf_addc(text, 0);
    srn_request_release(r);
    if (st.code) fail_msg("%s", st.err.text);
    assert_int_equal(st.finish, SRN_FINISH_STOP);
    return st;
}

static void the_least_length_is_kept_to_the_token(void **state) {
    fixture *f = *state;
    for (uint32_t least = 0; least < 7; least += 3)
        for (int of_stop = 0; of_stop < 2; of_stop++) {
            int32_t other = f->a + 1, end = of_stop ? other : f->end;
            srn_request_opts o = forced(f, end, f->a, 30);
            srn_buf text;
            o.min_tokens = least;
            o.stop_tokens = &other, o.n_stop_tokens = 1;
            srn_request_status st = answer_of(f, &o, &text);
            assert_int_equal(st.n_output, least);
            assert_int_equal(st.end_token, end);
            srn_buf_done(&text);
        }
}

/* What a constraint holds to its end cannot go on past it, so that its end token counts all the same. */
static void a_constraint_ends_although_end_tokens_are_ignored(void **state) {
    fixture *f = *state;
    srn_request_opts o = forced(f, f->end, f->a, 30);
    srn_buf text;
    hold_to(f, &o, SRN_STR("aa[a-z]*"));
    o.ignore_eog = true;
    srn_request_status st = answer_of(f, &o, &text);
    assert_string_equal(text.data, "aa");
    assert_int_equal(st.end_token, f->end);
    srn_buf_done(&text);
    /* and a least length keeps it back here too */
    o.min_tokens = 5;
    st = answer_of(f, &o, &text);
    assert_int_equal(st.n_output, 5);
    srn_buf_done(&text);
}

/* Where nothing may follow the answer ends without a token that says so. */
static void what_must_end_ends_at_once(void **state) {
    fixture *f = *state;
    srn_request_opts o = forced(f, f->a, f->a, 30);
    srn_buf text;
    hold_to(f, &o, SRN_STR("aaa"));
    srn_request_status st = answer_of(f, &o, &text);
    assert_string_equal(text.data, "aaa");
    assert_int_equal(st.end_token, -1);
    srn_buf_done(&text);
}

/* Where only what ends the answer may come, a least length cannot keep it back. */
static void a_least_length_gives_way_to_a_constraint(void **state) {
    fixture *f = *state;
    srn_request_opts o = forced(f, f->a, f->a, 30);
    srn_buf text;
    hold_to(f, &o, SRN_STR("a{20}"));
    o.min_tokens = 5;
    o.stop_tokens = &f->a, o.n_stop_tokens = 1;
    srn_request_status st = answer_of(f, &o, &text);
    assert_int_equal(st.n_output, 0);
    assert_int_equal(st.end_token, f->a);
    srn_buf_done(&text);
}

/* The last step brings the tenth letter and the end token; the stop text stands before it. */
static void a_stop_text_before_the_end_token_of_a_draft_ends_the_answer(void **state) {
    fixture *f = *state;
    for (uint32_t speculate = 0; speculate <= 16; speculate += 16)
        for (uint32_t n_stop = 0; n_stop < 2; n_stop++) {
            static const srn_str stop = {"aaaaaaaaaa", 10};
            srn_request_opts o = forced(f, f->a, f->end, 30);
            srn_buf text;
            if (!f->c) hold_to(f, &o, SRN_STR("a{10}b?"));
            o.constraint = f->c, o.trie = f->trie;
            o.speculate = speculate;
            o.stops = &stop, o.n_stops = n_stop;
            srn_request_status st = answer_of(f, &o, &text);
            assert_string_equal(text.data, n_stop ? "" : "aaaaaaaaaa");
            assert_int_equal(st.stop, n_stop ? 0 : -1);
            assert_int_equal(st.end_token, n_stop ? -1 : f->end);
            assert_int_equal(st.n_output, 10);
            if (speculate && !n_stop) assert_true(st.n_accepted > 4);
            srn_buf_done(&text);
        }
}

static void a_draft_has_at_most_sixteen_tokens(void **state) {
    fixture *f = *state;
    srn_request_opts o = forced(f, f->a, f->a, 200);
    uint32_t most = 0;
    o.ignore_eog = true;
    o.speculate = 1000;
    srn_request *r = submit(f->s, f->e, &o);
    srn_request_status st = wait_done(&f->b, r);
    srn_request_release(r);
    assert_int_equal(st.code, SRN_OK);
    assert_int_equal(st.n_output, 200);
    for (uint32_t i = 0; i < f->g.n_log; i++)
        if (f->g.log[i].n_past >= N_PROMPT) most = SRN_MAX(most, f->g.log[i].n_tokens);
    assert_int_equal(most, 1 + SRN__MAX_DRAFT);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_least_length_is_kept_to_the_token),
        TEST(a_constraint_ends_although_end_tokens_are_ignored),
        TEST(what_must_end_ends_at_once),
        TEST(a_least_length_gives_way_to_a_constraint),
        TEST(a_stop_text_before_the_end_token_of_a_draft_ends_the_answer),
        TEST(a_draft_has_at_most_sixteen_tokens),
    };
    return cmocka_run_group_tests_name("scheduler, ends of answers", tests, NULL, NULL);
}
