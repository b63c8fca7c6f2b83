/* The OpenAI API: /v1/embeddings. Each input is one request of the scheduler that asks for the pooled hidden
 * state of its prompt; the answer is normalised to length 1. A few inputs are in the queue at a time, so that
 * a long list cannot fill it. The handler runs on a worker, the source on the listener thread.
 */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/num.h"
#include "serve/openai.h"
#include "serve/openai_internal.h"
#include "serve/otel.h"
#include "serve/record.h"
#include "serve/rollout.h"

enum { MAX_INPUTS = 2048, WINDOW = 16, MAX_BODY = 512 << 20 };

typedef struct input {
    srn_tokens ids;
    srn_request *request; /* NULL: not submitted, or done */
    float *vector;        /* [n_embd] */
    char digest[65];      /* of it */
} input;

typedef struct embeddings {
    srn__call *call;
    srn__served *model;
    input *inputs;
    uint32_t n, started, ended;
    uint32_t n_embd;
    bool base64;
    int32_t priority;
    uint64_t deadline_us, queue_us;
    bool begun, recorded; /* the call's record knows what became of it */
    pthread_mutex_t lock; /* guards the requests against cancel, which any thread may call */
    bool cancelled;
} embeddings;

static void put_le(float v, uint8_t ret[4]) {
    uint32_t bits = srn_bits_f32(v);
    for (int k = 0; k < 4; k++) ret[k] = (uint8_t)(bits >> 8 * k);
}

static void wake(void *ctx) {
    srn__call_wake(ctx);
}

/* Puts inputs into the queue while there are few in it. */
static int submit_some(embeddings *e, srn_err *err) {
    const srn_key *key = srn__call_key(e->call);
    int code = SRN_OK;
    while (!code && e->started < e->n && e->started - e->ended < WINDOW) {
        input *in = &e->inputs[e->started];
        const srn_request_opts o = {.kind = SRN_REQUEST_EMBED,
                                    .prompt = in->ids.ids,
                                    .n_prompt = (uint32_t)in->ids.n,
                                    .sampling = srn_sampling_default(),
                                    .pooling = e->model->pooling,
                                    .tenant = key ? key->tenant_id : 0,
                                    .priority = (key ? key->priority : 0) + e->priority,
                                    .deadline_us = e->deadline_us,
                                    .notify = wake,
                                    .notify_ctx = e->call};
        pthread_mutex_lock(&e->lock);
        if (e->cancelled)
            code = srn_fail(err, SRN_ECANCELLED, "the request was cancelled");
        else
            code =
                srn_request_submit(srn__call_scheduler(e->call), e->model->engine, &o, 1, &in->request, err);
        pthread_mutex_unlock(&e->lock);
        if (!code) e->started++;
    }
    return code;
}

int srn__embedding_of(const float *v, uint32_t n, float *ret, char ret_digest[65], srn_err *err) {
    srn_sha256 *h = srn_sha256_new();
    if (!h) return srn_fail_nomem(err, 256);
    uint8_t digest[SRN_SHA256_BYTES];
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)v[i] * (double)v[i];
    double scale = sum > 0 ? 1 / sqrt(sum) : 0;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t bytes[4];
        ret[i] = (float)((double)v[i] * scale);
        put_le(ret[i], bytes);
        srn_sha256_add(h, bytes, sizeof bytes);
    }
    srn_sha256_end(h, digest);
    srn_hex(digest, sizeof digest, ret_digest);
    return SRN_OK;
}

static int keep_vector(embeddings *e, input *in, const float *v, srn_err *err) {
    in->vector = srn_calloc(e->n_embd, sizeof *in->vector);
    if (!in->vector) return srn_fail_nomem(err, e->n_embd * sizeof *in->vector);
    return srn__embedding_of(v, e->n_embd, in->vector, in->digest, err);
}

