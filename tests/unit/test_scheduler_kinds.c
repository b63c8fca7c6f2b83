/* What requests can ask for beyond an answer: constraints, log-probabilities of the prompt, embeddings; each
 * the same alone, in company and with drafts. Threads: pthread_create is the scheduler's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unit/sched_help.h"

enum { LONG = 300, N_EMBD = 64 };

typedef struct fixture {
    srn_engine *e;
    srn_scheduler *s;
    bell b;
    int32_t prompt[LONG];
} fixture;

static int set_up(void **state) {
    static fixture f;
    f.e = open_long("llama", &(srn_engine_opts){.threads = 2, .n_ctx = 512, .max_seqs = 6});
    if (!f.e) return -1;
    bell_init(&f.b);
    uint64_t seed = 33;
    for (int i = 0; i < LONG; i++) f.prompt[i] = (int32_t)(next_random(&seed) % 100);
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    srn_engine_close(f->e);
    bell_done(&f->b);
    return 0;
}

static srn_request_opts opts_of(fixture *f, uint32_t from, uint32_t n, uint32_t max_tokens) {
    return (srn_request_opts){.prompt = f->prompt + from,
                              .n_prompt = n,
                              .sampling = srn_sampling_default(),
                              .max_tokens = max_tokens,
                              .notify = ring,
                              .notify_ctx = &f->b};
}

/* Other requests that run beside the one that is looked at. */
typedef struct company {
    srn_request *r[4];
} company;

static void come(fixture *f, company *c) {
    for (uint32_t i = 0; i < 4; i++) {
        srn_request_opts o = opts_of(f, 13 * i, 40 + 50 * i, 0);
        o.ignore_eog = true;
        c->r[i] = submit(f->s, f->e, &o);
        wait_tokens(&f->b, c->r[i], i % 2);
    }
}

static void go(fixture *f, company *c) {
    for (uint32_t i = 0; i < 4; i++) {
        srn_request_cancel(c->r[i]);
        wait_done(&f->b, c->r[i]);
        srn_request_release(c->r[i]);
    }
}

/* ---- constraints ---- */

static bool digits_and_dashes(const char *p, size_t n) { /* [0-9]{3}(-[0-9]{2}){4,40} */
    if (n < 15 || n > 123 || n % 3) return false;
    for (size_t i = 0; i < n; i++)
        if ((i % 3 == 0 && i > 0) != (p[i] == '-') || (p[i] != '-' && (p[i] < '0' || p[i] > '9')))
            return false;
    return true;
}

static void constraints_hold_alone_in_company_and_with_drafts(void **state) {
    fixture *f = *state;
    const srn_vocab *v;
    srn_token_trie *trie;
    srn_constraint *c;
    srn_err err = {0};
    if (srn_engine_vocab(f->e, &v, &err) || srn_token_trie_new(v, &trie, &err) ||
        srn_constraint_of_regex(SRN_STR("[0-9]{3}(-[0-9]{2}){4,40}"), &c, &err))
        fail_msg("%s", err.text);
    f->s = scheduler_of(NULL, f->e);
    srn_out_token first[160], out[160];
    uint32_t n_first = 0;
    for (int i = 0; i < 4; i++) {
        srn_request_opts o = opts_of(f, 0, 40, 150);
        company others;
        o.constraint = c, o.trie = trie;
        o.speculate = i == 3 ? 1000 : i == 2 ? 5 : 0; /* of a thousand only as many as there may be */
        o.min_tokens = 8;
        if (i % 2) come(f, &others);
        srn_request *r = submit(f->s, f->e, &o);
        srn_request_status st = wait_done(&f->b, r);
        if (i % 2) go(f, &others);
        srn_buf text;
        srn_buf_init(&text, 4096);
        uint32_t n = srn_request_read(r, 0, &text, 0, out, NULL, 160, NULL);
        print_message("%.*s\n", (int)text.len, text.data);
        assert_int_equal(st.code, SRN_OK);
        assert_int_equal(st.finish, SRN_FINISH_STOP);
        assert_true(digits_and_dashes(text.data, text.len));
        if (i == 0) n_first = n;
        assert_int_equal(n, n_first);
        for (uint32_t k = 0; k < n && i; k++) assert_int_equal(out[k].id, first[k].id);
        if (i == 0) memcpy(first, out, sizeof first);
        srn_buf_done(&text);
        srn_request_release(r);
    }
    srn_scheduler_free(f->s);
    srn_constraint_free(c);
    srn_token_trie_free(trie);
}

