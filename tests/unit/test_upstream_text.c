/* What an upstream's bytes become: the same whatever pieces they come in, with the names that the client
 * knows, and the end of an answer held back; and what is asked of an upstream, from what a client asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "serve/upstream_internal.h"

static srn__relay_text begin(srn__relay_api api, bool hides, uint32_t n) {
    srn__relay_text t = {
        .api = api, .streamed = true, .hides_usage = hides, .model = "ours", .id = "ID", .n_choices = n};
    srn_err err = {0};
    assert_int_equal(srn__relay_text_init(&t, &err), 0);
    return t;
}

typedef struct result {
    srn_buf now, held;
    int code;
    srn_err err;
} result;

/* The bytes in pieces of `step`, each a millisecond after the one before. */
static result feed(srn__relay_text *t, const char *bytes, size_t step) {
    result r = {0};
    srn_buf_init(&r.now, 1 << 24);
    srn_buf_init(&r.held, 1 << 24);
    size_t n = strlen(bytes), at_us = 1000;
    for (size_t i = 0; i < n && !r.code; i += step, at_us += 1000) {
        size_t take = SRN_MIN(step, n - i);
        char *own = srn_strndup(bytes + i, take); /* of its own size, for whoever reads beyond */
        srn_stream_mark mark = {take, at_us};
        r.code = srn__relay_text_add(t, (srn_str){own, take}, &mark, 1, &r.now, &r.held, &r.err);
        free(own);
    }
    return r;
}

static void result_done(result *r) {
    srn_buf_done(&r->now);
    srn_buf_done(&r->held);
}

static const char *text_of(const srn_buf *b) {
    return b->data ? b->data : "";
}

#define PIECE(text)                                                                                          \
    "data: {\"id\":\"x\",\"model\":\"theirs\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" text      \
    "\"},\"finish_reason\":null}]}\n\n"
#define FINISH                                                                                               \
    "data: {\"id\":\"x\",\"model\":\"theirs\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":"     \
    "\"length\"}]}\n\n"
#define USAGE                                                                                                \
    "data: {\"id\":\"x\",\"model\":\"theirs\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,"                \
    "\"completion_tokens\":3,\"prompt_tokens_details\":{\"cached_tokens\":2}}}\n\n"
#define DONE "data: [DONE]\n\n"

static void any_pieces_give_the_same(void **state) {
    (void)state;
    static const char all[] = ": ping\r\n\r\n" PIECE("Hel") "event: x\r\n" PIECE("lo") FINISH USAGE DONE;
    char *first = NULL;
    for (size_t step = 1; step < sizeof all; step++) {
        srn__relay_text t = begin(SRN__RELAY_CHAT, true, 1);
        result r = feed(&t, all, step);
        assert_int_equal(r.code, 0);
        if (!first) first = srn_strndup(r.now.data, r.now.len);
        assert_string_equal(text_of(&r.now), first);
        assert_string_equal(text_of(&t.choices[0].text), "Hello");
        assert_string_equal(t.choices[0].finish, "length");
        assert_true(t.ended && t.has_usage);
        assert_int_equal(t.n_input, 7);
        assert_int_equal(t.n_cached, 2);
        assert_int_equal(t.n_output, 3);
        assert_int_equal(t.n_pieces, 2);
        assert_string_equal(t.said_model, "theirs");
        assert_null(strstr(r.held.data, "usage"));
        assert_non_null(strstr(r.held.data, "length"));
        assert_null(strstr(r.now.data, "theirs"));
        assert_non_null(strstr(r.now.data, "chatcmpl-ID"));
        assert_non_null(strstr(r.now.data, "event: x\ndata: "));
        result_done(&r);
        srn__relay_text_done(&t);
    }
    free(first);
}

static void times_are_those_of_the_bytes(void **state) {
    (void)state;
    srn__relay_text t = begin(SRN__RELAY_CHAT, false, 1);
    srn_buf now, held;
    srn_err err = {0};
    srn_buf_init(&now, 1 << 20);
    srn_buf_init(&held, 1 << 20);
    static const char all[] = PIECE("a") PIECE("b") PIECE("c");
    size_t one = sizeof(PIECE("a")) - 1;
    const srn_stream_mark marks[] = {{5, 10}, {one, 100}, {2 * one, 350}, {3 * one, 400}};
    assert_int_equal(srn__relay_text_add(&t, (srn_str){all, sizeof all - 1}, marks, 4, &now, &held, &err), 0);
    assert_int_equal(t.first_us, 100);
    assert_int_equal(t.last_us, 400);
    assert_int_equal(t.gap_max_us, 250);
    srn_buf_done(&now);
    srn_buf_done(&held);
    srn__relay_text_done(&t);
}