/* Takes what is done, in order. */
static int collect(embeddings *e, srn_err *err) {
    int code = SRN_OK;
    while (!code && e->ended < e->started) {
        input *in = &e->inputs[e->ended];
        srn_request_status s;
        srn_request_read(in->request, 0, NULL, 0, NULL, NULL, 0, &s);
        if (s.state != SRN_REQUEST_DONE) break;
        code = s.code;
        srn__otel_choice_end(e->call, &(srn__otel_choice){.request = in->request, .status = &s});
        if (s.started_us > s.submitted_us) e->queue_us = SRN_MAX(e->queue_us, s.started_us - s.submitted_us);
        if (code)
            *err = s.err;
        else
            code = keep_vector(e, in, srn_request_embedding(in->request), err);
        pthread_mutex_lock(&e->lock);
        srn_request *r = in->request;
        in->request = NULL;
        pthread_mutex_unlock(&e->lock);
        srn_request_release(r);
        e->ended++;
    }
    return code;
}

/* ---- the answer ---- */

static void put_vector(const embeddings *e, const input *in, srn_buf *out) {
    if (!e->base64) {
        srn_buf_addc(out, '[');
        for (uint32_t i = 0; i < e->n_embd; i++)
            srn_buf_addf(out, i ? ",%.9g" : "%.9g", (double)in->vector[i]);
        srn_buf_addc(out, ']');
        return;
    }
    srn_buf_addc(out, '"');
    for (uint32_t i = 0; i < e->n_embd;) { /* three floats are four times three bytes: no padding inside */
        uint8_t bytes[12];
        size_t n = 0;
        for (; n < sizeof bytes && i < e->n_embd; i++) {
            put_le(in->vector[i], bytes + n);
            n += 4;
        }
        srn_base64_add(out, bytes, n);
    }
    srn_buf_addc(out, '"');
}

static void put_answer(const embeddings *e, srn_buf *out) {
    uint64_t tokens = 0;
    srn_buf_addz(out, "{\"object\":\"list\",\"data\":[");
    for (uint32_t i = 0; i < e->n; i++) {
        srn_buf_addf(out, "%s{\"object\":\"embedding\",\"index\":%u,\"embedding\":", i ? "," : "", i);
        put_vector(e, &e->inputs[i], out);
        srn_buf_addc(out, '}');
        tokens += e->inputs[i].ids.n;
    }
    srn_buf_addz(out, "],\"model\":");
    srn__put_string(out, srn_str_of(srn__assigned_shown(e->call, e->model->name)));
    srn_buf_addf(out, ",\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu}}\n",
                 (unsigned long long)tokens, (unsigned long long)tokens);
    srn__call_get_facts(e->call)->prompt_tokens = (uint32_t)tokens;
}

/* ---- the record ---- */

/* Every input is a part of the call's record. */
static int begin_record(const embeddings *e, srn_err *err) {
    int code = SRN_OK;
    for (uint32_t i = 0; i < e->n && !code; i++) {
        const srn__record_work w = {.model = e->model, .prompt = e->inputs[i].ids};
        code = srn__record_begin(e->call, &w, NULL, err);
    }
    return code;
}

static void end_record(embeddings *e, const char *finish, const char *error) {
    if (e->recorded) return;
    e->recorded = true;
    for (uint32_t i = 0; i < e->n; i++) {
        if (!finish)
            srn__record_choice_end(e->call, &(srn__record_choice){.part = i, .vector = e->inputs[i].digest});
        const srn__record_part p = {.n_input = (uint32_t)e->inputs[i].ids.n,
                                    .queue_us = e->queue_us,
                                    .finish = finish,
                                    .error = error};
        srn__record_end(e->call, &p, !finish);
    }
}

/* Whether the answer may go out; SRN_EIO: its record could not be made. */
static int settled(embeddings *e, bool *ret_settled, srn_err *err) {
    end_record(e, NULL, NULL);
    srn__record_state state = srn__record_settled(e->call, err);
    *ret_settled = state == SRN__RECORD_SETTLED;
    return state == SRN__RECORD_FAILED ? err->code : SRN_OK;
}

