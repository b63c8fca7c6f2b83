/* Telemetry: what is gathered of one call while it runs. The hooks are called where the call's record is told
 * the same; everything is copied, for routes and models may be gone when the call is over. Where telemetry is
 * off the hooks do nothing.
 */
#include <stdlib.h>
#include <strings.h>

#include <sodium.h>

#include "serve/otel_internal.h"
#include "serve/record_internal.h"
#include "serve/rollout.h"

/* ---- what may go out ---- */

static srn_content_policy policy_of(const srn_config *c, const srn_config_route *route) {
    srn_content_policy policy = SRN_CONTENT_NONE;
    srn_content_policy_of(srn_str_of(route && route->content ? route->content : c->ledger.content), &policy);
    return policy;
}

bool srn__otel_may_say(const srn_config *c, const srn_config_route *route) {
    bool local = route && route->local_only;
    return c->telemetry.content && !local && policy_of(c, route) == SRN_CONTENT_FULL;
}

bool srn__otel_mutes(const srn_config *c, bool routed, const srn_config_route *route) {
    if (routed) return route && route->local_only;
    for (uint32_t i = 0; i < c->n_routes; i++)
        if (c->routes[i].local_only) return true;
    return false;
}

/* ---- life ---- */

void srn__trace_free(srn__trace *t) {
    if (!t) return;
    srn_buf_done(&t->input);
    srn_buf_done(&t->output);
    free(t->state);
    free(t);
}

/* The headers of a name, which may have come in several lines, joined. */
static void join_headers(const srn__call *c, const char *name, srn_buf *ret) {
    for (uint32_t i = 0; i < c->n_headers; i++) {
        if (strcasecmp(c->headers[i].name, name) != 0) continue;
        if (ret->len) srn_buf_addc(ret, ',');
        srn_buf_addz(ret, c->headers[i].value);
    }
}

static void read_context(srn__trace *t, const srn__call *c) {
    srn_buf text;
    srn_buf_init(&text, SRN__TRACESTATE_MAX + 256);
    join_headers(c, "traceparent", &text); /* two of them are none */
    t->has_parent = !text.failed && srn__traceparent_parse((srn_str){text.data, text.len}, &t->parent);
    srn_buf_clear(&text);
    if (t->has_parent) join_headers(c, "tracestate", &text);
    if (text.len && !text.failed && srn__tracestate_good((srn_str){text.data, text.len}))
        t->state = srn_strndup(text.data, text.len);
    srn_buf_done(&text);
}

/* A trace that begins here has the call's id. */
static void identify(srn__trace *t, const srn__call *c, const srn_config_telemetry *o) {
    read_context(t, c);
    if (t->has_parent)
        memcpy(t->trace_id, t->parent.trace_id, sizeof t->trace_id);
    else if (!srn_ulid_parse(srn_str_of(c->id), t->trace_id))
        randombytes_buf(t->trace_id, sizeof t->trace_id);
    do randombytes_buf(t->span_id, sizeof t->span_id);
    while (sodium_is_zero(t->span_id, sizeof t->span_id));
    bool decided = t->has_parent && !o->ignore_parent;
    t->sampled =
        !o->no_traces && (decided ? t->parent.flags & 1 : srn__trace_in_share(t->trace_id, o->sample));
}

/* The call's trace, made on first use; NULL: telemetry is off, the route leaves no records, no client asked,
 * or no memory. */
static srn__trace *trace_of(srn__call *c) {
    if (c->trace || c->copy || !c->route || !(c->route->flags & SRN__ROUTE_RECORD)) return c->trace;
    srn__otel *o = srn__call_otel(c);
    srn__trace *t = o ? srn_calloc(1, sizeof *t) : NULL;
    if (!t) return NULL;
    snprintf(t->call, sizeof t->call, "%s", c->id);
    t->route = c->route;
    t->begun_us = c->begun_us;
    snprintf(t->config, sizeof t->config, "%s", c->settings->id);
    t->muted = srn__otel_mutes(srn__call_config(c), false, NULL);
    srn_buf_init(&t->input, SRN__TRACE_CONTENT);
    srn_buf_init(&t->output, SRN__TRACE_CONTENT);
    identify(t, c, &o->config);
    return c->trace = t;
}

/* ---- the hooks ---- */

void srn__otel_route(srn__call *c, const srn_config_route *route, const char *asked) {
    srn__trace *t = trace_of(c);
    if (!t) return;
    const srn_config *config = srn__call_config(c);
    t->muted = srn__otel_mutes(config, true, route);
    t->may_say = t->sampled && !t->muted && srn__otel_may_say(config, route);
    t->may_hash = policy_of(config, route) != SRN_CONTENT_NONE;
    snprintf(t->route_name, sizeof t->route_name, "%s", route ? route->name : "");
    snprintf(t->asked, sizeof t->asked, "%s", asked ? asked : "");
}

void srn__otel_prompt(srn__call *c, const char *hash) {
    srn__trace *t = trace_of(c);
    if (t) snprintf(t->prompt_hash, sizeof t->prompt_hash, "%s", hash);
}

/* Whether it is a name that a model has, or the configuration gives one, so that there are few of them. */
static bool is_known(const srn_config *c, const srn__served *v, const char *asked) {
    bool known = strcmp(v->name, asked) == 0;
    for (uint32_t i = 0; i < c->n_models && !known; i++) {
        known = strcmp(c->models[i].name, asked) == 0;
        for (uint32_t k = 0; k < c->models[i].n_aliases && !known; k++)
            known = strcmp(c->models[i].aliases[k], asked) == 0;
    }
    return known;
}