static void each_choice_has_its_own_text(void **state) {
    (void)state;
    srn__relay_text t = begin(SRN__RELAY_COMPLETIONS, false, 2);
    result r = feed(
        &t,
        "data: {\"model\":\"m\",\"choices\":[{\"index\":1,\"text\":\"one\"}]}\n\n"
        "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\"zero\",\"finish_reason\":\"stop\"}]}"
        "\n\ndata: {\"model\":\"m\",\"choices\":[{\"index\":1,\"text\":\"!\"}]}\n\n"
        "data: {\"model\":\"m\",\"choices\":[{\"index\":9,\"text\":\"\",\"finish_reason\":\"x\"}]}\n\n",
        7);
    assert_int_equal(r.code, 0);
    assert_string_equal(text_of(&t.choices[0].text), "zero");
    assert_string_equal(text_of(&t.choices[1].text), "one!");
    assert_false(srn__relay_text_end(&t, &r.held)); /* the second has not ended */
    srn_buf_addz(&r.held, "");
    result_done(&r);
    srn__relay_text_done(&t);
}

static void an_end_without_its_mark_gets_one(void **state) {
    (void)state;
    srn__relay_text t = begin(SRN__RELAY_CHAT, true, 1);
    result r = feed(&t, PIECE("Hi") FINISH, 11);
    assert_true(srn__relay_text_end(&t, &r.held));
    assert_string_equal(r.held.data + r.held.len - strlen(DONE), DONE);
    result_done(&r);
    srn__relay_text_done(&t);
}

static void messages_and_responses_are_read(void **state) {
    (void)state;
    srn__relay_text t = begin(SRN__RELAY_MESSAGES, false, 1);
    result r = feed(
        &t,
        "event: message_start\ndata: "
        "{\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"theirs\","
        "\"usage\":{\"input_tokens\":3,\"cache_read_input_tokens\":4,\"output_tokens\":1}}}\n\n"
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
        "\"text_delta\",\"text\":\"Hi\"}}\n\n"
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},"
        "\"usage\":{\"output_tokens\":9}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        13);
    assert_true(t.ended);
    assert_int_equal(t.n_input, 7);
    assert_int_equal(t.n_output, 9);
    assert_string_equal(t.choices[0].finish, "stop");
    assert_non_null(strstr(r.now.data, "\"msg_ID\""));
    assert_non_null(strstr(r.held.data, "message_stop"));
    result_done(&r);
    srn__relay_text_done(&t);
    t = begin(SRN__RELAY_RESPONSES, false, 1);
    r = feed(
        &t,
        "data: "
        "{\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r\",\"model\":\"m\"}}"
        "\n\n"
        "data: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"Hi\"}\n\n"
        "data: "
        "{\"type\":\"response.incomplete\",\"sequence_number\":2,\"response\":{\"id\":\"r\",\"model\":\"m\","
        "\"status\":\"incomplete\",\"usage\":{\"input_tokens\":5,\"output_tokens\":6}}}\n\n",
        3);
    assert_true(t.ended && t.n_input == 5 && t.n_output == 6);
    assert_string_equal(t.choices[0].finish, "length");
    srn__relay_text_broken(&t, 502, "upstream_broken", "because", &r.now);
    assert_non_null(strstr(r.now.data, "response.failed"));
    assert_non_null(strstr(r.now.data, "because"));
    assert_non_null(strstr(r.now.data, "resp_ID"));
    result_done(&r);
    srn__relay_text_done(&t);
}

static void texts_may_have_any_character(void **state) {
    (void)state;
    srn__relay_text t = begin(SRN__RELAY_CHAT, true, 1);
    result r = feed(&t, PIECE("a\\u0000\\ud83d\\ude00b") FINISH, 9);
    assert_int_equal(r.code, 0);
    assert_int_equal(t.choices[0].text.len, 7);
    assert_memory_equal(t.choices[0].text.data,
                        "a\0\xf0\x9f\x98\x80"
                        "b",
                        7);
    assert_non_null(strstr(r.now.data, "a\\u0000"));
    result_done(&r);
    srn__relay_text_done(&t);
}

static void what_is_no_answer_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"data: nonsense\n\n", "data: [1]\n\n", "data: {\"a\":\xff}\n\n"};
    for (size_t i = 0; i < SRN_LEN(bad); i++) {
        srn__relay_text t = begin(SRN__RELAY_CHAT, true, 1);
        result r = feed(&t, bad[i], 100);
        assert_int_equal(r.code, SRN_EFORMAT);
        result_done(&r);
        srn__relay_text_done(&t);
    }
    srn__relay_text t = begin(SRN__RELAY_CHAT, true, 1);
    result r = feed(&t, "data: {\"error\":{\"message\":\"no\"}}\n\n", 5);
    assert_true(t.failed && t.begun);
    result_done(&r);
    srn__relay_text_done(&t);
}

/* ---- what is asked ---- */

static json_t *asked(srn__relay_api api, const char *body, uint32_t most, bool own, bool *left_out) {
    json_t *o = json_loads(body, 0, NULL), *out = NULL;
    const srn__relay_ask a = {
        .api = api, .body = o, .model = "theirs", .max_tokens = most, .own_fields = own};
    srn_err err = {0};
    assert_int_equal(srn__relay_body(&a, &out, left_out, &err), 0);
    json_decref(o);
    return out;
}

