/* Fuzzes the bodies of the Responses API: JSON to the body of a chat, which is then parsed as one. A refusal
 * must say why; what is translated must be an object that the parser of chats takes or refuses properly.
 */
#include <stdlib.h>

#include "serve/responses.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(json_t *chat, const srn_config_limits *limits) {
    srn__openai_request r;
    const char *param = NULL;
    srn_err err = {0};
    int code = srn__openai_parse(chat, true, limits, &r, &param, &err);
    if (code && (err.code != code || !err.text[0])) abort();
    if (!code && json_array_size(r.spec.messages) > limits->messages) abort();
    srn__openai_request_done(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *body = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL), *chat = NULL;
    if (json_is_object(body)) {
        srn_config c;
        srn_config_init(&c);
        srn_err err = {0};
        srn__fields f = {.err = &err};
        int code = srn__responses_to_chat(body, data[0] & 1, &c.limits, &f, &chat);
        if (code && (err.code != code || !err.text[0] || !f.param[0])) abort();
        if (!code && !json_is_object(chat)) abort();
        if (!code) parse(chat, &c.limits);
        srn_config_done(&c);
    }
    json_decref(chat);
    json_decref(body);
    return 0;
}