static void note_arm(srn__trace *t, const srn__call *c) {
    const srn__assigned *a = srn__assigned_of(c);
    if (!a || !a->of) return;
    snprintf(t->experiment, sizeof t->experiment, "%s", a->of->declared->name);
    snprintf(t->arm, sizeof t->arm, "%s", srn_arm_name(a->arm) ? srn_arm_name(a->arm) : "");
}

static void note_conversation(srn__trace *t, const srn__call *c, const srn_ledger_keys *keys) {
    const char *named = keys && t->may_hash ? srn__call_conversation(c) : NULL;
    if (named) srn_keyed_hash(keys, "conversation", srn_str_of(named), t->conversation);
}

void srn__otel_work(srn__call *c, const srn__served *v, const srn__job_spec *spec) {
    srn__trace *t = trace_of(c);
    if (!t) return;
    bool first = !t->worked;
    t->worked = true;
    t->n_choices += spec ? spec->n : 1;
    if (spec && t->may_say) srn__otel_put_input(&t->input, spec);
    if (!first) return;
    if (!t->asked[0]) snprintf(t->asked, sizeof t->asked, "%s", v->name);
    t->known = is_known(srn__call_config(c), v, t->asked);
    snprintf(t->weights, sizeof t->weights, "%s", v->ids.weights);
    snprintf(t->engine, sizeof t->engine, "%s", v->ids.engine);
    snprintf(t->quantisation, sizeof t->quantisation, "%s", v->ids.quantisation);
    note_arm(t, c);
    note_conversation(t, c, srn__call_otel(c)->keys);
    t->streamed = json_is_true(json_object_get(c->json, "stream"));
    t->generates = spec != NULL;
    if (!spec) return;
    t->sampling = spec->sampling;
    t->max_tokens = spec->max_tokens;
    t->n_stops = spec->n_stops;
    t->json = spec->schema || spec->json_object;
}

static void say_answer(srn__trace *t, const srn__otel_choice *choice) {
    srn_buf text;
    srn_request_status now;
    srn_buf_init(&text, SRN__TRACE_CONTENT);
    srn_request_read(choice->request, 0, &text, 0, NULL, NULL, 0, &now);
    if (text.failed)
        t->left_out = true;
    else
        srn__otel_put_output(&t->output, (srn_str){text.data ? text.data : "", text.len}, choice->finish);
    srn_buf_done(&text);
}

void srn__otel_choice_end(srn__call *c, const srn__otel_choice *choice) {
    srn__trace *t = c->trace;
    const srn_request_status *s = choice->status;
    if (!t || !t->worked) return;
    if (choice->finish && t->n_finishes < SRN__TRACE_FINISHES)
        snprintf(t->finishes[t->n_finishes++], sizeof t->finishes[0], "%s", choice->finish);
    t->n_reasoning += choice->n_reasoning;
    t->submitted_us = t->submitted_us ? SRN_MIN(t->submitted_us, s->submitted_us) : s->submitted_us;
    t->started_us = SRN_MAX(t->started_us, s->started_us);
    t->first_us = SRN_MAX(t->first_us, s->first_token_us);
    t->done_us = SRN_MAX(t->done_us, s->done_us);
    if (t->may_say && choice->finish) say_answer(t, choice);
}

void srn__otel_again(srn__call *c) {
    srn__trace *t = c->trace;
    if (!t) return;
    t->worked = t->left_out = false;
    t->n_choices = t->n_finishes = t->n_reasoning = 0;
    t->submitted_us = t->started_us = t->first_us = t->done_us = 0;
    t->experiment[0] = t->arm[0] = t->prompt_hash[0] = 0;
    srn_buf_clear(&t->input);
    srn_buf_clear(&t->output);
}

void srn__otel_last(srn__call *c) {
    srn__trace *t = trace_of(c);
    c->trace = NULL;
    if (!t) return;
    bool sent = c->stage == SRN__STAGE_REPLY;
    t->facts = c->facts;
    t->status = sent ? c->status : 0;
    t->complete = c->complete;
    t->ended_us = c->ended_us ? c->ended_us : srn_now_us();
    t->unix_us = srn_unix_us() - (srn_now_us() - t->begun_us);
    srn__otel_push(srn__call_otel(c), t);
}

/* ---- what follows of it ---- */

const char *srn__trace_operation(const srn__trace *t) {
    if (strcmp(t->route->path, "/v1/embeddings") == 0) return "embeddings";
    return strcmp(t->route->path, "/v1/completions") == 0 ? "text_completion" : "chat";
}

const char *srn__trace_error(const srn__trace *t, char number[16]) {
    if (t->facts.error[0]) return t->facts.error;
    if (!t->complete || strcmp(t->facts.finish, "abort") == 0) return "cancelled";
    if (t->status < 400) return NULL;
    snprintf(number, 16, "%d", t->status);
    return number;
}

void srn__trace_prompt(const srn__trace *t, char *ret, size_t cap) {
    const srn__call_prompt *p = &t->facts.prompt;
    if (p->name[0])
        snprintf(ret, cap, "%s@%u", p->name, p->version);
    else
        snprintf(ret, cap, "unregistered");
}

uint32_t srn__trace_spans(const srn__trace *t) {
    return 1u + (t->submitted_us != 0) + (t->started_us != 0) + (t->first_us != 0);
}
