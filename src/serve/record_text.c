/* Records of calls as JSON text (docs/ledger.md): the head of a body, written when the work begins and shared
 * by intent and record; its end; and the pieces of the content. Pure but for the clock; any thread. What is
 * not known is null.
 */
#include <math.h>
#include <stdlib.h>

#include "base/num.h"
#include "serve/openai_internal.h"
#include "serve/record_internal.h"
#include "serve/rollout.h"
#include "serve/upstream.h"

/* "NAME":"VALUE", or null for NULL and "". */
static void put_text(srn_buf *b, const char *name, const char *value) {
    srn_buf_addf(b, ",\"%s\":", name);
    if (value && *value)
        srn__put_string(b, srn_str_of(value));
    else
        srn_buf_addz(b, "null");
}

static void put_real(srn_buf *b, const char *name, float v) {
    srn_buf_addf(b, ",\"%s\":%.9g", name, (double)v);
}

/* Unix time of the moment that srn_now_us() called at. */
static uint64_t unix_us(uint64_t at) {
    return srn_unix_us() - (srn_now_us() - at);
}

/* ---- who asks ---- */

/* The first of a request's members that is a text: "a", or "a.b" for a member of a member. */
static const char *find_text(const json_t *body, const char *const *paths, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const char *dot = strchr(paths[i], '.');
        const json_t *at = body;
        if (dot) {
            char outer[32];
            snprintf(outer, sizeof outer, "%.*s", (int)(dot - paths[i]), paths[i]);
            at = json_object_get(body, outer);
        }
        const char *text = json_string_value(json_object_get(at, dot ? dot + 1 : paths[i]));
        if (text && *text) return text;
    }
    return NULL;
}

const char *srn__call_user(const srn__call *c) {
    static const char *const paths[] = {"user", "safety_identifier", "metadata.user_id"};
    return find_text(c->json, paths, SRN_LEN(paths));
}

const char *srn__call_conversation(const srn__call *c) {
    static const char *const paths[] = {"conversation", "conversation.id", "metadata.conversation_id",
                                        "metadata.session_id"};
    const char *said = srn__call_header(c, "x-serin-conversation");
    return said && *said ? said : find_text(c->json, paths, SRN_LEN(paths));
}

static void put_hash(srn_buf *b, const srn__record *r, const char *name, const char *text) {
    char hash[SRN_KEYED_HASH_CHARS + 1] = "";
    if (text && r->policy != SRN_CONTENT_NONE)
        srn_keyed_hash(r->recorder->keys, name, srn_str_of(text), hash);
    put_text(b, name, hash);
}

void srn__record_subject(srn__record *r) {
    const srn__call *c = r->call;
    const char *user = srn__call_user(c), *who = user ? user : c->key ? c->key->name : NULL;
    if (who) srn_keyed_hash(r->recorder->keys, "subject", srn_str_of(who), r->subject);
}

static void put_who(srn_buf *b, const srn__record *r) {
    const srn__call *c = r->call;
    put_text(b, "endpoint", c->route ? c->route->path : c->path);
    put_text(b, "route", r->route ? r->route->name : NULL);
    put_text(b, "key", c->key ? c->key->name : NULL);
    put_text(b, "tenant", c->key ? c->key->tenant : NULL);
    put_text(b, "subject", r->policy != SRN_CONTENT_NONE ? r->subject : NULL);
    put_hash(b, r, "conversation", srn__call_conversation(c));
    if (c->assigned && c->assigned->who[0] && r->policy != SRN_CONTENT_NONE)
        put_text(b, "who", c->assigned->who);
    srn_buf_addf(b, ",\"streamed\":%s", json_is_true(json_object_get(c->json, "stream")) ? "true" : "false");
}

/* ---- what answers ---- */

static void put_model(srn_buf *b, const srn__record *r, const srn__served *v) {
    put_text(b, "model", v ? v->name : r->model);
    put_text(b, "asked", r->asked);
    put_text(b, "weights", v ? v->ids.weights : NULL);
    put_text(b, "tokenizer", v ? v->ids.tokenizer : NULL);
    put_text(b, "template", v ? v->ids.chat_template : NULL);
    put_text(b, "quantisation", v ? v->ids.quantisation : NULL);
    put_text(b, "engine", v ? v->ids.engine : NULL);
    if (v)
        srn_buf_addf(b, ",\"numerics\":%u", v->ids.numerics);
    else
        srn_buf_addz(b, ",\"numerics\":null");
    put_text(b, "kv", v ? v->ids.kv : NULL);
    put_text(b, "config", r->call->settings->id);
    srn_buf_addz(b, ",\"upstream\":");
    srn__relay_put(b, r->call);
}

