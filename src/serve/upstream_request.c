/* What an upstream is asked: the client's body with the model's name there, a registered prompt in place, the
 * answer's length within the limits, and without the fields that are for this server. Pure; the body is not
 * changed.
 */
#include <stdlib.h>

#include "serve/responses.h"
#include "serve/upstream_internal.h"

srn__relay_api srn__relay_api_of(const char *endpoint) {
    static const char *const paths[] = {[SRN__RELAY_CHAT] = "/v1/chat/completions",
                                        [SRN__RELAY_COMPLETIONS] = "/v1/completions",
                                        [SRN__RELAY_RESPONSES] = "/v1/responses",
                                        [SRN__RELAY_MESSAGES] = "/v1/messages",
                                        [SRN__RELAY_EMBEDDINGS] = "/v1/embeddings"};
    for (size_t i = 0; i < SRN_LEN(paths); i++)
        if (strcmp(paths[i], endpoint) == 0) return (srn__relay_api)i;
    return SRN__RELAY_NONE;
}

uint32_t srn__relay_choices(srn__relay_api api, const json_t *body) {
    const json_t *n = json_object_get(body, "n"), *prompts = json_object_get(body, "prompt");
    if (api != SRN__RELAY_CHAT && api != SRN__RELAY_COMPLETIONS) return 1;
    json_int_t each = json_is_integer(n) ? SRN_MAX(json_integer_value(n), (json_int_t)1) : 1;
    bool several = api == SRN__RELAY_COMPLETIONS && json_array_size(prompts) > 1 &&
                   !json_is_integer(json_array_get(prompts, 0));
    json_int_t all =
        SRN_MIN(each, (json_int_t)SRN__RELAY_CHOICES) *
        (several ? (json_int_t)SRN_MIN(json_array_size(prompts), (size_t)SRN__RELAY_CHOICES) : 1);
    return (uint32_t)SRN_MIN(all, (json_int_t)SRN__RELAY_CHOICES);
}

/* ---- registered prompts ---- */

/* The prompt's messages before the input, as items of one. */
static json_t *response_input(const srn__prompt_use *use, const json_t *body) {
    const json_t *own = json_object_get(body, "input");
    json_t *all = json_copy(use->messages);
    if (json_is_array(own)) json_array_extend(all, (json_t *)(uintptr_t)own);
    if (json_is_string(own))
        json_array_append_new(all, json_pack("{s:s, s:O}", "role", "user", "content", own));
    return all;
}

static bool is_system(const json_t *message) {
    const char *role = json_string_value(json_object_get(message, "role"));
    return role && (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0);
}

/* Of the messages API: system texts stand apart, as blocks, and tools have other names for their parts. */
static void lay_message_prompt(const srn__prompt_use *use, const json_t *body, json_t *out) {
    json_t *system = json_array(), *messages = json_array(), *tools = json_array();
    const json_t *own = json_object_get(body, "system"), *sampling = use->prompt->sampling;
    static const char *const names[][2] = {{"temperature", "temperature"},
                                           {"top_p", "top_p"},
                                           {"top_k", "top_k"},
                                           {"max_tokens", "max_tokens"},
                                           {"stop", "stop_sequences"}};
    for (size_t i = 0; i < json_array_size(use->messages); i++) {
        json_t *m = json_array_get(use->messages, i);
        if (is_system(m))
            json_array_append_new(
                system, json_pack("{s:s, s:O}", "type", "text", "text", json_object_get(m, "content")));
        else
            json_array_append(messages, m);
    }
    if (json_is_string(own))
        json_array_append_new(system, json_pack("{s:s, s:O}", "type", "text", "text", own));
    if (json_is_array(own)) json_array_extend(system, (json_t *)(uintptr_t)own);
    json_array_extend(messages, json_object_get(body, "messages"));
    for (size_t i = 0; i < json_array_size(use->prompt->tools); i++) {
        const json_t *f = json_object_get(json_array_get(use->prompt->tools, i), "function");
        json_array_append_new(tools, json_pack("{s:O?, s:O*, s:O?}", "name", json_object_get(f, "name"),
                                               "description", json_object_get(f, "description"),
                                               "input_schema", json_object_get(f, "parameters")));
    }
    if (json_array_size(system)) json_object_set(out, "system", system);
    json_object_set(out, "messages", messages);
    if (json_array_size(tools) && !srn__field_given(body, "tools")) json_object_set(out, "tools", tools);
    for (size_t i = 0; i < SRN_LEN(names); i++) {
        json_t *v = json_object_get(sampling, names[i][0]);
        if (v && !srn__field_given(body, names[i][1])) json_object_set(out, names[i][1], v);
    }
    json_decref(system);
    json_decref(messages);
    json_decref(tools);
}

