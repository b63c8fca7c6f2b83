/* Fuzzes the bodies of Anthropic's Messages API: JSON to a job's spec. What is accepted must be within the
 * caps, and what is refused must say why and name the field.
 */
#include <stdlib.h>

#include "serve/anthropic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try(const json_t *body, bool to_count, const srn_config_limits *limits) {
    srn__anthropic a;
    srn_err err = {0};
    int code = srn__anthropic_parse(body, limits, to_count, &a, &err);
    if (code && (err.code != code || !err.text[0])) abort();
    if (!code) {
        const srn__job_spec *s = &a.spec;
        if (srn_sampling_check(&s->sampling, &err) || s->n_stops > limits->stops) abort();
        if (!json_is_array(s->messages) || json_array_size(s->reply.tools) > limits->tools) abort();
        if (!to_count && s->max_tokens < 1) abort();
    }
    srn__anthropic_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *body = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(body)) {
        srn_config c;
        srn_config_init(&c);
        try(body, false, &c.limits);
        try(body, true, &c.limits);
        srn_config_done(&c);
    }
    json_decref(body);
    return 0;
}
