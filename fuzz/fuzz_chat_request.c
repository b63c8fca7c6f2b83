/* Fuzzes the bodies of chats and completions: JSON to a checked request. What is accepted must be within the
 * caps, and what is refused must say why.
 */
#include <stdlib.h>

#include "serve/openai_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try(json_t *body, bool chat, const srn_config_limits *limits) {
    srn__openai_request r;
    const char *param = NULL;
    srn_err err = {0};
    int code = srn__openai_parse(body, chat, limits, &r, &param, &err);
    if (code && (err.code != code || !err.text[0])) abort();
    if (!code) {
        const srn__job_spec *s = &r.spec;
        if (srn_sampling_check(&s->sampling, &err) || s->n < 1 || s->n > limits->choices) abort();
        if (s->n_stops > limits->stops || s->n_top > limits->logprobs) abort();
        if (chat ? json_array_size(s->messages) > limits->messages : r.n_prompts < 1) abort();
        if (json_array_size(s->reply.tools) > limits->tools) abort();
        if ((s->schema != NULL) + s->json_object + (s->regex.ptr != NULL) + (s->gbnf.ptr != NULL) > 1)
            abort();
    }
    srn__openai_request_done(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *body = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(body)) {
        srn_config c;
        srn_config_init(&c);
        try(body, true, &c.limits);
        try(body, false, &c.limits);
        srn_config_done(&c);
    }
    json_decref(body);
    return 0;
}