/* Its first mask, which submit makes, tells: the second character may belong to too many alternatives. */
static void a_constraint_that_takes_too_long_is_refused_before_the_queue(void **state) {
    fixture *f = *state;
    const srn_vocab *v;
    srn_token_trie *trie = NULL;
    srn_constraint *c = NULL;
    srn_err err = {0};
    enum { ALTERNATIVES = 17000, BYTES = 20 };
    char *text = malloc((size_t)ALTERNATIVES * BYTES);
    size_t n = (size_t)snprintf(text, BYTES, "root ::= . (\"a\"");
    for (int i = 0; i < ALTERNATIVES; i++) n += (size_t)snprintf(text + n, BYTES, " | [a-z]{%d}", 20000 + i);
    text[n++] = ')';
    if (srn_engine_vocab(f->e, &v, &err) || srn_token_trie_new(v, &trie, &err) ||
        srn_constraint_of_gbnf((srn_str){text, n}, &c, &err))
        fail_msg("%s", err.text);
    f->s = scheduler_of(NULL, f->e);
    srn_request_opts o = opts_of(f, 0, 40, 10);
    srn_request *r;
    o.constraint = c, o.trie = trie;
    assert_int_equal(srn_request_submit(f->s, f->e, &o, 1, &r, &err), SRN_ELIMIT);
    assert_non_null(strstr(err.text, "ambiguous"));
    srn_scheduler_free(f->s);
    srn_constraint_free(c);
    srn_token_trie_free(trie);
    free(text);
}

/* ---- log-probabilities of the prompt ---- */

static void prompts_are_scored_as_by_a_session(void **state) {
    fixture *f = *state;
    uint32_t n_vocab = srn_engine_get_info(f->e).n_vocab;
    float *rows = calloc((size_t)LONG * n_vocab, sizeof *rows);
    srn_session *s;
    srn_err err = {0};
    if (srn_session_new(f->e, &s, &err) || srn_session_feed_all(s, f->prompt, LONG, rows, &err))
        fail_msg("%s", err.text);
    srn_session_free(s);
    f->s = scheduler_of(NULL, f->e);
    for (int i = 0; i < 3; i++) {
        srn_request_opts o = opts_of(f, 0, LONG, 3);
        company others;
        o.prompt_logprobs = true, o.n_top = 2, o.ignore_eog = true;
        if (i) come(f, &others);
        srn_request *r = submit(f->s, f->e, &o);
        srn_request_status st = wait_done(&f->b, r);
        if (i) go(f, &others);
        assert_int_equal(st.code, SRN_OK);
        assert_int_equal(st.n_cached, 0);
        assert_int_equal(st.n_output, 3);
        const srn_top_token *tops;
        const float *scores = srn_request_prompt_logprobs(r, &tops);
        assert_non_null(scores);
        assert_true(scores[0] == 0);
        for (uint32_t k = 1; k < LONG; k++) {
            srn_top_token top[2];
            float score;
            srn__logprobs(rows + (size_t)(k - 1) * n_vocab, n_vocab, f->prompt[k], 2, &score, top);
            assert_memory_equal(&score, &scores[k], sizeof score);
            assert_memory_equal(top, tops + 2 * (size_t)k, sizeof top);
        }
        srn_request_release(r);
    }
    srn_scheduler_free(f->s);
    free(rows);
}

/* Rows of logits that a request keeps are those of a session, whatever the cache holds and whoever runs
 * beside it. */
static void rows_of_a_prompt_are_those_of_a_session(void **state) {
    fixture *f = *state;
    uint32_t n_vocab = srn_engine_get_info(f->e).n_vocab;
    float *rows = calloc((size_t)LONG * n_vocab, sizeof *rows);
    srn_session *s;
    srn_err err = {0};
    const uint32_t wanted[] = {1, 70, LONG, 130};
    if (srn_session_new(f->e, &s, &err) || srn_session_feed_all(s, f->prompt, LONG, rows, &err))
        fail_msg("%s", err.text);
    srn_session_free(s);
    f->s = scheduler_of(NULL, f->e);
    for (size_t i = 0; i < SRN_LEN(wanted); i++) {
        srn_request_opts o = opts_of(f, 0, LONG, 2);
        company others;
        o.n_rows = wanted[i], o.ignore_eog = true;
        if (i > 1) come(f, &others);
        srn_request *r = submit(f->s, f->e, &o);
        srn_request_status st = wait_done(&f->b, r);
        if (i > 1) go(f, &others);
        assert_int_equal(st.code, SRN_OK);
        assert_true(st.n_cached <= LONG - wanted[i]);
        if (i == 1 || i == 3) assert_true(st.n_cached > 0);
        assert_non_null(srn_request_rows(r));
        assert_memory_equal(srn_request_rows(r), rows + (size_t)(LONG - wanted[i]) * n_vocab,
                            (size_t)wanted[i] * n_vocab * sizeof *rows);
        srn_request_release(r);
    }
    srn_request_opts o = opts_of(f, 0, 9, 1);
    srn_request *r;
    o.n_rows = 10;
    assert_int_equal(srn_request_submit(f->s, f->e, &o, 1, &r, &err), SRN_EINVAL);
    srn_scheduler_free(f->s);
    free(rows);
}

