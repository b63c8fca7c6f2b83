/* The text of a call's record: what srn_record_decode makes of it, whatever a client has sent; what the
 * policy keeps of hashes; and the content's pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/num.h"
#include "serve/record_internal.h"
#include "unit/ledger_help.h"

static const srn__route route = {.method = "POST", .path = "/v1/chat/completions"};

typedef struct site {
    srn__recorder recorder;
    srn__settings settings;
    srn__call call;
    srn__record record;
    srn_key key;
    srn__served model;
    srn__job_spec spec;
} site;

static void begin(site *s) {
    srn_err err = {0};
    memset(s, 0, sizeof *s);
    assert_int_equal(srn_ledger_keys_open(NULL, &s->recorder.own_keys, &err), 0);
    s->recorder.keys = s->recorder.own_keys;
    snprintf(s->settings.id, sizeof s->settings.id, "%064d", 7);
    s->call.settings = &s->settings;
    srn_ulid_new(s->call.id);
    s->call.route = &route;
    s->call.begun_us = srn_now_us();
    s->key = (srn_key){.name = "k", .tenant = "t"};
    s->call.key = &s->key;
    s->model.name = "m";
    s->model.ids = (srn_ids){.numerics = 1, .kv = "f16", .quantisation = "Q4_1 (79 %), F32"};
    s->spec = (srn__job_spec){.model = &s->model, .sampling = srn_sampling_default(), .n = 1};
    s->record = (srn__record){.recorder = &s->recorder, .call = &s->call, .policy = SRN_CONTENT_HASH};
    srn_buf_init(&s->record.in_ids, 1 << 20);
    srn_buf_init(&s->record.out_ids, 1 << 20);
}

static void end(site *s) {
    json_decref(s->call.json);
    srn_buf_done(&s->record.in_ids);
    srn_buf_done(&s->record.out_ids);
    srn_ledger_keys_close(s->recorder.own_keys);
}

/* The record as it would be appended, decoded; body is kept for its fields. */
static srn_record *decoded(site *s, const srn__record_work *w, json_t **ret_body) {
    srn_buf b;
    srn_err err = {0};
    srn_record *r = NULL;
    srn_buf_init(&b, 1 << 20);
    srn__record_subject(&s->record);
    srn__record_put_head(&b, &s->record, w);
    srn__record_put_end(&b, &s->record, 200, 1234);
    assert_false(b.failed);
    if (srn_record_decode(SRN_RECORD_CALL, (srn_str){b.data, b.len}, &r, &err))
        fail_msg("%s\n%s", err.text, b.data);
    *ret_body = json_loadb(b.data, b.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(*ret_body);
    srn_buf_done(&b);
    return r;
}

static const char *text_at(const json_t *body, const char *name) {
    return json_string_value(json_object_get(body, name));
}

static void what_is_known_is_in_the_record(void **state) {
    (void)state;
    site s;
    json_t *body;
    begin(&s);
    const srn__record_work w = {.model = &s.model, .spec = &s.spec};
    s.spec.sampling.seed = UINT64_MAX; /* more than a JSON number holds */
    s.record.sum =
        (srn__record_part){.n_input = 5, .n_cached = 2, .n_output = 7, .n_reasoning = 1, .ttft_us = 9};
    s.record.gap_us = 10;
    s.record.n_gaps = 4;
    s.record.gap_max_us = 6;
    srn_record *r = decoded(&s, &w, &body);
    const srn_call_row *row = srn_record_call(r);
    assert_string_equal(row->model, "m");
    assert_string_equal(row->key, "k");
    assert_string_equal(row->tenant, "t");
    assert_string_equal(row->endpoint, "/v1/chat/completions");
    assert_int_equal(row->status, 200);
    assert_int_equal(row->n_input, 5);
    assert_int_equal(row->n_cached, 2);
    assert_int_equal(row->n_output, 7);
    assert_int_equal(row->itl_us, 2);
    assert_int_equal(row->itl_max_us, 6);
    assert_int_equal(row->total_us, 1234);
    assert_string_equal(text_at(json_object_get(body, "sampling"), "seed"), "18446744073709551615");
    assert_string_equal(text_at(body, "quantisation"), "Q4_1 (79 %), F32");
    assert_true(json_is_null(json_object_get(body, "finish")));
    json_decref(body);
    srn_record_free(r);
    end(&s);
}

static void whatever_a_client_says_the_record_is_one(void **state) {
    (void)state;
    static const char *const said[] = {"plain",        "\"},{\"", "a\\\n\t\x01\x7f", "\xff\xfe broken \xc3",
                                       "\xe2\x82\xac", ""};
    for (size_t i = 0; i < SRN_LEN(said); i++) {
        site s;
        json_t *body;
        begin(&s);
        snprintf(s.record.asked, sizeof s.record.asked, "%s", said[i]);
        snprintf(s.record.error, sizeof s.record.error, "%s", said[i]);
        s.call.json = json_pack("{s:s, s:b}", "user", "u", "stream", 1);
        srn_record *r = decoded(&s, NULL, &body);
        assert_true(srn_record_call(r)->streamed);
        assert_int_equal(strlen(text_at(body, "subject")), SRN_KEYED_HASH_CHARS);
        json_decref(body);
        srn_record_free(r);
        end(&s);
    }
}

static void the_policy_none_keeps_no_hash(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        site s;
        json_t *body;
        begin(&s);
        s.record.policy = i ? SRN_CONTENT_HASH : SRN_CONTENT_NONE;
        srn_buf_add(&s.record.in_ids, "\1\0\0\0", 4);
        srn_record *r = decoded(&s, NULL, &body);
        const json_t *hashes = json_object_get(body, "hashes");
        assert_int_equal(json_is_object(hashes), i);
        assert_int_equal(json_is_string(json_object_get(body, "subject")), i);
        if (i) {
            assert_string_equal(text_at(hashes, "key"), srn_hash_key_id(s.recorder.keys));
            assert_int_equal(strlen(text_at(hashes, "input")), SRN_KEYED_HASH_CHARS);
            assert_true(json_is_null(json_object_get(hashes, "output")));
        }
        json_decref(body);
        srn_record_free(r);
        end(&s);
    }
}