/* In large pieces, of two choices in turn: what is kept of both is what counts. */
static void a_stream_without_an_end_is_cut_off(void **state) {
    (void)state;
    enum { BIG = 8 << 20 };
    srn__relay_text t = begin(SRN__RELAY_CHAT, false, 2);
    srn_buf event, now, held;
    srn_err err = {0};
    size_t taken = 0;
    int code = 0;
    srn_buf_init(&now, 1 << 25);
    srn_buf_init(&held, 1 << 25);
    for (int i = 0; i < 16 && !code; i++, taken += BIG) {
        srn_buf_init(&event, 1 << 25);
        srn_buf_addf(&event, "data: {\"choices\":[{\"index\":%d,\"delta\":{\"content\":\"", i % 2);
        for (int k = 0; k < BIG / 16; k++) srn_buf_addz(&event, "0123456789abcdef");
        srn_buf_addz(&event, "\"}}]}\n\n");
        assert_false(event.failed);
        code = srn__relay_text_add(&t, (srn_str){event.data, event.len}, &(srn_stream_mark){event.len, 1}, 1,
                                   &now, &held, &err);
        srn_buf_clear(&now);
        srn_buf_done(&event);
    }
    assert_int_equal(code, SRN_ELIMIT);
    assert_int_equal(taken, SRN__RELAY_BYTES + BIG);
    srn_buf_done(&now);
    srn_buf_done(&held);
    srn__relay_text_done(&t);
}

static void check_body(srn__relay_api api, const char *body, uint32_t most, bool own, const char *want) {
    bool left_out;
    json_t *out = asked(api, body, most, own, &left_out), *wanted = json_loads(want, 0, NULL);
    char *text = json_dumps(out, 0);
    if (!json_equal(out, wanted)) fail_msg("%s, and not %s", text, want);
    free(text);
    json_decref(out);
    json_decref(wanted);
}

static void bodies_are_changed_where_they_must(void **state) {
    (void)state;
    check_body(
        SRN__RELAY_CHAT, "{\"model\":\"a\",\"stream\":true,\"priority\":5,\"top_k\":3}", 0, true,
        "{\"model\":\"theirs\",\"stream\":true,\"top_k\":3,\"stream_options\":{\"include_usage\":true}}");
    check_body(SRN__RELAY_CHAT, "{\"model\":\"a\",\"top_k\":3,\"grammar\":\"x\",\"max_tokens\":9}", 4, false,
               "{\"model\":\"theirs\",\"grammar\":\"x\",\"max_tokens\":4}");
    check_body(SRN__RELAY_CHAT, "{}", 4, true, "{\"model\":\"theirs\",\"max_completion_tokens\":4}");
    check_body(SRN__RELAY_COMPLETIONS, "{\"max_tokens\":-1}", 4, true,
               "{\"model\":\"theirs\",\"max_tokens\":4}");
    check_body(SRN__RELAY_COMPLETIONS, "{\"max_tokens\":2}", 4, true,
               "{\"model\":\"theirs\",\"max_tokens\":2}");
    check_body(SRN__RELAY_RESPONSES, "{\"input\":\"x\"}", 4, false,
               "{\"model\":\"theirs\",\"input\":\"x\",\"max_output_tokens\":4}");
    check_body(SRN__RELAY_MESSAGES, "{\"top_k\":3,\"max_tokens\":9}", 4, false,
               "{\"model\":\"theirs\",\"top_k\":3,\"max_tokens\":4}");
    check_body(SRN__RELAY_EMBEDDINGS, "{\"input\":\"x\"}", 4, false,
               "{\"model\":\"theirs\",\"input\":\"x\"}");
}

static void addresses_of_this_machine_are_known(void **state) {
    (void)state;
    static const char *const here[] = {"unix:/run/x",           "http://localhost:1", "http://LOCALHOST/v1",
                                       "http://127.0.0.1:8080", "https://127.9.8.7",  "http://[::1]:8080/v1"};
    static const char *const away[] = {"http://10.0.0.1",
                                       "http://0.0.0.0",
                                       "http://localhost.evil",
                                       "http://127.0.0.1.evil:80",
                                       "http://127.0.0.1@evil",
                                       "http://evil/127.0.0.1",
                                       "http://[::2]",
                                       "http://[::ffff:10.0.0.1]",
                                       "ftp//127.0.0.1",
                                       "http://evil#@127.0.0.1",
                                       ""};
    for (size_t i = 0; i < SRN_LEN(here); i++)
        if (!srn_url_is_local(here[i])) fail_msg("%s", here[i]);
    for (size_t i = 0; i < SRN_LEN(away); i++)
        if (srn_url_is_local(away[i])) fail_msg("%s", away[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_pieces_give_the_same),
        cmocka_unit_test(times_are_those_of_the_bytes),
        cmocka_unit_test(each_choice_has_its_own_text),
        cmocka_unit_test(an_end_without_its_mark_gets_one),
        cmocka_unit_test(messages_and_responses_are_read),
        cmocka_unit_test(what_is_no_answer_is_refused),
        cmocka_unit_test(a_stream_without_an_end_is_cut_off),
        cmocka_unit_test(texts_may_have_any_character),
        cmocka_unit_test(bodies_are_changed_where_they_must),
        cmocka_unit_test(addresses_of_this_machine_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
