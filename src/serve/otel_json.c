/* Telemetry: spans as OTLP's JSON: ids in hex, 64-bit integers as texts, enumerations as numbers. One span of
 * kind SERVER for a call, and inside it one for each of its times: queue, prefill, decode. Pure; the sender's
 * thread.
 */
#include <math.h>

#include "serve/openai_internal.h"
#include "serve/otel_internal.h"

enum { INTERNAL = 1, SERVER = 2 };             /* kinds of spans */
enum { ERROR = 2 };                            /* of a status */
enum { KNOWN_REMOTE = 0x100, REMOTE = 0x200 }; /* of a span's flags: what is known of the parent */

/* ---- attributes ---- */

static void begin_attribute(srn__attributes *a, const char *name) {
    srn_buf_addz(a->b, a->any ? ",{\"key\":" : "{\"key\":");
    a->any = true;
    srn__put_string(a->b, srn_str_of(name));
    srn_buf_addz(a->b, ",\"value\":{");
}

void srn__put_attribute(srn__attributes *a, const char *name, const char *value) {
    if (!value || !*value) return;
    begin_attribute(a, name);
    srn_buf_addz(a->b, "\"stringValue\":");
    srn__put_string(a->b, srn_str_of(value));
    srn_buf_addz(a->b, "}}");
}

void srn__put_attribute_int(srn__attributes *a, const char *name, uint64_t value) {
    begin_attribute(a, name);
    srn_buf_addf(a->b, "\"intValue\":\"%lld\"}}", (long long)SRN_MIN(value, (uint64_t)INT64_MAX));
}

void srn__put_attribute_real(srn__attributes *a, const char *name, double value) {
    if (!isfinite(value)) return;
    begin_attribute(a, name);
    srn_buf_addf(a->b, "\"doubleValue\":%.9g}}", value);
}

void srn__put_attribute_bool(srn__attributes *a, const char *name, bool value) {
    begin_attribute(a, name);
    srn_buf_addf(a->b, "\"boolValue\":%s}}", value ? "true" : "false");
}

void srn__put_server(srn__attributes *a, const srn__otel_self *s) {
    srn__put_attribute(a, "server.address", s->host);
    if (s->port) srn__put_attribute_int(a, "server.port", s->port);
}

void srn__put_time(srn_buf *b, const char *name, uint64_t unix_us) {
    srn_buf_addf(b, "\"%s\":\"%llu000\"", name, (unsigned long long)unix_us);
}

/* ---- what stands around ---- */

/* What the operator names is stronger than what is known. */
static bool names(const srn_config_telemetry *c, const char *name) {
    for (uint32_t i = 0; i < c->n_resource; i++)
        if (strcmp(c->resource[i].name, name) == 0) return true;
    return false;
}

static void put_resource(srn_buf *b, const srn__otel_self *s) {
    const srn_config_telemetry *c = s->config;
    bool named = strcmp(c->service_name, "serin") != 0 || !names(c, "service.name");
    const srn_config_pair own[] = {{"service.version", srn_version()},
                                   {"service.instance.id", s->instance},
                                   {"telemetry.sdk.name", "serin"},
                                   {"telemetry.sdk.language", "c"},
                                   {"telemetry.sdk.version", srn_version()}};
    srn__attributes a = {b, false};
    srn_buf_addz(b, "\"resource\":{\"attributes\":[");
    if (named) srn__put_attribute(&a, "service.name", c->service_name);
    for (size_t i = 0; i < SRN_LEN(own); i++)
        if (!names(c, own[i].name)) srn__put_attribute(&a, own[i].name, own[i].value);
    for (uint32_t i = 0; i < c->n_resource; i++)
        if (!named || strcmp(c->resource[i].name, "service.name") != 0)
            srn__put_attribute(&a, c->resource[i].name, c->resource[i].value);
    srn_buf_addz(b, "]}");
}

void srn__otel_put_head(srn_buf *b, const srn__otel_self *s, const char *outer, const char *scopes,
                        const char *inner) {
    srn_buf_addf(b, "{\"%s\":[{", outer);
    put_resource(b, s);
    srn_buf_addf(b, ",\"%s\":[{\"scope\":{\"name\":\"serin\",\"version\":\"%s\"},\"%s\":[", scopes,
                 srn_version(), inner);
}

void srn__otel_put_tail(srn_buf *b) {
    srn_buf_addz(b, "]}]}]}");
}

/* ---- spans ---- */

static void put_ids(srn_buf *b, const srn__trace *t, const uint8_t id[SRN__SPAN_ID], const uint8_t *parent) {
    char hex[2 * SRN__TRACE_ID + 1];
    srn_hex(t->trace_id, SRN__TRACE_ID, hex);
    srn_buf_addf(b, "\"traceId\":\"%s\"", hex);
    srn_hex(id, SRN__SPAN_ID, hex);
    srn_buf_addf(b, ",\"spanId\":\"%s\"", hex);
    if (!parent) return;
    srn_hex(parent, SRN__SPAN_ID, hex);
    srn_buf_addf(b, ",\"parentSpanId\":\"%s\"", hex);
}