/* The body with the prompt in it; a new reference, NULL: no memory. */
static json_t *with_prompt(const srn__relay_ask *a) {
    const srn__prompt_use *use = a->use;
    json_t *body = (json_t *)(uintptr_t)a->body, *out;
    if (!use || !use->prompt) return json_copy(body);
    if (a->api == SRN__RELAY_CHAT) {
        out = srn__prompt_defaults(use->prompt, body);
        json_object_set_new(out, "messages", srn__prompt_messages(use, json_object_get(body, "messages")));
        return out;
    }
    json_t *whole =
        a->api == SRN__RELAY_RESPONSES ? srn__responses_effective(use->prompt, body) : json_incref(body);
    out = json_copy(whole);
    json_decref(whole);
    if (a->api == SRN__RELAY_RESPONSES) json_object_set_new(out, "input", response_input(use, body));
    if (a->api == SRN__RELAY_MESSAGES) lay_message_prompt(use, body, out);
    json_object_del(out, "prompt");
    return out;
}

/* ---- fields ---- */

/* At most so many tokens of answer, by the API's own field. */
static void cut_length(const srn__relay_ask *a, json_t *out) {
    static const char *const chat[] = {"max_completion_tokens", "max_tokens", NULL},
                             *const completions[] = {"max_tokens", NULL},
                             *const responses[] = {"max_output_tokens", NULL};
    static const char *const *const fields[] = {[SRN__RELAY_CHAT] = chat,
                                                [SRN__RELAY_COMPLETIONS] = completions,
                                                [SRN__RELAY_RESPONSES] = responses,
                                                [SRN__RELAY_MESSAGES] = completions};
    if (a->api >= SRN_LEN(fields) || !a->max_tokens) return;
    bool said = false;
    for (const char *const *f = fields[a->api]; *f; f++) {
        const json_t *v = json_object_get(out, *f);
        if (!v || json_is_null(v)) continue;
        said = true;
        if (json_is_integer(v) && json_integer_value(v) >= 0 &&
            json_integer_value(v) <= (json_int_t)a->max_tokens)
            continue;
        json_object_set_new(out, *f, json_integer(a->max_tokens));
    }
    if (!said) json_object_set_new(out, fields[a->api][0], json_integer(a->max_tokens));
}

/* Those that say how to draw or how to show, beyond what the API itself has: without them an answer is
 * another one, but still an answer. A constraint is never left out. */
static bool leave_out(json_t *out) {
    static const char *const names[] = {"top_k",
                                        "min_p",
                                        "typical_p",
                                        "repeat_penalty",
                                        "repetition_penalty",
                                        "repeat_last_n",
                                        "dry_multiplier",
                                        "dry_base",
                                        "dry_allowed_length",
                                        "dry_penalty_last_n",
                                        "ignore_eos",
                                        "min_tokens",
                                        "n_predict",
                                        "cache_prompt",
                                        "return_token_ids",
                                        "parse_special",
                                        "skip_special_tokens",
                                        "include_reasoning",
                                        "include_stop_str_in_output",
                                        "stop_token_ids",
                                        "dry_sequence_breakers",
                                        "add_generation_prompt",
                                        "chat_template_kwargs",
                                        "cache_salt"};
    bool any = false;
    for (size_t i = 0; i < SRN_LEN(names); i++) any = json_object_del(out, names[i]) == 0 || any;
    return any;
}

int srn__relay_body(const srn__relay_ask *a, json_t **ret, bool *ret_left_out, srn_err *err) {
    bool chunks = a->api == SRN__RELAY_CHAT || a->api == SRN__RELAY_COMPLETIONS;
    json_t *out = with_prompt(a), *copy = NULL;
    if (!out || json_object_set_new(out, "model", json_string(a->model))) {
        json_decref(out);
        return srn_fail_nomem(err, 4096);
    }
    json_object_del(out, "priority"); /* in this server's queue */
    cut_length(a, out);
    if (chunks && json_is_true(json_object_get(out, "stream"))) {
        const json_t *options = json_object_get(out, "stream_options");
        copy = json_is_object(options) ? json_copy((json_t *)(uintptr_t)options) : json_object();
        json_object_set_new(copy, "include_usage", json_true());
        json_object_set_new(out, "stream_options", copy);
    }
    *ret_left_out = false;
    if (chunks && !a->own_fields) {
        *ret_left_out = leave_out(out);
    } else if (chunks) {
        json_t *trial = json_copy(out);
        *ret_left_out = leave_out(trial);
        json_decref(trial);
    }
    *ret = out;
    return SRN_OK;
}