/* ---- embeddings ---- */

/* [n, N_EMBD] hidden states, computed straight on the device. */
static void hidden_of(srn_engine *e, const int32_t *tokens, uint32_t n, float *out) {
    srn_kv_seq *seq;
    srn_err err = {0};
    uint32_t wanted[32];
    for (uint32_t i = 0; i < 32; i++) wanted[i] = i;
    assert_int_equal(srn_kv_seq_new(e->kv, 0, &seq, &err), 0);
    srn_kv_seq_set_alone(seq);
    for (uint32_t done = 0, now; done < n; done += now) {
        now = SRN_MIN(32u, n - done);
        assert_true(srn_kv_seq_reserve(seq, done + now));
        srn_slice slice = srn__kv_slice(seq, done, now, 0);
        srn_batch b = {.tokens = tokens + done,
                       .n_tokens = now,
                       .slices = &slice,
                       .n_slices = 1,
                       .wanted = wanted,
                       .n_wanted = now,
                       .hidden = out + (size_t)done * N_EMBD};
        if (e->device->ops->forward(e->device, &b, &err)) fail_msg("%s", err.text);
        srn_kv_seq_commit(seq, tokens, done + now);
    }
    srn_kv_seq_free(seq);
}

static void pool(const float *rows, uint32_t n, srn_pooling pooling, float *out) {
    const float *row = pooling == SRN_POOL_CLS ? rows : rows + (size_t)(n - 1) * N_EMBD;
    memcpy(out, row, N_EMBD * sizeof *out);
    for (uint32_t k = 0; k < N_EMBD && pooling == SRN_POOL_MEAN; k++) {
        double sum = 0;
        for (uint32_t i = 0; i < n; i++) sum += (double)rows[(size_t)i * N_EMBD + k];
        out[k] = (float)(sum / n);
    }
}

static void embeddings_do_not_depend_on_company(void **state) {
    fixture *f = *state;
    static float rows[LONG * N_EMBD];
    const uint32_t lengths[] = {1, 70, LONG};
    assert_int_equal(srn_engine_get_info(f->e).n_embd, N_EMBD);
    for (size_t i = 0; i < SRN_LEN(lengths); i++) {
        hidden_of(f->e, f->prompt, lengths[i], rows);
        f->s = scheduler_of(NULL, f->e);
        for (int k = 0; k < 9; k++) {
            float expected[N_EMBD];
            company others;
            srn_request_opts o = opts_of(f, 0, lengths[i], 0);
            o.kind = SRN_REQUEST_EMBED;
            o.pooling = (srn_pooling)(k % 3);
            if (k / 3) come(f, &others);
            srn_request *r = submit(f->s, f->e, &o);
            srn_request_status st = wait_done(&f->b, r);
            if (k / 3) go(f, &others);
            assert_int_equal(st.code, SRN_OK);
            pool(rows, lengths[i], o.pooling, expected);
            assert_memory_equal(srn_request_embedding(r), expected, sizeof expected);
            srn_request_release(r);
        }
        srn_scheduler_free(f->s);
    }
}

/* ---- drafts ---- */

static void drafts_follow_what_was_written_before(void **state) {
    (void)state;
    const int32_t text[] = {1, 2, 3, 4, 9, 9, 2, 3, 7, 7, 1, 2, 3};
    int32_t draft[8];
    assert_int_equal(srn__draft(text, SRN_LEN(text), 3, draft), 3);
    assert_int_equal(draft[0], 4); /* three agree with the beginning, two with what came last */
    assert_int_equal(draft[1], 9);
    assert_int_equal(draft[2], 9);
    const int32_t loop[] = {5, 6, 7, 6, 7, 6, 7};
    assert_int_equal(srn__draft(loop, SRN_LEN(loop), 5, draft), 5);
    for (int i = 0; i < 5; i++) assert_int_equal(draft[i], i % 2 ? 7 : 6);
    assert_int_equal(srn__draft(text, 4, 3, draft), 0);
    assert_int_equal(srn__draft(text, 2, 3, draft), 0);
    assert_int_equal(srn__draft(loop, SRN_LEN(loop), 0, draft), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constraints_hold_alone_in_company_and_with_drafts),
        cmocka_unit_test(a_constraint_that_takes_too_long_is_refused_before_the_queue),
        cmocka_unit_test(prompts_are_scored_as_by_a_session),
        cmocka_unit_test(rows_of_a_prompt_are_those_of_a_session),
        cmocka_unit_test(embeddings_do_not_depend_on_company),
        cmocka_unit_test(drafts_follow_what_was_written_before),
    };
    return cmocka_run_group_tests_name("scheduler, kinds of requests", tests, set_up, tear_down);
}