static int pull(void *source, srn_buf *out, int *status) {
    embeddings *e = source;
    srn_err err = {0};
    bool ready = false;
    int code = collect(e, &err);
    if (!code) code = submit_some(e, &err);
    if (code == SRN_EBUSY && e->started > e->ended) code = SRN_OK; /* again when one of ours is done */
    if (!code && e->ended == e->n) code = settled(e, &ready, &err);
    if (code) {
        end_record(e, "error", srn_err_name(code));
        *status = srn__put_error(out, SRN__OPENAI, &err);
        return 1;
    }
    if (!ready) return 0;
    put_answer(e, out);
    return 1;
}

static void cancel(void *source) {
    embeddings *e = source;
    pthread_mutex_lock(&e->lock);
    e->cancelled = true;
    for (uint32_t i = 0; i < e->n; i++)
        if (e->inputs[i].request) srn_request_cancel(e->inputs[i].request);
    pthread_mutex_unlock(&e->lock);
}

static void embeddings_free(void *source) {
    embeddings *e = source;
    if (!e) return;
    if (e->begun) end_record(e, "abort", NULL);
    for (uint32_t i = 0; i < e->n; i++) {
        if (e->inputs[i].request) srn_request_release(e->inputs[i].request);
        srn_tokens_done(&e->inputs[i].ids);
        free(e->inputs[i].vector);
    }
    free(e->inputs);
    pthread_mutex_destroy(&e->lock);
    srn__served_put(e->model);
    srn__call_drop(e->call);
    free(e);
}

/* ---- the request ---- */

static int invalid(const char *param, const char **ret_param, int code, srn_err *err, const char *text) {
    *ret_param = param;
    return srn_fail(err, code, "%s", text);
}

/* One input: a text, or an array of token ids. */
static int read_input(const json_t *j, const srn_vocab *v, srn_tokens *ret, const char **ret_param,
                      srn_err *err) {
    if (json_is_string(j)) {
        srn_span span = {{json_string_value(j), json_string_length(j)}, false};
        int code = srn_tokenize(v, &span, span.text.len > 0, 0, ret, err);
        if (!code && ret->n == 0) code = invalid("input", ret_param, SRN_EINVAL, err, "an 'input' is empty");
        return code;
    }
    if (!json_is_array(j) || json_array_size(j) == 0)
        return invalid("input", ret_param, SRN_EINVAL, err, "'input' must hold texts or arrays of token ids");
    for (size_t i = 0; i < json_array_size(j); i++) {
        const json_t *id = json_array_get(j, i);
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value >= srn_vocab_size(v))
            return invalid("input", ret_param, SRN_EINVAL, err,
                           "'input' holds what is no token id of the model");
        if (!srn_tokens_push(ret, (int32_t)value)) return srn_fail_nomem(err, sizeof(int32_t));
    }
    return SRN_OK;
}

int srn__embedding_inputs(const json_t *body, const srn_vocab *v, srn_tokens **ret, uint32_t *ret_n,
                          const char **ret_param, srn_err *err) {
    const json_t *in = json_object_get(body, "input");
    bool several = json_is_array(in) && !json_is_integer(json_array_get(in, 0));
    size_t n = several ? json_array_size(in) : 1;
    if (!json_is_string(in) && !(json_is_array(in) && json_array_size(in) > 0))
        return invalid("input", ret_param, SRN_EINVAL, err,
                       "'input' must be a text or an array that is not empty");
    if (n > MAX_INPUTS)
        return invalid("input", ret_param, SRN_ELIMIT, err, "'input' has more than 2048 texts");
    srn_tokens *inputs = srn_calloc(n, sizeof *inputs);
    if (!inputs) return srn_fail_nomem(err, n * sizeof *inputs);
    int code = SRN_OK;
    for (size_t i = 0; !code && i < n; i++)
        code = read_input(several ? json_array_get(in, i) : in, v, &inputs[i], ret_param, err);
    if (code) {
        srn__embedding_inputs_done(inputs, (uint32_t)n);
        return code;
    }
    *ret = inputs;
    *ret_n = (uint32_t)n;
    return SRN_OK;
}