/* Flags of a sampled span; the trace id is random unless its caller has not said so. */
static void put_flags(srn_buf *b, const srn__trace *t, bool remote) {
    unsigned random = t->has_parent ? t->parent.flags & 2u : 2u;
    srn_buf_addf(b, ",\"flags\":%u", 1u | random | KNOWN_REMOTE | (remote ? REMOTE : 0u));
    if (t->state) {
        srn_buf_addz(b, ",\"traceState\":");
        srn__put_string(b, srn_str_of(t->state));
    }
}

static void put_span_head(srn_buf *b, const char *name, int kind, uint64_t from_us, uint64_t to_us) {
    srn_buf_addz(b, ",\"name\":");
    srn__put_string(b, srn_str_of(name));
    srn_buf_addf(b, ",\"kind\":%d,", kind);
    srn__put_time(b, "startTimeUnixNano", from_us);
    srn_buf_addc(b, ',');
    srn__put_time(b, "endTimeUnixNano", SRN_MAX(from_us, to_us));
    srn_buf_addz(b, ",\"attributes\":[");
}

static void put_request(srn__attributes *a, const srn__trace *t) {
    const srn_sampling *s = &t->sampling;
    if (!t->worked || !t->generates) return;
    if (s->seed <= INT64_MAX) srn__put_attribute_int(a, "gen_ai.request.seed", s->seed);
    srn__put_attribute_real(a, "gen_ai.request.temperature", (double)s->temperature);
    srn__put_attribute_real(a, "gen_ai.request.top_p", (double)s->top_p);
    if (s->top_k > 0) srn__put_attribute_real(a, "gen_ai.request.top_k", s->top_k);
    srn__put_attribute_real(a, "gen_ai.request.frequency_penalty", (double)s->frequency_penalty);
    srn__put_attribute_real(a, "gen_ai.request.presence_penalty", (double)s->presence_penalty);
    if (t->max_tokens) srn__put_attribute_int(a, "gen_ai.request.max_tokens", t->max_tokens);
    if (t->n_choices != 1) srn__put_attribute_int(a, "gen_ai.request.choice.count", t->n_choices);
    srn__put_attribute_bool(a, "gen_ai.request.stream", t->streamed);
    srn__put_attribute(a, "gen_ai.output.type", t->json ? "json" : "text");
}

static void put_finishes(srn__attributes *a, const srn__trace *t) {
    if (!t->n_finishes) return;
    begin_attribute(a, "gen_ai.response.finish_reasons");
    srn_buf_addz(a->b, "\"arrayValue\":{\"values\":[");
    for (uint32_t i = 0; i < t->n_finishes; i++) {
        srn_buf_addz(a->b, i ? ",{\"stringValue\":" : "{\"stringValue\":");
        srn__put_string(a->b, srn_str_of(t->finishes[i]));
        srn_buf_addc(a->b, '}');
    }
    srn_buf_addz(a->b, "]}}}");
}

/* The id that the answer bears. */
static void put_response_id(srn__attributes *a, const srn__trace *t) {
    static const struct {
        const char *path, *prefix;
    } ids[] = {{"/v1/chat/completions", "chatcmpl-"},
               {"/v1/completions", "cmpl-"},
               {"/v1/messages", "msg_"},
               {"/v1/responses", "resp_"}};
    char text[64];
    for (size_t i = 0; i < SRN_LEN(ids); i++) {
        if (!t->worked || strcmp(ids[i].path, t->route->path) != 0) continue;
        snprintf(text, sizeof text, "%s%s", ids[i].prefix, t->call);
        srn__put_attribute(a, "gen_ai.response.id", text);
    }
}

static void put_response(srn__attributes *a, const srn__trace *t) {
    const srn__call_facts *f = &t->facts;
    if (!t->worked) return;
    srn__put_attribute(a, "gen_ai.response.model", f->model);
    put_response_id(a, t);
    put_finishes(a, t);
    srn__put_attribute_int(a, "gen_ai.usage.input_tokens", f->prompt_tokens);
    srn__put_attribute_int(a, "gen_ai.usage.cache_read.input_tokens", f->cached_tokens);
    if (!t->generates) return;
    srn__put_attribute_int(a, "gen_ai.usage.output_tokens", f->output_tokens);
    if (t->n_reasoning) srn__put_attribute_int(a, "gen_ai.usage.reasoning.output_tokens", t->n_reasoning);
}