static void put_prompt(srn_buf *b, const srn__record *r) {
    const srn__call_prompt *p = &r->call->facts.prompt;
    bool registered = p->name[0] != 0;
    srn_buf_addz(b, ",\"prompt\":{\"name\":");
    if (registered) {
        srn__put_string(b, srn_str_of(p->name));
        srn_buf_addf(b, ",\"version\":%u", p->version);
    } else {
        srn_buf_addz(b, "null,\"version\":null");
    }
    put_text(b, "hash", registered ? p->hash : r->prompt_hash);
    put_text(b, "label", registered && p->label[0] ? p->label : NULL);
    srn_buf_addc(b, '}');
}

static void put_arm(srn_buf *b, const srn__call *c) {
    const srn__assigned *a = c->assigned;
    bool part = a && a->of;
    put_text(b, "experiment", part ? a->of->declared->name : NULL);
    put_text(b, "arm", part ? srn_arm_name(a->arm) : NULL);
    put_text(b, "why", part ? srn_why_name(a->why) : NULL);
}

/* "NAME":VALUE; null where it is not known. */
static void put_measure(srn_buf *b, const char *name, bool known, double v) {
    if (known && !isnan(v))
        srn_buf_addf(b, "\"%s\":%.9g", name, v);
    else
        srn_buf_addf(b, "\"%s\":null", name);
}

/* Times that are taken alike of an answer from here and of another server's: of one that is not streamed the
 * first token is there when all of it is. */
static void put_wall(srn_buf *b, const srn__record *r, uint64_t total_us) {
    const srn__record_part *s = &r->sum;
    bool streamed = json_is_true(json_object_get(r->call->json, "stream"));
    srn_buf_addz(b, "\"wall_us\":{");
    put_measure(b, "ttft", s->measured && (!streamed || r->first_us),
                streamed ? (double)(r->first_us - r->call->begun_us) : (double)total_us);
    srn_buf_addc(b, ',');
    put_measure(b, "itl", s->measured && (streamed ? r->gap_us : s->n_output),
                streamed ? (double)r->gap_us / SRN_MAX(r->n_gaps, 1u)
                         : (double)total_us / SRN_MAX(s->n_output, 1u));
    srn_buf_addz(b, "},");
}

/* What the call is evidence of. */
static void put_rollout(srn_buf *b, const srn__record *r, uint64_t total_us) {
    const srn__assigned *a = r->call->assigned;
    const srn__record_part *s = &r->sum;
    if (!a || !a->of) return;
    srn_buf_addf(b,
                 ",\"rollout\":{\"hash\":\"%s\",\"step\":%u,\"subject\":\"%016llx\","
                 "\"conversation\":\"%016llx\",\"counted\":%s,\"fallback\":%s,",
                 a->of->declared->hash, a->step, (unsigned long long)a->subject,
                 (unsigned long long)a->conversation, a->counted ? "true" : "false",
                 a->fell_back ? "true" : "false");
    if (a->wall) put_wall(b, r, total_us);
    srn_buf_addz(b, "\"engine_us\":{");
    put_measure(b, "ttft", s->measured && s->prefill_us, (double)s->prefill_us);
    srn_buf_addc(b, ',');
    put_measure(b, "itl", s->measured && s->n_decoded, (double)s->decode_us / SRN_MAX(s->n_decoded, 1u));
    srn_buf_addz(b, "},");
    put_measure(b, "repetition", s->measured, s->repetition);
    srn_buf_addc(b, ',');
    put_measure(b, "uncertainty", s->measured, s->uncertainty);
    if (srn__copy_of(r->call)) srn_buf_addf(b, ",\"shadow_of\":\"%s\"", srn__copy_of(r->call));
    if (r->n_passed + r->n_failed)
        srn_buf_addf(b, ",\"checks\":{\"passed\":%u,\"failed\":%u}", r->n_passed, r->n_failed);
    srn_buf_addc(b, '}');
}

