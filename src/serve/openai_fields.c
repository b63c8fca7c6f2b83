/* The OpenAI API: fields that a request must not be answered without. Pure; worker threads and fuzzers. */
#include "serve/openai_internal.h"

static const json_t *given(const json_t *body, const char *name) {
    const json_t *j = json_object_get(body, name);
    return json_is_null(j) ? NULL : j;
}

enum { CHAT = 1, COMPLETIONS = 2, BOTH = 3 };
typedef struct refused {
    const char *name;
    unsigned where;
    const char *neutral; /* the value, as JSON, that changes nothing; NULL: none but null and false */
    const char *advice;
} refused;
static const refused refusals[] = {
    {"functions", CHAT, "[]", "use 'tools'"},
    {"function_call", CHAT, "\"none\"", "use 'tool_choice'"},
    {"audio", CHAT, NULL, "this server answers in text"},
    {"modalities", CHAT, "[\"text\"]", "this server answers in text"},
    {"web_search_options", CHAT, NULL, "this server does not search"},
    {"suffix", COMPLETIONS, "\"\"", "filling in the middle is not supported; put its marks into 'prompt'"},
    {"echo", CHAT, NULL, "use 'continue_final_message', or /v1/completions"},
    {"chat_template", BOTH, NULL, "the template is the model's own"},
    {"documents", CHAT, "[]", "put them into the messages"},
    {"use_beam_search", BOTH, NULL, "answers are sampled"},
    {"length_penalty", BOTH, "1", "it belongs to beam search"},
    {"bad_words", BOTH, "[]", "use 'logit_bias'"},
    {"allowed_token_ids", BOTH, "[]", "use 'logit_bias' or a grammar"},
    {"logits_processors", BOTH, "[]", "use 'logit_bias' or a grammar"},
    {"truncate_prompt_tokens", BOTH, NULL, "shorten the prompt yourself"},
    {"prompt_embeds", BOTH, NULL, "send text or token ids"},
    {"mm_processor_kwargs", BOTH, "{}", "this server reads text"},
    {"lora", BOTH, "[]", "adapters are not supported"},
    {"lora_request", BOTH, NULL, "adapters are not supported"},
    {"mirostat", BOTH, "0", "it is not one of the samplers"},
    {"tfs_z", BOTH, "1", "it is not one of the samplers"},
    {"top_a", BOTH, "0", "it is not one of the samplers"},
    {"top_n_sigma", BOTH, "-1", "it is not one of the samplers"},
    {"dynatemp_range", BOTH, "0", "it is not one of the samplers"},
    {"xtc_probability", BOTH, "0", "it is not one of the samplers"},
    {"samplers", BOTH, NULL, "the order of the samplers is fixed"},
    {"grammar_lazy", BOTH, NULL, "use 'tools' for a grammar that begins at a mark"},
    {"grammar_triggers", BOTH, "[]", "use 'tools' for a grammar that begins at a mark"},
    {"guided_whitespace_pattern", BOTH, NULL, "use 'grammar'"},
    {"n_keep", BOTH, "0", "a full context ends the answer"},
    {"return_tokens_as_token_ids", BOTH, NULL, "use 'return_token_ids'"},
};

int srn__fields_refused(const json_t *body, bool chat, const char **ret_param, srn_err *err) {
    for (size_t i = 0; i < SRN_LEN(refusals); i++) {
        const refused *r = &refusals[i];
        const json_t *j = given(body, r->name);
        if (!j || json_is_false(j) || !(r->where & (chat ? CHAT : COMPLETIONS))) continue;
        json_t *neutral = r->neutral ? json_loads(r->neutral, JSON_DECODE_ANY, NULL) : NULL;
        bool same = neutral && (json_is_number(neutral) && json_is_number(j)
                                    ? json_number_value(neutral) == json_number_value(j)
                                    : json_equal(neutral, j));
        json_decref(neutral);
        if (same) continue;
        *ret_param = r->name;
        return srn_fail(err, SRN_EUNSUP, "'%s' is not supported: %s", r->name, r->advice);
    }
    return SRN_OK;
}
