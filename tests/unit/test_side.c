/* serve: the lines that two builds of serin say to each other: what is written is read as it was, to the bit,
 * and what is no such line is refused with a reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "serve/side.h"

static srn_str line_of(const srn_buf *b) {
    assert_false(b->failed);
    assert_int_equal(b->data[b->len - 1], '\n');
    return (srn_str){b->data, b->len - 1};
}

static void an_answer_is_read_to_the_bit(void **state) {
    (void)state;
    int32_t prompt[] = {0, 1, 2147483647}, tokens[] = {7, 9, 300000, 4};
    float logits[] = {-0.0f, 1e-45f, 3.4028235e38f, -1.5f};
    char text[] = {'a', '\0', '\xff', '"', '\n'};
    srn_replay_answer a = {.prompt = prompt,
                           .tokens = tokens,
                           .logits = logits,
                           .n_prompt = 3,
                           .n_tokens = 4,
                           .text = text,
                           .n_text = sizeof text,
                           .finish = "stop",
                           .ttft_us = 5,
                           .total_us = 1u << 31};
    srn_side_reply r;
    srn_err err = {0};
    srn_buf b;
    for (uint32_t n = 0; n <= 4; n++) { /* every length of the last group of base64 */
        a.n_tokens = n;
        srn_buf_init(&b, 1 << 16);
        srn_side_put_answer(&b, 42, &a);
        assert_int_equal(srn_side_read_reply(line_of(&b), &r, &err), SRN_OK);
        assert_int_equal(r.kind, SRN_SIDE_ANSWERED);
        assert_int_equal(r.id, 42);
        assert_int_equal(r.answer.n_tokens, n);
        assert_memory_equal(r.answer.prompt, prompt, sizeof prompt);
        if (n) assert_memory_equal(r.answer.tokens, tokens, n * sizeof *tokens);
        if (n) assert_memory_equal(r.answer.logits, logits, n * sizeof *logits);
        assert_int_equal(r.answer.n_text, sizeof text);
        assert_memory_equal(r.answer.text, text, sizeof text);
        assert_string_equal(r.answer.finish, "stop");
        assert_int_equal(r.answer.total_us, 1u << 31);
        srn_side_reply_done(&r);
        srn_buf_done(&b);
    }
}

static void a_request_is_read_as_it_was_asked(void **state) {
    (void)state;
    json_t *record = json_pack("{s:s}", "endpoint", "/v1/completions");
    const srn_prompt_ref prompt = {.name = "greet", .version = 3};
    const srn_replay_ask ask = {.record = record,
                                .request = "{\"prompt\":\"\\\"x\"}",
                                .prompt = &prompt,
                                .greedy = true,
                                .max_tokens = 77};
    const int32_t ids[] = {1, 2, 3};
    srn_side_request q;
    srn_err err = {0};
    srn_buf b;
    srn_buf_init(&b, 1 << 16);
    srn_side_put_ask(&b, 9, &ask);
    assert_int_equal(srn_side_read_request(line_of(&b), &q, &err), SRN_OK);
    assert_int_equal(q.word, SRN_SIDE_ASK);
    assert_string_equal(q.ask.request, ask.request);
    assert_true(json_equal(q.ask.record, record) && q.ask.greedy && q.ask.max_tokens == 77 && q.id == 9);
    assert_ptr_equal(q.ask.prompt, &q.prompt);
    assert_true(q.prompt.version == 3 && strcmp(q.prompt.name, "greet") == 0);
    srn_side_request_done(&q);
    srn_buf_clear(&b);
    srn_side_put_rows(&b, 2, ids, 3, 2);
    assert_int_equal(srn_side_read_request(line_of(&b), &q, &err), SRN_OK);
    assert_true(q.word == SRN_SIDE_ROWS && q.n_tokens == 3 && q.n_rows == 2);
    assert_memory_equal(q.tokens, ids, sizeof ids);
    srn_side_request_done(&q);
    srn_buf_done(&b);
    json_decref(record);
}

static void what_is_no_line_is_refused(void **state) {
    (void)state;
    static const char *const replies[] = {
        "",
        "[]",
        "{",
        "{}",
        "{\"serin_side\":2}",
        "{\"opened\":{\"weights\":\"x\"}}",
        "{\"opened\":{\"weights\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\","
        "\"engine\":\"x\",\"n_vocab\":1073741824}}", /* whose bytes are 2^32 */
        "{\"id\":1,\"answer\":{}}",
        "{\"id\":1,\"values\":\"A\"}",
        "{\"id\":1,\"values\":\"AAAA\"}",
        "{\"id\":1,\"values\":\"AA*A\"}",
        "{\"id\":1,\"error\":{}}",
        "{\"id\":1,\"answer\":{\"prompt\":\"AQAAAA==\",\"tokens\":\"AQAAAA==\",\"logits\":\"\",\"text\":\"\"}"
        "}",
        "{\"id\":1,\"answer\":{\"prompt\":\"\",\"tokens\":\"\",\"logits\":\"\",\"text\":\"\"}}",
        "{\"id\":1,\"answer\":{\"prompt\":\"/////w==\",\"tokens\":\"\",\"logits\":\"\",\"text\":\"\"}}"};
    static const char *const requests[] = {"",
                                           "{}",
                                           "{\"id\":1}",
                                           "{\"open\":{}}",
                                           "{\"ask\":{\"request\":\"x\"}}",
                                           "{\"id\":1,\"ask\":{}}",
                                           "{\"id\":1,\"rows\":{\"n_rows\":2,\"tokens\":\"AQAAAA==\"}}",
                                           "{\"id\":1,\"rows\":{\"n_rows\":0,\"tokens\":\"AQAAAA==\"}}",
                                           "{\"id\":1,\"ask\":{\"request\":\"x\",\"prompt\":\"@@\"}}"};
    for (size_t i = 0; i < SRN_LEN(replies) + SRN_LEN(requests); i++) {
        srn_err err = {0};
        srn_side_reply r;
        srn_side_request q;
        bool reply = i < SRN_LEN(replies);
        const char *text = reply ? replies[i] : requests[i - SRN_LEN(replies)];
        int code = reply ? srn_side_read_reply(srn_str_of(text), &r, &err)
                         : srn_side_read_request(srn_str_of(text), &q, &err);
        if (!code || !err.text[0]) fail_msg("read: %s", text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_read_to_the_bit),
        cmocka_unit_test(a_request_is_read_as_it_was_asked),
        cmocka_unit_test(what_is_no_line_is_refused),
    };
    return cmocka_run_group_tests_name("lines between builds", tests, NULL, NULL);
}