/* Which model was to answer in place of the one that did. */
static void put_fallback(srn_buf *b, const srn__fallen *f) {
    if (!f->why) {
        srn_buf_addz(b, ",\"fallback\":null");
        return;
    }
    srn_buf_addz(b, ",\"fallback\":{\"from\":");
    srn__put_string(b, srn_str_of(f->from));
    srn_buf_addf(b, ",\"why\":\"%s\"}", f->why);
}

static void put_sampling(srn_buf *b, const srn__job_spec *spec) {
    const srn_sampling *s = &spec->sampling;
    srn_buf_addf(b, ",\"sampling\":{\"seed\":\"%llu\"", (unsigned long long)s->seed);
    put_real(b, "temperature", s->temperature);
    srn_buf_addf(b, ",\"top_k\":%d", s->top_k);
    put_real(b, "top_p", s->top_p);
    put_real(b, "min_p", s->min_p);
    put_real(b, "typical_p", s->typical_p);
    put_real(b, "repeat_penalty", s->repeat_penalty);
    srn_buf_addf(b, ",\"repeat_last_n\":%d", s->repeat_last_n);
    put_real(b, "presence_penalty", s->presence_penalty);
    put_real(b, "frequency_penalty", s->frequency_penalty);
    put_real(b, "dry_multiplier", s->dry_multiplier);
    put_real(b, "dry_base", s->dry_base);
    srn_buf_addf(b, ",\"dry_allowed_length\":%d,\"dry_last_n\":%d", s->dry_allowed_length, s->dry_last_n);
    if (s->n_logit_bias) srn_buf_addf(b, ",\"logit_biases\":%u", s->n_logit_bias); /* token ids are content */
    srn_buf_addf(b, ",\"min_tokens\":%u,\"ignore_eog\":%s,\"logprobs\":%s,\"top_logprobs\":%u}",
                 spec->min_tokens, spec->ignore_eog ? "true" : "false", spec->logprobs ? "true" : "false",
                 spec->n_top);
    srn_buf_addf(b, ",\"max_tokens\":%u,\"n\":%u", spec->max_tokens, spec->n);
}

void srn__record_put_head(srn_buf *b, const srn__record *r, const srn__record_work *w) {
    srn_buf_addf(b, "{\"v\":1,\"id\":\"%s\",\"begun_us\":%llu", r->call->id,
                 (unsigned long long)unix_us(r->call->begun_us));
    put_who(b, r);
    put_model(b, r, w ? w->model : NULL);
    put_prompt(b, r);
    put_arm(b, r->call);
    if (w && w->spec)
        put_sampling(b, w->spec);
    else
        srn_buf_addz(b, ",\"sampling\":null,\"max_tokens\":null,\"n\":null");
    char id[2 * SRN_SHA256_BYTES + 1] = "", hash[SRN_KEYED_HASH_CHARS + 1] = "";
    if (w && w->constraint && r->policy != SRN_CONTENT_NONE) {
        srn_constraint_id(w->constraint, id);
        srn_keyed_hash(r->recorder->keys, "constraint", srn_str_of(id), hash);
    }
    put_text(b, "constraint", hash);
}

/* ---- the end ---- */

static void put_ids_hash(srn_buf *b, const srn__record *r, const char *name, const srn_buf *ids) {
    char hash[SRN_KEYED_HASH_CHARS + 1] = "";
    if (ids->len && !ids->failed)
        srn_keyed_hash(r->recorder->keys, name, (srn_str){ids->data, ids->len}, hash);
    put_text(b, name, hash);
}

