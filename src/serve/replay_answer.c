/* A recorded request answered by whatever model the replayer has (replay.h): parsed and rendered anew, run
 * with the sampling of the record. Called by workers, each of which waits for its own answer.
 */
#include <stdlib.h>

#include "serve/replay_internal.h"

enum { MAX_TEXT = 256 << 20 };

void srn_replay_answer_done(srn_replay_answer *a) {
    free(a->prompt);
    free(a->tokens);
    free(a->logits);
    free(a->text);
    *a = (srn_replay_answer){0};
}

/* The record's parameters, or for a request without one those that it has, with a seed that stays. */
static int parse(srn_replayer *r, const srn_replay_ask *ask, srn__replay_request *q, srn_err *err) {
    json_t *record = NULL;
    json_error_t je;
    if (!(q->body = json_loads(ask->request ? ask->request : "", JSON_REJECT_DUPLICATES, &je)))
        return srn_fail(err, SRN_EFORMAT, "the request is no JSON: %s", je.text);
    if (!ask->record) {
        bool chat = json_object_get(q->body, "messages") != NULL;
        record = json_pack("{s:s}", "endpoint", chat ? "/v1/chat/completions" : "/v1/completions");
        if (!record) return srn_fail_nomem(err, 64);
        if (!json_object_get(q->body, "seed")) json_object_set_new(q->body, "seed", json_integer(0));
    }
    int code = srn__replay_parse(r, record ? record : ask->record, ask->prompt, q, err);
    json_decref(record);
    if (code) return code;
    srn__job_spec *spec = q->spec;
    const json_t *max = json_object_get(ask->record, "max_tokens");
    /* Another version may bring parameters of its own; only the seed is the call's. */
    const json_t *seed = json_object_get(json_object_get(ask->record, "sampling"), "seed");
    if (ask->record && !ask->prompt) srn__replay_lay_record(ask->record, spec);
    if (ask->prompt && json_string_value(seed))
        spec->sampling.seed = strtoull(json_string_value(seed), NULL, 10);
    if (json_is_integer(max)) spec->max_tokens = (uint32_t)json_integer_value(max);
    if (!spec->max_tokens) spec->max_tokens = ask->max_tokens;
    if (ask->greedy) spec->sampling.temperature = 0;
    spec->logprobs = spec->prompt_logprobs = false;
    spec->n_top = 0;
    return SRN_OK;
}

static void ignore(void *ctx, const srn_reply_event *e) {
    (void)ctx, (void)e;
}

/* Cuts what the model thought before its answer. */
static int cut_reasoning(const srn__served *v, const srn_reply_opts *o, srn_buf *text, srn_err *err) {
    srn_reply_parser *p = NULL;
    if (!o->parse_reasoning) return SRN_OK;
    int code = srn_reply_parser_new(v->format, o, ignore, NULL, &p, err);
    if (!code) code = srn_reply_parser_add(p, (srn_str){text->data ? text->data : "", text->len}, err);
    if (!code) code = srn_reply_parser_end(p, err);
    size_t end = code ? 0 : (size_t)SRN_MIN(srn_reply_parser_reasoning_end(p), (uint64_t)text->len);
    if (end) {
        while (end < text->len && strchr(" \n\r\t", text->data[end]) && text->data[end]) end++;
        memmove(text->data, text->data + end, text->len - end + 1);
        text->len -= end;
    }
    srn_reply_parser_free(p);
    return code;
}

static int take(srn_request *q, const srn_tokens *prompt, srn_buf *text, srn_replay_answer *ret,
                srn_err *err) {
    srn_request_status s;
    srn_request_read(q, 0, text, 0, NULL, NULL, 0, &s);
    srn_out_token *out = srn_calloc((size_t)s.n_output + 1, sizeof *out);
    ret->tokens = srn_calloc((size_t)s.n_output + 1, sizeof *ret->tokens);
    ret->logits = srn_calloc((size_t)s.n_output + 1, sizeof *ret->logits);
    ret->prompt = srn_calloc(prompt->n + 1, sizeof *ret->prompt);
    if (!out || !ret->tokens || !ret->logits || !ret->prompt || text->failed) {
        free(out);
        return srn_fail_nomem(err, text->len + prompt->n * sizeof *ret->prompt);
    }
    ret->n_tokens = srn_request_read(q, 0, NULL, 0, out, NULL, s.n_output, &s);
    for (uint32_t i = 0; i < ret->n_tokens; i++) {
        ret->tokens[i] = out[i].id;
        ret->logits[i] = out[i].logit;
    }
    memcpy(ret->prompt, prompt->ids, prompt->n * sizeof *ret->prompt);
    ret->n_prompt = (uint32_t)prompt->n;
    ret->finish = s.finish == SRN_FINISH_STOP ? "stop" : "length";
    ret->total_us = s.done_us - s.submitted_us;
    ret->ttft_us = s.first_token_us ? s.first_token_us - s.submitted_us : ret->total_us;
    free(out);
    return SRN_OK;
}

static int run(srn_replayer *r, const srn__job_spec *spec, srn_replay_answer *ret, srn_err *err) {
    srn__replay_run x;
    srn_reply_opts reply = spec->reply;
    srn_constraint *constraint = NULL;
    srn_tokens prompt = {0};
    srn_buf text;
    const char *param = NULL;
    srn_buf_init(&text, MAX_TEXT);
    int code = srn__job_build_prompt(spec, NULL, &prompt, &reply.in_reasoning, &param, err);
    if (!code) code = srn__job_constraint(spec, &reply, &constraint, &param, err);
    if (!code) {
        const srn_request_opts o = srn__job_request_opts(spec, &prompt, &reply, constraint);
        code = srn__replay_run_request(&x, r, &o, err);
        if (!code) code = take(x.request, &prompt, &text, ret, err);
        srn__replay_run_done(&x);
    }
    if (!code) code = cut_reasoning(r->served, &reply, &text, err);
    if (!code && !(ret->text = srn_strndup(text.data ? text.data : "", text.len)))
        code = srn_fail_nomem(err, text.len);
    ret->n_text = text.len;
    srn_constraint_free(constraint);
    srn_tokens_done(&prompt);
    srn_buf_done(&text);
    return code;
}

int srn__replay_answer(srn_answerer *answerer, const srn_replay_ask *ask, srn_replay_answer *ret,
                       srn_err *err) {
    srn_replayer *r = (srn_replayer *)answerer;
    srn__replay_request q = {0};
    srn_replay_answer a = {0};
    int code = parse(r, ask, &q, err);
    if (!code) srn__replay_take_part(&q, 0);
    if (!code) code = run(r, q.spec, &a, err);
    srn__replay_request_done(&q);
    if (code) {
        srn_replay_answer_done(&a);
        return code;
    }
    *ret = a;
    return SRN_OK;
}