void srn__embedding_inputs_done(srn_tokens *inputs, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) srn_tokens_done(&inputs[i]);
    free(inputs);
}

static int read_inputs(embeddings *e, const json_t *body, const char **ret_param, srn_err *err) {
    srn_tokens *ids;
    uint32_t n;
    int code = srn__embedding_inputs(body, e->model->vocab, &ids, &n, ret_param, err);
    if (code) return code;
    e->inputs = srn_calloc(n, sizeof *e->inputs);
    if (!e->inputs) {
        srn__embedding_inputs_done(ids, n);
        return srn_fail_nomem(err, n * sizeof *e->inputs);
    }
    e->n = n;
    for (uint32_t i = 0; i < n; i++) e->inputs[i].ids = ids[i];
    free(ids);
    return SRN_OK;
}

static int read_options(embeddings *e, const json_t *body, const char **ret_param, srn_err *err) {
    const char *format = NULL;
    uint32_t dimensions = e->n_embd;
    const srn__field field = {"dimensions", SRN__FIELD_U32, 0, 1, 1 << 24, false};
    int code = srn__field_string(body, "encoding_format", &format, ret_param, err);
    if (!code) code = srn__fields_read(body, &field, 1, &dimensions, ret_param, err);
    if (code) return code;
    if (dimensions != e->n_embd) {
        *ret_param = "dimensions";
        return srn_fail(err, SRN_EUNSUP,
                        "'dimensions' is %u; this model's embeddings have %u and are not cut", dimensions,
                        e->n_embd);
    }
    e->base64 = format && strcmp(format, "base64") == 0;
    if (format && !e->base64 && strcmp(format, "float") != 0)
        return invalid("encoding_format", ret_param, SRN_EINVAL, err,
                       "'encoding_format' must be \"float\" or \"base64\"");
    return SRN_OK;
}

void srn__openai_embeddings(srn__call *c) {
    static const srn__source_ops ops = {pull, cancel, embeddings_free};
    const char *name = NULL, *param = NULL;
    const srn_config_route *route = NULL;
    srn_err err = {0};
    json_t *body = srn__call_json(c);
    srn__served *v;
    if (!body) return;
    if (srn__field_string(body, "model", &name, &param, &err)) {
        srn__call_fail_err(c, param, &err);
        return;
    }
    if (!srn__job_model(c, "/v1/embeddings", name, &v, &route)) return;
    embeddings *e = srn_calloc(1, sizeof *e);
    if (!e) {
        srn__served_put(v);
        srn_fail_nomem(&err, sizeof *e);
        srn__call_fail_err(c, NULL, &err);
        return;
    }
    srn__call_hold(c);
    *e = (embeddings){.call = c, .model = v, .n_embd = srn_engine_get_info(v->engine).n_embd};
    pthread_mutex_init(&e->lock, NULL);
    srn__job_spec general = {.timeout_ms = srn__call_config(c)->limits.request_timeout_ms};
    int code = srn__job_apply_route(c, &general, route, &param, &err);
    e->priority = general.priority;
    if (general.timeout_ms) e->deadline_us = srn_now_us() + 1000 * (uint64_t)general.timeout_ms;
    if (!code) code = read_options(e, body, &param, &err);
    if (!code) code = read_inputs(e, body, &param, &err);
    if (!code) code = begin_record(e, &err);
    if (!code) code = submit_some(e, &err);
    e->begun = e->started > 0;
    if (e->begun) srn__otel_work(c, v, NULL);
    if (code && e->started == 0) {
        if (code == SRN_ECONTEXT) param = "input";
        srn__call_fail_err(c, param, &err);
        embeddings_free(e);
        return;
    }
    srn__call_set_header(c, "x-serin-model", v->ids.weights);
    srn__call_reply_source(c, false, "application/json", &ops, e);
}