void srn__record_put_end(srn_buf *b, const srn__record *r, int status, uint64_t total_us) {
    const srn__record_part *s = &r->sum;
    srn_buf_addf(b,
                 ",\"tokens\":{\"input\":%u,\"cached\":%u,\"output\":%u,\"reasoning\":%u,\"draft\":%u,"
                 "\"accepted\":%u}",
                 s->n_input, s->n_cached, s->n_output, s->n_reasoning, s->n_draft, s->n_accepted);
    srn_buf_addf(b, ",\"us\":{\"queue\":%llu,\"ttft\":%llu,\"itl\":%llu,\"itl_max\":%llu,\"total\":%llu}",
                 (unsigned long long)s->queue_us, (unsigned long long)s->ttft_us,
                 (unsigned long long)(r->n_gaps ? r->gap_us / r->n_gaps : 0),
                 (unsigned long long)r->gap_max_us, (unsigned long long)total_us);
    srn_buf_addf(b, ",\"status\":%d", status);
    put_text(b, "finish", r->finish);
    put_text(b, "error", r->error);
    put_fallback(b, &r->call->fallen);
    put_rollout(b, r, total_us);
    put_text(b, "policy", srn_content_policy_name(r->policy));
    if (r->policy == SRN_CONTENT_NONE || !(r->in_ids.len || r->out_ids.len)) {
        srn_buf_addz(b, ",\"hashes\":null}");
        return;
    }
    srn_buf_addz(b, ",\"hashes\":{\"key\":");
    srn__put_string(b, srn_str_of(srn_hash_key_id(r->recorder->keys)));
    put_ids_hash(b, r, "input", &r->in_ids);
    put_ids_hash(b, r, "output", &r->out_ids);
    srn_buf_addz(b, "}}");
}

/* ---- content ---- */

/* 32-bit values of the tokens, of one of these members, as base64 of little-endian bytes. */
static void put_values(srn_buf *b, const srn__record_choice *c, char member) {
    srn_buf bytes;
    srn_buf_init(&bytes, (size_t)c->n_tokens * 4 + 64);
    for (uint32_t i = 0; i < c->n_tokens; i++) {
        const srn_out_token *t = &c->tokens[i];
        uint32_t v = member == 't' ? (uint32_t)t->id : srn_bits_f32(member == 'l' ? t->logit : t->logprob);
        const uint8_t four[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
        srn_buf_add(&bytes, four, sizeof four);
    }
    srn_buf_addc(b, '"');
    srn_base64_add(b, (const uint8_t *)bytes.data, bytes.len);
    srn_buf_addc(b, '"');
    if (bytes.failed) b->failed = true;
    srn_buf_done(&bytes);
}

void srn__record_put_choice(srn_buf *b, const srn__record_choice *c) {
    if (c->vector) {
        srn_buf_addf(b, "%s{\"part\":%u,\"index\":0,\"vector\":\"%s\"}", b->len ? "," : "", c->part,
                     c->vector);
        return;
    }
    srn_buf_addf(b, "%s{\"part\":%u,\"index\":%u,\"tokens\":", b->len ? "," : "", c->part, c->index);
    put_values(b, c, 't');
    srn_buf_addz(b, ",\"logits\":");
    put_values(b, c, 'l');
    srn_buf_addz(b, ",\"logprobs\":");
    if (c->logprobs)
        put_values(b, c, 'p');
    else
        srn_buf_addz(b, "null");
    srn_buf_addz(b, ",\"text\":");
    srn__put_string(b, c->text);
    put_text(b, "finish", c->finish);
    srn_buf_addc(b, '}');
}

static void put_stops(srn_buf *b, const srn__job_spec *spec) {
    srn_buf_addz(b, ",\"stops\":[");
    for (uint32_t i = 0; i < spec->n_stops; i++) {
        if (i) srn_buf_addc(b, ',');
        srn__put_string(b, spec->stops[i]);
    }
    srn_buf_addc(b, ']');
}

void srn__record_put_request(srn_buf *b, const srn__record *r, const srn__job_spec *spec) {
    srn_buf_addz(b, "{\"request\":");
    srn__put_string(b, srn__call_body(r->call));
    const char *user = srn__call_user(r->call), *said = srn__call_header(r->call, "x-serin-conversation");
    if (user) put_text(b, "user", user);
    if (said) {
        srn_buf_addz(b, ",\"headers\":{\"x-serin-conversation\":");
        srn__put_string(b, srn_str_of(said));
        srn_buf_addc(b, '}');
    }
    if (!spec) return;
    if (spec->n_stops) put_stops(b, spec);
    char *schema = spec->schema ? json_dumps(spec->schema, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (schema) {
        srn_buf_addz(b, ",\"schema\":");
        srn_buf_addz(b, schema);
    }
    free(schema);
}