/* What made the answer: weights, configuration, prompt. */
static void put_identity(srn__attributes *a, const srn__trace *t) {
    const srn__call_prompt *p = &t->facts.prompt;
    char version[16] = "";
    if (p->name[0]) snprintf(version, sizeof version, "%u", p->version);
    srn__put_attribute(a, "gen_ai.conversation.id", t->conversation);
    srn__put_attribute(a, "gen_ai.prompt.name", p->name);
    srn__put_attribute(a, "gen_ai.prompt.version", version);
    srn__put_attribute(a, "serin.prompt.hash", p->name[0] ? p->hash : t->prompt_hash);
    srn__put_attribute(a, "serin.prompt.label", p->label);
    srn__put_attribute(a, "serin.call.id", t->call);
    srn__put_attribute(a, "serin.route", t->route_name);
    srn__put_attribute(a, "serin.weights.id", t->weights);
    srn__put_attribute(a, "serin.quantisation", t->quantisation);
    srn__put_attribute(a, "serin.engine.id", t->engine);
    srn__put_attribute(a, "serin.config.id", t->config);
    srn__put_attribute(a, "serin.experiment", t->experiment);
    srn__put_attribute(a, "serin.arm", t->arm);
    if (!t->worked) return;
    srn__put_attribute_real(a, "serin.queue_seconds", (double)t->facts.queue_us / 1e6);
    if (t->facts.ttft_us)
        srn__put_attribute_real(a, "serin.time_to_first_token_seconds", (double)t->facts.ttft_us / 1e6);
}

static void put_content(srn__attributes *a, const srn__trace *t) {
    if (!t->may_say || t->muted) return;
    bool input = t->input.len && !t->input.failed, output = t->output.len && !t->output.failed;
    if (input) srn__put_attribute(a, "gen_ai.input.messages", t->input.data);
    if (output) {
        begin_attribute(a, "gen_ai.output.messages");
        srn_buf all;
        srn_buf_init(&all, SRN__TRACE_CONTENT + 16);
        srn_buf_addf(&all, "[%s]", t->output.data);
        srn_buf_addz(a->b, "\"stringValue\":");
        srn__put_string(a->b, (srn_str){all.data ? all.data : "[]", all.data ? all.len : 2});
        srn_buf_done(&all);
        srn_buf_addz(a->b, "}}");
    }
    if (t->left_out || t->input.failed || t->output.failed)
        srn__put_attribute_bool(a, "serin.content.left_out", true);
}

static void put_call(srn_buf *b, const srn__otel_self *s, const srn__trace *t) {
    char name[200], number[16];
    const char *operation = srn__trace_operation(t), *error = srn__trace_error(t, number);
    srn__attributes a = {b, false};
    snprintf(name, sizeof name, "%s%s%s", operation, t->known ? " " : "", t->known ? t->asked : "");
    srn_buf_addc(b, '{');
    put_ids(b, t, t->span_id, t->has_parent ? t->parent.span_id : NULL);
    put_flags(b, t, t->has_parent);
    put_span_head(b, name, SERVER, t->unix_us, t->unix_us + (t->ended_us - t->begun_us));
    srn__put_attribute(&a, "gen_ai.operation.name", operation);
    srn__put_attribute(&a, "gen_ai.provider.name", "serin");
    srn__put_attribute(&a, "gen_ai.request.model", t->asked);
    put_request(&a, t);
    put_response(&a, t);
    srn__put_server(&a, s);
    srn__put_attribute(&a, "http.request.method", t->route->method);
    srn__put_attribute(&a, "http.route", t->route->path);
    if (t->status) srn__put_attribute_int(&a, "http.response.status_code", (uint64_t)t->status);
    srn__put_attribute(&a, "error.type", error);
    put_identity(&a, t);
    put_content(&a, t);
    srn_buf_addc(b, ']');
    bool failed = t->status >= 500 || (error && t->status == 200 && t->complete);
    if (failed) srn_buf_addf(b, ",\"status\":{\"code\":%d}", ERROR);
    srn_buf_addc(b, '}');
}

/* A time inside the call, from one of its moments to the next that came, or to its end. */
static void put_phase(srn_buf *b, const srn__trace *t, unsigned which, const char *name) {
    const uint64_t at[] = {t->submitted_us, t->started_us, t->first_us, t->done_us, t->ended_us};
    unsigned next = which + 1;
    uint8_t id[SRN__SPAN_ID];
    srn__attributes a = {b, false};
    if (!at[which]) return;
    while (!at[next]) next++;
    memcpy(id, t->span_id, sizeof id);
    id[SRN__SPAN_ID - 1] ^= (uint8_t)(which + 1); /* as random as the call's, and another */
    if (!(id[0] | id[1] | id[2] | id[3] | id[4] | id[5] | id[6] | id[7])) id[0] = 1;
    srn_buf_addz(b, ",{");
    put_ids(b, t, id, t->span_id);
    put_flags(b, t, false);
    put_span_head(b, name, INTERNAL, t->unix_us + (at[which] - t->begun_us),
                  t->unix_us + (at[next] - t->begun_us));
    if (which == 1)
        srn__put_attribute_int(&a, "serin.computed_tokens",
                               t->facts.prompt_tokens -
                                   SRN_MIN(t->facts.cached_tokens, t->facts.prompt_tokens));
    if (which == 2) srn__put_attribute_int(&a, "gen_ai.usage.output_tokens", t->facts.output_tokens);
    srn_buf_addz(b, "]}");
}

void srn__otel_put_spans(srn_buf *b, const srn__otel_self *s, const srn__trace *t) {
    static const char *const phases[] = {"queue", "prefill", "decode"};
    put_call(b, s, t);
    for (unsigned i = 0; i < SRN_LEN(phases); i++) put_phase(b, t, i, phases[i]);
}