static void the_user_goes_before_the_key_as_subject(void **state) {
    (void)state;
    char hash[4][SRN_KEYED_HASH_CHARS + 1];
    static const char *const bodies[] = {"{}", "{\"user\":\"k\"}", "{\"metadata\":{\"user_id\":\"u\"}}",
                                         "{\"user\":\"u\"}"};
    site s;
    begin(&s);
    for (size_t i = 0; i < SRN_LEN(bodies); i++) {
        json_decref(s.call.json);
        s.call.json = json_loads(bodies[i], 0, NULL);
        srn__record_subject(&s.record);
        memcpy(hash[i], s.record.subject, sizeof hash[i]);
    }
    assert_string_equal(hash[0], hash[1]);
    assert_string_equal(hash[2], hash[3]);
    assert_string_not_equal(hash[0], hash[2]);
    end(&s);
}

static bool find_unsent(void *ctx, const srn_stored *s) {
    bool found = strstr(s->body.ptr, "\"answer_unsent\"") != NULL;
    if (found) assert_non_null(strstr(s->body.ptr, "\"status\":500"));
    *(int *)ctx += found;
    return true;
}

/* The record of an answer is there before its end goes out. */
static void an_answer_that_could_not_be_sent_after_its_record_is_told_of(void **state) {
    (void)state;
    static const struct {
        int status;
        srn__record_step end;
        int events;
    } cases[] = {{500, SRN__STEP_DONE, 1}, {200, SRN__STEP_DONE, 0}, {503, SRN__STEP_FAILED, 0}};
    for (size_t i = 0; i < SRN_LEN(cases); i++) {
        site s;
        folder f = folder_new();
        int n = 0;
        begin(&s);
        s.recorder.ledger = ledger_open(f.path);
        s.call.record = srn_calloc(1, sizeof *s.call.record);
        assert_non_null(s.call.record);
        *s.call.record = (srn__record){.recorder = &s.recorder, .call = &s.call, .end = cases[i].end};
        pthread_mutex_init(&s.call.record->lock, NULL);
        s.call.status = cases[i].status;
        s.call.stage = SRN__STAGE_REPLY;
        atomic_init(&s.call.refs, 2);
        srn__record_last(&s.call);
        srn_ledger_close(s.recorder.ledger);
        srn_reader *r = reader_open(f.path);
        assert_int_equal(srn_reader_records(r, SRN_RECORD_EVENT, 0, find_unsent, &n, NULL), SRN_OK);
        assert_int_equal(n, cases[i].events);
        srn_reader_close(r);
        folder_done(&f);
        end(&s);
    }
}

static void choices_are_bits(void **state) {
    (void)state;
    const srn_out_token tokens[] = {{.id = 1, .logit = 1.0f, .logprob = -0.5f},
                                    {.id = 0x01020304, .logit = srn_f32_bits(0x80000001u), .logprob = 0}};
    srn_buf b;
    srn_buf_init(&b, 4096);
    srn__record_put_choice(
        &b,
        &(srn__record_choice){
            .tokens = tokens, .n_tokens = 2, .logprobs = true, .text = SRN_STR("a\"b"), .finish = "stop"});
    srn__record_put_choice(&b, &(srn__record_choice){.part = 1, .index = 2, .text = SRN_STR("")});
    assert_string_equal(b.data,
                        "{\"part\":0,\"index\":0,\"tokens\":\"AQAAAAQDAgE=\",\"logits\":\"AACAPwEAAIA=\","
                        "\"logprobs\":\"AAAAvwAAAAA=\",\"text\":\"a\\\"b\",\"finish\":\"stop\"},"
                        "{\"part\":1,\"index\":2,\"tokens\":\"\",\"logits\":\"\",\"logprobs\":null,"
                        "\"text\":\"\",\"finish\":null}");
    srn_buf_done(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_known_is_in_the_record),
        cmocka_unit_test(whatever_a_client_says_the_record_is_one),
        cmocka_unit_test(the_policy_none_keeps_no_hash),
        cmocka_unit_test(the_user_goes_before_the_key_as_subject),
        cmocka_unit_test(an_answer_that_could_not_be_sent_after_its_record_is_told_of),
        cmocka_unit_test(choices_are_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
